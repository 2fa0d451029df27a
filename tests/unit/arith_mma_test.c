// Matrix instructions: golden bits per generation, fragment maps against plain matrix products, the semantics of fused sums.
#include "arith_golden.h"
#include "arith_matrix.h"
#include "arith_oracle.h"

#define MAX_K 256

typedef struct warp {
  uint64_t a[16][32], b[16][32], c[16][32], d[16][32];   // f64 rows, or words in the first half of each
} warp;
// d = a*b + c through the registers of a warp; in place when asked.
static void multiply(const emu_mma_desc *desc, emu_gen gen, uint32_t flags, bool in_place, const uint64_t *a, const uint64_t *b,
                     const uint64_t *c, uint64_t *d) {
  warp w;
  memset(&w, 0xA5, sizeof w);
  unsigned m = desc->m, n = desc->n, k = desc->k;
  (void)m;
  put(desc, EMU_FRAG_A, desc->atype, w.a, k, a);
  put(desc, EMU_FRAG_B, desc->btype, w.b, n, b);
  put(desc, EMU_FRAG_C, desc->ctype, w.c, n, c);
  const void *pa[16], *pb[16], *pc[16];
  void *pd[16];
  for (int i = 0; i < 16; i++) {
    pa[i] = w.a[i];
    pb[i] = w.b[i];
    pc[i] = w.c[i];
    pd[i] = in_place ? w.c[i] : w.d[i];
  }
  emu_mma(desc, gen, flags, EMU_ROW, EMU_COL, pd, pa, pb, pc);
  get(desc, desc->dtype, in_place ? w.c : w.d, n, d);
}

START_TEST(golden_bits) {
  golden g = golden_open("mma_golden.safetensors");
  if (!g.bytes) return;
  static const struct { const char *name; emu_gen gen; } gens[] = {
      {"Turing", EMU_TURING}, {"Ampere", EMU_AMPERE}, {"Hopper", EMU_HOPPER}};
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  unsigned cases = 0;
  for (size_t t = 0; t < count; t++)
    for (size_t q = 0; q < 3; q++)
      for (unsigned number = 0; number < 4; number++) {
        const emu_mma_desc *e = &table[t];
        char key[4][128];
        const uint32_t *x[4];
        for (int o = 0; o < 4; o++) {
          snprintf(key[o], sizeof key[o], "%s.m%un%uk%u.%s.%s.%s.%s.case%u.%c", gens[q].name, e->m, e->n, e->k,
                   emu_type_name(e->dtype), emu_type_name(e->atype), emu_type_name(e->btype), emu_type_name(e->ctype), number,
                   "abcd"[o]);
          x[o] = golden_find(&g, key[o]);
        }
        if (!x[0] || e->wmma) continue;
        uint64_t m[4][512], d[512];
        unsigned sizes[4] = {e->m * e->k, e->k * e->n, e->m * e->n, e->m * e->n};
        for (int o = 0; o < 4; o++)
          for (unsigned i = 0; i < sizes[o]; i++) {
            m[o][i] = x[o][i];
            emu_type et = o == 0 ? e->atype : o == 1 ? e->btype : o == 2 ? e->ctype : e->dtype;
            if (emu_type_bits(et) == 16) m[o][i] &= 0xFFFF;
          }
        multiply(e, gens[q].gen, 0, number & 1, m[0], m[1], m[2], d);
        for (unsigned i = 0; i < sizes[3]; i++)
          ck_assert_msg(d[i] == m[3][i], "%s element %u: %08x, expected %08x", key[3], i, (unsigned)d[i], (unsigned)m[3][i]);
        cases++;
      }
  free(g.bytes);
  printf("golden cases: %u\n", cases);
  ck_assert_uint_eq(cases, 56);
}
END_TEST

START_TEST(plain_products) {
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  for (size_t t = 0; t < count; t++) {
    const emu_mma_desc *e = &table[t];
    if (!e->wmma && e->m == 8 && e->k == 4 && e->atype == EMU_F16) continue;   // four products: below
    for (int gen = EMU_VOLTA; gen < EMU_GEN_COUNT; gen++) {
      bool fp8 = e->atype == EMU_E4M3 || e->atype == EMU_E5M2;
      if (fp8 && gen < EMU_ADA) continue;
      static uint64_t a[32 * MAX_K], b[32 * MAX_K], c[1024], d[1024];
      static double fa[32 * MAX_K], fb[32 * MAX_K];
      for (unsigned i = 0; i < e->m * e->k; i++) a[i] = encode(e->atype, fa[i] = small(e->atype));
      for (unsigned i = 0; i < e->k * e->n; i++) b[i] = encode(e->btype, fb[i] = small(e->btype));
      for (unsigned i = 0; i < e->m * e->n; i++) c[i] = encode(e->ctype, (int)(rnd() % 17) - 8);
      multiply(e, (emu_gen)gen, 0, gen & 1, a, b, c, d);
      for (unsigned i = 0; i < e->m; i++)
        for (unsigned j = 0; j < e->n; j++) {
          double sum = decode(e->ctype, c[i * e->n + j]);
          for (unsigned k = 0; k < e->k; k++) {
            double x = fa[i * e->k + k], y = fb[k * e->n + j];
            sum += e->op == EMU_MMA_XOR_POPC ? x != y : x * y;
          }
          double got = decode(e->dtype, d[i * e->n + j]);
          ck_assert_msg(got == sum, "%s m%un%uk%u %s.%s.%s gen %d (%u,%u): %g, expected %g", e->wmma ? "wmma" : "mma", e->m, e->n,
                        e->k, emu_type_name(e->dtype), emu_type_name(e->atype), emu_type_name(e->btype), gen, i, j, got, sum);
        }
    }
  }
}
END_TEST

// Every fragment map covers its matrix, each element equally often.
START_TEST(maps_cover) {
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  for (size_t t = 0; t < count; t++)
    for (int which = EMU_FRAG_A; which <= EMU_FRAG_C; which++) {
      const emu_mma_desc *e = &table[t];
      emu_type type = which == EMU_FRAG_A ? e->atype : which == EMU_FRAG_B ? e->btype : e->ctype;
      bool quads = !e->wmma && e->m == 8 && e->k == 4 && e->atype == EMU_F16;
      unsigned rows = which == EMU_FRAG_B ? e->k : quads ? 32 : e->m, cols = which == EMU_FRAG_A ? e->k : e->n;
      if (quads && which == EMU_FRAG_B) cols = 32;
      static unsigned hits[256 * 32];
      memset(hits, 0, sizeof hits);
      unsigned total = 0;
      for (unsigned r = 0; r < emu_mma_registers(e, (emu_operand)which, type); r++)
        for (unsigned lane = 0; lane < 32; lane++)
          for (unsigned x = 0; x < emu_frag_elements(e, (emu_operand)which, type); x++) {
            unsigned row, col;
            emu_frag_coord(e, (emu_operand)which, type, lane, r, x, &row, &col);
            ck_assert_uint_lt(row, rows);
            ck_assert_uint_lt(col, cols);
            hits[row * cols + col]++;
            total++;
          }
      for (unsigned i = 0; i < rows * cols; i++) ck_assert_uint_eq(hits[i], total / (rows * cols));
      ck_assert_uint_le(emu_mma_registers(e, (emu_operand)which, type), EMU_MMA_MAX_REGS);
    }
}
END_TEST

// Fragment positions quoted from the PTX ISA's figures, so that the maps are not only consistent with themselves.
START_TEST(maps_of_the_isa) {
  unsigned row, col;
  const emu_mma_desc *e = emu_mma_find(false, 16, 8, 16, EMU_F32, EMU_F16, EMU_F16, EMU_F32, EMU_MMA_MULADD);
  emu_frag_coord(e, EMU_FRAG_A, EMU_F16, 5, 1, 1, &row, &col);       // a3 of lane 5: row 5/4 + 8, col (5%4)*2 + 1
  ck_assert(row == 9 && col == 3);
  emu_frag_coord(e, EMU_FRAG_A, EMU_F16, 31, 2, 0, &row, &col);      // a4 of lane 31: row 7, col 6 + 8
  ck_assert(row == 7 && col == 14);
  emu_frag_coord(e, EMU_FRAG_B, EMU_F16, 6, 1, 0, &row, &col);       // b2 of lane 6: row (6%4)*2 + 8, col 1
  ck_assert(row == 12 && col == 1);
  emu_frag_coord(e, EMU_FRAG_C, EMU_F32, 7, 3, 0, &row, &col);       // c3 of lane 7: row 1 + 8, col 3*2 + 1
  ck_assert(row == 9 && col == 7);
  e = emu_mma_find(false, 16, 8, 32, EMU_S32, EMU_S8, EMU_S8, EMU_S32, EMU_MMA_MULADD);
  emu_frag_coord(e, EMU_FRAG_A, EMU_S8, 9, 3, 2, &row, &col);        // a14 of lane 9: row 2 + 8, col (9%4)*4 + 2 + 16
  ck_assert(row == 10 && col == 22);
  emu_frag_coord(e, EMU_FRAG_B, EMU_S8, 9, 1, 3, &row, &col);        // b7 of lane 9: row 4 + 3 + 16, col 2
  ck_assert(row == 23 && col == 2);
  e = emu_mma_find(false, 16, 8, 64, EMU_S32, EMU_S4, EMU_S4, EMU_S32, EMU_MMA_MULADD);
  emu_frag_coord(e, EMU_FRAG_A, EMU_S4, 1, 2, 7, &row, &col);        // a23 of lane 1: row 0, col 8 + 7 + 32
  ck_assert(row == 0 && col == 47);
  e = emu_mma_find(false, 16, 8, 8, EMU_F32, EMU_TF32, EMU_TF32, EMU_F32, EMU_MMA_MULADD);
  emu_frag_coord(e, EMU_FRAG_A, EMU_TF32, 13, 3, 0, &row, &col);     // a3 of lane 13: row 3 + 8, col 1 + 4
  ck_assert(row == 11 && col == 5);
  e = emu_mma_find(false, 8, 8, 4, EMU_F64, EMU_F64, EMU_F64, EMU_F64, EMU_MMA_MULADD);
  emu_frag_coord(e, EMU_FRAG_C, EMU_F64, 6, 1, 0, &row, &col);
  ck_assert(row == 1 && col == 5);
  emu_quad_pair_coord(EMU_FRAG_C, EMU_ROW, true, 22, 5, &row, &col); // lane 22: product 1; row (0) + (5&2) + 4, col 4 + 2 + 1
  ck_assert(row == 8 + 4 && col == 7);
}
END_TEST

START_TEST(quad_pairs) {
  for (int la = 0; la < 2; la++)
    for (int lb = 0; lb < 2; lb++)
      for (int wide = 0; wide < 2; wide++) {
        emu_type acc = wide ? EMU_F32 : EMU_F16;
        const emu_mma_desc *e = emu_mma_find(false, 8, 8, 4, acc, EMU_F16, EMU_F16, acc, EMU_MMA_MULADD);
        double a[32][4], b[4][32], c[32][8];
        uint32_t ra[2][32] = {{0}}, rb[2][32] = {{0}}, rc[8][32] = {{0}}, rd[8][32];
        unsigned row, col;
        for (unsigned lane = 0; lane < 32; lane++) {
          for (unsigned i = 0; i < 4; i++) {
            emu_quad_pair_coord(EMU_FRAG_A, (emu_layout)la, false, lane, i, &row, &col);
            ra[i / 2][lane] |= (uint32_t)encode(EMU_F16, a[row][col] = small(EMU_F16)) << (16 * (i & 1));
            emu_quad_pair_coord(EMU_FRAG_B, (emu_layout)lb, false, lane, i, &row, &col);
            rb[i / 2][lane] |= (uint32_t)encode(EMU_F16, b[row][col] = small(EMU_F16)) << (16 * (i & 1));
          }
          for (unsigned i = 0; i < 8; i++) {
            emu_quad_pair_coord(EMU_FRAG_C, EMU_ROW, wide, lane, i, &row, &col);
            uint32_t v = (uint32_t)encode(acc, c[row][col] = small(acc));
            rc[wide ? i : i / 2][lane] |= wide ? v : v << (16 * (i & 1));
          }
        }
        const void *pa[] = {ra[0], ra[1]}, *pb[] = {rb[0], rb[1]}, *pc[8];
        void *pd[8];
        for (int i = 0; i < 8; i++) { pc[i] = rc[i]; pd[i] = rd[i]; }
        emu_mma(e, EMU_VOLTA, 0, (emu_layout)la, (emu_layout)lb, pd, pa, pb, pc);
        for (unsigned lane = 0; lane < 32; lane++)
          for (unsigned i = 0; i < 8; i++) {
            emu_quad_pair_coord(EMU_FRAG_C, EMU_ROW, wide, lane, i, &row, &col);
            double sum = c[row][col];
            for (unsigned k = 0; k < 4; k++) sum += a[row][k] * b[k][row / 8 * 8 + col];
            uint32_t v = wide ? rd[i][lane] : rd[i / 2][lane] >> (16 * (i & 1)) & 0xFFFF;
            ck_assert_double_eq(decode(acc, v), sum);
          }
      }
}
END_TEST

// One output element of m16n8k16 f16 -> f32 with the given products in row 0, column 0.
static uint32_t one_sum(emu_gen gen, const double *x, const double *y, unsigned n, uint32_t c) {
  const emu_mma_desc *e = emu_mma_find(false, 16, 8, 16, EMU_F32, EMU_F16, EMU_F16, EMU_F32, EMU_MMA_MULADD);
  uint64_t a[256] = {0}, b[128] = {0}, cc[128] = {0}, d[128];
  for (unsigned k = 0; k < n; k++) {
    a[k] = encode(EMU_F16, x[k]);
    b[k * 8] = encode(EMU_F16, y[k]);
  }
  cc[0] = c;
  multiply(e, gen, 0, false, a, b, cc, d);
  return (uint32_t)d[0];
}
START_TEST(fused_sums) {
  // 1 + 2^-24 + 2^-24: a chain of roundings to nearest would lose both; 24 bits below the largest keep them, 23 do not.
  double x[16] = {1, 0x1p-12, 0x1p-12}, y[16] = {1, 0x1p-12, 0x1p-12};
  ck_assert_uint_eq(one_sum(EMU_AMPERE, x, y, 3, 0), 0x3F800001);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, x, y, 3, 0), 0x3F800001);
  // Four terms of 2^-25: kept only with F = 25.
  double u[16] = {1, 0x1p-12, 0x1p-12, 0x1p-12, 0x1p-12}, v[16] = {1, 0x1p-13, 0x1p-13, 0x1p-13, 0x1p-13};
  ck_assert_uint_eq(one_sum(EMU_AMPERE, u, v, 5, 0), 0x3F800000);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, u, v, 5, 0), 0x3F800001);
  // Truncation, not rounding, and toward zero on both sides.
  double p[16] = {1, 0x1p-12, 0x1p-12, 0x1p-12}, q[16] = {1, 0x1p-12, 0x1p-12, 0x1p-12};
  ck_assert_uint_eq(one_sum(EMU_AMPERE, p, q, 4, 0), 0x3F800001);
  for (int i = 0; i < 4; i++) p[i] = -p[i];
  ck_assert_uint_eq(one_sum(EMU_AMPERE, p, q, 4, 0), 0xBF800001);
  // The split: on Ampere the first eight are summed and truncated before the second eight are added.
  double s[16] = {[0] = 1, [1] = 0x1p-12, [9] = 0x1p-12}, w[16] = {[0] = 1, [1] = 0x1p-12, [9] = 0x1p-12};
  ck_assert_uint_eq(one_sum(EMU_AMPERE, s, w, 10, 0), 0x3F800000);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, s, w, 10, 0), 0x3F800001);
  // Infinities and NaNs, signed zero, subnormal and overflowing results.
  double one[16] = {1}, zero[16] = {0};
  ck_assert_uint_eq(one_sum(EMU_AMPERE, one, one, 1, 0x7F800000), 0x7F800000);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, one, one, 1, 0xFF800001), 0x7FFFFFFF);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, zero, zero, 1, 0x80000000), 0);
  ck_assert_uint_eq(one_sum(EMU_HOPPER, zero, zero, 1, 0x80000005), 0x80000005);
  ck_assert_uint_eq(one_sum(EMU_AMPERE, zero, zero, 1, 0x7F7FFFFF), 0x7F7FFFFF);
  const emu_mma_desc *e = emu_mma_find(false, 16, 8, 16, EMU_F32, EMU_BF16, EMU_BF16, EMU_F32, EMU_MMA_MULADD);
  uint64_t a[256] = {0}, b[128] = {0}, c[128] = {0}, d[128];
  a[0] = 0x7F00;  // 2^127
  b[0] = 0x4000;  // 2
  b[1] = 0xC000;
  b[2] = 0x7F80;
  a[16] = 0;
  multiply(e, EMU_HOPPER, 0, false, a, b, c, d);
  ck_assert_uint_eq(d[0], 0x7F800000);
  ck_assert_uint_eq(d[1], 0xFF800000);
  ck_assert_uint_eq(d[2], 0x7F800000);
  ck_assert_uint_eq(d[8 + 2], 0x7FFFFFFF);   // 0 * inf
}
END_TEST

// The fused sum as it is described (ptx-facts, section 4), in long double and the fixed-point oracle: every float shape and
// generation on random bits with wide and narrow exponents, subnormals, zeros, infinities and NaNs.
typedef struct term { long double sig; int exp; } term;
static small_format format_of(emu_type t) {
  switch (t) {
    case EMU_F32: return (small_format){8, 23};
    case EMU_TF32: return (small_format){8, 10};
    case EMU_BF16: return (small_format){8, 7};
    case EMU_E4M3: return (small_format){4, 3};
    case EMU_E5M2: return (small_format){5, 2};
    default: return (small_format){5, 10};
  }
}
static double value_of(emu_type t, uint64_t bits) {
  if (t == EMU_E4M3) return (bits & 0x7F) == 0x7F ? NAN : decode(t, bits);
  if (t == EMU_TF32) bits = (bits & 0xFFFFE000u) >> 13;
  parts p = split_bits(bits, format_of(t));
  double v = p.cls == 2 ? NAN : p.cls ? INFINITY : ldexp((double)p.m, p.e);
  return p.negative ? -v : v;
}
// Significand in [1, 2), below 1 for subnormals; a zero has exponent -126.
static term term_of(emu_type t, uint64_t bits) {
  double v = value_of(t, bits);
  small_format f = format_of(t);
  if (!isfinite(v)) return (term){v, 0};   // decides the sum whatever the exponents
  int least = 2 - (1 << (f.exp_bits - 1)), e = v == 0 ? 0 : ilogb(v);
  if (v == 0) return (term){0, -126};
  if (e < least) e = least;
  return (term){ldexpl(v, -e), e};
}
static uint64_t sum_oracle(const emu_mma_desc *e, emu_gen gen, const uint64_t *a, const uint64_t *b, uint64_t c) {
  static const int fractions[] = {23, 24, 24, 24, 25, 25};
  bool fp8 = e->atype == EMU_E4M3 || e->atype == EMU_E5M2;
  emu_type ta = e->atype, tb = e->btype, tc = e->ctype;
  int F = fp8 && gen == EMU_ADA ? 13 : fractions[gen];
  unsigned chunk = gen >= EMU_HOPPER ? 16 : gen == EMU_VOLTA ? 4 : 8;
  if (ta == EMU_TF32) chunk = gen >= EMU_HOPPER ? 8 : 4;
  if (fp8) chunk = gen == EMU_BLACKWELL ? 32 : 16;
  for (unsigned begin = 0; begin < e->k; begin += chunk) {
    unsigned n = e->k - begin < chunk ? e->k - begin : chunk;
    double plain = value_of(tc, c);
    term terms[33] = {term_of(tc, c)};
    int top = terms[0].exp;
    for (unsigned k = 0; k < n; k++) {
      uint64_t x = a[begin + k], y = b[begin + k];
      plain += value_of(ta, x) * value_of(tb, y);
      term p = term_of(ta, x), q = term_of(tb, y);
      if (fp8 && gen == EMU_HOPPER) {            // through f16, where fp8's subnormals are normal
        p = value_of(ta, x) == 0 || !isfinite(value_of(ta, x)) ? p
            : (term){ldexpl(value_of(ta, x), -ilogb(value_of(ta, x))), ilogb(value_of(ta, x))};
        q = value_of(tb, y) == 0 || !isfinite(value_of(tb, y)) ? q : (term){ldexpl(value_of(tb, y), -ilogb(value_of(tb, y))), ilogb(value_of(tb, y))};
        if (p.sig != 0 && p.exp < -14) p = (term){ldexpl(p.sig, p.exp + 14), -14};
        if (q.sig != 0 && q.exp < -14) q = (term){ldexpl(q.sig, q.exp + 14), -14};
      }
      terms[k + 1] = (term){p.sig * q.sig, p.exp + q.exp};
      if (terms[k + 1].exp > top) top = terms[k + 1].exp;
    }
    bool half = e->dtype == EMU_F16;
    if (isnan(plain)) c = half ? 0x7FFF : 0x7FFFFFFF;
    else if (isinf(plain)) c = (half ? 0x7C00 : 0x7F800000) | (plain < 0 ? half ? 0x8000 : 0x80000000u : 0);
    else {
      long double sum = 0;
      for (unsigned k = 0; k <= n; k++) sum += truncl(ldexpl(terms[k].sig, F + terms[k].exp - top));
      fixed v = fixed_make(sum < 0, (uint64_t)fabsl(sum), top - F);
      bool over = sum != 0 && ilogbl(sum) + top - F > 127;
      c = fixed_round(&v, format_of(half ? EMU_F16 : EMU_F32), half ? 0 : 1);
      if (sum == 0) c = 0;
      if (over && !half) c = 0x7F800000 | (sum < 0 ? 0x80000000u : 0);
      if (fp8 && gen == EMU_ADA && !half && !over) c &= ~(uint64_t)0x3FF;
    }
    tc = e->dtype;
  }
  return c;
}
static uint64_t random_element(emu_type t, unsigned style) {
  small_format f = format_of(t);
  unsigned width = 1 + f.exp_bits + f.frac_bits, middle = (1u << (f.exp_bits - 1)) - 1;
  uint64_t r = (uint64_t)rnd() << 32 | rnd(), v = r & (((uint64_t)1 << width) - 1), frac = v & (((uint64_t)1 << f.frac_bits) - 1);
  uint64_t sign = v >> (width - 1) << (width - 1), field = v >> f.frac_bits & ((1u << f.exp_bits) - 1);
  if (style == 1) field = middle - 3 + (r >> 40) % 6;                       // close together
  if (style == 2) field = (r >> 40) % 3;                                    // subnormals and the smallest
  if (style == 3 && field == (1u << f.exp_bits) - 1) field--;               // anything finite
  if (style == 4) field = (1u << f.exp_bits) - 2 - (r >> 40) % 4;           // large
  if ((r >> 50) % 9 == 0) field = frac = 0;
  v = sign | field << f.frac_bits | frac;
  return t == EMU_TF32 ? v << 13 | (r >> 20 & 0x1FFF) : v;
}
START_TEST(random_sums) {
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  for (size_t t = 0; t < count; t++)
    for (int gen = EMU_VOLTA; gen < EMU_GEN_COUNT; gen++)
      for (unsigned style = 0; style < 5; style++) {
        const emu_mma_desc *e = &table[t];
        bool fp8 = e->atype == EMU_E4M3 || e->atype == EMU_E5M2;
        if (!emu_type_is_float(e->atype) || e->atype == EMU_F64 || (!e->wmma && e->m == 8 && e->k == 4) || (fp8 && gen < EMU_ADA))
          continue;
        static uint64_t a[32 * 32], b[32 * 32], c[1024], d[1024];
        for (unsigned i = 0; i < e->m * e->k; i++) a[i] = random_element(e->atype, style);
        for (unsigned i = 0; i < e->k * e->n; i++) b[i] = random_element(e->btype, style);
        for (unsigned i = 0; i < e->m * e->n; i++) c[i] = random_element(e->ctype, style == 2 ? 1 + (rnd() & 1) : style);
        multiply(e, (emu_gen)gen, 0, style & 1, a, b, c, d);
        for (unsigned i = 0; i < e->m; i++)
          for (unsigned j = 0; j < e->n; j++) {
            uint64_t column[32];
            for (unsigned k = 0; k < e->k; k++) column[k] = b[k * e->n + j];
            uint64_t want = sum_oracle(e, (emu_gen)gen, a + i * e->k, column, c[i * e->n + j]);
            ck_assert_msg(d[i * e->n + j] == want, "%s m%un%uk%u %s.%s.%s gen %d style %u (%u,%u): %llx, expected %llx",
                          e->wmma ? "wmma" : "mma", e->m, e->n, e->k, emu_type_name(e->dtype), emu_type_name(e->atype),
                          emu_type_name(e->btype), gen, style, i, j, (unsigned long long)d[i * e->n + j],
                          (unsigned long long)want);
          }
      }
}
END_TEST

START_TEST(integer_saturation) {
  const emu_mma_desc *e = emu_mma_find(false, 16, 8, 32, EMU_S32, EMU_U8, EMU_S8, EMU_S32, EMU_MMA_MULADD);
  uint64_t a[512], b[256], c[128], d[128];
  for (int i = 0; i < 512; i++) a[i] = 255;
  for (int i = 0; i < 256; i++) b[i] = i & 1 ? 127 : 0x80;
  for (int i = 0; i < 128; i++) c[i] = i & 1 ? 0x7FFFFFFF : 0x80000000u;
  multiply(e, EMU_AMPERE, EMU_SATFINITE, false, a, b, c, d);
  for (int i = 0; i < 128; i++) ck_assert_uint_eq(d[i], i & 1 ? 0x7FFFFFFF : 0x80000000u);
  multiply(e, EMU_AMPERE, 0, true, a, b, c, d);
  for (int i = 0; i < 128; i++)
    ck_assert_uint_eq(d[i], i & 1 ? 0x7FFFFFFFu + 32 * 255 * 127 : (uint32_t)(0x80000000u - 32u * 255 * 128));
}
END_TEST

START_TEST(transposes) {
  uint32_t a[32], d[32];
  for (unsigned i = 0; i < 32; i++) a[i] = (2 * i) | (2 * i + 1) << 16;   // element (r, c) holds 8r + c
  emu_movmatrix_row(d, a);
  for (unsigned lane = 0; lane < 32; lane++)
    for (unsigned h = 0; h < 2; h++) {
      unsigned row = lane / 4, col = lane % 4 * 2 + h;
      ck_assert_uint_eq(d[lane] >> (16 * h) & 0xFFFF, 8 * col + row);
    }
  unsigned row, col;
  emu_ldmatrix_coord(false, 14, 1, &row, &col);
  ck_assert(row == 3 && col == 5);
  emu_ldmatrix_coord(true, 14, 1, &row, &col);
  ck_assert(row == 5 && col == 3);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("arith_mma");
  TCase *t = tcase_create("mma");
  tcase_add_test(t, golden_bits);
  tcase_add_test(t, plain_products);
  tcase_add_test(t, maps_cover);
  tcase_add_test(t, maps_of_the_isa);
  tcase_add_test(t, quad_pairs);
  tcase_add_test(t, fused_sums);
  tcase_add_test(t, random_sums);
  tcase_add_test(t, integer_saturation);
  tcase_add_test(t, transposes);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
