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
  const ir_part *part;
  ts_sym b, q, h, g, t, d, e;              // axes; q is the query position
  const ir_size *T;
  int64_t G, D, rows;                      // rows: query positions per block
  const ir_op *acc, *score, *k, *v, *map;  // P ops: softacc, dot, loads, map.at (NULL: dense)
  ir_value *mask;                          // P value or NULL
} attend;

static ts_status analyse(host_schedule *s, attend *a) {
  a->part = &s->from->parts.data[0];
  const ir_op *yield = a->part->update->last;
  a->acc = yield && yield->operand_count == 3 ? yield->operands[0]->producer : NULL;
  if (s->from->parts.count != 1 || a->part->axes.count != 7 || !a->acc || a->acc->code != IR_OP_softacc)
    return HOST_REFUSE(s, s->from->loc, "rule attend-form: update must end in one softacc");
  const ir_axis *x = a->part->axes.data;
  a->b = x[0].name, a->q = x[1].name, a->h = x[2].name, a->g = x[3].name, a->e = x[4].name, a->t = x[5].name, a->d = x[6].name;
  a->G = x[3].size->value, a->D = x[6].size->value, a->T = x[5].size;
  a->score = a->acc->operands[0]->producer;
  a->v = a->acc->operands[1]->producer;
  a->mask = a->acc->operand_count > 2 ? a->acc->operands[2] : NULL;
  a->k = a->score && a->score->code == IR_OP_dot ? a->score->operands[1]->producer : NULL;
  if (!a->k || a->k->code != IR_OP_load || !a->v || a->v->code != IR_OP_load)
    return HOST_REFUSE(s, a->acc->loc, "rule attend-form: keys and values must be loads");
  const ir_op *row = a->k->operands[1]->producer;
  a->map = row && row->code == IR_OP_map_at ? row : NULL;
  if (a->map && ir_attr_int(a->map, "granule", 0) % KEYS)
    return HOST_REFUSE(s, a->acc->loc, "rule attend-granule: the host schedule takes pages of a multiple of %d", KEYS);
  return TS_OK;
}

static void set_row_box(attend *a, ts_sym axis, ir_value *base, int64_t extent) {
  const ir_size *size = NULL;
  for (size_t i = 0; i < a->part->axes.count; i++)
    if (a->part->axes.data[i].name == axis) size = a->part->axes.data[i].size;
  pass_set_box(&a->s->t, (pass_box){.axis = axis, .base = base, .extent = extent, .size = size, .row = true});
}

static void set_lane_box(attend *a, ts_sym axis, ir_value *base, int64_t extent) {
  set_row_box(a, axis, base, extent);
  pass_find_box(&a->s->t, axis)->row = false;
}

// Drops all axes of extent 1 but `keep`.
static ir_value *drop_units(host_schedule *s, ir_value *v, ts_sym keep) {
  for (unsigned i = 0; i < v->type->rank;) {
    if (v->type->axes[i] == keep || !ir_size_is_value(v->type->shape[i], 1)) {
      i++;
      continue;
    }
    ts_sym axes[8];
    const ir_size *shape[8] = {0};
    unsigned rank = 0;
    for (unsigned k = 0; k < v->type->rank; k++)
      if (k != i) axes[rank] = v->type->axes[k], shape[rank++] = v->type->shape[k];
    const ir_type *t = ir_tile_type(s->m, v->type->dtype, rank, axes, shape);
    if (v->type->lanes && v->type->lanes != v->type->axes[i]) t = ir_type_with_lanes(s->m, t, v->type->lanes);
    ir_op *op = ir_build(&s->t.b, IR_OP_relabel, 1, &v, 1, &t);
    ir_set_sym(&s->t.b, op, "kind", ir_name(s->m, "pick"));
    ir_set_sym(&s->t.b, op, "axis", v->type->axes[i]);
    ir_set_int(&s->t.b, op, "at", 0);
    v = op->results[0];
  }
  return v;
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
  x = drop_units(a->s, x, NULL);
  if (x->type->rank) return TS_OK;
  ir_builder *b = &a->s->t.b;
  if (root->op == IR_SCALAR_le) x = pass_add(b, x, pass_int(b, 1));
  *limit = *limit ? ir_apply_op(b, IR_SCALAR_min, *limit, x, NULL) : x;
  return TS_OK;
}

// Copies keys (or values) t0 .. t0 + 15 into a panel f32[KEYS, D]; rows at or past `end` become zero.
static ts_status stage_keys(attend *a, const ir_op *load, ir_value *t0, ir_value *end, ir_value *panel) {
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  uint32_t param;
  if (!pass_param_index(s->from, load->operands[0], &param) || !s->t.params[param]) return HOST_REFUSE(s, load->loc, "rule attend-form: packed keys");
  ts_sym axes[2] = {a->t, a->d};
  ir_value *mem = s->t.params[param], *zero = pass_int(b, 0), *list = pass_find_box(&s->t, a->b)->base, *head = pass_find_box(&s->t, a->h)->base;
  const ir_type *t = host_tile(s, mem->type->dtype, 2, axes, (int64_t[]){KEYS, a->D}, a->d);
  int64_t keys = KEYS;
  const ir_type *it = host_tile(s, IR_i64, 1, &a->t, &keys, NULL);
  ir_value *mask = ir_apply_op(b, IR_SCALAR_lt, ir_build(b, IR_OP_iota, 1, &t0, 1, &it)->results[0], end, NULL);
  ir_value *index[4] = {list, t0, head, zero};
  ts_sym at[4] = {s->m->none, a->t, s->m->none, a->d};
  if (a->map) {
    int64_t granule = ir_attr_int(a->map, "granule", KEYS);
    uint32_t table;
    if (!pass_param_index(s->from, a->map->operands[0], &table)) return HOST_REFUSE(s, load->loc, "rule attend-form: page table");
    ts_sym none[2] = {s->m->none, s->m->none};
    ir_value *page = ir_load(b, s->t.params[table], (ir_value *[]){list, pass_div_const(b, t0, granule)}, none, NULL, ir_scalar_type(s->m, IR_i32));
    index[0] = ir_cast(b, page, IR_i64), index[1] = head, index[2] = pass_rem_const(b, t0, granule);
    at[1] = s->m->none, at[2] = a->t;
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
  ts_sym td[2] = {a->t, a->d}, at_d[2] = {s->m->none, a->d}, at_t[1] = {a->t};
  int64_t keys = KEYS;
  ir_value *q = ir_load(b, p->q, (ir_value *[]){row, zero}, at_d, NULL, host_tile(s, IR_f32, 1, &a->d, &a->D, a->d));
  ir_value *k = ir_load(b, p->k, (ir_value *[]){zero, zero}, td, NULL, host_tile(s, IR_f32, 2, td, (int64_t[]){KEYS, a->D}, a->d));
  ir_value *products = ir_dot(b, q, k, NULL, 1, &a->d, host_tile(s, IR_f32, 1, &a->t, &keys, NULL));
  ir_store(b, p->p, &zero, at_t, products, NULL);
  const ir_type *lanes = host_tile(s, IR_f32, 1, &a->t, &keys, a->t);
  ir_value *score = ir_load(b, p->p, &zero, at_t, NULL, lanes);
  if (a->mask) {
    ir_value *keep;
    set_lane_box(a, a->t, t0, KEYS);
    TS_TRY(pass_translate_value(&s->t, a->mask, &keep));
    keep = drop_units(s, keep, a->t);
    ir_value *hidden = ir_full(b, ir_const_real(b, IR_f32, -__builtin_inf()), lanes);
    score = ir_apply_op(b, IR_SCALAR_select, keep, score, hidden);
  }
  ir_value *m = scalar_at(s, p->m, row), *l = scalar_at(s, p->l, row);
  ir_value *next = ir_apply_op(b, IR_SCALAR_max, m, ir_reduce(b, score, "max", 1, &a->t), NULL);
  // A row that has seen nothing keeps m = -inf; exponents then count from 0.
  ir_dtype f32 = IR_f32;
  ir_fn_builder f;
  ir_fn_begin(&f, s->m, 1, &f32);
  uint32_t none = ir_fn_op(&f, IR_SCALAR_eq, 0, ir_fn_real(&f, IR_f32, -__builtin_inf()), 0);
  uint32_t r = ir_fn_op(&f, IR_SCALAR_select, none, ir_fn_real(&f, IR_f32, 0), 0);
  ir_value *base = ir_apply(b, ir_fn_end(&f, 1, &r), 1, &next);
  ir_value *weight = unary(s, IR_SCALAR_exp2, ir_apply_op(b, IR_SCALAR_sub, score, base, NULL));
  ir_value *decay = unary(s, IR_SCALAR_exp2, ir_apply_op(b, IR_SCALAR_sub, m, base, NULL));
  l = ir_apply_op(b, IR_SCALAR_fma, l, decay, ir_reduce(b, weight, "add", 1, &a->t));
  ir_store(b, p->m, &row, &s->m->none, next, NULL);
  ir_store(b, p->l, &row, &s->m->none, l, NULL);
  ir_store(b, p->p, &zero, at_t, weight, NULL);
  ir_value *each = ir_load(b, p->p, &zero, at_t, NULL, host_tile(s, IR_f32, 1, &a->t, &keys, NULL));
  ir_value *o = ir_load(b, p->o, (ir_value *[]){row, zero}, at_d, NULL, q->type);
  o = ir_apply_op(b, IR_SCALAR_mul, o, decay, NULL);
  ir_value *v = ir_load(b, p->v, (ir_value *[]){zero, zero}, td, NULL, k->type);
  o = ir_dot(b, each, v, o, 1, &a->t, o->type);
  ir_store(b, p->o, (ir_value *[]){row, zero}, at_d, o, NULL);
  return TS_OK;
}

typedef ts_status row_body(attend *a, const attend_panels *p, ir_value *row, ir_value *t0);

// Runs `body` for every (query position, head) of the block, with the boxes of q and g set.
static ts_status for_rows(attend *a, const attend_panels *p, ir_value *q0, ir_value *t0, row_body *body) {
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  const ir_size *S = a->part->axes.data[1].size;
  host_loop i = host_loop_open(s, pass_int(b, 0), pass_int(b, a->rows), 1, 0, NULL);
  ir_value *last = pass_add(b, ir_size_value(b, S), pass_int(b, -1));   // positions past the end repeat the last one
  ir_value *q = ir_apply_op(b, IR_SCALAR_min, ir_apply_op(b, IR_SCALAR_add, q0, i.index, NULL), last, NULL);
  host_loop g = host_loop_open(s, pass_int(b, 0), pass_int(b, a->G), 1, 0, NULL);
  pass_translator_reset(&s->t);
  set_row_box(a, a->q, q, 1);
  set_row_box(a, a->g, g.index, 1);
  TS_TRY(body(a, p, ir_apply_op(b, IR_SCALAR_add, pass_mul_const(b, i.index, a->G), g.index, NULL), t0));
  host_loop_close(s, &g, 0, NULL);
  host_loop_close(s, &i, 0, NULL);
  return TS_OK;
}

static ts_status start_row(attend *a, const attend_panels *p, ir_value *row, ir_value *t0) {
  (void)t0;
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *q, *zero = pass_int(b, 0);
  set_lane_box(a, a->d, zero, a->D);
  TS_TRY(pass_translate_value(&s->t, a->score->operands[0], &q));
  ts_sym at[2] = {s->m->none, a->d};
  ir_store(b, p->q, (ir_value *[]){row, zero}, at, ir_cast(b, drop_units(s, q, a->d), IR_f32), NULL);
  ir_store(b, p->o, (ir_value *[]){row, zero}, at, host_zero(s, host_tile(s, IR_f32, 1, &a->d, &a->D, a->d)), NULL);
  ir_store(b, p->m, &row, &s->m->none, ir_const_real(b, IR_f32, -__builtin_inf()), NULL);
  ir_store(b, p->l, &row, &s->m->none, ir_const_real(b, IR_f32, 0), NULL);
  return TS_OK;
}

// v with unit axes for all of `axes` in front of what it has.
static ir_value *add_units(host_schedule *s, ir_value *v, unsigned count, const ts_sym *axes) {
  for (unsigned i = count; i-- > 0;) {
    ts_sym names[8] = {axes[i]};
    const ir_size *shape[8] = {ir_size_const(s->m->sizes, 1)};
    for (unsigned k = 0; k < v->type->rank; k++) names[1 + k] = v->type->axes[k], shape[1 + k] = v->type->shape[k];
    const ir_type *t = ir_tile_type(s->m, v->type->dtype, v->type->rank + 1, names, shape);
    if (v->type->lanes) t = ir_type_with_lanes(s->m, t, v->type->lanes);
    ir_op *op = ir_build(&s->t.b, IR_OP_relabel, 1, &v, 1, &t);
    ir_set_sym(&s->t.b, op, "kind", ir_name(s->m, "concat"));
    ir_set_sym(&s->t.b, op, "axis", axes[i]);
    v = op->results[0];
  }
  return v;
}

static ts_status finish_row(attend *a, const attend_panels *p, ir_value *row, ir_value *t0) {
  (void)t0;
  host_schedule *s = a->s;
  ir_builder *b = &s->t.b;
  ir_value *zero = pass_int(b, 0);
  ts_sym units[4] = {a->b, a->q, a->h, a->g}, at[2] = {s->m->none, a->e};
  set_lane_box(a, a->e, zero, a->D);
  ir_value *o = ir_load(b, p->o, (ir_value *[]){row, zero}, at, NULL, host_tile(s, IR_f32, 1, &a->e, &a->D, a->e));
  pass_bind_value(&s->t, a->part->finish->params[0], add_units(s, scalar_at(s, p->m, row), 4, units));
  pass_bind_value(&s->t, a->part->finish->params[1], add_units(s, scalar_at(s, p->l, row), 4, units));
  pass_bind_value(&s->t, a->part->finish->params[2], add_units(s, o, 4, units));
  return pass_translate_effects(&s->t, a->part->finish);
}

static ts_status build(host_schedule *s, int64_t rows) {
  attend a = {.s = s, .rows = rows};
  TS_TRY(analyse(s, &a));
  ir_builder *b = &s->t.b;
  const ir_axis *x = a.part->axes.data;
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
  set_row_box(&a, a.h, pid[0], 1);
  set_row_box(&a, a.b, pid[2], 1);
  ir_value *q0 = pass_mul_const(b, pid[1], rows);
  int64_t R = rows * a.G, keys = KEYS;
  attend_panels p = {.q = host_alloc(s, IR_f32, 2, (int64_t[]){R, a.D}), .k = host_alloc(s, IR_f32, 2, (int64_t[]){KEYS, a.D}),
                     .v = host_alloc(s, IR_f32, 2, (int64_t[]){KEYS, a.D}), .p = host_alloc(s, IR_f32, 1, &keys), .m = host_alloc(s, IR_f32, 1, &R),
                     .l = host_alloc(s, IR_f32, 1, &R), .o = host_alloc(s, IR_f32, 2, (int64_t[]){R, a.D})};
  TS_TRY(for_rows(&a, &p, q0, NULL, start_row));
  ir_value *limit = ir_size_value(b, a.T), *seen = NULL;
  ir_value *last = pass_add(b, ir_size_value(b, x[1].size), pass_int(b, -1));
  pass_translator_reset(&s->t);
  set_row_box(&a, a.q, ir_apply_op(b, IR_SCALAR_min, pass_add(b, q0, pass_int(b, rows - 1)), last, NULL), 1);
  TS_TRY(key_limit(&a, a.mask, &seen));
  if (seen) limit = ir_apply_op(b, IR_SCALAR_min, limit, seen, NULL);
  host_loop l = host_loop_open(s, pass_int(b, 0), limit, KEYS, 0, NULL);
  TS_TRY(stage_keys(&a, a.k, l.index, limit, p.k));
  TS_TRY(stage_keys(&a, a.v, l.index, limit, p.v));
  TS_TRY(for_rows(&a, &p, q0, l.index, update_row));
  host_loop_close(s, &l, 0, NULL);
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
