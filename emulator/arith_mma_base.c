// The fused sums of arith_mma_core.inc for the x86-64 baseline.
#include <string.h>

#include "emulator/arith_mma_core.h"
#pragma GCC diagnostic ignored "-Wpsabi"   // vectors are passed between inlined functions only
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif
#define BYTES emu_bytes_base
#define DOTS emu_dots_base
#define EXPAND emu_expand_base
#define DECODE emu_decode_base
#define FUSED emu_fused_base
#define PICK(m, a, b) (((a) & (m)) | ((b) & ~(m)))
#define MAX(a, b) PICK((a) > (b), a, b)
#define ABS(v) (((v) ^ ((v) >> 31)) - ((v) >> 31))
#define SHIFT(v, n) ((v8)((u8v)(v) >> (u8v)PICK((n) < 31, n, ((v8){0} + 31))))
#define SIGN(v, s) ((((v) ^ ((s) >> 31)) - ((s) >> 31)) & ((s) != 0))
#define PRODUCT(b, a) ((b) * (int32_t)(int16_t)(a))
#define ANY(v) any_lanes(&(v))
#define HALF(bits, odd) (*(odd) |= -1, (bits) & 0x7FFF)
static uint32_t any_lanes(const void *lanes) {
  const int32_t *v = lanes;
  uint32_t mask = 0;
  for (int i = 0; i < EMU_TILE_N; i++) mask |= (uint32_t)(v[i] < 0) << i;
  return mask;
}
#include "emulator/arith_mma_core.inc"
