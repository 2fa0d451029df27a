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

enum { MAX_N = 32, MAX_ROW_BYTES = 64 };

// --- what a generation does ----------------------------------------------------------------------------------------------------
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

// --- decoding ------------------------------------------------------------------------------------------------------------------
static emu_decoding decoding_of(emu_type t) {
  switch (t) {
    case EMU_BF16: return (emu_decoding){8, 7, 127, false};
    case EMU_TF32: return (emu_decoding){8, 10, 127, false};
    case EMU_E4M3: return (emu_decoding){4, 3, 7, true};
    case EMU_E5M2: return (emu_decoding){5, 2, 15, false};
    case EMU_F32: return (emu_decoding){8, 23, 127, false};
    default: return (emu_decoding){5, 10, 15, false};
  }
}

// Element k of a packed row; a tf32 without its 13 low bits.
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

// A packed row as one word per element. as_half: fp8 through f16.
static void expand_row(bool avx2, emu_type t, bool as_half, unsigned k, const uint8_t *row, uint32_t *out) {
  if (t == EMU_F16 || t == EMU_BF16) {
    (avx2 ? emu_expand_avx2 : emu_expand_base)(k, row, out);
    return;
  }
  for (unsigned i = 0; i < k; i++) {
    out[i] = element_bits(t, row, i);
    if (as_half) out[i] = (uint32_t)soft_convert(soft_format_of(EMU_F16), soft_format_of(t), out[i], EMU_RN);
  }
}

// --- gathered operands ---------------------------------------------------------------------------------------------------------
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

// --- floating products ---------------------------------------------------------------------------------------------------------
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

// sum * 2^exp rounded into f16 to nearest even, or truncated to f32 with `bits` fraction bits.
static uint32_t round_sum(emu_type td, int bits, int64_t sum, int exp) {
  if (sum == 0) return 0;
  uint64_t m = sum < 0 ? (uint64_t)-sum : (uint64_t)sum;
  soft_num v = {SOFT_FINITE, sum < 0, exp, m};
  if (td == EMU_F16) return (uint32_t)soft_pack(soft_format_of(EMU_F16), v, EMU_RN);
  if (63 - __builtin_clzll(m) + exp > 127) return v.sign ? 0xFF800000u : 0x7F800000u;
  uint32_t r = (uint32_t)soft_pack(soft_format_of(EMU_F32), v, EMU_RZ);
  return r & ~((1u << (23 - bits)) - 1);
}

typedef struct float_job {
  const emu_mma_desc *desc;
  fused_rules rules;
  emu_type type_a, type_b;       // of the operands as they are summed (f16 for fp8 on Hopper)
  emu_fused_a *a;
  emu_fused_b *b;
} float_job;

static soft_num addend_of(emu_type t, uint32_t bits) { return soft_unpack(soft_format_of(t), bits, false); }
static int64_t aligned(int64_t sig, int distance) {
  if (distance > 62) return 0;
  return sig < 0 ? -(-sig >> distance) : sig >> distance;
}

// One element, chunk by chunk: what the vector code leaves out. row, column: packed A and B for infinities and NaNs.
static uint32_t product_element(const float_job *job, unsigned i, unsigned j, const uint8_t *row, const uint8_t *column,
                                uint32_t c) {
  const emu_mma_desc *d = job->desc;
  int F = job->rules.fraction;
  emu_type tc = d->ctype;
  for (unsigned begin = 0; begin < d->k; begin += (unsigned)job->rules.chunk) {
    unsigned end = begin + (unsigned)job->rules.chunk;
    if (!special_sum(d->atype, d->btype, tc, d->dtype, row, column, begin, end, c, &c)) {
      soft_num x = addend_of(tc, c);
      int c_frac = tc == EMU_F16 ? 10 : 23, c_exp = x.kind == SOFT_ZERO ? EMU_ZERO_EXPONENT : x.exp + c_frac, top = c_exp;
      for (unsigned k = begin; k < end; k++) {
        int e = job->a->exp[i * d->k + k] + job->b->exp[k * EMU_TILE_N + j];
        if (e > top) top = e;
      }
      int64_t sum = x.kind == SOFT_ZERO ? 0 : (int64_t)(uint64_t)x.sig;
      sum = F >= c_frac ? sum << (F - c_frac) : sum >> (c_frac - F);
      sum = aligned(x.sign ? -sum : sum, top - c_exp);
      for (unsigned k = begin; k < end; k++) {
        int e = job->a->exp[i * d->k + k] + job->b->exp[k * EMU_TILE_N + j];
        sum += aligned((int64_t)(int16_t)job->a->sig[i * d->k + k] * job->b->sig[k * EMU_TILE_N + j], top - e);
      }
      c = round_sum(d->dtype, job->rules.result_bits, sum, top - F);
    }
    tc = d->dtype;
  }
  return c;
}

static void product_float(const emu_mma_desc *d, emu_gen gen, const matrices *x, uint32_t (*result)[MAX_N]) {
  emu_fused_a a;
  emu_fused_b b;
  uint32_t words[EMU_MAX_M * EMU_MAX_K], odd[EMU_MAX_M];
  fused_rules rules = rules_of(gen, d->atype);
  bool half = rules.as_half, avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (rules.chunk > d->k) rules.chunk = d->k;
  float_job job = {d, rules, half ? EMU_F16 : d->atype, half ? EMU_F16 : d->btype, &a, &b};
  emu_decoding da = decoding_of(job.type_a), db = decoding_of(job.type_b);
  int left = rules.fraction - da.frac_bits - db.frac_bits;
  emu_decode_fn *decode = avx2 ? emu_decode_avx2 : emu_decode_base;
  for (unsigned i = 0; i < d->m; i++) expand_row(avx2, d->atype, half, d->k, x->a[i], words + i * d->k);
  bool special_a = decode(da, left / 2, 0xFFFF, d->m * d->k, words, a.sig, a.exp);
  emu_fused_shape shape = {d->m, d->k, rules.chunk, rules.fraction, rules.result_bits, d->ctype == EMU_F16, d->dtype == EMU_F16,
                           MAX_N};
  for (unsigned col = 0; col < d->n; col += EMU_TILE_N) {
    uint32_t column[EMU_MAX_K];
    for (unsigned j = 0; j < EMU_TILE_N; j++) {
      expand_row(avx2, d->btype, half, d->k, x->b[col + j], column);
      for (unsigned k = 0; k < d->k; k++) words[k * EMU_TILE_N + j] = column[k];
    }
    bool special = decode(db, left - left / 2, -1, d->k * EMU_TILE_N, words, b.sig, b.exp) || special_a;
    (avx2 ? emu_fused_avx2 : emu_fused_base)(&shape, &a, &b, &x->c[0][col], &result[0][col], odd);
    for (unsigned i = 0; i < d->m; i++)
      for (unsigned j = 0, lanes = special ? 0xFF : odd[i]; lanes; j++, lanes >>= 1)
        if (lanes & 1) result[i][col + j] = product_element(&job, i, j, x->a[i], x->b[col + j], x->c[i][col + j]);
  }
}

// --- integer and bit products --------------------------------------------------------------------------------------------------
static void expand_ints(bool avx2, emu_type t, unsigned k, const uint8_t *row, int16_t *out) {
  if (t == EMU_S8 || t == EMU_U8) {
    (avx2 ? emu_bytes_avx2 : emu_bytes_base)(t == EMU_S8, k, row, out);
    return;
  }
  for (unsigned i = 0; i < k; i++) {
    int v = (int)element_bits(t, row, i);
    out[i] = (int16_t)(t == EMU_S4 && v >= 8 ? v - 16 : v);
  }
}

static void product_int(const emu_mma_desc *d, uint32_t flags, const matrices *x, uint32_t (*result)[MAX_N]) {
  int16_t a[EMU_DOT_K], b[MAX_N][EMU_DOT_K];
  int32_t dot[MAX_N];                                              // each below 2^22
  bool avx2 = __builtin_cpu_supports("avx2");
  for (unsigned j = 0; j < d->n; j++) expand_ints(avx2, d->btype, d->k, x->b[j], b[j]);
  for (unsigned i = 0; i < d->m; i++) {
    expand_ints(avx2, d->atype, d->k, x->a[i], a);
    (avx2 ? emu_dots_avx2 : emu_dots_base)(d->n, d->k, a, b[0], dot);
    for (unsigned j = 0; j < d->n; j++) {
      int64_t sum = (int64_t)(int32_t)x->c[i][j] + dot[j];
      if (flags & EMU_SATFINITE) sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
      result[i][j] = (uint32_t)sum;
    }
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

// --- f64 -----------------------------------------------------------------------------------------------------------------------
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

static void product_f64(const emu_mma_desc *d, void *const *out, const void *const *a, const void *const *b,
                        const void *const *c) {
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

// --- m8n8k4 f16: four products -------------------------------------------------------------------------------------------------
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
