// Region allocation: many small objects with one lifetime, freed whole.
//
// A compilation owns a few arenas (module, pass, diagnostics). Allocation never returns NULL: when memory runs out the
// arena's handler is called and must not return; the default prints one line and aborts, and a driver that wants to
// survive installs a handler that longjmps to its entry. Not thread-safe: one arena belongs to one thread at a time.
#ifndef TESSERA_BASE_ARENA_H
#define TESSERA_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct ts_arena_block ts_arena_block;
typedef void ts_oom_handler(void *user, size_t bytes);

typedef struct ts_arena {
  ts_arena_block *head;     // newest block
  char *cursor, *limit;     // free part of the newest block
  size_t used;              // bytes handed out, for statistics
  ts_oom_handler *on_oom;   // must not return; NULL: print and abort
  void *oom_user;
} ts_arena;

void ts_arena_init(ts_arena *a);
void ts_arena_deinit(ts_arena *a);   // frees everything; the arena may be initialised again

// `align` is a power of two. The memory is zeroed.
void *ts_arena_alloc(ts_arena *a, size_t bytes, size_t align);
// count * size, checked for overflow (overflow counts as out of memory).
void *ts_arena_array(ts_arena *a, size_t count, size_t size, size_t align);
void *ts_arena_copy(ts_arena *a, const void *data, size_t bytes, size_t align);
char *ts_arena_strndup(ts_arena *a, const char *s, size_t n);
char *ts_arena_strdup(ts_arena *a, const char *s);
char *ts_arena_printf(ts_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *ts_arena_vprintf(ts_arena *a, const char *fmt, va_list ap);

#define ts_new(arena, type) ((type *)ts_arena_alloc((arena), sizeof(type), _Alignof(type)))
#define ts_new_array(arena, type, count) ((type *)ts_arena_array((arena), (count), sizeof(type), _Alignof(type)))

// Growable arrays inside an arena. TS_VEC(int) v = {0}; ts_vec_push(arena, &v, 3); v.data[0]; v.count.
// Growth leaves the old storage to the arena, so element pointers stay readable but stale.
#define TS_VEC(type)  \
  struct {            \
    type *data;       \
    size_t count, capacity; \
  }

void *ts_vec_grow_(ts_arena *a, void *data, size_t count, size_t *capacity, size_t size, size_t align);

#define ts_vec_push(arena, v, value)                                                                          \
  do {                                                                                                        \
    if ((v)->count == (v)->capacity)                                                                          \
      (v)->data = ts_vec_grow_((arena), (v)->data, (v)->count, &(v)->capacity, sizeof *(v)->data, _Alignof(max_align_t)); \
    (v)->data[(v)->count++] = (value);                                                                        \
  } while (0)

#endif
