// The built-in encodings (encodings.def and one plain encoding per dtype) and the named layouts; see encoding.h.
#include "ir/encoding.h"

#define TS_DIAG TS_DIAG_DEFINE
#include "ir/encoding_diag.def"
#undef TS_DIAG

static const double codebook_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

#define COUNT(type, ...) (sizeof((const type[]){__VA_ARGS__}) / sizeof(type))
#define NONE {0}
#define D(divisor, radix, stride) {1, divisor, radix, stride}
#define PIECE(first, count, lo, bits, at, ...) {first, count, lo, bits, at, {__VA_ARGS__}}
#define FIELD(name, role, type, bits, bias, per_k, table, ...)                                                   \
  {#name, IR_ROLE_##role, IR_##type, bits, bias, 1, per_k, table, 0, COUNT(ir_piece, __VA_ARGS__), 0,            \
   (const ir_piece[]){__VA_ARGS__}, NULL}
#define IR_ENCODING(name, doc, formula, record, bytes, ...)                                                       \
  static const ir_encoding row_##name = {#name, doc, IR_FORMULA_##formula, IR_f32, record, bytes,                 \
                                         IR_TAIL_REFUSE, 1, COUNT(ir_field, __VA_ARGS__),                         \
                                         (const ir_field[]){__VA_ARGS__}};
#include "ir/encodings.def"
#undef IR_ENCODING

#define IR_DTYPE(id, width, class, number)                                                                        \
  static const ir_encoding plain_##id = {#id, "Plain " #id ".", IR_FORMULA_PLAIN, IR_##id, 0, 0,                  \
                                         IR_TAIL_REFUSE, 1, 1,                                                    \
                                         (const ir_field[]){{"codes", IR_ROLE_CODE, IR_##id, width, 0, 1, 1}}};
#include "ir/dtypes.def"
#undef IR_DTYPE

static const ir_encoding *const table[] = {
#define IR_DTYPE(id, width, class, number) &plain_##id,
#include "ir/dtypes.def"
#undef IR_DTYPE
#define IR_ENCODING(name, ...) &row_##name,
#include "ir/encodings.def"
#undef IR_ENCODING
};

// The plain rows come first and in the order of the dtypes.
const ir_encoding *ir_encoding_plain(ir_dtype t) { return t > IR_VOID && t < IR_DTYPE_COUNT ? table[t - 1] : NULL; }
size_t ir_encoding_count(void) { return sizeof table / sizeof *table; }
const ir_encoding *ir_encoding_at(size_t i) { return table[i]; }

#define N(divisor, radix) {0, divisor, radix}
#define K(divisor, radix) {1, divisor, radix}
#define LIST(...) {(const ir_digit[]){__VA_ARGS__}, COUNT(ir_digit, __VA_ARGS__)}
#define IR_NAMED_LAYOUT(name, codes, scales, zeros) {#name, {codes, scales, zeros}},
static const ir_named_layout layouts[] = {
#include "ir/encodings.def"
};
#undef IR_NAMED_LAYOUT

const ir_named_layout *ir_named_layout_find(ts_str name) {
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
    if (ts_str_is(name, layouts[i].name)) return &layouts[i];
  return NULL;
}
