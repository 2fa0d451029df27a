// The runtime's CUDA path on the emulator: a small artifact with PTX, opened and run as cuda-emu:sm_NN, against plain C; and what
// the runtime reports when a kernel of it goes wrong.
#include "runtime_common.h"

#include <stdlib.h>
#include <unistd.h>

static const char text[] =
  "launch @small for cuda { dim @n : 0 .. 5000\n"
  "weight @w : 20000 hash 0x1\n"
  "kernel @add(3 pointers, 1 sizes) kernel @wild(1 pointers, 1 sizes)\n"
  "function @add(%a : f32[n]) -> (%y : f32[n]) { buffer %a = input 0 buffer %w = weight @w buffer %y = output 0\n"
  "  buffer %t = workspace [n * 4] steps 0 .. 2\n"
  "  fill %t with 0x3f800000 bytes [n * 4] launch @add grid [n ceildiv 64, 1, 1] args(%a, %w, %y) sizes [n]\n"
  "  launch @add grid [n ceildiv 64, 1, 1] args(%y, %t, %y) sizes [n] }\n"
  "function @wild(%a : f32[n]) -> (%y : f32[n]) { buffer %a = input 0 buffer %y = output 0\n"
  "  launch @wild grid [n, 1, 1] args(%y) sizes [n] } }";

static const char ptx[] =
  ".version 7.0\n.target sm_75\n.address_size 64\n"
  ".visible .entry add(.param .u64 a, .param .u64 b, .param .u64 y, .param .u64 n)\n{\n"
  "  .reg .pred %p<2>; .reg .f32 %f<4>; .reg .b32 %r<4>; .reg .b64 %d<10>;\n"
  "  ld.param.u64 %d0, [a]; ld.param.u64 %d1, [b]; ld.param.u64 %d2, [y]; ld.param.u64 %d3, [n];\n"
  "  mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.s32 %r3, %r0, %r1, %r2; cvt.u64.u32 %d4, %r3;\n"
  "  setp.ge.u64 %p0, %d4, %d3; @%p0 bra DONE;\n"
  "  shl.b64 %d4, %d4, 2; add.s64 %d5, %d0, %d4; add.s64 %d6, %d1, %d4; add.s64 %d7, %d2, %d4;\n"
  "  ld.global.f32 %f0, [%d5]; ld.global.f32 %f1, [%d6]; add.rn.f32 %f2, %f0, %f1; st.global.f32 [%d7], %f2;\n"
  "DONE: ret;\n}\n"
  ".visible .entry wild(.param .u64 y, .param .u64 n)\n{\n"
  "  .reg .b32 %r<2>; .reg .b64 %d<4>;\n"
  "  ld.param.u64 %d0, [y]; mov.u32 %r0, 7; st.global.u32 [%d0+1073741824], %r0; ret;\n}\n";

static ts_status read_weight(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  (void)user, (void)d;
  for (size_t i = 0; i < n; i++) {
    float v = (float)((at + i) / 4);
    ((char *)dst)[i] = ((const char *)&v)[(at + i) % 4];
  }
  return TS_OK;
}

static void make(made *m) {
  memset(m, 0, sizeof *m);
  ts_arena_init(&m->arena);
  ts_interner_init(&m->names, &m->arena);
  ts_diags_init(&m->diags);
  ts_status s = ir_launch_parse(&m->arena, &m->names, ts_intern_z(&m->names, "t"), ts_str_of(text), &m->diags, &m->program);
  ck_assert(s == TS_OK);
  m->artifact = cg_artifact_new(&m->arena);
  uint32_t program = cg_artifact_program(m->artifact, m->program);
  uint32_t target = cg_artifact_target(m->artifact, (cg_target){"sm_75", program, 12000});
  uint32_t image = cg_artifact_image(m->artifact, CG_IMAGE_PTX, ptx, sizeof ptx);
  for (uint32_t k = 0; k < m->program->kernels.count; k++)
    cg_artifact_code(m->artifact, target, k, (cg_code){.image = IR_LNONE, .ptx = image, .threads = {64, 1, 1}});
  cg_artifact_weight(m->artifact, "w", 20000, read_weight, NULL);
  snprintf(m->path, sizeof m->path, "/tmp/tessera-test-XXXXXX");
  int fd = mkstemp(m->path);
  ck_assert(fd >= 0);
  close(fd);
  make_write(m);
}

static tsr_device *open_emulator(const char *uri) {
  tsr_device *d = NULL;
  tsr_device_options o = {.size = sizeof o, .driver = TEST_CUDA_EMU};
  ck_ok(tsr_device_open(uri, &o, &test_error, &d));
  return d;
}

START_TEST(runs) {
  uint64_t state = test_seed();
  made m;
  make(&m);
  static const char *const uris[] = {"cuda-emu:sm_80", "cuda-emu:sm_75", "cuda-emu:sm_90", "cuda-emu:sm_120"};
  for (int i = 0; i < 4; i++) {
    tsr_artifact *a = NULL;
    tsr_session *s = NULL;
    ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
    tsr_device *d = open_emulator(uris[i]);
    ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
    for (int round = 0; round < 4; round++) {
      int64_t n = round == 0 ? 1 : 1 + (int64_t)(test_random(&state) % 5000);
      float *x = malloc((size_t)n * 4), *y = malloc((size_t)n * 4);
      for (int64_t k = 0; k < n; k++) x[k] = test_float(&state);
      tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(n), x), *by = make_buffer(d, TSR_F32, SHAPE(n), NULL);
      ck_ok(tsr_session_bind(s, "add", "a", bx));
      ck_ok(tsr_session_bind(s, "add", "y", by));
      ck_ok(tsr_session_run(s, "add", NULL, 0, NULL, &test_error));
      ck_ok(tsr_buffer_read(by, 0, y, (size_t)n * 4));
      for (int64_t k = 0; k < n; k++) ck_assert(y[k] == x[k] + (float)k + 1);
      tsr_buffer_release(bx);
      tsr_buffer_release(by);
      free(x), free(y);
    }
    tsr_session_destroy(s);
    tsr_device_release(d);
    tsr_artifact_release(a);
  }
  make_end(&m);
}
END_TEST

START_TEST(goes_wrong) {
  made m;
  make(&m);
  tsr_artifact *a = NULL;
  tsr_session *s = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_emulator("cuda-emu:sm_86");
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  float x[3] = {1, 2, 3};
  tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(3), x), *by = make_buffer(d, TSR_F32, SHAPE(3), NULL);
  ck_ok(tsr_session_bind(s, "wild", "a", bx));
  ck_ok(tsr_session_bind(s, "wild", "y", by));
  ck_assert_int_eq(tsr_session_run(s, "wild", NULL, 0, NULL, &test_error), TSR_DEVICE_LOST);
  ck_assert_msg(strstr(test_error.text, "illegal memory access"), "%s", test_error.text);
  tsr_buffer_release(bx);
  tsr_buffer_release(by);
  tsr_session_destroy(s);
  tsr_device_release(d);
  d = NULL;
  tsr_device_options o = {.size = sizeof o, .driver = TEST_CUDA_EMU};
  ck_assert_int_eq(tsr_device_open("cuda-emu:sm_30", &o, &test_error, &d), TSR_NO_DEVICE);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

int main(void) {
  Suite *s = suite_create("emu_runtime");
  TCase *c = tcase_create("cuda-emu");
  tcase_add_test(c, runs);
  tcase_add_test(c, goes_wrong);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
