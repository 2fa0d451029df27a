// Readers of GGUF, safetensors and npy: round trips, every truncation and bit flip of small files, hostile headers, real files.
#include "frontend/gguf.h"
#include "frontend/npy.h"
#include "frontend/safetensors.h"
#include "tests/support/gguf_writer.h"

#include <check.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed, state;
static uint64_t rnd(void) {
  uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static ts_arena arena;
static ts_diags diags;
static void setup(void) {
  const char *s = getenv("TESSERA_SEED");
  seed = state = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
  fprintf(stderr, "TESSERA_SEED=%llu\n", (unsigned long long)seed);
  ts_arena_init(&arena);
  ts_diags_init(&diags);
}
static void teardown(void) {
  ts_diags_deinit(&diags);
  ts_arena_deinit(&arena);
}

// Bytes in an allocation of exactly their size, so that the sanitizer sees a read beyond them.
static ts_str exact(const char *data, size_t n) {
  char *p = malloc(n ? n : 1);
  if (n) memcpy(p, data, n);
  return (ts_str){p, n};
}

// ---- GGUF ---------------------------------------------------------------------------------------------------------------------------

static void small_gguf(ts_text *out) {
  gguf_writer w;
  gguf_writer_init(&w);
  gguf_put_string(&w, "general.architecture", "llama");
  gguf_put_int(&w, "a.u8", 0, 200);
  gguf_put_int(&w, "a.i8", 1, -5);
  gguf_put_int(&w, "a.u16", 2, 65535);
  gguf_put_int(&w, "a.i16", 3, -300);
  gguf_put_int(&w, "a.u32", 4, 4000000000);
  gguf_put_int(&w, "a.i32", 5, -70000);
  gguf_put_f32(&w, "a.f32", 0.5f);
  gguf_put_int(&w, "a.bool", 7, 1);
  gguf_put_int(&w, "a.u64", 10, -1);
  gguf_put_int(&w, "a.i64", 11, INT64_MIN);
  gguf_put_f64(&w, "a.f64", 0.1);
  static const char *const words[] = {"<s>", "", "a\xc3\xa9"};
  gguf_put_strings(&w, "tokens", words, 3);
  static const float scores[] = {0, -1.5f};
  gguf_put_f32s(&w, "scores", scores, 2);
  static const int32_t kinds[] = {1, -2, 3};
  gguf_put_i32s(&w, "kinds", kinds, 3);
  float x[6] = {1, 2, 3, 4, 5, 6};
  int64_t shape[2] = {2, 3}, q_shape[3] = {2, 2, 32}, one = 256;
  uint8_t q[4 * 20], iq[66];
  for (size_t i = 0; i < sizeof q; i++) q[i] = (uint8_t)i;
  memset(iq, 7, sizeof iq);
  gguf_put_tensor(&w, "x", 0, 2, shape, x, sizeof x);
  gguf_put_tensor(&w, "q", 3, 3, q_shape, q, sizeof q);
  gguf_put_tensor(&w, "odd", 16, 1, &one, iq, sizeof iq);
  gguf_finish(&w, out);
  gguf_writer_deinit(&w);
}

START_TEST(gguf_reads) {
  ts_text file = {0};
  small_gguf(&file);
  fe_gguf g;
  ck_assert_int_eq(fe_gguf_parse(&arena, ts_text_str(&file), "small.gguf", &diags, &g), TS_OK);
  static const struct {
    const char *key;
    int64_t value;
  } ints[] = {{"a.u8", 200}, {"a.i8", -5}, {"a.u16", 65535}, {"a.i16", -300}, {"a.u32", 4000000000}, {"a.i32", -70000}, {"a.bool", 1}, {"a.i64", INT64_MIN}};
  int64_t n;
  double r;
  bool b;
  ts_str s;
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
    ck_assert_int_eq(fe_gguf_get_int(&g, ints[i].key, &diags, &n), TS_OK);
    ck_assert_int_eq(n, ints[i].value);
  }
  ck_assert_int_eq(fe_gguf_get_int(&g, "a.u64", &diags, &n), TS_INVALID);   // 2^64-1 is no i64
  ck_assert_int_eq(fe_gguf_get_int(&g, "a.f32", &diags, &n), TS_INVALID);
  ck_assert_int_eq(fe_gguf_get_int(&g, "nothing", &diags, &n), TS_NOT_FOUND);
  ck_assert_int_eq(fe_gguf_get_real(&g, "a.f32", &diags, &r), TS_OK);
  ck_assert(r == 0.5);
  ck_assert_int_eq(fe_gguf_get_real(&g, "a.f64", &diags, &r), TS_OK);
  ck_assert(r == 0.1);
  ck_assert_int_eq(fe_gguf_get_bool(&g, "a.bool", &diags, &b), TS_OK);
  ck_assert(b);
  ck_assert_int_eq(fe_gguf_get_string(&g, "general.architecture", &diags, &s), TS_OK);
  ck_assert(ts_str_is(s, "llama"));
  ck_assert_int_eq(fe_gguf_get_string(&g, "tokens", &diags, &s), TS_INVALID);
  const fe_gguf_value *v;
  ck_assert_int_eq(fe_gguf_get_array(&g, "tokens", &diags, &v), TS_OK);
  ck_assert_uint_eq(v->count, 3);
  ck_assert(fe_gguf_string(v, 2, &s) && ts_str_is(s, "a\xc3\xa9") && fe_gguf_string(v, 1, &s) && s.len == 0 && !fe_gguf_string(v, 3, &s));
  ck_assert_int_eq(fe_gguf_get_array(&g, "kinds", &diags, &v), TS_OK);
  ck_assert(fe_gguf_int(v, 1, &n) && n == -2);
  ck_assert_int_eq(fe_gguf_get_array(&g, "scores", &diags, &v), TS_OK);
  ck_assert(fe_gguf_real(v, 1, &r) && r == -1.5);
  const fe_tensor *x = fe_tensors_find(&g.tensors, TS_STR("x")), *q = fe_tensors_find(&g.tensors, TS_STR("q")), *odd = fe_tensors_find(&g.tensors, TS_STR("odd"));
  ck_assert(x && q && odd && !fe_tensors_find(&g.tensors, TS_STR("y")));
  ck_assert(x->rank == 2 && x->shape[0] == 2 && x->shape[1] == 3 && x->encoding == ir_encoding_plain(IR_f32));
  ck_assert_float_eq(((const float *)x->data)[5], 6);
  ck_assert(q->rank == 3 && q->shape[2] == 32 && q->bytes == 80 && strcmp(q->type, "Q4_1") == 0 && strcmp(q->encoding->name, "q4_1") == 0);
  ck_assert_int_eq(fe_tensor_use(&g.tensors, q, &diags), TS_OK);
  ck_assert_int_eq(fe_tensor_use(&g.tensors, odd, &diags), TS_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(diags.list.data[diags.list.count - 1].text, "IQ2_XXS"));
  fe_gguf_close(&g);
  ts_text_deinit(&file);
}
END_TEST

// Reads all there is of a file that was accepted.
static void touch(const fe_tensors *t) {
  volatile uint8_t sum = 0;
  for (size_t i = 0; i < t->count; i++)
    for (size_t k = 0; k < t->list[i].bytes; k++) sum = (uint8_t)(sum + ((const uint8_t *)t->list[i].data)[k]);
}

typedef ts_status parse_fn(ts_str bytes);

static ts_status try_gguf(ts_str bytes) {
  fe_gguf g;
  ts_status s = fe_gguf_parse(&arena, bytes, "f", &diags, &g);
  if (s == TS_OK) {
    touch(&g.tensors);
    for (size_t i = 0; i < g.kv_count; i++)
      for (uint64_t k = 0; k < g.kv[i].value.count; k++) {
        double r;
        ts_str text;
        (void)(fe_gguf_real(&g.kv[i].value, k, &r) || fe_gguf_string(&g.kv[i].value, k, &text));
      }
  }
  fe_gguf_close(&g);
  return s;
}

static ts_status try_safetensors(ts_str bytes) {
  fe_safetensors f;
  ts_status s = fe_safetensors_parse(&arena, bytes, "f", &diags, &f);
  if (s == TS_OK) touch(&f.tensors);
  fe_safetensors_close(&f);
  return s;
}

static ts_status try_npy(ts_str bytes) {
  fe_npy f;
  ts_status s = fe_npy_parse(&arena, bytes, "f", &diags, &f);
  volatile uint8_t sum = 0;
  for (size_t k = 0; s == TS_OK && k < f.bytes; k++) sum = (uint8_t)(sum + ((const uint8_t *)f.data)[k]);
  fe_npy_close(&f);
  return s;
}

static void reset(void) {
  ts_diags_deinit(&diags);
  ts_arena_deinit(&arena);
  ts_arena_init(&arena);
  ts_diags_init(&diags);
}

// Every prefix must be refused with a diagnostic; every flipped bit and random overwrites must not crash.
static void mutate(ts_str file, parse_fn *parse) {
  ck_assert_int_eq(parse(file), TS_OK);
  for (size_t n = 0; n < file.len; n++) {
    ts_str cut = exact(file.data, n);
    ck_assert_msg(parse(cut) != TS_OK, "a prefix of %zu bytes of %zu was accepted", n, file.len);
    ck_assert_uint_ge(diags.errors, 1);
    free((char *)cut.data);
    reset();
  }
  for (size_t bit = 0; bit < file.len * 8; bit++) {
    ts_str copy = exact(file.data, file.len);
    ((char *)copy.data)[bit / 8] ^= (char)(1u << bit % 8);
    ts_status s = parse(copy);
    ck_assert((s == TS_OK) == (diags.errors == 0));
    free((char *)copy.data);
    reset();
  }
  for (int round = 0; round < 2000; round++) {
    ts_str copy = exact(file.data, file.len);
    for (int k = 0; k < 3; k++) {
      static const uint64_t values[] = {0, 1, 0xff, UINT64_MAX, INT64_MAX, 1ull << 63, 1ull << 32, 0xffffffff};
      uint64_t v = rnd() % 3 ? values[rnd() % 8] : rnd();
      size_t size = (size_t)1 << rnd() % 4, at = rnd() % (file.len - size);
      memcpy((char *)copy.data + at, &v, size);
    }
    parse(copy);
    free((char *)copy.data);
    reset();
  }
}

START_TEST(gguf_mutations) {
  ts_text file = {0};
  small_gguf(&file);
  mutate(ts_text_str(&file), try_gguf);
  ts_text_deinit(&file);
}
END_TEST

typedef void gguf_edit(gguf_writer *w, ts_text *file);
static const float four[4] = {1, 2, 3, 4};
static const int64_t shape4[1] = {4};
static void dup_key(gguf_writer *w, ts_text *f) { (void)f, gguf_put_f32(w, "k", 1), gguf_put_f32(w, "k", 2); }
static void dup_tensor(gguf_writer *w, ts_text *f) {
  (void)f;
  gguf_put_tensor(w, "t", 0, 1, shape4, four, 16), gguf_put_tensor(w, "t", 0, 1, shape4, four, 16);
}
static void overlap(gguf_writer *w, ts_text *f) {
  (void)f;
  gguf_put_tensor(w, "a", 0, 1, shape4, four, 16);
  uint64_t end = w->data.len;
  w->data.len = 0;
  gguf_put_tensor(w, "b", 0, 1, shape4, four, 16);
  w->data.len = end;
}
static void misaligned(gguf_writer *w, ts_text *f) {
  (void)f;
  gguf_put_tensor(w, "a", 0, 1, shape4, four, 16);
  w->infos.data[w->infos.len - 8] = 4;
  ts_text_add(&w->data, (ts_str){(const char *)four, 16});
}
static void bad_blocks(gguf_writer *w, ts_text *f) { (void)f, gguf_put_tensor(w, "a", 3, 1, shape4, four, 16); }
static void bad_type(gguf_writer *w, ts_text *f) { (void)f, gguf_put_tensor(w, "a", 36, 1, shape4, four, 16); }
static void overflow(gguf_writer *w, ts_text *f) {
  (void)f;
  int64_t s[3] = {INT64_C(1) << 31, INT64_C(1) << 31, 1 << 4};
  gguf_put_tensor(w, "a", 0, 3, s, four, 16);
}
static void outside(gguf_writer *w, ts_text *f) {
  (void)f;
  int64_t s[1] = {5};
  gguf_put_tensor(w, "a", 0, 1, s, four, 16);
}
static void alignment(gguf_writer *w, ts_text *f) { (void)f, gguf_put_int(w, "general.alignment", 4, 24); }
static void rank5(gguf_writer *w, ts_text *f) {
  (void)f;
  int64_t s[5] = {1, 1, 1, 1, 4};
  gguf_put_tensor(w, "a", 0, 5, s, four, 16);
}
static void version1(gguf_writer *w, ts_text *f) { (void)f, w->version = 1; }
static void big_endian(gguf_writer *w, ts_text *f) { (void)f, w->version = 0x03000000; }
static void nested(gguf_writer *w, ts_text *f) {
  (void)f;
  gguf_put_i32s(w, "k", (const int32_t[]){9, 0, 0}, 3);
  w->kv.data[8 + 1 + 4] = 9;   // element type: array
}

START_TEST(gguf_hostile) {
  static const struct {
    gguf_edit *edit;
    const ts_diag_kind *kind;
  } cases[] = {{dup_key, &diag_file_duplicate}, {dup_tensor, &diag_file_duplicate}, {overlap, &diag_file_bounds}, {misaligned, &diag_file_bounds},
               {bad_blocks, &diag_file_size}, {bad_type, &diag_file_type}, {overflow, &diag_file_size}, {outside, &diag_file_truncated},
               {alignment, &diag_file_header}, {rank5, &diag_file_header}, {version1, &diag_file_version}, {big_endian, &diag_file_version},
               {nested, &diag_file_type}};
  gguf_writer w;
  ts_text file = {0};
  gguf_writer_init(&w);
  cases[_i].edit(&w, &file);
  gguf_finish(&w, &file);
  ts_str copy = exact(file.data, file.len);
  ck_assert_int_ne(try_gguf(copy), TS_OK);
  ck_assert_msg(ts_diags_has(&diags, cases[_i].kind), "case %d: %s", _i, diags.list.data[0].text);
  free((char *)copy.data);
  ts_text_deinit(&file);
  gguf_writer_deinit(&w);
}
END_TEST

// ---- safetensors ----------------------------------------------------------------------------------------------------------------------

static char path[64];
static const char *temporary(const char *suffix) {
  snprintf(path, sizeof path, "/tmp/tessera-files-%d%s", (int)getpid(), suffix);
  return path;
}

static ts_str read_file(const char *name) {
  ts_str s;
  ck_assert_int_eq(ts_file_read(&arena, name, &diags, &s), TS_OK);
  return exact(s.data, s.len);
}

START_TEST(safetensors_round_trip) {
  float x[6] = {1, 2, 3, 4, 5, 6};
  uint16_t y[3] = {7, 8, 9};
  fe_tensor t[3] = {{.name = TS_STR("x"), .encoding = ir_encoding_plain(IR_f32), .rank = 2, .shape = {2, 3}, .data = x},
                    {.name = TS_STR("a \"quoted\" name"), .encoding = ir_encoding_plain(IR_bf16), .rank = 1, .shape = {3}, .data = y},
                    {.name = TS_STR("empty"), .encoding = ir_encoding_plain(IR_i64), .rank = 2, .shape = {0, 5}}};
  fe_metadata meta[2] = {{TS_STR("model_type"), TS_STR("bert")}, {TS_STR("k"), TS_STR("\n\"")}};
  ck_assert_int_eq(fe_safetensors_write(temporary(".safetensors"), t, 3, meta, 2, &diags), TS_OK);
  fe_safetensors s;
  ck_assert_int_eq(fe_safetensors_open(&arena, path, &diags, &s), TS_OK);
  ck_assert_uint_eq(s.tensors.count, 3);
  for (int i = 0; i < 3; i++) {
    const fe_tensor *u = fe_tensors_find(&s.tensors, t[i].name);
    ck_assert(u && u->encoding == t[i].encoding && u->rank == t[i].rank && memcmp(u->shape, t[i].shape, u->rank * sizeof *u->shape) == 0);
    if (u->bytes) ck_assert_int_eq(memcmp(u->data, t[i].data, u->bytes), 0);
  }
  ck_assert(ts_str_is(fe_safetensors_metadata(&s, "k")->value, "\n\""));
  ck_assert_ptr_null(fe_safetensors_metadata(&s, "x"));
  fe_safetensors_close(&s);
  ts_str file = read_file(path);
  unlink(path);
  mutate(file, try_safetensors);
  free((char *)file.data);
  t[0].encoding = ir_encoding_plain(IR_u4);
  ck_assert_int_eq(fe_safetensors_write(path, t, 1, NULL, 0, &diags), TS_UNSUPPORTED);
}
END_TEST

START_TEST(safetensors_hostile) {
  static const struct {
    const char *header;
    int data;
    const ts_diag_kind *kind;   // NULL: good
  } cases[] = {
    {"{}", 0, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ", 8, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL},
    {"[]", 0, &diag_file_magic},
    {"{\"a\":1}", 0, &diag_file_header},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, &diag_file_duplicate},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, &diag_file_header},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, &diag_file_size},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, &diag_file_bounds},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 9, &diag_file_bounds},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, &diag_file_bounds},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, &diag_file_bounds},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", 8, &diag_file_bounds},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, &diag_file_header},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8, &diag_file_size},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, &diag_file_header},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, &diag_file_header},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, &diag_file_header},
    {"{\"__metadata__\":{\"a\":1}}", 0, &diag_file_header},
    {"{\"a\":", 0, &diag_file_header},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t n = strlen(cases[i].header);
    char buffer[512] = {0};
    buffer[0] = (char)n;
    memcpy(buffer + 8, cases[i].header, n);
    ts_str file = exact(buffer, 8 + n + (size_t)cases[i].data);
    ts_status s = try_safetensors(file);
    ck_assert_msg((s == TS_OK) == !cases[i].kind, "case %zu", i);
    if (cases[i].kind) ck_assert_msg(ts_diags_has(&diags, cases[i].kind), "case %zu: %s", i, diags.list.data[0].text);
    free((char *)file.data);
    reset();
  }
  // A storage type that is not known: listed, refused when used.
  static const char *header = "{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}";
  char buffer[128] = {(char)strlen(header)};
  memcpy(buffer + 8, header, strlen(header));
  fe_safetensors f;
  ck_assert_int_eq(fe_safetensors_parse(&arena, (ts_str){buffer, 9 + strlen(header)}, "f", &diags, &f), TS_OK);
  ck_assert_int_eq(fe_tensor_use(&f.tensors, &f.tensors.list[0], &diags), TS_UNSUPPORTED);
  fe_safetensors_close(&f);
}
END_TEST

// ---- npy ----------------------------------------------------------------------------------------------------------------------------

static ts_str make_npy(int major, const char *dictionary, const void *data, size_t bytes) {
  size_t n = strlen(dictionary), wide = major == 1 ? 2 : 4;
  char *p = calloc(8 + wide + n + bytes + 1, 1);
  memcpy(p, "\x93NUMPY", 6);
  p[6] = (char)major;
  p[8] = (char)n;
  p[9] = (char)(n >> 8);
  memcpy(p + 8 + wide, dictionary, n);
  if (bytes) memcpy(p + 8 + wide + n, data, bytes);
  return (ts_str){p, 8 + wide + n + bytes};
}

START_TEST(npy_round_trip) {
  static const ir_dtype types[] = {IR_f64, IR_f32, IR_f16, IR_i64, IR_i32, IR_i16, IR_i8, IR_u64, IR_u32, IR_u16, IR_u8};
  uint8_t data[24 * 8];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rnd();
  int64_t shape[4] = {2, 3, 4, 1};
  for (size_t t = 0; t < sizeof types / sizeof *types; t++)
    for (unsigned rank = 0; rank <= 4; rank++) {
      ck_assert_int_eq(fe_npy_write(temporary(".npy"), types[t], rank, shape, data, &diags), TS_OK);
      fe_npy n;
      ck_assert_int_eq(fe_npy_open(&arena, path, &diags, &n), TS_OK);
      size_t count = 1;
      for (unsigned i = 0; i < rank; i++) count *= (size_t)shape[i];
      ck_assert(n.type == types[t] && n.rank == rank && n.count == count && memcmp(n.shape, shape, rank * sizeof *shape) == 0);
      ck_assert_int_eq(memcmp(n.data, data, n.bytes), 0);
      ck_assert_uint_eq((size_t)((const char *)n.data - (const char *)n.mapping.data) % 64, 0);
      fe_npy_close(&n);
    }
  ts_str file = read_file(path);
  unlink(path);
  mutate(file, try_npy);
  free((char *)file.data);
  ck_assert_int_eq(fe_npy_write(path, IR_bf16, 4, shape, data, &diags), TS_UNSUPPORTED);
}
END_TEST

START_TEST(npy_headers) {
  int32_t data[6] = {0, 1, 2, 3, 4, 5};
  static const struct {
    int major;
    const char *dictionary;
    const ts_diag_kind *kind;
  } cases[] = {
    {1, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }   \n", NULL},
    {2, "{'shape':(2,3),'fortran_order':True,'descr':\"<i4\"}", NULL},
    {3, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3)}\n", NULL},
    {4, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3)}\n", &diag_file_version},
    {1, "{'descr': '>i4', 'fortran_order': False, 'shape': (2, 3)}", &diag_file_type},
    {1, "{'descr': '<c8', 'fortran_order': False, 'shape': (3,)}", &diag_file_type},
    {1, "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", &diag_file_type},
    {1, "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (6,)}", &diag_file_type},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 4)}", &diag_file_truncated},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (5,)}", &diag_file_bounds},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", &diag_file_size},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,)}", &diag_file_header},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (-6,)}", &diag_file_header},
    {1, "{'descr': '<i4', 'fortran_order': 1, 'shape': (6,)}", &diag_file_header},
    {1, "{'descr': '<i4', 'shape': (6,)}", &diag_file_header},
    {1, "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (6,)}", &diag_file_duplicate},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), 'x': 1}", &diag_file_header},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6)}", &diag_file_header},
    {1, "{'descr': '<i4', 'fortran_order': False, 'shape': (6,)} x", &diag_file_header},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    ts_str file = make_npy(cases[i].major, cases[i].dictionary, data, sizeof data);
    fe_npy n;
    ts_status s = fe_npy_parse(&arena, file, "f", &diags, &n);
    ck_assert_msg((s == TS_OK) == !cases[i].kind, "case %zu", i);
    if (cases[i].kind) ck_assert_msg(ts_diags_has(&diags, cases[i].kind), "case %zu: %s", i, diags.list.data[0].text);
    else
      for (int r = 0; r < 2; r++)   // column-major 2 x 3: element (r, c) is data[r + 2 c]
        for (int c = 0; c < 3; c++) ck_assert_int_eq(((const int32_t *)n.data)[3 * r + c], r + 2 * c);
    fe_npy_close(&n);
    free((char *)file.data);
    reset();
  }
}
END_TEST

// ---- real files -----------------------------------------------------------------------------------------------------------------------

static const char *shared(const char *name) {
  static char buffer[512];
  const char *root = getenv("TESSERA_SHARED");
  snprintf(buffer, sizeof buffer, "%s/%s", root ? root : "../shared", name);
  return buffer;
}

START_TEST(stories) {
  const char *file = shared("data/models/stories260K/stories260K-f32.gguf");
  if (!ts_file_exists(file)) {
    fprintf(stderr, "skipped: %s is absent (set TESSERA_SHARED)\n", file);
    return;
  }
  fe_gguf g;
  fe_safetensors s;
  fe_npy n;
  ck_assert_int_eq(fe_gguf_open(&arena, file, &diags, &g), TS_OK);
  ck_assert_int_eq(fe_safetensors_open(&arena, shared("data/models/stories260K/stories260K.safetensors"), &diags, &s), TS_OK);
  ck_assert_uint_eq(s.tensors.count, 47);
  static const char *const pairs[][2] = {{"token_embd.weight", "tok_embeddings.weight"}, {"blk.3.ffn_down.weight", "layers.3.feed_forward.w2.weight"},
                                         {"output_norm.weight", "norm.weight"}, {"blk.0.attn_v.weight", "layers.0.attention.wv.weight"}};
  for (int i = 0; i < 4; i++) {
    const fe_tensor *a = fe_tensors_find(&g.tensors, ts_str_of(pairs[i][0])), *b = fe_tensors_find(&s.tensors, ts_str_of(pairs[i][1]));
    ck_assert(a && b && a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
    ck_assert_int_eq(memcmp(a->data, b->data, a->bytes), 0);
  }
  int64_t heads;
  ck_assert_int_eq(fe_gguf_get_int(&g, "llama.attention.head_count", &diags, &heads), TS_OK);
  ck_assert_int_eq(heads, 8);
  ck_assert_int_eq(fe_npy_open(&arena, shared("data/models/stories260K/logits_f64_first8.npy"), &diags, &n), TS_OK);
  ck_assert(n.type == IR_f64 && n.rank == 2 && n.shape[0] == 8 && n.shape[1] == 512);
  fe_npy_close(&n);
  fe_safetensors_close(&s);
  fe_gguf_close(&g);
}
END_TEST

int main(void) {
  Suite *s = suite_create("frontend_files");
  TCase *t = tcase_create("files");
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_set_timeout(t, 120);
  tcase_add_test(t, gguf_reads);
  tcase_add_test(t, gguf_mutations);
  tcase_add_loop_test(t, gguf_hostile, 0, 13);
  tcase_add_test(t, safetensors_round_trip);
  tcase_add_test(t, safetensors_hostile);
  tcase_add_test(t, npy_round_trip);
  tcase_add_test(t, npy_headers);
  tcase_add_test(t, stories);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
