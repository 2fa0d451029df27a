// CUDA schedules of families `rows` and `move`: one warp per row of m, four rows per block.
//
// The last feature axis is cut into chunks over the lanes (four elements each where it is long enough), other feature axes are
// looped over. Reductions over the last axis come first, in order: each is a loop over the chunks that ends with a sum over the
// lanes; then a last loop computes and stores. Kernels without feature axes have one row per thread.
#include "passes/cuda_internal.h"
#include "passes/rows_form.h"

enum { ROW_WARPS = 4 };

// ---- tables of codes -----------------------------------------------------------------------------------------------------
// (x / divisor) % radix * stride
static ir_value *digit_of(ir_builder *b, ir_value *x, const cuda_digit *d) {
  return pass_mul_const(b, pass_rem_const(b, pass_div_const(b, x, d->divisor), d->radix), d->stride);
}

static ir_value *sum_of(ir_builder *b, ir_value *x, ir_value *y) { return x ? ir_apply_op(b, IR_SCALAR_add, x, y, NULL) : y; }

// The element loads of a packed table: row by an index tile [m], columns by the chunk.
static ts_status encoded_load(pass_translator *t, const ir_op *op, ir_value **out) {
  cuda_schedule *s = t->user;
  ir_builder *b = &t->b;
  uint32_t param;
  const ir_attr *at = ir_attr_find(op, "at");
  ts_sym none = s->m->none;
  ir_value *n;
  const cuda_weight *w = pass_param_index(s->from, op->operands[0], &param) ? s->weights[param] : NULL;
  if (!w || at->axes.count != 2 || at->axes.data[0] != none || at->axes.data[1] == none)
    return CUDA_REFUSE(s, op->loc, "rule packed-weight-access: a packed weight is read row by row only");
  TS_TRY(pass_translate_value(t, op->operands[1], &n));
  ts_sym axis = at->axes.data[1];
  pass_box *box = pass_find_box(t, axis);
  const ir_type *result = pass_boxed_type(t, IR_f32, op->results[0]->type->rank, op->results[0]->type->axes);
  ts_sym four[4] = {none, none, none, none};
  if (!w->codes) {
    ir_value *mask = pass_bounds_mask(t, 2, at->axes.data, NULL);
    *out = ir_load(b, w->mem, (ir_value *[]){n, box->base}, at->axes.data, mask, ir_type_with_dtype(s->m, result, w->type));
    *out = ir_cast(b, *out, op->results[0]->type->dtype);
    return TS_OK;
  }
  const ir_type *i64s = pass_boxed_type(t, IR_i64, 1, &axis);
  ir_value *k = ir_build(b, IR_OP_iota, 1, &box->base, 1, &i64s)->results[0];
  k = ir_apply_op(b, IR_SCALAR_min, k, pass_int(b, w->K - 1), NULL);   // what lies behind the row's end is masked where it is stored
  ir_value *lane = NULL, *place = NULL;
  for (unsigned i = 0; i < w->digits; i++) {
    cuda_digit d = w->place[i];
    ir_value *x = digit_of(b, w->along_k[i] ? k : n, &d);
    if (d.dim == CUDA_LANE) lane = sum_of(b, lane, x);
    else place = sum_of(b, place, x);
  }
  ir_value *byte = w->type == IR_u4 ? pass_div_const(b, place, 2) : place;
  ir_value *n32 = pass_div_const(b, n, 32), *k32 = pass_div_const(b, k, 32);
  const ir_type *u8s = ir_type_with_dtype(s->m, result, IR_u8), *f16s = ir_type_with_dtype(s->m, result, IR_f16);
  ir_value *code = ir_cast(b, ir_load(b, w->mem, (ir_value *[]){n32, k32, lane, byte}, four, NULL, u8s), IR_i32);
  if (w->type == IR_u4) {
    ir_value *shift = ir_cast(b, pass_mul_const(b, pass_rem_const(b, place, 2), 4), IR_i32);
    code = ir_apply_op(b, IR_SCALAR_and, ir_apply_op(b, IR_SCALAR_shr, code, shift, NULL), ir_const_int(b, IR_i32, 15), NULL);
  }
  ir_value *index[4] = {n32, pass_div_const(b, k, w->group), pass_rem_const(b, n, 8), pass_rem_const(b, pass_div_const(b, n, 8), 4)};
  ir_value *scale = ir_cast(b, ir_load(b, w->scale_mem, index, four, NULL, f16s), IR_f32);
  ir_value *q = ir_cast(b, code, IR_f32);
  if (!w->offset && w->bias != 0) q = ir_apply_op(b, IR_SCALAR_sub, q, ir_const_real(b, IR_f32, w->bias), NULL);
  if (w->offset) q = ir_apply_op(b, IR_SCALAR_fma, q, scale, ir_cast(b, ir_load(b, w->offset_mem, index, four, NULL, f16s), IR_f32));
  else q = ir_apply_op(b, IR_SCALAR_mul, q, scale, NULL);
  *out = ir_cast(b, q, op->results[0]->type->dtype);
  return TS_OK;
}

// ---- the schedule --------------------------------------------------------------------------------------------------------
typedef struct row_tiles {
  cuda_schedule *s;
  cuda_placement place;
} row_tiles;

static ts_status chunk_tile(void *user, ir_dtype type, unsigned rank, const ts_sym *axes, const int64_t *extents, const ir_type **out) {
  row_tiles *r = user;
  return cuda_tile(r->s, &r->place, type, rank, axes, extents, out);
}

static ts_status reduced(void *user) {
  row_tiles *r = user;
  return cuda_place(r->s, &r->place);
}

static ts_status add_params(cuda_schedule *s) {
  for (uint32_t i = 0; i < s->from->params.count; i++) {
    const ir_param *p = &s->from->params.data[i];
    const ir_type *type = p->value->type;
    if (type->encoding && !ir_encoding_is_plain(type->encoding)) {
      if (type->rank != 2 || !ir_size_is_const(type->shape[0]) || !ir_size_is_const(type->shape[1]))
        return CUDA_REFUSE(s, s->from->loc, "rule encoded-elementwise: %s is stored as %s and is no matrix", p->value->name, type->encoding->name);
      TS_TRY(cuda_pack(s, i, 32, IR_f16, true));
      continue;
    }
    if (type->encoding) type = ir_mem_type(s->m, type->encoding->field[0].type, type->rank, type->shape, NULL, IR_SPACE_GLOBAL, NULL);
    ts_vec_push(s->m->arena, &s->sources, ((pass_source){.param = i}));
    s->t.params[i] = ir_kernel_param(s->m, s->kernel, p->value->name, type, p->role);
  }
  return TS_OK;
}

static ts_status build(cuda_schedule *s) {
  pass_rows_form f;
  row_tiles r = {.s = s};
  TS_TRY(pass_read_rows(&s->t, &f));
  f.tile = chunk_tile, f.reduced = reduced, f.user = &r;
  TS_TRY(add_params(s));
  s->t.encoded = encoded_load;
  s->t.user = s;
  ts_sym m = f.m->name;
  int64_t rows = ROW_WARPS;
  if (f.axes) {
    ts_sym last = f.axis[f.axes - 1];
    int64_t size = f.extent[f.axes - 1]->value, each = size % 128 == 0 ? 4 : size % 64 == 0 ? 2 : 1;
    f.chunk = 32 * each;
    cuda_put_digit(&r.place, last, CUDA_REG, 0, each);
    cuda_put_digit(&r.place, last, CUDA_LANE, 1, 32);
    cuda_put_digit(&r.place, m, CUDA_WARP, 1, ROW_WARPS);
  } else {
    rows = 32 * ROW_WARPS;
    cuda_put_digit(&r.place, m, CUDA_LANE, 1, 32);
    cuda_put_digit(&r.place, m, CUDA_WARP, 1, ROW_WARPS);
  }
  ir_builder *b = &s->t.b;
  s->kernel->grid[0] = ir_size_ceildiv(s->m->sizes, f.m->size, ir_size_const(s->m->sizes, rows));
  pass_set_box(&s->t, (pass_box){.axis = m, .base = pass_mul_const(b, pass_pid(b, 0), rows), .extent = rows, .size = f.m->size, .row = true, .tail = true});
  TS_TRY(pass_emit_rows(&f));
  return cuda_place(s, &r.place);
}

ts_status cuda_rows(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out) {
  cuda_schedule s;
  *out = (pass_schedules){0};
  ts_status status = cuda_begin(&s, m, p, t, log, NULL, ROW_WARPS);
  if (status == TS_OK) status = build(&s);
  if (status == TS_OK) ts_vec_push(m->arena, &out->variants, cuda_end(&s, NULL, "rows"));
  cuda_deinit(&s);
  return status;
}
