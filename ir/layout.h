// Layouts: where logical indices lie in storage.
//
// A layout maps storage coordinates, one per named *dimension* (reg, lane, warp; or pos, the number of a code in memory), to
// logical indices, one per named *axis* (m, n, k, b ...), or to a hole. It is a set of *digits*. A digit takes the positions
// stride * 0, stride * 1 ... stride * (radix - 1) of its dimension, and its value is the xor of its terms, a term being
// floor(index of axis / divisor) mod radix. One term is the plain case; no term is a replica; several need a radix 2^p.
//
// So a layout is a mixed-radix part (any radix, any stride) times a linear map over F2 (the bits of the power-of-two digits). It
// is proved injective when it is made: strides and divisors are superincreasing and the matrix of the bits is invertible. Every
// ir_layout in existence has passed that proof and is in canonical form. Layouts are immutable and live in the arena given.
// docs/layouts.md has the grammar of the text form and what each operation means.
#ifndef TESSERA_IR_LAYOUT_H
#define TESSERA_IR_LAYOUT_H

#include "base/diag.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "ir/layout_diag.def"
#undef TS_DIAG

enum {
  IR_LAYOUT_MAX_SPACES = 16,   // dimensions, and axes
  IR_LAYOUT_MAX_BITS = 64,     // power-of-two part: bits in storage, and logical bits
  IR_LAYOUT_MAX_ATOMS = 128,   // those and the odd factors
  IR_LAYOUT_MAX_TERMS = 16,    // of one xor
};
#define IR_LAYOUT_MAX_SIZE ((int64_t)1 << 60)   // of a dimension or axis

typedef struct ir_layout_space {   // a storage dimension or a logical axis
  const char *name;
  int64_t size;                    // coordinates are 0 .. size - 1. Given as 0 to ir_layout_make(): what the digits take
} ir_layout_space;

typedef struct ir_layout_term {
  uint32_t axis;
  int64_t divisor;
} ir_layout_term;

typedef struct ir_layout_digit {
  uint32_t dim;
  int64_t stride, radix;
  uint32_t count;                  // of terms
  const ir_layout_term *terms;     // sorted by axis, divisor
} ir_layout_digit;

typedef struct ir_layout_bits ir_layout_bits;   // private: the digits broken up, and the matrix and its inverse

typedef struct ir_layout {
  uint32_t dim_count, axis_count, digit_count;
  const ir_layout_space *dims, *axes;
  const ir_layout_digit *digits;   // canonical: each as long as possible, sorted by dimension, then stride
  const ir_layout_bits *bits;
} ir_layout;

// Makes a layout from digits in any order and any state of subdivision; refuses (layout_overlap, layout_twice, layout_xor,
// layout_singular, layout_large) unless it is provably injective up to replicas. Inputs are copied.
ts_status ir_layout_make(ts_arena *a, const ir_layout_space *dims, uint32_t dim_count, const ir_layout_space *axes,
                         uint32_t axis_count, const ir_layout_digit *digits, uint32_t digit_count, ts_diags *d, ts_loc loc,
                         const ir_layout **out);

// Parses the text form. `axes` (may be NULL) gives sizes of axes that the text itself does not; sizes in the text win.
ts_status ir_layout_parse(ts_arena *a, ts_str text, const ir_layout_space *axes, uint32_t axis_count, ts_diags *d, ts_loc loc,
                          const ir_layout **out);
void ir_layout_print(const ir_layout *l, ts_text *out);          // canonical; parses back to an equal layout
void ir_layout_print_digits(const ir_layout *l, ts_text *out);   // without the sizes of axes: a published digit list

int ir_layout_dim(const ir_layout *l, const char *name);    // its number, or -1
int ir_layout_axis(const ir_layout *l, const char *name);
int64_t ir_layout_dim_size(const ir_layout *l, const char *name);   // 1 when it has no such dimension
int64_t ir_layout_axis_size(const ir_layout *l, const char *name);
int64_t ir_layout_positions(const ir_layout *l);            // product of the dimensions' sizes
int64_t ir_layout_replicas(const ir_layout *l);             // places per logical index

// Is there a place for every logical index? Otherwise layout_gap names the first one of an axis that has none.
ts_status ir_layout_verify(const ir_layout *l, ts_diags *d, ts_loc loc);
// index[axis] of the position at[dim]; false for a hole (then index is undefined).
bool ir_layout_apply(const ir_layout *l, const int64_t *at, int64_t *index);
// at[dim] of the logical index: the lowest replica, or replica number `replica` in mixed radix of the replica digits.
bool ir_layout_find(const ir_layout *l, const int64_t *index, int64_t *at);
bool ir_layout_find_replica(const ir_layout *l, const int64_t *index, int64_t replica, int64_t *at);

// The same map, names and sizes? The order of dimensions and axes does not count.
bool ir_layout_equal(const ir_layout *a, const ir_layout *b);
// Dimensions become axes and axes dimensions: maps a logical index to its lowest replica.
ts_status ir_layout_invert(ts_arena *a, const ir_layout *l, ts_diags *d, ts_loc loc, const ir_layout **out);
// First `l`, then `then`, whose dimensions are named like the axes of `l`.
ts_status ir_layout_compose(ts_arena *a, const ir_layout *l, const ir_layout *then, ts_diags *d, ts_loc loc,
                            const ir_layout **out);
// `inner` repeated as `outer` says: positions and indices are outer * size of inner + inner, by name; a name that only one of
// them has is kept.
ts_status ir_layout_product(ts_arena *a, const ir_layout *inner, const ir_layout *outer, ts_diags *d, ts_loc loc,
                            const ir_layout **out);
// The q with product(inner, q) = l, if there is one: exactly then an instruction whose operand lies as `inner` works on `l`.
ts_status ir_layout_divide(ts_arena *a, const ir_layout *l, const ir_layout *inner, ts_diags *d, ts_loc loc,
                           const ir_layout **out);
// Without an axis (as after reducing over it): the storage digits that told its indices apart hold replicas.
ts_status ir_layout_slice(ts_arena *a, const ir_layout *l, const char *axis, ts_diags *d, ts_loc loc, const ir_layout **out);
// Renames a dimension and/or an axis; a name that the layout doesn't have is refused.
ts_status ir_layout_rename_axis(ts_arena *a, const ir_layout *l, const char *from, const char *to, ts_diags *d, ts_loc loc,
                                const ir_layout **out);
ts_status ir_layout_rename_dim(ts_arena *a, const ir_layout *l, const char *from, const char *to, ts_diags *d, ts_loc loc,
                               const ir_layout **out);

// ---- what a layout costs ------------------------------------------------------------------------------------------------
// Register layouts have dimensions reg, lane, warp (any may be missing); memory layouts have one dimension, counted in elements.

typedef enum ir_convert_class {
  IR_CONVERT_NONE,        // the same place
  IR_CONVERT_REGISTERS,   // another register of the same lane
  IR_CONVERT_SHUFFLE,     // another lane of the same warp
  IR_CONVERT_PANEL,       // another warp: through shared memory
} ir_convert_class;
// What it takes to have in layout `to` a tile that lies in layout `from`. Both need the same axes (else IR_CONVERT_PANEL). Any
// replica of `from` may serve. Enumerates the positions of `to`.
ir_convert_class ir_layout_convert_class(const ir_layout *from, const ir_layout *to);

// The widest access, in bytes (a power of two up to 16), in which every lane moves consecutive registers to or from consecutive,
// aligned memory; 0 when an element is not whole bytes wide alone or in such a group, or an index has no place in memory.
int ir_layout_vector_width(const ir_layout *regs, const ir_layout *memory, unsigned element_bits);

typedef struct ir_access_cost {
  int64_t requests;     // instructions of one warp, over all warps
  int64_t wavefronts;   // shared memory: passes; global memory: not set
  int64_t conflicts;    // wavefronts above what the bytes need
  int64_t sectors;      // global memory: 32-byte sectors touched, per request, summed
  int64_t bytes;        // useful bytes
} ir_access_cost;
// Shared memory with 32 banks of 4 bytes, every lane moving `width` bytes (1 .. 16) per request. A request of 32 lanes is served
// in groups of 32, 16 or 8 lanes (width up to 4, 8, 16); a group takes as many wavefronts as the fullest bank has distinct
// words.
bool ir_layout_bank_conflicts(const ir_layout *regs, const ir_layout *memory, unsigned element_bits, int width,
                              ir_access_cost *out);
// Global memory, whose base is aligned to 32 bytes.
bool ir_layout_sectors(const ir_layout *regs, const ir_layout *memory, unsigned element_bits, int width, ir_access_cost *out);

// ---- instructions -------------------------------------------------------------------------------------------------------

typedef struct ir_fragment_row {
  const char *name;    // "m16n8k16.a"
  const char *text;    // its layout
} ir_fragment_row;
extern const ir_fragment_row ir_fragments[];   // fragments.def; ends with a NULL name
// The layout of an operand of an instruction, by name; NULL when there is none.
const ir_layout *ir_layout_fragment(ts_arena *a, const char *name);

typedef struct ir_layout_step {
  const char *axis;
  int64_t count;
} ir_layout_step;
// Derives the packed weight layout (dimension pos) that feeds `fragment` with one load per lane:
//   loads   what one load of a lane feeds beyond one fragment: the fragment is repeated `count` times along the axis, later steps
//           outside earlier ones; the codes of one load are the registers of that repeated fragment
//   unpack  dimension pos, axis reg: which register the code at place pos of a load becomes (NULL: in order)
//   tiles   how such blocks follow each other in memory, outermost first
ts_status ir_layout_weight(ts_arena *a, const ir_layout *fragment, const ir_layout_step *loads, uint32_t load_count,
                           const ir_layout *unpack, const ir_layout_step *tiles, uint32_t tile_count, ts_diags *d, ts_loc loc,
                           const ir_layout **out);

// ---- private to ir/layout*.c --------------------------------------------------------------------------------------------

typedef struct ir_layout_atom {
  uint32_t space;              // dimension or axis
  int64_t unit, radix;         // stride or divisor; radix 2 (a bit) or odd
  int bit;                     // number of the bit, or -1
  int mate;                    // odd factors: the atom of the other side, or -1 (replica)
} ir_layout_atom;

struct ir_layout_bits {
  uint32_t storage_count, logical_count;
  ir_layout_atom *storage, *logical;            // sorted by space, unit
  unsigned storage_bits, logical_bits;
  uint64_t to_storage[IR_LAYOUT_MAX_BITS];      // column of a logical bit: the storage bits it enters
  uint64_t to_logical[IR_LAYOUT_MAX_BITS];      // column of a storage bit (0: replica)
};

#endif
