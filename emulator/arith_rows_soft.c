// Row operations computed lane by lane: the exact routines of arith_soft.c where no vector version exists (directed roundings of
// f64 and of f32 division, three-input minimum, mixed precision), the MUFU functions, and approximate division.
#include <math.h>
#include <string.h>

#include "emulator/arith_rows.h"
#include "emulator/arith_soft.h"

#define F32 soft_format_of(EMU_F32)
#define F64 soft_format_of(EMU_F64)

#define LANES(name, T, expression)                                                             \
  static void name(void *d, const void *const s[4], uint32_t m) {                              \
    const T *a = s[0], *b = s[1] ? s[1] : s[0], *c = s[2] ? s[2] : s[0];                       \
    T *r = d;                                                                                  \
    (void)b; (void)c; (void)m;                                                                      \
    for (int i = 0; i < EMU_LANES; i++) {                                                      \
      T x = a[i], y = b[i], z = c[i];                                                          \
      (void)y; (void)z;                                                                        \
      r[i] = (T)(expression);                                                                  \
    }                                                                                          \
  }
#define ONE32 0x3F800000u
#define ONE64 0x3FF0000000000000u
LANES(f32_div, uint32_t, soft_op2(F32, EMU_OP_DIV, x, y, m))
LANES(f32_rcp, uint32_t, soft_op2(F32, EMU_OP_DIV, ONE32, x, m))
LANES(f32_sqrt, uint32_t, soft_op_sqrt(F32, x, m))
LANES(f32_min3, uint32_t, soft_op_minmax3(F32, EMU_OP_MIN, x, y, z, m))
LANES(f32_max3, uint32_t, soft_op_minmax3(F32, EMU_OP_MAX, x, y, z, m))
LANES(f64_add, uint64_t, soft_op2(F64, EMU_OP_ADD, x, y, m))
LANES(f64_sub, uint64_t, soft_op2(F64, EMU_OP_SUB, x, y, m))
LANES(f64_mul, uint64_t, soft_op2(F64, EMU_OP_MUL, x, y, m))
LANES(f64_div, uint64_t, soft_op2(F64, EMU_OP_DIV, x, y, m))
LANES(f64_rcp, uint64_t, soft_op2(F64, EMU_OP_DIV, ONE64, x, m))
LANES(f64_sqrt, uint64_t, soft_op_sqrt(F64, x, m))
LANES(f64_fma, uint64_t, soft_op_fma(F64, x, y, z, m))

// Mixed precision: the narrow sources widen exactly, the operation is f32's. add, sub: narrow a, f32 b; fma: narrow a, b, f32 c.
#define WIDEN(T, v) emu_half_to_f32(EMU_##T, (uint16_t)(v))
#define MIXED(T, n)                                                                            \
  LANES(add_f32_##n, uint32_t, soft_op2(F32, EMU_OP_ADD, WIDEN(T, x), y, m))                   \
  LANES(sub_f32_##n, uint32_t, soft_op2(F32, EMU_OP_SUB, WIDEN(T, x), y, m))                   \
  LANES(fma_f32_##n, uint32_t, soft_op_fma(F32, WIDEN(T, x), WIDEN(T, y), z, m))
MIXED(F16, f16)
MIXED(BF16, bf16)

LANES(mufu_sqrt, uint32_t, emu_mufu_sqrt(x, m))
LANES(mufu_sin, uint32_t, emu_mufu_sin(x, m))
LANES(mufu_cos, uint32_t, emu_mufu_cos(x, m))
LANES(mufu_lg2, uint32_t, emu_mufu_lg2(x, m))
LANES(mufu_tanh, uint32_t, emu_mufu_tanh(x, m))

// ex2 and tanh of halves: the f32 function rounded to the half.
static uint32_t through_f32(emu_type t, uint32_t (*f)(uint32_t, uint32_t), uint32_t h, uint32_t m) {
  bool ftz = m & EMU_FTZ;
  uint32_t exponent = t == EMU_F16 ? 0x7C00 : 0x7F80;
  if (ftz && (h & exponent) == 0) h &= 0x8000;
  uint32_t r = emu_f32_to_half(t, f(emu_half_to_f32(t, (uint16_t)h), 0), EMU_RN);
  return ftz && (r & exponent) == 0 ? r & 0x8000 : r;
}
#define HALVES(name, T, fn)                                                                    \
  LANES(name, uint32_t, through_f32(EMU_##T, fn, x & 0xFFFF, m))                               \
  LANES(name##_x2, uint32_t, through_f32(EMU_##T, fn, x & 0xFFFF, m) | through_f32(EMU_##T, fn, x >> 16, m) << 16)
HALVES(ex2_f16, F16, emu_mufu_ex2)
HALVES(ex2_bf16, BF16, emu_mufu_ex2)
HALVES(tanh_f16, F16, emu_mufu_tanh)
HALVES(tanh_bf16, BF16, emu_mufu_tanh)

// div.approx: a * (1/b) with the MUFU's reciprocal; for |b| above 2^126 the reciprocal is 0. div.full scales both sources by
// 1/4 there, so that it keeps its error bound, and by 2^24 where b is subnormal.
uint32_t emu_div_approx(uint32_t a, uint32_t b, uint32_t m) {
  uint32_t magnitude = b & 0x7FFFFFFFu, ftz = m & EMU_FTZ, full = m & EMU_FULL;
  uint32_t scale = 0;
  if (magnitude > 0x7E800000u && magnitude < 0x7F800000u && full) scale = 0x3E800000u;
  else if (magnitude < 0x00800000u && !ftz) scale = 0x4B800000u;
  if (scale) {
    a = emu_f32_mul(a, scale, ftz);
    b = emu_f32_mul(b, scale, ftz);
  }
  return emu_f32_mul(a, emu_mufu_rcp(b, EMU_FTZ), ftz);
}

// rcp and rsqrt .approx.ftz.f64 work on the upper 32 bits alone and return a result whose lower 32 bits are zero. rsqrt.approx
// without .ftz is a library-quality result.
static double to_double(uint64_t b) { double v; memcpy(&v, &b, 8); return v; }
static uint64_t from_double(double v) { uint64_t b; memcpy(&b, &v, 8); return b; }
static uint64_t upper_word(double v) {
  uint64_t b = from_double(v);
  if (v != v) return 0x7FFFFFFF00000000u;
  if ((b >> 52 & 0x7FF) == 0) return b & 0x8000000000000000u;
  return (b + 0x7FFFFFFFu + (b >> 32 & 1)) & 0xFFFFFFFF00000000u;
}
static double cut(uint64_t b) {
  b &= 0xFFFFFFFF00000000u;
  return to_double((b >> 52 & 0x7FF) == 0 ? b & 0x8000000000000000u : b);
}
LANES(rcp_approx_f64, uint64_t, upper_word(1.0 / cut(x)))
LANES(rsqrt_approx_f64, uint64_t, upper_word(1.0 / sqrt(cut(x))))
static uint64_t rsqrt_f64(uint64_t b) {
  double r = 1.0 / sqrt(to_double(b));
  return r != r ? soft_op_sqrt(F64, b, 0) : from_double(r);
}
LANES(rsqrt_full_f64, uint64_t, rsqrt_f64(x))

#define E(op, type, from, required, allowed, fn) {EMU_OP_##op, EMU_##type, EMU_##from, required, allowed, fn}
#define ROUNDED (EMU_ROUND_MASK | EMU_FTZ | EMU_SAT)
#define MUFU(op, fn) E(op, F32, NOTYPE, EMU_APPROX, EMU_FTZ, mufu_##fn)
#define EHALVES(op, fn)                                                                        \
  E(op, F16, NOTYPE, EMU_APPROX, EMU_FTZ, fn##_f16), E(op, F16X2, NOTYPE, EMU_APPROX, EMU_FTZ, fn##_f16_x2),  \
      E(op, BF16, NOTYPE, EMU_APPROX, EMU_FTZ, fn##_bf16), E(op, BF16X2, NOTYPE, EMU_APPROX, EMU_FTZ, fn##_bf16_x2)
static const emu_row_entry entries[] = {
    E(DIV, F32, NOTYPE, 0, ROUNDED, f32_div),
    E(RCP, F32, NOTYPE, 0, ROUNDED, f32_rcp),
    E(SQRT, F32, NOTYPE, 0, ROUNDED, f32_sqrt),
    E(MIN, F32, NOTYPE, EMU_THREE, EMU_FTZ | EMU_NAN | EMU_ABS, f32_min3),
    E(MAX, F32, NOTYPE, EMU_THREE, EMU_FTZ | EMU_NAN | EMU_ABS, f32_max3),
    E(ADD, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_add),
    E(SUB, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_sub),
    E(MUL, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_mul),
    E(DIV, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_div),
    E(RCP, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_rcp),
    E(SQRT, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_sqrt),
    E(FMA, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_fma),
    E(MAD, F64, NOTYPE, 0, EMU_ROUND_MASK, f64_fma),
    E(ADD, F32, F16, 0, ROUNDED, add_f32_f16),
    E(SUB, F32, F16, 0, ROUNDED, sub_f32_f16),
    E(FMA, F32, F16, 0, ROUNDED, fma_f32_f16),
    E(ADD, F32, BF16, 0, ROUNDED, add_f32_bf16),
    E(SUB, F32, BF16, 0, ROUNDED, sub_f32_bf16),
    E(FMA, F32, BF16, 0, ROUNDED, fma_f32_bf16),
    MUFU(SQRT, sqrt),
    MUFU(SIN, sin),
    MUFU(COS, cos),
    MUFU(LG2, lg2),
    MUFU(TANH, tanh),
    EHALVES(EX2, ex2),
    EHALVES(TANH, tanh),
    E(RCP, F64, NOTYPE, EMU_APPROX | EMU_FTZ, 0, rcp_approx_f64),
    E(RSQRT, F64, NOTYPE, EMU_APPROX | EMU_FTZ, 0, rsqrt_approx_f64),
    E(RSQRT, F64, NOTYPE, EMU_APPROX, 0, rsqrt_full_f64),
};
const emu_row_table emu_rows_soft = {entries, sizeof entries / sizeof *entries};
