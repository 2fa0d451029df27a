// Rows for the registers of a function: liveness, then a linear scan, so that a warp's register file stays small enough for
// the host's caches although compilers write PTX with thousands of registers.
//
// Liveness is per lane and every write is masked, so lanes on different paths may share a row. 32- and 64-bit rows lie in two
// areas: rows of different width never overlap. A register that is live at the entry may be read before it is written; such
// registers, and those that moves fill from them, keep rows of their own and are tracked at run time.
#include "emulator/program.h"
#include "emulator/decode.h"

#include <stdlib.h>

typedef struct interval {
  uint32_t reg, start, end;
} interval;

typedef struct slots {
  emu_program *p;
  emu_function *f;
  const ptx_reg *regs;
  uint32_t count, words, blocks;
  uint32_t *first;          // first operation of a block; first[blocks] is the end
  uint32_t *block_of;
  uint64_t *use, *def, *in, *out;
  interval *ranges;         // per register
  bool *tracked;
} slots;

static inline void put(uint64_t *set, uint32_t r) { set[r / 64] |= 1ull << (r % 64); }
static inline bool has(const uint64_t *set, uint32_t r) { return set[r / 64] >> (r % 64) & 1; }

typedef void visit_fn(void *user, uint32_t *slot, bool is_def);
static void visit(emu_insn *in, visit_fn *fn, void *user) {
  for (int i = 0; i < 4; i++)
    if (in->s[i] != EMU_NONE && !(in->s[i] & EMU_CONST)) fn(user, &in->s[i], false);
  for (unsigned i = in->xd; i < (unsigned)in->xd + in->xs; i++)
    if (!(in->x[i] & EMU_CONST)) fn(user, &in->x[i], false);
  if (in->d != EMU_NONE) fn(user, &in->d, true);
  for (unsigned i = 0; i < in->xd; i++) fn(user, &in->x[i], true);
}

typedef struct block_visit {
  slots *s;
  uint64_t *use, *def;
  bool guarded;
} block_visit;
static void visit_block(void *user, uint32_t *slot, bool is_def) {
  block_visit *v = user;
  if (!is_def && !has(v->def, *slot)) put(v->use, *slot);
  if (is_def && !v->guarded) put(v->def, *slot);
}

static void find_blocks(ts_arena *a, slots *s) {
  uint32_t n = s->f->end - s->f->begin;
  s->first = ts_new_array(a, uint32_t, n + 1);
  s->block_of = ts_new_array(a, uint32_t, n);
  for (uint32_t i = 0; i < n; i++) {
    if (i == 0 || s->p->code.data[s->f->begin + i].flags & EMU_F_LEADER) s->first[s->blocks++] = i;
    s->block_of[i] = s->blocks - 1;
  }
  s->first[s->blocks] = n;
}

static bool merge_in(slots *s, uint32_t b, uint32_t succ) {
  bool changed = false;
  uint64_t *out = s->out + (size_t)b * s->words;
  const uint64_t *in = s->in + (size_t)succ * s->words;
  for (uint32_t w = 0; w < s->words; w++) {
    uint64_t v = out[w] | in[w];
    changed |= v != out[w];
    out[w] = v;
  }
  return changed;
}

static bool flow_back(slots *s, uint32_t b) {
  const emu_insn *in = &s->p->code.data[s->f->begin + s->first[b + 1] - 1];
  bool guarded = in->guard != EMU_NO_PRED, changed = false, falls = true;
  if (in->flow == EMU_BRA) {
    changed |= merge_in(s, b, s->block_of[in->target - s->f->begin]);
    falls = guarded;
  } else if (in->flow == EMU_BRX) {
    const emu_brx_info *x = in->u.extra;
    for (uint32_t k = 0; k < x->count; k++) changed |= merge_in(s, b, s->block_of[x->targets[k] - s->f->begin]);
    falls = guarded;
  } else if (in->flow == EMU_RET || in->flow == EMU_EXIT) {
    falls = guarded;
  }
  if (falls && b + 1 < s->blocks) changed |= merge_in(s, b, b + 1);
  uint64_t *live = s->in + (size_t)b * s->words, *out = s->out + (size_t)b * s->words;
  const uint64_t *use = s->use + (size_t)b * s->words, *def = s->def + (size_t)b * s->words;
  for (uint32_t w = 0; w < s->words; w++) {
    uint64_t v = use[w] | (out[w] & ~def[w]);
    changed |= v != live[w];
    live[w] = v;
  }
  return changed;
}

static void liveness(slots *s) {
  for (uint32_t b = 0; b < s->blocks; b++) {
    block_visit v = {s, s->use + (size_t)b * s->words, s->def + (size_t)b * s->words, false};
    for (uint32_t i = s->first[b]; i < s->first[b + 1]; i++) {
      emu_insn *in = &s->p->code.data[s->f->begin + i];
      v.guarded = in->guard != EMU_NO_PRED;
      visit(in, visit_block, &v);
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t b = s->blocks; b-- > 0;) changed |= flow_back(s, b);
  }
}

static void extend(slots *s, uint32_t r, uint32_t at) {
  interval *i = &s->ranges[r];
  if (at < i->start) i->start = at;
  if (at > i->end) i->end = at;
}
typedef struct range_visit {
  slots *s;
  uint32_t at;
  bool shares;   // the result may take the row of a source that ends here
} range_visit;
static void visit_range(void *user, uint32_t *slot, bool is_def) {
  range_visit *v = user;
  extend(v->s, *slot, is_def && v->shares ? v->at + 1 : v->at);
  if (is_def) extend(v->s, *slot, v->at + 1);
}

static void find_ranges(slots *s) {
  for (uint32_t r = 0; r < s->count; r++) s->ranges[r] = (interval){r, UINT32_MAX, 0};
  for (uint32_t b = 0; b < s->blocks; b++) {
    uint32_t begin = s->first[b] * 2, end = s->first[b + 1] * 2 - 1;
    const uint64_t *in = s->in + (size_t)b * s->words, *out = s->out + (size_t)b * s->words;
    for (uint32_t w = 0; w < s->words; w++) {
      for (uint64_t m = in[w]; m; m &= m - 1) extend(s, w * 64 + (uint32_t)__builtin_ctzll(m), begin);
      for (uint64_t m = out[w]; m; m &= m - 1) extend(s, w * 64 + (uint32_t)__builtin_ctzll(m), end);
    }
    for (uint32_t i = s->first[b]; i < s->first[b + 1]; i++) {
      emu_insn *op = &s->p->code.data[s->f->begin + i];
      range_visit v = {s, i * 2, op->run == emu_run_row};
      visit(op, visit_range, &v);
    }
  }
}

typedef struct taint_visit {
  slots *s;
  bool found;
  bool spread, changed;
} taint_visit;
static void visit_taint(void *user, uint32_t *slot, bool is_def) {
  taint_visit *v = user;
  if (!is_def || !v->spread) v->found |= v->s->tracked[*slot];
  if (is_def && v->spread && v->found && !v->s->tracked[*slot]) v->s->tracked[*slot] = v->changed = true;
}

static void find_tracked(slots *s) {
  bool any = false;
  for (uint32_t i = s->f->begin; i < s->f->end; i++) {
    emu_insn *in = &s->p->code.data[i];
    if (in->run == emu_run_row || in->run == emu_run_widen || in->run == emu_run_narrow) in->flags |= EMU_F_PROPAGATE;
  }
  for (uint32_t r = 0; r < s->count; r++)
    if (has(s->in, r)) s->tracked[r] = any = true;
  for (bool changed = any; changed;) {
    changed = false;
    for (uint32_t i = s->f->begin; i < s->f->end; i++) {
      emu_insn *in = &s->p->code.data[i];
      if (!(in->flags & EMU_F_PROPAGATE)) continue;
      taint_visit v = {s, false, true, false};
      visit(in, visit_taint, &v);
      changed |= v.changed;
    }
  }
  for (uint32_t r = 0; r < s->count; r++)
    if (s->tracked[r]) s->ranges[r].start = 0, s->ranges[r].end = UINT32_MAX;
  for (uint32_t i = s->f->begin; any && i < s->f->end; i++) {
    taint_visit v = {s, false, false, false};
    visit(&s->p->code.data[i], visit_taint, &v);
    if (v.found) s->p->code.data[i].flags |= EMU_F_TRACKED;
  }
}

static int by_start(const void *a, const void *b) {
  const interval *x = a, *y = b;
  return x->start != y->start ? (x->start > y->start) - (x->start < y->start) : (x->reg > y->reg) - (x->reg < y->reg);
}
static int heap_less(const interval *a, const interval *b) { return a->end < b->end; }

// A binary heap of the intervals in use, ordered by where they end.
static void heap_push(interval *h, uint32_t *n, interval v) {
  uint32_t i = (*n)++;
  h[i] = v;
  while (i && heap_less(&h[i], &h[(i - 1) / 2])) {
    interval t = h[i];
    h[i] = h[(i - 1) / 2];
    h[(i - 1) / 2] = t;
    i = (i - 1) / 2;
  }
}
static interval heap_pop(interval *h, uint32_t *n) {
  interval top = h[0];
  h[0] = h[--*n];
  for (uint32_t i = 0;;) {
    uint32_t least = i;
    for (uint32_t k = 2 * i + 1; k <= 2 * i + 2 && k < *n; k++)
      if (heap_less(&h[k], &h[least])) least = k;
    if (least == i) return top;
    interval t = h[i];
    h[i] = h[least];
    h[least] = t;
    i = least;
  }
}

// Gives every register of one width a row number; returns how many rows it took.
static uint32_t scan(ts_arena *a, slots *s, bool wide, uint32_t *row_of) {
  interval *list = ts_new_array(a, interval, s->count + 1), *active = ts_new_array(a, interval, s->count + 1);
  uint32_t *free_rows = ts_new_array(a, uint32_t, s->count + 1), n = 0, live = 0, spare = 0, rows = 0;
  for (uint32_t r = 0; r < s->count; r++)
    if (s->regs[r].bits != 1 && (s->regs[r].bits > 32) == wide && s->ranges[r].start != UINT32_MAX) list[n++] = s->ranges[r];
  qsort(list, n, sizeof *list, by_start);
  for (uint32_t i = 0; i < n; i++) {
    while (live && active[0].end < list[i].start) free_rows[spare++] = row_of[heap_pop(active, &live).reg];
    row_of[list[i].reg] = spare ? free_rows[--spare] : rows++;
    heap_push(active, &live, list[i]);
  }
  return rows;
}

typedef struct rename_visit {
  slots *s;
  const uint32_t *slot_of;
} rename_visit;
static void visit_rename(void *user, uint32_t *slot, bool is_def) {
  rename_visit *v = user;
  (void)is_def;
  *slot = v->slot_of[*slot];
}

static void rename_all(slots *s, const uint32_t *slot_of) {
  for (uint32_t i = s->f->begin; i < s->f->end; i++) {
    emu_insn *in = &s->p->code.data[i];
    rename_visit v = {s, slot_of};
    visit(in, visit_rename, &v);
    for (int k = 0; k < 4; k++)
      if (in->s[k] != EMU_NONE && in->s[k] & EMU_CONST) in->s[k] = EMU_CONST | (in->s[k] & ~EMU_CONST) * 256;
    for (unsigned k = in->xd; k < (unsigned)in->xd + in->xs; k++)
      if (in->x[k] & EMU_CONST) in->x[k] = EMU_CONST | (in->x[k] & ~EMU_CONST) * 256;
    uint16_t *preds[] = {&in->guard, &in->p, &in->q, &in->ps};
    for (int k = 0; k < 4; k++)
      if (*preds[k] != EMU_NO_PRED) *preds[k] = (uint16_t)slot_of[*preds[k]];
  }
}

ts_status emu_assign_slots(ts_arena *a, emu_program *p, emu_function *f, ts_diags *d) {
  slots s = {.p = p, .f = f, .regs = f->ptx->regs.data, .count = (uint32_t)f->ptx->regs.count};
  s.words = (s.count + 63) / 64 + 1;
  find_blocks(a, &s);
  if ((uint64_t)s.blocks * s.words > 1u << 26)
    return ts_report(d, (ts_loc){p->ptx->file, f->ptx->pos.line, f->ptx->pos.col, 0}, &diag_ptx_size, "function '%s' has too many registers and blocks (%u, %u)", f->ptx->name, s.count, s.blocks);
  size_t set = (size_t)s.blocks * s.words;
  s.use = calloc(set * 4, sizeof *s.use);   // large and short-lived: not for the arena
  if (!s.use) return TS_OUT_OF_MEMORY;
  s.def = s.use + set;
  s.in = s.def + set;
  s.out = s.in + set;
  s.ranges = ts_new_array(a, interval, s.count + 1);
  s.tracked = ts_new_array(a, bool, s.count + 1);
  liveness(&s);
  find_ranges(&s);
  find_tracked(&s);
  free(s.use);
  f->slot_of = ts_new_array(a, uint32_t, s.count + 1);
  uint32_t narrow = scan(a, &s, false, f->slot_of), wide = scan(a, &s, true, f->slot_of);
  for (uint32_t r = 0; r < s.count; r++) {
    if (s.regs[r].bits == 1) f->slot_of[r] = f->pred_count++;
    else f->slot_of[r] = s.regs[r].bits > 32 ? narrow * 128 + f->slot_of[r] * 256 : f->slot_of[r] * 128;
    if (s.tracked[r] && s.regs[r].bits != 1) f->tracked_count++;
  }
  f->row_bytes = narrow * 128 + wide * 256;
  f->registers32 = narrow + 2 * wide;
  f->tracked = ts_new_array(a, uint32_t, f->tracked_count + 1);
  f->tracked_count = 0;
  for (uint32_t r = 0; r < s.count; r++)
    if (s.tracked[r] && s.regs[r].bits != 1) f->tracked[f->tracked_count++] = f->slot_of[r] / 128;
  rename_all(&s, f->slot_of);
  return TS_OK;
}
