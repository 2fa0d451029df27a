// Region translation for host schedules (see translate.h).
#include "passes/translate.h"
#include "passes/lower.h"

void pass_translator_deinit(pass_translator *t) { ts_map_deinit(&t->values); }

void pass_translator_reset(pass_translator *t) {
  ts_map_deinit(&t->values);
  t->values = (ts_map){0};
}

pass_box *pass_find_box(pass_translator *t, ts_sym axis) {
  for (unsigned i = 0; i < t->box_count; i++)
    if (t->boxes[i].axis == axis) return &t->boxes[i];
  return NULL;
}

void pass_set_box(pass_translator *t, pass_box box) {
  pass_box *known = pass_find_box(t, box.axis);
  if (known) *known = box;
  else if (t->box_count < MAX_BOXES) t->boxes[t->box_count++] = box;
}

void pass_bind_value(pass_translator *t, const ir_value *p, ir_value *s) { ts_map_put(&t->values, ts_key(p), s); }

bool pass_param_index(const ir_kernel *k, const ir_value *v, uint32_t *index) {
  for (size_t i = 0; i < k->params.count; i++)
    if (k->params.data[i].value == v) return *index = (uint32_t)i, true;
  return false;
}

// ---- scalars -------------------------------------------------------------------------------------------------------------
ir_value *pass_int(ir_builder *b, int64_t v) { return ir_const_int(b, IR_i64, v); }

bool pass_int_value(const ir_value *v, int64_t *out) {
  if (!v->producer || v->producer->code != IR_OP_const || !ir_attr_find(v->producer, "int")) return false;
  *out = ir_attr_int(v->producer, "int", 0);
  return true;
}

static ir_value *with_const(ir_builder *b, ir_scalar op, ir_value *x, int64_t k) {
  ir_fn_builder f;
  ir_fn_begin(&f, b->module, 1, &x->type->dtype);
  uint32_t r = ir_fn_op(&f, op, 0, ir_fn_int(&f, x->type->dtype, k), 0);
  return ir_apply(b, ir_fn_end(&f, 1, &r), 1, &x);
}

ir_value *pass_add(ir_builder *b, ir_value *x, ir_value *y) {
  int64_t p, q, r;
  bool px = pass_int_value(x, &p), py = pass_int_value(y, &q);
  if (px && p == 0) return y;
  if (py && q == 0) return x;
  if (px && py && !__builtin_add_overflow(p, q, &r)) return pass_int(b, r);
  if (py) return with_const(b, IR_SCALAR_add, x, q);
  return ir_apply_op(b, IR_SCALAR_add, x, y, NULL);
}

ir_value *pass_mul_const(ir_builder *b, ir_value *x, int64_t k) {
  int64_t p, r;
  if (k == 1) return x;
  if (pass_int_value(x, &p) && !__builtin_mul_overflow(p, k, &r)) return pass_int(b, r);
  return with_const(b, IR_SCALAR_mul, x, k);
}

ir_value *pass_div_const(ir_builder *b, ir_value *x, int64_t k) {
  int64_t p;
  if (k == 1) return x;
  if (pass_int_value(x, &p)) return pass_int(b, ts_floor_div(p, k));
  return with_const(b, IR_SCALAR_div, x, k);
}

ir_value *pass_rem_const(ir_builder *b, ir_value *x, int64_t k) {
  int64_t p;
  if (k == 1) return pass_int(b, 0);
  if (pass_int_value(x, &p)) return pass_int(b, ts_floor_mod(p, k));
  return with_const(b, IR_SCALAR_rem, x, k);
}

// ---- types and masks -----------------------------------------------------------------------------------------------------
const ir_type *pass_boxed_type(pass_translator *t, ir_dtype type, unsigned rank, const ts_sym *axes) {
  const ir_size *shape[16] = {0};
  for (unsigned i = 0; i < rank; i++) shape[i] = ir_size_const(t->m->sizes, pass_find_box(t, axes[i])->extent);
  const ir_type *tile = ir_tile_type(t->m, type, rank, axes, shape);
  if (rank && !pass_find_box(t, axes[rank - 1])->row) tile = ir_type_with_lanes(t->m, tile, axes[rank - 1]);
  return tile;
}

static ir_value *coordinates(pass_translator *t, ts_sym axis) {
  pass_box *box = pass_find_box(t, axis);
  const ir_type *type = pass_boxed_type(t, IR_i64, 1, &axis);
  return ir_build(&t->b, IR_OP_iota, 1, &box->base, 1, &type)->results[0];
}

ir_value *pass_bounds_mask(pass_translator *t, unsigned rank, const ts_sym *at, ir_value *mask) {
  for (unsigned i = 0; i < rank; i++) {
    pass_box *box = at[i] == t->m->none ? NULL : pass_find_box(t, at[i]);
    if (!box || !box->tail) continue;
    ir_value *inside = ir_apply_op(&t->b, IR_SCALAR_lt, coordinates(t, at[i]), ir_size_value(&t->b, box->size), NULL);
    mask = mask ? ir_apply_op(&t->b, IR_SCALAR_and, mask, inside, NULL) : inside;
  }
  return mask;
}

// ---- ops -----------------------------------------------------------------------------------------------------------------
static ts_status refuse(pass_translator *t, const ir_op *op, const char *rule) {
  return ts_report(t->m->diags, op->loc, &diag_pass_unsupported, "rule %s: no host schedule for this use of %s", rule, ir_op_get(op->code)->name);
}

static ts_status translate_operands(pass_translator *t, const ir_op *op, uint32_t from, uint32_t to, ir_value **out) {
  for (uint32_t i = from; i < to; i++) TS_TRY(pass_translate_value(t, op->operands[i], &out[i - from]));
  return TS_OK;
}

// Boxes of the axes that a relabel makes from the axes it takes.
static ts_status relabel_boxes(pass_translator *t, const ir_op *op, const char *kind, ts_sym axis, const ir_attr *to) {
  const ir_type *have = op->operands[0]->type, *want = op->results[0]->type;
  if (strcmp(kind, "split") == 0) {
    pass_box box = *pass_find_box(t, axis);
    ir_value *base = box.base;
    int64_t extent = box.extent;
    for (uint32_t i = to->axes.count; i-- > 0;) {
      const ir_size *size = want->shape[ir_type_axis(want, to->axes.data[i])];
      pass_box part = {.axis = to->axes.data[i], .size = size, .row = box.row};
      int64_t whole = size->value;
      if (extent % whole == 0) {             // covers this digit; what is left goes to the outer ones
        part.base = pass_int(&t->b, 0), part.extent = whole, part.tail = false;
        extent /= whole;
      } else if (whole % extent == 0) {
        part.base = pass_rem_const(&t->b, base, whole), part.extent = extent, part.tail = false;
        extent = 1;
      } else {
        return refuse(t, op, "tile-splits-digit");
      }
      base = pass_div_const(&t->b, base, whole);
      if (i == 0) part.base = pass_add(&t->b, part.base, pass_int(&t->b, 0)), part.tail = box.tail;
      pass_set_box(t, part);
    }
    if (extent != 1) return refuse(t, op, "tile-splits-digit");
    // The outermost digit begins at what the inner ones left of the base.
    pass_box *outer = pass_find_box(t, to->axes.data[0]);
    ir_value *start = box.base;
    for (uint32_t i = to->axes.count; i-- > 1;) start = pass_div_const(&t->b, start, want->shape[ir_type_axis(want, to->axes.data[i])]->value);
    outer->base = start;
    return TS_OK;
  }
  if (strcmp(kind, "merge") == 0) {
    int64_t extent = 1, inner = 1;
    ir_value *base = pass_int(&t->b, 0);
    bool row = false, tail = false, partial = false;
    for (uint32_t i = to->axes.count; i-- > 0;) {
      pass_box *box = pass_find_box(t, to->axes.data[i]);
      int64_t whole = have->shape[ir_type_axis(have, to->axes.data[i])]->value;
      if (partial && box->extent != 1) return refuse(t, op, "tile-splits-digit");
      partial |= box->extent != whole;
      base = pass_add(&t->b, base, pass_mul_const(&t->b, box->base, inner));
      extent *= box->extent, inner *= whole;
      row |= box->row, tail |= box->tail;
    }
    pass_set_box(t, (pass_box){.axis = axis, .base = base, .extent = extent, .size = want->shape[ir_type_axis(want, axis)], .row = row, .tail = tail});
    return TS_OK;
  }
  if (strcmp(kind, "concat") == 0) {
    if (ir_type_axis(have, axis) >= 0) return refuse(t, op, "concat-of-tiles");
    pass_set_box(t, (pass_box){.axis = axis, .base = pass_int(&t->b, 0), .extent = op->operand_count, .size = want->shape[ir_type_axis(want, axis)]});
    return TS_OK;
  }
  if (strcmp(kind, "rename") == 0) {
    pass_box box = *pass_find_box(t, axis);
    box.axis = to->axes.data[0];
    pass_set_box(t, box);
    return TS_OK;
  }
  if (strcmp(kind, "pick") == 0 || strcmp(kind, "permute") == 0) return TS_OK;
  return refuse(t, op, "relabel-kind");
}

static ts_status translate_relabel(pass_translator *t, const ir_op *op, ir_value **out) {
  ir_value *operand[8];
  if (op->operand_count > 8) return refuse(t, op, "too-many-operands");
  TS_TRY(translate_operands(t, op, 0, op->operand_count, operand));
  const char *kind = ir_attr_sym(op, "kind");
  ts_sym axis = ir_attr_sym(op, "axis");
  const ir_attr *to = ir_attr_find(op, "to");
  if (strcmp(kind, "pick") == 0 && pass_find_box(t, axis)->extent != op->operands[0]->type->shape[ir_type_axis(op->operands[0]->type, axis)]->value)
    return refuse(t, op, "tile-splits-digit");
  TS_TRY(relabel_boxes(t, op, kind, axis, to));
  const ir_type *type = pass_boxed_type(t, op->results[0]->type->dtype, op->results[0]->type->rank, op->results[0]->type->axes);
  ir_op *made = ir_build(&t->b, IR_OP_relabel, op->operand_count, operand, 1, &type);
  for (uint32_t i = 0; i < op->attr_count; i++) {
    const ir_attr *a = &op->attrs[i];
    if (a->kind == IR_ATTR_SYM) ir_set_sym(&t->b, made, a->name, a->sym);
    else if (a->kind == IR_ATTR_AXES) ir_set_axes(&t->b, made, a->name, a->axes.count, a->axes.data);
    else if (a->kind == IR_ATTR_INT) ir_set_int(&t->b, made, a->name, a->integer);
  }
  *out = made->results[0];
  return TS_OK;
}

// Index operands of a memory access: the box's base is added to a scalar base; index tiles stand for themselves.
static ts_status translate_index(pass_translator *t, const ir_op *op, unsigned rank, const ts_sym *at, ir_value **index) {
  for (unsigned d = 0; d < rank; d++) {
    TS_TRY(pass_translate_value(t, op->operands[1 + d], &index[d]));
    if (at[d] == t->m->none) continue;
    pass_box *box = pass_find_box(t, at[d]);
    if (!box) return refuse(t, op, "axis-without-box");
    index[d] = pass_add(&t->b, index[d], box->base);
  }
  return TS_OK;
}

// Bounds along the axes of `at`, and along the axes that index tiles run over: a row past the end has no row to be read or written.
static ir_value *access_mask(pass_translator *t, unsigned rank, const ts_sym *at, ir_value *const *index, ir_value *mask) {
  ts_sym axes[32];
  unsigned count = 0;
  for (unsigned d = 0; d < rank && count < 16; d++)
    if (at[d] != t->m->none) axes[count++] = at[d];
  for (unsigned d = 0; d < rank; d++)
    for (unsigned k = 0; k < index[d]->type->rank && count < 32; k++) {
      bool known = false;
      for (unsigned i = 0; i < count; i++) known |= axes[i] == index[d]->type->axes[k];
      if (!known) axes[count++] = index[d]->type->axes[k];
    }
  return pass_bounds_mask(t, count, axes, mask);
}

static ts_status translate_load(pass_translator *t, const ir_op *op, ir_value **out) {
  uint32_t param;
  ir_value *mem = op->operands[0];
  if (!pass_param_index(t->from, mem, &param)) return refuse(t, op, "load-from-panel");
  if (!t->params[param]) return t->encoded ? t->encoded(t, op, out) : refuse(t, op, "encoded-load");
  unsigned rank = mem->type->rank;
  const ts_sym *at = ir_attr_find(op, "at")->axes.data;
  ir_value *index[16], *mask = NULL;
  TS_TRY(translate_index(t, op, rank, at, index));
  if (ir_attr_int(op, "masked", 0)) TS_TRY(pass_translate_value(t, op->operands[1 + rank], &mask));
  mask = access_mask(t, rank, at, index, mask);
  const ir_type *r = op->results[0]->type;   // a file's plain type is widened to the logical one
  *out = ir_load(&t->b, t->params[param], index, at, mask, pass_boxed_type(t, t->params[param]->type->dtype, r->rank, r->axes));
  *out = ir_cast(&t->b, *out, r->dtype);
  return TS_OK;
}

static ts_status translate_store(pass_translator *t, const ir_op *op) {
  uint32_t param;
  ir_value *mem = op->operands[0];
  if (!pass_param_index(t->from, mem, &param) || !t->params[param]) return refuse(t, op, "store-to-packed");
  unsigned rank = mem->type->rank;
  const ts_sym *at = ir_attr_find(op, "at")->axes.data;
  ir_value *index[16], *v, *mask = NULL;
  TS_TRY(pass_translate_value(t, op->operands[1 + rank], &v));   // first: relabels in it make the boxes of `at`
  TS_TRY(translate_index(t, op, rank, at, index));
  if (ir_attr_int(op, "masked", 0)) TS_TRY(pass_translate_value(t, op->operands[2 + rank], &mask));
  mask = access_mask(t, rank, at, index, mask);
  ir_store(&t->b, t->params[param], index, at, v, mask);
  return TS_OK;
}

// pages: entry position / granule of the list's row in the table, slot position mod granule.
static ts_status translate_map(pass_translator *t, const ir_op *op) {
  if (strcmp(ir_attr_sym(op, "kind"), "pages") != 0) return refuse(t, op, "map-kind");
  ir_value *list, *position;
  uint32_t param;
  int64_t granule = ir_attr_int(op, "granule", 1);
  if (!pass_param_index(t->from, op->operands[0], &param) || !t->params[param]) return refuse(t, op, "map-storage");
  TS_TRY(pass_translate_value(t, op->operands[1], &list));
  TS_TRY(pass_translate_value(t, op->operands[2], &position));
  ir_value *entry = with_const(&t->b, IR_SCALAR_div, position, granule);
  // Positions of padding rows may run past the table; their stores are masked, the reads here must stay inside.
  const ir_size *width = op->operands[0]->type->shape[1];
  ir_value *last = ir_size_value(&t->b, ir_size_sub(t->m->sizes, width, ir_size_const(t->m->sizes, 1)));
  entry = ir_apply_op(&t->b, IR_SCALAR_min, entry, last, NULL);
  ts_sym at[2] = {t->m->none, t->m->none};
  const ir_type *type = ir_type_with_dtype(t->m, ir_broadcast_type(t->m, IR_i32, 2, (ir_value *[]){entry, list}), IR_i32);
  ir_value *index[2] = {list, entry};
  ir_value *page = ir_load(&t->b, t->params[param], index, at, access_mask(t, 2, at, index, NULL), type);
  pass_bind_value(t, op->results[0], ir_cast(&t->b, page, IR_i64));
  pass_bind_value(t, op->results[1], with_const(&t->b, IR_SCALAR_rem, position, granule));
  return TS_OK;
}

static ts_status translate_op(pass_translator *t, const ir_op *op, ir_value **out) {
  const ir_type *r = op->result_count ? op->results[0]->type : NULL;
  t->b.loc = op->loc;
  ir_value *operand[16];
  switch (op->code) {
    case IR_OP_const: {
      const ir_attr *real = ir_attr_find(op, "value");
      *out = real ? ir_const_real(&t->b, r->dtype, real->real) : ir_const_int(&t->b, r->dtype, ir_attr_int(op, "int", 0));
      return TS_OK;
    }
    case IR_OP_size: *out = ir_size_value(&t->b, ir_attr_find(op, "of")->size); return TS_OK;
    case IR_OP_axis: *out = coordinates(t, ir_attr_sym(op, "name")); return TS_OK;
    case IR_OP_full:
      TS_TRY(translate_operands(t, op, 0, 1, operand));
      *out = ir_full(&t->b, operand[0], pass_boxed_type(t, r->dtype, r->rank, r->axes));
      return TS_OK;
    case IR_OP_apply:
      if (op->operand_count > 16 || op->result_count != 1) return refuse(t, op, "too-many-operands");
      TS_TRY(translate_operands(t, op, 0, op->operand_count, operand));
      *out = ir_apply(&t->b, ir_attr_find(op, "fn")->fn, op->operand_count, operand);
      return TS_OK;
    case IR_OP_reduce: {
      const ir_attr *over = ir_attr_find(op, "over");
      for (uint32_t i = 0; i < over->axes.count; i++) {
        pass_box *box = pass_find_box(t, over->axes.data[i]);
        if (!box || box->tail || !ir_size_is_value(box->size, box->extent)) return refuse(t, op, "reduce-of-partial-axis");
      }
      TS_TRY(translate_operands(t, op, 0, 1, operand));
      *out = ir_reduce(&t->b, operand[0], ir_attr_sym(op, "op"), over->axes.count, over->axes.data);
      return TS_OK;
    }
    case IR_OP_relabel: return translate_relabel(t, op, out);
    case IR_OP_load: return translate_load(t, op, out);
    case IR_OP_map_at: return translate_map(t, op);
    default: return refuse(t, op, "op-in-region");
  }
}

ts_status pass_translate_value(pass_translator *t, ir_value *p, ir_value **out) {
  void *known;
  if (!ts_map_find(&t->values, ts_key(p), &known)) {
    if (!p->producer) return ts_report(t->m->diags, t->b.loc, &diag_pass_internal, "an accumulator has no value in this region");
    ir_value *made = NULL;
    TS_TRY(translate_op(t, p->producer, &made));
    if (made) pass_bind_value(t, p, made);
    known = ts_map_get(&t->values, ts_key(p));
  }
  *out = known;
  return TS_OK;
}

ts_status pass_translate_effects(pass_translator *t, const ir_region *r) {
  for (const ir_op *op = r->first; op; op = op->next) {
    t->b.loc = op->loc;
    if (op->code == IR_OP_store) {
      TS_TRY(translate_store(t, op));
    } else if (op->code == IR_OP_raise) {
      ir_value *cond;
      TS_TRY(pass_translate_value(t, op->operands[0], &cond));
      cond = pass_bounds_mask(t, cond->type->rank, cond->type->axes, cond);
      ir_op *made = ir_build(&t->b, IR_OP_raise, 1, &cond, 0, NULL);
      ir_set_int(&t->b, made, "code", ir_attr_int(op, "code", 1));
      ir_set_text(&t->b, made, "text", ir_attr_sym(op, "text"));
    } else if (op->code == IR_OP_atomic) {
      return refuse(t, op, "atomic-in-region");
    }
  }
  return TS_OK;
}
