// Pieces of S kernels (see build.h).
#include "passes/build.h"

pass_loop pass_loop_open(ir_builder *b, ir_value *lo, ir_value *hi, int64_t step, uint32_t carried, ir_value **values) {
  pass_loop l = {.outside = b->region};
  l.op = ir_for(b, lo, hi, ir_const_int(b, IR_i64, step), carried, values);
  b->region = l.op->regions[0];
  l.index = b->region->params[0];
  for (uint32_t i = 0; i < carried; i++) values[i] = b->region->params[1 + i];
  return l;
}

void pass_loop_close(ir_builder *b, pass_loop *l, uint32_t carried, ir_value **values) {
  ir_yield(b, carried, values);
  b->region = l->outside;
  for (uint32_t i = 0; i < carried; i++) values[i] = l->op->results[i];
}

ir_value *pass_pid(ir_builder *b, int axis) {
  const ir_type *i64 = ir_scalar_type(b->module, IR_i64);
  ir_op *op = ir_build(b, IR_OP_pid, 0, NULL, 1, &i64);
  ir_set_int(b, op, "axis", axis);
  return op->results[0];
}

ir_value *pass_zero(ir_builder *b, const ir_type *tile) {
  ir_value *zero = ir_is_float(tile->dtype) ? ir_const_real(b, tile->dtype, 0) : ir_const_int(b, tile->dtype, 0);
  return tile->rank ? ir_full(b, zero, tile) : zero;
}

ir_value *pass_relabel(ir_builder *b, const char *kind, ir_value *v, ts_sym axis, unsigned count, const ts_sym *to, const ir_type *type) {
  ir_op *op = ir_build(b, IR_OP_relabel, 1, &v, 1, &type);
  ir_set_sym(b, op, "kind", ir_name(b->module, "%s", kind));
  ir_set_sym(b, op, "axis", axis);
  if (count) ir_set_axes(b, op, "to", count, to);
  return op->results[0];
}

ir_value *pass_drop_axis(ir_builder *b, ir_value *v, ts_sym axis) {
  const ir_type *t = v->type;
  int at = ir_type_axis(t, axis);
  if (at < 0) return v;
  ts_sym axes[16];
  const ir_size *shape[16] = {0};
  unsigned rank = 0;
  for (unsigned i = 0; i < t->rank; i++)
    if ((int)i != at) axes[rank] = t->axes[i], shape[rank++] = t->shape[i];
  const ir_type *type = ir_tile_type(b->module, t->dtype, rank, axes, shape);
  if (t->lanes && t->lanes != axis) type = ir_type_with_lanes(b->module, type, t->lanes);
  ir_value *r = pass_relabel(b, "pick", v, axis, 0, NULL, type);
  ir_set_int(b, r->producer, "at", 0);
  return r;
}

ir_value *pass_drop_units(ir_builder *b, ir_value *v, ts_sym keep) {
  for (unsigned i = 0; i < v->type->rank;) {
    ts_sym axis = v->type->axes[i];
    if (axis == keep || !ir_size_is_value(v->type->shape[i], 1)) i++;
    else v = pass_drop_axis(b, v, axis);
  }
  return v;
}

ir_value *pass_add_axis(ir_builder *b, ir_value *v, ts_sym axis) {
  const ir_type *t = v->type;
  ts_sym axes[16] = {axis};
  const ir_size *shape[16] = {ir_size_const(b->module->sizes, 1)};
  for (unsigned i = 0; i < t->rank; i++) axes[1 + i] = t->axes[i], shape[1 + i] = t->shape[i];
  const ir_type *type = ir_tile_type(b->module, t->dtype, t->rank + 1, axes, shape);
  if (t->lanes) type = ir_type_with_lanes(b->module, type, t->lanes);
  return pass_relabel(b, "concat", v, axis, 0, NULL, type);
}

const ir_size *pass_axis_size(const ir_part *part, ts_sym name) {
  for (size_t i = 0; i < part->axes.count; i++)
    if (part->axes.data[i].name == name) return part->axes.data[i].size;
  return NULL;
}
