// CUDA schedule of family `attend`: online softmax on the CUDA cores.
//
// A block is one KV head, one list and some query positions; all query heads of the KV head go through the same keys. Per step,
// 32 keys and values for each of KS are copied into panels (rows past the last visible key as zeros, so that what lies in unused
// slots never matters). Scores have a key per lane; the results have the value axis over the lanes; between them the weights of a
// step go through a panel of the warp. In base 2:
//   m' = max(m, max s)   a = 2^(m - m')   p = 2^(s - m')   l' = a l + sum p   o' = a o + sum p v
// prefill: the warps share out the query positions. decode: one position, the warps share out the keys (KS of them), each with its
// own (m, l, o), and meet in panels at the end.
// Only keys up to the last one that any row of the block can see are visited; the mask itself decides inside.
#include "passes/cuda_internal.h"

enum { KEYS = 32, STEP_D = 8, STEP_T = 4, ATTEND_WARPS = 4 };

typedef struct attend {
  cuda_schedule *s;
  pass_attend_form f;
  ts_sym ks, tl, kt, kd, tt;               // ours: warps of keys, key of a warp, staged key, its channel, key of a step of the sum
  int64_t rows, KS;                        // rows: query positions per block
  cuda_placement place, stage, query, last;
  ir_value *q_panel, *k_panel, *v_panel, *p_panel;
  const ir_type *row_type, *score_type, *out_type;   // [ks, q, g], [ks, q, g, tl], [ks, q, g, e]
} attend;

static ts_status analyse(cuda_schedule *s, attend *a) {
  TS_TRY(pass_read_attend(s->m, s->from, &a->f));
  if (a->f.D % STEP_D) return CUDA_REFUSE(s, a->f.k->loc, "rule attend-heads: heads of %lld channels", (long long)a->f.D);
  ir_module *m = s->m;
  a->ks = ir_name(m, "ks"), a->tl = ir_name(m, "tl"), a->kt = ir_name(m, "kt"), a->kd = ir_name(m, "kd"), a->tt = ir_name(m, "tt");
  return TS_OK;
}

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

// Channels: `vector` side by side in a lane, then lanes, the rest in registers. Returns the lanes.
static int64_t place_channels(cuda_placement *p, ts_sym axis, int64_t D, int64_t vector) {
  int64_t power = D & -D, v = least(vector, power), lanes = least(32, power / v);
  cuda_put_digit(p, axis, CUDA_REG, 0, v);
  cuda_put_digit(p, axis, CUDA_LANE, 1, lanes);
  cuda_put_digit(p, axis, CUDA_REG, 0, D / v / lanes);
  return lanes;
}

static ts_status place_all(attend *a) {
  cuda_schedule *s = a->s;
  int64_t power = a->f.D & -a->f.D, keys = KEYS * a->KS, warps = s->kernel->warps;
  bool deep = a->KS > 1;
  cuda_placement *p = &a->place;
  cuda_put_digit(p, a->ks, CUDA_WARP, 1, a->KS);
  if (!deep) cuda_put_digit(p, a->f.q, CUDA_WARP, 1, warps);
  cuda_put_digit(p, a->f.q, CUDA_REG, 0, deep ? a->rows : a->rows / warps);
  cuda_put_digit(p, a->f.g, CUDA_REG, 0, a->f.G);
  cuda_put_digit(p, a->tl, CUDA_LANE, 1, KEYS);
  cuda_put_digit(p, a->f.t, CUDA_LANE, 1, KEYS);
  cuda_put_digit(p, a->f.t, CUDA_WARP, 1, a->KS);
  cuda_put_digit(p, a->tt, CUDA_REG, 0, STEP_T);
  cuda_put_digit(p, a->kd, CUDA_REG, 0, STEP_D);
  place_channels(p, a->f.e, a->f.D, power >= 128 ? 4 : power >= 64 ? 2 : 1);
  // Copies of keys and values.
  int64_t lanes = place_channels(&a->stage, a->kd, a->f.D, 8), row_lanes = 32 / lanes;
  cuda_put_digit(&a->stage, a->kt, CUDA_LANE, lanes, row_lanes);
  cuda_put_digit(&a->stage, a->kt, CUDA_WARP, 1, least(warps, keys / row_lanes));
  cuda_put_digit(&a->stage, a->kt, CUDA_REG, 0, keys / row_lanes / least(warps, keys / row_lanes));
  // The query.
  place_channels(&a->query, a->f.d, a->f.D, 1);
  if (!deep) cuda_put_digit(&a->query, a->f.q, CUDA_WARP, 1, warps);
  cuda_put_digit(&a->query, a->f.q, CUDA_REG, 0, deep ? a->rows : a->rows / warps);
  cuda_put_digit(&a->query, a->f.g, CUDA_REG, 0, a->f.G);
  // The results: warps that shared keys all have them.
  a->last = a->place;
  if (deep) {
    a->last = (cuda_placement){0};
    cuda_put_digit(&a->last, a->ks, CUDA_REG, 0, a->KS);
    cuda_put_digit(&a->last, a->f.q, CUDA_REG, 0, a->rows);
    cuda_put_digit(&a->last, a->f.g, CUDA_REG, 0, a->f.G);
    place_channels(&a->last, a->f.e, a->f.D, power >= 128 ? 4 : power >= 64 ? 2 : 1);
  }
  ts_sym axes[4] = {a->ks, a->f.q, a->f.g, a->tl}, out[4] = {a->ks, a->f.q, a->f.g, a->f.e};
  TS_TRY(cuda_tile(s, p, IR_f32, 3, axes, (int64_t[]){a->KS, a->rows, a->f.G}, &a->row_type));
  TS_TRY(cuda_tile(s, p, IR_f32, 4, axes, (int64_t[]){a->KS, a->rows, a->f.G, KEYS}, &a->score_type));
  return cuda_tile(s, p, IR_f32, 4, out, (int64_t[]){a->KS, a->rows, a->f.G, a->f.D}, &a->out_type);
}

static void set_box(attend *a, ts_sym axis, ir_value *base, int64_t extent, bool tail) {
  pass_set_box(&a->s->t, (pass_box){.axis = axis, .base = base, .extent = extent, .size = pass_axis_size(a->f.part, axis), .row = true, .tail = tail});
}

// [.., from: KS * 32, ..] -> [.., ks, tl, ..]
static ir_value *split_keys(attend *a, ir_value *v, ts_sym from) {
  cuda_schedule *s = a->s;
  ts_sym axes[8], to[2] = {a->ks, a->tl};
  const ir_size *shape[8] = {0};
  unsigned rank = 0;
  for (unsigned d = 0; d < v->type->rank; d++) {
    if (v->type->axes[d] != from) {
      axes[rank] = v->type->axes[d], shape[rank++] = v->type->shape[d];
      continue;
    }
    axes[rank] = a->ks, shape[rank++] = ir_size_const(s->m->sizes, a->KS);
    axes[rank] = a->tl, shape[rank++] = ir_size_const(s->m->sizes, KEYS);
  }
  return pass_relabel(&s->t.b, "split", v, from, 2, to, ir_tile_type(s->m, v->type->dtype, rank, axes, shape));
}

// Keys (or values) t0 .. of all warps on their way to a panel; rows at or past `end` are zero.
static ts_status load_keys(attend *a, const ir_op *load, ir_value *t0, ir_value *end, ir_value **out) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  uint32_t param;
  if (!pass_param_index(s->from, load->operands[0], &param) || !s->t.params[param]) return CUDA_REFUSE(s, load->loc, "rule attend-form: packed keys");
  ir_value *mem = s->t.params[param], *zero = pass_int(b, 0), *list = pass_find_box(&s->t, a->f.b)->base, *head = pass_find_box(&s->t, a->f.h)->base;
  int64_t keys = KEYS * a->KS;
  const ir_type *t, *it;
  TS_TRY(cuda_tile(s, &a->stage, mem->type->dtype, 2, (ts_sym[]){a->kt, a->kd}, (int64_t[]){keys, a->f.D}, &t));
  TS_TRY(cuda_tile(s, &a->stage, IR_i64, 1, &a->kt, &keys, &it));
  ir_value *key = ir_build(b, IR_OP_iota, 1, &t0, 1, &it)->results[0], *mask = ir_apply_op(b, IR_SCALAR_lt, key, end, NULL);
  ir_value *index[4] = {list, t0, head, zero};
  ts_sym none = s->m->none, at[4] = {none, a->kt, none, a->kd};
  if (a->f.map) {
    ir_value *page = ir_load(b, s->t.params[a->f.table_param], (ir_value *[]){list, pass_div_const(b, key, a->f.granule)}, (ts_sym[]){none, none}, mask,
                             ir_type_with_dtype(s->m, it, IR_i32));
    index[0] = ir_cast(b, page, IR_i64), index[1] = head, index[2] = pass_rem_const(b, key, a->f.granule);
    at[1] = none;
  }
  *out = split_keys(a, ir_load(b, mem, index, at, mask, t), a->kt);
  return cuda_place(s, &a->stage);
}

static ts_status stage_keys(attend *a, ir_value *t0, ir_value *end) {
  cuda_schedule *s = a->s;
  ir_value *zero = pass_int(&s->t.b, 0), *index[3] = {zero, zero, zero}, *k, *v;
  TS_TRY(load_keys(a, a->f.k, t0, end, &k));
  TS_TRY(load_keys(a, a->f.v, t0, end, &v));
  cuda_barrier(s);
  ts_sym at[3] = {a->ks, a->tl, a->kd};
  cuda_put(s, a->k_panel, index, at, k);
  cuda_put(s, a->v_panel, index, at, v);
  cuda_barrier(s);
  return TS_OK;
}

static ts_status stage_query(attend *a, ir_value *q0) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *q, *zero = pass_int(b, 0);
  pass_translator_reset(&s->t);
  set_box(a, a->f.q, q0, a->rows, true);
  set_box(a, a->f.g, zero, a->f.G, false);
  set_box(a, a->f.d, zero, a->f.D, false);
  TS_TRY(pass_translate_value(&s->t, a->f.query, &q));
  q = pass_drop_axis(&s->t.b, pass_drop_axis(&s->t.b, ir_cast(b, q, IR_f32), a->f.b), a->f.h);
  TS_TRY(cuda_place(s, &a->query));
  cuda_put(s, a->q_panel, (ir_value *[]){zero, zero, zero}, (ts_sym[]){a->f.q, a->f.g, a->f.d}, q);
  return TS_OK;
}

// Scores of a step: a loop over channels.
static ts_status scores(attend *a, ir_value **out) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *sum = pass_zero(&s->t.b, a->score_type);
  const ir_type *qt, *kt;
  TS_TRY(cuda_tile(s, &a->place, IR_f32, 3, (ts_sym[]){a->f.q, a->f.g, a->kd}, (int64_t[]){a->rows, a->f.G, STEP_D}, &qt));
  TS_TRY(cuda_tile(s, &a->place, a->k_panel->type->dtype, 3, (ts_sym[]){a->ks, a->tl, a->kd}, (int64_t[]){a->KS, KEYS, STEP_D}, &kt));
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, a->f.D), STEP_D, 1, &sum);
  ir_value *zero = pass_int(b, 0), *index[3] = {zero, zero, l.index};
  ir_value *q = cuda_fetch(s, a->q_panel, index, (ts_sym[]){a->f.q, a->f.g, a->kd}, NULL, qt);
  ir_value *k = cuda_fetch(s, a->k_panel, index, (ts_sym[]){a->ks, a->tl, a->kd}, NULL, kt);
  sum = ir_dot(b, q, k, sum, 1, &a->kd, a->score_type);
  pass_loop_close(&s->t.b, &l, 1, &sum);
  *out = sum;
  return TS_OK;
}

static ir_value *finite_base(cuda_schedule *s, ir_value *m) {   // a row that has seen nothing keeps m = -inf; exponents then count from 0
  ir_dtype f32 = IR_f32;
  ir_fn_builder f;
  ir_fn_begin(&f, s->m, 1, &f32);
  uint32_t none = ir_fn_op(&f, IR_SCALAR_eq, 0, ir_fn_real(&f, IR_f32, -__builtin_inf()), 0);
  uint32_t r = ir_fn_op(&f, IR_SCALAR_select, none, ir_fn_real(&f, IR_f32, 0), 0);
  return ir_apply(&s->t.b, ir_fn_end(&f, 1, &r), 1, &m);
}

static ir_value *weight_of(cuda_schedule *s, ir_value *score, ir_value *base) {
  return ir_apply_op(&s->t.b, IR_SCALAR_exp2, ir_apply_op(&s->t.b, IR_SCALAR_sub, score, base, NULL), NULL, NULL);
}

// One step: state = {m, l, o}.
static ts_status update(attend *a, ir_value *q0, ir_value *t0, ir_value **state) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *score;
  TS_TRY(scores(a, &score));
  if (a->f.mask) {
    ir_value *keep;
    pass_translator_reset(&s->t);
    set_box(a, a->f.q, q0, a->rows, true);
    set_box(a, a->f.t, t0, KEYS * a->KS, false);
    TS_TRY(pass_translate_value(&s->t, a->f.mask, &keep));
    keep = pass_drop_axis(&s->t.b, pass_drop_axis(&s->t.b, keep, a->f.b), a->f.h);
    if (ir_type_axis(keep->type, a->f.t) >= 0) keep = split_keys(a, keep, a->f.t);
    TS_TRY(cuda_place(s, &a->place));
    score = ir_apply_op(b, IR_SCALAR_select, keep, score, ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), a->score_type));
  }
  ir_value *next = ir_apply_op(b, IR_SCALAR_max, state[0], ir_reduce(b, score, "max", 1, &a->tl), NULL), *base = finite_base(s, next);
  ir_value *weight = weight_of(s, score, base), *decay = weight_of(s, state[0], base);
  ir_value *l = ir_apply_op(b, IR_SCALAR_fma, state[1], decay, ir_reduce(b, weight, "add", 1, &a->tl));
  ir_value *o = ir_apply_op(b, IR_SCALAR_mul, state[2], decay, NULL);
  TS_TRY(cuda_place(s, &a->place));
  ir_value *zero = pass_int(b, 0);
  cuda_put(s, a->p_panel, (ir_value *[]){zero, zero, zero, zero}, (ts_sym[]){a->ks, a->f.q, a->f.g, a->tl}, weight);
  ir_op *sync = ir_build(b, IR_OP_barrier, 0, NULL, 0, NULL);
  ir_set_sym(b, sync, "scope", ir_name(s->m, "warp"));
  const ir_type *pt, *vt;
  TS_TRY(cuda_tile(s, &a->place, IR_f32, 4, (ts_sym[]){a->ks, a->f.q, a->f.g, a->tt}, (int64_t[]){a->KS, a->rows, a->f.G, STEP_T}, &pt));
  TS_TRY(cuda_tile(s, &a->place, a->v_panel->type->dtype, 3, (ts_sym[]){a->ks, a->tt, a->f.e}, (int64_t[]){a->KS, STEP_T, a->f.D}, &vt));
  pass_loop loop = pass_loop_open(&s->t.b, pass_int(b, 0), pass_int(b, KEYS), STEP_T, 1, &o);
  zero = pass_int(b, 0);
  ir_value *p = cuda_fetch(s, a->p_panel, (ir_value *[]){zero, zero, zero, loop.index}, (ts_sym[]){a->ks, a->f.q, a->f.g, a->tt}, NULL, pt);
  ir_value *v = cuda_fetch(s, a->v_panel, (ir_value *[]){zero, loop.index, zero}, (ts_sym[]){a->ks, a->tt, a->f.e}, NULL, vt);
  o = ir_dot(b, p, v, o, 1, &a->tt, a->out_type);
  pass_loop_close(&s->t.b, &loop, 1, &o);
  sync = ir_build(b, IR_OP_barrier, 0, NULL, 0, NULL);   // the weights are read before the next step's
  ir_set_sym(b, sync, "scope", ir_name(s->m, "warp"));
  state[0] = next, state[1] = l, state[2] = o;
  return TS_OK;
}

// Joins the warps' (m, l, o): each is weighted by 2^(its m - the largest).
static ts_status join(attend *a, ir_value **state) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *zero = pass_int(b, 0), *index[4] = {zero, zero, zero, zero}, *panel[3], *v[3];
  ts_sym at[4] = {a->ks, a->f.q, a->f.g, a->f.e};
  const int64_t shape[4] = {a->KS, a->rows, a->f.G, a->f.D};
  cuda_barrier(s);
  for (unsigned i = 0; i < 3; i++) {
    panel[i] = cuda_alloc(s, IR_f32, i == 2 ? 4 : 3, shape, NULL);
    cuda_put(s, panel[i], index, at, state[i]);
  }
  cuda_barrier(s);
  for (unsigned i = 0; i < 3; i++) {
    const ir_type *t;
    TS_TRY(cuda_tile(s, &a->last, IR_f32, i == 2 ? 4 : 3, at, shape, &t));
    v[i] = cuda_fetch(s, panel[i], index, at, NULL, t);
  }
  ir_value *m = ir_reduce(b, v[0], "max", 1, &a->ks), *w = weight_of(s, v[0], finite_base(s, m));
  state[0] = m;
  state[1] = ir_reduce(b, ir_apply_op(b, IR_SCALAR_mul, v[1], w, NULL), "add", 1, &a->ks);
  state[2] = ir_reduce(b, ir_apply_op(b, IR_SCALAR_mul, v[2], w, NULL), "add", 1, &a->ks);
  return cuda_place(s, &a->last);
}

static ts_status finish(attend *a, ir_value *q0, ir_value **state) {
  cuda_schedule *s = a->s;
  if (a->KS > 1) TS_TRY(join(a, state));
  pass_translator_reset(&s->t);
  set_box(a, a->f.q, q0, a->rows, true);
  set_box(a, a->f.g, pass_int(&s->t.b, 0), a->f.G, false);
  set_box(a, a->f.e, pass_int(&s->t.b, 0), a->f.D, false);
  for (int i = 0; i < 3; i++) {
    ir_value *v = pass_drop_axis(&s->t.b, state[i], a->ks);   // KS 1: an axis of extent 1; else it is gone
    pass_bind_value(&s->t, a->f.part->finish->params[i], pass_add_axis(&s->t.b, pass_add_axis(&s->t.b, v, a->f.h), a->f.b));
  }
  TS_TRY(pass_translate_effects(&s->t, a->f.part->finish));
  return cuda_place(s, &a->last);
}

static ts_status add_params(cuda_schedule *s) {
  for (uint32_t i = 0; i < s->from->params.count; i++) {
    const ir_param *p = &s->from->params.data[i];
    if (p->value->type->encoding) return CUDA_REFUSE(s, s->from->loc, "rule attend-form: %s is stored as %s", p->value->name, p->value->type->encoding->name);
    ts_vec_push(s->m->arena, &s->sources, ((pass_source){.param = i}));
    s->t.params[i] = ir_kernel_param(s->m, s->kernel, p->value->name, p->value->type, p->role);
  }
  return TS_OK;
}

static ts_status build(cuda_schedule *s, bool prefill) {
  attend *a = ts_new(s->m->arena, attend);
  *a = (attend){.s = s};
  TS_TRY(analyse(s, a));
  TS_TRY(add_params(s));
  ir_builder *b = &s->t.b;
  uint32_t param;
  pass_param_index(s->from, a->f.k->operands[0], &param);
  ir_dtype kv = s->t.params[param]->type->dtype;
  int64_t per_key = 2 * (a->f.D + 8) * ir_dtype_bits(kv) / 8, each = (a->f.D + 31) / 32 * a->f.G;
  a->rows = 1, a->KS = 1;
  if (prefill) {
    for (a->rows = 16; a->rows > ATTEND_WARPS && a->rows / ATTEND_WARPS * each > 32;) a->rows /= 2;
    s->kernel->warps = ATTEND_WARPS;
  } else {
    for (a->KS = ATTEND_WARPS; a->KS > 1 && a->KS * KEYS * per_key > 40960;) a->KS /= 2;
    s->kernel->warps = (int)a->KS;
  }
  TS_TRY(place_all(a));
  const ir_axis *x = a->f.part->axes.data;
  s->kernel->grid[0] = x[2].size;
  s->kernel->grid[1] = ir_size_ceildiv(s->m->sizes, x[1].size, ir_size_const(s->m->sizes, a->rows));
  s->kernel->grid[2] = x[0].size;
  ir_value *head = pass_pid(&s->t.b, 0), *q0 = pass_mul_const(b, pass_pid(&s->t.b, 1), a->rows), *list = pass_pid(&s->t.b, 2);
  set_box(a, a->f.h, head, 1, false);
  set_box(a, a->f.b, list, 1, false);
  int64_t pitch = a->f.D + 16 / (ir_dtype_bits(kv) / 8);
  const int64_t keys[3] = {a->KS, KEYS, a->f.D}, padded[3] = {KEYS * pitch, pitch, 1}, q_shape[3] = {a->rows, a->f.G, a->f.D};
  const int64_t p_shape[4] = {a->KS, a->rows, a->f.G, KEYS};
  a->q_panel = cuda_alloc(s, IR_f32, 3, q_shape, NULL);
  a->k_panel = cuda_alloc(s, kv, 3, keys, padded);
  pass_param_index(s->from, a->f.v->operands[0], &param);
  a->v_panel = cuda_alloc(s, s->t.params[param]->type->dtype, 3, keys, NULL);
  a->p_panel = cuda_alloc(s, IR_f32, 4, p_shape, NULL);
  TS_TRY(stage_query(a, q0));
  ir_value *limit = ir_size_value(b, a->f.T), *seen = NULL, *last = pass_add(b, ir_size_value(b, x[1].size), pass_int(b, -1));
  pass_translator_reset(&s->t);
  set_box(a, a->f.q, ir_apply_op(b, IR_SCALAR_min, pass_add(b, q0, pass_int(b, a->rows - 1)), last, NULL), 1, false);
  TS_TRY(pass_key_limit(&s->t, &a->f, a->f.mask, &seen));
  cuda_placement units = {0};
  TS_TRY(cuda_place(s, &units));
  if (seen) limit = ir_apply_op(b, IR_SCALAR_min, limit, seen, NULL);
  ir_value *state[3] = {ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), a->row_type), pass_zero(&s->t.b, a->row_type), pass_zero(&s->t.b, a->out_type)};
  pass_loop l = pass_loop_open(&s->t.b, pass_int(b, 0), limit, KEYS * a->KS, 3, state);
  TS_TRY(stage_keys(a, l.index, limit));
  TS_TRY(update(a, q0, l.index, state));
  pass_loop_close(&s->t.b, &l, 3, state);
  return finish(a, q0, state);
}

ts_status cuda_attend(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out) {
  *out = (pass_schedules){0};
  const ir_size *S = p->parts.data[0].axes.data[1].size;
  for (int prefill = 1; prefill >= 0; prefill--) {
    cuda_schedule s;
    const char *variant = prefill ? "prefill" : "decode";
    ts_status status = cuda_begin(&s, m, p, t, log, variant, ATTEND_WARPS);
    if (status == TS_OK) status = build(&s, prefill);
    if (status == TS_OK) {
      const ir_size *guard = prefill ? ir_size_floordiv(m->sizes, S, ir_size_const(m->sizes, 8)) : NULL;
      ts_vec_push(m->arena, &out->variants, cuda_end(&s, guard, variant));
    }
    cuda_deinit(&s);
    if (status != TS_OK) return status;
  }
  return TS_OK;
}
