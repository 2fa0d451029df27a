// The rows of targets.def.
#include "codegen/cuda/cuda.h"

static const cgc_target targets[] = {
#define CGC_TARGET(name, number, shared, ptx, cp_async, ldmatrix, mma16, mma8, bf16, cvt2) \
  {#name, number, shared, ptx, cp_async, ldmatrix, mma16, mma8, bf16, cvt2},
#include "codegen/cuda/targets.def"
#undef CGC_TARGET
};

unsigned cgc_target_count(void) { return sizeof targets / sizeof *targets; }
const cgc_target *cgc_target_get(unsigned i) { return i < cgc_target_count() ? &targets[i] : NULL; }

const cgc_target *cgc_target_of_name(ts_str name) {
  for (unsigned i = 0; i < cgc_target_count(); i++)
    if (name.len == strlen(targets[i].name) && memcmp(name.data, targets[i].name, name.len) == 0) return &targets[i];
  return NULL;
}
