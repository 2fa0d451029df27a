// Host schedules of families `rows` and `move`: one block per row of m.
//
// The last feature axis is cut into chunks of 32 lanes, other feature axes are looped over. Reductions over the last axis come
// first, in order: each is a loop over the chunks that ends in one scalar; then a last loop computes and stores. Values that a
// later loop needs again are computed again: a row lives in the caches.
#include "passes/host_internal.h"

typedef struct rows {
  host_schedule *s;
  const ir_part *part;
  ts_sym m;
  unsigned axis_count;
  ts_sym axes[8];               // feature axes, the chunked one last
  const ir_size *extents[8];
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

// The element loads of a packed table: row by an index tile [m], columns by the chunk.
static ts_status encoded_load(pass_translator *t, const ir_op *op, ir_value **out) {
  host_schedule *s = t->user;
  uint32_t param;
  const ir_attr *at = ir_attr_find(op, "at");
  ir_value *id;
  if (!pass_param_index(s->from, op->operands[0], &param) || !s->weights[param] || at->axes.data[0] != s->m->none || at->axes.data[1] == s->m->none)
    return HOST_REFUSE(s, op->loc, "rule packed-weight-access: a packed weight is read row by row only");
  TS_TRY(pass_translate_value(t, op->operands[1], &id));
  ts_sym k = at->axes.data[1];
  if (id->type->rank) {   // [m: 1] -> scalar
    const ir_type *scalar = ir_scalar_type(s->m, id->type->dtype);
    ir_op *pick = ir_build(&t->b, IR_OP_relabel, 1, &id, 1, &scalar);
    ir_set_sym(&t->b, pick, "kind", ir_name(s->m, "pick"));
    ir_set_sym(&t->b, pick, "axis", id->type->axes[0]);
    ir_set_int(&t->b, pick, "at", 0);
    id = pick->results[0];
  }
  pass_box *box = pass_find_box(t, k);
  ir_value *v = host_row_chunk(s, s->weights[param], id, pass_div_const(&t->b, box->base, HOST_CHUNK), k);
  const ir_type *r = pass_boxed_type(t, IR_f32, op->results[0]->type->rank, op->results[0]->type->axes);
  if (r->rank == 2) {
    ir_op *spread = ir_build(&t->b, IR_OP_relabel, 1, &v, 1, &r);
    ir_set_sym(&t->b, spread, "kind", ir_name(s->m, "concat"));
    ir_set_sym(&t->b, spread, "axis", r->axes[0]);
    v = spread->results[0];
  }
  *out = ir_cast(&t->b, v, op->results[0]->type->dtype);
  return TS_OK;
}

static void set_chunk(rows *r, ir_value *base) {
  unsigned last = r->axis_count - 1;
  int64_t size = r->extents[last]->value;
  pass_set_box(&r->s->t, (pass_box){.axis = r->axes[last], .base = base, .extent = HOST_CHUNK, .size = r->extents[last], .tail = size % HOST_CHUNK != 0});
}

static void restart(rows *r, const ir_op **reduced, ir_value **values, unsigned count) {
  pass_translator_reset(&r->s->t);
  for (unsigned i = 0; i < count; i++) pass_bind_value(&r->s->t, reduced[i]->results[0], values[i]);
}

// One reduction over the chunked axis, to a value over the row axes.
static ts_status reduce_row(rows *r, const ir_op *op, const ir_op **reduced, ir_value **values, unsigned done, ir_value **out) {
  host_schedule *s = r->s;
  ir_builder *b = &s->t.b;
  const char *kind = ir_attr_sym(op, "op");
  bool add = strcmp(kind, "add") == 0, max = strcmp(kind, "max") == 0, min = strcmp(kind, "min") == 0;
  const ir_attr *over = ir_attr_find(op, "over");
  ts_sym last = r->axes[r->axis_count - 1];
  const ir_type *in = op->operands[0]->type;
  if (!(add || max || min) || over->axes.count != 1 || over->axes.data[0] != last || !ir_is_float(in->dtype))
    return HOST_REFUSE(s, op->loc, "rule row-reduction: %s over this axis has no host schedule", kind);
  ts_sym axes[8];
  int64_t extents[8];
  unsigned rank = 0;
  for (unsigned i = 0; i < in->rank; i++) axes[rank] = in->axes[i], extents[rank++] = in->axes[i] == last ? HOST_CHUNK : 1;
  if (axes[rank - 1] != last) return HOST_REFUSE(s, op->loc, "rule row-reduction: the reduced axis is not the last");
  const ir_type *t = host_tile(s, in->dtype, rank, axes, extents, last);
  double start = add ? 0 : max ? -__builtin_inf() : __builtin_inf();
  ir_value *acc = ir_full(b, ir_const_real(b, in->dtype, start), t);
  host_loop l = host_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[r->axis_count - 1]->value), HOST_CHUNK, 1, &acc);
  restart(r, reduced, values, done);
  set_chunk(r, l.index);
  ir_value *v;
  TS_TRY(pass_translate_value(&s->t, op->operands[0], &v));
  ir_value *inside = pass_bounds_mask(&s->t, 1, &last, NULL);
  if (inside) v = ir_apply_op(b, IR_SCALAR_select, inside, v, ir_full(b, ir_const_real(b, in->dtype, start), v->type));
  acc = ir_apply_op(b, add ? IR_SCALAR_add : max ? IR_SCALAR_max : IR_SCALAR_min, acc, v, NULL);
  host_loop_close(s, &l, 1, &acc);
  *out = ir_reduce(b, acc, kind, 1, &last);
  return TS_OK;
}

// Inside all outer loops: reductions, then effects.
static ts_status emit_row(rows *r) {
  host_schedule *s = r->s;
  const ir_op *reduced[16];
  ir_value *values[16];
  unsigned count = 0;
  for (const ir_op *op = r->part->finish->first; op; op = op->next) {
    if (op->code != IR_OP_reduce) continue;
    if (count == 16) return HOST_REFUSE(s, op->loc, "rule row-reduction: more than 16 in one kernel");
    TS_TRY(reduce_row(r, op, reduced, values, count, &values[count]));
    reduced[count++] = op;
  }
  if (r->axis_count == 0) {
    restart(r, reduced, values, count);
    return pass_translate_effects(&s->t, r->part->finish);
  }
  ir_builder *b = &s->t.b;
  host_loop l = host_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[r->axis_count - 1]->value), HOST_CHUNK, 0, NULL);
  restart(r, reduced, values, count);
  set_chunk(r, l.index);
  TS_TRY(pass_translate_effects(&s->t, r->part->finish));
  host_loop_close(s, &l, 0, NULL);
  return TS_OK;
}

static ts_status loop_axes(rows *r, unsigned depth) {
  if (depth + 1 >= r->axis_count) return emit_row(r);
  host_schedule *s = r->s;
  ir_builder *b = &s->t.b;
  host_loop l = host_loop_open(s, pass_int(b, 0), pass_int(b, r->extents[depth]->value), 1, 0, NULL);
  pass_set_box(&s->t, (pass_box){.axis = r->axes[depth], .base = l.index, .extent = 1, .size = r->extents[depth], .row = true});
  TS_TRY(loop_axes(r, depth + 1));
  host_loop_close(s, &l, 0, NULL);
  return TS_OK;
}

static ts_status build(host_schedule *s) {
  rows r = {.s = s, .part = &s->from->parts.data[0]};
  if (s->from->parts.count != 1 || r.part->axes.count != 1) return HOST_REFUSE(s, s->from->loc, "rule rows-axes: one part over one row axis is scheduled");
  const ir_axis *m = &r.part->axes.data[0];
  r.m = m->name;
  for (const ir_op *op = r.part->finish->first; op; op = op->next) {
    if (op->code == IR_OP_relabel) return HOST_REFUSE(s, op->loc, "rule rows-relabel: reshapes inside row kernels have no host schedule");
    for (uint32_t i = 0; i < op->result_count; i++) note_axes(&r, op->results[i]->type);
  }
  for (unsigned i = 0; i < r.axis_count; i++)
    if (!ir_size_is_const(r.extents[i])) return HOST_REFUSE(s, s->from->loc, "rule dimension-not-static: axis %s", r.axes[i]);
  s->t.encoded = encoded_load;
  s->t.user = s;
  ir_builder *b = &s->t.b;
  const ir_type *i64 = ir_scalar_type(s->m, IR_i64);
  ir_op *pid = ir_build(b, IR_OP_pid, 0, NULL, 1, &i64);
  ir_set_int(b, pid, "axis", 0);
  s->kernel->grid[0] = m->size;
  pass_set_box(&s->t, (pass_box){.axis = r.m, .base = pid->results[0], .extent = 1, .size = m->size, .row = true});
  return loop_axes(&r, 0);
}

ts_status host_rows(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out) {
  host_schedule s;
  *out = (pass_schedules){0};
  ts_status status = host_begin(&s, m, p, t, log, NULL);
  if (status == TS_OK) status = build(&s);
  if (status == TS_OK) ts_vec_push(m->arena, &out->variants, host_end(&s, NULL, "rows"));
  host_deinit(&s);
  return status;
}
