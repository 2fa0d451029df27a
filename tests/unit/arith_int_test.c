// Integer, bit, carry and warp-wide operations against oracles over 128-bit integers and bit-by-bit definitions.
#include <stdio.h>
#include <stdlib.h>

#include "arith_oracle_int.h"
#include "emulator/arith_rows.h"

static uint64_t state = 0x13198A2E03707344u;
static uint64_t rnd64(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const int_type types[] = {{EMU_U16, 16, false}, {EMU_S16, 16, true}, {EMU_U32, 32, false},
                                 {EMU_S32, 32, true}, {EMU_U64, 64, false}, {EMU_S64, 64, true}};
static uint64_t pattern(void) {
  static const uint64_t edges[] = {0,
                                   1,
                                   2,
                                   0x7F,
                                   0x80,
                                   0xFF,
                                   0x7FFF,
                                   0x8000,
                                   0xFFFF,
                                   0x7FFFFFFF,
                                   0x80000000,
                                   0xFFFFFFFF,
                                   0x100000000,
                                   0x7FFFFFFFFFFFFFFF,
                                   0x8000000000000000,
                                   0xFFFFFFFFFFFFFFFF,
                                   0xFFFFFFFF80000000};
  uint64_t r = rnd64(), v = rnd64();
  if ((r & 3) == 0) return edges[(r >> 8) % COUNT(edges)];
  return r & 4 ? v >> (r >> 32 & 63) : v;
}

// One operation over rows of random patterns at both levels: want(x, y, z) on 64-bit sources gives the expected bits.
typedef struct widths { unsigned source[4], result; } widths;   // bits of each source and of the result row
static void check(emu_op op, int_type t, uint32_t mode, widths w, bool small_last, int_oracle *want) {
  for (int n = 0; n < 60; n++) {
    uint64_t rows[4][32], d64[32];
    uint32_t words[4][32], d32[32];
    for (int k = 0; k < 4; k++)
      for (int i = 0; i < 32; i++) {
        rows[k][i] = pattern();
        if (small_last && k >= 1) rows[k][i] = n & 1 ? rnd64() % 70 : pattern();
        words[k][i] = (uint32_t)rows[k][i];
      }
    const void *s[4];
    for (int k = 0; k < 4; k++) s[k] = w.source[k] == 64 ? (const void *)rows[k] : words[k];
    for (int level = 0; level < 2; level++) {
      if (level && !__builtin_cpu_supports("avx2")) continue;
      emu_row_fn *fn = emu_row_at(level, op, t.t, EMU_NOTYPE, mode);
      ck_assert_msg(fn, "no %s.%s mode %x", emu_op_name(op), emu_type_name(t.t), mode);
      memset(d64, 0xA5, sizeof d64);
      memset(d32, 0xA5, sizeof d32);
      fn(w.result == 64 ? (void *)d64 : d32, s, mode);
      for (int i = 0; i < 32; i++) {
        uint64_t x[4], got = w.result == 64 ? d64[i] : d32[i];
        for (int k = 0; k < 4; k++) x[k] = w.source[k] == 64 ? rows[k][i] : words[k][i];
        uint64_t expected = want(x[0], x[1], x[2], x[3], t, mode);
        ck_assert_msg(got == expected, "%s.%s mode %x level %d (%llx, %llx, %llx, %llx): %llx, expected %llx", emu_op_name(op),
                      emu_type_name(t.t), mode, level, (unsigned long long)x[0], (unsigned long long)x[1],
                      (unsigned long long)x[2], (unsigned long long)x[3], (unsigned long long)got, (unsigned long long)expected);
      }
    }
  }
}
static widths all(unsigned bits) {
  unsigned w = bits == 64 ? 64 : 32;
  return (widths){{w, w, w, w}, w};
}

START_TEST(arithmetic) {
  for (size_t k = 0; k < COUNT(types); k++) {
    int_type t = types[k];
    widths w = all(t.bits), shift = w;
    shift.source[1] = 32;
    check(EMU_OP_ADD, t, 0, w, false, o_add);
    check(EMU_OP_SUB, t, 0, w, false, o_sub);
    check(EMU_OP_MIN, t, 0, w, false, o_min);
    check(EMU_OP_MAX, t, 0, w, false, o_max);
    check(EMU_OP_MUL, t, 0, w, false, o_mul);
    check(EMU_OP_MAD, t, 0, w, false, o_mad);
    check(EMU_OP_MUL, t, EMU_HI, w, false, o_mul_hi);
    check(EMU_OP_MAD, t, EMU_HI, w, false, o_mad_hi);
    check(EMU_OP_SAD, t, 0, w, false, o_sad);
    check(EMU_OP_DIV, t, 0, w, false, o_div);
    check(EMU_OP_REM, t, 0, w, false, o_rem);
    check(EMU_OP_SHR, t, 0, shift, true, o_shr);
    if (t.is_signed) {
      check(EMU_OP_ABS, t, 0, w, false, o_abs);
      check(EMU_OP_NEG, t, 0, w, false, o_neg);
    }
    if (t.bits < 64) {
      widths doubled = w;
      doubled.result = doubled.source[2] = t.bits == 32 ? 64 : 32;
      check(EMU_OP_MUL, t, EMU_WIDE, doubled, false, o_mul_wide);
      check(EMU_OP_MAD, t, EMU_WIDE, doubled, false, o_mad_wide);
    }
  }
}
END_TEST

START_TEST(saturation_and_24_bits) {
  int_type u32 = types[2], s32 = types[3];
  check(EMU_OP_ADD, s32, EMU_SAT, all(32), false, o_add_sat);
  check(EMU_OP_SUB, s32, EMU_SAT, all(32), false, o_sub_sat);
  check(EMU_OP_MAD, s32, EMU_HI | EMU_SAT, all(32), false, o_mad_hi_sat);
  check(EMU_OP_MIN, s32, EMU_RELU, all(32), false, o_min_relu);
  check(EMU_OP_MAX, s32, EMU_RELU, all(32), false, o_max_relu);
  for (uint32_t hi = 0; hi <= EMU_HI; hi += EMU_HI) {
    check(EMU_OP_MUL24, u32, hi, all(32), false, o_mul24);
    check(EMU_OP_MUL24, s32, hi, all(32), false, o_mul24);
    check(EMU_OP_MAD24, u32, hi, all(32), false, o_mad24);
    check(EMU_OP_MAD24, s32, hi, all(32), false, o_mad24);
  }
  check(EMU_OP_MAD24, s32, EMU_HI | EMU_SAT, all(32), false, o_mad24_sat);
}
END_TEST

// --- bits ----------------------------------------------------------------------------------------------------------------------
START_TEST(bits) {
  static const emu_type names[] = {EMU_B16, EMU_B32, EMU_B64};
  for (int k = 0; k < 3; k++) {
    int_type t = {names[k], 16u << k, false};
    widths w = all(t.bits), shift = w;
    shift.source[1] = 32;
    check(EMU_OP_AND, t, 0, w, false, o_and);
    check(EMU_OP_OR, t, 0, w, false, o_or);
    check(EMU_OP_XOR, t, 0, w, false, o_xor);
    check(EMU_OP_NOT, t, 0, w, false, o_not);
    check(EMU_OP_CNOT, t, 0, w, false, o_cnot);
    check(EMU_OP_SHL, t, 0, shift, true, o_shl);
    check(EMU_OP_SHR, t, 0, shift, true, o_shr);
    if (t.bits == 16) continue;
    widths to_word = w, insert = w;
    to_word.result = 32;
    insert.source[2] = insert.source[3] = 32;
    check(EMU_OP_POPC, t, 0, to_word, false, o_popc);
    check(EMU_OP_CLZ, t, 0, to_word, false, o_clz);
    check(EMU_OP_BREV, t, 0, w, false, o_brev);
    check(EMU_OP_BFI, t, 0, insert, false, o_bfi);
    check(EMU_OP_BFI, t, 0, insert, true, o_bfi);
  }
  for (size_t k = 2; k < COUNT(types); k++) {
    widths w = all(types[k].bits), to_word = w, fields = w;
    to_word.result = 32;
    fields.source[1] = fields.source[2] = 32;
    check(EMU_OP_BFIND, types[k], 0, to_word, false, o_bfind);
    check(EMU_OP_BFIND, types[k], EMU_SHIFTAMT, to_word, false, o_bfind);
    check(EMU_OP_BFE, types[k], 0, fields, true, o_bfe);
    check(EMU_OP_BFE, types[k], 0, fields, false, o_bfe);
  }
  int_type b32 = {EMU_B32, 32, false};
  check(EMU_OP_FNS, b32, 0, all(32), true, o_fns);
  check(EMU_OP_FNS, b32, 0, all(32), false, o_fns);
  for (uint32_t wrap = 0; wrap <= EMU_WRAP; wrap += EMU_WRAP) {
    check(EMU_OP_SZEXT, types[2], wrap, all(32), true, o_szext);
    check(EMU_OP_SZEXT, types[3], wrap, all(32), true, o_szext);
    check(EMU_OP_BMSK, b32, wrap, all(32), true, o_bmsk);
    check(EMU_OP_SHF, b32, wrap, all(32), true, o_shf);
    check(EMU_OP_SHF, b32, wrap | EMU_LEFT, all(32), true, o_shf);
  }
  for (uint32_t table = 0; table < 256; table++) check(EMU_OP_LOP3, b32, table << EMU_IMM_SHIFT, all(32), false, o_lop3);
  for (uint32_t m = 0; m <= EMU_PRMT_RC16; m++) check(EMU_OP_PRMT, b32, m << EMU_IMM_SHIFT, all(32), false, o_prmt);
}
END_TEST

START_TEST(dot_products_and_pairs) {
  int_type u32 = types[2];
  for (int k = 0; k < 8; k++) {
    uint32_t mode = (k & 1 ? EMU_A_SIGNED : 0) | (k & 2 ? EMU_B_SIGNED : 0);
    if (k < 4) check(EMU_OP_DP4A, u32, mode, all(32), false, o_dp4a);
    check(EMU_OP_DP2A, u32, mode | (k & 4 ? EMU_HI : 0), all(32), false, o_dp2a);
  }
  for (int s = 0; s < 2; s++) {
    int_type t = {s ? EMU_S16X2 : EMU_U16X2, 32, s};
    check(EMU_OP_ADD, t, 0, all(32), false, o_add_x2);
    check(EMU_OP_SUB, t, 0, all(32), false, o_sub_x2);
    check(EMU_OP_MIN, t, 0, all(32), false, o_min_x2);
    check(EMU_OP_MAX, t, 0, all(32), false, o_max_x2);
    if (!s) continue;
    check(EMU_OP_MIN, t, EMU_RELU, all(32), false, o_min_relu_x2);
    check(EMU_OP_MAX, t, EMU_RELU, all(32), false, o_max_relu_x2);
  }
}
END_TEST

START_TEST(selection) {
  uint32_t a[32], b[32], c[32], d[32];
  uint64_t u[32], v[32], w[32];
  for (int n = 0; n < 100; n++) {
    for (int i = 0; i < 32; i++) {
      a[i] = (uint32_t)rnd64();
      b[i] = (uint32_t)rnd64();
      c[i] = n & 1 ? (uint32_t)pattern()
                   : (uint32_t[]){0, 0x80000000, 1, 0x80000001, 0x7FC00000, 0xFF800000, 0x7F800000}[rnd64() % 7];
      u[i] = rnd64();
      v[i] = rnd64();
    }
    const void *s[4] = {a, b, c, NULL}, *s64[4] = {u, v, c, NULL};
    emu_row(EMU_OP_SLCT, EMU_B32, EMU_S32, 0)(d, s, 0);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], (int32_t)c[i] >= 0 ? a[i] : b[i]);
    emu_row(EMU_OP_SLCT, EMU_F32, EMU_F32, 0)(d, s, 0);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], as_f32(c[i]) >= 0 ? a[i] : b[i]);
    emu_row(EMU_OP_SLCT, EMU_U64, EMU_F32, EMU_FTZ)(w, s64, EMU_FTZ);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(w[i], as_f32(c[i]) > -0x1p-126f ? u[i] : v[i]);
    uint32_t mask = (uint32_t)rnd64();
    emu_select_row(false, d, a, b, mask);
    emu_select_row(true, w, u, v, mask);
    for (int i = 0; i < 32; i++) {
      ck_assert_uint_eq(d[i], mask >> i & 1 ? a[i] : b[i]);
      ck_assert_uint_eq(w[i], mask >> i & 1 ? u[i] : v[i]);
    }
    emu_set_row(EMU_F16X2, d, mask, ~mask);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], mask >> i & 1 ? 0x3C00 : 0x3C000000);
    emu_set_row(EMU_S32, d, mask, 0);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], mask >> i & 1 ? 0xFFFFFFFF : 0);
    emu_set_row(EMU_F32, d, mask, 0);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], mask >> i & 1 ? 0x3F800000 : 0);
    emu_row(EMU_OP_COPYSIGN, EMU_F32, EMU_NOTYPE, 0)(d, s, 0);
    for (int i = 0; i < 32; i++) ck_assert_uint_eq(d[i], (b[i] & 0x7FFFFFFF) | (a[i] & 0x80000000));
  }
}
END_TEST

// 192-bit additions, subtractions and multiply-adds through carry chains, against plain big integers.
START_TEST(carry_chains) {
  for (int wide_rows = 0; wide_rows < 2; wide_rows++)
    for (int n = 0; n < 200; n++) {
      uint64_t a[3][32], b[3][32], d[3][32];
      uint32_t na[3][32], nb[3][32], nd[3][32];
      for (int k = 0; k < 3; k++)
        for (int i = 0; i < 32; i++) {
          a[k][i] = pattern();
          b[k][i] = rnd64() & 3 ? pattern() : ~a[k][i];
          na[k][i] = (uint32_t)a[k][i];
          nb[k][i] = (uint32_t)b[k][i];
        }
      for (int sub = 0; sub < 2; sub++) {
        uint32_t carry = (uint32_t)rnd64();
        for (int k = 0; k < 3; k++) {
          emu_cc cc = {k > 0, true};
          void *r = wide_rows ? (void *)d[k] : nd[k];
          const void *x = wide_rows ? (const void *)a[k] : na[k], *y = wide_rows ? (const void *)b[k] : nb[k];
          (sub ? emu_sub_cc_row : emu_add_cc_row)(wide_rows, r, x, y, cc, &carry);
        }
        for (int i = 0; i < 32; i++) {
          int c = 0;
          for (int k = 0; k < 3; k++) {
            wide x = wide_rows ? (wide)a[k][i] : na[k][i], y = wide_rows ? (wide)b[k][i] : nb[k][i];
            wide s = sub ? x - y - c : x + y + c, base = (wide)1 << (wide_rows ? 64 : 32);
            c = s < 0 || s >= base;
            ck_assert_uint_eq(wide_rows ? d[k][i] : nd[k][i], cut(s, wide_rows ? 64 : 32));
          }
          ck_assert_uint_eq(carry >> i & 1, c);
        }
      }
      uint32_t carry = (uint32_t)rnd64(), before = carry;
      for (size_t k = 2; k < COUNT(types); k++)
        for (int hi = 0; hi < 2; hi++) {
          int_type t = types[k];
          if ((t.bits == 64) != wide_rows) continue;
          carry = before;
          const void *x = wide_rows ? (const void *)a[0] : na[0], *y = wide_rows ? (const void *)b[0] : nb[0];
          const void *z = wide_rows ? (const void *)a[1] : na[1];
          emu_mad_cc_row(t.t, hi, wide_rows ? (void *)d[0] : nd[0], x, y, z, (emu_cc){true, true}, &carry);
          for (int i = 0; i < 32; i++) {
            uint64_t p = hi ? high_product(cut((wide)a[0][i], t.bits), cut((wide)b[0][i], t.bits), t)
                            : cut((wide)low_product(a[0][i], b[0][i], t), t.bits);
            unsigned __int128 s = (unsigned __int128)p + cut((wide)a[1][i], t.bits) + (before >> i & 1);
            ck_assert_uint_eq(wide_rows ? d[0][i] : nd[0][i], cut((wide)s, t.bits));
            ck_assert_uint_eq(carry >> i & 1, (uint32_t)(s >> t.bits));
          }
        }
    }
}
END_TEST

// shfl by the ISA's pseudo code; match and redux by definition.
START_TEST(warp_wide) {
  for (int n = 0; n < 4000; n++) {
    uint32_t b = (uint32_t)rnd64() & 63, c = (uint32_t)rnd64() & 0x1F1F;
    for (unsigned lane = 0; lane < 32; lane++)
      for (int kind = 0; kind < 4; kind++) {
        int bval = b & 31, cval = c & 31, mask = c >> 8 & 31, l = (int)lane, j = 0;
        int max_lane = (l & mask) | (cval & ~mask), min_lane = l & mask;
        bool p = false;
        if (kind == EMU_SHFL_UP) { j = l - bval; p = j >= max_lane; }
        if (kind == EMU_SHFL_DOWN) { j = l + bval; p = j <= max_lane; }
        if (kind == EMU_SHFL_BFLY) { j = l ^ bval; p = j <= max_lane; }
        if (kind == EMU_SHFL_IDX) { j = min_lane | (bval & ~mask); p = j <= max_lane; }
        bool ok;
        unsigned source = emu_shfl_source((emu_shfl)kind, lane, b, c, &ok);
        ck_assert_int_eq(ok, p);
        ck_assert_int_eq(source, p ? j : l);
      }
    uint32_t a[32], members = n % 5 ? (uint32_t)rnd64() : 0xFFFFFFFF, any[3] = {0, 0, 0};
    if (!members) continue;
    for (int i = 0; i < 32; i++) a[i] = (uint32_t)pattern() & (n & 1 ? 3 : 0xFFFFFFFF);
    unsigned lane = (unsigned)__builtin_ctz(members);
    for (int i = 0; i < 32; i++)
      if ((members >> i & 1) && a[i] == a[lane]) any[0] |= 1u << i;
    ck_assert_uint_eq(emu_match_any(a, false, members, lane), any[0]);
    bool all_same;
    ck_assert_uint_eq(emu_match_all(a, false, members, &all_same), any[0] == members ? members : 0);
    ck_assert_int_eq(all_same, any[0] == members);
    uint32_t sum = 0, and = 0xFFFFFFFF, or = 0, xor = 0, umin = 0xFFFFFFFF, umax = 0;
    int32_t smin = INT32_MAX, smax = INT32_MIN;
    for (int i = 0; i < 32; i++) {
      if (!(members >> i & 1)) continue;
      sum += a[i];
      and &= a[i];
      or |= a[i];
      xor ^= a[i];
      if (a[i] < umin) umin = a[i];
      if (a[i] > umax) umax = a[i];
      if ((int32_t)a[i] < smin) smin = (int32_t)a[i];
      if ((int32_t)a[i] > smax) smax = (int32_t)a[i];
    }
    ck_assert_uint_eq(emu_redux(EMU_OP_ADD, EMU_S32, 0, a, members), sum);
    ck_assert_uint_eq(emu_redux(EMU_OP_AND, EMU_B32, 0, a, members), and);
    ck_assert_uint_eq(emu_redux(EMU_OP_OR, EMU_B32, 0, a, members), or);
    ck_assert_uint_eq(emu_redux(EMU_OP_XOR, EMU_B32, 0, a, members), xor);
    ck_assert_uint_eq(emu_redux(EMU_OP_MIN, EMU_U32, 0, a, members), umin);
    ck_assert_uint_eq(emu_redux(EMU_OP_MAX, EMU_U32, 0, a, members), umax);
    ck_assert_uint_eq(emu_redux(EMU_OP_MIN, EMU_S32, 0, a, members), (uint32_t)smin);
    ck_assert_uint_eq(emu_redux(EMU_OP_MAX, EMU_S32, 0, a, members), (uint32_t)smax);
  }
}
END_TEST

START_TEST(testp) {
  uint32_t a[32] = {0,          0x80000000, 1,          0x007FFFFF, 0x00800000, 0x3F800000,
                    0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000};
  for (int i = 0; i < 32; i++) {
    int c = fpclassify(as_f32(a[i]));
    ck_assert_int_eq(emu_testp_row(EMU_FINITE, EMU_F32, a) >> i & 1, c == FP_ZERO || c == FP_SUBNORMAL || c == FP_NORMAL);
    ck_assert_int_eq(emu_testp_row(EMU_INFINITE, EMU_F32, a) >> i & 1, c == FP_INFINITE);
    ck_assert_int_eq(emu_testp_row(EMU_NUMBER, EMU_F32, a) >> i & 1, c != FP_NAN);
    ck_assert_int_eq(emu_testp_row(EMU_NOTANUMBER, EMU_F32, a) >> i & 1, c == FP_NAN);
    ck_assert_int_eq(emu_testp_row(EMU_NORMAL, EMU_F32, a) >> i & 1, c == FP_NORMAL || c == FP_ZERO);
    ck_assert_int_eq(emu_testp_row(EMU_SUBNORMAL, EMU_F32, a) >> i & 1, c == FP_SUBNORMAL);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("arith_int");
  TCase *t = tcase_create("int");
  tcase_add_test(t, arithmetic);
  tcase_add_test(t, saturation_and_24_bits);
  tcase_add_test(t, bits);
  tcase_add_test(t, dot_products_and_pairs);
  tcase_add_test(t, selection);
  tcase_add_test(t, carry_chains);
  tcase_add_test(t, warp_wide);
  tcase_add_test(t, testp);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
