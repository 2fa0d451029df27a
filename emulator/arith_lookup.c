// Names of types and operations, and the choice of a row routine: tables are searched from the fastest to the most general.
#include <string.h>

#include "emulator/arith_rows.h"

enum { U, S, B, F };
static const struct { const char *name; uint8_t bits, cls, elements; } types[] = {
    {"", 0, B, 0},
#define EMU_TYPE(name, spelling, bits, cls, n) {spelling, bits, cls, n},
#include "emulator/types.def"
};
static const struct { const char *name; uint8_t sources; } ops[] = {
#define EMU_OP(name, spelling, sources) {spelling, sources},
#include "emulator/arith_ops.def"
};

emu_type emu_type_find(const char *spelling, size_t length) {
  for (int t = EMU_NOTYPE + 1; t < EMU_TYPE_COUNT; t++)
    if (strlen(types[t].name) == length && memcmp(types[t].name, spelling, length) == 0) return (emu_type)t;
  return EMU_NOTYPE;
}
const char *emu_type_name(emu_type t) { return types[t].name; }
unsigned emu_type_bits(emu_type t) { return types[t].bits; }
unsigned emu_type_elements(emu_type t) { return types[t].elements; }
bool emu_type_is_float(emu_type t) { return types[t].cls == F; }
bool emu_type_is_signed(emu_type t) { return types[t].cls == S; }

const char *emu_op_name(emu_op op) { return ops[op].name; }
unsigned emu_op_sources(emu_op op) { return ops[op].sources; }
emu_op emu_op_find(const char *spelling, size_t length) {
  for (int op = 0; op < EMU_OP_COUNT; op++)
    if (strlen(ops[op].name) == length && memcmp(ops[op].name, spelling, length) == 0) return (emu_op)op;
  return EMU_OP_COUNT;
}

static emu_row_fn *search(const emu_row_table *t, emu_op op, emu_type type, emu_type from, uint32_t mode) {
  for (size_t i = 0; i < t->count; i++) {
    const emu_row_entry *e = &t->entries[i];
    if (e->op == op && e->type == type && e->from == from && (mode & ~e->allowed) == e->required) return e->fn;
  }
  return NULL;
}

emu_row_fn *emu_row_at(bool avx2, emu_op op, emu_type t, emu_type from, uint32_t mode) {
  const emu_row_table *const order[] = {avx2 ? &emu_rows_avx2 : &emu_rows_base, avx2 ? &emu_rows_int_avx2 : &emu_rows_int_base,
                                        &emu_rows_soft, &emu_rows_cvt};
  if (op == EMU_OP_DP4A || op == EMU_OP_DP2A) t = from = EMU_NOTYPE;   // their types are in the mode
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    emu_row_fn *fn = search(order[i], op, t, from, mode);
    if (fn) return fn;
  }
  return NULL;
}

emu_row_fn *emu_row(emu_op op, emu_type t, emu_type from, uint32_t mode) {
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  return emu_row_at(avx2, op, t, from, mode);
}

uint64_t emu_scalar(emu_op op, emu_type t, emu_type from, uint32_t mode, const uint64_t s[4], bool *ok) {
  emu_row_fn *fn = emu_row(op, t, from, mode);
  *ok = fn != NULL;
  if (!fn) return 0;
  // Which sources and results are 64-bit rows does not matter on a little-endian host: lane 0 is the first word or double word.
  uint64_t rows[5][EMU_LANES] = {{0}};
  const void *src[4];
  for (int k = 0; k < 4; k++) {
    rows[k][0] = s[k];
    src[k] = rows[k];
  }
  fn(rows[4], src, mode);
  bool wide = (emu_type_bits(t) == 64 && op != EMU_OP_POPC && op != EMU_OP_CLZ && op != EMU_OP_BFIND) ||
              (mode & EMU_WIDE && emu_type_bits(t) == 32);
  return wide ? rows[4][0] : (uint32_t)rows[4][0];
}
