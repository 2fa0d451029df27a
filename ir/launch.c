// Launch IR: building, expressions, verifier (see launch.h).
#include "ir/launch.h"

#include "base/checked.h"

#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "ir/launch_diag.def"
#undef TS_DIAG

ir_launch *ir_launch_new(ts_arena *a, ts_interner *names, ts_sym name, ts_sym device_class) {
  ir_launch *p = ts_new(a, ir_launch);
  *p = (ir_launch){.arena = a, .names = names, .name = name, .device_class = device_class};
  return p;
}

uint32_t ir_launch_add_dim(ir_launch *p, ir_ldim dim) {
  ts_vec_push(p->arena, &p->dims, dim);
  return (uint32_t)(p->dims.count - 1);
}

uint32_t ir_launch_add_weight(ir_launch *p, ir_lweight weight) {
  ts_vec_push(p->arena, &p->weights, weight);
  return (uint32_t)(p->weights.count - 1);
}

ir_lstate *ir_launch_add_state(ir_launch *p, ts_sym name, uint32_t rows_dim, int64_t max_length, uint32_t page) {
  ir_lstate *s = ts_new(p->arena, ir_lstate);
  *s = (ir_lstate){.name = name, .rows = rows_dim, .max_length = max_length, .page = page};
  ts_vec_push(p->arena, &p->states, s);
  return s;
}

uint32_t ir_launch_add_list(ir_launch *p, ir_lstate *s, ir_llist list) {
  ts_vec_push(p->arena, &s->lists, list);
  return (uint32_t)(s->lists.count - 1);
}

uint32_t ir_launch_add_pool(ir_launch *p, ir_lstate *s, ir_lpool pool) {
  if (!pool.type) pool.type = ts_intern_z(p->names, "");
  ts_vec_push(p->arena, &s->pools, pool);
  return (uint32_t)(s->pools.count - 1);
}

ir_lkernel *ir_launch_add_kernel(ir_launch *p, ts_sym name, uint32_t pointers, uint32_t sizes) {
  ir_lkernel *k = ts_new(p->arena, ir_lkernel);
  *k = (ir_lkernel){.name = name, .pointers = pointers, .sizes = sizes};
  ts_vec_push(p->arena, &p->kernels, k);
  return k;
}

uint32_t ir_launch_add_raise(ir_launch *p, ir_lkernel *k, ts_sym text, ts_loc loc) {
  ts_vec_push(p->arena, &k->raises, ((ir_lraise){text, loc}));
  return (uint32_t)k->raises.count;
}

ir_lfunction *ir_launch_add_function(ir_launch *p, ts_sym name, ts_loc loc) {
  ir_lfunction *f = ts_new(p->arena, ir_lfunction);
  *f = (ir_lfunction){.name = name, .loc = loc, .program = p};
  ts_vec_push(p->arena, &p->functions, f);
  return f;
}

uint32_t ir_launch_add_value(ir_lfunction *f, ir_lvalue value) {
  ts_vec_push(f->program->arena, &f->values, value);
  return (uint32_t)(f->values.count - 1);
}

uint32_t ir_launch_add_buffer(ir_lfunction *f, ir_lbuffer buffer) {
  ir_launch *p = f->program;
  if (!buffer.name) buffer.name = ts_intern_z(p->names, ts_arena_printf(p->arena, "b%zu", f->buffers.count));
  ts_vec_push(p->arena, &f->buffers, buffer);
  return (uint32_t)(f->buffers.count - 1);
}

ir_lstep *ir_launch_add_step(ir_lfunction *f, ir_lstep_kind kind, ts_loc loc) {
  ir_lstep step = {.kind = kind, .loc = loc, .bytes = IR_LNONE, .condition = IR_LNONE, .dim = IR_LNONE, .by = IR_LNONE};
  step.dst.offset = step.src.offset = IR_LNONE;
  ts_vec_push(f->program->arena, &f->steps, step);
  return &f->steps.data[f->steps.count - 1];
}

ir_lvariant *ir_launch_add_variant(ir_lfunction *f, ir_lstep *s, uint32_t kernel) {
  ir_lexpr one = ir_launch_const(f, 1);
  ir_lvariant v = {.guard = IR_LNONE, .kernel = kernel, .grid = {one, one, one}};
  ts_vec_push(f->program->arena, &s->variants, v);
  return &s->variants.data[s->variants.count - 1];
}

// --- Expressions ------------------------------------------------------------------------------------------------------

static const char *const op_names[IR_L_COUNT] = {
  [IR_L_const] = "const",
#define IR_LAUNCH_LEAF(id, text, args) [IR_L_##id] = #id,
#define IR_LAUNCH_OP(id, text, infix) [IR_L_##id] = #id,
#include "ir/launch.def"
#undef IR_LAUNCH_LEAF
#undef IR_LAUNCH_OP
};
const char *ir_lop_name(ir_lop op) { return (unsigned)op < IR_L_COUNT ? op_names[op] : "?"; }

static bool is_op(ir_lop op) { return op >= IR_L_add; }

static bool fold(ir_lop op, int64_t a, int64_t b, int64_t *out) {
  switch (op) {
    case IR_L_add: return ts_add_i64(a, b, out);
    case IR_L_sub: return ts_sub_i64(a, b, out);
    case IR_L_mul: return ts_mul_i64(a, b, out);
    case IR_L_floordiv:
    case IR_L_ceildiv:
    case IR_L_mod:
      if (b <= 0) return false;
      *out = op == IR_L_mod ? ts_floor_mod(a, b) : op == IR_L_ceildiv ? ts_ceil_div(a, b) : ts_floor_div(a, b);
      return true;
    case IR_L_min: *out = a < b ? a : b; return true;
    case IR_L_max: *out = a > b ? a : b; return true;
    case IR_L_lt: *out = a < b; return true;
    case IR_L_le: *out = a <= b; return true;
    case IR_L_eq: *out = a == b; return true;
    case IR_L_ne: *out = a != b; return true;
    case IR_L_and: *out = a && b; return true;
    case IR_L_or: *out = a || b; return true;
    default: return false;
  }
}

static size_t node_hash(const ir_lnode *n) {
  struct {
    uint64_t op, a, b, value;
  } key = {n->op, n->a, n->b, (uint64_t)n->value};
  return (size_t)ts_hash_bytes(&key, sizeof key, 0);
}

static bool same_node(const ir_lnode *x, const ir_lnode *y) {
  return x->op == y->op && x->a == y->a && x->b == y->b && x->value == y->value;
}

// Slots hold node + 1; kept at most half full.
static void grow_shared(ir_lfunction *f) {
  f->shared_size = f->shared_size ? f->shared_size * 2 : 64;
  f->shared = ts_new_array(f->program->arena, uint32_t, f->shared_size);
  for (size_t i = 0; i < f->nodes.count; i++) {
    size_t at = node_hash(&f->nodes.data[i]) & (f->shared_size - 1);
    while (f->shared[at]) at = (at + 1) & (f->shared_size - 1);
    f->shared[at] = (uint32_t)i + 1;
  }
}

static ir_lexpr add_node(ir_lfunction *f, ir_lnode n) {
  if ((f->nodes.count + 1) * 2 > f->shared_size) grow_shared(f);
  size_t at = node_hash(&n) & (f->shared_size - 1);
  for (; f->shared[at]; at = (at + 1) & (f->shared_size - 1))
    if (same_node(&f->nodes.data[f->shared[at] - 1], &n)) return f->shared[at] - 1;
  ts_vec_push(f->program->arena, &f->nodes, n);
  f->shared[at] = (uint32_t)f->nodes.count;
  return (ir_lexpr)(f->nodes.count - 1);
}

ir_lexpr ir_launch_const(ir_lfunction *f, int64_t v) { return add_node(f, (ir_lnode){.op = IR_L_const, .value = v}); }

ir_lexpr ir_launch_leaf(ir_lfunction *f, ir_lop leaf, uint32_t a, uint32_t b) {
  return add_node(f, (ir_lnode){.op = leaf, .a = a, .b = b});
}

ir_lexpr ir_launch_op(ir_lfunction *f, ir_lop op, ir_lexpr a, ir_lexpr b) {
  const ir_lnode *x = &f->nodes.data[a], *y = &f->nodes.data[b];
  bool cx = x->op == IR_L_const, cy = y->op == IR_L_const;
  int64_t v;
  if (cx && cy && fold(op, x->value, y->value, &v)) return ir_launch_const(f, v);
  if (cx && !cy && (op == IR_L_add || op == IR_L_mul)) return ir_launch_op(f, op, b, a);   // constants stand on the right
  if (a == b && (op == IR_L_min || op == IR_L_max)) return a;
  if (cy) {
    if (y->value == 0 && (op == IR_L_add || op == IR_L_sub)) return a;
    if (y->value == 1 && (op == IR_L_mul || op == IR_L_floordiv || op == IR_L_ceildiv)) return a;
    if ((y->value == 0 && op == IR_L_mul) || (y->value == 1 && op == IR_L_mod)) return ir_launch_const(f, 0);
  }
  return add_node(f, (ir_lnode){.op = op, .a = a, .b = b});
}

bool ir_launch_eval(const ir_lfunction *f, ir_lexpr e, ir_lleaf_fn *leaf, void *user, int64_t *out) {
  if (e >= f->nodes.count) return false;
  // Needed nodes are marked from the root down, then computed from the leaves up: no recursion, however deep the chain.
  int64_t *values = calloc((size_t)e + 1, sizeof *values);
  char *needed = calloc((size_t)e + 1, 1);
  bool ok = values && needed;
  if (ok) needed[e] = 1;
  for (size_t i = (size_t)e + 1; ok && i-- > 0;) {
    const ir_lnode *n = &f->nodes.data[i];
    if (!needed[i] || !is_op(n->op)) continue;
    ok = n->a < i && n->b < i;
    if (ok) needed[n->a] = needed[n->b] = 1;
  }
  for (size_t i = 0; ok && i <= e; i++) {
    const ir_lnode *n = &f->nodes.data[i];
    if (!needed[i]) continue;
    if (n->op == IR_L_const) values[i] = n->value;
    else if (is_op(n->op)) ok = fold(n->op, values[n->a], values[n->b], &values[i]);
    else ok = leaf && leaf(user, n->op, n->a, n->b, &values[i]);
  }
  if (ok) *out = values[e];
  free(values);
  free(needed);
  return ok;
}

// --- Looking up and lifetimes --------------------------------------------------------------------------------------------

uint32_t ir_launch_find_dim(const ir_launch *p, ts_sym name) {
  for (size_t i = 0; i < p->dims.count; i++)
    if (p->dims.data[i].name == name) return (uint32_t)i;
  return IR_LNONE;
}

uint32_t ir_launch_find_kernel(const ir_launch *p, ts_sym name) {
  for (size_t i = 0; i < p->kernels.count; i++)
    if (p->kernels.data[i]->name == name) return (uint32_t)i;
  return IR_LNONE;
}

ir_lfunction *ir_launch_find_function(const ir_launch *p, ts_sym name) {
  for (size_t i = 0; i < p->functions.count; i++)
    if (p->functions.data[i]->name == name) return p->functions.data[i];
  return NULL;
}

typedef void touch_fn(void *user, uint32_t buffer, uint32_t step);

static void each_touch(const ir_lfunction *f, touch_fn *fn, void *user) {
  for (size_t i = 0; i < f->steps.count; i++) {
    const ir_lstep *s = &f->steps.data[i];
    for (size_t v = 0; v < s->variants.count; v++)
      for (size_t k = 0; k < s->variants.data[v].args.count; k++) fn(user, s->variants.data[v].args.data[k].buffer, (uint32_t)i);
    if (s->kind == IR_LS_copy || s->kind == IR_LS_fill) fn(user, s->dst.buffer, (uint32_t)i);
    if (s->kind == IR_LS_copy) fn(user, s->src.buffer, (uint32_t)i);
  }
}

static void extend_lifetime(void *user, uint32_t buffer, uint32_t step) {
  ir_lfunction *f = user;
  if (buffer >= f->buffers.count) return;   // the verifier's to report
  ir_lbuffer *b = &f->buffers.data[buffer];
  if (b->first == IR_LNONE) b->first = step;
  b->last = step;
}

void ir_launch_lifetimes(ir_lfunction *f) {
  for (size_t i = 0; i < f->buffers.count; i++) f->buffers.data[i].first = f->buffers.data[i].last = IR_LNONE;
  each_touch(f, extend_lifetime, f);
  for (size_t i = 0; i < f->buffers.count; i++)
    if (f->buffers.data[i].first == IR_LNONE || f->buffers.data[i].kind != IR_LB_workspace)
      f->buffers.data[i].first = f->buffers.data[i].last = 0;
}

// --- Verifier ----------------------------------------------------------------------------------------------------------

typedef struct checker {
  const ir_launch *p;
  const ir_lfunction *f;
  ts_diags *d;
  ts_status status;
} checker;

static void fail(checker *c, ts_loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fail(checker *c, ts_loc loc, const char *fmt, ...) {
  ts_text t = {0};
  if (c->f) ts_text_printf(&t, "function @%s: ", c->f->name ? c->f->name : "?");
  va_list ap;
  va_start(ap, fmt);
  ts_text_vprintf(&t, fmt, ap);
  va_end(ap);
  c->status = ts_report(c->d, loc, &diag_launch_invalid, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
}

#define CHECK(c, condition, loc, ...)          \
  do {                                         \
    if (!(condition)) fail((c), (loc), __VA_ARGS__); \
  } while (0)

static int by_pointer(const void *a, const void *b) {
  uintptr_t x = (uintptr_t)*(const ts_sym *)a, y = (uintptr_t)*(const ts_sym *)b;
  return x < y ? -1 : x > y;
}

// Names are interned: equal pointers are equal names. Sorting keeps this n log n.
static void check_names(checker *c, const char *what, const void *first, size_t stride, size_t count, bool indirect) {
  ts_sym *all = calloc(count ? count : 1, sizeof *all);
  if (!all) return;
  for (size_t i = 0; i < count; i++) {
    const char *item = (const char *)first + i * stride;
    all[i] = *(ts_sym const *)(indirect ? *(const void *const *)item : item);
    if (!all[i]) fail(c, (ts_loc){0}, "%s number %zu has no name", what, i);
  }
  qsort(all, count, sizeof *all, by_pointer);
  for (size_t i = 1; i < count; i++)
    if (all[i] && all[i] == all[i - 1]) fail(c, (ts_loc){0}, "two %ss are named '%s'", what, all[i]);
  free(all);
}
#define CHECK_NAMES(c, what, v) check_names((c), (what), (v).data, sizeof *(v).data, (v).count, false)
#define CHECK_NAMES_INDIRECT(c, what, v) check_names((c), (what), (v).data, sizeof *(v).data, (v).count, true)

static bool ragged(const checker *c, uint32_t dim) { return dim < c->p->dims.count && c->p->dims.data[dim].per != IR_LNONE; }

static void check_shared(checker *c) {
  const ir_launch *p = c->p;
  ts_loc none = {0};
  CHECK(c, p->name && p->device_class, none, "the program needs a name and a device class");
  CHECK_NAMES(c, "dim", p->dims);
  CHECK_NAMES(c, "weight", p->weights);
  CHECK_NAMES_INDIRECT(c, "state", p->states);
  CHECK_NAMES_INDIRECT(c, "kernel", p->kernels);
  CHECK_NAMES_INDIRECT(c, "function", p->functions);
  for (size_t i = 0; i < p->dims.count; i++) {
    const ir_ldim *d = &p->dims.data[i];
    CHECK(c, d->min >= 0 && d->min <= d->max && d->step >= 1, none, "dim @%s: the range must be 0 <= min <= max with step >= 1",
          d->name);
    if (d->per == IR_LNONE) continue;
    CHECK(c, d->per < p->dims.count && !ragged(c, d->per), none, "dim @%s: 'per' must name a dim that is not ragged", d->name);
    CHECK(c, d->max <= INT32_MAX, none, "dim @%s: lengths must be below 2^31", d->name);
  }
  for (size_t i = 0; i < p->states.count; i++) {
    const ir_lstate *s = p->states.data[i];
    CHECK_NAMES(c, "list", s->lists);
    CHECK_NAMES(c, "pool", s->pools);
    CHECK(c, s->rows < p->dims.count && !ragged(c, s->rows), none, "state @%s: rows must be a dim that is not ragged", s->name);
    CHECK(c, s->max_length >= 1 && s->max_length <= INT32_MAX, none, "state @%s: the longest length must be in 1 .. 2^31 - 1",
          s->name);
    CHECK(c, s->page >= 1 && s->page <= 1u << 20, none, "state @%s: a page holds 1 .. 2^20 tokens", s->name);
    CHECK(c, s->lists.count >= 1, none, "state @%s: at least one list is needed", s->name);
    for (size_t k = 0; k < s->pools.count; k++) {
      const ir_lpool *q = &s->pools.data[k];
      CHECK(c, q->list < s->lists.count, none, "pool @%s of state @%s: no list %u", q->name, s->name, q->list);
      CHECK(c, q->layers >= 1 && q->page_bytes >= 1, none, "pool @%s of state @%s: layers and bytes must be positive", q->name,
            s->name);
      CHECK(c, !q->zero || q->page_bytes % 4 == 0, none,
            "pool @%s of state @%s: pages that are zeroed hold a multiple of 4 bytes", q->name, s->name);
    }
  }
  for (size_t i = 0; i < p->kernels.count; i++)
    CHECK(c, p->kernels.data[i]->pointers + (uint64_t)p->kernels.data[i]->sizes <= 256, none,
          "kernel @%s: more than 256 parameters", p->kernels.data[i]->name);
}

static bool leaf_names_something(const checker *c, const ir_lnode *n) {
  const ir_launch *p = c->p;
  switch (n->op) {
    case IR_L_dim: return n->a < p->dims.count;
    case IR_L_longest:
    case IR_L_total: return ragged(c, n->a);
    case IR_L_length: return n->a < p->states.count;
    default: return n->a < p->states.count && n->b < p->states.data[n->a]->lists.count;
  }
}

static void check_nodes(checker *c) {
  const ir_lfunction *f = c->f;
  for (size_t i = 0; i < f->nodes.count; i++) {
    const ir_lnode *n = &f->nodes.data[i];
    if (n->op == IR_L_const) continue;
    if (is_op(n->op)) CHECK(c, n->op < IR_L_COUNT && n->a < i && n->b < i, f->loc, "expression %zu: operands must come first", i);
    else
      CHECK(c, leaf_names_something(c, n), f->loc, "expression %zu: '%s' of something that is not there", i, ir_lop_name(n->op));
  }
}

static bool expr_ok(const checker *c, ir_lexpr e) { return e < c->f->nodes.count; }
static bool expr_or_none(const checker *c, ir_lexpr e) { return e == IR_LNONE || expr_ok(c, e); }

// Which dims a call can know: whole extents of plain values, ragged dims, and the rows of ragged dims and states.
static void check_dims_known(checker *c) {
  const ir_launch *p = c->p;
  const ir_lfunction *f = c->f;
  char *known = calloc(p->dims.count + 1, 1);
  if (!known) return;
  uint32_t rows = IR_LNONE;
  for (size_t i = 0; i < f->values.count; i++)   // an encoded value has a size in bytes, no shape
    for (uint32_t r = 0; !f->values.data[i].encoding && r < f->values.data[i].rank && r < IR_LAUNCH_RANK; r++) {
      ir_lexpr e = f->values.data[i].shape[r];
      if (expr_ok(c, e) && f->nodes.data[e].op == IR_L_dim && f->nodes.data[e].a < p->dims.count) known[f->nodes.data[e].a] = 1;
    }
#define ROWS_ARE(dim)                                                                                       \
  do {                                                                                                      \
    CHECK(c, rows == IR_LNONE || rows == (dim), f->loc, "ragged dims and states must share one dim of rows"); \
    rows = (dim);                                                                                           \
    if (rows < p->dims.count) known[rows] = 1;                                                              \
  } while (0)
  for (size_t i = 0; i < f->nodes.count; i++) {
    const ir_lnode *n = &f->nodes.data[i];
    if ((n->op == IR_L_dim || n->op == IR_L_longest || n->op == IR_L_total) && ragged(c, n->a)) {
      known[n->a] = 1;
      ROWS_ARE(p->dims.data[n->a].per);
    }
    if (n->op == IR_L_length && n->a < p->states.count) ROWS_ARE(p->states.data[n->a]->rows);
  }
  for (size_t i = 0; i < f->buffers.count; i++) {
    const ir_lbuffer *b = &f->buffers.data[i];
    if ((b->kind == IR_LB_pool || b->kind == IR_LB_table || b->kind == IR_LB_length) && b->a < p->states.count)
      ROWS_ARE(p->states.data[b->a]->rows);
    if (b->kind == IR_LB_ragged && ragged(c, b->a)) ROWS_ARE(p->dims.data[b->a].per);
  }
  for (size_t i = 0; i < f->steps.count; i++) {
    const ir_lstep *s = &f->steps.data[i];
    if (s->kind != IR_LS_advance || s->state >= p->states.count) continue;
    ROWS_ARE(p->states.data[s->state]->rows);
    if (s->dim != IR_LNONE && ragged(c, s->dim)) ROWS_ARE(p->dims.data[s->dim].per);
  }
#undef ROWS_ARE
  for (size_t i = 0; i < f->nodes.count; i++)
    if (f->nodes.data[i].op == IR_L_dim && f->nodes.data[i].a < p->dims.count && !known[f->nodes.data[i].a])
      fail(c, f->loc, "dim @%s is no extent of any plain value, so a call cannot know it", p->dims.data[f->nodes.data[i].a].name);
  free(known);
}

static void check_signature(checker *c) {
  const ir_lfunction *f = c->f;
  CHECK_NAMES(c, "value", f->values);
  for (size_t i = 0; i < f->values.count; i++) {
    const ir_lvalue *v = &f->values.data[i];
    CHECK(c, v->type > IR_VOID && v->type < IR_DTYPE_COUNT, v->loc, "value %%%s has no type", v->name);
    CHECK(c, v->rank <= IR_LAUNCH_RANK, v->loc, "value %%%s has more than %d axes", v->name, IR_LAUNCH_RANK);
    for (uint32_t r = 0; r < v->rank && r < IR_LAUNCH_RANK; r++)
      CHECK(c, expr_ok(c, v->shape[r]), v->loc, "value %%%s: axis %u has no extent", v->name, r);
    CHECK(c, expr_or_none(c, v->bytes), v->loc, "value %%%s: its size is no expression", v->name);
  }
}

static void check_buffers(checker *c) {
  const ir_lfunction *f = c->f;
  const ir_launch *p = c->p;
  size_t inputs = 0;
  for (size_t i = 0; i < f->values.count; i++) inputs += !f->values.data[i].output;
  for (size_t i = 0; i < f->buffers.count; i++) {
    const ir_lbuffer *b = &f->buffers.data[i];
    const ir_lstate *s = b->a < p->states.count ? p->states.data[b->a] : NULL;
    bool ok = true;
    switch (b->kind) {
      case IR_LB_input: ok = b->a < inputs; break;
      case IR_LB_output: ok = b->a < f->values.count - inputs; break;
      case IR_LB_weight: ok = b->a < p->weights.count; break;
      case IR_LB_pool: ok = s && b->b < s->pools.count; break;
      case IR_LB_table: ok = s && b->b < s->lists.count; break;
      case IR_LB_length: ok = s != NULL; break;
      case IR_LB_ragged: ok = ragged(c, b->a); break;
      case IR_LB_error: break;
      case IR_LB_workspace:
        ok = expr_ok(c, b->bytes);
        CHECK(c, b->first <= b->last && (f->steps.count == 0 || b->last < f->steps.count), f->loc,
              "buffer %%%s: its lifetime %u .. %u is not within the steps", b->name, b->first, b->last);
        break;
      default: ok = false;
    }
    CHECK(c, ok, f->loc, "buffer %%%s names something that is not there", b->name ? b->name : "?");
  }
  ts_sym *names = calloc(f->buffers.count + 1, sizeof *names);
  if (!names) return;
  for (size_t i = 0; i < f->buffers.count; i++) names[i] = f->buffers.data[i].name;
  check_names(c, "buffer", names, sizeof *names, f->buffers.count, false);
  free(names);
}

static void check_touch(void *user, uint32_t buffer, uint32_t step) {
  checker *c = user;
  const ir_lfunction *f = c->f;
  ts_loc loc = f->steps.data[step].loc;
  if (buffer >= f->buffers.count) {
    fail(c, loc, "step %u: no buffer %u", step, buffer);
    return;
  }
  const ir_lbuffer *b = &f->buffers.data[buffer];
  CHECK(c, b->kind != IR_LB_workspace || (b->first <= step && step <= b->last), loc,
        "step %u touches %%%s outside its lifetime %u .. %u", step, b->name, b->first, b->last);
}

static bool writable(const checker *c, uint32_t buffer) {
  if (buffer >= c->f->buffers.count) return true;   // reported elsewhere
  ir_lbuffer_kind k = c->f->buffers.data[buffer].kind;
  return k == IR_LB_output || k == IR_LB_workspace || k == IR_LB_pool;
}

static void check_variant(checker *c, const ir_lstep *s, size_t step, const ir_lvariant *v) {
  const ir_launch *p = c->p;
  if (v->kernel >= p->kernels.count) {
    fail(c, s->loc, "step %zu: no kernel %u", step, v->kernel);
    return;
  }
  const ir_lkernel *k = p->kernels.data[v->kernel];
  CHECK(c, v->args.count == k->pointers && v->sizes.count == k->sizes, s->loc,
        "step %zu: kernel @%s takes %u pointers and %u sizes, not %zu and %zu", step, k->name, k->pointers, k->sizes, v->args.count,
        v->sizes.count);
  bool ok = expr_or_none(c, v->guard) && expr_ok(c, v->grid[0]) && expr_ok(c, v->grid[1]) && expr_ok(c, v->grid[2]);
  for (size_t i = 0; i < v->args.count; i++) ok &= expr_or_none(c, v->args.data[i].offset);
  for (size_t i = 0; i < v->sizes.count; i++) ok &= expr_ok(c, v->sizes.data[i]);
  CHECK(c, ok, s->loc, "step %zu: a guard, grid, offset or size is no expression", step);
}

static void check_steps(checker *c) {
  const ir_launch *p = c->p;
  const ir_lfunction *f = c->f;
  char *advanced = calloc(p->states.count + 1, 1);
  if (!advanced) return;
  for (size_t i = 0; i < f->steps.count; i++) {
    const ir_lstep *s = &f->steps.data[i];
    switch (s->kind) {
      case IR_LS_launch:
        CHECK(c, s->variants.count >= 1, s->loc, "step %zu: a launch needs a kernel", i);
        for (size_t v = 0; v < s->variants.count; v++) {
          check_variant(c, s, i, &s->variants.data[v]);
          CHECK(c, s->variants.data[v].guard != IR_LNONE || v + 1 == s->variants.count, s->loc,
                "step %zu: variants behind one without a guard never run", i);
        }
        break;
      case IR_LS_copy:
      case IR_LS_fill:
        CHECK(c,
              expr_ok(c, s->bytes) && expr_or_none(c, s->dst.offset) && (s->kind == IR_LS_fill || expr_or_none(c, s->src.offset)),
              s->loc, "step %zu: an offset or size is no expression", i);
        CHECK(c, writable(c, s->dst.buffer), s->loc, "step %zu writes to a buffer that is read only", i);
        break;
      case IR_LS_require:
        CHECK(c, expr_ok(c, s->condition) && s->text, s->loc, "step %zu: 'require' needs a condition and a text", i);
        break;
      case IR_LS_advance:
        CHECK(c, s->state < p->states.count, s->loc, "step %zu: no state %u", i, s->state);
        CHECK(c, (s->dim == IR_LNONE) == expr_ok(c, s->by), s->loc, "step %zu: 'advance' takes a dim or a number of tokens", i);
        CHECK(c, s->dim == IR_LNONE || ragged(c, s->dim), s->loc, "step %zu: 'advance' by a dim that is not ragged", i);
        if (s->state >= p->states.count) break;
        CHECK(c, !advanced[s->state], s->loc, "step %zu: state @%s advances twice", i, p->states.data[s->state]->name);
        advanced[s->state] = 1;
        break;
      default: fail(c, s->loc, "step %zu: unknown kind", i);
    }
  }
  free(advanced);
  each_touch(f, check_touch, c);
}

ts_status ir_launch_verify(const ir_launch *p, ts_diags *d) {
  checker c = {.p = p, .d = d, .status = TS_OK};
  check_shared(&c);
  for (size_t i = 0; i < p->functions.count && c.status == TS_OK; i++) {
    c.f = p->functions.data[i];
    check_nodes(&c);
    if (c.status == TS_OK) check_signature(&c);
    check_buffers(&c);
    if (c.status == TS_OK) check_steps(&c);
    if (c.status == TS_OK) check_dims_known(&c);
  }
  return c.status;
}
