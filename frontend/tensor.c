// What the readers of tensor files share (see tensor.h).
#include "frontend/tensor_priv.h"

#define TS_DIAG TS_DIAG_DEFINE
#include "frontend/files_diag.def"
#undef TS_DIAG

enum { SEED = 0x7e55 };

ts_loc fe_tensor_loc(const fe_tensors *t, const fe_tensor *x) { return (ts_loc){.file = t->path, .offset = x->offset}; }

// Names of one hash are chained by probing with further seeds; two in a row that collide in 64 bits are not a practical matter, but
// a hostile file must not confuse names, so every hit is compared.
const fe_tensor *fe_tensors_find(const fe_tensors *t, ts_str name) {
  for (uint64_t probe = 0;; probe++) {
    const fe_tensor *x = ts_map_get(&t->names, ts_hash_bytes(name.data, name.len, SEED + probe));
    if (!x || ts_str_eq(x->name, name)) return x;
  }
}

bool fe_tensors_add_name(fe_tensors *t, fe_tensor *x) {
  for (uint64_t probe = 0;; probe++) {
    uint64_t key = ts_hash_bytes(x->name.data, x->name.len, SEED + probe);
    const fe_tensor *other = ts_map_get(&t->names, key);
    if (!other) {
      ts_map_put(&t->names, key, x);
      return true;
    }
    if (ts_str_eq(other->name, x->name)) return false;
  }
}

ts_status fe_tensor_use(const fe_tensors *t, const fe_tensor *x, ts_diags *d) {
  if (x->encoding) return TS_OK;
  return ts_report(d, fe_tensor_loc(t, x), &diag_file_type, "tensor '%.*s' is stored as %s, which is not supported", TS_FMT(x->name), x->type);
}

ts_str fe_shown(ts_str s) { return s.len > 80 ? (ts_str){s.data, 80} : s; }
