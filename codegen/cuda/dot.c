// Sums: dot (matrix instructions, or element by element), reduce; and decode, which makes their operands.
#include "codegen/cuda/emit.h"

bool cgc_builtin(cgc_emit *e, const ir_op *op, const char **name) {
  *name = ir_attr_sym(op, "builtin");
  if (!*name) return false;
#define CGC_BUILTIN(text, code_, capability, doc)                                                                      \
  if (strcmp(*name, text) == 0) {                                                                                      \
    if (op->code != IR_OP_##code_) return cgc_fail(e, &diag_cuda_op, "builtin %s is for %s", text, #code_), false;     \
    if (!e->target->capability) return cgc_fail(e, &diag_cuda_op, "%s has no %s", e->target->name, text), false;       \
    return true;                                                                                                       \
  }
#include "codegen/cuda/builtins.def"
#undef CGC_BUILTIN
  cgc_fail(e, &diag_cuda_op, "no builtin %s", *name);
  return false;
}

// ---- matrix products -----------------------------------------------------------------------------------------------------
// Do lanes hold axis x as `lane / 4`, and axis y as `2 * (lane % 4)`?
static bool fragment_lanes(const cgc_form *f, int x, int y) {
  if (x < 0 || y < 0 || !f->thread[x] || !f->thread[y]) return false;
  for (int l = 0; l < 32; l++)
    if (f->thread[x][l] - f->thread[x][0] != l / 4 || f->thread[y][l] - f->thread[y][0] != 2 * (l % 4)) return false;
  return true;
}

typedef struct mma {
  cgc_emit *e;
  cgc_tile *a, *b;
  int am, ak, bn, bk, cm, cn;      // axes
  int k;                           // 16 or 8
} mma;

// First register of the fragment of `f` with these offsets on axes x and y.
static int fragment_at(const cgc_form *f, int each, int x, int32_t at_x, int y, int32_t at_y) {
  for (int r = 0; r < f->regs; r += each)
    if (f->off[x][r] == at_x && f->off[y][r] == at_y) return r;
  return -1;
}

static bool fragment_steps(const cgc_form *f, int each, int x, const int32_t *dx, int y, const int32_t *dy) {
  for (int r = 0; r < f->regs; r++)
    if (f->off[x][r] - f->off[x][r / each * each] != dx[r % each] || f->off[y][r] - f->off[y][r / each * each] != dy[r % each]) return false;
  return f->regs % each == 0;
}

// Axes apart from m, n and k (warps that share the sum) must be held alike by all three.
static bool batch_alike(const cgc_emit *e, const cgc_form *a, const cgc_form *c, ts_sym x, ts_sym y) {
  for (unsigned d = 0; d < a->rank; d++) {
    if (a->axis[d] == x || a->axis[d] == y) continue;
    int k = cgc_axis(c, a->axis[d]);
    if (k < 0) return false;
    for (int r = 0; r < a->regs; r++)
      if (a->off[d][r]) return false;
    for (unsigned t = 0; t < 32 * e->warps; t++)
      if ((a->thread[d] ? a->thread[d][t] : 0) != (c->thread[k] ? c->thread[k][t] : 0)) return false;
  }
  return true;
}

static bool same_warps(const cgc_emit *e, const cgc_form *a, int x, const cgc_form *c, int y) {
  for (unsigned w = 0; w < e->warps; w++)
    if (a->thread[x][32 * w] != c->thread[y][32 * w]) return false;
  return true;
}

static bool mma_fits(const mma *p, const cgc_form *c) {
  static const int32_t row[8] = {0, 0, 8, 8, 0, 0, 8, 8}, col[8] = {0, 1, 0, 1, 8, 9, 8, 9}, none[8] = {0}, pair[4] = {0, 1, 8, 9};
  const cgc_form *a = p->a->form, *b = p->b->form;
  int na = p->k / 2, nb = p->k / 4;
  return fragment_lanes(c, p->cm, p->cn) && fragment_lanes(a, p->am, p->ak) && fragment_lanes(b, p->bn, p->bk) && a->per == 2 && b->per == 2 &&
         fragment_steps(c, 4, p->cm, row, p->cn, col) && fragment_steps(a, na, p->am, row, p->ak, col) && fragment_steps(b, nb, p->bn, none, p->bk, pair) &&
         batch_alike(p->e, a, c, a->axis[p->am], a->axis[p->ak]) && batch_alike(p->e, b, c, b->axis[p->bn], b->axis[p->bk]) &&
         same_warps(p->e, a, p->am, c, p->cm) && same_warps(p->e, b, p->bn, c, p->cn) && same_warps(p->e, a, p->ak, b, p->bk);
}

static void print_mma(cgc_emit *e, const ir_op *op, int k) {
  const ir_attr *over = ir_attr_find(op, "over");
  mma p = {.e = e, .a = cgc_tile_of(e, op->operands[0]), .b = cgc_tile_of(e, op->operands[1]), .k = k};
  cgc_tile *c = op->operand_count == 3 ? cgc_tile_of(e, op->operands[2]) : NULL;
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  if (!p.a || !p.b || !f || !c) return cgc_fail(e, &diag_cuda_not_finished, "a matrix product without an accumulator");
  const cgc_form *a = p.a->form, *b = p.b->form;
  p.ak = cgc_axis(a, over->axes.data[0]), p.bk = cgc_axis(b, over->axes.data[0]);
  p.am = p.bn = -1;
  for (unsigned d = 0; d < a->rank; d++)
    if (cgc_axis(b, a->axis[d]) < 0) p.am = (int)d;
  for (unsigned d = 0; d < b->rank; d++)
    if (cgc_axis(a, b->axis[d]) < 0) p.bn = (int)d;
  if (over->axes.count != 1 || p.am < 0 || p.bn < 0 || c->form != f || f->dtype != IR_f32 || a->dtype != b->dtype)
    return cgc_fail(e, &diag_cuda_not_finished, "operands of a matrix product");
  p.cm = cgc_axis(f, a->axis[p.am]), p.cn = cgc_axis(f, b->axis[p.bn]);
  if (!mma_fits(&p, f)) return cgc_fail(e, &diag_cuda_not_finished, "the layouts are not those of fragments m16n8k%d", k);
  bool bf16 = a->dtype == IR_bf16;
  if (!bf16 && a->dtype != IR_f16) return cgc_fail(e, &diag_cuda_type, "matrix products of %s", ir_dtype_name(a->dtype));
  if (bf16 && (!e->target->bf16 || k != 16)) return cgc_fail(e, &diag_cuda_type, "%s multiplies no bf16", e->target->name);
  cgc_tile *t = cgc_new_tile(e, f);
  const char *name = cgc_name(e, "a");
  for (int r = 0; r < f->regs; r++) {
    t->v[r] = cgc_text(e, "%s_%d", name, r);
    cgc_line(e, "float %s = %s;", t->v[r], c->v[r]);
  }
  for (int64_t k0 = 0; k0 < a->extent[p.ak] && cgc_ok(e); k0 += k)
    for (int r = 0; r < f->regs; r += 4) {
      int x = fragment_at(a, k / 2, p.am, f->off[p.cm][r], p.ak, (int32_t)k0), y = fragment_at(b, k / 4, p.bn, f->off[p.cn][r], p.bk, (int32_t)k0);
      if (x < 0 || y < 0) return cgc_fail(e, &diag_cuda_not_finished, "a fragment of a matrix product is in another warp");
      const char **u = p.a->v + x / 2, **w = p.b->v + y / 2;
      const char *acc = cgc_text(e, "%s, %s, %s, %s", t->v[r], t->v[r + 1], t->v[r + 2], t->v[r + 3]);
      if (k == 16) cgc_line(e, "t_mma16_%s(%s, %s, %s, %s, %s, %s, %s);", bf16 ? "bf16" : "f16", acc, u[0], u[1], u[2], u[3], w[0], w[1]);
      else cgc_line(e, "t_mma8_f16(%s, %s, %s, %s);", acc, u[0], u[1], w[0]);
    }
  cgc_define(e, op->results[0], t);
}

// ---- element by element --------------------------------------------------------------------------------------------------
// Calls `fold` for every index of the axes `over` of the operand forms, in row-major order.
static bool next_index(int32_t *i, const int64_t *extent, unsigned n) {
  while (n-- > 0) {
    if (++i[n] < extent[n]) return true;
    i[n] = 0;
  }
  return false;
}

static void print_products(cgc_emit *e, const ir_op *op) {
  const ir_attr *over = ir_attr_find(op, "over");
  cgc_tile *in[3] = {cgc_tile_of(e, op->operands[0]), cgc_tile_of(e, op->operands[1]), op->operand_count == 3 ? cgc_tile_of(e, op->operands[2]) : NULL};
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  if (!in[0] || !in[1] || !f || (op->operand_count == 3 && !in[2])) return;
  int64_t extent[CGC_RANK];
  for (uint32_t i = 0; i < over->axes.count; i++) {
    int d = cgc_axis(in[0]->form, over->axes.data[i]);
    if (d < 0 || cgc_axis(in[1]->form, over->axes.data[i]) < 0) return cgc_fail(e, &diag_cuda_op, "a sum over an axis that one operand lacks");
    extent[i] = in[0]->form->extent[d];
  }
  bool fl = ir_is_float(f->dtype);
  if (f->dtype == IR_f16 || f->dtype == IR_bf16) return cgc_fail(e, &diag_cuda_type, "sums in %s", ir_dtype_name(f->dtype));
  cgc_tile *t = cgc_new_tile(e, f);
  const char *name = cgc_name(e, "a");
  for (int r = 0; r < f->regs && cgc_ok(e); r++) {
    t->v[r] = cgc_text(e, "%s_%d", name, r);
    int s = in[2] ? cgc_match(e, in[2]->form, f, r, NULL) : 0;
    if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "the accumulator lies in other threads than the result");
    cgc_line(e, "%s %s = %s;", cgc_ctype(e, f->dtype), t->v[r], in[2] ? cgc_get(e, in[2], s) : cgc_const_text(e, f->dtype, 0, 0));
  }
  int32_t index[CGC_RANK] = {0};
  do {
    for (int r = 0; r < f->regs && cgc_ok(e); r++) {
      const char *x[2];
      for (int o = 0; o < 2; o++) {
        int32_t extra[CGC_RANK] = {0};
        for (uint32_t i = 0; i < over->axes.count; i++) extra[cgc_axis(in[o]->form, over->axes.data[i])] = index[i];
        int s = cgc_match(e, in[o]->form, f, r, extra);
        if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "operand %d lies in other threads than the result", o);
        x[o] = cgc_convert(e, cgc_get(e, in[o], s), in[o]->form->dtype, f->dtype);
      }
      if (fl) cgc_line(e, f->dtype == IR_f64 ? "%s = fma(%s, %s, %s);" : "%s = fmaf(%s, %s, %s);", t->v[r], x[0], x[1], t->v[r]);
      else cgc_line(e, "%s += %s * %s;", t->v[r], x[0], x[1]);
    }
  } while (cgc_ok(e) && next_index(index, extent, over->axes.count));
  cgc_define(e, op->results[0], t);
}

void cgc_dot(cgc_emit *e, const ir_op *op) {
  const char *name;
  if (cgc_builtin(e, op, &name)) print_mma(e, op, strstr(name, "k16") ? 16 : 8);
  else if (cgc_ok(e)) print_products(e, op);
}

// ---- reduce --------------------------------------------------------------------------------------------------------------
void cgc_reduce(cgc_emit *e, const ir_op *op) {
  const ir_attr *over = ir_attr_find(op, "over");
  ts_sym kind = ir_attr_sym(op, "op");
  cgc_tile *in = cgc_tile_of(e, op->operands[0]);
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  if (!in || !f) return;
  int fold = ir_scalar_of_name(ts_str_of(kind));
  if (op->operand_count != 1 || fold < 0) return cgc_fail(e, &diag_cuda_op, "reduction %s", kind);
  const cgc_form *from = in->form;
  bool gone[CGC_RANK] = {false};
  for (uint32_t i = 0; i < over->axes.count; i++) gone[cgc_axis(from, over->axes.data[i])] = true;
  for (unsigned d = 0; d < from->rank; d++)
    for (unsigned w = 1; w < e->warps && gone[d] && from->thread[d]; w++)
      if (from->thread[d][32 * w] != from->thread[d][0]) return cgc_fail(e, &diag_cuda_op, "a reduction over warps: it goes through a panel");
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
  for (int r = 0; r < f->regs && cgc_ok(e); r++) {
    const char *sum = NULL;
    for (int s = 0; s < from->regs; s++) {
      bool mine = true;
      for (unsigned d = 0; d < from->rank && mine; d++) {
        int k = cgc_axis(f, from->axis[d]);
        if (gone[d]) continue;
        if (k < 0) return cgc_fail(e, &diag_cuda_not_finished, "the result lacks axis %s", from->axis[d]);
        mine = from->off[d][s] == f->off[k][r];
        for (unsigned t = 0; t < 32 * e->warps; t++)
          if ((from->thread[d] ? from->thread[d][t] : 0) != (f->thread[k] ? f->thread[k][t] : 0))
            return cgc_fail(e, &diag_cuda_not_finished, "operand and result lie in other threads along %s", from->axis[d]);
      }
      if (!mine) continue;
      const char *x = cgc_get(e, in, s);
      if (sum) {
        const char *n = cgc_name(e, "r");
        cgc_line(e, "const %s %s = %s;", cgc_ctype(e, f->dtype), n, cgc_binary(e, (ir_scalar)fold, f->dtype, sum, x));
        x = n;
      }
      sum = x;
    }
    if (!sum) return cgc_fail(e, &diag_cuda_not_finished, "an element without operands");
    for (unsigned bit = 16; bit; bit /= 2) {
      bool across = false;
      for (unsigned d = 0; d < from->rank; d++)
        for (unsigned l = 0; l < 32 && gone[d] && from->thread[d]; l++) across |= from->thread[d][l] != from->thread[d][l ^ bit];
      if (!across) continue;
      if (ir_dtype_bits(f->dtype) < 32 && f->dtype != IR_i1) return cgc_fail(e, &diag_cuda_type, "sums of %s between lanes", ir_dtype_name(f->dtype));
      const char *o = cgc_name(e, "x"), *n = cgc_name(e, "r"), *type = cgc_ctype(e, f->dtype);
      cgc_line(e, "const %s %s = (%s)__shfl_xor_sync(0xffffffffu, %s%s, %u);", type, o, type, f->dtype == IR_i1 ? "(int)" : "", sum, bit);
      cgc_line(e, "const %s %s = %s;", type, n, cgc_binary(e, (ir_scalar)fold, f->dtype, sum, o));
      sum = n;
    }
    elements[r] = sum;
  }
  if (cgc_ok(e)) cgc_define(e, op->results[0], cgc_declare(e, f, elements));
}

// ---- decode --------------------------------------------------------------------------------------------------------------
// One pair of f16 values from codes r0, r1 of `codes`, exact integers; NULL when they do not lie as the fast forms want.
static const char *code_pair(cgc_emit *e, const cgc_tile *codes, int r0, int r1) {
  const cgc_form *f = codes->form;
  if (f->per == 1 || r0 / f->per != r1 / f->per) return NULL;
  const char *w = codes->v[r0 / f->per];
  int i = r0 % f->per, j = r1 % f->per;
  if (f->dtype == IR_u8) return cgc_text(e, "t_hsub2(__byte_perm(%s, 0x64646464u, 0x4%d4%d), 0x64006400u)", w, j, i);
  if (f->dtype != IR_u4 || j != i + 4) return NULL;
  if (i >= 2) {
    const char *key = cgc_text(e, "%s>>8@%p", w, (const void *)e->op);   // once for the two pairs of the upper half
    uint64_t h = ts_hash_bytes(key, strlen(key), 2);
    const char *s = ts_map_get(&e->exprs, h);
    if (!s) {
      s = cgc_name(e, "w");
      cgc_line(e, "const unsigned %s = %s >> 8;", s, w);
      ts_map_put(&e->exprs, h, (void *)(uintptr_t)s);
    }
    w = s;
  }
  return i % 2 == 0 ? cgc_text(e, "t_hsub2(t_field<0x000f000fu, 0x64006400u>(%s), 0x64006400u)", w)
                    : cgc_text(e, "t_hfma2(t_field<0x00f000f0u, 0x64006400u>(%s), 0x2c002c00u, 0xd400d400u)", w);   // / 16 - 64
}

// Pairs {x, x} of the elements of a tile, each declared once.
static const char *twice(cgc_emit *e, const cgc_tile *t, int r, const char **known) {
  if (!known[r]) {
    const char *n = cgc_name(e, "p");
    if (t->form->per == 2) cgc_line(e, "const unsigned %s = __byte_perm(%s, 0, 0x%s);", n, t->v[r / 2], r % 2 ? "3232" : "1010");
    else cgc_line(e, "const unsigned %s = t_pack(%s, %s);", n, t->v[r], t->v[r]);
    known[r] = n;
  }
  return known[r];
}

void cgc_decode(cgc_emit *e, const ir_op *op) {
  ts_sym formula = ir_attr_sym(op, "formula");
  bool scaled = strcmp(formula, "plain") != 0, offset = strcmp(formula, "min") == 0;
  if (scaled && !offset && strcmp(formula, "scaled") != 0) return cgc_fail(e, &diag_cuda_op, "formula %s", formula);
  cgc_tile *in[3] = {NULL, NULL, NULL};
  for (uint32_t i = 0; i < op->operand_count && i < 3; i++)
    if (!(in[i] = cgc_tile_of(e, op->operands[i]))) return;
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  if (!f) return;
  if (f->per != 2 || (f->dtype != IR_f16 && f->dtype != IR_bf16)) return cgc_fail(e, &diag_cuda_type, "codes decode to pairs of 16-bit floats here");
  const char ***known = ts_new_array(e->arena, const char **, 3);
  for (int i = 1; i < 3; i++) known[i] = ts_new_array(e->arena, const char *, in[i] ? (size_t)in[i]->form->regs : 1);
  cgc_tile *t = cgc_new_tile(e, f);
  for (int w = 0; w < f->words && cgc_ok(e); w++) {
    int s[3][2];
    for (int i = 0; i < 3; i++)
      for (int h = 0; h < 2 && in[i]; h++)
        if ((s[i][h] = cgc_match(e, in[i]->form, f, 2 * w + h, NULL)) < 0) return cgc_fail(e, &diag_cuda_not_finished, "operand %d lies in other threads", i);
    const char *pair = f->dtype == IR_f16 ? code_pair(e, in[0], s[0][0], s[0][1]) : NULL;
    bool shared = (!in[1] || (s[1][0] == s[1][1] && in[1]->form->dtype == IR_f16)) && (!in[2] || (s[2][0] == s[2][1] && in[2]->form->dtype == IR_f16));
    t->v[w] = cgc_name(e, "v");
    if (pair && shared) {
      const char *p = scaled ? twice(e, in[1], s[1][0], known[1]) : NULL, *q = offset ? twice(e, in[2], s[2][0], known[2]) : NULL;
      if (offset) pair = cgc_text(e, "t_hfma2(%s, %s, %s)", pair, p, q);
      else if (scaled) pair = cgc_text(e, "t_hmul2(%s, %s)", pair, p);
      cgc_line(e, "const unsigned %s = %s;", t->v[w], pair);
      continue;
    }
    const char *x[2];
    for (int h = 0; h < 2; h++) {
      x[h] = cgc_text(e, "(float)%s", cgc_get(e, in[0], s[0][h]));
      if (scaled) {
        const char *m = cgc_convert(e, cgc_get(e, in[1], s[1][h]), in[1]->form->dtype, IR_f32);
        x[h] = offset ? cgc_text(e, "fmaf(%s, %s, %s)", x[h], m, cgc_convert(e, cgc_get(e, in[2], s[2][h]), in[2]->form->dtype, IR_f32))
                      : cgc_text(e, "%s * %s", x[h], m);
      }
    }
    cgc_line(e, "const unsigned %s = %s(%s, %s);", t->v[w], f->dtype == IR_f16 ? "t_f2h2" : "t_f2b2", x[0], x[1]);
  }
  cgc_define(e, op->results[0], t);
}
