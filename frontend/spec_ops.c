// The ops of the spec language as tensor IR. spec_ops.def declares each once; this file holds their builders.
#include "frontend/spec.h"

#include <math.h>

enum { MAX_ARGS = 6 };

typedef struct call {
  fe_env *e;
  const fe_ex *x;
  ts_loc loc;
  fe_value arg[MAX_ARGS];
  bool given[MAX_ARGS];
  TS_VEC(ts_sym) extra_name;
  TS_VEC(fe_value) extra;
} call;

typedef ts_status builder_fn(call *c, fe_value *out);
typedef struct op_row {
  const char *name, *signature;
  builder_fn *build;
  const char *doc;
} op_row;

#define FAIL(c, kind, ...) ts_report((c)->e->S->d, (c)->loc, &diag_##kind, __VA_ARGS__)

static const ir_type *type_of(const fe_value *v) { return v->tensor->type; }

static ir_op *build(call *c, ir_opcode code, uint32_t operands, ir_value *const *operand, const ir_type *result) {
  ir_builder *b = &c->e->f->b;
  b->loc = c->loc;
  return ir_build(b, code, operands, operand, result ? 1 : 0, result ? &result : NULL);
}

static ts_status give(fe_value *out, ir_op *op) {
  *out = fe_tensor_value(op->results[0]);
  return TS_OK;
}

static const char *type_text(fe_env *e, const ir_type *t) {
  ts_text s = {0};
  ts_text_printf(&s, "%s[", ir_dtype_name(t->dtype));
  for (unsigned i = 0; i < t->rank; i++) {
    if (i) ts_text_puts(&s, ", ");
    ir_size_print(t->shape[i], &s);
  }
  ts_text_putc(&s, ']');
  const char *z = ts_arena_strdup(e->S->a, ts_text_z(&s));
  ts_text_deinit(&s);
  return z;
}

static const ir_type *tensor(call *c, ir_dtype t, unsigned rank, const ir_size *const *shape) { return ir_tensor_type(c->e->S->m, t, rank, shape, NULL); }

static ts_status need_float(call *c, const fe_value *v, const char *what) {
  if (ir_is_float(type_of(v)->dtype)) return TS_OK;
  return FAIL(c, spec_type, "%s must be of floats, not %s; use cast", what, type_text(c->e, type_of(v)));
}

static ts_status same_type(call *c, const fe_value *x, const fe_value *y, const char *what) {
  if (type_of(x)->dtype == type_of(y)->dtype) return TS_OK;
  return FAIL(c, spec_type, "%s: %s and %s; there are no implicit casts", what, type_text(c->e, type_of(x)), type_text(c->e, type_of(y)));
}

static ts_status axis_of(call *c, const fe_value *x, int64_t axis, unsigned *out) {
  unsigned rank = type_of(x)->rank;
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return FAIL(c, spec_range, "axis %lld of a tensor of rank %u", (long long)axis, rank);
  *out = (unsigned)axis;
  return TS_OK;
}

// ---- elementwise ----------------------------------------------------------------------------------------------------------
// The function is computed in f32 where the tensor is narrower, and rounded once.
typedef uint32_t scalar_fn(ir_fn_builder *b, ir_dtype t, uint32_t x);

static ts_status map1(call *c, scalar_fn *fn, fe_value *out) {
  const fe_value *x = &c->arg[0];
  TS_TRY(need_float(c, x, "the operand"));
  ir_dtype t = type_of(x)->dtype, work = fe_work_type(c->e, t), wide = ir_dtype_bits(work) < 32 ? IR_f32 : work;
  ir_fn_builder b;
  ir_fn_begin(&b, c->e->S->m, 1, &t);
  uint32_t r = ir_fn_cast(&b, work, fn(&b, wide, ir_fn_cast(&b, wide, 0)));
  const ir_fn *f = ir_fn_end(&b, 1, &r);
  ir_op *op = build(c, IR_OP_map_t, 1, &x->tensor, tensor(c, work, type_of(x)->rank, type_of(x)->shape));
  ir_set_fn(&c->e->f->b, op, "fn", f);
  return give(out, op);
}

static uint32_t fn_sigmoid(ir_fn_builder *b, ir_dtype t, uint32_t x) {
  uint32_t one = ir_fn_real(b, t, 1);
  return ir_fn_op(b, IR_SCALAR_div, one, ir_fn_op(b, IR_SCALAR_add, one, ir_fn_op(b, IR_SCALAR_exp, ir_fn_op(b, IR_SCALAR_neg, x, 0, 0), 0, 0), 0), 0);
}
static uint32_t fn_silu(ir_fn_builder *b, ir_dtype t, uint32_t x) {
  uint32_t one = ir_fn_real(b, t, 1);
  return ir_fn_op(b, IR_SCALAR_div, x, ir_fn_op(b, IR_SCALAR_add, one, ir_fn_op(b, IR_SCALAR_exp, ir_fn_op(b, IR_SCALAR_neg, x, 0, 0), 0, 0), 0), 0);
}
static uint32_t fn_gelu(ir_fn_builder *b, ir_dtype t, uint32_t x) {
  uint32_t erf = ir_fn_op(b, IR_SCALAR_erf, ir_fn_op(b, IR_SCALAR_mul, x, ir_fn_real(b, t, M_SQRT1_2), 0), 0, 0);
  uint32_t half = ir_fn_op(b, IR_SCALAR_mul, x, ir_fn_real(b, t, 0.5), 0);
  return ir_fn_op(b, IR_SCALAR_mul, half, ir_fn_op(b, IR_SCALAR_add, ir_fn_real(b, t, 1), erf, 0), 0);
}
static uint32_t fn_relu(ir_fn_builder *b, ir_dtype t, uint32_t x) { return ir_fn_op(b, IR_SCALAR_max, x, ir_fn_real(b, t, 0), 0); }

#define UNARY(name)                                                                                                                            \
  static uint32_t fn_##name(ir_fn_builder *b, ir_dtype t, uint32_t x) { return (void)t, ir_fn_op(b, IR_SCALAR_##name, x, 0, 0); }             \
  static ts_status build_##name(call *c, fe_value *out) { return map1(c, fn_##name, out); }
UNARY(tanh) UNARY(exp) UNARY(log) UNARY(rsqrt) UNARY(abs) UNARY(sin) UNARY(cos)
#undef UNARY
static ts_status build_silu(call *c, fe_value *out) { return map1(c, fn_silu, out); }
static ts_status build_gelu(call *c, fe_value *out) { return map1(c, fn_gelu, out); }
static ts_status build_sigmoid(call *c, fe_value *out) { return map1(c, fn_sigmoid, out); }
static ts_status build_relu(call *c, fe_value *out) { return map1(c, fn_relu, out); }

static ts_status cast_to(call *c, const fe_value *x, ir_dtype t, fe_value *out) {
  ir_dtype from = type_of(x)->dtype;
  if (from == t) return *out = *x, TS_OK;
  ir_fn_builder b;
  ir_fn_begin(&b, c->e->S->m, 1, &from);
  uint32_t r = ir_fn_cast(&b, t, 0);
  ir_op *op = build(c, IR_OP_map_t, 1, &x->tensor, tensor(c, t, type_of(x)->rank, type_of(x)->shape));
  ir_set_fn(&c->e->f->b, op, "fn", ir_fn_end(&b, 1, &r));
  return give(out, op);
}

static ts_status build_cast(call *c, fe_value *out) {
  ts_sym name = c->arg[1].sym;
  ir_dtype t = strcmp(name, "float") == 0 ? c->e->S->model->float_type : ir_dtype_of_name(ts_str_of(name));
  if (t == IR_VOID) return FAIL(c, spec_type, "no type is called '%s'", name);
  return cast_to(c, &c->arg[0], t, out);
}

ts_status fe_tensor_unary(fe_env *e, ir_scalar op, ts_loc loc, const fe_value *x, fe_value *out) {
  call c = {.e = e, .loc = loc};
  if (x->kind != FE_V_TENSOR) return FAIL(&c, spec_type, "a tensor expected, not %s", fe_value_kind_name(x));
  ir_dtype t = type_of(x)->dtype, work = fe_work_type(e, t);
  ir_fn_builder b;
  ir_fn_begin(&b, e->S->m, 1, &t);
  uint32_t r = ir_fn_op(&b, op, ir_fn_cast(&b, work, 0), 0, 0);
  ir_op *o = build(&c, IR_OP_map_t, 1, &x->tensor, tensor(&c, work, type_of(x)->rank, type_of(x)->shape));
  ir_set_fn(&e->f->b, o, "fn", ir_fn_end(&b, 1, &r));
  return give(out, o);
}

// Broadcasts trailing axes; equality of extents must be proved.
static ts_status broadcast(call *c, const ir_type *x, const ir_type *y, unsigned *rank, const ir_size **shape) {
  *rank = x->rank > y->rank ? x->rank : y->rank;
  for (unsigned i = 0; i < *rank; i++) {
    const ir_size *a = i + x->rank >= *rank ? x->shape[i + x->rank - *rank] : NULL, *b = i + y->rank >= *rank ? y->shape[i + y->rank - *rank] : NULL;
    if (!a || !b) shape[i] = a ? a : b;
    else if (a == b || ir_size_is_value(b, 1)) shape[i] = a;
    else if (ir_size_is_value(a, 1)) shape[i] = b;
    else return FAIL(c, spec_shape, "%s and %s do not broadcast: axis %u differs", type_text(c->e, x), type_text(c->e, y), i);
  }
  return TS_OK;
}

static ts_status literal_node(call *c, ir_fn_builder *b, ir_dtype t, const fe_value *v, uint32_t *out) {
  if (v->kind == FE_V_INT) {
    *out = ir_is_float(t) ? ir_fn_real(b, t, (double)v->integer) : ir_fn_int(b, t, v->integer);
    return TS_OK;
  }
  if (v->kind == FE_V_REAL && ir_is_float(t)) return *out = ir_fn_real(b, t, v->real), TS_OK;
  if (v->kind == FE_V_SIZE) return FAIL(c, spec_unsupported, "sizes that are only known at a call can't take part in tensor arithmetic");
  return FAIL(c, spec_type, "%s and a tensor of %s do not combine", fe_value_kind_name(v), ir_dtype_name(t));
}

ts_status fe_tensor_binary(fe_env *e, fe_oper op, ts_loc loc, const fe_value *x, const fe_value *y, fe_value *out) {
  call c = {.e = e, .loc = loc};
  static const int scalars[] = {[FE_ADD] = IR_SCALAR_add + 1, [FE_SUB] = IR_SCALAR_sub + 1, [FE_MUL] = IR_SCALAR_mul + 1, [FE_DIV] = IR_SCALAR_div + 1};
  if (op > FE_DIV || !scalars[op]) return FAIL(&c, spec_type, "tensors have + - * / alone");
  if (x->kind == FE_V_ABSENT || y->kind == FE_V_ABSENT) return FAIL(&c, spec_type, "an operand is a weight that the file does not have");
  ir_value *operand[2];
  uint32_t count = 0, node[2];
  const fe_value *sides[2] = {x, y}, *typed = x->kind == FE_V_TENSOR ? x : y;
  ir_dtype t = fe_work_type(e, type_of(typed)->dtype), types[2];
  for (int i = 0; i < 2; i++)
    if (sides[i]->kind == FE_V_TENSOR) operand[count] = sides[i]->tensor, types[count++] = type_of(sides[i])->dtype;
  if (count == 2 && fe_work_type(e, types[0]) != fe_work_type(e, types[1])) return same_type(&c, x, y, "the operands");
  if (op == FE_DIV && !ir_is_float(t)) return FAIL(&c, spec_type, "'/' is of floats; use cast");
  unsigned rank = type_of(typed)->rank;
  const ir_size *shape[IR_MAX_RANK];
  memcpy(shape, type_of(typed)->shape, rank * sizeof *shape);
  if (count == 2) TS_TRY(broadcast(&c, type_of(x), type_of(y), &rank, shape));
  bool same = count == 2 && operand[0] == operand[1];
  ir_fn_builder b;
  ir_fn_begin(&b, e->S->m, same ? 1 : count, types);
  uint32_t k = 0;
  for (int i = 0; i < 2; i++) {
    if (sides[i]->kind == FE_V_TENSOR) node[i] = ir_fn_cast(&b, t, same ? 0 : k++);
    else TS_TRY(literal_node(&c, &b, t, sides[i], &node[i]));
  }
  uint32_t r = ir_fn_op(&b, (ir_scalar)(scalars[op] - 1), node[0], node[1], 0);
  ir_op *o = build(&c, IR_OP_map_t, same ? 1 : count, operand, tensor(&c, t, rank, shape));
  ir_set_fn(&e->f->b, o, "fn", ir_fn_end(&b, 1, &r));
  return give(out, o);
}

// ---- products and norms ---------------------------------------------------------------------------------------------------
static ts_status build_norm(call *c, ir_opcode code, uint32_t operands, const fe_value *eps, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  ir_value *operand[3];
  TS_TRY(need_float(c, &c->arg[0], "the operand"));
  if (x->rank == 0) return FAIL(c, spec_shape, "a norm needs at least one axis");
  for (uint32_t i = 0; i < operands; i++) {
    operand[i] = c->arg[i].tensor;
    const ir_type *t = operand[i]->type;
    if (i == 0) continue;
    TS_TRY(same_type(c, &c->arg[0], &c->arg[i], "operand and weight"));
    if (t->rank != 1 || t->shape[0] != x->shape[x->rank - 1])
      return FAIL(c, spec_shape, "the weight is %s, the operand %s: one element for each channel", type_text(c->e, t), type_text(c->e, x));
  }
  if (!(eps->real >= 0)) return FAIL(c, spec_range, "eps is below 0");
  ir_op *op = build(c, code, operands, operand, tensor(c, x->dtype, x->rank, x->shape));
  ir_set_real(&c->e->f->b, op, "eps", eps->real);
  return give(out, op);
}
static ts_status build_rms_norm(call *c, fe_value *out) { return build_norm(c, IR_OP_rms_norm, 2, &c->arg[2], out); }
static ts_status build_layer_norm(call *c, fe_value *out) { return build_norm(c, IR_OP_layer_norm, 3, &c->arg[3], out); }

// Integer codes with scales (and minima) shared by whole blocks of 32 along k: the form whose products can be of integers.
static bool integer_blocks(const ir_encoding *e) {
  if (!e || ir_encoding_is_plain(e) || e->field[0].table || !ir_is_int(e->field[0].type)) return false;
  for (unsigned i = 1; i < e->fields; i++)
    if (e->field[i].per_k && e->field[i].per_k % 32) return false;
  return true;
}

static ts_status build_linear(call *c, fe_value *out) {
  fe_spec *S = c->e->S;
  const ir_type *x = type_of(&c->arg[0]), *w = type_of(&c->arg[1]);
  bool bias = c->given[2] && c->arg[2].kind != FE_V_ABSENT;
  TS_TRY(need_float(c, &c->arg[0], "x"));
  TS_TRY(same_type(c, &c->arg[0], &c->arg[1], "x and w"));
  if (x->rank < 1 || w->rank != 2 || x->shape[x->rank - 1] != w->shape[1])
    return FAIL(c, spec_shape, "linear(x[..., k], w[n, k]): x is %s, w is %s", type_text(c->e, x), type_text(c->e, w));
  if (bias && (type_of(&c->arg[2])->rank != 1 || type_of(&c->arg[2])->shape[0] != w->shape[0] || type_of(&c->arg[2])->dtype != x->dtype))
    return FAIL(c, spec_shape, "the bias is %s, w is %s: one element for each row of w", type_text(c->e, type_of(&c->arg[2])), type_text(c->e, w));
  const ir_size *shape[IR_MAX_RANK];
  memcpy(shape, x->shape, x->rank * sizeof *shape);
  shape[x->rank - 1] = w->shape[0];
  ir_op *op = build(c, IR_OP_linear, bias ? 3 : 2, (ir_value *[]){c->arg[0].tensor, c->arg[1].tensor, bias ? c->arg[2].tensor : NULL}, tensor(c, x->dtype, x->rank, shape));
  if (strcmp(S->model->activations, "s8_block32") == 0) {
    if (integer_blocks(w->encoding)) {
      ir_set_sym(&c->e->f->b, op, "activations", S->model->activations);
    } else {
      uint64_t key = ((uint64_t)c->loc.line << 32) ^ c->loc.col;
      if (!ts_map_get(&S->said, key))
        ts_report(S->d, c->loc, &diag_quantize_skipped, "this product stays exact: its weights (%s) are no integers with scales for blocks of 32", w->encoding ? w->encoding->name : "plain");
      ts_map_put(&S->said, key, S);
    }
  }
  return give(out, op);
}

static ts_status build_matmul(call *c, fe_value *out) {
  const ir_type *a = type_of(&c->arg[0]), *b = type_of(&c->arg[1]);
  TS_TRY(need_float(c, &c->arg[0], "a"));
  TS_TRY(same_type(c, &c->arg[0], &c->arg[1], "a and b"));
  bool fits = a->rank >= 2 && b->rank >= 2 && a->shape[a->rank - 1] == b->shape[b->rank - 2] && (b->rank == 2 || b->rank == a->rank);
  for (unsigned i = 0; fits && b->rank > 2 && i + 2 < a->rank; i++) fits = a->shape[i] == b->shape[i];
  if (!fits) return FAIL(c, spec_shape, "matmul(a[..., m, k], b[..., k, n]): a is %s, b is %s", type_text(c->e, a), type_text(c->e, b));
  const ir_size *shape[IR_MAX_RANK];
  memcpy(shape, a->shape, a->rank * sizeof *shape);
  shape[a->rank - 1] = b->shape[b->rank - 1];
  return give(out, build(c, IR_OP_matmul, 2, (ir_value *[]){c->arg[0].tensor, c->arg[1].tensor}, tensor(c, a->dtype, a->rank, shape)));
}

static ts_status build_softmax(call *c, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  TS_TRY(need_float(c, &c->arg[0], "the operand"));
  if (!x->rank) return FAIL(c, spec_shape, "softmax needs at least one axis");
  return give(out, build(c, IR_OP_softmax, 1, &c->arg[0].tensor, tensor(c, x->dtype, x->rank, x->shape)));
}

static bool ragged(fe_spec *S, const ir_size *size) {
  for (size_t i = 0; i < S->m->dims.count; i++)
    if (S->m->dims.data[i].size == size && S->m->dims.data[i].ragged_over) return true;
  return false;
}

static ts_status reduce(call *c, const char *how, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  unsigned axis;
  TS_TRY(axis_of(c, &c->arg[0], c->arg[1].integer, &axis));
  if (ragged(c->e->S, x->shape[axis])) return FAIL(c, spec_unsupported, "a reduction over a ragged axis is not implemented");
  const ir_size *shape[IR_MAX_RANK];
  unsigned rank = 0;
  for (unsigned i = 0; i < x->rank; i++)
    if (i != axis) shape[rank++] = x->shape[i];
  ir_op *op = build(c, IR_OP_reduce_t, 1, &c->arg[0].tensor, tensor(c, x->dtype, rank, shape));
  ir_set_sym(&c->e->f->b, op, "op", ts_intern_z(c->e->S->names, how));
  ir_set_int(&c->e->f->b, op, "axis", axis);
  return give(out, op);
}
static ts_status build_sum(call *c, fe_value *out) { return reduce(c, "add", out); }
static ts_status build_mean(call *c, fe_value *out) { return reduce(c, "mean", out); }
static ts_status build_amax(call *c, fe_value *out) { return reduce(c, "max", out); }

// ---- shapes ---------------------------------------------------------------------------------------------------------------
static ts_status sizes_of(call *c, const fe_value *list, unsigned *rank, const ir_size **shape) {
  if (list->count > IR_MAX_RANK) return FAIL(c, spec_range, "more than %d axes", IR_MAX_RANK);
  *rank = (unsigned)list->count;
  for (unsigned i = 0; i < *rank; i++) {
    const fe_value *v = &list->items[i];
    if (v->kind != FE_V_INT && v->kind != FE_V_SIZE) return FAIL(c, spec_type, "a shape is a list of sizes; number %u is %s", i, fe_value_kind_name(v));
    shape[i] = v->kind == FE_V_SIZE ? v->size : ir_size_const(c->e->S->m->sizes, v->integer);
    if (shape[i]->lo < 0) return FAIL(c, spec_range, "size number %u may be negative", i);
  }
  return TS_OK;
}

static ir_op *reshape_to(call *c, ir_value *x, unsigned rank, const ir_size *const *shape) {
  return build(c, IR_OP_reshape, 1, &x, tensor(c, x->type->dtype, rank, shape));
}

static ts_status build_reshape(call *c, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  ir_sizes *s = c->e->S->m->sizes;
  unsigned rank;
  const ir_size *shape[IR_MAX_RANK], *have = ir_size_const(s, 1), *want = have;
  TS_TRY(sizes_of(c, &c->arg[1], &rank, shape));
  for (unsigned i = 0; i < x->rank; i++) have = ir_size_mul(s, have, x->shape[i]);
  for (unsigned i = 0; i < rank; i++) want = ir_size_mul(s, want, shape[i]);
  if (have != want) {
    const char *from = type_text(c->e, x), *to = type_text(c->e, tensor(c, x->dtype, rank, shape));
    return FAIL(c, spec_shape, "%s has another number of elements than %s", from, to);
  }
  return give(out, reshape_to(c, c->arg[0].tensor, rank, shape));
}

static ts_status build_transpose(call *c, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  const fe_value *order = &c->arg[1];
  int64_t list[IR_MAX_RANK];
  const ir_size *shape[IR_MAX_RANK];
  unsigned seen = 0;
  if (order->count != x->rank) return FAIL(c, spec_call, "%zu axes for a tensor of rank %u", order->count, x->rank);
  for (unsigned i = 0; i < x->rank; i++) {
    int64_t a = order->items[i].kind == FE_V_INT ? order->items[i].integer : -1;
    if (a < 0 || a >= x->rank || (seen >> a & 1)) return FAIL(c, spec_call, "the order names every axis once, from 0 to %u", x->rank - 1);
    seen |= 1u << a;
    list[i] = a;
    shape[i] = x->shape[a];
  }
  ir_op *op = build(c, IR_OP_transpose_t, 1, &c->arg[0].tensor, tensor(c, x->dtype, x->rank, shape));
  ir_set_ints(&c->e->f->b, op, "order", x->rank, list);
  return give(out, op);
}

// One slice along an axis, without that axis.
static ts_status slice_at(call *c, const fe_value *x, unsigned axis, int64_t i, fe_value *out) {
  const ir_type *t = type_of(x);
  const ir_size *shape[IR_MAX_RANK];
  memcpy(shape, t->shape, t->rank * sizeof *shape);
  shape[axis] = ir_size_const(c->e->S->m->sizes, 1);
  ir_op *op = build(c, IR_OP_slice_t, 1, &x->tensor, tensor(c, t->dtype, t->rank, shape));
  ir_set_int(&c->e->f->b, op, "axis", axis);
  ir_set_int(&c->e->f->b, op, "at", i);
  ir_set_int(&c->e->f->b, op, "count", 1);
  unsigned rank = 0;
  for (unsigned d = 0; d < t->rank; d++)
    if (d != axis) shape[rank++] = t->shape[d];
  return give(out, reshape_to(c, op->results[0], rank, shape));
}

static ts_status build_at(call *c, fe_value *out) {
  unsigned axis = 0;
  const fe_value *x = &c->arg[0];
  TS_TRY(axis_of(c, x, c->given[2] ? c->arg[2].integer : 0, &axis));
  const ir_size *extent = type_of(x)->shape[axis];
  if (c->arg[1].integer < 0 || c->arg[1].integer >= extent->lo) return FAIL(c, spec_range, "index %lld of an axis of %lld", (long long)c->arg[1].integer, (long long)extent->lo);
  return slice_at(c, x, axis, c->arg[1].integer, out);
}

static ts_status build_split(call *c, fe_value *out) {
  unsigned axis;
  const fe_value *x = &c->arg[0];
  TS_TRY(axis_of(c, x, c->arg[1].integer, &axis));
  const ir_size *extent = type_of(x)->shape[axis];
  if (!ir_size_is_const(extent) || extent->value < 1 || extent->value > 64) return FAIL(c, spec_shape, "split needs an axis of 1 to 64, known at compile time");
  *out = (fe_value){.kind = FE_V_LIST, .results = true, .count = (size_t)extent->value};
  out->items = ts_new_array(c->e->S->a, fe_value, out->count);
  for (size_t i = 0; i < out->count; i++) TS_TRY(slice_at(c, x, axis, (int64_t)i, &out->items[i]));
  return TS_OK;
}

static ts_status build_concat(call *c, fe_value *out) {
  const fe_value *list = &c->arg[0];
  if (!list->count) return FAIL(c, spec_call, "concat of nothing");
  ir_value **operand = ts_new_array(c->e->S->a, ir_value *, list->count);
  unsigned axis = 0;
  const ir_size *shape[IR_MAX_RANK];
  for (size_t i = 0; i < list->count; i++) {
    const fe_value *v = &list->items[i];
    if (v->kind != FE_V_TENSOR) return FAIL(c, spec_type, "part %zu is %s", i, fe_value_kind_name(v));
    const ir_type *t = type_of(v), *first = type_of(&list->items[0]);
    if (i == 0) TS_TRY(axis_of(c, v, c->arg[1].integer, &axis));
    TS_TRY(same_type(c, &list->items[0], v, "the parts"));
    bool fits = t->rank == first->rank;
    for (unsigned d = 0; fits && d < t->rank; d++) fits = d == axis || t->shape[d] == first->shape[d];
    if (!fits) return FAIL(c, spec_shape, "%s and %s differ in more than axis %u", type_text(c->e, first), type_text(c->e, t), axis);
    if (i == 0) memcpy(shape, t->shape, t->rank * sizeof *shape);
    else shape[axis] = ir_size_add(c->e->S->m->sizes, shape[axis], t->shape[axis]);
    operand[i] = v->tensor;
  }
  const ir_type *t = type_of(&list->items[0]);
  ir_op *op = build(c, IR_OP_concat_t, (uint32_t)list->count, operand, tensor(c, t->dtype, t->rank, shape));
  ir_set_int(&c->e->f->b, op, "axis", axis);
  return give(out, op);
}

// ---- tables, states, attention --------------------------------------------------------------------------------------------
static ts_status build_gather(call *c, fe_value *out) {
  const ir_type *t = type_of(&c->arg[0]), *ids = type_of(&c->arg[1]);
  if (!ir_is_int(ids->dtype)) return FAIL(c, spec_type, "ids must be integers, not %s", type_text(c->e, ids));
  if (t->rank < 1 || ids->rank + t->rank - 1 > IR_MAX_RANK) return FAIL(c, spec_shape, "gather(table[v, ...], ids): the table is %s", type_text(c->e, t));
  const ir_size *shape[IR_MAX_RANK];
  unsigned rank = 0;
  for (unsigned i = 0; i < ids->rank; i++) shape[rank++] = ids->shape[i];
  for (unsigned i = 1; i < t->rank; i++) shape[rank++] = t->shape[i];
  return give(out, build(c, IR_OP_gather, 2, (ir_value *[]){c->arg[0].tensor, c->arg[1].tensor}, tensor(c, t->dtype, rank, shape)));
}

static ts_status build_rope(call *c, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]), *pos = type_of(&c->arg[1]);
  TS_TRY(need_float(c, &c->arg[0], "x"));
  bool fits = ir_is_int(pos->dtype) && x->rank == pos->rank + 2;
  for (unsigned i = 0; fits && i < pos->rank; i++) fits = x->shape[i] == pos->shape[i];
  if (!fits) return FAIL(c, spec_shape, "rope(x[..., heads, d], pos[...]): x is %s, pos is %s", type_text(c->e, x), type_text(c->e, pos));
  ts_sym pairs = c->arg[3].sym;
  if (strcmp(pairs, "adjacent") != 0 && strcmp(pairs, "half") != 0) return FAIL(c, spec_value, "pairs is adjacent or half, not '%s'", pairs);
  const ir_size *d = x->shape[x->rank - 1];
  if (!ir_size_is_const(d) || d->value % 2) return FAIL(c, spec_shape, "the head size must be even, not as in %s", type_text(c->e, x));
  if (!(c->arg[2].real > 0)) return FAIL(c, spec_range, "theta must be above 0");
  ir_op *op = build(c, IR_OP_rope, 2, (ir_value *[]){c->arg[0].tensor, c->arg[1].tensor}, tensor(c, x->dtype, x->rank, x->shape));
  ir_set_real(&c->e->f->b, op, "theta", c->arg[2].real);
  ir_set_sym(&c->e->f->b, op, "pairs", pairs);
  return give(out, op);
}

// The dim whose length varies among the rows of [batch, n, ...]: its name, or NULL for exactly one row.
static ts_status rows_dim(call *c, const ir_size *n, ts_sym *over) {
  *over = NULL;
  if (ir_size_is_value(n, 1)) return TS_OK;
  if (n->op == IR_SIZE_SYMBOL)
    for (size_t i = 0; i < c->e->S->m->dims.count; i++)
      if (c->e->S->m->dims.data[i].size == n) return *over = n->name, TS_OK;
  return FAIL(c, spec_unsupported, "new rows come along a run-time dim or one at a time");
}

static ts_status state_layer(call *c, const ir_state *st, int64_t layer) {
  const ir_size *layers = st->fields.data[0].shape[0];
  if (layer >= 0 && (!ir_size_is_const(layers) || layer < layers->value)) return TS_OK;
  return FAIL(c, spec_range, "layer %lld of state '%s', which has %lld", (long long)layer, st->name, (long long)layers->hi);
}

static ts_status build_append(call *c, fe_value *out) {
  const ir_state *st = c->arg[0].state;
  fe_function_state *f = c->e->f;
  TS_TRY(state_layer(c, st, c->arg[1].integer));
  if (!c->extra.count) return FAIL(c, spec_call, "append needs fields, like k=..., v=...");
  ir_value **operand = ts_new_array(c->e->S->a, ir_value *, c->extra.count + 1);
  operand[0] = fe_state_value(c->e, st);
  ts_sym over = NULL;
  for (size_t i = 0; i < c->extra.count; i++) {
    const ir_state_field *field = NULL;
    for (size_t k = 0; k < st->fields.count; k++)
      if (st->fields.data[k].name == c->extra_name.data[i]) field = &st->fields.data[k];
    if (!field) return FAIL(c, spec_name, "state '%s' has no field '%s'", st->name, c->extra_name.data[i]);
    const ir_type *t = type_of(&c->extra.data[i]);
    bool fits = t->rank == field->rank + 1;
    for (unsigned d = 1; fits && d < field->rank; d++) fits = t->shape[d + 1] == field->shape[d];
    if (!fits) return FAIL(c, spec_shape, "rows of %s.%s don't fit %s: [%s, rows, ...]", st->name, field->name, type_text(c->e, t), st->list);
    TS_TRY(rows_dim(c, t->shape[1], &over));
    operand[i + 1] = c->extra.data[i].tensor;
  }
  ir_op *op = build(c, IR_OP_append, (uint32_t)c->extra.count + 1, operand, NULL);
  ir_set_int(&f->b, op, "layer", c->arg[1].integer);
  ir_set_axes(&f->b, op, "fields", (uint32_t)c->extra.count, c->extra_name.data);
  if (over) ir_set_sym(&f->b, op, "over", over);
  *out = (fe_value){.kind = FE_V_LIST, .results = true};
  for (size_t i = 0; i < f->f->advances.count; i++)
    if (f->f->advances.data[i] == st->name) return f->f->advance_by.data[i] == over ? TS_OK : FAIL(c, spec_shape, "appends to '%s' differ in their rows", st->name);
  ts_vec_push(c->e->S->a, &f->f->advances, st->name);
  ts_vec_push(c->e->S->a, &f->f->advance_by, over);
  return TS_OK;
}

static ts_status build_positions(call *c, fe_value *out) {
  const ir_state *st = c->arg[0].state;
  ts_sym over;
  const ir_size *n = c->arg[1].kind == FE_V_SIZE ? c->arg[1].size : ir_size_const(c->e->S->m->sizes, c->arg[1].integer);
  TS_TRY(rows_dim(c, n, &over));
  const ir_size *lists = fe_dim_size(c->e, fe_find_dim(c->e->S, st->list));
  if (!lists) return TS_INVALID;
  const ir_size *shape[2] = {lists, n};
  ir_value *s = fe_state_value(c->e, st);
  ir_op *op = build(c, IR_OP_positions, 1, &s, tensor(c, IR_i32, 2, shape));
  if (over) ir_set_sym(&c->e->f->b, op, "over", over);
  return give(out, op);
}

static ts_status build_last(call *c, fe_value *out) {
  const ir_type *x = type_of(&c->arg[0]);
  ts_sym over;
  const ir_size *n = c->arg[1].kind == FE_V_SIZE ? c->arg[1].size : ir_size_const(c->e->S->m->sizes, c->arg[1].integer);
  if (x->rank < 2 || x->shape[1] != n) return FAIL(c, spec_shape, "last(x[batch, dim, ...], dim): x is %s", type_text(c->e, x));
  TS_TRY(rows_dim(c, n, &over));
  const ir_size *shape[IR_MAX_RANK];
  shape[0] = x->shape[0];
  for (unsigned i = 2; i < x->rank; i++) shape[i - 1] = x->shape[i];
  if (!over) return give(out, reshape_to(c, c->arg[0].tensor, x->rank - 1, shape));
  ir_op *op = build(c, IR_OP_last, 1, &c->arg[0].tensor, tensor(c, x->dtype, x->rank - 1, shape));
  ir_set_sym(&c->e->f->b, op, "over", over);
  return give(out, op);
}

static ts_status attend_state(call *c, fe_value *out) {
  const ir_type *q = type_of(&c->arg[0]);
  const ir_state *st = c->arg[1].state;
  if (!c->given[2] || c->arg[2].kind != FE_V_INT) return FAIL(c, spec_call, "attend(q, state, layer, ...) needs the number of the layer");
  int64_t layer = c->arg[2].integer;
  TS_TRY(state_layer(c, st, layer));
  if (st->fields.count != 2 || st->fields.data[0].rank != 3 || st->fields.data[1].rank != 3)
    return FAIL(c, spec_shape, "attention reads a state with two fields, keys and values, of [layers, kv_heads, head_dim]");
  const ir_state_field *k = &st->fields.data[0], *v = &st->fields.data[1];
  bool fits = q->rank == 4 && k->shape[2] == q->shape[3] && k->shape[1] == v->shape[1] && ir_size_is_const(q->shape[2]) && ir_size_is_const(k->shape[1]) &&
              k->shape[1]->value > 0 && q->shape[2]->value % k->shape[1]->value == 0;
  if (!fits) return FAIL(c, spec_shape, "q is %s: [batch, rows, heads, head_dim], heads a multiple of the KV heads", type_text(c->e, q));
  const ir_size *shape[4] = {q->shape[0], q->shape[1], q->shape[2], v->shape[2]};
  ts_sym over;
  TS_TRY(rows_dim(c, q->shape[1], &over));
  ir_op *op = build(c, IR_OP_attend, 2, (ir_value *[]){c->arg[0].tensor, fe_state_value(c->e, st)}, tensor(c, q->dtype, 4, shape));
  ir_set_int(&c->e->f->b, op, "layer", layer);
  if (over) ir_set_sym(&c->e->f->b, op, "over", over);
  return give(out, op);
}

static ts_status attend_dense(call *c, fe_value *out) {
  const ir_type *q = type_of(&c->arg[0]), *k, *v;
  if (c->arg[1].kind != FE_V_TENSOR || !c->given[2] || c->arg[2].kind != FE_V_TENSOR) return FAIL(c, spec_call, "attend takes (q, state, layer) or (q, k, v)");
  k = type_of(&c->arg[1]), v = type_of(&c->arg[2]);
  bool fits = q->rank == 4 && k->rank == 4 && v->rank == 4 && k->shape[0] == q->shape[0] && v->shape[0] == q->shape[0] && k->shape[1] == v->shape[1] &&
              k->shape[2] == v->shape[2] && k->shape[3] == q->shape[3] && ir_size_is_const(q->shape[2]) && ir_size_is_const(k->shape[2]) &&
              k->shape[2]->value > 0 && q->shape[2]->value % k->shape[2]->value == 0;
  if (!fits) return FAIL(c, spec_shape, "q is %s, k %s, v %s: [batch, rows, heads, d], heads a multiple of the KV heads", type_text(c->e, q), type_text(c->e, k), type_text(c->e, v));
  const ir_size *shape[4] = {q->shape[0], q->shape[1], q->shape[2], v->shape[3]};
  ir_op *op = build(c, IR_OP_attend, 3, (ir_value *[]){c->arg[0].tensor, c->arg[1].tensor, c->arg[2].tensor}, tensor(c, q->dtype, 4, shape));
  if (ragged(c->e->S, k->shape[1])) ir_set_sym(&c->e->f->b, op, "over", k->shape[1]->name);
  return give(out, op);
}

static ts_status build_attend(call *c, fe_value *out) {
  TS_TRY(need_float(c, &c->arg[0], "q"));
  ts_sym mask = c->arg[3].sym;
  if (strcmp(mask, "causal") != 0 && strcmp(mask, "ragged") != 0 && strcmp(mask, "none") != 0) return FAIL(c, spec_value, "mask is causal, ragged or none, not '%s'", mask);
  TS_TRY(c->arg[1].kind == FE_V_STATE ? attend_state(c, out) : attend_dense(c, out));
  ir_op *op = out->tensor->producer;
  ir_set_sym(&c->e->f->b, op, "mask", mask);
  ir_set_real(&c->e->f->b, op, "scale", c->arg[4].real);
  return TS_OK;
}

// ---- calls ----------------------------------------------------------------------------------------------------------------
static const op_row ops[] = {
#define FE_OP(name, signature, fn, doc) {#name, signature, fn, doc},
#include "frontend/spec_ops.def"
#undef FE_OP
};
enum { OPS = sizeof ops / sizeof *ops };

static const op_row *op_find(ts_sym name) {
  for (int i = 0; i < OPS; i++)
    if (strcmp(ops[i].name, name) == 0) return &ops[i];
  return NULL;
}
bool fe_is_op(ts_sym name) { return op_find(name) || strcmp(name, "repeat") == 0; }

typedef struct parameter {
  char name[16], kind;
  bool optional;
} parameter;

static int signature(const op_row *row, parameter *out, bool *extra) {
  int n = 0;
  *extra = false;
  for (const char *p = row->signature; *p;) {
    if (*p == '*') {
      *extra = true;
      break;
    }
    size_t len = (size_t)(strchr(p, ':') - p);
    snprintf(out[n].name, sizeof out[n].name, "%.*s", (int)len, p);
    out[n].kind = p[len + 1];
    p += len + 2;
    out[n].optional = *p == '?';
    p += out[n].optional;
    while (*p == ' ') p++;
    n++;
  }
  return n;
}

static ts_status fit(call *c, const op_row *row, const parameter *p, const fe_ex *x, fe_value *v) {
  static const struct {
    char kind;
    const char *what;
    fe_value_kind takes;
  } kinds[] = {{'T', "a tensor", FE_V_TENSOR}, {'O', "a tensor", FE_V_TENSOR}, {'R', "a number", FE_V_REAL}, {'I', "an integer", FE_V_INT},
               {'S', "a state", FE_V_STATE}, {'D', "a dim", FE_V_SIZE}, {'L', "a list", FE_V_LIST}, {'C', "a name", FE_V_CHOICE}};
  if (p->kind == 'C' && x->kind == FE_EX_NAME) {
    bool found;
    TS_TRY(fe_lookup(c->e, x->name, x->loc, &found, v));
    if (!found || v->kind != FE_V_CHOICE) *v = (fe_value){.kind = FE_V_CHOICE, .sym = x->name};
    return TS_OK;
  }
  TS_TRY(fe_eval(c->e, x, v));
  if (p->kind == 'A') return TS_OK;
  if (p->kind == 'O' && v->kind == FE_V_ABSENT) return TS_OK;
  if (p->kind == 'R' && v->kind == FE_V_INT) *v = (fe_value){.kind = FE_V_REAL, .real = (double)v->integer};
  if (p->kind == 'D' && v->kind == FE_V_INT) return TS_OK;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (kinds[i].kind != p->kind) continue;
    if (v->kind == kinds[i].takes && !v->results) return TS_OK;
    ts_status s = FE_ERROR(c->e->S, x->loc, spec_type, "%s of %s must be %s, not %s", p->name, row->name, kinds[i].what, fe_value_kind_name(v));
    if (v->kind == FE_V_ABSENT) ts_note(c->e->S->d, x->loc, "the file lacks this optional weight; only '+' and optional operands drop it");
    return s;
  }
  return TS_OK;
}

static ts_status call_op(fe_env *e, const fe_ex *x, const op_row *row, fe_value *out) {
  parameter p[MAX_ARGS];
  bool extra;
  int count = signature(row, p, &extra);
  call c = {.e = e, .x = x, .loc = x->loc};
  for (size_t i = 0; i < x->args.count; i++) {
    const fe_arg *a = &x->args.data[i];
    int k = a->keyword ? -1 : (int)i;
    for (int n = 0; a->keyword && n < count; n++)
      if (strcmp(p[n].name, a->keyword) == 0) k = n;
    if (a->keyword && row->build == build_attend && strcmp(a->keyword, "layer") == 0) k = 2;
    if (a->keyword && k < 0 && extra) {
      fe_value v;
      parameter t = {.kind = 'T'};
      snprintf(t.name, sizeof t.name, "%.15s", a->keyword);
      TS_TRY(fit(&c, row, &t, a->value, &v));
      ts_vec_push(e->S->a, &c.extra_name, a->keyword);
      ts_vec_push(e->S->a, &c.extra, v);
      continue;
    }
    if (k < 0 || k >= count) {
      ts_status s = a->keyword ? FE_ERROR(e->S, a->loc, spec_call, "%s has no argument '%s'", row->name, a->keyword)
                               : FE_ERROR(e->S, a->loc, spec_call, "%s takes %d arguments", row->name, count);
      ts_note(e->S->d, x->loc, "%s(%s): %s", row->name, row->signature, row->doc);
      return s;
    }
    if (c.given[k]) return FE_ERROR(e->S, a->loc, spec_call, "the argument %s of %s is here twice", p[k].name, row->name);
    TS_TRY(fit(&c, row, &p[k], a->value, &c.arg[k]));
    c.given[k] = true;
  }
  for (int i = 0; i < count; i++)
    if (!c.given[i] && !p[i].optional) {
      ts_status s = FE_ERROR(e->S, x->loc, spec_call, "%s lacks its argument %s", row->name, p[i].name);
      ts_note(e->S->d, x->loc, "%s(%s): %s", row->name, row->signature, row->doc);
      return s;
    }
  return row->build(&c, out);
}

ts_status fe_call(fe_env *e, const fe_ex *x, fe_value *out) {
  fe_spec *S = e->S;
  ts_sym name = x->name;
  bool found = false;
  fe_value v = {0};
  if (!op_find(name)) TS_TRY(fe_lookup(e, name, x->loc, &found, &v));
  if (found && v.kind == FE_V_CHOICE) {   // a choice whose values are ops can be called
    if (strcmp(v.sym, "none") == 0) {
      if (x->args.count != 1) return FE_ERROR(S, x->loc, spec_call, "%s is none here, which takes one value", name);
      return fe_eval(e, x->args.data[0].value, out);
    }
    name = v.sym;
  }
  const op_row *row = op_find(name);
  if (row) return call_op(e, x, row, out);
  if (strcmp(name, "repeat") == 0) return fe_call_repeat(e, x, out);
  fe_module_decl *module = fe_find_module(S, name);
  if (module) return fe_call_module(e, x, module, x == e->entry_call ? e->entry : NULL, out);
  ts_status s = FE_ERROR(S, x->loc, spec_name, "no op or module is called '%s'", name);
  TS_VEC(const char *) known = {0};
  for (int i = 0; i < OPS; i++) ts_vec_push(S->a, &known, ops[i].name);
  for (size_t i = 0; i < S->modules.count; i++) ts_vec_push(S->a, &known, S->modules.data[i]->name);
  fe_suggest(S, x->loc, ts_str_of(name), known.data, known.count);
  return s;
}

void fe_doc_ops(ts_text *out) {
  ts_text_puts(out, "| op | arguments | meaning |\n| --- | --- | --- |\n");
  for (int i = 0; i < OPS; i++) {
    parameter p[MAX_ARGS];
    bool extra;
    int count = signature(&ops[i], p, &extra);
    ts_text_printf(out, "| `%s` | ", ops[i].name);
    for (int k = 0; k < count; k++) ts_text_printf(out, "%s%s%s", k ? ", " : "", p[k].name, p[k].optional ? "?" : "");
    ts_text_printf(out, "%s | %s |\n", extra ? ", field=..." : "", ops[i].doc);
  }
}
