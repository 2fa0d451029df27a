// Core of the IR (see ir.h): tables, unique types, functions of `apply`, attributes, builders.
#include "ir/ir.h"

#include "ir/encoding.h"
#include "ir/layout.h"

#include <math.h>
#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "ir/diag.def"
#undef TS_DIAG

// ---- tables --------------------------------------------------------------------------------------------------------------
static const ir_scalar_info scalars[] = {
#define IR_SCALAR(id, arity, rule, syntax, doc) {#id, arity, IR_RULE_##rule, syntax, doc},
#include "ir/scalars.def"
#undef IR_SCALAR
  {"param", 0, IR_RULE_SAME, "", "Parameter."},
  {"const", 0, IR_RULE_SAME, "", "Constant."},
};

static const ir_op_info ops[] = {
#define IR_OP(id, text, levels, omin, omax, rmin, rmax, regions, attrs, doc) {text, levels, omin, omax, rmin, rmax, regions, attrs, doc},
#include "ir/ops.def"
#undef IR_OP
};

const ir_scalar_info *ir_scalar_get(ir_scalar s) { return &scalars[s]; }

int ir_scalar_of_name(ts_str name) {
  for (int i = 0; i < IR_SCALAR_PARAM; i++)
    if (ts_str_is(name, scalars[i].name)) return i;
  return -1;
}

const ir_op_info *ir_op_get(ir_opcode op) { return &ops[op]; }

int ir_opcode_of_name(ts_str name) {
  for (int i = 0; i < IR_OP_COUNT; i++)
    if (ts_str_is(name, ops[i].name)) return i;
  return -1;
}

const char *ir_family_name(ir_family f) {
  static const char *const names[IR_FAMILY_COUNT] = {"contract", "attend", "rows", "select", "scan", "move"};
  return names[f];
}

// ---- module and types ----------------------------------------------------------------------------------------------------
ir_module *ir_module_create(ts_arena *a, ts_interner *names, ts_diags *d) {
  ir_module *m = ts_new(a, ir_module);
  m->arena = a;
  m->names = names;
  m->diags = d;
  m->sizes = ts_new(a, ir_sizes);
  ir_sizes_init(m->sizes, a, names);
  m->none = ts_intern_z(names, "_");
  return m;
}

void ir_module_destroy(ir_module *m) {
  if (!m) return;
  ir_sizes_deinit(m->sizes);
  ts_map_deinit(&m->types);
}

ts_sym ir_name(ir_module *m, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *text = ts_arena_vprintf(m->arena, fmt, ap);
  va_end(ap);
  return ts_intern_z(m->names, text);
}

typedef struct type_chain {
  const ir_type *type;
  struct type_chain *next;
} type_chain;

static uint64_t type_hash(const ir_type *t) {
  uint64_t h = ts_hash_bytes(&(uint32_t[]){t->kind, t->dtype, t->rank, t->space}, 16, 1);
  if (t->axes) h = ts_hash_bytes(t->axes, t->rank * sizeof *t->axes, h);
  if (t->shape) h = ts_hash_bytes(t->shape, t->rank * sizeof *t->shape, h);
  if (t->strides) h = ts_hash_bytes(t->strides, t->rank * sizeof *t->strides, h);
  const void *rest[] = {t->encoding, t->layout, t->lanes, t->state};
  return ts_hash_bytes(rest, sizeof rest, h);
}

static bool same_array(const void *a, const void *b, size_t bytes) {
  return (a == NULL) == (b == NULL) && (!a || !bytes || memcmp(a, b, bytes) == 0);
}

static bool type_equal(const ir_type *a, const ir_type *b) {
  return a->kind == b->kind && a->dtype == b->dtype && a->rank == b->rank && a->space == b->space && a->encoding == b->encoding &&
         a->layout == b->layout && a->lanes == b->lanes && a->state == b->state && same_array(a->axes, b->axes, a->rank * sizeof *a->axes) &&
         same_array(a->shape, b->shape, a->rank * sizeof *a->shape) && same_array(a->strides, b->strides, a->rank * sizeof *a->strides);
}

static const ir_type *unique(ir_module *m, const ir_type *t) {
  uint64_t h = type_hash(t);
  type_chain *chain = ts_map_get(&m->types, h);
  for (type_chain *c = chain; c; c = c->next)
    if (type_equal(c->type, t)) return c->type;
  ir_type *own = ts_new(m->arena, ir_type);
  *own = *t;
  if (t->axes) own->axes = ts_arena_copy(m->arena, t->axes, t->rank * sizeof *t->axes, _Alignof(ts_sym));
  if (t->shape) own->shape = ts_arena_copy(m->arena, t->shape, t->rank * sizeof *t->shape, _Alignof(const ir_size *));
  if (t->strides) own->strides = ts_arena_copy(m->arena, t->strides, t->rank * sizeof *t->strides, _Alignof(int64_t));
  type_chain *link = ts_new(m->arena, type_chain);
  *link = (type_chain){own, chain};
  ts_map_put(&m->types, h, link);
  return own;
}

const ir_type *ir_scalar_type(ir_module *m, ir_dtype t) { return unique(m, &(ir_type){.kind = IR_TYPE_TILE, .dtype = t}); }

const ir_type *ir_tile_type(ir_module *m, ir_dtype t, unsigned rank, const ts_sym *axes, const ir_size *const *shape) {
  if (rank == 0) return ir_scalar_type(m, t);
  return unique(m, &(ir_type){.kind = IR_TYPE_TILE, .dtype = t, .rank = rank, .axes = (ts_sym *)axes, .shape = (const ir_size **)shape});
}

const ir_type *ir_tensor_type(ir_module *m, ir_dtype t, unsigned rank, const ir_size *const *shape, const ir_encoding *enc) {
  return unique(m, &(ir_type){.kind = IR_TYPE_TENSOR, .dtype = t, .rank = rank, .shape = (const ir_size **)shape, .encoding = enc});
}

const ir_type *ir_mem_type(ir_module *m, ir_dtype t, unsigned rank, const ir_size *const *shape, const ir_encoding *enc, ir_space space,
                           const int64_t *strides) {
  return unique(m, &(ir_type){.kind = IR_TYPE_MEM, .dtype = t, .rank = rank, .shape = (const ir_size **)shape, .encoding = enc, .space = space,
                              .strides = strides});
}

const ir_type *ir_state_type(ir_module *m, const ir_state *s) { return unique(m, &(ir_type){.kind = IR_TYPE_STATE, .state = s}); }
const ir_type *ir_token_type(ir_module *m) { return unique(m, &(ir_type){.kind = IR_TYPE_TOKEN}); }

const ir_type *ir_type_with_lanes(ir_module *m, const ir_type *tile, ts_sym lanes) {
  ir_type t = *tile;
  t.lanes = lanes;
  return unique(m, &t);
}

const ir_type *ir_type_with_layout(ir_module *m, const ir_type *tile, const ir_layout *layout) {
  ir_type t = *tile;
  t.layout = layout;
  return unique(m, &t);
}

const ir_type *ir_type_with_dtype(ir_module *m, const ir_type *type, ir_dtype dtype) {
  ir_type t = *type;
  t.dtype = dtype;
  return unique(m, &t);
}

const ir_encoding *ir_type_find_encoding(const ir_module *m, ts_sym name) {
  for (size_t i = 0; i < m->types.capacity; i++)
    if (m->types.entries[i].used)
      for (const type_chain *c = m->types.entries[i].value; c; c = c->next)
        if (c->type->encoding && strcmp(c->type->encoding->name, name) == 0) return c->type->encoding;
  return NULL;
}

const ir_layout *ir_type_find_layout(const ir_module *m, const ir_layout *like) {
  for (size_t i = 0; i < m->types.capacity; i++)
    if (m->types.entries[i].used)
      for (const type_chain *c = m->types.entries[i].value; c; c = c->next)
        if (c->type->layout && ir_layout_equal(c->type->layout, like)) return c->type->layout;
  return NULL;
}

bool ir_type_is_scalar(const ir_type *t) { return t->kind == IR_TYPE_TILE && t->rank == 0; }

int ir_type_axis(const ir_type *tile, ts_sym axis) {
  for (unsigned i = 0; i < tile->rank; i++)
    if (tile->axes[i] == axis) return (int)i;
  return -1;
}

int64_t ir_type_elements(const ir_type *t) {
  int64_t n = 1;
  for (unsigned i = 0; i < t->rank; i++)
    if (!ir_size_is_const(t->shape[i]) || __builtin_mul_overflow(n, t->shape[i]->value, &n)) return -1;
  return n;
}

// ---- functions of apply --------------------------------------------------------------------------------------------------
void ir_fn_begin(ir_fn_builder *b, ir_module *m, uint32_t params, const ir_dtype *types) {
  *b = (ir_fn_builder){.module = m, .params = params};
  for (uint32_t i = 0; i < params; i++)
    ts_vec_push(m->arena, &b->nodes, ((ir_expr){.op = IR_SCALAR_PARAM, .type = types[i], .index = i}));
}

static bool same_bits(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

static uint32_t add_node(ir_fn_builder *b, ir_expr e) {
  for (size_t i = b->params; i < b->nodes.count; i++) {
    const ir_expr *o = &b->nodes.data[i];
    if (o->op == e.op && o->type == e.type && memcmp(o->args, e.args, sizeof e.args) == 0 && same_bits(o->real, e.real) && o->integer == e.integer)
      return (uint32_t)i;
  }
  ts_vec_push(b->module->arena, &b->nodes, e);
  return (uint32_t)b->nodes.count - 1;
}

uint32_t ir_fn_real(ir_fn_builder *b, ir_dtype t, double v) {
  return add_node(b, (ir_expr){.op = IR_SCALAR_CONST, .type = t, .real = ir_round(t, v)});
}

uint32_t ir_fn_int(ir_fn_builder *b, ir_dtype t, int64_t v) {
  return add_node(b, (ir_expr){.op = IR_SCALAR_CONST, .type = t, .integer = ir_wrap(t, v)});
}

static bool is_int_const(const ir_expr *e, int64_t v) { return e->op == IR_SCALAR_CONST && ir_is_int(e->type) && e->integer == v; }

// Integer identities and constant folding; floats are left as written (an evaluator domain could tell the difference).
static bool fold_int(ir_fn_builder *b, ir_scalar op, uint32_t x, uint32_t y, uint32_t *out) {
  const ir_expr *p = &b->nodes.data[x], *q = &b->nodes.data[y];
  if (!ir_is_int(p->type) || p->type == IR_i1) return false;
  bool both = p->op == IR_SCALAR_CONST && q->op == IR_SCALAR_CONST;
  int64_t r;
  switch (op) {
    case IR_SCALAR_add:
      if (is_int_const(p, 0)) return *out = y, true;
      if (is_int_const(q, 0)) return *out = x, true;
      if (!both || __builtin_add_overflow(p->integer, q->integer, &r)) return false;
      break;
    case IR_SCALAR_mul:
      if (is_int_const(p, 1)) return *out = y, true;
      if (is_int_const(q, 1)) return *out = x, true;
      if (!both || __builtin_mul_overflow(p->integer, q->integer, &r)) return false;
      break;
    case IR_SCALAR_div:
      if (is_int_const(q, 1)) return *out = x, true;
      if (!both || q->integer <= 0 || !ir_is_signed(p->type)) return false;
      r = p->integer / q->integer - (p->integer % q->integer < 0);
      break;
    default: return false;
  }
  *out = ir_fn_int(b, p->type, r);
  return true;
}

uint32_t ir_fn_op(ir_fn_builder *b, ir_scalar op, uint32_t x, uint32_t y, uint32_t z) {
  const ir_scalar_info *info = &scalars[op];
  uint32_t folded;
  if (info->arity == 2 && fold_int(b, op, x, y, &folded)) return folded;
  ir_expr e = {.op = op, .args = {x, info->arity > 1 ? y : 0, info->arity > 2 ? z : 0}};
  e.type = info->rule == IR_RULE_BOOL ? IR_i1 : info->rule == IR_RULE_PICK ? b->nodes.data[y].type : b->nodes.data[x].type;
  return add_node(b, e);
}

uint32_t ir_fn_cast(ir_fn_builder *b, ir_dtype t, uint32_t x) {
  const ir_expr *e = &b->nodes.data[x];
  if (e->type == t) return x;
  if (e->op == IR_SCALAR_CONST && ir_is_int(e->type) && ir_is_int(t)) return ir_fn_int(b, t, e->integer);
  return add_node(b, (ir_expr){.op = IR_SCALAR_cast, .type = t, .args = {x}});
}

uint32_t ir_fn_bits(ir_fn_builder *b, ir_dtype t, uint32_t x) {
  return add_node(b, (ir_expr){.op = IR_SCALAR_bits, .type = t, .args = {x}});
}

uint32_t ir_fn_inline(ir_fn_builder *b, const ir_fn *f, const uint32_t *args, uint32_t result) {
  uint32_t *at = ts_new_array(b->module->arena, uint32_t, f->count);
  for (uint32_t i = 0; i < f->count; i++) {
    ir_expr e = f->nodes[i];
    if (e.op == IR_SCALAR_PARAM) {
      at[i] = args[e.index];
      continue;
    }
    unsigned arity = scalars[e.op].arity;
    for (unsigned k = 0; k < arity; k++) e.args[k] = at[e.args[k]];
    at[i] = add_node(b, e);
  }
  return at[f->outputs[result]];
}

// Keeps only nodes that the outputs reach.
const ir_fn *ir_fn_end(ir_fn_builder *b, uint32_t results, const uint32_t *outputs) {
  ts_arena *a = b->module->arena;
  size_t n = b->nodes.count;
  bool *used = ts_new_array(a, bool, n);
  uint32_t *to = ts_new_array(a, uint32_t, n);
  for (uint32_t i = 0; i < results; i++) used[outputs[i]] = true;
  for (size_t i = n; i-- > 0;)
    if (used[i])
      for (unsigned k = 0; k < scalars[b->nodes.data[i].op].arity; k++) used[b->nodes.data[i].args[k]] = true;
  ir_fn *f = ts_new(a, ir_fn);
  f->params = b->params;
  f->results = results;
  f->nodes = ts_new_array(a, ir_expr, n);
  for (size_t i = 0; i < n; i++) {
    if (i >= b->params && !used[i]) continue;
    ir_expr e = b->nodes.data[i];
    for (unsigned k = 0; k < scalars[e.op].arity; k++) e.args[k] = to[e.args[k]];
    to[i] = f->count;
    f->nodes[f->count++] = e;
  }
  f->outputs = ts_new_array(a, uint32_t, results);
  for (uint32_t i = 0; i < results; i++) f->outputs[i] = to[outputs[i]];
  return f;
}

// ---- operations ----------------------------------------------------------------------------------------------------------
ir_region *ir_region_create(ir_module *m, ir_op *owner) {
  ir_region *r = ts_new(m->arena, ir_region);
  r->owner = owner;
  return r;
}

ir_value *ir_region_param(ir_module *m, ir_region *r, const ir_type *t, ts_sym name) {
  ir_value *v = ts_new(m->arena, ir_value);
  *v = (ir_value){.type = t, .name = name, .index = r->param_count};
  ir_value **params = ts_new_array(m->arena, ir_value *, r->param_count + 1);
  if (r->param_count) memcpy(params, r->params, r->param_count * sizeof *params);
  params[r->param_count++] = v;
  r->params = params;
  return v;
}

ir_op *ir_build(ir_builder *b, ir_opcode code, uint32_t operands, ir_value *const *operand, uint32_t results, const ir_type *const *types) {
  ts_arena *a = b->module->arena;
  ir_op *op = ts_new(a, ir_op);
  *op = (ir_op){.code = code, .loc = b->loc, .operand_count = operands, .result_count = results, .parent = b->region};
  op->operands = ts_new_array(a, ir_value *, operands);
  if (operands) memcpy(op->operands, operand, operands * sizeof *operand);
  op->results = ts_new_array(a, ir_value *, results);
  for (uint32_t i = 0; i < results; i++) {
    op->results[i] = ts_new(a, ir_value);
    *op->results[i] = (ir_value){.type = types[i], .producer = op, .index = i};
  }
  op->region_count = (uint32_t)ops[code].regions;
  op->regions = ts_new_array(a, ir_region *, op->region_count);
  for (uint32_t i = 0; i < op->region_count; i++) op->regions[i] = ir_region_create(b->module, op);
  op->prev = b->region->last;
  if (op->prev) op->prev->next = op;
  else b->region->first = op;
  b->region->last = op;
  return op;
}

static ir_attr *set_attr(ir_builder *b, ir_op *op, const char *name, ir_attr_kind kind) {
  ts_sym s = ts_intern_z(b->module->names, name);
  for (uint32_t i = 0; i < op->attr_count; i++)
    if (op->attrs[i].name == s) {
      op->attrs[i].kind = kind;
      return &op->attrs[i];
    }
  ir_attr *attrs = ts_new_array(b->module->arena, ir_attr, op->attr_count + 1);
  if (op->attr_count) memcpy(attrs, op->attrs, op->attr_count * sizeof *attrs);
  op->attrs = attrs;
  attrs[op->attr_count] = (ir_attr){.name = s, .kind = kind};
  return &attrs[op->attr_count++];
}

void ir_set_int(ir_builder *b, ir_op *op, const char *name, int64_t v) { set_attr(b, op, name, IR_ATTR_INT)->integer = v; }
void ir_set_real(ir_builder *b, ir_op *op, const char *name, double v) { set_attr(b, op, name, IR_ATTR_REAL)->real = v; }
void ir_set_sym(ir_builder *b, ir_op *op, const char *name, ts_sym v) { set_attr(b, op, name, IR_ATTR_SYM)->sym = v; }
void ir_set_text(ir_builder *b, ir_op *op, const char *name, const char *v) {
  set_attr(b, op, name, IR_ATTR_TEXT)->sym = ts_intern_z(b->module->names, v);
}
void ir_set_dtype(ir_builder *b, ir_op *op, const char *name, ir_dtype v) { set_attr(b, op, name, IR_ATTR_DTYPE)->dtype = v; }
void ir_set_fn(ir_builder *b, ir_op *op, const char *name, const ir_fn *f) { set_attr(b, op, name, IR_ATTR_FN)->fn = f; }
void ir_set_size(ir_builder *b, ir_op *op, const char *name, const ir_size *v) { set_attr(b, op, name, IR_ATTR_SIZE)->size = v; }
void ir_set_axes(ir_builder *b, ir_op *op, const char *name, uint32_t count, const ts_sym *axes) {
  ir_attr *at = set_attr(b, op, name, IR_ATTR_AXES);
  at->axes.data = ts_arena_copy(b->module->arena, axes, count * sizeof *axes, _Alignof(ts_sym));
  at->axes.count = count;
}
void ir_set_ints(ir_builder *b, ir_op *op, const char *name, uint32_t count, const int64_t *v) {
  ir_attr *at = set_attr(b, op, name, IR_ATTR_INTS);
  at->ints.data = ts_arena_copy(b->module->arena, v, count * sizeof *v, _Alignof(int64_t));
  at->ints.count = count;
}

const ir_attr *ir_attr_find(const ir_op *op, const char *name) {
  for (uint32_t i = 0; i < op->attr_count; i++)
    if (strcmp(op->attrs[i].name, name) == 0) return &op->attrs[i];
  return NULL;
}

int64_t ir_attr_int(const ir_op *op, const char *name, int64_t otherwise) {
  const ir_attr *a = ir_attr_find(op, name);
  return a && a->kind == IR_ATTR_INT ? a->integer : otherwise;
}

double ir_attr_real(const ir_op *op, const char *name, double otherwise) {
  const ir_attr *a = ir_attr_find(op, name);
  return a && a->kind == IR_ATTR_REAL ? a->real : a && a->kind == IR_ATTR_INT ? (double)a->integer : otherwise;
}

ts_sym ir_attr_sym(const ir_op *op, const char *name) {
  const ir_attr *a = ir_attr_find(op, name);
  return a && (a->kind == IR_ATTR_SYM || a->kind == IR_ATTR_TEXT) ? a->sym : NULL;
}

// ---- builders of common ops ----------------------------------------------------------------------------------------------
static ir_value *build_one(ir_builder *b, ir_opcode code, uint32_t n, ir_value *const *operand, const ir_type *t) {
  return ir_build(b, code, n, operand, 1, &t)->results[0];
}

ir_value *ir_const_int(ir_builder *b, ir_dtype t, int64_t v) {
  ir_value *r = build_one(b, IR_OP_const, 0, NULL, ir_scalar_type(b->module, t));
  ir_set_int(b, r->producer, "int", v);
  return r;
}

ir_value *ir_const_real(ir_builder *b, ir_dtype t, double v) {
  ir_value *r = build_one(b, IR_OP_const, 0, NULL, ir_scalar_type(b->module, t));
  ir_set_real(b, r->producer, "value", v);
  return r;
}

ir_value *ir_size_value(ir_builder *b, const ir_size *s) {
  if (ir_size_is_const(s)) return ir_const_int(b, IR_i64, s->value);
  ir_value *r = build_one(b, IR_OP_size, 0, NULL, ir_scalar_type(b->module, IR_i64));
  ir_set_size(b, r->producer, "of", s);
  return r;
}

ir_value *ir_full(ir_builder *b, ir_value *scalar, const ir_type *tile) { return build_one(b, IR_OP_full, 1, &scalar, tile); }

const ir_type *ir_broadcast_type(ir_module *m, ir_dtype t, uint32_t operands, ir_value *const *operand) {
  ts_sym axes[32] = {0};
  const ir_size *shape[32] = {0};
  unsigned rank = 0, largest = 0;
  ts_sym lanes = NULL;
  const ir_layout *layout = NULL;
  for (uint32_t i = 0; i < operands; i++) {
    if (operand[i]->type->rank > operand[largest]->type->rank) largest = i;
    if (operand[i]->type->lanes) lanes = operand[i]->type->lanes;
  }
  for (uint32_t k = 0; k <= operands && operands; k++) {
    const ir_type *o = operand[k == 0 ? largest : k - 1]->type;
    for (unsigned d = 0; d < o->rank; d++) {
      bool known = false;
      for (unsigned e = 0; e < rank; e++) known |= axes[e] == o->axes[d];
      if (known || rank == 32) continue;
      axes[rank] = o->axes[d];
      shape[rank++] = o->shape[d];
    }
  }
  // Axes of other operands go before the lanes axis; behind it stand only axes packed inside a lane.
  for (uint32_t i = 0; lanes && i < operands; i++) {
    const ir_type *o = operand[i]->type;
    if (o->lanes != lanes || o->axes[o->rank - 1] != lanes) continue;
    for (unsigned d = 0; d + 1 < rank; d++) {
      if (axes[d] != lanes) continue;
      const ir_size *extent = shape[d];
      memmove(axes + d, axes + d + 1, (rank - 1 - d) * sizeof *axes);
      memmove(shape + d, shape + d + 1, (rank - 1 - d) * sizeof *shape);
      axes[rank - 1] = lanes, shape[rank - 1] = extent;
      break;
    }
    break;
  }
  // A layout survives only where the largest operand has all axes.
  if (operands && rank == operand[largest]->type->rank) layout = operand[largest]->type->layout;
  const ir_type *r = ir_tile_type(m, t, rank, axes, shape);
  if (lanes) r = ir_type_with_lanes(m, r, lanes);
  return layout ? ir_type_with_layout(m, r, layout) : r;
}

ir_value *ir_apply(ir_builder *b, const ir_fn *f, uint32_t operands, ir_value *const *operand) {
  const ir_type *t = ir_broadcast_type(b->module, f->nodes[f->outputs[0]].type, operands, operand);
  ir_value *r = build_one(b, IR_OP_apply, operands, operand, t);
  ir_set_fn(b, r->producer, "fn", f);
  return r;
}

ir_value *ir_apply_op(ir_builder *b, ir_scalar op, ir_value *x, ir_value *y, ir_value *z) {
  ir_value *v[3] = {x, y, z};
  uint32_t n = y ? z ? 3 : 2 : 1;
  ir_dtype types[3];
  for (uint32_t i = 0; i < n; i++) types[i] = v[i]->type->dtype;
  ir_fn_builder f;
  ir_fn_begin(&f, b->module, n, types);
  uint32_t out = ir_fn_op(&f, op, 0, n > 1 ? 1 : 0, n > 2 ? 2 : 0);
  return ir_apply(b, ir_fn_end(&f, 1, &out), n, v);
}

ir_value *ir_cast(ir_builder *b, ir_value *x, ir_dtype t) {
  if (x->type->dtype == t) return x;
  ir_fn_builder f;
  ir_fn_begin(&f, b->module, 1, &x->type->dtype);
  uint32_t out = ir_fn_cast(&f, t, 0);
  return ir_apply(b, ir_fn_end(&f, 1, &out), 1, &x);
}

ir_value *ir_load(ir_builder *b, ir_value *mem, ir_value *const *index, const ts_sym *at, ir_value *mask, const ir_type *result) {
  ir_value *operand[34] = {mem};
  unsigned rank = mem->type->rank;
  for (unsigned i = 0; i < rank; i++) operand[1 + i] = index[i];
  if (mask) operand[1 + rank] = mask;
  ir_value *r = build_one(b, IR_OP_load, 1 + rank + (mask != NULL), operand, result);
  ir_set_axes(b, r->producer, "at", rank, at);
  if (mask) ir_set_int(b, r->producer, "masked", 1);
  return r;
}

ir_op *ir_store(ir_builder *b, ir_value *mem, ir_value *const *index, const ts_sym *at, ir_value *v, ir_value *mask) {
  ir_value *operand[35] = {mem};
  unsigned rank = mem->type->rank;
  for (unsigned i = 0; i < rank; i++) operand[1 + i] = index[i];
  operand[1 + rank] = v;
  if (mask) operand[2 + rank] = mask;
  ir_op *op = ir_build(b, IR_OP_store, 2 + rank + (mask != NULL), operand, 0, NULL);
  ir_set_axes(b, op, "at", rank, at);
  if (mask) ir_set_int(b, op, "masked", 1);
  return op;
}

ir_value *ir_dot(ir_builder *b, ir_value *x, ir_value *y, ir_value *acc, uint32_t over, const ts_sym *axes, const ir_type *result) {
  ir_value *operand[3] = {x, y, acc};
  ir_value *r = build_one(b, IR_OP_dot, acc ? 3 : 2, operand, result);
  ir_set_axes(b, r->producer, "over", over, axes);
  return r;
}

ir_value *ir_reduce(ir_builder *b, ir_value *x, const char *op, uint32_t over, const ts_sym *over_axes) {
  ts_sym axes[32] = {0};
  const ir_size *shape[32] = {0};
  unsigned rank = 0;
  ts_sym lanes = x->type->lanes;
  for (unsigned d = 0; d < x->type->rank; d++) {
    bool summed = false;
    for (uint32_t i = 0; i < over; i++) summed |= over_axes[i] == x->type->axes[d];
    if (summed && lanes == x->type->axes[d]) lanes = NULL;
    if (summed) continue;
    axes[rank] = x->type->axes[d];
    shape[rank++] = x->type->shape[d];
  }
  const ir_type *t = ir_tile_type(b->module, x->type->dtype, rank, axes, shape);
  if (lanes) t = ir_type_with_lanes(b->module, t, lanes);
  ir_value *r = build_one(b, IR_OP_reduce, 1, &x, t);
  ir_set_axes(b, r->producer, "over", over, over_axes);
  ir_set_sym(b, r->producer, "op", ts_intern_z(b->module->names, op));
  return r;
}

ir_op *ir_for(ir_builder *b, ir_value *lo, ir_value *hi, ir_value *step, uint32_t carried, ir_value *const *init) {
  ir_value **operand = ts_new_array(b->module->arena, ir_value *, 3 + carried);
  const ir_type **types = ts_new_array(b->module->arena, const ir_type *, carried);
  operand[0] = lo, operand[1] = hi, operand[2] = step;
  for (uint32_t i = 0; i < carried; i++) operand[3 + i] = init[i], types[i] = init[i]->type;
  ir_op *op = ir_build(b, IR_OP_for, 3 + carried, operand, carried, types);
  ir_region_param(b->module, op->regions[0], ir_scalar_type(b->module, IR_i64), NULL);
  for (uint32_t i = 0; i < carried; i++) ir_region_param(b->module, op->regions[0], types[i], NULL);
  return op;
}

ir_op *ir_if(ir_builder *b, ir_value *cond, uint32_t results, const ir_type *const *types) {
  return ir_build(b, IR_OP_if, 1, &cond, results, types);
}

void ir_yield(ir_builder *b, uint32_t count, ir_value *const *values) { ir_build(b, IR_OP_yield, count, values, 0, NULL); }

// ---- kernels -------------------------------------------------------------------------------------------------------------
ir_kernel *ir_kernel_create(ir_module *m, ts_sym name, ir_stage stage, ts_loc loc) {
  ir_kernel *k = ts_new(m->arena, ir_kernel);
  *k = (ir_kernel){.name = name, .stage = stage, .loc = loc};
  if (stage == IR_STAGE_S) k->body = ir_region_create(m, NULL);
  return k;
}

ir_value *ir_kernel_param(ir_module *m, ir_kernel *k, ts_sym name, const ir_type *mem, ir_param_role role) {
  ir_value *v = ts_new(m->arena, ir_value);
  *v = (ir_value){.type = mem, .name = name, .index = (uint32_t)k->params.count};
  ts_vec_push(m->arena, &k->params, ((ir_param){v, role}));
  return v;
}

ir_part *ir_kernel_part(ir_module *m, ir_kernel *k, ir_family family, ts_sym name) {
  ts_vec_push(m->arena, &k->parts, ((ir_part){.family = family, .name = name}));
  ir_part *p = &k->parts.data[k->parts.count - 1];
  p->init = ir_region_create(m, NULL);
  p->update = ir_region_create(m, NULL);
  p->finish = ir_region_create(m, NULL);
  return p;
}

typedef struct symbols {
  ts_arena *arena;
  TS_VEC(const ir_size *) list;
} symbols;

static void add_symbol(void *user, const ir_size *s) {
  symbols *c = user;
  for (size_t i = 0; i < c->list.count; i++)
    if (c->list.data[i] == s) return;
  ts_vec_push(c->arena, &c->list, s);
}

static void collect_symbols(const ir_region *r, symbols *c) {
  for (const ir_op *op = r->first; op; op = op->next) {
    const ir_attr *of = op->code == IR_OP_size ? ir_attr_find(op, "of") : NULL;
    if (of && of->kind == IR_ATTR_SIZE) ir_size_symbols(of->size, add_symbol, c);
    for (uint32_t i = 0; i < op->region_count; i++) collect_symbols(op->regions[i], c);
  }
}

static int by_size(const void *a, const void *b) { return ir_size_compare(*(const ir_size *const *)a, *(const ir_size *const *)b); }

const ir_size **ir_kernel_symbols(const ir_kernel *k, ts_arena *a, uint32_t *out_count) {
  symbols c = {.arena = a};
  for (size_t i = 0; i < k->params.count; i++) {
    const ir_type *t = k->params.data[i].value->type;
    for (unsigned d = 0; d < t->rank; d++) ir_size_symbols(t->shape[d], add_symbol, &c);
  }
  if (k->body) collect_symbols(k->body, &c);
  if (c.list.count) qsort(c.list.data, c.list.count, sizeof *c.list.data, by_size);
  *out_count = (uint32_t)c.list.count;
  return c.list.data;
}

void ir_replace_uses(ir_region *r, ir_value *from, ir_value *to) {
  for (ir_op *op = r->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->operand_count; i++)
      if (op->operands[i] == from) op->operands[i] = to;
    for (uint32_t i = 0; i < op->region_count; i++) ir_replace_uses(op->regions[i], from, to);
  }
}

void ir_op_remove(ir_op *op) {
  if (op->prev) op->prev->next = op->next;
  else op->parent->first = op->next;
  if (op->next) op->next->prev = op->prev;
  else op->parent->last = op->prev;
  op->prev = op->next = NULL;
}
