// What packing, opening and encoding share: layout, hash look-ups, the pre-tokenizer table, UTF-8 (see format.h).
#include "text/format.h"

#define TS_DIAG TS_DIAG_DEFINE
#include "text/diag.def"
#undef TS_DIAG

static uint64_t aligned(uint64_t at) { return (at + 7) & ~UINT64_C(7); }

tx_layout tx_layout_of(const tx_header *h) {
  tx_layout l;
  uint64_t at = sizeof(tx_header);
  l.byte_ids = at, at = aligned(at + 256 * sizeof(int32_t));
  l.token_at = at, at = aligned(at + ((uint64_t)h->tokens + 1) * sizeof(uint32_t));
  l.types = at, at = aligned(at + h->tokens);
  l.scores = at, at = aligned(at + (h->kind == TX_KIND_LLAMA ? h->tokens * sizeof(float) : 0));
  l.merges = at, at = aligned(at + h->merges * sizeof(tx_merge));
  l.piece_slots = at, at = aligned(at + h->piece_slots * sizeof(uint32_t));
  l.merge_slots = at, at = aligned(at + h->merge_slots * sizeof(uint32_t));
  l.specials = at, at = aligned(at + h->specials * sizeof(int32_t));
  l.stops = at, at = aligned(at + h->stops * sizeof(int32_t));
  l.bytes = at, at = aligned(at + h->token_bytes);
  l.template = at, at = aligned(at + h->template_bytes);
  l.system = at, at = aligned(at + h->system_bytes);
  l.size = at;
  return l;
}

tx_view tx_view_of(const void *blob, const tx_layout *l) {
  const char *b = blob;
  return (tx_view){
    .h = blob,
    .byte_ids = (const void *)(b + l->byte_ids),
    .token_at = (const void *)(b + l->token_at),
    .types = (const void *)(b + l->types),
    .scores = (const void *)(b + l->scores),
    .merges = (const void *)(b + l->merges),
    .piece_slots = (const void *)(b + l->piece_slots),
    .merge_slots = (const void *)(b + l->merge_slots),
    .specials = (const void *)(b + l->specials),
    .stops = (const void *)(b + l->stops),
    .bytes = b + l->bytes,
    .template = b + l->template,
    .system = b + l->system,
  };
}

int32_t tx_find_piece(const tx_view *v, ts_str piece) {
  uint32_t mask = v->h->piece_slots - 1, slot = tx_hash_piece(piece.data, piece.len) & mask;
  for (unsigned i = 0; i < TX_PROBES; i++, slot = (slot + 1) & mask) {
    uint32_t entry = v->piece_slots[slot];
    if (!entry) return TX_NONE;
    if (ts_str_eq(tx_view_token(v, entry - 1), piece)) return (int32_t)(entry - 1);
  }
  return TX_NONE;
}

int32_t tx_find_merge(const tx_view *v, uint32_t left, uint32_t right) {
  if (!v->h->merges) return TX_NONE;
  uint32_t mask = v->h->merge_slots - 1, slot = tx_hash_pair(left, right) & mask;
  for (unsigned i = 0; i < TX_PROBES; i++, slot = (slot + 1) & mask) {
    uint32_t entry = v->merge_slots[slot];
    if (!entry) return TX_NONE;
    const tx_merge *m = &v->merges[entry - 1];
    if (m->left == left && m->right == right) return (int32_t)(entry - 1);
  }
  return TX_NONE;
}

static const tx_pretokenizer pretokenizers[] = {
#define TX_PRETOKENIZER(id, code, name, ignore_merges, add_bos, digits, words) \
  {code, name, ignore_merges, add_bos, {digits, words}},
#define TX_PRETOKENIZER_ALIAS(name, id)
#include "text/pretokenizers.def"
#undef TX_PRETOKENIZER
#undef TX_PRETOKENIZER_ALIAS
};

enum {
#define TX_PRETOKENIZER(id, code, ...) CODE_##id = code,
#define TX_PRETOKENIZER_ALIAS(name, id)
#include "text/pretokenizers.def"
#undef TX_PRETOKENIZER
#undef TX_PRETOKENIZER_ALIAS
};

static const struct {
  const char *name;
  uint32_t code;
} aliases[] = {
#define TX_PRETOKENIZER(...)
#define TX_PRETOKENIZER_ALIAS(name, id) {name, CODE_##id},
#include "text/pretokenizers.def"
#undef TX_PRETOKENIZER
#undef TX_PRETOKENIZER_ALIAS
};

const tx_pretokenizer *tx_pretokenizer_of_code(uint32_t code) {
  for (size_t i = 0; i < sizeof pretokenizers / sizeof *pretokenizers; i++)
    if (pretokenizers[i].code == code) return &pretokenizers[i];
  return NULL;
}

const tx_pretokenizer *tx_pretokenizer_of_name(ts_str name) {
  for (size_t i = 0; i < sizeof pretokenizers / sizeof *pretokenizers; i++)
    if (ts_str_is(name, pretokenizers[i].name)) return &pretokenizers[i];
  for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
    if (ts_str_is(name, aliases[i].name)) return tx_pretokenizer_of_code(aliases[i].code);
  return NULL;
}

// Table 3-7 of the Unicode standard: the length by the first byte, and the range of the second.
static size_t utf8_first(unsigned char c, unsigned char *low, unsigned char *high) {
  *low = 0x80, *high = 0xbf;
  if (c < 0x80) return 1;
  if (c < 0xc2 || c > 0xf4) return 0;
  if (c < 0xe0) return 2;
  if (c == 0xe0) *low = 0xa0;
  if (c == 0xed) *high = 0x9f;
  if (c == 0xf0) *low = 0x90;
  if (c == 0xf4) *high = 0x8f;
  return c < 0xf0 ? 3 : 4;
}

// How many of the first bytes of p[0..n) agree with one character; its whole length goes to *length (0: no character).
static size_t utf8_agree(const char *p, size_t n, size_t *length) {
  unsigned char low, high;
  *length = n ? utf8_first((unsigned char)p[0], &low, &high) : 0;
  size_t i = *length ? 1 : 0;
  for (; i < *length && i < n; i++, low = 0x80, high = 0xbf)
    if ((unsigned char)p[i] < low || (unsigned char)p[i] > high) break;
  return i;
}

size_t tx_utf8_length(const char *p, size_t n) {
  size_t length;
  return utf8_agree(p, n, &length) == length ? length : 0;
}

bool tx_utf8_is_prefix(const char *p, size_t n) {
  size_t length;
  return n && utf8_agree(p, n, &length) == n && n < length;
}
