// Weights and repacking against an oracle that places one element at a time.
#include "ir/weights.h"

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

static const ir_encoding *named(const char *name) {
  const ir_encoding *e = ir_encoding_find(&arena, NULL, ts_str_of(name));
  ck_assert_msg(e != NULL, "%s", name);
  return e;
}

static ir_weight *random_weight(const char *encoding, int64_t rows, int64_t k) {
  ir_weight *w;
  int64_t shape[2] = {rows, k};
  ck_assert_int_eq(ir_weight_random(&arena, "w", named(encoding), 2, shape, rnd(), (ts_loc){0}, &diags, &w), TS_OK);
  return w;
}

// The same as a weight with bytes.
static ir_weight *with_bytes(const ir_weight *w, const void **planes) {
  ir_bound b = w->bound;
  uint8_t *data = ts_arena_alloc(&arena, (size_t)b.bytes + 1, 64);
  for (int64_t i = 0; i < b.bytes; i++) data[i] = (uint8_t)rnd();
  ir_planes_of(&b, data, planes);
  for (int f = 0; f < b.enc->fields; f++)   // floats stay finite
    for (int64_t i = 0; i < b.view[f].rows && ir_is_float(b.enc->field[f].type); i++)
      for (int64_t j = 0; j < b.view[f].cols; j++)
        ir_field_set_bits(&b, (void *const *)planes, (unsigned)f, i, j,
                          ir_bits_of_float(b.enc->field[f].type, (double)(below(2001) - 1000) / (double)(below(5000) + 1)));
  ir_weight *out;
  ck_assert_int_eq(ir_weight_of_data(&arena, w->name, b.enc, w->rank, w->shape, data, (size_t)b.bytes, (ts_loc){0}, &diags, &out), TS_OK);
  return out;
}

static const char *const encodings[] = {"f32", "f16", "bf16", "u4", "i8", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K",
                                        "iq4_nl", "int4_g64", "uint4_g32", "int8_g128", "uint4_g128_awq_gemm", "uint4_g32_awq_gemv_fast", "min4_g32_pad",
                                        "int8_tensor", "uint3_row"};
enum { ENCODINGS = sizeof encodings / sizeof *encodings };

// A random digit list that covers both axes, in random order, with padding.
static unsigned random_digits(int64_t rows, int64_t cols, ir_digit *out) {
  unsigned n = 0;
  for (int axis = 0; axis < 2; axis++) {
    int64_t size = axis ? cols : rows, divisor = 1;
    while (divisor < size && below(4) && n < 10) {
      int64_t radix = below(6) + 2;
      out[n++] = (ir_digit){(uint8_t)axis, divisor, radix};
      divisor *= radix;
    }
    out[n++] = (ir_digit){(uint8_t)axis, divisor, 0};
  }
  for (unsigned i = n; i > 1; i--) {
    unsigned k = (unsigned)below(i);
    ir_digit t = out[k];
    out[k] = out[i - 1], out[i - 1] = t;
  }
  return n;
}

static int64_t place(const ir_repack *r, int64_t i, int64_t j) {
  int64_t at = r->base;
  for (unsigned d = 0; d < r->digits; d++) at += (r->digit[d].axis ? j : i) / r->digit[d].divisor % r->digit[d].radix * r->digit[d].stride;
  return at;
}

// One element of the oracle, as bits of the target.
static uint64_t element(const ir_weight *w, const void *const *planes, const ir_repack *r, int64_t i, int64_t j) {
  const ir_bound *b = &w->bound;
  unsigned width = r->bits ? r->bits : ir_dtype_bits(r->as);
  uint64_t mask = width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
  if (r->what == IR_WHAT_FIELD || r->what == IR_WHAT_CODE) {
    const ir_field *f = &b->enc->field[r->field];
    uint64_t bits = ir_field_bits(b, planes, r->field, i, j);
    if (f->table && r->what == IR_WHAT_CODE && !ir_is_float(r->as)) return (uint64_t)(int64_t)ir_field_value(f, bits) & mask;
    if (ir_is_float(f->type) || (f->table && r->what == IR_WHAT_CODE)) return ir_bits_of_float(r->as, ir_field_value(f, bits));
    int64_t v = ir_field_int(f, bits) - (r->what == IR_WHAT_CODE ? f->bias : 0);
    return ir_is_float(r->as) ? ir_bits_of_float(r->as, (double)v) : (uint64_t)((v + r->add) >> r->shift) & mask;
  }
  ir_decoder d;
  ir_decoder_init(&d, b, planes);
  ir_decoder_read(&d, i);
  double v = r->what == IR_WHAT_SCALE ? d.scale[j] : r->what == IR_WHAT_OFFSET ? ir_decoder_offset(&d, j) : 0;
  if (r->what == IR_WHAT_VALUE) {
    double *row = malloc((size_t)b->k * 8);
    float *single = malloc((size_t)b->k * 4);
    ir_decoder_f64(&d, i, row);
    ir_decoder_f32(&d, i, single);
    v = r->as == IR_f32 ? single[j] : row[j];
    free(row), free(single);
  }
  ir_decoder_deinit(&d);
  return ir_bits_of_float(r->as, v);
}

static void check_repack(const ir_weight *w, const void *const *planes, ir_repack *r) {
  int64_t rows, cols;
  ir_repack_domain(w, r, &rows, &cols);
  ir_digit list[16];
  unsigned n = random_digits(rows, cols, list);
  ck_assert_int_eq(ir_repack_pack(w, r, list, n, (ts_loc){0}, &diags), TS_OK);
  if (below(2)) {   // somewhere in a larger buffer
    r->base = below(5) * 8 + (below(2) ? 0 : below(8));
    r->bytes += r->base / 8 + 2;
  }
  uint8_t *out = calloc((size_t)r->bytes + 1, 1), *want = calloc((size_t)r->bytes + 1, 1);
  out[r->bytes] = 0xa5;
  ck_assert_int_eq(ir_weight_repack(w, r, &diags, out), TS_OK);
  ck_assert_uint_eq(out[r->bytes], 0xa5);
  unsigned width = r->bits ? r->bits : ir_dtype_bits(r->as);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) {
      int64_t at = place(r, i, j);
      uint64_t bits = element(w, planes, r, i, j);
      for (unsigned t = 0; t < width; t++, at++) want[at / 8] |= (uint8_t)((bits >> t & 1) << at % 8);
    }
  ck_assert_msg(memcmp(out, want, (size_t)r->bytes) == 0, "%s what %d as %s (seed %llu)", w->encoding->name, (int)r->what, ir_dtype_name(r->as),
                (unsigned long long)seed);
  free(out), free(want);
}

START_TEST(repack_against_oracle) {
  bool wide = strstr(encodings[_i], "_K") != NULL, blocks = encodings[_i][0] == 'q' || encodings[_i][0] == 'i' ? strstr(encodings[_i], "int") == NULL : false;
  for (int round = 0; round < 6; round++) {
    int64_t k = blocks && encodings[_i][1] != '8' ? (wide ? 256 : 32 * (below(3) + 1)) : (int64_t[]){172, 33, 1, 64, 129}[below(5)];
    if (strcmp(encodings[_i], "q8_0") == 0) k = 64;
    if (strcmp(encodings[_i], "i8") == 0) k = 33;
    const void *planes[IR_MAX_PLANES];
    ir_weight *w = with_bytes(random_weight(encodings[_i], below(12) + 1, k), planes);
    const ir_encoding *e = w->encoding;
    for (unsigned f = 0; f < e->fields; f++) {
      ir_repack r = {.what = IR_WHAT_FIELD, .field = f, .as = e->field[f].type};
      check_repack(w, planes, &r);
      if (ir_is_float(e->field[f].type)) {
        r.as = (ir_dtype[]){IR_f32, IR_f16, IR_bf16, IR_f64}[below(4)];
      } else {
        r.as = IR_i32, r.add = below(100);
        check_repack(w, planes, &r);
        r.as = IR_u8, r.add = 0, r.shift = (unsigned)below(e->field[f].bits), r.bits = (unsigned)below(e->field[f].bits) + 1;
      }
      check_repack(w, planes, &r);
    }
    bool whole = !ir_is_float(e->field[0].type);
    ir_repack code = {.what = IR_WHAT_CODE, .as = whole ? (below(2) ? IR_i16 : IR_i8) : IR_f32};
    if (e->field[0].bits == 8 && !ir_is_signed(e->field[0].type)) code.as = IR_i16;
    check_repack(w, planes, &code);
    static const ir_what parts[] = {IR_WHAT_SCALE, IR_WHAT_OFFSET, IR_WHAT_VALUE};
    for (int p = 0; p < 3; p++) {
      bool shared = false;   // the oracle reads a row of its own for every row of the domain
      for (int f = 0; f < e->fields; f++) shared |= e->field[f].per_n != 1;
      if (shared && p < 2) continue;
      ir_repack r = {.what = parts[p], .as = (ir_dtype[]){IR_f32, IR_f16, IR_bf16, IR_f64}[below(4)]};
      check_repack(w, planes, &r);
    }
  }
}
END_TEST

START_TEST(repack_awq_golden) {   // from row-major codes to AutoAWQ's bytes by one list
  int64_t shape[2] = {128, 128};
  ir_bound b;
  const ir_encoding *e = named("uint4_g128");
  ck_assert_int_eq(ir_encoding_bind(e, 2, shape, (ts_loc){0}, &diags, &b), TS_OK);
  uint8_t *data = calloc((size_t)b.bytes, 1), out[8192] = {0};
  const void *p[IR_MAX_PLANES];
  ir_planes_of(&b, data, p);
  for (int64_t i = 0; i < 128; i++)
    for (int64_t k = 0; k < 128; k++) ir_field_set_bits(&b, (void *const *)p, 0, i, k, (uint64_t)((5 * i + 3 * k + i * k / 8) & 15));
  ir_weight *w;
  ck_assert_int_eq(ir_weight_of_data(&arena, "w", e, 2, shape, data, (size_t)b.bytes, (ts_loc){0}, &diags, &w), TS_OK);
  static const struct {
    const char *layout;
    uint64_t hash;
  } want[] = {{"awq_gemm", 0xe9a82a539263a565}, {"awq_gemv_fast", 0x9d482fdf96cfd625}, {"awq_gemv", 0xb52aaccd03e67f25}};
  for (int n = 0; n < 3; n++) {
    const ir_named_layout *l = ir_named_layout_find(ts_str_of(want[n].layout));
    ir_repack r = {.what = IR_WHAT_FIELD, .as = IR_u4};
    ck_assert_int_eq(ir_repack_pack(w, &r, l->list[0].digit, l->list[0].count, (ts_loc){0}, &diags), TS_OK);
    ck_assert_int_eq(r.bytes, 8192);
    memset(out, 0, sizeof out);
    ck_assert_int_eq(ir_weight_repack(w, &r, &diags, out), TS_OK);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < 8192; i++) h = (h ^ out[i]) * UINT64_C(0x100000001b3);
    ck_assert_msg(h == want[n].hash, "%s: %016llx", want[n].layout, (unsigned long long)h);
    // And back: the packed bytes under the name of their layout have the same codes, so the same hash of values.
    char name[64];
    snprintf(name, sizeof name, "uint4_g128_%s", want[n].layout);
    const ir_encoding *packed = named(name);
    ir_bound pb;
    ck_assert_int_eq(ir_encoding_bind(packed, 2, shape, (ts_loc){0}, &diags, &pb), TS_OK);
    const void *planes[] = {out, p[1], p[2], NULL};
    for (int64_t i = 0; i < 128; i++)
      for (int64_t k = 0; k < 128; k++) ck_assert_uint_eq(ir_field_bits(&pb, planes, 0, i, k), ir_field_bits(&b, p, 0, i, k));
  }
  free(data);
}
END_TEST

START_TEST(sources) {
  for (int e = 0; e < ENCODINGS; e++) {
    if (strstr(encodings[e], "tensor")) continue;
    int64_t k = strstr(encodings[e], "_K") ? 256 : 96, rows = 11;
    ir_weight *a = random_weight(encodings[e], rows, k), *cut[3], *joined, *ordered, *twice;
    const ir_weight *parts[3];
    int64_t at[4] = {0, below(rows + 1), rows, rows};
    at[2] = at[1] + below(rows - at[1] + 1);
    for (int i = 0; i < 3; i++) {
      ck_assert_int_eq(ir_weight_slice(&arena, a, at[i], at[i + 1], (ts_loc){0}, &diags, &cut[i]), TS_OK);
      parts[i] = cut[i];
    }
    ck_assert_int_eq(ir_weight_join(&arena, "w", parts, 3, (ts_loc){0}, &diags, &joined), TS_OK);
    uint64_t ha, hj, ho, ht;
    ck_assert_int_eq(ir_weight_hash(a, &diags, &ha), TS_OK);
    ck_assert_int_eq(ir_weight_hash(joined, &diags, &hj), TS_OK);
    ck_assert_msg(ha == hj, "%s", encodings[e]);
    int64_t order[11], inverse[11];
    for (int64_t i = 0; i < rows; i++) order[i] = (i * 4 + 3) % rows;
    for (int64_t i = 0; i < rows; i++) inverse[order[i]] = i;
    ck_assert_int_eq(ir_weight_reorder(&arena, a, order, rows, (ts_loc){0}, &diags, &ordered), TS_OK);
    ck_assert_int_eq(ir_weight_reorder(&arena, ordered, inverse, rows, (ts_loc){0}, &diags, &twice), TS_OK);
    ck_assert_int_eq(ir_weight_hash(ordered, &diags, &ho), TS_OK);
    ck_assert_int_eq(ir_weight_hash(twice, &diags, &ht), TS_OK);
    ck_assert(ho != ha && ht == ha);
    float *x = malloc((size_t)(rows * k) * 4), *y = malloc((size_t)(rows * k) * 4);
    ck_assert_int_eq(ir_weight_decode_f32(a, 0, rows, &diags, x), TS_OK);
    ck_assert_int_eq(ir_weight_decode_f32(ordered, 0, rows, &diags, y), TS_OK);
    for (int64_t i = 0; i < rows; i++) ck_assert_int_eq(memcmp(y + i * k, x + order[i] * k, (size_t)k * 4), 0);
    double sum = 0;
    for (int64_t i = 0; i < rows * k; i++) sum += x[i] * x[i];
    sum = sqrt(sum / (double)rows);   // values of variance about 1 / k
    if (ir_is_float(ir_encoding_find(&arena, NULL, ts_str_of(encodings[e]))->value)) ck_assert_msg(sum > 0.3 && sum < 3, "%s: %g", encodings[e], sum);
    // A repack of the reordered weight is the repack of the rows in that order.
    ir_repack r = {.what = IR_WHAT_VALUE, .as = IR_f32};
    static const ir_digit plain[] = {{0, 1, 0}, {1, 1, 0}};
    ck_assert_int_eq(ir_repack_pack(ordered, &r, plain, 2, (ts_loc){0}, &diags), TS_OK);
    memset(x, 0, (size_t)(rows * k) * 4);
    ck_assert_int_eq(ir_weight_repack(ordered, &r, &diags, x), TS_OK);
    ck_assert_int_eq(memcmp(x, y, (size_t)(rows * k) * 4), 0);
    free(x), free(y);
  }
}
END_TEST

START_TEST(vectors_and_quantized) {
  int64_t n[2] = {7, 5};
  ir_weight *a, *b, *j, *s, *q, *w = random_weight("f32", 9, 172);
  ck_assert_int_eq(ir_weight_random(&arena, "a", named("f16"), 1, &n[0], 1, (ts_loc){0}, &diags, &a), TS_OK);
  ck_assert_int_eq(ir_weight_random(&arena, "b", named("f16"), 1, &n[1], 1, (ts_loc){0}, &diags, &b), TS_OK);
  const ir_weight *parts[] = {a, b};
  ck_assert_int_eq(ir_weight_join(&arena, "ab", parts, 2, (ts_loc){0}, &diags, &j), TS_OK);
  float x[12], y[7], z[5];
  ck_assert_int_eq(ir_weight_decode_f32(j, 0, 1, &diags, x), TS_OK);
  ck_assert_int_eq(ir_weight_decode_f32(a, 0, 1, &diags, y), TS_OK);
  ck_assert_int_eq(ir_weight_decode_f32(b, 0, 1, &diags, z), TS_OK);
  ck_assert(memcmp(x, y, sizeof y) == 0 && memcmp(x + 7, z, sizeof z) == 0);
  float data[6] = {1, 2, 3, 4, 5, 6};
  int64_t six = 6;
  ck_assert_int_eq(ir_weight_of_data(&arena, "v", named("f32"), 1, &six, data, 24, (ts_loc){0}, &diags, &a), TS_OK);
  ck_assert_int_eq(ir_weight_slice(&arena, a, 2, 5, (ts_loc){0}, &diags, &s), TS_OK);
  ck_assert_int_eq(ir_weight_decode_f32(s, 0, 1, &diags, x), TS_OK);
  ck_assert(x[0] == 3 && x[2] == 5);
  ck_assert_int_eq(ir_weight_quantize(&arena, w, named("uint4_g64"), (ts_loc){0}, &diags, &q), TS_OK);
  float exact[9 * 172], rough[9 * 172];
  ck_assert_int_eq(ir_weight_decode_f32(w, 0, 9, &diags, exact), TS_OK);
  ck_assert_int_eq(ir_weight_decode_f32(q, 0, 9, &diags, rough), TS_OK);
  double e = 0, t = 0;
  for (int i = 0; i < 9 * 172; i++) e += pow(exact[i] - rough[i], 2), t += pow(exact[i], 2);
  ck_assert_msg(sqrt(e / t) < 0.08 && e > 0, "%g", sqrt(e / t));
  ir_bound bound = q->bound;
  uint8_t *bytes = calloc((size_t)bound.bytes, 1);
  const void *planes[IR_MAX_PLANES];
  ir_planes_of(&bound, bytes, planes);
  ck_assert_int_eq(ir_encode_rows(&bound, exact, 0, 9, (void *const *)planes, (ts_loc){0}, &diags), TS_OK);
  ir_weight *direct;
  uint64_t h1, h2;
  ck_assert_int_eq(ir_weight_of_data(&arena, "w", q->encoding, 2, q->shape, bytes, (size_t)bound.bytes, (ts_loc){0}, &diags, &direct), TS_OK);
  ck_assert_int_eq(ir_weight_hash(direct, &diags, &h1), TS_OK);
  ck_assert_int_eq(ir_weight_hash(q, &diags, &h2), TS_OK);
  ck_assert_uint_eq(h1, h2);
  free(bytes);
}
END_TEST

START_TEST(refusals) {
  ir_weight *w = random_weight("q4_1", 6, 64), *f = random_weight("f32", 6, 64), *narrow = random_weight("q4_1", 6, 32), *out;
  const ir_weight *mixed[] = {w, f}, *widths[] = {w, narrow};
  ck_assert_int_ne(ir_weight_slice(&arena, w, 3, 7, (ts_loc){0}, &diags, &out), TS_OK);
  ck_assert_int_ne(ir_weight_slice(&arena, w, -1, 2, (ts_loc){0}, &diags, &out), TS_OK);
  ck_assert_int_ne(ir_weight_join(&arena, "x", mixed, 2, (ts_loc){0}, &diags, &out), TS_OK);
  ck_assert_int_ne(ir_weight_join(&arena, "x", widths, 2, (ts_loc){0}, &diags, &out), TS_OK);
  int64_t order[6] = {0, 1, 2, 3, 4, 4};
  ck_assert_int_ne(ir_weight_reorder(&arena, w, order, 6, (ts_loc){0}, &diags, &out), TS_OK);
  ck_assert_int_ne(ir_weight_quantize(&arena, f, named("q6_K"), (ts_loc){0}, &diags, &out), TS_OK);
  int64_t shape[2] = {6, 64};
  uint8_t bytes[64];
  ck_assert_int_eq(ir_weight_of_data(&arena, "w", named("q4_1"), 2, shape, bytes, 64, (ts_loc){0}, &diags, &out), TS_CORRUPT);
  // Layouts: missing digit, digit twice, overlapping strides, too small a buffer; codes that do not fit.
  ir_repack r = {.what = IR_WHAT_FIELD, .as = IR_u4};
  static const ir_digit missing[] = {{0, 1, 0}, {1, 2, 0}}, twice[] = {{0, 1, 0}, {1, 1, 0}, {1, 1, 2}}, good[] = {{0, 1, 0}, {1, 1, 0}};
  ck_assert_int_eq(ir_repack_pack(w, &r, missing, 2, (ts_loc){0}, &diags), TS_INVALID);
  ck_assert_int_eq(ir_repack_pack(w, &r, twice, 3, (ts_loc){0}, &diags), TS_INVALID);
  ck_assert_int_eq(ir_repack_pack(w, &r, good, 2, (ts_loc){0}, &diags), TS_OK);
  uint8_t buffer[6 * 32] = {0};
  ir_repack bad = r;
  bad.digit[0].stride = 128;
  ck_assert_int_eq(ir_weight_repack(w, &bad, &diags, buffer), TS_INVALID);
  bad = r;
  bad.bytes--;
  ck_assert_int_eq(ir_weight_repack(w, &bad, &diags, buffer), TS_INVALID);
  bad = r;
  bad.add = 1;   // 16 is no u4
  ck_assert_int_eq(ir_weight_repack(w, &bad, &diags, buffer), TS_OUT_OF_RANGE);
  bad = r;
  bad.field = 3;
  ck_assert_int_eq(ir_weight_repack(w, &bad, &diags, buffer), TS_INVALID);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir_weights");
  TCase *t = tcase_create("weights");
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_loop_test(t, repack_against_oracle, 0, ENCODINGS);
  tcase_add_test(t, repack_awq_golden);
  tcase_add_test(t, sources);
  tcase_add_test(t, vectors_and_quantized);
  tcase_add_test(t, refusals);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
