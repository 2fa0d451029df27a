// Copies and fills: linear, two- and three-dimensional, within and between devices. All finish before they return; the
// Async forms only check their stream.
#include "emulator/driver/driver.h"

#include <stdlib.h>

static cu_result result_of(ts_status s) {
  return s == TS_OK ? CU_SUCCESS : s == TS_OUT_OF_MEMORY ? CU_ERROR_OUT_OF_MEMORY : CU_ERROR_INVALID_VALUE;
}
static cu_ptr host(const void *p) { return (cu_ptr)(uintptr_t)p; }

cu_result drv_copy(cu_ptr to, cu_ptr from, uint64_t bytes) {
  drv_device *td, *fd;
  emu_addr ta, fa;
  if (!bytes) return CU_SUCCESS;
  bool to_device = drv_locate(to, &td, &ta), from_device = drv_locate(from, &fd, &fa);
  if ((!to_device && !to) || (!from_device && !from)) return CU_ERROR_INVALID_VALUE;
  void *t = (void *)(uintptr_t)to, *f = (void *)(uintptr_t)from;
  if (to_device && from_device && td == fd) return result_of(emu_copy(td->emu, ta, fa, bytes));
  if (to_device && !from_device) return result_of(emu_write(td->emu, ta, f, bytes));
  if (!to_device && from_device) return result_of(emu_read(fd->emu, t, fa, bytes));
  if (!to_device) {
    memmove(t, f, bytes);
    return CU_SUCCESS;
  }
  void *stage = malloc(bytes);
  if (!stage) return CU_ERROR_OUT_OF_MEMORY;
  ts_status s = emu_read(fd->emu, stage, fa, bytes);
  if (s == TS_OK) s = emu_write(td->emu, ta, stage, bytes);
  free(stage);
  return result_of(s);
}

// A device address where the function asks for one.
static cu_result device_side(cu_ptr p, size_t bytes) {
  drv_device *d;
  emu_addr a;
  return !bytes || drv_locate(p, &d, &a) ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}

static cu_result copy_typed(cu_ptr to, bool to_device, cu_ptr from, bool from_device, size_t bytes) {
  cu_result r = to_device ? device_side(to, bytes) : CU_SUCCESS;
  if (r == CU_SUCCESS && from_device) r = device_side(from, bytes);
  return r == CU_SUCCESS ? drv_copy(to, from, bytes) : r;
}

#define ON_STREAM(stream, expr)                  \
  do {                                           \
    cu_result on_stream_ = drv_stream_check(stream); \
    return on_stream_ == CU_SUCCESS ? (expr) : on_stream_; \
  } while (0)

cu_result drv_do_cuMemcpy(cu_ptr to, cu_ptr from, size_t bytes) { return drv_copy(to, from, bytes); }
cu_result drv_do_cuMemcpyAsync(cu_ptr to, cu_ptr from, size_t bytes, cu_handle stream) {
  ON_STREAM(stream, drv_copy(to, from, bytes));
}
cu_result drv_do_cuMemcpyHtoD_v2(cu_ptr to, const void *from, size_t bytes) {
  return copy_typed(to, true, host(from), false, bytes);
}
cu_result drv_do_cuMemcpyDtoH_v2(void *to, cu_ptr from, size_t bytes) { return copy_typed(host(to), false, from, true, bytes); }
cu_result drv_do_cuMemcpyDtoD_v2(cu_ptr to, cu_ptr from, size_t bytes) { return copy_typed(to, true, from, true, bytes); }
cu_result drv_do_cuMemcpyHtoDAsync_v2(cu_ptr to, const void *from, size_t bytes, cu_handle stream) {
  ON_STREAM(stream, copy_typed(to, true, host(from), false, bytes));
}
cu_result drv_do_cuMemcpyDtoHAsync_v2(void *to, cu_ptr from, size_t bytes, cu_handle stream) {
  ON_STREAM(stream, copy_typed(host(to), false, from, true, bytes));
}
cu_result drv_do_cuMemcpyDtoDAsync_v2(cu_ptr to, cu_ptr from, size_t bytes, cu_handle stream) {
  ON_STREAM(stream, copy_typed(to, true, from, true, bytes));
}

cu_result drv_do_cuMemcpyPeer(cu_ptr to, cu_handle to_context, cu_ptr from, cu_handle from_context, size_t bytes) {
  drv_context *t = drv_find(to_context, DRV_CONTEXT), *f = drv_find(from_context, DRV_CONTEXT);
  if (!t || !f || !t->alive || !f->alive) return CU_ERROR_INVALID_CONTEXT;
  if (!bytes) return CU_SUCCESS;
  void *stage = malloc(bytes);
  if (!stage) return CU_ERROR_OUT_OF_MEMORY;
  ts_status s = emu_read(f->device->emu, stage, from, bytes);
  if (s == TS_OK) s = emu_write(t->device->emu, to, stage, bytes);
  free(stage);
  return result_of(s);
}
cu_result drv_do_cuMemcpyPeerAsync(cu_ptr to, cu_handle to_context, cu_ptr from, cu_handle from_context, size_t bytes,
                                   cu_handle stream) {
  ON_STREAM(stream, drv_do_cuMemcpyPeer(to, to_context, from, from_context, bytes));
}

// --- two and three dimensions ----------------------------------------------------------------------------------------------

// The address of the first byte of a side; rows and planes follow at the pitches.
static cu_result side_start(const cu_copy_side_3d *s, size_t width, cu_ptr *start, size_t *pitch, size_t *plane, size_t height,
                            size_t depth) {
  if (s->type == CU_MEMORY_ARRAY || s->lod) return CU_ERROR_NOT_SUPPORTED;   // CUDA arrays belong to textures
  if (s->type != CU_MEMORY_HOST && s->type != CU_MEMORY_DEVICE && s->type != CU_MEMORY_UNIFIED) return CU_ERROR_INVALID_VALUE;
  *pitch = s->pitch ? s->pitch : width;
  size_t rows = s->height ? s->height : height;
  if (*pitch < width || s->x > *pitch - width || (depth > 1 && rows < height)) return CU_ERROR_INVALID_VALUE;
  if (__builtin_mul_overflow(*pitch, rows, plane)) return CU_ERROR_INVALID_VALUE;
  cu_ptr base = s->type == CU_MEMORY_HOST ? host(s->host) : s->device;
  if (!base) return CU_ERROR_INVALID_VALUE;
  *start = base + s->z * *plane + s->y * *pitch + s->x;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemcpy3D_v2(const cu_copy_3d *c) {
  if (!c) return CU_ERROR_INVALID_VALUE;
  if (!c->width || !c->height || !c->depth) return CU_SUCCESS;
  cu_ptr to, from;
  size_t to_pitch, from_pitch, to_plane, from_plane;
  cu_result r = side_start(&c->to, c->width, &to, &to_pitch, &to_plane, c->height, c->depth);
  if (r == CU_SUCCESS) r = side_start(&c->from, c->width, &from, &from_pitch, &from_plane, c->height, c->depth);
  for (size_t z = 0; z < c->depth && r == CU_SUCCESS; z++)
    for (size_t y = 0; y < c->height && r == CU_SUCCESS; y++)
      r = drv_copy(to + z * to_plane + y * to_pitch, from + z * from_plane + y * from_pitch, c->width);
  return r;
}
cu_result drv_do_cuMemcpy3DAsync_v2(const cu_copy_3d *c, cu_handle stream) { ON_STREAM(stream, drv_do_cuMemcpy3D_v2(c)); }

static cu_copy_side_3d side_3d(const cu_copy_side *s) {
  return (cu_copy_side_3d){
      .x = s->x, .y = s->y, .type = s->type, .host = s->host, .device = s->device, .array = s->array, .pitch = s->pitch};
}
cu_result drv_do_cuMemcpy2D_v2(const cu_copy_2d *c) {
  if (!c) return CU_ERROR_INVALID_VALUE;
  cu_copy_3d d = {side_3d(&c->from), side_3d(&c->to), c->width, c->height, 1};
  return drv_do_cuMemcpy3D_v2(&d);
}
cu_result drv_do_cuMemcpy2DUnaligned_v2(const cu_copy_2d *c) { return drv_do_cuMemcpy2D_v2(c); }
cu_result drv_do_cuMemcpy2DAsync_v2(const cu_copy_2d *c, cu_handle stream) { ON_STREAM(stream, drv_do_cuMemcpy2D_v2(c)); }

// --- fills -----------------------------------------------------------------------------------------------------------------

static cu_result fill(cu_ptr to, size_t pitch, unsigned value, unsigned size, size_t width, size_t height) {
  drv_device *d;
  emu_addr a;
  size_t row;
  if (!width || !height) return CU_SUCCESS;
  if (to % size || (height > 1 && pitch % size) || __builtin_mul_overflow(width, (size_t)size, &row) ||
      (height > 1 && pitch < row))
    return CU_ERROR_INVALID_VALUE;
  if (!drv_locate(to, &d, &a)) return CU_ERROR_INVALID_VALUE;
  cu_result r = CU_SUCCESS;
  for (size_t y = 0; y < height && r == CU_SUCCESS; y++) r = result_of(emu_fill(d->emu, a + y * pitch, &value, size, width));
  return r;
}

#define FILL(bits, type)                                                                                                         \
  cu_result drv_do_cuMemsetD##bits##_v2(cu_ptr to, type value, size_t n) { return fill(to, 0, value, bits / 8, n, 1); }          \
  cu_result drv_do_cuMemsetD##bits##Async(cu_ptr to, type value, size_t n, cu_handle stream) {                                   \
    ON_STREAM(stream, fill(to, 0, value, bits / 8, n, 1));                                                                       \
  }                                                                                                                              \
  cu_result drv_do_cuMemsetD2D##bits##_v2(cu_ptr to, size_t pitch, type value, size_t width, size_t height) {                    \
    return fill(to, pitch, value, bits / 8, width, height);                                                                      \
  }                                                                                                                              \
  cu_result drv_do_cuMemsetD2D##bits##Async(cu_ptr to, size_t pitch, type value, size_t width, size_t height,                    \
                                            cu_handle stream) {                                                                  \
    ON_STREAM(stream, fill(to, pitch, value, bits / 8, width, height));                                                          \
  }
FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned)
