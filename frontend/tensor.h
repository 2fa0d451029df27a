// What all readers of tensor files give: names, shapes, encodings and bytes in place.
#ifndef TESSERA_FRONTEND_TENSOR_H
#define TESSERA_FRONTEND_TENSOR_H

#include "base/file.h"
#include "base/map.h"
#include "ir/encoding.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "frontend/files_diag.def"
#undef TS_DIAG

typedef struct fe_tensor {
  ts_str name;                   // in the file's own bytes or the reader's arena
  const char *type;              // the file's own name of the storage type ("Q4_1", "BF16", "<f4")
  const ir_encoding *encoding;   // NULL: a type that is known but not supported; fe_tensor_use() refuses it
  unsigned rank;
  int64_t shape[IR_MAX_RANK];    // row-major: the last axis is contiguous
  const void *data;              // in the mapping; alignment is what the format promises, not more
  size_t bytes;
  uint64_t offset;               // in the file
} fe_tensor;

typedef struct fe_tensors {
  ts_sym path;                   // for locations
  fe_tensor *list;               // in the file's order
  size_t count;
  ts_map names;                  // hash of the name -> fe_tensor; see fe_tensors_find()
} fe_tensors;

const fe_tensor *fe_tensors_find(const fe_tensors *t, ts_str name);   // NULL when absent
// Checks that a tensor can be read: refuses unsupported storage types by name, at the tensor's place.
ts_status fe_tensor_use(const fe_tensors *t, const fe_tensor *x, ts_diags *d);
ts_loc fe_tensor_loc(const fe_tensors *t, const fe_tensor *x);

#endif
