// Floating-point row operations against oracles that share no code with them: every rounding, flush, saturation; edge-value
// cross products and random bits; both instruction-set levels.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "arith_oracle_float.h"
#include "emulator/arith_rows.h"

static uint64_t state;
static uint64_t rnd64(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
static void seed(void) {
  const char *s = getenv("TESSERA_SEED");
  state = s ? strtoull(s, NULL, 0) : 0x243F6A8885A308D3u;
  printf("seed %llu\n", (unsigned long long)state);
}

static const uint32_t edge32[] = {0,          0x80000000, 1,          0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000,
                                  0x80800000, 0x00800001, 0x00FFFFFF, 0x01000000, 0x33800000, 0x34000000, 0x3F000000,
                                  0x3F7FFFFF, 0x3F800000, 0xBF800000, 0x3F800001, 0x40000000, 0x40400000, 0xC0490FDB,
                                  0x4B000000, 0x4B800001, 0x4F000000, 0x5F800000, 0x7E800000, 0x7F000000, 0x7F7FFFFF,
                                  0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF};
static const uint16_t edge16[] = {0,      0x8000, 1,      0x8001, 2,      0x3FF,  0x400,  0x401,  0x83FF, 0x7F,
                                  0x80,   0x81,   0x1000, 0x3800, 0x3BFF, 0x3C00, 0xBC00, 0x3C01, 0x3F7F, 0x3F80,
                                  0xBF80, 0x3F81, 0x4000, 0x4248, 0x4400, 0x6400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00,
                                  0x7C01, 0x7E00, 0xFFFF, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81};
#define COUNT(a) (sizeof(a) / sizeof *(a))
static uint32_t value32(void) {
  uint64_t r = rnd64();
  if ((r & 7) == 0) return edge32[(r >> 8) % COUNT(edge32)];
  if ((r & 7) == 1) return (uint32_t)(r >> 32 & 0x83FFFFFF) | 0x3C000000;   // near 1, so that sums interact
  return (uint32_t)(r >> 32);
}
static uint16_t value16(void) {
  uint64_t r = rnd64();
  return (r & 7) == 0 ? edge16[(r >> 8) % COUNT(edge16)] : (uint16_t)(r >> 40);
}
static uint64_t value64(void) {
  uint64_t r = rnd64(), w = rnd64();
  static const uint64_t edges[] = {0,
                                   1,
                                   0x000FFFFFFFFFFFFF,
                                   0x0010000000000000,
                                   0x3CA0000000000000,
                                   0x3FEFFFFFFFFFFFFF,
                                   0x3FF0000000000000,
                                   0x3FF0000000000001,
                                   0x4000000000000000,
                                   0x7FEFFFFFFFFFFFFF,
                                   0x7FF0000000000000,
                                   0x7FF0000000000001,
                                   0x7FF8000000000123};
  if ((r & 3) == 0) return edges[(r >> 8) % COUNT(edges)] | (r >> 2 & 1) << 63;
  if ((r & 3) == 1) return (w & 0x803FFFFFFFFFFFFF) | 0x3FC0000000000000;
  return w;
}

typedef float host32(float, float, float, int);
typedef double host64(double, double, double, int);
typedef struct float_op { emu_op op; unsigned sources; host32 *f32; host64 *f64; } float_op;
static const float_op float_ops[] = {{EMU_OP_ADD, 2, host_add32, host_add64}, {EMU_OP_SUB, 2, host_sub32, host_sub64},
                                     {EMU_OP_MUL, 2, host_mul32, host_mul64}, {EMU_OP_DIV, 2, host_div32, host_div64},
                                     {EMU_OP_SQRT, 1, host_sqrt32, host_sqrt64}, {EMU_OP_FMA, 3, host_fma32, host_fma64},
                                     {EMU_OP_MAD, 3, host_fma32, host_fma64}};

// One row of sources through `op` at both levels, against the host.
static void check_row32(const float_op *o, uint32_t mode, uint32_t s[3][32]) {
  for (int level = 0; level < 2; level++) {
    if (level && !__builtin_cpu_supports("avx2")) continue;
    emu_row_fn *fn = emu_row_at(level, o->op, EMU_F32, EMU_NOTYPE, mode);
    ck_assert_ptr_nonnull(fn);
    uint32_t d[32];
    memset(d, 0xA5, sizeof d);
    fn(d, (const void *const[4]){s[0], s[1], s[2], NULL}, mode);
    for (int i = 0; i < 32; i++) {
      uint32_t x[3] = {s[0][i], s[1][i], s[2][i]};
      if (mode & EMU_FTZ)
        for (int k = 0; k < 3; k++) x[k] = flush(x[k]);
      uint32_t want = f32_as(o->f32(as_f32(x[0]), as_f32(x[1]), as_f32(x[2]), mode & EMU_ROUND_MASK));
      if (nan32(want)) want = 0x7FFFFFFF;
      if (mode & EMU_FTZ) want = flush(want);
      if (mode & EMU_SAT) want = nan32(want) ? 0 : saturate(want);
      ck_assert_msg(d[i] == want, "%s.f32 mode %x level %d (%08x, %08x, %08x): %08x, expected %08x", emu_op_name(o->op), mode,
                    level, s[0][i], s[1][i], s[2][i], d[i], want);
    }
  }
}

START_TEST(f32_operations) {
  seed();
  for (size_t k = 0; k < COUNT(float_ops); k++)
    for (uint32_t round = EMU_RN; round <= EMU_RP; round++)
      for (int flags = 0; flags < 4; flags++) {
        const float_op *o = &float_ops[k];
        uint32_t mode = round | (flags & 1 ? EMU_FTZ : 0) | (flags & 2 ? EMU_SAT : 0);
        if ((flags & 2) && (o->op == EMU_OP_DIV || o->op == EMU_OP_SQRT)) continue;   // PTX has no .sat there
        uint32_t s[3][32];
        size_t n = COUNT(edge32), total = o->sources == 1 ? n : o->sources == 2 ? n * n : n * n * n;
        for (size_t i = 0; i < total; i += o->sources == 3 && flags ? 32 * 7 : 32) {
          for (size_t j = 0; j < 32; j++) {
            size_t t = (i + j) % total;
            s[0][j] = edge32[t % n];
            s[1][j] = edge32[t / n % n];
            s[2][j] = edge32[t / n / n % n];
          }
          check_row32(o, mode, s);
        }
        for (int i = 0; i < 150; i++) {
          for (int j = 0; j < 96; j++) s[j / 32][j % 32] = value32();
          if (i & 1)   // cancelling sums: c close to -a*b
            for (int j = 0; j < 32; j++) {
              s[2][j] = f32_as(-as_f32(s[0][j]) * as_f32(s[1][j])) + (uint32_t)(rnd64() & 3);
              if (o->sources == 2) s[1][j] = s[0][j] ^ 0x80000000 ^ (uint32_t)(rnd64() & 7);
            }
          check_row32(o, mode, s);
        }
      }
}
END_TEST

static bool nan64(uint64_t b) { return (b & 0x7FFFFFFFFFFFFFFF) > 0x7FF0000000000000; }
START_TEST(f64_operations) {
  seed();
  for (size_t k = 0; k < COUNT(float_ops); k++)
    for (uint32_t round = EMU_RN; round <= EMU_RP; round++)
      for (int n = 0; n < 1000; n++) {
        const float_op *o = &float_ops[k];
        uint64_t s[3][32], d[32];
        for (int j = 0; j < 96; j++) s[j / 32][j % 32] = value64();
        if (n & 1)
          for (int j = 0; j < 32; j++) {
            s[2][j] = f64_as(-as_f64(s[0][j]) * as_f64(s[1][j])) + (rnd64() & 3);
            if (o->sources == 2) s[1][j] = s[0][j] ^ (uint64_t)1 << 63 ^ (rnd64() & 7);
          }
        for (int level = 0; level < 2; level++) {
          if (level && !__builtin_cpu_supports("avx2")) continue;
          emu_row_fn *fn = emu_row_at(level, o->op, EMU_F64, EMU_NOTYPE, round);
          ck_assert_ptr_nonnull(fn);
          fn(d, (const void *const[4]){s[0], s[1], s[2], NULL}, round);
          for (int i = 0; i < 32; i++) {
            uint64_t want = f64_as(o->f64(as_f64(s[0][i]), as_f64(s[1][i]), as_f64(s[2][i]), (int)round));
            if (nan64(want)) {
              want = 0xFFF8000000000000;
              for (unsigned q = o->sources; q-- > 0;)
                if (nan64(s[q][i])) want = s[q][i] | 0x0008000000000000;
            }
            ck_assert_msg(d[i] == want, "%s.f64 round %u level %d (%016llx, %016llx, %016llx): %016llx, expected %016llx",
                          emu_op_name(o->op), round, level, (unsigned long long)s[0][i], (unsigned long long)s[1][i],
                          (unsigned long long)s[2][i], (unsigned long long)d[i], (unsigned long long)want);
          }
        }
      }
}
END_TEST

// --- halves --------------------------------------------------------------------------------------------------------------------
START_TEST(half_operations) {
  seed();
  static const emu_op ops[] = {EMU_OP_ADD, EMU_OP_SUB, EMU_OP_MUL, EMU_OP_FMA};
  for (int bf = 0; bf < 2; bf++)
    for (size_t k = 0; k < 4; k++)
      for (int packed = 0; packed < 2; packed++) {
        static const uint32_t modes[] = {0, EMU_FTZ, EMU_SAT, EMU_FTZ | EMU_SAT, EMU_RELU, EMU_FTZ | EMU_RELU};
        for (size_t q = 0; q < COUNT(modes); q++) {
          uint32_t mode = modes[q];
          emu_type t = bf ? (packed ? EMU_BF16X2 : EMU_BF16) : packed ? EMU_F16X2 : EMU_F16;
          if (((mode & EMU_RELU) && ops[k] != EMU_OP_FMA) || (bf && (mode & EMU_FTZ))) continue;
          for (int n = 0; n < (mode ? 40 : 300); n++) {
            uint32_t s[3][32], d[32];
            for (int j = 0; j < 96; j++) s[j / 32][j % 32] = value16() | (uint32_t)value16() << 16;
            if (n % 3 == 0 && !mode)   // c near the product's rounding position
              for (int j = 0; j < 32; j++) s[2][j] = (s[2][j] & 0x83FF83FF) | ((s[0][j] + s[1][j]) & 0x7C007C00);
            for (int level = 0; level < 2; level++) {
              if (level && !__builtin_cpu_supports("avx2")) continue;
              emu_row_fn *fn = emu_row_at(level, ops[k], t, EMU_NOTYPE, mode);
              ck_assert_ptr_nonnull(fn);
              fn(d, (const void *const[4]){s[0], s[1], s[2], NULL}, mode);
              for (int i = 0; i < 32; i++) {
                uint32_t want = half_oracle(ops[k], bf, mode, s[0][i] & 0xFFFF, s[1][i] & 0xFFFF, s[2][i] & 0xFFFF);
                if (packed) want |= half_oracle(ops[k], bf, mode, s[0][i] >> 16, s[1][i] >> 16, s[2][i] >> 16) << 16;
                ck_assert_msg(d[i] == want, "%s.%s mode %x level %d (%08x, %08x, %08x): %08x, expected %08x", emu_op_name(ops[k]),
                              emu_type_name(t), mode, level, s[0][i], s[1][i], s[2][i], d[i], want);
              }
            }
          }
        }
      }
}
END_TEST

START_TEST(half_edge_products) {   // all pairs (and a sample of triples) of edge values
  for (int bf = 0; bf < 2; bf++) {
    emu_type t = bf ? EMU_BF16 : EMU_F16;
    size_t n = COUNT(edge16);
    for (size_t i = 0; i < n; i++)
      for (size_t j = 0; j < n; j++) {
        uint16_t a = edge16[i], b = edge16[j], c = edge16[(i * 7 + j * 3) % n];
        ck_assert_uint_eq(emu_half_add(t, a, b, 0), half_oracle(EMU_OP_ADD, bf, 0, a, b, 0));
        ck_assert_uint_eq(emu_half_sub(t, a, b, 0), half_oracle(EMU_OP_SUB, bf, 0, a, b, 0));
        ck_assert_uint_eq(emu_half_mul(t, a, b, 0), half_oracle(EMU_OP_MUL, bf, 0, a, b, 0));
        ck_assert_uint_eq(emu_half_fma(t, a, b, c, 0), half_oracle(EMU_OP_FMA, bf, 0, a, b, c));
      }
  }
}
END_TEST

// --- minimum and maximum -------------------------------------------------------------------------------------------------------
START_TEST(minimum_maximum) {
  seed();
  for (int max = 0; max < 2; max++)
    for (int q = 0; q < 4; q++) {
      uint32_t mode = (q & 1 ? EMU_NAN : 0) | (q & 2 ? EMU_XORSIGN_ABS : 0);
      emu_op op = max ? EMU_OP_MAX : EMU_OP_MIN;
      for (int n = 0; n < 400; n++) {
        uint32_t s[2][32], d[32];
        for (int level = 0; level < 2; level++) {
          if (level && !__builtin_cpu_supports("avx2")) continue;
          for (int j = 0; j < 64; j++) s[j / 32][j % 32] = n & 1 ? value32() : edge32[rnd64() % COUNT(edge32)];
          emu_row_at(level, op, EMU_F32, EMU_NOTYPE, mode)(d, (const void *const[4]){s[0], s[1]}, mode);
          for (int i = 0; i < 32; i++)
            ck_assert_uint_eq(d[i], minmax_oracle(max, s[0][i], s[1][i], (small_format){8, 23}, 0x7FFFFFFF, mode));
          emu_row_at(level, op, EMU_F32, EMU_NOTYPE, mode | EMU_FTZ)(d, (const void *const[4]){s[0], s[1]}, mode | EMU_FTZ);
          for (int i = 0; i < 32; i++)
            ck_assert_uint_eq(d[i], minmax_oracle(max, flush(s[0][i]), flush(s[1][i]), (small_format){8, 23}, 0x7FFFFFFF, mode));
          for (int j = 0; j < 64; j++) s[j / 32][j % 32] = value16() | (uint32_t)value16() << 16;
          for (int bf = 0; bf < 2; bf++)
            for (int packed = 0; packed < 2; packed++) {
              emu_type t = bf ? (packed ? EMU_BF16X2 : EMU_BF16) : packed ? EMU_F16X2 : EMU_F16;
              emu_row_at(level, op, t, EMU_NOTYPE, mode)(d, (const void *const[4]){s[0], s[1]}, mode);
              for (int i = 0; i < 32; i++) {
                small_format f = bf ? fmt_bf16 : fmt_f16;
                uint64_t want = minmax_oracle(max, s[0][i] & 0xFFFF, s[1][i] & 0xFFFF, f, 0x7FFF, mode);
                if (packed) want |= minmax_oracle(max, s[0][i] >> 16, s[1][i] >> 16, f, 0x7FFF, mode) << 16;
                ck_assert_uint_eq(d[i], want);
              }
            }
        }
      }
    }
}
END_TEST

// --- comparisons ---------------------------------------------------------------------------------------------------------------
START_TEST(comparisons) {
  seed();
  for (int c = 0; c < EMU_CMP_COUNT; c++) {
    bool integer_only = c >= EMU_LO && c <= EMU_HS;
    for (int n = 0; n < 200; n++) {
      uint32_t a[32], b[32], high = 0;
      uint64_t u[32], v[32];
      for (int i = 0; i < 32; i++) {
        a[i] = value32();
        b[i] = rnd64() & 3 ? value32() : a[i];
        u[i] = value64();
        v[i] = rnd64() & 3 ? value64() : u[i];
      }
      if (integer_only) {
        ck_assert_ptr_null(emu_compare((emu_cmp)c, EMU_F32, 0));
        ck_assert_ptr_null(emu_compare((emu_cmp)c, EMU_S32, 0));
        uint32_t m = emu_compare((emu_cmp)c, EMU_U32, 0)(a, b, 0, NULL);
        for (int i = 0; i < 32; i++) {
          bool want = c == EMU_LO ? a[i] < b[i] : c == EMU_LS ? a[i] <= b[i] : c == EMU_HI_CMP ? a[i] > b[i] : a[i] >= b[i];
          ck_assert_int_eq(m >> i & 1, want);
        }
        continue;
      }
      uint32_t m = emu_compare((emu_cmp)c, EMU_F32, 0)(a, b, 0, NULL);
      for (int i = 0; i < 32; i++) ck_assert_int_eq(m >> i & 1, compare_oracle((emu_cmp)c, as_f32(a[i]), as_f32(b[i])));
      m = emu_compare((emu_cmp)c, EMU_F32, EMU_FTZ)(a, b, EMU_FTZ, NULL);
      for (int i = 0; i < 32; i++)
        ck_assert_int_eq(m >> i & 1, compare_oracle((emu_cmp)c, as_f32(flush(a[i])), as_f32(flush(b[i]))));
      m = emu_compare((emu_cmp)c, EMU_F64, 0)(u, v, 0, NULL);
      for (int i = 0; i < 32; i++) ck_assert_int_eq(m >> i & 1, compare_oracle((emu_cmp)c, as_f64(u[i]), as_f64(v[i])));
      for (int bf = 0; bf < 2; bf++) {
        m = emu_compare((emu_cmp)c, bf ? EMU_BF16X2 : EMU_F16X2, 0)(a, b, 0, &high);
        uint32_t low = emu_compare((emu_cmp)c, bf ? EMU_BF16 : EMU_F16, 0)(a, b, 0, NULL);
        ck_assert_uint_eq(m, low);
        for (int i = 0; i < 32; i++) {
          ck_assert_int_eq(m >> i & 1, compare_oracle((emu_cmp)c, half_value(a[i] & 0xFFFF, bf), half_value(b[i] & 0xFFFF, bf)));
          ck_assert_int_eq(high >> i & 1, compare_oracle((emu_cmp)c, half_value(a[i] >> 16, bf), half_value(b[i] >> 16, bf)));
        }
      }
      if (c <= EMU_GE) {
#define INTS(T, V, x, y)                                                                                                   \
  m = emu_compare((emu_cmp)c, T, 0)(x, y, 0, NULL);                                                                        \
  for (int i = 0; i < 32; i++) {                                                                                           \
    V p = (V)x[i], q = (V)y[i];                                                                                            \
    bool want = c == EMU_EQ ? p == q : c == EMU_NE ? p != q : c == EMU_LT ? p < q : c == EMU_LE ? p <= q                   \
                : c == EMU_GT ? p > q : p >= q;                                                                            \
    ck_assert_int_eq(m >> i & 1, want);                                                                                    \
  }
        INTS(EMU_U16, uint16_t, a, b)
        INTS(EMU_S16, int16_t, a, b)
        INTS(EMU_U32, uint32_t, a, b)
        INTS(EMU_S32, int32_t, a, b)
        INTS(EMU_U64, uint64_t, u, v)
        INTS(EMU_S64, int64_t, u, v)
      }
    }
  }
}
END_TEST

START_TEST(in_place_rows) {   // the destination may be any source
  seed();
  for (int k = 0; k < 3; k++) {
    uint32_t s[3][32], d[32];
    for (int j = 0; j < 96; j++) s[j / 32][j % 32] = value32();
    emu_row_fn *fn = emu_row(EMU_OP_FMA, EMU_F32, EMU_NOTYPE, EMU_RM);
    fn(d, (const void *const[4]){s[0], s[1], s[2]}, EMU_RM);
    fn(s[k], (const void *const[4]){s[0], s[1], s[2]}, EMU_RM);
    ck_assert_mem_eq(d, s[k], sizeof d);
  }
}
END_TEST

START_TEST(lookup_refuses) {
  ck_assert_ptr_null(emu_row(EMU_OP_ADD, EMU_U32, EMU_NOTYPE, EMU_FTZ));
  ck_assert_ptr_null(emu_row(EMU_OP_SIN, EMU_F64, EMU_NOTYPE, EMU_APPROX));
  ck_assert_ptr_null(emu_row(EMU_OP_AND, EMU_F32, EMU_NOTYPE, 0));
  ck_assert_ptr_null(emu_row(EMU_OP_MUL, EMU_S64, EMU_NOTYPE, EMU_WIDE));
  ck_assert_ptr_null(emu_compare(EMU_LT, EMU_B32, 0));
  ck_assert_int_eq(emu_type_find("bf16x2", 6), EMU_BF16X2);
  ck_assert_int_eq(emu_type_find("f16x", 4), EMU_NOTYPE);
  ck_assert_int_eq(emu_op_find("prmt", 4), EMU_OP_PRMT);
  ck_assert_int_eq(emu_cmp_find("hi", 2), EMU_HI_CMP);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("arith");
  TCase *t = tcase_create("float");
  tcase_add_test(t, f32_operations);
  tcase_add_test(t, f64_operations);
  tcase_add_test(t, half_operations);
  tcase_add_test(t, half_edge_products);
  tcase_add_test(t, minimum_maximum);
  tcase_add_test(t, comparisons);
  tcase_add_test(t, in_place_rows);
  tcase_add_test(t, lookup_refuses);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
