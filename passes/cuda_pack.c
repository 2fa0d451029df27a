// CUDA schedules: packed weights, the start and end of a kernel, small builders (see cuda_internal.h).
//
// The packing of a weight depends on its encoding, its shape and the rows of a block, on nothing else: all variants and targets with
// the same instruction share the bytes.
#include "passes/cuda_internal.h"

bool cuda_reads_products(const ir_kernel *k, const ir_value *mem) {
  for (size_t p = 0; p < k->parts.count; p++)
    for (const ir_op *op = k->parts.data[p].update->first; op; op = op->next) {
      const ir_op *w = op->code == IR_OP_dot ? op->operands[1]->producer : NULL;
      if (w && w->code == IR_OP_load && w->operands[0] == mem) return true;
    }
  return false;
}

static ir_value *packed_param(cuda_schedule *s, uint32_t param, const ir_repack *r, const char *suffix, ir_dtype t, unsigned rank, const int64_t *shape) {
  const ir_size *sizes[16];
  for (unsigned i = 0; i < rank; i++) sizes[i] = ir_size_const(s->m->sizes, shape[i]);
  ts_vec_push(s->m->arena, &s->sources, ((pass_source){param, true, *r}));
  return ir_kernel_param(s->m, s->kernel, ir_name(s->m, "%s.%s", s->from->params.data[param].value->name, suffix),
                         ir_mem_type(s->m, t, rank, sizes, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN);
}

// What the codes and scales of an encoding allow; false: only decoded values can be packed.
static bool affine_form(const ir_encoding *e, cuda_weight *w) {
  const ir_field *code = &e->field[0];
  if (ir_encoding_is_plain(e) || !ir_is_int(code->type) || code->table || code->bits > 8) return false;
  int64_t group = 0;
  bool scaled = false;
  for (unsigned i = 1; i < e->fields; i++) {
    const ir_field *f = &e->field[i];
    if (f->per_n != 1) return false;
    int64_t per = f->per_k ? f->per_k : w->chunks * CUDA_CHUNK;
    group = group == 0 || per < group ? per : group;
    if (f->role == IR_ROLE_SCALE) scaled = true;
    else w->offset = true;
  }
  if (!scaled || group % CUDA_CHUNK) return false;
  w->group = group;
  w->groups = (w->K + group - 1) / group;
  return true;
}

// Digits of one block of 32 x 32 codes, derived from the B fragment: a lane's load of 32 codes (4-bit) or two of 16 (8-bit).
static ts_status derive_digits(cuda_schedule *s, cuda_weight *w, ir_digit *list, unsigned *count) {
  ir_module *m = s->m;
  const ir_layout *fragment = ir_layout_fragment(m->arena, "m16n8k16.b"), *unpack = NULL, *layout;
  // 4-bit codes: the pairs of a word lie four nibbles apart, so that a mask gives two values at once.
  if (w->type == IR_u4)
    TS_TRY(ir_layout_parse(m->arena, TS_STR("[reg:32] {pos: (reg/8)%4, reg%2, (reg/2)%4}"), NULL, 0, m->diags, s->from->loc, &unpack));
  const ir_layout_step loads[] = {{"n", 4}, {"k", 2}}, tiles[] = {{"n", w->rows / 32}, {"k", w->chunks}};
  TS_TRY(ir_layout_weight(m->arena, fragment, loads, 2, unpack, tiles, 2, m->diags, s->from->loc, &layout));
  int n = ir_layout_axis(layout, "n");
  *count = 0;
  list[(*count)++] = (ir_digit){0, 32, w->rows / 32};
  list[(*count)++] = (ir_digit){1, 32, w->chunks};
  for (int64_t stride = 1024; stride > 1;) {   // outermost first
    const ir_layout_digit *g = NULL;
    for (uint32_t i = 0; i < layout->digit_count; i++) {
      const ir_layout_digit *d = &layout->digits[i];
      if (d->stride < stride && d->stride * d->radix >= stride) g = d;
    }
    if (!g || g->count != 1 || stride % g->stride || *count == CUDA_DIGITS) return ts_report(m->diags, s->from->loc, &diag_pass_internal, "a weight layout with gaps");
    bool along_k = g->terms[0].axis != (uint32_t)n;
    int64_t radix = stride / g->stride, unit = g->stride;
    if (stride > 32 && unit < 32) radix = stride / 32, unit = 32;   // lanes end where codes begin
    cuda_digit place = {unit >= 32 ? CUDA_LANE : CUDA_REG, unit >= 32 ? unit / 32 : unit, g->terms[0].divisor * (unit / g->stride), radix};
    w->place[w->digits] = place;
    w->along_k[w->digits++] = along_k;
    list[(*count)++] = (ir_digit){(uint8_t)along_k, place.divisor, radix};
    stride = unit;
  }
  return TS_OK;
}

static ts_status pack_codes(cuda_schedule *s, cuda_weight *w, const ir_weight *shape, const ir_encoding *e, bool bytes) {
  const ir_field *code = &e->field[0];
  int64_t low = (ir_is_signed(code->type) ? -(INT64_C(1) << (code->bits - 1)) : 0) - code->bias;
  w->type = code->bits <= 4 ? IR_u4 : IR_u8;
  ir_repack r = {.what = IR_WHAT_CODE, .as = IR_u8, .bits = ir_dtype_bits(w->type), .add = -low};   // stored unsigned
  w->bias = (double)-low;
  ir_digit list[CUDA_DIGITS + 2];
  unsigned count;
  TS_TRY(derive_digits(s, w, list, &count));
  TS_TRY(ir_repack_pack(shape, &r, list, count, s->from->loc, s->m->diags));
  int64_t dims[CUDA_DIGITS + 2];
  for (unsigned i = 0; i < count; i++) dims[i] = list[i].radix;
  const int64_t flat[4] = {w->rows / 32, w->chunks, 32, 4 * ir_dtype_bits(w->type)};
  w->mem = bytes ? packed_param(s, w->param, &r, "codes", IR_u8, 4, flat) : packed_param(s, w->param, &r, "codes", w->type, count, dims);
  // A lane needs the scales of n, n + 8, n + 16, n + 24: side by side.
  const ir_digit per_group[] = {{0, 32, w->rows / 32}, {1, 1, w->groups}, {0, 1, 8}, {0, 8, 4}};
  int64_t scale_dims[4] = {w->rows / 32, w->groups, 8, 4};
  ir_repack scale = {.what = IR_WHAT_SCALE, .as = IR_f16}, offset = {.what = IR_WHAT_OFFSET, .as = IR_f16};
  TS_TRY(ir_repack_pack(shape, &scale, per_group, 4, s->from->loc, s->m->diags));
  w->scale_mem = packed_param(s, w->param, &scale, "scale", IR_f16, 4, scale_dims);
  if (!w->offset) return TS_OK;
  TS_TRY(ir_repack_pack(shape, &offset, per_group, 4, s->from->loc, s->m->diags));
  w->offset_mem = packed_param(s, w->param, &offset, "offset", IR_f16, 4, scale_dims);
  return TS_OK;
}

ts_status cuda_pack(cuda_schedule *s, uint32_t param, int64_t rows, ir_dtype compute, bool bytes) {
  const ir_type *t = s->from->params.data[param].value->type;
  const ir_encoding *e = t->encoding ? t->encoding : ir_encoding_plain(t->dtype);
  cuda_weight *w = ts_new(s->m->arena, cuda_weight);
  *w = (cuda_weight){.param = param, .N = t->shape[0]->value, .K = t->shape[1]->value};
  w->rows = (w->N + rows - 1) / rows * rows;
  w->chunks = (w->K + CUDA_CHUNK - 1) / CUDA_CHUNK;
  ir_weight shape = {.name = s->from->params.data[param].value->name, .loc = s->from->loc, .rank = 2, .shape = {w->N, w->K}, .encoding = e};
  TS_TRY(ir_encoding_bind(e, 2, shape.shape, s->from->loc, s->m->diags, &shape.bound));
  w->codes = affine_form(e, w);
  if (w->codes) {
    TS_TRY(pack_codes(s, w, &shape, e, bytes));
  } else {
    w->type = compute;
    ir_repack r = {.what = IR_WHAT_VALUE, .as = w->type};
    const ir_digit list[] = {{0, 1, w->rows}, {1, 1, w->chunks * CUDA_CHUNK}};
    TS_TRY(ir_repack_pack(&shape, &r, list, 2, s->from->loc, s->m->diags));
    w->mem = packed_param(s, param, &r, "values", w->type, 2, (int64_t[]){w->rows, w->chunks * CUDA_CHUNK});
    if (!ir_encoding_is_plain(e))
      pass_say(s->log, "layout", "decoded-at-compile-time", s->from->loc, "%s: the scales of %s do not follow chunks of k; its values are stored as %s", shape.name,
               e->name, ir_dtype_name(w->type));
  }
  pass_say(s->log, "layout", NULL, s->from->loc, "%s: %s as %s", shape.name, e->name,
           w->codes ? "blocks of 32 x 32 codes, a lane's bytes are its fragments of m16n8k16" : "rows of 16-bit values");
  s->weights[param] = w;
  return TS_OK;
}

ts_status cuda_begin(cuda_schedule *s, ir_module *m, const ir_kernel *from, const pass_cuda_target *t, pass_log *log, const char *variant, int warps) {
  *s = (cuda_schedule){.m = m, .from = from, .target = t, .log = log};
  s->kernel = ir_kernel_create(m, ir_name(m, "%s%s%s", from->name, variant ? "." : "", variant ? variant : ""), IR_STAGE_S, from->loc);
  s->kernel->target_class = IR_CLASS_CUDA;
  s->kernel->target = t->name;
  s->kernel->warps = warps;
  for (int i = 0; i < 3; i++) s->kernel->grid[i] = ir_size_const(m->sizes, 1);
  s->t = (pass_translator){.m = m, .from = from};
  s->t.b = (ir_builder){.module = m, .region = s->kernel->body, .loc = from->loc};
  return from->params.count > MAX_KERNEL_PARAMS ? CUDA_REFUSE(s, from->loc, "rule too-many-parameters: %zu", from->params.count) : TS_OK;
}

void cuda_deinit(cuda_schedule *s) {
  pass_translator_deinit(&s->t);
  ts_map_deinit(&s->layouts);
  ts_map_deinit(&s->placed);
}

pass_scheduled cuda_end(cuda_schedule *s, const ir_size *guard, const char *variant) {
  return (pass_scheduled){s->kernel, s->sources.data, guard, variant};
}

ir_value *cuda_alloc(cuda_schedule *s, ir_dtype t, unsigned rank, const int64_t *shape, const int64_t *strides) {
  const ir_size *sizes[8];
  for (unsigned i = 0; i < rank; i++) sizes[i] = ir_size_const(s->m->sizes, shape[i]);
  const ir_type *type = ir_mem_type(s->m, t, rank, sizes, NULL, IR_SPACE_PANEL, strides);
  return ir_build(&s->t.b, IR_OP_alloc, 0, NULL, 1, &type)->results[0];
}

void cuda_barrier(cuda_schedule *s) {
  ir_op *op = ir_build(&s->t.b, IR_OP_barrier, 0, NULL, 0, NULL);
  ir_set_sym(&s->t.b, op, "scope", ir_name(s->m, "block"));
}

ir_value *cuda_fetch(cuda_schedule *s, ir_value *panel, ir_value *const *index, const ts_sym *at, const char *builtin, const ir_type *type) {
  ir_value *operands[9] = {panel};
  unsigned rank = panel->type->rank;
  for (unsigned i = 0; i < rank; i++) operands[1 + i] = index[i];
  ir_op *op = ir_build(&s->t.b, IR_OP_fetch, 1 + rank, operands, 1, &type);
  ir_set_axes(&s->t.b, op, "at", rank, at);
  if (builtin) ir_set_sym(&s->t.b, op, "builtin", ir_name(s->m, "%s", builtin));
  return op->results[0];
}

void cuda_put(cuda_schedule *s, ir_value *panel, ir_value *const *index, const ts_sym *at, ir_value *v) {
  ir_value *operands[10] = {panel};
  unsigned rank = panel->type->rank;
  for (unsigned i = 0; i < rank; i++) operands[1 + i] = index[i];
  operands[1 + rank] = v;
  ir_op *op = ir_build(&s->t.b, IR_OP_put, 2 + rank, operands, 0, NULL);
  ir_set_axes(&s->t.b, op, "at", rank, at);
}

ts_status pass_schedule_cuda(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out) {
  if (p->parts.count == 0) return ts_report(m->diags, p->loc, &diag_pass_internal, "kernel %s has no parts", p->name);
  switch (p->parts.data[0].family) {
    case IR_FAMILY_CONTRACT: return cuda_contract(m, p, t, log, out);
    case IR_FAMILY_ROWS: case IR_FAMILY_MOVE: return cuda_rows(m, p, t, log, out);
    case IR_FAMILY_ATTEND: return cuda_attend(m, p, t, log, out);
    default:
      return ts_report(m->diags, p->loc, &diag_pass_unsupported, "rule family-without-schedule: no CUDA schedule for family %s",
                       ir_family_name(p->parts.data[0].family));
  }
}
