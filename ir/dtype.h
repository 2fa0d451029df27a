// Element types of the IR (dtypes.def) and their arithmetic in plain C.
//
// A value of any type travels through the reference code as a double (floats) or an int64 (integers; u64 as its bits). Every
// rounding to a narrower float goes through ir_round(): round to nearest even, overflow to infinity (f8e4m3 and f4e2m1 have none:
// they saturate), NaN kept.
#ifndef TESSERA_IR_DTYPE_H
#define TESSERA_IR_DTYPE_H

#include "base/str.h"

typedef enum ir_dtype {
  IR_VOID,
#define IR_DTYPE(id, bits, class, code) IR_##id,
#include "ir/dtypes.def"
#undef IR_DTYPE
  IR_DTYPE_COUNT
} ir_dtype;

typedef enum ir_dtype_class { IR_CLASS_NONE, IR_CLASS_FLOAT, IR_CLASS_SINT, IR_CLASS_UINT } ir_dtype_class;

typedef struct ir_dtype_info {
  const char *name;
  unsigned bits;
  ir_dtype_class kind;
  unsigned code;   // number in artifacts
} ir_dtype_info;

const ir_dtype_info *ir_dtype_get(ir_dtype t);            // any t below IR_DTYPE_COUNT; IR_VOID is {"void"}
ir_dtype ir_dtype_of_name(ts_str name);                   // IR_VOID when unknown
ir_dtype ir_dtype_of_code(unsigned code);                 // IR_VOID when unknown
static inline const char *ir_dtype_name(ir_dtype t) { return ir_dtype_get(t)->name; }
static inline unsigned ir_dtype_bits(ir_dtype t) { return ir_dtype_get(t)->bits; }
static inline bool ir_is_float(ir_dtype t) { return ir_dtype_get(t)->kind == IR_CLASS_FLOAT; }
static inline bool ir_is_int(ir_dtype t) { return ir_dtype_get(t)->kind >= IR_CLASS_SINT; }
static inline bool ir_is_signed(ir_dtype t) { return ir_dtype_get(t)->kind == IR_CLASS_SINT; }

double ir_round(ir_dtype t, double v);                    // nearest value of float type t
int64_t ir_wrap(ir_dtype t, int64_t v);                   // v modulo 2^bits, as the type's sign says
// The smallest and largest value of an integer type narrower than u64.
int64_t ir_int_min(ir_dtype t);
int64_t ir_int_max(ir_dtype t);

// Bits of one element <-> value. `bits` holds the element in its low ir_dtype_bits(t) bits.
double ir_float_of_bits(ir_dtype t, uint64_t bits);
uint64_t ir_bits_of_float(ir_dtype t, double v);          // rounds
int64_t ir_int_of_bits(ir_dtype t, uint64_t bits);        // sign extends signed types
#endif
