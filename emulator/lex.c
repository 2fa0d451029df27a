// The lexer of PTX (see lex.h). It reads the text byte by byte and never past its end.
#include "emulator/lex.h"

#include <stdlib.h>

void ptx_lex_init(ptx_lexer *l, ts_str text) { *l = (ptx_lexer){text.data, text.data + text.len, text.data, 1}; }

static bool name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || c == '%';
}
static bool digit(char c) { return c >= '0' && c <= '9'; }
static int hex(char c) {
  if (digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Skips blanks, comments and line markers. Returns false inside a comment that doesn't end.
static bool skip_blanks(ptx_lexer *l) {
  while (l->at < l->end) {
    char c = *l->at;
    if (c == '\n') {
      l->at++;
      l->line++;
      l->line_start = l->at;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
      l->at++;
    } else if (c == '#' && l->at == l->line_start) {   // # 1 "file" of a preprocessor
      while (l->at < l->end && *l->at != '\n') l->at++;
    } else if (c == '/' && l->end - l->at > 1 && l->at[1] == '/') {
      while (l->at < l->end && *l->at != '\n') l->at++;
    } else if (c == '/' && l->end - l->at > 1 && l->at[1] == '*') {
      l->at += 2;
      while (l->end - l->at > 1 && !(l->at[0] == '*' && l->at[1] == '/')) {
        if (*l->at == '\n') {
          l->line++;
          l->line_start = l->at + 1;
        }
        l->at++;
      }
      if (l->end - l->at < 2) {
        l->at = l->end;
        return false;
      }
      l->at += 2;
    } else if (c == 0 && l->at + 1 == l->end) {   // texts for the driver end with a counted NUL
      l->at++;
    } else {
      return true;
    }
  }
  return true;
}

static void lex_float(ptx_lexer *l, ptx_token *t) {
  char buffer[64];
  size_t n = 0;
  while (l->at < l->end && n < sizeof buffer - 1) {
    char c = *l->at;
    bool exponent_sign = (c == '+' || c == '-') && n && (buffer[n - 1] == 'e' || buffer[n - 1] == 'E');
    if (!digit(c) && c != '.' && c != 'e' && c != 'E' && !exponent_sign) break;
    buffer[n++] = c;
    l->at++;
  }
  buffer[n] = 0;
  char *stop;
  double v = strtod(buffer, &stop);
  t->kind = *stop ? PTX_T_BAD : PTX_T_FLOAT;
  t->bad = "malformed floating-point number";
  memcpy(&t->value, &v, 8);
}

static void lex_number(ptx_lexer *l, ptx_token *t) {
  const char *p = l->at;
  ptrdiff_t left = l->end - p;
  t->kind = PTX_T_INT;
  if (*p == '0' && left > 1 && (p[1] == 'f' || p[1] == 'F' || p[1] == 'd' || p[1] == 'D')) {
    unsigned want = p[1] == 'f' || p[1] == 'F' ? 8 : 16, n = 0;
    uint64_t v = 0;
    for (p += 2; p < l->end && n < want && hex(*p) >= 0; p++, n++) v = v << 4 | (uint64_t)hex(*p);
    l->at = p;
    t->value = v;
    t->is_f32 = want == 8;
    t->kind = n == want ? PTX_T_FLOAT : PTX_T_BAD;
    t->bad = "a hexadecimal float needs exactly 8 (0f) or 16 (0d) digits";
    return;
  }
  const char *q = p;
  bool plain_hex = *p == '0' && left > 1 && (p[1] == 'x' || p[1] == 'X');
  if (!plain_hex) {
    while (q < l->end && digit(*q)) q++;
    bool fraction = q < l->end && *q == '.' && q + 1 < l->end && digit(q[1]);
    bool trailing_dot = q < l->end && *q == '.' && (q + 1 == l->end || !name_char(q[1]));
    bool exponent = q < l->end && (*q == 'e' || *q == 'E');
    if (fraction || exponent || trailing_dot) {
      lex_float(l, t);
      return;
    }
  }
  unsigned base = 10;
  if (plain_hex) base = 16, p += 2;
  else if (*p == '0' && left > 1 && (p[1] == 'b' || p[1] == 'B')) base = 2, p += 2;
  else if (*p == '0' && left > 1 && digit(p[1])) base = 8, p++;
  uint64_t v = 0;
  const char *start = p;
  bool overflow = false;
  for (; p < l->end && hex(*p) >= 0 && (unsigned)hex(*p) < base; p++) {
    overflow |= __builtin_mul_overflow(v, base, &v);
    overflow |= __builtin_add_overflow(v, (uint64_t)hex(*p), &v);
  }
  bool empty = p == start;
  if (p < l->end && *p == 'U') p++;
  l->at = p;
  t->value = v;
  if (overflow || empty || (p < l->end && name_char(*p))) {
    t->kind = PTX_T_BAD;
    t->bad = overflow ? "integer does not fit in 64 bits" : "malformed number";
  }
}

static void lex_punct(ptx_lexer *l, ptx_token *t) {
  static const char pairs[][3] = {"<<", ">>", "==", "!=", "<=", ">=", "&&", "||", "::"};
  t->kind = PTX_T_PUNCT;
  t->punct = (unsigned char)*l->at;
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
    if (l->end - l->at > 1 && l->at[0] == pairs[i][0] && l->at[1] == pairs[i][1]) t->punct = (unsigned)pairs[i][0] << 8 | (unsigned char)pairs[i][1];
  l->at += t->punct > 255 ? 2 : 1;
  if (t->punct < 33 || (t->punct > 126 && t->punct < 256) || t->punct == '`' || t->punct == '\\') {
    t->kind = PTX_T_BAD;
    t->bad = "character that PTX does not use";
  }
}

void ptx_lex(ptx_lexer *l, ptx_token *t) {
  bool ended = skip_blanks(l);
  *t = (ptx_token){.kind = PTX_T_END, .pos = {l->line, (uint32_t)(l->at - l->line_start) + 1}};
  if (!ended) {
    t->kind = PTX_T_BAD;
    t->bad = "comment without an end";
    return;
  }
  if (l->at == l->end) return;
  const char *start = l->at;
  char c = *start;
  if (c == '.' && l->end - start > 1 && name_char(start[1])) {
    const char *p = start + 1;
    while (p < l->end && (name_char(*p) || (*p == ':' && l->end - p > 2 && p[1] == ':' && name_char(p[2])))) p += *p == ':' ? 2 : 1;
    t->kind = PTX_T_DOT;
    t->text = (ts_str){start + 1, (size_t)(p - start - 1)};
    l->at = p;
  } else if (digit(c)) {
    lex_number(l, t);
    t->text = (ts_str){start, (size_t)(l->at - start)};
  } else if (name_char(c)) {
    const char *p = start;
    while (p < l->end && name_char(*p)) p++;
    t->kind = PTX_T_NAME;
    t->text = (ts_str){start, (size_t)(p - start)};
    l->at = p;
  } else if (c == '"') {
    const char *p = start + 1;
    while (p < l->end && *p != '"' && *p != '\n') p += *p == '\\' && l->end - p > 1 ? 2 : 1;
    if (p >= l->end || *p != '"') {
      t->kind = PTX_T_BAD;
      t->bad = "string without an end";
      l->at = p > l->end ? l->end : p;
      return;
    }
    t->kind = PTX_T_STRING;
    t->text = (ts_str){start + 1, (size_t)(p - start - 1)};
    l->at = p + 1;
  } else {
    lex_punct(l, t);
    t->text = (ts_str){start, (size_t)(l->at - start)};
  }
}
