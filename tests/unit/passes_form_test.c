// Forms of families: a schedule takes a part for what it is or refuses it by rule, never for something similar.
#include "passes/lower.h"
#include "passes/schedule.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct result {
  ts_status status;
  bool refused;
  char text[256];
} result;

static result schedule(const char *text) {
  ts_arena a;
  ts_interner names;
  ts_diags d;
  ts_arena_init(&a);
  ts_interner_init(&names, &a);
  ts_diags_init(&d);
  ir_module *m = ir_module_create(&a, &names, &d);
  result r = {.status = ir_parse_module(m, ts_intern_z(&names, "form.tir"), ts_str_of(text))};
  ck_assert_msg(r.status == TS_OK, "the text should parse: %s", d.list.count ? d.list.data[0].text : "");
  ck_assert_msg(ir_verify_kernel(m, m->kernels.data[0]) == TS_OK, "the kernel should verify: %s", d.list.count ? d.list.data[0].text : "");
  pass_host_target t = {.name = ts_intern_z(&names, "host.avx512"), .registers = 32};
  pass_log log = {.arena = &a};
  pass_schedules s;
  r.status = pass_schedule_host(m, m->kernels.data[0], &t, &log, &s);
  r.refused = ts_diags_has(&d, &diag_pass_unsupported);
  if (d.list.count) snprintf(r.text, sizeof r.text, "%s", d.list.data[0].text);
  ir_module_destroy(m);
  ts_diags_deinit(&d);
  ts_interner_deinit(&names);
  ts_arena_deinit(&a);
  return r;
}

// y = x w^T scaled by a row statistic; the pieces that vary are arguments.
static char *contract(const char *reduce, const char *combine, const char *kept) {
  static char text[4096];
  snprintf(text, sizeof text,
           "size m 0..64\n"
           "kernel @k portable {\n"
           "  in %%x: mem<f32[m, 64]>\n  in %%w: mem<f32[32, 64]>\n  out %%y: mem<f32[m, 32]>\n"
           "  part contract axes(m: par m, n: par 32, k: red 64) {\n"
           "    init {\n      %%z = const 0.0 : f32\n      %%a = full %%z : f32[m, n]\n      %%s = full %%z : f32[m]\n      yield %%a, %%s\n    }\n"
           "    update(%%a: f32[m, n], %%s: f32[m]) {\n      %%0 = const 0 : i64\n"
           "      %%xt = load %%x[%%0, %%0] {at=[m, k]} : f32[m, k]\n      %%wt = load %%w[%%0, %%0] {at=[n, k]} : f32[n, k]\n"
           "      %%d = dot %%xt, %%wt, %%a {over=[k]} : f32[m, n]\n"
           "      %%q = apply(%%xt) { (a) -> a * a } : f32[m, k]\n      %%r = reduce %%q {over=[k], op=%s} : f32[m]\n"
           "      %%t = apply(%s, %%r) { (a, b) -> %s } : f32[m]\n      yield %%d, %%t\n    }\n"
           "    finish(%%a: f32[m, n], %%s: f32[m]) {\n      %%0 = const 0 : i64\n"
           "      %%v = apply(%%a, %%s) { (a, b) -> a * b } : f32[m, n]\n      store %%y[%%0, %%0], %%v {at=[m, n]}\n    }\n  }\n}\n",
           reduce, kept, combine);
  return text;
}

START_TEST(sums_are_scheduled) {
  result r = schedule(contract("add", "a + b", "%s"));
  ck_assert_msg(r.status == TS_OK, "%s", r.text);
}
END_TEST

START_TEST(other_accumulations_are_refused) {
  static const struct { const char *reduce, *combine, *kept; } wrong[] = {
    {"max", "a + b", "%s"},          // a sum of maxima
    {"add", "max(a, b)", "%s"},      // a maximum of sums
    {"max", "max(a, b)", "%s"},
    {"add", "a - b", "%s"},
    {"add", "b + a + 1.0", "%s"},
    {"add", "a + b", "%r"},          // not its own accumulator
  };
  result r = schedule(contract(wrong[_i].reduce, wrong[_i].combine, wrong[_i].kept));
  ck_assert_msg(r.status == TS_UNSUPPORTED && r.refused && strstr(r.text, "accumulator-form"), "%s %s: %s", wrong[_i].reduce, wrong[_i].combine, r.text);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("forms");
  TCase *t = tcase_create("contract");
  tcase_add_test(t, sums_are_scheduled);
  tcase_add_loop_test(t, other_accumulations_are_refused, 0, 6);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
