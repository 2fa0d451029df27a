// The `tessera` command: finds the command and hands over.
#include "tools/cli.h"
#ifdef TESSERA_WITH_EMULATOR
#include "emulator/emu_cli.h"
#endif

static const struct {
  const char *name;
  cli_command_fn *run;
} commands[] = {
#define CLI_COMMAND(name, usage, summary, example) {#name, cmd_##name},
#include "tools/commands.def"
#undef CLI_COMMAND
#ifdef TESSERA_WITH_EMULATOR
  {"emu", emu_cli_main},
#endif
};

int main(int argc, char **argv) {
  if (argc < 2) {
    cli_print_help(NULL, stderr);
    return CLI_BAD_INPUT;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    cli_print_help(NULL, stdout);
    return CLI_OK;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("tessera %s\n", TESSERA_VERSION);
    return CLI_OK;
  }
  const char *names[sizeof commands / sizeof *commands];
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    names[i] = commands[i].name;
    if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  }
  const char *near = ts_nearest(ts_str_of(argv[1]), names, sizeof names / sizeof *names);
  fprintf(stderr, "tessera: error[usage]: there is no command '%s'%s%s%s\n", argv[1], near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  return CLI_BAD_INPUT;
}
