// Lowering and host schedules against the tensor IR they came from: a small Llama, ragged and over several calls, in the ideal
// and typed domains, for every encoding and every host level; and both against plain loops.
#include "passes/lower.h"
#include "tests/unit/llama_text.h"
#include "tests/unit/plan_eval.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static uint64_t seed;

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
  plan *plan;
} fixture;

static void broken(fixture *f, const char *what) {
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("%s (TEST_SEED=%llu)", what, (unsigned long long)seed);
}

static void begin(fixture *f, const llama_shape *s, bool fuse) {
  *f = (fixture){0};
  ts_arena_init(&f->arena);
  ts_interner_init(&f->names, &f->arena);
  ts_diags_init(&f->diags);
  f->m = ir_module_create(&f->arena, &f->names, &f->diags);
  ts_text t = {0};
  llama_text(s, &t);
  if (ir_parse_module(f->m, ts_intern_z(&f->names, "llama"), ts_text_str(&t)) != TS_OK) broken(f, "parse");
  ts_text_deinit(&t);
  if (ir_verify_module(f->m) != TS_OK) broken(f, "verify");
  llama_fill(f->m, seed);
  pass_log log = {.arena = &f->arena};
  if (pass_lower(f->m, &(pass_lower_options){fuse}, &log, &f->plan) != TS_OK) broken(f, "lower");
}

static void end(fixture *f) {
  ir_module_destroy(f->m);
  ts_diags_deinit(&f->diags);
  ts_interner_deinit(&f->names);
  ts_arena_deinit(&f->arena);
}

enum { B = 2, CALLS = 3 };
static const int64_t calls[CALLS][B] = {{9, 12}, {1, 1}, {4, 2}};

static ir_eval_tensor tokens(fixture *f, const llama_shape *s, int64_t seq, unsigned salt) {
  ir_eval_tensor t = {.dtype = IR_i32, .rank = 2, .shape = {B, seq}};
  t.data = ts_new_array(&f->arena, ir_cell, (size_t)(B * seq));
  for (int64_t i = 0; i < B * seq; i++) t.data[i].i = (int64_t)((seed + salt * 131 + (uint64_t)i * 2654435761u) >> 3) % s->vocab;
  return t;
}

static double difference(const ir_eval_tensor *a, const ir_eval_tensor *b) {
  double most = 0, largest = 1e-30;
  int64_t n = 1;
  for (unsigned d = 0; d < a->rank; d++) n *= a->shape[d];
  for (int64_t i = 0; i < n; i++) {
    double e = fabs(a->data[i].r - b->data[i].r);
    if (!(e <= most)) most = e;
    largest = fmax(largest, fabs(b->data[i].r));
  }
  return most / largest;
}

// Tensor IR and the plan side by side over several calls; returns the largest difference relative to the largest logit.
static double compare(fixture *f, const llama_shape *s, ir_domain d, const pass_host_target *target, uint64_t order,
                      unsigned *variants) {
  plan_world w;
  plan_world_open(&w, f->plan, d, target, B);
  w.order = order;
  ir_eval_states *st = ir_eval_states_create(f->m, d);
  double most = 0;
  for (int c = 0; c < CALLS; c++) {
    int64_t seq = calls[c][0] > calls[c][1] ? calls[c][0] : calls[c][1];
    ir_eval_tensor in = tokens(f, s, seq, (unsigned)c), a, b;
    const int64_t *const lengths[] = {NULL, calls[c]};
    ir_eval_call call = {.domain = d, .states = st, .lengths = lengths};
    if (ir_eval_function(f->m, f->m->functions.data[0], &call, &in, 1, &a) != TS_OK) broken(f, "tensor IR");
    if (plan_run(&w, f->plan->functions.data[0], &in, calls[c], &b) != TS_OK) broken(f, "plan");
    double e = difference(&b, &a);
    if (!(e <= most)) most = e;
    free(a.data), free(b.data);
  }
  if (variants) *variants |= w.variants_run;
  ir_eval_states_destroy(st);
  plan_world_close(&w);
  return most;
}

static const llama_shape shapes[] = {
  {64, 4, 2, 16, 96, 71, 40, "q4_1", "half", NULL},
  {64, 4, 2, 16, 96, 71, 40, "q8_0", "adjacent", NULL},
  {32, 4, 4, 8, 64, 33, 40, "f32", "adjacent", NULL},
  {64, 4, 1, 16, 96, 71, 40, "q4_0", "half", NULL},
};

START_TEST(tensor_ir_is_the_plain_loops) {
  fixture f;
  const llama_shape *s = &shapes[_i];
  begin(&f, s, true);
  ir_eval_tensor in = tokens(&f, s, 9, 0), out;
  int32_t ids[9];
  const int64_t lengths[B] = {9, 5}, *const dims[] = {NULL, lengths};
  ir_eval_call call = {.domain = IR_DOMAIN_IDEAL, .lengths = dims};
  if (ir_eval_function(f.m, f.m->functions.data[0], &call, &in, 1, &out) != TS_OK) broken(&f, "tensor IR");
  for (int b = 0; b < B; b++) {
    for (int i = 0; i < lengths[b]; i++) ids[i] = (int32_t)in.data[b * 9 + i].i;
    double *wanted = llama_oracle(f.m, s, ids, (int)lengths[b]);
    for (int v = 0; v < s->vocab; v++)
      ck_assert_msg(fabs(out.data[b * s->vocab + v].r - wanted[v]) < 1e-10 * (1 + fabs(wanted[v])), "entry %d logit %d", b, v);
    free(wanted);
  }
  free(out.data);
  end(&f);
}
END_TEST

START_TEST(portable_kernels) {
  for (int fuse = 0; fuse < 2; fuse++) {
    fixture f;
    begin(&f, &shapes[_i], fuse);
    double ideal = compare(&f, &shapes[_i], IR_DOMAIN_IDEAL, NULL, 0, NULL),
           typed = compare(&f, &shapes[_i], IR_DOMAIN_TYPED, NULL, 0, NULL);
    ck_assert_msg(ideal < 1e-6, "ideal: %g", ideal);   // constants are f32
    ck_assert_msg(typed < 1e-4, "typed: %g", typed);
    end(&f);
  }
}
END_TEST

START_TEST(host_schedules) {
  static const struct { const char *name; unsigned registers; } levels[] = {
    {"host.avx2", 16}, {"host.avx512", 32}, {"host.avx512_vnni", 32}};
  unsigned variants = 0;
  for (int l = 0; l < 3; l++) {
    fixture f;
    begin(&f, &shapes[_i], true);
    pass_host_target t = {ts_intern_z(&f.names, levels[l].name), levels[l].registers};
    double ideal = compare(&f, &shapes[_i], IR_DOMAIN_IDEAL, &t, 0, &variants),
           typed = compare(&f, &shapes[_i], IR_DOMAIN_TYPED, &t, seed | 1, &variants);
    ck_assert_msg(ideal < 1e-6, "%s, ideal: %g", levels[l].name, ideal);
    ck_assert_msg(typed < 1e-4, "%s, typed: %g", levels[l].name, typed);
    end(&f);
  }
  ck_assert_uint_eq(variants, 3);   // both prefill and decode ran
}
END_TEST

static bool same(const ir_eval_tensor *a, const ir_eval_tensor *b) {
  int64_t n = 1;
  for (unsigned d = 0; d < a->rank; d++) n *= a->shape[d];
  return memcmp(a->data, b->data, (size_t)n * sizeof(ir_cell)) == 0;
}

// In the prime field nothing may differ: tensor IR and portable kernels over the whole model, every kernel and its schedule.
START_TEST(exact_in_the_prime_field) {
  const llama_shape *s = &shapes[_i];
  for (int scheduled = 0; scheduled < 2; scheduled++) {
    fixture f;
    plan_world w;
    begin(&f, s, true);
    pass_host_target t = {ts_intern_z(&f.names, "host.avx512"), 32};
    plan_world_open(&w, f.plan, IR_DOMAIN_MODP, scheduled ? &t : NULL, B);
    w.both = true;
    w.order = seed | 1;
    w.unscale = ir_eval_real(IR_DOMAIN_MODP, IR_f32, 1 / sqrt(s->head_dim) * M_LOG2E).p;
    ir_eval_states *st = ir_eval_states_create(f.m, IR_DOMAIN_MODP);
    for (int c = 0; c < CALLS; c++) {
      int64_t seq = calls[c][0] > calls[c][1] ? calls[c][0] : calls[c][1];
      ir_eval_tensor in = tokens(&f, s, seq, (unsigned)c), a, b;
      const int64_t *const lengths[] = {NULL, calls[c]};
      ir_eval_call call = {.domain = IR_DOMAIN_MODP, .states = st, .lengths = lengths};
      if (ir_eval_function(f.m, f.m->functions.data[0], &call, &in, 1, &a) != TS_OK) broken(&f, "tensor IR");
      if (plan_run(&w, f.plan->functions.data[0], &in, calls[c], &b) != TS_OK) broken(&f, "plan");
      ck_assert_msg(same(&a, &b), "call %d, %s", c, scheduled ? "scheduled" : "portable");
      free(a.data), free(b.data);
    }
    if (scheduled) ck_assert_uint_ge(w.kernels_compared, 3 * f.plan->functions.data[0]->calls.count);
    ir_eval_states_destroy(st);
    plan_world_close(&w);
    end(&f);
  }
}
END_TEST

START_TEST(planted_faults_are_found) {
  fixture f;
  plan_world w;
  begin(&f, &shapes[0], true);
  pass_host_target t = {ts_intern_z(&f.names, "host.avx2"), 16};
  plan_world_open(&w, f.plan, IR_DOMAIN_MODP, &t, B);
  w.both = w.plant = true;
  w.unscale = 1;
  ir_eval_tensor in = tokens(&f, &shapes[0], 9, 0), out;
  ck_assert(plan_run(&w, f.plan->functions.data[0], &in, (int64_t[]){9, 4}, &out) != TS_OK);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[f.diags.list.count - 1].text, "and its schedule differ"));
  plan_world_close(&w);
  end(&f);
}
END_TEST

int main(void) {
  seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 5;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  Suite *s = suite_create("plan_eval");
  TCase *c = tcase_create("plans");
  int n = (int)(sizeof shapes / sizeof *shapes);
  tcase_add_loop_test(c, tensor_ir_is_the_plain_loops, 0, n);
  tcase_add_loop_test(c, portable_kernels, 0, n);
  tcase_add_loop_test(c, host_schedules, 0, n);
  tcase_add_loop_test(c, exact_in_the_prime_field, 0, n);
  tcase_add_test(c, planted_faults_are_found);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
