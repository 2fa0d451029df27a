// The multi-function unit: rcp, sqrt, rsqrt, sin, cos, lg2, ex2 .approx for f32, bit-accurate; tanh within its stated error.
//
// Each function is a table of quadratics. The 23 fraction bits of the argument split into a table index xh (top bits) and xl;
// the result is c0 +- c1*xl +- c2*sq(xl) in fixed point, plus a bias, truncated to 23 fraction bits below bit `weight` of the
// sum. sq is a squarer with the 19 lowest columns of its partial products left out. Tables: mufu_tables.inc.
#include <math.h>
#include <string.h>

#include "emulator/arith_rows.h"
#include "emulator/arith_soft.h"
#include "emulator/mufu_tables.inc"

#define NAN32 0x7FFFFFFFu
#define INF32 0x7F800000u
#define FRAC_MASK 0x7FFFFFu

static float to_float(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }
static uint32_t to_bits(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }

// v*v without the partial products of weight below 2^19. The products are v_i at weight 2i and, for i < j, v_i*v_j at i+j+1.
static uint64_t square(uint32_t v) {
  uint32_t dropped = 0;
  for (int i = 0; i < 10; i++) {
    // Row i of the products: v_i with every v_j above it, at weights i+j+1 below 19; and the diagonal.
    uint32_t pairs = i < 9 ? v << (i + 1) & 0x7FFFFu & ~((4u << (2 * i)) - 1) : 0;
    dropped += (pairs | 1u << (2 * i)) & -(v >> i & 1);
  }
  return (uint64_t)v * v - dropped;
}

// A subnormal input is scaled by 2^24; *e is the exponent of the scaled value minus that.
typedef struct mufu_arg { uint32_t frac; int exp; } mufu_arg;
static mufu_arg split(uint32_t a) {
  uint32_t frac = a & FRAC_MASK;
  int field = (int)(a >> 23 & 0xFF);
  if (field) return (mufu_arg){frac, field - 127};
  int up = __builtin_clz(frac) - 8;
  return (mufu_arg){frac << up & FRAC_MASK, -126 - up};
}

static uint32_t flush(uint32_t a) { return a & INF32 ? a : a & 0x80000000u; }
static uint32_t finish(uint32_t r, uint32_t mode) { return mode & EMU_FTZ ? flush(r) : r; }

// (1.frac) * 2^exp with the given sign, rounded to nearest even where it is subnormal.
static uint32_t scale(bool sign, uint32_t frac, int exp) {
  if (exp >= -126 && exp <= 127) return (uint32_t)sign << 31 | (uint32_t)(exp + 127) << 23 | frac;
  soft_num v = {SOFT_FINITE, sign, exp - 23, frac | 1u << 23};
  return (uint32_t)soft_pack(soft_format_of(EMU_F32), v, EMU_RN);
}

uint32_t emu_mufu_rcp(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  uint32_t sign = a & 0x80000000u, magnitude = a & ~0x80000000u;
  if (magnitude > INF32) return NAN32;
  if (magnitude == INF32) return sign;
  if (magnitude == 0) return sign | INF32;
  mufu_arg x = split(a);
  const uint32_t *c = emu_mufu_rcp_table[x.frac >> 16];
  uint64_t xl = x.frac & 0xFFFF;
  uint64_t sum = ((uint64_t)c[0] << 30) - (c[1] * xl << 17) + c[2] * (square((uint32_t)xl << 1) >> 2);
  sum += 0x67E7000000000000u >> (64 - 56 + 23);
  int e = -x.exp;
  if (!(sum >> 56)) { sum <<= 1; e--; }
  return finish(scale(sign != 0, (uint32_t)(sum >> 33) & FRAC_MASK, e), mode);
}

uint32_t emu_mufu_sqrt(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  if ((a & 0x7FFFFFFFu) > INF32) return NAN32;
  if ((a & 0x7FFFFFFFu) == 0) return a;
  if (a >> 31) return NAN32;
  if (a == INF32) return a;
  mufu_arg x = split(a);
  unsigned odd = (unsigned)x.exp & 1;
  const uint32_t *c = mufu_sqrt[(x.frac >> 17) + 64 * odd];
  uint64_t xl = x.frac & 0x1FFFF;
  uint64_t sum = ((uint64_t)c[0] << 33) + (c[1] * xl << 18) - c[2] * square((uint32_t)xl);
  sum += 0x7FFF800000000000u >> (64 - 58 + 23);
  return scale(false, (uint32_t)(sum >> 35) & FRAC_MASK, (x.exp - (int)odd) / 2);
}

uint32_t emu_mufu_rsqrt(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  if ((a & 0x7FFFFFFFu) > INF32) return NAN32;
  if ((a & 0x7FFFFFFFu) == 0) return a | INF32;
  if (a >> 31) return NAN32;
  if (a == INF32) return 0;
  mufu_arg x = split(a);
  unsigned odd = (unsigned)x.exp & 1;
  int half = (x.exp - (int)odd) / 2;
  if (!odd && x.frac == 0) return scale(false, 0, -half);
  const uint32_t *c = emu_mufu_rsqrt_table[(x.frac >> 17) + 64 * odd];
  uint64_t xl = x.frac & 0x1FFFF;
  uint64_t sum = ((uint64_t)c[0] << 31) - (c[1] * xl << 17) + c[2] * square((uint32_t)xl);
  sum += 0x7FFF800000000000u >> (64 - 57 + 23);
  sum <<= 1;
  return scale(false, (uint32_t)(sum >> 34) & FRAC_MASK, -half - 1);
}

uint32_t emu_mufu_ex2(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  if ((a & 0x7FFFFFFFu) > INF32) return NAN32;
  if ((a & 0x7FFFFFFFu) == INF32) return a >> 31 ? 0 : INF32;
  if ((a & INF32) == 0) return 0x3F800000u;
  float x = to_float(a);
  bool halved = x < -126.0f;
  if (halved) x *= 0.5f;
  if (x >= 128.0f) return INF32;
  if (x <= -200.0f) return 0;                       // halved: below 2^-400
  int n = (int)x;                                   // toward zero
  mufu_arg s = split(to_bits(x));
  // |x| - |n| as a 24-bit fixed-point fraction, truncated: of 1.frac * 2^exp keep the bits below the point.
  uint32_t sig = s.frac | 1u << 23;
  uint32_t frac = s.exp >= 0 ? sig << s.exp & FRAC_MASK : s.exp > -24 ? sig >> -s.exp : 0;
  if (x < 0 && frac != 0) { frac = ~frac & FRAC_MASK; n--; }
  else frac &= FRAC_MASK;
  const uint32_t *c = emu_mufu_ex2_table[frac >> 17];
  uint64_t xl = frac & 0x1FFFF;
  uint64_t sum = ((uint64_t)c[0] << 32) + (c[1] * xl << 19) + c[2] * square((uint32_t)xl);
  sum += 0x6FC4000000000000u >> (64 - 57 + 23);
  uint32_t r = n < -126 ? 0 : scale(false, (uint32_t)(sum >> 34) & FRAC_MASK, n);
  if (halved) r = emu_f32_mul(r, r, EMU_RN);
  return finish(r, mode);
}

uint32_t emu_mufu_lg2(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  if ((a & 0x7FFFFFFFu) > INF32) return NAN32;
  if ((a & 0x7FFFFFFFu) == 0) return 0xFF800000u;
  if (a >> 31) return NAN32;
  if (a == INF32) return INF32;
  if (a == 0x3F800000u) return 0;
  mufu_arg x = split(a);
  bool subnormal = (a & INF32) == 0;
  if (subnormal) x.exp += 24;
  const uint32_t *c = mufu_lg2[x.frac >> 17];
  uint64_t xl = x.frac & 0x1FFFF;
  uint64_t sum = ((uint64_t)c[0] << 30) + (c[1] * xl << 18) - c[2] * square((uint32_t)xl);
  sum += 0x868B000000000000u >> (64 - 56 + 23);
  int64_t value = (int64_t)(sum + ((uint64_t)(int64_t)x.exp << 56));
  bool sign = value < 0;
  uint64_t m = sign ? 0 - (uint64_t)value : (uint64_t)value;
  m &= ~(uint64_t)0xFFFFF;
  if (m == 0) return 0;
  int top = 63 - __builtin_clzll(m);
  uint32_t frac = (uint32_t)(top >= 23 ? m >> (top - 23) : m << (23 - top)) & FRAC_MASK;
  uint32_t r = (x.exp < 0 ? 0x80000000u : 0) | (uint32_t)(top - 56 + 127) << 23 | frac;
  return subnormal ? emu_f32_add(r, 0xC1C00000u, EMU_RN) : r;   // - 24
}

// Quadrant (bits 23, 24) and 23-bit fraction of |x| * 2/pi, with the limited precision of the hardware's reduction.
static uint32_t reduce(uint32_t magnitude) {
  const double half_pi = 0x1.921fb6546df20p0;
  const float two_over_pi = 0x1.45f306p-1f, quadrant_end = 0x1.921fb6p0f;
  if ((magnitude & INF32) == 0) return 0;
  double x = to_float(magnitude);
  if (x >= 0x1p33) return 0;
  int exponent = (int)(magnitude >> 23) - 127;
  double turns = x * two_over_pi;
  uint64_t k = (uint64_t)turns;
  double rest = fma(-(double)k, half_pi, x);
  rest = rest < 0 ? 0 : rest > quadrant_end ? quadrant_end : rest;
  rest *= two_over_pi;
  uint32_t frac = 0;
  if (rest != 0) {
    uint64_t bits;
    memcpy(&bits, &rest, 8);
    int e = (int)(bits >> 52) - 1023;
    uint32_t sig = ((uint32_t)(bits >> 29) & FRAC_MASK) | 1u << 23;
    frac = -e > 24 ? sig >> 24 : sig >> -e;
  }
  uint32_t packed = (uint32_t)(k & 3) << 23 | (frac & FRAC_MASK);
  if (exponent > 8) packed &= ~((1u << (exponent - 8)) - 1);
  int order = 0;
  if (turns >= 1) {
    uint64_t bits;
    memcpy(&bits, &turns, 8);
    order = (int)(bits >> 52) - 1023;
  }
  if (order > 25) order = 25;
  return packed & ~((1u << order) - 1);
}

static uint32_t sine_quadrant(uint32_t frac, bool sign) {
  frac &= FRAC_MASK;
  const uint32_t *c = mufu_sin[frac >> 17];
  uint64_t xl = frac & 0x1FFFF;
  uint64_t sum = ((uint64_t)c[0] << 31) + (c[1] * xl << 19) - c[2] * square((uint32_t)xl);
  if (sum == 0) return (uint32_t)sign << 31;
  int top = 63 - __builtin_clzll(sum);
  uint32_t field = (uint32_t)(top - 56 + 127);
  return (uint32_t)sign << 31 | field << 23 | ((uint32_t)(top >= 23 ? sum >> (top - 23) : sum << (23 - top)) & FRAC_MASK);
}

uint32_t emu_mufu_sin(uint32_t a, uint32_t mode) {
  (void)mode;                                      // subnormal inputs give zeros in both modes
  uint32_t magnitude = a & 0x7FFFFFFFu;
  if (magnitude >= INF32) return NAN32;
  uint32_t r = reduce(magnitude), quadrant = r >> 23;
  return sine_quadrant(quadrant & 1 ? ~r : r, (a >> 31) ^ (quadrant >> 1 & 1));
}

uint32_t emu_mufu_cos(uint32_t a, uint32_t mode) {
  (void)mode;
  uint32_t magnitude = a & 0x7FFFFFFFu;
  if (magnitude >= INF32) return NAN32;
  uint32_t r = reduce(magnitude), quadrant = r >> 23;
  return sine_quadrant(quadrant & 1 ? r : ~r, (quadrant + 1) >> 1 & 1);
}

// PTX promises a relative error of 2^-11; the correctly rounded double function is far inside. Subnormals pass unchanged.
uint32_t emu_mufu_tanh(uint32_t a, uint32_t mode) {
  if (mode & EMU_FTZ) a = flush(a);
  if ((a & 0x7FFFFFFFu) > INF32) return NAN32;
  return to_bits((float)tanh(to_float(a)));
}
