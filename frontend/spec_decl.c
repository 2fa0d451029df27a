// The declaring sections of a spec: params and their values, dims, states, weights, modules, compile.
//
// Parameters are solved on demand, so their order in the text does not matter. Sources, strongest first: --set, `set:`, the weights
// file, the default, a shape of the file (vocab from `embed: float[vocab, dim]`).
#include "frontend/spec.h"

#include <math.h>

fe_param *fe_find_param(fe_spec *S, ts_sym name) {
  for (size_t i = 0; i < S->params.count; i++)
    if (S->params.data[i].name == name) return &S->params.data[i];
  return NULL;
}
fe_dim *fe_find_dim(fe_spec *S, ts_sym name) {
  for (size_t i = 0; i < S->dims.count; i++)
    if (S->dims.data[i].name == name) return &S->dims.data[i];
  return NULL;
}
fe_module_decl *fe_find_module(fe_spec *S, ts_sym name) {
  for (size_t i = 0; i < S->modules.count; i++)
    if (S->modules.data[i]->name == name) return S->modules.data[i];
  return NULL;
}

// ---- params ---------------------------------------------------------------------------------------------------------------
ts_status fe_declare_params(fe_spec *S, const fe_node *section, fe_param **list, size_t *count) {
  *count = 0;
  *list = NULL;
  if (!section || fe_is_null(section)) return TS_OK;
  TS_TRY(fe_expect(S, section, FE_MAP, "params"));
  *list = ts_new_array(S->a, fe_param, section->pairs.count);
  for (size_t i = 0; i < section->pairs.count; i++) {
    fe_param *p = &(*list)[(*count)++];
    *p = (fe_param){.name = ts_intern(S->names, section->pairs.data[i].key->text), .loc = section->pairs.data[i].key->loc};
    TS_TRY(fe_parse_param(&S->grammar, section->pairs.data[i].value, &p->decl));
    p->origin_loc = section->pairs.data[i].value->loc;
  }
  return TS_OK;
}

ts_status fe_node_value(fe_spec *S, const fe_node *n, fe_value *out) {
  TS_TRY(fe_expect(S, n, FE_SCALAR, "a value"));
  *out = (fe_value){0};
  if (fe_scalar_int(n, &out->integer)) return out->kind = FE_V_INT, TS_OK;
  if (fe_scalar_real(n, &out->real)) return out->kind = FE_V_REAL, TS_OK;
  bool b;
  if (fe_scalar_bool(n, &b)) return out->kind = FE_V_BOOL, out->integer = b, TS_OK;
  if (n->plain && !fe_is_name(n->text)) {
    fe_ex *x;
    fe_env e = {.S = S};
    TS_TRY(fe_parse_expr(&S->grammar, n, &x));
    return fe_eval(&e, x, out);
  }
  out->kind = FE_V_CHOICE;
  out->sym = ts_intern(S->names, n->text);
  return TS_OK;
}

static const char *param_kind(const fe_param *p) {
  static const char *const names[] = {"an integer", "a number", "true or false", "one of its choices"};
  return names[p->decl.kind];
}

ts_status fe_param_accept(fe_spec *S, const fe_param *p, const fe_value *v, ts_loc loc, fe_value *out) {
  *out = *v;
  switch (p->decl.kind) {
    case FE_PARAM_INT:
      if (v->kind == FE_V_INT) return TS_OK;
      if (v->kind == FE_V_REAL && v->real == floor(v->real) && fabs(v->real) < 9e15) {
        *out = fe_int_value((int64_t)v->real);
        return TS_OK;
      }
      break;
    case FE_PARAM_REAL:
      if (v->kind == FE_V_REAL) return TS_OK;
      if (v->kind == FE_V_INT) {
        *out = (fe_value){.kind = FE_V_REAL, .real = (double)v->integer};
        return TS_OK;
      }
      break;
    case FE_PARAM_BOOL:
      if (v->kind == FE_V_BOOL) return TS_OK;
      break;
    case FE_PARAM_CHOICE:
      if (v->kind != FE_V_CHOICE) break;
      for (size_t i = 0; i < p->decl.choices.count; i++)
        if (p->decl.choices.data[i] == v->sym) return TS_OK;
      ts_status s = FE_ERROR(S, loc, spec_value, "'%s' is no choice of %s", v->sym, p->name);
      fe_suggest(S, loc, ts_str_of(v->sym), p->decl.choices.data, p->decl.choices.count);
      ts_note(S->d, p->loc, "%s is declared here", p->name);
      return s;
  }
  ts_text t = {0};
  fe_print_value(v, &t);
  ts_status s = FE_ERROR(S, loc, spec_value, "%s must be %s, not %s", p->name, param_kind(p), ts_text_z(&t));
  ts_text_deinit(&t);
  ts_note(S->d, p->loc, "%s is declared here", p->name);
  return s;
}

static ts_status param_default(fe_spec *S, fe_param *p) {
  fe_env e = {.S = S};
  fe_value v;
  if (p->decl.kind == FE_PARAM_CHOICE && p->decl.init->kind == FE_EX_NAME) v = (fe_value){.kind = FE_V_CHOICE, .sym = p->decl.init->name};
  else TS_TRY(fe_eval(&e, p->decl.init, &v));
  p->origin = "default";
  return fe_param_accept(S, p, &v, p->decl.init->loc, &p->value);
}

static ts_status param_value(fe_spec *S, fe_param *p) {
  fe_value v;
  const fe_node *given = p->command ? p->command : p->set;
  if (given) {
    p->origin = p->command ? given->loc.file : "set";
    p->origin_loc = given->loc;
    TS_TRY(fe_node_value(S, given, &v));
    return fe_param_accept(S, p, &v, given->loc, &p->value);
  }
  ts_status status = TS_OK;
  if (fe_bind_param(S, p->name, &v, &p->origin, &p->origin_loc, &status)) {
    TS_TRY(status);
    return fe_param_accept(S, p, &v, p->origin_loc, &p->value);
  }
  TS_TRY(status);
  if (p->decl.init) return param_default(S, p);
  if (fe_infer_param(S, p->name, &v, &p->origin, &p->origin_loc)) return fe_param_accept(S, p, &v, p->origin_loc, &p->value);
  ts_status s = FE_ERROR(S, p->loc, param_missing, "%s has no value", p->name);
  ts_note(S->d, p->loc, "give it one with --set %s=..., under `set:`, or as a default%s", p->name,
          S->sources.count ? "; the weights file does not say it" : "; there is no weights file");
  return s;
}

ts_status fe_solve_param(fe_spec *S, fe_param *p) {
  if (p->state == 2) return TS_OK;
  if (p->state == 3) return TS_INVALID;
  if (p->state == 1) return FE_ERROR(S, p->loc, spec_cycle, "the value of %s needs %s itself", p->name, p->name);
  p->state = 1;
  ts_status s = param_value(S, p);
  p->state = s == TS_OK ? 2 : 3;
  return s;
}

// ---- dims -----------------------------------------------------------------------------------------------------------------
static ts_status dim_range(fe_spec *S, fe_dim *d, const fe_node *n, int64_t *lo, int64_t *hi, int64_t *step) {
  fe_range_text t;
  fe_env e = {.S = S};
  TS_TRY(fe_parse_range(&S->grammar, n, &t));
  TS_TRY(fe_eval_int(&e, t.lo, "the lower bound", lo));
  TS_TRY(fe_eval_int(&e, t.hi, "the upper bound", hi));
  *step = 1;
  if (t.step) TS_TRY(fe_eval_int(&e, t.step, "the step", step));
  if (*lo < 0 || *hi < *lo || *step < 1)
    return FE_ERROR(S, n->loc, spec_range, "%s = %lld .. %lld step %lld is no range of sizes", d->name, (long long)*lo, (long long)*hi, (long long)*step);
  if (*hi > INT64_C(1) << 40) return FE_ERROR(S, n->loc, spec_range, "%s reaches %lld; the largest size is 2^40", d->name, (long long)*hi);
  if (!t.per) return TS_OK;
  if (!fe_find_dim(S, t.per) || t.per == d->name) return FE_ERROR(S, t.per_loc, spec_name, "no dim '%s' that %s could be given for each of", t.per, d->name);
  d->per = t.per;
  return fe_solve_dim(S, fe_find_dim(S, t.per));   // stands before it in the module
}

// Do other things come per entry of this dim (ragged dims, lists of a state)? Such a dim stays one, whatever its range: callers
// of the compiled model meet it.
static ts_status has_entries(fe_spec *S, ts_sym name, bool *out) {
  *out = false;
  for (size_t i = 0; i < S->dims.count; i++) {
    fe_range_text t;
    TS_TRY(fe_parse_range(&S->grammar, S->dims.data[i].range, &t));
    if (t.per == name) *out = true;
  }
  const fe_node *states = fe_map_get(S->root, "states");
  for (size_t i = 0; states && states->kind == FE_MAP && i < states->pairs.count; i++) {
    const fe_node *list = fe_map_get(states->pairs.data[i].value, "list");
    if (list && list->kind == FE_SCALAR && ts_str_is(list->text, name)) *out = true;
  }
  return TS_OK;
}

static ts_status dim_value(fe_spec *S, fe_dim *d) {
  int64_t lo, hi, step, nlo, nhi, nstep;
  TS_TRY(dim_range(S, d, d->range, &lo, &hi, &step));
  if (d->set) {
    ts_sym per = d->per;
    TS_TRY(dim_range(S, d, d->set, &nlo, &nhi, &nstep));
    d->per = per;
    if (nlo < lo || nhi > hi) {
      ts_status s = FE_ERROR(S, d->set->loc, spec_range, "%s = %lld .. %lld leaves its range %lld .. %lld", d->name, (long long)nlo, (long long)nhi, (long long)lo, (long long)hi);
      ts_note(S->d, d->loc, "%s is declared here", d->name);
      return s;
    }
    lo = nlo, hi = nhi, step = nstep;
  }
  bool entries;
  TS_TRY(has_entries(S, d->name, &entries));
  d->size = lo == hi && !entries ? ir_size_const(S->m->sizes, lo) : ir_size_symbol(S->m->sizes, ts_str_of(d->name), IR_SIZE_CALL, lo, hi, step);
  TS_TRY(ir_size_check(d->size, d->name, S->d, d->loc));
  if (!ir_size_is_const(d->size)) ts_vec_push(S->a, &S->m->dims, ((ir_dim){d->size, d->per, d->loc}));
  return TS_OK;
}

ts_status fe_solve_dim(fe_spec *S, fe_dim *d) {
  if (d->state == 2) return TS_OK;
  if (d->state == 3) return TS_INVALID;
  if (d->state == 1) return FE_ERROR(S, d->loc, spec_cycle, "the range of %s needs %s itself", d->name, d->name);
  d->state = 1;
  ts_status s = dim_value(S, d);
  d->state = s == TS_OK ? 2 : 3;
  return s;
}

// ---- states ---------------------------------------------------------------------------------------------------------------
static ts_status state_field(fe_spec *S, ir_state *st, const fe_pair *p) {
  fe_type_text t;
  fe_env e = {.S = S};
  TS_TRY(fe_parse_type(&S->grammar, p->value, &t));
  if (t.init || t.optional || t.otherwise || t.encoding) return FE_ERROR(S, t.loc, spec_syntax, "a state's field is a plain type, like float[layers, kv_heads, head_dim]");
  ir_state_field f = {.name = ts_intern(S->names, p->key->text), .dtype = S->model->kv_type};
  if (strcmp(t.dtype, "float") != 0) TS_TRY(fe_type_dtype(S, &t, &f.dtype));
  f.shape = ts_new_array(S->a, const ir_size *, t.dims.count);
  TS_TRY(fe_type_shape(&e, &t, &f.rank, f.shape));
  if (f.rank == 0) return FE_ERROR(S, t.loc, spec_type, "a state's field has dims: [layers, ...]");
  ts_vec_push(S->a, &st->fields, f);
  return TS_OK;
}

static ts_status declare_state(fe_spec *S, const fe_pair *p) {
  const fe_node *n = p->value;
  ir_state *st = ts_new(S->a, ir_state);
  st->name = ts_intern(S->names, p->key->text);
  st->loc = p->key->loc;
  st->page = 16;
  TS_TRY(fe_expect(S, n, FE_MAP, "a state"));
  fe_env e = {.S = S};
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *f = &n->pairs.data[i];
    fe_ex *x;
    if (ts_str_is(f->key->text, "list")) {
      TS_TRY(fe_need_text(S, f->value, "list", &st->list));
      if (!fe_find_dim(S, st->list)) return FE_ERROR(S, f->value->loc, spec_name, "no dim '%s'", st->list);
    } else if (ts_str_is(f->key->text, "length")) {
      fe_range_text t;
      int64_t lo, hi;
      TS_TRY(fe_parse_range(&S->grammar, f->value, &t));
      TS_TRY(fe_eval_int(&e, t.lo, "the lower bound", &lo));
      TS_TRY(fe_eval_int(&e, t.hi, "the upper bound", &hi));
      if (lo != 0 || hi < 1 || hi > INT64_C(1) << 31) return FE_ERROR(S, f->value->loc, spec_range, "a state's length is 0 .. N, N from 1 to 2^31");
      st->length = ir_size_const(S->m->sizes, hi);
      if (hi > S->model->context) S->model->context = hi;
    } else if (ts_str_is(f->key->text, "page")) {
      TS_TRY(fe_parse_expr(&S->grammar, f->value, &x));
      TS_TRY(fe_eval_int(&e, x, "page", &st->page));
      if (st->page < 1 || st->page > 1024 || (st->page & (st->page - 1))) return FE_ERROR(S, f->value->loc, spec_range, "page must be a power of two from 1 to 1024");
    } else {
      TS_TRY(state_field(S, st, f));
    }
  }
  if (!st->list || !st->length || !st->fields.count) return FE_ERROR(S, st->loc, spec_key, "state '%s' needs list, length and at least one field", st->name);
  ts_vec_push(S->a, &S->m->states, st);
  return TS_OK;
}

ts_status fe_build_states(fe_spec *S) {
  const fe_node *n = fe_map_get(S->root, "states");
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, "states"));
  for (size_t i = 0; i < n->pairs.count; i++) TS_TRY(declare_state(S, &n->pairs.data[i]));
  return TS_OK;
}

// ---- weights, modules -----------------------------------------------------------------------------------------------------
static ts_status declare_weight(fe_spec *S, const fe_pair *p, fe_weight_decl *w) {
  *w = (fe_weight_decl){.name = ts_intern(S->names, p->key->text), .loc = p->key->loc};
  TS_TRY(fe_parse_type(&S->grammar, p->value, &w->type));
  if (w->type.init || w->type.role) return FE_ERROR(S, w->type.loc, spec_syntax, "a weight has neither a role nor a value");
  if (w->type.encoding_args.count) return FE_ERROR(S, w->type.encoding_loc, spec_unsupported, "weights in the sparse storage '%s' are not supported", w->type.encoding);
  return TS_OK;
}

static ts_status declare_module(fe_spec *S, const fe_pair *p) {
  fe_module_decl *m = ts_new(S->a, fe_module_decl);
  const fe_node *n = p->value, *section;
  m->name = ts_intern(S->names, p->key->text);
  m->loc = p->key->loc;
  if (!fe_is_name(p->key->text)) return FE_ERROR(S, m->loc, spec_syntax, "'%s' is no name", m->name);
  if (fe_is_op(m->name)) return FE_ERROR(S, m->loc, spec_shadow, "the module '%s' has the name of an op", m->name);
  ts_vec_push(S->a, &S->modules, m);
  if ((section = fe_map_get(n, "index"))) {
    TS_TRY(fe_need_text(S, section, "index", &m->index));
    if (!fe_is_name(section->text)) return FE_ERROR(S, section->loc, spec_syntax, "'%s' is no name", m->index);
  }
  fe_param *params;
  size_t count;
  TS_TRY(fe_declare_params(S, fe_map_get(n, "params"), &params, &count));
  for (size_t i = 0; i < count; i++) ts_vec_push(S->a, &m->params, params[i]);
  if ((section = fe_map_get(n, "inputs"))) {
    TS_TRY(fe_expect(S, section, FE_MAP, "inputs"));
    for (size_t i = 0; i < section->pairs.count; i++) {
      fe_input_decl in = {.name = ts_intern(S->names, section->pairs.data[i].key->text), .loc = section->pairs.data[i].key->loc};
      TS_TRY(fe_parse_type(&S->grammar, section->pairs.data[i].value, &in.type));
      ts_vec_push(S->a, &m->inputs, in);
    }
  }
  if ((section = fe_map_get(n, "weights")) && !fe_is_null(section)) {
    TS_TRY(fe_expect(S, section, FE_MAP, "weights"));
    for (size_t i = 0; i < section->pairs.count; i++) {
      fe_weight_decl w;
      TS_TRY(declare_weight(S, &section->pairs.data[i], &w));
      ts_vec_push(S->a, &m->weights, w);
    }
  }
  m->graph = fe_map_get(n, "graph");
  m->output = fe_map_get(n, "output");
  if (!m->output) return FE_ERROR(S, m->loc, spec_key, "module '%s' has no output", m->name);
  return m->graph ? fe_expect(S, m->graph, FE_SEQ, "graph") : TS_OK;
}

ts_status fe_declare_dims(fe_spec *S) {
  fe_param *params;
  size_t count;
  TS_TRY(fe_declare_params(S, fe_map_get(S->root, "params"), &params, &count));
  for (size_t i = 0; i < count; i++) ts_vec_push(S->a, &S->params, params[i]);
  const fe_node *n = fe_map_get(S->root, "dims");
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, "dims"));
  for (size_t i = 0; i < n->pairs.count; i++) {
    fe_dim d = {.name = ts_intern(S->names, n->pairs.data[i].key->text), .loc = n->pairs.data[i].key->loc, .range = n->pairs.data[i].value};
    if (fe_find_param(S, d.name)) return FE_ERROR(S, d.loc, spec_shadow, "'%s' is a parameter already", d.name);
    ts_vec_push(S->a, &S->dims, d);
  }
  return TS_OK;
}

static ts_status declare_top(fe_spec *S) {
  TS_TRY(fe_declare_dims(S));
  const fe_node *n = fe_map_get(S->root, "weights");
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, "weights"));
  for (size_t i = 0; i < n->pairs.count; i++) {
    fe_weight_decl w;
    TS_TRY(declare_weight(S, &n->pairs.data[i], &w));
    if (fe_find_param(S, w.name) || fe_find_dim(S, w.name)) return FE_ERROR(S, w.loc, spec_shadow, "'%s' is a parameter or a dim already", w.name);
    ts_vec_push(S->a, &S->weights, w);
  }
  return TS_OK;
}

static ts_status given_values(fe_spec *S, const char *section, bool command) {
  const fe_node *n = fe_map_get(S->root, section);
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, section));
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    ts_sym name = ts_intern(S->names, p->key->text);
    fe_param *param = fe_find_param(S, name);
    fe_dim *dim = fe_find_dim(S, name);
    if (param && command) param->command = p->value;
    else if (param) param->set = p->value;
    else if (dim) dim->set = p->value;
    else {
      ts_status s = FE_ERROR(S, p->key->loc, spec_name, "the spec has no parameter or dim '%s'", name);
      const char **known = ts_new_array(S->a, const char *, S->params.count + S->dims.count + 1);
      size_t count = 0;
      for (size_t k = 0; k < S->params.count; k++) known[count++] = S->params.data[k].name;
      for (size_t k = 0; k < S->dims.count; k++) known[count++] = S->dims.data[k].name;
      fe_suggest(S, p->key->loc, p->key->text, known, count);
      return s;
    }
  }
  return TS_OK;
}

ts_status fe_given_values(fe_spec *S) {
  TS_TRY(given_values(S, "set", false));
  return given_values(S, "--set", true);
}

ts_status fe_encoding(fe_spec *S, ts_sym name, ts_loc loc, const ir_encoding **out) {
  for (size_t i = 0; i < S->encodings.count; i++)
    if (S->encodings.data[i].name == name) return *out = S->encodings.data[i].encoding, TS_OK;
  return ir_encoding_of_name(S->a, NULL, ts_str_of(name), loc, S->d, out);
}

ts_status fe_declare(fe_spec *S) {
  TS_TRY(declare_top(S));
  const fe_node *n = fe_map_get(S->root, "modules");
  if (n && !fe_is_null(n))
    for (size_t i = 0; i < n->pairs.count; i++) TS_TRY(declare_module(S, &n->pairs.data[i]));
  return fe_given_values(S);
}

// ---- compile --------------------------------------------------------------------------------------------------------------
static ts_status float_of(fe_spec *S, const fe_node *map, const char *key, ir_dtype otherwise, ir_dtype *out) {
  const fe_node *n = fe_map_get(map, key);
  *out = otherwise;
  if (!n) return TS_OK;
  ts_sym t;
  TS_TRY(fe_need_text(S, n, key, &t));
  *out = ir_dtype_of_name(n->text);
  if (*out != IR_f32 && *out != IR_f16 && *out != IR_bf16) return FE_ERROR(S, n->loc, spec_value, "float is f32, f16 or bf16, not %s", t);
  return TS_OK;
}

static ts_status compile_quantize(fe_spec *S, const fe_node *n) {
  TS_TRY(fe_expect(S, n, FE_SEQ, "quantize"));
  for (size_t i = 0; i < n->items.count; i++) {
    const fe_node *item = n->items.data[i], *weights = fe_map_get(item, "weights"), *as = fe_map_get(item, "as"), *method = fe_map_get(item, "method");
    ts_sym pattern, encoding;
    if (!weights || !as) return FE_ERROR(S, item->loc, spec_value, "an entry of quantize is {weights: \"layer.*\", as: int4_g64}");
    for (size_t k = 0; k < item->pairs.count; k++) {
      const fe_node *key = item->pairs.data[k].key;
      if (!ts_str_is(key->text, "weights") && !ts_str_is(key->text, "as") && !ts_str_is(key->text, "method"))
        return FE_ERROR(S, key->loc, spec_unsupported, "quantize knows weights, as and method; '%.*s' belongs to a method that is not implemented", TS_FMT(key->text));
    }
    if (method && !ts_str_is(method->text, "rtn"))
      return FE_ERROR(S, method->loc, spec_unsupported, "the method '%.*s' is not implemented; rtn (round to nearest) is", TS_FMT(method->text));
    TS_TRY(fe_need_text(S, weights, "weights", &pattern));
    TS_TRY(fe_need_text(S, as, "as", &encoding));
    fe_quantize q = {.pattern = pattern, .loc = as->loc};
    TS_TRY(ir_encoding_of_name(S->a, NULL, as->text, as->loc, S->d, &q.encoding));
    if (!ir_encoding_can_encode(q.encoding)) return FE_ERROR(S, as->loc, spec_unsupported, "values can't be rounded to '%s' at compile time", encoding);
    ts_vec_push(S->a, &S->quantize, q);
  }
  return TS_OK;
}

static ts_status compile_targets(fe_spec *S, const fe_node *n) {
  static const char *const host[] = {"host"};
  S->model->targets = host, S->model->target_count = 1;
  if (!n) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_SEQ, "targets"));
  const char **list = ts_new_array(S->a, const char *, n->items.count);
  for (size_t i = 0; i < n->items.count; i++) TS_TRY(fe_need_text(S, n->items.data[i], "a target", &list[i]));
  S->model->targets = list, S->model->target_count = n->items.count;
  return TS_OK;
}

ts_status fe_compile_section(fe_spec *S) {
  fe_model *M = S->model;
  const fe_node *n = fe_map_get(S->root, "compile"), *x;
  TS_TRY(compile_targets(S, fe_map_get(n, "targets")));
  TS_TRY(float_of(S, fe_map_get(n, "float"), "host", IR_f32, &M->float_host));
  TS_TRY(float_of(S, fe_map_get(n, "float"), "cuda", IR_f16, &M->float_cuda));
  M->float_type = S->o->float_type != IR_VOID ? S->o->float_type : S->o->target_class == IR_CLASS_CUDA ? M->float_cuda : M->float_host;
  M->activations = ts_intern_z(S->names, "exact");
  if ((x = fe_map_get(n, "activations"))) {
    TS_TRY(fe_need_text(S, x, "activations", &M->activations));
    if (strcmp(M->activations, "s8_token") == 0) return FE_ERROR(S, x->loc, spec_unsupported, "activations: s8_token is not implemented; exact and s8_block32 are");
    if (strcmp(M->activations, "exact") != 0 && strcmp(M->activations, "s8_block32") != 0)
      return FE_ERROR(S, x->loc, spec_value, "activations is exact, s8_block32 or s8_token, not %s", M->activations);
  }
  M->kv_type = M->float_type;
  if ((x = fe_map_get(fe_map_get(n, "kv"), "as"))) {
    ts_sym t;
    TS_TRY(fe_need_text(S, x, "kv.as", &t));
    ir_dtype d = ir_dtype_of_name(x->text);
    if (strcmp(t, "float") != 0) {
      if (strcmp(t, "s8") == 0 || strcmp(t, "kv8") == 0 || strcmp(t, "kv4") == 0) return FE_ERROR(S, x->loc, spec_unsupported, "kv: {as: %s} is not implemented; float, f32, f16 and bf16 are", t);
      if (d != IR_f32 && d != IR_f16 && d != IR_bf16) return FE_ERROR(S, x->loc, spec_value, "kv.as is float, f32, f16, bf16, s8, kv8 or kv4, not %s", t);
      M->kv_type = d;
    }
  }
  if ((x = fe_map_get(n, "quantize")) && !fe_is_null(x)) TS_TRY(compile_quantize(S, x));
  if ((x = fe_map_get(n, "prune")) && !fe_is_null(x)) {
    TS_TRY(fe_expect(S, x, FE_SEQ, "prune"));
    if (x->items.count) return FE_ERROR(S, x->items.data[0]->loc, spec_unsupported, "prune is not implemented; leave it empty");
  }
  return TS_OK;
}
