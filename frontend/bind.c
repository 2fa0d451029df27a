// Weights files: opening, choosing the bind entry, values of parameters, weights by name, and what nobody reads.
#include "frontend/spec.h"

#include "frontend/tensor_priv.h"

#include <jansson.h>

// ---- files ----------------------------------------------------------------------------------------------------------------
static fe_value text_value(fe_spec *S, ts_str text) {   // of safetensors metadata: always text in the file
  fe_node n = {.kind = FE_SCALAR, .plain = true, .text = {ts_arena_strndup(S->a, text.data, text.len), text.len}};
  fe_value v = {0};
  bool b;
  if (fe_scalar_int(&n, &v.integer)) v.kind = FE_V_INT;
  else if (fe_scalar_real(&n, &v.real)) v.kind = FE_V_REAL;
  else if (fe_scalar_bool(&n, &b)) v.kind = FE_V_BOOL, v.integer = b;
  else v.kind = FE_V_CHOICE, v.sym = ts_intern(S->names, text);
  return v;
}

static void add_json(fe_spec *S, fe_source *src, const char *prefix, json_t *object, ts_loc loc, unsigned depth) {
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    const char *full = *prefix ? ts_arena_printf(S->a, "%s.%s", prefix, key) : ts_arena_strdup(S->a, key);
    fe_file_key k = {.key = ts_str_of(full), .loc = loc};
    if (json_is_object(value) && depth < 8) {
      add_json(S, src, full, value, loc, depth + 1);
      continue;
    }
    if (json_is_integer(value)) k.value = fe_int_value(json_integer_value(value));
    else if (json_is_real(value)) k.value = (fe_value){.kind = FE_V_REAL, .real = json_real_value(value)};
    else if (json_is_boolean(value)) k.value = (fe_value){.kind = FE_V_BOOL, .integer = json_is_true(value)};
    else if (json_is_string(value)) k.value = (fe_value){.kind = FE_V_CHOICE, .sym = ts_intern_z(S->names, json_string_value(value))};
    else continue;
    ts_vec_push(S->a, &src->keys, k);
  }
}

// config.json beside the tensors, as Hugging Face folders have it.
static ts_status read_config(fe_spec *S, fe_source *src) {
  ts_str folder = ts_path_folder(src->path);
  const char *path = ts_path_join(S->a, ts_arena_strndup(S->a, folder.data, folder.len), "config.json");
  if (!ts_file_exists(path)) return TS_OK;
  ts_str text;
  TS_TRY(ts_file_read(S->a, path, S->d, &text));
  json_error_t error;
  json_t *root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
  ts_loc loc = {.file = ts_intern_z(S->names, path)};
  if (!json_is_object(root)) {
    json_decref(root);
    loc.line = error.line > 0 ? (uint32_t)error.line : 0, loc.col = error.column > 0 ? (uint32_t)error.column : 0;
    return FE_ERROR(S, loc, spec_value, "no JSON object: %s", error.text);
  }
  add_json(S, src, "", root, loc, 0);
  json_decref(root);
  return TS_OK;
}

ts_status fe_open_source(fe_spec *S, const char *path) {
  fe_source src = {.path = ts_intern_z(S->names, path)};
  if (ts_str_ends(ts_str_of(path), ".safetensors")) {
    src.format = FE_FORMAT_SAFETENSORS;
    ts_status s = fe_safetensors_open(S->a, path, S->d, &src.safetensors);
    if (s != TS_OK) return fe_safetensors_close(&src.safetensors), s;
    for (size_t i = 0; i < src.safetensors.metadata_count; i++) {
      const fe_metadata *m = &src.safetensors.metadata[i];
      ts_vec_push(S->a, &src.keys, ((fe_file_key){m->key, text_value(S, m->value), {.file = src.path}}));
    }
    src.tensors = &src.safetensors.tensors;
  } else {
    src.format = FE_FORMAT_GGUF;
    ts_status s = fe_gguf_open(S->a, path, S->d, &src.gguf);
    if (s != TS_OK) return fe_gguf_close(&src.gguf), s;
    src.tensors = &src.gguf.tensors;
  }
  src.used = ts_new_array(S->a, bool, src.tensors->count + 1);
  ts_vec_push(S->a, &S->sources, src);
  fe_source *kept = &S->sources.data[S->sources.count - 1];
  kept->tensors = kept->format == FE_FORMAT_GGUF ? &kept->gguf.tensors : &kept->safetensors.tensors;
  for (size_t i = 0; i + 1 < S->sources.count; i++) {   // growing may have moved the others
    fe_source *x = &S->sources.data[i];
    x->tensors = x->format == FE_FORMAT_GGUF ? &x->gguf.tensors : &x->safetensors.tensors;
    if (x->format != kept->format) return FE_ERROR(S, ((ts_loc){.file = kept->path}), spec_value, "weights come from one kind of file; %s is of another", x->path);
  }
  return kept->format == FE_FORMAT_SAFETENSORS ? read_config(S, kept) : TS_OK;
}

void fe_close_sources(fe_spec *S) {
  for (size_t i = 0; i < S->sources.count; i++) {
    fe_source *x = &S->sources.data[i];
    if (x->format == FE_FORMAT_GGUF) fe_gguf_close(&x->gguf);
    else fe_safetensors_close(&x->safetensors);
  }
  S->sources.count = 0;
}

static bool gguf_value(fe_spec *S, const fe_gguf_value *g, fe_value *out) {
  *out = (fe_value){0};
  ts_str text;
  if (g->type == FE_GGUF_ARRAY) return false;
  if (g->type == FE_GGUF_BOOL) {
    bool b;
    if (!fe_gguf_bool(g, 0, &b)) return false;
    out->kind = FE_V_BOOL, out->integer = b;
  } else if (fe_gguf_int(g, 0, &out->integer)) {
    out->kind = FE_V_INT;
  } else if (fe_gguf_real(g, 0, &out->real)) {
    out->kind = FE_V_REAL;
  } else if (fe_gguf_string(g, 0, &text)) {
    out->kind = FE_V_CHOICE, out->sym = ts_intern(S->names, text);
  } else {
    return false;
  }
  return true;
}

bool fe_file_value(fe_spec *S, ts_str key, fe_value *out, ts_loc *loc) {
  for (size_t i = 0; i < S->sources.count; i++) {
    const fe_source *src = &S->sources.data[i];
    if (src->format == FE_FORMAT_GGUF) {
      const fe_gguf_kv *kv = fe_gguf_find(&src->gguf, key);
      if (!kv || !gguf_value(S, &kv->value, out)) continue;
      if (loc) *loc = fe_gguf_loc(&src->gguf, kv);
      return true;
    }
    for (size_t k = 0; k < src->keys.count; k++)
      if (ts_str_eq(src->keys.data[k].key, key)) {
        *out = src->keys.data[k].value;
        if (loc) *loc = src->keys.data[k].loc;
        return true;
      }
  }
  return false;
}

// ---- choosing the entry ---------------------------------------------------------------------------------------------------
ts_status fe_bind_fits(fe_spec *S, const fe_node *entry, bool *out) {
  *out = false;
  const fe_node *format = fe_map_get(entry, "format"), *when = fe_map_get(entry, "when");
  if (!S->sources.count) return TS_OK;
  if (!format) return FE_ERROR(S, entry->loc, spec_key, "a bind entry needs `format: gguf` or `format: safetensors`");
  bool gguf = ts_str_is(format->text, "gguf");
  if (!gguf && !ts_str_is(format->text, "safetensors")) return FE_ERROR(S, format->loc, spec_value, "format is gguf or safetensors, not '%.*s'", TS_FMT(format->text));
  if (gguf != (S->sources.data[0].format == FE_FORMAT_GGUF)) return TS_OK;
  *out = true;
  if (!when) return TS_OK;
  fe_env e = {.S = S, .in_file = true};
  fe_ex *x;
  fe_value v;
  TS_TRY(fe_parse_expr(&S->grammar, when, &x));
  TS_TRY(fe_eval(&e, x, &v));
  if (v.kind != FE_V_BOOL) return FE_ERROR(S, when->loc, spec_type, "`when` must be a condition");
  *out = v.integer;
  return TS_OK;
}

ts_status fe_pick_bind(fe_spec *S) {
  if (!S->sources.count) return TS_OK;
  const fe_node *n = fe_map_get(S->root, "bind");
  for (size_t i = 0; n && n->kind == FE_MAP && i < n->pairs.count; i++) {
    bool fits;
    TS_TRY(fe_bind_fits(S, n->pairs.data[i].value, &fits));
    if (fits) return S->bind = n->pairs.data[i].value, TS_OK;
  }
  ts_loc loc = {.file = S->sources.data[0].path};
  ts_status s = FE_ERROR(S, loc, bind_none, "no bind entry of the spec fits this file");
  for (size_t i = 0; n && n->kind == FE_MAP && i < n->pairs.count; i++) {
    const fe_node *entry = n->pairs.data[i].value, *format = fe_map_get(entry, "format"), *when = fe_map_get(entry, "when");
    ts_note(S->d, n->pairs.data[i].key->loc, "%.*s: %s%s%s", TS_FMT(n->pairs.data[i].key->text), format ? format->text.data : "?", when ? ", when " : "", when ? when->text.data : "");
  }
  if (!n) ts_note(S->d, (ts_loc){.file = S->path}, "the spec has no `bind` section");
  return s;
}

// ---- parameters -----------------------------------------------------------------------------------------------------------
bool fe_bind_param(fe_spec *S, ts_sym param, fe_value *out, const char **origin, ts_loc *loc, ts_status *status) {
  const fe_node *n = fe_map_get(fe_map_get(S->bind, "params"), param);
  *status = TS_OK;
  if (!n) return false;
  ts_sym text;
  if ((*status = fe_need_text(S, n, "a file key", &text)) != TS_OK) return false;
  if (text[0] == '=') {
    fe_env e = {.S = S};
    fe_ex *x;
    ts_loc at = n->loc;
    at.col++;
    *origin = "bind";
    *loc = n->loc;
    *status = fe_parse_expr_text(&S->grammar, (ts_str){n->text.data + 1, n->text.len - 1}, at, &x);
    if (*status != TS_OK) return false;
    fe_param *p = fe_find_param(S, param);
    if (x->kind == FE_EX_NAME && p && p->decl.kind == FE_PARAM_CHOICE) *out = (fe_value){.kind = FE_V_CHOICE, .sym = x->name};
    else *status = fe_eval(&e, x, out);
    return *status == TS_OK;
  }
  *origin = ts_arena_printf(S->a, "file key %s", text);
  return fe_file_value(S, n->text, out, loc);
}

// ---- weights --------------------------------------------------------------------------------------------------------------
// A tensor's name with the indices of the modules put in for $l, and rows [lo:hi) where a slice follows.
typedef struct template_text {
  ts_str name;
  bool slice;
  int64_t lo, hi;
} template_text;

static ts_status expand(fe_spec *S, const fe_node *n, const fe_index *index, size_t count, template_text *out) {
  ts_text t = {0};
  *out = (template_text){0};
  ts_str text = n->text;
  const char *bracket = memchr(text.data, '[', text.len), *colon = bracket ? strchr(bracket, ':') : NULL;
  if (bracket && colon && text.data[text.len - 1] == ']') {
    fe_env e = {.S = S};
    fe_ex *lo, *hi;
    ts_loc at = n->loc;
    at.col += (uint32_t)(bracket + 1 - text.data);
    TS_TRY(fe_parse_expr_text(&S->grammar, (ts_str){bracket + 1, (size_t)(colon - bracket - 1)}, at, &lo));
    at.col += (uint32_t)(colon - bracket);
    TS_TRY(fe_parse_expr_text(&S->grammar, (ts_str){colon + 1, (size_t)(text.data + text.len - 2 - colon)}, at, &hi));
    TS_TRY(fe_eval_int(&e, lo, "the first row", &out->lo));
    TS_TRY(fe_eval_int(&e, hi, "the row behind the last", &out->hi));
    out->slice = true;
    text.len = (size_t)(bracket - text.data);
  }
  for (size_t i = 0; i < text.len; i++) {
    if (text.data[i] != '$') {
      ts_text_putc(&t, text.data[i]);
      continue;
    }
    size_t len = 0;
    while (i + 1 + len < text.len && fe_is_name((ts_str){text.data + i + 1, len + 1})) len++;
    bool found = false;
    for (size_t k = 0; k < count && !found; k++)
      if (ts_str_eq(ts_str_of(index[k].name), (ts_str){text.data + i + 1, len})) ts_text_printf(&t, "%lld", (long long)index[k].value), found = true;
    if (!found) {
      ts_text_deinit(&t);
      ts_loc at = n->loc;
      at.col += (uint32_t)i;
      return FE_ERROR(S, at, spec_name, "$%.*s is the index of no module around this weight", (int)len, text.data + i + 1);
    }
    i += len;
  }
  out->name = (ts_str){ts_arena_strndup(S->a, ts_text_z(&t), t.len), t.len};
  ts_text_deinit(&t);
  return TS_OK;
}

static const fe_tensor *find_tensor(fe_spec *S, ts_str name, fe_source **src) {
  for (size_t i = 0; i < S->sources.count; i++) {
    const fe_tensor *t = fe_tensors_find(S->sources.data[i].tensors, name);
    if (t) return *src = &S->sources.data[i], t;
  }
  return NULL;
}

static bool infer_from(fe_spec *S, const fe_weight_decl *w, const char *key, const fe_index *index, size_t count, ts_sym name, fe_value *out,
                       const char **origin, ts_loc *loc) {
  const fe_node *entry = fe_map_get(fe_map_get(S->bind, "tensors"), key);
  if (!entry || entry->kind != FE_SCALAR || memchr(entry->text.data, '[', entry->text.len)) return false;
  for (size_t i = 0; i < w->type.dims.count; i++) {
    if (w->type.dims.data[i]->kind != FE_EX_NAME || w->type.dims.data[i]->name != name) continue;
    template_text t;
    fe_source *src;
    if (expand(S, entry, index, count, &t) != TS_OK) return false;
    const fe_tensor *x = find_tensor(S, t.name, &src);
    if (!x || x->rank != w->type.dims.count) return false;
    *out = fe_int_value(x->shape[i]);
    *origin = ts_arena_printf(S->a, "shape of %.*s", TS_FMT(t.name));
    *loc = fe_tensor_loc(src->tensors, x);
    return true;
  }
  return false;
}

bool fe_infer_param(fe_spec *S, ts_sym name, fe_value *out, const char **origin, ts_loc *loc) {
  for (size_t i = 0; i < S->weights.count; i++)
    if (infer_from(S, &S->weights.data[i], S->weights.data[i].name, NULL, 0, name, out, origin, loc)) return true;
  for (size_t m = 0; m < S->modules.count; m++) {
    const fe_module_decl *mod = S->modules.data[m];
    fe_index index = {mod->index, 0};
    for (size_t i = 0; i < mod->weights.count; i++)
      if (infer_from(S, &mod->weights.data[i], ts_arena_printf(S->a, "%s.%s", mod->name, mod->weights.data[i].name), &index, mod->index ? 1 : 0, name, out, origin, loc))
        return true;
  }
  return false;
}

static void explain_dims(fe_spec *S, const fe_weight_decl *w) {
  for (size_t i = 0; i < w->type.dims.count; i++) {
    fe_param *p = w->type.dims.data[i]->kind == FE_EX_NAME ? fe_find_param(S, w->type.dims.data[i]->name) : NULL;
    if (p && p->state == 2) ts_note(S->d, p->origin_loc, "%s = %lld comes from here (%s)", p->name, (long long)p->value.integer, p->origin);
  }
}

static void print_shape(ts_text *t, unsigned rank, const int64_t *shape) {
  ts_text_putc(t, '[');
  for (unsigned i = 0; i < rank; i++) ts_text_printf(t, "%s%lld", i ? ", " : "", (long long)shape[i]);
  ts_text_putc(t, ']');
}

static ts_status shape_error(fe_spec *S, const fe_weight_decl *w, const fe_weight_ref *ref, const fe_source *src, const fe_tensor *x, unsigned rank, const int64_t *shape) {
  ts_text t = {0};
  ts_text_printf(&t, "%.*s is ", TS_FMT(fe_shown(x->name)));
  print_shape(&t, x->rank, x->shape);
  ts_text_puts(&t, " in the file, the spec says ");
  print_shape(&t, rank, shape);
  ts_status s = FE_ERROR(S, fe_tensor_loc(src->tensors, x), weight_shape, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
  ts_note(S->d, w->loc, "%s is declared here", ref->full);
  explain_dims(S, w);
  return s;
}

static ts_status missing(fe_spec *S, const fe_weight_decl *w, const fe_weight_ref *ref, ts_str name, ts_loc loc) {
  ts_status s = FE_ERROR(S, loc.file ? loc : w->loc, weight_missing, "the file has no tensor '%.*s' for the weight %s", TS_FMT(fe_shown(name)), ref->full);
  TS_VEC(const char *) known = {0};
  for (size_t i = 0; i < S->sources.count; i++)
    for (size_t k = 0; k < S->sources.data[i].tensors->count; k++) {
      ts_str n = S->sources.data[i].tensors->list[k].name;
      ts_vec_push(S->a, &known, ts_arena_strndup(S->a, n.data, n.len));
    }
  fe_suggest(S, loc, name, known.data, known.count);
  ts_note(S->d, w->loc, "declared here; `optional` or `else NAME` would let it be absent");
  return s;
}

static ts_status from_file(fe_spec *S, const fe_weight_decl *w, const fe_weight_ref *ref, unsigned rank, const int64_t *shape, ir_weight **out) {
  const fe_node *entry = fe_map_get(fe_map_get(S->bind, "tensors"), ref->key);
  *out = NULL;
  fe_node own = {.kind = FE_SCALAR, .loc = w->loc, .text = ts_str_of(ref->key)};
  if (!S->bind) entry = &own;   // kernel specs: operands by their names
  if (!entry) {
    if (w->type.optional || w->type.otherwise) return TS_OK;
    ts_status s = FE_ERROR(S, w->loc, weight_missing, "the bind entry does not name a tensor for '%s'", ref->key);
    ts_note(S->d, S->bind->loc, "add it under `tensors:` here");
    return s;
  }
  if (entry->kind == FE_MAP) return FE_ERROR(S, entry->loc, spec_unsupported, "tensors with an order are not supported; name the tensor alone");
  TS_TRY(fe_expect(S, entry, FE_SCALAR, "a tensor's name"));
  template_text t;
  TS_TRY(expand(S, entry, ref->index, ref->index_count, &t));
  fe_source *src;
  const fe_tensor *x = find_tensor(S, t.name, &src);
  if (!x) return w->type.optional || w->type.otherwise ? TS_OK : missing(S, w, ref, t.name, entry->loc);
  TS_TRY(fe_tensor_use(src->tensors, x, S->d));
  int64_t whole[IR_MAX_RANK];
  memcpy(whole, shape, rank * sizeof *shape);
  if (t.slice && rank) {
    if (t.lo < 0 || t.hi < t.lo || (x->rank && t.hi > x->shape[0]))
      return FE_ERROR(S, entry->loc, spec_range, "rows %lld to %lld of a tensor of %lld", (long long)t.lo, (long long)t.hi, (long long)(x->rank ? x->shape[0] : 0));
    if (t.hi - t.lo != shape[0]) return FE_ERROR(S, entry->loc, spec_shape, "%lld rows for a weight of %lld", (long long)(t.hi - t.lo), (long long)shape[0]);
    if (x->rank) whole[0] = x->shape[0];
  }
  bool fits = x->rank == rank;
  for (unsigned i = 0; fits && i < rank; i++) fits = x->shape[i] == whole[i];
  if (!fits) return shape_error(S, w, ref, src, x, rank, whole);
  src->used[x - src->tensors->list] = true;
  ts_loc loc = fe_tensor_loc(src->tensors, x);
  ir_weight *weight;
  TS_TRY(ir_weight_of_data(S->a, ref->full, x->encoding, rank, whole, x->data, x->bytes, loc, S->d, &weight));
  if (t.slice) TS_TRY(ir_weight_slice(S->a, weight, t.lo, t.hi, entry->loc, S->d, &weight));
  weight->name = ref->full;
  if (w->type.encoding) {
    const ir_encoding *want;
    TS_TRY(fe_encoding(S, w->type.encoding, w->type.encoding_loc, &want));
    if (!ir_encoding_equal(want, x->encoding)) {
      ts_status s = FE_ERROR(S, loc, spec_type, "%s is stored as %s in the file, the spec says %s", ref->full, x->encoding->name, want->name);
      ts_note(S->d, w->loc, "declared here");
      return s;
    }
  }
  *out = weight;
  return TS_OK;
}

static ts_status quantized(fe_spec *S, const fe_weight_ref *ref, ir_weight **w) {
  for (size_t i = 0; i < S->quantize.count; i++) {
    const fe_quantize *q = &S->quantize.data[i];
    if (!ts_glob_match(q->pattern, ts_str_of(ref->key)) && !ts_glob_match(q->pattern, ts_str_of(ref->full))) continue;
    if ((*w)->rank < 2) continue;   // norms and biases stay
    if (!ir_encoding_is_plain((*w)->encoding)) {
      ts_report(S->d, q->loc, &diag_quantize_skipped, "%s stays %s: it is quantized in the file already", ref->full, (*w)->encoding->name);
      continue;
    }
    ir_weight *out;
    TS_TRY(ir_weight_quantize(S->a, *w, q->encoding, q->loc, S->d, &out));
    out->name = ref->full;
    *w = out;
    return TS_OK;
  }
  return TS_OK;
}

ts_status fe_resolve_weight(fe_spec *S, const fe_weight_decl *w, const fe_weight_ref *ref, ir_dtype dtype, unsigned rank, const int64_t *shape,
                            const fe_weight **out) {
  fe_weight *known = ts_map_get(&S->resolved, ts_key(ref->full));
  if (known) return *out = known, TS_OK;
  ir_weight *weight = NULL;
  if (S->sources.count) {
    TS_TRY(from_file(S, w, ref, rank, shape, &weight));
  } else if (S->o->random_weights) {
    const ir_encoding *e = ir_encoding_plain(strcmp(w->type.dtype, "float") == 0 ? IR_f32 : dtype);
    if (w->type.encoding) TS_TRY(fe_encoding(S, w->type.encoding, w->type.encoding_loc, &e));
    if (!w->type.optional && !w->type.otherwise) TS_TRY(ir_weight_random(S->a, ref->full, e, rank, shape, S->o->seed, w->loc, S->d, &weight));
  } else {
    ts_status s = FE_ERROR(S, w->loc, weights_none, "the model has weights and no file was given");
    ts_note(S->d, w->loc, "name one with --weights FILE, under `file:`, or take --weights random:SEED");
    return s;
  }
  if (weight) TS_TRY(quantized(S, ref, &weight));
  fe_weight *r = ts_new(S->a, fe_weight);
  *r = (fe_weight){.name = ref->full, .weight = weight, .dtype = dtype};
  ts_map_put(&S->resolved, ts_key(ref->full), r);
  if (weight) ts_vec_push(S->a, &S->m->weights, weight);
  *out = r;
  return TS_OK;
}

// ---- what nobody reads ----------------------------------------------------------------------------------------------------
static bool listed(const fe_node *list, ts_str name) {
  for (size_t i = 0; list && list->kind == FE_SEQ && i < list->items.count; i++)
    if (list->items.data[i]->kind == FE_SCALAR && ts_glob_match(list->items.data[i]->text.data, name)) return true;
  return false;
}

static bool key_is_read(fe_spec *S, ts_str key) {
  const fe_node *params = fe_map_get(S->bind, "params"), *when = fe_map_get(S->bind, "when");
  for (size_t i = 0; params && params->kind == FE_MAP && i < params->pairs.count; i++)
    if (ts_str_eq(params->pairs.data[i].value->text, key)) return true;
  char *z = ts_arena_strndup(S->a, key.data, key.len);
  if (fe_map_get(fe_map_get(S->bind, "expect"), z)) return true;
  if (when && when->kind == FE_SCALAR && strstr(when->text.data, z)) return true;
  return listed(fe_map_get(S->bind, "ignore_keys"), key);
}

static ts_status check_key(fe_spec *S, ts_str key, const fe_value *v, ts_loc loc, ts_str architecture) {
  static const struct {
    const char *pattern, *harmless;
  } rows[] = {
#define FE_FILE_KEY(pattern, harmless) {pattern, harmless},
#include "frontend/file_keys.def"
#undef FE_FILE_KEY
  };
  if (key_is_read(S, key)) return TS_OK;
  ts_text t = {0};
  if (v->kind == FE_V_CHOICE) ts_text_puts(&t, v->sym);
  else fe_print_value(v, &t);
  ts_status s = TS_OK;
  bool known = false;
  for (size_t i = 0; i < sizeof rows / sizeof *rows && !known; i++) {
    if (!ts_glob_match(rows[i].pattern, key)) continue;
    known = true;
    if (strcmp(rows[i].harmless, ts_text_z(&t)) == 0) break;
    s = FE_ERROR(S, loc, file_key, "the file says %.*s = %s, which the spec does not read: the model would compute something else", TS_FMT(key), ts_text_z(&t));
    if (S->bind) ts_note(S->d, S->bind->loc, "a bind entry reads keys under params, checks them under `expect:`, or lists them in `ignore_keys:`");
  }
  bool own = architecture.len && key.len > architecture.len && memcmp(key.data, architecture.data, architecture.len) == 0 && key.data[architecture.len] == '.';
  if (!known && own)
    ts_report(S->d, loc, &diag_file_key_unread, "the spec does not read the file's %.*s = %s", TS_FMT(key), ts_text_z(&t));
  ts_text_deinit(&t);
  return s;
}

static ts_status check_expected(fe_spec *S) {
  const fe_node *n = fe_map_get(S->bind, "expect");
  if (!n) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, "expect"));
  fe_env e = {.S = S};
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    fe_value file, want;
    ts_loc loc;
    fe_ex *x;
    if (!fe_file_value(S, p->key->text, &file, &loc)) continue;
    TS_TRY(fe_parse_expr(&S->grammar, p->value, &x));
    bool found = true;
    if (x->kind == FE_EX_NAME) TS_TRY(fe_lookup(&e, x->name, x->loc, &found, &want));
    else TS_TRY(fe_eval(&e, x, &want));
    if (!found) want = (fe_value){.kind = FE_V_CHOICE, .sym = x->name};
    double a = file.kind == FE_V_INT ? (double)file.integer : file.real, b = want.kind == FE_V_INT ? (double)want.integer : want.real;
    bool numbers = (file.kind == FE_V_INT || file.kind == FE_V_REAL) && (want.kind == FE_V_INT || want.kind == FE_V_REAL);
    bool equal = numbers ? a == b : file.kind == want.kind && file.integer == want.integer && file.sym == want.sym;
    if (equal) continue;
    ts_text t = {0};
    ts_text_printf(&t, "the file says %.*s = ", TS_FMT(p->key->text));
    fe_print_value(&file, &t);
    ts_text_puts(&t, ", the spec expects ");
    fe_print_value(&want, &t);
    ts_status s = FE_ERROR(S, loc, param_conflict, "%s", ts_text_z(&t));
    ts_text_deinit(&t);
    ts_note(S->d, p->key->loc, "expected here");
    return s;
  }
  return TS_OK;
}

ts_status fe_check_files(fe_spec *S) {
  ts_status s = check_expected(S);
  const fe_node *ignore = fe_map_get(S->bind, "ignore");
  fe_value arch;
  ts_str architecture = {0};
  if (fe_file_value(S, TS_STR("general.architecture"), &arch, NULL) && arch.kind == FE_V_CHOICE) architecture = ts_str_of(arch.sym);
  for (size_t i = 0; i < S->sources.count; i++) {
    const fe_source *src = &S->sources.data[i];
    for (size_t k = 0; k < src->tensors->count; k++) {
      const fe_tensor *x = &src->tensors->list[k];
      if (src->used[k] || listed(ignore, x->name)) continue;
      s = FE_ERROR(S, fe_tensor_loc(src->tensors, x), tensor_unused, "nothing in the spec reads the tensor '%.*s'", TS_FMT(fe_shown(x->name)));
      ts_note(S->d, S->bind ? S->bind->loc : (ts_loc){.file = S->path}, "bind it under `tensors:`, or list it under `ignore:` if the model is right without it");
    }
    for (size_t k = 0; src->format == FE_FORMAT_GGUF && k < src->gguf.kv_count; k++) {
      const fe_gguf_kv *kv = &src->gguf.kv[k];
      fe_value v;
      if (!gguf_value(S, &kv->value, &v)) continue;
      ts_status t = check_key(S, kv->key, &v, fe_gguf_loc(&src->gguf, kv), architecture);
      if (t != TS_OK) s = t;
    }
    for (size_t k = 0; k < src->keys.count; k++) {
      ts_status t = check_key(S, src->keys.data[k].key, &src->keys.data[k].value, src->keys.data[k].loc, (ts_str){0});
      if (t != TS_OK) s = t;
    }
  }
  return s;
}
