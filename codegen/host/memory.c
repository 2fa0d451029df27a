// load, store, fetch, put and atomic: boxes, gathers and scatters, with masks.
//
// The address of an element is base + sum over dimensions of (index + coordinate along `at`) * stride. The part that doesn't vary
// inside a vector is computed as scalars, outer dimensions first (they vary slowest, so loops can hoist them) and constants last
// (they become displacements). Vectors are contiguous accesses where the strides of their axes say so.
#include "codegen/host/emit.h"

typedef struct access_dim {
  LLVMValueRef scalar;   // i64; NULL: see tile
  cgh_tile *tile;        // an index tile
  int axis;              // of the shape; -1: none
} access_dim;

typedef struct access {
  const cgh_mem *mem;
  cgh_shape shape;   // the elements that are visited
  unsigned rank;
  access_dim dim[CGH_RANK];
  cgh_tile *mask;        // may be NULL
  LLVMTypeRef element;   // in memory
  unsigned align;
  bool contiguous, gathered;   // along the vector; gathered: an index tile varies inside it
  LLVMValueRef slot;           // see guarded()
} access;

static bool constant_of(LLVMValueRef v, int64_t *out) {
  if (!LLVMIsAConstantInt(v)) return false;
  *out = LLVMConstIntGetSExtValue(v);
  return true;
}

static LLVMValueRef times(cgh_emit *e, LLVMValueRef a, LLVMValueRef stride) { return LLVMBuildNSWMul(e->b, a, stride, ""); }
static LLVMValueRef advance(cgh_emit *e, const access *a, LLVMValueRef p, LLVMValueRef by) {
  int64_t zero;
  if (constant_of(by, &zero) && zero == 0) return p;
  return LLVMBuildInBoundsGEP2(e->b, a->element, p, &by, 1, "");
}

// Adds axes that an index tile or the mask has and the shape lacks, as outermost axes.
static void add_axes(cgh_shape *s, const cgh_shape *from) {
  for (unsigned i = from->rank; i-- > 0;) {
    if (cgh_axis(s, from->axis[i]) >= 0 || s->rank == CGH_RANK) continue;
    memmove(s->extent + 1, s->extent, s->rank * sizeof *s->extent);
    memmove(s->axis + 1, s->axis, s->rank * sizeof *s->axis);
    s->extent[0] = from->extent[i], s->axis[0] = from->axis[i];
    s->outer *= from->extent[i];
    s->rank++, s->lane++;
  }
}

// Is the vector one run of memory?
static bool is_contiguous(const access *a) {
  int64_t want = 1;
  for (unsigned x = a->shape.rank; x-- > a->shape.lane;) {
    int64_t stride = 0, s;
    for (unsigned d = 0; d < a->rank; d++) {
      if (a->dim[d].axis != (int)x) continue;
      if (!constant_of(a->mem->stride[d], &s)) return false;
      stride += s;
    }
    if (a->shape.extent[x] > 1 && stride != want) return false;
    want *= a->shape.extent[x];
  }
  return !a->gathered;
}

// Reads the operands [mem, index..., then `rest` more, mask?] of an op; `value`: the tile whose shape counts, or NULL for the
// result's.
static bool read_access(cgh_emit *e, const ir_op *op, const cgh_tile *value, unsigned rest, access *a) {
  cgh_mem *m = ts_map_get(&e->mems, ts_key(op->operands[0]));
  const ir_attr *at = ir_attr_find(op, "at");
  bool masked = ir_attr_int(op, "masked", 0) != 0;
  if (!m) return cgh_fail(e, &diag_host_not_finished, "the first operand of %s is not memory", ir_op_get(op->code)->name), false;
  *a = (access){.mem = m, .rank = m->type->rank};
  if (!at || at->kind != IR_ATTR_AXES || at->axes.count != a->rank || op->operand_count != 1 + a->rank + rest + masked)
    return cgh_fail(e, &diag_host_not_finished, "%s needs one index and one entry of `at` for each dimension",
                    ir_op_get(op->code)->name),
           false;
  if (value) a->shape = value->shape;
  else if (!cgh_shape_of(e, op->results[0]->type, &a->shape)) return false;
  if (masked && !(a->mask = cgh_tile_of(e, op->operands[op->operand_count - 1]))) return false;
  for (unsigned d = 0; d < a->rank; d++) {
    cgh_tile *t = cgh_tile_of(e, op->operands[1 + d]);
    if (!t) return false;
    if (!ir_is_int(t->dtype)) return cgh_fail(e, &diag_host_not_finished, "index %u is not an integer", d), false;
    if (t->shape.rank) a->dim[d].tile = t;
    else a->dim[d].scalar = cgh_convert(e, cgh_value(e, t, 0), t->dtype, IR_i64);
    if (value && t->shape.rank) add_axes(&a->shape, &t->shape);
  }
  if (value && a->mask) add_axes(&a->shape, &a->mask->shape);
  if (a->shape.outer > CGH_MAX_VALUES)
    return cgh_fail(e, &diag_host_tile_size, "an access of more than %d registers", CGH_MAX_VALUES), false;
  for (unsigned d = 0; d < a->rank; d++) {
    ts_sym name = at->axes.data[d];
    a->dim[d].axis = cgh_axis(&a->shape, name);
    if (a->dim[d].axis < 0 && strcmp(name, "_") != 0)
      return cgh_fail(e, &diag_host_not_finished, "axis %s of `at` is not an axis of the tile", name), false;
    for (unsigned i = 0; a->dim[d].tile && i < a->dim[d].tile->shape.rank; i++)
      a->gathered |= cgh_axis(&a->shape, a->dim[d].tile->shape.axis[i]) >= (int)a->shape.lane;
  }
  a->element = cgh_type(e, m->type->dtype);
  a->align = ir_dtype_bits(m->type->dtype) / 8;
  a->contiguous = is_contiguous(a);
  return true;
}

static LLVMValueRef as_i64(cgh_emit *e, const cgh_tile *t, LLVMValueRef v) { return cgh_convert(e, v, t->dtype, IR_i64); }

// Address of lane 0 of value `outer`; axes of index tiles inside the vector are left out.
static LLVMValueRef address(cgh_emit *e, const access *a, int64_t outer) {
  LLVMValueRef p = a->mem->base;
  int64_t c[CGH_RANK], constant = 0;
  cgh_coords(&a->shape, outer, 0, c);
  for (unsigned d = 0; d < a->rank; d++) {
    const access_dim *dim = &a->dim[d];
    int64_t stride, index;
    bool fixed = constant_of(a->mem->stride[d], &stride);
    if (dim->scalar && fixed && constant_of(dim->scalar, &index)) {
      constant += index * stride;
    } else if (dim->scalar) {
      p = advance(e, a, p, times(e, dim->scalar, a->mem->stride[d]));
    } else {
      LLVMValueRef v = cgh_view(e, dim->tile, &a->shape, outer, NULL);
      if (!cgh_length(v)) p = advance(e, a, p, times(e, as_i64(e, dim->tile, v), a->mem->stride[d]));
    }
    if (dim->axis < 0 || dim->axis >= (int)a->shape.lane || !c[dim->axis]) continue;
    if (fixed) constant += c[dim->axis] * stride;
    else p = advance(e, a, p, times(e, LLVMConstInt(e->i64, (uint64_t)c[dim->axis], false), a->mem->stride[d]));
  }
  return advance(e, a, p, LLVMConstInt(e->i64, (uint64_t)constant, true));
}

// Offsets of the lanes from address(), in elements: a vector of i64.
static LLVMValueRef lane_offsets(cgh_emit *e, const access *a, int64_t outer) {
  unsigned n = (unsigned)a->shape.vec;
  LLVMValueRef sum = cgh_int(e, LLVMVectorType(e->i64, n), 0);
  for (unsigned d = 0; d < a->rank; d++) {
    const access_dim *dim = &a->dim[d];
    LLVMValueRef stride = cgh_splat(e, a->mem->stride[d], n);
    if (dim->tile) {
      LLVMValueRef v = cgh_view(e, dim->tile, &a->shape, outer, NULL);
      if (cgh_length(v)) sum = LLVMBuildAdd(e->b, sum, times(e, as_i64(e, dim->tile, v), stride), "");
    }
    if (dim->axis < (int)a->shape.lane) continue;
    LLVMValueRef step[CGH_MAX_VECTOR];
    for (unsigned i = 0; i < n; i++) {
      int64_t c[CGH_RANK];
      cgh_coords(&a->shape, outer, i, c);
      step[i] = LLVMConstInt(e->i64, (uint64_t)c[dim->axis], false);
    }
    sum = LLVMBuildAdd(e->b, sum, times(e, LLVMConstVector(step, n), stride), "");
  }
  return sum;
}

static void set_metadata(cgh_emit *e, const access *a, LLVMValueRef instruction) {
  static const char *const kinds[] = {"alias.scope", "noalias"};
  LLVMValueRef nodes[] = {a->mem->scope, a->mem->noalias};
  for (int i = 0; i < 2; i++)
    if (nodes[i]) LLVMSetMetadata(instruction, LLVMGetMDKindIDInContext(e->ctx, kinds[i], (unsigned)strlen(kinds[i])), nodes[i]);
}

static LLVMValueRef load_at(cgh_emit *e, const access *a, LLVMTypeRef type, LLVMValueRef p) {
  LLVMValueRef v = LLVMBuildLoad2(e->b, type, p, "");
  LLVMSetAlignment(v, a->align);
  set_metadata(e, a, v);
  if (a->mem->readonly) cgh_set_invariant(e, v);
  return v;
}

// A load or store whose address may be the guard slot: nothing is known of what it reads, so that it stays behind the slot's
// zeros.
static LLVMValueRef guarded_load(cgh_emit *e, const access *a, LLVMTypeRef type, LLVMValueRef p) {
  LLVMValueRef v = LLVMBuildLoad2(e->b, type, p, "");
  LLVMSetAlignment(v, a->align);
  return v;
}

static void guarded_store(cgh_emit *e, const access *a, LLVMValueRef v, LLVMValueRef p) {
  LLVMSetAlignment(LLVMBuildStore(e->b, v, p), a->align);
}

static void store_at(cgh_emit *e, const access *a, LLVMValueRef v, LLVMValueRef p) {
  LLVMValueRef st = LLVMBuildStore(e->b, v, p);
  LLVMSetAlignment(st, a->align);
  set_metadata(e, a, st);
}

// p where the condition holds, else a slot of the stack that starts as zeros: cheaper than a branch for each access.
static LLVMValueRef guarded(cgh_emit *e, access *a, LLVMValueRef mask, LLVMValueRef p) {
  if (!a->slot) {
    LLVMTypeRef type = a->shape.vec ? LLVMVectorType(a->element, (unsigned)a->shape.vec) : a->element;
    a->slot = LLVMBuildAlloca(e->entry, type, "");
    LLVMBuildStore(e->entry, LLVMConstNull(type), a->slot);
  }
  return cgh_select(e, mask, p, a->slot);
}

static LLVMValueRef align_of(cgh_emit *e, const access *a) { return LLVMConstInt(e->i32, a->align, false); }

static LLVMValueRef load_vector(cgh_emit *e, access *a, int64_t outer, LLVMValueRef other) {
  unsigned n = (unsigned)a->shape.vec;
  LLVMTypeRef type = LLVMVectorType(a->element, n);
  LLVMValueRef p = address(e, a, outer), mask = a->mask ? cgh_view(e, a->mask, &a->shape, outer, NULL) : NULL;
  if (a->contiguous && mask && !cgh_length(mask)) {   // all lanes or none
    LLVMValueRef v = guarded_load(e, a, type, guarded(e, a, mask, p));
    return LLVMIsNull(other) ? v : cgh_select(e, mask, v, cgh_splat(e, other, n));
  }
  if (mask && !cgh_length(mask)) mask = cgh_splat(e, mask, n);
  if (a->contiguous) {
    if (!mask) return load_at(e, a, type, p);
    LLVMTypeRef over[] = {type, e->ptr};
    LLVMValueRef v =
      cgh_call(e, "llvm.masked.load", 2, over, 4, (LLVMValueRef[]){p, align_of(e, a), mask, cgh_splat(e, other, n)});
    set_metadata(e, a, v);
    return v;
  }
  LLVMValueRef offsets = lane_offsets(e, a, outer);
  if (mask || (a->gathered && a->align >= 4)) {
    LLVMTypeRef over[] = {type, LLVMVectorType(e->ptr, n)};
    LLVMValueRef all = mask ? mask : cgh_int(e, LLVMVectorType(e->i1, n), 1);
    LLVMValueRef at = LLVMBuildInBoundsGEP2(e->b, a->element, p, &offsets, 1, "");
    LLVMValueRef v =
      cgh_call(e, "llvm.masked.gather", 2, over, 4, (LLVMValueRef[]){at, align_of(e, a), all, cgh_splat(e, other, n)});
    set_metadata(e, a, v);
    return v;
  }
  LLVMValueRef v = LLVMGetPoison(type);
  for (unsigned i = 0; i < n; i++) {
    LLVMValueRef lane = LLVMConstInt(e->i32, i, false);
    LLVMValueRef at = advance(e, a, p, LLVMBuildExtractElement(e->b, offsets, lane, ""));
    v = LLVMBuildInsertElement(e->b, v, load_at(e, a, a->element, at), lane, "");
  }
  return v;
}

// Runs of bytes that are read one by one as scalars: one load for four, so that an integer dot finds them packed again.
static bool packed_bytes(const access *a) {
  const cgh_shape *s = &a->shape;
  if (s->vec || a->mask || a->align != 1 || !s->rank || s->extent[s->rank - 1] % 4) return false;
  int64_t stride = 0, one;
  for (unsigned d = 0; d < a->rank; d++) {
    if (a->dim[d].tile && cgh_axis(&a->dim[d].tile->shape, s->axis[s->rank - 1]) >= 0) return false;
    if (a->dim[d].axis != (int)s->rank - 1) continue;
    if (!constant_of(a->mem->stride[d], &one)) return false;
    stride += one;
  }
  return stride == 1;
}

typedef struct load_recipe {
  access a;
  LLVMValueRef other;       // where the mask is false
  LLVMValueRef *quads;      // four bytes at a time; NULL: another form
} load_recipe;

static LLVMValueRef load_value(cgh_emit *e, load_recipe *r, int64_t o) {
  access *a = &r->a;
  if (a->shape.vec) return load_vector(e, a, o, r->other);
  if (r->quads) {
    if (!r->quads[o / 4]) r->quads[o / 4] = load_at(e, a, LLVMVectorType(e->i8, 4), address(e, a, o / 4 * 4));
    return LLVMBuildExtractElement(e->b, r->quads[o / 4], LLVMConstInt(e->i32, (uint64_t)(o % 4), false), "");
  }
  LLVMValueRef p = address(e, a, o), mask = a->mask ? cgh_view(e, a->mask, &a->shape, o, NULL) : NULL;
  LLVMValueRef v = mask ? guarded_load(e, a, a->element, guarded(e, a, mask, p)) : load_at(e, a, a->element, p);
  return mask && !LLVMIsNull(r->other) ? cgh_select(e, mask, v, r->other) : v;
}

static void make_load(cgh_emit *e, cgh_tile *t, int64_t o) {
  load_recipe *r = t->recipe;
  t->v[o] = cgh_convert(e, load_value(e, r, o), r->a.mem->type->dtype, t->dtype);
}

void cgh_load(cgh_emit *e, const ir_op *op) {
  load_recipe *r = ts_new(e->arena, load_recipe);
  access *a = &r->a;
  if (!read_access(e, op, NULL, 0, a)) return;
  ir_dtype from = a->mem->type->dtype;
  double real = ir_attr_real(op, "other", 0);
  r->other = from == IR_f32 || from == IR_f64 ? LLVMConstReal(a->element, real)
             : ir_is_float(from)              ? LLVMConstInt(a->element, ir_bits_of_float(from, real), false)
                                              : LLVMConstInt(a->element, (uint64_t)(int64_t)real, true);
  if (packed_bytes(a)) r->quads = ts_new_array(e->arena, LLVMValueRef, (size_t)a->shape.outer / 4);
  cgh_tile *t = cgh_new_tile(e, &a->shape, op->results[0]->type->dtype);
  t->make = make_load;
  t->recipe = r;
  t->from = a->mem;
  cgh_tile *inputs[CGH_RANK + 1] = {a->mask};
  for (unsigned d = 0; d < a->rank; d++) inputs[1 + d] = a->dim[d].tile;
  cgh_defer(e, op, 0, t, 1 + a->rank, inputs);
}

static void store_vector(cgh_emit *e, access *a, int64_t outer, LLVMValueRef v) {
  unsigned n = (unsigned)a->shape.vec;
  LLVMTypeRef type = LLVMVectorType(a->element, n);
  LLVMValueRef p = address(e, a, outer), mask = a->mask ? cgh_view(e, a->mask, &a->shape, outer, NULL) : NULL;
  if (a->contiguous && mask && !cgh_length(mask)) return guarded_store(e, a, v, guarded(e, a, mask, p));
  if (mask && !cgh_length(mask)) mask = cgh_splat(e, mask, n);
  if (a->contiguous) {
    if (!mask) return store_at(e, a, v, p);
    LLVMTypeRef over[] = {type, e->ptr};
    set_metadata(e, a, cgh_call(e, "llvm.masked.store", 2, over, 4, (LLVMValueRef[]){v, p, align_of(e, a), mask}));
    return;
  }
  LLVMValueRef offsets = lane_offsets(e, a, outer);
  if (mask) {
    LLVMTypeRef over[] = {type, LLVMVectorType(e->ptr, n)};
    LLVMValueRef at = LLVMBuildInBoundsGEP2(e->b, a->element, p, &offsets, 1, "");
    set_metadata(e, a, cgh_call(e, "llvm.masked.scatter", 2, over, 4, (LLVMValueRef[]){v, at, align_of(e, a), mask}));
    return;
  }
  for (unsigned i = 0; i < n; i++) {
    LLVMValueRef lane = LLVMConstInt(e->i32, i, false);
    LLVMValueRef at = advance(e, a, p, LLVMBuildExtractElement(e->b, offsets, lane, ""));
    store_at(e, a, LLVMBuildExtractElement(e->b, v, lane, ""), at);
  }
}

void cgh_store(cgh_emit *e, const ir_op *op) {
  bool masked = ir_attr_int(op, "masked", 0) != 0;
  if (op->operand_count < 2u + masked)
    return cgh_fail(e, &diag_host_not_finished, "%s without a value", ir_op_get(op->code)->name);
  cgh_tile *v = cgh_tile_of(e, op->operands[op->operand_count - 1 - masked]);
  access a;
  if (!v || !read_access(e, op, v, 1, &a)) return;
  if (a.mem->readonly) return cgh_fail(e, &diag_host_not_finished, "a store to a parameter of role in");
  ir_dtype to = a.mem->type->dtype;
  cgh_flush_loads(e, a.mem);
  for (int64_t o = 0; o < a.shape.outer; o++) {
    if (a.shape.vec) {
      store_vector(e, &a, o, cgh_convert(e, cgh_view_full(e, v, &a.shape, o, NULL), v->dtype, to));
      continue;
    }
    LLVMValueRef x = cgh_convert(e, cgh_view(e, v, &a.shape, o, NULL), v->dtype, to), p = address(e, &a, o);
    if (a.mask) guarded_store(e, &a, x, guarded(e, &a, cgh_view(e, a.mask, &a.shape, o, NULL), p));
    else store_at(e, &a, x, p);
  }
}

// ---- atomic ----------------------------------------------------------------------------------------------------------------
typedef struct atomic_kind {
  const char *name;
  LLVMAtomicRMWBinOp real, sint, uint;
  bool floats;
} atomic_kind;

static const atomic_kind atomics[] = {
  {"add", LLVMAtomicRMWBinOpFAdd, LLVMAtomicRMWBinOpAdd, LLVMAtomicRMWBinOpAdd, true},
  {"min", LLVMAtomicRMWBinOpFMin, LLVMAtomicRMWBinOpMin, LLVMAtomicRMWBinOpUMin, true},
  {"max", LLVMAtomicRMWBinOpFMax, LLVMAtomicRMWBinOpMax, LLVMAtomicRMWBinOpUMax, true},
  {"and", LLVMAtomicRMWBinOpAnd, LLVMAtomicRMWBinOpAnd, LLVMAtomicRMWBinOpAnd, false},
  {"or", LLVMAtomicRMWBinOpOr, LLVMAtomicRMWBinOpOr, LLVMAtomicRMWBinOpOr, false},
  {"xor", LLVMAtomicRMWBinOpXor, LLVMAtomicRMWBinOpXor, LLVMAtomicRMWBinOpXor, false},
  {"exch", LLVMAtomicRMWBinOpXchg, LLVMAtomicRMWBinOpXchg, LLVMAtomicRMWBinOpXchg, true},
};

static LLVMAtomicOrdering ordering_of(ts_sym order) {
  static const struct {
    const char *name;
    LLVMAtomicOrdering order;
  } all[] = {{"relaxed", LLVMAtomicOrderingMonotonic},
             {"acquire", LLVMAtomicOrderingAcquire},
             {"release", LLVMAtomicOrderingRelease},
             {"acq_rel", LLVMAtomicOrderingAcquireRelease}};
  for (unsigned i = 0; order && i < sizeof all / sizeof all[0]; i++)
    if (strcmp(order, all[i].name) == 0) return all[i].order;
  return order ? LLVMAtomicOrderingSequentiallyConsistent : LLVMAtomicOrderingMonotonic;
}

void cgh_atomic(cgh_emit *e, const ir_op *op) {
  bool masked = ir_attr_int(op, "masked", 0) != 0;
  ts_sym name = ir_attr_sym(op, "op");
  const atomic_kind *kind = NULL;
  for (unsigned i = 0; name && i < sizeof atomics / sizeof atomics[0]; i++)
    if (strcmp(name, atomics[i].name) == 0) kind = &atomics[i];
  if (!kind || op->operand_count < 2u + masked)
    return cgh_fail(e, &diag_host_not_finished, "atomic %s", name ? name : "without op");
  cgh_tile *v = cgh_tile_of(e, op->operands[op->operand_count - 1 - masked]);
  access a;
  if (!v || !read_access(e, op, v, 1, &a)) return;
  ir_dtype t = a.mem->type->dtype;
  bool real = t == IR_f32 || t == IR_f64;
  if (a.mem->readonly || t != v->dtype || ir_dtype_bits(t) < 32 || (real && !kind->floats))
    return cgh_fail(e, &diag_host_op, "atomic %s of %s to a %s of role %s", name, ir_dtype_name(v->dtype), ir_dtype_name(t),
                    a.mem->readonly ? "in" : "out");
  LLVMAtomicRMWBinOp rmw = real ? kind->real : ir_is_signed(t) ? kind->sint : kind->uint;
  LLVMAtomicOrdering order = ordering_of(ir_attr_sym(op, "order"));
  cgh_tile *old = cgh_new_tile(e, &a.shape, t);
  cgh_flush_loads(e, a.mem);
  for (int64_t o = 0; o < a.shape.outer; o++) {
    unsigned n = (unsigned)a.shape.vec;
    LLVMValueRef x = cgh_view_full(e, v, &a.shape, o, NULL), mask = a.mask ? cgh_view_full(e, a.mask, &a.shape, o, NULL) : NULL;
    LLVMValueRef p = address(e, &a, o), offsets = n ? lane_offsets(e, &a, o) : NULL;
    LLVMValueRef before = n ? LLVMGetPoison(LLVMVectorType(a.element, n)) : NULL;
    for (unsigned i = 0; i < (n ? n : 1); i++) {
      LLVMValueRef lane = LLVMConstInt(e->i32, i, false);
      LLVMValueRef at = n ? advance(e, &a, p, LLVMBuildExtractElement(e->b, offsets, lane, "")) : p;
      if (mask) at = guarded(e, &a, n ? LLVMBuildExtractElement(e->b, mask, lane, "") : mask, at);
      LLVMValueRef r = LLVMBuildAtomicRMW(e->b, rmw, at, n ? LLVMBuildExtractElement(e->b, x, lane, "") : x, order, false);
      before = n ? LLVMBuildInsertElement(e->b, before, r, lane, "") : r;
    }
    old->v[o] = before;
  }
  if (!op->result_count) return;
  cgh_shape s;
  if (!cgh_shape_of(e, op->results[0]->type, &s)) return;
  if (s.rank == a.shape.rank && s.lane == a.shape.lane) return cgh_define(e, op->results[0], old);
  cgh_tile *r = cgh_new_tile(e, &s, t);
  for (int64_t o = 0; o < s.outer; o++) r->v[o] = cgh_view_full(e, old, &s, o, NULL);
  cgh_define(e, op->results[0], r);
}
