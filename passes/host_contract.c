// Host schedules of family `contract`: products with packed weights.
//
// Two variants of every kernel, with one packing:
//   decode   a block is one row of m and a few panels of weights. The (normed, quantized) input row is staged in a panel first; then
//            codes stream through registers once: sum over a group of x * code, times scale, plus offset times sum of x.
//   prefill  a block is up to 128 rows and one panel. The rows are staged, the panel's weights are decoded once into a buffer that
//            stays in L2, and a register tile of rows x panel runs over all of k.
// A kernel of several parts gives each part a range of the grid.
#include "passes/host_internal.h"

enum { ROW_BLOCK = 128 };

typedef struct contract {
  pass_contract_form f;
  host_weight *weights[PASS_MAX_PRODUCTS];
  int64_t P, panels, chunks;   // of every weight: they have one shape
  bool integer;                // products of 8-bit codes
  bool needs_sum;              // does any product need the sums of x per group?
} contract;

typedef struct staged {
  ir_value *x;               // f32[rows, chunks * 32]; integer: i8
  ir_value *scale;           // integer: f32[rows, chunks]
  ir_value *sum;             // f32[rows, chunks] sum of x per chunk of 32
  ir_value *stats;           // f32[rows, sums]
} staged;

static ts_status refuse(host_schedule *s, const ir_op *op, const char *rule) {
  return HOST_REFUSE(s, op ? op->loc : s->from->loc, "rule %s: no host schedule for this product", rule);
}

static ts_status analyse(host_schedule *s, const ir_part *part, contract *c) {
  *c = (contract){0};
  TS_TRY(pass_read_contract(s->m, s->from, part, &c->f));
  const ir_op *first = c->f.product[0].op;
  c->integer = c->f.block != 0;
  if (c->integer && c->f.block != HOST_CHUNK) return refuse(s, first, "quantized-block");
  for (unsigned i = 0; i < c->f.products; i++) {
    const host_weight *w = c->weights[i] = s->weights[c->f.product[i].param];
    if (!w) return refuse(s, c->f.product[i].op, "product-of-unpacked");
    if (c->integer && (!w->scaled || w->group % HOST_CHUNK)) return refuse(s, c->f.product[i].op, "integer-product-of-floats");
    c->needs_sum |= w->offset || w->bias;
  }
  c->P = c->weights[0]->P, c->panels = c->weights[0]->panels, c->chunks = c->weights[0]->chunks;
  return TS_OK;
}

// ---- staging -------------------------------------------------------------------------------------------------------------
static staged stage_alloc(host_schedule *s, const contract *c, int64_t rows) {
  staged g = {0};
  if (c->integer) {
    g.x = host_alloc(s, IR_i8, 2, (int64_t[]){rows, c->chunks * HOST_CHUNK});
    g.scale = host_alloc(s, IR_f32, 2, (int64_t[]){rows, c->chunks});
  } else {
    g.x = host_alloc(s, IR_f32, 2, (int64_t[]){rows, c->chunks * HOST_CHUNK});
  }
  if (c->needs_sum) g.sum = host_alloc(s, IR_f32, 2, (int64_t[]){rows, c->chunks});
  if (c->f.sums) g.stats = host_alloc(s, IR_f32, 2, (int64_t[]){rows, c->f.sums});
  return g;
}

static void put_scalar(host_schedule *s, ir_value *panel, ir_value *row, ir_value *col, ir_value *v) {
  ir_store(&s->t.b, panel, (ir_value *[]){row, col}, (ts_sym[]){s->m->none, s->m->none}, v, NULL);
}

static ir_value *get_scalar(host_schedule *s, ir_value *panel, ir_value *row, ir_value *col) {
  return ir_load(&s->t.b, panel, (ir_value *[]){row, col}, (ts_sym[]){s->m->none, s->m->none}, NULL, ir_scalar_type(s->m, panel->type->dtype));
}

// Symmetric 8-bit codes of a chunk: scale = max |x| / 127, code = x / scale to nearest even.
static void quantize_chunk(host_schedule *s, const contract *c, const staged *g, ir_value *x, ir_value *row, ir_value *chunk) {
  ir_builder *b = &s->t.b;
  ir_value *largest = ir_reduce(b, ir_apply_op(b, IR_SCALAR_abs, x, NULL, NULL), "max", 1, &c->f.k);
  ir_dtype f32 = IR_f32, two[2] = {IR_f32, IR_f32};
  ir_fn_builder f;
  ir_fn_begin(&f, s->m, 1, &f32);
  uint32_t r = ir_fn_op(&f, IR_SCALAR_div, 0, ir_fn_real(&f, IR_f32, 127), 0);
  ir_value *scale = ir_apply(b, ir_fn_end(&f, 1, &r), 1, &largest);
  ir_fn_begin(&f, s->m, 1, &f32);   // a chunk of zeros divides by 1
  uint32_t some = ir_fn_op(&f, IR_SCALAR_gt, 0, ir_fn_real(&f, IR_f32, 0), 0);
  r = ir_fn_op(&f, IR_SCALAR_select, some, 0, ir_fn_real(&f, IR_f32, 1));
  ir_value *divisor = ir_apply(b, ir_fn_end(&f, 1, &r), 1, &scale);
  // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
  ir_fn_begin(&f, s->m, 2, two);
  uint32_t shifted = ir_fn_op(&f, IR_SCALAR_add, ir_fn_op(&f, IR_SCALAR_div, 0, 1, 0), ir_fn_real(&f, IR_f32, 12582912), 0);
  r = ir_fn_op(&f, IR_SCALAR_sub, ir_fn_bits(&f, IR_i32, shifted), ir_fn_int(&f, IR_i32, 0x4B400000), 0);
  ir_value *q = ir_apply(b, ir_fn_end(&f, 1, &r), 2, (ir_value *[]){x, divisor});
  ir_store(b, g->x, (ir_value *[]){row, pass_mul_const(b, chunk, HOST_CHUNK)}, (ts_sym[]){s->m->none, c->f.k}, ir_cast(b, q, IR_i8), NULL);
  put_scalar(s, g->scale, row, chunk, scale);
  if (!g->sum) return;
  ir_value *total = ir_cast(b, ir_reduce(b, q, "add", 1, &c->f.k), IR_f32);
  put_scalar(s, g->sum, row, chunk, ir_apply_op(b, IR_SCALAR_mul, total, scale, NULL));
}

// Stages row `row` of m (its box is set) at `at` of the panels.
static ts_status stage_row(host_schedule *s, const contract *c, const staged *g, ir_value *row, ir_value *at) {
  ir_builder *b = &s->t.b;
  int64_t width = HOST_CHUNK;
  const ir_type *lanes = host_tile(s, IR_f32, 1, &c->f.k, &width, c->f.k);
  ir_value *carried[4];
  for (unsigned i = 0; i < c->f.sums; i++) carried[i] = pass_zero(&s->t.b, lanes);
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, c->chunks), 1, c->f.sums, carried);
  pass_translator_reset(&s->t);
  const ir_size *M = NULL;
  for (size_t i = 0; i < c->f.part->axes.count; i++)
    if (c->f.part->axes.data[i].name == c->f.m) M = c->f.part->axes.data[i].size;
  pass_set_box(&s->t, (pass_box){.axis = c->f.m, .base = row, .extent = 1, .size = M, .row = true});
  pass_set_box(&s->t, (pass_box){.axis = c->f.k, .base = pass_mul_const(b, l.index, HOST_CHUNK), .extent = HOST_CHUNK,
                                 .size = ir_size_const(s->m->sizes, c->f.K), .tail = c->f.K % HOST_CHUNK != 0});
  ir_value *x;
  TS_TRY(pass_translate_value(&s->t, c->f.input, &x));
  x = ir_cast(b, pass_drop_axis(b, x, c->f.m), IR_f32);
  for (unsigned i = 0; i < c->f.sums; i++) {
    ir_value *term;
    TS_TRY(pass_translate_value(&s->t, c->f.sum[i].term, &term));
    carried[i] = ir_apply_op(b, IR_SCALAR_add, carried[i], pass_drop_axis(b, term, c->f.m), NULL);
  }
  if (c->integer) {
    quantize_chunk(s, c, g, x, at, l.index);
  } else {
    ir_store(b, g->x, (ir_value *[]){at, pass_mul_const(b, l.index, HOST_CHUNK)}, (ts_sym[]){s->m->none, c->f.k}, x, NULL);
    if (g->sum) put_scalar(s, g->sum, at, l.index, ir_reduce(b, x, "add", 1, &c->f.k));
  }
  pass_loop_close(&s->t.b, &l, c->f.sums, carried);
  for (unsigned i = 0; i < c->f.sums; i++) put_scalar(s, g->stats, at, pass_int(b, i), ir_reduce(b, carried[i], "add", 1, &c->f.k));
  return TS_OK;
}

// ---- products ------------------------------------------------------------------------------------------------------------
static ir_value *scale_tile(host_schedule *s, const host_weight *w, ir_value *mem, ir_dtype t, ir_value *panel, ir_value *group, ts_sym n) {
  ts_sym at[3] = {s->m->none, s->m->none, n};
  return ir_cast(&s->t.b, ir_load(&s->t.b, mem, (ir_value *[]){panel, group, pass_int(&s->t.b, 0)}, at, NULL, host_tile(s, t, 1, &n, &w->P, n)), IR_f32);
}

// Codes u32 words [j, n] at digit (r, h) as f32.
static ir_value *nibble(host_schedule *s, ir_value *words, int64_t shift) {
  ir_dtype u32 = IR_u32;
  ir_fn_builder f;
  ir_fn_begin(&f, s->m, 1, &u32);
  uint32_t v = 0;
  if (shift) v = ir_fn_op(&f, IR_SCALAR_shr, v, ir_fn_int(&f, IR_u32, shift), 0);
  if (shift != 28) v = ir_fn_op(&f, IR_SCALAR_and, v, ir_fn_int(&f, IR_u32, 15), 0);
  uint32_t r = ir_fn_cast(&f, IR_f32, ir_fn_cast(&f, IR_i32, v));
  return ir_apply(&s->t.b, ir_fn_end(&f, 1, &r), 1, &words);
}

static ir_value *load_words(host_schedule *s, const host_weight *w, ir_value *panel, ir_value *chunk, ts_sym j, ts_sym n) {
  int64_t count = w->codes == HOST_NIBBLES ? 4 : 8;
  ts_sym axes[2] = {j, n}, at[4] = {s->m->none, s->m->none, j, n};
  ir_value *zero = pass_int(&s->t.b, 0);
  return ir_load(&s->t.b, w->mem, (ir_value *[]){panel, chunk, zero, zero}, at, NULL, host_tile(s, IR_u32, 2, axes, (int64_t[]){count, w->P}, n));
}

static ir_value *load_bytes(host_schedule *s, const host_weight *w, ir_value *panel, ir_value *chunk, int64_t first, int64_t count, ts_sym kk, ts_sym n) {
  ts_sym axes[2] = {kk, n}, at[4] = {s->m->none, s->m->none, kk, n};
  ir_builder *b = &s->t.b;
  return ir_load(b, w->mem, (ir_value *[]){panel, chunk, pass_int(b, first), pass_int(b, 0)}, at, NULL,
                 host_tile(s, w->code_type, 2, axes, (int64_t[]){count, w->P}, n));
}

// x[k0 + stride * j] of a staged row as scalars over axis j.
static ir_value *staged_x(host_schedule *s, ir_value *panel, ir_value *row, ir_value *k0, int64_t stride, int64_t count, ts_sym j) {
  ir_builder *b = &s->t.b;
  const ir_type *t = host_tile(s, panel->type->dtype, 1, &j, &count, NULL);
  if (stride == 1) return ir_load(b, panel, (ir_value *[]){row, k0}, (ts_sym[]){s->m->none, j}, NULL, t);
  ir_value *zero = pass_int(b, 0);
  const ir_type *index = ir_type_with_dtype(s->m, t, IR_i64);
  ir_value *steps = ir_build(b, IR_OP_iota, 1, &zero, 1, &index)->results[0];
  ir_value *at = ir_apply_op(b, IR_SCALAR_add, pass_mul_const(b, steps, stride), k0, NULL);
  return ir_load(b, panel, (ir_value *[]){row, at}, (ts_sym[]){s->m->none, s->m->none}, NULL, t);
}

// part += x * codes over one chunk of a panel (elements first .. first + count of it); exact products in f32.
static ir_value *chunk_exact(host_schedule *s, const host_weight *w, ir_value *x, ir_value *row, ir_value *panel, ir_value *chunk, int64_t first, int64_t count,
                             ts_sym n, ir_value *part) {
  ir_builder *b = &s->t.b;
  ts_sym j = ir_name(s->m, "j");
  ir_value *k0 = pass_mul_const(b, chunk, HOST_CHUNK);
  if (w->codes == HOST_NIBBLES) {
    ir_value *words = load_words(s, w, panel, chunk, j, n);
    for (int64_t h = 0; h < 2; h++)
      for (int64_t r = 0; r < 4; r++) {
        ir_value *q = nibble(s, words, 8 * r + 4 * h);
        ir_value *xs = staged_x(s, x, row, pass_add(b, k0, pass_int(b, 16 * h + r)), 4, 4, j);
        part = ir_dot(b, xs, q, part, 1, &j, part->type);
      }
    return part;
  }
  ir_value *q = ir_cast(b, load_bytes(s, w, panel, chunk, first, count, j, n), IR_f32);
  ir_value *xs = staged_x(s, x, row, pass_add(b, k0, pass_int(b, first)), 1, count, j);
  return ir_dot(b, xs, q, part, 1, &j, part->type);
}

// acc += scale * part + offset * sum, with the bias folded into the part.
static ir_value *apply_scales(host_schedule *s, const host_weight *w, ir_value *panel, ir_value *group, ts_sym n, ir_value *part, ir_value *sum, ir_value *acc) {
  ir_builder *b = &s->t.b;
  if (w->bias) {
    ir_value *shift = ir_apply_op(b, IR_SCALAR_mul, sum, ir_const_real(b, IR_f32, -(double)w->bias), NULL);
    part = ir_apply_op(b, IR_SCALAR_add, part, shift, NULL);
  }
  acc = ir_apply_op(b, IR_SCALAR_fma, part, scale_tile(s, w, w->scale_mem, w->scale_type, panel, group, n), acc);
  if (w->offset) acc = ir_apply_op(b, IR_SCALAR_fma, scale_tile(s, w, w->offset_mem, w->offset_type, panel, group, n), sum, acc);
  return acc;
}

static ir_value *product_exact(host_schedule *s, const contract *c, const host_weight *w, const staged *g, ir_value *row, ir_value *panel) {
  ir_builder *b = &s->t.b;
  const ir_type *tile = host_tile(s, IR_f32, 1, &c->f.n, &w->P, c->f.n);
  ir_value *acc = pass_zero(&s->t.b, tile);
  if (!w->scaled) {
    pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, w->chunks), 1, 1, &acc);
    acc = chunk_exact(s, w, g->x, row, panel, l.index, 0, HOST_CHUNK, c->f.n, acc);
    pass_loop_close(&s->t.b, &l, 1, &acc);
    return acc;
  }
  int64_t per = w->group / HOST_CHUNK;   // chunks of a group; 0: two groups of 16 in a chunk
  if (per <= 1) {
    pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, w->chunks), 1, 1, &acc);
    for (int64_t half = 0; half < (per ? 1 : 2); half++) {
      ir_value *part = chunk_exact(s, w, g->x, row, panel, l.index, 16 * half, per ? HOST_CHUNK : 16, c->f.n, pass_zero(&s->t.b, tile));
      ir_value *sum = g->sum && (w->offset || w->bias) ? get_scalar(s, g->sum, row, l.index) : NULL;
      ir_value *group = per ? l.index : ir_apply_op(b, IR_SCALAR_min, pass_add(b, pass_mul_const(b, l.index, 2), pass_int(b, half)),
                                                    pass_int(b, w->groups - 1), NULL);
      acc = apply_scales(s, w, panel, group, c->f.n, part, sum, acc);
    }
    pass_loop_close(&s->t.b, &l, 1, &acc);
    return acc;
  }
  pass_loop outer = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, w->groups), 1, 1, &acc);
  ir_value *lo = pass_mul_const(b, outer.index, per);
  ir_value *hi = ir_apply_op(b, IR_SCALAR_min, pass_add(b, lo, pass_int(b, per)), pass_int(b, w->chunks), NULL);
  bool sums = w->offset || w->bias;
  ir_value *inner[2] = {pass_zero(&s->t.b, tile), sums ? ir_const_real(b, IR_f32, 0) : NULL};
  pass_loop l = pass_loop_open(&s->t.b, lo, hi, 1, sums ? 2 : 1, inner);
  inner[0] = chunk_exact(s, w, g->x, row, panel, l.index, 0, HOST_CHUNK, c->f.n, inner[0]);
  if (sums) inner[1] = ir_apply_op(b, IR_SCALAR_add, inner[1], get_scalar(s, g->sum, row, l.index), NULL);
  pass_loop_close(&s->t.b, &l, sums ? 2 : 1, inner);
  acc = apply_scales(s, w, panel, outer.index, c->f.n, inner[0], inner[1], acc);
  pass_loop_close(&s->t.b, &outer, 1, &acc);
  return acc;
}


// acc[m: rows, n] of integer products: rows are unrolled, each chunk's codes are read once for all of them.
static ir_value *product_integer(host_schedule *s, const contract *c, const host_weight *w, const staged *g, ir_value *row, ir_value *panel, int64_t rows) {
  ir_builder *b = &s->t.b;
  ir_module *m = s->m;
  ts_sym j = ir_name(m, "j"), r = ir_name(m, "r"), over[2] = {j, r}, kk = ir_name(m, "kk");
  ts_sym acc_axes[2] = {c->f.m, c->f.n}, code_axes[3] = {j, c->f.n, r}, code_at[5] = {m->none, m->none, j, c->f.n, r};
  ts_sym flat_axes[2] = {c->f.m, kk}, x_axes[3] = {c->f.m, j, r};
  const ir_type *acc_type = host_tile(s, IR_f32, 2, acc_axes, (int64_t[]){rows, c->P}, c->f.n);
  ir_value *acc = pass_zero(&s->t.b, acc_type), *zero = pass_int(b, 0);
  int64_t words = w->codes == HOST_NIBBLES ? 4 : 8;
  pass_loop l = pass_loop_open(&s->t.b, zero, pass_int(b, w->chunks), 1, 1, &acc);
  zero = pass_int(b, 0);
  ir_value *codes = ir_load(b, w->mem, (ir_value *[]){panel, l.index, zero, zero, zero}, code_at, NULL,
                            host_tile(s, IR_u8, 3, code_axes, (int64_t[]){words, w->P, 4}, c->f.n));
  ir_value *part = pass_zero(&s->t.b, ir_type_with_dtype(m, acc_type, IR_i32));
  ir_value *k0 = pass_mul_const(b, l.index, HOST_CHUNK);
  for (int64_t h = 0; h < (w->codes == HOST_NIBBLES ? 2 : 1); h++) {
    ir_value *q = codes;
    if (w->codes == HOST_NIBBLES) q = ir_apply_op(b, h ? IR_SCALAR_shr : IR_SCALAR_and, codes, ir_const_int(b, IR_u8, h ? 4 : 15), NULL);
    ir_value *flat = ir_load(b, g->x, (ir_value *[]){row, pass_add(b, k0, pass_int(b, 16 * h))}, flat_axes, NULL,
                             host_tile(s, IR_i8, 2, flat_axes, (int64_t[]){rows, words * 4}, NULL));
    const ir_type *split = host_tile(s, IR_i8, 3, x_axes, (int64_t[]){rows, words, 4}, NULL);
    ir_op *op = ir_build(b, IR_OP_relabel, 1, &flat, 1, &split);
    ir_set_sym(b, op, "kind", ir_name(m, "split"));
    ir_set_sym(b, op, "axis", kk);
    ir_set_axes(b, op, "to", 2, over);
    part = ir_dot(b, op->results[0], q, part, 2, over, part->type);
  }
  ts_sym column[2] = {c->f.m, m->none};
  const ir_type *per_row = host_tile(s, IR_f32, 1, &c->f.m, &rows, NULL);
  ir_value *scale = ir_load(b, g->scale, (ir_value *[]){row, l.index}, column, NULL, per_row);
  ir_value *sum = g->sum && (w->offset || w->bias) ? ir_load(b, g->sum, (ir_value *[]){row, l.index}, column, NULL, per_row) : NULL;
  ir_value *f = ir_apply_op(b, IR_SCALAR_mul, ir_cast(b, part, IR_f32), scale, NULL);
  acc = apply_scales(s, w, panel, pass_div_const(b, l.index, w->group / HOST_CHUNK), c->f.n, f, sum, acc);
  pass_loop_close(&s->t.b, &l, 1, &acc);
  return acc;
}

// ---- finish --------------------------------------------------------------------------------------------------------------
// Runs the part's finish on accumulators over [m: rows, n: P] (products) and [m: rows] (sums), in order of the accumulators.
static ts_status finish(host_schedule *s, const contract *c, ir_value *row, int64_t rows, ir_value *panel, ir_value **accs) {
  ir_builder *b = &s->t.b;
  pass_translator_reset(&s->t);
  pass_set_box(&s->t, (pass_box){.axis = c->f.m, .base = row, .extent = rows, .size = pass_axis_size(c->f.part, c->f.m), .row = true});
  pass_set_box(&s->t, (pass_box){.axis = c->f.n, .base = pass_mul_const(b, panel, c->P), .extent = c->P, .size = pass_axis_size(c->f.part, c->f.n), .tail = c->f.N % c->P != 0});
  for (uint32_t i = 0; i < c->f.count; i++) pass_bind_value(&s->t, c->f.part->finish->params[i], accs[i]);
  return pass_translate_effects(&s->t, c->f.part->finish);
}

// ---- decode variant ------------------------------------------------------------------------------------------------------
static ts_status decode_part(host_schedule *s, const contract *c, ir_value *first_panel, ir_value *last_panel, ir_value *row) {
  ir_builder *b = &s->t.b;
  staged g = stage_alloc(s, c, 1);
  ir_value *zero = pass_int(b, 0);
  TS_TRY(stage_row(s, c, &g, row, zero));
  pass_loop l = pass_loop_open(&s->t.b, first_panel, last_panel, 1, 0, NULL);
  ir_value *accs[PASS_MAX_PRODUCTS + PASS_MAX_SUMS];
  for (unsigned i = 0; i < c->f.products; i++) {
    const host_weight *w = c->weights[i];
    accs[c->f.product[i].index] = c->integer ? product_integer(s, c, w, &g, zero, l.index, 1)
                                             : pass_add_axis(b, product_exact(s, c, w, &g, zero, l.index), c->f.m);
  }
  for (unsigned i = 0; i < c->f.sums; i++) accs[c->f.sum[i].index] = pass_add_axis(b, get_scalar(s, g.stats, zero, pass_int(b, i)), c->f.m);
  TS_TRY(finish(s, c, row, 1, l.index, accs));
  pass_loop_close(&s->t.b, &l, 0, NULL);
  return TS_OK;
}

// ---- prefill variant -----------------------------------------------------------------------------------------------------
// The panel's weights as f32[chunks * 32, P] in a panel buffer.
static void decode_panel(host_schedule *s, const contract *c, const host_weight *w, ir_value *panel, ir_value *buffer) {
  ir_builder *b = &s->t.b;
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, w->chunks), 1, 0, NULL);
  ts_sym j = ir_name(s->m, "j");
  ir_value *k0 = pass_mul_const(b, l.index, HOST_CHUNK);
  int64_t halves = w->scaled && w->group < HOST_CHUNK ? 2 : 1;
  for (int64_t half = 0; half < halves; half++) {
    ir_value *scale = NULL, *offset = NULL;
    if (w->scaled) {
      ir_value *group = halves == 2 ? ir_apply_op(b, IR_SCALAR_min, pass_add(b, pass_mul_const(b, l.index, 2), pass_int(b, half)),
                                                  pass_int(b, w->groups - 1), NULL)
                                    : pass_div_const(b, l.index, w->group / HOST_CHUNK);
      scale = scale_tile(s, w, w->scale_mem, w->scale_type, panel, group, c->f.n);
      if (w->offset) offset = scale_tile(s, w, w->offset_mem, w->offset_type, panel, group, c->f.n);
    }
    unsigned pieces = w->codes == HOST_NIBBLES ? 8 : (unsigned)(HOST_CHUNK / halves / 8);
    ir_value *words = w->codes == HOST_NIBBLES ? load_words(s, w, panel, l.index, j, c->f.n) : NULL;
    for (unsigned p = 0; p < pieces; p++) {
      int64_t first = words ? 16 * (p / 4) + p % 4 : half * 16 + 8 * p;   // k of element 0, then every 4th (nibbles) or every one
      ir_value *q = words ? nibble(s, words, 8 * (p % 4) + 4 * (p / 4)) : ir_cast(b, load_bytes(s, w, panel, l.index, first, 8, j, c->f.n), IR_f32);
      if (w->bias) q = ir_apply_op(b, IR_SCALAR_sub, q, ir_const_real(b, IR_f32, (double)w->bias), NULL);
      if (scale) q = offset ? ir_apply_op(b, IR_SCALAR_fma, q, scale, offset) : ir_apply_op(b, IR_SCALAR_mul, q, scale, NULL);
      ir_value *k = pass_add(b, k0, pass_int(b, first)), *zero = pass_int(b, 0);
      if (words) {
        int64_t four = 4;
        const ir_type *t = host_tile(s, IR_i64, 1, &j, &four, NULL);
        k = ir_apply_op(b, IR_SCALAR_add, pass_mul_const(b, ir_build(b, IR_OP_iota, 1, &zero, 1, &t)->results[0], 4), k, NULL);
      }
      ir_store(b, buffer, (ir_value *[]){k, zero}, (ts_sym[]){words ? s->m->none : j, c->f.n}, q, NULL);
    }
  }
  pass_loop_close(&s->t.b, &l, 0, NULL);
}

static ir_value *product_rows(host_schedule *s, const contract *c, const staged *g, ir_value *buffer, ir_value *row, int64_t rows) {
  enum { STEP = 8 };
  ir_builder *b = &s->t.b;
  ts_sym k = ir_name(s->m, "kk"), acc_axes[2] = {c->f.m, c->f.n}, x_axes[2] = {c->f.m, k}, w_axes[2] = {k, c->f.n};
  ir_value *acc = pass_zero(&s->t.b, host_tile(s, IR_f32, 2, acc_axes, (int64_t[]){rows, c->P}, c->f.n));
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, c->chunks * HOST_CHUNK), STEP, 1, &acc);
  ir_value *zero = pass_int(b, 0);
  ir_value *x = ir_load(b, g->x, (ir_value *[]){row, l.index}, x_axes, NULL, host_tile(s, IR_f32, 2, x_axes, (int64_t[]){rows, STEP}, NULL));
  ir_value *w = ir_load(b, buffer, (ir_value *[]){l.index, zero}, w_axes, NULL, host_tile(s, IR_f32, 2, w_axes, (int64_t[]){STEP, c->P}, c->f.n));
  acc = ir_dot(b, x, w, acc, 1, &k, acc->type);
  pass_loop_close(&s->t.b, &l, 1, &acc);
  return acc;
}

static ts_status prefill_part(host_schedule *s, const contract *c, ir_value *first_panel, ir_value *last_panel, ir_value *lo, ir_value *hi) {
  ir_builder *b = &s->t.b;
  int64_t rows = s->target->registers >= 32 ? (c->integer ? 4 : 6) : 2;
  staged g = stage_alloc(s, c, ROW_BLOCK);
  pass_loop stage = pass_loop_open(&s->t.b, lo, hi, 1, 0, NULL);
  TS_TRY(stage_row(s, c, &g, stage.index, ir_apply_op(b, IR_SCALAR_sub, stage.index, lo, NULL)));
  pass_loop_close(&s->t.b, &stage, 0, NULL);
  ir_value *buffers[PASS_MAX_PRODUCTS];
  for (unsigned i = 0; i < c->f.products && !c->integer; i++) buffers[i] = host_alloc(s, IR_f32, 2, (int64_t[]){c->chunks * HOST_CHUNK, c->P});
  pass_loop each = pass_loop_open(&s->t.b, first_panel, last_panel, 1, 0, NULL);
  ir_value *panel = each.index;
  for (unsigned i = 0; i < c->f.products && !c->integer; i++) decode_panel(s, c, c->weights[i], panel, buffers[i]);
  // The last tile moves back so that it is whole: rows that two tiles share are computed twice, with the same result.
  ir_value *last = pass_add(b, hi, pass_int(b, -rows));
  pass_loop l = pass_loop_open(&s->t.b, lo, hi, rows, 0, NULL);
  ir_value *row = ir_apply_op(b, IR_SCALAR_min, l.index, last, NULL);
  ir_value *at = ir_apply_op(b, IR_SCALAR_sub, row, lo, NULL);
  ir_value *accs[PASS_MAX_PRODUCTS + PASS_MAX_SUMS];
  for (unsigned i = 0; i < c->f.products; i++)
    accs[c->f.product[i].index] = c->integer ? product_integer(s, c, c->weights[i], &g, at, panel, rows)
                                            : product_rows(s, c, &g, buffers[i], at, rows);
  for (unsigned i = 0; i < c->f.sums; i++)
    accs[c->f.sum[i].index] = ir_load(b, g.stats, (ir_value *[]){at, pass_int(b, i)}, (ts_sym[]){c->f.m, s->m->none}, NULL,
                                     host_tile(s, IR_f32, 1, &c->f.m, &rows, NULL));
  TS_TRY(finish(s, c, row, rows, panel, accs));
  pass_loop_close(&s->t.b, &l, 0, NULL);
  pass_loop_close(&s->t.b, &each, 0, NULL);
  return TS_OK;
}

// ---- assembly ------------------------------------------------------------------------------------------------------------
typedef struct part_range {
  contract c;
  int64_t first, blocks, panels_per_block;   // of grid axis x
} part_range;

static ts_status emit_part(host_schedule *s, const part_range *r, ir_value *x, bool prefill) {
  ir_builder *b = &s->t.b;
  ir_value *block = pass_add(b, x, pass_int(b, -r->first));
  const ir_type *i64 = ir_scalar_type(s->m, IR_i64);
  ir_op *y = ir_build(b, IR_OP_pid, 0, NULL, 1, &i64);
  ir_set_int(b, y, "axis", 1);
  ir_value *first = pass_mul_const(b, block, r->panels_per_block);
  ir_value *end = pass_add(b, first, pass_int(b, r->panels_per_block));
  if (r->c.panels % r->panels_per_block) end = ir_apply_op(b, IR_SCALAR_min, end, pass_int(b, r->c.panels), NULL);
  if (!prefill) return decode_part(s, &r->c, first, end, y->results[0]);
  // Block y of B covers rows floor(y m / B) .. floor((y + 1) m / B).
  const ir_size *M = pass_axis_size(r->c.f.part, r->c.f.m), *B = ir_size_ceildiv(s->m->sizes, M, ir_size_const(s->m->sizes, ROW_BLOCK));
  ir_value *m = ir_size_value(b, M), *count = ir_size_value(b, B);
  ir_value *lo = ir_apply_op(b, IR_SCALAR_div, ir_apply_op(b, IR_SCALAR_mul, y->results[0], m, NULL), count, NULL);
  ir_value *next = pass_add(b, y->results[0], pass_int(b, 1));
  ir_value *hi = ir_apply_op(b, IR_SCALAR_div, ir_apply_op(b, IR_SCALAR_mul, next, m, NULL), count, NULL);
  return prefill_part(s, &r->c, first, end, lo, hi);
}

// Parts p.. of the kernel: `if x < end of p then p else the rest`.
static ts_status emit_parts(host_schedule *s, const part_range *ranges, size_t count, size_t p, ir_value *x, bool prefill) {
  if (p + 1 == count) return emit_part(s, &ranges[p], x, prefill);
  ir_builder *b = &s->t.b;
  ir_value *mine = ir_apply_op(b, IR_SCALAR_lt, x, pass_int(b, ranges[p].first + ranges[p].blocks), NULL);
  ir_op *branch = ir_if(b, mine, 0, NULL);
  ir_region *outside = b->region;
  b->region = branch->regions[0];
  TS_TRY(emit_part(s, &ranges[p], x, prefill));
  ir_yield(b, 0, NULL);
  b->region = branch->regions[1];
  TS_TRY(emit_parts(s, ranges, count, p + 1, x, prefill));
  ir_yield(b, 0, NULL);
  b->region = outside;
  return TS_OK;
}

static ts_status build_variant(host_schedule *s, bool prefill) {
  size_t count = s->from->parts.count;
  part_range *ranges = ts_new_array(s->m->arena, part_range, count);
  int64_t blocks = 0, panels = 0;
  for (size_t p = 0; p < count; p++) {
    TS_TRY(analyse(s, &s->from->parts.data[p], &ranges[p].c));
    panels += ranges[p].c.panels;
  }
  for (size_t p = 0; p < count; p++) {
    // Panels of one block share the staged rows; about 48 (decode) or 6 (prefill, for every 128 rows) blocks keep threads busy.
    int64_t per = prefill ? (panels + 5) / 6 : panels / 48;
    ranges[p].panels_per_block = per < 1 ? 1 : per > 16 ? 16 : per;
    ranges[p].first = blocks;
    ranges[p].blocks = (ranges[p].c.panels + ranges[p].panels_per_block - 1) / ranges[p].panels_per_block;
    blocks += ranges[p].blocks;
  }
  const ir_size *M = pass_axis_size(ranges[0].c.f.part, ranges[0].c.f.m);
  s->kernel->grid[0] = ir_size_const(s->m->sizes, blocks);
  s->kernel->grid[1] = prefill ? ir_size_ceildiv(s->m->sizes, M, ir_size_const(s->m->sizes, ROW_BLOCK)) : M;
  const ir_type *i64 = ir_scalar_type(s->m, IR_i64);
  ir_op *x = ir_build(&s->t.b, IR_OP_pid, 0, NULL, 1, &i64);
  ir_set_int(&s->t.b, x, "axis", 0);
  return emit_parts(s, ranges, count, 0, x->results[0], prefill);
}

ts_status host_contract(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out) {
  for (size_t i = 0; i < p->parts.count; i++)
    if (p->parts.data[i].family != IR_FAMILY_CONTRACT)
      return ts_report(m->diags, p->loc, &diag_pass_unsupported, "rule mixed-families: kernel %s mixes families", p->name);
  *out = (pass_schedules){0};
  for (int prefill = 1; prefill >= 0; prefill--) {
    host_schedule s;
    const char *variant = prefill ? "prefill" : "decode";
    ts_status status = host_begin(&s, m, p, t, prefill ? NULL : log, variant);
    if (status == TS_OK) status = build_variant(&s, prefill);
    const ir_size *guard = NULL;
    if (prefill && status == TS_OK) {   // m >= 8, as floordiv(m, 8) >= 1
      const ir_size *M = NULL;
      for (size_t i = 0; i < p->parts.data[0].axes.count; i++)
        if (strcmp(p->parts.data[0].axes.data[i].name, "m") == 0) M = p->parts.data[0].axes.data[i].size;
      guard = ir_size_floordiv(m->sizes, M, ir_size_const(m->sizes, 8));
    }
    if (status == TS_OK) ts_vec_push(m->arena, &out->variants, host_end(&s, guard, variant));
    host_deinit(&s);
    if (status != TS_OK) return status;
  }
  return TS_OK;
}
