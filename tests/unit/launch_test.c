// Launch IR: text round trip, expressions against an evaluator of our own, the verifier's refusals, mutated text.
#include "ir/launch.h"

#include <check.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char full[] =
  "launch @\"odd \\\"name\\\"\" for host {\n"
  "  dim @batch : 1 .. 8\n"
  "  dim @seq : 1 .. 2048 per @batch\n"
  "  dim @n : 8 .. 4096 step 8\n"
  "  dim @mod : 0 .. 3\n"
  "  weight @w0 : 4096 hash 0x00000000000000ff\n"
  "  state @kv rows @batch length 2048 page 16 {\n"
  "    list @full full\n"
  "    pool @k list @full layers 30 bytes 12288 type \"f32[3, 64]\"\n"
  "    pool @stats list @full layers 30 bytes 512 zero type \"f32[2, 64]\"\n"
  "  }\n"
  "  kernel @add(3 pointers, 2 sizes) {\n"
  "    raise \"index out of range\" loc(\"a b.yaml\":3:5)\n"
  "    raise \"second\"\n"
  "  }\n"
  "  kernel @none(0 pointers, 0 sizes)\n"
  "  function @f(%x : f32[batch, seq, n] loc(\"m.yaml\":7:1), %codes : u8[n] as \"q4_1\" bytes [n * 20]) -> (%y : f16[batch, \"mod\"]) loc(\"m.yaml\":5:3) {\n"
  "    buffer %x = input 0\n"
  "    buffer %y = output 0\n"
  "    buffer %w = weight @w0\n"
  "    buffer %t = workspace [(batch * seq) * 4] steps 1 .. 2\n"
  "    buffer %k = pool @kv @k\n"
  "    buffer %pt = table @kv @full\n"
  "    buffer %l = length @kv\n"
  "    buffer %r = ragged @seq\n"
  "    buffer %e = error\n"
  "    require [(n mod 8) == 0] \"n must be a multiple of 8\" loc(\"m.yaml\":9:2)\n"
  "    launch when [(batch < 4) and (longest(seq) <= 64)] @add grid [n ceildiv 64, batch, 1] args(%x, %t + [64], %y) sizes [seq, pages(kv, full)]\n"
  "      else @add grid [(total(seq) floordiv 4) - 1, 1, 1] args(%w, %t, %y) sizes [min(n, length(kv)), max(width(kv, full), -5)] loc(\"m.yaml\":10:2)\n"
  "    copy %y + [n * 2] from %t bytes [4]\n"
  "    fill %y with 0xdeadbeef bytes [(n * 4) or 1]\n"
  "    launch @none grid [1, 1, 1] args() sizes []\n"
  "    advance @kv by @seq\n"
  "  }\n"
  "}\n";

typedef struct world {
  ts_arena a;
  ts_interner names;
  ts_diags d;
} world;

static void begin(world *w) {
  ts_arena_init(&w->a);
  ts_interner_init(&w->names, &w->a);
  ts_diags_init(&w->d);
}
static void end(world *w) {
  ts_diags_deinit(&w->d);
  ts_interner_deinit(&w->names);
  ts_arena_deinit(&w->a);
}
static ts_status parse(world *w, ts_str text, ir_launch **out) {
  return ir_launch_parse(&w->a, &w->names, ts_intern_z(&w->names, "t"), text, &w->d, out);
}

START_TEST(round_trip) {
  world w;
  begin(&w);
  ir_launch *p = NULL, *q = NULL;
  ts_status s = parse(&w, ts_str_of(full), &p);
  ts_text t = {0};
  if (s != TS_OK) ts_diags_print(&w.d, &t, false);
  ck_assert_msg(s == TS_OK, "%s", ts_text_z(&t));
  ir_launch_print(p, &t);
  ck_assert_str_eq(ts_text_z(&t), full);
  ts_text again = {0};
  ck_assert(parse(&w, ts_text_str(&t), &q) == TS_OK);
  ir_launch_print(q, &again);
  ck_assert_str_eq(ts_text_z(&again), full);
  ts_text_deinit(&t);
  ts_text_deinit(&again);
  end(&w);
}
END_TEST

START_TEST(refusals) {
  static const struct { const char *text, *says;
  } bad[] = {
      {"launch @m for host { function @f(%x : f32[n]) -> () {} }", "no dim 'n'"},
      {"launch @m for host { dim @n : 5 .. 3 }", "range"},
      {"launch @m for host { dim @n : 0 .. 3 function @f(%x : f32[n * 2]) -> () { require [n < 3] \"x\" } }", "cannot know it"},
      {"launch @m for host { dim @n : 0 .. 3 kernel @k(1 pointers, 0 sizes) function @f(%x : f32[n]) -> () { launch @k grid [1, 1, 1] args() sizes [] } }",
       "takes 1 pointers"},
      {"launch @m for host { dim @n : 0 .. 3 function @f(%x : f32[n]) -> () { buffer %x = input 1 } }", "not there"},
      {"launch @m for host { dim @n : 0 .. 3 function @f(%x : f32[n]) -> () { buffer %x = input 0 fill %x with 0x0 bytes [4] } }",
       "read only"},
      {"launch @m for host { dim @n : 0 .. 3 function @f() -> (%y : f32[n]) { buffer %t = workspace [4] steps 1 .. 1 fill %t with 0x0 bytes [4] fill %t with 0x0 bytes [4] } }",
       "outside its lifetime"},
      {"launch @m for host { dim @n : 0 .. 3 dim @n : 0 .. 3 }", "two dims"},
      {"launch @m for host { dim @n : 0 .. 3 function @f(%x : f32[(n + 1) + 2 + 3]) -> () {} }", "parentheses"},
      {"launch @m for host { function @f() -> () { require [9223372036854775808] \"\" } }", "at most"},
      {"launch @m for host { } x", "behind"},
      {"launch @m for host { dim @\"n : 0 .. 3 }", "string"},
      {"launch @m for host {", "expected"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    world w;
    begin(&w);
    ir_launch *p = NULL;
    ck_assert_msg(parse(&w, ts_str_of(bad[i].text), &p) != TS_OK, "accepted: %s", bad[i].text);
    ts_text t = {0};
    ts_diags_print(&w.d, &t, false);
    ck_assert_msg(strstr(ts_text_z(&t), bad[i].says) != NULL, "%s\nsays: %s", bad[i].text, ts_text_z(&t));
    ck_assert_ptr_null(p);
    ts_text_deinit(&t);
    end(&w);
  }
}
END_TEST

static uint64_t state;
static uint64_t rnd(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

// An independent evaluator: the expression is drawn together with its value, in 128 bits.
static ir_lexpr draw(ir_lfunction *f, int depth, const int64_t *dims, __int128 *value, bool *ok) {
  if (depth == 0 || rnd() % 4 == 0) {
    if (rnd() % 2) {
      uint32_t d = (uint32_t)(rnd() % 3);
      *value = dims[d];
      return ir_launch_dim(f, d);
    }
    int64_t v = rnd() % 3 ? (int64_t)(rnd() % 9) - 2 : (int64_t)rnd();
    *value = v;
    return ir_launch_const(f, v);
  }
  __int128 a, b;
  ir_lexpr x = draw(f, depth - 1, dims, &a, ok), y = draw(f, depth - 1, dims, &b, ok);
  ir_lop op = (ir_lop)(IR_L_add + rnd() % (IR_L_COUNT - IR_L_add));
  if (!*ok) return ir_launch_op(f, op, x, y);
  bool divides = op == IR_L_floordiv || op == IR_L_ceildiv || op == IR_L_mod;
  if (divides && b <= 0) *ok = false;
  else if (divides) {
    __int128 q = a / b, r = a % b;
    if (r < 0) q--, r += b;
    *value = op == IR_L_floordiv ? q : op == IR_L_mod ? r : q + (r > 0);
  } else {
    *value = op == IR_L_add   ? a + b
             : op == IR_L_sub ? a - b
             : op == IR_L_mul ? a * b
             : op == IR_L_min ? (a < b ? a : b)
             : op == IR_L_max ? (a > b ? a : b)
             : op == IR_L_lt  ? a < b
             : op == IR_L_le  ? a <= b
             : op == IR_L_eq  ? a == b
             : op == IR_L_ne  ? a != b
             : op == IR_L_and ? a && b
                              : a || b;
  }
  if (*value > INT64_MAX || *value < INT64_MIN) *ok = false;
  return ir_launch_op(f, op, x, y);
}

static bool leaf_value(void *user, ir_lop leaf, uint32_t a, uint32_t b, int64_t *out) {
  (void)b;
  *out = ((const int64_t *)user)[a];
  return leaf == IR_L_dim;
}

START_TEST(expressions) {
  world w;
  begin(&w);
  ir_launch *p = NULL;
  ck_assert(parse(&w, TS_STR("launch @m for host { dim @a : 0 .. 9 dim @b : 0 .. 9 dim @c : 0 .. 9\n"
                             "function @f(%x : f32[a, b, c]) -> () {} }"), &p) == TS_OK);
  state = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
  printf("seed %llu\n", (unsigned long long)state);
  ir_lfunction *f = p->functions.data[0];
  int right = 0;
  for (int i = 0; i < 20000; i++) {
    int64_t dims[3] = {(int64_t)(rnd() % 10), (int64_t)(rnd() % 10), (int64_t)(rnd() % 10)}, got;
    __int128 value = 0;
    bool ok = true;
    ir_lexpr e = draw(f, 4, dims, &value, &ok);
    bool evaluated = ir_launch_eval(f, e, leaf_value, dims, &got);
    if (!ok) continue;   // simplification may have removed what fails: x * 0
    ck_assert_msg(evaluated && got == (int64_t)value, "expression %d", i);
    right++;
    ts_text t = {0};   // text and back is the same node
    ts_text_printf(
        &t,
        "launch @m for host { dim @a : 0 .. 9 dim @b : 0 .. 9 dim @c : 0 .. 9 function @f(%%x : f32[a, b, c]) -> () { require [");
    if (i % 50 == 0) {
      ir_launch_print_expr(f, e, &t);
      ts_text_puts(&t, "] \"t\" } }");
      ir_launch *q = NULL;
      ck_assert_msg(parse(&w, ts_text_str(&t), &q) == TS_OK, "%s", ts_text_z(&t));
      ck_assert(ir_launch_eval(q->functions.data[0], q->functions.data[0]->steps.data[0].condition, leaf_value, dims, &got) &&
                got == (int64_t)value);
    }
    ts_text_deinit(&t);
  }
  ck_assert_int_gt(right, 3000);
  end(&w);
}
END_TEST

START_TEST(lifetimes) {
  world w;
  begin(&w);
  ir_launch *p = NULL;
  ck_assert(parse(&w, ts_str_of(full), &p) == TS_OK);
  ir_launch_lifetimes(p->functions.data[0]);
  ck_assert_uint_eq(p->functions.data[0]->buffers.data[3].first, 1);
  ck_assert_uint_eq(p->functions.data[0]->buffers.data[3].last, 2);
  ck_assert(ir_launch_verify(p, &w.d) == TS_OK);
  end(&w);
}
END_TEST

// Truncations, flipped bits, dropped and doubled ranges: a diagnostic or a program that verifies and round-trips.
START_TEST(mutations) {
  state = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
  printf("seed %llu\n", (unsigned long long)state);
  size_t n = sizeof full - 1;
  for (size_t i = 0; i < n + 4000; i++) {
    char text[sizeof full * 2];
    size_t len = n;
    memcpy(text, full, n);
    if (i < n) len = i;
    else if (i % 3 == 0) text[rnd() % n] ^= (char)(1 << rnd() % 8);
    else if (i % 3 == 1) text[rnd() % n] = "{}()[]\"%@ .\n\\0-"[rnd() % 15];
    else {
      size_t at = rnd() % n, count = 1 + rnd() % 40, to = rnd() % n;
      if (count > n - at) count = n - at;
      memmove(text + to + count, text + to, n - to);
      memcpy(text + to, full + at, count);
      len = n + count;
    }
    world w;
    begin(&w);
    ir_launch *p = NULL;
    char *exact = malloc(len ? len : 1);   // no byte behind the end
    memcpy(exact, text, len);
    ts_status s = parse(&w, (ts_str){exact, len}, &p);
    if (s == TS_OK) {
      ts_text t = {0}, again = {0};
      ir_launch_print(p, &t);
      ir_launch *q = NULL;
      ck_assert_msg(parse(&w, ts_text_str(&t), &q) == TS_OK, "%s", ts_text_z(&t));
      ir_launch_print(q, &again);
      ck_assert_str_eq(ts_text_z(&t), ts_text_z(&again));
      ts_text_deinit(&t);
      ts_text_deinit(&again);
    } else {
      ck_assert_uint_gt(w.d.errors, 0);
    }
    free(exact);
    end(&w);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("launch");
  TCase *c = tcase_create("launch");
  tcase_set_timeout(c, 120);
  suite_add_tcase(s, c);
  tcase_add_test(c, round_trip);
  tcase_add_test(c, refusals);
  tcase_add_test(c, expressions);
  tcase_add_test(c, lifetimes);
  tcase_add_test(c, mutations);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
