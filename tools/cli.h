// Command-line conventions shared by all commands: parsing after options.def, help, exit codes, diagnostics on standard error.
#ifndef TESSERA_TOOLS_CLI_H
#define TESSERA_TOOLS_CLI_H

#include "base/diag.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "tools/diag.def"
#undef TS_DIAG

enum { CLI_OK = 0, CLI_MISMATCH = 1, CLI_BAD_INPUT = 2, CLI_MISSING = 3, CLI_BUG = 4, CLI_INTERRUPTED = 130 };

typedef struct cli_given {
  const char *name, *value;   // value NULL: the option takes none, or an optional one was left out
} cli_given;

typedef struct cli {
  const char *command;
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  TS_VEC(cli_given) given;
  TS_VEC(const char *) positional;
} cli;

// Parses argv[1..]; argv[0] is the command's name. Returns -1 to go on, or the exit code to leave with (help, errors: printed).
int cli_begin(cli *c, const char *command, int argc, char **argv);
// Prints what is in c->diags, frees everything, gives the exit code of a status.
int cli_end(cli *c, ts_status s);
int cli_exit_code(ts_status s);
bool cli_has(const cli *c, const char *name);
const char *cli_value(const cli *c, const char *name, const char *otherwise);        // the last one given
// All values of a repeatable option; memory from the arena.
const char *const *cli_values(cli *c, const char *name, size_t *count);
// The number of an option, within [lo, hi]; reports and returns false otherwise.
bool cli_number(cli *c, const char *name, double otherwise, double lo, double hi, double *out);
const char *cli_need_positional(cli *c, const char *what);                            // the first one; reports and returns NULL
void cli_print_help(const char *command, FILE *to);                                   // NULL: the list of commands
void cli_flush_diags(cli *c);                                                         // prints and forgets
double cli_seconds(void);

typedef int cli_command_fn(int argc, char **argv);
cli_command_fn cmd_compile, cmd_run, cmd_generate, cmd_tokenize, cmd_score, cmd_bench, cmd_inspect, cmd_doctor;

#endif
