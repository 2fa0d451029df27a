// Conversions and the MUFU functions: exhaustive where the source has 16 bits or fewer, edge values and random bits elsewhere.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "arith_golden.h"
#include "arith_oracle_float.h"
#include "emulator/arith_rows.h"

static uint64_t state = 0x452821E638D01377u;
static uint64_t rnd64(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t convert(emu_type to, emu_type from, uint32_t mode, uint64_t a, uint64_t b) {
  bool ok;
  uint64_t s[4] = {a, b, 0, 0}, r = emu_scalar(EMU_OP_CVT, to, from, mode, s, &ok);
  ck_assert_msg(ok, "no cvt.%s.%s mode %x", emu_type_name(to), emu_type_name(from), mode);
  return r;
}

// A row of 32 conversions at once, in words.
static void convert_words(emu_type to, emu_type from, uint32_t mode, uint32_t *d, const uint32_t *a, const uint32_t *b) {
  emu_row_fn *fn = emu_row(EMU_OP_CVT, to, from, mode);
  ck_assert_ptr_nonnull(fn);
  fn(d, (const void *const[4]){a, b, NULL, NULL}, mode);
}

static const small_format f16 = {5, 10}, bf16 = {8, 7}, f32 = {8, 23};

START_TEST(halves_to_floats) {
  for (uint32_t h = 0; h < 0x10000; h += 32) {
    uint32_t s[32], d[32];
    uint64_t w[32];
    for (uint32_t i = 0; i < 32; i++) s[i] = (h + i) | 0xABCD0000u;      // bits above the width must not matter
    for (int bf = 0; bf < 2; bf++) {
      emu_type t = bf ? EMU_BF16 : EMU_F16;
      convert_words(EMU_F32, t, 0, d, s, NULL);
      emu_row(EMU_OP_CVT, EMU_F64, t, 0)(w, (const void *const[4]){s}, 0);
      for (uint32_t i = 0; i < 32; i++) {
        double v = small_value((h + i) & 0xFFFF, bf ? bf16 : f16);
        ck_assert_uint_eq(d[i], isnan(v) ? 0x7FFFFFFF : f32_as((float)v));
        if (isnan(v)) ck_assert(isnan(as_f64(w[i])));
        else ck_assert_uint_eq(w[i], f64_as(v));
      }
    }
  }
}
END_TEST

static uint32_t source32(void) {
  uint64_t r = rnd64();
  uint32_t b = (uint32_t)(r >> 32);
  if (r & 1) b = (b & 0x800FFFFF) | (uint32_t)(100 + (r >> 8) % 50) << 23;   // the range of f16 and fp8
  if (r & 2) b &= 0xFFFFF000;                                                // ties
  if (r & 4) b |= 0x00001000;
  if ((r & 0xF0) == 0)
    b = (b & 0x80000000) | (uint32_t[]){0,          1,          0x7F800000, 0x7F800001, 0x7FFFFFFF, 0x477FE000, 0x477FF000,
                                        0x7F7FFFFF, 0x00800000, 0x33000000, 0x33000001, 0x387FC000, 0x38800000}[(r >> 8) % 13];
  return b;
}
START_TEST(floats_to_halves) {
  for (int n = 0; n < 1200; n++) {
    uint32_t a[32], b[32], d[32];
    for (int i = 0; i < 32; i++) {
      a[i] = source32();
      b[i] = source32();
    }
    int round = n % 2;
    for (int bf = 0; bf < 2; bf++) {
      small_format f = bf ? bf16 : f16;
      emu_type one = bf ? EMU_BF16 : EMU_F16, two = bf ? EMU_BF16X2 : EMU_F16X2;
      convert_words(one, EMU_F32, (uint32_t)round, d, a, NULL);
      for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], narrow_oracle(a[i], f32, f, round, 0x7FFF));
      uint32_t mode = (uint32_t)round | (n & 2 ? EMU_RELU : 0) | (n & 4 ? EMU_SATFINITE : 0);
      convert_words(two, EMU_F32, mode, d, a, b);
      for (int i = 0; i < 32; i++)
        for (int k = 0; k < 2; k++) {
          uint32_t source = k ? a[i] : b[i], want = (uint32_t)narrow_oracle(source, f32, f, round, 0x7FFF);
          uint32_t inf = bf ? 0x7F80 : 0x7C00;
          bool nan = (source & 0x7FFFFFFF) > 0x7F800000;
          if ((mode & EMU_SATFINITE) && (want & 0x7FFF) == inf) want -= 1;
          if ((mode & EMU_RELU) && !nan && (want & 0x8000)) want = 0;
          ck_assert_uint_eq(d[i] >> (16 * k) & 0xFFFF, want);
        }
    }
    for (int r = 0; r < 3; r++) {
      int rounding = r == 2 ? 4 : r;
      convert_words(EMU_TF32, EMU_F32, (uint32_t)rounding, d, a, NULL);
      for (int i = 0; i < 32; i++) {
        uint32_t want = (uint32_t)narrow_oracle(a[i], f32, (small_format){8, 10}, rounding, 0x3FFFF) << 13;
        if (((a[i] & 0x7FFFFFFF) > 0x7F800000)) want = 0x7FFFFFFF;
        ck_assert_uint_eq(d[i], want);
      }
    }
  }
}
END_TEST

START_TEST(double_conversions) {
  for (int n = 0; n < 6000; n++) {
    uint64_t w = rnd64();
    if (n & 1) w = (w & 0x800FFFFFFFFFFFFF) | (uint64_t)(0x3FF - 160 + rnd64() % 300) << 52;
    if (n & 2) w &= 0xFFFFFFFFE0000000;
    if (n & 4) w |= 0x10000000;
    for (uint32_t round = 0; round < 4; round++) {
      fesetround(host_round((int)round));
      volatile double x = as_f64(w);
      volatile float y = (float)x;
      fesetround(FE_TONEAREST);
      uint32_t want = isnan(y) ? 0x7FFFFFFF : f32_as(y);
      ck_assert_uint_eq(convert(EMU_F32, EMU_F64, round, w, 0), want);
    }
    ck_assert_uint_eq(convert(EMU_F16, EMU_F64, 0, w, 0), narrow_oracle(w, (small_format){11, 52}, f16, 0, 0x7FFF));
    uint32_t s = (uint32_t)(w >> 20);
    if (!isnan(as_f32(s))) ck_assert_uint_eq(convert(EMU_F64, EMU_F32, 0, s, 0), f64_as(as_f32(s)));
  }
}
END_TEST

START_TEST(tiny_formats) {
  for (size_t k = 0; k < COUNT(tinies); k++) {
    const tiny *t = &tinies[k];
    unsigned shift = t->bits == 4 ? 4 : 8;
    for (uint32_t h = 0; h < 0x10000; h++) {                       // every f16 into the format, in both halves
      uint32_t other = h * 40503u & 0xFFFF;
      uint32_t got = (uint32_t)convert(t->pair, EMU_F16X2, EMU_SATFINITE, h | other << 16, 0);
      uint32_t low = tiny_nearest(t, small_value(h, f16)), high = tiny_nearest(t, small_value(other, f16));
      ck_assert_msg(got == (low | high << shift), "%s from f16 %04x %04x: %x, expected %x", emu_type_name(t->pair), h, other, got,
                    low | high << shift);
    }
    for (uint32_t code = 0; code < 1u << t->bits; code++) {        // every code out of it
      uint32_t got = (uint32_t)convert(EMU_F16X2, t->pair, 0, code | code << shift, 0);
      double v = tiny_value(t, code);
      parts p = split_bits(got & 0xFFFF, f16);
      ck_assert_uint_eq(got >> 16, got & 0xFFFF);
      if (isnan(v)) ck_assert_uint_eq(got & 0xFFFF, 0x7FFF);
      else ck_assert(small_value(got & 0xFFFF, f16) == v && p.negative == !!signbit(v));
    }
    for (int n = 0; n < 3000; n++) {                               // f32 sources: the first into the upper half; relu
      uint32_t a = source32(), b = source32();
      uint32_t got = (uint32_t)convert(t->pair, EMU_F32, EMU_SATFINITE, a, b);
      uint32_t want = tiny_nearest(t, as_f32(b)) | tiny_nearest(t, as_f32(a)) << shift;
      ck_assert_msg(got == want, "%s from f32 %08x %08x: %x, expected %x", emu_type_name(t->pair), a, b, got, want);
      double ra = as_f32(a), rb = as_f32(b);
      got = (uint32_t)convert(t->pair, EMU_F32, EMU_SATFINITE | EMU_RELU, a, b);
      ck_assert_uint_eq(got, tiny_nearest(t, isnan(rb) ? rb
                                             : rb > 0  ? rb
                                                       : 0) |
                                 tiny_nearest(t, isnan(ra) ? ra
                                                 : ra > 0  ? ra
                                                           : 0)
                                     << shift);
    }
  }
}
END_TEST

START_TEST(scale_exponents) {   // ue8m0
  for (int n = 0; n < 20000; n++) {
    uint32_t a = (uint32_t)rnd64();
    if (n & 1) a &= 0xFF800000;
    if (n % 7 == 0) a &= 0x807FFFFF;
    double v = fabs(as_f32(a));
    for (int up = 0; up < 2; up++) {
      uint32_t got = (uint32_t)convert(EMU_UE8M0X2, EMU_F32, EMU_SATFINITE | (up ? EMU_RP : EMU_RZ), 0, a) & 0xFF, want;
      if (isnan(v)) want = 0xFF;
      else {
        int e = -127;
        while (e < 127 && (up ? ldexp(1, e) < v : ldexp(1, e + 1) <= v)) e++;
        want = (uint32_t)(e + 127);
      }
      ck_assert_msg(got == want, "ue8m0 of %08x (%d): %x, expected %x", a, up, got, want);
    }
  }
  for (uint32_t code = 0; code < 256; code++) {
    uint32_t got = (uint32_t)convert(EMU_BF16X2, EMU_UE8M0X2, 0, code, 0) & 0xFFFF;
    if (code == 255) ck_assert_uint_eq(got, 0x7FFF);
    else ck_assert_double_eq(as_f32(got << 16), ldexp(1, (int)code - 127));
  }
}
END_TEST

// --- integers ------------------------------------------------------------------------------------------------------------------
static const struct {
  emu_type t;
  unsigned bits;
  bool is_signed;
} ints[] = {{EMU_U8, 8, 0},   {EMU_S8, 8, 1},   {EMU_U16, 16, 0}, {EMU_S16, 16, 1},
            {EMU_U32, 32, 0}, {EMU_S32, 32, 1}, {EMU_U64, 64, 0}, {EMU_S64, 64, 1}};
static __int128 int_value(uint64_t v, size_t k) {
  unsigned b = ints[k].bits;
  __int128 x = b == 64 ? (__int128)v : (__int128)(v & (((uint64_t)1 << b) - 1));
  return ints[k].is_signed && (v >> (b - 1) & 1) ? x - ((__int128)1 << b) : x;
}
static uint64_t int_bits(__int128 v, size_t k) {   // as emu_row returns it
  unsigned b = ints[k].bits;
  uint64_t m = (uint64_t)v & (b == 64 ? UINT64_MAX : ((uint64_t)1 << b) - 1);
  if (ints[k].is_signed && b < 32) m = (uint32_t)(int32_t)int_value(m, k);
  return m;
}
static __int128 clamp(__int128 v, size_t k) {
  __int128 high = ((__int128)1 << (ints[k].bits - ints[k].is_signed)) - 1, low = ints[k].is_signed ? -high - 1 : 0;
  return v > high ? high : v < low ? low : v;
}
static uint64_t random_int(void) {
  uint64_t v = rnd64(), r = rnd64();
  v >>= r & 63;
  return r & 64 ? 0 - v : v;
}

START_TEST(int_to_int) {
  for (size_t to = 0; to < 8; to++)
    for (size_t from = 0; from < 8; from++)
      for (int n = 0; n < 500; n++) {
        uint64_t v = random_int();
        ck_assert_uint_eq(convert(ints[to].t, ints[from].t, 0, v, 0), int_bits(int_value(v, from), to));
        ck_assert_uint_eq(convert(ints[to].t, ints[from].t, EMU_SAT, v, 0), int_bits(clamp(int_value(v, from), to), to));
      }
}
END_TEST

static const emu_type floats[] = {EMU_F16, EMU_BF16, EMU_F32, EMU_F64};
static small_format format_of(size_t k) { return (small_format[]){{5, 10}, {8, 7}, {8, 23}, {11, 52}}[k]; }

START_TEST(int_to_float) {
  for (size_t to = 0; to < 4; to++)
    for (size_t from = 0; from < 8; from++)
      for (int n = 0; n < 400; n++) {
        uint64_t v = random_int();
        __int128 x = int_value(v, from);
        fixed exact = fixed_make(x < 0, (uint64_t)(x < 0 ? -x : x), 0);
        for (uint32_t round = 0; round < 4; round++)
          ck_assert_uint_eq(convert(floats[to], ints[from].t, round, v, 0), fixed_round(&exact, format_of(to), (int)round));
      }
}
END_TEST

// Rounds to an integral value with the host's functions on long double, which hold every source exactly.
static long double integral(long double v, uint32_t round) {
  if (round == 1) return truncl(v);
  if (round == 2) return floorl(v);
  if (round == 3) return ceill(v);
  return rintl(v);
}
static uint64_t float_source(size_t k) {
  if (k < 2) return rnd64() & 0xFFFF;
  uint64_t r = rnd64(), w = rnd64();
  if (k == 2) return r & 1 ? (w & 0x807FFFFF) | (120 + (r >> 8) % 70) << 23 : w & 0xFFFFFFFF;
  return r & 1 ? (w & 0x800FFFFFFFFFFFFF) | (0x3FF - 4 + (r >> 8) % 70) << 52 : w;
}
static long double float_value(uint64_t v, size_t k) {
  return k == 2 ? as_f32((uint32_t)v) : k == 3 ? as_f64(v) : small_value(v, format_of(k));
}

// 32 conversions in one row; results widened to 64 bits.
static void convert_row(emu_type to, emu_type from, uint32_t mode, uint64_t *d, const uint64_t *a) {
  emu_row_fn *fn = emu_row(EMU_OP_CVT, to, from, mode);
  ck_assert_ptr_nonnull(fn);
  uint32_t narrow[32], out[32];
  for (int i = 0; i < 32; i++) narrow[i] = (uint32_t)a[i];
  bool wide = emu_type_bits(to) == 64;
  const void *source = emu_type_bits(from) == 64 ? (const void *)a : narrow;
  fn(wide ? (void *)d : out, (const void *const[4]){source}, mode);
  if (!wide)
    for (int i = 0; i < 32; i++) d[i] = out[i];
}

START_TEST(float_to_int) {
  for (size_t from = 0; from < 4; from++)
    for (size_t to = 0; to < 8; to++)
      for (uint32_t round = 0; round < 4; round++)
        for (uint32_t n = 0; n < (from < 2 ? 0x10000 : 3200); n += 32) {
          uint64_t v[32], d[32];
          for (uint32_t i = 0; i < 32; i++) v[i] = from < 2 ? n + i : float_source(from);
          convert_row(ints[to].t, floats[from], EMU_INT | round, d, v);
          for (uint32_t i = 0; i < 32; i++) {
            long double x = integral(float_value(v[i], from), round);
            long double limit = ldexpl(1, (int)ints[to].bits - ints[to].is_signed);
            __int128 want = isnan(x)     ? 0
                            : x >= limit ? clamp((__int128)1 << 100, to)
                            : x < -limit ? clamp(-((__int128)1 << 100), to)
                                         : clamp((__int128)x, to);
            ck_assert_msg(d[i] == int_bits(want, to), "cvt.%u.%s.%s of %llx: %llx", round, emu_type_name(ints[to].t),
                          emu_type_name(floats[from]), (unsigned long long)v[i], (unsigned long long)d[i]);
          }
        }
}
END_TEST

START_TEST(float_to_integral_float) {
  for (size_t k = 0; k < 4; k++)
    for (uint32_t round = 0; round < 4; round++)
      for (uint32_t n = 0; n < (k < 2 ? 0x10000 : 6400); n += 32) {
        uint64_t v[32], d[32];
        for (uint32_t i = 0; i < 32; i++) v[i] = k < 2 ? n + i : float_source(k);
        convert_row(floats[k], floats[k], EMU_INT | round, d, v);
        for (uint32_t i = 0; i < 32; i++) {
          long double x = float_value(v[i], k), want = integral(x, round), got = float_value(d[i], k);
          if (isnan(x)) ck_assert(isnan(got));
          else ck_assert(got == want && !!signbit(got) == !!signbit(x));
        }
      }
}
END_TEST

START_TEST(saturating_floats) {
  for (int n = 0; n < 5000; n++) {
    uint32_t a = source32();
    float x = as_f32(a);
    ck_assert_uint_eq(convert(EMU_F32, EMU_F32, EMU_SAT, a, 0), isnan(x) ? 0 : x <= 0 ? 0 : x > 1 ? 0x3F800000 : a);
    uint32_t flushed = (a & 0x7F800000) ? a : a & 0x80000000;
    if (!isnan(x)) ck_assert_uint_eq(convert(EMU_F32, EMU_F32, EMU_FTZ, a, 0), flushed);
    if (!isnan(x)) ck_assert_uint_eq(convert(EMU_F64, EMU_F32, EMU_FTZ, a, 0), f64_as(as_f32(flushed)));
  }
}
END_TEST

// --- MUFU ----------------------------------------------------------------------------------------------------------------------
typedef uint32_t mufu_fn(uint32_t, uint32_t);
static const struct { const char *name; mufu_fn *fn; emu_op op;
} mufus[] = {{"rcp", emu_mufu_rcp, EMU_OP_RCP}, {"sqrt", emu_mufu_sqrt, EMU_OP_SQRT}, {"rsqrt", emu_mufu_rsqrt, EMU_OP_RSQRT},
             {"sin", emu_mufu_sin, EMU_OP_SIN}, {"cos", emu_mufu_cos, EMU_OP_COS},    {"lg2", emu_mufu_lg2, EMU_OP_LG2},
             {"ex2", emu_mufu_ex2, EMU_OP_EX2}};
START_TEST(mufu_golden) {
  golden g = golden_open("mufu_approx_f32_golden.safetensors");
  if (!g.bytes) return;
  for (size_t k = 0; k < COUNT(mufus); k++) {
    char key[64];
    snprintf(key, sizeof key, "%s.in_bits", mufus[k].name);
    const uint32_t *in = golden_find(&g, key);
    snprintf(key, sizeof key, "%s.out_bits", mufus[k].name);
    const uint32_t *out = golden_find(&g, key);
    ck_assert_ptr_nonnull(in);
    for (int i = 0; i < 8208; i++)
      ck_assert_msg(mufus[k].fn(in[i], 0) == out[i], "%s of %08x: %08x, expected %08x", mufus[k].name, in[i],
                    mufus[k].fn(in[i], 0), out[i]);
    for (int i = 0; i + 32 <= 8208; i += 32)      // the rows, plain and flushing
      for (uint32_t ftz = 0; ftz <= EMU_FTZ; ftz += EMU_FTZ) {
        uint32_t d[32], s[32];
        memcpy(s, in + i, sizeof s);
        uint32_t mode = EMU_APPROX | ftz;
        emu_row(mufus[k].op, EMU_F32, EMU_NOTYPE, mode)(d, (const void *const[4]){s}, mode);
        for (int j = 0; j < 32; j++) {
          uint32_t want = ftz ? flush(mufus[k].fn(flush(s[j]), 0)) : out[i + j];
          ck_assert_msg(d[j] == want, "%s row (ftz %u) of %08x: %08x, expected %08x", mufus[k].name, ftz, s[j], d[j], want);
        }
      }
  }
  free(g.bytes);
}
END_TEST

// A sample of the golden values, so that something is checked without them.
START_TEST(mufu_sample) {
  static const struct { uint8_t fn; uint32_t in, out; } sample[] = {
#include "arith_mufu_sample.inc"
  };
  for (size_t i = 0; i < COUNT(sample); i++) ck_assert_uint_eq(mufus[sample[i].fn].fn(sample[i].in, 0), sample[i].out);
}
END_TEST

START_TEST(documented_errors) {
  for (int n = 0; n < 20000; n++) {
    uint32_t a = source32();
    double x = as_f32(a);
    if (isnan(x)) continue;
    double t = as_f32(emu_mufu_tanh(a, 0));
    ck_assert(fabs(t - tanh(x)) <= fabs(tanh(x)) * 0x1p-11);
    uint32_t h = a >> 16 & 0xFFFF;
    bool ok;
    uint64_t s[4] = {h};
    double hx = small_value(h, f16), bx = small_value(h, bf16);
    uint32_t r = (uint32_t)emu_scalar(EMU_OP_TANH, EMU_F16, EMU_NOTYPE, EMU_APPROX, s, &ok);
    if (!isnan(hx)) ck_assert(ok && fabs(small_value(r, f16) - tanh(hx)) <= 0x1p-10 );
    r = (uint32_t)emu_scalar(EMU_OP_TANH, EMU_BF16, EMU_NOTYPE, EMU_APPROX, s, &ok);
    if (!isnan(bx)) ck_assert(ok && fabs(small_value(r, bf16) - tanh(bx)) <= 0x1p-8);
    r = (uint32_t)emu_scalar(EMU_OP_EX2, EMU_F16, EMU_NOTYPE, EMU_APPROX, s, &ok);
    if (!isnan(hx) && fabs(hx) < 14) ck_assert(ok && fabs(small_value(r, f16) / exp2(hx) - 1) <= 0x1p-9);
    r = (uint32_t)emu_scalar(EMU_OP_EX2, EMU_BF16, EMU_NOTYPE, EMU_APPROX | EMU_FTZ, s, &ok);
    if (!isnan(bx) && fabs(bx) < 120) ck_assert(ok && fabs(small_value(r, bf16) / exp2(bx) - 1) <= 0x1p-7);
    // Division: 2 ulp where |b| is within 2^+-126; the quotient must be normal.
    uint32_t b = source32();
    double y = as_f32(b), q = x / y;
    if (!(fabs(q) < 0x1p126 && fabs(q) > 0x1p-124 && fabs(y) > 0x1p-126 && fabs(x) > 0x1p-126 && fabs(y) < 0x1p127)) continue;
    uint64_t xy[4] = {a, b};
    float full = as_f32((uint32_t)emu_scalar(EMU_OP_DIV, EMU_F32, EMU_NOTYPE, EMU_FULL, xy, &ok));
    double ulp = ldexp(1, ilogb(q) - 23);
    ck_assert(ok && fabs(full - q) <= 2 * ulp);
    float approx = as_f32((uint32_t)emu_scalar(EMU_OP_DIV, EMU_F32, EMU_NOTYPE, EMU_APPROX, xy, &ok));
    if (fabs(y) <= 0x1p126) ck_assert(ok && fabs(approx - q) <= 2 * ulp);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("arith_cvt");
  TCase *t = tcase_create("cvt");
  tcase_add_test(t, halves_to_floats);
  tcase_add_test(t, floats_to_halves);
  tcase_add_test(t, double_conversions);
  tcase_add_test(t, tiny_formats);
  tcase_add_test(t, scale_exponents);
  tcase_add_test(t, int_to_int);
  tcase_add_test(t, int_to_float);
  tcase_add_test(t, float_to_int);
  tcase_add_test(t, float_to_integral_float);
  tcase_add_test(t, saturating_floats);
  tcase_add_test(t, mufu_golden);
  tcase_add_test(t, mufu_sample);
  tcase_add_test(t, documented_errors);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
