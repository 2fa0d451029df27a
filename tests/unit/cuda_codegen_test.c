// The CUDA back end and schedules: kernels run by the emulator against the evaluator, on odd sizes; accepted for every target.
#include "tests/unit/cuda_rig.h"
#include "tests/unit/llama_text.h"

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

// ---- the kernels of a language model --------------------------------------------------------------------------------------
enum { BATCH = 2, SEQ = 21, WIDTH = 4, PAGES = 9, CONTEXT = 64 };

static int64_t llama_integers(const char *param, int64_t i, int64_t count) {
  if (strcmp(param, "tokens") == 0) return (i * 7 + 3) % 90;
  if (strcmp(param, "rows") == 0 || strncmp(param, "seq", 3) == 0) return i % 2 ? 4 : SEQ;   // rows of each list in this call
  if (strncmp(param, "length", 6) == 0) return i % 2 ? 17 : 3;
  if (strcmp(param, "pages") == 0) return (i * 4 + 1) % PAGES;
  if (strcmp(param, "pos") == 0) return (i * 5) % CONTEXT;
  (void)count;
  return 0;
}

static void run_llama(const char *target, const llama_shape *shape, bool compile_only) {
  ts_text text = {0};
  llama_text(shape, &text);
  cuda_rig r;
  cuda_rig_open(&r, ts_text_z(&text));
  const cuda_bind binds[] = {{"b", BATCH}, {"s", SEQ}, {"m", BATCH * SEQ}, {"w", WIDTH}, {"p", PAGES}};
  unsigned known = 0;
  cuda_bind bound[5];
  for (int i = 0; i < 5; i++)
    if (ir_size_find(r.m->sizes, ts_str_of(binds[i].symbol))) bound[known++] = binds[i];
  for (size_t i = 0; i < r.plan->kernels.count; i++) {
    const char *name = r.plan->kernels.data[i]->name;
    if (compile_only) cuda_rig_compile_all(&r, name);
    else cuda_rig_compare(&r, name, cgc_target_of_name(ts_str_of(target)), bound, known, llama_integers, 4e-3);
  }
  cuda_rig_close(&r);
  ts_text_deinit(&text);
}

START_TEST(test_llama) {
  if (!cuda_tools_here()) return;
  run_llama("sm_80", &(llama_shape){64, 4, 2, 16, 96, 91, CONTEXT, "q4_1", "adjacent", NULL}, false);
  run_llama("sm_75", &(llama_shape){96, 6, 2, 16, 160, 96, CONTEXT, "q8_0", "half", NULL}, false);
  run_llama("sm_120", &(llama_shape){64, 2, 2, 32, 96, 90, CONTEXT, "f16", "half", NULL}, false);
}
END_TEST

START_TEST(test_llama_compile) {
  if (!cuda_tools_here()) return;
  run_llama(NULL, &(llama_shape){576, 9, 3, 64, 1536, 49152, CONTEXT, "q4_1", "half", NULL}, true);
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
  tcase_add_test(t, test_llama);
  tcase_add_test(t, test_llama_compile);
  suite_add_tcase(s, t);
  SRunner *runner = srunner_create(s);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  cgc_toolchain_close(&cuda_tools);
  ts_arena_deinit(&a);
  return failed != 0;
}
