// The edit test: a kernel's dumped text, with one op changed, becomes an artifact whose results change by what the op says.
#include "drive/kernels.h"
#include "drive/text_file.h"
#include "drive/trial.h"
#include "passes/lower.h"
#include "base/file.h"
#include "runtime/tessera.h"
#include "tests/unit/llama_text.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];
static uint64_t seed;

typedef struct world {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} world;

static void begin(world *w) {
  *w = (world){0};
  ts_arena_init(&w->arena);
  ts_interner_init(&w->names, &w->arena);
  ts_diags_init(&w->diags);
}

static void end(world *w) {
  if (w->m) ir_module_destroy(w->m);
  ts_diags_deinit(&w->diags);
  ts_interner_deinit(&w->names);
  ts_arena_deinit(&w->arena);
}

static void broken(world *w, const char *what) {
  ts_text t = {0};
  ts_diags_print(&w->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("%s (TEST_SEED=%llu)", what, (unsigned long long)seed);
}

static const char *path_of(world *w, const char *name) { return ts_arena_printf(&w->arena, "%s/%s", folder, name); }

// Text of kernel `wo` (x + a1 W), portable or the decode schedule of a level.
static void write_kernel(world *w, const char *file, const char *level) {
  begin(w);
  w->m = ir_module_create(&w->arena, &w->names, &w->diags);
  ts_text t = {0};
  const llama_shape shape = {64, 4, 2, 16, 96, 71, 40, "q4_1", "half", NULL};
  llama_text(&shape, &t);
  if (ir_parse_module(w->m, ts_intern_z(&w->names, "llama"), ts_text_str(&t)) != TS_OK) broken(w, "parse");
  pass_log log = {.arena = &w->arena};
  plan *p;
  if (pass_lower(w->m, &(pass_lower_options){.fuse = true}, &log, &p) != TS_OK) broken(w, "lower");
  const ir_kernel *k = NULL;
  for (size_t i = 0; i < p->kernels.count; i++)
    if (strcmp(p->kernels.data[i]->name, "wo") == 0) k = p->kernels.data[i];
  ck_assert_ptr_nonnull(k);
  pass_schedules s;
  pass_host_target target = {ts_intern_z(&w->names, "host.avx2"), 16};
  if (level && pass_schedule_host(w->m, k, &target, &log, &s) != TS_OK) broken(w, "schedule");
  if (level) k = s.variants.data[1].kernel;   // decode
  ts_text_clear(&t);
  ir_print_kernel(w->m, k, true, &t);
  if (ts_file_write(path_of(w, file), ts_text_z(&t), t.len, &w->diags) != TS_OK) broken(w, "write");
  ts_text_deinit(&t);
}

static void replace(world *w, const char *file, const char *from, const char *to, const char *edited) {
  ts_str text;
  ck_assert(ts_file_read(&w->arena, path_of(w, file), &w->diags, &text) == TS_OK);
  const char *z = ts_arena_printf(&w->arena, "%.*s", TS_FMT(text)), *at = strstr(z, from);
  if (!at) fprintf(stderr, "%s", z);
  ck_assert_msg(at != NULL, "'%s' should be in the text above", from);
  ck_assert_ptr_null(strstr(at + 1, from));
  ts_text t = {0};
  ts_text_add(&t, (ts_str){z, (size_t)(at - z)});
  ts_text_puts(&t, to);
  ts_text_puts(&t, at + strlen(from));
  ck_assert(ts_file_write(path_of(w, edited), ts_text_z(&t), t.len, &w->diags) == TS_OK);
  ts_text_deinit(&t);
}

static ts_status compile(world *w, const char *file, const char *out, bool random) {
  begin(w);
  if (drive_read_module(&w->arena, &w->names, &w->diags, path_of(w, file), &w->m) != TS_OK) broken(w, "read");
  drive_kernels_options o = {.output = path_of(w, out), .random_weights = random, .seed = seed};
  drive_report report;
  return drive_compile_kernels(&w->arena, w->m, &o, &w->diags, &report);
}

#define RUN(call)                                                \
  do {                                                           \
    tsr_error error = {TSR_OK, ""}, *e = &error;                 \
    ck_assert_msg((call) == TSR_OK, "%s: %s", #call, e->text);    \
  } while (0)

enum { ROWS = 5, WIDTH = 64 };

static float number(uint64_t i) { return (float)((i * 2654435761u + seed * 97) % 2001) / 1000 - 1; }

// Runs the artifact's only function with inputs that depend on their names and sizes alone. `residual` gets input x.
static void run(world *w, const char *file, float *y, float *residual) {
  tsr_artifact *a;
  tsr_device *d;
  tsr_session *s;
  RUN(tsr_artifact_open(path_of(w, file), NULL, e, &a));
  RUN(tsr_device_open("host", NULL, e, &d));
  RUN(tsr_session_create(a, d, NULL, e, &s));
  tsr_function_info f;
  ck_assert_int_eq(tsr_artifact_function(a, 0, &f), TSR_OK);
  tsr_buffer *buffers[8] = {0};
  ck_assert_uint_eq(f.outputs, 1);
  for (uint32_t i = 0; i < f.inputs + f.outputs; i++) {
    tsr_value_info v;
    bool output = i >= f.inputs;
    ck_assert_int_eq(tsr_artifact_value(a, f.name, output ? TSR_OUTPUT : TSR_INPUT, output ? i - f.inputs : i, &v), TSR_OK);
    tsr_type t = {v.dtype, v.rank, {0}};
    for (uint32_t k = 0; k < v.rank; k++) t.shape[k] = v.shape[k] == TSR_ANY ? ROWS : v.shape[k];
    RUN(tsr_buffer_create(d, &t, e, &buffers[i]));
    unsigned char *data = tsr_buffer_data(buffers[i]);
    size_t bytes = tsr_buffer_bytes(buffers[i]);
    for (size_t k = 0; k < bytes; k++) data[k] = output ? 0xFF : (unsigned char)((k * 37 + seed) % 251);
    if (v.dtype == TSR_F32)
      for (size_t k = 0; !output && k < bytes / 4; k++) ((float *)(void *)data)[k] = number(k + i * 1000);
    if (v.dtype == TSR_F16)
      for (size_t k = 0; k < bytes / 2; k++) ((uint16_t *)(void *)data)[k] = (uint16_t)(0x2C00 + k % 1000);   // about 0.06 to 0.12
    if (strcmp(v.name, "x") == 0) memcpy(residual, data, ROWS * WIDTH * sizeof *residual);
    RUN(tsr_session_bind(s, f.name, v.name, buffers[i]));
    if (output) {
      RUN(tsr_session_run(s, f.name, NULL, 0, NULL, e));
      memcpy(y, data, ROWS * WIDTH * sizeof *y);
    }
  }
  for (int i = 0; i < 8; i++) tsr_buffer_release(buffers[i]);
  tsr_session_destroy(s);
  tsr_device_release(d);
  tsr_artifact_release(a);
}

// y = x + p, edited to y = x - p: the two add up to 2 x; the products are not nothing.
static void check_edit(const char *file, const char *edited, bool random) {
  float y[ROWS * WIDTH], z[ROWS * WIDTH], x[ROWS * WIDTH];
  world w;
  if (compile(&w, file, "a.tsr", random) != TS_OK) broken(&w, "the dump should compile");
  run(&w, "a.tsr", y, x);
  end(&w);
  if (compile(&w, edited, "b.tsr", random) != TS_OK) broken(&w, "the edited dump should compile");
  run(&w, "b.tsr", z, x);
  end(&w);
  double product = 0;
  for (int i = 0; i < ROWS * WIDTH; i++) {
    ck_assert_msg(fabs((double)y[i] + z[i] - 2.0 * x[i]) < 1e-4 * (1 + fabs((double)y[i])), "element %d: %g and %g around %g", i, y[i], z[i], x[i]);
    product = fmax(product, fabs((double)y[i] - x[i]));
  }
  ck_assert_msg(product > 0.1, "%g", product);
}

START_TEST(scheduled_kernel) {
  world w;
  write_kernel(&w, "wo.scheduled.tir", "host.avx2");
  replace(&w, "wo.scheduled.tir", "{ (a, b) -> a + b } : f32[m: 1, n: 64] lanes n", "{ (a, b) -> a - b } : f32[m: 1, n: 64] lanes n", "edited.scheduled.tir");
  end(&w);
  check_edit("wo.scheduled.tir", "edited.scheduled.tir", false);
}
END_TEST

START_TEST(portable_kernel) {
  world w;
  write_kernel(&w, "wo.tile.tir", NULL);
  replace(&w, "wo.tile.tir", "{ (a, b) -> a + b }", "{ (a, b) -> a - b }", "edited.tile.tir");
  end(&w);
  check_edit("wo.tile.tir", "edited.tile.tir", true);
  ck_assert_int_eq(compile(&w, "wo.tile.tir", "a.tsr", false), TS_UNSUPPORTED);
  ck_assert(ts_diags_has(&w.diags, &diag_drive_kernel_file));
  ck_assert_ptr_nonnull(strstr(w.diags.list.data[0].text, "rule packed-input"));
  end(&w);
}
END_TEST

static void refused(const char *text, const ts_diag_kind *kind, const char *words) {
  world w;
  begin(&w);
  ck_assert(ts_file_write(path_of(&w, "bad.tir"), text, strlen(text), &w.diags) == TS_OK);
  ts_status s = drive_read_module(&w.arena, &w.names, &w.diags, path_of(&w, "bad.tir"), &w.m);
  drive_report report;
  if (s == TS_OK) s = drive_compile_kernels(&w.arena, w.m, &(drive_kernels_options){0}, &w.diags, &report);
  ck_assert_int_ne(s, TS_OK);
  bool found = false;
  for (size_t i = 0; i < w.diags.list.count; i++) found |= (!kind || w.diags.list.data[i].kind == kind) && strstr(w.diags.list.data[i].text, words);
  if (!found) broken(&w, words);
  end(&w);
}

START_TEST(bad_files) {
  refused("module @empty\n", &diag_drive_kernel_file, "rule no-kernels");
  refused("kernel @k portable {\n  size m 0..9\n  in %x: mem<f32[m]>\n  out %y: mem<f32[m]>\n  part rows axes(m: par m) {\n    finish {\n"
          "      %a = load %x[0] {at=[m]} : f32[m]\n      store %y[0], %a {at=[m]}\n    }\n  }\n}\n"
          "kernel @l portable {\n  size m 0..8\n  in %x: mem<f32[m]>\n  out %y: mem<f32[m]>\n  part rows axes(m: par m) {\n    finish {\n"
          "      %a = load %x[0] {at=[m]} : f32[m]\n      store %y[0], %a {at=[m]}\n    }\n  }\n}\n", &diag_drive_kernel_file, "rule dim-of-two-ranges");
  refused("kernel @k portable {\n  in %x: mem<f32[m]>\n", NULL, "");
}
END_TEST

int main(void) {
  seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 3;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  snprintf(folder, sizeof folder, "/tmp/tessera-kernels-XXXXXX");
  if (!mkdtemp(folder)) return 1;
  Suite *s = suite_create("drive_kernels");
  TCase *c = tcase_create("edit");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, scheduled_kernel);
  tcase_add_test(c, portable_kernel);
  tcase_add_test(c, bad_files);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  static const char *const files[] = {"wo.scheduled.tir", "edited.scheduled.tir", "wo.tile.tir", "edited.tile.tir", "a.tsr", "b.tsr", "bad.tir"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, files[i]);
    unlink(path);
  }
  rmdir(folder);
  return failed != 0;
}
