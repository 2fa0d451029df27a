// What the host and the CUDA side of drive_compile() share. Private to drive/.
#ifndef TESSERA_DRIVE_ARTIFACT_H
#define TESSERA_DRIVE_ARTIFACT_H

#include "codegen/artifact.h"
#include "drive/compile.h"
#include "passes/launch.h"

// The CPU levels that the target `host` stands for, oldest first; ends with NULL.
extern const char *const drive_host_levels[];

void drive_progress(const drive_options *o, const char *what, unsigned done, unsigned total);

// Hands the parts of a program to the writer, those whose name it has already left out. The readers live in `a` and hold memory
// only while a part is being read.
void drive_add_weights(ts_arena *a, cg_artifact *art, const pass_program *program, ts_map *seen);

// The manifest, the kernels' texts, and for each function the metadata key "NAME.streamed_bytes". Once an artifact: for its first program.
void drive_describe(ts_arena *a, cg_artifact *art, const fe_model *model, const plan *p, const pass_program *program);

// Compiles the model for CUDA targets and adds programs, code and weights. `model` was loaded for class cuda; `describe`: there is no
// host program that describes the artifact.
ts_status drive_add_cuda(ts_arena *a, fe_model *model, const char *const *targets, size_t count, bool describe, const drive_options *o, ts_diags *d, cg_artifact *art,
                         ts_map *seen, drive_report *report);

#endif
