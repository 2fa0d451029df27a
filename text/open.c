// Opens a packed vocabulary. Everything that later calls rely on is proved here, so that they need no checks of their own: each
// check_ function takes one part (see format.h) and reports the byte offset of the first thing that is wrong.
#include "text/format.h"

#include <math.h>
#include <stdlib.h>

typedef struct opening {
  ts_diags *d;
  ts_sym name;
  const tx_header *h;
  tx_layout l;
  tx_view v;
} opening;

static ts_status corrupt(const opening *o, uint64_t offset, const char *what) {
  return ts_report(o->d, (ts_loc){.file = o->name, .offset = offset}, &diag_tokenizer_corrupt,
                   "the tokenizer section is damaged at its byte %llu: %s", (unsigned long long)offset, what);
}

static bool slots_ok(uint32_t slots, uint32_t entries, uint32_t most) {
  return slots >= 8 && slots <= most && !(slots & (slots - 1)) && entries <= slots;
}

static ts_status check_header(opening *o, const void *blob, size_t size) {
  const tx_header *h = o->h = blob;
  if (!blob || size < sizeof *h) return corrupt(o, size, "it ends inside its header");
  if ((uintptr_t)blob % 8) return corrupt(o, 0, "it is not placed at a multiple of 8");
  if (memcmp(h->magic, TX_MAGIC, 4) != 0) return corrupt(o, 0, "it does not begin with " TX_MAGIC);
  if (h->major != TX_MAJOR)
    return ts_report(o->d, (ts_loc){.file = o->name}, &diag_tokenizer_version,
                     "the tokenizer section has format version %u.%u; this program reads %d.x", h->major, h->minor, TX_MAJOR);
  if (h->kind != TX_KIND_GPT2 && h->kind != TX_KIND_LLAMA)
    return corrupt(o, offsetof(tx_header, kind), "unknown kind of vocabulary");
  bool gpt2 = h->kind == TX_KIND_GPT2;
  if (gpt2 != (tx_pretokenizer_of_code(h->pre) != NULL)) return corrupt(o, offsetof(tx_header, pre), "unknown pre-tokenizer");
  if (h->flags & ~(uint32_t)TX_F_ALL) return corrupt(o, offsetof(tx_header, flags), "unknown flags");
  if (!h->tokens || h->tokens > TX_MAX_TOKENS) return corrupt(o, offsetof(tx_header, tokens), "impossible number of tokens");
  if (h->merges > TX_MAX_TOKENS * 2 || (!gpt2 && h->merges))
    return corrupt(o, offsetof(tx_header, merges), "impossible number of merges");
  if (!slots_ok(h->piece_slots, 0, TX_MAX_TOKENS * 4))
    return corrupt(o, offsetof(tx_header, piece_slots), "impossible table size");
  if (h->merges ? !slots_ok(h->merge_slots, h->merges, TX_MAX_TOKENS * 8) : h->merge_slots != 0)
    return corrupt(o, offsetof(tx_header, merge_slots), "impossible table size");
  if (h->specials > h->tokens || h->stops > h->tokens)
    return corrupt(o, offsetof(tx_header, specials), "impossible number of tokens");
  if (h->token_bytes > TX_MAX_BYTES || h->template_bytes > TX_MAX_TEMPLATE || h->system_bytes > TX_MAX_TEMPLATE)
    return corrupt(o, offsetof(tx_header, token_bytes), "impossible length");
  bool chat_known = false;
#define TX_CHAT_FORMAT(id, code, ...) chat_known |= h->chat == code;
#include "text/chat.def"
#undef TX_CHAT_FORMAT
  if (!chat_known && h->chat != TX_CHAT_NONE && h->chat != TX_CHAT_OTHER)
    return corrupt(o, offsetof(tx_header, chat), "unknown chat format");
  const int32_t ids[] = {h->bos, h->eos, h->eot, h->eom, h->unk, h->pad};
  for (size_t i = 0; i < 6; i++)
    if (ids[i] < TX_NONE || (ids[i] >= 0 && (uint32_t)ids[i] >= h->tokens))
      return corrupt(o, offsetof(tx_header, bos) + 4 * i, "a token id outside the vocabulary");
  if (((h->flags & TX_F_ADD_BOS) && h->bos == TX_NONE) || ((h->flags & TX_F_ADD_EOS) && h->eos == TX_NONE))
    return corrupt(o, offsetof(tx_header, flags), "a token to add that does not exist");
  o->l = tx_layout_of(h);
  if (h->size != o->l.size || h->size != size)
    return corrupt(o, offsetof(tx_header, size), "its size does not follow from its counts");
  o->v = tx_view_of(blob, &o->l);
  return TS_OK;
}

static ts_status check_tokens(const opening *o) {
  const tx_view *v = &o->v;
  uint32_t n = o->h->tokens;
  if (v->token_at[0] != 0 || v->token_at[n] != o->h->token_bytes)
    return corrupt(o, o->l.token_at, "tokens do not fill their bytes");
  for (uint32_t i = 0; i < n; i++) {
    if (v->token_at[i] > v->token_at[i + 1] || v->token_at[i + 1] > o->h->token_bytes)
      return corrupt(o, o->l.token_at + 4 * (uint64_t)i, "token offsets are not ascending");
    uint8_t type = v->types[i], plain = type & (uint8_t)~TX_UNREACHABLE;
    if (plain < TX_NORMAL || plain > TX_BYTE || (type != plain && plain != TX_NORMAL))
      return corrupt(o, o->l.types + i, "unknown token type");
    if (type == TX_BYTE && v->token_at[i + 1] - v->token_at[i] != 1)
      return corrupt(o, o->l.types + i, "a byte token is not one byte");
    if (o->h->kind == TX_KIND_LLAMA && isnan(v->scores[i])) return corrupt(o, o->l.scores + 4 * (uint64_t)i, "a score is NaN");
  }
  for (unsigned b = 0; b < 256; b++) {
    int32_t id = v->byte_ids[b];
    if (id == TX_NONE) continue;
    if (id < 0 || (uint32_t)id >= n) return corrupt(o, o->l.byte_ids + 4 * b, "a byte's token is outside the vocabulary");
    ts_str t = tx_view_token(v, (uint32_t)id);
    if (t.len != 1 || (unsigned char)t.data[0] != b) return corrupt(o, o->l.byte_ids + 4 * b, "a byte's token is another text");
  }
  return TS_OK;
}

// Entries of a table must exist, and those found must be the ones that are there: every entry by its key.
static ts_status check_tables(const opening *o) {
  const tx_view *v = &o->v;
  const tx_header *h = o->h;
  for (uint32_t i = 0; i < h->piece_slots; i++)
    if (v->piece_slots[i] > h->tokens || (v->piece_slots[i] && !tx_type_is_piece(v->types[v->piece_slots[i] - 1])))
      return corrupt(o, o->l.piece_slots + 4 * (uint64_t)i, "a piece that is none");
  for (uint32_t i = 0; i < h->merges; i++) {
    const tx_merge *m = &v->merges[i];
    if (m->left >= h->tokens || m->right >= h->tokens || m->merged >= h->tokens)
      return corrupt(o, o->l.merges + sizeof *m * (uint64_t)i, "a merge of tokens outside the vocabulary");
    ts_str l = tx_view_token(v, m->left), r = tx_view_token(v, m->right), t = tx_view_token(v, m->merged);
    if (!l.len || !r.len || l.len + r.len != t.len || memcmp(t.data, l.data, l.len) != 0 ||
        memcmp(t.data + l.len, r.data, r.len) != 0)
      return corrupt(o, o->l.merges + sizeof *m * (uint64_t)i, "a merge whose result is another text");
  }
  for (uint32_t i = 0; i < h->merge_slots; i++)
    if (v->merge_slots[i] > h->merges) return corrupt(o, o->l.merge_slots + 4 * (uint64_t)i, "a merge outside the list");
  for (uint32_t i = 0; i < h->merges; i++)
    if (tx_find_merge(v, v->merges[i].left, v->merges[i].right) != (int32_t)i)
      return corrupt(o, o->l.merges + sizeof(tx_merge) * (uint64_t)i, "a merge that its table does not find");
  for (uint32_t i = 0; i < h->tokens; i++) {
    ts_str t = tx_view_token(v, i);
    if (!tx_type_is_piece(v->types[i]) || !t.len) continue;
    if (t.len > h->longest_piece || tx_find_piece(v, t) == TX_NONE)
      return corrupt(o, o->l.token_at + 4 * (uint64_t)i, "a piece that its table does not find");
  }
  return TS_OK;
}

static ts_status check_lists(const opening *o) {
  const tx_view *v = &o->v;
  const tx_header *h = o->h;
  for (uint32_t i = 0; i < h->specials; i++) {
    uint64_t at = o->l.specials + 4 * (uint64_t)i;
    if (v->specials[i] < 0 || (uint32_t)v->specials[i] >= h->tokens)
      return corrupt(o, at, "a special token outside the vocabulary");
    uint32_t id = (uint32_t)v->specials[i], len = (uint32_t)tx_view_token(v, id).len;
    if (!tx_type_is_special(v->types[id]) || !len) return corrupt(o, at, "a special token that is none");
    if (!i) continue;
    uint32_t before = (uint32_t)v->specials[i - 1], longer = (uint32_t)tx_view_token(v, before).len;
    if (len > longer || (len == longer && id <= before)) return corrupt(o, at, "special tokens are out of order");
  }
  for (uint32_t i = 0; i < h->stops; i++)
    if (v->stops[i] < 0 || (uint32_t)v->stops[i] >= h->tokens || (i && v->stops[i] <= v->stops[i - 1]))
      return corrupt(o, o->l.stops + 4 * (uint64_t)i, "stop tokens are out of order or outside the vocabulary");
  return TS_OK;
}

static ts_status compile_patterns(ts_diags *d, tx_tokenizer *t) {
  for (int i = 0; i < 2 && t->pre; i++) {
    int error;
    size_t offset;
    if (!t->pre->patterns[i]) continue;
    t->patterns[i] = pcre2_compile((PCRE2_SPTR)t->pre->patterns[i], PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error, &offset, NULL);
    if (t->patterns[i]) continue;
    PCRE2_UCHAR text[128];
    pcre2_get_error_message(error, text, sizeof text);
    return ts_report(d, (ts_loc){0}, &diag_text_split, "pre-tokenizer '%s' does not compile at %zu: %s", t->pre->name, offset,
                     (const char *)text);
  }
  return TS_OK;
}

ts_status tx_open(ts_diags *d, ts_sym name, const void *blob, size_t size, tx_tokenizer **out) {
  opening o = {.d = d, .name = name};
  TS_TRY(check_header(&o, blob, size));
  TS_TRY(check_tokens(&o));
  TS_TRY(check_tables(&o));
  TS_TRY(check_lists(&o));
  tx_tokenizer *t = calloc(1, sizeof *t);
  if (!t) return TS_OUT_OF_MEMORY;
  t->v = o.v;
  t->pre = o.h->kind == TX_KIND_GPT2 ? tx_pretokenizer_of_code(o.h->pre) : NULL;
  ts_status s = compile_patterns(d, t);
  if (s != TS_OK) {
    tx_close(t);
    return s;
  }
  *out = t;
  return TS_OK;
}

void tx_close(tx_tokenizer *t) {
  if (!t) return;
  for (int i = 0; i < 2; i++) pcre2_code_free(t->patterns[i]);
  free(t);
}

size_t tx_token_count(const tx_tokenizer *t) { return t->v.h->tokens; }

static bool in_range(const tx_tokenizer *t, int32_t id) { return id >= 0 && (uint32_t)id < t->v.h->tokens; }

tx_type tx_token_type(const tx_tokenizer *t, int32_t id) {
  return in_range(t, id) ? (tx_type)(t->v.types[id] & (uint8_t)~TX_UNREACHABLE) : (tx_type)0;
}

ts_str tx_token_bytes(const tx_tokenizer *t, int32_t id) {
  return in_range(t, id) ? tx_view_token(&t->v, (uint32_t)id) : (ts_str){"", 0};
}

int32_t tx_token_find(const tx_tokenizer *t, ts_str text) {
  for (uint32_t i = 0; i < t->v.h->specials; i++)
    if (ts_str_eq(tx_view_token(&t->v, (uint32_t)t->v.specials[i]), text)) return t->v.specials[i];
  return text.len ? tx_find_piece(&t->v, text) : TX_NONE;
}

int32_t tx_bos(const tx_tokenizer *t) { return t->v.h->bos; }
int32_t tx_eos(const tx_tokenizer *t) { return t->v.h->eos; }
const char *tx_model_name(const tx_tokenizer *t) { return t->pre ? "gpt2" : "llama"; }
const char *tx_pre_name(const tx_tokenizer *t) { return t->pre ? t->pre->name : ""; }
