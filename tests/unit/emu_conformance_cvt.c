// Conformance rows of cvt.
#include "emu_conformance.h"

typedef struct named_int { const char *name; unsigned bits; bool sign; } named_int;
static const named_int ints[] = {{"u8", 8, false}, {"s8", 8, true}, {"u16", 16, false}, {"s16", 16, true},
                                 {"u32", 32, false}, {"s32", 32, true}, {"u64", 64, false}, {"s64", 64, true}};
typedef struct named_float { const char *name; small_format f; unsigned width, target; data_kind data; } named_float;
static const named_float floats[] = {{"f16", {5, 10}, 16, 80, D_F16},
                                     {"bf16", {8, 7}, 16, 90, D_BF16},
                                     {"f32", {8, 23}, 32, 80, D_F32},
                                     {"f64", {11, 52}, 64, 80, D_F64}};
static unsigned register_of(unsigned bits) { return bits == 8 ? 32 : bits; }

// The bits of an integer result: 8-bit types fill a 32-bit register, signed ones by sign extension.
static uint64_t int_result(wide v, const spec *s) {
  uint64_t low = cut(v, s->t.bits);
  return s->t.bits == 8 && s->t.is_signed ? cut(value(low, s->t), 32) : low;
}
static wide clamp(wide v, int_type t) {
  wide high = ((wide)1 << (t.bits - t.is_signed)) - 1, low = t.is_signed ? -high - 1 : 0;
  return v > high ? high : v < low ? low : v;
}
static uint64_t want_int_int(const uint64_t x[4], const spec *s) {
  wide v = value(x[0], s->source);
  return int_result(s->mode & EMU_SAT ? clamp(v, s->t) : v, s);
}
static void int_to_int(spec_list *list) {
  for (size_t to = 0; to < 8; to++)
    for (size_t from = 0; from < 8; from++)
      for (int sat = 0; sat < 2; sat++) {
        const named_int *d = &ints[to], *a = &ints[from];
        bool fits = a->sign == d->sign ? a->bits <= d->bits : !a->sign && a->bits < d->bits;
        if (sat && fits) continue;                 // nothing can saturate: illegal
        spec *s = spec_add(list, 80, "cvt%s.%s.%s", sat ? ".sat" : "", d->name, a->name);
        spec_sources(s, register_of(d->bits), 1, register_of(a->bits), D_BITS);
        s->t = (int_type){EMU_NOTYPE, d->bits, d->sign};
        s->source = (int_type){EMU_NOTYPE, a->bits, a->sign};
        s->mode = sat ? EMU_SAT : 0;
        s->want = want_int_int;
        s->exhaustive = a->bits <= 16;
      }
}

static uint64_t want_int_float(const uint64_t x[4], const spec *s) {
  wide v = value(x[0], s->source);
  fixed exact = fixed_make(v < 0, (uint64_t)(v < 0 ? -v : v), 0);
  return fixed_round(&exact, s->f, s->round);
}
static const char *const roundings[] = {"rn", "rz", "rm", "rp"};
static void int_to_float(spec_list *list) {
  for (size_t to = 0; to < 4; to++)
    for (size_t from = 0; from < 8; from++)
      for (int r = 0; r < 4; r++) {
        const named_float *d = &floats[to];
        const named_int *a = &ints[from];
        if (to == 1 && a->bits == 8) continue;      // not PTX
        spec *s = spec_add(list, d->target, "cvt.%s.%s.%s", roundings[r], d->name, a->name);
        spec_sources(s, d->width, 1, register_of(a->bits), D_BITS);
        s->source = (int_type){EMU_NOTYPE, a->bits, a->sign};
        s->f = d->f;
        s->round = r;
        s->want = want_int_float;
        s->exhaustive = a->bits <= 16;
      }
}

static long double integral(long double v, int round) {
  return round == 0 ? rintl(v) : round == 1 ? truncl(v) : round == 2 ? floorl(v) : ceill(v);
}
static long double source_value(uint64_t v, const spec *s) {
  if (s->from.frac_bits == 52) return as_f64(v);
  if (s->from.frac_bits == 23) return as_f32(s->mode & EMU_FTZ ? flush((uint32_t)v) : (uint32_t)v);
  return small_value(v & 0xFFFF, s->from);
}
static uint64_t want_float_int(const uint64_t x[4], const spec *s) {
  long double v = integral(source_value(x[0], s), s->round), limit = ldexpl(1, (int)s->t.bits - s->t.is_signed);
  if (isnan(v)) return 0;
  wide r = v >= limit ? clamp((wide)1 << 100, s->t) : v < -limit ? clamp(-((wide)1 << 100), s->t) : clamp((wide)v, s->t);
  return int_result(r, s);
}
static void float_to_int(spec_list *list) {
  for (size_t from = 0; from < 4; from++)
    for (size_t to = 0; to < 8; to++)
      for (int r = 0; r < 4; r++)
        for (int ftz = 0; ftz < (from == 2 ? 2 : 1); ftz++) {
          const named_float *a = &floats[from];
          const named_int *d = &ints[to];
          if (from == 1 && d->bits == 8) continue;   // not PTX
          spec *s = spec_add(list, a->target, "cvt.%si%s.%s.%s", roundings[r], ftz ? ".ftz" : "", d->name, a->name);
          spec_sources(s, register_of(d->bits), 1, a->width, a->data);
          s->t = (int_type){EMU_NOTYPE, d->bits, d->sign};
          s->from = a->f;
          s->round = r;
          s->mode = ftz ? EMU_FTZ : 0;
          s->want = want_float_int;
          s->exhaustive = a->width == 16;
        }
}

static uint64_t canonical(small_format f) {
  return f.frac_bits == 23 ? 0x7FFFFFFF : f.frac_bits == 52 ? 0x7FF8000000000000 : 0x7FFF;
}
static uint64_t result_nan(const spec *s) { return canonical(s->f); }
static uint64_t want_float_float(const uint64_t x[4], const spec *s) {
  uint64_t v = s->mode & EMU_FTZ && s->from.frac_bits == 23 ? flush((uint32_t)x[0]) : x[0], r;
  if (s->mode & EMU_INT) {
    long double i = integral(source_value(v, s), s->round);
    r = isnan(i)               ? canonical(s->f)
        : s->f.frac_bits == 52 ? f64_as((double)i)
                               : narrow_oracle(f64_as((double)i), (small_format){11, 52}, s->f, 0, 0);
  } else if (s->f.frac_bits >= s->from.frac_bits && s->f.exp_bits >= s->from.exp_bits) {   // widening is exact
    long double w = source_value(v, s);
    r = isnan(w) ? canonical(s->f) : s->f.frac_bits == 52 ? f64_as((double)w) : s->f.frac_bits == 23 ? f32_as((float)w) : v;
  } else {
    r = narrow_oracle(v, s->from, s->f, s->round, result_nan(s));
  }
  bool nan = r == canonical(s->f);
  if (s->mode & EMU_FTZ && s->f.frac_bits == 23) r = flush((uint32_t)r);
  uint64_t sign = (uint64_t)1 << (s->f.exp_bits + s->f.frac_bits), inf = (((uint64_t)1 << s->f.exp_bits) - 1) << s->f.frac_bits;
  uint64_t one = (((uint64_t)1 << (s->f.exp_bits - 1)) - 1) << s->f.frac_bits;
  if (!nan && (s->mode & EMU_SATFINITE) && (r & ~sign) == inf) r--;
  if (!nan && (s->mode & EMU_RELU) && (r & sign)) r = 0;
  if (s->mode & EMU_SAT) r = nan || (r & sign) ? 0 : r > one ? one : r;
  return r;
}
static bool judge_float_float(const uint64_t x[4], uint64_t got, const spec *s) {   // f64 NaNs have free payloads
  uint64_t want = want_float_float(x, s);
  return s->f.frac_bits == 52 && isnan(as_f64(want)) ? isnan(as_f64(got)) : got == want;
}
static spec *float_spec(spec_list *list, unsigned target, const named_float *d, const named_float *a, const char *modifiers) {
  spec *s = spec_add(list, target > 80 || d->target > a->target ? (target > d->target ? target : d->target) : a->target,
                     "cvt%s.%s.%s", modifiers, d->name, a->name);
  spec_sources(s, d->width, 1, a->width, a->data);
  s->f = d->f;
  s->from = a->f;
  s->judge = judge_float_float;
  s->exhaustive = a->width == 16;
  return s;
}
static void float_to_float(spec_list *list) {
  const named_float *h = &floats[0], *b = &floats[1], *f = &floats[2], *d = &floats[3];
  float_spec(list, 80, f, h, "");
  float_spec(list, 90, f, b, "");
  float_spec(list, 80, d, h, "");
  float_spec(list, 80, d, f, "");
  float_spec(list, 80, d, f, ".ftz")->mode = EMU_FTZ;
  float_spec(list, 80, f, h, ".ftz")->mode = EMU_FTZ;
  float_spec(list, 80, f, f, ".sat")->mode = EMU_SAT;
  float_spec(list, 80, f, f, ".ftz.sat")->mode = EMU_SAT | EMU_FTZ;
  float_spec(list, 80, f, f, ".ftz")->mode = EMU_FTZ;
  for (int r = 0; r < 4; r++) {
    char m[32];
    for (int k = 0; k < 4; k++) {
      snprintf(m, sizeof m, ".%s%s%s", roundings[r], k & 1 ? ".ftz" : "", k & 2 ? ".sat" : "");
      spec *s = float_spec(list, 80, f, d, m);
      s->round = r;
      s->mode = (k & 1 ? EMU_FTZ : 0) | (k & 2 ? EMU_SAT : 0);
      s = float_spec(list, 80, h, f, m);
      s->round = r;
      s->mode = (k & 1 ? EMU_FTZ : 0) | (k & 2 ? EMU_SAT : 0);
      snprintf(m, sizeof m, ".%si%s%s", roundings[r], k & 1 ? ".ftz" : "", k & 2 ? ".sat" : "");
      s = float_spec(list, 80, f, f, m);
      s->round = r;
      s->mode = EMU_INT | (k & 1 ? EMU_FTZ : 0) | (k & 2 ? EMU_SAT : 0);
    }
    snprintf(m, sizeof m, ".%s", roundings[r]);
    float_spec(list, 80, h, d, m)->round = r;
    snprintf(m, sizeof m, ".%si", roundings[r]);
    spec *s = float_spec(list, 80, h, h, m);
    s->round = r;
    s->mode = EMU_INT;
    s = float_spec(list, 80, d, d, m);
    s->round = r;
    s->mode = EMU_INT;
    if (r > 1) continue;
    for (int k = 0; k < 2; k++) {
      snprintf(m, sizeof m, ".%s%s", roundings[r], k ? ".relu" : "");
      s = float_spec(list, 80, b, f, m);
      s->target = 80;
      s->round = r;
      s->mode = k ? EMU_RELU : 0;
    }
  }
}

// --- tf32 and packed results ---------------------------------------------------------------------------------------------------
static uint64_t want_tf32(const uint64_t x[4], const spec *s) {
  if (nan32((uint32_t)x[0])) return 0x7FFFFFFF;
  uint64_t r = narrow_oracle(x[0], (small_format){8, 23}, (small_format){8, 10}, s->round, 0) << 13;
  if ((s->mode & EMU_SATFINITE) && (r & 0x7FFFFFFF) == 0x7F800000) r -= 1 << 13;
  if ((s->mode & EMU_RELU) && r >> 31) r = 0;
  return r;
}
static uint64_t want_pair(const uint64_t x[4], const spec *s) {   // the first source into the upper half
  uint64_t high[4] = {x[0]}, low[4] = {x[1]};
  return want_float_float(high, s) << 16 | want_float_float(low, s);
}
static void packed_halves(spec_list *list) {
  for (int bf = 0; bf < 2; bf++)
    for (int r = 0; r < 2; r++)
      for (int k = 0; k < 4; k++) {
        spec *s = spec_add(list, k & 2 ? 90 : 80, "cvt.%s%s%s.%s.f32", roundings[r], k & 1 ? ".relu" : "",
                           k & 2 ? ".satfinite" : "", bf ? "bf16x2" : "f16x2");
        spec_sources(s, 32, 2, 32, D_F32);
        s->f = floats[bf].f;
        s->from = floats[2].f;
        s->round = r;
        s->mode = (k & 1 ? EMU_RELU : 0) | (k & 2 ? EMU_SATFINITE : 0);
        s->want = want_pair;
      }
  static const struct { const char *text; int round; uint32_t mode; unsigned target;
  } rows[] = {{"cvt.rna.tf32.f32", 4, 0, 80},
              {"cvt.rn.tf32.f32", 0, 0, 90},
              {"cvt.rz.tf32.f32", 1, 0, 90},
              {"cvt.rn.relu.tf32.f32", 0, EMU_RELU, 90},
              {"cvt.rna.satfinite.tf32.f32", 4, EMU_SATFINITE, 90}};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    spec *s = spec_add(list, rows[k].target, "%s", rows[k].text);
    spec_sources(s, 32, 1, 32, D_F32);
    s->round = rows[k].round;
    s->mode = rows[k].mode;
    s->want = want_tf32;
  }
}

static uint32_t to_tiny(double v, const spec *s) {
  if ((s->mode & EMU_RELU) && !isnan(v) && signbit(v)) v = 0;
  return tiny_nearest(s->extra, v);
}
static uint64_t want_tiny_f32(const uint64_t x[4], const spec *s) {
  const tiny *t = s->extra;
  unsigned shift = t->bits == 4 ? 4 : 8;
  return to_tiny(as_f32((uint32_t)x[1]), s) | (uint64_t)to_tiny(as_f32((uint32_t)x[0]), s) << shift;
}
static uint64_t want_tiny_f16(const uint64_t x[4], const spec *s) {
  return to_tiny(half_value(x[0] & 0xFFFF, false), s) | (uint64_t)to_tiny(half_value(x[0] >> 16 & 0xFFFF, false), s) << 8;
}
static uint64_t want_from_tiny(const uint64_t x[4], const spec *s) {
  const tiny *t = s->extra;
  unsigned shift = t->bits == 4 ? 4 : 8;
  uint64_t r = 0;
  for (unsigned h = 0; h < 2; h++) {
    double v = tiny_value(t, x[0] >> (shift * h) & ((1u << t->bits) - 1));
    if ((s->mode & EMU_RELU) && !isnan(v) && signbit(v)) v = 0;
    r |= (isnan(v) ? 0x7FFF : narrow_oracle(f64_as(v), (small_format){11, 52}, (small_format){5, 10}, 0, 0x7FFF)) << (16 * h);
  }
  return r;
}
static uint64_t ue8m0(double v, int up) {
  v = fabs(v);
  if (isnan(v)) return 0xFF;
  int e = -127;
  while (e < 127 && (up ? ldexp(1, e) < v : ldexp(1, e + 1) <= v)) e++;
  return (uint64_t)(e + 127);
}
static uint64_t want_ue8m0(const uint64_t x[4], const spec *s) {
  return ue8m0(as_f32((uint32_t)x[1]), s->round == 3) | ue8m0(as_f32((uint32_t)x[0]), s->round == 3) << 8;
}
static void tiny_formats(spec_list *list) {
  static const struct {
    const char *name;
    unsigned target;
  } rows[] = {{"e4m3x2", 90}, {"e5m2x2", 90}, {"e2m1x2", 100}, {"e2m3x2", 100}, {"e3m2x2", 100}};
  for (size_t k = 0; k < 5; k++)
    for (int relu = 0; relu < 2; relu++) {
      const char *name = rows[k].name, *r = relu ? ".relu" : "";
      spec *s = spec_add(list, rows[k].target, "cvt.rn.satfinite%s.%s.f32", r, name);
      spec_sources(s, 16, 2, 32, D_F32);
      s->want = want_tiny_f32;
      s->extra = &tinies[k];
      s->mode = relu ? EMU_RELU : 0;
      if (k == 2)
        s->body = relu ? "cvt.rn.satfinite.relu.e2m1x2.f32 %x1, $1, $2; mov.b16 $0, {%x1, 0};"
                       : "cvt.rn.satfinite.e2m1x2.f32 %x1, $1, $2; mov.b16 $0, {%x1, 0};";
      s = spec_add(list, rows[k].target, "cvt.rn%s.f16x2.%s", r, name);
      spec_sources(s, 32, 1, 16, D_BITS);
      s->want = want_from_tiny;
      s->extra = &tinies[k];
      s->mode = relu ? EMU_RELU : 0;
      s->exhaustive = true;
      if (k == 2)
        s->body = relu ? "mov.b16 {%x1, %x2}, $1; cvt.rn.relu.f16x2.e2m1x2 $0, %x1;"
                       : "mov.b16 {%x1, %x2}, $1; cvt.rn.f16x2.e2m1x2 $0, %x1;";
      if (k > 1) continue;
      s = spec_add(list, rows[k].target, "cvt.rn.satfinite%s.%s.f16x2", r, name);
      spec_sources(s, 16, 1, 32, D_F16);
      s->want = want_tiny_f16;
      s->extra = &tinies[k];
      s->mode = relu ? EMU_RELU : 0;
    }
  for (int up = 0; up < 2; up++) {
    spec *s = spec_add(list, 100, "cvt.%s.satfinite.ue8m0x2.f32", up ? "rp" : "rz");
    spec_sources(s, 16, 2, 32, D_F32);
    s->round = up ? 3 : 1;
    s->want = want_ue8m0;
  }
}

void conform_cvt(spec_list *list) {
  int_to_int(list);
  int_to_float(list);
  float_to_int(list);
  float_to_float(list);
  packed_halves(list);
  tiny_formats(list);
}
