// What the evaluator's files share. Private to ir/.
#ifndef TESSERA_IR_EVAL_PRIV_H
#define TESSERA_IR_EVAL_PRIV_H

#include "ir/encoding.h"
#include "ir/eval.h"

enum { EVAL_MAX_RANK = 32, EVAL_CHUNK = 256 };

// ---- scalars -------------------------------------------------------------------------------------------------------------
// Evaluates a function on n <= EVAL_CHUNK elements. `scratch` has fn->count * EVAL_CHUNK cells. NULL, or what is not allowed.
const char *eval_fn(ir_domain d, const ir_fn *fn, size_t n, const ir_cell *const *args, ir_cell *const *outs, ir_cell *scratch);
void eval_round(ir_domain d, ir_dtype t, size_t n, ir_cell *x);       // after arithmetic in wide cells
const char *eval_convert(ir_domain d, ir_dtype from, ir_dtype to, size_t n, const ir_cell *x, ir_cell *out);
ir_cell eval_add(ir_domain d, ir_dtype t, ir_cell a, ir_cell b);
ir_cell eval_fma(ir_domain d, ir_dtype t, ir_cell a, ir_cell b, ir_cell c);   // floats
int eval_order(ir_domain d, ir_dtype t, ir_cell a, ir_cell b);        // -1, 0, 1; NaN loses (counts as smallest)
ir_cell eval_exp2(ir_domain d, ir_dtype t, ir_cell x);
ir_cell eval_sub(ir_domain d, ir_dtype t, ir_cell a, ir_cell b);
ir_cell eval_zero(void);
ir_cell eval_minus_inf(ir_domain d);
int64_t eval_modp_signed(uint64_t v);
// c[M][N] += a[M][K] b[K][N], for `batch` of them; sums in order of k, each step rounded to `acc` (an fma). Types of a and b.
void eval_dot(ir_domain d, ir_dtype ta, ir_dtype tb, ir_dtype acc, int64_t batch, int64_t M, int64_t N, int64_t K, const ir_cell *a,
              const ir_cell *b, ir_cell *c);

// Codes, scale and sum of codes of one group (ideal, typed); top = 2^(bits-1) - 1.
void eval_encode_group(ir_domain d, int64_t n, const ir_cell *x, int64_t top, ir_cell *codes, ir_cell *scale, ir_cell *sum);

// ---- tiles ---------------------------------------------------------------------------------------------------------------
typedef struct eval_memory eval_memory;
typedef struct eval_tile {
  const ir_type *type;
  unsigned rank;
  int64_t shape[EVAL_MAX_RANK];
  size_t count, capacity;
  ir_cell *data;            // row-major; malloc'ed
  eval_memory *memory;      // of values of memory type
} eval_tile;

struct eval_memory {
  const ir_type *type;
  unsigned rank;
  int64_t shape[EVAL_MAX_RANK], stride[EVAL_MAX_RANK];   // in elements
  unsigned char *bytes;     // global memory
  size_t size;
  bool wide, writable;
  ir_bound bound;           // encoded
  double *decoded;          // encoded: all values, or one row
  int64_t decoded_row;      // -1: none; rows when all are there
  bool whole;
  ir_cell *cells;           // panel
  unsigned char *state;     // panel, by element: 0 never written, 1 written, 2 an async copy is on its way
  size_t count;
};

// Is it stored in another form than as plain elements of its own type?
static inline bool eval_encoded(const ir_type *t) {
  return t->encoding && !(ir_encoding_is_plain(t->encoding) && t->encoding->value == t->dtype);
}

typedef struct eval_pending {   // one element of an async copy
  eval_memory *to;
  int64_t at;
  ir_cell value;
} eval_pending;

typedef struct eval_kernel {
  ir_module *m;
  const ir_kernel *k;
  const ir_eval_options *o;
  ir_domain d;
  const ir_op *op;          // being evaluated
  eval_tile *slots;         // by ir_value.number
  size_t slot_count;
  int64_t block[3];
  eval_pending *pending;
  size_t pending_count, pending_capacity;
  size_t group[64];         // ends of committed groups in `pending`
  unsigned groups;
  ir_eval_raised *raised;
} eval_kernel;

ts_status eval_bad(eval_kernel *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline eval_tile *eval_slot(eval_kernel *e, const ir_value *v) { return &e->slots[v->number]; }
ts_status eval_size(eval_kernel *e, const ir_size *s, int64_t *out);
// Makes room for a value of the result's type and returns its slot.
ts_status eval_result(eval_kernel *e, const ir_value *v, eval_tile **out);
void eval_strides(const eval_tile *t, int64_t stride[EVAL_MAX_RANK]);
int eval_axis(const eval_tile *t, ts_sym axis);

// A list of axes with extents, and strides into a tile (0 where it has no such axis).
typedef struct eval_axes {
  unsigned rank;
  ts_sym name[EVAL_MAX_RANK];
  int64_t extent[EVAL_MAX_RANK];
} eval_axes;
bool eval_add_axis(eval_axes *a, ts_sym name, int64_t extent);
bool eval_add_axes(eval_axes *a, const eval_tile *t);
int eval_find_axis(const eval_axes *a, ts_sym name);
int64_t eval_volume(const eval_axes *a);
void eval_strides_over(const eval_axes *a, const eval_tile *t, int64_t stride[EVAL_MAX_RANK]);
// dst[...] = src[...] over a box.
void eval_copy(unsigned rank, const int64_t *shape, ir_cell *dst, const int64_t *dst_stride, const ir_cell *src, const int64_t *src_stride);
// The tile's elements in the order of the axes, broadcast; malloc'ed.
ts_status eval_gather(eval_kernel *e, const eval_axes *a, const eval_tile *t, ir_cell **out);
void eval_scatter(const eval_axes *a, const ir_cell *data, eval_tile *t);

// ---- tensors -------------------------------------------------------------------------------------------------------------
typedef struct ir_weight ir_weight;
typedef struct eval_tensor {
  ir_eval_tensor t;            // data NULL: not there (yet)
  size_t count;
  const ir_weight *weight;     // decoded when somebody needs it
  uint32_t uses;               // that are still to come
} eval_tensor;

typedef struct eval_call {
  ir_module *m;
  const ir_function *f;
  const ir_eval_call *call;
  ir_domain d;
  const ir_op *op;
  eval_tensor *slots;
  size_t slot_count;
  int64_t *symbols;
  size_t symbol_count;
  ir_eval_states *states;
} eval_call;

ts_status eval_call_bad(eval_call *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline eval_tensor *eval_tensor_of(eval_call *e, const ir_value *v) { return &e->slots[v->number]; }
ts_status eval_tensor_result(eval_call *e, const ir_op *op, eval_tensor **out);   // of the only result, uninitialised
ts_status eval_tensor_need(eval_call *e, const ir_value *v, eval_tensor **out);   // decodes a weight
// Rows [row0, row0 + rows) of a weight seen as [rows, k], as cells of type t.
ts_status eval_weight_rows(eval_call *e, const ir_weight *w, ir_dtype t, int64_t row0, int64_t rows, ir_cell *out);
// Valid positions of entry b along a ragged dim: its own length, else `extent`.
int64_t eval_length(const eval_call *e, ts_sym dim, int64_t b, int64_t extent);
int64_t eval_tensor_rows(const eval_tensor *t, unsigned from, unsigned to);       // product of extents
ts_status eval_state_op(eval_call *e, const ir_op *op, bool *known);              // eval_state.c: positions, append, attend
ts_status eval_states_advance(eval_call *e);
ts_status eval_dense_op(eval_call *e, const ir_op *op, bool *known);              // eval_dense.c
ts_status eval_shape_op(eval_call *e, const ir_op *op, bool *known);              // eval_function.c

// ---- ops of kernels ------------------------------------------------------------------------------------------------------
ts_status eval_values_op(eval_kernel *e, const ir_op *op, bool *known);   // eval_tile.c
ts_status eval_sums_op(eval_kernel *e, const ir_op *op, bool *known);     // eval_sums.c
ts_status eval_memory_op(eval_kernel *e, const ir_op *op, bool *known);   // eval_memory.c
void eval_memory_free(eval_memory *x);

#endif
