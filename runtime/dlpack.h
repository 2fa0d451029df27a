/* What the runtime needs of DLPack 1.x (github.com/dmlc/dlpack, Apache-2.0): the versioned tensor and its parts. */
#ifndef TSR_DLPACK_H
#define TSR_DLPACK_H

#include <stdint.h>

typedef struct { int32_t device_type, device_id; } DLDevice;   /* 1: CPU, 2: CUDA, 3: CUDA host */
typedef struct { uint8_t code, bits; uint16_t lanes; } DLDataType;
typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;     /* strides in elements; NULL: dense */
  uint64_t byte_offset;
} DLTensor;
typedef struct DLManagedTensorVersioned {
  struct { uint32_t major, minor; } version;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensorVersioned *);
  uint64_t flags;               /* 1: read only, 2: a copy, 4: sub-byte elements are padded to bytes */
  DLTensor dl_tensor;
} DLManagedTensorVersioned;

enum {
  DL_CPU = 1,
  DL_CUDA = 2,
  DL_INT = 0,
  DL_UINT = 1,
  DL_FLOAT = 2,
  DL_BFLOAT = 4,
  DL_BOOL = 6,
  DL_F8E4M3FN = 10,
  DL_F8E5M2 = 12,
  DL_F8E8M0 = 14,
  DL_F4E2M1 = 17
};

#endif
