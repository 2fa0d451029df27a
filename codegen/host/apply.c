// `apply`: scalar functions over tiles. A node whose arguments don't vary over the lanes is computed as a scalar.
#include "codegen/host/emit.h"

static LLVMValueRef fn(cgh_emit *e, const char *name, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return cgh_call(e, name, 1, &t, 2, (LLVMValueRef[]){x, y});
}

static void match(cgh_emit *e, LLVMValueRef *x, LLVMValueRef *y) {
  unsigned n = cgh_length(*x), m = cgh_length(*y);
  if (n && !m) *y = cgh_splat(e, *y, n);
  if (m && !n) *x = cgh_splat(e, *x, m);
}

// The logarithm of a constant (or splat constant) power of two; -1 when it is not one.
static int constant_log2(LLVMValueRef v) {
  if (cgh_length(v)) {
    if (!LLVMIsAConstantDataVector(v)) return -1;
    LLVMValueRef first = LLVMGetAggregateElement(v, 0);
    for (unsigned i = 1; i < cgh_length(v); i++)
      if (LLVMGetAggregateElement(v, i) != first) return -1;
    v = first;
  }
  if (!LLVMIsAConstantInt(v)) return -1;
  int64_t n = LLVMConstIntGetSExtValue(v);
  return n > 0 && (n & (n - 1)) == 0 ? __builtin_ctzll((uint64_t)n) : -1;
}

// Division towards minus infinity, divisor above 0.
static LLVMValueRef int_div(cgh_emit *e, bool is_signed, bool want_rest, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef t = LLVMTypeOf(x);
  LLVMValueRef zero = cgh_int(e, t, 0);
  int shift = constant_log2(y);
  if (shift >= 0) {
    if (want_rest) return LLVMBuildAnd(e->b, x, cgh_int(e, t, (INT64_C(1) << shift) - 1), "");
    return is_signed ? LLVMBuildAShr(e->b, x, cgh_int(e, t, shift), "") : LLVMBuildLShr(e->b, x, cgh_int(e, t, shift), "");
  }
  if (!is_signed) return want_rest ? LLVMBuildURem(e->b, x, y, "") : LLVMBuildUDiv(e->b, x, y, "");
  LLVMValueRef rest = LLVMBuildSRem(e->b, x, y, "");
  LLVMValueRef negative = LLVMBuildICmp(e->b, LLVMIntSLT, rest, zero, "");
  if (want_rest) return LLVMBuildAdd(e->b, rest, cgh_select(e, negative, y, zero), "");
  return LLVMBuildAdd(e->b, LLVMBuildSDiv(e->b, x, y, ""), LLVMBuildSExt(e->b, negative, t, ""), "");
}

static LLVMValueRef compare(cgh_emit *e, ir_scalar op, ir_dtype t, LLVMValueRef x, LLVMValueRef y) {
  static const LLVMRealPredicate real[] = {LLVMRealOEQ, LLVMRealUNE, LLVMRealOLT, LLVMRealOLE, LLVMRealOGT, LLVMRealOGE};
  static const LLVMIntPredicate sint[] = {LLVMIntEQ, LLVMIntNE, LLVMIntSLT, LLVMIntSLE, LLVMIntSGT, LLVMIntSGE};
  static const LLVMIntPredicate uint[] = {LLVMIntEQ, LLVMIntNE, LLVMIntULT, LLVMIntULE, LLVMIntUGT, LLVMIntUGE};
  int i = (int)op - IR_SCALAR_eq;
  if (ir_is_float(t)) return LLVMBuildFCmp(e->b, real[i], x, y, "");
  return LLVMBuildICmp(e->b, ir_is_signed(t) ? sint[i] : uint[i], x, y, "");
}

static LLVMValueRef int_op(cgh_emit *e, ir_scalar op, ir_dtype t, LLVMValueRef x, LLVMValueRef y) {
  bool s = ir_is_signed(t);
  switch (op) {
    case IR_SCALAR_add: return LLVMBuildAdd(e->b, x, y, "");
    case IR_SCALAR_sub: return LLVMBuildSub(e->b, x, y, "");
    case IR_SCALAR_mul: return LLVMBuildMul(e->b, x, y, "");
    case IR_SCALAR_div: return int_div(e, s, false, x, y);
    case IR_SCALAR_rem: return int_div(e, s, true, x, y);
    case IR_SCALAR_neg: return LLVMBuildNeg(e->b, x, "");
    case IR_SCALAR_abs: return s ? fn(e, "llvm.abs", x, LLVMConstInt(e->i1, 0, false)) : x;
    case IR_SCALAR_min: return fn(e, s ? "llvm.smin" : "llvm.umin", x, y);
    case IR_SCALAR_max: return fn(e, s ? "llvm.smax" : "llvm.umax", x, y);
    case IR_SCALAR_and: return LLVMBuildAnd(e->b, x, y, "");
    case IR_SCALAR_or: return LLVMBuildOr(e->b, x, y, "");
    case IR_SCALAR_xor: return LLVMBuildXor(e->b, x, y, "");
    case IR_SCALAR_shl: return LLVMBuildShl(e->b, x, y, "");
    case IR_SCALAR_shr: return s ? LLVMBuildAShr(e->b, x, y, "") : LLVMBuildLShr(e->b, x, y, "");
    default: return NULL;
  }
}

static LLVMValueRef float_op(cgh_emit *e, ir_scalar op, ir_dtype t, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  switch (op) {
    case IR_SCALAR_add: return LLVMBuildFAdd(e->b, x, y, "");
    case IR_SCALAR_sub: return LLVMBuildFSub(e->b, x, y, "");
    case IR_SCALAR_mul: return LLVMBuildFMul(e->b, x, y, "");
    case IR_SCALAR_div: return LLVMBuildFDiv(e->b, x, y, "");
    case IR_SCALAR_fma: return cgh_fma(e, x, y, z);
    case IR_SCALAR_neg: return LLVMBuildFNeg(e->b, x, "");
    case IR_SCALAR_abs: return cgh_unary(e, "llvm.fabs", x);
    case IR_SCALAR_min: return fn(e, "llvm.minnum", x, y);
    case IR_SCALAR_max: return fn(e, "llvm.maxnum", x, y);
    case IR_SCALAR_round: return cgh_unary(e, "llvm.roundeven", x);
    case IR_SCALAR_floor: return cgh_unary(e, "llvm.floor", x);
    case IR_SCALAR_sqrt: return cgh_unary(e, "llvm.sqrt", x);
    default: return cgh_math(e, op, t, x);
  }
}

LLVMValueRef cgh_scalar_op(cgh_emit *e, ir_scalar op, ir_dtype t, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  const ir_scalar_info *info = ir_scalar_get(op);
  if (y) match(e, &x, &y);
  if (z) match(e, &x, &z);
  if (y) match(e, &x, &y);
  if (info->rule == IR_RULE_PICK) return cgh_select(e, x, y, z);
  bool narrow = ir_is_float(t) && t != IR_f32 && t != IR_f64;
  if (narrow && op == IR_SCALAR_fma) {
    cgh_fail(e, &diag_host_scalar, "fma of %s would round twice; convert to f32 first", ir_dtype_name(t));
    return x;
  }
  ir_dtype in = narrow ? IR_f32 : t;
  if (narrow) {
    x = cgh_to_f32(e, t, x);
    if (y) y = cgh_to_f32(e, t, y);
  }
  if (info->rule == IR_RULE_BOOL) return compare(e, op, in, x, y);
  LLVMValueRef r = ir_is_float(t) ? float_op(e, op, in, x, y, z) : int_op(e, op, t, x, y);
  if (!r) {
    cgh_fail(e, &diag_host_scalar, "%s of %s", info->name, ir_dtype_name(t));
    return LLVMGetPoison(cgh_like(e, x, cgh_type(e, t)));
  }
  return narrow ? cgh_convert(e, r, IR_f32, t) : r;
}

static LLVMValueRef constant(cgh_emit *e, const ir_expr *n) {
  LLVMTypeRef t = cgh_type(e, n->type);
  if (n->type == IR_f32 || n->type == IR_f64) return LLVMConstReal(t, n->real);
  if (ir_is_float(n->type)) return LLVMConstInt(t, ir_bits_of_float(n->type, n->real), false);
  return LLVMConstInt(t, (uint64_t)n->integer, true);
}

static LLVMValueRef node(cgh_emit *e, const ir_fn *f, const ir_expr *n, LLVMValueRef *v) {
  if (n->op == IR_SCALAR_CONST) return constant(e, n);
  LLVMValueRef a[3] = {NULL, NULL, NULL};
  unsigned arity = ir_scalar_get(n->op)->arity;
  for (unsigned i = 0; i < arity; i++) a[i] = v[n->args[i]];
  ir_dtype from = f->nodes[n->args[0]].type;
  if (n->op == IR_SCALAR_cast) return cgh_convert(e, a[0], from, n->type);
  if (n->op == IR_SCALAR_bits) {
    if (ir_dtype_bits(from) != ir_dtype_bits(n->type)) {
      cgh_fail(e, &diag_host_not_finished, "bits from %s to %s", ir_dtype_name(from), ir_dtype_name(n->type));
      return a[0];
    }
    return LLVMBuildBitCast(e->b, a[0], cgh_like(e, a[0], cgh_type(e, n->type)), "");
  }
  return cgh_scalar_op(e, n->op, from, a[0], a[1], a[2]);
}

typedef struct apply_recipe {
  const ir_fn *fn;
  cgh_tile **operands, **results;
  LLVMValueRef *v;          // by node
} apply_recipe;

static void make_apply(cgh_emit *e, cgh_tile *t, int64_t o) {
  apply_recipe *r = t->recipe;
  const ir_fn *f = r->fn;
  for (uint32_t i = 0; i < f->count; i++) {
    const ir_expr *n = &f->nodes[i];
    r->v[i] = n->op == IR_SCALAR_PARAM ? cgh_view(e, r->operands[n->index], &t->shape, o, NULL) : node(e, f, n, r->v);
  }
  for (uint32_t i = 0; i < f->results; i++) {
    LLVMValueRef out = r->v[f->outputs[i]];
    r->results[i]->v[o] = t->shape.vec && !cgh_length(out) ? cgh_splat(e, out, (unsigned)t->shape.vec) : out;
  }
}

void cgh_apply(cgh_emit *e, const ir_op *op) {
  const ir_attr *attr = ir_attr_find(op, "fn");
  const ir_fn *f = attr && attr->kind == IR_ATTR_FN ? attr->fn : NULL;
  if (!f || f->params != op->operand_count || f->results != op->result_count)
    return cgh_fail(e, &diag_host_not_finished, "apply without a function that fits its operands and results");
  apply_recipe *r = ts_new(e->arena, apply_recipe);
  r->fn = f;
  r->operands = ts_new_array(e->arena, cgh_tile *, op->operand_count);
  r->results = ts_new_array(e->arena, cgh_tile *, op->result_count);
  r->v = ts_new_array(e->arena, LLVMValueRef, f->count);
  cgh_shape s;
  if (!cgh_shape_of(e, op->results[0]->type, &s)) return;
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (!(r->operands[i] = cgh_tile_of(e, op->operands[i]))) return;
  for (uint32_t i = 0; i < op->result_count; i++) {
    r->results[i] = cgh_new_tile(e, &s, op->results[i]->type->dtype);
    r->results[i]->make = make_apply;
    r->results[i]->recipe = r;
    cgh_defer(e, op, i, r->results[i], op->operand_count, r->operands);
  }
}
