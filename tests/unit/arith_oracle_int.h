// Oracles of the integer and bit instructions: 128-bit arithmetic and bit-by-bit definitions after the PTX ISA. x, y, z, w are
// the sources as 64-bit patterns, `mode` the flags of emulator/arith.h (names only: nothing of the emulator's code is used).
#ifndef TESSERA_TESTS_ARITH_ORACLE_INT_H
#define TESSERA_TESTS_ARITH_ORACLE_INT_H
#include "arith_oracle.h"
#include "emulator/arith.h"

typedef __int128 wide;
typedef struct int_type { emu_type t; unsigned bits; bool is_signed; } int_type;
typedef uint64_t int_oracle(uint64_t x, uint64_t y, uint64_t z, uint64_t w, int_type t, uint32_t mode);
static inline uint64_t cut(wide v, unsigned bits) { return (uint64_t)v & (bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1); }
static inline wide value(uint64_t v, int_type t) {
  wide x = (wide)cut((wide)v, t.bits);
  return t.is_signed && (v >> (t.bits - 1) & 1) ? x - ((wide)1 << t.bits) : x;
}
#define ORACLE(name) static inline uint64_t name(uint64_t x, uint64_t y, uint64_t z, uint64_t w, int_type t, uint32_t mode)
#define UNUSED (void)x, (void)y, (void)z, (void)w, (void)t, (void)mode
#define V(v) value(v, t)
ORACLE(o_add) { UNUSED; return cut(V(x) + V(y), t.bits); }
ORACLE(o_sub) { UNUSED; return cut(V(x) - V(y), t.bits); }
ORACLE(o_min) { UNUSED; return cut(V(x) < V(y) ? V(x) : V(y), t.bits); }
ORACLE(o_max) { UNUSED; return cut(V(x) > V(y) ? V(x) : V(y), t.bits); }
static inline unsigned __int128 low_product(uint64_t x, uint64_t y, int_type t) {
  return (unsigned __int128)V(x) * (unsigned __int128)V(y);
}
// Upper half of a product, from 32-bit pieces (the 64-bit product does not fit a signed 128-bit number for u64).
static inline uint64_t high_product(uint64_t x, uint64_t y, int_type t) {
  unsigned __int128 p = (unsigned __int128)cut((wide)x, t.bits) * cut((wide)y, t.bits);
  uint64_t high = (uint64_t)(p >> t.bits);
  if (t.is_signed && V(x) < 0) high -= y;
  if (t.is_signed && V(y) < 0) high -= x;
  return cut((wide)high, t.bits);
}
ORACLE(o_mul) { UNUSED; return cut((wide)low_product(x, y, t), t.bits); }
ORACLE(o_mad) { UNUSED; return cut((wide)(low_product(x, y, t) + z), t.bits); }
ORACLE(o_mul_hi) { UNUSED; return high_product(x, y, t); }
ORACLE(o_mad_hi) { UNUSED; return cut((wide)(high_product(x, y, t) + z), t.bits); }
ORACLE(o_mul_wide) { UNUSED; return cut(V(x) * V(y), 2 * t.bits); }
ORACLE(o_mad_wide) { UNUSED; return cut((wide)((unsigned __int128)(V(x) * V(y)) + z), 2 * t.bits); }
ORACLE(o_sad) { UNUSED; wide d = V(x) - V(y); return cut((wide)(z + (uint64_t)(d < 0 ? -d : d)), t.bits); }
ORACLE(o_div) { UNUSED; return V(y) == 0 ? cut(-1, t.bits) : cut(V(x) / V(y), t.bits); }
ORACLE(o_rem) { UNUSED; return V(y) == 0 ? cut(V(x), t.bits) : cut(V(x) % V(y), t.bits); }
ORACLE(o_abs) { UNUSED; return cut(V(x) < 0 ? -V(x) : V(x), t.bits); }
ORACLE(o_neg) { UNUSED; return cut(-V(x), t.bits); }
ORACLE(o_shr) { UNUSED; return cut(y >= t.bits ? (V(x) < 0 ? -1 : 0) : V(x) >> y, t.bits); }
ORACLE(o_shl) { UNUSED; return y >= t.bits ? 0 : cut((wide)((unsigned __int128)x << y), t.bits); }

static inline uint64_t clamp32(wide v) { return cut(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v, 32); }
ORACLE(o_add_sat) { UNUSED; return clamp32(V(x) + V(y)); }
ORACLE(o_sub_sat) { UNUSED; return clamp32(V(x) - V(y)); }
ORACLE(o_mad_hi_sat) { UNUSED; return clamp32((V(x) * V(y) >> 32) + V(z)); }
ORACLE(o_min_relu) { UNUSED; wide m = V(x) < V(y) ? V(x) : V(y); return cut(m < 0 ? 0 : m, t.bits); }
ORACLE(o_max_relu) { UNUSED; wide m = V(x) > V(y) ? V(x) : V(y); return cut(m < 0 ? 0 : m, t.bits); }
static inline wide v24(uint64_t v, int_type t) {
  wide m = (wide)(v & 0xFFFFFF);
  return t.is_signed && (m & 0x800000) ? m - 0x1000000 : m;
}
ORACLE(o_mul24) { UNUSED; wide p = v24(x, t) * v24(y, t); return cut(mode & EMU_HI ? p >> 16 : p, 32); }
ORACLE(o_mad24) { UNUSED; wide p = v24(x, t) * v24(y, t); return cut((wide)cut(mode & EMU_HI ? p >> 16 : p, 32) + (wide)z, 32); }
ORACLE(o_mad24_sat) { UNUSED; return clamp32((v24(x, t) * v24(y, t) >> 16) + V(z)); }
ORACLE(o_and) { UNUSED; return cut((wide)(x & y), t.bits); }
ORACLE(o_or) { UNUSED; return cut((wide)(x | y), t.bits); }
ORACLE(o_xor) { UNUSED; return cut((wide)(x ^ y), t.bits); }
ORACLE(o_not) { UNUSED; return cut((wide)~x, t.bits); }
ORACLE(o_cnot) { UNUSED; return cut((wide)x, t.bits) == 0; }
ORACLE(o_popc) { UNUSED; uint64_t n = 0; for (unsigned i = 0; i < t.bits; i++) n += x >> i & 1; return n; }
ORACLE(o_clz) { UNUSED; uint64_t n = 0; for (int i = (int)t.bits - 1; i >= 0 && !(x >> i & 1); i--) n++; return n; }
ORACLE(o_brev) { UNUSED; uint64_t r = 0; for (unsigned i = 0; i < t.bits; i++) r |= (x >> i & 1) << (t.bits - 1 - i); return r; }
ORACLE(o_bfind) {
  UNUSED;
  uint64_t sign = t.is_signed ? x >> (t.bits - 1) & 1 : 0;
  for (int i = (int)t.bits - 1; i >= 0; i--)
    if ((x >> i & 1) != sign) return mode & EMU_SHIFTAMT ? t.bits - 1 - (unsigned)i : (unsigned)i;
  return 0xFFFFFFFF;
}
// The ISA's pseudo code for bfe and bfi.
ORACLE(o_bfe) {
  UNUSED;
  unsigned pos = y & 0xFF, len = z & 0xFF, msb = t.bits - 1;
  uint64_t sbit = !t.is_signed || len == 0 ? 0 : x >> (pos + len - 1 < msb ? pos + len - 1 : msb) & 1, d = 0;
  for (unsigned i = 0; i <= msb; i++) d |= (i < len && pos + i <= msb ? x >> (pos + i) & 1 : sbit) << i;
  return d;
}
ORACLE(o_bfi) {
  UNUSED;
  unsigned pos = z & 0xFF, len = w & 0xFF, msb = t.bits - 1;
  uint64_t f = y;
  for (unsigned i = 0; i < len && pos + i <= msb; i++) f = (f & ~((uint64_t)1 << (pos + i))) | (x >> i & 1) << (pos + i);
  return f;
}
ORACLE(o_fns) {   // as the ISA states it
  UNUSED;
  uint32_t mask = (uint32_t)x, base = (uint32_t)y, d = 0xFFFFFFFF;
  int32_t offset = (int32_t)z;
  if (base > 31) return d;
  if (offset == 0) return mask >> base & 1 ? base : d;
  int64_t pos = base, count = (offset < 0 ? -(int64_t)offset : offset) - 1, inc = offset > 0 ? 1 : -1;
  while (pos >= 0 && pos < 32) {
    if (mask >> pos & 1) {
      if (count == 0) return (uint32_t)pos;
      count--;
    }
    pos += inc;
  }
  return d;
}
ORACLE(o_szext) {
  UNUSED;
  unsigned n = (uint32_t)y;
  if (mode & EMU_WRAP) n &= 31;
  else if (n > 32) n = 32;
  uint64_t r = 0, sign = t.is_signed && n > 0 ? x >> (n - 1) & 1 : 0;
  for (unsigned i = 0; i < 32; i++) r |= (i < n ? x >> i & 1 : sign) << i;
  return r;
}
ORACLE(o_bmsk) {
  UNUSED;
  uint32_t pos = (uint32_t)x, n = (uint32_t)y;
  if (mode & EMU_WRAP) { pos &= 31; n &= 31; }
  else { pos = pos > 32 ? 32 : pos; n = n > 32 ? 32 : n; }
  uint64_t r = 0;
  for (unsigned i = pos; i < pos + n && i < 32; i++) r |= (uint64_t)1 << i;
  return r;
}
ORACLE(o_lop3) {
  UNUSED;
  uint64_t r = 0;
  for (unsigned i = 0; i < 32; i++)
    r |= (uint64_t)(mode >> EMU_IMM_SHIFT >> ((x >> i & 1) << 2 | (y >> i & 1) << 1 | (z >> i & 1)) & 1) << i;
  return r;
}
ORACLE(o_shf) {
  UNUSED;
  uint32_t n = (uint32_t)z;
  n = mode & EMU_WRAP ? n & 31 : n > 32 ? 32 : n;
  if (mode & EMU_LEFT) return (uint32_t)((y << n & 0xFFFFFFFF) | (n == 0 ? 0 : x >> (32 - n)));
  return (uint32_t)((n == 32 ? 0 : x >> n) | (n == 0 ? 0 : y << (32 - n)));
}
ORACLE(o_prmt) {
  UNUSED;
  uint8_t b[8];
  for (int i = 0; i < 4; i++) { b[i] = (uint8_t)(x >> (8 * i)); b[4 + i] = (uint8_t)(y >> (8 * i)); }
  uint32_t r = 0, c = z & 3, m = mode >> EMU_IMM_SHIFT;
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t k = 0, v;
    switch (m) {
      case EMU_PRMT_F4E: k = c + i; break;
      case EMU_PRMT_B4E: k = (c - i) & 7; break;
      case EMU_PRMT_RC8: k = c; break;
      case EMU_PRMT_ECL: k = i > c ? i : c; break;
      case EMU_PRMT_ECR: k = i < c ? i : c; break;
      case EMU_PRMT_RC16: k = (c & 1) * 2 + (i & 1); break;
      default: k = z >> (4 * i) & 15; break;
    }
    v = b[k & 7];
    if (m == EMU_PRMT_INDEX && (k & 8)) v = v & 0x80 ? 0xFF : 0;
    r |= v << (8 * i);
  }
  return r;
}
ORACLE(o_dp4a) {
  UNUSED;
  int64_t r = (int32_t)z;
  for (int i = 0; i < 4; i++) {
    int64_t a = mode & EMU_A_SIGNED ? (int8_t)(x >> (8 * i)) : (uint8_t)(x >> (8 * i));
    int64_t b = mode & EMU_B_SIGNED ? (int8_t)(y >> (8 * i)) : (uint8_t)(y >> (8 * i));
    r += a * b;
  }
  return (uint32_t)r;
}
ORACLE(o_dp2a) {
  UNUSED;
  int64_t r = (int32_t)z;
  for (int i = 0; i < 2; i++) {
    int64_t a = mode & EMU_A_SIGNED ? (int16_t)(x >> (16 * i)) : (uint16_t)(x >> (16 * i));
    unsigned k = 8 * ((mode & EMU_HI ? 2 : 0) + (unsigned)i);
    int64_t b = mode & EMU_B_SIGNED ? (int8_t)(y >> k) : (uint8_t)(y >> k);
    r += a * b;
  }
  return (uint32_t)r;
}
#define PAIR(name, expression)                                                                   \
  ORACLE(name) {                                                                                 \
    UNUSED;                                                                                      \
    uint32_t r = 0;                                                                              \
    for (int k = 0; k < 2; k++) {                                                                \
      int a = (int)(t.is_signed ? (int16_t)(x >> (16 * k)) : (uint16_t)(x >> (16 * k)));         \
      int b = (int)(t.is_signed ? (int16_t)(y >> (16 * k)) : (uint16_t)(y >> (16 * k)));         \
      r |= (uint32_t)(uint16_t)(expression) << (16 * k);                                         \
    }                                                                                            \
    return r;                                                                                    \
  }
PAIR(o_add_x2, a + b)
PAIR(o_sub_x2, a - b)
PAIR(o_min_x2, a < b ? a : b)
PAIR(o_max_x2, a > b ? a : b)
PAIR(o_min_relu_x2, (a < b ? a : b) > 0 ? (a < b ? a : b) : 0)
PAIR(o_max_relu_x2, (a > b ? a : b) > 0 ? (a > b ? a : b) : 0)
#endif
