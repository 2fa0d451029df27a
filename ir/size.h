// Symbolic sizes: extents, strides and byte counts that are known at compile time, at a call, or only on the device.
//
// A size is an immutable node of one ir_sizes context, built by the functions below and hash-consed in canonical form: a
// polynomial with integer coefficients over *atoms* (symbols, floordiv, mod, min, max), its monomials sorted and each atom
// simplified as far as bounds and known residues allow. So two sizes are proved equal exactly when their pointers are equal.
// (Unequal pointers prove nothing: the caller emits a `require`.) Every node carries bounds [lo, hi] and the residue class its
// values lie in. ceildiv(a, b) is floordiv(a + b - 1, b) and is printed back as ceildiv.
//
// Errors are values: arithmetic that can leave i64 at the bounds, or a divisor that may be below 1, gives a node of op
// IR_SIZE_ERROR, and so does everything built from it. Callers build freely and call ir_size_check() once.
#ifndef TESSERA_IR_SIZE_H
#define TESSERA_IR_SIZE_H

#include "base/diag.h"
#include "base/map.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "ir/size.def"
#undef TS_DIAG

// When a size is known. The class of an expression is the largest class among its symbols.
typedef enum ir_size_class { IR_SIZE_STATIC, IR_SIZE_CALL, IR_SIZE_DEVICE } ir_size_class;

typedef enum ir_size_op {
  IR_SIZE_CONST,      // value
  IR_SIZE_SYMBOL,     // name, klass, lo, hi, residue
  IR_SIZE_FLOORDIV,   // floor(args[0] / args[1]), args[1] >= 1
  IR_SIZE_MOD,        // args[0] - args[1] * floordiv(args[0], args[1]), args[1] >= 1
  IR_SIZE_MIN,        // of args[0 .. count), count >= 2
  IR_SIZE_MAX,
  IR_SIZE_SUM,        // value + sum of terms[0 .. count)
  IR_SIZE_ERROR,      // value is an ir_size_error
} ir_size_op;

typedef enum ir_size_error {
  IR_SIZE_OVERFLOW = 1,   // leaves i64 at the bounds of its symbols
  IR_SIZE_DIVISOR,        // a divisor's lower bound is below 1
  IR_SIZE_BAD_SYMBOL,     // a symbol with lo > hi or step < 1
  IR_SIZE_TOO_LARGE,      // more terms than IR_SIZE_MAX_TERMS, or a text that takes too long to simplify
} ir_size_error;

enum { IR_SIZE_MAX_TERMS = 512 };

typedef struct ir_size ir_size;

typedef struct ir_size_term {   // coef * factors[0] * factors[1] ...
  int64_t coef;                 // not 0
  uint32_t count;               // at least 1
  const ir_size *const *factors;   // atoms: SYMBOL, FLOORDIV, MOD, MIN, MAX; sorted; a power repeats its base
} ir_size_term;

struct ir_size {
  ir_size_op op;
  ir_size_class klass;
  uint32_t index;           // SYMBOL: its number in the context, from 0 in order of creation
  uint32_t count;           // of args or terms
  int64_t lo, hi;           // every value lies in [lo, hi]
  int64_t step, residue;    // every value is congruent to residue modulo step; step 0: the value is residue
  int64_t value;            // CONST: the value; SUM: the constant term; ERROR: the reason
  ts_sym name;              // SYMBOL
  union {
    const ir_size *const *args;
    const ir_size_term *terms;
  };
  const ir_size *next;      // private: hash chain
};

// The context. Nodes live in `arena`; names are interned in `names`. Belongs to one thread at a time.
typedef struct ir_sizes {
  ts_arena *arena;
  ts_interner *names;
  ts_map nodes;                        // hash -> chain
  TS_VEC(const ir_size *) symbols;     // by index
  uint64_t work, work_limit;           // polynomials made; the limit holds while a text is parsed
} ir_sizes;

void ir_sizes_init(ir_sizes *c, ts_arena *arena, ts_interner *names);
void ir_sizes_deinit(ir_sizes *c);   // the nodes stay until the arena goes

const ir_size *ir_size_const(ir_sizes *c, int64_t value);
// A symbol with values lo, lo + step, ... up to hi (step 1: every value). The same name, class, bounds and step give the same
// symbol; the same name with anything else gives another one.
const ir_size *ir_size_symbol(ir_sizes *c, ts_str name, ir_size_class klass, int64_t lo, int64_t hi, int64_t step);
// The newest symbol of this name, or NULL.
const ir_size *ir_size_find(const ir_sizes *c, ts_str name);

const ir_size *ir_size_add(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_sub(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_mul(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_floordiv(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_ceildiv(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_mod(ir_sizes *c, const ir_size *a, const ir_size *b);   // 0 <= result < b
const ir_size *ir_size_min(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_max(ir_sizes *c, const ir_size *a, const ir_size *b);
const ir_size *ir_size_add_const(ir_sizes *c, const ir_size *a, int64_t k);
const ir_size *ir_size_mul_const(ir_sizes *c, const ir_size *a, int64_t k);
const ir_size *ir_size_round_up(ir_sizes *c, const ir_size *a, int64_t multiple);   // ceildiv(a, multiple) * multiple

static inline bool ir_size_is_const(const ir_size *s) { return s->op == IR_SIZE_CONST; }
static inline bool ir_size_is_value(const ir_size *s, int64_t v) { return s->op == IR_SIZE_CONST && s->value == v; }
static inline bool ir_size_is_error(const ir_size *s) { return s->op == IR_SIZE_ERROR; }
// Proofs from bounds and residues; false means "not proved".
bool ir_size_proved_le(ir_sizes *c, const ir_size *a, const ir_size *b);    // a <= b for all values of the symbols
bool ir_size_proved_multiple(const ir_size *s, int64_t of);                 // of >= 1
// TS_OK, or reports why the size is an error. `what` names it in the message ("extent of axis m").
ts_status ir_size_check(const ir_size *s, const char *what, ts_diags *d, ts_loc loc);

// A total order over sizes that does not depend on addresses or on the order of creation, for canonical printing.
int ir_size_compare(const ir_size *a, const ir_size *b);

#define IR_SIZE_UNBOUND INT64_MIN
// Evaluates with symbol i = values[i] (symbols at or beyond `count`, or IR_SIZE_UNBOUND: not bound). Exact; TS_NOT_FOUND for a
// symbol that is not bound, TS_OUT_OF_RANGE for a symbol outside its bounds or step (and so for anything that overflows).
ts_status ir_size_eval(const ir_size *s, const int64_t *values, size_t count, int64_t *out);
// Does `v` lie in the symbol's bounds and step?
bool ir_size_admits(const ir_size *symbol, int64_t v);

// Replaces symbol i by with[i] where i < count and with[i] is not NULL. The replacement's bounds count from then on, which may
// simplify the size or turn it into an error.
const ir_size *ir_size_substitute(ir_sizes *c, const ir_size *s, const ir_size *const *with, size_t count);
// Calls fn once for every symbol of the size, in order of first occurrence, repeats included.
void ir_size_symbols(const ir_size *s, void (*fn)(void *user, const ir_size *symbol), void *user);

// Text: `16*m*n + floordiv(k, 2) - 5`. Operators + - * / % and parentheses, with / = floordiv and % = mod; calls floordiv,
// ceildiv, mod (two arguments), min, max (two or more). Printing and parsing back gives the same pointer.
void ir_size_print(const ir_size *s, ts_text *out);
typedef const ir_size *ir_size_lookup(void *user, ts_str name);   // NULL: unknown
// Parses all of `text`; names resolve through `lookup`, or ir_size_find() when it is NULL. Columns of diagnostics count from
// `loc`.
ts_status ir_size_parse(ir_sizes *c, ts_str text, ir_size_lookup *lookup, void *user, ts_diags *d, ts_loc loc,
                        const ir_size **out);

#endif
