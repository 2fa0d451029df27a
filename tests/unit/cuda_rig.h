// What the tests of the CUDA back end share: portable kernels through schedule, text, PTX and emulator, against the evaluator.
#ifndef TESSERA_TESTS_CUDA_RIG_H
#define TESSERA_TESTS_CUDA_RIG_H
#include "codegen/cuda/cuda.h"
#include "ir/eval.h"
#include "ir/weights.h"
#include "passes/lower.h"
#include "passes/schedule_cuda.h"
#include "tests/unit/emu_harness.h"

#include <math.h>

enum { MAX_KERNEL_ARGS = 64 };

typedef struct cuda_rig {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
  plan *plan;                              // of a module with functions, else NULL
  pass_log log;
  int64_t symbols[64];
  uint64_t seed;
} cuda_rig;

typedef struct cuda_bind {
  const char *symbol;
  int64_t value;
} cuda_bind;

// Contents of an integer parameter: element i of `count`.
typedef int64_t cuda_fill(const char *param, int64_t i, int64_t count);

extern cgc_toolchain cuda_tools;           // opened once by main
bool cuda_tools_here(void);                // says why not

void cuda_rig_open(cuda_rig *r, const char *text);
void cuda_rig_close(cuda_rig *r);
const ir_kernel *cuda_rig_kernel(cuda_rig *r, const char *name);
pass_cuda_target cuda_rig_target(cuda_rig *r, const cgc_target *t);
// Runs every variant of the kernel on the emulated target; floats of outputs must agree with the evaluator (f64, unrounded) within
// `tolerance` times the largest value of the output.
void cuda_rig_compare(cuda_rig *r, const char *kernel, const cgc_target *t, const cuda_bind *binds, unsigned count, cuda_fill *fill, double tolerance);
// Compiles every variant for every target; no spills.
void cuda_rig_compile_all(cuda_rig *r, const char *kernel);

#endif
