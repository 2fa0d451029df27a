// fe_load: from a path to a model (see frontend.h).
#include "frontend/spec.h"

#include <dirent.h>
#include <stdlib.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Model specs of the search path that are not about one particular file.
static size_t installed_models(fe_spec *S, const char ***out) {
  TS_VEC(const char *) list = {0};
  for (size_t i = 0; i < S->o->search_path_count; i++) {
    const char *folder = ts_path_join(S->a, S->o->search_paths[i], "models");
    DIR *d = opendir(folder);
    if (!d) continue;
    size_t first = list.count;
    for (struct dirent *e; (e = readdir(d));)
      if (ts_str_ends(ts_str_of(e->d_name), ".yaml")) ts_vec_push(S->a, &list, ts_path_join(S->a, folder, e->d_name));
    closedir(d);
    if (list.count > first) qsort(list.data + first, list.count - first, sizeof *list.data, by_name);
  }
  *out = list.data;
  return list.count;
}

static void note_entries(fe_spec *S, const fe_spec *candidate, const char *path) {
  const fe_node *n = fe_map_get(candidate->root, "bind");
  for (size_t i = 0; n && n->kind == FE_MAP && i < n->pairs.count; i++) {
    const fe_node *format = fe_map_get(n->pairs.data[i].value, "format"), *when = fe_map_get(n->pairs.data[i].value, "when");
    ts_note(S->d, (ts_loc){.file = ts_intern_z(S->names, path)}, "%s reads %s%s%s", ts_path_base(path), format ? format->text.data : "?", when ? " where " : "", when ? when->text.data : "");
  }
}

// The spec whose bind entry fits the open weights file.
static ts_status pick_spec(fe_spec *S, const char **out) {
  const char **paths;
  size_t count = installed_models(S, &paths);
  fe_spec *candidates = ts_new_array(S->a, fe_spec, count);
  for (size_t i = 0; i < count; i++) {
    ts_diags quiet;
    ts_diags_init(&quiet);
    fe_spec *c = &candidates[i];
    fe_options none = *S->o;
    none.set_count = 0;
    *c = (fe_spec){.a = S->a, .names = S->names, .d = &quiet, .grammar = {S->a, S->names, &quiet}, .o = &none, .m = S->m, .sources = {S->sources.data, S->sources.count, 0}};
    bool fits = false;
    if (fe_spec_read(c, paths[i]) == TS_OK && !fe_map_get(c->root, "file")) {
      const fe_node *n = fe_map_get(c->root, "bind");
      for (size_t k = 0; n && n->kind == FE_MAP && k < n->pairs.count && !fits; k++)
        if (fe_bind_fits(c, n->pairs.data[k].value, &fits) != TS_OK) fits = false;
    } else {
      c->root = NULL;
    }
    ts_diags_deinit(&quiet);
    if (fits) return *out = paths[i], TS_OK;
  }
  ts_loc loc = {.file = S->sources.data[0].path};
  fe_value arch;
  bool named = fe_file_value(S, TS_STR("general.architecture"), &arch, NULL) && arch.kind == FE_V_CHOICE;
  ts_status s = named ? FE_ERROR(S, loc, bind_none, "no installed model spec knows the architecture '%s'", arch.sym) : FE_ERROR(S, loc, bind_none, "no installed model spec fits this file");
  for (size_t i = 0; i < count; i++)
    if (candidates[i].root) note_entries(S, &candidates[i], paths[i]);
  if (!count) ts_note(S->d, loc, "the search path holds no model specs");
  return s;
}

static bool is_spec(const char *path) { return ts_str_ends(ts_str_of(path), ".yaml") || ts_str_ends(ts_str_of(path), ".yml"); }

static ts_status open_weights(fe_spec *S) {
  for (size_t i = 0; i < S->o->weights_count; i++) TS_TRY(fe_open_source(S, S->o->weights[i]));
  const fe_node *file = fe_map_get(S->root, "file");
  if (S->sources.count || !file || S->o->random_weights) return TS_OK;
  size_t count = file->kind == FE_SEQ ? file->items.count : 1;
  for (size_t i = 0; i < count; i++) {
    const fe_node *n = file->kind == FE_SEQ ? file->items.data[i] : file;
    ts_sym name;
    TS_TRY(fe_need_text(S, n, "file", &name));
    const char *path = fe_find_spec(S, n->loc.file, n->text);
    if (!path) {
      ts_status s = FE_ERROR(S, n->loc, file_open, "%s: no such file beside the spec", name);
      ts_note(S->d, n->loc, "name another with --weights FILE");
      return s;
    }
    TS_TRY(fe_open_source(S, path));
  }
  return TS_OK;
}

static ts_status solve_all(fe_spec *S) {
  ts_status s = TS_OK;
  for (size_t i = 0; i < S->params.count; i++) {
    ts_status t = fe_solve_param(S, &S->params.data[i]);
    if (t != TS_OK) s = t;
  }
  TS_TRY(s);
  for (size_t i = 0; i < S->dims.count; i++) TS_TRY(fe_solve_dim(S, &S->dims.data[i]));
  return TS_OK;
}

static ts_status load_model(fe_spec *S) {
  const fe_node *name = fe_map_get(S->root, "model");
  if (!name) return FE_ERROR(S, S->root->loc, spec_key, "neither `model:` nor `kernel:`: a library of modules can't be compiled alone");
  TS_TRY(fe_need_text(S, name, "model", &S->m->name));
  TS_TRY(fe_compile_section(S));
  TS_TRY(open_weights(S));
  TS_TRY(fe_pick_bind(S));
  TS_TRY(fe_declare(S));
  TS_TRY(solve_all(S));
  TS_TRY(fe_build_states(S));
  TS_TRY(fe_build_functions(S));
  TS_TRY(fe_check_files(S));
  return fe_import_tokenizer(S);
}

static ts_status load(fe_spec *S, const char *path) {
  if (!is_spec(path)) {
    TS_TRY(fe_open_source(S, path));
    TS_TRY(pick_spec(S, &path));
  }
  TS_TRY(fe_spec_read(S, path));
  S->model->spec_path = S->path;
  if (fe_map_get(S->root, "kernel")) return fe_load_kernel(S);
  return load_model(S);
}

ts_status fe_load(ts_arena *a, ts_interner *names, ts_diags *d, const char *path, const fe_options *o, fe_model **out) {
  *out = NULL;
  fe_model *M = ts_new(a, fe_model);
  fe_spec *S = ts_new(a, fe_spec);
  *S = (fe_spec){.a = a, .names = names, .d = d, .grammar = {a, names, d}, .o = o, .model = M, .m = ir_module_create(a, names, d)};
  M->module = S->m;
  M->private_state = S;
  unsigned errors = d->errors;
  ts_status s = load(S, path);
  ts_map_deinit(&S->said);
  ts_map_deinit(&S->resolved);
  if (s == TS_OK && d->errors > errors) s = TS_INVALID;
  if (s != TS_OK) return fe_unload(M), s;
  *out = M;
  return TS_OK;
}

void fe_unload(fe_model *m) {
  if (!m) return;
  fe_spec *S = m->private_state;
  fe_close_sources(S);
  if (S->m) ir_module_destroy(S->m);
  S->m = NULL;
}
