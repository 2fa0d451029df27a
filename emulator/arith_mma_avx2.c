// The fused sums of arith_mma_core.inc for hosts with AVX2. Its variable shifts give 0 for counts from 32 on, so a capped
// distance needs no test; the vector extension leaves such shifts undefined, hence the intrinsic's minimum.
#include <immintrin.h>
#include <string.h>

#include "emulator/arith_mma_core.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("O3", "no-trapping-math")
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#define FUSED emu_fused_avx2
#define TRUNCATE emu_truncate_avx2
#define MAX(a, b) ((v8)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define CAP(v) ((v8)_mm256_min_epi32((__m256i)(v), _mm256_set1_epi32(31)))
#include "emulator/arith_mma_core.inc"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
