// `dot`: sums of products, in the order of the coordinates of `over`.
//
//   outer form    the summed axes are unrolled: acc = fma(a, b, acc), one operand often a scalar that is broadcast
//   lanes form    both operands run over the summed axis in their lanes: vector products, one horizontal sum at the end
//   quads form    integers of 8 bits packed by four inside a lane: vpdpbusd, or pairs of 16-bit products
#include "codegen/host/emit.h"

#include "base/checked.h"

typedef struct dot {
  cgh_tile *a, *b, *acc;
  cgh_shape result;
  ir_dtype type;
  uint32_t over_count;
  ts_sym *over;
  int64_t extent[CGH_RANK], terms;   // of the summed axes, in order
} dot;

static bool summed(const dot *d, ts_sym axis) {
  for (uint32_t i = 0; i < d->over_count; i++)
    if (d->over[i] == axis) return true;
  return false;
}

static bool read_dot(cgh_emit *e, const ir_op *op, dot *d) {
  const ir_attr *over = ir_attr_find(op, "over");
  *d = (dot){.type = op->results[0]->type->dtype, .terms = 1};
  if (!over || over->kind != IR_ATTR_AXES || !over->axes.count || over->axes.count > CGH_RANK)
    return cgh_fail(e, &diag_host_not_finished, "dot without the axes it sums over"), false;
  d->over = over->axes.data, d->over_count = over->axes.count;
  if (!(d->a = cgh_tile_of(e, op->operands[0])) || !(d->b = cgh_tile_of(e, op->operands[1]))) return false;
  if (op->operand_count > 2 && !(d->acc = cgh_tile_of(e, op->operands[2]))) return false;
  if (!cgh_shape_of(e, op->results[0]->type, &d->result)) return false;
  if (d->acc && d->acc->dtype != d->type)
    return cgh_fail(e, &diag_host_not_finished, "dot: the accumulator has another type than the result"), false;
  for (uint32_t i = 0; i < d->over_count; i++) {
    int x = cgh_axis(&d->a->shape, d->over[i]), y = cgh_axis(&d->b->shape, d->over[i]);
    if (x < 0 || y < 0 || d->a->shape.extent[x] != d->b->shape.extent[y] || cgh_axis(&d->result, d->over[i]) >= 0)
      return cgh_fail(e, &diag_host_not_finished, "dot: axis %s must be in both operands and not in the result", d->over[i]),
             false;
    d->extent[i] = d->a->shape.extent[x];
    d->terms *= d->extent[i];
  }
  return true;
}

// Coordinates of term number k on the summed axes, by axis of the tile; axes named in `skip` stay 0.
static void term(const dot *d, const cgh_tile *t, int64_t k, int64_t *extra) {
  memset(extra, 0, CGH_RANK * sizeof *extra);
  for (uint32_t i = d->over_count; i-- > 0;) {
    int x = cgh_axis(&t->shape, d->over[i]);
    if (x >= 0) extra[x] = k % d->extent[i];
    k /= d->extent[i];
  }
}

static LLVMValueRef multiply_add(cgh_emit *e, const dot *d, LLVMValueRef x, LLVMValueRef y, LLVMValueRef acc) {
  unsigned n = acc ? cgh_length(acc) : cgh_length(x) ? cgh_length(x) : cgh_length(y);
  x = cgh_convert(e, x, d->a->dtype, d->type), y = cgh_convert(e, y, d->b->dtype, d->type);
  if (n && !cgh_length(x)) x = cgh_splat(e, x, n);
  if (n && !cgh_length(y)) y = cgh_splat(e, y, n);
  if (ir_is_float(d->type)) return acc ? cgh_fma(e, x, y, acc) : LLVMBuildFMul(e->b, x, y, "");
  LLVMValueRef p = LLVMBuildMul(e->b, x, y, "");
  return acc ? LLVMBuildAdd(e->b, acc, p, "") : p;
}

static LLVMValueRef start(cgh_emit *e, const dot *d, int64_t o) {
  return d->acc ? cgh_view_full(e, d->acc, &d->result, o, NULL) : NULL;
}

static void outer_form(cgh_emit *e, const dot *d, cgh_tile *r) {
  int64_t ex[CGH_RANK], ey[CGH_RANK];
  for (int64_t o = 0; o < d->result.outer; o++) r->v[o] = start(e, d, o);
  for (int64_t k = 0; k < d->terms && cgh_ok(e); k++) {
    term(d, d->a, k, ex);
    term(d, d->b, k, ey);
    for (int64_t o = 0; o < d->result.outer; o++)
      r->v[o] = multiply_add(e, d, cgh_view(e, d->a, &d->result, o, ex), cgh_view(e, d->b, &d->result, o, ey), r->v[o]);
  }
  for (int64_t o = 0; o < d->result.outer; o++)
    if (d->result.vec && !cgh_length(r->v[o])) r->v[o] = cgh_splat(e, r->v[o], (unsigned)d->result.vec);
}

// ---- lanes form --------------------------------------------------------------------------------------------------------------
static bool vector_is_summed(const dot *d, const cgh_tile *t) {
  if (!t->shape.vec) return false;
  for (unsigned i = t->shape.lane; i < t->shape.rank; i++)
    if (!summed(d, t->shape.axis[i])) return false;
  return true;
}

// First halves (second: second halves) of the `items` equal segments of a, then of b (NULL: none).
static LLVMValueRef halves(cgh_emit *e, LLVMValueRef a, LLVMValueRef b, unsigned items, bool second) {
  int mask[CGH_MAX_VECTOR];
  unsigned w = cgh_length(a), segment = w / items, n = 0;
  for (unsigned i = 0; i < (b ? 2 * items : items); i++)
    for (unsigned k = 0; k < segment / 2; k++) mask[n++] = (int)(i * segment + k + (second ? segment / 2 : 0));
  return cgh_shuffle(e, a, b, n, mask);
}

// The sums of `count` vectors (a power of two, at most their length), lane i being vector i's: all are folded together, which
// takes one addition per vector instead of one per step. Each is added up in the same order as by cgh_horizontal().
static LLVMValueRef sums_together(cgh_emit *e, ir_dtype t, LLVMValueRef *v, unsigned count) {
  unsigned items = 1;
  for (; count > 1; count /= 2, items *= 2)
    for (unsigned i = 0; i < count / 2; i++)
      v[i] = cgh_scalar_op(e, IR_SCALAR_add, t, halves(e, v[2 * i], v[2 * i + 1], items, false),
                           halves(e, v[2 * i], v[2 * i + 1], items, true), NULL);
  while (cgh_length(v[0]) > items)
    v[0] = cgh_scalar_op(e, IR_SCALAR_add, t, halves(e, v[0], NULL, items, false), halves(e, v[0], NULL, items, true), NULL);
  return v[0];
}

static void horizontal_sums(cgh_emit *e, ir_dtype t, LLVMValueRef *v, int64_t n) {
  unsigned w = cgh_length(v[0]);
  for (int64_t at = 0; at < n;) {
    unsigned count = 1;
    while (ts_is_pow2(w) && 2 * count <= w && at + 2 * count <= n) count *= 2;
    LLVMValueRef part[CGH_MAX_VECTOR];
    memcpy(part, v + at, count * sizeof *part);
    LLVMValueRef all = count > 1 ? sums_together(e, t, part, count) : NULL;
    if (!all) v[at] = cgh_horizontal(e, part[0], IR_SCALAR_add, t);
    for (unsigned i = 0; all && i < count; i++)
      v[at + i] = LLVMBuildExtractElement(e->b, all, LLVMConstInt(e->i32, i, false), "");
    at += count;
  }
}

static LLVMValueRef cut(cgh_emit *e, LLVMValueRef v, unsigned first, unsigned width) {
  int mask[CGH_MAX_VECTOR];
  unsigned n = cgh_length(v);
  for (unsigned i = 0; i < width; i++) mask[i] = first + i < n ? (int)(first + i) : -1;
  return cgh_shuffle(e, v, NULL, width, mask);
}

// Vectors of floats are first added up to 512 bits, whatever the level: every level gives the same bits.
static LLVMValueRef add_products(cgh_emit *e, const dot *d, LLVMValueRef x, LLVMValueRef y, LLVMValueRef sum) {
  unsigned n = cgh_length(x), width = ir_is_float(d->type) ? 512 / ir_dtype_bits(d->type) : n;
  if (n % width) return multiply_add(e, d, x, y, sum);
  for (unsigned at = 0; at < n; at += width) sum = multiply_add(e, d, cut(e, x, at, width), cut(e, y, at, width), sum);
  return sum;
}

// The result's axes and the other summed axes are unrolled, the vector is `lead`'s.
static void lanes_form(cgh_emit *e, const dot *d, const cgh_tile *lead, cgh_tile *r) {
  cgh_shape s = d->result;
  int64_t count = 1;
  for (uint32_t i = 0; i < d->over_count; i++) {
    if (cgh_axis(&lead->shape, d->over[i]) >= (int)lead->shape.lane) continue;
    s.axis[s.rank] = d->over[i];
    s.extent[s.rank++] = d->extent[i];
    count *= d->extent[i];
  }
  s.outer = d->result.outer * count;
  s.lane = s.rank;
  s.vec = lead->shape.vec;
  for (unsigned i = lead->shape.lane; i < lead->shape.rank; i++) {
    s.axis[s.rank] = lead->shape.axis[i];
    s.extent[s.rank++] = lead->shape.extent[i];
  }
  for (int64_t o = 0; o < d->result.outer && cgh_ok(e); o++) {
    LLVMValueRef sum = NULL;
    for (int64_t k = 0; k < count; k++)
      sum =
        add_products(e, d, cgh_view_full(e, d->a, &s, o * count + k, NULL), cgh_view_full(e, d->b, &s, o * count + k, NULL), sum);
    r->v[o] = sum;
  }
  if (!cgh_ok(e)) return;
  horizontal_sums(e, d->type, r->v, d->result.outer);
  for (int64_t o = 0; o < d->result.outer && d->acc; o++)
    r->v[o] = cgh_scalar_op(e, IR_SCALAR_add, d->type, start(e, d, o), r->v[o], NULL);
}

// ---- quads form --------------------------------------------------------------------------------------------------------------
static bool is_byte(ir_dtype t) { return t == IR_i8 || t == IR_u8; }

// The result's lanes are one axis n; one operand's vectors are [n, r: 4], r summed; the other is like that too, or lacks n and
// has r as its last axis. Gives the position of r in `over`, -1 when the form is another.
static int quad_axis(const dot *d) {
  if (!is_byte(d->a->dtype) || !is_byte(d->b->dtype) || d->type != IR_i32 || !d->result.vec ||
      d->result.lane + 1 != d->result.rank)
    return -1;
  ts_sym n = d->result.axis[d->result.lane];
  for (uint32_t i = 0; i < d->over_count; i++) {
    if (d->extent[i] != 4) continue;
    bool lanes = false, good = true;
    for (int k = 0; k < 2; k++) {
      const cgh_shape *s = k ? &d->b->shape : &d->a->shape;
      if (cgh_axis(s, n) < 0) {
        good &= s->axis[s->rank - 1] == d->over[i];
        continue;
      }
      lanes |= good &= s->vec && s->rank - s->lane == 2 && s->axis[s->lane] == n && s->axis[s->lane + 1] == d->over[i];
    }
    if (good && lanes) return (int)i;
  }
  return -1;
}

// Four bytes of each lane as one i32: a vector, or a scalar where the tile doesn't vary over the lanes.
static LLVMValueRef quad(cgh_emit *e, const dot *d, const cgh_tile *t, int64_t o, const int64_t *extra, ts_sym r) {
  cgh_shape s = d->result;
  bool varies = cgh_axis(&t->shape, s.axis[s.lane]) >= 0;
  if (!varies) s.rank = s.lane, s.vec = 1;
  s.axis[s.rank] = r;
  s.extent[s.rank++] = 4;
  s.vec *= 4;
  LLVMValueRef v = cgh_view(e, t, &s, o, extra);
  if (varies) return LLVMBuildBitCast(e->b, v, LLVMVectorType(e->i32, (unsigned)d->result.vec), "");
  return LLVMBuildBitCast(e->b, v, e->i32, "");
}

// Products of the 16-bit halves of each i32, added by pairs.
static LLVMValueRef pairs(cgh_emit *e, LLVMValueRef x, LLVMValueRef y, unsigned width) {
  LLVMTypeRef half = LLVMVectorType(e->i16, 2 * width);
  LLVMValueRef args[] = {LLVMBuildBitCast(e->b, x, half, ""), LLVMBuildBitCast(e->b, y, half, "")};
  return cgh_call(e, width == 16 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd", 0, NULL, 2, args);
}

// Bytes 0 and 2 (or 1 and 3) of each i32 as two 16-bit numbers.
static LLVMValueRef every_other(cgh_emit *e, LLVMValueRef v, bool is_signed, bool odd, unsigned width) {
  LLVMTypeRef half = LLVMVectorType(e->i16, 2 * width);
  LLVMValueRef w = LLVMBuildBitCast(e->b, v, half, ""), eight = cgh_int(e, half, 8);
  if (!odd) w = is_signed ? LLVMBuildShl(e->b, w, eight, "") : LLVMBuildAnd(e->b, w, cgh_int(e, half, 255), "");
  if (odd || is_signed) w = is_signed ? LLVMBuildAShr(e->b, w, eight, "") : LLVMBuildLShr(e->b, w, eight, "");
  return LLVMBuildBitCast(e->b, w, LLVMVectorType(e->i32, width), "");
}

// acc + the sum of the four products of each lane, exactly (modulo 2^32).
static LLVMValueRef quad_add(cgh_emit *e, const dot *d, LLVMValueRef acc, LLVMValueRef x, LLVMValueRef y) {
  unsigned n = (unsigned)d->result.vec, width = e->isa->vector_bits / 32;
  bool sx = d->a->dtype == IR_i8, sy = d->b->dtype == IR_i8;
  if (!cgh_length(x)) x = cgh_splat(e, x, n);
  if (!cgh_length(y)) y = cgh_splat(e, y, n);
  LLVMValueRef from[CGH_MAX_VECTOR];
  int lane[CGH_MAX_VECTOR];
  for (unsigned first = 0; first < n; first += width) {
    LLVMValueRef p = cut(e, acc, first, width), u = cut(e, x, first, width), v = cut(e, y, first, width);
    if (e->isa->vnni && sx != sy) {
      p = cgh_call(e, "llvm.x86.avx512.vpdpbusd.512", 0, NULL, 3, (LLVMValueRef[]){p, sx ? v : u, sx ? u : v});
    } else {
      for (int odd = 0; odd < 2; odd++) {
        LLVMValueRef a = every_other(e, u, sx, odd, width), b = every_other(e, v, sy, odd, width);
        if (e->isa->vnni) p = cgh_call(e, "llvm.x86.avx512.vpdpwssd.512", 0, NULL, 3, (LLVMValueRef[]){p, a, b});
        else p = LLVMBuildAdd(e->b, p, pairs(e, a, b, width), "");
      }
    }
    for (unsigned i = 0; i < width && first + i < n; i++) from[first + i] = p, lane[first + i] = (int)i;
  }
  return cgh_gather(e, n, from, lane);
}

static void quads_form(cgh_emit *e, const dot *d, int axis, cgh_tile *r) {
  int64_t ex[CGH_RANK], ey[CGH_RANK], inside = 1;
  for (uint32_t i = (uint32_t)axis + 1; i < d->over_count; i++) inside *= d->extent[i];
  LLVMValueRef zero = cgh_int(e, LLVMVectorType(e->i32, (unsigned)d->result.vec), 0);
  for (int64_t o = 0; o < d->result.outer; o++) {
    LLVMValueRef s = start(e, d, o);
    r->v[o] = s ? s : zero;
  }
  for (int64_t k = 0; k < d->terms && cgh_ok(e); k++) {
    if (k / inside % 4) continue;
    for (int64_t o = 0; o < d->result.outer; o++) {
      term(d, d->a, k, ex);
      term(d, d->b, k, ey);
      r->v[o] = quad_add(e, d, r->v[o], quad(e, d, d->a, o, ex, d->over[axis]), quad(e, d, d->b, o, ey, d->over[axis]));
    }
  }
}

void cgh_dot(cgh_emit *e, const ir_op *op) {
  dot d;
  if (!read_dot(e, op, &d)) return;
  if (d.type != IR_f32 && d.type != IR_f64 && !(ir_is_int(d.type) && ir_dtype_bits(d.type) >= 32))
    return cgh_fail(e, &diag_host_op, "dot into %s; sums are f32, f64, or integers of 32 or 64 bits", ir_dtype_name(d.type));
  cgh_tile *r = cgh_new_tile(e, &d.result, d.type);
  bool a = vector_is_summed(&d, d.a), b = vector_is_summed(&d, d.b);
  int axis = quad_axis(&d);
  if (axis >= 0) quads_form(e, &d, axis, r);
  else if ((a || b) && !d.result.vec) lanes_form(e, &d, a ? d.a : d.b, r);
  else outer_form(e, &d, r);
  cgh_define(e, op->results[0], r);
}
