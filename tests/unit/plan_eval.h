// Runs a plan (passes/plan.h) with the evaluator: every call's portable kernel, or the scheduled variant that its guard chooses. Used to
// compare tensor IR, portable and scheduled kernels with each other.
#ifndef TESSERA_TESTS_PLAN_EVAL_H
#define TESSERA_TESTS_PLAN_EVAL_H

#include "ir/eval.h"
#include "passes/plan.h"
#include "passes/schedule.h"

typedef struct plan_pool {
  const ir_state *state;
  uint32_t field, layer;
  ir_cell *cells;      // [pages][heads][page rows][d]
} plan_pool;

typedef struct plan_world {   // what lasts between calls
  ir_module *m;
  const plan *plan;
  ir_domain domain;
  const pass_host_target *target;   // NULL: portable kernels
  uint64_t order;                   // of blocks
  int64_t entries, width;           // lists and pages a list may have
  int64_t *length;                  // by entry
  int32_t *pages;                   // [entries][width]: page numbers, in no order
  TS_VEC(plan_pool) pools;
  // modp: run every call both ways, from the same memory, and compare all it wrote: nothing may differ. Inputs of attend kernels are
  // replaced by small integers divided by `unscale` (the constant that multiplies the query), so that exp2 of scores is a homomorphism.
  bool both;
  uint64_t unscale;
  bool plant;                       // adds 1 to the first real constant of every schedule: must be found
  unsigned kernels_run, variants_run, kernels_compared;
} plan_world;

void plan_world_open(plan_world *w, const plan *p, ir_domain d, const pass_host_target *target, int64_t entries);
void plan_world_close(plan_world *w);
// `lengths`: of this call, by entry (every ragged dim). Outputs as ir_eval_function() gives them.
ts_status plan_run(plan_world *w, const plan_function *f, const ir_eval_tensor *inputs, const int64_t *lengths, ir_eval_tensor *outputs);

#endif
