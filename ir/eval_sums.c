// Evaluator: sums and selection. Operands are gathered into dense arrays of the form the op needs, and results scattered back.
#include "ir/eval_priv.h"

#include <stdlib.h>

static bool named(const ir_attr *over, ts_sym axis) {
  for (uint32_t i = 0; i < over->axes.count; i++)
    if (over->axes.data[i] == axis) return true;
  return false;
}

static void concat_axes(eval_axes *to, const eval_axes *from) {
  for (unsigned i = 0; i < from->rank; i++) eval_add_axis(to, from->name[i], from->extent[i]);
}

static eval_axes joined(const eval_axes *a, const eval_axes *b, const eval_axes *c) {
  eval_axes r = *a;
  if (b) concat_axes(&r, b);
  if (c) concat_axes(&r, c);
  return r;
}

// Extent of an axis of `over`, from whichever tile has it.
static void over_axes(const ir_attr *over, const eval_tile *a, const eval_tile *b, eval_axes *out) {
  for (uint32_t i = 0; i < over->axes.count; i++) {
    int k = eval_axis(a, over->axes.data[i]);
    if (k >= 0) eval_add_axis(out, over->axes.data[i], a->shape[k]);
    else if (b && (k = eval_axis(b, over->axes.data[i])) >= 0) eval_add_axis(out, over->axes.data[i], b->shape[k]);
  }
}

// The axes of both, of a alone, and of b alone that are not summed.
static void sort_axes(const ir_attr *over, const eval_tile *a, const eval_tile *b, eval_axes *both, eval_axes *only_a,
                      eval_axes *only_b) {
  for (unsigned i = 0; i < a->rank; i++) {
    ts_sym s = a->type->axes[i];
    if (!named(over, s)) eval_add_axis(eval_axis(b, s) >= 0 ? both : only_a, s, a->shape[i]);
  }
  for (unsigned i = 0; i < b->rank; i++) {
    ts_sym s = b->type->axes[i];
    if (!named(over, s) && eval_axis(a, s) < 0) eval_add_axis(only_b, s, b->shape[i]);
  }
}

static ts_status op_dot(eval_kernel *e, const ir_op *op) {
  const eval_tile *a = eval_slot(e, op->operands[0]), *b = eval_slot(e, op->operands[1]);
  const ir_attr *over = ir_attr_find(op, "over");
  eval_axes both = {0}, m = {0}, n = {0}, k = {0};
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  sort_axes(over, a, b, &both, &m, &n);
  over_axes(over, a, b, &k);
  eval_axes bmk = joined(&both, &m, &k), bkn = joined(&both, &k, &n), bmn = joined(&both, &m, &n);
  ir_cell *x = NULL, *y = NULL, *c = NULL;
  ts_status s = eval_gather(e, &bmk, a, &x);
  if (s == TS_OK) s = eval_gather(e, &bkn, b, &y);
  if (s == TS_OK && op->operand_count == 3) s = eval_gather(e, &bmn, eval_slot(e, op->operands[2]), &c);
  else if (s == TS_OK && !(c = calloc(r->count ? r->count : 1, sizeof *c))) s = TS_OUT_OF_MEMORY;
  if (s == TS_OK) {
    eval_dot(e->d, a->type->dtype, b->type->dtype, r->type->dtype, eval_volume(&both), eval_volume(&m), eval_volume(&n),
             eval_volume(&k), x, y, c);
    eval_scatter(&bmn, c, r);
  }
  free(x);
  free(y);
  free(c);
  return s;
}

// ---- reduce, scan --------------------------------------------------------------------------------------------------------
typedef enum fold { FOLD_ADD, FOLD_MIN, FOLD_MAX, FOLD_AND, FOLD_OR, FOLD_ARGMAX, FOLD_ARGMIN } fold;

static fold fold_of(ts_sym name) {
  static const char *const names[] = {"add", "min", "max", "and", "or", "argmax", "argmin"};
  for (int i = 0; i < 7; i++)
    if (!strcmp(names[i], name)) return (fold)i;
  return FOLD_ADD;
}

static ir_cell combine(eval_kernel *e, fold f, ir_dtype t, ir_cell a, ir_cell b) {
  switch (f) {
    case FOLD_ADD: return eval_add(e->d, t, a, b);
    case FOLD_AND: return (ir_cell){.p = a.p & b.p};
    case FOLD_OR: return (ir_cell){.p = a.p | b.p};
    case FOLD_MIN: {   // a NaN loses against a number
      int c = eval_order(e->d, t, a, b);
      bool nan_a = ir_is_float(t) && e->d != IR_DOMAIN_MODP && a.r != a.r,
           nan_b = ir_is_float(t) && e->d != IR_DOMAIN_MODP && b.r != b.r;
      return nan_a ? b : nan_b ? a : c <= 0 ? a : b;
    }
    default: return eval_order(e->d, t, a, b) >= 0 ? a : b;
  }
}

// What a fold over nothing gives.
static ir_cell neutral(eval_kernel *e, fold f, ir_dtype t) {
  ir_cell c = eval_zero();
  bool is_float = ir_is_float(t);
  if (f == FOLD_AND) c.i = ir_wrap(t, -1);
  else if (f == FOLD_MAX || f == FOLD_ARGMAX) c = is_float ? eval_minus_inf(e->d) : (ir_cell){.i = ir_int_min(t)};
  else if (f == FOLD_MIN || f == FOLD_ARGMIN)
    c = is_float ? ir_eval_real(e->d, IR_f64, __builtin_inf()) : (ir_cell){.i = t == IR_u64 ? -1 : ir_int_max(t)};
  return c;
}

static ts_status reduce_one(eval_kernel *e, const eval_tile *x, const eval_tile *index, const ir_attr *over, fold f, eval_tile *r,
                            eval_tile *position) {
  eval_axes rest = {0}, k = {0};
  for (unsigned i = 0; i < x->rank; i++)
    if (!named(over, x->type->axes[i])) eval_add_axis(&rest, x->type->axes[i], x->shape[i]);
  over_axes(over, x, NULL, &k);
  eval_axes all = joined(&rest, &k, NULL);
  int64_t rows = eval_volume(&rest), n = eval_volume(&k);
  ir_cell *in = NULL, *ix = NULL, *out = malloc((size_t)(2 * rows + 1) * sizeof *out);
  ts_status s = out ? eval_gather(e, &all, x, &in) : TS_OUT_OF_MEMORY;
  if (s == TS_OK && index) s = eval_gather(e, &all, index, &ix);
  ir_dtype t = x->type->dtype;
  for (int64_t i = 0; i < rows && s == TS_OK; i++) {
    ir_cell acc = neutral(e, f, t), at = {.i = 0};
    for (int64_t j = 0; j < n; j++) {
      ir_cell v = in[i * n + j], where = ix ? ix[i * n + j] : (ir_cell){.i = j};
      if (f != FOLD_ARGMAX && f != FOLD_ARGMIN) {
        acc = j ? combine(e, f, t, acc, v) : v;
        continue;
      }
      int c = j ? eval_order(e->d, t, v, acc) : 1;
      if (j && f == FOLD_ARGMIN) c = -c;
      if (c > 0 || (c == 0 && where.i < at.i)) acc = v, at = where;
    }
    out[i] = acc;
    out[rows + i] = at;
  }
  if (s == TS_OK) eval_scatter(&rest, out, r);
  if (s == TS_OK && position) eval_scatter(&rest, out + rows, position);
  free(in);
  free(ix);
  free(out);
  return s;
}

static ts_status op_reduce(eval_kernel *e, const ir_op *op) {
  fold f = fold_of(ir_attr_sym(op, "op"));
  const ir_attr *over = ir_attr_find(op, "over");
  eval_tile *r, *position;
  if (f == FOLD_ARGMAX || f == FOLD_ARGMIN) {
    TS_TRY(eval_result(e, op->results[0], &r));
    TS_TRY(eval_result(e, op->results[1], &position));
    if (e->d == IR_DOMAIN_MODP && ir_is_float(r->type->dtype))
      return eval_bad(e, "a comparison of floats is not allowed in the prime field");
    return reduce_one(e, eval_slot(e, op->operands[0]), op->operand_count > 1 ? eval_slot(e, op->operands[1]) : NULL, over, f, r,
                      position);
  }
  for (uint32_t i = 0; i < op->operand_count; i++) {
    TS_TRY(eval_result(e, op->results[i], &r));
    TS_TRY(reduce_one(e, eval_slot(e, op->operands[i]), NULL, over, f, r, NULL));
  }
  return TS_OK;
}

static ts_status op_scan(eval_kernel *e, const ir_op *op) {
  fold f = fold_of(ir_attr_sym(op, "op"));
  ts_sym over = ir_attr_sym(op, "over");
  bool exclusive = ir_attr_int(op, "exclusive", 0) != 0;
  for (uint32_t i = 0; i < op->operand_count; i++) {
    const eval_tile *x = eval_slot(e, op->operands[i]);
    eval_tile *r;
    ir_cell *v;
    TS_TRY(eval_result(e, op->results[i], &r));
    eval_axes a = {0};
    for (unsigned d = 0; d < x->rank; d++)
      if (x->type->axes[d] != over) eval_add_axis(&a, x->type->axes[d], x->shape[d]);
    int64_t rows = eval_volume(&a), n = x->shape[eval_axis(x, over)];
    eval_add_axis(&a, over, n);
    TS_TRY(eval_gather(e, &a, x, &v));
    ir_dtype t = x->type->dtype;
    for (int64_t row = 0; row < rows; row++) {
      ir_cell acc = neutral(e, f, t);
      for (int64_t k = 0; k < n; k++) {
        ir_cell *at = &v[row * n + k], next = k ? combine(e, f, t, acc, *at) : *at;
        *at = exclusive ? acc : next;
        acc = next;
      }
    }
    eval_scatter(&a, v, r);
    free(v);
  }
  return TS_OK;
}

// ---- softacc -------------------------------------------------------------------------------------------------------------
typedef struct soft {
  ir_dtype score, sum, out;
  int64_t M, N, T;
} soft;

// One batch: s[M][T], v[T][N], keep[M][T] or NULL.
static void soft_rows(eval_kernel *e, const soft *x, const ir_cell *s, const ir_cell *v, const ir_cell *keep, ir_cell *m,
                      ir_cell *l, ir_cell *o) {
  for (int64_t i = 0; i < x->M; i++) {
    const ir_cell *row = s + i * x->T;
    m[i] = eval_minus_inf(e->d);
    l[i] = eval_zero();
    for (int64_t n = 0; n < x->N; n++) o[i * x->N + n] = eval_zero();
    bool any = false;
    for (int64_t t = 0; t < x->T; t++)
      if (!keep || keep[i * x->T + t].i) {
        if (!any || eval_order(e->d, x->score, row[t], m[i]) > 0) m[i] = row[t];
        any = true;
      }
    for (int64_t t = 0; t < x->T; t++) {
      if (keep && !keep[i * x->T + t].i) continue;
      ir_cell p = eval_exp2(e->d, x->sum, eval_sub(e->d, x->score, row[t], m[i]));
      l[i] = eval_add(e->d, x->sum, l[i], p);
      for (int64_t n = 0; n < x->N; n++) o[i * x->N + n] = eval_fma(e->d, x->out, p, v[t * x->N + n], o[i * x->N + n]);
    }
  }
}

static ts_status op_softacc(eval_kernel *e, const ir_op *op) {
  const eval_tile *s = eval_slot(e, op->operands[0]), *v = eval_slot(e, op->operands[1]);
  const eval_tile *mask = op->operand_count == 3 ? eval_slot(e, op->operands[2]) : NULL;
  const ir_attr *over = ir_attr_find(op, "over");
  eval_axes both = {0}, m = {0}, n = {0}, t = {0};
  eval_tile *r[3];
  for (int i = 0; i < 3; i++) TS_TRY(eval_result(e, op->results[i], &r[i]));
  sort_axes(over, s, v, &both, &m, &n);
  over_axes(over, s, v, &t);
  eval_axes bmt = joined(&both, &m, &t), btn = joined(&both, &t, &n), bm = joined(&both, &m, NULL), bmn = joined(&both, &m, &n);
  soft x = {s->type->dtype, r[1]->type->dtype, r[2]->type->dtype, eval_volume(&m), eval_volume(&n), eval_volume(&t)};
  ir_cell *sc = NULL, *vc = NULL, *kc = NULL, *ml = calloc((size_t)eval_volume(&bm) * 2 + 1, sizeof *ml),
          *o = calloc((size_t)eval_volume(&bmn) + 1, sizeof *o);
  ts_status status = ml && o ? eval_gather(e, &bmt, s, &sc) : TS_OUT_OF_MEMORY;
  if (status == TS_OK) status = eval_gather(e, &btn, v, &vc);
  if (status == TS_OK && mask) status = eval_gather(e, &bmt, mask, &kc);
  int64_t batches = eval_volume(&both), rows = eval_volume(&bm);
  for (int64_t b = 0; b < batches && status == TS_OK; b++)
    soft_rows(e, &x, sc + b * x.M * x.T, vc + b * x.T * x.N, kc ? kc + b * x.M * x.T : NULL, ml + b * x.M, ml + rows + b * x.M,
              o + b * x.M * x.N);
  if (status == TS_OK) {
    eval_scatter(&bm, ml, r[0]);
    eval_scatter(&bm, ml + rows, r[1]);
    eval_scatter(&bmn, o, r[2]);
  }
  free(sc);
  free(vc);
  free(kc);
  free(ml);
  free(o);
  return status;
}

// ---- rank ----------------------------------------------------------------------------------------------------------------
// Keys that the mask drops have rank -1.
static ts_status rank_row(eval_kernel *e, int64_t n, int64_t bins, const ir_cell *keys, const ir_cell *keep, ir_cell *rank,
                          ir_cell *counts, int64_t *first) {
  for (int64_t b = 0; b < bins; b++) counts[b].i = 0;
  for (int64_t i = 0; i < n; i++) {
    if (keep && !keep[i].i) continue;
    if (keys[i].i < 0 || keys[i].i >= bins) return eval_bad(e, "key %lld of %lld bins", (long long)keys[i].i, (long long)bins);
    counts[keys[i].i].i++;
  }
  int64_t at = 0;
  for (int64_t b = 0; b < bins; b++) {
    first[b] = at;
    at += counts[b].i;
  }
  for (int64_t i = 0; i < n; i++) rank[i].i = keep && !keep[i].i ? -1 : first[keys[i].i]++;
  return TS_OK;
}

static ts_status op_rank(eval_kernel *e, const ir_op *op) {
  const eval_tile *x = eval_slot(e, op->operands[0]), *mask = op->operand_count == 2 ? eval_slot(e, op->operands[1]) : NULL;
  ts_sym over = ir_attr_sym(op, "over");
  int64_t bins = ir_attr_int(op, "bins", 1);
  eval_tile *r, *counts;
  TS_TRY(eval_result(e, op->results[0], &r));
  TS_TRY(eval_result(e, op->results[1], &counts));
  eval_axes a = {0};
  for (unsigned d = 0; d < x->rank; d++)
    if (x->type->axes[d] != over) eval_add_axis(&a, x->type->axes[d], x->shape[d]);
  eval_axes c = a;
  int64_t rows = eval_volume(&a), n = x->shape[eval_axis(x, over)];
  eval_add_axis(&a, over, n);
  for (unsigned d = 0; d < counts->rank; d++)
    if (eval_find_axis(&c, counts->type->axes[d]) < 0) eval_add_axis(&c, counts->type->axes[d], bins);
  ir_cell *keys = NULL, *keep = NULL, *out = calloc((size_t)(rows * (n + bins)) + 1, sizeof *out);
  int64_t *first = calloc((size_t)bins, sizeof *first);
  ts_status s = out && first ? eval_gather(e, &a, x, &keys) : TS_OUT_OF_MEMORY;
  if (s == TS_OK && mask) s = eval_gather(e, &a, mask, &keep);
  for (int64_t i = 0; i < rows && s == TS_OK; i++)
    s = rank_row(e, n, bins, keys + i * n, keep ? keep + i * n : NULL, out + i * n, out + rows * n + i * bins, first);
  if (s == TS_OK) {
    eval_scatter(&a, out, r);
    eval_scatter(&c, out + rows * n, counts);
  }
  free(keys);
  free(keep);
  free(out);
  free(first);
  return s;
}

ts_status eval_sums_op(eval_kernel *e, const ir_op *op, bool *known) {
  *known = true;
  switch (op->code) {
    case IR_OP_dot: return op_dot(e, op);
    case IR_OP_reduce: return op_reduce(e, op);
    case IR_OP_scan: return op_scan(e, op);
    case IR_OP_softacc: return op_softacc(e, op);
    case IR_OP_rank: return op_rank(e, op);
    default: *known = false; return TS_OK;
  }
}
