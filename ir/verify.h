// What the verifier's files share. Private to ir/.
#ifndef TESSERA_IR_VERIFY_H
#define TESSERA_IR_VERIFY_H

#include "ir/text.h"

typedef struct verifier {
  ir_module *m;
  char level;               // 'P', 'S' or 'T'
  const ir_kernel *kernel;  // of P and S
  const ir_part *part;      // of P
  const ir_op *op;          // being checked
  ts_map visible;           // values in scope
  TS_VEC(const ir_value *) scope;
  unsigned errors;
  ts_status status;         // of the first error
} verifier;

// Reports at the op's location, with the op's name in front.
void verify_bad(verifier *v, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
const char *verify_type_text(verifier *v, const ir_type *t);

// Leaves the rule when the condition does not hold.
#define VERIFY(v, condition, ...)                  \
  do {                                             \
    if (!(condition)) {                            \
      verify_bad((v), &diag_ir_type, __VA_ARGS__); \
      return;                                      \
    }                                              \
  } while (0)

typedef void verify_rule(verifier *v, const ir_op *op);
void verify_fn(verifier *v, const ir_fn *fn, uint32_t operands, ir_value *const *operand);
void verify_same_types(verifier *v, const char *what, uint32_t count, ir_value *const *values, uint32_t wanted, ir_value *const *like);
verify_rule *verify_tile_rule(ir_opcode code);     // NULL: nothing beyond the table
verify_rule *verify_tensor_rule(ir_opcode code);

#endif
