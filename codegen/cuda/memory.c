// Memory: params and panels, loads and stores in the widest accesses that layouts and alignment allow, copies in flight.
//
// The address of an access is cut into three parts: what all threads share, what the thread adds (both in one pointer, declared
// once), and what the register adds, which is an immediate wherever the strides are static.
#include "codegen/cuda/emit.h"

// ---- operands ------------------------------------------------------------------------------------------------------------
static int64_t size_divisor(const ir_size *s) {
  int64_t p = 1;
  while (p < 1 << 20 && ir_size_proved_multiple(s, 2 * p)) p *= 2;
  return p;
}

static void fill_strides(cgc_emit *e, cgc_mem *m) {
  const ir_type *t = m->type;
  const char *stride = "1ll";
  int64_t value = 1, divisor = 1;
  for (unsigned d = t->rank; d-- > 0;) {
    if (t->strides) {
      value = t->strides[d], divisor = value & -value;
      stride = cgc_text(e, "%lldll", (long long)value);
    }
    m->stride[d] = stride, m->stride_value[d] = value, m->stride_divisor[d] = divisor;
    if (t->strides || d == 0) continue;
    const ir_size *s = t->shape[d];
    if (value && ir_size_is_const(s)) {
      value *= s->value;
      divisor = value ? value & -value : 1 << 20;
      stride = cgc_text(e, "%lldll", (long long)value);
    } else {
      stride = cgc_text(e, "%s * %s", stride, cgc_size(e, s));
      divisor *= size_divisor(s);
      value = 0;
    }
    if (divisor > 1 << 20) divisor = 1 << 20;
  }
}

void cgc_bind_params(cgc_emit *e) {
  for (size_t i = 0; i < e->kernel->params.count && cgc_ok(e); i++) {
    const ir_value *v = e->kernel->params.data[i].value;
    if (v->type->kind != IR_TYPE_MEM || v->type->encoding || v->type->rank > CGC_RANK) return cgc_fail(e, &diag_cuda_not_finished, "param %zu is no plain memory", i);
    cgc_mem *m = ts_new(e->arena, cgc_mem);
    *m = (cgc_mem){.type = v->type, .base = cgc_text(e, "p%zu", i)};
    fill_strides(e, m);
    ts_map_put(&e->mems, ts_key(v), m);
  }
}

// The last op of `r` itself in whose course `v` is used; 0: none.
static bool uses(const ir_op *op, const ir_value *v) {
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (op->operands[i] == v) return true;
  for (uint32_t k = 0; k < op->region_count; k++)
    for (const ir_op *o = op->regions[k]->first; o; o = o->next)
      if (uses(o, v)) return true;
  return false;
}

// Lives of the panels of a region: from the alloc to the last op of the same region that uses it, in positions of a walk in order.
static int64_t find_lives(cgc_emit *e, const ir_region *r, int64_t at) {
  TS_VEC(size_t) own = {0};
  for (const ir_op *op = r->first; op; op = op->next) {
    int64_t begin = ++at;
    if (op->code == IR_OP_alloc) {
      int64_t elements = ir_type_elements(op->results[0]->type);
      const ir_type *t = op->results[0]->type;
      if (t->strides) elements = 1;
      for (unsigned d = 0; t->strides && d < t->rank; d++) elements += (t->shape[d]->value - 1) * t->strides[d];
      if (elements < 1 || elements > 1 << 24) return cgc_fail(e, &diag_cuda_shared, "a panel of %lld elements", (long long)elements), at;
      ts_vec_push(e->arena, &own, e->panels.count);
      ts_vec_push(e->arena, &e->panels, ((cgc_panel){op, begin, begin, 0, (uint64_t)elements * ir_dtype_bits(t->dtype) / 8}));
    }
    for (uint32_t k = 0; k < op->region_count; k++) at = find_lives(e, op->regions[k], at);
    for (size_t i = 0; i < own.count; i++) {
      cgc_panel *p = &e->panels.data[own.data[i]];
      if (uses(op, p->alloc->results[0])) p->to = at;
    }
  }
  return at;
}

void cgc_place_panels(cgc_emit *e) {
  find_lives(e, e->kernel->body, 0);
  for (size_t i = 0; i < e->panels.count; i++) {
    cgc_panel *p = &e->panels.data[i];
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t k = 0; k < i; k++) {
        const cgc_panel *q = &e->panels.data[k];
        if (p->to < q->from || q->to < p->from || p->offset >= q->offset + q->bytes || q->offset >= p->offset + p->bytes) continue;
        p->offset = (q->offset + q->bytes + 127) / 128 * 128;
        moved = true;
      }
    }
    if (p->offset + p->bytes > e->shared) e->shared = p->offset + p->bytes;
  }
  if (e->shared > e->target->shared)
    cgc_fail(e, &diag_cuda_shared, "%llu bytes of panels; a block of %s has %u", (unsigned long long)e->shared, e->target->name, e->target->shared);
}

void cgc_alloc(cgc_emit *e, const ir_op *op) {
  for (size_t i = 0; i < e->panels.count; i++) {
    if (e->panels.data[i].alloc != op) continue;
    const ir_type *t = op->results[0]->type;
    cgc_mem *m = ts_new(e->arena, cgc_mem);
    *m = (cgc_mem){.type = t, .panel = true, .base = cgc_text(e, "((%s *)(smem + %llu))", cgc_ctype(e, t->dtype), (unsigned long long)e->panels.data[i].offset)};
    fill_strides(e, m);
    ts_map_put(&e->mems, ts_key(op->results[0]), m);
  }
}

static cgc_mem *mem_of(cgc_emit *e, const ir_value *v) {
  cgc_mem *m = ts_map_get(&e->mems, ts_key(v));
  if (!m) cgc_fail(e, &diag_cuda_not_finished, "no such memory");
  return m;
}

// ---- addresses -----------------------------------------------------------------------------------------------------------
typedef struct access {
  const cgc_mem *mem;
  const cgc_form *form;
  const char *pointer;             // declared
  int64_t divisor;                 // power of two that divides the offset of `pointer` (and of rows)
  const char **row;                // [regs] pointer of each register: `pointer` plus what index tiles and unknown strides add
  int64_t *offset;                 // [regs] immediate, in elements
} access;

static const char *plus(cgc_emit *e, const char *sum, const char *x) { return sum ? cgc_text(e, "%s + %s", sum, x) : x; }

static const char *scaled(cgc_emit *e, const char *x, const cgc_mem *m, unsigned d) {
  if (m->type->dtype == IR_u4) {   // pointers count bytes
    if (m->stride_value[d] < 2 || m->stride_value[d] % 2) return cgc_fail(e, &diag_cuda_op, "an index that moves by half a byte"), "0";
    return m->stride_value[d] == 2 ? x : cgc_text(e, "(%s) * %lldll", x, (long long)(m->stride_value[d] / 2));
  }
  return m->stride_value[d] == 1 ? x : cgc_text(e, "(%s) * %s", x, m->stride[d]);
}

static void add_divisor(access *a, int64_t d) {
  if (d > 1 << 20) d = 1 << 20;
  if (d < a->divisor) a->divisor = d;
}

// Scalar part of one dimension: shared by the block, or added by the thread.
static void add_thread(cgc_emit *e, access *a, unsigned d, const cgc_form *f, int k, const char **sum) {
  if (f->lane[k]) *sum = plus(e, *sum, scaled(e, f->lane[k], a->mem, d));
  if (f->warp[k]) *sum = plus(e, *sum, scaled(e, f->warp[k], a->mem, d));
  if (f->lane[k] || f->warp[k]) add_divisor(a, f->divisor[k] * a->mem->stride_divisor[d]);
}

static void add_steps(cgc_emit *e, access *a, unsigned d, const cgc_form *f, int k, const char **dynamic) {
  for (int r = 0; r < a->form->regs; r++) {
    int64_t step = f == a->form ? f->off[k][r] : 0;
    if (f != a->form) {
      int s = cgc_match(e, f, a->form, r, NULL);
      if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "an index lies in other threads than what it moves");
      step = f->off[k][s];
    }
    if (a->mem->stride_value[d]) a->offset[r] += step * a->mem->stride_value[d];
    else if (step) dynamic[r] = plus(e, dynamic[r], cgc_text(e, "%lldll * %s", (long long)step, a->mem->stride[d]));
  }
}

// index operands begin at `first`; `at` has one entry for each dimension.
static bool find_addresses(cgc_emit *e, const ir_op *op, uint32_t first, const ts_sym *at, const cgc_form *f, const cgc_mem *m, access *a) {
  *a = (access){.mem = m, .form = f, .divisor = 1 << 20};
  a->row = ts_new_array(e->arena, const char *, (size_t)f->regs);
  a->offset = ts_new_array(e->arena, int64_t, (size_t)f->regs);
  const char *sum = NULL, **dynamic = ts_new_array(e->arena, const char *, (size_t)f->regs);
  int64_t constant = 0;
  for (unsigned d = 0; d < m->type->rank && cgc_ok(e); d++) {
    const ir_value *index = op->operands[first + d];
    int64_t c;
    if (index->type->rank && index->producer && index->producer->code == IR_OP_iota && index->type->layout) {
      // A run of numbers adds like an axis: its base, then what threads and registers add.
      const cgc_form *g = cgc_form_of(e, index->type, index->type->dtype);
      if (!g) return false;
      index = index->producer->operands[0];
      add_thread(e, a, d, g, 0, &sum);
      add_steps(e, a, d, g, 0, dynamic);
    }
    if (index->type->rank) {
      cgc_tile *t = cgc_tile_of(e, index);
      for (int r = 0; t && r < f->regs && cgc_ok(e); r++) {
        int s = cgc_match(e, t->form, f, r, NULL);
        if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "an index lies in other threads than what it moves"), false;
        dynamic[r] = plus(e, dynamic[r], scaled(e, cgc_get(e, t, s), m, d));
      }
      add_divisor(a, m->stride_divisor[d]);
    } else if (cgc_constant(index, &c) && m->stride_value[d]) {
      constant += c * m->stride_value[d];
    } else {
      sum = plus(e, sum, scaled(e, cgc_scalar(e, index), m, d));
      add_divisor(a, cgc_divisor(e, index, 0) * m->stride_divisor[d]);
    }
    int k = cgc_axis(f, at[d]);
    if (k >= 0) {
      add_thread(e, a, d, f, k, &sum);
      add_steps(e, a, d, f, k, dynamic);
    }
  }
  if (!cgc_ok(e)) return false;
  a->pointer = cgc_name(e, "q");
  cgc_line(e, sum ? "auto *%s = %s + (%s);" : "auto *%s = %s;", a->pointer, m->base, sum);
  for (int r = 0; r < f->regs; r++) {
    a->offset[r] += constant;
    a->row[r] = a->pointer;
    for (int s = 0; s < r && dynamic[r]; s++)
      if (dynamic[s] && strcmp(dynamic[s], dynamic[r]) == 0) a->row[r] = a->row[s];
    if (!dynamic[r] || a->row[r] != a->pointer) continue;
    a->row[r] = cgc_name(e, "q");
    cgc_line(e, "auto *%s = %s + (%s);", a->row[r], a->pointer, dynamic[r]);
  }
  return true;
}

// How many registers from r on move in one access: at most 16 bytes, aligned, under one condition.
static int group(const access *a, int r, const char *const *mask, bool words_only) {
  const cgc_form *f = a->form;
  int bits = (int)ir_dtype_bits(f->dtype), most = 128 / bits;
  for (int w = most; w > 1; w /= 2) {
    if (w * bits < 32 || r + w > f->regs || a->divisor % w || a->offset[r] % w || (words_only && r % f->per)) continue;
    if (f->per == 1 && bits != 32) continue;
    bool run = true;
    for (int i = 1; i < w && run; i++)
      run = a->row[r + i] == a->row[r] && a->offset[r + i] == a->offset[r] + i && (!mask || mask[r + i] == mask[r] || strcmp(mask[r + i], mask[r]) == 0);
    if (run) return w;
  }
  return 1;
}

static const char **mask_of(cgc_emit *e, const ir_op *op, uint32_t operand, const cgc_form *f) {
  if (!ir_attr_int(op, "masked", 0)) return NULL;
  cgc_tile *t = cgc_tile_of(e, op->operands[operand]);
  const char **m = ts_new_array(e->arena, const char *, (size_t)f->regs);
  for (int r = 0; t && r < f->regs; r++) {
    int s = cgc_match(e, t->form, f, r, NULL);
    if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "the mask lies in other threads than what it guards"), NULL;
    m[r] = cgc_get(e, t, s);
  }
  return m;
}

static const char *place(cgc_emit *e, const access *a, int r) {
  int64_t o = a->mem->type->dtype == IR_u4 ? a->offset[r] / 2 : a->offset[r];
  return o ? cgc_text(e, "%s + %lld", a->row[r], (long long)o) : a->row[r];
}

static const char *const vector_type[5] = {NULL, "unsigned", "uint2", NULL, "uint4"};
static const char *component(cgc_emit *e, const char *q, int words, int i) { return words == 1 ? q : cgc_text(e, "%s.%c", q, "xyzw"[i]); }

static const char *from_word(cgc_emit *e, ir_dtype t, const char *w) {
  return t == IR_f32 ? cgc_text(e, "__uint_as_float(%s)", w) : t == IR_i32 ? cgc_text(e, "(int)%s", w) : w;
}

static const char *to_word(cgc_emit *e, ir_dtype t, const char *x) {
  return t == IR_f32 ? cgc_text(e, "__float_as_uint(%s)", x) : t == IR_i32 ? cgc_text(e, "(unsigned)%s", x) : x;
}

// ---- fetch with ldmatrix -------------------------------------------------------------------------------------------------
static void print_ldmatrix(cgc_emit *e, const ir_op *op, const cgc_form *f, const cgc_mem *m) {
  const ir_attr *at = ir_attr_find(op, "at");
  int row = -1, col = -1;
  unsigned row_dim = 0;
  for (unsigned d = 0; d < f->rank; d++) {
    const int32_t *t = f->thread[d];
    if (!t) continue;
    if (t[4] - t[0] == 1 && t[1] == t[0]) row = (int)d;
    if (t[1] - t[0] == 2 && t[4] == t[0]) col = (int)d;
  }
  if (row < 0 || col < 0 || f->per != 2 || f->words % 4) return cgc_fail(e, &diag_cuda_not_finished, "the result's layout is not one of 8x8 matrices, four at a time");
  // Offsets of the four matrices of an access, the same for all accesses, and a sum of two steps.
  int64_t step[4] = {0};
  const char *sum = NULL;
  int64_t constant = 0;
  int64_t *offset = ts_new_array(e->arena, int64_t, (size_t)f->words);
  for (unsigned d = 0; d < m->type->rank; d++) {
    const ir_value *index = op->operands[1 + d];
    int64_t c;
    if (!m->stride_value[d] || index->type->rank) return cgc_fail(e, &diag_cuda_op, "ldmatrix from rows by index");
    if (cgc_constant(index, &c)) constant += c * m->stride_value[d];
    else sum = plus(e, sum, scaled(e, cgc_scalar(e, index), m, d));
    int k = cgc_axis(f, at->axes.data[d]);
    if (k < 0) continue;
    if (k == row) row_dim = d;
    if (k == col && m->stride_value[d] != 1) return cgc_fail(e, &diag_cuda_not_finished, "ldmatrix across the panel's rows");
    if (f->warp[k]) sum = plus(e, sum, scaled(e, f->warp[k], m, d));
    for (int w = 0; w < f->words; w++) offset[w] += f->off[k][2 * w] * m->stride_value[d];
  }
  if (!cgc_ok(e)) return;
  for (int w = 0; w < f->words; w++) {
    int64_t o = offset[w] - offset[w / 4 * 4];
    if (w < 4) step[w] = o;
    else if (step[w % 4] != o) return cgc_fail(e, &diag_cuda_not_finished, "matrices at uneven distances");
  }
  if (step[3] != step[1] + step[2]) return cgc_fail(e, &diag_cuda_not_finished, "matrices at uneven distances");
  const char *mine = cgc_shared_expr(e, cgc_text(e, "lane %% 8 * %lld + lane / 8 %% 2 * %lld + lane / 16 * %lld", (long long)m->stride_value[row_dim],
                                                 (long long)step[1], (long long)step[2]));
  sum = plus(e, sum, mine);
  const char *p = cgc_name(e, "m");
  cgc_line(e, "const unsigned %s = t_address(%s + (%s));", p, m->base, sum);
  cgc_tile *t = cgc_new_tile(e, f);
  const char *name = cgc_name(e, "v");
  for (int w = 0; w < f->words; w += 4) {
    for (int i = 0; i < 4; i++) t->v[w + i] = cgc_text(e, "%s_%d", name, w + i);
    cgc_line(e, "unsigned %s, %s, %s, %s;", t->v[w], t->v[w + 1], t->v[w + 2], t->v[w + 3]);
    cgc_line(e, "t_ldmatrix4(%s, %s, %s, %s, %s + %lld);", t->v[w], t->v[w + 1], t->v[w + 2], t->v[w + 3], p, (long long)(2 * (offset[w] + constant)));
  }
  cgc_define(e, op->results[0], t);
}

// ---- load, fetch ---------------------------------------------------------------------------------------------------------
void cgc_load(cgc_emit *e, const ir_op *op) {
  const ir_attr *at = ir_attr_find(op, "at");
  const cgc_mem *m = mem_of(e, op->operands[0]);
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  const char *builtin;
  access a;
  if (!m || !f) return;
  if (cgc_builtin(e, op, &builtin)) return print_ldmatrix(e, op, f, m);
  if (!cgc_ok(e)) return;
  const char **mask = mask_of(e, op, op->operand_count - 1, f);
  if (!cgc_ok(e) || !find_addresses(e, op, 1, at->axes.data, f, m, &a)) return;
  double other = ir_attr_real(op, "other", 0);
  const char *instead = cgc_const_text(e, f->dtype, other, (int64_t)other);
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
  cgc_tile *t = cgc_new_tile(e, f);
  for (int r = 0; r < f->regs && cgc_ok(e);) {
    int w = other == 0 ? group(&a, r, mask, true) : 1;
    if (w == 1) {
      if (f->per == 8) return cgc_fail(e, &diag_cuda_not_finished, "4-bit codes that are not whole words of a thread");
      elements[r] = cgc_name(e, "l");
      const char *x = cgc_text(e, "*(%s)", place(e, &a, r));
      cgc_line(e, mask ? "%s %s = %s; if (%s) %s = %s;" : "const %s %s = %s;", cgc_ctype(e, f->dtype), elements[r], mask ? instead : x, mask ? mask[r] : "",
               elements[r], x);
      r++;
      continue;
    }
    int words = w * (int)ir_dtype_bits(f->dtype) / 32;
    const char *q = cgc_name(e, "q"), *type = vector_type[words];
    const char *x = cgc_text(e, "*(const %s *)(%s)", type, place(e, &a, r));
    if (mask) cgc_line(e, "%s %s = %s; if (%s) %s = %s;", type, q, words == 1 ? "0" : words == 2 ? "make_uint2(0, 0)" : "make_uint4(0, 0, 0, 0)", mask[r], q, x);
    else cgc_line(e, "const %s %s = %s;", type, q, x);
    for (int i = 0; i < words; i++) {
      const char *c = component(e, q, words, i);
      if (f->per > 1) t->v[r / f->per + i] = c;
      else elements[r + i] = from_word(e, f->dtype, c);
    }
    r += w;
  }
  for (int w = 0; w < f->words && cgc_ok(e); w++) {
    if (t->v[w]) continue;
    if (f->per == 1) {
      t->v[w] = elements[w];
      continue;
    }
    t->v[w] = cgc_name(e, "v");
    const char **x = elements + w * f->per;
    if (f->per == 2) cgc_line(e, "const unsigned %s = t_pack(%s, %s);", t->v[w], x[0], x[1]);
    else
      cgc_line(e, "const unsigned %s = (unsigned char)%s | (unsigned char)%s << 8 | (unsigned char)%s << 16 | (unsigned)(unsigned char)%s << 24;", t->v[w], x[0],
               x[1], x[2], x[3]);
  }
  cgc_define(e, op->results[0], t);
}

// ---- store, put ----------------------------------------------------------------------------------------------------------
// The tile with its elements rounded to another float type.
static cgc_tile *rounded(cgc_emit *e, const ir_value *v, cgc_tile *t, ir_dtype to) {
  if (t->form->dtype == to) return t;
  const cgc_form *f = cgc_form_of(e, v->type, to);
  if (!f) return NULL;
  cgc_tile *out = cgc_new_tile(e, f);
  if (f->per == 2 && t->form->dtype == IR_f32 && ir_is_float(to)) {
    for (int w = 0; w < f->words; w++) {
      out->v[w] = cgc_name(e, "v");
      cgc_line(e, "const unsigned %s = %s(%s, %s);", out->v[w], to == IR_f16 ? "t_f2h2" : "t_f2b2", cgc_get(e, t, 2 * w), cgc_get(e, t, 2 * w + 1));
    }
    return out;
  }
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
  for (int r = 0; r < f->regs; r++) elements[r] = cgc_convert(e, cgc_get(e, t, r), t->form->dtype, to);
  return cgc_declare(e, f, elements);
}

void cgc_store(cgc_emit *e, const ir_op *op) {
  const ir_attr *at = ir_attr_find(op, "at");
  const cgc_mem *m = mem_of(e, op->operands[0]);
  if (!m) return;
  const ir_value *value = op->operands[1 + m->type->rank];
  cgc_tile *t = cgc_tile_of(e, value);
  if (!t || !(t = rounded(e, value, t, m->type->dtype))) return;
  const cgc_form *f = t->form;
  for (uint32_t i = 0; i < at->axes.count; i++) {
    bool named = strcmp(at->axes.data[i], "_") != 0;
    if (named && cgc_axis(f, at->axes.data[i]) < 0) return cgc_fail(e, &diag_cuda_op, "a store that repeats a value along axis %s", at->axes.data[i]);
  }
  access a;
  const char **mask = mask_of(e, op, op->operand_count - 1, f);
  if (!cgc_ok(e) || !find_addresses(e, op, 1, at->axes.data, f, m, &a)) return;
  const char *owner = cgc_owner(e, f);
  for (int r = 0; r < f->regs && cgc_ok(e);) {
    int w = group(&a, r, mask, true), words = w * (int)ir_dtype_bits(f->dtype) / 32;
    const char *c = owner && mask ? cgc_text(e, "if (%s && %s) ", owner, mask[r]) : owner || mask ? cgc_text(e, "if (%s) ", owner ? owner : mask[r]) : "";
    if (w == 1) {
      cgc_line(e, "%s*(%s) = %s;", c, place(e, &a, r), cgc_get(e, t, r));
    } else {
      const char *x[4];
      for (int i = 0; i < words; i++) x[i] = f->per > 1 ? t->v[r / f->per + i] : to_word(e, f->dtype, t->v[r + i]);
      const char *v = words == 1 ? x[0] : words == 2 ? cgc_text(e, "make_uint2(%s, %s)", x[0], x[1]) : cgc_text(e, "make_uint4(%s, %s, %s, %s)", x[0], x[1], x[2], x[3]);
      cgc_line(e, "%s*(%s *)(%s) = %s;", c, vector_type[words], place(e, &a, r), v);
    }
    r += w;
  }
}

// ---- copy ----------------------------------------------------------------------------------------------------------------
// Rows by an index tile, whole rows of the panel: each register of the tile is a row of this thread; the lanes that hold the same
// rows share the row's pieces of 16 bytes.
void cgc_copy(cgc_emit *e, const ir_op *op) {
  const ir_attr *at = ir_attr_find(op, "at");
  const cgc_mem *src = mem_of(e, op->operands[0]);
  if (!src) return;
  uint32_t first = 1, second = 2 + src->type->rank;
  const cgc_mem *dst = mem_of(e, op->operands[second - 1]);
  if (!dst) return;
  if (!ir_attr_int(op, "async", 0) || ir_attr_int(op, "masked", 0)) return cgc_fail(e, &diag_cuda_op, "copies are asynchronous and without a mask");
  if (!e->target->cp_async) return cgc_fail(e, &diag_cuda_op, "%s has no asynchronous copies", e->target->name);
  unsigned sr = src->type->rank, dr = dst->type->rank;
  const ir_value *rows = NULL;
  for (unsigned d = 0; d < sr; d++)
    if (op->operands[first + d]->type->rank) rows = op->operands[first + d];
  const cgc_form *f = rows ? cgc_form_of(e, rows->type, rows->type->dtype) : NULL;
  int size = (int)ir_dtype_bits(dst->type->dtype) / 8;
  int64_t width = dst->type->shape[dr - 1]->value, pieces = width * size / 16;
  if (!f || f->rank != 1 || src->stride_value[sr - 1] != 1 || dst->stride_value[dr - 1] != 1 || pieces < 1 || pieces > 32 || width * size % 16 ||
      strcmp(at->axes.data[sr - 1], at->axes.data[sr + dr - 1]) != 0)
    return cgc_fail(e, &diag_cuda_op, "a copy that is not one of whole rows by index");
  for (unsigned l = 0; l < 32; l++)
    if (f->thread[0] && f->thread[0][l] != f->thread[0][l / pieces * pieces]) return cgc_fail(e, &diag_cuda_not_finished, "lanes that share a row do not lie together");
  access a, b;
  if (!find_addresses(e, op, first, at->axes.data, f, src, &a) || !find_addresses(e, op, second, at->axes.data + sr, f, dst, &b)) return;
  if ((a.divisor * size) % 16 || (b.divisor * size) % 16) return cgc_fail(e, &diag_cuda_not_finished, "rows that are not aligned to 16 bytes");
  const char *piece = cgc_shared_expr(e, cgc_text(e, "lane %% %lld * %d", (long long)pieces, 16 / size)), *to = cgc_name(e, "m");
  cgc_line(e, "const unsigned %s = t_address(%s + %s);", to, b.pointer, piece);
  for (int r = 0; r < f->regs; r++) {
    if (b.row[r] != b.pointer) return cgc_fail(e, &diag_cuda_op, "a copy to rows by index");
    cgc_line(e, "t_copy16(%s + %lld, %s + %s%s);", to, (long long)(b.offset[r] * size), a.row[r], piece,
             a.offset[r] ? cgc_text(e, " + %lld", (long long)a.offset[r]) : "");
  }
}
