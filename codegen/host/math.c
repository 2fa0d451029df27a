// Transcendental functions as inlined arithmetic, for scalars and vectors alike.
//
// f32: exp, exp2, tanh and erf compute in f32 (they sit in inner loops); log, log2, sin and cos, which don't, compute in f64 and
// round once. f64: exp, exp2, log, log2, sqrt and rsqrt. Errors measured over dense samples are in the tests. Special values
// follow C's functions; subnormal arguments and results are honoured.
#include "codegen/host/emit.h"

#include <math.h>

typedef LLVMValueRef val;

static val real(cgh_emit *e, val like, double v) { return cgh_real(e, LLVMTypeOf(like), v); }
static val integer(cgh_emit *e, val like, int64_t v) { return cgh_int(e, LLVMTypeOf(like), v); }
static val mul(cgh_emit *e, val a, val b) { return LLVMBuildFMul(e->b, a, b, ""); }
static val add(cgh_emit *e, val a, val b) { return LLVMBuildFAdd(e->b, a, b, ""); }
static val sub(cgh_emit *e, val a, val b) { return LLVMBuildFSub(e->b, a, b, ""); }
static val divide(cgh_emit *e, val a, val b) { return LLVMBuildFDiv(e->b, a, b, ""); }
static val less(cgh_emit *e, val a, double b) { return LLVMBuildFCmp(e->b, LLVMRealOLT, a, real(e, a, b), ""); }
static val cast(cgh_emit *e, val x, LLVMTypeRef element) { return LLVMBuildBitCast(e->b, x, cgh_like(e, x, element), ""); }

// Bounds x; NaN passes.
static val clamp(cgh_emit *e, val x, double lo, double hi) {
  x = cgh_select(e, less(e, x, lo), real(e, x, lo), x);
  return cgh_select(e, LLVMBuildFCmp(e->b, LLVMRealOGT, x, real(e, x, hi), ""), real(e, x, hi), x);
}

// c[0] x^(n-1) + ... + c[n-1]
static val horner(cgh_emit *e, val x, unsigned n, const double *c) {
  val r = real(e, x, c[0]);
  for (unsigned i = 1; i < n; i++) r = cgh_fma(e, r, x, real(e, x, c[i]));
  return r;
}

static val copysign_of(cgh_emit *e, val magnitude, val sign) {
  LLVMTypeRef t = LLVMTypeOf(magnitude);
  return cgh_call(e, "llvm.copysign", 1, &t, 2, (val[]){magnitude, sign});
}

// ---- exp, exp2 ---------------------------------------------------------------------------------------------------------------
// Adding 1.5 * 2^(mantissa bits) leaves the nearest integer in the low bits: as a float in *whole, as an integer in *i.
static void nearest(cgh_emit *e, val x, val scale, val *whole, val *i) {
  bool wide = LLVMTypeOf(x) == cgh_like(e, x, e->f64);
  val magic = real(e, x, wide ? 0x1.8p52 : 0x1.8p23);
  val t = scale ? cgh_fma(e, x, scale, magic) : add(e, x, magic);
  LLVMTypeRef ti = wide ? e->i64 : e->i32;
  *whole = sub(e, t, magic);
  *i = LLVMBuildSub(e->b, cast(e, t, ti), cast(e, magic, ti), "");
}

// r * 2^i, in two steps so that results may be subnormal or overflow; |i| below 2 * the type's exponent range.
static val scale_by(cgh_emit *e, val r, val i) {
  bool wide = LLVMTypeOf(r) == cgh_like(e, r, e->f64);
  unsigned mantissa = wide ? 52 : 23;
  val bias = integer(e, i, wide ? 1023 : 127), shift = integer(e, i, mantissa);
  val half = LLVMBuildAShr(e->b, i, integer(e, i, 1), "");
  val rest = LLVMBuildSub(e->b, i, half, "");
  LLVMTypeRef element = wide ? e->f64 : e->f32;
  r = mul(e, r, cast(e, LLVMBuildShl(e->b, LLVMBuildAdd(e->b, half, bias, ""), shift, ""), element));
  return mul(e, r, cast(e, LLVMBuildShl(e->b, LLVMBuildAdd(e->b, rest, bias, ""), shift, ""), element));
}

static val exp_f32(cgh_emit *e, val x) {
  static const double c[] = {1.37805939e-3, 8.37312452e-3, 4.16695364e-2, 1.66664720e-1, 4.99999851e-1, 1, 1};
  val n, i;
  x = clamp(e, x, -105, 89);
  nearest(e, x, real(e, x, 0x1.715476p0), &n, &i);
  val r = cgh_fma(e, n, real(e, x, -0x1.62e400p-1), x);
  r = cgh_fma(e, n, real(e, x, -0x1.7f7d1cp-20), r);
  return scale_by(e, horner(e, r, 7, c), i);
}

static val exp2_f32(cgh_emit *e, val x) {
  static const double c[] = {1.53720379e-4, 1.33903872e-3, 9.61817801e-3, 5.55036031e-2, 2.40226522e-1, 6.93147182e-1, 1};
  val n, i;
  x = clamp(e, x, -151, 129);
  nearest(e, x, NULL, &n, &i);
  return scale_by(e, horner(e, sub(e, x, n), 7, c), i);
}

// e^r for |r| <= ln 2 / 2.
static val exp_series_f64(cgh_emit *e, val r) {
  double c[14], factorial = 1;
  for (int k = 0; k < 14; k++) {
    if (k) factorial *= k;
    c[13 - k] = 1 / factorial;
  }
  return horner(e, r, 14, c);
}

static val exp_f64(cgh_emit *e, val x) {
  val n, i;
  x = clamp(e, x, -746, 710);
  nearest(e, x, real(e, x, 0x1.71547652b82fep0), &n, &i);
  val r = cgh_fma(e, n, real(e, x, -0x1.62e42fefa39efp-1), x);
  r = cgh_fma(e, n, real(e, x, -0x1.abc9e3b39803fp-56), r);
  return scale_by(e, exp_series_f64(e, r), i);
}

static val exp2_f64(cgh_emit *e, val x) {
  val n, i;
  x = clamp(e, x, -1076, 1025);
  nearest(e, x, NULL, &n, &i);
  return scale_by(e, exp_series_f64(e, mul(e, sub(e, x, n), real(e, x, 0x1.62e42fefa39efp-1))), i);
}

// ---- log, log2 --------------------------------------------------------------------------------------------------------------
// x = m * 2^k with m in [sqrt 1/2, sqrt 2); log m = f - f^2/2 + s (f^2/2 + R(s^2)), f = m - 1, s = f / (2 + f).
static val log_f64(cgh_emit *e, val x, bool binary) {
  static const double even[] = {1.531383769920937332e-01, 2.222219843214978396e-01, 3.999999999940941908e-01};
  static const double odd[] = {1.479819860511658591e-01, 1.818357216161805012e-01, 2.857142874366239149e-01,
                               6.666666666666735130e-01};
  val small = less(e, x, 0x1p-1022);
  val scaled = cgh_select(e, small, mul(e, x, real(e, x, 0x1p54)), x);
  val bits = cast(e, scaled, e->i64);
  bits = LLVMBuildAdd(e->b, bits, integer(e, bits, 0x3ff0000000000000 - 0x3fe6a09e00000000), "");
  val k = LLVMBuildTrunc(e->b, LLVMBuildLShr(e->b, bits, integer(e, bits, 52), ""), cgh_like(e, x, e->i32), "");
  k = LLVMBuildSub(e->b, k, cgh_select(e, small, integer(e, k, 1023 + 54), integer(e, k, 1023)), "");
  val dk = LLVMBuildSIToFP(e->b, k, LLVMTypeOf(x), "");
  bits = LLVMBuildAnd(e->b, bits, integer(e, bits, 0xfffffffffffff), "");
  val m = cast(e, LLVMBuildAdd(e->b, bits, integer(e, bits, 0x3fe6a09e00000000), ""), e->f64);
  val f = sub(e, m, real(e, x, 1)), s = divide(e, f, add(e, f, real(e, x, 2)));
  val z = mul(e, s, s), w = mul(e, z, z);
  val rest = add(e, mul(e, z, horner(e, w, 4, odd)), mul(e, w, horner(e, w, 3, even)));
  val half = mul(e, mul(e, f, f), real(e, x, 0.5));
  val r;
  if (binary) {
    val log_m = sub(e, f, sub(e, half, mul(e, s, add(e, half, rest))));
    r = cgh_fma(e, log_m, real(e, x, 0x1.71547652b82fep0), dk);
  } else {
    val low = cgh_fma(e, s, add(e, half, rest), mul(e, dk, real(e, x, 1.90821492927058770002e-10)));
    r = cgh_fma(e, dk, real(e, x, 6.93147180369123816490e-01), sub(e, f, sub(e, half, low)));
  }
  val infinite = LLVMBuildFCmp(e->b, LLVMRealOEQ, x, real(e, x, INFINITY), "");
  r = cgh_select(e, infinite, x, r);
  r = cgh_select(e, LLVMBuildFCmp(e->b, LLVMRealOEQ, x, real(e, x, 0), ""), real(e, x, -INFINITY), r);
  return cgh_select(e, LLVMBuildFCmp(e->b, LLVMRealULT, x, real(e, x, 0), ""), real(e, x, NAN), r);
}

// ---- sin, cos ---------------------------------------------------------------------------------------------------------------
// Bits of 4 / pi: word i starts at bit 8 i - 32.
static val four_over_pi(cgh_emit *e) {
  static const uint32_t words[24] = {0xa2,       0xa2f9,     0xa2f983,   0xa2f9836e, 0xf9836e4e, 0x836e4e44,
                                     0x6e4e4415, 0x4e441529, 0x441529fc, 0x1529fc27, 0x29fc2757, 0xfc2757d1,
                                     0x2757d1f5, 0x57d1f534, 0xd1f534dd, 0xf534ddc0, 0x34ddc0db, 0xddc0db62,
                                     0xc0db6295, 0xdb629599, 0x6295993c, 0x95993c43, 0x993c4390, 0x3c439041};
  val table = LLVMGetNamedGlobal(e->mod, "four_over_pi");
  if (table) return table;
  val c[24];
  for (int i = 0; i < 24; i++) c[i] = LLVMConstInt(e->i32, words[i], false);
  table = LLVMAddGlobal(e->mod, LLVMArrayType2(e->i32, 24), "four_over_pi");
  LLVMSetInitializer(table, LLVMConstArray2(e->i32, c, 24));
  LLVMSetGlobalConstant(table, true);
  LLVMSetLinkage(table, LLVMPrivateLinkage);
  return table;
}

static val table_at(cgh_emit *e, val table, val index) {   // i64 <- word `index`, lane by lane
  unsigned n = cgh_length(index);
  val r = n ? LLVMGetPoison(LLVMVectorType(e->i64, n)) : NULL;
  for (unsigned i = 0; i < (n ? n : 1); i++) {
    val lane = LLVMConstInt(e->i32, i, false);
    val at = n ? LLVMBuildExtractElement(e->b, index, lane, "") : index;
    val p = LLVMBuildInBoundsGEP2(e->b, e->i32, table, &at, 1, "");
    val w = LLVMBuildZExt(e->b, LLVMBuildLoad2(e->b, e->i32, p, ""), e->i64, "");
    r = n ? LLVMBuildInsertElement(e->b, r, w, lane, "") : w;
  }
  return r;
}

// |x| mod pi/2 for an f32 of any size, in integers: 96 bits of 4 / pi, chosen by the exponent, times the mantissa.
static void reduce_large(cgh_emit *e, val x, val *rest, val *quadrant) {
  val bits = LLVMBuildZExt(e->b, cast(e, x, e->i32), cgh_like(e, x, e->i64), "");
  val first = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, integer(e, bits, 26), ""), integer(e, bits, 15), "");
  val shift = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, integer(e, bits, 23), ""), integer(e, bits, 7), "");
  val m = LLVMBuildOr(e->b, LLVMBuildAnd(e->b, bits, integer(e, bits, 0x7fffff), ""), integer(e, bits, 0x800000), "");
  m = LLVMBuildShl(e->b, m, shift, "");
  val table = four_over_pi(e), word[3];
  for (int i = 0; i < 3; i++) word[i] = table_at(e, table, LLVMBuildAdd(e->b, first, integer(e, bits, 4 * i), ""));
  val high = LLVMBuildShl(e->b, LLVMBuildMul(e->b, m, word[0], ""), integer(e, bits, 32), "");
  val low = LLVMBuildLShr(e->b, LLVMBuildMul(e->b, m, word[2], ""), integer(e, bits, 32), "");
  val sum = LLVMBuildAdd(e->b, LLVMBuildOr(e->b, high, low, ""), LLVMBuildMul(e->b, m, word[1], ""), "");
  val n = LLVMBuildLShr(e->b, LLVMBuildAdd(e->b, sum, integer(e, bits, INT64_C(1) << 61), ""), integer(e, bits, 62), "");
  sum = LLVMBuildSub(e->b, sum, LLVMBuildShl(e->b, n, integer(e, bits, 62), ""), "");
  val r = LLVMBuildSIToFP(e->b, sum, cgh_like(e, x, e->f64), "");
  *rest = mul(e, r, real(e, r, 0x1.921fb54442d18p-62));
  *quadrant = LLVMBuildTrunc(e->b, n, cgh_like(e, x, e->i32), "");
}

static val any_lane(cgh_emit *e, val mask) { return cgh_length(mask) ? cgh_unary(e, "llvm.vector.reduce.or", mask) : mask; }

// sin x, or cos x = sin (x + pi/2), of f32.
static val sine(cgh_emit *e, val x, bool cosine) {
  static const double s[] = {0.0000027183114939898219064, -0.000198393348360966317347, 0.0083333293858894631756,
                             -0.166666666416265235595};
  static const double c[] = {0.0000243904487962774090654, -0.00138867637746099294692, 0.0416666233237390631894,
                             -0.499999997251031003120};
  val a = cgh_unary(e, "llvm.fabs", x);
  val wide = LLVMBuildFPExt(e->b, a, cgh_like(e, x, e->f64), ""), n, i;
  nearest(e, wide, real(e, wide, 0x1.45f306dc9c883p-1), &n, &i);
  val r = cgh_fma(e, n, real(e, wide, -0x1.921fb54442d18p0), wide);
  r = cgh_fma(e, n, real(e, wide, -0x1.1a62633145c07p-54), r);
  val q = LLVMBuildTrunc(e->b, i, cgh_like(e, x, e->i32), "");
  // Beyond 2^27 two words of pi are not enough; arguments like that are rare, so only then is the long way taken.
  val large = LLVMBuildFCmp(e->b, LLVMRealOGT, a, real(e, a, 0x1p27), "");
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef slow = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "large"),
                    after = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "reduced");
  LLVMBuildCondBr(e->b, any_lane(e, large), slow, after);
  LLVMPositionBuilderAtEnd(e->b, slow);
  val r2, q2;
  reduce_large(e, a, &r2, &q2);
  r2 = cgh_select(e, large, r2, r), q2 = cgh_select(e, large, q2, q);
  LLVMBuildBr(e->b, after);
  LLVMPositionBuilderAtEnd(e->b, after);
  val rest = LLVMBuildPhi(e->b, LLVMTypeOf(r), ""), quadrant = LLVMBuildPhi(e->b, LLVMTypeOf(q), "");
  LLVMAddIncoming(rest, (val[]){r, r2}, (LLVMBasicBlockRef[]){before, slow}, 2);
  LLVMAddIncoming(quadrant, (val[]){q, q2}, (LLVMBasicBlockRef[]){before, slow}, 2);
  if (cosine) quadrant = LLVMBuildAdd(e->b, quadrant, integer(e, quadrant, 1), "");
  val z = mul(e, rest, rest);
  val sin_r = cgh_fma(e, mul(e, z, rest), horner(e, z, 4, s), rest);
  val cos_r = cgh_fma(e, z, horner(e, z, 4, c), real(e, z, 1));
  val zero = integer(e, quadrant, 0);
  val odd = LLVMBuildICmp(e->b, LLVMIntNE, LLVMBuildAnd(e->b, quadrant, integer(e, quadrant, 1), ""), zero, "");
  val minus = LLVMBuildICmp(e->b, LLVMIntNE, LLVMBuildAnd(e->b, quadrant, integer(e, quadrant, 2), ""), zero, "");
  val y = cgh_select(e, odd, cos_r, sin_r);
  y = LLVMBuildFPTrunc(e->b, cgh_select(e, minus, LLVMBuildFNeg(e->b, y, ""), y), LLVMTypeOf(x), "");
  if (!cosine) {
    val negative = LLVMBuildICmp(e->b, LLVMIntSLT, cast(e, x, e->i32), zero, "");
    y = cgh_select(e, negative, LLVMBuildFNeg(e->b, y, ""), y);
  }
  return cgh_select(e, less(e, a, INFINITY), y, real(e, x, NAN));
}

// ---- tanh, erf --------------------------------------------------------------------------------------------------------------
static val tanh_f32(cgh_emit *e, val x) {
  static const double c[] = {-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1};
  val a = cgh_unary(e, "llvm.fabs", x), z = mul(e, x, x);
  val near = cgh_fma(e, mul(e, horner(e, z, 5, c), z), x, x);
  val far = exp_f32(e, add(e, a, a));
  far = sub(e, real(e, x, 1), divide(e, real(e, x, 2), add(e, far, real(e, x, 1))));
  return cgh_select(e, less(e, a, 0.625), near, copysign_of(e, far, x));
}

static val erf_f32(cgh_emit *e, val x) {
  static const double tail[] = {-1.06777877e-1, -6.34846687e-1, -1.28717512e-1};
  static const double centre[] = {-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1};
  val t = cgh_unary(e, "llvm.fabs", x), s = mul(e, x, x);
  val r = cgh_fma(e, real(e, x, -1.72853470e-5), t, real(e, x, 3.83197126e-4));
  val u = cgh_fma(e, real(e, x, -3.88396438e-3), t, real(e, x, 2.42546219e-2));
  r = cgh_fma(e, r, s, u);
  for (int i = 0; i < 3; i++) r = cgh_fma(e, r, t, real(e, x, tail[i]));
  r = cgh_fma(e, r, t, LLVMBuildFNeg(e->b, t, ""));
  // Beyond 4 the result is 1 and the polynomial's behaviour does not matter; NaN passes.
  r = cgh_select(e, LLVMBuildFCmp(e->b, LLVMRealOGT, t, real(e, x, 4), ""), real(e, x, -105), r);
  val far = copysign_of(e, sub(e, real(e, x, 1), exp_f32(e, r)), x);
  val near = cgh_fma(e, horner(e, s, 6, centre), x, x);
  return cgh_select(e, less(e, t, 0.927734375), near, far);
}

// ---- dispatch ---------------------------------------------------------------------------------------------------------------
static val through_f64(cgh_emit *e, val x, bool binary) {
  val y = log_f64(e, LLVMBuildFPExt(e->b, x, cgh_like(e, x, e->f64), ""), binary);
  return LLVMBuildFPTrunc(e->b, y, LLVMTypeOf(x), "");
}

LLVMValueRef cgh_math(cgh_emit *e, ir_scalar f, ir_dtype t, LLVMValueRef x) {
  bool wide = t == IR_f64;
  switch (f) {
    case IR_SCALAR_exp: return wide ? exp_f64(e, x) : exp_f32(e, x);
    case IR_SCALAR_exp2: return wide ? exp2_f64(e, x) : exp2_f32(e, x);
    case IR_SCALAR_log: return wide ? log_f64(e, x, false) : through_f64(e, x, false);
    case IR_SCALAR_log2: return wide ? log_f64(e, x, true) : through_f64(e, x, true);
    case IR_SCALAR_rsqrt: return divide(e, real(e, x, 1), cgh_unary(e, "llvm.sqrt", x));
    case IR_SCALAR_sin: return wide ? NULL : sine(e, x, false);
    case IR_SCALAR_cos: return wide ? NULL : sine(e, x, true);
    case IR_SCALAR_tanh: return wide ? NULL : tanh_f32(e, x);
    case IR_SCALAR_erf: return wide ? NULL : erf_f32(e, x);
    default: return NULL;
  }
}
