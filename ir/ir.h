// The IR: types, values, operations, kernels, functions, modules.
//
// One structure serves all levels (design section 7): an operation has operands, results, attributes and regions, all declared by
// its row in ops.def, from which the parser, printer, verifier and documentation derive. What differs is the container:
//   - a FUNCTION holds tensor IR: SSA operations on tensors and states;
//   - a KERNEL of stage PORTABLE says what: `parts` with named axes and the regions init, update, finish over tiles whose
//     extents are whole axes;
//   - a KERNEL of stage SCHEDULED says how: one body region, run per block of a grid, with loops and static tiles.
//
// Tiles have NAMED axes: a dimension is (axis name, extent). Broadcasting, dot and reduce work by name, so there is no positional
// rule to remember and the same ops serve P (extent = the whole axis, symbolic) and S (extent static). A tile without dimensions
// is a scalar.
//
// Everything lives in the arena of one ir_module and is freed with it. Types, sizes, names and encodings are unique: compare pointers.
#ifndef TESSERA_IR_IR_H
#define TESSERA_IR_IR_H

#include "base/diag.h"
#include "base/map.h"
#include "ir/dtype.h"
#include "ir/size.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "ir/diag.def"
#undef TS_DIAG

typedef struct ir_module ir_module;
typedef struct ir_type ir_type;
typedef struct ir_value ir_value;
typedef struct ir_op ir_op;
typedef struct ir_region ir_region;
typedef struct ir_fn ir_fn;
typedef struct ir_encoding ir_encoding;   // ir/encoding.h
typedef struct ir_layout ir_layout;       // ir/layout.h
typedef struct ir_weight ir_weight;       // ir/weights.h
typedef struct ir_state ir_state;

// ---- types ---------------------------------------------------------------------------------------------------------------
typedef enum ir_type_kind {
  IR_TYPE_TILE,     // a value in registers; rank 0 is a scalar:     f32     f32[m: 8, n: 32]    (P: f32[m, n])
  IR_TYPE_TENSOR,   // tensor IR:                                    tensor<f32[batch, seq, 576] as q4_1>
  IR_TYPE_MEM,      // what a kernel loads from and stores to:       mem<f16[m, 576]>    panel<f32[32, 64]>
  IR_TYPE_STATE,    // a mutable state of the module:                state<kv>
  IR_TYPE_TOKEN,    // of an async copy
} ir_type_kind;

typedef enum ir_space { IR_SPACE_GLOBAL, IR_SPACE_PANEL } ir_space;

struct ir_type {
  ir_type_kind kind;
  ir_dtype dtype;
  unsigned rank;
  ts_sym *axes;               // TILE: axis names, else NULL
  const ir_size **shape;      // TILE, TENSOR, MEM: extents, outermost first. TILE in S: constants
  const ir_encoding *encoding;// TENSOR, MEM: how it is stored; NULL: plain
  ir_space space;             // MEM
  const int64_t *strides;     // MEM: elements per step, where not row-major contiguous; else NULL (static only)
  const ir_layout *layout;    // TILE in S of class cuda; NULL: not assigned
  ts_sym lanes;               // TILE in S of class host: the axis that runs over vector lanes; NULL: one scalar register an element
  const ir_state *state;      // STATE
};

// ---- scalar functions of `apply` -----------------------------------------------------------------------------------------
typedef enum ir_scalar {
#define IR_SCALAR(id, arity, rule, syntax, doc) IR_SCALAR_##id,
#include "ir/scalars.def"
#undef IR_SCALAR
  IR_SCALAR_PARAM,            // parameter number `index`
  IR_SCALAR_CONST,            // `real` (floats) or `integer`
  IR_SCALAR_COUNT
} ir_scalar;

typedef enum ir_scalar_rule { IR_RULE_SAME, IR_RULE_BOOL, IR_RULE_PICK, IR_RULE_CAST } ir_scalar_rule;
typedef struct ir_scalar_info {
  const char *name;
  unsigned arity;
  ir_scalar_rule rule;
  const char *syntax;         // operator, or ""
  const char *doc;
} ir_scalar_info;
const ir_scalar_info *ir_scalar_get(ir_scalar s);   // also PARAM and CONST (name only)
int ir_scalar_of_name(ts_str name);                 // -1 when unknown

typedef struct ir_expr {      // node of a DAG, in order: arguments come before their users
  ir_scalar op;
  ir_dtype type;
  uint32_t args[3];           // indices of earlier nodes
  uint32_t index;             // PARAM
  double real;                // CONST of a float type
  int64_t integer;            // CONST of an integer type
} ir_expr;

struct ir_fn {
  uint32_t params, count, results;
  ir_expr *nodes;             // nodes 0..params-1 are the parameters
  uint32_t *outputs;          // `results` node indices
};

// Building a function: nodes are shared when equal. Constants fold only where exact in every domain.
typedef struct ir_fn_builder {
  ir_module *module;
  uint32_t params;
  TS_VEC(ir_expr) nodes;
} ir_fn_builder;
void ir_fn_begin(ir_fn_builder *b, ir_module *m, uint32_t params, const ir_dtype *types);
uint32_t ir_fn_real(ir_fn_builder *b, ir_dtype t, double v);
uint32_t ir_fn_int(ir_fn_builder *b, ir_dtype t, int64_t v);
uint32_t ir_fn_op(ir_fn_builder *b, ir_scalar op, uint32_t x, uint32_t y, uint32_t z);   // unused arguments 0
uint32_t ir_fn_cast(ir_fn_builder *b, ir_dtype t, uint32_t x);                             // x itself when already of type t
uint32_t ir_fn_bits(ir_fn_builder *b, ir_dtype t, uint32_t x);                             // the same bits as type t, of equal width
// Inlines f with the given nodes as arguments; returns the node of its result number `result`.
uint32_t ir_fn_inline(ir_fn_builder *b, const ir_fn *f, const uint32_t *args, uint32_t result);
const ir_fn *ir_fn_end(ir_fn_builder *b, uint32_t results, const uint32_t *outputs);

// ---- attributes ----------------------------------------------------------------------------------------------------------
typedef enum ir_attr_kind { IR_ATTR_INT, IR_ATTR_REAL, IR_ATTR_SYM, IR_ATTR_DTYPE, IR_ATTR_FN, IR_ATTR_AXES, IR_ATTR_INTS, IR_ATTR_SIZE,
  IR_ATTR_TEXT } ir_attr_kind;
typedef struct ir_attr {
  ts_sym name;
  ir_attr_kind kind;
  union {
    int64_t integer;
    double real;
    ts_sym sym;               // SYM, TEXT (text need not be a name)
    ir_dtype dtype;
    const ir_fn *fn;
    struct { ts_sym *data; uint32_t count; } axes;      // "_" is ir_module.none
    struct { int64_t *data; uint32_t count; } ints;
    const ir_size *size;
  };
} ir_attr;

// ---- operations ----------------------------------------------------------------------------------------------------------
typedef enum ir_opcode {
#define IR_OP(id, text, levels, omin, omax, rmin, rmax, regions, attrs, doc) IR_OP_##id,
#include "ir/ops.def"
#undef IR_OP
  IR_OP_COUNT
} ir_opcode;

typedef struct ir_op_info {
  const char *name, *levels;
  int operands_min, operands_max, results_min, results_max, regions;   // max -1: any number
  const char *attrs, *doc;
} ir_op_info;
const ir_op_info *ir_op_get(ir_opcode op);
int ir_opcode_of_name(ts_str name);   // -1 when unknown

struct ir_value {
  const ir_type *type;
  ts_sym name;                // without '%'; NULL: numbered when printed
  ir_op *producer;            // NULL: a parameter of a kernel, function or region
  uint32_t index;             // result or parameter number
  uint32_t number;            // scratch for printers and passes
  void *data;                 // scratch for one pass
};

struct ir_op {
  ir_opcode code;
  ts_loc loc;                 // of the spec line it came from
  uint32_t operand_count, result_count, region_count, attr_count;
  ir_value **operands, **results;
  ir_region **regions;
  ir_attr *attrs;
  ir_region *parent;
  ir_op *prev, *next;
};

struct ir_region {
  uint32_t param_count;
  ir_value **params;
  ir_op *first, *last;
  ir_op *owner;               // NULL: a kernel's or function's region
};

// ---- kernels -------------------------------------------------------------------------------------------------------------
typedef enum ir_axis_kind { IR_AXIS_PAR, IR_AXIS_RED } ir_axis_kind;
typedef struct ir_axis {
  ts_sym name;
  ir_axis_kind kind;
  const ir_size *size;        // extent of the axis
} ir_axis;

typedef enum ir_family { IR_FAMILY_CONTRACT, IR_FAMILY_ATTEND, IR_FAMILY_ROWS, IR_FAMILY_SELECT, IR_FAMILY_SCAN, IR_FAMILY_MOVE,
  IR_FAMILY_COUNT } ir_family;
const char *ir_family_name(ir_family f);

// One computation of a portable kernel. Values of `init` named in its yield are the accumulators; `update` takes them as
// parameters and yields their next values (it runs once, over whole axes; a schedule may run it over pieces of the reduce axes in
// any order); `finish` takes the final accumulators as parameters and stores.
typedef struct ir_part {
  ir_family family;
  ts_sym name;                // of the fused piece, e.g. "q"; NULL when the kernel has one part
  TS_VEC(ir_axis) axes;
  ir_region *init, *update, *finish;   // any may be empty
} ir_part;

typedef enum ir_param_role { IR_PARAM_IN, IR_PARAM_OUT, IR_PARAM_INOUT } ir_param_role;
typedef struct ir_param {
  ir_value *value;            // of type MEM
  ir_param_role role;
} ir_param;

typedef enum ir_stage { IR_STAGE_P, IR_STAGE_S } ir_stage;
typedef enum ir_class { IR_CLASS_NOTARGET, IR_CLASS_HOST, IR_CLASS_CUDA } ir_class;

typedef struct ir_kernel {
  ts_sym name;
  ir_stage stage;
  ts_loc loc;
  TS_VEC(ir_param) params;             // in the order of the launch's buffers
  TS_VEC(ir_part) parts;               // P: one, or several that were fused horizontally (they share the grid, not the axes)
  // S only
  ir_class target_class;
  ts_sym target;                       // "host" or "sm_80"...: the target the schedule was made for
  const ir_size *grid[3];              // blocks along each grid axis
  int warps;                           // cuda: warps per block
  ir_region *body;
  TS_VEC(ir_attr) notes;               // what a reader of the dump wants to know: schedule, bytes, multiply-adds
} ir_kernel;

// ---- functions and modules -----------------------------------------------------------------------------------------------
typedef struct ir_state_field {
  ts_sym name;                // "k", "v"
  ir_dtype dtype;
  unsigned rank;
  const ir_size **shape;      // of one row, e.g. [layers, kv_heads, head_dim]
} ir_state_field;
struct ir_state {
  ts_sym name;
  ts_sym list;                // the dim whose entries are token lists ("batch")
  const ir_size *length;      // upper bound of a list
  int64_t page;               // rows per page
  TS_VEC(ir_state_field) fields;
  ts_loc loc;
};

typedef struct ir_dim {       // a run-time dimension of the spec
  const ir_size *size;        // a call symbol
  ts_sym ragged_over;         // "per batch": each entry of that dim has its own length; NULL otherwise
  ts_loc loc;
} ir_dim;

typedef struct ir_function {
  ts_sym name;
  ts_loc loc;
  TS_VEC(ir_value *) inputs;  // TENSOR values; names are the spec's
  TS_VEC(ts_sym) outputs;     // names; values and types are the operands of `return`
  TS_VEC(ts_sym) advances;    // states that advance, and
  TS_VEC(ts_sym) advance_by;  //   the ragged dim each advances by
  ir_region *body;
} ir_function;

struct ir_module {
  ts_arena *arena;
  ts_interner *names;
  ts_diags *diags;
  ir_sizes *sizes;
  ts_sym none;                // "_"
  ts_sym name;                // of the model or kernel spec
  TS_VEC(ir_dim) dims;
  TS_VEC(ir_state *) states;
  TS_VEC(const ir_weight *) weights;
  TS_VEC(ir_function *) functions;
  TS_VEC(ir_kernel *) kernels;
  ts_map types;               // uniquing: hash -> chain
};

// The module borrows arena, names and diags; all three must outlive it.
ir_module *ir_module_create(ts_arena *a, ts_interner *names, ts_diags *d);
void ir_module_destroy(ir_module *m);   // tables outside the arena; the rest goes with the arena
ts_sym ir_name(ir_module *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Types are unique within a module. Arrays are copied.
const ir_type *ir_scalar_type(ir_module *m, ir_dtype t);
const ir_type *ir_tile_type(ir_module *m, ir_dtype t, unsigned rank, const ts_sym *axes, const ir_size *const *shape);
const ir_type *ir_tensor_type(ir_module *m, ir_dtype t, unsigned rank, const ir_size *const *shape, const ir_encoding *enc);
const ir_type *ir_mem_type(ir_module *m, ir_dtype t, unsigned rank, const ir_size *const *shape, const ir_encoding *enc, ir_space space,
  const int64_t *strides);
const ir_type *ir_state_type(ir_module *m, const ir_state *s);
const ir_type *ir_token_type(ir_module *m);
const ir_type *ir_type_with_lanes(ir_module *m, const ir_type *tile, ts_sym lanes);
const ir_type *ir_type_with_layout(ir_module *m, const ir_type *tile, const ir_layout *layout);
const ir_type *ir_type_with_dtype(ir_module *m, const ir_type *t, ir_dtype dtype);
const ir_encoding *ir_type_find_encoding(const ir_module *m, ts_sym name);   // of any type of the module; NULL when none has it
const ir_layout *ir_type_find_layout(const ir_module *m, const ir_layout *like);   // of any type of the module, equal to `like`; NULL
bool ir_type_is_scalar(const ir_type *t);                       // a tile of rank 0
int ir_type_axis(const ir_type *tile, ts_sym axis);             // position of an axis, -1 when it has none of that name
int64_t ir_type_elements(const ir_type *t);                     // product of constant extents, -1 when symbolic or overflowing

// ---- building ------------------------------------------------------------------------------------------------------------
// Appends ops at the end of `region`. Result types are given, or inferred where `_infer` is in the name.
typedef struct ir_builder {
  ir_module *module;
  ir_region *region;
  ts_loc loc;                 // stamped on new ops
} ir_builder;

ir_region *ir_region_create(ir_module *m, ir_op *owner);
ir_value *ir_region_param(ir_module *m, ir_region *r, const ir_type *t, ts_sym name);
ir_op *ir_build(ir_builder *b, ir_opcode code, uint32_t operands, ir_value *const *operand, uint32_t results, const ir_type *const *types);
// Attributes are added after ir_build(); setting one that exists replaces it.
void ir_set_int(ir_builder *b, ir_op *op, const char *name, int64_t v);
void ir_set_real(ir_builder *b, ir_op *op, const char *name, double v);
void ir_set_sym(ir_builder *b, ir_op *op, const char *name, ts_sym v);
void ir_set_text(ir_builder *b, ir_op *op, const char *name, const char *v);
void ir_set_dtype(ir_builder *b, ir_op *op, const char *name, ir_dtype v);
void ir_set_fn(ir_builder *b, ir_op *op, const char *name, const ir_fn *f);
void ir_set_axes(ir_builder *b, ir_op *op, const char *name, uint32_t count, const ts_sym *axes);
void ir_set_ints(ir_builder *b, ir_op *op, const char *name, uint32_t count, const int64_t *v);
void ir_set_size(ir_builder *b, ir_op *op, const char *name, const ir_size *v);
const ir_attr *ir_attr_find(const ir_op *op, const char *name);                 // NULL when absent
int64_t ir_attr_int(const ir_op *op, const char *name, int64_t otherwise);
double ir_attr_real(const ir_op *op, const char *name, double otherwise);
ts_sym ir_attr_sym(const ir_op *op, const char *name);                          // SYM or TEXT; NULL when absent

// The ops that most passes build.
ir_value *ir_const_int(ir_builder *b, ir_dtype t, int64_t v);
ir_value *ir_const_real(ir_builder *b, ir_dtype t, double v);
ir_value *ir_size_value(ir_builder *b, const ir_size *s);                       // i64
ir_value *ir_full(ir_builder *b, ir_value *scalar, const ir_type *tile);
ir_value *ir_apply(ir_builder *b, const ir_fn *f, uint32_t operands, ir_value *const *operand);   // one result; type inferred
// One scalar operation applied to tiles: x op y (op z); NULL for absent operands; types must agree already.
ir_value *ir_apply_op(ir_builder *b, ir_scalar op, ir_value *x, ir_value *y, ir_value *z);
ir_value *ir_cast(ir_builder *b, ir_value *x, ir_dtype t);                      // x itself when already of type t
// load/store with one index operand and one `at` axis (or m->none) for each dimension of `mem`; mask may be NULL.
ir_value *ir_load(ir_builder *b, ir_value *mem, ir_value *const *index, const ts_sym *at, ir_value *mask, const ir_type *result);
ir_op *ir_store(ir_builder *b, ir_value *mem, ir_value *const *index, const ts_sym *at, ir_value *v, ir_value *mask);
ir_value *ir_dot(ir_builder *b, ir_value *x, ir_value *y, ir_value *acc, uint32_t over, const ts_sym *axes, const ir_type *result);
ir_value *ir_reduce(ir_builder *b, ir_value *x, const char *op, uint32_t over, const ts_sym *axes);   // type inferred
// Opens a loop: returns its op; build into op->regions[0] (params: index, carried...), end with ir_yield(), read op->results.
ir_op *ir_for(ir_builder *b, ir_value *lo, ir_value *hi, ir_value *step, uint32_t carried, ir_value *const *init);
ir_op *ir_if(ir_builder *b, ir_value *cond, uint32_t results, const ir_type *const *types);   // regions[0] then, [1] else
void ir_yield(ir_builder *b, uint32_t count, ir_value *const *values);

// The type that apply gives: union of the operands' axes (the operand of largest rank first, then by appearance), dtype t.
const ir_type *ir_broadcast_type(ir_module *m, ir_dtype t, uint32_t operands, ir_value *const *operand);

ir_kernel *ir_kernel_create(ir_module *m, ts_sym name, ir_stage stage, ts_loc loc);   // not yet in m->kernels
ir_value *ir_kernel_param(ir_module *m, ir_kernel *k, ts_sym name, const ir_type *mem, ir_param_role role);
ir_part *ir_kernel_part(ir_module *m, ir_kernel *k, ir_family family, ts_sym name);   // pointer valid until the next call
// The call symbols whose values a kernel reads (in its `size` ops and the shapes of its params), sorted; memory from `a`. Compiled code
// takes them in this order.
const ir_size **ir_kernel_symbols(const ir_kernel *k, ts_arena *a, uint32_t *out_count);
void ir_replace_uses(ir_region *r, ir_value *from, ir_value *to);                     // in r and the regions inside
void ir_op_remove(ir_op *op);                                                         // unlinks from its region

// ---- text (text.c, parse.c), verifier (verify.c) -------------------------------------------------------------------------
// Canonical and stable: printing what was parsed gives the same bytes. Weights print as references with their hash.
void ir_print_module(const ir_module *m, ts_text *out);
void ir_print_kernel(const ir_module *m, const ir_kernel *k, bool locations, ts_text *out);
void ir_print_function(const ir_module *m, const ir_function *f, ts_text *out);
void ir_print_type(const ir_type *t, ts_text *out);
void ir_print_fn(const ir_fn *f, ts_text *out);
ts_status ir_parse_module(ir_module *m, ts_sym file, ts_str text);                    // adds what the text holds
ts_status ir_verify_module(ir_module *m);
ts_status ir_verify_kernel(ir_module *m, const ir_kernel *k);
// Identity of a P kernel: hash of its canonical text without name, schedule and locations.
uint64_t ir_kernel_hash(const ir_module *m, const ir_kernel *k);

#endif
