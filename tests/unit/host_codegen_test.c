// codegen/host: kernels of every op, compiled for each level of this CPU, mapped and run, against plain C.
#include "tests/unit/host_kernels.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const cgh_isa *isas[8];
static unsigned isa_count;

static uint64_t state;
static double uniform(void) {   // -1 .. 1
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(int64_t)state * 0x1p-63;
}
static void seed(void) { state = UINT64_C(88172645463325252); }

static float *floats(size_t n) {
  float *p = malloc(n * sizeof *p);
  for (size_t i = 0; i < n; i++) p[i] = (float)uniform();
  return p;
}

static void *poisoned(size_t bytes) {
  void *p = malloc(bytes);
  memset(p, 0xAB, bytes);
  return p;
}

static void compile(hk *h, const cgh_isa *isa, hk_image *image) {
  ts_status s = ir_verify_kernel(h->module, h->kernel);
  if (s == TS_OK) s = hk_compile(h, isa, NULL, image);
  ts_text text = {0};
  if (s != TS_OK) ts_diags_print(&h->diags, &text, false);
  ck_assert_msg(s == TS_OK, "%s: %s", isa->name, ts_text_z(&text));
}

static void finish(hk *h, hk_image *image) {
  hk_unmap(image);
  hk_deinit(h);
}

static void check_close(const float *got, const double *want, size_t n, double tolerance, const char *what) {
  for (size_t i = 0; i < n; i++)
    ck_assert_msg(fabs((double)got[i] - want[i]) <= tolerance, "%s[%zu]: %g, not %g", what, i, (double)got[i], want[i]);
}

static ir_value *axis_iota(hk *h, ir_dtype t, ir_value *base, const char *axes) {
  return ir_build(&h->b, IR_OP_iota, 1, &base, 1, (const ir_type *[]){hk_tile(h, t, axes)})->results[0];
}

// ---- elementwise, sizes, masks, the grid -----------------------------------------------------------------------------------
// y[r, c] = x[r, c] * g[c] + r over symbolic sizes; blocks are (column group, row) and the last columns are masked.
START_TEST(test_elementwise) {
  const cgh_isa *isa = isas[_i];
  seed();
  hk h;
  hk_init(&h);
  ir_kernel *k = hk_begin(&h, "scale");
  ir_sizes *sizes = h.module->sizes;
  const ir_size *rows = ir_size_symbol(sizes, TS_STR("rows"), IR_SIZE_CALL, 1, 1000, 1),
                *cols = ir_size_symbol(sizes, TS_STR("cols"), IR_SIZE_CALL, 1, 1000, 1);
  k->grid[0] = ir_size_ceildiv(sizes, cols, hk_size(&h, 32));
  k->grid[1] = rows;
  ir_value *x = hk_param(&h, "x", IR_PARAM_IN, IR_f16, 2, (const ir_size *[]){rows, cols});
  ir_value *g = hk_param(&h, "g", IR_PARAM_IN, IR_f32, 1, &cols);
  ir_value *y = hk_param(&h, "y", IR_PARAM_OUT, IR_bf16, 2, (const ir_size *[]){rows, cols});
  ir_value *c0 = hk_op(&h, IR_SCALAR_mul, hk_pid(&h, 0), hk_int(&h, 32)), *r = hk_pid(&h, 1);
  ir_value *mask = hk_op(&h, IR_SCALAR_lt, axis_iota(&h, IR_i64, c0, "c:32*"), ir_size_value(&h.b, cols));
  ir_value *a = ir_cast(&h.b, hk_load(&h, x, (ir_value *[]){r, c0}, "_ c", mask, hk_tile(&h, IR_f16, "c:32*")), IR_f32);
  ir_value *b = hk_load(&h, g, &c0, "c", mask, hk_tile(&h, IR_f32, "c:32*"));
  ir_value *v = ir_apply_op(&h.b, IR_SCALAR_fma, a, b, ir_cast(&h.b, r, IR_f32));
  hk_store(&h, y, (ir_value *[]){r, c0}, "_ c", v, mask);
  hk_image image;
  compile(&h, isa, &image);
  ck_assert_uint_eq(image.code.dim_count, 2);
  ck_assert_str_eq(image.code.dims[0]->name, "cols");
  enum { R = 3 };
  for (int n = 1; n < 100; n += 13) {
    uint16_t *xs = malloc(R * (size_t)n * 2), *ys = poisoned(R * (size_t)n * 2 + 64);
    float *gs = floats((size_t)n);
    for (int i = 0; i < R * n; i++) xs[i] = (uint16_t)ir_bits_of_float(IR_f16, uniform());
    int64_t gx = (n + 31) / 32, dims[] = {n, R, gx, R, 1};
    ck_assert_int_eq(hk_run(&image, (void *[]){xs, gs, ys}, dims, (uint32_t)(gx * R)), 0);
    for (int i = 0; i < R * n; i++) {
      float want = fmaf((float)ir_float_of_bits(IR_f16, xs[i]), gs[i % n], (float)(i / n));
      ck_assert_uint_eq(ys[i], ir_bits_of_float(IR_bf16, want));
    }
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(ys[R * n + i], 0xABAB);
    free(xs);
    free(ys);
    free(gs);
  }
  finish(&h, &image);
}
END_TEST

// A scalar-layout kernel with the same mask logic, and a 3-D grid: y[z, y, x] = block number.
START_TEST(test_grid_and_scalars) {
  hk h;
  hk_init(&h);
  ir_kernel *k = hk_begin(&h, "grid");
  const ir_size *gz = ir_size_symbol(h.module->sizes, TS_STR("gz"), IR_SIZE_CALL, 1, 10, 1);
  k->grid[0] = hk_size(&h, 3), k->grid[1] = ir_size_add_const(h.module->sizes, gz, 1), k->grid[2] = gz;
  ir_value *y = hk_param(&h, "y", IR_PARAM_OUT, IR_i32, 4, (const ir_size *[]){gz, k->grid[1], k->grid[0], hk_size(&h, 5)});
  ir_value *p[3] = {hk_pid(&h, 0), hk_pid(&h, 1), hk_pid(&h, 2)};
  ir_value *code = hk_op(
    &h, IR_SCALAR_add, p[0],
    hk_op(&h, IR_SCALAR_mul, hk_int(&h, 100), hk_op(&h, IR_SCALAR_add, p[1], hk_op(&h, IR_SCALAR_mul, p[2], hk_int(&h, 100)))));
  ir_value *i = axis_iota(&h, IR_i64, hk_int(&h, 0), "i:8");
  ir_value *v = ir_cast(&h.b, hk_op(&h, IR_SCALAR_add, hk_op(&h, IR_SCALAR_mul, i, hk_int(&h, 1000000)), code), IR_i32);
  hk_store(&h, y, (ir_value *[]){p[2], p[1], p[0], NULL}, "_ _ _ i", v, hk_op(&h, IR_SCALAR_lt, i, hk_int(&h, 5)));
  hk_image image;
  compile(&h, isas[_i], &image);
  enum { GZ = 4, N = GZ * (GZ + 1) * 3 };
  int32_t *out = poisoned((N * 5 + 3) * 4);
  ck_assert_int_eq(hk_run(&image, (void *[]){out}, (int64_t[]){GZ, 3, GZ + 1, GZ}, N), 0);
  for (int b = 0; b < N; b++)
    for (int e = 0; e < 5; e++)
      ck_assert_int_eq(out[b * 5 + e], e * 1000000 + b % 3 + 100 * (b / 3 % (GZ + 1)) + 10000 * (b / 3 / (GZ + 1)));
  for (int e = 0; e < 3; e++) ck_assert_int_eq(out[N * 5 + e], (int32_t)0xABABABAB);
  free(out);
  finish(&h, &image);
}
END_TEST

// ---- contractions ------------------------------------------------------------------------------------------------------------
START_TEST(test_gemm) {
  static const int shapes[][3] = {{8, 32, 1}, {4, 16, 4}, {16, 64, 2}};
  const int *s = shapes[_i % 3];
  enum { M = 32, N = 128, K = 48 };
  seed();
  hk h;
  hk_init(&h);
  hk_gemm(&h, M, N, K, s[0], s[1], s[2]);
  hk_image image;
  compile(&h, isas[_i / 3], &image);
  ck_assert_uint_eq(image.code.scratch, (uint64_t)K * (uint64_t)s[0] * 4);
  float *a = floats(M * K), *b = floats(N * K), *c = poisoned(M * N * 4);
  ck_assert_int_eq(hk_run(&image, (void *[]){a, b, c}, (int64_t[]){M / s[0], N / s[1], 1}, (uint32_t)(M / s[0] * N / s[1])), 0);
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      float sum = 0;
      for (int k = 0; k < K; k++) sum = fmaf(a[m * K + k], b[(n / s[1] * K + k) * s[1] + n % s[1]], sum);
      ck_assert(c[m * N + n] == sum);   // the order of k and fma are the kernel's meaning: equal bits
    }
  free(a);
  free(b);
  free(c);
  finish(&h, &image);
}
END_TEST

START_TEST(test_gemv_q4) {
  enum { N = 128, K = 96 };
  int rows = _i % 4 < 2 ? 64 : 32;
  bool table = _i % 2;
  seed();
  hk h;
  hk_init(&h);
  hk_gemv_q4(&h, N, K, rows, 4, table);
  hk_image image;
  compile(&h, isas[_i / 4], &image);
  float *x = floats(K), *y = poisoned(N * 4);
  uint8_t *codes = malloc(N * K / 2);
  uint16_t *scale = malloc(N * K / 16), *min = malloc(N * K / 16);
  for (int i = 0; i < N * K / 2; i++) codes[i] = (uint8_t)(int)(uniform() * 127 + 128);
  for (int i = 0; i < N * K / 32; i++) {
    scale[i] = (uint16_t)ir_bits_of_float(IR_f16, uniform());
    min[i] = (uint16_t)ir_bits_of_float(IR_f16, uniform());
  }
  ck_assert_int_eq(hk_run(&image, (void *[]){x, codes, scale, min, y}, (int64_t[]){N / rows, 1, 1}, (uint32_t)(N / rows)), 0);
  double want[N];
  for (int n = 0; n < N; n++) {
    want[n] = 0;
    for (int k = 0; k < K; k++) {
      int block = (n / rows * (K / 32) + k / 32), byte = codes[(block * 16 + k % 16) * rows + n % rows];
      double s = ir_float_of_bits(IR_f16, scale[block * rows + n % rows]),
             m = ir_float_of_bits(IR_f16, min[block * rows + n % rows]);
      want[n] += x[k] * ((k % 32 < 16 ? byte & 15 : byte >> 4) * s + m);
    }
  }
  check_close(y, want, N, 1e-3, "y");
  free(x), free(y), free(codes), free(scale), free(min);
  finish(&h, &image);
}
END_TEST

// acc[m, n] += a[m, kk, r] b[kk, n, r], bytes of all sign combinations, over a loop; quads packed by four.
START_TEST(test_dot_int8) {
  enum { M = 3, KK = 8, N = 32 };
  ir_dtype ta = _i & 1 ? IR_i8 : IR_u8, tb = _i & 2 ? IR_i8 : IR_u8;
  bool split = _i & 4;   // bytes of a: loaded as quads, or as runs that are split into quads
  const cgh_isa *isa = isas[_i / 8];
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "dot_int8");
  ir_value *a = hk_param_c(&h, "a", IR_PARAM_IN, ta, 3, (int64_t[]){M, KK, 4});
  ir_value *flat = hk_param_c(&h, "flat", IR_PARAM_IN, ta, 2, (int64_t[]){M, KK * 4});
  ir_value *b = hk_param_c(&h, "b", IR_PARAM_IN, tb, 3, (int64_t[]){KK, N, 4});
  ir_value *c = hk_param_c(&h, "c", IR_PARAM_OUT, IR_i32, 2, (int64_t[]){M, N});
  const ir_type *acc_type = hk_tile(&h, IR_i32, "m:3 n:32*");
  ir_value *zero = ir_full(&h.b, ir_const_int(&h.b, IR_i32, 5), acc_type);
  ir_region *body = h.b.region;
  ir_op *loop = ir_for(&h.b, hk_int(&h, 0), hk_int(&h, KK), hk_int(&h, 2), 1, &zero);
  h.b.region = loop->regions[0];
  ir_value *k = loop->regions[0]->params[0];
  ir_value *x;
  if (split) {
    x = hk_load(&h, flat, (ir_value *[]){NULL, hk_op(&h, IR_SCALAR_mul, k, hk_int(&h, 4))}, "m q", NULL,
                hk_tile(&h, ta, "m:3 q:8"));
    x = hk_relabel(&h, "split", x, "q", "kk r", 0, 0, 1, hk_tile(&h, ta, "m:3 kk:2 r:4"));
  } else {
    x = hk_load(&h, a, (ir_value *[]){NULL, k, NULL}, "m kk r", NULL, hk_tile(&h, ta, "m:3 kk:2 r:4"));
  }
  ir_value *y = hk_load(&h, b, (ir_value *[]){k, NULL, NULL}, "kk n r", NULL, hk_tile(&h, tb, "kk:2 n:32* r:4"));
  ir_value *next = hk_dot(&h, x, y, loop->regions[0]->params[1], "kk r", acc_type);
  ir_yield(&h.b, 1, &next);
  h.b.region = body;
  hk_store(&h, c, NULL, "m n", loop->results[0], NULL);
  hk_image image;
  compile(&h, isa, &image);
  int8_t as[M * KK * 4], bs[KK * N * 4];
  for (size_t i = 0; i < sizeof as; i++) as[i] = (int8_t)(i % 7 ? (int)(uniform() * 128) : -128);
  for (size_t i = 0; i < sizeof bs; i++) bs[i] = (int8_t)(i % 5 ? (int)(uniform() * 128) : -1);
  int32_t *out = poisoned(M * N * 4);
  ck_assert_int_eq(hk_run(&image, (void *[]){as, as, bs, out}, (int64_t[]){1, 1, 1}, 1), 0);
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) {
      int sum = 5;
      for (int q = 0; q < KK * 4; q++) {
        int u = as[m * KK * 4 + q], v = bs[(q / 4 * N + n) * 4 + q % 4];
        sum += (ta == IR_u8 ? u & 255 : u) * (tb == IR_u8 ? v & 255 : v);
      }
      ck_assert_int_eq(out[m * N + n], sum);
    }
  free(out);
  finish(&h, &image);
}
END_TEST

// Sums in the lanes: s[q, t] = sum over d of q[q, d] k[t, d], then o[q, d] = sum over t of s[q, t] v[t, d].
START_TEST(test_dot_lanes) {
  enum { Q = 3, T = 5, D = 64 };
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "attend");
  ir_value *q = hk_param_c(&h, "q", IR_PARAM_IN, IR_f32, 2, (int64_t[]){Q, D}),
           *k = hk_param_c(&h, "k", IR_PARAM_IN, IR_f16, 2, (int64_t[]){T, D});
  ir_value *v = hk_param_c(&h, "v", IR_PARAM_IN, IR_f32, 2, (int64_t[]){T, D}),
           *o = hk_param_c(&h, "o", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){Q, D});
  ir_value *qt = hk_load(&h, q, NULL, "q d", NULL, hk_tile(&h, IR_f32, "q:3 d:64*"));
  ir_value *kt = hk_load(&h, k, NULL, "t d", NULL, hk_tile(&h, IR_f16, "t:5 d:64*"));
  ir_value *s = hk_dot(&h, qt, kt, NULL, "d", hk_tile(&h, IR_f32, "q:3 t:5"));
  ir_value *e = hk_dot(&h, s, hk_load(&h, v, NULL, "t d", NULL, hk_tile(&h, IR_f32, "t:5 d:64*")), NULL, "t",
                       hk_tile(&h, IR_f32, "q:3 d:64*"));
  hk_store(&h, o, NULL, "q d", e, NULL);
  hk_image image;
  compile(&h, isas[_i], &image);
  float *qs = floats(Q * D), *vs = floats(T * D), *out = poisoned(Q * D * 4);
  uint16_t ks[T * D];
  for (int i = 0; i < T * D; i++) ks[i] = (uint16_t)ir_bits_of_float(IR_f16, uniform());
  ck_assert_int_eq(hk_run(&image, (void *[]){qs, ks, vs, out}, (int64_t[]){1, 1, 1}, 1), 0);
  double want[Q * D] = {0};
  for (int a = 0; a < Q; a++)
    for (int t = 0; t < T; t++) {
      double sum = 0;
      for (int d = 0; d < D; d++) sum += (double)qs[a * D + d] * ir_float_of_bits(IR_f16, ks[t * D + d]);
      for (int d = 0; d < D; d++) want[a * D + d] += sum * (double)vs[t * D + d];
    }
  check_close(out, want, Q * D, 1e-4, "o");
  free(qs), free(vs), free(out);
  finish(&h, &image);
}
END_TEST

// ---- rows --------------------------------------------------------------------------------------------------------------------
// Softmax over masked rows of up to 100 columns, as 7 vectors of 16.
START_TEST(test_softmax) {
  enum { R = 4, C = 100 };
  seed();
  hk h;
  hk_init(&h);
  ir_kernel *kernel = hk_begin(&h, "softmax");
  kernel->grid[0] = hk_size(&h, R);
  ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, IR_f32, 2, (int64_t[]){R, C}),
           *y = hk_param_c(&h, "y", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){R, C});
  ir_value *r = hk_pid(&h, 0);
  const ir_type *t = hk_tile(&h, IR_f32, "co:7 c:16*");
  ir_value *co = hk_op(&h, IR_SCALAR_mul, axis_iota(&h, IR_i64, hk_int(&h, 0), "co:7"), hk_int(&h, 16));
  ir_value *column = hk_op(&h, IR_SCALAR_add, co, axis_iota(&h, IR_i64, hk_int(&h, 0), "c:16*"));
  ir_value *mask = hk_op(&h, IR_SCALAR_lt, column, hk_int(&h, C));
  ir_value *v = hk_load(&h, x, (ir_value *[]){r, co}, "_ c", mask, t);
  ir_set_real(&h.b, v->producer, "other", -INFINITY);
  ts_sym over[2] = {hk_name(&h, "co"), hk_name(&h, "c")};
  ir_value *top = ir_reduce(&h.b, v, "max", 2, over);
  ir_value *e = hk_op(&h, IR_SCALAR_sub, v, top);
  e = ir_apply_op(&h.b, IR_SCALAR_exp, e, NULL, NULL);
  ir_value *sum = ir_reduce(&h.b, e, "add", 2, over);
  hk_store(&h, y, (ir_value *[]){r, co}, "_ c", hk_op(&h, IR_SCALAR_div, e, sum), mask);
  hk_image image;
  compile(&h, isas[_i], &image);
  float *xs = floats(R * C), *ys = poisoned(R * C * 4);
  ck_assert_int_eq(hk_run(&image, (void *[]){xs, ys}, (int64_t[]){R, 1, 1}, R), 0);
  double want[R * C];
  for (int a = 0; a < R; a++) {
    double total = 0;
    for (int c = 0; c < C; c++) total += want[a * C + c] = exp((double)xs[a * C + c]);
    for (int c = 0; c < C; c++) want[a * C + c] /= total;
  }
  check_close(ys, want, R * C, 1e-7, "y");
  free(xs), free(ys);
  finish(&h, &image);
}
END_TEST

// RMS norm in two loops, then rotation of adjacent pairs: split, pick, concat through rename and merge.
START_TEST(test_norm_rope) {
  enum { D = 64 };
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "norm_rope");
  ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, IR_f32, 1, (int64_t[]){D}),
           *c = hk_param_c(&h, "cos", IR_PARAM_IN, IR_f32, 1, (int64_t[]){D / 2});
  ir_value *s = hk_param_c(&h, "sin", IR_PARAM_IN, IR_f32, 1, (int64_t[]){D / 2}),
           *y = hk_param_c(&h, "y", IR_PARAM_OUT, IR_f32, 1, (int64_t[]){D});
  ir_value *y2 = hk_param_c(&h, "y2", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){D / 2, 2});
  ir_region *body = h.b.region;
  ir_value *zero = hk_real(&h, 0);
  ir_op *loop = ir_for(&h.b, hk_int(&h, 0), hk_int(&h, D), hk_int(&h, 16), 1, &zero);
  h.b.region = loop->regions[0];
  ir_value *part = hk_load(&h, x, &loop->regions[0]->params[0], "d", NULL, hk_tile(&h, IR_f32, "d:16*"));
  ir_value *sum = ir_reduce(&h.b, hk_op(&h, IR_SCALAR_mul, part, part), "add", 1, (ts_sym[]){hk_name(&h, "d")});
  sum = hk_op(&h, IR_SCALAR_add, loop->regions[0]->params[1], sum);
  ir_yield(&h.b, 1, &sum);
  h.b.region = body;
  ir_value *mean = hk_op(&h, IR_SCALAR_add, hk_op(&h, IR_SCALAR_mul, loop->results[0], hk_real(&h, 1.0 / D)), hk_real(&h, 1e-5));
  ir_value *row = hk_op(&h, IR_SCALAR_mul, hk_load(&h, x, NULL, "d", NULL, hk_tile(&h, IR_f32, "d:64*")),
                        ir_apply_op(&h.b, IR_SCALAR_rsqrt, mean, NULL, NULL));
  const ir_type *half = hk_tile(&h, IR_f32, "i:32*");
  ir_value *pairs = hk_relabel(&h, "split", row, "d", "i two", 0, 0, 1, hk_tile(&h, IR_f32, "i:32* two:2"));
  ir_value *even = hk_relabel(&h, "pick", pairs, "two", "", 0, 0, 1, half),
           *odd = hk_relabel(&h, "pick", pairs, "two", "", 1, 0, 1, half);
  ir_value *cs = hk_load(&h, c, NULL, "i", NULL, half), *sn = hk_load(&h, s, NULL, "i", NULL, half);
  ir_value *a = hk_op(&h, IR_SCALAR_sub, hk_op(&h, IR_SCALAR_mul, even, cs), hk_op(&h, IR_SCALAR_mul, odd, sn));
  ir_value *b = hk_op(&h, IR_SCALAR_add, hk_op(&h, IR_SCALAR_mul, even, sn), hk_op(&h, IR_SCALAR_mul, odd, cs));
  ir_value *one[2] = {hk_relabel(&h, "split", a, "i", "i two", 0, 0, 1, hk_tile(&h, IR_f32, "i:32* two:1")),
                      hk_relabel(&h, "split", b, "i", "i two", 0, 0, 1, hk_tile(&h, IR_f32, "i:32* two:1"))};
  const ir_type *both = hk_tile(&h, IR_f32, "i:32* two:2");
  ir_op *concat = ir_build(&h.b, IR_OP_relabel, 2, one, 1, &both);
  ir_set_sym(&h.b, concat, "kind", hk_name(&h, "concat"));
  ir_set_sym(&h.b, concat, "axis", hk_name(&h, "two"));
  ir_value *merged = hk_relabel(&h, "merge", concat->results[0], "d", "i two", 0, 0, 1, hk_tile(&h, IR_f32, "d:64*"));
  hk_store(&h, y, NULL, "d", merged, NULL);
  hk_store(&h, y2, (ir_value *[]){NULL, hk_int(&h, 0)}, "i _", a, NULL);   // strided stores
  hk_store(&h, y2, (ir_value *[]){NULL, hk_int(&h, 1)}, "i _", b, NULL);
  hk_image image;
  compile(&h, isas[_i], &image);
  float *xs = floats(D), *css = floats(D / 2), *sns = floats(D / 2), *ys = poisoned(D * 4), *ys2 = poisoned(D * 4);
  ck_assert_int_eq(hk_run(&image, (void *[]){xs, css, sns, ys, ys2}, (int64_t[]){1, 1, 1}, 1), 0);
  double norm = 0, want[D];
  for (int i = 0; i < D; i++) norm += (double)xs[i] * (double)xs[i];
  norm = 1 / sqrt(norm / D + 1e-5);
  for (int i = 0; i < D / 2; i++) {
    want[2 * i] = norm * ((double)xs[2 * i] * (double)css[i] - (double)xs[2 * i + 1] * (double)sns[i]);
    want[2 * i + 1] = norm * ((double)xs[2 * i] * (double)sns[i] + (double)xs[2 * i + 1] * (double)css[i]);
  }
  check_close(ys, want, D, 1e-6, "y");
  check_close(ys2, want, D, 1e-6, "y2");
  free(xs), free(css), free(sns), free(ys), free(ys2);
  finish(&h, &image);
}
END_TEST

// ---- gather, scatter, atomics -----------------------------------------------------------------------------------------------
// Rows of a table by index (absent: -1), columns permuted by an index in the lanes, sums per column by atomics.
START_TEST(test_gather) {
  enum { V = 9, D = 32, R = 6 };
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "gather");
  ir_value *table = hk_param_c(&h, "table", IR_PARAM_IN, IR_f32, 2, (int64_t[]){V, D}),
           *ids = hk_param_c(&h, "ids", IR_PARAM_IN, IR_i32, 1, (int64_t[]){R});
  ir_value *perm = hk_param_c(&h, "perm", IR_PARAM_IN, IR_i32, 1, (int64_t[]){D}),
           *rows = hk_param_c(&h, "rows", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){R, D});
  ir_value *mixed = hk_param_c(&h, "mixed", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){R, D}),
           *back = hk_param_c(&h, "back", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){R, D});
  ir_value *sums = hk_param_c(&h, "sums", IR_PARAM_INOUT, IR_f32, 2, (int64_t[]){1, D}),
           *turned = hk_param_c(&h, "turned", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){D, R});
  ir_value *id = hk_load(&h, ids, NULL, "r", NULL, hk_tile(&h, IR_i32, "r:6")),
           *there = hk_op(&h, IR_SCALAR_ge, id, ir_const_int(&h.b, IR_i32, 0));
  ir_value *p = hk_load(&h, perm, NULL, "d", NULL, hk_tile(&h, IR_i32, "d:32*"));
  const ir_type *t = hk_tile(&h, IR_f32, "r:6 d:32*");
  ir_value *x = hk_load(&h, table, (ir_value *[]){id, NULL}, "_ d", there, t);
  hk_store(&h, rows, NULL, "r d", x, NULL);
  ir_value *g = hk_load(&h, table, (ir_value *[]){id, p}, "_ _", there, t);
  hk_store(&h, mixed, NULL, "r d", g, NULL);
  ir_value *low = hk_op(&h, IR_SCALAR_lt, p, ir_const_int(&h.b, IR_i32, 20));
  hk_store(&h, back, (ir_value *[]){NULL, p}, "r _", g, low);
  ir_op *atomic =
    ir_build(&h.b, IR_OP_atomic, 4, (ir_value *[]){sums, hk_op(&h, IR_SCALAR_sub, id, id), hk_int(&h, 0), x}, 0, NULL);
  ir_set_sym(&h.b, atomic, "op", hk_name(&h, "add"));
  ir_set_axes(&h.b, atomic, "at", 2, (ts_sym[]){h.module->none, hk_name(&h, "d")});
  hk_store(&h, turned, NULL, "d r", x, NULL);
  hk_image image;
  compile(&h, isas[_i], &image);
  float *ts = floats(V * D), *rs = poisoned(R * D * 4), *ms = poisoned(R * D * 4), *bs = poisoned(R * D * 4), sum[D] = {0},
        *us = poisoned(R * D * 4);
  int32_t is[R] = {3, -1, 0, 8, 3, -1}, ps[D];
  for (int i = 0; i < D; i++) ps[i] = (i * 5 + 3) % D;
  ck_assert_int_eq(hk_run(&image, (void *[]){ts, is, ps, rs, ms, bs, sum, us}, (int64_t[]){1, 1, 1}, 1), 0);
  float want[D] = {0}, poison;
  memset(&poison, 0xAB, 4);
  for (int r = 0; r < R; r++)
    for (int d = 0; d < D; d++) {
      float v = is[r] < 0 ? 0 : ts[is[r] * D + d], m = is[r] < 0 ? 0 : ts[is[r] * D + ps[d]];
      ck_assert(rs[r * D + d] == v && us[d * R + r] == v && ms[r * D + d] == m);
      ck_assert(memcmp(&bs[r * D + ps[d]], ps[d] < 20 ? &m : &poison, 4) == 0);
      want[d] += v;
    }
  for (int d = 0; d < D; d++) ck_assert(want[d] == sum[d]);
  free(ts), free(rs), free(ms), free(bs), free(us);
  finish(&h, &image);
}
END_TEST

// ---- reductions, scans, lookups ---------------------------------------------------------------------------------------------
START_TEST(test_reductions) {
  enum { A = 3, B = 24 };
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "reductions");
  ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, IR_f32, 2, (int64_t[]){A, B}),
           *n = hk_param_c(&h, "n", IR_PARAM_IN, IR_i32, 2, (int64_t[]){A, B});
  ir_value *best = hk_param_c(&h, "best", IR_PARAM_OUT, IR_f32, 1, (int64_t[]){A}),
           *where = hk_param_c(&h, "where", IR_PARAM_OUT, IR_i32, 1, (int64_t[]){A});
  ir_value *low = hk_param_c(&h, "low", IR_PARAM_OUT, IR_i32, 1, (int64_t[]){B}),
           *prefix = hk_param_c(&h, "prefix", IR_PARAM_OUT, IR_i32, 2, (int64_t[]){A, B});
  ir_value *down = hk_param_c(&h, "down", IR_PARAM_OUT, IR_i32, 2, (int64_t[]){A, B}),
           *first = hk_param_c(&h, "first", IR_PARAM_OUT, IR_i32, 1, (int64_t[]){B});
  const ir_type *t = hk_tile(&h, IR_f32, "a:3 b:24*"), *ti = hk_tile(&h, IR_i32, "a:3 b:24*");
  ir_value *xt = hk_load(&h, x, NULL, "a b", NULL, t), *nt = hk_load(&h, n, NULL, "a b", NULL, ti);
  const ir_type *results[2] = {hk_tile(&h, IR_f32, "a:3"), hk_tile(&h, IR_i32, "a:3")};
  ir_op *op = ir_build(&h.b, IR_OP_reduce, 1, &xt, 2, results);
  ir_set_sym(&h.b, op, "op", hk_name(&h, "argmax"));
  ir_set_axes(&h.b, op, "over", 1, (ts_sym[]){hk_name(&h, "b")});
  hk_store(&h, best, NULL, "a", op->results[0], NULL);
  hk_store(&h, where, NULL, "a", op->results[1], NULL);
  hk_store(&h, low, NULL, "b", ir_reduce(&h.b, nt, "min", 1, (ts_sym[]){hk_name(&h, "a")}), NULL);
  const ir_type *columns[2] = {hk_tile(&h, IR_i32, "b:24*"), hk_tile(&h, IR_i32, "b:24*")};
  op = ir_build(&h.b, IR_OP_reduce, 1, &nt, 2, columns);
  ir_set_sym(&h.b, op, "op", hk_name(&h, "argmin"));
  ir_set_axes(&h.b, op, "over", 1, (ts_sym[]){hk_name(&h, "a")});
  hk_store(&h, first, NULL, "b", op->results[1], NULL);
  for (int i = 0; i < 2; i++) {
    ir_op *scan = ir_build(&h.b, IR_OP_scan, 1, &nt, 1, &ti);
    ir_set_sym(&h.b, scan, "op", hk_name(&h, i ? "max" : "add"));
    ir_set_sym(&h.b, scan, "over", hk_name(&h, i ? "a" : "b"));
    if (!i) ir_set_int(&h.b, scan, "exclusive", 1);
    hk_store(&h, i ? down : prefix, NULL, "a b", scan->results[0], NULL);
  }
  hk_image image;
  compile(&h, isas[_i], &image);
  float *xs = floats(A * B), bests[A];
  int32_t ns[A * B], wheres[A], lows[B], prefixes[A * B], downs[A * B], firsts[B];
  for (int i = 0; i < A * B; i++) ns[i] = (int)(uniform() * 4);
  for (int i = 0; i < B; i++) xs[B + i] = i % 5 == 3 ? 7 : i % 2 ? NAN : xs[B + i];   // ties and NaN
  for (int i = 0; i < B; i++) xs[2 * B + i] = NAN;
  ck_assert_int_eq(hk_run(&image, (void *[]){xs, ns, bests, wheres, lows, prefixes, downs, firsts}, (int64_t[]){1, 1, 1}, 1), 0);
  for (int a = 0; a < A; a++) {
    int at = 0, sum = 0;
    for (int b = 1; b < B; b++)
      if (xs[a * B + b] > xs[a * B + at] || (isnan(xs[a * B + at]) && !isnan(xs[a * B + b]))) at = b;
    ck_assert_int_eq(wheres[a], at);
    ck_assert(bests[a] == xs[a * B + at] || isnan(xs[a * B + at]));
    for (int b = 0; b < B; b++) {
      ck_assert_int_eq(prefixes[a * B + b], sum);
      sum += ns[a * B + b];
      int most = ns[b];
      for (int q = 1; q <= a; q++) most = ns[q * B + b] > most ? ns[q * B + b] : most;
      ck_assert_int_eq(downs[a * B + b], most);
    }
  }
  for (int b = 0; b < B; b++) {
    int at = 0;
    for (int a = 1; a < A; a++) at = ns[a * B + b] < ns[at * B + b] ? a : at;
    ck_assert_int_eq(lows[b], ns[at * B + b]);
    ck_assert_int_eq(firsts[b], at);
  }
  free(xs);
  finish(&h, &image);
}
END_TEST

// Tables of 4, 8, 16, 32 and 50 entries, in lanes and as scalars.
START_TEST(test_lookup) {
  static const int sizes[] = {4, 8, 16, 32, 50};
  int n = sizes[_i % 5];
  seed();
  hk h;
  hk_init(&h);
  hk_begin(&h, "lookup");
  ir_value *table = hk_param_c(&h, "t", IR_PARAM_IN, IR_f32, 1, (int64_t[]){n}),
           *index = hk_param_c(&h, "i", IR_PARAM_IN, IR_u8, 1, (int64_t[]){48});
  ir_value *y = hk_param_c(&h, "y", IR_PARAM_OUT, IR_f32, 1, (int64_t[]){48}),
           *z = hk_param_c(&h, "z", IR_PARAM_OUT, IR_f32, 1, (int64_t[]){48});
  char axes[2][16];
  snprintf(axes[0], sizeof axes[0], "v:%d", n);
  snprintf(axes[1], sizeof axes[1], "v:%d*", n);
  for (int i = 0; i < 2; i++) {
    ir_value *t = hk_load(&h, table, NULL, "v", NULL, hk_tile(&h, IR_f32, axes[i]));
    ir_value *at = hk_load(&h, index, NULL, "k", NULL, hk_tile(&h, IR_u8, i ? "k:48" : "k:48*"));
    const ir_type *result = hk_tile(&h, IR_f32, i ? "k:48" : "k:48*");
    ir_op *op = ir_build(&h.b, IR_OP_lookup, 2, (ir_value *[]){t, at}, 1, &result);
    ir_set_sym(&h.b, op, "axis", hk_name(&h, "v"));
    hk_store(&h, i ? z : y, NULL, "k", op->results[0], NULL);
  }
  hk_image image;
  compile(&h, isas[_i / 5], &image);
  float *ts = floats((size_t)n), ys[48], zs[48];
  uint8_t is[48];
  for (int i = 0; i < 48; i++) is[i] = (uint8_t)(i * 7 % n);
  ck_assert_int_eq(hk_run(&image, (void *[]){ts, is, ys, zs}, (int64_t[]){1, 1, 1}, 1), 0);
  for (int i = 0; i < 48; i++) ck_assert(ys[i] == ts[is[i]] && zs[i] == ts[is[i]]);
  free(ts);
  finish(&h, &image);
}
END_TEST

// ---- control flow -----------------------------------------------------------------------------------------------------------
// if with results inside for; raise drops the rest of its block.
START_TEST(test_control) {
  hk h;
  hk_init(&h);
  ir_kernel *kernel = hk_begin(&h, "control");
  kernel->grid[0] = hk_size(&h, 4);
  ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, IR_i32, 2, (int64_t[]){4, 16}),
           *y = hk_param_c(&h, "y", IR_PARAM_OUT, IR_i32, 2, (int64_t[]){4, 16});
  ir_value *b = hk_pid(&h, 0);
  const ir_type *t = hk_tile(&h, IR_i32, "i:16*");
  ir_value *v = hk_load(&h, x, (ir_value *[]){b, NULL}, "_ i", NULL, t);
  ir_op *raise =
    ir_build(&h.b, IR_OP_raise, 1, (ir_value *[]){hk_op(&h, IR_SCALAR_gt, v, ir_const_int(&h.b, IR_i32, 100))}, 0, NULL);
  ir_set_int(&h.b, raise, "code", 7);
  ir_set_text(&h.b, raise, "text", "too large");
  ir_region *body = h.b.region;
  ir_op *loop = ir_for(&h.b, hk_int(&h, 0), b, hk_int(&h, 1), 1, &v);
  h.b.region = loop->regions[0];
  ir_value *odd = hk_op(&h, IR_SCALAR_eq, hk_op(&h, IR_SCALAR_rem, loop->regions[0]->params[0], hk_int(&h, 2)), hk_int(&h, 1));
  ir_op *branch = ir_if(&h.b, odd, 1, &t);
  ir_region *inside = h.b.region;
  for (int i = 0; i < 2; i++) {
    h.b.region = branch->regions[i];
    ir_value *r = hk_op(&h, i ? IR_SCALAR_add : IR_SCALAR_mul, loop->regions[0]->params[1], ir_const_int(&h.b, IR_i32, 3));
    ir_yield(&h.b, 1, &r);
  }
  h.b.region = inside;
  ir_yield(&h.b, 1, branch->results);
  h.b.region = body;
  hk_store(&h, y, (ir_value *[]){b, NULL}, "_ i", loop->results[0], NULL);
  hk_image image;
  compile(&h, isas[_i], &image);
  int32_t xs[64], *ys = poisoned(sizeof xs);
  for (int i = 0; i < 64; i++) xs[i] = i - 10;
  ck_assert_int_eq(hk_run(&image, (void *[]){xs, ys}, (int64_t[]){4, 1, 1}, 4), 0);
  for (int i = 0; i < 64; i++) {
    int want = xs[i];
    for (int j = 0; j < i / 16; j++) want = j % 2 ? want * 3 : want + 3;
    ck_assert_int_eq(ys[i], want);
  }
  xs[37] = 101;
  memset(ys, 0xAB, sizeof xs);
  ck_assert_int_eq(hk_run(&image, (void *[]){xs, ys}, (int64_t[]){4, 1, 1}, 4), 7);
  ck_assert_int_eq(ys[32], (int32_t)0xABABABAB);
  free(ys);
  finish(&h, &image);
}
END_TEST

// Integer operators on i32 and u8, vectors and scalars, against C.
START_TEST(test_integers) {
  static const ir_scalar ops[] = {IR_SCALAR_add, IR_SCALAR_sub, IR_SCALAR_mul, IR_SCALAR_div, IR_SCALAR_rem, IR_SCALAR_min,
                                  IR_SCALAR_max, IR_SCALAR_and, IR_SCALAR_or,  IR_SCALAR_xor, IR_SCALAR_shl, IR_SCALAR_shr};
  enum { OPS = sizeof ops / sizeof ops[0] };
  seed();
  for (int type = 0; type < 2; type++) {
    ir_dtype t = type ? IR_u8 : IR_i32;
    hk h;
    hk_init(&h);
    hk_begin(&h, "integers");
    ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, t, 1, (int64_t[]){32}),
             *y = hk_param_c(&h, "y", IR_PARAM_IN, t, 1, (int64_t[]){32});
    ir_value *z = hk_param_c(&h, "z", IR_PARAM_OUT, t, 2, (int64_t[]){OPS + 2, 32});
    const ir_type *tile = hk_tile(&h, t, "i:32*");
    ir_value *a = hk_load(&h, x, NULL, "i", NULL, tile), *b = hk_load(&h, y, NULL, "i", NULL, tile);
    for (int i = 0; i < OPS; i++) hk_store(&h, z, (ir_value *[]){hk_int(&h, i), NULL}, "_ i", hk_op(&h, ops[i], a, b), NULL);
    for (int i = 0; i < 2; i++)   // by a power of two
      hk_store(&h, z, (ir_value *[]){hk_int(&h, OPS + i), NULL}, "_ i",
               hk_op(&h, i ? IR_SCALAR_rem : IR_SCALAR_div, a, ir_const_int(&h.b, t, 8)), NULL);
    hk_image image;
    compile(&h, isas[_i], &image);
    size_t w = ir_dtype_bits(t) / 8;
    unsigned char xs[32 * 4], ys[32 * 4], zs[(OPS + 2) * 32 * 4];
    int64_t u[32], v[32];
    for (int i = 0; i < 32; i++) {
      u[i] = ir_wrap(t, (int64_t)(uniform() * 0x1p31)), v[i] = 1 + (int64_t)(fabs(uniform()) * (type ? 6.9 : 30));
      memcpy(xs + (size_t)i * w, &u[i], w), memcpy(ys + (size_t)i * w, &v[i], w);
    }
    ck_assert_int_eq(hk_run(&image, (void *[]){xs, ys, zs}, (int64_t[]){1, 1, 1}, 1), 0);
    for (int i = 0; i < (OPS + 2) * 32; i++) {
      int64_t p = u[i % 32], q = i / 32 < OPS ? v[i % 32] : 8, r = 0, got = 0;
      switch (i / 32 < OPS ? ops[i / 32] : i / 32 == OPS ? IR_SCALAR_div : IR_SCALAR_rem) {
        case IR_SCALAR_add: r = p + q; break;
        case IR_SCALAR_sub: r = p - q; break;
        case IR_SCALAR_mul: r = p * q; break;
        case IR_SCALAR_div: r = p / q - (p % q < 0); break;
        case IR_SCALAR_rem: r = p % q + (p % q < 0 ? q : 0); break;
        case IR_SCALAR_min: r = p < q ? p : q; break;
        case IR_SCALAR_max: r = p > q ? p : q; break;
        case IR_SCALAR_and: r = p & q; break;
        case IR_SCALAR_or: r = p | q; break;
        case IR_SCALAR_xor: r = p ^ q; break;
        case IR_SCALAR_shl: r = (int64_t)((uint64_t)p << q); break;
        default: r = p >> q; break;
      }
      memcpy(&got, zs + (size_t)i * w, w);
      ck_assert_msg(ir_int_of_bits(t, (uint64_t)got) == ir_wrap(t, r), "%s of %s", ir_dtype_name(t),
                    ir_scalar_get(ops[i / 32 % OPS])->name);
    }
    finish(&h, &image);
  }
}
END_TEST

// ---- images, refusals -------------------------------------------------------------------------------------------------------
// Several kernels in one image, byte for byte the same every time; text forms are there when asked for.
START_TEST(test_image) {
  const unsigned char *image[2];
  size_t bytes[2];
  uint32_t entries[3] = {0};
  hk h[2];
  for (int i = 0; i < 2; i++) {
    hk_init(&h[i]);
    cgh_object objects[3];
    for (int k = 0; k < 3; k++) {
      if (k == 1) hk_gemv_q4(&h[i], 64, 64, 32, 2, true);
      else hk_gemm(&h[i], 8, 32, 16, 8, 32, k + 1);
      cgh_code code;
      cgh_options o = {.llvm_text = true, .assembly = true};
      ck_assert_int_eq(cgh_compile(h[i].kernel, isas[0], &o, &h[i].arena, &h[i].diags, &code), TS_OK);
      ck_assert(strstr(code.llvm.data, "define hidden") && strstr(code.assembly.data, "vfmadd") &&
                strstr(code.assembly.data, "spec.yaml:2:1"));
      objects[k] = (cgh_object){code.object, code.object_bytes};
    }
    ck_assert_int_eq(cgh_link(objects, 3, &h[i].arena, &h[i].diags, &image[i], &bytes[i]), TS_OK);
  }
  ck_assert_uint_eq(bytes[0], bytes[1]);
  ck_assert(memcmp(image[0], image[1], bytes[0]) == 0);
  const tsr_host_image *head = (const tsr_host_image *)image[0];
  ck_assert_uint_eq(head->magic, TSR_IMAGE_MAGIC);
  ck_assert_uint_eq(head->count, 3);
  memcpy(entries, head->entries, sizeof entries);
  for (int k = 0; k < 3; k++) ck_assert(entries[k] % 64 == 0 && entries[k] < bytes[0] && (k == 0 || entries[k] > entries[k - 1]));
  for (int i = 0; i < 2; i++) hk_deinit(&h[i]);
}
END_TEST

// Truncated and bit-flipped objects are refused or linked, but never crash the linker.
START_TEST(test_damaged_objects) {
  hk h;
  hk_init(&h);
  hk_gemv_q4(&h, 64, 64, 32, 2, true);
  cgh_code code;
  ck_assert_int_eq(cgh_compile(h.kernel, isas[0], NULL, &h.arena, &h.diags, &code), TS_OK);
  seed();
  int refused = 0;
  for (int i = 0; i < 3000; i++) {
    size_t n = i % 3 ? code.object_bytes : (size_t)i * code.object_bytes / 3000 / 8 * 8;
    unsigned char *copy = aligned_alloc(64, (n + 64) / 64 * 64);
    memcpy(copy, code.object, n);
    for (int flips = 0; i % 3 && n && flips < i % 4 + 1; flips++) {
      size_t at = (size_t)(fabs(uniform()) * (double)n) % n;
      if (i % 2) at = i % 4 == 1 ? at % 64 : n - 1 - at % (n < 900 ? n : 900);   // headers and section table
      copy[at] ^= (unsigned char)(1 << (i % 8));
    }
    ts_diags d;
    ts_arena a;
    ts_diags_init(&d);
    ts_arena_init(&a);
    const unsigned char *image;
    size_t bytes;
    refused += cgh_link(&(cgh_object){copy, n}, 1, &a, &d, &image, &bytes) != TS_OK;
    ts_arena_deinit(&a);
    ts_diags_deinit(&d);
    free(copy);
  }
  ck_assert_int_gt(refused, 1000);
  hk_deinit(&h);
}
END_TEST

static void expect_refusal(hk *h, const ts_diag_kind *kind, const char *text) {
  cgh_code code;
  ts_status s = cgh_compile(h->kernel, isas[0], NULL, &h->arena, &h->diags, &code);
  ck_assert_int_eq(s, kind->status);
  ck_assert(ts_diags_has(&h->diags, kind));
  ts_text out = {0};
  ts_diags_print(&h->diags, &out, false);
  ck_assert_msg(strstr(ts_text_z(&out), text) && strstr(ts_text_z(&out), "spec.yaml:"), "%s", ts_text_z(&out));
  ts_text_deinit(&out);
  hk_deinit(h);
}

START_TEST(test_refusals) {
  hk h;
  hk_init(&h);
  hk_begin(&h, "k");
  ir_build(&h.b, IR_OP_barrier, 0, NULL, 0, NULL);
  expect_refusal(&h, &diag_host_op, "barrier");
  hk_init(&h);
  hk_begin(&h, "k")->target_class = IR_CLASS_CUDA;
  expect_refusal(&h, &diag_host_not_finished, "class host");
  hk_init(&h);
  hk_begin(&h, "k");
  hk_param_c(&h, "x", IR_PARAM_IN, IR_u4, 1, (int64_t[]){64});
  expect_refusal(&h, &diag_host_type, "u4");
  hk_init(&h);
  hk_begin(&h, "k");
  ir_full(&h.b, hk_real(&h, 0), hk_tile(&h, IR_f32, "a:100 b:100"));
  expect_refusal(&h, &diag_host_tile_size, "tile");
  hk_init(&h);
  hk_begin(&h, "k");
  ir_value *x = hk_param_c(&h, "x", IR_PARAM_IN, IR_f32, 1, (int64_t[]){64});
  hk_store(&h, x, NULL, "i", ir_full(&h.b, hk_real(&h, 0), hk_tile(&h, IR_f32, "i:16*")), NULL);
  expect_refusal(&h, &diag_host_not_finished, "role in");
  hk_init(&h);
  hk_begin(&h, "k");
  ir_value *wide = ir_full(&h.b, ir_const_real(&h.b, IR_f64, 0), hk_tile(&h, IR_f64, "i:16*"));
  ir_value *to = hk_param_c(&h, "y", IR_PARAM_OUT, IR_f64, 1, (int64_t[]){64});
  hk_store(&h, to, NULL, "i", ir_apply_op(&h.b, IR_SCALAR_erf, wide, NULL, NULL), NULL);
  expect_refusal(&h, &diag_host_scalar, "erf of f64");
}
END_TEST

int main(void) {
  isa_count = hk_isas(isas, 8);
  if (!isa_count) {
    printf("skipped: this CPU has no AVX2\n");
    return 0;
  }
  int n = (int)isa_count;
  Suite *s = suite_create("host_codegen");
  TCase *t = tcase_create("ops");
  tcase_add_loop_test(t, test_elementwise, 0, n);
  tcase_add_loop_test(t, test_grid_and_scalars, 0, n);
  tcase_add_loop_test(t, test_gemm, 0, 3 * n);
  tcase_add_loop_test(t, test_gemv_q4, 0, 4 * n);
  tcase_add_loop_test(t, test_dot_int8, 0, 8 * n);
  tcase_add_loop_test(t, test_dot_lanes, 0, n);
  tcase_add_loop_test(t, test_softmax, 0, n);
  tcase_add_loop_test(t, test_norm_rope, 0, n);
  tcase_add_loop_test(t, test_gather, 0, n);
  tcase_add_loop_test(t, test_reductions, 0, n);
  tcase_add_loop_test(t, test_lookup, 0, 5 * n);
  tcase_add_loop_test(t, test_control, 0, n);
  tcase_add_loop_test(t, test_integers, 0, n);
  suite_add_tcase(s, t);
  t = tcase_create("images");
  tcase_add_test(t, test_image);
  tcase_add_test(t, test_damaged_objects);
  tcase_add_test(t, test_refusals);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
