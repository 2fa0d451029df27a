// Conversions: every pair of scalar types, and the packed formats, lane by lane over arith_soft.c. The frequent ones have vector
// versions in arith_rows.inc, found first.
#include "emulator/arith_rows.h"
#include "emulator/arith_soft.h"

static uint64_t low_bits(uint64_t v, unsigned bits) { return bits == 64 ? v : v & (((uint64_t)1 << bits) - 1); }
static uint64_t sign_extend(uint64_t v, unsigned bits) { return (uint64_t)((int64_t)(v << (64 - bits)) >> (64 - bits)); }

// Integer to integer: the source extended by its own type, then cut or (sat) clamped to the target's range.
static uint64_t int_to_int(emu_type to, emu_type from, uint64_t v, uint32_t mode) {
  unsigned bits = emu_type_bits(to);
  bool to_signed = emu_type_is_signed(to), from_signed = emu_type_is_signed(from);
  if (!(mode & EMU_SAT)) return v;
  uint64_t top = (uint64_t)1 << (bits - 1), highest = to_signed ? top - 1 : top - 1 + top;
  bool negative = from_signed && (int64_t)v < 0;
  if (!negative) return v > highest ? highest : v;
  if (!to_signed) return 0;
  int64_t lowest = -(int64_t)(top - 1) - 1;
  return (int64_t)v < lowest ? (uint64_t)lowest : v;
}

uint64_t emu_cvt_element(emu_type to, emu_type from, uint64_t bits, uint32_t mode) {
  const soft_format *target = soft_format_of(to), *source = soft_format_of(from);
  unsigned from_bits = emu_type_bits(from), to_bits = emu_type_bits(to);
  uint64_t v = low_bits(bits, from_bits);
  if (!source && emu_type_is_signed(from)) v = sign_extend(v, from_bits);
  if (target) return source ? soft_convert(target, source, v, mode) : soft_from_int(target, emu_type_is_signed(from), v, mode);
  v = source ? soft_to_int(source, to_bits, emu_type_is_signed(to), v, mode) : int_to_int(to, from, v, mode);
  v = low_bits(v, to_bits);
  return to_bits < 32 && emu_type_is_signed(to) ? low_bits(sign_extend(v, to_bits), 32) : v;
}

static void convert_row(emu_type to, emu_type from, void *d, const void *const s[4], uint32_t m) {
  bool wide_to = emu_type_bits(to) == 64, wide_from = emu_type_bits(from) == 64;
  for (int i = 0; i < EMU_LANES; i++) {
    uint64_t v = wide_from ? ((const uint64_t *)s[0])[i] : ((const uint32_t *)s[0])[i];
    v = emu_cvt_element(to, from, v, m);
    if (wide_to) ((uint64_t *)d)[i] = v;
    else ((uint32_t *)d)[i] = (uint32_t)v;
  }
}

// --- packed pairs --------------------------------------------------------------------------------------------------------------
static unsigned pair_shift(emu_type t) { return emu_type_bits(t) / 2; }

// From two f32 sources, the first into the upper half.
static void pair_from_f32(emu_type to, void *d, const void *const s[4], uint32_t m) {
  const uint32_t *a = s[0], *b = s[1];
  uint32_t *r = d;
  const soft_format *target = soft_format_of(to), *f32 = soft_format_of(EMU_F32);
  unsigned shift = pair_shift(to);
  for (int i = 0; i < EMU_LANES; i++) {
    uint32_t high = (uint32_t)soft_convert(target, f32, a[i], m), low = (uint32_t)soft_convert(target, f32, b[i], m);
    r[i] = low | high << shift;
  }
}

// From one packed source to another packed type.
static void pair_from_pair(emu_type to, emu_type from, void *d, const void *const s[4], uint32_t m) {
  const uint32_t *a = s[0];
  uint32_t *r = d;
  const soft_format *target = soft_format_of(to), *source = soft_format_of(from);
  unsigned shift = pair_shift(to), from_shift = pair_shift(from);
  uint32_t mask = (1u << source->bits) - 1;
  for (int i = 0; i < EMU_LANES; i++) {
    uint32_t low = (uint32_t)soft_convert(target, source, a[i] & mask, m);
    uint32_t high = (uint32_t)soft_convert(target, source, a[i] >> from_shift & mask, m);
    r[i] = low | high << shift;
  }
}

// ue8m0: an exponent alone, 2^(code - 127), 0xFF is NaN; signs are ignored. Rounds toward zero or up; `bits` is an f32.
static uint32_t to_ue8m0(uint32_t bits, uint32_t mode) {
  uint32_t magnitude = bits & 0x7FFFFFFFu, code = magnitude >> 23, frac = magnitude & 0x7FFFFFu;
  if (magnitude > 0x7F800000u) return 0xFF;
  if (code == 0xFF) return mode & EMU_SATFINITE ? 0xFE : 0xFF;
  if ((mode & EMU_ROUND_MASK) != EMU_RP || frac == 0) return code;
  if (code == 0) return frac > 0x400000u;                       // 2^-127 is the subnormal 0x400000
  return code == 0xFE && (mode & EMU_SATFINITE) ? 0xFE : code + 1;
}
static void cvt_ue8m0x2_f32(void *d, const void *const s[4], uint32_t m) {
  const uint32_t *a = s[0], *b = s[1];
  uint32_t *r = d;
  for (int i = 0; i < EMU_LANES; i++) r[i] = to_ue8m0(b[i], m) | to_ue8m0(a[i], m) << 8;
}
static void cvt_ue8m0x2_bf16x2(void *d, const void *const s[4], uint32_t m) {
  const uint32_t *a = s[0];
  uint32_t *r = d;
  for (int i = 0; i < EMU_LANES; i++) r[i] = to_ue8m0(a[i] << 16, m) | to_ue8m0(a[i] & 0xFFFF0000u, m) << 8;
}
static void cvt_bf16x2_ue8m0x2(void *d, const void *const s[4], uint32_t m) {
  const uint32_t *a = s[0];
  uint32_t *r = d;
  (void)m;
  for (int i = 0; i < EMU_LANES; i++) {
    uint32_t half[2];
    for (unsigned k = 0; k < 2; k++) {
      uint32_t code = a[i] >> (8 * k) & 0xFF;
      half[k] = code == 0xFF ? 0x7FFF : code == 0 ? 0x40 : code << 7;
    }
    r[i] = half[0] | half[1] << 16;
  }
}

// --- the table -----------------------------------------------------------------------------------------------------------------
#define FLAGS (EMU_ROUND_MASK | EMU_INT | EMU_FTZ | EMU_SAT | EMU_SATFINITE | EMU_RELU)
#define SOURCES(X, TO) \
  X(TO, U8)            \
  X(TO, S8) X(TO, U16) X(TO, S16) X(TO, U32) X(TO, S32) X(TO, U64) X(TO, S64) X(TO, F16) X(TO, BF16) X(TO, F32) X(TO, F64)
#define PAIRS(X)                                                                                           \
  SOURCES(X, U8) SOURCES(X, S8) SOURCES(X, U16) SOURCES(X, S16) SOURCES(X, U32) SOURCES(X, S32) SOURCES(X, U64) SOURCES(X, S64) \
  SOURCES(X, F16) SOURCES(X, BF16) SOURCES(X, F32) SOURCES(X, F64) X(TF32, F32)
#define PACK_F32(X) X(F16X2) X(BF16X2) X(E4M3X2) X(E5M2X2) X(E2M1X2) X(E2M3X2) X(E3M2X2)
#define PACK_PAIR(X)                                                                                       \
  X(E4M3X2, F16X2) X(E5M2X2, F16X2) X(E2M1X2, F16X2) X(E2M3X2, F16X2) X(E3M2X2, F16X2)                      \
  X(E4M3X2, BF16X2) X(E5M2X2, BF16X2) X(E2M1X2, BF16X2) X(E2M3X2, BF16X2) X(E3M2X2, BF16X2)                 \
  X(F16X2, E4M3X2) X(F16X2, E5M2X2) X(F16X2, E2M1X2) X(F16X2, E2M3X2) X(F16X2, E3M2X2)                      \
  X(BF16X2, E4M3X2) X(BF16X2, E5M2X2) X(BF16X2, E2M1X2) X(BF16X2, E2M3X2) X(BF16X2, E3M2X2)

#define DEFINE(TO, FROM)                                                                       \
  static void cvt_##TO##_##FROM(void *d, const void *const s[4], uint32_t m) { convert_row(EMU_##TO, EMU_##FROM, d, s, m); }
#define DEFINE_PACK(TO) \
  static void pack_##TO(void *d, const void *const s[4], uint32_t m) { pair_from_f32(EMU_##TO, d, s, m); }
#define DEFINE_PAIR(TO, FROM)                                                                  \
  static void pair_##TO##_##FROM(void *d, const void *const s[4], uint32_t m) { pair_from_pair(EMU_##TO, EMU_##FROM, d, s, m); }
PAIRS(DEFINE)
PACK_F32(DEFINE_PACK)
PACK_PAIR(DEFINE_PAIR)

#define ENTRY(TO, FROM) {EMU_OP_CVT, EMU_##TO, EMU_##FROM, 0, FLAGS, cvt_##TO##_##FROM},
#define ENTRY_PACK(TO) {EMU_OP_CVT, EMU_##TO, EMU_F32, 0, FLAGS, pack_##TO},
#define ENTRY_PAIR(TO, FROM) {EMU_OP_CVT, EMU_##TO, EMU_##FROM, 0, FLAGS, pair_##TO##_##FROM},
static const emu_row_entry entries[] = {
    PAIRS(ENTRY) PACK_F32(ENTRY_PACK) PACK_PAIR(ENTRY_PAIR)
    {EMU_OP_CVT, EMU_UE8M0X2, EMU_F32, 0, FLAGS, cvt_ue8m0x2_f32},
    {EMU_OP_CVT, EMU_UE8M0X2, EMU_BF16X2, 0, FLAGS, cvt_ue8m0x2_bf16x2},
    {EMU_OP_CVT, EMU_BF16X2, EMU_UE8M0X2, 0, FLAGS, cvt_bf16x2_ue8m0x2},
};
const emu_row_table emu_rows_cvt = {entries, sizeof entries / sizeof *entries};
