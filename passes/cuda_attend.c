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
  const ir_part *part;
  ts_sym b, q, h, g, t, d, e;              // axes; q is the query position
  ts_sym ks, tl, kt, kd, tt;               // ours: warps of keys, key of a warp, staged key, its channel, key of a step of the sum
  const ir_size *T;
  int64_t G, D, rows, KS;                  // rows: query positions per block
  const ir_op *acc, *score, *k, *v, *map;  // P ops: softacc, dot, loads, map.at (NULL: dense)
  ir_value *mask;                          // P value or NULL
  cuda_placement place, stage, query, last;
  ir_value *q_panel, *k_panel, *v_panel, *p_panel;
  const ir_type *row_type, *score_type, *out_type;   // [ks, q, g], [ks, q, g, tl], [ks, q, g, e]
} attend;

static ts_status analyse(cuda_schedule *s, attend *a) {
  a->part = &s->from->parts.data[0];
  const ir_op *yield = a->part->update->last;
  a->acc = yield && yield->operand_count == 3 ? yield->operands[0]->producer : NULL;
  if (s->from->parts.count != 1 || a->part->axes.count != 7 || !a->acc || a->acc->code != IR_OP_softacc)
    return CUDA_REFUSE(s, s->from->loc, "rule attend-form: update must end in one softacc");
  const ir_axis *x = a->part->axes.data;
  a->b = x[0].name, a->q = x[1].name, a->h = x[2].name, a->g = x[3].name, a->e = x[4].name, a->t = x[5].name, a->d = x[6].name;
  a->G = x[3].size->value, a->D = x[6].size->value, a->T = x[5].size;
  a->score = a->acc->operands[0]->producer;
  a->v = a->acc->operands[1]->producer;
  a->mask = a->acc->operand_count > 2 ? a->acc->operands[2] : NULL;
  a->k = a->score && a->score->code == IR_OP_dot ? a->score->operands[1]->producer : NULL;
  if (!a->k || a->k->code != IR_OP_load || !a->v || a->v->code != IR_OP_load)
    return CUDA_REFUSE(s, a->acc->loc, "rule attend-form: keys and values must be loads");
  if (a->D % STEP_D || !ir_size_is_value(x[4].size, a->D)) return CUDA_REFUSE(s, a->acc->loc, "rule attend-heads: heads of %lld channels", (long long)a->D);
  const ir_op *row = a->k->operands[1]->producer;
  a->map = row && row->code == IR_OP_map_at ? row : NULL;
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
  int64_t power = a->D & -a->D, keys = KEYS * a->KS, warps = s->kernel->warps;
  bool deep = a->KS > 1;
  cuda_placement *p = &a->place;
  cuda_put_digit(p, a->ks, CUDA_WARP, 1, a->KS);
  if (!deep) cuda_put_digit(p, a->q, CUDA_WARP, 1, warps);
  cuda_put_digit(p, a->q, CUDA_REG, 0, deep ? a->rows : a->rows / warps);
  cuda_put_digit(p, a->g, CUDA_REG, 0, a->G);
  cuda_put_digit(p, a->tl, CUDA_LANE, 1, KEYS);
  cuda_put_digit(p, a->t, CUDA_LANE, 1, KEYS);
  cuda_put_digit(p, a->t, CUDA_WARP, 1, a->KS);
  cuda_put_digit(p, a->tt, CUDA_REG, 0, STEP_T);
  cuda_put_digit(p, a->kd, CUDA_REG, 0, STEP_D);
  place_channels(p, a->e, a->D, power >= 128 ? 4 : power >= 64 ? 2 : 1);
  // Copies of keys and values.
  int64_t lanes = place_channels(&a->stage, a->kd, a->D, 8), row_lanes = 32 / lanes;
  cuda_put_digit(&a->stage, a->kt, CUDA_LANE, lanes, row_lanes);
  cuda_put_digit(&a->stage, a->kt, CUDA_WARP, 1, least(warps, keys / row_lanes));
  cuda_put_digit(&a->stage, a->kt, CUDA_REG, 0, keys / row_lanes / least(warps, keys / row_lanes));
  // The query.
  place_channels(&a->query, a->d, a->D, 1);
  if (!deep) cuda_put_digit(&a->query, a->q, CUDA_WARP, 1, warps);
  cuda_put_digit(&a->query, a->q, CUDA_REG, 0, deep ? a->rows : a->rows / warps);
  cuda_put_digit(&a->query, a->g, CUDA_REG, 0, a->G);
  // The results: warps that shared keys all have them.
  a->last = a->place;
  if (deep) {
    a->last = (cuda_placement){0};
    cuda_put_digit(&a->last, a->ks, CUDA_REG, 0, a->KS);
    cuda_put_digit(&a->last, a->q, CUDA_REG, 0, a->rows);
    cuda_put_digit(&a->last, a->g, CUDA_REG, 0, a->G);
    place_channels(&a->last, a->e, a->D, power >= 128 ? 4 : power >= 64 ? 2 : 1);
  }
  ts_sym axes[4] = {a->ks, a->q, a->g, a->tl}, out[4] = {a->ks, a->q, a->g, a->e};
  TS_TRY(cuda_tile(s, p, IR_f32, 3, axes, (int64_t[]){a->KS, a->rows, a->G}, &a->row_type));
  TS_TRY(cuda_tile(s, p, IR_f32, 4, axes, (int64_t[]){a->KS, a->rows, a->G, KEYS}, &a->score_type));
  return cuda_tile(s, p, IR_f32, 4, out, (int64_t[]){a->KS, a->rows, a->G, a->D}, &a->out_type);
}

static void set_box(attend *a, ts_sym axis, ir_value *base, int64_t extent, bool tail) {
  pass_set_box(&a->s->t, (pass_box){.axis = axis, .base = base, .extent = extent, .size = cuda_axis_size(a->part, axis), .row = true, .tail = tail});
}

// Drops an axis of extent 1, if `v` has it.
static ir_value *drop_unit(cuda_schedule *s, ir_value *v, ts_sym axis) {
  int k = ir_type_axis(v->type, axis);
  if (k < 0) return v;
  ts_sym axes[8];
  const ir_size *shape[8] = {0};
  unsigned rank = 0;
  for (unsigned d = 0; d < v->type->rank; d++)
    if ((int)d != k) axes[rank] = v->type->axes[d], shape[rank++] = v->type->shape[d];
  ir_value *r = cuda_relabel(s, "pick", v, axis, 0, NULL, ir_tile_type(s->m, v->type->dtype, rank, axes, shape));
  ir_set_int(&s->t.b, r->producer, "at", 0);
  return r;
}

static ir_value *add_unit(cuda_schedule *s, ir_value *v, ts_sym axis) {
  ts_sym axes[8] = {axis};
  const ir_size *shape[8] = {ir_size_const(s->m->sizes, 1)};
  for (unsigned d = 0; d < v->type->rank; d++) axes[1 + d] = v->type->axes[d], shape[1 + d] = v->type->shape[d];
  return cuda_relabel(s, "concat", v, axis, 0, NULL, ir_tile_type(s->m, v->type->dtype, v->type->rank + 1, axes, shape));
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
  return cuda_relabel(s, "split", v, from, 2, to, ir_tile_type(s->m, v->type->dtype, rank, axes, shape));
}

// The least t that no row may see, from comparisons t < x, t <= x in the mask, with the block's last query position.
static ts_status key_limit(attend *a, ir_value *mask, ir_value **limit) {
  const ir_op *op = mask ? mask->producer : NULL;
  if (!op || op->code != IR_OP_apply) return TS_OK;
  const ir_fn *f = ir_attr_find(op, "fn")->fn;
  const ir_expr *root = &f->nodes[f->outputs[0]];
  if (f->count != f->params + 1 || op->operand_count != 2) return TS_OK;
  if (root->op == IR_SCALAR_and) {
    TS_TRY(key_limit(a, op->operands[0], limit));
    return key_limit(a, op->operands[1], limit);
  }
  const ir_op *left = op->operands[root->args[0]]->producer;
  if ((root->op != IR_SCALAR_lt && root->op != IR_SCALAR_le) || !left || left->code != IR_OP_axis || ir_attr_sym(left, "name") != a->t) return TS_OK;
  ir_value *x;
  TS_TRY(pass_translate_value(&a->s->t, op->operands[root->args[1]], &x));
  ts_sym units[4] = {a->b, a->q, a->h, a->g};
  for (int i = 0; i < 4; i++) x = drop_unit(a->s, x, units[i]);
  if (x->type->rank) return TS_OK;
  ir_builder *b = &a->s->t.b;
  if (root->op == IR_SCALAR_le) x = pass_add(b, x, pass_int(b, 1));
  *limit = *limit ? ir_apply_op(b, IR_SCALAR_min, *limit, x, NULL) : x;
  return TS_OK;
}

// Keys (or values) t0 .. of all warps on their way to a panel; rows at or past `end` are zero.
static ts_status load_keys(attend *a, const ir_op *load, ir_value *t0, ir_value *end, ir_value **out) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  uint32_t param, table;
  if (!pass_param_index(s->from, load->operands[0], &param) || !s->t.params[param]) return CUDA_REFUSE(s, load->loc, "rule attend-form: packed keys");
  ir_value *mem = s->t.params[param], *zero = pass_int(b, 0), *list = pass_find_box(&s->t, a->b)->base, *head = pass_find_box(&s->t, a->h)->base;
  int64_t keys = KEYS * a->KS;
  const ir_type *t, *it;
  TS_TRY(cuda_tile(s, &a->stage, mem->type->dtype, 2, (ts_sym[]){a->kt, a->kd}, (int64_t[]){keys, a->D}, &t));
  TS_TRY(cuda_tile(s, &a->stage, IR_i64, 1, &a->kt, &keys, &it));
  ir_value *key = ir_build(b, IR_OP_iota, 1, &t0, 1, &it)->results[0], *mask = ir_apply_op(b, IR_SCALAR_lt, key, end, NULL);
  ir_value *index[4] = {list, t0, head, zero};
  ts_sym none = s->m->none, at[4] = {none, a->kt, none, a->kd};
  if (a->map) {
    int64_t granule = ir_attr_int(a->map, "granule", 16);
    if (!pass_param_index(s->from, a->map->operands[0], &table)) return CUDA_REFUSE(s, load->loc, "rule attend-form: page table");
    ir_value *page = ir_load(b, s->t.params[table], (ir_value *[]){list, pass_div_const(b, key, granule)}, (ts_sym[]){none, none}, mask,
                             ir_type_with_dtype(s->m, it, IR_i32));
    index[0] = ir_cast(b, page, IR_i64), index[1] = head, index[2] = pass_rem_const(b, key, granule);
    at[1] = none;
  }
  *out = split_keys(a, ir_load(b, mem, index, at, mask, t), a->kt);
  return cuda_place(s, &a->stage);
}

static ts_status stage_keys(attend *a, ir_value *t0, ir_value *end) {
  cuda_schedule *s = a->s;
  ir_value *zero = pass_int(&s->t.b, 0), *index[3] = {zero, zero, zero}, *k, *v;
  TS_TRY(load_keys(a, a->k, t0, end, &k));
  TS_TRY(load_keys(a, a->v, t0, end, &v));
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
  set_box(a, a->q, q0, a->rows, true);
  set_box(a, a->g, zero, a->G, false);
  set_box(a, a->d, zero, a->D, false);
  TS_TRY(pass_translate_value(&s->t, a->score->operands[0], &q));
  q = drop_unit(s, drop_unit(s, ir_cast(b, q, IR_f32), a->b), a->h);
  TS_TRY(cuda_place(s, &a->query));
  cuda_put(s, a->q_panel, (ir_value *[]){zero, zero, zero}, (ts_sym[]){a->q, a->g, a->d}, q);
  return TS_OK;
}

// Scores of a step: a loop over channels.
static ts_status scores(attend *a, ir_value **out) {
  cuda_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *sum = cuda_zero(s, a->score_type);
  const ir_type *qt, *kt;
  TS_TRY(cuda_tile(s, &a->place, IR_f32, 3, (ts_sym[]){a->q, a->g, a->kd}, (int64_t[]){a->rows, a->G, STEP_D}, &qt));
  TS_TRY(cuda_tile(s, &a->place, a->k_panel->type->dtype, 3, (ts_sym[]){a->ks, a->tl, a->kd}, (int64_t[]){a->KS, KEYS, STEP_D}, &kt));
  cuda_loop l = cuda_loop_open(s, pass_int(b, 0), pass_int(b, a->D), STEP_D, 1, &sum);
  ir_value *zero = pass_int(b, 0), *index[3] = {zero, zero, l.index};
  ir_value *q = cuda_fetch(s, a->q_panel, index, (ts_sym[]){a->q, a->g, a->kd}, NULL, qt);
  ir_value *k = cuda_fetch(s, a->k_panel, index, (ts_sym[]){a->ks, a->tl, a->kd}, NULL, kt);
  sum = ir_dot(b, q, k, sum, 1, &a->kd, a->score_type);
  cuda_loop_close(s, &l, 1, &sum);
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
  if (a->mask) {
    ir_value *keep;
    pass_translator_reset(&s->t);
    set_box(a, a->q, q0, a->rows, true);
    set_box(a, a->t, t0, KEYS * a->KS, false);
    TS_TRY(pass_translate_value(&s->t, a->mask, &keep));
    keep = drop_unit(s, drop_unit(s, keep, a->b), a->h);
    if (ir_type_axis(keep->type, a->t) >= 0) keep = split_keys(a, keep, a->t);
    TS_TRY(cuda_place(s, &a->place));
    score = ir_apply_op(b, IR_SCALAR_select, keep, score, ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), a->score_type));
  }
  ir_value *next = ir_apply_op(b, IR_SCALAR_max, state[0], ir_reduce(b, score, "max", 1, &a->tl), NULL), *base = finite_base(s, next);
  ir_value *weight = weight_of(s, score, base), *decay = weight_of(s, state[0], base);
  ir_value *l = ir_apply_op(b, IR_SCALAR_fma, state[1], decay, ir_reduce(b, weight, "add", 1, &a->tl));
  ir_value *o = ir_apply_op(b, IR_SCALAR_mul, state[2], decay, NULL);
  TS_TRY(cuda_place(s, &a->place));
  ir_value *zero = pass_int(b, 0);
  cuda_put(s, a->p_panel, (ir_value *[]){zero, zero, zero, zero}, (ts_sym[]){a->ks, a->q, a->g, a->tl}, weight);
  ir_op *sync = ir_build(b, IR_OP_barrier, 0, NULL, 0, NULL);
  ir_set_sym(b, sync, "scope", ir_name(s->m, "warp"));
  const ir_type *pt, *vt;
  TS_TRY(cuda_tile(s, &a->place, IR_f32, 4, (ts_sym[]){a->ks, a->q, a->g, a->tt}, (int64_t[]){a->KS, a->rows, a->G, STEP_T}, &pt));
  TS_TRY(cuda_tile(s, &a->place, a->v_panel->type->dtype, 3, (ts_sym[]){a->ks, a->tt, a->e}, (int64_t[]){a->KS, STEP_T, a->D}, &vt));
  cuda_loop loop = cuda_loop_open(s, pass_int(b, 0), pass_int(b, KEYS), STEP_T, 1, &o);
  zero = pass_int(b, 0);
  ir_value *p = cuda_fetch(s, a->p_panel, (ir_value *[]){zero, zero, zero, loop.index}, (ts_sym[]){a->ks, a->q, a->g, a->tt}, NULL, pt);
  ir_value *v = cuda_fetch(s, a->v_panel, (ir_value *[]){zero, loop.index, zero}, (ts_sym[]){a->ks, a->tt, a->e}, NULL, vt);
  o = ir_dot(b, p, v, o, 1, &a->tt, a->out_type);
  cuda_loop_close(s, &loop, 1, &o);
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
  ts_sym at[4] = {a->ks, a->q, a->g, a->e};
  const int64_t shape[4] = {a->KS, a->rows, a->G, a->D};
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
  set_box(a, a->q, q0, a->rows, true);
  set_box(a, a->g, pass_int(&s->t.b, 0), a->G, false);
  set_box(a, a->e, pass_int(&s->t.b, 0), a->D, false);
  for (int i = 0; i < 3; i++) {
    ir_value *v = drop_unit(s, state[i], a->ks);   // KS 1: an axis of extent 1; else it is gone
    pass_bind_value(&s->t, a->part->finish->params[i], add_unit(s, add_unit(s, v, a->h), a->b));
  }
  TS_TRY(pass_translate_effects(&s->t, a->part->finish));
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
  pass_param_index(s->from, a->k->operands[0], &param);
  ir_dtype kv = s->t.params[param]->type->dtype;
  int64_t per_key = 2 * (a->D + 8) * ir_dtype_bits(kv) / 8, each = (a->D + 31) / 32 * a->G;
  a->rows = 1, a->KS = 1;
  if (prefill) {
    for (a->rows = 16; a->rows > ATTEND_WARPS && a->rows / ATTEND_WARPS * each > 32;) a->rows /= 2;
    s->kernel->warps = ATTEND_WARPS;
  } else {
    for (a->KS = ATTEND_WARPS; a->KS > 1 && a->KS * KEYS * per_key > 40960;) a->KS /= 2;
    s->kernel->warps = (int)a->KS;
  }
  TS_TRY(place_all(a));
  const ir_axis *x = a->part->axes.data;
  s->kernel->grid[0] = x[2].size;
  s->kernel->grid[1] = ir_size_ceildiv(s->m->sizes, x[1].size, ir_size_const(s->m->sizes, a->rows));
  s->kernel->grid[2] = x[0].size;
  ir_value *head = cuda_pid(s, 0), *q0 = pass_mul_const(b, cuda_pid(s, 1), a->rows), *list = cuda_pid(s, 2);
  set_box(a, a->h, head, 1, false);
  set_box(a, a->b, list, 1, false);
  int64_t pitch = a->D + 16 / (ir_dtype_bits(kv) / 8);
  const int64_t keys[3] = {a->KS, KEYS, a->D}, padded[3] = {KEYS * pitch, pitch, 1}, q_shape[3] = {a->rows, a->G, a->D};
  const int64_t p_shape[4] = {a->KS, a->rows, a->G, KEYS};
  a->q_panel = cuda_alloc(s, IR_f32, 3, q_shape, NULL);
  a->k_panel = cuda_alloc(s, kv, 3, keys, padded);
  pass_param_index(s->from, a->v->operands[0], &param);
  a->v_panel = cuda_alloc(s, s->t.params[param]->type->dtype, 3, keys, NULL);
  a->p_panel = cuda_alloc(s, IR_f32, 4, p_shape, NULL);
  TS_TRY(stage_query(a, q0));
  ir_value *limit = ir_size_value(b, a->T), *seen = NULL, *last = pass_add(b, ir_size_value(b, x[1].size), pass_int(b, -1));
  pass_translator_reset(&s->t);
  set_box(a, a->q, ir_apply_op(b, IR_SCALAR_min, pass_add(b, q0, pass_int(b, a->rows - 1)), last, NULL), 1, false);
  TS_TRY(key_limit(a, a->mask, &seen));
  cuda_placement units = {0};
  TS_TRY(cuda_place(s, &units));
  if (seen) limit = ir_apply_op(b, IR_SCALAR_min, limit, seen, NULL);
  ir_value *state[3] = {ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), a->row_type), cuda_zero(s, a->row_type), cuda_zero(s, a->out_type)};
  cuda_loop l = cuda_loop_open(s, pass_int(b, 0), limit, KEYS * a->KS, 3, state);
  TS_TRY(stage_keys(a, l.index, limit));
  TS_TRY(update(a, q0, l.index, state));
  cuda_loop_close(s, &l, 3, state);
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
