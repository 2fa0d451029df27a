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

// ---- rows and epilogues --------------------------------------------------------------------------------------------------------
static const char rows_text[] =
  "module @rows\ndim n 1..1000\nweight @g : f32[100] as f32\nweight @c : f32[100] as f32\nweight @w : f32[128, 96] as f16\nweight @b : f32[128] as f32\n"
  "func @f(%x: tensor<f32[n, 100]>) -> (y: tensor<f32[n, 100]>, z: tensor<f32[n, 100]>, u: tensor<f32[n, 100]>) {\n"
  "  %g = weight \"g\" : tensor<f32[100] as f32>\n  %c = weight \"c\" : tensor<f32[100] as f32>\n"
  "  %y = rms_norm %x, %g {eps=1e-05} : tensor<f32[n, 100]>\n  %z = softmax %x : tensor<f32[n, 100]>\n"
  "  %u = layer_norm %x, %g, %c {eps=1e-05} : tensor<f32[n, 100]>\n  return %y, %z, %u\n}\n"
  "func @l(%x: tensor<f32[n, 96]>) -> (y: tensor<f32[n, 128]>) {\n"
  "  %w = weight \"w\" : tensor<f32[128, 96] as f16>\n  %b = weight \"b\" : tensor<f32[128] as f32>\n  %h = linear %x, %w, %b : tensor<f32[n, 128]>\n"
  "  %y = map(%h) { (a) -> a * 0.5 * (1.0 + erf(a * 0.70710678)) } : tensor<f32[n, 128]>\n  return %y\n}\n";

START_TEST(test_rows) {
  if (!cuda_tools_here()) return;
  static const char *const names[] = {"rms_norm", "softmax", "layer_norm", "w"};
  static const char *const targets[] = {"sm_75", "sm_80", "sm_120"};
  for (int t = 0; t < 3; t++) {
    cuda_rig r;
    cuda_rig_open(&r, rows_text);
    for (int i = 0; i < 4; i++)
      for (int64_t n = 1; n < 70; n += 33)
        cuda_rig_compare(&r, names[i], cgc_target_of_name(ts_str_of(targets[t])), &(cuda_bind){"m", n}, 1, NULL, i == 3 ? 2e-3 : 1e-5);
    cuda_rig_close(&r);
  }
}
END_TEST

// ---- text, repeatability, refusals ------------------------------------------------------------------------------------------------
// A kernel made for `target`; the first variant.
static const ir_kernel *scheduled(cuda_rig *r, const char *target, const char *kernel) {
  pass_cuda_target t = cuda_rig_target(r, cgc_target_of_name(ts_str_of(target)));
  pass_schedules s;
  ck_assert_int_eq(pass_schedule_cuda(r->m, cuda_rig_kernel(r, kernel), &t, &r->log, &s), TS_OK);
  return s.variants.data[0].kernel;
}

// A dump of a scheduled kernel, parsed again, gives the same CUDA text; printing twice gives the same bytes.
START_TEST(test_text) {
  ts_arena a;
  ts_arena_init(&a);
  cuda_rig r, again;
  cuda_rig_open(&r, product(&a, 128, 128, "f32", "f32[128, 128] as q4_1", "f32"));
  const ir_kernel *k = scheduled(&r, "sm_80", "k");
  ts_text dump = {0}, one = {0}, two = {0}, three = {0};
  uint32_t shared[3];
  const cgc_target *t = cgc_target_of_name(TS_STR("sm_80"));
  ir_print_kernel(r.m, k, false, &dump);
  ck_assert_int_eq(cgc_kernel_to_cuda(k, t, &r.arena, &r.diags, &one, &shared[0]), TS_OK);
  ck_assert_int_eq(cgc_kernel_to_cuda(k, t, &r.arena, &r.diags, &two, &shared[1]), TS_OK);
  ck_assert_str_eq(ts_text_z(&one), ts_text_z(&two));
  cuda_rig_open(&again, ts_text_z(&dump));
  ck_assert_int_eq(cgc_kernel_to_cuda(again.m->kernels.data[0], t, &again.arena, &again.diags, &three, &shared[2]), TS_OK);
  // Places in the source differ; the code does not.
  const char *p = strstr(ts_text_z(&one), "extern \"C\""), *q = strstr(ts_text_z(&three), "extern \"C\"");
  ck_assert(p && q);
  while (*p && *q) {
    const char *pe = strchr(p, '\n'), *qe = strchr(q, '\n');
    const char *pc = strstr(p, "// "), *qc = strstr(q, "// ");
    size_t pn = (size_t)((pc && pc < pe ? pc : pe) - p), qn = (size_t)((qc && qc < qe ? qc : qe) - q);
    ck_assert_msg(pn == qn && memcmp(p, q, pn) == 0, "%.*s\n%.*s", (int)(pe - p), p, (int)(qe - q), q);
    p = pe + 1, q = qe + 1;
  }
  ck_assert(shared[0] == shared[1] && shared[1] == shared[2]);
  cuda_rig_close(&again);
  cuda_rig_close(&r);
  ts_text_deinit(&dump), ts_text_deinit(&one), ts_text_deinit(&two), ts_text_deinit(&three);
  ts_arena_deinit(&a);
}
END_TEST

static void expect_refusal(const char *text, const char *target, const ts_diag_kind *kind) {
  cuda_rig r;
  cuda_rig_open(&r, text);
  ts_text out = {0};
  ck_assert_int_ne(cgc_kernel_to_cuda(r.m->kernels.data[0], cgc_target_of_name(ts_str_of(target)), &r.arena, &r.diags, &out, NULL), TS_OK);
  ck_assert_msg(ts_diags_has(&r.diags, kind), "not refused by %s", kind->id);
  ts_text_deinit(&out);
  cuda_rig_close(&r);
}

#define HEAD(target) "kernel @k scheduled cuda target(" target ") grid(1, 1, 1) warps(1) {\n  in %x: mem<f32[64]>\n  out %y: mem<f32[64]>\n  body {\n"
START_TEST(test_refusals) {
  expect_refusal("kernel @k scheduled host target(host.avx2) grid(1, 1, 1) {\n  in %x: mem<f32[8]>\n  body {\n    %0 = load %x[0] {at=[n]} : f32[n: 8] lanes n\n  }\n}\n",
                 "sm_80", &diag_cuda_not_finished);
  // operands in different threads
  expect_refusal(HEAD("sm_80") "    %0 = load %x[0] {at=[n]} : f32[n: 64] layout([n:64] {reg: n/32; lane: n%32})\n"
                               "    %1 = load %x[0] {at=[n]} : f32[n: 64] layout([n:64] {reg: n%2; lane: n/2})\n"
                               "    %2 = apply(%0, %1) { (a, b) -> a + b } : f32[n: 64] layout([n:64] {reg: n/32; lane: n%32})\n"
                               "    store %y[0], %2 {at=[n]}\n  }\n}\n",
                 "sm_80", &diag_cuda_not_finished);
  // a tile that no layout spreads, too large for one thread
  expect_refusal("kernel @k scheduled cuda target(sm_80) grid(1, 1, 1) warps(1) {\n  in %x: mem<f32[4096]>\n  body {\n    %0 = load %x[0] {at=[n]} : f32[n: 4096]\n  }\n}\n",
                 "sm_80", &diag_cuda_not_finished);
  // more shared memory than there is
  expect_refusal(HEAD("sm_80") "    %0 = alloc : panel<f32[512, 512]>\n    %1 = load %0[0, 0] {at=[_, _]} : f32\n  }\n}\n", "sm_80", &diag_cuda_shared);
  // an instruction that the target lacks
  ts_arena a;
  ts_arena_init(&a);
  cuda_rig r;
  cuda_rig_open(&r, product(&a, 128, 128, "f16", "f32[128, 128] as q4_1", "f32"));
  ts_text out = {0};
  ck_assert_int_ne(cgc_kernel_to_cuda(scheduled(&r, "sm_80", "k"), cgc_target_of_name(TS_STR("sm_75")), &r.arena, &r.diags, &out, NULL), TS_OK);
  ck_assert(ts_diags_has(&r.diags, &diag_cuda_op));
  ts_text_deinit(&out);
  cuda_rig_close(&r);
  ts_arena_deinit(&a);
}
END_TEST

START_TEST(test_facts) {
  if (!cuda_tools_here()) return;
  ts_arena a;
  ts_arena_init(&a);
  cuda_rig r;
  cuda_rig_open(&r, product(&a, 128, 128, "f16", "f16[128, 128]", "f32"));
  cgc_code one, two;
  const ir_kernel *k = scheduled(&r, "sm_80", "k");
  const cgc_target *t = cgc_target_of_name(TS_STR("sm_80"));
  ck_assert_int_eq(cgc_compile(&cuda_tools, k, t, &r.arena, &r.diags, &one), TS_OK);
  ck_assert_int_eq(cgc_compile(&cuda_tools, k, t, &r.arena, &r.diags, &two), TS_OK);
  ck_assert(one.cubin_bytes && one.cubin_bytes == two.cubin_bytes && memcmp(one.cubin, two.cubin, one.cubin_bytes) == 0);
  ck_assert(ts_str_eq(one.ptx, two.ptx));
  ck_assert(one.threads == 128 && one.shared >= 4 * 2 * 128 * 80 / 2 && one.registers > 32 && one.registers <= 255);
  ck_assert(one.ptx_isa >= t->ptx && one.driver == cuda_tools.version && one.dim_count == 1);
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
  tcase_add_test(t, test_rows);
  tcase_add_test(t, test_text);
  tcase_add_test(t, test_refusals);
  tcase_add_test(t, test_facts);
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
