// The CUDA back end and schedules: kernels run by the emulator against the evaluator, on odd sizes; accepted for every target.
#include "tests/unit/cuda_rig.h"

// A product of x[m, K] and a weight [N, K].
static const char *product(ts_arena *a, int64_t N, int64_t K, const char *x, const char *w, const char *y) {
  return ts_arena_printf(a,
                         "kernel @k portable {\n  size m 0..16777216\n  in %%x: mem<%s[m, %lld]>\n  in %%w: mem<%s>\n  out %%y: mem<%s[m, %lld]>\n"
                         "  part contract axes(m: par m, n: par %lld, k: red %lld) {\n"
                         "    init {\n      %%0 = const 0.0 : f32\n      %%1 = full %%0 : f32[m, n]\n      yield %%1\n    }\n"
                         "    update (%%2: f32[m, n]) {\n      %%3 = load %%x[0, 0] {at=[m, k]} : %s[m, k]\n      %%4 = load %%w[0, 0] {at=[n, k]} : %s[n, k]\n"
                         "      %%5 = dot %%3, %%4, %%2 {over=[k]} : f32[m, n]\n      yield %%5\n    }\n"
                         "    finish (%%6: f32[m, n]) {\n      store %%y[0, 0], %%6 {at=[m, n]}\n    }\n  }\n}\n",
                         x, (long long)K, w, y, (long long)N, (long long)N, (long long)K, x, strstr(w, "bf16[") ? "bf16" : strstr(w, "f16[") ? "f16" : "f32");
}

static void run(const char *target, const char *text, int64_t m, double tolerance) {
  cuda_rig r;
  cuda_rig_open(&r, text);
  cuda_rig_compare(&r, "k", cgc_target_of_name(ts_str_of(target)), &(cuda_bind){"m", m}, 1, NULL, tolerance);
  cuda_rig_close(&r);
}

START_TEST(test_products_f16) {
  if (!cuda_tools_here()) return;
  ts_arena a;
  ts_arena_init(&a);
  run("sm_80", product(&a, 128, 256, "f16", "f16[128, 256]", "f16"), 131, 2e-3);
  run("sm_80", product(&a, 192, 160, "f16", "f16[192, 160]", "f32"), 33, 1e-5);
  run("sm_80", product(&a, 72, 40, "f16", "f16[72, 40]", "f32"), 7, 1e-5);
  run("sm_75", product(&a, 128, 96, "f16", "f16[128, 96]", "f32"), 21, 1e-5);
  run("sm_90", product(&a, 64, 64, "bf16", "bf16[64, 64]", "f32"), 19, 1e-5);
  ts_arena_deinit(&a);
}
END_TEST

START_TEST(test_products_codes) {
  if (!cuda_tools_here()) return;
  ts_arena a;
  ts_arena_init(&a);
  static const char *const encodings[] = {"q4_1", "q4_0", "q8_0", "int4_g64", "uint4_g128"};
  for (unsigned i = 0; i < 5; i++) {
    run("sm_80", product(&a, 128, 384, "f16", ts_arena_printf(&a, "f32[128, 384] as %s", encodings[i]), "f32"), 37, 3e-3);
    run("sm_75", product(&a, 96, 160, "f32", ts_arena_printf(&a, "f32[96, 160] as %s", i < 3 ? encodings[i] : "q4_1"), "f32"), 17, 3e-3);
  }
  run("sm_120", product(&a, 64, 256, "f32", "f32[64, 256] as q6_K", "f32"), 5, 3e-3);
  ts_arena_deinit(&a);
}
END_TEST

START_TEST(test_products_compile) {
  if (!cuda_tools_here()) return;
  ts_arena a;
  ts_arena_init(&a);
  cuda_rig r;
  cuda_rig_open(&r, product(&a, 1024, 1024, "f16", "f16[1024, 1024]", "f16"));
  cuda_rig_compile_all(&r, "k");
  cuda_rig_close(&r);
  cuda_rig_open(&r, product(&a, 1024, 1024, "f16", "f32[1024, 1024] as q4_1", "f16"));
  cuda_rig_compile_all(&r, "k");
  cuda_rig_close(&r);
  ts_arena_deinit(&a);
}
END_TEST

int main(void) {
  ts_arena a;
  ts_arena_init(&a);
  cgc_toolchain_open(&a, NULL, &cuda_tools);
  Suite *s = suite_create("cuda_codegen");
  TCase *t = tcase_create("kernels");
  tcase_add_test(t, test_products_f16);
  tcase_add_test(t, test_products_codes);
  tcase_add_test(t, test_products_compile);
  suite_add_tcase(s, t);
  SRunner *runner = srunner_create(s);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  cgc_toolchain_close(&cuda_tools);
  ts_arena_deinit(&a);
  return failed != 0;
}
