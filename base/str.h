// Strings: views, interned names, and a builder.
//
// ts_str is a view (pointer and length, not terminated). ts_sym is an interned, NUL-terminated string: two names of one
// ts_interner are equal exactly when their pointers are. ts_text builds text in memory of its own.
#ifndef TESSERA_BASE_STR_H
#define TESSERA_BASE_STR_H

#include "base/arena.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct ts_str {
  const char *data;
  size_t len;
} ts_str;

#define TS_STR(literal) ((ts_str){("" literal), sizeof(literal) - 1})
#define TS_FMT(s) (int)(s).len, (s).data   // for "%.*s"

static inline ts_str ts_str_of(const char *z) { return (ts_str){z, z ? strlen(z) : 0}; }
static inline bool ts_str_eq(ts_str a, ts_str b) { return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0); }
static inline bool ts_str_is(ts_str a, const char *z) { return ts_str_eq(a, ts_str_of(z)); }
bool ts_str_starts(ts_str s, const char *prefix);
bool ts_str_ends(ts_str s, const char *suffix);
ts_str ts_str_trim(ts_str s);   // without leading and trailing blanks
uint64_t ts_hash_bytes(const void *data, size_t n, uint64_t seed);   // for hash tables in memory; never stored in files

// Shell-style match: '*' any run, '?' one character.
bool ts_glob_match(const char *pattern, ts_str text);
// Edit distance (insert, delete, replace, swap), for "did you mean".
size_t ts_edit_distance(ts_str a, ts_str b);
// The candidate nearest to `name`, or NULL when none is near enough to suggest.
const char *ts_nearest(ts_str name, const char *const *candidates, size_t count);

typedef const char *ts_sym;

typedef struct ts_interner {
  ts_arena *arena;
  ts_sym *slots;
  uint32_t *lengths;
  size_t count, capacity;
} ts_interner;

void ts_interner_init(ts_interner *t, ts_arena *arena);
void ts_interner_deinit(ts_interner *t);
ts_sym ts_intern(ts_interner *t, ts_str s);
ts_sym ts_intern_z(ts_interner *t, const char *s);

typedef struct ts_text {
  char *data;   // always terminated once something was added; NULL when empty
  size_t len, capacity;
} ts_text;

void ts_text_deinit(ts_text *t);
void ts_text_clear(ts_text *t);
void ts_text_add(ts_text *t, ts_str s);
void ts_text_puts(ts_text *t, const char *z);
void ts_text_putc(ts_text *t, char c);
void ts_text_printf(ts_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ts_text_vprintf(ts_text *t, const char *fmt, va_list ap);
void ts_text_indent(ts_text *t, unsigned columns);
// JSON string with quotes and escapes (invalid UTF-8 becomes U+FFFD).
void ts_text_json(ts_text *t, ts_str s);
// The shortest decimal that reads back to the same double (or float when `single`); inf, -inf, nan by name.
void ts_text_real(ts_text *t, double v, bool single);
static inline ts_str ts_text_str(const ts_text *t) { return (ts_str){t->data ? t->data : "", t->len}; }
static inline const char *ts_text_z(const ts_text *t) { return t->data ? t->data : ""; }

#endif
