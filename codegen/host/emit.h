// Private to codegen/host: the state of printing one kernel as LLVM IR, and the helpers its files share.
#ifndef TESSERA_CODEGEN_HOST_EMIT_H
#define TESSERA_CODEGEN_HOST_EMIT_H

#include "codegen/host/host.h"

#include <llvm-c/Core.h>

enum {
  CGH_RANK = 12,           // axes of a tile
  CGH_MAX_VALUES = 4096,   // LLVM values of a tile
  CGH_MAX_VECTOR = 1024,   // elements of a vector
};

// Where the elements of a tile are: axes from `lane` on are inside the vectors, the ones before it are unrolled.
typedef struct cgh_shape {
  unsigned rank, lane;   // lane == rank: no vectors
  int64_t extent[CGH_RANK];
  ts_sym axis[CGH_RANK];
  int64_t outer, vec;   // number of LLVM values, elements of each; vec 0: scalars
} cgh_shape;

// Loads and applies are printed value by value where a later op first asks for them (cgh_value), not all at once: so what an
// unrolled dot needs for one step stands just before that step, and few registers are live.
typedef struct cgh_emit cgh_emit;
typedef struct cgh_tile cgh_tile;
typedef struct cgh_mem cgh_mem;
struct cgh_tile {
  cgh_shape shape;
  ir_dtype dtype;
  LLVMValueRef *v;   // [outer]; NULL: not printed yet
  const ir_op *op;   // whose result this is, where values may be missing
  void (*make)(cgh_emit *e, cgh_tile *t, int64_t outer);   // prints v[outer]
  void *recipe;                                            // for `make`
  const cgh_mem *from;                                     // a load: of this memory
  unsigned depth;                                          // of the chain of missing values that it may hang on
};

// A memory operand: a buffer of the launch, or a panel.
struct cgh_mem {
  const ir_type *type;
  LLVMValueRef base;
  LLVMValueRef stride[CGH_RANK];   // elements, i64
  LLVMValueRef scope, noalias;     // metadata: what it is, what it is apart from; may be NULL
  bool readonly;                   // role IN
};

struct cgh_emit {
  const ir_kernel *kernel;
  const cgh_isa *isa;
  ts_arena *arena;
  ts_diags *diags;
  ts_status status;   // the first failure; emission stops at it
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMBuilderRef b;       // at the end of the current block
  LLVMBuilderRef entry;   // at the end of the entry block: sizes, strides, allocas
  LLVMValueRef fn, api, bufs, dims, block;
  LLVMBasicBlockRef exit;   // returns the phi `code`
  LLVMValueRef code;
  LLVMTypeRef i1, i8, i16, i32, i64, f16, f32, f64, ptr;
  ts_map tiles, mems, sizes;   // ir_value -> cgh_tile, cgh_mem; ir_size -> LLVMValueRef
  const ir_size **dim;
  uint32_t dim_count;
  uint64_t scratch;
  unsigned panels;                        // seen so far
  LLVMValueRef panel_scopes;              // metadata list
  const ir_op *op;                        // being printed, for messages
  struct LLVMOpaqueDIBuilder *debug;      // NULL: the kernel has no location
  LLVMMetadataRef scope;                  // of the function, for locations
  TS_VEC(cgh_tile *) pending;             // tiles of this region with values that may be missing
};

// Records a refusal at the current op (once) and returns.
void cgh_fail(cgh_emit *e, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline bool cgh_ok(const cgh_emit *e) { return e->status == TS_OK; }

// ---- types and constants (value.c) --------------------------------------------------------------------------------------
LLVMTypeRef cgh_type(cgh_emit *e, ir_dtype t);                            // of one element in a register
LLVMTypeRef cgh_like(cgh_emit *e, LLVMValueRef v, LLVMTypeRef element);   // element, or a vector as long as v
unsigned cgh_length(LLVMValueRef v);                                      // elements of a vector; 0: a scalar
LLVMValueRef cgh_splat(cgh_emit *e, LLVMValueRef scalar, unsigned n);     // n 0: the scalar itself
LLVMValueRef cgh_real(cgh_emit *e, LLVMTypeRef type, double v);           // of a scalar or vector type
LLVMValueRef cgh_int(cgh_emit *e, LLVMTypeRef type, int64_t v);
// Calls an overloaded intrinsic; `types` are its overload types.
LLVMValueRef cgh_call(cgh_emit *e, const char *name, unsigned types, LLVMTypeRef *type, unsigned args, LLVMValueRef *arg);
LLVMValueRef cgh_unary(cgh_emit *e, const char *name, LLVMValueRef x);   // overloaded on x's type
LLVMValueRef cgh_fma(cgh_emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);
void cgh_set_invariant(cgh_emit *e, LLVMValueRef load);   // what it reads never changes while the kernel runs
LLVMValueRef cgh_select(cgh_emit *e, LLVMValueRef c, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef cgh_shuffle(cgh_emit *e, LLVMValueRef a, LLVMValueRef b, unsigned n,
                         const int *mask);   // b NULL: one source; -1: any

// ---- tiles (value.c) ------------------------------------------------------------------------------------------------------
bool cgh_shape_of(cgh_emit *e, const ir_type *t, cgh_shape *out);               // refuses what can't be unrolled
int cgh_axis(const cgh_shape *s, ts_sym axis);                                  // position, -1 when absent
void cgh_coords(const cgh_shape *s, int64_t outer, int64_t lane, int64_t *c);   // row-major position -> coordinates
cgh_tile *cgh_new_tile(cgh_emit *e, const cgh_shape *s, ir_dtype dtype);
cgh_tile *cgh_tile_of(cgh_emit *e, const ir_value *v);   // NULL (and a refusal) when it has no value
void cgh_define(cgh_emit *e, const ir_value *v, cgh_tile *t);
LLVMValueRef cgh_value(cgh_emit *e, const cgh_tile *t, int64_t outer);        // v[outer], printed now if it was not yet
// Defines a result of a load or apply by its recipe; `inputs` are the tiles that the recipe asks (NULL entries: none).
void cgh_defer(cgh_emit *e, const ir_op *op, uint32_t result, cgh_tile *t, uint32_t count, cgh_tile *const *inputs);
void cgh_flush(cgh_emit *e);                                                  // prints all that is missing: before a region opens
void cgh_flush_loads(cgh_emit *e, const cgh_mem *written);                    // and before memory is written
LLVMValueRef cgh_scalar(cgh_emit *e, const ir_value *v);   // of a rank-0 tile

// One LLVM value built from elements of others: element i is lane `lane[i]` of `from[i]` (lane -1: `from[i]` is a scalar).
LLVMValueRef cgh_gather(cgh_emit *e, unsigned n, LLVMValueRef *from, int *lane);
LLVMValueRef cgh_element(cgh_emit *e, const cgh_tile *t, const int64_t *coord);   // one element, as a scalar
// The part of `t` that a value of shape `s` at `outer` needs: a scalar when t has none of the axes in the vector of s, otherwise
// a vector. Axes of t that s lacks take `extra` (by axis position in t), or 0.
LLVMValueRef cgh_view(cgh_emit *e, const cgh_tile *t, const cgh_shape *s, int64_t outer, const int64_t *extra);
// Like cgh_view, but always in the form of s.
LLVMValueRef cgh_view_full(cgh_emit *e, const cgh_tile *t, const cgh_shape *s, int64_t outer, const int64_t *extra);

// ---- sizes (emit.c) ---------------------------------------------------------------------------------------------------------
LLVMValueRef cgh_size(cgh_emit *e, const ir_size *s);   // i64, computed in the entry block

// ---- elementwise (convert.c, math.c, apply.c) -------------------------------------------------------------------------------
LLVMValueRef cgh_to_f32(cgh_emit *e, ir_dtype from, LLVMValueRef x);                 // exact; from a float of at most 32 bits
LLVMValueRef cgh_convert(cgh_emit *e, LLVMValueRef x, ir_dtype from, ir_dtype to);   // the cast of scalars.def
LLVMValueRef cgh_math(cgh_emit *e, ir_scalar f, ir_dtype t, LLVMValueRef x);         // f32, f64; refuses by name
LLVMValueRef cgh_scalar_op(cgh_emit *e, ir_scalar op, ir_dtype t, LLVMValueRef x, LLVMValueRef y,
                           LLVMValueRef z);                        // t: of x (select: of y)
bool cgh_any(cgh_emit *e, const cgh_tile *t, LLVMValueRef *out);   // or of an i1 tile, as a scalar

// ---- ops ----------------------------------------------------------------------------------------------------------------------
void cgh_apply(cgh_emit *e, const ir_op *op);   // apply.c
void cgh_iota(cgh_emit *e, const ir_op *op);    // tile.c
void cgh_full(cgh_emit *e, const ir_op *op);
void cgh_relabel(cgh_emit *e, const ir_op *op);
void cgh_convert_op(cgh_emit *e, const ir_op *op);
void cgh_lookup(cgh_emit *e, const ir_op *op);
void cgh_load(cgh_emit *e, const ir_op *op);    // memory.c: load and fetch
void cgh_store(cgh_emit *e, const ir_op *op);   // store and put
void cgh_atomic(cgh_emit *e, const ir_op *op);
void cgh_dot(cgh_emit *e, const ir_op *op);                                           // dot.c
LLVMValueRef cgh_horizontal(cgh_emit *e, LLVMValueRef v, ir_scalar op, ir_dtype t);   // reduce.c: folds a vector by halves
void cgh_reduce(cgh_emit *e, const ir_op *op);
void cgh_scan(cgh_emit *e, const ir_op *op);

// ---- locations (debug.c) ------------------------------------------------------------------------------------------------------
void cgh_debug_begin(cgh_emit *e);
void cgh_debug_op(cgh_emit *e, const ir_op *op);   // instructions printed from now on come from op
void cgh_debug_end(cgh_emit *e);

// ---- emit.c ------------------------------------------------------------------------------------------------------------------
// Prints the kernel into a fresh module of `ctx`; NULL after a refusal.
LLVMModuleRef cgh_emit_kernel(const ir_kernel *k, const cgh_isa *isa, LLVMContextRef ctx, ts_arena *a, ts_diags *d,
                              cgh_code *out);

#endif
