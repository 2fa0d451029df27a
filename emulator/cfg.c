// Control flow of a decoded function: where basic blocks begin and where the lanes of a divergent branch meet again, which is
// at the immediate post-dominator of the branch's block (Cooper, Harvey and Kennedy's iteration on the reversed graph).
#include "emulator/program.h"

typedef struct graph {
  uint32_t blocks, *first, *last;       // operations of a block, inclusive
  uint32_t *block_of;                   // relative operation → block
  uint32_t *succ, *succ_at;             // successors of b: succ[succ_at[b] .. succ_at[b + 1])
  uint32_t *pred, *pred_at;
} graph;

static bool ends_block(const emu_insn *in) {
  return in->flow == EMU_BRA || in->flow == EMU_BRX || in->flow == EMU_RET || in->flow == EMU_EXIT;
}

static void mark_leaders(emu_program *p, emu_function *f, bool *leader) {
  uint32_t n = f->end - f->begin;
  leader[0] = true;
  for (uint32_t i = 0; i < n; i++) {
    const emu_insn *in = &p->code.data[f->begin + i];
    if (!ends_block(in)) continue;
    if (i + 1 < n) leader[i + 1] = true;
    if (in->flow == EMU_BRA) leader[in->target - f->begin] = true;
    if (in->flow != EMU_BRX) continue;
    const emu_brx_info *b = in->u.extra;
    for (uint32_t k = 0; k < b->count; k++) leader[b->targets[k] - f->begin] = true;
  }
}

// Calls `visit` for each successor block; the exit is block number `blocks`.
static uint32_t successors(const emu_program *p, const emu_function *f, const graph *g, uint32_t b, uint32_t *out) {
  const emu_insn *in = &p->code.data[f->begin + g->last[b]];
  uint32_t n = 0;
  bool guarded = in->guard != EMU_NO_PRED;
  if (in->flow == EMU_BRA) {
    out[n++] = g->block_of[in->target - f->begin];
    if (guarded && b + 1 < g->blocks && out[0] != b + 1) out[n++] = b + 1;
    return n;
  }
  if (in->flow == EMU_BRX) {
    const emu_brx_info *x = in->u.extra;
    for (uint32_t k = 0; k < x->count; k++) {
      uint32_t t = g->block_of[x->targets[k] - f->begin];
      bool seen = false;
      for (uint32_t j = 0; j < n && !seen && n < 64; j++) seen = out[j] == t;
      if (!seen) out[n++] = t;
    }
    if (guarded && b + 1 < g->blocks) out[n++] = b + 1;
    return n;
  }
  if (in->flow == EMU_RET || in->flow == EMU_EXIT) {
    out[n++] = g->blocks;
    if (guarded && b + 1 < g->blocks) out[n++] = b + 1;
    return n;
  }
  out[n++] = b + 1 < g->blocks ? b + 1 : g->blocks;
  return n;
}

static uint32_t max_targets(const emu_program *p, const emu_function *f) {
  uint32_t most = 2;
  for (uint32_t i = f->begin; i < f->end; i++) {
    if (p->code.data[i].flow != EMU_BRX) continue;
    const emu_brx_info *x = p->code.data[i].u.extra;
    if (x->count + 1 > most) most = x->count + 1;
  }
  return most;
}

static void build(ts_arena *a, emu_program *p, emu_function *f, graph *g) {
  uint32_t n = f->end - f->begin;
  bool *leader = ts_new_array(a, bool, n + 1);
  mark_leaders(p, f, leader);
  g->block_of = ts_new_array(a, uint32_t, n);
  for (uint32_t i = 0; i < n; i++) g->blocks += leader[i];
  uint32_t nb = g->blocks, b = 0;
  g->first = ts_new_array(a, uint32_t, nb);
  g->last = ts_new_array(a, uint32_t, nb);
  for (uint32_t i = 0; i < n; i++) {
    if (leader[i]) {
      g->first[b++] = i;
      p->code.data[f->begin + i].flags |= EMU_F_LEADER;
    }
    g->block_of[i] = b - 1;
    g->last[b - 1] = i;
  }
  uint32_t *out = ts_new_array(a, uint32_t, max_targets(p, f) + 2), edges = 0;
  g->succ_at = ts_new_array(a, uint32_t, nb + 2);
  for (b = 0; b < nb; b++) edges += successors(p, f, g, b, out);
  g->succ = ts_new_array(a, uint32_t, edges + 1);
  g->pred = ts_new_array(a, uint32_t, edges + 1);
  g->pred_at = ts_new_array(a, uint32_t, nb + 3);
  edges = 0;
  for (b = 0; b < nb; b++) {
    uint32_t k = successors(p, f, g, b, g->succ + edges);
    for (uint32_t i = 0; i < k; i++) g->pred_at[g->succ[edges + i] + 2]++;
    edges += k;
    g->succ_at[b + 1] = edges;
  }
  for (b = 0; b <= nb; b++) g->pred_at[b + 2] += g->pred_at[b + 1];
  for (b = 0; b < nb; b++)
    for (uint32_t i = g->succ_at[b]; i < g->succ_at[b + 1]; i++) g->pred[g->pred_at[g->succ[i] + 1]++] = b;
}

// Immediate post-dominators; ipdom[b] is a block, `blocks` for the exit, EMU_NONE for blocks that can't reach it.
static uint32_t *post_dominators(ts_arena *a, const graph *g) {
  uint32_t nb = g->blocks, exit = nb, count = 0;
  uint32_t *order = ts_new_array(a, uint32_t, nb + 1), *number = ts_new_array(a, uint32_t, nb + 1), *next = ts_new_array(a, uint32_t, nb + 1);
  uint32_t *stack = ts_new_array(a, uint32_t, nb + 2), top = 0, *ipdom = ts_new_array(a, uint32_t, nb + 1);
  bool *seen = ts_new_array(a, bool, nb + 1);
  stack[top++] = exit;
  seen[exit] = true;
  for (uint32_t b = 0; b <= nb; b++) next[b] = g->pred_at[b], ipdom[b] = EMU_NONE, number[b] = EMU_NONE;
  while (top) {   // post order on reversed edges
    uint32_t b = stack[top - 1];
    if (next[b] < g->pred_at[b + 1]) {
      uint32_t q = g->pred[next[b]++];
      if (!seen[q]) {
        seen[q] = true;
        stack[top++] = q;
      }
    } else {
      number[b] = count;
      order[count++] = b;
      top--;
    }
  }
  ipdom[exit] = exit;
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = count - 1; i-- > 0;) {
      uint32_t b = order[i], best = EMU_NONE;
      for (uint32_t k = g->succ_at[b]; k < g->succ_at[b + 1]; k++) {
        uint32_t s = g->succ[k];
        if (number[s] == EMU_NONE || ipdom[s] == EMU_NONE) continue;
        if (best == EMU_NONE) {
          best = s;
          continue;
        }
        uint32_t u = s, v = best;
        while (u != v) {
          while (number[u] < number[v]) u = ipdom[u];
          while (number[v] < number[u]) v = ipdom[v];
        }
        best = u;
      }
      if (best != ipdom[b]) {
        ipdom[b] = best;
        changed = true;
      }
    }
  }
  return ipdom;
}

void emu_find_rejoins(ts_arena *a, emu_program *p, emu_function *f) {
  graph g = {0};
  build(a, p, f, &g);
  uint32_t *ipdom = post_dominators(a, &g);
  for (uint32_t b = 0; b < g.blocks; b++) {
    emu_insn *in = &p->code.data[f->begin + g.last[b]];
    if (in->flow != EMU_BRA && in->flow != EMU_BRX) continue;
    if (ipdom[b] == EMU_NONE || ipdom[b] == g.blocks) continue;
    in->rejoin = f->begin + g.first[ipdom[b]];
    p->code.data[in->rejoin].flags |= EMU_F_REJOIN;
  }
  // A guarded operation that suspends lanes (a call, a barrier …) rejoins the rest behind itself.
  for (uint32_t i = f->begin; i + 1 < f->end; i++) {
    emu_insn *in = &p->code.data[i];
    bool waits = in->flow == EMU_CALL || in->flow == EMU_BAR || in->flow == EMU_CONVERGE || in->flow == EMU_WARP_BAR;
    if (!waits) continue;
    in->rejoin = i + 1;
    if (in->flow == EMU_CALL || in->guard != EMU_NO_PRED) p->code.data[i + 1].flags |= EMU_F_REJOIN;
  }
}
