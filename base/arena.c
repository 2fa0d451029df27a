// Region allocation (see arena.h). Blocks double from 16 KiB to 1 MiB; a request larger than a quarter block gets a block of
// its own behind the current one, so that it does not strand the current block's free space.
#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>

struct ts_arena_block {
  ts_arena_block *next;
  size_t size;
};

enum { FIRST_BLOCK = 16 << 10, LARGEST_BLOCK = 1 << 20, HEADER = (sizeof(ts_arena_block) + 15) & ~15 };

static void out_of_memory(ts_arena *a, size_t bytes) {
  if (a->on_oom) a->on_oom(a->oom_user, bytes);
  fprintf(stderr, "tessera: out of memory (%zu bytes)\n", bytes);
  abort();
}

void ts_arena_init(ts_arena *a) { *a = (ts_arena){0}; }

void ts_arena_deinit(ts_arena *a) {
  for (ts_arena_block *b = a->head; b;) {
    ts_arena_block *next = b->next;
    free(b);
    b = next;
  }
  ts_oom_handler *handler = a->on_oom;
  void *user = a->oom_user;
  *a = (ts_arena){.on_oom = handler, .oom_user = user};
}

static ts_arena_block *new_block(ts_arena *a, size_t size) {
  ts_arena_block *b = calloc(1, size);
  if (!b) out_of_memory(a, size);
  b->size = size;
  return b;
}

void *ts_arena_alloc(ts_arena *a, size_t bytes, size_t align) {
  uintptr_t at = ((uintptr_t)a->cursor + align - 1) & ~(uintptr_t)(align - 1);
  if (a->cursor && at <= (uintptr_t)a->limit && bytes <= (uintptr_t)a->limit - at) {
    a->cursor = (char *)at + bytes;
    a->used += bytes;
    return (void *)at;
  }
  if (bytes > SIZE_MAX / 2 || align > 4096) out_of_memory(a, bytes);
  size_t size = a->head ? a->head->size * 2 : FIRST_BLOCK;
  if (size > LARGEST_BLOCK) size = LARGEST_BLOCK;
  a->used += bytes;
  if (bytes + align > size / 4 && a->head) {   // a block of its own
    ts_arena_block *own = new_block(a, HEADER + bytes + align);
    own->next = a->head->next;
    a->head->next = own;
    own->size = a->head->size;   // growth follows ordinary blocks only
    return (void *)(((uintptr_t)own + HEADER + align - 1) & ~(uintptr_t)(align - 1));
  }
  while (size < HEADER + bytes + align) size *= 2;
  ts_arena_block *b = new_block(a, size);
  b->next = a->head;
  a->head = b;
  at = ((uintptr_t)b + HEADER + align - 1) & ~(uintptr_t)(align - 1);
  a->cursor = (char *)at + bytes;
  a->limit = (char *)b + size;
  return (void *)at;
}

void *ts_arena_array(ts_arena *a, size_t count, size_t size, size_t align) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) out_of_memory(a, SIZE_MAX);
  return ts_arena_alloc(a, bytes, align);
}

void *ts_arena_copy(ts_arena *a, const void *data, size_t bytes, size_t align) {
  void *p = ts_arena_alloc(a, bytes, align);
  if (bytes) memcpy(p, data, bytes);
  return p;
}

char *ts_arena_strndup(ts_arena *a, const char *s, size_t n) {
  char *p = ts_arena_alloc(a, n + 1, 1);
  if (n) memcpy(p, s, n);
  return p;
}

char *ts_arena_strdup(ts_arena *a, const char *s) { return ts_arena_strndup(a, s, strlen(s)); }

char *ts_arena_vprintf(ts_arena *a, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  char *p = ts_arena_alloc(a, n < 0 ? 1 : (size_t)n + 1, 1);
  if (n > 0) vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  return p;
}

char *ts_arena_printf(ts_arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *p = ts_arena_vprintf(a, fmt, ap);
  va_end(ap);
  return p;
}

void *ts_vec_grow_(ts_arena *a, void *data, size_t count, size_t *capacity, size_t size, size_t align) {
  size_t wanted = *capacity ? *capacity * 2 : 8;
  void *grown = ts_arena_array(a, wanted, size, align);
  if (count) memcpy(grown, data, count * size);
  *capacity = wanted;
  return grown;
}
