// Merging: from the smallest symbols of a word to tokens, for both kinds of vocabulary.
//
// The symbols form a list; a heap holds the neighbours that may be joined, best first: by rank for "gpt2" (the pair of ids is
// looked up), by score for "llama" (the joined bytes are looked up), the leftmost first among equals. Joining makes at most two
// new pairs, so a word of n symbols takes O(n log n). A pair in the heap is stale when a side was absorbed or has grown, which
// its total length shows.
#include "text/format.h"

static const uint32_t NO = UINT32_MAX;

static void heap_push(tx_work *w, tx_pair pair) {
  ts_vec_push(&w->arena, &w->heap, pair);
  tx_pair *h = w->heap.data;
  size_t i = w->heap.count - 1;
  for (; i && h[(i - 1) / 2].order > pair.order; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
  h[i] = pair;
}

static tx_pair heap_pop(tx_work *w) {
  tx_pair *h = w->heap.data, top = h[0], last = h[--w->heap.count];
  size_t n = w->heap.count, i = 0;
  for (size_t child = 1; child < n; i = child, child = 2 * i + 1) {
    if (child + 1 < n && h[child + 1].order < h[child].order) child++;
    if (h[child].order >= last.order) break;
    h[i] = h[child];
  }
  if (n) h[i] = last;
  return top;
}

// Larger scores first: the bits of a float, made monotone and inverted.
static uint32_t score_order(float score) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  return ~(bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}

static void consider(tx_work *w, ts_str word, uint32_t left, uint32_t right) {
  if (left == NO || right == NO) return;
  const tx_view *v = &w->t->v;
  const tx_symbol *l = &w->symbols.data[left], *r = &w->symbols.data[right];
  tx_pair pair = {.left = left, .right = right, .len = l->len + r->len};
  if (w->t->pre) {
    if (l->id == TX_NONE || r->id == TX_NONE) return;
    int32_t rank = tx_find_merge(v, (uint32_t)l->id, (uint32_t)r->id);
    if (rank == TX_NONE) return;
    pair.id = (int32_t)v->merges[rank].merged;
    pair.order = (uint64_t)rank << 32 | left;
  } else {
    if (pair.len > v->h->longest_piece) return;
    pair.id = tx_find_piece(v, (ts_str){word.data + l->at, pair.len});
    if (pair.id == TX_NONE) return;
    pair.order = (uint64_t)score_order(v->scores[pair.id]) << 32 | left;
  }
  heap_push(w, pair);
}

// Appends a symbol's token, or what stands for its bytes when it has none.
static void emit(tx_work *w, ts_str word, const tx_symbol *s) {
  if (s->id != TX_NONE) {
    tx_ids_push(w->ids, s->id);
    return;
  }
  const tx_view *v = &w->t->v;
  bool all = true;
  for (uint32_t i = 0; i < s->len; i++) all &= v->byte_ids[(unsigned char)word.data[s->at + i]] != TX_NONE;
  if (all) {
    for (uint32_t i = 0; i < s->len; i++) tx_ids_push(w->ids, v->byte_ids[(unsigned char)word.data[s->at + i]]);
    return;
  }
  if (!w->dropped) w->first_dropped = (unsigned char)word.data[s->at];
  w->dropped += s->len;
  if (!w->t->pre && v->h->unk != TX_NONE) tx_ids_push(w->ids, v->h->unk);
}

void tx_merge_word(tx_work *w, ts_str word) {
  const tx_view *v = &w->t->v;
  w->symbols.count = w->heap.count = 0;
  for (size_t at = 0; at < word.len;) {
    size_t len = 1;
    if (!w->t->pre) {
      len = tx_utf8_length(word.data + at, word.len - at);
      if (!len) len = 1;
    }
    uint32_t i = (uint32_t)w->symbols.count;
    tx_symbol s = {.at = (uint32_t)at, .len = (uint32_t)len, .prev = i ? i - 1 : NO, .next = at + len < word.len ? i + 1 : NO};
    s.id = w->t->pre ? v->byte_ids[(unsigned char)word.data[at]] : tx_find_piece(v, (ts_str){word.data + at, len});
    ts_vec_push(&w->arena, &w->symbols, s);
    at += len;
  }
  tx_symbol *symbols = w->symbols.data;
  for (uint32_t i = 1; i < w->symbols.count; i++) consider(w, word, i - 1, i);
  while (w->heap.count) {
    tx_pair pair = heap_pop(w);
    tx_symbol *l = &symbols[pair.left], *r = &symbols[pair.right];
    if (!l->len || !r->len || l->len + r->len != pair.len) continue;
    l->len = pair.len;
    l->id = pair.id;
    l->next = r->next;
    r->len = 0;
    if (l->next != NO) symbols[l->next].prev = pair.left;
    consider(w, word, l->prev, pair.left);
    consider(w, word, pair.left, l->next);
  }
  for (uint32_t i = 0; i < w->symbols.count; i++)
    if (symbols[i].len) emit(w, word, &symbols[i]);
}
