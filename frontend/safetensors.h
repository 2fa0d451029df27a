// Reader and writer of safetensors files: u64 header length, JSON header, tensors.
//
// Refused: duplicate names, unknown keys in an entry, ranges that overlap, leave holes or lie outside, sizes that contradict dtype and
// shape. Metadata (`__metadata__`) is a list of strings by name.
#ifndef TESSERA_FRONTEND_SAFETENSORS_H
#define TESSERA_FRONTEND_SAFETENSORS_H

#include "frontend/tensor.h"

typedef struct fe_metadata {
  ts_str key, value;
} fe_metadata;

typedef struct fe_safetensors {
  ts_mapping mapping;
  fe_tensors tensors;        // in the order of their data
  fe_metadata *metadata;
  size_t metadata_count;
} fe_safetensors;

ts_status fe_safetensors_open(ts_arena *a, const char *path, ts_diags *d, fe_safetensors *out);
ts_status fe_safetensors_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_safetensors *out);
void fe_safetensors_close(fe_safetensors *s);
const fe_metadata *fe_safetensors_metadata(const fe_safetensors *s, const char *key);   // NULL when absent

// Writes atomically; only name, rank, shape, encoding (plain types the format has) and data of the tensors are read.
ts_status fe_safetensors_write(const char *path, const fe_tensor *tensors, size_t count, const fe_metadata *metadata, size_t metadata_count,
                               ts_diags *d);

#endif
