// One line of PTX each, through parser, decoder and interpreter, against a value worked out from the ISA's text: operand order,
// modifiers, widths, sign extension, predicates. What the arithmetic itself computes has its own tests.
#include "emu_harness.h"

typedef struct line {
  const char *code;       // reads %a %b %c (b32) or %la %lb %lc (b64), writes %d or %ld
  uint64_t a, b, c, want;
} line;

#define F1 0x3f800000u
#define F2 0x40000000u
#define F3 0x40400000u
static const line lines[] = {
    {"add.s32 %d, %a, %b;", 5, -7u, 0, (uint32_t)-2},
    {"sub.u32 %d, %a, %b;", 5, 7, 0, (uint32_t)-2},
    {"sub.s32 %d, 100, %a;", 1, 0, 0, 99},
    {"add.sat.s32 %d, %a, %b;", 0x7fffffff, 1, 0, 0x7fffffff},
    {"mul.lo.s32 %d, %a, %b;", 70000, 70000, 0, (uint32_t)(70000ull * 70000)},
    {"mul.hi.u32 %d, %a, %b;", 0x80000000, 6, 0, 3},
    {"mul.hi.s32 %d, %a, %b;", 0x80000000, 6, 0, (uint32_t)-3},
    {"mul.wide.s32 %ld, %a, %b;", -3u, 5, 0, (uint64_t)-15},
    {"mul.wide.u16 %d, %ha, %hb;", 0xffff, 0xffff, 0, 0xfffe0001},
    {"mad.lo.s32 %d, %a, %b, %c;", 3, 4, 5, 17},
    {"mad.wide.u32 %ld, %a, %b, %lc;", 0xffffffff, 2, 3, 0x200000001ull},
    {"mad.hi.u32 %d, %a, %b, %c;", 0x80000000, 4, 5, 7},
    {"div.s32 %d, %a, %b;", -7u, 2, 0, (uint32_t)-3},
    {"rem.s32 %d, %a, %b;", -7u, 2, 0, (uint32_t)-1},
    {"div.u64 %ld, %la, %lb;", 1ull << 40, 3, 0, (1ull << 40) / 3},
    {"abs.s32 %d, %a;", -9u, 0, 0, 9},
    {"neg.s64 %ld, %la;", 9, 0, 0, (uint64_t)-9},
    {"min.s32 %d, %a, %b;", -1u, 1, 0, (uint32_t)-1},
    {"min.u32 %d, %a, %b;", -1u, 1, 0, 1},
    {"max.s64 %ld, %la, %lb;", (uint64_t)-5, 3, 0, 3},
    {"and.b32 %d, %a, 0xF0;", 0xabc, 0, 0, 0xb0},
    {"or.b64 %ld, %la, %lb;", 1ull << 63, 1, 0, 1ull << 63 | 1},
    {"xor.b16 %hd, %ha, %hb; cvt.u32.u16 %d, %hd;", 0xff00, 0x0ff0, 0, 0xf0f0},
    {"not.b32 %d, %a;", 0, 0, 0, 0xffffffff},
    {"cnot.b32 %d, %a;", 0, 0, 0, 1},
    {"shl.b32 %d, %a, %b;", 1, 33, 0, 0},
    {"shl.b64 %ld, %la, %b;", 1, 33, 0, 1ull << 33},
    {"shr.s32 %d, %a, %b;", 0x80000000, 40, 0, 0xffffffff},
    {"shr.u32 %d, %a, %b;", 0x80000000, 31, 0, 1},
    {"shf.l.wrap.b32 %d, %a, %b, %c;", 0x80000000, 1, 1, 3},
    {"shf.r.clamp.b32 %d, %a, %b, %c;", 0, 0xabcd, 40, 0xabcd},
    {"lop3.b32 %d, %a, %b, %c, 0xE8;", 0xc, 0xa, 0x6, 0xe},
    {"lop3.b32 %d, %a, %b, %c, 0x78;", 0xff00, 0x0ff0, 0x1234, 0xff00 ^ (0x0ff0 & 0x1234)},
    {"prmt.b32 %d, %a, %b, 0x5410;", 0x11223344, 0xaabbccdd, 0, 0xccdd3344},
    {"prmt.b32.f4e %d, %a, %b, %c;", 0x11223344, 0xaabbccdd, 1, 0xdd112233},
    {"bfe.u32 %d, %a, 4, 8;", 0xabcde, 0, 0, 0xcd},
    {"bfe.s32 %d, %a, 4, 8;", 0xabcde, 0, 0, 0xffffffcd},
    {"bfi.b32 %d, %a, %b, 8, 4;", 0xf5, 0, 0, 0x500},
    {"bfi.b32 %d, %a, %b, 8, 4;", 0x5, 0xffffffff, 0, 0xfffff5ff},
    {"bfind.u32 %d, %a;", 0x10, 0, 0, 4},
    {"bfind.shiftamt.u32 %d, %a;", 0x10, 0, 0, 27},
    {"brev.b32 %d, %a;", 1, 0, 0, 0x80000000},
    {"popc.b64 %d, %la;", 0xff00000000000001ull, 0, 0, 9},
    {"clz.b64 %d, %la;", 1, 0, 0, 63},
    {"szext.clamp.s32 %d, %a, %b;", 0x80, 8, 0, 0xffffff80},
    {"bmsk.clamp.b32 %d, %a, %b;", 4, 8, 0, 0xff0},
    {"sad.s32 %d, %a, %b, %c;", 3, 10, 100, 107},
    {"dp4a.s32.s32 %d, %a, %b, %c;", 0xff010203, 0x01010101, 10, 10 + 1 + 2 + 3 - 1},
    {"dp4a.u32.u32 %d, %a, %b, %c;", 0xff010203, 0x01010101, 10, 10 + 1 + 2 + 3 + 255},
    {"dp2a.lo.u32.u32 %d, %a, %b, %c;", 0x00030002, 0x04030201, 1, 1 + 2 * 1 + 3 * 2},
    {"dp2a.hi.u32.u32 %d, %a, %b, %c;", 0x00030002, 0x04030201, 1, 1 + 2 * 3 + 3 * 4},
    {"selp.b32 %d, %a, %b, %p;", 1, 2, 0, 1},
    {"selp.b32 %d, %a, %b, !%p;", 1, 2, 0, 2},
    {"slct.u32.s32 %d, %a, %b, %c;", 1, 2, -1u, 2},
    {"slct.b32.f32 %d, %a, %b, %c;", 1, 2, F1, 1},
    {"add.cc.u32 %d, %a, %b; addc.u32 %d, 0, 0;", 0xffffffff, 1, 0, 1},
    {"sub.cc.u32 %d, %a, %b; subc.u32 %d, 5, 0;", 0, 1, 0, 4},
    {"mad.lo.cc.u32 %d, %a, %b, %c; madc.hi.u32 %d, %a, %b, 0;", 0xffffffff, 2, 2, 2},
    {"add.f32 %d, %a, %b;", F1, F2, 0, F3},
    {"sub.ftz.f32 %d, %a, 0f3F800000;", F3, 0, 0, F2},
    {"add.rz.f32 %d, %a, %b;", F1, 0x33800001, 0, F1},
    {"add.rp.f32 %d, %a, %b;", F1, 0x00000001, 0, 0x3f800001},
    {"fma.rn.f32 %d, %a, %b, %c;", F2, F3, F1, 0x40e00000},
    {"mad.rn.f32 %d, %a, %b, %c;", F2, F3, F1, 0x40e00000},
    {"mul.sat.f32 %d, %a, %b;", F2, F3, 0, F1},
    {"div.rn.f32 %d, %a, %b;", F3, F2, 0, 0x3fc00000},
    {"div.approx.f32 %d, %a, %b;", F3, F2, 0, 0x3fc00000},
    {"sqrt.rn.f32 %d, %a;", 0x40800000, 0, 0, F2},
    {"rcp.rn.f32 %d, %a;", 0x40800000, 0, 0, 0x3e800000},
    {"rsqrt.approx.f32 %d, %a;", 0x40800000, 0, 0, 0x3f000000},
    {"ex2.approx.ftz.f32 %d, %a;", F3, 0, 0, 0x41000000},
    {"neg.f32 %d, %a;", F1, 0, 0, 0xbf800000},
    {"min.NaN.f32 %d, %a, %b;", 0x7fc00000, F1, 0, 0x7fffffff},
    {"max.f32 %d, %a, %b;", 0x7fc00000, F1, 0, F1},
    {"copysign.f32 %d, %a, %b;", 0x80000000, F2, 0, 0xc0000000},
    {"fma.rn.f64 %ld, %la, %lb, %lc;", 0x4000000000000000ull, 0x4008000000000000ull, 0x3ff0000000000000ull, 0x401c000000000000ull},
    {"add.f64 %ld, %la, 0d3FF0000000000000;", 0x3ff0000000000000ull, 0, 0, 0x4000000000000000ull},
    {"fma.rn.f16x2 %d, %a, %b, %c;", 0x40003c00, 0x42004000, 0x3c003c00, 0x47004200},
    {"add.rn.bf16x2 %d, %a, %b;", 0x3f804000, 0x3f803f80, 0, 0x40004040},
    {"add.f16 %hd, %ha, %hb; mov.b32 %d, {%hd, %hz};", 0x3c00, 0x4000, 0, 0x4200},
    {"setp.lt.s32 %q, %a, %b; selp.u32 %d, 1, 0, %q;", -1u, 0, 0, 1},
    {"setp.lo.u32 %q, %a, %b; selp.u32 %d, 1, 0, %q;", -1u, 0, 0, 0},
    {"setp.lt.and.s32 %q, %a, %b, !%p; selp.u32 %d, 1, 0, %q;", -1u, 0, 0, 0},
    {"setp.gt.s32 %q|%q2, %a, %b; selp.u32 %d, 1, 0, %q2;", -1u, 0, 0, 1},
    {"setp.neu.f32 %q, %a, %b; selp.u32 %d, 1, 0, %q;", 0x7fc00000, F1, 0, 1},
    {"setp.ne.f32 %q, %a, %b; selp.u32 %d, 1, 0, %q;", 0x7fc00000, F1, 0, 0},
    {"setp.nan.f32 %q, %a, %b; selp.u32 %d, 1, 0, %q;", 0x7fc00000, F1, 0, 1},
    {"set.gt.u32.s32 %d, %a, %b;", 3, 2, 0, 0xffffffff},
    {"set.gt.f32.s32 %d, %a, %b;", 3, 2, 0, F1},
    {"testp.infinite.f32 %q, %a; selp.u32 %d, 1, 0, %q;", 0x7f800000, 0, 0, 1},
    {"and.pred %q, %p, !%p; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 0},
    {"xor.pred %q, %p, 0; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 1},
    {"not.pred %q, %p; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 0},
    {"mov.pred %q, 1; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 1},
    {"mov.u32 %d, 7; @%p mov.u32 %d, 8;", 0, 0, 0, 8},
    {"mov.u32 %d, 7; @!%p mov.u32 %d, 8;", 0, 0, 0, 7},
    {"mov.b64 %ld, {%a, %b};", 1, 2, 0, 0x200000001ull},
    {"mov.b64 {%d, %e}, %la;", 0x300000004ull, 0, 0, 4},
    {"mov.b64 {_, %d}, %la;", 0x300000004ull, 0, 0, 3},
    {"mov.b32 {%hd, %hz}, %a; cvt.u32.u16 %d, %hz;", 0x12345678, 0, 0, 0x1234},
    {"cvt.s32.s8 %d, %a;", 0x1ff, 0, 0, 0xffffffff},
    {"cvt.u32.u8 %d, %a;", 0x1ff, 0, 0, 0xff},
    {"cvt.s64.s32 %ld, %a;", -5u, 0, 0, (uint64_t)-5},
    {"cvt.u32.u64 %d, %la;", 0x123456789ull, 0, 0, 0x23456789},
    {"cvt.sat.u8.s32 %d, %a;", 300, 0, 0, 255},
    {"cvt.rzi.s32.f32 %d, %a;", 0xc0200000, 0, 0, (uint32_t)-2},
    {"cvt.rni.s32.f32 %d, %a;", 0x40200000, 0, 0, 2},
    {"cvt.rn.f32.s32 %d, %a;", -2u, 0, 0, 0xc0000000},
    {"cvt.rmi.f32.f32 %d, %a;", 0xbfc00000, 0, 0, 0xc0000000},
    {"cvt.f64.f32 %ld, %a;", F1, 0, 0, 0x3ff0000000000000ull},
    {"cvt.rn.f16x2.f32 %d, %a, %b;", F1, F2, 0, 0x3c004000},
    {"cvt.rn.bf16x2.f32 %d, %a, %b;", F1, F2, 0, 0x3f804000},
    {"cvt.f32.f16 %d, %ha;", 0x4000, 0, 0, F2},
    {"cvt.rn.satfinite.e4m3x2.f32 %hd, %a, %b; cvt.u32.u16 %d, %hd;", F1, F2, 0, 0x3840},
    {"cvt.rna.tf32.f32 %d, %a;", 0x3f801000, 0, 0, 0x3f802000},
    {"cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;", 300, -5u, 0xabcd, 0xabcdff00},
    {"cvta.shared.u64 %ld, %la; cvta.to.shared.u64 %ld, %ld;", 16, 0, 0, 16},
    {"st.shared.u32 [s+4], %a; bar.warp.sync -1; ld.shared.s8 %d, [s+4];", 0x80, 0, 0, 0xffffff80},
    {"st.local.u64 [l+8], %la; ld.local.u32 %d, [l+12];", 0x500000007ull, 0, 0, 5},
    {"st.local.v2.u32 [l], {%a, %b}; ld.local.v2.u32 {%e, %d}, [l];", 3, 4, 0, 4},
    {"ld.const.u32 %d, [k+4];", 0, 0, 0, 22},
    {"mov.u64 %ld, k; ld.u32 %d, [%ld+8];", 0, 0, 0, 33},
    {"shfl.sync.idx.b32 %d, %a, 5, 31, -1;", 9, 0, 0, 9},
    {"shfl.sync.up.b32 %d|%q, %a, 1, 0, -1; selp.u32 %d, %d, 77, %q;", 9, 0, 0, 77},
    {"vote.sync.ballot.b32 %d, %p, -1;", 0, 0, 0, 0xffffffff},
    {"vote.sync.uni.pred %q, %p, -1; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 1},
    {"match.any.sync.b32 %d, %a, -1;", 5, 0, 0, 0xffffffff},
    {"match.all.sync.b64 %d|%q, %la, -1; selp.u32 %d, %d, 0, %q;", 5, 0, 0, 0xffffffff},
    {"redux.sync.add.s32 %d, %a, -1;", 2, 0, 0, 64},
    {"redux.sync.max.u32 %d, %a, -1;", 2, 0, 0, 2},
    {"activemask.b32 %d;", 0, 0, 0, 0xffffffff},
    {"bar.red.popc.u32 %d, 0, %p;", 0, 0, 0, 32},
    {"bar.red.and.pred %q, 0, !%p; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 0},
    {"elect.sync %d|%q, -1; selp.u32 %d, 5, 0, %q;", 0, 0, 0, 5},
    {"mov.u32 %d, %laneid;", 0, 0, 0, 0},
    {"mov.u32 %d, %ntid.x;", 0, 0, 0, 32},
    {"mov.u32 %d, %lanemask_gt;", 0, 0, 0, 0xfffffffe},
    {"add.u32 %d, %ntid.x, 1;", 0, 0, 0, 33},
    {"mov.u32 %d, WARP_SZ;", 0, 0, 0, 32},
    {"mov.u32 %d, 0; LOOP: add.u32 %d, %d, 1; setp.lt.u32 %q, %d, %a; @%q bra LOOP;", 12, 0, 0, 12},
    {"{ .reg .b32 %x; mov.u32 %x, 3; bra DONE; mov.u32 %x, 4; DONE: mov.u32 %d, %x; } { DONE: add.u32 %d, %d, 1; }", 0, 0, 0, 4},
    {"T: .branchtargets A0, A1; brx.idx %a, T; A0: mov.u32 %d, 10; bra END; A1: mov.u32 %d, 20; END: add.u32 %d, %d, 1;", 1, 0, 0, 21},
    {"isspacep.shared %q, %la; selp.u32 %d, 1, 0, %q;", 0, 0, 0, 0},
    {"createpolicy.fractional.L2::evict_first.b64 %ld, 1.0; mov.u64 %ld, 4;", 0, 0, 0, 4},
};

static const char head[] =
    ".version 8.6\n.target sm_90\n.address_size 64\n.const .align 4 .u32 k[3] = {11, 22, 33};\n"
    ".visible .entry t(.param .u64 out, .param .u64 pa, .param .u64 pb, .param .u64 pc)\n{\n"
    ".reg .pred %p, %q, %q2;\n.reg .b16 %ha, %hb, %hd, %hz;\n.reg .b32 %a, %b, %c, %d, %e, %t;\n.reg .b64 %la, %lb, %lc, %ld, %o;\n.shared .align 16 .b8 s[64];\n.local .align 16 .b8 l[64];\n"
    "ld.param.u64 %o, [out];\nld.param.u64 %la, [pa];\nld.param.u64 %lb, [pb];\nld.param.u64 %lc, [pc];\n"
    "cvt.u32.u64 %a, %la;\ncvt.u32.u64 %b, %lb;\ncvt.u32.u64 %c, %lc;\ncvt.u16.u64 %ha, %la;\ncvt.u16.u64 %hb, %lb;\n"
    "mov.b16 %hz, 0;\nmov.u32 %d, 0;\nmov.u32 %e, 0;\nmov.u64 %ld, 0;\nsetp.eq.u32 %p, 0, 0;\n";

START_TEST(one_line) {
  const line *l = &lines[_i];
  rig r;
  ts_text t = {0};
  ts_text_puts(&t, head);
  ts_text_puts(&t, l->code);
  bool wide = strstr(l->code, "%ld") != NULL && strstr(l->code, "%d,") == NULL && strstr(l->code, "{%d") == NULL;
  ts_text_puts(&t, wide ? "\n" : "\ncvt.u64.u32 %ld, %d;\n");
  ts_text_puts(&t, "mov.u32 %t, %tid.x;\nsetp.ne.u32 %q, %t, 0;\n@%q ret;\nst.global.u64 [%o], %ld;\nret;\n}\n");
  rig_open_text(&r, ts_text_str(&t), "line.ptx", 90);
  // Lanes of one warp write the same shared word on purpose.
  emu_addr out = rig_zeros(&r, 8);
  ts_status s = rig_launch(&r, "t", (dims){1}, (dims){32}, 0, PARAMS(out, l->a, l->b, l->c));
  bool shared = strstr(l->code, "shared.u32") != NULL;
  if (s != TS_OK && !shared) rig_fail(&r, l->code);
  uint64_t got = *(uint64_t *)rig_fetch(&r, out, 8);
  ck_assert_msg(got == l->want, "%s: 0x%llx, not 0x%llx", l->code, (unsigned long long)got, (unsigned long long)l->want);
  rig_close(&r);
  ts_text_deinit(&t);
}
END_TEST

int main(void) {
  Suite *s = suite_create("emulator decoding");
  TCase *t = tcase_create("lines");
  tcase_add_loop_test(t, one_line, 0, sizeof lines / sizeof lines[0]);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
