// A stand-in for the CUDA driver in the runtime's tests: device memory is ours under addresses that fault when followed
// directly, "kernels" are C functions found by entry name, and everything runs at once in order. Two devices: sm_80, sm_90.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define TAG (UINT64_C(1) << 62)   // device addresses are not canonical

typedef void kernel(void **params, unsigned block);
typedef struct function { const char *name; kernel *run; } function;

static int current, allocations;

static void *real(uint64_t p) {
  if (!(p & TAG)) abort();   // a host pointer where a device pointer belongs
  return (void *)(uintptr_t)(p & ~TAG);
}
static void *pointer(void **params, int i) { return real(*(uint64_t *)params[i]); }
static int64_t size(void **params, int i) { return *(int64_t *)params[i]; }

static void k_add(void **p, unsigned block) {
  const float *a = pointer(p, 0), *b = pointer(p, 1);
  float *y = pointer(p, 2);
  for (int64_t i = (int64_t)block * 64; i < size(p, 3) && i < ((int64_t)block + 1) * 64; i++) y[i] = a[i] + b[i];
}
static void k_append(void **p, unsigned block) {
  float *pool = pointer(p, 0);
  const int32_t *table = pointer(p, 1), *length = pointer(p, 2), *more = pointer(p, 3);
  const float *x = pointer(p, 4);
  for (int32_t i = 0; i < more[block]; i++) {
    int64_t at = length[block] + i, page = table[block * size(p, 7) + at / size(p, 6)];
    pool[page * size(p, 6) + at % size(p, 6)] = x[block * size(p, 5) + i];
  }
}
static void k_sum_state(void **p, unsigned block) {
  const float *pool = pointer(p, 0);
  const int32_t *table = pointer(p, 1), *length = pointer(p, 2), *more = pointer(p, 3);
  float *y = pointer(p, 4), sum = 0;
  for (int64_t at = 0; at < length[block] + more[block]; at++)
    sum += pool[table[block * size(p, 6) + at / size(p, 5)] * size(p, 5) + at % size(p, 5)] * (float)(1 + at % 7);
  y[block] = sum;
}
static void k_raise(void **p, unsigned block) {
  const int32_t *x = pointer(p, 0);
  uint32_t *error = pointer(p, 1);
  (void)block;
  if (x[0] && !*error) *error = (uint32_t)x[0];
}

static function functions[] = {{"add", k_add}, {"append", k_append}, {"sum_state", k_sum_state}, {"raise", k_raise}};

API int cuInit(unsigned flags) { return (int)flags; }
API int cuDriverGetVersion(int *out) { return *out = 13000, 0; }
API int cuDeviceGetCount(int *out) { return *out = 2, 0; }
API int cuDeviceGet(int *out, int ordinal) { return *out = ordinal, ordinal > 1; }
API int cuDeviceGetName(char *out, int bytes, int d) { return snprintf(out, (size_t)bytes, "fake %d", d), 0; }
API int cuDeviceGetAttribute(int *out, int attribute, int d) { return *out = attribute == 75 ? 8 + d : 0, 0; }
API int cuDevicePrimaryCtxRetain(void **out, int d) { return *out = (void *)(uintptr_t)(d + 1), 0; }
API int cuDevicePrimaryCtxRelease_v2(int d) { return (void)d, current != 0; }
API int cuCtxPushCurrent_v2(void *c) { return current++, c == NULL; }
API int cuCtxPopCurrent_v2(void **out) { return *out = NULL, current-- <= 0; }
API int cuModuleLoadDataEx(void **out, const void *image, unsigned options, int *names, void **values) {
  if (!current) return 201;
  if (strncmp(image, ".version", 8) == 0 || strncmp(image, "CUBIN", 5) == 0) return *out = (void *)(uintptr_t)image, 0;
  for (unsigned i = 0; i < options; i++)
    if (names[i] == 5) snprintf(values[i], 100, "ptxas: line 7: unexpected token");
  return 218;
}
API int cuModuleUnload(void *m) { return m == NULL; }
API int cuModuleGetFunction(void **out, void *m, const char *name) {
  for (size_t i = 0; m && i < sizeof functions / sizeof *functions; i++)
    if (strcmp(functions[i].name, name) == 0) return *out = &functions[i], 0;
  return 500;
}
API int cuFuncSetAttribute(void *f, int attribute, int value) { return f == NULL || attribute != 8 || value > 99 << 10; }
API int cuMemAlloc_v2(uint64_t *out, size_t bytes) {
  if (bytes > 1 << 28) return 2;
  void *p = malloc(bytes);
  if (!p || !current) return 2;
  memset(p, 0xa5, bytes);
  allocations++;
  return *out = (uint64_t)(uintptr_t)p | TAG, 0;
}
API int cuMemFree_v2(uint64_t p) { return free(real(p)), allocations--, 0; }
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *s) { return memcpy(real(to), from, n), s == NULL; }
API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) { return memcpy(to, real(from), n), s == NULL; }
API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *s) { return memcpy(real(to), real(from), n), s == NULL; }
API int cuMemsetD32Async(uint64_t to, unsigned v, size_t n, void *s) {
  for (size_t i = 0; i < n; i++) memcpy((char *)real(to) + 4 * i, &v, 4);
  return s == NULL;
}
API int cuMemsetD8Async(uint64_t to, unsigned char v, size_t n, void *s) { return memset(real(to), v, n), s == NULL; }
API int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                       void *s, void **params, void **extra) {
  if (!current || bx * by * bz != 64 || extra || !s || shared > 99 << 10) return 1;
  for (unsigned i = 0; i < gx * gy * gz; i++) ((function *)f)->run(params, i);
  return 0;
}
API int cuStreamCreate(void **out, unsigned flags) { return *out = malloc(1), flags != 1; }
API int cuStreamDestroy_v2(void *s) { return free(s), 0; }
API int cuStreamSynchronize(void *s) { return s == NULL || !current; }
API int cuGetErrorString(int r, const char **out) { return *out = r == 2 ? "out of memory" : "some error", 0; }
API int fake_allocations(void) { return allocations; }
