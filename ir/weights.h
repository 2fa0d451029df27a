// Weights: where the bytes of a constant tensor come from, and repacking: laying one field of an encoding out anew.
//
// A weight names its source (mapped file bytes, random numbers from a seed, several weights joined along their rows, or another
// weight quantized) and never copies it. A *repack* is an expression over weights: which part of the encoding, as which element
// type, at which digits. It is evaluated when the artifact is written, one at a time. This is "quantization layout reordering":
// codes stay integers on the way.
#ifndef TESSERA_IR_WEIGHTS_H
#define TESSERA_IR_WEIGHTS_H

#include "ir/encoding.h"

typedef enum ir_source {
  IR_SOURCE_DATA,       // planes[]: borrowed, they outlive the weight
  IR_SOURCE_RANDOM,     // seed and name give the bytes: values of variance about 1 / k; around 1 for vectors
  IR_SOURCE_JOIN,       // parts: same encoding and k, rows one after the other; also slices and orders (one part)
  IR_SOURCE_CONCAT,     // parts: plain vectors, end to end
  IR_SOURCE_QUANTIZE,   // parts[0], decoded and encoded anew by round to nearest
} ir_source;

typedef struct ir_weight ir_weight;
struct ir_weight {
  ts_sym name;
  ts_loc loc;                      // in the file, for diagnostics
  unsigned rank;
  int64_t shape[IR_MAX_RANK];      // logical; the last axis is k
  const ir_encoding *encoding;
  ir_source source;
  const void *planes[IR_MAX_PLANES];
  ir_bound bound;                  // the encoding bound to `shape`
  int64_t row0;                    // JOIN: logical row i is row row0 + (row_order ? row_order[i] : i) of the joined parts
  const int64_t *row_order;        // or NULL
  uint64_t seed;
  const ir_weight *const *parts;
  unsigned part_count;
};

int64_t ir_weight_rows(const ir_weight *w);   // product of all axes but the last
int64_t ir_weight_k(const ir_weight *w);

// Weights over a buffer laid out as ir_bound says (planes at plane_offset), or over separate planes (other people's checkpoints
// hold codes, scales and zeros in tensors of their own). `sizes` are the bytes there are, checked against what the shape needs.
ts_status ir_weight_of_data(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, const void *data, size_t size,
                            ts_loc loc, ts_diags *d, ir_weight **out);
ts_status ir_weight_of_planes(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, const void *const *planes,
                              const size_t *sizes, ts_loc loc, ts_diags *d, ir_weight **out);
ts_status ir_weight_random(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, uint64_t seed, ts_loc loc,
                           ts_diags *d, ir_weight **out);
// Rows lo .. hi-1 of the first axis (a view). Refused where a field is shared by rows on both sides of a cut.
ts_status ir_weight_slice(ts_arena *a, const ir_weight *w, int64_t lo, int64_t hi, ts_loc loc, ts_diags *d, ir_weight **out);
// Logical row i is row order[i] of `w` (a permutation of its rows; the array is copied).
ts_status ir_weight_reorder(ts_arena *a, const ir_weight *w, const int64_t *order, int64_t count, ts_loc loc, ts_diags *d, ir_weight **out);
// All parts joined along the first axis (vectors: plain ones of whole bytes).
ts_status ir_weight_join(ts_arena *a, ts_sym name, const ir_weight *const *parts, unsigned count, ts_loc loc, ts_diags *d, ir_weight **out);
ts_status ir_weight_quantize(ts_arena *a, const ir_weight *w, const ir_encoding *e, ts_loc loc, ts_diags *d, ir_weight **out);

// Content: XXH3-64 over encoding, shape and the stored bytes of the logical rows, the same for the same content whatever the source.
ts_status ir_weight_hash(const ir_weight *w, ts_diags *d, uint64_t *out);
// Values of logical rows [row0, row0 + rows), rounded once to f32 (or f64).
ts_status ir_weight_decode_f32(const ir_weight *w, int64_t row0, int64_t rows, ts_diags *d, float *out);
ts_status ir_weight_decode_f64(const ir_weight *w, int64_t row0, int64_t rows, ts_diags *d, double *out);

// ---- repacking ----------------------------------------------------------------------------------------------------------------

// What is laid out. An element of a part is (n, k): indices of the field's own matrix, [ceil(rows / per_n), ceil(k / per_k)]; CODE
// and VALUE have one per tensor element; SCALE and OFFSET one per row and group (ir_bound_group()).
typedef enum ir_what {
  IR_WHAT_FIELD,    // `field` as it is stored, plus `add` (integers) or rounded to `as` (floats)
  IR_WHAT_CODE,     // codes minus bias; codebooks and float codes: their value
  IR_WHAT_SCALE,    // product of the scale tiers, rounded once to `as`
  IR_WHAT_OFFSET,   // value = code * scale + offset: +min, -min, -(zero * scale); 0 where the formula has none
  IR_WHAT_VALUE,    // decoded, rounded once to `as`
} ir_what;

typedef struct ir_repack {
  ir_what what;
  unsigned field;         // of FIELD
  ir_dtype as;            // element type written
  unsigned bits;          // 0: the width of `as`, and integers must fit (checked). Else integers give so many low bits, unchecked
  unsigned shift;         // FIELD and CODE, integers: drop so many low bits first (a 5-bit code as 4 + 1 bits: two repacks)
  int64_t add;            // FIELD and CODE, integers: added first (a signed code made unsigned)
  int64_t base;           // bit where element (0, 0) lies
  unsigned digits;
  ir_stride digit[16];    // see ir_repack_pack() for strides of a dense list. radix is never 0
  int64_t bytes;          // of the whole output; what no element covers is zero
} ir_repack;

// The domain of a repack: rows and columns of the part. For sizing digits.
void ir_repack_domain(const ir_weight *w, const ir_repack *r, int64_t *rows, int64_t *cols);
// Fills strides of a dense digit list (outermost first, radix 0 = what is left of the axis), base 0 and bytes. Digits may cover more
// than the domain (padding), never less, and each part of an axis at most once.
ts_status ir_repack_pack(const ir_weight *w, ir_repack *r, const ir_digit *list, unsigned count, ts_loc loc, ts_diags *d);
// Checks digits against the domain: they cover it, no two elements share a bit, everything lies inside `bytes`.
ts_status ir_repack_check(const ir_weight *w, const ir_repack *r, ts_loc loc, ts_diags *d);
// Writes the elements into `out` (r->bytes long). Bits that belong to no element are left alone, so that several repacks can fill
// one buffer; the caller starts with zeros: bits of elements must be zero before.
ts_status ir_weight_repack(const ir_weight *w, const ir_repack *r, ts_diags *d, void *out);
// Content hash of the expression (weight and digits): equal expressions share bytes.
ts_status ir_repack_hash(const ir_weight *w, const ir_repack *r, ts_diags *d, uint64_t *out);

#endif
