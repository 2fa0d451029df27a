// Conformance rows of the floating-point instructions.
#include "emu_conformance.h"

static const char *const roundings[] = {"", ".rn", ".rz", ".rm", ".rp"};
static int round_of(int k) { return k == 0 ? 0 : k - 1; }
static const small_format f32 = {8, 23};

typedef float host32(float, float, float, int);
typedef double host64(double, double, double, int);
typedef struct host_op { const char *name; unsigned sources; host32 *f; host64 *d; bool needs_round, sat; } host_op;
static float host_rcp32(float a, float b, float c, int r) { (void)b; (void)c; return host_div32(1, a, 0, r); }
static double host_rcp64(double a, double b, double c, int r) { (void)b; (void)c; return host_div64(1, a, 0, r); }
static const host_op host_ops[] = {
    {"add", 2, host_add32, host_add64, false, true}, {"sub", 2, host_sub32, host_sub64, false, true},
    {"mul", 2, host_mul32, host_mul64, false, true}, {"fma", 3, host_fma32, host_fma64, true, true},
    {"mad", 3, host_fma32, host_fma64, true, true}, {"div", 2, host_div32, host_div64, true, false},
    {"rcp", 1, host_rcp32, host_rcp64, true, false}, {"sqrt", 1, host_sqrt32, host_sqrt64, true, false}};

static uint64_t want_f32(const uint64_t x[4], const spec *s) {
  uint32_t v[3];
  for (int k = 0; k < 3; k++) v[k] = s->mode & EMU_FTZ ? flush((uint32_t)x[k]) : (uint32_t)x[k];
  const host_op *o = s->extra;
  uint32_t r = f32_as(o->f(as_f32(v[0]), as_f32(v[1]), as_f32(v[2]), s->round));
  if (nan32(r)) r = 0x7FFFFFFF;
  if (s->mode & EMU_FTZ) r = flush(r);
  if (s->mode & EMU_SAT) r = nan32(r) ? 0 : saturate(r);
  return r;
}
static uint64_t want_f32x2(const uint64_t x[4], const spec *s) {
  uint64_t r = 0;
  for (int h = 0; h < 2; h++) {
    uint64_t v[4] = {(uint32_t)(x[0] >> (32 * h)), (uint32_t)(x[1] >> (32 * h)), (uint32_t)(x[2] >> (32 * h)), 0};
    r |= want_f32(v, s) << (32 * h);
  }
  return r;
}
static bool judge_f64(const uint64_t x[4], uint64_t got, const spec *s) {
  const host_op *o = s->extra;
  double r = o->d(as_f64(x[0]), as_f64(x[1]), as_f64(x[2]), s->round);
  return isnan(r) ? isnan(as_f64(got)) : got == f64_as(r);
}

static void arithmetic(spec_list *list) {
  for (size_t k = 0; k < sizeof host_ops / sizeof *host_ops; k++) {
    const host_op *o = &host_ops[k];
    for (int r = o->needs_round ? 1 : 0; r < 5; r++) {
      for (int flags = 0; flags < (o->sat ? 4 : 2); flags++) {
        spec *s = spec_add(list, 80, "%s%s%s%s.f32", o->name, roundings[r], flags & 1 ? ".ftz" : "", flags & 2 ? ".sat" : "");
        spec_sources(s, 32, o->sources, 32, D_F32);
        s->want = want_f32;
        s->extra = o;
        s->round = round_of(r);
        s->mode = (flags & 1 ? EMU_FTZ : 0) | (flags & 2 ? EMU_SAT : 0);
        if (flags > 1 || k > 3 || r == 0) continue;
        s = spec_add(list, 100, "%s%s%s.f32x2", o->name, roundings[r], flags ? ".ftz" : "");
        spec_sources(s, 64, o->sources, 64, D_F32);
        s->want = want_f32x2;
        s->extra = o;
        s->round = round_of(r);
        s->mode = flags ? EMU_FTZ : 0;
      }
      spec *s = spec_add(list, 80, "%s%s.f64", o->name, roundings[r]);
      spec_sources(s, 64, o->sources, 64, D_F64);
      s->judge = judge_f64;
      s->extra = o;
      s->round = round_of(r);
    }
  }
}

// --- minimum, maximum, sign ----------------------------------------------------------------------------------------------------
static uint64_t want_minmax(const uint64_t x[4], const spec *s) {
  uint64_t nan = s->f.frac_bits == 23 ? 0x7FFFFFFF : 0x7FFF;
  uint64_t a = x[0], b = x[1];
  if (s->mode & EMU_FTZ) {
    uint64_t exponent = (((uint64_t)1 << s->f.exp_bits) - 1) << s->f.frac_bits, sign = exponent + ((uint64_t)1 << s->f.frac_bits);
    if (!(a & exponent)) a &= sign;
    if (!(b & exponent)) b &= sign;
  }
  return minmax_oracle(s->is_max, a, b, s->f, nan, s->mode);
}
static bool judge_minmax64(const uint64_t x[4], uint64_t got, const spec *s) {
  uint64_t r = minmax_oracle(s->is_max, x[0], x[1], (small_format){11, 52}, 0x7FF8000000000000, 0);
  return isnan(as_f64(r)) ? isnan(as_f64(got)) : got == r;
}
static uint64_t want_minmax3(const uint64_t x[4], const spec *s) {
  uint64_t v[4];
  for (int k = 0; k < 3; k++) {
    v[k] = s->mode & EMU_FTZ ? flush((uint32_t)x[k]) : (uint32_t)x[k];
    if (s->mode & EMU_ABS) v[k] &= 0x7FFFFFFF;
  }
  uint64_t r = minmax_oracle(s->is_max, v[0], v[1], f32, 0x7FFFFFFF, s->mode & EMU_NAN);
  return minmax_oracle(s->is_max, r, v[2], f32, 0x7FFFFFFF, s->mode & EMU_NAN);
}
static uint64_t want_sign(const uint64_t x[4], const spec *s) {
  unsigned bits = s->result;
  uint64_t sign = (uint64_t)1 << (bits - 1), v = x[0];
  if ((s->mode & EMU_FTZ) && !(v & 0x7F800000)) v &= sign;
  if (s->op == EMU_OP_COPYSIGN) return (x[1] & (sign - 1)) | (x[0] & sign);
  return s->op == EMU_OP_ABS ? v & (sign - 1) : v ^ sign;
}
static bool judge_sign(const uint64_t x[4], uint64_t got, const spec *s) {   // of a NaN: any NaN
  bool nan = s->result == 64 ? isnan(as_f64(x[0])) : nan32((uint32_t)x[0]);
  if (nan && s->op != EMU_OP_COPYSIGN) return s->result == 64 ? isnan(as_f64(got)) : nan32((uint32_t)got);
  return got == want_sign(x, s);
}
static void signs(spec_list *list) {
  static const char *const names[] = {"min", "max"};
  for (int max = 0; max < 2; max++) {
    for (int flags = 0; flags < 8; flags++) {
      spec *s = spec_add(list, 90, "%s%s%s%s.f32", names[max], flags & 1 ? ".ftz" : "", flags & 2 ? ".NaN" : "",
                         flags & 4 ? ".xorsign.abs" : "");
      spec_sources(s, 32, 2, 32, D_F32);
      s->want = want_minmax;
      s->f = f32;
      s->is_max = max;
      s->mode = (flags & 1 ? EMU_FTZ : 0) | (flags & 2 ? EMU_NAN : 0) | (flags & 4 ? EMU_XORSIGN_ABS : 0);
      s = spec_add(list, 100, "%s%s%s%s.f32", names[max], flags & 1 ? ".ftz" : "", flags & 2 ? ".NaN" : "",
                   flags & 4 ? ".abs" : "");
      spec_sources(s, 32, 3, 32, D_F32);
      s->want = want_minmax3;
      s->is_max = max;
      s->mode = (flags & 1 ? EMU_FTZ : 0) | (flags & 2 ? EMU_NAN : 0) | (flags & 4 ? EMU_ABS : 0);
    }
    spec *s = spec_add(list, 80, "%s.f64", names[max]);
    spec_sources(s, 64, 2, 64, D_F64);
    s->judge = judge_minmax64;
    s->is_max = max;
  }
  for (int k = 0; k < 8; k++) {
    static const char *const texts[] = {"abs.f32",      "abs.ftz.f32", "neg.f32", "neg.ftz.f32",
                                        "copysign.f32", "abs.f64",     "neg.f64", "copysign.f64"};
    static const emu_op ops[] = {EMU_OP_ABS,      EMU_OP_ABS, EMU_OP_NEG, EMU_OP_NEG,
                                 EMU_OP_COPYSIGN, EMU_OP_ABS, EMU_OP_NEG, EMU_OP_COPYSIGN};
    spec *s = spec_add(list, 80, "%s", texts[k]);
    spec_sources(s, k < 5 ? 32 : 64, ops[k] == EMU_OP_COPYSIGN ? 2 : 1, k < 5 ? 32 : 64, k < 5 ? D_F32 : D_F64);
    s->op = ops[k];
    s->mode = k == 1 || k == 3 ? EMU_FTZ : 0;
    s->judge = judge_sign;
  }
}

// --- comparisons ---------------------------------------------------------------------------------------------------------------
static const char *const cmp_names[] = {"eq", "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi",
                                        "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
static double scalar_value(uint64_t v, const spec *s) {
  if (s->f.frac_bits == 52) return as_f64(v);
  if (s->f.frac_bits == 23) return as_f32(s->mode & EMU_FTZ ? flush((uint32_t)v) : (uint32_t)v);
  if ((s->mode & EMU_FTZ) && !(v & 0x7C00)) v &= 0x8000;
  return half_value((uint32_t)v & 0xFFFF, s->bf);
}
static uint64_t want_setp(const uint64_t x[4], const spec *s) {
  return compare_oracle((emu_cmp)s->cmp, scalar_value(x[0], s), scalar_value(x[1], s));
}
static uint64_t want_set_u32(const uint64_t x[4], const spec *s) { return want_setp(x, s) ? 0xFFFFFFFF : 0; }
static uint64_t want_set_f32(const uint64_t x[4], const spec *s) { return want_setp(x, s) ? 0x3F800000 : 0; }
static uint64_t want_testp(const uint64_t x[4], const spec *s) {
  int c = s->f.frac_bits == 52 ? fpclassify(as_f64(x[0])) : fpclassify(as_f32((uint32_t)x[0]));
  switch (s->cmp) {
    case 0: return c != FP_NAN && c != FP_INFINITE;
    case 1: return c == FP_INFINITE;
    case 2: return c != FP_NAN;
    case 3: return c == FP_NAN;
    case 4: return c == FP_NORMAL || c == FP_ZERO;
    default: return c == FP_SUBNORMAL;
  }
}
static void comparisons(spec_list *list) {
  static const struct { const char *name; small_format f; bool bf, ftz; unsigned width, target; data_kind data;
  } types[] = {{"f32", {8, 23}, false, false, 32, 80, D_F32},  {"f32", {8, 23}, false, true, 32, 80, D_F32},
               {"f64", {11, 52}, false, false, 64, 80, D_F64}, {"f16", {5, 10}, false, false, 16, 80, D_F16},
               {"f16", {5, 10}, false, true, 16, 80, D_F16},   {"bf16", {8, 7}, true, false, 16, 90, D_BF16}};
  for (size_t k = 0; k < sizeof types / sizeof *types; k++)
    for (int c = 0; c < 18; c++) {
      if (c >= 6 && c <= 9) continue;
      for (int form = 0; form < 3; form++) {
        spec *s = spec_add(list, types[k].target, "%s.%s%s%s.%s", form ? "set" : "setp", cmp_names[c], types[k].ftz ? ".ftz" : "",
                           form == 1 ? ".u32" : form == 2 ? ".f32" : "", types[k].name);
        spec_sources(s, form ? 32 : 1, 2, types[k].width, types[k].data);
        s->want = form == 0 ? want_setp : form == 1 ? want_set_u32 : want_set_f32;
        s->cmp = c;
        s->f = types[k].f;
        s->bf = types[k].bf;
        s->mode = types[k].ftz ? EMU_FTZ : 0;
        if (form == 2 && types[k].width == 16) s->want = NULL;   // set.f32.f16 is not PTX
      }
    }
  static const char *const tests[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  for (int wide_type = 0; wide_type < 2; wide_type++)
    for (int k = 0; k < 6; k++) {
      spec *s = spec_add(list, 80, "testp.%s.%s", tests[k], wide_type ? "f64" : "f32");
      spec_sources(s, 1, 1, wide_type ? 64 : 32, wide_type ? D_F64 : D_F32);
      s->want = want_testp;
      s->cmp = k;
      s->f = wide_type ? (small_format){11, 52} : f32;
    }
}

// --- approximations: the documented bounds (their bits are checked in arith_cvt_test.c) ----------------------------------------
typedef double real_fn(double);
static double real_rcp(double x) { return 1 / x; }
static double real_rsqrt(double x) { return 1 / sqrt(x); }
static bool judge_relative(const uint64_t x[4], uint64_t got, const spec *s) {
  uint32_t a = s->mode & EMU_FTZ ? flush((uint32_t)x[0]) : (uint32_t)x[0];
  real_fn *const *f = s->extra;
  double want = (*f)(as_f32(a)), result = as_f32((uint32_t)got);
  if (isnan(want)) return (uint32_t)got == 0x7FFFFFFF;
  if (fabs(want) > 0x1.fffffep127) return fabs(result) >= 0x1.fffffcp127 && signbit(want) == signbit(result);
  if (fabs(want) < 0x1p-126)
    return fabs(result) <= 0x1p-126 && (!(s->mode & EMU_FTZ) || fabs(result) == 0 || fabs(result) == 0x1p-126);
  return fabs(result - want) <= fabs(want) * s->bound;
}
static bool judge_absolute(const uint64_t x[4], uint64_t got, const spec *s) {
  uint32_t a = s->mode & EMU_FTZ ? flush((uint32_t)x[0]) : (uint32_t)x[0];
  real_fn *const *f = s->extra;
  double v = as_f32(a), want = (*f)(v), result = as_f32((uint32_t)got);
  if (isnan(want)) return (uint32_t)got == 0x7FFFFFFF;
  if (isinf(want)) return result == want;
  if ((*f == sin || *f == cos) && fabs(v) > 20) return fabs(result) <= 1;   // no bound far from 0
  return fabs(result - want) <= s->bound;
}
static bool judge_divide(const uint64_t x[4], uint64_t got, const spec *s) {
  double a = as_f32((uint32_t)x[0]), b = as_f32((uint32_t)x[1]), q = a / b;
  bool ordinary = fabs(q) < 0x1p126 && fabs(q) > 0x1p-124 && fabs(b) < 0x1p126 && fabs(b) > 0x1p-126 && fabs(a) > 0x1p-126;
  if (!ordinary) return isnan(a) || isnan(b) ? nan32((uint32_t)got) : true;
  (void)s;
  return fabs(as_f32((uint32_t)got) - q) <= 2 * ldexp(1, ilogb(q) - 23);
}
static void approximations(spec_list *list) {
  static real_fn *const functions[] = {real_rcp, sqrt, real_rsqrt, exp2, tanh, log2, sin, cos};
  static const struct { const char *name; double bound; bool absolute, no_ftz;
  } rows[] = {{"rcp", 0x1p-23, false, false}, {"sqrt", 0x1p-23, false, false}, {"rsqrt", 0x1.6p-23, false, false},
              {"ex2", 0x1p-22, false, false}, {"tanh", 0x1p-11, false, true},  {"lg2", 0x1p-16, true, false},
              {"sin", 0x1p-18, true, false},  {"cos", 0x1p-18, true, false}};
  for (size_t k = 0; k < 8; k++)
    for (int ftz = 0; ftz < (rows[k].no_ftz ? 1 : 2); ftz++) {
      spec *s = spec_add(list, 80, "%s.approx%s.f32", rows[k].name, ftz ? ".ftz" : "");
      spec_sources(s, 32, 1, 32, D_F32);
      s->judge = rows[k].absolute ? judge_absolute : judge_relative;
      s->extra = &functions[k];
      s->bound = rows[k].bound;
      s->mode = ftz ? EMU_FTZ : 0;
    }
  for (int k = 0; k < 4; k++) {
    spec *s = spec_add(list, 80, "div.%s%s.f32", k & 1 ? "full" : "approx", k & 2 ? ".ftz" : "");
    spec_sources(s, 32, 2, 32, D_F32);
    s->judge = judge_divide;
    s->bound = 2;   // ulp
  }
}

// Widened sources: add.f32.f16 and the like.
static uint64_t want_mixed(const uint64_t x[4], const spec *s) {
  uint64_t v[4] = {f32_as((float)half_value((uint32_t)x[0], s->bf)), x[1], x[2], 0};
  const host_op *o = s->extra;
  if (o->sources == 3) v[1] = f32_as((float)half_value((uint32_t)x[1], s->bf));
  return want_f32(v, s);
}
static void mixed(spec_list *list) {
  for (int k = 0; k < 4; k++)
    for (int bf = 0; bf < 2; bf++) {
      if (k == 2) continue;
      const host_op *o = &host_ops[k];
      spec *s = spec_add(list, 100, "%s.rn.f32.%s", o->name, bf ? "bf16" : "f16");
      spec_sources(s, 32, o->sources, 16, bf ? D_BF16 : D_F16);
      s->width[o->sources - 1] = 32;
      s->data[o->sources - 1] = D_F32;
      s->want = want_mixed;
      s->extra = o;
      s->bf = bf;
    }
}

void conform_float(spec_list *list) {
  arithmetic(list);
  signs(list);
  comparisons(list);
  approximations(list);
  mixed(list);
}

// --- halves --------------------------------------------------------------------------------------------------------------------
static uint64_t each_half(const uint64_t x[4], const spec *s, uint64_t (*f)(const uint64_t *, const spec *)) {
  uint64_t r = 0;
  for (unsigned h = 0; h < s->result / 16; h++) {
    uint64_t v[4];
    for (int k = 0; k < 4; k++) v[k] = x[k] >> (16 * h) & 0xFFFF;
    r |= (f(v, s) & 0xFFFF) << (16 * h);
  }
  return r;
}
static uint64_t one_half(const uint64_t *x, const spec *s) {
  return half_oracle(s->op, s->bf, s->mode, (uint32_t)x[0], (uint32_t)x[1], (uint32_t)x[2]);
}
static uint64_t want_half(const uint64_t x[4], const spec *s) { return each_half(x, s, one_half); }
static uint64_t want_half_minmax(const uint64_t x[4], const spec *s) { return each_half(x, s, want_minmax); }
static uint64_t one_sign(const uint64_t *x, const spec *s) {
  uint64_t v = x[0];
  if ((s->mode & EMU_FTZ) && !(v & 0x7C00)) v &= 0x8000;
  return s->op == EMU_OP_ABS ? v & 0x7FFF : v ^ 0x8000;
}
static bool judge_half_sign(const uint64_t x[4], uint64_t got, const spec *s) {
  uint64_t want = each_half(x, s, one_sign);
  for (unsigned h = 0; h < s->result / 16; h++) {
    uint32_t in = x[0] >> (16 * h) & 0xFFFF, out = got >> (16 * h) & 0xFFFF;
    bool nan = isnan(half_value(in, s->bf));
    if (nan ? !isnan(half_value(out, s->bf)) : out != (want >> (16 * h) & 0xFFFF)) return false;
  }
  return true;
}
static bool judge_half_function(const uint64_t x[4], uint64_t got, const spec *s) {
  real_fn *const *f = s->extra;
  for (unsigned h = 0; h < s->result / 16; h++) {
    double v = half_value(x[0] >> (16 * h) & 0xFFFF, s->bf), r = half_value(got >> (16 * h) & 0xFFFF, s->bf), want = (*f)(v);
    if (isnan(want)) {
      if (!isnan(r)) return false;
      continue;
    }
    if (fabs(want) > (s->bf ? 0x1.fep127 : 65504)) {
      if (!isinf(r)) return false;
      continue;
    }
    double allowed = *f == tanh ? s->bound : fabs(want) * s->bound + (s->bf ? 0x1p-126 : 0x1p-25);
    if (!(fabs(r - want) <= allowed)) return false;
  }
  return true;
}

typedef struct half_type { const char *name; bool bf; unsigned width; } half_type;
static const half_type half_types[] = {{"f16", false, 16}, {"f16x2", false, 32}, {"bf16", true, 16}, {"bf16x2", true, 32}};
static spec *half_spec(spec_list *list, unsigned target, const half_type *t, const char *start, unsigned sources) {
  spec *s = spec_add(list, target, "%s.%s", start, t->name);
  spec_sources(s, t->width, sources, t->width, t->bf ? D_BF16 : D_F16);
  s->bf = t->bf;
  s->f = t->bf ? (small_format){8, 7} : (small_format){5, 10};
  return s;
}

void conform_half(spec_list *list) {
  static const struct { const char *name; emu_op op; unsigned sources; } ops[] = {
      {"add", EMU_OP_ADD, 2}, {"sub", EMU_OP_SUB, 2}, {"mul", EMU_OP_MUL, 2}, {"fma", EMU_OP_FMA, 3}};
  for (size_t t = 0; t < 4; t++) {
    const half_type *ht = &half_types[t];
    char start[64];
    for (size_t k = 0; k < 4; k++)
      for (int flags = 0; flags < 6; flags++) {   // ftz; none, sat, relu
        bool ftz = flags & 1, fma = k == 3;
        int kind = flags >> 1;
        if ((ht->bf && (ftz || kind == 1)) || (kind == 2 && !fma)) continue;
        snprintf(start, sizeof start, "%s%s%s%s", ops[k].name, fma || (kind == 0 && !ftz) ? ".rn" : "", ftz ? ".ftz" : "",
                 kind == 1   ? ".sat"
                 : kind == 2 ? ".relu"
                             : "");
        spec *s = half_spec(list, ht->bf && !fma ? 90 : 80, ht, start, ops[k].sources);
        s->op = ops[k].op;
        s->mode = (ftz ? EMU_FTZ : 0) | (kind == 1 ? EMU_SAT : kind == 2 ? EMU_RELU : 0);
        s->want = want_half;
      }
    for (int max = 0; max < 2; max++)
      for (int flags = 0; flags < 8; flags++) {
        if (ht->bf && (flags & 1)) continue;
        snprintf(start, sizeof start, "%s%s%s%s", max ? "max" : "min", flags & 1 ? ".ftz" : "", flags & 2 ? ".NaN" : "",
                 flags & 4 ? ".xorsign.abs" : "");
        spec *s = half_spec(list, flags & 4 ? 90 : 80, ht, start, 2);
        s->is_max = max;
        s->mode = (flags & 1 ? EMU_FTZ : 0) | (flags & 2 ? EMU_NAN : 0) | (flags & 4 ? EMU_XORSIGN_ABS : 0);
        s->want = want_half_minmax;
      }
    for (int k = 0; k < 4; k++) {
      bool ftz = k & 1;
      if (ht->bf && ftz) continue;
      snprintf(start, sizeof start, "%s%s", k & 2 ? "neg" : "abs", ftz ? ".ftz" : "");
      spec *s = half_spec(list, 90, ht, start, 1);
      s->op = k & 2 ? EMU_OP_NEG : EMU_OP_ABS;
      s->mode = ftz ? EMU_FTZ : 0;
      s->judge = judge_half_sign;
      s->exhaustive = true;
    }
    static real_fn *const functions[] = {tanh, exp2};
    for (int k = 0; k < 2; k++) {
      spec *s = half_spec(list, 90, ht, k ? (ht->bf ? "ex2.approx.ftz" : "ex2.approx") : "tanh.approx", 1);
      s->judge = judge_half_function;
      s->extra = &functions[k];
      s->bound = ht->bf ? 0x1p-7 : k ? 0x1p-9 : 0x1p-10;
      s->exhaustive = true;
    }
  }
}
