// The runtime's CUDA path against a stand-in for the driver (runtime_fake_cuda.c): choice of code, parameters, streams,
// states that roll back, errors.
#include "runtime_common.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static const char text[] =
  "launch @state for cuda { dim @batch : 1 .. 4 dim @seq : 1 .. 40 per @batch dim @n : 0 .. 1000\n"
  "weight @w : 4000 hash 0x1\n"
  "state @kv rows @batch length 60 page 8 { list @full full pool @k list @full layers 2 bytes 32 zero type \"f32\" }\n"
  "kernel @append(5 pointers, 3 sizes) kernel @sum_state(5 pointers, 2 sizes) kernel @add(3 pointers, 1 sizes)\n"
  "kernel @raise(2 pointers, 0 sizes) { raise \"first\" raise \"index out of range\" loc(\"s.yaml\":12:7) }\n"
  "function @f(%x : f32[batch, seq], %fail : i32[1]) -> (%y : f32[batch]) {\n"
  "  buffer %x = input 0 buffer %fail = input 1 buffer %y = output 0 buffer %l = length @kv buffer %r = ragged @seq\n"
  "  buffer %k = pool @kv @k buffer %t = table @kv @full buffer %e = error\n"
  "  launch @append grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %x) sizes [seq, 8, width(kv, full)]\n"
  "  launch @sum_state grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %y) sizes [8, width(kv, full)]\n"
  "  launch @raise grid [1, 1, 1] args(%fail, %e) sizes [] loc(\"s.yaml\":11:1)\n"
  "  advance @kv by @seq }\n"
  "function @add(%a : f32[n]) -> (%y : f32[n]) { buffer %a = input 0 buffer %w = weight @w buffer %y = output 0 buffer %t = workspace [n * 4] steps 0 .. 2\n"
  "  fill %t with 0x3f800000 bytes [n * 4] launch @add grid [n ceildiv 64, 1, 1] args(%a, %w, %y) sizes [n]\n"
  "  launch @add grid [n ceildiv 64, 1, 1] args(%y, %t, %y) sizes [n] } }";

static ts_status read_weight(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  (void)user, (void)d;
  float w[1000];
  for (int i = 0; i < 1000; i++) w[i] = (float)i;
  memcpy(dst, (char *)w + at, n);
  return TS_OK;
}

static void make(made *m, const char *ptx, uint32_t driver) {
  memset(m, 0, sizeof *m);
  ts_arena_init(&m->arena);
  ts_interner_init(&m->names, &m->arena);
  ts_diags_init(&m->diags);
  ts_status s = ir_launch_parse(&m->arena, &m->names, ts_intern_z(&m->names, "t"), ts_str_of(text), &m->diags, &m->program);
  ck_assert(s == TS_OK);
  m->artifact = cg_artifact_new(&m->arena);
  uint32_t program = cg_artifact_program(m->artifact, m->program);
  uint32_t t80 = cg_artifact_target(m->artifact, (cg_target){"sm_80", program, driver}),
           t75 = cg_artifact_target(m->artifact, (cg_target){"sm_75", program, 0});
  uint32_t cubin = cg_artifact_image(m->artifact, CG_IMAGE_CUBIN, "CUBIN80", 7),
           text80 = cg_artifact_image(m->artifact, CG_IMAGE_PTX, ptx, strlen(ptx));
  for (uint32_t k = 0; k < m->program->kernels.count; k++) {
    cg_artifact_code(m->artifact, t80, k,
                     (cg_code){.image = cubin, .ptx = text80, .threads = {64, 1, 1}, .shared = k ? 0 : 64 << 10});
    cg_artifact_code(m->artifact, t75, k, (cg_code){.image = IR_LNONE, .ptx = text80, .threads = {8, 8, 1}});
  }
  cg_artifact_weight(m->artifact, "w", 4000, read_weight, NULL);
  snprintf(m->path, sizeof m->path, "/tmp/tessera-test-XXXXXX");
  int fd = mkstemp(m->path);
  ck_assert(fd >= 0);
  close(fd);
  make_write(m);
}

static tsr_device *open_cuda(const char *uri) {
  tsr_device *d = NULL;
  tsr_device_options o = {.size = sizeof o, .driver = TEST_FAKE_CUDA};
  ck_ok(tsr_device_open(uri, &o, &test_error, &d));
  return d;
}

static int live_allocations(void) {
  void *lib = dlopen(TEST_FAKE_CUDA, RTLD_NOW);
  int (*fn)(void);
  *(void **)&fn = dlsym(lib, "fake_allocations");
  return fn();
}

START_TEST(runs) {
  uint64_t state = test_seed();
  made m;
  make(&m, ".version 9.0", 12000);
  static const char *const uris[] = {"cuda:0", "cuda:1", "cuda-emu:sm_80", "cuda-emu:sm_90"};
  for (int i = 0; i < 4; i++) {
    tsr_artifact *a = NULL;
    ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
    tsr_device *d = open_cuda(uris[i]);
    const char *target;
    ck_ok(tsr_device_target(d, a, &target));
    ck_assert_str_eq(target, "sm_80");   // exact, or the newest PTX below
    tsr_session *s = NULL, *second = NULL;
    ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
    ck_ok(tsr_session_create(a, d, NULL, &test_error, &second));   // shares the weights
    float x[1000], y[1000];
    for (int k = 0; k < 1000; k++) x[k] = test_float(&state);
    tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(1000), x), *by = make_buffer(d, TSR_F32, SHAPE(1000), NULL);
    for (int k = 0; k < 2; k++) {
      tsr_session *use = k ? second : s;
      ck_ok(tsr_session_bind(use, "add", "a", bx));
      ck_ok(tsr_session_bind(use, "add", "y", by));
      ck_ok(tsr_session_run(use, "add", NULL, 0, NULL, &test_error));
      ck_ok(tsr_buffer_read(by, 0, y, sizeof y));
      for (int n = 0; n < 1000; n++) ck_assert(y[n] == x[n] + (float)n + 1);
      if (k == 0) tsr_session_destroy(s);
    }
    tsr_buffer_release(bx);
    tsr_buffer_release(by);
    tsr_session_destroy(second);
    tsr_device_release(d);
    tsr_artifact_release(a);
    ck_assert_int_eq(live_allocations(), 0);
  }
  make_end(&m);
}
END_TEST

START_TEST(streams) {
  made m;
  make(&m, ".version 9.0", 0);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_cuda("cuda:0");
  tsr_session *s = NULL;
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  tsr_stream *stream = NULL;
  ck_ok(tsr_stream_wrap(d, &stream, &stream));   // any address does for the stand-in
  float x[40], y;
  for (int i = 0; i < 40; i++) x[i] = (float)i;
  tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(1, 40), x), *by = make_buffer(d, TSR_F32, SHAPE(1), NULL),
             *fail = make_buffer(d, TSR_I32, SHAPE(1), NULL);
  tsr_session_bind(s, "f", "x", bx);
  tsr_session_bind(s, "f", "y", by);
  tsr_session_bind(s, "f", "fail", fail);
  tsr_sequence q, fork;
  ck_ok(tsr_sequence_create(s, &q));
  tsr_row row = {q, {5}};
  ck_ok(tsr_session_run(s, "f", &row, 1, stream, &test_error));
  ck_assert_uint_eq(tsr_sequence_length(s, q), 5);   // provisional
  ck_ok(tsr_stream_wait(stream, &test_error));
  // Two queued, the second raises: back to 5 tokens, pages given back.
  tsr_memory before, after;
  ck_ok(tsr_session_memory(s, &before));
  row.lengths[0] = 10;
  ck_ok(tsr_session_run(s, "f", &row, 1, stream, &test_error));
  ck_ok(tsr_buffer_write(fail, 0, (int32_t[]){2}, 4));
  ck_ok(tsr_session_run(s, "f", &row, 1, stream, &test_error));
  ck_assert_uint_eq(tsr_sequence_length(s, q), 25);
  ck_assert_int_eq(tsr_stream_wait(stream, &test_error), TSR_OUT_OF_RANGE);
  ck_assert_str_eq(test_error.text, "s.yaml:12:7: index out of range (in f, kernel raise)");
  ck_assert_uint_eq(tsr_sequence_length(s, q), 5);
  ck_ok(tsr_session_memory(s, &after));
  ck_assert_uint_eq(before.pages_free, after.pages_free);
  ck_ok(tsr_stream_wait(stream, &test_error));   // settled
  // Without a stream the same error comes at once; afterwards all is well, and the state is what it was.
  ck_assert_int_eq(tsr_session_run(s, "f", &row, 1, NULL, &test_error), TSR_OUT_OF_RANGE);
  ck_ok(tsr_buffer_write(fail, 0, (int32_t[]){0}, 4));
  row.lengths[0] = 4;
  ck_ok(tsr_sequence_fork(s, q, &fork));   // the page of tokens 0..4 is shared and copied when written
  ck_ok(tsr_session_run(s, "f", &row, 1, stream, &test_error));
  row.sequence = fork;
  ck_ok(tsr_session_run(s, "f", &row, 1, NULL, &test_error));   // settles the stream first
  ck_ok(tsr_buffer_read(by, 0, &y, 4));
  float sum = 0;
  for (int i = 0; i < 9; i++) sum += (i < 5 ? x[i] : x[i - 5]) * (float)(1 + i % 7);
  ck_assert(y == sum);
  tsr_buffer_release(bx);
  tsr_buffer_release(by);
  tsr_buffer_release(fail);
  row.sequence = q;
  ck_ok(tsr_session_run(s, "f", &row, 1, stream, &test_error));
  tsr_session_destroy(s);   // with work on the stream
  tsr_stream_release(stream);
  tsr_device_release(d);
  tsr_artifact_release(a);
  ck_assert_int_eq(live_allocations(), 0);
  make_end(&m);
}
END_TEST

static char logged[400];
static void keep_log(void *user, int level, const char *line) {
  (void)user, (void)level;
  snprintf(logged, sizeof logged, "%s", line);
}

START_TEST(failures) {
  made m;
  make(&m, "not PTX", 0);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = NULL;
  tsr_device_options o = {.size = sizeof o, .driver = TEST_FAKE_CUDA, .log = keep_log};
  ck_ok(tsr_device_open("cuda:1", &o, &test_error, &d));
  tsr_session *s = NULL;
  ck_assert_int_eq(tsr_session_create(a, d, NULL, &test_error, &s), TSR_UNSUPPORTED);
  ck_assert_msg(strstr(test_error.text, "ptxas: line 7") != NULL, "%s", test_error.text);
  ck_assert_msg(strstr(logged, "ptxas: line 7") != NULL, "%s", logged);
  tsr_buffer *b = NULL;
  ck_assert_int_eq(tsr_buffer_create(d, &(tsr_type){TSR_F32, 1, {1 << 27}}, &test_error, &b), TSR_OUT_OF_MEMORY);
  ck_assert_int_eq(tsr_device_open("cuda:2", &o, &test_error, &d), TSR_NO_DEVICE);
  ck_assert_int_eq(tsr_device_open("cuda-emu:sm_75", &o, &test_error, &d), TSR_NO_DEVICE);
  ck_assert_int_eq(tsr_device_open("cuda-emu:80", &o, &test_error, &d), TSR_NO_DEVICE);
  tsr_device *host = open_host(1);
  ck_assert_int_eq(tsr_device_supports(host, a, &test_error), TSR_UNSUPPORTED);
  ck_assert_msg(strstr(test_error.text, "sm_80 is not for the host; sm_75 is not for the host") != NULL, "%s", test_error.text);
  tsr_device_release(host);
  tsr_device_release(d);
  tsr_artifact_release(a);
  ck_assert_int_eq(live_allocations(), 0);
  make_end(&m);
  make(&m, ".version 9.0", 13010);   // a newer driver than there is: only sm_75's PTX is left
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  ck_ok(tsr_device_open("cuda:1", &o, &test_error, &d));
  const char *target;
  ck_ok(tsr_device_target(d, a, &target));
  ck_assert_str_eq(target, "sm_75");
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime_cuda");
  TCase *c = tcase_create("cuda");
  suite_add_tcase(s, c);
  tcase_add_test(c, runs);
  tcase_add_test(c, streams);
  tcase_add_test(c, failures);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
