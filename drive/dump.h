// Dumps for people, and the texts and manifest that travel in the artifact. Private to drive/.
//
// Names are fixed: DIR/NN-pass.LEVEL.tir for the whole program after a pass, DIR/kernels/NAME.tile.tir, NAME.scheduled.tir,
// NAME.LEVEL.ll, NAME.LEVEL.s for one kernel.
#ifndef TESSERA_DRIVE_DUMP_H
#define TESSERA_DRIVE_DUMP_H

#include "codegen/artifact.h"
#include "drive/compile.h"
#include "passes/launch.h"

typedef struct drive_dump {
  const char *dir;          // NULL: nothing is written
  ts_diags *diags;
  ir_module *module;
  unsigned number;          // of the next pass
} drive_dump;

ts_status drive_dump_functions(drive_dump *d, const char *pass);
ts_status drive_dump_plan(drive_dump *d, const char *pass, const plan *p);
ts_status drive_dump_scheduled(drive_dump *d, const char *pass, const pass_program *p);
ts_status drive_dump_launch(drive_dump *d, const char *pass, const pass_program *p);
// DIR/kernels/KERNEL.SUFFIX
ts_status drive_dump_text(drive_dump *d, const char *kernel, const char *suffix, ts_str text);
ts_status drive_dump_code(drive_dump *d, const char *kernel, const char *level, ts_str llvm, ts_str assembly);

// The manifest as JSON: model, functions, kernels with what they compute, weights by form.
void drive_manifest(const fe_model *model, const plan *p, const pass_program *program, ts_text *out);
uint64_t drive_streamed_bytes(const pass_program *program, const ir_lfunction *f);
// Blobs "kernels/NAME.tile.tir" and "kernels/NAME.scheduled.tir", for `tessera inspect`.
void drive_texts(ts_arena *a, cg_artifact *art, ir_module *m, const plan *p, const pass_program *program);

#endif
