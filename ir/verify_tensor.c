// Type rules of the tensor ops. Extents are equal when they are one size (see size.h): what is equal but not provably so must
// have been made one by the frontend.
#include "ir/verify.h"

#include "ir/weights.h"

static bool tensor_like(const ir_type *t) { return t->kind == IR_TYPE_TENSOR || ir_type_is_scalar(t); }

static bool tensors(verifier *v, const ir_op *op, uint32_t from) {
  for (uint32_t i = from; i < op->operand_count; i++)
    if (!tensor_like(op->operands[i]->type)) return verify_bad(v, &diag_ir_type, "operand %u is no tensor", i), false;
  for (uint32_t i = 0; i < op->result_count; i++)
    if (!tensor_like(op->results[i]->type)) return verify_bad(v, &diag_ir_type, "result %u is no tensor", i), false;
  return true;
}

static bool same_extents(const ir_type *a, unsigned a0, const ir_type *b, unsigned b0, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (a0 + i >= a->rank || b0 + i >= b->rank || a->shape[a0 + i] != b->shape[b0 + i]) return false;
  return true;
}

static bool same_shape(const ir_type *a, const ir_type *b) { return a->rank == b->rank && same_extents(a, 0, b, 0, a->rank); }

#define OPERAND(i) (op->operands[i]->type)
#define RESULT (op->results[0]->type)
#define SHAPES(v, op) verify_type_text(v, OPERAND(0)), verify_type_text(v, RESULT)

static void rule_weight(verifier *v, const ir_op *op) {
  ts_sym name = ir_attr_sym(op, "name");
  for (size_t i = 0; i < v->m->weights.count; i++) {
    const ir_weight *w = v->m->weights.data[i];
    if (strcmp(w->name, name) != 0) continue;
    VERIFY(v, RESULT->kind == IR_TYPE_TENSOR && RESULT->rank == w->rank, "weight '%s' has %u dimensions", name, w->rank);
    for (unsigned d = 0; d < w->rank; d++)
      VERIFY(v, ir_size_is_value(RESULT->shape[d], w->shape[d]), "weight '%s' has another shape", name);
    return;
  }
  verify_bad(v, &diag_ir_unknown, "the module has no weight '%s'", name);
}

static void rule_state(verifier *v, const ir_op *op) {
  VERIFY(v, RESULT->kind == IR_TYPE_STATE && RESULT->state->name == ir_attr_sym(op, "name"), "the result is state<%s>",
         ir_attr_sym(op, "name"));
}

static void rule_dim(verifier *v, const ir_op *op) {
  VERIFY(v, tensor_like(RESULT) && RESULT->rank == 0 && RESULT->dtype == IR_i64, "the result is an i64 scalar");
}

static void rule_literal(verifier *v, const ir_op *op) {
  bool real = ir_attr_find(op, "value"), integer = ir_attr_find(op, "int");
  VERIFY(v, real != integer, "exactly one of value and int");
  VERIFY(v, tensor_like(RESULT) && RESULT->rank == 0, "the result is a scalar");
  VERIFY(v, !real || ir_is_float(RESULT->dtype), "a real literal of type %s", ir_dtype_name(RESULT->dtype));
}

static bool dimension(verifier *v, const ir_op *op, const ir_type *t, int64_t *axis) {
  *axis = ir_attr_int(op, "axis", -1);
  if (*axis >= 0 && *axis < t->rank) return true;
  return verify_bad(v, &diag_ir_type, "dimension %lld of a tensor of %u", (long long)*axis, t->rank), false;
}

static void rule_iota(verifier *v, const ir_op *op) {
  int64_t axis;
  if (!tensors(v, op, 0) || !dimension(v, op, RESULT, &axis)) return;
  VERIFY(v, ir_is_int(RESULT->dtype), "the result is of integers");
}

static void rule_map(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_fn *fn = ir_attr_find(op, "fn")->fn;
  unsigned before = v->errors;
  verify_fn(v, fn, op->operand_count, op->operands);
  if (v->errors != before) return;
  VERIFY(v, fn->results == 1, "the function has %u results", fn->results);
  VERIFY(v, fn->nodes[fn->outputs[0]].type == RESULT->dtype, "the function gives %s",
         ir_dtype_name(fn->nodes[fn->outputs[0]].type));
  for (uint32_t i = 0; i < op->operand_count; i++) {
    const ir_type *t = OPERAND(i);
    VERIFY(v, t->rank <= RESULT->rank, "operand %u has more dimensions than the result", i);
    for (unsigned d = 0; d < t->rank; d++)
      VERIFY(v, t->shape[d] == RESULT->shape[RESULT->rank - t->rank + d] || ir_size_is_value(t->shape[d], 1),
             "operand %u, %s, does not broadcast to %s", i, verify_type_text(v, t), verify_type_text(v, RESULT));
  }
}

static void rule_linear(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_type *x = OPERAND(0), *w = OPERAND(1);
  VERIFY(v, x->rank >= 1 && w->rank == 2 && x->shape[x->rank - 1] == w->shape[1], "x[..., k] and w[n, k] do not fit: %s, %s",
         verify_type_text(v, x), verify_type_text(v, w));
  VERIFY(v, RESULT->rank == x->rank && same_extents(x, 0, RESULT, 0, x->rank - 1) && RESULT->shape[x->rank - 1] == w->shape[0],
         "the result is x with k replaced by n, not %s", verify_type_text(v, RESULT));
  VERIFY(v, op->operand_count < 3 || (OPERAND(2)->rank == 1 && OPERAND(2)->shape[0] == w->shape[0]), "the bias has n elements");
  ts_sym act = ir_attr_sym(op, "activations");
  VERIFY(v, !act || !strcmp(act, "s8_block32") || !strcmp(act, "exact"), "activations '%s' is neither exact nor s8_block32", act);
  VERIFY(v, ir_is_float(x->dtype) && ir_is_float(w->dtype) && ir_is_float(RESULT->dtype), "linear is of floats");
}

static void rule_matmul(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_type *a = OPERAND(0), *b = OPERAND(1);
  VERIFY(v, a->rank >= 2 && b->rank >= 2 && a->shape[a->rank - 1] == b->shape[b->rank - 2],
         "a[..., m, k] and b[..., k, n] do not fit: %s, %s", verify_type_text(v, a), verify_type_text(v, b));
  VERIFY(v, b->rank == 2 || (b->rank == a->rank && same_extents(a, 0, b, 0, a->rank - 2)), "the batch dimensions differ");
  VERIFY(v,
         RESULT->rank == a->rank && same_extents(a, 0, RESULT, 0, a->rank - 1) &&
             RESULT->shape[a->rank - 1] == b->shape[b->rank - 1],
         "the result is a with k replaced by n, not %s", verify_type_text(v, RESULT));
}

static void rule_gather(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_type *t = OPERAND(0), *ids = OPERAND(1);
  VERIFY(v, t->rank >= 1 && ir_is_int(ids->dtype), "gather(table[v, ...], integer ids)");
  VERIFY(v,
         RESULT->rank == ids->rank + t->rank - 1 && same_extents(ids, 0, RESULT, 0, ids->rank) &&
             same_extents(t, 1, RESULT, ids->rank, t->rank - 1),
         "the result has the shape of ids, then of a row: not %s", verify_type_text(v, RESULT));
  VERIFY(v, RESULT->dtype == t->dtype, "table and result have one element type");
}

static void rule_norm(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  VERIFY(v, OPERAND(0)->rank >= 1 && same_shape(OPERAND(0), RESULT), "operand and result differ in shape: %s, %s", SHAPES(v, op));
  for (uint32_t i = 1; i < op->operand_count; i++)
    VERIFY(v, OPERAND(i)->rank == 1 && OPERAND(i)->shape[0] == RESULT->shape[RESULT->rank - 1],
           "operand %u has one element for each channel", i);
  VERIFY(v, ir_attr_real(op, "eps", -1) >= 0, "eps is below 0");
  VERIFY(v, ir_is_float(RESULT->dtype) && ir_is_float(OPERAND(0)->dtype), "norms are of floats");
}

static void rule_softmax(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  VERIFY(v, OPERAND(0)->rank >= 1 && same_shape(OPERAND(0), RESULT), "operand and result differ in shape: %s, %s", SHAPES(v, op));
  VERIFY(v, ir_is_float(RESULT->dtype) && ir_is_float(OPERAND(0)->dtype), "softmax is of floats");
}

static void rule_reduce(verifier *v, const ir_op *op) {
  int64_t axis;
  ts_sym name = ir_attr_sym(op, "op");
  if (!tensors(v, op, 0) || !dimension(v, op, OPERAND(0), &axis)) return;
  VERIFY(v, !strcmp(name, "add") || !strcmp(name, "max") || !strcmp(name, "min") || !strcmp(name, "mean"),
         "'%s' is none of add, max, min, mean", name);
  VERIFY(v, RESULT->rank + 1 == OPERAND(0)->rank && same_extents(OPERAND(0), 0, RESULT, 0, (unsigned)axis) &&
           same_extents(OPERAND(0), (unsigned)axis + 1, RESULT, (unsigned)axis, RESULT->rank - (unsigned)axis),
         "the result is the operand without dimension %lld: %s, %s", (long long)axis, SHAPES(v, op));
}

static void rule_rope(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_type *x = OPERAND(0);
  ts_sym pairs = ir_attr_sym(op, "pairs");
  VERIFY(v, !strcmp(pairs, "adjacent") || !strcmp(pairs, "half"), "pairs '%s' is neither adjacent nor half", pairs);
  VERIFY(v, x->rank >= 2 && same_shape(x, RESULT), "operand and result differ in shape: %s, %s", SHAPES(v, op));
  VERIFY(v, ir_size_is_const(x->shape[x->rank - 1]) && x->shape[x->rank - 1]->value % 2 == 0, "the head size must be even");
  VERIFY(v, ir_is_int(OPERAND(1)->dtype) && OPERAND(1)->rank == x->rank - 2 && same_extents(x, 0, OPERAND(1), 0, x->rank - 2),
         "positions are integers, one for each row of heads");
  VERIFY(v, ir_attr_real(op, "theta", 0) > 0, "theta must be above 0");
}

static const ir_size *elements(verifier *v, const ir_type *t) {
  const ir_size *p = ir_size_const(v->m->sizes, 1);
  for (unsigned i = 0; i < t->rank; i++) p = ir_size_mul(v->m->sizes, p, t->shape[i]);
  return p;
}

static void rule_reshape(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  VERIFY(v, elements(v, OPERAND(0)) == elements(v, RESULT), "%s and %s are not proved to have as many elements", SHAPES(v, op));
  VERIFY(v, OPERAND(0)->dtype == RESULT->dtype, "operand and result have one element type");
}

static void rule_slice(verifier *v, const ir_op *op) {
  int64_t axis, at = ir_attr_int(op, "at", 0), count = ir_attr_int(op, "count", 0), end;
  if (!tensors(v, op, 0) || !dimension(v, op, OPERAND(0), &axis)) return;
  VERIFY(v, OPERAND(0)->rank == RESULT->rank, "operand and result have as many dimensions");
  for (unsigned d = 0; d < RESULT->rank; d++)
    VERIFY(v, d == (unsigned)axis ? ir_size_is_value(RESULT->shape[d], count) : RESULT->shape[d] == OPERAND(0)->shape[d],
           "dimension %u of the result is wrong", d);
  const ir_size *n = OPERAND(0)->shape[axis];
  VERIFY(v, at >= 0 && count >= 1 && !__builtin_add_overflow(at, count, &end) && (!ir_size_is_const(n) || end <= n->value),
         "it reaches outside the dimension");
}

static void rule_concat(verifier *v, const ir_op *op) {
  int64_t axis;
  if (!tensors(v, op, 0) || !dimension(v, op, RESULT, &axis)) return;
  const ir_size *total = ir_size_const(v->m->sizes, 0);
  for (uint32_t i = 0; i < op->operand_count; i++) {
    VERIFY(v, OPERAND(i)->rank == RESULT->rank && OPERAND(i)->dtype == RESULT->dtype,
           "operand %u has another rank or element type than the result", i);
    for (unsigned d = 0; d < RESULT->rank; d++)
      VERIFY(v, d == (unsigned)axis || OPERAND(i)->shape[d] == RESULT->shape[d],
             "dimension %u of operand %u differs from the result's", d, i);
    total = ir_size_add(v->m->sizes, total, OPERAND(i)->shape[axis]);
  }
  VERIFY(v, total == RESULT->shape[axis], "the extents along dimension %lld do not add up", (long long)axis);
}

static void rule_transpose(verifier *v, const ir_op *op) {
  if (!tensors(v, op, 0)) return;
  const ir_attr *order = ir_attr_find(op, "order");
  uint64_t seen = 0;
  VERIFY(v, order->ints.count == OPERAND(0)->rank && RESULT->rank == OPERAND(0)->rank && RESULT->rank <= 64,
         "order names every dimension once");
  for (unsigned d = 0; d < RESULT->rank; d++) {
    int64_t from = order->ints.data[d];
    VERIFY(v, from >= 0 && from < RESULT->rank && !(seen >> from & 1), "order names every dimension once");
    seen |= UINT64_C(1) << from;
    VERIFY(v, RESULT->shape[d] == OPERAND(0)->shape[from], "dimension %u of the result is not dimension %lld of the operand", d,
           (long long)from);
  }
}

static const ir_dim *ragged_dim(verifier *v, ts_sym name) {
  for (size_t i = 0; name && i < v->m->dims.count; i++)
    if (v->m->dims.data[i].size->name == name) return &v->m->dims.data[i];
  if (name) verify_bad(v, &diag_ir_unknown, "the module has no dim '%s'", name);
  return NULL;
}

static void rule_last(verifier *v, const ir_op *op) {
  const ir_dim *d = ragged_dim(v, ir_attr_sym(op, "over"));
  if (!d || !tensors(v, op, 0)) return;
  VERIFY(v, OPERAND(0)->rank >= 2 && OPERAND(0)->shape[1] == d->size, "the operand is x[batch, %s, ...]", d->size->name);
  VERIFY(v,
         RESULT->rank + 1 == OPERAND(0)->rank && RESULT->shape[0] == OPERAND(0)->shape[0] &&
             same_extents(OPERAND(0), 2, RESULT, 1, RESULT->rank - 1),
         "the result is the operand without its second dimension");
}

static void rule_positions(verifier *v, const ir_op *op) {
  ts_sym over = ir_attr_sym(op, "over");   // without it: one row for each list
  const ir_dim *d = ragged_dim(v, over);
  VERIFY(v, OPERAND(0)->kind == IR_TYPE_STATE, "the operand is a state");
  if (over && !d) return;
  VERIFY(v,
         tensor_like(RESULT) && ir_is_int(RESULT->dtype) && RESULT->rank == 2 &&
             (d ? RESULT->shape[1] == d->size : ir_size_is_value(RESULT->shape[1], 1)),
         "the result is i32[batch, %s]", d ? d->size->name : "1");
}

static const ir_state_field *field_of(const ir_state *s, ts_sym name) {
  for (size_t i = 0; i < s->fields.count; i++)
    if (s->fields.data[i].name == name) return &s->fields.data[i];
  return NULL;
}

static void rule_append(verifier *v, const ir_op *op) {
  ts_sym over = ir_attr_sym(op, "over");   // without it: one row for each list
  const ir_dim *d = ragged_dim(v, over);
  const ir_attr *fields = ir_attr_find(op, "fields");
  VERIFY(v, OPERAND(0)->kind == IR_TYPE_STATE, "the first operand is a state");
  if ((over && !d) || !tensors(v, op, 1)) return;
  VERIFY(v, fields->axes.count == op->operand_count - 1, "%u fields for %u tensors", fields->axes.count, op->operand_count - 1);
  const ir_state *s = OPERAND(0)->state;
  int64_t layer = ir_attr_int(op, "layer", 0);
  for (uint32_t i = 0; i < fields->axes.count; i++) {
    const ir_state_field *f = field_of(s, fields->axes.data[i]);
    VERIFY(v, f, "state '%s' has no field '%s'", s->name, fields->axes.data[i]);
    VERIFY(v, f->rank >= 1 && layer >= 0 && (!ir_size_is_const(f->shape[0]) || layer < f->shape[0]->value),
           "state '%s' has no layer %lld", s->name, (long long)layer);
    const ir_type *t = OPERAND(i + 1);
    bool fits = t->rank == f->rank + 1 && (d ? t->shape[1] == d->size : ir_size_is_value(t->shape[1], 1));
    for (unsigned k = 1; fits && k < f->rank; k++) fits = t->shape[k + 1] == f->shape[k];
    VERIFY(v, fits, "rows of field '%s' have another shape than %s", f->name, verify_type_text(v, t));
  }
}

static void rule_attend(verifier *v, const ir_op *op) {
  static const char *const masks[] = {"causal", "ragged", "none"};
  ts_sym mask = ir_attr_sym(op, "mask");
  bool known = false;
  for (int i = 0; i < 3; i++) known |= !strcmp(mask, masks[i]);
  VERIFY(v, known, "mask '%s' is none of causal, ragged, none", mask);
  const ir_type *q = OPERAND(0);
  VERIFY(v, q->kind == IR_TYPE_TENSOR && q->rank == 4, "q is [batch, seq, heads, d]");
  VERIFY(v, tensor_like(RESULT) && RESULT->rank == 4 && same_extents(q, 0, RESULT, 0, 3),
         "the result is [batch, seq, heads, d of v]");
  bool from_state = OPERAND(1)->kind == IR_TYPE_STATE;
  VERIFY(v, from_state ? op->operand_count == 2 : op->operand_count == 3, "attend takes (q, state) or (q, k, v)");
  if (from_state) {
    const ir_state *s = OPERAND(1)->state;
    const ir_state_field *k = s->fields.count > 0 ? &s->fields.data[0] : NULL,
                         *val = s->fields.count > 1 ? &s->fields.data[1] : NULL;
    int64_t layer = ir_attr_int(op, "layer", -1);
    VERIFY(v, k && val && k->rank == 3 && val->rank == 3, "state '%s' has no fields k and v of [layers, kv_heads, d]", s->name);
    VERIFY(v, layer >= 0 && (!ir_size_is_const(k->shape[0]) || layer < k->shape[0]->value), "state '%s' has no layer %lld",
           s->name, (long long)layer);
    VERIFY(v, k->shape[2] == q->shape[3] && val->shape[2] == RESULT->shape[3] && k->shape[1] == val->shape[1],
           "head sizes of q, k and v do not fit");
    VERIFY(v,
           !ir_size_is_const(q->shape[2]) || !ir_size_is_const(k->shape[1]) ||
               (k->shape[1]->value > 0 && q->shape[2]->value % k->shape[1]->value == 0),
           "the heads are no multiple of the KV heads");
    if (ir_attr_sym(op, "over")) ragged_dim(v, ir_attr_sym(op, "over"));
    return;
  }
  const ir_type *k = OPERAND(1), *val = OPERAND(2);
  VERIFY(v, tensor_like(k) && tensor_like(val) && k->rank == 4 && val->rank == 4 && same_extents(k, 0, val, 0, 3),
         "k and v are [batch, t, kv_heads, d]");
  VERIFY(v, k->shape[0] == q->shape[0] && k->shape[3] == q->shape[3] && val->shape[3] == RESULT->shape[3],
         "shapes of q, k and v do not fit");
  VERIFY(v,
         !ir_size_is_const(q->shape[2]) || !ir_size_is_const(k->shape[2]) ||
             (k->shape[2]->value > 0 && q->shape[2]->value % k->shape[2]->value == 0),
         "the heads are no multiple of the KV heads");
}

verify_rule *verify_tensor_rule(ir_opcode code) {
  static verify_rule *const rules[IR_OP_COUNT] = {
      [IR_OP_weight] = rule_weight,   [IR_OP_state_ref] = rule_state,     [IR_OP_dim] = rule_dim,
      [IR_OP_literal] = rule_literal, [IR_OP_iota_t] = rule_iota,         [IR_OP_map_t] = rule_map,
      [IR_OP_linear] = rule_linear,   [IR_OP_matmul] = rule_matmul,       [IR_OP_gather] = rule_gather,
      [IR_OP_rms_norm] = rule_norm,   [IR_OP_layer_norm] = rule_norm,     [IR_OP_softmax] = rule_softmax,
      [IR_OP_reduce_t] = rule_reduce, [IR_OP_rope] = rule_rope,           [IR_OP_reshape] = rule_reshape,
      [IR_OP_slice_t] = rule_slice,   [IR_OP_concat_t] = rule_concat,     [IR_OP_transpose_t] = rule_transpose,
      [IR_OP_last] = rule_last,       [IR_OP_positions] = rule_positions, [IR_OP_append] = rule_append,
      [IR_OP_attend] = rule_attend,
  };
  return rules[code];
}
