// The emulated device: its memory, allocations with red zones, and the shadow that knows which bytes are initialised.
#include "emulator/machine.h"

#include <stdlib.h>
#include <sys/mman.h>

static void *reserve(uint64_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

ts_status emu_context_create(const emu_context_options *o, ts_diags *d, emu_context **out) {
  *out = NULL;
  emu_context *c = calloc(1, sizeof *c);
  if (!c) return TS_OUT_OF_MEMORY;
  c->sm = o->sm ? o->sm : 80;
  c->gen = emu_gen_of_sm(c->sm);
  c->workers = o->workers ? o->workers : ts_cpu_count();
  c->capacity = o->memory ? (o->memory + 4095) & ~4095ull : 32ull << 30;
  pthread_mutex_init(&c->lock, NULL);
  c->memory = reserve(c->capacity);
  c->valid = reserve(c->capacity);
  c->owner = reserve(c->capacity / EMU_PAGE * sizeof *c->owner);
  c->allocations = reserve(EMU_MAX_ALLOCATIONS * sizeof *c->allocations);   // never moves: workers look at it while a kernel allocates
  c->top = EMU_RED_ZONE;
  if (!c->memory || !c->valid || !c->owner || !c->allocations) {
    emu_context_destroy(c);
    return ts_report(d, (ts_loc){0}, &diag_emu_memory, "can't reserve %llu MiB of address space for the emulated device", (unsigned long long)(o->memory >> 20));
  }
  *out = c;
  return TS_OK;
}

void emu_context_destroy(emu_context *c) {
  if (!c) return;
  if (c->memory) munmap(c->memory, c->capacity);
  if (c->valid) munmap(c->valid, c->capacity);
  if (c->owner) munmap(c->owner, c->capacity / EMU_PAGE * sizeof *c->owner);
  for (uint32_t i = 0; c->allocations && i < c->allocation_count; i++) free(c->allocations[i].name);
  if (c->allocations) munmap(c->allocations, EMU_MAX_ALLOCATIONS * sizeof *c->allocations);
  if (c->pool) ts_pool_destroy(c->pool);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

unsigned emu_context_sm(const emu_context *c) { return c->sm; }
unsigned emu_context_workers(const emu_context *c) { return c->workers; }

emu_allocation *emu_owner(const emu_context *c, uint64_t address) {
  uint64_t offset = address - EMU_DEVICE_BASE;
  if (offset >= c->capacity) return NULL;
  uint32_t n = c->owner[offset / EMU_PAGE];
  return n ? &c->allocations[n - 1] : NULL;
}

// The first freed range that is large enough; memory is reused only when the device has no fresh memory left, so that a
// use after free is found for as long as possible.
static emu_allocation *find_freed(emu_context *c, uint64_t span) {
  for (uint32_t i = 0; i < c->allocation_count; i++) {
    emu_allocation *a = &c->allocations[i];
    if (!a->live && a->span >= span) return a;
  }
  return NULL;
}

ts_status emu_alloc_internal(emu_context *c, uint64_t bytes, const char *name, bool read_only, emu_addr *out) {
  *out = 0;
  if (bytes > c->capacity) return TS_OUT_OF_MEMORY;
  uint64_t span = (bytes + EMU_PAGE - 1) / EMU_PAGE * EMU_PAGE + EMU_RED_ZONE;
  if (bytes == 0) span += EMU_PAGE;   // an address of its own
  emu_allocation *a = NULL;
  uint64_t offset;
  if (c->capacity - c->top >= span && c->allocation_count < EMU_MAX_ALLOCATIONS) {
    a = &c->allocations[c->allocation_count++];
    offset = c->top;
    c->top += span;
  } else {
    a = find_freed(c, span);
    if (!a) return TS_OUT_OF_MEMORY;
    offset = a->offset;
    span = a->span;
    free(a->name);
  }
  *a = (emu_allocation){.offset = offset, .bytes = bytes, .span = span, .live = true, .read_only = read_only, .name = name ? strdup(name) : NULL};
  uint32_t number = (uint32_t)(a - c->allocations) + 1;
  uint64_t pages = (bytes + EMU_PAGE - 1) / EMU_PAGE;
  for (uint64_t p = 0; p < pages || p == 0; p++) c->owner[offset / EMU_PAGE + p] = number;
  c->in_use += bytes;
  *out = EMU_DEVICE_BASE + offset;
  return TS_OK;
}

ts_status emu_alloc(emu_context *c, uint64_t bytes, const char *name, emu_addr *out) { return emu_alloc_internal(c, bytes, name, false, out); }

ts_status emu_free(emu_context *c, emu_addr address) {
  emu_allocation *a = emu_owner(c, address);
  if (!a || !a->live || EMU_DEVICE_BASE + a->offset != address) return TS_INVALID;
  a->live = false;
  c->in_use -= a->bytes;
  // Give whole host pages back; what is left of the first and the last counts as uninitialised all the same.
  memset(c->valid + a->offset, EMU_BYTE_UNINIT, a->bytes < 8192 ? a->bytes : 0);
  uint64_t from = (a->offset + 4095) & ~4095ull, to = (a->offset + a->bytes) & ~4095ull;
  if (a->bytes >= 8192) {
    memset(c->valid + a->offset, EMU_BYTE_UNINIT, from - a->offset);
    memset(c->valid + to, EMU_BYTE_UNINIT, a->offset + a->bytes - to);
    madvise(c->valid + from, to - from, MADV_DONTNEED);
    madvise(c->memory + from, to - from, MADV_DONTNEED);
  }
  return TS_OK;
}

static emu_allocation *range_owner(const emu_context *c, emu_addr at, uint64_t bytes) {
  emu_allocation *a = emu_owner(c, at);
  if (!a || !a->live) return NULL;
  uint64_t offset = at - EMU_DEVICE_BASE - a->offset;
  return offset <= a->bytes && bytes <= a->bytes - offset ? a : NULL;
}

static void mark_valid(emu_context *c, emu_allocation *a, uint64_t offset, uint64_t bytes) {
  if (a->all_valid) return;
  if (bytes == a->bytes) a->all_valid = true;
  else memset(c->valid + offset, EMU_BYTE_VALID, bytes);
}

ts_status emu_read(emu_context *c, void *to, emu_addr from, uint64_t bytes) {
  if (!bytes) return TS_OK;
  if (!range_owner(c, from, bytes)) return TS_OUT_OF_RANGE;
  memcpy(to, c->memory + (from - EMU_DEVICE_BASE), bytes);
  return TS_OK;
}

ts_status emu_write(emu_context *c, emu_addr to, const void *from, uint64_t bytes) {
  if (!bytes) return TS_OK;
  emu_allocation *a = range_owner(c, to, bytes);
  if (!a) return TS_OUT_OF_RANGE;
  memcpy(c->memory + (to - EMU_DEVICE_BASE), from, bytes);
  mark_valid(c, a, to - EMU_DEVICE_BASE, bytes);
  return TS_OK;
}

ts_status emu_copy(emu_context *c, emu_addr to, emu_addr from, uint64_t bytes) {
  if (!bytes) return TS_OK;
  emu_allocation *a = range_owner(c, to, bytes), *b = range_owner(c, from, bytes);
  if (!a || !b) return TS_OUT_OF_RANGE;
  uint64_t t = to - EMU_DEVICE_BASE, f = from - EMU_DEVICE_BASE;
  memmove(c->memory + t, c->memory + f, bytes);
  if (b->all_valid) {
    mark_valid(c, a, t, bytes);
  } else {
    if (a->all_valid) {   // the shadow must be kept from here on
      memset(c->valid + a->offset, EMU_BYTE_VALID, a->bytes);
      a->all_valid = false;
    }
    memmove(c->valid + t, c->valid + f, bytes);
  }
  return TS_OK;
}

ts_status emu_fill(emu_context *c, emu_addr to, const void *pattern, unsigned pattern_bytes, uint64_t count) {
  if (pattern_bytes != 1 && pattern_bytes != 2 && pattern_bytes != 4) return TS_INVALID;
  if (count > c->capacity) return TS_OUT_OF_RANGE;
  uint64_t bytes = count * pattern_bytes, t = to - EMU_DEVICE_BASE;
  if (!bytes) return TS_OK;
  emu_allocation *a = range_owner(c, to, bytes);
  if (!a) return TS_OUT_OF_RANGE;
  if (pattern_bytes == 1) memset(c->memory + t, *(const uint8_t *)pattern, bytes);
  else
    for (uint64_t i = 0; i < count; i++) memcpy(c->memory + t + i * pattern_bytes, pattern, pattern_bytes);
  mark_valid(c, a, t, bytes);
  return TS_OK;
}

ts_status emu_find(emu_context *c, emu_addr address, emu_addr *base, uint64_t *bytes, const char **name) {
  emu_allocation *a = emu_owner(c, address);
  if (!a || !a->live || address - EMU_DEVICE_BASE - a->offset > a->bytes) return TS_NOT_FOUND;
  if (base) *base = EMU_DEVICE_BASE + a->offset;
  if (bytes) *bytes = a->bytes;
  if (name) *name = a->name;
  return TS_OK;
}

void emu_memory_info(const emu_context *c, uint64_t *free_bytes, uint64_t *total_bytes) {
  if (total_bytes) *total_bytes = c->capacity;
  if (free_bytes) *free_bytes = c->capacity - c->in_use;
}
