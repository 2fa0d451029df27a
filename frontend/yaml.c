// YAML events to nodes (see yaml.h).
#include "frontend/yaml.h"

#include "base/map.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <yaml.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "frontend/spec_diag.def"
#undef TS_DIAG

typedef struct reader {
  ts_arena *a;
  ts_diags *d;
  ts_sym file;
  ts_str text;
  yaml_parser_t parser;
  ts_map anchors;           // hash of the name -> anchor
  size_t nodes;             // made, aliases counted with everything below
} reader;

typedef struct anchor {
  ts_str name;
  fe_node *node;
  size_t weight;            // nodes below, itself included
  size_t depth;
  bool open;                // still being read: an alias to it would be a circle
} anchor;

static ts_loc loc_at(const reader *r, yaml_mark_t m) { return (ts_loc){.file = r->file, .line = (uint32_t)m.line + 1, .col = (uint32_t)m.column + 1}; }

// What usually lies behind an error of libyaml on this line (traps of flow style).
static const char *trap(const reader *r, size_t line) {
  const char *p = r->text.data, *end = p + r->text.len;
  for (size_t i = 0; i < line && p < end; i++) {
    const char *n = memchr(p, '\n', (size_t)(end - p));
    p = n ? n + 1 : end;
  }
  const char *stop = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
  if (!stop) stop = end;
  bool brace = false;
  for (const char *c = p; c < stop; c++) {
    if (*c == '{' || *c == '[') brace = true;
    if (*c == '*' && (c == p || c[-1] == ' ' || c[-1] == '[')) return "text that begins with '*' must stand in quotes";
    if (*c == '\t') return "tabs can't indent; use blanks";
  }
  return brace ? "inside {} and [] a type or a call must stand in quotes, or move to a line of its own" : NULL;
}

static ts_status syntax(reader *r) {
  const yaml_parser_t *p = &r->parser;
  if (p->error == YAML_READER_ERROR)
    return ts_report(r->d, (ts_loc){.file = r->file}, &diag_yaml_syntax, "%s at byte %zu", p->problem ? p->problem : "bad text", p->problem_offset);
  ts_status s = ts_report(r->d, loc_at(r, p->problem_mark), &diag_yaml_syntax, "%s%s%s", p->context ? p->context : "", p->context ? ": " : "",
                          p->problem ? p->problem : "out of memory");
  const char *hint = trap(r, p->problem_mark.line);
  if (!hint && p->context) hint = trap(r, p->context_mark.line);
  if (hint) ts_note(r->d, loc_at(r, p->problem_mark), "%s", hint);
  return s;
}

static ts_status next(reader *r, yaml_event_t *e) { return yaml_parser_parse(&r->parser, e) ? TS_OK : syntax(r); }

static ts_status build(reader *r, yaml_event_t *e, unsigned depth, fe_node **out, size_t *weight, size_t *height);

static uint64_t hash_of(ts_str s) { return ts_hash_bytes(s.data, s.len, 17); }

static anchor *anchor_find(reader *r, ts_str name) {
  anchor *x = ts_map_get(&r->anchors, hash_of(name));
  return x && ts_str_eq(x->name, name) ? x : NULL;
}

static ts_status follow_alias(reader *r, const char *name, ts_loc loc, unsigned depth, fe_node **out, size_t *weight, size_t *height) {
  anchor *x = anchor_find(r, ts_str_of(name));
  if (!x) return ts_report(r->d, loc, &diag_yaml_syntax, "*%s refers to nothing; text that begins with '*' must stand in quotes", name);
  if (x->open) return ts_report(r->d, loc, &diag_yaml_syntax, "*%s contains itself", name);
  r->nodes += x->weight;
  if (r->nodes > FE_YAML_MAX_NODES || depth + x->depth > FE_YAML_MAX_DEPTH)
    return ts_report(r->d, loc, &diag_yaml_size, "the aliases grow this text beyond %d nodes or %d levels", FE_YAML_MAX_NODES, FE_YAML_MAX_DEPTH);
  *out = x->node, *weight = x->weight, *height = x->depth;
  return TS_OK;
}

static ts_status build_seq(reader *r, unsigned depth, fe_node *n, size_t *weight, size_t *height) {
  for (;;) {
    yaml_event_t e;
    TS_TRY(next(r, &e));
    if (e.type == YAML_SEQUENCE_END_EVENT) return yaml_event_delete(&e), TS_OK;
    fe_node *item;
    size_t w, h;
    TS_TRY(build(r, &e, depth + 1, &item, &w, &h));
    ts_vec_push(r->a, &n->items, item);
    *weight += w;
    if (h + 1 > *height) *height = h + 1;
  }
}

static ts_status build_map(reader *r, unsigned depth, fe_node *n, size_t *weight, size_t *height) {
  ts_map keys = {0};
  ts_status s = TS_OK;
  while (s == TS_OK) {
    yaml_event_t e;
    if ((s = next(r, &e)) != TS_OK) break;
    if (e.type == YAML_MAPPING_END_EVENT) {
      yaml_event_delete(&e);
      break;
    }
    fe_pair p;
    size_t w, h;
    ts_loc loc = loc_at(r, e.start_mark);
    if ((s = build(r, &e, depth + 1, &p.key, &w, &h)) != TS_OK) break;
    *weight += w;
    if (p.key->kind != FE_SCALAR) s = ts_report(r->d, loc, &diag_yaml_syntax, "a key must be text, not %s", fe_node_kind_name(p.key));
    else if (p.key->plain && ts_str_is(p.key->text, "<<")) s = ts_report(r->d, loc, &diag_yaml_syntax, "merge keys (<<) are not part of the language; use an alias for each value, or `use:`");
    if (s != TS_OK) break;
    fe_node *old = ts_map_get(&keys, hash_of(p.key->text));
    if (old && ts_str_eq(old->text, p.key->text)) {
      s = ts_report(r->d, loc, &diag_spec_duplicate, "the key '%.*s' is here twice", TS_FMT(p.key->text));
      ts_note(r->d, old->loc, "the first one");
      break;
    }
    ts_map_put(&keys, hash_of(p.key->text), p.key);
    if ((s = next(r, &e)) != TS_OK) break;
    if ((s = build(r, &e, depth + 1, &p.value, &w, &h)) != TS_OK) break;
    ts_vec_push(r->a, &n->pairs, p);
    *weight += w;
    if (h + 1 > *height) *height = h + 1;
  }
  ts_map_deinit(&keys);
  return s;
}

// Builds the node that begins with event e and deletes the event.
static ts_status build(reader *r, yaml_event_t *e, unsigned depth, fe_node **out, size_t *weight, size_t *height) {
  ts_loc loc = loc_at(r, e->start_mark);
  *weight = *height = 1;
  const char *name = NULL;
  bool tagged = false;
  if (e->type == YAML_ALIAS_EVENT) {
    ts_status s = follow_alias(r, (const char *)e->data.alias.anchor, loc, depth, out, weight, height);
    yaml_event_delete(e);
    return s;
  }
  fe_node *n = ts_new(r->a, fe_node);
  n->loc = loc;
  if (e->type == YAML_SCALAR_EVENT) {
    n->kind = FE_SCALAR;
    n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = (ts_str){ts_arena_strndup(r->a, (const char *)e->data.scalar.value, e->data.scalar.length), e->data.scalar.length};
    if (e->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE || e->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE) n->loc.col++;
    name = (const char *)e->data.scalar.anchor;
    tagged = e->data.scalar.tag != NULL;
  } else if (e->type == YAML_SEQUENCE_START_EVENT) {
    n->kind = FE_SEQ;
    name = (const char *)e->data.sequence_start.anchor;
    tagged = e->data.sequence_start.tag != NULL;
  } else {
    n->kind = FE_MAP;
    name = (const char *)e->data.mapping_start.anchor;
    tagged = e->data.mapping_start.tag != NULL;
  }
  anchor *x = NULL;
  if (name) {
    x = ts_new(r->a, anchor);
    x->name = ts_str_of(ts_arena_strdup(r->a, name));
    x->open = true;
    x->node = n;
    ts_map_put(&r->anchors, hash_of(x->name), x);
  }
  fe_node_kind kind = n->kind;
  yaml_event_delete(e);
  if (tagged) return ts_report(r->d, loc, &diag_yaml_syntax, "tags (!...) are not part of the language");
  if (++r->nodes > FE_YAML_MAX_NODES || depth > FE_YAML_MAX_DEPTH)
    return ts_report(r->d, loc, &diag_yaml_size, "more than %d nodes or %d levels", FE_YAML_MAX_NODES, FE_YAML_MAX_DEPTH);
  if (kind == FE_SEQ) TS_TRY(build_seq(r, depth, n, weight, height));
  if (kind == FE_MAP) TS_TRY(build_map(r, depth, n, weight, height));
  if (x) x->open = false, x->weight = *weight, x->depth = *height;
  *out = n;
  return TS_OK;
}

static ts_status document(reader *r, fe_node **out) {
  yaml_event_t e;
  *out = NULL;
  for (;;) {
    TS_TRY(next(r, &e));
    yaml_event_type_t type = e.type;
    if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT) {
      yaml_event_delete(&e);
    } else if (type == YAML_STREAM_END_EVENT) {
      yaml_event_delete(&e);
      break;
    } else if (type == YAML_DOCUMENT_START_EVENT) {
      ts_loc loc = loc_at(r, e.start_mark);
      yaml_event_delete(&e);
      if (*out) return ts_report(r->d, loc, &diag_yaml_syntax, "a spec is one document; here begins a second one");
    } else {
      size_t weight, height;
      TS_TRY(build(r, &e, 0, out, &weight, &height));
    }
  }
  if (!*out) {
    *out = ts_new(r->a, fe_node);
    (*out)->kind = FE_MAP;
    (*out)->loc = (ts_loc){.file = r->file, .line = 1, .col = 1};
  }
  return TS_OK;
}

ts_status fe_yaml_parse(ts_arena *a, ts_sym file, ts_str text, ts_diags *d, fe_node **out) {
  if (text.len > FE_YAML_MAX_BYTES) return ts_report(d, (ts_loc){.file = file}, &diag_yaml_size, "a spec of more than %d bytes", FE_YAML_MAX_BYTES);
  if (memchr(text.data, 0, text.len)) return ts_report(d, (ts_loc){.file = file}, &diag_yaml_syntax, "a zero byte: this is no text");
  reader r = {.a = a, .d = d, .file = file, .text = text};
  if (!yaml_parser_initialize(&r.parser)) return ts_report(d, (ts_loc){.file = file}, &diag_yaml_syntax, "out of memory");
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.data, text.len);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  ts_status s = document(&r, out);
  yaml_parser_delete(&r.parser);
  ts_map_deinit(&r.anchors);
  return s;
}

fe_pair *fe_map_pair(const fe_node *map, const char *key) {
  if (!map || map->kind != FE_MAP) return NULL;
  for (size_t i = 0; i < map->pairs.count; i++)
    if (ts_str_is(map->pairs.data[i].key->text, key)) return &map->pairs.data[i];
  return NULL;
}

fe_node *fe_map_get(const fe_node *map, const char *key) {
  fe_pair *p = fe_map_pair(map, key);
  return p ? p->value : NULL;
}

const char *fe_node_kind_name(const fe_node *n) { return n->kind == FE_MAP ? "a map" : n->kind == FE_SEQ ? "a list" : "text"; }

bool fe_is_null(const fe_node *n) {
  if (n->kind != FE_SCALAR || !n->plain) return false;
  static const char *const names[] = {"", "~", "null", "Null", "NULL"};
  for (size_t i = 0; i < 5; i++)
    if (ts_str_is(n->text, names[i])) return true;
  return false;
}

bool fe_scalar_bool(const fe_node *n, bool *out) {
  if (n->kind != FE_SCALAR || !n->plain) return false;
  static const char *const names[] = {"false", "False", "FALSE", "true", "True", "TRUE"};
  for (int i = 0; i < 6; i++)
    if (ts_str_is(n->text, names[i])) return *out = i >= 3, true;
  return false;
}

bool fe_scalar_int(const fe_node *n, int64_t *out) {
  if (n->kind != FE_SCALAR || !n->plain || n->text.len == 0) return false;
  const char *p = n->text.data;
  int base = 10;
  if (p[0] == '0' && (p[1] == 'x' || p[1] == 'o')) base = p[1] == 'x' ? 16 : 8, p += 2;
  else if (*p == '-' || *p == '+') p++;
  if (!*p) return false;
  for (const char *c = p; *c; c++) {
    int digit = *c >= '0' && *c <= '9' ? *c - '0' : (*c | 32) >= 'a' && (*c | 32) <= 'f' ? (*c | 32) - 'a' + 10 : 99;
    if (digit >= base) return false;
  }
  errno = 0;
  long long v = strtoll(base == 10 ? n->text.data : p, NULL, base);
  if (errno) return false;
  *out = v;
  return true;
}

bool fe_scalar_real(const fe_node *n, double *out) {
  if (n->kind != FE_SCALAR || !n->plain || n->text.len == 0) return false;
  const char *p = n->text.data;
  if (*p == '-' || *p == '+') p++;
  bool digits = false;
  for (const char *c = p; *c; c++) {
    if (*c >= '0' && *c <= '9') digits = true;
    else if (!strchr(".eE+-", *c)) return false;
  }
  if (!digits) return false;
  char *end;
  double v = strtod(n->text.data, &end);
  if (*end || !isfinite(v)) return false;
  *out = v;
  return true;
}
