// The decoder's frame: operands, constants, operations, labels.
#include "emulator/decode.h"

bool decode_error(decoder *d, ptx_pos pos, const ts_diag_kind *kind, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  ts_vreport(d->diags, (ts_loc){d->m->file, pos.line, pos.col, 0}, kind, fmt, ap);
  va_end(ap);
  return false;
}

bool mod(decoder *d, const char *name) {
  for (unsigned i = 0; i < d->s->mod_count; i++) {
    if (d->used >> i & 1 || strcmp(d->s->mods[i], name)) continue;
    d->used |= 1u << i;
    return true;
  }
  return false;
}

bool mod_type(decoder *d, emu_type *out) {
  for (unsigned i = 0; i < d->s->mod_count; i++) {
    if (d->used >> i & 1) continue;
    emu_type t = emu_type_find(d->s->mods[i], strlen(d->s->mods[i]));
    if (t == EMU_NOTYPE) continue;
    d->used |= 1u << i;
    *out = t;
    return true;
  }
  return false;
}

bool need_operands(decoder *d, unsigned least, unsigned most) {
  if (d->s->operand_count >= least && d->s->operand_count <= most) return true;
  return decode_error(d, d->s->pos, &diag_ptx_operand, "%s takes %u%s operands, not %u", d->s->op, least, least == most ? "" : " or more", d->s->operand_count);
}

ptx_operand *operand(decoder *d, unsigned i) { return i < d->s->operand_count ? &d->s->operands[i] : NULL; }

static const emu_insn blank = {.d = EMU_NONE, .s = {EMU_NONE, EMU_NONE, EMU_NONE, EMU_NONE}, .guard = EMU_NO_PRED, .p = EMU_NO_PRED,
                               .q = EMU_NO_PRED, .ps = EMU_NO_PRED, .target = EMU_NONE, .rejoin = EMU_NONE};

emu_insn *emit(decoder *d, emu_handler *run) {
  ts_vec_push(d->arena, &d->prog->code, blank);
  emu_insn *in = &d->prog->code.data[d->prog->code.count - 1];
  in->run = run;
  in->stmt = d->stmt;
  if (d->s && d->s->guarded) {
    in->guard = (uint16_t)d->s->guard;
    in->guard_not = d->s->guard_not;
  }
  return in;
}

uint32_t const_row(decoder *d, uint64_t value, bool wide) {
  ts_map *map = wide ? &d->wide_consts : &d->consts;
  if (!wide) value &= 0xffffffffu;
  uintptr_t found = (uintptr_t)ts_map_get(map, value);
  if (!found) {
    ts_vec_push(d->arena, &d->pool, value);
    ts_vec_push(d->arena, &d->pool_wide, (uint8_t)wide);
    found = d->pool.count;
    ts_map_put(map, value, (void *)found);
  }
  return EMU_CONST | (uint32_t)(found - 1);
}

uint32_t temp(decoder *d, bool wide) {
  ptx_reg r = {"(temporary)", wide ? EMU_B64 : EMU_B32, wide ? 64 : 32};
  ts_vec_push(d->arena, &d->f->regs, r);
  return (uint32_t)d->f->regs.count - 1;
}

static bool immediate(decoder *d, const ptx_operand *o, emu_type t, uint64_t *out) {
  if (!o->is_float) {
    if (t == EMU_F32 || t == EMU_F64) {
      if (o->imm) return decode_error(d, o->pos, &diag_ptx_operand, "an integer where a .%s is needed (write 0f… or 0d…)", emu_type_name(t));
      *out = 0;
      return true;
    }
    unsigned bits = emu_type_bits(t);
    *out = bits >= 64 ? o->imm : o->imm & ((1ull << bits) - 1);
    return true;
  }
  double v;
  float f;
  uint32_t w = (uint32_t)o->imm;
  if (o->imm_f32) memcpy(&f, &w, 4), v = (double)f;
  else memcpy(&v, &o->imm, 8), f = (float)v;
  memcpy(&w, &f, 4);
  if (t == EMU_F64 || t == EMU_B64) memcpy(out, &v, 8);
  else if (t == EMU_F32 || t == EMU_B32) *out = w;
  else return decode_error(d, o->pos, &diag_ptx_operand, "a floating-point constant where a .%s is needed", emu_type_name(t));
  return true;
}

bool source_bits(decoder *d, const ptx_operand *o, unsigned bits, bool loose, uint32_t *out) {
  return source(d, o, bits == 64 ? EMU_B64 : bits == 32 ? EMU_B32 : bits == 16 ? EMU_B16 : EMU_B8, loose, out);
}

static bool special_source(decoder *d, const ptx_operand *o, ptx_sreg r, bool wide, uint32_t *out) {
  if (o->imm) return decode_error(d, o->pos, &diag_ptx_operand, "an offset behind a special register");
  *out = temp(d, wide);
  emu_insn *in = emit(d, emu_run_sreg);
  in->d = *out;
  in->sub = (uint8_t)r;
  in->wide = wide;
  in->cls = EMU_C_MOVE;
  in->flags |= EMU_F_EXTRA;
  if (r == PTX_SREG_CLOCK || r == PTX_SREG_CLOCK64 || r == PTX_SREG_GLOBALTIMER || r == PTX_SREG_GLOBALTIMER_LO) in->flags |= EMU_F_SPIN;
  return true;
}

bool source(decoder *d, const ptx_operand *o, emu_type t, bool loose, uint32_t *out) {
  unsigned bits = emu_type_bits(t);
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks an operand", d->s->op);
  if (o->kind == PTX_OP_IMM) {
    uint64_t v;
    if (!immediate(d, o, t, &v)) return false;
    *out = const_row(d, v, bits > 32);
    return true;
  }
  if (o->kind == PTX_OP_NAME && o->name[0] == '%') {
    ptx_sreg r = ptx_sreg_find(ts_str_of(o->name));
    if (r != PTX_SREG_COUNT) return special_source(d, o, r, bits > 32, out);
  }
  if (o->kind == PTX_OP_NAME) return decode_error(d, o->pos, &diag_ptx_name, "'%s' is not a register or constant here", o->name);
  if (o->kind != PTX_OP_REG) return decode_error(d, o->pos, &diag_ptx_operand, "expected a register or a constant");
  if (o->negated) return decode_error(d, o->pos, &diag_ptx_operand, "'!' is for predicates only");
  const ptx_reg *r = &d->f->regs.data[o->reg];
  if (r->bits == 1) return decode_error(d, o->pos, &diag_ptx_operand, "'%s' is a predicate; a .%s is needed", r->name, emu_type_name(t));
  bool fits = r->bits == bits || (bits == 8 && r->bits == 16) || (loose && r->bits > bits);
  if (!fits) return decode_error(d, o->pos, &diag_ptx_operand, "'%s' has %u bits; .%s needs %u", r->name, r->bits, emu_type_name(t), bits);
  *out = o->reg;
  if (bits <= 32 && r->bits > 32) {
    *out = temp(d, false);
    emu_insn *in = emit(d, emu_run_narrow);
    in->d = *out;
    in->s[0] = o->reg;
    in->wide = 2;
    in->cls = EMU_C_MOVE;
    in->flags |= EMU_F_EXTRA;
  }
  return true;
}

bool result(decoder *d, const ptx_operand *o, emu_type t, bool loose, uint32_t *out) {
  unsigned bits = emu_type_bits(t);
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks a destination", d->s->op);
  if (o->kind == PTX_OP_SINK) {
    *out = temp(d, bits > 32);
    return true;
  }
  if (o->kind != PTX_OP_REG || o->negated) return decode_error(d, o->pos, &diag_ptx_operand, "the destination must be a register");
  const ptx_reg *r = &d->f->regs.data[o->reg];
  if (r->bits == 1) return decode_error(d, o->pos, &diag_ptx_operand, "'%s' is a predicate; a .%s is needed", r->name, emu_type_name(t));
  bool fits = r->bits == bits || (bits == 8 && r->bits == 16) || (loose && r->bits > bits);
  if (!fits) return decode_error(d, o->pos, &diag_ptx_operand, "'%s' has %u bits; .%s has %u", r->name, r->bits, emu_type_name(t), bits);
  *out = o->reg;
  if (bits <= 32 && (r->bits > 32 || (r->bits > bits && bits < 32 && emu_type_is_signed(t)))) {
    emu_insn w = blank;
    w.run = emu_run_widen;
    w.stmt = d->stmt;
    w.d = o->reg;
    w.s[0] = *out = temp(d, false);
    w.wide = r->bits > 32;
    w.sub = (uint8_t)bits;
    w.mode = emu_type_is_signed(t);
    w.p = r->bits;           // bits of the destination; no predicate (reset when it is placed)
    w.cls = EMU_C_MOVE;
    w.flags = EMU_F_EXTRA;
    ts_vec_push(d->arena, &d->after, w);
  }
  return true;
}

bool pred_source(decoder *d, const ptx_operand *o, uint16_t *out, bool *negated) {
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks a predicate operand", d->s->op);
  if (o->kind == PTX_OP_IMM) {   // constants 0 and 1 stand for predicates
    *out = EMU_NO_PRED;
    *negated = o->imm != 0;      // no predicate reads as all false
    return true;
  }
  if (o->kind != PTX_OP_REG || d->f->regs.data[o->reg].bits != 1) return decode_error(d, o->pos, &diag_ptx_operand, "expected a predicate");
  *out = (uint16_t)o->reg;
  *negated = o->negated;
  return true;
}

bool pred_result(decoder *d, const ptx_operand *o, uint16_t *out) {
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks a destination", d->s->op);
  *out = EMU_NO_PRED;
  if (o->kind == PTX_OP_SINK) return true;
  if (o->kind != PTX_OP_REG || o->negated || d->f->regs.data[o->reg].bits != 1) return decode_error(d, o->pos, &diag_ptx_operand, "the destination must be a predicate");
  *out = (uint16_t)o->reg;
  return true;
}

// --- functions -----------------------------------------------------------------------------------------------------------------
static decode_fn *find_decoder(ts_sym op, emu_class *cls) {
#define PTX_OP(opcode, decoder_name, class_name, remark) {#opcode, decode_##decoder_name, EMU_C_##class_name},
  static const struct { const char *name; decode_fn *fn; emu_class cls; } table[] = {
#include "emulator/ptx_ops.def"
  };
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    if (strcmp(table[i].name, op)) continue;
    *cls = table[i].cls;
    return table[i].fn;
  }
  return NULL;
}

static emu_class refine_class(const decoder *d, emu_class cls) {
  if (cls != EMU_C_ARITH) return cls;
  emu_class found = EMU_C_INT;
  for (unsigned i = 0; i < d->s->mod_count; i++) {
    emu_type t = emu_type_find(d->s->mods[i], strlen(d->s->mods[i]));
    if (t == EMU_NOTYPE || !emu_type_is_float(t)) continue;
    return t == EMU_F64 ? EMU_C_DOUBLE : t == EMU_F32 || t == EMU_F32X2 ? EMU_C_FLOAT : EMU_C_HALF;
  }
  return found;
}

static bool decode_statement(decoder *d) {
  emu_class cls = EMU_C_ARITH;
  decode_fn *fn = find_decoder(d->s->op, &cls);
  d->used = 0;
  d->after.count = 0;
  size_t first = d->prog->code.count;
  if (!fn) return decode_error(d, d->s->pos, &diag_ptx_syntax, "'%s' is not a PTX instruction", d->s->op);
  if (!fn(d)) return false;
  for (unsigned i = 0; i < d->s->mod_count; i++)
    if (!(d->used >> i & 1)) return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s has no form with '.%s' that is supported", d->s->op, d->s->mods[i]);
  cls = refine_class(d, cls);
  for (size_t i = first; i < d->prog->code.count; i++)
    if (d->prog->code.data[i].cls == 0) d->prog->code.data[i].cls = (uint8_t)cls;
  for (size_t i = 0; i < d->after.count; i++) {
    emu_insn *in = emit(d, NULL);
    emu_insn w = d->after.data[i];
    w.guard = in->guard;
    w.guard_not = in->guard_not;
    w.target = w.p;    // bits of the destination
    w.p = EMU_NO_PRED;
    *in = w;
  }
  return true;
}

static bool find_label(decoder *d, ts_sym name, uint32_t scope, ptx_pos pos, uint32_t *statement, const ptx_label **out) {
  for (;;) {
    for (size_t i = 0; i < d->f->labels.count; i++) {
      const ptx_label *l = &d->f->labels.data[i];
      if (l->name != name || l->scope != scope) continue;
      if (statement) *statement = l->at;
      if (out) *out = l;
      return true;
    }
    if (scope == 0) return decode_error(d, pos, &diag_ptx_name, "no label '%s' in this function", name);
    scope = d->f->scopes.data[scope];
  }
}

bool decode_bra(decoder *d) {
  mod(d, "uni");
  ptx_operand *o = operand(d, 0);
  if (!need_operands(d, 1, 1)) return false;
  if (o->kind != PTX_OP_NAME) return decode_error(d, o->pos, &diag_ptx_operand, "bra needs a label");
  uint32_t target;
  if (!find_label(d, o->name, d->s->scope, o->pos, &target, NULL)) return false;
  emu_insn *in = emit(d, NULL);
  in->flow = EMU_BRA;
  in->target = target;
  ts_vec_push(d->arena, &d->fixups, (uint32_t)d->prog->code.count - 1);
  return true;
}

bool decode_brx(decoder *d) {
  if (!mod(d, "idx")) return decode_error(d, d->s->pos, &diag_ptx_modifier, "only brx.idx exists");
  mod(d, "uni");
  uint32_t index;
  const ptx_label *l;
  if (!need_operands(d, 2, 2) || !source(d, operand(d, 0), EMU_U32, false, &index)) return false;
  ptx_operand *o = operand(d, 1);
  if (o->kind != PTX_OP_NAME || !find_label(d, o->name, d->s->scope, o->pos, NULL, &l)) return false;
  if (!l->is_targets) return decode_error(d, o->pos, &diag_ptx_operand, "'%s' is not a .branchtargets list", o->name);
  emu_brx_info *info = ts_new(d->arena, emu_brx_info);
  info->count = l->target_count;
  info->targets = ts_new_array(d->arena, uint32_t, l->target_count + 1);
  for (uint32_t i = 0; i < l->target_count; i++)
    if (!find_label(d, l->targets[i], l->scope, l->pos, &info->targets[i], NULL)) return false;
  emu_insn *in = emit(d, NULL);
  in->flow = EMU_BRX;
  in->s[0] = index;
  in->u.extra = info;
  ts_vec_push(d->arena, &d->fixups, (uint32_t)d->prog->code.count - 1);
  return true;
}

static bool decode_function(decoder *d) {
  ptx_func *f = d->f;
  d->fn->begin = (uint32_t)d->prog->code.count;
  d->at = ts_new_array(d->arena, uint32_t, f->stmts.count + 1);
  d->fixups.count = 0;
  // Predicates share the numbering of registers until slots are assigned, and a predicate number has 16 bits.
  if (f->regs.count > 0xfff0) {
    uint32_t preds = 0;
    for (size_t i = 0; i < f->regs.count; i++)
      if (f->regs.data[i].bits == 1 && i >= 0xfff0) preds++;
    if (preds) return decode_error(d, f->pos, &diag_ptx_size, "function '%s' uses more than 65520 registers", f->name);
  }
  for (size_t i = 0; i < f->stmts.count && d->diags->errors < d->diags->limit; i++) {
    d->s = &f->stmts.data[i];
    emu_origin origin = {f->index, (uint32_t)i};
    ts_vec_push(d->arena, &d->prog->origins, origin);
    d->stmt = (uint32_t)d->prog->origins.count - 1;
    d->at[i] = (uint32_t)d->prog->code.count;
    decode_statement(d);
  }
  d->at[f->stmts.count] = (uint32_t)d->prog->code.count;
  d->s = NULL;
  emu_origin none = {f->index, EMU_NONE};
  ts_vec_push(d->arena, &d->prog->origins, none);
  d->stmt = (uint32_t)d->prog->origins.count - 1;
  emu_insn *end = emit(d, NULL);   // falling off the end returns
  end->flow = EMU_RET;
  end->flags = EMU_F_EXTRA;
  end->cls = EMU_C_BRANCH;
  d->fn->end = (uint32_t)d->prog->code.count;
  for (size_t i = 0; i < d->fixups.count; i++) {
    emu_insn *in = &d->prog->code.data[d->fixups.data[i]];
    if (in->flow == EMU_BRA) in->target = d->at[in->target];
    if (in->flow != EMU_BRX) continue;
    const emu_brx_info *info = in->u.extra;
    for (uint32_t k = 0; k < info->count; k++) info->targets[k] = d->at[info->targets[k]];
  }
  return true;
}

static emu_builtin find_builtin(ts_sym name) {
  static const struct { const char *name; emu_builtin b; } table[] = {
      {"vprintf", EMU_B_VPRINTF}, {"__assertfail", EMU_B_ASSERTFAIL}, {"malloc", EMU_B_MALLOC}, {"free", EMU_B_FREE}};
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    if (!strcmp(name, table[i].name)) return table[i].b;
  return EMU_B_NONE;
}

ts_status emu_decode(ts_arena *a, ptx_module *m, unsigned sm, ts_diags *diags, emu_program *out) {
  *out = (emu_program){.ptx = m};
  unsigned before = diags->errors;
  decoder d = {.arena = a, .diags = diags, .m = m, .prog = out, .sm = sm};
  out->functions = ts_new_array(a, emu_function, m->funcs.count + 1);
  bool ok = emu_layout_shared(a, m, out, diags);
  for (size_t i = 0; i < m->funcs.count; i++) {
    ptx_func *f = m->funcs.data[i];
    out->functions[i].ptx = f;
    out->functions[i].builtin = f->has_body ? EMU_B_NONE : find_builtin(f->name);
    ok = emu_layout_frame(m, &out->functions[i], f, diags) && ok;
  }
  for (size_t i = 0; ok && i < m->funcs.count; i++) {
    d.f = m->funcs.data[i];
    d.fn = &out->functions[i];
    if (d.f->has_body && decode_function(&d) && diags->errors == before) {
      emu_find_rejoins(a, out, d.fn);
      if (emu_assign_slots(a, out, d.fn, diags) != TS_OK) break;
    }
  }
  ts_map_deinit(&d.consts);
  ts_map_deinit(&d.wide_consts);
  out->const_count = (uint32_t)d.pool.count;
  out->consts = ts_arena_alloc(a, (size_t)out->const_count * 256 + 256, 64);
  for (size_t i = 0; i < d.pool.count; i++) {
    for (unsigned k = 0; k < 32; k++) {
      if (d.pool_wide.data[i]) memcpy(out->consts + i * 256 + k * 8, &d.pool.data[i], 8);
      else memcpy(out->consts + i * 256 + k * 4, &d.pool.data[i], 4);
    }
  }
  if (diags->errors == before) return TS_OK;
  for (size_t i = diags->list.count; i-- > 0;)
    if (diags->list.data[i].kind && diags->list.data[i].kind->severity == TS_ERROR) return diags->list.data[i].kind->status;
  return TS_INVALID;
}

const ptx_stmt *emu_stmt_of(const emu_program *p, const emu_insn *in) {
  const emu_origin *o = &p->origins.data[in->stmt];
  return o->stmt == EMU_NONE ? NULL : &p->ptx->funcs.data[o->func]->stmts.data[o->stmt];
}

ts_str emu_stmt_text(const emu_program *p, const ptx_stmt *s) {
  ts_str t = p->ptx->text;
  const char *at = t.data, *end = t.data + t.len;
  for (uint32_t line = 1; line < s->pos.line && at; line++) {
    at = memchr(at, '\n', (size_t)(end - at));
    if (at) at++;
  }
  if (!at) return (ts_str){"", 0};
  const char *stop = memchr(at, '\n', (size_t)(end - at));
  return ts_str_trim((ts_str){at, (size_t)((stop ? stop : end) - at)});
}

const char *ptx_refused(const ptx_stmt *s) {
#define PTX_NO(opcode, modifier, reason) {#opcode, modifier, reason},
#define PTX_OP(opcode, decoder_name, cls, remark) {#opcode, NULL, NULL},
  static const struct { const char *op, *mod, *reason; } table[] = {
#include "emulator/ptx_ops.def"
  };
  bool known = false;
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    if (strcmp(table[i].op, s->op)) continue;
    known = true;
    if (!table[i].mod) continue;
    if (!*table[i].mod) return table[i].reason;
    for (unsigned k = 0; k < s->mod_count; k++)
      if (!strcmp(s->mods[k], table[i].mod)) return table[i].reason;
  }
  return known ? NULL : "";
}

static const struct { const char *name; unsigned bits; } sregs[] = {
#define PTX_SREG(name, spelling, bits) {spelling, bits},
#include "emulator/ptx_sregs.def"
};
ptx_sreg ptx_sreg_find(ts_str s) {
  for (unsigned i = 0; i < PTX_SREG_COUNT; i++)
    if (ts_str_is(s, sregs[i].name)) return (ptx_sreg)i;
  return PTX_SREG_COUNT;
}
const char *ptx_sreg_name(ptx_sreg r) { return r < PTX_SREG_COUNT ? sregs[r].name : "?"; }
unsigned ptx_sreg_bits(ptx_sreg r) { return r < PTX_SREG_COUNT ? sregs[r].bits : 0; }
