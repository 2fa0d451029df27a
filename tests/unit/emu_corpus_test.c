// The corpus of CUDA kernels (tests/data/ptx/corpus.cu) against C, optimised and unoptimised, over several schedules, with all
// checks on and silent.
#include "emu_harness.h"

#include <math.h>

static const char *const files[] = {"corpus.ptx", "corpus_g.ptx"};
static uint64_t seed;

static int *random_ints(rig *r, size_t n, int mask) {
  int *x = ts_new_array(&r->arena, int, n + 1);
  for (size_t i = 0; i < n; i++) x[i] = (int)rig_random(&seed) & mask;
  return x;
}

#define CORPUS(name) START_TEST(name) { rig r; rig_open(&r, files[_i % 2], 80); r.schedule_seed = (uint64_t)(_i / 2) * 77; r.workers = _i / 2 == 2 ? 2 : 1;
#define END rig_close(&r); } END_TEST

CORPUS(reduces)
  int n = 1000 + (int)(rig_random(&seed) % 100), sum = 0, *x = random_ints(&r, n, 0xffff);
  for (int i = 0; i < n; i++) sum += x[i];
  emu_addr out = rig_zeros(&r, 4);
  RUN(&r, "reduce", (dims){3}, (dims){128}, 0, rig_buffer(&r, x, n * 4), n, out);
  ck_assert_int_eq(*(int *)rig_fetch(&r, out, 4), sum);
END

CORPUS(scans)
  int n = 250, *x = random_ints(&r, n, 0xfff);
  emu_addr y = rig_buffer(&r, NULL, n * 4);
  RUN(&r, "scan", (dims){1}, (dims){256}, 1024, rig_buffer(&r, x, n * 4), y, n);
  int *got = rig_fetch(&r, y, n * 4), s = 0;
  for (int i = 0; i < n; i++) ck_assert_int_eq(got[i], s += x[i]);
END

CORPUS(histograms)
  int n = 3001;
  unsigned want[256] = {0};
  uint8_t *x = ts_new_array(&r.arena, uint8_t, n);
  for (int i = 0; i < n; i++) want[x[i] = (uint8_t)(rig_random(&seed) % 50 * 5)]++;
  emu_addr h = rig_zeros(&r, 1024);
  RUN(&r, "histogram", (dims){4}, (dims){96}, 0, rig_buffer(&r, x, n), n, h);
  ck_assert_mem_eq(rig_fetch(&r, h, 1024), want, 1024);
END

CORPUS(transposes)
  int rows = 45, cols = 70, *x = random_ints(&r, rows * cols, -1);
  emu_addr y = rig_buffer(&r, NULL, rows * cols * 4);
  RUN(&r, "transpose", ((dims){3, 2}), ((dims){32, 8}), 0, rig_buffer(&r, x, rows * cols * 4), y, rows, cols);
  int *got = rig_fetch(&r, y, rows * cols * 4);
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < cols; j++) ck_assert_int_eq(got[j * rows + i], x[i * cols + j]);
END

CORPUS(stencils)
  int n = 333;
  float *x = ts_new_array(&r.arena, float, n);
  for (int i = 0; i < n; i++) x[i] = (float)(int)(rig_random(&seed) % 1000) * 0.125f;
  emu_addr y = rig_zeros(&r, n * 4);
  RUN(&r, "stencil", (dims){6}, (dims){64}, 0, rig_buffer(&r, x, n * 4), y, n);
  float *got = rig_fetch(&r, y, n * 4);
  for (int i = 1; i < n - 1; i++) ck_assert(got[i] == 0.25f * x[i - 1] + 0.5f * x[i] + 0.25f * x[i + 1]);
  ck_assert(got[0] == 0 && got[n - 1] == 0);
END

CORPUS(hashes)
  int n = 400, slots = 1021, *keys = random_ints(&r, n, 255);
  emu_addr t = rig_zeros(&r, slots * 8), w = rig_buffer(&r, NULL, n * 4);
  RUN(&r, "hash_insert", (dims){4}, (dims){128}, 0, t, slots, rig_buffer(&r, keys, n * 4), n, w);
  uint64_t *table = rig_fetch(&r, t, slots * 8);
  int *where = rig_fetch(&r, w, n * 4), used = 0, distinct = 0;
  bool seen[256] = {0};
  for (int i = 0; i < n; i++) {
    ck_assert_uint_eq(table[where[i]], (uint64_t)keys[i] + 1);
    distinct += !seen[keys[i]];
    seen[keys[i]] = true;
  }
  for (int i = 0; i < slots; i++) used += table[i] != 0;
  ck_assert_int_eq(used, distinct);
END

CORPUS(locks)
  emu_addr lock = rig_zeros(&r, 4), counter = rig_zeros(&r, 4);
  RUN(&r, "warp_lock", (dims){3}, (dims){64}, 0, lock, counter);
  ck_assert_int_eq(*(int *)rig_fetch(&r, counter, 4), 192);
END

CORPUS(looks_back)
  int blocks = 20, n = blocks * 64, *x = random_ints(&r, n, 0xff), before = 0;
  emu_addr y = rig_buffer(&r, NULL, n * 4), state = rig_zeros(&r, blocks * 4);
  RUN(&r, "lookback", (dims){20}, (dims){64}, 0, rig_buffer(&r, x, n * 4), y, state, rig_buffer(&r, NULL, blocks * 4));
  int *got = rig_fetch(&r, y, n * 4);
  for (int b = 0; b < blocks; b++) {
    for (int i = 0; i < 64; i++) ck_assert_int_eq(got[b * 64 + i], before + x[b * 64 + i]);
    for (int i = 0; i < 64; i++) before += x[b * 64 + i];
  }
END

CORPUS(syncs_the_grid)
  emu_addr out = rig_buffer(&r, NULL, 40 * 4);
  RUN(&r, "grid_sync", (dims){40}, (dims){33}, 0, rig_zeros(&r, 4), rig_buffer(&r, NULL, 160), out);
  int *got = rig_fetch(&r, out, 160);
  for (int i = 0; i < 40; i++) ck_assert_int_eq(got[i], (i + 1) % 40 * 3);
END

static uint16_t to_half(float f) {   // exact for the small multiples of 1/8 used here
  if (f == 0) return 0;
  int e;
  float m = frexpf(fabsf(f), &e);
  return (uint16_t)((f < 0 ? 0x8000 : 0) | (unsigned)(e + 14) << 10 | ((unsigned)(m * 2048) & 0x3ff));
}
static float from_half(uint16_t h) {
  float m = (h >> 10 & 31) ? 1024 + (h & 0x3ff) : (float)(h & 0x3ff) * 2;
  float v = ldexpf(m, (int)(h >> 10 & 31) - 25);
  return h & 0x8000 ? -v : v;
}
static float small(void) { return (float)((int)(rig_random(&seed) % 17) - 8) * 0.125f; }

CORPUS(computes_in_half)
  int n = 100;
  uint16_t *a = ts_new_array(&r.arena, uint16_t, 2 * n), *b = ts_new_array(&r.arena, uint16_t, 2 * n);
  for (int i = 0; i < 2 * n; i++) a[i] = to_half(small()), b[i] = to_half(small());
  emu_addr y = rig_buffer(&r, NULL, n * 4);
  RUN(&r, "halves", (dims){2}, (dims){64}, 0, rig_buffer(&r, a, n * 4), rig_buffer(&r, b, n * 4), y, n);
  uint16_t *got = rig_fetch(&r, y, n * 4);
  for (int i = 0; i < 2 * n; i++) {
    float p = from_half(a[i]), q = from_half(b[i]);
    ck_assert_msg(from_half(got[i]) == p * q + (p + q), "%g %g -> %g", p, q, from_half(got[i]));
  }
END

static void gemm(rig *r, const char *entry, dims grid, int n) {
  uint16_t *a = ts_new_array(&r->arena, uint16_t, n * n), *b = ts_new_array(&r->arena, uint16_t, n * n);
  for (int i = 0; i < n * n; i++) a[i] = to_half(small()), b[i] = to_half(small());
  emu_addr c = rig_buffer(r, NULL, n * n * 4);
  if (rig_launch(r, entry, grid, (dims){32}, 0, PARAMS(rig_buffer(r, a, n * n * 2), rig_buffer(r, b, n * n * 2), c, n)) != TS_OK) rig_fail(r, entry);
  float *got = rig_fetch(r, c, n * n * 4);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      float s = 0;
      for (int k = 0; k < n; k++) s += from_half(a[i * n + k]) * from_half(b[j * n + k]);
      ck_assert_msg(got[i * n + j] == s, "%s (%d, %d): %g, not %g", entry, i, j, got[i * n + j], s);
    }
}
CORPUS(multiplies_with_wmma) gemm(&r, "wmma_gemm", (dims){3, 3}, 48); END
CORPUS(multiplies_with_mma) gemm(&r, "mma_gemm", (dims){6, 3}, 48); END

static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
CORPUS(calls_functions)
  emu_addr y = rig_buffer(&r, NULL, 48 * 4);
  RUN(&r, "calls", (dims){1}, (dims){48}, 0, y);
  int *got = rig_fetch(&r, y, 48 * 4);
  for (int i = 0; i < 48; i++) ck_assert_int_eq(got[i], i % 3 == 0 ? fib(i % 12) : i % 3 == 1 ? 2 * (i % 12) : i % 12 * (i % 12));
END

CORPUS(switches_and_loops)
  int n = 300, *op = random_ints(&r, n, 1023);
  emu_addr y = rig_buffer(&r, NULL, n * 4);
  RUN(&r, "switches", (dims){5}, (dims){64}, 0, rig_buffer(&r, op, n * 4), y, n);
  int *got = rig_fetch(&r, y, n * 4);
  for (int i = 0; i < n; i++) {
    unsigned v = (unsigned)i;
    for (int q = 0; q < 4; q++) {
      switch ((op[i] + q) % 9) {
        case 0: v += 7; break;
        case 1: v *= 3; break;
        case 2: v ^= 0x55; break;
        case 3: if (v & 1) continue; v = (unsigned)((int)v >> 1); break;
        case 4: v -= (unsigned)q; break;
        case 5: v = v * v; break;
        case 6: for (unsigned j = 0; j < (v & 7); j++) { if (j == 5) break; v += j; } break;
        case 7: v = 0u - v; break;
        default: v |= 1;
      }
    }
    ck_assert_uint_eq((unsigned)got[i], v);
  }
END

CORPUS(computes_wide)
  int n = 60;
  uint64_t *a = ts_new_array(&r.arena, uint64_t, n), *b = ts_new_array(&r.arena, uint64_t, n);
  for (int i = 0; i < n; i++) a[i] = rig_random(&seed) >> i, b[i] = rig_random(&seed) >> (i * 7 % 64);
  emu_addr y = rig_buffer(&r, NULL, n * 24), z = rig_buffer(&r, NULL, n * 8);
  RUN(&r, "wide", (dims){1}, (dims){64}, 0, rig_buffer(&r, a, n * 8), rig_buffer(&r, b, n * 8), y, z, n);
  uint64_t *got = rig_fetch(&r, y, n * 24);
  double *real = rig_fetch(&r, z, n * 8);
  for (int i = 0; i < n; i++) {
    unsigned __int128 s = (unsigned __int128)a[i] * b[i];
    ck_assert_uint_eq(got[3 * i], (uint64_t)(s >> 64));
    ck_assert_uint_eq(got[3 * i + 1], (uint64_t)((s + a[i]) >> 64));
    ck_assert_uint_eq(got[3 * i + 2], a[i] / (b[i] | 1) + a[i] % (b[i] | 1));
    ck_assert(real[i] == sqrt((double)a[i]) / (1.0 + (double)b[i]));
  }
END

static unsigned reversed(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i);
  return r;
}
CORPUS(works_across_lanes)
  int *x = random_ints(&r, 64, -1);
  emu_addr y = rig_buffer(&r, NULL, 64 * 32);
  RUN(&r, "warp_ops", (dims){1}, (dims){64}, 0, rig_buffer(&r, x, 256), y);
  int *got = rig_fetch(&r, y, 64 * 32);
  for (int t = 0; t < 64; t++) {
    unsigned ballot = 0, match = 0, sum = 0, active = 0, v = (unsigned)x[t];
    for (int l = 0; l < 32; l++) {
      unsigned u = (unsigned)x[t / 32 * 32 + l];
      ballot |= (u & 1) << l;
      match |= (unsigned)((u & 3) == (v & 3)) << l;
      active |= (unsigned)((int)u % 2 != 0) << l;
      sum += u;
    }
    int *o = got + t * 8;
    ck_assert_uint_eq((unsigned)o[0], ballot);
    ck_assert_uint_eq((unsigned)o[1], match);
    ck_assert_uint_eq((unsigned)o[2], sum);
    ck_assert_int_eq(o[3], t % 16 >= 3 ? x[t - 3] : x[t]);
    ck_assert_uint_eq((unsigned)o[4], (unsigned)__builtin_popcount(v) + (v ? (unsigned)__builtin_clz(v) : 32) + (unsigned)__builtin_ffs((int)v) + reversed(v));
    uint8_t bytes[8];
    unsigned w = v * 3, perm, hi = v * 5, s = v & 31;
    memcpy(bytes, &v, 4);
    memcpy(bytes + 4, &w, 4);
    perm = bytes[1] | (unsigned)bytes[4] << 8 | (unsigned)bytes[5] << 16 | (unsigned)bytes[2] << 24;
    ck_assert_uint_eq((unsigned)o[5], perm ^ (s ? hi << s | v >> (32 - s) : hi));
    int dp = 3;
    unsigned q = v * 7;
    for (int k = 0; k < 4; k++) dp += (int8_t)(v >> 8 * k) * (int8_t)(q >> 8 * k);
    ck_assert_int_eq(o[6], dp);
    ck_assert_uint_eq((unsigned)o[7], (int)v % 2 ? active : 1);
  }
END

static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
CORPUS(sorts_in_local_memory)
  int *x = random_ints(&r, 32, 1023), sorted[32];
  emu_addr y = rig_buffer(&r, NULL, 32 * 128);
  RUN(&r, "local_array", (dims){1}, (dims){32}, 0, rig_buffer(&r, x, 128), y);
  int *got = rig_fetch(&r, y, 32 * 128);
  memcpy(sorted, x, 128);
  qsort(sorted, 32, 4, by_value);
  for (int t = 0; t < 32; t++)
    for (int i = 0; i < 32; i++) ck_assert_int_eq(got[t * 32 + i], sorted[(i + x[t]) & 31]);
END

CORPUS(passes_through_named_barriers)
  emu_addr y = rig_buffer(&r, NULL, 512);
  RUN(&r, "named_barriers", (dims){1}, (dims){64}, 0, y);
  int *got = rig_fetch(&r, y, 512);
  for (int i = 0; i < 128; i++) ck_assert_int_eq(got[i], i / 32 * 100 + 31 - i % 32);
END

static void collect(void *user, ts_str text) { ts_text_add(user, text); }
START_TEST(prints_and_asserts) {
  rig r;
  rig_open(&r, files[_i], 80);
  const emu_entry *e = emu_module_entry(r.m, "prints");
  uint32_t n = 2;
  ts_text got = {0};
  emu_launch_config k = {.grid = {1, 1, 1}, .block = {32, 1, 1}, .params = &n, .param_bytes = 4, .print = collect, .print_user = &got};
  r.has_result = true;
  ck_assert_int_eq(emu_launch(r.c, e, &k, &r.diags, &r.result), TS_OK);
  ck_assert_str_eq(ts_text_z(&got), "thread 0 of prints:  0.00 123456789abc%\nthread 1 of prints:  0.50 123456789abc%\n");
  ts_text_deinit(&got);
  RUN(&r, "asserts", (dims){1}, (dims){1}, 0, 2);
  ck_assert_int_eq(rig_launch(&r, "asserts", (dims){1}, (dims){1}, 0, PARAMS(3)), TS_MISMATCH);
  ck_assert_int_eq(r.result.reports.data[0].fault, EMU_FAULT_ASSERT);
  rig_close(&r);
}
END_TEST

int main(void) {
  seed = rig_seed();
  Suite *s = suite_create("emulator corpus");
  TCase *t = tcase_create("corpus");
  static const TTest *const *tests[] = {&reduces, &scans, &histograms, &transposes, &stencils, &hashes, &locks, &looks_back, &syncs_the_grid, &computes_in_half,
                                        &multiplies_with_wmma, &multiplies_with_mma, &calls_functions, &switches_and_loops, &computes_wide, &works_across_lanes,
                                        &sorts_in_local_memory, &passes_through_named_barriers};
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_loop_test(t, *tests[i], 0, 6);
  tcase_add_loop_test(t, prints_and_asserts, 0, 2);
  suite_add_tcase(s, t);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_ENV);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
