// Hash map (see map.h).
#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>

void ts_map_deinit(ts_map *m) {
  free(m->entries);
  *m = (ts_map){0};
}

static size_t slot_of(const ts_map *m, uint64_t key) {
  uint64_t h = key * 0x9E3779B97F4A7C15u;
  size_t i = (size_t)(h ^ h >> 29) & (m->capacity - 1);
  while (m->entries[i].used && m->entries[i].key != key) i = (i + 1) & (m->capacity - 1);
  return i;
}

void ts_map_put(ts_map *m, uint64_t key, void *value) {
  if (m->count * 2 >= m->capacity) {
    ts_map old = *m;
    m->capacity = old.capacity ? old.capacity * 2 : 32;
    m->entries = calloc(m->capacity, sizeof *m->entries);
    if (!m->entries) {
      fprintf(stderr, "tessera: out of memory\n");
      abort();
    }
    for (size_t i = 0; i < old.capacity; i++)
      if (old.entries[i].used) m->entries[slot_of(m, old.entries[i].key)] = old.entries[i];
    free(old.entries);
  }
  size_t i = slot_of(m, key);
  if (!m->entries[i].used) m->count++;
  m->entries[i] = (ts_map_entry){key, value, true};
}

bool ts_map_find(const ts_map *m, uint64_t key, void **value) {
  if (!m->capacity) return false;
  size_t i = slot_of(m, key);
  if (!m->entries[i].used) return false;
  *value = m->entries[i].value;
  return true;
}

void *ts_map_get(const ts_map *m, uint64_t key) {
  void *value = NULL;
  ts_map_find(m, key, &value);
  return value;
}
