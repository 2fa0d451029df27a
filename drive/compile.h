// The compiler as a whole: a loaded model or kernel spec becomes an artifact.
//
//   fe_load -> pass_lower -> pass_schedule_* -> code for each target -> pass_launch -> cg_artifact_write
//
// Kernels of all host levels are compiled in parallel; what they become depends on nothing but their text and the level, and is
// kept in a cache on disk by the hash of both. The artifact's bytes do not depend on the number of jobs or the cache.
#ifndef TESSERA_DRIVE_COMPILE_H
#define TESSERA_DRIVE_COMPILE_H

#include "frontend/frontend.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "drive/diag.def"
#undef TS_DIAG

typedef struct drive_options {
  fe_model *cuda_model;             // the same model loaded for class cuda; needed for sm_NN targets
  const char *output;               // path of the artifact; NULL: nothing is written
  const char *const *targets;       // "host", "host:avx2", "sm_80"...; none: what the spec says
  size_t target_count;
  const char *dump_dir;             // NULL: no dumps
  bool external_weights;
  bool no_fusion;                   // one kernel per op, to compare with
  bool no_cache;
  unsigned jobs;                    // 0: all CPUs
  void (*progress)(void *user, const char *what, unsigned done, unsigned total);   // may be NULL
  void *user;
} drive_options;

typedef struct drive_note {         // a line of --explain
  const char *pass, *rule;
  ts_loc loc;
  const char *text;
} drive_note;

typedef struct drive_cuda_kernel {  // what the tools say of a kernel's machine code
  const char *target, *name;
  uint32_t registers, spill_bytes, shared, threads;
  uint64_t cubin_bytes;
} drive_cuda_kernel;

typedef struct drive_report {
  TS_VEC(drive_cuda_kernel) cuda;
  TS_VEC(drive_note) notes;
  unsigned portable_kernels, kernels, objects, cached;   // objects: kernel x level
  unsigned launches;                // of the first function, for one call
  uint64_t bytes, weight_bytes, code_bytes;
  bool changed;
} drive_report;

// `model` was loaded for class host (NULL when no host target is asked for).
ts_status drive_compile(ts_arena *a, fe_model *model, const drive_options *o, ts_diags *d, drive_report *out);

#endif
