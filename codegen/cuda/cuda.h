// The CUDA back end: finished scheduled kernels of class cuda become CUDA C++ text, PTX and machine code.
//
//   ir_kernel --cgc_kernel_to_cuda--> text --NVRTC--> PTX --nvJitLink--> cubin and its facts (registers, spills...)
//
// Code is printed op by op; no decision is taken here. A tile is one C variable for each register of a thread; where the elements
// lie is said by its layout (dimensions reg, lane, warp). A tile without a layout is held whole by every thread. Elements of 4, 8
// and 16 bits share 32-bit registers where the layout gives a thread whole words of them. Panels whose lives do not meet share
// shared memory: a schedule puts a barrier between the last access to one and the first to another.
//
// Entry: extern "C" __global__ void ENTRY(T0 *p0, ..., long long d0, ...): the kernel's params in order, then the call symbols of
// ir_kernel_symbols. Blocks have 32 * warps threads. Buffers are aligned to 16 bytes; role IN must not be written meanwhile.
// A `raise` whose condition holds traps.
#ifndef TESSERA_CODEGEN_CUDA_H
#define TESSERA_CODEGEN_CUDA_H

#include "ir/ir.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "codegen/cuda/diag.def"
#undef TS_DIAG

typedef struct cgc_target {
  const char *name;            // "sm_80"
  unsigned number;             // 80
  uint32_t shared;             // bytes a block may have
  unsigned ptx;                // least PTX ISA that knows it: 70 is 7.0
  bool cp_async, ldmatrix, mma16, mma8, bf16, cvt2;
} cgc_target;
unsigned cgc_target_count(void);
const cgc_target *cgc_target_get(unsigned i);        // oldest first
const cgc_target *cgc_target_of_name(ts_str name);   // NULL when unknown

// ---- printing ------------------------------------------------------------------------------------------------------------
// Appends the kernel as CUDA C++, whole (with the few device functions it needs). `shared` (may be NULL): bytes of dynamic shared
// memory that a launch must give. Scratch memory comes from `a`.
ts_status cgc_kernel_to_cuda(const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, ts_text *out, uint32_t *shared);

// ---- compiling -----------------------------------------------------------------------------------------------------------
// NVRTC and nvJitLink, looked for in CUDA_HOME, /usr/local/cuda, the folder `wheels` (may be NULL: .deps/cuda/nvidia/cu13 of the
// working folder) and where the loader looks.
typedef struct cgc_toolchain {
  void *nvrtc, *nvjitlink;                 // handles; NULL: missing
  const char *nvrtc_path, *nvjitlink_path;
  unsigned version;                        // of NVRTC: 13000 is 13.0; 0: missing
  const char *missing;                     // what is missing and how to fix it; NULL: nothing
  struct cgc_functions *functions;
  ts_arena *arena;
} cgc_toolchain;
// Always succeeds; see `missing`. Memory from `a`.
void cgc_toolchain_open(ts_arena *a, const char *wheels, cgc_toolchain *out);
void cgc_toolchain_close(cgc_toolchain *t);

typedef struct cgc_code {
  ts_str cuda, ptx;
  const char *entry;             // the kernel's name with '_' for what a C name can't have
  const unsigned char *cubin;    // NULL when nvJitLink is missing
  size_t cubin_bytes;
  uint32_t threads, shared;      // of a block; dynamic shared memory in bytes
  uint32_t registers, spill_bytes, stack_bytes, static_shared;   // what nvJitLink's log says
  const ir_size **dims;
  uint32_t dim_count;
  unsigned ptx_isa;              // of the PTX: 90 is 9.0
  unsigned driver;               // least driver for the PTX, as cuDriverGetVersion says it: NVRTC's own version
  ts_str log;                    // nvJitLink's
} cgc_code;
// Compiles one kernel. Deterministic. Memory of the result comes from `a`.
ts_status cgc_compile(const cgc_toolchain *tc, const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, cgc_code *out);

#endif
