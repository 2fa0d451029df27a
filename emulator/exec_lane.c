// Handlers of operations across the lanes of a warp: shuffles, votes, matches, reductions, matrix products.
#include "emulator/decode.h"
#include "emulator/machine.h"

#define EACH_LANE(mask) for (uint32_t m_ = (mask), i = 0; m_ && (i = (uint32_t)__builtin_ctz(m_), 1); m_ &= m_ - 1)

void emu_run_shfl(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t t[32];
  const uint32_t *a = emu_row_at(x, in->s[0]), *b = emu_row_at(x, in->s[1]), *c = emu_row_at(x, in->s[2]);
  memcpy(t, a, sizeof t);
  uint32_t *d = emu_row_at(x, in->d), in_range = 0, bad = 0;
  unsigned bad_source = 0;
  EACH_LANE(mask) {
    bool ok;
    unsigned from = emu_shfl_source((emu_shfl)in->sub, i, b[i], c[i], &ok);
    in_range |= (uint32_t)ok << i;
    if (ok && !(mask >> from & 1) && !bad) bad = 1u << i, bad_source = from;
  }
  uint32_t out[32];
  EACH_LANE(mask) {
    bool ok;
    unsigned from = emu_shfl_source((emu_shfl)in->sub, i, b[i], c[i], &ok);
    out[i] = t[ok ? from : i];
  }
  EACH_LANE(mask) d[i] = out[i];
  emu_set_pred(x, in->p, in_range, mask);
  if (bad && x->launch->check_sync)
    emu_fault_report(x, in, EMU_FAULT_INACTIVE_LANE, (unsigned)__builtin_ctz(bad), 0, 0, NULL, "shfl reads lane %u, which does not execute it (active lanes 0x%08x)", bad_source, mask);
}

void emu_run_vote(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t v = emu_pred(x, in->ps, in->ps_not) & mask;
  if (in->sub == 3) {
    uint32_t *d = emu_row_at(x, in->d);
    EACH_LANE(mask) d[i] = v;
    return;
  }
  bool r = in->sub == 0 ? v == mask : in->sub == 1 ? v != 0 : v == mask || v == 0;
  emu_set_pred(x, in->p, r ? ~0u : 0, mask);
}

void emu_run_match(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t *d = emu_row_at(x, in->d), t[32];
  const void *a = emu_row_at(x, in->s[0]);
  bool wide = in->wide & 2, all = false;
  if (in->sub) {
    uint32_t r = emu_match_all(a, wide, mask, &all);
    EACH_LANE(mask) t[i] = r;
    emu_set_pred(x, in->p, all ? ~0u : 0, mask);
  } else {
    EACH_LANE(mask) t[i] = emu_match_any(a, wide, mask, i);
  }
  EACH_LANE(mask) d[i] = t[i];
}

void emu_run_redux(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t r = emu_redux((emu_op)in->sub, (emu_type)in->target, in->mode, emu_row_at(x, in->s[0]), mask);
  uint32_t *d = emu_row_at(x, in->d);
  EACH_LANE(mask) d[i] = r;
}

void emu_run_activemask(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t *d = emu_row_at(x, in->d);
  EACH_LANE(mask) d[i] = mask;
}

void emu_run_elect(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t leader = (uint32_t)__builtin_ctz(mask), *d = emu_row_at(x, in->d);
  EACH_LANE(mask) d[i] = leader;
  emu_set_pred(x, in->p, 1u << leader, mask);
}

void emu_run_movmatrix(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t t[32], *d = emu_row_at(x, in->d);
  emu_movmatrix_row(t, emu_row_at(x, in->s[0]));
  EACH_LANE(mask) d[i] = t[i];
}

void emu_run_mma(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mma_info *m = in->u.extra;
  void *d[EMU_MMA_MAX_REGS];
  const void *a[EMU_MMA_MAX_REGS], *b[EMU_MMA_MAX_REGS], *c[EMU_MMA_MAX_REGS];
  (void)mask;   // all lanes take part: the scheduler saw to it
  const uint32_t *s = in->x;
  for (unsigned i = 0; i < m->nd; i++) d[i] = emu_row_at(x, *s++);
  for (unsigned i = 0; i < m->na; i++) a[i] = emu_row_at(x, *s++);
  for (unsigned i = 0; i < m->nb; i++) b[i] = emu_row_at(x, *s++);
  for (unsigned i = 0; i < m->nc; i++) c[i] = emu_row_at(x, *s++);
  // The result may overlay A or B, which a product must not overwrite while it reads them.
  _Alignas(64) uint64_t copy[2 * EMU_MMA_MAX_REGS][32];
  unsigned copies = 0;
  bool wide = m->desc->atype == EMU_F64;
  for (unsigned k = 0; k < m->nd; k++) {
    for (unsigned i = 0; i < m->na; i++)
      if (a[i] == d[k]) a[i] = memcpy(copy[copies++], a[i], wide ? 256 : 128);
    for (unsigned i = 0; i < m->nb; i++)
      if (b[i] == d[k]) b[i] = memcpy(copy[copies++], b[i], wide ? 256 : 128);
    for (unsigned i = 0; i < m->nc; i++)
      if (c[i] == d[k] && i != k && copies < 2 * EMU_MMA_MAX_REGS) c[i] = memcpy(copy[copies++], c[i], wide ? 256 : 128);
  }
  emu_mma(m->desc, x->context->gen, m->flags, m->la, m->lb, d, a, b, c);
}
