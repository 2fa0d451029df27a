// What the tests of matrix instructions share: small random values in every element type (their products and sums are exact, so a
// plain product is the oracle), and filling and reading of fragments through the maps of arith_mma.h.
#ifndef TESSERA_TESTS_ARITH_MATRIX_H
#define TESSERA_TESTS_ARITH_MATRIX_H
#include <check.h>
#include <math.h>
#include <string.h>

#include "emulator/arith_mma.h"

static uint64_t state = 0x9E3779B97F4A7C15u;
static inline uint32_t rnd(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 32);
}

static inline uint32_t *word_row(uint64_t (*rows)[32], unsigned r) { return (uint32_t *)(void *)rows[r]; }

static inline void put(const emu_mma_desc *desc, emu_operand which, emu_type t, uint64_t (*rows)[32], unsigned m_cols,
                       const uint64_t *m) {
  unsigned bits = emu_type_bits(t), per = emu_frag_elements(desc, which, t);
  for (unsigned r = 0; r < emu_mma_registers(desc, which, t); r++)
    for (unsigned lane = 0; lane < 32; lane++) {
      uint64_t v = 0;
      for (unsigned e = 0; e < per; e++) {
        unsigned row, col;
        emu_frag_coord(desc, which, t, lane, r, e, &row, &col);
        v |= m[row * m_cols + col] << (e * bits);
      }
      if (bits == 64) rows[r][lane] = v;
      else word_row(rows, r)[lane] = (uint32_t)v;
    }
}
static inline void get(const emu_mma_desc *desc, emu_type t, uint64_t (*rows)[32], unsigned m_cols, uint64_t *m) {
  unsigned bits = emu_type_bits(t), per = emu_frag_elements(desc, EMU_FRAG_C, t);
  for (unsigned r = 0; r < emu_mma_registers(desc, EMU_FRAG_C, t); r++)
    for (unsigned lane = 0; lane < 32; lane++)
      for (unsigned e = 0; e < per; e++) {
        unsigned row, col;
        emu_frag_coord(desc, EMU_FRAG_C, t, lane, r, e, &row, &col);
        uint64_t v = bits == 64 ? rows[r][lane] : word_row(rows, r)[lane];
        m[row * m_cols + col] = v >> (e * bits) & (bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1);
      }
}

// Values small enough that every sum is exact in every type: all maps and types against a plain product.
static inline double decode(emu_type t, uint64_t v) {
  switch (t) {
    case EMU_S8: return (int8_t)v;
    case EMU_S4: return v >= 8 ? (double)v - 16 : (double)v;
    case EMU_U8: case EMU_U4: case EMU_B1: return (double)v;
    case EMU_S32: return (int32_t)(uint32_t)v;
    case EMU_F64: { double d; memcpy(&d, &v, 8); return d; }
    case EMU_F32: case EMU_TF32: { float f; uint32_t w = (uint32_t)v; memcpy(&f, &w, 4); return f; }
    case EMU_BF16: { float f; uint32_t w = (uint32_t)v << 16; memcpy(&f, &w, 4); return f; }
    default: break;
  }
  int frac = t == EMU_F16 ? 10 : t == EMU_E4M3 ? 3 : 2, bias = t == EMU_E4M3 ? 7 : 15, exps = t == EMU_E4M3 ? 4 : 5;
  int e = (int)(v >> frac) & ((1 << exps) - 1), f = (int)v & ((1 << frac) - 1);
  double r = e ? ldexp(f + (1 << frac), e - bias - frac) : ldexp(f, 1 - bias - frac);
  return v >> (frac + exps) & 1 ? -r : r;
}
// The pattern of a small integer: found by search, so it depends on decode alone.
static inline uint64_t encode(emu_type t, double value) {
  uint64_t bits;
  uint32_t w;
  float f = (float)value;
  memcpy(&bits, &value, 8);
  memcpy(&w, &f, 4);
  switch (t) {
    case EMU_F64: return bits;
    case EMU_F32: case EMU_TF32: return w;
    case EMU_BF16: return w >> 16;
    case EMU_S32: return (uint32_t)(int32_t)value;
    default: break;
  }
  static struct { double value; uint64_t bits; bool known; } cache[EMU_TYPE_COUNT][64];
  int slot = (int)value & 63;
  if (cache[t][slot].known && cache[t][slot].value == value) return cache[t][slot].bits;
  for (uint64_t v = 0; v < (uint64_t)1 << emu_type_bits(t); v++)
    if (decode(t, v) == value) {
      cache[t][slot].value = value;
      cache[t][slot].known = true;
      return cache[t][slot].bits = v;
    }
  ck_abort_msg("no pattern");
}
static inline double small(emu_type t) {
  switch (t) {
    case EMU_B1: return rnd() & 1;
    case EMU_U8: return rnd() & 255;
    case EMU_U4: return rnd() & 15;
    case EMU_S8: return (int)(rnd() & 255) - 128;
    case EMU_S4: return (int)(rnd() & 15) - 8;
    default: return (int)(rnd() % 9) - 4;
  }
}

#endif
