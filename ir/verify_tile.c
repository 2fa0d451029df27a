// Type rules of the tile ops (stages P and S). Axes are compared as sets of (name, extent): the order of a tile's axes never
// carries meaning except in `relabel permute`.
#include "ir/verify.h"

enum { MAX_AXES = 64 };

// ---- sets of axes --------------------------------------------------------------------------------------------------------
typedef struct axis_set {
  unsigned count;
  ts_sym name[MAX_AXES];
  const ir_size *extent[MAX_AXES];   // NULL: not known
} axis_set;

static int find_axis(const axis_set *s, ts_sym name) {
  for (unsigned i = 0; i < s->count; i++)
    if (s->name[i] == name) return (int)i;
  return -1;
}

// False, with a report, when the axis is there with another extent.
static bool add_axis(verifier *v, axis_set *s, ts_sym name, const ir_size *extent) {
  int i = find_axis(s, name);
  if (i < 0) {
    if (s->count == MAX_AXES) {
      verify_bad(v, &diag_ir_type, "more than %d axes", MAX_AXES);
      return false;
    }
    s->name[s->count] = name;
    s->extent[s->count++] = extent;
    return true;
  }
  if (!s->extent[i]) s->extent[i] = extent;
  if (!extent || s->extent[i] == extent) return true;
  ts_text a = {0}, b = {0};
  ir_size_print(s->extent[i], &a);
  ir_size_print(extent, &b);
  verify_bad(v, &diag_ir_type, "axis '%s' is %s here and %s there", name, ts_text_z(&a), ts_text_z(&b));
  ts_text_deinit(&a);
  ts_text_deinit(&b);
  return false;
}

static bool add_tile(verifier *v, axis_set *s, const ir_type *t) {
  for (unsigned i = 0; i < t->rank; i++)
    if (!add_axis(v, s, t->axes[i], t->shape[i])) return false;
  return true;
}

static void drop_axis(axis_set *s, ts_sym name) {
  int i = find_axis(s, name);
  if (i < 0) return;
  s->count--;
  s->name[i] = s->name[s->count];
  s->extent[i] = s->extent[s->count];
}

static void expect_axes(verifier *v, const char *what, const axis_set *s, const ir_type *t) {
  VERIFY(v, t->kind == IR_TYPE_TILE, "%s is no tile", what);
  for (unsigned i = 0; i < t->rank; i++) {
    int k = find_axis(s, t->axes[i]);
    VERIFY(v, k >= 0, "%s has an axis '%s' that does not come from the operands", what, t->axes[i]);
    VERIFY(v, !s->extent[k] || s->extent[k] == t->shape[i], "axis '%s' of %s has another extent than in the operands", t->axes[i],
           what);
  }
  VERIFY(v, t->rank == s->count, "%s lacks an axis of the operands: %s", what, verify_type_text(v, t));
}

static bool tiles(verifier *v, const ir_op *op) {
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (op->operands[i]->type->kind != IR_TYPE_TILE) {
      verify_bad(v, &diag_ir_type, "operand %u is no tile", i);
      return false;
    }
  for (uint32_t i = 0; i < op->result_count; i++)
    if (op->results[i]->type->kind != IR_TYPE_TILE) {
      verify_bad(v, &diag_ir_type, "result %u is no tile", i);
      return false;
    }
  return true;
}

// One lanes axis for all operands that have one, and for the results unless it is `gone`.
static void check_lanes(verifier *v, const ir_op *op, uint32_t operands, const ir_attr *gone) {
  ts_sym lanes = NULL;
  for (uint32_t i = 0; i < operands; i++) {
    ts_sym l = op->operands[i]->type->lanes;
    VERIFY(v, !l || !lanes || l == lanes, "operands run over different lanes axes, '%s' and '%s'", lanes, l);
    if (l) lanes = l;
  }
  for (uint32_t i = 0; gone && lanes && i < gone->axes.count; i++)
    if (gone->axes.data[i] == lanes) lanes = NULL;
  for (uint32_t i = 0; i < op->result_count; i++) {
    ts_sym l = op->results[i]->type->lanes;
    VERIFY(v, !lanes || l == lanes, "the lanes axis of the operands is '%s', that of result %u %s%s", lanes, i,
           l ? "is " : "missing", l ? l : "");
  }
}

static bool scalar_of(const ir_value *x, ir_dtype t) { return ir_type_is_scalar(x->type) && x->type->dtype == t; }
static bool is_index(const ir_type *t) { return t->kind == IR_TYPE_TILE && ir_is_int(t->dtype) && t->dtype != IR_i1; }
static const ir_attr *axes_attr(const ir_op *op, const char *name) { return ir_attr_find(op, name); }
static bool one_of(ts_sym s, const char *const *list) {
  for (; *list; list++)
    if (strcmp(*list, s) == 0) return true;
  return false;
}

// ---- control -------------------------------------------------------------------------------------------------------------
static void rule_pid(verifier *v, const ir_op *op) {
  int64_t axis = ir_attr_int(op, "axis", 0);
  VERIFY(v, axis >= 0 && axis <= 2, "grid axis %lld", (long long)axis);
  VERIFY(v, scalar_of(op->results[0], IR_i64), "the result is i64");
}

static void rule_size(verifier *v, const ir_op *op) {
  const ir_size *s = ir_attr_find(op, "of")->size;
  VERIFY(v, s->klass != IR_SIZE_DEVICE || v->level == 'S' || v->level == 'P', "a device size");
  VERIFY(v, scalar_of(op->results[0], IR_i64), "the result is i64");
}

static void rule_const(verifier *v, const ir_op *op) {
  bool real = ir_attr_find(op, "value"), integer = ir_attr_find(op, "int");
  VERIFY(v, real != integer, "exactly one of value and int");
  VERIFY(v, ir_type_is_scalar(op->results[0]->type), "the result is a scalar");
  VERIFY(v, !real || ir_is_float(op->results[0]->type->dtype), "a real constant of type %s",
         ir_dtype_name(op->results[0]->type->dtype));
}

static void check_yield(verifier *v, const ir_op *op, const ir_region *r) {
  if (!r->last || r->last->code != IR_OP_yield) {
    if (op->result_count) verify_bad(v, &diag_ir_structure, "its region must end in yield");
    return;
  }
  verify_same_types(v, "yielded values", r->last->operand_count, r->last->operands, op->result_count, op->results);
}

static void rule_for(verifier *v, const ir_op *op) {
  for (int i = 0; i < 3; i++) VERIFY(v, scalar_of(op->operands[i], IR_i64), "lo, hi and step are i64 scalars");
  const ir_op *step = op->operands[2]->producer;
  VERIFY(v, !step || step->code != IR_OP_const || ir_attr_int(step, "int", 1) > 0, "the step must be above 0");
  const ir_region *r = op->regions[0];
  VERIFY(v, r->param_count == op->operand_count - 2, "the region takes %u parameters where %u belong", r->param_count,
         op->operand_count - 2);
  VERIFY(v, scalar_of(r->params[0], IR_i64), "the first parameter of the region is the i64 index");
  verify_same_types(v, "carried values", op->operand_count - 3, op->operands + 3, r->param_count - 1, r->params + 1);
  verify_same_types(v, "results", op->result_count, op->results, op->operand_count - 3, op->operands + 3);
  check_yield(v, op, r);
}

static void rule_if(verifier *v, const ir_op *op) {
  VERIFY(v, scalar_of(op->operands[0], IR_i1), "the condition is an i1 scalar");
  for (int i = 0; i < 2; i++) {
    VERIFY(v, op->regions[i]->param_count == 0, "its regions take no parameters");
    check_yield(v, op, op->regions[i]);
  }
}

static void rule_raise(verifier *v, const ir_op *op) {
  VERIFY(v, op->operands[0]->type->kind == IR_TYPE_TILE && op->operands[0]->type->dtype == IR_i1, "the condition is of type i1");
}

// ---- values --------------------------------------------------------------------------------------------------------------
static void rule_axis(verifier *v, const ir_op *op) {
  ts_sym name = ir_attr_sym(op, "name");
  const ir_type *t = op->results[0]->type;
  for (size_t i = 0; v->part && i < v->part->axes.count; i++)
    if (v->part->axes.data[i].name == name) {
      VERIFY(v,
             t->kind == IR_TYPE_TILE && t->dtype == IR_i64 && t->rank == 1 && t->axes[0] == name &&
                 t->shape[0] == v->part->axes.data[i].size,
             "the result is i64[%s]", name);
      return;
    }
  verify_bad(v, &diag_ir_unknown, "the part has no axis '%s'", name);
}

static void rule_iota(verifier *v, const ir_op *op) {
  const ir_type *t = op->results[0]->type;
  VERIFY(v, is_index(op->operands[0]->type) && op->operands[0]->type->rank == 0, "the base is an integer scalar");
  VERIFY(v, t->kind == IR_TYPE_TILE && t->rank == 1 && t->dtype == op->operands[0]->type->dtype,
         "the result has one axis and the type of the base");
}

static void rule_full(verifier *v, const ir_op *op) {
  const ir_type *t = op->operands[0]->type;
  VERIFY(v, ir_type_is_scalar(t), "the operand is a scalar");
  VERIFY(v, op->results[0]->type->kind == IR_TYPE_TILE && op->results[0]->type->dtype == t->dtype,
         "operand and result have one element type");
}

static void rule_apply(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  const ir_fn *fn = ir_attr_find(op, "fn")->fn;
  unsigned before = v->errors;
  verify_fn(v, fn, op->operand_count, op->operands);
  if (v->errors != before) return;
  VERIFY(v, fn->results == op->result_count, "the function has %u results, the op %u", fn->results, op->result_count);
  axis_set s = {0};
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (!add_tile(v, &s, op->operands[i]->type)) return;
  for (uint32_t i = 0; i < op->result_count; i++) {
    const ir_type *t = op->results[i]->type;
    VERIFY(v, t->dtype == fn->nodes[fn->outputs[i]].type, "result %u is %s, the function gives %s", i, ir_dtype_name(t->dtype),
           ir_dtype_name(fn->nodes[fn->outputs[i]].type));
    expect_axes(v, "the result", &s, t);
  }
  check_lanes(v, op, op->operand_count, NULL);
}

static const ir_size *product(verifier *v, const ir_type *t, const ir_attr *axes) {
  const ir_size *p = ir_size_const(v->m->sizes, 1);
  for (uint32_t i = 0; i < axes->axes.count; i++) {
    int k = ir_type_axis(t, axes->axes.data[i]);
    if (k < 0) return NULL;
    p = ir_size_mul(v->m->sizes, p, t->shape[k]);
  }
  return p;
}

static void relabel_concat(verifier *v, const ir_op *op, ts_sym axis) {
  axis_set s = {0};
  const ir_size *total = ir_size_const(v->m->sizes, 0);
  for (uint32_t i = 0; i < op->operand_count; i++) {
    const ir_type *t = op->operands[i]->type;
    VERIFY(v, t->dtype == op->results[0]->type->dtype, "operands and result have one element type");
    for (unsigned d = 0; d < t->rank; d++)
      if (t->axes[d] != axis && !add_axis(v, &s, t->axes[d], t->shape[d])) return;
    int k = ir_type_axis(t, axis);
    total = ir_size_add(v->m->sizes, total, k < 0 ? ir_size_const(v->m->sizes, 1) : t->shape[k]);
  }
  if (add_axis(v, &s, axis, total)) expect_axes(v, "the result", &s, op->results[0]->type);
}

// slice and pick: positions inside the axis.
static void relabel_part(verifier *v, const ir_op *op, ts_sym axis, bool pick) {
  const ir_type *t = op->operands[0]->type;
  int k = ir_type_axis(t, axis);
  VERIFY(v, k >= 0, "the operand has no axis '%s'", axis);
  axis_set s = {0};
  if (!add_tile(v, &s, t)) return;
  drop_axis(&s, axis);
  int64_t at = ir_attr_int(op, "at", 0), count = pick ? 1 : ir_attr_int(op, "count", -1),
          step = pick ? 1 : ir_attr_int(op, "step", 1), last;
  VERIFY(v, at >= 0 && count >= 1 && step >= 1, "at >= 0, count >= 1 and step >= 1 are needed");
  bool fits = !__builtin_mul_overflow(count - 1, step, &last) && !__builtin_add_overflow(last, at, &last);
  VERIFY(v, fits && (!ir_size_is_const(t->shape[k]) || last < t->shape[k]->value), "it reaches outside axis '%s'", axis);
  if (!pick && !add_axis(v, &s, axis, ir_size_const(v->m->sizes, count))) return;
  expect_axes(v, "the result", &s, op->results[0]->type);
}

static void relabel_permute(verifier *v, const ir_op *op, const ir_attr *to) {
  const ir_type *t = op->operands[0]->type, *r = op->results[0]->type;
  axis_set s = {0};
  if (!add_tile(v, &s, t)) return;
  VERIFY(v, to->axes.count == t->rank && r->rank == t->rank, "`to` names every axis once");
  for (unsigned i = 0; i < r->rank; i++)
    VERIFY(v, r->axes[i] == to->axes.data[i], "the result's axes are not in the order of `to`");
  expect_axes(v, "the result", &s, r);
}

static void relabel_rename(verifier *v, const ir_op *op, ts_sym axis, const ir_attr *to) {
  const ir_type *t = op->operands[0]->type;
  int k = ir_type_axis(t, axis);
  axis_set s = {0};
  VERIFY(v, k >= 0, "the operand has no axis '%s'", axis);
  VERIFY(v, to->axes.count == 1, "rename needs one name in `to`");
  if (!add_tile(v, &s, t)) return;
  drop_axis(&s, axis);
  VERIFY(v, find_axis(&s, to->axes.data[0]) < 0, "the operand already has an axis '%s'", to->axes.data[0]);
  if (add_axis(v, &s, to->axes.data[0], t->shape[k])) expect_axes(v, "the result", &s, op->results[0]->type);
}

// split and merge: one axis on one side, several on the other, equal products.
static void relabel_digits(verifier *v, const ir_op *op, ts_sym axis, const ir_attr *to, bool split) {
  const ir_type *t = op->operands[0]->type, *r = op->results[0]->type;
  const ir_type *one = split ? t : r, *many = split ? r : t;
  int k = ir_type_axis(one, axis);
  VERIFY(v, k >= 0, "there is no axis '%s' on the side of one axis", axis);
  const ir_size *p = product(v, many, to);
  VERIFY(v, p, "an axis of `to` is missing on the side of several axes");
  VERIFY(v, p == one->shape[k], "the extents of the digits do not multiply to that of axis '%s'", axis);
  axis_set s = {0};
  if (!add_tile(v, &s, t)) return;
  if (split) drop_axis(&s, axis);
  for (uint32_t i = 0; i < to->axes.count; i++) {
    if (!split) drop_axis(&s, to->axes.data[i]);
    else VERIFY(v, find_axis(&s, to->axes.data[i]) < 0, "the operand already has an axis '%s'", to->axes.data[i]);
    if (split && !add_axis(v, &s, to->axes.data[i], many->shape[ir_type_axis(many, to->axes.data[i])])) return;
  }
  if (!split) VERIFY(v, find_axis(&s, axis) < 0, "the operand already has an axis '%s'", axis);
  if (!split && !add_axis(v, &s, axis, one->shape[k])) return;
  expect_axes(v, "the result", &s, r);
}

static void rule_relabel(verifier *v, const ir_op *op) {
  static const char *const kinds[] = {"rename", "split", "merge", "slice", "pick", "concat", "permute", NULL};
  if (!tiles(v, op)) return;
  ts_sym kind = ir_attr_sym(op, "kind"), axis = ir_attr_sym(op, "axis");
  const ir_attr *to = axes_attr(op, "to");
  VERIFY(v, one_of(kind, kinds), "kind '%s' is none of rename, split, merge, slice, pick, concat, permute", kind);
  bool concat = !strcmp(kind, "concat"), permute = !strcmp(kind, "permute");
  VERIFY(v, permute || axis, "%s needs `axis`", kind);
  VERIFY(v, concat || op->operand_count == 1, "%s takes one operand", kind);
  VERIFY(v, op->operands[0]->type->dtype == op->results[0]->type->dtype, "operand and result have one element type");
  bool needs_to = permute || !strcmp(kind, "rename") || !strcmp(kind, "split") || !strcmp(kind, "merge");
  VERIFY(v, !needs_to || (to && to->axes.count), "%s needs `to`", kind);
  if (concat) relabel_concat(v, op, axis);
  else if (permute) relabel_permute(v, op, to);
  else if (!strcmp(kind, "rename")) relabel_rename(v, op, axis, to);
  else if (!strcmp(kind, "slice") || !strcmp(kind, "pick")) relabel_part(v, op, axis, !strcmp(kind, "pick"));
  else relabel_digits(v, op, axis, to, !strcmp(kind, "split"));
}

static void rule_lookup(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  ts_sym axis = ir_attr_sym(op, "axis");
  const ir_type *table = op->operands[0]->type, *index = op->operands[1]->type;
  VERIFY(v, ir_type_axis(table, axis) >= 0, "the table has no axis '%s'", axis);
  VERIFY(v, is_index(index), "the index is an integer tile");
  VERIFY(v, table->dtype == op->results[0]->type->dtype, "table and result have one element type");
  axis_set s = {0};
  if (!add_tile(v, &s, table)) return;
  drop_axis(&s, axis);
  if (add_tile(v, &s, index)) expect_axes(v, "the result", &s, op->results[0]->type);
}

// ---- memory --------------------------------------------------------------------------------------------------------------
// Reads `mem[indices]` from operand *next on: the axes that indices and `at` entries from *entry on bring. False after a report.
static bool memory_operand(verifier *v, const ir_op *op, uint32_t *next, uint32_t *entry, axis_set *s, const ir_type **mem) {
  const ir_attr *at = axes_attr(op, "at");
  *mem = *next < op->operand_count ? op->operands[*next]->type : NULL;
  if (!*mem || (*mem)->kind != IR_TYPE_MEM) return verify_bad(v, &diag_ir_type, "operand %u is no memory", *next), false;
  unsigned rank = (*mem)->rank;
  if (*next + 1 + rank > op->operand_count)
    return verify_bad(v, &diag_ir_structure, "memory of %u dimensions needs as many indices", rank), false;
  if (*entry + rank > at->axes.count)
    return verify_bad(v, &diag_ir_structure, "`at` needs an entry for each dimension (%u)", rank), false;
  for (unsigned d = 0; d < rank; d++) {
    const ir_type *index = op->operands[*next + 1 + d]->type;
    if (!is_index(index)) return verify_bad(v, &diag_ir_type, "index %u is no integer", d), false;
    if (!add_tile(v, s, index)) return false;
    ts_sym axis = at->axes.data[*entry + d];
    for (unsigned k = 0; k < d; k++)
      if (axis != v->m->none && at->axes.data[*entry + k] == axis)
        return verify_bad(v, &diag_ir_type, "axis '%s' runs along two dimensions", axis), false;
    if (axis != v->m->none && !add_axis(v, s, axis, NULL)) return false;
  }
  *next += 1 + rank;
  *entry += rank;
  return true;
}

// The mask, when there is one, is the last operand, and nothing else follows.
static bool memory_end(verifier *v, const ir_op *op, uint32_t next, uint32_t entry, axis_set *s) {
  if (entry != axes_attr(op, "at")->axes.count)
    return verify_bad(v, &diag_ir_structure, "`at` has more entries than there are dimensions"), false;
  bool masked = ir_attr_int(op, "masked", 0) != 0;
  if (op->operand_count != next + masked)
    return verify_bad(v, &diag_ir_structure, "%u operands where %u belong%s", op->operand_count, next + masked,
                      masked ? " (the last is the mask)" : ""),
           false;
  if (!masked) return true;
  const ir_type *mask = op->operands[next]->type;
  if (mask->kind != IR_TYPE_TILE || mask->dtype != IR_i1) return verify_bad(v, &diag_ir_type, "the mask is no i1 tile"), false;
  for (unsigned i = 0; i < mask->rank; i++) {
    if (find_axis(s, mask->axes[i]) < 0)
      return verify_bad(v, &diag_ir_type, "the mask has an axis '%s' that the access has not", mask->axes[i]), false;
    if (!add_axis(v, s, mask->axes[i], mask->shape[i])) return false;
  }
  return true;
}

static void rule_load(verifier *v, const ir_op *op) {
  uint32_t next = 0, entry = 0;
  axis_set s = {0};
  const ir_type *mem, *r = op->results[0]->type;
  if (!memory_operand(v, op, &next, &entry, &s, &mem) || !memory_end(v, op, next, entry, &s)) return;
  VERIFY(v, op->code != IR_OP_fetch || mem->space == IR_SPACE_PANEL, "fetch reads a panel");
  VERIFY(v, r->dtype == mem->dtype, "the result is %s, the memory %s", ir_dtype_name(r->dtype), ir_dtype_name(mem->dtype));
  expect_axes(v, "the result", &s, r);
}

static void check_stored(verifier *v, const ir_op *op, uint32_t value, axis_set *s, const ir_type *mem) {
  const ir_type *t = op->operands[value]->type;
  VERIFY(v, t->kind == IR_TYPE_TILE, "the stored value is no tile");
  bool floats = ir_is_float(t->dtype) && ir_is_float(mem->dtype);
  VERIFY(v, t->dtype == mem->dtype || (floats && op->code == IR_OP_store), "a value of type %s into memory of type %s",
         ir_dtype_name(t->dtype), ir_dtype_name(mem->dtype));
  for (unsigned i = 0; i < t->rank; i++)
    VERIFY(v, find_axis(s, t->axes[i]) >= 0, "the value has an axis '%s' that neither `at` nor an index has", t->axes[i]);
  if (!add_tile(v, s, t)) return;
}

static void check_extents_known(verifier *v, const axis_set *s) {
  for (unsigned i = 0; i < s->count; i++) VERIFY(v, s->extent[i], "nothing says how far axis '%s' goes", s->name[i]);
}

static void rule_store(verifier *v, const ir_op *op) {
  uint32_t next = 0, entry = 0;
  axis_set s = {0};
  const ir_type *mem;
  unsigned before = v->errors;
  if (!memory_operand(v, op, &next, &entry, &s, &mem)) return;
  VERIFY(v, next < op->operand_count, "the value is missing");
  VERIFY(v, op->code != IR_OP_put || mem->space == IR_SPACE_PANEL, "put writes a panel");
  check_stored(v, op, next, &s, mem);
  if (v->errors != before || !memory_end(v, op, next + 1, entry, &s)) return;
  check_extents_known(v, &s);
  for (size_t i = 0; v->kernel && i < v->kernel->params.count; i++)
    VERIFY(v, v->kernel->params.data[i].value != op->operands[0] || v->kernel->params.data[i].role != IR_PARAM_IN,
           "it writes the input '%s'", v->kernel->params.data[i].value->name ? v->kernel->params.data[i].value->name : "");
  if (op->code != IR_OP_atomic) return;
  static const char *const ops[] = {"add", "min", "max", "and", "or", "xor", "exch", NULL};
  VERIFY(v, one_of(ir_attr_sym(op, "op"), ops), "'%s' is none of add, min, max, and, or, xor, exch", ir_attr_sym(op, "op"));
  if (op->result_count) {
    VERIFY(v, op->results[0]->type->dtype == mem->dtype, "the old value has the memory's type");
    expect_axes(v, "the old value", &s, op->results[0]->type);
  }
}

static void rule_alloc(verifier *v, const ir_op *op) {
  const ir_type *t = op->results[0]->type;
  VERIFY(v, t->kind == IR_TYPE_MEM && t->space == IR_SPACE_PANEL && !t->encoding, "the result is a panel");
  VERIFY(v, ir_type_elements(t) > 0, "the panel's size must be known");
}

static void rule_copy(verifier *v, const ir_op *op) {
  uint32_t next = 0, entry = 0;
  axis_set s = {0};
  const ir_type *src, *dst;
  const ir_attr *at = axes_attr(op, "at");
  if (!memory_operand(v, op, &next, &entry, &s, &src)) return;
  uint32_t first = entry;
  if (!memory_operand(v, op, &next, &entry, &s, &dst)) return;
  VERIFY(v, dst->space == IR_SPACE_PANEL, "copy fills a panel");
  VERIFY(v, src->dtype == dst->dtype && !src->encoding, "source and panel have one element type");
  // A box axis goes along the whole of the panel's dimension unless the mask or an index says otherwise.
  for (unsigned d = 0; d < dst->rank; d++) {
    int k = at->axes.data[first + d] == v->m->none ? -1 : find_axis(&s, at->axes.data[first + d]);
    if (k >= 0 && !s.extent[k]) s.extent[k] = dst->shape[d];
  }
  if (memory_end(v, op, next, entry, &s)) check_extents_known(v, &s);
  VERIFY(v, !op->result_count || op->results[0]->type->kind == IR_TYPE_TOKEN, "the result is a token");
}

static void rule_convert(verifier *v, const ir_op *op) {
  axis_set s = {0};
  if (!tiles(v, op) || !add_tile(v, &s, op->operands[0]->type)) return;
  VERIFY(v, op->operands[0]->type->dtype == op->results[0]->type->dtype, "operand and result have one element type");
  expect_axes(v, "the result", &s, op->results[0]->type);
}

static void rule_barrier(verifier *v, const ir_op *op) {
  static const char *const scopes[] = {"block", "warp", NULL};
  VERIFY(v, one_of(ir_attr_sym(op, "scope"), scopes), "scope '%s' is neither block nor warp", ir_attr_sym(op, "scope"));
}

static void rule_map_at(verifier *v, const ir_op *op) {
  ts_sym kind = ir_attr_sym(op, "kind");
  bool pages = !strcmp(kind, "pages");
  VERIFY(v, pages || !strcmp(kind, "rows"), "map kind '%s' is neither pages nor rows", kind);
  VERIFY(v, op->operand_count == (pages ? 3u : 2u) && op->result_count == (pages ? 2u : 1u), "%s takes %s", kind,
         pages ? "(table, list, position) and gives (page, slot)" : "(rows, coordinate) and gives one row");
  const ir_type *table = op->operands[0]->type;
  VERIFY(v, table->kind == IR_TYPE_MEM && ir_is_int(table->dtype) && table->rank == (pages ? 2u : 1u),
         "the table is an integer memory of rank %d", pages ? 2 : 1);
  VERIFY(v, !pages || ir_attr_int(op, "granule", 0) >= 1, "granule must be at least 1");
  axis_set s = {0};
  for (uint32_t i = 1; i < op->operand_count; i++) {
    VERIFY(v, is_index(op->operands[i]->type), "coordinates are integers");
    if (!add_tile(v, &s, op->operands[i]->type)) return;
  }
  for (uint32_t i = 0; i < op->result_count; i++) {
    VERIFY(v, is_index(op->results[i]->type), "rows are integers");
    expect_axes(v, "the row", &s, op->results[i]->type);
  }
}

// ---- encodings -----------------------------------------------------------------------------------------------------------
// Groups: an axis of the scale is that of the codes, or counts groups along it; at most one has a name of its own (it then stands
// for the one axis of the codes that the scale has not).
static void check_groups(verifier *v, const ir_type *codes, const ir_type *t, const char *what) {
  unsigned fresh = 0, missing = 0;
  for (unsigned i = 0; i < codes->rank; i++) missing += ir_type_axis(t, codes->axes[i]) < 0;
  for (unsigned i = 0; i < t->rank; i++) {
    int k = ir_type_axis(codes, t->axes[i]);
    if (k < 0) {
      VERIFY(v, ++fresh == 1 && missing == 1, "%s has an axis '%s' that stands for no axis of the codes", what, t->axes[i]);
      continue;
    }
    const ir_size *c = codes->shape[k], *g = t->shape[i];
    VERIFY(v, c == g || !ir_size_is_const(c) || !ir_size_is_const(g) || (g->value > 0 && g->value <= c->value),
           "%s has more groups than codes", what);
  }
}

static void rule_decode(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  int formula = ir_text_formula(ir_attr_sym(op, "formula"));
  const ir_type *codes = op->operands[0]->type, *r = op->results[0]->type;
  VERIFY(v, formula >= 0, "'%s' is no formula: plain, scaled, zero, min or sub", ir_attr_sym(op, "formula"));
  unsigned wanted = ir_text_formula_operands(formula);
  VERIFY(v, op->operand_count == wanted, "this formula takes %u operands (codes, scale, zero or min), not %u", wanted,
         op->operand_count);
  VERIFY(v, ir_is_float(r->dtype), "the result is a float");
  axis_set s = {0};
  if (!add_tile(v, &s, codes)) return;
  for (uint32_t i = 1; i < op->operand_count; i++)
    check_groups(v, codes, op->operands[i]->type, i == 1 ? "the scale" : "the zero or min");
  expect_axes(v, "the result", &s, r);
}

static void rule_encode(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  const ir_type *x = op->operands[0]->type;
  ts_sym axis = ir_attr_sym(op, "axis");
  int64_t group = ir_attr_int(op, "group", 0), bits = ir_attr_int(op, "bits", 0);
  int k = ir_type_axis(x, axis);
  VERIFY(v, ir_is_float(x->dtype), "only floats are encoded");
  VERIFY(v, k >= 0, "the operand has no axis '%s'", axis);
  VERIFY(v, group >= 1 && bits >= 2 && bits <= 8, "group must be at least 1 and bits 2 to 8");
  VERIFY(v, op->result_count <= 3, "the results are codes, scale and sum");
  axis_set s = {0};
  if (!add_tile(v, &s, x)) return;
  VERIFY(v, op->results[0]->type->dtype == IR_i8, "codes are i8");
  expect_axes(v, "codes", &s, op->results[0]->type);
  drop_axis(&s, axis);
  const ir_size *groups = ir_size_ceildiv(v->m->sizes, x->shape[k], ir_size_const(v->m->sizes, group));
  for (uint32_t i = 1; i < op->result_count; i++) {
    if (i == 1) {   // the axis of groups may have a name of its own
      ts_sym name = axis;
      for (unsigned d = 0; d < op->results[1]->type->rank; d++)
        if (ir_type_axis(x, op->results[1]->type->axes[d]) < 0) name = op->results[1]->type->axes[d];
      if (!add_axis(v, &s, name, groups)) return;
    }
    VERIFY(v, op->results[i]->type->dtype == (i == 1 ? IR_f32 : IR_i32), "%s", i == 1 ? "the scale is f32" : "the sum is i32");
    expect_axes(v, i == 1 ? "the scale" : "the sum", &s, op->results[i]->type);
  }
}

// ---- sums ----------------------------------------------------------------------------------------------------------------
static bool drop_over(verifier *v, axis_set *s, const ir_attr *over) {
  for (uint32_t i = 0; i < over->axes.count; i++) {
    if (find_axis(s, over->axes.data[i]) < 0)
      return verify_bad(v, &diag_ir_type, "no operand has the axis '%s' of `over`", over->axes.data[i]), false;
    drop_axis(s, over->axes.data[i]);
  }
  return true;
}

static void rule_dot(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  const ir_type *a = op->operands[0]->type, *b = op->operands[1]->type, *r = op->results[0]->type;
  const ir_attr *over = axes_attr(op, "over");
  axis_set s = {0};
  VERIFY(v, ir_is_float(a->dtype) == ir_is_float(b->dtype) && ir_is_float(a->dtype) == ir_is_float(r->dtype),
         "floats and integers in one sum: %s, %s, %s", ir_dtype_name(a->dtype), ir_dtype_name(b->dtype), ir_dtype_name(r->dtype));
  if (!add_tile(v, &s, a) || !add_tile(v, &s, b) || !drop_over(v, &s, over)) return;
  expect_axes(v, "the result", &s, r);
  if (op->operand_count == 3) {
    VERIFY(v, op->operands[2]->type->dtype == r->dtype, "accumulator and result have one element type");
    expect_axes(v, "the accumulator", &s, op->operands[2]->type);
  }
  check_lanes(v, op, 2, over);
}

static void rule_reduce(verifier *v, const ir_op *op) {
  static const char *const plain[] = {"add", "min", "max", "and", "or", NULL}, *const arg[] = {"argmax", "argmin", NULL};
  if (!tiles(v, op)) return;
  ts_sym name = ir_attr_sym(op, "op");
  const ir_attr *over = axes_attr(op, "over");
  bool index = one_of(name, arg);
  VERIFY(v, index || one_of(name, plain), "'%s' is none of add, min, max, and, or, argmax, argmin", name);
  if (index)
    VERIFY(v, op->operand_count <= 2 && op->result_count == 2 && is_index(op->results[1]->type), "%s gives (value, index)", name);
  else VERIFY(v, op->operand_count == op->result_count, "as many results as operands");
  bool bitwise = !strcmp(name, "and") || !strcmp(name, "or");
  for (uint32_t i = 0; i < op->result_count; i++) {
    const ir_type *t = op->operands[index ? 0 : i]->type;
    axis_set s = {0};
    VERIFY(v, (index && i) || op->results[i]->type->dtype == t->dtype, "operand and result have one element type");
    VERIFY(v, !bitwise || ir_is_int(t->dtype), "%s needs integers", name);
    if (!add_tile(v, &s, t) || !drop_over(v, &s, over)) return;
    expect_axes(v, "the result", &s, op->results[i]->type);
  }
  check_lanes(v, op, op->operand_count, over);
}

static void rule_scan(verifier *v, const ir_op *op) {
  static const char *const ops[] = {"add", "max", NULL};
  if (!tiles(v, op)) return;
  ts_sym over = ir_attr_sym(op, "over");
  VERIFY(v, one_of(ir_attr_sym(op, "op"), ops), "'%s' is neither add nor max", ir_attr_sym(op, "op"));
  for (uint32_t i = 0; i < op->operand_count; i++)
    VERIFY(v, ir_type_axis(op->operands[i]->type, over) >= 0, "operand %u has no axis '%s'", i, over);
  verify_same_types(v, "results", op->result_count, op->results, op->operand_count, op->operands);
}

static void rule_softacc(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  const ir_attr *over = axes_attr(op, "over");
  axis_set s = {0}, o;
  for (uint32_t i = 0; i < 3; i++)
    if (i < 2) VERIFY(v, ir_is_float(op->operands[i]->type->dtype), "scores and values are floats");
  if (!add_tile(v, &s, op->operands[0]->type)) return;
  if (op->operand_count == 3) {
    const ir_type *mask = op->operands[2]->type;
    VERIFY(v, mask->dtype == IR_i1, "the mask is of type i1");
    for (unsigned i = 0; i < mask->rank; i++)
      VERIFY(v, find_axis(&s, mask->axes[i]) >= 0, "the mask has an axis '%s' that the scores have not", mask->axes[i]);
    if (!add_tile(v, &s, mask)) return;
  }
  for (uint32_t i = 0; i < over->axes.count; i++)
    VERIFY(v, ir_type_axis(op->operands[1]->type, over->axes.data[i]) >= 0, "the values have no axis '%s'", over->axes.data[i]);
  o = s;
  if (!add_tile(v, &o, op->operands[1]->type) || !drop_over(v, &s, over) || !drop_over(v, &o, over)) return;
  for (uint32_t i = 0; i < 3; i++) {
    VERIFY(v, ir_is_float(op->results[i]->type->dtype), "m, l and o are floats");
    expect_axes(v, i == 0 ? "m" : i == 1 ? "l" : "o", i == 2 ? &o : &s, op->results[i]->type);
  }
}

static void rule_rank(verifier *v, const ir_op *op) {
  if (!tiles(v, op)) return;
  const ir_type *keys = op->operands[0]->type, *counts = op->results[1]->type;
  ts_sym over = ir_attr_sym(op, "over");
  int64_t bins = ir_attr_int(op, "bins", 0);
  VERIFY(v, is_index(keys) && is_index(op->results[0]->type) && is_index(counts), "keys, ranks and counts are integers");
  VERIFY(v, ir_type_axis(keys, over) >= 0, "the keys have no axis '%s'", over);
  VERIFY(v, bins >= 1, "bins must be at least 1");
  axis_set s = {0};
  if (!add_tile(v, &s, keys)) return;
  if (op->operand_count == 2) {
    VERIFY(v, op->operands[1]->type->dtype == IR_i1, "the mask is of type i1");
    for (unsigned i = 0; i < op->operands[1]->type->rank; i++)
      VERIFY(v, find_axis(&s, op->operands[1]->type->axes[i]) >= 0, "the mask has an axis that the keys have not");
    if (!add_tile(v, &s, op->operands[1]->type)) return;
  }
  expect_axes(v, "the rank", &s, op->results[0]->type);
  drop_axis(&s, over);
  unsigned fresh = 0;
  for (unsigned i = 0; i < counts->rank; i++)
    if (find_axis(&s, counts->axes[i]) < 0) {
      fresh++;
      VERIFY(v, ir_size_is_value(counts->shape[i], bins), "the axis of bins has extent %lld", (long long)bins);
    }
  VERIFY(v, fresh == 1 && counts->rank == s.count + 1, "counts have the keys' other axes and one of bins");
}

verify_rule *verify_tile_rule(ir_opcode code) {
  static verify_rule *const rules[IR_OP_COUNT] = {
      [IR_OP_pid] = rule_pid,         [IR_OP_size] = rule_size,       [IR_OP_const] = rule_const,
      [IR_OP_for] = rule_for,         [IR_OP_if] = rule_if,           [IR_OP_raise] = rule_raise,
      [IR_OP_axis] = rule_axis,       [IR_OP_iota] = rule_iota,       [IR_OP_full] = rule_full,
      [IR_OP_apply] = rule_apply,     [IR_OP_relabel] = rule_relabel, [IR_OP_lookup] = rule_lookup,
      [IR_OP_load] = rule_load,       [IR_OP_fetch] = rule_load,      [IR_OP_store] = rule_store,
      [IR_OP_put] = rule_store,       [IR_OP_atomic] = rule_store,    [IR_OP_alloc] = rule_alloc,
      [IR_OP_copy] = rule_copy,       [IR_OP_convert] = rule_convert, [IR_OP_barrier] = rule_barrier,
      [IR_OP_map_at] = rule_map_at,   [IR_OP_decode] = rule_decode,   [IR_OP_encode] = rule_encode,
      [IR_OP_dot] = rule_dot,         [IR_OP_reduce] = rule_reduce,   [IR_OP_scan] = rule_scan,
      [IR_OP_softacc] = rule_softacc, [IR_OP_rank] = rule_rank,
  };
  return rules[code];
}
