// The packed vocabulary, byte by byte, and the view of it that an open tokenizer is. Internal to text/.
//
// All numbers little-endian; the blob starts at a multiple of 8; every part starts at the next multiple of 8 after the one before
// it (gaps are zero), in this order and with no other freedom, so that the counts in the header determine every address:
//   1. header, tx_header, 128 bytes
//   2. i32 byte_ids[256]           the token of one byte, or -1
//   3. u32 token_at[tokens + 1]    token i is token_bytes[token_at[i] .. token_at[i + 1])
//   4. u8  token_types[tokens]     tx_type, plus TX_UNREACHABLE for a normal token that no text can produce
//   5. f32 token_scores[tokens]    "llama" only, else absent
//   6. tx_merge merges[merges]     "gpt2" only; the index is the rank
//   7. u32 piece_slots[]           hash table: bytes of a piece -> id + 1; 0 is empty
//   8. u32 merge_slots[]           hash table: (left, right) -> index into merges + 1; 0 is empty
//   9. i32 specials[]              tokens matched before everything else, longest first, ids ascending among equals
//  10. i32 stops[]                 ascending
//  11. u8  token_bytes[]           what tokens stand for: " the", not "Ġthe" or "▁the"
//  12. u8  template[]              the chat template
//  13. u8  system[]                the default system prompt of the template
// Hash tables have a power of two of slots and linear probing; no entry is more than TX_PROBES slots behind its home.
#ifndef TESSERA_TEXT_FORMAT_H
#define TESSERA_TEXT_FORMAT_H

#include "text/text.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
  TX_MAJOR = 1,
  TX_MINOR = 0,
  TX_PROBES = 256,
  TX_MAX_TOKENS = 1 << 22,
  TX_MAX_BYTES = 1 << 28,      // of token_bytes
  TX_MAX_TEMPLATE = 1 << 20,
  TX_UNREACHABLE = 0x80,       // in token_types
};
#define TX_MAGIC "TSTX"

typedef enum tx_kind { TX_KIND_GPT2 = 1, TX_KIND_LLAMA = 2 } tx_kind;
typedef enum tx_flag { TX_F_ADD_BOS = 1, TX_F_ADD_EOS = 2, TX_F_SPACE_PREFIX = 4, TX_F_TRIM = 8, TX_F_ALL = 15 } tx_flag;

typedef struct tx_header {
  char magic[4];
  uint16_t major, minor;
  uint64_t size;             // of the whole blob
  uint32_t kind;             // tx_kind
  uint32_t pre;              // code of pretokenizers.def; 0 for "llama"
  uint32_t flags;            // tx_flag
  uint32_t tokens, merges;
  uint32_t piece_slots, merge_slots, specials, stops;
  uint32_t token_bytes, template_bytes, system_bytes;
  uint32_t longest_piece;    // bytes
  uint32_t chat;             // tx_chat
  int32_t bos, eos, eot, eom, unk, pad;
  uint32_t reserved[8];      // zero
} tx_header;
_Static_assert(sizeof(tx_header) == 128, "the header is 128 bytes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the blob is read in place");

typedef struct tx_merge {
  uint32_t left, right, merged;
} tx_merge;

// Byte offsets of the parts, from the counts of a header.
typedef struct tx_layout {
  uint64_t byte_ids, token_at, types, scores, merges, piece_slots, merge_slots, specials, stops, bytes, template, system, size;
} tx_layout;
tx_layout tx_layout_of(const tx_header *h);   // counts must respect the bounds above, so nothing overflows

typedef struct tx_view {
  const tx_header *h;
  const int32_t *byte_ids;
  const uint32_t *token_at;
  const uint8_t *types;
  const float *scores;
  const tx_merge *merges;
  const uint32_t *piece_slots, *merge_slots;
  const int32_t *specials, *stops;
  const char *bytes, *template, *system;
} tx_view;
tx_view tx_view_of(const void *blob, const tx_layout *l);

typedef struct tx_pretokenizer {
  uint32_t code;
  const char *name;
  bool ignore_merges, add_bos;
  const char *patterns[2];   // digits (may be NULL), words
} tx_pretokenizer;
const tx_pretokenizer *tx_pretokenizer_of_code(uint32_t code);
const tx_pretokenizer *tx_pretokenizer_of_name(ts_str name);

struct tx_tokenizer {
  tx_view v;
  const tx_pretokenizer *pre;   // NULL for "llama"
  pcre2_code *patterns[2];      // compiled; NULL where there is none
};

static inline ts_str tx_view_token(const tx_view *v, uint32_t id) {
  return (ts_str){v->bytes + v->token_at[id], v->token_at[id + 1] - v->token_at[id]};
}
// Are the token's bytes a piece that encoding may produce from text?
static inline bool tx_type_is_piece(uint8_t type) { return type == TX_NORMAL || type == TX_USER_DEFINED; }
// Is the token looked for in text before everything else?
static inline bool tx_type_is_special(uint8_t type) {
  return type == TX_UNKNOWN || type == TX_CONTROL || type == TX_USER_DEFINED;
}

// The hash functions are part of the format.
static inline uint32_t tx_hash_piece(const char *p, size_t n) {   // FNV-1a, folded
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
  return (uint32_t)(h ^ h >> 32);
}
static inline uint32_t tx_hash_pair(uint32_t left, uint32_t right) {
  uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(h >> 32);
}
int32_t tx_find_piece(const tx_view *v, ts_str piece);                    // id, or TX_NONE
int32_t tx_find_merge(const tx_view *v, uint32_t left, uint32_t right);   // index into merges, or TX_NONE

// Length of the well-formed UTF-8 character at p[0..n), or 0.
size_t tx_utf8_length(const char *p, size_t n);
// Could p[0..n), n < 4, be the beginning of a well-formed character that needs more bytes?
bool tx_utf8_is_prefix(const char *p, size_t n);

tx_chat tx_chat_recognise(ts_arena *arena, ts_str template, bool *out_trim, ts_str *out_system);
bool tx_is_stop_name(ts_str name);

// Merging (merge.c): what one encoding needs, reused from word to word.
typedef struct tx_symbol {
  uint32_t at, len;      // bytes of the word; len 0: absorbed by its left neighbour
  uint32_t prev, next;   // indices; UINT32_MAX: none
  int32_t id;            // TX_NONE: no token
} tx_symbol;
typedef struct tx_pair {
  uint64_t order;        // smaller first: rank or inverted score above, left symbol below
  uint32_t left, right, len;
  int32_t id;            // of the two together
} tx_pair;
typedef struct tx_work {
  const tx_tokenizer *t;
  ts_diags *d;
  ts_arena arena;
  TS_VEC(tx_symbol) symbols;
  TS_VEC(tx_pair) heap;
  pcre2_match_data *match;
  tx_ids *ids;
  tx_word_fn *on_word;   // takes the words instead of their ids; NULL: encode them
  void *user;
  size_t dropped;        // bytes that have no token
  unsigned char first_dropped;
} tx_work;
void tx_merge_word(tx_work *w, ts_str word);   // appends the word's ids

#endif
