// Handlers of register-to-register operations: one arithmetic row (arith.h) per warp operation, and what rows don't cover.
//
// Rows are computed for all 32 lanes; lanes that are not active keep their value because the row goes to a scratch row first.
// When no other lane of the warp exists any more (x->full), the row is written in place.
#include "emulator/decode.h"
#include "emulator/machine.h"

#define EACH_LANE(mask) for (uint32_t m_ = (mask), i = 0; m_ && (i = (uint32_t)__builtin_ctz(m_), 1); m_ &= m_ - 1)

static inline void blend(void *d, const void *tmp, bool wide, uint32_t mask) {
  if (wide) {
    uint64_t *r = d;
    const uint64_t *t = tmp;
    for (uint32_t i = 0; i < 32; i++) r[i] = mask >> i & 1 ? t[i] : r[i];
  } else {
    uint32_t *r = d;
    const uint32_t *t = tmp;
    for (uint32_t i = 0; i < 32; i++) r[i] = mask >> i & 1 ? t[i] : r[i];
  }
}

typedef struct scratch {
  _Alignas(64) uint64_t lanes[32];
} scratch;

void emu_run_row(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const void *s[4];
  for (int i = 0; i < 4; i++) s[i] = emu_row_at(x, in->s[i] == EMU_NONE ? 0 : in->s[i]);
  void *d = emu_row_at(x, in->d);
  if (mask == x->full) {
    in->u.row(d, s, in->mode);
    return;
  }
  scratch t;
  in->u.row(t.lanes, s, in->mode);
  blend(d, t.lanes, in->wide & 1, mask);
}

void emu_run_move(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const void *s = emu_row_at(x, in->s[0]);
  void *d = emu_row_at(x, in->d);
  if (mask == x->full) memmove(d, s, in->wide & 1 ? 256 : 128);
  else blend(d, s, in->wide & 1, mask);
}

void emu_run_select(emu_exec *x, const emu_insn *in, uint32_t mask) {
  scratch t;
  emu_select_row(in->wide & 1, t.lanes, emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), emu_pred(x, in->ps, in->ps_not));
  blend(emu_row_at(x, in->d), t.lanes, in->wide & 1, mask);
}

// Cuts 64-bit lanes down to 32 bits.
void emu_run_narrow(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const uint64_t *s = emu_row_at(x, in->s[0]);
  uint32_t *d = emu_row_at(x, in->d);
  EACH_LANE(mask) d[i] = (uint32_t)s[i];
}

// Extends a value of `sub` bits to a register of `target` bits; mode: by its sign.
void emu_run_widen(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const uint32_t *s = emu_row_at(x, in->s[0]);
  void *d = emu_row_at(x, in->d);
  unsigned shift = 32u - in->sub;
  EACH_LANE(mask) {
    uint32_t v = s[i] << shift;
    int64_t w = in->mode ? (int64_t)((int32_t)v >> shift) : (int64_t)(v >> shift);
    if (in->wide & 1) ((uint64_t *)d)[i] = (uint64_t)w;
    else ((uint32_t *)d)[i] = in->target == 16 ? (uint32_t)w & 0xffff : (uint32_t)w;
  }
}

void emu_run_pack(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint64_t t[32] = {0};
  unsigned bits = in->sub;
  for (unsigned k = 0; k < in->xs; k++) {
    const uint32_t *s = emu_row_at(x, in->x[k]);
    EACH_LANE(mask) t[i] |= (bits == 32 ? (uint64_t)s[i] : (uint64_t)(s[i] & ((1u << bits) - 1))) << (k * bits);
  }
  void *d = emu_row_at(x, in->d);
  EACH_LANE(mask) {
    if (in->wide & 1) ((uint64_t *)d)[i] = t[i];
    else ((uint32_t *)d)[i] = (uint32_t)t[i];
  }
}

void emu_run_unpack(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint64_t t[32];
  unsigned bits = in->sub;
  const void *s = emu_row_at(x, in->s[0]);
  for (unsigned i = 0; i < 32; i++) t[i] = in->wide & 2 ? ((const uint64_t *)s)[i] : ((const uint32_t *)s)[i];
  for (unsigned k = 0; k < in->xd; k++) {
    uint32_t *d = emu_row_at(x, in->x[k]);
    EACH_LANE(mask) d[i] = bits == 32 ? (uint32_t)(t[i] >> (k * 32)) : (uint32_t)(t[i] >> (k * bits)) & ((1u << bits) - 1);
  }
}

void emu_run_sreg(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint64_t t[32];
  emu_sreg_row(x, (ptx_sreg)in->sub, t);
  void *d = emu_row_at(x, in->d);
  EACH_LANE(mask) {
    if (in->wide & 1) ((uint64_t *)d)[i] = t[i];
    else ((uint32_t *)d)[i] = (uint32_t)t[i];
  }
}

void emu_run_frame_address(emu_exec *x, const emu_insn *in, uint32_t mask) {
  void *d = emu_row_at(x, in->d);
  uint64_t v = (uint64_t)x->frame->local_base + in->target;
  EACH_LANE(mask) {
    if (in->wide & 1) ((uint64_t *)d)[i] = v;
    else ((uint32_t *)d)[i] = (uint32_t)v;
  }
}

void emu_run_nothing(emu_exec *x, const emu_insn *in, uint32_t mask) { (void)x, (void)in, (void)mask; }

// --- predicates ----------------------------------------------------------------------------------------------------------------
static uint32_t combine(unsigned logic, uint32_t a, uint32_t c) {
  return logic == 1 ? a & c : logic == 2 ? a | c : logic == 3 ? a ^ c : a;
}

void emu_run_cmp(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t high = 0, low = in->u.cmp(emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), in->mode & 0x7fffffffu, &high);
  uint32_t c = in->sub ? emu_pred(x, in->ps, in->ps_not) : 0;
  uint32_t second = in->mode >> 31 ? high : ~low;   // packed types: the comparison of the upper halves
  emu_set_pred(x, in->p, combine(in->sub, low, c), mask);
  emu_set_pred(x, in->q, combine(in->sub, second, c), mask);
}

void emu_run_set(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t high = 0, low = in->u.cmp(emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), in->mode, &high);
  uint32_t c = in->sub ? emu_pred(x, in->ps, in->ps_not) : 0;
  scratch t;
  emu_set_row((emu_type)in->target, t.lanes, combine(in->sub, low, c), combine(in->sub, high, c));
  blend(emu_row_at(x, in->d), t.lanes, in->wide & 1, mask);
}

void emu_run_testp(emu_exec *x, const emu_insn *in, uint32_t mask) {
  emu_set_pred(x, in->p, emu_testp_row((emu_testp)in->sub, (emu_type)in->mode, emu_row_at(x, in->s[0])), mask);
}

void emu_run_pred_move(emu_exec *x, const emu_insn *in, uint32_t mask) { emu_set_pred(x, in->p, emu_pred(x, in->ps, in->ps_not), mask); }

void emu_run_pred_logic(emu_exec *x, const emu_insn *in, uint32_t mask) {
  emu_set_pred(x, in->p, combine(in->sub, emu_pred(x, in->ps, in->ps_not), emu_pred(x, in->q, in->mode & 1)), mask);
}

void emu_run_lop3_pred(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const void *s[4] = {emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), emu_row_at(x, in->s[2]), NULL};
  scratch t;
  in->u.row(t.lanes, s, in->mode);
  const uint32_t *r = (const uint32_t *)t.lanes;
  uint32_t nonzero = 0;
  for (unsigned i = 0; i < 32; i++) nonzero |= (uint32_t)(r[i] != 0) << i;
  emu_set_pred(x, in->p, combine(in->sub, nonzero, emu_pred(x, in->ps, in->ps_not)), mask);
  blend(emu_row_at(x, in->d), t.lanes, false, mask);
}

// --- carries, saturating packs --------------------------------------------------------------------------------------------------
void emu_run_add_cc(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t carry = x->frame->carry;
  emu_cc cc = {in->mode & 1, in->mode >> 1 & 1};
  bool wide = in->wide & 1;
  scratch t;
  (in->sub ? emu_sub_cc_row : emu_add_cc_row)(wide, t.lanes, emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), cc, &carry);
  blend(emu_row_at(x, in->d), t.lanes, wide, mask);
  if (cc.out) x->frame->carry = (x->frame->carry & ~mask) | (carry & mask);
}

void emu_run_mad_cc(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t carry = x->frame->carry;
  emu_cc cc = {in->mode & 1, in->mode >> 1 & 1};
  scratch t;
  emu_mad_cc_row((emu_type)(in->mode >> 8), in->mode >> 2 & 1, t.lanes, emu_row_at(x, in->s[0]), emu_row_at(x, in->s[1]), emu_row_at(x, in->s[2]), cc, &carry);
  blend(emu_row_at(x, in->d), t.lanes, in->wide & 1, mask);
  if (cc.out) x->frame->carry = (x->frame->carry & ~mask) | (carry & mask);
}

// cvt.pack.sat: d = (c << 2 * width) | sat(a) << width | sat(b)
void emu_run_cvt_pack(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const int32_t *a = emu_row_at(x, in->s[0]), *b = emu_row_at(x, in->s[1]);
  const uint32_t *c = in->s[2] == EMU_NONE ? NULL : emu_row_at(x, in->s[2]);
  uint32_t *d = emu_row_at(x, in->d);
  unsigned bits = emu_type_bits((emu_type)in->mode);
  bool sign = emu_type_is_signed((emu_type)in->mode);
  int32_t low = sign ? -(1 << (bits - 1)) : 0, high = (1 << (sign ? bits - 1 : bits)) - 1;
  uint32_t part = (1u << bits) - 1;
  EACH_LANE(mask) {
    uint32_t u = (uint32_t)(a[i] < low ? low : a[i] > high ? high : a[i]) & part;
    uint32_t v = (uint32_t)(b[i] < low ? low : b[i] > high ? high : b[i]) & part;
    d[i] = (c && bits < 16 ? c[i] << (2 * bits) : 0) | u << bits | v;
  }
}

void emu_run_isspacep(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const uint64_t *a = emu_row_at(x, in->s[0]);
  uint32_t r = 0;
  EACH_LANE(mask) {
    uint64_t v = a[i];
    unsigned space = PTX_GLOBAL;
    if (v - EMU_SHARED_BASE < EMU_WINDOW_SIZE) space = PTX_SHARED;
    else if (v - EMU_LOCAL_BASE < EMU_WINDOW_SIZE) space = PTX_LOCAL;
    else if (v - EMU_PARAM_BASE < EMU_WINDOW_SIZE) space = PTX_PARAM;
    emu_allocation *o = space == PTX_GLOBAL ? emu_owner(x->context, v) : NULL;
    if (in->sub == PTX_CONST) r |= (uint32_t)(o && o->read_only) << i;
    else r |= (uint32_t)(space == in->sub) << i;
  }
  emu_set_pred(x, in->p, r, mask);
}

void emu_run_trap(emu_exec *x, const emu_insn *in, uint32_t mask) {
  emu_fault_report(x, in, EMU_FAULT_TRAP, (unsigned)__builtin_ctz(mask), 0, 0, NULL, "the kernel executed trap");
}
