// tessera generate, tokenize, score, bench: language models.
#include "base/file.h"
#include "base/pool.h"
#include "drive/lm.h"
#include "tools/cli.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static ts_status open_model(cli *c, drive_lm *lm, bool score) {
  const char *path = cli_need_positional(c, "an artifact");
  double threads;
  if (!path || !cli_number(c, "threads", 0, 1, 1024, &threads)) return TS_INVALID;
  return drive_lm_open(lm, path, &(drive_lm_options){.device = cli_value(c, "device", NULL), .threads = (unsigned)threads, .score = score}, &c->diags);
}

static void json_ids(ts_text *t, const int32_t *ids, size_t count) {
  ts_text_putc(t, '[');
  for (size_t i = 0; i < count; i++) ts_text_printf(t, "%s%d", i ? ", " : "", ids[i]);
  ts_text_putc(t, ']');
}

// ---- generate ------------------------------------------------------------------------------------------------------------
static ts_status prompt_ids(cli *c, drive_lm *lm, tx_ids *ids) {
  const char *given = cli_value(c, "prompt", NULL);
  if (!given) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "generate needs --prompt");
  ts_str text = ts_str_of(given);
  if (strcmp(given, "-") == 0) TS_TRY(ts_file_read(&c->arena, "-", &c->diags, &text));
  ts_text wrapped = {0};
  ts_status s = TS_OK;
  if (cli_has(c, "chat")) {
    tx_message messages[2];
    size_t n = 0;
    const char *system = cli_value(c, "system", NULL);
    if (system) messages[n++] = (tx_message){TS_STR("system"), ts_str_of(system)};
    messages[n++] = (tx_message){TS_STR("user"), text};
    s = tx_chat_prompt(&c->diags, lm->tokenizer, messages, n, true, &wrapped);
    text = ts_text_str(&wrapped);
  }
  if (s == TS_OK) s = tx_encode(&c->diags, lm->tokenizer, text, TX_PARSE_SPECIAL | TX_ADD_SPECIAL, ids);
  ts_text_deinit(&wrapped);
  if (s == TS_OK && ids->count == 0 && tx_bos(lm->tokenizer) != TX_NONE) tx_ids_push(ids, tx_bos(lm->tokenizer));
  if (s == TS_OK && ids->count == 0) s = ts_report(&c->diags, (ts_loc){0}, &diag_usage, "the prompt has no tokens");
  return s;
}

typedef struct generation {
  tx_ids prompt, made;
  ts_text text;
  double prefill, decode;
  bool stream, stopped;
} generation;

static ts_status sample_loop(cli *c, drive_lm *lm, tx_sampler *sampler, size_t limit, generation *g) {
  const float *logits;
  double start = cli_seconds();
  TS_TRY(drive_lm_prefill(lm, g->prompt.data, g->prompt.count, &c->diags, &logits));
  g->prefill = cli_seconds() - start;
  tx_decoder dec;
  bool fresh = g->prompt.count == 1 && g->prompt.data[0] == tx_bos(lm->tokenizer);
  tx_decoder_init(&dec, lm->tokenizer, fresh, false);
  start = cli_seconds();
  size_t shown = 0;
  for (size_t i = 0; i < limit; i++) {
    int32_t id;
    TS_TRY(tx_sample(&c->diags, sampler, logits, (size_t)lm->vocab, 0, i, &id));
    if (tx_is_stop(lm->tokenizer, id) && !cli_has(c, "ignore-stop")) {
      g->stopped = true;
      break;
    }
    tx_ids_push(&g->made, id);
    TS_TRY(tx_decode(&c->diags, &dec, id, &g->text));
    if (g->stream && g->text.len > shown) {
      fwrite(g->text.data + shown, 1, g->text.len - shown, stdout);
      fflush(stdout);
      shown = g->text.len;
    }
    if (i + 1 < limit) TS_TRY(drive_lm_decode(lm, id, &c->diags, &logits));
  }
  tx_decode_end(&dec, &g->text);
  if (g->stream) {
    if (g->text.len > shown) fwrite(g->text.data + shown, 1, g->text.len - shown, stdout);
    putchar('\n');
  }
  g->decode = cli_seconds() - start;
  return TS_OK;
}

static void report_generation(cli *c, const generation *g) {
  size_t steps = g->made.count > 1 ? g->made.count - 1 : 0;
  if (cli_has(c, "stats"))
    fprintf(stderr, "prompt %zu tokens in %.3f s (%.1f tokens/s), generated %zu tokens in %.3f s (%.1f tokens/s)%s\n", g->prompt.count, g->prefill,
            (double)g->prompt.count / g->prefill, g->made.count, g->decode, steps ? (double)steps / g->decode : 0.0, g->stopped ? ", stopped" : "");
  if (!cli_has(c, "json")) return;
  ts_text t = {0};
  ts_text_puts(&t, "{\"schema\": 1, \"prompt_ids\": ");
  json_ids(&t, g->prompt.data, g->prompt.count);
  ts_text_puts(&t, ", \"generated_ids\": ");
  json_ids(&t, g->made.data, g->made.count);
  ts_text_puts(&t, ", \"text\": ");
  ts_text_json(&t, ts_text_str(&g->text));
  ts_text_printf(&t, ", \"prefill_seconds\": %.6f, \"decode_seconds\": %.6f}\n", g->prefill, g->decode);
  fputs(ts_text_z(&t), stdout);
  ts_text_deinit(&t);
}

static ts_status generate(cli *c, drive_lm *lm) {
  double limit, temperature, top_p, seed;
  if (!cli_number(c, "tokens", 128, 0, 1e9, &limit) || !cli_number(c, "temperature", 0, 0, 1e6, &temperature) || !cli_number(c, "top-p", 1, 0, 1, &top_p) ||
      !cli_number(c, "seed", 0, 0, 9007199254740991.0, &seed))
    return TS_INVALID;
  generation g = {.stream = !cli_has(c, "json")};
  tx_sampling sampling = TX_SAMPLING_DEFAULT;
  sampling.temperature = temperature, sampling.top_p = top_p, sampling.seed = (uint64_t)seed;
  tx_sampler sampler;
  TS_TRY(tx_sampler_init(&c->diags, &sampler, &sampling));
  ts_status s = prompt_ids(c, lm, &g.prompt);
  if (s == TS_OK) s = sample_loop(c, lm, &sampler, (size_t)limit, &g);
  if (s == TS_OK) report_generation(c, &g);
  else if (g.stream && g.text.len) putchar('\n');
  tx_sampler_deinit(&sampler);
  tx_ids_deinit(&g.prompt);
  tx_ids_deinit(&g.made);
  ts_text_deinit(&g.text);
  return s;
}

int cmd_generate(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "generate", argc, argv);
  if (code >= 0) return code;
  drive_lm lm;
  ts_status s = open_model(&c, &lm, false);
  if (s == TS_OK) s = generate(&c, &lm);
  drive_lm_close(&lm);
  return cli_end(&c, s);
}

// ---- tokenize ------------------------------------------------------------------------------------------------------------
static ts_status tokenize(cli *c) {
  if (c->positional.count < 2) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "tokenize needs an artifact and a text");
  tsr_error e = {TSR_OK, ""};
  tsr_artifact *artifact = NULL;
  tsr_status opened = tsr_artifact_open(c->positional.data[0], NULL, &e, &artifact);
  if (opened != TSR_OK) return ts_report(&c->diags, (ts_loc){0}, &diag_tool_artifact, "%s", e.text);
  const void *data;
  size_t bytes;
  tx_tokenizer *t = NULL;
  ts_status s = tsr_artifact_section(artifact, "tokenizer", &data, &bytes) == TSR_OK ? tx_open(&c->diags, NULL, data, bytes, &t)
                                                                                     : ts_report(&c->diags, (ts_loc){0}, &diag_tool_artifact, "%s holds no tokenizer", c->positional.data[0]);
  ts_str text = ts_str_of(c->positional.data[1]);
  if (s == TS_OK && strcmp(c->positional.data[1], "-") == 0) s = ts_file_read(&c->arena, "-", &c->diags, &text);
  tx_ids ids = {0};
  if (s == TS_OK) s = tx_encode(&c->diags, t, text, cli_has(c, "plain") ? TX_PLAIN : TX_PARSE_SPECIAL, &ids);
  if (s == TS_OK && cli_has(c, "json")) {
    ts_text out = {0};
    ts_text_puts(&out, "{\"schema\": 1, \"ids\": ");
    json_ids(&out, ids.data, ids.count);
    ts_text_puts(&out, "}\n");
    fputs(ts_text_z(&out), stdout);
    ts_text_deinit(&out);
  } else if (s == TS_OK) {
    for (size_t i = 0; i < ids.count; i++) {
      ts_text piece = {0};
      ts_text_json(&piece, tx_token_bytes(t, ids.data[i]));
      printf("%7d  %s\n", ids.data[i], ts_text_z(&piece));
      ts_text_deinit(&piece);
    }
  }
  tx_ids_deinit(&ids);
  if (t) tx_close(t);
  tsr_artifact_release(artifact);
  return s;
}

int cmd_tokenize(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "tokenize", argc, argv);
  if (code >= 0) return code;
  return cli_end(&c, tokenize(&c));
}

// ---- score ---------------------------------------------------------------------------------------------------------------
static ts_status score(cli *c, drive_lm *lm) {
  const char *path = cli_value(c, "text", NULL);
  if (!path) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "score needs --text");
  ts_str text;
  TS_TRY(ts_file_read(&c->arena, path, &c->diags, &text));
  tx_ids ids = {0};
  double nll = 0;
  size_t tokens = 0;
  ts_status s = tx_encode(&c->diags, lm->tokenizer, text, TX_ADD_SPECIAL, &ids);
  if (s == TS_OK && ids.count < 2) s = ts_report(&c->diags, (ts_loc){0}, &diag_usage, "%s has fewer than two tokens", path);
  if (s == TS_OK) s = drive_lm_score(lm, ids.data, ids.count, &c->diags, &nll, &tokens);
  tx_ids_deinit(&ids);
  if (s != TS_OK) return s;
  double per = nll / (double)tokens;
  if (cli_has(c, "json")) printf("{\"schema\": 1, \"tokens\": %zu, \"nll_per_token\": %.9g, \"perplexity\": %.9g}\n", tokens, per, exp(per));
  else printf("%zu tokens, negative log likelihood %.6f a token, perplexity %.4f\n", tokens, per, exp(per));
  return TS_OK;
}

int cmd_score(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "score", argc, argv);
  if (code >= 0) return code;
  drive_lm lm;
  ts_status s = open_model(&c, &lm, true);
  if (s == TS_OK) s = score(&c, &lm);
  drive_lm_close(&lm);
  return cli_end(&c, s);
}

// ---- bench ---------------------------------------------------------------------------------------------------------------
enum { BENCH_PROMPT = 256, BENCH_DECODE = 64 };

typedef struct read_job {
  const uint64_t *data;
  size_t words;                 // per block
  _Atomic uint64_t sum;
} read_job;

static int read_block(void *user, uint32_t block, unsigned worker) {
  (void)worker;
  read_job *j = user;
  const uint64_t *p = j->data + (size_t)block * j->words;
  uint64_t a = 0, b = 0, x = 0, y = 0;
  for (size_t i = 0; i + 4 <= j->words; i += 4) a += p[i], b += p[i + 1], x += p[i + 2], y += p[i + 3];
  j->sum += a + b + x + y;
  return 0;
}

// Bytes a second that all threads together read from memory: the median of five passes over 512 MiB.
static double memory_bandwidth(unsigned threads) {
  enum { BLOCKS = 128 };
  size_t bytes = (size_t)512 << 20;
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return 0;
  memset(data, 1, bytes);
  ts_pool *pool = ts_pool_create(threads);
  double rate[5] = {0};
  for (int r = 0; pool && r < 5; r++) {
    read_job j = {.data = data, .words = bytes / BLOCKS / 8};
    double start = cli_seconds();
    ts_pool_run(pool, read_block, &j, BLOCKS);
    double v = (double)bytes / (cli_seconds() - start);
    int k = r;
    for (; k > 0 && rate[k - 1] > v; k--) rate[k] = rate[k - 1];
    rate[k] = v;
  }
  if (pool) ts_pool_destroy(pool);
  munmap(data, bytes);
  return rate[2];
}

static void mean_deviation(const double *v, int n, double *mean, double *deviation) {
  double s = 0, q = 0;
  for (int i = 0; i < n; i++) s += v[i];
  *mean = s / n;
  for (int i = 0; i < n; i++) q += (v[i] - *mean) * (v[i] - *mean);
  *deviation = n > 1 ? sqrt(q / (n - 1)) : 0;
}

typedef struct kernel_time {
  const char *function, *kernel;
  double seconds;
  unsigned calls;
} kernel_time;
typedef struct profile {
  kernel_time rows[256];
  unsigned count;
} profile;

static void record_kernel(void *user, const tsr_profile_record *r) {
  profile *p = user;
  for (unsigned i = 0; i < p->count; i++)
    if (p->rows[i].kernel == r->kernel && p->rows[i].function == r->function) {
      p->rows[i].seconds += r->seconds;
      p->rows[i].calls++;
      return;
    }
  if (p->count < 256) p->rows[p->count++] = (kernel_time){r->function, r->kernel, r->seconds, 1};
}

static ts_status one_round(drive_lm *lm, ts_diags *d, const int32_t *ids, double *prefill, double *decode) {
  const float *logits;
  TS_TRY(drive_lm_reset(lm, d));
  double start = cli_seconds();
  TS_TRY(drive_lm_prefill(lm, ids, BENCH_PROMPT, d, &logits));
  *prefill = BENCH_PROMPT / (cli_seconds() - start);
  TS_TRY(drive_lm_reset(lm, d));   // decoding starts from an empty context, as the peers measure it
  TS_TRY(drive_lm_prefill(lm, ids, 1, d, &logits));
  start = cli_seconds();
  for (int i = 0; i < BENCH_DECODE; i++) TS_TRY(drive_lm_decode(lm, ids[i], d, &logits));
  *decode = BENCH_DECODE / (cli_seconds() - start);
  return TS_OK;
}

static ts_status bench(cli *c, drive_lm *lm) {
  double repeat, threads;
  if (!cli_number(c, "repeat", 5, 1, 100, &repeat) || !cli_number(c, "threads", 0, 1, 1024, &threads)) return TS_INVALID;
  int32_t ids[BENCH_PROMPT];
  for (int i = 0; i < BENCH_PROMPT; i++) ids[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)lm->vocab);
  double prefill[100], decode[100];
  TS_TRY(one_round(lm, &c->diags, ids, &prefill[0], &decode[0]));   // warm-up
  if (cli_has(c, "profile")) {
    profile p = {.count = 0};
    tsr_session_profile(lm->session, record_kernel, &p);
    TS_TRY(one_round(lm, &c->diags, ids, &prefill[0], &decode[0]));
    tsr_session_profile(lm->session, NULL, NULL);
    for (unsigned i = 0; i < p.count; i++)
      printf("%-8s %-40s %6u calls %10.3f ms %8.1f us a call\n", p.rows[i].function, p.rows[i].kernel, p.rows[i].calls, p.rows[i].seconds * 1e3,
             p.rows[i].seconds * 1e6 / p.rows[i].calls);
    return TS_OK;
  }
  int n = (int)repeat;
  for (int i = 0; i < n; i++) TS_TRY(one_round(lm, &c->diags, ids, &prefill[i], &decode[i]));
  double pm, pd, dm, dd;
  mean_deviation(prefill, n, &pm, &pd);
  mean_deviation(decode, n, &dm, &dd);
  const char *streamed = tsr_artifact_metadata(lm->artifact, "decode.streamed_bytes");
  uint64_t bytes = streamed ? strtoull(streamed, NULL, 10) : 0;
  unsigned workers = threads > 0 ? (unsigned)threads : ts_cpu_count();
  double bandwidth = memory_bandwidth(workers), used = (double)bytes * dm;
  if (cli_has(c, "json"))
    printf("{\"schema\": 1, \"threads\": %u, \"prefill_tokens_per_second\": %.3f, \"prefill_deviation\": %.3f, \"decode_tokens_per_second\": %.3f, "
           "\"decode_deviation\": %.3f, \"bytes_per_token\": %llu, \"gb_per_second\": %.3f, \"dram_gb_per_second\": %.3f, \"dram_share\": %.4f}\n",
           workers, pm, pd, dm, dd, (unsigned long long)bytes, used / 1e9, bandwidth / 1e9, bandwidth > 0 ? used / bandwidth : 0.0);
  else
    printf("%s\nprefill %d: %8.1f +- %.1f tokens/s\ndecode  %d: %8.1f +- %.1f tokens/s; %.1f MB of weights a token: %.1f GB/s, %.0f %% of the %.1f GB/s that reading memory reaches\n",
           tsr_device_name(lm->device), BENCH_PROMPT, pm, pd, BENCH_DECODE, dm, dd, (double)bytes / 1e6, used / 1e9,
           bandwidth > 0 ? 100 * used / bandwidth : 0.0, bandwidth / 1e9);
  return TS_OK;
}

int cmd_bench(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "bench", argc, argv);
  if (code >= 0) return code;
  drive_lm lm;
  ts_status s = open_model(&c, &lm, false);
  if (s == TS_OK) s = bench(&c, &lm);
  drive_lm_close(&lm);
  return cli_end(&c, s);
}
