// Conformance rows of the integer, bit, carry and warp-wide instructions.
#include "emu_conformance.h"

static const int_type types[] = {{EMU_U16, 16, false}, {EMU_S16, 16, true}, {EMU_U32, 32, false},
                                 {EMU_S32, 32, true}, {EMU_U64, 64, false}, {EMU_S64, 64, true}};
static const char *const names[] = {"u16", "s16", "u32", "s32", "u64", "s64"};

static uint64_t want_int(const uint64_t x[4], const spec *s) { return s->integer(x[0], x[1], x[2], x[3], s->t, s->mode); }
static spec *int_spec(spec_list *list, const char *start, const char *type, int_type t, unsigned sources, uint32_t mode,
                      int_oracle *oracle) {
  spec *s = spec_add(list, 80, "%s%s%s", start, *type ? "." : "", type);
  spec_sources(s, t.bits, sources, t.bits, D_BITS);
  s->t = t;
  s->mode = mode;
  s->integer = oracle;
  s->want = want_int;
  return s;
}

static bool judge_division(const uint64_t x[4], uint64_t got, const spec *s) {   // by zero: PTX leaves the result open
  return value(x[1], s->t) == 0 || got == want_int(x, s);
}
static void arithmetic(spec_list *list) {
  for (size_t k = 0; k < 6; k++) {
    int_type t = types[k];
    const char *n = names[k];
    int_spec(list, "add", n, t, 2, 0, o_add);
    int_spec(list, "sub", n, t, 2, 0, o_sub);
    int_spec(list, "min", n, t, 2, 0, o_min);
    int_spec(list, "max", n, t, 2, 0, o_max);
    int_spec(list, "mul.lo", n, t, 2, 0, o_mul);
    int_spec(list, "mad.lo", n, t, 3, 0, o_mad);
    int_spec(list, "mul.hi", n, t, 2, EMU_HI, o_mul_hi);
    int_spec(list, "mad.hi", n, t, 3, EMU_HI, o_mad_hi);
    int_spec(list, "sad", n, t, 3, 0, o_sad);
    int_spec(list, "div", n, t, 2, 0, o_div)->judge = judge_division;
    int_spec(list, "rem", n, t, 2, 0, o_rem)->judge = judge_division;
    spec *s = int_spec(list, "shr", n, t, 2, 0, o_shr);
    s->width[1] = 32;
    s->data[1] = D_SMALL;
    if (t.is_signed) {
      int_spec(list, "abs", n, t, 1, 0, o_abs);
      int_spec(list, "neg", n, t, 1, 0, o_neg);
    }
    if (t.bits == 64) continue;
    s = int_spec(list, "mul.wide", n, t, 2, EMU_WIDE, o_mul_wide);
    s->result = (uint8_t)(2 * t.bits);
    s = int_spec(list, "mad.wide", n, t, 3, EMU_WIDE, o_mad_wide);
    s->result = s->width[2] = (uint8_t)(2 * t.bits);
  }
  int_type u32 = types[2], s32 = types[3];
  int_spec(list, "add.sat", "s32", s32, 2, 0, o_add_sat);
  int_spec(list, "sub.sat", "s32", s32, 2, 0, o_sub_sat);
  int_spec(list, "mad.hi.sat", "s32", s32, 3, 0, o_mad_hi_sat);
  int_spec(list, "min.relu", "s32", s32, 2, 0, o_min_relu)->target = 90;
  int_spec(list, "max.relu", "s32", s32, 2, 0, o_max_relu)->target = 90;
  int_spec(list, "mul24.lo", "u32", u32, 2, 0, o_mul24);
  int_spec(list, "mul24.lo", "s32", s32, 2, 0, o_mul24);
  int_spec(list, "mul24.hi", "u32", u32, 2, EMU_HI, o_mul24);
  int_spec(list, "mul24.hi", "s32", s32, 2, EMU_HI, o_mul24);
  int_spec(list, "mad24.lo", "u32", u32, 3, 0, o_mad24);
  int_spec(list, "mad24.lo", "s32", s32, 3, 0, o_mad24);
  int_spec(list, "mad24.hi", "u32", u32, 3, EMU_HI, o_mad24);
  int_spec(list, "mad24.hi", "s32", s32, 3, EMU_HI, o_mad24);
  int_spec(list, "mad24.hi.sat", "s32", s32, 3, EMU_HI, o_mad24_sat);
  for (int s = 0; s < 2; s++) {
    int_type t = {s ? EMU_S16X2 : EMU_U16X2, 32, s};
    const char *n = s ? "s16x2" : "u16x2";
    int_spec(list, "add", n, t, 2, 0, o_add_x2)->target = 90;
    int_spec(list, "min", n, t, 2, 0, o_min_x2)->target = 90;
    int_spec(list, "max", n, t, 2, 0, o_max_x2)->target = 90;
    if (!s) continue;
    int_spec(list, "min.relu", n, t, 2, 0, o_min_relu_x2)->target = 90;
    int_spec(list, "max.relu", n, t, 2, 0, o_max_relu_x2)->target = 90;
  }
  for (int k = 0; k < 4; k++) {
    uint32_t mode = (k & 1 ? EMU_A_SIGNED : 0) | (k & 2 ? EMU_B_SIGNED : 0);
    char pair[16];
    snprintf(pair, sizeof pair, "%s.%s", k & 1 ? "s32" : "u32", k & 2 ? "s32" : "u32");
    int_spec(list, "dp4a", pair, u32, 3, mode, o_dp4a);
    int_spec(list, "dp2a.lo", pair, u32, 3, mode, o_dp2a);
    int_spec(list, "dp2a.hi", pair, u32, 3, mode | EMU_HI, o_dp2a);
  }
}

static void bits(spec_list *list) {
  static const char *const bnames[] = {"b16", "b32", "b64"};
  for (int k = 0; k < 3; k++) {
    int_type t = {k == 0 ? EMU_B16 : k == 1 ? EMU_B32 : EMU_B64, 16u << k, false};
    int_spec(list, "and", bnames[k], t, 2, 0, o_and);
    int_spec(list, "or", bnames[k], t, 2, 0, o_or);
    int_spec(list, "xor", bnames[k], t, 2, 0, o_xor);
    int_spec(list, "not", bnames[k], t, 1, 0, o_not);
    int_spec(list, "cnot", bnames[k], t, 1, 0, o_cnot);
    for (int right = 0; right < 2; right++) {
      spec *s = int_spec(list, right ? "shr" : "shl", bnames[k], t, 2, 0, right ? o_shr : o_shl);
      s->width[1] = 32;
      s->data[1] = D_SMALL;
    }
    if (k == 0) continue;
    int_spec(list, "popc", bnames[k], t, 1, 0, o_popc)->result = 32;
    int_spec(list, "clz", bnames[k], t, 1, 0, o_clz)->result = 32;
    int_spec(list, "brev", bnames[k], t, 1, 0, o_brev);
    for (int small = 0; small < 2; small++) {
      spec *s = int_spec(list, "bfi", bnames[k], t, 4, 0, o_bfi);
      s->width[2] = s->width[3] = 32;
      if (small) s->data[2] = s->data[3] = D_SMALL;
    }
  }
  for (size_t k = 2; k < 6; k++) {
    int_spec(list, "bfind", names[k], types[k], 1, 0, o_bfind)->result = 32;
    int_spec(list, "bfind.shiftamt", names[k], types[k], 1, EMU_SHIFTAMT, o_bfind)->result = 32;
    spec *s = int_spec(list, "bfe", names[k], types[k], 3, 0, o_bfe);
    s->width[1] = s->width[2] = 32;
    s->data[1] = s->data[2] = D_SMALL;
  }
  int_type b32 = {EMU_B32, 32, false};
  spec *s = int_spec(list, "fns", "b32", b32, 3, 0, o_fns);
  s->data[1] = s->data[2] = D_SMALL;
  for (int k = 0; k < 2; k++) {
    const char *edge = k ? "wrap" : "clamp";
    char start[32];
    uint32_t mode = k ? EMU_WRAP : 0;
    for (int sign = 0; sign < 2; sign++) {
      snprintf(start, sizeof start, "szext.%s", edge);
      int_spec(list, start, sign ? "s32" : "u32", types[2 + sign], 2, mode, o_szext)->data[1] = D_SMALL;
      snprintf(start, sizeof start, "shf.%s.%s", sign ? "l" : "r", edge);
      int_spec(list, start, "b32", b32, 3, mode | (sign ? EMU_LEFT : 0), o_shf)->data[2] = D_SMALL;
    }
    snprintf(start, sizeof start, "bmsk.%s", edge);
    s = int_spec(list, start, "b32", b32, 2, mode, o_bmsk);
    s->data[0] = s->data[1] = D_SMALL;
  }
  for (uint32_t table = 0; table < 256; table += table < 250 ? 5 : 1) {
    s = int_spec(list, "lop3", "b32", b32, 3, table << EMU_IMM_SHIFT, o_lop3);
    snprintf(s->args, sizeof s->args, "$0, $1, $2, $3, %u", table);
  }
  static const char *const modes[] = {"", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"};
  for (uint32_t m = 0; m < 7; m++) {
    s = int_spec(list, "prmt.b32", "", b32, 3, m << EMU_IMM_SHIFT, o_prmt);
    snprintf(s->text, sizeof s->text, "prmt.b32%s", modes[m]);
  }
}

// --- comparison, selection -----------------------------------------------------------------------------------------------------
static bool int_compare(int c, wide p, wide q) {
  switch (c) {
    case 0: return p == q;
    case 1: return p != q;
    case 2: case 6: return p < q;
    case 3: case 7: return p <= q;
    case 4: case 8: return p > q;
    default: return p >= q;
  }
}
static uint64_t want_setp(const uint64_t x[4], const spec *s) {
  return int_compare(s->cmp, value(x[0], s->t), value(x[1], s->t));
}
static uint64_t want_set(const uint64_t x[4], const spec *s) { return want_setp(x, s) ? 0xFFFFFFFF : 0; }
static uint64_t want_combined(const uint64_t x[4], const spec *s) {   // p = (a lt b) op c, q = !(a lt b) op c, as 2q + p
  bool t = value(x[0], s->t) < value(x[1], s->t), c = x[2] & 1, p, q;
  if (s->cmp == 0) { p = t && c; q = !t && c; }
  else if (s->cmp == 1) { p = t || c; q = !t || c; }
  else { p = t != c; q = !t != c; }
  return (uint64_t)q << 1 | p;
}
static uint64_t want_slct(const uint64_t x[4], const spec *s) {
  if (s->mode & EMU_A_SIGNED) return (int32_t)x[2] >= 0 ? x[0] : x[1];
  float c = as_f32(s->mode & EMU_FTZ ? flush((uint32_t)x[2]) : (uint32_t)x[2]);
  return c >= 0 ? x[0] : x[1];
}
static uint64_t want_selp(const uint64_t x[4], const spec *s) { (void)s; return x[2] & 1 ? x[0] : x[1]; }

static void selection(spec_list *list) {
  static const char *const cmps[] = {"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"};
  for (size_t k = 0; k < 6; k++)
    for (int c = 0; c < (types[k].is_signed ? 6 : 10); c++)
      for (int set = 0; set < 2; set++) {
        spec *s = spec_add(list, 80, "%s.%s%s.%s", set ? "set" : "setp", cmps[c], set ? ".u32" : "", names[k]);
        spec_sources(s, set ? 32 : 1, 2, types[k].bits, D_BITS);
        s->cmp = c;
        s->t = types[k];
        s->want = set ? want_set : want_setp;
      }
  static const char *const bodies[] = {
      "setp.ne.b32 %q1, $3, 0; setp.lt.and.s32 %q2|%q3, $1, $2, %q1; selp.b32 $0, 1, 0, %q2; @%q3 add.s32 $0, $0, 2;",
      "setp.ne.b32 %q1, $3, 0; setp.lt.or.s32 %q2|%q3, $1, $2, %q1; selp.b32 $0, 1, 0, %q2; @%q3 add.s32 $0, $0, 2;",
      "setp.ne.b32 %q1, $3, 0; setp.lt.xor.s32 %q2|%q3, $1, $2, %q1; selp.b32 $0, 1, 0, %q2; @%q3 add.s32 $0, $0, 2;"};
  static const char *const labels[] = {"setp.lt.and.s32 p|q", "setp.lt.or.s32 p|q", "setp.lt.xor.s32 p|q"};
  for (int k = 0; k < 3; k++) {
    spec *s = spec_add(list, 80, "%s", labels[k]);
    spec_sources(s, 32, 3, 32, D_BITS);
    s->body = bodies[k];
    s->data[2] = D_LANE;
    s->t = types[3];
    s->cmp = k;
    s->want = want_combined;
  }
  for (int k = 0; k < 6; k++) {
    bool big = k & 1;
    int form = k >> 1;   // .s32, .f32, .ftz f32
    spec *s = spec_add(list, 80, "slct%s.%s.%s", form == 2 ? ".ftz" : "", big ? "u64" : "b32", form ? "f32" : "s32");
    spec_sources(s, big ? 64 : 32, 3, big ? 64 : 32, D_BITS);
    s->width[2] = 32;
    s->data[2] = D_F32;
    s->mode = form == 0 ? EMU_A_SIGNED : form == 2 ? EMU_FTZ : 0;
    s->want = want_slct;
  }
  for (int k = 0; k < 3; k++) {
    static const char *const selps[] = {"selp.b16", "selp.b32", "selp.b64"};
    static const char *const select[] = {"setp.ne.b32 %q1, $3, 0; selp.b16 $0, $1, $2, %q1;",
                                         "setp.ne.b32 %q1, $3, 0; selp.b32 $0, $1, $2, %q1;",
                                         "setp.ne.b32 %q1, $3, 0; selp.b64 $0, $1, $2, %q1;"};
    spec *s = spec_add(list, 80, "%s", selps[k]);
    spec_sources(s, 16u << k, 3, 16u << k, D_BITS);
    s->width[2] = 32;
    s->data[2] = D_LANE;
    s->body = select[k];
    s->want = want_selp;
  }
}

// --- carry chains: {source 1 : source 0} op {source 3 : source 2}, the upper half of the result --------------------------------
static uint64_t want_chain(const uint64_t x[4], const spec *s) {
  unsigned w = s->t.bits;
  unsigned __int128 a, b, r;
  if (w == 32) {
    uint64_t p = x[1] << 32 | x[0], q = x[3] << 32 | x[2];
    return (s->cmp ? p - q : p + q) >> 32;
  }
  a = (unsigned __int128)x[1] << 64 | x[0];
  b = (unsigned __int128)x[3] << 64 | x[2];
  r = s->cmp ? a - b : a + b;
  return (uint64_t)(r >> 64);
}
static uint64_t want_carry_out(const uint64_t x[4], const spec *s) {
  unsigned w = s->t.bits;
  unsigned __int128 a = ((unsigned __int128)x[1] << w) | x[0], b = ((unsigned __int128)x[3] << w) | x[2];
  if (w == 32) return s->cmp ? (uint64_t)((a - b) >> 64) & 1 : (uint64_t)((a + b) >> 64) & 1;
  return s->cmp ? a < b : a + b < a;
}
static uint64_t want_mad_chain(const uint64_t x[4], const spec *s) {   // x0 * x1 + {x3 : x2}, upper half
  unsigned w = s->t.bits;
  unsigned __int128 p = (unsigned __int128)x[0] * x[1], c = ((unsigned __int128)x[3] << w) | x[2];
  return cut((wide)((p + c) >> w), w);
}
static void carries(spec_list *list) {
  static const struct { const char *name, *body; unsigned bits; int sub; conform_oracle *want;
  } rows[] = {{"add.cc.u32 addc.u32", "add.cc.u32 $0, $1, $3; addc.u32 $0, $2, $4;", 32, 0, want_chain},
              {"sub.cc.u32 subc.u32", "sub.cc.u32 $0, $1, $3; subc.u32 $0, $2, $4;", 32, 1, want_chain},
              {"add.cc.u64 addc.u64", "add.cc.u64 $0, $1, $3; addc.u64 $0, $2, $4;", 64, 0, want_chain},
              {"sub.cc.s64 subc.s64", "sub.cc.s64 $0, $1, $3; subc.s64 $0, $2, $4;", 64, 1, want_chain},
              {"addc.cc.u32", "add.cc.u32 $0, $1, $3; addc.cc.u32 $0, $2, $4; addc.u32 $0, 0, 0;", 32, 0, want_carry_out},
              {"subc.cc.u32", "sub.cc.u32 $0, $1, $3; subc.cc.u32 $0, $2, $4; subc.u32 $0, 0, 0; and.b32 $0, $0, 1;", 32, 1,
               want_carry_out},
              {"addc.cc.u64", "add.cc.u64 $0, $1, $3; addc.cc.u64 $0, $2, $4; addc.u64 $0, 0, 0;", 64, 0, want_carry_out},
              {"mad.lo.cc.u32 madc.hi.u32", "mad.lo.cc.u32 $0, $1, $2, $3; madc.hi.u32 $0, $1, $2, $4;", 32, 0, want_mad_chain},
              {"mad.lo.cc.u64 madc.hi.u64", "mad.lo.cc.u64 $0, $1, $2, $3; madc.hi.u64 $0, $1, $2, $4;", 64, 0, want_mad_chain}};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    spec *s = spec_add(list, 80, "%s", rows[k].name);
    spec_sources(s, rows[k].bits, 4, rows[k].bits, D_BITS);
    s->body = rows[k].body;
    s->t = (int_type){EMU_U32, rows[k].bits, false};
    s->cmp = rows[k].sub;
    s->want = rows[k].want;
  }
}

void conform_int(spec_list *list) {
  arithmetic(list);
  bits(list);
  selection(list);
  carries(list);
}

// --- warp-wide -----------------------------------------------------------------------------------------------------------------
static void warp_shfl(const uint64_t x[4][32], uint64_t want[32],
                      const spec *s) {  // the ISA's pseudo code; result | predicate << 32
  for (int l = 0; l < 32; l++) {
    int b = x[1][l] & 31, c = x[2][l] & 31, mask = x[2][l] >> 8 & 31, j = l;
    int max_lane = (l & mask) | (c & ~mask), min_lane = l & mask;
    bool p = false;
    switch (s->cmp) {
      case 0: j = l - b; p = j >= max_lane; break;
      case 1: j = l + b; p = j <= max_lane; break;
      case 2: j = l ^ b; p = j <= max_lane; break;
      default: j = min_lane | (b & ~mask); p = j <= max_lane; break;
    }
    want[l] = (uint32_t)x[0][p ? j : l] | (uint64_t)p << 32;
  }
}
static void warp_vote(const uint64_t x[4][32], uint64_t want[32], const spec *s) {
  uint32_t ballot = 0;
  for (int l = 0; l < 32; l++) ballot |= (uint32_t)(x[0][l] & 1) << l;
  uint64_t r = s->cmp == 0   ? ballot
               : s->cmp == 1 ? ballot == UINT32_MAX
               : s->cmp == 2 ? ballot != 0
                             : ballot == 0 || ballot == UINT32_MAX;
  for (int l = 0; l < 32; l++) want[l] = r;
}
static void warp_match(const uint64_t x[4][32], uint64_t want[32], const spec *s) {
  for (int l = 0; l < 32; l++) {
    uint32_t same = 0;
    for (int k = 0; k < 32; k++) same |= (uint32_t)(cut((wide)x[0][k], s->width[0]) == cut((wide)x[0][l], s->width[0])) << k;
    want[l] = s->cmp == 0 ? same : same == UINT32_MAX ? (uint64_t)1 << 32 | UINT32_MAX : 0;
  }
}
static void warp_redux(const uint64_t x[4][32], uint64_t want[32], const spec *s) {
  uint64_t r = x[0][0];
  for (int l = 1; l < 32; l++) {
    uint64_t v = x[0][l];
    switch (s->op) {
      case EMU_OP_ADD: r += v; break;
      case EMU_OP_AND: r &= v; break;
      case EMU_OP_OR: r |= v; break;
      case EMU_OP_XOR: r ^= v; break;
      default: r = (value(v, s->t) < value(r, s->t)) == (s->op == EMU_OP_MIN) ? v : r; break;
    }
  }
  for (int l = 0; l < 32; l++) want[l] = (uint32_t)r;
}
static void warp_transpose(const uint64_t x[4][32], uint64_t want[32], const spec *s) {
  (void)s;
  for (int l = 0; l < 32; l++) {
    want[l] = 0;
    for (int h = 0; h < 2; h++) {                      // element (row, col) of the result is (col, row) of the source
      int row = l / 4, col = l % 4 * 2 + h;
      want[l] |= (x[0][col * 4 + row / 2] >> (16 * (row % 2)) & 0xFFFF) << (16 * h);
    }
  }
}

void conform_warps(spec_list *list) {
  static const char *const kinds[] = {"up", "down", "bfly", "idx"};
  static const char *const shfls[] = {
      "shfl.sync.up.b32 %t1|%q1, $1, $2, $3, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};",
      "shfl.sync.down.b32 %t1|%q1, $1, $2, $3, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};",
      "shfl.sync.bfly.b32 %t1|%q1, $1, $2, $3, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};",
      "shfl.sync.idx.b32 %t1|%q1, $1, $2, $3, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};"};
  for (int k = 0; k < 4; k++) {
    spec *s = spec_add(list, 80, "shfl.sync.%s.b32", kinds[k]);
    spec_sources(s, 64, 3, 32, D_BITS);
    s->data[1] = D_SMALL;
    s->body = shfls[k];
    s->cmp = k;
    s->warp = warp_shfl;
  }
  static const struct { const char *name, *body; } votes[] = {
      {"vote.sync.ballot.b32", "setp.ne.b32 %q1, $1, 0; vote.sync.ballot.b32 $0, %q1, 0xffffffff;"},
      {"vote.sync.all.pred", "setp.ne.b32 %q1, $1, 0; vote.sync.all.pred %q2, %q1, 0xffffffff; selp.b32 $0, 1, 0, %q2;"},
      {"vote.sync.any.pred", "setp.ne.b32 %q1, $1, 0; vote.sync.any.pred %q2, %q1, 0xffffffff; selp.b32 $0, 1, 0, %q2;"},
      {"vote.sync.uni.pred", "setp.ne.b32 %q1, $1, 0; vote.sync.uni.pred %q2, %q1, 0xffffffff; selp.b32 $0, 1, 0, %q2;"}};
  for (int k = 0; k < 4; k++) {
    spec *s = spec_add(list, 80, "%s", votes[k].name);
    spec_sources(s, 32, 1, 32, D_LANE);
    s->body = votes[k].body;
    s->cmp = k;
    s->warp = warp_vote;
  }
  static const struct { const char *name, *body; unsigned width; } matches[] = {
      {"match.any.sync.b32", "match.any.sync.b32 %t1, $1, 0xffffffff; mov.b64 $0, {%t1, 0};", 32},
      {"match.any.sync.b64", "match.any.sync.b64 %t1, $1, 0xffffffff; mov.b64 $0, {%t1, 0};", 64},
      {"match.all.sync.b32", "match.all.sync.b32 %t1|%q1, $1, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};", 32},
      {"match.all.sync.b64", "match.all.sync.b64 %t1|%q1, $1, 0xffffffff; selp.b32 %t2, 1, 0, %q1; mov.b64 $0, {%t1, %t2};", 64}};
  for (int k = 0; k < 4; k++) {
    spec *s = spec_add(list, 80, "%s", matches[k].name);
    spec_sources(s, 64, 1, matches[k].width, D_LANE);
    s->body = matches[k].body;
    s->cmp = k / 2;
    s->warp = warp_match;
  }
  static const struct { const char *name; emu_op op; bool sign;
  } reduces[] = {{"redux.sync.add.u32", EMU_OP_ADD, false}, {"redux.sync.add.s32", EMU_OP_ADD, true},
                 {"redux.sync.min.u32", EMU_OP_MIN, false}, {"redux.sync.min.s32", EMU_OP_MIN, true},
                 {"redux.sync.max.u32", EMU_OP_MAX, false}, {"redux.sync.max.s32", EMU_OP_MAX, true},
                 {"redux.sync.and.b32", EMU_OP_AND, false}, {"redux.sync.or.b32", EMU_OP_OR, false},
                 {"redux.sync.xor.b32", EMU_OP_XOR, false}};
  for (size_t k = 0; k < sizeof reduces / sizeof *reduces; k++) {
    spec *s = spec_add(list, 80, "%s", reduces[k].name);
    spec_sources(s, 32, 1, 32, D_BITS);
    snprintf(s->args, sizeof s->args, "$0, $1, 0xffffffff");
    s->op = reduces[k].op;
    s->t = types[reduces[k].sign ? 3 : 2];
    s->warp = warp_redux;
  }
  spec *s = spec_add(list, 80, "movmatrix.sync.aligned.m8n8.trans.b16");
  spec_sources(s, 32, 1, 32, D_BITS);
  s->warp = warp_transpose;
}
