// Reader of GGUF files, versions 2 and 3, little endian, in place.
//
// Everything is checked on opening: lengths, counts, types, duplicate keys and tensors, alignment, overlap, sizes. Shapes are
// reversed to row-major: GGUF's ne[0] is the last axis.
#ifndef TESSERA_FRONTEND_GGUF_H
#define TESSERA_FRONTEND_GGUF_H

#include "frontend/tensor.h"

typedef enum fe_gguf_type {
  FE_GGUF_U8, FE_GGUF_I8, FE_GGUF_U16, FE_GGUF_I16, FE_GGUF_U32, FE_GGUF_I32, FE_GGUF_F32, FE_GGUF_BOOL, FE_GGUF_STRING, FE_GGUF_ARRAY,
  FE_GGUF_U64, FE_GGUF_I64, FE_GGUF_F64, FE_GGUF_TYPE_COUNT
} fe_gguf_type;

typedef struct fe_gguf_value {
  fe_gguf_type type;       // of the value; FE_GGUF_ARRAY: an array of `element`
  fe_gguf_type element;    // arrays; else equal to type
  uint64_t count;          // elements of an array; 1 otherwise
  const uint8_t *data;     // little-endian scalars, unaligned; NULL for strings
  const ts_str *strings;   // count strings, when element is FE_GGUF_STRING
} fe_gguf_value;

typedef struct fe_gguf_kv {
  ts_str key;
  fe_gguf_value value;
  uint64_t offset;         // of the key in the file
} fe_gguf_kv;

typedef struct fe_gguf {
  ts_mapping mapping;      // closed by fe_gguf_close(); empty when parsed from memory
  uint32_t version;
  uint64_t alignment, data_offset;
  fe_gguf_kv *kv;          // in the file's order
  size_t kv_count;
  ts_map keys;
  fe_tensors tensors;
} fe_gguf;

ts_status fe_gguf_open(ts_arena *a, const char *path, ts_diags *d, fe_gguf *out);
// `bytes` must outlive `out`; `path` names it in diagnostics.
ts_status fe_gguf_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_gguf *out);
void fe_gguf_close(fe_gguf *g);   // also after a failure of open or parse

const fe_gguf_kv *fe_gguf_find(const fe_gguf *g, ts_str key);   // NULL when absent
ts_loc fe_gguf_loc(const fe_gguf *g, const fe_gguf_kv *kv);

// Elements of a value, `i` < count. Each returns false when the type doesn't hold such a thing: any integer type (and bool) as i64,
// when it fits; integers and floats as real.
bool fe_gguf_int(const fe_gguf_value *v, uint64_t i, int64_t *out);
bool fe_gguf_real(const fe_gguf_value *v, uint64_t i, double *out);
bool fe_gguf_bool(const fe_gguf_value *v, uint64_t i, bool *out);
bool fe_gguf_string(const fe_gguf_value *v, uint64_t i, ts_str *out);
const char *fe_gguf_type_name(fe_gguf_type t);   // "u8", "string", …

// By key, with a diagnostic when the key is missing or of another type.
ts_status fe_gguf_get_int(const fe_gguf *g, const char *key, ts_diags *d, int64_t *out);
ts_status fe_gguf_get_real(const fe_gguf *g, const char *key, ts_diags *d, double *out);
ts_status fe_gguf_get_bool(const fe_gguf *g, const char *key, ts_diags *d, bool *out);
ts_status fe_gguf_get_string(const fe_gguf *g, const char *key, ts_diags *d, ts_str *out);
ts_status fe_gguf_get_array(const fe_gguf *g, const char *key, ts_diags *d, const fe_gguf_value **out);

#endif
