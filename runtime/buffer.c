// Buffers, and DLPack in both directions.
#include "runtime/internal.h"
#include "runtime/dlpack.h"

#include <stdlib.h>

static tsr_status new_buffer(tsr_device *d, const tsr_type *type, tsr_error *e, tsr_buffer **out) {
  size_t bytes;
  if (!d || !type || !out) return tsr_fail(e, TSR_INVALID, "a buffer needs a device and a type");
  if (!tsr_type_bytes(type, &bytes))
    return tsr_fail(e, TSR_INVALID, "the buffer's type is unknown, its shape negative, or its size over any memory");
  tsr_buffer *b = tsr_calloc(1, sizeof *b);
  if (!b) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  atomic_init(&b->refs, 1);
  b->device = tsr_device_retain(d);
  b->type = *type;
  b->bytes = b->capacity = bytes;
  *out = b;
  return TSR_OK;
}

tsr_status tsr_buffer_create(tsr_device *d, const tsr_type *type, tsr_error *e, tsr_buffer **out) {
  tsr_buffer *b;
  TSR_TRY(new_buffer(d, type, e, &b));
  void *p = NULL;
  b->capacity = b->bytes ? b->bytes : 1;   // every buffer has an address
  tsr_status s = d->ops->allocate(d, b->capacity, false, &p);
  if (s != TSR_OK) {
    tsr_fail(e, s, "no memory for a buffer of %zu bytes on %s", b->bytes, d->name);
    b->data = NULL;
    tsr_buffer_release(b);
    return s;
  }
  b->data = p;
  b->owned = true;
  *out = b;
  return TSR_OK;
}

tsr_status tsr_buffer_wrap(tsr_device *d, const tsr_type *type, void *data, tsr_error *e, tsr_buffer **out) {
  if (!data) return tsr_fail(e, TSR_INVALID, "tsr_buffer_wrap: no memory given");
  tsr_buffer *b;
  TSR_TRY(new_buffer(d, type, e, &b));
  b->data = data;
  *out = b;
  return TSR_OK;
}

static const struct {
  uint8_t code, bits;
  uint32_t dtype;
} dl_types[] = {
    {DL_FLOAT, 64, TSR_F64},      {DL_FLOAT, 32, TSR_F32},    {DL_FLOAT, 16, TSR_F16},  {DL_BFLOAT, 16, TSR_BF16},
    {DL_F8E4M3FN, 8, TSR_F8E4M3}, {DL_F8E5M2, 8, TSR_F8E5M2}, {DL_F8E8M0, 8, TSR_E8M0}, {DL_F4E2M1, 4, TSR_F4E2M1},
    {DL_INT, 64, TSR_I64},        {DL_INT, 32, TSR_I32},      {DL_INT, 16, TSR_I16},    {DL_INT, 8, TSR_I8},
    {DL_INT, 4, TSR_I4},          {DL_INT, 2, TSR_I2},        {DL_UINT, 64, TSR_U64},   {DL_UINT, 32, TSR_U32},
    {DL_UINT, 16, TSR_U16},       {DL_UINT, 8, TSR_U8},       {DL_UINT, 4, TSR_U4},     {DL_UINT, 2, TSR_U2},
    {DL_UINT, 1, TSR_I1},
};
enum { DL_TYPES = sizeof dl_types / sizeof *dl_types };

static bool dense(const DLTensor *t) {
  if (!t->strides) return true;
  int64_t expected = 1;
  for (int32_t i = t->ndim; i-- > 0;) {
    if (t->shape[i] != 1 && t->strides[i] != expected) return false;
    if (__builtin_mul_overflow(expected, t->shape[i], &expected)) return false;
  }
  return true;
}

tsr_status tsr_buffer_import(tsr_device *d, DLManagedTensorVersioned *m, tsr_error *e, tsr_buffer **out) {
  if (!d || !m || !out) return tsr_fail(e, TSR_INVALID, "tsr_buffer_import: bad arguments");
  const DLTensor *t = &m->dl_tensor;
  if (m->version.major != 1)
    return tsr_fail(e, TSR_VERSION, "the tensor is of DLPack version %u.%u, not 1.x", m->version.major, m->version.minor);
  if (t->device.device_type != (d->device_class == TSR_CLASS_HOST ? DL_CPU : DL_CUDA) || t->device.device_id != d->ordinal)
    return tsr_fail(e, TSR_INVALID, "the tensor is on device %d of DLPack's kind %d, which is not %s", t->device.device_id,
                    t->device.device_type, d->name);
  if (t->ndim < 0 || t->ndim > TSR_RANK || (t->ndim && !t->shape))
    return tsr_fail(e, TSR_INVALID, "the tensor has %d axes; at most %d are supported", t->ndim, TSR_RANK);
  tsr_type type = {.rank = (uint32_t)t->ndim};
  uint8_t code = t->dtype.code, bits = t->dtype.bits;
  if (code == DL_BOOL) code = DL_UINT;
  for (int i = 0; i < DL_TYPES; i++)
    if (dl_types[i].code == code && dl_types[i].bits == bits) type.dtype = dl_types[i].dtype;
  if (!type.dtype || t->dtype.lanes != 1 || (bits < 8 && m->flags & 4))
    return tsr_fail(e, TSR_UNSUPPORTED, "elements of DLPack type %u with %u bits are not supported", code, bits);
  for (int32_t i = 0; i < t->ndim; i++) type.shape[i] = t->shape[i];
  if (!dense(t)) return tsr_fail(e, TSR_UNSUPPORTED, "the tensor is strided; make it contiguous first");
  tsr_buffer *b;
  TSR_TRY(new_buffer(d, &type, e, &b));
  if (b->bytes && !t->data) {
    tsr_buffer_release(b);
    return tsr_fail(e, TSR_INVALID, "the tensor has no memory");
  }
  b->data = t->data ? (unsigned char *)t->data + t->byte_offset : NULL;
  b->imported = m;
  *out = b;
  return TSR_OK;
}

typedef struct export {
  DLManagedTensorVersioned tensor;
  int64_t shape[TSR_RANK], strides[TSR_RANK];
} export;

static void drop_export(DLManagedTensorVersioned *m) {
  tsr_buffer_release(m->manager_ctx);
  free(m);   // the tensor is the first member of its export
}

tsr_status tsr_buffer_export(tsr_buffer *b, DLManagedTensorVersioned **out) {
  if (!b || !out) return TSR_INVALID;
  export *x = tsr_calloc(1, sizeof *x);
  if (!x) return TSR_OUT_OF_MEMORY;
  DLTensor *t = &x->tensor.dl_tensor;
  for (int i = 0; i < DL_TYPES; i++)
    if (dl_types[i].dtype == b->type.dtype) t->dtype = (DLDataType){dl_types[i].code, dl_types[i].bits, 1};
  int64_t stride = 1;
  for (uint32_t i = b->type.rank; i-- > 0;) {
    x->shape[i] = b->type.shape[i];
    x->strides[i] = stride;
    if (__builtin_mul_overflow(stride, x->shape[i], &stride)) stride = 0;   // an axis of extent 0 in front: strides are unused
  }
  x->tensor.version.major = 1;
  x->tensor.manager_ctx = tsr_buffer_retain(b);
  x->tensor.deleter = drop_export;
  t->data = b->data;
  t->device = (DLDevice){b->device->device_class == TSR_CLASS_HOST ? DL_CPU : DL_CUDA, b->device->ordinal};
  t->ndim = (int32_t)b->type.rank;
  t->shape = x->shape;
  t->strides = x->strides;
  *out = &x->tensor;
  return TSR_OK;
}

static bool inside(const tsr_buffer *b, size_t at, size_t bytes) { return at <= b->bytes && bytes <= b->bytes - at; }

tsr_status tsr_buffer_write(tsr_buffer *b, size_t at, const void *from, size_t bytes) {
  if (!b || (!from && bytes)) return TSR_INVALID;
  if (!inside(b, at, bytes)) return TSR_OUT_OF_RANGE;
  return bytes ? b->device->ops->write(b->device, b->data + at, from, bytes, NULL) : TSR_OK;
}

tsr_status tsr_buffer_read(tsr_buffer *b, size_t at, void *to, size_t bytes) {
  if (!b || (!to && bytes)) return TSR_INVALID;
  if (!inside(b, at, bytes)) return TSR_OUT_OF_RANGE;
  return bytes ? b->device->ops->read(b->device, to, b->data + at, bytes, NULL) : TSR_OK;
}

tsr_status tsr_buffer_reshape(tsr_buffer *b, const tsr_type *type) {
  size_t bytes;
  if (!b || !type || !tsr_type_bytes(type, &bytes)) return TSR_INVALID;
  if (bytes > b->capacity) return TSR_OUT_OF_RANGE;
  b->type = *type;
  b->bytes = bytes;
  return TSR_OK;
}

tsr_status tsr_buffer_type(const tsr_buffer *b, tsr_type *out) {
  if (!b || !out) return TSR_INVALID;
  *out = b->type;
  return TSR_OK;
}

void *tsr_buffer_data(const tsr_buffer *b) { return b ? b->data : NULL; }
size_t tsr_buffer_bytes(const tsr_buffer *b) { return b ? b->bytes : 0; }

tsr_buffer *tsr_buffer_retain(tsr_buffer *b) {
  if (b) atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  return b;
}

void tsr_buffer_release(tsr_buffer *b) {
  if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1) return;
  if (b->owned) b->device->ops->release(b->device, b->data, b->capacity);
  if (b->imported && b->imported->deleter) b->imported->deleter(b->imported);
  tsr_device_release(b->device);
  free(b);
}
