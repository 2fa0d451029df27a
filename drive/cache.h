// The cache of compiled kernels: what a back end made, on disk, by the hash of what it is made from. Private to drive/.
//
// An entry is a list of byte strings. Keys always hold a hash of the back ends' own sources, so that a rebuilt compiler never takes
// old code. Entries that are damaged count as absent; failures to store are ignored: the cache is an optimisation. Safe when several
// processes store at once.
#ifndef TESSERA_DRIVE_CACHE_H
#define TESSERA_DRIVE_CACHE_H

#include "base/str.h"

enum { DRIVE_CACHE_PARTS = 8 };

uint64_t drive_cache_key(size_t count, const ts_str *inputs);
// Fills exactly `count` parts, in the arena, aligned to 16.
bool drive_cache_load(ts_arena *a, uint64_t key, size_t count, ts_str *parts);
void drive_cache_store(uint64_t key, size_t count, const ts_str *parts);

#endif
