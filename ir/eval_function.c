// Evaluator of tensor IR: a function op by op; values are freed after their last use. Dense arithmetic is in eval_dense.c, states
// and attention in eval_state.c; here are the driver and the ops that only move elements.
#include "ir/eval_priv.h"
#include "ir/weights.h"

#include "base/checked.h"

#include <stdlib.h>

ts_status eval_call_bad(eval_call *e, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = ts_arena_vprintf(e->m->arena, fmt, ap);
  va_end(ap);
  return ts_report(e->m->diags, e->op ? e->op->loc : e->f->loc, &diag_ir_eval, "%s: %s",
                   e->op ? ir_op_get(e->op->code)->name : e->f->name, text);
}

static ts_status size_value(eval_call *e, const ir_size *s, int64_t *out) {
  ts_status status = ir_size_eval(s, e->symbols, e->symbol_count, out);
  if (status == TS_OK) return TS_OK;
  ts_text t = {0};
  ir_size_print(s, &t);
  ts_status r = eval_call_bad(e, status == TS_NOT_FOUND ? "no input gives a value to a symbol of %s" : "%s is outside its bounds",
                              ts_text_z(&t));
  ts_text_deinit(&t);
  return r;
}

static ts_status shape_of(eval_call *e, const ir_type *type, ir_eval_tensor *t, size_t *count) {
  int64_t n = 1;
  t->dtype = type->dtype;
  t->rank = type->rank;
  if (type->rank > IR_EVAL_RANK) return eval_call_bad(e, "more than %d dimensions", IR_EVAL_RANK);
  for (unsigned i = 0; i < t->rank; i++) {
    TS_TRY(size_value(e, type->shape[i], &t->shape[i]));
    if (t->shape[i] < 0 || !ts_mul_i64(n, t->shape[i], &n) || n > INT64_C(1) << 34)
      return eval_call_bad(e, "a tensor that is too large");
  }
  *count = (size_t)n;
  return TS_OK;
}

static ts_status allocate(eval_call *e, eval_tensor *t) {
  t->t.data = malloc((t->count ? t->count : 1) * sizeof(ir_cell));
  if (t->t.data) return TS_OK;
  eval_call_bad(e, "out of memory for %zu elements", t->count);
  return TS_OUT_OF_MEMORY;
}

ts_status eval_tensor_result(eval_call *e, const ir_op *op, eval_tensor **out) {
  eval_tensor *t = *out = eval_tensor_of(e, op->results[0]);
  TS_TRY(shape_of(e, op->results[0]->type, &t->t, &t->count));
  return allocate(e, t);
}

int64_t eval_tensor_rows(const eval_tensor *t, unsigned from, unsigned to) {
  int64_t n = 1;
  for (unsigned i = from; i < to; i++) n *= t->t.shape[i];
  return n;
}

ts_status eval_weight_rows(eval_call *e, const ir_weight *w, ir_dtype t, int64_t row0, int64_t rows, ir_cell *out) {
  int64_t n = rows * ir_weight_k(w);
  if (n == 0) return TS_OK;
  if (w->source == IR_SOURCE_DATA && !w->planes[0]) return eval_call_bad(e, "weight '%s' has no data", w->name);
  if (e->d == IR_DOMAIN_TYPED && t != IR_f64) {
    float *f = malloc((size_t)n * sizeof *f);
    if (!f) return TS_OUT_OF_MEMORY;
    ts_status s = ir_weight_decode_f32(w, row0, rows, e->m->diags, f);
    for (int64_t i = 0; i < n && s == TS_OK; i++) {
      if (ir_is_float(t)) out[i].r = f[i];
      else out[i].i = (int64_t)f[i];
    }
    free(f);
    eval_round(e->d, t, (size_t)n, out);
    return s;
  }
  double *f = (double *)out;   // a cell is as wide as a double: decoded in place
  TS_TRY(ir_weight_decode_f64(w, row0, rows, e->m->diags, f));
  for (int64_t i = 0; i < n; i++) {
    double v;
    memcpy(&v, &out[i], sizeof v);
    if (!ir_is_float(t)) out[i].i = (int64_t)v;
    else if (e->d == IR_DOMAIN_MODP) out[i].p = ir_modp_of_real(v);
    else out[i].r = v;
  }
  return TS_OK;
}

ts_status eval_tensor_need(eval_call *e, const ir_value *v, eval_tensor **out) {
  eval_tensor *t = *out = eval_tensor_of(e, v);
  if (t->t.data) return TS_OK;
  if (!t->weight) return eval_call_bad(e, "an operand without value");
  TS_TRY(allocate(e, t));
  return eval_weight_rows(e, t->weight, t->t.dtype, 0, ir_weight_rows(t->weight), t->t.data);
}

static const ir_dim *find_dim(const ir_module *m, ts_sym name, size_t *index) {
  for (size_t i = 0; i < m->dims.count; i++)
    if (m->dims.data[i].size->name == name) {
      *index = i;
      return &m->dims.data[i];
    }
  return NULL;
}

int64_t eval_length(const eval_call *e, ts_sym dim, int64_t b, int64_t extent) {
  size_t i;
  if (!dim || !find_dim(e->m, dim, &i) || !e->call->lengths || !e->call->lengths[i]) return extent;
  return e->call->lengths[i][b];
}

// ---- ops that give or move elements --------------------------------------------------------------------------------------
static ts_status op_weight(eval_call *e, const ir_op *op) {
  eval_tensor *t = eval_tensor_of(e, op->results[0]);
  TS_TRY(shape_of(e, op->results[0]->type, &t->t, &t->count));
  for (size_t i = 0; i < e->m->weights.count && !t->weight; i++)
    if (!strcmp(e->m->weights.data[i]->name, ir_attr_sym(op, "name"))) t->weight = e->m->weights.data[i];
  if (!t->weight) return eval_call_bad(e, "the module has no weight '%s'", ir_attr_sym(op, "name"));
  if ((int64_t)t->count != ir_weight_rows(t->weight) * ir_weight_k(t->weight))
    return eval_call_bad(e, "weight '%s' has another shape", t->weight->name);
  return TS_OK;
}

static ts_status op_literal(eval_call *e, const ir_op *op) {
  eval_tensor *t;
  TS_TRY(eval_tensor_result(e, op, &t));
  const ir_attr *real = ir_attr_find(op, "value");
  int64_t v = ir_attr_int(op, "int", 0);
  if (op->code == IR_OP_dim) TS_TRY(size_value(e, ir_attr_find(op, "of")->size, &v));
  if (ir_is_float(t->t.dtype)) t->t.data[0] = ir_eval_real(e->d, t->t.dtype, real ? real->real : (double)v);
  else t->t.data[0].i = ir_wrap(t->t.dtype, v);
  return TS_OK;
}

static ts_status op_iota(eval_call *e, const ir_op *op) {
  eval_tensor *t;
  TS_TRY(eval_tensor_result(e, op, &t));
  unsigned axis = (unsigned)ir_attr_int(op, "axis", 0);
  int64_t inner = eval_tensor_rows(t, axis + 1, t->t.rank);
  for (size_t i = 0; i < t->count; i++) t->t.data[i].i = ir_wrap(t->t.dtype, (int64_t)i / inner % t->t.shape[axis]);
  return TS_OK;
}

static ts_status op_reshape(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  if (x->count != t->count) return eval_call_bad(e, "%zu elements reshaped to %zu", x->count, t->count);
  memcpy(t->t.data, x->t.data, t->count * sizeof(ir_cell));
  return TS_OK;
}

static ts_status op_slice(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  unsigned axis = (unsigned)ir_attr_int(op, "axis", 0);
  int64_t at = ir_attr_int(op, "at", 0), n = ir_attr_int(op, "count", 0);
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  if (at < 0 || n < 0 || at > x->t.shape[axis] - n)
    return eval_call_bad(e, "elements %lld.. of a dimension of %lld", (long long)at, (long long)x->t.shape[axis]);
  int64_t inner = eval_tensor_rows(x, axis + 1, x->t.rank), outer = eval_tensor_rows(x, 0, axis);
  for (int64_t i = 0; i < outer; i++)
    memcpy(t->t.data + i * n * inner, x->t.data + (i * x->t.shape[axis] + at) * inner, (size_t)(n * inner) * sizeof(ir_cell));
  return TS_OK;
}

static ts_status op_concat(eval_call *e, const ir_op *op) {
  eval_tensor *t;
  unsigned axis = (unsigned)ir_attr_int(op, "axis", 0);
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t inner = eval_tensor_rows(t, axis + 1, t->t.rank), outer = eval_tensor_rows(t, 0, axis), at = 0;
  for (uint32_t k = 0; k < op->operand_count; k++) {
    eval_tensor *x;
    TS_TRY(eval_tensor_need(e, op->operands[k], &x));
    int64_t n = x->t.shape[axis];
    if (at + n > t->t.shape[axis]) return eval_call_bad(e, "operands that are longer than the result");
    for (int64_t i = 0; i < outer; i++)
      memcpy(t->t.data + (i * t->t.shape[axis] + at) * inner, x->t.data + i * n * inner, (size_t)(n * inner) * sizeof(ir_cell));
    at += n;
  }
  return TS_OK;
}

static ts_status op_transpose(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  const ir_attr *order = ir_attr_find(op, "order");
  int64_t from[IR_EVAL_RANK], to[IR_EVAL_RANK], own = 1, step = 1;
  for (unsigned d = t->t.rank; d-- > 0;) {
    to[d] = step;
    step *= t->t.shape[d];
  }
  for (unsigned d = x->t.rank; d-- > 0;) {
    for (unsigned r = 0; r < t->t.rank; r++)
      if (order->ints.data[r] == d) from[r] = own;
    own *= x->t.shape[d];
  }
  if (t->count) eval_copy(t->t.rank, t->t.shape, t->t.data, to, x->t.data, from);
  return TS_OK;
}

static ts_status op_last(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t inner = eval_tensor_rows(x, 2, x->t.rank), seq = x->t.shape[1];
  for (int64_t b = 0; b < x->t.shape[0]; b++) {
    int64_t n = eval_length(e, ir_attr_sym(op, "over"), b, seq);
    for (int64_t i = 0; i < inner; i++) t->t.data[b * inner + i] = n > 0 ? x->t.data[(b * seq + n - 1) * inner + i] : eval_zero();
  }
  return TS_OK;
}

static ts_status op_gather(eval_call *e, const ir_op *op) {
  eval_tensor *table = eval_tensor_of(e, op->operands[0]), *ids, *t;
  TS_TRY(eval_tensor_need(e, op->operands[1], &ids));
  TS_TRY(eval_tensor_result(e, op, &t));
  bool lazy = !table->t.data && table->weight && table->t.rank >= 2;
  if (!lazy) TS_TRY(eval_tensor_need(e, op->operands[0], &table));
  int64_t inner = eval_tensor_rows(table, 1, table->t.rank), per = lazy ? inner / ir_weight_k(table->weight) : 1;
  for (size_t i = 0; i < ids->count; i++) {
    int64_t id = ids->t.data[i].i;
    if (id < 0 || id >= table->t.shape[0])
      return eval_call_bad(e, "row %lld of a table of %lld", (long long)id, (long long)table->t.shape[0]);
    ir_cell *to = t->t.data + (int64_t)i * inner;
    if (lazy) TS_TRY(eval_weight_rows(e, table->weight, t->t.dtype, id * per, per, to));
    else memcpy(to, table->t.data + id * inner, (size_t)inner * sizeof(ir_cell));
  }
  return TS_OK;
}

ts_status eval_shape_op(eval_call *e, const ir_op *op, bool *known) {
  *known = true;
  switch (op->code) {
    case IR_OP_weight: return op_weight(e, op);
    case IR_OP_state_ref:
    case IR_OP_ret: return TS_OK;
    case IR_OP_dim:
    case IR_OP_literal: return op_literal(e, op);
    case IR_OP_iota_t: return op_iota(e, op);
    case IR_OP_reshape: return op_reshape(e, op);
    case IR_OP_slice_t: return op_slice(e, op);
    case IR_OP_concat_t: return op_concat(e, op);
    case IR_OP_transpose_t: return op_transpose(e, op);
    case IR_OP_last: return op_last(e, op);
    case IR_OP_gather: return op_gather(e, op);
    default: *known = false; return TS_OK;
  }
}

// ---- driver --------------------------------------------------------------------------------------------------------------
// Numbers values and counts their uses.
static void number_values(eval_call *e) {
  for (size_t i = 0; i < e->f->inputs.count; i++) e->f->inputs.data[i]->number = (uint32_t)e->slot_count++;
  for (const ir_op *op = e->f->body->first; op; op = op->next)
    for (uint32_t i = 0; i < op->result_count; i++) op->results[i]->number = (uint32_t)e->slot_count++;
}

static ts_status bind_inputs(eval_call *e, const ir_eval_tensor *inputs, size_t count) {
  if (count != e->f->inputs.count) return eval_call_bad(e, "%zu inputs where %zu belong", count, e->f->inputs.count);
  for (size_t i = 0; i < count; i++) {
    const ir_value *v = e->f->inputs.data[i];
    const ir_type *type = v->type;
    const char *name = v->name ? v->name : "?";
    if (inputs[i].rank != type->rank || inputs[i].dtype != type->dtype)
      return eval_call_bad(e, "input '%s' has another rank or element type", name);
    for (unsigned d = 0; d < type->rank; d++) {
      const ir_size *s = type->shape[d];
      if (s->op != IR_SIZE_SYMBOL) continue;
      if (e->symbols[s->index] == IR_SIZE_UNBOUND) e->symbols[s->index] = inputs[i].shape[d];
    }
  }
  for (size_t i = 0; i < count; i++) {
    const ir_value *v = e->f->inputs.data[i];
    eval_tensor *t = eval_tensor_of(e, v);
    TS_TRY(shape_of(e, v->type, &t->t, &t->count));
    for (unsigned d = 0; d < t->t.rank; d++)
      if (t->t.shape[d] != inputs[i].shape[d])
        return eval_call_bad(e, "dimension %u of input '%s' is %lld where %lld belongs", d, v->name ? v->name : "?",
                             (long long)inputs[i].shape[d], (long long)t->t.shape[d]);
    TS_TRY(allocate(e, t));
    if (t->count) memcpy(t->t.data, inputs[i].data, t->count * sizeof(ir_cell));
    eval_round(e->d, t->t.dtype, t->count, t->t.data);
  }
  return TS_OK;
}

static void release(eval_tensor *t) {
  free(t->t.data);
  t->t.data = NULL;
}

static ts_status run_ops(eval_call *e, ir_eval_tensor *outputs) {
  for (const ir_op *op = e->f->body->first; op; op = op->next)
    for (uint32_t i = 0; i < op->operand_count; i++) eval_tensor_of(e, op->operands[i])->uses++;
  for (const ir_op *op = e->f->body->first; op; op = op->next) {
    bool known;
    e->op = op;
    ts_status s = eval_shape_op(e, op, &known);
    if (!known) s = eval_dense_op(e, op, &known);
    if (!known) s = eval_state_op(e, op, &known);
    if (!known) return eval_call_bad(e, "this op has no evaluator in functions");
    TS_TRY(s);
    if (op->code == IR_OP_ret) continue;
    for (uint32_t i = 0; i < op->operand_count; i++) {
      eval_tensor *t = eval_tensor_of(e, op->operands[i]);
      if (--t->uses == 0) release(t);
    }
  }
  const ir_op *ret = e->f->body->last;
  for (uint32_t i = 0; i < ret->operand_count; i++) {
    eval_tensor *t;
    TS_TRY(eval_tensor_need(e, ret->operands[i], &t));
    outputs[i] = t->t;
    outputs[i].data = malloc((t->count ? t->count : 1) * sizeof(ir_cell));
    if (!outputs[i].data) return TS_OUT_OF_MEMORY;
    memcpy(outputs[i].data, t->t.data, t->count * sizeof(ir_cell));
  }
  return TS_OK;
}

ts_status ir_eval_function(ir_module *m, const ir_function *f, const ir_eval_call *call, const ir_eval_tensor *inputs,
                           size_t input_count, ir_eval_tensor *outputs) {
  eval_call e = {
      .m = m, .f = f, .call = call, .d = call->domain, .states = call->states, .symbol_count = m->sizes->symbols.count};
  for (size_t i = 0; i < f->outputs.count; i++) outputs[i] = (ir_eval_tensor){0};
  number_values(&e);
  ir_eval_states *own = call->states ? NULL : ir_eval_states_create(m, call->domain);
  if (own) e.states = own;
  e.slots = calloc(e.slot_count + 1, sizeof *e.slots);
  e.symbols = malloc((e.symbol_count + 1) * sizeof *e.symbols);
  ts_status s = e.slots && e.symbols && e.states ? TS_OK : TS_OUT_OF_MEMORY;
  for (size_t i = 0; i < e.symbol_count && s == TS_OK; i++) e.symbols[i] = IR_SIZE_UNBOUND;
  if (s == TS_OK) s = bind_inputs(&e, inputs, input_count);
  if (s == TS_OK) s = run_ops(&e, outputs);
  e.op = NULL;
  if (s == TS_OK) s = eval_states_advance(&e);
  for (size_t i = 0; i < f->outputs.count && s != TS_OK; i++) {
    free(outputs[i].data);
    outputs[i].data = NULL;
  }
  for (size_t i = 0; i < e.slot_count && e.slots; i++) release(&e.slots[i]);
  ir_eval_states_destroy(own);
  free(e.slots);
  free(e.symbols);
  return s;
}
