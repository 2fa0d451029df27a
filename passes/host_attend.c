// Host schedule of family `attend`: online softmax over chunks of 16 keys.
//
// A block is one KV head, one list and ST query positions; its ST * G rows (G query heads share the KV head) go through the same
// keys. Per chunk, keys and values are copied into panels (rows past the last visible key as zeros, so that what lies in unused
// slots never matters), then every row updates its (m, l, o), in base 2:
//   m' = max(m, max s)   a = 2^(m - m')   p = 2^(s - m')   l' = a l + sum p   o' = a o + sum p v
// Only keys up to the last one that any row of the block can see are visited; the mask itself decides inside.
#include "passes/host_internal.h"

enum { KEYS = 16 };

typedef struct attend {
  host_schedule *s;
  pass_attend_form f;
  int64_t rows;                            // query positions per block
} attend;

static void set_row_box(attend *a, ts_sym axis, ir_value *base, int64_t extent) {
  const ir_size *size = NULL;
  for (size_t i = 0; i < a->f.part->axes.count; i++)
    if (a->f.part->axes.data[i].name == axis) size = a->f.part->axes.data[i].size;
  pass_set_box(&a->s->t, (pass_box){.axis = axis, .base = base, .extent = extent, .size = size, .row = true});
}

static void set_lane_box(attend *a, ts_sym axis, ir_value *base, int64_t extent) {
  set_row_box(a, axis, base, extent);
  pass_find_box(&a->s->t, axis)->row = false;
}

// Copies keys (or values) t0 .. t0 + 15 into a panel f32[KEYS, D]; rows at or past `end` become zero.
static ts_status stage_keys(attend *a, const ir_op *load, ir_value *t0, ir_value *end, ir_value *panel) {
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  uint32_t param;
  if (!pass_param_index(s->from, load->operands[0], &param) || !s->t.params[param]) return HOST_REFUSE(s, load->loc, "rule attend-form: packed keys");
  ts_sym axes[2] = {a->f.t, a->f.d};
  ir_value *mem = s->t.params[param], *zero = pass_int(b, 0), *list = pass_find_box(&s->t, a->f.b)->base, *head = pass_find_box(&s->t, a->f.h)->base;
  const ir_type *t = host_tile(s, mem->type->dtype, 2, axes, (int64_t[]){KEYS, a->f.D}, a->f.d);
  int64_t keys = KEYS;
  const ir_type *it = host_tile(s, IR_i64, 1, &a->f.t, &keys, NULL);
  ir_value *mask = ir_apply_op(b, IR_SCALAR_lt, ir_build(b, IR_OP_iota, 1, &t0, 1, &it)->results[0], end, NULL);
  ir_value *index[4] = {list, t0, head, zero};
  ts_sym at[4] = {s->m->none, a->f.t, s->m->none, a->f.d};
  if (a->f.map) {
    ts_sym none[2] = {s->m->none, s->m->none};
    ir_value *page = ir_load(b, s->t.params[a->f.table_param], (ir_value *[]){list, pass_div_const(b, t0, a->f.granule)}, none, NULL, ir_scalar_type(s->m, IR_i32));
    index[0] = ir_cast(b, page, IR_i64), index[1] = head, index[2] = pass_rem_const(b, t0, a->f.granule);
    at[1] = s->m->none, at[2] = a->f.t;
  }
  ir_value *v = ir_cast(b, ir_load(b, mem, index, at, mask, t), IR_f32);
  ir_store(b, panel, (ir_value *[]){zero, zero}, axes, v, NULL);
  return TS_OK;
}

typedef struct attend_panels {
  ir_value *q, *k, *v, *p, *m, *l, *o;
} attend_panels;

static ir_value *scalar_at(host_schedule *s, ir_value *panel, ir_value *i) {
  return ir_load(&s->t.b, panel, &i, &s->m->none, NULL, ir_scalar_type(s->m, IR_f32));
}

static ir_value *unary(host_schedule *s, ir_scalar op, ir_value *x) { return ir_apply_op(&s->t.b, op, x, NULL, NULL); }

// One row against one chunk.
static ts_status update_row(attend *a, const attend_panels *p, ir_value *row, ir_value *t0) {
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *zero = pass_int(b, 0);
  ts_sym td[2] = {a->f.t, a->f.d}, at_d[2] = {s->m->none, a->f.d}, at_t[1] = {a->f.t};
  int64_t keys = KEYS;
  ir_value *q = ir_load(b, p->q, (ir_value *[]){row, zero}, at_d, NULL, host_tile(s, IR_f32, 1, &a->f.d, &a->f.D, a->f.d));
  ir_value *k = ir_load(b, p->k, (ir_value *[]){zero, zero}, td, NULL, host_tile(s, IR_f32, 2, td, (int64_t[]){KEYS, a->f.D}, a->f.d));
  ir_value *products = ir_dot(b, q, k, NULL, 1, &a->f.d, host_tile(s, IR_f32, 1, &a->f.t, &keys, NULL));
  ir_store(b, p->p, &zero, at_t, products, NULL);
  const ir_type *lanes = host_tile(s, IR_f32, 1, &a->f.t, &keys, a->f.t);
  ir_value *score = ir_load(b, p->p, &zero, at_t, NULL, lanes);
  if (a->f.mask) {
    ir_value *keep;
    set_lane_box(a, a->f.t, t0, KEYS);
    TS_TRY(pass_translate_value(&s->t, a->f.mask, &keep));
    keep = pass_drop_units(&s->t.b, keep, a->f.t);
    ir_value *hidden = ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), lanes);
    score = ir_apply_op(b, IR_SCALAR_select, keep, score, hidden);
  }
  ir_value *m = scalar_at(s, p->m, row), *l = scalar_at(s, p->l, row);
  ir_value *next = ir_apply_op(b, IR_SCALAR_max, m, ir_reduce(b, score, "max", 1, &a->f.t), NULL);
  // A row that has seen nothing keeps m = -inf; exponents then count from 0.
  ir_dtype f32 = IR_f32;
  ir_fn_builder f;
  ir_fn_begin(&f, s->m, 1, &f32);
  uint32_t none = ir_fn_op(&f, IR_SCALAR_eq, 0, ir_fn_real(&f, IR_f32, -__builtin_inf()), 0);
  uint32_t r = ir_fn_op(&f, IR_SCALAR_select, none, ir_fn_real(&f, IR_f32, 0), 0);
  ir_value *base = ir_apply(b, ir_fn_end(&f, 1, &r), 1, &next);
  ir_value *weight = unary(s, IR_SCALAR_exp2, ir_apply_op(b, IR_SCALAR_sub, score, base, NULL));
  ir_value *decay = unary(s, IR_SCALAR_exp2, ir_apply_op(b, IR_SCALAR_sub, m, base, NULL));
  l = ir_apply_op(b, IR_SCALAR_fma, l, decay, ir_reduce(b, weight, "add", 1, &a->f.t));
  ir_store(b, p->m, &row, &s->m->none, next, NULL);
  ir_store(b, p->l, &row, &s->m->none, l, NULL);
  ir_store(b, p->p, &zero, at_t, weight, NULL);
  ir_value *each = ir_load(b, p->p, &zero, at_t, NULL, host_tile(s, IR_f32, 1, &a->f.t, &keys, NULL));
  ir_value *o = ir_load(b, p->o, (ir_value *[]){row, zero}, at_d, NULL, q->type);
  o = ir_apply_op(b, IR_SCALAR_mul, o, decay, NULL);
  ir_value *v = ir_load(b, p->v, (ir_value *[]){zero, zero}, td, NULL, k->type);
  o = ir_dot(b, each, v, o, 1, &a->f.t, o->type);
  ir_store(b, p->o, (ir_value *[]){row, zero}, at_d, o, NULL);
  return TS_OK;
}

typedef ts_status row_body(attend *a, const attend_panels *p, ir_value *row, ir_value *t0);

// Runs `body` for every (query position, head) of the block, with the boxes of q and g set.
static ts_status for_rows(attend *a, const attend_panels *p, ir_value *q0, ir_value *t0, row_body *body) {
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  const ir_size *S = a->f.part->axes.data[1].size;
  pass_loop i = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, a->rows), 1, 0, NULL);
  ir_value *last = pass_add(b, ir_size_value(b, S), pass_int(b, -1));   // positions past the end repeat the last one
  ir_value *q = ir_apply_op(b, IR_SCALAR_min, ir_apply_op(b, IR_SCALAR_add, q0, i.index, NULL), last, NULL);
  pass_loop g = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, a->f.G), 1, 0, NULL);
  pass_translator_reset(&s->t);
  set_row_box(a, a->f.q, q, 1);
  set_row_box(a, a->f.g, g.index, 1);
  TS_TRY(body(a, p, ir_apply_op(b, IR_SCALAR_add, pass_mul_const(b, i.index, a->f.G), g.index, NULL), t0));
  pass_loop_close(&s->t.b, &g, 0, NULL);
  pass_loop_close(&s->t.b, &i, 0, NULL);
  return TS_OK;
}

static ts_status start_row(attend *a, const attend_panels *p, ir_value *row, ir_value *t0) {
  (void)t0;
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *q, *zero = pass_int(b, 0);
  set_lane_box(a, a->f.d, zero, a->f.D);
  TS_TRY(pass_translate_value(&s->t, a->f.query, &q));
  ts_sym at[2] = {s->m->none, a->f.d};
  ir_store(b, p->q, (ir_value *[]){row, zero}, at, ir_cast(b, pass_drop_units(&s->t.b, q, a->f.d), IR_f32), NULL);
  ir_store(b, p->o, (ir_value *[]){row, zero}, at, pass_zero(&s->t.b, host_tile(s, IR_f32, 1, &a->f.d, &a->f.D, a->f.d)), NULL);
  ir_store(b, p->m, &row, &s->m->none, ir_const_real(b, IR_f32, -__builtin_inf()), NULL);
  ir_store(b, p->l, &row, &s->m->none, ir_const_real(b, IR_f32, 0), NULL);
  return TS_OK;
}

// v with unit axes in front for the row's coordinates.
static ir_value *add_units(attend *a, ir_value *v) {
  ts_sym units[4] = {a->f.g, a->f.h, a->f.q, a->f.b};
  for (int i = 0; i < 4; i++) v = pass_add_axis(&a->s->t.b, v, units[i]);
  return v;
}

static ts_status finish_row(attend *a, const attend_panels *p, ir_value *row, ir_value *t0) {
  (void)t0;
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *zero = pass_int(b, 0);
  ts_sym at[2] = {s->m->none, a->f.e};
  set_lane_box(a, a->f.e, zero, a->f.D);
  ir_value *o = ir_load(b, p->o, (ir_value *[]){row, zero}, at, NULL, host_tile(s, IR_f32, 1, &a->f.e, &a->f.D, a->f.e));
  pass_bind_value(&s->t, a->f.part->finish->params[0], add_units(a, scalar_at(s, p->m, row)));
  pass_bind_value(&s->t, a->f.part->finish->params[1], add_units(a, scalar_at(s, p->l, row)));
  pass_bind_value(&s->t, a->f.part->finish->params[2], add_units(a, o));
  return pass_translate_effects(&s->t, a->f.part->finish);
}

static ts_status build(host_schedule *s, int64_t rows) {
  attend a = {.s = s, .rows = rows};
  TS_TRY(pass_read_attend(s->m, s->from, &a.f));
  if (a.f.granule % KEYS) return HOST_REFUSE(s, a.f.k->loc, "rule attend-granule: the host schedule takes pages of a multiple of %d", KEYS);
  ir_builder *b = &s->t.b;
  const ir_axis *x = a.f.part->axes.data;
  s->kernel->grid[0] = x[2].size;
  s->kernel->grid[1] = ir_size_ceildiv(s->m->sizes, x[1].size, ir_size_const(s->m->sizes, rows));
  s->kernel->grid[2] = x[0].size;
  const ir_type *i64 = ir_scalar_type(s->m, IR_i64);
  ir_value *pid[3];
  for (int i = 0; i < 3; i++) {
    ir_op *op = ir_build(b, IR_OP_pid, 0, NULL, 1, &i64);
    ir_set_int(b, op, "axis", i);
    pid[i] = op->results[0];
  }
  set_row_box(&a, a.f.h, pid[0], 1);
  set_row_box(&a, a.f.b, pid[2], 1);
  ir_value *q0 = pass_mul_const(b, pid[1], rows);
  int64_t R = rows * a.f.G, keys = KEYS;
  attend_panels p = {.q = host_alloc(s, IR_f32, 2, (int64_t[]){R, a.f.D}), .k = host_alloc(s, IR_f32, 2, (int64_t[]){KEYS, a.f.D}),
                     .v = host_alloc(s, IR_f32, 2, (int64_t[]){KEYS, a.f.D}), .p = host_alloc(s, IR_f32, 1, &keys), .m = host_alloc(s, IR_f32, 1, &R),
                     .l = host_alloc(s, IR_f32, 1, &R), .o = host_alloc(s, IR_f32, 2, (int64_t[]){R, a.f.D})};
  TS_TRY(for_rows(&a, &p, q0, NULL, start_row));
  ir_value *limit = ir_size_value(b, a.f.T), *seen = NULL;
  ir_value *last = pass_add(b, ir_size_value(b, x[1].size), pass_int(b, -1));
  pass_translator_reset(&s->t);
  set_row_box(&a, a.f.q, ir_apply_op(b, IR_SCALAR_min, pass_add(b, q0, pass_int(b, rows - 1)), last, NULL), 1);
  TS_TRY(pass_key_limit(&s->t, &a.f, a.f.mask, &seen));
  if (seen) limit = ir_apply_op(b, IR_SCALAR_min, limit, seen, NULL);
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), limit, KEYS, 0, NULL);
  TS_TRY(stage_keys(&a, a.f.k, l.index, limit, p.k));
  TS_TRY(stage_keys(&a, a.f.v, l.index, limit, p.v));
  TS_TRY(for_rows(&a, &p, q0, l.index, update_row));
  pass_loop_close(&s->t.b, &l, 0, NULL);
  return for_rows(&a, &p, q0, NULL, finish_row);
}

ts_status host_attend(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out) {
  *out = (pass_schedules){0};
  const ir_size *S = p->parts.data[0].axes.data[1].size;
  for (int prefill = 1; prefill >= 0; prefill--) {
    host_schedule s;
    const char *variant = prefill ? "prefill" : "decode";
    ts_status status = host_begin(&s, m, p, t, log, variant);
    if (status == TS_OK) status = build(&s, prefill ? 8 : 1);
    if (status == TS_OK) {
      const ir_size *guard = prefill ? ir_size_floordiv(m->sizes, S, ir_size_const(m->sizes, 8)) : NULL;
      ts_vec_push(m->arena, &out->variants, host_end(&s, guard, variant));
    }
    host_deinit(&s);
    if (status != TS_OK) return status;
  }
  return TS_OK;
}
