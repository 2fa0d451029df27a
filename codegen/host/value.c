// Types, constants, and tiles as LLVM values: shapes, views of one tile in the form of another, and rearrangements.
#include "codegen/host/emit.h"

// ---- types and constants -----------------------------------------------------------------------------------------------
LLVMTypeRef cgh_type(cgh_emit *e, ir_dtype t) {
  switch (t) {
    case IR_f64: return e->f64;
    case IR_f32: return e->f32;
    default: return LLVMIntTypeInContext(e->ctx, ir_dtype_bits(t));
  }
}

unsigned cgh_length(LLVMValueRef v) {
  LLVMTypeRef t = LLVMTypeOf(v);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 0;
}

LLVMTypeRef cgh_like(cgh_emit *e, LLVMValueRef v, LLVMTypeRef element) {
  (void)e;
  unsigned n = cgh_length(v);
  return n ? LLVMVectorType(element, n) : element;
}

static LLVMValueRef repeat(LLVMValueRef c, unsigned n) {
  LLVMValueRef all[CGH_MAX_VECTOR];
  for (unsigned i = 0; i < n; i++) all[i] = c;
  return LLVMConstVector(all, n);
}

LLVMValueRef cgh_real(cgh_emit *e, LLVMTypeRef type, double v) {
  (void)e;
  if (LLVMGetTypeKind(type) != LLVMVectorTypeKind) return LLVMConstReal(type, v);
  return repeat(LLVMConstReal(LLVMGetElementType(type), v), LLVMGetVectorSize(type));
}

LLVMValueRef cgh_int(cgh_emit *e, LLVMTypeRef type, int64_t v) {
  (void)e;
  if (LLVMGetTypeKind(type) != LLVMVectorTypeKind) return LLVMConstInt(type, (uint64_t)v, true);
  return repeat(LLVMConstInt(LLVMGetElementType(type), (uint64_t)v, true), LLVMGetVectorSize(type));
}

LLVMValueRef cgh_splat(cgh_emit *e, LLVMValueRef scalar, unsigned n) {
  if (!n) return scalar;
  if (LLVMIsConstant(scalar)) return repeat(scalar, n);
  LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(scalar), n));
  LLVMValueRef one = LLVMBuildInsertElement(e->b, none, scalar, LLVMConstInt(e->i32, 0, false), "");
  return LLVMBuildShuffleVector(e->b, one, none, LLVMConstNull(LLVMVectorType(e->i32, n)), "");
}

LLVMValueRef cgh_call(cgh_emit *e, const char *name, unsigned types, LLVMTypeRef *type, unsigned args, LLVMValueRef *arg) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef f = LLVMGetIntrinsicDeclaration(e->mod, id, type, types);
  return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->ctx, id, type, types), f, arg, args, "");
}

LLVMValueRef cgh_unary(cgh_emit *e, const char *name, LLVMValueRef x) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return cgh_call(e, name, 1, &t, 1, &x);
}

LLVMValueRef cgh_fma(cgh_emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c) {
  LLVMTypeRef t = LLVMTypeOf(a);
  return cgh_call(e, "llvm.fma", 1, &t, 3, (LLVMValueRef[]){a, b, c});
}

void cgh_set_invariant(cgh_emit *e, LLVMValueRef load) {
  LLVMValueRef node = LLVMMetadataAsValue(e->ctx, LLVMMDNodeInContext2(e->ctx, NULL, 0));
  LLVMSetMetadata(load, LLVMGetMDKindIDInContext(e->ctx, "invariant.load", 14), node);
}

LLVMValueRef cgh_select(cgh_emit *e, LLVMValueRef c, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(e->b, c, a, b, "");
}

LLVMValueRef cgh_shuffle(cgh_emit *e, LLVMValueRef a, LLVMValueRef b, unsigned n, const int *mask) {
  bool same = !b && cgh_length(a) == n;
  LLVMValueRef m[CGH_MAX_VECTOR];
  for (unsigned i = 0; i < n; i++) {
    same &= mask[i] == (int)i;
    m[i] = mask[i] < 0 ? LLVMGetPoison(e->i32) : LLVMConstInt(e->i32, (unsigned)mask[i], false);
  }
  if (same) return a;
  return LLVMBuildShuffleVector(e->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)), LLVMConstVector(m, n), "");
}

// ---- shapes --------------------------------------------------------------------------------------------------------------
bool cgh_shape_of(cgh_emit *e, const ir_type *t, cgh_shape *out) {
  *out = (cgh_shape){.rank = t->rank, .lane = t->rank, .outer = 1};
  if (t->kind != IR_TYPE_TILE) return cgh_fail(e, &diag_host_not_finished, "a tile is expected here"), false;
  if (t->rank > CGH_RANK)
    return cgh_fail(e, &diag_host_tile_size, "a tile of rank %u; at most %d axes", t->rank, CGH_RANK), false;
  for (unsigned i = 0; i < t->rank; i++) {
    if (!ir_size_is_const(t->shape[i]) || t->shape[i]->value < 1)
      return cgh_fail(e, &diag_host_not_finished, "axis %s of a tile has no constant extent", t->axes[i]), false;
    out->extent[i] = t->shape[i]->value;
    out->axis[i] = t->axes[i];
    if (t->axes[i] == t->lanes && out->lane == t->rank) out->lane = i;
    int64_t *n = i < out->lane ? &out->outer : &out->vec;
    if (i == out->lane) out->vec = 1;
    if (__builtin_mul_overflow(*n, out->extent[i], n) || out->outer > CGH_MAX_VALUES || out->vec > CGH_MAX_VECTOR) {
      cgh_fail(e, &diag_host_tile_size, "a tile of more than %d registers, or with a vector of more than %d elements",
               CGH_MAX_VALUES, CGH_MAX_VECTOR);
      return false;
    }
  }
  if (t->lanes && out->lane == t->rank)
    return cgh_fail(e, &diag_host_not_finished, "lanes axis %s is not an axis of the tile", t->lanes), false;
  return true;
}

int cgh_axis(const cgh_shape *s, ts_sym axis) {
  for (unsigned i = 0; i < s->rank; i++)
    if (s->axis[i] == axis) return (int)i;
  return -1;
}

void cgh_coords(const cgh_shape *s, int64_t outer, int64_t lane, int64_t *c) {
  for (unsigned i = s->rank; i-- > 0;) {
    int64_t *at = i < s->lane ? &outer : &lane;
    c[i] = *at % s->extent[i];
    *at /= s->extent[i];
  }
}

static void position(const cgh_shape *s, const int64_t *c, int64_t *outer, int64_t *lane) {
  *outer = *lane = 0;
  for (unsigned i = 0; i < s->rank; i++) {
    int64_t *at = i < s->lane ? outer : lane;
    *at = *at * s->extent[i] + c[i];
  }
}

cgh_tile *cgh_new_tile(cgh_emit *e, const cgh_shape *s, ir_dtype dtype) {
  cgh_tile *t = ts_new(e->arena, cgh_tile);
  t->shape = *s;
  t->dtype = dtype;
  t->v = ts_new_array(e->arena, LLVMValueRef, (size_t)s->outer);
  return t;
}

cgh_tile *cgh_tile_of(cgh_emit *e, const ir_value *v) {
  cgh_tile *t = ts_map_get(&e->tiles, ts_key(v));
  if (!t)
    cgh_fail(e, &diag_host_not_finished, "operand %s is not a tile that was computed before",
             v->name ? v->name : "without a name");
  return t;
}

void cgh_define(cgh_emit *e, const ir_value *v, cgh_tile *t) { ts_map_put(&e->tiles, ts_key(v), t); }

LLVMValueRef cgh_value(cgh_emit *e, const cgh_tile *t, int64_t outer) {
  if (t->v[outer]) return t->v[outer];
  const ir_op *op = e->op;
  e->op = t->op;
  cgh_debug_op(e, t->op);
  t->make(e, (cgh_tile *)t, outer);
  e->op = op;
  cgh_debug_op(e, op);
  if (!t->v[outer]) t->v[outer] = cgh_splat(e, LLVMGetPoison(cgh_type(e, t->dtype)), (unsigned)t->shape.vec);   // refused
  return t->v[outer];
}

static void print_all(cgh_emit *e, const cgh_tile *t) {
  for (int64_t o = 0; o < t->shape.outer && cgh_ok(e); o++) cgh_value(e, t, o);
}

void cgh_defer(cgh_emit *e, const ir_op *op, uint32_t result, cgh_tile *t, uint32_t count, cgh_tile *const *inputs) {
  enum { DEEPEST = 32 };   // recursion of cgh_value
  t->op = op;
  for (uint32_t i = 0; i < count; i++)
    if (inputs[i] && inputs[i]->depth >= t->depth) t->depth = inputs[i]->depth + 1;
  cgh_define(e, op->results[result], t);
  if (t->depth < DEEPEST) {
    ts_vec_push(e->arena, &e->pending, t);
    return;
  }
  print_all(e, t);
  t->depth = 0;
}

void cgh_flush(cgh_emit *e) {
  for (size_t i = 0; i < e->pending.count; i++) print_all(e, e->pending.data[i]);
  e->pending.count = 0;
}

// Panels are apart from each other and from all buffers; buffers of role IN from what is written.
void cgh_flush_loads(cgh_emit *e, const cgh_mem *written) {
  size_t kept = 0;
  for (size_t i = 0; i < e->pending.count; i++) {
    cgh_tile *t = e->pending.data[i];
    bool apart = !t->from || t->from->readonly || (t->from != written && (t->from->scope || written->scope));
    if (apart) e->pending.data[kept++] = t;
    else print_all(e, t);
  }
  e->pending.count = kept;
}

LLVMValueRef cgh_scalar(cgh_emit *e, const ir_value *v) {
  cgh_tile *t = cgh_tile_of(e, v);
  if (!t) return NULL;
  if (t->shape.rank)
    return cgh_fail(e, &diag_host_op, "operand %s must be a scalar here", v->name ? v->name : "without a name"), NULL;
  return cgh_value(e, t, 0);
}

// ---- rearranging -----------------------------------------------------------------------------------------------------------
static LLVMValueRef insert_scalars(cgh_emit *e, LLVMValueRef v, unsigned n, LLVMValueRef *from, const int *lane) {
  for (unsigned i = 0; i < n; i++)
    if (lane[i] < 0) v = LLVMBuildInsertElement(e->b, v, from[i], LLVMConstInt(e->i32, i, false), "");
  return v;
}

LLVMValueRef cgh_gather(cgh_emit *e, unsigned n, LLVMValueRef *from, int *lane) {
  bool splat = lane[0] < 0;
  for (unsigned i = 1; i < n && splat; i++) splat = lane[i] < 0 && from[i] == from[0];
  if (splat) return cgh_splat(e, from[0], n);
  LLVMValueRef result = NULL;
  bool done[CGH_MAX_VECTOR] = {false};
  int mask[CGH_MAX_VECTOR];
  bool filled[CGH_MAX_VECTOR] = {false};
  for (unsigned i = 0; i < n; i++) {
    if (done[i] || lane[i] < 0) continue;
    for (unsigned k = 0; k < n; k++) {
      bool mine = lane[k] >= 0 && from[k] == from[i];
      mask[k] = mine ? lane[k] : -1;
      done[k] |= mine;
    }
    LLVMValueRef part = cgh_shuffle(e, from[i], NULL, n, mask);
    if (result) {
      for (unsigned k = 0; k < n; k++) mask[k] = mask[k] >= 0 ? (int)(n + k) : filled[k] ? (int)k : -1;
      result = cgh_shuffle(e, result, part, n, mask);
    } else {
      result = part;
    }
    for (unsigned k = 0; k < n; k++) filled[k] |= done[k];
  }
  if (!result) result = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(from[0]), n));
  return insert_scalars(e, result, n, from, lane);
}

LLVMValueRef cgh_element(cgh_emit *e, const cgh_tile *t, const int64_t *coord) {
  int64_t outer, lane;
  position(&t->shape, coord, &outer, &lane);
  if (!t->shape.vec) return cgh_value(e, t, outer);
  return LLVMBuildExtractElement(e->b, cgh_value(e, t, outer), LLVMConstInt(e->i32, (uint64_t)lane, false), "");
}

static bool same_vectors(const cgh_shape *a, const cgh_shape *b) {
  if (a->rank - a->lane != b->rank - b->lane) return false;
  for (unsigned i = 0; i < a->rank - a->lane; i++)
    if (a->axis[a->lane + i] != b->axis[b->lane + i] || a->extent[a->lane + i] != b->extent[b->lane + i]) return false;
  return true;
}

LLVMValueRef cgh_view(cgh_emit *e, const cgh_tile *t, const cgh_shape *s, int64_t outer, const int64_t *extra) {
  const cgh_shape *q = &t->shape;
  int at[CGH_RANK];
  int64_t c[CGH_RANK] = {0}, from[CGH_RANK] = {0}, o, l;
  bool inside = false;
  cgh_coords(s, outer, 0, c);
  for (unsigned i = 0; i < q->rank; i++) {
    at[i] = cgh_axis(s, q->axis[i]);
    if (at[i] >= 0 && s->extent[at[i]] != q->extent[i]) {
      cgh_fail(e, &diag_host_not_finished, "axis %s has extents %lld and %lld in one op", q->axis[i], (long long)q->extent[i],
               (long long)s->extent[at[i]]);
      return LLVMGetPoison(cgh_type(e, t->dtype));
    }
    from[i] = at[i] >= 0 ? c[at[i]] : extra ? extra[i] : 0;
    inside |= at[i] >= (int)s->lane;
  }
  if (!inside) return cgh_element(e, t, from);
  if (q->vec && same_vectors(q, s)) {
    position(q, from, &o, &l);
    return cgh_value(e, t, o);
  }
  LLVMValueRef source[CGH_MAX_VECTOR];
  int lane[CGH_MAX_VECTOR];
  for (int64_t k = 0; k < s->vec; k++) {
    cgh_coords(s, outer, k, c);
    for (unsigned i = 0; i < q->rank; i++)
      if (at[i] >= 0) from[i] = c[at[i]];
    position(q, from, &o, &l);
    source[k] = cgh_value(e, t, o);
    lane[k] = q->vec ? (int)l : -1;
  }
  return cgh_gather(e, (unsigned)s->vec, source, lane);
}

LLVMValueRef cgh_view_full(cgh_emit *e, const cgh_tile *t, const cgh_shape *s, int64_t outer, const int64_t *extra) {
  LLVMValueRef v = cgh_view(e, t, s, outer, extra);
  return s->vec && !cgh_length(v) ? cgh_splat(e, v, (unsigned)s->vec) : v;
}
