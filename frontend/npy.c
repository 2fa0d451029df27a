// Reader and writer of .npy files (see npy.h). The header is a Python dictionary of exactly three known keys; a small parser reads it.
#include "frontend/npy.h"

#include "base/checked.h"
#include "frontend/tensor_priv.h"

#include <stdlib.h>

static const struct {
  const char *descr;   // without the byte order
  ir_dtype type;
} types[] = {
  {"f8", IR_f64}, {"f4", IR_f32}, {"f2", IR_f16}, {"i8", IR_i64}, {"i4", IR_i32}, {"i2", IR_i16}, {"i1", IR_i8}, {"u8", IR_u64}, {"u4", IR_u32},
  {"u2", IR_u16}, {"u1", IR_u8}, {"b1", IR_u8},
};

typedef struct reader {
  ts_str bytes;
  size_t at, end;      // of the header
  ts_sym path;
  ts_diags *d;
} reader;

static ts_status bad(const reader *r, const char *what) {
  return ts_report(r->d, (ts_loc){.file = r->path, .offset = r->at}, &diag_file_header, "the header: %s", what);
}

static void blanks(reader *r) {
  while (r->at < r->end && strchr(" \t\n", r->bytes.data[r->at]) && r->bytes.data[r->at]) r->at++;
}

static bool take(reader *r, const char *word) {
  blanks(r);
  size_t n = strlen(word);
  if (r->end - r->at < n || memcmp(r->bytes.data + r->at, word, n) != 0) return false;
  r->at += n;
  return true;
}

static bool take_string(reader *r, ts_str *out) {
  blanks(r);
  if (r->at == r->end || (r->bytes.data[r->at] != '\'' && r->bytes.data[r->at] != '"')) return false;
  char quote = r->bytes.data[r->at];
  const char *from = r->bytes.data + r->at + 1, *to = memchr(from, quote, r->end - r->at - 1);
  if (!to) return false;
  *out = (ts_str){from, (size_t)(to - from)};
  r->at = (size_t)(to + 1 - r->bytes.data);
  return true;
}

static ts_status read_descr(reader *r, fe_npy *out) {
  size_t at = r->at;
  ts_str s;
  if (!take_string(r, &s)) {
    blanks(r);
    at = r->at;
    return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_type, "structured types are not supported");
  }
  ts_loc loc = {.file = r->path, .offset = at};
  bool order = s.len && strchr("<>|=", s.data[0]);
  ts_str name = order ? (ts_str){s.data + 1, s.len - 1} : s;
  if (order && s.data[0] == '>' && !ts_str_ends(s, "1")) return ts_report(r->d, loc, &diag_file_type, "big-endian data ('%.*s') is not supported", TS_FMT(fe_shown(s)));
  for (size_t i = 0; order && i < sizeof types / sizeof *types; i++)
    if (ts_str_is(name, types[i].descr)) {
      out->type = types[i].type;
      return TS_OK;
    }
  return ts_report(r->d, loc, &diag_file_type, "the type '%.*s' is not supported", TS_FMT(fe_shown(s)));
}

static ts_status read_shape(reader *r, fe_npy *out) {
  if (!take(r, "(")) return bad(r, "the shape is no tuple");
  while (!take(r, ")")) {
    int64_t n = 0;
    size_t digits = 0;
    blanks(r);
    if (out->rank == IR_MAX_RANK) return bad(r, "more than 8 axes");
    for (; r->at < r->end && r->bytes.data[r->at] >= '0' && r->bytes.data[r->at] <= '9'; r->at++, digits++)
      if (!ts_mul_i64(n, 10, &n) || !ts_add_i64(n, r->bytes.data[r->at] - '0', &n)) return bad(r, "a size overflows");
    if (!digits) return bad(r, "a size is expected in the shape");
    out->shape[out->rank++] = n;
    if (take(r, ",")) continue;
    if (!take(r, ")")) return bad(r, "',' or ')' is expected in the shape");
    break;
  }
  return TS_OK;
}

static ts_status read_dictionary(reader *r, fe_npy *out) {
  bool seen[3] = {false};
  static const char *const keys[] = {"descr", "fortran_order", "shape"};
  if (!take(r, "{")) return bad(r, "no dictionary");
  while (!take(r, "}")) {
    ts_str key;
    size_t at = r->at;
    int which = -1;
    if (!take_string(r, &key)) return bad(r, "a key is expected");
    for (int i = 0; i < 3; i++)
      if (ts_str_is(key, keys[i])) which = i;
    if (which < 0) return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_header, "the header has the unknown key '%.*s'", TS_FMT(fe_shown(key)));
    if (seen[which]) return ts_report(r->d, (ts_loc){.file = r->path, .offset = at}, &diag_file_duplicate, "the header has '%s' twice", keys[which]);
    seen[which] = true;
    if (!take(r, ":")) return bad(r, "':' is expected");
    if (which == 0) TS_TRY(read_descr(r, out));
    else if (which == 2) TS_TRY(read_shape(r, out));
    else if (take(r, "True")) out->fortran = true;
    else if (!take(r, "False")) return bad(r, "fortran_order is True or False");
    if (take(r, ",")) continue;
    if (!take(r, "}")) return bad(r, "',' or '}' is expected");
    break;
  }
  blanks(r);
  if (r->at != r->end) return bad(r, "text behind the dictionary");
  for (int i = 0; i < 3; i++)
    if (!seen[i]) return ts_report(r->d, (ts_loc){.file = r->path, .offset = r->at}, &diag_file_header, "the header lacks '%s'", keys[i]);
  return TS_OK;
}

// Column-major data as a row-major copy.
static const void *transpose(ts_arena *a, const fe_npy *n, const uint8_t *from) {
  size_t size = ir_dtype_bits(n->type) / 8;
  uint8_t *to = ts_arena_alloc(a, n->bytes ? n->bytes : 1, 16);
  int64_t index[IR_MAX_RANK] = {0}, stride[IR_MAX_RANK], next = 1;
  for (unsigned i = 0; i < n->rank; i++) {
    stride[i] = next;
    next *= n->shape[i];
  }
  for (size_t e = 0; e < n->count; e++) {
    int64_t at = 0;
    for (unsigned i = 0; i < n->rank; i++) at += index[i] * stride[i];
    memcpy(to + e * size, from + (size_t)at * size, size);
    for (unsigned i = n->rank; i-- > 0 && ++index[i] == n->shape[i];) index[i] = 0;
  }
  return to;
}

static ts_status parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_npy *out) {
  out->path = ts_arena_strdup(a, path);
  reader r = {bytes, 0, 0, out->path, d};
  if (bytes.len < 6 || memcmp(bytes.data, "\x93NUMPY", 6) != 0) return ts_report(d, (ts_loc){.file = r.path}, &diag_file_magic, "not a .npy file");
  if (bytes.len < 10) return ts_report(d, (ts_loc){.file = r.path, .offset = 6}, &diag_file_truncated, "the file ends in the version and header length");
  unsigned major = (uint8_t)bytes.data[6], wide = major == 1 ? 2 : 4;
  if (major < 1 || major > 3 || bytes.data[7] != 0)
    return ts_report(d, (ts_loc){.file = r.path, .offset = 6}, &diag_file_version, "version %u.%u; 1.0, 2.0 and 3.0 are read", major, (uint8_t)bytes.data[7]);
  if (bytes.len < 8 + wide) return ts_report(d, (ts_loc){.file = r.path, .offset = 8}, &diag_file_truncated, "the file ends in the header length");
  uint64_t length = fe_le(bytes.data + 8, wide);
  r.at = 8 + wide;
  if (length > bytes.len - r.at)
    return ts_report(d, (ts_loc){.file = r.path, .offset = r.at}, &diag_file_truncated, "the file ends in the header: %llu bytes needed, %zu left",
                     (unsigned long long)length, bytes.len - r.at);
  r.end = r.at + (size_t)length;
  TS_TRY(read_dictionary(&r, out));
  int64_t size = 0;
  if (!ir_encoding_tensor_bytes(ir_encoding_plain(out->type), out->rank, out->shape, &size))
    return ts_report(d, (ts_loc){.file = r.path, .offset = r.end}, &diag_file_size, "the size overflows");
  if ((uint64_t)size != bytes.len - r.end)
    return ts_report(d, (ts_loc){.file = r.path, .offset = r.end}, (uint64_t)size > bytes.len - r.end ? &diag_file_truncated : &diag_file_bounds,
                     "the shape needs %lld bytes of data, the file holds %zu", (long long)size, bytes.len - r.end);
  out->bytes = (size_t)size;
  out->count = out->bytes / (ir_dtype_bits(out->type) / 8);
  out->data = bytes.data + r.end;
  if (out->fortran && out->rank > 1 && out->count) out->data = transpose(a, out, out->data);
  return TS_OK;
}

ts_status fe_npy_parse(ts_arena *a, ts_str bytes, const char *path, ts_diags *d, fe_npy *out) {
  *out = (fe_npy){0};
  return parse(a, bytes, path, d, out);
}

ts_status fe_npy_open(ts_arena *a, const char *path, ts_diags *d, fe_npy *out) {
  *out = (fe_npy){0};
  TS_TRY(ts_file_map(path, d, &out->mapping));
  return parse(a, (ts_str){out->mapping.data ? out->mapping.data : "", out->mapping.size}, path, d, out);
}

void fe_npy_close(fe_npy *n) {
  if (n->mapping.data) ts_file_unmap(&n->mapping);
  *n = (fe_npy){0};
}

ts_status fe_npy_write(const char *path, ir_dtype type, unsigned rank, const int64_t *shape, const void *data, ts_diags *d) {
  const char *descr = NULL;
  for (size_t i = 0; i < sizeof types / sizeof *types && !descr; i++)
    if (types[i].type == type) descr = types[i].descr;
  int64_t bytes;
  if (!descr || !ir_encoding_tensor_bytes(ir_encoding_plain(type), rank, shape, &bytes))
    return ts_report(d, (ts_loc){.file = path}, &diag_file_type, "NumPy has no type for %s", ir_dtype_name(type));
  ts_text header = {0};
  ts_text_printf(&header, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", descr[1] == '1' ? '|' : '<', descr);
  for (unsigned i = 0; i < rank; i++) ts_text_printf(&header, "%s%lld%s", i ? ", " : "", (long long)shape[i], rank == 1 ? "," : "");
  ts_text_puts(&header, "), }");
  while ((10 + header.len + 1) % 64) ts_text_putc(&header, ' ');
  ts_text_putc(&header, '\n');
  uint8_t start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)header.len, (uint8_t)(header.len >> 8)};
  ts_writer w;
  ts_status s = ts_writer_open(&w, path, d);
  if (s == TS_OK) {
    ts_writer_put(&w, start, sizeof start);
    ts_writer_put(&w, header.data, header.len);
    if (bytes) ts_writer_put(&w, data, (size_t)bytes);
    s = ts_writer_commit(&w, false, d, NULL);
  }
  ts_text_deinit(&header);
  return s;
}
