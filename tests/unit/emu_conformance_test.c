// Runs the conformance tables (emu_conformance.h): writes PTX, executes it on an emulated device, compares with the oracles.
//
// TESSERA_PTX_OUT=DIR keeps the generated modules, TESSERA_CONFORMANCE=FILE writes the table of what was checked.
#include "emu_conformance.h"
#include "emu_harness.h"

#include <stdarg.h>

static uint64_t state = 0xA4093822299F31D0u;
static uint64_t rnd64(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}
#define COUNT(a) (sizeof(a) / sizeof *(a))

// --- building tables -----------------------------------------------------------------------------------------------------------
spec *spec_add(spec_list *list, unsigned target, const char *format, ...) {
  if (list->count == list->capacity) {
    list->capacity = list->capacity ? 2 * list->capacity : 256;
    list->items = realloc(list->items, list->capacity * sizeof *list->items);
    if (!list->items) abort();
  }
  spec *s = &list->items[list->count++];
  memset(s, 0, sizeof *s);
  s->target = target;
  va_list args;
  va_start(args, format);
  vsnprintf(s->text, sizeof s->text, format, args);
  va_end(args);
  return s;
}
void spec_sources(spec *s, unsigned result, unsigned count, unsigned width, data_kind kind) {
  s->result = (uint8_t)result;
  for (unsigned k = 0; k < count; k++) {
    s->width[k] = (uint8_t)width;
    s->data[k] = kind;
  }
}

// --- input data ----------------------------------------------------------------------------------------------------------------
static uint64_t edge(data_kind kind, uint64_t r) {
  static const uint32_t e32[] = {0,          0x80000000, 1,          0x80000001, 0x007FFFFF, 0x00800000, 0x80800000, 0x00FFFFFF,
                                 0x33000000, 0x33000001, 0x33800000, 0x34000000, 0x387FC000, 0x387FE000, 0x38800000, 0x3F000000,
                                 0x3F7FFFFF, 0x3F800000, 0xBF800000, 0x3F800001, 0x40000000, 0xC0490FDB, 0x43800000, 0x43E80000,
                                 0x43F00000, 0x477FE000, 0x477FF000, 0x4B000000, 0x4F000000, 0xCF000000, 0x5F000000, 0x7E800000,
                                 0x7F000000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF};
  static const uint16_t e16[] = {0,      0x8000, 1,      0x8001, 0x3FF,  0x400,  0x83FF, 0x7F,   0x80,   0x81,   0x3800,
                                 0x3BFF, 0x3C00, 0xBC00, 0x3C01, 0x3F7F, 0x3F80, 0xBF80, 0x3F81, 0x4000, 0x6400, 0x7BFF,
                                 0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81};
  static const uint64_t e64[] = {0,
                                 1,
                                 0x000FFFFFFFFFFFFF,
                                 0x0010000000000000,
                                 0x3CA0000000000000,
                                 0x3FE0000000000000,
                                 0x3FEFFFFFFFFFFFFF,
                                 0x3FF0000000000000,
                                 0x3FF0000000000001,
                                 0x4000000000000000,
                                 0x40EFFC0000000000,
                                 0x41E0000000000000,
                                 0x43E0000000000000,
                                 0x47EFFFFFE0000000,
                                 0x47EFFFFFF0000000,
                                 0x7FEFFFFFFFFFFFFF,
                                 0x7FF0000000000000,
                                 0x7FF0000000000001,
                                 0x7FF8000000000123};
  static const uint64_t ebits[] = {0,
                                   1,
                                   2,
                                   0x7F,
                                   0x80,
                                   0xFF,
                                   0x7FFF,
                                   0x8000,
                                   0xFFFF,
                                   0x7FFFFFFF,
                                   0x80000000,
                                   0xFFFFFFFF,
                                   0x100000000,
                                   0x7FFFFFFFFFFFFFFF,
                                   0x8000000000000000,
                                   0xFFFFFFFFFFFFFFFF,
                                   0xFFFFFFFF80000000,
                                   0xAAAAAAAAAAAAAAAA};
  switch (kind) {
    case D_F32: return e32[r % COUNT(e32)] | (uint64_t)e32[(r >> 20) % COUNT(e32)] << 32;
    case D_F16: case D_BF16: return e16[r % COUNT(e16)] | (uint64_t)e16[(r >> 20) % COUNT(e16)] << 16;
    case D_F64: return e64[r % COUNT(e64)] | (r >> 40 & 1) << 63;
    default: return ebits[r % COUNT(ebits)];
  }
}
static uint64_t datum(data_kind kind, unsigned index, unsigned source) {
  uint64_t r = rnd64(), v = rnd64();
  if (kind == D_SMALL) return r & 15 ? v % 70 : v;
  if (kind == D_LANE) return index / 32 % 3 == 0 ? index / 96 & 1 : v & 1;   // every third warp agrees
  if ((r & 3) == 0) {
    // Every pair of edge values comes first, then random ones.
    return edge(kind, index < 1600 && source < 2 ? (source ? index / 40 : index) : v);
  }
  if (kind == D_F32 && (r & 4)) v = (v & 0x83FFF000BFFFFFFFu) | 0x3C00000030000000u;   // near 1, so that sums and ties happen
  if (kind == D_F64 && (r & 4)) v = (v & 0x803FFFFFFFFFFFFF) | 0x3FC0000000000000 | (uint64_t)(r >> 40 & 0x1F) << 54;
  if (kind == D_F16 && (r & 4)) v = (v & 0x83FF83FF83FF83FFu) | 0x3800380038003800u;
  if (kind == D_BITS && (r & 4)) v >>= r >> 32 & 63;
  return v;
}
static uint64_t narrow(uint64_t v, unsigned width) { return width >= 64 ? v : v & (((uint64_t)1 << width) - 1); }

// --- writing PTX ---------------------------------------------------------------------------------------------------------------
static const char *register_of(unsigned width) { return width == 16 ? "%h" : width == 64 ? "%l" : "%r"; }

// Operands: $0 is the result register, $k the k-th source.
static void put_operands(ts_text *out, const spec *s, const char *pattern) {
  for (const char *p = pattern; *p; p++) {
    if (*p != '$') {
      ts_text_printf(out, "%c", *p);
      continue;
    }
    unsigned k = (unsigned)(*++p - '0');
    if (k == 0 && s->result == 1) ts_text_puts(out, "%q0");
    else ts_text_printf(out, "%s%u", register_of(k ? s->width[k - 1] : s->result), k);
  }
}
static void put_kernel(ts_text *out, const spec *s, size_t number) {
  ts_text_printf(
      out, "// %s\n.visible .entry k%zu(.param .u64 d, .param .u64 s1, .param .u64 s2, .param .u64 s3, .param .u64 s4)\n{\n",
      s->text, number);
  ts_text_puts(out,
               "  .reg .pred %q<4>;\n  .reg .b8 %x<3>;\n  .reg .b16 %h<6>;\n  .reg .b32 %r<6>, %t<4>, %u<4>;\n  .reg .b64 %l<6>, "
               "%a<6>, %o;\n");
  ts_text_puts(out,
               "  mov.u32 %u1, %ctaid.x;\n  mov.u32 %u2, %ntid.x;\n  mov.u32 %u3, %tid.x;\n  mad.lo.u32 %u1, %u1, %u2, %u3;\n  "
               "mul.wide.u32 %o, %u1, 8;\n");
  for (unsigned k = 0; k < 4; k++) {
    if (!s->width[k]) continue;
    ts_text_printf(out, "  ld.param.u64 %%a%u, [s%u];\n  add.u64 %%a%u, %%a%u, %%o;\n", k + 1, k + 1, k + 1, k + 1);
    ts_text_printf(out, "  ld.global.b%u %s%u, [%%a%u];\n", s->width[k], register_of(s->width[k]), k + 1, k + 1);
  }
  char pattern[200];
  if (s->body) snprintf(pattern, sizeof pattern, "%s", s->body);
  else if (*s->args) snprintf(pattern, sizeof pattern, "%s %s;", s->text, s->args);
  else {
    int n = snprintf(pattern, sizeof pattern, "%s $0", s->text);
    for (unsigned k = 0; k < 4 && s->width[k]; k++) n += snprintf(pattern + n, sizeof pattern - (size_t)n, ", $%u", k + 1);
    snprintf(pattern + n, sizeof pattern - (size_t)n, ";");
  }
  ts_text_puts(out, "  ");
  put_operands(out, s, pattern);
  ts_text_puts(out, "\n  ld.param.u64 %a0, [d];\n  add.u64 %a0, %a0, %o;\n");
  if (s->result == 1) ts_text_puts(out, "  selp.b32 %r0, 1, 0, %q0;\n  st.global.b32 [%a0], %r0;\n");
  else ts_text_printf(out, "  st.global.b%u [%%a0], %s0;\n", s->result, register_of(s->result));
  ts_text_puts(out, "  ret;\n}\n");
}

// --- running -------------------------------------------------------------------------------------------------------------------
static void check_results(const spec *s, uint64_t (*x)[65536], const uint64_t *d, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    uint64_t v[4] = {x[0][i], x[1][i], x[2][i], x[3][i]}, want = 0;
    bool ok;
    if (s->warp) {
      uint64_t lanes[4][32], wants[32];
      for (int k = 0; k < 4; k++) memcpy(lanes[k], &x[k][i / 32 * 32], sizeof lanes[k]);
      s->warp((const uint64_t(*)[32])lanes, wants, s);
      want = wants[i % 32];
      ok = d[i] == want;
    } else if (s->judge) {
      ok = s->judge(v, d[i], s);
    } else {
      want = s->want(v, s);
      ok = d[i] == want;
    }
    if (!ok)
      ck_abort_msg("%s (%llx, %llx, %llx, %llx): %llx%s%llx", s->text, (unsigned long long)v[0], (unsigned long long)v[1],
                   (unsigned long long)v[2], (unsigned long long)v[3], (unsigned long long)d[i],
                   s->judge ? ", out of bounds; not " : ", expected ", (unsigned long long)want);
  }
}

static void run_specs(const spec_list *list, const char *name, unsigned target) {
  ts_text text = {0};
  static const char *const targets[] = {"sm_80", "sm_90", "sm_100a"};
  ts_text_printf(&text, ".version %s\n.target %s\n.address_size 64\n", target == 100 ? "8.8" : "8.6",
                 targets[target / 10 - 8 > 2 ? 2 : target / 10 - 8]);
  size_t kernels = 0;
  for (size_t k = 0; k < list->count; k++)
    if (list->items[k].target == target && (list->items[k].want || list->items[k].judge || list->items[k].warp)) {
      put_kernel(&text, &list->items[k], k);
      kernels++;
    }
  if (kernels == 0) return;
  const char *out = getenv("TESSERA_PTX_OUT");
  if (out) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s_%u.ptx", out, name, target);
    FILE *f = fopen(path, "w");
    if (f) {
      fputs(ts_text_z(&text), f);
      fclose(f);
    }
  }
  rig r;
  rig_open_text(&r, ts_text_str(&text), name, target);
  r.checks_off = false;
  enum { MOST = 65536 };
  static uint64_t x[4][MOST], zero[MOST];
  emu_addr d = rig_buffer(&r, zero, sizeof zero), a[4];
  for (int k = 0; k < 4; k++) a[k] = rig_buffer(&r, zero, sizeof x[k]);
  for (size_t k = 0; k < list->count; k++) {
    const spec *s = &list->items[k];
    if (s->target != target || !(s->want || s->judge || s->warp)) continue;
    unsigned n = s->exhaustive ? MOST : 2048;
    for (unsigned i = 0; i < n; i++)
      for (unsigned q = 0; q < 4; q++) {
        x[q][i] = s->width[q] == 0 ? 0 : s->exhaustive && q == 0 ? i | (rnd64() & 0xFFFF) << 16 : datum(s->data[q], i, q);
        x[q][i] = narrow(x[q][i], s->width[q]);
      }
    for (int q = 0; q < 4; q++) ck_assert_int_eq(emu_write(r.c, a[q], x[q], n * 8), TS_OK);
    ck_assert_int_eq(emu_write(r.c, d, zero, n * 8), TS_OK);
    char entry[32];
    snprintf(entry, sizeof entry, "k%zu", k);
    if (rig_launch(&r, entry, (dims){n / 256, 1, 1}, (dims){256, 1, 1}, 0, PARAMS(d, a[0], a[1], a[2], a[3])) != TS_OK)
      rig_fail(&r, s->text);
    static uint64_t got[MOST];
    ck_assert_int_eq(emu_read(r.c, got, d, n * 8), TS_OK);
    check_results(s, x, got, n);
  }
  rig_close(&r);
  ts_text_deinit(&text);
}

static bool same_group(const spec *a, const spec *b) {
  size_t n = strcspn(a->text, "."), m = strcspn(b->text, ".");
  return n == m && memcmp(a->text, b->text, n) == 0 && a->exhaustive == b->exhaustive && (a->bound != 0) == (b->bound != 0);
}
// One row per opcode, way of testing and verdict, with its spellings.
static void write_table(const spec_list *list, const char *name) {
  const char *path = getenv("TESSERA_CONFORMANCE");
  FILE *f = path ? fopen(path, "a") : NULL;
  if (!f) return;
  fprintf(f, "\n## %s\n\n| inputs | result | spellings |\n| --- | --- | --- |\n", name);
  bool *done = calloc(list->count, 1);
  for (size_t k = 0; done && k < list->count; k++) {
    const spec *s = &list->items[k];
    if (done[k] || !(s->want || s->judge || s->warp)) continue;
    fprintf(f, "| %s | %s |", s->exhaustive ? "all 65,536" : "2,048", s->bound != 0 ? "documented error" : "exact");
    for (size_t q = k; q < list->count; q++) {
      const spec *o = &list->items[q];
      if (done[q] || !(o->want || o->judge || o->warp) || !same_group(s, o)) continue;
      done[q] = true;
      bool three = o->width[2] && (!strncmp(o->text, "min", 3) || !strncmp(o->text, "max", 3));
      fprintf(f, " `%s`%s", o->text, three ? " (three sources)" : "");
    }
    fprintf(f, " |\n");
  }
  free(done);
  fclose(f);
}

static void run_table(void (*build)(spec_list *), const char *name) {
  spec_list list = {0};
  build(&list);
  for (unsigned target = 80; target <= 100; target += 10) run_specs(&list, name, target);
  write_table(&list, name);
  printf("%s: %zu spellings\n", name, list.count);
  free(list.items);
}

START_TEST(float_table) { run_table(conform_float, "float"); }
END_TEST
START_TEST(half_table) { run_table(conform_half, "half"); }
END_TEST
START_TEST(int_table) { run_table(conform_int, "int"); }
END_TEST
START_TEST(cvt_table) { run_table(conform_cvt, "cvt"); }
END_TEST
START_TEST(warp_table) { run_table(conform_warps, "warp"); }
END_TEST

int main(void) {
  Suite *suite = suite_create("emu_conformance");
  TCase *t = tcase_create("tables");
  tcase_add_test(t, float_table);
  tcase_add_test(t, half_table);
  tcase_add_test(t, int_table);
  tcase_add_test(t, cvt_table);
  tcase_add_test(t, warp_table);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
