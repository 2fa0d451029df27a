// The parsed form of a PTX module: declarations, functions, and statements with their names resolved as far as scopes go.
//
// Nothing here knows how an instruction executes: the opcode and its modifiers are still text, which decode.c turns into
// operations (ptx_ops.def). Registers are numbered per function; blocks in braces have scopes of their own.
#ifndef TESSERA_EMULATOR_PTX_H
#define TESSERA_EMULATOR_PTX_H

#include "base/map.h"
#include "emulator/arith.h"
#include "emulator/diag.h"

typedef enum ptx_space { PTX_NOSPACE, PTX_PARAM, PTX_LOCAL, PTX_SHARED, PTX_CONST, PTX_GLOBAL, PTX_GENERIC } ptx_space;
enum { PTX_MAX_MODS = 20, PTX_MAX_OPERANDS = 10, PTX_MAX_REGISTERS = 1 << 20, PTX_MAX_DEPTH = 64 };
enum { PTX_PRED = 255 };   // the "type" of a predicate register in ptx_reg.bits terms

typedef struct ptx_pos {
  uint32_t line, col;
} ptx_pos;

struct ptx_var;
// One element of an initialiser: a number, or the address of a symbol.
typedef struct ptx_init {
  uint64_t offset;       // byte offset in the variable
  uint64_t value;        // number, or addend of the symbol
  ts_sym symbol;         // NULL: a number
  bool generic;          // generic(symbol)
  uint8_t bytes;         // width of the element
  uint8_t shift;         // 0xFF00(symbol) takes the byte at this bit
  ptx_pos pos;
} ptx_init;

typedef struct ptx_var {
  ts_sym name;
  ptx_space space;
  emu_type type;
  uint64_t bytes;        // 0: unsized extern (dynamic shared memory)
  uint32_t align;
  bool is_extern, visible, weak, is_array;
  ptx_pos pos;
  ptx_init *inits;
  size_t init_count;
  uint64_t address;      // set at load: global/const a device address, shared an offset, local and param a frame offset
  struct ptx_func *owner; // the function it was declared in, NULL at module level
} ptx_var;

typedef struct ptx_reg {
  ts_sym name;           // as written the first time it was used (%r12)
  emu_type type;         // EMU_NOTYPE for predicates
  uint8_t bits;          // 1 for predicates
} ptx_reg;

typedef enum ptx_kind {
  PTX_OP_REG,            // reg; `negated` for !%p
  PTX_OP_PAIR,           // %p|%q: reg, reg2 (either may be ~0u for "_")
  PTX_OP_IMM,            // imm; is_float: imm holds a double's bits, or those of a float when imm_f32
  PTX_OP_NAME,           // a variable, function, label or special register; var when it is a variable of a scope
  PTX_OP_ADDRESS,        // [base + offset]: elements[0] is the base (register, name or number)
  PTX_OP_VECTOR,         // {a, b, ...}
  PTX_OP_TUPLE,          // (a, b, ...)
  PTX_OP_SINK            // _
} ptx_kind;

typedef struct ptx_operand {
  uint8_t kind;
  bool negated, is_float, imm_f32, minus;
  uint32_t reg, reg2;
  uint64_t imm;          // number, or the offset of NAME and ADDRESS
  ts_sym name;
  ptx_var *var;
  struct ptx_operand *elements;
  uint32_t count;
  ptx_pos pos;
} ptx_operand;

typedef struct ptx_stmt {
  ts_sym op;             // base opcode: "ld"
  ts_sym *mods;          // ".global" without the dot: "global", "nc", "v4", "f32"
  uint8_t mod_count, operand_count;
  bool guarded, guard_not;
  uint32_t guard;        // predicate register
  ptx_operand *operands;
  ptx_pos pos;
  uint32_t loc;          // index into ptx_module.locs; 0: none
  uint32_t scope;        // label scope
} ptx_stmt;

typedef struct ptx_label {
  ts_sym name;
  uint32_t scope, at;    // statement number it precedes
  bool is_targets, is_prototype;
  ts_sym *targets;       // .branchtargets
  uint32_t target_count;
  ptx_pos pos;
} ptx_label;

typedef struct ptx_loc {
  uint32_t file, line, col;   // file: the number of a .file directive
  uint32_t at_file, at_line;  // where the function was inlined; 0: it was not
} ptx_loc;

typedef struct ptx_func {
  ts_sym name;
  bool is_entry, has_body, visible, weak, is_extern, noreturn;
  ptx_pos pos;
  TS_VEC(ptx_var *) params;   // in order, as declared
  TS_VEC(ptx_var *) rets;
  TS_VEC(ptx_var *) vars;     // .local, .shared, .param, .global, .const of the body
  TS_VEC(ptx_reg) regs;
  TS_VEC(ptx_stmt) stmts;
  TS_VEC(ptx_label) labels;
  TS_VEC(uint32_t) scopes;    // parent of each label scope; 0 is the body
  uint32_t maxntid[3], reqntid[3], maxnreg, minnctapersm;
  uint32_t index;             // in ptx_module.funcs
} ptx_func;

typedef struct ptx_file {
  uint32_t number;
  const char *name;
} ptx_file;

typedef struct ptx_module {
  ts_sym file;
  ts_str text;
  unsigned version;           // 75 for 7.5
  unsigned target;            // 80 for sm_80
  ts_interner *names;
  TS_VEC(ptx_var *) vars;     // module level
  TS_VEC(ptx_func *) funcs;
  TS_VEC(ptx_loc) locs;
  TS_VEC(ptx_file) files;
  ts_map by_name;             // interned name → ptx_symbol
} ptx_module;

typedef struct ptx_symbol {
  ptx_var *var;
  ptx_func *func;
} ptx_symbol;

// Parses `text` (borrowed; must outlive the module). Errors are reported with file:line:column, several per run.
ts_status ptx_parse(ts_arena *arena, ts_interner *names, ts_str text, ts_sym file, ts_diags *d, ptx_module *out);
const char *ptx_file_name(const ptx_module *m, uint32_t number);   // NULL when unknown

// Why the emulator refuses this opcode with these modifiers (ptx_ops.def), or NULL. A name that is not PTX gives "".
const char *ptx_refused(const ptx_stmt *s);

// Special registers, from ptx_sregs.def.
typedef enum ptx_sreg {
#define PTX_SREG(name, spelling, bits) PTX_SREG_##name,
#include "emulator/ptx_sregs.def"
  PTX_SREG_COUNT
} ptx_sreg;
ptx_sreg ptx_sreg_find(ts_str spelling);      // PTX_SREG_COUNT when it is none
const char *ptx_sreg_name(ptx_sreg r);
unsigned ptx_sreg_bits(ptx_sreg r);

#endif
