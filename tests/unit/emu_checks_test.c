// Planted bugs (tests/data/ptx/bugs.cu): every one is found with one worker and a fixed order, and its clean twin is silent over
// twenty orders. And deadlock, use after free, time-out, refusals of launches.
#include "emu_harness.h"

typedef struct plant {
  const char *entry;
  dims grid, block;
  emu_fault fault;
  void (*params)(rig *r, uint64_t *p, int bad);   // fills all but the last parameter, which is `bad`
  unsigned count;
} plant;

static void ints(rig *r, uint64_t *p, int bad) { (void)bad, p[0] = rig_zeros(r, 4096); }
static void two_ints(rig *r, uint64_t *p, int bad) { ints(r, p, bad), p[1] = rig_zeros(r, 4096); }
static void bounds(rig *r, uint64_t *p, int bad) { (void)bad, p[0] = rig_buffer(r, NULL, 20), p[1] = 5; }
static void half_full(rig *r, uint64_t *p, int bad) {
  (void)bad;
  int x[32] = {0};
  p[0] = rig_buffer(r, NULL, 256);
  ck_assert_int_eq(emu_write(r->c, p[0], x, 128), TS_OK);
  p[1] = rig_buffer(r, NULL, 256);
}
static void last_block(rig *r, uint64_t *p, int bad) {
  (void)bad;
  p[0] = rig_buffer(r, NULL, 256);
  p[1] = rig_zeros(r, 4);
  p[2] = rig_buffer(r, NULL, 4);
}

static const plant plants[] = {
    {"bounds", {1}, {8}, EMU_FAULT_OUT_OF_BOUNDS, bounds, 3},
    {"misaligned", {1}, {32}, EMU_FAULT_MISALIGNED, ints, 2},
    {"uninit_global", {1}, {32}, EMU_FAULT_UNINITIALISED, half_full, 3},
    {"uninit_shared", {1}, {64}, EMU_FAULT_UNINITIALISED, ints, 2},
    {"shared_race", {1}, {64}, EMU_FAULT_SHARED_RACE, ints, 2},
    {"shared_waw", {1}, {64}, EMU_FAULT_SHARED_RACE, ints, 2},
    {"warp_race", {1}, {32}, EMU_FAULT_SHARED_RACE, ints, 2},
    {"global_race", {4}, {32}, EMU_FAULT_GLOBAL_RACE, two_ints, 3},
    {"last_block", {8}, {32}, EMU_FAULT_GLOBAL_RACE, last_block, 4},
    {"async_wait", {1}, {32}, EMU_FAULT_ASYNC_PENDING, two_ints, 3},
    {"divergent_barrier", {1}, {64}, EMU_FAULT_DIVERGENT_BARRIER, ints, 2},
    {"barrier_count", {1}, {64}, EMU_FAULT_BARRIER_COUNT, ints, 2},
    {"missing_warp", {1}, {64}, EMU_FAULT_DEADLOCK, ints, 2},
    {"shfl_inactive", {1}, {32}, EMU_FAULT_INACTIVE_LANE, ints, 2},
    {"read_only", {1}, {32}, EMU_FAULT_READ_ONLY, ints, 2},
    {"read_only_path", {1}, {32}, EMU_FAULT_READ_ONLY_PATH, two_ints, 3},
    {"spin", {2}, {1}, EMU_FAULT_DEADLOCK, ints, 2},
    {"traps", {1}, {32}, EMU_FAULT_TRAP, NULL, 1},
};

static ts_status launch(rig *r, const plant *p, int bad) {
  uint64_t params[4] = {0};
  if (p->params) p->params(r, params, bad);
  params[p->count - 1] = (uint64_t)bad;
  return rig_launch(r, p->entry, p->grid, p->block, 0, params, p->count);
}

START_TEST(finds_the_bug) {
  const plant *p = &plants[_i];
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  int bad = 1;
  ck_assert_msg(launch(&r, p, bad) == TS_MISMATCH, "%s: nothing found", p->entry);
  bool found = false;
  for (size_t i = 0; i < r.result.reports.count; i++) {
    const emu_report *one = &r.result.reports.data[i];
    found |= one->fault == p->fault;
    ck_assert_uint_gt(one->at.ptx_line, 0);
    ck_assert_msg(one->at.source_line > 0 && strstr(one->text, "bugs.cu"), "%s", one->text);
    if (one->fault == EMU_FAULT_SHARED_RACE || one->fault == EMU_FAULT_GLOBAL_RACE) ck_assert(one->has_other && one->other.ptx_line > 0);
  }
  if (!found) rig_fail(&r, p->entry);
  rig_close(&r);
}
END_TEST

START_TEST(twin_is_silent) {
  const plant *p = &plants[_i];
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  for (uint64_t seed = 0; seed < 20; seed++) {
    r.schedule_seed = seed;
    r.workers = seed % 5 == 4 ? 2 : 1;
    if (launch(&r, p, 0) != TS_OK) rig_fail(&r, p->entry);
  }
  rig_close(&r);
}
END_TEST

// A register that only half of the lanes wrote: silent while its value is only computed with and dropped.
START_TEST(uninitialised_registers) {
  for (int bad = 0; bad < 2; bad++) {
    rig r;
    ts_text t = {0};
    ts_text_puts(&t, ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {\n.reg .pred %p<4>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n"
                 "ld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 16;\n@%p1 mov.u32 %r2, 5;\nadd.u32 %r3, %r2, 1;\n"
                 "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\nselp.u32 %r4, %r3, 7, %p1;\n");
    ts_text_puts(&t, bad ? "setp.eq.u32 %p2, %r3, 6;\n" : "setp.eq.u32 %p2, %r4, 6;\n");   // line 16
    ts_text_puts(&t, "selp.u32 %r5, 1, 0, %p2;\nst.global.u32 [%rd3], %r5;\nret;\n}\n");
    rig_open_text(&r, ts_text_str(&t), "registers.ptx", 80);
    ts_status s = rig_launch(&r, "k", (dims){1}, (dims){32}, 0, PARAMS(rig_buffer(&r, NULL, 128)));
    ck_assert_int_eq(s, bad ? TS_MISMATCH : TS_OK);
    if (bad) {
      ck_assert_int_eq(r.result.reports.data[0].fault, EMU_FAULT_UNINITIALISED_REGISTER);
      ck_assert_uint_eq(r.result.reports.data[0].at.ptx_line, 16);
      ck_assert_uint_eq(r.result.reports.data[0].at.lane, 16);
    }
    rig_close(&r);
    ts_text_deinit(&t);
  }
}
END_TEST

START_TEST(use_after_free) {
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  emu_addr x = rig_zeros(&r, 128);
  RUN(&r, "free_use", (dims){1}, (dims){32}, 0, x);
  ck_assert_int_eq(emu_free(r.c, x), TS_OK);
  ck_assert_int_eq(emu_free(r.c, x), TS_INVALID);
  ck_assert_int_eq(rig_launch(&r, "free_use", (dims){1}, (dims){32}, 0, PARAMS(x)), TS_MISMATCH);
  ck_assert_int_eq(r.result.reports.data[0].fault, EMU_FAULT_USE_AFTER_FREE);
  rig_close(&r);
}
END_TEST

START_TEST(time_out) {
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  r.limit = 5000;
  ck_assert_int_eq(rig_launch(&r, "spin", (dims){2}, (dims){1}, 0, PARAMS(rig_zeros(&r, 4), 1)), TS_MISMATCH);
  ck_assert_int_eq(r.result.reports.data[0].fault, EMU_FAULT_TIMEOUT);
  rig_close(&r);
}
END_TEST

// Even without checks nothing outside device memory is touched.
START_TEST(bounds_without_checks) {
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  r.checks_off = true;
  ck_assert_int_eq(rig_launch(&r, "bounds", (dims){1}, (dims){64}, 0, PARAMS(0x123456789abcdef0ull, 60, 0)), TS_MISMATCH);
  RUN(&r, "shared_race", (dims){1}, (dims){64}, 0, rig_zeros(&r, 256), 1);
  rig_close(&r);
}
END_TEST

START_TEST(refuses_launches) {
  rig r;
  rig_open(&r, "bugs.ptx", 80);
  emu_addr x = rig_zeros(&r, 128);
  ck_assert_int_eq(rig_launch(&r, "free_use", (dims){0}, (dims){32}, 0, PARAMS(x)), TS_INVALID);
  ck_assert_int_eq(rig_launch(&r, "free_use", (dims){1}, (dims){2048}, 0, PARAMS(x)), TS_INVALID);
  ck_assert_int_eq(rig_launch(&r, "free_use", (dims){1}, (dims){32}, 1 << 20, PARAMS(x)), TS_INVALID);
  rig_close(&r);
}
END_TEST

int main(void) {
  Suite *s = suite_create("emulator checks");
  TCase *t = tcase_create("checks");
  int n = sizeof plants / sizeof plants[0];
  tcase_add_loop_test(t, finds_the_bug, 0, n);
  tcase_add_loop_test(t, twin_is_silent, 0, n);
  tcase_add_test(t, uninitialised_registers);
  tcase_add_test(t, use_after_free);
  tcase_add_test(t, time_out);
  tcase_add_test(t, bounds_without_checks);
  tcase_add_test(t, refuses_launches);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
