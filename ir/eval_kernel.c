// Evaluator of kernels of both stages: control flow, blocks, buffers. Every value has a slot that its op fills anew each time.
#include "ir/eval_priv.h"

#include "base/checked.h"

#include <stdlib.h>

ts_status eval_bad(eval_kernel *e, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = ts_arena_vprintf(e->m->arena, fmt, ap);
  va_end(ap);
  ts_loc loc = e->op ? e->op->loc : e->k->loc;
  ts_status s = ts_report(e->m->diags, loc, &diag_ir_eval, "%s%s%s", e->op ? ir_op_get(e->op->code)->name : e->k->name, ": ",
                          text);
  if (e->op && e->k->stage == IR_STAGE_S)
    ts_note(e->m->diags, e->k->loc, "in kernel '%s', block (%lld, %lld, %lld)", e->k->name, (long long)e->block[0],
            (long long)e->block[1], (long long)e->block[2]);
  return s;
}

ts_status eval_size(eval_kernel *e, const ir_size *s, int64_t *out) {
  if (ir_size_is_const(s)) {
    *out = s->value;
    return TS_OK;
  }
  ts_status status = ir_size_eval(s, e->o->symbols, e->o->symbol_count, out);
  if (status == TS_OK) return TS_OK;
  ts_text t = {0};
  ir_size_print(s, &t);
  ts_status r = eval_bad(e, status == TS_NOT_FOUND ? "no value is bound to a symbol of %s" : "%s is outside its bounds",
                         ts_text_z(&t));
  ts_text_deinit(&t);
  return r;
}

static ts_status reserve(eval_kernel *e, eval_tile *t, int64_t count) {
  if (count < 0 || count > INT64_C(1) << 34) return eval_bad(e, "a value of %lld elements", (long long)count);
  size_t n = (size_t)count;
  if (n > t->capacity || !t->data) {
    free(t->data);
    t->capacity = n ? n : 1;
    t->data = malloc(t->capacity * sizeof *t->data);
    if (!t->data) {
      t->capacity = 0;
      eval_bad(e, "out of memory for a value of %lld elements", (long long)count);
      return TS_OUT_OF_MEMORY;
    }
  }
  t->count = n;
  return TS_OK;
}

ts_status eval_result(eval_kernel *e, const ir_value *v, eval_tile **out) {
  eval_tile *t = eval_slot(e, v);
  int64_t n = 1;
  t->type = v->type;
  t->rank = v->type->rank;
  if (t->rank > EVAL_MAX_RANK || v->type->kind != IR_TYPE_TILE)
    return eval_bad(e, "a result that is no tile of at most %d axes", EVAL_MAX_RANK);
  for (unsigned i = 0; i < t->rank; i++) {
    TS_TRY(eval_size(e, v->type->shape[i], &t->shape[i]));
    if (t->shape[i] < 0 || !ts_mul_i64(n, t->shape[i], &n)) return eval_bad(e, "an extent of %lld", (long long)t->shape[i]);
  }
  *out = t;
  return reserve(e, t, n);
}

static ts_status assign(eval_kernel *e, eval_tile *to, const eval_tile *from) {
  to->type = from->type;
  to->rank = from->rank;
  memcpy(to->shape, from->shape, sizeof to->shape);
  TS_TRY(reserve(e, to, (int64_t)from->count));
  memcpy(to->data, from->data, from->count * sizeof *to->data);
  return TS_OK;
}

// ---- control -------------------------------------------------------------------------------------------------------------
static ts_status run_region(eval_kernel *e, const ir_region *r);

// Values of a yield become those of other slots, all at once (they may be each other's).
static ts_status move_values(eval_kernel *e, const ir_op *yield, ir_value *const *to, uint32_t count) {
  eval_tile few[8] = {{0}}, *copy = count <= 8 ? few : calloc(count, sizeof *copy);
  if (!copy) return TS_OUT_OF_MEMORY;
  ts_status s = TS_OK;
  for (uint32_t i = 0; i < count && s == TS_OK; i++) s = assign(e, &copy[i], eval_slot(e, yield->operands[i]));
  for (uint32_t i = 0; i < count; i++) {
    eval_tile *t = eval_slot(e, to[i]), old = *t;
    if (s == TS_OK) {
      *t = copy[i];
      t->type = to[i]->type;
      copy[i] = old;
    }
    free(copy[i].data);
  }
  if (copy != few) free(copy);
  return s;
}

static ts_status op_for(eval_kernel *e, const ir_op *op) {
  const ir_region *r = op->regions[0];
  uint32_t carried = op->result_count;
  int64_t lo = eval_slot(e, op->operands[0])->data[0].i, hi = eval_slot(e, op->operands[1])->data[0].i,
          step = eval_slot(e, op->operands[2])->data[0].i;
  if (step < 1) return eval_bad(e, "a step of %lld", (long long)step);
  for (uint32_t i = 0; i < carried; i++) TS_TRY(assign(e, eval_slot(e, r->params[1 + i]), eval_slot(e, op->operands[3 + i])));
  for (int64_t i = lo; i < hi; i += step) {
    eval_tile *index;
    TS_TRY(eval_result(e, r->params[0], &index));
    index->data[0].i = i;
    TS_TRY(run_region(e, r));
    if (carried) TS_TRY(move_values(e, r->last, r->params + 1, carried));
    if (i > INT64_MAX - step) break;
  }
  e->op = op;
  for (uint32_t i = 0; i < carried; i++) TS_TRY(assign(e, eval_slot(e, op->results[i]), eval_slot(e, r->params[1 + i])));
  return TS_OK;
}

static ts_status op_if(eval_kernel *e, const ir_op *op) {
  const ir_region *r = op->regions[eval_slot(e, op->operands[0])->data[0].i ? 0 : 1];
  TS_TRY(run_region(e, r));
  return op->result_count ? move_values(e, r->last, op->results, op->result_count) : TS_OK;
}

static void op_raise(eval_kernel *e, const ir_op *op) {
  const eval_tile *t = eval_slot(e, op->operands[0]);
  bool any = false;
  for (size_t i = 0; i < t->count; i++) any |= t->data[i].i != 0;
  if (any && e->raised && !e->raised->raised)
    *e->raised = (ir_eval_raised){true, ir_attr_int(op, "code", 0), ir_attr_sym(op, "text")};
}

static ts_status run_op(eval_kernel *e, const ir_op *op) {
  bool known = true;
  e->op = op;
  switch (op->code) {
    case IR_OP_for: return op_for(e, op);
    case IR_OP_if: return op_if(e, op);
    case IR_OP_yield: return TS_OK;
    case IR_OP_raise: op_raise(e, op); return TS_OK;
    default: break;
  }
  ts_status s = eval_values_op(e, op, &known);
  if (!known) s = eval_sums_op(e, op, &known);
  if (!known) s = eval_memory_op(e, op, &known);
  return known ? s : eval_bad(e, "this op has no evaluator in kernels");
}

static ts_status run_region(eval_kernel *e, const ir_region *r) {
  for (const ir_op *op = r->first; op; op = op->next) TS_TRY(run_op(e, op));
  return TS_OK;
}

// ---- set-up --------------------------------------------------------------------------------------------------------------
static void number_region(eval_kernel *e, const ir_region *r) {
  if (!r) return;
  for (uint32_t i = 0; i < r->param_count; i++) r->params[i]->number = (uint32_t)e->slot_count++;
  for (const ir_op *op = r->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->result_count; i++) op->results[i]->number = (uint32_t)e->slot_count++;
    for (uint32_t i = 0; i < op->region_count; i++) number_region(e, op->regions[i]);
  }
}

static ts_status open_buffer(eval_kernel *e, size_t i, const ir_eval_buffer *b) {
  const ir_value *p = e->k->params.data[i].value;
  const ir_type *t = p->type;
  const char *name = p->name ? p->name : "?";
  eval_memory *m = calloc(1, sizeof *m);
  if (!m) return TS_OUT_OF_MEMORY;
  eval_slot(e, p)->memory = m;
  eval_slot(e, p)->type = t;
  *m = (eval_memory){.type = t,
                     .rank = t->rank,
                     .bytes = b->data,
                     .size = b->bytes,
                     .wide = b->wide,
                     .writable = e->k->params.data[i].role != IR_PARAM_IN};
  if (t->rank > EVAL_MAX_RANK) return eval_bad(e, "parameter '%s' has too many dimensions", name);
  int64_t step = 1, last = 0, zero = 0;
  for (unsigned d = t->rank; d-- > 0;) {
    TS_TRY(eval_size(e, t->shape[d], &m->shape[d]));
    m->stride[d] = t->strides ? t->strides[d] : step;
    if (m->shape[d] < 0 || m->stride[d] < 0 || !ts_mul_i64(step, m->shape[d], &step))
      return eval_bad(e, "parameter '%s' is too large", name);
    int64_t reach;
    if (!ts_mul_i64(m->shape[d] - 1, m->stride[d], &reach) || !ts_add_i64(last, reach, &last))
      return eval_bad(e, "parameter '%s' is too large", name);
    zero |= m->shape[d] == 0;
  }
  int64_t bytes, elements = zero ? 0 : last + 1;
  if (eval_encoded(t) && !m->wide) {
    if (t->rank > IR_MAX_RANK) return eval_bad(e, "parameter '%s' has too many dimensions", name);
    TS_TRY(ir_encoding_bind(t->encoding, t->rank, m->shape, e->k->loc, e->m->diags, &m->bound));
    bytes = m->bound.bytes;
  } else {
    bool wide = m->wide = m->wide && ir_is_float(t->dtype);
    int64_t bits;
    if (!ts_mul_i64(elements, wide ? 64 : (int64_t)ir_dtype_bits(t->dtype), &bits))
      return eval_bad(e, "parameter '%s' is too large", name);
    bytes = bits / 8 + (bits % 8 != 0);
    if (e->d == IR_DOMAIN_MODP && m->writable && ir_is_float(t->dtype) && !wide)
      return eval_bad(e, "parameter '%s' needs a wide buffer in the prime field", name);
  }
  if ((uint64_t)bytes > m->size || (bytes && !m->bytes))
    return eval_bad(e, "the buffer of parameter '%s' has %zu bytes where %lld belong", name, m->size, (long long)bytes);
  return TS_OK;
}

static void free_slot(eval_tile *t) {
  free(t->data);
  eval_memory_free(t->memory);
  *t = (eval_tile){0};
}

static void free_region(eval_kernel *e, const ir_region *r) {
  for (uint32_t i = 0; r && i < r->param_count; i++) free_slot(eval_slot(e, r->params[i]));
  for (const ir_op *op = r ? r->first : NULL; op; op = op->next) {
    for (uint32_t i = 0; i < op->result_count; i++) free_slot(eval_slot(e, op->results[i]));
    for (uint32_t i = 0; i < op->region_count; i++) free_region(e, op->regions[i]);
  }
}

// ---- portable kernels ----------------------------------------------------------------------------------------------------
static ts_status run_part(eval_kernel *e, const ir_part *p) {
  const ir_op *init = p->init ? p->init->last : NULL;
  if (init && init->code != IR_OP_yield) init = NULL;
  uint32_t count = init ? init->operand_count : 0;
  const ir_op *state = init;
  if (p->init) TS_TRY(run_region(e, p->init));
  if (p->update && p->update->first) {
    if (count) TS_TRY(move_values(e, init, p->update->params, count));
    TS_TRY(run_region(e, p->update));
    state = p->update->last;
  }
  if (p->finish && p->finish->first) {
    if (count && p->finish->param_count) TS_TRY(move_values(e, state, p->finish->params, count));
    free_region(e, p->init);
    if (p->update) free_region(e, p->update);
    TS_TRY(run_region(e, p->finish));
  }
  return TS_OK;
}

// ---- scheduled kernels ---------------------------------------------------------------------------------------------------
static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
  return x ^ x >> 31;
}

static ts_status run_grid(eval_kernel *e) {
  int64_t g[3], total = 1;
  for (int i = 0; i < 3; i++) {
    TS_TRY(eval_size(e, e->k->grid[i], &g[i]));
    if (g[i] < 0 || !ts_mul_i64(total, g[i], &total))
      return eval_bad(e, "a grid of %lld blocks along axis %d", (long long)g[i], i);
  }
  uint32_t *order = NULL;
  if (e->o->order) {
    if (total > INT64_C(1) << 26) return eval_bad(e, "a grid too large to permute");
    order = malloc(((size_t)total + 1) * sizeof *order);
    if (!order) return TS_OUT_OF_MEMORY;
    for (int64_t i = 0; i < total; i++) order[i] = (uint32_t)i;
    for (int64_t i = total; i-- > 1;) {
      int64_t k = (int64_t)(mix(e->o->order + (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15)) % (uint64_t)(i + 1));
      uint32_t t = order[i];
      order[i] = order[k];
      order[k] = t;
    }
  }
  ts_status s = TS_OK;
  for (int64_t i = 0; i < total && s == TS_OK; i++) {
    int64_t b = order ? order[i] : i;
    e->block[0] = b % g[0];
    e->block[1] = b / g[0] % g[1];
    e->block[2] = b / g[0] / g[1];
    e->pending_count = 0;
    e->groups = 0;
    s = run_region(e, e->k->body);
  }
  free(order);
  return s;
}

ts_status ir_eval_kernel(ir_module *m, const ir_kernel *k, const ir_eval_buffer *buffers, size_t count, const ir_eval_options *o,
                         ir_eval_raised *raised) {
  eval_kernel e = {.m = m, .k = k, .o = o, .d = o->domain, .raised = raised};
  if (raised) *raised = (ir_eval_raised){0};
  if (count != k->params.count) return eval_bad(&e, "%zu buffers for %zu parameters", count, k->params.count);
  for (size_t i = 0; i < k->params.count; i++) k->params.data[i].value->number = (uint32_t)e.slot_count++;
  for (size_t i = 0; i < k->parts.count; i++) {
    number_region(&e, k->parts.data[i].init);
    number_region(&e, k->parts.data[i].update);
    number_region(&e, k->parts.data[i].finish);
  }
  number_region(&e, k->body);
  e.slots = calloc(e.slot_count + 1, sizeof *e.slots);
  if (!e.slots) return TS_OUT_OF_MEMORY;
  ts_status s = TS_OK;
  for (size_t i = 0; i < count && s == TS_OK; i++) s = open_buffer(&e, i, &buffers[i]);
  for (size_t i = 0; i < k->parts.count && s == TS_OK; i++) {
    s = run_part(&e, &k->parts.data[i]);
    free_region(&e, k->parts.data[i].init);
    free_region(&e, k->parts.data[i].update);
    free_region(&e, k->parts.data[i].finish);
  }
  if (s == TS_OK && k->stage == IR_STAGE_S) s = run_grid(&e);
  for (size_t i = 0; i < e.slot_count; i++) free_slot(&e.slots[i]);
  free(e.slots);
  free(e.pending);
  return s;
}
