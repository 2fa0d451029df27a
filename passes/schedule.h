// Scheduling: from one P kernel to S kernels of a target.
//
// A schedule may change how weights are stored: an encoded (or plain) weight parameter becomes one parameter per packed part,
// described by a pass_packing, whose bytes the artifact writer makes with ir_weight_repack(). All host ISAs share one packing.
#ifndef TESSERA_PASSES_SCHEDULE_H
#define TESSERA_PASSES_SCHEDULE_H

#include "passes/plan.h"

// Where an S kernel's parameter comes from.
typedef struct pass_source {
  uint32_t param;              // parameter of the P kernel
  bool packed;                 // false: the same buffer, unchanged
  ir_repack packing;           // packed: how the weight bound to `param` is laid out. Its `digit`, `bytes` are complete for the
                               // weight's shape (shapes of weights are static, and equal for all calls of a kernel)
} pass_source;

typedef struct pass_scheduled {
  ir_kernel *kernel;           // finished S
  const pass_source *sources;  // one per parameter of `kernel`
  const ir_size *guard;        // over the kernel's formal symbols: use this variant when guard >= 1; NULL: always
  const char *variant;         // "decode", "prefill"...: shown in names and reports
} pass_scheduled;

typedef struct pass_schedules {   // variants in order: the first whose guard holds runs; the last has none
  TS_VEC(pass_scheduled) variants;
} pass_schedules;

typedef struct pass_host_target {
  ts_sym name;                 // "host.avx2", "host.avx512", "host.avx512_vnni"
  unsigned registers;          // vector registers: 16 or 32
} pass_host_target;

// All host ISAs run one launch program: kernels made for different targets must agree in parameters, sources, grid and guards, so
// those depend on nothing but the P kernel. Inside, a target may choose its own register tiles.
ts_status pass_schedule_host(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out);

#endif
