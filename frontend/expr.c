// Lexer and recursive descent parser of the string grammars (see expr.h).
#include "frontend/expr.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_DEPTH = 60 };

typedef enum token_kind { T_END, T_INT, T_REAL, T_NAME, T_TEXT, T_PUNCT } token_kind;
typedef struct token {
  token_kind kind;
  ts_str text;        // as written (TEXT: without quotes)
  uint32_t at;        // offset
  int64_t integer;
  double real;
} token;

typedef struct parser {
  fe_grammar *g;
  ts_str text;
  ts_loc loc;
  size_t pos;
  token t;            // current
  unsigned depth;
} parser;

static ts_loc place(const parser *p, size_t at) {
  ts_loc l = p->loc;
  l.col += (uint32_t)at;
  return l;
}

#define FAIL(p, at, ...) ts_report((p)->g->d, place((p), (at)), &diag_spec_syntax, __VA_ARGS__)

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }

bool fe_is_name(ts_str s) {
  if (s.len == 0 || !letter(s.data[0])) return false;
  for (size_t i = 1; i < s.len; i++)
    if (!letter(s.data[i]) && !digit(s.data[i])) return false;
  return true;
}

static char peek(const parser *p, size_t ahead) { return p->pos + ahead < p->text.len ? p->text.data[p->pos + ahead] : 0; }

static ts_status lex_number(parser *p) {
  size_t start = p->pos;
  bool real = false;
  while (digit(peek(p, 0))) p->pos++;
  if (peek(p, 0) == '.' && digit(peek(p, 1))) {
    real = true;
    p->pos++;
    while (digit(peek(p, 0))) p->pos++;
  }
  if ((peek(p, 0) == 'e' || peek(p, 0) == 'E') && (digit(peek(p, 1)) || ((peek(p, 1) == '-' || peek(p, 1) == '+') && digit(peek(p, 2))))) {
    real = true;
    p->pos += 2;
    while (digit(peek(p, 0))) p->pos++;
  }
  if (letter(peek(p, 0))) return FAIL(p, p->pos, "a number runs into a name; names begin with a letter");
  p->t.text = (ts_str){p->text.data + start, p->pos - start};
  char *z = ts_arena_strndup(p->g->a, p->t.text.data, p->t.text.len);
  errno = 0;
  p->t.kind = real ? T_REAL : T_INT;
  if (real) p->t.real = strtod(z, NULL);
  else p->t.integer = strtoll(z, NULL, 10);
  if (errno == ERANGE) return ts_report(p->g->d, place(p, start), &diag_spec_range, "%s does not fit a 64-bit %s", z, real ? "real" : "integer");
  return TS_OK;
}

static ts_status advance(parser *p) {
  while (peek(p, 0) == ' ' || peek(p, 0) == '\t' || peek(p, 0) == '\n') p->pos++;
  p->t = (token){.kind = T_END, .at = (uint32_t)p->pos};
  if (p->pos >= p->text.len) return TS_OK;
  char c = peek(p, 0);
  if (digit(c)) return lex_number(p);
  size_t start = p->pos;
  if (letter(c)) {
    while (letter(peek(p, 0)) || digit(peek(p, 0)) || (peek(p, 0) == '.' && letter(peek(p, 1)))) p->pos++;
    p->t.kind = T_NAME;
  } else if (c == '\'' || c == '"') {
    p->pos++;
    while (p->pos < p->text.len && peek(p, 0) != c) p->pos++;
    if (p->pos >= p->text.len) return FAIL(p, start, "this text has no closing quote");
    p->t.kind = T_TEXT;
    p->t.text = (ts_str){p->text.data + start + 1, p->pos - start - 1};
    p->pos++;
    return TS_OK;
  } else {
    static const char *const two[] = {"==", "!=", "<=", ">=", "**", ".."};
    size_t n = 1;
    for (int i = 0; i < 6; i++)
      if (c == two[i][0] && peek(p, 1) == two[i][1]) n = 2;
    if (n == 1 && !strchr("+-*/%()[],=<>|:", c)) return FAIL(p, start, (unsigned char)c < 32 || (unsigned char)c > 126 ? "a character that means nothing here" : "'%c' means nothing here", c);
    p->pos += n;
    p->t.kind = T_PUNCT;
  }
  p->t.text = (ts_str){p->text.data + start, p->pos - start};
  return TS_OK;
}

static bool is(const parser *p, const char *punct) { return p->t.kind == T_PUNCT && ts_str_is(p->t.text, punct); }
static bool word(const parser *p, const char *w) { return p->t.kind == T_NAME && ts_str_is(p->t.text, w); }

static ts_status expect(parser *p, const char *punct) {
  if (is(p, punct)) return advance(p);
  if (p->t.kind == T_END) {
    ts_status s = FAIL(p, p->t.at, "'%s' is missing at the end", punct);
    ts_note(p->g->d, p->loc, "inside {} and [] of YAML a comma ends the text: put types and calls in quotes there");
    return s;
  }
  return FAIL(p, p->t.at, "'%s' expected, not '%.*s'", punct, TS_FMT(p->t.text));
}

static ts_status expression(parser *p, fe_ex **out);

static fe_ex *node(parser *p, fe_ex_kind kind, size_t at) {
  fe_ex *e = ts_new(p->g->a, fe_ex);
  e->kind = kind;
  e->loc = place(p, at);
  return e;
}

// Items up to `close`; keywords only in calls.
static ts_status list(parser *p, fe_ex *e, const char *close, bool keywords) {
  while (!is(p, close)) {
    fe_arg a = {.loc = place(p, p->t.at)};
    if (keywords && p->t.kind == T_NAME) {
      parser ahead = *p;
      if (advance(&ahead) == TS_OK && is(&ahead, "=")) {
        a.keyword = ts_intern(p->g->names, p->t.text);
        *p = ahead;
        TS_TRY(advance(p));
      }
    }
    TS_TRY(expression(p, &a.value));
    for (size_t i = 0; a.keyword && i < e->args.count; i++)
      if (e->args.data[i].keyword == a.keyword) return ts_report(p->g->d, a.loc, &diag_spec_call, "the argument '%s' is here twice", a.keyword);
    if (!a.keyword && e->args.count && e->args.data[e->args.count - 1].keyword)
      return ts_report(p->g->d, a.loc, &diag_spec_call, "an argument without a name follows one with a name");
    ts_vec_push(p->g->a, &e->args, a);
    if (!is(p, ",")) break;
    TS_TRY(advance(p));
  }
  return expect(p, close);
}

static ts_status atom(parser *p, fe_ex **out) {
  size_t at = p->t.at;
  switch (p->t.kind) {
    case T_INT: *out = node(p, FE_EX_INT, at), (*out)->integer = p->t.integer; return advance(p);
    case T_REAL: *out = node(p, FE_EX_REAL, at), (*out)->real = p->t.real; return advance(p);
    case T_TEXT: *out = node(p, FE_EX_TEXT, at), (*out)->name = ts_intern(p->g->names, p->t.text); return advance(p);
    case T_NAME:
      *out = node(p, FE_EX_NAME, at), (*out)->name = ts_intern(p->g->names, p->t.text);
      TS_TRY(advance(p));
      if (is(p, "(")) {
        (*out)->kind = FE_EX_CALL;
        TS_TRY(advance(p));
        return list(p, *out, ")", true);
      }
      return TS_OK;
    case T_PUNCT:
      if (is(p, "(")) {
        TS_TRY(advance(p));
        TS_TRY(expression(p, out));
        return expect(p, ")");
      }
      if (is(p, "[")) {
        *out = node(p, FE_EX_LIST, at);
        TS_TRY(advance(p));
        return list(p, *out, "]", false);
      }
      return FAIL(p, at, "a value expected, not '%.*s'", TS_FMT(p->t.text));
    case T_END: break;
  }
  return FAIL(p, at, p->text.len ? "the expression ends too early" : "an expression is missing");
}

static ts_status unary(parser *p, fe_ex **out);

static ts_status power(parser *p, fe_ex **out) {
  TS_TRY(atom(p, out));
  while (is(p, "[")) {
    fe_ex *e = node(p, FE_EX_INDEX, p->t.at);
    e->x = *out;
    *out = e;
    TS_TRY(advance(p));
    TS_TRY(list(p, e, "]", false));
  }
  if (!is(p, "**")) return TS_OK;
  fe_ex *e = node(p, FE_EX_BINARY, p->t.at);
  e->oper = FE_POW;
  e->x = *out;
  *out = e;
  TS_TRY(advance(p));
  return unary(p, &e->y);
}

static ts_status unary(parser *p, fe_ex **out) {
  if (!is(p, "-") && !word(p, "not")) return power(p, out);
  if (++p->depth > MAX_DEPTH) return FAIL(p, p->t.at, "an expression nested deeper than %d", MAX_DEPTH);
  fe_ex *e = node(p, FE_EX_UNARY, p->t.at);
  e->oper = is(p, "-") ? FE_NEG : FE_NOT;
  *out = e;
  TS_TRY(advance(p));
  TS_TRY(unary(p, &e->x));
  p->depth--;
  return TS_OK;
}

static const struct {
  const char *text;
  fe_oper oper;
  int level;
} infix[] = {
  {"or", FE_OR, 1}, {"and", FE_AND, 2}, {"==", FE_EQ, 3}, {"!=", FE_NE, 3}, {"<", FE_LT, 3}, {"<=", FE_LE, 3}, {">", FE_GT, 3}, {">=", FE_GE, 3},
  {"+", FE_ADD, 4}, {"-", FE_SUB, 4}, {"*", FE_MUL, 5}, {"/", FE_DIV, 5}, {"%", FE_MOD, 5},
};
enum { INFIX = sizeof infix / sizeof *infix };

static ts_status binary(parser *p, int level, fe_ex **out) {
  if (level > 5) return unary(p, out);
  TS_TRY(binary(p, level + 1, out));
  for (unsigned run = 0;; run++) {
    int k = -1;
    for (int i = 0; i < INFIX; i++)
      if (infix[i].level == level && (is(p, infix[i].text) || word(p, infix[i].text))) k = i;
    if (k < 0) return TS_OK;
    if (run && level == 3) return FAIL(p, p->t.at, "comparisons do not chain; write a < b and b < c");
    if (run > 1000) return FAIL(p, p->t.at, "an expression of more than 1000 terms");
    fe_ex *e = node(p, FE_EX_BINARY, p->t.at);
    e->oper = infix[k].oper;
    e->x = *out;
    *out = e;
    TS_TRY(advance(p));
    TS_TRY(binary(p, level + 1, &e->y));
  }
}

static ts_status expression(parser *p, fe_ex **out) {
  if (++p->depth > MAX_DEPTH) return FAIL(p, p->t.at, "an expression nested deeper than %d", MAX_DEPTH);
  TS_TRY(binary(p, 1, out));
  p->depth--;
  return TS_OK;
}

static ts_status begin(fe_grammar *g, ts_str text, ts_loc loc, parser *p) {
  *p = (parser){.g = g, .text = text, .loc = loc};
  return advance(p);
}

static ts_status scalar(fe_grammar *g, const fe_node *n, const char *what, parser *p) {
  if (n->kind != FE_SCALAR) {
    ts_status s = ts_report(g->d, n->loc, &diag_spec_value, "%s expected, not %s", what, fe_node_kind_name(n));
    ts_note(g->d, n->loc, "text that begins with '[' or '{' must stand in quotes");
    return s;
  }
  return begin(g, n->text, n->loc, p);
}

static ts_status finish(parser *p) {
  if (p->t.kind == T_END) return TS_OK;
  return FAIL(p, p->t.at, "'%.*s' is not expected here", TS_FMT(p->t.text));
}

ts_status fe_parse_expr_text(fe_grammar *g, ts_str text, ts_loc loc, fe_ex **out) {
  parser p;
  TS_TRY(begin(g, text, loc, &p));
  TS_TRY(expression(&p, out));
  return finish(&p);
}

ts_status fe_parse_expr(fe_grammar *g, const fe_node *n, fe_ex **out) {
  parser p;
  TS_TRY(scalar(g, n, "an expression", &p));
  TS_TRY(expression(&p, out));
  return finish(&p);
}

static ts_status name(parser *p, const char *what, ts_sym *out) {
  if (p->t.kind != T_NAME) return FAIL(p, p->t.at, "%s expected%s%.*s%s", what, p->t.kind == T_END ? "" : ", not '", TS_FMT(p->t.text), p->t.kind == T_END ? "" : "'");
  *out = ts_intern(p->g->names, p->t.text);
  return advance(p);
}

static ts_status sizes(parser *p, const char *close, fe_ex **holder) {
  *holder = node(p, FE_EX_LIST, p->t.at);
  TS_TRY(advance(p));
  return list(p, *holder, close, false);
}

ts_status fe_parse_type(fe_grammar *g, const fe_node *n, fe_type_text *out) {
  parser p;
  *out = (fe_type_text){.loc = n->loc};
  TS_TRY(scalar(g, n, "a type", &p));
  if (word(&p, "in") || word(&p, "out") || word(&p, "inout")) TS_TRY(name(&p, "a role", &out->role));
  TS_TRY(name(&p, "a type", &out->dtype));
  fe_ex *holder;
  if (is(&p, "[")) {
    out->has_dims = true;
    TS_TRY(sizes(&p, "]", &holder));
    for (size_t i = 0; i < holder->args.count; i++) ts_vec_push(g->a, &out->dims, holder->args.data[i].value);
  }
  if (word(&p, "as")) {
    TS_TRY(advance(&p));
    out->encoding_loc = place(&p, p.t.at);
    TS_TRY(name(&p, "an encoding", &out->encoding));
    if (is(&p, "(")) {
      TS_TRY(sizes(&p, ")", &holder));
      for (size_t i = 0; i < holder->args.count; i++) ts_vec_push(g->a, &out->encoding_args, holder->args.data[i].value);
    }
  }
  if (word(&p, "optional")) {
    out->optional = true;
    TS_TRY(advance(&p));
  } else if (word(&p, "else")) {
    TS_TRY(advance(&p));
    out->otherwise_loc = place(&p, p.t.at);
    TS_TRY(name(&p, "a weight's name", &out->otherwise));
  }
  if (is(&p, "=")) {
    TS_TRY(advance(&p));
    TS_TRY(expression(&p, &out->init));
  }
  return finish(&p);
}

ts_status fe_parse_param(fe_grammar *g, const fe_node *n, fe_param_text *out) {
  parser p;
  *out = (fe_param_text){0};
  TS_TRY(scalar(g, n, "a parameter, like `int = 128`,", &p));
  ts_sym first;
  size_t at = p.t.at;
  TS_TRY(name(&p, "int, real, bool or choices a | b", &first));
  static const char *const kinds[] = {"int", "real", "bool"};
  out->kind = FE_PARAM_CHOICE;
  for (int i = 0; i < 3; i++)
    if (strcmp(first, kinds[i]) == 0) out->kind = (fe_param_kind)i;
  if (out->kind == FE_PARAM_CHOICE) {
    ts_vec_push(g->a, &out->choices, first);
    while (is(&p, "|")) {
      TS_TRY(advance(&p));
      ts_sym c;
      TS_TRY(name(&p, "a choice", &c));
      ts_vec_push(g->a, &out->choices, c);
    }
    if (out->choices.count < 2) return FAIL(&p, at, "'%s' is neither int, real, bool nor a list of choices a | b", first);
  }
  if (is(&p, "=")) {
    TS_TRY(advance(&p));
    TS_TRY(expression(&p, &out->init));
  }
  return finish(&p);
}

ts_status fe_parse_range(fe_grammar *g, const fe_node *n, fe_range_text *out) {
  parser p;
  *out = (fe_range_text){0};
  TS_TRY(scalar(g, n, "a range, like `1 .. 8`,", &p));
  TS_TRY(expression(&p, &out->lo));
  out->hi = out->lo;
  if (is(&p, "..")) {
    TS_TRY(advance(&p));
    TS_TRY(expression(&p, &out->hi));
  }
  if (word(&p, "step")) {
    TS_TRY(advance(&p));
    TS_TRY(expression(&p, &out->step));
  }
  if (word(&p, "per")) {
    TS_TRY(advance(&p));
    out->per_loc = place(&p, p.t.at);
    TS_TRY(name(&p, "a dim", &out->per));
  }
  return finish(&p);
}

ts_status fe_parse_names(fe_grammar *g, ts_str text, ts_loc loc, size_t *count, ts_sym **names, ts_loc **locs) {
  parser p;
  TS_VEC(ts_sym) n = {0};
  TS_VEC(ts_loc) l = {0};
  TS_TRY(begin(g, text, loc, &p));
  for (;;) {
    ts_sym s;
    ts_loc where = place(&p, p.t.at);
    if (p.t.kind == T_NAME && !fe_is_name(p.t.text)) return FAIL(&p, p.t.at, "'%.*s' is no name: no dots here", TS_FMT(p.t.text));
    TS_TRY(name(&p, "a name", &s));
    ts_vec_push(g->a, &n, s);
    ts_vec_push(g->a, &l, where);
    if (!is(&p, ",")) break;
    TS_TRY(advance(&p));
  }
  TS_TRY(finish(&p));
  *count = n.count, *names = n.data, *locs = l.data;
  return TS_OK;
}

static const char *oper_text(fe_oper o) {
  for (int i = 0; i < INFIX; i++)
    if (infix[i].oper == o) return infix[i].text;
  return o == FE_POW ? "**" : o == FE_NOT ? "not " : "-";
}

void fe_print_expr(const fe_ex *e, ts_text *out) {
  switch (e->kind) {
    case FE_EX_INT: ts_text_printf(out, "%lld", (long long)e->integer); return;
    case FE_EX_REAL: ts_text_real(out, e->real, false); return;
    case FE_EX_TEXT: ts_text_printf(out, "'%s'", e->name); return;
    case FE_EX_NAME: ts_text_puts(out, e->name); return;
    case FE_EX_UNARY: ts_text_puts(out, oper_text(e->oper)); fe_print_expr(e->x, out); return;
    case FE_EX_BINARY:
      fe_print_expr(e->x, out);
      ts_text_printf(out, " %s ", oper_text(e->oper));
      fe_print_expr(e->y, out);
      return;
    case FE_EX_CALL: case FE_EX_LIST: case FE_EX_INDEX: break;
  }
  if (e->kind == FE_EX_INDEX) fe_print_expr(e->x, out);
  if (e->kind == FE_EX_CALL) ts_text_puts(out, e->name);
  ts_text_puts(out, e->kind == FE_EX_CALL ? "(" : "[");
  for (size_t i = 0; i < e->args.count; i++) {
    if (i) ts_text_puts(out, ", ");
    if (e->args.data[i].keyword) ts_text_printf(out, "%s=", e->args.data[i].keyword);
    fe_print_expr(e->args.data[i].value, out);
  }
  ts_text_puts(out, e->kind == FE_EX_CALL ? ")" : "]");
}
