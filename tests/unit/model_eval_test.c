// The evaluator on the real SmolLM2-135M against float64 logits that other people's code made (shared data): ideal agrees,
// typed (f32) sets the bound for compiled artifacts, and faults planted in the model exceed that bound.
#include "frontend/frontend.h"
#include "frontend/npy.h"
#include "ir/eval.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { VOCAB = 49152, PROMPTS = 3, LONGEST = 32, STEPS = 4 };

static ts_arena arena;
static ts_interner names;
static ts_diags diags;
static fe_model *model;
static const char *shared;
static int32_t ids[PROMPTS][LONGEST];
static int64_t lengths[PROMPTS];
static int greedy[PROMPTS][STEPS];

static void explain(ts_status s, const char *what) {
  if (s == TS_OK) return;
  ts_text t = {0};
  ts_diags_print(&diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ck_abort_msg("%s", what);
}

static const float *logits_of(const char *file, fe_npy *n) {
  explain(fe_npy_open(&arena, ts_arena_printf(&arena, "%s/data/smollm2/%s", shared, file), &diags, n), file);
  ck_assert(n->type == IR_f32);
  return n->data;
}

static bool open_all(void) {
  const char *gguf = getenv("TESSERA_SMOLLM2"), *search = "specs";
  shared = getenv("TESSERA_SHARED") ? getenv("TESSERA_SHARED") : "../shared";
  ts_arena_init(&arena);
  ts_interner_init(&names, &arena);
  ts_diags_init(&diags);
  char *golden = ts_arena_printf(&arena, "%s/data/smollm2/golden_exact.json", shared);
  if (!gguf || access(gguf, R_OK) != 0 || access(golden, R_OK) != 0) {
    fprintf(stderr, "skipped: SmolLM2-135M (TESSERA_SMOLLM2: its GGUF) or %s is absent\n", golden);
    return false;
  }
  fe_options o = {.search_paths = &search, .search_path_count = 1};
  explain(fe_load(&arena, &names, &diags, gguf, &o, &model), "load");
  explain(ir_verify_module(model->module), "verify");
  json_t *root = json_load_file(golden, 0, NULL), *all = json_object_get(root, "prompts");
  static const char *const prompts[] = {"a", "b", "d"};
  for (int p = 0; p < PROMPTS; p++) {
    json_t *list = json_object_get(json_object_get(all, prompts[p]), "ids"),
           *next = json_object_get(json_object_get(all, prompts[p]), "greedy_ids");
    lengths[p] = (int64_t)json_array_size(list);
    ck_assert(lengths[p] > 0 && lengths[p] <= LONGEST);
    for (int i = 0; i < lengths[p]; i++) ids[p][i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    for (int i = 0; i < STEPS; i++) greedy[p][i] = (int)json_integer_value(json_array_get(next, (size_t)i));
  }
  json_decref(root);
  return true;
}

static void close_all(void) {
  fe_unload(model);
  ts_diags_deinit(&diags);
  ts_interner_deinit(&names);
  ts_arena_deinit(&arena);
}

static const ir_function *function(const char *name) {
  for (size_t i = 0; i < model->module->functions.count; i++)
    if (!strcmp(model->module->functions.data[i]->name, name)) return model->module->functions.data[i];
  ck_abort_msg("no function %s", name);
  return NULL;
}

// Runs a function on `batch` rows of `seq` tokens. The caller frees the data.
static ir_eval_tensor run(const char *name, ir_domain d, ir_eval_states *st, int64_t batch, int64_t seq, const int32_t *tokens,
                          const int64_t *rows) {
  ir_eval_tensor in = {.dtype = IR_i32, .rank = 2, .shape = {batch, seq}}, out[4];
  in.data = ts_new_array(&arena, ir_cell, (size_t)(batch * seq));
  for (int64_t i = 0; i < batch * seq; i++) in.data[i].i = tokens[i];
  const int64_t **own = ts_new_array(&arena, const int64_t *, model->module->dims.count);
  for (size_t i = 0; i < model->module->dims.count; i++) own[i] = model->module->dims.data[i].ragged_over ? rows : NULL;
  ir_eval_call call = {.domain = d, .states = st, .lengths = own};
  explain(ir_eval_function(model->module, function(name), &call, &in, 1, out), name);
  return out[0];
}

static double worst(const ir_cell *got, const float *wanted, int64_t n) {
  double e = 0;
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(got[i].r - (double)wanted[i]) <= e)) e = fabs(got[i].r - (double)wanted[i]);
  return e;
}

static int largest(const ir_cell *x) {
  int at = 0;
  for (int i = 1; i < VOCAB; i++)
    if (x[i].r > x[at].r) at = i;
  return at;
}

// All prompts as one ragged batch, then some steps of decoding from the states it left.
START_TEST(logits) {
  if (!open_all()) return;
  static const char *const files[] = {"a_last_logits_exact_f64math.npy", "b_last_logits_exact_f64math.npy",
                                      "d_last_logits_exact_f64math.npy"};
  ir_eval_states *st = ir_eval_states_create(model->module, IR_DOMAIN_IDEAL);
  ir_eval_tensor out = run("prefill", IR_DOMAIN_IDEAL, st, PROMPTS, LONGEST, &ids[0][0], lengths);
  fe_npy n;
  for (int p = 0; p < PROMPTS; p++) {
    double e = worst(out.data + p * VOCAB, logits_of(files[p], &n), VOCAB);
    printf("ideal, prompt %d: %.2g\n", p, e);
    ck_assert_msg(e < 5e-6, "prompt %d: %g", p, e);   // the stored logits are f32
    fe_npy_close(&n);
  }
  static const int64_t one[PROMPTS] = {1, 1, 1};
  for (int s = 0; s < STEPS; s++) {
    int32_t next[PROMPTS];
    for (int p = 0; p < PROMPTS; p++) {
      ck_assert_int_eq(largest(out.data + p * VOCAB), greedy[p][s]);
      next[p] = greedy[p][s];
    }
    free(out.data);
    out = run("decode", IR_DOMAIN_IDEAL, st, PROMPTS, 1, next, one);
  }
  free(out.data);
  ir_eval_states_destroy(st);
  close_all();
}
END_TEST

static double error_of(int p, ir_domain d) {
  static const char *const files[] = {"a_last_logits_exact_f64math.npy", "b_last_logits_exact_f64math.npy", "d_last_logits_exact_f64math.npy"};
  fe_npy n;
  ir_eval_tensor out = run("prefill", d, NULL, 1, lengths[p], ids[p], &lengths[p]);
  double e = worst(out.data, logits_of(files[p], &n), VOCAB);
  fe_npy_close(&n);
  free(out.data);
  return e;
}

static void set_real(ir_opcode code, const char *attribute, double v) {
  for (ir_op *op = function("prefill")->body->first; op; op = op->next)
    for (uint32_t i = 0; op->code == code && i < op->attr_count; i++)
      if (!strcmp(op->attrs[i].name, attribute)) op->attrs[i].real = v;
}

// One scale of one matrix, doubled, in a copy of its bytes.
static void wrong_scale(void) {
  for (size_t i = 0; i < model->module->weights.count; i++) {
    ir_weight *w = (ir_weight *)model->module->weights.data[i];
    if (w->source != IR_SOURCE_DATA || strcmp(w->encoding->name, "q4_1") != 0 || w->rank != 2) continue;
    unsigned char *copy = ts_arena_copy(&arena, w->planes[0], (size_t)w->bound.bytes, 64);
    copy[20 * (w->bound.bytes / 40) + 1] += 4;   // the exponent of an f16, in the middle
    w->planes[0] = copy;
    return;
  }
}

// The bound for whole models is ten times the error of the f32 evaluator; small faults must exceed it.
START_TEST(bound_and_planted_faults) {
  if (!open_all()) return;
  const int p = 1;
  double bound = 10 * error_of(p, IR_DOMAIN_TYPED), e, theta = 0;
  printf("typed: %.2g, bound %.2g\n", bound / 10, bound);
  ck_assert_msg(bound < 5e-3, "%g", bound);
  set_real(IR_OP_rms_norm, "eps", 1e-6);
  printf("eps 1e-6: %.2g\n", e = error_of(p, IR_DOMAIN_IDEAL));
  ck_assert(e > bound);
  set_real(IR_OP_rms_norm, "eps", 1e-5);
  for (ir_op *op = function("prefill")->body->first; op && theta == 0; op = op->next)
    if (op->code == IR_OP_rope) theta = ir_attr_real(op, "theta", 0);
  set_real(IR_OP_rope, "theta", theta * 0.999);
  printf("theta times 0.999: %.2g\n", e = error_of(p, IR_DOMAIN_IDEAL));
  ck_assert(e > bound);
  set_real(IR_OP_rope, "theta", theta);
  wrong_scale();
  printf("one scale doubled: %.2g\n", e = error_of(p, IR_DOMAIN_IDEAL));
  ck_assert(e > bound);
  close_all();
}
END_TEST

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  Suite *s = suite_create("model_eval");
  TCase *c = tcase_create("smollm2");
  tcase_add_test(c, logits);
  tcase_add_test(c, bound_and_planted_faults);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
