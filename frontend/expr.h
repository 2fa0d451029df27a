// The string grammars of specs: expressions and calls, types, parameters, ranges. All work on one scalar node and report columns in it.
//
//   expr   = or ;  or = and {"or" and} ;  and = not {"and" not} ;  not = "not" not | cmp ;  cmp = sum [("==" | "!=" | "<" ...) sum]
//   sum    = term {("+" | "-") term} ;  term = unary {("*" | "/" | "%") unary} ;  unary = "-" unary | power
//   power  = postfix ["**" unary] ;  postfix = atom {"(" [args] ")" | "[" list "]"}
//   atom   = number | name | 'text' | "(" expr ")" | "[" list "]"
//   args   = arg {"," arg} ;  arg = [name "="] expr
//   type   = ["in" | "out" | "inout"] name ["[" list "]"] ["as" name ["(" list ")"]] ["optional" | "else" name] ["=" expr]
//   param  = ("int" | "real" | "bool" | name {"|" name}) ["=" expr]
//   range  = expr ".." expr ["step" expr] ["per" name]
// Names may hold dots: general.architecture.
#ifndef TESSERA_FRONTEND_EXPR_H
#define TESSERA_FRONTEND_EXPR_H

#include "frontend/yaml.h"

typedef enum fe_ex_kind { FE_EX_INT, FE_EX_REAL, FE_EX_TEXT, FE_EX_NAME, FE_EX_UNARY, FE_EX_BINARY, FE_EX_CALL, FE_EX_LIST, FE_EX_INDEX } fe_ex_kind;
typedef enum fe_oper {
  FE_OR, FE_AND, FE_NOT, FE_EQ, FE_NE, FE_LT, FE_LE, FE_GT, FE_GE, FE_ADD, FE_SUB, FE_MUL, FE_DIV, FE_MOD, FE_POW, FE_NEG
} fe_oper;

typedef struct fe_ex fe_ex;
typedef struct fe_arg {
  ts_sym keyword;        // NULL: by place
  ts_loc loc;
  fe_ex *value;
} fe_arg;
struct fe_ex {
  fe_ex_kind kind;
  fe_oper oper;
  ts_loc loc;            // of the operator or the first character
  int64_t integer;
  double real;
  ts_sym name;           // NAME, TEXT, CALL (the callee)
  fe_ex *x, *y;          // UNARY: x; BINARY: both; INDEX: x is indexed by args
  TS_VEC(fe_arg) args;   // CALL, LIST, INDEX
};

typedef struct fe_type_text {
  ts_loc loc;
  ts_sym role;           // "in", "out", "inout" or NULL
  ts_sym dtype;          // as written: "float", "i32", "map"
  bool has_dims;
  TS_VEC(fe_ex *) dims;
  ts_sym encoding;       // after `as`
  ts_loc encoding_loc;
  TS_VEC(fe_ex *) encoding_args;
  bool optional;
  ts_sym otherwise;      // after `else`
  ts_loc otherwise_loc;
  fe_ex *init;           // after '='
} fe_type_text;

typedef enum fe_param_kind { FE_PARAM_INT, FE_PARAM_REAL, FE_PARAM_BOOL, FE_PARAM_CHOICE } fe_param_kind;
typedef struct fe_param_text {
  fe_param_kind kind;
  TS_VEC(ts_sym) choices;
  fe_ex *init;           // NULL: none
} fe_param_text;

typedef struct fe_range_text {
  fe_ex *lo, *hi, *step; // step may be NULL
  ts_sym per;
  ts_loc per_loc;
} fe_range_text;

typedef struct fe_grammar {
  ts_arena *a;
  ts_interner *names;
  ts_diags *d;
} fe_grammar;

ts_status fe_parse_expr(fe_grammar *g, const fe_node *n, fe_ex **out);
ts_status fe_parse_expr_text(fe_grammar *g, ts_str text, ts_loc loc, fe_ex **out);
ts_status fe_parse_type(fe_grammar *g, const fe_node *n, fe_type_text *out);
ts_status fe_parse_param(fe_grammar *g, const fe_node *n, fe_param_text *out);
ts_status fe_parse_range(fe_grammar *g, const fe_node *n, fe_range_text *out);
// "a, b, c" as names; used for keys that declare or bind several.
ts_status fe_parse_names(fe_grammar *g, ts_str text, ts_loc loc, size_t *count, ts_sym **names, ts_loc **locs);
bool fe_is_name(ts_str s);                        // a letter or '_', then letters, digits, '_'
void fe_print_expr(const fe_ex *e, ts_text *out); // for messages

#endif
