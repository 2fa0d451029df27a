// Text form of the IR: round trips, names, functions, and a parser that survives damaged texts.
#include "base/file.h"
#include "ir/doc.h"
#include "ir/text.h"
#include "tests/unit/ir_corpus.h"

#include <check.h>
#include <stdlib.h>

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} fixture;

static void begin(fixture *f) {
  ts_arena_init(&f->arena);
  ts_interner_init(&f->names, &f->arena);
  ts_diags_init(&f->diags);
  f->m = ir_module_create(&f->arena, &f->names, &f->diags);
}

static void end(fixture *f) {
  ir_module_destroy(f->m);
  ts_diags_deinit(&f->diags);
  ts_interner_deinit(&f->names);
  ts_arena_deinit(&f->arena);
}

static ts_status parse(fixture *f, ts_str text) { return ir_parse_module(f->m, ts_intern_z(&f->names, "test.tir"), text); }

static void must_parse(fixture *f, const char *text) {
  if (parse(f, ts_str_of(text)) == TS_OK) return;
  ts_text t = {0};
  ts_diags_add_source(&f->diags, ts_intern_z(&f->names, "test.tir"), ts_str_of(text));
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("the text should parse");
}

// Check's messages are too short for whole texts: shows the first line that differs.
static void must_equal(const char *got, const char *wanted) {
  if (strcmp(got, wanted) == 0) return;
  size_t i = 0, line = 0;
  for (; got[i] && got[i] == wanted[i]; i++)
    if (got[i] == '\n') line = i + 1;
  ck_abort_msg("printed:  %.*s\nexpected: %.*s", (int)strcspn(got + line, "\n"), got + line, (int)strcspn(wanted + line, "\n"),
               wanted + line);
}

static void round_trip(const char *text) {
  fixture f;
  begin(&f);
  must_parse(&f, text);
  ts_text t = {0};
  ir_print_module(f.m, &t);
  must_equal(ts_text_z(&t), text);
  ts_text_deinit(&t);
  end(&f);
}

START_TEST(portable_round_trip) { round_trip(corpus_portable); }
END_TEST
START_TEST(scheduled_round_trip) { round_trip(corpus_scheduled); }
END_TEST
START_TEST(tensor_round_trip) { round_trip(corpus_tensor); }
END_TEST

static void mark_ops(const ir_region *r, bool *seen) {
  if (!r) return;
  for (const ir_op *op = r->first; op; op = op->next) {
    seen[op->code] = true;
    for (uint32_t i = 0; i < op->region_count; i++) mark_ops(op->regions[i], seen);
  }
}

START_TEST(corpus_has_every_op) {
  bool seen[IR_OP_COUNT] = {0};
  const char *const texts[] = {corpus_portable, corpus_scheduled, corpus_tensor};
  fixture f;
  begin(&f);
  for (int i = 0; i < 3; i++) must_parse(&f, texts[i]);
  for (size_t i = 0; i < f.m->functions.count; i++) mark_ops(f.m->functions.data[i]->body, seen);
  for (size_t i = 0; i < f.m->kernels.count; i++) {
    const ir_kernel *k = f.m->kernels.data[i];
    mark_ops(k->body, seen);
    for (size_t p = 0; p < k->parts.count; p++) {
      mark_ops(k->parts.data[p].init, seen);
      mark_ops(k->parts.data[p].update, seen);
      mark_ops(k->parts.data[p].finish, seen);
    }
  }
  for (int i = 0; i < IR_OP_COUNT; i++)
    ck_assert_msg(seen[i], "the corpus has no '%s'", ir_op_get((ir_opcode)i)->name);
  end(&f);
}
END_TEST

// Locations print and come back, also the missing ones.
START_TEST(locations_round_trip) {
  fixture f;
  begin(&f);
  must_parse(&f,
             "kernel @k portable { loc(\"a b.yaml\":3:4)\n  part move axes() {\n    finish {\n"
             "      %0 = const 1.0 : f32 loc(\"x.yaml\":12:7)\n      %1 = const 2.0 : f64 loc(?)\n      %2 = const 1 : i8 "
             "loc(\"w.gguf\"+77)\n"
             "    }\n  }\n}\n");
  ts_text a = {0}, b = {0};
  ir_print_kernel(f.m, f.m->kernels.data[0], true, &a);
  must_parse(&f, ts_text_z(&a));
  ir_print_kernel(f.m, f.m->kernels.data[1], true, &b);
  must_equal(ts_text_z(&a), ts_text_z(&b));
  ck_assert_ptr_nonnull(strstr(ts_text_z(&a), "loc(\"x.yaml\":12:7)"));
  ck_assert_ptr_nonnull(strstr(ts_text_z(&a), "loc(\"w.gguf\"+77)"));
  ck_assert_uint_eq(f.m->kernels.data[0]->loc.line, 3);
  ts_text_deinit(&a);
  ts_text_deinit(&b);
  end(&f);
}
END_TEST

// Same computation, other names and locations: same identity. Another constant: another one.
START_TEST(kernel_identity) {
  static const char *const form =
      "kernel @%s portable {\n  out %%%s: mem<f32[4]>\n  part move axes(a: par 4) {\n    finish {\n"
      "      %%%s = const %s : f32\n      %%v = full %%%s : f32[a]\n      store %%%s[0], %%v {at=[a]}\n    }\n  }\n}\n";
  fixture f;
  begin(&f);
  const char *const names[][3] = {{"one", "y", "1.0"}, {"two", "out", "1.0"}, {"one", "y", "1.5"}};
  uint64_t h[3];
  for (int i = 0; i < 3; i++) {
    must_parse(&f, ts_arena_printf(&f.arena, form, names[i][0], names[i][1], "c", names[i][2], "c", names[i][1]));
    h[i] = ir_kernel_hash(f.m, f.m->kernels.data[i]);
  }
  ck_assert(h[0] == h[1]);
  ck_assert(h[0] != h[2]);
  end(&f);
}
END_TEST

// ---- random functions of apply -------------------------------------------------------------------------------------------
static uint64_t state;
static uint32_t rnd(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}

static const ir_dtype some_types[] = {IR_f64, IR_f32, IR_f16, IR_bf16, IR_i64, IR_i32, IR_i8, IR_u8, IR_u64, IR_i1};

static uint32_t random_const(ir_fn_builder *b, ir_dtype t) {
  static const double reals[] = {0, -0.0, 1, -1.5, 1e-5, 3.3333333333333335, 1e30, -1e-30, (double)INFINITY, 0.1};
  if (ir_is_float(t)) return ir_fn_real(b, t, reals[rnd(10)]);
  return ir_fn_int(b, t, rnd(4) == 0 ? INT64_MIN : (int64_t)rnd(1000) - 500);
}

// A node of type t out of what there is, or a constant.
static uint32_t pick(ir_fn_builder *b, ir_dtype t) {
  for (int tries = 0; tries < 20; tries++) {
    uint32_t i = rnd((uint32_t)b->nodes.count);
    if (b->nodes.data[i].type == t) return i;
  }
  return random_const(b, t);
}

static const ir_fn *random_fn(ir_module *m, uint32_t params, ir_dtype *types, uint32_t results, uint32_t size) {
  ir_fn_builder b;
  ir_fn_begin(&b, m, params, types);
  for (uint32_t n = 0; n < size; n++) {
    ir_scalar op = (ir_scalar)rnd(IR_SCALAR_PARAM);
    uint32_t x = rnd((uint32_t)b.nodes.count);
    ir_dtype t = b.nodes.data[x].type;
    if (op == IR_SCALAR_cast) ir_fn_cast(&b, some_types[rnd(10)], x);
    else if (op == IR_SCALAR_bits) ir_fn_bits(&b, t == IR_f32 ? IR_i32 : t == IR_i32 ? IR_f32 : t, x);
    else if (op == IR_SCALAR_select) ir_fn_op(&b, op, pick(&b, IR_i1), pick(&b, t), pick(&b, t));
    else ir_fn_op(&b, op, rnd(4) ? x : pick(&b, t), pick(&b, t), pick(&b, t));
  }
  uint32_t out[4];
  for (uint32_t i = 0; i < results; i++)
    out[i] = rnd(3) ? (uint32_t)b.nodes.count - 1 - rnd(b.nodes.count < 4 ? 1 : 4) : rnd((uint32_t)b.nodes.count);
  return ir_fn_end(&b, results, out);
}

START_TEST(random_functions) {
  uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 20260719;
  for (int round = 0; round < 400; round++) {
    state = seed + (uint64_t)round;
    fixture f;
    begin(&f);
    ir_kernel *k = ir_kernel_create(f.m, ir_name(f.m, "k%d", round), IR_STAGE_P, (ts_loc){0});
    ir_part *part = ir_kernel_part(f.m, k, IR_FAMILY_MOVE, NULL);
    ir_builder b = {.module = f.m, .region = part->finish};
    ir_dtype types[5];
    ir_value *operand[5];
    uint32_t params = rnd(6), results = 1 + rnd(3);
    for (uint32_t i = 0; i < params; i++) {
      types[i] = some_types[rnd(10)];
      operand[i] = ir_is_float(types[i]) ? ir_const_real(&b, types[i], 1) : ir_const_int(&b, types[i], 1);
      operand[i]->name = rnd(2) ? ir_name(f.m, "v") : NULL;
    }
    const ir_fn *fn = params ? random_fn(f.m, params, types, results, rnd(60))
                             : random_fn(f.m, 1, (ir_dtype[]){IR_f32}, results, 0);
    if (!params) {
      end(&f);
      continue;
    }
    const ir_type *rt[4];
    for (uint32_t i = 0; i < results; i++) rt[i] = ir_scalar_type(f.m, fn->nodes[fn->outputs[i]].type);
    ir_set_fn(&b, ir_build(&b, IR_OP_apply, params, operand, results, rt), "fn", fn);
    ts_text one = {0}, two = {0};
    ir_print_kernel(f.m, k, false, &one);
    must_parse(&f, ts_text_z(&one));
    ir_print_kernel(f.m, f.m->kernels.data[0], false, &two);
    if (strcmp(ts_text_z(&one), ts_text_z(&two)) != 0) fprintf(stderr, "seed %llu\n", (unsigned long long)seed + (unsigned)round);
    must_equal(ts_text_z(&two), ts_text_z(&one));
    ts_text_deinit(&one);
    ts_text_deinit(&two);
    end(&f);
  }
}
END_TEST

// ---- what is refused -----------------------------------------------------------------------------------------------------
typedef struct bad_text {
  const char *text, *wanted;
  unsigned line, col;
} bad_text;

START_TEST(syntax_errors) {
  static const bad_text bad[] = {
      {"kernal @k portable {}", "expected module, dim", 1, 1},
      {"kernel @k portable {\n  part move axes() { finish { %0 = loud %x } }\n}", "did you mean load", 2, 36},
      {"kernel @k portable {\n  part move axes() { finish { yield %nope } }\n}", "%nope is not defined", 2, 37},
      {"kernel @k portable {\n  part move axes() { finish { yield %7 } }\n}", "%7 is not defined", 2, 37},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f33 } }\n}", "'f33' is no element type", 2, 48},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32[a] } }\n}", "no axis of a part", 2, 52},
      {"kernel @k portable {\n  in %x: mem<f32[n]>\n}", "no size is named 'n'", 2, 18},
      {"kernel @k portable {\n  in %x: mem<f32[8] as q9_9>\n}", "q9_9", 2, 24},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const {colour=1} : f32 } }\n}", "has no attribute 'colour'", 2,
       43},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %0 = const 1.0 : f32 } }\n}",
       "%0 is already defined", 2, 52},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 } }\n}", "1 results but 0 types", 2, 36},
      {"kernel @k portable {\n  part @p grow axes() { }\n}", "a family", 2, 11},
      {"kernel @k portable {\n  in %x: mem<f32[8]>\n  note a = \"open\n}", "closing quote", 3, 12},
      {"kernel @k portable {\n  in %x: mem<f32[8]>", "the text ends", 2, 21},
      {"kernel @k scheduled host grid(1, 1) { body { } }", "','", 1, 35},
      {"dim n 5..2", "bounds", 1, 1},
      {"dim n 1..99999999999999999999", "64 bits", 1, 10},
      {"func @f() -> (a) { return }", "must end in a return of its 1 outputs", 1, 1},
      {"\xff", "0xff", 1, 1},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a) -> 1.0 + 2.0 } : f32 } "
       "}\n}",
       "type of this constant", 2, 76},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a) -> a + b } : f32 } }\n}",
       "binding 'b'", 2, 80},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a) -> a < a < a } : f32 } "
       "}\n}",
       "do not chain", 2, 82},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a, b) -> a } : f32 } }\n}",
       "more parameters", 2, 71},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a) -> a + f16(a) } : f32 } "
       "}\n}",
       "operands of types f32 and f16", 2, 80},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1 : i8 %1 = apply(%0) { (a) -> a + 300 } : i8 } }\n}",
       "does not fit i8", 2, 77},
      {"kernel @k portable {\n  part move axes() { finish { %0 = const 1 : i8 %1 = apply(%0) { (a) -> sine(a) } : i8 } }\n}",
       "did you mean sin", 2, 73},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    fixture f;
    begin(&f);
    ck_assert_msg(parse(&f, ts_str_of(bad[i].text)) != TS_OK, "should fail: %s", bad[i].text);
    ck_assert_uint_ge(f.diags.list.count, 1);
    const ts_diag *d = &f.diags.list.data[0];
    ck_assert_msg(strstr(d->text, bad[i].wanted), "%s\nwanted %s, got %s", bad[i].text, bad[i].wanted, d->text);
    ck_assert_msg(d->loc.line == bad[i].line && d->loc.col == bad[i].col, "%s\n%s\nat %u:%u, wanted %u:%u", bad[i].text, d->text,
                  d->loc.line, d->loc.col, bad[i].line, bad[i].col);
    end(&f);
  }
}
END_TEST

START_TEST(deep_nesting_is_refused) {
  fixture f;
  begin(&f);
  ts_text t = {0};
  ts_text_puts(&t, "kernel @k portable { part move axes() { finish { %0 = const 1.0 : f32 %1 = apply(%0) { (a) -> ");
  for (int i = 0; i < 100000; i++) ts_text_puts(&t, "-(");
  ck_assert(parse(&f, ts_text_str(&t)) != TS_OK);
  ts_text_clear(&t);
  ts_text_puts(&t, "kernel @k scheduled host grid(1, 1, 1) { body { %0 = const 1 : i1 ");
  for (int i = 0; i < 100000; i++) ts_text_puts(&t, "if %0 do {");
  ck_assert(parse(&f, ts_text_str(&t)) != TS_OK);
  ts_text_deinit(&t);
  end(&f);
}
END_TEST

// Truncations at every place and random edits: an error or another text, never a crash; what parses prints and parses again.
static void survive(const char *text, size_t len) {
  fixture f;
  begin(&f);
  char *exact = malloc(len ? len : 1);   // so that reading behind the text is seen
  memcpy(exact, text, len);
  if (parse(&f, (ts_str){exact, len}) == TS_OK) {
    ts_text t = {0}, again = {0};
    ir_print_module(f.m, &t);
    fixture g;
    begin(&g);
    must_parse(&g, ts_text_z(&t));
    ir_print_module(g.m, &again);
    must_equal(ts_text_z(&again), ts_text_z(&t));
    end(&g);
    ts_text_deinit(&t);
    ts_text_deinit(&again);
  } else {
    ck_assert_uint_ge(f.diags.errors, 1);
  }
  free(exact);
  end(&f);
}

START_TEST(damaged_texts) {
  const char *const texts[] = {corpus_portable, corpus_scheduled, corpus_tensor};
  static const char *const splices[] = {
      "%",           "{",      "}",       "(",  ")",  "[",     "]",    "\"", "-1", "99999999999999999999",
      "nan",         "inf",    "f32",     "i1", ": ", "@",     "..",   "%0", "0",  "lanes m",
      "strides [1]", "loc(?)", "as q4_1", "\\", "\n", "const", "yield"};
  state = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 4;
  for (int i = 0; i < 3; i++) {
    size_t n = strlen(texts[i]);
    for (size_t cut = 0; cut < n; cut += 7) survive(texts[i], cut);
    for (int round = 0; round < 300; round++) {
      ts_text t = {0};
      size_t at = rnd((uint32_t)n), drop = rnd(4);
      ts_text_add(&t, (ts_str){texts[i], at});
      int what = (int)rnd(3);
      if (what == 0) ts_text_putc(&t, (char)rnd(256));
      else if (what == 1) ts_text_puts(&t, splices[rnd(sizeof splices / sizeof *splices)]);
      if (at + drop < n) ts_text_add(&t, (ts_str){texts[i] + at + drop, n - at - drop});
      survive(t.data, t.len);
      ts_text_deinit(&t);
    }
  }
}
END_TEST

// docs/ops.md is what the tables say (TESSERA_WRITE_DOCS=1 writes it), and the example of docs/ir.md is canonical text.
START_TEST(documentation) {
  fixture f;
  begin(&f);
  ts_text t = {0};
  ts_str file;
  ir_doc_ops(&t);
  if (getenv("TESSERA_WRITE_DOCS")) ck_assert(ts_file_write("docs/ops.md", t.data, t.len, &f.diags) == TS_OK);
  ck_assert_msg(ts_file_read(&f.arena, "docs/ops.md", &f.diags, &file) == TS_OK, "run from the root of the repository");
  ck_assert_msg(ts_str_eq(file, ts_text_str(&t)), "docs/ops.md is out of date: run this test with TESSERA_WRITE_DOCS=1");
  ts_text_deinit(&t);
  ck_assert(ts_file_read(&f.arena, "docs/ir.md", &f.diags, &file) == TS_OK);
  char *from = strstr((char *)file.data, "kernel @linear"), *to = from ? strstr(from, "```") : NULL;
  ck_assert_ptr_nonnull(to);
  *to = 0;
  round_trip(from);
  end(&f);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir_text");
  TCase *c = tcase_create("text");
  tcase_add_test(c, portable_round_trip);
  tcase_add_test(c, scheduled_round_trip);
  tcase_add_test(c, tensor_round_trip);
  tcase_add_test(c, corpus_has_every_op);
  tcase_add_test(c, locations_round_trip);
  tcase_add_test(c, kernel_identity);
  tcase_add_test(c, random_functions);
  tcase_add_test(c, syntax_errors);
  tcase_add_test(c, deep_nesting_is_refused);
  tcase_add_test(c, damaged_texts);
  tcase_add_test(c, documentation);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
