// Damaged artifacts: truncated anywhere, bits flipped with and without repaired checksums, hostile records. Opening, planning,
// creating sessions and calling (with kernels that touch nothing) must end in a status, under the sanitizers.
#include "runtime_common.h"

#include <stdlib.h>
#include <unistd.h>

static const char text[] =
  "launch @victim for host { dim @batch : 1 .. 4 dim @seq : 1 .. 40 per @batch dim @n : 0 .. 64 step 8\n"
  "weight @w : 300 hash 0x1 weight @v : 64 hash 0x2\n"
  "state @kv rows @batch length 60 page 8 { list @full full pool @k list @full layers 2 bytes 32 zero type \"f32\" pool @v list @full layers 2 bytes 64 type \"f32\" }\n"
  "kernel @append(5 pointers, 3 sizes) { raise \"no page\" } kernel @add(3 pointers, 1 sizes) { raise \"x\" loc(\"a.yaml\":1:2) }\n"
  "function @f(%x : f32[batch, seq], %codes : u8[seq] as \"q\" bytes [seq]) -> (%y : f32[batch]) loc(\"a.yaml\":3:4) {\n"
  "  buffer %x = input 0 buffer %y = output 0 buffer %l = length @kv buffer %r = ragged @seq buffer %w = weight @w buffer %v = weight @v\n"
  "  buffer %k = pool @kv @k buffer %t = table @kv @full buffer %e = error\n"
  "  buffer %t0 = workspace [(seq * batch) * 4] steps 1 .. 3 buffer %t1 = workspace [max(total(seq), 64) * 8] steps 3 .. 4\n"
  "  require [(seq <= 64) and (longest(seq) <= 64)] \"seq\"\n"
  "  launch @append grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %t0) sizes [seq, 8, width(kv, full)]\n"
  "  launch when [(length(kv) mod 2) == 1] @add grid [seq ceildiv 8, 1, 1] args(%w, %v, %t0) sizes [seq]\n"
  "    else @add grid [seq floordiv 1, 1, 1] args(%w + [seq], %e, %x) sizes [seq]\n"
  "  copy %t1 from %t0 bytes [16]\n"
  "  fill %t1 with 0x1 bytes [total(seq) * 8]\n"
  "  advance @kv by @seq }\n"
  "function @g(%x : f32[n]) -> (%y : f32[n]) { buffer %x = input 0 buffer %y = output 0 launch @add grid [2, 1, 1] args(%x, %x, %y) sizes [n] } }";

static ts_status read_weight(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  (void)user, (void)d;
  for (size_t i = 0; i < n; i++) ((unsigned char *)dst)[i] = (unsigned char)(at + i);
  return TS_OK;
}

typedef struct file { unsigned char *data; size_t size; } file;

static file make_file(void) {
  made m;
  make_begin_stub(&m, text);
  cg_artifact_weight(m.artifact, "w", 300, read_weight, NULL);
  cg_artifact_weight(m.artifact, "v", 64, read_weight, NULL);
  cg_artifact_meta(m.artifact, "a", "b");
  cg_artifact_blob(m.artifact, "blob", "0123456789", 10);
  cg_artifact_manifest(m.artifact, "{}", 2);
  make_write(&m);
  FILE *in = fopen(m.path, "rb");
  fseek(in, 0, SEEK_END);
  file f = {.size = (size_t)ftell(in)};
  rewind(in);
  f.data = aligned_alloc(64, (f.size + 63) & ~(size_t)63);
  ck_assert_uint_eq(fread(f.data, 1, f.size, in), f.size);
  fclose(in);
  make_end(&m);
  return f;
}

static tsr_device *device;
static int opened, ran;

// Uses everything a loaded artifact offers. Any status is fine; a crash is not.
static void use(tsr_artifact *a) {
  opened++;
  tsr_artifact_metadata(a, "a");
  const void *data;
  size_t size;
  tsr_artifact_section(a, "blob", &data, &size);
  for (int kind = TSR_FUNCTIONS; kind <= TSR_KERNELS; kind++)
    for (size_t i = 0; i < tsr_artifact_count(a, (tsr_kind)kind); i++) {
      const char *name = tsr_artifact_name(a, (tsr_kind)kind, i);
      ck_assert(strlen(name) < 1 << 20);
    }
  tsr_value_info v;
  tsr_dim_info di;
  for (size_t i = 0; tsr_artifact_dim(a, i, &di) == TSR_OK; i++) ck_assert(di.min <= di.max);
  for (size_t i = 0; tsr_artifact_value(a, "f", TSR_INPUT, i, &v) == TSR_OK; i++) ck_assert_uint_le(v.rank, TSR_RANK);
  tsr_artifact_verify(a, &test_error);
  tsr_memory memory;
  tsr_session_options o = {.size = sizeof o, .sequences = 3, .tokens = 200};
  if (tsr_session_plan(a, device, &o, &test_error, &memory) != TSR_OK) return;
  if (memory.states > 1 << 24 || memory.workspace > 1 << 24 || memory.tables > 1 << 24) return;
  tsr_session *s = NULL;
  if (tsr_session_create(a, device, &o, &test_error, &s) != TSR_OK) return;
  tsr_sequence q[2] = {0};
  tsr_sequence_create(s, &q[0]);
  tsr_sequence_create(s, &q[1]);
  tsr_row rows[2] = {{q[0], {7, 7, 7, 7}}, {q[1], {9, 9, 9, 9}}};
  tsr_buffer *x = make_buffer(device, TSR_F32, SHAPE(2, 16), NULL), *y = make_buffer(device, TSR_F32, SHAPE(2), NULL);
  tsr_buffer *codes = make_buffer(device, TSR_U8, SHAPE(16), NULL), *eight = make_buffer(device, TSR_F32, SHAPE(8), NULL);
  tsr_session_bind(s, "f", "x", x);
  tsr_session_bind(s, "f", "codes", codes);
  tsr_session_bind(s, "f", "y", y);
  tsr_session_bind(s, "g", "x", eight);
  tsr_session_bind(s, "g", "y", eight);
  for (int i = 0; i < 3; i++) ran += tsr_session_run(s, "f", rows, 2, NULL, &test_error) == TSR_OK;
  tsr_session_run(s, "g", NULL, 0, NULL, &test_error);
  tsr_sequence f;
  if (tsr_sequence_fork(s, q[0], &f) == TSR_OK) {
    rows[0].sequence = f;
    tsr_session_run(s, "f", rows, 1, NULL, &test_error);
  }
  tsr_buffer_release(x);
  tsr_buffer_release(y);
  tsr_buffer_release(codes);
  tsr_buffer_release(eight);
  tsr_session_destroy(s);
}

// Opens a copy of exactly `size` bytes: reading past its end is noticed.
static tsr_status try_open(const unsigned char *data, size_t size) {
  unsigned char *copy = NULL;
  ck_assert_int_eq(posix_memalign((void **)&copy, 64, size ? size : 1), 0);
  memcpy(copy, data, size);
  tsr_artifact *a = NULL;
  test_error.text[0] = 0;
  tsr_status s = tsr_artifact_open_memory(copy, size, NULL, &test_error, &a);
  if (s == TSR_OK) {
    use(a);
    tsr_artifact_release(a);
  } else {
    ck_assert_ptr_null(a);
    ck_assert_msg(strlen(test_error.text) > 8, "no text");
  }
  free(copy);
  return s;
}

static tsr_section *sections_of(const unsigned char *data, uint32_t *count) {
  tsr_header h;
  memcpy(&h, data, sizeof h);
  *count = h.section_count;
  return (tsr_section *)(void *)(uintptr_t)(data + h.table_offset);
}

static void repair(unsigned char *data, size_t size) {
  tsr_header h;
  memcpy(&h, data, sizeof h);
  uint32_t count = h.section_count;
  tsr_section *s = (tsr_section *)(void *)(data + h.table_offset);
  for (uint32_t i = 0; i < count; i++)
    if (s[i].offset <= size && s[i].bytes <= size - s[i].offset) s[i].checksum = tsr_checksum(data + s[i].offset, s[i].bytes);
  h.table_checksum = tsr_checksum(s, count * sizeof *s);
  h.checksum = tsr_checksum(&h, offsetof(tsr_header, checksum));
  memcpy(data, &h, sizeof h);
}

static void setup(void) { device = open_host(1); }
static void teardown(void) { tsr_device_release(device); }

START_TEST(whole) {
  file f = make_file();
  opened = ran = 0;
  ck_assert_int_eq(try_open(f.data, f.size), TSR_OK);
  ck_assert_msg(opened == 1 && ran == 3, "%s", test_error.text);
  free(f.data);
}
END_TEST

START_TEST(truncated) {
  file f = make_file();
  uint32_t count;
  const tsr_section *s = sections_of(f.data, &count);
  for (uint32_t i = 0; i < count; i++)
    for (int k = -1; k <= 1; k++) {
      ck_assert_int_ne(try_open(f.data, (size_t)((int64_t)s[i].offset + k)), TSR_OK);
      if (s[i].offset + s[i].bytes + (uint64_t)k < f.size)
        ck_assert_int_ne(try_open(f.data, (size_t)((int64_t)(s[i].offset + s[i].bytes) + k)), TSR_OK);
    }
  for (size_t n = 0; n < 200; n++) ck_assert_int_ne(try_open(f.data, n), TSR_OK);
  for (size_t n = f.size - 700; n < f.size; n++) ck_assert_int_ne(try_open(f.data, n), TSR_OK);
  unsigned char *longer = calloc(1, f.size + 64);
  memcpy(longer, f.data, f.size);
  ck_assert_int_ne(try_open(longer, f.size + 64), TSR_OK);
  free(longer);
  // Cut short with a header that agrees.
  uint64_t state = test_seed();
  for (int i = 0; i < 300; i++) {
    size_t n = 64 + (size_t)(test_random(&state) % (f.size - 64)) / 8 * 8;
    unsigned char *copy = malloc(f.size);
    memcpy(copy, f.data, f.size);
    tsr_header h;
    memcpy(&h, copy, sizeof h);
    h.file_bytes = n;
    if (h.table_offset + h.section_count * sizeof(tsr_section) > n) h.table_offset = (n - 64) / 8 * 8;
    h.checksum = tsr_checksum(&h, offsetof(tsr_header, checksum));
    memcpy(copy, &h, sizeof h);
    ck_assert_int_ne(try_open(copy, n), TSR_OK);
    free(copy);
  }
  free(f.data);
}
END_TEST

// Any flipped bit of a section that is checked at open is refused; in weights and blobs it is found by verify or on use.
START_TEST(flipped) {
  file f = make_file();
  uint32_t count;
  const tsr_section *s = sections_of(f.data, &count);
  for (uint32_t i = 0; i < count; i++)
    for (uint64_t at = s[i].offset; at < s[i].offset + s[i].bytes; at += 1 + s[i].bytes / 500) {
      f.data[at] ^= (unsigned char)(1 << at % 8);
      tsr_artifact *a = NULL;
      tsr_status status = tsr_artifact_open_memory(f.data, f.size, NULL, &test_error, &a);
      bool late = s[i].kind == TSR_SECTION_weights || s[i].kind == TSR_SECTION_blob;
      ck_assert_int_eq(status, late ? TSR_OK : TSR_CORRUPT);
      if (late) ck_assert_int_eq(tsr_artifact_verify(a, &test_error), TSR_CORRUPT);
      const void *data;
      size_t size;
      if (s[i].kind == TSR_SECTION_blob) ck_assert_int_eq(tsr_artifact_section(a, "blob", &data, &size), TSR_CORRUPT);
      if (s[i].kind == TSR_SECTION_weights) {   // found while copying, too (padding belongs to no weight)
        tsr_session *session = NULL;
        tsr_session_options o = {.size = sizeof o, .copy_weights = 1};
        uint64_t in = at - s[i].offset;
        tsr_status copied = tsr_session_create(a, device, &o, &test_error, &session);
        ck_assert_int_eq(copied, in < 300 || in >= 512 ? TSR_CORRUPT : TSR_OK);
        tsr_session_destroy(session);
      }
      tsr_artifact_release(a);
      f.data[at] ^= (unsigned char)(1 << at % 8);
    }
  for (size_t at = 0; at < sizeof(tsr_header); at++)
    for (int bit = 0; bit < 8; bit++) {
      f.data[at] ^= (unsigned char)(1 << bit);
      ck_assert_int_ne(try_open(f.data, f.size), TSR_OK);
      f.data[at] ^= (unsigned char)(1 << bit);
    }
  free(f.data);
}
END_TEST

// Every byte of the small sections takes another value, with all checksums made right again.
START_TEST(repaired) {
  uint64_t state = test_seed();
  file f = make_file();
  uint32_t count;
  sections_of(f.data, &count);
  unsigned char *copy = aligned_alloc(64, (f.size + 63) & ~(size_t)63);
  opened = 0;
  int tried = 0;
  tsr_header h;
  memcpy(&h, f.data, sizeof h);
  for (uint32_t i = 0; i <= count; i++) {
    const tsr_section *s = sections_of(f.data, &count) + (i < count ? i : 0);
    uint64_t from = i < count ? s->offset : h.table_offset, bytes = i < count ? s->bytes : count * sizeof(tsr_section);
    if (i < count && (s->kind == TSR_SECTION_weights || s->kind == TSR_SECTION_image)) continue;
    for (uint64_t at = from; at < from + bytes; at++) {
      // Where code lies is code: a shortened image is a program cut in the middle of an instruction.
      if (i == count && sections_of(f.data, &count)[(at - from) / sizeof(tsr_section)].kind == TSR_SECTION_image) continue;
      memcpy(copy, f.data, f.size);
      switch (test_random(&state) % 4) {
        case 0: copy[at] ^= (unsigned char)(1 << test_random(&state) % 8); break;
        case 1: copy[at] = (unsigned char)test_random(&state); break;
        case 2: copy[at] = (unsigned char)(test_random(&state) % 2 ? 255 : 0); break;
        default: {
          uint32_t v = test_random(&state) % 2 ? UINT32_MAX : (uint32_t)(test_random(&state) % 64);
          memcpy(copy + (at & ~(uint64_t)3), &v, 4);
        }
      }
      repair(copy, f.size);
      try_open(copy, f.size);
      tried++;
    }
  }
  printf("%d tried, %d loaded, %d calls succeeded\n", tried, opened, ran);
  ck_assert_int_gt(opened, tried / 20);   // the mutations reach the code behind the checks
  free(copy);
  free(f.data);
}
END_TEST

START_TEST(versions) {
  file f = make_file();
  tsr_header h, original;
  memcpy(&original, f.data, sizeof original);
  for (int i = 0; i < 3; i++) {
    h = original;
    if (i == 0) h.major++;
    if (i == 1) h.minor++;
    if (i == 2) h.major = 0;
    h.checksum = tsr_checksum(&h, offsetof(tsr_header, checksum));
    memcpy(f.data, &h, sizeof h);
    ck_assert_int_eq(try_open(f.data, f.size), TSR_VERSION);
    ck_assert_msg(strstr(test_error.text, "this runtime reads") != NULL, "%s", test_error.text);
  }
  memcpy(f.data, &original, sizeof original);
  // Unknown sections: skipped when optional, refused when required.
  uint32_t count;
  tsr_section *s = sections_of(f.data, &count);
  for (uint32_t i = 0; i < count; i++) {
    if (s[i].kind != TSR_SECTION_blob) continue;
    s[i].kind = 77;
    repair(f.data, f.size);
    ck_assert_int_eq(try_open(f.data, f.size), TSR_OK);
    s[i].flags |= TSR_SECTION_REQUIRED;
    repair(f.data, f.size);
    ck_assert_int_eq(try_open(f.data, f.size), TSR_VERSION);
    s[i].flags = 0, s[i].kind = TSR_SECTION_blob;
  }
  // A target that this CPU cannot run.
  for (uint32_t i = 0; i < count; i++) {
    if (s[i].kind != TSR_SECTION_targets) continue;
    tsr_table t;
    memcpy(&t, f.data + s[i].offset, sizeof t);
    tsr_target *target = (tsr_target *)(void *)(f.data + s[i].offset + t.offset);
    target->features = 1u << 31;
    repair(f.data, f.size);
    tsr_artifact *a = NULL;
    ck_ok(tsr_artifact_open_memory(f.data, f.size, NULL, &test_error, &a));
    ck_assert_int_eq(tsr_device_supports(device, a, &test_error), TSR_UNSUPPORTED);
    ck_assert_msg(strstr(test_error.text, "does not have") != NULL, "%s", test_error.text);
    tsr_artifact_release(a);
  }
  free(f.data);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime_corrupt");
  TCase *c = tcase_create("corrupt");
  tcase_set_timeout(c, 100);
  tcase_add_checked_fixture(c, setup, teardown);
  suite_add_tcase(s, c);
  tcase_add_test(c, whole);
  tcase_add_test(c, truncated);
  tcase_add_test(c, flipped);
  tcase_add_test(c, repaired);
  tcase_add_test(c, versions);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
