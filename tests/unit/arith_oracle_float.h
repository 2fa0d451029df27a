// Oracles of the floating-point instructions on bit patterns: flushing, saturation, halves, minimum and maximum, comparisons, and
// narrow formats by search. Flags and names come from emulator/arith.h; nothing of its code is used.
#ifndef TESSERA_TESTS_ARITH_ORACLE_FLOAT_H
#define TESSERA_TESTS_ARITH_ORACLE_FLOAT_H
#include "arith_oracle.h"
#include "emulator/arith.h"

static inline bool nan32(uint32_t b) { return (b & 0x7FFFFFFF) > 0x7F800000; }
static inline uint32_t flush(uint32_t b) { return (b & 0x7F800000) == 0 ? b & 0x80000000 : b; }
static inline uint32_t saturate(uint32_t b) {
  float f = as_f32(b);
  return f > 1 ? 0x3F800000 : f > 0 ? b : 0;
}

static const small_format __attribute__((unused)) fmt_f16 = {5, 10}, fmt_bf16 = {8, 7};
static inline uint32_t half_oracle(emu_op op, bool bf, uint32_t mode, uint32_t a, uint32_t b, uint32_t c) {
  small_format f = bf ? fmt_bf16 : fmt_f16;
  uint32_t exponent = bf ? 0x7F80 : 0x7C00, one = bf ? 0x3F80 : 0x3C00;
  if (mode & EMU_FTZ) {
    if (!(a & exponent)) a &= 0x8000;
    if (!(b & exponent)) b &= 0x8000;
    if (!(c & exponent)) c &= 0x8000;
  }
  uint32_t r;
  if (op == EMU_OP_FMA) r = (uint32_t)oracle_fma(a, b, c, f, 0, 0x7FFF);
  else if (op == EMU_OP_MUL) r = (uint32_t)oracle_fma(a, b, (a ^ b) & 0x8000, f, 0, 0x7FFF);
  else if (op == EMU_OP_ADD) r = (uint32_t)oracle_fma(a, one, b, f, 0, 0x7FFF);
  else r = (uint32_t)oracle_fma(b, one | 0x8000, a, f, 0, 0x7FFF);
  bool nan = (r & 0x7FFF) > exponent;
  if ((mode & EMU_FTZ) && !(r & exponent)) r &= 0x8000;
  if ((mode & EMU_SAT)) r = nan || (r & 0x8000) ? 0 : r > one ? one : r;
  if ((mode & EMU_RELU) && !nan && (r & 0x8000)) r = 0;
  return r;
}

static inline uint64_t minmax_oracle(bool max, uint64_t a, uint64_t b, small_format f, uint64_t nan, uint32_t mode) {
  uint64_t sign = (uint64_t)1 << (f.exp_bits + f.frac_bits), mixed = (a ^ b) & sign;
  if (mode & EMU_XORSIGN_ABS) { a &= ~sign; b &= ~sign; }
  parts x = split_bits(a, f), y = split_bits(b, f);
  if (x.cls == 2 && y.cls == 2) return nan;
  if (x.cls == 2 || y.cls == 2) {
    if (mode & EMU_NAN) return nan;
    return (x.cls == 2 ? b : a) | (mode & EMU_XORSIGN_ABS ? mixed : 0);
  }
  double u = (x.negative ? -1 : 1) * (x.cls ? INFINITY : ldexp((double)x.m, x.e));
  double v = (y.negative ? -1 : 1) * (y.cls ? INFINITY : ldexp((double)y.m, y.e));
  bool less = u < v || (u == v && x.negative && !y.negative);
  uint64_t r = less == max ? b : a;
  return r | (mode & EMU_XORSIGN_ABS ? mixed : 0);
}
static inline bool compare_oracle(emu_cmp c, double x, double y) {
  bool un = isnan(x) || isnan(y);
  switch (c) {
    case EMU_EQ: return !un && x == y;
    case EMU_NE: return !un && x != y;
    case EMU_LT: return !un && x < y;
    case EMU_LE: return !un && x <= y;
    case EMU_GT: return !un && x > y;
    case EMU_GE: return !un && x >= y;
    case EMU_EQU: return un || x == y;
    case EMU_NEU: return un || x != y;
    case EMU_LTU: return un || x < y;
    case EMU_LEU: return un || x <= y;
    case EMU_GTU: return un || x > y;
    case EMU_GEU: return un || x >= y;
    case EMU_NUM: return !un;
    default: return un;
  }
}
static inline double half_value(uint32_t h, bool bf) {
  if (bf) return as_f32(h << 16);
  parts p = split_bits(h & 0xFFFF, fmt_f16);
  double v = p.cls == 2 ? NAN : p.cls ? INFINITY : ldexp((double)p.m, p.e);
  return p.negative ? -v : v;
}
static inline double small_value(uint64_t bits, small_format f) {
  parts p = split_bits(bits, f);
  double v = p.cls == 2 ? NAN : p.cls ? INFINITY : ldexp((double)p.m, p.e);
  return p.negative ? -v : v;
}
// f32 (f64) to a narrower float: the exact value through the fixed-point oracle.
static inline uint64_t narrow_oracle(uint64_t bits, small_format from, small_format to, int round, uint64_t nan) {
  parts p = split_bits(bits, from);
  uint64_t sign = p.negative ? (uint64_t)1 << (to.exp_bits + to.frac_bits) : 0;
  if (p.cls == 2) return nan;
  if (p.cls == 1) return sign | (((uint64_t)1 << to.exp_bits) - 1) << to.frac_bits;
  if (p.e < -FIX_POINT)
    return sign | (uint64_t)(p.m && ((round == 2 && p.negative) || (round == 3 && !p.negative)));  // far below
  fixed v = fixed_make(p.negative, p.m, p.e < 300 ? p.e : 300);              // above every narrow format alike
  return fixed_round(&v, to, round);
}
// --- fp8 and smaller: the nearest code found by looking at all of them ---------------------------------------------------------
typedef struct tiny {
  emu_type pair;
  unsigned bits;
  small_format f;
  int specials;
  uint32_t nan;
} tiny;  // specials: 2 IEEE, 1 NaN only
static const tiny __attribute__((unused)) tinies[] = {{EMU_E4M3X2, 8, {4, 3}, 1, 0x7F},
                                                      {EMU_E5M2X2, 8, {5, 2}, 2, 0x7F},
                                                      {EMU_E2M1X2, 4, {2, 1}, 0, 7},
                                                      {EMU_E2M3X2, 6, {2, 3}, 0, 0x1F},
                                                      {EMU_E3M2X2, 6, {3, 2}, 0, 0x1F}};
static inline double tiny_value(const tiny *t, uint32_t code) {
  int fields = t->f.exp_bits + t->f.frac_bits;
  uint32_t magnitude = code & ((1u << fields) - 1);
  if (t->specials == 1 && magnitude == 0x7F) return NAN;
  if (t->specials == 2 && magnitude > 0x7C) return NAN;
  if (t->specials == 2 && magnitude == 0x7C) return code >> fields ? -INFINITY : INFINITY;
  int field = (int)(magnitude >> t->f.frac_bits), frac = (int)(magnitude & ((1u << t->f.frac_bits) - 1)),
      bias = (1 << (t->f.exp_bits - 1)) - 1;
  double v = field ? ldexp(frac + (1 << t->f.frac_bits), field - bias - t->f.frac_bits) : ldexp(frac, 1 - bias - t->f.frac_bits);
  return code >> fields ? -v : v;
}
static inline uint32_t tiny_nearest(const tiny *t, double v) {   // .rn.satfinite
  int fields = t->f.exp_bits + t->f.frac_bits;
  if (isnan(v)) return t->nan;
  uint32_t best = 0;
  double distance = INFINITY, target = fmin(fabs(v), 1e9);   // differences stay exact
  for (uint32_t code = 0; code < 1u << fields; code++) {
    double c = tiny_value(t, code);
    if (isnan(c) || isinf(c)) continue;
    double d = fabs(c - target);
    if (d < distance || (d == distance && !(code & 1))) {
      distance = d;
      best = code;
    }
  }
  return best | (signbit(v) ? 1u << fields : 0);
}
#endif
