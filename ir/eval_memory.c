// Evaluator: memory. An access is a list of axes to run over and, for each dimension of the memory, an index (a scalar or a
// tile over some of the axes) plus the coordinate of the axis that runs along it. Elements are read and written in runs of the
// last axis.
#include "ir/eval_priv.h"

#include <math.h>
#include <stdlib.h>

#define ABSENT INT64_MIN   // what map.at gives for a row that is not there
enum { OFF_MASKED = -1, OFF_ABSENT = -2 };

void eval_memory_free(eval_memory *x) {
  if (!x) return;
  free(x->decoded);
  free(x->cells);
  free(x->state);
  free(x);
}

// ---- elements ------------------------------------------------------------------------------------------------------------
static uint64_t raw_bits(const unsigned char *bytes, unsigned bits, int64_t at) {
  uint64_t v = 0;
  if (bits < 8) return bytes[at * bits / 8] >> (at * bits % 8) & ((1u << bits) - 1);
  memcpy(&v, bytes + at * (bits / 8), bits / 8);
  return v;
}

static void raw_put(unsigned char *bytes, unsigned bits, int64_t at, uint64_t v) {
  if (bits >= 8) {
    memcpy(bytes + at * (bits / 8), &v, bits / 8);
    return;
  }
  unsigned shift = (unsigned)(at * bits % 8), mask = ((1u << bits) - 1) << shift;
  unsigned char *p = &bytes[at * bits / 8];
  *p = (unsigned char)((*p & ~mask) | ((v << shift) & mask));
}

// Decoded values are kept: all of them when the memory is small enough, else the row read last.
static ts_status decoded_value(eval_kernel *e, eval_memory *m, int64_t at, double *out) {
  int64_t k = m->bound.k, row = at / k;
  if (!m->decoded) {
    m->whole = m->bound.rows * k <= INT64_C(1) << 26;
    m->decoded = malloc((size_t)((m->whole ? m->bound.rows : 1) * k) * sizeof(double) + 8);
    m->decoded_row = -1;
    if (!m->decoded) return TS_OUT_OF_MEMORY;
  }
  if (m->decoded_row != (m->whole ? m->bound.rows : row)) {
    const void *planes[IR_MAX_PLANES];
    ir_planes_of(&m->bound, m->bytes, planes);
    int64_t first = m->whole ? 0 : row, rows = m->whole ? m->bound.rows : 1;
    if (e->d == IR_DOMAIN_TYPED && m->type->dtype != IR_f64) {
      float *f = (float *)m->decoded;   // the front half, widened in place from behind
      ir_decode_rows_f32(&m->bound, planes, first, rows, f);
      for (int64_t i = rows * k; i-- > 0;) {
        float x;
        memcpy(&x, (char *)f + i * (int64_t)sizeof x, sizeof x);
        double d = ir_round(m->type->dtype, x);
        memcpy((char *)m->decoded + i * (int64_t)sizeof d, &d, sizeof d);
      }
    } else {
      ir_decode_rows_f64(&m->bound, planes, first, rows, m->decoded);
    }
    m->decoded_row = m->whole ? m->bound.rows : row;
  }
  *out = m->decoded[m->whole ? at : at % k];
  return TS_OK;
}

static ts_status read_panel(eval_kernel *e, eval_memory *m, size_t n, const int64_t *off, ir_cell *out) {
  for (size_t i = 0; i < n; i++) {
    if (off[i] < 0) continue;
    if (m->state[off[i]] != 1)
      return eval_bad(e, "it reads panel element %lld, %s", (long long)off[i],
                      m->state[off[i]] ? "which an unfinished async copy writes" : "which nobody wrote");
    out[i] = m->cells[off[i]];
  }
  return TS_OK;
}

static ir_cell poison(eval_kernel *e, ir_dtype t) {
  ir_cell c;
  if (!ir_is_float(t)) c.i = ir_wrap(t, INT64_C(0x5A5A5A5A5A5A5A5A));
  else if (e->d == IR_DOMAIN_MODP) c.p = UINT64_C(0xABCDEF123456789);
  else c.r = NAN;
  return c;
}

// Elements at offsets; those below 0 are left as they are in `out`.
static ts_status read_cells(eval_kernel *e, eval_memory *m, size_t n, const int64_t *off, ir_cell *out) {
  ir_dtype t = m->type->dtype;
  if (m->cells) return read_panel(e, m, n, off, out);
  if (m->wide) {
    for (size_t i = 0; i < n; i++)
      if (off[i] >= 0) memcpy(&out[i], m->bytes + off[i] * (int64_t)sizeof(ir_cell), sizeof(ir_cell));
    return TS_OK;
  }
  if (eval_encoded(m->type)) {
    for (size_t i = 0; i < n; i++) {
      if (off[i] < 0) continue;
      double v;
      TS_TRY(decoded_value(e, m, off[i], &v));
      if (e->d == IR_DOMAIN_MODP) out[i].p = ir_modp_of_real(v);
      else out[i].r = v;
    }
    return TS_OK;
  }
  unsigned bits = ir_dtype_bits(t);
  if (!ir_is_float(t)) {
    for (size_t i = 0; i < n; i++)
      if (off[i] >= 0) out[i].i = ir_int_of_bits(t, raw_bits(m->bytes, bits, off[i]));
    return TS_OK;
  }
  for (size_t i = 0; i < n; i++) {
    if (off[i] < 0) continue;
    double v = ir_float_of_bits(t, raw_bits(m->bytes, bits, off[i]));
    if (e->d == IR_DOMAIN_MODP) out[i].p = ir_modp_of_real(v);
    else out[i].r = v;
  }
  return TS_OK;
}

static ts_status write_cell(eval_kernel *e, eval_memory *m, int64_t off, ir_dtype from, ir_cell v) {
  ir_dtype t = m->type->dtype;
  if (ir_is_float(from)) eval_round(e->d, t, 1, &v);
  if (m->cells) {
    m->cells[off] = v;
    m->state[off] = 1;
  } else if (m->wide) {
    memcpy(m->bytes + off * (int64_t)sizeof v, &v, sizeof v);
  } else if (ir_is_float(t)) {
    if (e->d == IR_DOMAIN_MODP) return eval_bad(e, "field elements need a wide buffer to be stored in");
    raw_put(m->bytes, ir_dtype_bits(t), off, ir_bits_of_float(t, v.r));
  } else {
    raw_put(m->bytes, ir_dtype_bits(t), off, v.p);
  }
  return TS_OK;
}

// ---- accesses ------------------------------------------------------------------------------------------------------------
typedef struct access {
  eval_memory *m;
  const eval_tile *index[EVAL_MAX_RANK];
  int64_t stride[EVAL_MAX_RANK][EVAL_MAX_RANK];   // of index tiles over the axes
  int at[EVAL_MAX_RANK];                          // the axis along a dimension, or -1
} access;

typedef struct runs {   // all coordinates but the last axis, which goes in pieces
  eval_axes axes;
  int64_t at[EVAL_MAX_RANK];
  int64_t first;        // coordinate of the last axis where this run begins
  size_t n;
  bool started;
} runs;

static bool next_run(runs *r) {
  unsigned rank = r->axes.rank;
  int64_t inner = rank ? r->axes.extent[rank - 1] : 1;
  if (!r->started) {
    r->started = true;
    if (eval_volume(&r->axes) == 0) return false;
  } else {
    r->first += (int64_t)r->n;
    if (r->first >= inner) {
      r->first = 0;
      unsigned d = rank ? rank - 1 : 0;
      while (d > 0 && ++r->at[d - 1] == r->axes.extent[d - 1]) r->at[--d] = 0;
      if (d == 0) return false;
    }
  }
  r->n = (size_t)(inner - r->first < EVAL_CHUNK ? inner - r->first : EVAL_CHUNK);
  if (rank) r->at[rank - 1] = r->first;
  return true;
}

static int64_t place(const runs *r, const int64_t *stride) {
  int64_t at = 0;
  for (unsigned d = 0; d < r->axes.rank; d++) at += r->at[d] * stride[d];
  return at;
}
static int64_t inner_stride(const runs *r, const int64_t *stride) { return r->axes.rank ? stride[r->axes.rank - 1] : 0; }

static ts_status open_access(eval_kernel *e, const ir_op *op, const eval_axes *axes, uint32_t operand, uint32_t entry,
                             access *a) {
  const ir_attr *at = ir_attr_find(op, "at");
  a->m = eval_slot(e, op->operands[operand])->memory;
  if (!a->m) return eval_bad(e, "operand %u is no memory", operand);
  for (unsigned d = 0; d < a->m->rank; d++) {
    a->index[d] = eval_slot(e, op->operands[operand + 1 + d]);
    eval_strides_over(axes, a->index[d], a->stride[d]);
    ts_sym name = at->axes.data[entry + d];
    a->at[d] = name == e->m->none ? -1 : eval_find_axis(axes, name);
    if (name != e->m->none && a->at[d] < 0) return eval_bad(e, "nothing says how far axis '%s' goes", name);
  }
  return TS_OK;
}

static ts_status outside(eval_kernel *e, const access *a, unsigned d, int64_t index) {
  return eval_bad(e, "index %lld of dimension %u, which has %lld", (long long)index, d, (long long)a->m->shape[d]);
}

// Offsets of a run's elements. `keep` (NULL: all) are the mask's values.
static ts_status run_offsets(eval_kernel *e, const runs *r, const access *a, const unsigned char *keep, int64_t *off) {
  int last = (int)r->axes.rank - 1;
  int64_t lo = 0, hi = (int64_t)r->n - 1;
  while (keep && lo <= hi && !keep[lo]) lo++;
  while (keep && hi >= lo && !keep[hi]) hi--;
  for (size_t i = 0; i < r->n; i++) off[i] = !keep || keep[i] ? 0 : OFF_MASKED;
  if (lo > hi) return TS_OK;
  for (unsigned d = 0; d < a->m->rank; d++) {
    const ir_cell *index = a->index[d]->data + place(r, a->stride[d]);
    int64_t step = last >= 0 ? a->stride[d][last] : 0, base = a->at[d] < 0 ? 0 : r->at[a->at[d]],
            delta = a->at[d] == last && last >= 0;
    if (step == 0 && index[0].i != ABSENT) {
      base += index[0].i;
      if (base + lo * delta < 0 || base + lo * delta >= a->m->shape[d]) return outside(e, a, d, base + lo * delta);
      if (base + hi * delta >= a->m->shape[d]) return outside(e, a, d, base + hi * delta);
      for (int64_t i = lo; i <= hi; i++)
        if (off[i] >= 0) off[i] += (base + i * delta) * a->m->stride[d];
      continue;
    }
    for (int64_t i = lo; i <= hi; i++) {
      if (off[i] < 0) continue;
      int64_t v = index[i * step].i;
      if (v == ABSENT) {
        off[i] = OFF_ABSENT;
        continue;
      }
      v += base + i * delta;
      if (v < 0 || v >= a->m->shape[d]) return outside(e, a, d, v);
      off[i] += v * a->m->stride[d];
    }
  }
  return TS_OK;
}

typedef struct masking {
  const eval_tile *tile;   // NULL: no mask
  int64_t stride[EVAL_MAX_RANK];
  unsigned char keep[EVAL_CHUNK];
} masking;

static void open_mask(eval_kernel *e, const ir_op *op, const eval_axes *axes, masking *m) {
  m->tile = ir_attr_int(op, "masked", 0) ? eval_slot(e, op->operands[op->operand_count - 1]) : NULL;
  if (m->tile) eval_strides_over(axes, m->tile, m->stride);
}

static const unsigned char *mask_run(masking *m, const runs *r) {
  if (!m->tile) return NULL;
  const ir_cell *from = m->tile->data + place(r, m->stride);
  int64_t step = inner_stride(r, m->stride);
  for (size_t i = 0; i < r->n; i++) m->keep[i] = from[(int64_t)i * step].i != 0;
  return m->keep;
}

// Axes of the indices and the mask.
static bool index_axes(eval_kernel *e, const ir_op *op, uint32_t operand, unsigned rank, eval_axes *axes) {
  bool good = true;
  for (unsigned d = 0; d < rank; d++) good &= eval_add_axes(axes, eval_slot(e, op->operands[operand + 1 + d]));
  if (ir_attr_int(op, "masked", 0)) good &= eval_add_axes(axes, eval_slot(e, op->operands[op->operand_count - 1]));
  return good;
}

static ts_status op_load(eval_kernel *e, const ir_op *op) {
  eval_tile *t;
  TS_TRY(eval_result(e, op->results[0], &t));
  runs r = {0};
  access a;
  masking mask;
  if (!eval_add_axes(&r.axes, t)) return eval_bad(e, "too many axes");
  TS_TRY(open_access(e, op, &r.axes, 0, 0, &a));
  open_mask(e, op, &r.axes, &mask);
  ir_dtype type = t->type->dtype;
  double other = ir_attr_real(op, "other", 0);
  ir_cell otherwise = ir_is_float(type) ? ir_eval_real(e->d, type, other) : (ir_cell){.i = (int64_t)other},
          absent = poison(e, type);
  int64_t off[EVAL_CHUNK];
  for (ir_cell *out = t->data; next_run(&r); out += r.n) {
    TS_TRY(run_offsets(e, &r, &a, mask_run(&mask, &r), off));
    for (size_t i = 0; i < r.n; i++)
      if (off[i] < 0) out[i] = off[i] == OFF_MASKED ? otherwise : absent;
    TS_TRY(read_cells(e, a.m, r.n, off, out));
  }
  return TS_OK;
}

static ir_cell atomic_value(eval_kernel *e, ts_sym op, ir_dtype t, ir_cell old, ir_cell v) {
  if (!strcmp(op, "add")) return eval_add(e->d, t, old, v);
  if (!strcmp(op, "min")) return eval_order(e->d, t, v, old) < 0 ? v : old;
  if (!strcmp(op, "max")) return eval_order(e->d, t, v, old) > 0 ? v : old;
  if (!strcmp(op, "and")) return (ir_cell){.p = old.p & v.p};
  if (!strcmp(op, "or")) return (ir_cell){.p = old.p | v.p};
  if (!strcmp(op, "xor")) return (ir_cell){.p = old.p ^ v.p};
  return v;
}

static ts_status op_store(eval_kernel *e, const ir_op *op) {
  eval_memory *m = eval_slot(e, op->operands[0])->memory;
  if (!m) return eval_bad(e, "operand 0 is no memory");
  const eval_tile *v = eval_slot(e, op->operands[1 + m->rank]);
  eval_tile *old = NULL;
  runs r = {0};
  access a;
  masking mask;
  int64_t stride[EVAL_MAX_RANK], old_stride[EVAL_MAX_RANK], off[EVAL_CHUNK];
  if (!eval_add_axes(&r.axes, v) || !index_axes(e, op, 0, m->rank, &r.axes)) return eval_bad(e, "axes that do not fit");
  if (op->result_count) TS_TRY(eval_result(e, op->results[0], &old));
  if (!m->writable) return eval_bad(e, "it writes an input");
  if (eval_encoded(m->type)) return eval_bad(e, "storing encoded elements is not offered");
  TS_TRY(open_access(e, op, &r.axes, 0, 0, &a));
  open_mask(e, op, &r.axes, &mask);
  eval_strides_over(&r.axes, v, stride);
  if (old) eval_strides_over(&r.axes, old, old_stride);
  ts_sym atomic = op->code == IR_OP_atomic ? ir_attr_sym(op, "op") : NULL;
  ir_dtype type = v->type->dtype;
  while (next_run(&r)) {
    TS_TRY(run_offsets(e, &r, &a, mask_run(&mask, &r), off));
    const ir_cell *from = v->data + place(&r, stride);
    int64_t step = inner_stride(&r, stride);
    for (size_t i = 0; i < r.n; i++) {
      ir_cell x = from[(int64_t)i * step], before = eval_zero();
      if (off[i] == OFF_ABSENT) return eval_bad(e, "it writes a row that the index map calls absent");
      if (off[i] >= 0 && atomic) {
        TS_TRY(read_cells(e, m, 1, &off[i], &before));
        x = atomic_value(e, atomic, type, before, x);
      }
      if (old) old->data[place(&r, old_stride) + (int64_t)i * inner_stride(&r, old_stride)] = before;
      if (off[i] >= 0) TS_TRY(write_cell(e, m, off[i], type, x));
    }
  }
  return TS_OK;
}

// ---- panels and copies ---------------------------------------------------------------------------------------------------
static ts_status op_alloc(eval_kernel *e, const ir_op *op) {
  eval_tile *t = eval_slot(e, op->results[0]);
  const ir_type *type = op->results[0]->type;
  int64_t n = ir_type_elements(type);
  if (n < 1 || n > INT64_C(1) << 30 || type->rank > EVAL_MAX_RANK) return eval_bad(e, "a panel of %lld elements", (long long)n);
  if (!t->memory) {
    eval_memory *m = calloc(1, sizeof *m);
    if (!m) return TS_OUT_OF_MEMORY;
    *m = (eval_memory){.type = type, .rank = type->rank, .count = (size_t)n, .writable = true};
    int64_t step = 1;
    for (unsigned d = type->rank; d-- > 0;) {
      m->shape[d] = type->shape[d]->value;
      m->stride[d] = type->strides ? type->strides[d] : step;
      step *= m->shape[d];
    }
    int64_t reach = 1;
    for (unsigned d = 0; d < type->rank; d++) reach += (m->shape[d] - 1) * (m->stride[d] > 0 ? m->stride[d] : 0);
    m->count = (size_t)(reach > n ? reach : n);
    m->cells = calloc(m->count, sizeof *m->cells);
    m->state = calloc(m->count, 1);
    t->memory = m;
    t->type = type;
    if (!m->cells || !m->state) return TS_OUT_OF_MEMORY;
  }
  memset(t->memory->state, 0, t->memory->count);
  return TS_OK;
}

static ts_status add_pending(eval_kernel *e, eval_memory *to, int64_t at, ir_cell v) {
  if (e->pending_count == e->pending_capacity) {
    size_t capacity = e->pending_capacity ? e->pending_capacity * 2 : 1024;
    eval_pending *p = realloc(e->pending, capacity * sizeof *p);
    if (!p) return TS_OUT_OF_MEMORY;
    e->pending = p;
    e->pending_capacity = capacity;
  }
  e->pending[e->pending_count++] = (eval_pending){to, at, v};
  to->state[at] = 2;
  return TS_OK;
}

// Where the mask is false the panel gets zeros.
static ts_status op_copy(eval_kernel *e, const ir_op *op) {
  eval_memory *src = eval_slot(e, op->operands[0])->memory;
  if (!src) return eval_bad(e, "operand 0 is no memory");
  uint32_t second = 1 + src->rank;
  eval_memory *dst = eval_slot(e, op->operands[second])->memory;
  if (!dst || !dst->cells) return eval_bad(e, "the target is no panel");
  const ir_attr *at = ir_attr_find(op, "at");
  runs r = {0};
  access from, to;
  masking mask;
  bool good = index_axes(e, op, 0, src->rank, &r.axes) && index_axes(e, op, second, dst->rank, &r.axes);
  for (unsigned d = 0; d < dst->rank; d++) {
    ts_sym axis = at->axes.data[src->rank + d];
    if (axis != e->m->none && eval_find_axis(&r.axes, axis) < 0) good &= eval_add_axis(&r.axes, axis, dst->shape[d]);
  }
  if (!good) return eval_bad(e, "axes that do not fit");
  TS_TRY(open_access(e, op, &r.axes, 0, 0, &from));
  TS_TRY(open_access(e, op, &r.axes, second, src->rank, &to));
  open_mask(e, op, &r.axes, &mask);
  bool async = ir_attr_int(op, "async", 0) != 0;
  int64_t a[EVAL_CHUNK], b[EVAL_CHUNK];
  ir_cell v[EVAL_CHUNK];
  while (next_run(&r)) {
    TS_TRY(run_offsets(e, &r, &from, mask_run(&mask, &r), a));
    TS_TRY(run_offsets(e, &r, &to, NULL, b));
    for (size_t i = 0; i < r.n; i++) v[i] = a[i] == OFF_ABSENT ? poison(e, src->type->dtype) : eval_zero();
    TS_TRY(read_cells(e, src, r.n, a, v));
    for (size_t i = 0; i < r.n; i++) {
      if (b[i] < 0) return eval_bad(e, "a panel position that is absent");
      if (async) TS_TRY(add_pending(e, dst, b[i], v[i]));
      else TS_TRY(write_cell(e, dst, b[i], src->type->dtype, v[i]));
    }
  }
  return TS_OK;
}

static ts_status op_commit(eval_kernel *e) {
  if (e->groups == 64) return eval_bad(e, "more than 64 groups of async copies in flight");
  e->group[e->groups++] = e->pending_count;
  return TS_OK;
}

static ts_status op_await(eval_kernel *e, const ir_op *op) {
  int64_t keep = ir_attr_int(op, "pending", 0);
  if (keep < 0 || keep >= e->groups) return TS_OK;
  unsigned done = e->groups - (unsigned)keep;
  size_t end = e->group[done - 1];
  for (size_t i = 0; i < end; i++) {
    e->pending[i].to->cells[e->pending[i].at] = e->pending[i].value;
    e->pending[i].to->state[e->pending[i].at] = 1;
  }
  memmove(e->pending, e->pending + end, (e->pending_count - end) * sizeof *e->pending);
  e->pending_count -= end;
  for (unsigned i = done; i < e->groups; i++) e->group[i - done] = e->group[i] - end;
  e->groups -= done;
  return TS_OK;
}

// ---- maps ----------------------------------------------------------------------------------------------------------------
static ts_status op_map_at(eval_kernel *e, const ir_op *op) {
  eval_memory *m = eval_slot(e, op->operands[0])->memory;
  if (!m) return eval_bad(e, "operand 0 is no memory");
  bool pages = op->result_count == 2;
  int64_t granule = ir_attr_int(op, "granule", 1);
  eval_tile *row, *slot = NULL;
  TS_TRY(eval_result(e, op->results[0], &row));
  if (pages) TS_TRY(eval_result(e, op->results[1], &slot));
  eval_axes axes = {0};
  ir_cell *list = NULL, *position = NULL;
  eval_add_axes(&axes, row);
  ts_status s = eval_gather(e, &axes, eval_slot(e, op->operands[1]), &list);
  if (s == TS_OK && pages) s = eval_gather(e, &axes, eval_slot(e, op->operands[2]), &position);
  int64_t to[EVAL_MAX_RANK];
  if (pages) eval_strides_over(&axes, slot, to);
  ir_cell *slots = pages && s == TS_OK ? calloc(row->count + 1, sizeof *slots) : NULL;
  if (pages && s == TS_OK && !slots) s = TS_OUT_OF_MEMORY;
  for (size_t i = 0; i < row->count && s == TS_OK; i++) {
    int64_t l = list[i].i, p = pages ? position[i].i : 0, off = 0;
    bool there = l >= 0 && l < m->shape[0] && l != ABSENT && p >= 0;
    if (pages) there = there && p / granule < m->shape[1];
    ir_cell v = {.i = ABSENT};
    if (there) {
      off = l * m->stride[0] + (pages ? p / granule * m->stride[1] : 0);
      s = read_cells(e, m, 1, &off, &v);
      if (v.i < 0) v.i = ABSENT;
    }
    row->data[i] = v;
    if (pages) slots[i].i = v.i == ABSENT ? ABSENT : p % granule;
  }
  if (pages && s == TS_OK) eval_scatter(&axes, slots, slot);
  free(list);
  free(position);
  free(slots);
  return s;
}

ts_status eval_memory_op(eval_kernel *e, const ir_op *op, bool *known) {
  *known = true;
  switch (op->code) {
    case IR_OP_load:
    case IR_OP_fetch: return op_load(e, op);
    case IR_OP_store:
    case IR_OP_put:
    case IR_OP_atomic: return op_store(e, op);
    case IR_OP_alloc: return op_alloc(e, op);
    case IR_OP_copy: return op_copy(e, op);
    case IR_OP_commit: return op_commit(e);
    case IR_OP_await: return op_await(e, op);
    case IR_OP_barrier: return TS_OK;
    case IR_OP_map_at: return op_map_at(e, op);
    default: *known = false; return TS_OK;
  }
}
