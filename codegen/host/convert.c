// Casts between element types, without a library call: narrow floats are rounded with integer arithmetic, halves through F16C.
//
// Values are held as in cgh_type(): f64 and f32 as such, everything else as bits in an integer.
#include "codegen/host/emit.h"

typedef struct narrow {
  unsigned mantissa;   // bits
  int bias;
  unsigned bits;
  bool has_inf, has_nan;
  unsigned top;   // code of the largest finite magnitude
  unsigned nan;
} narrow;

static bool narrow_of(ir_dtype t, narrow *n) {
  switch (t) {
    case IR_f8e4m3: *n = (narrow){3, 7, 8, false, true, 0x7e, 0x7f}; return true;
    case IR_f8e5m2: *n = (narrow){2, 15, 8, true, true, 0x7b, 0x7e}; return true;
    case IR_f4e2m1: *n = (narrow){1, 1, 4, false, false, 7, 0}; return true;
    default: return false;
  }
}

static LLVMValueRef bits(cgh_emit *e, LLVMValueRef x, LLVMTypeRef element) {
  return LLVMBuildBitCast(e->b, x, cgh_like(e, x, element), "");
}
static LLVMValueRef ints(cgh_emit *e, LLVMValueRef like, int64_t v) { return cgh_int(e, LLVMTypeOf(like), v); }

// Bits of f32 below the sign are moved so that exponent and mantissa line up, then a multiplication by a power of two repairs the
// exponent's bias; it is exact, and makes subnormals right as well.
static LLVMValueRef widen_narrow(cgh_emit *e, narrow n, LLVMValueRef x) {
  LLVMTypeRef t32 = cgh_like(e, x, e->i32);
  x = LLVMBuildZExt(e->b, x, t32, "");
  LLVMValueRef magnitude = LLVMBuildAnd(e->b, x, cgh_int(e, t32, (1 << (n.bits - 1)) - 1), "");
  LLVMValueRef sign = LLVMBuildShl(e->b, LLVMBuildLShr(e->b, x, cgh_int(e, t32, n.bits - 1), ""), cgh_int(e, t32, 31), "");
  LLVMValueRef raw = bits(e, LLVMBuildShl(e->b, magnitude, cgh_int(e, t32, 23 - n.mantissa), ""), e->f32);
  double scale = 1;
  for (int i = n.bias; i < 127; i++) scale *= 2;
  LLVMValueRef v = bits(e, LLVMBuildFMul(e->b, raw, cgh_real(e, LLVMTypeOf(raw), scale), ""), e->i32);
  if (n.has_nan) {
    unsigned first = n.has_inf ? n.top + 1 : n.nan;   // infinity, or the only NaN
    LLVMValueRef special = LLVMBuildOr(e->b, cgh_int(e, t32, 0x7f800000), v, "");
    if (!n.has_inf) special = cgh_int(e, t32, 0x7fc00000);
    v = cgh_select(e, LLVMBuildICmp(e->b, LLVMIntUGE, magnitude, cgh_int(e, t32, first), ""), special, v);
  }
  return bits(e, LLVMBuildOr(e->b, v, sign, ""), e->f32);
}

LLVMValueRef cgh_to_f32(cgh_emit *e, ir_dtype from, LLVMValueRef x) {
  narrow n;
  if (from == IR_f32) return x;
  if (from == IR_f16) return LLVMBuildFPExt(e->b, bits(e, x, e->f16), cgh_like(e, x, e->f32), "");
  LLVMTypeRef t32 = cgh_like(e, x, e->i32);
  if (from == IR_bf16) return bits(e, LLVMBuildShl(e->b, LLVMBuildZExt(e->b, x, t32, ""), cgh_int(e, t32, 16), ""), e->f32);
  if (narrow_of(from, &n)) return widen_narrow(e, n, x);
  if (from == IR_e8m0) {   // 2^-127 is a subnormal, 255 is NaN
    LLVMValueRef z = LLVMBuildZExt(e->b, x, t32, "");
    LLVMValueRef v = LLVMBuildShl(e->b, z, cgh_int(e, t32, 23), "");
    v = cgh_select(e, LLVMBuildICmp(e->b, LLVMIntEQ, z, cgh_int(e, t32, 0), ""), cgh_int(e, t32, 1 << 22), v);
    v = cgh_select(e, LLVMBuildICmp(e->b, LLVMIntEQ, z, cgh_int(e, t32, 255), ""), cgh_int(e, t32, 0x7fc00000), v);
    return bits(e, v, e->f32);
  }
  cgh_fail(e, &diag_host_type, "%s has no conversion to f32", ir_dtype_name(from));
  return LLVMGetPoison(cgh_like(e, x, e->f32));
}

// f64 to f32, inexact results with the last bit odd: a second rounding to a narrower type is then right.
static LLVMValueRef round_to_odd(cgh_emit *e, LLVMValueRef x) {
  LLVMValueRef f = LLVMBuildFPTrunc(e->b, x, cgh_like(e, x, e->f32), "");
  LLVMValueRef back = LLVMBuildFPExt(e->b, f, LLVMTypeOf(x), "");
  LLVMValueRef i = bits(e, f, e->i32);
  LLVMValueRef even = LLVMBuildICmp(e->b, LLVMIntEQ, LLVMBuildAnd(e->b, i, ints(e, i, 1), ""), ints(e, i, 0), "");
  LLVMValueRef fix = LLVMBuildAnd(e->b, LLVMBuildFCmp(e->b, LLVMRealONE, back, x, ""), even, "");
  LLVMValueRef below = LLVMBuildFCmp(e->b, LLVMRealOLT, cgh_unary(e, "llvm.fabs", back), cgh_unary(e, "llvm.fabs", x), "");
  LLVMValueRef moved = LLVMBuildAdd(e->b, i, cgh_select(e, below, ints(e, i, 1), ints(e, i, -1)), "");
  return bits(e, cgh_select(e, fix, moved, i), e->f32);
}

static LLVMValueRef f32_to_bf16(cgh_emit *e, LLVMValueRef x) {
  LLVMValueRef i = bits(e, x, e->i32);
  LLVMValueRef high = LLVMBuildLShr(e->b, i, ints(e, i, 16), "");
  LLVMValueRef half = LLVMBuildAdd(e->b, LLVMBuildAnd(e->b, high, ints(e, i, 1), ""), ints(e, i, 0x7fff), "");
  LLVMValueRef rounded = LLVMBuildLShr(e->b, LLVMBuildAdd(e->b, i, half, ""), ints(e, i, 16), "");
  LLVMValueRef nan = LLVMBuildOr(e->b, high, ints(e, i, 0x40), "");
  LLVMValueRef r = cgh_select(e, LLVMBuildFCmp(e->b, LLVMRealUNO, x, x, ""), nan, rounded);
  return LLVMBuildTrunc(e->b, r, cgh_like(e, x, e->i16), "");
}

// Rounds to nearest even: normal results by integer arithmetic on the f32's bits, subnormal ones by adding a number whose unit in
// the last place is the type's smallest step.
static LLVMValueRef f32_to_narrow(cgh_emit *e, narrow n, LLVMValueRef x) {
  LLVMValueRef i = bits(e, x, e->i32);
  LLVMTypeRef t32 = LLVMTypeOf(i), tf = LLVMTypeOf(x);
  unsigned drop = 23 - n.mantissa;
  LLVMValueRef a = LLVMBuildAnd(e->b, i, cgh_int(e, t32, 0x7fffffff), "");
  LLVMValueRef sign = LLVMBuildLShr(e->b, i, cgh_int(e, t32, 31), "");
  LLVMValueRef odd = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, a, cgh_int(e, t32, drop), ""), cgh_int(e, t32, 1), "");
  LLVMValueRef up = LLVMBuildAdd(e->b, LLVMBuildAdd(e->b, a, odd, ""), cgh_int(e, t32, (1 << (drop - 1)) - 1), "");
  LLVMValueRef normal = LLVMBuildSub(e->b, LLVMBuildLShr(e->b, up, cgh_int(e, t32, drop), ""),
                                     cgh_int(e, t32, (int64_t)(127 - n.bias) << n.mantissa), "");
  int magic_exponent = 23 + 1 - n.bias - (int)n.mantissa;   // its last place is 2^(1 - bias - mantissa)
  LLVMValueRef magic = cgh_int(e, t32, (int64_t)(magic_exponent + 127) << 23);
  LLVMValueRef sum = LLVMBuildFAdd(e->b, bits(e, a, e->f32), bits(e, magic, e->f32), "");
  LLVMValueRef tiny = LLVMBuildSub(e->b, bits(e, sum, e->i32), magic, "");
  LLVMValueRef small = LLVMBuildICmp(e->b, LLVMIntULT, a, cgh_int(e, t32, (int64_t)(128 - n.bias) << 23), "");
  LLVMValueRef r = cgh_select(e, small, tiny, normal);
  LLVMValueRef over = LLVMBuildICmp(e->b, LLVMIntSGT, r, cgh_int(e, t32, n.top), "");
  r = cgh_select(e, over, cgh_int(e, t32, n.has_inf ? n.top + 1 : n.top), r);
  LLVMValueRef is_nan = LLVMBuildFCmp(e->b, LLVMRealUNO, x, cgh_real(e, tf, 0), "");
  r = cgh_select(e, is_nan, cgh_int(e, t32, n.nan), r);
  r = LLVMBuildOr(e->b, r, LLVMBuildShl(e->b, sign, cgh_int(e, t32, n.bits - 1), ""), "");
  return LLVMBuildTrunc(e->b, r, cgh_like(e, x, LLVMIntTypeInContext(e->ctx, n.bits)), "");
}

static LLVMValueRef from_f32(cgh_emit *e, ir_dtype to, LLVMValueRef x) {
  narrow n;
  if (to == IR_f32) return x;
  if (to == IR_f64) return LLVMBuildFPExt(e->b, x, cgh_like(e, x, e->f64), "");
  if (to == IR_f16) return bits(e, LLVMBuildFPTrunc(e->b, x, cgh_like(e, x, e->f16), ""), e->i16);
  if (to == IR_bf16) return f32_to_bf16(e, x);
  if (narrow_of(to, &n)) return f32_to_narrow(e, n, x);
  cgh_fail(e, &diag_host_type, "there is no rounding to %s", ir_dtype_name(to));
  return LLVMGetPoison(cgh_like(e, x, cgh_type(e, to)));
}

LLVMValueRef cgh_convert(cgh_emit *e, LLVMValueRef x, ir_dtype from, ir_dtype to) {
  if (from == to) return x;
  LLVMTypeRef type = cgh_like(e, x, cgh_type(e, to));
  unsigned a = ir_dtype_bits(from), b = ir_dtype_bits(to);
  if (ir_is_int(from) && ir_is_int(to)) {
    if (a == b) return x;
    if (a > b) return LLVMBuildTrunc(e->b, x, type, "");
    return ir_is_signed(from) ? LLVMBuildSExt(e->b, x, type, "") : LLVMBuildZExt(e->b, x, type, "");
  }
  if (ir_is_int(from)) {
    // Through f64 where f32 can't hold the integer and the target has more than f16's range.
    bool wide = to == IR_f64 || (to == IR_bf16 && a > 24);
    LLVMTypeRef f = cgh_like(e, x, wide ? e->f64 : e->f32);
    LLVMValueRef v = ir_is_signed(from) ? LLVMBuildSIToFP(e->b, x, f, "") : LLVMBuildUIToFP(e->b, x, f, "");
    return wide ? cgh_convert(e, v, IR_f64, to) : from_f32(e, to, v);
  }
  if (ir_is_int(to)) {
    LLVMValueRef v = from == IR_f64 ? x : cgh_to_f32(e, from, x);
    LLVMTypeRef over[2] = {type, LLVMTypeOf(v)};
    return cgh_call(e, ir_is_signed(to) ? "llvm.fptosi.sat" : "llvm.fptoui.sat", 2, over, 1, &v);
  }
  if (from != IR_f64) return from_f32(e, to, cgh_to_f32(e, from, x));
  if (to == IR_f32) return LLVMBuildFPTrunc(e->b, x, type, "");
  return from_f32(e, to, round_to_odd(e, x));
}
