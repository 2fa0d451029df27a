// The whole road on small models: IR text -> plan -> schedules -> code for every host level of this CPU -> artifact -> runtime,
// against plain loops in double.
#include "drive/compile.h"
#include "runtime/tessera.h"
#include "tests/unit/llama_text.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char path[64];
static uint64_t seed;

typedef struct built {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} built;

static void fail_with(built *b, const char *what) {
  ts_text t = {0};
  ts_diags_print(&b->diags, &t, false);
  fprintf(stderr, "%s\n", ts_text_z(&t));
  ck_abort_msg("%s (seed %llu)", what, (unsigned long long)seed);
}

static void build(built *b, const llama_shape *s, bool fuse) {
  *b = (built){0};
  ts_arena_init(&b->arena);
  ts_interner_init(&b->names, &b->arena);
  ts_diags_init(&b->diags);
  b->m = ir_module_create(&b->arena, &b->names, &b->diags);
  ts_text t = {0};
  llama_text(s, &t);
  ts_str text = {ts_arena_strdup(&b->arena, ts_text_z(&t)), t.len};
  ts_text_deinit(&t);
  ts_sym file = ts_intern_z(&b->names, "llama.tir");
  ts_diags_add_source(&b->diags, file, text);
  if (ir_parse_module(b->m, file, text) != TS_OK) fail_with(b, "the text should parse");
  llama_fill(b->m, seed);
  fe_model model = {.module = b->m};
  drive_report report;
  const char *targets[] = {"host"};
  drive_options o = {.output = path, .targets = targets, .target_count = 1, .no_fusion = !fuse, .no_cache = true};
  if (drive_compile(&b->arena, &model, &o, &b->diags, &report) != TS_OK) fail_with(b, "the model should compile");
}

static void destroy(built *b) {
  ir_module_destroy(b->m);
  ts_diags_deinit(&b->diags);
  ts_interner_deinit(&b->names);
  ts_arena_deinit(&b->arena);
}

#define RUN(call)                                                                   \
  do {                                                                              \
    tsr_error error = {TSR_OK, ""}, *e = &error;                                    \
    ck_assert_msg((call) == TSR_OK, "%s: %s", #call, e->text);                       \
  } while (0)

typedef struct runner {
  tsr_artifact *artifact;
  tsr_device *device;
  tsr_session *session;
  tsr_buffer *tokens, *logits;
  int vocab;
} runner;

static bool open_runner(runner *r, const char *level, int rows, int vocab) {
  *r = (runner){.vocab = vocab};
  RUN(tsr_artifact_open(path, NULL, e, &r->artifact));
  tsr_device_options o = {.size = sizeof o, .threads = 2};
  if (tsr_device_open(level, &o, NULL, &r->device) != TSR_OK) {
    tsr_artifact_release(r->artifact);
    return false;   // this CPU is not of that level
  }
  RUN(tsr_session_create(r->artifact, r->device, NULL, e, &r->session));
  tsr_type logits = {TSR_F32, 2, {rows, vocab}};
  RUN(tsr_buffer_create(r->device, &logits, e, &r->logits));
  memset(tsr_buffer_data(r->logits), 0xFF, tsr_buffer_bytes(r->logits));
  RUN(tsr_session_bind(r->session, "prefill", "logits", r->logits));
  return true;
}

static void close_runner(runner *r) {
  tsr_session_destroy(r->session);
  tsr_buffer_release(r->tokens);
  tsr_buffer_release(r->logits);
  tsr_device_release(r->device);
  tsr_artifact_release(r->artifact);
}

// Ids outside the vocabulary stand in the padding: they must never be used.
static tsr_status feed(runner *r, const int32_t *const *ids, const tsr_row *rows, int count, tsr_error *e) {
  int longest = 1;
  for (int i = 0; i < count; i++)
    if ((int)rows[i].lengths[0] > longest) longest = (int)rows[i].lengths[0];
  tsr_type t = {TSR_I32, 2, {count, longest}};
  tsr_buffer_release(r->tokens);
  ck_assert_int_eq(tsr_buffer_create(r->device, &t, NULL, &r->tokens), TSR_OK);
  int32_t *data = tsr_buffer_data(r->tokens);
  for (int i = 0; i < count; i++)
    for (int k = 0; k < longest; k++) data[i * longest + k] = k < (int)rows[i].lengths[0] ? ids[i][k] : -123456;
  ck_assert_int_eq(tsr_session_bind(r->session, "prefill", "tokens", r->tokens), TSR_OK);
  return tsr_session_run(r->session, "prefill", rows, (size_t)count, NULL, e);
}

static double compare(const float *got, const double *want, int n) {
  double diff = 0, norm = 0;
  for (int i = 0; i < n; i++) {
    double d = fabs((double)got[i] - want[i]);
    if (!(d <= diff)) diff = d;
    norm = fmax(norm, fabs(want[i]));
  }
  return diff / norm;
}

static const char *const levels[] = {"host:avx2", "host:avx512", "host:avx512_vnni"};

// One prompt of each length in one call, then the same in pieces (8, then one by one): the cache must hold what was fed.
static void check_shape(const llama_shape *s, bool fuse, double bound) {
  built b;
  build(&b, s, fuse);
  int32_t ids[64];
  for (int i = 0; i < 64; i++) ids[i] = (int32_t)((seed / 7 + (uint64_t)i * 2654435761u) % (uint64_t)s->vocab);
  static const int lengths[] = {1, 2, 7, 8, 9, 17, 33};
  unsigned seen = 0;
  for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
    runner r;
    if (!open_runner(&r, levels[l], 1, s->vocab)) continue;
    seen++;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
      int n = lengths[k];
      double *want = llama_oracle(b.m, s, ids, n);
      const int32_t *whole[] = {ids};
      tsr_row row = {0, {(uint32_t)n}};
      RUN(tsr_sequence_create(r.session, &row.sequence));
      RUN(feed(&r, whole, &row, 1, e));
      double error = compare(tsr_buffer_data(r.logits), want, s->vocab);
      ck_assert_msg(error <= bound, "%s, %s, %d tokens: error %g (seed %llu)", s->encoding, levels[l], n, error, (unsigned long long)seed);
      RUN(tsr_sequence_truncate(r.session, row.sequence, 0));
      for (int at = 0; at < n;) {
        row.lengths[0] = n - at >= 8 ? 8 : 1;
        const int32_t *piece[] = {ids + at};
        RUN(feed(&r, piece, &row, 1, e));
        at += (int)row.lengths[0];
      }
      error = compare(tsr_buffer_data(r.logits), want, s->vocab);
      ck_assert_msg(error <= bound, "%s, %s, %d tokens in pieces: error %g (seed %llu)", s->encoding, levels[l], n, error, (unsigned long long)seed);
      RUN(tsr_sequence_destroy(r.session, row.sequence));
      free(want);
    }
    close_runner(&r);
  }
  if (!seen) fprintf(stderr, "SKIP: this CPU has none of the host levels\n");
  destroy(&b);
}

static const llama_shape small = {.dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 96, .context = 64, .encoding = "q4_1", .pairs = "adjacent"};
static const double exact = 2e-5;   // f32 sums of at most 200 terms, six layers of rounding

START_TEST(q4_1) { check_shape(&small, true, exact); }
END_TEST

START_TEST(unfused) { check_shape(&small, false, exact); }
END_TEST

START_TEST(other_encodings) {
  static const char *const encodings[] = {"q8_0", "q4_0", "q6_K", "f32", "f16", "bf16", "int4_g32", "int8_g64", "uint4_g64", "int8_row"};
  llama_shape s = small;
  s.encoding = encodings[_i];
  if (strcmp(s.encoding, "q6_K") == 0) s.dim = 256, s.heads = 4, s.head_dim = 64, s.ffn = 256;
  check_shape(&s, true, exact);
}
END_TEST

START_TEST(odd_sizes) {   // the shape of a real tiny model: ffn 172, head size 8
  llama_shape s = {.dim = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .ffn = 172, .vocab = 512, .context = 64, .pairs = "adjacent"};
  s.encoding = _i ? "int4_g32" : "f32";
  check_shape(&s, true, exact);
}
END_TEST

START_TEST(half_pairs) {
  llama_shape s = small;
  s.pairs = "half";
  check_shape(&s, true, exact);
}
END_TEST

START_TEST(integer_activations) {   // 8-bit codes per block of 32: compared loosely with the exact oracle
  llama_shape s = small;
  s.activations = "s8_block32";
  s.encoding = _i ? "q8_0" : "q4_1";
  check_shape(&s, true, 0.05);
}
END_TEST

// Lists of unequal length in one call give what each gives alone, bit for bit, and garbage in the padding changes nothing.
START_TEST(ragged_batch) {
  built b;
  build(&b, &small, true);
  int32_t first[40], second[40];
  for (int i = 0; i < 40; i++) first[i] = (i * 31 + 5) % small.vocab, second[i] = (i * 17 + 3) % small.vocab;
  runner r;
  if (open_runner(&r, "host", 2, small.vocab)) {
    const int32_t *both[] = {first, second};
    tsr_row rows[2] = {{0, {20}}, {0, {13}}};
    for (int i = 0; i < 2; i++) RUN(tsr_sequence_create(r.session, &rows[i].sequence));
    RUN(feed(&r, both, rows, 2, e));
    const float *got = tsr_buffer_data(r.logits);
    for (int i = 0; i < 2; i++) {
      double *want = llama_oracle(b.m, &small, both[i], (int)rows[i].lengths[0]);
      ck_assert(compare(got + i * small.vocab, want, small.vocab) <= exact);
      free(want);
    }
    close_runner(&r);
  }
  destroy(&b);
}
END_TEST

START_TEST(bad_token_is_an_error) {
  built b;
  build(&b, &small, true);
  runner r;
  if (open_runner(&r, "host", 1, small.vocab)) {
    int32_t ids[3] = {1, small.vocab, 2};
    const int32_t *all[] = {ids};
    tsr_row row = {0, {3}};
    tsr_error e = {TSR_OK, ""};
    RUN(tsr_sequence_create(r.session, &row.sequence));
    ck_assert_int_eq(feed(&r, all, &row, 1, &e), TSR_OUT_OF_RANGE);
    ck_assert_msg(strstr(e.text, "outside 0 .. 95"), "%s", e.text);
    ck_assert_uint_eq(tsr_sequence_length(r.session, row.sequence), 0);   // nothing was lost
    close_runner(&r);
  }
  destroy(&b);
}
END_TEST

int main(void) {
  seed = (uint64_t)time(NULL);
  const char *given = getenv("TESSERA_SEED");
  if (given) seed = strtoull(given, NULL, 0);
  printf("seed %llu\n", (unsigned long long)seed);
  snprintf(path, sizeof path, "/tmp/tessera-drive-llama-%d.tsr", (int)getpid());
  Suite *suite = suite_create("drive llama");
  TCase *t = tcase_create("host");
  tcase_set_timeout(t, 240);
  tcase_add_test(t, q4_1);
  tcase_add_test(t, unfused);
  tcase_add_loop_test(t, other_encodings, 0, 10);
  tcase_add_loop_test(t, odd_sizes, 0, 2);
  tcase_add_test(t, half_pairs);
  tcase_add_loop_test(t, integer_activations, 0, 2);
  tcase_add_test(t, ragged_batch);
  tcase_add_test(t, bad_token_is_an_error);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  unlink(path);
  return failed != 0;
}
