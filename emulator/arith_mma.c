// Matrix products of mma.sync and wmma.mma.
//
// Operands are gathered into packed matrices (A by rows, B by columns): the four lanes of a group hold 16 contiguous bytes, see
// arith_frag.c. Floating products then compute fused sums: all products and the addend are aligned to the largest exponent,
// truncated to F fraction bits, added exactly, and truncated (f32) or rounded to nearest even (f16) once. k is processed in
// chunks as the hardware of a generation does, the rounded result of one being the addend of the next. Elements with an infinity
// or NaN among their terms are decided apart, in double. f64 is a chain of IEEE fused multiply-adds, integers are exact.
#include <math.h>
#include <string.h>

#include "emulator/arith_mma.h"
#include "emulator/arith_mma_core.h"
#include "emulator/arith_soft.h"

enum { MAX_N = 32, MAX_ROW_BYTES = 64, ZERO_EXPONENT = -126, SPECIAL = INT32_MAX };

// --- what a generation does --------------------------------------------------------------------------------------------------------------
typedef struct fused_rules {
  int fraction;        // F
  int chunk;           // k of one fused sum
  int result_bits;     // fraction bits of an f32 result
  bool as_half;        // fp8 operands go through f16
} fused_rules;

static fused_rules rules_of(emu_gen gen, emu_type a) {
  static const int8_t fraction[EMU_GEN_COUNT] = {23, 24, 24, 24, 25, 25};
  bool late = gen >= EMU_HOPPER;
  fused_rules r = {fraction[gen], 0, 23, false};
  switch (a) {
    case EMU_TF32: r.chunk = late ? 8 : 4; break;
    case EMU_E4M3: case EMU_E5M2:
      r.chunk = gen == EMU_BLACKWELL ? 32 : 16;
      r.as_half = gen == EMU_HOPPER;              // its mma.sync has no fp8 unit: operands are converted to f16
      if (gen == EMU_ADA) {
        r.fraction = 13;
        r.result_bits = 13;
      }
      break;
    default: r.chunk = late ? 16 : gen == EMU_VOLTA ? 4 : 8; break;
  }
  return r;
}

// --- decoding ----------------------------------------------------------------------------------------------------------------------------
typedef struct decoding { int exp_bits, frac_bits, bias; bool no_inf; } decoding;
static decoding decoding_of(emu_type t) {
  switch (t) {
    case EMU_BF16: return (decoding){8, 7, 127, false};
    case EMU_TF32: return (decoding){8, 10, 127, false};
    case EMU_E4M3: return (decoding){4, 3, 7, true};
    case EMU_E5M2: return (decoding){5, 2, 15, false};
    case EMU_F32: return (decoding){8, 23, 127, false};
    default: return (decoding){5, 10, 15, false};
  }
}

// Bits (already without a tf32's 13 low ones) to a signed significand and exponent; returns whether it is infinite or NaN.
static inline bool decode(decoding f, uint32_t bits, int32_t *sig, int32_t *exp) {
  uint32_t frac = bits & ((1u << f.frac_bits) - 1), field = bits >> f.frac_bits & ((1u << f.exp_bits) - 1);
  uint32_t sign = bits >> (f.exp_bits + f.frac_bits) & 1, all = (1u << f.exp_bits) - 1;
  int32_t s = (int32_t)(field ? frac | 1u << f.frac_bits : frac);
  *exp = s == 0 ? ZERO_EXPONENT : (int32_t)(field ? field : 1) - f.bias;
  *sig = sign ? -s : s;
  return field == all && (!f.no_inf || frac == (1u << f.frac_bits) - 1);
}

static uint32_t element_bits(emu_type t, const uint8_t *row, unsigned k) {
  uint32_t w;
  uint16_t h;
  switch (emu_type_bits(t)) {
    case 32: memcpy(&w, row + 4 * k, 4); return t == EMU_TF32 ? w >> 13 : w;
    case 16: memcpy(&h, row + 2 * k, 2); return h;
    case 8: return row[k];
    case 4: return row[k / 2] >> (4 * (k & 1)) & 15;
    default: return row[k / 8] >> (k & 7) & 1;
  }
}

static inline __attribute__((always_inline)) bool decode_row_as(decoding f, emu_type t, unsigned k, const uint8_t *row, int32_t *sig,
                                                                int32_t *exp) {
  bool special = false;
  for (unsigned i = 0; i < k; i++) special |= decode(f, element_bits(t, row, i), &sig[i], &exp[i]);
  return special;
}
// k elements of a packed row; the usual types get their own copy of the loop.
static bool decode_row(emu_type t, bool as_half, unsigned k, const uint8_t *row, int32_t *sig, int32_t *exp) {
  if (as_half) {
    bool special = false;
    for (unsigned i = 0; i < k; i++) {
      uint32_t half = (uint32_t)soft_convert(soft_format_of(EMU_F16), soft_format_of(t), row[i], EMU_RN);
      special |= decode(decoding_of(EMU_F16), half, &sig[i], &exp[i]);
    }
    return special;
  }
  switch (t) {
    case EMU_F16: return decode_row_as((decoding){5, 10, 15, false}, EMU_F16, k, row, sig, exp);
    case EMU_BF16: return decode_row_as((decoding){8, 7, 127, false}, EMU_BF16, k, row, sig, exp);
    default: return decode_row_as(decoding_of(t), t, k, row, sig, exp);
  }
}

// --- gathered operands -------------------------------------------------------------------------------------------------------------------
typedef struct matrices {
  uint8_t a[EMU_MAX_M][MAX_ROW_BYTES];       // rows of A
  uint8_t b[MAX_N][MAX_ROW_BYTES];           // columns of B
  uint32_t c[EMU_MAX_M][MAX_N];              // f32 or s32 bits; f16 in the low half
} matrices;

// A register's 32 lanes are 8 runs of 16 bytes: rows g of A (columns of B) at byte `offset`.
static void gather_runs(uint8_t (*m)[MAX_ROW_BYTES], unsigned first_row, unsigned offset, const uint32_t *reg) {
  for (unsigned g = 0; g < 8; g++) memcpy(m[first_row + g] + offset, reg + 4 * g, 16);
}
static void gather(const emu_mma_desc *d, matrices *x, const void *const *a, const void *const *b, const void *const *c) {
  unsigned row_bytes = d->k * emu_type_bits(d->atype) / 8;
  unsigned down = d->m / 8, across = d->n / 8, along = row_bytes / 16;
  for (unsigned r = 0; r < down * along; r++) gather_runs(x->a, r % down * 8, r / down * 16, a[r]);
  for (unsigned r = 0; r < across * along; r++) gather_runs(x->b, r / along * 8, r % along * 16, b[r]);
  for (unsigned tile = 0; tile < down * across; tile++) {
    unsigned row = tile % down * 8, col = tile / down * 8;
    if (d->ctype == EMU_F16) {
      const uint32_t *reg = c[tile];
      for (unsigned lane = 0; lane < EMU_LANES; lane++) {
        x->c[row + lane / 4][col + lane % 4 * 2] = reg[lane] & 0xFFFF;
        x->c[row + lane / 4][col + lane % 4 * 2 + 1] = reg[lane] >> 16;
      }
    } else {
      const uint32_t *even = c[2 * tile], *odd = c[2 * tile + 1];
      for (unsigned lane = 0; lane < EMU_LANES; lane++) {
        x->c[row + lane / 4][col + lane % 4 * 2] = even[lane];
        x->c[row + lane / 4][col + lane % 4 * 2 + 1] = odd[lane];
      }
    }
  }
}
static void scatter(const emu_mma_desc *d, const uint32_t (*result)[MAX_N], void *const *out) {
  unsigned down = d->m / 8, across = d->n / 8;
  for (unsigned tile = 0; tile < down * across; tile++) {
    unsigned row = tile % down * 8, col = tile / down * 8;
    if (d->dtype == EMU_F16) {
      uint32_t *reg = out[tile];
      for (unsigned lane = 0; lane < EMU_LANES; lane++) {
        const uint32_t *p = &result[row + lane / 4][col + lane % 4 * 2];
        reg[lane] = p[0] | p[1] << 16;
      }
    } else {
      uint32_t *even = out[2 * tile], *odd = out[2 * tile + 1];
      for (unsigned lane = 0; lane < EMU_LANES; lane++) {
        const uint32_t *p = &result[row + lane / 4][col + lane % 4 * 2];
        even[lane] = p[0];
        odd[lane] = p[1];
      }
    }
  }
}

// --- floating products --------------------------------------------------------------------------------------------------------------------
static double value_of(emu_type t, uint32_t bits) {
  if (t == EMU_TF32) bits <<= 13;
  if (t != EMU_F32 && t != EMU_TF32) bits = (uint32_t)soft_convert(soft_format_of(EMU_F32), soft_format_of(t), bits, EMU_RN);
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

// The result where a term is infinite or NaN: Inf - Inf and every NaN give the canonical NaN. c: bits of type ctype.
static bool special_sum(emu_type ta, emu_type tb, emu_type tc, emu_type td, const uint8_t *a, const uint8_t *b, unsigned k_begin,
                        unsigned k_end, uint32_t c, uint32_t *result) {
  double sum = value_of(tc, c);
  for (unsigned k = k_begin; k < k_end; k++) sum += value_of(ta, element_bits(ta, a, k)) * value_of(tb, element_bits(tb, b, k));
  if (isfinite(sum)) return false;
  if (td == EMU_F16) *result = isnan(sum) ? 0x7FFF : sum < 0 ? 0xFC00 : 0x7C00;
  else *result = isnan(sum) ? 0x7FFFFFFFu : sum < 0 ? 0xFF800000u : 0x7F800000u;
  return true;
}

// |positive - negative| * 2^exp rounded into f16 to nearest even, or truncated to f32 with `bits` fraction bits.
static uint32_t round_sum(emu_type td, int bits, uint32_t positive, uint32_t negative, int exp) {
  uint32_t m = positive > negative ? positive - negative : negative - positive;
  if (m == 0) return 0;
  soft_num v = {SOFT_FINITE, negative > positive, exp, m};
  if (td == EMU_F16) return (uint32_t)soft_pack(soft_format_of(EMU_F16), v, EMU_RN);
  int top = 31 - __builtin_clz(m) + exp;
  if (top > 127) return v.sign ? 0xFF800000u : 0x7F800000u;
  uint32_t r = (uint32_t)soft_pack(soft_format_of(EMU_F32), v, EMU_RZ);
  return r & ~((1u << (23 - bits)) - 1);
}

typedef struct float_job {
  const emu_mma_desc *desc;
  fused_rules rules;
  bool avx2;
  bool special_a, special_b;
  emu_fused_a *a;
  const matrices *x;
} float_job;

// Columns col..col+7, all chunks of k.
static void product_columns(const float_job *job, const emu_fused_b *b, unsigned col, uint32_t (*result)[MAX_N]) {
  const emu_mma_desc *d = job->desc;
  int32_t c_sig[EMU_MAX_M][EMU_TILE_N], c_exp[EMU_MAX_M][EMU_TILE_N], exp[EMU_MAX_M][EMU_TILE_N];
  uint32_t positive[EMU_MAX_M][EMU_TILE_N], negative[EMU_MAX_M][EMU_TILE_N];
  emu_type ctype = d->ctype;
  decoding da = decoding_of(job->rules.as_half ? EMU_F16 : d->atype), db = decoding_of(job->rules.as_half ? EMU_F16 : d->btype);
  int F = job->rules.fraction;
  for (int begin = 0; begin < d->k; begin += job->rules.chunk) {
    int end = begin + job->rules.chunk < d->k ? begin + job->rules.chunk : d->k;
    decoding dc = ctype == EMU_F16 ? (decoding){5, 10, 15, false} : (decoding){8, 23, 127, false};
    bool special = job->special_a || job->special_b;
    for (unsigned i = 0; i < d->m; i++)
      for (unsigned j = 0; j < EMU_TILE_N; j++) special |= decode(dc, result[i][col + j], &c_sig[i][j], &c_exp[i][j]);
    emu_fused_shape shape = {d->m, begin, end, F - da.frac_bits - db.frac_bits, F - dc.frac_bits};
    (job->avx2 ? emu_fused_avx2 : emu_fused_base)(&shape, job->a, b, (const int32_t(*)[EMU_TILE_N])c_sig,
                                                  (const int32_t(*)[EMU_TILE_N])c_exp, positive, negative, exp);
    bool quick = d->dtype == EMU_F32 && job->rules.result_bits == 23;
    for (unsigned i = 0; i < d->m; i++) {
      uint32_t before[EMU_TILE_N], slow = UINT32_MAX;
      memcpy(before, &result[i][col], sizeof before);
      if (quick) slow = (job->avx2 ? emu_truncate_avx2 : emu_truncate_base)(F, positive[i], negative[i], exp[i], &result[i][col]);
      if (slow == 0 && !special) continue;
      for (unsigned j = 0; j < EMU_TILE_N; j++) {
        uint32_t *r = &result[i][col + j];
        if (special && special_sum(d->atype, d->btype, ctype, d->dtype, job->x->a[i], job->x->b[col + j], (unsigned)begin,
                                   (unsigned)end, before[j], r))
          continue;
        if (slow >> j & 1) *r = round_sum(d->dtype, job->rules.result_bits, positive[i][j], negative[i][j], exp[i][j] - F);
      }
    }
    ctype = d->dtype;
  }
}

static void product_float(const emu_mma_desc *d, emu_gen gen, const matrices *x, uint32_t (*result)[MAX_N]) {
  emu_fused_a a;
  emu_fused_b b;
  float_job job = {d, rules_of(gen, d->atype), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), false, false, &a, x};
  bool half = job.rules.as_half;
  for (unsigned i = 0; i < d->m; i++) job.special_a |= decode_row(d->atype, half, d->k, x->a[i], a.sig[i], a.exp[i]);
  for (unsigned col = 0; col < d->n; col += EMU_TILE_N) {
    int32_t sig[EMU_MAX_K], exp[EMU_MAX_K];
    job.special_b = false;
    for (unsigned j = 0; j < EMU_TILE_N; j++) {
      job.special_b |= decode_row(d->btype, half, d->k, x->b[col + j], sig, exp);
      for (unsigned k = 0; k < d->k; k++) {
        b.sig[k][j] = sig[k];
        b.exp[k][j] = exp[k];
      }
    }
    for (unsigned i = 0; i < d->m; i++) memcpy(&result[i][col], &x->c[i][col], EMU_TILE_N * sizeof(uint32_t));
    product_columns(&job, &b, col, result);
  }
}

// --- integer and bit products ---------------------------------------------------------------------------------------------------------------
static int32_t int_element(emu_type t, const uint8_t *row, unsigned k) {
  int32_t v = (int32_t)element_bits(t, row, k);
  if (t == EMU_S8) return (int8_t)v;
  if (t == EMU_S4) return v >= 8 ? v - 16 : v;
  return v;
}

static void product_int(const emu_mma_desc *d, uint32_t flags, const matrices *x, uint32_t (*result)[MAX_N]) {
  int16_t a[EMU_MAX_M][64], b[MAX_N][64];
  for (unsigned i = 0; i < d->m; i++)
    for (unsigned k = 0; k < d->k; k++) a[i][k] = (int16_t)int_element(d->atype, x->a[i], k);
  for (unsigned j = 0; j < d->n; j++)
    for (unsigned k = 0; k < d->k; k++) b[j][k] = (int16_t)int_element(d->btype, x->b[j], k);
  for (unsigned i = 0; i < d->m; i++)
    for (unsigned j = 0; j < d->n; j++) {
      int32_t dot = 0;                                             // below 2^22
      for (unsigned k = 0; k < d->k; k++) dot += a[i][k] * b[j][k];
      int64_t sum = (int64_t)(int32_t)x->c[i][j] + dot;
      if (flags & EMU_SATFINITE) sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
      result[i][j] = (uint32_t)sum;
    }
}

static void product_bits(const emu_mma_desc *d, const matrices *x, uint32_t (*result)[MAX_N]) {
  for (unsigned i = 0; i < d->m; i++)
    for (unsigned j = 0; j < d->n; j++) {
      uint32_t count = 0;
      for (unsigned k = 0; k < d->k / 8u; k += 8) {
        uint64_t u, v;
        memcpy(&u, x->a[i] + k, 8);
        memcpy(&v, x->b[j] + k, 8);
        count += (uint32_t)__builtin_popcountll(d->op == EMU_MMA_XOR_POPC ? u ^ v : u & v);
      }
      result[i][j] = x->c[i][j] + count;
    }
}

// --- f64 --------------------------------------------------------------------------------------------------------------------------------------
static uint64_t fma_bits(uint64_t a, uint64_t b, uint64_t c) {
  double x, y, z, r;
  memcpy(&x, &a, 8);
  memcpy(&y, &b, 8);
  memcpy(&z, &c, 8);
  r = fma(x, y, z);
  if (r != r) return emu_f64_fma(a, b, c, EMU_RN);
  memcpy(&c, &r, 8);
  return c;
}

static void product_f64(const emu_mma_desc *d, void *const *out, const void *const *a, const void *const *b, const void *const *c) {
  uint64_t A[16][16], B[16][EMU_TILE_N], C[16][EMU_TILE_N];
  unsigned row, col;
  for (unsigned lane = 0; lane < EMU_LANES; lane++) {
    for (unsigned r = 0; r < emu_mma_registers(d, EMU_FRAG_A, EMU_F64); r++) {
      emu_frag_coord(d, EMU_FRAG_A, EMU_F64, lane, r, 0, &row, &col);
      A[row][col] = ((const uint64_t *)a[r])[lane];
    }
    for (unsigned r = 0; r < emu_mma_registers(d, EMU_FRAG_B, EMU_F64); r++) {
      emu_frag_coord(d, EMU_FRAG_B, EMU_F64, lane, r, 0, &row, &col);
      B[row][col] = ((const uint64_t *)b[r])[lane];
    }
    for (unsigned r = 0; r < emu_mma_registers(d, EMU_FRAG_C, EMU_F64); r++) {
      emu_frag_coord(d, EMU_FRAG_C, EMU_F64, lane, r, 0, &row, &col);
      C[row][col] = ((const uint64_t *)c[r])[lane];
    }
  }
  for (unsigned i = 0; i < d->m; i++)
    for (unsigned j = 0; j < d->n; j++)
      for (unsigned k = 0; k < d->k; k++) C[i][j] = fma_bits(A[i][k], B[k][j], C[i][j]);
  for (unsigned lane = 0; lane < EMU_LANES; lane++)
    for (unsigned r = 0; r < emu_mma_registers(d, EMU_FRAG_C, EMU_F64); r++) {
      emu_frag_coord(d, EMU_FRAG_C, EMU_F64, lane, r, 0, &row, &col);
      ((uint64_t *)out[r])[lane] = C[row][col];
    }
}

// --- m8n8k4 f16: four products ------------------------------------------------------------------------------------------------------------------
static uint32_t packed_half(const void *const *regs, unsigned lane, unsigned i) {
  return ((const uint32_t *)regs[i / 2])[lane] >> (16 * (i & 1)) & 0xFFFF;
}

static void product_quad_pairs(const emu_mma_desc *d, emu_gen gen, emu_layout la, emu_layout lb, void *const *out,
                               const void *const *a, const void *const *b, const void *const *c) {
  matrices x[4];
  uint32_t result[4][EMU_MAX_M][MAX_N];
  unsigned row, col;
  for (unsigned lane = 0; lane < EMU_LANES; lane++) {
    for (unsigned i = 0; i < 4; i++) {
      uint16_t h = (uint16_t)packed_half(a, lane, i);
      emu_quad_pair_coord(EMU_FRAG_A, la, false, lane, i, &row, &col);
      memcpy(x[row / 8].a[row % 8] + 2 * col, &h, 2);
      h = (uint16_t)packed_half(b, lane, i);
      emu_quad_pair_coord(EMU_FRAG_B, lb, false, lane, i, &row, &col);
      memcpy(x[col / 8].b[col % 8] + 2 * row, &h, 2);
    }
    for (unsigned i = 0; i < 8; i++) {
      bool wide = d->ctype == EMU_F32;
      emu_quad_pair_coord(EMU_FRAG_C, EMU_ROW, wide, lane, i, &row, &col);
      x[row / 8].c[row % 8][col] = wide ? ((const uint32_t *)c[i])[lane] : packed_half(c, lane, i);
    }
  }
  for (unsigned p = 0; p < 4; p++) product_float(d, gen, &x[p], result[p]);
  bool wide = d->dtype == EMU_F32;
  for (unsigned lane = 0; lane < EMU_LANES; lane++)
    for (unsigned i = 0; i < 8; i++) {
      emu_quad_pair_coord(EMU_FRAG_C, EMU_ROW, wide, lane, i, &row, &col);
      uint32_t v = result[row / 8][row % 8][col], *reg = out[wide ? i : i / 2];
      if (wide) reg[lane] = v;
      else reg[lane] = i & 1 ? (reg[lane] & 0xFFFF) | v << 16 : v;
    }
}

void emu_mma(const emu_mma_desc *d, emu_gen gen, uint32_t flags, emu_layout la, emu_layout lb, void *const *out,
             const void *const *a, const void *const *b, const void *const *c) {
  if (d->atype == EMU_F64) {
    product_f64(d, out, a, b, c);
    return;
  }
  if (!d->wmma && d->m == 8 && d->k == 4) {
    product_quad_pairs(d, gen, la, lb, out, a, b, c);
    return;
  }
  matrices x;
  uint32_t result[EMU_MAX_M][MAX_N];
  gather(d, &x, a, b, c);
  if (d->op != EMU_MMA_MULADD) product_bits(d, &x, result);
  else if (d->dtype == EMU_S32) product_int(d, flags, &x, result);
  else product_float(d, gen, &x, result);
  scatter(d, (const uint32_t(*)[MAX_N])result, out);
}
