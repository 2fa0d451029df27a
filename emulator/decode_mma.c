// Decoding of matrix instructions; shapes and fragments come from mma.def through arith_mma.h.
#include "emulator/decode.h"

static bool wrong_form(decoder *d) {
  return decode_error(d, d->s->pos, &diag_ptx_modifier, "%s has no form with this shape, these types and modifiers that is supported", d->s->op);
}

static bool take_shape(decoder *d, unsigned *m, unsigned *n, unsigned *k) {
  for (unsigned i = 0; i < d->s->mod_count; i++) {
    int used = 0;
    if (sscanf(d->s->mods[i], "m%un%uk%u%n", m, n, k, &used) != 3 || d->s->mods[i][used]) continue;
    d->used |= 1u << i;
    return true;
  }
  return wrong_form(d);
}

// The registers of a fragment: {a, b, ...} or a single register.
static bool fragment(decoder *d, const ptx_operand *o, unsigned n, emu_type t, bool is_result, uint32_t *x) {
  emu_type rt = emu_type_bits(t) == 64 ? EMU_B64 : EMU_B32;
  if (!o) return decode_error(d, d->s->pos, &diag_ptx_operand, "%s lacks a fragment", d->s->op);
  if (o->kind != PTX_OP_VECTOR && n == 1) return is_result ? result(d, o, rt, false, x) : source(d, o, rt, false, x);
  if (o->kind != PTX_OP_VECTOR || o->count != n) return decode_error(d, o->pos, &diag_ptx_operand, "this fragment has %u registers", n);
  for (unsigned i = 0; i < n; i++)
    if (!(is_result ? result(d, &o->elements[i], rt, false, &x[i]) : source(d, &o->elements[i], rt, false, &x[i]))) return false;
  return true;
}

static bool matrix_op(decoder *d, const emu_mma_desc *desc, uint32_t flags, emu_layout la, emu_layout lb, emu_type ct) {
  emu_mma_info *info = ts_new(d->arena, emu_mma_info);
  *info = (emu_mma_info){.desc = desc, .flags = flags, .la = la, .lb = lb, .na = (uint8_t)emu_mma_registers(desc, EMU_FRAG_A, desc->atype),
                         .nb = (uint8_t)emu_mma_registers(desc, EMU_FRAG_B, desc->btype), .nc = (uint8_t)emu_mma_registers(desc, EMU_FRAG_C, desc->ctype),
                         .nd = (uint8_t)emu_mma_registers(desc, EMU_FRAG_C, desc->dtype)};
  uint32_t *x = ts_new_array(d->arena, uint32_t, info->na + info->nb + info->nc + info->nd);
  if (desc->min_sm > d->sm) return decode_error(d, d->s->pos, &diag_ptx_version, "this form of %s needs sm_%u", d->s->op, desc->min_sm);
  if (!need_operands(d, 4, 4) || !fragment(d, operand(d, 0), info->nd, desc->dtype, true, x) ||
      !fragment(d, operand(d, 1), info->na, desc->atype, false, x + info->nd) ||
      !fragment(d, operand(d, 2), info->nb, desc->btype, false, x + info->nd + info->na) ||
      !fragment(d, operand(d, 3), info->nc, ct, false, x + info->nd + info->na + info->nb)) return false;
  emu_insn *in = emit(d, emu_run_mma);
  in->flow = EMU_CONVERGE;
  in->flags |= EMU_F_ALIGNED;
  in->s[3] = const_row(d, 0xffffffffu, false);
  in->u.extra = info;
  in->x = x;
  in->xd = info->nd;
  in->xs = (uint8_t)(info->na + info->nb + info->nc);
  return true;
}

static emu_mma_op bit_op(decoder *d) {
  if (!mod(d, "popc")) return EMU_MMA_MULADD;
  return mod(d, "xor") ? EMU_MMA_XOR_POPC : mod(d, "and") ? EMU_MMA_AND_POPC : EMU_MMA_MULADD;
}

static emu_layout take_layout(decoder *d) { return mod(d, "row") ? EMU_ROW : (mod(d, "col"), EMU_COL); }

// Layouts stand in order, so "row.col" and "col.row" differ.
static void take_layouts(decoder *d, emu_layout *a, emu_layout *b) {
  emu_layout found[2] = {EMU_ROW, EMU_COL};
  unsigned n = 0;
  for (unsigned i = 0; i < d->s->mod_count && n < 2; i++) {
    bool row = !strcmp(d->s->mods[i], "row"), col = !strcmp(d->s->mods[i], "col");
    if (!row && !col) continue;
    d->used |= 1u << i;
    found[n++] = row ? EMU_ROW : EMU_COL;
  }
  *a = found[0];
  *b = found[1];
}

bool decode_mma(decoder *d) {
  unsigned m, n, k;
  emu_type dt, at, bt, ct;
  emu_layout la, lb;
  if (!mod(d, "sync") || !mod(d, "aligned") || !take_shape(d, &m, &n, &k)) return wrong_form(d);
  take_layouts(d, &la, &lb);
  uint32_t flags = mod(d, "satfinite") ? EMU_SATFINITE : 0;
  if (!mod_type(d, &dt) || !mod_type(d, &at) || !mod_type(d, &bt) || !mod_type(d, &ct)) return wrong_form(d);
  const emu_mma_desc *desc = emu_mma_find(false, m, n, k, dt, at, bt, ct, bit_op(d));
  if (!desc || ((la != EMU_ROW || lb != EMU_COL) && !(m == 8 && n == 8 && k == 4 && at == EMU_F16))) return wrong_form(d);
  return matrix_op(d, desc, flags, la, lb, ct);
}

// wmma.mma.sync.aligned.alayout.blayout.shape{.xor.popc}.dtype[.atype.btype].ctype: for f16 inputs only d and c are named.
static bool wmma_mma(decoder *d) {
  unsigned m, n, k;
  emu_type t[4];
  unsigned count = 0;
  emu_layout la, lb;
  if (!take_shape(d, &m, &n, &k)) return false;
  take_layouts(d, &la, &lb);
  uint32_t flags = mod(d, "satfinite") ? EMU_SATFINITE : 0;
  emu_mma_op op = bit_op(d);
  mod(d, "rn");
  while (count < 4 && mod_type(d, &t[count])) count++;
  if (count == 2) t[3] = t[1], t[1] = t[2] = EMU_F16;
  else if (count != 4) return wrong_form(d);
  const emu_mma_desc *desc = emu_mma_find(true, m, n, k, t[0], t[1], t[2], t[3], op);
  return desc ? matrix_op(d, desc, flags, la, lb, t[3]) : wrong_form(d);
}

static bool wmma_memory(decoder *d, bool store) {
  emu_wmma_mem *w = ts_new(d->arena, emu_wmma_mem);
  unsigned m, n, k, regs = 0;
  static const char *const which[] = {"a", "b", "c", "d"};
  unsigned o = 0;
  while (o < 4 && !mod(d, which[o])) o++;
  if (o == 4 || (o == 3) != store || !take_shape(d, &m, &n, &k)) return wrong_form(d);
  w->which = o == 0 ? EMU_FRAG_A : o == 1 ? EMU_FRAG_B : EMU_FRAG_C;
  w->col = take_layout(d) == EMU_COL;
  memory_mods(d, &w->mem);
  if (!mod_type(d, &w->type)) return wrong_form(d);
  w->desc = emu_wmma_fragment(m, n, k, w->which, w->type, &regs);
  if (!w->desc || regs > EMU_MMA_MAX_REGS) return wrong_form(d);
  w->regs = (uint8_t)regs;
  uint32_t *x = ts_new_array(d->arena, uint32_t, regs), base, stride;
  unsigned at = store ? 0 : 1;
  if (!need_operands(d, 2, 3) || !address(d, operand(d, at), &w->mem, &base)) return false;
  if (d->s->operand_count == 3) {
    if (!source(d, operand(d, 2), EMU_U32, false, &stride)) return false;
  } else {
    unsigned rows = w->which == EMU_FRAG_B ? k : m, cols = w->which == EMU_FRAG_A ? k : n;
    stride = const_row(d, w->col ? rows : cols, false);
  }
  if (!fragment(d, operand(d, store ? 1 : 0), regs, w->type, !store, x)) return false;
  emu_insn *in = emit(d, store ? emu_run_wmma_store : emu_run_wmma_load);
  in->flow = EMU_CONVERGE;
  in->flags |= EMU_F_ALIGNED;
  in->cls = store ? EMU_C_STORE : EMU_C_LOAD;
  in->s[0] = base;
  in->s[1] = stride;
  in->s[3] = const_row(d, 0xffffffffu, false);
  in->wide = base != EMU_NONE && is_wide_slot(d, base) ? 2 : 0;
  in->u.extra = w;
  in->x = x;
  in->xd = store ? 0 : (uint8_t)regs;
  in->xs = store ? (uint8_t)regs : 0;
  return true;
}

bool decode_wmma(decoder *d) {
  bool load = mod(d, "load"), store = !load && mod(d, "store"), mma = !load && !store && mod(d, "mma");
  if (!mod(d, "sync") || !mod(d, "aligned")) return wrong_form(d);
  if (mma) return wmma_mma(d);
  return load || store ? wmma_memory(d, store) : wrong_form(d);
}

// ldmatrix and stmatrix .m8n8.b16; sub: number of matrices, mode: .trans.
static bool matrix_memory(decoder *d, bool store) {
  emu_mem *m = ts_new(d->arena, emu_mem);
  if (!mod(d, "sync") || !mod(d, "aligned") || !mod(d, "m8n8")) return wrong_form(d);
  unsigned n = mod(d, "x1") ? 1 : mod(d, "x2") ? 2 : mod(d, "x4") ? 4 : 0;
  bool trans = mod(d, "trans");
  memory_mods(d, m);
  if (!n || !mod(d, "b16") || (m->space != PTX_SHARED && m->space != PTX_GENERIC)) return wrong_form(d);
  if (store && d->sm < 90) return decode_error(d, d->s->pos, &diag_ptx_version, "stmatrix needs sm_90");
  uint32_t *x = ts_new_array(d->arena, uint32_t, n), base;
  m->bytes = 16;
  m->count = 1;
  if (!need_operands(d, 2, 2) || !address(d, operand(d, store ? 0 : 1), m, &base) || !fragment(d, operand(d, store ? 1 : 0), n, EMU_B32, !store, x)) return false;
  emu_insn *in = emit(d, store ? emu_run_stmatrix : emu_run_ldmatrix);
  in->flow = EMU_CONVERGE;
  in->flags |= EMU_F_ALIGNED;
  in->s[0] = base;
  in->s[3] = const_row(d, 0xffffffffu, false);
  in->wide = m->base_wide ? 2 : 0;
  in->u.extra = m;
  in->sub = (uint8_t)n;
  in->mode = trans;
  in->x = x;
  in->xd = store ? 0 : (uint8_t)n;
  in->xs = store ? (uint8_t)n : 0;
  return true;
}
bool decode_ldmatrix(decoder *d) { return matrix_memory(d, false); }
bool decode_stmatrix(decoder *d) { return matrix_memory(d, true); }

bool decode_movmatrix(decoder *d) {
  uint32_t a, dst;
  if (!mod(d, "sync") || !mod(d, "aligned") || !mod(d, "m8n8") || !mod(d, "trans") || !mod(d, "b16")) return wrong_form(d);
  if (!need_operands(d, 2, 2) || !source(d, operand(d, 1), EMU_B32, false, &a) || !result(d, operand(d, 0), EMU_B32, false, &dst)) return false;
  emu_insn *in = emit(d, emu_run_movmatrix);
  in->flow = EMU_CONVERGE;
  in->flags |= EMU_F_ALIGNED;
  in->s[3] = const_row(d, 0xffffffffu, false);
  in->d = dst;
  in->s[0] = a;
  return true;
}
