// Emission of attend as a portable kernel of family `attend` (see lower.h).
//
// Axes: b lists, s query positions, h KV heads, g query heads per KV head, t key positions (reduced), d head size (reduced in the
// score), e value channels. Keys and values come from the pages of a state through a pages map, or from tensors [b, t, h, d].
// The score is in base 2: scale * log2(e) is folded into the query.
#include "passes/lower_internal.h"

#include <math.h>

typedef struct attend_axes {
  ts_sym b, s, h, g, t, d, e;
  const ir_size *B, *S, *H, *G, *T, *D;
} attend_axes;

static ir_value *coordinate(emitter *e, ts_sym axis, const ir_size *extent) {
  const ir_type *t = ir_tile_type(e->m, IR_i64, 1, &axis, &extent);
  ir_op *op = ir_build(&e->b, IR_OP_axis, 0, NULL, 1, &t);
  ir_set_sym(&e->b, op, "name", axis);
  return op->results[0];
}

// i32[b] lengths of a buffer kind, widened, as a tile over axis b.
static ir_value *lengths(emitter *e, const attend_axes *x, plan_buffer buffer, const char *name) {
  const ir_type *t = ir_tile_type(e->m, IR_i32, 1, &x->b, &x->B);
  ir_value *mem = emit_param(e, lower_add_buffer(e->L, buffer), ir_mem_type(e->m, IR_i32, 1, &x->B, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, name);
  ir_value *zero = emit_zero(e);
  return ir_cast(&e->b, ir_load(&e->b, mem, &zero, &x->b, NULL, t), IR_i64);
}

static ir_value *load_query(emitter *e, const attend_axes *x, ir_value *q, double scale) {
  ts_sym at[5] = {x->b, x->s, x->h, x->g, x->d};
  const ir_size *shape[5] = {x->B, x->S, x->H, x->G, x->D};
  ir_value *zero = emit_zero(e), *index[5] = {zero, zero, zero, zero, zero};
  ir_value *mem = emit_param(e, lower_buffer_of(e->L, lower_root(e->L, q)), ir_mem_type(e->m, q->type->dtype, 5, shape, NULL, IR_SPACE_GLOBAL, NULL),
                             IR_PARAM_IN, q->name ? q->name : "q");
  ir_value *tile = ir_load(&e->b, mem, index, at, NULL, ir_tile_type(e->m, q->type->dtype, 5, at, shape));
  return ir_apply_op(&e->b, IR_SCALAR_mul, tile, ir_const_real(&e->b, q->type->dtype, scale * M_LOG2E), NULL);
}

// Keys or values of a state as a tile [b, t, h, channel].
static ir_value *load_pages(emitter *e, const attend_axes *x, const ir_op *op, const char *name, ts_sym channel, ir_value *page, ir_value *slot) {
  const ir_state *state = op->operands[1]->type->state;
  uint32_t field = 0;
  while (field < state->fields.count && strcmp(state->fields.data[field].name, name) != 0) field++;
  const ir_state_field *f = &state->fields.data[field];
  const ir_size *shape[4] = {lower_formal(e->m, "p"), x->H, ir_size_const(e->m->sizes, state->page), x->D};
  uint32_t pool = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_POOL, .name = f->name, .dtype = f->dtype, .state = state, .field = field,
                                                       .layer = (uint32_t)ir_attr_int(op, "layer", 0)});
  ir_value *mem = emit_param(e, pool, ir_mem_type(e->m, f->dtype, 4, shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN,
                             ts_arena_printf(e->m->arena, "%s_pool", name));
  ir_value *zero = emit_zero(e);
  ts_sym at[4] = {e->m->none, x->h, e->m->none, channel};
  ts_sym axes[4] = {x->b, x->t, x->h, channel};
  const ir_size *extents[4] = {x->B, x->T, x->H, x->D};
  return ir_load(&e->b, mem, (ir_value *[]){page, zero, slot, zero}, at, NULL, ir_tile_type(e->m, f->dtype, 4, axes, extents));
}

static ir_value *load_dense(emitter *e, const attend_axes *x, ir_value *v, ts_sym channel) {
  ts_sym at[4] = {x->b, x->t, x->h, channel};
  const ir_size *shape[4] = {x->B, x->T, x->H, x->D};
  ir_value *zero = emit_zero(e), *index[4] = {zero, zero, zero, zero};
  ir_value *mem = emit_param(e, lower_buffer_of(e->L, lower_root(e->L, v)), ir_mem_type(e->m, v->type->dtype, 4, shape, NULL, IR_SPACE_GLOBAL, NULL),
                             IR_PARAM_IN, v->name ? v->name : "kv");
  return ir_load(&e->b, mem, index, at, NULL, ir_tile_type(e->m, v->type->dtype, 4, at, shape));
}

static ts_status attend_update(emitter *e, const attend_axes *x, const ir_op *op, ir_value **m, ir_value **l, ir_value **o) {
  bool paged = op->operands[1]->type->kind == IR_TYPE_STATE;
  ts_sym mask = ir_attr_sym(op, "mask"), over = ir_attr_sym(op, "over");
  bool causal = mask && strcmp(mask, "causal") == 0;
  ir_value *q = load_query(e, x, op->operands[0], ir_attr_real(op, "scale", 1.0));
  ir_value *t = coordinate(e, x->t, x->T), *s = coordinate(e, x->s, x->S), *b = coordinate(e, x->b, x->B);
  const ir_size **bound = ts_new_array(e->m->arena, const ir_size *, 1);
  *bound = op->operands[0]->type->shape[0];
  ir_value *keep = NULL, *k, *v, *valid = NULL;
  if (over) valid = lengths(e, x, (plan_buffer){.kind = PLAN_RAGGED, .name = over, .dtype = IR_i32, .rank = 1, .shape = bound, .dim = over}, "rows");
  if (paged) {
    const ir_state *state = op->operands[1]->type->state;
    ir_value *past = lengths(e, x, (plan_buffer){.kind = PLAN_LENGTH, .name = state->name, .dtype = IR_i32, .rank = 1, .shape = bound, .state = state}, "length");
    if (causal) {
      keep = ir_apply_op(&e->b, IR_SCALAR_le, t, ir_apply_op(&e->b, IR_SCALAR_add, past, s, NULL), NULL);
      if (valid) {   // the list ends before rows of padding do; schedules read no page behind its end
        ir_value *end = ir_apply_op(&e->b, IR_SCALAR_add, past, valid, NULL);
        keep = ir_apply_op(&e->b, IR_SCALAR_and, keep, ir_apply_op(&e->b, IR_SCALAR_lt, t, end, NULL), NULL);
      }
    } else {
      ir_value *end = valid ? ir_apply_op(&e->b, IR_SCALAR_add, past, valid, NULL) : past;
      keep = ir_apply_op(&e->b, IR_SCALAR_lt, t, end, NULL);
    }
    const ir_size *pages_shape[2] = {x->B, lower_formal(e->m, "w")};
    const ir_size **full = ts_new_array(e->m->arena, const ir_size *, 2);
    full[0] = *bound, full[1] = ir_size_const(e->m->sizes, (state->length->hi + state->page - 1) / state->page);
    uint32_t pages = lower_add_buffer(e->L, (plan_buffer){.kind = PLAN_PAGES, .name = state->name, .dtype = IR_i32, .rank = 2, .shape = full, .state = state});
    ir_value *table = emit_param(e, pages, ir_mem_type(e->m, IR_i32, 2, pages_shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN, "pages");
    ts_sym bt[2] = {x->b, x->t};
    const ir_type *index = ir_tile_type(e->m, IR_i64, 2, bt, (const ir_size *[]){x->B, x->T});
    ir_op *map = ir_build(&e->b, IR_OP_map_at, 3, (ir_value *[]){table, b, t}, 2, (const ir_type *[]){index, index});
    ir_set_sym(&e->b, map, "kind", ir_name(e->m, "pages"));
    ir_set_int(&e->b, map, "granule", state->page);
    k = load_pages(e, x, op, "k", x->d, map->results[0], map->results[1]);
    v = load_pages(e, x, op, "v", x->e, map->results[0], map->results[1]);
  } else {
    if (causal) keep = ir_apply_op(&e->b, IR_SCALAR_le, t, s, NULL);
    else if (valid) keep = ir_apply_op(&e->b, IR_SCALAR_lt, t, valid, NULL);
    k = load_dense(e, x, op->operands[1], x->d);
    v = load_dense(e, x, op->operands[2], x->e);
  }
  if (valid) {   // rows of padding see nothing
    ir_value *real = ir_apply_op(&e->b, IR_SCALAR_lt, s, valid, NULL);
    keep = keep ? ir_apply_op(&e->b, IR_SCALAR_and, keep, real, NULL) : real;
  }
  ts_sym score_axes[5] = {x->b, x->s, x->h, x->g, x->t};
  const ir_size *score_shape[5] = {x->B, x->S, x->H, x->G, x->T};
  ir_value *score = ir_dot(&e->b, q, k, NULL, 1, &x->d, ir_tile_type(e->m, IR_f32, 5, score_axes, score_shape));
  ts_sym out_axes[5] = {x->b, x->s, x->h, x->g, x->e};
  const ir_size *out_shape[5] = {x->B, x->S, x->H, x->G, x->D};
  const ir_type *row = ir_tile_type(e->m, IR_f32, 4, score_axes, score_shape);
  const ir_type *types[3] = {row, row, ir_tile_type(e->m, IR_f32, 5, out_axes, out_shape)};
  ir_op *acc = ir_build(&e->b, IR_OP_softacc, keep ? 3 : 2, (ir_value *[]){score, v, keep}, 3, types);
  ir_set_axes(&e->b, acc, "over", 1, &x->t);
  *m = acc->results[0], *l = acc->results[1], *o = acc->results[2];
  return TS_OK;
}

ts_status emit_attend(lowering *L, uint32_t g) {
  const group *G = &L->groups.data[g];
  const ir_op *op = G->ops.data[0];
  ir_module *m = L->module;
  emitter e = {.L = L, .m = m, .group_number = g, .loc = op->loc, .row_rank = 2, .row_shape = op->operands[0]->type->shape};
  e.kernel = ir_kernel_create(m, NULL, IR_STAGE_P, op->loc);
  e.b = (ir_builder){.module = m, .loc = op->loc};
  const ir_type *q = op->operands[0]->type, *kv = op->operands[1]->type;
  bool paged = kv->kind == IR_TYPE_STATE;
  ts_sym mask = ir_attr_sym(op, "mask");
  if (mask && strcmp(mask, "causal") != 0 && strcmp(mask, "ragged") != 0 && strcmp(mask, "none") != 0)
    return LOWER_REFUSE(L, op->loc, "rule attend-mask: no mask is called %s", mask);
  if (q->rank != 4) return LOWER_REFUSE(L, op->loc, "rule attend-shape: the query is [batch, seq, heads, head size]");
  const ir_size *kv_heads = paged ? kv->state->fields.data[0].shape[1] : kv->shape[2];
  if (!ir_size_is_const(q->shape[2]) || !ir_size_is_const(q->shape[3]) || !ir_size_is_const(kv_heads) || q->shape[2]->value % kv_heads->value)
    return LOWER_REFUSE(L, op->loc, "rule attend-heads: query heads must be a multiple of KV heads, all static");
  attend_axes x = {ir_name(m, "b"), ir_name(m, "s"), ir_name(m, "h"), ir_name(m, "g"), ir_name(m, "t"), ir_name(m, "d"), ir_name(m, "e"),
                   lower_formal(m, "b"), lower_formal(m, "s"), kv_heads, ir_size_const(m->sizes, q->shape[2]->value / kv_heads->value), NULL, q->shape[3]};
  emit_bind(&e, x.B, q->shape[0]);
  emit_bind(&e, x.S, q->shape[1]);
  if (paged) {
    x.T = ir_size_const(m->sizes, kv->state->length->hi);
  } else {
    x.T = lower_formal(m, "t");
    emit_bind(&e, x.T, kv->shape[1]);
  }
  ir_part *part = ir_kernel_part(m, e.kernel, IR_FAMILY_ATTEND, NULL);
  const ir_axis axes[] = {{x.b, IR_AXIS_PAR, x.B}, {x.s, IR_AXIS_PAR, x.S}, {x.h, IR_AXIS_PAR, x.H}, {x.g, IR_AXIS_PAR, x.G},
                          {x.e, IR_AXIS_PAR, x.D}, {x.t, IR_AXIS_RED, x.T}, {x.d, IR_AXIS_RED, x.D}};
  for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) ts_vec_push(m->arena, &part->axes, axes[i]);
  e.b.region = part->update;
  ir_value *acc[3];
  TS_TRY(attend_update(&e, &x, op, &acc[0], &acc[1], &acc[2]));
  ir_yield(&e.b, 3, acc);
  // One softacc sees all keys, so what init gives is only the state of a row without any.
  ir_value *start[3];
  e.b.region = part->init;
  for (int i = 0; i < 3; i++) {
    start[i] = ir_full(&e.b, ir_const_real(&e.b, IR_f32, i == 0 ? -INFINITY : 0), acc[i]->type);
    ir_region_param(m, part->update, acc[i]->type, NULL);
  }
  ir_yield(&e.b, 3, start);
  e.b.region = part->finish;
  ir_value *in[3];
  for (int i = 0; i < 3; i++) in[i] = ir_region_param(m, part->finish, acc[i]->type, NULL);
  ir_dtype f32s[2] = {IR_f32, IR_f32};
  ir_fn_builder f;   // o / l, and 0 for a row without keys
  ir_fn_begin(&f, m, 2, f32s);
  uint32_t zero = ir_fn_real(&f, IR_f32, 0), some = ir_fn_op(&f, IR_SCALAR_ne, 1, zero, 0);
  uint32_t r = ir_fn_op(&f, IR_SCALAR_select, some, ir_fn_op(&f, IR_SCALAR_div, 0, 1, 0), zero);
  ir_value *y = ir_apply(&e.b, ir_fn_end(&f, 1, &r), 2, (ir_value *[]){in[2], in[1]});
  ir_value *out = op->results[0];
  ts_sym at[5] = {x.b, x.s, x.h, x.g, x.e};
  const ir_size *shape[5] = {x.B, x.S, x.H, x.G, x.D};
  ir_value *origin = emit_zero(&e), *index[5] = {origin, origin, origin, origin, origin};
  ir_value *mem = emit_param(&e, lower_buffer_of(L, out), ir_mem_type(m, out->type->dtype, 5, shape, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_OUT,
                             out->name ? out->name : "y");
  ir_store(&e.b, mem, index, at, ir_cast(&e.b, y, out->type->dtype), NULL);
  pass_say(L->log, "fuse", NULL, op->loc, "attend is a kernel of its own: %lld query heads share each KV head", (long long)x.G->value);
  return emit_finish_kernel(&e, "attend");
}
