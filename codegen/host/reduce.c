// `reduce` and `scan`. Axes outside the vectors fold in the order of their coordinates; a vector folds by halves, so that sums
// depend on nothing but the tile's shape.
#include "codegen/host/emit.h"

#include <math.h>

typedef enum fold { ADD, MIN, MAX, AND, OR, ARGMAX, ARGMIN, FOLDS } fold;
static const struct {
  const char *name;
  ir_scalar op;
} folds[FOLDS] = {{"add", IR_SCALAR_add}, {"min", IR_SCALAR_min},   {"max", IR_SCALAR_max},  {"and", IR_SCALAR_and},
                  {"or", IR_SCALAR_or},   {"argmax", IR_SCALAR_gt}, {"argmin", IR_SCALAR_lt}};

static LLVMValueRef half(cgh_emit *e, LLVMValueRef v, unsigned first, unsigned n) {
  int mask[CGH_MAX_VECTOR];
  for (unsigned i = 0; i < n; i++) mask[i] = (int)(first + i);
  return cgh_shuffle(e, v, NULL, n, mask);
}

static LLVMValueRef lane_of(cgh_emit *e, LLVMValueRef v, unsigned i) {
  return LLVMBuildExtractElement(e->b, v, LLVMConstInt(e->i32, i, false), "");
}

LLVMValueRef cgh_horizontal(cgh_emit *e, LLVMValueRef v, ir_scalar op, ir_dtype t) {
  unsigned n = cgh_length(v);
  LLVMValueRef odd = NULL;   // elements that a halving leaves over
  while (n > 1) {
    if (n & 1) {
      LLVMValueRef last = lane_of(e, v, n - 1);
      odd = odd ? cgh_scalar_op(e, op, t, odd, last, NULL) : last;
    }
    n /= 2;
    v = cgh_scalar_op(e, op, t, half(e, v, 0, n), half(e, v, n, n), NULL);
  }
  LLVMValueRef r = lane_of(e, v, 0);
  return odd ? cgh_scalar_op(e, op, t, r, odd, NULL) : r;
}

// ---- a value, and for argmax and argmin its index ----------------------------------------------------------------------------
typedef struct entry {
  LLVMValueRef value, index;
} entry;
typedef struct reduction {
  fold fold;
  ir_dtype type, index_type;
  cgh_tile *x, *index;   // index: operand 1 of argmax and argmin, or NULL (position along the reduced axes)
  cgh_shape result;
  uint32_t over_count;
  ts_sym *over;
  int64_t extent[CGH_RANK], terms;
} reduction;

// b beats a: it is better, or equal with a lower index, or a is NaN and b is not. (NaN of both: the lower index.)
static entry better(cgh_emit *e, const reduction *r, entry a, entry b) {
  LLVMValueRef wins = cgh_scalar_op(e, folds[r->fold].op, r->type, b.value, a.value, NULL);
  LLVMValueRef same = cgh_scalar_op(e, IR_SCALAR_eq, r->type, b.value, a.value, NULL);
  LLVMValueRef lower = cgh_scalar_op(e, IR_SCALAR_lt, r->index_type, b.index, a.index, NULL);
  if (ir_is_float(r->type)) {
    LLVMValueRef nan_a = cgh_scalar_op(e, IR_SCALAR_ne, r->type, a.value, a.value, NULL);
    LLVMValueRef nan_b = cgh_scalar_op(e, IR_SCALAR_ne, r->type, b.value, b.value, NULL);
    wins = LLVMBuildOr(e->b, wins, LLVMBuildAnd(e->b, nan_a, LLVMBuildNot(e->b, nan_b, ""), ""), "");
    same = LLVMBuildOr(e->b, same, LLVMBuildAnd(e->b, nan_a, nan_b, ""), "");
  }
  LLVMValueRef take = LLVMBuildOr(e->b, wins, LLVMBuildAnd(e->b, same, lower, ""), "");
  return (entry){cgh_select(e, take, b.value, a.value), cgh_select(e, take, b.index, a.index)};
}

static entry combine(cgh_emit *e, const reduction *r, entry a, entry b) {
  if (r->fold >= ARGMAX) return better(e, r, a, b);
  return (entry){cgh_scalar_op(e, folds[r->fold].op, r->type, a.value, b.value, NULL), NULL};
}

static entry horizontal(cgh_emit *e, const reduction *r, entry v) {
  if (r->fold < ARGMAX) return (entry){cgh_horizontal(e, v.value, folds[r->fold].op, r->type), NULL};
  unsigned n = cgh_length(v.value);
  entry odd = {NULL, NULL};
  while (n > 1) {
    if (n & 1) {
      entry last = {lane_of(e, v.value, n - 1), lane_of(e, v.index, n - 1)};
      odd = odd.value ? better(e, r, odd, last) : last;
    }
    n /= 2;
    entry a = {half(e, v.value, 0, n), half(e, v.index, 0, n)}, b = {half(e, v.value, n, n), half(e, v.index, n, n)};
    v = better(e, r, a, b);
  }
  v = (entry){lane_of(e, v.value, 0), lane_of(e, v.index, 0)};
  return odd.value ? better(e, r, v, odd) : v;
}

// Number of an element among the reduced ones, from the coordinates of shape s.
static int64_t number(const reduction *r, const cgh_shape *s, const int64_t *c, const int64_t *extra) {
  int64_t n = 0;
  for (uint32_t i = 0; i < r->over_count; i++) {
    int at = cgh_axis(s, r->over[i]);
    n = n * r->extent[i] + (at >= 0 ? c[at] : extra[i]);
  }
  return n;
}

// The element (or vector of shape s) of x at `outer`; `extra` are the coordinates of reduced axes that s lacks, in order of
// `over`.
static entry entry_at(cgh_emit *e, const reduction *r, const cgh_shape *s, int64_t outer, const int64_t *extra) {
  int64_t ex[CGH_RANK] = {0}, ei[CGH_RANK] = {0}, c[CGH_RANK];
  for (uint32_t i = 0; i < r->over_count; i++) {
    int at = cgh_axis(&r->x->shape, r->over[i]), k = r->index ? cgh_axis(&r->index->shape, r->over[i]) : -1;
    if (at >= 0) ex[at] = extra[i];
    if (k >= 0) ei[k] = extra[i];
  }
  entry v = {cgh_view_full(e, r->x, s, outer, ex), NULL};
  if (r->fold < ARGMAX) return v;
  if (r->index) {
    v.index = cgh_convert(e, cgh_view_full(e, r->index, s, outer, ei), r->index->dtype, r->index_type);
    return v;
  }
  LLVMTypeRef type = cgh_type(e, r->index_type);
  LLVMValueRef n[CGH_MAX_VECTOR];
  for (int64_t k = 0; k < (s->vec ? s->vec : 1); k++) {
    cgh_coords(s, outer, k, c);
    n[k] = LLVMConstInt(type, (uint64_t)number(r, s, c, extra), false);
  }
  v.index = s->vec ? LLVMConstVector(n, (unsigned)s->vec) : n[0];
  return v;
}

static bool read_reduction(cgh_emit *e, const ir_op *op, reduction *r) {
  const ir_attr *over = ir_attr_find(op, "over");
  ts_sym name = ir_attr_sym(op, "op");
  *r = (reduction){.fold = FOLDS, .terms = 1, .type = op->results[0]->type->dtype};
  for (int i = 0; name && i < FOLDS; i++)
    if (strcmp(name, folds[i].name) == 0) r->fold = (fold)i;
  bool arg = r->fold >= ARGMAX;
  if (r->fold == FOLDS || !over || over->kind != IR_ATTR_AXES || !over->axes.count || over->axes.count > CGH_RANK)
    return cgh_fail(e, &diag_host_op, "reduce with op %s", name ? name : "missing"), false;
  if (op->operand_count > 1u + arg || op->result_count != 1u + arg)
    return cgh_fail(e, &diag_host_op, "reduce %s of %u operands with %u results", name, op->operand_count, op->result_count),
           false;
  if (!(r->x = cgh_tile_of(e, op->operands[0]))) return false;
  if (op->operand_count > 1 && !(r->index = cgh_tile_of(e, op->operands[1]))) return false;
  if (arg) r->index_type = op->results[1]->type->dtype;
  r->over = over->axes.data, r->over_count = over->axes.count;
  for (uint32_t i = 0; i < r->over_count; i++) {
    int at = cgh_axis(&r->x->shape, r->over[i]);
    if (at < 0) return cgh_fail(e, &diag_host_not_finished, "reduce over axis %s, which the operand lacks", r->over[i]), false;
    r->extent[i] = r->x->shape.extent[at];
    r->terms *= r->extent[i];
  }
  return cgh_shape_of(e, op->results[0]->type, &r->result);
}

void cgh_reduce(cgh_emit *e, const ir_op *op) {
  reduction r;
  if (!read_reduction(e, op, &r)) return;
  const cgh_shape *q = &r.x->shape;
  cgh_shape s = r.result;
  // A vector all of whose axes are reduced is folded at the end; every other reduced axis is unrolled.
  bool across = q->vec && !s.vec;
  for (unsigned i = q->lane; i < q->rank; i++) {
    bool found = false;
    for (uint32_t k = 0; k < r.over_count; k++) found |= r.over[k] == q->axis[i];
    across &= found;
  }
  if (across) {
    s.lane = s.rank;
    for (unsigned i = q->lane; i < q->rank; i++) s.axis[s.rank] = q->axis[i], s.extent[s.rank++] = q->extent[i];
    s.vec = q->vec;
  }
  cgh_tile *t = cgh_new_tile(e, &r.result, r.type), *t2 = r.fold >= ARGMAX ? cgh_new_tile(e, &r.result, r.index_type) : NULL;
  for (int64_t o = 0; o < r.result.outer && cgh_ok(e); o++) {
    entry total = {NULL, NULL};
    for (int64_t k = 0; k < r.terms; k++) {
      int64_t extra[CGH_RANK], rest = k;
      bool first = true;
      for (uint32_t i = r.over_count; i-- > 0;) {
        extra[i] = rest % r.extent[i];
        rest /= r.extent[i];
        if (cgh_axis(&s, r.over[i]) >= 0) first &= extra[i] == 0;   // in the vector: visited once
      }
      if (!first) continue;
      entry v = entry_at(e, &r, &s, o, extra);
      total = total.value ? combine(e, &r, total, v) : v;
    }
    if (across) total = horizontal(e, &r, total);
    t->v[o] = total.value;
    if (t2) t2->v[o] = total.index;
  }
  cgh_define(e, op->results[0], t);
  if (t2) cgh_define(e, op->results[1], t2);
}

// ---- scan --------------------------------------------------------------------------------------------------------------------
static LLVMValueRef identity(cgh_emit *e, fold f, ir_dtype t, LLVMTypeRef type) {
  if (f == ADD) return t == IR_f32 || t == IR_f64 ? cgh_real(e, type, 0) : cgh_int(e, type, 0);
  if (t == IR_f32 || t == IR_f64) return cgh_real(e, type, -INFINITY);
  return cgh_int(e, type, ir_is_signed(t) ? (int64_t)((uint64_t)-1 << (ir_dtype_bits(t) - 1)) : 0);
}

// Elements moved up by `by` lanes, the identity below.
static LLVMValueRef shift_up(cgh_emit *e, LLVMValueRef v, LLVMValueRef fill, unsigned by) {
  int mask[CGH_MAX_VECTOR];
  unsigned n = cgh_length(v);
  for (unsigned i = 0; i < n; i++) mask[i] = i < by ? (int)(n + i) : (int)(i - by);
  return cgh_shuffle(e, v, fill, n, mask);
}

void cgh_scan(cgh_emit *e, const ir_op *op) {
  cgh_tile *x = cgh_tile_of(e, op->operands[0]);
  ts_sym over = ir_attr_sym(op, "over"), name = ir_attr_sym(op, "op");
  bool exclusive = ir_attr_int(op, "exclusive", 0) != 0;
  cgh_shape s;
  if (!x || !cgh_shape_of(e, op->results[0]->type, &s)) return;
  fold f = name && strcmp(name, "add") == 0 ? ADD : name && strcmp(name, "max") == 0 ? MAX : FOLDS;
  int axis = over ? cgh_axis(&s, over) : -1;
  ir_dtype t = x->dtype;
  bool narrow = ir_is_float(t) && t != IR_f32 && t != IR_f64;
  if (f == FOLDS || axis < 0 || op->operand_count != 1 || op->result_count != 1 || narrow || t != op->results[0]->type->dtype)
    return cgh_fail(e, &diag_host_op, "scan of op %s with %u operands and %u results", name ? name : "missing", op->operand_count,
                    op->result_count);
  if (axis >= (int)s.lane && s.rank - s.lane != 1) return cgh_fail(e, &diag_host_op, "scan inside a packed vector");
  cgh_tile *r = cgh_new_tile(e, &s, t);
  int64_t step = 1;
  for (unsigned i = (unsigned)axis + 1; i < s.lane; i++) step *= s.extent[i];
  for (int64_t o = 0; o < s.outer; o++) {
    LLVMValueRef v = cgh_view_full(e, x, &s, o, NULL), none = identity(e, f, t, LLVMTypeOf(v));
    if (axis >= (int)s.lane) {
      if (exclusive) v = shift_up(e, v, none, 1);
      for (unsigned by = 1; by < (unsigned)s.vec; by *= 2)
        v = cgh_scalar_op(e, folds[f].op, t, shift_up(e, v, none, by), v, NULL);
      r->v[o] = v;
      continue;
    }
    bool first = o / step % s.extent[axis] == 0;
    if (exclusive)
      r->v[o] = first ? none : cgh_scalar_op(e, folds[f].op, t, r->v[o - step], cgh_view_full(e, x, &s, o - step, NULL), NULL);
    else r->v[o] = first ? v : cgh_scalar_op(e, folds[f].op, t, r->v[o - step], v, NULL);
  }
  cgh_define(e, op->results[0], r);
}
