// The host back end: finished scheduled kernels of class host become one flat, position-independent image for each CPU level.
//
//   ir_kernel --cgh_compile--> object (a pure function of kernel and level) --cgh_link--> image for runtime/tsr_format.h
//
// Code is printed op by op through LLVM IR; no decision is taken here. How a tile lives in LLVM values:
//   - without `lanes`, one scalar for each element;
//   - with `lanes`, the lanes axis and the axes behind it (byte packs) are one vector, in row-major order; the axes before it are
//     unrolled, one vector for each coordinate. LLVM cuts vectors that are longer than a register.
// Floats narrower than f32 and integers are held as their bits; narrow floats compute in f32 and round after each operation.
//
// Entry: int k(const tsr_host_api *api, void *const *bufs, const int64_t *dims, uint32_t block). bufs holds the kernel's
// params in order, dims the values of cgh_code.dims followed by the grid's three extents; block = x + gx * (y + gy * z). The
// result is 0, or the code of the `raise` that held: the rest of the block is dropped.
// A buffer of role IN must not be written while the kernel runs, not even through another buffer of the same launch.
#ifndef TESSERA_CODEGEN_HOST_H
#define TESSERA_CODEGEN_HOST_H

#include "ir/ir.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "codegen/host/diag.def"
#undef TS_DIAG

// ---- CPU levels --------------------------------------------------------------------------------------------------------
typedef struct cgh_isa {
  const char *name;             // a name of TSR_HOST_LEVELS
  uint32_t rank;                // as there
  uint32_t features;            // TSR_HAS_* bits that the CPU must have
  const char *cpu, *llvm;       // for LLVM
  unsigned vector_bits, vector_registers;
  bool masks, vnni;
} cgh_isa;

unsigned cgh_isa_count(void);
const cgh_isa *cgh_isa_get(unsigned i);            // oldest first
const cgh_isa *cgh_isa_of_name(ts_str name);       // NULL when unknown

// ---- compiling ---------------------------------------------------------------------------------------------------------
typedef struct cgh_options {
  bool llvm_text, assembly;     // also give these texts
} cgh_options;

typedef struct cgh_code {
  const unsigned char *object;  // ELF, one function; what cgh_link() takes
  size_t object_bytes;
  const ir_size **dims;         // the call symbols whose values the kernel reads, in the order of dims[]; sorted by name
  uint32_t dim_count;
  uint64_t scratch;             // bytes of scratch that a block uses
  ts_str llvm, assembly;        // where asked for: the module after optimisation, and its machine code
} cgh_code;

// The module as printed, before any optimisation. `out` is appended to.
ts_status cgh_kernel_to_llvm(const ir_kernel *k, const cgh_isa *isa, ts_diags *d, ts_text *out);

// Compiles one kernel. Deterministic; kernels may be compiled by several threads or processes at once (each with its own arena
// and sink). `o` may be NULL. Memory of the result comes from `a`.
ts_status cgh_compile(const ir_kernel *k, const cgh_isa *isa, const cgh_options *o, ts_arena *a, ts_diags *d, cgh_code *out);

// ---- linking -----------------------------------------------------------------------------------------------------------
typedef struct cgh_object {
  const unsigned char *data;
  size_t bytes;
} cgh_object;

// Puts objects into one image: tsr_host_image with entry i = object i, then code, then constants. Checks that nothing but
// relative references between parts of an object is left, and resolves them. Memory of the image comes from `a`.
ts_status cgh_link(const cgh_object *objects, uint32_t count, ts_arena *a, ts_diags *d, const unsigned char **out,
                   size_t *out_bytes);

#endif
