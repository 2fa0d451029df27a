// `tessera emu` from its argument list: buffers from and to .npy, scalars, structures, exit codes, bad input of many kinds.
#include "emu_harness.h"
#include "emulator/emu_cli.h"
#include "emulator/npy.h"

#include <unistd.h>

static char folder[64];
static const char *in_folder(const char *name) {
  static char paths[4][128];
  static unsigned next;
  char *p = paths[next++ % 4];
  snprintf(p, sizeof paths[0], "%s/%s", folder, name);
  return p;
}

static int run(const char *first, ...) {
  const char *argv[40] = {"emu", first};
  int n = 2;
  va_list ap;
  va_start(ap, first);
  for (const char *s; n < 40 && (s = va_arg(ap, const char *)) != NULL;) argv[n++] = s;
  va_end(ap);
  return emu_cli_main(n, (char **)argv);
}
#define EMU(...) run(__VA_ARGS__, NULL)
#define CORPUS "tests/data/ptx/corpus.ptx"
#define BUGS "tests/data/ptx/bugs.ptx"

START_TEST(npy_there_and_back) {
  ts_diags d;
  ts_arena a;
  ts_diags_init(&d);
  ts_arena_init(&a);
  float x[6] = {1, 2, 3, 4, 5, 6};
  const char *path = in_folder("x.npy");
  ck_assert_int_eq(emu_npy_write(path, "<f4", (size_t[]){2, 3}, 2, x, sizeof x, &d), TS_OK);
  emu_npy n;
  ck_assert_int_eq(emu_npy_read(&a, path, &d, &n), TS_OK);
  ck_assert(n.rank == 2 && n.shape[0] == 2 && n.shape[1] == 3 && n.bytes == sizeof x && !strcmp(n.descr, "<f4"));
  ck_assert_mem_eq(n.data, x, sizeof x);
  // Any truncation and any flipped bit is read or refused.
  ts_str file;
  ck_assert_int_eq(ts_file_read(&a, path, &d, &file), TS_OK);
  char *copy = malloc(file.len);
  for (size_t i = 0; i < file.len * 2; i++) {
    memcpy(copy, file.data, file.len);
    size_t len = i < file.len ? i : file.len;
    if (i >= file.len) copy[i - file.len] ^= (char)(1 << i % 8);
    ck_assert_int_eq(ts_file_write(in_folder("y.npy"), copy, len, &d), TS_OK);
    ts_diags quiet;
    ts_diags_init(&quiet);
    if (emu_npy_read(&a, in_folder("y.npy"), &quiet, &n) != TS_OK) ck_assert_uint_gt(quiet.errors, 0);
    ts_diags_deinit(&quiet);
  }
  free(copy);
  ts_arena_deinit(&a);
  ts_diags_deinit(&d);
}
END_TEST

START_TEST(runs_a_kernel) {
  ts_diags d;
  ts_arena a;
  ts_diags_init(&d);
  ts_arena_init(&a);
  float x[100];
  for (int i = 0; i < 100; i++) x[i] = (float)(i * i % 17);
  ck_assert_int_eq(emu_npy_write(in_folder("x.npy"), "<f4", (size_t[]){100}, 1, x, sizeof x, &d), TS_OK);
  char in[140], save[140];
  snprintf(in, sizeof in, "@%s", in_folder("x.npy"));
  snprintf(save, sizeof save, "1=%s", in_folder("out.npy"));
  ck_assert_int_eq(EMU(CORPUS, "--entry", "stencil", "--grid", "4", "--block", "32", "--arg", in, "--arg", "@zeros:f32:100", "--arg", "u32:100", "--save", save, "--counters", "--listing"), 0);
  emu_npy n;
  ck_assert_int_eq(emu_npy_read(&a, in_folder("out.npy"), &d, &n), TS_OK);
  const float *y = (const float *)n.data;
  for (int i = 1; i < 99; i++) ck_assert(y[i] == 0.25f * x[i - 1] + 0.5f * x[i] + 0.25f * x[i + 1]);
  ck_assert_int_eq(EMU(CORPUS, "--entry", "prints", "--block", "32", "--arg", "u32:3", "--json"), 0);
  ck_assert_int_eq(EMU(CORPUS, "--entry", "warp_lock", "--block", "32", "--arg", "@zeros:s32:1", "--arg", "@zeros:s32:1", "--seeds", "3"), 0);
  ck_assert_int_eq(EMU(CORPUS, "--list"), 0);
  ck_assert_int_eq(EMU("--support"), 0);
  ck_assert_int_eq(EMU(BUGS, "--entry", "bounds", "--block", "8", "--arg", "@empty:s32:5", "--arg", "u32:5", "--arg", "u32:0", "--break", "22", "--print", "%r1", "--trace"), 0);
  ck_assert_int_eq(EMU(BUGS, "--entry", "bounds", "--block", "8", "--arg", "@empty:s32:5", "--arg", "u32:5", "--arg", "u32:1"), 1);
  ck_assert_int_eq(EMU(BUGS, "--entry", "bounds", "--block", "8", "--arg", "@empty:s32:5", "--arg", "u32:5", "--arg", "u32:1", "--json"), 1);
  ts_arena_deinit(&a);
  ts_diags_deinit(&d);
}
END_TEST

START_TEST(refuses_bad_input) {
#define B BUGS, "--entry", "bounds"
  ck_assert_int_eq(EMU("no/such/file.ptx"), 2);
  ck_assert_int_eq(EMU("tests/data/ptx/corpus.cu"), 2);
  ck_assert_int_eq(EMU(BUGS), 2);
  ck_assert_int_eq(EMU(BUGS, "--entry", "nothing"), 2);
  ck_assert_int_eq(EMU(B), 2);
  ck_assert_int_eq(EMU(B, "--frob", "1"), 2);
  ck_assert_int_eq(EMU(B, "--grid"), 2);
  ck_assert_int_eq(EMU(B, "--grid", "1,2,3,4"), 2);
  ck_assert_int_eq(EMU(B, "--grid", "x"), 2);
  ck_assert_int_eq(EMU(B, "--shared", "-5"), 2);
  ck_assert_int_eq(EMU(B, "--sm", "70", "--arg", "@zeros:s32:5", "--arg", "u32:5", "--arg", "u32:0"), 2);
  ck_assert_int_eq(EMU(B, "--block", "4000", "--arg", "@zeros:s32:5", "--arg", "u32:5", "--arg", "u32:0"), 2);
  static const char *const bad[] = {"@nofile.npy", "@zeros:s32", "@zeros:q9:5", "@random:f32:5", "@zeros:s32:99999999999999", "5", "u64:x", "u32:5", "hex:00", "hex:zz00000000000000"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ck_assert_int_eq(EMU(B, "--arg", bad[i], "--arg", "u32:5", "--arg", "u32:0"), 2);
  ck_assert_int_eq(EMU(B, "--arg", "hex:0000000000000000", "--arg", "u32:0", "--arg", "u32:0"), 0);
  ck_assert_int_eq(EMU(B, "--arg", "@zeros:s32:5", "--arg", "u32:5", "--arg", "u32:0", "--save", "7=x.npy"), 2);
  ck_assert_int_eq(EMU(B, "--arg", "@zeros:s32:5", "--arg", "u32:5", "--arg", "u32:0", "--save", "1=x.npy"), 2);
}
END_TEST

int main(void) {
  strcpy(folder, "/tmp/emu_cli_XXXXXX");
  if (!mkdtemp(folder)) return 1;
  Suite *s = suite_create("emulator command");
  TCase *t = tcase_create("command");
  tcase_add_test(t, npy_there_and_back);
  tcase_add_test(t, runs_a_kernel);
  tcase_add_test(t, refuses_bad_input);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  const char *const names[] = {"x.npy", "y.npy", "out.npy"};
  for (int i = 0; i < 3; i++) unlink(in_folder(names[i]));
  rmdir(folder);
  return failed != 0;
}
