// Scalar functions of codegen/host against the C library in long double, and casts against ir/dtype.c, for every level that this
// CPU has: vectors of 16 and scalars.
#include "tests/unit/host_kernels.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

typedef struct fixture {
  hk h;
  const cgh_isa *isas[8];
  unsigned count;
} fixture;

// y[i] = f(x[i]) over n elements, n a multiple of 16.
static void elementwise(hk *h, const ir_fn *f, ir_dtype from, ir_dtype to, int64_t n, bool vectors) {
  ir_kernel *k = hk_begin(h, "unary");
  k->grid[0] = hk_size(h, n / 16);
  ir_value *x = hk_param_c(h, "x", IR_PARAM_IN, from, 1, &n), *y = hk_param_c(h, "y", IR_PARAM_OUT, to, 1, &n);
  ir_value *at = hk_op(h, IR_SCALAR_mul, hk_pid(h, 0), hk_int(h, 16));
  ir_value *v = hk_load(h, x, &at, "i", NULL, hk_tile(h, from, vectors ? "i:16*" : "i:16"));
  hk_store(h, y, &at, "i", ir_apply(&h->b, f, 1, &v), NULL);
}

static void compile_or_fail(hk *h, const cgh_isa *isa, hk_image *image) {
  ts_status s = hk_compile(h, isa, NULL, image);
  ts_text text = {0};
  if (s != TS_OK) ts_diags_print(&h->diags, &text, false);
  ck_assert_msg(s == TS_OK, "%s: %s", isa->name, ts_text_z(&text));
}

static const ir_fn *unary(hk *h, ir_scalar op, ir_dtype t) {
  ir_fn_builder b;
  ir_fn_begin(&b, h->module, 1, &t);
  uint32_t out = ir_fn_op(&b, op, 0, 0, 0);
  return ir_fn_end(&b, 1, &out);
}

static const ir_fn *cast_fn(hk *h, ir_dtype from, ir_dtype to) {
  ir_fn_builder b;
  ir_fn_begin(&b, h->module, 1, &from);
  uint32_t out = ir_fn_cast(&b, to, 0);
  return ir_fn_end(&b, 1, &out);
}

// ---- functions ---------------------------------------------------------------------------------------------------------------
typedef struct range {
  double lo, hi;
} range;
typedef struct function {
  ir_scalar op;
  long double (*exact)(long double);
  double ulp32, ulp64;   // 0: not offered
  range ranges[4];       // dense samples; every function also gets random bits and special values
} function;

static long double rsqrt_exact(long double x) { return 1 / sqrtl(x); }

static const function functions[] = {
  {IR_SCALAR_exp, expl, 2, 4, {{-110, 90}, {-1, 1}, {-1e-3, 1e-3}, {-746, 710}}},
  {IR_SCALAR_exp2, exp2l, 2, 4, {{-152, 130}, {-1, 1}, {-1e-3, 1e-3}, {-1076, 1025}}},
  {IR_SCALAR_log, logl, 2, 4, {{0, 4}, {0.5, 2}, {0.99, 1.01}, {0, 1e30}}},
  {IR_SCALAR_log2, log2l, 2, 4, {{0, 4}, {0.5, 2}, {0.99, 1.01}, {0, 1e30}}},
  {IR_SCALAR_sqrt, sqrtl, 0.51, 0.51, {{0, 4}, {0, 1e30}}},
  {IR_SCALAR_rsqrt, rsqrt_exact, 2, 2, {{0, 4}, {0, 1e30}}},
  {IR_SCALAR_sin, sinl, 2, 0, {{-4, 4}, {-1000, 1000}, {-1e9, 1e9}, {-1e38, 1e38}}},
  {IR_SCALAR_cos, cosl, 2, 0, {{-4, 4}, {-1000, 1000}, {-1e9, 1e9}, {-1e38, 1e38}}},
  {IR_SCALAR_tanh, tanhl, 2, 0, {{-10, 10}, {-1, 1}, {-1e-3, 1e-3}}},
  {IR_SCALAR_erf, erfl, 2, 0, {{-5, 5}, {-1.2, 1.2}, {-1e-3, 1e-3}}},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0], SAMPLES = 16 * 4096 };

static const double specials[] = {0.0,      -0.0,     1,         -1,       INFINITY, -INFINITY,
                                  NAN,      0x1p-149, -0x1p-149, 0x1p-126, 0x1p-140, 0x1.fffffep127,
                                  88.72283, -87.3,    -103.9,    127.9999};

static uint64_t seed_of(void) { return UINT64_C(0x9E3779B97F4A7C15); }
static uint64_t next_random(uint64_t *s) {
  *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
  return *s;
}

static double sample(const function *f, uint64_t *seed, int i, bool wide) {
  enum { SPECIALS = sizeof specials / sizeof specials[0] };
  if (i < SPECIALS) return specials[i];
  uint64_t r = next_random(seed);
  if (i % 8 == 0) {
    double d;
    float s;
    uint32_t low = (uint32_t)r;
    memcpy(&s, &low, 4);
    memcpy(&d, &r, 8);
    return wide ? d : s;
  }
  const range *g = &f->ranges[i / 8 % 4];
  if (g->lo == g->hi) g = &f->ranges[0];
  return g->lo + (g->hi - g->lo) * ((double)(r >> 11) * 0x1p-53);
}

// Distance in units of the last place of the type at the exact result.
static double error_ulp(long double exact, double got, bool wide) {
  if (isnan(exact)) return isnan(got) ? 0 : INFINITY;
  double rounded = wide ? (double)exact : (double)(float)exact;
  if (rounded == got) return 0;
  if (isinf(rounded) || isinf(got) || isnan(got)) {
    // One step beyond the largest number is infinity.
    return isinf(got) && !isinf(rounded) && fabsl(exact) > (wide ? 0x1.ffffffffffffep1023L : 0x1.fffffcp127L) ? 1 : INFINITY;
  }
  int e = exact == 0 ? -10000 : ilogbl(exact);
  int lowest = wide ? -1022 : -126;
  long double ulp = ldexpl(1, (e < lowest ? lowest : e) - (wide ? 52 : 23));
  return (double)(fabsl(exact - (long double)got) / ulp);
}

static void check_function(const cgh_isa *isa, const function *f, bool wide, bool vectors) {
  double limit = wide ? f->ulp64 : f->ulp32;
  ir_dtype t = wide ? IR_f64 : IR_f32;
  hk h;
  hk_init(&h);
  elementwise(&h, unary(&h, f->op, t), t, t, SAMPLES, vectors);
  hk_image image;
  const char *name = ir_scalar_get(f->op)->name;
  if (limit == 0) {
    ck_assert_int_eq(hk_compile(&h, isa, NULL, &image), TS_UNSUPPORTED);
    ck_assert(ts_diags_has(&h.diags, &diag_host_scalar));
    hk_deinit(&h);
    return;
  }
  compile_or_fail(&h, isa, &image);
  size_t width = wide ? 8 : 4;
  char *x = malloc(SAMPLES * width), *y = malloc(SAMPLES * width);
  memset(y, 0xAB, SAMPLES * width);
  uint64_t seed = seed_of();
  for (int i = 0; i < SAMPLES; i++) {
    double v = sample(f, &seed, i, wide);
    if (wide) ((double *)x)[i] = v;
    else ((float *)x)[i] = (float)v;
  }
  ck_assert_int_eq(hk_run(&image, (void *[]){x, y}, (int64_t[]){SAMPLES / 16, 1, 1}, SAMPLES / 16), 0);
  double worst = 0, at = 0;
  for (int i = 0; i < SAMPLES; i++) {
    double in = wide ? ((double *)x)[i] : ((float *)x)[i], got = wide ? ((double *)y)[i] : ((float *)y)[i];
    double err = error_ulp(f->exact(in), got, wide);
    if (err > worst) worst = err, at = in;
  }
  printf("%s %s.%s %s: %.3f ulp at %a\n", isa->name, name, wide ? "f64" : "f32", vectors ? "vector" : "scalar", worst, at);
  ck_assert_msg(worst <= limit, "%s of %s: %.3f ulp at %a", name, wide ? "f64" : "f32", worst, at);
  free(x);
  free(y);
  hk_unmap(&image);
  hk_deinit(&h);
}

START_TEST(test_functions) {
  const cgh_isa *isas[8];
  unsigned n = hk_isas(isas, 8);
  const function *f = &functions[_i / 2];
  for (unsigned i = 0; i < n && i < 2; i++) {
    check_function(isas[i], f, _i % 2, true);
    if (i == 0) check_function(isas[i], f, _i % 2, false);
  }
}
END_TEST

// ---- casts -------------------------------------------------------------------------------------------------------------------
static const ir_dtype types[] = {IR_f64, IR_f32, IR_f16, IR_bf16, IR_f8e4m3, IR_f8e5m2, IR_i64,
                                 IR_i32, IR_i16, IR_i8,  IR_u64,  IR_u32,    IR_u16,    IR_u8};
enum { TYPES = sizeof types / sizeof types[0], CAST_SAMPLES = 16 * 512 };

static uint64_t read_bits(const void *p, ir_dtype t, int i) {
  uint64_t v = 0;
  size_t w = ir_dtype_bits(t) / 8;
  memcpy(&v, (const char *)p + (size_t)i * w, w);
  return v;
}

// Random bits, biased towards values where roundings and saturations happen.
static uint64_t cast_sample(ir_dtype t, uint64_t *seed, int i) {
  static const double edges[] = {0.5,     1.5,       2.5,    127.5,     128,     255.5,        448,          464,
                                 57344,   61440,     65504,  65520,     32767.5, 2147483647.0, 4294967295.0, 9.3e18,
                                 0x1p-25, 0x1.8p-24, 0x1p-7, 0x1.8p-10, 0x1p-17, INFINITY,     NAN,          0};
  uint64_t r = next_random(seed);
  if (!ir_is_float(t)) return i % 2 ? r : r >> (r % 61 + 3);
  if (i % 4 == 0) {
    double e = edges[i / 8 % (int)(sizeof edges / sizeof edges[0])];
    e *= i % 8 ? -1 : 1;
    if (r % 3) e *= 1 + ((double)(int)(r % 5) - 2) * 0x1p-30;
    return ir_bits_of_float(t, e);
  }
  if (i % 4 == 1) return ir_bits_of_float(t, ((double)(int64_t)r) * 0x1p-63 * exp2((double)(r % 80) - 40));
  return r;
}

// The value that `cast` gives, as bits of `to`; the sign and payload of NaN don't count.
static uint64_t cast_exact(ir_dtype from, ir_dtype to, uint64_t bits) {
  if (ir_is_int(from) && ir_is_int(to)) return (uint64_t)ir_int_of_bits(from, bits);
  if (ir_is_int(from)) {
    int64_t v = ir_int_of_bits(from, bits);
    if (to == IR_f32) {
      float f = from == IR_u64 ? (float)(uint64_t)v : (float)v;
      return ir_bits_of_float(IR_f32, f);
    }
    return ir_bits_of_float(to, from == IR_u64 ? (double)(uint64_t)v : (double)v);
  }
  double v = ir_float_of_bits(from, bits);
  if (ir_is_float(to)) return ir_bits_of_float(to, v);
  if (isnan(v)) return 0;
  v = trunc(v);
  if (to == IR_u64) return v <= 0 ? 0 : v >= 0x1p64 ? UINT64_MAX : (uint64_t)v;
  if (to == IR_i64) return (uint64_t)(v <= -0x1p63 ? INT64_MIN : v >= 0x1p63 ? INT64_MAX : (int64_t)v);
  double lo = (double)ir_int_min(to), hi = (double)ir_int_max(to);
  return (uint64_t)(int64_t)(v < lo ? lo : v > hi ? hi : v);
}

START_TEST(test_casts) {
  const cgh_isa *isas[8];
  unsigned n = hk_isas(isas, 8);
  ir_dtype from = types[_i];
  for (unsigned level = 0; level < n && level < 2; level++) {
    for (int j = 0; j < TYPES; j++) {
      ir_dtype to = types[j];
      if (to == from) continue;
      hk h;
      hk_init(&h);
      elementwise(&h, cast_fn(&h, from, to), from, to, CAST_SAMPLES, true);
      hk_image image;
      compile_or_fail(&h, isas[level], &image);
      size_t wide = ir_dtype_bits(from) / 8, out = ir_dtype_bits(to) / 8;
      char *x = malloc(CAST_SAMPLES * wide), *y = malloc(CAST_SAMPLES * out);
      memset(y, 0xAB, CAST_SAMPLES * out);
      uint64_t seed = seed_of();
      for (int i = 0; i < CAST_SAMPLES; i++) {
        uint64_t bits = cast_sample(from, &seed, i);
        memcpy(x + (size_t)i * wide, &bits, wide);
      }
      ck_assert_int_eq(hk_run(&image, (void *[]){x, y}, (int64_t[]){CAST_SAMPLES / 16, 1, 1}, CAST_SAMPLES / 16), 0);
      for (int i = 0; i < CAST_SAMPLES; i++) {
        uint64_t in = read_bits(x, from, i), got = read_bits(y, to, i), want = cast_exact(from, to, in);
        if (out < 8) want &= (UINT64_C(1) << 8 * out) - 1;
        bool nan = ir_is_float(to) && isnan(ir_float_of_bits(to, want)) && isnan(ir_float_of_bits(to, got));
        ck_assert_msg(nan || got == want, "%s: %s(%s %llx): %llx, not %llx", isas[level]->name, ir_dtype_name(to),
                      ir_dtype_name(from), (unsigned long long)in, (unsigned long long)got, (unsigned long long)want);
      }
      free(x);
      free(y);
      hk_unmap(&image);
      hk_deinit(&h);
    }
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("host_math");
  TCase *t = tcase_create("functions");
  tcase_add_loop_test(t, test_functions, 0, 2 * FUNCTIONS);
  suite_add_tcase(s, t);
  t = tcase_create("casts");
  tcase_add_loop_test(t, test_casts, 0, TYPES);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
