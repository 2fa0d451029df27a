// Writer of small GGUF files for tests (see gguf_writer.h).
#include "tests/support/gguf_writer.h"

static void put_uint(ts_text *t, unsigned bytes, uint64_t v) {
  for (unsigned i = 0; i < bytes; i++) ts_text_putc(t, (char)(v >> 8 * i));
}

static void put_string(ts_text *t, const char *s) {
  put_uint(t, 8, strlen(s));
  ts_text_add(t, ts_str_of(s));
}

void gguf_writer_init(gguf_writer *w) { *w = (gguf_writer){.version = 3, .alignment = 32}; }

void gguf_writer_deinit(gguf_writer *w) {
  ts_text_deinit(&w->kv);
  ts_text_deinit(&w->infos);
  ts_text_deinit(&w->data);
}

static void put_key(gguf_writer *w, const char *key, uint32_t type) {
  w->kv_count++;
  put_string(&w->kv, key);
  put_uint(&w->kv, 4, type);
}

void gguf_put_int(gguf_writer *w, const char *key, uint32_t type, int64_t value) {
  static const uint8_t bytes[13] = {1, 1, 2, 2, 4, 4, 0, 1, 0, 0, 8, 8, 0};
  put_key(w, key, type);
  put_uint(&w->kv, bytes[type], (uint64_t)value);
}

static void put_bits(ts_text *t, const void *value, unsigned bytes) { ts_text_add(t, (ts_str){value, bytes}); }

void gguf_put_f32(gguf_writer *w, const char *key, float value) {
  put_key(w, key, 6);
  put_bits(&w->kv, &value, 4);
}

void gguf_put_f64(gguf_writer *w, const char *key, double value) {
  put_key(w, key, 12);
  put_bits(&w->kv, &value, 8);
}

void gguf_put_string(gguf_writer *w, const char *key, const char *value) {
  put_key(w, key, 8);
  put_string(&w->kv, value);
}

static void put_array(gguf_writer *w, const char *key, uint32_t type, uint64_t count) {
  put_key(w, key, 9);
  put_uint(&w->kv, 4, type);
  put_uint(&w->kv, 8, count);
}

void gguf_put_strings(gguf_writer *w, const char *key, const char *const *values, uint64_t count) {
  put_array(w, key, 8, count);
  for (uint64_t i = 0; i < count; i++) put_string(&w->kv, values[i]);
}

void gguf_put_f32s(gguf_writer *w, const char *key, const float *values, uint64_t count) {
  put_array(w, key, 6, count);
  if (count) put_bits(&w->kv, values, (unsigned)(4 * count));
}

void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *values, uint64_t count) {
  put_array(w, key, 5, count);
  if (count) put_bits(&w->kv, values, (unsigned)(4 * count));
}

void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t type, unsigned rank, const int64_t *shape, const void *data, size_t bytes) {
  while (w->data.len % w->alignment) ts_text_putc(&w->data, 0);
  w->tensor_count++;
  put_string(&w->infos, name);
  put_uint(&w->infos, 4, rank);
  for (unsigned i = rank; i-- > 0;) put_uint(&w->infos, 8, (uint64_t)shape[i]);
  put_uint(&w->infos, 4, type);
  put_uint(&w->infos, 8, w->data.len);
  if (bytes) ts_text_add(&w->data, (ts_str){data, bytes});
}

void gguf_finish(const gguf_writer *w, ts_text *out) {
  size_t start = out->len;
  ts_text_puts(out, "GGUF");
  put_uint(out, 4, w->version);
  put_uint(out, 8, w->tensor_count);
  put_uint(out, 8, w->kv_count);
  ts_text_add(out, ts_text_str(&w->kv));
  ts_text_add(out, ts_text_str(&w->infos));
  while ((out->len - start) % w->alignment) ts_text_putc(out, 0);
  ts_text_add(out, ts_text_str(&w->data));
}
