// Verifier: everything a pass may rely on. It reports all findings, each at the location of the op (a line of the spec).
//
// What the op table says (levels, numbers of operands, results and regions, attributes and their kinds) is checked here for all
// ops alike, with scopes, terminators and signatures; type rules of the tile ops are in verify_tile.c, of tensor ops in
// verify_tensor.c.
#include "ir/verify.h"

#include "ir/layout.h"
#include "ir/weights.h"

void verify_bad(verifier *v, const ts_diag_kind *kind, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *text = ts_arena_vprintf(v->m->arena, fmt, ap);
  va_end(ap);
  ts_loc loc = v->op ? v->op->loc : v->kernel ? v->kernel->loc : (ts_loc){0};
  const char *where = v->kernel && v->kernel->name ? v->kernel->name : "";
  ts_status s;
  if (v->op) s = ts_report(v->m->diags, loc, kind, "%s: %s", ir_op_get(v->op->code)->name, text);
  else s = ts_report(v->m->diags, loc, kind, "%s%s%s", where, *where ? ": " : "", text);
  if (v->op && *where) ts_note(v->m->diags, v->kernel->loc, "in kernel '%s'", where);
  if (!v->errors++) v->status = s;
}

const char *verify_type_text(verifier *v, const ir_type *t) {
  ts_text text = {0};
  ir_print_type(t, &text);
  const char *r = ts_arena_strdup(v->m->arena, ts_text_z(&text));
  ts_text_deinit(&text);
  return r;
}

// ---- functions of apply --------------------------------------------------------------------------------------------------
static bool int_only(ir_scalar s) {
  return s == IR_SCALAR_rem || s == IR_SCALAR_and || s == IR_SCALAR_or || s == IR_SCALAR_xor || s == IR_SCALAR_shl ||
         s == IR_SCALAR_shr;
}
static bool float_only(ir_scalar s) { return s == IR_SCALAR_fma || (s >= IR_SCALAR_round && s <= IR_SCALAR_erf); }
static bool no_bool(ir_scalar s) {
  return (s >= IR_SCALAR_add && s <= IR_SCALAR_max) || s == IR_SCALAR_shl || s == IR_SCALAR_shr;
}

static void check_expr(verifier *v, const ir_fn *fn, uint32_t i) {
  const ir_expr *e = &fn->nodes[i];
  if (e->op == IR_SCALAR_CONST) return;
  const ir_scalar_info *info = ir_scalar_get(e->op);
  ir_dtype t[3] = {IR_VOID};
  for (unsigned k = 0; k < info->arity; k++) {
    VERIFY(v, e->args[k] < i, "node %u of the function uses a later one", i);
    t[k] = fn->nodes[e->args[k]].type;
  }
  unsigned first = info->rule == IR_RULE_PICK;
  if (first) VERIFY(v, t[0] == IR_i1, "select by a value of type %s", ir_dtype_name(t[0]));
  for (unsigned k = first; k < info->arity; k++)
    VERIFY(v, t[k] == t[first], "%s of %s and %s", info->name, ir_dtype_name(t[first]), ir_dtype_name(t[k]));
  switch (info->rule) {
    case IR_RULE_BOOL: VERIFY(v, e->type == IR_i1, "%s gives i1, not %s", info->name, ir_dtype_name(e->type)); break;
    case IR_RULE_CAST:
      if (e->op == IR_SCALAR_bits)
        VERIFY(v, ir_dtype_bits(e->type) == ir_dtype_bits(t[0]), "bits of %s as %s", ir_dtype_name(t[0]), ir_dtype_name(e->type));
      break;
    default:
      VERIFY(v, e->type == t[first], "%s of %s gives %s", info->name, ir_dtype_name(t[first]), ir_dtype_name(e->type));
      break;
  }
  VERIFY(v, !int_only(e->op) || ir_is_int(t[0]), "%s needs integers, not %s", info->name, ir_dtype_name(t[0]));
  VERIFY(v, !float_only(e->op) || ir_is_float(t[0]), "%s needs floats, not %s", info->name, ir_dtype_name(t[0]));
  VERIFY(v, !no_bool(e->op) || t[0] != IR_i1, "%s of i1: use and, or, xor, select", info->name);
}

void verify_fn(verifier *v, const ir_fn *fn, uint32_t operands, ir_value *const *operand) {
  VERIFY(v, fn->params == operands, "the function has %u parameters, the op %u operands", fn->params, operands);
  for (uint32_t i = 0; i < fn->count; i++) {
    const ir_expr *e = &fn->nodes[i];
    VERIFY(v, (e->op == IR_SCALAR_PARAM) == (i < fn->params), "the function's parameters are not its first nodes");
    VERIFY(v, e->type != IR_VOID && e->type < IR_DTYPE_COUNT, "node %u of the function has no type", i);
    if (e->op == IR_SCALAR_PARAM)
      VERIFY(v, e->index == i && e->type == operand[i]->type->dtype, "parameter %u of the function is %s, the operand %s", i,
             ir_dtype_name(e->type), ir_dtype_name(operand[i]->type->dtype));
    else check_expr(v, fn, i);
  }
  for (uint32_t i = 0; i < fn->results; i++)
    VERIFY(v, fn->outputs[i] < fn->count, "result %u of the function is no node of it", i);
}

// ---- what the table says -------------------------------------------------------------------------------------------------
static void check_count(verifier *v, const char *what, uint32_t n, int min, int max) {
  if ((int)n >= min && (max < 0 || (int)n <= max)) return;
  if (max == min) verify_bad(v, &diag_ir_structure, "%u %s where %d belong", n, what, min);
  else if (max < 0) verify_bad(v, &diag_ir_structure, "%u %s where at least %d belong", n, what, min);
  else verify_bad(v, &diag_ir_structure, "%u %s where %d to %d belong", n, what, min, max);
}

static void check_attrs(verifier *v, const ir_op *op) {
  ir_text_attr declared;
  for (const char *row = ir_op_get(op->code)->attrs; ir_text_declared(&row, &declared);) {
    const ir_attr *found = NULL;
    for (uint32_t i = 0; i < op->attr_count; i++)
      if (ts_str_is(declared.name, op->attrs[i].name)) found = &op->attrs[i];
    if (!found && !declared.optional) verify_bad(v, &diag_ir_structure, "attribute '%.*s' is missing", TS_FMT(declared.name));
    if (found && found->kind != declared.kind)
      verify_bad(v, &diag_ir_structure, "attribute '%.*s' is of the wrong kind", TS_FMT(declared.name));
  }
  for (uint32_t i = 0; i < op->attr_count; i++) {
    const ir_attr *a = &op->attrs[i];
    if (!ir_text_find_attr(op->code, ts_str_of(a->name), &declared))
      verify_bad(v, &diag_ir_structure, "attribute '%s' does not belong here", a->name);
    if (a->kind == IR_ATTR_SIZE && ir_size_check(a->size, "the size", v->m->diags, op->loc) != TS_OK && !v->errors++)
      v->status = TS_INVALID;
  }
}

static bool finished(const verifier *v) { return v->level == 'S'; }

// Extents are sizes that exist; tiles of scheduled kernels are static.
static void check_type(verifier *v, const ir_type *t) {
  for (unsigned i = 0; t->shape && i < t->rank; i++) {
    const ir_size *s = t->shape[i];
    VERIFY(v, s && !ir_size_is_error(s), "an extent of %s is no size", verify_type_text(v, t));
    VERIFY(v, s->klass != IR_SIZE_DEVICE, "an extent of %s is known on the device only", verify_type_text(v, t));
    bool fixed = finished(v) && (t->kind == IR_TYPE_TILE || (t->kind == IR_TYPE_MEM && t->space == IR_SPACE_PANEL));
    VERIFY(v, !fixed || (ir_size_is_const(s) && s->value >= 1), "tiles of scheduled kernels have static extents above 0: %s",
           verify_type_text(v, t));
    for (unsigned k = 0; t->axes && k < i; k++)
      VERIFY(v, t->axes[k] != t->axes[i], "axis '%s' twice in %s", t->axes[i], verify_type_text(v, t));
  }
  VERIFY(v, t->kind == IR_TYPE_STATE || t->kind == IR_TYPE_TOKEN || (t->dtype != IR_VOID && t->dtype < IR_DTYPE_COUNT),
         "a type without element type");
  if (t->kind != IR_TYPE_TILE) return;
  VERIFY(v, !t->lanes || ir_type_axis(t, t->lanes) >= 0, "the lanes axis '%s' is no axis of the tile", t->lanes);
  VERIFY(v, !t->lanes || finished(v), "lanes belong to scheduled kernels");
  VERIFY(v, !t->layout || finished(v), "layouts belong to scheduled kernels");
  for (unsigned i = 0; t->layout && i < t->rank; i++)
    VERIFY(v, ir_size_is_value(t->shape[i], ir_layout_axis_size(t->layout, t->axes[i])),
           "axis '%s' has another size in the layout of %s", t->axes[i], verify_type_text(v, t));
  for (uint32_t i = 0; t->layout && i < t->layout->axis_count; i++)
    VERIFY(v, ir_type_axis(t, ts_intern_z(v->m->names, t->layout->axes[i].name)) >= 0,
           "the layout has an axis '%s', the tile has not: %s", t->layout->axes[i].name, verify_type_text(v, t));
}

static void enter(verifier *v, const ir_value *value) {
  if (!value || !value->type) {
    verify_bad(v, &diag_ir_structure, "a value without type");
    return;
  }
  ts_map_put(&v->visible, ts_key(value), (void *)value);
  ts_vec_push(v->m->arena, &v->scope, value);
  check_type(v, value->type);
}

static void leave(verifier *v, size_t mark) {
  while (v->scope.count > mark) ts_map_put(&v->visible, ts_key(v->scope.data[--v->scope.count]), NULL);
}

void verify_same_types(verifier *v, const char *what, uint32_t count, ir_value *const *values, uint32_t wanted,
                       ir_value *const *like) {
  if (count != wanted) {
    verify_bad(v, &diag_ir_structure, "%u %s where %u belong", count, what, wanted);
    return;
  }
  for (uint32_t i = 0; i < count; i++)
    VERIFY(v, values[i]->type == like[i]->type, "%s %u is %s where %s belongs", what, i, verify_type_text(v, values[i]->type),
           verify_type_text(v, like[i]->type));
}

static void check_region(verifier *v, const ir_region *r);

// The op itself is known to have the right numbers of things when its rule runs.
static void check_op(verifier *v, const ir_op *op) {
  const ir_op_info *info = ir_op_get(op->code);
  unsigned before = v->errors;
  v->op = op;
  if (!strchr(info->levels, v->level))
    verify_bad(v, &diag_ir_structure, "this op does not belong to level %c (its levels: %s)", v->level, info->levels);
  check_count(v, "operands", op->operand_count, info->operands_min, info->operands_max);
  check_count(v, "results", op->result_count, info->results_min, info->results_max);
  check_count(v, "regions", op->region_count, info->regions, info->regions);
  check_attrs(v, op);
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (!op->operands[i] || !ts_map_get(&v->visible, ts_key(op->operands[i])))
      verify_bad(v, &diag_ir_structure, "operand %u is not defined before its use", i);
  bool last = op->code == IR_OP_yield || op->code == IR_OP_ret;
  if (last && op->next) verify_bad(v, &diag_ir_structure, "ops follow it in its region");
  size_t mark = v->scope.count;
  if (v->errors == before) {
    verify_rule *rule = v->level == 'T' ? verify_tensor_rule(op->code) : verify_tile_rule(op->code);
    for (uint32_t i = 0; i < op->result_count; i++)
      if (op->results[i] && op->results[i]->type) check_type(v, op->results[i]->type);
      else verify_bad(v, &diag_ir_structure, "result %u has no type", i);
    if (rule && v->errors == before) rule(v, op);
  }
  for (uint32_t i = 0; i < op->region_count; i++) {
    for (uint32_t k = 0; k < op->regions[i]->param_count; k++) enter(v, op->regions[i]->params[k]);
    check_region(v, op->regions[i]);
    leave(v, mark);
    v->op = op;
  }
  for (uint32_t i = 0; i < op->result_count; i++)
    if (op->results[i] && op->results[i]->type) {
      ts_map_put(&v->visible, ts_key(op->results[i]), op->results[i]);
      ts_vec_push(v->m->arena, &v->scope, op->results[i]);
    }
  v->op = NULL;
}

static void check_region(verifier *v, const ir_region *r) {
  for (const ir_op *op = r->first; op; op = op->next) check_op(v, op);
}

// ---- kernels -------------------------------------------------------------------------------------------------------------
static const ir_op *yield_of(const ir_region *r) { return r && r->last && r->last->code == IR_OP_yield ? r->last : NULL; }

static void check_part_region(verifier *v, const char *name, const ir_region *r, const ir_op *accumulators, bool yields) {
  if (!r) return;
  size_t mark = v->scope.count;
  bool empty = !r->first && !r->param_count;
  uint32_t count = accumulators ? accumulators->operand_count : 0;
  for (uint32_t i = 0; i < r->param_count; i++) enter(v, r->params[i]);
  if (!empty && r != v->part->init) {
    if (r->param_count != count)
      verify_bad(v, &diag_ir_structure, "region '%s' takes %u accumulators where init yields %u", name, r->param_count, count);
    for (uint32_t i = 0; i < r->param_count && i < count; i++)
      if (r->params[i]->type != accumulators->operands[i]->type)
        verify_bad(v, &diag_ir_type, "accumulator %u of region '%s' is %s, init yields %s", i, name,
                   verify_type_text(v, r->params[i]->type), verify_type_text(v, accumulators->operands[i]->type));
  }
  check_region(v, r);
  const ir_op *yield = yield_of(r);
  if (!empty && yields && !yield) verify_bad(v, &diag_ir_structure, "region '%s' must end in yield", name);
  if (yield && !yields) verify_bad(v, &diag_ir_structure, "region '%s' yields nothing", name);
  if (yield && yields && r != v->part->init) {
    v->op = yield;
    verify_same_types(v, "values", yield->operand_count, yield->operands, count, accumulators ? accumulators->operands : NULL);
    v->op = NULL;
  }
  leave(v, mark);
}

static void check_part(verifier *v, const ir_part *part) {
  v->part = part;
  if ((unsigned)part->family >= IR_FAMILY_COUNT) verify_bad(v, &diag_ir_structure, "a part of no family");
  for (size_t i = 0; i < part->axes.count; i++) {
    const ir_axis *a = &part->axes.data[i];
    if (!a->size || ir_size_is_error(a->size)) verify_bad(v, &diag_ir_type, "axis '%s' has no size", a->name);
    for (size_t k = 0; k < i; k++)
      if (part->axes.data[k].name == a->name) verify_bad(v, &diag_ir_structure, "axis '%s' twice in one part", a->name);
  }
  check_part_region(v, "init", part->init, NULL, true);
  const ir_op *accumulators = yield_of(part->init);
  check_part_region(v, "update", part->update, accumulators, true);
  check_part_region(v, "finish", part->finish, accumulators, false);
  v->part = NULL;
}

static void check_params(verifier *v) {
  const ir_kernel *k = v->kernel;
  for (size_t i = 0; i < k->params.count; i++) {
    const ir_value *p = k->params.data[i].value;
    if (!p || !p->type || p->type->kind != IR_TYPE_MEM || p->type->space != IR_SPACE_GLOBAL) {
      verify_bad(v, &diag_ir_type, "parameter %zu is no memory", i);
      continue;
    }
    enter(v, p);
    if (p->type->encoding && p->type->strides)
      verify_bad(v, &diag_ir_type, "parameter '%s' is encoded and has strides", p->name ? p->name : "");
    for (size_t j = 0; j < i; j++)
      if (p->name && k->params.data[j].value->name == p->name)
        verify_bad(v, &diag_ir_structure, "two parameters are called '%s'", p->name);
  }
}

static void check_scheduled(verifier *v) {
  const ir_kernel *k = v->kernel;
  if (k->parts.count) verify_bad(v, &diag_ir_structure, "a scheduled kernel has no parts");
  if (k->target_class == IR_CLASS_NOTARGET) verify_bad(v, &diag_ir_structure, "a scheduled kernel is of class host or cuda");
  if (k->target_class == IR_CLASS_CUDA && k->warps < 1) verify_bad(v, &diag_ir_structure, "a kernel of class cuda has warps");
  for (int i = 0; i < 3; i++) {
    if (!k->grid[i] || ir_size_is_error(k->grid[i])) verify_bad(v, &diag_ir_structure, "grid axis %d has no size", i);
    else if (k->grid[i]->klass == IR_SIZE_DEVICE) verify_bad(v, &diag_ir_type, "grid axis %d is known on the device only", i);
  }
  if (!k->body) {
    verify_bad(v, &diag_ir_structure, "a scheduled kernel has a body");
    return;
  }
  if (k->body->param_count) verify_bad(v, &diag_ir_structure, "the body takes no parameters");
  if (yield_of(k->body)) verify_bad(v, &diag_ir_structure, "the body yields nothing");
  check_region(v, k->body);
}

ts_status ir_verify_kernel(ir_module *m, const ir_kernel *k) {
  verifier v = {.m = m, .level = k->stage == IR_STAGE_P ? 'P' : 'S', .kernel = k};
  if (!k->name) verify_bad(&v, &diag_ir_structure, "a kernel without name");
  check_params(&v);
  if (k->stage == IR_STAGE_S) {
    check_scheduled(&v);
  } else {
    if (!k->parts.count) verify_bad(&v, &diag_ir_structure, "a portable kernel has at least one part");
    if (k->body && k->body->first) verify_bad(&v, &diag_ir_structure, "a portable kernel has no body");
    for (size_t i = 0; i < k->parts.count; i++) check_part(&v, &k->parts.data[i]);
  }
  ts_map_deinit(&v.visible);
  return v.status;
}

// ---- functions and modules -----------------------------------------------------------------------------------------------
static const ir_dim *find_dim(const ir_module *m, ts_sym name) {
  for (size_t i = 0; i < m->dims.count; i++)
    if (m->dims.data[i].size->name == name) return &m->dims.data[i];
  return NULL;
}

static const ir_state *find_state(const ir_module *m, ts_sym name) {
  for (size_t i = 0; i < m->states.count; i++)
    if (m->states.data[i]->name == name) return m->states.data[i];
  return NULL;
}

static ts_status verify_function(ir_module *m, const ir_function *f) {
  verifier v = {.m = m, .level = 'T'};
#define AT_FUNCTION(kind, ...)                                  \
  do {                                                          \
    ts_status s_ = ts_report(m->diags, f->loc, kind, __VA_ARGS__); \
    if (!v.errors++) v.status = s_;                             \
  } while (0)
  for (size_t i = 0; i < f->inputs.count; i++) {
    if (f->inputs.data[i]->type->kind != IR_TYPE_TENSOR)
      AT_FUNCTION(&diag_ir_type, "input %zu of function '%s' is no tensor", i, f->name);
    enter(&v, f->inputs.data[i]);
  }
  for (size_t i = 0; i < f->advances.count; i++) {
    if (!find_state(m, f->advances.data[i]))
      AT_FUNCTION(&diag_ir_unknown, "function '%s' advances '%s', which is no state", f->name, f->advances.data[i]);
    ts_sym by = i < f->advance_by.count ? f->advance_by.data[i] : NULL;
    if (by && !find_dim(m, by)) AT_FUNCTION(&diag_ir_unknown, "function '%s' advances by '%s', which is no dim", f->name, by);
  }
  check_region(&v, f->body);
  const ir_op *last = f->body->last;
  if (!last || last->code != IR_OP_ret || last->operand_count != f->outputs.count)
    AT_FUNCTION(&diag_ir_structure, "function '%s' must end in a return of its %zu outputs", f->name, f->outputs.count);
#undef AT_FUNCTION
  ts_map_deinit(&v.visible);
  return v.status;
}

static void keep(ts_status *status, ts_status s) {
  if (*status == TS_OK) *status = s;
}

static void verify_declarations(ir_module *m, ts_status *status) {
  for (size_t i = 0; i < m->dims.count; i++) {
    const ir_dim *d = &m->dims.data[i];
    if (d->ragged_over && (!find_dim(m, d->ragged_over) || d->ragged_over == d->size->name))
      keep(status, ts_report(m->diags, d->loc, &diag_ir_unknown, "dim '%s' is ragged over '%s', which is no other dim",
                             d->size->name, d->ragged_over));
  }
  for (size_t i = 0; i < m->states.count; i++) {
    const ir_state *s = m->states.data[i];
    if (s->page < 1)
      keep(status, ts_report(m->diags, s->loc, &diag_ir_type, "state '%s' has pages of %lld rows", s->name, (long long)s->page));
    if (s->list && !find_dim(m, s->list))
      keep(status,
           ts_report(m->diags, s->loc, &diag_ir_unknown, "state '%s' lists over '%s', which is no dim", s->name, s->list));
    for (size_t f = 0; f < s->fields.count; f++)
      for (unsigned d = 0; d < s->fields.data[f].rank; d++)
        keep(status, ir_size_check(s->fields.data[f].shape[d], "an extent of a state", m->diags, s->loc));
  }
}

ts_status ir_verify_module(ir_module *m) {
  ts_status status = TS_OK;
  verify_declarations(m, &status);
#define UNIQUE(list, what)                                \
  for (size_t i = 0; i < m->list.count; i++)              \
    for (size_t k = 0; k < i; k++)                        \
      if (m->list.data[i]->name == m->list.data[k]->name) \
  keep(&status,                                           \
       ts_report(m->diags, m->list.data[i]->loc, &diag_ir_structure, "two " what " are called '%s'", m->list.data[i]->name))
  UNIQUE(functions, "functions");
  UNIQUE(kernels, "kernels");
  UNIQUE(states, "states");
#undef UNIQUE
  for (size_t i = 0; i < m->functions.count; i++) keep(&status, verify_function(m, m->functions.data[i]));
  for (size_t i = 0; i < m->kernels.count; i++) keep(&status, ir_verify_kernel(m, m->kernels.data[i]));
  return status;
}
