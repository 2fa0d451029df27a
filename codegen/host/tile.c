// Ops that make or rearrange tiles: iota, full, relabel, convert, lookup.
#include "codegen/host/emit.h"

#include "base/checked.h"

void cgh_iota(cgh_emit *e, const ir_op *op) {
  cgh_shape s;
  LLVMValueRef base = cgh_scalar(e, op->operands[0]);
  if (!base || !cgh_shape_of(e, op->results[0]->type, &s)) return;
  ir_dtype dtype = op->results[0]->type->dtype;
  if (s.rank != 1 || !ir_is_int(dtype)) return cgh_fail(e, &diag_host_op, "iota gives integers along one axis");
  cgh_tile *t = cgh_new_tile(e, &s, dtype);
  LLVMTypeRef type = cgh_type(e, dtype);
  base = cgh_convert(e, base, op->operands[0]->type->dtype, dtype);
  if (s.vec) {
    LLVMValueRef step[CGH_MAX_VECTOR];
    for (int64_t i = 0; i < s.vec; i++) step[i] = LLVMConstInt(type, (uint64_t)i, false);
    t->v[0] = LLVMBuildAdd(e->b, cgh_splat(e, base, (unsigned)s.vec), LLVMConstVector(step, (unsigned)s.vec), "");
  } else {
    for (int64_t i = 0; i < s.outer; i++) t->v[i] = LLVMBuildAdd(e->b, base, LLVMConstInt(type, (uint64_t)i, false), "");
  }
  cgh_define(e, op->results[0], t);
}

void cgh_full(cgh_emit *e, const ir_op *op) {
  cgh_shape s;
  LLVMValueRef x = cgh_scalar(e, op->operands[0]);
  if (!x || !cgh_shape_of(e, op->results[0]->type, &s)) return;
  x = cgh_convert(e, x, op->operands[0]->type->dtype, op->results[0]->type->dtype);
  cgh_tile *t = cgh_new_tile(e, &s, op->results[0]->type->dtype);
  LLVMValueRef v = cgh_splat(e, x, (unsigned)s.vec);
  for (int64_t i = 0; i < s.outer; i++) t->v[i] = v;
  cgh_define(e, op->results[0], t);
}

// ---- relabel ---------------------------------------------------------------------------------------------------------------
typedef enum kind { RENAME, SPLIT, MERGE, SLICE, PICK, CONCAT, PERMUTE, KINDS } kind;
static const char *const kind_names[KINDS] = {"rename", "split", "merge", "slice", "pick", "concat", "permute"};

typedef struct relabelling {
  kind kind;
  ts_sym axis;   // what the op's attribute `axis` says
  uint32_t to_count;
  ts_sym *to;
  int64_t at, step;
  cgh_shape shape;   // of the result
  cgh_tile **source;
  uint32_t sources;
} relabelling;

static int64_t coordinate(const relabelling *r, const int64_t *c, ts_sym axis) {
  int i = cgh_axis(&r->shape, axis);
  return i < 0 ? 0 : c[i];
}

// Which operand, and which of its elements, is element c of the result. False: there is none.
static bool origin(const relabelling *r, const int64_t *c, uint32_t *which, int64_t *from) {
  *which = 0;
  int64_t along = coordinate(r, c, r->axis);
  if (r->kind == CONCAT) {
    for (;; ++*which) {
      if (*which == r->sources) return false;
      int i = cgh_axis(&r->source[*which]->shape, r->axis);
      int64_t n = i < 0 ? 1 : r->source[*which]->shape.extent[i];
      if (along < n) break;
      along -= n;
    }
  }
  const cgh_shape *q = &r->source[*which]->shape;
  for (unsigned i = 0; i < q->rank; i++) {
    ts_sym name = q->axis[i];
    bool named = name == r->axis;
    int64_t v = coordinate(r, c, name);
    if (r->kind == RENAME && named) v = coordinate(r, c, r->to[0]);
    if (r->kind == SPLIT && named) {
      v = 0;
      for (uint32_t k = 0; k < r->to_count; k++) {
        int d = cgh_axis(&r->shape, r->to[k]);
        if (d >= 0) v = v * r->shape.extent[d] + c[d];
      }
    }
    if (r->kind == MERGE) {
      int64_t below = 1;
      bool merged = false;
      for (uint32_t k = r->to_count; k-- > 0;) {
        int d = cgh_axis(q, r->to[k]);
        if (d < 0) return false;
        if (r->to[k] == name) {
          v = along / below % q->extent[d];
          merged = true;
        }
        below *= q->extent[d];
      }
      if (!merged && cgh_axis(&r->shape, name) < 0) return false;
    }
    if (r->kind == SLICE && named) v = r->at + along * r->step;
    if (r->kind == PICK && named) v = r->at;
    if (r->kind == CONCAT && named) v = along;
    if (v < 0 || v >= q->extent[i]) return false;
    from[i] = v;
  }
  return true;
}

static bool read_relabel(cgh_emit *e, const ir_op *op, relabelling *r) {
  ts_sym name = ir_attr_sym(op, "kind");
  const ir_attr *to = ir_attr_find(op, "to");
  *r = (relabelling){
    .kind = KINDS, .axis = ir_attr_sym(op, "axis"), .at = ir_attr_int(op, "at", 0), .step = ir_attr_int(op, "step", 1)};
  for (int i = 0; i < KINDS; i++)
    if (name && strcmp(name, kind_names[i]) == 0) r->kind = (kind)i;
  if (to && to->kind == IR_ATTR_AXES) r->to = to->axes.data, r->to_count = to->axes.count;
  bool needs_to = r->kind == RENAME || r->kind == SPLIT || r->kind == MERGE;
  if (r->kind == KINDS || (needs_to && !r->to_count) || (r->kind != PERMUTE && !r->axis)) {
    cgh_fail(e, &diag_host_not_finished, "relabel %s lacks an attribute or has an unknown kind", name ? name : "?");
    return false;
  }
  r->sources = op->operand_count;
  r->source = ts_new_array(e->arena, cgh_tile *, r->sources);
  for (uint32_t i = 0; i < r->sources; i++)
    if (!(r->source[i] = cgh_tile_of(e, op->operands[i]))) return false;
  return cgh_shape_of(e, op->results[0]->type, &r->shape);
}

static cgh_tile *rearrange(cgh_emit *e, const relabelling *r, ir_dtype dtype) {
  const cgh_shape *s = &r->shape;
  cgh_tile *t = cgh_new_tile(e, s, dtype);
  int64_t c[CGH_RANK], from[CGH_RANK];
  for (int64_t o = 0; o < s->outer; o++) {
    LLVMValueRef source[CGH_MAX_VECTOR];
    int lane[CGH_MAX_VECTOR];
    for (int64_t k = 0; k < (s->vec ? s->vec : 1); k++) {
      uint32_t which;
      cgh_coords(s, o, k, c);
      if (!origin(r, c, &which, from)) return cgh_fail(e, &diag_host_not_finished, "relabel reaches outside its operand"), NULL;
      const cgh_tile *q = r->source[which];
      int64_t at = 0, in = 0;
      for (unsigned i = 0; i < q->shape.rank; i++) {
        int64_t *p = i < q->shape.lane ? &at : &in;
        *p = *p * q->shape.extent[i] + from[i];
      }
      source[k] = cgh_value(e, q, at);
      lane[k] = q->shape.vec ? (int)in : -1;
    }
    if (s->vec) t->v[o] = cgh_gather(e, (unsigned)s->vec, source, lane);
    else
      t->v[o] =
        lane[0] < 0 ? source[0] : LLVMBuildExtractElement(e->b, source[0], LLVMConstInt(e->i32, (unsigned)lane[0], false), "");
  }
  return t;
}

void cgh_relabel(cgh_emit *e, const ir_op *op) {
  relabelling r;
  if (!read_relabel(e, op, &r)) return;
  cgh_tile *t = rearrange(e, &r, op->results[0]->type->dtype);
  if (t) cgh_define(e, op->results[0], t);
}

// The same tile with another choice of lanes.
void cgh_convert_op(cgh_emit *e, const ir_op *op) {
  cgh_tile *x = cgh_tile_of(e, op->operands[0]);
  cgh_shape s;
  if (!x || !cgh_shape_of(e, op->results[0]->type, &s)) return;
  cgh_tile *t = cgh_new_tile(e, &s, x->dtype);
  for (int64_t i = 0; i < s.outer; i++) t->v[i] = cgh_view_full(e, x, &s, i, NULL);
  cgh_define(e, op->results[0], t);
}

// ---- lookup ----------------------------------------------------------------------------------------------------------------
// The `n` table entries as one vector.
static LLVMValueRef table_vector(cgh_emit *e, const cgh_tile *table, int axis, int64_t *coord) {
  unsigned n = (unsigned)table->shape.extent[axis];
  LLVMValueRef source[CGH_MAX_VECTOR];
  int lane[CGH_MAX_VECTOR];
  for (unsigned i = 0; i < n; i++) {
    coord[axis] = i;
    int64_t o = 0, l = 0;
    for (unsigned d = 0; d < table->shape.rank; d++) {
      int64_t *p = d < table->shape.lane ? &o : &l;
      *p = *p * table->shape.extent[d] + coord[d];
    }
    source[i] = cgh_value(e, table, o);
    lane[i] = table->shape.vec ? (int)l : -1;
  }
  return cgh_gather(e, n, source, lane);
}

// Elements of a vector cut into pieces of `width` (the last one filled up with anything).
static LLVMValueRef piece(cgh_emit *e, LLVMValueRef v, unsigned first, unsigned width) {
  int mask[CGH_MAX_VECTOR];
  unsigned n = cgh_length(v);
  for (unsigned i = 0; i < width; i++) mask[i] = first + i < n ? (int)(first + i) : -1;
  return cgh_shuffle(e, v, NULL, width, mask);
}

// Tables of 32-bit entries that fill one register: one permute for each register of indices. It reads only an index' low bits.
static LLVMValueRef permute_register(cgh_emit *e, LLVMValueRef table, unsigned first, LLVMValueRef index, unsigned width) {
  bool real = LLVMGetElementType(LLVMTypeOf(table)) == e->f32;
  const char *name = width == 16 ? real ? "llvm.x86.avx512.permvar.sf.512" : "llvm.x86.avx512.permvar.si.512"
                     : real      ? "llvm.x86.avx2.permps"
                                 : "llvm.x86.avx2.permd";
  unsigned n = cgh_length(index), pieces = (n + width - 1) / width;
  LLVMValueRef from[CGH_MAX_VECTOR];
  int lane[CGH_MAX_VECTOR];
  table = piece(e, table, first, width);
  for (unsigned p = 0; p < pieces; p++) {
    LLVMValueRef r = cgh_call(e, name, 0, NULL, 2, (LLVMValueRef[]){table, piece(e, index, p * width, width)});
    for (unsigned i = 0; i < width && p * width + i < n; i++) from[p * width + i] = r, lane[p * width + i] = (int)i;
  }
  return cgh_gather(e, n, from, lane);
}

// Tables of at most two registers; bits of an index above the table's size are not looked at.
static LLVMValueRef permute(cgh_emit *e, LLVMValueRef table, LLVMValueRef index, unsigned width) {
  LLVMValueRef low = permute_register(e, table, 0, index, width);
  if (cgh_length(table) <= width) return low;
  LLVMValueRef high = permute_register(e, table, width, index, width);
  LLVMTypeRef type = LLVMTypeOf(index);
  LLVMValueRef bit = LLVMBuildAnd(e->b, index, cgh_int(e, type, width), "");
  return cgh_select(e, LLVMBuildICmp(e->b, LLVMIntNE, bit, cgh_int(e, type, 0), ""), high, low);
}

// Table of any size, or of another element type: through memory. Indices are kept inside the table.
static LLVMValueRef lookup_memory(cgh_emit *e, LLVMValueRef slot, LLVMTypeRef element, unsigned entries, LLVMValueRef index) {
  unsigned n = cgh_length(index);
  LLVMValueRef last = cgh_int(e, LLVMTypeOf(index), entries - 1);
  if (ts_is_pow2(entries)) {
    index = LLVMBuildAnd(e->b, index, last, "");
  } else {
    LLVMTypeRef type = LLVMTypeOf(index);
    index = cgh_call(e, "llvm.umin", 1, &type, 2, (LLVMValueRef[]){index, last});
  }
  LLVMValueRef result = n ? LLVMGetPoison(LLVMVectorType(element, n)) : NULL;
  for (unsigned i = 0; i < (n ? n : 1); i++) {
    LLVMValueRef k = LLVMConstInt(e->i32, i, false);
    LLVMValueRef at = n ? LLVMBuildExtractElement(e->b, index, k, "") : index;
    at = LLVMBuildZExt(e->b, at, e->i64, "");
    LLVMValueRef v = LLVMBuildLoad2(e->b, element, LLVMBuildInBoundsGEP2(e->b, element, slot, &at, 1, ""), "");
    result = n ? LLVMBuildInsertElement(e->b, result, v, k, "") : v;
  }
  return result;
}

void cgh_lookup(cgh_emit *e, const ir_op *op) {
  cgh_tile *table = cgh_tile_of(e, op->operands[0]), *index = cgh_tile_of(e, op->operands[1]);
  cgh_shape s;
  ts_sym axis = ir_attr_sym(op, "axis");
  if (!table || !index || !cgh_shape_of(e, op->results[0]->type, &s)) return;
  int at = axis ? cgh_axis(&table->shape, axis) : -1;
  if (at < 0 || !ir_is_int(index->dtype))
    return cgh_fail(e, &diag_host_not_finished, "lookup needs a table axis and integer indices");
  unsigned n = (unsigned)table->shape.extent[at];
  if (n > CGH_MAX_VECTOR)
    return cgh_fail(e, &diag_host_tile_size, "lookup in a table of %u entries; at most %d", n, CGH_MAX_VECTOR);
  cgh_tile *t = cgh_new_tile(e, &s, table->dtype);
  LLVMTypeRef element = cgh_type(e, table->dtype);
  unsigned width = e->isa->vector_bits / 32;
  LLVMValueRef slot = NULL, values = NULL;
  bool stored = false;
  for (int64_t o = 0; o < s.outer; o++) {
    int64_t c[CGH_RANK], coord[CGH_RANK];
    cgh_coords(&s, o, 0, c);
    for (unsigned d = 0; d < table->shape.rank; d++) {
      int k = cgh_axis(&s, table->shape.axis[d]);
      if (d != (unsigned)at && k >= (int)s.lane)
        return cgh_fail(e, &diag_host_op, "lookup in a table that differs between lanes");
      coord[d] = d == (unsigned)at || k < 0 ? 0 : c[k];
    }
    if (!values || table->shape.rank > 1) {
      values = table_vector(e, table, at, coord);
      stored = false;
    }
    LLVMValueRef i =
      cgh_convert(e, s.vec ? cgh_view_full(e, index, &s, o, NULL) : cgh_view(e, index, &s, o, NULL), index->dtype, IR_u32);
    if (s.vec && n <= 2 * width && (element == e->f32 || element == e->i32)) {
      t->v[o] = permute(e, values, i, width);
      continue;
    }
    if (!slot) {
      slot = LLVMBuildAlloca(e->entry, LLVMTypeOf(values), "");
      LLVMSetAlignment(slot, 64);
    }
    if (!stored) LLVMSetAlignment(LLVMBuildStore(e->b, values, slot), 64);
    stored = true;
    t->v[o] = lookup_memory(e, slot, element, n, i);
  }
  cgh_define(e, op->results[0], t);
}
