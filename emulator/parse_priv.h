// What the two halves of the PTX parser share: parse.c (module, declarations, functions) and parse_stmt.c (bodies).
#ifndef TESSERA_EMULATOR_PARSE_PRIV_H
#define TESSERA_EMULATOR_PARSE_PRIV_H
#include "emulator/lex.h"

// A name of a scope: a register, a numbered range of registers (%r<10>), or a variable.
typedef struct scope_name {
  bool is_range;
  uint32_t reg;          // when var is NULL and not a range
  uint32_t count;
  emu_type type;         // of a range; EMU_NOTYPE: predicates
  ptx_var *var;
} scope_name;

typedef struct parse_scope {
  ts_map names;
  uint32_t label_scope;
} parse_scope;

typedef struct parser {
  ptx_lexer lexer;
  ptx_token t;           // the token at hand
  ts_arena *arena;
  ts_diags *diags;
  ptx_module *m;
  ptx_func *f;           // the function whose body or header is being read
  parse_scope scopes[PTX_MAX_DEPTH];
  unsigned depth;
  uint32_t loc;          // the .loc in force
  unsigned expr_depth;
} parser;

bool parse_error(parser *p, ptx_pos pos, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void parse_next(parser *p);
static inline bool parse_at(const parser *p, unsigned punct) { return p->t.kind == PTX_T_PUNCT && p->t.punct == punct; }
static inline bool parse_at_dot(const parser *p, const char *text) { return p->t.kind == PTX_T_DOT && ts_str_is(p->t.text, text); }
static inline bool parse_take(parser *p, unsigned punct) {
  if (!parse_at(p, punct)) return false;
  parse_next(p);
  return true;
}
bool ptx_expect(parser *p, unsigned punct);
bool parse_count(parser *p, uint64_t limit, uint64_t *out);      // a plain integer of at most `limit`
bool parse_const(parser *p, int64_t *out);                       // a constant integer expression
void parse_skip_statement(parser *p);                            // to behind the next ';'
ts_sym parse_intern(parser *p, ts_str s);

bool scope_push(parser *p);
void scope_pop(parser *p);
bool scope_declare(parser *p, ptx_pos pos, ts_sym name, scope_name what);
// The register a name stands for (created on its first use in a range), or the variable; false when it is neither.
bool scope_find(parser *p, ts_sym name, uint32_t *reg, ptx_var **var);

// A variable declaration behind its space directive; `list` allows several, separated by commas.
bool parse_variables(parser *p, ptx_space space, bool is_extern, bool visible, bool weak);
bool parse_body(parser *p);
bool parse_loc(parser *p);
#endif
