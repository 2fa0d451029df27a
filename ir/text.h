// What the printer, the parser, the verifier and the documentation share about the IR's text form. Private to ir/.
#ifndef TESSERA_IR_TEXT_H
#define TESSERA_IR_TEXT_H

#include "ir/ir.h"

enum {
  IR_TEXT_FN_DEPTH = 24,    // deeper expressions of apply are cut by bindings when printed
  IR_TEXT_MAX_DEPTH = 100,  // nesting that the parser follows
};

bool ir_text_is_name(ts_str s);                   // prints without quotes
void ir_text_name(ts_text *out, ts_sym name);      // quoted where needed
void ir_text_string(ts_text *out, ts_sym s);       // quoted
int ir_text_precedence(ir_scalar s);              // of an infix operator, 1 (loosest) .. 7; 0: none
void ir_text_param_name(uint32_t index, char out[16]);   // a, b, ... z, p26, p27, ...

typedef struct ir_text_attr {
  ts_str name;
  ir_attr_kind kind;
  bool optional;
} ir_text_attr;
// Reads the next declaration of an op's attribute column and moves *row behind it; false at the end.
bool ir_text_declared(const char **row, ir_text_attr *out);
// Is `name` declared for the op? Then *out says how.
bool ir_text_find_attr(ir_opcode op, ts_str name, ir_text_attr *out);
// Does the op index memory (declares `at`), take a scalar function (`fn`)?
bool ir_text_is_indexed(ir_opcode op);
bool ir_text_takes_fn(ir_opcode op);
// Would the parser give a bare value of this kind to this attribute? (The first declared one of a fitting kind gets it.)
bool ir_text_bare_attr(ir_opcode op, ts_sym name, ir_attr_kind kind);

// A formula of `decode` and `encode` by name: that of the encoding table (plain, scaled, zero, min, sub) or its text without blanks
// ("code*scale"). The ir_formula, or -1.
int ir_text_formula(ts_sym name);
unsigned ir_text_formula_operands(int formula);   // of decode: codes, scale, zero or min

const char *ir_text_encoding_name(const ir_encoding *e);
void ir_text_weight(const ir_module *m, const ir_weight *w, ts_text *out);

#endif
