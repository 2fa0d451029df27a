// CUDA schedules of families `rows` and `move`: one warp per row of m, four rows per block.
//
// The last feature axis is cut into chunks over the lanes (four elements each where it is long enough), other feature axes are
// looped over. Reductions over the last axis come first, in order: each is a loop over the chunks that ends with a sum over the
// lanes; then a last loop computes and stores. Kernels without feature axes have one row per thread.
#include "passes/cuda_internal.h"

enum { ROW_WARPS = 4 };

typedef struct rows {
  cuda_schedule *s;
  const ir_part *part;
  ts_sym m;
  unsigned axis_count;
  ts_sym axes[8];               // feature axes, the chunked one last
  const ir_size *extents[8];
  int64_t chunk;
  cuda_placement place;
} rows;

static void note_axes(rows *r, const ir_type *t) {
  for (unsigned i = 0; i < t->rank; i++) {
    bool known = t->axes[i] == r->m;
    for (unsigned k = 0; k < r->axis_count; k++) known |= r->axes[k] == t->axes[i];
    if (known || r->axis_count == 8) continue;
    r->axes[r->axis_count] = t->axes[i];
    r->extents[r->axis_count++] = t->shape[i];
  }
}

// ---- tables of codes -----------------------------------------------------------------------------------------------------
// (x / divisor) % radix * stride
static ir_value *digit_of(ir_builder *b, ir_value *x, const cuda_digit *d) {
  return pass_mul_const(b, pass_rem_const(b, pass_div_const(b, x, d->divisor), d->radix), d->stride);
}

static ir_value *sum_of(ir_builder *b, ir_value *x, ir_value *y) { return x ? ir_apply_op(b, IR_SCALAR_add, x, y, NULL) : y; }

// The element loads of a packed table: row by an index tile [m], columns by the chunk.
static ts_status encoded_load(pass_translator *t, const ir_op *op, ir_value **out) {
  rows *r = t->user;
  cuda_schedule *s = r->s;
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

// ---- loops ---------------------------------------------------------------------------------------------------------------
static void set_chunk(rows *r, ir_value *base) {
  unsigned last = r->axis_count - 1;
  int64_t size = r->extents[last]->value;
  pass_set_box(&r->s->t, (pass_box){.axis = r->axes[last], .base = base, .extent = r->chunk, .size = r->extents[last], .row = true, .tail = size % r->chunk != 0});
}

static void restart(rows *r, const ir_op **reduced, ir_value **values, unsigned count) {
  pass_translator_reset(&r->s->t);
  for (unsigned i = 0; i < count; i++) pass_bind_value(&r->s->t, reduced[i]->results[0], values[i]);
}

// One reduction over the chunked axis, to a value over the row axes.
static ts_status reduce_row(rows *r, const ir_op *op, const ir_op **reduced, ir_value **values, unsigned done, ir_value **out) {
  cuda_schedule *s = r->s;
  ir_builder *b = &s->t.b;
  const char *kind = ir_attr_sym(op, "op");
  bool add = strcmp(kind, "add") == 0, max = strcmp(kind, "max") == 0, min = strcmp(kind, "min") == 0;
  const ir_attr *over = ir_attr_find(op, "over");
  ts_sym last = r->axis_count ? r->axes[r->axis_count - 1] : NULL;
  const ir_type *in = op->operands[0]->type;
  if (!(add || max || min) || over->axes.count != 1 || over->axes.data[0] != last || !ir_is_float(in->dtype))
    return CUDA_REFUSE(s, op->loc, "rule row-reduction: %s over this axis has no CUDA schedule", kind);
  ts_sym axes[8];
  int64_t extents[8];
  unsigned rank = 0;
  for (unsigned i = 0; i < in->rank && rank < 8; i++) {
    pass_box *box = pass_find_box(&s->t, in->axes[i]);
    axes[rank] = in->axes[i], extents[rank++] = in->axes[i] == last ? r->chunk : box ? box->extent : 1;
  }
  const ir_type *t;
  TS_TRY(cuda_tile(s, &r->place, in->dtype, rank, axes, extents, &t));
  double start = add ? 0 : max ? -__builtin_inf() : __builtin_inf();
  ir_value *acc = ir_full(b, ir_const_real(b, in->dtype, start), t);
  cuda_loop l = cuda_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[r->axis_count - 1]->value), r->chunk, 1, &acc);
  restart(r, reduced, values, done);
  set_chunk(r, l.index);
  ir_value *v;
  TS_TRY(pass_translate_value(&s->t, op->operands[0], &v));
  ir_value *inside = pass_bounds_mask(&s->t, 1, &last, NULL);
  if (inside) v = ir_apply_op(b, IR_SCALAR_select, inside, v, ir_full(b, ir_const_real(b, in->dtype, start), v->type));
  acc = ir_apply_op(b, add ? IR_SCALAR_add : max ? IR_SCALAR_max : IR_SCALAR_min, acc, v, NULL);
  cuda_loop_close(s, &l, 1, &acc);
  *out = ir_reduce(b, acc, kind, 1, &last);
  return cuda_place(s, &r->place);
}

// Inside all outer loops: reductions, then effects.
static ts_status emit_row(rows *r) {
  cuda_schedule *s = r->s;
  const ir_op *reduced[16];
  ir_value *values[16];
  unsigned count = 0;
  for (const ir_op *op = r->part->finish->first; op; op = op->next) {
    if (op->code != IR_OP_reduce) continue;
    if (count == 16) return CUDA_REFUSE(s, op->loc, "rule row-reduction: more than 16 in one kernel");
    TS_TRY(reduce_row(r, op, reduced, values, count, &values[count]));
    reduced[count++] = op;
  }
  if (r->axis_count == 0) {
    restart(r, reduced, values, count);
    return pass_translate_effects(&s->t, r->part->finish);
  }
  ir_builder *b = &s->t.b;
  cuda_loop l = cuda_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[r->axis_count - 1]->value), r->chunk, 0, NULL);
  restart(r, reduced, values, count);
  set_chunk(r, l.index);
  TS_TRY(pass_translate_effects(&s->t, r->part->finish));
  cuda_loop_close(s, &l, 0, NULL);
  return TS_OK;
}

static ts_status loop_axes(rows *r, unsigned depth) {
  if (depth + 1 >= r->axis_count) return emit_row(r);
  cuda_schedule *s = r->s;
  ir_builder *b = &s->t.b;
  cuda_loop l = cuda_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[depth]->value), 1, 0, NULL);
  pass_set_box(&s->t, (pass_box){.axis = r->axes[depth], .base = l.index, .extent = 1, .size = r->extents[depth], .row = true});
  TS_TRY(loop_axes(r, depth + 1));
  cuda_loop_close(s, &l, 0, NULL);
  return TS_OK;
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
  rows r = {.s = s, .part = &s->from->parts.data[0]};
  if (s->from->parts.count != 1 || r.part->axes.count != 1) return CUDA_REFUSE(s, s->from->loc, "rule rows-axes: one part over one row axis is scheduled");
  const ir_axis *m = &r.part->axes.data[0];
  r.m = m->name;
  for (const ir_op *op = r.part->finish->first; op; op = op->next) {
    if (op->code == IR_OP_relabel) return CUDA_REFUSE(s, op->loc, "rule rows-relabel: reshapes inside row kernels have no CUDA schedule");
    for (uint32_t i = 0; i < op->result_count; i++) note_axes(&r, op->results[i]->type);
  }
  for (unsigned i = 0; i < r.axis_count; i++)
    if (!ir_size_is_const(r.extents[i])) return CUDA_REFUSE(s, s->from->loc, "rule dimension-not-static: axis %s", r.axes[i]);
  TS_TRY(add_params(s));
  s->t.encoded = encoded_load;
  s->t.user = &r;
  ir_builder *b = &s->t.b;
  int64_t rows = ROW_WARPS;
  if (r.axis_count) {
    int64_t size = r.extents[r.axis_count - 1]->value, each = size % 128 == 0 ? 4 : size % 64 == 0 ? 2 : 1;
    r.chunk = 32 * each;
    cuda_put_digit(&r.place, r.axes[r.axis_count - 1], CUDA_REG, 0, each);
    cuda_put_digit(&r.place, r.axes[r.axis_count - 1], CUDA_LANE, 1, 32);
    cuda_put_digit(&r.place, r.m, CUDA_WARP, 1, ROW_WARPS);
  } else {
    rows = 32 * ROW_WARPS;
    cuda_put_digit(&r.place, r.m, CUDA_LANE, 1, 32);
    cuda_put_digit(&r.place, r.m, CUDA_WARP, 1, ROW_WARPS);
  }
  s->kernel->grid[0] = ir_size_ceildiv(s->m->sizes, m->size, ir_size_const(s->m->sizes, rows));
  pass_set_box(&s->t, (pass_box){.axis = r.m, .base = pass_mul_const(b, cuda_pid(s, 0), rows), .extent = rows, .size = m->size, .row = true, .tail = true});
  TS_TRY(loop_axes(&r, 0));
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
