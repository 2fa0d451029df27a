// Reader of GGUF files (see gguf.h).
//
// A cursor walks header, metadata and tensor infos; every read names what it wanted when the file ends. Tensor data is checked
// last: alignment, bounds, then overlap in order of offsets.
#include "frontend/gguf.h"

#include "base/checked.h"
#include "frontend/tensor_priv.h"

#include <stdlib.h>

typedef struct ggml_type {
  uint32_t number;
  const char *name;
  uint32_t block, bytes;
  const char *encoding;
} ggml_type;

static const ggml_type ggml_types[] = {
#define GGML_TYPE(number, name, block, bytes, encoding) {number, #name, block, bytes, encoding},
#include "frontend/ggml_types.def"
#undef GGML_TYPE
};

static const struct {
  const char *name;
  unsigned bytes;   // 0: variable
} types[FE_GGUF_TYPE_COUNT] = {
  {"u8", 1}, {"i8", 1}, {"u16", 2}, {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8},
  {"i64", 8}, {"f64", 8},
};

const char *fe_gguf_type_name(fe_gguf_type t) { return (unsigned)t < FE_GGUF_TYPE_COUNT ? types[t].name : "?"; }

enum { MAX_ALIGNMENT = 1 << 20, KEY_SEED = 0x6b65 };

typedef struct reader {
  ts_arena *a;
  ts_str bytes;
  size_t at;
  ts_sym path;
  ts_diags *d;
  fe_gguf *out;
} reader;

static ts_loc here(const reader *r) { return (ts_loc){.file = r->path, .offset = r->at}; }

static ts_status need(reader *r, uint64_t n, const char *what) {
  if (n <= r->bytes.len - r->at) return TS_OK;
  return ts_report(r->d, here(r), &diag_file_truncated, "the file ends in %s: %llu bytes needed, %zu left", what, (unsigned long long)n,
                   r->bytes.len - r->at);
}

static ts_status read_uint(reader *r, unsigned bytes, const char *what, uint64_t *out) {
  TS_TRY(need(r, bytes, what));
  *out = fe_le(r->bytes.data + r->at, bytes);
  r->at += bytes;
  return TS_OK;
}

static ts_status read_string(reader *r, const char *what, ts_str *out) {
  uint64_t n;
  TS_TRY(read_uint(r, 8, what, &n));
  TS_TRY(need(r, n, what));
  *out = (ts_str){r->bytes.data + r->at, (size_t)n};
  r->at += (size_t)n;
  return TS_OK;
}

// A name that is shown and compared as text: not empty, no NUL.
static ts_status read_name(reader *r, const char *what, ts_str *out) {
  size_t at = r->at;
  TS_TRY(read_string(r, what, out));
  if (out->len && out->len < 65536 && !memchr(out->data, 0, out->len)) return TS_OK;
  return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_header, "%s is empty, too long, or contains a NUL", what);
}

static ts_status read_type(reader *r, fe_gguf_type *out) {
  uint64_t t;
  size_t at = r->at;
  TS_TRY(read_uint(r, 4, "the type of a metadata value", &t));
  if (t >= FE_GGUF_TYPE_COUNT)
    return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_header, "%llu is no type of metadata", (unsigned long long)t);
  *out = (fe_gguf_type)t;
  return TS_OK;
}

static ts_status read_scalars(reader *r, fe_gguf_value *v) {
  uint64_t bytes;
  if (__builtin_mul_overflow(v->count, types[v->element].bytes, &bytes))
    return ts_report(r->d, here(r), &diag_file_header, "an array of %llu elements", (unsigned long long)v->count);
  TS_TRY(need(r, bytes, "a metadata value"));
  v->data = (const uint8_t *)r->bytes.data + r->at;
  if (v->element == FE_GGUF_BOOL)
    for (uint64_t i = 0; i < bytes; i++)
      if (v->data[i] > 1) {
        r->at += i;
        return ts_report(r->d, here(r), &diag_file_header, "%u is no bool", v->data[i]);
      }
  r->at += (size_t)bytes;
  return TS_OK;
}

static ts_status read_value(reader *r, fe_gguf_value *v) {
  TS_TRY(read_type(r, &v->type));
  v->element = v->type;
  v->count = 1;
  if (v->type == FE_GGUF_ARRAY) {
    size_t at = r->at;
    TS_TRY(read_type(r, &v->element));
    if (v->element == FE_GGUF_ARRAY)
      return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_type, "arrays of arrays are not supported");
    TS_TRY(read_uint(r, 8, "the length of an array", &v->count));
  }
  if (v->element != FE_GGUF_STRING) return read_scalars(r, v);
  // Each string takes at least its length of 8 bytes: a count beyond that can't be right, and must not size an allocation.
  if (v->count > (r->bytes.len - r->at) / 8)
    return ts_report(r->d, here(r), &diag_file_truncated, "the file ends in an array of %llu strings", (unsigned long long)v->count);
  ts_str *strings = ts_new_array(r->a, ts_str, v->count ? v->count : 1);
  for (uint64_t i = 0; i < v->count; i++) TS_TRY(read_string(r, "a string", &strings[i]));
  v->strings = strings;
  return TS_OK;
}

static ts_status read_kv(reader *r, uint64_t count) {
  fe_gguf *g = r->out;
  if (count > (r->bytes.len - r->at) / 13)   // key length, key, type and one byte
    return ts_report(r->d, here(r), &diag_file_truncated, "%llu metadata keys do not fit the file", (unsigned long long)count);
  g->kv = ts_new_array(r->a, fe_gguf_kv, count ? count : 1);
  for (uint64_t i = 0; i < count; i++) {
    fe_gguf_kv *kv = &g->kv[i];
    kv->offset = r->at;
    TS_TRY(read_name(r, "a metadata key", &kv->key));
    TS_TRY(read_value(r, &kv->value));
    if (fe_gguf_find(g, kv->key))
      return ts_report(r->d, fe_gguf_loc(g, kv), &diag_file_duplicate, "metadata key '%.*s' occurs twice", TS_FMT(fe_shown(kv->key)));
    uint64_t probe = 0, hash;
    while (ts_map_get(&g->keys, hash = ts_hash_bytes(kv->key.data, kv->key.len, KEY_SEED + probe))) probe++;
    ts_map_put(&g->keys, hash, kv);
    g->kv_count++;
  }
  return TS_OK;
}

// Sizes of one tensor from its type and shape.
static ts_status size_tensor(reader *r, fe_tensor *x, uint32_t number, ts_loc loc) {
  const ggml_type *t = NULL;
  for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
    if (ggml_types[i].number == number) t = &ggml_types[i];
  if (!t) return ts_report(r->d, loc, &diag_file_type, "tensor '%.*s' has the unknown storage type %u", TS_FMT(fe_shown(x->name)), number);
  x->type = t->name;
  x->encoding = t->encoding ? ir_encoding_find(r->a, NULL, ts_str_of(t->encoding)) : NULL;
  int64_t bytes = 1, row = x->shape[x->rank - 1];
  if (row % t->block != 0)
    return ts_report(r->d, loc, &diag_file_size, "tensor '%.*s': rows of %lld elements do not divide into blocks of %u (%s)",
                     TS_FMT(fe_shown(x->name)), (long long)row, t->block, t->name);
  bool ok = ts_mul_i64(row / t->block, t->bytes, &bytes);
  for (unsigned i = 0; i + 1 < x->rank; i++) ok = ok && ts_mul_i64(bytes, x->shape[i], &bytes);
  if (!ok) return ts_report(r->d, loc, &diag_file_size, "the size of tensor '%.*s' overflows", TS_FMT(fe_shown(x->name)));
  x->bytes = (size_t)bytes;
  return TS_OK;
}

static ts_status read_tensor(reader *r, fe_tensor *x) {
  ts_loc loc = here(r);
  uint64_t rank, number;
  TS_TRY(read_name(r, "a tensor name", &x->name));
  TS_TRY(read_uint(r, 4, "the rank of a tensor", &rank));
  if (rank < 1 || rank > 4)
    return ts_report(r->d, loc, &diag_file_header, "tensor '%.*s' has %llu axes; 1 to 4 are possible", TS_FMT(fe_shown(x->name)),
                     (unsigned long long)rank);
  x->rank = (unsigned)rank;
  for (unsigned i = 0; i < x->rank; i++) {
    uint64_t n;
    TS_TRY(read_uint(r, 8, "the shape of a tensor", &n));
    if (n > INT64_MAX) return ts_report(r->d, loc, &diag_file_size, "the shape of tensor '%.*s' is negative", TS_FMT(fe_shown(x->name)));
    x->shape[x->rank - 1 - i] = (int64_t)n;
  }
  TS_TRY(read_uint(r, 4, "the storage type of a tensor", &number));
  TS_TRY(read_uint(r, 8, "the offset of a tensor", &x->offset));
  TS_TRY(size_tensor(r, x, (uint32_t)number, loc));
  if (!fe_tensors_add_name(&r->out->tensors, x))
    return ts_report(r->d, loc, &diag_file_duplicate, "tensor '%.*s' occurs twice", TS_FMT(fe_shown(x->name)));
  return TS_OK;
}

static int by_offset(const void *a, const void *b) {
  const fe_tensor *x = *(fe_tensor *const *)a, *y = *(fe_tensor *const *)b;
  return x->offset != y->offset ? (x->offset > y->offset) - (x->offset < y->offset) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static ts_status place_tensors(reader *r) {
  fe_gguf *g = r->out;
  fe_tensors *t = &g->tensors;
  size_t room = r->bytes.len > g->data_offset ? r->bytes.len - (size_t)g->data_offset : 0;
  fe_tensor **order = ts_new_array(r->a, fe_tensor *, t->count ? t->count : 1);
  for (size_t i = 0; i < t->count; i++) {
    fe_tensor *x = order[i] = &t->list[i];
    ts_loc loc = {.file = r->path, .offset = g->data_offset};
    if (x->offset % g->alignment)
      return ts_report(r->d, loc, &diag_file_bounds, "tensor '%.*s' lies at %llu of the data, no multiple of the alignment %llu",
                       TS_FMT(fe_shown(x->name)), (unsigned long long)x->offset, (unsigned long long)g->alignment);
    if (x->offset > room || x->bytes > room - x->offset)
      return ts_report(r->d, loc, &diag_file_truncated, "tensor '%.*s' needs bytes %llu to %llu of the data, the file holds %zu",
                       TS_FMT(fe_shown(x->name)), (unsigned long long)x->offset, (unsigned long long)(x->offset + x->bytes), room);
    x->offset += g->data_offset;
    x->data = r->bytes.data + x->offset;
  }
  qsort(order, t->count, sizeof *order, by_offset);
  for (size_t i = 1; i < t->count; i++)
    if (order[i]->bytes && order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
      return ts_report(r->d, fe_tensor_loc(t, order[i]), &diag_file_bounds, "tensors '%.*s' and '%.*s' overlap", TS_FMT(fe_shown(order[i - 1]->name)),
                       TS_FMT(fe_shown(order[i]->name)));
  return TS_OK;
}

static ts_status read_alignment(reader *r) {
  fe_gguf *g = r->out;
  g->alignment = 32;
  const fe_gguf_kv *kv = fe_gguf_find(g, TS_STR("general.alignment"));
  int64_t n;
  if (!kv) return TS_OK;
  if (!fe_gguf_int(&kv->value, 0, &n) || n < 1 || n > MAX_ALIGNMENT || !ts_is_pow2((uint64_t)n))
    return ts_report(r->d, fe_gguf_loc(g, kv), &diag_file_header, "general.alignment must be a power of two up to %d", MAX_ALIGNMENT);
  g->alignment = (uint64_t)n;
  return TS_OK;
}

static ts_status parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_gguf *out) {
  out->tensors.path = ts_arena_strdup(a, path);
  reader r = {a, bytes, 0, out->tensors.path, d, out};
  uint64_t version, tensors, keys;
  if (bytes.len < 4 || memcmp(bytes.data, "GGUF", 4) != 0) return ts_report(d, here(&r), &diag_file_magic, "not a GGUF file");
  r.at = 4;
  TS_TRY(read_uint(&r, 4, "the version", &version));
  r.at = 4;
  if (version == 0x02000000 || version == 0x03000000) return ts_report(d, here(&r), &diag_file_version, "a big-endian GGUF file; only little-endian ones are read");
  if (version != 2 && version != 3) return ts_report(d, here(&r), &diag_file_version, "GGUF version %llu; 2 and 3 are read", (unsigned long long)version);
  r.at = 8;
  out->version = (uint32_t)version;
  TS_TRY(read_uint(&r, 8, "the number of tensors", &tensors));
  TS_TRY(read_uint(&r, 8, "the number of metadata keys", &keys));
  TS_TRY(read_kv(&r, keys));
  TS_TRY(read_alignment(&r));
  if (tensors > (bytes.len - r.at) / 33)   // name length, a byte, rank, one size, type, offset
    return ts_report(d, here(&r), &diag_file_truncated, "%llu tensors do not fit the file", (unsigned long long)tensors);
  out->tensors.list = ts_new_array(a, fe_tensor, tensors ? tensors : 1);
  for (uint64_t i = 0; i < tensors; i++) {
    TS_TRY(read_tensor(&r, &out->tensors.list[i]));
    out->tensors.count++;
  }
  out->data_offset = (r.at + out->alignment - 1) / out->alignment * out->alignment;
  return place_tensors(&r);
}

ts_status fe_gguf_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_gguf *out) {
  *out = (fe_gguf){0};
  return parse(a, bytes, path, d, out);
}

ts_status fe_gguf_open(ts_arena *a, const char *path, ts_diags *d, fe_gguf *out) {
  *out = (fe_gguf){0};
  TS_TRY(ts_file_map(path, d, &out->mapping));
  return parse(a, (ts_str){out->mapping.data ? out->mapping.data : "", out->mapping.size}, path, d, out);
}

void fe_gguf_close(fe_gguf *g) {
  ts_map_deinit(&g->keys);
  ts_map_deinit(&g->tensors.names);
  if (g->mapping.data) ts_file_unmap(&g->mapping);
  *g = (fe_gguf){0};
}

// ---- metadata -------------------------------------------------------------------------------------------------------------------------

ts_loc fe_gguf_loc(const fe_gguf *g, const fe_gguf_kv *kv) { return (ts_loc){.file = g->tensors.path, .offset = kv->offset}; }

const fe_gguf_kv *fe_gguf_find(const fe_gguf *g, ts_str key) {
  for (uint64_t probe = 0;; probe++) {
    const fe_gguf_kv *kv = ts_map_get(&g->keys, ts_hash_bytes(key.data, key.len, KEY_SEED + probe));
    if (!kv || ts_str_eq(kv->key, key)) return kv;
  }
}

bool fe_gguf_int(const fe_gguf_value *v, uint64_t i, int64_t *out) {
  if (i >= v->count || !v->data || v->element == FE_GGUF_F32 || v->element == FE_GGUF_F64) return false;
  unsigned bytes = types[v->element].bytes;
  uint64_t u = fe_le(v->data + i * bytes, bytes);
  switch (v->element) {
    case FE_GGUF_I8: *out = (int8_t)u; return true;
    case FE_GGUF_I16: *out = (int16_t)u; return true;
    case FE_GGUF_I32: *out = (int32_t)u; return true;
    case FE_GGUF_U64:
      if (u > INT64_MAX) return false;
      break;
    default: break;
  }
  *out = (int64_t)u;
  return true;
}

bool fe_gguf_real(const fe_gguf_value *v, uint64_t i, double *out) {
  int64_t n;
  if (fe_gguf_int(v, i, &n)) {
    *out = (double)n;
    return v->element != FE_GGUF_BOOL;
  }
  if (i >= v->count || !v->data || (v->element != FE_GGUF_F32 && v->element != FE_GGUF_F64)) return false;
  unsigned bytes = types[v->element].bytes;
  *out = ir_float_of_bits(bytes == 4 ? IR_f32 : IR_f64, fe_le(v->data + i * bytes, bytes));
  return true;
}

bool fe_gguf_bool(const fe_gguf_value *v, uint64_t i, bool *out) {
  if (i >= v->count || v->element != FE_GGUF_BOOL) return false;
  *out = v->data[i];
  return true;
}

bool fe_gguf_string(const fe_gguf_value *v, uint64_t i, ts_str *out) {
  if (i >= v->count || v->element != FE_GGUF_STRING) return false;
  *out = v->strings[i];
  return true;
}

static ts_status get(const fe_gguf *g, const char *key, ts_diags *d, const fe_gguf_kv **out) {
  *out = fe_gguf_find(g, ts_str_of(key));
  if (*out) return TS_OK;
  return ts_report(d, (ts_loc){.file = g->tensors.path}, &diag_key_missing, "the file has no metadata key '%s'", key);
}

static ts_status wrong_type(const fe_gguf *g, const fe_gguf_kv *kv, const char *wanted, ts_diags *d) {
  const fe_gguf_value *v = &kv->value;
  bool array = v->type == FE_GGUF_ARRAY;
  return ts_report(d, fe_gguf_loc(g, kv), &diag_key_type, "metadata key '%.*s' is %s%s, not %s", TS_FMT(fe_shown(kv->key)), array ? "an array of " : "",
                   fe_gguf_type_name(v->element), wanted);
}

#define GETTER(name, result, read, wanted)                                                     \
  ts_status fe_gguf_get_##name(const fe_gguf *g, const char *key, ts_diags *d, result *out) {  \
    const fe_gguf_kv *kv;                                                                      \
    TS_TRY(get(g, key, d, &kv));                                                               \
    if (kv->value.type != FE_GGUF_ARRAY && read(&kv->value, 0, out)) return TS_OK;             \
    return wrong_type(g, kv, wanted, d);                                                       \
  }
GETTER(int, int64_t, fe_gguf_int, "an integer of 64 bits")
GETTER(real, double, fe_gguf_real, "a number")
GETTER(bool, bool, fe_gguf_bool, "a bool")
GETTER(string, ts_str, fe_gguf_string, "a string")

ts_status fe_gguf_get_array(const fe_gguf *g, const char *key, ts_diags *d, const fe_gguf_value **out) {
  const fe_gguf_kv *kv;
  TS_TRY(get(g, key, d, &kv));
  if (kv->value.type != FE_GGUF_ARRAY) return wrong_type(g, kv, "an array", d);
  *out = &kv->value;
  return TS_OK;
}
