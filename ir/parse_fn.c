// Parser of scalar functions: `(a, b) -> t0 = a * b; t0 + 1.0`.
//
// Constants take the type of what they meet: in `a + 1.0` that of a. Where all operands of an operation are constants, or one
// stands alone, it says its type itself: `1.0:f32`. So a constant is pending until its neighbours are known.
#include "ir/parse.h"

#include <stdlib.h>

typedef struct operand {
  bool pending;            // a constant whose type is not known yet
  bool negative, integer;
  ts_str number;
  ts_loc loc;
  uint32_t node;
} operand;

typedef struct fn_name {
  ts_sym name;
  uint32_t node;
} fn_name;

typedef struct fn_parser {
  parser *p;
  ir_fn_builder b;
  TS_VEC(fn_name) names;
} fn_parser;

enum { MAX_PARAMS = 512, MAX_NODES = 4096 };

static ir_dtype type_of(const fn_parser *f, const operand *o) { return f->b.nodes.data[o->node].type; }

// Gives a pending constant its type.
static ts_status resolve(fn_parser *f, operand *o, ir_dtype t) {
  if (!o->pending) return TS_OK;
  ts_diags *d = f->p->m->diags;
  o->pending = false;
  char buffer[64];
  if (o->number.len >= sizeof buffer) return ts_report(d, o->loc, &diag_ir_syntax, "a number of more than 63 characters");
  memcpy(buffer, o->number.data, o->number.len);
  buffer[o->number.len] = 0;
  if (ir_is_float(t)) {
    double v = t == IR_f64 ? strtod(buffer, NULL) : strtof(buffer, NULL);
    o->node = ir_fn_real(&f->b, t, o->negative ? -v : v);
    return TS_OK;
  }
  if (!o->integer) return ts_report(d, o->loc, &diag_ir_type, "a real number where %s is needed", ir_dtype_name(t));
  uint64_t v = 0;
  for (size_t i = 0; i < o->number.len; i++)
    if (buffer[i] < '0' || buffer[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
        __builtin_add_overflow(v, (uint64_t)(buffer[i] - '0'), &v))
      return ts_report(d, o->loc, &diag_ir_syntax, "'%s' is no decimal integer of 64 bits", buffer);
  int64_t s = (int64_t)(o->negative ? 0 - v : v);
  if (v > (uint64_t)INT64_MAX + o->negative || ir_wrap(t, s) != s)
    return ts_report(d, o->loc, &diag_ir_type, "%s%s does not fit %s", o->negative ? "-" : "", buffer, ir_dtype_name(t));
  o->node = ir_fn_int(&f->b, t, s);
  return TS_OK;
}

// Resolves operands [first, count), which share one type.
static ts_status resolve_group(fn_parser *f, operand *o, unsigned first, unsigned count) {
  unsigned known = first;
  while (known < count && o[known].pending) known++;
  if (known >= count)
    return ts_report(f->p->m->diags, o[first].loc, &diag_ir_type, "nothing says the type of this constant: write it as 1.0:f32");
  ir_dtype t = type_of(f, &o[known]);
  for (unsigned k = first; k < count; k++) {
    TS_TRY(resolve(f, &o[k], t));
    if (type_of(f, &o[k]) != t)
      return ts_report(f->p->m->diags, o[k].loc, &diag_ir_type, "operands of types %s and %s: cast one, as in %s(x)",
                       ir_dtype_name(t), ir_dtype_name(type_of(f, &o[k])), ir_dtype_name(t));
  }
  return TS_OK;
}

static ts_status operation(fn_parser *f, ir_scalar op, operand *o, ts_loc loc, operand *out) {
  const ir_scalar_info *info = ir_scalar_get(op);
  unsigned first = info->rule == IR_RULE_PICK;
  if (f->b.nodes.count > MAX_NODES)
    return ts_report(f->p->m->diags, loc, &diag_ir_structure, "a function of more than %d operations", MAX_NODES);
  if (first) {
    TS_TRY(resolve(f, &o[0], IR_i1));
    if (type_of(f, &o[0]) != IR_i1)
      return ts_report(f->p->m->diags, o[0].loc, &diag_ir_type, "select needs a condition of type i1");
  }
  TS_TRY(resolve_group(f, o, first, info->arity));
  *out = (operand){.loc = loc,
                   .node = ir_fn_op(&f->b, op, o[0].node, info->arity > 1 ? o[1].node : 0, info->arity > 2 ? o[2].node : 0)};
  return TS_OK;
}

static ts_status parse_expr(fn_parser *f, int level, operand *out);

// cast and bits.
static ts_status parse_conversion(fn_parser *f, ir_scalar op, ir_dtype t, ts_loc loc, operand *out) {
  operand x;
  TS_TRY(parse_expect(f->p, "("));
  TS_TRY(parse_expr(f, 1, &x));
  TS_TRY(resolve_group(f, &x, 0, 1));
  TS_TRY(parse_expect(f->p, ")"));
  *out = (operand){.loc = loc};
  if (op == IR_SCALAR_cast) {
    out->node = ir_fn_cast(&f->b, t, x.node);
    return TS_OK;
  }
  if (ir_dtype_bits(t) != ir_dtype_bits(type_of(f, &x)))
    return ts_report(f->p->m->diags, loc, &diag_ir_type, "bits.%s of a value of %u bits", ir_dtype_name(t),
                     ir_dtype_bits(type_of(f, &x)));
  out->node = ir_fn_bits(&f->b, t, x.node);
  return TS_OK;
}

static ts_status parse_call(fn_parser *f, ts_str name, ts_loc loc, operand *out) {
  parser *p = f->p;
  ir_dtype t = ir_dtype_of_name(name);
  if (t != IR_VOID) return parse_conversion(f, IR_SCALAR_cast, t, loc, out);
  if (ts_str_starts(name, "bits.")) {
    t = ir_dtype_of_name((ts_str){name.data + 5, name.len - 5});
    if (t != IR_VOID) return parse_conversion(f, IR_SCALAR_bits, t, loc, out);
  }
  int op = ir_scalar_of_name(name);
  if (op < 0 || ir_scalar_get((ir_scalar)op)->rule == IR_RULE_CAST) {
    const char *all[IR_SCALAR_PARAM];
    for (int i = 0; i < IR_SCALAR_PARAM; i++) all[i] = ir_scalar_get((ir_scalar)i)->name;
    const char *near = ts_nearest(name, all, IR_SCALAR_PARAM);
    return ts_report(p->m->diags, loc, &diag_ir_unknown, "no scalar function is named '%.*s'%s%s", TS_FMT(name),
                     near ? "; did you mean " : "", near ? near : "");
  }
  TS_TRY(parse_expect(p, "("));
  operand o[3];
  unsigned arity = ir_scalar_get((ir_scalar)op)->arity;
  for (unsigned k = 0; k < arity; k++) {
    if (k) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_expr(f, 1, &o[k]));
  }
  TS_TRY(parse_expect(p, ")"));
  return operation(f, (ir_scalar)op, o, loc, out);
}

static ts_status parse_number(fn_parser *f, bool negative, ts_loc loc, operand *out) {
  parser *p = f->p;
  *out = (operand){
      .pending = true, .negative = negative, .integer = p->t.kind == TOKEN_INT, .number = parse_token_text(p), .loc = loc};
  parse_advance(p);
  if (!parse_accept(p, ":")) return TS_OK;
  ir_dtype t;
  TS_TRY(parse_dtype(p, &t));
  return resolve(f, out, t);
}

static bool is_number(const parser *p) {
  return p->t.kind == TOKEN_INT || p->t.kind == TOKEN_REAL || parse_is(p, "inf") || parse_is(p, "nan");
}

static ts_status parse_primary(fn_parser *f, operand *out) {
  parser *p = f->p;
  ts_loc loc = parse_here(p);
  if (is_number(p)) return parse_number(f, false, loc, out);
  if (parse_accept(p, "-")) {
    if (is_number(p)) return parse_number(f, true, loc, out);
    operand x;
    TS_TRY(parse_enter(p));
    TS_TRY(parse_primary(f, &x));
    p->depth--;
    return operation(f, IR_SCALAR_neg, &x, loc, out);
  }
  if (parse_accept(p, "(")) {
    TS_TRY(parse_expr(f, 1, out));
    return parse_expect(p, ")");
  }
  if (p->t.kind != TOKEN_NAME) return parse_expected(p, "an expression");
  ts_str name = parse_token_text(p);
  ts_sym s = ts_intern(p->m->names, name);
  parse_advance(p);
  if (parse_is(p, "(")) return parse_call(f, name, loc, out);
  *out = (operand){.loc = loc};
  if (ts_str_is(name, "true") || ts_str_is(name, "false")) {
    out->node = ir_fn_int(&f->b, IR_i1, ts_str_is(name, "true"));
    return TS_OK;
  }
  for (size_t i = f->names.count; i-- > 0;)
    if (f->names.data[i].name == s) {
      out->node = f->names.data[i].node;
      return TS_OK;
    }
  return ts_report(p->m->diags, loc, &diag_ir_unknown, "the function has no parameter or binding '%s'", s);
}

static int infix(const parser *p, int level) {
  if (p->t.kind != TOKEN_PUNCT) return -1;
  ts_str s = parse_token_text(p);
  for (int i = 0; i < IR_SCALAR_PARAM; i++)
    if (ir_text_precedence((ir_scalar)i) == level && ts_str_is(s, ir_scalar_get((ir_scalar)i)->syntax)) return i;
  return -1;
}

static ts_status parse_expr(fn_parser *f, int level, operand *out) {
  parser *p = f->p;
  if (level > 7) return parse_primary(f, out);
  if (level == 1) TS_TRY(parse_enter(p));
  TS_TRY(parse_expr(f, level + 1, out));
  for (int op; (op = infix(p, level)) >= 0;) {
    ts_loc loc = parse_here(p);
    operand o[2] = {*out};
    parse_advance(p);
    TS_TRY(parse_expr(f, level + 1, &o[1]));
    TS_TRY(operation(f, (ir_scalar)op, o, loc, out));
    if (level == 1 && infix(p, 1) >= 0)
      return ts_report(p->m->diags, parse_here(p), &diag_ir_syntax, "comparisons do not chain: use parentheses");
  }
  if (level == 1) p->depth--;
  return TS_OK;
}

static ts_status bind_name(fn_parser *f, ts_sym name, uint32_t node, ts_loc loc) {
  for (size_t i = 0; i < f->names.count; i++)
    if (f->names.data[i].name == name)
      return ts_report(f->p->m->diags, loc, &diag_ir_syntax, "'%s' is already a name of this function", name);
  ts_vec_push(f->p->m->arena, &f->names, ((fn_name){name, node}));
  return TS_OK;
}

// Is the next thing `name =`?
static bool at_binding(const parser *p) {
  if (p->t.kind != TOKEN_NAME) return false;
  size_t i = p->t.end;
  while (i < p->text.len &&
         (p->text.data[i] == ' ' || p->text.data[i] == '\t' || p->text.data[i] == '\n' || p->text.data[i] == '\r'))
    i++;
  return i + 1 < p->text.len && p->text.data[i] == '=' && p->text.data[i + 1] != '=';
}

static ts_status parse_body(fn_parser *f, uint32_t params, const ir_fn **out) {
  parser *p = f->p;
  TS_TRY(parse_expect(p, "("));
  for (uint32_t i = 0; !parse_is(p, ")"); i++) {
    ts_loc loc = parse_here(p);
    ts_sym name;
    if (i) TS_TRY(parse_expect(p, ","));
    TS_TRY(parse_name(p, "the name of a parameter", &name));
    if (i >= params)
      return ts_report(p->m->diags, loc, &diag_ir_structure, "the function has more parameters than the op has operands (%u)",
                       params);
    TS_TRY(bind_name(f, name, i, loc));
  }
  if (f->names.count != params)
    return ts_report(p->m->diags, parse_here(p), &diag_ir_structure, "the function has %zu parameters, the op %u operands",
                     f->names.count, params);
  parse_advance(p);
  TS_TRY(parse_expect(p, "->"));
  while (at_binding(p)) {
    ts_loc loc = parse_here(p);
    ts_sym name;
    operand x;
    TS_TRY(parse_name(p, "a name", &name));
    TS_TRY(parse_expect(p, "="));
    TS_TRY(parse_expr(f, 1, &x));
    TS_TRY(resolve_group(f, &x, 0, 1));
    TS_TRY(parse_expect(p, ";"));
    TS_TRY(bind_name(f, name, x.node, loc));
  }
  uint32_t outputs[64], count = 0;
  do {
    operand x;
    TS_TRY(parse_expr(f, 1, &x));
    TS_TRY(resolve_group(f, &x, 0, 1));
    if (count == 64) return ts_report(p->m->diags, x.loc, &diag_ir_structure, "a function of more than 64 results");
    outputs[count++] = x.node;
  } while (parse_accept(p, ","));
  *out = ir_fn_end(&f->b, count, outputs);
  return TS_OK;
}

ts_status parse_fn(parser *p, uint32_t params, const ir_dtype *types, const ir_fn **out) {
  if (params > MAX_PARAMS)
    return ts_report(p->m->diags, parse_here(p), &diag_ir_structure, "a function of more than %d parameters", MAX_PARAMS);
  fn_parser f = {.p = p};
  ir_fn_begin(&f.b, p->m, params, types);
  unsigned depth = p->depth;
  TS_TRY(parse_body(&f, params, out));
  p->depth = depth;
  return TS_OK;
}
