// Thread pool (see pool.h).
//
// One 64-bit word `ticket` holds the loop's generation in its upper half and the next block in its lower half, so a worker that
// wakes late can never take a block of a loop it did not see: its compare-and-swap fails on the generation. The caller
// publishes the loop's fields before the ticket (release); a worker reads the ticket first (acquire).
#include "base/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, SPIN = 4000 };   // about 20 to 60 microseconds of pauses before sleeping

typedef struct worker_start {
  ts_pool *pool;
  unsigned index;
} worker_start;

struct ts_pool {
  _Atomic uint64_t ticket;          // generation << 32 | next block
  _Atomic uint32_t generation;      // futex word; changes with every loop
  _Atomic uint32_t sleepers;
  _Atomic uint32_t pending;         // blocks not yet finished
  _Atomic uint32_t caller_sleeps;
  _Atomic int result;
  _Atomic bool stop;
  ts_pool_fn *fn;
  void *user;
  _Atomic uint32_t count;
  unsigned threads;
  pthread_t ids[MAX_THREADS];
  worker_start starts[MAX_THREADS];
};

static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static long quota_cpus(void) {
  long quota = 0, period = 0;
  FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (f) {
    if (fscanf(f, "%ld %ld", &quota, &period) != 2) quota = 0;   // "max 100000" does not scan
    fclose(f);
  } else {
    f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
    if (f) {
      if (fscanf(f, "%ld", &quota) != 1) quota = 0;
      fclose(f);
      f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
      if (f) {
        if (fscanf(f, "%ld", &period) != 1) period = 0;
        fclose(f);
      }
    }
  }
  return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

unsigned ts_cpu_count(void) {
  cpu_set_t set;
  long n = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  long quota = quota_cpus();
  if (quota && quota < n) n = quota;
  return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (unsigned)n;
}

static void finished(ts_pool *p, uint32_t blocks) {
  if (atomic_fetch_sub_explicit(&p->pending, blocks, memory_order_acq_rel) == blocks && atomic_load(&p->caller_sleeps))
    futex_wake(&p->pending, 1);
}

// The next `most` blocks of a generation, or as many as there are: returns how many were taken, from *first on.
static uint32_t take_blocks(ts_pool *p, uint32_t generation, uint32_t most, uint32_t *first) {
  for (;;) {
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    uint32_t count = atomic_load_explicit(&p->count, memory_order_acquire), next = (uint32_t)t;
    if ((uint32_t)(t >> 32) != generation || next >= count) return 0;
    uint32_t n = count - next < most ? count - next : most;
    *first = next;
    if (atomic_compare_exchange_weak_explicit(&p->ticket, &t, t + n, memory_order_acq_rel, memory_order_relaxed)) return n;
  }
}

// Takes and runs blocks of the given generation until none is left. After a result other than 0 the rest is taken at once.
static void run_blocks(ts_pool *p, uint32_t generation, unsigned worker) {
  uint32_t block;
  while (take_blocks(p, generation, 1, &block)) {
    int r = p->fn(p->user, block, worker), none = 0;
    if (r) {
      atomic_compare_exchange_strong(&p->result, &none, r);
      uint32_t rest = take_blocks(p, generation, UINT32_MAX, &block);
      if (rest) finished(p, rest);
    }
    finished(p, 1);
  }
}

static void *worker_main(void *argument) {
  worker_start *start = argument;
  ts_pool *p = start->pool;
  uint32_t seen = 0;
  for (;;) {
    uint32_t g = atomic_load_explicit(&p->generation, memory_order_acquire);
    for (int i = 0; g == seen && i < SPIN; i++) {
      cpu_pause();
      g = atomic_load_explicit(&p->generation, memory_order_acquire);
    }
    if (g == seen) {
      atomic_fetch_add(&p->sleepers, 1);
      while ((g = atomic_load(&p->generation)) == seen) futex_wait(&p->generation, seen);
      atomic_fetch_sub(&p->sleepers, 1);
    }
    seen = g;
    if (atomic_load(&p->stop)) return NULL;
    run_blocks(p, g, start->index);
  }
}

ts_pool *ts_pool_create(unsigned threads) {
  if (threads == 0) threads = ts_cpu_count();
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  ts_pool *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->threads = 1;
  for (unsigned i = 1; i < threads; i++) {
    p->starts[i] = (worker_start){p, i};
    if (pthread_create(&p->ids[i], NULL, worker_main, &p->starts[i]) != 0) {
      ts_pool_destroy(p);
      return NULL;
    }
    p->threads = i + 1;
  }
  return p;
}

static void publish(ts_pool *p, uint32_t generation) {
  atomic_store(&p->generation, generation);
  if (atomic_load(&p->sleepers)) futex_wake(&p->generation, MAX_THREADS);
}

void ts_pool_destroy(ts_pool *p) {
  if (!p) return;
  atomic_store(&p->stop, true);
  publish(p, atomic_load(&p->generation) + 1);
  for (unsigned i = 1; i < p->threads; i++) pthread_join(p->ids[i], NULL);
  free(p);
}

unsigned ts_pool_threads(const ts_pool *p) { return p->threads; }

int ts_pool_run(ts_pool *p, ts_pool_fn *fn, void *user, uint32_t count) {
  if (count == 0) return 0;
  if (p->threads == 1 || count == 1) {
    for (uint32_t b = 0; b < count; b++) {
      int r = fn(user, b, 0);
      if (r) return r;
    }
    return 0;
  }
  uint32_t generation = atomic_load_explicit(&p->generation, memory_order_relaxed) + 1;
  // A worker that is still leaving the loop before may look at the ticket and then at our count: the ticket changes first, so
  // that its compare-and-swap fails.
  atomic_store_explicit(&p->ticket, (uint64_t)generation << 32 | UINT32_MAX, memory_order_relaxed);
  p->fn = fn;
  p->user = user;
  atomic_store_explicit(&p->count, count, memory_order_release);
  atomic_store_explicit(&p->result, 0, memory_order_relaxed);
  atomic_store_explicit(&p->pending, count, memory_order_relaxed);
  atomic_store_explicit(&p->ticket, (uint64_t)generation << 32, memory_order_release);
  publish(p, generation);
  run_blocks(p, generation, 0);
  uint32_t left;
  for (int i = 0; (left = atomic_load_explicit(&p->pending, memory_order_acquire)) && i < SPIN * 8; i++) cpu_pause();
  if (left) {
    atomic_store(&p->caller_sleeps, 1);
    while ((left = atomic_load(&p->pending))) futex_wait(&p->pending, left);
    atomic_store(&p->caller_sleeps, 0);
  }
  return atomic_load_explicit(&p->result, memory_order_relaxed);
}
