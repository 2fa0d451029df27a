// Host device: picks the CPU level by CPUID bits, maps code images read-execute from the file, runs blocks on a pool.
#include "runtime/internal.h"

#include "base/pool.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct host {
  ts_pool *pool;            // NULL: one thread, or the caller's workers
  unsigned workers;
  uint32_t features, level;
} host;

typedef struct host_session {
  uint32_t error;           // word that kernels may store a raise code to
  void *scratch;
  tsr_host_api api[];       // one per worker
} host_session;

// --- CPU ---------------------------------------------------------------------------------------------------------------

static uint64_t enabled_state(void) {   // XCR0: register state that the system saves
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

static bool amx_permitted(void) {   // Linux gives tile state only to those who ask
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static uint32_t cpu_features(void) {
  uint32_t a, b, c, d, bits = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  uint64_t state = enabled_state();
  bool avx = (state & 6) == 6, avx512 = avx && (state & 0xe0) == 0xe0, amx = (state & 0x60000) == 0x60000;
#define HAVE(id, condition) if (condition) bits |= TSR_HAS_##id
  HAVE(fma, avx && c & 1u << 12);
  HAVE(f16c, avx && c & 1u << 29);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return bits;
  uint32_t leaves = a;
  HAVE(bmi2, b & 1u << 8);
  HAVE(avx2, avx && b & 1u << 5);
  HAVE(avx512f, avx512 && b & 1u << 16);
  HAVE(avx512dq, avx512 && b & 1u << 17);
  HAVE(avx512cd, avx512 && b & 1u << 28);
  HAVE(avx512bw, avx512 && b & 1u << 30);
  HAVE(avx512vl, avx512 && b & 1u << 31);
  HAVE(avx512_vbmi, avx512 && c & 1u << 1);
  HAVE(avx512_vnni, avx512 && c & 1u << 11);
  HAVE(avx512_fp16, avx512 && d & 1u << 23);
  bool tile = amx && d & 1u << 24 && amx_permitted();
  HAVE(amx_tile, tile);
  HAVE(amx_int8, tile && d & 1u << 25);
  HAVE(amx_bf16, tile && d & 1u << 22);
  if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) HAVE(avx512_bf16, avx512 && a & 1u << 5);
#undef HAVE
  return bits;
}

static const struct {
  const char *name;
  uint32_t rank, features;
} levels[] = {
#define LEVEL(name, rank, features) {name, rank, features},
  TSR_HOST_LEVELS(LEVEL)
#undef LEVEL
};
enum { LEVELS = sizeof levels / sizeof *levels };

static const char *const feature_names[32] = {
#define NAME(id, bit) [bit] = #id,
  TSR_HOST_FEATURES(NAME)
#undef NAME
};

static uint32_t host_rank(const tsr_device *d, const tsr_artifact *a, const tsr_target *t, char *why) {
  const host *h = d->own;
  uint32_t missing = t->features & ~h->features;
  if (t->device_class != TSR_CLASS_HOST) {
    snprintf(why, 200, "%.60s is not for the host", tsr_string(a, t->name));
  } else if (t->level > h->level) {
    snprintf(why, 200, "%.60s is above the level asked for", tsr_string(a, t->name));
  } else if (missing) {
    const char *name = feature_names[__builtin_ctz(missing)];
    snprintf(why, 200, "%.60s needs %s, which this CPU (or its system) does not have", tsr_string(a, t->name),
             name ? name : "an unknown feature");
  } else {
    return t->level + 1;
  }
  return 0;
}

// --- Memory ------------------------------------------------------------------------------------------------------------

enum { HUGE_PAGE = 2 << 20, MAPPED_FROM = 2 * HUGE_PAGE };

// Large blocks are mapped: zero without being touched. At a huge page's boundary, for few TLB entries, unless they are sparse:
// the system clears whole huge pages at the first touch, which takes milliseconds each on some machines.
static void *map_block(size_t bytes, bool sparse) {
  size_t room;
  if (!ts_add_size(bytes, HUGE_PAGE, &room)) return NULL;
  char *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  char *start = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1)),
       *end = start + ((bytes + 4095) & ~(size_t)4095);
  if (start > p) munmap(p, (size_t)(start - p));
  if (p + room > end) munmap(end, (size_t)(p + room - end));
  madvise(start, bytes, sparse ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  return start;
}

static tsr_status host_allocate(tsr_device *d, size_t bytes, bool sparse, void **out) {
  void *p = NULL;
  if (d->options.allocate) p = d->options.allocate(d->options.allocator, bytes, 64);
  else if (bytes >= MAPPED_FROM) p = map_block(bytes, sparse);
  else if (posix_memalign(&p, 64, bytes) != 0) p = NULL;
  if (!p) return TSR_OUT_OF_MEMORY;
  if (d->options.allocate || bytes < MAPPED_FROM) memset(p, 0, bytes);
  *out = p;
  return TSR_OK;
}

static void host_release(tsr_device *d, void *p, size_t bytes) {
  if (!p) return;
  if (d->options.allocate) d->options.release(d->options.allocator, p, bytes);
  else if (bytes >= MAPPED_FROM) munmap(p, (bytes + 4095) & ~(size_t)4095);
  else free(p);
}

static tsr_status host_write(tsr_device *d, void *to, const void *from, size_t bytes, void *stream) {
  (void)d, (void)stream;
  if (bytes) memmove(to, from, bytes);
  return TSR_OK;
}

static tsr_status host_fill(tsr_device *d, void *to, uint32_t pattern, size_t bytes, void *stream) {
  (void)d, (void)stream;
  if (pattern == (pattern & 0xff) * 0x01010101u) {
    if (bytes) memset(to, (int)(pattern & 0xff), bytes);
  } else {
    for (size_t i = 0; i < bytes / 4; i++) memcpy((unsigned char *)to + 4 * i, &pattern, 4);
  }
  return TSR_OK;
}

static tsr_status host_wait(tsr_device *d, void *stream, tsr_error *e) {
  (void)d, (void)stream, (void)e;
  return TSR_OK;
}

// --- Code --------------------------------------------------------------------------------------------------------------

// The image mapped read-execute: from the file where there is one, else a copy.
static tsr_status map_image(tsr_artifact *a, uint32_t image, const unsigned char **out, tsr_error *e) {
  const tsr_section *s = &a->sections[a->targets.images[image].section];
  pthread_mutex_lock(&a->lock);
  if (!a->executable[image]) {
    void *p;
    if (a->fd >= 0) {
      p = mmap(NULL, s->bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, a->fd, (off_t)s->offset);
    } else {
      p = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p != MAP_FAILED) {
        memcpy(p, a->data + s->offset, s->bytes);
        if (mprotect(p, s->bytes, PROT_READ | PROT_EXEC) != 0) munmap(p, s->bytes), p = MAP_FAILED;
      }
    }
    if (p != MAP_FAILED) a->executable[image] = p;
  }
  *out = a->executable[image];
  pthread_mutex_unlock(&a->lock);
  return *out ? TSR_OK
              : tsr_fail(e, TSR_IO, "%s: cannot map code executable (a file system mounted noexec?); open it from memory instead",
                         a->path);
}

static void host_unload(tsr_session *s) {
  host_session *own = s->own;
  if (own) free(own->scratch);
  free(own);
  free(s->code);
}

static tsr_status host_load(tsr_session *s, tsr_error *e) {
  tsr_artifact *a = s->artifact;
  const host *h = s->device->own;
  const tsr_target *t = &a->targets.targets[s->target];
  size_t scratch = 0;
  s->code = tsr_calloc(t->code_count, sizeof *s->code);
  host_session *own = tsr_calloc(1, sizeof *own + h->workers * sizeof own->api[0]);
  s->own = own;
  if (!s->code || !own) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  for (uint32_t i = 0; i < t->code_count; i++) {
    const tsr_code *c = &a->targets.code[t->code_first + i];
    if (c->image == TSR_NONE) continue;
    const unsigned char *base = NULL;
    TSR_TRY(map_image(a, c->image, &base, e));
    uint32_t offset = ((const tsr_host_image *)(const void *)base)->entries[c->entry];
    s->code[i].entry = (tsr_host_kernel *)(uintptr_t)(base + offset);
    if (c->scratch > scratch) scratch = c->scratch;
  }
  // Each worker's scratch starts on pages of its own, 64 bytes further on for each, so that equal offsets do not share sets.
  size_t stride = scratch ? (scratch + 4095 + 64) & ~(size_t)63 : 0;
  if (scratch && posix_memalign(&own->scratch, 4096, stride * h->workers) != 0)
    return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  for (unsigned w = 0; w < h->workers; w++)
    own->api[w] = (tsr_host_api){.version = TSR_HOST_API_VERSION,
                                 .worker = w,
                                 .scratch = scratch ? (char *)own->scratch + w * stride : NULL,
                                 .scratch_bytes = scratch,
                                 .error = &own->error};
  return TSR_OK;
}

typedef struct job {
  tsr_host_kernel *entry;
  const tsr_host_api *api;
  void *const *bufs;
  const int64_t *dims;
  const atomic_bool *cancelled;
} job;

static int run_block(void *user, uint32_t block, unsigned worker) {
  const job *j = user;
  if (atomic_load_explicit(j->cancelled, memory_order_relaxed)) return -1;   // the caller looks at the flag itself
  return j->entry(&j->api[worker], j->bufs, j->dims, block);
}

static tsr_status host_launch(tsr_session *s, const tsr_launch *l, void *stream, uint32_t *raised) {
  (void)stream;
  const host *h = s->device->own;
  host_session *own = s->own;
  uint64_t blocks = (uint64_t)l->grid[0] * l->grid[1];
  if (__builtin_mul_overflow(blocks, (uint64_t)l->grid[2], &blocks) || blocks > UINT32_MAX) return TSR_OUT_OF_RANGE;
  for (int i = 0; i < 3; i++) l->dims[l->sizes + i] = l->grid[i];
  job j = {l->code->entry, own->api, l->bufs, l->dims, &s->cancelled};
  int r;
  if (h->pool) {
    r = ts_pool_run(h->pool, run_block, &j, (uint32_t)blocks);
  } else if (s->device->options.parallel) {
    r = s->device->options.parallel(s->device->options.executor, (uint32_t)blocks, run_block, &j);
  } else {
    r = 0;
    for (uint32_t b = 0; b < blocks && r == 0; b++) r = run_block(&j, b, 0);
  }
  if (r == 0 && own->error) r = (int)own->error;
  own->error = 0;
  *raised = (uint32_t)r;
  return TSR_OK;
}

static void host_close(tsr_device *d) {
  host *h = d->own;
  if (h) ts_pool_destroy(h->pool);
  free(h);
}

static const tsr_device_ops host_ops = {
  .close = host_close,
  .allocate = host_allocate,
  .release = host_release,
  .write = host_write,
  .read = host_write,
  .copy = host_write,
  .fill = host_fill,
  .wait = host_wait,
  .rank = host_rank,
  .load = host_load,
  .unload = host_unload,
  .launch = host_launch,
};

tsr_status tsr_host_open(tsr_device *d, const char *level, tsr_error *e) {
  host *h = tsr_calloc(1, sizeof *h);
  if (!h) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  d->ops = &host_ops;
  d->own = h;
  d->device_class = TSR_CLASS_HOST;
  d->host_memory = true;
  d->align = 64;
  h->features = cpu_features();
  int best = 0, most = LEVELS - 1;
  if (level) {
    for (most = 0; most < LEVELS && strcmp(levels[most].name, level) != 0;) most++;
    if (most == LEVELS)
      return tsr_fail(e, TSR_NO_DEVICE, "unknown CPU level '%.60s'; there are avx2, avx512, avx512_vnni, avx512_bf16, amx",
                      level);
    if (levels[most].features & ~h->features)
      return tsr_fail(e, TSR_NO_DEVICE, "this CPU (or its system) does not have level %s", level);
  }
  for (int i = 0; i <= most; i++)
    if (!(levels[i].features & ~h->features)) best = i;
  h->level = levels[best].rank;
  h->workers = d->options.threads ? d->options.threads : ts_cpu_count();
  if (h->workers > 1024) return tsr_fail(e, TSR_INVALID, "%u threads are too many", h->workers);
  if (!d->options.parallel && h->workers > 1) {
    h->pool = ts_pool_create(h->workers);
    if (!h->pool) return tsr_fail(e, TSR_OUT_OF_MEMORY, "cannot start %u threads", h->workers);
    h->workers = ts_pool_threads(h->pool);
  }
  snprintf(d->name, sizeof d->name, "host:%s, %u thread%s", levels[best].name, h->workers, h->workers == 1 ? "" : "s");
  return TSR_OK;
}
