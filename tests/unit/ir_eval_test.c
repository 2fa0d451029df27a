// Evaluators of kernels against plain C, in all domains.
#include "ir/encoding.h"
#include "ir/eval.h"
#include "tests/unit/ir_corpus.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
  int64_t symbols[64];
} fixture;

static uint64_t state = 1;
static uint32_t rnd(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}
static float real(void) { return (float)((double)rnd(2001) / 1000.0 - 1.0); }

static void begin(fixture *f, const char *text) {
  ts_arena_init(&f->arena);
  ts_interner_init(&f->names, &f->arena);
  ts_diags_init(&f->diags);
  f->m = ir_module_create(&f->arena, &f->names, &f->diags);
  ts_status s = ir_parse_module(f->m, ts_intern_z(&f->names, "t"), ts_str_of(text));
  if (s == TS_OK) s = ir_verify_module(f->m);
  if (s != TS_OK) {
    ts_text t = {0};
    ts_diags_print(&f->diags, &t, false);
    fprintf(stderr, "%s%s", text, ts_text_z(&t));
    ck_abort_msg("the text is not valid");
  }
  for (int i = 0; i < 64; i++) f->symbols[i] = IR_SIZE_UNBOUND;
}

static void end(fixture *f) {
  ir_module_destroy(f->m);
  ts_diags_deinit(&f->diags);
  ts_interner_deinit(&f->names);
  ts_arena_deinit(&f->arena);
}

static void set_symbol(fixture *f, const char *name, int64_t v) {
  const ir_size *s = ir_size_find(f->m->sizes, ts_str_of(name));
  ck_assert_ptr_nonnull(s);
  f->symbols[s->index] = v;
}

static ir_kernel *kernel(fixture *f, const char *name) {
  for (size_t i = 0; i < f->m->kernels.count; i++)
    if (!strcmp(f->m->kernels.data[i]->name, name)) return f->m->kernels.data[i];
  ck_abort_msg("no kernel %s", name);
  return NULL;
}

static ts_status eval(fixture *f, const char *name, ir_domain d, uint64_t order, size_t count, const ir_eval_buffer *b,
                      ir_eval_raised *raised) {
  ir_eval_options o = {.domain = d, .order = order, .symbols = f->symbols, .symbol_count = 64};
  return ir_eval_kernel(f->m, kernel(f, name), b, count, &o, raised);
}

static void must_eval(fixture *f, const char *name, ir_domain d, uint64_t order, size_t count, const ir_eval_buffer *b) {
  ir_eval_raised raised;
  if (eval(f, name, d, order, count, b, &raised) == TS_OK) return;
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("evaluation failed");
}

static float *random_floats(size_t n) {
  float *p = malloc(n * sizeof *p);
  for (size_t i = 0; i < n; i++) p[i] = real();
  return p;
}

static bool close_to(double a, double b, double tolerance) { return fabs(a - b) <= tolerance * (1 + fabs(b)); }

#define BUFFER(p, n) {.data = (p), .bytes = (n) * sizeof *(p)}

START_TEST(contract_with_norm_and_rope) {
  fixture f;
  begin(&f, corpus_portable);
  const ir_encoding *e = ir_encoding_find(&f.arena, NULL, TS_STR("q4_1"));
  ir_bound b;
  ck_assert(ir_encoding_bind(e, 2, (int64_t[]){96, 64}, (ts_loc){0}, &f.diags, &b) == TS_OK);
  enum { M = 7 };
  float *x = random_floats(M * 64), *g = random_floats(64), *w = random_floats(96 * 64), *rope = random_floats(128 * 16 * 2),
        *wd = malloc(96 * 64 * 4);
  int32_t pos[M];
  for (int i = 0; i < M; i++) pos[i] = (int32_t)rnd(128);
  unsigned char *enc = calloc(1, (size_t)b.bytes);
  void *planes[IR_MAX_PLANES] = {enc};
  ck_assert(ir_encode_rows(&b, w, 0, 96, planes, (ts_loc){0}, &f.diags) == TS_OK);
  ir_decode_rows_f32(&b, (const void *const *)planes, 0, 96, wd);
  float *q = malloc(M * 96 * 4);
  double *qi = malloc(M * 96 * 8);
  set_symbol(&f, "m", M);
  ir_eval_buffer buf[] = {BUFFER(x, M * 64), BUFFER(g, 64),          {.data = enc, .bytes = (size_t)b.bytes},
                          BUFFER(pos, M),    BUFFER(rope, 128 * 32), BUFFER(q, M * 96)};
  memset(q, 0xFF, M * 96 * 4);
  // The symbol m of this kernel is 1..2048; the other kernels have an m of their own.
  f.symbols[kernel(&f, "qkv")->parts.data[0].axes.data[0].size->index] = M;
  must_eval(&f, "qkv", IR_DOMAIN_TYPED, 0, 6, buf);
  buf[5] = (ir_eval_buffer){qi, M * 96 * 8, true};
  must_eval(&f, "qkv", IR_DOMAIN_IDEAL, 0, 6, buf);
  for (int m = 0; m < M; m++) {
    double ss = 0, y[96];
    for (int k = 0; k < 64; k++) ss += (double)x[m * 64 + k] * x[m * 64 + k];
    for (int n = 0; n < 96; n++) {
      double a = 0;
      for (int k = 0; k < 64; k++) a += (double)x[m * 64 + k] * g[k] * wd[n * 64 + k];
      y[n] = a / sqrt(ss / 64 + (double)1e-05f);
    }
    for (int n = 0; n < 96; n += 2) {
      double c = rope[(pos[m] * 16 + n / 2 % 16) * 2], s = rope[(pos[m] * 16 + n / 2 % 16) * 2 + 1];
      double wanted[2] = {y[n] * c - y[n + 1] * s, y[n] * s + y[n + 1] * c};
      for (int k = 0; k < 2; k++) {
        ck_assert_msg(close_to(q[m * 96 + n + k], wanted[k], 1e-5), "%d %d: %g %g", m, n + k, (double)q[m * 96 + n + k],
                      wanted[k]);
        ck_assert_msg(close_to(qi[m * 96 + n + k], wanted[k], 1e-12), "%d %d: %g %g", m, n + k, qi[m * 96 + n + k], wanted[k]);
      }
    }
  }
  free(x), free(g), free(w), free(rope), free(wd), free(enc), free(q), free(qi);
  end(&f);
}
END_TEST

START_TEST(append_through_pages) {
  fixture f;
  begin(&f, corpus_portable);
  enum { M = 8, PAGES = 6 };
  float *v = random_floats(M * 24), *pool = malloc(PAGES * 3 * 16 * 8 * 4), *wanted = malloc(PAGES * 3 * 16 * 8 * 4);
  for (int i = 0; i < PAGES * 384; i++) pool[i] = wanted[i] = -7;
  int32_t table[4 * 16], pos[M] = {0, 15, 16, -1, 17, 31, 3, 5};
  for (int i = 0; i < 64; i++) table[i] = -1;
  table[0] = 2, table[16] = 5, table[32] = 0, table[33] = 4, table[1] = 1, table[17] = 3, table[48] = -1;
  pos[2] = 16, pos[6] = 3, pos[7] = -3;
  ir_kernel *k = kernel(&f, "append");
  f.symbols[k->parts.data[0].axes.data[0].size->index] = M;
  set_symbol(&f, "pages", PAGES);
  ir_eval_buffer buf[] = {BUFFER(v, M * 24), BUFFER(table, 64), BUFFER(pos, M), BUFFER(pool, PAGES * 384)};
  must_eval(&f, "append", IR_DOMAIN_TYPED, 0, 4, buf);
  for (int m = 0; m < M; m++) {
    if (pos[m] < 0) continue;
    int page = table[m % 4 * 16 + pos[m] / 16], slot = pos[m] % 16;
    ck_assert_int_ge(page, 0);
    for (int h = 0; h < 3; h++)
      for (int d = 0; d < 8; d++) wanted[((page * 3 + h) * 16 + slot) * 8 + d] = v[m * 24 + h * 8 + d];
  }
  for (int i = 0; i < PAGES * 384; i++) ck_assert_msg(pool[i] == wanted[i], "%d", i);
  // A row that the table does not have must not be written.
  pos[3] = 40;
  ir_eval_raised raised;
  ck_assert(eval(&f, "append", IR_DOMAIN_TYPED, 0, 4, buf, &raised) == TS_INVALID);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[0].text, "absent"));
  free(v), free(pool), free(wanted);
  end(&f);
}
END_TEST

START_TEST(attention) {
  fixture f;
  begin(&f, corpus_portable);
  enum { T = 13 };
  float *q = random_floats(48), *k = random_floats(2 * T * 8), *v = random_floats(2 * T * 5), o[30];
  double oi[30];
  set_symbol(&f, "t", T);
  ir_eval_buffer buf[] = {BUFFER(q, 48), BUFFER(k, 2 * T * 8), BUFFER(v, 2 * T * 5), BUFFER(o, 30)};
  must_eval(&f, "attend", IR_DOMAIN_TYPED, 0, 4, buf);
  buf[3] = (ir_eval_buffer){oi, sizeof oi, true};
  must_eval(&f, "attend", IR_DOMAIN_IDEAL, 0, 4, buf);
  for (int h = 0; h < 2; h++)
    for (int g = 0; g < 3; g++) {
      double s[T], top = -INFINITY, l = 0;
      for (int t = 0; t < T; t++) {
        s[t] = 0;
        for (int d = 0; d < 8; d++) s[t] += (double)q[(h * 3 + g) * 8 + d] * k[(h * T + t) * 8 + d];
        if (t != 1 && s[t] > top) top = s[t];
      }
      for (int t = 0; t < T; t++) l += t == 1 ? 0 : exp2(s[t] - top);
      for (int e = 0; e < 5; e++) {
        double a = 0;
        for (int t = 0; t < T; t++) a += t == 1 ? 0 : exp2(s[t] - top) * v[(h * T + t) * 5 + e];
        ck_assert(close_to(o[(h * 3 + g) * 5 + e], a / l, 1e-5));
        ck_assert(close_to(oi[(h * 3 + g) * 5 + e], a / l, 1e-12));
      }
    }
  free(q), free(k), free(v);
  end(&f);
}
END_TEST

// encode, decode, argmax, scan, rank, lookup, atomic, raise, strided f16 output: the kernel `misc` of the corpus.
START_TEST(everything_else) {
  fixture f;
  begin(&f, corpus_portable);
  float *x = random_floats(6 * 32);
  int64_t ix[6] = {3, 0, 7, 0, 3, 1}, z[4];
  int32_t count[4] = {10, 20, 30, 40};
  uint16_t y[6 * 64];
  memset(y, 0xAB, sizeof y);
  ir_eval_buffer buf[] = {BUFFER(x, 192), BUFFER(ix, 6), BUFFER(count, 4), BUFFER(y, 5 * 64 + 32), BUFFER(z, 4)};
  ir_eval_raised raised;
  ck_assert(eval(&f, "misc", IR_DOMAIN_TYPED, 0, 5, buf, &raised) == TS_OK);
  ck_assert(raised.raised && raised.code == 3);
  ck_assert_str_eq(raised.text, "index over \"4\"");
  ck_assert(z[0] == 2 && z[1] == 1 && z[2] == 0 && z[3] == 2);
  ck_assert(count[0] == 10 && count[1] == 21 && count[2] == 30 && count[3] == 42);
  for (int a = 0; a < 6; a++) {
    float best = -INFINITY, prefix[32], sum = 0;
    int at = 0;
    for (int b = 0; b < 32; b++) {
      float top = 0;
      for (int k = 0; k < 8; k++) top = fmaxf(top, fabsf(x[a * 32 + b / 8 * 8 + k]));
      float scale = (float)((double)top / 127);
      float code = (float)nearbyint((double)(float)((double)x[a * 32 + b] / scale)), value = code * scale;
      if (value > best) best = value, at = b;
      prefix[b] = b ? sum : 0;
      sum = b ? sum + x[a * 32 + b] : x[a * 32];
    }
    ck_assert(prefix[0] == 0);
    for (int b = 0; b < 32; b++) {
      float t0 = (float)tanh(x[a * 32 + b]) * -prefix[at], wanted = fmaf(t0, t0, best);
      double got = ir_float_of_bits(IR_f16, y[a * 64 + b]);
      ck_assert_msg(got == ir_round(IR_f16, wanted), "%d %d: %g %g", a, b, got, (double)wanted);
      if (a < 5) ck_assert_uint_eq(y[a * 64 + 32 + b], 0xABAB);
    }
  }
  free(x);
  end(&f);
}
END_TEST

START_TEST(scheduled_gemm_in_any_order) {
  fixture f;
  begin(&f, corpus_scheduled);
  for (int round = 0; round < 4; round++) {
    int64_t M = 1 + rnd(14);
    float *x = random_floats((size_t)M * 64), *w = random_floats(96 * 64), *y = malloc((size_t)M * 96 * 4);
    uint64_t *ym = malloc((size_t)M * 96 * 8);
    memset(y, 0xFF, (size_t)M * 96 * 4);
    set_symbol(&f, "m", M);
    ir_eval_buffer buf[] = {BUFFER(x, (size_t)M * 64), BUFFER(w, 96 * 64), BUFFER(y, (size_t)M * 96)};
    must_eval(&f, "gemm", IR_DOMAIN_TYPED, (uint64_t)round, 3, buf);
    buf[2] = (ir_eval_buffer){ym, (size_t)M * 96 * 8, true};
    must_eval(&f, "gemm", IR_DOMAIN_MODP, (uint64_t)round, 3, buf);
    for (int64_t m = 0; m < M; m++)
      for (int n = 0; n < 96; n++) {
        double a = 0;
        uint64_t p = 0;
        for (int k = 64; k-- > 0;) {   // another order than the kernel's
          double u = x[m * 64 + k], v = w[(n / 32 * 64 + k) * 32 + n % 32];
          a += u * v;
          p = ir_modp_add(p, ir_modp_mul(ir_modp_of_real(u), ir_modp_of_real(v)));
        }
        if (m < 4) a *= 2, p = ir_modp_add(p, p);   // the first block of rows doubles
        ck_assert_msg(close_to(y[m * 96 + n], a, 1e-5), "%d %d", (int)m, n);
        ck_assert(ym[m * 96 + n] == p);
      }
    free(x), free(w), free(y), free(ym);
  }
  end(&f);
}
END_TEST

START_TEST(staged_copy) {
  fixture f;
  begin(&f, corpus_scheduled);
  uint16_t x[64 * 32], y[64 * 32];
  for (int i = 0; i < 64 * 32; i++) x[i] = (uint16_t)ir_bits_of_float(IR_f16, real());
  ir_eval_buffer buf[] = {BUFFER(x, 64 * 32), BUFFER(y, 64 * 32)};
  memset(y, 0xFF, sizeof y);
  must_eval(&f, "staged", IR_DOMAIN_TYPED, 9, 2, buf);
  ck_assert(memcmp(x, y, sizeof x) == 0);
  end(&f);
}
END_TEST

// ---- what is reported ----------------------------------------------------------------------------------------------------
typedef struct wrong {
  const char *ops, *wanted;
  ir_domain d;
} wrong;

START_TEST(errors_are_located) {
  static const wrong all[] = {
      {"%p = alloc : panel<f32[4]>\n %t = fetch %p[0] {at=[a]} : f32[a: 4]", "which nobody wrote", IR_DOMAIN_TYPED},
      {"%p = alloc : panel<f32[4]>\n copy %x[0], %p[0] {at=[a, a], async=1}\n commit\n %t = fetch %p[0] {at=[a]} : f32[a: 4]",
       "unfinished async copy", IR_DOMAIN_TYPED},
      {"%p = alloc : panel<f32[4]>\n copy %x[0], %p[0] {at=[a, a], async=1}\n commit\n await 1\n %t = fetch %p[0] {at=[a]} : "
       "f32[a: 4]",
       "unfinished async copy", IR_DOMAIN_TYPED},
      {"%t = load %x[5] {at=[a]} : f32[a: 4]", "index 8 of dimension 0, which has 8", IR_DOMAIN_TYPED},
      {"%t = load %x[-1] {at=[a]} : f32[a: 4]", "index -1 of dimension 0", IR_DOMAIN_TYPED},
      {"%t = load %x[0] {at=[_]} : f32 %c = apply(%t) { (a) -> a < 0.0 } : i1",
       "a comparison of floats is not allowed in the prime field", IR_DOMAIN_MODP},
      {"%t = load %x[0] {at=[_]} : f32 %c = apply(%t) { (a) -> i32(a) } : i32", "from float to integer", IR_DOMAIN_MODP},
      {"%c = apply(0) { (a) -> 5 / a } : i64", "a divisor that is not above 0", IR_DOMAIN_IDEAL},
      {"%c = apply(64) { (a) -> 5 << a } : i64", "a shift by the width", IR_DOMAIN_IDEAL},
      {"%i = iota 3 : i64[a: 8] %t = load %x[0] {at=[a]} : f32[a: 8] %r = lookup %t, %i {axis=a} : f32[a: 8]",
       "index 8 of an axis of 8", IR_DOMAIN_IDEAL},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    char text[2048];
    snprintf(text, sizeof text, "kernel @k scheduled host grid(1, 1, 1) {\n  in %%x: mem<f32[8]>\n  body {\n %s\n  }\n}\n",
             all[i].ops);
    fixture f;
    begin(&f, text);
    double x[8] = {0};
    ir_eval_buffer buf[] = {{x, sizeof x, true}};
    ir_eval_raised raised;
    ck_assert_msg(eval(&f, "k", all[i].d, 0, 1, buf, &raised) != TS_OK, "%s", all[i].ops);
    ck_assert_msg(strstr(f.diags.list.data[0].text, all[i].wanted), "%s: %s", all[i].ops, f.diags.list.data[0].text);
    ck_assert_uint_ge(f.diags.list.data[0].loc.line, 4);
    end(&f);
  }
}
END_TEST

START_TEST(buffers_are_checked) {
  fixture f;
  begin(&f, corpus_scheduled);
  float x[64];
  ir_eval_buffer buf[] = {BUFFER(x, 63), BUFFER(x, 64), BUFFER(x, 64)};
  ir_eval_raised raised;
  ck_assert(eval(&f, "gemm", IR_DOMAIN_TYPED, 0, 2, buf, &raised) == TS_INVALID);
  ck_assert(eval(&f, "gemm", IR_DOMAIN_TYPED, 0, 3, buf, &raised) == TS_INVALID);   // no value for m
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[1].text, "no value is bound"));
  set_symbol(&f, "m", 1);
  ck_assert(eval(&f, "gemm", IR_DOMAIN_TYPED, 0, 3, buf, &raised) == TS_INVALID);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[2].text, "252 bytes where 256 belong"));
  end(&f);
}
END_TEST

START_TEST(field_arithmetic) {
  for (int i = 0; i < 200; i++) {
    double a = real() * ldexp(1, (int)rnd(40) - 20), b = real();
    ck_assert(ir_modp_mul(ir_modp_of_real(a), ir_modp_of_real((double)(float)b)) ==
                  ir_modp_of_real((double)(float)a * (float)b) ||
              (float)a != a);
    uint64_t x = ir_modp_of_real(a);
    if (x) ck_assert(ir_modp_mul(x, ir_modp_inverse(x)) == 1);
    int64_t s = (int64_t)rnd(2000) - 1000, t = (int64_t)rnd(2000) - 1000;
    ck_assert(ir_modp_mul(ir_modp_exp2(ir_modp_of_int(s)), ir_modp_exp2(ir_modp_of_int(t))) ==
              ir_modp_exp2(ir_modp_of_int(s + t)));
  }
  ck_assert(ir_modp_of_real(1) == 1 && ir_modp_of_real(-1) == IR_MODP - 1 && ir_modp_of_real(0.5) * 2 % IR_MODP == 1);
  ck_assert(ir_modp_exp2(ir_modp_of_real(-INFINITY)) == 0);
}
END_TEST

int main(void) {
  uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 7;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  state = seed;
  Suite *s = suite_create("ir_eval");
  TCase *c = tcase_create("eval");
  tcase_add_test(c, contract_with_norm_and_rope);
  tcase_add_test(c, append_through_pages);
  tcase_add_test(c, attention);
  tcase_add_test(c, everything_else);
  tcase_add_test(c, scheduled_gemm_in_any_order);
  tcase_add_test(c, staged_copy);
  tcase_add_test(c, errors_are_located);
  tcase_add_test(c, buffers_are_checked);
  tcase_add_test(c, field_arithmetic);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
