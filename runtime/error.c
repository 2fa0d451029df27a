// Status names, error texts, element types, small helpers.
#include "runtime/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

uint32_t tsr_version(void) { return TSR_VERSION_MAJOR << 16 | TSR_VERSION_MINOR << 8 | TSR_VERSION_PATCH; }

const char *tsr_status_name(tsr_status s) {
  switch (s) {
    case TSR_OK: return "ok";
    case TSR_INVALID: return "invalid argument";
    case TSR_NOT_FOUND: return "not found";
    case TSR_OUT_OF_MEMORY: return "out of memory";
    case TSR_OUT_OF_PAGES: return "out of pages";
    case TSR_OUT_OF_RANGE: return "out of range";
    case TSR_CORRUPT: return "corrupt artifact";
    case TSR_VERSION: return "wrong version";
    case TSR_UNSUPPORTED: return "unsupported";
    case TSR_NO_DEVICE: return "no such device";
    case TSR_DEVICE_LOST: return "device lost";
    case TSR_CANCELLED: return "cancelled";
    case TSR_IO: return "input/output error";
    case TSR_INTERNAL: return "internal error";
  }
  return "unknown status";
}

tsr_status tsr_fail(tsr_error *e, tsr_status code, const char *fmt, ...) {
  if (e) {
    e->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
  }
  return code;
}

void *tsr_calloc(size_t count, size_t size) {
  size_t bytes;
  if (!ts_mul_size(count, size, &bytes)) return NULL;
  return calloc(bytes ? bytes : 1, 1);
}

bool tsr_options(void *own, size_t own_size, const void *given) {
  memset(own, 0, own_size);
  if (!given) return true;
  uint32_t size;
  memcpy(&size, given, sizeof size);
  if (size < sizeof size || size > 4096) return false;
  memcpy(own, given, size < own_size ? size : own_size);
  const unsigned char *more = given;   // a newer caller's fields must be unused
  for (size_t i = own_size; i < size; i++)
    if (more[i]) return false;
  return true;
}

static const struct {
  uint32_t code, bits;
  const char *name;
} dtypes[] = {
    {TSR_F64, 64, "f64"},      {TSR_F32, 32, "f32"},      {TSR_F16, 16, "f16"},      {TSR_BF16, 16, "bf16"},
    {TSR_F8E4M3, 8, "f8e4m3"}, {TSR_F8E5M2, 8, "f8e5m2"}, {TSR_F4E2M1, 4, "f4e2m1"}, {TSR_E8M0, 8, "e8m0"},
    {TSR_I64, 64, "i64"},      {TSR_I32, 32, "i32"},      {TSR_I16, 16, "i16"},      {TSR_I8, 8, "i8"},
    {TSR_I4, 4, "i4"},         {TSR_I2, 2, "i2"},         {TSR_I1, 1, "i1"},         {TSR_U64, 64, "u64"},
    {TSR_U32, 32, "u32"},      {TSR_U16, 16, "u16"},      {TSR_U8, 8, "u8"},         {TSR_U4, 4, "u4"},
    {TSR_U2, 2, "u2"},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

const char *tsr_dtype_name(uint32_t dtype) {
  for (int i = 0; i < DTYPES; i++)
    if (dtypes[i].code == dtype) return dtypes[i].name;
  return NULL;
}

uint32_t tsr_dtype_bits(uint32_t dtype) {
  for (int i = 0; i < DTYPES; i++)
    if (dtypes[i].code == dtype) return dtypes[i].bits;
  return 0;
}

bool tsr_type_bytes(const tsr_type *t, size_t *out) {
  size_t n = tsr_dtype_bits(t->dtype);
  if (!n || t->rank > TSR_RANK) return false;
  for (uint32_t i = 0; i < t->rank; i++)
    if (t->shape[i] < 0 || !ts_mul_size(n, (size_t)t->shape[i], &n)) return false;
  if (n > (size_t)INT64_MAX / 2) return false;
  *out = (n + 7) / 8;
  return true;
}
