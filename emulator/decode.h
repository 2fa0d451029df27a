// The decoder of one function (decode*.c): statements → operations, one decode_<kind>() per row of ptx_ops.def.
#ifndef TESSERA_EMULATOR_DECODE_H
#define TESSERA_EMULATOR_DECODE_H
#include "emulator/program.h"

typedef struct decoder {
  ts_arena *arena;
  ts_diags *diags;
  ptx_module *m;
  emu_program *prog;
  emu_function *fn;
  ptx_func *f;
  const ptx_stmt *s;
  uint32_t stmt;          // its number among the origins
  uint32_t used;          // modifiers consumed so far
  unsigned sm;
  ts_map consts;          // value → constant row + 1 (32- and 64-bit rows have keys of their own)
  ts_map wide_consts;
  TS_VEC(uint64_t) pool;
  TS_VEC(uint8_t) pool_wide;
  TS_VEC(emu_insn) after; // widening moves that follow the operation at hand
  TS_VEC(uint32_t) fixups; // operations whose target is still a statement number
  uint32_t *at;           // statement → first operation
} decoder;

typedef bool decode_fn(decoder *d);
#define PTX_OP(opcode, decoder_name, cls, remark) decode_fn decode_##decoder_name;
#include "emulator/ptx_ops.def"

bool decode_error(decoder *d, ptx_pos pos, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
// Consumes a modifier; false when the statement doesn't have it.
bool mod(decoder *d, const char *name);
bool mod_type(decoder *d, emu_type *out);      // the next unconsumed modifier that is a type
bool need_operands(decoder *d, unsigned least, unsigned most);
ptx_operand *operand(decoder *d, unsigned i);  // NULL beyond the last

// Adds an operation for the statement at hand. The pointer is good until the next emit.
emu_insn *emit(decoder *d, emu_handler *run);
uint32_t const_row(decoder *d, uint64_t value, bool wide);
uint32_t temp(decoder *d, bool wide);

// The row of a source of type `t` (its width decides); `loose`: a wider register is cut down, as cvt, ld and st allow.
bool source(decoder *d, const ptx_operand *o, emu_type t, bool loose, uint32_t *out);
bool source_bits(decoder *d, const ptx_operand *o, unsigned bits, bool loose, uint32_t *out);
// The row for a result; `loose`: the register may be wider than `t`: a move that extends (by `t`'s sign) follows.
bool result(decoder *d, const ptx_operand *o, emu_type t, bool loose, uint32_t *out);
bool pred_source(decoder *d, const ptx_operand *o, uint16_t *out, bool *negated);
bool pred_result(decoder *d, const ptx_operand *o, uint16_t *out);
// "[a]": base register, symbol and offset into m; s[0] of the operation gets *base.
bool address(decoder *d, const ptx_operand *o, emu_mem *m, uint32_t *base);
bool memory_mods(decoder *d, emu_mem *m);      // orders, scopes, spaces, cache operators and hints
static inline bool wide_type(emu_type t) { return emu_type_bits(t) > 32; }
static inline bool is_wide_slot(const decoder *d, uint32_t slot) {
  return slot != EMU_NONE && (slot & EMU_CONST ? d->pool_wide.data[slot & ~EMU_CONST] : d->f->regs.data[slot].bits > 32);
}

// Handlers (exec_*.c)
emu_handler emu_run_row, emu_run_cmp, emu_run_set, emu_run_select, emu_run_move, emu_run_sreg, emu_run_nothing, emu_run_testp;
emu_handler emu_run_pred_logic, emu_run_pred_move, emu_run_add_cc, emu_run_mad_cc, emu_run_widen, emu_run_narrow, emu_run_pack, emu_run_unpack;
emu_handler emu_run_frame_address, emu_run_isspacep, emu_run_lop3_pred, emu_run_cvt_pack, emu_run_cvta, emu_run_trap;
emu_handler emu_run_ld, emu_run_st, emu_run_atom, emu_run_cp_async, emu_run_cp_commit, emu_run_cp_wait, emu_run_fence;
emu_handler emu_run_shfl, emu_run_vote, emu_run_match, emu_run_redux, emu_run_activemask, emu_run_elect;
emu_handler emu_run_mma, emu_run_ldmatrix, emu_run_stmatrix, emu_run_movmatrix, emu_run_wmma_load, emu_run_wmma_store;
#endif
