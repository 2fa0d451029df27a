// Reading .tir files (see text_file.h).
#include "drive/text_file.h"

#include "base/file.h"
#include "ir/weights.h"

ts_status drive_read_module(ts_arena *a, ts_interner *names, ts_diags *d, const char *path, ir_module **out) {
  *out = NULL;
  ts_str text;
  TS_TRY(ts_file_read(a, path, d, &text));
  ts_sym file = ts_intern_z(names, path);
  ts_diags_add_source(d, file, text);
  ir_module *m = ir_module_create(a, names, d);
  ts_status s = ir_parse_module(m, file, text);
  if (s == TS_OK) s = ir_verify_module(m);
  if (s != TS_OK) ir_module_destroy(m);
  else *out = m;
  return s;
}

ts_status drive_random_weights(ir_module *m, uint64_t seed) {
  for (size_t i = 0; i < m->weights.count; i++) {
    ir_weight *w = (ir_weight *)m->weights.data[i], *filled;
    TS_TRY(ir_weight_random(m->arena, w->name, w->encoding, w->rank, w->shape, seed + i, w->loc, m->diags, &filled));
    *w = *filled;   // functions point to it
  }
  return TS_OK;
}
