// Placement: from "which digits of an axis run over registers, lanes and warps" to the layouts of all tiles of a piece of code.
#include "passes/cuda_internal.h"

static cuda_axis *find(cuda_placement *p, ts_sym name) {
  for (unsigned i = 0; i < p->count; i++)
    if (p->axis[i].name == name) return &p->axis[i];
  return NULL;
}

static cuda_axis *find_or_add(cuda_placement *p, ts_sym name) {
  cuda_axis *a = find(p, name);
  if (!a && p->count < sizeof p->axis / sizeof *p->axis) {
    a = &p->axis[p->count++];
    *a = (cuda_axis){.name = name};
  }
  return a;
}

static int64_t covered(const cuda_axis *a) { return a && a->count ? a->digit[a->count - 1].divisor * a->digit[a->count - 1].radix : 1; }

void cuda_put_digit(cuda_placement *p, ts_sym axis, cuda_dim dim, int64_t stride, int64_t radix) {
  cuda_axis *a = find_or_add(p, axis);
  if (!a || radix == 1 || a->count == CUDA_DIGITS) return;
  a->digit[a->count] = (cuda_digit){dim, stride, covered(a), radix};
  a->count++;
}

// The digits of [divisor, divisor * radix) of axis `from`, as digits of `to` counted from its `base`.
static bool take(const cuda_axis *from, int64_t divisor, int64_t radix, cuda_axis *to, int64_t base) {
  for (unsigned i = 0; i < from->count; i++) {
    cuda_digit d = from->digit[i];
    int64_t lo = d.divisor > divisor ? d.divisor : divisor, hi = d.divisor * d.radix < divisor * radix ? d.divisor * d.radix : divisor * radix;
    if (lo >= hi) continue;
    if (lo % d.divisor || hi % lo || lo % divisor || to->count == CUDA_DIGITS) return false;
    if (d.dim != CUDA_REG) d.stride *= lo / d.divisor;
    d.radix = hi / lo;
    d.divisor = base * (lo / divisor);
    to->digit[to->count++] = d;
  }
  return true;
}

static int64_t extent_of(const ir_type *t, ts_sym axis) {
  int d = ir_type_axis(t, axis);
  return d < 0 ? 1 : t->shape[d]->value;
}

// Digits of the axes that a relabel makes.
static bool derive(cuda_placement *p, const ir_op *op) {
  const char *kind = ir_attr_sym(op, "kind");
  ts_sym axis = ir_attr_sym(op, "axis");
  const ir_attr *to = ir_attr_find(op, "to");
  const ir_type *have = op->operands[0]->type, *want = op->results[0]->type;
  if (strcmp(kind, "split") == 0) {
    const cuda_axis *from = find(p, axis);
    int64_t inner = 1;
    for (uint32_t i = to->axes.count; i-- > 0;) {
      int64_t extent = extent_of(want, to->axes.data[i]);
      if (from && extent > 1 && !find(p, to->axes.data[i])) {
        cuda_axis copy = *from, *a = find_or_add(p, to->axes.data[i]);
        if (!a || !take(&copy, inner, extent, a, 1)) return false;
        from = find(p, axis);
      }
      inner *= extent;
    }
  } else if (strcmp(kind, "merge") == 0 && !find(p, axis)) {
    cuda_axis made = {.name = axis};
    int64_t inner = 1;
    for (uint32_t i = to->axes.count; i-- > 0;) {
      const cuda_axis *from = find(p, to->axes.data[i]);
      int64_t extent = extent_of(have, to->axes.data[i]);
      if (from && extent > 1 && !take(from, 1, extent, &made, inner)) return false;
      inner *= extent;
    }
    cuda_axis *a = find_or_add(p, axis);
    if (!a) return false;
    *a = made;
  } else if (strcmp(kind, "rename") == 0 && !find(p, to->axes.data[0])) {
    const cuda_axis *from = find(p, axis);
    if (from) {
      cuda_axis copy = *from, *a = find_or_add(p, to->axes.data[0]);
      if (!a) return false;
      memcpy(a->digit, copy.digit, sizeof a->digit);
      a->count = copy.count;
    }
  } else if (strcmp(kind, "concat") == 0 && !find(p, axis)) {
    cuda_put_digit(p, axis, CUDA_REG, 0, extent_of(want, axis));
  }
  return true;
}

// Strides of the register digits: those with a rank first, by rank, then the others in order. Returns the number of registers.
static int64_t number_registers(ir_layout_digit *digits, unsigned count) {
  int64_t regs = 1, done = 0;
  while (done >= 0) {
    int64_t rank = -1;
    for (unsigned i = 0; i < count; i++)
      if (digits[i].dim == CUDA_REG && digits[i].stride > done && (rank < 0 || digits[i].stride < rank)) rank = digits[i].stride;
    for (unsigned i = 0; i < count && rank > 0; i++) {
      if (digits[i].dim != CUDA_REG || digits[i].stride != rank) continue;
      digits[i].stride = -regs;   // negative: numbered
      regs *= digits[i].radix;
    }
    done = rank;
  }
  for (unsigned i = 0; i < count; i++) {
    if (digits[i].dim != CUDA_REG) continue;
    if (digits[i].stride < 0) {
      digits[i].stride = -digits[i].stride;
    } else {
      digits[i].stride = regs;
      regs *= digits[i].radix;
    }
  }
  return regs;
}

ts_status cuda_layout_of(cuda_schedule *s, const cuda_placement *p, const ir_type *t, const ir_layout **out) {
  *out = NULL;
  if (t->rank == 0) return TS_OK;
  ir_layout_space dims[3] = {{"reg", 0}, {"lane", 32}, {"warp", s->kernel->warps}}, axes[IR_LAYOUT_MAX_SPACES];
  ir_layout_digit digits[80];
  ir_layout_term terms[80];
  unsigned count = 0, lanes = 0, warps = 0;
  bool spread = false;
  if (t->rank > IR_LAYOUT_MAX_SPACES) return CUDA_REFUSE(s, s->t.b.loc, "rule tile-axes: %u axes in one tile", t->rank);
  for (unsigned d = t->rank; d-- > 0;) {
    int64_t extent = t->shape[d]->value;
    const cuda_axis *a = find((cuda_placement *)p, t->axes[d]);
    axes[d] = (ir_layout_space){t->axes[d], extent};
    if (extent == 1) continue;
    if (covered(a) != extent)
      return CUDA_REFUSE(s, s->t.b.loc, "rule tile-without-place: axis %s of extent %lld has digits for %lld", t->axes[d], (long long)extent, (long long)covered(a));
    for (unsigned i = 0; i < a->count && count < 64; i++) {
      const cuda_digit *g = &a->digit[i];
      spread |= g->dim != CUDA_REG;
      terms[count] = (ir_layout_term){d, g->divisor};
      digits[count] = (ir_layout_digit){g->dim, g->stride, g->radix, 1, &terms[count]};
      if (g->dim == CUDA_LANE) lanes |= (unsigned)((g->radix - 1) * g->stride);
      if (g->dim == CUDA_WARP) warps |= (unsigned)((g->radix - 1) * g->stride);
      count++;
    }
  }
  if (!spread) return TS_OK;   // in row-major order, as tiles without a layout are
  dims[0].size = number_registers(digits, count);
  for (unsigned bit = 1; bit < 32; bit *= 2)
    if (!(lanes & bit)) digits[count++] = (ir_layout_digit){CUDA_LANE, bit, 2, 0, NULL};
  for (unsigned bit = 1; (int)bit < s->kernel->warps; bit *= 2)
    if (!(warps & bit)) digits[count++] = (ir_layout_digit){CUDA_WARP, bit, 2, 0, NULL};
  const ir_layout *made;
  TS_TRY(ir_layout_make(s->m->arena, dims, 3, axes, t->rank, digits, count, s->m->diags, s->t.b.loc, &made));
  // Equal layouts are one object, so that equal types are.
  ts_text text = {0};
  ir_layout_print(made, &text);
  uint64_t key = ts_hash_bytes(text.data, text.len, 7);
  ts_text_deinit(&text);
  *out = ts_map_get(&s->layouts, key);
  if (!*out) ts_map_put(&s->layouts, key, (void *)(uintptr_t)made), *out = made;
  return TS_OK;
}

ts_status cuda_tile(cuda_schedule *s, const cuda_placement *p, ir_dtype t, unsigned rank, const ts_sym *axes, const int64_t *extents, const ir_type **out) {
  const ir_size *shape[IR_LAYOUT_MAX_SPACES] = {0};
  for (unsigned i = 0; i < rank; i++) shape[i] = ir_size_const(s->m->sizes, extents[i]);
  const ir_type *type = ir_tile_type(s->m, t, rank, axes, shape);
  const ir_layout *layout;
  TS_TRY(cuda_layout_of(s, p, type, &layout));
  *out = layout ? ir_type_with_layout(s->m, type, layout) : type;
  return TS_OK;
}

static ts_status place_value(cuda_schedule *s, const cuda_placement *p, ir_value *v) {
  if (v->type->kind != IR_TYPE_TILE || ts_map_get(&s->placed, ts_key(v))) return TS_OK;
  ts_map_put(&s->placed, ts_key(v), v);
  if (v->type->layout || v->type->rank == 0) return TS_OK;
  const ir_layout *layout;
  const ir_type *t = ir_type_with_lanes(s->m, v->type, NULL);
  TS_TRY(cuda_layout_of(s, p, t, &layout));
  v->type = layout ? ir_type_with_layout(s->m, t, layout) : t;
  return TS_OK;
}

static ts_status place_region(cuda_schedule *s, cuda_placement *p, const ir_region *r) {
  for (uint32_t i = 0; i < r->param_count; i++) TS_TRY(place_value(s, p, r->params[i]));
  for (const ir_op *op = r->first; op; op = op->next) {
    bool known = op->result_count && ts_map_get(&s->placed, ts_key(op->results[0]));
    s->t.b.loc = op->loc;
    if (op->code == IR_OP_relabel && !known && !derive(p, op))
      return CUDA_REFUSE(s, op->loc, "rule relabel-across-threads: the digits of axis %s do not split so", ir_attr_sym(op, "axis") ? ir_attr_sym(op, "axis") : "-");
    for (uint32_t k = 0; k < op->region_count; k++) TS_TRY(place_region(s, p, op->regions[k]));
    for (uint32_t i = 0; i < op->result_count; i++) TS_TRY(place_value(s, p, op->results[i]));
  }
  return TS_OK;
}

ts_status cuda_place(cuda_schedule *s, cuda_placement *p) { return place_region(s, p, s->kernel->body); }
