// Compiled kernels on disk (see cache.h): one file per object, {magic, key, scratch, size, hash, object bytes}.
#include "drive/cache.h"

#include "base/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct cache_header {
  char magic[8];
  uint64_t key, scratch, bytes, hash;
} cache_header;

uint64_t drive_cache_key(const char *text, const char *level) {
  uint64_t h = XXH3_64bits(text, strlen(text));
  h = XXH3_64bits_withSeed(level, strlen(level), h);
  return XXH3_64bits_withSeed(TESSERA_COMPILER_HASH, sizeof TESSERA_COMPILER_HASH, h);
}

static char *entry_path(ts_arena *a, uint64_t key, bool make) {
  char *home = ts_xdg_folder(a, "CACHE");
  if (!home) return NULL;
  char *folder = ts_path_join(a, home, "kernels");
  if (make && ts_make_dirs(folder, NULL) != TS_OK) return NULL;
  return ts_path_join(a, folder, ts_arena_printf(a, "%016llx", (unsigned long long)key));
}

bool drive_cache_load(ts_arena *a, uint64_t key, cgh_code *out) {
  char *path = entry_path(a, key, false);
  ts_str file;
  if (!path || !ts_file_exists(path) || ts_file_read(a, path, NULL, &file) != TS_OK || file.len < sizeof(cache_header)) return false;
  cache_header h;
  memcpy(&h, file.data, sizeof h);
  const char *object = file.data + sizeof h;
  if (memcmp(h.magic, "TSRCACHE", 8) != 0 || h.key != key || h.bytes != file.len - sizeof h || h.hash != XXH3_64bits(object, h.bytes)) return false;
  *out = (cgh_code){.object = ts_arena_copy(a, object, h.bytes, 16), .object_bytes = h.bytes, .scratch = h.scratch};
  return true;
}

void drive_cache_store(uint64_t key, const cgh_code *code) {
  ts_arena a;
  ts_arena_init(&a);
  char *path = entry_path(&a, key, true);
  ts_writer w;
  if (path && ts_writer_open(&w, path, NULL) == TS_OK) {
    cache_header h = {.key = key, .scratch = code->scratch, .bytes = code->object_bytes, .hash = XXH3_64bits(code->object, code->object_bytes)};
    memcpy(h.magic, "TSRCACHE", 8);
    ts_writer_put(&w, &h, sizeof h);
    ts_writer_put(&w, code->object, code->object_bytes);
    if (ts_writer_commit(&w, false, NULL, NULL) != TS_OK) ts_writer_abort(&w);
  }
  ts_arena_deinit(&a);
}
