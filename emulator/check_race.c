// Data races, judged from synchronisation and not from the order in which this run happened to execute.
//
// Every warp has a clock that advances whenever it synchronises, and a vector clock: what it knows to have happened in other
// warps. Barriers join the clocks of those who meet; between blocks (and within, through flags) knowledge travels as the PTX
// memory model says: a release, or a fence before a strong write, publishes at the address it writes; an acquire, or a strong
// read before a fence, takes it. Every 4 bytes of memory have a cell with the last accesses; two accesses race when they touch
// a common byte, one is a write, neither is known to the other, and they are not both strong (with a sufficient scope).
#include "emulator/machine.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { CELL_PAGE_SHIFT = 10, CELLS_PER_PAGE = 1 << (CELL_PAGE_SHIFT - 2), WAYS = 2 };
enum { REC_STRONG = 1, REC_CTA = 2, REC_READ_ONLY = 4 };

typedef struct rec {           // an access; block 0: none, else its number + 1
  uint32_t block, pc, clock;
  uint16_t thread;
  uint8_t bytes, flags;        // bytes: mask of the 4
} rec;
typedef struct emu_shadow_cell {
  rec write[WAYS], read[WAYS];
} cell;

typedef union cell_chain {     // cells of shared memory that no block uses at the moment
  union cell_chain *next;
  cell first;
} cell_chain;

typedef struct cell_page {
  atomic_flag lock;
  cell cells[CELLS_PER_PAGE];
} cell_page;

typedef struct vc_entry {
  uint32_t block;
  uint32_t *clocks;            // by warp
} vc_entry;
struct emu_vc {
  vc_entry *entries;
  uint32_t count, capacity;
  ts_map index;                // block + 1 → entry + 1, once there are many
};
typedef struct emu_vc vc;

typedef struct warp_race {     // what emu_warp.vc points to
  vc known, released, pending;
  bool has_released, has_pending;
} warp_race;

typedef struct sync_var {
  vc published;
  uint64_t key;
  struct sync_var *next;
} sync_var;

struct emu_race {
  uint32_t warps;              // per block
  cell_page *_Atomic *pages;   // of device memory
  uint64_t page_count;
  pthread_mutex_t lock;        // sync variables and spare cells
  ts_map vars;
  sync_var *all_vars;
  cell_chain *spare_cells;
  uint32_t shared_cells;
};

// --- vector clocks ---------------------------------------------------------------------------------------------------------------
static uint32_t *vc_find(const vc *v, uint32_t block) {
  if (v->count <= 8) {
    for (uint32_t i = 0; i < v->count; i++)
      if (v->entries[i].block == block) return v->entries[i].clocks;
    return NULL;
  }
  uintptr_t at = (uintptr_t)ts_map_get(&v->index, block + 1ull);
  return at ? v->entries[at - 1].clocks : NULL;
}

static uint32_t *vc_get(vc *v, uint32_t block, uint32_t warps) {
  uint32_t *found = vc_find(v, block);
  if (found) return found;
  if (v->count == v->capacity) {
    v->capacity = v->capacity ? v->capacity * 2 : 4;
    v->entries = realloc(v->entries, v->capacity * sizeof *v->entries);
    if (!v->entries) abort();
  }
  found = calloc(warps, sizeof *found);
  if (!found) abort();
  v->entries[v->count++] = (vc_entry){block, found};
  if (v->count == 9)
    for (uint32_t i = 0; i < 9; i++) ts_map_put(&v->index, v->entries[i].block + 1ull, (void *)(uintptr_t)(i + 1));
  else if (v->count > 9) ts_map_put(&v->index, block + 1ull, (void *)(uintptr_t)v->count);
  return found;
}

static void vc_join(vc *to, const vc *from, uint32_t warps) {
  for (uint32_t i = 0; i < from->count; i++) {
    uint32_t *t = vc_get(to, from->entries[i].block, warps);
    const uint32_t *f = from->entries[i].clocks;
    for (uint32_t w = 0; w < warps; w++)
      if (f[w] > t[w]) t[w] = f[w];
  }
}

static void vc_clear(vc *v) {
  for (uint32_t i = 0; i < v->count; i++) free(v->entries[i].clocks);
  free(v->entries);
  ts_map_deinit(&v->index);
  *v = (vc){0};
}

// --- life ------------------------------------------------------------------------------------------------------------------------------
struct emu_race *emu_race_create(emu_launch_state *l) {
  struct emu_race *r = calloc(1, sizeof *r);
  if (!r) abort();
  r->warps = l->warps;
  r->page_count = l->context->capacity >> CELL_PAGE_SHIFT;   // kernels may allocate
  r->pages = mmap(NULL, r->page_count * sizeof *r->pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (r->pages == MAP_FAILED) abort();
  pthread_mutex_init(&r->lock, NULL);
  r->shared_cells = (l->shared_bytes + 3) / 4;
  return r;
}

void emu_race_destroy(struct emu_race *r, const emu_context *c) {
  uint64_t used = (c->top >> CELL_PAGE_SHIFT) + 1;
  for (uint64_t i = 0; i < used && i < r->page_count; i++) free(r->pages[i]);
  munmap(r->pages, r->page_count * sizeof *r->pages);
  for (sync_var *v = r->all_vars; v;) {
    sync_var *next = v->next;
    vc_clear(&v->published);
    free(v);
    v = next;
  }
  for (cell_chain *k = r->spare_cells; k;) {
    cell_chain *next = k->next;
    free(k);
    k = next;
  }
  ts_map_deinit(&r->vars);
  pthread_mutex_destroy(&r->lock);
  free(r);
}

void emu_race_block_begin(emu_exec *x, emu_block *b) {
  struct emu_race *r = x->launch->race;
  for (uint32_t i = 0; i < b->warp_count; i++) {
    emu_warp *w = &b->warps[i];
    w->clock = 1;
    w->vc = calloc(1, sizeof(warp_race));
    if (!w->vc) abort();
    vc_get(&((warp_race *)w->vc)->known, b->number, r->warps);
  }
  if (!r->shared_cells) return;
  pthread_mutex_lock(&r->lock);
  cell_chain *spare = r->spare_cells;   // stale records carry other block numbers and count as empty
  if (spare) r->spare_cells = spare->next;
  pthread_mutex_unlock(&r->lock);
  if (spare) spare->first = (cell){0};
  b->shared_cells = spare ? &spare->first : calloc(r->shared_cells, sizeof *b->shared_cells);
  if (!b->shared_cells) abort();
}

void emu_race_block_end(emu_exec *x, emu_block *b) {
  struct emu_race *r = x->launch->race;
  for (uint32_t i = 0; i < b->warp_count; i++) {
    warp_race *w = (warp_race *)b->warps[i].vc;
    vc_clear(&w->known);
    vc_clear(&w->released);
    vc_clear(&w->pending);
    free(w);
  }
  for (int i = 0; i < EMU_BARRIERS; i++) {
    if (b->barriers[i].vc) vc_clear(b->barriers[i].vc);
    if (b->barriers[i].fenced) vc_clear(b->barriers[i].fenced);
    free(b->barriers[i].vc);
    free(b->barriers[i].fenced);
  }
  if (!b->shared_cells) return;
  pthread_mutex_lock(&r->lock);
  cell_chain *spare = (cell_chain *)b->shared_cells;
  spare->next = r->spare_cells;
  r->spare_cells = spare;
  pthread_mutex_unlock(&r->lock);
}

// --- synchronisation ------------------------------------------------------------------------------------------------------------------
static warp_race *state(const emu_warp *w) { return (warp_race *)w->vc; }

// Puts the warp's own clock into what it publishes and starts a new interval.
static void publish(emu_exec *x, emu_warp *w, vc *to) {
  uint32_t warps = x->launch->race->warps, block = w->block->number;
  vc_join(to, &state(w)->known, warps);
  vc_get(to, block, warps)[w->index] = w->clock;
  w->clock++;
}

void emu_race_fence(emu_exec *x, bool cta) {
  emu_warp *w = x->warp;
  warp_race *s = state(w);
  (void)cta;   // scopes are judged at the accesses
  if (s->has_pending) {
    vc_join(&s->known, &s->pending, x->launch->race->warps);
    vc_clear(&s->pending);
    s->has_pending = false;
  }
  vc_clear(&s->released);
  publish(x, w, &s->released);
  s->has_released = true;
}

void emu_race_warp_sync(emu_exec *x, emu_warp *w) {
  (void)x;
  w->clock++;
}

// What a thread has fenced stays fenced behind a barrier: data, fence, barrier, then one thread signals for all. Strictly the
// signalling thread needs a fence of its own; all hardware honours this order, and much code relies on it.
void emu_race_barrier_arrive(emu_exec *x, emu_warp *w, emu_barrier *b) {
  if (!b->vc) b->vc = calloc(1, sizeof *b->vc);
  if (!b->fenced) b->fenced = calloc(1, sizeof *b->fenced);
  if (!b->vc || !b->fenced) abort();
  publish(x, w, b->vc);
  if (state(w)->has_released) vc_join(b->fenced, &state(w)->released, x->launch->race->warps);
}
void emu_race_barrier_leave(emu_exec *x, emu_warp *w, emu_barrier *b) {
  uint32_t warps = x->launch->race->warps;
  vc_join(&state(w)->known, b->vc, warps);
  if (!b->fenced->count) return;
  vc_join(&state(w)->released, b->fenced, warps);
  state(w)->has_released = true;
}
void emu_race_barrier_reset(emu_exec *x, emu_barrier *b) {
  (void)x;
  vc_clear(b->vc);
  vc_clear(b->fenced);
}

static uint64_t sync_key(const emu_exec *x, bool shared, uint64_t address) { return shared ? 1ull << 63 | (uint64_t)x->block->number << 24 | address : address; }

// A strong write at an address publishes what this warp may publish. It does so before the write can be seen.
static void release(emu_exec *x, const emu_mem *m, uint64_t key, emu_access_kind kind) {
  struct emu_race *r = x->launch->race;
  emu_warp *w = x->warp;
  warp_race *s = state(w);
  pthread_mutex_lock(&r->lock);
  sync_var *v = ts_map_get(&r->vars, key);
  if (v && kind == EMU_WRITE) vc_clear(&v->published);   // a plain strong write ends what was published before
  if (m->release || s->has_released) {
    if (!v) {
      v = calloc(1, sizeof *v);
      if (!v) abort();
      v->key = key;
      v->next = r->all_vars;
      r->all_vars = v;
      ts_map_put(&r->vars, key, v);
    }
    if (m->release) publish(x, w, &v->published);
    else vc_join(&v->published, &s->released, r->warps);
  }
  pthread_mutex_unlock(&r->lock);
}

// A strong read has happened: what was published at its addresses is known now, or from the next fence on.
void emu_race_acquire(emu_exec *x, const emu_mem *m, const emu_access *a, uint32_t mask) {
  struct emu_race *r = x->launch->race;
  warp_race *s = state(x->warp);
  pthread_mutex_lock(&r->lock);
  for (uint32_t left = mask; left; left &= left - 1) {
    unsigned i = (unsigned)__builtin_ctz(left), space = a->uniform ? a->first_space : a->space[i];
    sync_var *v = ts_map_get(&r->vars, sync_key(x, space == PTX_SHARED, a->address[i]));
    if (!v) continue;
    vc_join(m->acquire ? &s->known : &s->pending, &v->published, r->warps);
    s->has_pending |= !m->acquire;
  }
  pthread_mutex_unlock(&r->lock);
}

// --- accesses ------------------------------------------------------------------------------------------------------------------------------
typedef struct current {
  emu_exec *x;
  const emu_insn *in;
  const uint32_t *own;       // known clocks of this block
  rec now;
  uint32_t warp, clock;      // of the warp
  unsigned lane;
  bool shared;
  bool read_only;            // the allocation was read with ld.global.nc in this launch
  bool reported;
  uint64_t address;
} current;

static __attribute__((noinline)) bool ordered_blocks(const current *c, const rec *old) {
  if (c->shared) return true;   // another block's record in reused cells
  const uint32_t *known = vc_find(&state(c->x->warp)->known, old->block - 1);
  return known && old->clock <= known[old->thread / 32];
}

static inline bool ordered(const current *c, const rec *old) {
  if (__builtin_expect(old->block != c->now.block, 0)) return ordered_blocks(c, old);
  uint32_t warp = old->thread / 32;
  if (warp != c->warp) return old->clock <= c->own[warp];
  return old->thread == c->now.thread || old->clock < c->clock;
}

static bool both_strong(const rec *a, const rec *b) {
  if (!(a->flags & b->flags & REC_STRONG)) return false;
  return a->block == b->block || !((a->flags | b->flags) & REC_CTA);
}

// `format` takes the address, the space and what the address means.
static void report(current *c, emu_fault fault, const rec *old, const char *format) {
  emu_exec *x = c->x;
  c->reported = true;
  emu_block where = {.number = old->block - 1};   // only for its coordinates
  const uint32_t *grid = x->launch->config.grid;
  where.ctaid[0] = where.number % grid[0];
  where.ctaid[1] = where.number / grid[0] % grid[1];
  where.ctaid[2] = where.number / grid[0] / grid[1];
  pthread_mutex_lock(&x->context->lock);
  emu_place other = emu_place_of(x->launch, &where, old->thread / 32, old->thread % 32, old->pc);
  pthread_mutex_unlock(&x->context->lock);
  ts_text t = {0}, text = {0};
  if (!c->shared) emu_describe_address(x, c->address, &t);
  ts_text_printf(&text, format, (unsigned long long)c->address, c->shared ? "shared" : "global", t.len ? ": " : "", ts_text_z(&t));
  emu_fault_report(x, c->in, fault, c->lane, c->address, 4, &other, "%s", ts_text_z(&text));
  ts_text_deinit(&t);
  ts_text_deinit(&text);
}

static __attribute__((noinline)) void unordered(current *c, const rec *old, bool old_write, bool new_write) {
  if (!(old->bytes & c->now.bytes) || both_strong(old, &c->now) || c->reported) return;
  // Lanes that execute one write together: which one wins is open, but that is one operation and not two.
  bool together = old_write && new_write && old->block == c->now.block && old->thread / 32 == c->now.thread / 32 && old->pc == c->now.pc && old->clock == c->now.clock;
  static const char *const formats[] = {"write after read at 0x%llx in %s memory, with no synchronisation between them%s%s", "read after write at 0x%llx in %s memory, with no synchronisation between them%s%s",
                                        "write after write at 0x%llx in %s memory, with no synchronisation between them%s%s"};
  if (!together) report(c, c->shared ? EMU_FAULT_SHARED_RACE : EMU_FAULT_GLOBAL_RACE, old, formats[!old_write ? 0 : new_write ? 2 : 1]);
}

static inline void compare(current *c, const rec *old, bool old_write, bool new_write) {
  if (old->block && !ordered(c, old)) unordered(c, old, old_write, new_write);
}

// ld.global.nc promises that nothing writes the memory while the kernel runs; its order doesn't matter.
static __attribute__((noinline)) void check_read_only(current *c, const cell *at, bool write) {
  const rec *ways = write ? at->read : at->write;
  for (int k = 0; k < WAYS && !c->reported; k++) {
    const rec *o = &ways[k];
    if (!o->block || !(o->bytes & c->now.bytes) || !((write ? o->flags : c->now.flags) & REC_READ_ONLY)) continue;
    report(c, EMU_FAULT_READ_ONLY_PATH, o, write ? "write at 0x%llx in %s memory that the kernel reads with ld.global.nc%s%s" : "ld.global.nc at 0x%llx in %s memory that the kernel writes%s%s");
  }
}

// Writes the record in two words made in registers: copying the fields just stored would wait for those stores.
static inline void put_rec(const current *c, rec *to, uint8_t bytes) {
  uint64_t words[2] = {c->now.block | (uint64_t)c->now.pc << 32, c->now.clock | (uint64_t)c->now.thread << 32 | (uint64_t)bytes << 48 | (uint64_t)c->now.flags << 56};
  memcpy(to, words, sizeof words);
}
_Static_assert(sizeof(rec) == 16 && offsetof(rec, clock) == 8 && offsetof(rec, thread) == 12 && offsetof(rec, bytes) == 14, "put_rec() writes whole words");

// Keeps the record where it hides the least: over itself, an empty one, or one that is ordered before it.
static inline void keep(const current *c, rec *ways) {
  unsigned way = WAYS - 1;
  for (unsigned k = 0; k < WAYS; k++) {
    rec *o = &ways[k];
    if (o->block == c->now.block && o->thread == c->now.thread) {
      uint8_t bytes = o->clock == c->now.clock && o->flags == c->now.flags ? o->bytes : 0;
      put_rec(c, o, (uint8_t)(bytes | c->now.bytes));
      return;
    }
  }
  for (unsigned k = 0; k + 1 < WAYS; k++)
    if (!ways[k].block || ordered(c, &ways[k])) {
      way = k;
      break;
    }
  put_rec(c, &ways[way], c->now.bytes);
}

static inline void touch(current *c, cell *at, bool write) {
  for (int k = 0; k < WAYS; k++) compare(c, &at->write[k], true, write);
  if (write)
    for (int k = 0; k < WAYS; k++) compare(c, &at->read[k], false, true);
  if (__builtin_expect(c->read_only, 0)) check_read_only(c, at, write);
  keep(c, write ? at->write : at->read);
}

static cell_page *page_of(struct emu_race *r, uint64_t number) {
  cell_page *p = atomic_load_explicit(&r->pages[number], memory_order_acquire);
  if (p) return p;
  cell_page *fresh = calloc(1, sizeof *fresh);
  if (!fresh) abort();
  if (atomic_compare_exchange_strong(&r->pages[number], &p, fresh)) return fresh;
  free(fresh);
  return p;
}

static void page_lock(cell_page *p) {
  while (atomic_flag_test_and_set_explicit(&p->lock, memory_order_acquire)) __builtin_ia32_pause();
}
static void page_unlock(cell_page *p) { atomic_flag_clear_explicit(&p->lock, memory_order_release); }

// The page of cells that a launch's accesses to device memory hold at the moment.
typedef struct held_page {
  cell_page *page;
  uint64_t number;
} held_page;

static inline void touch_words(current *c, struct emu_race *r, cell *shared, held_page *held, uint64_t address, uint32_t bytes, bool write) {
  for (uint64_t a = address & ~3ull; a < address + bytes; a += 4) {
    uint64_t low = a < address ? address - a : 0, high = address + bytes - a < 4 ? address + bytes - a : 4;
    c->now.bytes = (uint8_t)((1u << high) - (1u << low));
    c->address = a + low;
    if (shared) {
      touch(c, &shared[a / 4], write);
      continue;
    }
    uint64_t offset = a - EMU_DEVICE_BASE, number = offset >> CELL_PAGE_SHIFT;
    if (number != held->number) {
      if (held->page) page_unlock(held->page);
      held->page = page_of(r, number);
      page_lock(held->page);
      held->number = number;
    }
    touch(c, &held->page->cells[(offset >> 2) % CELLS_PER_PAGE], write);
  }
}

void emu_race_access(emu_exec *x, const emu_insn *in, const emu_mem *m, const emu_access *a, uint32_t mask, uint32_t bytes, emu_access_kind kind) {
  struct emu_race *r = x->launch->race;
  emu_warp *w = x->warp;
  if (a->uniform && (a->first_space == PTX_LOCAL || a->first_space == PTX_PARAM || (a->allocation && a->allocation->read_only))) return;
  current c = {.x = x, .in = in};
  c.now = (rec){.block = x->block->number + 1, .pc = (uint32_t)(in - x->code)};
  c.now.flags = (uint8_t)((m->strong ? REC_STRONG : 0) | (m->cta_scope ? REC_CTA : 0) | (m->nc ? REC_READ_ONLY : 0));
  c.own = vc_find(&state(w)->known, x->block->number);
  c.warp = w->index;
  held_page held = {NULL, UINT64_MAX};
  for (uint32_t left = mask; left; left &= left - 1) {
    unsigned i = (unsigned)__builtin_ctz(left);
    unsigned space = a->uniform ? a->first_space : a->space[i];
    if (space != PTX_SHARED && space != PTX_GLOBAL) continue;
    c.lane = i;
    c.read_only = m->nc || (a->allocation && a->allocation->nc_read);
    c.shared = space == PTX_SHARED;
    c.now.clock = w->clock;   // what an access publishes covers the access itself
    if (__builtin_expect(m->strong && kind != EMU_READ, 0)) {
      if (held.page) page_unlock(held.page);
      held = (held_page){NULL, UINT64_MAX};
      release(x, m, sync_key(x, c.shared, a->address[i]), kind);
      c.own = vc_find(&state(w)->known, x->block->number);
    }
    c.now.thread = (uint16_t)(w->index * 32 + i);
    c.clock = w->clock;
    touch_words(&c, r, c.shared ? x->block->shared_cells : NULL, &held, a->address[i], bytes, kind != EMU_READ);
  }
  if (held.page) page_unlock(held.page);
}
