// Choosing the next token. The draw must come out the same on every machine, so nothing here depends on a library's rounding:
// exp is a polynomial of plain IEEE operations, sums run in a fixed order, and the random number is a function of (seed,
// stream, step).
#include "text/format.h"

#include <math.h>
#include <stdlib.h>

// Philox4x32-10: ten rounds of two 32x32 -> 64 bit products and key additions.
void tx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
    uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
    memcpy(c, next, sizeof c);
    k[0] += 0x9E3779B9u, k[1] += 0xBB67AE85u;
  }
  memcpy(out, c, sizeof c);
}

static double uniform(uint64_t seed, uint64_t stream, uint64_t step) {   // [0, 1), 53 bits
  uint32_t out[4];
  tx_philox((uint32_t[]){(uint32_t)step, (uint32_t)(step >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)},
            (uint32_t[]){(uint32_t)seed, (uint32_t)(seed >> 32)}, out);
  return (double)(((uint64_t)out[0] << 32 | out[1]) >> 11) * 0x1p-53;
}

// e^x for x <= 0, to about 2 ulp; 0 from -708 on, before results would be subnormal. x = k ln 2 + r, |r| <= ln 2 / 2, Taylor to
// r^13 (the rest is below 5e-18). Without branches or calls, so that compilers may vectorise loops of it.
static inline double exp_negative(double x) {
  double near = x > -708.0 ? x : -708.0;
  double k = (double)(int)(near * 1.4426950408889634 - 0.5);
  double r = (near - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33;
  double r2 = r * r, r4 = r2 * r2, r8 = r4 * r4;   // four short chains instead of one long one
  double a = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6));
  double b = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
  double c = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
  double e = 1.0 / 479001600 + r * (1.0 / 6227020800);
  double p = (a + r4 * b) + r8 * (c + r4 * e);
  uint64_t bits = (uint64_t)((int64_t)k + 1023) << 52;
  double scale;
  memcpy(&scale, &bits, sizeof scale);
  return x > -708.0 ? p * scale : 0.0;
}

// The bits of a float as an integer of the same order; both zeros are 0.
static int32_t order_key(float x) {
  int32_t bits;
  x += 0.0f;
  memcpy(&bits, &x, sizeof bits);
  return bits ^ ((bits >> 31) & INT32_MAX);
}
static const int32_t KEY_INF = 0x7f800000, KEY_MINUS_INF = INT32_MIN + 0x7fffff;

// Refuses logits that no token can be chosen from; else the largest one's first index. NaNs lie outside [-inf, inf] as keys.
static ts_status inspect(ts_diags *d, const float *logits, size_t count, uint32_t *out_best) {
  enum { LANES = 8 };
  int32_t high[LANES], low[LANES];
  for (int j = 0; j < LANES; j++) high[j] = INT32_MIN, low[j] = INT32_MAX;
  for (size_t i = 0; i < count / LANES * LANES; i += LANES)
    for (int j = 0; j < LANES; j++) {
      int32_t key = order_key(logits[i + j]);
      high[j] = key > high[j] ? key : high[j];
      low[j] = key < low[j] ? key : low[j];
    }
  for (size_t i = count / LANES * LANES; i < count; i++) {
    int32_t key = order_key(logits[i]);
    high[0] = key > high[0] ? key : high[0];
    low[0] = key < low[0] ? key : low[0];
  }
  for (int j = 1; j < LANES; j++) {
    high[0] = high[j] > high[0] ? high[j] : high[0];
    low[0] = low[j] < low[0] ? low[j] : low[0];
  }
  if (!count || count > INT32_MAX || high[0] == KEY_MINUS_INF)
    return ts_report(d, (ts_loc){0}, &diag_sampling_logits, "no token is possible: %s",
                     count ? "every logit is -inf" : "there are no logits");
  if (high[0] >= KEY_INF || low[0] < KEY_MINUS_INF) {
    size_t i = 0;
    while (!isnan(logits[i]) && logits[i] != (float)INFINITY) i++;
    return ts_report(d, (ts_loc){0}, &diag_sampling_logits, "the logit of token %zu is %s; the model's output is not usable", i,
                     isnan(logits[i]) ? "NaN" : "+inf");
  }
  uint32_t best = 0;
  while (order_key(logits[best]) != high[0]) best++;
  *out_best = best;
  return TS_OK;
}

ts_status tx_sampler_init(ts_diags *d, tx_sampler *s, const tx_sampling *o) {
  if (!(o->temperature == 0 || (o->temperature >= 1e-3 && o->temperature <= 1e3)))
    return ts_report(d, (ts_loc){0}, &diag_sampling_option, "temperature %g is out of range; it is 0 (greedy) or 0.001 to 1000",
                     o->temperature);
  if (!(o->top_p > 0 && o->top_p <= 1))
    return ts_report(d, (ts_loc){0}, &diag_sampling_option, "top-p %g is out of range; it is more than 0 and at most 1",
                     o->top_p);
  *s = (tx_sampler){.options = *o};
  return TS_OK;
}

void tx_sampler_deinit(tx_sampler *s) {
  free(s->scratch);
  *s = (tx_sampler){0};
}

// Is token a better than token b?
static bool better(const float *logits, uint32_t a, uint32_t b) {
  return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static void sift(const float *logits, uint32_t *heap, size_t count, size_t i) {
  uint32_t moving = heap[i];
  for (size_t child; (child = 2 * i + 1) < count; i = child) {
    if (child + 1 < count && better(logits, heap[child + 1], heap[child])) child++;
    if (!better(logits, heap[child], moving)) break;
    heap[i] = heap[child];
  }
  heap[i] = moving;
}

static double sum_of(const double *weights, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += weights[i];
  return sum;
}

// Draws among the best tokens only: taken from a heap one by one until top_k or top_p is reached. For top_p alone the heap need
// not hold tokens below (1 - top_p) / 2n of the total: all of them together are less than what top_p leaves out anyway.
static int32_t draw_best(const tx_sampler *s, const float *logits, const double *weights, uint32_t *heap, size_t count, double u) {
  bool by_rank = s->options.top_k && s->options.top_k < count;
  double total = by_rank ? 0 : sum_of(weights, count), sum = 0;
  double least = by_rank ? 0 : (1 - s->options.top_p) * total / (2 * (double)count);
  size_t size = 0, kept = 0, most = by_rank ? s->options.top_k : count;
  for (size_t i = 0; i < count; i++) {
    heap[size] = (uint32_t)i;
    size += weights[i] > least;
  }
  for (size_t i = size / 2; i-- > 0;) sift(logits, heap, size, i);
  for (size_t left = size; left && kept < most; kept++) {   // the kept gather behind the heap, as in heapsort
    if (!by_rank && kept && sum >= s->options.top_p * total) break;
    uint32_t best = heap[0];
    sum += weights[best];
    heap[0] = heap[--left];
    if (left) sift(logits, heap, left, 0);
    heap[left] = best;
  }
  if (by_rank) {   // top_p of what top_k left
    size_t n = 0;
    total = sum, sum = 0;
    while (n < kept && (!n || sum < s->options.top_p * total)) sum += weights[heap[size - 1 - n++]];
    kept = n;
  }
  double target = u * sum, at = 0;
  for (size_t i = 0; i + 1 < kept; i++)
    if ((at += weights[heap[size - 1 - i]]) > target) return (int32_t)heap[size - 1 - i];
  return (int32_t)heap[size - kept];
}

static int32_t draw_any(const double *weights, size_t count, uint32_t best, double u) {
  double total = sum_of(weights, count), at = 0;
  for (size_t i = 0; i < count; i++)
    if ((at += weights[i]) > u * total) return (int32_t)i;
  return (int32_t)best;   // u * total rounded up to total
}

ts_status tx_sample(ts_diags *d, tx_sampler *s, const float *logits, size_t count, uint64_t stream, uint64_t step,
                    int32_t *out_id) {
  uint32_t best = 0;
  TS_TRY(inspect(d, logits, count, &best));
  if (s->options.temperature == 0 || s->options.top_k == 1) {
    *out_id = (int32_t)best;
    return TS_OK;
  }
  if (s->capacity < count) {
    void *scratch = realloc(s->scratch, count * (sizeof(double) + sizeof(uint32_t)));
    if (!scratch) return TS_OUT_OF_MEMORY;
    s->scratch = scratch;
    s->capacity = count;
  }
  double *weights = s->scratch, top = logits[best];
  for (size_t i = 0; i < count; i++) weights[i] = exp_negative(((double)logits[i] - top) / s->options.temperature);
  double u = uniform(s->options.seed, stream, step);
  if (s->options.top_p < 1 || s->options.top_k) *out_id = draw_best(s, logits, weights, (uint32_t *)(weights + count), count, u);
  else *out_id = draw_any(weights, count, best, u);
  return TS_OK;
}

ts_status tx_log_probability(ts_diags *d, const float *logits, size_t count, int32_t id, double *out) {
  uint32_t best = 0;
  TS_TRY(inspect(d, logits, count, &best));
  if (id < 0 || (size_t)id >= count)
    return ts_report(d, (ts_loc){0}, &diag_token_range, "token id %d is outside the %zu logits", id, count);
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += exp((double)logits[i] - logits[best]);
  *out = (double)logits[id] - logits[best] - log(sum);
  return TS_OK;
}
