// Emission of a group as a portable kernel (see lower.h): contract and row kernels; attend is in emit_attend.c.
//
// The leading dims that the group's tensors share (batch, seq) fold into one axis m; the rest are feature axes. A tensor value of
// the group is a tile over m and its feature axes; reshape, RoPE and append work on those axes, so no view ever moves data.
#include "passes/lower_internal.h"

#include <math.h>

const ir_size *lower_formal(ir_module *m, const char *name) {
  return ir_size_symbol(m->sizes, ts_str_of(name), IR_SIZE_CALL, 0, INT64_C(1) << 24, 1);
}

void emit_bind(emitter *e, const ir_size *formal, const ir_size *actual) {
  for (size_t i = 0; i < e->binds.count; i++)
    if (e->binds.data[i].formal == formal) return;
  ts_vec_push(e->m->arena, &e->binds, ((plan_bind){formal, actual}));
}

const ir_size *emit_rows(emitter *e) {
  const ir_size *product = ir_size_const(e->m->sizes, 1);
  for (unsigned i = 0; i < e->row_rank; i++) product = ir_size_mul(e->m->sizes, product, e->row_shape[i]);
  const ir_size *m = lower_formal(e->m, "m");
  emit_bind(e, m, product);
  return m;
}

ts_sym emit_axis(emitter *e, const char *stem) { return ir_name(e->m, "%s%u", stem, e->fresh++); }

ir_value *emit_zero(emitter *e) { return ir_const_int(&e->b, IR_i64, 0); }

ir_value *emit_literal(emitter *e, const ir_op *literal, ir_dtype t) {
  const ir_attr *real = ir_attr_find(literal, "value");
  return real ? ir_const_real(&e->b, t, real->real) : ir_const_int(&e->b, t, ir_attr_int(literal, "int", 0));
}

ir_value *emit_param(emitter *e, uint32_t buffer, const ir_type *mem, ir_param_role role, const char *name) {
  for (size_t i = 0; i < e->args.count; i++) {
    ir_param *p = &e->kernel->params.data[i];
    if (e->args.data[i] != buffer || p->value->type != mem) continue;
    if (p->role != role) p->role = IR_PARAM_INOUT;
    return p->value;
  }
  ts_sym unique = ir_name(e->m, "%s", name);
  for (unsigned n = 2, clash = 1; clash; n++) {
    clash = 0;
    for (size_t i = 0; i < e->kernel->params.count; i++) clash |= e->kernel->params.data[i].value->name == unique;
    if (clash) unique = ir_name(e->m, "%s%u", name, n);
  }
  ts_vec_push(e->m->arena, &e->args, buffer);
  return ir_kernel_param(e->m, e->kernel, unique, mem, role);
}

static tile_of *tile_find(emitter *e, const ir_value *v) { return ts_map_get(&e->tiles, ts_key(v)); }

static void tile_set(emitter *e, const ir_value *v, const tile_of *t) {
  tile_of *own = ts_new(e->m->arena, tile_of);
  *own = *t;
  ts_map_put(&e->tiles, ts_key(v), own);
}

static bool has_rows(const emitter *e, const ir_type *t) {
  if (t->rank < e->row_rank) return false;
  for (unsigned i = 0; i < e->row_rank; i++)
    if (t->shape[i] != e->row_shape[i]) return false;
  return true;
}

static ts_status require_static(emitter *e, const ir_type *t, unsigned from) {
  if (t->rank - from > MAX_FEATURES) return LOWER_REFUSE(e->L, e->loc, "rule too-many-dimensions: %u behind the rows", t->rank - from);
  for (unsigned i = from; i < t->rank; i++)
    if (!ir_size_is_const(t->shape[i]))
      return LOWER_REFUSE(e->L, e->loc, "rule dimension-not-static: a size behind the rows is only known at run time");
  return TS_OK;
}

// Declares a tensor's buffer as mem<[m, features...]> (or without m) and returns the parameter.
static ir_value *tensor_param(emitter *e, ir_value *v, bool rows, ir_param_role role) {
  const ir_type *t = v->type;
  unsigned from = rows ? e->row_rank : 0, rank = 0;
  const ir_size *shape[MAX_FEATURES + 8];
  if (rows) shape[rank++] = emit_rows(e);
  for (unsigned i = from; i < t->rank; i++) shape[rank++] = t->shape[i];
  ir_value *root = lower_root(e->L, v);
  const ir_type *mem = ir_mem_type(e->m, t->dtype, rank, shape, t->encoding, IR_SPACE_GLOBAL, NULL);
  return emit_param(e, lower_buffer_of(e->L, root), mem, role, v->name ? v->name : "t");
}

static const ir_type *tile_type(emitter *e, ir_dtype t, bool rows, unsigned features, const ts_sym *axes, const ir_size *const *extents) {
  ts_sym names[MAX_FEATURES + 1];
  const ir_size *shape[MAX_FEATURES + 1];
  unsigned rank = 0;
  if (rows) names[rank] = ir_name(e->m, "m"), shape[rank++] = lower_formal(e->m, "m");
  for (unsigned i = 0; i < features; i++) names[rank] = axes[i], shape[rank++] = extents[i];
  return ir_tile_type(e->m, t, rank, names, shape);
}

ts_status emit_row_coordinates(emitter *e, ir_value **list, ir_value **position) {
  if (e->row_rank != 2) return LOWER_REFUSE(e->L, e->loc, "rule rows-not-ragged: this needs rows of two dims, lists and positions");
  emit_rows(e);
  const ir_size *s = lower_formal(e->m, "s");
  emit_bind(e, s, e->row_shape[1]);
  ts_sym m = ir_name(e->m, "m");
  const ir_type *t = ir_tile_type(e->m, IR_i64, 1, &m, (const ir_size *[]){lower_formal(e->m, "m")});
  ir_op *axis = ir_build(&e->b, IR_OP_axis, 0, NULL, 1, &t);
  ir_set_sym(&e->b, axis, "name", m);
  ir_value *seq = ir_size_value(&e->b, s);
  *list = ir_apply_op(&e->b, IR_SCALAR_div, axis->results[0], seq, NULL);
  *position = ir_apply_op(&e->b, IR_SCALAR_rem, axis->results[0], seq, NULL);
  return TS_OK;
}

// An operand of an elementwise op from outside the group, aligned to the trailing features of `like`. Without `like` dims of extent 1
// keep their axes; else they broadcast.
static ts_status load_outside(emitter *e, ir_value *v, const tile_of *like, unsigned rank, tile_of *out) {
  const ir_type *t = v->type;
  bool rows = has_rows(e, t) && t->rank >= rank;
  unsigned from = rows ? e->row_rank : 0, features = t->rank - from;
  if (!rows && features > (like ? like->features : 0))
    return LOWER_REFUSE(e->L, e->loc, "rule partial-row-broadcast: an operand covers some of the row dims only");
  TS_TRY(require_static(e, t, from));
  *out = (tile_of){.rows = rows, .features = features};
  ir_value *index[MAX_FEATURES + 1];
  ts_sym at[MAX_FEATURES + 1];
  const ir_size *extent[MAX_FEATURES];
  unsigned d = 0;
  ir_value *zero = emit_zero(e);
  if (rows) index[d] = zero, at[d++] = ir_name(e->m, "m");
  for (unsigned i = 0; i < features; i++) {
    bool unit = like && ir_size_is_value(t->shape[from + i], 1);
    out->axis[i] = like && like->features >= features ? like->axis[like->features - features + i] : emit_axis(e, "f");
    extent[i] = t->shape[from + i];
    index[d] = zero;
    at[d++] = unit ? e->m->none : out->axis[i];
  }
  unsigned kept = 0;   // dims of extent 1 broadcast: they have no axis
  for (unsigned i = 0; i < features; i++)
    if (!like || !ir_size_is_value(extent[i], 1)) out->axis[kept] = out->axis[i], extent[kept++] = extent[i];
  out->features = kept;
  ir_value *mem = tensor_param(e, v, rows, IR_PARAM_IN);
  out->tile = ir_load(&e->b, mem, index, at, NULL, tile_type(e, t->dtype, rows, kept, out->axis, extent));
  return TS_OK;
}

static ts_status operand_tile(emitter *e, ir_value *v, const tile_of *like, unsigned rank, tile_of *out) {
  tile_of *known = tile_find(e, v);
  if (known) {
    *out = *known;
    return TS_OK;
  }
  if (v->producer && v->producer->code == IR_OP_literal) {
    *out = (tile_of){.tile = emit_literal(e, v->producer, v->type->dtype)};
    return TS_OK;
  }
  if (v->producer && v->producer->code == IR_OP_dim) {
    *out = (tile_of){.tile = ir_size_value(&e->b, ir_attr_find(v->producer, "of")->size)};
    return TS_OK;
  }
  return load_outside(e, v, like, rank, out);
}

// A tensor with rows, of the group or from a buffer.
static ts_status input_tile(emitter *e, ir_value *v, tile_of *out) {
  tile_of *known = tile_find(e, v);
  if (!known) return load_outside(e, v, NULL, v->type->rank, out);
  *out = *known;
  return TS_OK;
}

// A tile to follow for the axes of an elementwise op: the operand in the group with the most features, else fresh axes.
static tile_of shape_model(emitter *e, const ir_op *op) {
  tile_of best = {0};
  bool any = false;
  for (uint32_t i = 0; i < op->operand_count; i++) {
    tile_of *t = tile_find(e, op->operands[i]);
    if (t && (!any || t->features > best.features)) best = *t, any = true;
  }
  if (any) return best;
  const ir_type *t = op->results[0]->type;
  best.features = t->rank - e->row_rank;
  for (unsigned i = 0; i < best.features && i < MAX_FEATURES; i++) best.axis[i] = emit_axis(e, "f");
  return best;
}

static ts_status emit_map(emitter *e, const ir_op *op) {
  tile_of like = shape_model(e, op), out = {.rows = true};
  ir_value **operand = ts_new_array(e->m->arena, ir_value *, op->operand_count);
  for (uint32_t i = 0; i < op->operand_count; i++) {
    tile_of t;
    TS_TRY(operand_tile(e, op->operands[i], &like, op->results[0]->type->rank, &t));
    operand[i] = t.tile;
  }
  out.features = like.features;
  memcpy(out.axis, like.axis, sizeof out.axis);
  out.tile = ir_apply(&e->b, ir_attr_find(op, "fn")->fn, op->operand_count, operand);
  tile_set(e, op->results[0], &out);
  return TS_OK;
}

// Relabels `axis` of t into `parts` axes of the given extents, or `parts` adjacent axes into one (merge).
static ir_value *relabel(emitter *e, ir_value *t, const char *kind, ts_sym axis, unsigned parts, const ts_sym *names, const int64_t *extents) {
  ts_sym axes[16];
  const ir_size *shape[16];
  unsigned rank = 0;
  bool merge = strcmp(kind, "merge") == 0;
  for (unsigned i = 0; i < t->type->rank; i++) {
    if (!merge && t->type->axes[i] == axis) {
      for (unsigned k = 0; k < parts; k++) axes[rank] = names[k], shape[rank++] = ir_size_const(e->m->sizes, extents[k]);
    } else if (merge && t->type->axes[i] == names[0]) {
      axes[rank] = axis;
      shape[rank++] = ir_size_const(e->m->sizes, extents[0]);
    } else {
      bool gone = false;
      for (unsigned k = 1; merge && k < parts; k++) gone |= t->type->axes[i] == names[k];
      if (!gone) axes[rank] = t->type->axes[i], shape[rank++] = t->type->shape[i];
    }
  }
  const ir_type *type = ir_tile_type(e->m, t->type->dtype, rank, axes, shape);
  ir_op *op = ir_build(&e->b, IR_OP_relabel, 1, &t, 1, &type);
  ir_set_sym(&e->b, op, "kind", ir_name(e->m, "%s", kind));
  ir_set_sym(&e->b, op, "axis", axis);
  ir_set_axes(&e->b, op, "to", parts, names);
  return op->results[0];
}

static int64_t extent_of(const ir_value *tile, ts_sym axis) { return tile->type->shape[ir_type_axis(tile->type, axis)]->value; }

// Makes the feature axes of `t` have exactly the extents `want`: every axis is split or merged in place, outermost first.
static ts_status refit(emitter *e, tile_of *t, unsigned count, const ir_size *const *want) {
  tile_of r = {.tile = t->tile, .rows = t->rows};
  unsigned i = 0, k = 0;
  while (i < t->features || k < count) {
    if (i == t->features || k == count) {   // extents of 1 at the end
      if (k < count && ir_size_is_value(want[k], 1)) return LOWER_REFUSE(e->L, e->loc, "rule reshape-adds-unit-dimension");
      return LOWER_REFUSE(e->L, e->loc, "rule reshape-crosses-dimensions");
    }
    unsigned i0 = i, k0 = k;
    int64_t have = extent_of(t->tile, t->axis[i++]), need = want[k++]->value;
    while (have != need) {
      if (have < need && i < t->features) have *= extent_of(t->tile, t->axis[i++]);
      else if (need < have && k < count) need *= want[k++]->value;
      else return LOWER_REFUSE(e->L, e->loc, "rule reshape-crosses-dimensions: %lld against %lld", (long long)have, (long long)need);
    }
    ts_sym axis = t->axis[i0];
    if (i - i0 > 1) {
      ts_sym merged = emit_axis(e, "f");
      r.tile = relabel(e, r.tile, "merge", merged, i - i0, &t->axis[i0], &have);
      axis = merged;
    }
    if (k - k0 > 1) {
      int64_t extents[MAX_FEATURES];
      for (unsigned p = k0; p < k; p++) extents[p - k0] = want[p]->value, r.axis[r.features + p - k0] = emit_axis(e, "f");
      r.tile = relabel(e, r.tile, "split", axis, k - k0, &r.axis[r.features], extents);
      r.features += k - k0;
    } else {
      r.axis[r.features++] = axis;
    }
  }
  *t = r;
  return TS_OK;
}

static ts_status emit_reshape(emitter *e, const ir_op *op) {
  const ir_type *to = op->results[0]->type;
  tile_of t;
  TS_TRY(input_tile(e, op->operands[0], &t));
  if (!has_rows(e, to)) return LOWER_REFUSE(e->L, op->loc, "rule reshape-changes-rows");
  TS_TRY(require_static(e, to, e->row_rank));
  TS_TRY(refit(e, &t, to->rank - e->row_rank, to->shape + e->row_rank));
  tile_set(e, op->results[0], &t);
  return TS_OK;
}

// Angles: f32[2, context, d/2], cosines first: entry [.., p, i] is cos or sin of p * theta^(-2i/d), computed in f64.
static uint32_t rope_table(lowering *L, int64_t context, int64_t half, double theta) {
  ts_sym name = ir_name(L->module, "rope.%lld.%lld.%.17g", (long long)context, (long long)half, theta);
  for (size_t i = 0; i < L->pf->buffers.count; i++)
    if (L->pf->buffers.data[i].kind == PLAN_TABLE && L->pf->buffers.data[i].name == name) return (uint32_t)i;
  ts_arena *a = L->module->arena;
  float *data = ts_new_array(a, float, (size_t)(2 * context * half));
  for (int64_t p = 0; p < context; p++)
    for (int64_t i = 0; i < half; i++) {
      double angle = (double)p * pow(theta, -(double)i / (double)half);
      data[p * half + i] = (float)cos(angle);
      data[(context + p) * half + i] = (float)sin(angle);
    }
  const ir_size **shape = ts_new_array(a, const ir_size *, 3);
  shape[0] = ir_size_const(L->module->sizes, 2);
  shape[1] = ir_size_const(L->module->sizes, context);
  shape[2] = ir_size_const(L->module->sizes, half);
  return lower_add_buffer(L, (plan_buffer){.kind = PLAN_TABLE, .name = name, .dtype = IR_f32, .rank = 3, .shape = shape, .data = data,
                                           .data_bytes = (size_t)(2 * context * half) * sizeof(float)});
}

static ir_value *pick(emitter *e, ir_value *t, ts_sym axis, int64_t at) {
  ts_sym axes[16];
  const ir_size *shape[16];
  unsigned rank = 0;
  for (unsigned i = 0; i < t->type->rank; i++)
    if (t->type->axes[i] != axis) axes[rank] = t->type->axes[i], shape[rank++] = t->type->shape[i];
  const ir_type *type = ir_tile_type(e->m, t->type->dtype, rank, axes, shape);
  ir_op *op = ir_build(&e->b, IR_OP_relabel, 1, &t, 1, &type);
  ir_set_sym(&e->b, op, "kind", ir_name(e->m, "pick"));
  ir_set_sym(&e->b, op, "axis", axis);
  ir_set_int(&e->b, op, "at", at);
  return op->results[0];
}

// Stacks x and y along the new axis `two` at position `at` of the shape.
static ir_value *stack(emitter *e, ir_value *x, ir_value *y, ts_sym two, unsigned at) {
  ts_sym axes[16];
  const ir_size *shape[16];
  unsigned rank = 0;
  for (unsigned i = 0; i <= x->type->rank; i++) {
    if (i == at) axes[rank] = two, shape[rank++] = ir_size_const(e->m->sizes, 2);
    if (i < x->type->rank) axes[rank] = x->type->axes[i], shape[rank++] = x->type->shape[i];
  }
  const ir_type *type = ir_tile_type(e->m, x->type->dtype, rank, axes, shape);
  ir_op *op = ir_build(&e->b, IR_OP_relabel, 2, (ir_value *[]){x, y}, 1, &type);
  ir_set_sym(&e->b, op, "kind", ir_name(e->m, "concat"));
  ir_set_sym(&e->b, op, "axis", two);
  return op->results[0];
}

static ts_status emit_rope(emitter *e, const ir_op *op) {
  const ir_op *from = op->operands[1]->producer;
  if (!from || from->code != IR_OP_positions) return LOWER_REFUSE(e->L, op->loc, "rule rope-positions: rope takes the result of positions()");
  const ir_state *state = from->operands[0]->type->state;
  tile_of t;
  TS_TRY(input_tile(e, op->operands[0], &t));
  ts_sym d = t.axis[t.features - 1], i = emit_axis(e, "i"), two = emit_axis(e, "two");
  int64_t size = extent_of(t.tile, d), half = size / 2, context = state->length->hi;
  if (size % 2) return LOWER_REFUSE(e->L, op->loc, "rule rope-odd: the head size %lld is odd", (long long)size);
  ts_sym pairs = ir_attr_sym(op, "pairs");
  bool adjacent = pairs && strcmp(pairs, "adjacent") == 0;
  ts_sym names[2] = {adjacent ? i : two, adjacent ? two : i};
  int64_t extents[2] = {adjacent ? half : 2, adjacent ? 2 : half};
  ir_value *split = relabel(e, t.tile, "split", d, 2, names, extents);
  ir_value *x = pick(e, split, two, 0), *y = pick(e, split, two, 1);
  tile_of pos;
  TS_TRY(operand_tile(e, op->operands[1], &(tile_of){0}, e->row_rank, &pos));
  ir_value *p = ir_cast(&e->b, pos.tile, IR_i64), *zero = emit_zero(e), *one = ir_const_int(&e->b, IR_i64, 1);
  uint32_t buffer = rope_table(e->L, context, half, ir_attr_real(op, "theta", 10000));
  const plan_buffer *table = &e->L->pf->buffers.data[buffer];
  ir_value *mem = emit_param(e, buffer, ir_mem_type(e->m, IR_f32, 3, table->shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, "rope");
  ts_sym at[3] = {e->m->none, e->m->none, i};
  const ir_type *angle = tile_type(e, IR_f32, true, 1, &i, &table->shape[2]);
  ir_value *c = ir_cast(&e->b, ir_load(&e->b, mem, (ir_value *[]){zero, p, zero}, at, NULL, angle), x->type->dtype);
  ir_value *s = ir_cast(&e->b, ir_load(&e->b, mem, (ir_value *[]){one, p, zero}, at, NULL, angle), x->type->dtype);
  ir_value *xc = ir_apply_op(&e->b, IR_SCALAR_mul, x, c, NULL), *ys = ir_apply_op(&e->b, IR_SCALAR_mul, y, s, NULL);
  ir_value *xs = ir_apply_op(&e->b, IR_SCALAR_mul, x, s, NULL), *yc = ir_apply_op(&e->b, IR_SCALAR_mul, y, c, NULL);
  ir_value *u = ir_apply_op(&e->b, IR_SCALAR_sub, xc, ys, NULL), *v = ir_apply_op(&e->b, IR_SCALAR_add, xs, yc, NULL);
  unsigned place = u->type->rank - (adjacent ? 0 : 1);
  t.tile = relabel(e, stack(e, u, v, two, place), "merge", d, 2, names, &size);
  tile_set(e, op->results[0], &t);
  return TS_OK;
}

// Stores the fields of an append that are tiles of this part.
static ts_status emit_append(emitter *e, const ir_op *op) {
  const ir_state *state = op->operands[0]->type->state;
  const ir_attr *fields = ir_attr_find(op, "fields");
  int64_t layer = ir_attr_int(op, "layer", 0);
  ir_value *page = NULL, *slot = NULL, *mask = NULL;
  for (uint32_t i = 1; i < op->operand_count; i++) {
    tile_of *t = tile_find(e, op->operands[i]), loaded;
    if (!t && e->L->groups.data[e->group_number].kind == GROUP_CONTRACT) continue;   // a field of another part
    if (!t) {
      TS_TRY(input_tile(e, op->operands[i], &loaded));
      t = &loaded;
    }
    uint32_t field = 0;
    while (field < state->fields.count && state->fields.data[field].name != fields->axes.data[i - 1]) field++;
    if (!page) {
      ir_value *list, *position;
      TS_TRY(emit_row_coordinates(e, &list, &position));
      ts_sym over = ir_attr_sym(op, "over"), m = ir_name(e->m, "m");
      const ir_type *row = ir_tile_type(e->m, IR_i32, 1, &m, (const ir_size *[]){lower_formal(e->m, "m")});
      const ir_type *index = ir_type_with_dtype(e->m, row, IR_i64);
      const ir_size *lists = lower_formal(e->m, "b");
      emit_bind(e, lists, e->row_shape[0]);
      const ir_type *per_list = ir_mem_type(e->m, IR_i32, 1, &lists, NULL, IR_SPACE_GLOBAL, NULL);
      const ir_size **bound = ts_new_array(e->m->arena, const ir_size *, 1);
      *bound = e->row_shape[0];
      uint32_t lengths = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_LENGTH, .name = state->name, .dtype = IR_i32, .rank = 1, .shape = bound, .state = state});
      ir_value *len = ir_load(&e->b, emit_param(e, lengths, per_list, IR_PARAM_IN, "length"), &list, &e->m->none, NULL, row);
      ir_value *at = ir_apply_op(&e->b, IR_SCALAR_add, ir_cast(&e->b, len, IR_i64), position, NULL);
      if (over) {
        uint32_t ragged = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_RAGGED, .name = over, .dtype = IR_i32, .rank = 1, .shape = bound, .dim = over});
        ir_value *valid = ir_load(&e->b, emit_param(e, ragged, per_list, IR_PARAM_IN, "rows"), &list, &e->m->none, NULL, row);
        mask = ir_apply_op(&e->b, IR_SCALAR_lt, position, ir_cast(&e->b, valid, IR_i64), NULL);
      }
      const ir_size *pages_shape[2] = {lists, lower_formal(e->m, "w")};
      const ir_size **full = ts_new_array(e->m->arena, const ir_size *, 2);
      full[0] = e->row_shape[0], full[1] = ir_size_const(e->m->sizes, (state->length->hi + state->page - 1) / state->page);
      uint32_t pages = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_PAGES, .name = state->name, .dtype = IR_i32, .rank = 2, .shape = full, .state = state});
      ir_value *table = emit_param(e, pages, ir_mem_type(e->m, IR_i32, 2, pages_shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, "pages");
      ir_op *map = ir_build(&e->b, IR_OP_map_at, 3, (ir_value *[]){table, list, at}, 2, (const ir_type *[]){index, index});
      ir_set_sym(&e->b, map, "kind", ir_name(e->m, "pages"));
      ir_set_int(&e->b, map, "granule", state->page);
      page = map->results[0], slot = map->results[1];
    }
    const ir_state_field *f = &state->fields.data[field];
    unsigned features = f->rank - 1;   // behind the layer: [kv_heads, head_dim]
    const ir_size *shape[MAX_FEATURES + 2];
    tile_of v = *t;
    TS_TRY(refit(e, &v, features, f->shape + 1));
    shape[0] = lower_formal(e->m, "p");
    for (unsigned k = 0; k + 1 < features; k++) shape[1 + k] = f->shape[1 + k];
    shape[features] = ir_size_const(e->m->sizes, state->page);
    shape[features + 1] = f->shape[features];
    uint32_t pool = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_POOL, .name = f->name, .dtype = f->dtype, .state = state, .field = field, .layer = (uint32_t)layer});
    ir_value *mem = emit_param(e, pool, ir_mem_type(e->m, f->dtype, features + 2, shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_OUT,
                               ts_arena_printf(e->m->arena, "%s_pool", f->name));
    ir_value *index[MAX_FEATURES + 2];
    ts_sym at[MAX_FEATURES + 2];
    ir_value *zero = emit_zero(e);
    for (unsigned k = 0; k < features + 2; k++) index[k] = zero, at[k] = e->m->none;
    index[0] = page;
    for (unsigned k = 0; k + 1 < features; k++) at[1 + k] = v.axis[k];
    index[features] = slot;
    at[features + 1] = v.axis[features - 1];
    ir_store(&e->b, mem, index, at, ir_cast(&e->b, v.tile, f->dtype), mask);
  }
  return TS_OK;
}

static ts_status emit_norm_rows(emitter *e, const ir_op *op) {
  const ir_type *t = op->results[0]->type;
  tile_of like = {.features = t->rank - e->row_rank}, x, g, b = {0};
  if (like.features > MAX_FEATURES || like.features == 0) return LOWER_REFUSE(e->L, op->loc, "rule norm-without-features");
  for (unsigned i = 0; i < like.features; i++) like.axis[i] = emit_axis(e, "f");
  TS_TRY(operand_tile(e, op->operands[0], &like, t->rank, &x));
  TS_TRY(operand_tile(e, op->operands[1], &x, t->rank, &g));
  bool layer = op->code == IR_OP_layer_norm;
  if (layer) TS_TRY(operand_tile(e, op->operands[2], &x, t->rank, &b));
  ts_sym f = x.axis[x.features - 1];
  ir_dtype type = t->dtype;
  ir_value *v = x.tile, *scale = ir_const_real(&e->b, type, 1.0 / (double)extent_of(x.tile, f));
  if (layer) {
    ir_value *mean = ir_apply_op(&e->b, IR_SCALAR_mul, ir_reduce(&e->b, v, "add", 1, &f), scale, NULL);
    v = ir_apply_op(&e->b, IR_SCALAR_sub, v, mean, NULL);
  }
  ir_value *square = ir_reduce(&e->b, ir_apply_op(&e->b, IR_SCALAR_mul, v, v, NULL), "add", 1, &f);
  ir_value *eps = ir_const_real(&e->b, type, ir_attr_real(op, "eps", 1e-5));
  ir_value *var = ir_apply_op(&e->b, IR_SCALAR_add, ir_apply_op(&e->b, IR_SCALAR_mul, square, scale, NULL), eps, NULL);
  ir_value *r = ir_apply_op(&e->b, IR_SCALAR_mul, v, ir_apply_op(&e->b, IR_SCALAR_rsqrt, var, NULL, NULL), NULL);
  x.tile = ir_apply_op(&e->b, IR_SCALAR_mul, r, g.tile, NULL);
  if (layer) x.tile = ir_apply_op(&e->b, IR_SCALAR_add, x.tile, b.tile, NULL);
  tile_set(e, op->results[0], &x);
  return TS_OK;
}

static ts_status emit_softmax(emitter *e, const ir_op *op) {
  const ir_type *t = op->results[0]->type;
  tile_of like = {.features = t->rank - e->row_rank}, x;
  if (like.features > MAX_FEATURES || like.features == 0) return LOWER_REFUSE(e->L, op->loc, "rule softmax-without-features");
  for (unsigned i = 0; i < like.features; i++) like.axis[i] = emit_axis(e, "f");
  TS_TRY(operand_tile(e, op->operands[0], &like, t->rank, &x));
  ts_sym f = x.axis[x.features - 1];
  ir_value *shifted = ir_apply_op(&e->b, IR_SCALAR_sub, x.tile, ir_reduce(&e->b, x.tile, "max", 1, &f), NULL);
  ir_value *power = ir_apply_op(&e->b, IR_SCALAR_exp, shifted, NULL, NULL);
  x.tile = ir_apply_op(&e->b, IR_SCALAR_div, power, ir_reduce(&e->b, power, "add", 1, &f), NULL);
  tile_set(e, op->results[0], &x);
  return TS_OK;
}

static ts_status emit_gather(emitter *e, const ir_op *op) {
  ir_value *table = op->operands[0];
  const ir_type *t = table->type;
  tile_of ids, out = {.rows = true, .features = t->rank - 1};
  TS_TRY(require_static(e, t, 0));
  TS_TRY(operand_tile(e, op->operands[1], &(tile_of){0}, e->row_rank, &ids));
  ir_value *index[MAX_FEATURES + 1];
  ts_sym at[MAX_FEATURES + 1];
  ir_value *id = ir_cast(&e->b, ids.tile, IR_i64), *zero = emit_zero(e);
  ir_value *rows = ir_const_int(&e->b, IR_i64, t->shape[0]->value);
  ir_value *bad = ir_apply_op(&e->b, IR_SCALAR_or, ir_apply_op(&e->b, IR_SCALAR_lt, id, zero, NULL), ir_apply_op(&e->b, IR_SCALAR_ge, id, rows, NULL), NULL);
  // Padding rows hold anything: an id out of range reads row 0 there, and is an error elsewhere.
  ir_value *wrong = bad;
  for (size_t i = 0; i < e->m->dims.count && e->row_rank == 2; i++) {
    const ir_dim *dim = &e->m->dims.data[i];
    if (!dim->ragged_over || dim->size != e->row_shape[1]) continue;
    ir_value *list, *position;
    TS_TRY(emit_row_coordinates(e, &list, &position));
    const ir_size *lists = lower_formal(e->m, "b");
    emit_bind(e, lists, e->row_shape[0]);
    const ir_size **bound = ts_new_array(e->m->arena, const ir_size *, 1);
    *bound = e->row_shape[0];
    uint32_t ragged = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_RAGGED, .name = dim->size->name, .dtype = IR_i32, .rank = 1, .shape = bound, .dim = dim->size->name});
    const ir_type *per_list = ir_mem_type(e->m, IR_i32, 1, &lists, NULL, IR_SPACE_GLOBAL, NULL);
    ir_value *valid = ir_load(&e->b, emit_param(e, ragged, per_list, IR_PARAM_IN, "rows"), &list, &e->m->none, NULL, ir_type_with_dtype(e->m, id->type, IR_i32));
    ir_value *real = ir_apply_op(&e->b, IR_SCALAR_lt, position, ir_cast(&e->b, valid, IR_i64), NULL);
    wrong = ir_apply_op(&e->b, IR_SCALAR_and, bad, real, NULL);
    break;
  }
  ir_op *raise = ir_build(&e->b, IR_OP_raise, 1, &wrong, 0, NULL);
  ir_set_int(&e->b, raise, "code", 1);
  ir_set_text(&e->b, raise, "text", ts_arena_printf(e->m->arena, "an index into %s is outside 0 .. %lld", table->name ? table->name : "the table",
                                                    (long long)t->shape[0]->value - 1));
  id = ir_apply_op(&e->b, IR_SCALAR_select, bad, ir_full(&e->b, zero, id->type), id);
  index[0] = id, at[0] = e->m->none;
  for (unsigned i = 1; i < t->rank; i++) index[i] = zero, at[i] = out.axis[i - 1] = emit_axis(e, "f");
  ir_value *mem = emit_param(e, lower_buffer_of(e->L, table), ir_mem_type(e->m, t->dtype, t->rank, t->shape, t->encoding, IR_SPACE_GLOBAL, NULL),
                             IR_PARAM_IN, table->name ? table->name : "table");
  out.tile = ir_load(&e->b, mem, index, at, NULL, tile_type(e, t->dtype, true, out.features, out.axis, t->shape + 1));
  tile_set(e, op->results[0], &out);
  return TS_OK;
}

static ts_status emit_positions(emitter *e, const ir_op *op) {
  const ir_state *state = op->operands[0]->type->state;
  ir_value *list, *position;
  TS_TRY(emit_row_coordinates(e, &list, &position));
  const ir_size *lists = lower_formal(e->m, "b");
  emit_bind(e, lists, e->row_shape[0]);
  const ir_size **bound = ts_new_array(e->m->arena, const ir_size *, 1);
  *bound = e->row_shape[0];
  uint32_t lengths = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_LENGTH, .name = state->name, .dtype = IR_i32, .rank = 1, .shape = bound, .state = state});
  ir_value *mem = emit_param(e, lengths, ir_mem_type(e->m, IR_i32, 1, &lists, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, "length");
  ir_value *len = ir_load(&e->b, mem, &list, &e->m->none, NULL, ir_type_with_dtype(e->m, list->type, IR_i32));
  // Padding may run past the last position; the table of angles must not be read there.
  ir_value *p = ir_apply_op(&e->b, IR_SCALAR_add, ir_cast(&e->b, len, IR_i64), position, NULL);
  p = ir_apply_op(&e->b, IR_SCALAR_min, p, ir_const_int(&e->b, IR_i64, state->length->hi - 1), NULL);
  tile_of t = {.tile = ir_cast(&e->b, p, IR_i32), .rows = true};
  tile_set(e, op->results[0], &t);
  return TS_OK;
}

// last(x): row b is row length[b] - 1 of list b. The group's rows are the result's.
static ts_status last_rows(emitter *e, const ir_op *op, ir_value **row) {
  const ir_type *x = op->operands[0]->type;
  ts_sym over = ir_attr_sym(op, "over"), m = ir_name(e->m, "m");
  const ir_size *s = lower_formal(e->m, "s"), *lists = emit_rows(e);
  emit_bind(e, s, x->shape[1]);
  const ir_type *t = ir_tile_type(e->m, IR_i64, 1, &m, &lists);
  ir_op *axis = ir_build(&e->b, IR_OP_axis, 0, NULL, 1, &t);
  ir_set_sym(&e->b, axis, "name", m);
  const ir_size **bound = ts_new_array(e->m->arena, const ir_size *, 1);
  *bound = x->shape[0];
  uint32_t ragged = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_RAGGED, .name = over, .dtype = IR_i32, .rank = 1, .shape = bound, .dim = over});
  ir_value *mem = emit_param(e, ragged, ir_mem_type(e->m, IR_i32, 1, &lists, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, "rows");
  ir_value *zero = emit_zero(e);
  ir_value *n = ir_cast(&e->b, ir_load(&e->b, mem, &zero, &m, NULL, ir_type_with_dtype(e->m, t, IR_i32)), IR_i64);
  n = ir_apply_op(&e->b, IR_SCALAR_max, n, ir_const_int(&e->b, IR_i64, 1), NULL);
  ir_value *start = ir_apply_op(&e->b, IR_SCALAR_mul, axis->results[0], ir_size_value(&e->b, s), NULL);
  *row = ir_apply_op(&e->b, IR_SCALAR_sub, ir_apply_op(&e->b, IR_SCALAR_add, start, n, NULL), ir_const_int(&e->b, IR_i64, 1), NULL);
  return TS_OK;
}

// The flat rows of a tensor [lists, s, features] that `last` picks from, as mem<[b * s, features...]>.
static ir_value *flat_rows_param(emitter *e, ir_value *v) {
  const ir_type *t = v->type;
  const ir_size *shape[MAX_FEATURES + 1] = {ir_size_mul(e->m->sizes, lower_formal(e->m, "m"), lower_formal(e->m, "s"))};
  for (unsigned i = 2; i < t->rank; i++) shape[i - 1] = t->shape[i];
  return emit_param(e, lower_buffer_of(e->L, lower_root(e->L, v)), ir_mem_type(e->m, t->dtype, t->rank - 1, shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN,
                    v->name ? v->name : "x");
}

static ts_status emit_last(emitter *e, const ir_op *op) {
  ir_value *row, *x = op->operands[0];
  TS_TRY(require_static(e, x->type, 2));
  TS_TRY(last_rows(e, op, &row));
  ir_value *mem = flat_rows_param(e, x), *index[MAX_FEATURES + 1] = {row}, *zero = emit_zero(e);
  ts_sym at[MAX_FEATURES + 1] = {e->m->none};
  tile_of t = {.rows = true, .features = x->type->rank - 2};
  for (unsigned i = 0; i < t.features; i++) index[1 + i] = zero, at[1 + i] = t.axis[i] = emit_axis(e, "f");
  t.tile = ir_load(&e->b, mem, index, at, NULL, tile_type(e, x->type->dtype, true, t.features, t.axis, x->type->shape + 2));
  tile_set(e, op->results[0], &t);
  return TS_OK;
}

static ts_status emit_op(emitter *e, const ir_op *op) {
  e->loc = e->b.loc = op->loc;
  switch (op->code) {
    case IR_OP_map_t: return emit_map(e, op);
    case IR_OP_reshape: return emit_reshape(e, op);
    case IR_OP_rope: return emit_rope(e, op);
    case IR_OP_append: return emit_append(e, op);
    case IR_OP_rms_norm: case IR_OP_layer_norm: return emit_norm_rows(e, op);
    case IR_OP_softmax: return emit_softmax(e, op);
    case IR_OP_gather: return emit_gather(e, op);
    case IR_OP_positions: return emit_positions(e, op);
    case IR_OP_last: return emit_last(e, op);
    default:
      return LOWER_REFUSE(e->L, op->loc, "rule op-without-kernel: no family computes %s yet", ir_op_get(op->code)->name);
  }
}

// Stores every value of the part that something outside the group reads.
static ts_status store_outputs(emitter *e, const ir_op *op) {
  for (uint32_t r = 0; r < op->result_count; r++) {
    ir_value *v = op->results[r];
    if (!lower_used_outside(e->L, v, e->group_number)) continue;
    tile_of *t = tile_find(e, v);
    ir_value *index[MAX_FEATURES + 1], *zero = emit_zero(e);
    ts_sym at[MAX_FEATURES + 1];
    const ir_size *shape[MAX_FEATURES + 1];
    unsigned rank = 0;
    index[rank] = zero, at[rank] = ir_name(e->m, "m"), shape[rank++] = emit_rows(e);
    for (unsigned i = 0; i < t->features; i++) {
      index[rank] = zero, at[rank] = t->axis[i];
      shape[rank++] = t->tile->type->shape[ir_type_axis(t->tile->type, t->axis[i])];
    }
    const ir_type *mem = ir_mem_type(e->m, v->type->dtype, rank, shape, NULL, IR_SPACE_GLOBAL, NULL);
    ir_store(&e->b, emit_param(e, lower_buffer_of(e->L, v), mem, IR_PARAM_OUT, v->name ? v->name : "y"), index, at, t->tile, NULL);
  }
  return TS_OK;
}

// ---- contract ------------------------------------------------------------------------------------------------------------
typedef struct contract_part {
  ts_sym n, k;
  ir_op *linear[8];
  unsigned linears;
} contract_part;

// The group's input as a tile [m, k] inside update; also the product with the norm's weights. *raw is x itself.
static ts_status load_input(emitter *e, const group *G, ts_sym k, ir_value *rows_map, ir_value **raw, ir_value **scaled) {
  const ir_type *t = G->x->type;
  ir_value *zero = emit_zero(e);
  const ir_size *K = t->shape[t->rank - 1];
  const ir_type *tile = tile_type(e, t->dtype, true, 1, &k, &K);
  if (G->last) {
    ts_sym at[2] = {e->m->none, k};
    *raw = ir_load(&e->b, flat_rows_param(e, G->x), (ir_value *[]){rows_map, zero}, at, NULL, tile);
  } else {
    ts_sym at[2] = {ir_name(e->m, "m"), k};
    *raw = ir_load(&e->b, tensor_param(e, G->x, true, IR_PARAM_IN), (ir_value *[]){zero, zero}, at, NULL, tile);
  }
  *scaled = *raw;
  if (!G->norm) return TS_OK;
  ir_value *g = G->norm->operands[1];
  ir_value *mem = emit_param(e, lower_buffer_of(e->L, g), ir_mem_type(e->m, g->type->dtype, 1, &K, g->type->encoding, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN,
                             g->name ? g->name : "norm");
  ir_value *gt = ir_load(&e->b, mem, &zero, &k, NULL, tile_type(e, g->type->dtype, false, 1, &k, &K));
  *scaled = ir_apply_op(&e->b, IR_SCALAR_mul, *raw, gt, NULL);
  return TS_OK;
}

// compile.activations = s8_block32: the input goes through 8-bit codes with a scale per block.
static ir_value *quantized_input(emitter *e, ir_value *x, ts_sym k, int64_t block) {
  const ir_type *t = x->type;
  int64_t K = t->shape[ir_type_axis(t, k)]->value;
  ts_sym groups = ir_name(e->m, "%s_block", k);
  ts_sym axes[2] = {ir_name(e->m, "m"), groups};
  const ir_size *shape[2] = {lower_formal(e->m, "m"), ir_size_const(e->m->sizes, (K + block - 1) / block)};
  const ir_type *per_block = ir_tile_type(e->m, IR_f32, 2, axes, shape);
  const ir_type *results[3] = {ir_type_with_dtype(e->m, t, IR_i8), per_block, ir_type_with_dtype(e->m, per_block, IR_i32)};
  ir_op *op = ir_build(&e->b, IR_OP_encode, 1, &x, 3, results);
  ir_set_sym(&e->b, op, "formula", ir_name(e->m, "code*scale"));
  ir_set_sym(&e->b, op, "axis", k);
  ir_set_int(&e->b, op, "group", block);
  ir_set_int(&e->b, op, "bits", 8);
  ir_op *decode = ir_build(&e->b, IR_OP_decode, 2, (ir_value *[]){op->results[0], op->results[1]}, 1, &t);
  ir_set_sym(&e->b, decode, "formula", ir_name(e->m, "code*scale"));
  return decode->results[0];
}

static ir_value *accumulator_zero(emitter *e, const ir_type *tile) { return ir_full(&e->b, ir_const_real(&e->b, tile->dtype, 0), tile); }

static ts_status emit_contract_regions(emitter *e, const group *G, contract_part *c, ir_part *part) {
  const ir_type *x = G->x->type;
  int64_t K = x->shape[x->rank - 1]->value;
  const ir_size *n_size = c->linear[0]->operands[1]->type->shape[0];
  emit_rows(e);
  const ir_type *acc = tile_type(e, IR_f32, true, 1, &c->n, &n_size);
  const ir_type *row = tile_type(e, IR_f32, true, 0, NULL, NULL);
  unsigned count = c->linears + (G->norm ? 1 : 0);
  ir_value *state[9], *next[9];
  e->b.region = part->init;
  for (unsigned i = 0; i < c->linears; i++) state[i] = accumulator_zero(e, acc);
  if (G->norm) state[c->linears] = accumulator_zero(e, row);
  ir_yield(&e->b, count, state);

  e->b.region = part->update;
  for (unsigned i = 0; i < count; i++) state[i] = ir_region_param(e->m, part->update, i < c->linears ? acc : row, NULL);
  ir_value *rows_map = NULL, *raw, *in;
  if (G->last) TS_TRY(last_rows(e, G->last, &rows_map));
  TS_TRY(load_input(e, G, c->k, rows_map, &raw, &in));
  ts_sym mode = ir_attr_sym(c->linear[0], "activations");
  if (mode && strcmp(mode, "s8_block32") == 0) in = quantized_input(e, in, c->k, 32);
  else if (mode && strcmp(mode, "exact") != 0) return LOWER_REFUSE(e->L, e->loc, "rule activations: %s is not implemented", mode);
  for (unsigned i = 0; i < c->linears; i++) {
    ir_value *w = c->linear[i]->operands[1];
    e->b.loc = c->linear[i]->loc;
    ir_value *mem = emit_param(e, lower_buffer_of(e->L, w), ir_mem_type(e->m, w->type->dtype, 2, w->type->shape, w->type->encoding, IR_SPACE_GLOBAL, NULL),
                               IR_PARAM_IN, w->name ? w->name : "w");
    ir_value *zero = emit_zero(e);
    ts_sym at[2] = {c->n, c->k};
    ir_value *wt = ir_load(&e->b, mem, (ir_value *[]){zero, zero}, at, NULL, tile_type(e, w->type->dtype, false, 2, at, w->type->shape));
    next[i] = ir_dot(&e->b, in, wt, state[i], 1, &c->k, acc);
  }
  if (G->norm) {
    ir_value *wide = ir_cast(&e->b, raw, IR_f32);
    ir_value *square = ir_reduce(&e->b, ir_apply_op(&e->b, IR_SCALAR_mul, wide, wide, NULL), "add", 1, &c->k);
    next[c->linears] = ir_apply_op(&e->b, IR_SCALAR_add, state[c->linears], square, NULL);
  }
  ir_yield(&e->b, count, next);

  e->b.region = part->finish;
  for (unsigned i = 0; i < count; i++) state[i] = ir_region_param(e->m, part->finish, i < c->linears ? acc : row, NULL);
  ir_value *factor = NULL;
  if (G->norm) {
    ir_value *mean = ir_apply_op(&e->b, IR_SCALAR_mul, state[c->linears], ir_const_real(&e->b, IR_f32, 1.0 / (double)K), NULL);
    ir_value *eps = ir_const_real(&e->b, IR_f32, ir_attr_real(G->norm, "eps", 1e-5));
    factor = ir_apply_op(&e->b, IR_SCALAR_rsqrt, ir_apply_op(&e->b, IR_SCALAR_add, mean, eps, NULL), NULL, NULL);
  }
  for (unsigned i = 0; i < c->linears; i++) {
    const ir_op *op = c->linear[i];
    e->loc = e->b.loc = op->loc;
    tile_of t = {.tile = state[i], .rows = true, .features = 1, .axis = {c->n}};
    if (factor) t.tile = ir_apply_op(&e->b, IR_SCALAR_mul, t.tile, factor, NULL);
    if (op->operand_count == 3) {
      tile_of bias;
      TS_TRY(load_outside(e, op->operands[2], &t, x->rank, &bias));
      t.tile = ir_apply_op(&e->b, IR_SCALAR_add, t.tile, ir_cast(&e->b, bias.tile, IR_f32), NULL);
    }
    t.tile = ir_cast(&e->b, t.tile, op->results[0]->type->dtype);
    tile_set(e, op->results[0], &t);
    TS_TRY(store_outputs(e, op));
  }
  return TS_OK;
}

static bool belongs(const emitter *e, const ir_op *op, uint32_t part) {
  if (op->code != IR_OP_append) return lower_part(e->L, e->L->ops.data[lower_number(e->L, op)].linear) == part;
  for (uint32_t i = 1; i < op->operand_count; i++)
    if (lower_in_group(e->L, op->operands[i], e->group_number) &&
        lower_part(e->L, e->L->ops.data[lower_number(e->L, op->operands[i]->producer)].linear) == part)
      return true;
  return false;
}

static ts_status emit_contract(emitter *e, const group *G) {
  ts_text name = {0};
  unsigned parts = 0;
  for (size_t i = 0; i < G->ops.count; i++) {
    const ir_op *op = G->ops.data[i];
    uint32_t number = lower_number(e->L, op);
    if (op->code != IR_OP_linear || lower_part(e->L, number) != number) continue;   // representatives of parts, in order
    contract_part c = {.n = ir_name(e->m, "n"), .k = ir_name(e->m, "k")};
    for (size_t j = 0; j < G->ops.count; j++) {
      ir_op *other = G->ops.data[j];
      if (other->code != IR_OP_linear || lower_part(e->L, lower_number(e->L, other)) != number) continue;
      if (c.linears == 8) return LOWER_REFUSE(e->L, other->loc, "rule too-many-products: 8 in one kernel");
      c.linear[c.linears++] = other;
    }
    TS_TRY(require_static(e, op->operands[1]->type, 0));
    ir_part *part = ir_kernel_part(e->m, e->kernel, IR_FAMILY_CONTRACT, op->operands[1]->name);
    ts_vec_push(e->m->arena, &part->axes, ((ir_axis){ir_name(e->m, "m"), IR_AXIS_PAR, emit_rows(e)}));
    ts_vec_push(e->m->arena, &part->axes, ((ir_axis){c.n, IR_AXIS_PAR, op->operands[1]->type->shape[0]}));
    ts_vec_push(e->m->arena, &part->axes, ((ir_axis){c.k, IR_AXIS_RED, op->operands[1]->type->shape[1]}));
    ts_map_deinit(&e->tiles);
    e->loc = e->b.loc = op->loc;
    TS_TRY(emit_contract_regions(e, G, &c, part));
    for (size_t j = 0; j < G->ops.count; j++) {
      ir_op *other = G->ops.data[j];
      if (other->code == IR_OP_linear || !belongs(e, other, number)) continue;
      TS_TRY(emit_op(e, other));
      TS_TRY(store_outputs(e, other));
    }
    for (unsigned l = 0; l < c.linears; l++)
      ts_text_printf(&name, "%s%s", name.len ? "_" : "", c.linear[l]->operands[1]->name ? c.linear[l]->operands[1]->name : "linear");
    parts++;
  }
  ts_text full = {0};
  ts_text_printf(&full, "%s%s", G->norm ? "norm_" : "", ts_text_z(&name));
  ts_status s = emit_finish_kernel(e, ts_text_z(&full));
  ts_text_deinit(&name);
  ts_text_deinit(&full);
  return s;
}

// ---- rows ----------------------------------------------------------------------------------------------------------------
static ts_status emit_rows_group(emitter *e, const group *G) {
  const ir_op *anchor = G->ops.data[0];
  ir_part *part = ir_kernel_part(e->m, e->kernel, anchor->code == IR_OP_gather ? IR_FAMILY_MOVE : IR_FAMILY_ROWS, NULL);
  ts_vec_push(e->m->arena, &part->axes, ((ir_axis){ir_name(e->m, "m"), IR_AXIS_PAR, emit_rows(e)}));
  e->b.region = part->finish;
  for (size_t i = 0; i < G->ops.count; i++) {
    TS_TRY(emit_op(e, G->ops.data[i]));
    TS_TRY(store_outputs(e, G->ops.data[i]));
  }
  return emit_finish_kernel(e, ir_op_get(anchor->code)->name);
}

ts_status emit_group(lowering *L, uint32_t g) {
  const group *G = &L->groups.data[g];
  if (G->kind == GROUP_ATTEND) return emit_attend(L, g);
  const ir_op *anchor = G->ops.data[0];
  emitter e = {.L = L, .m = L->module, .group_number = g, .loc = anchor->loc};
  e.kernel = ir_kernel_create(e.m, NULL, IR_STAGE_P, anchor->loc);
  e.b = (ir_builder){.module = e.m, .loc = anchor->loc};
  const ir_type *t = G->kind == GROUP_CONTRACT ? anchor->results[0]->type : anchor->result_count ? anchor->results[0]->type : anchor->operands[1]->type;
  e.row_shape = t->shape;
  switch (anchor->code) {   // how many leading dims are rows
    case IR_OP_gather: e.row_rank = anchor->operands[1]->type->rank; break;
    case IR_OP_positions: e.row_rank = t->rank; break;
    case IR_OP_last: e.row_rank = 1; break;
    case IR_OP_append: e.row_rank = 2; break;
    default: e.row_rank = t->rank ? t->rank - 1 : 0;
  }
  ts_status s = G->kind == GROUP_CONTRACT ? emit_contract(&e, G) : emit_rows_group(&e, G);
  ts_map_deinit(&e.tiles);
  return s;
}
