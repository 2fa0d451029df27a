// Writer of small GGUF files for tests: metadata and tensors in the order they are added. Shares no code with the reader.
#ifndef TESSERA_TESTS_GGUF_WRITER_H
#define TESSERA_TESTS_GGUF_WRITER_H

#include "base/str.h"

typedef struct gguf_writer {
  uint32_t version;       // 3
  uint32_t alignment;     // 32; write general.alignment yourself when it differs
  ts_text kv, infos, data;
  uint64_t kv_count, tensor_count;
} gguf_writer;

void gguf_writer_init(gguf_writer *w);
void gguf_writer_deinit(gguf_writer *w);

void gguf_put_int(gguf_writer *w, const char *key, uint32_t type, int64_t value);   // type: GGUF's number of any integer type or 7 (bool)
void gguf_put_f32(gguf_writer *w, const char *key, float value);
void gguf_put_f64(gguf_writer *w, const char *key, double value);
void gguf_put_string(gguf_writer *w, const char *key, const char *value);
void gguf_put_strings(gguf_writer *w, const char *key, const char *const *values, uint64_t count);
void gguf_put_f32s(gguf_writer *w, const char *key, const float *values, uint64_t count);
void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *values, uint64_t count);

// A tensor of ggml type number `type`; `shape` is row-major and gets reversed; `bytes` of data are copied.
void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t type, unsigned rank, const int64_t *shape, const void *data, size_t bytes);

// Appends the whole file to `out`.
void gguf_finish(const gguf_writer *w, ts_text *out);

#endif
