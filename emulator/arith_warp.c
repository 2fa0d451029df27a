// Comparisons to lane masks, set and select rows, carry chains, and the helpers of warp-wide instructions.
#include <string.h>

#include "emulator/arith_rows.h"
#include "emulator/arith_soft.h"
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif

// --- comparisons ---------------------------------------------------------------------------------------------------------------
static const char *const cmp_names[EMU_CMP_COUNT] = {"eq", "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi",
                                                     "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
emu_cmp emu_cmp_find(const char *spelling, size_t length) {
  for (int c = 0; c < EMU_CMP_COUNT; c++)
    if (strlen(cmp_names[c]) == length && memcmp(cmp_names[c], spelling, length) == 0) return (emu_cmp)c;
  return EMU_CMP_COUNT;
}

static float f32_value(uint32_t b, uint32_t m) {
  float f;
  if ((m & EMU_FTZ) && (b & 0x7F800000u) == 0) b &= 0x80000000u;
  memcpy(&f, &b, 4);
  return f;
}
static double f64_value(uint64_t b) { double f; memcpy(&f, &b, 8); return f; }
static float f16_value(uint32_t h, uint32_t m) {
  if ((m & EMU_FTZ) && (h & 0x7C00) == 0) h &= 0x8000;
  uint32_t magnitude = (h & 0x7FFF) << 13;
  float f = f32_value(magnitude, 0) * 0x1p112f;
  uint32_t special = magnitude | 0x7F800000u;
  if (magnitude >= 0x0F800000u) f = f32_value(special, 0);
  return h & 0x8000 ? -f : f;
}
static float bf16_value(uint32_t h) { return f32_value(h << 16, 0); }

// One comparison routine: a lane bit per true condition over x, y.
#define COMPARE(name, ROW, load_x, load_y, V, condition)                                       \
  static uint32_t name(const void *pa, const void *pb, uint32_t m, uint32_t *high) {           \
    const ROW *a = pa, *b = pb;                                                                \
    uint32_t mask = 0;                                                                         \
    (void)m; (void)high;                                                                       \
    for (int i = 0; i < EMU_LANES; i++) {                                                      \
      V x = load_x, y = load_y;                                                                \
      mask |= (uint32_t)(condition) << i;                                                      \
    }                                                                                          \
    return mask;                                                                               \
  }
#define COMPARE_PACKED(name, load, condition)                                                  \
  static uint32_t name(const void *pa, const void *pb, uint32_t m, uint32_t *high) {           \
    const uint32_t *a = pa, *b = pb;                                                           \
    uint32_t masks[2] = {0, 0};                                                                \
    (void)m;                                                                                   \
    for (int i = 0; i < EMU_LANES; i++)                                                        \
      for (int k = 0; k < 2; k++) {                                                            \
        float x = load(a[i] >> (16 * k) & 0xFFFF), y = load(b[i] >> (16 * k) & 0xFFFF);        \
        masks[k] |= (uint32_t)(condition) << i;                                                \
      }                                                                                        \
    *high = masks[1];                                                                          \
    return masks[0];                                                                           \
  }
#define F16_LOAD(h) f16_value(h, m)
#define INT_COMPARE(n, ROW, V)                                            \
  COMPARE(eq_##n, ROW, (V)a[i], (V)b[i], V, x == y)                       \
  COMPARE(ne_##n, ROW, (V)a[i], (V)b[i], V, x != y)                       \
  COMPARE(lt_##n, ROW, (V)a[i], (V)b[i], V, x < y)                        \
  COMPARE(le_##n, ROW, (V)a[i], (V)b[i], V, x <= y)                       \
  COMPARE(gt_##n, ROW, (V)a[i], (V)b[i], V, x > y)                        \
  COMPARE(ge_##n, ROW, (V)a[i], (V)b[i], V, x >= y)
INT_COMPARE(u16, uint32_t, uint16_t)
INT_COMPARE(s16, uint32_t, int16_t)
INT_COMPARE(u32, uint32_t, uint32_t)
INT_COMPARE(s32, uint32_t, int32_t)
INT_COMPARE(u64, uint64_t, uint64_t)
INT_COMPARE(s64, uint64_t, int64_t)

#define FLOAT_CONDITIONS(C, ...)                                             \
  C(eq, __VA_ARGS__, x == y)                                                 \
  C(ne, __VA_ARGS__, x == x && y == y && x != y)                             \
  C(lt, __VA_ARGS__, x < y)                                                  \
  C(le, __VA_ARGS__, x <= y)                                                 \
  C(gt, __VA_ARGS__, x > y)                                                  \
  C(ge, __VA_ARGS__, x >= y)                                                 \
  C(equ, __VA_ARGS__, !(x == x && y == y) || x == y)                         \
  C(neu, __VA_ARGS__, !(x == y))                                             \
  C(ltu, __VA_ARGS__, !(x >= y))                                             \
  C(leu, __VA_ARGS__, !(x > y))                                              \
  C(gtu, __VA_ARGS__, !(x <= y))                                             \
  C(geu, __VA_ARGS__, !(x < y))                                              \
  C(num, __VA_ARGS__, x == x && y == y)                                      \
  C(nan, __VA_ARGS__, !(x == x && y == y))
#define FLOAT_ONE(c, n, ROW, lx, ly, V, condition) COMPARE(c##_##n, ROW, lx, ly, V, condition)
#define FLOAT_PAIR(c, n, load, condition) COMPARE_PACKED(c##_##n, load, condition)
FLOAT_CONDITIONS(FLOAT_ONE, f32, uint32_t, f32_value(a[i], m), f32_value(b[i], m), float)
FLOAT_CONDITIONS(FLOAT_ONE, f64, uint64_t, f64_value(a[i]), f64_value(b[i]), double)
FLOAT_CONDITIONS(FLOAT_ONE, f16, uint32_t, f16_value(a[i] & 0xFFFF, m), f16_value(b[i] & 0xFFFF, m), float)
FLOAT_CONDITIONS(FLOAT_ONE, bf16, uint32_t, bf16_value(a[i]), bf16_value(b[i]), float)
FLOAT_CONDITIONS(FLOAT_PAIR, f16x2, F16_LOAD)
FLOAT_CONDITIONS(FLOAT_PAIR, bf16x2, bf16_value)

#define INT_TABLE(n) {eq_##n, ne_##n, lt_##n, le_##n, gt_##n, ge_##n, lt_##n, le_##n, gt_##n, ge_##n}
#define BIT_TABLE(n) {eq_##n, ne_##n}
#define FLOAT_TABLE(n)                                                                                                      \
  {eq_##n, ne_##n, lt_##n, le_##n, gt_##n, ge_##n, NULL, NULL, NULL, NULL, equ_##n, neu_##n, ltu_##n, leu_##n, gtu_##n, geu_##n, \
   num_##n, nan_##n}
static emu_cmp_fn *const compare_table[EMU_TYPE_COUNT][EMU_CMP_COUNT] = {
    [EMU_U16] = INT_TABLE(u16), [EMU_S16] = INT_TABLE(s16), [EMU_U32] = INT_TABLE(u32), [EMU_S32] = INT_TABLE(s32),
    [EMU_U64] = INT_TABLE(u64), [EMU_S64] = INT_TABLE(s64), [EMU_B16] = BIT_TABLE(u16), [EMU_B32] = BIT_TABLE(u32),
    [EMU_B64] = BIT_TABLE(u64), [EMU_F32] = FLOAT_TABLE(f32), [EMU_F64] = FLOAT_TABLE(f64), [EMU_F16] = FLOAT_TABLE(f16),
    [EMU_BF16] = FLOAT_TABLE(bf16), [EMU_F16X2] = FLOAT_TABLE(f16x2), [EMU_BF16X2] = FLOAT_TABLE(bf16x2)};

emu_cmp_fn *emu_compare(emu_cmp cmp, emu_type t, uint32_t mode) {
  bool can_flush = t == EMU_F32 || t == EMU_F16 || t == EMU_F16X2;
  if ((unsigned)t >= EMU_TYPE_COUNT || (unsigned)cmp >= EMU_CMP_COUNT || (mode & ~(uint32_t)(can_flush ? EMU_FTZ : 0)))
    return NULL;
  bool unsigned_only = cmp == EMU_LO || cmp == EMU_LS || cmp == EMU_HI_CMP || cmp == EMU_HS;
  if (unsigned_only && emu_type_is_signed(t)) return NULL;
  return compare_table[t][cmp];
}

uint32_t emu_testp_row(emu_testp what, emu_type t, const void *a) {
  uint32_t mask = 0;
  const soft_format *f = soft_format_of(t);
  for (int i = 0; i < EMU_LANES; i++) {
    uint64_t bits = f->bits == 64 ? ((const uint64_t *)a)[i] : ((const uint32_t *)a)[i];
    soft_num v = soft_unpack(f, bits, false), flushed = soft_unpack(f, bits, true);
    bool subnormal = v.kind == SOFT_FINITE && flushed.kind == SOFT_ZERO, r = false;
    switch (what) {
      case EMU_FINITE: r = v.kind == SOFT_FINITE || v.kind == SOFT_ZERO; break;
      case EMU_INFINITE: r = v.kind == SOFT_INF; break;
      case EMU_NUMBER: r = v.kind != SOFT_NAN; break;
      case EMU_NOTANUMBER: r = v.kind == SOFT_NAN; break;
      case EMU_NORMAL: r = (v.kind == SOFT_FINITE || v.kind == SOFT_ZERO) && !subnormal; break;   // PTX counts zeros
      case EMU_SUBNORMAL: r = subnormal; break;
    }
    mask |= (uint32_t)r << i;
  }
  return mask;
}

void emu_set_row(emu_type dtype, void *d, uint32_t mask, uint32_t high) {
  uint32_t *r = d, one = UINT32_MAX;
  if (dtype == EMU_F32) one = 0x3F800000u;
  else if (dtype == EMU_F16 || dtype == EMU_F16X2) one = 0x3C00;
  else if (dtype == EMU_BF16 || dtype == EMU_BF16X2) one = 0x3F80;
  else if (emu_type_bits(dtype) == 16) one = 0xFFFF;
  bool packed = dtype == EMU_F16X2 || dtype == EMU_BF16X2;
  for (int i = 0; i < EMU_LANES; i++) {
    uint32_t v = mask >> i & 1 ? one : 0;
    if (packed && (high >> i & 1)) v |= one << 16;
    r[i] = v;
  }
}

static const uint32_t lane_bits[EMU_LANES] = {
    1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,  1u << 8,  1u << 9,  1u << 10,
    1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21,
    1u << 22, 1u << 23, 1u << 24, 1u << 25, 1u << 26, 1u << 27, 1u << 28, 1u << 29, 1u << 30, 1u << 31};

void emu_select_row(bool wide, void *d, const void *a, const void *b, uint32_t mask) {
  if (wide) {
    const uint64_t *x = a, *y = b;
    uint64_t *r = d;
    EMU_EACH_LANE {
      uint64_t u = x[i], v = y[i];
      r[i] = mask & lane_bits[i] ? u : v;
    }
  } else {
    const uint32_t *x = a, *y = b;
    uint32_t *r = d;
    EMU_EACH_LANE {
      uint32_t u = x[i], v = y[i];
      r[i] = mask & lane_bits[i] ? u : v;
    }
  }
}

// --- carry chains --------------------------------------------------------------------------------------------------------------
typedef unsigned __int128 u128;

static uint64_t load(bool wide, const void *row, int i) {
  return wide ? ((const uint64_t *)row)[i] : ((const uint32_t *)row)[i];
}
static void store(bool wide, void *row, int i, uint64_t v) {
  if (wide) ((uint64_t *)row)[i] = v;
  else ((uint32_t *)row)[i] = (uint32_t)v;
}

void emu_add_cc_row(bool wide, void *d, const void *a, const void *b, emu_cc cc, uint32_t *carry) {
  uint32_t out = 0, in = cc.in ? *carry : 0;
  for (int i = 0; i < EMU_LANES; i++) {
    u128 sum = (u128)load(wide, a, i) + load(wide, b, i) + (in >> i & 1);
    out |= (uint32_t)(sum >> (wide ? 64 : 32) & 1) << i;
    store(wide, d, i, (uint64_t)sum);
  }
  if (cc.out) *carry = out;
}

// a - b - borrow; CC.CF holds the borrow.
void emu_sub_cc_row(bool wide, void *d, const void *a, const void *b, emu_cc cc, uint32_t *carry) {
  uint32_t out = 0, in = cc.in ? *carry : 0;
  for (int i = 0; i < EMU_LANES; i++) {
    u128 difference = (u128)load(wide, a, i) - load(wide, b, i) - (in >> i & 1);
    out |= (uint32_t)(difference >> (wide ? 64 : 32) & 1) << i;
    store(wide, d, i, (uint64_t)difference);
  }
  if (cc.out) *carry = out;
}

void emu_mad_cc_row(emu_type t, bool hi, void *d, const void *a, const void *b, const void *c, emu_cc cc, uint32_t *carry) {
  bool wide = emu_type_bits(t) == 64;
  uint64_t product[EMU_LANES];
  uint32_t narrow[EMU_LANES];
  for (int i = 0; i < EMU_LANES; i++) {
    uint64_t x = load(wide, a, i), y = load(wide, b, i);
    if (wide) {
      u128 p = t == EMU_S64 ? (u128)((__int128)(int64_t)x * (int64_t)y) : (u128)x * y;
      product[i] = (uint64_t)(hi ? p >> 64 : p);
    } else {
      uint64_t p = t == EMU_S32 ? (uint64_t)((int64_t)(int32_t)x * (int32_t)y) : x * y;
      narrow[i] = (uint32_t)(hi ? p >> 32 : p);
    }
  }
  emu_add_cc_row(wide, d, wide ? (const void *)product : narrow, c, cc, carry);
}

// --- warp-wide -----------------------------------------------------------------------------------------------------------------
// c: bits 0..4 the clamp, bits 8..12 the segment mask.
unsigned emu_shfl_source(emu_shfl kind, unsigned lane, uint32_t b, uint32_t c, bool *in_range) {
  unsigned offset = b & 31, clamp = c & 31, segment = c >> 8 & 31;
  unsigned last = (lane & segment) | (clamp & ~segment), first = lane & segment;
  int source = 0;
  bool ok = false;
  switch (kind) {
    case EMU_SHFL_UP: source = (int)lane - (int)offset; ok = source >= (int)last; break;
    case EMU_SHFL_DOWN: source = (int)(lane + offset); ok = source <= (int)last; break;
    case EMU_SHFL_BFLY: source = (int)(lane ^ offset); ok = source <= (int)last; break;
    case EMU_SHFL_IDX: source = (int)(first | (offset & ~segment)); ok = source <= (int)last; break;
  }
  if (in_range) *in_range = ok;
  return ok ? (unsigned)source : lane;
}

uint32_t emu_match_any(const void *a, bool wide, uint32_t members, unsigned lane) {
  uint64_t value = load(wide, a, (int)lane);
  uint32_t mask = 0;
  for (int i = 0; i < EMU_LANES; i++) mask |= (uint32_t)(load(wide, a, i) == value) << i;
  return mask & members;
}

uint32_t emu_match_all(const void *a, bool wide, uint32_t members, bool *all) {
  *all = members != 0 && emu_match_any(a, wide, members, (unsigned)__builtin_ctz(members)) == members;
  return *all ? members : 0;
}

uint32_t emu_redux(emu_op op, emu_type t, uint32_t mode, const uint32_t *a, uint32_t members) {
  bool first = true;
  uint32_t r = 0, absolute = mode & EMU_ABS ? 0x7FFFFFFFu : UINT32_MAX;
  for (int i = 0; i < EMU_LANES; i++) {
    if (!(members >> i & 1)) continue;
    uint32_t v = t == EMU_F32 ? a[i] & absolute : a[i];
    if (first) {
      r = t == EMU_F32 ? emu_f32_min(v, v, mode & EMU_NAN) : v;
      first = false;
      continue;
    }
    switch (op) {
      case EMU_OP_ADD: r += v; break;
      case EMU_OP_AND: r &= v; break;
      case EMU_OP_OR: r |= v; break;
      case EMU_OP_XOR: r ^= v; break;
      case EMU_OP_MIN:
        if (t == EMU_F32) r = emu_f32_min(r, v, mode & EMU_NAN);
        else if (t == EMU_S32) r = (int32_t)v < (int32_t)r ? v : r;
        else r = v < r ? v : r;
        break;
      default:
        if (t == EMU_F32) r = emu_f32_max(r, v, mode & EMU_NAN);
        else if (t == EMU_S32) r = (int32_t)v > (int32_t)r ? v : r;
        else r = v > r ? v : r;
        break;
    }
  }
  return r;
}
