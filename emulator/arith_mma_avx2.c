// The fused sums of arith_mma_core.inc for hosts with AVX2 and F16C.
#include <immintrin.h>
#include <string.h>

#include "emulator/arith_mma_core.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("O3", "no-trapping-math")
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif
#define BYTES emu_bytes_avx2
#define DOTS emu_dots_avx2
#define EXPAND emu_expand_avx2
#define DECODE emu_decode_avx2
#define FUSED emu_fused_avx2
#define MAX(a, b) ((v8)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define ABS(v) ((v8)_mm256_abs_epi32((__m256i)(v)))
#define SHIFT(v, n) ((v8)_mm256_srlv_epi32((__m256i)(v), (__m256i)(n)))
#define SIGN(v, s) ((v8)_mm256_sign_epi32((__m256i)(v), (__m256i)(s)))
#define PRODUCT(b, a) ((v8)_mm256_madd_epi16((__m256i)(b), _mm256_set1_epi32(a)))
#define ANY(v) ((uint32_t)_mm256_movemask_ps((__m256)(v)))
#define HALF(bits, odd) ((v8)_mm256_cvtepu16_epi32(_mm256_cvtps_ph((__m256)(bits), _MM_FROUND_TO_NEAREST_INT)))
#include "emulator/arith_mma_core.inc"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
