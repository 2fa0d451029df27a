// Private to codegen/cuda: the state of printing one kernel as CUDA C++, and the helpers its files share.
#ifndef TESSERA_CODEGEN_CUDA_EMIT_H
#define TESSERA_CODEGEN_CUDA_EMIT_H

#include "base/map.h"
#include "codegen/cuda/cuda.h"
#include "ir/layout.h"

enum { CGC_RANK = 16, CGC_MAX_REGS = 1024, CGC_MAX_WARPS = 32 };

// How the elements of a tile lie in the registers of a block's threads. The element of register r in thread (lane, warp) has, on
// axis d, the coordinate off[d][r] + thread[d][32 * warp + lane].
typedef struct cgc_form {
  unsigned rank;
  ts_sym axis[CGC_RANK];
  int64_t extent[CGC_RANK];
  ir_dtype dtype;
  int regs, per, words;            // registers, how many share a 32-bit word, words (variables)
  int32_t *off[CGC_RANK];          // [regs]
  int32_t *thread[CGC_RANK];       // [32 * warps], NULL: 0 everywhere
  const char *lane[CGC_RANK], *warp[CGC_RANK];   // the thread's part as C expressions; NULL: 0
  int64_t divisor[CGC_RANK];       // power of two that divides the thread's part
  uint32_t lanes, warps;           // owners: of the threads that hold the same elements the first
} cgc_form;

typedef struct cgc_tile {
  const cgc_form *form;
  const char **v;                  // [words] C expressions without side effects (names or constants)
} cgc_tile;

// Part of an address, in elements.
typedef struct cgc_mem {
  const ir_type *type;
  const char *base;                // C expression of the type of its elements
  const char *stride[CGC_RANK];    // C expressions
  int64_t stride_value[CGC_RANK];  // where known, else 0
  int64_t stride_divisor[CGC_RANK];
  bool panel;
} cgc_mem;

typedef struct cgc_panel {
  const ir_op *alloc;
  int64_t from, to;                // positions of its life
  uint64_t offset, bytes;
} cgc_panel;

typedef struct cgc_emit {
  const ir_kernel *kernel;
  const cgc_target *target;
  ts_arena *arena;
  ts_diags *diags;
  ts_status status;                // the first failure; printing stops at it
  ts_text head, body;              // head: what depends on the thread and the sizes alone
  unsigned depth, next;            // indentation; number of the next name
  unsigned warps;
  ts_map tiles, mems, sizes, forms, exprs;
  ts_map divisors;                 // loop index -> power of two that divides it
  const ir_size **dim;
  uint32_t dim_count;
  TS_VEC(cgc_panel) panels;
  uint64_t shared;
  const ir_op *op;                 // being printed, for messages
} cgc_emit;

void cgc_fail(cgc_emit *e, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline bool cgc_ok(const cgc_emit *e) { return e->status == TS_OK; }
void cgc_line(cgc_emit *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   // one line of the body
const char *cgc_text(cgc_emit *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *cgc_name(cgc_emit *e, const char *prefix);                                     // a fresh name
const char *cgc_shared_expr(cgc_emit *e, const char *expr);   // the name of an int in the head with this value; equal ones share it
const char *cgc_entry_name(ts_arena *a, const ir_kernel *k);
const char *cgc_size(cgc_emit *e, const ir_size *s);

// ---- form.c --------------------------------------------------------------------------------------------------------------
const char *cgc_ctype(cgc_emit *e, ir_dtype t);               // of one element in a register of its own
const cgc_form *cgc_form_of(cgc_emit *e, const ir_type *t, ir_dtype dtype);   // NULL after a refusal
int cgc_axis(const cgc_form *f, ts_sym axis);                 // -1 when absent
// The register of `f` that holds, in every thread, the element that register r of `at` has by name of axis; -1: there is none.
// Axes of f that `at` lacks take `extra` (by axis of f), or 0.
int cgc_match(const cgc_emit *e, const cgc_form *f, const cgc_form *at, int r, const int32_t *extra);
cgc_tile *cgc_tile_of(cgc_emit *e, const ir_value *v);
cgc_tile *cgc_new_tile(cgc_emit *e, const cgc_form *f);
void cgc_define(cgc_emit *e, const ir_value *v, cgc_tile *t);
const char *cgc_get(cgc_emit *e, const cgc_tile *t, int r);   // element r as a C expression of its own type
// Makes and declares the words of a tile from one expression for each element.
cgc_tile *cgc_declare(cgc_emit *e, const cgc_form *f, const char **elements);
const char *cgc_scalar(cgc_emit *e, const ir_value *v);       // of a tile of rank 0
int64_t cgc_divisor(const cgc_emit *e, const ir_value *v, int depth);            // a power of two that divides an integer scalar
bool cgc_constant(const ir_value *v, int64_t *out);
const char *cgc_owner(cgc_emit *e, const cgc_form *f);        // C condition: this thread is the first holder; NULL: all are
void cgc_relabel(cgc_emit *e, const ir_op *op);

// ---- apply.c -------------------------------------------------------------------------------------------------------------
const char *cgc_const_text(cgc_emit *e, ir_dtype t, double real, int64_t integer);
const char *cgc_convert(cgc_emit *e, const char *x, ir_dtype from, ir_dtype to);
const char *cgc_binary(cgc_emit *e, ir_scalar op, ir_dtype t, const char *x, const char *y);
void cgc_apply(cgc_emit *e, const ir_op *op);
void cgc_full(cgc_emit *e, const ir_op *op);
void cgc_iota(cgc_emit *e, const ir_op *op);
void cgc_raise(cgc_emit *e, const ir_op *op);

// ---- memory.c ------------------------------------------------------------------------------------------------------------
void cgc_bind_params(cgc_emit *e);
void cgc_place_panels(cgc_emit *e);
void cgc_alloc(cgc_emit *e, const ir_op *op);
void cgc_load(cgc_emit *e, const ir_op *op);     // load and fetch
void cgc_store(cgc_emit *e, const ir_op *op);    // store and put
void cgc_copy(cgc_emit *e, const ir_op *op);

// ---- dot.c ---------------------------------------------------------------------------------------------------------------
bool cgc_builtin(cgc_emit *e, const ir_op *op, const char **name);   // the named row; refuses what the target lacks
void cgc_dot(cgc_emit *e, const ir_op *op);
void cgc_reduce(cgc_emit *e, const ir_op *op);
void cgc_decode(cgc_emit *e, const ir_op *op);

#endif
