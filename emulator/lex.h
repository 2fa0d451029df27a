// Tokens of PTX text. The lexer keeps one token of lookahead; comments and blanks vanish here.
#ifndef TESSERA_EMULATOR_LEX_H
#define TESSERA_EMULATOR_LEX_H
#include "emulator/ptx.h"

typedef enum ptx_token_kind {
  PTX_T_END, PTX_T_NAME,       // names, labels, registers (with %), opcodes; never with a dot
  PTX_T_DOT,                   // ".global", ".L2::128B": text without the dot
  PTX_T_INT, PTX_T_FLOAT,      // value; is_f32 for 0fXXXXXXXX
  PTX_T_STRING, PTX_T_PUNCT,   // punct: one character, or '<' << 8 | '<' for << and >>, and so on
  PTX_T_BAD
} ptx_token_kind;

typedef struct ptx_token {
  ptx_token_kind kind;
  ts_str text;
  uint64_t value;
  bool is_f32;
  unsigned punct;
  ptx_pos pos;
  const char *bad;             // why, for PTX_T_BAD
} ptx_token;

typedef struct ptx_lexer {
  const char *at, *end, *line_start;
  uint32_t line;
} ptx_lexer;

void ptx_lex_init(ptx_lexer *l, ts_str text);
void ptx_lex(ptx_lexer *l, ptx_token *out);
#endif
