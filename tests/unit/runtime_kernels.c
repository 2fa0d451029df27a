// Kernels of the runtime's tests, linked to one flat image (runtime.cmake): freestanding, no calls, entry table first.
#include "runtime/tsr_format.h"

__asm__(".section .tsr.head,\"a\",@progbits\n"
        "tsr_image:\n"
        ".long 0x49525354, 8\n"
        ".long k_add - tsr_image, k_scale - tsr_image, k_sum_rows - tsr_image, k_append - tsr_image\n"
        ".long k_sum_state - tsr_image, k_raise - tsr_image, k_error_word - tsr_image, k_scratch - tsr_image\n"
        ".text\n");

#define KERNEL(name) int name(const tsr_host_api *api, void *const *bufs, const int64_t *dims, uint32_t block); \
  int name(const tsr_host_api *api, void *const *bufs, const int64_t *dims, uint32_t block)

enum { BLOCK = 64 };

KERNEL(k_add) {   // y[n] = a[n] + b[n]
  (void)api;
  const float *a = bufs[0], *b = bufs[1];
  float *y = bufs[2];
  for (int64_t i = (int64_t)block * BLOCK; i < dims[0] && i < ((int64_t)block + 1) * BLOCK; i++) y[i] = a[i] + b[i];
  return 0;
}

KERNEL(k_scale) {   // y[n] = x[n] * w[0]; the grid is two-dimensional, blocks of 1 element: gx is dims[1]
  (void)api;
  const float *x = bufs[0], *w = bufs[1];
  float *y = bufs[2];
  int64_t bx = block % dims[1], by = block / dims[1], i = by * dims[1] + bx;
  if (i < dims[0]) y[i] = x[i] * w[0];
  return 0;
}

KERNEL(k_sum_rows) {   // y[row] = sum of x[row, 0 .. length[row]); sizes: extent
  (void)api;
  const float *x = bufs[0];
  const int32_t *length = bufs[1];
  float *y = bufs[2], sum = 0;
  for (int32_t i = 0; i < length[block]; i++) sum += x[(int64_t)block * dims[0] + i];
  y[block] = sum;
  return 0;
}

KERNEL(k_append) {   // pool[page][slot] = x[row, i]; sizes: extent, page, width
  (void)api;
  float *pool = bufs[0];
  const int32_t *table = bufs[1], *length = bufs[2], *more = bufs[3];
  const float *x = bufs[4];
  for (int32_t i = 0; i < more[block]; i++) {
    int64_t at = length[block] + i, page = table[block * dims[2] + at / dims[1]];
    if (page < 0) return 1;
    pool[page * dims[1] + at % dims[1]] = x[(int64_t)block * dims[0] + i];
  }
  return 0;
}

KERNEL(k_sum_state) {   // y[row] = sum over all tokens, each weighted by 1 + position % 7; sizes: page, width
  (void)api;
  const float *pool = bufs[0];
  const int32_t *table = bufs[1], *length = bufs[2], *more = bufs[3];
  float *y = bufs[4], sum = 0;
  for (int64_t at = 0; at < length[block] + more[block]; at++) {
    int64_t page = table[block * dims[1] + at / dims[0]];
    if (page < 0) return 1;
    sum += pool[page * dims[0] + at % dims[0]] * (float)(1 + at % 7);
  }
  y[block] = sum;
  return 0;
}

KERNEL(k_raise) {   // raises code x[0] where it is not 0
  (void)api, (void)dims, (void)block;
  return *(const int32_t *)bufs[0];
}

KERNEL(k_error_word) {   // stores the code x[0] to the launch's error word
  (void)api, (void)dims, (void)block;
  *(uint32_t *)bufs[1] = *(const uint32_t *)bufs[0];
  return 0;
}

KERNEL(k_scratch) {   // y[block] = sum of its scratch after filling it; sizes: floats
  float *s = api->scratch, *y = bufs[0], sum = 0;
  if (api->version != TSR_HOST_API_VERSION || (uint64_t)dims[0] * 4 > api->scratch_bytes || (uintptr_t)s % TSR_SCRATCH_ALIGN)
    return 1;
  for (int64_t i = 0; i < dims[0]; i++) s[i] = (float)block;
  for (int64_t i = 0; i < dims[0]; i++) sum += s[i];
  y[block] = sum;
  return 0;
}
