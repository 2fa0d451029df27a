// Modules from .tir files, for the commands that work on IR text.
#ifndef TESSERA_DRIVE_TEXT_FILE_H
#define TESSERA_DRIVE_TEXT_FILE_H

#include "ir/ir.h"

// Reads, parses and verifies. The module borrows arena, names and diags; free it with ir_module_destroy(). On failure *out is NULL.
ts_status drive_read_module(ts_arena *a, ts_interner *names, ts_diags *d, const char *path, ir_module **out);
// Gives weights random contents: text has their types only.
ts_status drive_random_weights(ir_module *m, uint64_t seed);

#endif
