// Kernel specs: indexed equations become one function of tensor IR, which the families lower like any other.
//
//   acc[i, j]: sum(c, x[i, c] * w[j, c])     a product: linear(x, w), summed in `numerics.accumulate`
//   x[rows[i], c]                            a gather
//   softmax(c, e), rms_norm(c, e, g[c], eps), layer_norm(c, e, g[c], b[c], eps)   row functions along an index
// Everything else is elementwise: operands are aligned to the indices of the left side. Arithmetic is done in the accumulator's
// type; what an equation stores is rounded once to the output's type.
//
// Operands of an encoding, second factors of products and tables of gathers are constants of the artifact (that is what their layout is derived
// for): their values come from a file, tensors by operand name, or are random. Dims of such operands, and all but leading dims, are
// fixed: by --set, else to the last value that `check.at` lists.
#include "frontend/spec.h"

typedef struct operand {
  ts_sym name;
  ts_loc loc;
  fe_type_text type;
  ir_dtype dtype;
  bool weight, out;
  fe_weight_decl decl;
  ir_value *value;       // of inputs
  unsigned rank;
  const ir_size *shape[IR_MAX_RANK];
} operand;

typedef struct indexed {  // a name defined by an equation
  ts_sym name;
  ts_loc loc;
  unsigned rank;
  ts_sym index[IR_MAX_RANK];
  fe_value value;         // aligned to index
} indexed;

typedef struct index_size {
  ts_sym name;
  const ir_size *size;
  ts_loc loc;
} index_size;

typedef struct fe_kernel {
  fe_spec *S;
  TS_VEC(operand) operands;
  TS_VEC(indexed) values;
  TS_VEC(index_size) sizes;
  unsigned rank;                  // the frame: indices that values are aligned to
  ts_sym frame[IR_MAX_RANK];
  bool raw;                       // factors of a product stay in their own type
  ir_dtype accumulate;
  TS_VEC(ir_value *) results;     // by output operand
  TS_VEC(ts_sym) result_names;
} kernel;

static operand *find_operand(kernel *k, ts_sym name) {
  for (size_t i = 0; i < k->operands.count; i++)
    if (k->operands.data[i].name == name) return &k->operands.data[i];
  return NULL;
}

static ts_status index_extent(kernel *k, ts_sym name, const ir_size *size, ts_loc loc) {
  for (size_t i = 0; i < k->sizes.count; i++) {
    if (k->sizes.data[i].name != name) continue;
    if (k->sizes.data[i].size == size) return TS_OK;
    ts_text t = {0};
    ir_size_print(size, &t);
    ts_text_puts(&t, " here and ");
    ir_size_print(k->sizes.data[i].size, &t);
    ts_status s = FE_ERROR(k->S, loc, spec_shape, "the index %s ranges over %s elsewhere", name, ts_text_z(&t));
    ts_text_deinit(&t);
    ts_note(k->S->d, k->sizes.data[i].loc, "the other place");
    return s;
  }
  ts_vec_push(k->S->a, &k->sizes, ((index_size){name, size, loc}));
  return TS_OK;
}

// ---- values ---------------------------------------------------------------------------------------------------------------
static ir_value *build1(fe_env *e, ir_opcode code, uint32_t count, ir_value *const *operands, const ir_type *type, ts_loc loc) {
  e->f->b.loc = loc;
  return ir_build(&e->f->b, code, count, operands, 1, &type)->results[0];
}

static ir_value *cast_value(fe_env *e, ir_value *v, ir_dtype t, ts_loc loc) {
  ir_dtype from = v->type->dtype;
  if (from == t) return v;
  ir_fn_builder b;
  ir_fn_begin(&b, e->S->m, 1, &from);
  uint32_t r = ir_fn_cast(&b, t, 0);
  ir_value *out = build1(e, IR_OP_map_t, 1, &v, ir_tensor_type(e->S->m, t, v->type->rank, v->type->shape, NULL), loc);
  ir_set_fn(&e->f->b, out->producer, "fn", ir_fn_end(&b, 1, &r));
  return out;
}

// Brings a value with the given indices into the frame: dims of 1 go where the frame has an index that the value lacks.
static ts_status align(fe_env *e, ir_value *v, unsigned rank, const ts_sym *index, ts_loc loc, fe_value *out) {
  kernel *k = e->kernel;
  const ir_size *shape[IR_MAX_RANK];
  unsigned n = 0, next = 0;
  for (unsigned i = 0; i < k->rank; i++) {
    if (next < rank && k->frame[i] == index[next]) shape[n++] = v->type->shape[next++];
    else if (n) shape[n++] = ir_size_const(e->S->m->sizes, 1);
  }
  if (next < rank) {
    bool known = false;
    for (unsigned i = 0; i < k->rank; i++) known |= k->frame[i] == index[next];
    if (known) return FE_ERROR(e->S, loc, spec_unsupported, "indices in another order than on the left side are not supported");
    return FE_ERROR(e->S, loc, spec_name, "the index %s is neither on the left side nor summed over", index[next]);
  }
  if (n != rank) v = build1(e, IR_OP_reshape, 1, &v, ir_tensor_type(e->S->m, v->type->dtype, n, shape, NULL), loc);
  *out = fe_tensor_value(v);
  return TS_OK;
}

ir_dtype fe_work_type(const fe_env *e, ir_dtype t) {
  return e->kernel && !e->kernel->raw && ir_is_float(t) ? e->kernel->accumulate : t;
}

static ts_status operand_value(fe_env *e, operand *o, ir_value **out) {
  if (o->out) return FE_ERROR(e->S, o->loc, spec_type, "the output %s is read", o->name);
  if (!o->weight) return *out = o->value, TS_OK;
  fe_value v;
  TS_TRY(fe_weight_value(e, &o->decl, &v));
  *out = v.tensor;
  return TS_OK;
}

// An index expression: names of indices; x[rows[i], c] gathers.
ts_status fe_kernel_index(fe_env *e, const fe_ex *x, fe_value *out) {
  kernel *k = e->kernel;
  fe_spec *S = e->S;
  if (x->x->kind != FE_EX_NAME) return FE_ERROR(S, x->loc, spec_syntax, "indices stand behind the name of an operand");
  ts_sym name = x->x->name, index[IR_MAX_RANK];
  unsigned rank = (unsigned)x->args.count;
  for (size_t i = 0; i < k->values.count; i++) {
    const indexed *v = &k->values.data[i];
    if (v->name != name) continue;
    if (v->rank != rank) return FE_ERROR(S, x->loc, spec_shape, "%s has %u indices", name, v->rank);
    for (unsigned d = 0; d < rank; d++) {
      if (x->args.data[d].value->kind != FE_EX_NAME) return FE_ERROR(S, x->args.data[d].loc, spec_syntax, "an index is a name");
      index[d] = x->args.data[d].value->name;
      TS_TRY(index_extent(k, index[d], v->value.tensor->type->shape[d], x->args.data[d].loc));
    }
    return align(e, v->value.tensor, rank, index, x->loc, out);
  }
  operand *o = find_operand(k, name);
  if (!o) {
    ts_status s = FE_ERROR(S, x->x->loc, spec_name, "no operand or value is called '%s'", name);
    TS_VEC(const char *) known = {0};
    for (size_t i = 0; i < k->operands.count; i++) ts_vec_push(S->a, &known, k->operands.data[i].name);
    for (size_t i = 0; i < k->values.count; i++) ts_vec_push(S->a, &known, k->values.data[i].name);
    fe_suggest(S, x->x->loc, ts_str_of(name), known.data, known.count);
    return s;
  }
  if (o->rank != rank) return FE_ERROR(S, x->loc, spec_shape, "%s has %u dims, not %u", name, o->rank, rank);
  ir_value *v;
  TS_TRY(operand_value(e, o, &v));
  for (unsigned d = 0; d < rank; d++) {
    const fe_ex *i = x->args.data[d].value;
    if (i->kind == FE_EX_INDEX && d == 0) {   // a map: rows of the table
      operand *ids = i->x->kind == FE_EX_NAME ? find_operand(k, i->x->name) : NULL;
      if (!ids || ids->rank != 1 || !ir_is_int(ids->dtype) || i->args.count != 1 || i->args.data[0].value->kind != FE_EX_NAME)
        return FE_ERROR(S, i->loc, spec_unsupported, "a map is one operand of integers with one index: x[rows[i], c]");
      index[0] = i->args.data[0].value->name;
      ir_value *list;
      TS_TRY(operand_value(e, ids, &list));
      TS_TRY(index_extent(k, index[0], ids->shape[0], i->loc));
      const ir_size *shape[IR_MAX_RANK];
      memcpy(shape, v->type->shape, rank * sizeof *shape);
      shape[0] = ids->shape[0];
      v = build1(e, IR_OP_gather, 2, (ir_value *[]){v, list}, ir_tensor_type(S->m, v->type->dtype, rank, shape, NULL), x->loc);
      continue;
    }
    if (i->kind != FE_EX_NAME) return FE_ERROR(S, i->loc, spec_syntax, "an index is a name, or a map as first index: x[rows[i], c]");
    index[d] = i->name;
    TS_TRY(index_extent(k, index[d], o->shape[d], i->loc));
  }
  return align(e, v, rank, index, x->loc, out);
}

// ---- row functions --------------------------------------------------------------------------------------------------------
typedef struct frame {
  unsigned rank;
  ts_sym index[IR_MAX_RANK];
  bool raw;
} frame;
static frame save(const kernel *k) {
  frame f = {.rank = k->rank, .raw = k->raw};
  memcpy(f.index, k->frame, sizeof f.index);
  return f;
}
static void restore(kernel *k, const frame *f) {
  k->rank = f->rank, k->raw = f->raw;
  memcpy(k->frame, f->index, sizeof f->index);
}

static bool has_index(const fe_ex *x, ts_sym index) {
  if (x->kind == FE_EX_NAME) return x->name == index;
  if (x->x && has_index(x->x, index)) return true;
  if (x->y && has_index(x->y, index)) return true;
  for (size_t i = 0; i < x->args.count; i++)
    if (has_index(x->args.data[i].value, index)) return true;
  return false;
}

// w of a product: an operand w[j, c] with j the last index of the left side.
static operand *matrix(kernel *k, const fe_ex *x, ts_sym c) {
  if (x->kind != FE_EX_INDEX || x->x->kind != FE_EX_NAME || x->args.count != 2 || k->rank < 2) return NULL;
  const fe_ex *j = x->args.data[0].value, *last = x->args.data[1].value;
  if (j->kind != FE_EX_NAME || last->kind != FE_EX_NAME || last->name != c || j->name != k->frame[k->rank - 1]) return NULL;
  operand *o = find_operand(k, x->x->name);
  return o && o->weight && o->rank == 2 ? o : NULL;
}

static ts_status product(fe_env *e, const fe_ex *x, ts_sym c, const fe_ex *term, fe_value *out) {
  kernel *k = e->kernel;
  fe_spec *S = e->S;
  const fe_ex *w = term->y, *in = term->x;
  operand *o = matrix(k, w, c);
  if (!o) w = term->x, in = term->y, o = matrix(k, w, c);
  if (!o || has_index(in, k->frame[k->rank - 1]))
    return FE_ERROR(S, x->loc, spec_unsupported, "a sum of products is x[..., c] * w[j, c] with j the last index of the left side and w an operand of rank 2");
  frame saved = save(k);
  ts_sym j = k->frame[k->rank - 1];
  k->frame[k->rank - 1] = c;
  k->raw = true;
  fe_value v;
  ts_status s = fe_eval(e, in, &v);
  unsigned rank = k->rank;
  restore(k, &saved);
  TS_TRY(s);
  if (v.kind != FE_V_TENSOR || v.tensor->type->rank != rank) return FE_ERROR(S, in->loc, spec_shape, "this factor does not have all indices of the left side");
  ir_value *weight;
  TS_TRY(operand_value(e, o, &weight));
  TS_TRY(index_extent(k, j, o->shape[0], w->loc));
  TS_TRY(index_extent(k, c, o->shape[1], w->loc));
  const ir_size *shape[IR_MAX_RANK];
  memcpy(shape, v.tensor->type->shape, rank * sizeof *shape);
  shape[rank - 1] = o->shape[0];
  ir_value *r = build1(e, IR_OP_linear, 2, (ir_value *[]){v.tensor, weight}, ir_tensor_type(S->m, k->accumulate, rank, shape, NULL), x->loc);
  *out = fe_tensor_value(r);
  return TS_OK;
}

static ts_status row_function(fe_env *e, const fe_ex *x, ts_sym c, fe_value *out) {
  kernel *k = e->kernel;
  fe_spec *S = e->S;
  if (!k->rank || k->frame[k->rank - 1] != c) return FE_ERROR(S, x->loc, spec_unsupported, "%s runs along the last index of the left side, not %s", x->name, c);
  fe_ex *inner = ts_new(S->a, fe_ex);   // the op of the same name without the index
  *inner = *x;
  inner->args.data = NULL, inner->args.count = inner->args.capacity = 0;
  for (size_t i = 1; i < x->args.count; i++) ts_vec_push(S->a, &inner->args, x->args.data[i]);
  return fe_call(e, inner, out);
}

ts_status fe_kernel_call(fe_env *e, const fe_ex *x, bool *done, fe_value *out) {
  kernel *k = e->kernel;
  static const char *const rows[] = {"softmax", "rms_norm", "layer_norm"};
  static const char *const sums[] = {"sum", "max", "min", "mean"};
  bool row = false, sum = false;
  for (int i = 0; i < 3; i++) row |= strcmp(x->name, rows[i]) == 0;
  for (int i = 0; i < 4; i++) sum |= strcmp(x->name, sums[i]) == 0;
  if (!row && !sum) return TS_OK;
  if (x->args.count < 2 || x->args.data[0].value->kind != FE_EX_NAME) return TS_OK;   // min(a, b)
  ts_sym c = x->args.data[0].value->name;
  if (fe_find_param(e->S, c) || fe_find_dim(e->S, c)) return TS_OK;
  *done = true;
  if (row) return row_function(e, x, c, out);
  const fe_ex *term = x->args.data[1].value;
  for (unsigned i = 0; i < k->rank; i++)
    if (k->frame[i] == c) return FE_ERROR(e->S, x->args.data[0].loc, spec_shadow, "%s is an index of the left side", c);
  if (strcmp(x->name, "sum") == 0 && x->args.count == 2 && term->kind == FE_EX_BINARY && term->oper == FE_MUL) return product(e, x, c, term, out);
  return FE_ERROR(e->S, x->loc, spec_unsupported, "%s of this form has no family; products sum(c, x[i, c] * w[j, c]) and softmax, rms_norm, layer_norm along an index have", x->name);
}

// ---- equations ------------------------------------------------------------------------------------------------------------
static ts_status equation(fe_env *e, const fe_pair *p) {
  kernel *k = e->kernel;
  fe_spec *S = e->S;
  fe_ex *left, *right;
  TS_TRY(fe_parse_expr(&S->grammar, p->key, &left));
  TS_TRY(fe_parse_expr(&S->grammar, p->value, &right));
  if (left->kind != FE_EX_INDEX || left->x->kind != FE_EX_NAME || left->args.count > IR_MAX_RANK || !left->args.count)
    return FE_ERROR(S, p->key->loc, spec_syntax, "the left side of an equation is a name with indices, like acc[i, j]");
  indexed v = {.name = left->x->name, .loc = p->key->loc, .rank = (unsigned)left->args.count};
  for (unsigned i = 0; i < v.rank; i++) {
    const fe_ex *x = left->args.data[i].value;
    if (x->kind != FE_EX_NAME) return FE_ERROR(S, x->loc, spec_syntax, "an index is a name");
    for (unsigned j = 0; j < i; j++)
      if (v.index[j] == x->name) return FE_ERROR(S, x->loc, spec_duplicate, "the index %s is here twice", x->name);
    v.index[i] = x->name;
  }
  operand *o = find_operand(k, v.name);
  if (o && !o->out) return FE_ERROR(S, v.loc, spec_shadow, "'%s' is an input", v.name);
  for (size_t i = 0; i < k->values.count; i++)
    if (k->values.data[i].name == v.name) return FE_ERROR(S, v.loc, spec_duplicate, "'%s' has a value already", v.name);
  k->rank = v.rank;
  k->raw = false;
  memcpy(k->frame, v.index, sizeof v.index);
  k->sizes.count = 0;
  TS_TRY(fe_eval(e, right, &v.value));
  if (v.value.kind != FE_V_TENSOR) return FE_ERROR(S, right->loc, spec_type, "an equation gives a tensor, not %s", fe_value_kind_name(&v.value));
  ir_value *t = v.value.tensor;
  if (t->type->rank != v.rank) return FE_ERROR(S, right->loc, spec_shape, "the right side does not have all indices of the left");
  if (o) {
    for (unsigned i = 0; i < v.rank; i++)
      if (o->rank != v.rank || t->type->shape[i] != o->shape[i]) return FE_ERROR(S, v.loc, spec_shape, "%s has another shape than its operand", v.name);
    t = cast_value(e, t, o->dtype, p->value->loc);
    if (!t->producer || t->producer->code == IR_OP_weight) return FE_ERROR(S, right->loc, spec_unsupported, "an output that is an input unchanged");
    v.value.tensor = t;
    ts_vec_push(S->a, &k->results, t);
    ts_vec_push(S->a, &k->result_names, v.name);
  }
  if (!t->name) t->name = v.name;
  ts_vec_push(S->a, &k->values, v);
  return TS_OK;
}

static ts_status equations(fe_env *e, const char *section) {
  const fe_node *n = fe_map_get(e->S->root, section);
  if (!n || fe_is_null(n)) return TS_OK;
  TS_TRY(fe_expect(e->S, n, FE_SEQ, section));
  for (size_t i = 0; i < n->items.count; i++) {
    TS_TRY(fe_expect(e->S, n->items.data[i], FE_MAP, "an equation"));
    if (n->items.data[i]->pairs.count != 1) return FE_ERROR(e->S, n->items.data[i]->loc, spec_syntax, "an entry is one equation; every entry begins with '-'");
    TS_TRY(equation(e, &n->items.data[i]->pairs.data[0]));
  }
  return TS_OK;
}

// ---- encodings ------------------------------------------------------------------------------------------------------------
static ts_status per_of(fe_spec *S, const fe_node *n, int64_t out[2]) {
  fe_env e = {.S = S};
  out[0] = 1, out[1] = 0;
  if (!n) return TS_OK;
  TS_TRY(fe_expect(S, n, FE_SEQ, "per"));
  if (n->items.count != 2) return FE_ERROR(S, n->loc, spec_value, "per is [rows, elements] that share one");
  for (int i = 0; i < 2; i++) {
    fe_ex *x;
    TS_TRY(fe_parse_expr(&S->grammar, n->items.data[i], &x));
    TS_TRY(fe_eval_int(&e, x, "per", &out[i]));
  }
  return TS_OK;
}

static ts_status part_type(fe_spec *S, const fe_node *n, const char *what, ir_dtype *type, int64_t per[2]) {
  const fe_node *t = n->kind == FE_MAP ? fe_map_get(n, "type") : n;
  ts_sym name;
  if (!t) return FE_ERROR(S, n->loc, spec_key, "%s needs a type: {type: f16, per: [1, group]}", what);
  TS_TRY(fe_need_text(S, t, what, &name));
  *type = ir_dtype_of_name(t->text);
  if (*type == IR_VOID) return FE_ERROR(S, t->loc, spec_type, "no type is called '%s'", name);
  return per_of(S, fe_map_get(n, "per"), per);
}

// A digit: n, n/8, n%2, (n/2)%4.
static bool digit_of(const fe_ex *x, ir_digit *out) {
  *out = (ir_digit){.divisor = 1};
  if (x->kind == FE_EX_BINARY && x->oper == FE_MOD && x->y->kind == FE_EX_INT) out->radix = x->y->integer, x = x->x;
  if (x->kind == FE_EX_BINARY && x->oper == FE_DIV && x->y->kind == FE_EX_INT) out->divisor = x->y->integer, x = x->x;
  if (x->kind != FE_EX_NAME || (strcmp(x->name, "n") != 0 && strcmp(x->name, "k") != 0)) return false;
  out->axis = x->name[0] == 'k';
  return out->divisor > 0 && out->radix >= 0;
}

static ts_status layout_of(fe_spec *S, const fe_node *n, ir_affine *out) {
  if (!n || ts_str_is(n->text, "auto")) return TS_OK;
  if (n->kind == FE_SCALAR) {
    const ir_named_layout *l = ir_named_layout_find(n->text);
    if (!l) return FE_ERROR(S, n->loc, spec_name, "no layout is called '%.*s'", TS_FMT(n->text));
    memcpy(out->layout, l->list, sizeof out->layout);
    return TS_OK;
  }
  if (n->kind == FE_MAP) n = fe_map_get(n, "digits") ? fe_map_get(n, "digits") : n;
  TS_TRY(fe_expect(S, n, FE_SEQ, "layout"));
  ir_digit *digits = ts_new_array(S->a, ir_digit, n->items.count);
  for (size_t i = 0; i < n->items.count; i++) {
    fe_ex *x;
    TS_TRY(fe_parse_expr(&S->grammar, n->items.data[i], &x));
    if (!digit_of(x, &digits[i])) return FE_ERROR(S, n->items.data[i]->loc, spec_syntax, "a digit is n or k, /divisor, %%radix: (n/2)%%4");
  }
  if (n->items.count > 16) return FE_ERROR(S, n->loc, spec_range, "more than 16 digits");
  out->layout[0] = (ir_digit_list){digits, (uint8_t)n->items.count};
  return TS_OK;
}

static ts_status make_encoding(fe_spec *S, const fe_pair *p) {
  static const char *const keys[] = {"code", "value", "scale", "zero", "min", "tail", "layout"};
  static const char *const tails[] = {"refuse", "short", "pad"};
  const fe_node *n = p->value, *x;
  TS_TRY(fe_expect(S, n, FE_MAP, "an encoding"));
  for (size_t i = 0; i < n->pairs.count; i++) {
    bool known = false;
    for (int k = 0; k < 7; k++) known |= ts_str_is(n->pairs.data[i].key->text, keys[k]);
    if (known) continue;
    ts_status s = FE_ERROR(S, n->pairs.data[i].key->loc, spec_key, "an encoding has no key '%.*s'", TS_FMT(n->pairs.data[i].key->text));
    fe_suggest(S, n->pairs.data[i].key->loc, n->pairs.data[i].key->text, keys, 7);
    return s;
  }
  ir_affine a = {.name = ts_intern(S->names, p->key->text), .scale_per = {1, 0}, .zero_per = {1, 0}};
  if (!(x = fe_map_get(n, "code"))) return FE_ERROR(S, p->key->loc, spec_key, "the encoding needs `code`");
  int64_t ignored[2];
  TS_TRY(part_type(S, x, "code", &a.code, ignored));
  if (!(x = fe_map_get(n, "value"))) return FE_ERROR(S, p->key->loc, spec_key, "the encoding needs `value`, its formula");
  a.formula = ir_formula_of_text(x->text);
  if (x->kind != FE_SCALAR || a.formula == IR_FORMULA_COUNT) {
    ts_status s = FE_ERROR(S, x->loc, spec_value, "value is one of the known formulas");
    for (int f = 0; f < IR_FORMULA_COUNT; f++) ts_note(S->d, x->loc, "%s", ir_formula_text((ir_formula)f));
    return s;
  }
  if ((x = fe_map_get(n, "scale"))) TS_TRY(part_type(S, x, "scale", &a.scale, a.scale_per));
  if ((x = fe_map_get(n, "zero")) || (x = fe_map_get(n, "min"))) TS_TRY(part_type(S, x, "zero", &a.zero, a.zero_per));
  if ((x = fe_map_get(n, "tail"))) {
    int tail = -1;
    for (int i = 0; i < 3; i++)
      if (ts_str_is(x->text, tails[i])) tail = i;
    if (tail < 0) return FE_ERROR(S, x->loc, spec_value, "tail is short, pad or refuse");
    a.tail = tail == 0 ? IR_TAIL_REFUSE : tail == 1 ? IR_TAIL_SHORT : IR_TAIL_PAD;
  }
  TS_TRY(layout_of(S, fe_map_get(n, "layout"), &a));
  fe_named_encoding e = {.name = a.name};
  TS_TRY(ir_encoding_make(S->a, &a, p->key->loc, S->d, &e.encoding));
  ts_vec_push(S->a, &S->encodings, e);
  return TS_OK;
}

// ---- operands -------------------------------------------------------------------------------------------------------------
// Marks operands that stand as second factor of a product, w[j, c] in sum(c, ... * w[j, c]), and tables of gathers.
static void mark_factors(kernel *k, const fe_ex *x) {
  if (x->kind == FE_EX_CALL && strcmp(x->name, "sum") == 0 && x->args.count == 2) {
    const fe_ex *term = x->args.data[1].value;
    const fe_ex *w = term->kind == FE_EX_BINARY && term->oper == FE_MUL ? term->y : NULL;
    operand *o = w && w->kind == FE_EX_INDEX && w->x->kind == FE_EX_NAME ? find_operand(k, w->x->name) : NULL;
    if (o && !o->out && o->type.dims.count == 2) o->weight = true;
  }
  if (x->kind == FE_EX_INDEX && x->x->kind == FE_EX_NAME && x->args.count && x->args.data[0].value->kind == FE_EX_INDEX) {
    operand *o = find_operand(k, x->x->name);
    if (o && !o->out) o->weight = true;
  }
  if (x->x) mark_factors(k, x->x);
  if (x->y) mark_factors(k, x->y);
  for (size_t i = 0; i < x->args.count; i++) mark_factors(k, x->args.data[i].value);
}

static ts_status mark_all(kernel *k, const char *section) {
  const fe_node *n = fe_map_get(k->S->root, section);
  for (size_t i = 0; n && n->kind == FE_SEQ && i < n->items.count; i++) {
    const fe_node *entry = n->items.data[i];
    fe_ex *x;
    if (entry->kind != FE_MAP || entry->pairs.count != 1) continue;
    TS_TRY(fe_parse_expr(&k->S->grammar, entry->pairs.data[0].value, &x));
    mark_factors(k, x);
  }
  return TS_OK;
}

static ts_status declare_operands(kernel *k) {
  fe_spec *S = k->S;
  const fe_node *n = fe_map_get(S->root, "operands");
  if (!n || n->kind != FE_MAP || !n->pairs.count) return FE_ERROR(S, S->root->loc, spec_key, "a kernel needs `operands`");
  for (size_t i = 0; i < n->pairs.count; i++) {
    const fe_pair *p = &n->pairs.data[i];
    operand o = {.name = ts_intern(S->names, p->key->text), .loc = p->key->loc};
    if (!fe_is_name(p->key->text)) return FE_ERROR(S, o.loc, spec_syntax, "'%s' is no name", o.name);
    TS_TRY(fe_parse_type(&S->grammar, p->value, &o.type));
    if (!o.type.role) return FE_ERROR(S, o.type.loc, spec_syntax, "an operand begins with in or out");
    if (strcmp(o.type.role, "inout") == 0) return FE_ERROR(S, o.type.loc, spec_unsupported, "inout operands are not implemented");
    if (fe_find_param(S, o.name) || fe_find_dim(S, o.name)) return FE_ERROR(S, o.loc, spec_shadow, "'%s' is a parameter or a dim already", o.name);
    o.out = strcmp(o.type.role, "out") == 0;
    if (o.type.encoding_args.count) return FE_ERROR(S, o.type.encoding_loc, spec_unsupported, "sparse storage is not implemented");
    if (o.out && (o.type.encoding || o.type.optional)) return FE_ERROR(S, o.type.loc, spec_unsupported, "outputs are plain");
    o.weight = o.type.encoding != NULL;
    TS_TRY(fe_type_dtype(S, &o.type, &o.dtype));
    ts_vec_push(S->a, &k->operands, o);
  }
  TS_TRY(mark_all(k, "compute"));
  return mark_all(k, "epilogue");
}

// `check.at`; also the values that dims take which must be fixed and which nobody sets.
static ts_status read_check(fe_spec *S) {
  const fe_node *at = fe_map_get(fe_map_get(S->root, "check"), "at");
  if (!at) return TS_OK;
  TS_TRY(fe_expect(S, at, FE_MAP, "check.at"));
  fe_check_dim *list = ts_new_array(S->a, fe_check_dim, at->pairs.count);
  for (size_t i = 0; i < at->pairs.count; i++) {
    const fe_node *n = at->pairs.data[i].value;
    ts_sym name = ts_intern(S->names, at->pairs.data[i].key->text);
    if (!fe_find_dim(S, name)) return FE_ERROR(S, at->pairs.data[i].key->loc, spec_name, "no dim '%s'", name);
    TS_TRY(fe_expect(S, n, FE_SEQ, "check.at"));
    int64_t *values = ts_new_array(S->a, int64_t, n->items.count);
    for (size_t k = 0; k < n->items.count; k++)
      if (!fe_scalar_int(n->items.data[k], &values[k])) return FE_ERROR(S, n->items.data[k]->loc, spec_value, "an integer expected");
    list[i] = (fe_check_dim){name, values, n->items.count};
  }
  S->model->check = list;
  S->model->check_count = at->pairs.count;
  return TS_OK;
}

static ts_status fix_dim(fe_spec *S, fe_dim *d, ts_loc loc) {
  if (d->set) return TS_OK;
  for (size_t i = 0; i < S->model->check_count; i++) {
    const fe_check_dim *c = &S->model->check[i];
    if (c->dim != d->name || !c->count) continue;
    fe_node *n = ts_new(S->a, fe_node);
    const char *text = ts_arena_printf(S->a, "%lld", (long long)c->values[c->count - 1]);
    *n = (fe_node){.kind = FE_SCALAR, .plain = true, .loc = d->loc, .text = ts_str_of(text)};
    d->set = n;
    ts_report(S->d, d->loc, &diag_spec_unread, "%s is fixed at %s, the last value of check.at; --set %s=... chooses another", d->name, text, d->name);
    return TS_OK;
  }
  ts_status s = FE_ERROR(S, d->loc, param_missing, "%s must be fixed at compile time: --set %s=...", d->name, d->name);
  ts_note(S->d, loc, "because it stands here, behind the rows or in a constant operand");
  return s;
}

static ts_status fix_dims(kernel *k) {
  for (size_t i = 0; i < k->operands.count; i++) {
    const operand *o = &k->operands.data[i];
    for (size_t d = o->weight ? 0 : 1; d < o->type.dims.count; d++) {
      const fe_ex *x = o->type.dims.data[d];
      fe_dim *dim = x->kind == FE_EX_NAME ? fe_find_dim(k->S, x->name) : NULL;
      if (dim) TS_TRY(fix_dim(k->S, dim, x->loc));
    }
  }
  return TS_OK;
}

static ts_status bind_operands(fe_env *e) {
  kernel *k = e->kernel;
  for (size_t i = 0; i < k->operands.count; i++) {
    operand *o = &k->operands.data[i];
    TS_TRY(fe_type_shape(e, &o->type, &o->rank, o->shape));
    if (o->out) continue;
    if (o->weight) {
      o->decl = (fe_weight_decl){o->name, o->loc, o->type};
      o->decl.type.optional = false;
      continue;
    }
    o->value = ts_new(k->S->a, ir_value);
    o->value->type = ir_tensor_type(k->S->m, o->dtype, o->rank, o->shape, NULL);
    o->value->name = o->name;
    o->value->index = (uint32_t)e->f->f->inputs.count;
    ts_vec_push(k->S->a, &e->f->f->inputs, o->value);
  }
  return TS_OK;
}

static ts_status build(kernel *k, fe_function_state *f) {
  fe_spec *S = k->S;
  fe_env e = {.S = S, .f = f, .kernel = k};
  TS_TRY(bind_operands(&e));
  TS_TRY(equations(&e, "compute"));
  TS_TRY(equations(&e, "epilogue"));
  for (size_t i = 0; i < k->operands.count; i++) {
    const operand *o = &k->operands.data[i];
    bool written = !o->out;
    for (size_t r = 0; r < k->result_names.count; r++) written |= k->result_names.data[r] == o->name;
    if (!written) return FE_ERROR(S, o->loc, spec_key, "no equation gives the output '%s'", o->name);
  }
  if (!k->results.count) return FE_ERROR(S, S->root->loc, spec_key, "the kernel has no output");
  for (size_t r = 0; r < k->result_names.count; r++) ts_vec_push(S->a, &f->f->outputs, k->result_names.data[r]);
  ir_build(&f->b, IR_OP_ret, (uint32_t)k->results.count, k->results.data, 0, NULL);
  return TS_OK;
}

ts_status fe_load_kernel(fe_spec *S) {
  kernel k = {.S = S, .accumulate = IR_f32};
  const fe_node *n;
  S->model->is_kernel = true;
  TS_TRY(fe_need_text(S, fe_map_get(S->root, "kernel"), "kernel", &S->m->name));
  TS_TRY(fe_compile_section(S));
  for (size_t i = 0; i < S->o->weights_count; i++) TS_TRY(fe_open_source(S, S->o->weights[i]));
  TS_TRY(fe_declare_dims(S));
  TS_TRY(fe_given_values(S));
  for (size_t i = 0; i < S->params.count; i++) TS_TRY(fe_solve_param(S, &S->params.data[i]));
  if ((n = fe_map_get(fe_map_get(S->root, "numerics"), "accumulate"))) {
    k.accumulate = n->kind == FE_SCALAR ? ir_dtype_of_name(n->text) : IR_VOID;
    if (k.accumulate != IR_f32) return FE_ERROR(S, n->loc, spec_unsupported, "sums are accumulated in f32");
  }
  static const char *const unread[] = {"schedule", "tune"};
  for (int i = 0; i < 2; i++)
    if ((n = fe_map_get(S->root, unread[i]))) ts_report(S->d, n->loc, &diag_spec_unread, "`%s` is not used: the families choose their schedules", unread[i]);
  n = fe_map_get(S->root, "encodings");
  if (n && !fe_is_null(n)) {
    TS_TRY(fe_expect(S, n, FE_MAP, "encodings"));
    for (size_t i = 0; i < n->pairs.count; i++) TS_TRY(make_encoding(S, &n->pairs.data[i]));
  }
  TS_TRY(declare_operands(&k));
  TS_TRY(read_check(S));
  TS_TRY(fix_dims(&k));
  for (size_t i = 0; i < S->dims.count; i++) TS_TRY(fe_solve_dim(S, &S->dims.data[i]));
  const fe_options *given = S->o;
  fe_options random = *S->o;
  random.random_weights = true;
  if (!S->sources.count) S->o = &random;
  fe_function_state f = {.S = S, .f = ts_new(S->a, ir_function)};
  f.f->name = S->m->name;
  f.f->loc = fe_map_get(S->root, "kernel")->loc;
  f.f->body = ir_region_create(S->m, NULL);
  f.b = (ir_builder){.module = S->m, .region = f.f->body, .loc = f.f->loc};
  ts_status s = build(&k, &f);
  S->o = given;
  ts_map_deinit(&f.weights);
  ts_map_deinit(&f.states);
  TS_TRY(s);
  ts_vec_push(S->a, &S->m->functions, f.f);
  return fe_import_tokenizer(S);
}
