// The parser's lexer and state, shared by its files. Private to ir/.
//
// Tokens are read one ahead. Sizes are not tokenised here: parse_size() hands the text up to the next delimiter to ir_size_parse().
#ifndef TESSERA_IR_PARSE_H
#define TESSERA_IR_PARSE_H

#include "ir/text.h"

typedef enum token_kind {
  TOKEN_END,
  TOKEN_NAME,      // identifier: letters, digits, _ and .
  TOKEN_STRING,    // "..." with JSON escapes
  TOKEN_INT,
  TOKEN_REAL,
  TOKEN_PUNCT,     // one or two characters
  TOKEN_BAD,
} token_kind;

typedef struct token {
  token_kind kind;
  size_t at, end;      // in the text
  uint32_t line, col;
  bool first;          // on its line
} token;

typedef struct binding {   // to undo when a scope closes
  ts_map *map;
  uint64_t key;
  void *old;
} binding;

typedef struct parser {
  ir_module *m;
  ts_sym file;
  ts_str text;
  size_t at, line_start;
  uint32_t line;
  token t;             // the next token
  size_t last_end;     // where the token before it ended
  unsigned depth;
  ts_map values, numbered, literals;   // name, number + 1, integer -> ir_value in scope
  ts_map symbols;                      // name -> const ir_size, of this kernel or module
  TS_VEC(binding) undo;
  const ir_part *part;                 // axes whose extent may be left out
} parser;

void parse_begin(parser *p, ir_module *m, ts_sym file, ts_str text);
void parse_end(parser *p);
void parse_advance(parser *p);
ts_loc parse_here(const parser *p);
ts_str parse_token_text(const parser *p);
// "expected WANTED, found ..." at the next token.
ts_status parse_expected(parser *p, const char *wanted);

bool parse_is(const parser *p, const char *text);        // a punctuation or a name
bool parse_accept(parser *p, const char *text);
ts_status parse_expect(parser *p, const char *text);
// A name: an identifier or a string. `what` names it in messages.
ts_status parse_name(parser *p, const char *what, ts_sym *out);
ts_status parse_string(parser *p, const char *what, ts_sym *out);
ts_status parse_int(parser *p, int64_t *out);            // with sign
ts_status parse_dtype(parser *p, ir_dtype *out);
ts_status parse_size(parser *p, const ir_size **out);
// Enters a nesting level; a report when there are too many. Leave with p->depth--.
ts_status parse_enter(parser *p);

// `(a, b) -> ...` up to, not including, the closing brace. Parameters have the given types.
ts_status parse_fn(parser *p, uint32_t params, const ir_dtype *types, const ir_fn **out);

#endif
