// CUDA schedules of family `contract`: products of fragments through tensor cores.
//
// A block computes BM x BN results. Its warps stand WM x WN over them, and for few rows KS deep over k (their partial sums meet in a
// panel at the end). Each step takes 32 elements of k for each of the KS:
//   x        plain 16-bit rows go into panels by asynchronous copies, several steps ahead. Anything else (a prologue, other types,
//            sums over rows) is computed in registers one step ahead, rounded to 16 bits and put into the other of two panels.
//   weights  codes come from memory straight into fragments, one step ahead, and are decoded beside the products; 16-bit values go
//            through panels like x.
// Rows of panels are 8 elements longer than their data, so that the eight rows of a matrix lie in different banks.
// The loop over k is unrolled by the number of panels: every address in it is a pointer and an immediate; the last steps are peeled.
// The finish region runs over slices of rows of the results, read back from a panel in a layout made for it.
#include "passes/cuda_internal.h"

enum { MAX_DOTS = 4, MAX_SUMS = 2, MAX_BUFFERS = 4, PAD = 8 };

typedef struct contract {
  pass_contract_form f;
  cuda_weight *weights[MAX_DOTS];
} contract;

typedef struct tiling {
  int64_t BM, BN, KS, WM, WN;
  unsigned buffers;
  bool async_x, async_w;
  ir_dtype compute;
} tiling;

typedef struct staging {     // the state of one part's main loop
  cuda_schedule *s;
  const contract *c;
  const tiling *g;
  ir_value *row0, *n0;
  ir_value *x[MAX_BUFFERS], *w[MAX_DOTS][MAX_BUFFERS];   // panels
  ir_value *x_rows, *w_rows;                              // index tiles of copies
  cuda_placement stage_x, stage_w, codes, frag_a, frag_b, frag_c;
  const ir_type *a_type, *b_type, *c_type, *sum_type;
  int64_t chunks, steps;
  // carried
  ir_value *acc[MAX_DOTS], *sum[MAX_SUMS], *code[MAX_DOTS], *scale[MAX_DOTS], *offset[MAX_DOTS];
} staging;

static ts_status refuse(cuda_schedule *s, const ir_op *op, const char *rule) {
  return CUDA_REFUSE(s, op ? op->loc : s->from->loc, "rule %s: no CUDA schedule for this product", rule);
}

static ts_status analyse(cuda_schedule *s, const ir_part *part, contract *c) {
  *c = (contract){0};
  TS_TRY(pass_read_contract(s->m, s->from, part, &c->f));
  if (c->f.products > MAX_DOTS || c->f.sums > MAX_SUMS) return refuse(s, c->f.product[0].op, "too-many-products");
  if (c->f.block) return refuse(s, c->f.product[0].op, "quantized-activations");
  for (unsigned i = 0; i < c->f.products; i++) {
    const ir_type *w = s->from->params.data[c->f.product[i].param].value->type;
    if (!ir_size_is_const(w->shape[0]) || !ir_size_is_const(w->shape[1])) return refuse(s, c->f.product[i].op, "product-of-unpacked");
  }
  return TS_OK;
}

// Is x a plain load of 16-bit rows, whole steps long?
static bool plain_rows(const cuda_schedule *s, const contract *c, ir_dtype *type) {
  const ir_op *op = c->f.input->producer;
  uint32_t param;
  int64_t zero;
  if (!op || op->code != IR_OP_load || c->f.sums || !pass_param_index(s->from, op->operands[0], &param)) return false;
  const ir_type *t = op->operands[0]->type;
  const ir_attr *at = ir_attr_find(op, "at");
  *type = t->dtype;
  return !t->encoding && t->rank == 2 && at->axes.data[0] == c->f.m && at->axes.data[1] == c->f.k && !ir_attr_int(op, "masked", 0) &&
         pass_int_value(op->operands[1], &zero) && zero == 0 && pass_int_value(op->operands[2], &zero) && zero == 0 && c->f.K % CUDA_CHUNK == 0;
}

// ---- staging -------------------------------------------------------------------------------------------------------------
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t step_width(const tiling *g) { return g->KS * CUDA_CHUNK; }

// Rows of `width` elements: 8 side by side in a lane's registers, then lanes, then rows over lanes, warps and registers.
static void place_rows(cuda_placement *p, ts_sym row, int64_t rows, ts_sym col, int64_t width, int64_t warps) {
  int64_t lanes = least(32, width / 8), row_lanes = least(32 / lanes, rows), row_warps = least(warps, rows / row_lanes);
  cuda_put_digit(p, col, CUDA_REG, 0, 8);
  cuda_put_digit(p, col, CUDA_LANE, 1, lanes);
  cuda_put_digit(p, col, CUDA_REG, 0, width / 8 / lanes);
  cuda_put_digit(p, row, CUDA_LANE, lanes, row_lanes);
  cuda_put_digit(p, row, CUDA_WARP, 1, row_warps);
  cuda_put_digit(p, row, CUDA_REG, 0, rows / row_lanes / row_warps);
}

static ts_status fragments(staging *p) {
  cuda_schedule *s = p->s;
  const tiling *g = p->g;
  bool coded = p->c->weights[0]->codes;
  int64_t kk_size = coded ? 32 : 16, sn = g->WM, sk = g->WM * g->WN;
  ts_sym ks = ir_name(s->m, "ks"), kk = ir_name(s->m, "kk"), m = p->c->f.m, n = p->c->f.n;
  cuda_placement *a = &p->frag_a, *b = &p->frag_b, *c = &p->frag_c;
  cuda_placement *both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    cuda_put_digit(both[i], kk, CUDA_REG, 1, 2);
    cuda_put_digit(both[i], kk, CUDA_LANE, 1, 4);
    cuda_put_digit(both[i], kk, CUDA_REG, 3, 2);
    cuda_put_digit(both[i], kk, CUDA_REG, i ? 3 : 0, kk_size / 16);
    cuda_put_digit(both[i], ks, CUDA_WARP, sk, g->KS);
  }
  cuda_put_digit(c, ks, CUDA_WARP, sk, g->KS);
  cuda_placement *rows[2] = {a, c};
  for (int i = 0; i < 2; i++) {
    cuda_put_digit(rows[i], m, CUDA_LANE, 4, 8);
    cuda_put_digit(rows[i], m, CUDA_REG, 2, 2);
    cuda_put_digit(rows[i], m, CUDA_REG, 0, g->BM / g->WM / 16);
    cuda_put_digit(rows[i], m, CUDA_WARP, 1, g->WM);
  }
  cuda_put_digit(b, n, CUDA_LANE, 4, 8);
  cuda_put_digit(b, n, CUDA_REG, 0, g->BN / g->WN / 8);
  cuda_put_digit(b, n, CUDA_WARP, sn, g->WN);
  cuda_put_digit(c, n, CUDA_REG, 1, 2);
  cuda_put_digit(c, n, CUDA_LANE, 1, 4);
  cuda_put_digit(c, n, CUDA_REG, 0, g->BN / g->WN / 8);
  cuda_put_digit(c, n, CUDA_WARP, sn, g->WN);
  bool deep = g->KS > 1;
  TS_TRY(cuda_tile(s, a, g->compute, 2 + deep, (ts_sym[]){deep ? ks : m, deep ? m : kk, kk}, (int64_t[]){deep ? g->KS : g->BM, deep ? g->BM : kk_size, kk_size}, &p->a_type));
  TS_TRY(cuda_tile(s, b, g->compute, 2 + deep, (ts_sym[]){deep ? ks : n, deep ? n : kk, kk}, (int64_t[]){deep ? g->KS : g->BN, deep ? g->BN : kk_size, kk_size}, &p->b_type));
  return cuda_tile(s, c, IR_f32, 2 + deep, (ts_sym[]){deep ? ks : m, deep ? m : n, n}, (int64_t[]){deep ? g->KS : g->BM, deep ? g->BM : g->BN, g->BN}, &p->c_type);
}

static ts_status start(staging *p) {
  cuda_schedule *s = p->s;
  const tiling *g = p->g;
  const contract *c = p->c;
  int64_t width = step_width(g), warps = s->kernel->warps;
  p->chunks = (c->f.K + CUDA_CHUNK - 1) / CUDA_CHUNK;
  p->steps = (p->chunks + g->KS - 1) / g->KS;
  TS_TRY(fragments(p));
  place_rows(&p->stage_x, c->f.m, g->BM, c->f.k, width, warps);
  place_rows(&p->stage_w, c->f.n, g->BN, ir_name(s->m, "kk"), CUDA_CHUNK, warps);
  TS_TRY(cuda_tile(s, &p->stage_x, IR_f32, 2, (ts_sym[]){c->f.m, c->f.k}, (int64_t[]){g->BM, width}, &p->sum_type));
  const int64_t deep_shape[3] = {g->KS, g->BM, CUDA_CHUNK}, deep_stride[3] = {CUDA_CHUNK, width + PAD, 1};
  const int64_t w_shape[2] = {g->BN, CUDA_CHUNK}, w_stride[2] = {CUDA_CHUNK + PAD, 1};
  bool deep = g->KS > 1;
  for (unsigned i = 0; i < g->buffers; i++) {
    p->x[i] = cuda_alloc(s, g->compute, 2 + deep, deep ? deep_shape : deep_shape + 1, deep ? deep_stride : deep_stride + 1);
    for (unsigned k = 0; k < c->f.products; k++)
      if (!c->weights[k]->codes) p->w[k][i] = cuda_alloc(s, g->compute, 2, w_shape, w_stride);
  }
  for (unsigned i = 0; i < c->f.products; i++) p->acc[i] = pass_zero(&s->t.b, p->c_type);
  for (unsigned i = 0; i < c->f.sums; i++) p->sum[i] = pass_zero(&s->t.b, p->sum_type);
  // Rows of copies: four lanes share one.
  ir_builder *b = &s->t.b;
  ir_value **index[2] = {&p->x_rows, &p->w_rows}, *base[2] = {p->row0, p->n0};
  ts_sym name[2] = {c->f.m, c->f.n};
  int64_t extent[2] = {g->BM, g->BN};
  for (int i = 0; i < 2; i++) {
    if (!(i ? g->async_w : g->async_x)) continue;
    cuda_placement rows = {0};
    cuda_put_digit(&rows, name[i], CUDA_LANE, 4, 8);
    cuda_put_digit(&rows, name[i], CUDA_WARP, 1, least(warps, extent[i] / 8));
    cuda_put_digit(&rows, name[i], CUDA_REG, 0, extent[i] / 8 / least(warps, extent[i] / 8));
    const ir_type *t;
    TS_TRY(cuda_tile(s, &rows, IR_i64, 1, &name[i], &extent[i], &t));
    ir_value *v = ir_build(b, IR_OP_iota, 1, &base[i], 1, &t)->results[0];
    if (i == 0)   // rows past the end repeat the last one; their results are not stored
      v = ir_apply_op(b, IR_SCALAR_min, v, pass_add(b, ir_size_value(b, pass_axis_size(c->f.part, c->f.m)), pass_int(b, -1)), NULL);
    *index[i] = v;
    TS_TRY(cuda_place(s, &rows));
  }
  return TS_OK;
}

static void copy_rows(cuda_schedule *s, ir_value *mem, ir_value *rows, ir_value *k0, ir_value *panel) {
  ir_builder *b = &s->t.b;
  ir_value *zero = pass_int(b, 0), *operands[6] = {mem, rows, k0, panel, zero, zero};
  ts_sym kk = ir_name(s->m, "kk"), at[4] = {s->m->none, kk, rows->type->axes[0], kk};
  ir_op *op = ir_build(b, IR_OP_copy, 6, operands, 0, NULL);
  ir_set_axes(b, op, "at", 4, at);
  ir_set_int(b, op, "async", 1);
}

static void simple(cuda_schedule *s, ir_opcode code, const char *attr, int64_t v) {
  ir_op *op = ir_build(&s->t.b, code, 0, NULL, 0, NULL);
  if (attr) ir_set_int(&s->t.b, op, attr, v);
}

// Starts the copies of the step at `chunk` into buffer `to`.
static void copy_step(staging *p, ir_value *chunk, unsigned to) {
  cuda_schedule *s = p->s;
  uint32_t param;
  ir_value *k0 = pass_mul_const(&s->t.b, chunk, CUDA_CHUNK);
  if (p->g->async_x) {
    pass_param_index(s->from, p->c->f.input->producer->operands[0], &param);
    copy_rows(s, s->t.params[param], p->x_rows, k0, p->x[to]);
  }
  for (unsigned i = 0; i < p->c->f.products; i++)
    if (p->g->async_w && !p->c->weights[i]->codes) copy_rows(s, p->c->weights[i]->mem, p->w_rows, k0, p->w[i][to]);
}

typedef struct loaded {      // a step on its way to panels
  ir_value *x, *w[MAX_DOTS];
} loaded;

// Loads a step into registers; adds to the row sums.
static ts_status load_step(staging *p, ir_value *chunk, bool tail, loaded *out) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  const contract *c = p->c;
  ir_value *k0 = pass_mul_const(b, chunk, CUDA_CHUNK);
  *out = (loaded){0};
  if (!p->g->async_x) {
    pass_translator_reset(&s->t);
    pass_set_box(&s->t, (pass_box){.axis = c->f.m, .base = p->row0, .extent = p->g->BM, .size = pass_axis_size(c->f.part, c->f.m), .row = true, .tail = true});
    pass_set_box(&s->t, (pass_box){.axis = c->f.k, .base = k0, .extent = step_width(p->g), .size = ir_size_const(s->m->sizes, c->f.K), .row = true, .tail = tail});
    ir_value *x;
    TS_TRY(pass_translate_value(&s->t, c->f.input, &x));
    for (unsigned i = 0; i < c->f.sums; i++) {
      ir_value *term;
      TS_TRY(pass_translate_value(&s->t, c->f.sum[i].term, &term));
      p->sum[i] = ir_apply_op(b, IR_SCALAR_add, p->sum[i], ir_cast(b, term, IR_f32), NULL);
    }
    out->x = ir_cast(b, x, p->g->compute);
    TS_TRY(cuda_place(s, &p->stage_x));
  }
  for (unsigned i = 0; i < c->f.products; i++) {
    cuda_weight *w = c->weights[i];
    if (w->codes || p->g->async_w) continue;
    ts_sym at[2] = {c->f.n, ir_name(s->m, "kk")};
    const ir_type *t;
    TS_TRY(cuda_tile(s, &p->stage_w, p->g->compute, 2, at, (int64_t[]){p->g->BN, CUDA_CHUNK}, &t));
    out->w[i] = ir_load(b, w->mem, (ir_value *[]){p->n0, k0}, at, NULL, t);
  }
  return TS_OK;
}

static ts_status put_step(staging *p, const loaded *l, unsigned to) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  const contract *c = p->c;
  ir_value *zero = pass_int(b, 0), *index[3] = {zero, zero, zero};
  ts_sym ks = ir_name(s->m, "ks"), kk = ir_name(s->m, "kk");
  if (l->x && p->g->KS > 1) {
    const ir_size *shape[3] = {l->x->type->shape[ir_type_axis(l->x->type, c->f.m)], ir_size_const(s->m->sizes, p->g->KS), ir_size_const(s->m->sizes, CUDA_CHUNK)};
    ts_sym to_axes[2] = {ks, kk}, axes[3] = {c->f.m, ks, kk};
    ir_value *x = pass_relabel(&s->t.b, "split", l->x, c->f.k, 2, to_axes, ir_tile_type(s->m, p->g->compute, 3, axes, shape));
    TS_TRY(cuda_place(s, &p->stage_x));
    cuda_put(s, p->x[to], index, (ts_sym[]){ks, c->f.m, kk}, x);
  } else if (l->x) {
    cuda_put(s, p->x[to], index, (ts_sym[]){c->f.m, c->f.k}, l->x);
  }
  for (unsigned i = 0; i < c->f.products; i++)
    if (l->w[i]) cuda_put(s, p->w[i][to], index, (ts_sym[]){c->f.n, kk}, l->w[i]);
  return TS_OK;
}

// ---- codes ---------------------------------------------------------------------------------------------------------------
// Merges the digits of one axis, outermost (largest divisor) first; `block` is what counts blocks of 32, NULL: none.
static ir_value *merge(cuda_schedule *s, ir_value *v, const cuda_weight *w, bool along_k, const ts_sym *digit, ts_sym block, ts_sym axis) {
  ts_sym to[CUDA_DIGITS + 1];
  unsigned count = 0;
  if (block) to[count++] = block;
  for (int64_t below = 1 << 20;;) {
    int next = -1;
    for (unsigned i = 0; i < w->digits; i++)
      if (w->along_k[i] == along_k && w->place[i].divisor < below && (next < 0 || w->place[i].divisor > w->place[next].divisor)) next = (int)i;
    if (next < 0) break;
    to[count++] = digit[next];
    below = w->place[next].divisor;
  }
  ts_sym axes[20];
  const ir_size *shape[20] = {0};
  unsigned rank = 0;
  int64_t extent = 1;
  for (unsigned d = 0; d < v->type->rank; d++) {
    bool merged = false;
    for (unsigned i = 0; i < count; i++) merged |= to[i] == v->type->axes[d];
    if (merged) extent *= v->type->shape[d]->value;
    else axes[rank] = v->type->axes[d], shape[rank++] = v->type->shape[d];
  }
  axes[rank] = axis, shape[rank++] = ir_size_const(s->m->sizes, extent);
  return pass_relabel(&s->t.b, "merge", v, axis, count, to, ir_tile_type(s->m, v->type->dtype, rank, axes, shape));
}

static ts_status load_scale(staging *p, const cuda_weight *w, ir_value *mem, ir_value *chunk, ir_value *mask, const cuda_placement *place, ir_value **out) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  ir_module *m = s->m;
  bool deep = p->g->KS > 1;
  int64_t per = w->group / CUDA_CHUNK;
  ts_sym nb = ir_name(m, "nb"), ks = ir_name(m, "ks"), n8 = ir_name(m, "n8"), n4 = ir_name(m, "n4");
  cuda_placement scales = *place;
  cuda_put_digit(&scales, n8, CUDA_LANE, 4, 8);
  cuda_put_digit(&scales, n4, CUDA_REG, 0, 4);
  ts_sym axes[4] = {nb, ks, n8, n4}, at[4] = {nb, ks, n8, n4};
  int64_t extents[4] = {p->g->BN / 32, p->g->KS, 8, 4};
  ir_value *zero = pass_int(b, 0), *group = chunk;
  if (!deep) {
    axes[1] = n8, axes[2] = n4, extents[1] = 8, extents[2] = 4;
    at[1] = m->none;
    group = pass_div_const(b, chunk, per);
  } else if (per > 1) {
    const ir_type *t;
    TS_TRY(cuda_tile(s, &scales, IR_i64, 1, &ks, &p->g->KS, &t));
    group = pass_div_const(b, ir_build(b, IR_OP_iota, 1, &chunk, 1, &t)->results[0], per);
    at[1] = m->none;
  }
  const ir_type *t;
  TS_TRY(cuda_tile(s, &scales, IR_f16, 3 + deep, axes, extents, &t));
  ir_value *n0 = pass_div_const(b, p->n0, 32);
  ir_value *v = ir_load(b, mem, (ir_value *[]){n0, group, zero, zero}, at, mask, t);
  // n = 32 nb + 8 n4 + n8
  ts_sym to[3] = {nb, n4, n8}, left[2] = {ks, p->c->f.n};
  const ir_size *shape[2] = {ir_size_const(m->sizes, p->g->KS), ir_size_const(m->sizes, p->g->BN)};
  *out = pass_relabel(&s->t.b, "merge", v, p->c->f.n, 3, to, ir_tile_type(m, IR_f16, 1 + deep, left + !deep, shape + !deep));
  return cuda_place(s, &scales);
}

// Loads the codes and scales of a step into registers.
static ts_status load_codes(staging *p, ir_value *chunk, bool tail) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  ir_module *m = s->m;
  bool deep = p->g->KS > 1;
  ts_sym nb = ir_name(m, "nb"), ks = ir_name(m, "ks"), kk = ir_name(m, "kk");
  for (unsigned i = 0; i < p->c->f.products; i++) {
    const cuda_weight *w = p->c->weights[i];
    if (!w->codes) continue;
    cuda_placement place = {0};
    cuda_put_digit(&place, nb, CUDA_REG, 0, p->g->BN / p->g->WN / 32);
    cuda_put_digit(&place, nb, CUDA_WARP, p->g->WM, p->g->WN);
    cuda_put_digit(&place, ks, CUDA_WARP, p->g->WM * p->g->WN, p->g->KS);
    ts_sym axes[CUDA_DIGITS + 2] = {nb, ks}, at[CUDA_DIGITS + 2] = {nb, deep ? ks : m->none}, digit[CUDA_DIGITS];
    int64_t extents[CUDA_DIGITS + 2] = {p->g->BN / 32, p->g->KS};
    ir_value *zero = pass_int(b, 0), *index[CUDA_DIGITS + 2] = {pass_div_const(b, p->n0, 32), chunk}, *mask = NULL;
    unsigned rank = 1 + deep;
    cuda_placement codes = place;
    for (unsigned d = 0; d < w->digits; d++) {
      digit[d] = ir_name(m, "%c%u", w->along_k[d] ? 'u' : 'v', d);
      const cuda_digit *g = &w->place[d];
      cuda_put_digit(&codes, digit[d], g->dim, g->dim == CUDA_REG ? g->stride + 1 : g->stride, g->radix);
      axes[rank] = at[2 + d] = digit[d], extents[rank++] = g->radix;
      index[2 + d] = zero;
    }
    if (tail && deep && p->chunks % p->g->KS) {
      const ir_type *t;
      TS_TRY(cuda_tile(s, &place, IR_i64, 1, &ks, &p->g->KS, &t));
      mask = ir_apply_op(b, IR_SCALAR_lt, ir_build(b, IR_OP_iota, 1, &chunk, 1, &t)->results[0], pass_int(b, p->chunks), NULL);
    }
    const ir_type *t;
    TS_TRY(cuda_tile(s, &codes, w->type, rank, axes, extents, &t));
    ir_value *v = ir_load(b, w->mem, index, at, mask, t);
    v = merge(s, v, w, false, digit, nb, p->c->f.n);
    v = merge(s, v, w, true, digit, NULL, kk);
    TS_TRY(cuda_place(s, &codes));
    p->code[i] = v;
    TS_TRY(load_scale(p, w, w->scale_mem, chunk, mask, &place, &p->scale[i]));
    if (w->offset) TS_TRY(load_scale(p, w, w->offset_mem, chunk, mask, &place, &p->offset[i]));
  }
  return TS_OK;
}

static ir_value *decode(staging *p, unsigned i) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  const cuda_weight *w = p->c->weights[i];
  ir_value *offset = w->offset ? p->offset[i] : NULL;
  if (!offset && w->bias != 0) offset = ir_apply_op(b, IR_SCALAR_mul, p->scale[i], ir_const_real(b, IR_f16, -w->bias), NULL);
  ir_value *operands[3] = {p->code[i], p->scale[i], offset};
  ir_op *op = ir_build(b, IR_OP_decode, offset ? 3 : 2, operands, 1, &p->b_type);
  ir_set_sym(b, op, "formula", ir_name(s->m, offset ? "min" : "scaled"));
  return op->results[0];
}

// ---- products ------------------------------------------------------------------------------------------------------------
static void multiply(staging *p, unsigned from) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  bool coded = p->c->weights[0]->codes, deep = p->g->KS > 1;
  ts_sym ks = ir_name(s->m, "ks"), kk = ir_name(s->m, "kk");
  const char *mma = s->target->mma16 ? "mma.m16n8k16" : "mma.m16n8k8";
  for (int64_t k = 0; k < CUDA_CHUNK; k += coded ? 32 : 16) {
    ir_value *zero = pass_int(b, 0), *at_k = pass_int(b, k);
    ir_value *x = cuda_fetch(s, p->x[from], (ir_value *[]){zero, deep ? zero : at_k, at_k}, (ts_sym[]){deep ? ks : p->c->f.m, deep ? p->c->f.m : kk, kk}, "ldmatrix", p->a_type);
    for (unsigned i = 0; i < p->c->f.products; i++) {
      ir_value *w = coded ? decode(p, i) : cuda_fetch(s, p->w[i][from], (ir_value *[]){zero, at_k}, (ts_sym[]){p->c->f.n, kk}, "ldmatrix", p->b_type);
      p->acc[i] = ir_dot(b, x, w, p->acc[i], 1, &kk, p->c_type);
      ir_set_sym(b, p->acc[i]->producer, "builtin", ir_name(s->m, "%s", mma));
    }
  }
}

static unsigned pack(staging *p, ir_value **v, bool out) {
  unsigned n = 0;
  ir_value **lists[] = {p->acc, p->sum, p->code, p->scale, p->offset};
  unsigned count[] = {p->c->f.products, p->c->f.sums, p->c->f.products, p->c->f.products, p->c->f.products};
  for (int k = 0; k < 5; k++)
    for (unsigned i = 0; i < count[k]; i++) {
      if (!lists[k][i]) continue;
      if (out) lists[k][i] = v[n++];
      else v[n++] = lists[k][i];
    }
  return n;
}

// One step in buffer `turn`: starts what later steps need, then multiplies. `remaining` steps follow.
static ts_status step(staging *p, unsigned turn, ir_value *chunk, int64_t remaining, bool last_is_tail) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  unsigned buffers = p->g->buffers, next = (turn + 1) % buffers;
  bool coded = p->c->weights[0]->codes, more = remaining > 0, tail = last_is_tail && remaining == 1;
  ir_value *soon = more ? pass_add(b, chunk, pass_int(b, p->g->KS)) : NULL;
  loaded l = {0};
  if (p->g->async_x) {
    simple(s, IR_OP_await, "pending", (int64_t)buffers - 2);
    cuda_barrier(s);
    if (remaining >= (int64_t)buffers - 1)
      copy_step(p, pass_add(b, chunk, pass_int(b, p->g->KS * ((int64_t)buffers - 1))), (turn + buffers - 1) % buffers);
    simple(s, IR_OP_commit, NULL, 0);
  } else if (more) {
    if (p->g->async_w && !coded) {
      copy_step(p, soon, next);
      simple(s, IR_OP_commit, NULL, 0);
    }
    TS_TRY(load_step(p, soon, tail, &l));
  }
  staging current = *p;
  if (coded && more) TS_TRY(load_codes(p, soon, tail));
  multiply(&current, turn);
  memcpy(p->acc, current.acc, sizeof p->acc);
  if (!p->g->async_x && more) {
    TS_TRY(put_step(p, &l, next));
    if (p->g->async_w && !coded) simple(s, IR_OP_await, "pending", 0);
    cuda_barrier(s);
  }
  return TS_OK;
}

static ts_status main_loop(staging *p) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  const tiling *g = p->g;
  bool coded = p->c->weights[0]->codes, tail = p->c->f.K % step_width(g) != 0;
  int64_t ahead = g->async_x ? (int64_t)g->buffers - 1 : 1;
  ir_value *zero = pass_int(b, 0);
  if (g->async_x) {
    for (int64_t i = 0; i < ahead; i++) {
      if (i < p->steps) copy_step(p, pass_int(b, i * g->KS), (unsigned)i);
      simple(s, IR_OP_commit, NULL, 0);
    }
  } else {
    loaded l;
    if (g->async_w && !coded) {
      copy_step(p, zero, 0);
      simple(s, IR_OP_commit, NULL, 0);
    }
    TS_TRY(load_step(p, zero, tail && p->steps == 1, &l));
    TS_TRY(put_step(p, &l, 0));
    if (g->async_w && !coded) simple(s, IR_OP_await, "pending", 0);
    cuda_barrier(s);
  }
  if (coded) TS_TRY(load_codes(p, zero, tail && p->steps == 1));
  int64_t inside = p->steps - ahead - (tail ? 1 : 0), unroll = g->buffers, done = 0;
  if (inside >= unroll) {
    done = inside / unroll * unroll;
    ir_value *carried[5 * MAX_DOTS];
    unsigned count = pack(p, carried, false);
    pass_loop l = pass_loop_open(&s->t.b, zero, pass_int(b, done * g->KS), unroll * g->KS, count, carried);
    pack(p, carried, true);
    for (int64_t u = 0; u < unroll; u++) TS_TRY(step(p, (unsigned)u, pass_add(b, l.index, pass_int(b, u * g->KS)), INT64_C(1) << 40, false));
    pack(p, carried, false);
    pass_loop_close(&s->t.b, &l, count, carried);
    pack(p, carried, true);
  }
  for (int64_t i = done; i < p->steps; i++)
    TS_TRY(step(p, (unsigned)(i % unroll), pass_int(b, i * g->KS), p->steps - 1 - i, tail));
  cuda_barrier(s);
  return TS_OK;
}

// ---- finish --------------------------------------------------------------------------------------------------------------
// Base divisors along n of the axes that finish splits it into, and which of them must be in one thread (picked or joined).
typedef struct leaves {
  unsigned count;
  ts_sym name[16];
  int64_t base[16], extent[16];
  bool own[16];
} leaves;

static void find_leaves(const contract *c, leaves *l) {
  *l = (leaves){.count = 1, .name = {c->f.n}, .base = {1}, .extent = {c->f.N}};
  for (const ir_op *op = c->f.part->finish->first; op; op = op->next) {
    if (op->code != IR_OP_relabel) continue;
    const char *kind = ir_attr_sym(op, "kind");
    ts_sym axis = ir_attr_sym(op, "axis");
    const ir_attr *to = ir_attr_find(op, "to");
    for (unsigned i = 0; i < l->count; i++) {
      if (l->name[i] != axis) continue;
      if (strcmp(kind, "pick") == 0 || strcmp(kind, "concat") == 0) l->own[i] = true;
      if (strcmp(kind, "split") != 0) continue;
      int64_t inner = l->base[i];
      for (uint32_t k = to->axes.count; k-- > 0 && l->count < 16;) {
        const ir_type *t = op->results[0]->type;
        int64_t extent = t->shape[ir_type_axis(t, to->axes.data[k])]->value;
        bool known = false;
        for (unsigned q = 0; q < l->count; q++) known |= l->name[q] == to->axes.data[k];
        if (!known) l->name[l->count] = to->axes.data[k], l->base[l->count] = inner, l->extent[l->count++] = extent;
        inner *= extent;
      }
      break;
    }
  }
}

// The least rows of weights that a block must have for what finish picks out of them.
static int64_t least_columns(const contract *c) {
  leaves l;
  int64_t need = 1;
  find_leaves(c, &l);
  for (unsigned i = 0; i < l.count; i++)
    if (l.own[i] && l.base[i] * l.extent[i] > need) need = l.base[i] * l.extent[i];
  return need;
}

static bool columns_fit(const contract *c, int64_t BN) {
  leaves l;
  find_leaves(c, &l);
  for (unsigned i = 1; i < l.count; i++) {
    int64_t end = l.base[i] * l.extent[i];
    if (l.own[i] && BN % end) return false;
    if (BN % l.base[i] && l.base[i] % BN) return false;
    if (end < c->f.N && BN % end && end % BN) return false;
  }
  return true;
}

// Digits of n over a block: what finish picks stays in registers, up to four more elements too, then lanes.
static void place_finish(const contract *c, const tiling *g, int64_t warps, int64_t *rows, cuda_placement *p) {
  leaves l;
  find_leaves(c, &l);
  int64_t at = 1, lanes = 1, vector = 1;
  while (at < g->BN) {
    int64_t end = g->BN;
    bool own = false;
    for (unsigned i = 1; i < l.count; i++) {
      int64_t lo = l.base[i], hi = lo * l.extent[i];
      if (lo > at && lo < end) end = lo;
      if (hi > at && hi < end) end = hi;
      own |= l.own[i] && lo <= at && at < hi;
    }
    int64_t radix = end / at;
    if (own) {
      cuda_put_digit(p, c->f.n, CUDA_REG, 0, radix);
      if (at == vector) vector *= radix;
    } else {
      int64_t v = at == vector && vector < 4 ? least(4 / vector, radix) : 1;
      while (radix % v) v /= 2;
      cuda_put_digit(p, c->f.n, CUDA_REG, 0, v);
      vector *= v, radix /= v;
      int64_t k = least(32 / lanes, radix & -radix);
      cuda_put_digit(p, c->f.n, CUDA_LANE, lanes, k);
      lanes *= k;
      cuda_put_digit(p, c->f.n, CUDA_REG, 0, radix / k);
    }
    at = end;
  }
  int64_t slice = least(g->BM, 16 * 32 * warps / g->BN);
  if (slice < 1) slice = 1;
  int64_t row_lanes = least(32 / lanes, slice), row_warps = least(warps, slice / row_lanes);
  cuda_put_digit(p, c->f.m, CUDA_LANE, lanes, row_lanes);
  cuda_put_digit(p, c->f.m, CUDA_WARP, 1, row_warps);
  cuda_put_digit(p, c->f.m, CUDA_REG, 0, slice / row_lanes / row_warps);
  *rows = slice;
}

static ts_status finish(staging *p) {
  cuda_schedule *s = p->s;
  ir_builder *b = &s->t.b;
  const contract *c = p->c;
  const tiling *g = p->g;
  bool deep = g->KS > 1;
  ts_sym ks = ir_name(s->m, "ks");
  ir_value *zero = pass_int(b, 0), *panel[MAX_DOTS], *stats[MAX_SUMS];
  int64_t pitch = g->BN + PAD;
  if ((int64_t)c->f.products * g->KS * g->BM * pitch * 4 > s->target->shared) pitch = g->BN;   // then with conflicts of banks
  const int64_t shape[3] = {g->KS, g->BM, g->BN}, stride[3] = {g->BM * pitch, pitch, 1};
  for (unsigned i = 0; i < c->f.products; i++) {
    panel[i] = cuda_alloc(s, IR_f32, 2 + deep, deep ? shape : shape + 1, deep ? stride : stride + 1);
    cuda_put(s, panel[i], (ir_value *[]){zero, zero, zero}, (ts_sym[]){deep ? ks : c->f.m, deep ? c->f.m : c->f.n, c->f.n}, p->acc[i]);
  }
  for (unsigned i = 0; i < c->f.sums; i++) {
    stats[i] = cuda_alloc(s, IR_f32, 1, &g->BM, NULL);
    ir_value *sum = ir_reduce(b, p->sum[i], "add", 1, &c->f.k);
    TS_TRY(cuda_place(s, &p->stage_x));
    cuda_put(s, stats[i], &zero, &c->f.m, sum);
  }
  cuda_barrier(s);
  cuda_placement place = {0};
  int64_t rows;
  place_finish(c, g, s->kernel->warps, &rows, &place);
  cuda_put_digit(&place, ks, CUDA_REG, 0, g->KS);
  pass_loop l = pass_loop_open(&s->t.b, zero, pass_int(b, g->BM), rows, 0, NULL);
  ir_value *accs[MAX_DOTS + MAX_SUMS];
  for (unsigned i = 0; i < c->f.products; i++) {
    const ir_type *t;
    TS_TRY(cuda_tile(s, &place, IR_f32, 2 + deep, (ts_sym[]){deep ? ks : c->f.m, deep ? c->f.m : c->f.n, c->f.n},
                     (int64_t[]){deep ? g->KS : rows, deep ? rows : g->BN, g->BN}, &t));
    zero = pass_int(b, 0);
    ir_value *v = cuda_fetch(s, panel[i], (ir_value *[]){deep ? zero : l.index, deep ? l.index : zero, zero}, (ts_sym[]){deep ? ks : c->f.m, deep ? c->f.m : c->f.n, c->f.n}, NULL, t);
    accs[c->f.product[i].index] = deep ? ir_reduce(b, v, "add", 1, &ks) : v;
  }
  for (unsigned i = 0; i < c->f.sums; i++) {
    const ir_type *t;
    TS_TRY(cuda_tile(s, &place, IR_f32, 1, &c->f.m, &rows, &t));
    accs[c->f.sum[i].index] = cuda_fetch(s, stats[i], &l.index, &c->f.m, NULL, t);
  }
  TS_TRY(cuda_place(s, &place));
  pass_translator_reset(&s->t);
  pass_set_box(&s->t, (pass_box){.axis = c->f.m, .base = ir_apply_op(b, IR_SCALAR_add, p->row0, l.index, NULL), .extent = rows,
                                 .size = pass_axis_size(c->f.part, c->f.m), .row = true, .tail = true});
  pass_set_box(&s->t, (pass_box){.axis = c->f.n, .base = p->n0, .extent = g->BN, .size = pass_axis_size(c->f.part, c->f.n), .row = true, .tail = c->f.N % g->BN != 0});
  for (uint32_t i = 0; i < c->f.count; i++) pass_bind_value(&s->t, c->f.part->finish->params[i], accs[i]);
  TS_TRY(pass_translate_effects(&s->t, c->f.part->finish));
  TS_TRY(cuda_place(s, &place));
  pass_loop_close(&s->t.b, &l, 0, NULL);
  return TS_OK;
}

// ---- assembly ------------------------------------------------------------------------------------------------------------
typedef struct part_range {
  contract c;
  tiling g;
  int64_t first, blocks;     // of grid axis x
} part_range;

static ts_status emit_part(cuda_schedule *s, const part_range *r, ir_value *x) {
  ir_builder *b = &s->t.b;
  staging *p = ts_new(s->m->arena, staging);
  *p = (staging){.s = s, .c = &r->c, .g = &r->g};
  p->n0 = pass_mul_const(b, pass_add(b, x, pass_int(b, -r->first)), r->g.BN);
  p->row0 = pass_mul_const(b, pass_pid(&s->t.b, 1), r->g.BM);
  TS_TRY(start(p));
  TS_TRY(main_loop(p));
  return finish(p);
}

// Parts p.. of the kernel: `if x < end of p then p else the rest`.
static ts_status emit_parts(cuda_schedule *s, const part_range *ranges, size_t count, size_t p, ir_value *x) {
  if (p + 1 == count) return emit_part(s, &ranges[p], x);
  ir_builder *b = &s->t.b;
  ir_value *mine = ir_apply_op(b, IR_SCALAR_lt, x, pass_int(b, ranges[p].first + ranges[p].blocks), NULL);
  ir_op *branch = ir_if(b, mine, 0, NULL);
  ir_region *outside = b->region;
  b->region = branch->regions[0];
  TS_TRY(emit_part(s, &ranges[p], x));
  ir_yield(b, 0, NULL);
  b->region = branch->regions[1];
  TS_TRY(emit_parts(s, ranges, count, p + 1, x));
  ir_yield(b, 0, NULL);
  b->region = outside;
  return TS_OK;
}

static ir_dtype compute_type(const contract *c) { return c->f.input->type->dtype == IR_bf16 ? IR_bf16 : IR_f16; }

static int64_t choose_columns(const part_range *r, size_t count, int64_t most, int64_t least_width) {
  for (int64_t n = most; n >= least_width; n /= 2) {
    bool fits = true;
    for (size_t i = 0; i < count; i++) fits &= r[i].c.f.N % n == 0 && columns_fit(&r[i].c, n);
    if (fits) return n;
  }
  for (int64_t n = most; n >= least_width; n /= 2) {
    bool fits = true;
    for (size_t i = 0; i < count; i++) fits &= columns_fit(&r[i].c, n);
    if (fits) return n;
  }
  return 0;
}

static ts_status build(cuda_schedule *s, part_range *r, size_t count, bool prefill) {
  ir_module *m = s->m;
  int64_t need = 32, dots = 1;
  for (size_t i = 0; i < count; i++) {
    TS_TRY(analyse(s, &s->from->parts.data[i], &r[i].c));
    int64_t n = least_columns(&r[i].c);
    if (n > need) need = n;
    if (r[i].c.f.products > dots) dots = r[i].c.f.products;
    if (compute_type(&r[i].c) == IR_bf16 && !s->target->bf16)
      return CUDA_REFUSE(s, s->from->loc, "rule bf16-absent: %s has no products of bf16; take float f16", s->target->name);
  }
  int64_t wide = choose_columns(r, count, dots > 1 ? 64 : 128, need), narrow = choose_columns(r, count, 128, 32);
  while (narrow > need && choose_columns(r, count, narrow / 2, need) == narrow / 2) narrow /= 2;
  if (!wide || !narrow) return refuse(s, NULL, "columns-of-a-block");
  // Params in the order of the P kernel's; weights of products packed.
  for (uint32_t i = 0; i < s->from->params.count; i++) {
    const ir_param *p = &s->from->params.data[i];
    const ir_type *type = p->value->type;
    if (p->role == IR_PARAM_IN && type->rank == 2 && cuda_reads_products(s->from, p->value)) {
      TS_TRY(cuda_pack(s, i, wide > narrow ? wide : narrow, compute_type(&r[0].c), false));
      continue;
    }
    if (type->encoding) {
      if (!ir_encoding_is_plain(type->encoding))
        return CUDA_REFUSE(s, s->from->loc, "rule encoded-elementwise: %s is stored as %s and read element by element", p->value->name, type->encoding->name);
      type = ir_mem_type(m, type->encoding->field[0].type, type->rank, type->shape, NULL, IR_SPACE_GLOBAL, NULL);
    }
    ts_vec_push(m->arena, &s->sources, ((pass_source){.param = i}));
    s->t.params[i] = ir_kernel_param(m, s->kernel, p->value->name, type, p->role);
  }
  bool codes = false, values = false;
  for (size_t i = 0; i < count; i++)
    for (unsigned k = 0; k < r[i].c.f.products; k++) {
      r[i].c.weights[k] = s->weights[r[i].c.f.product[k].param];
      codes |= r[i].c.weights[k]->codes;
      values |= !r[i].c.weights[k]->codes;
    }
  tiling g = {.BN = prefill ? wide : narrow, .KS = 1, .WM = 1};
  int64_t unit = codes ? 32 : 16;
  if (prefill) {
    bool large = !codes && dots == 1 && g.BN >= 128;
    for (size_t i = 0; i < count; i++) large &= r[i].c.f.sums == 0;
    g.BM = large ? 128 : 64;
    g.WN = least(codes ? 4 : 2, g.BN / unit);
    g.WM = 4 / g.WN;
  } else {
    g.BM = 16;
    g.KS = values ? 1 : 4;
    g.WN = values ? least(4, g.BN / unit) : 1;
  }
  s->kernel->warps = (int)(g.KS * g.WM * g.WN);
  int64_t blocks = 0;
  for (size_t i = 0; i < count; i++) {
    ir_dtype own = IR_VOID;
    r[i].g = g;
    r[i].g.compute = compute_type(&r[i].c);
    r[i].g.async_x = g.KS == 1 && s->target->cp_async && plain_rows(s, &r[i].c, &own) && own == r[i].g.compute;
    r[i].g.async_w = s->target->cp_async;
    r[i].g.buffers = r[i].g.async_x ? 4 : 2;
    for (unsigned k = 1; k < r[i].c.f.products; k++)
      if (r[i].c.weights[k]->codes != r[i].c.weights[0]->codes) return refuse(s, NULL, "codes-beside-values");
    r[i].first = blocks;
    r[i].blocks = (r[i].c.f.N + g.BN - 1) / g.BN;
    blocks += r[i].blocks;
  }
  s->kernel->grid[0] = ir_size_const(m->sizes, blocks);
  s->kernel->grid[1] = ir_size_ceildiv(m->sizes, pass_axis_size(r[0].c.f.part, r[0].c.f.m), ir_size_const(m->sizes, g.BM));
  return emit_parts(s, r, count, 0, pass_pid(&s->t.b, 0));
}

ts_status cuda_contract(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out) {
  for (size_t i = 0; i < p->parts.count; i++)
    if (p->parts.data[i].family != IR_FAMILY_CONTRACT)
      return ts_report(m->diags, p->loc, &diag_pass_unsupported, "rule mixed-families: kernel %s mixes families", p->name);
  *out = (pass_schedules){0};
  for (int prefill = 1; prefill >= 0; prefill--) {
    cuda_schedule s;
    const char *variant = prefill ? "prefill" : "decode";
    part_range *ranges = ts_new_array(m->arena, part_range, p->parts.count);
    ts_status status = cuda_begin(&s, m, p, t, log, variant, 4);
    if (status == TS_OK) status = build(&s, ranges, p->parts.count, prefill);
    const ir_size *guard = NULL;
    if (prefill && status == TS_OK) guard = ir_size_floordiv(m->sizes, pass_axis_size(ranges[0].c.f.part, ranges[0].c.f.m), ir_size_const(m->sizes, 17));
    if (status == TS_OK) ts_vec_push(m->arena, &out->variants, cuda_end(&s, guard, variant));
    cuda_deinit(&s);
    if (status != TS_OK) return status;
  }
  return TS_OK;
}
