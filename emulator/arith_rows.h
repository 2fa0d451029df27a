// What the row routines and their lookup share: an entry says which combinations a routine serves.
#ifndef TESSERA_EMULATOR_ARITH_ROWS_H
#define TESSERA_EMULATOR_ARITH_ROWS_H
#include "emulator/arith.h"

// Serves (op, type, from) when (mode & ~allowed) == required: `allowed` bits are handled at run time or do not matter.
typedef struct emu_row_entry {
  uint8_t op, type, from;
  uint32_t required, allowed;
  emu_row_fn *fn;
} emu_row_entry;

typedef struct emu_row_table {
  const emu_row_entry *entries;
  size_t count;
} emu_row_table;

// Vectorised routines, built twice: for the x86-64 baseline and for AVX2 with FMA and F16C.
extern const emu_row_table emu_rows_base, emu_rows_avx2;
extern const emu_row_table emu_rows_int_base, emu_rows_int_avx2;
extern const emu_row_table emu_rows_soft;   // lane by lane over arith_soft.c: every remaining combination
extern const emu_row_table emu_rows_cvt;    // conversions

// emu_row with the level chosen by the caller (tests compare the two).
emu_row_fn *emu_row_at(bool avx2, emu_op op, emu_type t, emu_type from, uint32_t mode);

// One element of cvt between scalar types (no packed ones): result as emu_row gives it.
uint64_t emu_cvt_element(emu_type to, emu_type from, uint64_t bits, uint32_t mode);

// MUFU tables for the vector rows, and the bias of a sum: the upper bits of a 64-bit constant, shifted to its `weight`.
extern const uint32_t emu_mufu_rcp_table[128][3], emu_mufu_rsqrt_table[128][3], emu_mufu_ex2_table[64][3];
#define EMU_MUFU_BIAS(high, weight) (((uint64_t)(high) << ((high) > 0xFFFF ? 44 : 48)) >> (64 - (weight) + 23))
// div.approx.f32, or div.full with EMU_FULL in the mode.
uint32_t emu_div_approx(uint32_t a, uint32_t b, uint32_t mode);

#if defined(__clang__)   // loops that it cannot turn into vector code are fine as they are
#pragma clang diagnostic ignored "-Wpass-failed"
#define EMU_EACH_LANE _Pragma("clang loop vectorize(assume_safety)") for (int i = 0; i < EMU_LANES; i++)
#else
#define EMU_EACH_LANE _Pragma("GCC ivdep") for (int i = 0; i < EMU_LANES; i++)
#endif
#endif
