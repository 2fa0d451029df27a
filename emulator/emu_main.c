// `tessera emu`: runs one entry of a PTX file from the shell. See docs/emulator.md for every option.
#include "base/file.h"
#include "emulator/counters.h"
#include "emulator/diag.h"
#include "emulator/emu.h"
#include "emulator/emu_cli.h"
#include "emulator/npy.h"
#include "emulator/arith.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_ARGS = 64, MAX_PRINTS = 16 };

typedef struct cli_arg {
  const char *text;
  bool is_buffer;
  emu_addr address;
  size_t bytes;
  char descr[16];
  size_t shape[8];
  unsigned rank;
  const char *save;
} cli_arg;

typedef struct cli {
  const char *file, *entry;
  unsigned sm;
  cli_arg args[MAX_ARGS];
  unsigned arg_count;
  const char *saves[MAX_ARGS];
  unsigned save_count;
  const char *prints[MAX_PRINTS];
  unsigned print_count;
  uint64_t seeds;          // further schedules to compare with
  bool counters, json, listing, support, list;
  emu_launch_config config;
  ts_arena arena;
  ts_diags diags;
} cli;

static const char usage[] =
    "usage: tessera emu FILE.ptx --entry NAME --grid X[,Y,Z] --block X[,Y,Z] [--arg VALUE]...\n"
    "  --arg @FILE.npy | @zeros:TYPE:COUNT | @random:SEED:TYPE:COUNT | @empty:TYPE:COUNT | TYPE:VALUE | hex:BYTES   one per parameter, in order\n"
    "  --save INDEX=FILE.npy     write the buffer of argument INDEX after the launch\n"
    "  --shared BYTES            dynamic shared memory\n"
    "  --sm NN                   75 80 86 87 89 90 100 120 (the PTX file's target)\n"
    "  --checks on|off           bounds are checked in any case\n"
    "  --counters --listing --json   what was counted: a table, the annotated PTX, JSON (of reports too)\n"
    "  --schedule-seed N --workers N --max-instructions N\n"
    "  --seeds N                 run N more times in other orders and report results that differ\n"
    "  --trace --break LINE --print REGISTER\n"
    "  --list                    the entries and their parameters\n"
    "  --support                 the instructions that can be executed\n";

static ts_status wrong(cli *c, const char *fmt, const char *what) { return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, fmt, what); }

static bool number(const char *s, uint64_t *out) {
  char *end;
  if (!*s || *s == '-') return false;
  *out = strtoull(s, &end, 0);
  return !*end;
}

static ts_status dimensions(cli *c, const char *s, uint32_t out[3]) {
  const char *text = s;
  out[0] = out[1] = out[2] = 1;
  for (int i = 0; i < 3; i++) {
    char *end;
    unsigned long v = strtoul(s, &end, 10);
    if (end == s || v > UINT32_MAX) return wrong(c, "'%s' is not X[,Y,Z]", text);
    out[i] = (uint32_t)v;
    if (!*end) return TS_OK;
    if (*end != ',') break;
    s = end + 1;
  }
  return wrong(c, "'%s' is not X[,Y,Z]", text);
}

static ts_status parse_options(cli *c, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *o = argv[i];
    if (o[0] != '-') {
      if (c->file) return wrong(c, "more than one file: '%s'", o);
      c->file = o;
      continue;
    }
    static const struct { const char *name; size_t at; } flags[] = {
        {"--counters", offsetof(cli, counters)}, {"--json", offsetof(cli, json)}, {"--listing", offsetof(cli, listing)}, {"--support", offsetof(cli, support)},
        {"--list", offsetof(cli, list)}, {"--trace", offsetof(cli, config.trace)}};
    bool found = false;
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++)
      if (!strcmp(o, flags[k].name)) *(bool *)((char *)c + flags[k].at) = found = true;
    if (found) continue;
    if (i + 1 == argc) return wrong(c, "option '%s' is unknown or lacks its value", o);
    const char *v = argv[++i];
    uint64_t n = 0;
    bool is_number = number(v, &n);
    if (!strcmp(o, "--entry")) c->entry = v;
    else if (!strcmp(o, "--grid")) TS_TRY(dimensions(c, v, c->config.grid));
    else if (!strcmp(o, "--block")) TS_TRY(dimensions(c, v, c->config.block));
    else if (!strcmp(o, "--arg") && c->arg_count < MAX_ARGS) c->args[c->arg_count++].text = v;
    else if (!strcmp(o, "--save") && c->save_count < MAX_ARGS) c->saves[c->save_count++] = v;
    else if (!strcmp(o, "--print") && c->print_count < MAX_PRINTS) c->prints[c->print_count++] = v;
    else if (!strcmp(o, "--checks") && (!strcmp(v, "on") || !strcmp(v, "off"))) c->config.checks_off = v[1] == 'f';
    else if (!strcmp(o, "--shared") && is_number && n <= UINT32_MAX) c->config.dynamic_shared = (uint32_t)n;
    else if (!strcmp(o, "--sm") && is_number && n < 1000) c->sm = (unsigned)n;
    else if (!strcmp(o, "--schedule-seed") && is_number) c->config.schedule_seed = n;
    else if (!strcmp(o, "--seeds") && is_number && n <= 100000) c->seeds = n;
    else if (!strcmp(o, "--workers") && is_number && n <= 1024) c->config.workers = (unsigned)n;
    else if (!strcmp(o, "--max-instructions") && is_number) c->config.max_instructions = n;
    else if (!strcmp(o, "--break") && is_number && n <= UINT32_MAX) c->config.break_line = (uint32_t)n;
    else return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, "'%s %s' is not an option that can be used here", o, v);
  }
  return c->file || c->support ? TS_OK : wrong(c, "%s", "no PTX file");
}

// --- arguments --------------------------------------------------------------------------------------------------------------------
static void numpy_type(emu_type t, char out[16]) {
  char kind = emu_type_is_float(t) ? 'f' : emu_type_is_signed(t) ? 'i' : 'u';
  unsigned bytes = (emu_type_bits(t) + 7) / 8;
  if (t == EMU_BF16 || (emu_type_is_float(t) && t != EMU_F16 && t != EMU_F32 && t != EMU_F64)) kind = 'u';
  snprintf(out, 16, "%c%c%u", bytes == 1 ? '|' : '<', kind, bytes);
}

static uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

// Random elements: floats in [-1, 1), integers over their whole range.
static void fill_random(emu_type t, uint64_t seed, uint8_t *to, size_t count) {
  unsigned bytes = emu_type_bits(t) / 8;
  for (size_t i = 0; i < count; i++) {
    uint64_t r = next_random(&seed), v = r;
    float f = (float)(r >> 40) * 0x1p-23f - 1.0f;
    double d = (double)(r >> 11) * 0x1p-52 - 1.0;
    uint32_t w;
    memcpy(&w, &f, 4);
    if (t == EMU_F32) v = w;
    else if (t == EMU_F64) memcpy(&v, &d, 8);
    else if (t == EMU_F16 || t == EMU_BF16) v = emu_f32_to_half(t, w, EMU_RN);
    memcpy(to + i * bytes, &v, bytes);
  }
}

static ts_status make_buffer(cli *c, emu_context *ctx, cli_arg *a, const char *name) {
  const char *s = a->text + 1;
  bool random = !strncmp(s, "random:", 7), zeros = !strncmp(s, "zeros:", 6), empty = !strncmp(s, "empty:", 6);
  a->is_buffer = true;
  if (!random && !zeros && !empty) {
    emu_npy n;
    TS_TRY(emu_npy_read(&c->arena, s, &c->diags, &n));
    a->bytes = n.bytes;
    a->rank = n.rank;
    memcpy(a->shape, n.shape, sizeof a->shape);
    memcpy(a->descr, n.descr, sizeof a->descr);
    if (emu_alloc(ctx, n.bytes, name, &a->address) != TS_OK) return ts_report(&c->diags, (ts_loc){0}, &diag_emu_memory, "no room for '%s'", s);
    return emu_write(ctx, a->address, n.data, n.bytes);
  }
  uint64_t seed = 0, count;
  s = strchr(s, ':') + 1;
  const char *colon = strchr(s, ':');
  if (random) {
    char *end;
    seed = strtoull(s, &end, 0);
    if (end != colon || !colon) return wrong(c, "'%s' is not @random:SEED:TYPE:COUNT", a->text);
    s = colon + 1;
    colon = strchr(s, ':');
  }
  emu_type t = colon ? emu_type_find(s, (size_t)(colon - s)) : EMU_NOTYPE;
  if (t == EMU_NOTYPE || emu_type_bits(t) < 8 || !number(colon + 1, &count) || count > 1ull << 40) return wrong(c, "'%s': expected a type such as f32 and a count", a->text);
  a->bytes = count * (emu_type_bits(t) / 8);
  a->rank = 1;
  a->shape[0] = count;
  numpy_type(t, a->descr);
  if (emu_alloc(ctx, a->bytes, name, &a->address) != TS_OK) return ts_report(&c->diags, (ts_loc){0}, &diag_emu_memory, "no room for '%s'", a->text);
  if (empty) return TS_OK;
  uint8_t *data = calloc(1, a->bytes + 1);
  if (!data) return TS_OUT_OF_MEMORY;
  if (random) fill_random(t, seed, data, count);
  ts_status r = emu_write(ctx, a->address, data, a->bytes);
  free(data);
  return r;
}

// hex:0102…, the bytes of a parameter in memory order: for structures.
static ts_status raw_bytes(cli *c, const cli_arg *a, const emu_param *p, uint8_t *to) {
  const char *s = a->text + 4;
  if (strlen(s) != 2ull * p->bytes) return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, "argument '%s': parameter '%s' has %u bytes, so %u digits are needed", a->text, p->name, p->bytes, 2 * p->bytes);
  for (uint32_t i = 0; i < p->bytes; i++) {
    char two[3] = {s[2 * i], s[2 * i + 1], 0}, *end;
    to[i] = (uint8_t)strtoul(two, &end, 16);
    if (*end || two[0] == '-' || two[0] == '+' || two[0] == ' ') return wrong(c, "argument '%s' has something other than hexadecimal digits", a->text);
  }
  return TS_OK;
}

static ts_status scalar(cli *c, const cli_arg *a, const emu_param *p, uint8_t *to) {
  if (!strncmp(a->text, "hex:", 4)) return raw_bytes(c, a, p, to);
  const char *colon = strchr(a->text, ':');
  emu_type t = colon ? emu_type_find(a->text, (size_t)(colon - a->text)) : EMU_NOTYPE;
  if (t == EMU_NOTYPE || emu_type_bits(t) < 8) return wrong(c, "argument '%s' is neither @BUFFER nor TYPE:VALUE", a->text);
  unsigned bytes = emu_type_bits(t) / 8;
  if (bytes != p->bytes)
    return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, "argument '%s' has %u bytes; parameter '%s' has %u", a->text, bytes, p->name, p->bytes);
  char *end;
  uint64_t v = 0;
  if (emu_type_is_float(t)) {
    double d = strtod(colon + 1, &end);
    float f = (float)d;
    uint32_t w;
    memcpy(&w, &f, 4);
    if (t == EMU_F64) memcpy(&v, &d, 8);
    else if (t == EMU_F32) v = w;
    else if (t == EMU_F16 || t == EMU_BF16) v = emu_f32_to_half(t, w, EMU_RN);
    else return wrong(c, "argument '%s': use a bit type for this format", a->text);
  } else {
    v = colon[1] == '-' ? (uint64_t)strtoll(colon + 1, &end, 0) : strtoull(colon + 1, &end, 0);
  }
  if (end == colon + 1 || *end) return wrong(c, "argument '%s': the value is not a number", a->text);
  memcpy(to, &v, bytes);
  return TS_OK;
}

static ts_status make_params(cli *c, emu_context *ctx, const emu_entry_info *info, uint8_t *block) {
  if (c->arg_count != info->param_count)
    return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, "'%s' takes %u arguments; %u were given", info->name, info->param_count, c->arg_count);
  for (unsigned i = 0; i < c->save_count; i++) {
    char *end;
    unsigned long k = strtoul(c->saves[i], &end, 10);
    if (end == c->saves[i] || *end != '=' || k >= c->arg_count || c->args[k].text[0] != '@') return wrong(c, "--save %s: expected INDEX=FILE with the index of a buffer, from 0", c->saves[i]);
    c->args[k].save = end + 1;
  }
  for (unsigned i = 0; i < c->arg_count; i++) {
    cli_arg *a = &c->args[i];
    const emu_param *p = &info->params[i];
    if (a->text[0] != '@') {
      TS_TRY(scalar(c, a, p, block + p->offset));
      continue;
    }
    if (p->bytes != 8) return ts_report(&c->diags, (ts_loc){0}, &diag_emu_argument, "argument %u is a buffer; parameter '%s' has %u bytes and can't hold an address", i, p->name, p->bytes);
    TS_TRY(make_buffer(c, ctx, a, p->name));
    memcpy(block + p->offset, &a->address, 8);
  }
  return TS_OK;
}

// --- debugging ------------------------------------------------------------------------------------------------------------------------
static void print_stop(emu_debug *self, const emu_stop *s) {
  cli *c = self->user;
  emu_place p = emu_stop_place(s);
  printf("block (%u,%u,%u) warp %u lanes 0x%08x line %u: %s\n", p.block[0], p.block[1], p.block[2], p.warp, emu_stop_mask(s), p.ptx_line, p.instruction);
  for (unsigned i = 0; i < c->print_count; i++) {
    uint64_t lanes[32];
    unsigned bits;
    if (!emu_stop_register(s, c->prints[i], lanes, &bits)) continue;
    printf("  %s:", c->prints[i]);
    for (unsigned k = 0; k < 32; k++) {
      if (emu_stop_mask(s) >> k & 1) printf(" %0*llx", bits == 1 ? 1 : (int)bits / 4, (unsigned long long)lanes[k]);
      else printf(" -");
    }
    putchar('\n');
  }
}

static void list_entries(const emu_module *m) {
  for (unsigned i = 0; i < emu_module_entry_count(m); i++) {
    emu_entry_info e;
    emu_entry_describe(emu_module_entry_at(m, i), &e);
    printf("%s(", e.name);
    for (unsigned k = 0; k < e.param_count; k++) {
      printf("%s%s %s", k ? ", " : "", e.params[k].type, e.params[k].name);
      if (!strcmp(e.params[k].type, "b8")) printf("[%u]", e.params[k].bytes);
    }
    printf("): %u bytes of shared, %u of local memory, about %u registers\n", e.static_shared, e.local_bytes, e.registers);
  }
}

static void print_json(const emu_result *r) {
  ts_text t = {0};
  ts_text_printf(&t, "{\"warp_instructions\": %llu, \"thread_instructions\": %llu, \"seconds\": %.6f,\n \"reports\": [", (unsigned long long)r->warp_instructions,
                 (unsigned long long)r->thread_instructions, r->seconds);
  for (size_t i = 0; i < r->reports.count; i++) {
    const emu_report *p = &r->reports.data[i];
    ts_text_printf(&t, "%s\n  {\"fault\": \"%s\", \"line\": %u, \"block\": [%u, %u, %u], \"thread\": [%u, %u, %u], \"address\": %llu, \"repeats\": %llu, \"text\": ", i ? "," : "", emu_fault_name(p->fault),
                   p->at.ptx_line, p->at.block[0], p->at.block[1], p->at.block[2], p->at.thread[0], p->at.thread[1], p->at.thread[2], (unsigned long long)p->address, (unsigned long long)p->repeats);
    ts_text_json(&t, ts_str_of(p->text));
    ts_text_putc(&t, '}');
  }
  ts_text_puts(&t, "]");
  if (r->counters) {
    ts_text_puts(&t, ",\n \"counters\": ");
    emu_counters_json(r->counters, &t);
  }
  ts_text_puts(&t, "}\n");
  fputs(ts_text_z(&t), stdout);
  ts_text_deinit(&t);
}

static void print_result(const cli *c, const emu_result *r) {
  if (c->json) {
    print_json(r);
    return;
  }
  for (size_t i = 0; i < r->reports.count; i++) {
    fputs(r->reports.data[i].text, stderr);
    if (r->reports.data[i].repeats) fprintf(stderr, "    and %llu more at this line\n", (unsigned long long)r->reports.data[i].repeats);
  }
  ts_text t = {0};
  if (r->counters && c->counters) emu_counters_print(r->counters, &t);
  if (r->counters && c->listing) emu_counters_listing(r->counters, &t);
  fputs(ts_text_z(&t), stdout);
  ts_text_deinit(&t);
  fprintf(stderr, "%llu warp instructions, %llu thread instructions, %.3f s (%.3g a second)\n", (unsigned long long)r->warp_instructions, (unsigned long long)r->thread_instructions,
          r->seconds, r->seconds > 0 ? (double)r->thread_instructions / r->seconds : 0.0);
}

// A copy of all buffers, one behind the other.
static uint8_t *snapshot(const cli *c, emu_context *ctx) {
  size_t n = 0;
  for (unsigned i = 0; i < c->arg_count; i++) n += c->args[i].bytes;
  uint8_t *all = malloc(n + 1);
  for (unsigned i = 0, at = 0; all && i < c->arg_count; at += c->args[i].bytes, i++) emu_read(ctx, all + at, c->args[i].address, c->args[i].bytes);
  return all;
}

// Repeats the launch from the same buffers in other orders; what differs from the first run is reported.
static ts_status compare_seeds(cli *c, emu_context *ctx, const emu_entry *e, const uint8_t *before, const uint8_t *after, int *code) {
  uint64_t first_seed = c->config.schedule_seed;
  for (uint64_t k = 1; k <= c->seeds && !*code; k++) {
    size_t at = 0;
    for (unsigned i = 0; i < c->arg_count; i++) {
      emu_write(ctx, c->args[i].address, before + at, c->args[i].bytes);
      at += c->args[i].bytes;
    }
    emu_result r;
    c->config.schedule_seed = first_seed + k;
    ts_status s = emu_launch(ctx, e, &c->config, &c->diags, &r);
    if (s == TS_MISMATCH) print_result(c, &r);
    emu_result_deinit(&r);
    if (s != TS_OK && s != TS_MISMATCH) return s;
    *code = s == TS_MISMATCH;
    uint8_t *now = snapshot(c, ctx);
    if (!now) return TS_OUT_OF_MEMORY;
    at = 0;
    for (unsigned i = 0; i < c->arg_count; i++) {
      const cli_arg *a = &c->args[i];
      size_t same = 0;
      while (same < a->bytes && now[at + same] == after[at + same]) same++;
      if (same < a->bytes) {
        fprintf(stderr, "schedule-dependent: argument %u differs from byte %zu on with --schedule-seed %llu\n", i, same, (unsigned long long)c->config.schedule_seed);
        *code = 1;
      }
      at += a->bytes;
    }
    free(now);
  }
  return TS_OK;
}

static ts_status run_entry(cli *c, emu_context *ctx, emu_module *m, int *code) {
  const emu_entry *e = c->entry ? emu_module_entry(m, c->entry) : emu_module_entry_count(m) == 1 ? emu_module_entry_at(m, 0) : NULL;
  if (!e) return c->entry ? wrong(c, "the module has no entry '%s' (--list shows them)", c->entry) : wrong(c, "%s", "the module has several entries: --entry chooses one");
  emu_entry_info info;
  emu_entry_describe(e, &info);
  uint8_t *params = ts_arena_alloc(&c->arena, info.param_bytes + 8, 16);
  TS_TRY(make_params(c, ctx, &info, params));
  c->config.params = params;
  c->config.param_bytes = info.param_bytes;
  c->config.counters = c->counters || c->json || c->listing;
  emu_debug debug = {print_stop, print_stop, c};
  c->config.debug = &debug;
  if (c->config.trace || c->config.break_line) c->config.workers = 1;
  emu_result r;
  uint8_t *before = c->seeds ? snapshot(c, ctx) : NULL;
  ts_status s = emu_launch(ctx, e, &c->config, &c->diags, &r);
  if (s == TS_OK || s == TS_MISMATCH) {
    print_result(c, &r);
    *code = s == TS_MISMATCH;
    s = TS_OK;
  }
  emu_result_deinit(&r);
  if (s == TS_OK && before) {
    uint8_t *after = snapshot(c, ctx);
    s = after ? compare_seeds(c, ctx, e, before, after, code) : TS_OUT_OF_MEMORY;
    free(after);
  }
  free(before);
  for (unsigned i = 0; i < c->arg_count && s == TS_OK; i++) {
    cli_arg *a = &c->args[i];
    if (!a->save) continue;
    void *data = malloc(a->bytes + 1);
    if (!data) return TS_OUT_OF_MEMORY;
    s = emu_read(ctx, data, a->address, a->bytes);
    if (s == TS_OK) s = emu_npy_write(a->save, a->descr, a->shape, a->rank, data, a->bytes, &c->diags);
    free(data);
  }
  return s;
}

// The target of a file, so that --sm is needed only for another device.
static unsigned target_of(ts_str text) {
  const char *at = memmem(text.data, text.len, ".target", 7);
  if (!at) return 0;
  const char *sm = memmem(at, (size_t)(text.data + text.len - at), "sm_", 3);
  return sm ? (unsigned)strtoul(sm + 3, NULL, 10) : 0;
}

static ts_status run(cli *c, int *code) {
  ts_str text;
  TS_TRY(ts_file_read(&c->arena, c->file, &c->diags, &text));
  ts_diags_add_source(&c->diags, c->file, text);
  emu_context_options options = {.sm = c->sm ? c->sm : target_of(text), .workers = c->config.workers};
  if (options.sm < 75) options.sm = 75;
  emu_context *ctx;
  emu_module *m = NULL;
  TS_TRY(emu_context_create(&options, &c->diags, &ctx));
  ts_status s = emu_module_load(ctx, text, c->file, &c->diags, &m);
  if (s == TS_OK && c->list) list_entries(m);
  else if (s == TS_OK) s = run_entry(c, ctx, m, code);
  emu_module_unload(m);
  emu_context_destroy(ctx);
  return s;
}

int emu_cli_main(int argc, char **argv) {
  if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
    fputs(usage, argc < 2 ? stderr : stdout);
    return argc < 2 ? 2 : 0;
  }
  cli *c = calloc(1, sizeof *c);
  if (!c) return 2;
  ts_arena_init(&c->arena);
  ts_diags_init(&c->diags);
  for (int i = 0; i < 3; i++) c->config.grid[i] = c->config.block[i] = 1;
  int code = 0;
  ts_text t = {0};
  ts_status s = parse_options(c, argc, argv);
  if (s == TS_OK && c->support) {
    emu_support_print(&t);
    fputs(ts_text_z(&t), stdout);
    ts_text_clear(&t);
  } else if (s == TS_OK) {
    s = run(c, &code);
  }
  if (s != TS_OK) {
    ts_diags_print(&c->diags, &t, false);
    if (!t.len) ts_text_printf(&t, "tessera: %s\n", ts_status_name(s));
    fputs(ts_text_z(&t), stderr);
    code = 2;
  }
  ts_text_deinit(&t);
  ts_diags_deinit(&c->diags);
  ts_arena_deinit(&c->arena);
  free(c);
  return code;
}
