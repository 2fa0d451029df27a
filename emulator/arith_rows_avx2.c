// The rows of arith_rows.inc and arith_rows_int.inc for hosts with AVX2 and FMA (chosen at run time in arith_lookup.c).
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "emulator/arith_rows.h"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("O3", "no-trapping-math")
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt")
#endif
#define ROWS_F16C 1
#define ROWS_TABLE emu_rows_avx2
#define ROWS_INT_TABLE emu_rows_int_avx2
#include "emulator/arith_rows.inc"
#include "emulator/arith_rows_int.inc"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
