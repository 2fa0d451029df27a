// Command-line conventions (see cli.h).
#include "tools/cli.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef struct option_row {
  const char *command, *name;
  char brief;
  const char *value, *doc;
} option_row;

static const option_row options[] = {
#define CLI_OPTION(command, name, brief, value, doc) {command, name, brief, value, doc},
#include "tools/options.def"
#undef CLI_OPTION
};
enum { OPTION_COUNT = sizeof options / sizeof *options };

typedef struct command_row {
  const char *name, *usage, *summary, *example;
} command_row;

static const command_row commands[] = {
#define CLI_COMMAND(name, usage, summary, example) {#name, usage, summary, example},
#include "tools/commands.def"
#undef CLI_COMMAND
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

#define TS_DIAG TS_DIAG_DEFINE
#include "tools/diag.def"
#undef TS_DIAG

static bool applies(const option_row *o, const char *command) { return strcmp(o->command, "*") == 0 || strcmp(o->command, command) == 0; }

void cli_print_help(const char *command, FILE *to) {
  if (!command) {
    fprintf(to, "tessera: compiles models and kernels into one deployable file, and runs it\n\nusage: tessera COMMAND ...\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "  %-10s %s\n\n`tessera COMMAND --help` says more. Data goes to standard output, messages to standard error.\n", "emu",
            "Execute, check and measure a PTX file on the CPU.");
    fprintf(to, "Exit codes: 0 ok, 1 comparison failed, 2 bad input, 3 capability missing, 4 a bug of ours, 130 interrupted.\n");
    return;
  }
  for (int i = 0; i < COMMAND_COUNT; i++) {
    if (strcmp(commands[i].name, command) != 0) continue;
    fprintf(to, "usage: tessera %s %s\n\n%s\n\n", command, commands[i].usage, commands[i].summary);
    for (int k = 0; k < OPTION_COUNT; k++) {
      const option_row *o = &options[k];
      if (!applies(o, command)) continue;
      char left[64], brief[8] = "";
      if (o->brief) snprintf(brief, sizeof brief, "-%c, ", o->brief);
      bool optional = o->value && o->value[strlen(o->value) - 1] == '?';
      if (!o->value) snprintf(left, sizeof left, "%s--%s", brief, o->name);
      else if (optional) snprintf(left, sizeof left, "%s--%s[=%.*s]", brief, o->name, (int)strlen(o->value) - 1, o->value);
      else snprintf(left, sizeof left, "%s--%s %.*s", brief, o->name, (int)strcspn(o->value, "."), o->value);
      fprintf(to, "  %-28s %s\n", left, o->doc);
    }
    fprintf(to, "\nexample: %s\n", commands[i].example);
  }
}

static const option_row *find_option(const char *command, const char *name, size_t n, char brief) {
  for (int i = 0; i < OPTION_COUNT; i++) {
    if (!applies(&options[i], command)) continue;
    if (brief ? options[i].brief == brief : strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0) return &options[i];
  }
  return NULL;
}

static void unknown_option(cli *c, const char *name, size_t n) {
  const char *names[OPTION_COUNT];
  size_t count = 0;
  for (int i = 0; i < OPTION_COUNT; i++)
    if (applies(&options[i], c->command)) names[count++] = options[i].name;
  const char *near = ts_nearest((ts_str){name, n}, names, count);
  ts_report(&c->diags, (ts_loc){0}, &diag_usage, "'%s' has no option '--%.*s'%s%s%s", c->command, (int)n, name, near ? "; did you mean '--" : "", near ? near : "",
            near ? "'?" : "");
}

static bool parse_one(cli *c, int argc, char **argv, int *i) {
  const char *arg = argv[*i];
  bool is_long = arg[1] == '-';
  const char *name = arg + (is_long ? 2 : 1), *equals = is_long ? strchr(name, '=') : NULL;
  size_t n = equals ? (size_t)(equals - name) : strlen(name);
  const option_row *o = find_option(c->command, name, n, is_long ? 0 : arg[1]);
  if (!o || (!is_long && arg[2] && !o->value)) return unknown_option(c, name, n), false;
  cli_given g = {o->name, NULL};
  bool optional = o->value && o->value[strlen(o->value) - 1] == '?';
  if (!o->value && equals) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "'--%s' takes no value", o->name), false;
  if (equals) g.value = equals + 1;
  else if (!is_long && arg[2]) g.value = arg + 2;
  else if (o->value && !optional) {
    if (*i + 1 >= argc) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "'--%s' needs a value: %s", o->name, o->value), false;
    g.value = argv[++*i];
  }
  ts_vec_push(&c->arena, &c->given, g);
  return true;
}

int cli_begin(cli *c, const char *command, int argc, char **argv) {
  *c = (cli){.command = command};
  ts_arena_init(&c->arena);
  ts_interner_init(&c->names, &c->arena);
  ts_diags_init(&c->diags);
  bool only_positional = false;
  for (int i = 1; i < argc; i++) {
    if (!only_positional && strcmp(argv[i], "--") == 0) only_positional = true;
    else if (only_positional || argv[i][0] != '-' || !argv[i][1]) ts_vec_push(&c->arena, &c->positional, argv[i]);
    else if (!parse_one(c, argc, argv, &i)) return cli_end(c, TS_INVALID);
  }
  if (!cli_has(c, "help")) return -1;
  cli_print_help(command, stdout);
  return cli_end(c, TS_OK);
}

int cli_exit_code(ts_status s) {
  switch (s) {
    case TS_OK: return CLI_OK;
    case TS_MISMATCH: return CLI_MISMATCH;
    case TS_UNSUPPORTED: case TS_MISSING: return CLI_MISSING;
    case TS_INTERNAL: case TS_OUT_OF_MEMORY: return CLI_BUG;
    case TS_CANCELLED: return CLI_INTERRUPTED;
    default: return CLI_BAD_INPUT;
  }
}

void cli_flush_diags(cli *c) {
  ts_text t = {0};
  const char *no_color = getenv("NO_COLOR");
  ts_diags_print(&c->diags, &t, isatty(2) && !(no_color && *no_color));
  fputs(ts_text_z(&t), stderr);
  ts_text_deinit(&t);
  c->diags.list.count = 0;
}

int cli_end(cli *c, ts_status s) {
  cli_flush_diags(c);
  if (s != TS_OK && !c->diags.errors) fprintf(stderr, "tessera: %s\n", ts_status_name(s));
  ts_diags_deinit(&c->diags);
  ts_interner_deinit(&c->names);
  ts_arena_deinit(&c->arena);
  if (fflush(stdout) != 0 && s == TS_OK) s = TS_IO;
  return cli_exit_code(s);
}

bool cli_has(const cli *c, const char *name) {
  for (size_t i = 0; i < c->given.count; i++)
    if (strcmp(c->given.data[i].name, name) == 0) return true;
  return false;
}

const char *cli_value(const cli *c, const char *name, const char *otherwise) {
  for (size_t i = c->given.count; i-- > 0;)
    if (strcmp(c->given.data[i].name, name) == 0) return c->given.data[i].value;
  return otherwise;
}

const char *const *cli_values(cli *c, const char *name, size_t *count) {
  const char **all = ts_new_array(&c->arena, const char *, c->given.count);
  *count = 0;
  for (size_t i = 0; i < c->given.count; i++)
    if (strcmp(c->given.data[i].name, name) == 0) all[(*count)++] = c->given.data[i].value;
  return all;
}

bool cli_number(cli *c, const char *name, double otherwise, double lo, double hi, double *out) {
  const char *text = cli_value(c, name, NULL);
  *out = otherwise;
  if (!text) return true;
  char *end;
  double v = strtod(text, &end);
  if (*text && !*end && v >= lo && v <= hi) return *out = v, true;
  ts_report(&c->diags, (ts_loc){0}, &diag_usage, "'--%s %s' is not a number from %g to %g", name, text, lo, hi);
  return false;
}

const char *cli_need_positional(cli *c, const char *what) {
  if (c->positional.count) return c->positional.data[0];
  ts_report(&c->diags, (ts_loc){0}, &diag_usage, "'tessera %s' needs %s", c->command, what);
  return NULL;
}

double cli_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
