// Evaluator: tiles as logical arrays, and the ops that make or rearrange them. Layouts and lanes do not matter here.
#include "ir/eval_priv.h"
#include "ir/text.h"

#include <stdlib.h>

// ---- axes and strides ----------------------------------------------------------------------------------------------------
int eval_axis(const eval_tile *t, ts_sym axis) { return t->type->kind == IR_TYPE_TILE ? ir_type_axis(t->type, axis) : -1; }

void eval_strides(const eval_tile *t, int64_t stride[EVAL_MAX_RANK]) {
  int64_t step = 1;
  for (unsigned i = t->rank; i-- > 0;) {
    stride[i] = step;
    step *= t->shape[i];
  }
}

int eval_find_axis(const eval_axes *a, ts_sym name) {
  for (unsigned i = 0; i < a->rank; i++)
    if (a->name[i] == name) return (int)i;
  return -1;
}

bool eval_add_axis(eval_axes *a, ts_sym name, int64_t extent) {
  int i = eval_find_axis(a, name);
  if (i >= 0) return a->extent[i] == extent;
  if (a->rank == EVAL_MAX_RANK) return false;
  a->name[a->rank] = name;
  a->extent[a->rank++] = extent;
  return true;
}

bool eval_add_axes(eval_axes *a, const eval_tile *t) {
  for (unsigned i = 0; i < t->rank; i++)
    if (!eval_add_axis(a, t->type->axes[i], t->shape[i])) return false;
  return true;
}

int64_t eval_volume(const eval_axes *a) {
  int64_t n = 1;
  for (unsigned i = 0; i < a->rank; i++)
    if (__builtin_mul_overflow(n, a->extent[i], &n)) return INT64_MAX;
  return n;
}

void eval_strides_over(const eval_axes *a, const eval_tile *t, int64_t stride[EVAL_MAX_RANK]) {
  int64_t own[EVAL_MAX_RANK];
  eval_strides(t, own);
  for (unsigned i = 0; i < a->rank; i++) {
    int k = eval_axis(t, a->name[i]);
    stride[i] = k < 0 ? 0 : own[k];
  }
}

void eval_copy(unsigned rank, const int64_t *shape, ir_cell *dst, const int64_t *dst_stride, const ir_cell *src,
               const int64_t *src_stride) {
  if (rank == 0) {
    *dst = *src;
    return;
  }
  if (rank == 1) {
    for (int64_t i = 0; i < shape[0]; i++) dst[i * dst_stride[0]] = src[i * src_stride[0]];
    return;
  }
  for (int64_t i = 0; i < shape[0]; i++)
    eval_copy(rank - 1, shape + 1, dst + i * dst_stride[0], dst_stride + 1, src + i * src_stride[0], src_stride + 1);
}

static void dense(const eval_axes *a, int64_t stride[EVAL_MAX_RANK]) {
  int64_t step = 1;
  for (unsigned i = a->rank; i-- > 0;) {
    stride[i] = step;
    step *= a->extent[i];
  }
}

static bool empty(const eval_axes *a) { return eval_volume(a) == 0; }

ts_status eval_gather(eval_kernel *e, const eval_axes *a, const eval_tile *t, ir_cell **out) {
  int64_t from[EVAL_MAX_RANK], to[EVAL_MAX_RANK], n = eval_volume(a);
  *out = NULL;
  if (n < 0 || n > INT64_C(1) << 40) return eval_bad(e, "a value of %lld elements", (long long)n);
  *out = malloc((size_t)(n ? n : 1) * sizeof **out);
  if (!*out)
    return ts_report(e->m->diags, e->op->loc, &diag_ir_eval, "out of memory for a value of %lld elements", (long long)n),
           TS_OUT_OF_MEMORY;
  eval_strides_over(a, t, from);
  dense(a, to);
  if (n) eval_copy(a->rank, a->extent, *out, to, t->data, from);
  return TS_OK;
}

void eval_scatter(const eval_axes *a, const ir_cell *data, eval_tile *t) {
  int64_t from[EVAL_MAX_RANK], to[EVAL_MAX_RANK];
  dense(a, from);
  eval_strides_over(a, t, to);
  if (!empty(a)) eval_copy(a->rank, a->extent, t->data, to, data, from);
}

// ---- simple values -------------------------------------------------------------------------------------------------------
static ts_status op_const(eval_kernel *e, const ir_op *op) {
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  const ir_attr *real = ir_attr_find(op, "value");
  int64_t v = ir_attr_int(op, "int", 0);
  ir_dtype t = r->type->dtype;
  if (!ir_is_float(t)) r->data[0].i = ir_wrap(t, v);
  else r->data[0] = ir_eval_real(e->d, t, real ? real->real : (double)v);
  return TS_OK;
}

static ts_status op_counting(eval_kernel *e, const ir_op *op) {   // axis, iota
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  int64_t base = op->operand_count ? eval_slot(e, op->operands[0])->data[0].i : 0;
  for (size_t i = 0; i < r->count; i++) r->data[i].i = ir_wrap(r->type->dtype, base + (int64_t)i);
  return TS_OK;
}

static ts_status op_scalar(eval_kernel *e, const ir_op *op, int64_t v) {
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  r->data[0].i = v;
  return TS_OK;
}

static ts_status op_full(eval_kernel *e, const ir_op *op) {
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  ir_cell v = eval_slot(e, op->operands[0])->data[0];
  for (size_t i = 0; i < r->count; i++) r->data[i] = v;
  return TS_OK;
}

static ts_status op_convert(eval_kernel *e, const ir_op *op) {
  eval_tile *r, *x = eval_slot(e, op->operands[0]);
  TS_TRY(eval_result(e, op->results[0], &r));
  eval_axes a = {0};
  eval_add_axes(&a, r);
  int64_t from[EVAL_MAX_RANK], to[EVAL_MAX_RANK];
  eval_strides_over(&a, x, from);
  dense(&a, to);
  if (r->count) eval_copy(a.rank, a.extent, r->data, to, x->data, from);
  return TS_OK;
}

// ---- apply ---------------------------------------------------------------------------------------------------------------
typedef struct applied {
  const ir_fn *fn;
  eval_axes axes;                                   // of the results, the last one innermost
  const ir_cell **base;
  int64_t (*stride)[EVAL_MAX_RANK];                 // of operands over the axes
  ir_cell *chunk;                                   // operands, then results, then scratch
  eval_tile **result;
  int64_t (*out)[EVAL_MAX_RANK];
} applied;

static const char *apply_run(eval_kernel *e, const applied *x, const int64_t *at, int64_t inner) {
  const ir_fn *fn = x->fn;
  unsigned last = x->axes.rank ? x->axes.rank - 1 : 0;
  const ir_cell *args[64];
  ir_cell *outs[64];
  for (int64_t i0 = 0; i0 < inner; i0 += EVAL_CHUNK) {
    size_t n = (size_t)(inner - i0 < EVAL_CHUNK ? inner - i0 : EVAL_CHUNK);
    for (uint32_t p = 0; p < fn->params; p++) {
      const ir_cell *from = x->base[p];
      int64_t step = x->axes.rank ? x->stride[p][last] : 0;
      for (unsigned d = 0; d + 1 < x->axes.rank; d++) from += at[d] * x->stride[p][d];
      from += i0 * step;
      ir_cell *to = x->chunk + (size_t)p * EVAL_CHUNK;
      if (step == 1) args[p] = from;
      else {
        for (size_t i = 0; i < n; i++) to[i] = from[(int64_t)i * step];
        args[p] = to;
      }
    }
    ir_cell *results = x->chunk + (size_t)fn->params * EVAL_CHUNK;
    for (uint32_t r = 0; r < fn->results; r++) outs[r] = results + (size_t)r * EVAL_CHUNK;
    const char *bad = eval_fn(e->d, fn, n, args, outs, results + (size_t)fn->results * EVAL_CHUNK);
    if (bad) return bad;
    for (uint32_t r = 0; r < fn->results; r++) {
      ir_cell *to = x->result[r]->data;
      int64_t step = x->axes.rank ? x->out[r][last] : 0;
      for (unsigned d = 0; d + 1 < x->axes.rank; d++) to += at[d] * x->out[r][d];
      to += i0 * step;
      for (size_t i = 0; i < n; i++) to[(int64_t)i * step] = outs[r][i];
    }
  }
  return NULL;
}

static ts_status op_apply(eval_kernel *e, const ir_op *op) {
  applied x = {.fn = ir_attr_find(op, "fn")->fn};
  uint32_t params = x.fn->params, results = x.fn->results;
  if (params > 64 || results > 64) return eval_bad(e, "a function of more than 64 parameters or results");
  const ir_cell *base[64];
  int64_t stride[64][EVAL_MAX_RANK], out[64][EVAL_MAX_RANK];
  eval_tile *result[64];
  x.base = base, x.stride = stride, x.result = result, x.out = out;
  for (uint32_t r = 0; r < results; r++) TS_TRY(eval_result(e, op->results[r], &result[r]));
  if (!eval_add_axes(&x.axes, result[0])) return eval_bad(e, "too many axes");
  for (uint32_t p = 0; p < params; p++) {
    const eval_tile *t = eval_slot(e, op->operands[p]);
    base[p] = t->data;
    eval_strides_over(&x.axes, t, stride[p]);
  }
  for (uint32_t r = 0; r < results; r++) eval_strides_over(&x.axes, result[r], out[r]);
  if (empty(&x.axes)) return TS_OK;
  x.chunk = malloc(((size_t)params + results + x.fn->count) * EVAL_CHUNK * sizeof(ir_cell));
  if (!x.chunk) return TS_OUT_OF_MEMORY;
  int64_t at[EVAL_MAX_RANK] = {0}, inner = x.axes.rank ? x.axes.extent[x.axes.rank - 1] : 1;
  const char *bad = NULL;
  for (bool more = true; more && !bad;) {
    bad = apply_run(e, &x, at, inner);
    more = false;
    for (unsigned d = x.axes.rank ? x.axes.rank - 1 : 0; d-- > 0 && !more;) {
      if (++at[d] < x.axes.extent[d]) more = true;
      else at[d] = 0;
    }
  }
  free(x.chunk);
  return bad ? eval_bad(e, "%s is not allowed%s", bad, e->d == IR_DOMAIN_MODP ? " in the prime field" : "") : TS_OK;
}

// ---- relabel -------------------------------------------------------------------------------------------------------------
// The operand's elements along `axes`, where an axis may have been replaced: strides, and where it starts.
typedef struct relabelled {
  eval_axes axes;
  int64_t stride[EVAL_MAX_RANK], start;
} relabelled;

static bool add_strided(relabelled *v, ts_sym name, int64_t extent, int64_t stride) {
  if (v->axes.rank == EVAL_MAX_RANK) return false;
  v->stride[v->axes.rank] = stride;
  return eval_add_axis(&v->axes, name, extent);
}

// All axes of x but `axis`; slice, pick, rename and split put their own in its place.
static bool view_of(const ir_op *op, const eval_tile *x, const eval_tile *r, ts_sym kind, ts_sym axis, const ir_attr *to,
                    relabelled *v) {
  int64_t own[EVAL_MAX_RANK], at = ir_attr_int(op, "at", 0);
  eval_strides(x, own);
  for (unsigned i = 0; i < x->rank; i++) {
    ts_sym name = x->type->axes[i];
    bool good = true;
    if (name != axis || !strcmp(kind, "permute") || !strcmp(kind, "merge")) good = add_strided(v, name, x->shape[i], own[i]);
    else if (!strcmp(kind, "rename")) good = add_strided(v, to->axes.data[0], x->shape[i], own[i]);
    else if (!strcmp(kind, "pick")) v->start = at * own[i];
    else if (!strcmp(kind, "slice")) {
      v->start = at * own[i];
      good = add_strided(v, name, ir_attr_int(op, "count", 1), own[i] * ir_attr_int(op, "step", 1));
    } else {   // split: the digits, outermost first
      int64_t inner = own[i] * x->shape[i];
      for (uint32_t k = 0; k < to->axes.count && good; k++) {
        int d = eval_axis(r, to->axes.data[k]);
        good = d >= 0 && r->shape[d] > 0;
        if (good) good = add_strided(v, to->axes.data[k], r->shape[d], inner /= r->shape[d]);
      }
    }
    if (!good) return false;
  }
  return true;
}

static ts_status op_concat(eval_kernel *e, const ir_op *op, ts_sym axis, eval_tile *r) {
  int64_t own[EVAL_MAX_RANK], from[EVAL_MAX_RANK], to[EVAL_MAX_RANK], at = 0;
  eval_strides(r, own);
  int along = eval_axis(r, axis);
  for (uint32_t i = 0; i < op->operand_count; i++) {
    const eval_tile *x = eval_slot(e, op->operands[i]);
    eval_axes a = {0};
    int k = eval_axis(x, axis);
    int64_t n = k < 0 ? 1 : x->shape[k];
    for (unsigned d = 0; d < r->rank; d++) eval_add_axis(&a, r->type->axes[d], (int)d == along ? n : r->shape[d]);
    eval_strides_over(&a, x, from);
    for (unsigned d = 0; d < r->rank; d++) to[d] = own[d];
    if (along < 0 || at + n > r->shape[along]) return eval_bad(e, "operands that are longer than the result");
    if (!empty(&a)) eval_copy(a.rank, a.extent, r->data + at * own[along], to, x->data, from);
    at += n;
  }
  return TS_OK;
}

static ts_status op_relabel(eval_kernel *e, const ir_op *op) {
  ts_sym kind = ir_attr_sym(op, "kind"), axis = ir_attr_sym(op, "axis");
  const ir_attr *to = ir_attr_find(op, "to");
  const eval_tile *x = eval_slot(e, op->operands[0]);
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  if (!strcmp(kind, "concat")) return op_concat(e, op, axis, r);
  relabelled v = {0};
  if (!view_of(op, x, r, kind, axis, to, &v)) return eval_bad(e, "axes that do not fit");
  // The result's axes in order; a merged one as its digits, which run as it does.
  eval_axes a = {0};
  int64_t stride[EVAL_MAX_RANK], dst[EVAL_MAX_RANK];
  bool merge = !strcmp(kind, "merge");
  for (unsigned d = 0; d < r->rank; d++) {
    bool digits = merge && r->type->axes[d] == axis;
    for (uint32_t k = 0; k < (digits ? to->axes.count : 1); k++) {
      ts_sym name = digits ? to->axes.data[k] : r->type->axes[d];
      int i = eval_find_axis(&v.axes, name);
      if (i < 0 || !eval_add_axis(&a, name, v.axes.extent[i])) return eval_bad(e, "axes that do not fit");
      stride[a.rank - 1] = v.stride[i];
    }
  }
  if (eval_volume(&a) != (int64_t)r->count) return eval_bad(e, "extents that do not fit");
  dense(&a, dst);
  if (r->count) eval_copy(a.rank, a.extent, r->data, dst, x->data + v.start, stride);
  return TS_OK;
}

// ---- lookup --------------------------------------------------------------------------------------------------------------
static ts_status op_lookup(eval_kernel *e, const ir_op *op) {
  const eval_tile *table = eval_slot(e, op->operands[0]), *index = eval_slot(e, op->operands[1]);
  int along = eval_axis(table, ir_attr_sym(op, "axis"));
  eval_tile *r;
  ir_cell *ix;
  TS_TRY(eval_result(e, op->results[0], &r));
  eval_axes a = {0};
  eval_add_axes(&a, r);
  TS_TRY(eval_gather(e, &a, index, &ix));
  int64_t own[EVAL_MAX_RANK], stride[EVAL_MAX_RANK], at[EVAL_MAX_RANK] = {0};
  eval_strides(table, own);
  eval_strides_over(&a, table, stride);
  int named = eval_find_axis(&a, ir_attr_sym(op, "axis"));   // the index may run along an axis of that name
  if (named >= 0) stride[named] = 0;
  ts_status s = TS_OK;
  for (size_t i = 0; i < r->count && s == TS_OK; i++) {
    int64_t from = ix[i].i * own[along];
    for (unsigned d = 0; d < a.rank; d++) from += at[d] * stride[d];
    if (ix[i].i < 0 || ix[i].i >= table->shape[along])
      s = eval_bad(e, "index %lld of an axis of %lld", (long long)ix[i].i, (long long)table->shape[along]);
    else r->data[i] = table->data[from];
    for (unsigned d = a.rank; d-- > 0;) {
      if (++at[d] < a.extent[d]) break;
      at[d] = 0;
    }
  }
  free(ix);
  return s;
}

// ---- encodings -----------------------------------------------------------------------------------------------------------
// For each element of the codes the element of a scale (or zero, min): same axes, or groups along one.
static ts_status group_cells(eval_kernel *e, const ir_op *op, const eval_tile *codes, const eval_tile *t, ir_cell **out) {
  eval_axes a = {0};
  eval_add_axes(&a, codes);
  int64_t own[EVAL_MAX_RANK], stride[EVAL_MAX_RANK] = {0}, group[EVAL_MAX_RANK], at[EVAL_MAX_RANK] = {0};
  bool used[EVAL_MAX_RANK] = {0};
  eval_strides(t, own);
  const ir_op *from = op->operands[0]->producer;
  for (unsigned d = 0; d < a.rank; d++) {
    int k = eval_axis(t, a.name[d]);
    group[d] = 1;
    if (k >= 0) stride[d] = own[k], used[k] = true;
    if (k >= 0 && t->shape[k] == a.extent[d]) continue;
    for (unsigned i = 0; k < 0 && i < t->rank; i++)   // the axis of groups has a name of its own
      if (eval_find_axis(&a, t->type->axes[i]) < 0) k = (int)i, stride[d] = own[i], used[i] = true;
    if (k < 0) continue;
    if (t->shape[k] < 1) return eval_bad(e, "no groups");
    if (from && from->code == IR_OP_encode && ir_attr_sym(from, "axis") == a.name[d]) group[d] = ir_attr_int(from, "group", 1);
    else if (a.extent[d] % t->shape[k] == 0) group[d] = a.extent[d] / t->shape[k];
    else   // a short last group: the power of two that gives so many
      while ((a.extent[d] + group[d] - 1) / group[d] > t->shape[k]) group[d] *= 2;
    if ((a.extent[d] + group[d] - 1) / group[d] != t->shape[k])
      return eval_bad(e, "%lld groups for an axis of %lld", (long long)t->shape[k], (long long)a.extent[d]);
  }
  for (unsigned i = 0; i < t->rank; i++)
    if (!used[i]) return eval_bad(e, "an axis of the scale that is none of the codes'");
  *out = malloc((codes->count ? codes->count : 1) * sizeof **out);
  if (!*out) return TS_OUT_OF_MEMORY;
  for (size_t i = 0; i < codes->count; i++) {
    int64_t f = 0;
    for (unsigned d = 0; d < a.rank; d++) f += at[d] / group[d] * stride[d];
    (*out)[i] = t->data[f];
    for (unsigned d = a.rank; d-- > 0;) {
      if (++at[d] < a.extent[d]) break;
      at[d] = 0;
    }
  }
  return TS_OK;
}

static ir_cell as_float(eval_kernel *e, ir_dtype t, ir_cell x) {
  if (ir_is_float(t)) return x;
  ir_cell r;
  if (e->d == IR_DOMAIN_MODP) r.p = ir_modp_of_int(x.i);
  else r.r = (double)x.i;
  return r;
}

// (code - zero) * scale, code * scale + min: one rounding, to the result's type.
static ir_cell decode_one(eval_kernel *e, int formula, ir_dtype t, ir_cell code, ir_cell scale, ir_cell third) {
  ir_cell r, zero = eval_zero();
  if (formula == IR_FORMULA_PLAIN) {
    r = code;
    eval_round(e->d, t, 1, &r);
    return r;
  }
  if (formula == IR_FORMULA_ZERO) code = eval_sub(e->d, IR_f64, code, third);
  if (formula == IR_FORMULA_SUB) third = eval_sub(e->d, IR_f64, zero, third);
  if (formula != IR_FORMULA_MIN && formula != IR_FORMULA_SUB) {
    if (e->d == IR_DOMAIN_MODP) r.p = ir_modp_mul(code.p, scale.p);
    else r.r = code.r * scale.r;
    eval_round(e->d, t, 1, &r);
    return r;
  }
  return eval_fma(e->d, t, code, scale, third);
}

static ts_status op_decode(eval_kernel *e, const ir_op *op) {
  const eval_tile *codes = eval_slot(e, op->operands[0]);
  int formula = ir_text_formula(ir_attr_sym(op, "formula"));
  ir_cell *part[2] = {NULL, NULL};
  ts_status s = TS_OK;
  eval_tile *r;
  TS_TRY(eval_result(e, op->results[0], &r));
  for (uint32_t i = 1; i < op->operand_count && s == TS_OK; i++)
    s = group_cells(e, op, codes, eval_slot(e, op->operands[i]), &part[i - 1]);
  eval_axes a = {0};
  eval_add_axes(&a, codes);
  ir_cell *values = malloc((codes->count ? codes->count : 1) * sizeof *values);
  if (!values) s = TS_OUT_OF_MEMORY;
  for (size_t i = 0; i < codes->count && s == TS_OK; i++) {
    ir_cell scale = part[0] ? as_float(e, op->operands[1]->type->dtype, part[0][i]) : eval_zero();
    ir_cell third = part[1] ? as_float(e, op->operands[2]->type->dtype, part[1][i]) : eval_zero();
    values[i] = decode_one(e, formula, r->type->dtype, as_float(e, codes->type->dtype, codes->data[i]), scale, third);
  }
  if (s == TS_OK) eval_scatter(&a, values, r);
  free(values);
  free(part[0]);
  free(part[1]);
  return s;
}

// scale = largest magnitude / (2^(bits-1) - 1), code = x / scale to the nearest integer, half to even; a group of zeros has
// scale 0.
void eval_encode_group(ir_domain d, int64_t n, const ir_cell *x, int64_t top, ir_cell *codes, ir_cell *scale, ir_cell *sum) {
  double largest = 0;
  for (int64_t i = 0; i < n; i++) largest = __builtin_fabs(x[i].r) > largest ? __builtin_fabs(x[i].r) : largest;
  scale->r = largest / (double)top;
  eval_round(d, IR_f32, 1, scale);
  sum->i = 0;
  for (int64_t i = 0; i < n; i++) {
    ir_cell q = {.r = scale->r > 0 ? x[i].r / scale->r : 0};
    eval_round(d, IR_f32, 1, &q);
    q.r = __builtin_nearbyint(q.r);
    codes[i].i = (int64_t)(q.r > (double)top ? (double)top : q.r < (double)-top ? (double)-top : q.r);
    sum->i += codes[i].i;
  }
}

static ts_status op_encode(eval_kernel *e, const ir_op *op) {
  if (e->d == IR_DOMAIN_MODP) return eval_bad(e, "rounding to codes is not allowed in the prime field");
  const eval_tile *x = eval_slot(e, op->operands[0]);
  ts_sym axis = ir_attr_sym(op, "axis");
  int64_t group = ir_attr_int(op, "group", 1), top = (INT64_C(1) << (ir_attr_int(op, "bits", 8) - 1)) - 1;
  eval_axes a = {0}, g = {0};
  for (unsigned d = 0; d < x->rank; d++)
    if (x->type->axes[d] != axis) eval_add_axis(&a, x->type->axes[d], x->shape[d]);
  g = a;
  int64_t n = x->shape[eval_axis(x, axis)], groups = (n + group - 1) / group, rows = eval_volume(&a);
  eval_add_axis(&a, axis, n);
  ts_sym name = axis;
  for (unsigned d = 0; op->result_count > 1 && d < op->results[1]->type->rank; d++)
    if (ir_type_axis(x->type, op->results[1]->type->axes[d]) < 0) name = op->results[1]->type->axes[d];
  eval_add_axis(&g, name, groups);
  eval_tile *r[3];
  ir_cell *in;
  for (uint32_t i = 0; i < op->result_count; i++) TS_TRY(eval_result(e, op->results[i], &r[i]));
  TS_TRY(eval_gather(e, &a, x, &in));
  ir_cell *codes = malloc((size_t)(rows * n + 2 * rows * groups + 1) * sizeof *codes);
  if (!codes) {
    free(in);
    return TS_OUT_OF_MEMORY;
  }
  ir_cell *scale = codes + rows * n, *sum = scale + rows * groups;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t k = 0; k < groups; k++) {
      int64_t at = i * n + k * group, count = n - k * group < group ? n - k * group : group;
      eval_encode_group(e->d, count, in + at, top, codes + at, scale + i * groups + k, sum + i * groups + k);
    }
  eval_scatter(&a, codes, r[0]);
  if (op->result_count > 1) eval_scatter(&g, scale, r[1]);
  if (op->result_count > 2) eval_scatter(&g, sum, r[2]);
  free(in);
  free(codes);
  return TS_OK;
}

// ---- dispatch ------------------------------------------------------------------------------------------------------------
ts_status eval_values_op(eval_kernel *e, const ir_op *op, bool *known) {
  int64_t v;
  *known = true;
  switch (op->code) {
    case IR_OP_const: return op_const(e, op);
    case IR_OP_size:
      TS_TRY(eval_size(e, ir_attr_find(op, "of")->size, &v));
      return op_scalar(e, op, v);
    case IR_OP_pid: return op_scalar(e, op, e->block[ir_attr_int(op, "axis", 0)]);
    case IR_OP_axis:
    case IR_OP_iota: return op_counting(e, op);
    case IR_OP_full: return op_full(e, op);
    case IR_OP_convert: return op_convert(e, op);
    case IR_OP_apply: return op_apply(e, op);
    case IR_OP_relabel: return op_relabel(e, op);
    case IR_OP_lookup: return op_lookup(e, op);
    case IR_OP_decode: return op_decode(e, op);
    case IR_OP_encode: return op_encode(e, op);
    default: *known = false; return TS_OK;
  }
}
