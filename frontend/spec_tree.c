// Spec files: reading, `use` (merged key by key), --set, and the keys that each section may have.
#include "frontend/spec.h"

enum { MAX_USE = 16 };

typedef struct section_keys {
  const char *section;
  const char *keys[24];
} section_keys;
static const section_keys sections[] = {
  {"model", {"tessera", "model", "use", "file", "set", "params", "dims", "weights", "states", "modules", "functions", "compile", "bind"}},
  {"kernel", {"tessera", "kernel", "use", "set", "params", "dims", "encodings", "operands", "compute", "epilogue", "numerics", "schedule", "tune", "check", "compile"}},
  {"module", {"index", "params", "inputs", "weights", "graph", "output"}},
  {"function", {"inputs", "graph", "outputs", "like", "set"}},
  {"compile", {"targets", "float", "activations", "kv", "quantize", "prune"}},
  {"bind", {"format", "when", "params", "expect", "tensors", "ignore", "ignore_keys"}},
};

static const char *const *section_of(const char *name, size_t *count) {
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
    if (strcmp(sections[i].section, name) == 0) {
      *count = 0;
      while (*count < 24 && sections[i].keys[*count]) ++*count;
      return sections[i].keys;
    }
  return NULL;
}

void fe_suggest(fe_spec *S, ts_loc loc, ts_str name, const char *const *known, size_t count) {
  const char *near = ts_nearest(name, known, count);
  if (near) ts_note(S->d, loc, "did you mean '%s'?", near);
}

ts_status fe_expect(fe_spec *S, const fe_node *n, fe_node_kind kind, const char *what) {
  if (n->kind == kind) return TS_OK;
  const fe_node wanted = {.kind = kind};
  return FE_ERROR(S, n->loc, spec_value, "%s must be %s, not %s", what, fe_node_kind_name(&wanted), fe_node_kind_name(n));
}

ts_status fe_need_text(fe_spec *S, const fe_node *n, const char *what, ts_sym *out) {
  TS_TRY(fe_expect(S, n, FE_SCALAR, what));
  if (n->text.len == 0) return FE_ERROR(S, n->loc, spec_value, "%s is empty", what);
  *out = ts_intern(S->names, n->text);
  return TS_OK;
}

static ts_status known_keys(fe_spec *S, const fe_node *n, const char *section, const char *what) {
  TS_TRY(fe_expect(S, n, FE_MAP, what));
  size_t count;
  const char *const *keys = section_of(section, &count);
  ts_status s = TS_OK;
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_node *key = n->pairs.data[i].key;
    bool known = false;
    for (size_t k = 0; k < count; k++) known |= ts_str_is(key->text, keys[k]);
    if (known) continue;
    s = FE_ERROR(S, key->loc, spec_key, "%s has no key '%.*s'", what, TS_FMT(key->text));
    fe_suggest(S, key->loc, key->text, keys, count);
  }
  return s;
}

static ts_status check_each(fe_spec *S, const char *key, const char *section, const char *what) {
  const fe_node *n = fe_map_get(S->root, key);
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, key));
  ts_status s = TS_OK;
  for (size_t i = 0; i < n->pairs.count; i++) {
    ts_status t = known_keys(S, n->pairs.data[i].value, section, ts_arena_printf(S->a, "%s '%.*s'", what, TS_FMT(n->pairs.data[i].key->text)));
    if (t != TS_OK) s = t;
  }
  return s;
}

static ts_status check_sections(fe_spec *S) {
  bool kernel = fe_map_get(S->root, "kernel");
  ts_status s = known_keys(S, S->root, kernel ? "kernel" : "model", kernel ? "a kernel spec" : "a model spec");
  if (kernel) return s;
  ts_status parts[] = {check_each(S, "modules", "module", "module"), check_each(S, "functions", "function", "function"), check_each(S, "bind", "bind", "bind entry"), TS_OK};
  const fe_node *compile = fe_map_get(S->root, "compile");
  if (compile) parts[3] = known_keys(S, compile, "compile", "compile");
  for (int i = 0; i < 4; i++)
    if (parts[i] != TS_OK) s = parts[i];
  return s;
}

// ---- declarations of several names ---------------------------------------------------------------------------------------
static fe_node *copy_shallow(fe_spec *S, const fe_node *n) {
  fe_node *c = ts_new(S->a, fe_node);
  *c = *n;
  c->pairs.data = NULL, c->pairs.count = c->pairs.capacity = 0;
  for (size_t i = 0; i < n->pairs.count; i++) ts_vec_push(S->a, &c->pairs, n->pairs.data[i]);
  return c;
}

// "a, b: T" becomes two pairs. Returns a copy.
static ts_status split_keys(fe_spec *S, fe_node **map) {
  fe_node *n = *map;
  if (!n || n->kind != FE_MAP) return TS_OK;
  fe_node *c = copy_shallow(S, n);
  c->pairs.data = NULL, c->pairs.count = c->pairs.capacity = 0;
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    size_t count;
    ts_sym *names;
    ts_loc *locs;
    TS_TRY(fe_parse_names(&S->grammar, p->key->text, p->key->loc, &count, &names, &locs));
    for (size_t k = 0; k < count; k++) {
      fe_pair *old = fe_map_pair(c, names[k]);
      if (old) {
        ts_status s = FE_ERROR(S, locs[k], spec_duplicate, "'%s' is declared twice", names[k]);
        ts_note(S->d, old->key->loc, "the first one");
        return s;
      }
      fe_node *key = ts_new(S->a, fe_node);
      *key = (fe_node){.kind = FE_SCALAR, .loc = locs[k], .text = ts_str_of(names[k])};
      ts_vec_push(S->a, &c->pairs, ((fe_pair){key, p->value}));
    }
  }
  *map = c;
  return TS_OK;
}

static ts_status split_section(fe_spec *S, fe_node *owner, const char *key) {
  fe_pair *p = fe_map_pair(owner, key);
  return p ? split_keys(S, &p->value) : TS_OK;
}

static ts_status split_within(fe_spec *S, fe_node *root, const char *section, const char *const *keys) {
  fe_pair *p = fe_map_pair(root, section);
  if (!p || p->value->kind != FE_MAP) return TS_OK;
  p->value = copy_shallow(S, p->value);
  for (size_t i = 0; i < p->value->pairs.count; i++) {
    fe_pair *each = &p->value->pairs.data[i];
    if (each->value->kind != FE_MAP) continue;
    if (!keys) {
      TS_TRY(split_keys(S, &each->value));
      continue;
    }
    each->value = copy_shallow(S, each->value);
    for (int k = 0; keys[k]; k++) TS_TRY(split_section(S, each->value, keys[k]));
  }
  return TS_OK;
}

static ts_status split_all(fe_spec *S, fe_node *root) {
  static const char *const top[] = {"params", "dims", "weights"};
  static const char *const module[] = {"params", "inputs", "weights", NULL}, *const function[] = {"inputs", NULL};
  for (int i = 0; i < 3; i++) TS_TRY(split_section(S, root, top[i]));
  TS_TRY(split_within(S, root, "states", NULL));
  TS_TRY(split_within(S, root, "modules", module));
  return split_within(S, root, "functions", function);
}

// ---- use ------------------------------------------------------------------------------------------------------------------
// What `over` says, else what `base` says; maps are merged, all else is replaced.
static fe_node *merge(fe_spec *S, const fe_node *base, const fe_node *over) {
  fe_node *c = copy_shallow(S, base);
  for (size_t i = 0; i < over->pairs.count; i++) {
    const fe_pair *p = &over->pairs.data[i];
    fe_pair *mine = fe_map_pair(c, p->key->text.data);
    if (!mine) ts_vec_push(S->a, &c->pairs, *p);
    else if (mine->value->kind == FE_MAP && p->value->kind == FE_MAP) mine->value = merge(S, mine->value, p->value);
    else *mine = *p;
  }
  return c;
}

const char *fe_find_spec(fe_spec *S, const char *from, ts_str name) {
  char *z = ts_arena_strndup(S->a, name.data, name.len);
  ts_str folder = ts_path_folder(from);
  char *path = ts_path_join(S->a, ts_arena_strndup(S->a, folder.data, folder.len), z);
  if (ts_file_exists(path)) return path;
  static const char *const below[] = {"", "models", "kernels", "modules"};
  for (size_t i = 0; i < S->o->search_path_count; i++)
    for (int k = 0; k < 4; k++) {
      path = ts_path_join(S->a, k ? ts_path_join(S->a, S->o->search_paths[i], below[k]) : S->o->search_paths[i], z);
      if (ts_file_exists(path)) return path;
    }
  return NULL;
}

static ts_status read_file(fe_spec *S, const char *path, const fe_node *user, fe_node **out);

static ts_status apply_use(fe_spec *S, const char *path, const fe_node *name, fe_node **root) {
  ts_sym text;
  TS_TRY(fe_need_text(S, name, "use", &text));
  const char *found = fe_find_spec(S, path, name->text);
  if (!found) {
    ts_status s = FE_ERROR(S, name->loc, spec_name, "no spec '%s' beside this one or in the search path", text);
    for (size_t i = 0; i < S->o->search_path_count; i++) ts_note(S->d, name->loc, "looked in %s", S->o->search_paths[i]);
    return s;
  }
  fe_node *base;
  TS_TRY(read_file(S, found, name, &base));
  *root = merge(S, base, *root);
  return TS_OK;
}

static ts_status check_version(fe_spec *S, const fe_node *root, const char *path) {
  const fe_node *version = fe_map_get(root, "tessera");
  int64_t v;
  if (!version) return FE_ERROR(S, root->loc, spec_version, "%s does not begin with `tessera: 1`, the version of the language", path);
  if (!fe_scalar_int(version, &v) || v != 1) return FE_ERROR(S, version->loc, spec_version, "this compiler reads version 1 of the language");
  return TS_OK;
}

static ts_status read_file(fe_spec *S, const char *path, const fe_node *user, fe_node **out) {
  ts_sym file = ts_intern_z(S->names, path);
  for (size_t i = 0; i < S->using.count; i++)
    if (S->using.data[i]->loc.file == file) return FE_ERROR(S, user->loc, spec_cycle, "%s uses itself", path);
  if (S->using.count == MAX_USE) return FE_ERROR(S, user->loc, spec_cycle, "specs use each other more than %d deep", MAX_USE);
  ts_str text;
  TS_TRY(ts_file_read(S->a, path, S->d, &text));
  ts_diags_add_source(S->d, file, text);
  TS_TRY(fe_yaml_parse(S->a, file, text, S->d, out));
  TS_TRY(fe_expect(S, *out, FE_MAP, "a spec"));
  TS_TRY(check_version(S, *out, path));
  TS_TRY(split_all(S, *out));
  fe_node *use = fe_map_get(*out, "use");
  if (!use) return TS_OK;
  fe_node *self = ts_new(S->a, fe_node);
  self->loc.file = file;
  ts_vec_push(S->a, &S->using, self);
  if (use->kind == FE_SEQ) {
    fe_node *all = *out;
    for (size_t i = use->items.count; i-- > 0;) TS_TRY(apply_use(S, path, use->items.data[i], &all));
    *out = all;
  } else {
    TS_TRY(apply_use(S, path, use, out));
  }
  S->using.count--;
  return TS_OK;
}

// ---- --set ----------------------------------------------------------------------------------------------------------------
fe_node *fe_text_node(fe_spec *S, const char *file, const char *text, ts_status *status) {
  fe_node *n = NULL;
  ts_sym name = ts_intern_z(S->names, file);
  ts_str own = ts_str_of(ts_arena_strdup(S->a, text));
  ts_diags_add_source(S->d, name, own);
  *status = fe_yaml_parse(S->a, name, own, S->d, &n);
  return n;
}

static fe_node *child(fe_spec *S, fe_node *map, ts_str name, ts_loc loc) {
  char *z = ts_arena_strndup(S->a, name.data, name.len);
  fe_pair *p = fe_map_pair(map, z);
  if (p) {
    p->value = p->value->kind == FE_MAP ? copy_shallow(S, p->value) : ts_new(S->a, fe_node);
    if (p->value->kind != FE_MAP) *p->value = (fe_node){.kind = FE_MAP, .loc = loc};
    return p->value;
  }
  fe_node *key = ts_new(S->a, fe_node), *value = ts_new(S->a, fe_node);
  *key = (fe_node){.kind = FE_SCALAR, .loc = loc, .text = {z, name.len}};
  *value = (fe_node){.kind = FE_MAP, .loc = loc};
  ts_vec_push(S->a, &map->pairs, ((fe_pair){key, value}));
  return value;
}

// "compile.kv.as=f16" or "context=128": the latter go into the section "--set", which no file can have.
static ts_status apply_set(fe_spec *S, const char *text) {
  const char *eq = strchr(text, '=');
  ts_loc loc = {.file = ts_intern_z(S->names, ts_arena_printf(S->a, "--set %s", text)), .line = 1, .col = 1};
  if (!eq || eq == text) return FE_ERROR(S, loc, spec_syntax, "--set takes KEY=YAML");
  ts_status s;
  fe_node *value = fe_text_node(S, loc.file, eq + 1, &s);
  TS_TRY(s);
  ts_str path = ts_str_trim((ts_str){text, (size_t)(eq - text)});
  bool compile = ts_str_starts(path, "compile.");
  fe_node *at = S->root;
  if (!compile) {
    if (memchr(path.data, '.', path.len)) return FE_ERROR(S, loc, spec_name, "'%.*s' is neither a parameter, a dim, nor below compile", TS_FMT(path));
    at = child(S, at, TS_STR("--set"), loc);
  }
  const char *dot;
  while ((dot = memchr(path.data, '.', path.len))) {
    at = child(S, at, (ts_str){path.data, (size_t)(dot - path.data)}, loc);
    path = (ts_str){dot + 1, path.len - (size_t)(dot + 1 - path.data)};
  }
  child(S, at, path, loc);
  fe_map_pair(at, ts_arena_strndup(S->a, path.data, path.len))->value = value;
  return TS_OK;
}

ts_status fe_spec_read(fe_spec *S, const char *path) {
  fe_node origin = {.loc = {.file = ts_intern_z(S->names, path)}};
  TS_TRY(read_file(S, path, &origin, &S->root));
  S->path = origin.loc.file;
  TS_TRY(check_sections(S));
  S->root = copy_shallow(S, S->root);
  for (size_t i = 0; i < S->o->set_count; i++) TS_TRY(apply_set(S, S->o->sets[i]));
  const fe_node *compile = fe_map_get(S->root, "compile");
  return compile ? known_keys(S, compile, "compile", "compile") : TS_OK;
}
