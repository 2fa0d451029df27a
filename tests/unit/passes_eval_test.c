// Every kernel that lowering makes and every host schedule of it, on the same random memory: equal in the prime field where the kernel
// allows it (drive/trial.h). Llamas of many shapes and encodings, and portable kernels drawn at random.
#include "drive/trial.h"
#include "passes/lower.h"
#include "tests/unit/llama_text.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed;

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} fixture;

static void begin(fixture *f) {
  *f = (fixture){0};
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

static void broken(fixture *f, const char *what) {
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("%s (TEST_SEED=%llu)", what, (unsigned long long)seed);
}

static void parse(fixture *f, ts_text *t) {
  ts_str text = {ts_arena_strdup(&f->arena, ts_text_z(t)), t->len};
  ts_text_deinit(t);
  ts_sym file = ts_intern_z(&f->names, "test.tir");
  ts_diags_add_source(&f->diags, file, text);
  if (ir_parse_module(f->m, file, text) != TS_OK || ir_verify_module(f->m) != TS_OK) {
    fprintf(stderr, "%s\n", text.data);
    broken(f, "the text should parse");
  }
}

static const struct { const char *name; unsigned registers; } levels[] = {
  {"host.avx2", 16}, {"host.avx512", 32}, {"host.avx512_vnni", 32}};
enum { LEVELS = sizeof levels / sizeof *levels };

typedef struct tally {
  unsigned runs, exact;   // comparisons; in the prime field
} tally;

static void show(fixture *f, const ir_kernel *k) {
  ts_text t = {0};
  ir_print_kernel(f->m, k, false, &t);
  fprintf(stderr, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
}

// All variants for one level, with about so many rows.
static void try_kernel(fixture *f, const ir_kernel *p, const int64_t *rows, size_t row_count, unsigned level, tally *n) {
  pass_log log = {.arena = &f->arena};
  pass_host_target t = {ts_intern_z(&f->names, levels[level].name), levels[level].registers};
  pass_schedules s;
  if (pass_schedule_host(f->m, p, &t, &log, &s) != TS_OK) show(f, p), broken(f, "schedule");
  for (size_t v = 0; v < s.variants.count; v++)
    if (ir_verify_kernel(f->m, s.variants.data[v].kernel) != TS_OK) show(f, s.variants.data[v].kernel), broken(f, "verify");
  for (size_t r = 0; r < row_count; r++) {
    drive_trial trial;
    if (drive_trial_open(&trial, f->m, p, rows[r], seed + r * 77 + level) != TS_OK) show(f, p), broken(f, "portable kernel");
    for (size_t v = 0; v < s.variants.count; v++) {
      bool ran;
      if (drive_trial_run(&trial, &s.variants.data[v], &ran) != TS_OK) {
        show(f, p), show(f, s.variants.data[v].kernel);
        broken(f, "a schedule computes something else");
      }
      n->runs += ran;
      n->exact += ran && trial.domain == IR_DOMAIN_MODP;
    }
    drive_trial_close(&trial);
  }
}

static const llama_shape shapes[] = {
  {32, 4, 2, 8, 33, 37, 40, "f32", "adjacent", NULL},   {64, 4, 2, 16, 96, 71, 40, "q4_0", "half", NULL},
  {64, 2, 1, 32, 96, 96, 40, "q4_1", "adjacent", NULL}, {96, 6, 3, 16, 64, 33, 40, "q8_0", "half", NULL},
  {32, 4, 4, 8, 95, 64, 40, "f16", "half", NULL},       {32, 2, 2, 16, 41, 45, 40, "bf16", "adjacent", NULL},
  {64, 4, 1, 16, 96, 71, 40, "q4_1", "half", "s8_block32"}, {64, 4, 2, 16, 32, 50, 40, "q8_0", "half", "s8_block32"},
};

START_TEST(llama_kernels) {
  static const int64_t rows[] = {1, 7, 8, 13}, many[] = {130};
  tally n = {0};
  for (int fuse = 1; fuse >= 0; fuse--) {
    fixture f;
    begin(&f);
    ts_text t = {0};
    llama_text(&shapes[_i], &t);
    parse(&f, &t);
    llama_fill(f.m, seed);
    pass_log log = {.arena = &f.arena};
    plan *p;
    if (pass_lower(f.m, &(pass_lower_options){.fuse = fuse}, &log, &p) != TS_OK) broken(&f, "lower");
    for (size_t k = 0; k < p->kernels.count; k++)
      for (unsigned level = 0; level < LEVELS; level++) {
        if (!fuse && level != (seed + k) % LEVELS) continue;
        if (ir_verify_kernel(f.m, p->kernels.data[k]) != TS_OK) broken(&f, "verify");
        try_kernel(&f, p->kernels.data[k], rows, 4, level, &n);
        if (fuse && level == (seed + k) % LEVELS) try_kernel(&f, p->kernels.data[k], many, 1, level, &n);
      }
    end(&f);
  }
  printf("%s: %u comparisons, %u exact\n", shapes[_i].encoding, n.runs, n.exact);
  ck_assert_uint_ge(n.runs, 100);
  if (!shapes[_i].activations) ck_assert_uint_eq(n.exact, n.runs);
}
END_TEST

// ---- random portable kernels ---------------------------------------------------------------------------------------------
static uint64_t state;
static unsigned below(unsigned n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(state >> 33) % n;
}

static const struct { const char *name; unsigned k; } encodings[] = {   // and what k must be a multiple of
  {"f32", 1}, {"f16", 1}, {"bf16", 1}, {"q8_0", 32}, {"q4_0", 32}, {"q4_1", 32}, {"q5_0", 32}, {"q5_1", 32}, {"q2_K", 256}, {"q3_K", 256},
  {"q4_K", 256}, {"q5_K", 256}, {"q6_K", 256}, {"iq4_nl", 32}, {"mxfp4", 32}, {"int4_g64", 64}, {"int8_g32", 32}};
enum { ENCODINGS = sizeof encodings / sizeof *encodings };

static const char *const activations[] = {
  "a", "a / (exp(-a) + 1.0)", "max(a, 0.0)", "a * a + 0.5", "tanh(a) * a", "a * 0.5 * (erf(a * 0.75) + 1.0)", "min(abs(a), 4.0)"};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

// One part: `products` weights of n rows over the same x, a norm's prologue or none, one activation a product, multiplied together;
// bias and residual or none. `maps`: rows of x are picked by an index.
static void random_contract(ts_text *t, unsigned number) {
  const unsigned e = below(ENCODINGS), unit = encodings[e].k, k = unit == 1 ? 1 + below(90) : unit * (1 + below(unit > 100 ? 1 : 3));
  const unsigned products = 1 + below(3), n = 1 + below(100);
  bool norm = below(2), gain = norm && below(2), bias = below(2), residual = below(2), maps = below(3) == 0;
  ts_text_printf(t, "kernel @k%u portable {\n  size m 0..1000\n", number);
  ts_text_printf(t, "  in %%x: mem<f32[%s, %u]>\n", maps ? "2*m + 3" : "m", k);
  if (maps) ts_text_puts(t, "  in %id: mem<i32[m]>\n");
  if (gain) ts_text_printf(t, "  in %%g: mem<f32[%u]>\n", k);
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "  in %%w%u: mem<f32[%u, %u] as %s>\n", i, n, k, encodings[e].name);
  if (bias) ts_text_printf(t, "  in %%bias: mem<f32[%u]>\n", n);
  if (residual) ts_text_printf(t, "  in %%r: mem<f32[m, %u]>\n", n);
  ts_text_printf(t, "  out %%y: mem<f32[m, %u]>\n  part contract axes(m: par m, n: par %u, k: red %u) {\n    init {\n      %%z = const 0.0 : f32\n", n, n, k);
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "      %%a%u = full %%z : f32[m, n]\n", i);
  if (norm) ts_text_puts(t, "      %s0 = full %z : f32[m]\n");
  ts_text_puts(t, "      yield ");
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "%s%%a%u", i ? ", " : "", i);
  ts_text_puts(t, norm ? ", %s0\n    }\n    update (" : "\n    }\n    update (");
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "%s%%b%u: f32[m, n]", i ? ", " : "", i);
  ts_text_puts(t, norm ? ", %s1: f32[m]) {\n" : ") {\n");
  if (maps) ts_text_puts(t, "      %i = load %id[0] {at=[m]} : i32[m]\n      %j = apply(%i) { (a) -> i64(a) } : i64[m]\n      %xt = load %x[%j, 0] {at=[_, k]} : f32[m, k]\n");
  else ts_text_puts(t, "      %xt = load %x[0, 0] {at=[m, k]} : f32[m, k]\n");
  if (gain) ts_text_puts(t, "      %gt = load %g[0] {at=[k]} : f32[k]\n      %xg = apply(%xt, %gt) { (a, b) -> a * b } : f32[m, k]\n");
  for (unsigned i = 0; i < products; i++)
    ts_text_printf(t, "      %%v%u = load %%w%u[0, 0] {at=[n, k]} : f32[n, k]\n      %%c%u = dot %s, %%v%u, %%b%u {over=[k]} : f32[m, n]\n", i, i, i, gain ? "%xg" : "%xt", i, i);
  if (norm) ts_text_puts(t, "      %q = apply(%xt) { (a) -> a * a } : f32[m, k]\n      %u = reduce %q {over=[k], op=add} : f32[m]\n      %s2 = apply(%s1, %u) { (a, b) -> a + b } : f32[m]\n");
  ts_text_puts(t, "      yield ");
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "%s%%c%u", i ? ", " : "", i);
  ts_text_puts(t, norm ? ", %s2\n    }\n    finish (" : "\n    }\n    finish (");
  for (unsigned i = 0; i < products; i++) ts_text_printf(t, "%s%%d%u: f32[m, n]", i ? ", " : "", i);
  ts_text_puts(t, norm ? ", %s3: f32[m]) {\n" : ") {\n");
  if (norm) ts_text_printf(t, "      %%s4 = apply(%%s3) { (a) -> rsqrt(a * %.9g + 1e-05) } : f32[m]\n", 1.0 / k);
  for (unsigned i = 0; i < products; i++) {
    const char *f = activations[below(ACTIVATIONS)];
    if (norm) ts_text_printf(t, "      %%n%u = apply(%%d%u, %%s4) { (a, b) -> a * b } : f32[m, n]\n", i, i);
    ts_text_printf(t, "      %%f%u = apply(%%%s%u) { (a) -> %s } : f32[m, n]\n", i, norm ? "n" : "d", i, f);
  }
  char last[16] = "f0";
  for (unsigned i = 1; i < products; i++) {
    ts_text_printf(t, "      %%p%u = apply(%%%s, %%f%u) { (a, b) -> a %c b } : f32[m, n]\n", i, last, i, "*+-"[below(3)]);
    snprintf(last, sizeof last, "p%u", i);
  }
  if (bias) {
    ts_text_printf(t, "      %%bt = load %%bias[0] {at=[n]} : f32[n]\n      %%e0 = apply(%%%s, %%bt) { (a, b) -> a + b } : f32[m, n]\n", last);
    snprintf(last, sizeof last, "e0");
  }
  if (residual) {
    ts_text_printf(t, "      %%rt = load %%r[0, 0] {at=[m, n]} : f32[m, n]\n      %%e1 = apply(%%%s, %%rt) { (a, b) -> a + b } : f32[m, n]\n", last);
    snprintf(last, sizeof last, "e1");
  }
  ts_text_printf(t, "      store %%y[0, 0], %%%s {at=[m, n]}\n    }\n  }\n}\n", last);
}

// Maps and reductions over rows; rows of the first operand may be gathered from an encoded table.
static void random_rows(ts_text *t, unsigned number) {
  const unsigned e = below(ENCODINGS), unit = encodings[e].k;
  bool table = below(2), heads = !table && below(2);
  unsigned f = table && unit > 1 ? unit * (1 + below(unit > 100 ? 1 : 3)) : 1 + below(90), h = 2 + below(3), reductions = heads ? 0 : below(3);
  ts_text_printf(t, "kernel @k%u portable {\n  size m 0..1000\n", number);
  if (table) ts_text_printf(t, "  in %%x: mem<f32[37, %u] as %s>\n  in %%id: mem<i32[m]>\n", f, encodings[e].name);
  else if (heads) ts_text_printf(t, "  in %%x: mem<f32[m, %u, %u]>\n", h, f);
  else ts_text_printf(t, "  in %%x: mem<f32[m, %u]>\n", f);
  const char *dims = heads ? "m, h, f" : "m, f";
  char type[64];
  if (heads) snprintf(type, sizeof type, "f32[m, h: %u, f: %u]", h, f);
  else snprintf(type, sizeof type, "f32[m, f: %u]", f);
  ts_text_printf(t, "  in %%g: mem<f32[%u]>\n", f);
  if (heads) ts_text_printf(t, "  out %%y: mem<f32[m, %u, %u]>\n", h, f);
  else ts_text_printf(t, "  out %%y: mem<f32[m, %u]>\n", f);
  ts_text_puts(t, "  part rows axes(m: par m) {\n    finish {\n");
  if (table) ts_text_printf(t, "      %%i = load %%id[0] {at=[m]} : i32[m]\n      %%j = apply(%%i) { (a) -> i64(a) } : i64[m]\n      %%t0 = load %%x[%%j, 0] {at=[_, f]} : %s\n", type);
  else ts_text_printf(t, "      %%t0 = load %%x[0, 0%s] {at=[%s]} : %s\n", heads ? ", 0" : "", dims, type);
  ts_text_printf(t, "      %%gt = load %%g[0] {at=[f]} : f32[f: %u]\n", f);
  unsigned last = 0;
  for (unsigned r = 0; r < reductions; r++, last++)
    ts_text_printf(t, "      %%r%u = reduce %%t%u {over=[f], op=%s} : f32[m]\n      %%t%u = apply(%%t%u, %%r%u) { (a, b) -> %s } : %s\n", r, last, below(2) ? "add" : "max",
                   last + 1, last, r, below(2) ? "exp2(a - b)" : "a / b", type);
  ts_text_printf(t, "      %%w = apply(%%t%u, %%gt) { (a, b) -> a * b } : %s\n      %%v = apply(%%w) { (a) -> %s } : %s\n", last, type, activations[below(ACTIVATIONS)], type);
  ts_text_printf(t, "      store %%y[0, 0%s], %%v {at=[%s]}\n    }\n  }\n}\n", heads ? ", 0" : "", dims);
}

START_TEST(random_kernels) {
  static const int64_t rows[] = {1, 3, 8, 13}, more[] = {131};
  enum { KERNELS = 30 };
  fixture f;
  tally n = {0};
  state = seed * 1000 + (uint64_t)_i;
  begin(&f);
  ts_text t = {0};
  ts_text_puts(&t, "module @random\n");
  for (unsigned i = 0; i < KERNELS; i++) (i % 3 == 2 ? random_rows : random_contract)(&t, i);
  parse(&f, &t);
  for (unsigned i = 0; i < KERNELS; i++) {
    try_kernel(&f, f.m->kernels.data[i], rows, 4, i % LEVELS, &n);
    if (i % 10 == 0) try_kernel(&f, f.m->kernels.data[i], more, 1, (i + 1) % LEVELS, &n);
  }
  printf("random: %u comparisons, %u exact\n", n.runs, n.exact);
  ck_assert_uint_ge(n.exact, n.runs / 2);
  end(&f);
}
END_TEST

// A schedule with one constant changed, one compare widened or one store moved must be noticed.
static bool spoil(ir_module *m, ir_region *r, unsigned *skip) {
  for (ir_op *op = r->first; op; op = op->next) {
    bool real = op->code == IR_OP_const && op->attrs[0].kind == IR_ATTR_REAL && op->attrs[0].real != 0 && isfinite(op->attrs[0].real);
    bool shift = op->code == IR_OP_apply && op->operand_count == 2 && ir_attr_find(op, "fn")->fn->count == 3 &&
                 ir_attr_find(op, "fn")->fn->nodes[2].op == IR_SCALAR_sub && op->results[0]->type->dtype == IR_f32;
    if (real || shift) {
      if (*skip) --*skip;
      else if (real) return op->attrs[0].real *= 1 + 1e-7, true;
      else return ((ir_expr *)ir_attr_find(op, "fn")->fn->nodes)[2].op = IR_SCALAR_add, true;
    }
    for (uint32_t i = 0; i < op->region_count; i++)
      if (spoil(m, op->regions[i], skip)) return true;
  }
  return false;
}

START_TEST(planted_faults) {
  unsigned found = 0;
  for (unsigned skip = 0; skip < 12; skip++) {
    fixture f;
    begin(&f);
    ts_text t = {0};
    llama_text(&shapes[1], &t);
    parse(&f, &t);
    pass_log log = {.arena = &f.arena};
    plan *p;
    if (pass_lower(f.m, &(pass_lower_options){.fuse = true}, &log, &p) != TS_OK) broken(&f, "lower");
    const ir_kernel *k = p->kernels.data[2];   // norm and Q, K, V
    pass_host_target level = {ts_intern_z(&f.names, levels[0].name), levels[0].registers};
    pass_schedules s;
    if (pass_schedule_host(f.m, k, &level, &log, &s) != TS_OK) broken(&f, "schedule");
    unsigned left = skip;
    if (spoil(f.m, s.variants.data[0].kernel->body, &left)) {
      drive_trial trial;
      bool ran;
      if (drive_trial_open(&trial, f.m, k, 24, seed) != TS_OK) broken(&f, "portable");
      ck_assert_int_eq(drive_trial_run(&trial, &s.variants.data[0], &ran), TS_MISMATCH);
      ck_assert(ran && ts_diags_has(&f.diags, &diag_drive_differs));
      drive_trial_close(&trial);
      found++;
    }
    end(&f);
  }
  ck_assert_uint_ge(found, 6);
}
END_TEST

int main(void) {
  seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 11;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  Suite *s = suite_create("passes_eval");
  TCase *c = tcase_create("kernels");
  tcase_set_timeout(c, 240);
  tcase_add_loop_test(c, llama_kernels, 0, (int)(sizeof shapes / sizeof *shapes));
  tcase_add_loop_test(c, random_kernels, 0, 4);
  tcase_add_test(c, planted_faults);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
