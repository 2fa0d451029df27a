// Trials: a portable kernel and its schedules run by the evaluator on the same made-up memory. All they write must be equal.
//
// Weights (constant parameters) get random contents in their encoding, everything else random numbers; page tables, lengths and row
// counts (known by their names in lowered kernels: pages, length, rows) get values that belong together; other integers are random
// and in range of what they index. Outputs are poisoned. Where the kernel allows it the domain is the prime field, in which nothing
// may differ; attention gets scores that are integers there. Kernels with roundings or compares of floats run in the ideal domain, in
// which only the order of sums may show.
#ifndef TESSERA_DRIVE_TRIAL_H
#define TESSERA_DRIVE_TRIAL_H

#include "ir/eval.h"
#include "passes/schedule.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "drive/trial_diag.def"
#undef TS_DIAG

typedef struct drive_trial_param {
  void *data, *start;          // contents now; before the run
  size_t bytes;
  bool wide;                   // float cells
  const ir_weight *weight;     // NULL: no weight
} drive_trial_param;

typedef struct drive_trial {
  ir_module *m;
  const ir_kernel *portable;
  ir_domain domain;
  uint64_t random;             // state of the generator
  uint64_t order;              // of the blocks of S kernels
  int64_t *symbols;
  size_t symbol_count;
  drive_trial_param *params;   // of the portable kernel
  void **expected;             // what the portable kernel left in each
} drive_trial;

// Makes memory for about `rows` rows (fewer where the kernel has bounds) and runs the portable kernel on it. The kernel must be
// verified. On failure nothing is left to close.
ts_status drive_trial_open(drive_trial *t, ir_module *m, const ir_kernel *portable, int64_t rows, uint64_t seed);
// Runs a schedule (verified) and compares. Diagnostics drive-differs or the evaluator's. `*ran` is false where its guard does not hold.
ts_status drive_trial_run(drive_trial *t, const pass_scheduled *s, bool *ran);
void drive_trial_close(drive_trial *t);

#endif
