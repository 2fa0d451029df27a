// Evaluator of tensor IR: arithmetic. In the typed domain sums are taken in the result's type, in order, as a simple f32
// program would. In the prime field constants are those that lowering writes into kernels (rounded to the element type), so
// that a function and its kernels agree.
#include "ir/eval_priv.h"
#include "ir/weights.h"

#include <math.h>
#include <stdlib.h>

static ir_cell multiply(ir_domain d, ir_dtype t, ir_cell a, ir_cell b) {
  ir_cell r;
  if (d == IR_DOMAIN_MODP) r.p = ir_modp_mul(a.p, b.p);
  else {
    r.r = a.r * b.r;
    eval_round(d, t, 1, &r);
  }
  return r;
}

static ir_cell unary(ir_domain d, ir_scalar op, ir_dtype t, ir_cell x) {
  ir_cell r;
  if (d == IR_DOMAIN_MODP) r.p = ir_modp_function(op, x.p);
  else {
    r.r = op == IR_SCALAR_rsqrt ? 1 / sqrt(x.r) : exp(x.r);
    eval_round(d, t, 1, &r);
  }
  return r;
}

// ---- map -----------------------------------------------------------------------------------------------------------------
static ts_status op_map(eval_call *e, const ir_op *op) {
  const ir_fn *fn = ir_attr_find(op, "fn")->fn;
  enum { MAX = 64 };
  int64_t stride[MAX][IR_EVAL_RANK], at[IR_EVAL_RANK] = {0};
  const ir_cell *base[MAX], *args[MAX];
  eval_tensor *t;
  if (fn->params > MAX) return eval_call_bad(e, "a function of more than %d parameters", MAX);
  TS_TRY(eval_tensor_result(e, op, &t));
  unsigned rank = t->t.rank;
  for (uint32_t p = 0; p < fn->params; p++) {
    eval_tensor *x;
    TS_TRY(eval_tensor_need(e, op->operands[p], &x));
    base[p] = x->t.data;
    int64_t step = 1;
    for (unsigned d = 0; d < rank; d++) stride[p][d] = 0;
    for (unsigned d = x->t.rank; d-- > 0;) {
      unsigned to = rank - x->t.rank + d;
      if (x->t.shape[d] != 1 && x->t.shape[d] != t->t.shape[to]) return eval_call_bad(e, "operand %u does not broadcast", p);
      stride[p][to] = x->t.shape[d] == 1 ? 0 : step;
      step *= x->t.shape[d];
    }
  }
  if (!t->count) return TS_OK;
  ir_cell *chunk = malloc(((size_t)fn->params + fn->count) * EVAL_CHUNK * sizeof *chunk);
  if (!chunk) return TS_OUT_OF_MEMORY;
  int64_t inner = rank ? t->t.shape[rank - 1] : 1;
  const char *bad = NULL;
  for (ir_cell *out = t->t.data, *end = out + t->count; out < end && !bad;) {
    for (int64_t i0 = 0; i0 < inner && !bad; i0 += EVAL_CHUNK) {
      size_t n = (size_t)(inner - i0 < EVAL_CHUNK ? inner - i0 : EVAL_CHUNK);
      for (uint32_t p = 0; p < fn->params; p++) {
        const ir_cell *from = base[p];
        int64_t step = rank ? stride[p][rank - 1] : 0;
        for (unsigned d = 0; d + 1 < rank; d++) from += at[d] * stride[p][d];
        ir_cell *to = chunk + (size_t)p * EVAL_CHUNK;
        for (size_t i = 0; i < n; i++) to[i] = from[(i0 + (int64_t)i) * step];
        args[p] = to;
      }
      bad = eval_fn(e->d, fn, n, args, &out, chunk + (size_t)fn->params * EVAL_CHUNK);
      out += n;
    }
    for (unsigned d = rank ? rank - 1 : 0; d-- > 0;) {
      if (++at[d] < t->t.shape[d]) break;
      at[d] = 0;
    }
  }
  free(chunk);
  return bad ? eval_call_bad(e, "%s is not allowed%s", bad, e->d == IR_DOMAIN_MODP ? " in the prime field" : "") : TS_OK;
}

// ---- linear, matmul ------------------------------------------------------------------------------------------------------
// Rows of x through 8-bit codes in blocks of 32.
static void quantize_rows(eval_call *e, ir_dtype t, int64_t rows, int64_t k, ir_cell *x) {
  ir_cell codes[32], scale, sum;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < k; i += 32) {
      int64_t n = k - i < 32 ? k - i : 32;
      ir_cell *at = x + r * k + i;
      eval_encode_group(e->d, n, at, 127, codes, &scale, &sum);
      for (int64_t j = 0; j < n; j++) at[j].r = (double)codes[j].i * scale.r;
      eval_round(e->d, t, (size_t)n, at);
    }
}

enum { BLOCK = 256 };   // rows of w at a time

// out[M][N] += x[M][K] w[N][K]; w is a tensor or a weight not yet decoded.
static ts_status times_transposed(eval_call *e, ir_dtype tx, ir_dtype acc, int64_t M, int64_t N, int64_t K, const ir_cell *x,
                                  eval_tensor *w, ir_cell *out) {
  ir_cell *rows = malloc((size_t)(BLOCK * K * 2 + M * BLOCK + 1) * sizeof *rows);
  if (!rows) return TS_OUT_OF_MEMORY;
  ir_cell *turned = rows + BLOCK * K, *part = turned + BLOCK * K;
  ts_status s = TS_OK;
  for (int64_t n0 = 0; n0 < N && s == TS_OK; n0 += BLOCK) {
    int64_t nn = N - n0 < BLOCK ? N - n0 : BLOCK;
    const ir_cell *from = w->t.data ? w->t.data + n0 * K : rows;
    if (!w->t.data) s = eval_weight_rows(e, w->weight, w->t.dtype, n0, nn, rows);
    if (s != TS_OK) break;
    for (int64_t n = 0; n < nn; n++)
      for (int64_t k = 0; k < K; k++) turned[k * nn + n] = from[n * K + k];
    for (int64_t m = 0; m < M; m++) memcpy(part + m * nn, out + m * N + n0, (size_t)nn * sizeof *part);
    eval_dot(e->d, tx, w->t.dtype, acc, 1, M, nn, K, x, turned, part);
    for (int64_t m = 0; m < M; m++) memcpy(out + m * N + n0, part + m * nn, (size_t)nn * sizeof *part);
  }
  free(rows);
  return s;
}

static ts_status op_linear(eval_call *e, const ir_op *op) {
  eval_tensor *x, *w = eval_tensor_of(e, op->operands[1]), *b = NULL, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  if (!w->t.data && !w->weight) return eval_call_bad(e, "an operand without value");
  if (op->operand_count == 3) TS_TRY(eval_tensor_need(e, op->operands[2], &b));
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t K = x->t.shape[x->t.rank - 1], M = eval_tensor_rows(x, 0, x->t.rank - 1), N = w->t.shape[0];
  const ir_cell *in = x->t.data;
  ir_cell *quantized = NULL;
  ts_sym act = ir_attr_sym(op, "activations");
  if (act && !strcmp(act, "s8_block32")) {
    if (e->d == IR_DOMAIN_MODP) return eval_call_bad(e, "rounding to codes is not allowed in the prime field");
    quantized = malloc((x->count + 1) * sizeof *quantized);
    if (!quantized) return TS_OUT_OF_MEMORY;
    memcpy(quantized, x->t.data, x->count * sizeof *quantized);
    quantize_rows(e, x->t.dtype, M, K, quantized);
    in = quantized;
  }
  // Sums of narrow floats are taken in f32 and rounded once.
  ir_dtype acc = t->t.dtype == IR_f64 ? IR_f64 : IR_f32;
  memset(t->t.data, 0, t->count * sizeof(ir_cell));
  ts_status s = times_transposed(e, x->t.dtype, acc, M, N, K, in, w, t->t.data);
  free(quantized);
  for (int64_t m = 0; m < M && s == TS_OK && b; m++)
    for (int64_t n = 0; n < N; n++) t->t.data[m * N + n] = eval_add(e->d, acc, t->t.data[m * N + n], b->t.data[n]);
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return s;
}

static ts_status op_matmul(eval_call *e, const ir_op *op) {
  eval_tensor *a, *b, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &a));
  TS_TRY(eval_tensor_need(e, op->operands[1], &b));
  TS_TRY(eval_tensor_result(e, op, &t));
  ir_dtype acc = !ir_is_float(t->t.dtype) || t->t.dtype == IR_f64 ? t->t.dtype : IR_f32;
  int64_t K = a->t.shape[a->t.rank - 1], M = a->t.shape[a->t.rank - 2], N = b->t.shape[b->t.rank - 1],
          batch = eval_tensor_rows(a, 0, a->t.rank - 2);
  if (b->t.rank == 2) M *= batch, batch = 1;
  memset(t->t.data, 0, t->count * sizeof(ir_cell));
  eval_dot(e->d, a->t.dtype, b->t.dtype, acc, batch, M, N, K, a->t.data, b->t.data, t->t.data);
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return TS_OK;
}

// ---- norms, softmax, reductions ------------------------------------------------------------------------------------------
static void norm_row(eval_call *e, ir_dtype t, bool layer, double eps, int64_t n, const ir_cell *x, const ir_cell *g,
                     const ir_cell *b, ir_cell *out) {
  ir_domain d = e->d;
  ir_cell sum = eval_zero(), part = ir_eval_real(d, t, 1.0 / (double)n), mean = eval_zero(), square = eval_zero();
  if (d != IR_DOMAIN_MODP) part.r = 1.0 / (double)n;
  if (layer) {
    for (int64_t i = 0; i < n; i++) sum = eval_add(d, t, sum, x[i]);
    mean = multiply(d, t, sum, part);
  }
  for (int64_t i = 0; i < n; i++) {
    ir_cell c = layer ? eval_sub(d, t, x[i], mean) : x[i];
    square = eval_fma(d, t, c, c, square);
  }
  ir_cell var = eval_add(d, t, multiply(d, t, square, part), ir_eval_real(d, t, eps)), factor = unary(d, IR_SCALAR_rsqrt, t, var);
  for (int64_t i = 0; i < n; i++) {
    ir_cell c = layer ? eval_sub(d, t, x[i], mean) : x[i];
    c = multiply(d, t, multiply(d, t, c, factor), g[i]);
    out[i] = layer ? eval_add(d, t, c, b[i]) : c;
  }
}

static ts_status op_norm(eval_call *e, const ir_op *op) {
  eval_tensor *x, *g, *b = NULL, *t;
  bool layer = op->code == IR_OP_layer_norm;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_need(e, op->operands[1], &g));
  if (layer) TS_TRY(eval_tensor_need(e, op->operands[2], &b));
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t n = x->t.shape[x->t.rank - 1], rows = n ? (int64_t)x->count / n : 0;
  ir_dtype acc = t->t.dtype == IR_f64 ? IR_f64 : IR_f32;
  for (int64_t r = 0; r < rows; r++)
    norm_row(e, acc, layer, ir_attr_real(op, "eps", 0), n, x->t.data + r * n, g->t.data, b ? b->t.data : NULL, t->t.data + r * n);
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return TS_OK;
}

static ts_status op_softmax(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  ir_dtype acc = t->t.dtype == IR_f64 ? IR_f64 : IR_f32;
  int64_t n = x->t.shape[x->t.rank - 1], rows = n ? (int64_t)x->count / n : 0;
  ir_cell log2e = ir_eval_real(e->d, acc, M_LOG2E);
  for (int64_t r = 0; r < rows; r++) {
    const ir_cell *in = x->t.data + r * n;
    ir_cell *out = t->t.data + r * n, top = in[0], sum = eval_zero();
    for (int64_t i = 1; i < n; i++)
      if (eval_order(e->d, acc, in[i], top) > 0) top = in[i];
    for (int64_t i = 0; i < n; i++) {
      ir_cell c = eval_sub(e->d, acc, in[i], top);
      out[i] = e->d == IR_DOMAIN_MODP ? eval_exp2(e->d, acc, multiply(e->d, acc, c, log2e)) : unary(e->d, IR_SCALAR_exp, acc, c);
      sum = eval_add(e->d, acc, sum, out[i]);
    }
    for (int64_t i = 0; i < n; i++) {
      if (e->d == IR_DOMAIN_MODP) out[i].p = ir_modp_mul(out[i].p, ir_modp_inverse(sum.p));
      else out[i].r /= sum.r;
    }
  }
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return TS_OK;
}

static ts_status op_reduce(eval_call *e, const ir_op *op) {
  eval_tensor *x, *t;
  ts_sym name = ir_attr_sym(op, "op");
  unsigned axis = (unsigned)ir_attr_int(op, "axis", 0);
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_result(e, op, &t));
  int64_t n = x->t.shape[axis], inner = eval_tensor_rows(x, axis + 1, x->t.rank), outer = eval_tensor_rows(x, 0, axis);
  bool add = !strcmp(name, "add") || !strcmp(name, "mean"), mean = !strcmp(name, "mean"), max = !strcmp(name, "max");
  ir_dtype type = t->t.dtype;
  if (n == 0 && !add) return eval_call_bad(e, "%s over nothing", name);
  if (mean && (!ir_is_float(type) || n == 0)) return eval_call_bad(e, "a mean of integers or of nothing");
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < inner; i++) {
      const ir_cell *in = x->t.data + o * n * inner + i;
      ir_cell acc = add ? eval_zero() : in[0];
      for (int64_t k = 0; k < n; k++) {
        ir_cell v = in[k * inner];
        if (add) acc = eval_add(e->d, type, acc, v);
        else if (max ? eval_order(e->d, type, v, acc) > 0 : eval_order(e->d, type, v, acc) < 0) acc = v;
      }
      if (mean && e->d == IR_DOMAIN_MODP) acc = multiply(e->d, type, acc, ir_eval_real(e->d, type, 1.0 / (double)n));
      else if (mean) acc.r /= (double)n;
      t->t.data[o * inner + i] = acc;
    }
  if (ir_is_float(type)) eval_round(e->d, type, t->count, t->t.data);
  return TS_OK;
}

// ---- rope ----------------------------------------------------------------------------------------------------------------
static ts_status op_rope(eval_call *e, const ir_op *op) {
  eval_tensor *x, *pos, *t;
  TS_TRY(eval_tensor_need(e, op->operands[0], &x));
  TS_TRY(eval_tensor_need(e, op->operands[1], &pos));
  TS_TRY(eval_tensor_result(e, op, &t));
  ir_dtype type = t->t.dtype == IR_f64 ? IR_f64 : IR_f32;
  int64_t d = x->t.shape[x->t.rank - 1], heads = x->t.shape[x->t.rank - 2];
  bool half = !strcmp(ir_attr_sym(op, "pairs"), "half");
  double theta = ir_attr_real(op, "theta", 1e4);
  for (size_t p = 0; p < pos->count; p++)
    for (int64_t i = 0; i < d / 2; i++) {
      double angle = (double)pos->t.data[p].i * pow(theta, -2.0 * (double)i / (double)d);
      ir_cell c = ir_eval_real(e->d, type, cos(angle)), s = ir_eval_real(e->d, type, sin(angle)), zero = eval_zero();
      for (int64_t h = 0; h < heads; h++) {
        int64_t at = ((int64_t)p * heads + h) * d, a = at + (half ? i : 2 * i), b = half ? a + d / 2 : a + 1;
        ir_cell u = x->t.data[a], v = x->t.data[b];
        t->t.data[a] = eval_sub(e->d, type, multiply(e->d, type, u, c), multiply(e->d, type, v, s));
        t->t.data[b] = eval_fma(e->d, type, u, s, eval_fma(e->d, type, v, c, zero));
      }
    }
  eval_round(e->d, t->t.dtype, t->count, t->t.data);
  return TS_OK;
}

ts_status eval_dense_op(eval_call *e, const ir_op *op, bool *known) {
  *known = true;
  switch (op->code) {
    case IR_OP_map_t: return op_map(e, op);
    case IR_OP_linear: return op_linear(e, op);
    case IR_OP_matmul: return op_matmul(e, op);
    case IR_OP_rms_norm:
    case IR_OP_layer_norm: return op_norm(e, op);
    case IR_OP_softmax: return op_softmax(e, op);
    case IR_OP_reduce_t: return op_reduce(e, op);
    case IR_OP_rope: return op_rope(e, op);
    default: *known = false; return TS_OK;
  }
}
