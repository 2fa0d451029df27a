// Tokenizers on vocabularies made here, so that nothing else is needed: encoding against a quadratic oracle that works on
// strings, the four pre-tokenizers word by word, decoding, chat formats, refusals, and a mutation run over tx_open().
#include "text/text.h"

#include <check.h>
#include <stdlib.h>

static uint64_t state;
static uint32_t random_below(uint32_t n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 20) % n;
}
static void seed(const char *test, uint64_t value) {
  printf("%s: seed %llu\n", test, (unsigned long long)value);
  state = value * 0x9E3779B97F4A7C15u | 1;
}

// ---- Small vocabularies -------------------------------------------------------------------------------------------------------
typedef struct vocabulary {
  ts_arena arena;
  TS_VEC(ts_str) tokens;   // as in a file
  TS_VEC(ts_str) bytes;    // what they stand for
  TS_VEC(int32_t) types;
  TS_VEC(float) scores;
  TS_VEC(ts_str) merges;
  TS_VEC(int32_t) left, right;   // the same rules as ids
  tx_vocab v;
  ts_str blob;
  tx_tokenizer *t;
} vocabulary;

static ts_str format(ts_arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *z = ts_arena_vprintf(a, fmt, ap);
  va_end(ap);
  return ts_str_of(z);
}

// GPT-2's alphabet as its authors wrote it: printable bytes are themselves, the others follow from U+0100.
static ts_str gpt2_spelling(ts_arena *a, ts_str bytes) {
  ts_text t = {0};
  for (size_t i = 0; i < bytes.len; i++) {
    unsigned b = (unsigned char)bytes.data[i], c = 0, n = 0;
    for (unsigned k = 0; k < 256; k++) {
      bool printable = (k >= '!' && k <= '~') || (k >= 0xa1 && k <= 0xac) || (k >= 0xae && k <= 0xff);
      if (k == b) c = printable ? k : 256 + n;
      n += !printable;
    }
    if (c < 0x80) ts_text_putc(&t, (char)c);
    else ts_text_printf(&t, "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)));
  }
  ts_str s = {ts_arena_strndup(a, ts_text_z(&t), t.len), t.len};
  ts_text_deinit(&t);
  return s;
}

static int32_t add_token(vocabulary *x, ts_str spelled, ts_str bytes, int32_t type, float score) {
  ts_vec_push(&x->arena, &x->tokens, spelled);
  ts_vec_push(&x->arena, &x->bytes, bytes);
  ts_vec_push(&x->arena, &x->types, type);
  ts_vec_push(&x->arena, &x->scores, score);
  return (int32_t)x->tokens.count - 1;
}
static int32_t add_named(vocabulary *x, const char *name, int32_t type) {
  return add_token(x, ts_str_of(name), ts_str_of(name), type, 0);
}

static int32_t find_bytes(const vocabulary *x, ts_str bytes) {   // normal and user-defined tokens only
  for (size_t i = 0; i < x->bytes.count; i++)
    if ((x->types.data[i] == TX_NORMAL || x->types.data[i] == TX_USER_DEFINED) && ts_str_eq(x->bytes.data[i], bytes))
      return (int32_t)i;
  return TX_NONE;
}

static void add_merge(vocabulary *x, int32_t l, int32_t r) {
  ts_str a = x->bytes.data[l], b = x->bytes.data[r];
  ts_str both = format(&x->arena, "%.*s%.*s", TS_FMT(a), TS_FMT(b));
  if (a.len + b.len != both.len) return;   // a zero byte in it: not for printf
  if (find_bytes(x, both) == TX_NONE) add_token(x, gpt2_spelling(&x->arena, both), both, TX_NORMAL, 0);
  ts_vec_push(&x->arena, &x->merges, format(&x->arena, "%.*s %.*s", TS_FMT(x->tokens.data[l]), TS_FMT(x->tokens.data[r])));
  ts_vec_push(&x->arena, &x->left, l);
  ts_vec_push(&x->arena, &x->right, r);
}

static void finish(vocabulary *x) {
  x->v.tokens = x->tokens.data, x->v.token_count = x->tokens.count, x->v.types = x->types.data, x->v.scores = x->scores.data;
  x->v.merges = x->merges.data, x->v.merge_count = x->merges.count;
  ts_diags d;
  ts_diags_init(&d);
  ts_text text = {0};
  ts_status s = tx_pack(&d, (ts_loc){0}, &x->arena, &x->v, &x->blob);
  if (s == TS_OK) s = tx_open(&d, "blob", x->blob.data, x->blob.len, &x->t);
  ts_diags_print(&d, &text, false);
  ck_assert_msg(s == TS_OK, "%s", ts_text_z(&text));
  ts_text_deinit(&text);
  ts_diags_deinit(&d);
}

static void drop(vocabulary *x) {
  tx_close(x->t);
  ts_arena_deinit(&x->arena);
}

// All bytes, `rules` random merges of tokens made so far, and a few special tokens in between.
static void make_gpt2(vocabulary *x, const char *pre, unsigned rules) {
  *x = (vocabulary){0};
  ts_arena_init(&x->arena);
  x->v = tx_vocab_defaults(TS_STR("gpt2"), ts_str_of(pre));
  x->v.eos = add_named(x, "<|endoftext|>", TX_CONTROL);
  x->v.bos = x->v.eos;
  int32_t first = (int32_t)x->tokens.count;
  for (int b = 0; b < 256; b++) {
    ts_str one = {ts_arena_copy(&x->arena, &(char){(char)b}, 1, 1), 1};
    add_token(x, gpt2_spelling(&x->arena, one), one, TX_NORMAL, 0);
  }
  add_named(x, "<|im_start|>", TX_CONTROL);
  add_named(x, "<|im_end|>", TX_CONTROL);
  add_named(x, "<|im|>", TX_CONTROL);
  add_named(x, "<tab>", TX_USER_DEFINED);
  add_named(x, "[unused]", TX_UNUSED);
  static const char *const common[] = {" ", "t", "h", "e", "a", "n", "\n", "1", "2", "'", "s", "\xc3", "\xa9", "!"};
  TS_VEC(int32_t) pool = {0};
  for (size_t i = 0; i < sizeof common / sizeof *common; i++)
    ts_vec_push(&x->arena, &pool, first + (int32_t)(unsigned char)common[i][0]);
  for (unsigned i = 0; i < rules; i++) {
    size_t before = x->tokens.count;
    add_merge(x, pool.data[random_below((uint32_t)pool.count)], pool.data[random_below((uint32_t)pool.count)]);
    if (x->tokens.count > before) ts_vec_push(&x->arena, &pool, (int32_t)before);
  }
  finish(x);
}

static void make_llama(vocabulary *x, unsigned pieces, bool byte_tokens) {
  *x = (vocabulary){0};
  ts_arena_init(&x->arena);
  x->v = tx_vocab_defaults(TS_STR("llama"), TS_STR(""));
  add_named(x, "<unk>", TX_UNKNOWN);
  add_named(x, "<s>", TX_CONTROL);
  add_named(x, "</s>", TX_CONTROL);
  for (int b = 0; b < 256 && byte_tokens; b++)
    add_token(x, format(&x->arena, "<0x%02X>", b), (ts_str){ts_arena_copy(&x->arena, &(char){(char)b}, 1, 1), 1}, TX_BYTE, 0);
  static const char *const letters[] = {" ", "t", "h", "e", "a", "n", "s", "\xc3\xa9", "\n", "1"};
  for (unsigned i = 0; i < pieces; i++) {
    ts_str piece = TS_STR("");
    unsigned n = i < 10 ? 1 : 1 + random_below(4);
    for (unsigned k = 0; k < n; k++)
      piece = format(&x->arena, "%.*s%s", TS_FMT(piece), letters[i < 10 ? i : random_below(10)]);
    if (find_bytes(x, piece) != TX_NONE) continue;
    ts_text spelled = {0};
    for (size_t k = 0; k < piece.len; k++)
      ts_text_add(&spelled, piece.data[k] == ' ' ? TS_STR("\xe2\x96\x81") : (ts_str){piece.data + k, 1});
    add_token(x, (ts_str){ts_arena_strndup(&x->arena, spelled.data, spelled.len), spelled.len}, piece, TX_NORMAL,
              -(float)random_below(40));
    ts_text_deinit(&spelled);
  }
  finish(x);
}

// ---- The oracle: join the best pair of neighbours, the leftmost among equals, until there is none
// ------------------------------------
typedef struct symbol {
  ts_str text;
  int32_t id;
} symbol;

static bool joins(const vocabulary *x, const symbol *l, const symbol *r, double *order, int32_t *id) {
  ts_str both = {l->text.data, l->text.len + r->text.len};
  if (x->t && tx_pre_name(x->t)[0]) {
    for (size_t i = 0; i < x->left.count; i++)
      if (x->left.data[i] == l->id && x->right.data[i] == r->id) {
        *order = (double)i;
        *id = find_bytes(x, both);
        return true;
      }
    return false;
  }
  *id = find_bytes(x, both);
  if (*id != TX_NONE) *order = -x->scores.data[*id];
  return *id != TX_NONE;
}

static void oracle_word(const vocabulary *x, ts_str word, tx_ids *out) {
  bool llama = !tx_pre_name(x->t)[0];
  symbol *s = malloc((word.len + 1) * sizeof *s);
  size_t n = 0;
  for (size_t at = 0; at < word.len; n++) {
    size_t len = 1;   // the texts of these tests are well-formed, or all of unknown bytes
    unsigned char c = (unsigned char)word.data[at];
    if (llama && c >= 0xc3 && c < 0xe0 && at + 1 < word.len && ((unsigned char)word.data[at + 1] & 0xc0) == 0x80) len = 2;
    s[n].text = (ts_str){word.data + at, len};
    s[n].id = find_bytes(x, s[n].text);
    at += len;
  }
  for (;;) {
    size_t best = SIZE_MAX;
    double best_order = 0;
    int32_t best_id = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      double order;
      int32_t id;
      if (joins(x, &s[i], &s[i + 1], &order, &id) && (best == SIZE_MAX || order < best_order))
        best = i, best_order = order, best_id = id;
    }
    if (best == SIZE_MAX) break;
    s[best].text.len += s[best + 1].text.len;
    s[best].id = best_id;
    memmove(&s[best + 1], &s[best + 2], (n - best - 2) * sizeof *s);
    n--;
  }
  for (size_t i = 0; i < n; i++) {
    if (s[i].id != TX_NONE) tx_ids_push(out, s[i].id);
    else
      for (size_t k = 0; k < s[i].text.len; k++) tx_ids_push(out, 3 + (unsigned char)s[i].text.data[k]);
  }
  free(s);
}

typedef struct collector {
  const vocabulary *x;
  tx_ids ids;
} collector;
static void collect(void *user, ts_str word) {
  collector *c = user;
  bool whole = ts_str_is(ts_str_of(tx_pre_name(c->x->t)), "llama-bpe") && find_bytes(c->x, word) != TX_NONE;
  if (whole) tx_ids_push(&c->ids, find_bytes(c->x, word));
  else oracle_word(c->x, word, &c->ids);
}

static ts_str random_text(ts_arena *a, unsigned pieces) {
  static const char *const parts[] = {" ",        "the",          "hat", "an", "\n",  "'s", "12", "3",
                                      "\xc3\xa9", "\xe4\xbd\xa0", "!",   "  ", "eat", "\t", "x",  "than"};
  ts_text t = {0};
  for (unsigned i = 0; i < pieces; i++) ts_text_puts(&t, parts[random_below(16)]);
  ts_str s = {ts_arena_strndup(a, ts_text_z(&t), t.len), t.len};
  ts_text_deinit(&t);
  return s;
}

static void check_same(const tx_ids *got, const tx_ids *expected, ts_str text) {
  ck_assert_msg(got->count == expected->count && (!got->count || memcmp(got->data, expected->data, got->count * 4) == 0),
                "%zu tokens, expected %zu, for '%.*s'", got->count, expected->count, TS_FMT(text));
}

START_TEST(bpe_against_oracle) {
  seed("bpe_against_oracle", 71);
  static const char *const pres[] = {"gpt2", "smollm", "llama-bpe", "qwen2"};
  for (int round = 0; round < 24; round++) {
    vocabulary x;
    make_gpt2(&x, pres[round % 4], 1 + random_below(150));
    for (int i = 0; i < 20; i++) {
      ts_str text = random_text(&x.arena, random_below(40));
      collector c = {.x = &x};
      tx_ids got = {0};
      ck_assert_int_eq(tx_words(NULL, x.t, text, collect, &c), TS_OK);
      ck_assert_int_eq(tx_encode(NULL, x.t, text, TX_PLAIN, &got), TS_OK);
      check_same(&got, &c.ids, text);
      tx_ids_deinit(&got);
      tx_ids_deinit(&c.ids);
    }
    drop(&x);
  }
}
END_TEST

START_TEST(scores_against_oracle) {
  seed("scores_against_oracle", 72);
  for (int round = 0; round < 24; round++) {
    vocabulary x;
    make_llama(&x, 10 + random_below(120), true);
    for (int i = 0; i < 20; i++) {
      ts_str text = random_text(&x.arena, 1 + random_below(40));
      tx_ids got = {0}, expected = {0};
      tx_ids_push(&expected, 1);
      oracle_word(&x, format(&x.arena, " %.*s", TS_FMT(text)), &expected);
      ck_assert_int_eq(tx_encode(NULL, x.t, text, TX_ADD_SPECIAL, &got), TS_OK);
      check_same(&got, &expected, text);
      tx_ids_deinit(&got);
      tx_ids_deinit(&expected);
    }
    drop(&x);
  }
}
END_TEST

// ---- Words
// ----------------------------------------------------------------------------------------------------------------------
static void join(void *user, ts_str word) {
  ts_text_add(user, word);
  ts_text_putc(user, '|');
}

START_TEST(pretokenizers) {
  static const struct {
    const char *text, *words[4];   // gpt2, smollm, llama-bpe, qwen2
  } cases[] = {
      {"", {"", "", "", ""}},
      {"Hello world's end",
       {"Hello| world|'s| end|", "Hello| world|'s| end|", "Hello| world|'s| end|", "Hello| world|'s| end|"}},
      {"we'll I've they're I'm he'd don't",
       {"we|'ll| I|'ve| they|'re| I|'m| he|'d| don|'t|", "we|'ll| I|'ve| they|'re| I|'m| he|'d| don|'t|",
        "we|'ll| I|'ve| they|'re| I|'m| he|'d| don|'t|", "we|'ll| I|'ve| they|'re| I|'m| he|'d| don|'t|"}},
      {"I'LL DON'T", {"I|'|LL| DON|'|T|", "I|'|LL| DON|'|T|", "I|'LL| DON|'T|", "I|'LL| DON|'T|"}},
      {"ab12345c 67 x8",
       {"ab|12345|c| 67| x|8|", "ab|1|2|3|4|5|c| |6|7| x|8|", "ab|123|45|c| |67| x|8|", "ab|1|2|3|4|5|c| |6|7| x|8|"}},
      {"1,234.5", {"1|,|234|.|5|", "1|,|2|3|4|.|5|", "1|,|234|.|5|", "1|,|2|3|4|.|5|"}},
      // letters and numbers of Unicode: é, Ü, Chinese, Arabic-Indic digit three, superscript two, Roman numeral four
      {"na\u00efve \u00dcber \u4f60\u597d",
       {"na\u00efve| \u00dcber| \u4f60\u597d|", "na\u00efve| \u00dcber| \u4f60\u597d|", "na\u00efve| \u00dcber| \u4f60\u597d|",
        "na\u00efve| \u00dcber| \u4f60\u597d|"}},
      {"x\u00b2\u0663\u2163",
       {"x|\u00b2\u0663\u2163|", "x|\u00b2|\u0663|\u2163|", "x|\u00b2\u0663\u2163|", "x|\u00b2|\u0663|\u2163|"}},
      {"e\u0301t", {"e|\u0301|t|", "e|\u0301|t|", "e|\u0301t|", "e|\u0301t|"}},   // a combining mark is no letter
      {"a   b", {"a|  | b|", "a|  | b|", "a|  | b|", "a|  | b|"}},
      {"a   ", {"a|   |", "a|   |", "a|   |", "a|   |"}},
      {"a   7", {"a|  | 7|", "a|   |7|", "a|  | |7|", "a|  | |7|"}},
      {"\tif", {"\t|if|", "\t|if|", "\tif|", "\tif|"}},
      {"a\n\n\nb", {"a|\n\n|\n|b|", "a|\n\n|\n|b|", "a|\n\n\n|b|", "a|\n\n\n|b|"}},
      {"a \n  b", {"a| \n | b|", "a| \n | b|", "a| \n| | b|", "a| \n| | b|"}},
      {"x;\r\n\r\ny", {"x|;|\r\n\r|\n|y|", "x|;|\r\n\r|\n|y|", "x|;\r\n\r\n|y|", "x|;\r\n\r\n|y|"}},
      {"(a) !!?", {"(|a|)| !!?|", "(|a|)| !!?|", "(a|)| !!?|", "(a|)| !!?|"}},
      // U+00A0, U+3000 and U+0085 are white space, U+180E is not
      {"a\u00a0\u3000\xc2\x85"
       "b",
       {"a|\u00a0\u3000|\xc2\x85|b|", "a|\u00a0\u3000|\xc2\x85|b|",
        "a|\u00a0\u3000|\xc2\x85"
        "b|",
        "a|\u00a0\u3000|\xc2\x85"
        "b|"}},
      {"! \u180e?", {"!| \u180e?|", "!| \u180e?|", "!| \u180e?|", "!| \u180e?|"}},
      {"\U0001F44D\U0001F3FD ok",
       {"\U0001F44D\U0001F3FD| ok|", "\U0001F44D\U0001F3FD| ok|", "\U0001F44D\U0001F3FD| ok|", "\U0001F44D\U0001F3FD| ok|"}},
      // bytes that are not UTF-8 are words of their own: a stray 0xff, a surrogate, an overlong slash, a cut-off character
      {"ab\xff"
       "cd",
       {"ab|\xff|cd|", "ab|\xff|cd|", "ab|\xff|cd|", "ab|\xff|cd|"}},
      {"a\xed\xa0\x80z\xc0\xaf\xe4\xbd",
       {"a|\xed\xa0\x80|z|\xc0\xaf\xe4\xbd|", "a|\xed\xa0\x80|z|\xc0\xaf\xe4\xbd|", "a|\xed\xa0\x80|z|\xc0\xaf\xe4\xbd|",
        "a|\xed\xa0\x80|z|\xc0\xaf\xe4\xbd|"}},
  };
  static const char *const pres[] = {"gpt2", "smollm", "llama-bpe", "qwen2"};
  for (int p = 0; p < 4; p++) {
    vocabulary x;
    seed("pretokenizers", 73);
    make_gpt2(&x, pres[p], 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      ts_text words = {0};
      ck_assert_int_eq(tx_words(NULL, x.t, ts_str_of(cases[i].text), join, &words), TS_OK);
      ck_assert_msg(ts_str_is(ts_text_str(&words), cases[i].words[p]), "%s, case %zu: got '%s', expected '%s'", pres[p], i,
                    ts_text_z(&words), cases[i].words[p]);
      ts_text_deinit(&words);
    }
    drop(&x);
  }
}
END_TEST

// ---- Special tokens, decoding
// -------------------------------------------------------------------------------------------------------
static void check_decoded(const tx_tokenizer *t, const tx_ids *ids, bool start, bool show, ts_str expected) {
  tx_decoder dec;
  ts_text out = {0};
  tx_decoder_init(&dec, t, start, show);
  for (size_t i = 0; i < ids->count; i++) ck_assert_int_eq(tx_decode(NULL, &dec, ids->data[i], &out), TS_OK);
  tx_decode_end(&dec, &out);
  ck_assert_msg(ts_str_eq(ts_text_str(&out), expected), "got '%s', expected '%.*s'", ts_text_z(&out), TS_FMT(expected));
  ts_text_deinit(&out);
}

START_TEST(special_tokens) {
  seed("special_tokens", 74);
  vocabulary x;
  make_gpt2(&x, "gpt2", 0);
  ts_str text = TS_STR("<|im_start|>a<tab><|im_end|><|im|<|im|>");
  int32_t start = tx_token_find(x.t, TS_STR("<|im_start|>")), end = tx_token_find(x.t, TS_STR("<|im_end|>"));
  int32_t im = tx_token_find(x.t, TS_STR("<|im|>")), tab = tx_token_find(x.t, TS_STR("<tab>"));
  tx_ids ids = {0}, plain = {0};
  ck_assert_int_eq(tx_encode(NULL, x.t, text, TX_PARSE_SPECIAL, &ids), TS_OK);
  int32_t expected[] = {start, 1 + 'a', tab, end, 1 + '<', 1 + '|', 1 + 'i', 1 + 'm', 1 + '|', im};
  ck_assert_uint_eq(ids.count, 10);
  ck_assert_mem_eq(ids.data, expected, sizeof expected);
  check_decoded(x.t, &ids, true, true, text);
  check_decoded(x.t, &ids, true, false, TS_STR("a<tab><|im|"));
  ck_assert_int_eq(tx_encode(NULL, x.t, text, TX_PLAIN, &plain), TS_OK);   // user-defined tokens are found even so
  ck_assert_uint_eq(plain.count, text.len - 5 + 1);
  for (size_t i = 0; i < plain.count; i++) ck_assert(tx_token_type(x.t, plain.data[i]) == TX_NORMAL || plain.data[i] == tab);
  check_decoded(x.t, &plain, true, false, text);
  ck_assert_int_eq(tx_token_find(x.t, TS_STR("no such token")), TX_NONE);
  ck_assert_int_eq(tx_token_type(x.t, -1), 0);
  ck_assert_int_eq(tx_token_type(x.t, (int32_t)tx_token_count(x.t)), 0);
  ts_diags d;
  ts_diags_init(&d);
  tx_decoder dec;
  ts_text out = {0};
  tx_decoder_init(&dec, x.t, false, false);
  ck_assert_int_eq(tx_decode(&d, &dec, (int32_t)tx_token_count(x.t), &out), TS_OUT_OF_RANGE);
  ck_assert(ts_diags_has(&d, &diag_token_range));
  ts_diags_deinit(&d);
  tx_ids_deinit(&ids);
  tx_ids_deinit(&plain);
  drop(&x);
}
END_TEST

// Whatever the bytes, encoding and decoding give them back; streamed output is cut between characters only.
static void check_stream(const tx_tokenizer *t, ts_str text, bool valid) {
  tx_ids ids = {0};
  tx_decoder dec;
  ts_text out = {0};
  ck_assert_int_eq(tx_encode(NULL, t, text, TX_PLAIN, &ids), TS_OK);
  tx_decoder_init(&dec, t, true, false);
  size_t wrong = 0;   // counted, as Check writes a file at every assertion
  for (size_t i = 0; i < ids.count; i++) {
    wrong += tx_decode(NULL, &dec, ids.data[i], &out) != TS_OK || dec.held_count > 3;
    wrong += valid && out.len < text.len && ((unsigned char)text.data[out.len] & 0xc0) == 0x80;
  }
  ck_assert_uint_eq(wrong, 0);
  if (valid) ck_assert_uint_eq(dec.held_count, 0);
  tx_decode_end(&dec, &out);
  ck_assert_msg(ts_str_eq(ts_text_str(&out), text), "%zu bytes became %zu", text.len, out.len);
  tx_ids_deinit(&ids);
  ts_text_deinit(&out);
}

START_TEST(round_trips) {
  seed("round_trips", 75);
  for (int kind = 0; kind < 5; kind++) {
    vocabulary x;
    if (kind < 4) make_gpt2(&x, (const char *[]){"gpt2", "smollm", "llama-bpe", "qwen2"}[kind], 120);
    else make_llama(&x, 120, true);
    for (int i = 0; i < 200; i++) {
      char bytes[64];
      size_t n = random_below(64);
      for (size_t k = 0; k < n; k++) bytes[k] = (char)random_below(256);
      bool mark = kind == 4 && memmem(bytes, n, "\xe2\x96\x81", 3);   // SentencePiece's mark is a space by design
      if (!mark) check_stream(x.t, (ts_str){bytes, n}, false);
      ts_text t = {0};
      for (unsigned k = random_below(30); k; k--) {
        uint32_t c = random_below(4) ? random_below(0x250) : random_below(0x110000);
        if (c == 0x2581 || (c >= 0xd800 && c < 0xe000)) c = 'x';
        if (c < 0x80) ts_text_putc(&t, (char)c);
        else if (c < 0x800) ts_text_printf(&t, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        else if (c < 0x10000) ts_text_printf(&t, "%c%c%c", 0xe0 | c >> 12, 0x80 | (c >> 6 & 63), 0x80 | (c & 63));
        else ts_text_printf(&t, "%c%c%c%c", 0xf0 | c >> 18, 0x80 | (c >> 12 & 63), 0x80 | (c >> 6 & 63), 0x80 | (c & 63));
      }
      check_stream(x.t, ts_text_str(&t), true);
      ts_text_deinit(&t);
    }
    drop(&x);
  }
}
END_TEST

START_TEST(space_prefix) {
  seed("space_prefix", 76);
  vocabulary x;
  make_llama(&x, 10, true);
  int32_t space = find_bytes(&x, TS_STR(" ")), t = find_bytes(&x, TS_STR("t")), h = find_bytes(&x, TS_STR("h"));
  tx_ids ids = {0};
  ck_assert_int_eq(tx_encode(NULL, x.t, TS_STR("t</s>h"), TX_ADD_SPECIAL | TX_PARSE_SPECIAL, &ids), TS_OK);
  int32_t expected[] = {1, space, t, 2, space, h};
  ck_assert_uint_eq(ids.count, 6);
  ck_assert_mem_eq(ids.data, expected, sizeof expected);
  check_decoded(x.t, &ids, true, false, TS_STR("t h"));
  check_decoded(x.t, &ids, true, true, TS_STR("<s>t</s> h"));
  ids.count = 2;
  ids.data[0] = space, ids.data[1] = t;
  check_decoded(x.t, &ids, false, false, TS_STR(" t"));   // goes on after a prompt
  check_decoded(x.t, &ids, true, false, TS_STR("t"));
  tx_ids_deinit(&ids);
  drop(&x);
}
END_TEST

START_TEST(without_bytes) {   // no byte tokens: an unknown character is the unknown token, with a warning
  seed("without_bytes", 77);
  vocabulary x;
  make_llama(&x, 10, false);
  ts_diags d;
  ts_diags_init(&d);
  tx_ids ids = {0};
  ck_assert_int_eq(tx_encode(&d, x.t, TS_STR("\xe4\xbd\xa0t"), TX_PLAIN, &ids), TS_OK);
  ck_assert_uint_eq(ids.count, 3);
  ck_assert_int_eq(ids.data[1], 0);
  ck_assert(ts_diags_has(&d, &diag_text_dropped));
  ck_assert_uint_eq(d.errors, 0);
  ts_diags_deinit(&d);
  tx_ids_deinit(&ids);
  drop(&x);
}
END_TEST

START_TEST(long_texts) {   // one word of a megabyte: quadratic merging would not come to an end
  seed("long_texts", 78);
  vocabulary x, y;
  make_gpt2(&x, "llama-bpe", 150);
  make_llama(&y, 120, true);
  ts_text t = {0};
  for (int i = 0; i < 1 << 18; i++) ts_text_puts(&t, (const char *[]){"the", "hate", "ante", "tahn"}[random_below(4)]);
  check_stream(x.t, ts_text_str(&t), true);
  check_stream(y.t, ts_text_str(&t), true);
  ts_text_clear(&t);
  for (int i = 0; i < 1 << 19; i++) ts_text_putc(&t, ' ');
  ts_text_putc(&t, 'x');
  check_stream(x.t, ts_text_str(&t), true);
  ts_text_deinit(&t);
  drop(&x);
  drop(&y);
}
END_TEST

// ---- Chat
// -----------------------------------------------------------------------------------------------------------------------
static void with_template(vocabulary *x, const char *template) {
  seed("with_template", 79);
  make_gpt2(x, "gpt2", 0);
  tx_close(x->t);
  x->v.chat_template = ts_str_of(template);
  finish(x);
}

static void check_prompt(const char *template, tx_chat format, const tx_message *m, size_t n, bool generate,
                         const char *expected) {
  vocabulary x;
  with_template(&x, template);
  ts_text out = {0};
  ck_assert_int_eq(tx_chat_format(x.t), format);
  ck_assert(ts_str_is(tx_chat_template(x.t), template));
  ck_assert_int_eq(tx_chat_prompt(NULL, x.t, m, n, generate, &out), TS_OK);
  ck_assert_str_eq(ts_text_z(&out), expected);
  ts_text_deinit(&out);
  drop(&x);
}

START_TEST(chat_formats) {
  const tx_message talk[] = {
      {TS_STR("user"), TS_STR(" Hi ")}, {TS_STR("assistant"), TS_STR("Yes?")}, {TS_STR("user"), TS_STR("2+2")}};
  const tx_message strict[] = {{TS_STR("system"), TS_STR("Be brief.")}, {TS_STR("user"), TS_STR("Hi\n")}};
  static const char chatml[] =
      "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}";
  check_prompt(chatml, TX_CHAT_CHATML, talk, 3, true,
               "<|im_start|>user\n Hi "
               "<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\n2+2<|im_end|>\n<|im_start|>assistant\n");
  check_prompt(chatml, TX_CHAT_CHATML, talk, 1, false, "<|im_start|>user\n Hi <|im_end|>\n");
  // A default system prompt: with a real newline, with an escaped one and behind a branch for tools (as Qwen2.5 has it).
  static const char real[] =
      "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are S.<|im_end|>\n' }}{% endif %}";
  static const char escaped[] =
      "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- messages[0].content }}{{ '<|im_end|>' }}{%- else %}"
      "{{- '<|im_start|>system\\nYou\\'re \"Q\".<|im_end|>\\n' }}{%- endif %}";
  check_prompt(real, TX_CHAT_CHATML, talk, 1, true,
               "<|im_start|>system\nYou are S.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
  check_prompt(escaped, TX_CHAT_CHATML, talk, 1, false,
               "<|im_start|>system\nYou're \"Q\".<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n");
  check_prompt(real, TX_CHAT_CHATML, strict, 2, false,
               "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\n<|im_end|>\n");
  static const char llama3[] = "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
                               "message['content'] | trim + '<|eot_id|>' %}";
  check_prompt(llama3, TX_CHAT_LLAMA3, strict, 2, true,
               "<|start_header_id|>system<|end_header_id|>\n\nBe "
               "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\n");
}
END_TEST

START_TEST(chat_refusals) {
  const struct {
    const char *template;
    tx_chat format;
    const ts_diag_kind *kind;
  } cases[] = {
    {"", TX_CHAT_NONE, &diag_chat_template_missing},
    {"{{ '[INST] ' + m['content'] + ' [/INST]' }}", TX_CHAT_OTHER, &diag_chat_template_unknown},
    {"{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}", TX_CHAT_OTHER, &diag_chat_template_unknown},
    {"{{ '<|im_start|><|im_end|>' }}", TX_CHAT_CHATML, &diag_chat_role},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    vocabulary x;
    ts_diags d;
    ts_text out = {0};
    ts_diags_init(&d);
    with_template(&x, cases[i].template);
    ck_assert_int_eq(tx_chat_format(x.t), cases[i].format);
    tx_message m = {TS_STR("us er\n"), TS_STR("Hi")};
    ck_assert_int_ne(tx_chat_prompt(&d, x.t, &m, 1, true, &out), TS_OK);
    ck_assert(ts_diags_has(&d, cases[i].kind));
    ck_assert_uint_eq(out.len, 0);
    ts_diags_deinit(&d);
    drop(&x);
  }
}
END_TEST

START_TEST(stop_tokens) {
  seed("stop_tokens", 80);
  vocabulary x = {0};
  ts_arena_init(&x.arena);
  x.v = tx_vocab_defaults(TS_STR("gpt2"), TS_STR("llama-bpe"));
  ck_assert(x.v.add_bos);
  x.v.bos = add_named(&x, "<|begin_of_text|>", TX_CONTROL);
  add_named(&x, "<|end_of_text|>", TX_CONTROL);
  add_named(&x, "<|eot_id|>", TX_NORMAL);   // a badly converted file: corrected
  x.v.eos = add_named(&x, "<eos>", TX_CONTROL);
  x.v.eom = add_named(&x, "<eom>", TX_CONTROL);
  finish(&x);
  size_t n;
  const int32_t *stops = tx_stops(x.t, &n);
  ck_assert_uint_eq(n, 4);
  for (int i = 0; i < 4; i++) ck_assert_int_eq(stops[i], i + 1);
  for (int i = -1; i < 8; i++) ck_assert_int_eq(tx_is_stop(x.t, i), i >= 1 && i <= 4);
  ck_assert_int_eq(tx_token_type(x.t, 2), TX_CONTROL);
  drop(&x);
}
END_TEST

// ---- Refusals of tx_pack
// ----------------------------------------------------------------------------------------------------------------
static void check_refused(const tx_vocab *v, const ts_diag_kind *kind, const char *words) {
  ts_arena a;
  ts_diags d;
  ts_text text = {0};
  ts_arena_init(&a);
  ts_diags_init(&d);
  ts_str blob = {0};
  ck_assert_int_eq(tx_pack(&d, (ts_loc){.file = "m.gguf"}, &a, v, &blob), kind->status);
  ts_diags_print(&d, &text, false);
  ck_assert_msg(ts_diags_has(&d, kind) && strstr(ts_text_z(&text), words) && strstr(ts_text_z(&text), "m.gguf"), "got: %s",
                ts_text_z(&text));
  ck_assert_ptr_null(blob.data);
  ts_text_deinit(&text);
  ts_diags_deinit(&d);
  ts_arena_deinit(&a);
}

START_TEST(pack_refusals) {
  const ts_str tokens[] = {TS_STR("a"), TS_STR("b"), TS_STR("ab"), TS_STR("<x>")};
  const int32_t types[] = {1, 1, 1, 3};
  const float scores[] = {0, 1, 2, 3};
  const ts_str good[] = {TS_STR("a b")};
  tx_vocab v = tx_vocab_defaults(TS_STR("gpt2"), TS_STR("gpt2"));
  v.tokens = tokens, v.types = types, v.token_count = 4, v.merges = good, v.merge_count = 1;
  tx_vocab l = tx_vocab_defaults(TS_STR("llama"), TS_STR(""));
  l.tokens = tokens, l.types = types, l.scores = scores, l.token_count = 4;
  tx_vocab b;
#define REFUSED(from, change, kind, words) b = from, change, check_refused(&b, &diag_##kind, words)
  REFUSED(v, b.model = TS_STR("bert"), tokenizer_model, "'bert'");
  REFUSED(v, b.pre = TS_STR("falcon"), tokenizer_pre, "'falcon'");
  REFUSED(v, b.token_count = 0, tokenizer_vocabulary, "no tokens");
  REFUSED(v, b.token_count = ((size_t)1 << 22) + 1, tokenizer_too_large, "4194305");
  REFUSED(v, b.bos = 4, tokenizer_vocabulary, "bos");
  REFUSED(v, b.eos = -2, tokenizer_vocabulary, "eos");
  REFUSED(v, b.add_bos = true, tokenizer_vocabulary, "BOS");
  REFUSED(v, b.types = ((int32_t[]){1, 7, 1, 1}), tokenizer_vocabulary, "token 1");
  REFUSED(v, b.types = ((int32_t[]){1, 1, 6, 1}), tokenizer_vocabulary, "<0xNN>");
  REFUSED(v, b.merges = ((ts_str[]){TS_STR("ab")}), tokenizer_merge, "merge 0");
  REFUSED(v, b.merges = ((ts_str[]){TS_STR("a ")}), tokenizer_merge, "merge 0");
  REFUSED(v, b.merges = ((ts_str[]){TS_STR("a c")}), tokenizer_merge, "right piece 'c'");
  REFUSED(v, b.merges = ((ts_str[]){TS_STR("c a")}), tokenizer_merge, "left piece 'c'");
  REFUSED(v, b.merges = ((ts_str[]){TS_STR("b a")}), tokenizer_merge, "result 'ba'");
  REFUSED(l, b.scores = NULL, tokenizer_vocabulary, "score");
  REFUSED(l, b.scores = ((float[]){0, 0, 0.0f / 0.0f, 0}), tokenizer_vocabulary, "token 2");
#undef REFUSED
}
END_TEST

START_TEST(pack_is_deterministic) {
  for (int kind = 0; kind < 2; kind++) {
    vocabulary x;
    seed("pack_is_deterministic", 81);
    if (kind) make_llama(&x, 100, true);
    else make_gpt2(&x, "qwen2", 100);
    ts_str again = {0};
    ck_assert_int_eq(tx_pack(NULL, (ts_loc){0}, &x.arena, &x.v, &again), TS_OK);
    ck_assert(ts_str_eq(again, x.blob));
    drop(&x);
  }
}
END_TEST

// ---- Hostile blobs
// ---------------------------------------------------------------------------------------------------------------------- Opens
// an exact-size copy (so that ASan sees every byte too many) and, when it is accepted, uses all of it.
static bool try_blob(const char *data, size_t n) {
  char *copy = malloc(n ? n : 1);
  memcpy(copy, data, n);
  ts_diags d;
  ts_diags_init(&d);
  tx_tokenizer *t = NULL;
  ts_status s = tx_open(&d, "blob", copy, n, &t);
  if (s == TS_OK) {
    tx_ids ids = {0};
    ts_text out = {0};
    static const char text[] = "<|im_start|>the hat's 123 \xc3\xa9 \xff</s>\n\n eaten";
    for (unsigned flags = 0; flags < 4; flags++) tx_encode(&d, t, ts_str_of(text), flags, &ids);
    tx_decoder dec;
    tx_decoder_init(&dec, t, true, true);
    for (size_t i = 0; i < ids.count; i++) ck_assert_int_eq(tx_decode(&d, &dec, ids.data[i], &out), TS_OK);
    for (int32_t i = 0; i < (int32_t)tx_token_count(t); i++) tx_decode(&d, &dec, i, &out), tx_is_stop(t, i);
    tx_message m = {TS_STR("user"), TS_STR("hi")};
    tx_chat_prompt(&d, t, &m, 1, true, &out);
    ts_text_deinit(&out);
    tx_ids_deinit(&ids);
    tx_close(t);
  } else {
    ck_assert_uint_gt(d.errors, 0);
    ck_assert_ptr_null(t);
  }
  ts_diags_deinit(&d);
  free(copy);
  return s == TS_OK;
}

START_TEST(truncation) {
  for (int kind = 0; kind < 2; kind++) {
    vocabulary x;
    seed("truncation", 82);
    if (kind) make_llama(&x, 60, true);
    else make_gpt2(&x, "smollm", 60);
    ck_assert(try_blob(x.blob.data, x.blob.len));
    char *copy = malloc(x.blob.len);
    for (size_t n = 0; n < x.blob.len; n += n < 1400 ? 1 : 7) {   // all of the header and the byte table
      memcpy(copy, x.blob.data, x.blob.len);
      ck_assert(!try_blob(copy, n));
      if (n >= 16) {   // and with a size field that agrees
        memcpy(copy + 8, &(uint64_t){n}, 8);
        ck_assert(!try_blob(copy, n));
      }
    }
    free(copy);
    drop(&x);
  }
}
END_TEST

START_TEST(mutation) {
  int opened = 0, tried = 0;
  for (int kind = 0; kind < 2; kind++) {
    vocabulary x;
    seed("mutation", 83);
    if (kind) make_llama(&x, 60, true);
    else make_gpt2(&x, "llama-bpe", 60);
    tx_close(x.t);
    x.v.chat_template = TS_STR("{{ '<|im_start|>system\nX<|im_end|>\n' }}");
    finish(&x);
    char *copy = malloc(x.blob.len);
    for (int i = 0; i < 3000; i++, tried++) {
      memcpy(copy, x.blob.data, x.blob.len);
      for (unsigned k = 1 + random_below(3); k; k--) {
        uint32_t at = random_below(random_below(3) ? (uint32_t)x.blob.len : 128);
        switch (random_below(4)) {
          case 0: copy[at] ^= (char)(1 << random_below(8)); break;
          case 1: copy[at] = (char)random_below(256); break;
          case 2: copy[at] = (char)(random_below(2) ? 0xff : 0); break;
          default: {
            uint32_t word = random_below(2) ? random_below(400) : 0xfffffff0u + random_below(16);
            memcpy(copy + at / 4 * 4, &word, 4);
          }
        }
      }
      opened += try_blob(copy, x.blob.len);
    }
    free(copy);
    drop(&x);
  }
  printf("mutation: %d of %d damaged blobs were still vocabularies\n", opened, tried);
  ck_assert_int_lt(opened, tried / 2);
}
END_TEST

int main(void) {
  TCase *c = tcase_create("text");
  tcase_add_test(c, bpe_against_oracle);
  tcase_add_test(c, scores_against_oracle);
  tcase_add_test(c, pretokenizers);
  tcase_add_test(c, special_tokens);
  tcase_add_test(c, round_trips);
  tcase_add_test(c, space_prefix);
  tcase_add_test(c, without_bytes);
  tcase_add_test(c, long_texts);
  tcase_add_test(c, chat_formats);
  tcase_add_test(c, chat_refusals);
  tcase_add_test(c, stop_tokens);
  tcase_add_test(c, pack_refusals);
  tcase_add_test(c, pack_is_deterministic);
  tcase_add_test(c, truncation);
  tcase_add_test(c, mutation);
  Suite *s = suite_create("text");
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
