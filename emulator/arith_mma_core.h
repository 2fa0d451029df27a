// The inner loops of floating-point matrix products: fused sums of 8 columns at a time (see arith_mma.c).
#ifndef TESSERA_EMULATOR_ARITH_MMA_CORE_H
#define TESSERA_EMULATOR_ARITH_MMA_CORE_H
#include <stdbool.h>
#include <stdint.h>

enum { EMU_TILE_N = 8, EMU_MAX_M = 32, EMU_MAX_K = 32, EMU_DOT_K = 64, EMU_ZERO_EXPONENT = -126 };

// How the bits of a narrow float split; no_inf: only the all-ones pattern is special (e4m3).
typedef struct emu_decoding { int exp_bits, frac_bits, bias; bool no_inf; } emu_decoding;

// Operands of a product with m x k and k x 8 elements. Significands are signed and shifted left so that a product has F fraction
// bits; all fit 16 bits (the upper halves of A's are zero). A zero has exponent EMU_ZERO_EXPONENT.
typedef struct emu_fused_a { int32_t sig[EMU_MAX_M * EMU_MAX_K], exp[EMU_MAX_M * EMU_MAX_K]; } emu_fused_a;
typedef struct emu_fused_b { int32_t sig[EMU_MAX_K * EMU_TILE_N], exp[EMU_MAX_K * EMU_TILE_N]; } emu_fused_b;

// Packed 16-bit elements (up to EMU_MAX_K) to words.
typedef void emu_expand_fn(unsigned count, const uint8_t *packed, uint32_t *out);
emu_expand_fn emu_expand_base, emu_expand_avx2;

// `count` elements (a multiple of 8) from their bits; returns whether any is infinite or NaN.
typedef bool emu_decode_fn(emu_decoding f, int left, int32_t mask, unsigned count, const uint32_t *bits, int32_t *sig,
                           int32_t *exp);
emu_decode_fn emu_decode_base, emu_decode_avx2;

typedef struct emu_fused_shape {
  int32_t rows, k, chunk;
  int32_t fraction;        // F
  int32_t result_bits;     // fraction bits of an f32 result
  bool c_half, d_half;     // f16 addend, f16 result (else f32)
  uint32_t c_stride;       // words between rows of c and d
} emu_fused_shape;

// Rows of 8 results from 8 addends c (f16 in the low half of a word); d may be c. odd[row] gets the lanes whose result is not
// valid because something rare happened (infinite or NaN addend, subnormal or overflowing result): the caller redoes those.
typedef void emu_fused_fn(const emu_fused_shape *shape, const emu_fused_a *a, const emu_fused_b *b, const uint32_t *c,
                          uint32_t *d, uint32_t *odd);
emu_fused_fn emu_fused_base, emu_fused_avx2;

// Integer products: packed bytes to 16 bits; n dot products of a row a with columns of b (EMU_DOT_K apart), k a multiple of 16.
typedef void emu_bytes_fn(bool is_signed, unsigned count, const uint8_t *packed, int16_t *out);
typedef void emu_dots_fn(unsigned n, unsigned k, const int16_t *a, const int16_t *b, int32_t *out);
emu_bytes_fn emu_bytes_base, emu_bytes_avx2;
emu_dots_fn emu_dots_base, emu_dots_avx2;
#endif
