// The inner loop of floating-point matrix products: fused sums of 8 columns at a time (see arith_mma.c).
#ifndef TESSERA_EMULATOR_ARITH_MMA_CORE_H
#define TESSERA_EMULATOR_ARITH_MMA_CORE_H
#include <stdint.h>

enum { EMU_TILE_N = 8, EMU_MAX_M = 32, EMU_MAX_K = 32 };

// Decoded operands: signed significands with `frac` fraction bits in all products, and exponents.
typedef struct emu_fused_a { int32_t sig[EMU_MAX_M][EMU_MAX_K], exp[EMU_MAX_M][EMU_MAX_K]; } emu_fused_a;
typedef struct emu_fused_b { int32_t sig[EMU_MAX_K][EMU_TILE_N], exp[EMU_MAX_K][EMU_TILE_N]; } emu_fused_b;

typedef struct emu_fused_shape {
  int32_t rows, k_begin, k_end;
  int32_t left;         // F - fraction bits of a product, >= 0
  int32_t c_left;       // F - fraction bits of c; negative: a right shift
} emu_fused_shape;

// One row's sums: magnitude of the positive and of the negative terms in units of 2^(exp - F), exp the largest exponent.
// c: signed significand and exponent of the addend.
typedef void emu_fused_fn(const emu_fused_shape *shape, const emu_fused_a *a, const emu_fused_b *b,
                          const int32_t (*c_sig)[EMU_TILE_N], const int32_t (*c_exp)[EMU_TILE_N], uint32_t (*positive)[EMU_TILE_N],
                          uint32_t (*negative)[EMU_TILE_N], int32_t (*exp)[EMU_TILE_N]);
emu_fused_fn emu_fused_base, emu_fused_avx2;

// f32 results by truncation: |sum| * 2^(exp - F). Lanes whose result is subnormal or overflows are left to the caller (bit set
// in the returned mask).
typedef uint32_t emu_truncate_fn(int32_t fraction, const uint32_t *positive, const uint32_t *negative, const int32_t *exp,
                                 uint32_t *result);
emu_truncate_fn emu_truncate_base, emu_truncate_avx2;
#endif
