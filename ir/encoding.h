// Encodings: how the logical values of a tensor are stored.
//
// An encoding is a set of *fields* (codes, scale tiers, zeros, minima) and a *formula* that makes a value of them. A field says
// how many bits one of its elements has, how they read, how many rows and columns share one element, and where its bits lie.
// Rows of the table encodings.def and encodings built by ir_encoding_make() are the same struct: nobody may ask for a name.
//
// A tensor is seen as a matrix [rows, k]: `k` is its last axis, the other axes are folded into rows. Storage is one of
//   records   the row is cut into records of `record` elements, each `record_bytes` long, rows one after the other (GGUF);
//   planes    every field is a matrix of its own [ceil(rows / per_n), ceil(k / per_k)] at the digits of a layout (AutoAWQ, ours).
// ir_encoding_bind() fits an encoding to a shape and turns both into one form, the *view*: the bits of field element (i, j) lie at
//   at + sum over digits of ((axis index / divisor) % radix) * stride        (in bits, from the start of the field's plane).
//
// What a value is. The formula is evaluated exactly and rounded once, to the logical type that the reader asks for. Products of
// scale tiers and codes are exact in f32 for every encoding that ir_encoding_verify() accepts, except the last multiplication or
// addition; so one f32 operation per element after the tiers (a product, or an fma) gives precisely that.
#ifndef TESSERA_IR_ENCODING_H
#define TESSERA_IR_ENCODING_H

#include "base/diag.h"
#include "ir/dtype.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "ir/encoding_diag.def"
#undef TS_DIAG

enum {
  IR_MAX_RANK = 8,
  IR_MAX_FIELDS = 8,
  IR_MAX_PIECES = 4,
  IR_MAX_PLANES = 4,
  IR_MAX_VIEW_DIGITS = 12,
  IR_PLANE_ALIGNMENT = 64,   // planes of one tensor in one buffer start at multiples of this
};

// The formula is also the kind of zero point. `code` is what ir_field says: an integer minus its bias, a narrow float, or the
// entry of a codebook. `scale` and `min` are products of all fields of that role (tiers).
typedef enum ir_formula {
#define IR_FORMULA(id, text) IR_FORMULA_##id,
#include "ir/encodings.def"
#undef IR_FORMULA
  IR_FORMULA_COUNT
} ir_formula;

typedef enum ir_role { IR_ROLE_CODE, IR_ROLE_SCALE, IR_ROLE_ZERO, IR_ROLE_MIN } ir_role;

// What becomes of a row whose length is no multiple of the group (or record).
typedef enum ir_tail {
  IR_TAIL_REFUSE,   // binding fails
  IR_TAIL_SHORT,    // the last group has fewer elements; records are still stored whole, filled with zero bits
  IR_TAIL_PAD,      // rows of the code plane are stored up to the multiple, filled with codes of value zero
} ir_tail;

// A digit of an axis index: (index / divisor) % radix. Radix 0: all that is left of the axis. Axis 0 is the row, axis 1 the column
// of the *field* (element number / per_k).
typedef struct ir_digit {
  uint8_t axis;
  int64_t divisor, radix;
} ir_digit;

typedef struct ir_stride {
  uint8_t axis;
  int64_t divisor, radix, stride;   // stride in bits
} ir_stride;

// Some bits of a field in a record: element e (first <= e < first + count; count 0: all) holds value bits lo .. lo+bits-1 at bit
// `at` + sum of ((e / divisor) % radix) * stride of the record. divisor * radix divides the number of elements; axis is 1.
typedef struct ir_piece {
  uint16_t first, count;
  uint8_t lo, bits;
  uint32_t at;
  ir_stride digit[4];      // ends at radix 0
} ir_piece;

typedef struct ir_field {
  const char *name;
  ir_role role;
  ir_dtype type;            // an integer type: `bits` bits, sign extended when signed; a float type: bits == its width
  uint8_t bits;             // 1 .. 64; codes have a number of bits, not a dtype (3-bit codes are {u8 or i8, bits 3})
  int32_t bias;             // subtracted from the integer (q4_0: 8)
  int64_t per_n, per_k;     // rows and elements that share one field element; 0: all of the axis
  const double *table;      // codebook of 2^bits entries (codes only), or NULL
  uint8_t plane;            // where it lies: 0 .. planes-1 (records: 0)
  uint8_t pieces, layout_digits;
  const ir_piece *piece;    // in records
  const ir_digit *layout;   // in planes: outermost digit first, the last one counts elements side by side; none: [n, k] with
                            // rows padded to whole bytes
} ir_field;

typedef struct ir_encoding {
  const char *name;         // of the table, or the canonical name of a made one
  const char *doc;          // one sentence
  ir_formula formula;
  ir_dtype value;           // logical type the values were meant for: the dtype itself when plain, else f32
  uint32_t record, record_bytes;   // 0: planes
  ir_tail tail;
  uint8_t planes, fields;
  const ir_field *field;    // fields[0] is the codes; scale tiers in order, outermost first
} ir_encoding;

// ---- finding and making -------------------------------------------------------------------------------------------------------

// A further table beside the built-in one (tests, specs). Looked at first.
typedef struct ir_encoding_list {
  const ir_encoding *const *list;
  size_t count;
} ir_encoding_list;

// By name: a row of a table, or an instance of the affine family
//   (int|uint|min|sub)BITS_(gN|row|token|channel|tensor)[_f32|_f16|_bf16][_pad|_refuse][_LAYOUT]
// int: signed code * scale; uint: (code - zero) * scale, zero in the code's own type; min: code * scale + min; sub: code * scale
// - min. Scales are f16 unless named. NULL when there is none. `extra` may be NULL; made encodings live in the arena.
const ir_encoding *ir_encoding_find(ts_arena *a, const ir_encoding_list *extra, ts_str name);
// find, with a diagnostic and a suggestion.
ts_status ir_encoding_of_name(ts_arena *a, const ir_encoding_list *extra, ts_str name, ts_loc loc, ts_diags *d, const ir_encoding **out);
const ir_encoding *ir_encoding_plain(ir_dtype t);            // the plain encoding of a type; NULL for IR_VOID
size_t ir_encoding_count(void);                              // rows of the built-in table
const ir_encoding *ir_encoding_at(size_t i);

// Parameters of the affine family (a spec's `encodings:` section).
// Published layouts by name (awq_gemm, awq_gemv, awq_gemv_fast): digit lists of codes, scales and zeros.
typedef struct ir_digit_list {
  const ir_digit *digit;
  uint8_t count;
} ir_digit_list;
typedef struct ir_named_layout {
  const char *name;
  ir_digit_list list[3];
} ir_named_layout;
const ir_named_layout *ir_named_layout_find(ts_str name);    // NULL when unknown

typedef struct ir_affine {
  const char *name;             // NULL: a description
  ir_formula formula;
  ir_dtype code;
  uint8_t code_bits;            // 0: the type's
  int32_t bias;
  const double *table;          // codebook or NULL
  ir_dtype scale, zero;         // zero: type of the zero or min; IR_VOID where the formula has none
  int64_t scale_per[2], zero_per[2];   // [rows, elements] that share one; 0: all of them
  ir_tail tail;
  ir_digit_list layout[3];      // of codes, scales, zeros; empty: row-major
} ir_affine;
ts_status ir_encoding_make(ts_arena *a, const ir_affine *p, ts_loc loc, ts_diags *d, const ir_encoding **out);

// Every bit of every field once, inside the record, nothing overlapping; roles as the formula needs; tiers exact in f32.
ts_status ir_encoding_verify(const ir_encoding *e, ts_loc loc, ts_diags *d);
bool ir_encoding_equal(const ir_encoding *a, const ir_encoding *b);   // same storage and same values (names do not count)
static inline bool ir_encoding_is_plain(const ir_encoding *e) { return e->formula == IR_FORMULA_PLAIN; }
const char *ir_formula_text(ir_formula f);                   // "(code - zero) * scale"
const char *ir_formula_name(ir_formula f);                   // "ZERO", as in IR_FORMULA_ZERO
ir_formula ir_formula_of_text(ts_str text);                  // by either, blanks do not count; IR_FORMULA_COUNT when unknown
void ir_encoding_print(const ir_encoding *e, ts_text *out);  // a line for people: fields, formula, bits per value
void ir_encodings_doc(ts_text *out);                         // the table as a Markdown table
// Number of a field of this role (the `nth`, from 0), or -1.
int ir_encoding_field(const ir_encoding *e, ir_role role, unsigned nth);

// ---- the decode recipe -------------------------------------------------------------------------------------------------------

// The formula as single steps on one element; operands are numbers of earlier steps; the last step is the value. Integer steps
// give i32, float steps the type the consumer computes in (f32 is exact, see above).
typedef enum ir_step_op {
  IR_STEP_FIELD,      // element of `field`: an integer (bias not yet subtracted) or a float
  IR_STEP_SUB_CONST,  // a - value, integer
  IR_STEP_SUB,        // a - b, integer
  IR_STEP_LOOKUP,     // table[a], float
  IR_STEP_FLOAT,      // integer a as a float
  IR_STEP_MUL,        // a * b, float
  IR_STEP_NEG,        // -a, float
  IR_STEP_FMA,        // a * b + c with one rounding
} ir_step_op;
typedef struct ir_step {
  ir_step_op op;
  int8_t a, b, c;
  uint8_t field;
  int32_t value;
  const double *table;
} ir_step;
enum { IR_MAX_STEPS = 24 };
unsigned ir_encoding_recipe(const ir_encoding *e, ir_step out[IR_MAX_STEPS]);

// ---- bound to a shape ---------------------------------------------------------------------------------------------------------

typedef struct ir_view_piece {
  int64_t first, count, modulus;   // applies to columns j with first <= j % modulus < first + count; modulus 0: to all
  uint8_t lo, bits, digits;
  int64_t at;
  ir_stride digit[IR_MAX_VIEW_DIGITS];
} ir_view_piece;

typedef struct ir_view {           // of one field
  int64_t rows, cols;              // elements of the field
  int64_t per_n, per_k;            // resolved: never 0
  uint8_t pieces, plane;
  ir_view_piece piece[IR_MAX_PIECES];
} ir_view;

typedef struct ir_bound {
  const ir_encoding *enc;
  int64_t rows, k;                 // of the tensor
  int64_t stored_k;                // with tails padded
  int64_t plane_bytes[IR_MAX_PLANES], plane_offset[IR_MAX_PLANES];
  int64_t bytes;                   // all planes in one buffer, each at plane_offset
  ir_view view[IR_MAX_FIELDS];
} ir_bound;

// Checks the shape (sizes >= 0, products, tail rule) and computes sizes and views. Rank 0 is one row of one element.
ts_status ir_encoding_bind(const ir_encoding *e, unsigned rank, const int64_t *shape, ts_loc loc, ts_diags *d, ir_bound *out);
// Size alone; false on overflow or where binding would fail.
bool ir_encoding_tensor_bytes(const ir_encoding *e, unsigned rank, const int64_t *shape, int64_t *bytes);
// The planes of a tensor that lies in one buffer of b->bytes.
void ir_planes_of(const ir_bound *b, const void *base, const void *planes[IR_MAX_PLANES]);

// One element of a field: raw bits, and as a value (bias not subtracted, codebook not applied).
uint64_t ir_field_bits(const ir_bound *b, const void *const *planes, unsigned field, int64_t i, int64_t j);
void ir_field_set_bits(const ir_bound *b, void *const *planes, unsigned field, int64_t i, int64_t j, uint64_t bits);
int64_t ir_field_int(const ir_field *f, uint64_t bits);      // of integer fields
double ir_field_value(const ir_field *f, uint64_t bits);     // integer minus bias, or the float, or the codebook's entry

// Whole rows of a field: a cursor holds the bit offset of every column, computed once. Fast for every storage. malloc'ed.
typedef struct ir_cursor {
  const ir_bound *bound;
  unsigned field;
  int64_t *columns[IR_MAX_PIECES];   // bit offset by column; -1: the piece has nothing of it
  bool within_byte[IR_MAX_PIECES];   // no element of the piece crosses a byte
} ir_cursor;
void ir_cursor_init(ir_cursor *c, const ir_bound *b, unsigned field);
void ir_cursor_deinit(ir_cursor *c);
void ir_cursor_read(const ir_cursor *c, const void *const *planes, int64_t i, uint64_t *out);     // raw bits of view.cols elements
void ir_cursor_write(const ir_cursor *c, void *const *planes, int64_t i, const uint64_t *bits);   // the storage must be zero before

// The oracle: values of rows row0 .. row0+rows-1, [rows, k], rounded once to the type of `out`.
void ir_decode_rows_f32(const ir_bound *b, const void *const *planes, int64_t row0, int64_t rows, float *out);
void ir_decode_rows_f64(const ir_bound *b, const void *const *planes, int64_t row0, int64_t rows, double *out);

// The same for callers that go row by row (the tables are made once). malloc'ed.
typedef struct ir_decoder {
  const ir_bound *b;
  const void *planes[IR_MAX_PLANES];
  ir_cursor cursor[IR_MAX_FIELDS];
  uint64_t *raw, *codes;   // of the row read last: any field's elements, the codes
  double *scale, *min;     // of the row read last, by group: products of tiers, as the formula adds it (zeros: the zero)
  int64_t group, groups;   // group: ir_bound_group()
  double *lut;             // value of every code; NULL for wide and small plain tensors
} ir_decoder;
void ir_decoder_init(ir_decoder *r, const ir_bound *b, const void *const *planes);
void ir_decoder_deinit(ir_decoder *r);
void ir_decoder_read(ir_decoder *r, int64_t row);               // fills codes, scale, min
void ir_decoder_f32(ir_decoder *r, int64_t row, float *out);    // [k]
void ir_decoder_f64(ir_decoder *r, int64_t row, double *out);   // [k]
// value = code * scale + offset, the parts of group `g` of the row read last: offset is +min, -min or -(zero * scale).
double ir_decoder_offset(const ir_decoder *r, int64_t g);
// The largest run of elements that share all scales, zeros and minima; k when there are none.
int64_t ir_bound_group(const ir_bound *b);

// Round to nearest (half to even), per group: scale (and zero, min) from the group's range, rounded to their stored type before the
// codes are computed from them. Ranges contain 0 for integer zeros; a group of zeros has scale 1 and codes of value 0; the range
// is at least 1e-5 with an integer zero. Scales that overflow their type and values that are not finite are refused with their
// place. Encodings with more than one scale tier are refused (`ir_encoding_can_encode`). `out` planes are overwritten whole rows
// at a time: row0 is a multiple of every per_n, and so is `rows` unless it reaches the end; padding bits become zero.
bool ir_encoding_can_encode(const ir_encoding *e);
ts_status ir_encode_rows(const ir_bound *b, const float *values, int64_t row0, int64_t rows, void *const *out, ts_loc loc, ts_diags *d);

#endif
