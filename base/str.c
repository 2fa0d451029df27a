// Strings (see str.h).
#include "base/str.h"

#include <math.h>
#include <stdlib.h>

bool ts_str_starts(ts_str s, const char *prefix) {
  size_t n = strlen(prefix);
  return s.len >= n && memcmp(s.data, prefix, n) == 0;
}

bool ts_str_ends(ts_str s, const char *suffix) {
  size_t n = strlen(suffix);
  return s.len >= n && memcmp(s.data + s.len - n, suffix, n) == 0;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

ts_str ts_str_trim(ts_str s) {
  while (s.len && is_blank(s.data[0])) s.data++, s.len--;
  while (s.len && is_blank(s.data[s.len - 1])) s.len--;
  return s;
}

uint64_t ts_hash_bytes(const void *data, size_t n, uint64_t seed) {
  const unsigned char *p = data;
  uint64_t h = seed ^ (n * 0x9E3779B97F4A7C15u);
  while (n >= 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    h = (h ^ w) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    p += 8, n -= 8;
  }
  for (; n; n--) h = (h ^ *p++) * 0x100000001B3u;
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93u;
  return h ^ h >> 32;
}

bool ts_glob_match(const char *pattern, ts_str text) {
  const char *star = NULL;
  size_t i = 0, mark = 0;
  while (i < text.len) {
    if (*pattern == '*') {
      star = pattern++;
      mark = i;
    } else if (*pattern && (*pattern == '?' || *pattern == text.data[i])) {
      pattern++, i++;
    } else if (star) {
      pattern = star + 1;
      i = ++mark;
    } else {
      return false;
    }
  }
  while (*pattern == '*') pattern++;
  return *pattern == 0;
}

size_t ts_edit_distance(ts_str a, ts_str b) {
  enum { MAX = 64 };
  if (a.len > MAX || b.len > MAX) return MAX;
  unsigned char two[MAX + 1], one[MAX + 1], row[MAX + 1];   // the rows i-2, i-1 and i of the table
  for (size_t j = 0; j <= b.len; j++) one[j] = (unsigned char)j, two[j] = 0;
  for (size_t i = 1; i <= a.len; i++) {
    row[0] = (unsigned char)i;
    for (size_t j = 1; j <= b.len; j++) {
      unsigned best = one[j - 1] + (a.data[i - 1] != b.data[j - 1]);
      if (one[j] + 1u < best) best = one[j] + 1u;
      if (row[j - 1] + 1u < best) best = row[j - 1] + 1u;
      if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1] && two[j - 2] + 1u < best)
        best = two[j - 2] + 1u;
      row[j] = (unsigned char)best;
    }
    memcpy(two, one, b.len + 1);
    memcpy(one, row, b.len + 1);
  }
  return one[b.len];
}

const char *ts_nearest(ts_str name, const char *const *candidates, size_t count) {
  const char *best = NULL;
  size_t best_distance = name.len / 3 + 2;   // farther than this is no suggestion
  for (size_t i = 0; i < count; i++) {
    size_t d = ts_edit_distance(name, ts_str_of(candidates[i]));
    if (d < best_distance) best = candidates[i], best_distance = d;
  }
  return best;
}

void ts_interner_init(ts_interner *t, ts_arena *arena) { *t = (ts_interner){.arena = arena}; }

void ts_interner_deinit(ts_interner *t) {
  free(t->slots);
  free(t->lengths);
  *t = (ts_interner){0};
}

static size_t find_slot(const ts_interner *t, ts_str s) {
  size_t i = ts_hash_bytes(s.data, s.len, 0) & (t->capacity - 1);
  while (t->slots[i] && !(t->lengths[i] == s.len && memcmp(t->slots[i], s.data, s.len) == 0)) i = (i + 1) & (t->capacity - 1);
  return i;
}

static void grow_interner(ts_interner *t) {
  ts_interner old = *t;
  t->capacity = old.capacity ? old.capacity * 2 : 256;
  t->slots = calloc(t->capacity, sizeof *t->slots);
  t->lengths = calloc(t->capacity, sizeof *t->lengths);
  if (!t->slots || !t->lengths) ts_arena_array(t->arena, SIZE_MAX, 2, 1);   // reports out of memory; does not return
  for (size_t i = 0; i < old.capacity; i++) {
    if (!old.slots[i]) continue;
    size_t at = find_slot(t, (ts_str){old.slots[i], old.lengths[i]});
    t->slots[at] = old.slots[i];
    t->lengths[at] = old.lengths[i];
  }
  free(old.slots);
  free(old.lengths);
}

ts_sym ts_intern(ts_interner *t, ts_str s) {
  if (t->count * 2 >= t->capacity) grow_interner(t);
  size_t at = find_slot(t, s);
  if (!t->slots[at]) {
    t->slots[at] = ts_arena_strndup(t->arena, s.data, s.len);
    t->lengths[at] = (uint32_t)s.len;
    t->count++;
  }
  return t->slots[at];
}

ts_sym ts_intern_z(ts_interner *t, const char *s) { return ts_intern(t, ts_str_of(s)); }

void ts_text_deinit(ts_text *t) {
  free(t->data);
  *t = (ts_text){0};
}

void ts_text_clear(ts_text *t) {
  t->len = 0;
  if (t->data) t->data[0] = 0;
}

static void reserve(ts_text *t, size_t more) {
  size_t needed;
  if (__builtin_add_overflow(t->len, more + 1, &needed)) needed = SIZE_MAX;
  if (needed <= t->capacity) return;
  size_t capacity = t->capacity ? t->capacity : 128;
  while (capacity < needed) capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
  char *data = realloc(t->data, capacity);
  if (!data) {
    fprintf(stderr, "tessera: out of memory (%zu bytes)\n", capacity);
    abort();
  }
  t->data = data;
  t->capacity = capacity;
}

void ts_text_add(ts_text *t, ts_str s) {
  reserve(t, s.len);
  if (s.len) memcpy(t->data + t->len, s.data, s.len);
  t->len += s.len;
  t->data[t->len] = 0;
}

void ts_text_puts(ts_text *t, const char *z) { ts_text_add(t, ts_str_of(z)); }
void ts_text_putc(ts_text *t, char c) { ts_text_add(t, (ts_str){&c, 1}); }

void ts_text_vprintf(ts_text *t, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  if (n > 0) {
    reserve(t, (size_t)n);
    vsnprintf(t->data + t->len, (size_t)n + 1, fmt, again);
    t->len += (size_t)n;
  }
  va_end(again);
}

void ts_text_printf(ts_text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  ts_text_vprintf(t, fmt, ap);
  va_end(ap);
}

void ts_text_indent(ts_text *t, unsigned columns) {
  while (columns--) ts_text_putc(t, ' ');
}

// Length of the valid UTF-8 sequence at s (1..4), or 0.
static size_t utf8_length(const unsigned char *s, size_t n) {
  size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;
  if (len == 0 || len > n) return 0;
  for (size_t i = 1; i < len; i++)
    if ((s[i] & 0xC0) != 0x80) return 0;
  if (s[0] == 0xE0 && s[1] < 0xA0) return 0;                     // overlong
  if (s[0] == 0xED && s[1] > 0x9F) return 0;                     // surrogate
  if (s[0] == 0xF0 && s[1] < 0x90) return 0;
  if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
  return len;
}

void ts_text_json(ts_text *t, ts_str s) {
  ts_text_putc(t, '"');
  for (size_t i = 0; i < s.len;) {
    unsigned char c = (unsigned char)s.data[i];
    size_t n = utf8_length((const unsigned char *)s.data + i, s.len - i);
    if (n == 0) {
      ts_text_puts(t, "\\ufffd");
      i++;
      continue;
    }
    if (c == '"' || c == '\\') ts_text_printf(t, "\\%c", c);
    else if (c == '\n') ts_text_puts(t, "\\n");
    else if (c == '\t') ts_text_puts(t, "\\t");
    else if (c == '\r') ts_text_puts(t, "\\r");
    else if (c < 0x20 || c == 0x7F) ts_text_printf(t, "\\u%04x", c);
    else ts_text_add(t, (ts_str){s.data + i, n});
    i += n;
  }
  ts_text_putc(t, '"');
}

void ts_text_real(ts_text *t, double v, bool single) {
  if (isnan(v)) {
    ts_text_puts(t, "nan");
    return;
  }
  if (isinf(v)) {
    ts_text_puts(t, v < 0 ? "-inf" : "inf");
    return;
  }
  char buf[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(buf, sizeof buf, "%.*g", digits, v);
    if (single ? strtof(buf, NULL) == (float)v : strtod(buf, NULL) == v) break;
  }
  ts_text_puts(t, buf);
  if (!strpbrk(buf, ".e")) ts_text_puts(t, ".0");   // a real never prints as an integer
}
