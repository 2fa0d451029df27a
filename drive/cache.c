// Compiled kernels on disk (see cache.h): one file per entry, {header, part bytes one after the other}.
#include "drive/cache.h"

#include "base/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct cache_header {
  char magic[8];
  uint64_t key, hash, count;         // hash: of the parts' bytes and sizes
  uint64_t bytes[DRIVE_CACHE_PARTS];
} cache_header;

static uint64_t hash_string(ts_str s, uint64_t seed) {
  return XXH3_64bits_withSeed(&s.len, sizeof s.len, XXH3_64bits_withSeed(s.data, s.len, seed));
}

static uint64_t hash_parts(size_t count, const ts_str *parts, uint64_t seed) {
  for (size_t i = 0; i < count; i++) seed = hash_string(parts[i], seed);
  return seed;
}

uint64_t drive_cache_key(size_t count, const ts_str *inputs) { return hash_parts(count, inputs, hash_string(TS_STR(TESSERA_COMPILER_HASH), 0)); }

static char *entry_path(ts_arena *a, uint64_t key, bool make) {
  char *home = ts_xdg_folder(a, "CACHE");
  if (!home) return NULL;
  char *folder = ts_path_join(a, home, "kernels");
  if (make && ts_make_dirs(folder, NULL) != TS_OK) return NULL;
  return ts_path_join(a, folder, ts_arena_printf(a, "%016llx", (unsigned long long)key));
}

bool drive_cache_load(ts_arena *a, uint64_t key, size_t count, ts_str *parts) {
  char *path = entry_path(a, key, false);
  ts_str file;
  cache_header h;
  if (!path || !ts_file_exists(path) || ts_file_read(a, path, NULL, &file) != TS_OK || file.len < sizeof h) return false;
  memcpy(&h, file.data, sizeof h);
  if (memcmp(h.magic, "TSRCACH2", 8) != 0 || h.key != key || h.count != count) return false;
  size_t at = sizeof h;
  ts_str found[DRIVE_CACHE_PARTS];
  for (size_t i = 0; i < count; i++) {
    if (h.bytes[i] > file.len - at) return false;
    found[i] = (ts_str){file.data + at, h.bytes[i]};
    at += h.bytes[i];
  }
  if (at != file.len || hash_parts(count, found, key) != h.hash) return false;
  for (size_t i = 0; i < count; i++) {   // with a terminator behind each
    char *copy = ts_arena_alloc(a, found[i].len + 1, 16);
    if (found[i].len) memcpy(copy, found[i].data, found[i].len);
    parts[i] = (ts_str){copy, found[i].len};
  }
  return true;
}

void drive_cache_store(uint64_t key, size_t count, const ts_str *parts) {
  ts_arena a;
  ts_arena_init(&a);
  char *path = entry_path(&a, key, true);
  ts_writer w;
  if (path && ts_writer_open(&w, path, NULL) == TS_OK) {
    cache_header h = {.key = key, .hash = hash_parts(count, parts, key), .count = count};
    memcpy(h.magic, "TSRCACH2", 8);
    for (size_t i = 0; i < count; i++) h.bytes[i] = parts[i].len;
    ts_writer_put(&w, &h, sizeof h);
    for (size_t i = 0; i < count; i++) ts_writer_put(&w, parts[i].data, parts[i].len);
    if (ts_writer_commit(&w, false, NULL, NULL) != TS_OK) ts_writer_abort(&w);
  }
  ts_arena_deinit(&a);
}
