// Evaluators: the meaning of the IR in plain C, for all levels, in three domains (docs/ir.md).
//
//   ideal  floats are f64 and never rounded on the way: the reference
//   typed  every float is rounded to its IR type, as the program says
//   modp   floats are elements of the field of p = 2^61 - 1, so that sums may be taken in any order with equal results. A real number
//          is embedded as the fraction it is; unary functions are fixed pseudorandom functions, except exp2, which is s -> g^s (for
//          scores that are integers exp2(a + b) = exp2(a) exp2(b)). min and max order by the signed representative; comparisons
//          (other than equal, not equal) and conversions to integers are refused. -inf is kept as such; exp2(-inf) = 0.
//
// Integers, i1 and indices are integers in every domain. Errors are located diagnostics (diag_ir_eval). What may not be read
// (panel elements nobody wrote, or that an unfinished async copy writes) is an error; rows that an index map calls absent read
// as NaN (modp: as an arbitrary fixed element).
#ifndef TESSERA_IR_EVAL_H
#define TESSERA_IR_EVAL_H

#include "ir/ir.h"

typedef enum ir_domain { IR_DOMAIN_IDEAL, IR_DOMAIN_TYPED, IR_DOMAIN_MODP } ir_domain;

typedef union ir_cell {   // one element: floats r (ideal, typed) or p (modp), integers i
  double r;
  int64_t i;
  uint64_t p;
} ir_cell;

#define IR_MODP ((UINT64_C(1) << 61) - 1)
#define IR_MODP_MINUS_INF UINT64_MAX
uint64_t ir_modp_of_real(double v);        // finite, or -inf
uint64_t ir_modp_of_int(int64_t v);
uint64_t ir_modp_mul(uint64_t a, uint64_t b);
uint64_t ir_modp_add(uint64_t a, uint64_t b);
uint64_t ir_modp_inverse(uint64_t a);      // of 0: 0
uint64_t ir_modp_exp2(uint64_t s);         // g^s
uint64_t ir_modp_function(ir_scalar op, uint64_t x);   // the fixed pseudorandom function of a unary op
// A constant of type t in a domain (ideal: not rounded).
ir_cell ir_eval_real(ir_domain d, ir_dtype t, double v);

// ---- kernels -------------------------------------------------------------------------------------------------------------

// The memory of one parameter, as the kernel sees it: elements of the parameter's type by its shape (or strides), types narrower
// than a byte packed from the low bits up, encoded parameters as ir_encoding_bind() lays them out.
typedef struct ir_eval_buffer {
  void *data;
  size_t bytes;
  bool wide;   // float elements are ir_cell instead (of encoded parameters: their values, row-major). Needed for what is written in
               // modp; keeps ideal from rounding at stores
} ir_eval_buffer;

typedef struct ir_eval_options {
  ir_domain domain;
  uint64_t order;              // of the blocks of S kernels: 0 ascending, else a seed of a permutation
  const int64_t *symbols;      // value by symbol number (ir_size.index); IR_SIZE_UNBOUND where there is none
  size_t symbol_count;
} ir_eval_options;

typedef struct ir_eval_raised {   // the first `raise` that happened
  bool raised;
  int64_t code;
  ts_sym text;
} ir_eval_raised;

// Runs a verified kernel of either stage: all parts (P) or all blocks of the grid (S), one after the other. `buffers` follow the
// kernel's parameters. `raised` may be NULL.
ts_status ir_eval_kernel(ir_module *m, const ir_kernel *k, const ir_eval_buffer *buffers, size_t count, const ir_eval_options *o,
                         ir_eval_raised *raised);

// ---- tensor IR -----------------------------------------------------------------------------------------------------------

enum { IR_EVAL_RANK = 12 };
typedef struct ir_eval_tensor {
  ir_dtype dtype;
  unsigned rank;
  int64_t shape[IR_EVAL_RANK];
  ir_cell *data;               // row-major
} ir_eval_tensor;

// States between calls: for each entry of a state's list the rows appended so far.
typedef struct ir_eval_states ir_eval_states;
ir_eval_states *ir_eval_states_create(const ir_module *m, ir_domain d);   // all lists empty
void ir_eval_states_destroy(ir_eval_states *s);
int64_t ir_eval_states_length(const ir_eval_states *s, ts_sym state, int64_t entry);
void ir_eval_states_reset(ir_eval_states *s, int64_t entry);              // makes the lists of an entry empty; -1: all

typedef struct ir_eval_call {
  ir_domain domain;
  ir_eval_states *states;      // NULL: states are empty and forgotten afterwards
  // For each dim of the module its entries' own lengths when it is ragged, or NULL: all as long as the dim.
  const int64_t *const *lengths;
} ir_eval_call;

// Runs a verified function. Dims take their values from the shapes of the inputs. Outputs are allocated with malloc (free each
// data). States advance when all succeeded.
ts_status ir_eval_function(ir_module *m, const ir_function *f, const ir_eval_call *call, const ir_eval_tensor *inputs, size_t input_count,
                           ir_eval_tensor *outputs);

#endif
