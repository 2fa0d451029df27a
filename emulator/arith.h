// The pure arithmetic of PTX on raw bits: no parser, no machine state, no memory.
//
// Rows. A register of a warp is a *row* of 32 lanes: uint32_t[32] for types of up to 32 bits (the value in the low bits;
// bits above the type's width are ignored on input and zero on output, except that cvt to s8/s16 sign-extends to 32 bits as
// PTX asks), uint64_t[32] for 64-bit types. Rows are naturally aligned (64-byte alignment is fastest). A row routine computes
// all 32 lanes; it never traps, whatever the bits, so a caller with inactive lanes computes into a scratch row and blends.
// The destination may be the same row as a source; partial overlap is not allowed. Routines are chosen once, at decoding.
//
// Modifiers travel in one word, `mode`: a rounding in the low bits, flags, and an 8-bit immediate on top.
//
// NaN results: f32 0x7FFFFFFF, f16/bf16 0x7FFF (canonical, as the hardware gives); f64: the first NaN source, quieted, else
// 0xFFF8000000000000 (PTX leaves the payload open). abs, neg, copysign only touch the sign bit.
// .ftz replaces subnormal f32 (f16) inputs and results by zeros of the same sign, the result judged after rounding.
#ifndef TESSERA_EMULATOR_ARITH_H
#define TESSERA_EMULATOR_ARITH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMU_LANES 32

typedef enum emu_type {
  EMU_NOTYPE = 0,
#define EMU_TYPE(name, spelling, bits, cls, n) EMU_##name,
#include "emulator/types.def"
  EMU_TYPE_COUNT
} emu_type;

typedef enum emu_op {
#define EMU_OP(name, spelling, sources) EMU_OP_##name,
#include "emulator/arith_ops.def"
  EMU_OP_COUNT
} emu_op;

// --- mode word -----------------------------------------------------------------------------------------------------------------
enum {
  EMU_RN = 0, EMU_RZ = 1, EMU_RM = 2, EMU_RP = 3, EMU_RNA = 4,  // roundings; bits 0..2
  EMU_ROUND_MASK = 7,
  EMU_INT = 1 << 3,           // .rni .rzi .rmi .rpi: round to an integral value (with EMU_RN, RZ, RM, RP)
  EMU_FTZ = 1 << 4,
  EMU_SAT = 1 << 5,           // floats: clamp to [0, 1], NaN gives +0; add/sub/mad.hi.s32: clamp to the type; cvt: likewise
  EMU_SATFINITE = 1 << 6,     // overflow gives the largest finite value; mma of integers: clamp
  EMU_RELU = 1 << 7,          // negative results give +0, NaN the canonical NaN
  EMU_NAN = 1 << 8,           // min/max: a NaN source gives NaN
  EMU_XORSIGN_ABS = 1 << 9,   // min/max of |a|, |b| with the sign a ^ b
  EMU_ABS = 1 << 10,          // min/max of three inputs only: magnitudes
  EMU_APPROX = 1 << 11,       // .approx
  EMU_FULL = 1 << 12,         // div.full
  EMU_HI = 1 << 13,           // mul.hi mad.hi mul24.hi mad24.hi; dp2a.hi
  EMU_WIDE = 1 << 14,         // mul.wide mad.wide: the result (and mad's c) has twice the width
  EMU_LEFT = 1 << 15,         // shf.l (without: shf.r)
  EMU_WRAP = 1 << 16,         // shf.wrap, szext.wrap, bmsk.wrap (without: clamp)
  EMU_SHIFTAMT = 1 << 17,     // bfind.shiftamt
  EMU_A_SIGNED = 1 << 18,     // dp4a, dp2a: type of a; slct takes its selector as s32 (else as f32)
  EMU_B_SIGNED = 1 << 19,     // dp4a, dp2a: type of b
  EMU_THREE = 1 << 20,        // min/max with three inputs (f32)
  EMU_IMM_SHIFT = 24          // bits 24..31: the truth table of lop3, the emu_prmt_mode of prmt
};
typedef enum emu_prmt_mode {
  EMU_PRMT_INDEX,
  EMU_PRMT_F4E,
  EMU_PRMT_B4E,
  EMU_PRMT_RC8,
  EMU_PRMT_ECL,
  EMU_PRMT_ECR,
  EMU_PRMT_RC16
} emu_prmt_mode;

// --- types ---------------------------------------------------------------------------------------------------------------------
emu_type emu_type_find(const char *spelling, size_t length);   // EMU_NOTYPE when it is none
const char *emu_type_name(emu_type t);
unsigned emu_type_bits(emu_type t);                            // of the whole value: f16x2 has 32
unsigned emu_type_elements(emu_type t);                        // 2 for packed types
bool emu_type_is_float(emu_type t);
bool emu_type_is_signed(emu_type t);                           // s8 … s64, s16x2

// --- row operations ------------------------------------------------------------------------------------------------------------
// Sources in s[0..3] in the order PTX writes them (unused ones may be NULL).
typedef void emu_row_fn(void *d, const void *const s[4], uint32_t mode);
const char *emu_op_name(emu_op op);
emu_op emu_op_find(const char *spelling, size_t length);       // EMU_OP_COUNT when it is none
unsigned emu_op_sources(emu_op op);

// The routine for `op` at instruction type `t`, or NULL when PTX has no such combination or it is not supported.
// `from` is the second type of cvt (the source type), of slct (.s32 or .f32, the selector c) and of add/sub/fma with mixed
// precision (add.f32.f16: the type of the narrow source); EMU_NOTYPE otherwise.
// Remarks: add sub (mul mad .lo/.hi/.wide) on integers incl. s16x2 u16x2; shl/shr take the amount as u32 (row of 32 bits),
// clamped at the width; popc, clz, bfind give u32 for 64-bit sources too; bfe: b, c u32; bfi: s = {field, base, start, length};
// prmt, lop3 (b32): see EMU_IMM_SHIFT; not, and, or, xor on b16 b32 b64 (predicates are masks, the caller's business).
// div.f32: EMU_APPROX, EMU_FULL or a rounding; sqrt, rcp: EMU_APPROX or a rounding; rsqrt, sin, cos, lg2, ex2, tanh: EMU_APPROX.
// cvt: one source for scalar types. Packed destinations (f16x2 from f32, e4m3x2 from f32, …): s[0] gives the upper half,
// s[1] the lower half. e4m3x2 from f16x2, f16x2 from e4m3x2 and the like: s[0] only.
emu_row_fn *emu_row(emu_op op, emu_type t, emu_type from, uint32_t mode);

// --- comparisons ---------------------------------------------------------------------------------------------------------------
typedef enum emu_cmp {
  EMU_EQ, EMU_NE, EMU_LT, EMU_LE, EMU_GT, EMU_GE, EMU_LO, EMU_LS, EMU_HI_CMP, EMU_HS,
  EMU_EQU, EMU_NEU, EMU_LTU, EMU_LEU, EMU_GTU, EMU_GEU, EMU_NUM, EMU_NAN_CMP, EMU_CMP_COUNT
} emu_cmp;
emu_cmp emu_cmp_find(const char *spelling, size_t length);     // "eq" … "nan"; EMU_CMP_COUNT when it is none
// Lane masks of `a cmp b`. Packed types (f16x2, bf16x2): the mask of the low halves, and of the high halves in *high.
// For scalar types *high is not written and may be NULL.
typedef uint32_t emu_cmp_fn(const void *a, const void *b, uint32_t mode, uint32_t *high);
emu_cmp_fn *emu_compare(emu_cmp cmp, emu_type t, uint32_t mode);
typedef enum emu_testp { EMU_FINITE, EMU_INFINITE, EMU_NUMBER, EMU_NOTANUMBER, EMU_NORMAL, EMU_SUBNORMAL } emu_testp;
uint32_t emu_testp_row(emu_testp what, emu_type t, const void *a);   // f32, f64

// set.cmp.dtype.stype: rows of 0 / all ones (integers) or 0 / 1.0 (f32, f16, bf16), from a lane mask; packed types take both.
void emu_set_row(emu_type dtype, void *d, uint32_t mask, uint32_t high);
// d = lane in mask ? a : b; wide: rows of 64 bits.
void emu_select_row(bool wide, void *d, const void *a, const void *b, uint32_t mask);

// --- carry chains (add.cc, addc, sub.cc, subc, mad.cc, madc): 32- or 64-bit rows -----------------------------------------------
// ---------------------------------------------------- *carry: one bit per lane, CC.CF. `in` uses it, `out` replaces it (all
// lanes; the caller blends inactive ones).
typedef struct emu_cc { bool in, out; } emu_cc;
void emu_add_cc_row(bool wide, void *d, const void *a, const void *b, emu_cc cc, uint32_t *carry);
void emu_sub_cc_row(bool wide, void *d, const void *a, const void *b, emu_cc cc, uint32_t *carry);
// mad{.hi,.lo}{.cc}, madc: t = u32, s32, u64, s64; hi selects the upper half of the product.
void emu_mad_cc_row(emu_type t, bool hi, void *d, const void *a, const void *b, const void *c, emu_cc cc, uint32_t *carry);

// --- warp helpers: `members` is the mask of participating lanes ----------------------------------------------------------------
typedef enum emu_shfl { EMU_SHFL_UP, EMU_SHFL_DOWN, EMU_SHFL_BFLY, EMU_SHFL_IDX } emu_shfl;
// Source lane of `lane` for shfl.sync with lane operand b and clamp/segment operand c; *in_range is the predicate result.
unsigned emu_shfl_source(emu_shfl kind, unsigned lane, uint32_t b, uint32_t c, bool *in_range);
uint32_t emu_match_any(const void *a, bool wide, uint32_t members, unsigned lane);   // lanes of `members` with lane's value
uint32_t emu_match_all(const void *a, bool wide, uint32_t members, bool *all);       // members or 0
// redux.sync over members: op among ADD MIN MAX AND OR XOR; t u32, s32, b32; f32 min/max (mode: EMU_ABS, EMU_NAN).
uint32_t emu_redux(emu_op op, emu_type t, uint32_t mode, const uint32_t *a, uint32_t members);

// --- scalars (what atomics, folding and tests use) -----------------------------------------------------------------------------
// ------------------------------------------------------------------------------ One lane of emu_row: sources and result in the
// low bits. `ok` is false when the combination is not supported.
uint64_t emu_scalar(emu_op op, emu_type t, emu_type from, uint32_t mode, const uint64_t s[4], bool *ok);

uint32_t emu_f32_add(uint32_t a, uint32_t b, uint32_t mode);
uint32_t emu_f32_sub(uint32_t a, uint32_t b, uint32_t mode);
uint32_t emu_f32_mul(uint32_t a, uint32_t b, uint32_t mode);
uint32_t emu_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t mode);
uint32_t emu_f32_div(uint32_t a, uint32_t b, uint32_t mode);
uint32_t emu_f32_sqrt(uint32_t a, uint32_t mode);
uint32_t emu_f32_min(uint32_t a, uint32_t b, uint32_t mode);
uint32_t emu_f32_max(uint32_t a, uint32_t b, uint32_t mode);
uint64_t emu_f64_add(uint64_t a, uint64_t b, uint32_t mode);
uint64_t emu_f64_sub(uint64_t a, uint64_t b, uint32_t mode);
uint64_t emu_f64_mul(uint64_t a, uint64_t b, uint32_t mode);
uint64_t emu_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t mode);
uint64_t emu_f64_div(uint64_t a, uint64_t b, uint32_t mode);
uint64_t emu_f64_sqrt(uint64_t a, uint32_t mode);
uint64_t emu_f64_min(uint64_t a, uint64_t b, uint32_t mode);
uint64_t emu_f64_max(uint64_t a, uint64_t b, uint32_t mode);
// Halves: t is EMU_F16 or EMU_BF16; .rn only.
uint16_t emu_half_add(emu_type t, uint16_t a, uint16_t b, uint32_t mode);
uint16_t emu_half_sub(emu_type t, uint16_t a, uint16_t b, uint32_t mode);
uint16_t emu_half_mul(emu_type t, uint16_t a, uint16_t b, uint32_t mode);
uint16_t emu_half_fma(emu_type t, uint16_t a, uint16_t b, uint16_t c, uint32_t mode);
uint16_t emu_half_min(emu_type t, uint16_t a, uint16_t b, uint32_t mode);
uint16_t emu_half_max(emu_type t, uint16_t a, uint16_t b, uint32_t mode);
uint32_t emu_half_to_f32(emu_type t, uint16_t a);                    // exact
uint16_t emu_f32_to_half(emu_type t, uint32_t a, uint32_t mode);     // RN or RZ, SATFINITE, RELU, FTZ

// MUFU, bit-accurate after the coefficient tables; mode: EMU_FTZ or 0.
uint32_t emu_mufu_rcp(uint32_t a, uint32_t mode);
uint32_t emu_mufu_sqrt(uint32_t a, uint32_t mode);
uint32_t emu_mufu_rsqrt(uint32_t a, uint32_t mode);
uint32_t emu_mufu_sin(uint32_t a, uint32_t mode);
uint32_t emu_mufu_cos(uint32_t a, uint32_t mode);
uint32_t emu_mufu_lg2(uint32_t a, uint32_t mode);
uint32_t emu_mufu_ex2(uint32_t a, uint32_t mode);
uint32_t emu_mufu_tanh(uint32_t a, uint32_t mode);

#endif
