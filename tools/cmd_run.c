// tessera run: one call of a function, inputs and outputs in files.
#include "frontend/npy.h"
#include "runtime/tessera.h"
#include "tools/cli.h"

#include <math.h>
#include <stdlib.h>


enum { MAX_VALUES = 64, MAX_DIMS = 64 };

typedef struct dim_value {
  const char *name;
  int64_t value;
} dim_value;

typedef struct running {
  cli *c;
  tsr_artifact *artifact;
  tsr_device *device;
  tsr_session *session;
  tsr_function_info f;
  dim_value dims[MAX_DIMS];
  unsigned dim_count;
  tsr_buffer *buffers[2][MAX_VALUES];
} running;

static ts_status failed(running *r, const tsr_error *e) {
  bool absent = e->code == TSR_UNSUPPORTED || e->code == TSR_NO_DEVICE;
  return ts_report(&r->c->diags, (ts_loc){0}, absent ? &diag_tool_device : &diag_tool_run, "%s", e->text[0] ? e->text : tsr_status_name(e->code));
}

// "NAME=rest" of a repeatable option for value `name`; NULL when it was not given.
static const char *named(cli *c, const char *option, const char *name) {
  size_t count, n = strlen(name);
  const char *const *all = cli_values(c, option, &count);
  for (size_t i = 0; i < count; i++)
    if (strncmp(all[i], name, n) == 0 && all[i][n] == '=') return all[i] + n + 1;
  return NULL;
}

static ts_status set_dim(running *r, const char *name, int64_t v, const char *from) {
  for (unsigned i = 0; i < r->dim_count; i++) {
    if (strcmp(r->dims[i].name, name) != 0) continue;
    if (r->dims[i].value == v) return TS_OK;
    return ts_report(&r->c->diags, (ts_loc){0}, &diag_tool_run, "dim %s is %lld elsewhere, %s makes it %lld", name, (long long)r->dims[i].value, from, (long long)v);
  }
  if (r->dim_count < MAX_DIMS) r->dims[r->dim_count++] = (dim_value){name, v};
  return TS_OK;
}

static bool get_dim(const running *r, const char *name, int64_t *v) {
  for (unsigned i = 0; i < r->dim_count; i++)
    if (strcmp(r->dims[i].name, name) == 0) return *v = r->dims[i].value, true;
  return false;
}

static ts_status given_dims(running *r) {
  size_t count;
  const char *const *all = cli_values(r->c, "dim", &count);
  for (size_t i = 0; i < count; i++) {
    const char *equals = strchr(all[i], '=');
    char *end;
    long long v = equals ? strtoll(equals + 1, &end, 10) : 0;
    if (!equals || equals == all[i] || end == equals + 1 || *end) return ts_report(&r->c->diags, (ts_loc){0}, &diag_usage, "--dim wants NAME=N, not '%s'", all[i]);
    TS_TRY(set_dim(r, ts_arena_strndup(&r->c->arena, all[i], (size_t)(equals - all[i])), v, "--dim"));
  }
  return TS_OK;
}

static ts_status open_all(running *r) {
  cli *c = r->c;
  const char *path = cli_need_positional(c, "an artifact");
  double threads;
  if (!path || !cli_number(c, "threads", 0, 1, 1024, &threads)) return TS_INVALID;
  tsr_error e = {TSR_OK, ""};
  if ((e.code = tsr_artifact_open(path, NULL, &e, &r->artifact)) != TSR_OK) return failed(r, &e);
  const char *name = cli_value(c, "function", NULL);
  size_t n = tsr_artifact_count(r->artifact, TSR_FUNCTIONS), i = 0;
  if (!name && n != 1) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "%s has %zu functions: name one with --function", path, n);
  for (; i < n; i++)
    if (tsr_artifact_function(r->artifact, i, &r->f) == TSR_OK && (!name || strcmp(r->f.name, name) == 0)) break;
  if (i == n) return ts_report(&c->diags, (ts_loc){0}, &diag_usage, "%s has no function %s", path, name);
  if (r->f.inputs > MAX_VALUES || r->f.outputs > MAX_VALUES) return ts_report(&c->diags, (ts_loc){0}, &diag_tool_run, "%s has too many values", r->f.name);
  tsr_device_options o = {.size = sizeof o, .threads = (uint32_t)threads};
  if ((e.code = tsr_device_open(cli_value(c, "device", "host"), &o, &e, &r->device)) != TSR_OK) return failed(r, &e);
  return TS_OK;
}

// Extents of a value from the dims known so far.
static ts_status value_type(running *r, const tsr_value_info *v, tsr_type *t) {
  *t = (tsr_type){.dtype = v->dtype, .rank = v->rank};
  for (uint32_t k = 0; k < v->rank; k++) {
    t->shape[k] = v->shape[k];
    if (v->shape[k] != TSR_ANY) continue;
    if (!v->dims[k]) return ts_report(&r->c->diags, (ts_loc){0}, &diag_usage, "the size of dimension %u of %s follows from the call: give it with a file", k, v->name);
    if (!get_dim(r, v->dims[k], &t->shape[k])) return ts_report(&r->c->diags, (ts_loc){0}, &diag_usage, "give dim %s with --dim %s=N", v->dims[k], v->dims[k]);
  }
  return TS_OK;
}

static uint64_t next_random(uint64_t *s) {
  uint64_t z = *s += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static ts_status random_input(running *r, const tsr_value_info *v, const char *seed, tsr_buffer **out) {
  tsr_type t;
  TS_TRY(value_type(r, v, &t));
  tsr_error e = {TSR_OK, ""};
  if ((e.code = tsr_buffer_create(r->device, &t, &e, out)) != TSR_OK) return failed(r, &e);
  uint64_t state = strtoull(seed, NULL, 0);
  size_t bytes = tsr_buffer_bytes(*out), width = tsr_dtype_bits(v->dtype) / 8;
  if (!width) return ts_report(&r->c->diags, (ts_loc){0}, &diag_tool_run, "random values of type %s are not made", tsr_dtype_name(v->dtype));
  unsigned char *data = ts_arena_alloc(&r->c->arena, bytes, 16);
  ir_dtype type = ir_dtype_of_code(v->dtype);
  for (size_t i = 0; i * width < bytes; i++) {
    uint64_t bits = next_random(&state);
    if (ir_is_float(type)) bits = ir_bits_of_float(type, (double)(bits >> 11) * 0x1p-52 - 1.0);
    else bits %= 64;
    memcpy(data + i * width, &bits, width);
  }
  e.code = tsr_buffer_write(*out, 0, data, bytes);
  return e.code == TSR_OK ? TS_OK : failed(r, &e);
}

static ts_status file_input(running *r, const tsr_value_info *v, const char *path, tsr_buffer **out) {
  fe_npy n;
  TS_TRY(fe_npy_open(&r->c->arena, path, &r->c->diags, &n));
  ts_status s = TS_OK;
  tsr_type t = {.dtype = v->dtype, .rank = n.rank};
  if (ir_dtype_get(n.type)->code != v->dtype)
    s = ts_report(&r->c->diags, (ts_loc){.file = n.path}, &diag_tool_run, "holds %s, %s wants %s", ir_dtype_name(n.type), v->name, tsr_dtype_name(v->dtype));
  if (s == TS_OK && n.rank != v->rank) s = ts_report(&r->c->diags, (ts_loc){.file = n.path}, &diag_tool_run, "has %u dimensions, %s has %u", n.rank, v->name, v->rank);
  for (uint32_t k = 0; k < v->rank && s == TS_OK; k++) {
    t.shape[k] = n.shape[k];
    if (v->shape[k] != TSR_ANY && v->shape[k] != n.shape[k])
      s = ts_report(&r->c->diags, (ts_loc){.file = n.path}, &diag_tool_run, "dimension %u is %lld, %s wants %lld", k, (long long)n.shape[k], v->name, (long long)v->shape[k]);
    else if (v->dims[k]) s = set_dim(r, v->dims[k], n.shape[k], path);
  }
  tsr_error e = {TSR_OK, ""};
  if (s == TS_OK && (e.code = tsr_buffer_create(r->device, &t, &e, out)) != TSR_OK) s = failed(r, &e);
  if (s == TS_OK && (e.code = tsr_buffer_write(*out, 0, n.data, n.bytes)) != TSR_OK) s = failed(r, &e);
  fe_npy_close(&n);
  return s;
}

static ts_status bind_inputs(running *r) {
  for (int pass = 0; pass < 2; pass++)   // files first: their shapes fix dims that random inputs need
    for (uint32_t i = 0; i < r->f.inputs; i++) {
      tsr_value_info v;
      tsr_artifact_value(r->artifact, r->f.name, TSR_INPUT, i, &v);
      const char *from = named(r->c, "input", v.name);
      if (!from) return ts_report(&r->c->diags, (ts_loc){0}, &diag_usage, "input %s is missing: --input %s=FILE.npy or %s=random:SEED", v.name, v.name, v.name);
      bool random = strncmp(from, "random:", 7) == 0;
      if (random != (pass == 1)) continue;
      TS_TRY(random ? random_input(r, &v, from + 7, &r->buffers[0][i]) : file_input(r, &v, from, &r->buffers[0][i]));
    }
  return TS_OK;
}

static ts_status run_session(running *r, double *seconds) {
  tsr_error e = {TSR_OK, ""};
  tsr_limit limits[MAX_DIMS];
  for (unsigned i = 0; i < r->dim_count; i++) limits[i] = (tsr_limit){r->dims[i].name, r->dims[i].value};
  const char *functions[1] = {r->f.name};
  tsr_session_options o = {.size = sizeof o, .limit_count = r->dim_count, .limits = limits, .function_count = 1, .functions = functions};
  if ((e.code = tsr_session_create(r->artifact, r->device, &o, &e, &r->session)) != TSR_OK) return failed(r, &e);
  for (uint32_t i = 0; i < r->f.outputs; i++) {
    tsr_value_info v;
    tsr_type t;
    tsr_artifact_value(r->artifact, r->f.name, TSR_OUTPUT, i, &v);
    TS_TRY(value_type(r, &v, &t));
    if ((e.code = tsr_buffer_create(r->device, &t, &e, &r->buffers[1][i])) != TSR_OK) return failed(r, &e);
    if ((e.code = tsr_session_bind(r->session, r->f.name, v.name, r->buffers[1][i])) != TSR_OK) return failed(r, &e);
  }
  for (uint32_t i = 0; i < r->f.inputs; i++) {
    tsr_value_info v;
    tsr_artifact_value(r->artifact, r->f.name, TSR_INPUT, i, &v);
    if ((e.code = tsr_session_bind(r->session, r->f.name, v.name, r->buffers[0][i])) != TSR_OK) return failed(r, &e);
  }
  // Rows: every row of the first dimension is a new sequence of the full length.
  tsr_row rows[256] = {{0}};
  size_t row_count = 0;
  if (r->f.rows) {
    int64_t batch = 1;
    for (size_t i = 0; i < tsr_artifact_count(r->artifact, TSR_DIMS); i++) {
      tsr_dim_info d;
      if (tsr_artifact_dim(r->artifact, i, &d) == TSR_OK && d.per) get_dim(r, d.per, &batch);
    }
    if (batch > 256) return ts_report(&r->c->diags, (ts_loc){0}, &diag_tool_run, "run takes at most 256 rows");
    row_count = (size_t)batch;
    for (size_t k = 0; k < row_count; k++) {
      if (r->f.states && (e.code = tsr_sequence_create(r->session, &rows[k].sequence)) != TSR_OK) return failed(r, &e);
      for (size_t i = 0; i < tsr_artifact_count(r->artifact, TSR_DIMS); i++) {
        tsr_dim_info d;
        int64_t length = 1;
        if (tsr_artifact_dim(r->artifact, i, &d) != TSR_OK || !d.ragged) continue;
        get_dim(r, d.name, &length);
        rows[k].lengths[d.ragged - 1] = (uint32_t)length;
      }
    }
  }
  double start = cli_seconds();
  if ((e.code = tsr_session_run(r->session, r->f.name, rows, row_count, NULL, &e)) != TSR_OK) return failed(r, &e);
  *seconds = cli_seconds() - start;
  return TS_OK;
}

static ts_status write_outputs(running *r) {
  size_t given;
  cli_values(r->c, "output", &given);
  for (uint32_t i = 0; i < r->f.outputs; i++) {
    tsr_value_info v;
    tsr_type t;
    tsr_artifact_value(r->artifact, r->f.name, TSR_OUTPUT, i, &v);
    tsr_buffer_type(r->buffers[1][i], &t);
    size_t bytes = tsr_buffer_bytes(r->buffers[1][i]);
    unsigned char *data = ts_arena_alloc(&r->c->arena, bytes, 16);
    tsr_error e = {TSR_OK, ""};
    if ((e.code = tsr_buffer_read(r->buffers[1][i], 0, data, bytes)) != TSR_OK) return failed(r, &e);
    const char *path = named(r->c, "output", v.name);
    ir_dtype type = ir_dtype_of_code(t.dtype);
    if (path) TS_TRY(fe_npy_write(path, type, t.rank, t.shape, data, &r->c->diags));
    if (given) continue;
    size_t width = ir_dtype_bits(type) / 8, count = width ? bytes / width : 0;
    double sum = 0, square = 0;
    for (size_t k = 0; k < count; k++) {
      uint64_t bits = 0;
      memcpy(&bits, data + k * width, width);
      double x = ir_is_float(type) ? ir_float_of_bits(type, bits) : (double)ir_int_of_bits(type, bits);
      sum += x, square += x * x;
    }
    printf("%s: %s, %zu elements, mean %.6g, root mean square %.6g\n", v.name, ir_dtype_name(type), count, count ? sum / (double)count : 0.0,
           count ? sqrt(square / (double)count) : 0.0);
  }
  return TS_OK;
}

static ts_status run(running *r) {
  TS_TRY(open_all(r));
  TS_TRY(given_dims(r));
  TS_TRY(bind_inputs(r));
  double seconds = 0;
  TS_TRY(run_session(r, &seconds));
  if (cli_has(r->c, "stats")) {
    tsr_memory m;
    tsr_session_memory(r->session, &m);
    fprintf(stderr, "%s: %.3f ms on %s; weights %.1f MB, states %.1f MB, workspace %.1f MB\n", r->f.name, seconds * 1e3, tsr_device_name(r->device),
            (double)m.weights / 1e6, (double)m.states / 1e6, (double)m.workspace / 1e6);
  }
  return write_outputs(r);
}

int cmd_run(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "run", argc, argv);
  if (code >= 0) return code;
  running r = {.c = &c};
  ts_status s = run(&r);
  tsr_session_destroy(r.session);
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < MAX_VALUES; i++) tsr_buffer_release(r.buffers[k][i]);
  tsr_device_release(r.device);
  tsr_artifact_release(r.artifact);
  return cli_end(&c, s);
}
