// Exact arithmetic on floating-point formats, one bit pattern at a time: the reference every faster routine must agree with.
//
// A value is unpacked to (kind, sign, integer significand, exponent of its lowest bit); operations produce an exact significand
// or one whose lowest bit is sticky ("jammed": or of everything below); a single routine rounds it into any format under any
// rounding mode. Nothing depends on the host's floating-point environment.
#ifndef TESSERA_EMULATOR_ARITH_SOFT_H
#define TESSERA_EMULATOR_ARITH_SOFT_H
#include "emulator/arith.h"

typedef unsigned __int128 soft_u128;

typedef enum soft_kind { SOFT_ZERO, SOFT_FINITE, SOFT_INF, SOFT_NAN } soft_kind;

// How the top of the exponent range is used.
typedef enum soft_specials {
  SOFT_IEEE,       // infinities and NaNs
  SOFT_NO_INF,     // e4m3: only the all-ones pattern is NaN, no infinity
  SOFT_NO_SPECIAL  // e2m1, e2m3, e3m2: neither
} soft_specials;

typedef struct soft_format {
  uint8_t bits, exp_bits, frac_bits;
  uint8_t low_zeros;       // unused bits at the bottom (tf32)
  soft_specials specials;
  uint64_t nan;            // canonical NaN; formats without one: what a NaN turns into
} soft_format;

typedef struct soft_num {
  soft_kind kind;
  bool sign;
  int exp;                 // value = sig * 2^exp
  soft_u128 sig;           // SOFT_FINITE: not 0; SOFT_NAN: the fraction bits of the source, left-aligned in 52 bits
} soft_num;

// NULL for types that are no scalar float. Packed types give their element's format.
const soft_format *soft_format_of(emu_type t);

soft_num soft_unpack(const soft_format *f, uint64_t bits, bool ftz);
// Rounds and packs under `mode` (rounding, FTZ, SAT, SATFINITE, RELU).
uint64_t soft_pack(const soft_format *f, soft_num v, uint32_t mode);
uint64_t soft_nan(const soft_format *f, const soft_num *first_nan);

soft_num soft_add(soft_num a, soft_num b, uint32_t mode);   // mode: the rounding decides the sign of an exact zero
soft_num soft_mul(soft_num a, soft_num b);
soft_num soft_fma(soft_num a, soft_num b, soft_num c, uint32_t mode);
soft_num soft_div(soft_num a, soft_num b);
soft_num soft_sqrt(soft_num a);
soft_num soft_round_int(soft_num a, uint32_t mode);         // to an integral value
int soft_order(soft_num a, soft_num b);                     // -1, 0, 1; -0 < +0; no NaNs

// Operations on bit patterns of one format: unpack, operate, pack.
uint64_t soft_op2(const soft_format *f, emu_op op, uint64_t a, uint64_t b, uint32_t mode);   // ADD SUB MUL DIV MIN MAX
uint64_t soft_op_fma(const soft_format *f, uint64_t a, uint64_t b, uint64_t c, uint32_t mode);
uint64_t soft_op_sqrt(const soft_format *f, uint64_t a, uint32_t mode);
uint64_t soft_op_minmax3(const soft_format *f, emu_op op, uint64_t a, uint64_t b, uint64_t c, uint32_t mode);

// Conversions of one element. Integers are 64-bit patterns, sign- or zero-extended.
uint64_t soft_convert(const soft_format *to, const soft_format *from, uint64_t bits, uint32_t mode);
uint64_t soft_from_int(const soft_format *to, bool is_signed, uint64_t value, uint32_t mode);
uint64_t soft_to_int(const soft_format *from, unsigned bits, bool is_signed, uint64_t value, uint32_t mode);

#endif
