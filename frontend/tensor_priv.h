// Shared by the readers of tensor files.
#ifndef TESSERA_FRONTEND_TENSOR_PRIV_H
#define TESSERA_FRONTEND_TENSOR_PRIV_H

#include "frontend/tensor.h"

bool fe_tensors_add_name(fe_tensors *t, fe_tensor *x);   // false when the name is taken
ts_str fe_shown(ts_str s);                               // a name cut to a length that a message can hold

static inline uint64_t fe_le(const void *p, unsigned bytes) {   // little-endian
  uint64_t v = 0;
  for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)((const uint8_t *)p)[i] << 8 * i;
  return v;
}

#endif
