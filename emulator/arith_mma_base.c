// The fused sums of arith_mma_core.inc for the x86-64 baseline.
#include <string.h>

#include "emulator/arith_mma_core.h"
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif
#define FUSED emu_fused_base
#define TRUNCATE emu_truncate_base
#define MAX(a, b) (((a) & ((a) > (b))) | ((b) & ~((a) > (b))))
#define CAP(v) (((v) & ((v) < 31)) | (31 & ~((v) < 31)))
#include "emulator/arith_mma_core.inc"
