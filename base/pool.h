// A thread pool for many short parallel loops (150 to 210 a token in the runtime, one per launch in the emulator).
//
// ts_pool_run() hands out block numbers 0..count-1 to the workers and to the caller, and returns when all are done. Waking
// costs little because a worker spins briefly after a loop, then sleeps in a futex. The blocks of one loop may run in any
// order and on any worker. A pool belongs to one thread at a time; only ts_pool_cancel() may be called from others.
#ifndef TESSERA_BASE_POOL_H
#define TESSERA_BASE_POOL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ts_pool ts_pool;
// `worker` is 0..threads-1 (0: the caller). A result other than 0 stops handing out further blocks.
typedef int ts_pool_fn(void *user, uint32_t block, unsigned worker);

// CPUs this process may use: affinity and the cgroup quota, at least 1.
unsigned ts_cpu_count(void);

// `threads` counts the caller (0: ts_cpu_count()). NULL when memory or threads can't be had.
ts_pool *ts_pool_create(unsigned threads);
void ts_pool_destroy(ts_pool *p);
unsigned ts_pool_threads(const ts_pool *p);
// Returns the first result other than 0 that a block gave, else 0.
int ts_pool_run(ts_pool *p, ts_pool_fn *fn, void *user, uint32_t count);

#endif
