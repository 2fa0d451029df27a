// tessera-run: `tessera run` alone, for machines that only run artifacts. Needs the runtime, no compiler.
#include "tools/cli.h"

int main(int argc, char **argv) { return cmd_run(argc, argv); }
