// The cache of compiled kernels: objects on disk by the hash of what they are made from. Private to drive/.
#ifndef TESSERA_DRIVE_CACHE_H
#define TESSERA_DRIVE_CACHE_H

#include "codegen/host/host.h"

// Hash of a kernel's canonical text, the level, and the sources and LLVM version of the back end.
uint64_t drive_cache_key(const char *text, const char *level);
// Fills object and scratch. False when the cache has no such entry or the entry is damaged.
bool drive_cache_load(ts_arena *a, uint64_t key, cgh_code *out);
// Failures are ignored: the cache is an optimisation. Safe when several processes store at once.
void drive_cache_store(uint64_t key, const cgh_code *code);

#endif
