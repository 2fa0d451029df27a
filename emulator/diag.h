// The diagnostics of emulator/, declared from diag.def.
#ifndef TESSERA_EMULATOR_DIAG_H
#define TESSERA_EMULATOR_DIAG_H
#include "base/diag.h"
#define TS_DIAG TS_DIAG_DECLARE
#include "emulator/diag.def"
#undef TS_DIAG
extern const ts_diag_kind *const emu_diag_table[];
extern const unsigned emu_diag_count;
#endif
