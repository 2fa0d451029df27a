// Parser of the IR's text form (grammar: docs/ir.md; printer: text.c). It stops at the first thing it can't read, with a
// located diagnostic; whether the ops make sense is the verifier's business. Nothing is added to the module unless all of its
// text parses.
//
// Ops without a `loc(...)` get the place in this text as their location.
#include "ir/parse.h"

#include "ir/layout.h"
#include "ir/weights.h"

#include <stdlib.h>

enum { MAX_DIMS = 32 };

// ---- scopes --------------------------------------------------------------------------------------------------------------
static void bind(parser *p, ts_map *map, uint64_t key, void *value) {
  ts_vec_push(p->m->arena, &p->undo, ((binding){map, key, ts_map_get(map, key)}));
  ts_map_put(map, key, value);
}

static void close_scope(parser *p, size_t mark) {
  while (p->undo.count > mark) {
    binding *b = &p->undo.data[--p->undo.count];
    ts_map_put(b->map, b->key, b->old);
  }
}

// %name or %number: *map and *key say where it is bound.
static ts_status parse_value_name(parser *p, ts_map **map, uint64_t *key, ts_sym *name) {
  TS_TRY(parse_expect(p, "%"));
  if (p->t.kind == TOKEN_INT) {
    int64_t n;
    TS_TRY(parse_int(p, &n));
    *name = NULL;
    *map = &p->numbered;
    *key = (uint64_t)n + 1;
    return TS_OK;
  }
  TS_TRY(parse_name(p, "the name of a value", name));
  *map = &p->values;
  *key = ts_key(*name);
  return TS_OK;
}

typedef struct definition {   // a name on the left of an op, or of a parameter
  ts_map *map;
  uint64_t key;
  ts_sym name;
  ts_loc loc;
} definition;

static ts_status parse_definition(parser *p, definition *d) {
  d->loc = parse_here(p);
  return parse_value_name(p, &d->map, &d->key, &d->name);
}

static ts_status define(parser *p, const definition *d, ir_value *v) {
  if (ts_map_get(d->map, d->key)) {
    if (d->name) return ts_report(p->m->diags, d->loc, &diag_ir_syntax, "%%%s is already defined here", d->name);
    return ts_report(p->m->diags, d->loc, &diag_ir_syntax, "%%%llu is already defined here", (unsigned long long)d->key - 1);
  }
  v->name = d->name;
  bind(p, d->map, d->key, v);
  return TS_OK;
}

// A number as operand: an i64 constant, one for each value and scope.
static ir_value *literal(parser *p, ir_builder *b, int64_t v) {
  ir_value *known = ts_map_get(&p->literals, (uint64_t)v);
  if (known) return known;
  known = ir_const_int(b, IR_i64, v);
  bind(p, &p->literals, (uint64_t)v, known);
  return known;
}

static ts_status parse_use(parser *p, ir_builder *b, ir_value **out) {
  ts_loc loc = parse_here(p);
  if (p->t.kind == TOKEN_INT || parse_is(p, "-")) {
    int64_t v;
    TS_TRY(parse_int(p, &v));
    *out = literal(p, b, v);
    return TS_OK;
  }
  if (!parse_is(p, "%")) return parse_expected(p, "a value (%name or an integer)");
  ts_map *map;
  uint64_t key;
  ts_sym name;
  TS_TRY(parse_value_name(p, &map, &key, &name));
  *out = ts_map_get(map, key);
  if (*out) return TS_OK;
  if (name) return ts_report(p->m->diags, loc, &diag_ir_unknown, "%%%s is not defined here", name);
  return ts_report(p->m->diags, loc, &diag_ir_unknown, "%%%llu is not defined here", (unsigned long long)key - 1);
}

// ---- types ---------------------------------------------------------------------------------------------------------------
// Made-up encodings and those of weights count too: any that a type of the module already has.
static ts_status parse_encoding(parser *p, const ir_encoding **out) {
  ts_loc loc = parse_here(p);
  ts_sym name;
  TS_TRY(parse_name(p, "the name of an encoding", &name));
  *out = ir_type_find_encoding(p->m, name);
  for (size_t i = 0; !*out && i < p->m->weights.count; i++)
    if (strcmp(p->m->weights.data[i]->encoding->name, name) == 0) *out = p->m->weights.data[i]->encoding;
  if (*out) return TS_OK;
  return ir_encoding_of_name(p->m->arena, NULL, ts_str_of(name), loc, p->m->diags, out);
}

static ts_status parse_shape(parser *p, unsigned *rank, const ir_size *shape[MAX_DIMS]) {
  *rank = 0;
  if (!parse_accept(p, "[")) return TS_OK;
  do {
    if (*rank == MAX_DIMS) return ts_report(p->m->diags, parse_here(p), &diag_ir_structure, "more than %d dimensions", MAX_DIMS);
    TS_TRY(parse_size(p, &shape[(*rank)++]));
  } while (parse_accept(p, ","));
  return parse_expect(p, "]");
}

static ts_status parse_strides(parser *p, unsigned rank, int64_t strides[MAX_DIMS]) {
  ts_loc loc = parse_here(p);
  unsigned n = 0;
  TS_TRY(parse_expect(p, "["));
  do {
    if (n == rank) return ts_report(p->m->diags, loc, &diag_ir_structure, "more strides than dimensions (%u)", rank);
    TS_TRY(parse_int(p, &strides[n++]));
  } while (parse_accept(p, ","));
  if (n != rank) return ts_report(p->m->diags, loc, &diag_ir_structure, "%u strides for %u dimensions", n, rank);
  return parse_expect(p, "]");
}

// mem<...>, panel<...>, tensor<...> behind their opening '<'.
static ts_status parse_stored(parser *p, ir_type_kind kind, ir_space space, const ir_type **out) {
  ir_dtype t;
  const ir_size *shape[MAX_DIMS];
  int64_t strides[MAX_DIMS], *own = NULL;
  unsigned rank;
  const ir_encoding *encoding = NULL;
  TS_TRY(parse_dtype(p, &t));
  TS_TRY(parse_shape(p, &rank, shape));
  if (parse_accept(p, "as")) TS_TRY(parse_encoding(p, &encoding));
  if (kind == IR_TYPE_MEM && parse_accept(p, "strides")) {
    TS_TRY(parse_strides(p, rank, strides));
    own = strides;
  }
  TS_TRY(parse_expect(p, ">"));
  *out = kind == IR_TYPE_MEM ? ir_mem_type(p->m, t, rank, shape, encoding, space, own)
                             : ir_tensor_type(p->m, t, rank, shape, encoding);
  return TS_OK;
}

static ts_status axis_extent(parser *p, ts_sym axis, ts_loc loc, const ir_size **out) {
  for (size_t i = 0; p->part && i < p->part->axes.count; i++)
    if (p->part->axes.data[i].name == axis) {
      *out = p->part->axes.data[i].size;
      return TS_OK;
    }
  return ts_report(p->m->diags, loc, &diag_ir_unknown, "'%s' is no axis of a part here, so its extent must be written: %s: 8",
                   axis, axis);
}

// layout(...): the text up to the closing parenthesis is the layout's own.
static ts_status parse_layout(parser *p, const ir_type **type) {
  size_t from = p->t.end, end = from;
  ts_loc loc = parse_here(p);
  if (!parse_is(p, "(")) return parse_expected(p, "'('");
  loc.col++;
  for (unsigned depth = 1; end < p->text.len && p->text.data[end] != '\n'; end++) {
    if (p->text.data[end] == '(') depth++;
    if (p->text.data[end] == ')' && --depth == 0) break;
  }
  if (end == p->text.len || p->text.data[end] != ')')
    return ts_report(p->m->diags, loc, &diag_ir_syntax, "a layout without its closing parenthesis");
  const ir_layout *l, *known;
  TS_TRY(ir_layout_parse(p->m->arena, (ts_str){p->text.data + from, end - from}, NULL, 0, p->m->diags, loc, &l));
  known = ir_type_find_layout(p->m, l);
  *type = ir_type_with_layout(p->m, *type, known ? known : l);
  p->t.end = end;
  parse_advance(p);
  return parse_expect(p, ")");
}

static ts_status parse_tile(parser *p, const ir_type **out) {
  ir_dtype t;
  ts_sym axes[MAX_DIMS];
  const ir_size *shape[MAX_DIMS];
  unsigned rank = 0;
  TS_TRY(parse_dtype(p, &t));
  if (parse_accept(p, "[")) {
    do {
      ts_loc loc = parse_here(p);
      if (rank == MAX_DIMS) return ts_report(p->m->diags, loc, &diag_ir_structure, "more than %d dimensions", MAX_DIMS);
      TS_TRY(parse_name(p, "the name of an axis", &axes[rank]));
      for (unsigned i = 0; i < rank; i++)
        if (axes[i] == axes[rank]) return ts_report(p->m->diags, loc, &diag_ir_type, "axis '%s' twice in one type", axes[i]);
      if (parse_accept(p, ":")) TS_TRY(parse_size(p, &shape[rank]));
      else TS_TRY(axis_extent(p, axes[rank], loc, &shape[rank]));
      rank++;
    } while (parse_accept(p, ","));
    TS_TRY(parse_expect(p, "]"));
  }
  *out = ir_tile_type(p->m, t, rank, axes, shape);
  if (parse_accept(p, "lanes")) {
    ts_loc loc = parse_here(p);
    ts_sym lanes;
    TS_TRY(parse_name(p, "the name of an axis", &lanes));
    if (ir_type_axis(*out, lanes) < 0) return ts_report(p->m->diags, loc, &diag_ir_unknown, "the type has no axis '%s'", lanes);
    *out = ir_type_with_lanes(p->m, *out, lanes);
  }
  if (parse_accept(p, "layout")) return parse_layout(p, out);
  return TS_OK;
}

static ts_status parse_type(parser *p, const ir_type **out) {
  if (p->t.kind != TOKEN_NAME) return parse_expected(p, "a type");
  static const struct {
    const char *name;
    ir_type_kind kind;
    ir_space space;
  } stored[] = {
      {"mem", IR_TYPE_MEM, IR_SPACE_GLOBAL}, {"panel", IR_TYPE_MEM, IR_SPACE_PANEL}, {"tensor", IR_TYPE_TENSOR, IR_SPACE_GLOBAL}};
  for (size_t i = 0; i < sizeof stored / sizeof *stored; i++)
    if (parse_accept(p, stored[i].name)) {
      TS_TRY(parse_expect(p, "<"));
      return parse_stored(p, stored[i].kind, stored[i].space, out);
    }
  if (parse_accept(p, "token")) {
    *out = ir_token_type(p->m);
    return TS_OK;
  }
  if (!parse_accept(p, "state")) return parse_tile(p, out);
  TS_TRY(parse_expect(p, "<"));
  ts_loc loc = parse_here(p);
  ts_sym name;
  TS_TRY(parse_name(p, "the name of a state", &name));
  for (size_t i = 0; i < p->m->states.count; i++)
    if (p->m->states.data[i]->name == name) {
      *out = ir_state_type(p->m, p->m->states.data[i]);
      return parse_expect(p, ">");
    }
  return ts_report(p->m->diags, loc, &diag_ir_unknown, "the module has no state '%s'", name);
}

// ---- attributes ----------------------------------------------------------------------------------------------------------
static ts_status parse_real(parser *p, double *out) {
  bool negative = parse_accept(p, "-");
  ts_str s = parse_token_text(p);
  char buffer[64];
  bool number = p->t.kind == TOKEN_INT || p->t.kind == TOKEN_REAL || parse_is(p, "inf") || parse_is(p, "nan");
  if (!number || s.len >= sizeof buffer) return parse_expected(p, "a number");
  memcpy(buffer, s.data, s.len);
  buffer[s.len] = 0;
  double v = strtod(buffer, NULL);
  *out = negative ? -v : v;
  parse_advance(p);
  return TS_OK;
}

static ts_status parse_axes(parser *p, ir_attr *a) {
  TS_VEC(ts_sym) list = {0};
  TS_TRY(parse_expect(p, "["));
  while (!parse_is(p, "]")) {
    ts_sym s;
    if (list.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_name(p, "the name of an axis", &s));
    ts_vec_push(p->m->arena, &list, s);
  }
  a->axes.data = list.data;
  a->axes.count = (uint32_t)list.count;
  return parse_expect(p, "]");
}

static ts_status parse_ints(parser *p, ir_attr *a) {
  TS_VEC(int64_t) list = {0};
  TS_TRY(parse_expect(p, "["));
  while (!parse_is(p, "]")) {
    int64_t v;
    if (list.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_int(p, &v));
    ts_vec_push(p->m->arena, &list, v);
  }
  a->ints.data = list.data;
  a->ints.count = (uint32_t)list.count;
  return parse_expect(p, "]");
}

// A value of a->kind.
static ts_status parse_attr_value(parser *p, ir_attr *a) {
  switch (a->kind) {
    case IR_ATTR_INT: return parse_int(p, &a->integer);
    case IR_ATTR_REAL: return parse_real(p, &a->real);
    case IR_ATTR_SYM: return parse_name(p, "a name", &a->sym);
    case IR_ATTR_TEXT: return parse_string(p, "a string", &a->sym);
    case IR_ATTR_DTYPE: return parse_dtype(p, &a->dtype);
    case IR_ATTR_AXES: return parse_axes(p, a);
    case IR_ATTR_INTS: return parse_ints(p, a);
    case IR_ATTR_SIZE: return parse_size(p, &a->size);
    case IR_ATTR_FN: break;
  }
  return parse_expected(p, "another kind of attribute");
}

// A value whose kind is not declared anywhere (notes): by how it looks.
static ts_status parse_any_value(parser *p, ir_attr *a) {
  if (p->t.kind == TOKEN_STRING) a->kind = IR_ATTR_TEXT;
  else if (parse_is(p, "[")) {
    size_t i = p->t.end;
    while (i < p->text.len && p->text.data[i] == ' ') i++;
    char c = i < p->text.len ? p->text.data[i] : 0;
    a->kind = (c >= '0' && c <= '9') || c == '-' ? IR_ATTR_INTS : IR_ATTR_AXES;
  } else if (p->t.kind == TOKEN_NAME && !parse_is(p, "inf") && !parse_is(p, "nan")) {
    if (p->t.end < p->text.len && p->text.data[p->t.end] == '(' && parse_is(p, "size")) {
      parse_advance(p);
      parse_advance(p);
      a->kind = IR_ATTR_SIZE;
      TS_TRY(parse_size(p, &a->size));
      return parse_expect(p, ")");
    }
    a->kind = IR_ATTR_SYM;
  } else {
    parser ahead = *p;   // a sign, then a number: the lexer's state is all that reading ahead changes
    if (parse_is(&ahead, "-")) parse_advance(&ahead);
    a->kind = ahead.t.kind == TOKEN_INT ? IR_ATTR_INT : IR_ATTR_REAL;
  }
  return parse_attr_value(p, a);
}

typedef TS_VEC(ir_attr) attr_list;

static ts_status parse_attr_dict(parser *p, ir_opcode op, attr_list *out) {
  while (!parse_is(p, "}")) {
    ts_loc loc = parse_here(p);
    ir_attr a = {0};
    ir_text_attr declared;
    if (out->count) TS_TRY(parse_expect(p, ","));
    loc = parse_here(p);
    TS_TRY(parse_name(p, "the name of an attribute", &a.name));
    if (!ir_text_find_attr(op, ts_str_of(a.name), &declared))
      return ts_report(p->m->diags, loc, &diag_ir_unknown, "%s has no attribute '%s'", ir_op_get(op)->name, a.name);
    for (size_t i = 0; i < out->count; i++)
      if (out->data[i].name == a.name) return ts_report(p->m->diags, loc, &diag_ir_syntax, "attribute '%s' twice", a.name);
    a.kind = declared.kind;
    TS_TRY(parse_expect(p, "="));
    TS_TRY(parse_attr_value(p, &a));
    ts_vec_push(p->m->arena, out, a);
  }
  return parse_expect(p, "}");
}

// The only attribute of an op without operands, bare: the first declared one that the value fits.
static ts_status parse_bare(parser *p, ir_opcode op, attr_list *out) {
  ir_text_attr declared, chosen = {0};
  bool several = false, found = false;
  for (const char *row = ir_op_get(op)->attrs; ir_text_declared(&row, &declared);) {
    several |= found;
    if (!found) chosen = declared;
    found = true;
  }
  if (!found) return parse_expected(p, "the end of the op");
  if (several) {
    ir_attr look = {0};
    parser ahead = *p;
    if (parse_is(&ahead, "-")) parse_advance(&ahead);
    look.kind = ahead.t.kind == TOKEN_INT ? IR_ATTR_INT : IR_ATTR_REAL;
    for (const char *row = ir_op_get(op)->attrs; ir_text_declared(&row, &declared);)
      if (declared.kind == look.kind) {
        chosen = declared;
        break;
      }
  }
  ir_attr a = {.name = ts_intern(p->m->names, chosen.name), .kind = chosen.kind};
  TS_TRY(parse_attr_value(p, &a));
  ts_vec_push(p->m->arena, out, a);
  return TS_OK;
}

// ---- operations ----------------------------------------------------------------------------------------------------------
static ts_status parse_loc(parser *p, ts_loc *loc) {
  if (!parse_accept(p, "loc")) return TS_OK;
  TS_TRY(parse_expect(p, "("));
  if (parse_accept(p, "?")) {
    *loc = (ts_loc){0};
    return parse_expect(p, ")");
  }
  int64_t v = 0;
  *loc = (ts_loc){0};
  TS_TRY(parse_string(p, "the name of a file", &loc->file));
  if (parse_accept(p, "+")) {
    TS_TRY(parse_int(p, &v));
    loc->offset = (uint64_t)v;
    return parse_expect(p, ")");
  }
  TS_TRY(parse_expect(p, ":"));
  TS_TRY(parse_int(p, &v));
  loc->line = (uint32_t)v;
  TS_TRY(parse_expect(p, ":"));
  TS_TRY(parse_int(p, &v));
  loc->col = (uint32_t)v;
  return parse_expect(p, ")");
}

typedef TS_VEC(ir_value *) value_list;
typedef TS_VEC(const ir_type *) type_list;
typedef TS_VEC(definition) definition_list;

static ts_status parse_operands(parser *p, ir_builder *b, value_list *out) {
  do {
    ir_value *v;
    TS_TRY(parse_use(p, b, &v));
    ts_vec_push(p->m->arena, out, v);
    if (!parse_accept(p, "[")) continue;
    while (!parse_is(p, "]")) {
      TS_TRY(parse_use(p, b, &v));
      ts_vec_push(p->m->arena, out, v);
      if (!parse_is(p, "]")) TS_TRY(parse_expect(p, ","));
    }
    parse_advance(p);
  } while (parse_accept(p, ","));
  return TS_OK;
}

static ts_status parse_ops(parser *p, ir_region *r);

// `(%a: type, ...) { ops }`. Types may be left out where `types` gives them.
static ts_status parse_region(parser *p, ir_region *r, uint32_t count, ir_value *const *types) {
  size_t mark = p->undo.count;
  if (parse_accept(p, "(")) {
    do {
      definition d;
      const ir_type *t;
      TS_TRY(parse_definition(p, &d));
      if (parse_accept(p, ":")) TS_TRY(parse_type(p, &t));
      else if (r->param_count < count) t = types[r->param_count]->type;
      else return parse_expected(p, "':' and a type");
      TS_TRY(define(p, &d, ir_region_param(p->m, r, t, d.name)));
    } while (parse_accept(p, ","));
    TS_TRY(parse_expect(p, ")"));
  }
  TS_TRY(parse_expect(p, "{"));
  TS_TRY(parse_ops(p, r));
  close_scope(p, mark);
  return TS_OK;
}

typedef struct op_text {   // the parts of an op, before it is built
  ir_opcode code;
  ts_loc loc;
  definition_list results;
  value_list operands;
  attr_list attrs;
  type_list types;
  ir_region *regions[2];
} op_text;

static ts_status parse_op_fn(parser *p, op_text *o) {
  ir_dtype *types = ts_new_array(p->m->arena, ir_dtype, o->operands.count);
  for (size_t i = 0; i < o->operands.count; i++) {
    types[i] = o->operands.data[i]->type->dtype;
    if (types[i] == IR_VOID)
      return ts_report(p->m->diags, parse_here(p), &diag_ir_type, "operand %zu of %s has no element type", i,
                       ir_op_get(o->code)->name);
  }
  ir_attr a = {.name = ts_intern_z(p->m->names, "fn"), .kind = IR_ATTR_FN};
  TS_TRY(parse_fn(p, (uint32_t)o->operands.count, types, &a.fn));
  TS_TRY(parse_expect(p, "}"));
  ts_vec_push(p->m->arena, &o->attrs, a);
  return TS_OK;
}

static ts_status parse_op_code(parser *p, op_text *o) {
  o->loc = parse_here(p);
  if (p->t.kind != TOKEN_NAME) return parse_expected(p, "the name of an op");
  ts_str name = parse_token_text(p);
  int code = ir_opcode_of_name(name);
  if (code < 0) {
    const char *all[IR_OP_COUNT];
    for (int i = 0; i < IR_OP_COUNT; i++) all[i] = ir_op_get((ir_opcode)i)->name;
    const char *near = ts_nearest(name, all, IR_OP_COUNT);
    return ts_report(p->m->diags, o->loc, &diag_ir_unknown, "no op is named '%.*s'%s%s", TS_FMT(name),
                     near ? "; did you mean " : "", near ? near : "");
  }
  o->code = (ir_opcode)code;
  parse_advance(p);
  return TS_OK;
}

static ts_status parse_op_text(parser *p, ir_builder *b, op_text *o) {
  while (parse_is(p, "%")) {
    definition d;
    TS_TRY(parse_definition(p, &d));
    ts_vec_push(p->m->arena, &o->results, d);
    if (!parse_accept(p, ",")) break;
  }
  if (o->results.count) TS_TRY(parse_expect(p, "="));
  TS_TRY(parse_op_code(p, o));
  const ir_op_info *info = ir_op_get(o->code);
  if (!p->t.first) {
    if (parse_accept(p, "(")) {
      if (!parse_is(p, ")")) TS_TRY(parse_operands(p, b, &o->operands));
      TS_TRY(parse_expect(p, ")"));
    } else if (info->operands_max == 0) {
      if (!parse_is(p, ":") && !parse_is(p, "{") && !parse_is(p, "}") && !parse_is(p, "loc"))
        TS_TRY(parse_bare(p, o->code, &o->attrs));
    } else if (!parse_is(p, "{") && !parse_is(p, ":") && !parse_is(p, "}") && !parse_is(p, "loc") && !parse_is(p, "do")) {
      TS_TRY(parse_operands(p, b, &o->operands));
    }
  }
  bool dict = false, fn = false;
  while (parse_is(p, "{")) {
    parse_advance(p);
    bool again = parse_is(p, "(") ? fn : dict;
    if (again || (parse_is(p, "(") && !ir_text_takes_fn(o->code))) return parse_expected(p, "the end of the op");
    if (parse_is(p, "(")) {
      fn = true;
      TS_TRY(parse_op_fn(p, o));
    } else {
      dict = true;
      attr_list own = {0};
      TS_TRY(parse_attr_dict(p, o->code, &own));
      for (size_t i = 0; i < own.count; i++) ts_vec_push(p->m->arena, &o->attrs, own.data[i]);
    }
  }
  for (int i = 0; i < info->regions; i++) {
    o->regions[i] = ir_region_create(p->m, NULL);
    TS_TRY(parse_expect(p, i ? "else" : "do"));
    TS_TRY(parse_region(p, o->regions[i], 0, NULL));
  }
  if (parse_accept(p, ":")) {
    do {
      const ir_type *t;
      TS_TRY(parse_type(p, &t));
      ts_vec_push(p->m->arena, &o->types, t);
    } while (parse_accept(p, ","));
  }
  return parse_loc(p, &o->loc);
}

static ts_status parse_op(parser *p, ir_region *r) {
  ir_builder b = {.module = p->m, .region = r, .loc = parse_here(p)};
  op_text o = {0};
  TS_TRY(parse_enter(p));
  TS_TRY(parse_op_text(p, &b, &o));
  p->depth--;
  if (o.types.count != o.results.count)
    return ts_report(p->m->diags, o.loc, &diag_ir_structure, "%zu results but %zu types", o.results.count, o.types.count);
  b.loc = o.loc;
  ir_op *op = ir_build(&b, o.code, (uint32_t)o.operands.count, o.operands.data, (uint32_t)o.results.count, o.types.data);
  op->attrs = o.attrs.data;
  op->attr_count = (uint32_t)o.attrs.count;
  for (uint32_t i = 0; i < op->region_count; i++) {
    op->regions[i] = o.regions[i];
    op->regions[i]->owner = op;
  }
  for (size_t i = 0; i < o.results.count; i++) TS_TRY(define(p, &o.results.data[i], op->results[i]));
  return TS_OK;
}

// Ops up to and with the closing brace.
static ts_status parse_ops(parser *p, ir_region *r) {
  while (!parse_accept(p, "}")) TS_TRY(parse_op(p, r));
  return TS_OK;
}

// ---- symbols, states, weights --------------------------------------------------------------------------------------------
static ts_status parse_bounds(parser *p, int64_t *lo, int64_t *hi, int64_t *step) {
  *step = 1;
  TS_TRY(parse_int(p, lo));
  TS_TRY(parse_expect(p, ".."));
  TS_TRY(parse_int(p, hi));
  return parse_accept(p, "step") ? parse_int(p, step) : TS_OK;
}

static ts_status declare_symbol(parser *p, ts_sym name, ir_size_class klass, int64_t lo, int64_t hi, int64_t step, ts_loc loc,
                                const ir_size **out) {
  if (!ir_text_is_name(ts_str_of(name)))
    return ts_report(p->m->diags, loc, &diag_ir_syntax, "the name of a size must be an identifier");
  *out = ir_size_symbol(p->m->sizes, ts_str_of(name), klass, lo, hi, step);
  TS_TRY(ir_size_check(*out, name, p->m->diags, loc));
  bind(p, &p->symbols, ts_key(name), (void *)*out);
  return TS_OK;
}

static ts_status parse_symbol(parser *p) {
  ts_sym name;
  int64_t lo, hi, step;
  ts_loc loc = parse_here(p);
  const ir_size *s;
  TS_TRY(parse_name(p, "the name of a size", &name));
  TS_TRY(parse_bounds(p, &lo, &hi, &step));
  ir_size_class klass = parse_accept(p, "device") ? IR_SIZE_DEVICE : parse_accept(p, "static") ? IR_SIZE_STATIC : IR_SIZE_CALL;
  return declare_symbol(p, name, klass, lo, hi, step, loc, &s);
}

static ts_status parse_dim(parser *p, ts_loc loc) {
  ts_sym name;
  int64_t lo, hi, step;
  ir_dim dim = {.loc = loc};
  TS_TRY(parse_name(p, "the name of a dim", &name));
  TS_TRY(parse_bounds(p, &lo, &hi, &step));
  if (parse_accept(p, "per")) TS_TRY(parse_name(p, "the name of a dim", &dim.ragged_over));
  TS_TRY(declare_symbol(p, name, IR_SIZE_CALL, lo, hi, step, loc, &dim.size));
  for (size_t i = 0; i < p->m->dims.count; i++) {
    const ir_dim *d = &p->m->dims.data[i];
    if (d->size == dim.size && d->ragged_over == dim.ragged_over) return TS_OK;
    if (d->size->name == name) return ts_report(p->m->diags, loc, &diag_ir_structure, "the module has another dim '%s'", name);
  }
  ts_vec_push(p->m->arena, &p->m->dims, dim);
  return TS_OK;
}

static ts_status parse_symbol_name(parser *p, const char *what, ts_sym *out) {
  TS_TRY(parse_expect(p, "@"));
  return parse_name(p, what, out);
}

static ts_status parse_state(parser *p, ts_loc loc) {
  ir_state *s = ts_new(p->m->arena, ir_state);
  s->loc = loc;
  TS_TRY(parse_symbol_name(p, "the name of a state", &s->name));
  for (size_t i = 0; i < p->m->states.count; i++)
    if (p->m->states.data[i]->name == s->name)
      return ts_report(p->m->diags, loc, &diag_ir_structure, "the module already has a state '%s'", s->name);
  TS_TRY(parse_expect(p, "list"));
  TS_TRY(parse_name(p, "the name of a dim", &s->list));
  if (s->list == p->m->none) s->list = NULL;
  TS_TRY(parse_expect(p, "length"));
  TS_TRY(parse_expect(p, "("));
  TS_TRY(parse_size(p, &s->length));
  TS_TRY(parse_expect(p, ")"));
  TS_TRY(parse_expect(p, "page"));
  TS_TRY(parse_int(p, &s->page));
  TS_TRY(parse_expect(p, "{"));
  while (!parse_is(p, "}")) {
    ir_state_field f = {0};
    const ir_size *shape[MAX_DIMS];
    if (s->fields.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_name(p, "the name of a field", &f.name));
    TS_TRY(parse_expect(p, ":"));
    TS_TRY(parse_dtype(p, &f.dtype));
    TS_TRY(parse_shape(p, &f.rank, shape));
    f.shape = ts_arena_copy(p->m->arena, shape, f.rank * sizeof *shape, _Alignof(const ir_size *));
    ts_vec_push(p->m->arena, &s->fields, f);
  }
  parse_advance(p);
  ts_vec_push(p->m->arena, &p->m->states, s);
  return TS_OK;
}

// A weight the module has, checked against shape and encoding; otherwise one without data, whose seed is the hash of the text.
static ts_status parse_weight(parser *p, ts_loc loc) {
  ir_weight *w = ts_new(p->m->arena, ir_weight);
  ir_dtype t;
  int64_t hash = 0;
  *w = (ir_weight){.loc = loc, .source = IR_SOURCE_DATA};
  TS_TRY(parse_symbol_name(p, "the name of a weight", &w->name));
  TS_TRY(parse_expect(p, ":"));
  TS_TRY(parse_dtype(p, &t));
  if (parse_accept(p, "[")) {
    do {
      if (w->rank == IR_MAX_RANK)
        return ts_report(p->m->diags, parse_here(p), &diag_ir_structure, "a weight of more than %d dimensions", IR_MAX_RANK);
      TS_TRY(parse_int(p, &w->shape[w->rank++]));
    } while (parse_accept(p, ","));
    TS_TRY(parse_expect(p, "]"));
  }
  TS_TRY(parse_expect(p, "as"));
  TS_TRY(parse_encoding(p, &w->encoding));
  if (parse_accept(p, "hash")) {
    TS_TRY(parse_expect(p, "("));
    TS_TRY(parse_int(p, &hash));
    TS_TRY(parse_expect(p, ")"));
  }
  w->seed = (uint64_t)hash;
  for (size_t i = 0; i < p->m->weights.count; i++) {
    const ir_weight *known = p->m->weights.data[i];
    if (known->name != w->name) continue;
    bool same = known->rank == w->rank && known->encoding == w->encoding &&
                memcmp(known->shape, w->shape, w->rank * sizeof *w->shape) == 0;
    return same ? TS_OK
                : ts_report(p->m->diags, loc, &diag_ir_type, "weight '%s' of the module has another shape or encoding", w->name);
  }
  TS_TRY(ir_encoding_bind(w->encoding, w->rank, w->shape, loc, p->m->diags, &w->bound));
  ts_vec_push(p->m->arena, &p->m->weights, w);
  return TS_OK;
}

// ---- kernels -------------------------------------------------------------------------------------------------------------
static ts_status parse_part_axes(parser *p, ir_part *part) {
  TS_TRY(parse_expect(p, "axes"));
  TS_TRY(parse_expect(p, "("));
  while (!parse_is(p, ")")) {
    ir_axis a = {0};
    if (part->axes.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_name(p, "the name of an axis", &a.name));
    TS_TRY(parse_expect(p, ":"));
    if (parse_accept(p, "red")) a.kind = IR_AXIS_RED;
    else TS_TRY(parse_expect(p, "par"));
    TS_TRY(parse_size(p, &a.size));
    ts_vec_push(p->m->arena, &part->axes, a);
  }
  parse_advance(p);
  return TS_OK;
}

static ts_status parse_part(parser *p, ir_kernel *k) {
  ts_sym name = NULL;
  if (parse_is(p, "@")) TS_TRY(parse_symbol_name(p, "the name of a part", &name));
  int family = 0;
  while (family < IR_FAMILY_COUNT && !parse_is(p, ir_family_name((ir_family)family))) family++;
  if (family == IR_FAMILY_COUNT) return parse_expected(p, "a family (contract, attend, rows, select, scan, move)");
  parse_advance(p);
  ir_part *part = ir_kernel_part(p->m, k, (ir_family)family, name);
  TS_TRY(parse_part_axes(p, part));
  TS_TRY(parse_expect(p, "{"));
  p->part = part;
  ir_value *const *types = NULL;
  uint32_t count = 0;
  while (!parse_accept(p, "}")) {
    ir_region *r = NULL;
    size_t mark = p->undo.count;
    if (parse_accept(p, "init")) r = part->init;
    else if (parse_accept(p, "update")) r = part->update;
    else if (parse_accept(p, "finish")) r = part->finish;
    else return parse_expected(p, "init, update, finish or '}'");
    if (r->first || r->param_count) return ts_report(p->m->diags, parse_here(p), &diag_ir_syntax, "this region is written twice");
    TS_TRY(parse_region(p, r, count, types));
    close_scope(p, mark);
    if (r == part->init && r->last && r->last->code == IR_OP_yield) {
      types = r->last->operands;
      count = r->last->operand_count;
    }
  }
  p->part = NULL;
  return TS_OK;
}

static ts_status parse_scheduled_head(parser *p, ir_kernel *k) {
  if (parse_accept(p, "host")) k->target_class = IR_CLASS_HOST;
  else if (parse_accept(p, "cuda")) k->target_class = IR_CLASS_CUDA;
  if (parse_accept(p, "target")) {
    TS_TRY(parse_expect(p, "("));
    TS_TRY(parse_name(p, "the name of a target", &k->target));
    TS_TRY(parse_expect(p, ")"));
  }
  return TS_OK;
}

// The grid names symbols that are declared inside, so its text is read after them: `at` remembers where it stands.
static ts_status skip_grid(parser *p, token *at) {
  TS_TRY(parse_expect(p, "grid"));
  *at = p->t;
  TS_TRY(parse_expect(p, "("));
  for (unsigned depth = 1; depth;) {
    if (p->t.kind == TOKEN_END || parse_is(p, "{")) return parse_expected(p, "')'");
    if (parse_is(p, "(")) depth++;
    if (parse_is(p, ")")) depth--;
    parse_advance(p);
  }
  return TS_OK;
}

static ts_status parse_grid(parser *p, ir_kernel *k, token at) {
  parser back = *p;   // symbols are shared, only the place in the text is put back
  p->t = at;
  p->line = at.line;
  p->line_start = at.at - (at.col - 1);
  TS_TRY(parse_expect(p, "("));
  for (int i = 0; i < 3; i++) {
    if (i) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_size(p, &k->grid[i]));
  }
  TS_TRY(parse_expect(p, ")"));
  p->t = back.t;
  p->line = back.line;
  p->line_start = back.line_start;
  p->last_end = back.last_end;
  return TS_OK;
}

static ts_status parse_kernel_param(parser *p, ir_kernel *k, ir_param_role role) {
  definition d;
  const ir_type *t;
  TS_TRY(parse_definition(p, &d));
  TS_TRY(parse_expect(p, ":"));
  TS_TRY(parse_type(p, &t));
  return define(p, &d, ir_kernel_param(p->m, k, d.name, t, role));
}

static ts_status parse_note(parser *p, ir_kernel *k) {
  ir_attr a = {0};
  TS_TRY(parse_name(p, "the name of a note", &a.name));
  TS_TRY(parse_expect(p, "="));
  TS_TRY(parse_any_value(p, &a));
  ts_vec_push(p->m->arena, &k->notes, a);
  return TS_OK;
}

static ts_status parse_kernel_items(parser *p, ir_kernel *k) {
  bool body = false;
  while (!parse_accept(p, "}")) {
    if (parse_accept(p, "size")) TS_TRY(parse_symbol(p));
    else if (parse_accept(p, "in")) TS_TRY(parse_kernel_param(p, k, IR_PARAM_IN));
    else if (parse_accept(p, "out")) TS_TRY(parse_kernel_param(p, k, IR_PARAM_OUT));
    else if (parse_accept(p, "inout")) TS_TRY(parse_kernel_param(p, k, IR_PARAM_INOUT));
    else if (parse_accept(p, "note")) TS_TRY(parse_note(p, k));
    else if (k->stage == IR_STAGE_P && parse_accept(p, "part")) TS_TRY(parse_part(p, k));
    else if (k->stage == IR_STAGE_S && !body && parse_accept(p, "body")) {
      body = true;
      TS_TRY(parse_region(p, k->body, 0, NULL));
    } else {
      return parse_expected(
          p, k->stage == IR_STAGE_P ? "size, in, out, inout, note, part or '}'" : "size, in, out, inout, note, one body or '}'");
    }
  }
  return TS_OK;
}

static ts_status parse_kernel(parser *p, ts_loc loc, ir_kernel **out) {
  ts_sym name;
  token grid = {0};
  int64_t warps = 0;
  TS_TRY(parse_symbol_name(p, "the name of a kernel", &name));
  bool scheduled = parse_accept(p, "scheduled");
  if (!scheduled) TS_TRY(parse_expect(p, "portable"));
  ir_kernel *k = ir_kernel_create(p->m, name, scheduled ? IR_STAGE_S : IR_STAGE_P, loc);
  if (scheduled) {
    TS_TRY(parse_scheduled_head(p, k));
    TS_TRY(skip_grid(p, &grid));
    if (parse_accept(p, "warps")) {
      TS_TRY(parse_expect(p, "("));
      TS_TRY(parse_int(p, &warps));
      TS_TRY(parse_expect(p, ")"));
      if (warps < 1 || warps > 64)
        return ts_report(p->m->diags, loc, &diag_ir_structure, "a kernel of %lld warps", (long long)warps);
    }
    k->warps = (int)warps;
  }
  TS_TRY(parse_expect(p, "{"));
  TS_TRY(parse_loc(p, &k->loc));
  size_t mark = p->undo.count;
  TS_TRY(parse_kernel_items(p, k));
  if (scheduled) TS_TRY(parse_grid(p, k, grid));
  close_scope(p, mark);
  *out = k;
  return TS_OK;
}

// ---- functions and modules -----------------------------------------------------------------------------------------------
static ts_status parse_inputs(parser *p, ir_function *f) {
  TS_TRY(parse_expect(p, "("));
  while (!parse_is(p, ")")) {
    definition d;
    ir_value *v = ts_new(p->m->arena, ir_value);
    if (f->inputs.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_definition(p, &d));
    TS_TRY(parse_expect(p, ":"));
    TS_TRY(parse_type(p, &v->type));
    v->index = (uint32_t)f->inputs.count;
    TS_TRY(define(p, &d, v));
    ts_vec_push(p->m->arena, &f->inputs, v);
  }
  parse_advance(p);
  return TS_OK;
}

// Types of outputs are those of the operands of `return`; what the signature says is compared with them.
static ts_status parse_outputs(parser *p, ir_function *f, type_list *types) {
  TS_TRY(parse_expect(p, "->"));
  TS_TRY(parse_expect(p, "("));
  while (!parse_is(p, ")")) {
    ts_sym name;
    const ir_type *t = NULL;
    if (f->outputs.count) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_name(p, "the name of an output", &name));
    if (parse_accept(p, ":")) TS_TRY(parse_type(p, &t));
    ts_vec_push(p->m->arena, &f->outputs, name);
    ts_vec_push(p->m->arena, types, t);
  }
  parse_advance(p);
  return TS_OK;
}

static ts_status parse_advances(parser *p, ir_function *f) {
  if (!parse_accept(p, "advances")) return TS_OK;
  TS_TRY(parse_expect(p, "("));
  do {
    ts_sym state, by = NULL;
    TS_TRY(parse_name(p, "the name of a state", &state));
    if (parse_accept(p, "by")) TS_TRY(parse_name(p, "the name of a dim", &by));
    ts_vec_push(p->m->arena, &f->advances, state);
    ts_vec_push(p->m->arena, &f->advance_by, by);
  } while (parse_accept(p, ","));
  return parse_expect(p, ")");
}

static ts_status parse_function(parser *p, ts_loc loc, ir_function **out) {
  ir_function *f = ts_new(p->m->arena, ir_function);
  type_list types = {0};
  size_t mark = p->undo.count;
  *f = (ir_function){.loc = loc, .body = ir_region_create(p->m, NULL)};
  TS_TRY(parse_symbol_name(p, "the name of a function", &f->name));
  TS_TRY(parse_inputs(p, f));
  TS_TRY(parse_outputs(p, f, &types));
  TS_TRY(parse_advances(p, f));
  TS_TRY(parse_expect(p, "{"));
  TS_TRY(parse_loc(p, &f->loc));
  TS_TRY(parse_ops(p, f->body));
  close_scope(p, mark);
  const ir_op *last = f->body->last;
  if (!last || last->code != IR_OP_ret || last->operand_count != f->outputs.count)
    return ts_report(p->m->diags, loc, &diag_ir_structure, "function '%s' must end in a return of its %zu outputs", f->name,
                     f->outputs.count);
  for (size_t i = 0; i < types.count; i++)
    if (types.data[i] && types.data[i] != last->operands[i]->type)
      return ts_report(p->m->diags, last->loc, &diag_ir_type, "output '%s' has another type than its declaration",
                       f->outputs.data[i]);
  *out = f;
  return TS_OK;
}

typedef struct found {   // added to the module when everything parsed
  TS_VEC(ir_function *) functions;
  TS_VEC(ir_kernel *) kernels;
  ts_sym name;
} found;

static ts_status parse_items(parser *p, found *f) {
  while (p->t.kind != TOKEN_END) {
    ts_loc loc = parse_here(p);
    p->depth = 0;
    if (parse_accept(p, "module")) {
      TS_TRY(parse_symbol_name(p, "the name of a module", &f->name));
    } else if (parse_accept(p, "dim")) {
      TS_TRY(parse_dim(p, loc));
    } else if (parse_accept(p, "size")) {
      TS_TRY(parse_symbol(p));
    } else if (parse_accept(p, "state")) {
      TS_TRY(parse_state(p, loc));
    } else if (parse_accept(p, "weight")) {
      TS_TRY(parse_weight(p, loc));
    } else if (parse_accept(p, "func")) {
      ir_function *fn;
      TS_TRY(parse_function(p, loc, &fn));
      ts_vec_push(p->m->arena, &f->functions, fn);
    } else if (parse_accept(p, "kernel")) {
      ir_kernel *k;
      TS_TRY(parse_kernel(p, loc, &k));
      ts_vec_push(p->m->arena, &f->kernels, k);
    } else {
      return parse_expected(p, "module, dim, size, state, weight, func or kernel");
    }
  }
  return TS_OK;
}

ts_status ir_parse_module(ir_module *m, ts_sym file, ts_str text) {
  parser p;
  found f = {0};
  size_t dims = m->dims.count, states = m->states.count, weights = m->weights.count;
  parse_begin(&p, m, file, text);
  ts_status status = parse_items(&p, &f);
  parse_end(&p);
  if (status != TS_OK) {
    m->dims.count = dims;
    m->states.count = states;
    m->weights.count = weights;
    return status;
  }
  if (f.name) m->name = f.name;
  for (size_t i = 0; i < f.functions.count; i++) ts_vec_push(m->arena, &m->functions, f.functions.data[i]);
  for (size_t i = 0; i < f.kernels.count; i++) ts_vec_push(m->arena, &m->kernels, f.kernels.data[i]);
  return TS_OK;
}
