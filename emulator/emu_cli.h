// The `tessera emu` command: argv[0] is the command's own name. Returns the exit code: 0, 1 when a check reported, 2 bad input.
#ifndef TESSERA_EMULATOR_EMU_CLI_H
#define TESSERA_EMULATOR_EMU_CLI_H
#include "base/str.h"
int emu_cli_main(int argc, char **argv);
// The conformance table: every instruction with its types and modifiers, and what is refused.
void emu_support_print(ts_text *out);
#endif
