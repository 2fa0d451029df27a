#include "passes/cuda_internal.h"
ts_status cuda_rows(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out) {
  (void)t, (void)log, (void)out;
  return ts_report(m->diags, p->loc, &diag_pass_unsupported, "rule family-without-schedule: no CUDA schedule for family rows");
}
