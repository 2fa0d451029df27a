// Matrix instructions of PTX as pure functions: fragment maps of mma, wmma, ldmatrix, stmatrix, movmatrix, and the products,
// bit-accurate per GPU generation (mma.def declares every shape; the maps are derived from the shape and the type).
//
// Fragments are given as arrays of row pointers (see arith.h): fragment register r of the warp is rows[r], uint32_t[32], or
// uint64_t[32] for f64. d may be the same rows as c.
#ifndef TESSERA_EMULATOR_ARITH_MMA_H
#define TESSERA_EMULATOR_ARITH_MMA_H
#include "emulator/arith.h"

// Which fused sum an instruction computes (how many fraction bits survive alignment, and whether k is split).
typedef enum emu_gen { EMU_VOLTA, EMU_TURING, EMU_AMPERE, EMU_ADA, EMU_HOPPER, EMU_BLACKWELL, EMU_GEN_COUNT } emu_gen;
emu_gen emu_gen_of_sm(unsigned sm);  // 75 → Turing, 80 86 87 → Ampere, 89 → Ada, 90 → Hopper, 100… → Blackwell

typedef enum emu_mma_op { EMU_MMA_MULADD, EMU_MMA_XOR_POPC, EMU_MMA_AND_POPC } emu_mma_op;
typedef enum emu_layout { EMU_ROW, EMU_COL } emu_layout;
typedef enum emu_operand { EMU_FRAG_A, EMU_FRAG_B, EMU_FRAG_C } emu_operand;   // C stands for D too

#define EMU_MMA_MAX_REGS 16

// One legal (shape, types) of mma.sync or wmma.mma.
typedef struct emu_mma_desc {
  bool wmma;
  uint8_t m, n;
  uint16_t k;
  emu_type dtype, atype, btype, ctype;
  emu_mma_op op;
  uint16_t min_sm;                                         // first target with the instruction
} emu_mma_desc;

// NULL when there is none. mma.sync takes row.col, except f16 m8n8k4, whose layouts go to emu_mma.
const emu_mma_desc *emu_mma_find(bool wmma, unsigned m, unsigned n, unsigned k, emu_type d, emu_type a, emu_type b, emu_type c,
                                 emu_mma_op op);
// Registers per lane of A, B, and of C or D (`t`: ctype or dtype; f64: 64-bit registers). At most EMU_MMA_MAX_REGS.
unsigned emu_mma_registers(const emu_mma_desc *desc, emu_operand which, emu_type t);
const emu_mma_desc *emu_mma_table(size_t *count);         // every entry, for listings and tests

// Element i of a lane in mma m8n8k4 f16 (0..3 of A and B, 0..7 of C; wide: f32). It is four independent products, one per lanes
// {4p..4p+3, 16+4p..16+4p+3}: rows of A and C and columns of B carry 8p.
void emu_quad_pair_coord(emu_operand which, emu_layout layout, bool wide, unsigned lane, unsigned i, unsigned *row,
                         unsigned *col);

// d = a*b + c. flags: EMU_SATFINITE (integers), 0. la, lb matter for f16 mma m8n8k4 only (else EMU_ROW, EMU_COL).
void emu_mma(const emu_mma_desc *desc, emu_gen gen, uint32_t flags, emu_layout la, emu_layout lb, void *const *d,
             const void *const *a, const void *const *b, const void *const *c);

// Where element `e` of register `reg` of `lane` sits in the matrix: A is m x k, B is k x n, C and D are m x n. Elements are
// counted from the low bits; their number per register is emu_frag_elements. wmma fragments of f16 hold duplicates.
unsigned emu_frag_elements(const emu_mma_desc *desc, emu_operand which, emu_type t);
void emu_frag_coord(const emu_mma_desc *desc, emu_operand which, emu_type t, unsigned lane, unsigned reg, unsigned e,
                    unsigned *row, unsigned *col);

// wmma.load and wmma.store do not name all types: the fragment of `which` with element type `t` in shape m n k, or NULL.
const emu_mma_desc *emu_wmma_fragment(unsigned m, unsigned n, unsigned k, emu_operand which, emu_type t, unsigned *regs);

// ldmatrix/stmatrix .m8n8.b16: matrix i takes its 8 row addresses (16 bytes each) from lanes 8i … 8i+7. Register i of `lane`
// holds the two elements at (row, 2*(lane%4)) without .trans.  For half h of the register: which row (0..7) and 16-bit column
// (0..7) of matrix i it is.
void emu_ldmatrix_coord(bool trans, unsigned lane, unsigned h, unsigned *row, unsigned *col);
// movmatrix.sync.aligned.m8n8.trans.b16
void emu_movmatrix_row(uint32_t *d, const uint32_t *a);

#endif
