// Oracles for the arithmetic tests that share no code with the emulator: an exact fixed-point accumulator of 768 bits, rounded
// into any small format by looking at its bits, and the host's own floating point under fesetround.
#ifndef TESSERA_TESTS_ARITH_ORACLE_H
#define TESSERA_TESTS_ARITH_ORACLE_H
#include <check.h>
#include <fenv.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// Check records every assertion that holds; with millions of them that is most of the time, so these report failures only.
#undef ck_assert_msg
#define ck_assert_msg(condition, ...) \
  do { \
    if (!(condition)) ck_abort_msg(__VA_ARGS__); \
  } while (0)
#undef ck_assert
#define ck_assert(condition) ck_assert_msg(condition, "%s", #condition)
#undef ck_assert_uint_eq
#define ck_assert_uint_eq(a, b)                                                                                              \
  do {                                                                                                                       \
    unsigned long long ck_a = (unsigned long long)(a), ck_b = (unsigned long long)(b);                                       \
    ck_assert_msg(ck_a == ck_b, "%s is 0x%llx, %s is 0x%llx", #a, ck_a, #b, ck_b);                                           \
  } while (0)
#undef ck_assert_int_eq
#define ck_assert_int_eq(a, b) ck_assert_uint_eq((long long)(a), (long long)(b))

static inline float as_f32(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }
static inline uint32_t f32_as(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }
static inline double as_f64(uint64_t b) { double f; memcpy(&f, &b, 8); return f; }
static inline uint64_t f64_as(double f) { uint64_t b; memcpy(&b, &f, 8); return b; }

// --- exact sums: value = magnitude * 2^-320 ------------------------------------------------------------------------------------
enum { FIX_WORDS = 24, FIX_POINT = 320 };
typedef struct fixed { uint32_t w[FIX_WORDS]; bool negative; } fixed;

static inline int fixed_compare(const fixed *a, const fixed *b) {
  for (int i = FIX_WORDS - 1; i >= 0; i--)
    if (a->w[i] != b->w[i]) return a->w[i] < b->w[i] ? -1 : 1;
  return 0;
}
static inline bool fixed_zero(const fixed *a) {
  for (int i = 0; i < FIX_WORDS; i++)
    if (a->w[i]) return false;
  return true;
}
// m * 2^e (m of up to 64 bits)
static inline fixed fixed_make(bool negative, uint64_t m, int e) {
  fixed r = {{0}, negative};
  for (int i = 0; i < 64; i++)
    if (m >> i & 1) {
      int p = i + e + FIX_POINT;
      r.w[p / 32] |= 1u << (p % 32);
    }
  return r;
}
static inline fixed fixed_add(fixed a, fixed b) {
  fixed r = {{0}, a.negative};
  if (a.negative == b.negative) {
    uint64_t carry = 0;
    for (int i = 0; i < FIX_WORDS; i++) {
      carry += (uint64_t)a.w[i] + b.w[i];
      r.w[i] = (uint32_t)carry;
      carry >>= 32;
    }
    return r;
  }
  if (fixed_compare(&a, &b) < 0) { fixed t = a; a = b; b = t; }
  r.negative = a.negative;
  int64_t borrow = 0;
  for (int i = 0; i < FIX_WORDS; i++) {
    borrow += (int64_t)a.w[i] - b.w[i];
    r.w[i] = (uint32_t)borrow;
    borrow >>= 32;
  }
  return r;
}
static inline bool fixed_bit(const fixed *a, int position) {   // weight 2^position
  int p = position + FIX_POINT;
  return p >= 0 && p < FIX_WORDS * 32 && (a->w[p / 32] >> (p % 32) & 1);
}

// A small IEEE format: exponent and fraction bits. round: 0 nearest even, 1 toward zero, 2 down, 3 up, 4 nearest away.
typedef struct small_format { int exp_bits, frac_bits; } small_format;
static inline uint64_t fixed_round(const fixed *v, small_format f, int round) {
  int bias = (1 << (f.exp_bits - 1)) - 1, top = FIX_WORDS * 32 - FIX_POINT - 1;
  uint64_t sign = v->negative ? (uint64_t)1 << (f.exp_bits + f.frac_bits) : 0;
  while (top >= -FIX_POINT && !fixed_bit(v, top)) top--;
  if (top < -FIX_POINT) return sign;
  int unit = top - f.frac_bits, least = 1 - bias - f.frac_bits;
  if (unit < least) unit = least;
  uint64_t m = 0;
  for (int i = 0; i <= f.frac_bits; i++) m |= (uint64_t)fixed_bit(v, unit + i) << i;
  bool half = fixed_bit(v, unit - 1), rest = false;
  for (int p = unit - 2; p >= -FIX_POINT; p--) rest |= fixed_bit(v, p);
  bool up = false;
  if (round == 0) up = half && (rest || (m & 1));
  if (round == 4) up = half;
  if (round == 2) up = v->negative && (half || rest);
  if (round == 3) up = !v->negative && (half || rest);
  m += up;
  if (m >> (f.frac_bits + 1)) { m >>= 1; unit++; }
  uint64_t exponent = m >> f.frac_bits ? (uint64_t)(unit + f.frac_bits + bias) : 0;
  uint64_t all = ((uint64_t)1 << f.exp_bits) - 1;
  if (exponent >= all) {
    bool stays = round == 1 || (round == 2 && !v->negative) || (round == 3 && v->negative);
    return sign | (stays ? (all << f.frac_bits) - 1 : all << f.frac_bits);
  }
  return sign | exponent << f.frac_bits | (m & (((uint64_t)1 << f.frac_bits) - 1));
}

// Decoding for the oracle: class 0 finite, 1 infinity, 2 NaN.
typedef struct parts { int cls; bool negative; uint64_t m; int e; } parts;
static inline parts split_bits(uint64_t bits, small_format f) {
  uint64_t frac = bits & (((uint64_t)1 << f.frac_bits) - 1), field = bits >> f.frac_bits & (((uint64_t)1 << f.exp_bits) - 1);
  int bias = (1 << (f.exp_bits - 1)) - 1;
  parts p = {0, bits >> (f.exp_bits + f.frac_bits) & 1, frac, 1 - bias - f.frac_bits};
  if (field == ((uint64_t)1 << f.exp_bits) - 1) p.cls = frac ? 2 : 1;
  else if (field) {
    p.m |= (uint64_t)1 << f.frac_bits;
    p.e += (int)field - 1;
  }
  return p;
}
// a*b + c in one rounding, NaN as `nan`.
static inline uint64_t oracle_fma(uint64_t a, uint64_t b, uint64_t c, small_format f, int round, uint64_t nan) {
  parts x = split_bits(a, f), y = split_bits(b, f), z = split_bits(c, f);
  bool sign = x.negative != y.negative;
  uint64_t inf = (((uint64_t)1 << f.exp_bits) - 1) << f.frac_bits, sign_bit = (uint64_t)1 << (f.exp_bits + f.frac_bits);
  if (x.cls == 2 || y.cls == 2 || z.cls == 2) return nan;
  if (x.cls == 1 || y.cls == 1) {
    if ((x.cls == 0 && x.m == 0) || (y.cls == 0 && y.m == 0)) return nan;
    return z.cls == 1 && z.negative != sign ? nan : inf | (sign ? sign_bit : 0);
  }
  if (z.cls == 1) return inf | (z.negative ? sign_bit : 0);
  fixed p = fixed_make(sign, x.m * y.m, x.e + y.e), q = fixed_make(z.negative, z.m, z.e), s = fixed_add(p, q);
  if (fixed_zero(&s)) {
    bool both = fixed_zero(&p) && fixed_zero(&q) && sign == z.negative;
    s.negative = both ? sign : round == 2;
  }
  return fixed_round(&s, f, round);
}

// --- host floating point under a rounding --------------------------------------------------------------------------------------
static inline int host_round(int r) { return r == 0 ? FE_TONEAREST : r == 1 ? FE_TOWARDZERO : r == 2 ? FE_DOWNWARD : FE_UPWARD; }
#define HOST_OP(T, name, expression)                                  \
  static __attribute__((noinline, unused)) T name(T a, T b, T c, int r) {     \
    volatile T x = a, y = b, z = c, v;                                \
    (void)y; (void)z;                                                 \
    fesetround(host_round(r));                                        \
    v = expression;                                                   \
    fesetround(FE_TONEAREST);                                         \
    return v;                                                         \
  }
HOST_OP(float, host_add32, x + y)
HOST_OP(float, host_sub32, x - y)
HOST_OP(float, host_mul32, x * y)
HOST_OP(float, host_div32, x / y)
HOST_OP(float, host_sqrt32, sqrtf(x))
HOST_OP(float, host_fma32, fmaf(x, y, z))
HOST_OP(double, host_add64, x + y)
HOST_OP(double, host_sub64, x - y)
HOST_OP(double, host_mul64, x * y)
HOST_OP(double, host_div64, x / y)
HOST_OP(double, host_sqrt64, sqrt(x))
HOST_OP(double, host_fma64, fma(x, y, z))
#endif
