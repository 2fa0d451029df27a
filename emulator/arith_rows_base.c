// The rows of arith_rows.inc and arith_rows_int.inc for the x86-64 baseline.
#include <math.h>
#include <string.h>

#include "emulator/arith_rows.h"
#pragma GCC diagnostic ignored "-Wpsabi"   // vectors are passed between inlined functions only
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif
#define ROWS_TABLE emu_rows_base
#define ROWS_INT_TABLE emu_rows_int_base
#include "emulator/arith_rows.inc"
#include "emulator/arith_rows_int.inc"
