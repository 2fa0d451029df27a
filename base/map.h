// Hash map from a 64-bit key (an integer, or an interned pointer) to a pointer. Open addressing; owns only its table.
#ifndef TESSERA_BASE_MAP_H
#define TESSERA_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ts_map_entry {
  uint64_t key;
  void *value;
  bool used;
} ts_map_entry;

typedef struct ts_map {
  ts_map_entry *entries;
  size_t count, capacity;
} ts_map;   // zero-initialise

void ts_map_deinit(ts_map *m);
void ts_map_put(ts_map *m, uint64_t key, void *value);   // replaces
void *ts_map_get(const ts_map *m, uint64_t key);         // NULL when absent
bool ts_map_find(const ts_map *m, uint64_t key, void **value);

static inline uint64_t ts_key(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }

#endif
