// The runtime on real artifacts: launch text, compiled kernels, writer, reader, host device; results against plain C.
#include "runtime_common.h"

#include "base/pool.h"
#include "ir/dtype.h"
#include "runtime/dlpack.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static const char add_text[] =
  "launch @add for host { dim @n : 0 .. 100000 kernel @add(3 pointers, 1 sizes)\n"
  "function @f(%a : f32[n], %b : f32[n]) -> (%y : f32[n]) {\n"
  "  buffer %a = input 0 buffer %b = input 1 buffer %y = output 0\n"
  "  launch @add grid [n ceildiv 64, 1, 1] args(%a, %b, %y) sizes [n] loc(\"add.yaml\":3:1) } }";

static void fill_random(float *x, size_t n, uint64_t *state) {
  for (size_t i = 0; i < n; i++) x[i] = test_float(state);
}

static void check_add(tsr_session *s, tsr_device *d, int64_t n, uint64_t *state) {
  float *a = malloc((size_t)n * 4 + 4), *b = malloc((size_t)n * 4 + 4), *y = malloc((size_t)n * 4 + 4);
  fill_random(a, (size_t)n, state);
  fill_random(b, (size_t)n, state);
  memset(y, 0xff, (size_t)n * 4);
  tsr_buffer *ba = make_buffer(d, TSR_F32, SHAPE(n), a), *bb = make_buffer(d, TSR_F32, SHAPE(n), b),
             *by = make_buffer(d, TSR_F32, SHAPE(n), y);
  ck_ok(tsr_session_bind(s, "f", "a", ba));
  ck_ok(tsr_session_bind(s, "f", "b", bb));
  ck_ok(tsr_session_bind(s, "f", "y", by));
  ck_ok(tsr_session_run(s, "f", NULL, 0, NULL, &test_error));
  ck_ok(tsr_buffer_read(by, 0, y, (size_t)n * 4));
  for (int64_t i = 0; i < n; i++) ck_assert_msg(y[i] == a[i] + b[i], "n = %lld, element %lld", (long long)n, (long long)i);
  tsr_buffer_release(ba);
  tsr_buffer_release(bb);
  tsr_buffer_release(by);
  free(a);
  free(b);
  free(y);
}

START_TEST(elementwise) {
  uint64_t state = test_seed();
  made m;
  make_begin(&m, add_text);
  make_write(&m);
  FILE *file = fopen(m.path, "rb");
  static unsigned char bytes[1 << 20];
  size_t size = fread(bytes + 1, 1, sizeof bytes - 1, file);   // at an odd address
  fclose(file);
  for (int way = 0; way < 4; way++) {
    tsr_artifact *a = NULL;
    if (way < 2) ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
    else ck_ok(tsr_artifact_open_memory(bytes + 1, size, NULL, &test_error, &a));
    ck_ok(tsr_artifact_verify(a, &test_error));
    tsr_device *d = open_host(way % 2 ? 3 : 1);
    tsr_session *s = NULL;
    ck_ok(tsr_device_supports(d, a, &test_error));
    ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
    tsr_artifact_release(a);
    static const int64_t sizes[] = {0, 1, 63, 64, 65, 1000, 100000};
    for (int i = 0; i < 7; i++) check_add(s, d, sizes[i], &state);
    tsr_session_destroy(s);
    tsr_device_release(d);
  }
  make_end(&m);
}
END_TEST

// y = 2 ((a + b) + b) + b in five steps over four workspaces, of which only two are alive at a time, through copies and fills.
static const char chain_text[] =
  "launch @chain for host { dim @n : 1 .. 5000 weight @two : 4 hash 0x1\n"
  "kernel @add(3 pointers, 1 sizes) kernel @scale(3 pointers, 2 sizes)\n"
  "function @f(%a : f32[n], %b : f32[n]) -> (%y : f32[n]) {\n"
  "  buffer %a = input 0 buffer %b = input 1 buffer %y = output 0 buffer %w = weight @two\n"
  "  buffer %t0 = workspace [n * 4] steps 0 .. 1 buffer %t1 = workspace [n * 4] steps 1 .. 2\n"
  "  buffer %t2 = workspace [(n * 4) + 256] steps 2 .. 4 buffer %t3 = workspace [n * 4] steps 5 .. 6\n"
  "  launch @add grid [n ceildiv 64, 1, 1] args(%a, %b, %t0) sizes [n]\n"
  "  launch when [n < 3000] @add grid [n ceildiv 64, 1, 1] args(%t0, %b, %t1) sizes [n]\n"
  "    else @add grid [n ceildiv 64, 1, 1] args(%b, %t0, %t1) sizes [n]\n"
  "  launch @scale grid [7, n ceildiv 7, 1] args(%t1, %w, %t2 + [256]) sizes [n, 7]\n"
  "  fill %t2 with 0x3f800000 bytes [256]\n"
  "  copy %y from %t2 + [256] bytes [n * 4]\n"
  "  copy %t3 from %y bytes [n * 4]\n"
  "  launch @add grid [n ceildiv 64, 1, 1] args(%t3, %b, %y) sizes [n]\n"
  "} }";

static ts_status read_two(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  (void)user, (void)d;
  float two = 2;
  memcpy(dst, (char *)&two + at, n);
  return TS_OK;
}

typedef struct counts { int steps, launches; double seconds; } counts;
static void count(void *user, const tsr_profile_record *r) {
  counts *c = user;
  c->steps++;
  c->launches += r->kernel[0] != '(';
  c->seconds += r->seconds;
}

START_TEST(workspace) {
  uint64_t state = test_seed();
  made m;
  make_begin(&m, chain_text);
  cg_artifact_weight(m.artifact, "two", 4, read_two, NULL);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_host(2);
  for (int copy = 0; copy < 2; copy++) {
    tsr_session_options o = {
        .size = sizeof o, .limits = (tsr_limit[]){{"n", 4000}}, .limit_count = 1, .copy_weights = (uint32_t)copy};
    tsr_memory plan, used;
    ck_ok(tsr_session_plan(a, d, &o, &test_error, &plan));
    ck_assert_uint_eq(plan.workspace, 16000 + 16256);
    ck_assert_uint_eq(plan.weights, 4);
    tsr_session *s = NULL;
    ck_ok(tsr_session_create(a, d, &o, &test_error, &s));
    ck_ok(tsr_session_memory(s, &used));
    ck_assert_int_eq(memcmp(&plan, &used, sizeof plan), 0);
    static const int64_t sizes[] = {1, 65, 2999, 3000, 4000};
    for (int i = 0; i < 5; i++) {
      int64_t n = sizes[i];
      float x[4000], b[4000], y[4000];
      fill_random(x, (size_t)n, &state);
      fill_random(b, (size_t)n, &state);
      memset(y, 0xff, sizeof y);
      tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(n), x), *bb = make_buffer(d, TSR_F32, SHAPE(n), b),
                 *by = make_buffer(d, TSR_F32, SHAPE(n), y);
      ck_ok(tsr_session_bind(s, "f", "a", bx));
      ck_ok(tsr_session_bind(s, "f", "b", bb));
      ck_ok(tsr_session_bind(s, "f", "y", by));
      counts c = {0};
      ck_ok(tsr_session_profile(s, i == 1 ? count : NULL, &c));
      ck_ok(tsr_session_run(s, "f", NULL, 0, NULL, &test_error));
      ck_assert_int_eq(c.steps, i == 1 ? 7 : 0);
      ck_assert_int_eq(c.launches, i == 1 ? 4 : 0);
      ck_ok(tsr_buffer_read(by, 0, y, (size_t)n * 4));
      for (int64_t k = 0; k < n; k++)
        ck_assert_msg(y[k] == (x[k] + b[k] + b[k]) * 2 + b[k], "n = %lld, element %lld", (long long)n, (long long)k);
      tsr_buffer_release(bx);
      tsr_buffer_release(bb);
      tsr_buffer_release(by);
    }
    float big[4001] = {0};
    tsr_buffer *over = make_buffer(d, TSR_F32, SHAPE(4001), big);
    ck_ok(tsr_session_bind(s, "f", "a", over));
    ck_assert_int_eq(tsr_session_run(s, "f", NULL, 0, NULL, &test_error), TSR_OUT_OF_RANGE);
    ck_assert_msg(strstr(test_error.text, "n = 4001") && strstr(test_error.text, "4000"), "%s", test_error.text);
    tsr_buffer_release(over);
    tsr_session_destroy(s);
  }
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

static const char ragged_text[] =
  "launch @ragged for host { dim @batch : 1 .. 8 dim @seq : 1 .. 100 per @batch kernel @sum_rows(3 pointers, 1 sizes)\n"
  "function @f(%x : f32[batch, seq]) -> (%y : f32[batch]) {\n"
  "  buffer %x = input 0 buffer %y = output 0 buffer %l = ragged @seq\n"
  "  require [total(seq) < 300] \"too many tokens\" loc(\"r.yaml\":8:3)\n"
  "  launch @sum_rows grid [batch, 1, 1] args(%x, %l, %y) sizes [seq] } }";

START_TEST(ragged) {
  uint64_t state = test_seed();
  made m;
  make_begin(&m, ragged_text);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_host(2);
  tsr_session *s = NULL;
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  tsr_dim_info info;
  ck_ok(tsr_artifact_dim(a, 1, &info));
  ck_assert(info.ragged == 1 && strcmp(info.per, "batch") == 0);
  tsr_function_info fi;
  ck_ok(tsr_artifact_function(a, 0, &fi));
  ck_assert(fi.rows && !fi.states && fi.inputs == 1 && fi.outputs == 1);
  for (int round = 0; round < 50; round++) {
    int64_t batch = 1 + (int64_t)(test_random(&state) % 8), extent = 30 + (int64_t)(test_random(&state) % 8);
    float x[8 * 100], y[8];
    fill_random(x, (size_t)(batch * extent), &state);
    memset(y, 0xff, sizeof y);
    tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(batch, extent), x), *by = make_buffer(d, TSR_F32, SHAPE(batch), y);
    tsr_row rows[8] = {{0}};
    for (int64_t i = 0; i < batch; i++) rows[i].lengths[0] = 1 + (uint32_t)(test_random(&state) % 30);
    ck_ok(tsr_session_bind(s, "f", "x", bx));
    ck_ok(tsr_session_bind(s, "f", "y", by));
    ck_ok(tsr_session_run(s, "f", rows, (size_t)batch, NULL, &test_error));
    ck_ok(tsr_buffer_read(by, 0, y, (size_t)batch * 4));
    for (int64_t i = 0; i < batch; i++) {
      float sum = 0;
      for (uint32_t k = 0; k < rows[i].lengths[0]; k++) sum += x[i * extent + k];
      ck_assert(y[i] == sum);
    }
    rows[0].lengths[0] = (uint32_t)extent + 1;   // longer than the buffer holds
    ck_assert_int_eq(tsr_session_run(s, "f", rows, (size_t)batch, NULL, &test_error), TSR_INVALID);
    rows[0].lengths[0] = 0;                      // under the bound
    ck_assert_int_eq(tsr_session_run(s, "f", rows, (size_t)batch, NULL, &test_error), TSR_OUT_OF_RANGE);
    rows[0].lengths[0] = 1;
    ck_assert_int_eq(tsr_session_run(s, "f", rows, (size_t)batch + 1, NULL, &test_error),
                     batch == 8 ? TSR_OUT_OF_RANGE : TSR_INVALID);
    ck_assert_int_eq(tsr_session_run(s, "f", NULL, 0, NULL, &test_error), TSR_INVALID);
    tsr_buffer_release(bx);
    tsr_buffer_release(by);
  }
  float x[8 * 60] = {0}, y[8];
  tsr_buffer *bx = make_buffer(d, TSR_F32, SHAPE(8, 60), x), *by = make_buffer(d, TSR_F32, SHAPE(8), y);
  tsr_row rows[8];
  for (int i = 0; i < 8; i++) rows[i] = (tsr_row){.lengths = {i == 0 ? 20 : 40}};
  ck_ok(tsr_session_bind(s, "f", "x", bx));
  ck_ok(tsr_session_bind(s, "f", "y", by));
  ck_assert_int_eq(tsr_session_run(s, "f", rows, 8, NULL, &test_error), TSR_OUT_OF_RANGE);
  ck_assert_str_eq(test_error.text, "r.yaml:8:3: f: too many tokens");
  tsr_buffer_release(bx);
  tsr_buffer_release(by);
  tsr_session_destroy(s);
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

// Two layers: the tokens go to layer 1; layer 0 belongs to nobody. `fail` raises after the append.
static const char state_text[] =
  "launch @state for host { dim @batch : 1 .. 4 dim @seq : 1 .. 40 per @batch\n"
  "state @kv rows @batch length 60 page 8 { list @full full pool @k list @full layers 2 bytes 32 zero type \"f32\" }\n"
  "kernel @append(5 pointers, 3 sizes) { raise \"no page\" } kernel @sum_state(5 pointers, 2 sizes) { raise \"no page\" }\n"
  "kernel @raise(1 pointers, 0 sizes) { raise \"first\" raise \"index out of range\" loc(\"s.yaml\":12:7) }\n"
  "function @f(%x : f32[batch, seq], %fail : i32[1]) -> (%y : f32[batch]) {\n"
  "  buffer %x = input 0 buffer %fail = input 1 buffer %y = output 0 buffer %l = length @kv buffer %r = ragged @seq\n"
  "  buffer %k = pool @kv @k buffer %t = table @kv @full\n"
  "  launch @append grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %x) sizes [seq, 8, width(kv, full)]\n"
  "  launch @sum_state grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %y) sizes [8, width(kv, full)]\n"
  "  launch @raise grid [1, 1, 1] args(%fail) sizes [] loc(\"s.yaml\":11:1)\n"
  "  advance @kv by @seq } }";

enum { MODELS = 12, LONGEST = 60 };
typedef struct model { tsr_sequence handle; uint32_t length; float tokens[LONGEST]; } model;

static float model_sum(const model *q, const float *more, uint32_t count) {
  float sum = 0;
  for (uint32_t i = 0; i < q->length + count; i++)
    sum += (i < q->length ? q->tokens[i] : more[i - q->length]) * (float)(1 + i % 7);
  return sum;
}

typedef struct machine {
  tsr_session *s;
  tsr_buffer *x, *y, *fail;
  model models[MODELS];
  uint64_t state;
  uint64_t pages;
  int appended, refused, failed;
} machine;

static void step_append(machine *w) {
  tsr_row rows[4] = {{0}};
  model *picked[4];
  uint32_t count = 0, want = 1 + (uint32_t)(test_random(&w->state) % 4);
  for (int i = 0; i < MODELS && count < want; i++) {
    model *q = &w->models[(i + (int)(w->state % MODELS)) % MODELS];
    uint32_t length = 1 + (uint32_t)(test_random(&w->state) % 17);
    bool there = false;
    for (uint32_t k = 0; k < count; k++) there |= picked[k] == q;
    if (!q->handle || there || q->length + length > LONGEST) continue;
    picked[count] = q;
    rows[count++] = (tsr_row){.sequence = q->handle, .lengths = {length}};
  }
  if (!count) return;
  float x[4 * 40], y[4];
  fill_random(x, 4 * 40, &w->state);
  memset(y, 0xff, sizeof y);
  int32_t fail = test_random(&w->state) % 8 == 0 ? 2 : 0;
  ck_ok(tsr_buffer_reshape(w->x, &(tsr_type){TSR_F32, 2, {count, 40}}));
  ck_ok(tsr_buffer_reshape(w->y, &(tsr_type){TSR_F32, 1, {count}}));
  ck_ok(tsr_buffer_write(w->x, 0, x, count * 40 * 4));
  ck_ok(tsr_buffer_write(w->fail, 0, &fail, 4));
  tsr_memory before, after;
  ck_ok(tsr_session_memory(w->s, &before));
  tsr_status status = tsr_session_run(w->s, "f", rows, count, NULL, &test_error);
  ck_ok(tsr_session_memory(w->s, &after));
  if (status == TSR_OUT_OF_PAGES) {
    w->refused++;
    ck_assert_uint_eq(before.pages_free, after.pages_free);
  } else if (fail) {
    w->failed++;
    ck_assert_int_eq(status, TSR_OUT_OF_RANGE);
    ck_assert_str_eq(test_error.text, "s.yaml:12:7: index out of range (in f, kernel raise)");
  } else {
    ck_ok(status);
    w->appended++;
    ck_ok(tsr_buffer_read(w->y, 0, y, count * 4));
    for (uint32_t i = 0; i < count; i++) {
      ck_assert_msg(y[i] == model_sum(picked[i], x + i * 40, rows[i].lengths[0]), "row %u", i);
      memcpy(picked[i]->tokens + picked[i]->length, x + i * 40, rows[i].lengths[0] * 4);
      picked[i]->length += rows[i].lengths[0];
    }
  }
  for (uint32_t i = 0; i < count; i++) ck_assert_uint_eq(tsr_sequence_length(w->s, picked[i]->handle), picked[i]->length);
}

static void step_sequences(machine *w) {
  model *q = &w->models[test_random(&w->state) % MODELS], *r = &w->models[test_random(&w->state) % MODELS];
  switch (test_random(&w->state) % 4) {
    case 0:
      if (!q->handle) {
        ck_ok(tsr_sequence_create(w->s, &q->handle));
        q->length = 0;
      }
      break;
    case 1:
      if (q->handle && !r->handle) {
        *r = *q;
        ck_ok(tsr_sequence_fork(w->s, q->handle, &r->handle));
      }
      break;
    case 2:
      if (q->handle && q->length) {
        q->length = (uint32_t)(test_random(&w->state) % (q->length + 1));
        ck_ok(tsr_sequence_truncate(w->s, q->handle, q->length));
        ck_assert_int_eq(tsr_sequence_truncate(w->s, q->handle, q->length + 1), TSR_OUT_OF_RANGE);
      }
      break;
    default:
      if (q->handle && test_random(&w->state) % 2) {
        ck_ok(tsr_sequence_destroy(w->s, q->handle));
        ck_assert_int_eq(tsr_sequence_destroy(w->s, q->handle), TSR_NOT_FOUND);
        ck_assert_uint_eq(tsr_sequence_length(w->s, q->handle), 0);
        q->handle = 0;
      }
  }
}

START_TEST(states) {
  machine w = {.state = test_seed()};
  made m;
  make_begin(&m, state_text);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_host(2);
  tsr_session_options o = {.size = sizeof o, .sequences = MODELS, .tokens = 8 * 30};
  ck_ok(tsr_session_create(a, d, &o, &test_error, &w.s));
  float x[4 * 40] = {0}, y[4];
  w.x = make_buffer(d, TSR_F32, SHAPE(4, 40), x);
  w.y = make_buffer(d, TSR_F32, SHAPE(4), y);
  w.fail = make_buffer(d, TSR_I32, SHAPE(1), (int32_t[]){0});
  ck_ok(tsr_session_bind(w.s, "f", "x", w.x));
  ck_ok(tsr_session_bind(w.s, "f", "y", w.y));
  ck_ok(tsr_session_bind(w.s, "f", "fail", w.fail));
  for (int i = 0; i < 20000; i++) {
    if (test_random(&w.state) % 3) step_append(&w);
    else step_sequences(&w);
  }
  ck_assert_int_gt(w.appended, 500);
  ck_assert_int_gt(w.refused, 10);
  ck_assert_int_gt(w.failed, 10);
  for (int i = 0; i < MODELS; i++)
    if (w.models[i].handle) ck_ok(tsr_sequence_destroy(w.s, w.models[i].handle));
  tsr_memory memory;
  ck_ok(tsr_session_memory(w.s, &memory));
  ck_assert_uint_eq(memory.pages, 30);
  ck_assert_uint_eq(memory.pages_free, 30);   // nothing leaks
  // Handles: the same row twice, a stranger, past the bound, too many sequences.
  tsr_sequence q[MODELS + 1];
  for (int i = 0; i < MODELS; i++) ck_ok(tsr_sequence_create(w.s, &q[i]));
  ck_assert_int_eq(tsr_sequence_create(w.s, &q[MODELS]), TSR_OUT_OF_PAGES);
  tsr_row rows[2] = {{q[0], {40}}, {q[0], {1}}};
  ck_ok(tsr_buffer_reshape(w.x, &(tsr_type){TSR_F32, 2, {2, 40}}));
  ck_ok(tsr_buffer_reshape(w.y, &(tsr_type){TSR_F32, 1, {2}}));
  ck_assert_int_eq(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error), TSR_INVALID);
  rows[1].sequence = 12345;
  ck_assert_int_eq(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error), TSR_NOT_FOUND);
  ck_ok(tsr_buffer_write(w.fail, 0, (int32_t[]){0}, 4));
  rows[1].sequence = q[1];
  ck_ok(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error));
  rows[0].lengths[0] = 21;
  ck_assert_int_eq(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error), TSR_OUT_OF_RANGE);
  ck_assert_msg(strstr(test_error.text, "'kv' has 40 tokens and would get 21 more; its bound is 60") != NULL, "%s",
                test_error.text);
  ck_ok(tsr_session_cancel(w.s));
  rows[0].lengths[0] = 20;
  ck_assert_int_eq(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error), TSR_CANCELLED);
  ck_ok(tsr_session_run(w.s, "f", rows, 2, NULL, &test_error));
  tsr_buffer_release(w.x);
  tsr_buffer_release(w.y);
  tsr_buffer_release(w.fail);
  tsr_session_destroy(w.s);
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

static const char error_text[] =
  "launch @errors for host { dim @n : 8 .. 64 step 8\n"
  "kernel @error_word(2 pointers, 0 sizes) { raise \"device raise\" loc(\"e.yaml\":4:4) } kernel @raise(1 pointers, 0 sizes)\n"
  "kernel @scratch(1 pointers, 1 sizes) { raise \"bad api\" }\n"
  "function @word(%x : i32[1]) -> () { buffer %x = input 0 buffer %e = error\n"
  "  launch @error_word grid [0, 1, 1] args(%x, %e) sizes []\n"
  "  launch @error_word grid [1, 1, 1] args(%x, %e) sizes [] loc(\"e.yaml\":9:9) }\n"
  "function @bad(%x : i32[1]) -> () { buffer %x = input 0 launch @raise grid [1, 1, 1] args(%x) sizes [] loc(\"e.yaml\":2:2) }\n"
  "function @sizes(%x : i32[n], %z : i32[n * 2] as \"packed\" bytes [n * 3]) -> () { buffer %x = input 0\n"
  "  launch when [(8 floordiv (n - 16)) < 100] @raise grid [1, 1, 1] args(%x + [(n * 4) - 256]) sizes [] loc(\"e.yaml\":3:3) }\n"
  "function @scratch() -> (%y : f32[n]) { buffer %y = output 0 launch @scratch grid [n, 1, 1] args(%y) sizes [1000] } }";

START_TEST(errors) {
  made m;
  make_begin(&m, error_text);
  cg_artifact_meta(m.artifact, "licence", "none");
  cg_artifact_meta(m.artifact, "author", "x");
  cg_artifact_meta(m.artifact, "author", "me");
  cg_artifact_blob(m.artifact, "tokenizer", "abc", 3);
  cg_artifact_blob(m.artifact, "empty", "", 0);
  cg_artifact_manifest(m.artifact, "{}", 2);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  ck_assert_str_eq(tsr_artifact_metadata(a, "author"), "me");
  ck_assert_ptr_null(tsr_artifact_metadata(a, "nothing"));
  const void *data;
  size_t size;
  ck_ok(tsr_artifact_section(a, "tokenizer", &data, &size));
  ck_assert(size == 3 && memcmp(data, "abc", 3) == 0);
  ck_ok(tsr_artifact_section(a, "manifest", &data, &size));
  ck_assert_uint_eq(size, 2);
  ck_assert_int_eq(tsr_artifact_section(a, "other", &data, &size), TSR_NOT_FOUND);
  tsr_device *d = open_host(2);
  tsr_session *s = NULL;
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  tsr_buffer *one = make_buffer(d, TSR_I32, SHAPE(1), (int32_t[]){0}), *n16 = make_buffer(d, TSR_I32, SHAPE(16), NULL);
  tsr_buffer *n24 = make_buffer(d, TSR_I32, SHAPE(24), NULL), *bytes = make_buffer(d, TSR_U8, SHAPE(48), NULL),
             *y = make_buffer(d, TSR_F32, SHAPE(64), NULL);
#define RUN(function, status, says)                                                                  \
  do {                                                                                               \
    test_error.text[0] = 0;                                                                          \
    ck_assert_int_eq(tsr_session_run(s, function, NULL, 0, NULL, &test_error), status);              \
    ck_assert_msg(strstr(test_error.text, says) != NULL, "%s", test_error.text);                     \
  } while (0)
  RUN("nothing", TSR_NOT_FOUND, "no function 'nothing'");
  RUN("word", TSR_INVALID, "no buffer is bound to 'x'");
  ck_assert_int_eq(tsr_session_bind(s, "word", "x", y), TSR_INVALID);   // f32
  ck_assert_int_eq(tsr_session_bind(s, "word", "q", one), TSR_NOT_FOUND);
  ck_ok(tsr_session_bind(s, "word", "x", one));
  RUN("word", TSR_OK, "");
  ck_ok(tsr_buffer_write(one, 0, (int32_t[]){1}, 4));
  RUN("word", TSR_OUT_OF_RANGE, "e.yaml:4:4: device raise (in word, kernel error_word)");
  ck_ok(tsr_buffer_write(one, 0, (int32_t[]){0}, 4));
  RUN("word", TSR_OK, "");   // the word was cleared
  ck_ok(tsr_session_bind(s, "bad", "x", one));
  RUN("bad", TSR_OK, "");
  ck_ok(tsr_buffer_write(one, 0, (int32_t[]){-7}, 4));
  RUN("bad", TSR_INTERNAL, "e.yaml:2:2: kernel raise returned -7");
  ck_ok(tsr_session_bind(s, "sizes", "x", n16));
  ck_ok(tsr_session_bind(s, "sizes", "z", bytes));
  RUN("sizes", TSR_OUT_OF_RANGE, "e.yaml:3:3: sizes, step 0: a guard is out of range");   // division by zero
  ck_ok(tsr_session_bind(s, "sizes", "x", n24));
  RUN("sizes", TSR_INVALID, "'z' needs 72 bytes, the buffer has 48");
  tsr_buffer *bytes72 = make_buffer(d, TSR_U8, SHAPE(72), NULL), *n23 = make_buffer(d, TSR_I32, SHAPE(23), NULL);
  ck_ok(tsr_session_bind(s, "sizes", "z", bytes72));
  RUN("sizes", TSR_OUT_OF_RANGE, "an argument's offset is out of range");
  ck_ok(tsr_session_bind(s, "sizes", "x", n23));
  RUN("sizes", TSR_OUT_OF_RANGE, "n = 23 by x, but the bounds are 8 .. 64 step 8");
  ck_ok(tsr_session_bind(s, "scratch", "y", y));
  RUN("scratch", TSR_OK, "");
  float out[64];
  ck_ok(tsr_buffer_read(y, 0, out, sizeof out));
  for (int i = 0; i < 64; i++) ck_assert(out[i] == 1000.0f * (float)i);
  ck_assert_int_eq(tsr_buffer_read(y, 4, out, sizeof out), TSR_OUT_OF_RANGE);
  tsr_buffer *all[] = {one, n16, n24, bytes, y, bytes72, n23};
  for (int i = 0; i < 7; i++) tsr_buffer_release(all[i]);
  tsr_session_destroy(s);
  tsr_session_options o = {.size = sizeof o, .limits = (tsr_limit[]){{"n", 65}}, .limit_count = 1};
  ck_assert_int_eq(tsr_session_create(a, d, &o, &test_error, &s), TSR_OUT_OF_RANGE);
  o.limits = (tsr_limit[]){{"q", 1}};
  ck_assert_int_eq(tsr_session_create(a, d, &o, &test_error, &s), TSR_NOT_FOUND);
  o.limit_count = 0, o.functions = (const char *[]){"word"}, o.function_count = 1;
  ck_ok(tsr_session_create(a, d, &o, &test_error, &s));
  RUN("bad", TSR_NOT_FOUND, "not named");
  tsr_session_destroy(s);
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

static int serial(void *executor, uint32_t count, tsr_block_fn *block, void *user) {
  ++*(int *)executor;
  for (uint32_t i = count; i-- > 0;) {
    int r = block(user, i, i % 2);
    if (r) return r;
  }
  return 0;
}
static void *counted_allocate(void *user, size_t bytes, size_t align) {
  ++*(int *)user;
  return aligned_alloc(align, (bytes + align - 1) / align * align);
}
static void counted_release(void *user, void *p, size_t bytes) {
  (void)bytes;
  --*(int *)user;
  free(p);
}

START_TEST(devices) {
  uint64_t state = test_seed();
  made m;
  make_begin(&m, add_text);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = NULL;
  int calls = 0, blocks = 0;
  tsr_device_options o = {.size = sizeof o,
                          .threads = 2,
                          .parallel = serial,
                          .executor = &calls,
                          .allocate = counted_allocate,
                          .release = counted_release,
                          .allocator = &blocks};
  ck_ok(tsr_device_open("host:x86_64", &o, &test_error, &d));
  tsr_session *s = NULL;
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  check_add(s, d, 1000, &state);
  ck_assert_int_gt(calls, 0);
  tsr_session_destroy(s);
  tsr_device_release(d);
  ck_assert_int_eq(blocks, 0);
  ck_assert_int_eq(tsr_device_open("host:z80", NULL, &test_error, &d), TSR_NO_DEVICE);
  ck_assert_int_eq(tsr_device_open("tpu", NULL, &test_error, &d), TSR_NO_DEVICE);
  ck_assert_int_eq(tsr_device_open("cuda:x", NULL, &test_error, &d), TSR_NO_DEVICE);
  tsr_device_options none = {.size = sizeof none, .driver = "/nonexistent/libcuda.so"};
  ck_assert_int_eq(tsr_device_open("cuda:0", &none, &test_error, &d), TSR_NO_DEVICE);
  ck_assert_msg(strstr(test_error.text, "/nonexistent/libcuda.so") != NULL, "%s", test_error.text);
  o.size = 2;
  ck_assert_int_eq(tsr_device_open("host", &o, &test_error, &d), TSR_INVALID);
  ck_assert_int_eq(tsr_artifact_open("/nonexistent.tsr", NULL, &test_error, &a), TSR_NOT_FOUND);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

// Many short loops of changing length and function right behind each other: every block runs exactly once, and no late worker
// takes a block of the loop that follows.
typedef struct loop {
  uint32_t count;
  _Atomic uint32_t ran[64];
} loop;

static int mark_block(void *user, uint32_t block, unsigned worker) {
  loop *l = user;
  if (worker >= 3 || block >= l->count) return 2;
  atomic_fetch_add(&l->ran[block], 1);
  return 0;
}

static int stop_at_5(void *user, uint32_t block, unsigned worker) {
  (void)user, (void)worker;
  return block == 5 ? 7 : 0;
}

START_TEST(pool) {
  uint64_t state = test_seed();
  ts_pool *p = ts_pool_create(3);
  static loop loops[2];
  for (int i = 0; i < 20000; i++) {
    loop *l = &loops[i % 2];
    l->count = 1 + (uint32_t)(test_random(&state) % 64);
    memset(l->ran, 0, sizeof l->ran);
    ck_assert_int_eq(ts_pool_run(p, mark_block, l, l->count), 0);
    for (uint32_t k = 0; k < 64; k++) ck_assert_uint_eq(l->ran[k], k < l->count);
    if (i % 100 == 0) ck_assert_int_eq(ts_pool_run(p, stop_at_5, NULL, 4000000000u), 7);   // and leaves the rest at once
  }
  ts_pool_destroy(p);
}
END_TEST

// Two threads, each with a session of its own, share the artifact, the device and its workers.
typedef struct sharer {
  tsr_artifact *a;
  tsr_device *d;
  uint64_t state;
} sharer;

static void *share(void *user) {
  sharer *w = user;
  for (int i = 0; i < 20; i++) {
    tsr_session *s = NULL;
    tsr_session_options o = {.size = sizeof o, .copy_weights = (uint32_t)(i % 2)};
    ck_ok(tsr_session_create(w->a, w->d, &o, &test_error, &s));
    check_add(s, w->d, (int64_t)(test_random(&w->state) % 3000), &w->state);
    tsr_session_destroy(s);
  }
  return NULL;
}

START_TEST(threads) {
  uint64_t state = test_seed();
  made m;
  make_begin(&m, add_text);
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  sharer w[2] = {{a, open_host(2), state}, {a, NULL, state + 77}};
  w[1].d = w[0].d;
  pthread_t other;
  ck_assert_int_eq(pthread_create(&other, NULL, share, &w[0]), 0);
  share(&w[1]);
  pthread_join(other, NULL);
  tsr_device_release(w[0].d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

// A call over very many blocks is cancelled from another thread; the session is as good as before.
static void *cancel_soon(void *session) {
  usleep(20000);
  tsr_session_cancel(session);
  return NULL;
}

START_TEST(cancelled) {
  made m;
  make_begin_stub(&m, "launch @long for host { dim @n : 1 .. 2000000000 kernel @add(0 pointers, 0 sizes)\n"
                      "function @f(%x : i1[n]) -> () { launch @add grid [n, 1, 1] args() sizes [] launch @add grid [n, 1, 1] args() sizes [] } }");
  make_write(&m);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  tsr_device *d = open_host(2);
  tsr_session *s = NULL;
  ck_ok(tsr_session_create(a, d, NULL, &test_error, &s));
  tsr_buffer *x = NULL, *small = make_buffer(d, TSR_I1, SHAPE(8), NULL);
  ck_ok(tsr_buffer_wrap(d, &(tsr_type){TSR_I1, 1, {2000000000}}, tsr_buffer_data(small), &test_error, &x));
  ck_ok(tsr_session_bind(s, "f", "x", x));
  pthread_t other;
  ck_assert_int_eq(pthread_create(&other, NULL, cancel_soon, s), 0);
  ck_assert_int_eq(tsr_session_run(s, "f", NULL, 0, NULL, &test_error), TSR_CANCELLED);
  pthread_join(other, NULL);
  ck_ok(tsr_session_bind(s, "f", "x", small));
  ck_ok(tsr_session_run(s, "f", NULL, 0, NULL, &test_error));
  tsr_buffer_release(x);
  tsr_buffer_release(small);
  tsr_session_destroy(s);
  tsr_device_release(d);
  tsr_artifact_release(a);
  make_end(&m);
}
END_TEST

static int deleted;
static void mark_deleted(DLManagedTensorVersioned *t) {
  (void)t;
  deleted++;
}

START_TEST(dlpack) {
  tsr_device *d = open_host(1);
  float data[12];
  for (int i = 0; i < 12; i++) data[i] = (float)i;
  DLManagedTensorVersioned t = {.version = {1, 0},
                                .deleter = mark_deleted,
                                .dl_tensor = {.data = data,
                                              .device = {DL_CPU, 0},
                                              .ndim = 2,
                                              .dtype = {DL_FLOAT, 32, 1},
                                              .shape = (int64_t[]){2, 5},
                                              .byte_offset = 8}};
  tsr_buffer *b = NULL;
  ck_ok(tsr_buffer_import(d, &t, &test_error, &b));
  float x;
  ck_ok(tsr_buffer_read(b, 36, &x, 4));
  ck_assert(x == 11);
  DLManagedTensorVersioned *out = NULL;
  ck_ok(tsr_buffer_export(b, &out));
  tsr_buffer_release(b);
  ck_assert_int_eq(deleted, 0);   // the export holds it
  ck_assert(out->dl_tensor.ndim == 2 && out->dl_tensor.shape[1] == 5 && out->dl_tensor.strides[0] == 5 &&
            out->dl_tensor.data == data + 2);
  out->deleter(out);
  ck_assert_int_eq(deleted, 1);
  t.dl_tensor.strides = (int64_t[]){1, 2};
  ck_assert_int_eq(tsr_buffer_import(d, &t, &test_error, &b), TSR_UNSUPPORTED);
  t.dl_tensor.strides = NULL;
  t.dl_tensor.shape = (int64_t[]){INT64_MAX, 3};
  ck_assert_int_eq(tsr_buffer_import(d, &t, &test_error, &b), TSR_INVALID);
  t.dl_tensor.shape = (int64_t[]){-1, 3};
  ck_assert_int_eq(tsr_buffer_import(d, &t, &test_error, &b), TSR_INVALID);
  t.dl_tensor.device.device_type = DL_CUDA;
  ck_assert_int_eq(tsr_buffer_import(d, &t, &test_error, &b), TSR_INVALID);
  t.version.major = 2;
  ck_assert_int_eq(tsr_buffer_import(d, &t, &test_error, &b), TSR_VERSION);
  ck_assert_int_eq(deleted, 1);   // refused tensors stay the caller's
  tsr_device_release(d);
}
END_TEST

START_TEST(dtypes_agree) {
  for (int i = 1; i < IR_DTYPE_COUNT; i++) {
    const ir_dtype_info *t = ir_dtype_get((ir_dtype)i);
    ck_assert_msg(tsr_dtype_name(t->code) && strcmp(tsr_dtype_name(t->code), t->name) == 0, "%s", t->name);
    ck_assert_uint_eq(tsr_dtype_bits(t->code), t->bits);
  }
  ck_assert_ptr_null(tsr_dtype_name(0));
}
END_TEST

START_TEST(writer) {
  // Same parts, same bytes; an identical file is left alone; missing parts are named.
  made m;
  make_begin(&m, chain_text);
  ck_assert(cg_artifact_write(m.artifact, m.path, NULL, &m.diags, NULL) == TS_INVALID);
  cg_artifact_weight(m.artifact, "two", 4, read_two, NULL);
  cg_artifact_report r;
  ck_assert(cg_artifact_write(m.artifact, m.path, NULL, &m.diags, &r) == TS_OK);
  ck_assert(r.changed && r.weight_bytes == 4 && r.code_bytes > 100);
  ck_assert(cg_artifact_write(m.artifact, m.path, NULL, &m.diags, &r) == TS_OK);
  ck_assert(!r.changed);
  // External weights: beside the artifact, found there, missed when gone.
  ck_assert(cg_artifact_write(m.artifact, m.path, &(cg_artifact_options){.external_weights = true}, &m.diags, &r) == TS_OK);
  tsr_artifact *a = NULL;
  ck_ok(tsr_artifact_open(m.path, NULL, &test_error, &a));
  ck_ok(tsr_artifact_verify(a, &test_error));
  char side[100] = "";
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_SECTIONS); i++)
    if (strstr(tsr_artifact_name(a, TSR_SECTIONS, i), ".tsrw"))
      snprintf(side, sizeof side, "/tmp/%s", tsr_artifact_name(a, TSR_SECTIONS, i));
  tsr_artifact_release(a);
  ck_assert_int_eq(unlink(side), 0);
  ck_assert_int_eq(tsr_artifact_open(m.path, NULL, &test_error, &a), TSR_NOT_FOUND);
  ck_assert_msg(strstr(test_error.text, side) != NULL, "%s", test_error.text);
  make_end(&m);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime");
  TCase *c = tcase_create("runtime");
  tcase_set_timeout(c, 60);
  suite_add_tcase(s, c);
  tcase_add_test(c, elementwise);
  tcase_add_test(c, workspace);
  tcase_add_test(c, ragged);
  tcase_add_test(c, states);
  tcase_add_test(c, errors);
  tcase_add_test(c, devices);
  tcase_add_test(c, pool);
  tcase_add_test(c, threads);
  tcase_add_test(c, cancelled);
  tcase_add_test(c, dlpack);
  tcase_add_test(c, dtypes_agree);
  tcase_add_test(c, writer);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
