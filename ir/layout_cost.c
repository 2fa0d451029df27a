// Layouts (see layout.h): what conversions and accesses cost. All of it counts what the lanes of each warp touch, so it holds
// for any layouts, xors and holes included; the tiles it is asked about are small.
#include "base/checked.h"
#include "ir/layout.h"

#include <stdlib.h>

typedef struct machine {   // the numbers of the dimensions of a register layout; -1: missing
  int reg, lane, warp;
  int64_t regs, lanes, warps;
} machine;

static bool machine_of(const ir_layout *l, machine *m) {
  *m = (machine){ir_layout_dim(l, "reg"), ir_layout_dim(l, "lane"), ir_layout_dim(l, "warp"), ir_layout_dim_size(l, "reg"),
                 ir_layout_dim_size(l, "lane"), ir_layout_dim_size(l, "warp")};
  return l->dim_count == (uint32_t)((m->reg >= 0) + (m->lane >= 0) + (m->warp >= 0)) && m->lanes <= 32;
}

static bool index_at(const ir_layout *l, const machine *m, int64_t reg, int64_t lane, int64_t warp, int64_t *index) {
  int64_t at[IR_LAYOUT_MAX_SPACES];
  if (m->reg >= 0) at[m->reg] = reg;
  if (m->lane >= 0) at[m->lane] = lane;
  if (m->warp >= 0) at[m->warp] = warp;
  return ir_layout_apply(l, at, index);
}

// How each axis of `from` is numbered in `to`; false when the axes differ.
static bool match_axes(const ir_layout *from, const ir_layout *to, int *axis_of) {
  if (from->axis_count != to->axis_count) return false;
  for (uint32_t i = 0; i < from->axis_count; i++)
    if ((axis_of[i] = ir_layout_axis(to, from->axes[i].name)) < 0) return false;
  return true;
}

ir_convert_class ir_layout_convert_class(const ir_layout *from, const ir_layout *to) {
  machine f, t;
  int axis_of[IR_LAYOUT_MAX_SPACES];
  if (!machine_of(from, &f) || !machine_of(to, &t) || !match_axes(from, to, axis_of)) return IR_CONVERT_PANEL;
  int64_t replicas = ir_layout_replicas(from);
  ir_convert_class worst = IR_CONVERT_NONE;
  for (int64_t p = 0; p < t.regs * t.lanes * t.warps; p++) {
    int64_t reg = p % t.regs, lane = p / t.regs % t.lanes, warp = p / t.regs / t.lanes;
    int64_t index[IR_LAYOUT_MAX_SPACES], source[IR_LAYOUT_MAX_SPACES], at[IR_LAYOUT_MAX_SPACES];
    if (!index_at(to, &t, reg, lane, warp, index)) continue;
    for (uint32_t i = 0; i < from->axis_count; i++) source[i] = index[axis_of[i]];
    ir_convert_class best = IR_CONVERT_PANEL;
    for (int64_t r = 0; r < replicas && best > worst; r++) {
      if (!ir_layout_find_replica(from, source, r, at)) continue;
      bool same_warp = (f.warp < 0 ? 0 : at[f.warp]) == warp, same_lane = (f.lane < 0 ? 0 : at[f.lane]) == lane;
      bool same_reg = (f.reg < 0 ? 0 : at[f.reg]) == reg;
      ir_convert_class c = !same_warp   ? IR_CONVERT_PANEL
                           : !same_lane ? IR_CONVERT_SHUFFLE
                           : same_reg   ? IR_CONVERT_NONE
                                        : IR_CONVERT_REGISTERS;
      if (c < best) best = c;
    }
    if (best > worst) worst = best;
    if (worst == IR_CONVERT_PANEL) break;
  }
  return worst;
}

// Element offsets in memory of every (warp, lane, reg), reg fastest; -1 for a hole. NULL when the layouts do not fit together or
// an index has no place in memory. The caller frees it.
static int64_t *offsets(const ir_layout *regs, const ir_layout *memory, machine *m) {
  int axis_of[IR_LAYOUT_MAX_SPACES];   // of regs in memory
  if (!machine_of(regs, m) || memory->dim_count != 1 || !match_axes(regs, memory, axis_of)) return NULL;
  size_t n = (size_t)(m->regs * m->lanes * m->warps);
  int64_t *offset = n <= (size_t)1 << 24 ? malloc(n * sizeof *offset) : NULL;
  for (size_t p = 0; offset && p < n; p++) {
    int64_t reg = (int64_t)p % m->regs, lane = (int64_t)p / m->regs % m->lanes, warp = (int64_t)p / m->regs / m->lanes;
    int64_t index[IR_LAYOUT_MAX_SPACES], there[IR_LAYOUT_MAX_SPACES];
    offset[p] = -1;
    if (!index_at(regs, m, reg, lane, warp, index)) continue;
    for (uint32_t i = 0; i < regs->axis_count; i++) there[axis_of[i]] = index[i];
    if (!ir_layout_find(memory, there, &offset[p])) {
      free(offset);
      return NULL;
    }
  }
  return offset;
}

int ir_layout_vector_width(const ir_layout *regs, const ir_layout *memory, unsigned element_bits) {
  machine m;
  int64_t *offset = offsets(regs, memory, &m);
  if (!offset) return 0;
  size_t n = (size_t)(m.regs * m.lanes * m.warps);
  int best = 0;
  for (int bytes = 16; bytes >= 1 && !best; bytes /= 2) {
    if (bytes * 8 % (int)element_bits) continue;
    int64_t w = bytes * 8 / element_bits;
    if (m.regs % w) continue;
    bool ok = true;
    for (size_t p = 0; p < n && ok; p += (size_t)w) {
      ok = offset[p] < 0 || offset[p] % w == 0;
      for (int64_t i = 1; i < w && ok; i++) ok = offset[p + (size_t)i] == (offset[p] < 0 ? -1 : offset[p] + i);
    }
    if (ok) best = bytes;
  }
  free(offset);
  return best;
}

// Wavefronts of one group of lanes: the most distinct 4-byte words that fall into one bank.
static int64_t group_wavefronts(const int64_t *byte, int lanes, int width) {
  int64_t words[32 * 4], per_bank[32] = {0}, worst = 0;
  int n = 0;
  for (int i = 0; i < lanes; i++) {
    if (byte[i] < 0) continue;
    for (int64_t w = byte[i] / 4; w <= (byte[i] + width - 1) / 4; w++) {
      int j = 0;
      while (j < n && words[j] != w) j++;
      if (j == n) {
        words[n++] = w;
        if (++per_bank[w % 32] > worst) worst = per_bank[w % 32];
      }
    }
  }
  return worst;
}

static int64_t group_sectors(const int64_t *byte, int lanes, int width) {
  int64_t seen[64];
  int n = 0;
  for (int i = 0; i < lanes; i++) {
    if (byte[i] < 0) continue;
    for (int64_t s = byte[i] / 32; s <= (byte[i] + width - 1) / 32; s++) {
      int j = 0;
      while (j < n && seen[j] != s) j++;
      if (j == n) seen[n++] = s;
    }
  }
  return n;
}

static bool access_cost(const ir_layout *regs, const ir_layout *memory, unsigned element_bits, int width, bool shared,
                        ir_access_cost *out) {
  machine m;
  *out = (ir_access_cost){0};
  int64_t w = width * 8 / (int64_t)element_bits;
  if (width < 1 || width > 16 || !ts_is_pow2((uint64_t)width) || ir_layout_vector_width(regs, memory, element_bits) < width)
    return false;
  int64_t *offset = offsets(regs, memory, &m);
  if (!offset) return false;
  int group = !shared ? 32 : width <= 4 ? 32 : width == 8 ? 16 : 8;
  for (int64_t warp = 0; warp < m.warps; warp++) {
    for (int64_t reg = 0; reg < m.regs; reg += w) {
      out->requests++;
      for (int64_t first = 0; first < m.lanes; first += group) {
        int64_t byte[32];
        int lanes = (int)(m.lanes - first < group ? m.lanes - first : group), live = 0;
        for (int i = 0; i < lanes; i++) {
          int64_t e = offset[((warp * m.lanes + first + i) * m.regs) + reg];
          byte[i] = e < 0 ? -1 : e / w * width;
          live += e >= 0;
        }
        out->bytes += (int64_t)live * width;
        if (shared) {
          int64_t passes = group_wavefronts(byte, lanes, width);
          out->wavefronts += passes;
          out->conflicts += passes > 1 ? passes - 1 : 0;
        } else {
          out->sectors += group_sectors(byte, lanes, width);
        }
      }
    }
  }
  free(offset);
  return true;
}

bool ir_layout_bank_conflicts(const ir_layout *regs, const ir_layout *memory, unsigned element_bits, int width,
                              ir_access_cost *out) {
  return access_cost(regs, memory, element_bits, width, true, out);
}

bool ir_layout_sectors(const ir_layout *regs, const ir_layout *memory, unsigned element_bits, int width, ir_access_cost *out) {
  return access_cost(regs, memory, element_bits, width, false, out);
}
