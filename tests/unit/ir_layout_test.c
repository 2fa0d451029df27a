// Layouts against enumeration. Random layouts are lists of raw digits; the oracle places every logical index by the definition
// of a digit (the xor of floor(index / divisor) mod radix, times the stride) and shares no code with the library. Published
// digit lists are checked against the hashes of packed matrices, fragments against the formulas of the instructions.
#include "base/checked.h"
#include "ir/layout.h"

#include <check.h>
#include <stdlib.h>

static uint64_t rng_state;
static uint64_t rng(void) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state * 0x2545F4914F6CDD1Du >> 16;
}
static int64_t pick(int64_t lo, int64_t hi) { return lo + (int64_t)(rng() % (uint64_t)(hi - lo + 1)); }

#ifdef __SANITIZE_ADDRESS__
enum { SHARE = 5 };   // the sanitizers make a trial 20 times as long
#else
enum { SHARE = 1 };
#endif

static ts_arena arena;
static const ts_loc nowhere = {0};

static void setup(void) {
  const char *seed = getenv("TESSERA_SEED");
  rng_state = seed ? strtoull(seed, NULL, 0) : 0x9E3779B97F4A7C15u;
  printf("seed 0x%llx\n", (unsigned long long)rng_state);
  fflush(stdout);
  ts_arena_init(&arena);
}
static void teardown(void) { ts_arena_deinit(&arena); }

static void fresh(void) {   // between trials
  if (arena.used < 1 << 23) return;
  ts_arena_deinit(&arena);
  ts_arena_init(&arena);
}

static const ir_layout *parse_sized(const char *text, int64_t n, int64_t k) {
  const ir_layout_space axes[] = {{"n", n}, {"k", k}, {"m", n}, {"g", 4}};
  const ir_layout *l = NULL;
  ts_diags d;
  ts_diags_init(&d);
  ts_status s = ir_layout_parse(&arena, ts_str_of(text), axes, 4, &d, nowhere, &l);
  ck_assert_msg(s == TS_OK, "%s: %s", text, d.list.count ? d.list.data[0].text : "?");
  ts_diags_deinit(&d);
  return l;
}
static const ir_layout *parse(const char *text) { return parse_sized(text, 128, 128); }

static const char *text_of(const ir_layout *l) {
  ts_text t = {0};
  ir_layout_print(l, &t);
  char *copy = ts_arena_strdup(&arena, ts_text_z(&t));
  ts_text_deinit(&t);
  return copy;
}

// ---- random layouts -----------------------------------------------------------------------------------------------------

enum { MAX_RAW = 40 };
typedef struct raw {
  ir_layout_space dims[4], axes[4];
  uint32_t dim_count, axis_count, count;
  ir_layout_digit digits[MAX_RAW];
  ir_layout_term terms[MAX_RAW][4];
  int64_t positions, indices;
} raw;

static const char *const dim_names[] = {"reg", "lane", "warp", "page"};
static const char *const axis_names[] = {"n", "k", "b", "h"};

static void point_terms(raw *r) {
  for (uint32_t i = 0; i < r->count; i++) r->digits[i].terms = r->terms[i];
}

// Digits of `axis_count` axes dealt to dimensions. `budget`: about how many indices.
static void random_raw(raw *r, const char *const *dims, uint32_t dim_count, const char *const *axes, uint32_t axis_count,
                       int64_t budget, bool plain) {
  memset(r, 0, sizeof *r);
  static const int64_t radices[] = {2, 2, 2, 2, 4, 4, 8, 3, 5, 6};
  r->dim_count = dim_count, r->axis_count = axis_count;
  int64_t total = 1;
  for (uint32_t x = 0; x < axis_count; x++) {
    int64_t divisor = 1;
    for (int j = (int)pick(0, 4); j > 0 && total < budget; j--) {
      int64_t radix = radices[rng() % (plain ? 7 : 10)];
      r->digits[r->count].radix = radix;
      r->digits[r->count].count = 1;
      r->terms[r->count++][0] = (ir_layout_term){x, divisor};
      divisor *= radix, total *= radix;
    }
    r->axes[x] = (ir_layout_space){axes[x], divisor};
    if (!plain && divisor > 3 && rng() % 5 == 0) r->axes[x].size -= pick(1, divisor / 3);   // ragged
  }
  for (int j = plain ? 0 : (int)pick(0, 2); j > 0; j--) {
    r->digits[r->count].radix = pick(2, 3);
    r->digits[r->count++].count = 0;
  }
  for (uint32_t i = r->count; i > 1; i--) {   // shuffle
    uint32_t j = (uint32_t)(rng() % i);
    ir_layout_digit g = r->digits[i - 1];
    ir_layout_term t = r->terms[i - 1][0];
    r->digits[i - 1] = r->digits[j], r->terms[i - 1][0] = r->terms[j][0];
    r->digits[j] = g, r->terms[j][0] = t;
  }
  int64_t extent[4] = {1, 1, 1, 1};
  for (uint32_t i = 0; i < r->count; i++) {
    ir_layout_digit *g = &r->digits[i];
    g->dim = (uint32_t)(rng() % dim_count);
    if (!plain && rng() % 12 == 0) extent[g->dim] += pick(1, 3);   // a pitch
    g->stride = extent[g->dim];
    extent[g->dim] *= g->radix;
    if (g->count && ts_is_pow2((uint64_t)g->radix) && rng() % 3 == 0) {   // an xor with part of another digit
      for (int tries = 0; tries < 4; tries++) {
        uint32_t j = (uint32_t)(rng() % r->count);
        if (j == i || r->digits[j].count == 0 || !ts_is_pow2((uint64_t)r->digits[j].radix) || r->digits[j].radix < g->radix)
          continue;
        r->terms[i][g->count++] = r->terms[j][0];
        break;
      }
    }
  }
  r->positions = r->indices = 1;
  for (uint32_t i = 0; i < dim_count; i++) r->dims[i] = (ir_layout_space){dims[i], extent[i]}, r->positions *= extent[i];
  for (uint32_t i = 0; i < axis_count; i++) r->indices *= r->axes[i].size;
  point_terms(r);
}

static void unflatten(const ir_layout_space *s, uint32_t count, int64_t flat, int64_t *at) {
  for (uint32_t i = 0; i < count; i++) at[i] = flat % s[i].size, flat /= s[i].size;
}
static int64_t flatten(const ir_layout_space *s, uint32_t count, const int64_t *at) {
  int64_t flat = 0;
  for (uint32_t i = count; i-- > 0;) flat = flat * s[i].size + at[i];
  return flat;
}

// The oracle: where an index lies; replica digits take the value `replica` in mixed radix.
static void place(const raw *r, const int64_t *index, int64_t replica, int64_t *at) {
  for (uint32_t i = 0; i < r->dim_count; i++) at[i] = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    const ir_layout_digit *g = &r->digits[i];
    int64_t v = 0;
    if (g->count == 0) v = replica % g->radix, replica /= g->radix;
    for (uint32_t t = 0; t < g->count; t++) v ^= index[g->terms[t].axis] / g->terms[t].divisor % g->radix;
    at[g->dim] += v * g->stride;
  }
}

static int64_t raw_replicas(const raw *r) {
  int64_t n = 1;
  for (uint32_t i = 0; i < r->count; i++)
    if (r->digits[i].count == 0) n *= r->digits[i].radix;
  return n;
}

// position -> index, -1 for holes; NULL when two indices share a position.
static int64_t *table_of(const raw *r) {
  int64_t *table = ts_new_array(&arena, int64_t, (size_t)r->positions);
  for (int64_t p = 0; p < r->positions; p++) table[p] = -1;
  for (int64_t x = 0; x < r->indices; x++) {
    int64_t index[4], at[4];
    unflatten(r->axes, r->axis_count, x, index);
    for (int64_t c = 0; c < raw_replicas(r); c++) {
      place(r, index, c, at);
      int64_t p = flatten(r->dims, r->dim_count, at);
      if (table[p] >= 0) return NULL;
      table[p] = x;
    }
  }
  return table;
}

static ts_status make(const raw *r, const ir_layout **out) {
  return ir_layout_make(&arena, r->dims, r->dim_count, r->axes, r->axis_count, r->digits, r->count, NULL, nowhere, out);
}

static int64_t applied(const ir_layout *l, int64_t position) {
  int64_t at[16], index[16];
  unflatten(l->dims, l->dim_count, position, at);
  for (int i = 0; i < 16; i++) index[i] = -0x5555;
  return ir_layout_apply(l, at, index) ? flatten(l->axes, l->axis_count, index) : -1;
}

static void check_against_table(const raw *r, const ir_layout *l, const int64_t *table) {
  for (int64_t p = 0; p < r->positions; p++) ck_assert_msg(applied(l, p) == table[p], "%s at %lld", text_of(l), (long long)p);
  ck_assert_int_eq(ir_layout_replicas(l), raw_replicas(r));
  for (int64_t x = 0; x < r->indices; x++) {
    int64_t index[4], want[4], at[16];
    unflatten(r->axes, r->axis_count, x, index);
    place(r, index, 0, want);
    ck_assert(ir_layout_find(l, index, at));
    for (uint32_t i = 0; i < r->dim_count; i++) ck_assert_int_eq(at[i], want[i]);
    for (int64_t c = 0; c < raw_replicas(r); c++) {
      ck_assert(ir_layout_find_replica(l, index, c, at));
      ck_assert_int_eq(table[flatten(r->dims, r->dim_count, at)], x);
    }
  }
}

// The same layout from digits cut up and in another order.
static void check_canonical(const raw *r, const ir_layout *l) {
  raw s = *r;
  for (uint32_t i = 0; i < s.count && s.count < MAX_RAW; i++) {
    ir_layout_digit *g = &s.digits[i];
    int64_t cut = g->radix % 2 == 0 && g->radix > 2 ? 2 : 0;
    if (g->radix == 6 && rng() % 2) cut = 3;
    if (!cut || rng() % 2) continue;
    s.digits[s.count] = *g;
    s.digits[s.count].stride *= cut, s.digits[s.count].radix /= cut;
    memcpy(s.terms[s.count], s.terms[i], sizeof s.terms[i]);
    for (uint32_t t = 0; t < g->count; t++) s.terms[s.count][t].divisor *= cut;
    g->radix = cut;
    s.count++;
  }
  point_terms(&s);
  for (uint32_t i = s.count; i > 1; i--) {
    uint32_t j = (uint32_t)(rng() % i);
    ir_layout_digit g = s.digits[i - 1];
    s.digits[i - 1] = s.digits[j], s.digits[j] = g;
  }
  const ir_layout *again;
  ck_assert_int_eq(make(&s, &again), TS_OK);
  ck_assert_msg(ir_layout_equal(l, again), "%s and %s", text_of(l), text_of(again));
  ck_assert_str_eq(text_of(l), text_of(again));
}

static void check_text(const ir_layout *l) {
  const ir_layout *again;
  const char *text = text_of(l);
  ck_assert_msg(ir_layout_parse(&arena, ts_str_of(text), NULL, 0, NULL, nowhere, &again) == TS_OK, "%s", text);
  ck_assert_msg(ir_layout_equal(l, again), "%s reads back as %s", text, text_of(again));
  ck_assert_str_eq(text, text_of(again));
}

static void check_inverse(const raw *r, const ir_layout *l) {
  const ir_layout *inverse, *back;
  ck_assert_int_eq(ir_layout_invert(&arena, l, NULL, nowhere, &inverse), TS_OK);
  for (int64_t x = 0; x < r->indices; x++) {
    int64_t index[4], want[4];
    unflatten(r->axes, r->axis_count, x, index);
    place(r, index, 0, want);
    ck_assert_int_eq(applied(inverse, x), flatten(r->dims, r->dim_count, want));
  }
  check_text(inverse);
  ck_assert_int_eq(ir_layout_invert(&arena, inverse, NULL, nowhere, &back), TS_OK);
  if (raw_replicas(r) == 1)
    ck_assert_msg(ir_layout_equal(l, back), "%s back as %s by %s", text_of(l), text_of(back), text_of(inverse));
}

static void check_slice(const raw *r, const ir_layout *l, const int64_t *table) {
  uint32_t gone = (uint32_t)(rng() % r->axis_count);
  const ir_layout *s;
  if (ir_layout_slice(&arena, l, r->axes[gone].name, NULL, nowhere, &s) != TS_OK) {
    bool xors = false;
    for (uint32_t i = 0; i < r->count; i++) xors |= r->digits[i].count > 1;
    ck_assert(xors);
    return;
  }
  ck_assert_uint_eq(s->axis_count, r->axis_count - 1);
  for (int64_t p = 0; p < r->positions; p++) {
    if (table[p] < 0) continue;
    int64_t index[4];
    unflatten(r->axes, r->axis_count, table[p], index);
    for (uint32_t i = gone; i + 1 < r->axis_count; i++) index[i] = index[i + 1];
    ck_assert_int_eq(applied(s, p), flatten(s->axes, s->axis_count, index));
  }
}

static unsigned refused, accepted;

START_TEST(enumeration) {
  refused = accepted = 0;
  for (int trial = 0; trial < 10000 / SHARE; trial++) {
    fresh();
    raw r;
    random_raw(&r, dim_names, (uint32_t)pick(1, 3), axis_names, (uint32_t)pick(1, 3), trial % 50 == 0 ? 2048 : 64,
               rng() % 3 == 0);
    if (r.positions > 1 << 16) continue;
    const ir_layout *l;
    ts_status status = make(&r, &l);
    raw whole = r;   // raggedness may hide that two indices meet
    whole.indices = 1;
    for (uint32_t i = 0; i < r.count; i++)
      for (uint32_t t = 0; t < r.digits[i].count; t++)
        if (r.terms[i][t].divisor * r.digits[i].radix > whole.axes[r.terms[i][t].axis].size)
          whole.axes[r.terms[i][t].axis].size = r.terms[i][t].divisor * r.digits[i].radix;
    for (uint32_t i = 0; i < r.axis_count; i++) whole.indices *= whole.axes[i].size;
    point_terms(&r);
    point_terms(&whole);
    bool ok = table_of(&whole) != NULL;
    ck_assert_msg((status == TS_OK) == ok, "trial %d: status %d, oracle %d", trial, status, ok);
    if (status != TS_OK) {
      refused++;
      continue;
    }
    accepted++;
    int64_t *table = table_of(&r);
    check_against_table(&r, l, table);
    ck_assert_int_eq(ir_layout_verify(l, NULL, nowhere), TS_OK);
    check_canonical(&r, l);
    check_text(l);
    check_inverse(&r, l);
    check_slice(&r, l, table);
  }
  ck_assert_uint_gt(accepted, 7000 / SHARE);
  ck_assert_uint_gt(refused, 50 / SHARE);
}
END_TEST

START_TEST(composition) {
  unsigned done = 0;
  for (int trial = 0; trial < 3000 / SHARE; trial++) {
    fresh();
    raw r, s;
    const ir_layout *a, *b, *c;
    uint32_t middle = (uint32_t)pick(1, 2);
    random_raw(&r, dim_names, (uint32_t)pick(1, 3), axis_names, middle, 128, rng() % 2);
    random_raw(&s, axis_names, middle, (const char *const[]){"x", "y", "z"}, (uint32_t)pick(1, 3), 128, rng() % 2);
    if (r.positions > 1 << 14 || make(&r, &a) != TS_OK || make(&s, &b) != TS_OK) continue;
    if (ir_layout_compose(&arena, a, b, NULL, nowhere, &c) != TS_OK) continue;
    done++;
    for (int64_t p = 0; p < r.positions; p++) {
      int64_t at[4], index[16], want = -1;
      unflatten(a->dims, a->dim_count, p, at);
      if (ir_layout_apply(a, at, index)) {
        bool inside = true;
        for (uint32_t i = 0; i < middle; i++) inside &= index[i] < b->dims[i].size;
        if (inside) want = applied(b, flatten(b->dims, b->dim_count, index));
      }
      ck_assert_msg(applied(c, p) == want, "%s then %s is not %s at %lld", text_of(a), text_of(b), text_of(c), (long long)p);
    }
  }
  ck_assert_uint_gt(done, 200 / SHARE);
}
END_TEST

START_TEST(products) {
  unsigned done = 0;
  for (int trial = 0; trial < 3000 / SHARE; trial++) {
    fresh();
    raw r, s;
    const ir_layout *a, *b, *p, *q;
    random_raw(&r, dim_names, 2, axis_names, 2, 32, rng() % 2);
    random_raw(&s, dim_names, (uint32_t)pick(1, 3), axis_names, (uint32_t)pick(1, 3), 32, rng() % 2);
    if (make(&r, &a) != TS_OK || make(&s, &b) != TS_OK) continue;
    if (ir_layout_product(&arena, a, b, NULL, nowhere, &p) != TS_OK) {
      bool ragged = false;   // only an axis cut inside a digit makes the two overlap
      for (uint32_t i = 0; i < r.count; i++)
        for (uint32_t t = 0; t < r.digits[i].count; t++)
          ragged |= r.axes[r.terms[i][t].axis].size % (r.terms[i][t].divisor * r.digits[i].radix) != 0;
      ck_assert_msg(ragged, "%s times %s", text_of(a), text_of(b));
      continue;
    }
    done++;
    int64_t n = ir_layout_positions(p);
    for (int64_t i = 0; i < n && n < 1 << 14; i++) {
      int64_t at[16], low[16], high[16], x[16], y[16], index[16], want = 0;
      unflatten(p->dims, p->dim_count, i, at);
      for (uint32_t j = 0; j < p->dim_count; j++) {
        int64_t size = ir_layout_dim_size(a, p->dims[j].name);
        int ja = ir_layout_dim(a, p->dims[j].name), jb = ir_layout_dim(b, p->dims[j].name);
        if (ja >= 0) low[ja] = at[j] % size;
        if (jb >= 0) high[jb] = at[j] / size;
      }
      if (!ir_layout_apply(a, low, x) || !ir_layout_apply(b, high, y)) want = -1;
      for (uint32_t j = 0; j < p->axis_count && want >= 0; j++) {
        int ja = ir_layout_axis(a, p->axes[j].name), jb = ir_layout_axis(b, p->axes[j].name);
        index[j] = (ja >= 0 ? x[ja] : 0) + (jb >= 0 ? y[jb] * ir_layout_axis_size(a, p->axes[j].name) : 0);
      }
      if (want == 0) want = flatten(p->axes, p->axis_count, index);
      ck_assert_int_eq(applied(p, i), want);
    }
    ck_assert_msg(ir_layout_divide(&arena, p, a, NULL, nowhere, &q) == TS_OK, "%s by %s", text_of(p), text_of(a));
    const ir_layout *again;
    ck_assert_int_eq(ir_layout_product(&arena, a, q, NULL, nowhere, &again), TS_OK);
    ck_assert_msg(ir_layout_equal(p, again), "%s / %s = %s", text_of(p), text_of(a), text_of(q));
  }
  ck_assert_uint_gt(done, 1500 / SHARE);
}
END_TEST

// ---- published layouts --------------------------------------------------------------------------------------------------

static unsigned code_of(int64_t n, int64_t k) { return (unsigned)(5 * n + 3 * k + n * k / 8) & 15; }

START_TEST(published) {
  static const struct {
    const char *name, *digits;
    uint64_t hash;
    const char *first;   // hexadecimal
  } rows[] = {
      {"AutoAWQ GEMV", "n, k", 0xb52aaccd03e67f25u, NULL},
      {"AutoAWQ GEMM", "k, n/8, n%2, (n/2)%4", 0xe9a82a539263a565u, "a0e4f539286c7db1a0e4f539286c7db1"},
      {"TinyChat v2", "n/4, k/64, n%4, (k/32)%2, (k/2)%4, k%2, (k/8)%4", 0x9d482fdf96cfd625u, "8080b3b3e6e619194c4c7f7fa2a2d5d5"},
      {"QServe", "n/32, k/32, n%8, (k/4)%4, (k/16)%2, (n/8)%2, k%4, (n/16)%2", 0xac476b227208c7e5u, "0053a6f988ec40a40053a6f988ec40a4"},
      {"Nunchaku", "n/128, k/64, (n/16)%8, n%8, (k/8)%4, (n/8)%2, (k/32)%2, k%8", 0xf3126dc096456625u, "3096fc523096fc52c840c840c840c840"},
      {"Marlin", "k/16, n/64, n%8, (k/2)%4, (n/16)%4, k%2, (n/8)%2, (k/8)%2", 0xea4360aba3221225u, "8088b3cc8088d5ee"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const ir_layout *l = parse(rows[i].digits);
    ck_assert_int_eq(ir_layout_verify(l, NULL, nowhere), TS_OK);
    ck_assert_int_eq(ir_layout_positions(l), 16384);
    uint8_t bytes[8192];
    memset(bytes, 0, sizeof bytes);
    for (int64_t p = 0; p < 16384; p++) {
      int64_t index[16];
      ck_assert(ir_layout_apply(l, &p, index));
      bytes[p / 2] |= (uint8_t)(code_of(index[ir_layout_axis(l, "n")], index[ir_layout_axis(l, "k")]) << p % 2 * 4);
    }
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t b = 0; b < sizeof bytes; b++) h = (h ^ bytes[b]) * 0x100000001b3u;
    ck_assert_msg(h == rows[i].hash, "%s: %llx", rows[i].name, (unsigned long long)h);
    for (size_t b = 0; rows[i].first && rows[i].first[2 * b]; b++) {
      char hex[3];
      snprintf(hex, sizeof hex, "%02x", bytes[b]);
      ck_assert_msg(memcmp(hex, &rows[i].first[2 * b], 2) == 0, "%s: byte %zu", rows[i].name, b);
    }
    check_text(l);
    for (size_t j = 0; j < i; j++) {   // repacking from any to any, and back, is the identity
      const ir_layout *other = parse(rows[j].digits), *from, *to, *there, *back, *loop;
      ck_assert_int_eq(ir_layout_invert(&arena, other, NULL, nowhere, &from), TS_OK);
      ck_assert_int_eq(ir_layout_invert(&arena, l, NULL, nowhere, &to), TS_OK);
      ck_assert_int_eq(ir_layout_compose(&arena, l, from, NULL, nowhere, &there), TS_OK);
      ck_assert_int_eq(ir_layout_compose(&arena, other, to, NULL, nowhere, &back), TS_OK);
      ck_assert_int_eq(ir_layout_compose(&arena, there, back, NULL, nowhere, &loop), TS_OK);
      ck_assert_msg(ir_layout_equal(loop, parse("[pos:16384] pos")), "%s", text_of(loop));
    }
  }
  static const struct {
    const char *digits;
    int64_t n;
    int first[12];
  } scales[] = {{"g, n/32, n%8, (n/8)%4", 128, {0, 8, 16, 24, 1, 9}},
                {"n/128, k/64, (n/16)%8, (n/2)%4, (n/8)%2, n%2", 128, {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13}},
                {"n/128, k/64, n%8, (n/8)%4, (n/32)%4, (k/16)%4", 128, {0, 32, 64, 96, 8, 40, 72, 104}},
                {"n/64, n%8, (n/8)%8", 256, {0, 8, 16, 24, 32, 40, 48, 56, 1}},
                {"n/32, (n/2)%4, (n/8)%4, n%2", 256, {0, 1, 8, 9, 16, 17, 24, 25, 2, 3}}};
  for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
    const ir_layout *l = parse_sized(scales[i].digits, scales[i].n, 64);
    int step = strstr(scales[i].digits, "(k/16)") ? 4 : 1;
    for (int p = 0; p < 12 && (p == 0 || scales[i].first[p]); p++) {
      int64_t index[16], at = p * step;
      ck_assert(ir_layout_apply(l, &at, index));
      ck_assert_int_eq(index[ir_layout_axis(l, "n")], scales[i].first[p]);
    }
  }
}
END_TEST

// ---- instructions -------------------------------------------------------------------------------------------------------

START_TEST(fragments) {
  for (const ir_fragment_row *r = ir_fragments; r->name; r++) {
    const ir_layout *l = ir_layout_fragment(&arena, r->name);
    ck_assert_msg(l != NULL, "%s", r->name);
    ck_assert_int_eq(ir_layout_verify(l, NULL, nowhere), TS_OK);
    check_text(l);
    ck_assert_int_eq(ir_layout_dim_size(l, "lane"),
                     strstr(r->name, "address") && !strstr(r->name, "x4") ? ir_layout_dim_size(l, "lane") : 32);
  }
  // The tables of the instruction set, by register pair or quad i, element j of the register, lane 4g + t.
  static const struct {
    const char *name;
    int per_reg, half;   // elements per 32-bit register; k distance of the second half
  } mma[] = {{"m16n8k16", 2, 8}, {"m16n8k32", 4, 16}, {"m16n8k64", 8, 32}};
  for (size_t v = 0; v < 3; v++) {
    char name[32];
    for (int operand = 0; operand < 2; operand++) {
      snprintf(name, sizeof name, "%s.%c", mma[v].name, "ab"[operand]);
      const ir_layout *l = ir_layout_fragment(&arena, name);
      for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < (operand ? 2 : 4); i++)
          for (int j = 0; j < mma[v].per_reg; j++) {
            int g = lane / 4, t = lane % 4;
            int64_t at[2] = {i * mma[v].per_reg + j, lane}, index[2];
            ck_assert(ir_layout_apply(l, at, index));
            int k = mma[v].per_reg * t + j + ((operand ? i : i / 2) ? mma[v].half : 0), row = operand ? g : g + (i % 2 ? 8 : 0);
            ck_assert_int_eq(index[ir_layout_axis(l, "k")], k);
            ck_assert_int_eq(index[ir_layout_axis(l, operand ? "n" : "m")], row);
          }
    }
  }
  const ir_layout *c = ir_layout_fragment(&arena, "m16n8k16.c"), *q;
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++) {
      int64_t at[2] = {i, lane}, index[2];
      ck_assert(ir_layout_apply(c, at, index));
      ck_assert_int_eq(index[0], lane / 4 + i / 2 * 8);
      ck_assert_int_eq(index[1], lane % 4 * 2 + i % 2);
    }
  // An 8x8 matrix through ldmatrix is half of a B fragment, and a tile of 64 x 32 by 2 x 2 warps is a repetition of A.
  const ir_layout *tile =
      parse("[m:64, k:32] {reg: (m/16)%2, (k/16)%2, (k/8)%2, (m/8)%2, k%2; lane: m%8, (k/2)%4; warp: m/32, rep(2)}");
  const ir_layout *a = ir_layout_fragment(&arena, "m16n8k16.a");
  ck_assert_int_eq(ir_layout_divide(&arena, tile, a, NULL, nowhere, &q), TS_OK);
  ck_assert_str_eq(text_of(q), "[m:4, k:2] {reg: m%2, k; lane:; warp: m/2, rep(2)}");
  ts_diags d;
  ts_diags_init(&d);
  tile = parse("[m:64, k:32] {reg: (m/16)%2, (k/16)%2, (m/8)%2, (k/8)%2, k%2; lane: m%8, (k/2)%4; warp: m/32}");
  ck_assert_int_eq(ir_layout_divide(&arena, tile, a, &d, nowhere, &q), TS_UNSUPPORTED);
  ck_assert(ts_diags_has(&d, &diag_layout_divide));
  ts_diags_deinit(&d);
}
END_TEST

static const ir_layout *weight(const ir_layout *fragment, const ir_layout_step *loads, uint32_t load_count, const char *unpack,
                               const ir_layout_step *tiles, uint32_t tile_count) {
  const ir_layout *w;
  ck_assert_int_eq(
      ir_layout_weight(&arena, fragment, loads, load_count, unpack ? parse(unpack) : NULL, tiles, tile_count, NULL, nowhere, &w),
      TS_OK);
  return w;
}

START_TEST(derived_weights) {
  // QServe: one 16-byte load of 32 codes feeds four n-blocks; `& 0x0F0F0F0F` and `>> 4` tell n-blocks 16 apart.
  const ir_layout *w = weight(ir_layout_fragment(&arena, "m16n8k32.b"), (ir_layout_step[]){{"n", 2}, {"n", 2}}, 2,
                              "[reg:32] (reg/4)%2, (reg/8)%2, reg%4, (reg/16)%2", (ir_layout_step[]){{"n", 4}, {"k", 4}}, 2);
  ck_assert(ir_layout_equal(w, parse("n/32, k/32, n%8, (k/4)%4, (k/16)%2, (n/8)%2, k%4, (n/16)%2")));
  // Nunchaku: two n-blocks of m16n8k64 per load, a block of eight such tiles.
  w = weight(ir_layout_fragment(&arena, "m16n8k64.b"), (ir_layout_step[]){{"n", 2}}, 1, NULL,
             (ir_layout_step[]){{"k", 2}, {"n", 8}}, 2);
  ck_assert(ir_layout_equal(w, parse("n/128, k/64, (n/16)%8, n%8, (k/8)%4, (n/8)%2, (k/32)%2, k%8")));
  // Marlin: four n16 blocks of m16n8k16, unpacked by lop3: within 32 bits the places of the halves are 16 bits apart.
  w = weight(ir_layout_fragment(&arena, "m16n8k16.b"), (ir_layout_step[]){{"n", 2}, {"n", 4}}, 2,
             "[reg:32] (reg/8)%4, reg%2, (reg/4)%2, (reg/2)%2", (ir_layout_step[]){{"k", 8}, {"n", 2}}, 2);
  ck_assert(ir_layout_equal(w, parse("k/16, n/64, n%8, (k/2)%4, (n/16)%4, k%2, (n/8)%2, (k/8)%2")));
}
END_TEST

START_TEST(made_up_instruction) {
  // Lanes permuted and an xor: another layout, and each lane still finds exactly its operand in its own load.
  const ir_layout *odd = parse("[k:16, n:8] {reg: k%2, (k/8)%2; lane: (k/2)%4^(n/2)%4, n%8}");
  const ir_layout *w = weight(odd, (ir_layout_step[]){{"k", 4}, {"n", 2}}, 2, NULL, (ir_layout_step[]){{"n", 8}, {"k", 2}}, 2);
  ck_assert(!ir_layout_equal(w, parse("n/16, k/64, n%8, (k/2)%4, (n/8)%2, (k/16)%4, (k/8)%2, k%2")));
  for (int64_t p = 0; p < 16384; p++) {
    int64_t got[16], frag[2], at[2] = {p % 32 % 4, p / 32 % 32};
    ck_assert(ir_layout_apply(w, &p, got));
    ck_assert(ir_layout_apply(odd, at, frag));
    int64_t reg = p % 32, block = p / 1024;
    ck_assert_int_eq(got[ir_layout_axis(w, "k")], frag[0] + reg / 4 % 4 * 16 + block % 2 * 64);
    ck_assert_int_eq(got[ir_layout_axis(w, "n")], frag[1] + reg / 16 * 8 + block / 2 * 16);
  }
}
END_TEST

// ---- costs --------------------------------------------------------------------------------------------------------------

static int64_t conflicts(const char *regs, const char *memory, unsigned bits, int width) {
  ir_access_cost c;
  ck_assert_msg(ir_layout_bank_conflicts(parse(regs), parse(memory), bits, width, &c), "%s in %s", regs, memory);
  return c.conflicts;
}

START_TEST(costs) {
  // ldmatrix and 16-byte stores: 8 rows of 16 bytes each (8 f16) from a tile of 64 columns.
  const char *rows = "[m:32, k:8] {reg: k; lane: m}";
  ck_assert_int_eq(conflicts(rows, "[m:32, k:8] m, pitch(64), k", 16, 16), 4 * 7);
  ck_assert_int_eq(conflicts(rows, "[m:32, k:8] m, pitch(72), k", 16, 16), 0);
  const char *swizzled = "[m:32, k:64] m, (k/8)%8^m%8, k%8";
  ck_assert_int_eq(conflicts("[m:32, k:64] {reg: k; lane: m}", swizzled, 16, 16), 0);
  ck_assert_int_eq(conflicts("[m:32, k:64] {reg: k; lane: m}", "[m:32, k:64] m, k", 16, 16), 8 * 4 * 7);
  ck_assert_int_eq(conflicts("[m:32] {lane: m}", "[m:32] m, pitch(32)", 32, 4), 31);
  ck_assert_int_eq(conflicts("[m:32] {lane: m}", "[m:32] m, pitch(33)", 32, 4), 0);
  ck_assert_int_eq(conflicts("[m:32] {lane: m}", "[m:32] m", 8, 1), 0);   // four lanes per word
  ck_assert_int_eq(
      ir_layout_vector_width(parse("[m:8, k:64] {reg: k%8; lane: (k/8)%8, m%4; warp: m/4}"), parse("[m:8, k:64] m, k"), 16), 16);
  ck_assert_int_eq(ir_layout_vector_width(parse("[m:8, k:64] {reg: k%8; lane: (k/8)%8, m%4; warp: m/4}"),
                                          parse("[m:8, k:64] m, pitch(68), k"), 16),
                   8);
  ck_assert_int_eq(ir_layout_vector_width(ir_layout_fragment(&arena, "m16n8k16.a"), parse("[m:16, k:16] m, k"), 16), 4);
  ck_assert_int_eq(ir_layout_vector_width(ir_layout_fragment(&arena, "m16n8k16.a"), parse("[m:16, k:16] k, m"), 16), 2);
  ck_assert_int_eq(ir_layout_vector_width(parse("[n:32] {reg: n}"), parse("[n:32] n"), 4), 16);
  ck_assert_int_eq(ir_layout_vector_width(parse("[n:32] {lane: n}"), parse("[n:32] n"), 4), 0);
  ir_access_cost c;
  ck_assert(
      ir_layout_sectors(parse("[m:8, k:64] {reg: k%8; lane: m%4, (k/8)%8; warp: m/4}"), parse("[m:8, k:64] m, k"), 16, 16, &c));
  ck_assert_int_eq(c.requests, 2);
  ck_assert_int_eq(c.sectors, 32);   // 1024 bytes, all used
  ck_assert_int_eq(c.bytes, 1024);
  ck_assert(ir_layout_sectors(parse("[m:32] {lane: m}"), parse("[m:32] m, pitch(64)"), 16, 2, &c));
  ck_assert_int_eq(c.sectors, 32);   // one row each: a sector of 32 bytes for 2

  const ir_layout *a = ir_layout_fragment(&arena, "m16n8k16.a"),
                  *copy = parse("[m:16, k:16] {reg: (m/8)%2, (k/8)%2, k%2; lane: m%8, (k/2)%4}");
  ck_assert_int_eq(ir_layout_convert_class(a, a), IR_CONVERT_NONE);
  ck_assert_int_eq(ir_layout_convert_class(a, copy), IR_CONVERT_REGISTERS);
  ck_assert_int_eq(ir_layout_convert_class(a, parse("[m:16, k:16] {reg: k%8; lane: k/8, m}")), IR_CONVERT_SHUFFLE);
  const ir_layout *two = parse("[m:32] {lane: m%16; warp: m/16}"), *swapped = parse("[m:32] {lane: m/2; warp: m%2}");
  ck_assert_int_eq(ir_layout_convert_class(two, swapped), IR_CONVERT_PANEL);
  // C of one product is A of the next without leaving the lane (flash attention).
  const ir_layout *c2 = parse("[m:16, k:16] {reg: k/8, (m/8)%2, k%2; lane: m%8, (k/2)%4}");
  ck_assert_int_eq(ir_layout_convert_class(c2, a), IR_CONVERT_NONE);
  // Every warp holds a replica: its own copy serves.
  ck_assert_int_eq(ir_layout_convert_class(parse("[m:32] {lane: m; warp: rep(2)}"), parse("[m:32] {lane: m%16; warp: m/16}")),
                   IR_CONVERT_SHUFFLE);
  ck_assert_int_eq(ir_layout_convert_class(parse("[m:32] {reg: m%2; lane: m/2; warp: rep(2)}"),
                                           parse("[m:32] {reg: m%2; lane: m/2; warp: rep(2)}")),
                   IR_CONVERT_NONE);
}
END_TEST

// ---- text and refusals --------------------------------------------------------------------------------------------------

START_TEST(text_forms) {
  static const char *const pairs[][2] = {
      {"n, k", "[n:128, k:128] n, k"},
      {"n/8, n%8, k", "[n:128, k:128] n, k"},
      {"n%8, (n/8)%16, k%128", "[n:128, k:128] n%8, n/8, k"},
      {"[h:3, d:80] h, d/16, d%16", "[h:3, d:80] h, d"},
      {"[h:3, d:80] h, d%16, d/16", "[h:3, d:80] h, d%16, d/16"},
      {"[m:4, k:32] m, pitch(40), k", "[m:4, k:32] m, pitch(40), k"},
      {"[m:4, k:32] m, pitch(40), k/16, k%16", "[m:4, k:32] m, pitch(40), k"},
      {"[m:8, k:64] m, k/8^m, k%8", "[m:8, k:64] m, m^k/8, k%8"},
      {"[m:2] {reg:; lane: rep(4), rep(2), m; warp: rep(2)}", "[m:2] {reg:; lane: rep(8), m; warp: rep(2)}"},
      {"[m:120] {pos: m/32, m%32}", "[m:120] m%128"},
      {"[d:6] d%2, d/2", "[d:6] d%2, d/2"},
      {"[d:6] (d/3)%2, d%3", "[d:6] d"},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    ck_assert_str_eq(text_of(parse(pairs[i][0])), pairs[i][1]);
    check_text(parse(pairs[i][0]));
  }
  static const struct {
    const char *text;
    const ts_diag_kind *kind;
  } bad[] = {
      {"", &diag_layout_syntax},
      {"n,", &diag_layout_syntax},
      {"n k", &diag_layout_syntax},
      {"(n/8, k", &diag_layout_syntax},
      {"n/0", &diag_layout_syntax},
      {"n%99999999999999999999", &diag_layout_syntax},
      {"q/8", &diag_layout_unsized},
      {"n, n%8", &diag_layout_twice},
      {"n%8, n%8", &diag_layout_twice},
      {"n%4, (n/3)%2", &diag_layout_twice},
      {"n%3, n%3", &diag_layout_twice},
      {"n^k, n^k", &diag_layout_singular},
      {"n%8^n%8, k", &diag_layout_xor},
      {"n%6^k%6", &diag_layout_xor},
      {"n%8^k%4", &diag_layout_xor},
      {"pitch(4), n%8", &diag_layout_overlap},
      {"[n:4, n:5] n", &diag_layout_syntax},
      {"{reg: n; reg: k}", &diag_layout_syntax},
      {"n%1152921504606846976, k%1152921504606846976", &diag_layout_large},
      {"{reg: n", &diag_layout_syntax},
      {"n^rep(4)", &diag_layout_unsized},
  };
  ts_diags d;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const ir_layout_space axes[] = {{"n", 128}, {"k", 128}};
    const ir_layout *l;
    ts_diags_init(&d);
    ck_assert_msg(ir_layout_parse(&arena, ts_str_of(bad[i].text), axes, 2, &d, (ts_loc){NULL, 1, 1, 0}, &l) != TS_OK, "%s",
                  bad[i].text);
    ck_assert_msg(ts_diags_has(&d, bad[i].kind), "%s: %s", bad[i].text, d.list.data[0].text);
    ts_diags_deinit(&d);
  }
  ts_diags_init(&d);
  ck_assert_int_eq(ir_layout_verify(parse("n%64, k"), &d, nowhere), TS_INVALID);
  ck_assert_int_eq(ir_layout_verify(parse("n/2, k"), &d, nowhere), TS_INVALID);
  ck_assert(ts_diags_has(&d, &diag_layout_gap));
  const ir_layout *l = parse("[n:4, k:4] n, k"), *out;
  ck_assert_int_eq(ir_layout_slice(&arena, l, "q", &d, nowhere, &out), TS_NOT_FOUND);
  ck_assert_int_eq(ir_layout_slice(&arena, parse("[n:4, k:4] n, n^k"), "n", &d, nowhere, &out), TS_UNSUPPORTED);
  ck_assert_int_eq(ir_layout_rename_axis(&arena, l, "n", "m", &d, nowhere, &out), TS_OK);
  ck_assert_str_eq(text_of(out), "[m:4, k:4] m, k");
  ck_assert_int_eq(ir_layout_rename_axis(&arena, l, "n", "k", &d, nowhere, &out), TS_INVALID);
  ck_assert_int_eq(ir_layout_rename_dim(&arena, l, "pos", "byte", &d, nowhere, &out), TS_OK);
  ck_assert_str_eq(text_of(out), "[n:4, k:4] {byte: n, k}");
  ts_diags_deinit(&d);
}
END_TEST

START_TEST(mutations) {
  static const char *const seeds[] = {"[n:128, k:128] n/32, k/32, n%8, (k/4)%4, (k/16)%2, (n/8)%2, k%4, (n/16)%2",
                                      "[m:64, k:30] {reg=40: k/2, pitch(3), k%2; lane: m%8^(m/8)%8, (m/8)%8; warp: rep(2)}"};
  static const char alphabet[] = "nkm0123456789/%(),[]{}:;^= reppitch\0\x80";
  for (int trial = 0; trial < 6000 / SHARE; trial++) {
    const char *seed = seeds[trial % 2];
    size_t len = strlen(seed);
    char *text = malloc(len);   // exact, so that the sanitizer sees any read past the end
    memcpy(text, seed, len);
    size_t used = rng() % 4 ? len : rng() % len;
    for (int i = (int)pick(1, 3); i > 0; i--) text[rng() % len] = alphabet[rng() % (sizeof alphabet - 1)];
    char *exact = malloc(used ? used : 1);
    memcpy(exact, text, used);
    fresh();
    const ir_layout *l;
    if (ir_layout_parse(&arena, (ts_str){exact, used}, NULL, 0, NULL, nowhere, &l) == TS_OK) {
      check_text(l);
      const ir_layout *other;
      ir_layout_invert(&arena, l, NULL, nowhere, &other);
      if (ir_layout_positions(l) < 1 << 12) ir_layout_verify(l, NULL, nowhere);
    }
    free(exact);
    free(text);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ir_layout");
  TCase *tc = tcase_create("layout");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, enumeration);
  tcase_add_test(tc, composition);
  tcase_add_test(tc, products);
  tcase_add_test(tc, published);
  tcase_add_test(tc, fragments);
  tcase_add_test(tc, derived_weights);
  tcase_add_test(tc, made_up_instruction);
  tcase_add_test(tc, costs);
  tcase_add_test(tc, text_forms);
  tcase_add_test(tc, mutations);
  suite_add_tcase(suite, tc);
  SRunner *r = srunner_create(suite);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
