// Decoding of what touches memory or other lanes: loads, stores, atomics, copies, barriers, shuffles, matrices, calls.
#include "emulator/decode.h"

static bool wrong_form(decoder *d) {
  return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s has no form with these types and modifiers that is supported", d->s->op);
}

static const char *const hint_prefixes[] = {"L1::", "L2::", "level::", "L2::cache_hint"};

bool memory_mods(decoder *d, emu_mem *m) {
  static const char *const ignored[] = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "weak", "unified", "noftz"};
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) mod(d, ignored[i]);
  for (unsigned i = 0; i < d->s->mod_count; i++)
    for (size_t k = 0; k < sizeof hint_prefixes / sizeof hint_prefixes[0]; k++)
      if (ts_str_starts(ts_str_of(d->s->mods[i]), hint_prefixes[k])) d->used |= 1u << i;
  if (mod(d, "volatile")) m->strong = m->is_volatile = true;
  if (mod(d, "mmio") || mod(d, "relaxed")) m->strong = true;
  mod(d, "relaxed");
  if (mod(d, "acquire")) m->strong = m->acquire = true;
  if (mod(d, "release")) m->strong = m->release = true;
  if (mod(d, "acq_rel")) m->strong = m->acquire = m->release = true;
  if (mod(d, "cta")) m->cta_scope = true;
  if (!mod(d, "gpu") && !mod(d, "sys")) mod(d, "cluster");
  m->space = PTX_GENERIC;
  if (mod(d, "global")) m->space = PTX_GLOBAL;
  else if (mod(d, "shared") || mod(d, "shared::cta")) m->space = PTX_SHARED;
  else if (mod(d, "local")) m->space = PTX_LOCAL;
  else if (mod(d, "const")) m->space = PTX_CONST;
  else if (mod(d, "param") || mod(d, "param::entry") || mod(d, "param::func")) m->space = PTX_PARAM;
  m->nc = mod(d, "nc");
  return true;
}

bool address(decoder *d, const ptx_operand *o, emu_mem *m, uint32_t *base) {
  *base = EMU_NONE;
  if (!o || o->kind != PTX_OP_ADDRESS) return decode_error(d, o ? o->pos : d->s->pos, &diag_ptx_operand, "expected an address in brackets");
  const ptx_operand *b = &o->elements[0];
  m->offset = (int64_t)o->imm;
  if (b->kind == PTX_OP_IMM) {
    m->offset += (int64_t)b->imm;
    return true;
  }
  if (b->kind == PTX_OP_REG) {
    const ptx_reg *r = &d->f->regs.data[b->reg];
    if (r->bits != 32 && r->bits != 64) return decode_error(d, b->pos, &diag_ptx_operand, "'%s' can't hold an address", r->name);
    *base = b->reg;
    m->base_wide = r->bits == 64;
    if (m->space == PTX_PARAM && !d->f->is_entry) m->space = PTX_LOCAL;   // parameters of functions live in their frame
    return true;
  }
  if (b->kind != PTX_OP_NAME) return decode_error(d, b->pos, &diag_ptx_operand, "expected an address");
  const ptx_var *v = b->var;
  if (!v) {
    ptx_symbol *s = ts_map_get(&d->m->by_name, ts_key(b->name));
    v = s ? s->var : NULL;
    if (!v) return decode_error(d, b->pos, &diag_ptx_name, "'%s' is not a variable", b->name);
  }
  if (m->space != PTX_GENERIC && v->space != m->space) return decode_error(d, b->pos, &diag_ptx_operand, "'%s' is not in the space of this instruction", v->name);
  if (m->space == PTX_GENERIC) m->space = v->space;
  m->offset += (int64_t)v->address;
  m->frame = v->space == PTX_LOCAL || v->space == PTX_PARAM;
  if (v->space == PTX_PARAM && v->owner->is_entry)
    for (size_t i = 0; i < v->owner->params.count; i++)
      if (v->owner->params.data[i] == v) m->frame = false;
  if (m->frame) m->space = PTX_LOCAL;   // parameters of functions live in their frame
  return true;
}

static unsigned take_vector(decoder *d) { return mod(d, "v2") ? 2 : mod(d, "v4") ? 4 : mod(d, "v8") ? 8 : 1; }

// The rows of {a, b, ...} or of one operand.
static bool vector_operand(decoder *d, const ptx_operand *o, unsigned n, emu_type t, bool is_result, uint32_t *x) {
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks an operand", d->s->op);
  if (n == 1 && o->kind != PTX_OP_VECTOR) return is_result ? result(d, o, t, true, x) : source(d, o, t, true, x);
  if (o->kind != PTX_OP_VECTOR || o->count != n) return decode_error(d, o->pos, &diag_ptx_operand, "expected a vector of %u registers", n);
  for (unsigned i = 0; i < n; i++)
    if (!(is_result ? result(d, &o->elements[i], t, true, &x[i]) : source(d, &o->elements[i], t, true, &x[i]))) return false;
  return true;
}

static void set_wide(decoder *d, emu_insn *in) {
  in->wide = in->d != EMU_NONE && is_wide_slot(d, in->d);
  for (unsigned i = 0; i < 4; i++)
    if (is_wide_slot(d, in->s[i])) in->wide |= (uint8_t)(2u << i);
}

bool decode_ld(decoder *d) {
  emu_mem *m = ts_new(d->arena, emu_mem);
  emu_type t;
  memory_mods(d, m);
  unsigned n = take_vector(d);
  if (!mod_type(d, &t) || emu_type_bits(t) < 8) return wrong_form(d);
  uint32_t *x = ts_new_array(d->arena, uint32_t, n), base;
  if (!need_operands(d, 2, 3) || !address(d, operand(d, 1), m, &base)) return false;
  m->bytes = (uint8_t)(emu_type_bits(t) / 8);
  m->count = (uint8_t)n;
  m->sign = emu_type_is_signed(t);
  if ((m->bytes * n > 16 && !(m->bytes * n == 32 && d->sm >= 100)) || (n == 8 && m->bytes != 4)) return wrong_form(d);
  if (!vector_operand(d, operand(d, 0), n, t, true, x)) return false;
  emu_insn *in = emit(d, emu_run_ld);
  in->u.extra = m;
  in->x = x;
  in->xd = (uint8_t)n;
  in->s[0] = base;
  if (m->strong) in->flags |= EMU_F_SPIN;
  set_wide(d, in);
  return true;
}

bool decode_st(decoder *d) {
  emu_mem *m = ts_new(d->arena, emu_mem);
  emu_type t;
  memory_mods(d, m);
  unsigned n = take_vector(d);
  if (!mod_type(d, &t) || emu_type_bits(t) < 8) return wrong_form(d);
  uint32_t *x = ts_new_array(d->arena, uint32_t, n), base;
  if (!need_operands(d, 2, 3) || !address(d, operand(d, 0), m, &base)) return false;
  m->bytes = (uint8_t)(emu_type_bits(t) / 8);
  m->count = (uint8_t)n;
  if ((m->bytes * n > 16 && !(m->bytes * n == 32 && d->sm >= 100)) || (n == 8 && m->bytes != 4)) return wrong_form(d);
  if (!vector_operand(d, operand(d, 1), n, t, false, x)) return false;
  emu_insn *in = emit(d, emu_run_st);
  in->u.extra = m;
  in->x = x;
  in->xs = (uint8_t)n;
  in->s[0] = base;
  set_wide(d, in);
  return true;
}

static bool atom_allowed(unsigned op, emu_type t, unsigned vector) {
  unsigned bits = emu_type_bits(t);
  if (emu_type_is_float(t)) {
    bool half = t == EMU_F16 || t == EMU_BF16 || t == EMU_F16X2 || t == EMU_BF16X2;
    if (op == EMU_OP_ADD) return half || t == EMU_F32 || (t == EMU_F64 && vector == 1);
    return (op == EMU_OP_MIN || op == EMU_OP_MAX) && half && vector > 1;
  }
  if (vector > 1) return false;
  if (op == EMU_ATOM_CAS) return bits >= 16;
  if (op == EMU_ATOM_EXCH || op == EMU_OP_AND || op == EMU_OP_OR || op == EMU_OP_XOR) return bits >= 32;
  if (op == EMU_ATOM_INC || op == EMU_ATOM_DEC) return t == EMU_U32;
  return bits >= 32 && emu_type_elements(t) == 1 && (op == EMU_OP_ADD || op == EMU_OP_MIN || op == EMU_OP_MAX);
}

bool decode_atom(decoder *d) {
  static const struct { const char *name; unsigned op; } ops[] = {
      {"add", EMU_OP_ADD}, {"min", EMU_OP_MIN}, {"max", EMU_OP_MAX}, {"and", EMU_OP_AND}, {"or", EMU_OP_OR}, {"xor", EMU_OP_XOR},
      {"exch", EMU_ATOM_EXCH}, {"cas", EMU_ATOM_CAS}, {"inc", EMU_ATOM_INC}, {"dec", EMU_ATOM_DEC}};
  bool red = !strcmp(d->s->op, "red");
  emu_mem *m = ts_new(d->arena, emu_mem);
  memory_mods(d, m);
  m->strong = true;
  size_t k = 0;
  while (k < sizeof ops / sizeof ops[0] && !mod(d, ops[k].name)) k++;
  unsigned n = take_vector(d);
  emu_type t;
  if (k == sizeof ops / sizeof ops[0] || !mod_type(d, &t) || !atom_allowed(ops[k].op, t, n)) return wrong_form(d);
  m->op = (uint8_t)ops[k].op;
  m->type = t;
  m->bytes = (uint8_t)(emu_type_bits(t) / 8);
  m->count = (uint8_t)n;
  m->sign = emu_type_is_signed(t);
  bool cas = m->op == EMU_ATOM_CAS;
  unsigned first = red ? 0 : 1, want = first + 2 + cas;
  uint32_t base;
  if ((red && (cas || m->op == EMU_ATOM_EXCH)) || !need_operands(d, want, want + 1)) return wrong_form(d);
  if (!address(d, operand(d, first), m, &base)) return false;
  uint32_t *x = ts_new_array(d->arena, uint32_t, 3 * n);
  unsigned results = 0;
  if (!red) {
    if (!vector_operand(d, operand(d, 0), n, t, true, x)) return false;
    results = n;
  }
  if (!vector_operand(d, operand(d, first + 1), n, t, false, x + results)) return false;
  if (cas && !source(d, operand(d, first + 2), t, false, &x[results + n])) return false;
  emu_insn *in = emit(d, emu_run_atom);
  in->u.extra = m;
  in->x = x;
  in->xd = (uint8_t)results;
  in->xs = (uint8_t)(n + cas);
  in->s[0] = base;
  in->flags |= EMU_F_SPIN;
  set_wide(d, in);
  return true;
}

bool decode_cp(decoder *d) {
  if (!mod(d, "async")) return wrong_form(d);
  if (mod(d, "commit_group")) {
    emit(d, emu_run_cp_commit);
    return true;
  }
  bool all = mod(d, "wait_all");
  if (all || mod(d, "wait_group")) {
    uint64_t n = 0;
    if (!all && (!need_operands(d, 1, 1) || operand(d, 0)->kind != PTX_OP_IMM)) return wrong_form(d);
    if (!all) n = operand(d, 0)->imm;
    emu_insn *in = emit(d, emu_run_cp_wait);
    in->target = n > 1000 ? 1000 : (uint32_t)n;
    in->sub = all;
    return true;
  }
  emu_mem *to = ts_new_array(d->arena, emu_mem, 2), *from = to + 1;
  if (!mod(d, "shared") && !mod(d, "shared::cta")) return wrong_form(d);
  memory_mods(d, from);
  to->space = PTX_SHARED;
  uint32_t base_to, base_from;
  if (!need_operands(d, 3, 5) || !address(d, operand(d, 0), to, &base_to) || !address(d, operand(d, 1), from, &base_from)) return false;
  ptx_operand *size = operand(d, 2);
  if (size->kind != PTX_OP_IMM || (size->imm != 4 && size->imm != 8 && size->imm != 16)) return decode_error(d, size->pos, &diag_ptx_operand, "cp.async copies 4, 8 or 16 bytes");
  to->copy_bytes = to->bytes = from->bytes = (uint8_t)size->imm;
  to->count = from->count = 1;
  uint32_t src_size = EMU_NONE;
  uint16_t ignore = EMU_NO_PRED;
  bool ignore_not = false;
  ptx_operand *fourth = operand(d, 3);
  bool policy_only = d->s->operand_count == 4 && fourth->kind == PTX_OP_REG && d->f->regs.data[fourth->reg].bits == 64;
  if (fourth && !policy_only) {
    bool pred = fourth->kind == PTX_OP_REG && d->f->regs.data[fourth->reg].bits == 1;
    if (pred ? !pred_source(d, fourth, &ignore, &ignore_not) : !source(d, fourth, EMU_U32, false, &src_size)) return false;
  }
  emu_insn *in = emit(d, emu_run_cp_async);
  in->u.extra = to;
  in->s[0] = base_to;
  in->s[1] = base_from;
  in->s[2] = src_size;
  in->ps = ignore;
  in->ps_not = ignore_not;
  in->sub = ignore != EMU_NO_PRED;
  set_wide(d, in);
  return true;
}

bool decode_fence(decoder *d) {
  if (mod(d, "proxy")) {   // proxies: all paths see one memory here
    d->used = ~0u;
    emit(d, emu_run_nothing);
    return true;
  }
  bool membar = d->s->op[0] == 'm', cta = mod(d, "cta");
  if (membar) mod(d, "gl");
  mod(d, "sc");
  mod(d, "acq_rel");
  mod(d, "acquire");
  mod(d, "release");
  mod(d, "gpu");
  mod(d, "sys");
  emit(d, emu_run_fence)->sub = cta;
  return true;
}

// --- lanes ---------------------------------------------------------------------------------------------------------------------
bool decode_bar(decoder *d) {
  bool old = !strcmp(d->s->op, "bar");
  if (old && mod(d, "warp")) {
    uint32_t members;
    if (!mod(d, "sync") || !need_operands(d, 1, 1) || !source(d, operand(d, 0), EMU_B32, false, &members)) return wrong_form(d);
    emu_insn *in = emit(d, NULL);
    in->flow = EMU_WARP_BAR;
    in->s[0] = members;
    return true;
  }
  mod(d, "cta");
  bool arrive = mod(d, "arrive"), red = mod(d, "red");
  if (!arrive && !red && !mod(d, "sync")) return wrong_form(d);
  bool aligned = mod(d, "aligned") || old;
  unsigned reduce = 0;
  uint32_t dst = EMU_NONE, id, count = EMU_NONE;
  uint16_t p = EMU_NO_PRED, ps = EMU_NO_PRED;
  bool not = false;
  unsigned at = 0;
  if (red) {
    reduce = mod(d, "popc") ? 1 : mod(d, "and") ? 2 : mod(d, "or") ? 3 : 0;
    if (!reduce || !(reduce == 1 ? mod(d, "u32") : mod(d, "pred"))) return wrong_form(d);
    if (!need_operands(d, 3, 4)) return false;
    if (reduce == 1 ? !result(d, operand(d, 0), EMU_U32, false, &dst) : !pred_result(d, operand(d, 0), &p)) return false;
    if (!pred_source(d, operand(d, d->s->operand_count - 1u), &ps, &not)) return false;
    at = 1;
  }
  unsigned n = d->s->operand_count - at - (red ? 1 : 0);
  if (n < 1 || n > 2 || (arrive && n != 2)) return decode_error(d, d->s->pos, &diag_ptx_operand, "wrong number of operands of %s", d->s->op);
  if (!source(d, operand(d, at), EMU_U32, false, &id) || (n == 2 && !source(d, operand(d, at + 1), EMU_U32, false, &count))) return false;
  emu_insn *in = emit(d, NULL);
  in->flow = EMU_BAR;
  in->d = dst;
  in->s[0] = id;
  in->s[1] = count;
  in->p = p;
  in->ps = ps;
  in->ps_not = not;
  in->sub = (uint8_t)(reduce | (arrive ? 8 : 0));
  if (aligned) in->flags |= EMU_F_ALIGNED;
  return true;
}

// The common end of operations that need their member lanes together; s[3] holds the mask.
static emu_insn *converge(decoder *d, emu_handler *run, uint32_t members) {
  emu_insn *in = emit(d, run);
  in->flow = EMU_CONVERGE;
  in->s[3] = members;
  return in;
}

bool decode_shfl(decoder *d) {
  if (!mod(d, "sync")) return decode_error(d, d->s->pos, &diag_ptx_unsupported, "shfl without .sync is not supported");
  unsigned kind = mod(d, "up") ? EMU_SHFL_UP : mod(d, "down") ? EMU_SHFL_DOWN : mod(d, "bfly") ? EMU_SHFL_BFLY : mod(d, "idx") ? EMU_SHFL_IDX : 9;
  if (kind == 9 || !mod(d, "b32")) return wrong_form(d);
  uint32_t a, b, c, members, dst;
  uint16_t p = EMU_NO_PRED;
  if (!need_operands(d, 5, 5)) return false;
  if (!source(d, operand(d, 1), EMU_B32, false, &a) || !source(d, operand(d, 2), EMU_B32, false, &b) ||
      !source(d, operand(d, 3), EMU_B32, false, &c) || !source(d, operand(d, 4), EMU_B32, false, &members)) return false;
  ptx_operand o = *operand(d, 0);
  if (o.kind == PTX_OP_PAIR) {
    if (o.reg2 != ~0u) p = (uint16_t)o.reg2;
    if (p != EMU_NO_PRED && d->f->regs.data[p].bits != 1) return decode_error(d, o.pos, &diag_ptx_operand, "the second result of shfl is a predicate");
    o.kind = o.reg == ~0u ? PTX_OP_SINK : PTX_OP_REG;
  }
  if (!result(d, &o, EMU_B32, false, &dst)) return false;
  emu_insn *in = converge(d, emu_run_shfl, members);
  in->d = dst;
  in->p = p;
  in->s[0] = a;
  in->s[1] = b;
  in->s[2] = c;
  in->sub = (uint8_t)kind;
  return true;
}

bool decode_vote(decoder *d) {
  if (!mod(d, "sync")) return decode_error(d, d->s->pos, &diag_ptx_unsupported, "vote without .sync is not supported");
  unsigned kind = mod(d, "all") ? 0 : mod(d, "any") ? 1 : mod(d, "uni") ? 2 : mod(d, "ballot") ? 3 : 9;
  if (kind == 9 || !(kind == 3 ? mod(d, "b32") : mod(d, "pred"))) return wrong_form(d);
  uint32_t members, dst = EMU_NONE;
  uint16_t p = EMU_NO_PRED, ps;
  bool not;
  if (!need_operands(d, 3, 3) || !pred_source(d, operand(d, 1), &ps, &not) || !source(d, operand(d, 2), EMU_B32, false, &members)) return false;
  if (kind == 3 ? !result(d, operand(d, 0), EMU_B32, false, &dst) : !pred_result(d, operand(d, 0), &p)) return false;
  emu_insn *in = converge(d, emu_run_vote, members);
  in->d = dst;
  in->p = p;
  in->ps = ps;
  in->ps_not = not;
  in->sub = (uint8_t)kind;
  return true;
}

bool decode_match(decoder *d) {
  bool all = mod(d, "all");
  uint32_t a, members, dst;
  uint16_t p = EMU_NO_PRED;
  emu_type t;
  if ((!all && !mod(d, "any")) || !mod(d, "sync") || !mod_type(d, &t) || emu_type_bits(t) < 32) return wrong_form(d);
  if (!need_operands(d, 3, 3) || !source(d, operand(d, 1), t, false, &a) || !source(d, operand(d, 2), EMU_B32, false, &members)) return false;
  ptx_operand o = *operand(d, 0);
  if (o.kind == PTX_OP_PAIR) {
    if (o.reg2 != ~0u) p = (uint16_t)o.reg2;
    o.kind = o.reg == ~0u ? PTX_OP_SINK : PTX_OP_REG;
  }
  if (!result(d, &o, EMU_B32, false, &dst)) return false;
  emu_insn *in = converge(d, emu_run_match, members);
  in->d = dst;
  in->p = p;
  in->s[0] = a;
  in->sub = all;
  set_wide(d, in);
  return true;
}

bool decode_redux(decoder *d) {
  static const struct { const char *name; emu_op op; } ops[] = {{"add", EMU_OP_ADD}, {"min", EMU_OP_MIN}, {"max", EMU_OP_MAX},
                                                               {"and", EMU_OP_AND}, {"or", EMU_OP_OR}, {"xor", EMU_OP_XOR}};
  size_t k = 0;
  if (!mod(d, "sync")) return wrong_form(d);
  while (k < 6 && !mod(d, ops[k].name)) k++;
  uint32_t a, members, dst, mode = (mod(d, "abs") ? EMU_ABS : 0u) | (mod(d, "NaN") ? EMU_NAN : 0u);
  emu_type t;
  if (k == 6 || !mod_type(d, &t) || emu_type_bits(t) != 32) return wrong_form(d);
  if (emu_type_is_float(t) && (t != EMU_F32 || (k != 1 && k != 2))) return wrong_form(d);
  if (!need_operands(d, 3, 3) || !source(d, operand(d, 1), t, false, &a) || !source(d, operand(d, 2), EMU_B32, false, &members) ||
      !result(d, operand(d, 0), t, false, &dst)) return false;
  emu_insn *in = converge(d, emu_run_redux, members);
  in->d = dst;
  in->s[0] = a;
  in->sub = (uint8_t)ops[k].op;
  in->target = t;
  in->mode = mode;
  return true;
}

bool decode_activemask(decoder *d) {
  uint32_t dst;
  if (!mod(d, "b32") || !need_operands(d, 1, 1) || !result(d, operand(d, 0), EMU_B32, false, &dst)) return wrong_form(d);
  emit(d, emu_run_activemask)->d = dst;
  return true;
}

bool decode_elect(decoder *d) {
  uint32_t dst, members;
  if (!mod(d, "sync") || !need_operands(d, 2, 2) || !source(d, operand(d, 1), EMU_B32, false, &members)) return wrong_form(d);
  ptx_operand o = *operand(d, 0);
  if (o.kind != PTX_OP_PAIR || o.reg2 == ~0u) return wrong_form(d);
  uint16_t p = (uint16_t)o.reg2;
  o.kind = o.reg == ~0u ? PTX_OP_SINK : PTX_OP_REG;
  if (!result(d, &o, EMU_B32, false, &dst)) return false;
  emu_insn *in = converge(d, emu_run_elect, members);
  in->d = dst;
  in->p = p;
  return true;
}

// --- calls ---------------------------------------------------------------------------------------------------------------------
static bool call_args(decoder *d, const ptx_operand *o, emu_call_arg **out, uint32_t *count, bool returns) {
  *count = o ? o->count : 0;
  *out = ts_new_array(d->arena, emu_call_arg, *count + 1);
  for (uint32_t i = 0; i < *count; i++) {
    const ptx_operand *a = &o->elements[i];
    emu_call_arg *arg = &(*out)[i];
    *arg = (emu_call_arg){.frame_offset = EMU_NONE, .slot = EMU_NONE};
    if (a->kind == PTX_OP_NAME && a->var && a->var->space == PTX_PARAM) {
      arg->frame_offset = (uint32_t)a->var->address;
      arg->bytes = (uint32_t)a->var->bytes;
    } else {
      return decode_error(d, a->pos, &diag_ptx_unsupported, "only .param variables are supported as %s of a call", returns ? "results" : "arguments");
    }
  }
  return true;
}

static bool check_signature(decoder *d, const ptx_func *f, const emu_call_info *c, ptx_pos pos) {
  bool same = f->params.count == c->arg_count && f->rets.count == c->ret_count;
  for (uint32_t i = 0; same && i < c->arg_count; i++) same = f->params.data[i]->bytes == c->args[i].bytes;
  for (uint32_t i = 0; same && i < c->ret_count; i++) same = f->rets.data[i]->bytes == c->rets[i].bytes;
  return same || decode_error(d, pos, &diag_ptx_operand, "the arguments of this call don't fit the declaration of '%s'", f->name);
}

bool decode_call(decoder *d) {
  mod(d, "uni");
  emu_call_info *c = ts_new(d->arena, emu_call_info);
  unsigned at = 0;
  ptx_operand *rets = NULL, *args = NULL;
  if (!need_operands(d, 1, 4)) return false;
  if (operand(d, 0)->kind == PTX_OP_TUPLE) rets = operand(d, at++);
  ptx_operand *target = operand(d, at++);
  if (!target) return decode_error(d, d->s->pos, &diag_ptx_operand, "call without a function");
  if (operand(d, at) && operand(d, at)->kind == PTX_OP_TUPLE) args = operand(d, at++);
  if (!call_args(d, args, &c->args, &c->arg_count, false) || !call_args(d, rets, &c->rets, &c->ret_count, true)) return false;
  uint32_t pointer = EMU_NONE;
  c->callee = EMU_NONE;
  if (target->kind == PTX_OP_REG) {
    if (!source_bits(d, target, 64, false, &pointer)) return false;
    d->fn->indirect = true;
  } else {
    ptx_symbol *s = target->kind == PTX_OP_NAME ? ts_map_get(&d->m->by_name, ts_key(target->name)) : NULL;
    if (!s || !s->func || s->func->is_entry) return decode_error(d, target->pos, &diag_ptx_name, "call of something that is not a function");
    c->callee = s->func->index;
    c->builtin = d->prog->functions[c->callee].builtin;
    if (!s->func->has_body && !c->builtin) return decode_error(d, target->pos, &diag_ptx_unsupported, "call of '%s', which has no body in this module", s->func->name);
    if (!check_signature(d, s->func, c, target->pos)) return false;
    ts_vec_push(d->arena, &d->fn->callees, c->callee);
  }
  emu_insn *in = emit(d, NULL);
  in->flow = EMU_CALL;
  in->u.extra = c;
  in->s[0] = pointer;
  return true;
}

bool decode_ret(decoder *d) {
  mod(d, "uni");
  emit(d, NULL)->flow = d->s->op[0] == 'e' ? EMU_EXIT : EMU_RET;
  return true;
}
bool decode_trap(decoder *d) {
  emit(d, emu_run_trap);
  return true;
}
bool decode_nanosleep(decoder *d) {
  uint32_t t;
  if (!mod(d, "u32") || !need_operands(d, 1, 1) || !source(d, operand(d, 0), EMU_U32, false, &t)) return wrong_form(d);
  emu_insn *in = emit(d, emu_run_nothing);
  in->flow = EMU_YIELD;
  in->flags |= EMU_F_SPIN;
  return true;
}
