// tessera-emu: the `tessera emu` command as a program of its own.
#include "emulator/emu_cli.h"

int main(int argc, char **argv) { return emu_cli_main(argc, argv); }
