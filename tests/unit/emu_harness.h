// What the emulator's tests share: a device with a module from tests/data/ptx, buffers, launches with a list of parameters.
#ifndef TESSERA_TESTS_EMU_HARNESS_H
#define TESSERA_TESTS_EMU_HARNESS_H
#include "base/file.h"
#include "emulator/emu.h"

#include <check.h>
#include <stdlib.h>
#include <time.h>

typedef struct rig {
  emu_context *c;
  emu_module *m;
  ts_arena arena;
  ts_diags diags;
  uint64_t schedule_seed;
  unsigned workers;
  bool checks_off, counters;
  uint64_t limit;
  emu_result result;
  bool has_result;
} rig;

static inline void rig_fail(rig *r, const char *what) {
  ts_text t = {0};
  ts_diags_print(&r->diags, &t, false);
  for (size_t i = 0; r->has_result && i < r->result.reports.count; i++) ts_text_puts(&t, r->result.reports.data[i].text);
  ck_abort_msg("%s\n%s", what, ts_text_z(&t));
}

static inline void rig_open_text(rig *r, ts_str text, const char *name, unsigned sm) {
  *r = (rig){.workers = 1};
  ts_arena_init(&r->arena);
  ts_diags_init(&r->diags);
  if (emu_context_create(&(emu_context_options){.sm = sm, .workers = 1}, &r->diags, &r->c) != TS_OK) rig_fail(r, "no device");
  if (emu_module_load(r->c, text, name, &r->diags, &r->m) != TS_OK) rig_fail(r, "the module does not load");
}

static inline void rig_open(rig *r, const char *file, unsigned sm) {
  ts_arena a;
  ts_diags d;
  ts_arena_init(&a);
  ts_diags_init(&d);
  ts_str text;
  char path[200];
  snprintf(path, sizeof path, "tests/data/ptx/%s", file);
  ck_assert_msg(ts_file_read(&a, path, &d, &text) == TS_OK, "%s is missing", path);
  rig_open_text(r, text, file, sm);
  ts_arena_deinit(&a);
  ts_diags_deinit(&d);
}

static inline void rig_close(rig *r) {
  if (r->has_result) emu_result_deinit(&r->result);
  emu_module_unload(r->m);
  emu_context_destroy(r->c);
  ts_diags_deinit(&r->diags);
  ts_arena_deinit(&r->arena);
}

// A buffer; data NULL: left uninitialised.
static inline emu_addr rig_buffer(rig *r, const void *data, size_t bytes) {
  emu_addr a;
  ck_assert_int_eq(emu_alloc(r->c, bytes, "buffer", &a), TS_OK);
  if (data) ck_assert_int_eq(emu_write(r->c, a, data, bytes), TS_OK);
  return a;
}
static inline emu_addr rig_zeros(rig *r, size_t bytes) {
  emu_addr a = rig_buffer(r, NULL, bytes);
  uint8_t zero = 0;
  ck_assert_int_eq(emu_fill(r->c, a, &zero, 1, bytes), TS_OK);
  return a;
}

typedef struct dims {
  uint32_t x, y, z;
} dims;

// Launches `entry`; every parameter as 64 bits, of which the entry takes what it needs.
static inline ts_status rig_launch(rig *r, const char *entry, dims grid, dims block, uint32_t shared, const uint64_t *params, unsigned n) {
  const emu_entry *e = emu_module_entry(r->m, entry);
  ck_assert_msg(e != NULL, "no entry %s", entry);
  emu_entry_info info;
  emu_entry_describe(e, &info);
  ck_assert_uint_eq(info.param_count, n);
  uint8_t bytes[4096] = {0};
  for (unsigned i = 0; i < n; i++) memcpy(bytes + info.params[i].offset, &params[i], info.params[i].bytes);
  emu_launch_config k = {.grid = {grid.x, grid.y ? grid.y : 1, grid.z ? grid.z : 1}, .block = {block.x, block.y ? block.y : 1, block.z ? block.z : 1}, .dynamic_shared = shared,
                         .params = bytes, .param_bytes = info.param_bytes, .schedule_seed = r->schedule_seed, .workers = r->workers, .checks_off = r->checks_off,
                         .counters = r->counters, .max_instructions = r->limit};
  if (r->has_result) emu_result_deinit(&r->result);
  r->has_result = true;
  return emu_launch(r->c, e, &k, &r->diags, &r->result);
}
#define PARAMS(...) (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8

// Launches and expects silence.
#define RUN(r, entry, grid, block, shared, ...)                                                             \
  do {                                                                                                      \
    if (rig_launch(r, entry, grid, block, shared, PARAMS(__VA_ARGS__)) != TS_OK) rig_fail(r, "launch of " entry); \
  } while (0)

static inline void *rig_fetch(rig *r, emu_addr a, size_t bytes) {
  void *p = ts_arena_alloc(&r->arena, bytes + 1, 16);
  ck_assert_int_eq(emu_read(r->c, p, a, bytes), TS_OK);
  return p;
}

static inline uint64_t rig_random(uint64_t *s) {
  uint64_t z = *s += 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}
static inline uint64_t rig_seed(void) {
  const char *given = getenv("TESSERA_SEED");
  uint64_t s = given ? strtoull(given, NULL, 0) : (uint64_t)(uintptr_t)&given ^ (uint64_t)clock();
  fprintf(stderr, "seed 0x%llx\n", (unsigned long long)s);
  return s;
}
#endif
