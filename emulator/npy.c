// Reading and writing of .npy files (see npy.h).
#include "emulator/npy.h"

#include "base/checked.h"
#include "emulator/diag.h"

#include <stdlib.h>

static ts_status bad(ts_diags *d, const char *path, const char *why) { return ts_report(d, (ts_loc){0}, &diag_emu_npy, "%s: %s", path, why); }

// The text behind 'key': in the header dictionary.
static const char *value_of(const char *header, const char *key) {
  const char *at = strstr(header, key);
  if (!at) return NULL;
  at = strchr(at + strlen(key), ':');
  if (!at) return NULL;
  at++;
  while (*at == ' ') at++;
  return at;
}

ts_status emu_npy_read(ts_arena *a, const char *path, ts_diags *d, emu_npy *out) {
  *out = (emu_npy){0};
  ts_str file;
  TS_TRY(ts_file_read(a, path, d, &file));
  const uint8_t *p = (const uint8_t *)file.data;
  if (file.len < 10 || memcmp(p, "\x93NUMPY", 6)) return bad(d, path, "not a .npy file");
  size_t header = p[8] | (size_t)p[9] << 8, start = 10;
  if (p[6] >= 2) {
    if (file.len < 12) return bad(d, path, "the header is cut off");
    header |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    start = 12;
  }
  if (header > file.len - start) return bad(d, path, "the header is cut off");
  const char *text = ts_arena_strndup(a, file.data + start, header);
  const char *descr = value_of(text, "'descr'"), *order = value_of(text, "'fortran_order'"), *shape = value_of(text, "'shape'");
  if (!descr || !order || !shape || *descr != '\'' || *shape != '(') return bad(d, path, "the header has no descr, fortran_order and shape that can be used");
  size_t n = strcspn(descr + 1, "'");
  if (n < 2 || n >= sizeof out->descr) return bad(d, path, "structured types can't be used");
  memcpy(out->descr, descr + 1, n);
  if (out->descr[0] == '>') return bad(d, path, "big-endian numbers can't be used");
  if (*order == 'T') return bad(d, path, "Fortran order can't be used");
  size_t bytes = (size_t)strtoul(out->descr + 2, NULL, 10);
  for (shape++; *shape && *shape != ')';) {
    if (*shape < '0' || *shape > '9') {
      shape++;
      continue;
    }
    char *end;
    size_t k = (size_t)strtoull(shape, &end, 10);
    if (out->rank == 8 || !ts_mul_size(bytes, k, &bytes)) return bad(d, path, "the shape is too large");
    out->shape[out->rank++] = k;
    shape = end;
  }
  if (!bytes && !out->rank) return bad(d, path, "an item of no bytes");
  if (bytes > file.len - start - header) return bad(d, path, "the data are cut off");
  out->data = p + start + header;
  out->bytes = bytes;
  return TS_OK;
}

ts_status emu_npy_write(const char *path, const char *descr, const size_t *shape, unsigned rank, const void *data, size_t bytes, ts_diags *d) {
  ts_text h = {0};
  ts_text_printf(&h, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (unsigned i = 0; i < rank; i++) ts_text_printf(&h, "%zu,%s", shape[i], i + 1 < rank ? " " : "");
  ts_text_puts(&h, "), }");
  while ((10 + h.len + 1) % 64) ts_text_putc(&h, ' ');
  ts_text_putc(&h, '\n');
  ts_writer w;
  ts_status s = ts_writer_open(&w, path, d);
  if (s == TS_OK) {
    uint8_t lead[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)h.len, (uint8_t)(h.len >> 8)};
    ts_writer_put(&w, lead, sizeof lead);
    ts_writer_put(&w, h.data, h.len);
    ts_writer_put(&w, data, bytes);
    s = ts_writer_commit(&w, false, d, NULL);
  }
  ts_text_deinit(&h);
  return s;
}
