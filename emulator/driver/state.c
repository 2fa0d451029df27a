// The process-wide state of the driver: lock, registry of handles, the current-context stack of threads, and the exported
// functions, which are generated from driver_api.def: each takes the lock, checks what it needs, and calls its body.
#include "emulator/driver/driver.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

drv_state drv = {.lock = PTHREAD_MUTEX_INITIALIZER, .checks = true};

typedef struct drv_thread {
  drv_context *stack[DRV_STACK];
  unsigned depth;
  bool in_callback;
} drv_thread;
static __thread drv_thread self;

cu_result drv_enter(drv_need need) {
  pthread_mutex_lock(&drv.lock);
  if (need == DRV_NEED_NOTHING) return CU_SUCCESS;
  if (drv.ended) return CU_ERROR_DEINITIALIZED;
  if (!drv.initialised) return CU_ERROR_NOT_INITIALIZED;
  if (self.in_callback) return CU_ERROR_NOT_PERMITTED;
  if (need == DRV_NEED_INIT) return CU_SUCCESS;
  if (!self.depth || !self.stack[self.depth - 1]) return CU_ERROR_INVALID_CONTEXT;
  drv_context *c = self.stack[self.depth - 1];
  if (!c->alive) return CU_ERROR_CONTEXT_IS_DESTROYED;
  return need == DRV_NEED_HEALTHY ? c->error : CU_SUCCESS;
}

void drv_leave(void) { pthread_mutex_unlock(&drv.lock); }

void drv_callback_begin(void) {
  self.in_callback = true;
  pthread_mutex_unlock(&drv.lock);
}
void drv_callback_end(void) {
  pthread_mutex_lock(&drv.lock);
  self.in_callback = false;
}

drv_context *drv_current(void) {
  drv_context *c = self.depth ? self.stack[self.depth - 1] : NULL;
  return c && c->alive ? c : NULL;
}

cu_result drv_do_cuCtxPushCurrent_v2(cu_handle h) {
  drv_context *c = drv_find(h, DRV_CONTEXT);
  if (!c) return CU_ERROR_INVALID_CONTEXT;
  if (!c->alive) return CU_ERROR_CONTEXT_IS_DESTROYED;
  if (self.depth == DRV_STACK) return CU_ERROR_OUT_OF_MEMORY;
  self.stack[self.depth++] = c;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxPopCurrent_v2(cu_handle *out) {
  if (!self.depth) return CU_ERROR_INVALID_CONTEXT;
  drv_context *c = self.stack[--self.depth];
  if (out) *out = c;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxSetCurrent(cu_handle h) {
  if (!h) {
    if (self.depth) self.depth--;
    return CU_SUCCESS;
  }
  drv_context *c = drv_find(h, DRV_CONTEXT);
  if (!c) return CU_ERROR_INVALID_CONTEXT;
  if (!c->alive) return CU_ERROR_CONTEXT_IS_DESTROYED;
  if (!self.depth) self.depth = 1;
  self.stack[self.depth - 1] = c;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetCurrent(cu_handle *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = self.depth ? self.stack[self.depth - 1] : NULL;
  return CU_SUCCESS;
}

void drv_stack_drop(void) {
  if (self.depth) self.depth--;
}

// --- handles ---------------------------------------------------------------------------------------------------------------

void drv_register(drv_object *o, drv_kind kind) {
  o->kind = kind;
  ts_map_put(&drv.registry, ts_key(o), o);
}

void drv_unregister(drv_object *o) { ts_map_put(&drv.registry, ts_key(o), NULL); }

void drv_add(drv_object **list, drv_object *o, drv_kind kind) {
  o->list = list;
  o->prev = NULL;
  o->next = *list;
  if (*list) (*list)->prev = o;
  *list = o;
  drv_register(o, kind);
}

void drv_remove(drv_object *o) {
  if (o->prev) o->prev->next = o->next;
  else *o->list = o->next;
  if (o->next) o->next->prev = o->prev;
  drv_unregister(o);
}

void *drv_find(cu_handle h, drv_kind kind) {
  drv_object *o = h ? ts_map_get(&drv.registry, ts_key(h)) : NULL;
  return o && o->kind == kind ? o : NULL;
}

uint64_t drv_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void drv_say(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("tessera-emu: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
}

// --- results ---------------------------------------------------------------------------------------------------------------

static const struct {
  cu_result code;
  const char *name, *text;
} results[] = {
#define CU_RESULT(name, code, text) {code, "CUDA_" #name, text},
#include "emulator/driver/results.def"
};
enum { RESULTS = sizeof results / sizeof results[0] };

const char *drv_error_text(cu_result r) {
  for (unsigned i = 0; i < RESULTS; i++)
    if (results[i].code == r) return results[i].text;
  return "unrecognized error code";
}

static cu_result result_field(cu_result r, const char **out, bool name) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = NULL;
  for (unsigned i = 0; i < RESULTS; i++)
    if (results[i].code == r) *out = name ? results[i].name : results[i].text;
  return *out ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}
cu_result drv_do_cuGetErrorString(cu_result r, const char **out) { return result_field(r, out, false); }
cu_result drv_do_cuGetErrorName(cu_result r, const char **out) { return result_field(r, out, true); }

// --- exported functions ----------------------------------------------------------------------------------------------------

#define EXPORT_ONE(symbol, needs, params, args)              \
  CU_EXPORT cu_result symbol params;                         \
  CU_EXPORT cu_result symbol params {                        \
    cu_result result_ = drv_enter(DRV_NEED_##needs);         \
    if (result_ == CU_SUCCESS) result_ = drv_do_##symbol args; \
    drv_leave();                                             \
    return result_;                                          \
  }
#define EXPORT_AGAIN(name, symbol, params, args) \
  CU_EXPORT cu_result name params;               \
  CU_EXPORT cu_result name params { return symbol args; }
#define EXPORT_PLAIN(symbol, params, args)
#define EXPORT_PTSZ(symbol, params, args) EXPORT_AGAIN(symbol##_ptsz, symbol, params, args)
#define EXPORT_PTDS(symbol, params, args) EXPORT_AGAIN(symbol##_ptds, symbol, params, args)
#define DRV(symbol, base, version, needs, stream, params, args) \
  EXPORT_ONE(symbol, needs, params, args)                       \
  EXPORT_##stream(symbol, params, args)
#include "emulator/driver/driver_api.def"

static const struct {
  const char *base;
  int version;
  void *address;
} entries[] = {
#define DRV(symbol, base, version, needs, stream, params, args) {#base, version, (void *)symbol},
#include "emulator/driver/driver_api.def"
};

// The newest entry that is not newer than `version`.
cu_result drv_do_cuGetProcAddress_v2(const char *symbol, void **out, int version, uint64_t flags, int *status) {
  (void)flags;   // per-thread default streams have the same entries
  if (!symbol || !out) return CU_ERROR_INVALID_VALUE;
  *out = NULL;
  int best = 0;
  bool known = false;
  for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
    if (strcmp(entries[i].base, symbol)) continue;
    known = true;
    if (entries[i].version > version || entries[i].version <= best) continue;
    best = entries[i].version;
    *out = entries[i].address;
  }
  if (status) *status = *out ? DRV_GET_PROC_FOUND : known ? DRV_GET_PROC_VERSION : DRV_GET_PROC_NOT_FOUND;
  if (!*out && getenv("TESSERA_EMU_TRACE")) drv_say("cuGetProcAddress: no %s for CUDA %d", symbol, version);
  return *out || status ? CU_SUCCESS : CU_ERROR_NOT_FOUND;
}
cu_result drv_do_cuGetProcAddress(const char *symbol, void **out, int version, uint64_t flags) {
  return drv_do_cuGetProcAddress_v2(symbol, out, version, flags, NULL);
}

// The undocumented tables that NVIDIA's CUDA runtime asks for before anything else. They are refused by name.
cu_result drv_do_cuGetExportTable(const void **out, const void *id) {
  if (!out || !id) return CU_ERROR_INVALID_VALUE;
  *out = NULL;
  const uint8_t *b = id;
  drv_say(
      "cuGetExportTable: the table %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x is undocumented and not "
      "offered; NVIDIA's CUDA runtime (libcudart, shared or static) can't start on the emulator: use the driver API",
      b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return CU_ERROR_NOT_FOUND;
}

// --- our own functions -----------------------------------------------------------------------------------------------------

CU_EXPORT void tessera_emu_observe(tessera_emu_observer *fn, void *user, int counters) {
  pthread_mutex_lock(&drv.lock);
  drv.observer = fn;
  drv.observer_user = user;
  drv.counting = fn && counters;
  pthread_mutex_unlock(&drv.lock);
}
CU_EXPORT uint64_t tessera_emu_findings(void) {
  pthread_mutex_lock(&drv.lock);
  uint64_t n = drv.findings;
  pthread_mutex_unlock(&drv.lock);
  return n;
}
CU_EXPORT void tessera_emu_set_checks(int on) {
  pthread_mutex_lock(&drv.lock);
  drv.checks = on;
  pthread_mutex_unlock(&drv.lock);
}
CU_EXPORT void tessera_emu_set_seed(uint64_t seed) {
  pthread_mutex_lock(&drv.lock);
  drv.seed = seed;
  pthread_mutex_unlock(&drv.lock);
}
CU_EXPORT void tessera_emu_set_workers(unsigned workers) {
  pthread_mutex_lock(&drv.lock);
  drv.workers = workers;
  pthread_mutex_unlock(&drv.lock);
}
