// Printer of the IR's text form (grammar: docs/ir.md; parser: parse.c).
//
// One printer serves every op: operands, attributes, regions and result types come from the op's row in ops.def. The only special
// forms are derived from that row: an operand of memory type in an op with `at` is followed by its indices in brackets; an `fn`
// attribute is printed infix; an op that takes no operands prints its only attribute bare; and an unnamed i64 constant is printed
// as a number where it is used.
//
// The text is canonical: value names are made unique in order of appearance, unnamed values are numbered in that order, symbols
// are declared in order of first use, attributes follow the order of the table. So the text of a parsed text is the same text.
#include "ir/text.h"

#include "ir/layout.h"

typedef struct printer {
  const ir_module *m;
  ts_text *out;
  bool locations;
  bool anonymous;        // for hashing: names of values, parts and parameters don't count
  const ir_part *part;   // whose axes may be printed without their extent
  ts_arena scratch;
  ts_interner interner;
  ts_map names;          // value -> name as printed
  ts_map taken;          // names of values in use
  uint32_t numbered;
} printer;

static void printer_init(printer *p, const ir_module *m, ts_text *out) {
  *p = (printer){.m = m, .out = out};
  ts_arena_init(&p->scratch);
  ts_interner_init(&p->interner, &p->scratch);
}

static void printer_deinit(printer *p) {
  ts_map_deinit(&p->names);
  ts_map_deinit(&p->taken);
  ts_interner_deinit(&p->interner);
  ts_arena_deinit(&p->scratch);
}

// ---- names ---------------------------------------------------------------------------------------------------------------
static bool name_char(char c, bool first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && ((c >= '0' && c <= '9') || c == '.'));
}

bool ir_text_is_name(ts_str s) {
  for (size_t i = 0; i < s.len; i++)
    if (!name_char(s.data[i], i == 0)) return false;
  return s.len > 0;
}

// A quoted string. Bytes that are no UTF-8 become U+FFFD itself, not its escape, so that printing again changes nothing.
void ir_text_string(ts_text *out, ts_sym s) {
  ts_text t = {0};
  ts_text_json(&t, ts_str_of(s));
  for (size_t i = 0; i < t.len; i++) {
    if (t.data[i] == '\\' && strncmp(t.data + i, "\\ufffd", 6) == 0) {
      ts_text_puts(out, "\xEF\xBF\xBD");
      i += 5;
      continue;
    }
    ts_text_putc(out, t.data[i]);
    if (t.data[i] == '\\') ts_text_putc(out, t.data[++i]);
  }
  ts_text_deinit(&t);
}

void ir_text_name(ts_text *out, ts_sym name) {
  ts_str s = ts_str_of(name);
  if (ir_text_is_name(s)) ts_text_add(out, s);
  else ir_text_string(out, name);
}

// An i64 constant without a name is printed where it is used.
static bool is_literal(const printer *p, const ir_value *v) {
  const ir_op *op = v->producer;
  return op && op->code == IR_OP_const && (p->anonymous || !v->name) && op->attr_count == 1 && op->attrs[0].kind == IR_ATTR_INT &&
         strcmp(op->attrs[0].name, "int") == 0 && v->type->kind == IR_TYPE_TILE && v->type->dtype == IR_i64 &&
         v->type->rank == 0 && !v->type->lanes && !v->type->layout && op->operand_count == 0 && op->result_count == 1;
}

static void name_value(printer *p, const ir_value *v) {
  if (is_literal(p, v) || ts_map_get(&p->names, ts_key(v))) return;
  ts_text t = {0};
  if (!v->name || p->anonymous) {
    ts_text_printf(&t, "%u", p->numbered++);
  } else {
    for (unsigned k = 0;; k++) {
      ts_text_clear(&t);
      ts_text_puts(&t, v->name);
      if (k) ts_text_printf(&t, ".%u", k);
      ts_sym s = ts_intern(&p->interner, ts_text_str(&t));
      if (ts_map_get(&p->taken, ts_key(s))) continue;
      ts_map_put(&p->taken, ts_key(s), p);
      break;
    }
    char *plain = ts_arena_strdup(&p->scratch, ts_text_z(&t));
    ts_text_clear(&t);
    ir_text_name(&t, plain);
  }
  ts_map_put(&p->names, ts_key(v), ts_arena_strdup(&p->scratch, ts_text_z(&t)));
  ts_text_deinit(&t);
}

static void name_region(printer *p, const ir_region *r) {
  if (!r) return;
  for (uint32_t i = 0; i < r->param_count; i++) name_value(p, r->params[i]);
  for (const ir_op *op = r->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->result_count; i++) name_value(p, op->results[i]);
    for (uint32_t i = 0; i < op->region_count; i++) name_region(p, op->regions[i]);
  }
}

static void print_value(printer *p, const ir_value *v) {
  if (!v) {
    ts_text_puts(p->out, "%<null>");
    return;
  }
  if (is_literal(p, v)) {
    ts_text_printf(p->out, "%lld", (long long)v->producer->attrs[0].integer);
    return;
  }
  const char *name = ts_map_get(&p->names, ts_key(v));
  ts_text_printf(p->out, "%%%s", name ? name : "<foreign>");
}

// ---- types ---------------------------------------------------------------------------------------------------------------
// Prints "name" alone where the part has an axis of that name and extent.
static void print_tile_dims(const ir_type *t, const ir_part *part, ts_text *out) {
  for (unsigned i = 0; i < t->rank; i++) {
    ts_text_puts(out, i ? ", " : "[");
    ir_text_name(out, t->axes[i]);
    bool whole = false;
    for (size_t k = 0; part && k < part->axes.count; k++)
      whole |= part->axes.data[k].name == t->axes[i] && part->axes.data[k].size == t->shape[i];
    if (whole) continue;
    ts_text_puts(out, ": ");
    ir_size_print(t->shape[i], out);
  }
  if (t->rank) ts_text_putc(out, ']');
  if (t->lanes) {
    ts_text_puts(out, " lanes ");
    ir_text_name(out, t->lanes);
  }
  if (!t->layout) return;
  ts_text_puts(out, " layout(");
  ir_layout_print(t->layout, out);
  ts_text_putc(out, ')');
}

static void print_type(const ir_type *t, const ir_part *part, ts_text *out) {
  static const char *const wrap[] = {[IR_TYPE_TENSOR] = "tensor<", [IR_TYPE_MEM] = "mem<"};
  switch (t->kind) {
    case IR_TYPE_TILE:
      ts_text_puts(out, ir_dtype_name(t->dtype));
      print_tile_dims(t, part, out);
      return;
    case IR_TYPE_TOKEN: ts_text_puts(out, "token"); return;
    case IR_TYPE_STATE:
      ts_text_puts(out, "state<");
      ir_text_name(out, t->state->name);
      ts_text_putc(out, '>');
      return;
    case IR_TYPE_TENSOR:
    case IR_TYPE_MEM: break;
  }
  ts_text_puts(out, t->kind == IR_TYPE_MEM && t->space == IR_SPACE_PANEL ? "panel<" : wrap[t->kind]);
  ts_text_puts(out, ir_dtype_name(t->dtype));
  for (unsigned i = 0; i < t->rank; i++) {
    ts_text_puts(out, i ? ", " : "[");
    ir_size_print(t->shape[i], out);
  }
  if (t->rank) ts_text_putc(out, ']');
  if (t->encoding) {
    ts_text_puts(out, " as ");
    ir_text_name(out, ir_text_encoding_name(t->encoding));
  }
  for (unsigned i = 0; t->strides && i < t->rank; i++)
    ts_text_printf(out, "%s%lld", i ? ", " : " strides [", (long long)t->strides[i]);
  ts_text_puts(out, t->strides ? "]>" : ">");
}

void ir_print_type(const ir_type *t, ts_text *out) { print_type(t, NULL, out); }

// ---- functions of apply --------------------------------------------------------------------------------------------------
// Binding strength of infix operators, loosest first; 0: not infix. Comparisons do not chain.
int ir_text_precedence(ir_scalar s) {
  switch (s) {
    case IR_SCALAR_eq: case IR_SCALAR_ne: case IR_SCALAR_lt: case IR_SCALAR_le: case IR_SCALAR_gt: case IR_SCALAR_ge: return 1;
    case IR_SCALAR_or: return 2;
    case IR_SCALAR_xor: return 3;
    case IR_SCALAR_and: return 4;
    case IR_SCALAR_shl: case IR_SCALAR_shr: return 5;
    case IR_SCALAR_add: case IR_SCALAR_sub: return 6;
    case IR_SCALAR_mul: case IR_SCALAR_div: case IR_SCALAR_rem: return 7;
    default: return 0;
  }
}
enum { PRECEDENCE_UNARY = 8 };

void ir_text_param_name(uint32_t index, char out[16]) {
  if (index < 26) snprintf(out, 16, "%c", 'a' + (char)index);
  else snprintf(out, 16, "p%u", index);
}

typedef struct fn_printer {
  const ir_fn *f;
  ts_text *out;
  uint32_t *let;   // node -> 1 + number of its binding; 0: printed in place
} fn_printer;

static void print_const(const ir_expr *e, bool typed, ts_text *out) {
  if (e->type == IR_i1) {
    ts_text_puts(out, e->integer ? "true" : "false");
    return;
  }
  if (ir_is_float(e->type)) ts_text_real(out, e->real, e->type != IR_f64);
  else ts_text_printf(out, "%lld", (long long)e->integer);
  if (typed) ts_text_printf(out, ":%s", ir_dtype_name(e->type));
}

// `typed`: nothing around a constant says its type.
static void print_node(fn_printer *p, uint32_t node, int outer, bool typed);

static void print_args(fn_printer *p, const ir_expr *e) {
  const ir_scalar_info *info = ir_scalar_get(e->op);
  bool lonely = true;   // no argument of the group that shares a type says which
  for (unsigned k = info->rule == IR_RULE_PICK; k < info->arity; k++) lonely &= p->f->nodes[e->args[k]].op == IR_SCALAR_CONST;
  int level = ir_text_precedence(e->op);
  if (level) {
    // Left-associative: the right argument is bracketed at the same level, and both sides of a comparison are.
    print_node(p, e->args[0], level == 1 ? 2 : level, lonely);
    ts_text_printf(p->out, " %s ", info->syntax);
    print_node(p, e->args[1], level + 1, false);
    return;
  }
  for (unsigned k = 0; k < info->arity; k++) {
    if (k) ts_text_puts(p->out, ", ");
    bool first = k == (info->rule == IR_RULE_PICK);
    print_node(p, e->args[k], 0, info->rule == IR_RULE_CAST || (lonely && first));
  }
}

static void print_body(fn_printer *p, const ir_expr *e, int outer) {
  const ir_scalar_info *info = ir_scalar_get(e->op);
  int level = ir_text_precedence(e->op);
  if (level) {
    if (level < outer) ts_text_putc(p->out, '(');
    print_args(p, e);
    if (level < outer) ts_text_putc(p->out, ')');
  } else if (e->op == IR_SCALAR_neg) {
    bool number = p->f->nodes[e->args[0]].op == IR_SCALAR_CONST;   // -(1.0) is an operation, -1.0 a constant
    ts_text_puts(p->out, number ? "-(" : "-");
    print_node(p, e->args[0], PRECEDENCE_UNARY + 1, true);
    if (number) ts_text_putc(p->out, ')');
  } else {
    if (e->op == IR_SCALAR_cast) ts_text_puts(p->out, ir_dtype_name(e->type));
    else if (e->op == IR_SCALAR_bits) ts_text_printf(p->out, "bits.%s", ir_dtype_name(e->type));
    else ts_text_puts(p->out, info->name);
    ts_text_putc(p->out, '(');
    print_args(p, e);
    ts_text_putc(p->out, ')');
  }
}

static void print_node(fn_printer *p, uint32_t node, int outer, bool typed) {
  const ir_expr *e = &p->f->nodes[node];
  char name[16];
  if (e->op == IR_SCALAR_PARAM) {
    ir_text_param_name(e->index, name);
    ts_text_puts(p->out, name);
  } else if (e->op == IR_SCALAR_CONST) {
    print_const(e, typed, p->out);
  } else if (p->let[node]) {
    ts_text_printf(p->out, "t%u", p->let[node] - 1);
  } else {
    print_body(p, e, outer);
  }
}

void ir_print_fn(const ir_fn *f, ts_text *out) {
  ts_arena a;
  ts_arena_init(&a);
  fn_printer p = {f, out, ts_new_array(&a, uint32_t, f->count)};
  uint32_t *uses = ts_new_array(&a, uint32_t, f->count), *depth = ts_new_array(&a, uint32_t, f->count), lets = 0;
  for (uint32_t i = 0; i < f->count; i++)
    for (unsigned k = 0; k < ir_scalar_get(f->nodes[i].op)->arity; k++) uses[f->nodes[i].args[k]]++;
  for (uint32_t i = 0; i < f->results; i++) uses[f->outputs[i]]++;
  for (uint32_t i = 0; i < f->params; i++) {
    char name[16];
    ir_text_param_name(i, name);
    ts_text_printf(out, "%s%s", i ? ", " : "(", name);
  }
  ts_text_puts(out, f->params ? ") -> " : "() -> ");
  for (uint32_t i = 0; i < f->count; i++) {
    const ir_expr *e = &f->nodes[i];
    if (e->op == IR_SCALAR_PARAM || e->op == IR_SCALAR_CONST) continue;
    for (unsigned k = 0; k < ir_scalar_get(e->op)->arity; k++)
      if (depth[e->args[k]] >= depth[i]) depth[i] = depth[e->args[k]] + 1;
    // Shared nodes are bound to a name, and so is every level of a deep expression that would nest too far to read (or to parse).
    if (uses[i] < 2 && depth[i] < IR_TEXT_FN_DEPTH) continue;
    depth[i] = 0;
    ts_text_printf(out, "t%u = ", lets);
    print_body(&p, e, 0);
    ts_text_puts(out, "; ");
    p.let[i] = ++lets;
  }
  for (uint32_t i = 0; i < f->results; i++) {
    if (i) ts_text_puts(out, ", ");
    print_node(&p, f->outputs[i], 0, true);
  }
  ts_arena_deinit(&a);
}

// ---- attributes ----------------------------------------------------------------------------------------------------------
static void print_attr_value(const ir_attr *a, ts_text *out) {
  switch (a->kind) {
    case IR_ATTR_INT: ts_text_printf(out, "%lld", (long long)a->integer); return;
    case IR_ATTR_REAL: ts_text_real(out, a->real, false); return;
    case IR_ATTR_SYM: ir_text_name(out, a->sym); return;
    case IR_ATTR_TEXT: ir_text_string(out, a->sym); return;
    case IR_ATTR_DTYPE: ts_text_puts(out, ir_dtype_name(a->dtype)); return;
    case IR_ATTR_SIZE: ir_size_print(a->size, out); return;
    case IR_ATTR_FN:
      ts_text_putc(out, '{');
      ir_print_fn(a->fn, out);
      ts_text_putc(out, '}');
      return;
    case IR_ATTR_AXES:
      ts_text_putc(out, '[');
      for (uint32_t i = 0; i < a->axes.count; i++) {
        if (i) ts_text_puts(out, ", ");
        ir_text_name(out, a->axes.data[i]);
      }
      ts_text_putc(out, ']');
      return;
    case IR_ATTR_INTS:
      ts_text_putc(out, '[');
      for (uint32_t i = 0; i < a->ints.count; i++) ts_text_printf(out, i ? ", %lld" : "%lld", (long long)a->ints.data[i]);
      ts_text_putc(out, ']');
      return;
  }
}

bool ir_text_declared(const char **row, ir_text_attr *out) {
  static const char *const kinds[] = {"int", "real", "sym", "dtype", "fn", "axes", "ints", "size", "text"};
  const char *s = *row;
  while (*s == ' ') s++;
  const char *colon = strchr(s, ':');
  if (!colon) return false;
  const char *end = colon + 1;
  while (*end && *end != ' ') end++;
  *row = end;
  out->optional = end[-1] == '?';
  out->name = (ts_str){s, (size_t)(colon - s)};
  ts_str kind = {colon + 1, (size_t)(end - colon - 1) - out->optional};
  for (int i = 0; i < (int)(sizeof kinds / sizeof *kinds); i++)
    if (ts_str_is(kind, kinds[i])) out->kind = (ir_attr_kind)i;
  return true;
}

// Attributes in the order of the op's row, then those that it does not declare. Calls print for all but `skip`.
static void print_attrs(printer *p, const ir_op *op, const ir_attr *skip) {
  bool any = false;
  bool *done = ts_new_array(&p->scratch, bool, op->attr_count);
  const char *row = ir_op_get(op->code)->attrs;
  ir_text_attr declared;
  for (bool more = true; more;) {
    more = ir_text_declared(&row, &declared);
    for (uint32_t i = 0; i < op->attr_count; i++) {
      const ir_attr *a = &op->attrs[i];
      if (done[i] || a == skip || (more && !ts_str_is(declared.name, a->name))) continue;
      done[i] = true;
      ts_text_puts(p->out, any ? ", " : " {");
      ir_text_name(p->out, a->name);
      ts_text_putc(p->out, '=');
      print_attr_value(a, p->out);
      any = true;
    }
  }
  if (any) ts_text_putc(p->out, '}');
}

// ---- operations ----------------------------------------------------------------------------------------------------------
static void print_region(printer *p, const ir_region *r, unsigned indent);

static void print_loc(printer *p, ts_loc loc) {
  if (!p->locations) return;
  if (!loc.file) {
    ts_text_puts(p->out, " loc(?)");
    return;
  }
  ts_text_puts(p->out, " loc(");
  ir_text_string(p->out, loc.file);
  if (loc.line || !loc.offset) ts_text_printf(p->out, ":%u:%u)", loc.line, loc.col);
  else ts_text_printf(p->out, "+%llu)", (unsigned long long)loc.offset);
}

static void print_operands(printer *p, const ir_op *op, bool parentheses) {
  bool indexed = ir_text_is_indexed(op->code);
  ts_text_puts(p->out, parentheses ? "(" : op->operand_count ? " " : "");
  for (uint32_t i = 0; i < op->operand_count; i++) {
    if (i) ts_text_puts(p->out, ", ");
    const ir_value *v = op->operands[i];
    print_value(p, v);
    if (!indexed || !v || v->type->kind != IR_TYPE_MEM) continue;
    ts_text_putc(p->out, '[');
    for (unsigned d = 0; d < v->type->rank && i + 1 < op->operand_count; d++) {
      if (d) ts_text_puts(p->out, ", ");
      print_value(p, op->operands[++i]);
    }
    ts_text_putc(p->out, ']');
  }
  if (parentheses) ts_text_putc(p->out, ')');
}

static void print_op(printer *p, const ir_op *op, unsigned indent) {
  const ir_op_info *info = ir_op_get(op->code);
  if (op->result_count == 1 && is_literal(p, op->results[0])) return;
  ts_text_indent(p->out, indent);
  for (uint32_t i = 0; i < op->result_count; i++) {
    if (i) ts_text_puts(p->out, ", ");
    print_value(p, op->results[i]);
  }
  ts_text_printf(p->out, "%s%s", op->result_count ? " = " : "", info->name);
  const ir_attr *special = NULL;
  for (uint32_t i = 0; i < op->attr_count; i++)
    if (op->attrs[i].kind == IR_ATTR_FN && ir_text_takes_fn(op->code)) special = &op->attrs[i];
  if (special) {
    print_operands(p, op, true);
    ts_text_puts(p->out, " { ");
    ir_print_fn(special->fn, p->out);
    ts_text_puts(p->out, " }");
  } else if (info->operands_max == 0 && op->attr_count == 1 &&
             ir_text_bare_attr(op->code, op->attrs[0].name, op->attrs[0].kind)) {
    special = &op->attrs[0];
    ts_text_putc(p->out, ' ');
    print_attr_value(special, p->out);
  } else {
    print_operands(p, op, false);
  }
  print_attrs(p, op, special);
  for (uint32_t i = 0; i < op->region_count; i++) {
    ts_text_puts(p->out, i ? " else" : " do");
    print_region(p, op->regions[i], indent);
  }
  for (uint32_t i = 0; i < op->result_count; i++) {
    ts_text_puts(p->out, i ? ", " : " : ");
    print_type(op->results[i]->type, p->part, p->out);
  }
  print_loc(p, op->loc);
  ts_text_putc(p->out, '\n');
}

static void print_region(printer *p, const ir_region *r, unsigned indent) {
  for (uint32_t i = 0; i < r->param_count; i++) {
    ts_text_puts(p->out, i ? ", " : " (");
    print_value(p, r->params[i]);
    ts_text_puts(p->out, ": ");
    print_type(r->params[i]->type, p->part, p->out);
  }
  if (r->param_count) ts_text_putc(p->out, ')');
  ts_text_puts(p->out, " {");
  if (r->first) {
    ts_text_putc(p->out, '\n');
    for (const ir_op *op = r->first; op; op = op->next) print_op(p, op, indent + 2);
    ts_text_indent(p->out, indent);
  }
  ts_text_putc(p->out, '}');
}

// ---- symbols -------------------------------------------------------------------------------------------------------------
typedef struct symbols {
  printer *p;
  ts_map seen;
  TS_VEC(const ir_size *) list;
} symbols;

static void add_symbol(void *user, const ir_size *s) {
  symbols *c = user;
  if (ts_map_get(&c->seen, ts_key(s))) return;
  ts_map_put(&c->seen, ts_key(s), c);
  ts_vec_push(&c->p->scratch, &c->list, s);
}

static void collect_size(symbols *c, const ir_size *s) {
  if (s) ir_size_symbols(s, add_symbol, c);
}

static void collect_type(symbols *c, const ir_type *t) {
  for (unsigned i = 0; t && t->shape && i < t->rank; i++) collect_size(c, t->shape[i]);
}

static void collect_attrs(symbols *c, const ir_attr *attrs, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (attrs[i].kind == IR_ATTR_SIZE) collect_size(c, attrs[i].size);
}

static void collect_region(symbols *c, const ir_region *r) {
  if (!r) return;
  for (uint32_t i = 0; i < r->param_count; i++) collect_type(c, r->params[i]->type);
  for (const ir_op *op = r->first; op; op = op->next) {
    collect_attrs(c, op->attrs, op->attr_count);
    for (uint32_t i = 0; i < op->region_count; i++) collect_region(c, op->regions[i]);
    for (uint32_t i = 0; i < op->result_count; i++) collect_type(c, op->results[i]->type);
  }
}

static void print_bounds(const ir_size *s, ts_text *out) {
  ts_text_printf(out, " %lld..%lld", (long long)s->lo, (long long)s->hi);
  if (s->step > 1) ts_text_printf(out, " step %lld", (long long)s->step);
}

static void print_symbol(printer *p, const ir_size *s, unsigned indent) {
  ts_text_indent(p->out, indent);
  ts_text_printf(p->out, "size %s", s->name);
  print_bounds(s, p->out);
  if (s->klass == IR_SIZE_DEVICE) ts_text_puts(p->out, " device");
  if (s->klass == IR_SIZE_STATIC) ts_text_puts(p->out, " static");
  ts_text_putc(p->out, '\n');
}

static void print_symbols(symbols *c, unsigned indent) {
  for (size_t i = 0; i < c->list.count; i++) print_symbol(c->p, c->list.data[i], indent);
  ts_map_deinit(&c->seen);
}

// ---- kernels -------------------------------------------------------------------------------------------------------------
static void print_part_region(printer *p, const char *name, const ir_region *r) {
  if (!r || (!r->first && !r->param_count)) return;
  ts_text_printf(p->out, "    %s", name);
  print_region(p, r, 4);
  ts_text_putc(p->out, '\n');
}

static void print_part(printer *p, const ir_part *part) {
  ts_text_puts(p->out, "  part ");
  if (part->name && !p->anonymous) {
    ts_text_putc(p->out, '@');
    ir_text_name(p->out, part->name);
    ts_text_putc(p->out, ' ');
  }
  ts_text_printf(p->out, "%s axes(", ir_family_name(part->family));
  for (size_t i = 0; i < part->axes.count; i++) {
    const ir_axis *a = &part->axes.data[i];
    if (i) ts_text_puts(p->out, ", ");
    ir_text_name(p->out, a->name);
    ts_text_puts(p->out, a->kind == IR_AXIS_RED ? ": red " : ": par ");
    ir_size_print(a->size, p->out);
  }
  ts_text_puts(p->out, ") {\n");
  p->part = part;
  print_part_region(p, "init", part->init);
  print_part_region(p, "update", part->update);
  print_part_region(p, "finish", part->finish);
  p->part = NULL;
  ts_text_puts(p->out, "  }\n");
}

static void print_kernel_head(printer *p, const ir_kernel *k) {
  ts_text_puts(p->out, "kernel @");
  if (p->anonymous) ts_text_puts(p->out, "_");
  else ir_text_name(p->out, k->name);
  if (k->stage == IR_STAGE_P) {
    ts_text_puts(p->out, " portable");
    return;
  }
  static const char *const classes[] = {[IR_CLASS_NOTARGET] = "", [IR_CLASS_HOST] = " host", [IR_CLASS_CUDA] = " cuda"};
  ts_text_printf(p->out, " scheduled%s", classes[k->target_class]);
  if (k->target) {
    ts_text_puts(p->out, " target(");
    ir_text_name(p->out, k->target);
    ts_text_putc(p->out, ')');
  }
  ts_text_puts(p->out, " grid(");
  for (int i = 0; i < 3; i++) {
    if (i) ts_text_puts(p->out, ", ");
    if (k->grid[i]) ir_size_print(k->grid[i], p->out);
    else ts_text_putc(p->out, '1');
  }
  ts_text_putc(p->out, ')');
  if (k->warps) ts_text_printf(p->out, " warps(%d)", k->warps);
}

static void collect_kernel(symbols *c, const ir_kernel *k) {
  for (size_t i = 0; i < k->params.count; i++) collect_type(c, k->params.data[i].value->type);
  for (int i = 0; i < 3; i++) collect_size(c, k->grid[i]);
  collect_attrs(c, k->notes.data, k->notes.count);
  for (size_t i = 0; i < k->parts.count; i++) {
    const ir_part *part = &k->parts.data[i];
    for (size_t a = 0; a < part->axes.count; a++) collect_size(c, part->axes.data[a].size);
    collect_region(c, part->init);
    collect_region(c, part->update);
    collect_region(c, part->finish);
  }
  collect_region(c, k->body);
}

static void print_kernel(printer *p, const ir_kernel *k) {
  static const char *const roles[] = {[IR_PARAM_IN] = "in", [IR_PARAM_OUT] = "out", [IR_PARAM_INOUT] = "inout"};
  print_kernel_head(p, k);
  ts_text_puts(p->out, " {");
  print_loc(p, k->loc);
  ts_text_putc(p->out, '\n');
  symbols c = {.p = p};
  collect_kernel(&c, k);
  print_symbols(&c, 2);
  for (size_t i = 0; i < k->params.count; i++) name_value(p, k->params.data[i].value);
  for (size_t i = 0; i < k->parts.count; i++) {
    name_region(p, k->parts.data[i].init);
    name_region(p, k->parts.data[i].update);
    name_region(p, k->parts.data[i].finish);
  }
  name_region(p, k->body);
  for (size_t i = 0; i < k->params.count; i++) {
    ts_text_printf(p->out, "  %s ", roles[k->params.data[i].role]);
    print_value(p, k->params.data[i].value);
    ts_text_puts(p->out, ": ");
    print_type(k->params.data[i].value->type, NULL, p->out);
    ts_text_putc(p->out, '\n');
  }
  for (size_t i = 0; i < k->notes.count && !p->anonymous; i++) {
    ts_text_puts(p->out, "  note ");
    ir_text_name(p->out, k->notes.data[i].name);
    ts_text_puts(p->out, " = ");
    bool size = k->notes.data[i].kind == IR_ATTR_SIZE;
    if (size) ts_text_puts(p->out, "size(");
    print_attr_value(&k->notes.data[i], p->out);
    if (size) ts_text_putc(p->out, ')');
    ts_text_putc(p->out, '\n');
  }
  for (size_t i = 0; i < k->parts.count; i++) print_part(p, &k->parts.data[i]);
  if (k->stage == IR_STAGE_S && k->body) {
    ts_text_puts(p->out, "  body");
    print_region(p, k->body, 2);
    ts_text_putc(p->out, '\n');
  }
  ts_text_puts(p->out, "}\n");
}

void ir_print_kernel(const ir_module *m, const ir_kernel *k, bool locations, ts_text *out) {
  printer p;
  printer_init(&p, m, out);
  p.locations = locations;
  print_kernel(&p, k);
  printer_deinit(&p);
}

// FNV-1a with a final mix: stable across machines and runs, as it goes into caches and artifacts.
uint64_t ir_kernel_hash(const ir_module *m, const ir_kernel *k) {
  ts_text t = {0};
  printer p;
  printer_init(&p, m, &t);
  p.anonymous = true;
  print_kernel(&p, k);
  printer_deinit(&p);
  uint64_t h = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < t.len; i++) h = (h ^ (unsigned char)t.data[i]) * UINT64_C(0x100000001b3);
  ts_text_deinit(&t);
  h ^= h >> 32;
  h *= UINT64_C(0xd6e8feb86659fd93);
  return h ^ h >> 32;
}

// ---- functions and modules -----------------------------------------------------------------------------------------------
static void print_function(printer *p, const ir_function *f) {
  for (size_t i = 0; i < f->inputs.count; i++) name_value(p, f->inputs.data[i]);
  name_region(p, f->body);
  ts_text_puts(p->out, "func @");
  ir_text_name(p->out, f->name);
  ts_text_putc(p->out, '(');
  for (size_t i = 0; i < f->inputs.count; i++) {
    if (i) ts_text_puts(p->out, ", ");
    print_value(p, f->inputs.data[i]);
    ts_text_puts(p->out, ": ");
    print_type(f->inputs.data[i]->type, NULL, p->out);
  }
  ts_text_puts(p->out, ") -> (");
  const ir_op *last = f->body ? f->body->last : NULL;
  for (size_t i = 0; i < f->outputs.count; i++) {
    if (i) ts_text_puts(p->out, ", ");
    ir_text_name(p->out, f->outputs.data[i]);
    if (!last || last->code != IR_OP_ret || i >= last->operand_count) continue;
    ts_text_puts(p->out, ": ");
    print_type(last->operands[i]->type, NULL, p->out);
  }
  ts_text_putc(p->out, ')');
  for (size_t i = 0; i < f->advances.count; i++) {
    ts_text_puts(p->out, i ? ", " : " advances(");
    ir_text_name(p->out, f->advances.data[i]);
    if (i < f->advance_by.count && f->advance_by.data[i]) {
      ts_text_puts(p->out, " by ");
      ir_text_name(p->out, f->advance_by.data[i]);
    }
  }
  ts_text_puts(p->out, f->advances.count ? ") {" : " {");
  print_loc(p, f->loc);
  ts_text_putc(p->out, '\n');
  for (const ir_op *op = f->body ? f->body->first : NULL; op; op = op->next) print_op(p, op, 2);
  ts_text_puts(p->out, "}\n");
}

void ir_print_function(const ir_module *m, const ir_function *f, ts_text *out) {
  printer p;
  printer_init(&p, m, out);
  print_function(&p, f);
  printer_deinit(&p);
}

static void print_dim(printer *p, const ir_dim *d) {
  ts_text_printf(p->out, "dim %s", d->size->name);
  print_bounds(d->size, p->out);
  if (d->ragged_over) {
    ts_text_puts(p->out, " per ");
    ir_text_name(p->out, d->ragged_over);
  }
  ts_text_putc(p->out, '\n');
}

static void print_state(printer *p, const ir_state *s) {
  ts_text_puts(p->out, "state @");
  ir_text_name(p->out, s->name);
  ts_text_puts(p->out, " list ");
  ir_text_name(p->out, s->list ? s->list : p->m->none);
  ts_text_puts(p->out, " length(");
  ir_size_print(s->length, p->out);
  ts_text_printf(p->out, ") page %lld {", (long long)s->page);
  for (size_t i = 0; i < s->fields.count; i++) {
    const ir_state_field *f = &s->fields.data[i];
    ts_text_puts(p->out, i ? ", " : " ");
    ir_text_name(p->out, f->name);
    ts_text_printf(p->out, ": %s", ir_dtype_name(f->dtype));
    for (unsigned d = 0; d < f->rank; d++) {
      ts_text_puts(p->out, d ? ", " : "[");
      ir_size_print(f->shape[d], p->out);
    }
    if (f->rank) ts_text_putc(p->out, ']');
  }
  ts_text_puts(p->out, s->fields.count ? " }\n" : "}\n");
}

void ir_print_module(const ir_module *m, ts_text *out) {
  printer p;
  printer_init(&p, m, out);
  if (m->name) {
    ts_text_puts(out, "module @");
    ir_text_name(out, m->name);
    ts_text_putc(out, '\n');
  }
  symbols c = {.p = &p};
  for (size_t i = 0; i < m->dims.count; i++) ts_map_put(&c.seen, ts_key(m->dims.data[i].size), &c);
  for (size_t i = 0; i < m->dims.count; i++) print_dim(&p, &m->dims.data[i]);
  for (size_t i = 0; i < m->states.count; i++) {
    const ir_state *s = m->states.data[i];
    collect_size(&c, s->length);
    for (size_t f = 0; f < s->fields.count; f++)
      for (unsigned d = 0; d < s->fields.data[f].rank; d++) collect_size(&c, s->fields.data[f].shape[d]);
  }
  for (size_t i = 0; i < m->functions.count; i++) {
    const ir_function *f = m->functions.data[i];
    for (size_t k = 0; k < f->inputs.count; k++) collect_type(&c, f->inputs.data[k]->type);
    collect_region(&c, f->body);
  }
  print_symbols(&c, 0);
  for (size_t i = 0; i < m->states.count; i++) print_state(&p, m->states.data[i]);
  for (size_t i = 0; i < m->weights.count; i++) ir_text_weight(m, m->weights.data[i], out);
  for (size_t i = 0; i < m->functions.count; i++) {
    ts_text_puts(out, out->len ? "\n" : "");
    ir_print_function(m, m->functions.data[i], out);
  }
  for (size_t i = 0; i < m->kernels.count; i++) {
    ts_text_puts(out, out->len ? "\n" : "");
    ir_print_kernel(m, m->kernels.data[i], false, out);
  }
  printer_deinit(&p);
}
