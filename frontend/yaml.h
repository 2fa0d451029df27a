// YAML as specs use it: libyaml's events become a tree of nodes with places; scalars stay text and are resolved by us, by YAML 1.2's
// core rules. Refused: tags, merge keys, several documents, duplicate keys, and more nodes or depth (aliases followed) than a spec needs.
#ifndef TESSERA_FRONTEND_YAML_H
#define TESSERA_FRONTEND_YAML_H

#include "base/diag.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "frontend/spec_diag.def"
#undef TS_DIAG

enum { FE_YAML_MAX_NODES = 1 << 16, FE_YAML_MAX_DEPTH = 64, FE_YAML_MAX_BYTES = 4 << 20 };

typedef enum fe_node_kind { FE_SCALAR, FE_SEQ, FE_MAP } fe_node_kind;
typedef struct fe_node fe_node;
typedef struct fe_pair {
  fe_node *key, *value;     // key: a scalar
} fe_pair;
struct fe_node {
  fe_node_kind kind;
  bool plain;               // SCALAR: not quoted, so it may be null, a number, a boolean
  ts_loc loc;               // of the first character of the content
  ts_str text;              // SCALAR, NUL-terminated
  TS_VEC(fe_node *) items;  // SEQ
  TS_VEC(fe_pair) pairs;    // MAP, in the text's order
};

// `text` and `file` must outlive the nodes. An empty document is an empty map.
ts_status fe_yaml_parse(ts_arena *a, ts_sym file, ts_str text, ts_diags *d, fe_node **out);
// The same for one value of the command line ("--set a=YAML").
fe_node *fe_map_get(const fe_node *map, const char *key);          // NULL when absent or not a map
fe_pair *fe_map_pair(const fe_node *map, const char *key);
const char *fe_node_kind_name(const fe_node *n);                   // "a map", "a list", "text"

bool fe_is_null(const fe_node *n);                                 // null, ~ or nothing
bool fe_scalar_bool(const fe_node *n, bool *out);
bool fe_scalar_int(const fe_node *n, int64_t *out);                // decimal, 0x, 0o; false when it does not fit
bool fe_scalar_real(const fe_node *n, double *out);                // also integers; finite only

#endif
