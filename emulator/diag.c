// The rows of diag.def as objects.
#include "emulator/diag.h"
#define TS_DIAG TS_DIAG_DEFINE
#include "emulator/diag.def"
#undef TS_DIAG
#define TS_DIAG TS_DIAG_ROW
const ts_diag_kind *const emu_diag_table[] = {
#include "emulator/diag.def"
};
#undef TS_DIAG
const unsigned emu_diag_count = sizeof emu_diag_table / sizeof emu_diag_table[0];
