// Sampling: known answers of the generator, greedy ties, distributions against exact probabilities, refusals.
#include "text/text.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static int32_t sample(tx_sampling o, const float *logits, size_t n, uint64_t step) {
  tx_sampler s;
  int32_t id = -7;
  ck_assert_int_eq(tx_sampler_init(NULL, &s, &o), TS_OK);
  ck_assert_int_eq(tx_sample(NULL, &s, logits, n, 0, step, &id), TS_OK);
  tx_sampler_deinit(&s);
  return id;
}

START_TEST(philox_known_answers) {   // Random123's kat_vectors for philox4x32 with 10 rounds
  static const uint32_t cases[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
  for (int i = 0; i < 3; i++) {
    uint32_t out[4];
    tx_philox(cases[i], cases[i] + 4, out);
    for (int j = 0; j < 4; j++) ck_assert_uint_eq(out[j], cases[i][6 + j]);
  }
}
END_TEST

START_TEST(greedy) {
  float logits[37];
  for (int at = 0; at < 37; at++) {
    for (int i = 0; i < 37; i++) logits[i] = -3.0f - (float)i;
    logits[at] = 2.5f;
    if (at + 3 < 37) logits[at + 3] = 2.5f;   // a tie: the lower id
    ck_assert_int_eq(sample(TX_SAMPLING_DEFAULT, logits, 37, 0), at);
  }
  ck_assert_int_eq(sample(TX_SAMPLING_DEFAULT, (float[]){-1, -0.0f, 0.0f, -2}, 4, 0), 1);
  ck_assert_int_eq(sample(TX_SAMPLING_DEFAULT, (float[]){-INFINITY, -3e38f, -INFINITY}, 3, 0), 1);
  ck_assert_int_eq(sample((tx_sampling){.temperature = 2, .top_p = 1, .top_k = 1}, (float[]){0, 5, 5}, 3, 9), 1);
}
END_TEST

// Draws many times and compares with the exact distribution: every count within 5 standard deviations.
static void check_distribution(tx_sampling o, const float *logits, const double *p, int n) {
  enum { DRAWS = 20000 };
  int count[16] = {0};
  tx_sampler s;
  ck_assert_int_eq(tx_sampler_init(NULL, &s, &o), TS_OK);
  for (int i = 0; i < DRAWS; i++) {
    int32_t id = -1;
    ck_assert_int_eq(tx_sample(NULL, &s, logits, (size_t)n, 0, (uint64_t)i, &id), TS_OK);
    ck_assert_int_ge(id, 0);
    ck_assert_int_lt(id, n);
    count[id]++;
  }
  tx_sampler_deinit(&s);
  for (int i = 0; i < n; i++) {
    double expected = p[i] * DRAWS, deviation = sqrt(DRAWS * p[i] * (1 - p[i]));
    ck_assert_msg(fabs(count[i] - expected) <= 5 * deviation, "token %d: drawn %d times, expected %.1f +- %.1f", i, count[i],
                  expected, deviation);
  }
}

START_TEST(distribution) {
  const double p[6] = {0.05, 0.4, 0.1, 0.25, 0.2, 0};
  float logits[6], hot[6];
  for (int i = 0; i < 6; i++) {
    logits[i] = p[i] > 0 ? (float)log(p[i]) + 3 : -INFINITY;
    hot[i] = logits[i] * 2;
  }
  check_distribution((tx_sampling){.temperature = 1, .top_p = 1, .seed = 11}, logits, p, 6);
  check_distribution((tx_sampling){.temperature = 2, .top_p = 1, .seed = 12}, hot, p, 6);
  // 0.4 + 0.25 < 0.7 <= 0.4 + 0.25 + 0.2
  check_distribution((tx_sampling){.temperature = 1, .top_p = 0.7, .seed = 13}, logits,
                     (double[]){0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85, 0}, 6);
  check_distribution((tx_sampling){.temperature = 1, .top_p = 1, .top_k = 2, .seed = 14}, logits,
                     (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0, 0}, 6);
  // top_k first: of {0.4, 0.25, 0.2} / 0.85 the first two reach 0.75
  check_distribution((tx_sampling){.temperature = 1, .top_p = 0.75, .top_k = 3, .seed = 15}, logits,
                     (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0, 0}, 6);
  check_distribution((tx_sampling){.temperature = 1, .top_p = 1, .top_k = 100, .seed = 16}, logits, p, 6);
  check_distribution((tx_sampling){.temperature = 1, .top_p = 1e-9, .seed = 17}, logits, (double[]){0, 1, 0, 0, 0, 0}, 6);
}
END_TEST

// The fewest best tokens: compared with a full sort on random logits, many ties among them.
START_TEST(nucleus_against_sort) {
  uint64_t seed = 20240607;
  printf("nucleus_against_sort: seed %llu\n", (unsigned long long)seed);
  srand((unsigned)seed);
  for (int round = 0; round < 200; round++) {
    size_t n = 1 + (size_t)(rand() % 300);
    float logits[300];
    int order[300];
    for (size_t i = 0; i < n; i++) logits[i] = (float)(rand() % 40) * 0.25f, order[i] = (int)i;
    for (size_t i = 1; i < n; i++)   // insertion sort: descending, ties by index
      for (size_t j = i; j && logits[order[j]] > logits[order[j - 1]]; j--) {
        int t = order[j];
        order[j] = order[j - 1];
        order[j - 1] = t;
      }
    double top_p = (1 + rand() % 99) / 100.0, total = 0, sum = 0;
    uint32_t top_k = rand() % 2 ? 1 + (uint32_t)(rand() % (int)(n + 5)) : 0;
    size_t limit = top_k && top_k < n ? top_k : n, kept = 0;
    for (size_t i = 0; i < limit; i++) total += exp((double)logits[order[i]]);
    while (kept < limit && sum < top_p * total * (1 - 1e-12)) sum += exp((double)logits[order[kept++]]);
    for (uint64_t step = 0; step < 20; step++) {
      int32_t id = sample((tx_sampling){.temperature = 1, .top_p = top_p, .top_k = top_k, .seed = 5}, logits, n, step);
      size_t at = 0;
      while (order[at] != id) at++;
      ck_assert_uint_lt(at, kept + 1);   // + 1: a sum that meets top_p within rounding
    }
  }
}
END_TEST

START_TEST(reproducible) {   // pinned: the same on every machine, whatever was drawn before
  enum { N = 1000 };
  static float logits[N];
  for (int i = 0; i < N; i++) logits[i] = (float)((i * 7919) % 1000) * 0.013f;
  tx_sampler s;
  ck_assert_int_eq(tx_sampler_init(NULL, &s, &(tx_sampling){.temperature = 0.8, .top_p = 0.95, .seed = 42}), TS_OK);
  int32_t forward[8], backward[8], other;
  for (int i = 0; i < 8; i++) ck_assert_int_eq(tx_sample(NULL, &s, logits, N, 3, (uint64_t)i, &forward[i]), TS_OK);
  for (int i = 8; i-- > 0;) ck_assert_int_eq(tx_sample(NULL, &s, logits, N, 3, (uint64_t)i, &backward[i]), TS_OK);
  ck_assert_mem_eq(forward, backward, sizeof forward);
  static const int32_t pinned[8] = {963, 803, 383, 136, 420, 815, 408, 630};
  ck_assert_mem_eq(forward, pinned, sizeof pinned);
  bool differs = false;
  for (int i = 0; i < 8; i++) {
    ck_assert_int_eq(tx_sample(NULL, &s, logits, N, 4, (uint64_t)i, &other), TS_OK);
    differs |= other != forward[i];
  }
  ck_assert(differs);
  tx_sampler_deinit(&s);
}
END_TEST

START_TEST(refusals) {
  ts_diags d;
  ts_diags_init(&d);
  tx_sampler s;
  for (int i = 0; i < 6; i++) {
    tx_sampling o = {.temperature = (double[]){-1, NAN, 1e-4, 1, 1, 1}[i], .top_p = (double[]){1, 1, 1, 0, 1.01, NAN}[i]};
    ck_assert_int_eq(tx_sampler_init(&d, &s, &o), TS_INVALID);
  }
  ck_assert(ts_diags_has(&d, &diag_sampling_option));
  ck_assert_int_eq(tx_sampler_init(&d, &s, &TX_SAMPLING_DEFAULT), TS_OK);
  float negative_nan = -NAN;
  for (int at = 0; at < 19; at++)
    for (int what = 0; what < 3; what++) {
      float logits[19] = {0};
      logits[at] = what == 0 ? NAN : what == 1 ? negative_nan : INFINITY;
      int32_t id = -7;
      double p = -7;
      ck_assert_int_eq(tx_sample(&d, &s, logits, 19, 0, 0, &id), TS_INVALID);
      ck_assert_int_eq(tx_log_probability(&d, logits, 19, 0, &p), TS_INVALID);
      ck_assert_int_eq(id, -7);
      ck_assert(p == -7);
    }
  int32_t id = -7;
  ck_assert_int_eq(tx_sample(&d, &s, (float[]){-INFINITY, -INFINITY}, 2, 0, 0, &id), TS_INVALID);
  ck_assert_int_eq(tx_sample(&d, &s, NULL, 0, 0, 0, &id), TS_INVALID);
  ck_assert(ts_diags_has(&d, &diag_sampling_logits));
  tx_sampler_deinit(&s);
  ts_diags_deinit(&d);
}
END_TEST

START_TEST(log_probability) {
  float logits[4] = {1e4f, 1e4f + 1, -INFINITY, 1e4f - 2};
  double sum = exp(-1) + 1 + exp(-3), p;
  ck_assert_int_eq(tx_log_probability(NULL, logits, 4, 0, &p), TS_OK);
  ck_assert(fabs(p - (-1 - log(sum))) < 1e-12);
  ck_assert_int_eq(tx_log_probability(NULL, logits, 4, 2, &p), TS_OK);
  ck_assert(p == -INFINITY);
  ck_assert_int_eq(tx_log_probability(NULL, logits, 4, 4, &p), TS_OUT_OF_RANGE);
  ck_assert_int_eq(tx_log_probability(NULL, logits, 4, -1, &p), TS_OUT_OF_RANGE);
}
END_TEST

int main(void) {
  TCase *c = tcase_create("sample");
  tcase_add_test(c, philox_known_answers);
  tcase_add_test(c, greedy);
  tcase_add_test(c, distribution);
  tcase_add_test(c, nucleus_against_sort);
  tcase_add_test(c, reproducible);
  tcase_add_test(c, refusals);
  tcase_add_test(c, log_probability);
  Suite *s = suite_create("text_sample");
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
