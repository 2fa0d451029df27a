// Mutated PTX: truncated, with flipped bits, with tokens moved about. A module either loads or is refused with a located
// message, and what loads can be launched with any parameters: it ends, with or without reports, and never crashes.
#include "emu_harness.h"

enum { ROUNDS = 300 };

static ts_str original(ts_arena *a, const char *file) {
  ts_diags d;
  ts_diags_init(&d);
  ts_str text = {0};
  char path[200];
  snprintf(path, sizeof path, "tests/data/ptx/%s", file);
  ck_assert_int_eq(ts_file_read(a, path, &d, &text), TS_OK);
  ts_diags_deinit(&d);
  return text;
}

static size_t mutate(uint64_t *seed, char *t, size_t n, size_t from) {
  uint64_t r = rig_random(seed);
  size_t at = from + rig_random(seed) % (n - from), other = from + rig_random(seed) % (n - from), len = 1 + rig_random(seed) % 12;
  if (at + len > n) len = n - at;
  switch (r % 6) {
    case 0: return at;                                          // cut off
    case 1: t[at] ^= (char)(1 << (r >> 8) % 7); return n;       // a bit
    case 2: t[at] = "0123456789abfx.,;{}[]()@!%$_:<>|+-"[(r >> 8) % 33]; return n;
    case 3: if (other + len <= n) memmove(t + at, t + other, len); return n;   // a piece of elsewhere
    case 4: memmove(t + at, t + at + len, n - at - len); return n - len;       // without a piece
    default:
      for (size_t i = at; i < n && i < at + 60; i++)            // another number
        if (t[i] >= '0' && t[i] <= '9') {
          t[i] = (char)('0' + (r >> 8) % 10);
          break;
        }
      return n;
  }
}

static void launch_all(emu_context *c, emu_module *m, ts_diags *d, uint64_t *seed, emu_addr buffer) {
  for (unsigned e = 0; e < emu_module_entry_count(m); e++) {
    const emu_entry *entry = emu_module_entry_at(m, e);
    emu_entry_info info;
    emu_entry_describe(entry, &info);
    uint8_t *params = calloc(1, info.param_bytes + 16);
    for (unsigned k = 0; k < info.param_count; k++) {
      uint64_t v = info.params[k].bytes == 8 ? buffer + (rig_random(seed) % 4 ? 0 : rig_random(seed) % 8192) : rig_random(seed) % 100;
      memcpy(params + info.params[k].offset, &v, info.params[k].bytes < 8 ? info.params[k].bytes : 8);
    }
    emu_launch_config k = {.grid = {2, 1, 1}, .block = {40, 1, 1}, .dynamic_shared = 256, .params = params, .param_bytes = info.param_bytes, .workers = 1, .max_instructions = 20000,
                           .checks_off = rig_random(seed) % 4 == 0, .print = NULL};
    for (int i = 0; i < 3; i++)
      if (info.reqntid[i]) k.block[i] = info.reqntid[i];
    emu_result r;
    emu_launch(c, entry, &k, d, &r);
    emu_result_deinit(&r);
    free(params);
  }
}

static void fuzz(const char *file, uint64_t seed) {
  ts_arena a;
  ts_arena_init(&a);
  ts_str text = original(&a, file);
  char *copy = malloc(text.len + 1);
  unsigned loaded = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t s = seed + (uint64_t)round * 1000003;
    memcpy(copy, text.data, text.len);
    size_t n = text.len;
    for (unsigned k = 0; k <= rig_random(&s) % 3; k++) n = mutate(&s, copy, n, 0);
    emu_context *c;
    emu_module *m;
    ts_diags d;
    ts_diags_init(&d);
    ck_assert_int_eq(emu_context_create(&(emu_context_options){.sm = 80, .workers = 1, .memory = 1 << 26}, &d, &c), TS_OK);
    emu_addr buffer;
    ck_assert_int_eq(emu_alloc(c, 8192, "buffer", &buffer), TS_OK);
    if (emu_module_load(c, (ts_str){copy, n}, file, &d, &m) == TS_OK) {
      loaded++;
      launch_all(c, m, &d, &s, buffer);
      emu_module_unload(m);
    } else {
      ck_assert_msg(d.errors > 0, "%s round %d: refused without a message", file, round);
    }
    emu_context_destroy(c);
    ts_diags_deinit(&d);
  }
  free(copy);
  ts_arena_deinit(&a);
  ck_assert_uint_gt(loaded, ROUNDS / 20);
}

START_TEST(survives_mutation) {
  static const char *const files[] = {"bugs.ptx", "corpus.ptx", "corpus_g.ptx"};
  const char *given = getenv("TESSERA_SEED");
  // printf in a mutated kernel may write anything
  ck_assert(freopen("/dev/null", "w", stdout) != NULL);
  fuzz(files[_i], given ? strtoull(given, NULL, 0) : 42);
}
END_TEST

// Every message has a line and the name of what is refused.
START_TEST(refuses_by_name) {
  static const struct { const char *body, *want; } cases[] = {
      {"mbarrier.init.shared.b64 [%rd1], 1;", "mbarrier"},
      {"cp.async.bulk.wait_group 0;", "bulk"},
      {"wgmma.fence.sync.aligned;", "wgmma"},
      {"barrier.cluster.arrive;", "cluster"},
      {"tex.2d.v4.f32.f32 {%f1,%f1,%f1,%f1}, [%rd1, {%f1,%f1}];", "texture"},
      {"vadd.s32.s32.s32 %r1, %r1, %r1;", "video"},
      {"mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1}, %r1, 0;", "sparse"},
      {"tcgen05.wait::ld.sync.aligned;", "tensor memory"},
      {"frobnicate.b32 %r1, %r1;", "frobnicate"},
      {"add.s32.magic %r1, %r1, 1;", "magic"},
      {"add.s32 %r1, %rd1, 1;", "32"},
      {"add.s32 %r1, %nosuch, 1;", "nosuch"},
      {"bra NOWHERE;", "NOWHERE"},
      {"ld.global.u32 %r1, %rd1;", "brackets"},
      {"call missing, ();", "function"},
      {"mov.u32 %r1, 99999999999999999999;", "64 bits"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ts_text t = {0};
    ts_text_printf(&t, ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n.reg .b32 %%r<4>;\n.reg .b64 %%rd<4>;\n.reg .f32 %%f<4>;\n%s\nret;\n}\n", cases[i].body);
    emu_context *c;
    emu_module *m;
    ts_diags d;
    ts_diags_init(&d);
    ck_assert_int_eq(emu_context_create(&(emu_context_options){.sm = 90, .memory = 1 << 20}, &d, &c), TS_OK);
    ck_assert_int_ne(emu_module_load(c, ts_text_str(&t), "case.ptx", &d, &m), TS_OK);
    ck_assert_msg(d.errors && d.list.data[0].loc.line == 9, "%s: line %u", cases[i].body, d.list.count ? d.list.data[0].loc.line : 0);
    ck_assert_msg(strstr(d.list.data[0].text, cases[i].want) != NULL, "%s: %s", cases[i].body, d.list.data[0].text);
    emu_context_destroy(c);
    ts_diags_deinit(&d);
    ts_text_deinit(&t);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("emulator fuzz");
  TCase *t = tcase_create("fuzz");
  tcase_add_loop_test(t, survives_mutation, 0, 3);
  tcase_add_test(t, refuses_by_name);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
