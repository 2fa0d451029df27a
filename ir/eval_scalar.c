// Scalar arithmetic of the three domains (see eval.h), on chunks of elements.
#include "ir/eval_priv.h"

#include <math.h>
#include <stdlib.h>

// ---- the prime field -----------------------------------------------------------------------------------------------------
#define P IR_MODP
enum { GENERATOR = 37 };

uint64_t ir_modp_add(uint64_t a, uint64_t b) {
  if (a == IR_MODP_MINUS_INF || b == IR_MODP_MINUS_INF) return IR_MODP_MINUS_INF;
  uint64_t s = a + b;
  return s >= P ? s - P : s;
}

uint64_t ir_modp_mul(uint64_t a, uint64_t b) {
  if (a == IR_MODP_MINUS_INF || b == IR_MODP_MINUS_INF) return IR_MODP_MINUS_INF;
  unsigned __int128 x = (unsigned __int128)a * b;
  uint64_t s = (uint64_t)(x & P) + (uint64_t)(x >> 61);
  return s >= P ? s - P : s;
}

static uint64_t modp_neg(uint64_t a) { return a == IR_MODP_MINUS_INF || a == 0 ? a : P - a; }
static uint64_t modp_sub(uint64_t a, uint64_t b) { return a == IR_MODP_MINUS_INF ? a : ir_modp_add(a, modp_neg(b)); }

static uint64_t modp_power(uint64_t x, uint64_t n) {
  uint64_t r = 1;
  for (; n; n >>= 1) {
    if (n & 1) r = ir_modp_mul(r, x);
    x = ir_modp_mul(x, x);
  }
  return r;
}

uint64_t ir_modp_inverse(uint64_t a) { return modp_power(a, P - 2); }
uint64_t ir_modp_of_int(int64_t v) {
  int64_t r = v % (int64_t)P;
  return (uint64_t)(r < 0 ? r + (int64_t)P : r);
}

// m * 2^e: 2 has order 61, so that the exponent counts modulo 61.
uint64_t ir_modp_of_real(double v) {
  if (isinf(v) && v < 0) return IR_MODP_MINUS_INF;
  if (!isfinite(v)) return 0x1234567;
  int e;
  int64_t m = (int64_t)ldexp(frexp(v, &e), 53);
  e = ((e - 53) % 61 + 61) % 61;
  return ir_modp_mul(ir_modp_of_int(m), UINT64_C(1) << e);
}

int64_t eval_modp_signed(uint64_t v) {
  return v == IR_MODP_MINUS_INF ? INT64_MIN : v > P / 2 ? (int64_t)v - (int64_t)P : (int64_t)v;
}

uint64_t ir_modp_exp2(uint64_t s) {
  if (s == IR_MODP_MINUS_INF) return 0;
  int64_t n = eval_modp_signed(s);
  return n >= 0 ? modp_power(GENERATOR, (uint64_t)n) : ir_modp_inverse(modp_power(GENERATOR, (uint64_t)-n));
}

uint64_t ir_modp_function(ir_scalar op, uint64_t x) {
  x ^= (uint64_t)(op + 1) * UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
  x ^= x >> 31;
  return x % P;
}

ir_cell ir_eval_real(ir_domain d, ir_dtype t, double v) {
  ir_cell c;
  if (d == IR_DOMAIN_MODP) c.p = ir_modp_of_real(ir_round(t, v));   // so that all ways to write a constant agree
  else c.r = d == IR_DOMAIN_TYPED ? ir_round(t, v) : v;
  return c;
}

// ---- single cells --------------------------------------------------------------------------------------------------------
ir_cell eval_zero(void) { return (ir_cell){.i = 0}; }   // 0.0, 0 and the field's 0 share their bits
ir_cell eval_minus_inf(ir_domain d) {
  ir_cell c;
  if (d == IR_DOMAIN_MODP) c.p = IR_MODP_MINUS_INF;
  else c.r = -INFINITY;
  return c;
}

void eval_round(ir_domain d, ir_dtype t, size_t n, ir_cell *x) {
  if (d != IR_DOMAIN_TYPED || t == IR_f64 || !ir_is_float(t)) return;
  if (t == IR_f32)
    for (size_t i = 0; i < n; i++) x[i].r = (double)(float)x[i].r;
  else
    for (size_t i = 0; i < n; i++) x[i].r = ir_round(t, x[i].r);
}

ir_cell eval_add(ir_domain d, ir_dtype t, ir_cell a, ir_cell b) {
  ir_cell c;
  if (!ir_is_float(t)) c.i = ir_wrap(t, (int64_t)(a.p + b.p));
  else if (d == IR_DOMAIN_MODP) c.p = ir_modp_add(a.p, b.p);
  else {
    c.r = a.r + b.r;
    eval_round(d, t, 1, &c);
  }
  return c;
}

ir_cell eval_sub(ir_domain d, ir_dtype t, ir_cell a, ir_cell b) {
  ir_cell c;
  if (d == IR_DOMAIN_MODP) {
    c.p = modp_sub(a.p, b.p);
    return c;
  }
  c.r = a.r - b.r;
  eval_round(d, t, 1, &c);
  return c;
}

ir_cell eval_fma(ir_domain d, ir_dtype t, ir_cell a, ir_cell b, ir_cell c) {
  ir_cell r;
  if (d == IR_DOMAIN_MODP) r.p = ir_modp_add(ir_modp_mul(a.p, b.p), c.p);
  else if (d == IR_DOMAIN_TYPED && t == IR_f32) r.r = (double)fmaf((float)a.r, (float)b.r, (float)c.r);
  else {
    r.r = fma(a.r, b.r, c.r);
    eval_round(d, t, 1, &r);
  }
  return r;
}

ir_cell eval_exp2(ir_domain d, ir_dtype t, ir_cell x) {
  ir_cell r;
  if (d == IR_DOMAIN_MODP) r.p = ir_modp_exp2(x.p);
  else {
    r.r = exp2(x.r);
    eval_round(d, t, 1, &r);
  }
  return r;
}

int eval_order(ir_domain d, ir_dtype t, ir_cell a, ir_cell b) {
  if (ir_is_float(t) && d != IR_DOMAIN_MODP) {
    if (isnan(a.r) || isnan(b.r)) return isnan(b.r) - isnan(a.r);
    return (a.r > b.r) - (a.r < b.r);
  }
  int64_t x = a.i, y = b.i;
  if (ir_is_float(t)) x = eval_modp_signed(a.p), y = eval_modp_signed(b.p);
  else if (t == IR_u64) return (a.p > b.p) - (a.p < b.p);
  return (x > y) - (x < y);
}

// ---- conversions ---------------------------------------------------------------------------------------------------------
static int64_t to_int(ir_dtype t, double v) {
  if (isnan(v)) return 0;
  v = trunc(v);
  if (t == IR_u64) return v <= 0 ? 0 : v >= 18446744073709551616.0 ? -1 : (int64_t)(uint64_t)v;
  double lo = (double)ir_int_min(t), hi = (double)ir_int_max(t);
  if (t == IR_i64) return v <= -9223372036854775808.0 ? INT64_MIN : v >= 9223372036854775808.0 ? INT64_MAX : (int64_t)v;
  return (int64_t)(v < lo ? lo : v > hi ? hi : v);
}

static double from_int(ir_domain d, ir_dtype from, ir_dtype to, int64_t v) {
  if (d == IR_DOMAIN_TYPED && to == IR_f32) return from == IR_u64 ? (double)(float)(uint64_t)v : (double)(float)v;
  double r = from == IR_u64 ? (double)(uint64_t)v : (double)v;
  return d == IR_DOMAIN_TYPED ? ir_round(to, r) : r;
}

const char *eval_convert(ir_domain d, ir_dtype from, ir_dtype to, size_t n, const ir_cell *x, ir_cell *out) {
  bool modp = d == IR_DOMAIN_MODP;
  if (ir_is_float(from)) {
    if (ir_is_float(to)) {
      memmove(out, x, n * sizeof *x);
      eval_round(d, to, n, out);
      return NULL;
    }
    if (modp) return "a conversion from float to integer";
    for (size_t i = 0; i < n; i++) out[i].i = to_int(to, x[i].r);
    return NULL;
  }
  if (!ir_is_float(to))
    for (size_t i = 0; i < n; i++) out[i].i = ir_wrap(to, x[i].i);
  else if (modp)
    for (size_t i = 0; i < n; i++) out[i].p = from == IR_u64 ? x[i].p % P : ir_modp_of_int(x[i].i);
  else
    for (size_t i = 0; i < n; i++) out[i].r = from_int(d, from, to, x[i].i);
  return NULL;
}

static const char *convert_bits(ir_domain d, ir_dtype from, ir_dtype to, size_t n, const ir_cell *x, ir_cell *out) {
  if (d == IR_DOMAIN_MODP && (ir_is_float(from) || ir_is_float(to))) return "the bits of a float";
  for (size_t i = 0; i < n; i++) {
    uint64_t bits = ir_is_float(from) ? ir_bits_of_float(from, x[i].r) : x[i].p;
    if (ir_is_float(to)) out[i].r = ir_float_of_bits(to, bits);
    else out[i].i = ir_int_of_bits(to, bits);
  }
  return NULL;
}

// ---- operations on chunks ------------------------------------------------------------------------------------------------
#define LOOP(field, expr) \
  for (size_t i = 0; i < n; i++) out[i].field = (expr)

static void int_compare(ir_scalar op, ir_dtype t, size_t n, const ir_cell *a, const ir_cell *b, ir_cell *out) {
  bool big = t == IR_u64;
  switch (op) {
    case IR_SCALAR_eq: LOOP(i, a[i].i == b[i].i); return;
    case IR_SCALAR_ne: LOOP(i, a[i].i != b[i].i); return;
    case IR_SCALAR_lt: LOOP(i, big ? a[i].p < b[i].p : a[i].i < b[i].i); return;
    case IR_SCALAR_le: LOOP(i, big ? a[i].p <= b[i].p : a[i].i <= b[i].i); return;
    case IR_SCALAR_gt: LOOP(i, big ? a[i].p > b[i].p : a[i].i > b[i].i); return;
    default: LOOP(i, big ? a[i].p >= b[i].p : a[i].i >= b[i].i); return;
  }
}

static const char *int_op(ir_scalar op, ir_dtype t, size_t n, const ir_cell *a, const ir_cell *b, ir_cell *out) {
  unsigned bits = ir_dtype_bits(t);
  bool is_signed = ir_is_signed(t);
  if (op == IR_SCALAR_div || op == IR_SCALAR_rem)
    for (size_t i = 0; i < n; i++)
      if (is_signed ? b[i].i <= 0 : b[i].p == 0) return "a divisor that is not above 0";
  if (op == IR_SCALAR_shl || op == IR_SCALAR_shr)
    for (size_t i = 0; i < n; i++)
      if (b[i].p >= bits) return "a shift by the width or more";
  switch (op) {
    case IR_SCALAR_add: LOOP(p, a[i].p + b[i].p); break;
    case IR_SCALAR_sub: LOOP(p, a[i].p - b[i].p); break;
    case IR_SCALAR_mul: LOOP(p, a[i].p * b[i].p); break;
    case IR_SCALAR_div:
      LOOP(i, is_signed ? a[i].i / b[i].i - (a[i].i % b[i].i < 0) : (int64_t)(a[i].p / b[i].p));
      break;
    case IR_SCALAR_rem:
      LOOP(i, is_signed ? a[i].i % b[i].i + (a[i].i % b[i].i < 0 ? b[i].i : 0) : (int64_t)(a[i].p % b[i].p));
      break;
    case IR_SCALAR_neg: LOOP(p, 0 - a[i].p); break;
    case IR_SCALAR_abs: LOOP(p, is_signed && a[i].i < 0 ? 0 - a[i].p : a[i].p); break;
    case IR_SCALAR_min: LOOP(i, eval_order(IR_DOMAIN_TYPED, t, a[i], b[i]) <= 0 ? a[i].i : b[i].i); break;
    case IR_SCALAR_max: LOOP(i, eval_order(IR_DOMAIN_TYPED, t, a[i], b[i]) >= 0 ? a[i].i : b[i].i); break;
    case IR_SCALAR_and: LOOP(p, a[i].p & b[i].p); break;
    case IR_SCALAR_or: LOOP(p, a[i].p | b[i].p); break;
    case IR_SCALAR_xor: LOOP(p, a[i].p ^ b[i].p); break;
    case IR_SCALAR_shl: LOOP(p, a[i].p << b[i].p); break;
    case IR_SCALAR_shr: LOOP(i, is_signed ? a[i].i >> b[i].p : (int64_t)(a[i].p >> b[i].p)); break;
    default: return "this operation on integers";
  }
  if (bits < 64) LOOP(i, ir_wrap(t, out[i].i));
  return NULL;
}

static const char *modp_op(ir_scalar op, size_t n, const ir_cell *a, const ir_cell *b, const ir_cell *c, ir_cell *out) {
  switch (op) {
    case IR_SCALAR_add: LOOP(p, ir_modp_add(a[i].p, b[i].p)); return NULL;
    case IR_SCALAR_sub: LOOP(p, modp_sub(a[i].p, b[i].p)); return NULL;
    case IR_SCALAR_mul: LOOP(p, ir_modp_mul(a[i].p, b[i].p)); return NULL;
    case IR_SCALAR_div: LOOP(p, ir_modp_mul(a[i].p, ir_modp_inverse(b[i].p))); return NULL;
    case IR_SCALAR_fma: LOOP(p, ir_modp_add(ir_modp_mul(a[i].p, b[i].p), c[i].p)); return NULL;
    case IR_SCALAR_neg: LOOP(p, modp_neg(a[i].p)); return NULL;
    case IR_SCALAR_min: LOOP(p, eval_modp_signed(a[i].p) <= eval_modp_signed(b[i].p) ? a[i].p : b[i].p); return NULL;
    case IR_SCALAR_max: LOOP(p, eval_modp_signed(a[i].p) >= eval_modp_signed(b[i].p) ? a[i].p : b[i].p); return NULL;
    case IR_SCALAR_eq: LOOP(i, a[i].p == b[i].p); return NULL;
    case IR_SCALAR_ne: LOOP(i, a[i].p != b[i].p); return NULL;
    case IR_SCALAR_lt: case IR_SCALAR_le: case IR_SCALAR_gt: case IR_SCALAR_ge: return "a comparison of floats";
    case IR_SCALAR_exp2: LOOP(p, ir_modp_exp2(a[i].p)); return NULL;
    default: LOOP(p, ir_modp_function(op, a[i].p)); return NULL;
  }
}

static const char *real_op(ir_domain d, ir_scalar op, ir_dtype t, size_t n, const ir_cell *a, const ir_cell *b, const ir_cell *c,
                           ir_cell *out) {
  switch (op) {
    case IR_SCALAR_eq: LOOP(i, a[i].r == b[i].r); return NULL;
    case IR_SCALAR_ne: LOOP(i, a[i].r != b[i].r); return NULL;
    case IR_SCALAR_lt: LOOP(i, a[i].r < b[i].r); return NULL;
    case IR_SCALAR_le: LOOP(i, a[i].r <= b[i].r); return NULL;
    case IR_SCALAR_gt: LOOP(i, a[i].r > b[i].r); return NULL;
    case IR_SCALAR_ge: LOOP(i, a[i].r >= b[i].r); return NULL;
    case IR_SCALAR_add: LOOP(r, a[i].r + b[i].r); break;
    case IR_SCALAR_sub: LOOP(r, a[i].r - b[i].r); break;
    case IR_SCALAR_mul: LOOP(r, a[i].r * b[i].r); break;
    case IR_SCALAR_div: LOOP(r, a[i].r / b[i].r); break;
    case IR_SCALAR_fma:
      for (size_t i = 0; i < n; i++) out[i] = eval_fma(d, t, a[i], b[i], c[i]);
      return NULL;
    case IR_SCALAR_neg: LOOP(r, -a[i].r); break;
    case IR_SCALAR_abs: LOOP(r, fabs(a[i].r)); break;
    case IR_SCALAR_min: LOOP(r, fmin(a[i].r, b[i].r)); break;
    case IR_SCALAR_max: LOOP(r, fmax(a[i].r, b[i].r)); break;
    case IR_SCALAR_round: LOOP(r, nearbyint(a[i].r)); break;
    case IR_SCALAR_floor: LOOP(r, floor(a[i].r)); break;
    case IR_SCALAR_exp: LOOP(r, exp(a[i].r)); break;
    case IR_SCALAR_exp2: LOOP(r, exp2(a[i].r)); break;
    case IR_SCALAR_log: LOOP(r, log(a[i].r)); break;
    case IR_SCALAR_log2: LOOP(r, log2(a[i].r)); break;
    case IR_SCALAR_sqrt: LOOP(r, sqrt(a[i].r)); break;
    case IR_SCALAR_rsqrt: LOOP(r, 1 / sqrt(a[i].r)); break;
    case IR_SCALAR_sin: LOOP(r, sin(a[i].r)); break;
    case IR_SCALAR_cos: LOOP(r, cos(a[i].r)); break;
    case IR_SCALAR_tanh: LOOP(r, tanh(a[i].r)); break;
    case IR_SCALAR_erf: LOOP(r, erf(a[i].r)); break;
    default: return "this operation on floats";
  }
  eval_round(d, t, n, out);
  return NULL;
}

static const char *eval_node(ir_domain d, const ir_fn *fn, const ir_expr *e, size_t n, ir_cell *const *v, ir_cell *out) {
  const ir_scalar_info *info = ir_scalar_get(e->op);
  const ir_cell *x[3] = {NULL, NULL, NULL};
  for (unsigned k = 0; k < info->arity; k++) x[k] = v[e->args[k]];
  ir_dtype t = fn->nodes[e->args[0]].type;
  if (e->op == IR_SCALAR_CONST) {
    ir_cell c = {.i = e->integer};
    if (ir_is_float(e->type)) c = ir_eval_real(d, e->type, e->real);
    for (size_t i = 0; i < n; i++) out[i] = c;
    return NULL;
  }
  if (e->op == IR_SCALAR_select) {
    for (size_t i = 0; i < n; i++) out[i] = x[0][i].i ? x[1][i] : x[2][i];
    return NULL;
  }
  if (e->op == IR_SCALAR_cast) return eval_convert(d, t, e->type, n, x[0], out);
  if (e->op == IR_SCALAR_bits) return convert_bits(d, t, e->type, n, x[0], out);
  if (ir_is_float(t))
    return d == IR_DOMAIN_MODP ? modp_op(e->op, n, x[0], x[1], x[2], out) : real_op(d, e->op, t, n, x[0], x[1], x[2], out);
  if (info->rule == IR_RULE_BOOL) {
    int_compare(e->op, t, n, x[0], x[1], out);
    return NULL;
  }
  return int_op(e->op, t, n, x[0], x[1], out);
}

const char *eval_fn(ir_domain d, const ir_fn *fn, size_t n, const ir_cell *const *args, ir_cell *const *outs, ir_cell *scratch) {
  ir_cell *stack[256], **v = fn->count <= 256 ? stack : malloc(fn->count * sizeof *v);
  const char *bad = v ? NULL : "so many operations (out of memory)";
  for (uint32_t i = 0; i < fn->count && !bad; i++) {
    v[i] = i < fn->params ? (ir_cell *)args[i] : scratch + (size_t)i * EVAL_CHUNK;
    if (i >= fn->params) bad = eval_node(d, fn, &fn->nodes[i], n, v, v[i]);
  }
  for (uint32_t r = 0; r < fn->results && !bad; r++) memcpy(outs[r], v[fn->outputs[r]], n * sizeof **outs);
  if (v != stack) free(v);
  return bad;
}

// ---- dot -----------------------------------------------------------------------------------------------------------------
// One row of c: c[0..N) += a[k] * b[k][0..N) in order of k.
typedef void dot_row_f32(int64_t N, int64_t K, int64_t ldb, const float *a, const float *b, float *c);
typedef void dot_row_f64(int64_t N, int64_t K, int64_t ldb, const double *a, const double *b, double *c);

static inline __attribute__((always_inline)) void row_f32(int64_t N, int64_t K, int64_t ldb, const float *a, const float *b,
                                                          float *restrict c) {
  for (int64_t k = 0; k < K; k++)
    for (int64_t n = 0; n < N; n++) c[n] = __builtin_fmaf(a[k], b[k * ldb + n], c[n]);
}
static inline __attribute__((always_inline)) void row_f64(int64_t N, int64_t K, int64_t ldb, const double *a, const double *b,
                                                          double *restrict c) {
  for (int64_t k = 0; k < K; k++)
    for (int64_t n = 0; n < N; n++) c[n] = c[n] + a[k] * b[k * ldb + n];
}
static __attribute__((target("avx2,fma"))) void row_f32_avx2(int64_t N, int64_t K, int64_t ldb, const float *a, const float *b,
                                                             float *c) {
  row_f32(N, K, ldb, a, b, c);
}
static void row_f32_base(int64_t N, int64_t K, int64_t ldb, const float *a, const float *b, float *c) {
  row_f32(N, K, ldb, a, b, c);
}
static __attribute__((target("avx2"))) void row_f64_avx2(int64_t N, int64_t K, int64_t ldb, const double *a, const double *b,
                                                         double *c) {
  row_f64(N, K, ldb, a, b, c);
}
static void row_f64_base(int64_t N, int64_t K, int64_t ldb, const double *a, const double *b, double *c) {
  row_f64(N, K, ldb, a, b, c);
}

enum { DOT_COLUMNS = 256 };   // columns of b that stay in cache while the rows of a go by

static bool dot_f32(int64_t M, int64_t N, int64_t K, const ir_cell *a, const ir_cell *b, ir_cell *c) {
  dot_row_f32 *row = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? row_f32_avx2 : row_f32_base;
  float *fa = malloc((size_t)(M * K + K * DOT_COLUMNS + DOT_COLUMNS + 1) * sizeof(float));
  if (!fa) return false;
  float *fb = fa + M * K, *fc = fb + K * DOT_COLUMNS;
  for (int64_t i = 0; i < M * K; i++) fa[i] = (float)a[i].r;
  for (int64_t n0 = 0; n0 < N; n0 += DOT_COLUMNS) {
    int64_t nn = N - n0 < DOT_COLUMNS ? N - n0 : DOT_COLUMNS;
    for (int64_t k = 0; k < K; k++)
      for (int64_t n = 0; n < nn; n++) fb[k * nn + n] = (float)b[k * N + n0 + n].r;
    for (int64_t m = 0; m < M; m++) {
      for (int64_t n = 0; n < nn; n++) fc[n] = (float)c[m * N + n0 + n].r;
      row(nn, K, nn, fa + m * K, fb, fc);
      for (int64_t n = 0; n < nn; n++) c[m * N + n0 + n].r = fc[n];
    }
  }
  free(fa);
  return true;
}

static void dot_f64(int64_t M, int64_t N, int64_t K, const ir_cell *a, const ir_cell *b, ir_cell *c) {
  dot_row_f64 *row = __builtin_cpu_supports("avx2") ? row_f64_avx2 : row_f64_base;
  for (int64_t n0 = 0; n0 < N; n0 += DOT_COLUMNS) {
    int64_t nn = N - n0 < DOT_COLUMNS ? N - n0 : DOT_COLUMNS;
    for (int64_t m = 0; m < M; m++) row(nn, K, N, &a[m * K].r, &b[n0].r, &c[m * N + n0].r);
  }
}

void eval_dot(ir_domain d, ir_dtype ta, ir_dtype tb, ir_dtype acc, int64_t batch, int64_t M, int64_t N, int64_t K,
              const ir_cell *a, const ir_cell *b, ir_cell *c) {
  bool narrow = acc == IR_f32 && ta != IR_f64 && tb != IR_f64;
  for (int64_t s = 0; s < batch; s++, a += M * K, b += K * N, c += M * N) {
    if (ir_is_float(acc) && d == IR_DOMAIN_IDEAL) dot_f64(M, N, K, a, b, c);
    else if (ir_is_float(acc) && d == IR_DOMAIN_TYPED && narrow && dot_f32(M, N, K, a, b, c)) continue;
    else
      for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
          for (int64_t n = 0; n < N; n++) {
            ir_cell *o = &c[m * N + n];
            if (ir_is_float(acc)) *o = eval_fma(d, acc, a[m * K + k], b[k * N + n], *o);
            else o->i = ir_wrap(acc, (int64_t)(o->p + a[m * K + k].p * b[k * N + n].p));
          }
  }
}
