// Where tiles are: forms (layouts seen from a thread), tiles of C variables, and what moves no data (relabel).
#include "codegen/cuda/emit.h"

const char *cgc_ctype(cgc_emit *e, ir_dtype t) {
  switch (t) {
    case IR_f64: return "double";
    case IR_f32: return "float";
    case IR_f16: case IR_bf16: case IR_u16: return "unsigned short";
    case IR_i64: return "long long";
    case IR_i32: return "int";
    case IR_i16: return "short";
    case IR_i8: return "signed char";
    case IR_u8: case IR_u4: return "unsigned char";
    case IR_i1: return "bool";
    case IR_u64: return "unsigned long long";
    case IR_u32: return "unsigned";
    default: cgc_fail(e, &diag_cuda_type, "type %s", ir_dtype_name(t)); return "int";
  }
}

int cgc_axis(const cgc_form *f, ts_sym axis) {
  for (unsigned d = 0; d < f->rank; d++)
    if (f->axis[d] == axis) return (int)d;
  return -1;
}

static int64_t low_bit(int64_t v) { return v == 0 ? 1 << 20 : (v & -v) > 1 << 20 ? 1 << 20 : v & -v; }

// The part of axis d that digits of dimension `dim` give, as a C expression over the thread's coordinate.
static const char *digits_expr(cgc_emit *e, const ir_layout *l, uint32_t axis, const char *dim, const char *var) {
  int n = ir_layout_dim(l, dim);
  const char *sum = NULL;
  for (uint32_t i = 0; n >= 0 && i < l->digit_count; i++) {
    const ir_layout_digit *g = &l->digits[i];
    if (g->dim != (uint32_t)n || g->count == 0) continue;
    if (g->count != 1) {
      cgc_fail(e, &diag_cuda_not_finished, "a register layout with an xor");
      return NULL;
    }
    if (g->terms[0].axis != axis) continue;
    bool top = g->stride * g->radix >= l->dims[n].size;
    const char *x = g->stride == 1 ? var : cgc_text(e, "%s / %lld", var, (long long)g->stride);
    if (!top) x = cgc_text(e, "%s %% %lld", x, (long long)g->radix);
    if (g->terms[0].divisor != 1) x = cgc_text(e, "%s * %lld", x, (long long)g->terms[0].divisor);
    sum = sum ? cgc_text(e, "%s + %s", sum, x) : x;
  }
  return sum ? cgc_shared_expr(e, sum) : NULL;
}

static bool fill_from_layout(cgc_emit *e, const ir_layout *l, cgc_form *f) {
  int reg = ir_layout_dim(l, "reg"), lane = ir_layout_dim(l, "lane"), warp = ir_layout_dim(l, "warp");
  int64_t at[IR_LAYOUT_MAX_SPACES] = {0}, index[IR_LAYOUT_MAX_SPACES], size;
  int map[CGC_RANK];
  f->regs = (int)(reg >= 0 ? l->dims[reg].size : 1);
  if (f->regs > CGC_MAX_REGS) return cgc_fail(e, &diag_cuda_type, "%d registers for one tile", f->regs), false;
  if ((lane >= 0 && l->dims[lane].size > 32) || (warp >= 0 && l->dims[warp].size > e->warps))
    return cgc_fail(e, &diag_cuda_not_finished, "a layout for more threads than a block has"), false;
  size = 1;
  for (unsigned d = 0; d < f->rank; d++) {
    map[d] = ir_layout_axis(l, f->axis[d]);
    if ((map[d] >= 0 ? l->axes[map[d]].size : 1) != f->extent[d])
      return cgc_fail(e, &diag_cuda_not_finished, "the layout and the tile differ along axis %s", f->axis[d]), false;
    f->off[d] = ts_new_array(e->arena, int32_t, f->regs);
    f->thread[d] = ts_new_array(e->arena, int32_t, 32 * e->warps);
    f->divisor[d] = 1 << 20;
    size *= f->extent[d];
    if (map[d] < 0) continue;
    f->lane[d] = digits_expr(e, l, (uint32_t)map[d], "lane", "lane");
    f->warp[d] = digits_expr(e, l, (uint32_t)map[d], "warp", "warp");
  }
  for (int r = 0; r < f->regs; r++) {
    if (reg >= 0) at[reg] = r;
    if (!ir_layout_apply(l, at, index)) return cgc_fail(e, &diag_cuda_not_finished, "a register layout with holes"), false;
    for (unsigned d = 0; d < f->rank; d++) f->off[d][r] = map[d] < 0 ? 0 : (int32_t)index[map[d]];
  }
  if (reg >= 0) at[reg] = 0;
  for (unsigned t = 0; t < 32 * e->warps; t++) {
    if (lane >= 0) at[lane] = t % 32 % l->dims[lane].size;
    if (warp >= 0) at[warp] = t / 32 % l->dims[warp].size;
    if (!ir_layout_apply(l, at, index)) return cgc_fail(e, &diag_cuda_not_finished, "a register layout with holes"), false;
    for (unsigned d = 0; d < f->rank; d++) {
      f->thread[d][t] = map[d] < 0 ? 0 : (int32_t)index[map[d]];
      if (low_bit(f->thread[d][t]) < f->divisor[d]) f->divisor[d] = low_bit(f->thread[d][t]);
    }
  }
  return true;
}

static bool same_thread(const cgc_form *f, unsigned t, unsigned s) {
  for (unsigned d = 0; d < f->rank; d++)
    if (f->thread[d] && f->thread[d][t] != f->thread[d][s]) return false;
  return true;
}

const cgc_form *cgc_form_of(cgc_emit *e, const ir_type *t, ir_dtype dtype) {
  uint64_t key = ts_key(t) * 64 + dtype;
  cgc_form *f = ts_map_get(&e->forms, key);
  if (f) return f;
  f = ts_new(e->arena, cgc_form);
  f->rank = t->rank, f->dtype = dtype;
  if (t->kind != IR_TYPE_TILE || t->rank > CGC_RANK) return cgc_fail(e, &diag_cuda_type, "not a tile, or of too many axes"), NULL;
  int64_t elements = 1;
  for (unsigned d = 0; d < t->rank; d++) {
    if (!ir_size_is_const(t->shape[d]) || t->shape[d]->value < 1) return cgc_fail(e, &diag_cuda_not_finished, "axis %s has no static extent", t->axes[d]), NULL;
    f->axis[d] = t->axes[d];
    f->extent[d] = t->shape[d]->value;
    elements *= f->extent[d];
    if (elements > 1 << 24) return cgc_fail(e, &diag_cuda_type, "a tile of more than 2^24 elements"), NULL;
  }
  if (t->layout) {
    if (!fill_from_layout(e, t->layout, f)) return NULL;
  } else {
    if (elements > CGC_MAX_REGS) return cgc_fail(e, &diag_cuda_not_finished, "a tile of %lld elements without a layout", (long long)elements), NULL;
    f->regs = (int)elements;
    int64_t inner = 1;
    for (unsigned d = t->rank; d-- > 0; inner *= f->extent[d]) {
      f->off[d] = ts_new_array(e->arena, int32_t, f->regs);
      f->divisor[d] = 1 << 20;
      for (int r = 0; r < f->regs; r++) f->off[d][r] = (int32_t)(r / inner % f->extent[d]);
    }
  }
  unsigned bits = ir_dtype_bits(dtype);
  f->per = t->layout && bits >= 4 && bits <= 16 && f->regs % (int)(32 / bits) == 0 ? (int)(32 / bits) : 1;
  f->words = f->regs / f->per;
  // The first holder of each element: no smaller lane of the warp, no smaller warp has the same.
  for (unsigned l = 0; l < 32; l++) {
    bool first = true;
    for (unsigned k = 0; k < l; k++) first &= !same_thread(f, l, k);
    if (first) f->lanes |= 1u << l;
  }
  for (unsigned w = 0; w < e->warps; w++) {
    bool first = true;
    for (unsigned k = 0; k < w; k++) first &= !same_thread(f, 32 * w, 32 * k);
    if (first) f->warps |= 1u << w;
  }
  ts_map_put(&e->forms, key, f);
  return f;
}

int cgc_match(const cgc_emit *e, const cgc_form *f, const cgc_form *at, int r, const int32_t *extra) {
  int32_t want[CGC_RANK];
  int from[CGC_RANK];
  for (unsigned d = 0; d < f->rank; d++) {
    from[d] = cgc_axis(at, f->axis[d]);
    want[d] = from[d] < 0 ? (extra ? extra[d] : 0) : at->off[from[d]][r] + (at->thread[from[d]] ? at->thread[from[d]][0] : 0);
    for (unsigned t = 0; t < 32 * e->warps; t++)
      if ((f->thread[d] ? f->thread[d][t] : 0) != (from[d] < 0 || !at->thread[from[d]] ? 0 : at->thread[from[d]][t])) return -1;
  }
  for (int s = 0; s < f->regs; s++) {
    bool same = true;
    for (unsigned d = 0; d < f->rank && same; d++) same = f->off[d][s] + (f->thread[d] ? f->thread[d][0] : 0) == want[d];
    if (same) return s;
  }
  return -1;
}

// ---- tiles ---------------------------------------------------------------------------------------------------------------
cgc_tile *cgc_tile_of(cgc_emit *e, const ir_value *v) {
  cgc_tile *t = ts_map_get(&e->tiles, ts_key(v));
  if (!t) cgc_fail(e, &diag_cuda_not_finished, "an operand has no value here");
  return t;
}

cgc_tile *cgc_new_tile(cgc_emit *e, const cgc_form *f) {
  cgc_tile *t = ts_new(e->arena, cgc_tile);
  t->form = f;
  t->v = ts_new_array(e->arena, const char *, (size_t)f->words);
  return t;
}

void cgc_define(cgc_emit *e, const ir_value *v, cgc_tile *t) {
  if (t) ts_map_put(&e->tiles, ts_key(v), t);
}

const char *cgc_get(cgc_emit *e, const cgc_tile *t, int r) {
  const cgc_form *f = t->form;
  if (f->per == 1) return t->v[r];
  const char *w = t->v[r / f->per];
  int i = r % f->per;
  switch (f->per) {
    case 2: return cgc_text(e, f->dtype == IR_i16 ? "(short)t_%s(%s)" : "t_%s(%s)", i ? "hi" : "lo", w);
    case 4: return cgc_text(e, "(%s)(%s >> %d)", cgc_ctype(e, f->dtype), w, 8 * i);
    default: return cgc_text(e, "(unsigned char)(%s >> %d & 15)", w, 4 * i);
  }
}

cgc_tile *cgc_declare(cgc_emit *e, const cgc_form *f, const char **elements) {
  cgc_tile *t = cgc_new_tile(e, f);
  const char *name = cgc_name(e, "v");
  for (int w = 0; w < f->words && cgc_ok(e); w++) {
    t->v[w] = f->words == 1 ? name : cgc_text(e, "%s_%d", name, w);
    const char **x = elements + w * f->per;
    if (f->per == 1) cgc_line(e, "const %s %s = %s;", cgc_ctype(e, f->dtype), t->v[w], x[0]);
    else if (f->per == 2) cgc_line(e, "const unsigned %s = t_pack(%s, %s);", t->v[w], x[0], x[1]);
    else if (f->per == 4)
      cgc_line(e, "const unsigned %s = (unsigned char)(%s) | (unsigned char)(%s) << 8 | (unsigned char)(%s) << 16 | (unsigned)(unsigned char)(%s) << 24;",
               t->v[w], x[0], x[1], x[2], x[3]);
    else cgc_fail(e, &diag_cuda_type, "4-bit elements are computed with after decoding only");
  }
  return t;
}

const char *cgc_scalar(cgc_emit *e, const ir_value *v) {
  cgc_tile *t = cgc_tile_of(e, v);
  if (t && t->form->regs != 1) cgc_fail(e, &diag_cuda_not_finished, "a tile where a scalar belongs");
  return t && cgc_ok(e) ? t->v[0] : "0";
}

const char *cgc_owner(cgc_emit *e, const cgc_form *f) {
  const char *c = NULL;
  if (f->lanes == 1) c = "lane == 0";
  else if (f->lanes != UINT32_MAX) c = cgc_text(e, "(0x%xu >> lane & 1)", f->lanes);
  uint32_t all = e->warps == 32 ? UINT32_MAX : (1u << e->warps) - 1;
  if (f->warps == all) return c;
  const char *w = f->warps == 1 ? "warp == 0" : cgc_text(e, "(0x%xu >> warp & 1)", f->warps);
  return c ? cgc_text(e, "%s && %s", c, w) : w;
}

// ---- what is known of scalars --------------------------------------------------------------------------------------------
bool cgc_constant(const ir_value *v, int64_t *out) {
  if (!v->producer || v->producer->code != IR_OP_const || !ir_attr_find(v->producer, "int")) return false;
  *out = ir_attr_int(v->producer, "int", 0);
  return true;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t fn_divisor(const cgc_emit *e, const ir_op *op, const ir_fn *fn, uint32_t node, int depth) {
  const ir_expr *x = &fn->nodes[node];
  if (depth > 16) return 1;
  switch (x->op) {
    case IR_SCALAR_PARAM: return cgc_divisor(e, op->operands[x->index], depth + 1);
    case IR_SCALAR_CONST: return ir_is_int(x->type) ? low_bit(x->integer) : 1;
    case IR_SCALAR_add: case IR_SCALAR_sub: case IR_SCALAR_min: case IR_SCALAR_max:
      return smaller(fn_divisor(e, op, fn, x->args[0], depth + 1), fn_divisor(e, op, fn, x->args[1], depth + 1));
    case IR_SCALAR_mul: {
      int64_t p = fn_divisor(e, op, fn, x->args[0], depth + 1), q = fn_divisor(e, op, fn, x->args[1], depth + 1);
      return p >= (1 << 20) / q ? 1 << 20 : p * q;
    }
    case IR_SCALAR_rem: return smaller(fn_divisor(e, op, fn, x->args[0], depth + 1), fn_divisor(e, op, fn, x->args[1], depth + 1));
    case IR_SCALAR_select: return smaller(fn_divisor(e, op, fn, x->args[1], depth + 1), fn_divisor(e, op, fn, x->args[2], depth + 1));
    case IR_SCALAR_cast: return ir_is_int(fn->nodes[x->args[0]].type) ? fn_divisor(e, op, fn, x->args[0], depth + 1) : 1;
    default: return 1;
  }
}

int64_t cgc_divisor(const cgc_emit *e, const ir_value *v, int depth) {
  int64_t c;
  if (depth > 16) return 1;
  if (cgc_constant(v, &c)) return low_bit(c);
  const ir_op *op = v->producer;
  if (!op) {
    void *known = ts_map_get(&e->divisors, ts_key(v));
    return known ? (int64_t)(intptr_t)known : 1;
  }
  if (op->code == IR_OP_apply && v->type->rank == 0) {
    const ir_fn *fn = ir_attr_find(op, "fn")->fn;
    return fn_divisor(e, op, fn, fn->outputs[v->index], depth);
  }
  if (op->code == IR_OP_size) {
    const ir_size *s = ir_attr_find(op, "of")->size;
    return smaller(low_bit(s->residue), low_bit(s->step));
  }
  return 1;
}

// ---- relabel -------------------------------------------------------------------------------------------------------------
typedef struct relabel {
  const ir_op *op;
  const char *kind;
  ts_sym axis;
  const ir_attr *to;
  int64_t at, step;
} relabel;

// Which operand, and where in it, is the element at `c` of the result?
static unsigned source(const relabel *x, const cgc_form *from, const cgc_form *to, const int32_t *c, int32_t *out) {
  unsigned operand = 0;
  for (unsigned d = 0; d < from->rank; d++) {
    int k = cgc_axis(to, from->axis[d]);
    out[d] = k >= 0 ? c[k] : 0;
  }
  int a = cgc_axis(from, x->axis ? x->axis : "");
  if (strcmp(x->kind, "split") == 0) {
    int64_t sum = 0;
    for (uint32_t i = 0; i < x->to->axes.count; i++) {
      int k = cgc_axis(to, x->to->axes.data[i]);
      sum = sum * to->extent[k] + c[k];
    }
    out[a] = (int32_t)sum;
  } else if (strcmp(x->kind, "merge") == 0) {
    int64_t rest = c[cgc_axis(to, x->axis)];
    for (uint32_t i = x->to->axes.count; i-- > 0;) {
      int k = cgc_axis(from, x->to->axes.data[i]);
      out[k] = (int32_t)(rest % from->extent[k]);
      rest /= from->extent[k];
    }
  } else if (strcmp(x->kind, "rename") == 0) {
    out[a] = c[cgc_axis(to, x->to->axes.data[0])];
  } else if (strcmp(x->kind, "pick") == 0) {
    out[a] = (int32_t)x->at;
  } else if (strcmp(x->kind, "slice") == 0) {
    out[a] = (int32_t)(x->at + x->step * c[cgc_axis(to, x->axis)]);
  } else if (strcmp(x->kind, "concat") == 0) {
    int64_t p = c[cgc_axis(to, x->axis)];
    int64_t each = a >= 0 ? from->extent[a] : 1;
    operand = (unsigned)(p / each);
    if (a >= 0) out[a] = (int32_t)(p % each);
  }
  return operand;
}

void cgc_relabel(cgc_emit *e, const ir_op *op) {
  relabel x = {.op = op, .kind = ir_attr_sym(op, "kind"), .axis = ir_attr_sym(op, "axis"), .to = ir_attr_find(op, "to"), .at = ir_attr_int(op, "at", 0),
               .step = ir_attr_int(op, "step", 1)};
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  cgc_tile *first = cgc_tile_of(e, op->operands[0]);
  if (!f || !first) return;
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
  bool whole = op->operand_count == 1 && f->regs == first->form->regs && f->per == first->form->per;   // the same words
  for (int r = 0; r < f->regs && cgc_ok(e); r++) {
    int found = -1;
    cgc_tile *tile = NULL;
    for (unsigned t = 0; t < 32 * e->warps; t++) {
      int32_t c[CGC_RANK], want[CGC_RANK];
      for (unsigned d = 0; d < f->rank; d++) c[d] = f->off[d][r] + (f->thread[d] ? f->thread[d][t] : 0);
      unsigned n = source(&x, first->form, f, c, want);
      if (n >= op->operand_count) return cgc_fail(e, &diag_cuda_not_finished, "operands are missing");
      if (t == 0) tile = cgc_tile_of(e, op->operands[n]);
      if (!tile) return;
      const cgc_form *from = tile->form;
      for (int s = 0; t == 0 && s < from->regs && found < 0; s++) {
        found = s;
        for (unsigned d = 0; d < from->rank && found >= 0; d++)
          if (from->off[d][s] + (from->thread[d] ? from->thread[d][0] : 0) != want[d]) found = -1;
      }
      bool right = found >= 0 && tile == cgc_tile_of(e, op->operands[n]);
      for (unsigned d = 0; d < from->rank && right; d++) right = from->off[d][found] + (from->thread[d] ? from->thread[d][t] : 0) == want[d];
      if (!right) return cgc_fail(e, &diag_cuda_not_finished, "relabel %s (axis %s) would move data between threads", x.kind, x.axis ? x.axis : "-");
    }
    whole &= found == r;
    if (f->per < 8) elements[r] = cgc_get(e, tile, found);
  }
  if (!cgc_ok(e)) return;
  cgc_tile *out = cgc_new_tile(e, f);
  if (whole) memcpy(out->v, first->v, (size_t)f->words * sizeof *out->v);
  else if (f->per == 1) memcpy(out->v, elements, (size_t)f->words * sizeof *out->v);
  else out = cgc_declare(e, f, elements);
  cgc_define(e, op->results[0], out);
}
