// Symbolic sizes (see size.h): evaluation, substitution, printing and parsing.
#include "base/checked.h"
#include "ir/size.h"

typedef __int128 wide;

bool ir_size_admits(const ir_size *s, int64_t v) {
  return v >= s->lo && v <= s->hi && (int64_t)(((wide)v - s->lo) % (s->step ? s->step : 1)) == 0;
}

static ts_status eval_sum(const ir_size *s, const int64_t *values, size_t count, int64_t *out) {
  wide sum = s->value;   // 64-bit terms: 2^63 of them fit
  for (uint32_t i = 0; i < s->count; i++) {
    int64_t product = s->terms[i].coef;
    for (uint32_t f = 0; f < s->terms[i].count; f++) {
      int64_t v;
      TS_TRY(ir_size_eval(s->terms[i].factors[f], values, count, &v));
      if (!ts_mul_i64(product, v, &product)) return TS_OUT_OF_RANGE;
    }
    sum += product;
  }
  if (sum < INT64_MIN || sum > INT64_MAX) return TS_OUT_OF_RANGE;
  *out = (int64_t)sum;
  return TS_OK;
}

ts_status ir_size_eval(const ir_size *s, const int64_t *values, size_t count, int64_t *out) {
  int64_t a, b;
  switch (s->op) {
    case IR_SIZE_CONST: *out = s->value; return TS_OK;
    case IR_SIZE_SYMBOL:
      if (s->index >= count || values[s->index] == IR_SIZE_UNBOUND) return TS_NOT_FOUND;
      if (!ir_size_admits(s, values[s->index])) return TS_OUT_OF_RANGE;
      *out = values[s->index];
      return TS_OK;
    case IR_SIZE_FLOORDIV:
    case IR_SIZE_MOD:
      TS_TRY(ir_size_eval(s->args[0], values, count, &a));
      TS_TRY(ir_size_eval(s->args[1], values, count, &b));
      if (b < 1) return TS_OUT_OF_RANGE;
      *out = s->op == IR_SIZE_MOD ? ts_floor_mod(a, b) : ts_floor_div(a, b);
      return TS_OK;
    case IR_SIZE_MIN:
    case IR_SIZE_MAX:
      TS_TRY(ir_size_eval(s->args[0], values, count, &a));
      for (uint32_t i = 1; i < s->count; i++) {
        TS_TRY(ir_size_eval(s->args[i], values, count, &b));
        if (s->op == IR_SIZE_MIN ? b < a : b > a) a = b;
      }
      *out = a;
      return TS_OK;
    case IR_SIZE_SUM: return eval_sum(s, values, count, out);
    case IR_SIZE_ERROR: break;
  }
  return TS_OUT_OF_RANGE;
}

const ir_size *ir_size_substitute(ir_sizes *c, const ir_size *s, const ir_size *const *with, size_t count) {
  const ir_size *r;
  switch (s->op) {
    case IR_SIZE_CONST:
    case IR_SIZE_ERROR: return s;
    case IR_SIZE_SYMBOL: return s->index < count && with[s->index] ? with[s->index] : s;
    case IR_SIZE_FLOORDIV:
    case IR_SIZE_MOD: {
      const ir_size *a = ir_size_substitute(c, s->args[0], with, count), *b = ir_size_substitute(c, s->args[1], with, count);
      return s->op == IR_SIZE_MOD ? ir_size_mod(c, a, b) : ir_size_floordiv(c, a, b);
    }
    case IR_SIZE_MIN:
    case IR_SIZE_MAX:
      r = ir_size_substitute(c, s->args[0], with, count);
      for (uint32_t i = 1; i < s->count; i++) {
        const ir_size *a = ir_size_substitute(c, s->args[i], with, count);
        r = s->op == IR_SIZE_MIN ? ir_size_min(c, r, a) : ir_size_max(c, r, a);
      }
      return r;
    case IR_SIZE_SUM: break;
  }
  r = ir_size_const(c, s->value);
  for (uint32_t i = 0; i < s->count; i++) {
    const ir_size *t = ir_size_const(c, s->terms[i].coef);
    for (uint32_t f = 0; f < s->terms[i].count; f++)
      t = ir_size_mul(c, t, ir_size_substitute(c, s->terms[i].factors[f], with, count));
    r = ir_size_add(c, r, t);
  }
  return r;
}

void ir_size_symbols(const ir_size *s, void (*fn)(void *user, const ir_size *symbol), void *user) {
  if (s->op == IR_SIZE_SYMBOL) fn(user, s);
  for (uint32_t i = 0; i < s->count; i++) {
    if (s->op != IR_SIZE_SUM) ir_size_symbols(s->args[i], fn, user);
    else
      for (uint32_t f = 0; f < s->terms[i].count; f++) ir_size_symbols(s->terms[i].factors[f], fn, user);
  }
}

// ---- printing -------------------------------------------------------------------------------------------------------------

static void print_sum(const ir_size *s, int64_t constant, ts_text *out) {
  for (uint32_t i = 0; i < s->count; i++) {
    const ir_size_term *t = &s->terms[i];
    int64_t coef = t->coef;
    if (i) ts_text_puts(out, coef < 0 ? " - " : " + ");
    else if (coef < 0) ts_text_putc(out, '-');
    if (coef < 0) coef = -coef;
    if (coef != 1) ts_text_printf(out, "%lld*", (long long)coef);
    for (uint32_t f = 0; f < t->count; f++) {
      if (f) ts_text_putc(out, '*');
      ir_size_print(t->factors[f], out);
    }
  }
  if (constant) ts_text_printf(out, constant < 0 ? " - %lld" : " + %lld", (long long)(constant < 0 ? -constant : constant));
}

void ir_size_print(const ir_size *s, ts_text *out) {
  switch (s->op) {
    case IR_SIZE_CONST: ts_text_printf(out, "%lld", (long long)s->value); return;
    case IR_SIZE_SYMBOL: ts_text_puts(out, s->name); return;
    case IR_SIZE_ERROR: ts_text_puts(out, "<error>"); return;
    case IR_SIZE_SUM: print_sum(s, s->value, out); return;
    case IR_SIZE_FLOORDIV:
      if (s->args[0]->op == IR_SIZE_SUM && s->args[1]->op == IR_SIZE_CONST && s->args[0]->value == s->args[1]->value - 1) {
        ts_text_puts(out, "ceildiv(");
        print_sum(s->args[0], 0, out);
        ts_text_printf(out, ", %lld)", (long long)s->args[1]->value);
        return;
      }
      ts_text_puts(out, "floordiv(");
      break;
    case IR_SIZE_MOD: ts_text_puts(out, "mod("); break;
    case IR_SIZE_MIN: ts_text_puts(out, "min("); break;
    case IR_SIZE_MAX: ts_text_puts(out, "max("); break;
  }
  for (uint32_t i = 0; i < s->count; i++) {
    if (i) ts_text_puts(out, ", ");
    ir_size_print(s->args[i], out);
  }
  ts_text_putc(out, ')');
}

// ---- parsing --------------------------------------------------------------------------------------------------------------

typedef struct parser {
  ir_sizes *c;
  ts_str text;
  size_t at;
  unsigned depth;
  ir_size_lookup *lookup;
  void *user;
  ts_diags *d;
  ts_loc loc;
} parser;

enum { MAX_DEPTH = 100, MAX_NAME = 200 };

static ts_loc here(const parser *p) {
  ts_loc l = p->loc;
  if (l.col) l.col += (uint32_t)p->at;
  return l;
}

static void skip_blanks(parser *p) {
  while (p->at < p->text.len && (p->text.data[p->at] == ' ' || p->text.data[p->at] == '\t' || p->text.data[p->at] == '\n'))
    p->at++;
}

static char peek(parser *p) {
  skip_blanks(p);
  return p->at < p->text.len ? p->text.data[p->at] : 0;
}

static bool take(parser *p, char c) {
  if (peek(p) != c) return false;
  p->at++;
  return true;
}

static ts_status syntax(parser *p, const char *wanted) {
  char c = peek(p);
  if (!c) return ts_report(p->d, here(p), &diag_size_syntax, "the size expression ends where %s should follow", wanted);
  return ts_report(p->d, here(p), &diag_size_syntax, "expected %s, found '%c'", wanted, c >= ' ' && c < 127 ? c : '?');
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c, bool first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && (is_digit(c) || c == '.'));
}

static ts_status parse_sum(parser *p, const ir_size **out);

typedef const ir_size *binary(ir_sizes *c, const ir_size *a, const ir_size *b);

static ts_status parse_call(parser *p, ts_str name, const ir_size **out) {
  static const struct {
    const char *name;
    binary *fn;
    bool many;
  } calls[] = {{"floordiv", ir_size_floordiv, false}, {"ceildiv", ir_size_ceildiv, false}, {"mod", ir_size_mod, false},
               {"min", ir_size_min, true}, {"max", ir_size_max, true}};
  size_t i = 0;
  while (i < sizeof calls / sizeof *calls && !ts_str_is(name, calls[i].name)) i++;
  if (i == sizeof calls / sizeof *calls)
    return ts_report(p->d, here(p), &diag_size_syntax, "'%.*s' is no function of sizes (floordiv, ceildiv, mod, min, max)",
                     TS_FMT(name));
  p->at++;   // the parenthesis
  TS_TRY(parse_sum(p, out));
  if (peek(p) != ',') return syntax(p, "','");
  for (bool more = true; more && take(p, ','); more = calls[i].many) {
    const ir_size *b;
    TS_TRY(parse_sum(p, &b));
    *out = calls[i].fn(p->c, *out, b);
  }
  return take(p, ')') ? TS_OK : syntax(p, "')'");
}

static ts_status parse_primary(parser *p, const ir_size **out) {
  char c = peek(p);
  if (take(p, '(')) {
    TS_TRY(parse_sum(p, out));
    return take(p, ')') ? TS_OK : syntax(p, "')'");
  }
  size_t from = p->at;
  if (is_digit(c)) {
    int64_t v = 0;
    for (; p->at < p->text.len && is_digit(p->text.data[p->at]); p->at++)
      if (!ts_mul_i64(v, 10, &v) || !ts_add_i64(v, p->text.data[p->at] - '0', &v))
        return ts_report(p->d, here(p), &diag_size_syntax, "the number does not fit 64 bits");
    *out = ir_size_const(p->c, v);
    return TS_OK;
  }
  if (!is_name(c, true)) return syntax(p, "a number, a name or '('");
  while (p->at < p->text.len && is_name(p->text.data[p->at], false)) p->at++;
  ts_str name = {p->text.data + from, p->at - from};
  if (name.len > MAX_NAME) return ts_report(p->d, p->loc, &diag_size_syntax, "a name is longer than %d characters", MAX_NAME);
  if (peek(p) == '(') return parse_call(p, name, out);
  *out = p->lookup ? p->lookup(p->user, name) : ir_size_find(p->c, name);
  if (*out) return TS_OK;
  p->at = from;
  return ts_report(p->d, here(p), &diag_size_unknown_name, "no size is named '%.*s' here", TS_FMT(name));
}

static ts_status parse_unary(parser *p, const ir_size **out) {
  if (p->depth >= MAX_DEPTH)
    return ts_report(p->d, here(p), &diag_size_syntax, "the size expression nests deeper than %d levels", MAX_DEPTH);
  p->depth++;
  bool negative = take(p, '-');
  TS_TRY(negative ? parse_unary(p, out) : parse_primary(p, out));
  if (negative) *out = ir_size_mul_const(p->c, *out, -1);
  p->depth--;
  return TS_OK;
}

static ts_status parse_product(parser *p, const ir_size **out) {
  TS_TRY(parse_unary(p, out));
  for (;;) {
    char c = peek(p);
    if (c != '*' && c != '/' && c != '%') return TS_OK;
    p->at++;
    const ir_size *b;
    TS_TRY(parse_unary(p, &b));
    *out = c == '*' ? ir_size_mul(p->c, *out, b) : c == '/' ? ir_size_floordiv(p->c, *out, b) : ir_size_mod(p->c, *out, b);
  }
}

static ts_status parse_sum(parser *p, const ir_size **out) {
  TS_TRY(parse_product(p, out));
  for (;;) {
    char c = peek(p);
    if (c != '+' && c != '-') return TS_OK;
    p->at++;
    const ir_size *b;
    TS_TRY(parse_product(p, &b));
    *out = c == '+' ? ir_size_add(p->c, *out, b) : ir_size_sub(p->c, *out, b);
  }
}

ts_status ir_size_parse(ir_sizes *c, ts_str text, ir_size_lookup *lookup, void *user, ts_diags *d, ts_loc loc,
                        const ir_size **out) {
  parser p = {.c = c, .text = text, .lookup = lookup, .user = user, .d = d, .loc = loc};
  c->work_limit = c->work + 200000;
  ts_status status = parse_sum(&p, out);
  c->work_limit = UINT64_MAX;
  TS_TRY(status);
  if (peek(&p)) return syntax(&p, "an operator or the end");
  return ir_size_check(*out, "the size", d, loc);
}
