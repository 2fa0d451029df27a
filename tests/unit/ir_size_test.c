// Symbolic sizes against direct evaluation: random expressions are built twice, as canonical sizes and as plain trees that know
// nothing of the simplifier, and must agree on random bindings; text, substitution and proofs are checked against the same trees.
#include "base/checked.h"
#include "ir/size.h"

#include <check.h>
#include <stdlib.h>

enum { SYMBOLS = 5 };

static uint64_t rng_state;
static uint64_t rng(void) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state * 0x2545F4914F6CDD1Du >> 16;
}
static int64_t pick(int64_t lo, int64_t hi) { return lo + (int64_t)(rng() % (uint64_t)(hi - lo + 1)); }

typedef struct tree {
  char op;   // c s + - * / ^ % m M
  int64_t v;
  struct tree *a, *b;
} tree;

static ts_arena arena;
static ts_interner names;
static ir_sizes sizes;
static const ir_size *sym[SYMBOLS];

static const struct {
  const char *name;
  int64_t lo, hi, step;
} info[SYMBOLS] = {{"m", 0, 1000, 1}, {"n", 16, 1040, 16}, {"k", 1, 64, 1}, {"b", 0, 15, 1}, {"z", -50, 75, 5}};

static void setup(void) {
  const char *seed = getenv("TESSERA_SEED");
  rng_state = seed ? strtoull(seed, NULL, 0) : 0x9E3779B97F4A7C15u;
  printf("seed 0x%llx\n", (unsigned long long)rng_state);
  fflush(stdout);
  ts_arena_init(&arena);
  ts_interner_init(&names, &arena);
  ir_sizes_init(&sizes, &arena, &names);
  for (int i = 0; i < SYMBOLS; i++)
    sym[i] = ir_size_symbol(&sizes, ts_str_of(info[i].name), i == 3 ? IR_SIZE_DEVICE : IR_SIZE_CALL, info[i].lo, info[i].hi,
                            info[i].step);
}

static void teardown(void) {
  ir_sizes_deinit(&sizes);
  ts_interner_deinit(&names);
  ts_arena_deinit(&arena);
}

static tree *random_tree(int depth) {
  static const char ops[] = "++--**///%%%^mM";
  tree *t = ts_new(&arena, tree);
  if (depth == 0 || rng() % 6 == 0) {
    t->op = rng() % 3 ? 's' : 'c';
    static const int64_t constants[] = {0, 1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 64, 100, -1, -16};
    t->v = t->op == 's' ? pick(0, SYMBOLS - 1) : constants[rng() % 15];
    return t;
  }
  t->op = ops[rng() % (sizeof ops - 1)];
  t->a = random_tree(depth - 1);
  t->b = random_tree(depth - 1);
  if (strchr("/%^", t->op)) {
    t->b = ts_new(&arena, tree);
    *t->b = rng() % 3 ? (tree){'c', (int64_t)1 << pick(0, 6), NULL, NULL} : (tree){'s', pick(1, 2), NULL, NULL};
    if (rng() % 5 == 0) {   // a divisor that is a sum
      tree *one = ts_new(&arena, tree), *sum = ts_new(&arena, tree);
      *one = (tree){'s', 0, NULL, NULL};
      *sum = (tree){'+', 0, one, t->b};
      t->b = sum;
    }
  }
  return t;
}

static const ir_size *build(const tree *t) {
  if (t->op == 'c') return ir_size_const(&sizes, t->v);
  if (t->op == 's') return sym[t->v];
  const ir_size *a = build(t->a), *b = build(t->b);
  switch (t->op) {
    case '+': return ir_size_add(&sizes, a, b);
    case '-': return ir_size_sub(&sizes, a, b);
    case '*': return ir_size_mul(&sizes, a, b);
    case '/': return ir_size_floordiv(&sizes, a, b);
    case '^': return ir_size_ceildiv(&sizes, a, b);
    case '%': return ir_size_mod(&sizes, a, b);
    case 'm': return ir_size_min(&sizes, a, b);
    default: return ir_size_max(&sizes, a, b);
  }
}

static bool evaluate(const tree *t, const int64_t *v, int64_t *out) {
  int64_t a, b;
  if (t->op == 'c') return *out = t->v, true;
  if (t->op == 's') return *out = v[t->v], true;
  if (!evaluate(t->a, v, &a) || !evaluate(t->b, v, &b)) return false;
  switch (t->op) {
    case '+': return ts_add_i64(a, b, out);
    case '-': return ts_sub_i64(a, b, out);
    case '*': return ts_mul_i64(a, b, out);
    case '/': return *out = ts_floor_div(a, b), true;
    case '^': return *out = ts_ceil_div(a, b), true;
    case '%': return *out = ts_floor_mod(a, b), true;
    case 'm': return *out = a < b ? a : b, true;
    default: return *out = a > b ? a : b, true;
  }
}

static void random_binding(int64_t *v) {
  for (int i = 0; i < SYMBOLS; i++) {
    int64_t last = (info[i].hi - info[i].lo) / info[i].step;
    v[i] = info[i].lo + info[i].step * (rng() % 4 == 0 ? (rng() % 2 ? last : 0) : pick(0, last));
  }
}

START_TEST(random_expressions) {
  unsigned errors = 0;
  for (int trial = 0; trial < 6000; trial++) {
    tree *t = random_tree((int)pick(1, 5));
    const ir_size *s = build(t);
    if (ir_size_is_error(s)) {
      errors++;
      continue;
    }
    ts_text text = {0};
    ir_size_print(s, &text);
    for (int i = 0; i < 12; i++) {
      int64_t v[SYMBOLS], want, got = -777;
      random_binding(v);
      if (!evaluate(t, v, &want)) continue;   // the tree overflows where the canonical form does not
      ck_assert_int_eq(ir_size_eval(s, v, SYMBOLS, &got), TS_OK);
      ck_assert_msg(got == want, "trial %d: %s is %lld, not %lld", trial, ts_text_z(&text), (long long)got, (long long)want);
      ck_assert_msg(got >= s->lo && got <= s->hi, "trial %d: %s = %lld outside [%lld, %lld]", trial, ts_text_z(&text),
                    (long long)got, (long long)s->lo, (long long)s->hi);
      ck_assert_msg(s->step ? ts_floor_mod(got, s->step) == s->residue : got == s->residue, "residue of %s", ts_text_z(&text));
    }
    const ir_size *again;
    ck_assert_msg(ir_size_parse(&sizes, ts_text_str(&text), NULL, NULL, NULL, (ts_loc){0}, &again) == TS_OK, "%s",
                  ts_text_z(&text));
    ts_text second = {0};
    ir_size_print(again, &second);
    ck_assert_msg(again == s, "trial %d: %s reads back as %s", trial, ts_text_z(&text), ts_text_z(&second));
    ts_text_deinit(&text);
    ts_text_deinit(&second);
  }
  ck_assert_uint_lt(errors, 3000);
}
END_TEST

START_TEST(substitution) {
  for (int trial = 0; trial < 1500; trial++) {
    tree *t = random_tree(4);
    const ir_size *s = build(t), *with[SYMBOLS] = {0};
    int64_t v[SYMBOLS], want, got;
    random_binding(v);
    unsigned which = (unsigned)rng();
    for (int i = 0; i < SYMBOLS; i++)
      if (which >> i & 1) with[i] = ir_size_const(&sizes, v[i]);
    const ir_size *r = ir_size_substitute(&sizes, s, with, SYMBOLS);
    if (ir_size_is_error(s) || ir_size_is_error(r) || !evaluate(t, v, &want)) continue;
    ck_assert_int_eq(ir_size_eval(r, v, SYMBOLS, &got), TS_OK);
    ck_assert_int_eq(got, want);
    if ((which & 31) == 31) ck_assert(ir_size_is_value(r, want));
  }
}
END_TEST

static void same(const char *a, const char *b) {
  const ir_size *x, *y;
  ck_assert_msg(ir_size_parse(&sizes, ts_str_of(a), NULL, NULL, NULL, (ts_loc){0}, &x) == TS_OK, "%s", a);
  ck_assert_msg(ir_size_parse(&sizes, ts_str_of(b), NULL, NULL, NULL, (ts_loc){0}, &y) == TS_OK, "%s", b);
  ts_text tx = {0}, ty = {0};
  ir_size_print(x, &tx);
  ir_size_print(y, &ty);
  ck_assert_msg(x == y, "%s and %s stay %s and %s", a, b, ts_text_z(&tx), ts_text_z(&ty));
  ts_text_deinit(&tx);
  ts_text_deinit(&ty);
}

START_TEST(identities) {
  static const char *const pairs[][2] = {
      {"(m + k)*(m - k)", "m*m - k*k"},
      {"ceildiv(m, 16)", "(m + 15) / 16"},
      {"m - 3 - m + 3", "0"},
      {"n % 16", "0"},                                     // n is 16 .. 1040 step 16
      {"ceildiv(n, 16)*16", "n"},
      {"(n + 7) / 16", "n / 16"},
      {"16*(m/16) + m%16", "m"},
      {"m - 16*(m/16)", "m % 16"},
      {"(m/4)%4 + 4*(m/16)", "m/4"},
      {"(16*m + b) / 16", "m"},
      {"(16*m + b) / 64", "m / 4"},
      {"(16*m + b) % 64", "16*(m % 4) + b"},
      {"(m/4)/8", "m/32"},
      {"(m % 32) % 8", "m % 8"},
      {"(32*m + 3*b) % 32 % 16", "3*b % 16"},
      {"b % 16", "b"},
      {"b / 16", "0"},
      {"k*m / k", "m"},
      {"(k*m + k - 1) / k", "m"},
      {"ceildiv(m*k, k)", "m"},
      {"(6*m + 4) / 4", "m + (m + 2)/2"},
      {"min(m, m + 3)", "m"},
      {"max(b, 15)", "15"},
      {"min(m, min(k, m))", "min(k, m)"},
      {"max(min(m, b), b)", "b"},
      {"min(m, 2000)", "m"},
      {"(m % k) / k", "0"},
      {"m - k*(m/k) - m%k", "0"},
      {"ceildiv(-m, 8)", "-(m/8)"},
      {"m*0", "0"},
      {"(2*m) / (2*k)", "m / k"},
      {"ceildiv(m + k, m + k)", "1"},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) same(pairs[i][0], pairs[i][1]);
  ck_assert(ir_size_proved_le(&sizes, ir_size_min(&sizes, sym[0], sym[2]), sym[2]));
  ck_assert(ir_size_proved_le(&sizes, ir_size_mod(&sizes, sym[0], sym[2]), ir_size_const(&sizes, 63)));
  ck_assert(!ir_size_proved_le(&sizes, sym[0], sym[2]));
  ck_assert(ir_size_proved_multiple(ir_size_mul_const(&sizes, sym[1], 3), 48));
  ck_assert_int_eq(ir_size_add(&sizes, sym[0], sym[3])->klass, IR_SIZE_DEVICE);
}
END_TEST

START_TEST(errors) {
  const ir_size *big = ir_size_symbol(&sizes, TS_STR("big"), IR_SIZE_CALL, 0, INT64_MAX / 2, 1), *s;
  ck_assert_int_eq(ir_size_mul_const(&sizes, big, 3)->value, IR_SIZE_OVERFLOW);
  ck_assert(!ir_size_is_error(ir_size_mul_const(&sizes, big, 2)));
  ck_assert_int_eq(ir_size_mul(&sizes, ir_size_mul(&sizes, big, big), sym[0])->value, IR_SIZE_OVERFLOW);
  ck_assert_int_eq(ir_size_floordiv(&sizes, sym[1], sym[0])->value, IR_SIZE_DIVISOR);
  ck_assert_int_eq(ir_size_symbol(&sizes, TS_STR("x"), IR_SIZE_CALL, 3, 2, 1)->value, IR_SIZE_BAD_SYMBOL);
  ts_diags d;
  ts_diags_init(&d);
  static const struct {
    const char *text;
    const ts_diag_kind *kind;
    uint32_t col;
  } bad[] = {{"", &diag_size_syntax, 5},
             {"m +", &diag_size_syntax, 8},
             {"m + q", &diag_size_unknown_name, 9},
             {"m / m", &diag_size_divisor, 5},
             {"floordiv(m)", &diag_size_syntax, 15},
             {"foo(m, 2)", &diag_size_syntax, 8},
             {"m 3", &diag_size_syntax, 7},
             {"m @ 3", &diag_size_syntax, 7},
             {"99999999999999999999", &diag_size_syntax, 23},
             {"9223372036854775807*m", &diag_size_overflow, 5},
             {"(m", &diag_size_syntax, 7}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    ck_assert_int_eq(ir_size_parse(&sizes, ts_str_of(bad[i].text), NULL, NULL, &d, (ts_loc){NULL, 1, 5, 0}, &s),
                     bad[i].kind->status);
    const ts_diag *last = &d.list.data[d.list.count - 1];
    ck_assert_msg(last->kind == bad[i].kind && last->loc.col == bad[i].col, "%s: %s at %u", bad[i].text, last->text,
                  last->loc.col);
  }
  char deep[1000];
  memset(deep, '(', sizeof deep);
  ck_assert_int_ne(ir_size_parse(&sizes, (ts_str){deep, sizeof deep}, NULL, NULL, &d, (ts_loc){0}, &s), TS_OK);
  memset(deep, '-', sizeof deep);
  ck_assert_int_ne(ir_size_parse(&sizes, (ts_str){deep, sizeof deep}, NULL, NULL, &d, (ts_loc){0}, &s), TS_OK);
  ts_text wide = {0};
  for (int i = 0; i < 30; i++) ts_text_puts(&wide, i ? "*(m/7 + k/3 + b/2 + z/9 + 1)" : "0*m + (b/3+1)");
  ir_size_parse(&sizes, ts_text_str(&wide), NULL, NULL, &d, (ts_loc){0}, &s);
  ts_text_deinit(&wide);
  int64_t v[SYMBOLS] = {5, 17, 1, 0, 0}, out;   // n = 17 breaks its step
  ck_assert_int_eq(ir_size_eval(sym[1], v, SYMBOLS, &out), TS_OUT_OF_RANGE);
  ck_assert_int_eq(ir_size_eval(sym[1], v, 1, &out), TS_NOT_FOUND);
  v[0] = IR_SIZE_UNBOUND;
  ck_assert_int_eq(ir_size_eval(ir_size_add_const(&sizes, sym[0], 1), v, SYMBOLS, &out), TS_NOT_FOUND);
  ts_diags_deinit(&d);
}
END_TEST

START_TEST(mutations) {
  static const char seed[] = "ceildiv(m*n + 15, 16)*min(k, m/4, 7) - mod(z, k) % 12 + (b / 2)*-3";
  static const char alphabet[] = "mnkbz0123456789+-*/%(), .floordivceilmodminmax\0\x80";
  for (int trial = 0; trial < 4000; trial++) {
    char text[sizeof seed];
    memcpy(text, seed, sizeof seed);
    size_t len = rng() % 4 ? sizeof seed - 1 : rng() % sizeof seed;
    for (int i = (int)pick(1, 3); i > 0; i--) text[rng() % (sizeof seed - 1)] = alphabet[rng() % (sizeof alphabet - 1)];
    char *exact = malloc(len ? len : 1);   // so that the sanitizer sees any read past the end
    memcpy(exact, text, len);
    const ir_size *s;
    ir_size_parse(&sizes, (ts_str){exact, len}, NULL, NULL, NULL, (ts_loc){0}, &s);
    free(exact);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ir_size");
  TCase *tc = tcase_create("size");
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, random_expressions);
  tcase_add_test(tc, substitution);
  tcase_add_test(tc, identities);
  tcase_add_test(tc, errors);
  tcase_add_test(tc, mutations);
  suite_add_tcase(suite, tc);
  SRunner *r = srunner_create(suite);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
