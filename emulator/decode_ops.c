// Decoding of register-to-register operations: arithmetic rows, comparisons, moves, conversions.
#include "emulator/decode.h"

// Rounding and numeric modifiers, in any order.
static uint32_t take_mode(decoder *d) {
  static const struct { const char *name; uint32_t bits; } table[] = {
      {"rn", EMU_RN}, {"rz", EMU_RZ}, {"rm", EMU_RM}, {"rp", EMU_RP}, {"rna", EMU_RNA},
      {"rni", EMU_RN | EMU_INT}, {"rzi", EMU_RZ | EMU_INT}, {"rmi", EMU_RM | EMU_INT}, {"rpi", EMU_RP | EMU_INT},
      {"ftz", EMU_FTZ}, {"sat", EMU_SAT}, {"satfinite", EMU_SATFINITE}, {"relu", EMU_RELU}, {"NaN", EMU_NAN},
      {"approx", EMU_APPROX}, {"full", EMU_FULL}, {"hi", EMU_HI}, {"lo", 0}, {"wide", EMU_WIDE}, {"l", EMU_LEFT}, {"r", 0},
      {"wrap", EMU_WRAP}, {"clamp", 0}, {"shiftamt", EMU_SHIFTAMT}, {"noftz", 0}};
  uint32_t mode = 0;
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    if (mod(d, table[i].name)) mode |= table[i].bits;
  return mode;
}

static emu_insn *finish(decoder *d, emu_handler *run, uint32_t dst, const uint32_t *src, unsigned n) {
  emu_insn *in = emit(d, run);
  in->d = dst;
  in->wide = dst != EMU_NONE && is_wide_slot(d, dst);
  for (unsigned i = 0; i < n; i++) {
    in->s[i] = src[i];
    if (is_wide_slot(d, src[i])) in->wide |= (uint8_t)(2u << i);
  }
  return in;
}

static bool wrong_form(decoder *d) {
  return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s has no form with these types and modifiers that is supported", d->s->op);
}

// and, or, xor, not on predicates.
static bool pred_logic(decoder *d) {
  bool unary = !strcmp(d->s->op, "not");
  uint16_t p, a = 0, b = 0;
  bool na = false, nb = false;
  if (!need_operands(d, unary ? 2 : 3, unary ? 2 : 3) || !pred_result(d, operand(d, 0), &p) || !pred_source(d, operand(d, 1), &a, &na)) return false;
  if (!unary && !pred_source(d, operand(d, 2), &b, &nb)) return false;
  emu_insn *in = emit(d, emu_run_pred_logic);
  in->p = p;
  in->ps = a;
  in->ps_not = na != unary;
  in->q = unary ? EMU_NO_PRED : b;      // second source; `mode` says whether it is negated
  in->mode = nb;
  in->sub = unary ? 0 : d->s->op[0] == 'a' ? 1 : d->s->op[0] == 'o' ? 2 : 3;
  return true;
}

static bool carry_op(decoder *d, bool in_carry) {
  bool mad = d->s->op[0] == 'm', out_carry = mod(d, "cc");
  bool hi = mod(d, "hi");
  mod(d, "lo");
  emu_type t;
  if (!mod_type(d, &t)) return wrong_form(d);
  if (emu_type_bits(t) < 32 || emu_type_is_float(t)) return wrong_form(d);
  unsigned n = mad ? 3 : 2;
  uint32_t src[3], dst;
  if (!need_operands(d, n + 1, n + 1)) return false;
  for (unsigned i = 0; i < n; i++)
    if (!source(d, operand(d, i + 1), t, false, &src[i])) return false;
  if (!result(d, operand(d, 0), t, false, &dst)) return false;
  emu_insn *in = finish(d, mad ? emu_run_mad_cc : emu_run_add_cc, dst, src, n);
  in->sub = d->s->op[0] == 's';
  in->mode = (uint32_t)in_carry | (uint32_t)out_carry << 1 | (uint32_t)hi << 2 | (uint32_t)t << 8;
  return true;
}

static bool lop3_pred(decoder *d, emu_row_fn *row, const uint32_t *src, uint32_t mode, unsigned logic) {
  ptx_operand *o = operand(d, 0);
  uint32_t dst = EMU_NONE;
  uint16_t p = EMU_NO_PRED, q;
  bool nq;
  if (o->kind != PTX_OP_PAIR) return decode_error(d, o->pos, &diag_ptx_operand, "lop3 with .and or .or takes d|p");
  if (!pred_source(d, operand(d, 5), &q, &nq)) return false;
  if (o->reg2 != ~0u) p = (uint16_t)o->reg2;
  dst = o->reg == ~0u ? temp(d, false) : o->reg;
  emu_insn *in = finish(d, emu_run_lop3_pred, dst, src, 3);
  in->u.row = row;
  in->mode = mode;
  in->p = p;
  in->ps = q;
  in->ps_not = nq;
  in->sub = (uint8_t)logic;
  return true;
}

// Types of the operands that differ from the instruction's.
static emu_type source_type(emu_op op, unsigned i, emu_type t, emu_type t2, uint32_t mode) {
  switch (op) {
    case EMU_OP_SHL: case EMU_OP_SHR: return i == 1 ? EMU_U32 : t;
    case EMU_OP_BFE: return i >= 1 ? EMU_U32 : t;
    case EMU_OP_BFI: return i >= 2 ? EMU_U32 : t;
    case EMU_OP_SHF: case EMU_OP_PRMT: case EMU_OP_LOP3: return EMU_B32;
    case EMU_OP_SZEXT: return i == 1 ? EMU_U32 : t;
    case EMU_OP_MAD: return i == 2 && mode & EMU_WIDE ? (emu_type_bits(t) == 16 ? EMU_U32 : EMU_U64) : t;
    case EMU_OP_SLCT: return i == 2 ? t2 : t;
    case EMU_OP_DP4A: case EMU_OP_DP2A: return EMU_B32;
    case EMU_OP_FNS: return EMU_B32;
    default: return t;
  }
}
static emu_type result_type(emu_op op, emu_type t, uint32_t mode) {
  switch (op) {
    case EMU_OP_POPC: case EMU_OP_CLZ: case EMU_OP_BFIND: return EMU_U32;
    case EMU_OP_MUL: case EMU_OP_MAD: return mode & EMU_WIDE ? (emu_type_bits(t) == 16 ? EMU_U32 : EMU_U64) : t;
    default: return t;
  }
}

// add.f32.bf16 d, a, c: the narrow type is that of a (and b for fma).
static bool mixed_sources(emu_op op, unsigned i) { return op == EMU_OP_FMA ? i < 2 : i == 0; }

static bool decode_plain_row(decoder *d, emu_op op) {
  uint32_t mode = take_mode(d);
  if (op == EMU_OP_MIN || op == EMU_OP_MAX) {
    if (mod(d, "xorsign")) {
      if (!mod(d, "abs")) return wrong_form(d);
      mode |= EMU_XORSIGN_ABS;
    } else if (mod(d, "abs")) {
      mode |= EMU_ABS;
    }
  }
  unsigned logic = op == EMU_OP_LOP3 ? mod(d, "and") ? 1 : mod(d, "or") ? 2 : 0 : 0;
  unsigned prmt = EMU_PRMT_INDEX;
  if (op == EMU_OP_PRMT) {
    static const char *const names[] = {"", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
    for (unsigned i = 1; i < 7; i++)
      if (mod(d, names[i])) prmt = i;
  }
  emu_type t, t2 = EMU_NOTYPE;
  if (!mod_type(d, &t)) return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s lacks a type", d->s->op);
  bool two = mod_type(d, &t2);
  if (op == EMU_OP_DP4A || op == EMU_OP_DP2A) {
    if (!two) return wrong_form(d);
    mode |= (emu_type_is_signed(t) ? EMU_A_SIGNED : 0u) | (emu_type_is_signed(t2) ? EMU_B_SIGNED : 0u);
    t = mode & (EMU_A_SIGNED | EMU_B_SIGNED) ? EMU_S32 : EMU_U32;
    t2 = EMU_NOTYPE;
  }
  if (op == EMU_OP_SLCT) {
    if (!two) return wrong_form(d);
    if (t2 == EMU_S32) mode |= EMU_A_SIGNED;
  }
  unsigned n = emu_op_sources(op), want = n + 1;
  if ((op == EMU_OP_MIN || op == EMU_OP_MAX) && d->s->operand_count == 4) {
    n = 3, want = 4;
    mode |= EMU_THREE;
  }
  if (op == EMU_OP_LOP3) want = logic ? 6 : 5;
  if (!need_operands(d, want, want)) return false;
  if (op == EMU_OP_LOP3) {
    ptx_operand *table = operand(d, 4);
    if (table->kind != PTX_OP_IMM || table->imm > 255) return decode_error(d, table->pos, &diag_ptx_operand, "the truth table of lop3 is a constant of 8 bits");
    mode |= (uint32_t)table->imm << EMU_IMM_SHIFT;
  }
  mode |= (uint32_t)prmt << EMU_IMM_SHIFT;
  emu_row_fn *row = emu_row(op, t, t2, mode);
  if (!row) return wrong_form(d);
  uint32_t src[4], dst;
  for (unsigned i = 0; i < n; i++) {
    emu_type st = source_type(op, i, t, t2, mode);
    if (op != EMU_OP_SLCT && two && t2 != EMU_NOTYPE && mixed_sources(op, i)) st = t2;
    if (!source(d, operand(d, i + 1), st, false, &src[i])) return false;
  }
  if (logic) return lop3_pred(d, row, src, mode, logic);
  if (!result(d, operand(d, 0), result_type(op, t, mode), false, &dst)) return false;
  emu_insn *in = finish(d, emu_run_row, dst, src, n);
  in->u.row = row;
  in->mode = mode;
  return true;
}

bool decode_row(decoder *d) {
  const char *op = d->s->op;
  bool carry = false;
  for (unsigned i = 0; i < d->s->mod_count; i++) carry |= !strcmp(d->s->mods[i], "cc");
  bool with_carry = !strcmp(op, "addc") || !strcmp(op, "subc") || !strcmp(op, "madc");
  if (carry || with_carry) return carry_op(d, with_carry);
  bool logic = !strcmp(op, "and") || !strcmp(op, "or") || !strcmp(op, "xor") || !strcmp(op, "not");
  if (logic && mod(d, "pred")) return pred_logic(d);
  emu_op o = emu_op_find(op, strlen(op));
  if (!strcmp(op, "mad")) {
    for (unsigned i = 0; i < d->s->mod_count; i++)   // mad on floats is fma
      if (!strcmp(d->s->mods[i], "f32") || !strcmp(d->s->mods[i], "f64")) o = EMU_OP_FMA;
  }
  if (o == EMU_OP_COUNT) return wrong_form(d);
  return decode_plain_row(d, o);
}

bool decode_testp(decoder *d) {
  static const char *const names[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  unsigned what = 0;
  while (what < 6 && !mod(d, names[what])) what++;
  emu_type t;
  uint16_t p;
  uint32_t src;
  if (what == 6 || !mod_type(d, &t) || (t != EMU_F32 && t != EMU_F64)) return wrong_form(d);
  if (!need_operands(d, 2, 2) || !pred_result(d, operand(d, 0), &p) || !source(d, operand(d, 1), t, false, &src)) return false;
  emu_insn *in = finish(d, emu_run_testp, EMU_NONE, &src, 1);
  in->p = p;
  in->sub = (uint8_t)what;
  in->mode = t;
  return true;
}

static bool take_cmp(decoder *d, emu_cmp *out) {
  for (unsigned i = 0; i < d->s->mod_count; i++) {
    if (d->used >> i & 1) continue;
    emu_cmp c = emu_cmp_find(d->s->mods[i], strlen(d->s->mods[i]));
    if (c == EMU_CMP_COUNT) continue;
    d->used |= 1u << i;
    *out = c;
    return true;
  }
  return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s lacks a comparison", d->s->op);
}
static unsigned take_bool(decoder *d) { return mod(d, "and") ? 1 : mod(d, "or") ? 2 : mod(d, "xor") ? 3 : 0; }

bool decode_setp(decoder *d) {
  emu_cmp cmp;
  emu_type t;
  if (!take_cmp(d, &cmp)) return false;
  unsigned logic = take_bool(d);
  uint32_t mode = take_mode(d);
  if (!mod_type(d, &t)) return wrong_form(d);
  emu_cmp_fn *fn = emu_compare(cmp, t, mode);
  if (!fn) return wrong_form(d);
  uint32_t src[2];
  unsigned n = logic ? 4 : 3;
  if (!need_operands(d, n, n) || !source(d, operand(d, 1), t, false, &src[0]) || !source(d, operand(d, 2), t, false, &src[1])) return false;
  uint16_t p, q = EMU_NO_PRED, c = EMU_NO_PRED;
  bool nc = false;
  ptx_operand *o = operand(d, 0);
  if (o->kind == PTX_OP_PAIR) {
    for (int i = 0; i < 2; i++) {
      uint32_t r = i ? o->reg2 : o->reg;
      if (r != ~0u && d->f->regs.data[r].bits != 1) return decode_error(d, o->pos, &diag_ptx_operand, "setp gives predicates");
    }
    p = o->reg == ~0u ? EMU_NO_PRED : (uint16_t)o->reg;
    q = o->reg2 == ~0u ? EMU_NO_PRED : (uint16_t)o->reg2;
  } else if (!pred_result(d, o, &p)) {
    return false;
  }
  if (logic && !pred_source(d, operand(d, 3), &c, &nc)) return false;
  emu_insn *in = finish(d, emu_run_cmp, EMU_NONE, src, 2);
  in->u.cmp = fn;
  in->mode = mode | (emu_type_elements(t) == 2 ? 1u << 31 : 0);
  in->p = p;
  in->q = q;
  in->ps = c;
  in->ps_not = nc;
  in->sub = (uint8_t)logic;
  return true;
}

bool decode_set(decoder *d) {
  emu_cmp cmp;
  emu_type dt, t;
  if (!take_cmp(d, &cmp)) return false;
  unsigned logic = take_bool(d);
  uint32_t mode = take_mode(d);
  if (!mod_type(d, &dt) || !mod_type(d, &t)) return wrong_form(d);
  emu_cmp_fn *fn = emu_compare(cmp, t, mode);
  if (!fn) return wrong_form(d);
  uint32_t src[2], dst;
  uint16_t c = EMU_NO_PRED;
  bool nc = false;
  unsigned n = logic ? 4 : 3;
  if (!need_operands(d, n, n) || !source(d, operand(d, 1), t, false, &src[0]) || !source(d, operand(d, 2), t, false, &src[1])) return false;
  if (logic && !pred_source(d, operand(d, 3), &c, &nc)) return false;
  if (!result(d, operand(d, 0), dt, false, &dst)) return false;
  emu_insn *in = finish(d, emu_run_set, dst, src, 2);
  in->u.cmp = fn;
  in->mode = mode;
  in->target = dt;
  in->ps = c;
  in->ps_not = nc;
  in->sub = (uint8_t)logic;
  return true;
}

bool decode_selp(decoder *d) {
  emu_type t;
  uint32_t src[2], dst;
  uint16_t c;
  bool nc;
  if (!mod_type(d, &t)) return wrong_form(d);
  if (!need_operands(d, 4, 4) || !source(d, operand(d, 1), t, false, &src[0]) || !source(d, operand(d, 2), t, false, &src[1]) ||
      !pred_source(d, operand(d, 3), &c, &nc) || !result(d, operand(d, 0), t, false, &dst)) return false;
  emu_insn *in = finish(d, emu_run_select, dst, src, 2);
  in->ps = c;
  in->ps_not = nc;
  in->flags |= EMU_F_PROPAGATE;
  return true;
}

// --- moves ---------------------------------------------------------------------------------------------------------------------
// mov.b64 d, {a, b, ...}
static bool mov_pack(decoder *d, unsigned bits, const ptx_operand *v) {
  if (v->count < 2 || v->count > 8 || bits % v->count) return decode_error(d, v->pos, &diag_ptx_operand, "a vector of %u elements in mov.b%u", v->count, bits);
  uint32_t *x = ts_new_array(d->arena, uint32_t, v->count), dst;
  for (uint32_t i = 0; i < v->count; i++)
    if (!source_bits(d, &v->elements[i], bits / v->count, false, &x[i])) return false;
  if (!result(d, operand(d, 0), bits == 64 ? EMU_B64 : bits == 32 ? EMU_B32 : EMU_B16, false, &dst)) return false;
  emu_insn *in = finish(d, emu_run_pack, dst, NULL, 0);
  in->x = x;
  in->xs = (uint8_t)v->count;
  in->sub = (uint8_t)(bits / v->count);
  in->flags |= EMU_F_PROPAGATE;
  return true;
}

// mov.b64 {a, b, ...}, s
static bool mov_unpack(decoder *d, unsigned bits, const ptx_operand *v) {
  if (v->count < 2 || v->count > 8 || bits % v->count) return decode_error(d, v->pos, &diag_ptx_operand, "a vector of %u elements in mov.b%u", v->count, bits);
  unsigned each = bits / v->count;
  uint32_t *x = ts_new_array(d->arena, uint32_t, v->count), src;
  if (!source_bits(d, operand(d, 1), bits, false, &src)) return false;
  for (uint32_t i = 0; i < v->count; i++)
    if (!result(d, &v->elements[i], each == 32 ? EMU_B32 : each == 16 ? EMU_B16 : EMU_B8, false, &x[i])) return false;
  emu_insn *in = finish(d, emu_run_unpack, EMU_NONE, &src, 1);
  in->x = x;
  in->xd = (uint8_t)v->count;
  in->sub = (uint8_t)each;
  in->flags |= EMU_F_PROPAGATE;
  return true;
}

// The address of a variable or function as a value. Variables of a frame depend on the call.
static bool mov_address(decoder *d, emu_type t, const ptx_operand *o) {
  const ptx_var *v = o->var;
  const ptx_func *fn = NULL;
  if (!v) {
    ptx_symbol *s = ts_map_get(&d->m->by_name, ts_key(o->name));
    if (!s) return decode_error(d, o->pos, &diag_ptx_name, "'%s' is not declared", o->name);
    v = s->var;
    fn = s->func;
  }
  uint32_t dst;
  if (emu_type_bits(t) < 32) return wrong_form(d);
  if (!result(d, operand(d, 0), t, false, &dst)) return false;
  bool frame = v && v->space == PTX_LOCAL;
  if (v && v->space == PTX_PARAM) {
    frame = true;
    for (size_t i = 0; v->owner->is_entry && i < v->owner->params.count; i++)
      if (v->owner->params.data[i] == v) frame = false;
  }
  if (frame) {
    emu_insn *in = finish(d, emu_run_frame_address, dst, NULL, 0);
    in->target = (uint32_t)(v->address + o->imm);
    return true;
  }
  uint64_t value = fn ? EMU_CODE_BASE + (uint64_t)fn->index * 16 : v->address;
  uint32_t src = const_row(d, value + o->imm, emu_type_bits(t) > 32);
  finish(d, emu_run_move, dst, &src, 1);
  return true;
}

bool decode_mov(decoder *d) {
  ptx_operand *a = operand(d, 0), *b = operand(d, 1);
  if (!need_operands(d, 2, 2)) return false;
  if (mod(d, "pred")) {
    uint16_t p, c;
    bool nc;
    if (!pred_result(d, a, &p) || !pred_source(d, b, &c, &nc)) return false;
    emu_insn *in = emit(d, emu_run_pred_move);
    in->p = p;
    in->ps = c;
    in->ps_not = nc;
    return true;
  }
  emu_type t;
  if (!mod_type(d, &t)) return wrong_form(d);
  if (b->kind == PTX_OP_VECTOR) return mov_pack(d, emu_type_bits(t), b);
  if (a->kind == PTX_OP_VECTOR) return mov_unpack(d, emu_type_bits(t), a);
  uint32_t src, dst;
  if (b->kind == PTX_OP_NAME) {
    ptx_sreg r = b->name[0] == '%' ? ptx_sreg_find(ts_str_of(b->name)) : PTX_SREG_COUNT;
    if (r == PTX_SREG_COUNT) return mov_address(d, t, b);
    if (!result(d, a, t, false, &dst)) return false;
    emu_insn *in = finish(d, emu_run_sreg, dst, NULL, 0);
    in->sub = (uint8_t)r;
    if (r == PTX_SREG_CLOCK || r == PTX_SREG_CLOCK64 || r == PTX_SREG_GLOBALTIMER || r == PTX_SREG_GLOBALTIMER_LO) in->flags |= EMU_F_SPIN;
    return true;
  }
  if (!source(d, b, t, false, &src) || !result(d, a, t, false, &dst)) return false;
  finish(d, emu_run_move, dst, &src, 1)->flags |= EMU_F_PROPAGATE;
  return true;
}

bool decode_cvt(decoder *d) {
  bool pack = mod(d, "pack");
  uint32_t mode = take_mode(d);
  emu_type dt, st, extra;
  if (!mod_type(d, &dt) || !mod_type(d, &st)) return wrong_form(d);
  if (pack) {   // cvt.pack.sat.u8.s32.b32 d, a, b, c
    mod_type(d, &extra);
    uint32_t src[3], dst;
    unsigned n = d->s->operand_count == 4 ? 3 : 2;
    if (st != EMU_S32 || emu_type_bits(dt) > 16 || emu_type_is_float(dt)) return wrong_form(d);
    if (!need_operands(d, 3, 4)) return false;
    for (unsigned i = 0; i < n; i++)
      if (!source(d, operand(d, i + 1), EMU_B32, false, &src[i])) return false;
    if (!result(d, operand(d, 0), EMU_B32, false, &dst)) return false;
    emu_insn *in = finish(d, emu_run_cvt_pack, dst, src, n);
    in->mode = dt;
    return true;
  }
  emu_row_fn *row = emu_row(EMU_OP_CVT, dt, st, mode);
  if (!row) return decode_error(d, d->s->pos, &diag_ptx_modifier, "no conversion from .%s to .%s with these modifiers", emu_type_name(st), emu_type_name(dt));
  unsigned n = d->s->operand_count - 1;
  uint32_t src[3], dst;
  if (!need_operands(d, 2, 4)) return false;
  bool packed = emu_type_elements(dt) == 2 && emu_type_elements(st) == 1;
  if (n != (packed ? 2u : 1u))
    return decode_error(d, d->s->pos, &diag_ptx_operand, "cvt to .%s from .%s takes %s", emu_type_name(dt), emu_type_name(st), packed ? "two sources" : "one source");
  for (unsigned i = 0; i < n; i++)
    if (!source(d, operand(d, i + 1), st, true, &src[i])) return false;
  if (!result(d, operand(d, 0), dt, true, &dst)) return false;
  emu_insn *in = finish(d, emu_run_row, dst, src, n);
  in->u.row = row;
  in->mode = mode;
  return true;
}

bool decode_cvta(decoder *d) {
  bool to = mod(d, "to");
  uint64_t base = 0;
  if (mod(d, "shared") || mod(d, "shared::cta")) base = EMU_SHARED_BASE;
  else if (mod(d, "local")) base = EMU_LOCAL_BASE;
  else if (mod(d, "param") || mod(d, "param::entry")) base = EMU_PARAM_BASE;
  else if (!mod(d, "global") && !mod(d, "const")) return wrong_form(d);
  emu_type t;
  uint32_t src[2], dst;
  if (!mod_type(d, &t) || emu_type_bits(t) != 64 || !need_operands(d, 2, 2)) return wrong_form(d);
  ptx_operand *o = operand(d, 1);
  if (o->kind == PTX_OP_NAME) {   // cvta.local.u64 %rd, depot: the address first
    uint32_t address = temp(d, true);
    ptx_operand saved = d->s->operands[0];
    d->s->operands[0] = (ptx_operand){.kind = PTX_OP_REG, .reg = address, .pos = o->pos};
    bool ok = mov_address(d, EMU_U64, o);
    d->s->operands[0] = saved;
    if (!ok) return false;
    d->prog->code.data[d->prog->code.count - 1].flags |= EMU_F_EXTRA;
    src[0] = address;
  } else if (!source(d, o, t, false, &src[0])) {
    return false;
  }
  if (!result(d, operand(d, 0), t, false, &dst)) return false;
  if (!base) {
    finish(d, emu_run_move, dst, src, 1)->flags |= EMU_F_PROPAGATE;
    return true;
  }
  src[1] = const_row(d, base, true);
  emu_insn *in = finish(d, emu_run_row, dst, src, 2);
  in->u.row = emu_row(to ? EMU_OP_SUB : EMU_OP_ADD, EMU_U64, EMU_NOTYPE, 0);
  return true;
}

bool decode_isspacep(decoder *d) {
  unsigned space = PTX_GLOBAL;
  if (mod(d, "shared") || mod(d, "shared::cta") || mod(d, "shared::cluster")) space = PTX_SHARED;
  else if (mod(d, "local")) space = PTX_LOCAL;
  else if (mod(d, "param") || mod(d, "param::entry")) space = PTX_PARAM;
  else if (mod(d, "const")) space = PTX_CONST;
  else if (!mod(d, "global")) return wrong_form(d);
  uint16_t p;
  uint32_t src;
  if (!need_operands(d, 2, 2) || !pred_result(d, operand(d, 0), &p) || !source_bits(d, operand(d, 1), 64, false, &src)) return false;
  emu_insn *in = finish(d, emu_run_isspacep, EMU_NONE, &src, 1);
  in->p = p;
  in->sub = (uint8_t)space;
  return true;
}

bool decode_nothing(decoder *d) {
  d->used = ~0u;   // hints take modifiers of many kinds and none changes what they do
  emit(d, emu_run_nothing);
  return true;
}

bool decode_createpolicy(decoder *d) {
  d->used = ~0u;
  uint32_t dst, zero = const_row(d, 0, true);
  if (!need_operands(d, 1, 4) || !result(d, operand(d, 0), EMU_B64, false, &dst)) return false;
  finish(d, emu_run_move, dst, &zero, 1);
  return true;
}
