// CUDA devices through the driver API, loaded at run time: libcuda.so.1 for cuda:N, libtessera_cuda_emu.so for
// cuda-emu:sm_NN. One code path for both. A cubin of the exact architecture is preferred to PTX, which the driver compiles.
#include "runtime/internal.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef int cu_result;
typedef int cu_device;
typedef uint64_t cu_ptr;
typedef void *cu_handle;   // contexts, modules, functions, streams

// The driver functions we use: CU(name, result and parameters).
#define CUDA_FUNCTIONS(CU) \
  CU(cuInit, (unsigned flags)) \
  CU(cuDriverGetVersion, (int *out)) \
  CU(cuDeviceGetCount, (int *out)) \
  CU(cuDeviceGet, (cu_device * out, int ordinal)) \
  CU(cuDeviceGetName, (char *out, int bytes, cu_device d)) \
  CU(cuDeviceGetAttribute, (int *out, int attribute, cu_device d)) \
  CU(cuDevicePrimaryCtxRetain, (cu_handle * out, cu_device d)) \
  CU(cuDevicePrimaryCtxRelease_v2, (cu_device d)) \
  CU(cuCtxPushCurrent_v2, (cu_handle context)) \
  CU(cuCtxPopCurrent_v2, (cu_handle * out)) \
  CU(cuModuleLoadDataEx, (cu_handle * out, const void *image, unsigned options, int *names, void **values)) \
  CU(cuModuleUnload, (cu_handle module)) \
  CU(cuModuleGetFunction, (cu_handle * out, cu_handle module, const char *name)) \
  CU(cuFuncSetAttribute, (cu_handle function, int attribute, int value)) \
  CU(cuMemAlloc_v2, (cu_ptr * out, size_t bytes)) \
  CU(cuMemFree_v2, (cu_ptr p)) \
  CU(cuMemcpyHtoDAsync_v2, (cu_ptr to, const void *from, size_t bytes, cu_handle stream)) \
  CU(cuMemcpyDtoHAsync_v2, (void *to, cu_ptr from, size_t bytes, cu_handle stream)) \
  CU(cuMemcpyDtoDAsync_v2, (cu_ptr to, cu_ptr from, size_t bytes, cu_handle stream)) \
  CU(cuMemsetD32Async, (cu_ptr to, unsigned value, size_t words, cu_handle stream)) \
  CU(cuMemsetD8Async, (cu_ptr to, unsigned char value, size_t bytes, cu_handle stream)) \
  CU(cuLaunchKernel, (cu_handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, \
                      unsigned shared, cu_handle stream, void **params, void **extra)) \
  CU(cuStreamCreate, (cu_handle * out, unsigned flags)) \
  CU(cuStreamDestroy_v2, (cu_handle stream)) \
  CU(cuStreamSynchronize, (cu_handle stream)) \
  CU(cuGetErrorString, (cu_result r, const char **out))

enum {
  CU_OK = 0,
  CU_ERROR_OUT_OF_MEMORY = 2,
  CU_ATTRIBUTE_MAJOR = 75,
  CU_ATTRIBUTE_MINOR = 76,
  CU_FUNC_MAX_DYNAMIC_SHARED = 8,
  CU_JIT_ERROR_LOG = 5,
  CU_JIT_ERROR_LOG_BYTES = 6,
  CU_STREAM_NON_BLOCKING = 1,
};

typedef struct cuda {
  void *library;
#define FIELD(name, params) cu_result(*name) params;
  CUDA_FUNCTIONS(FIELD)
#undef FIELD
  cu_device device;
  cu_handle context;
  cu_handle stream;   // of calls without a stream, and of transfers
  int sm, driver;
} cuda;

typedef struct cuda_session {
  uint32_t count;
  cu_handle modules[];   // per image
} cuda_session;

// Runs the statement with our context current; the caller's is put back.
#define WITH_CONTEXT(c, r, expr)                       \
  do {                                                 \
    cu_handle popped_;                                 \
    (r) = (c)->cuCtxPushCurrent_v2((c)->context);      \
    if ((r) != CU_OK) break;                           \
    (r) = (expr);                                      \
    (c)->cuCtxPopCurrent_v2(&popped_);                 \
  } while (0)

static tsr_status status_of(cu_result r) {
  return r == CU_OK ? TSR_OK : r == CU_ERROR_OUT_OF_MEMORY ? TSR_OUT_OF_MEMORY : TSR_DEVICE_LOST;
}

static const char *result_text(const cuda *c, cu_result r) {
  const char *text = NULL;
  if (c->cuGetErrorString(r, &text) != CU_OK || !text) return "unknown error";
  return text;
}

static tsr_status fail_driver(const tsr_device *d, tsr_error *e, const char *what, cu_result r) {
  const cuda *c = d->own;
  tsr_device_log(d, 0, "%s: %s (CUDA error %d)", what, result_text(c, r), r);
  return tsr_fail(e, status_of(r), "%s: %.200s (CUDA error %d)", what, result_text(c, r), r);
}

static cu_handle stream_of(const cuda *c, void *stream) { return stream ? stream : c->stream; }
static cu_ptr address(const void *p) { return (cu_ptr)(uintptr_t)p; }

// --- Memory ----------------------------------------------------------------------------------------------------------------

static cu_result set_bytes(cuda *c, cu_ptr to, size_t bytes) {
  cu_result r = c->cuMemsetD8Async(to, 0, bytes, c->stream);
  return r == CU_OK ? c->cuStreamSynchronize(c->stream) : r;
}

static tsr_status cuda_allocate(tsr_device *d, size_t bytes, bool sparse, void **out) {
  (void)sparse;
  cuda *c = d->own;
  cu_ptr p = 0;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuMemAlloc_v2(&p, bytes));
  if (r != CU_OK) return status_of(r);
  WITH_CONTEXT(c, r, set_bytes(c, p, bytes));
  if (r != CU_OK) {
    d->ops->release(d, (void *)(uintptr_t)p, bytes);
    return status_of(r);
  }
  *out = (void *)(uintptr_t)p;
  return TSR_OK;
}

static void cuda_release(tsr_device *d, void *p, size_t bytes) {
  cuda *c = d->own;
  cu_result r;
  (void)bytes;
  WITH_CONTEXT(c, r, c->cuMemFree_v2(address(p)));
  if (r != CU_OK) tsr_device_log(d, 1, "freeing device memory: %s", result_text(c, r));
}

// Sources are pageable, so the driver has read them when a copy to the device returns; only copies on our own stream wait.
static tsr_status cuda_write(tsr_device *d, void *to, const void *from, size_t bytes, void *stream) {
  cuda *c = d->own;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuMemcpyHtoDAsync_v2(address(to), from, bytes, stream_of(c, stream)));
  if (r == CU_OK && !stream) WITH_CONTEXT(c, r, c->cuStreamSynchronize(c->stream));
  return status_of(r);
}

static tsr_status cuda_read(tsr_device *d, void *to, const void *from, size_t bytes, void *stream) {
  cuda *c = d->own;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuMemcpyDtoHAsync_v2(to, address(from), bytes, stream_of(c, stream)));
  if (r == CU_OK) WITH_CONTEXT(c, r, c->cuStreamSynchronize(stream_of(c, stream)));
  return status_of(r);
}

static tsr_status cuda_copy(tsr_device *d, void *to, const void *from, size_t bytes, void *stream) {
  cuda *c = d->own;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, stream_of(c, stream)));
  return status_of(r);
}

static tsr_status cuda_fill(tsr_device *d, void *to, uint32_t pattern, size_t bytes, void *stream) {
  cuda *c = d->own;
  cu_result r;
  if (address(to) % 4) return TSR_INVALID;
  WITH_CONTEXT(c, r, c->cuMemsetD32Async(address(to), pattern, bytes / 4, stream_of(c, stream)));
  return status_of(r);
}

static tsr_status cuda_wait(tsr_device *d, void *stream, tsr_error *e) {
  cuda *c = d->own;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuStreamSynchronize(stream_of(c, stream)));
  return r == CU_OK ? TSR_OK : fail_driver(d, e, "waiting for the device", r);
}

// --- Code ------------------------------------------------------------------------------------------------------------------

static bool has_all(const tsr_artifact *a, const tsr_target *t, bool cubin) {
  for (uint32_t i = 0; i < t->code_count; i++) {
    const tsr_code *c = &a->targets.code[t->code_first + i];
    if ((c->image != TSR_NONE || c->ptx != TSR_NONE) && (cubin ? c->image : c->ptx) == TSR_NONE) return false;
  }
  return true;
}

// Exact architecture first; else the newest PTX that is not newer than the device. sm_90a code (level 90, "a") runs on 90 only.
static uint32_t cuda_rank(const tsr_device *d, const tsr_artifact *a, const tsr_target *t, char *why) {
  const cuda *c = d->own;
  const char *name = tsr_string(a, t->name);
  size_t length = strlen(name);
  bool exact_only = length && name[length - 1] == 'a';
  bool exact = t->level == (uint32_t)c->sm;
  if (t->device_class != TSR_CLASS_CUDA) {
    snprintf(why, 200, "%.60s is not for CUDA", name);
  } else if (exact && has_all(a, t, true)) {
    return exact_only ? 100001 : 100000;
  } else if (exact_only ? !exact : t->level > (uint32_t)c->sm) {
    snprintf(why, 200, "%.60s is not for sm_%d", name, c->sm);
  } else if (!has_all(a, t, false)) {
    snprintf(why, 200, "%.60s has no PTX that the driver could compile for sm_%d", name, c->sm);
  } else if (t->driver > (uint32_t)c->driver) {
    snprintf(why, 200, "%.60s needs driver %u.%u, this one is %d.%d", name, t->driver / 1000, t->driver % 1000 / 10,
             c->driver / 1000, c->driver % 1000 / 10);
  } else {
    return 1 + t->level + exact_only;
  }
  return 0;
}

static tsr_status load_module(tsr_session *s, uint32_t image, cu_handle *out, tsr_error *e) {
  const tsr_artifact *a = s->artifact;
  cuda *c = s->device->own;
  char log[2048] = "";
  int names[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
  void *values[] = {log, (void *)(uintptr_t)(sizeof log - 1)};
  cu_result r;
  WITH_CONTEXT(c, r, c->cuModuleLoadDataEx(out, tsr_section_data(a, a->targets.images[image].section), 2, names, values));
  if (r == CU_OK) return TSR_OK;
  log[sizeof log - 1] = 0;
  tsr_device_log(s->device, 0, "image %u does not load: %s\n%s", image, result_text(c, r), log);
  return tsr_fail(e, TSR_UNSUPPORTED, "%.100s: image %u does not load on %.60s: %.100s (CUDA error %d) %.120s", a->path, image,
                  s->device->name, result_text(c, r), r, log);
}

static void cuda_unload(tsr_session *s) {
  cuda_session *own = s->own;
  cuda *c = s->device->own;
  cu_result r;
  for (uint32_t i = 0; own && i < own->count; i++)
    if (own->modules[i]) WITH_CONTEXT(c, r, c->cuModuleUnload(own->modules[i]));
  free(own);
  free(s->code);
}

static tsr_status load_kernel(tsr_session *s, uint32_t kernel, const tsr_code *k, bool cubin, tsr_error *e) {
  cuda_session *own = s->own;
  cuda *c = s->device->own;
  uint32_t image = cubin && k->image != TSR_NONE ? k->image : k->ptx;
  if (image == TSR_NONE) return TSR_OK;
  if (!own->modules[image]) TSR_TRY(load_module(s, image, &own->modules[image], e));
  tsr_kernel_code *code = &s->code[kernel];
  cu_handle function = NULL;
  cu_result r;
  WITH_CONTEXT(c, r, c->cuModuleGetFunction(&function, own->modules[image], tsr_string(s->artifact, k->entry)));
  if (r != CU_OK)
    return tsr_fail(e, TSR_CORRUPT, "%.100s: image %u has no entry '%.100s'", s->artifact->path, image,
                    tsr_string(s->artifact, k->entry));
  if (k->shared > 48 << 10) {
    WITH_CONTEXT(c, r, c->cuFuncSetAttribute(function, CU_FUNC_MAX_DYNAMIC_SHARED, (int)k->shared));
    if (r != CU_OK)
      return tsr_fail(e, TSR_UNSUPPORTED, "kernel '%.60s' needs %u bytes of shared memory, which %s refuses",
                      tsr_string(s->artifact, k->entry), k->shared, s->device->name);
  }
  *code = (tsr_kernel_code){.function = function, .threads = {k->threads[0], k->threads[1], k->threads[2]}, .shared = k->shared};
  return TSR_OK;
}

static tsr_status cuda_load(tsr_session *s, tsr_error *e) {
  const tsr_artifact *a = s->artifact;
  const cuda *c = s->device->own;
  const tsr_target *t = &a->targets.targets[s->target];
  cuda_session *own = tsr_calloc(1, sizeof *own + a->targets.images_count * sizeof own->modules[0]);
  s->own = own;
  s->code = tsr_calloc(t->code_count, sizeof *s->code);
  if (!own || !s->code) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  own->count = a->targets.images_count;
  for (uint32_t i = 0; i < t->code_count; i++)
    TSR_TRY(load_kernel(s, i, &a->targets.code[t->code_first + i], t->level == (uint32_t)c->sm, e));
  return TSR_OK;
}

static tsr_status cuda_launch(tsr_session *s, const tsr_launch *l, void *stream, uint32_t *raised) {
  cuda *c = s->device->own;
  void *params[TSR_MAX_PARAMETERS];
  for (uint32_t i = 0; i < l->pointers; i++) params[i] = &l->bufs[i];
  for (uint32_t i = 0; i < l->sizes; i++) params[l->pointers + i] = &l->dims[i];
  if (l->grid[0] > INT32_MAX || l->grid[1] > 65535 || l->grid[2] > 65535) return TSR_OUT_OF_RANGE;
  cu_result r;
  WITH_CONTEXT(c, r,
               c->cuLaunchKernel(l->code->function, l->grid[0], l->grid[1], l->grid[2], l->code->threads[0], l->code->threads[1],
                                 l->code->threads[2], l->code->shared, stream_of(c, stream), params, NULL));
  *raised = 0;
  if (r != CU_OK) tsr_device_log(s->device, 0, "launch: %s (CUDA error %d)", result_text(c, r), r);
  return status_of(r);
}

static void cuda_close(tsr_device *d) {
  cuda *c = d->own;
  if (!c) return;
  cu_result r;
  if (c->stream) WITH_CONTEXT(c, r, c->cuStreamDestroy_v2(c->stream));
  if (c->context) c->cuDevicePrimaryCtxRelease_v2(c->device);
  free(c);   // the library stays loaded: drivers do not survive being unloaded
}

static const tsr_device_ops cuda_ops = {
  .close = cuda_close,
  .allocate = cuda_allocate,
  .release = cuda_release,
  .write = cuda_write,
  .read = cuda_read,
  .copy = cuda_copy,
  .fill = cuda_fill,
  .wait = cuda_wait,
  .rank = cuda_rank,
  .load = cuda_load,
  .unload = cuda_unload,
  .launch = cuda_launch,
};

static tsr_status load_driver(cuda *c, const char *path, tsr_error *e) {
  c->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!c->library) {
    const char *text = dlerror();
    return tsr_fail(e, TSR_NO_DEVICE, "cannot load %.100s: %.300s", path, text ? text : "unknown error");
  }
  const char *missing = NULL;
  void *symbol;
#define LOAD(name, params)                                      \
  symbol = dlsym(c->library, #name);                            \
  memcpy(&c->name, &symbol, sizeof symbol);                     \
  if (!symbol && !missing) missing = #name;
  CUDA_FUNCTIONS(LOAD)
#undef LOAD
  return missing ? tsr_fail(e, TSR_NO_DEVICE, "%.100s does not have %s", path, missing) : TSR_OK;
}

static bool parse_number(const char *z, int *out) {
  char *end;
  long v = strtol(z, &end, 10);
  if (end == z || *end || v < 0 || v > 65535) return false;
  *out = (int)v;
  return true;
}

tsr_status tsr_cuda_open(tsr_device *d, const char *scheme, const char *which, tsr_error *e) {
  bool emulated = strcmp(scheme, "cuda-emu") == 0;
  int ordinal = 0, sm = 0, count = 0, major = 0, minor = 0;
  if (emulated ? strncmp(which, "sm_", 3) != 0 || !parse_number(which + 3, &sm) : !parse_number(which, &ordinal))
    return tsr_fail(e, TSR_NO_DEVICE, "'%s:%.60s' is no device; there are cuda:0, cuda:1, … and cuda-emu:sm_80, …", scheme,
                    which);
  cuda *c = tsr_calloc(1, sizeof *c);
  if (!c) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  d->own = c;
  d->device_class = TSR_CLASS_CUDA;
  d->async = true;
  d->align = 256;
  const char *path = d->options.driver ? d->options.driver : emulated ? "libtessera_cuda_emu.so" : "libcuda.so.1";
  tsr_status s = load_driver(c, path, e);
  if (s != TSR_OK) return s;   // no ops yet: nothing of the driver's is called on the way out
  // The emulator models several architectures: one device each, found by its compute capability.
  cu_result r = c->cuInit(0);
  if (r == CU_OK) r = c->cuDriverGetVersion(&c->driver);
  if (r == CU_OK) r = c->cuDeviceGetCount(&count);
  if (r != CU_OK) return fail_driver(d, e, "starting the driver", r);
  bool found = false;
  for (int i = emulated ? 0 : ordinal; i < count && !found; i++) {
    if (c->cuDeviceGet(&c->device, i) != CU_OK || c->cuDeviceGetAttribute(&major, CU_ATTRIBUTE_MAJOR, c->device) != CU_OK ||
        c->cuDeviceGetAttribute(&minor, CU_ATTRIBUTE_MINOR, c->device) != CU_OK)
      return tsr_fail(e, TSR_NO_DEVICE, "%s:%s does not answer", scheme, which);
    c->sm = major * 10 + minor;
    d->ordinal = i;
    found = !emulated || c->sm == sm;
    if (!emulated) break;
  }
  if (!found)
    return tsr_fail(e, TSR_NO_DEVICE, "there is no %s:%s; the driver knows %d device%s", scheme, which, count,
                    count == 1 ? "" : "s");
  d->ops = &cuda_ops;
  r = c->cuDevicePrimaryCtxRetain(&c->context, c->device);
  if (r == CU_OK) WITH_CONTEXT(c, r, c->cuStreamCreate(&c->stream, CU_STREAM_NON_BLOCKING));
  if (r != CU_OK) return fail_driver(d, e, "making a context", r);
  char name[48] = "";
  if (c->cuDeviceGetName(name, sizeof name, c->device) != CU_OK) name[0] = 0;
  name[sizeof name - 1] = 0;
  snprintf(d->name, sizeof d->name, "%s:%.16s (%s, sm_%d)", scheme, which, name, c->sm);
  return TSR_OK;
}
