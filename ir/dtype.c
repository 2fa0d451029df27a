// Element types (see dtype.h). The narrow floats share one decoder and one rounding routine, driven by exponent and mantissa width.
#include "ir/dtype.h"

#include <math.h>

static const ir_dtype_info infos[IR_DTYPE_COUNT] = {
  {"void", 0, IR_CLASS_NONE, 0},
#define IR_DTYPE(id, bits, class, code) {#id, bits, IR_CLASS_##class, code},
#include "ir/dtypes.def"
#undef IR_DTYPE
};

const ir_dtype_info *ir_dtype_get(ir_dtype t) { return &infos[(unsigned)t < IR_DTYPE_COUNT ? t : IR_VOID]; }

ir_dtype ir_dtype_of_name(ts_str name) {
  for (int t = 1; t < IR_DTYPE_COUNT; t++)
    if (ts_str_is(name, infos[t].name)) return (ir_dtype)t;
  return IR_VOID;
}

ir_dtype ir_dtype_of_code(unsigned code) {
  for (int t = 1; t < IR_DTYPE_COUNT; t++)
    if (infos[t].code == code) return (ir_dtype)t;
  return IR_VOID;
}

typedef struct float_format {
  int exponent_bits, mantissa_bits, bias;
  bool has_inf;   // else the type saturates
  bool has_nan;
} float_format;

// The all-ones pattern of f8e4m3 is NaN and its exponent 15 is otherwise ordinary; f4e2m1 has neither NaN nor infinity.
static float_format format_of(ir_dtype t) {
  switch (t) {
    case IR_f16: return (float_format){5, 10, 15, true, true};
    case IR_bf16: return (float_format){8, 7, 127, true, true};
    case IR_f8e4m3: return (float_format){4, 3, 7, false, true};
    case IR_f8e5m2: return (float_format){5, 2, 15, true, true};
    case IR_f4e2m1: return (float_format){2, 1, 1, false, false};
    default: return (float_format){8, 23, 127, true, true};
  }
}

static double largest(ir_dtype t, float_format f) {
  if (t == IR_f8e4m3) return 448.0;
  if (t == IR_f4e2m1) return 6.0;
  return ldexp(2.0 - ldexp(1.0, -f.mantissa_bits), f.bias);
}

double ir_round(ir_dtype t, double v) {
  if (t == IR_f64 || isnan(v)) return v;
  if (t == IR_f32) return (double)(float)v;
  if (t == IR_e8m0) {   // powers of two, 2^-127 .. 2^127
    if (v <= 0) return ldexp(1.0, -127);
    if (isinf(v)) return ldexp(1.0, 127);
    int e;
    double m = frexp(v, &e);                       // v = m * 2^e, m in [0.5, 1)
    e = m > 0.75 || (m == 0.75 && (e & 1)) ? e : e - 1;
    return ldexp(1.0, e < -127 ? -127 : e > 127 ? 127 : e);
  }
  float_format f = format_of(t);
  double top = largest(t, f);
  if (isinf(v)) return f.has_inf ? v : copysign(top, v);
  if (v == 0) return v;
  int e;
  frexp(v, &e);
  e -= 1;                                          // v = 1.x * 2^e
  int lowest = 1 - f.bias;
  int ulp = (e < lowest ? lowest : e) - f.mantissa_bits;
  double r = ldexp(nearbyint(ldexp(v, -ulp)), ulp);
  if (fabs(r) > top) return f.has_inf ? copysign(INFINITY, v) : copysign(top, v);
  return r == 0 ? copysign(0.0, v) : r;
}

int64_t ir_wrap(ir_dtype t, int64_t v) {
  unsigned bits = infos[t].bits;
  if (bits >= 64) return v;
  uint64_t u = (uint64_t)v & ((UINT64_C(1) << bits) - 1);
  return ir_int_of_bits(t, u);
}

int64_t ir_int_min(ir_dtype t) { return infos[t].kind == IR_CLASS_SINT ? INT64_MIN >> (64 - infos[t].bits) : 0; }
int64_t ir_int_max(ir_dtype t) {
  unsigned bits = infos[t].bits - (infos[t].kind == IR_CLASS_SINT);
  return bits >= 63 ? INT64_MAX : (INT64_C(1) << bits) - 1;
}

double ir_float_of_bits(ir_dtype t, uint64_t bits) {
  if (t == IR_f64) {
    double d;
    memcpy(&d, &bits, 8);
    return d;
  }
  if (t == IR_f32) {
    uint32_t u = (uint32_t)bits;
    float x;
    memcpy(&x, &u, 4);
    return x;
  }
  if (t == IR_e8m0) return (bits & 255) == 255 ? NAN : ldexp(1.0, (int)(bits & 255) - 127);
  float_format f = format_of(t);
  uint64_t mantissa = bits & ((UINT64_C(1) << f.mantissa_bits) - 1);
  int exponent = (int)(bits >> f.mantissa_bits & ((1u << f.exponent_bits) - 1));
  bool negative = bits >> (f.mantissa_bits + f.exponent_bits) & 1;
  int ones = (1 << f.exponent_bits) - 1;
  double v;
  if (f.has_inf && exponent == ones) v = mantissa ? NAN : INFINITY;
  else if (t == IR_f8e4m3 && exponent == ones && mantissa == 7) v = NAN;
  else if (exponent == 0) v = ldexp((double)mantissa, 1 - f.bias - f.mantissa_bits);
  else v = ldexp((double)(mantissa | UINT64_C(1) << f.mantissa_bits), exponent - f.bias - f.mantissa_bits);
  return negative ? -v : v;
}

uint64_t ir_bits_of_float(ir_dtype t, double v) {
  uint64_t bits;
  if (t == IR_f64) {
    memcpy(&bits, &v, 8);
    return bits;
  }
  if (t == IR_f32) {
    float x = (float)v;
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
  }
  if (t == IR_e8m0) {
    if (isnan(v)) return 255;
    int e;
    frexp(ir_round(t, v), &e);
    return (uint64_t)(e - 1 + 127);
  }
  float_format f = format_of(t);
  uint64_t sign = (uint64_t)(signbit(v) != 0) << (f.mantissa_bits + f.exponent_bits);
  uint64_t ones = (UINT64_C(1) << f.exponent_bits) - 1;
  if (isnan(v)) {
    if (!f.has_nan) return sign;
    return sign | ones << f.mantissa_bits | (t == IR_f8e4m3 ? 7 : UINT64_C(1) << (f.mantissa_bits - 1));
  }
  double r = fabs(ir_round(t, v));
  if (isinf(r)) return sign | ones << f.mantissa_bits;
  if (r == 0) return sign;
  int e;
  frexp(r, &e);
  e -= 1;
  int lowest = 1 - f.bias;
  if (e < lowest) return sign | (uint64_t)ldexp(r, f.mantissa_bits - lowest);
  uint64_t mantissa = (uint64_t)ldexp(r, f.mantissa_bits - e);
  return sign | (uint64_t)(e + f.bias) << f.mantissa_bits | (mantissa & ((UINT64_C(1) << f.mantissa_bits) - 1));
}

int64_t ir_int_of_bits(ir_dtype t, uint64_t bits) {
  unsigned n = infos[t].bits;
  if (n >= 64) return (int64_t)bits;
  bits &= (UINT64_C(1) << n) - 1;
  if (infos[t].kind == IR_CLASS_SINT && bits >> (n - 1)) return (int64_t)(bits | ~((UINT64_C(1) << n) - 1));
  return (int64_t)bits;
}
