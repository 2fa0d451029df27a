// Functions and modules of a spec as functions of tensor IR. Modules are expanded where they are called; `repeat` is unrolled.
#include "frontend/spec.h"

// ---- types ----------------------------------------------------------------------------------------------------------------
ts_status fe_type_dtype(fe_spec *S, const fe_type_text *t, ir_dtype *out) {
  if (strcmp(t->dtype, "float") == 0) return *out = S->model->float_type, TS_OK;
  *out = ir_dtype_of_name(ts_str_of(t->dtype));
  if (*out != IR_VOID) return TS_OK;
  if (strcmp(t->dtype, "map") == 0 || strcmp(t->dtype, "coords") == 0) return FE_ERROR(S, t->loc, spec_unsupported, "maps and coordinates are not implemented");
  ts_status s = FE_ERROR(S, t->loc, spec_type, "no type is called '%s'", t->dtype);
  static const char *const known[] = {"float", "f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"};
  fe_suggest(S, t->loc, ts_str_of(t->dtype), known, sizeof known / sizeof *known);
  return s;
}

ts_status fe_type_shape(fe_env *e, const fe_type_text *t, unsigned *rank, const ir_size **shape) {
  if (t->dims.count > IR_MAX_RANK) return FE_ERROR(e->S, t->loc, spec_range, "more than %d dims", IR_MAX_RANK);
  *rank = (unsigned)t->dims.count;
  for (unsigned i = 0; i < *rank; i++) TS_TRY(fe_eval_size(e, t->dims.data[i], &shape[i]));
  return TS_OK;
}

const ir_size *fe_dim_size(fe_env *e, fe_dim *d) {
  fe_spec *S = e->S;
  if (fe_solve_dim(S, d) != TS_OK) return NULL;
  const fe_node *n = e->f ? fe_map_get(e->f->sets, d->name) : NULL;
  if (!n) return d->size;
  fe_ex *x;
  int64_t v;
  fe_env plain = {.S = S};
  if (fe_parse_expr(&S->grammar, n, &x) != TS_OK || fe_eval_int(&plain, x, d->name, &v) != TS_OK) return NULL;
  if (v < d->size->lo || v > d->size->hi) {
    FE_ERROR(S, n->loc, spec_range, "%s = %lld leaves its range %lld .. %lld", d->name, (long long)v, (long long)d->size->lo, (long long)d->size->hi);
    return NULL;
  }
  return ir_size_const(S->m->sizes, v);
}

static const char *type_text(fe_spec *S, const ir_type *t) {
  ts_text s = {0};
  ts_text_printf(&s, "%s[", ir_dtype_name(t->dtype));
  for (unsigned i = 0; i < t->rank; i++) {
    if (i) ts_text_puts(&s, ", ");
    ir_size_print(t->shape[i], &s);
  }
  ts_text_putc(&s, ']');
  const char *z = ts_arena_strdup(S->a, ts_text_z(&s));
  ts_text_deinit(&s);
  return z;
}

// ---- weights and states ---------------------------------------------------------------------------------------------------
static ts_status fallback(fe_env *e, const fe_weight_decl *w, fe_value *out) {
  size_t count = e->module ? e->module->weights.count : e->S->weights.count;
  const fe_weight_decl *list = e->module ? e->module->weights.data : e->S->weights.data;
  for (size_t i = 0; i < count && &list[i] != w; i++)   // only earlier ones: no circles
    if (list[i].name == w->type.otherwise) return fe_weight_value(e, &list[i], out);
  return FE_ERROR(e->S, w->type.otherwise_loc, spec_name, "no weight '%s' is declared before '%s'", w->type.otherwise, w->name);
}

ts_status fe_weight_value(fe_env *e, const fe_weight_decl *w, fe_value *out) {
  fe_spec *S = e->S;
  fe_function_state *f = e->f;
  fe_weight_ref ref = {.index = e->index.data, .index_count = e->index.count};
  ref.full = ts_intern_z(S->names, ts_arena_printf(S->a, "%s%s", e->prefix ? e->prefix : "", w->name));
  ref.key = ts_intern_z(S->names, ts_arena_printf(S->a, "%s%s", e->key ? e->key : "", w->name));
  ir_dtype dtype;
  unsigned rank;
  const ir_size *shape[IR_MAX_RANK];
  int64_t extents[IR_MAX_RANK];
  TS_TRY(fe_type_dtype(S, &w->type, &dtype));
  TS_TRY(fe_type_shape(e, &w->type, &rank, shape));
  for (unsigned i = 0; i < rank; i++) {
    if (!ir_size_is_const(shape[i])) return FE_ERROR(S, w->type.dims.data[i]->loc, spec_shape, "the shape of a weight must be known at compile time");
    extents[i] = shape[i]->value;
  }
  const fe_weight *r;
  TS_TRY(fe_resolve_weight(S, w, &ref, dtype, rank, extents, &r));
  if (!r->weight) {
    if (!w->type.otherwise) return *out = (fe_value){.kind = FE_V_ABSENT}, TS_OK;
    TS_TRY(fallback(e, w, out));
    if (out->kind != FE_V_TENSOR) return TS_OK;
    const ir_type *t = out->tensor->type;
    bool same = t->rank == rank && t->dtype == dtype;
    for (unsigned i = 0; same && i < rank; i++) same = t->shape[i] == shape[i];
    return same ? TS_OK : FE_ERROR(S, w->loc, spec_shape, "'%s' falls back on '%s', which is %s", w->name, w->type.otherwise, type_text(S, t));
  }
  ir_value *known = ts_map_get(&f->weights, ts_key(ref.full));
  if (!known) {
    const ir_type *t = ir_tensor_type(S->m, dtype, rank, shape, r->weight->encoding);
    ts_loc saved = f->b.loc;
    f->b.loc = w->loc;
    ir_op *op = ir_build(&f->b, IR_OP_weight, 0, NULL, 1, &t);
    ir_set_text(&f->b, op, "name", ref.full);
    f->b.loc = saved;
    known = op->results[0];
    known->name = w->name;
    ts_map_put(&f->weights, ts_key(ref.full), known);
  }
  *out = fe_tensor_value(known);
  return TS_OK;
}

ir_value *fe_state_value(fe_env *e, const ir_state *s) {
  fe_function_state *f = e->f;
  ir_value *known = ts_map_get(&f->states, ts_key(s));
  if (known) return known;
  const ir_type *t = ir_state_type(e->S->m, s);
  ir_op *op = ir_build(&f->b, IR_OP_state_ref, 0, NULL, 1, &t);
  ir_set_sym(&f->b, op, "name", s->name);
  op->results[0]->name = s->name;
  ts_map_put(&f->states, ts_key(s), op->results[0]);
  return op->results[0];
}

// ---- graphs ---------------------------------------------------------------------------------------------------------------
static void add_name(fe_env *e, ts_sym name, ts_loc loc, fe_value v) { ts_vec_push(e->S->a, &e->names, ((fe_name){name, loc, v})); }

static ts_status bind_results(fe_env *e, const fe_node *key, const fe_value *v, ts_loc loc) {
  fe_spec *S = e->S;
  size_t count;
  ts_sym *names;
  ts_loc *locs;
  TS_TRY(fe_parse_names(&S->grammar, key->text, key->loc, &count, &names, &locs));
  if (count == 1 && !v->results) {
    TS_TRY(fe_check_shadow(e, names[0], locs[0]));
    if (v->kind == FE_V_TENSOR && !v->tensor->name) v->tensor->name = names[0];
    add_name(e, names[0], locs[0], *v);
    return TS_OK;
  }
  size_t have = v->results ? v->count : 1;
  if (have != count) return FE_ERROR(S, loc, spec_call, "%zu results for %zu names", have, count);
  for (size_t i = 0; i < count; i++) {
    TS_TRY(fe_check_shadow(e, names[i], locs[i]));
    if (v->items[i].kind == FE_V_TENSOR && !v->items[i].tensor->name) v->items[i].tensor->name = names[i];
    add_name(e, names[i], locs[i], v->items[i]);
  }
  return TS_OK;
}

static ts_status graph_entry(fe_env *e, const fe_node *n) {
  fe_spec *S = e->S;
  fe_ex *x;
  fe_value v;
  if (n->kind == FE_SCALAR) {   // an effect
    TS_TRY(fe_parse_expr(&S->grammar, n, &x));
    TS_TRY(fe_eval(e, x, &v));
    if (v.results && v.count == 0) return TS_OK;
    return FE_ERROR(S, n->loc, spec_syntax, "nobody gets this value: write `- name: expression`");
  }
  TS_TRY(fe_expect(S, n, FE_MAP, "an entry of a graph"));
  if (n->pairs.count != 1) {
    ts_status s = FE_ERROR(S, n->loc, spec_syntax, "an entry of a graph is one `name: expression`, this has %zu", n->pairs.count);
    ts_note(S->d, n->loc, "every entry begins with '-'");
    return s;
  }
  const fe_pair *p = &n->pairs.data[0];
  TS_TRY(fe_parse_expr(&S->grammar, p->value, &x));
  e->entry = ts_intern(S->names, p->key->text);
  e->entry_call = x;
  TS_TRY(fe_eval(e, x, &v));
  e->entry = NULL;
  e->entry_call = NULL;
  return bind_results(e, p->key, &v, p->value->loc);
}

static ts_status graph(fe_env *e, const fe_node *n) {
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(e->S, n, FE_SEQ, "graph"));
  for (size_t i = 0; i < n->items.count; i++) TS_TRY(graph_entry(e, n->items.data[i]));
  return TS_OK;
}

// ---- modules --------------------------------------------------------------------------------------------------------------
// Checks an argument against the declared type; a dim that nobody declared is bound by it.
static ts_status check_input(fe_env *e, const fe_input_decl *in, const fe_value *v, ts_loc loc) {
  fe_spec *S = e->S;
  if (v->kind != FE_V_TENSOR) return FE_ERROR(S, loc, spec_type, "%s must be a tensor, not %s", in->name, fe_value_kind_name(v));
  const ir_type *t = v->tensor->type;
  ir_dtype dtype;
  TS_TRY(fe_type_dtype(S, &in->type, &dtype));
  bool fits = t->dtype == dtype && (!in->type.has_dims || t->rank == in->type.dims.count);
  ts_text want = {0};
  ts_text_printf(&want, "%s[", ir_dtype_name(dtype));
  for (unsigned i = 0; i < in->type.dims.count; i++) {
    const fe_ex *x = in->type.dims.data[i];
    const ir_size *s = NULL;
    if (x->kind == FE_EX_NAME && fits) {
      bool found;
      fe_value known;
      ts_status st = fe_lookup(e, x->name, x->loc, &found, &known);
      if (st != TS_OK) return ts_text_deinit(&want), st;
      if (!found) {
        add_name(e, x->name, x->loc, fe_size_of(S, t->shape[i]));
        s = t->shape[i];
      }
    }
    if (!s) {
      ts_status st = fe_eval_size(e, x, &s);
      if (st != TS_OK) return ts_text_deinit(&want), st;
    }
    if (i) ts_text_puts(&want, ", ");
    ir_size_print(s, &want);
    if (fits && t->shape[i] != s) fits = false;
  }
  ts_text_putc(&want, ']');
  ts_status st = TS_OK;
  if (!fits) {
    st = FE_ERROR(S, loc, spec_shape, "%s is %s here, and declared as %s", in->name, type_text(S, t), ts_text_z(&want));
    ts_note(S->d, in->loc, "declared here");
  }
  ts_text_deinit(&want);
  return st;
}

typedef struct module_args {
  TS_VEC(ts_sym) names;
  TS_VEC(fe_value) values;
  TS_VEC(ts_loc) locs;
} module_args;

static bool module_has(const fe_module_decl *m, ts_sym name) {
  for (size_t i = 0; i < m->inputs.count; i++)
    if (m->inputs.data[i].name == name) return true;
  for (size_t i = 0; i < m->params.count; i++)
    if (m->params.data[i].name == name) return true;
  return false;
}

static ts_status evaluate_args(fe_env *e, const fe_ex *x, size_t first, const fe_module_decl *m, module_args *out) {
  fe_spec *S = e->S;
  *out = (module_args){0};
  for (size_t i = first; i < x->args.count; i++) {
    const fe_arg *a = &x->args.data[i];
    ts_sym name = a->keyword;
    if (!name && i - first < m->inputs.count) name = m->inputs.data[i - first].name;
    if (!name || !module_has(m, name)) {
      ts_status s = name ? FE_ERROR(S, a->loc, spec_call, "module '%s' has no input or parameter '%s'", m->name, name)
                         : FE_ERROR(S, a->loc, spec_call, "module '%s' has %zu inputs; parameters are named", m->name, m->inputs.count);
      ts_note(S->d, m->loc, "the module");
      return s;
    }
    for (size_t k = 0; k < out->names.count; k++)
      if (out->names.data[k] == name) return FE_ERROR(S, a->loc, spec_call, "the argument '%s' is here twice", name);
    fe_value v;
    ts_sym entry = e->entry;
    TS_TRY(fe_eval(e, a->value, &v));
    e->entry = entry;
    ts_vec_push(S->a, &out->names, name);
    ts_vec_push(S->a, &out->values, v);
    ts_vec_push(S->a, &out->locs, a->value->loc);
  }
  return TS_OK;
}

static int arg_of(const module_args *a, ts_sym name) {
  for (size_t i = 0; i < a->names.count; i++)
    if (a->names.data[i] == name) return (int)i;
  return -1;
}

static ts_status module_params(fe_env *inner, const fe_module_decl *m, const module_args *args, ts_loc loc) {
  fe_spec *S = inner->S;
  for (size_t i = 0; i < m->params.count; i++) {
    const fe_param *p = &m->params.data[i];
    int k = arg_of(args, p->name);
    fe_value v;
    ts_loc at = loc;
    if (k >= 0) {
      v = args->values.data[k], at = args->locs.data[k];
    } else if (p->decl.init) {
      fe_function_state *f = inner->f;
      inner->f = NULL;
      ts_status s = fe_eval(inner, p->decl.init, &v);
      inner->f = f;
      TS_TRY(s);
    } else {
      ts_status s = FE_ERROR(S, loc, spec_call, "module '%s' needs its parameter '%s'", m->name, p->name);
      ts_note(S->d, p->loc, "declared here");
      return s;
    }
    TS_TRY(fe_param_accept(S, p, &v, at, &v));
    add_name(inner, p->name, p->loc, v);
  }
  return TS_OK;
}

// Expands the module once. `inner` has prefix, key and index set.
static ts_status expand(fe_env *inner, fe_module_decl *m, const module_args *args, ts_loc loc, fe_value *out) {
  fe_spec *S = inner->S;
  if (m->busy) {
    ts_status s = FE_ERROR(S, loc, spec_cycle, "module '%s' calls itself", m->name);
    ts_note(S->d, m->loc, "the module");
    return s;
  }
  m->busy = true;
  ts_status s = module_params(inner, m, args, loc);
  for (size_t i = 0; i < m->inputs.count && s == TS_OK; i++) {
    int k = arg_of(args, m->inputs.data[i].name);
    if (k < 0) {
      s = FE_ERROR(S, loc, spec_call, "module '%s' needs its input '%s'", m->name, m->inputs.data[i].name);
      ts_note(S->d, m->inputs.data[i].loc, "declared here");
      break;
    }
    s = check_input(inner, &m->inputs.data[i], &args->values.data[k], args->locs.data[k]);
    if (s == TS_OK) add_name(inner, m->inputs.data[i].name, m->inputs.data[i].loc, args->values.data[k]);
  }
  if (s == TS_OK) s = graph(inner, m->graph);
  fe_ex *x;
  if (s == TS_OK) s = fe_parse_expr(&S->grammar, m->output, &x);
  if (s == TS_OK) s = fe_eval(inner, x, out);
  m->busy = false;
  return s;
}

ts_status fe_call_module(fe_env *e, const fe_ex *x, fe_module_decl *m, ts_sym entry, fe_value *out) {
  fe_spec *S = e->S;
  if (m->weights.count && !entry)
    return FE_ERROR(S, x->loc, spec_call, "module '%s' has weights, so its call stands alone in an entry: its name is part of theirs", m->name);
  module_args args;
  TS_TRY(evaluate_args(e, x, 0, m, &args));
  fe_env inner = {.S = S, .f = e->f, .module = m};
  inner.prefix = ts_arena_printf(S->a, "%s%s.", e->prefix ? e->prefix : "", entry ? entry : m->name);
  inner.key = ts_arena_printf(S->a, "%s%s.", e->key ? e->key : "", entry ? entry : m->name);
  for (size_t i = 0; i < e->index.count; i++) ts_vec_push(S->a, &inner.index, e->index.data[i]);
  return expand(&inner, m, &args, x->loc, out);
}

ts_status fe_call_repeat(fe_env *e, const fe_ex *x, fe_value *out) {
  fe_spec *S = e->S;
  if (x->args.count < 2 || x->args.data[0].keyword || x->args.data[1].keyword || x->args.data[0].value->kind != FE_EX_NAME)
    return FE_ERROR(S, x->loc, spec_call, "repeat(module, count, input=value...)");
  const fe_ex *name = x->args.data[0].value;
  fe_module_decl *m = fe_find_module(S, name->name);
  if (!m) {
    ts_status s = FE_ERROR(S, name->loc, spec_name, "no module is called '%s'", name->name);
    TS_VEC(const char *) known = {0};
    for (size_t i = 0; i < S->modules.count; i++) ts_vec_push(S->a, &known, S->modules.data[i]->name);
    fe_suggest(S, name->loc, ts_str_of(name->name), known.data, known.count);
    return s;
  }
  int64_t count;
  TS_TRY(fe_eval_int(e, x->args.data[1].value, "the number of repetitions", &count));
  if (count < 0 || count > 10000) return FE_ERROR(S, x->args.data[1].loc, spec_range, "%lld repetitions; 0 to 10000 can be unrolled", (long long)count);
  if (!m->inputs.count) return FE_ERROR(S, x->loc, spec_call, "module '%s' has no input to be repeated on", m->name);
  module_args args;
  TS_TRY(evaluate_args(e, x, 2, m, &args));
  ts_sym first = m->inputs.data[0].name;
  int k = arg_of(&args, first);
  if (k < 0) return FE_ERROR(S, x->loc, spec_call, "repeat needs %s=..., the first input of '%s'", first, m->name);
  for (int64_t i = 0; i < count; i++) {
    fe_env inner = {.S = S, .f = e->f, .module = m};
    inner.prefix = ts_arena_printf(S->a, "%s%s.%lld.", e->prefix ? e->prefix : "", m->name, (long long)i);
    inner.key = ts_arena_printf(S->a, "%s%s.", e->key ? e->key : "", m->name);
    for (size_t n = 0; n < e->index.count; n++) ts_vec_push(S->a, &inner.index, e->index.data[n]);
    if (m->index) {
      ts_vec_push(S->a, &inner.index, ((fe_index){m->index, i}));
      add_name(&inner, m->index, m->loc, fe_int_value(i));
    }
    fe_value *v = &args.values.data[k];
    if (v->kind == FE_V_TENSOR && !v->tensor->name) v->tensor->name = first;
    fe_value next;
    TS_TRY(expand(&inner, m, &args, x->loc, &next));
    if (v->kind != FE_V_TENSOR || next.kind != FE_V_TENSOR || v->tensor->type != next.tensor->type) {
      bool tensors = v->kind == FE_V_TENSOR && next.kind == FE_V_TENSOR;
      return FE_ERROR(S, m->output->loc, spec_shape, "the output %s is not of the type of the first input %s", tensors ? type_text(S, next.tensor->type) : fe_value_kind_name(&next),
                      tensors ? type_text(S, v->tensor->type) : fe_value_kind_name(v));
    }
    *v = next;
  }
  *out = args.values.data[k];
  return TS_OK;
}

// ---- functions ------------------------------------------------------------------------------------------------------------
static ts_status function_inputs(fe_env *e, const fe_node *n) {
  fe_spec *S = e->S;
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_MAP, "inputs"));
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    fe_type_text t;
    ir_dtype dtype;
    unsigned rank;
    const ir_size *shape[IR_MAX_RANK];
    ts_sym name = ts_intern(S->names, p->key->text);
    TS_TRY(fe_parse_type(&S->grammar, p->value, &t));
    if (t.init || t.optional || t.otherwise) return FE_ERROR(S, t.loc, spec_syntax, "an input is a plain type");
    if (t.encoding) return FE_ERROR(S, t.encoding_loc, spec_unsupported, "inputs in the storage '%s' are not implemented", t.encoding);
    TS_TRY(fe_type_dtype(S, &t, &dtype));
    TS_TRY(fe_type_shape(e, &t, &rank, shape));
    TS_TRY(fe_check_shadow(e, name, p->key->loc));
    ir_value *v = ts_new(S->a, ir_value);
    v->type = ir_tensor_type(S->m, dtype, rank, shape, NULL);
    v->name = name;
    v->index = (uint32_t)i;
    ts_vec_push(S->a, &e->f->f->inputs, v);
    add_name(e, name, p->key->loc, fe_tensor_value(v));
  }
  return TS_OK;
}

// An output's declared type is its cast. A product that nobody else reads gives the type itself, without rounding twice.
static ts_status output_value(fe_env *e, const fe_type_text *t, ts_sym name, fe_value *v) {
  fe_spec *S = e->S;
  ir_dtype dtype;
  unsigned rank;
  const ir_size *shape[IR_MAX_RANK];
  if (v->kind != FE_V_TENSOR) return FE_ERROR(S, t->init->loc, spec_type, "output %s must be a tensor, not %s", name, fe_value_kind_name(v));
  TS_TRY(fe_type_dtype(S, t, &dtype));
  TS_TRY(fe_type_shape(e, t, &rank, shape));
  const ir_type *have = v->tensor->type, *want = ir_tensor_type(S->m, dtype, rank, shape, NULL);
  bool fits = have->rank == rank;
  for (unsigned i = 0; fits && i < rank; i++) fits = have->shape[i] == shape[i];
  if (!fits) return FE_ERROR(S, t->loc, spec_shape, "output %s is declared as %s and computed as %s", name, type_text(S, want), type_text(S, have));
  if (have->dtype == dtype) return TS_OK;
  if (ir_is_float(dtype) != ir_is_float(have->dtype)) return FE_ERROR(S, t->loc, spec_type, "output %s is computed as %s; use cast", name, type_text(S, have));
  ir_op *op = v->tensor->producer;
  if (op && op->code == IR_OP_linear && !v->tensor->name) {
    v->tensor->type = want;
    return TS_OK;
  }
  ir_fn_builder b;
  ir_dtype from = have->dtype;
  ir_fn_begin(&b, S->m, 1, &from);
  uint32_t r = ir_fn_cast(&b, dtype, 0);
  op = ir_build(&e->f->b, IR_OP_map_t, 1, &v->tensor, 1, &want);
  ir_set_fn(&e->f->b, op, "fn", ir_fn_end(&b, 1, &r));
  *v = fe_tensor_value(op->results[0]);
  return TS_OK;
}

static ts_status function_outputs(fe_env *e, const fe_node *n, ts_loc loc) {
  fe_spec *S = e->S;
  if (!n) return FE_ERROR(S, loc, spec_key, "the function has no outputs");
  TS_TRY(fe_expect(S, n, FE_MAP, "outputs"));
  ir_value **values = ts_new_array(S->a, ir_value *, n->pairs.count);
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    fe_type_text t;
    fe_value v;
    ts_sym name = ts_intern(S->names, p->key->text);
    if (!fe_is_name(p->key->text)) return FE_ERROR(S, p->key->loc, spec_syntax, "'%s' is no name", name);
    TS_TRY(fe_parse_type(&S->grammar, p->value, &t));
    if (!t.init) return FE_ERROR(S, t.loc, spec_syntax, "an output is `type = expression`");
    e->entry = name;
    e->entry_call = t.init;
    TS_TRY(fe_eval(e, t.init, &v));
    e->f->b.loc = p->value->loc;
    TS_TRY(output_value(e, &t, name, &v));
    if (!v.tensor->name) v.tensor->name = name;
    values[i] = v.tensor;
    ts_vec_push(S->a, &e->f->f->outputs, name);
  }
  e->f->b.loc = n->loc;
  ir_build(&e->f->b, IR_OP_ret, (uint32_t)n->pairs.count, values, 0, NULL);
  return TS_OK;
}

static ts_status check_sets(fe_spec *S, const fe_node *sets) {
  if (!sets) return TS_OK;
  TS_TRY(fe_expect(S, sets, FE_MAP, "set"));
  for (size_t i = 0; i < sets->pairs.count; i++) {
    ts_sym name = ts_intern(S->names, sets->pairs.data[i].key->text);
    if (!fe_find_dim(S, name)) return FE_ERROR(S, sets->pairs.data[i].key->loc, spec_name, "a function's `set` fixes dims; '%s' is none", name);
  }
  return TS_OK;
}

static ts_status build_function(fe_spec *S, const fe_pair *p, const fe_node *functions) {
  const fe_node *n = p->value, *like = fe_map_get(n, "like"), *sets = fe_map_get(n, "set");
  ts_sym name = ts_intern(S->names, p->key->text);
  if (!fe_is_name(p->key->text)) return FE_ERROR(S, p->key->loc, spec_syntax, "'%s' is no name", name);
  if (like) {
    ts_sym other;
    TS_TRY(fe_need_text(S, like, "like", &other));
    n = fe_map_get(functions, other);
    if (!n || fe_map_get(n, "like")) return FE_ERROR(S, like->loc, spec_name, "`like` names a function that is written out; '%s' is none", other);
  }
  TS_TRY(check_sets(S, sets));
  fe_function_state f = {.S = S, .sets = sets};
  f.f = ts_new(S->a, ir_function);
  f.f->name = name;
  f.f->loc = p->key->loc;
  f.f->body = ir_region_create(S->m, NULL);
  f.b = (ir_builder){.module = S->m, .region = f.f->body, .loc = p->key->loc};
  fe_env e = {.S = S, .f = &f};
  ts_status s = function_inputs(&e, fe_map_get(n, "inputs"));
  if (s == TS_OK) s = graph(&e, fe_map_get(n, "graph"));
  if (s == TS_OK) s = function_outputs(&e, fe_map_get(n, "outputs"), p->key->loc);
  ts_map_deinit(&f.weights);
  ts_map_deinit(&f.states);
  if (s == TS_OK) ts_vec_push(S->a, &S->m->functions, f.f);
  else if (like) ts_note(S->d, p->key->loc, "in function '%s'", name);
  return s;
}

ts_status fe_build_functions(fe_spec *S) {
  const fe_node *n = fe_map_get(S->root, "functions");
  if (!n || n->kind != FE_MAP || !n->pairs.count) return FE_ERROR(S, S->root->loc, spec_key, "the model has no functions");
  for (size_t i = 0; i < n->pairs.count; i++) TS_TRY(build_function(S, &n->pairs.data[i], n));
  return TS_OK;
}
