// Sequences and pages. A sequence is one token list per state; its pages are numbers into the state's pools, shared by all
// layers and fields, counted, and copied before they are written when another sequence holds them too (fork). Nothing here
// allocates after a session is made; running out of pages is found before anything changes.
#include "runtime/internal.h"

#include <stdlib.h>

tsr_status tsr_pages_init(tsr_session *s) {
  for (uint32_t i = 0; i < s->pages_count; i++) {
    tsr_pages *g = &s->pages[i];
    size_t entries = (size_t)s->sequence_count * g->width;
    g->refs = tsr_calloc(g->capacity, sizeof *g->refs);
    g->free = tsr_calloc(g->capacity, sizeof *g->free);
    g->entries = tsr_calloc(entries, sizeof *g->entries);
    if (!g->refs || !g->free || !g->entries) return TSR_OUT_OF_MEMORY;
    for (size_t k = 0; k < entries; k++) g->entries[k] = TSR_NO_PAGE;
    for (uint32_t k = 0; k < g->capacity; k++) g->free[k] = (int32_t)(g->capacity - 1 - k);   // page 0 goes first
    g->free_count = g->capacity;
  }
  s->sequences = tsr_calloc(s->sequence_count, sizeof *s->sequences);
  return s->sequences ? TSR_OK : TSR_OUT_OF_MEMORY;
}

void tsr_pages_deinit(tsr_session *s) {
  for (uint32_t i = 0; i < s->pages_count; i++) {
    free(s->pages[i].refs);
    free(s->pages[i].free);
    free(s->pages[i].entries);
  }
  free(s->sequences);
}

static tsr_sequence handle_of(const tsr_session *s, uint32_t index) {
  return (uint64_t)s->sequences[index].generation << 32 | (index + 1);
}

tsr_seq *tsr_find_sequence(const tsr_session *s, tsr_sequence h, uint32_t *index) {
  uint32_t i = (uint32_t)h - 1;
  if ((uint32_t)h == 0 || i >= s->sequence_count || !s->sequences[i].used || s->sequences[i].generation != h >> 32) return NULL;
  if (index) *index = i;
  return &s->sequences[i];
}

static int32_t *entries_of(const tsr_pages *g, uint32_t sequence) { return g->entries + (size_t)sequence * g->width; }
static uint32_t pages_for(const tsr_pages *g, uint64_t tokens) { return (uint32_t)((tokens + g->page - 1) / g->page); }

static void drop_page(tsr_pages *g, int32_t *entry) {
  if (*entry == TSR_NO_PAGE) return;
  if (--g->refs[*entry] == 0) g->free[g->free_count++] = *entry;
  *entry = TSR_NO_PAGE;
}

void tsr_pages_trim(tsr_session *s, uint32_t state, uint32_t row) {
  const tsr_prog_state *st = &s->program->states[state];
  for (uint32_t l = 0; l < st->list_count; l++) {
    tsr_pages *g = &s->pages[st->list_first + l];
    int32_t *entries = entries_of(g, row);
    for (uint32_t k = pages_for(g, s->sequences[row].length[state]); k < g->width && entries[k] != TSR_NO_PAGE; k++)
      drop_page(g, &entries[k]);
  }
}

// Copies (from >= 0) or zeroes one page in every pool of a list.
static tsr_status prepare_page(tsr_session *s, uint32_t state, uint32_t list, int32_t from, int32_t to, void *stream) {
  const tsr_program *p = s->program;
  const tsr_prog_state *st = &p->states[state];
  const tsr_device_ops *ops = s->device->ops;
  uint64_t capacity = s->pages[st->list_first + list].capacity;
  for (uint32_t k = st->pool_first; k < st->pool_first + st->pool_count; k++) {
    const tsr_prog_pool *q = &p->pools[k];
    if (q->list != list || (from < 0 && !q->zero)) continue;
    for (uint32_t layer = 0; layer < q->layers; layer++) {
      unsigned char *base = s->pools[k] + layer * capacity * q->page_bytes, *dst = base + (uint64_t)to * q->page_bytes;
      if (from >= 0) TSR_TRY(ops->copy(s->device, dst, base + (uint64_t)from * q->page_bytes, q->page_bytes, stream));
      else TSR_TRY(ops->fill(s->device, dst, 0, q->page_bytes, stream));
    }
  }
  return TSR_OK;
}

// The partly filled last page of a sequence, if a call that appends would write into it and another sequence holds it too.
static int32_t *shared_tail(const tsr_pages *g, const tsr_session *s, uint32_t state, uint32_t row) {
  uint32_t length = s->sequences[row].length[state];
  if (length % g->page == 0) return NULL;
  int32_t *entry = &entries_of(g, row)[length / g->page];
  return g->refs[*entry] > 1 ? entry : NULL;
}

// Pages that a list needs. The references that copies would drop are dropped and put back, so that the last of several forks
// that append in one call is seen to need no copy.
static uint64_t pages_needed(tsr_session *s, uint32_t state, tsr_pages *g, const uint32_t *rows, const uint32_t *by,
                             size_t count) {
  uint64_t need = 0;
  for (size_t i = 0; i < count; i++) {
    if (by[i] == 0) continue;
    uint32_t length = s->sequences[rows[i]].length[state];
    need += pages_for(g, (uint64_t)length + by[i]) - pages_for(g, length);
    int32_t *tail = shared_tail(g, s, state, rows[i]);
    if (tail) need++, g->refs[*tail]--, *tail = -2 - *tail;   // marked
  }
  for (size_t i = 0; i < count; i++) {
    uint32_t length = s->sequences[rows[i]].length[state];
    if (by[i] == 0 || length % g->page == 0) continue;
    int32_t *entry = &entries_of(g, rows[i])[length / g->page];
    if (*entry < TSR_NO_PAGE) *entry = -2 - *entry, g->refs[*entry]++;
  }
  return need;
}

static int32_t take_page(tsr_pages *g) {
  int32_t page = g->free[--g->free_count];
  g->refs[page] = 1;
  return page;
}

tsr_status tsr_pages_reserve(tsr_session *s, uint32_t state, const uint32_t *rows, const uint32_t *by, size_t count,
                             void *stream) {
  const tsr_prog_state *st = &s->program->states[state];
  for (uint32_t l = 0; l < st->list_count; l++) {
    tsr_pages *g = &s->pages[st->list_first + l];
    if (pages_needed(s, state, g, rows, by, count) > g->free_count) return TSR_OUT_OF_PAGES;
  }
  for (uint32_t l = 0; l < st->list_count; l++) {
    tsr_pages *g = &s->pages[st->list_first + l];
    for (size_t i = 0; i < count; i++) {
      if (by[i] == 0) continue;
      uint32_t length = s->sequences[rows[i]].length[state];
      int32_t *tail = shared_tail(g, s, state, rows[i]);
      if (tail) {
        int32_t from = *tail;
        *tail = take_page(g);
        g->refs[from]--;
        TSR_TRY(prepare_page(s, state, l, from, *tail, stream));
      }
      int32_t *entries = entries_of(g, rows[i]);
      for (uint32_t k = pages_for(g, length); k < pages_for(g, (uint64_t)length + by[i]); k++) {
        entries[k] = take_page(g);
        TSR_TRY(prepare_page(s, state, l, -1, entries[k], stream));
      }
    }
  }
  return TSR_OK;
}

static tsr_seq *new_sequence(tsr_session *s, uint32_t *index) {
  for (uint32_t i = 0; i < s->sequence_count; i++) {
    if (s->sequences[i].used) continue;
    tsr_seq *q = &s->sequences[i];
    uint32_t generation = q->generation + 1;
    *q = (tsr_seq){.generation = generation, .used = true};
    *index = i;
    return q;
  }
  return NULL;
}

tsr_status tsr_sequence_create(tsr_session *s, tsr_sequence *out) {
  if (!s || !out) return TSR_INVALID;
  uint32_t i;
  if (!new_sequence(s, &i)) return TSR_OUT_OF_PAGES;
  *out = handle_of(s, i);
  return TSR_OK;
}

tsr_status tsr_sequence_fork(tsr_session *s, tsr_sequence from, tsr_sequence *out) {
  if (!s || !out) return TSR_INVALID;
  uint32_t a, b;
  if (!tsr_find_sequence(s, from, &a)) return TSR_NOT_FOUND;
  TSR_TRY(tsr_session_settle(s, NULL));
  tsr_seq *q = new_sequence(s, &b);
  if (!q) return TSR_OUT_OF_PAGES;
  memcpy(q->length, s->sequences[a].length, sizeof q->length);
  for (uint32_t i = 0; i < s->pages_count; i++) {
    tsr_pages *g = &s->pages[i];
    int32_t *mine = entries_of(g, a), *its = entries_of(g, b);
    for (uint32_t k = 0; k < g->width && mine[k] != TSR_NO_PAGE; k++) {
      its[k] = mine[k];
      g->refs[mine[k]]++;
    }
  }
  *out = handle_of(s, b);
  return TSR_OK;
}

tsr_status tsr_sequence_truncate(tsr_session *s, tsr_sequence h, uint32_t length) {
  uint32_t i;
  if (!s) return TSR_INVALID;
  tsr_seq *q = tsr_find_sequence(s, h, &i);
  if (!q) return TSR_NOT_FOUND;
  TSR_TRY(tsr_session_settle(s, NULL));
  if (length > tsr_sequence_length(s, h)) return TSR_OUT_OF_RANGE;
  for (uint32_t k = 0; k < s->program->states_count; k++) {
    if (q->length[k] > length) q->length[k] = length;
    tsr_pages_trim(s, k, i);
  }
  return TSR_OK;
}

uint32_t tsr_sequence_length(const tsr_session *s, tsr_sequence h) {
  const tsr_seq *q = s ? tsr_find_sequence(s, h, NULL) : NULL;
  uint32_t longest = 0;
  for (uint32_t k = 0; q && k < s->program->states_count; k++)
    if (q->length[k] > longest) longest = q->length[k];
  return longest;
}

tsr_status tsr_sequence_destroy(tsr_session *s, tsr_sequence h) {
  uint32_t i;
  if (!s) return TSR_INVALID;
  tsr_seq *q = tsr_find_sequence(s, h, &i);
  if (!q) return TSR_NOT_FOUND;
  tsr_status status = tsr_session_settle(s, NULL);
  for (uint32_t k = 0; k < s->program->states_count; k++) {
    q->length[k] = 0;
    tsr_pages_trim(s, k, i);
  }
  q->used = false;
  return status;
}
