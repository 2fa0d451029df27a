// Edited kernels: a module of kernel texts (the dumps NAME.tile.tir, NAME.scheduled.tir) becomes an artifact for the host, with one
// function per kernel.
//
// A function's inputs and outputs are the kernel's parameters, its dims the call symbols of their shapes. Scheduled kernels are taken
// as they are; portable ones go through the schedules of every level. A schedule that packs a parameter at compile time needs its
// contents: random ones when asked for, else the kernel is refused.
#ifndef TESSERA_DRIVE_KERNELS_H
#define TESSERA_DRIVE_KERNELS_H

#include "drive/compile.h"

typedef struct drive_kernels_options {
  const char *output;              // path of the artifact; NULL: nothing is written
  const char *const *levels;       // "avx2", "avx512", "avx512_vnni"; none: all
  size_t level_count;
  const char *dump_dir;            // NULL: no dumps
  bool random_weights;
  uint64_t seed;
} drive_kernels_options;

ts_status drive_compile_kernels(ts_arena *a, ir_module *m, const drive_kernels_options *o, ts_diags *d, drive_report *out);

#endif
