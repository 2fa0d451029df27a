// Tensor IR to a plan of portable kernels: fusion and lowering in one walk.
//
// 1. Grouping. Every linear and attend is an anchor. Linears of one input make one group (horizontal fusion); an RMSNorm that only
//    linears read becomes their prologue; elementwise maps, reshapes, RoPE and appends that follow join as epilogues as long as all
//    they need is in the group or exists before it. What is left is grouped into row kernels.
// 2. Emission. Each group becomes one P kernel (equal kernels are one) and a call with its buffers.
// Each decision and refusal is told to the log under the pass name "fuse".
#ifndef TESSERA_PASSES_LOWER_H
#define TESSERA_PASSES_LOWER_H

#include "passes/plan.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "passes/diag.def"
#undef TS_DIAG

typedef struct pass_lower_options {
  bool fuse;            // false: one kernel per op (to compare with)
} pass_lower_options;

// Lowers all functions of the module. The plan lives in the module's arena.
ts_status pass_lower(ir_module *m, const pass_lower_options *o, pass_log *log, plan **out);
void plan_print(const plan *p, ts_text *out);

#endif
