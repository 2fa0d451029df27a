// Lexer and small pieces of the IR parser (see parse.h).
#include "ir/parse.h"

#include <errno.h>
#include <stdlib.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static char char_at(const parser *p, size_t at) { return at < p->text.len ? p->text.data[at] : 0; }

static void skip_blanks(parser *p) {
  for (; p->at < p->text.len; p->at++) {
    char c = p->text.data[p->at];
    if (c == '\n') {
      p->line++;
      p->line_start = p->at + 1;
    } else if (c == '/' && char_at(p, p->at + 1) == '/') {
      while (p->at + 1 < p->text.len && p->text.data[p->at + 1] != '\n') p->at++;
    } else if (c != ' ' && c != '\t' && c != '\r') {
      return;
    }
  }
}

static token_kind scan_number(const parser *p, size_t *at) {
  size_t i = *at;
  token_kind kind = TOKEN_INT;
  if (char_at(p, i) == '0' && char_at(p, i + 1) == 'x') {
    for (i += 2; is_digit(char_at(p, i)) || (char_at(p, i) >= 'a' && char_at(p, i) <= 'f'); i++) {}
    *at = i;
    return kind;
  }
  while (is_digit(char_at(p, i))) i++;
  if (char_at(p, i) == '.' && is_digit(char_at(p, i + 1))) {
    kind = TOKEN_REAL;
    for (i++; is_digit(char_at(p, i)); i++) {}
  }
  if (char_at(p, i) == 'e') {
    size_t e = i + 1;
    if (char_at(p, e) == '-' || char_at(p, e) == '+') e++;
    if (is_digit(char_at(p, e))) {
      kind = TOKEN_REAL;
      for (i = e; is_digit(char_at(p, i)); i++) {}
    }
  }
  *at = i;
  return kind;
}

static token_kind scan_string(const parser *p, size_t *at) {
  for (size_t i = *at + 1; i < p->text.len && p->text.data[i] != '\n'; i++) {
    if (p->text.data[i] == '\\') i++;
    else if (p->text.data[i] == '"') {
      *at = i + 1;
      return TOKEN_STRING;
    }
  }
  *at += 1;
  return TOKEN_BAD;
}

void parse_advance(parser *p) {
  static const char *const pairs[] = {"->", "==", "!=", "<=", ">=", "<<", ">>", ".."};
  p->last_end = p->t.end;
  uint32_t line = p->line;
  p->at = p->t.end;
  skip_blanks(p);
  token *t = &p->t;
  bool start = p->last_end == 0 && p->line == 1;
  *t = (token){.at = p->at,
               .end = p->at,
               .line = p->line,
               .col = (uint32_t)(p->at - p->line_start) + 1,
               .first = p->line != line || start};
  char c = char_at(p, p->at);
  if (p->at >= p->text.len) return;
  if (is_letter(c)) {
    t->kind = TOKEN_NAME;
    while (is_letter(char_at(p, t->end)) || is_digit(char_at(p, t->end)) ||
           (char_at(p, t->end) == '.' && char_at(p, t->end + 1) != '.'))
      t->end++;
  } else if (is_digit(c)) {
    t->kind = scan_number(p, &t->end);
  } else if (c == '"') {
    t->kind = scan_string(p, &t->end);
  } else if (c > ' ' && c < 127) {
    t->kind = TOKEN_PUNCT;
    t->end++;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
      if (c == pairs[i][0] && char_at(p, p->at + 1) == pairs[i][1]) t->end = p->at + 2;
  } else {
    t->kind = TOKEN_BAD;
    t->end++;
  }
}

void parse_begin(parser *p, ir_module *m, ts_sym file, ts_str text) {
  *p = (parser){.m = m, .file = file, .text = text, .line = 1};
  parse_advance(p);
}

void parse_end(parser *p) {
  ts_map_deinit(&p->values);
  ts_map_deinit(&p->numbered);
  ts_map_deinit(&p->literals);
  ts_map_deinit(&p->symbols);
}

ts_loc parse_here(const parser *p) { return (ts_loc){.file = p->file, .line = p->t.line, .col = p->t.col}; }
ts_str parse_token_text(const parser *p) { return (ts_str){p->text.data + p->t.at, p->t.end - p->t.at}; }

ts_status parse_expected(parser *p, const char *wanted) {
  ts_loc loc = parse_here(p);
  if (p->t.kind == TOKEN_END) return ts_report(p->m->diags, loc, &diag_ir_syntax, "the text ends where %s should follow", wanted);
  if (p->t.kind == TOKEN_BAD) {
    if (char_at(p, p->t.at) == '"') return ts_report(p->m->diags, loc, &diag_ir_syntax, "a string without its closing quote");
    return ts_report(p->m->diags, loc, &diag_ir_syntax, "a byte that is no part of IR text (0x%02x)",
                     (unsigned char)char_at(p, p->t.at));
  }
  ts_str s = parse_token_text(p);
  if (s.len > 60) s.len = 60;
  return ts_report(p->m->diags, loc, &diag_ir_syntax, "expected %s, found '%.*s'", wanted, TS_FMT(s));
}

bool parse_is(const parser *p, const char *text) {
  return (p->t.kind == TOKEN_NAME || p->t.kind == TOKEN_PUNCT) && ts_str_is(parse_token_text(p), text);
}

bool parse_accept(parser *p, const char *text) {
  if (!parse_is(p, text)) return false;
  parse_advance(p);
  return true;
}

ts_status parse_expect(parser *p, const char *text) {
  if (parse_accept(p, text)) return TS_OK;
  char wanted[40];
  snprintf(wanted, sizeof wanted, "'%s'", text);
  return parse_expected(p, wanted);
}

static void put_utf8(ts_text *t, uint32_t c) {
  if (c < 0x80) {
    ts_text_putc(t, (char)c);
  } else if (c < 0x800) {
    ts_text_putc(t, (char)(0xC0 | c >> 6));
    ts_text_putc(t, (char)(0x80 | (c & 63)));
  } else {
    ts_text_putc(t, (char)(0xE0 | c >> 12));
    ts_text_putc(t, (char)(0x80 | (c >> 6 & 63)));
    ts_text_putc(t, (char)(0x80 | (c & 63)));
  }
}

// Contents of a string token; false for an escape that is none.
static bool unescape(ts_str s, ts_text *out) {
  for (size_t i = 1; i + 1 < s.len; i++) {
    if (s.data[i] == 0) return false;
    if (s.data[i] != '\\') {
      ts_text_putc(out, s.data[i]);
      continue;
    }
    char c = s.data[++i];
    if (c == 'n') ts_text_putc(out, '\n');
    else if (c == 't') ts_text_putc(out, '\t');
    else if (c == 'r') ts_text_putc(out, '\r');
    else if (c == '"' || c == '\\' || c == '/') ts_text_putc(out, c);
    else if (c == 'u') {
      uint32_t code = 0;
      for (int k = 0; k < 4; k++) {
        char h = ++i + 1 < s.len ? s.data[i] : 0;
        int digit = is_digit(h) ? h - '0' : h >= 'a' && h <= 'f' ? h - 'a' + 10 : h >= 'A' && h <= 'F' ? h - 'A' + 10 : -1;
        if (digit < 0) return false;
        code = code << 4 | (uint32_t)digit;
      }
      if (code == 0 || (code >= 0xD800 && code < 0xE000)) return false;
      put_utf8(out, code);
    } else {
      return false;
    }
  }
  return true;
}

ts_status parse_string(parser *p, const char *what, ts_sym *out) {
  if (p->t.kind != TOKEN_STRING) return parse_expected(p, what);
  ts_text t = {0};
  bool good = unescape(parse_token_text(p), &t);
  if (good) *out = ts_intern(p->m->names, ts_text_str(&t));
  ts_text_deinit(&t);
  if (!good) return ts_report(p->m->diags, parse_here(p), &diag_ir_syntax, "an escape in this string is not known");
  parse_advance(p);
  return TS_OK;
}

ts_status parse_name(parser *p, const char *what, ts_sym *out) {
  if (p->t.kind == TOKEN_STRING) return parse_string(p, what, out);
  if (p->t.kind != TOKEN_NAME) return parse_expected(p, what);
  *out = ts_intern(p->m->names, parse_token_text(p));
  parse_advance(p);
  return TS_OK;
}

ts_status parse_int(parser *p, int64_t *out) {
  bool negative = parse_accept(p, "-");
  if (p->t.kind != TOKEN_INT) return parse_expected(p, "an integer");
  ts_str s = parse_token_text(p);
  char buffer[32];
  uint64_t v = 0;
  bool fits = s.len < sizeof buffer;
  if (fits) {
    memcpy(buffer, s.data, s.len);
    buffer[s.len] = 0;
    errno = 0;
    bool hex = ts_str_starts(s, "0x");
    v = strtoull(buffer, NULL, hex ? 16 : 10);
    fits = errno == 0 && (hex || v <= (uint64_t)INT64_MAX + negative);
  }
  if (!fits) return ts_report(p->m->diags, parse_here(p), &diag_ir_syntax, "the integer does not fit 64 bits");
  *out = (int64_t)(negative ? 0 - v : v);
  parse_advance(p);
  return TS_OK;
}

ts_status parse_dtype(parser *p, ir_dtype *out) {
  if (p->t.kind != TOKEN_NAME) return parse_expected(p, "an element type");
  ts_str s = parse_token_text(p);
  *out = ir_dtype_of_name(s);
  if (*out == IR_VOID) return ts_report(p->m->diags, parse_here(p), &diag_ir_unknown, "'%.*s' is no element type", TS_FMT(s));
  parse_advance(p);
  return TS_OK;
}

static const ir_size *find_symbol(void *user, ts_str name) {
  parser *p = user;
  const ir_size *s = ts_map_get(&p->symbols, ts_key(ts_intern(p->m->names, name)));
  return s ? s : ir_size_find(p->m->sizes, name);
}

// The expression reaches to the first character at nesting depth 0 that no size holds.
ts_status parse_size(parser *p, const ir_size **out) {
  size_t from = p->t.at, end = from;
  for (unsigned depth = 0; end < p->text.len; end++) {
    char c = p->text.data[end];
    if (c == '(') depth++;
    else if (c == ')' && depth > 0) depth--;
    else if (c == ',' && depth > 0) continue;
    else if (!is_letter(c) && !is_digit(c) && c != '.' && c != ' ' && c != '+' && c != '-' && c != '*' && c != '/' && c != '%')
      break;
    else if (c == '/' && char_at(p, end + 1) == '/') break;
  }
  if (end == from) return parse_expected(p, "a size");
  ts_loc loc = parse_here(p);
  TS_TRY(ir_size_parse(p->m->sizes, (ts_str){p->text.data + from, end - from}, find_symbol, p, p->m->diags, loc, out));
  p->t.end = end;
  parse_advance(p);
  return TS_OK;
}

ts_status parse_enter(parser *p) {
  if (p->depth >= IR_TEXT_MAX_DEPTH)
    return ts_report(p->m->diags, parse_here(p), &diag_ir_syntax, "the text nests deeper than %d levels", IR_TEXT_MAX_DEPTH);
  p->depth++;
  return TS_OK;
}
