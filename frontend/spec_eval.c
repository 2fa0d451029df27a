// Evaluation of expressions: 64-bit integers, reals, booleans, choices, sizes; tensors are handed on to spec_ops.c.
#include "frontend/spec.h"

#include "base/checked.h"

#include <math.h>

fe_value fe_int_value(int64_t v) { return (fe_value){.kind = FE_V_INT, .integer = v}; }
fe_value fe_tensor_value(ir_value *v) { return (fe_value){.kind = FE_V_TENSOR, .tensor = v}; }
static fe_value real_value(double v) { return (fe_value){.kind = FE_V_REAL, .real = v}; }
static fe_value bool_value(bool v) { return (fe_value){.kind = FE_V_BOOL, .integer = v}; }

fe_value fe_size_of(fe_spec *S, const ir_size *s) {
  (void)S;
  if (ir_size_is_const(s)) return (fe_value){.kind = FE_V_INT, .integer = s->value, .size = s};
  return (fe_value){.kind = FE_V_SIZE, .size = s};
}

const char *fe_value_kind_name(const fe_value *v) {
  static const char *const names[] = {"an absent weight", "an integer", "a real", "a boolean", "a name", "a size", "a tensor", "a state", "a list"};
  return v->results ? "several results" : names[v->kind];
}

void fe_print_value(const fe_value *v, ts_text *out) {
  switch (v->kind) {
    case FE_V_INT: ts_text_printf(out, "%lld", (long long)v->integer); return;
    case FE_V_REAL: ts_text_real(out, v->real, false); return;
    case FE_V_BOOL: ts_text_puts(out, v->integer ? "true" : "false"); return;
    case FE_V_CHOICE: ts_text_printf(out, "'%s'", v->sym); return;
    case FE_V_SIZE: ir_size_print(v->size, out); return;
    default: ts_text_puts(out, fe_value_kind_name(v));
  }
}

// ---- names ----------------------------------------------------------------------------------------------------------------
static ts_status lookup_file(fe_env *e, ts_sym name, bool *found, fe_value *out) {
  *found = true;
  if (!fe_file_value(e->S, ts_str_of(name), out, NULL)) *out = (fe_value){.kind = FE_V_ABSENT};
  return TS_OK;
}

ts_status fe_lookup(fe_env *e, ts_sym name, ts_loc loc, bool *found, fe_value *out) {
  fe_spec *S = e->S;
  *found = true;
  if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0) return *out = bool_value(name[0] == 't'), TS_OK;
  if (e->in_file) return lookup_file(e, name, found, out);
  for (size_t i = e->names.count; i-- > 0;)
    if (e->names.data[i].name == name) return *out = e->names.data[i].value, TS_OK;
  if (e->module && e->f)
    for (size_t i = 0; i < e->module->weights.count; i++)
      if (e->module->weights.data[i].name == name) return fe_weight_value(e, &e->module->weights.data[i], out);
  fe_param *p = fe_find_param(S, name);
  if (p) {
    ts_status s = fe_solve_param(S, p);
    if (s != TS_OK) ts_note(S->d, loc, "%s is needed here", name);
    *out = p->value;
    return s;
  }
  fe_dim *d = fe_find_dim(S, name);
  if (d) {
    TS_TRY(fe_solve_dim(S, d));
    const ir_size *s = fe_dim_size(e, d);
    if (!s) return TS_INVALID;
    *out = fe_size_of(S, s);
    out->dim = name;
    return TS_OK;
  }
  for (size_t i = 0; e->f && i < S->m->states.count; i++)
    if (S->m->states.data[i]->name == name) return *out = (fe_value){.kind = FE_V_STATE, .state = S->m->states.data[i]}, TS_OK;
  if (!e->module && e->f)
    for (size_t i = 0; i < S->weights.count; i++)
      if (S->weights.data[i].name == name) return fe_weight_value(e, &S->weights.data[i], out);
  *found = false;
  return TS_OK;
}

ts_status fe_check_shadow(fe_env *e, ts_sym name, ts_loc loc) {
  fe_spec *S = e->S;
  ts_loc first = {0};
  const char *what = NULL;
  for (size_t i = 0; i < e->names.count; i++)
    if (e->names.data[i].name == name) what = "a name here", first = e->names.data[i].loc;
  if (fe_find_param(S, name)) what = "a parameter", first = fe_find_param(S, name)->loc;
  if (fe_find_dim(S, name)) what = "a dim", first = fe_find_dim(S, name)->loc;
  for (size_t i = 0; i < S->m->states.count; i++)
    if (S->m->states.data[i]->name == name) what = "a state", first = S->m->states.data[i]->loc;
  size_t count = e->module ? e->module->weights.count : S->weights.count;
  const fe_weight_decl *w = e->module ? e->module->weights.data : S->weights.data;
  for (size_t i = 0; i < count; i++)
    if (w[i].name == name) what = "a weight", first = w[i].loc;
  if (!what) return TS_OK;
  ts_status s = FE_ERROR(S, loc, spec_shadow, "'%s' is %s already", name, what);
  ts_note(S->d, first, "declared here");
  return s;
}

ts_status fe_unknown_name(fe_env *e, ts_sym name, ts_loc loc) {
  fe_spec *S = e->S;
  ts_status s = FE_ERROR(S, loc, spec_name, "'%s' is not defined here", name);
  TS_VEC(const char *) known = {0};
  for (size_t i = 0; i < e->names.count; i++) ts_vec_push(S->a, &known, e->names.data[i].name);
  for (size_t i = 0; i < S->params.count; i++) ts_vec_push(S->a, &known, S->params.data[i].name);
  for (size_t i = 0; i < S->dims.count; i++) ts_vec_push(S->a, &known, S->dims.data[i].name);
  for (size_t i = 0; i < S->m->states.count; i++) ts_vec_push(S->a, &known, S->m->states.data[i]->name);
  for (size_t i = 0; e->module && i < e->module->weights.count; i++) ts_vec_push(S->a, &known, e->module->weights.data[i].name);
  for (size_t i = 0; !e->module && i < S->weights.count; i++) ts_vec_push(S->a, &known, S->weights.data[i].name);
  fe_suggest(S, loc, ts_str_of(name), known.data, known.count);
  for (size_t i = 0; e->module && i < S->weights.count; i++)
    if (S->weights.data[i].name == name) ts_note(S->d, S->weights.data[i].loc, "the model's weight '%s' is not seen inside modules: make it an input", name);
  return s;
}

// ---- arithmetic -----------------------------------------------------------------------------------------------------------
static bool is_number(const fe_value *v) { return v->kind == FE_V_INT || v->kind == FE_V_REAL; }
static double as_real(const fe_value *v) { return v->kind == FE_V_INT ? (double)v->integer : v->real; }
static const ir_size *as_size(fe_spec *S, const fe_value *v) {
  return v->kind == FE_V_SIZE ? v->size : v->kind == FE_V_INT ? ir_size_const(S->m->sizes, v->integer) : NULL;
}

static ts_status overflow(fe_env *e, ts_loc loc) { return FE_ERROR(e->S, loc, spec_range, "the result does not fit 64 bits"); }

static ts_status int_power(fe_env *e, ts_loc loc, int64_t x, int64_t y, fe_value *out) {
  if (y < 0) return *out = real_value(pow((double)x, (double)y)), TS_OK;
  int64_t r = 1;
  for (int64_t i = 0; i < y; i++) {
    if (!ts_mul_i64(r, x, &r)) return overflow(e, loc);
    if ((r == 0 || r == 1) && i > 1) break;
    if (r == -1 && i > 2) return *out = fe_int_value(y % 2 ? -1 : 1), TS_OK;
  }
  *out = fe_int_value(r);
  return TS_OK;
}

static ts_status int_binary(fe_env *e, fe_oper op, ts_loc loc, int64_t x, int64_t y, fe_value *out) {
  int64_t r = 0;
  bool ok = true;
  switch (op) {
    case FE_ADD: ok = ts_add_i64(x, y, &r); break;
    case FE_SUB: ok = ts_sub_i64(x, y, &r); break;
    case FE_MUL: ok = ts_mul_i64(x, y, &r); break;
    case FE_DIV:
      if (y == 0) return FE_ERROR(e->S, loc, spec_range, "division by zero");
      if (x == INT64_MIN && y == -1) return overflow(e, loc);
      if (x % y) return FE_ERROR(e->S, loc, spec_range, "%lld / %lld is no integer; use floor_div or ceil_div", (long long)x, (long long)y);
      r = x / y;
      break;
    case FE_MOD:
      if (y < 1) return FE_ERROR(e->S, loc, spec_range, "the divisor of %% must be above 0");
      r = ts_floor_mod(x, y);
      break;
    case FE_POW: return int_power(e, loc, x, y, out);
    default: break;
  }
  if (!ok) return overflow(e, loc);
  *out = fe_int_value(r);
  return TS_OK;
}

static ts_status real_binary(fe_env *e, fe_oper op, ts_loc loc, double x, double y, fe_value *out) {
  double r = op == FE_ADD ? x + y : op == FE_SUB ? x - y : op == FE_MUL ? x * y : op == FE_DIV ? x / y : op == FE_POW ? pow(x, y) : fmod(x, y);
  if (!isfinite(r)) return FE_ERROR(e->S, loc, spec_range, "the result is no finite number");
  *out = real_value(r);
  return TS_OK;
}

static ts_status size_binary(fe_env *e, fe_oper op, ts_loc loc, const ir_size *x, const ir_size *y, fe_value *out) {
  ir_sizes *c = e->S->m->sizes;
  const ir_size *r = NULL;
  switch (op) {
    case FE_ADD: r = ir_size_add(c, x, y); break;
    case FE_SUB: r = ir_size_sub(c, x, y); break;
    case FE_MUL: r = ir_size_mul(c, x, y); break;
    case FE_MOD: r = ir_size_mod(c, x, y); break;
    case FE_DIV:
      if (!ir_size_is_const(y) || y->value < 1 || !ir_size_proved_multiple(x, y->value))
        return FE_ERROR(e->S, loc, spec_range, "this division of sizes can't be proved exact; use floor_div or ceil_div");
      r = ir_size_floordiv(c, x, y);
      break;
    default: return FE_ERROR(e->S, loc, spec_type, "sizes that are only known at a call have + - * / %% alone");
  }
  TS_TRY(ir_size_check(r, "this size", e->S->d, loc));
  *out = fe_size_of(e->S, r);
  return TS_OK;
}

static ts_status compare(fe_env *e, fe_oper op, ts_loc loc, const fe_value *x, const fe_value *y, fe_value *out) {
  if (x->kind == FE_V_ABSENT || y->kind == FE_V_ABSENT) return *out = bool_value(op == FE_NE), TS_OK;   // a key that the file lacks
  bool equal, less = false, ordered = false;
  if (is_number(x) && is_number(y)) {
    ordered = true;
    bool integers = x->kind == FE_V_INT && y->kind == FE_V_INT;
    equal = integers ? x->integer == y->integer : as_real(x) == as_real(y);
    less = integers ? x->integer < y->integer : as_real(x) < as_real(y);
  } else if (x->kind == y->kind && x->kind == FE_V_CHOICE) {
    equal = x->sym == y->sym;
  } else if (x->kind == y->kind && x->kind == FE_V_BOOL) {
    equal = x->integer == y->integer;
  } else if (e->in_file) {
    equal = false;
  } else {
    return FE_ERROR(e->S, loc, spec_type, "%s and %s can't be compared", fe_value_kind_name(x), fe_value_kind_name(y));
  }
  if (!ordered && op != FE_EQ && op != FE_NE) return FE_ERROR(e->S, loc, spec_type, "only numbers have an order");
  *out = bool_value(op == FE_EQ ? equal : op == FE_NE ? !equal : op == FE_LT ? less : op == FE_LE ? less || equal : op == FE_GT ? !less && !equal : !less);
  return TS_OK;
}

static ts_status bool_of(fe_env *e, const fe_ex *x, bool *out) {
  fe_value v;
  TS_TRY(fe_eval(e, x, &v));
  if (v.kind != FE_V_BOOL) return FE_ERROR(e->S, x->loc, spec_type, "a condition expected, not %s", fe_value_kind_name(&v));
  *out = v.integer;
  return TS_OK;
}

// In comparisons with a choice, a bare name that nothing else defines is a choice: `pairs == half`.
static ts_status eval_choice(fe_env *e, const fe_ex *x, const fe_value *other, fe_value *out) {
  if (other && other->kind == FE_V_CHOICE && x->kind == FE_EX_NAME) {
    bool found;
    TS_TRY(fe_lookup(e, x->name, x->loc, &found, out));
    if (!found) *out = (fe_value){.kind = FE_V_CHOICE, .sym = x->name};
    return TS_OK;
  }
  return fe_eval(e, x, out);
}

static ts_status binary(fe_env *e, const fe_ex *x, fe_value *out) {
  if (x->oper == FE_AND || x->oper == FE_OR) {
    bool a, b;
    TS_TRY(bool_of(e, x->x, &a));
    if (a == (x->oper == FE_OR)) return *out = bool_value(a), TS_OK;
    TS_TRY(bool_of(e, x->y, &b));
    return *out = bool_value(b), TS_OK;
  }
  fe_value a, b;
  TS_TRY(fe_eval(e, x->x, &a));
  TS_TRY(eval_choice(e, x->y, &a, &b));
  if (x->oper >= FE_EQ && x->oper <= FE_GE && a.kind != FE_V_TENSOR && b.kind != FE_V_TENSOR) return compare(e, x->oper, x->loc, &a, &b, out);
  if (x->oper == FE_ADD && (a.kind == FE_V_ABSENT || b.kind == FE_V_ABSENT)) return *out = a.kind == FE_V_ABSENT ? b : a, TS_OK;
  if (a.kind == FE_V_TENSOR || b.kind == FE_V_TENSOR) return fe_tensor_binary(e, x->oper, x->loc, &a, &b, out);
  if (a.kind == FE_V_INT && b.kind == FE_V_INT) return int_binary(e, x->oper, x->loc, a.integer, b.integer, out);
  if (is_number(&a) && is_number(&b)) return real_binary(e, x->oper, x->loc, as_real(&a), as_real(&b), out);
  const ir_size *s = as_size(e->S, &a), *t = as_size(e->S, &b);
  if (s && t) return size_binary(e, x->oper, x->loc, s, t, out);
  return FE_ERROR(e->S, x->loc, spec_type, "this operator does not take %s and %s", fe_value_kind_name(&a), fe_value_kind_name(&b));
}

static ts_status unary(fe_env *e, const fe_ex *x, fe_value *out) {
  fe_value v;
  TS_TRY(fe_eval(e, x->x, &v));
  if (x->oper == FE_NOT) {
    if (v.kind != FE_V_BOOL) return FE_ERROR(e->S, x->loc, spec_type, "`not` takes a condition, not %s", fe_value_kind_name(&v));
    return *out = bool_value(!v.integer), TS_OK;
  }
  fe_value zero = fe_int_value(0);
  switch (v.kind) {
    case FE_V_INT: return int_binary(e, FE_SUB, x->loc, 0, v.integer, out);
    case FE_V_REAL: return *out = real_value(-v.real), TS_OK;
    case FE_V_SIZE: return size_binary(e, FE_SUB, x->loc, as_size(e->S, &zero), v.size, out);
    case FE_V_TENSOR: return fe_tensor_unary(e, IR_SCALAR_neg, x->loc, &v, out);
    default: return FE_ERROR(e->S, x->loc, spec_type, "'-' does not take %s", fe_value_kind_name(&v));
  }
}

// ---- functions of numbers and sizes ---------------------------------------------------------------------------------------
typedef const ir_size *size_fn(ir_sizes *, const ir_size *, const ir_size *);
static const struct {
  const char *name;
  size_fn *fn;
} size_functions[] = {{"floor_div", ir_size_floordiv}, {"ceil_div", ir_size_ceildiv}, {"min", ir_size_min}, {"max", ir_size_max}};

static ts_status number_call(fe_env *e, const fe_ex *x, bool *done, fe_value *out) {
  *done = false;
  int k = -1;
  for (int i = 0; i < 4; i++)
    if (strcmp(x->name, size_functions[i].name) == 0) k = i;
  bool root = strcmp(x->name, "sqrt") == 0;
  if (k < 0 && !root) return TS_OK;
  if (x->args.count != (root ? 1 : 2) || x->args.data[0].keyword) {
    if (root) return TS_OK;
    return *done = true, FE_ERROR(e->S, x->loc, spec_call, "%s takes two values", x->name);
  }
  fe_value a, b = {0};
  *done = true;
  TS_TRY(fe_eval(e, x->args.data[0].value, &a));
  if (!root) TS_TRY(fe_eval(e, x->args.data[1].value, &b));
  if (a.kind == FE_V_TENSOR || b.kind == FE_V_TENSOR) {
    if (root) return fe_tensor_unary(e, IR_SCALAR_sqrt, x->loc, &a, out);
    return FE_ERROR(e->S, x->loc, spec_unsupported, "%s of tensors is not supported", x->name);
  }
  if (root) {
    if (!is_number(&a) || as_real(&a) < 0) return FE_ERROR(e->S, x->loc, spec_type, "sqrt takes a number that is not negative");
    return *out = real_value(sqrt(as_real(&a))), TS_OK;
  }
  if (k >= 2 && is_number(&a) && is_number(&b) && (a.kind == FE_V_REAL || b.kind == FE_V_REAL)) {
    double p = as_real(&a), q = as_real(&b);
    return *out = real_value(k == 2 ? fmin(p, q) : fmax(p, q)), TS_OK;
  }
  const ir_size *s = as_size(e->S, &a), *t = as_size(e->S, &b);
  if (!s || !t) return FE_ERROR(e->S, x->loc, spec_type, "%s does not take %s and %s", x->name, fe_value_kind_name(&a), fe_value_kind_name(&b));
  const ir_size *r = size_functions[k].fn(e->S->m->sizes, s, t);
  TS_TRY(ir_size_check(r, x->name, e->S->d, x->loc));
  *out = fe_size_of(e->S, r);
  return TS_OK;
}

ts_status fe_eval(fe_env *e, const fe_ex *x, fe_value *out) {
  *out = (fe_value){0};
  switch (x->kind) {
    case FE_EX_INT: *out = fe_int_value(x->integer); return TS_OK;
    case FE_EX_REAL: *out = real_value(x->real); return TS_OK;
    case FE_EX_TEXT: *out = (fe_value){.kind = FE_V_CHOICE, .sym = x->name}; return TS_OK;
    case FE_EX_NAME: {
      bool found;
      TS_TRY(fe_lookup(e, x->name, x->loc, &found, out));
      return found ? TS_OK : fe_unknown_name(e, x->name, x->loc);
    }
    case FE_EX_UNARY: return unary(e, x, out);
    case FE_EX_BINARY: return binary(e, x, out);
    case FE_EX_LIST:
      out->kind = FE_V_LIST;
      out->count = x->args.count;
      out->items = ts_new_array(e->S->a, fe_value, x->args.count);
      for (size_t i = 0; i < x->args.count; i++) TS_TRY(fe_eval(e, x->args.data[i].value, &out->items[i]));
      return TS_OK;
    case FE_EX_INDEX:
      if (e->kernel) return fe_kernel_index(e, x, out);
      return FE_ERROR(e->S, x->loc, spec_syntax, "indices in brackets belong to kernel specs; use gather or at");
    case FE_EX_CALL: break;
  }
  bool done = false;
  if (e->kernel) TS_TRY(fe_kernel_call(e, x, &done, out));
  if (done) return TS_OK;
  TS_TRY(number_call(e, x, &done, out));
  if (done) return TS_OK;
  if (!e->f) return FE_ERROR(e->S, x->loc, spec_call, "'%s' can't be called here: this is computed before anything runs", x->name);
  return fe_call(e, x, out);
}

ts_status fe_eval_int(fe_env *e, const fe_ex *x, const char *what, int64_t *out) {
  fe_value v;
  TS_TRY(fe_eval(e, x, &v));
  if (v.kind != FE_V_INT) return FE_ERROR(e->S, x->loc, spec_type, "%s must be an integer that is known at compile time, not %s", what, fe_value_kind_name(&v));
  *out = v.integer;
  return TS_OK;
}

ts_status fe_eval_size(fe_env *e, const fe_ex *x, const ir_size **out) {
  fe_value v;
  TS_TRY(fe_eval(e, x, &v));
  const ir_size *s = as_size(e->S, &v);
  if (!s) return FE_ERROR(e->S, x->loc, spec_type, "a size expected, not %s", fe_value_kind_name(&v));
  if (s->lo < 0) return FE_ERROR(e->S, x->loc, spec_range, "a size that may be negative");
  *out = s;
  return TS_OK;
}
