// Encodings against plain C dequantizers written from the format descriptions, and against themselves: recipe, fields, quantizer.
#include "ir/encoding.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

static uint64_t seed, state;

static uint64_t rnd(void) {
  uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}
static int64_t below(int64_t n) { return (int64_t)(rnd() % (uint64_t)n); }
static float real(void) { return (float)((double)(rnd() >> 11) * 0x1p-52 - 1); }

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

// ---- the oracle: block formats as published ----------------------------------------------------------------------------------------

static float half(const uint8_t *p) {
  unsigned h = p[0] | (unsigned)p[1] << 8, e = h >> 10 & 31, m = h & 1023;
  float v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(1024 + m), (int)e - 25) : ldexpf((float)m, -24);
  return h >> 15 ? -v : v;
}

static void dq_q8_0(const uint8_t *b, float *y) {
  for (int i = 0; i < 32; i++) y[i] = (float)(int8_t)b[2 + i] * half(b);
}
static void dq_q4_0(const uint8_t *b, float *y) {
  for (int i = 0; i < 16; i++) {
    y[i] = (float)((b[2 + i] & 15) - 8) * half(b);
    y[i + 16] = (float)((b[2 + i] >> 4) - 8) * half(b);
  }
}
static void dq_q4_1(const uint8_t *b, float *y) {
  float d = half(b), m = half(b + 2);
  for (int i = 0; i < 16; i++) {
    y[i] = (float)(b[4 + i] & 15) * d + m;
    y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
  }
}
static void dq_q5(const uint8_t *b, float *y, bool one) {
  float d = half(b), m = one ? half(b + 2) : 0;
  const uint8_t *h = b + (one ? 4 : 2), *q = h + 4;
  uint32_t qh = h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
  for (int i = 0; i < 16; i++) {
    int lo = (q[i] & 15) | (int)(qh >> i & 1) << 4, hi = q[i] >> 4 | (int)(qh >> (i + 16) & 1) << 4;
    y[i] = one ? (float)lo * d + m : (float)(lo - 16) * d;
    y[i + 16] = one ? (float)hi * d + m : (float)(hi - 16) * d;
  }
}
static void dq_q5_0(const uint8_t *b, float *y) { dq_q5(b, y, false); }
static void dq_q5_1(const uint8_t *b, float *y) { dq_q5(b, y, true); }

static void dq_q2_K(const uint8_t *b, float *y) {
  const uint8_t *sc = b, *q = b + 16;
  float d = half(b + 80), min = half(b + 82);
  int is = 0;
  for (int n = 0; n < 256; n += 128, q += 32)
    for (int shift = 0; shift < 8; shift += 2)
      for (int part = 0; part < 2; part++, is++) {
        float dl = d * (float)(sc[is] & 15), ml = min * (float)(sc[is] >> 4);
        for (int l = 0; l < 16; l++) *y++ = dl * (float)(q[16 * part + l] >> shift & 3) - ml;
      }
}
static void dq_q3_K(const uint8_t *b, float *y) {
  const uint8_t *hm = b, *q = b + 32, *s = b + 96;
  float d = half(b + 108);
  int8_t scales[16];
  for (int i = 0; i < 16; i++) {   // low nibbles of 8 bytes, then their high nibbles; two more bits each in 4 bytes
    int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    scales[i] = (int8_t)((low | (s[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32);
  }
  int is = 0;
  uint8_t m = 1;
  for (int n = 0; n < 256; n += 128, q += 32)
    for (int shift = 0; shift < 8; shift += 2, m = (uint8_t)(m << 1))
      for (int part = 0; part < 2; part++) {
        float dl = d * (float)scales[is++];
        for (int l = 16 * part; l < 16 * part + 16; l++) *y++ = dl * (float)((q[l] >> shift & 3) - (hm[l] & m ? 0 : 4));
      }
}
static void scale_min_k4(int j, const uint8_t *q, int *d, int *m) {
  if (j < 4) *d = q[j] & 63, *m = q[j + 4] & 63;
  else *d = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4, *m = q[j + 4] >> 4 | (q[j] >> 6) << 4;
}
static void dq_q45_K(const uint8_t *b, float *y, bool five) {
  float d = half(b), min = half(b + 2);
  const uint8_t *sc = b + 4, *qh = b + 16, *q = b + (five ? 48 : 16);
  for (int j = 0; j < 8; j++) {
    int s, m;
    scale_min_k4(j, sc, &s, &m);
    float d1 = d * (float)s, m1 = min * (float)m;
    for (int l = 0; l < 32; l++) {
      int v = (j & 1 ? q[32 * (j / 2) + l] >> 4 : q[32 * (j / 2) + l] & 15) + (five && qh[l] >> j & 1 ? 16 : 0);
      y[32 * j + l] = d1 * (float)v - m1;
    }
  }
}
static void dq_q4_K(const uint8_t *b, float *y) { dq_q45_K(b, y, false); }
static void dq_q5_K(const uint8_t *b, float *y) { dq_q45_K(b, y, true); }
static void dq_q6_K(const uint8_t *b, float *y) {
  const uint8_t *ql = b, *qh = b + 128;
  const int8_t *sc = (const int8_t *)b + 192;
  float d = half(b + 208);
  for (int n = 0; n < 2; n++, y += 128, ql += 64, qh += 32, sc += 8)
    for (int l = 0; l < 32; l++) {
      int is = l / 16;
      y[l] = d * (float)sc[is] * (float)((int8_t)((ql[l] & 15) | (qh[l] & 3) << 4) - 32);
      y[l + 32] = d * (float)sc[is + 2] * (float)((int8_t)((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4) - 32);
      y[l + 64] = d * (float)sc[is + 4] * (float)((int8_t)(ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) - 32);
      y[l + 96] = d * (float)sc[is + 6] * (float)((int8_t)(ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4) - 32);
    }
}
static void dq_iq4_nl(const uint8_t *b, float *y) {
  static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  for (int i = 0; i < 16; i++) y[i] = half(b) * values[b[2 + i] & 15], y[i + 16] = half(b) * values[b[2 + i] >> 4];
}
static void dq_mxfp4(const uint8_t *b, float *y) {
  static const float values[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};
  for (int i = 0; i < 16; i++) {
    y[i] = ldexpf(values[b[1 + i] & 15], b[0] - 127);
    y[i + 16] = ldexpf(values[b[1 + i] >> 4], b[0] - 127);
  }
}

static const struct {
  const char *name;
  int block, bytes;
  void (*decode)(const uint8_t *, float *);
  int halves[2], half_count;   // byte offsets of f16 fields
} formats[] = {
  {"q8_0", 32, 34, dq_q8_0, {0}, 1},        {"q4_0", 32, 18, dq_q4_0, {0}, 1},       {"q4_1", 32, 20, dq_q4_1, {0, 2}, 2},
  {"q5_0", 32, 22, dq_q5_0, {0}, 1},        {"q5_1", 32, 24, dq_q5_1, {0, 2}, 2},    {"q2_K", 256, 84, dq_q2_K, {80, 82}, 2},
  {"q3_K", 256, 110, dq_q3_K, {108}, 1},    {"q4_K", 256, 144, dq_q4_K, {0, 2}, 2},  {"q5_K", 256, 176, dq_q5_K, {0, 2}, 2},
  {"q6_K", 256, 210, dq_q6_K, {208}, 1},    {"iq4_nl", 32, 18, dq_iq4_nl, {0}, 1},   {"mxfp4", 32, 17, dq_mxfp4, {0}, 0},
};
enum { FORMATS = sizeof formats / sizeof *formats };

static uint16_t random_half(void) {   // zero, denormal, extreme, ordinary, both signs; never infinite
  static const uint16_t special[] = {0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7bff, 0xfbff, 0x3c00, 0xbc00};
  if (below(4) == 0) return special[below(10)];
  uint16_t h;
  do h = (uint16_t)rnd();
  while ((h >> 10 & 31) == 31);
  return h;
}

static uint8_t *random_records(int f, int64_t n) {
  uint8_t *p = malloc((size_t)(n * formats[f].bytes));
  for (int64_t i = 0; i < n * formats[f].bytes; i++) p[i] = (uint8_t)rnd();
  for (int64_t i = 0; i < n; i++) {
    uint8_t *b = p + i * formats[f].bytes;
    for (int k = 0; k < formats[f].half_count; k++) {
      uint16_t h = random_half();
      memcpy(b + formats[f].halves[k], &h, 2);
    }
    if (!formats[f].half_count && b[0] == 255) b[0] = 254;   // e8m0's NaN
  }
  return p;
}

// Evaluates a recipe for one element in f32.
static float run_recipe(const ir_bound *b, const void *const *planes, int64_t i, int64_t j) {
  ir_step step[IR_MAX_STEPS];
  unsigned n = ir_encoding_recipe(b->enc, step);
  float v[IR_MAX_STEPS];
  int64_t u[IR_MAX_STEPS];
  ck_assert_uint_le(n, IR_MAX_STEPS);
  for (unsigned s = 0; s < n; s++) {
    ir_step *t = &step[s];
    const ir_field *f = &b->enc->field[t->field];
    switch (t->op) {
      case IR_STEP_FIELD: {
        const ir_view *w = &b->view[t->field];
        uint64_t bits = ir_field_bits(b, planes, t->field, i / w->per_n, j / w->per_k);
        if (ir_is_float(f->type)) v[s] = (float)ir_float_of_bits(f->type, bits);
        else u[s] = ir_field_int(f, bits);
        break;
      }
      case IR_STEP_SUB_CONST: u[s] = u[t->a] - t->value; break;
      case IR_STEP_SUB: u[s] = u[t->a] - u[t->b]; break;
      case IR_STEP_LOOKUP: v[s] = (float)t->table[u[t->a]]; break;
      case IR_STEP_FLOAT: v[s] = (float)u[t->a]; break;
      case IR_STEP_MUL: v[s] = v[t->a] * v[t->b]; break;
      case IR_STEP_NEG: v[s] = -v[t->a]; break;
      case IR_STEP_FMA: v[s] = fmaf(v[t->a], v[t->b], v[t->c]); break;
    }
  }
  return v[n - 1];
}

static void same_floats(const float *a, const float *b, int64_t n, const char *what) {
  for (int64_t i = 0; i < n; i++)
    if (memcmp(&a[i], &b[i], 4) != 0) ck_abort_msg("%s: element %lld: %a, expected %a (seed %llu)", what, (long long)i, a[i], b[i], (unsigned long long)seed);
}

START_TEST(published_formats) {
  int f = _i;
  const ir_encoding *e = ir_encoding_find(&arena, NULL, ts_str_of(formats[f].name));
  ck_assert_ptr_nonnull(e);
  for (int round = 0; round < 20; round++) {
    int64_t shape[3] = {below(2) + 1, below(5) + 1, (below(4) + 1) * formats[f].block};
    int64_t rows = shape[0] * shape[1], k = shape[2], blocks = rows * k / formats[f].block, bytes;
    uint8_t *data = random_records(f, blocks);
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(e, 3, shape, (ts_loc){0}, &diags, &b), TS_OK);
    ck_assert(ir_encoding_tensor_bytes(e, 3, shape, &bytes));
    ck_assert_int_eq(bytes, blocks * formats[f].bytes);
    ck_assert_int_eq(b.bytes, bytes);
    const void *planes[IR_MAX_PLANES];
    ir_planes_of(&b, data, planes);
    float *out = malloc((size_t)(rows * k) * 4), *want = malloc((size_t)(rows * k) * 4);
    double *exact = malloc((size_t)(rows * k) * 8);
    memset(out, 0x5a, (size_t)(rows * k) * 4);
    for (int64_t i = 0; i < blocks; i++) formats[f].decode(data + i * formats[f].bytes, want + i * formats[f].block);
    ir_decode_rows_f32(&b, planes, 0, rows, out);
    same_floats(out, want, rows * k, e->name);
    ir_decode_rows_f64(&b, planes, 0, rows, exact);
    for (int64_t i = 0; i < rows * k; i++) out[i] = (float)exact[i];
    same_floats(out, want, rows * k, "f64");
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < k; j++) out[i * k + j] = run_recipe(&b, planes, i, j);
    same_floats(out, want, rows * k, "recipe");
    // One row out of the middle, by itself.
    int64_t r = below(rows);
    ir_decode_rows_f32(&b, planes, r, 1, out);
    same_floats(out, want + r * k, k, "one row");
    free(data), free(out), free(want), free(exact);
  }
}
END_TEST

// Reading all fields and writing them into zeroed storage gives the same bytes (but bits that no field has).
static void check_fields(const ir_bound *b, const uint8_t *data) {
  uint8_t *copy = calloc((size_t)b->bytes + 1, 1), *again = calloc((size_t)b->bytes + 1, 1);
  const void *planes[IR_MAX_PLANES], *to[IR_MAX_PLANES], *to2[IR_MAX_PLANES];
  ir_planes_of(b, data, planes);
  ir_planes_of(b, copy, to);
  ir_planes_of(b, again, to2);
  for (int f = 0; f < b->enc->fields; f++) {
    const ir_view *v = &b->view[f];
    uint64_t *row = malloc((size_t)(v->cols + 1) * 8);
    ir_cursor c;
    ir_cursor_init(&c, b, (unsigned)f);
    for (int64_t i = 0; i < v->rows; i++) {
      ir_cursor_read(&c, planes, i, row);
      ir_cursor_write(&c, (void *const *)to, i, row);
      for (int64_t j = 0; j < v->cols; j++) {
        uint64_t bits = ir_field_bits(b, planes, (unsigned)f, i, j);
        ck_assert_msg(bits == row[j], "%s.%s[%lld, %lld]", b->enc->name, b->enc->field[f].name, (long long)i, (long long)j);
        ir_field_set_bits(b, (void *const *)to2, (unsigned)f, i, j, bits);
      }
    }
    ir_cursor_deinit(&c);
    free(row);
  }
  ck_assert_int_eq(memcmp(copy, again, (size_t)b->bytes), 0);
  if (b->enc->record) ck_assert_int_eq(memcmp(copy, data, (size_t)b->bytes), 0);   // records have no spare bits
  free(copy), free(again);
}

START_TEST(table_rows) {
  ts_text text = {0};
  for (size_t n = 0; n < ir_encoding_count(); n++) {
    const ir_encoding *e = ir_encoding_at(n);
    ck_assert_msg(ir_encoding_verify(e, (ts_loc){0}, &diags) == TS_OK, "%s", e->name);
    ck_assert_ptr_eq(ir_encoding_find(&arena, NULL, ts_str_of(e->name)), e);
    ck_assert(ir_encoding_equal(e, e));
    for (size_t m = 0; m < n; m++) ck_assert_msg(!ir_encoding_equal(e, ir_encoding_at(m)), "%s = %s", e->name, ir_encoding_at(m)->name);
    ir_encoding_print(e, &text);
    int64_t shape[2] = {below(5), (below(3) + 1) * (e->record ? e->record : 7)};
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
    uint8_t *data = malloc((size_t)b.bytes + 1);
    for (int64_t i = 0; i < b.bytes; i++) data[i] = (uint8_t)rnd();
    check_fields(&b, data);
    free(data);
  }
  for (int t = 1; t < IR_DTYPE_COUNT; t++) ck_assert_str_eq(ir_encoding_plain((ir_dtype)t)->name, ir_dtype_name((ir_dtype)t));
  ir_encodings_doc(&text);
  ts_text_deinit(&text);
}
END_TEST

START_TEST(plain_types) {
  float values[15];
  for (int i = 0; i < 15; i++) values[i] = 3 * real();
  for (int t = 1; t < IR_DTYPE_COUNT; t++) {
    const ir_encoding *e = ir_encoding_plain((ir_dtype)t);
    int64_t shape[2] = {3, 5};
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
    ck_assert_int_eq(b.bytes, 3 * ((5 * (int64_t)ir_dtype_bits((ir_dtype)t) + 7) / 8));
    uint8_t data[15 * 8];
    const void *planes[IR_MAX_PLANES];
    ir_planes_of(&b, data, planes);
    float in[15], out[15];
    for (int i = 0; i < 15; i++) in[i] = ir_is_float((ir_dtype)t) ? values[i] : (float)ir_wrap((ir_dtype)t, below(8)) ;
    if (t == IR_e8m0) in[0] = 3;
    ck_assert_msg(ir_encode_rows(&b, in, 0, 3, (void *const *)planes, (ts_loc){0}, &diags) == TS_OK, "%s", e->name);
    ir_decode_rows_f32(&b, planes, 0, 3, out);
    for (int i = 0; i < 15; i++) {
      float want = ir_is_float((ir_dtype)t) ? (float)ir_round((ir_dtype)t, in[i]) : in[i];
      ck_assert_msg(out[i] == want, "%s: %g, expected %g", e->name, out[i], want);
    }
  }
  // Integers round once on their way to f32.
  int64_t big = (INT64_C(1) << 60) + (INT64_C(1) << 36) + 1, one = 1;
  ir_bound b;
  ck_assert_int_eq(ir_encoding_bind(ir_encoding_plain(IR_i64), 1, &one, (ts_loc){0}, &diags, &b), TS_OK);
  const void *planes[IR_MAX_PLANES] = {&big};
  float out;
  ir_decode_rows_f32(&b, planes, 0, 1, &out);
  ck_assert(out == (float)big);
}
END_TEST

// ---- quantizing ---------------------------------------------------------------------------------------------------------------------

static const ir_encoding *named(const char *name) {
  const ir_encoding *e = ir_encoding_find(&arena, NULL, ts_str_of(name));
  ck_assert_msg(e != NULL, "%s", name);
  return e;
}

static float f16_round(float v) { return (float)ir_round(IR_f16, v); }

START_TEST(quantizer_examples) {   // systems/awq.md, 1.1
  const ir_encoding *e = named("uint4_g8_f32");
  int64_t shape[2] = {3, 8};
  ir_bound b;
  ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
  uint8_t data[512];
  const void *p[IR_MAX_PLANES];
  ir_planes_of(&b, data, p);
  float w[24] = {0};
  for (int i = 0; i < 8; i++) w[i] = (float)(i - 3) / 4, w[8 + i] = 0.5f + 0.1f * (float)i;
  memset(data, 0xff, sizeof data);
  ck_assert_int_eq(ir_encode_rows(&b, w, 0, 3, (void *const *)p, (ts_loc){0}, &diags), TS_OK);
  static const int want[8] = {0, 2, 4, 6, 8, 10, 12, 15};
  for (int i = 0; i < 8; i++) ck_assert_int_eq((int)ir_field_bits(&b, p, 0, 0, i), want[i]);
  ck_assert_int_eq((int)ir_field_bits(&b, p, 2, 0, 0), 6);
  ck_assert_float_eq_tol((float)ir_float_of_bits(IR_f32, ir_field_bits(&b, p, 1, 0, 0)), .1166667f, 1e-7f);
  // One sign: the range reaches to 0, so nothing saturates. All zero: scale 1, zero 0, codes 0.
  float out[24];
  ir_decode_rows_f32(&b, p, 0, 3, out);
  for (int i = 8; i < 16; i++) ck_assert_float_eq_tol(out[i], w[i], 1.2f / 15 / 2 + 1e-6f);
  ck_assert_uint_eq(ir_field_bits(&b, p, 1, 2, 0), 0x3f800000);
  ck_assert_uint_eq(ir_field_bits(&b, p, 2, 2, 0), 0);
  for (int i = 16; i < 24; i++) ck_assert(out[i] == 0);
}
END_TEST

START_TEST(quantizer_reference) {   // scalar f32 reference, exact
  static const char *const names[] = {"uint4_g32", "uint4_g64", "uint4_g128", "uint8_g32", "uint4_row", "uint3_g32", "uint4_g32_pad", "uint4_g32_awq_gemm"};
  static const int groups[] = {32, 64, 128, 32, 0, 32, 32, 32}, bits[] = {4, 4, 4, 8, 4, 3, 4, 4};
  int n = _i;
  const ir_encoding *e = named(names[n]);
  for (int round = 0; round < 10; round++) {
    int64_t rows = below(9) + 1, k = (int64_t[]){172, 1, 31, 64, 129, 300}[below(6)], group = groups[n] ? groups[n] : k;
    if (round == 0) rows = 8, k = 172, group = groups[n] ? groups[n] : k;
    int64_t shape[2] = {rows, k};
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
    uint8_t *data = malloc((size_t)b.bytes);
    memset(data, 0xa5, (size_t)b.bytes);
    const void *p[IR_MAX_PLANES];
    ir_planes_of(&b, data, p);
    float *w = malloc((size_t)(rows * k) * 4), *out = malloc((size_t)(rows * k) * 4);
    for (int64_t i = 0; i < rows * k; i++) w[i] = real() * 0.1f + (below(7) == 0) * 0.3f - (below(50) == 0) * real();
    if (round == 1)
      for (int64_t j = 0; j < k; j++) w[j] = 1e-7f * (float)j;
    ck_assert_int_eq(ir_encode_rows(&b, w, 0, rows, (void *const *)p, (ts_loc){0}, &diags), TS_OK);
    ir_decode_rows_f32(&b, p, 0, rows, out);
    float top = (float)((1 << bits[n]) - 1);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t g = 0; g * group < k; g++) {
        float mn = 0, mx = 0;
        for (int64_t j = g * group; j < k && j < (g + 1) * group; j++) mn = fminf(mn, w[i * k + j]), mx = fmaxf(mx, w[i * k + j]);
        float d = mn == mx ? 1 : f16_round(fmaxf(mx - mn, 1e-5f) / top);
        float z = mn == mx ? 0 : fminf(fmaxf(-nearbyintf(mn / d), 0), top);
        ck_assert(ir_float_of_bits(IR_f16, ir_field_bits(&b, p, 1, i, g)) == d);
        ck_assert(ir_field_bits(&b, p, 2, i, g) == (uint64_t)z);
        for (int64_t j = g * group; j < k && j < (g + 1) * group; j++) {
          float q = fminf(fmaxf(nearbyintf(w[i * k + j] / d) + z, 0), top);
          ck_assert_msg(ir_field_bits(&b, p, 0, i, j) == (uint64_t)q, "%s [%lld, %lld]", e->name, (long long)i, (long long)j);
          ck_assert(out[i * k + j] == (q - z) * d);
          if (w[i * k + j] == 0) ck_assert(out[i * k + j] == 0);
          float clipped = fminf(fmaxf(w[i * k + j], -z * d), (top - z) * d);
          ck_assert(fabsf(out[i * k + j] - clipped) <= d * 0.50001f);
        }
      }
    check_fields(&b, data);
    // Rows of their own give the same bytes.
    uint8_t *again = calloc((size_t)b.bytes, 1);
    ir_planes_of(&b, again, p);
    for (int64_t i = 0; i < rows; i++) ck_assert_int_eq(ir_encode_rows(&b, w + i * k, i, 1, (void *const *)p, (ts_loc){0}, &diags), TS_OK);
    for (int f = 0; f < e->planes; f++) ck_assert_int_eq(memcmp(again + b.plane_offset[f], data + b.plane_offset[f], (size_t)b.plane_bytes[f]), 0);
    free(data), free(again), free(w), free(out);
  }
}
END_TEST

START_TEST(quantizer_others) {
  static const char *const names[] = {"int4_g32", "int8_g64", "int8_row_f32", "int3_g32", "min4_g32", "sub4_g64", "min8_channel_bf16", "int8_tensor",
                                      "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "int2_token", "min4_tensor_f32", "mxfp4"};
  for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
    const ir_encoding *e = named(names[n]);
    ck_assert(ir_encoding_can_encode(e));
    int64_t shape[2] = {5, e->record ? 96 : 172};
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
    int64_t k = shape[1];
    uint8_t *data = malloc((size_t)b.bytes);
    const void *p[IR_MAX_PLANES];
    ir_planes_of(&b, data, p);
    float w[5 * 172], out[5 * 172], parts[3][172];
    for (int i = 0; i < 5 * 172; i++) w[i] = real();
    for (int i = 0; i < 32; i++) w[i] = 0;
    ck_assert_msg(ir_encode_rows(&b, w, 0, 5, (void *const *)p, (ts_loc){0}, &diags) == TS_OK, "%s", e->name);
    ir_decode_rows_f32(&b, p, 0, 5, out);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < 5 * k; i++) error += pow(out[i] - w[i], 2), norm += pow(w[i], 2);
    double bits = e->field[0].bits;
    ck_assert_msg(sqrt(error / norm) < 2.7 * pow(2, -bits), "%s: %g", e->name, sqrt(error / norm));
    if (e->formula == IR_FORMULA_SCALED && !e->field[0].table)
      for (int i = 0; i < 32; i++) ck_assert_msg(out[i] == 0, "%s", e->name);
    // The parts give the value back: code * scale + offset.
    ir_decoder dec;
    ir_decoder_init(&dec, &b, p);
    ir_decoder_read(&dec, 3);
    for (int64_t j = 0; j < k; j++) {
      parts[0][j] = (float)dec.lut[dec.codes[j]];
      parts[1][j] = (float)dec.scale[j / dec.group];
      parts[2][j] = (float)ir_decoder_offset(&dec, j / dec.group);
      ck_assert_msg(fmaf(parts[0][j], parts[1][j], parts[2][j]) == out[3 * k + j], "%s", e->name);
    }
    ir_decoder_deinit(&dec);
    free(data);
  }
}
END_TEST

START_TEST(quantizer_refusals) {
  float w[64] = {0};
  int64_t shape[2] = {1, 64};
  uint8_t data[512];
  const void *p[IR_MAX_PLANES];
  ir_bound b;
  ck_assert_int_eq(ir_encoding_bind(named("uint4_g32"), 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
  ir_planes_of(&b, data, p);
  static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
  for (int i = 0; i < 4; i++) {
    w[40] = bad[i];
    ck_assert_int_eq(ir_encode_rows(&b, w, 0, 1, (void *const *)p, (ts_loc){0}, &diags), TS_INVALID);
    ck_assert(ts_diags_has(&diags, &diag_encode_value));
  }
  ck_assert_int_eq(ir_encoding_bind(ir_encoding_plain(IR_u8), 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
  ir_planes_of(&b, data, p);
  w[40] = 256;
  ck_assert_int_eq(ir_encode_rows(&b, w, 0, 1, (void *const *)p, (ts_loc){0}, &diags), TS_INVALID);
  int64_t k256[2] = {1, 256};
  ck_assert_int_eq(ir_encoding_bind(named("q6_K"), 2, k256, (ts_loc){0}, &diags, &b), TS_OK);
  ck_assert_int_eq(ir_encode_rows(&b, w, 0, 1, (void *const *)p, (ts_loc){0}, &diags), TS_UNSUPPORTED);
}
END_TEST

// ---- names, binding, verification -------------------------------------------------------------------------------------------------

START_TEST(names) {
  static const char *const good[] = {"int4_g64", "int8_g128", "int4_g32_f32", "uint4_g128_awq_gemm", "int8_tensor_bf16_pad", "sub2_row_refuse"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    const ir_encoding *e = named(good[i]);
    ck_assert_str_eq(e->name, good[i]);
    ck_assert(ir_encoding_equal(e, named(good[i])));
  }
  static const char *const wrong[] = {"", "int", "int4", "int4_", "int4_g", "int4_g0", "int4_g064", "int9_g32", "int1_g32", "int0_g3", "int4_g32_", "int4_g32_f64",
                                      "int4_g32_pad_f16", "int4_g32_awq", "q4_2", "F32", "int4_g9999999999", "uint4_rowx"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) ck_assert_msg(!ir_encoding_find(&arena, NULL, ts_str_of(wrong[i])), "%s", wrong[i]);
  const ir_encoding *e;
  ck_assert_int_eq(ir_encoding_of_name(&arena, NULL, TS_STR("q4_2"), (ts_loc){0}, &diags, &e), TS_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(diags.list.data[0].text, "q4_"));
  ck_assert_int_eq(ir_formula_of_text(TS_STR("(code-zero)*scale")), IR_FORMULA_ZERO);
  ck_assert_int_eq(ir_formula_of_text(TS_STR("code * scale")), IR_FORMULA_SCALED);
  ck_assert_int_eq(ir_formula_of_text(TS_STR("code * scale + min")), IR_FORMULA_MIN);
  ck_assert_int_eq(ir_formula_of_text(TS_STR("code + scale")), IR_FORMULA_COUNT);
}
END_TEST

START_TEST(binding) {
  ir_bound b;
  int64_t odd[2] = {3, 33}, negative[2] = {-1, 32}, huge[3] = {INT64_C(1) << 40, INT64_C(1) << 40, 32}, wide[2] = {1, INT64_MAX}, empty[2] = {0, 64};
  ck_assert_int_eq(ir_encoding_bind(named("q4_0"), 2, odd, (ts_loc){0}, &diags, &b), TS_INVALID);
  ck_assert(ts_diags_has(&diags, &diag_encoding_tail));
  ck_assert_int_eq(ir_encoding_bind(named("int4_g32_refuse"), 2, odd, (ts_loc){0}, &diags, &b), TS_INVALID);
  ck_assert_int_eq(ir_encoding_bind(named("q4_0"), 2, negative, (ts_loc){0}, &diags, &b), TS_OUT_OF_RANGE);
  ck_assert_int_eq(ir_encoding_bind(named("q4_0"), 3, huge, (ts_loc){0}, &diags, &b), TS_OUT_OF_RANGE);
  static const char *const all[] = {"f32", "u4", "int4_g64", "int4_g64_pad", "uint4_g128_awq_gemm", "int8_row"};
  for (int i = 0; i < 6; i++) {
    ck_assert_int_eq(ir_encoding_bind(named(all[i]), 3, huge, (ts_loc){0}, &diags, &b), TS_OUT_OF_RANGE);
    ck_assert_int_eq(ir_encoding_bind(named(all[i]), 2, wide, (ts_loc){0}, &diags, &b), TS_OUT_OF_RANGE);
    ck_assert_int_eq(ir_encoding_bind(named(all[i]), 2, empty, (ts_loc){0}, &diags, &b), TS_OK);
    ck_assert_int_eq(b.plane_bytes[0], 0);
  }
  ck_assert_int_eq(ir_encoding_bind(named("int4_g32"), 2, odd, (ts_loc){0}, &diags, &b), TS_OK);
  ck_assert_int_eq(b.plane_bytes[0], 3 * 17);
  ck_assert_int_eq(b.plane_bytes[1], 3 * 2 * 2);
  ck_assert_int_eq(ir_encoding_bind(named("int4_g32_pad"), 2, odd, (ts_loc){0}, &diags, &b), TS_OK);
  ck_assert_int_eq(b.plane_bytes[0], 3 * 32);
  ck_assert_int_eq(ir_encoding_bind(named("f32"), 0, NULL, (ts_loc){0}, &diags, &b), TS_OK);
  ck_assert_int_eq(b.bytes, 4);
}
END_TEST

#define D(divisor, radix, stride) {1, divisor, radix, stride}
START_TEST(made_up) {   // 3-bit codes that cross bytes, a 5-bit scale code in two pieces, and a bf16 tier; nobody knows its name
  static const ir_piece codes[] = {{0, 0, 0, 3, 7, {D(1, 12, 3)}}};
  static const ir_piece fine[] = {{0, 1, 0, 5, 43, {{0}}}, {1, 1, 0, 5, 48, {{0}}}, {2, 1, 0, 2, 53, {{0}}}, {2, 1, 2, 3, 0, {{0}}}};
  static const ir_piece coarse[] = {{0, 0, 0, 16, 56, {{0}}}};
  static const ir_field fields[] = {
    {"codes", IR_ROLE_CODE, IR_i8, 3, 1, 1, 1, NULL, 0, 1, 0, codes, NULL},
    {"coarse", IR_ROLE_SCALE, IR_bf16, 16, 0, 1, 12, NULL, 0, 1, 0, coarse, NULL},
    {"fine", IR_ROLE_SCALE, IR_u8, 5, 3, 1, 4, NULL, 0, 4, 0, fine, NULL},
  };
  static const ir_encoding e = {"made_up", "", IR_FORMULA_SCALED, IR_f32, 12, 9, IR_TAIL_SHORT, 1, 3, fields};
  ck_assert_int_eq(ir_encoding_verify(&e, (ts_loc){0}, &diags), TS_OK);
  const ir_encoding *list[] = {&e};
  ir_encoding_list extra = {list, 1};
  ck_assert_ptr_eq(ir_encoding_find(&arena, &extra, TS_STR("made_up")), &e);
  int64_t shape[2] = {4, 29};
  ir_bound b;
  ck_assert_int_eq(ir_encoding_bind(&e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
  ck_assert_int_eq(b.bytes, 4 * 3 * 9);
  uint8_t data[4 * 3 * 9];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rnd();
  for (int i = 0; i < 12; i++) data[9 * i + 8] &= 0x3f;   // exponents stay finite
  const void *p[IR_MAX_PLANES] = {data};
  float out[4 * 29];
  ir_decode_rows_f32(&b, p, 0, 4, out);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 29; j++) {
      const uint8_t *r = data + 9 * (3 * i + j / 12);
      int m = j % 12, g = m / 4, code = 0, fine_code = 0;
      for (int t = 0; t < 3; t++) code |= (r[(7 + 3 * m + t) / 8] >> (7 + 3 * m + t) % 8 & 1) << t;
      if (code > 3) code -= 8;
      for (int t = 0; t < 5; t++) {
        int at = g < 2 ? 43 + 5 * g + t : t < 2 ? 53 + t : t - 2;
        fine_code |= (r[at / 8] >> at % 8 & 1) << t;
      }
      uint32_t bits = (uint32_t)(r[7] | r[8] << 8) << 16;
      float coarse_value;
      memcpy(&coarse_value, &bits, 4);
      float want = (float)(code - 1) * (coarse_value * (float)(fine_code - 3));
      ck_assert_msg(out[29 * i + j] == want, "[%d, %d]: %a, expected %a", i, j, out[29 * i + j], want);
      ck_assert(run_recipe(&b, p, i, j) == want);
    }
}
END_TEST

START_TEST(bad_encodings) {
  const ir_encoding *q = named("q4_1");
  ir_field f[3];
  ir_piece piece = q->field[0].piece[0];
  for (int i = 0; i < 10; i++) {
    ir_encoding e = *q;
    memcpy(f, q->field, sizeof f);
    e.field = f;
    piece = q->field[0].piece[0];
    f[0].piece = &piece;
    switch (i) {
      case 0: piece.at = 24; break;                       // onto the minimum
      case 1: piece.at = 40; break;                       // out of the record
      case 2: piece.bits = 3; break;                      // bits missing
      case 3: piece.digit[0].radix = 8; break;            // elements on top of each other
      case 4: e.formula = IR_FORMULA_SCALED; break;
      case 5: f[2].role = IR_ROLE_ZERO; break;
      case 6: e.record_bytes = 0; break;
      case 7: f[1].per_k = 5; break;
      case 8: f[0].bits = 5; break;                       // more than u4 has
      case 9: e.fields = 0; break;
    }
    ck_assert_msg(ir_encoding_verify(&e, (ts_loc){0}, &diags) == TS_INVALID, "%d", i);
  }
  ir_affine p = {.formula = IR_FORMULA_ZERO, .code = IR_u4, .scale = IR_f16, .zero = IR_u4, .scale_per = {1, 64}, .zero_per = {1, 64}};
  const ir_encoding *e;
  ck_assert_int_eq(ir_encoding_make(&arena, &p, (ts_loc){0}, &diags, &e), TS_OK);
  p.zero = IR_f16;   // an integer zero must be an integer
  ck_assert_int_eq(ir_encoding_make(&arena, &p, (ts_loc){0}, &diags, &e), TS_INVALID);
  p.zero = IR_u4;
  static const ir_digit twice[] = {{1, 1, 0}, {0, 8, 0}, {0, 1, 4}};   // n%8/4 is missing
  p.layout[0] = (ir_digit_list){twice, 3};
  ck_assert_int_eq(ir_encoding_make(&arena, &p, (ts_loc){0}, &diags, &e), TS_INVALID);
}
END_TEST

// ---- published layouts (systems/awq.md, section 2) ------------------------------------------------------------------------------

static uint64_t fnv1a(const uint8_t *p, size_t n) {
  uint64_t h = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
  return h;
}

START_TEST(awq_golden) {
  static const struct {
    const char *name;
    uint64_t hash;
  } want[] = {{"uint4_g128", 0xb52aaccd03e67f25}, {"uint4_g128_awq_gemm", 0xe9a82a539263a565}, {"uint4_g128_awq_gemv_fast", 0x9d482fdf96cfd625},
              {"uint4_g128_awq_gemv", 0xb52aaccd03e67f25}};
  for (int n = 0; n < 4; n++) {
    int64_t shape[2] = {128, 128};
    ir_bound b;
    ck_assert_int_eq(ir_encoding_bind(named(want[n].name), 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
    ck_assert_int_eq(b.plane_bytes[0], 8192);
    uint8_t *data = calloc((size_t)b.bytes, 1);
    const void *p[IR_MAX_PLANES];
    ir_planes_of(&b, data, p);
    for (int64_t i = 0; i < 128; i++)
      for (int64_t k = 0; k < 128; k++) ir_field_set_bits(&b, (void *const *)p, 0, i, k, (uint64_t)((5 * i + 3 * k + i * k / 8) & 15));
    ck_assert_msg(fnv1a(data, 8192) == want[n].hash, "%s: %016llx", want[n].name, (unsigned long long)fnv1a(data, 8192));
    free(data);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir_encoding");
  TCase *t = tcase_create("encoding");
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_loop_test(t, published_formats, 0, FORMATS);
  tcase_add_test(t, table_rows);
  tcase_add_test(t, plain_types);
  tcase_add_test(t, quantizer_examples);
  tcase_add_loop_test(t, quantizer_reference, 0, 8);
  tcase_add_test(t, quantizer_others);
  tcase_add_test(t, quantizer_refusals);
  tcase_add_test(t, names);
  tcase_add_test(t, binding);
  tcase_add_test(t, made_up);
  tcase_add_test(t, bad_encodings);
  tcase_add_test(t, awq_golden);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
