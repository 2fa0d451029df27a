// From a plan and its scheduled kernels to Launch IR for one class of device.
#ifndef TESSERA_PASSES_LAUNCH_H
#define TESSERA_PASSES_LAUNCH_H

#include "ir/launch.h"
#include "passes/schedule.h"

// Bytes of the artifact's weight section: one packed part of a weight, or a table that the compiler made.
typedef struct pass_weight_part {
  ts_sym name;                 // in the launch program
  const ir_weight *weight;     // with `packing`; NULL: `data`
  ir_repack packing;
  const void *data;
  uint64_t bytes;
} pass_weight_part;

typedef struct pass_launch_kernel {
  const ir_kernel *kernel;     // S; its number in the program is its place in the list
  const ir_kernel *portable;   // what it computes
  uint32_t variant;            // of the schedules of `portable`
} pass_launch_kernel;

typedef struct pass_program {
  ir_launch *program;
  TS_VEC(pass_launch_kernel) kernels;
  TS_VEC(pass_weight_part) parts;
} pass_program;

// schedules[i] belongs to plan->kernels[i].
ts_status pass_launch(const plan *p, const pass_schedules *schedules, const char *device_class, pass_program *out);

#endif
