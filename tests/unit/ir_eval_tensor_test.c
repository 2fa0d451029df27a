// Evaluator of tensor IR against plain C: every op, states over several calls, ragged batches, weights, the prime field.
#include "ir/eval.h"
#include "ir/weights.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} fixture;

static uint64_t state = 1;
static uint32_t rnd(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}
static double real(void) { return (double)(float)((double)rnd(2001) / 1000.0 - 1.0); }

static void open_module(fixture *f) {
  ts_arena_init(&f->arena);
  ts_interner_init(&f->names, &f->arena);
  ts_diags_init(&f->diags);
  f->m = ir_module_create(&f->arena, &f->names, &f->diags);
}

static void show(fixture *f) {
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
}

static void add_text(fixture *f, const char *text) {
  ts_status s = ir_parse_module(f->m, ts_intern_z(&f->names, "t"), ts_str_of(text));
  if (s == TS_OK) s = ir_verify_module(f->m);
  if (s != TS_OK) show(f);
  ck_assert_msg(s == TS_OK, "%s", text);
}

static void end(fixture *f) {
  ir_module_destroy(f->m);
  ts_diags_deinit(&f->diags);
  ts_interner_deinit(&f->names);
  ts_arena_deinit(&f->arena);
}

static ir_eval_tensor tensor(fixture *f, ir_dtype t, unsigned rank, const int64_t *shape) {
  ir_eval_tensor x = {.dtype = t, .rank = rank};
  int64_t n = 1;
  for (unsigned i = 0; i < rank; i++) n *= x.shape[i] = shape[i];
  x.data = ts_new_array(&f->arena, ir_cell, (size_t)n + 1);
  for (int64_t i = 0; i < n; i++) {
    if (ir_is_float(t)) x.data[i].r = real();
    else x.data[i].i = rnd(5);
  }
  return x;
}

#define SHAPE(...) (int64_t[]){__VA_ARGS__}

// Runs one op on x: tensor<f32[batch, seq, 8]>, i: tensor<i32[batch, seq]>, q: tensor<f32[batch, seq, 2, 8]> and weights.
enum { B = 2, S = 3 };
typedef struct case_of {
  const char *ops, *type;    // result %r and its type
} case_of;

static ir_cell weight_w[4 * 8], weight_g[8], weight_b[4], weight_h[8];

static void add_weight(fixture *f, const char *name, unsigned rank, const int64_t *shape, ir_cell *values) {
  int64_t n = 1;
  for (unsigned i = 0; i < rank; i++) n *= shape[i];
  float *data = ts_new_array(&f->arena, float, (size_t)n);
  for (int64_t i = 0; i < n; i++) values[i].r = data[i] = (float)real();
  ir_weight *w;
  ck_assert(ir_weight_of_data(&f->arena, ts_intern_z(&f->names, name), ir_encoding_plain(IR_f32), rank, shape, data,
                              (size_t)n * 4, (ts_loc){0}, &f->diags, &w) == TS_OK);
  ts_vec_push(&f->arena, &f->m->weights, w);
}

static ir_eval_tensor inputs[3];

// The caller frees the result's data.
static ir_eval_tensor run(fixture *f, const char *ops, const char *type, ir_domain d) {
  static const char *const form =
    "dim batch 1..4\ndim seq 1..32 per batch\n"
    "func @f(%%x: tensor<f32[batch, seq, 8]>, %%i: tensor<i32[batch, seq]>, %%q: tensor<f32[batch, seq, 2, 8]>) -> (r: %s) {\n"
    "  %%w = weight \"w\" : tensor<f32[4, 8]>\n  %%g = weight \"g\" : tensor<f32[8]>\n  %%b = weight \"b\" : tensor<f32[4]>\n"
    "  %%h = weight \"h\" : tensor<f32[8]>\n%s\n  return %%r\n}\n";
  open_module(f);
  add_weight(f, "w", 2, SHAPE(4, 8), weight_w);
  add_weight(f, "g", 1, SHAPE(8), weight_g);
  add_weight(f, "b", 1, SHAPE(4), weight_b);
  add_weight(f, "h", 1, SHAPE(8), weight_h);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  add_text(f, ts_arena_printf(&f->arena, form, type, ops));
#pragma GCC diagnostic pop
  inputs[0] = tensor(f, IR_f32, 3, SHAPE(B, S, 8));
  inputs[1] = tensor(f, IR_i32, 2, SHAPE(B, S));
  for (int i = 0; i < B * S; i++) inputs[1].data[i].i %= 4;
  inputs[2] = tensor(f, IR_f32, 4, SHAPE(B, S, 2, 8));
  if (d == IR_DOMAIN_MODP)
    for (int k = 0; k < 3; k += 2)
      for (int i = 0; i < B * S * (k ? 16 : 8); i++) inputs[k].data[i].p = ir_modp_of_real(inputs[k].data[i].r);
  ir_eval_tensor out;
  static const int64_t lengths[B] = {3, 2};
  const int64_t *const dims[] = {NULL, lengths};
  ir_eval_call call = {.domain = d, .lengths = dims};
  ts_status s = ir_eval_function(f->m, f->m->functions.data[0], &call, inputs, 3, &out);
  if (s != TS_OK) show(f);
  ck_assert(s == TS_OK);
  return out;
}

#define X(b, s, k) (inputs[0].data[((b) * S + (s)) * 8 + (k)].r)
#define I(b, s) (inputs[1].data[(b) * S + (s)].i)
#define Q(b, s, h, k) (inputs[2].data[(((b) * S + (s)) * 2 + (h)) * 8 + (k)].r)
#define W(n, k) (weight_w[(n) * 8 + (k)].r)

typedef double oracle(int64_t i, const ir_eval_tensor *out);

static void expect(const char *ops, const char *type, oracle *fn) {
  for (int d = 0; d < 2; d++) {
    fixture f;
    ir_eval_tensor out = run(&f, ops, type, d ? IR_DOMAIN_TYPED : IR_DOMAIN_IDEAL);
    int64_t n = 1;
    for (unsigned i = 0; i < out.rank; i++) n *= out.shape[i];
    for (int64_t i = 0; i < n; i++) {
      double wanted = fn(i, &out), got = ir_is_float(out.dtype) ? out.data[i].r : (double)out.data[i].i;
      ck_assert_msg(fabs(got - wanted) <= (d ? 3e-6 : 1e-12) * (1 + fabs(wanted)), "%s\nelement %lld: %.17g, wanted %.17g", ops,
                    (long long)i, got, wanted);
      if (d && ir_is_float(out.dtype)) ck_assert(got == ir_round(out.dtype, got));
    }
    free(out.data);
    end(&f);
  }
}

#define AT3(i) int64_t b = (i) / (S * 8), s = (i) / 8 % S, k = (i) % 8
static double o_map(int64_t i, const ir_eval_tensor *o) { (void)o; AT3(i); return X(b, s, k) * tanh(weight_g[k].r) + 1.5; }
static double o_linear(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  double a = weight_b[i % 4].r;
  for (int k = 0; k < 8; k++) a += X(i / 4 / S, i / 4 % S, k) * W(i % 4, k);
  return a;
}
static double o_matmul(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  double a = 0;
  for (int k = 0; k < 8; k++) a += X(i / 9, i / 3 % 3, k) * X(i / 9, i % 3, k);
  return a;
}
static double o_gather(int64_t i, const ir_eval_tensor *o) { (void)o; AT3(i); return W(I(b, s), k); }
static double norm(int64_t i, bool layer) {
  AT3(i);
  double mean = 0, v = 0;
  for (int j = 0; j < 8; j++) mean += layer ? X(b, s, j) / 8 : 0;
  for (int j = 0; j < 8; j++) v += (X(b, s, j) - mean) * (X(b, s, j) - mean) / 8;
  return (X(b, s, k) - mean) / sqrt(v + 0.25) * weight_g[k].r + (layer ? weight_h[k].r : 0);
}
static double o_rms(int64_t i, const ir_eval_tensor *o) { (void)o; return norm(i, false); }
static double o_layer(int64_t i, const ir_eval_tensor *o) { (void)o; return norm(i, true); }
static double o_softmax(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  AT3(i);
  double l = 0;
  for (int j = 0; j < 8; j++) l += exp(X(b, s, j));
  return exp(X(b, s, k)) / l;
}
static double o_mean(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  return (X(i / 8, 0, i % 8) + X(i / 8, 1, i % 8) + X(i / 8, 2, i % 8)) / 3;
}
static double o_sum(int64_t i, const ir_eval_tensor *o) { (void)o; return X(0, i / 8, i % 8) + X(1, i / 8, i % 8); }
static double o_max(int64_t i, const ir_eval_tensor *o) { (void)o; return fmax(X(0, i / 8, i % 8), X(1, i / 8, i % 8)); }
static double o_min(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  double r = INFINITY;
  for (int k = 0; k < 8; k++) r = fmin(r, X(i / S, i % S, k));
  return r;
}
static double rope(int64_t i, bool half) {
  int64_t k = i % 8, h = i / 8 % 2, s = i / 16 % S, b = i / 16 / S, pair = half ? k % 4 : k / 2;
  int64_t u = half ? pair : 2 * pair, v = half ? pair + 4 : u + 1;
  double angle = (double)I(b, s) * pow(100, -2.0 * (double)pair / 8), x = Q(b, s, h, u), y = Q(b, s, h, v);
  return k == u ? x * cos(angle) - y * sin(angle) : x * sin(angle) + y * cos(angle);
}
static double o_rope_half(int64_t i, const ir_eval_tensor *o) { (void)o; return rope(i, true); }
static double o_rope_adjacent(int64_t i, const ir_eval_tensor *o) { (void)o; return rope(i, false); }
static double o_reshape(int64_t i, const ir_eval_tensor *o) { (void)o; return inputs[0].data[i].r; }
static double o_slice(int64_t i, const ir_eval_tensor *o) { (void)o; return X(i / 3 / S, i / 3 % S, 2 + i % 3); }
static double o_concat(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  int64_t k = i % 11;
  return k < 8 ? X(i / 11 / S, i / 11 % S, k) : X(i / 11 / S, i / 11 % S, k - 6);
}
static double o_transpose(int64_t i, const ir_eval_tensor *o) { (void)o; return X(i / S % B, i % S, i / S / B); }
static double o_last(int64_t i, const ir_eval_tensor *o) { (void)o; return X(i / 8, i / 8 == 0 ? 2 : 1, i % 8); }
static double o_count(int64_t i, const ir_eval_tensor *o) { (void)o; return (double)(i % 8) * B + 0.5; }
static double o_attend(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  int64_t k = i % 8, h = i / 8 % 2, s = i / 16 % S, b = i / 16 / S;
  double l = 0, a = 0;
  for (int64_t t = 0; t <= s; t++) {
    double x = 0;
    for (int j = 0; j < 8; j++) x += Q(b, s, h, j) * X(b, t, j);
    l += exp(x * 0.5);
    a += exp(x * 0.5) * X(b, t, k);
  }
  return a / l;
}

START_TEST(dense_ops) {
  expect("%r = map(%x, %g) { (a, b) -> a * tanh(b) + 1.5 } : tensor<f32[batch, seq, 8]>", "tensor<f32[batch, seq, 8]>", o_map);
  expect("%r = linear %x, %w, %b : tensor<f32[batch, seq, 4]>", "tensor<f32[batch, seq, 4]>", o_linear);
  expect("%t = transpose_t %x {order=[0, 2, 1]} : tensor<f32[batch, 8, seq]>\n%r = matmul %x, %t : tensor<f32[batch, seq, seq]>",
         "tensor<f32[batch, seq, seq]>", o_matmul);
  expect("%r = gather %w, %i : tensor<f32[batch, seq, 8]>", "tensor<f32[batch, seq, 8]>", o_gather);
  expect("%r = rms_norm %x, %g {eps=0.25} : tensor<f32[batch, seq, 8]>", "tensor<f32[batch, seq, 8]>", o_rms);
  expect("%r = layer_norm %x, %g, %h {eps=0.25} : tensor<f32[batch, seq, 8]>", "tensor<f32[batch, seq, 8]>", o_layer);
  expect("%r = softmax %x : tensor<f32[batch, seq, 8]>", "tensor<f32[batch, seq, 8]>", o_softmax);
  expect("%r = reduce_t %x {op=mean, axis=1} : tensor<f32[batch, 8]>", "tensor<f32[batch, 8]>", o_mean);
  expect("%r = reduce_t %x {op=add, axis=0} : tensor<f32[seq, 8]>", "tensor<f32[seq, 8]>", o_sum);
  expect("%r = reduce_t %x {op=max, axis=0} : tensor<f32[seq, 8]>", "tensor<f32[seq, 8]>", o_max);
  expect("%r = reduce_t %x {op=min, axis=2} : tensor<f32[batch, seq]>", "tensor<f32[batch, seq]>", o_min);
  expect("%r = rope %q, %i {theta=100.0, pairs=half} : tensor<f32[batch, seq, 2, 8]>", "tensor<f32[batch, seq, 2, 8]>",
         o_rope_half);
  expect("%r = rope %q, %i {theta=100.0, pairs=adjacent} : tensor<f32[batch, seq, 2, 8]>", "tensor<f32[batch, seq, 2, 8]>",
         o_rope_adjacent);
}
END_TEST

START_TEST(moving_ops) {
  expect("%r = reshape %x : tensor<f32[batch, seq, 2, 4]>", "tensor<f32[batch, seq, 2, 4]>", o_reshape);
  expect("%r = slice_t %x {axis=2, at=2, count=3} : tensor<f32[batch, seq, 3]>", "tensor<f32[batch, seq, 3]>", o_slice);
  expect(
      "%s = slice_t %x {axis=2, at=2, count=3} : tensor<f32[batch, seq, 3]>\n%r = concat_t %x, %s {axis=2} : tensor<f32[batch, "
      "seq, 11]>",
      "tensor<f32[batch, seq, 11]>", o_concat);
  expect("%r = transpose_t %x {order=[2, 0, 1]} : tensor<f32[8, batch, seq]>", "tensor<f32[8, batch, seq]>", o_transpose);
  expect("%r = last %x {over=seq} : tensor<f32[batch, 8]>", "tensor<f32[batch, 8]>", o_last);
  expect("%c = iota_t 0 : tensor<i64[8]>\n%n = dim batch : tensor<i64>\n%l = literal 0.5 : tensor<f32>\n"
         "%r = map(%c, %n, %l) { (a, b, c) -> f32(a * b) + c } : tensor<f32[8]>", "tensor<f32[8]>", o_count);
  expect(
      "%k = reshape %x : tensor<f32[batch, seq, 1, 8]>\n%r = attend %q, %k, %k {mask=causal, scale=0.5} : tensor<f32[batch, seq, "
      "2, 8]>",
      "tensor<f32[batch, seq, 2, 8]>", o_attend);
}
END_TEST

// Activations through 8-bit codes: what a block's codes and scale give.
static double o_quantized(int64_t i, const ir_eval_tensor *o) {
  (void)o;
  double a = 0, top = 0;
  int64_t b = i / 4 / S, s = i / 4 % S;
  for (int k = 0; k < 8; k++) top = fmax(top, fabs(X(b, s, k)));
  double scale = top / 127;
  for (int k = 0; k < 8; k++) a += nearbyint(X(b, s, k) / scale) * scale * W(i % 4, k);
  return a;
}
START_TEST(quantized_linear) {
  expect("%r = linear %x, %w {activations=s8_block32} : tensor<f32[batch, seq, 4]>", "tensor<f32[batch, seq, 4]>", o_quantized);
}
END_TEST

START_TEST(prime_field) {
  fixture f;
  ir_eval_tensor out = run(&f, "%r = linear %x, %w, %b : tensor<f32[batch, seq, 4]>", "tensor<f32[batch, seq, 4]>",
                           IR_DOMAIN_MODP);
  for (int i = 0; i < B * S * 4; i++) {
    uint64_t a = 0;
    for (int k = 8; k-- > 0;) a = ir_modp_add(a, ir_modp_mul(inputs[0].data[i / 4 * 8 + k].p, ir_modp_of_real(W(i % 4, k))));
    ck_assert(out.data[i].p == ir_modp_add(a, ir_modp_of_real(weight_b[i % 4].r)));
  }
  free(out.data);
  end(&f);
}
END_TEST

// ---- states --------------------------------------------------------------------------------------------------------------
static const char *const stateful =
    "dim batch 1..4\ndim seq 1..32 per batch\nstate @kv list batch length(10) page 4 { k: f32[2, 2, 8], v: f32[2, 2, 8] }\n"
    "func @step(%x: tensor<f32[batch, seq, 4, 8]>) -> (y: tensor<f32[batch, seq, 4, 8]>, p: tensor<i32[batch, seq]>) advances(kv "
    "by seq) {\n"
    "  %s = state kv : state<kv>\n  %p = positions %s {over=seq} : tensor<i32[batch, seq]>\n"
    "  %k = slice_t %x {axis=2, at=0, count=2} : tensor<f32[batch, seq, 2, 8]>\n  %v = slice_t %x {axis=2, at=2, count=2} : "
    "tensor<f32[batch, seq, 2, 8]>\n"
    "  append %s, %k, %v {layer=1, fields=[k, v], over=seq}\n"
    "  %y = attend %x, %s {mask=causal, scale=0.5, layer=1, over=seq} : tensor<f32[batch, seq, 4, 8]>\n  return %y, %p\n}\n";

static double seen[B][10][32];   // rows by entry

static void check_rows(const ir_eval_tensor *y, int b, int64_t past, int64_t n, int64_t seq) {
  for (int64_t i = 0; i < seq; i++)
    for (int h = 0; h < 4; h++)
      for (int e = 0; e < 8; e++) {
        double l = 0, a = 0, got = y->data[((b * seq + i) * 4 + h) * 8 + e].r;
        for (int64_t t = 0; t <= past + i && i < n; t++) {
          double s = 0;
          for (int d = 0; d < 8; d++) s += seen[b][past + i][h * 8 + d] * seen[b][t][h / 2 * 8 + d];
          l += exp(0.5 * s);
          a += exp(0.5 * s) * seen[b][t][16 + h / 2 * 8 + e];
        }
        ck_assert_msg(fabs(got - (i < n ? a / l : 0)) < 1e-12, "entry %d row %lld", b, (long long)i);
      }
}

START_TEST(states_over_calls) {
  fixture f;
  open_module(&f);
  add_text(&f, stateful);
  const ir_function *step = f.m->functions.data[0];
  ir_eval_states *st = ir_eval_states_create(f.m, IR_DOMAIN_IDEAL);
  static const int64_t calls[4][B] = {{4, 2}, {1, 1}, {3, 4}, {2, 1}};
  int64_t past[B] = {0, 0};
  ts_sym kv = ts_intern_z(&f.names, "kv");
  for (int c = 0; c < 4; c++) {
    int64_t seq = calls[c][0] > calls[c][1] ? calls[c][0] : calls[c][1];
    ir_eval_tensor x = tensor(&f, IR_f32, 4, SHAPE(B, seq, 4, 8)), out[2];
    for (int b = 0; b < B; b++)
      for (int64_t i = 0; i < calls[c][b]; i++)
        for (int j = 0; j < 32; j++) seen[b][past[b] + i][j] = x.data[(b * seq + i) * 32 + j].r;
    const int64_t *const lengths[] = {NULL, calls[c]};
    ir_eval_call call = {.domain = IR_DOMAIN_IDEAL, .states = st, .lengths = lengths};
    ts_status s = ir_eval_function(f.m, step, &call, &x, 1, out);
    if (s != TS_OK) show(&f);
    ck_assert(s == TS_OK);
    for (int b = 0; b < B; b++) {
      check_rows(&out[0], b, past[b], calls[c][b], seq);
      ck_assert_int_eq(out[1].data[b * seq].i, past[b]);
      past[b] += calls[c][b];
      ck_assert_int_eq(ir_eval_states_length(st, kv, b), past[b]);
    }
    free(out[0].data), free(out[1].data);
  }
  // Past the bound: an error, and nothing changes.
  ir_eval_tensor x = tensor(&f, IR_f32, 4, SHAPE(B, 1, 4, 8)), out[2];
  ir_eval_call call = {.domain = IR_DOMAIN_IDEAL, .states = st};
  ck_assert(ir_eval_function(f.m, step, &call, &x, 1, out) == TS_INVALID);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[0].text, "at most 10"));
  ck_assert_ptr_null(out[0].data);
  ck_assert_int_eq(ir_eval_states_length(st, kv, 0), 10);
  ir_eval_states_reset(st, 0);
  ck_assert_int_eq(ir_eval_states_length(st, kv, 0), 0);
  ck_assert_int_eq(ir_eval_states_length(st, kv, 1), 8);
  ir_eval_states_destroy(st);
  end(&f);
}
END_TEST

START_TEST(inputs_are_checked) {
  fixture f;
  open_module(&f);
  add_text(&f,
           "dim n 2..4\nweight @w : f32[3, 4] as f32\nfunc @f(%a: tensor<f32[n, 4]>, %b: tensor<i32[n]>) -> (y) {\n  %w = weight "
           "\"w\" : tensor<f32[3, 4]>\n"
           "  %y = gather %w, %b : tensor<f32[n, 4]>\n  return %y\n}\n");
  ir_eval_tensor in[2] = {tensor(&f, IR_f32, 2, SHAPE(2, 4)), tensor(&f, IR_i32, 1, SHAPE(2))}, out;
  ir_eval_call call = {.domain = IR_DOMAIN_TYPED};
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 1, &out) == TS_INVALID);
  in[1].shape[0] = 1;
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 2, &out) == TS_INVALID);
  in[1].shape[0] = 2, in[0].shape[1] = 3;
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 2, &out) == TS_INVALID);
  in[0].shape[1] = 4, in[0].shape[0] = in[1].shape[0] = 5;
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 2, &out) == TS_INVALID);
  in[0].shape[0] = in[1].shape[0] = 2;
  in[1].data[0].i = in[1].data[1].i = 0;
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 2, &out) == TS_INVALID);   // a weight without data
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[4].text, "has no data"));
  in[1].data[0].i = 3;
  ck_assert(ir_eval_function(f.m, f.m->functions.data[0], &call, in, 2, &out) == TS_INVALID);
  ck_assert_ptr_nonnull(strstr(f.diags.list.data[5].text, "row 3 of a table of 3"));
  end(&f);
}
END_TEST

int main(void) {
  uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 11;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  state = seed;
  Suite *s = suite_create("ir_eval_tensor");
  TCase *c = tcase_create("eval");
  tcase_add_test(c, dense_ops);
  tcase_add_test(c, moving_ops);
  tcase_add_test(c, quantized_linear);
  tcase_add_test(c, prime_field);
  tcase_add_test(c, states_over_calls);
  tcase_add_test(c, inputs_are_checked);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
