// The scheduler inside a block: warps take turns, and within a warp its splits; branches, calls, returns, barriers.
//
// A divergent branch opens a join at the branch's reconvergence point; a split that gets there parks its lanes in the join,
// and the last one goes on with all of them. Lanes parked in a join are released early when the others only spin, because
// what those wait for may be up to the parked ones.
#include "emulator/machine.h"

#include <stdlib.h>

enum { SLICE = 4096, SPIN_YIELD = 32, SPIN_RELEASE = 64, WAIT_DENSITY = 256 };

// --- frames and joins ------------------------------------------------------------------------------------------------------------
emu_frame *emu_frame_enter(emu_exec *x, emu_warp *w, const emu_function *fn, emu_frame *parent, uint32_t lanes, uint32_t local_base) {
  emu_frame *f = NULL;
  for (emu_frame **at = &w->free_frames; *at; at = &(*at)->parent) {
    if ((*at)->fn != fn) continue;
    f = *at;
    *at = f->parent;
    break;
  }
  size_t rows = fn->row_bytes / 128;
  if (!f) {
    size_t preds = (sizeof *f + 63) & ~(size_t)63, init = preds + ((size_t)fn->pred_count * 4 + 63) / 64 * 64;
    size_t regs = init + (fn->tracked_count ? (rows * 4 + 63) / 64 * 64 : 0), bytes = (regs + fn->row_bytes + 256 + 63) & ~(size_t)63;
    f = aligned_alloc(64, bytes);
    if (!f) abort();
    memset(f, 0, bytes);
    f->preds = (uint32_t *)((uint8_t *)f + preds);
    f->init = fn->tracked_count ? (uint32_t *)((uint8_t *)f + init) : NULL;
    f->regs = (uint8_t *)f + regs;
    f->fn = fn;
    f->made = w->made_frames;
    w->made_frames = f;
  }
  if (f->init) {
    memset(f->init, 0xff, rows * 4);
    for (uint32_t i = 0; i < fn->tracked_count; i++) {
      f->init[fn->tracked[i]] = 0;
      memset(f->regs + (size_t)fn->tracked[i] * 128, 0, 128);
    }
  }
  f->parent = parent;
  f->live = lanes;
  f->local_base = local_base;
  f->carry = 0;
  f->call = NULL;
  if (x->check_init)
    for (uint32_t i = 0; i < 32; i++)
      if (lanes >> i & 1) memset(w->local_valid + (size_t)i * w->local_bytes + local_base, EMU_BYTE_UNINIT, fn->frame_bytes);
  return f;
}

static void frame_leave(emu_warp *w, emu_frame *f, uint32_t lanes) {
  f->live &= ~lanes;
  if (f->live) return;
  f->parent = w->free_frames;
  w->free_frames = f;
}

void emu_warp_free(emu_warp *w) {
  for (emu_frame *f = w->made_frames; f;) {
    emu_frame *next = f->made;
    free(f);
    f = next;
  }
  for (emu_join *j = w->made_joins; j;) {
    emu_join *next = j->made;
    free(j);
    j = next;
  }
  free(w->copies);
}

static emu_join *join_open(emu_warp *w, uint32_t pc, emu_frame *frame, uint32_t lanes, emu_join *parent) {
  emu_join *j = w->free_joins;
  if (j) {
    w->free_joins = j->parent;
  } else {
    j = malloc(sizeof *j);
    if (!j) abort();
    j->made = w->made_joins;
    w->made_joins = j;
  }
  *j = (emu_join){pc, lanes, 0, frame, parent, j->made};
  return j;
}

static void split_add(emu_warp *w, emu_split s) { w->splits[w->split_count++] = s; }
static void split_remove(emu_warp *w, uint32_t i) {
  memmove(&w->splits[i], &w->splits[i + 1], (w->split_count - i - 1) * sizeof w->splits[0]);
  w->split_count--;
}

// Resumes the lanes of a join when all are there; frees it when none is left.
static void join_settle(emu_warp *w, emu_join *j) {
  if (j->arrived != j->expected) return;
  if (j->arrived) split_add(w, (emu_split){.mask = j->arrived, .pc = j->pc, .frame = j->frame, .join = j->parent});
  j->parent = w->free_joins;
  w->free_joins = j;
}

// Lanes leave for good: no join from `j` up to (not including) the first one outside `frame` waits for them. NULL: all joins.
static emu_join *joins_leave(emu_warp *w, emu_join *j, uint32_t lanes, const emu_frame *frame) {
  while (j && (!frame || j->frame == frame)) {
    emu_join *parent = j->parent;
    j->expected &= ~lanes;
    join_settle(w, j);
    j = parent;
  }
  return j;
}

// Lets the parked lanes of the joins above a spinning split go on without it.
static bool joins_release(emu_warp *w, emu_join *j) {
  bool any = false;
  for (; j; j = j->parent) {
    if (!j->arrived) continue;
    split_add(w, (emu_split){.mask = j->arrived, .pc = j->pc, .frame = j->frame, .join = j->parent});
    j->expected &= ~j->arrived;
    j->arrived = 0;
    any = true;
  }
  return any;
}

// --- control flow ----------------------------------------------------------------------------------------------------------------
// Lanes `away` of the split go to `to`; the rest stays at `here`. Both meet at `rejoin`.
static emu_split *diverge(emu_warp *w, emu_split *s, uint32_t away, uint32_t to, uint32_t here, uint32_t rejoin) {
  emu_join *j = s->join;
  if (rejoin != EMU_NONE && !(j && j->pc == rejoin && j->frame == s->frame)) j = s->join = join_open(w, rejoin, s->frame, s->mask, j);
  uint32_t index = (uint32_t)(s - w->splits);
  emu_split other = {.mask = away, .pc = to, .frame = s->frame, .join = j};
  s->mask &= ~away;
  s->pc = here;
  if (j && j->pc == to && j->frame == s->frame && rejoin != EMU_NONE) j->arrived |= away;   // already there
  else split_add(w, other);
  return &w->splits[index];
}

static void lanes_exit(emu_exec *x, emu_warp *w, emu_split *s, uint32_t lanes) {
  uint32_t index = (uint32_t)(s - w->splits);
  emu_join *j = s->join;
  emu_frame *f = s->frame;
  w->live &= ~lanes;
  w->progress++;
  x->block->live_threads -= (uint32_t)__builtin_popcount(lanes);
  s->mask &= ~lanes;
  if (s->mask) s->pc++;
  else split_remove(w, index);
  joins_leave(w, j, lanes, NULL);
  while (f) {
    emu_frame *parent = f->parent;
    frame_leave(w, f, lanes);
    f = parent;
  }
}

static void copy_arguments(emu_exec *x, const emu_call_info *c, emu_frame *caller, emu_frame *callee, uint32_t lanes, bool back) {
  emu_warp *w = x->warp;
  const ptx_func *f = callee->fn->ptx;
  uint32_t n = back ? c->ret_count : c->arg_count;
  for (uint32_t k = 0; k < n; k++) {
    const emu_call_arg *arg = back ? &c->rets[k] : &c->args[k];
    const ptx_var *v = back ? f->rets.data[k] : f->params.data[k];
    size_t outer = caller->local_base + arg->frame_offset, inner = callee->local_base + (size_t)v->address;
    for (uint32_t i = 0; i < 32; i++) {
      if (!(lanes >> i & 1)) continue;
      size_t base = (size_t)i * w->local_bytes, to = base + (back ? outer : inner), from = base + (back ? inner : outer);
      memcpy(w->local + to, w->local + from, arg->bytes);
      memcpy(w->local_valid + to, w->local_valid + from, arg->bytes);
    }
  }
}

static void lanes_return(emu_exec *x, emu_warp *w, emu_split *s, uint32_t lanes) {
  emu_frame *f = s->frame;
  if (!f->parent) {
    lanes_exit(x, w, s, lanes);
    return;
  }
  copy_arguments(x, f->call, f->parent, f, lanes, true);
  emu_split back = {.mask = lanes, .pc = f->ret_pc, .frame = f->parent};
  uint32_t index = (uint32_t)(s - w->splits);
  emu_join *j = s->join;
  s->mask &= ~lanes;
  if (s->mask) s->pc++;
  else split_remove(w, index);
  back.join = joins_leave(w, j, lanes, f);
  split_add(w, back);
  frame_leave(w, f, lanes);
}

static bool same_signature(const emu_call_info *c, const ptx_func *f) {
  if (f->params.count != c->arg_count || f->rets.count != c->ret_count) return false;
  for (uint32_t i = 0; i < c->arg_count; i++)
    if (f->params.data[i]->bytes != c->args[i].bytes) return false;
  for (uint32_t i = 0; i < c->ret_count; i++)
    if (f->rets.data[i]->bytes != c->rets[i].bytes) return false;
  return true;
}

// All lanes of the split call; those with another target than the first lane's stay and call later.
static bool lanes_call(emu_exec *x, emu_warp *w, emu_split *s, const emu_insn *in) {
  const emu_call_info *c = in->u.extra;
  if (c->builtin) {
    if (!emu_call_builtin(x, in, c, s->mask)) return false;
    s->pc++;
    return true;
  }
  uint32_t callee = c->callee, lanes = s->mask;
  emu_frame *caller = s->frame;
  if (!(s->join && s->join->pc == s->pc + 1 && s->join->frame == caller)) s->join = join_open(w, s->pc + 1, caller, s->mask, s->join);
  if (callee == EMU_NONE) {
    const uint64_t *target = emu_row_at(x, in->s[0]);
    unsigned first = (unsigned)__builtin_ctz(s->mask);
    uint64_t offset = target[first] - EMU_CODE_BASE;
    const ptx_module *m = x->launch->program->ptx;
    callee = (uint32_t)(offset / 16);
    if (offset % 16 || offset / 16 >= m->funcs.count || !m->funcs.data[callee]->has_body || m->funcs.data[callee]->is_entry || !same_signature(c, m->funcs.data[callee])) {
      emu_fault_report(x, in, EMU_FAULT_BAD_CALL, first, target[first], 0, NULL, "indirect call of 0x%llx, which is not a function of this signature", (unsigned long long)target[first]);
      return false;
    }
    for (unsigned i = 0; i < 32; i++)
      if (lanes >> i & 1 && target[i] != target[first]) lanes &= ~(1u << i);
  }
  const emu_function *fn = &x->launch->program->functions[callee];
  uint32_t base = caller->local_base + caller->fn->frame_bytes;
  if (base + (uint64_t)fn->frame_bytes > w->local_bytes) {
    emu_fault_report(x, in, EMU_FAULT_STACK_OVERFLOW, (unsigned)__builtin_ctz(lanes), 0, 0, NULL, "the call of '%s' needs more than the %u bytes of local memory of a thread", fn->ptx->name, w->local_bytes);
    return false;
  }
  emu_frame *f = emu_frame_enter(x, w, fn, caller, lanes, base);
  f->call = c;
  f->ret_pc = s->pc + 1;
  copy_arguments(x, c, caller, f, lanes, false);
  if (lanes == s->mask) {
    s->frame = f;
    s->pc = fn->begin;
  } else {
    emu_split call = {.mask = lanes, .pc = fn->begin, .frame = f, .join = s->join};
    s->mask &= ~lanes;
    split_add(w, call);
  }
  return true;
}

static bool lanes_branch_indexed(emu_exec *x, emu_warp *w, emu_split *s, const emu_insn *in, uint32_t mask) {
  const emu_brx_info *b = in->u.extra;
  const uint32_t *index = emu_row_at(x, in->s[0]);
  uint32_t here = s->pc;
  if (s->mask != mask) {   // lanes whose guard is false fall through
    s = diverge(w, s, s->mask & ~mask, here + 1, here, in->rejoin);
  }
  for (;;) {
    unsigned first = (unsigned)__builtin_ctz(s->mask);
    if (index[first] >= b->count) {
      emu_fault_report(x, in, EMU_FAULT_BAD_CALL, first, index[first], 4, NULL, "brx.idx with index %u; the list has %u labels", index[first], b->count);
      return false;
    }
    uint32_t same = 0;
    for (unsigned i = 0; i < 32; i++) same |= (uint32_t)(s->mask >> i & 1 && index[i] == index[first]) << i;
    if (same == s->mask) {
      s->pc = b->targets[index[first]];
      return true;
    }
    s = diverge(w, s, same, b->targets[index[first]], here, in->rejoin);
  }
}

// --- barriers ----------------------------------------------------------------------------------------------------------------------
static bool barrier_fault(emu_exec *x, const emu_insn *in, emu_fault fault, uint32_t mask, const char *text, uint32_t a, uint32_t b) {
  char buffer[200];
  snprintf(buffer, sizeof buffer, text, a, b);
  emu_fault_report(x, in, fault, (unsigned)__builtin_ctz(mask), 0, 0, NULL, "%s", buffer);
  return false;
}

static bool lanes_barrier(emu_exec *x, emu_warp *w, emu_split *s, const emu_insn *in) {
  const uint32_t *id = emu_row_at(x, in->s[0]), *count = in->s[1] == EMU_NONE ? NULL : emu_row_at(x, in->s[1]);
  unsigned first = (unsigned)__builtin_ctz(s->mask);
  if (id[first] >= EMU_BARRIERS) return barrier_fault(x, in, EMU_FAULT_BARRIER_COUNT, s->mask, "barrier %u: there are %u", id[first], EMU_BARRIERS);
  emu_barrier *b = &x->block->barriers[id[first]];
  uint32_t expected = count ? count[first] : 0;
  if (count && (expected == 0 || expected % 32)) return barrier_fault(x, in, EMU_FAULT_BARRIER_COUNT, s->mask, "a barrier for %u threads: the number must be a multiple of %u", expected, 32);
  if (expected > x->launch->warps * 32) return barrier_fault(x, in, EMU_FAULT_BARRIER_COUNT, s->mask, "a barrier for %u threads in a block of %u", expected, x->launch->threads);
  if (b->in_use && b->expected != expected) return barrier_fault(x, in, EMU_FAULT_BARRIER_COUNT, s->mask, "threads wait at this barrier for %u threads, and others for %u (0: the block)", b->expected, expected);
  if (!b->in_use) {
    b->expected = expected;
    b->in_use = true;
    b->first_pc = s->pc;
  }
  // Arrivals count whole warps when the warp is whole.
  b->arrived += expected && s->mask == w->live ? 32 : (uint32_t)__builtin_popcount(s->mask);
  uint32_t yes = emu_pred(x, in->ps, in->ps_not) & s->mask;
  b->reduce_true += (uint32_t)__builtin_popcount(yes);
  b->reduce_count += (uint32_t)__builtin_popcount(s->mask);
  w->progress++;
  if (x->check_race) emu_race_barrier_arrive(x, w, b);
  if (expected && b->arrived > expected) return barrier_fault(x, in, EMU_FAULT_BARRIER_COUNT, s->mask, "%u threads arrive at a barrier for %u", b->arrived, expected);
  if (in->sub & 8) {   // bar.arrive goes on
    s->pc++;
  } else {
    s->state = EMU_AT_BARRIER;
    s->barrier = (uint8_t)id[first];
  }
  return true;
}

static void barrier_complete(emu_exec *x, emu_block *blk, uint32_t id) {
  emu_barrier *b = &blk->barriers[id];
  for (uint32_t k = 0; k < blk->warp_count; k++) {
    emu_warp *w = &blk->warps[k];
    bool here = false;
    for (uint32_t i = 0; i < w->split_count; i++) {
      emu_split *s = &w->splits[i];
      if (s->state != EMU_AT_BARRIER || s->barrier != id) continue;
      const emu_insn *in = &x->code[s->pc];
      unsigned reduce = in->sub & 7;
      if (reduce) {
        x->regs = s->frame->regs;
        x->preds = s->frame->preds;
        bool r = reduce == 2 ? b->reduce_true == b->reduce_count : b->reduce_true > 0;
        if (reduce == 1) {
          uint32_t *d = emu_row_at(x, in->d);
          for (unsigned lane = 0; lane < 32; lane++)
            if (s->mask >> lane & 1) d[lane] = b->reduce_true;
        } else {
          emu_set_pred(x, in->p, r ? ~0u : 0, s->mask);
        }
      }
      s->state = EMU_READY;
      s->pc++;
      here = true;
    }
    // Splits of one warp that left one barrier together go on together.
    for (uint32_t i = 0; i + 1 < w->split_count; i++)
      for (uint32_t q = i + 1; here && q < w->split_count;) {
        emu_split *a = &w->splits[i], *c = &w->splits[q];
        if (a->state == EMU_READY && c->state == EMU_READY && a->pc == c->pc && a->frame == c->frame && a->join == c->join) {
          a->mask |= c->mask;
          split_remove(w, q);
        } else {
          q++;
        }
      }
    if (here && x->check_race) emu_race_barrier_leave(x, w, b);
  }
  if (x->check_race) emu_race_barrier_reset(x, b);
  *b = (emu_barrier){.vc = b->vc, .fenced = b->fenced};
}

static bool barriers_update(emu_exec *x, emu_block *blk) {
  bool any = false;
  for (uint32_t id = 0; id < EMU_BARRIERS; id++) {
    emu_barrier *b = &blk->barriers[id];
    if (!b->in_use || !(b->expected ? b->arrived == b->expected : b->arrived >= blk->live_threads)) continue;
    barrier_complete(x, blk, id);
    any = true;
  }
  return any;
}

// --- operations that need their lanes together ----------------------------------------------------------------------------------------
// Runs `in` for the splits that wait at it when they cover its members, or anyway when `force` is set.
static bool try_converge(emu_exec *x, emu_warp *w, uint32_t index, bool force) {
  emu_split *s = &w->splits[index];
  uint32_t pc = s->pc, lanes = 0, needed = s->members & w->live;
  const emu_insn *in = &x->code[pc];
  bool barrier = s->state == EMU_AT_WARP_BAR;
  for (uint32_t i = 0; i < w->split_count; i++) {
    emu_split *o = &w->splits[i];
    // __syncwarp() may be reached at different places; everything else must be the same operation
    bool with = o->state == s->state && (barrier ? o->members == s->members : o->pc == pc && o->frame == s->frame);
    if (with) lanes |= o->mask;
  }
  if ((needed & ~lanes) && !force) return false;
  if (needed & ~lanes && x->launch->check_sync)
    emu_fault_report(x, in, EMU_FAULT_INACTIVE_LANE, (unsigned)__builtin_ctz(lanes), 0, 0, NULL,
                     "the mask 0x%08x names lanes 0x%08x, which don't execute this operation (they wait or went elsewhere)", s->members, needed & ~lanes);
  x->frame = s->frame;
  x->regs = s->frame->regs;
  x->preds = s->frame->preds;
  x->split = s;
  if (!barrier) {
    if (x->counts) x->counts[pc].warps++, x->counts[pc].threads += (uint64_t)__builtin_popcount(lanes);
    in->run(x, in, lanes);
  } else if (x->check_race) {
    emu_race_warp_sync(x, w);
  }
  uint32_t members = s->members;
  uint8_t state = s->state;
  emu_frame *frame = s->frame;
  for (uint32_t i = 0; i < w->split_count; i++) {
    emu_split *o = &w->splits[i];
    bool with = o->state == state && (barrier ? o->members == members : o->pc == pc && o->frame == frame);
    if (!with) continue;
    o->state = EMU_READY;
    o->pc++;
  }
  return true;
}

// Nothing in this warp is ready: is that a wait for others, or a fault? true: something can run again.
static bool warp_unblock(emu_exec *x, emu_warp *w) {
  for (uint32_t i = 0; i < w->split_count; i++)
    if (w->splits[i].state == EMU_AT_CONVERGE || w->splits[i].state == EMU_AT_WARP_BAR) return try_converge(x, w, i, true);
  for (uint32_t i = 0; i < w->split_count; i++) {
    emu_split *s = &w->splits[i];
    const emu_insn *in = &x->code[s->pc];
    uint32_t together = 0;
    for (uint32_t k = 0; k < w->split_count; k++)
      if (w->splits[k].pc == s->pc) together |= w->splits[k].mask;
    if (together == w->live) continue;
    if (!(in->flags & EMU_F_ALIGNED)) {
      if (joins_release(w, s->join)) return true;
    } else if (x->launch->check_sync) {
      emu_fault_report(x, in, EMU_FAULT_DIVERGENT_BARRIER, (unsigned)__builtin_ctz(s->mask), 0, 0, NULL,
                       "lanes 0x%08x of the warp wait at this barrier, lanes 0x%08x don't (an aligned barrier needs the whole warp)", together, w->live & ~together);
    } else if (joins_release(w, s->join)) {
      return true;
    }
  }
  return false;
}

// --- the loop ---------------------------------------------------------------------------------------------------------------------------
static void watch(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_launch_config *c = &x->launch->config;
  emu_stop stop = {x, in, mask};
  if (c->trace && c->debug && c->debug->on_trace) c->debug->on_trace(c->debug, &stop);
  const ptx_stmt *s = emu_stmt_of(x->launch->program, in);
  if (c->break_line && c->debug && c->debug->on_break && s && s->pos.line == c->break_line) c->debug->on_break(c->debug, &stop);
}

static inline void enter_split(emu_exec *x, emu_split *s) {
  x->split = s;
  x->frame = s->frame;
  x->regs = s->frame->regs;
  x->preds = s->frame->preds;
}

typedef enum step { STEP_ON, STEP_SPLIT, STEP_STOP } step;   // go on, look at the splits again, the launch stops

// What is not a plain operation; s->pc is that of `in`.
static step control(emu_exec *x, emu_warp *w, emu_split *s, const emu_insn *in, uint32_t mask) {
  bool partial = mask != s->mask;
  switch ((emu_flow)in->flow) {
    case EMU_BRA:
      if (partial) diverge(w, s, mask, in->target, s->pc + 1, in->rejoin);
      else s->pc = in->target;
      return partial ? STEP_SPLIT : STEP_ON;
    case EMU_BRX: return lanes_branch_indexed(x, w, s, in, mask) ? STEP_SPLIT : STEP_STOP;
    case EMU_EXIT: lanes_exit(x, w, s, mask); return STEP_SPLIT;
    case EMU_RET: lanes_return(x, w, s, mask); return STEP_SPLIT;
    case EMU_YIELD:
      s->pc++;
      w->spins += SPIN_YIELD - w->spins % SPIN_YIELD - 1;
      return STEP_ON;
    default: break;
  }
  if (partial) {   // the lanes whose guard is false wait behind it
    s = diverge(w, s, s->mask & ~mask, s->pc + 1, s->pc, in->rejoin);
  }
  switch ((emu_flow)in->flow) {
    case EMU_CALL: return lanes_call(x, w, s, in) ? STEP_SPLIT : STEP_STOP;
    case EMU_BAR: return lanes_barrier(x, w, s, in) ? STEP_SPLIT : STEP_STOP;
    default: break;
  }
  const uint32_t *members = emu_row_at(x, in->flow == EMU_WARP_BAR ? in->s[0] : in->s[3]);
  s->members = members[__builtin_ctz(s->mask)];
  if ((s->mask & ~s->members) && x->launch->check_sync)
    emu_fault_report(x, in, EMU_FAULT_INACTIVE_LANE, (unsigned)__builtin_ctz(s->mask & ~s->members), 0, 0, NULL, "a lane executes this with mask 0x%08x, which doesn't name it", s->members);
  s->state = in->flow == EMU_WARP_BAR ? EMU_AT_WARP_BAR : EMU_AT_CONVERGE;
  try_converge(x, w, (uint32_t)(s - w->splits), false);
  return STEP_SPLIT;
}

typedef enum run_end { RUN_CHANGED, RUN_SPINS, RUN_OVER } run_end;   // splits changed, it waits, its slice is over
// Runs one split until it has to give way.
static run_end run_split(emu_exec *x, emu_warp *w, uint32_t index) {
  emu_split *s = &w->splits[index];
  enter_split(x, s);
  x->full = w->live;
  uint32_t budget = SLICE, ran = 0;
  uint64_t threads = 0;
  run_end end = RUN_OVER;
  while (budget--) {
    const emu_insn *in = &x->code[s->pc];
    if (in->flags & EMU_F_REJOIN && s->join && s->join->pc == s->pc && s->join->frame == s->frame) {
      emu_join *j = s->join;
      j->arrived |= s->mask;
      split_remove(w, index);
      join_settle(w, j);
      end = RUN_CHANGED;
      break;
    }
    uint32_t mask = s->mask;
    if (in->guard != EMU_NO_PRED) mask &= in->guard_not ? ~x->preds[in->guard] : x->preds[in->guard];
    uint32_t real = !(in->flags & EMU_F_EXTRA);
    ran += real;
    threads += real ? (unsigned)__builtin_popcount(mask) : 0;
    if (__builtin_expect(x->watch, 0)) {
      if (x->counts && in->flow != EMU_CONVERGE && real) x->counts[s->pc].warps++, x->counts[s->pc].threads += (unsigned)__builtin_popcount(mask);
      if (mask) watch(x, in, mask);
    }
    if (!mask) {
      s->pc++;
      continue;
    }
    if (in->flags & EMU_F_TRACKED && x->frame->init) emu_check_registers(x, in, mask);
    if (in->flow == EMU_PLAIN) {
      in->run(x, in, mask);
      s->pc++;
      if (__builtin_expect(atomic_load_explicit(&x->launch->stop, memory_order_relaxed), 0)) break;
    } else {
      // A converged operation of the whole warp needs no bookkeeping.
      if (in->flow == EMU_CONVERGE && mask == w->live && in->s[3] & EMU_CONST && (*(const uint32_t *)emu_row_at(x, in->s[3]) & mask) == mask) {
        if (x->counts) x->counts[s->pc].warps++, x->counts[s->pc].threads += (unsigned)__builtin_popcount(mask);
        in->run(x, in, mask);
        s->pc++;
        if (atomic_load_explicit(&x->launch->stop, memory_order_relaxed)) break;
        continue;
      }
      step r = control(x, w, s, in, mask);
      if (r != STEP_ON) {
        end = RUN_CHANGED;
        break;
      }
    }
    if (in->flags & EMU_F_SPIN) {
      w->waits++;
      if (++w->spins % SPIN_YIELD == 0) {
        end = RUN_SPINS;
        break;
      }
    }
  }
  if (end == RUN_OVER) w->spins++;
  x->warps_run += ran;
  x->threads_run += threads;
  w->executed += ran;
  return end;
}

// One turn of a warp. Returns whether it did anything but wait: something others can see, or much work between its waits.
static bool run_warp(emu_exec *x, emu_warp *w, bool *ran) {
  uint64_t before = w->executed, waits = w->waits, progress = w->progress;
  x->warp = w;
  for (unsigned turns = 0; turns < 64 && w->split_count; turns++) {
    if (atomic_load_explicit(&x->launch->stop, memory_order_relaxed)) return true;
    uint32_t n = w->split_count, index = EMU_NONE;
    for (uint32_t k = 0; k < n && index == EMU_NONE; k++) {
      uint32_t i = (w->next_split + k) % n;
      if (w->splits[i].state == EMU_READY) index = i;
    }
    if (index == EMU_NONE) {
      // Waiting lanes at a barrier are no fault as long as the whole warp waits there.
      uint32_t at_barrier = 0;
      for (uint32_t i = 0; i < n; i++)
        if (w->splits[i].state == EMU_AT_BARRIER) at_barrier |= w->splits[i].mask;
      bool same_place = true;
      for (uint32_t i = 1; i < n; i++) same_place &= w->splits[i].pc == w->splits[0].pc;
      if (at_barrier == w->live && (same_place || !(x->code[w->splits[0].pc].flags & EMU_F_ALIGNED))) break;
      if (!warp_unblock(x, w)) break;
      continue;
    }
    run_end end = run_split(x, w, index);
    w->next_split = end == RUN_CHANGED ? 0 : index + 1;
    if (end == RUN_CHANGED) continue;
    if (w->spins >= SPIN_RELEASE) {
      w->spins = 0;
      joins_release(w, w->splits[index].join);
    }
    if (w->split_count == 1 || turns >= w->split_count) break;
  }
  *ran |= w->executed != before;
  return w->progress != progress || (w->executed - before) / WAIT_DENSITY > w->waits - waits;
}

static uint32_t shuffle(emu_exec *x) {
  x->random = x->random * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)(x->random >> 33);
}

emu_slice emu_run_block(emu_exec *x, emu_block *b) {
  x->block = b;
  for (;;) {
    bool useful = false, ran = false, alive = false;
    uint32_t first = x->launch->config.schedule_seed ? shuffle(x) % b->warp_count : 0;
    for (uint32_t k = 0; k < b->warp_count; k++) {
      emu_warp *w = &b->warps[(first + k) % b->warp_count];
      if (!w->split_count) continue;
      alive = true;
      useful |= run_warp(x, w, &ran);
      if (atomic_load_explicit(&x->launch->stop, memory_order_relaxed)) return EMU_SLICE_DONE;
    }
    if (!alive) return EMU_SLICE_DONE;
    if (barriers_update(x, b)) continue;
    if (!ran) return EMU_SLICE_STUCK;
    if (!useful) return EMU_SLICE_SPIN;
    atomic_fetch_add_explicit(&x->launch->progress, 1, memory_order_relaxed);
    if (x->launch->config.max_instructions && x->warps_run > x->launch->config.max_instructions) return EMU_SLICE_SPIN;
  }
}
