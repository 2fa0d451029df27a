// Scheduling for CUDA targets: from one P kernel to S kernels of class cuda (see schedule.h for what all schedules share).
//
// Tiles carry register layouts over (reg, lane, warp). A weight is packed so that one wide load of a lane is its fragments of the
// matrix instruction; its digits are derived from the instruction's layout (ir_layout_weight()).
#ifndef TESSERA_PASSES_SCHEDULE_CUDA_H
#define TESSERA_PASSES_SCHEDULE_CUDA_H

#include "passes/schedule.h"

typedef struct pass_cuda_target {
  ts_sym name;                 // "sm_80"
  unsigned number;             // 80
  uint32_t shared;             // bytes of shared memory a block may have
  bool cp_async, mma16, bf16;  // copies in flight; m16n8k16 (else m16n8k8); products of bf16
} pass_cuda_target;

// Kernels made for different targets agree in parameters, sources, grid and guards, as one launch program runs them all; they differ
// in what is inside. (Threads and shared memory of a block belong to the compiled code.)
ts_status pass_schedule_cuda(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out);

#endif
