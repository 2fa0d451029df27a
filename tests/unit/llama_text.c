// See llama_text.h.
#include "tests/unit/llama_text.h"

#include <math.h>
#include <stdlib.h>

static void weight(ts_text *t, const char *name, int n, int k, const char *enc) {
  if (k) ts_text_printf(t, "weight @%s : f32[%d, %d] as %s\n", name, n, k, enc);
  else ts_text_printf(t, "weight @%s : f32[%d] as f32\n", name, n);
}

static void use(ts_text *t, const char *name, int n, int k, const char *enc) {
  if (k) ts_text_printf(t, "  %%%s = weight \"%s\" : tensor<f32[%d, %d] as %s>\n", name, name, n, k, enc);
  else ts_text_printf(t, "  %%%s = weight \"%s\" : tensor<f32[%d] as f32>\n", name, name, n);
}

void llama_text(const llama_shape *s, ts_text *t) {
  int D = s->dim, Q = s->heads * s->head_dim, K = s->kv_heads * s->head_dim, F = s->ffn, V = s->vocab;
  const char *e = s->encoding, *act = s->activations ? s->activations : "exact";
  ts_text_printf(t, "module @llama\ndim batch 1..4\ndim seq 1..%d per batch\n", s->context);
  ts_text_printf(t, "state @kv list batch length(%d) page 16 { k: f32[1, %d, %d], v: f32[1, %d, %d] }\n", s->context, s->kv_heads, s->head_dim, s->kv_heads, s->head_dim);
  const struct { const char *name; int n, k; } w[] = {{"emb", V, D}, {"n1", D, 0}, {"n2", D, 0}, {"wq", Q, D}, {"wk", K, D}, {"wv", K, D},
                                                      {"wo", D, Q}, {"gate", F, D}, {"up", F, D}, {"down", D, F}};
  for (int i = 0; i < 10; i++) weight(t, w[i].name, w[i].n, w[i].k, e);
  ts_text_printf(t, "\nfunc @prefill(%%tokens: tensor<i32[batch, seq]>) -> (logits: tensor<f32[batch, %d]>) advances(kv by seq) {\n", V);
  for (int i = 0; i < 10; i++) use(t, w[i].name, w[i].n, w[i].k, e);
  ts_text_printf(t, "  %%x = gather %%emb, %%tokens : tensor<f32[batch, seq, %d]>\n", D);
  ts_text_printf(t, "  %%h = rms_norm %%x, %%n1 {eps=1e-05} : tensor<f32[batch, seq, %d]>\n", D);
  ts_text_puts(t, "  %kv = state kv : state<kv>\n  %pos = positions %kv {over=seq} : tensor<i32[batch, seq]>\n");
  const struct { const char *y, *w; int heads; } p[] = {{"q", "wq", s->heads}, {"k", "wk", s->kv_heads}, {"v", "wv", s->kv_heads}};
  for (int i = 0; i < 3; i++) {
    ts_text_printf(t, "  %%%s0 = linear %%h, %%%s {activations=%s} : tensor<f32[batch, seq, %d]>\n", p[i].y, p[i].w, act, p[i].heads * s->head_dim);
    ts_text_printf(t, "  %%%s = reshape %%%s0 : tensor<f32[batch, seq, %d, %d]>\n", p[i].y, p[i].y, p[i].heads, s->head_dim);
  }
  ts_text_printf(t, "  %%kr = rope %%k, %%pos {theta=1e+04, pairs=%s} : tensor<f32[batch, seq, %d, %d]>\n", s->pairs, s->kv_heads, s->head_dim);
  ts_text_puts(t, "  append %kv, %kr, %v {layer=0, fields=[k, v], over=seq}\n");
  ts_text_printf(t, "  %%qr = rope %%q, %%pos {theta=1e+04, pairs=%s} : tensor<f32[batch, seq, %d, %d]>\n", s->pairs, s->heads, s->head_dim);
  ts_text_printf(t, "  %%a = attend %%qr, %%kv {mask=causal, scale=%.17g, layer=0, over=seq} : tensor<f32[batch, seq, %d, %d]>\n", 1 / sqrt(s->head_dim), s->heads, s->head_dim);
  ts_text_printf(t, "  %%a1 = reshape %%a : tensor<f32[batch, seq, %d]>\n", Q);
  ts_text_printf(t, "  %%o = linear %%a1, %%wo {activations=%s} : tensor<f32[batch, seq, %d]>\n", act, D);
  ts_text_printf(t, "  %%y = map(%%x, %%o) { (a, b) -> a + b } : tensor<f32[batch, seq, %d]>\n", D);
  ts_text_printf(t, "  %%g = rms_norm %%y, %%n2 {eps=1e-05} : tensor<f32[batch, seq, %d]>\n", D);
  ts_text_printf(t, "  %%g1 = linear %%g, %%gate {activations=%s} : tensor<f32[batch, seq, %d]>\n", act, F);
  ts_text_printf(t, "  %%g2 = map(%%g1) { (a) -> a / (exp(-a) + 1.0) } : tensor<f32[batch, seq, %d]>\n", F);
  ts_text_printf(t, "  %%u = linear %%g, %%up {activations=%s} : tensor<f32[batch, seq, %d]>\n", act, F);
  ts_text_printf(t, "  %%gu = map(%%g2, %%u) { (a, b) -> a * b } : tensor<f32[batch, seq, %d]>\n", F);
  ts_text_printf(t, "  %%d = linear %%gu, %%down {activations=%s} : tensor<f32[batch, seq, %d]>\n", act, D);
  ts_text_printf(t, "  %%z = map(%%y, %%d) { (a, b) -> a + b } : tensor<f32[batch, seq, %d]>\n", D);
  ts_text_printf(t, "  %%l = last %%z {over=seq} : tensor<f32[batch, %d]>\n", D);
  ts_text_printf(t, "  %%n = rms_norm %%l, %%n1 {eps=1e-05} : tensor<f32[batch, %d]>\n", D);
  ts_text_printf(t, "  %%logits = linear %%n, %%emb {activations=%s} : tensor<f32[batch, %d]>\n  return %%logits\n}\n", act, V);
}

void llama_fill(ir_module *m, uint64_t seed) {
  for (size_t i = 0; i < m->weights.count; i++) {
    ir_weight *w = (ir_weight *)m->weights.data[i], *filled;
    if (ir_weight_random(m->arena, w->name, w->encoding, w->rank, w->shape, seed + i, w->loc, m->diags, &filled) == TS_OK) *w = *filled;
  }
}

// ---- the oracle: plain loops in double ------------------------------------------------------------------------------------
static double *decoded(const ir_module *m, const char *name, int64_t *n, int64_t *k) {
  for (size_t i = 0; i < m->weights.count; i++) {
    const ir_weight *w = m->weights.data[i];
    if (strcmp(w->name, name) != 0) continue;
    *n = ir_weight_rows(w), *k = ir_weight_k(w);
    double *out = calloc((size_t)(*n * *k), sizeof *out);
    if (ir_weight_decode_f64(w, 0, *n, NULL, out) == TS_OK) return out;
  }
  abort();
}

static double *product(const ir_module *m, const char *name, const double *x, int rows) {
  int64_t n, k;
  double *w = decoded(m, name, &n, &k), *y = calloc((size_t)(rows * n), sizeof *y);
  for (int i = 0; i < rows; i++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t c = 0; c < k; c++) y[i * n + j] += x[i * k + c] * w[j * k + c];
  free(w);
  return y;
}

static double *normed(const ir_module *m, const char *name, const double *x, int rows, int dim) {
  int64_t n, k;
  double *g = decoded(m, name, &n, &k), *y = calloc((size_t)(rows * dim), sizeof *y);
  for (int i = 0; i < rows; i++) {
    double s = 0;
    for (int c = 0; c < dim; c++) s += x[i * dim + c] * x[i * dim + c];
    for (int c = 0; c < dim; c++) y[i * dim + c] = x[i * dim + c] / sqrt(s / dim + 1e-5) * g[c];
  }
  free(g);
  return y;
}

static void rotate(double *x, int rows, int heads, int d, bool adjacent) {
  for (int p = 0; p < rows; p++)
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < d / 2; i++) {
        double angle = p * pow(1e4, -2.0 * i / d), *v = x + (p * heads + h) * d;
        double *a = adjacent ? &v[2 * i] : &v[i], *b = adjacent ? &v[2 * i + 1] : &v[i + d / 2];
        double u = *a * cos(angle) - *b * sin(angle), w = *a * sin(angle) + *b * cos(angle);
        *a = u, *b = w;
      }
}

static double *attention(const llama_shape *s, const double *q, const double *k, const double *v, int rows) {
  int H = s->heads, G = s->heads / s->kv_heads, d = s->head_dim;
  double *out = calloc((size_t)(rows * H * d), sizeof *out), *p = calloc((size_t)rows, sizeof *p);
  for (int i = 0; i < rows; i++)
    for (int h = 0; h < H; h++) {
      double most = -1e300, sum = 0;
      for (int t = 0; t <= i; t++) {
        p[t] = 0;
        for (int c = 0; c < d; c++) p[t] += q[(i * H + h) * d + c] * k[(t * s->kv_heads + h / G) * d + c];
        p[t] /= sqrt(d);
        most = fmax(most, p[t]);
      }
      for (int t = 0; t <= i; t++) sum += p[t] = exp(p[t] - most);
      for (int t = 0; t <= i; t++)
        for (int c = 0; c < d; c++) out[(i * H + h) * d + c] += p[t] / sum * v[(t * s->kv_heads + h / G) * d + c];
    }
  free(p);
  return out;
}

double *llama_oracle(const ir_module *m, const llama_shape *s, const int32_t *ids, int count) {
  int D = s->dim;
  int64_t n, k;
  double *emb = decoded(m, "emb", &n, &k), *x = calloc((size_t)(count * D), sizeof *x);
  for (int i = 0; i < count; i++) memcpy(x + i * D, emb + ids[i] * D, (size_t)D * sizeof *x);
  bool adjacent = strcmp(s->pairs, "adjacent") == 0;
  double *h = normed(m, "n1", x, count, D), *q = product(m, "wq", h, count), *key = product(m, "wk", h, count), *v = product(m, "wv", h, count);
  rotate(q, count, s->heads, s->head_dim, adjacent);
  rotate(key, count, s->kv_heads, s->head_dim, adjacent);
  double *a = attention(s, q, key, v, count), *o = product(m, "wo", a, count);
  for (int i = 0; i < count * D; i++) o[i] += x[i];
  double *g = normed(m, "n2", o, count, D), *gate = product(m, "gate", g, count), *up = product(m, "up", g, count);
  for (int i = 0; i < count * s->ffn; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
  double *z = product(m, "down", gate, count);
  for (int i = 0; i < count * D; i++) z[i] += o[i];
  double *last = normed(m, "n1", z + (count - 1) * D, 1, D), *logits = product(m, "emb", last, 1);
  double *all[] = {emb, x, h, q, key, v, a, o, g, gate, up, z, last};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  return logits;
}
