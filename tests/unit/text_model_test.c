// Tokenizers of real models, id by id: SmolLM2 (its GGUF is named by TESSERA_SMOLLM2) against 60 strings of llama.cpp,
// stories260K against llama2.c. Skipped, with a message, where the data is not there.
#include "base/file.h"
#include "text/text.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

// ---- As much of GGUF as a tokenizer needs; the file is trusted ----------------------------------------------------------------
typedef struct gguf {
  ts_mapping map;
  const char *at;
  ts_arena arena;
  tx_vocab v;
} gguf;

static uint64_t number(gguf *g, unsigned bytes) {
  uint64_t v = 0;
  memcpy(&v, g->at, bytes);
  g->at += bytes;
  return v;
}
static ts_str string(gguf *g) {
  size_t n = number(g, 8);
  g->at += n;
  return (ts_str){g->at - n, n};
}
static unsigned width(unsigned type) { return (unsigned[]){1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}[type]; }

static void key(gguf *g) {
  ts_str k = string(g);
  unsigned type = (unsigned)number(g, 4);
  if (type == 8) {
    ts_str s = string(g);
    if (ts_str_is(k, "tokenizer.ggml.model")) g->v.model = s;
    if (ts_str_is(k, "tokenizer.ggml.pre")) g->v.pre = s;
    if (ts_str_is(k, "tokenizer.chat_template")) g->v.chat_template = s;
  } else if (type == 9) {
    unsigned element = (unsigned)number(g, 4);
    size_t n = number(g, 8);
    if (element == 8) {
      ts_str *list = ts_new_array(&g->arena, ts_str, n);
      for (size_t i = 0; i < n; i++) list[i] = string(g);
      if (ts_str_is(k, "tokenizer.ggml.tokens")) g->v.tokens = list, g->v.token_count = n;
      if (ts_str_is(k, "tokenizer.ggml.merges")) g->v.merges = list, g->v.merge_count = n;
    } else {
      void *copy = ts_arena_copy(&g->arena, g->at, n * width(element), 8);
      g->at += n * width(element);
      if (ts_str_is(k, "tokenizer.ggml.token_type")) g->v.types = copy;
      if (ts_str_is(k, "tokenizer.ggml.scores")) g->v.scores = copy;
    }
  } else {
    uint64_t value = number(g, width(type));
    if (ts_str_is(k, "tokenizer.ggml.bos_token_id")) g->v.bos = (int32_t)value;
    if (ts_str_is(k, "tokenizer.ggml.eos_token_id")) g->v.eos = (int32_t)value;
    if (ts_str_is(k, "tokenizer.ggml.unknown_token_id")) g->v.unk = (int32_t)value;
    if (ts_str_is(k, "tokenizer.ggml.padding_token_id")) g->v.pad = (int32_t)value;
    if (ts_str_is(k, "tokenizer.ggml.add_bos_token")) g->v.add_bos = value;
    if (ts_str_is(k, "tokenizer.ggml.add_space_prefix")) g->v.add_space_prefix = value;
  }
}

static bool gguf_open(gguf *g, const char *path) {
  *g = (gguf){0};
  if (!path || ts_file_map(path, NULL, &g->map) != TS_OK) return false;
  ts_arena_init(&g->arena);
  for (int pass = 0; pass < 2; pass++) {   // the defaults follow from model and pre-tokenizer, which may come last
    g->at = (const char *)g->map.data + 16;
    g->v = tx_vocab_defaults(g->v.model, g->v.pre);
    for (uint64_t n = number(g, 8); n; n--) key(g);
  }
  return true;
}
static void gguf_close(gguf *g) {
  ts_arena_deinit(&g->arena);
  ts_file_unmap(&g->map);
}

static const char *shared(const char *name) {
  static char path[4096];
  const char *root = getenv("TESSERA_SHARED");
  snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", name);
  return path;
}

static tx_tokenizer *open_packed(gguf *g, const char *what) {
  ts_diags d;
  ts_diags_init(&d);
  ts_str blob = {0};
  tx_tokenizer *t = NULL;
  ts_status s = tx_pack(&d, (ts_loc){0}, &g->arena, &g->v, &blob);
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  if (s == TS_OK) s = tx_open(&d, what, blob.data, blob.len, &t);
  clock_gettime(CLOCK_MONOTONIC, &b);
  ts_text text = {0};
  ts_diags_print(&d, &text, false);
  ck_assert_msg(s == TS_OK, "%s", ts_text_z(&text));
  printf("%s: %zu tokens, %zu bytes packed, opened in %.2f ms\n", what, tx_token_count(t), blob.len,
         (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
  ts_text_deinit(&text);
  ts_diags_deinit(&d);
  return t;
}

static void check_ids(const tx_tokenizer *t, ts_str text, unsigned flags, const int32_t *ids, size_t count) {
  tx_ids got = {0};
  ck_assert_int_eq(tx_encode(NULL, t, text, flags, &got), TS_OK);
  for (size_t i = 0; i < count || i < got.count; i++)
    ck_assert_msg(i < count && i < got.count && got.data[i] == ids[i],
                  "'%.*s', flags %u: token %zu is %d of %zu, expected %d of %zu", TS_FMT(text), flags, i,
                  i < got.count ? got.data[i] : -1, got.count, i < count ? ids[i] : -1, count);
  tx_ids_deinit(&got);
}

static void check_round_trip(const tx_tokenizer *t, ts_str text, unsigned flags) {
  tx_ids ids = {0};
  ts_text back = {0};
  tx_decoder dec;
  ck_assert_int_eq(tx_encode(NULL, t, text, flags, &ids), TS_OK);
  tx_decoder_init(&dec, t, true, flags & TX_PARSE_SPECIAL);
  for (size_t i = 0; i < ids.count; i++) ck_assert_int_eq(tx_decode(NULL, &dec, ids.data[i], &back), TS_OK);
  tx_decode_end(&dec, &back);
  ck_assert_msg(ts_str_eq(ts_text_str(&back), text), "'%.*s' came back as '%s'", TS_FMT(text), ts_text_z(&back));
  tx_ids_deinit(&ids);
  ts_text_deinit(&back);
}

// ---- SmolLM2 ------------------------------------------------------------------------------------------------------------------
START_TEST(smollm2) {
  gguf g;
  json_t *golden = json_load_file(shared("data/smollm2/tokenization.json"), JSON_ALLOW_NUL, NULL);
  if (!golden || !gguf_open(&g, getenv("TESSERA_SMOLLM2"))) {
    printf("smollm2: skipped: needs shared/data/smollm2 and TESSERA_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf\n");
    json_decref(golden);
    return;
  }
  tx_tokenizer *t = open_packed(&g, "SmolLM2");
  size_t index, count = 0;
  json_t *one;
  json_array_foreach(golden, index, one) {
    json_t *text = json_object_get(one, "text");
    ts_str s = {json_string_value(text), json_string_length(text)};
    for (int special = 0; special < 2; special++) {
      json_t *list = json_object_get(one, special ? "ids_special" : "ids_plain");
      int32_t ids[4096];
      for (size_t i = 0; i < json_array_size(list); i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
      check_ids(t, s, special ? TX_PARSE_SPECIAL : TX_PLAIN, ids, json_array_size(list));
      check_round_trip(t, s, special ? TX_PARSE_SPECIAL : TX_PLAIN);
    }
    count++;
  }
  ck_assert_uint_eq(count, 60);
  // Its template: ChatML with a default system prompt.
  ck_assert_int_eq(tx_chat_format(t), TX_CHAT_CHATML);
  ck_assert(ts_str_is(tx_chat_default_system(t), "You are a helpful AI assistant named SmolLM, trained by Hugging Face"));
  size_t stops;
  const int32_t *stop = tx_stops(t, &stops);
  ck_assert_uint_eq(stops, 2);   // <|endoftext|>, <|im_end|>
  ck_assert(stop[0] == 0 && stop[1] == 2 && tx_is_stop(t, 2) && !tx_is_stop(t, 1));
  json_decref(golden);
  golden = json_load_file(shared("data/smollm2/golden_exact.json"), 0, NULL);
  json_t *prompts = json_object_get(golden, "prompts");
  ck_assert_uint_eq(json_object_size(prompts), 3);
  const char *name;
  json_object_foreach(prompts, name, one) {
    json_t *list = json_object_get(one, "ids"), *text = json_object_get(one, "text");
    int32_t ids[512];
    for (size_t i = 0; i < json_array_size(list); i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    check_ids(t, (ts_str){json_string_value(text), json_string_length(text)}, TX_PARSE_SPECIAL | TX_ADD_SPECIAL, ids,
              json_array_size(list));
  }
  // Prompt b is a ChatML conversation without the default system message; ours has it in front.
  ts_text prompt = {0}, expected = {0};
  tx_message user = {TS_STR("user"), TS_STR("What is a compiler? Answer in one sentence.")};
  ck_assert_int_eq(tx_chat_prompt(NULL, t, &user, 1, true, &prompt), TS_OK);
  ts_text_printf(&expected,
                 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n%s",
                 json_string_value(json_object_get(json_object_get(prompts, "b"), "text")));
  ck_assert_str_eq(ts_text_z(&prompt), ts_text_z(&expected));
  ts_text_deinit(&prompt);
  ts_text_deinit(&expected);
  json_decref(golden);
  tx_close(t);
  gguf_close(&g);
}
END_TEST

// ---- stories260K
// ----------------------------------------------------------------------------------------------------------------
static int32_t *npy_ids(ts_str file, size_t *count) {   // version 1.0, <i4
  size_t header = (unsigned char)file.data[8] | (size_t)(unsigned char)file.data[9] << 8;
  *count = (file.len - 10 - header) / 4;
  int32_t *ids = malloc(*count * 4 + 1);
  memcpy(ids, file.data + 10 + header, *count * 4);
  return ids;
}

START_TEST(stories260k) {
  gguf g;
  if (!gguf_open(&g, shared("data/models/stories260K/stories260K-f32.gguf"))) {
    printf("stories260k: skipped: needs shared/data/models/stories260K\n");
    return;
  }
  tx_tokenizer *t = open_packed(&g, "stories260K");
  static const int32_t lily[] = {1, 403, 407, 261, 378, 432, 317};
  check_ids(t, TS_STR("Once upon a time, Lily"), TX_ADD_SPECIAL, lily, 7);
  check_ids(t, TS_STR("Once upon a time, Lily"), TX_PLAIN, lily + 1, 6);
  check_ids(t, TS_STR(""), TX_ADD_SPECIAL, lily, 1);
  check_round_trip(t, TS_STR("  Zwölf Boxkämpfer, 你好 \xff\xfe and \n the <s> "), TX_ADD_SPECIAL);
  ck_assert_int_eq(tx_chat_format(t), TX_CHAT_NONE);
  // The greedy text: ids to text and back.
  ts_arena a;
  ts_arena_init(&a);
  ts_str text, npy;
  ck_assert_int_eq(ts_file_read(&a, shared("data/models/stories260K/greedy200.txt"), NULL, &text), TS_OK);
  ck_assert_int_eq(ts_file_read(&a, shared("data/models/stories260K/greedy_ids.npy"), NULL, &npy), TS_OK);
  size_t count;
  int32_t *ids = npy_ids(npy, &count);
  ck_assert_uint_eq(count, 201);
  tx_decoder dec;
  ts_text out = {0};
  tx_decoder_init(&dec, t, true, false);
  for (size_t i = 0; i < count; i++) ck_assert_int_eq(tx_decode(NULL, &dec, ids[i], &out), TS_OK);
  tx_decode_end(&dec, &out);
  ck_assert_msg(ts_str_eq(ts_str_trim(ts_text_str(&out)), ts_str_trim(text)), "got '%s'", ts_text_z(&out));
  free(ids);
  // Real texts, encoded by llama2.c's tokenizer: what our decoder makes of the ids encodes to the same ids.
  ck_assert_int_eq(ts_file_read(&a, shared("data/models/stories260K/tinystories_sample_ids.npy"), NULL, &npy), TS_OK);
  ids = npy_ids(npy, &count);
  ck_assert_uint_eq(count, 5 * 457);
  for (size_t row = 0; row < 5; row++) {
    size_t n = 0;
    while (n < 457 && ids[row * 457 + n] >= 0) n++;
    ts_text_clear(&out);
    tx_decoder_init(&dec, t, true, false);
    for (size_t i = 0; i < n; i++) ck_assert_int_eq(tx_decode(NULL, &dec, ids[row * 457 + i], &out), TS_OK);
    tx_decode_end(&dec, &out);
    check_ids(t, ts_text_str(&out), TX_ADD_SPECIAL, ids + row * 457, n);
  }
  free(ids);
  ts_text_deinit(&out);
  ts_arena_deinit(&a);
  tx_close(t);
  gguf_close(&g);
}
END_TEST

int main(void) {
  TCase *c = tcase_create("model");
  tcase_add_test(c, smollm2);
  tcase_add_test(c, stories260k);
  Suite *s = suite_create("text_model");
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
