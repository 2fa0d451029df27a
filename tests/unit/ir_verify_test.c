// The verifier accepts the corpus and finds what is wrong with damaged kernels, with the right words, at the op.
#include "ir/ir.h"
#include "tests/unit/ir_corpus.h"

#include <check.h>

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

static void show(fixture *f) {
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
}

START_TEST(corpus_is_valid) {
  const char *const texts[] = {corpus_portable, corpus_scheduled, corpus_tensor};
  for (int i = 0; i < 3; i++) {
    fixture f;
    begin(&f);
    ck_assert(ir_parse_module(f.m, ts_intern_z(&f.names, "t"), ts_str_of(texts[i])) == TS_OK);
    bool good = ir_verify_module(f.m) == TS_OK && f.diags.errors == 0;
    if (!good) show(&f);
    ck_assert(good);
    end(&f);
  }
}
END_TEST

typedef struct bad {
  char form;            // P: ops of a finish region, S: of a body, F: of a function, M: the whole text
  const char *ops, *wanted;
} bad;

static const char *const forms[128] = {
    ['P'] =
        "kernel @k portable {\n  size n 1..64\n  in %%x: mem<f32[6, 8]>\n  in %%i: mem<i32[4, 4]>\n  out %%y: mem<f32[6, 8]>\n"
        "  part rows axes(a: par 6, b: par 8, n: par n) { finish {\n"
        "%%f = const 1.0 : f32 %%j = const 1 : i64 %%c = const 1 : i1\n"
        "%%t = load %%x[0, 0] {at=[a, b]} : f32[a, b] %%g = load %%x[0, 0] {at=[a, _]} : f32[a] %%ia = axis a : i64[a]\n%s\n} "
        "}\n}\n",
    ['S'] =
        "kernel @k scheduled host grid(1, 1, 1) {\n  in %%x: mem<f32[6, 8]>\n  out %%y: mem<f32[6, 8]>\n  body {\n"
        "%%f = const 1.0 : f32 %%j = const 1 : i64 %%c = const 1 : i1 %%p = alloc : panel<f32[4, 8]>\n"
        "%%t = load %%x[0, 0] {at=[a, b]} : f32[a: 4, b: 8] lanes b %%u = load %%x[0, 0] {at=[a, b]} : f32[a: 4, b: 8] lanes "
        "a\n%s\n} }\n",
    ['F'] =
        "dim batch 1..4\ndim seq 1..32 per batch\nstate @kv list batch length(64) page 16 { k: f16[2, 2, 8], v: f16[2, 2, 8] }\n"
        "weight @w : f32[4, 8] as f32\n"
        "func @f(%%x: tensor<f32[batch, seq, 8]>, %%i: tensor<i32[batch, seq]>, %%q: tensor<f32[batch, seq, 4, 8]>) -> (y) {\n"
        "%%s = state kv : state<kv> %%w = weight \"w\" : tensor<f32[4, 8]>\n%s\nreturn %%x\n}\n",
    ['M'] = "%s",
};

static const bad all[] = {
    // structure
    {'P', "%z = pid 0 : i64", "does not belong to level P"},
    {'S', "%z = axis a : i64[a: 4]", "does not belong to level S"},
    {'P', "%z = linear %t, %t : f32", "does not belong to level P"},
    {'P', "%z = full : f32[a]", "0 operands where 1 belong"},
    {'P', "%z = dot %t, %t, %t, %t {over=[b]} : f32[a]", "4 operands where 2 to 3 belong"},
    {'P', "load %x[0, 0] {at=[a, b]}", "0 results where 1 belong"},
    {'P', "%z = load %x[0, 0] : f32[a, b]", "attribute 'at' is missing"},
    {'P', "yield %t", "yields nothing"},
    {'P', "yield %z = full %f : f32[a]", NULL},
    {'M', "kernel @k portable {\n part move axes(a: par 2, a: par 3) { }\n}", "axis 'a' twice"},
    {'M', "kernel @k portable { }", "at least one part"},
    {'M', "kernel @k portable {\n in %x: f32[a: 4]\n part move axes() { }\n}", "is no memory"},
    {'M', "kernel @k portable {\n in %x: mem<f32[4]>\n in %x: mem<f32[4]>\n part move axes() { }\n}", NULL},
    {'M', "kernel @k scheduled cuda grid(1, 1, 1) { body { } }", "has warps"},
    {'M', "kernel @k scheduled grid(1, 1, 1) { body { } }", "class host or cuda"},
    {'M', "kernel @k portable {\n part move axes(a: par 2) { init { %z = const 0.0 : f32 } }\n}", "must end in yield"},
    {'M', "kernel @k portable {\n part move axes(a: par 2) { init { %z = const 0.0 : f32 yield %z } update { yield } }\n}",
     "takes 0 accumulators where init yields 1"},
    {'M',
     "kernel @k portable {\n part move axes(a: par 2) { init { %z = const 0.0 : f32 yield %z } update (%q: f16) { yield %q } "
     "}\n}",
     "init yields f32"},
    {'M', "kernel @k portable {\n part move axes(a: par 2) { init { %z = const 0.0 : f32 yield %z } update (%q) { yield } }\n}",
     "0 values where 1 belong"},
    {'M', "kernel @k portable {\n part move axes(a: par 2) { }\n}\nkernel @k portable {\n part move axes(a: par 2) { }\n}",
     "two kernels are called 'k'"},
    {'M', "kernel @k scheduled host grid(1, 1, 1) {\n size n 1..4\n body { %z = const 0.0 : f32 %t = full %z : f32[a: n] }\n}",
     "static extents"},
    {'M', "kernel @k portable {\n size n 1..4 device\n in %x: mem<f32[n]>\n part move axes() { }\n}", "known on the device only"},
    {'M', "kernel @k portable {\n in %x: mem<f32[32] as q4_1 strides [1]>\n part move axes() { }\n}", "encoded and has strides"},
    {'M', "dim a 1..2 per b", "ragged over 'b'"},
    {'M', "state @s list q length(4) page 0 { }", "pages of 0 rows"},
    {'M', "state @s list q length(4) page 1 { }", "lists over 'q'"},
    // control
    {'S', "%z = pid 3 : i64", "grid axis 3"},
    {'S', "%z = pid 0 : i32", "the result is i64"},
    {'P', "%z = const {value=1.0, int=1} : f32", "exactly one"},
    {'P', "%z = const 1.0 : i32", "a real constant of type i32"},
    {'P', "%z = const 1.0 : f32[a]", "the result is a scalar"},
    {'P', "%z = size n : i32", "the result is i64"},
    {'S', "for 0, 4, 0 do (%k: i64) { yield }", "step must be above 0"},
    {'S', "for %f, 4, 1 do (%k: i64) { yield }", "i64 scalars"},
    {'S', "for 0, 4, 1 do (%k: i64, %q: f32) { yield }", "takes 2 parameters where 1 belong"},
    {'S', "%r = for 0, 4, 1, %f do (%k: i64, %q: f32) { yield } : f32", "0 yielded values where 1 belong"},
    {'S', "%r = for 0, 4, 1, %f do (%k: i64, %q: f16) { yield %f } : f32", "carried values 0 is f32"},
    {'S', "%r = for 0, 4, 1, %f do (%k: i64, %q: f32) { } : f32", "must end in yield"},
    {'S', "if %f do { } else { }", "condition is an i1"},
    {'S', "%r = if %c do { yield %f } else { yield %j } : f32", "is i64 where f32"},
    {'P', "raise %f {code=1, text=\"x\"}", "of type i1"},
    // values
    {'P', "%z = axis q : i64[q: 4]", "no axis 'q'"},
    {'P', "%z = axis a : i32[a]", "the result is i64[a]"},
    {'S', "%z = iota %f : f32[a: 4]", "integer scalar"},
    {'S', "%z = iota %j : i32[a: 4]", "type of the base"},
    {'P', "%z = full %t : f32[a]", "operand is a scalar"},
    {'P', "%z = full %f : f16[a]", "one element type"},
    {'P', "%z = apply(%t) { (a) -> a } : f32[a]", "lacks an axis"},
    {'P', "%z = apply(%g) { (a) -> a } : f32[a, b]", "does not come from the operands"},
    {'P', "%z = apply(%g) { (a) -> a } : f32[a: 5]", "another extent"},
    {'P', "%z = apply(%g) { (a) -> a } : f16[a]", "the function gives f32"},
    {'P', "%z = apply(%g) { (a) -> a, a } : f32[a]", "2 results"},
    {'P', "%z = apply(%t) { (a) -> a % a } : f32[a, b]", "needs integers"},
    {'P', "%z = apply(%ia) { (a) -> exp(a) } : i64[a]", "needs floats"},
    {'P', "%z = apply(%c) { (a) -> a + a } : i1", "of i1"},
    {'P', "%q = relabel %g {kind=rename, axis=a, to=[b]} : f32[b: 6] %z = apply(%t, %q) { (a, b) -> a + b } : f32[a, b]",
     "axis 'b' is 8 here and 6 there"},
    {'S', "%z = apply(%t, %u) { (a, b) -> a + b } : f32[a: 4, b: 8] lanes b", "different lanes axes"},
    {'S', "%z = apply(%t) { (a) -> a } : f32[a: 4, b: 8]", "lanes axis of the operands is 'b'"},
    {'P', "%z = relabel %t {kind=turn, axis=a} : f32[a, b]", "kind 'turn'"},
    {'P', "%z = relabel %t {kind=pick, at=0} : f32[a]", "needs `axis`"},
    {'P', "%z = relabel %t {kind=pick, axis=b, at=8} : f32[a]", "reaches outside"},
    {'P', "%z = relabel %t {kind=slice, axis=b, at=2, count=4, step=2} : f32[a, b: 4]", "reaches outside"},
    {'P', "%z = relabel %t {kind=split, axis=b, to=[p, q]} : f32[a, p: 3, q: 3]", "do not multiply"},
    {'P', "%z = relabel %t {kind=split, axis=b} : f32[a, b]", "needs `to`"},
    {'P', "%z = relabel %t {kind=merge, axis=q, to=[a, b]} : f32[q: 49]", "do not multiply"},
    {'P', "%z = relabel %t {kind=rename, axis=a, to=[b]} : f32[b]", "already has an axis 'b'"},
    {'P', "%z = relabel %t {kind=permute, to=[b, a]} : f32[a, b]", "not in the order"},
    {'P', "%z = relabel %t, %g {kind=concat, axis=b} : f32[a, b]", "another extent"},
    {'P', "%z = relabel %t, %g {kind=pick, axis=b, at=0} : f32[a]", "takes one operand"},
    {'P', "%z = lookup %t, %g {axis=b} : f32[a]", "integer tile"},
    {'P', "%z = lookup %t, %ia {axis=q} : f32[a]", "table has no axis"},
    // memory
    {'P', "%z = load %x[0] {at=[a, b]} : f32[a, b]", "as many indices"},
    {'P', "%z = load %x[0, 0] {at=[a]} : f32[a]", "entry for each dimension"},
    {'P', "%z = load %x[0, 0] {at=[a, b, n]} : f32[a, b]", "more entries"},
    {'P', "%z = load %x[0, 0] {at=[a, a]} : f32[a]", "runs along two dimensions"},
    {'P', "%z = load %x[0, 0] {at=[a, b]} : f16[a, b]", "the memory f32"},
    {'P', "%z = load %x[0, %f] {at=[a, _]} : f32[a]", "is no integer"},
    {'P', "%z = load %t {at=[]} : f32", "is no memory"},
    {'P', "%z = load %x[0, 0], %c {at=[a, b]} : f32[a, b]", "4 operands where 3 belong"},
    {'P', "%z = load %x[0, 0], %t {at=[a, b], masked=1} : f32[a, b]", "no i1 tile"},
    {'P', "%q = apply(%ia) { (a) -> a < 3 } : i1[a] %z = load %x[0, 0], %q {at=[_, b], masked=1} : f32[b]",
     "the mask has an axis 'a'"},
    {'P', "store %x[0, 0], %t {at=[a, b]}", "writes the input 'x'"},
    {'P', "store %y[0, 0], %ia {at=[a, _]}", "a value of type i64 into memory of type f32"},
    {'P', "store %y[0, 0], %t {at=[a, _]}", "axis 'b' that neither"},
    {'P', "store %y[0, 0], %g {at=[a, b]}", "how far axis 'b' goes"},
    {'P', "atomic %y[0, 0], %t {op=mul, at=[a, b]}", "'mul' is none of"},
    {'S', "%z = alloc : mem<f32[4]>", "is a panel"},
    {'S', "copy %x[0, 0], %y[0, 0] {at=[a, b, a, b]}", "fills a panel"},
    {'S', "copy %x[0, 0], %p[0, 0] {at=[a, b, _, b]}", "how far axis 'a' goes"},
    {'S', "%z = fetch %x[0, 0] {at=[a, b]} : f32[a: 4, b: 8]", "reads a panel"},
    {'S', "put %y[0, 0], %t {at=[a, b]}", "writes a panel"},
    {'S', "barrier grid", "neither block nor warp"},
    {'S', "%z = convert %t : f32[a: 4]", "lacks an axis"},
    {'S', "%z = convert %t : f32[a: 4, b: 8] layout([a:4, b:4] {reg: a, b})", "axis 'b' has another size"},
    {'S', "%z = convert %t : f32[a: 4, b: 8] layout([a:4, b:8, c:2] {reg: a, b, c})", "has an axis 'c'"},
    {'P', "%p, %s = map.at %i, %j, %ia {kind=pages} : i64[a], i64[a]", "granule"},
    {'P', "%p = map.at %i, %j, %ia {kind=pages, granule=4} : i64[a]", "gives (page, slot)"},
    {'P', "%p = map.at %i, %j {kind=heap} : i64", "neither pages nor rows"},
    // encodings
    {'P', "%z = decode %t {formula=cubed} : f32[a, b]", "no formula"},
    {'P', "%z = decode %t, %t, %t {formula=scaled} : f32[a, b]", "takes 2 operands"},
    {'P', "%q = load %i[0, 0] {at=[c, d]} : i32[c: 4, d: 4] %z = decode %t, %q {formula=scaled} : f32[a, b]",
     "stands for no axis"},
    {'P', "%z = encode %t {formula=scaled, axis=b, group=4, bits=9} : i8[a, b]", "bits 2 to 8"},
    {'P', "%z, %s = encode %t {formula=scaled, axis=b, group=4, bits=8} : i8[a, b], f32[a, b]", "another extent"},
    // sums
    {'P', "%z = dot %t, %t {over=[c]} : f32[a, b]", "no operand has the axis 'c'"},
    {'P', "%z = dot %t, %ia {over=[a]} : f32[b]", "floats and integers"},
    {'P', "%z = dot %t, %t, %g {over=[a]} : f32[b]", "the accumulator"},
    {'S', "%z = dot %t, %u {over=[b]} : f32[a: 4]", "different lanes axes"},
    {'P', "%z = reduce %t {over=[b], op=mul} : f32[a]", "none of add"},
    {'P', "%z = reduce %t {over=[b], op=argmax} : f32[a]", "gives (value, index)"},
    {'P', "%z = reduce %t {over=[b], op=and} : f32[a]", "needs integers"},
    {'P', "%z = scan %t {over=c, op=add} : f32[a, b]", "has no axis 'c'"},
    {'P', "%z = scan %t {over=a, op=min} : f32[a, b]", "neither add nor max"},
    {'P', "%m, %l, %o = softacc %t, %g {over=[b]} : f32[a], f32[a], f32[a]", "values have no axis 'b'"},
    {'P', "%r, %n = rank %ia {over=b, bins=4} : i64[a], i64[q: 4]", "keys have no axis"},
    {'P', "%r, %n = rank %ia {over=a, bins=4} : i64[a], i64[q: 5]", "extent 4"},
    // tensors
    {'F', "%z = weight \"v\" : tensor<f32[4, 8]>", "no weight 'v'"},
    {'F', "%z = weight \"w\" : tensor<f32[8, 4]>", "another shape"},
    {'F', "%z = linear %w, %x : tensor<f32[4, 8]>", "do not fit"},
    {'F', "%z = linear %x, %w : tensor<f32[batch, seq, 8]>", "k replaced by n"},
    {'F', "%z = linear %x, %w {activations=s4} : tensor<f32[batch, seq, 4]>", "activations 's4'"},
    {'F', "%z = matmul %x, %w : tensor<f32[batch, seq, 8]>", "do not fit"},
    {'F', "%z = gather %w, %x : tensor<f32[batch, seq, 8, 8]>", "integer ids"},
    {'F', "%z = gather %w, %i : tensor<f32[batch, seq, 4]>", "then of a row"},
    {'F', "%z = rms_norm %x, %w {eps=0.1} : tensor<f32[batch, seq, 8]>", "for each channel"},
    {'F', "%z = softmax %x : tensor<f32[batch, 8]>", "differ in shape"},
    {'F', "%z = reduce_t %x {op=add, axis=3} : tensor<f32[batch, seq]>", "dimension 3 of a tensor of 3"},
    {'F', "%z = reduce_t %x {op=mul, axis=2} : tensor<f32[batch, seq]>", "none of add"},
    {'F', "%z = rope %q, %i {theta=1.0, pairs=odd} : tensor<f32[batch, seq, 4, 8]>", "neither adjacent nor half"},
    {'F', "%z = rope %x, %i {theta=1.0, pairs=half} : tensor<f32[batch, seq, 8]>", "one for each row"},
    {'F', "%z = reshape %x : tensor<f32[batch, seq, 9]>", "not proved"},
    {'F', "%z = slice_t %x {axis=2, at=4, count=5} : tensor<f32[batch, seq, 5]>", "reaches outside"},
    {'F', "%z = concat_t %x, %x {axis=2} : tensor<f32[batch, seq, 17]>", "do not add up"},
    {'F', "%z = transpose_t %x {order=[0, 0, 1]} : tensor<f32[batch, batch, seq]>", "every dimension once"},
    {'F', "%z = last %x {over=foo} : tensor<f32[batch, 8]>", "no dim 'foo'"},
    {'F', "%z = positions %s {over=seq} : tensor<i32[batch]>", "i32[batch, seq]"},
    {'F', "append %s, %q {layer=0, fields=[k], over=seq}", "another shape"},
    {'F', "append %s, %q {layer=0, fields=[m], over=seq}", "no field 'm'"},
    {'F', "%z = attend %q, %s {mask=full, scale=1.0, layer=0} : tensor<f32[batch, seq, 4, 8]>", "mask 'full'"},
    {'F', "%z = attend %q, %s {mask=causal, scale=1.0, layer=2} : tensor<f32[batch, seq, 4, 8]>", "no layer 2"},
    {'F', "%z = map(%x) { (a) -> a } : tensor<f32[batch, seq, 4]>", "does not broadcast"},
    {'F', "%z = literal 1.0 : tensor<i32>", "a real literal"},
};

START_TEST(findings) {
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    fixture f;
    begin(&f);
    char text[4096];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, forms[(int)all[i].form], all[i].ops);
#pragma GCC diagnostic pop
    ts_status parsed = ir_parse_module(f.m, ts_intern_z(&f.names, "t"), ts_str_of(text));
    if (!all[i].wanted) {   // refused by the parser already
      ck_assert_msg(parsed != TS_OK, "%s", all[i].ops);
      end(&f);
      continue;
    }
    if (parsed != TS_OK) show(&f);
    ck_assert_msg(parsed == TS_OK, "%s", all[i].ops);
    ck_assert_msg(ir_verify_module(f.m) != TS_OK, "accepted: %s", all[i].ops);
    bool found = false;
    for (size_t d = 0; d < f.diags.list.count; d++) found |= strstr(f.diags.list.data[d].text, all[i].wanted) != NULL;
    if (!found) show(&f);
    ck_assert_msg(found, "%s\nwanted: %s", all[i].ops, all[i].wanted);
    ck_assert(strchr("PSF", all[i].form) == NULL || f.diags.list.data[0].loc.line >= 1);
    end(&f);
  }
}
END_TEST

// All findings of a kernel, not the first alone.
START_TEST(all_findings_are_reported) {
  fixture f;
  begin(&f);
  const char *text =
      "kernel @k scheduled host grid(1, 1, 1) {\n  body {\n    %0 = pid 3 : i64\n    %1 = pid 4 : i64\n    barrier nobody\n  "
      "}\n}\n";
  ck_assert(ir_parse_module(f.m, ts_intern_z(&f.names, "t"), ts_str_of(text)) == TS_OK);
  ck_assert(ir_verify_kernel(f.m, f.m->kernels.data[0]) == TS_INVALID);
  ck_assert_uint_eq(f.diags.errors, 3);
  ck_assert_uint_eq(f.diags.list.data[0].loc.line, 3);
  end(&f);
}
END_TEST

// A value of another region, or from later in this one, is not visible.
START_TEST(scopes) {
  fixture f;
  begin(&f);
  const char *text =
      "kernel @k scheduled host grid(1, 1, 1) {\n  body {\n    %0 = pid 0 : i64\n    %1 = apply(%0) { (a) -> a + 1 } : i64\n  "
      "}\n}\n";
  ck_assert(ir_parse_module(f.m, ts_intern_z(&f.names, "t"), ts_str_of(text)) == TS_OK);
  ir_region *body = f.m->kernels.data[0]->body;
  ck_assert(ir_verify_kernel(f.m, f.m->kernels.data[0]) == TS_OK);
  body->first->next->operands[0] = body->first->next->results[0];
  ck_assert(ir_verify_kernel(f.m, f.m->kernels.data[0]) == TS_INVALID);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[0].text, "not defined before its use"));
  end(&f);
}
END_TEST

int main(void) {
  Suite *s = suite_create("ir_verify");
  TCase *c = tcase_create("verify");
  tcase_add_test(c, corpus_is_valid);
  tcase_add_test(c, findings);
  tcase_add_test(c, all_findings_are_reported);
  tcase_add_test(c, scopes);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
