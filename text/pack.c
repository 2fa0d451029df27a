// Packs a vocabulary description into the bytes that tx_open() reads (see format.h).
//
// Tokens are stored as the bytes they stand for, so that encoding and decoding need no translation: a "gpt2" token's letters are
// mapped back from GPT-2's alphabet of printable characters (Ġ is the space), a "llama" token's ▁ becomes a space. Merge rules
// become triples of ids. Where several tokens have the same text, the last one is found, as in llama.cpp.
#include "text/format.h"

#include <limits.h>
#include <math.h>

typedef struct pack {
  ts_diags *d;
  ts_loc loc;
  ts_arena *arena;
  const tx_vocab *v;
  tx_kind kind;
  const tx_pretokenizer *pre;
  tx_header h;
  int32_t byte_ids[256];
  uint32_t *token_at;
  uint8_t *types;
  ts_text bytes;
  float *scores;
  uint32_t *piece_slots, *merge_slots;
  TS_VEC(tx_merge) merges;
  TS_VEC(int32_t) specials;
  TS_VEC(int32_t) stops;
  ts_str system;
} pack;

tx_vocab tx_vocab_defaults(ts_str model, ts_str pre) {
  tx_vocab v = {.model = model, .pre = pre, .bos = TX_NONE, .eos = TX_NONE, .eot = TX_NONE, .eom = TX_NONE, .unk = TX_NONE,
                .pad = TX_NONE};
  if (ts_str_is(model, "llama")) {
    v.unk = 0, v.bos = 1, v.eos = 2;
    v.add_bos = v.add_space_prefix = true;
  } else {
    const tx_pretokenizer *p = tx_pretokenizer_of_name(pre);
    v.add_bos = p && p->add_bos;
  }
  return v;
}

bool tx_is_stop_name(ts_str name) {
#define TX_STOP_TOKEN(z) \
  if (ts_str_is(name, z)) return true;
#include "text/stop_tokens.def"
#undef TX_STOP_TOKEN
  return false;
}

// GPT-2 writes bytes as characters: printable Latin-1 as itself, the 68 others as U+0100 + their order. -1: not in the alphabet.
static int gpt2_byte(uint32_t c) {
  if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
  if (c < 0x100 || c >= 0x100 + 68) return -1;
  c -= 0x100;
  if (c < 0x21) return (int)c;
  if (c < 0x21 + 0x22) return (int)(c - 0x21 + 0x7f);   // 0x7f..0xa0
  return 0xad;
}

// Appends the bytes of a token spelled in GPT-2's alphabet; false (and nothing) when it has other characters.
static bool add_gpt2(ts_text *out, ts_str token) {
  size_t start = out->len;
  for (size_t i = 0; i < token.len;) {
    const unsigned char *p = (const unsigned char *)token.data + i;
    size_t n = tx_utf8_length(token.data + i, token.len - i);
    int byte = n == 1 ? gpt2_byte(p[0]) : n == 2 ? gpt2_byte((uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f)) : -1;
    if (byte < 0) {
      out->len = start;
      return false;
    }
    ts_text_putc(out, (char)byte);
    i += n;
  }
  return true;
}

static void add_llama(ts_text *out, ts_str token) {
  for (size_t i = 0; i < token.len;) {
    bool mark = token.len - i >= 3 && memcmp(token.data + i, "\xe2\x96\x81", 3) == 0;
    ts_text_putc(out, mark ? ' ' : token.data[i]);
    i += mark ? 3 : 1;
  }
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The byte of "<0x41>", or -1.
static int byte_token(ts_str s) {
  if (s.len != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>') return -1;
  int high = hex_digit(s.data[3]), low = hex_digit(s.data[4]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static ts_str token(const pack *p, uint32_t id) {
  return (ts_str){p->bytes.data + p->token_at[id], p->token_at[id + 1] - p->token_at[id]};
}

static ts_status check_description(pack *p) {
  const tx_vocab *v = p->v;
  if (ts_str_is(v->model, "gpt2")) p->kind = TX_KIND_GPT2;
  else if (ts_str_is(v->model, "llama")) p->kind = TX_KIND_LLAMA;
  else
    return ts_report(p->d, p->loc, &diag_tokenizer_model,
                     "tokenizer model '%.*s' is not implemented; known are 'gpt2' (byte-level BPE) and 'llama' (score-based)",
                     TS_FMT(v->model));
  if (p->kind == TX_KIND_GPT2 && !(p->pre = tx_pretokenizer_of_name(v->pre)))
    return ts_report(p->d, p->loc, &diag_tokenizer_pre,
                     "pre-tokenizer '%.*s' is not implemented; known are gpt2, smollm, llama-bpe and qwen2", TS_FMT(v->pre));
  if (!v->token_count || !v->tokens) return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "the vocabulary has no tokens");
  if (v->token_count > TX_MAX_TOKENS || v->merge_count > TX_MAX_TOKENS * 2 || v->chat_template.len > TX_MAX_TEMPLATE)
    return ts_report(p->d, p->loc, &diag_tokenizer_too_large,
                     "%zu tokens, %zu merges and a chat template of %zu bytes: at most %d, %d and %d can be packed",
                     v->token_count, v->merge_count, v->chat_template.len, TX_MAX_TOKENS, TX_MAX_TOKENS * 2, TX_MAX_TEMPLATE);
  if (p->kind == TX_KIND_LLAMA && !v->scores)
    return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary,
                     "a 'llama' vocabulary needs a score per token (tokenizer.ggml.scores)");
  const struct {
    const char *name;
    int32_t id;
  } ids[] = {{"bos", v->bos}, {"eos", v->eos}, {"eot", v->eot}, {"eom", v->eom}, {"unknown", v->unk}, {"padding", v->pad}};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
    if (ids[i].id != TX_NONE && (ids[i].id < 0 || (size_t)ids[i].id >= v->token_count))
      return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "the %s token's id %d is not one of the %zu tokens", ids[i].name,
                       ids[i].id, v->token_count);
  if ((v->add_bos && v->bos == TX_NONE) || (v->add_eos && v->eos == TX_NONE))
    return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "the file wants %s added to every text but names no such token",
                     v->add_bos && v->bos == TX_NONE ? "BOS" : "EOS");
  return TS_OK;
}

// Types, bytes and scores of all tokens.
static ts_status pack_tokens(pack *p) {
  const tx_vocab *v = p->v;
  size_t n = v->token_count;
  p->token_at = ts_new_array(p->arena, uint32_t, n + 1);
  p->types = ts_new_array(p->arena, uint8_t, n);
  if (p->kind == TX_KIND_LLAMA) p->scores = ts_new_array(p->arena, float, n);
  for (size_t i = 0; i < n; i++) {
    int32_t type = v->types ? v->types[i] : TX_NORMAL;
    if (type < TX_NORMAL || type > TX_BYTE)
      return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "token %zu has type %d; types are 1 to 6", i, type);
    if (v->tokens[i].len > TX_MAX_BYTES - p->bytes.len)
      return ts_report(p->d, p->loc, &diag_tokenizer_too_large, "the tokens have more than %d bytes together", TX_MAX_BYTES);
    if (type == TX_NORMAL && tx_is_stop_name(v->tokens[i])) type = TX_CONTROL;
    p->types[i] = (uint8_t)type;
    if (type == TX_BYTE) {
      int byte = byte_token(v->tokens[i]);
      if (byte < 0)
        return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "token %zu is of type byte but spelled '%.*s', not <0xNN>", i,
                         TS_FMT(v->tokens[i]));
      ts_text_putc(&p->bytes, (char)byte);
    } else if (type != TX_NORMAL) {
      ts_text_add(&p->bytes, v->tokens[i]);
    } else if (p->kind == TX_KIND_LLAMA) {
      add_llama(&p->bytes, v->tokens[i]);
    } else if (!add_gpt2(&p->bytes, v->tokens[i])) {
      ts_text_add(&p->bytes, v->tokens[i]);
      p->types[i] |= TX_UNREACHABLE;
    }
    p->token_at[i + 1] = (uint32_t)p->bytes.len;
    if (p->scores) {
      if (isnan(v->scores[i])) return ts_report(p->d, p->loc, &diag_tokenizer_vocabulary, "the score of token %zu is NaN", i);
      p->scores[i] = v->scores[i] + 0.0f;   // -0 becomes 0: equal scores have equal bits
    }
  }
  if (!p->bytes.data) ts_text_puts(&p->bytes, "");   // every token is empty
  return TS_OK;
}

static uint32_t slots_for(size_t entries) {
  uint32_t slots = 8;
  while (slots - slots / 4 < entries) slots *= 2;
  return slots;
}

// Puts `entry` into the first free slot from `home` on; false when that is out of reach.
static bool put(uint32_t *slots, uint32_t count, uint32_t home, uint32_t entry) {
  for (uint32_t i = 0; i < TX_PROBES && i < count; i++)
    if (!slots[(home + i) & (count - 1)]) {
      slots[(home + i) & (count - 1)] = entry;
      return true;
    }
  return false;
}

// A view that is good for tx_find_piece and tx_find_merge while packing.
static tx_view view(const pack *p) {
  return (tx_view){.h = &p->h, .token_at = p->token_at, .merges = p->merges.data, .piece_slots = p->piece_slots,
                   .merge_slots = p->merge_slots, .bytes = p->bytes.data};
}

// Hash table of the pieces. A normal token goes before a user-defined one with the same bytes, then the later before the earlier.
static ts_status pack_pieces(pack *p) {
  size_t n = p->v->token_count;
  for (uint32_t slots = slots_for(n); slots <= TX_MAX_TOKENS * 4u; slots *= 2) {
    p->h.piece_slots = slots;
    p->piece_slots = ts_new_array(p->arena, uint32_t, slots);
    tx_view v = view(p);
    bool fits = true;
    for (int pass = 0; pass < 2 && fits; pass++)
      for (size_t i = n; i-- > 0 && fits;) {
        ts_str t = token(p, (uint32_t)i);
        if (p->types[i] != (pass ? TX_USER_DEFINED : TX_NORMAL) || !t.len || tx_find_piece(&v, t) != TX_NONE) continue;
        fits = put(p->piece_slots, slots, tx_hash_piece(t.data, t.len) & (slots - 1), (uint32_t)i + 1);
        if (t.len > p->h.longest_piece) p->h.longest_piece = (uint32_t)t.len;
      }
    if (fits) return TS_OK;
  }
  return ts_report(p->d, p->loc, &diag_tokenizer_too_large, "the tokens' texts collide too often in the hash table");
}

// The token of every byte: a <0xNN> token, or the piece of that one byte. A "gpt2" vocabulary has the latter only.
static void pack_byte_ids(pack *p) {
  tx_view v = view(p);
  for (int b = 0; b < 256; b++) p->byte_ids[b] = tx_find_piece(&v, (ts_str){(char[]){(char)b}, 1});
  for (size_t i = 0; i < p->v->token_count; i++)
    if (p->types[i] == TX_BYTE && p->kind == TX_KIND_LLAMA) p->byte_ids[(unsigned char)*token(p, (uint32_t)i).data] = (int32_t)i;
}

// The id of one side of a merge rule, or TX_NONE with a message.
static int32_t merge_side(pack *p, size_t rule, ts_str side, const char *which) {
  tx_view v = view(p);
  ts_text bytes = {0};
  int32_t id = add_gpt2(&bytes, side) ? tx_find_piece(&v, ts_text_str(&bytes)) : TX_NONE;
  ts_text_deinit(&bytes);
  if (id == TX_NONE)
    ts_report(p->d, p->loc, &diag_tokenizer_merge, "merge %zu ('%.*s'): the %s '%.*s' is not a token", rule,
              TS_FMT(p->v->merges[rule]), which, TS_FMT(side));
  return id;
}

static ts_status pack_merge(pack *p, size_t rule) {
  ts_str text = p->v->merges[rule];
  const char *gap = text.len > 1 ? memchr(text.data + 1, ' ', text.len - 1) : NULL;
  if (!gap || gap + 1 == text.data + text.len)
    return ts_report(p->d, p->loc, &diag_tokenizer_merge, "merge %zu ('%.*s') is not two pieces with a space between them", rule,
                     TS_FMT(text));
  ts_str left = {text.data, (size_t)(gap - text.data)}, right = {gap + 1, text.len - left.len - 1};
  char *joined = ts_arena_alloc(p->arena, text.len, 1);
  memcpy(joined, left.data, left.len);
  memcpy(joined + left.len, right.data, right.len);
  int32_t l = merge_side(p, rule, left, "left piece"), r = TX_NONE, m = TX_NONE;
  if (l != TX_NONE) r = merge_side(p, rule, right, "right piece");
  if (r != TX_NONE) m = merge_side(p, rule, (ts_str){joined, text.len - 1}, "result");
  if (m == TX_NONE) return TS_INVALID;
  ts_vec_push(p->arena, &p->merges, ((tx_merge){(uint32_t)l, (uint32_t)r, (uint32_t)m}));
  return TS_OK;
}

// Merge rules as ids, and their hash table. A pair that comes twice keeps its first (better) rank.
static ts_status pack_merges(pack *p) {
  if (p->kind != TX_KIND_GPT2) return TS_OK;
  for (size_t i = 0; i < p->v->merge_count; i++) TS_TRY(pack_merge(p, i));
  if (!p->merges.count) return TS_OK;
  for (uint32_t slots = slots_for(p->merges.count); slots <= TX_MAX_TOKENS * 8u; slots *= 2) {
    p->h.merge_slots = slots;
    p->merge_slots = ts_new_array(p->arena, uint32_t, slots);
    p->h.merges = (uint32_t)p->merges.count;   // tx_find_merge looks only when there are any
    tx_view v = view(p);
    bool fits = true;
    uint32_t kept = 0;
    for (size_t i = 0; i < p->merges.count && fits; i++) {
      tx_merge m = p->merges.data[i];
      if (tx_find_merge(&v, m.left, m.right) != TX_NONE) continue;
      p->merges.data[kept++] = m;
      fits = put(p->merge_slots, slots, tx_hash_pair(m.left, m.right) & (slots - 1), kept);
    }
    if (!fits) continue;
    p->merges.count = p->h.merges = kept;
    return TS_OK;
  }
  return ts_report(p->d, p->loc, &diag_tokenizer_too_large, "the merge rules collide too often in the hash table");
}

static void pack_specials(pack *p) {
  const tx_vocab *v = p->v;
  for (size_t i = 0; i < v->token_count; i++) {
    int32_t id = (int32_t)i;
    if (tx_type_is_special(p->types[i]) && token(p, (uint32_t)i).len) ts_vec_push(p->arena, &p->specials, id);
    bool named = (p->types[i] == TX_CONTROL || p->types[i] == TX_USER_DEFINED) && tx_is_stop_name(token(p, (uint32_t)i));
    if (named || id == v->eos || id == v->eot || id == v->eom) ts_vec_push(p->arena, &p->stops, id);
  }
  // Longest first, ids ascending among equals: a stable counting order by insertion would be quadratic, so merge sort bottom-up.
  size_t n = p->specials.count;
  int32_t *from = p->specials.data, *to = ts_new_array(p->arena, int32_t, n);
  for (size_t width = 1; width < n; width *= 2) {
    for (size_t at = 0; at < n; at += 2 * width) {
      size_t a = at, middle = at + width < n ? at + width : n, b = middle, end = middle + width < n ? middle + width : n;
      for (size_t i = at; i < end; i++) {
        bool left = a < middle && (b >= end || token(p, (uint32_t)from[a]).len >= token(p, (uint32_t)from[b]).len);
        to[i] = from[left ? a++ : b++];
      }
    }
    int32_t *t = from;
    from = to;
    to = t;
  }
  p->specials.data = from;
}

static void copy(char *blob, uint64_t at, const void *data, size_t bytes) {
  if (bytes) memcpy(blob + at, data, bytes);
}

static ts_str assemble(pack *p) {
  const tx_vocab *v = p->v;
  tx_header *h = &p->h;
  memcpy(h->magic, TX_MAGIC, 4);
  h->major = TX_MAJOR, h->minor = TX_MINOR;
  h->kind = p->kind;
  h->pre = p->pre ? p->pre->code : 0;
  h->flags |= (v->add_bos ? TX_F_ADD_BOS : 0) | (v->add_eos ? TX_F_ADD_EOS : 0) |
              (p->kind == TX_KIND_LLAMA && v->add_space_prefix ? TX_F_SPACE_PREFIX : 0);
  h->tokens = (uint32_t)v->token_count;
  h->specials = (uint32_t)p->specials.count, h->stops = (uint32_t)p->stops.count;
  h->token_bytes = (uint32_t)p->bytes.len;
  h->template_bytes = (uint32_t)v->chat_template.len, h->system_bytes = (uint32_t)p->system.len;
  h->bos = v->bos, h->eos = v->eos, h->eot = v->eot, h->eom = v->eom, h->unk = v->unk, h->pad = v->pad;
  tx_layout l = tx_layout_of(h);
  h->size = l.size;
  char *b = ts_arena_alloc(p->arena, l.size, 64);
  copy(b, 0, h, sizeof *h);
  copy(b, l.byte_ids, p->byte_ids, sizeof p->byte_ids);
  copy(b, l.token_at, p->token_at, (v->token_count + 1) * sizeof(uint32_t));
  copy(b, l.types, p->types, v->token_count);
  if (p->scores) copy(b, l.scores, p->scores, v->token_count * sizeof(float));
  copy(b, l.merges, p->merges.data, p->merges.count * sizeof(tx_merge));
  copy(b, l.piece_slots, p->piece_slots, h->piece_slots * sizeof(uint32_t));
  copy(b, l.merge_slots, p->merge_slots, h->merge_slots * sizeof(uint32_t));
  copy(b, l.specials, p->specials.data, p->specials.count * sizeof(int32_t));
  copy(b, l.stops, p->stops.data, p->stops.count * sizeof(int32_t));
  copy(b, l.bytes, p->bytes.data, p->bytes.len);
  copy(b, l.template, v->chat_template.data, v->chat_template.len);
  copy(b, l.system, p->system.data, p->system.len);
  return (ts_str){b, l.size};
}

static ts_status pack_all(pack *p) {
  TS_TRY(check_description(p));
  TS_TRY(pack_tokens(p));
  TS_TRY(pack_pieces(p));
  pack_byte_ids(p);
  TS_TRY(pack_merges(p));
  pack_specials(p);
  bool trim = false;
  p->h.chat = tx_chat_recognise(p->arena, p->v->chat_template, &trim, &p->system);
  p->h.flags |= trim ? TX_F_TRIM : 0;
  return TS_OK;
}

ts_status tx_pack(ts_diags *d, ts_loc loc, ts_arena *arena, const tx_vocab *v, ts_str *out_blob) {
  pack p = {.d = d, .loc = loc, .arena = arena, .v = v};
  ts_status s = pack_all(&p);
  if (s == TS_OK) *out_blob = assemble(&p);
  ts_text_deinit(&p.bytes);
  return s;
}
