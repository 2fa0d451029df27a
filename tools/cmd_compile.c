// tessera compile
#include "drive/compile.h"
#include "drive/kernels.h"
#include "drive/text_file.h"
#include "tools/cli.h"

#include <stdlib.h>
#include <unistd.h>

typedef struct progress_line {
  bool terminal, quiet;
  double start;
} progress_line;

static void show_progress(void *user, const char *what, unsigned done, unsigned total) {
  progress_line *p = user;
  if (p->quiet) return;
  if (!p->terminal) {
    if (done == total) fprintf(stderr, "%s: %u of %u (%.1f s)\n", what, done, total, cli_seconds() - p->start);
    return;
  }
  enum { WIDTH = 30 };
  unsigned filled = total ? done * WIDTH / total : WIDTH;
  fprintf(stderr, "\r%-8s [", what);
  for (unsigned i = 0; i < WIDTH; i++) fputc(i < filled ? '#' : '.', stderr);
  fprintf(stderr, "] %u/%u", done, total);
  if (done == total) fputc('\n', stderr);
}

// Where the installed model specs are: $TESSERA_SPECS, the installation, the sources it was built from.
static const char *const *search_paths(cli *c, size_t *count) {
  const char **all = ts_new_array(&c->arena, const char *, 4);
  const char *env = getenv("TESSERA_SPECS");
  if (env && *env) all[(*count)++] = env;
  char exe[4096];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  if (n > 0) {
    exe[n] = 0;
    ts_str folder = ts_path_folder(exe);
    all[(*count)++] = ts_arena_printf(&c->arena, "%.*s/../share/tessera/specs", TS_FMT(folder));
  }
  all[(*count)++] = TESSERA_SOURCE_SPECS;   // a tool that runs from its build folder
  return all;
}

static void explain(const drive_report *r, const char *pass) {
  for (size_t i = 0; i < r->notes.count; i++) {
    const drive_note *n = &r->notes.data[i];
    if (pass && strcmp(pass, n->pass) != 0) continue;
    if (n->loc.file && n->loc.line) printf("%s:%u:%u: ", n->loc.file, n->loc.line, n->loc.col);
    printf("%s: %s%s%s%s\n", n->pass, n->rule ? "no [" : "", n->rule ? n->rule : "", n->rule ? "]: " : "", n->text);
  }
}

// Kernel texts (dumps, edited or not) instead of a spec.
static ts_status compile_text(cli *c, const char *path) {
  size_t targets, weights;
  const char *const *asked = cli_values(c, "target", &targets), *const *given = cli_values(c, "weights", &weights);
  const char **levels = ts_new_array(&c->arena, const char *, targets);
  drive_kernels_options o = {.output = cli_value(c, "output", NULL), .dump_dir = cli_value(c, "dump-dir", NULL), .levels = levels};
  static const char *const specs_only[] = {"set", "explain", "weights-mode", "no-fusion", "no-cache", "jobs"};
  for (size_t i = 0; i < sizeof specs_only / sizeof *specs_only; i++)
    if (cli_has(c, specs_only[i])) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "--%s is for specs and models, not for kernel texts", specs_only[i]);
  bool all = false;
  for (size_t i = 0; i < targets; i++) {
    if (strcmp(asked[i], "host") == 0) all = true;
    else if (strncmp(asked[i], "host:", 5) == 0) levels[o.level_count++] = asked[i] + 5;
    else return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "kernel texts are compiled for host and host:LEVEL, not for %s", asked[i]);
  }
  if (all) o.level_count = 0;
  for (size_t i = 0; i < weights; i++) {
    if (strncmp(given[i], "random:", 7) != 0) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "kernel texts take random:SEED as weights, not '%s'", given[i]);
    o.random_weights = true, o.seed = strtoull(given[i] + 7, NULL, 0);
  }
  ir_module *m;
  TS_TRY(drive_read_module(&c->arena, &c->names, &c->diags, path, &m));
  drive_report report;
  ts_status s = drive_compile_kernels(&c->arena, m, &o, &c->diags, &report);
  if (s == TS_OK && cli_has(c, "explain")) explain(&report, cli_value(c, "explain", NULL));
  ir_module_destroy(m);
  return s;
}

static bool has_target(const char *const *targets, size_t count, bool cuda) {
  for (size_t i = 0; i < count; i++)
    if ((strncmp(targets[i], "sm_", 3) == 0) == cuda) return true;
  return false;
}

static ts_status compile(cli *c, const char *path) {
  if (ts_str_ends(ts_str_of(path), ".tir")) return compile_text(c, path);
  double jobs, start = cli_seconds();
  if (!cli_number(c, "jobs", 0, 1, 256, &jobs)) return TS_INVALID;
  const char *mode = cli_value(c, "weights-mode", "embed");
  bool external = strcmp(mode, "external") == 0;
  if (!external && strcmp(mode, "embed") != 0) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "--weights-mode is embed or external, not '%s'", mode);
  fe_options fo = {.float_type = IR_f32};
  size_t weights, targets, paths = 0;
  fo.search_paths = search_paths(c, &paths);
  fo.search_path_count = paths;
  const char *const *given = cli_values(c, "weights", &weights);
  const char **files = ts_new_array(&c->arena, const char *, weights);
  for (size_t i = 0; i < weights; i++) {
    if (strncmp(given[i], "random:", 7) == 0) fo.random_weights = true, fo.seed = strtoull(given[i] + 7, NULL, 0);
    else files[fo.weights_count++] = given[i];
  }
  fo.weights = files;
  fo.sets = cli_values(c, "set", &fo.set_count);
  const char *const *asked = cli_values(c, "target", &targets);
  fe_model *model = NULL, *cuda_model = NULL;
  bool host = has_target(asked, targets, false), cuda = has_target(asked, targets, true);
  if (host || !targets) TS_TRY(fe_load(&c->arena, &c->names, &c->diags, path, &fo, &model));
  if (!targets) {   // what the spec says; a model loaded for the host knows it too
    asked = model->targets, targets = model->target_count;
    host = has_target(asked, targets, false), cuda = has_target(asked, targets, true);
  }
  if (cuda) {
    fo.target_class = IR_CLASS_CUDA;
    fo.float_type = IR_VOID;
    ts_status s = fe_load(&c->arena, &c->names, &c->diags, path, &fo, &cuda_model);
    if (s != TS_OK) {
      fe_unload(model);
      return s;
    }
  }
  progress_line line = {.terminal = isatty(2), .quiet = cli_has(c, "quiet"), .start = start};
  const char *output = cli_value(c, "output", NULL);
  drive_options o = {.output = output, .dump_dir = cli_value(c, "dump-dir", NULL), .external_weights = external, .no_fusion = cli_has(c, "no-fusion"),
                     .no_cache = cli_has(c, "no-cache"), .jobs = (unsigned)jobs, .progress = show_progress, .user = &line};
  o.targets = asked, o.target_count = targets, o.cuda_model = cuda_model;
  drive_report report;
  ts_status s = drive_compile(&c->arena, model, &o, &c->diags, &report);
  if (s == TS_OK) {
    if (cli_has(c, "explain")) explain(&report, cli_value(c, "explain", NULL));
    if (!line.quiet) {
      fprintf(stderr, "%u portable kernels, %u scheduled, %u objects (%u from the cache), %u launches a call, %.1f s\n", report.portable_kernels, report.kernels,
              report.objects, report.cached, report.launches, cli_seconds() - start);
      unsigned spilling = 0;
      for (size_t i = 0; i < report.cuda.count; i++) spilling += report.cuda.data[i].spill_bytes != 0;
      if (report.cuda.count) fprintf(stderr, "%zu CUDA kernels, %u of them spill registers\n", report.cuda.count, spilling);
      if (output)
        fprintf(stderr, "%s: %.1f MB (weights %.1f MB, code %.0f KB)%s\n", output, (double)report.bytes / 1e6, (double)report.weight_bytes / 1e6,
                (double)report.code_bytes / 1e3, report.changed ? "" : ", unchanged");
    }
  }
  fe_unload(model);
  fe_unload(cuda_model);
  return s;
}

int cmd_compile(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "compile", argc, argv);
  if (code >= 0) return code;
  const char *path = cli_need_positional(&c, "a spec or a model file");
  return cli_end(&c, path ? compile(&c, path) : TS_INVALID);
}
