// What grouping (fuse.c), lowering (lower.c) and kernel emission (emit.c, emit_attend.c) share.
#ifndef TESSERA_PASSES_LOWER_INTERNAL_H
#define TESSERA_PASSES_LOWER_INTERNAL_H

#include "passes/lower.h"

enum { MAX_FEATURES = 6 };

typedef enum group_kind { GROUP_CONTRACT, GROUP_ATTEND, GROUP_ROWS } group_kind;

typedef struct group {
  group_kind kind;
  TS_VEC(ir_op *) ops;      // in program order, anchors included
  uint32_t first;           // number of the first op
  ir_op *norm;              // CONTRACT: rms_norm prologue, or NULL
  ir_op *last;              // CONTRACT: `last` under the prologue (a rows map on the input), or NULL
  ir_value *x;              // CONTRACT: the input that is read, below norm and last
} group;

typedef struct op_state {   // by op number
  ir_op *op;
  uint32_t group;           // number + 1; 0: none (free ops, views, prologues)
  uint32_t linear;          // union-find parent among the linears of a group (part)
  bool prologue;
} op_state;

typedef struct lowering {
  ir_module *module;
  const pass_lower_options *options;
  pass_log *log;
  plan *plan;
  plan_function *pf;
  const ir_function *function;
  TS_VEC(op_state) ops;
  ts_map numbers;           // op -> number + 1
  TS_VEC(group) groups;
  ts_map buffers;           // root value -> buffer number + 1
  ts_map kernels;           // hash -> kernel
  ts_map names;             // kernel name -> count
} lowering;

// fuse.c
ts_status lower_group(lowering *L);
uint32_t lower_number(const lowering *L, const ir_op *op);
bool lower_in_group(const lowering *L, const ir_value *v, uint32_t g);     // is v made by an op of group g?
ir_value *lower_root(const lowering *L, ir_value *v);                      // below reshapes that are views of a buffer
bool lower_used_outside(const lowering *L, const ir_value *v, uint32_t g); // read by an op outside group g
uint32_t lower_part(const lowering *L, uint32_t linear);                   // representative of a linear's part

// emit.c: one kernel under construction.
typedef struct tile_of {    // a tensor value as a tile of the kernel: axis m (when it has rows) and feature axes
  ir_value *tile;
  bool rows;
  unsigned features;
  ts_sym axis[MAX_FEATURES];
} tile_of;

typedef struct emitter {
  lowering *L;
  ir_module *m;
  uint32_t group_number;
  ir_kernel *kernel;
  ir_builder b;
  ts_sym part_name;
  unsigned row_rank;                  // leading dims of the group's tensors that fold into axis m
  const ir_size *const *row_shape;
  ts_map tiles;                       // value -> tile_of
  TS_VEC(uint32_t) args;              // buffer of each kernel parameter
  TS_VEC(plan_bind) binds;
  unsigned fresh;                     // for axis names
  ts_loc loc;
} emitter;

const ir_size *lower_formal(ir_module *m, const char *name);               // m, b, s, p
void emit_bind(emitter *e, const ir_size *formal, const ir_size *actual);
const ir_size *emit_rows(emitter *e);                                      // formal m, bound to the product of the row dims
ir_value *emit_param(emitter *e, uint32_t buffer, const ir_type *mem, ir_param_role role, const char *name);
uint32_t lower_buffer_of(lowering *L, ir_value *v);                        // of a tensor value; made on demand for temporaries
uint32_t lower_add_buffer(lowering *L, plan_buffer b);
ts_status emit_attend(lowering *L, uint32_t g);
ts_status emit_group(lowering *L, uint32_t g);
ts_status emit_finish_kernel(emitter *e, const char *name);                // uniquing and the call

ts_sym emit_axis(emitter *e, const char *stem);                            // a fresh axis name
ir_value *emit_zero(emitter *e);
ir_value *emit_literal(emitter *e, const ir_op *literal, ir_dtype t);
// Row number of axis m split over the row dims: list coordinate b and position s, as i64[m] tiles.
ts_status emit_row_coordinates(emitter *e, ir_value **list, ir_value **position);

#define LOWER_REFUSE(L, where, ...) ts_report((L)->module->diags, where, &diag_pass_unsupported, __VA_ARGS__)

#endif
