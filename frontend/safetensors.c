// Reader and writer of safetensors files (see safetensors.h). The JSON header goes through jansson, which refuses duplicate keys.
#include "frontend/safetensors.h"

#include "base/checked.h"
#include "frontend/tensor_priv.h"

#include <jansson.h>
#include <stdlib.h>

static const struct {
  const char *name;
  ir_dtype type;
} types[] = {
  {"F64", IR_f64}, {"F32", IR_f32}, {"F16", IR_f16}, {"BF16", IR_bf16}, {"F8_E4M3", IR_f8e4m3}, {"F8_E5M2", IR_f8e5m2}, {"I64", IR_i64},
  {"I32", IR_i32}, {"I16", IR_i16}, {"I8", IR_i8}, {"U64", IR_u64}, {"U32", IR_u32}, {"U16", IR_u16}, {"U8", IR_u8}, {"BOOL", IR_u8},
};

enum { MAX_HEADER = 100 * 1000 * 1000 };

typedef struct reader {
  ts_arena *a;
  ts_sym path;
  ts_str header;       // the JSON text
  ts_str data;
  ts_diags *d;
  fe_safetensors *out;
} reader;

// Where a key stands in the header: its first occurrence in quotes, else the start.
static ts_loc loc_of(const reader *r, const char *key) {
  ts_loc loc = {.file = r->path, .offset = 8};
  size_t n = strlen(key);
  if (n + 2 > r->header.len) return loc;
  for (size_t i = 0; i + n + 2 <= r->header.len; i++)
    if (r->header.data[i] == '"' && r->header.data[i + n + 1] == '"' && memcmp(r->header.data + i + 1, key, n) == 0) {
      loc.offset = 8 + i;
      break;
    }
  return loc;
}

static ts_status bad(const reader *r, const char *name, const char *what) {
  return ts_report(r->d, loc_of(r, name), &diag_file_header, "tensor '%.80s': %s", name, what);
}

static ts_status read_shape(const reader *r, const char *name, json_t *shape, fe_tensor *x, int64_t *elements) {
  if (!json_is_array(shape)) return bad(r, name, "no shape");
  if (json_array_size(shape) > IR_MAX_RANK)
    return ts_report(r->d, loc_of(r, name), &diag_file_header, "tensor '%.80s' has %zu axes; at most %d are read", name, json_array_size(shape),
                     IR_MAX_RANK);
  *elements = 1;
  x->rank = (unsigned)json_array_size(shape);
  for (unsigned i = 0; i < x->rank; i++) {
    json_t *n = json_array_get(shape, i);
    if (!json_is_integer(n) || json_integer_value(n) < 0) return bad(r, name, "the shape holds something other than sizes");
    x->shape[i] = json_integer_value(n);
    if (!ts_mul_i64(*elements, x->shape[i], elements))
      return ts_report(r->d, loc_of(r, name), &diag_file_size, "tensor '%.80s': the number of elements overflows", name);
  }
  return TS_OK;
}

static ts_status read_tensor(const reader *r, const char *name, json_t *entry, fe_tensor *x) {
  if (!json_is_object(entry)) return bad(r, name, "the entry is no object");
  const char *key;
  json_t *value;
  json_object_foreach(entry, key, value) if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
    return ts_report(r->d, loc_of(r, name), &diag_file_header, "tensor '%.80s' has the unknown key '%.80s'", name, key);
  const char *type = json_string_value(json_object_get(entry, "dtype"));
  if (!type) return bad(r, name, "no dtype");
  x->name = ts_str_of(ts_arena_strdup(r->a, name));
  x->type = ts_arena_strdup(r->a, type);
  ir_dtype t = IR_VOID;
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (strcmp(type, types[i].name) == 0) t = types[i].type;
  x->encoding = ir_encoding_plain(t);
  int64_t elements = 0, bytes;
  TS_TRY(read_shape(r, name, json_object_get(entry, "shape"), x, &elements));
  json_t *at = json_object_get(entry, "data_offsets");
  json_t *from = json_array_get(at, 0), *to = json_array_get(at, 1);
  if (!json_is_array(at) || json_array_size(at) != 2 || !json_is_integer(from) || !json_is_integer(to)) return bad(r, name, "no data_offsets [begin, end]");
  int64_t lo = json_integer_value(from), hi = json_integer_value(to);
  if (lo < 0 || hi < lo || (uint64_t)hi > r->data.len)
    return ts_report(r->d, loc_of(r, name), &diag_file_bounds, "tensor '%.80s': bytes %lld to %lld of the data, the file holds %zu", name,
                     (long long)lo, (long long)hi, r->data.len);
  x->bytes = (size_t)(hi - lo);
  x->offset = 8 + r->header.len + (uint64_t)lo;
  x->data = r->data.data + lo;
  if (t == IR_VOID) return TS_OK;   // refused on use; its size can't be checked
  if (!ts_mul_i64(elements, ir_dtype_bits(t) / 8, &bytes) || bytes != hi - lo)
    return ts_report(r->d, loc_of(r, name), &diag_file_size, "tensor '%.80s': %lld bytes, but %lld elements of %s", name, (long long)(hi - lo),
                     (long long)elements, type);
  return TS_OK;
}

static ts_status read_metadata(const reader *r, json_t *object) {
  if (!json_is_object(object))
    return ts_report(r->d, loc_of(r, "__metadata__"), &diag_file_header, "__metadata__ is no object of strings");
  fe_safetensors *s = r->out;
  s->metadata = ts_new_array(r->a, fe_metadata, json_object_size(object) + 1);
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    if (!json_is_string(value)) return ts_report(r->d, loc_of(r, key), &diag_file_header, "metadata '%.80s' is no string", key);
    s->metadata[s->metadata_count++] =
      (fe_metadata){ts_str_of(ts_arena_strdup(r->a, key)), {ts_arena_strndup(r->a, json_string_value(value), json_string_length(value)), json_string_length(value)}};
  }
  return TS_OK;
}

static int by_offset(const void *a, const void *b) {
  const fe_tensor *x = a, *y = b;
  return x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

// Data must be used from end to end, each byte once.
static ts_status check_cover(const reader *r) {
  const fe_tensors *t = &r->out->tensors;
  uint64_t next = 8 + r->header.len;
  for (size_t i = 0; i < t->count; i++) {
    const fe_tensor *x = &t->list[i];
    if (x->offset != next)
      return ts_report(r->d, loc_of(r, x->name.data), &diag_file_bounds, "tensor '%.80s' begins at byte %llu of the file, %s byte %llu", x->name.data,
                       (unsigned long long)x->offset, x->offset < next ? "inside the one before, which ends at" : "leaving a hole from",
                       (unsigned long long)next);
    next += x->bytes;
  }
  if (next != 8 + r->header.len + r->data.len)
    return ts_report(r->d, (ts_loc){.file = r->path, .offset = next}, &diag_file_bounds, "no tensor uses the bytes from here to the end, %llu",
                     (unsigned long long)(8 + r->header.len + r->data.len));
  return TS_OK;
}

static ts_status read_root(const reader *r, json_t *root) {
  fe_tensors *t = &r->out->tensors;
  t->list = ts_new_array(r->a, fe_tensor, json_object_size(root) + 1);
  const char *key;
  json_t *value;
  json_object_foreach(root, key, value) {
    if (strcmp(key, "__metadata__") == 0) TS_TRY(read_metadata(r, value));
    else TS_TRY(read_tensor(r, key, value, &t->list[t->count++]));
  }
  qsort(t->list, t->count, sizeof *t->list, by_offset);
  for (size_t i = 0; i < t->count; i++)
    if (!fe_tensors_add_name(t, &t->list[i])) return bad(r, t->list[i].name.data, "occurs twice");
  return check_cover(r);
}

static ts_status parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_safetensors *out) {
  out->tensors.path = ts_arena_strdup(a, path);
  reader r = {a, out->tensors.path, {0}, {0}, d, out};
  ts_loc start = {.file = r.path};
  if (bytes.len < 8) return ts_report(d, start, &diag_file_truncated, "the file ends in the length of the header");
  uint64_t n = fe_le(bytes.data, 8);
  if (n > MAX_HEADER) return ts_report(d, start, &diag_file_header, "a header of %llu bytes; at most %d are read", (unsigned long long)n, MAX_HEADER);
  if (n > bytes.len - 8)
    return ts_report(d, start, &diag_file_truncated, "the file ends in the header: %llu bytes needed, %zu left", (unsigned long long)n, bytes.len - 8);
  r.header = (ts_str){bytes.data + 8, (size_t)n};
  r.data = (ts_str){bytes.data + 8 + n, bytes.len - 8 - (size_t)n};
  if (n == 0 || r.header.data[0] != '{') return ts_report(d, (ts_loc){.file = r.path, .offset = 8}, &diag_file_magic, "not a safetensors file: the header is no JSON object");
  json_error_t error;
  json_t *root = json_loadb(r.header.data, r.header.len, JSON_REJECT_DUPLICATES, &error);
  if (!root) {
    bool twice = json_error_code(&error) == json_error_duplicate_key;
    uint64_t at = 8 + (error.position > 0 ? (uint64_t)error.position : 0);
    return ts_report(d, (ts_loc){.file = r.path, .offset = at}, twice ? &diag_file_duplicate : &diag_file_header, "the header: %s", error.text);
  }
  ts_status s = json_is_object(root) ? read_root(&r, root) : ts_report(d, (ts_loc){.file = r.path, .offset = 8}, &diag_file_header, "the header is no object");
  json_decref(root);
  return s;
}

ts_status fe_safetensors_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_safetensors *out) {
  *out = (fe_safetensors){0};
  return parse(a, bytes, path, d, out);
}

ts_status fe_safetensors_open(ts_arena *a, const char *path, ts_diags *d, fe_safetensors *out) {
  *out = (fe_safetensors){0};
  TS_TRY(ts_file_map(path, d, &out->mapping));
  return parse(a, (ts_str){out->mapping.data ? out->mapping.data : "", out->mapping.size}, path, d, out);
}

void fe_safetensors_close(fe_safetensors *s) {
  ts_map_deinit(&s->tensors.names);
  if (s->mapping.data) ts_file_unmap(&s->mapping);
  *s = (fe_safetensors){0};
}

const fe_metadata *fe_safetensors_metadata(const fe_safetensors *s, const char *key) {
  for (size_t i = 0; i < s->metadata_count; i++)
    if (ts_str_is(s->metadata[i].key, key)) return &s->metadata[i];
  return NULL;
}

// ---- writing --------------------------------------------------------------------------------------------------------------------------

static ts_status write_header(const char *path, const fe_tensor *tensors, size_t count, const fe_metadata *metadata, size_t metadata_count,
                              ts_diags *d, ts_text *out) {
  ts_text_putc(out, '{');
  if (metadata_count) {
    ts_text_puts(out, "\"__metadata__\":{");
    for (size_t i = 0; i < metadata_count; i++) {
      if (i) ts_text_putc(out, ',');
      ts_text_json(out, metadata[i].key);
      ts_text_putc(out, ':');
      ts_text_json(out, metadata[i].value);
    }
    ts_text_putc(out, '}');
  }
  uint64_t at = 0;
  for (size_t i = 0; i < count; i++) {
    const fe_tensor *x = &tensors[i];
    const char *type = NULL;
    for (size_t k = 0; k < sizeof types / sizeof *types && !type; k++)
      if (x->encoding == ir_encoding_plain(types[k].type)) type = types[k].name;
    int64_t bytes;
    if (!type || !ir_encoding_tensor_bytes(x->encoding, x->rank, x->shape, &bytes))
      return ts_report(d, (ts_loc){.file = path}, &diag_file_type, "tensor '%.*s' can't be written as %s", TS_FMT(fe_shown(x->name)),
                       x->encoding ? x->encoding->name : "nothing");
    if (i || metadata_count) ts_text_putc(out, ',');
    ts_text_json(out, x->name);
    ts_text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", type);
    for (unsigned k = 0; k < x->rank; k++) ts_text_printf(out, "%s%lld", k ? "," : "", (long long)x->shape[k]);
    ts_text_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + (uint64_t)bytes));
    at += (uint64_t)bytes;
  }
  ts_text_putc(out, '}');
  while (out->len % 8) ts_text_putc(out, ' ');
  return TS_OK;
}

ts_status fe_safetensors_write(const char *path, const fe_tensor *tensors, size_t count, const fe_metadata *metadata, size_t metadata_count,
                               ts_diags *d) {
  ts_text header = {0};
  ts_writer w;
  ts_status s = write_header(path, tensors, count, metadata, metadata_count, d, &header);
  if (s == TS_OK) s = ts_writer_open(&w, path, d);
  if (s == TS_OK) {
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.len >> 8 * i);
    ts_writer_put(&w, length, sizeof length);
    ts_writer_put(&w, header.data, header.len);
    for (size_t i = 0; i < count; i++) {
      int64_t bytes = 0;
      ir_encoding_tensor_bytes(tensors[i].encoding, tensors[i].rank, tensors[i].shape, &bytes);
      if (bytes) ts_writer_put(&w, tensors[i].data, (size_t)bytes);
    }
    s = ts_writer_commit(&w, false, d, NULL);
  }
  ts_text_deinit(&header);
  return s;
}
