// The plan of a function: which kernels run on which buffers, in order. It stands between tensor IR and Launch IR.
//
// `pass_lower` (lower.h) turns a function's tensor IR into a plan of P kernels; the schedulers (schedule.h) give each distinct P
// kernel one S kernel per target and variant; `pass_launch` (launch.h) writes the plan down as Launch IR for one class of device.
//
// Kernels are shared: a P kernel speaks of its own *formal* size symbols (m, b, s...), and each call binds them to sizes of the
// function. So prefill and decode, and all layers, use one kernel where they compute the same.
#ifndef TESSERA_PASSES_PLAN_H
#define TESSERA_PASSES_PLAN_H

#include "ir/ir.h"
#include "ir/weights.h"

typedef enum plan_kind {
  PLAN_INPUT,      // bound by the caller
  PLAN_OUTPUT,     // bound by the caller
  PLAN_WEIGHT,     // `weight`, as the file has it; a schedule may ask for packed forms of it
  PLAN_TABLE,      // constant made by the compiler (RoPE angles): `data`, plain
  PLAN_TEMP,       // workspace
  PLAN_POOL,       // pages of a state's field, one layer: [pages, ...page rows]
  PLAN_PAGES,      // i32[list, max pages]: page table of a state
  PLAN_LENGTH,     // i32[list]: length of a state's lists before the call
  PLAN_RAGGED,     // i32[outer]: this call's lengths of a ragged dim
} plan_kind;

typedef struct plan_buffer {
  plan_kind kind;
  ts_sym name;                 // of the input, output, weight; or made up
  ir_dtype dtype;
  unsigned rank;
  const ir_size **shape;       // in sizes of the function
  const ir_encoding *encoding; // of a weight; NULL: plain
  const ir_weight *weight;     // WEIGHT
  const void *data;            // TABLE
  size_t data_bytes;
  const ir_state *state;       // POOL, PAGES, LENGTH
  uint32_t field, layer;       // POOL
  ts_sym dim;                  // RAGGED: the ragged dim's name
} plan_buffer;

typedef struct plan_bind {     // a formal size symbol of the kernel and what it is in this call
  const ir_size *formal, *actual;
} plan_bind;

typedef struct plan_call {
  const ir_kernel *kernel;     // stage P
  uint32_t arg_count;
  const uint32_t *args;        // buffer of each kernel parameter
  uint32_t bind_count;
  const plan_bind *binds;
  ts_loc loc;
} plan_call;

typedef struct plan_function {
  const ir_function *function;
  TS_VEC(plan_buffer) buffers;
  TS_VEC(plan_call) calls;
} plan_function;

typedef struct plan {
  ir_module *module;
  TS_VEC(plan_function *) functions;
  TS_VEC(const ir_kernel *) kernels;   // distinct P kernels, in order of first use
} plan;

// Decisions that --explain prints. `pass` is the pass' name; refusals carry the rule's name.
typedef struct pass_note {
  const char *pass, *rule;     // rule NULL: a decision
  ts_loc loc;
  const char *text;
} pass_note;
typedef struct pass_log {
  ts_arena *arena;
  TS_VEC(pass_note) notes;
} pass_log;
void pass_say(pass_log *log, const char *pass, const char *rule, ts_loc loc, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
