// Reader and writer of NumPy's .npy files, versions 1 to 3.
//
// Little-endian scalars (f2 f4 f8, i1..i8, u1..u8, b1). Big-endian, complex, string, object and structured types are refused by name.
#ifndef TESSERA_FRONTEND_NPY_H
#define TESSERA_FRONTEND_NPY_H

#include "frontend/tensor.h"

typedef struct fe_npy {
  ts_mapping mapping;
  ts_sym path;
  ir_dtype type;             // b1 is u8 holding 0 or 1
  unsigned rank;
  int64_t shape[IR_MAX_RANK];
  const void *data;          // row-major. In the mapping, or a copy in the arena when the file is in Fortran order
  size_t bytes, count;       // count: elements
  bool fortran;              // what the file had
} fe_npy;

ts_status fe_npy_open(ts_arena *a, const char *path, ts_diags *d, fe_npy *out);
ts_status fe_npy_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_npy *out);
void fe_npy_close(fe_npy *n);

// Version 1.0, row-major, written atomically. Types without a NumPy name (bf16, 4-bit…) are refused by name.
ts_status fe_npy_write(const char *path, ir_dtype type, unsigned rank, const int64_t *shape, const void *data, ts_diags *d);

#endif
