// Encoding: special tokens are cut out of the text, what is left is split into words by the pre-tokenizer ("gpt2") or prepared
// like SentencePiece does ("llama"), and each word is merged (bpe.c).
#include "text/format.h"

#include <stdlib.h>

typedef struct fragment {
  uint32_t at, len;
  int32_t id;   // TX_NONE: text
} fragment;
typedef TS_VEC(fragment) fragments;

void tx_ids_deinit(tx_ids *ids) {
  free(ids->data);
  *ids = (tx_ids){0};
}

void tx_ids_push(tx_ids *ids, int32_t id) {
  if (ids->count == ids->capacity) {
    size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
    int32_t *data = realloc(ids->data, capacity * sizeof *data);
    if (!data) {
      fprintf(stderr, "tessera: out of memory (%zu bytes)\n", capacity * sizeof *data);
      abort();
    }
    ids->data = data;
    ids->capacity = capacity;
  }
  ids->data[ids->count++] = id;
}

// Cuts the text fragments of `from` at every occurrence of one special token; false when there is none.
static bool cut_at(ts_arena *a, const fragments *from, const char *text, ts_str token, int32_t id, fragments *to) {
  bool found = false;
  to->count = 0;
  for (size_t i = 0; i < from->count; i++) {
    fragment f = from->data[i];
    if (f.id == TX_NONE) {
      const char *hit;
      while (f.len && (hit = memmem(text + f.at, f.len, token.data, token.len))) {
        if (!found)   // nothing was copied so far
          for (size_t k = 0; k < i; k++) ts_vec_push(a, to, from->data[k]);
        found = true;
        uint32_t before = (uint32_t)(hit - (text + f.at));
        if (before) ts_vec_push(a, to, ((fragment){f.at, before, TX_NONE}));
        ts_vec_push(a, to, ((fragment){f.at + before, (uint32_t)token.len, id}));
        f.at += before + (uint32_t)token.len;
        f.len -= before + (uint32_t)token.len;
      }
      if (!f.len) continue;
    }
    if (found) ts_vec_push(a, to, f);
  }
  return found;
}

// The longest special tokens take what they match anywhere in the text before shorter ones are looked for (as llama.cpp does).
static fragments cut_specials(ts_arena *a, const tx_view *v, ts_str text, bool parse) {
  fragments now = {0}, next = {0};
  bool present[256] = {false};
  for (size_t i = 0; i < text.len; i++) present[(unsigned char)text.data[i]] = true;
  if (text.len) ts_vec_push(a, &now, ((fragment){0, (uint32_t)text.len, TX_NONE}));
  for (uint32_t i = 0; i < v->h->specials; i++) {
    uint32_t id = (uint32_t)v->specials[i];
    ts_str token = tx_view_token(v, id);
    if ((!parse && v->types[id] != TX_USER_DEFINED) || token.len > text.len || !present[(unsigned char)token.data[0]]) continue;
    if (!cut_at(a, &now, text.data, token, (int32_t)id, &next)) continue;
    fragments t = now;
    now = next;
    next = t;
  }
  return now;
}

static void encode_word(tx_work *w, ts_str word) {
  if (!word.len) return;
  if (w->on_word) {
    w->on_word(w->user, word);
    return;
  }
  int32_t id = w->t->pre->ignore_merges ? tx_find_piece(&w->t->v, word) : TX_NONE;
  if (id != TX_NONE) tx_ids_push(w->ids, id);
  else tx_merge_word(w, word);
}

// Splits well-formed text by the pattern of `stage` and what comes out by the next.
static ts_status split(tx_work *w, int stage, ts_str text) {
  while (stage < 2 && !w->t->patterns[stage]) stage++;
  if (stage == 2) {
    encode_word(w, text);
    return TS_OK;
  }
  for (size_t at = 0; at < text.len;) {
    int n = pcre2_match(w->t->patterns[stage], (PCRE2_SPTR)text.data, text.len, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                        w->match, NULL);
    size_t start = text.len, end = text.len;
    if (n >= 0) {
      const size_t *span = pcre2_get_ovector_pointer(w->match);
      start = span[0], end = span[1];
    } else if (n != PCRE2_ERROR_NOMATCH) {
      PCRE2_UCHAR reason[128];
      pcre2_get_error_message(n, reason, sizeof reason);
      return ts_report(w->d, (ts_loc){0}, &diag_text_split, "splitting the text into words failed: %s", (const char *)reason);
    }
    if (start > at) TS_TRY(split(w, stage + 1, (ts_str){text.data + at, start - at}));
    if (end > start) TS_TRY(split(w, stage + 1, (ts_str){text.data + start, end - start}));
    at = end;
  }
  return TS_OK;
}

// The patterns see well-formed UTF-8 only; a run of other bytes is a word of its own.
static ts_status encode_gpt2(tx_work *w, ts_str text) {
  for (size_t at = 0; at < text.len;) {
    size_t end = at, n;
    while (end < text.len && (n = tx_utf8_length(text.data + end, text.len - end))) end += n;
    TS_TRY(split(w, 0, (ts_str){text.data + at, end - at}));
    at = end;
    while (end < text.len && !tx_utf8_length(text.data + end, text.len - end)) end++;
    encode_word(w, (ts_str){text.data + at, end - at});
    at = end;
  }
  return TS_OK;
}

// A space in front where wanted, and ▁ (which pieces spell as a space) made a space; then the whole text is one word.
static void encode_llama(tx_work *w, ts_str text, bool prefix) {
  char *copy = ts_arena_alloc(&w->arena, text.len + 1, 1);
  size_t n = 0;
  if (prefix) copy[n++] = ' ';
  for (size_t i = 0; i < text.len;) {
    bool mark = text.len - i >= 3 && memcmp(text.data + i, "\xe2\x96\x81", 3) == 0;
    copy[n++] = mark ? ' ' : text.data[i];
    i += mark ? 3 : 1;
  }
  tx_merge_word(w, (ts_str){copy, n});
}

static ts_status encode(tx_work *w, ts_str text, unsigned flags) {
  const tx_header *h = w->t->v.h;
  fragments f = cut_specials(&w->arena, &w->t->v, text, flags & TX_PARSE_SPECIAL);
  bool after_special = true;
  if ((flags & TX_ADD_SPECIAL) && (h->flags & TX_F_ADD_BOS)) tx_ids_push(w->ids, h->bos);
  for (size_t i = 0; i < f.count; i++) {
    ts_str part = {text.data + f.data[i].at, f.data[i].len};
    if (f.data[i].id != TX_NONE) tx_ids_push(w->ids, f.data[i].id);
    else if (w->t->pre) TS_TRY(encode_gpt2(w, part));
    else encode_llama(w, part, after_special && (h->flags & TX_F_SPACE_PREFIX));
    after_special = f.data[i].id != TX_NONE;
  }
  if ((flags & TX_ADD_SPECIAL) && (h->flags & TX_F_ADD_EOS)) tx_ids_push(w->ids, h->eos);
  return TS_OK;
}

static ts_status begin(tx_work *w, ts_diags *d, const tx_tokenizer *t, ts_str text) {
  if (text.len >= INT32_MAX)
    return ts_report(d, (ts_loc){0}, &diag_text_too_long, "a text of %zu bytes is too long to encode; the limit is 2 GiB",
                     text.len);
  *w = (tx_work){.t = t, .d = d, .match = pcre2_match_data_create(1, NULL)};
  if (!w->match) return TS_OUT_OF_MEMORY;
  ts_arena_init(&w->arena);
  return TS_OK;
}

static void end(tx_work *w) {
  pcre2_match_data_free(w->match);
  ts_arena_deinit(&w->arena);
}

ts_status tx_encode(ts_diags *d, const tx_tokenizer *t, ts_str text, unsigned flags, tx_ids *ids) {
  tx_work w;
  TS_TRY(begin(&w, d, t, text));
  w.ids = ids;
  size_t before = ids->count;
  ts_status s = encode(&w, text, flags);
  if (s != TS_OK) ids->count = before;
  if (s == TS_OK && w.dropped)
    ts_report(d, (ts_loc){0}, &diag_text_dropped, "%zu bytes of the text (the first is 0x%02x) have no token and %s", w.dropped,
              w.first_dropped, t->pre || t->v.h->unk == TX_NONE ? "are left out" : "become the unknown token");
  end(&w);
  return s;
}

ts_status tx_words(ts_diags *d, const tx_tokenizer *t, ts_str text, tx_word_fn *fn, void *user) {
  tx_work w;
  TS_TRY(begin(&w, d, t, text));
  w.on_word = fn, w.user = user;
  ts_status s = TS_OK;
  if (t->pre) s = encode_gpt2(&w, text);
  else if (text.len) fn(user, text);
  end(&w);
  return s;
}
