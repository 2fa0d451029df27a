// Evaluator of tensor IR: states and attention. A state keeps, for each entry of its list, the rows appended so far. Rows that
// a call appends lie behind the length until the function succeeds; then the length advances.
#include "ir/eval_priv.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

typedef struct entry {
  int64_t length, rows;      // rows: room in every field
  ir_cell **field;           // [rows][elements of a row]
} entry;

typedef struct state_store {
  const ir_state *state;
  entry *entries;
  int64_t count;
  int64_t *row;              // elements of a row, by field
} state_store;

struct ir_eval_states {
  const ir_module *m;
  ir_domain d;
  state_store *stores;
  size_t count;
};

ir_eval_states *ir_eval_states_create(const ir_module *m, ir_domain d) {
  ir_eval_states *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  *s = (ir_eval_states){.m = m, .d = d, .count = m->states.count, .stores = calloc(m->states.count + 1, sizeof *s->stores)};
  for (size_t i = 0; i < s->count && s->stores; i++) s->stores[i].state = m->states.data[i];
  if (s->stores) return s;
  free(s);
  return NULL;
}

static void clear_entry(const state_store *s, entry *x) {
  for (size_t f = 0; f < s->state->fields.count && x->field; f++) free(x->field[f]);
  free(x->field);
  *x = (entry){0};
}

void ir_eval_states_destroy(ir_eval_states *s) {
  if (!s) return;
  for (size_t i = 0; i < s->count; i++) {
    for (int64_t b = 0; b < s->stores[i].count; b++) clear_entry(&s->stores[i], &s->stores[i].entries[b]);
    free(s->stores[i].entries);
    free(s->stores[i].row);
  }
  free(s->stores);
  free(s);
}

static state_store *find_store(const ir_eval_states *s, ts_sym name) {
  for (size_t i = 0; i < s->count; i++)
    if (s->stores[i].state->name == name) return &s->stores[i];
  return NULL;
}

int64_t ir_eval_states_length(const ir_eval_states *s, ts_sym state, int64_t b) {
  const state_store *x = find_store(s, state);
  return x && b >= 0 && b < x->count ? x->entries[b].length : 0;
}

void ir_eval_states_reset(ir_eval_states *s, int64_t b) {
  for (size_t i = 0; i < s->count; i++)
    for (int64_t k = 0; k < s->stores[i].count; k++)
      if (b < 0 || k == b) s->stores[i].entries[k].length = 0;
}

static ts_status open_store(eval_call *e, const ir_state *state, int64_t entries, state_store **out) {
  state_store *s = *out = find_store(e->states, state->name);
  if (!s) return eval_call_bad(e, "the states were made for another module");
  if (!s->row) {
    s->row = calloc(state->fields.count + 1, sizeof *s->row);
    if (!s->row) return TS_OUT_OF_MEMORY;
    for (size_t f = 0; f < state->fields.count; f++) {
      s->row[f] = 1;
      for (unsigned d = 0; d < state->fields.data[f].rank; d++) {
        int64_t n;
        if (ir_size_eval(state->fields.data[f].shape[d], e->symbols, e->symbol_count, &n) != TS_OK || n < 0 ||
            !ts_mul_i64(s->row[f], n, &s->row[f]))
          return eval_call_bad(e, "state '%s' has rows of no known size", state->name);
      }
    }
  }
  if (entries > s->count) {
    entry *grown = realloc(s->entries, (size_t)entries * sizeof *grown);
    if (!grown) return TS_OUT_OF_MEMORY;
    memset(grown + s->count, 0, (size_t)(entries - s->count) * sizeof *grown);
    s->entries = grown;
    s->count = entries;
  }
  return TS_OK;
}

static ts_status reserve_rows(eval_call *e, state_store *s, int64_t b, int64_t rows) {
  entry *x = &s->entries[b];
  if (rows > s->state->length->hi)
    return eval_call_bad(e, "list %lld of state '%s' would have %lld rows; at most %lld are allowed", (long long)b,
                         s->state->name, (long long)rows, (long long)s->state->length->hi);
  if (!x->field) x->field = calloc(s->state->fields.count + 1, sizeof *x->field);
  if (!x->field) return TS_OUT_OF_MEMORY;
  if (rows <= x->rows) return TS_OK;
  int64_t room = rows > 2 * x->rows ? rows : 2 * x->rows;
  for (size_t f = 0; f < s->state->fields.count; f++) {
    ir_cell *grown = realloc(x->field[f], (size_t)(room * s->row[f] + 1) * sizeof *grown);
    if (!grown) return TS_OUT_OF_MEMORY;
    memset(grown + x->rows * s->row[f], 0, (size_t)((room - x->rows) * s->row[f]) * sizeof *grown);
    x->field[f] = grown;
  }
  x->rows = room;
  return TS_OK;
}

// Value of a dim of the module in this call; `otherwise` where it has none.
static int64_t dim_value(const eval_call *e, ts_sym name, int64_t otherwise) {
  int64_t v;
  for (size_t i = 0; name && i < e->m->dims.count; i++)
    if (e->m->dims.data[i].size->name == name && ir_size_eval(e->m->dims.data[i].size, e->symbols, e->symbol_count, &v) == TS_OK)
      return v;
  return otherwise;
}

ts_status eval_states_advance(eval_call *e) {
  for (size_t i = 0; i < e->f->advances.count; i++) {
    state_store *s = find_store(e->states, e->f->advances.data[i]);
    if (!s) return eval_call_bad(e, "the states were made for another module");
    ts_sym by = i < e->f->advance_by.count ? e->f->advance_by.data[i] : NULL;
    int64_t extent = dim_value(e, by, 1), entries = dim_value(e, s->state->list, s->count);
    for (int64_t b = 0; b < s->count && b < entries; b++) {
      int64_t n = eval_length(e, by, b, extent);
      TS_TRY(reserve_rows(e, s, b, s->entries[b].length + n));
      s->entries[b].length += n;
    }
  }
  return TS_OK;
}

// ---- positions, append ---------------------------------------------------------------------------------------------------
static ts_status op_positions(eval_call *e, const ir_op *op) {
  eval_tensor *t;
  state_store *s;
  TS_TRY(eval_tensor_result(e, op, &t));
  TS_TRY(open_store(e, op->operands[0]->type->state, t->t.shape[0], &s));
  int64_t seq = t->t.shape[1];
  for (int64_t b = 0; b < t->t.shape[0]; b++)
    for (int64_t i = 0; i < seq; i++) t->t.data[b * seq + i].i = s->entries[b].length + i;
  return TS_OK;
}

static int field_index(const ir_state *s, ts_sym name) {
  for (size_t i = 0; i < s->fields.count; i++)
    if (s->fields.data[i].name == name) return (int)i;
  return -1;
}

static ts_status op_append(eval_call *e, const ir_op *op) {
  const ir_state *state = op->operands[0]->type->state;
  const ir_attr *fields = ir_attr_find(op, "fields");
  int64_t layer = ir_attr_int(op, "layer", 0);
  for (uint32_t k = 0; k < fields->axes.count; k++) {
    eval_tensor *x;
    state_store *s;
    int f = field_index(state, fields->axes.data[k]);
    TS_TRY(eval_tensor_need(e, op->operands[k + 1], &x));
    TS_TRY(open_store(e, state, x->t.shape[0], &s));
    int64_t seq = x->t.shape[1], n = eval_tensor_rows(x, 2, x->t.rank);
    if (f < 0 || (layer + 1) * n > s->row[f]) return eval_call_bad(e, "rows that do not fit state '%s'", state->name);
    for (int64_t b = 0; b < x->t.shape[0]; b++) {
      int64_t count = eval_length(e, ir_attr_sym(op, "over"), b, seq), length = s->entries[b].length;
      if (count < 0 || count > seq)
        return eval_call_bad(e, "entry %lld has %lld of %lld rows", (long long)b, (long long)count, (long long)seq);
      TS_TRY(reserve_rows(e, s, b, length + count));
      for (int64_t i = 0; i < count; i++) {
        ir_cell *to = s->entries[b].field[f] + (length + i) * s->row[f] + layer * n;
        memcpy(to, x->t.data + (b * seq + i) * n, (size_t)n * sizeof *to);
        eval_round(e->d, state->fields.data[f].dtype, (size_t)n, to);
      }
    }
  }
  return TS_OK;
}

// ---- attend --------------------------------------------------------------------------------------------------------------
typedef struct keys {          // of one entry: element (t, head, i) lies at base[t * row + head * d + i]
  const ir_cell *k, *v;
  int64_t k_row, v_row;
} keys;

typedef struct attention {
  ir_dtype type;               // that scores and sums are taken in
  int64_t d, dv, group;        // group: query heads that share a KV head
  ir_cell scale;
} attention;

// One query row: softmax over the keys 0 .. n-1. In the prime field base 2, with the constant that lowering folds into the query.
static ts_status attend_row(eval_call *e, const attention *a, const keys *x, int64_t head, int64_t n, const ir_cell *q,
                            ir_cell *s, ir_cell *out) {
  int64_t kv = head / a->group;
  ir_cell top = eval_minus_inf(e->d), sum = eval_zero();
  for (int64_t i = 0; i < a->dv; i++) out[i] = eval_zero();
  for (int64_t t = 0; t < n; t++) {
    s[t] = eval_zero();
    for (int64_t i = 0; i < a->d; i++) s[t] = eval_fma(e->d, a->type, q[i], x->k[t * x->k_row + kv * a->d + i], s[t]);
    s[t] = eval_fma(e->d, a->type, s[t], a->scale, eval_zero());
    if (t == 0 || eval_order(e->d, a->type, s[t], top) > 0) top = s[t];
  }
  for (int64_t t = 0; t < n; t++) {
    ir_cell c = eval_sub(e->d, a->type, s[t], top), p;
    if (e->d == IR_DOMAIN_MODP) p = eval_exp2(e->d, a->type, c);
    else {
      p.r = exp(c.r);
      eval_round(e->d, a->type, 1, &p);
    }
    sum = eval_add(e->d, a->type, sum, p);
    for (int64_t i = 0; i < a->dv; i++) out[i] = eval_fma(e->d, a->type, p, x->v[t * x->v_row + kv * a->dv + i], out[i]);
  }
  for (int64_t i = 0; i < a->dv && n > 0; i++) {
    if (e->d == IR_DOMAIN_MODP) out[i].p = ir_modp_mul(out[i].p, ir_modp_inverse(sum.p));
    else out[i].r /= sum.r;
  }
  eval_round(e->d, a->type, (size_t)a->dv, out);
  return TS_OK;
}

static ts_status op_attend(eval_call *e, const ir_op *op) {
  eval_tensor *q, *k = NULL, *v = NULL, *t;
  state_store *store = NULL;
  bool paged = op->operands[1]->type->kind == IR_TYPE_STATE, causal = !strcmp(ir_attr_sym(op, "mask"), "causal");
  ts_sym over = ir_attr_sym(op, "over");
  TS_TRY(eval_tensor_need(e, op->operands[0], &q));
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t B = q->t.shape[0], S = q->t.shape[1], H = q->t.shape[2], layer = ir_attr_int(op, "layer", 0), kv_heads;
  attention a = {.type = t->t.dtype == IR_f64 ? IR_f64 : IR_f32, .d = q->t.shape[3], .dv = t->t.shape[3]};
  double scale = ir_attr_real(op, "scale", 1);
  a.scale = e->d == IR_DOMAIN_MODP ? ir_eval_real(e->d, q->t.dtype, scale * M_LOG2E) : ir_eval_real(e->d, a.type, scale);
  if (paged) {
    TS_TRY(open_store(e, op->operands[1]->type->state, B, &store));
    const ir_state_field *f = store->state->fields.data;
    if (store->state->fields.count < 2 || f[0].rank != 3)
      return eval_call_bad(e, "state '%s' has no keys and values", store->state->name);
    TS_TRY(ir_size_eval(f[0].shape[1], e->symbols, e->symbol_count, &kv_heads));
  } else {
    TS_TRY(eval_tensor_need(e, op->operands[1], &k));
    TS_TRY(eval_tensor_need(e, op->operands[2], &v));
    kv_heads = k->t.shape[2];
  }
  if (kv_heads < 1 || H % kv_heads != 0)
    return eval_call_bad(e, "%lld heads on %lld KV heads", (long long)H, (long long)kv_heads);
  a.group = H / kv_heads;
  ts_status status = TS_OK;
  for (int64_t b = 0; b < B && status == TS_OK; b++) {
    int64_t valid = eval_length(e, over, b, S), past = 0, n;
    keys x;
    if (paged) {
      const entry *at = &store->entries[b];
      past = at->length;
      n = past + valid;
      if (n > at->rows) return eval_call_bad(e, "keys of state '%s' that were not appended", store->state->name);
      x = (keys){at->field ? at->field[0] + layer * kv_heads * a.d : NULL,
                 at->field ? at->field[1] + layer * kv_heads * a.dv : NULL, store->row[0], store->row[1]};
    } else {
      n = over ? eval_length(e, over, b, k->t.shape[1]) : k->t.shape[1];
      x = (keys){k->t.data + b * k->t.shape[1] * kv_heads * a.d, v->t.data + b * k->t.shape[1] * kv_heads * a.dv, kv_heads * a.d,
                 kv_heads * a.dv};
    }
    ir_cell *s = malloc((size_t)(n + 1) * sizeof *s);
    if (!s) return TS_OUT_OF_MEMORY;
    for (int64_t i = 0; i < S && status == TS_OK; i++) {
      int64_t seen = i >= valid ? 0 : causal && past + i + 1 < n ? past + i + 1 : n;
      for (int64_t h = 0; h < H && status == TS_OK; h++)
        status = attend_row(e, &a, &x, h, seen, q->t.data + ((b * S + i) * H + h) * a.d, s,
                            t->t.data + ((b * S + i) * H + h) * a.dv);
    }
    free(s);
  }
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return status;
}

ts_status eval_state_op(eval_call *e, const ir_op *op, bool *known) {
  *known = true;
  switch (op->code) {
    case IR_OP_positions: return op_positions(e, op);
    case IR_OP_append: return op_append(e, op);
    case IR_OP_attend: return op_attend(e, op);
    default: *known = false; return TS_OK;
  }
}
