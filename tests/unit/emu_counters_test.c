// Counters against numbers derived by hand: sectors, wavefronts, active lanes, contention, instruction counts by line.
#include "emu_harness.h"
#include "emulator/counters.h"
#include "emulator/machine.h"

#define HEAD ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {\n.reg .pred %p<4>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n"
enum { FIRST = 8 };   // line of the first statement behind HEAD


static void run(rig *r, const char *body, unsigned threads, size_t buffer) {
  ts_text t = {0};
  ts_text_puts(&t, HEAD);
  ts_text_puts(&t, body);
  rig_open_text(r, ts_text_str(&t), "counters.ptx", 80);
  ts_text_deinit(&t);
  r->counters = r->checks_off = true;   // the kernels here race on purpose
  if (rig_launch(r, "k", (dims){1}, (dims){threads}, 0, PARAMS(rig_zeros(r, buffer))) != TS_OK) rig_fail(r, "launch");
}

// The counts of PTX line FIRST + n.
static emu_count at(const rig *r, unsigned n) {
  const emu_counters *c = r->result.counters;
  emu_count sum = {0};
  for (size_t i = 0; i < c->program->code.count; i++) {
    const ptx_stmt *s = emu_stmt_of(c->program, &c->program->code.data[i]);
    if (!s || s->pos.line != FIRST + n) continue;
    uint64_t *to = (uint64_t *)&sum;
    for (size_t k = 0; k < sizeof sum / 8; k++) to[k] += ((const uint64_t *)&c->ops[i])[k];
  }
  return sum;
}

START_TEST(sectors) {
  rig r;
  run(&r,
      "ld.param.u64 %rd1, [p];\n"               // 0
      "mov.u32 %r1, %tid.x;\n"                  // 1
      "mul.wide.u32 %rd2, %r1, 4;\n"            // 2
      "add.s64 %rd3, %rd1, %rd2;\n"             // 3
      "ld.global.u32 %r2, [%rd3];\n"            // 4: 2 warps, 128 bytes each: 4 sectors
      "mul.wide.u32 %rd4, %r1, 32;\n"           // 5
      "add.s64 %rd5, %rd1, %rd4;\n"             // 6
      "ld.global.u32 %r3, [%rd5];\n"            // 7: one sector a lane
      "ld.global.u32 %r4, [%rd1];\n"            // 8: one sector a warp
      "mul.wide.u32 %rd6, %r1, 16;\n"           // 9
      "add.s64 %rd7, %rd1, %rd6;\n"             // 10
      "ld.global.v4.u32 {%r5,%r6,%r7,%r8}, [%rd7];\n"   // 11: 512 bytes a warp
      "ld.global.u32 %rd5, [%rd3];\n"           // 12: a 32-bit load into a 64-bit register is one instruction
      "st.global.u8 [%rd3], %r2;\n"             // 13: bytes 4 apart: 4 sectors, 32 bytes used
      "ret;\n}\n", 64, 4096);
  ck_assert_uint_eq(at(&r, 4).requests, 2);
  ck_assert_uint_eq(at(&r, 4).sectors, 8);
  ck_assert_uint_eq(at(&r, 4).ideal_sectors, 8);
  ck_assert_uint_eq(at(&r, 7).sectors, 64);
  ck_assert_uint_eq(at(&r, 7).ideal_sectors, 8);
  ck_assert_uint_eq(at(&r, 8).sectors, 2);
  ck_assert_uint_eq(at(&r, 8).ideal_sectors, 2);
  ck_assert_uint_eq(at(&r, 11).sectors, 32);
  ck_assert_uint_eq(at(&r, 11).bytes, 1024);
  ck_assert_uint_eq(at(&r, 12).warps, 2);
  ck_assert_uint_eq(at(&r, 13).sectors, 8);
  ck_assert_uint_eq(at(&r, 13).ideal_sectors, 2);
  // 4-byte, 32-apart, one, 16-byte and 4-byte reads: 8 + 64 + 2 + 32 + 8 sectors; they and the writes touch the first 2048 bytes
  const emu_counters *c = r.result.counters;
  ck_assert_uint_eq(c->buffer_count, 1);
  ck_assert_uint_eq(c->buffers[0].read, 114 * 32);
  ck_assert_uint_eq(c->buffers[0].written, 8 * 32);
  ck_assert_uint_eq(c->buffers[0].distinct, 2048);
  ck_assert_uint_eq(r.result.warp_instructions, 30);
  ck_assert_uint_eq(r.result.thread_instructions, 960);
  rig_close(&r);
}
END_TEST

START_TEST(wavefronts) {
  rig r;
  run(&r,
      ".shared .align 16 .b8 s[4608];\n"        // 0
      "mov.u32 %r1, %tid.x;\n"                  // 1
      "mov.u32 %r2, s;\n"                       // 2
      "mov.u32 %r9, 0;\n"                       // 3
      "mad.lo.u32 %r3, %r1, 144, %r2;\n"        // 4
      "st.shared.v4.u32 [%r3], {%r9,%r9,%r9,%r9};\n"     // 5: rows of 144 bytes: 8 lanes a phase, no conflict: 4 waves
      "st.shared.v4.u32 [%r3+16], {%r9,%r9,%r9,%r9};\n"  // 6
      "st.shared.v4.u32 [%r3+32], {%r9,%r9,%r9,%r9};\n"  // 7
      "mad.lo.u32 %r4, %r1, 4, %r2;\n"          // 8
      "st.shared.u32 [%r4], %r1;\n"             // 9: 1 wave
      "mad.lo.u32 %r5, %r1, 8, %r2;\n"          // 10
      "st.shared.u32 [%r5], %r1;\n"             // 11: every other bank: 2 waves
      "mad.lo.u32 %r6, %r1, 128, %r2;\n"        // 12
      "st.shared.u32 [%r6], %r1;\n"             // 13: one bank: 32 waves
      "bar.warp.sync -1;\n"                     // 14
      "ld.shared.u32 %r7, [%r2];\n"             // 15: a broadcast: 1 wave
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10,%r11,%r12,%r13}, [%r3];\n"   // 16: 4 waves
      "st.shared.v2.u32 [%r5], {%r9,%r9};\n"    // 17: 8 bytes a lane: 2 waves
      "ret;\n}\n", 32, 4);
  static const struct { unsigned line, waves, ideal; } want[] = {{5, 4, 4}, {9, 1, 1}, {11, 2, 1}, {13, 32, 1}, {15, 1, 1}, {16, 4, 4}, {17, 2, 2}};
  for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
    ck_assert_msg(at(&r, want[i].line).waves == want[i].waves, "line %u: %llu waves", want[i].line, (unsigned long long)at(&r, want[i].line).waves);
    ck_assert_uint_eq(at(&r, want[i].line).ideal_waves, want[i].ideal);
  }
  rig_close(&r);
}
END_TEST

START_TEST(ldmatrix_conflicts) {
  rig r;
  run(&r,
      ".shared .align 128 .b8 s[4096];\n"
      "mov.u32 %r1, %tid.x;\n"
      "mov.u32 %r2, s;\n"
      "mov.u32 %r9, 0;\n"
      "mad.lo.u32 %r3, %r1, 128, %r2;\n"
      "st.shared.v4.u32 [%r3], {%r9,%r9,%r9,%r9};\n"   // 5: rows of 128 bytes: 8 lanes in the same 4 banks: 8 waves a phase
      "bar.warp.sync 0xffffffff;\n"
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10,%r11,%r12,%r13}, [%r3];\n"   // 7
      "ret;\n}\n", 32, 4);
  ck_assert_uint_eq(at(&r, 5).waves, 32);
  ck_assert_uint_eq(at(&r, 7).waves, 32);
  ck_assert_uint_eq(at(&r, 7).ideal_waves, 4);
  rig_close(&r);
}
END_TEST

START_TEST(divergence_and_atomics) {
  rig r;
  run(&r,
      "ld.param.u64 %rd1, [p];\n"               // 0
      "mov.u32 %r1, %tid.x;\n"                  // 1
      "mov.u32 %r2, 0;\n"                       // 2
      "LOOP:\n"                                 // 3
      "add.u32 %r2, %r2, 1;\n"                  // 4: lane i comes here i % 8 + 1 times
      "and.b32 %r3, %r1, 7;\n"                  // 5
      "setp.le.u32 %p1, %r2, %r3;\n"            // 6
      "@%p1 bra LOOP;\n"                        // 7
      "and.b32 %r4, %r1, 3;\n"                  // 8: all lanes again
      "mul.wide.u32 %rd2, %r4, 4;\n"            // 9
      "add.s64 %rd3, %rd1, %rd2;\n"             // 10
      "red.global.add.u32 [%rd3], %r2;\n"       // 11: 32 lanes on 4 addresses
      "setp.lt.u32 %p2, %r1, 5;\n"              // 12
      "@%p2 st.global.u32 [%rd1+64], %r2;\n"    // 13: 5 lanes
      "ret;\n}\n", 32, 128);
  ck_assert_uint_eq(at(&r, 4).warps, 8);
  ck_assert_uint_eq(at(&r, 4).threads, 4 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8));
  ck_assert_uint_eq(at(&r, 8).warps, 1);
  ck_assert_uint_eq(at(&r, 8).threads, 32);
  ck_assert_uint_eq(at(&r, 11).conflicts, 28);
  ck_assert_uint_eq(at(&r, 13).threads, 5);
  ts_text t = {0};
  emu_counters_json(r.result.counters, &t);
  ck_assert_ptr_nonnull(strstr(ts_text_z(&t), "\"atomic\": {\"warp_instructions\": 1, \"thread_instructions\": 32"));
  ts_text_clear(&t);
  emu_counters_print(r.result.counters, &t);
  ck_assert_ptr_nonnull(strstr(ts_text_z(&t), "k lines 12-15"));   // the loop is a basic block
  ts_text_clear(&t);
  emu_counters_listing(r.result.counters, &t);
  ck_assert_ptr_nonnull(strstr(ts_text_z(&t), "1 100.0% | and.b32 %r4"));
  ts_text_deinit(&t);
  rig_close(&r);
}
END_TEST

// A run repeats exactly with one worker and one seed.
START_TEST(repeats) {
  uint64_t seen[2] = {0};
  for (int i = 0; i < 2; i++) {
    rig r;
    rig_open(&r, "corpus.ptx", 80);
    r.schedule_seed = 5;
    RUN(&r, "warp_lock", (dims){3}, (dims){64}, 0, rig_zeros(&r, 4), rig_zeros(&r, 4));
    seen[i] = r.result.warp_instructions;
    rig_close(&r);
  }
  ck_assert_uint_eq(seen[0], seen[1]);
}
END_TEST

int main(void) {
  Suite *s = suite_create("emulator counters");
  TCase *t = tcase_create("counters");
  tcase_add_test(t, sectors);
  tcase_add_test(t, wavefronts);
  tcase_add_test(t, ldmatrix_conflicts);
  tcase_add_test(t, divergence_and_atomics);
  tcase_add_test(t, repeats);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
