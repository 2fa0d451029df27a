// Launch IR: the program the runtime executes, for one class of device.
//
// A program has what all its functions share — dims known at call time, weights, paged states, kernels — and functions: typed
// inputs and outputs, buffers, and steps that run in order. Sizes are expressions over the dims, kept as a table of nodes per
// function in which operands come before users; equal expressions are one node, constants are folded. The compiler's last pass
// builds this with the functions below, ir_launch_verify() checks it, the artifact writer (codegen/artifact.h) stores it, and
// the text form (ir_launch_print / ir_launch_parse) round-trips exactly. Tables are declared in launch.def.
#ifndef TESSERA_IR_LAUNCH_H
#define TESSERA_IR_LAUNCH_H

#include "base/diag.h"
#include "ir/dtype.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "ir/launch_diag.def"
#undef TS_DIAG

enum { IR_LAUNCH_RANK = 8 };

typedef uint32_t ir_lexpr;        // a node of its function's table
#define IR_LNONE UINT32_MAX       // no expression, no index

typedef enum ir_lop {
  IR_L_const,
#define IR_LAUNCH_LEAF(id, text, args) IR_L_##id,
#define IR_LAUNCH_OP(id, text, infix) IR_L_##id,
#include "ir/launch.def"
#undef IR_LAUNCH_LEAF
#undef IR_LAUNCH_OP
  IR_L_COUNT
} ir_lop;

typedef struct ir_lnode {
  ir_lop op;
  uint32_t a, b;       // operands (nodes), or what a leaf names: dim; state; state and list
  int64_t value;       // of a const
} ir_lnode;

// A size known when a function is called: min <= value <= max, value = min + k * step.
typedef struct ir_ldim {
  ts_sym name;
  int64_t min, max, step;
  uint32_t per;        // ragged: one length for every value of dim `per`; IR_LNONE otherwise
} ir_ldim;

// Bytes that live in the artifact. Equal names of several programs must mean equal bytes: they are stored once.
typedef struct ir_lweight {
  ts_sym name;
  uint64_t bytes;
  uint64_t hash;       // of what the bytes are made from (the compiler's choice); equal hash and bytes, equal contents
} ir_lweight;

// How a page list keeps its entries. `full` keeps every page of a sequence.
typedef enum ir_llist_kind { IR_LIST_full } ir_llist_kind;

typedef struct ir_llist {
  ts_sym name;
  ir_llist_kind kind;
} ir_llist;

// One field of a state: storage [layers][pages of its list][page_bytes].
typedef struct ir_lpool {
  ts_sym name;
  uint32_t list;
  uint32_t layers;
  uint64_t page_bytes; // per layer; any layout inside
  bool zero;           // pages are zeroed when a sequence gets them (page statistics)
  ts_sym type;         // for people: "f32[3, 64]"
} ir_lpool;

// A paged state: token lists (one per row of dim `rows`) whose pages all layers and fields share.
typedef struct ir_lstate {
  ts_sym name;
  uint32_t rows;       // dim
  int64_t max_length;  // tokens
  uint32_t page;       // tokens per page
  TS_VEC(ir_llist) lists;
  TS_VEC(ir_lpool) pools;
} ir_lstate;

// Text of a raise code: code c of a kernel is raises[c - 1].
typedef struct ir_lraise {
  ts_sym text;
  ts_loc loc;
} ir_lraise;

typedef struct ir_lkernel {
  ts_sym name;         // also the entry's symbol in PTX
  uint32_t pointers;   // parameters: pointers first, then i64 sizes
  uint32_t sizes;
  TS_VEC(ir_lraise) raises;
} ir_lkernel;

typedef struct ir_lvalue {
  ts_sym name;
  bool output;
  ir_dtype type;
  ts_sym encoding;     // NULL: plain
  uint32_t rank;
  ir_lexpr shape[IR_LAUNCH_RANK];   // plain: a node that is just a dim binds the dim from the bound tensor's shape
  ir_lexpr bytes;      // encoded: least size of the bound buffer, whose shape is free; IR_LNONE: any
  ts_loc loc;
} ir_lvalue;

typedef enum ir_lbuffer_kind {
#define IR_LAUNCH_BUFFER(id, args) IR_LB_##id,
#include "ir/launch.def"
#undef IR_LAUNCH_BUFFER
  IR_LB_COUNT
} ir_lbuffer_kind;

typedef struct ir_lbuffer {
  ir_lbuffer_kind kind;
  uint32_t a, b;            // index; state and pool or list; dim
  ir_lexpr bytes;           // workspace: its size
  uint32_t first, last;     // workspace: numbers of the first and the last step that touch it
  ts_sym name;              // unique in the function
} ir_lbuffer;

typedef struct ir_larg {
  uint32_t buffer;
  ir_lexpr offset;          // bytes; IR_LNONE: 0
} ir_larg;

typedef struct ir_lvariant {
  ir_lexpr guard;           // IR_LNONE: always
  uint32_t kernel;
  ir_lexpr grid[3];         // blocks in x, y, z; x runs fastest; a grid with a 0 is skipped
  TS_VEC(ir_larg) args;     // the kernel's pointers
  TS_VEC(ir_lexpr) sizes;   // the kernel's sizes
} ir_lvariant;

typedef enum ir_lstep_kind { IR_LS_launch, IR_LS_copy, IR_LS_fill, IR_LS_require, IR_LS_advance } ir_lstep_kind;

typedef struct ir_lstep {
  ir_lstep_kind kind;
  ts_loc loc;                   // the spec's line
  TS_VEC(ir_lvariant) variants; // launch: the first whose guard holds runs; nothing runs when none holds
  ir_larg dst, src;             // copy (must not overlap); fill (dst only)
  ir_lexpr bytes;               // copy, fill; a multiple of 4 for fill
  uint32_t pattern;             // fill: the 32-bit word stored
  ir_lexpr condition;           // require: not 0, else the call fails with `text`
  ts_sym text;
  uint32_t state;               // advance: once the call succeeds, every row's sequence grows by its length of `dim`, or,
  uint32_t dim;                 //   where that is IR_LNONE, by `by` tokens
  ir_lexpr by;
} ir_lstep;

typedef struct ir_lfunction {
  ts_sym name;
  ts_loc loc;
  TS_VEC(ir_lnode) nodes;
  TS_VEC(ir_lvalue) values;     // inputs and outputs, in any order
  TS_VEC(ir_lbuffer) buffers;
  TS_VEC(ir_lstep) steps;
  struct ir_launch *program;
  uint32_t *shared;             // hash table of nodes, for the builder
  size_t shared_size;
} ir_lfunction;

typedef struct ir_launch {
  ts_arena *arena;              // owns everything here
  ts_interner *names;
  ts_sym name;                  // of the model or kernel
  ts_sym device_class;          // "host" or "cuda"
  TS_VEC(ir_ldim) dims;
  TS_VEC(ir_lweight) weights;
  TS_VEC(ir_lstate *) states;
  TS_VEC(ir_lkernel *) kernels;
  TS_VEC(ir_lfunction *) functions;
} ir_launch;

// --- Building. Names are interned by the caller in the program's interner. The `add` functions return the new item's index.
ir_launch *ir_launch_new(ts_arena *a, ts_interner *names, ts_sym name, ts_sym device_class);
uint32_t ir_launch_add_dim(ir_launch *p, ir_ldim dim);
uint32_t ir_launch_add_weight(ir_launch *p, ir_lweight weight);
ir_lstate *ir_launch_add_state(ir_launch *p, ts_sym name, uint32_t rows_dim, int64_t max_length, uint32_t page);   // no list yet
uint32_t ir_launch_add_list(ir_launch *p, ir_lstate *s, ir_llist list);
uint32_t ir_launch_add_pool(ir_launch *p, ir_lstate *s, ir_lpool pool);
ir_lkernel *ir_launch_add_kernel(ir_launch *p, ts_sym name, uint32_t pointers, uint32_t sizes);
uint32_t ir_launch_add_raise(ir_launch *p, ir_lkernel *k, ts_sym text, ts_loc loc);   // returns the code, from 1
ir_lfunction *ir_launch_add_function(ir_launch *p, ts_sym name, ts_loc loc);
uint32_t ir_launch_add_value(ir_lfunction *f, ir_lvalue value);
uint32_t ir_launch_add_buffer(ir_lfunction *f, ir_lbuffer buffer);
ir_lstep *ir_launch_add_step(ir_lfunction *f, ir_lstep_kind kind, ts_loc loc);   // valid until the next step is added
ir_lvariant *ir_launch_add_variant(ir_lfunction *f, ir_lstep *s, uint32_t kernel);   // grid 1 x 1 x 1, no guard

// Expressions. Constants are folded, x + 0, x * 1, x * 0 and the like simplified, equal nodes shared. A folding that would
// overflow or divide by zero is left in the program, where it is an error when evaluated.
ir_lexpr ir_launch_const(ir_lfunction *f, int64_t v);
ir_lexpr ir_launch_leaf(ir_lfunction *f, ir_lop leaf, uint32_t a, uint32_t b);   // IR_L_dim, dim, 0
ir_lexpr ir_launch_op(ir_lfunction *f, ir_lop op, ir_lexpr a, ir_lexpr b);
static inline ir_lexpr ir_launch_dim(ir_lfunction *f, uint32_t dim) { return ir_launch_leaf(f, IR_L_dim, dim, 0); }
// Sets each workspace's first and last step from the steps as they stand now.
void ir_launch_lifetimes(ir_lfunction *f);

// Evaluates with the given leaves (`leaf` returns false where it has no value). False also on overflow and bad divisors.
typedef bool ir_lleaf_fn(void *user, ir_lop leaf, uint32_t a, uint32_t b, int64_t *out);
bool ir_launch_eval(const ir_lfunction *f, ir_lexpr e, ir_lleaf_fn *leaf, void *user, int64_t *out);

// --- Looking up. IR_LNONE or NULL when absent.
uint32_t ir_launch_find_dim(const ir_launch *p, ts_sym name);
uint32_t ir_launch_find_kernel(const ir_launch *p, ts_sym name);
ir_lfunction *ir_launch_find_function(const ir_launch *p, ts_sym name);
const char *ir_lop_name(ir_lop op);

// Every index in range, arguments as the kernels want them, lifetimes right, names unique, limits sane.
ts_status ir_launch_verify(const ir_launch *p, ts_diags *d);
// The text form; weights print as name, bytes and hash. Also one expression, for messages.
void ir_launch_print(const ir_launch *p, ts_text *out);
void ir_launch_print_expr(const ir_lfunction *f, ir_lexpr e, ts_text *out);
// Parses and verifies. `file` (interned) names the text in diagnostics.
ts_status ir_launch_parse(ts_arena *a, ts_interner *names, ts_sym file, ts_str text, ts_diags *d, ir_launch **out);

#endif
