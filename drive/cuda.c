// CUDA targets of an artifact (see artifact.h): each target gets a launch program of its own, since schedules may differ in
// parameters; parts of weights that agree are stored once.
#include "base/file.h"
#include "base/pool.h"
#include "codegen/cuda/cuda.h"
#include "drive/artifact.h"
#include "drive/cache.h"
#include "drive/dump.h"
#include "passes/lower.h"
#include "passes/schedule_cuda.h"

typedef struct cuda_job {
  const ir_kernel *kernel;
  const cgc_target *target;
  const char *text;            // of the kernel: the cache's key
  bool cached;
  ts_arena arena;
  ts_diags diags;
  cgc_code code;
  ts_status status;
} cuda_job;

typedef struct cuda_compiling {
  ts_arena *a;
  const fe_model *model;
  ir_module *m;
  const drive_options *o;
  ts_diags *d;
  drive_report *report;
  const cgc_toolchain *toolchain;
  plan *plan;
  cuda_job *jobs;
  size_t job_count;
} cuda_compiling;

// What is kept of a kernel's code: texts and bytes as they are, the numbers as one record.
enum { PART_CUDA, PART_PTX, PART_ENTRY, PART_CUBIN, PART_NUMBERS, PART_COUNT };

typedef struct code_numbers {
  uint32_t threads, shared, registers, spill_bytes, stack_bytes, static_shared, ptx_isa, driver;
} code_numbers;

static bool load_code(cuda_job *j, uint64_t key) {
  ts_str p[PART_COUNT];
  code_numbers n;
  if (!drive_cache_load(&j->arena, key, PART_COUNT, p) || p[PART_NUMBERS].len != sizeof n) return false;
  memcpy(&n, p[PART_NUMBERS].data, sizeof n);
  j->code = (cgc_code){.cuda = p[PART_CUDA], .ptx = p[PART_PTX], .entry = p[PART_ENTRY].data, .cubin_bytes = p[PART_CUBIN].len,
                       .threads = n.threads, .shared = n.shared, .registers = n.registers, .spill_bytes = n.spill_bytes, .stack_bytes = n.stack_bytes,
                       .static_shared = n.static_shared, .ptx_isa = n.ptx_isa, .driver = n.driver};
  if (p[PART_CUBIN].len) j->code.cubin = (const unsigned char *)p[PART_CUBIN].data;
  return true;
}

static void store_code(const cgc_code *c, uint64_t key) {
  code_numbers n = {c->threads, c->shared, c->registers, c->spill_bytes, c->stack_bytes, c->static_shared, c->ptx_isa, c->driver};
  drive_cache_store(key, PART_COUNT, (ts_str[]){c->cuda, c->ptx, ts_str_of(c->entry), {(const char *)c->cubin, c->cubin ? c->cubin_bytes : 0},
                                                {(const char *)&n, sizeof n}});
}

static int compile_job(void *user, uint32_t block, unsigned worker) {
  (void)worker;
  cuda_compiling *c = user;
  cuda_job *j = &c->jobs[block];
  // The text is with locations: the CUDA source names them. The libraries count by path and version.
  const cgc_toolchain *tc = c->toolchain;
  ts_str version = {(const char *)&tc->version, sizeof tc->version};
  ts_str inputs[] = {ts_str_of(j->text), ts_str_of(j->target->name), version, ts_str_of(tc->nvrtc_path), ts_str_of(tc->nvjitlink_path)};
  uint64_t key = drive_cache_key(sizeof inputs / sizeof *inputs, inputs);
  j->cached = !c->o->no_cache && load_code(j, key);
  if (j->cached) return 0;
  j->status = cgc_compile(tc, j->kernel, j->target, &j->arena, &j->diags, &j->code);
  if (j->status == TS_OK && !c->o->no_cache) store_code(&j->code, key);
  return 0;
}

static ts_status compile_jobs(cuda_compiling *c, const cgc_target *target) {
  ts_pool *pool = ts_pool_create(c->o->jobs);
  if (!pool) return ts_report(c->d, (ts_loc){0}, &diag_drive_missing, "no threads could be started");
  cuda_job *all = c->jobs;
  for (size_t at = 0; at < c->job_count; at += 4) {
    uint32_t n = (uint32_t)(c->job_count - at < 4 ? c->job_count - at : 4);
    c->jobs = all + at;
    ts_pool_run(pool, compile_job, c, n);
    drive_progress(c->o, target->name, (unsigned)at + n, (unsigned)c->job_count);
  }
  c->jobs = all;
  ts_pool_destroy(pool);
  ts_status s = TS_OK;
  for (size_t i = 0; i < c->job_count; i++) {
    ts_diags_merge(c->d, &c->jobs[i].diags);
    c->report->cached += c->jobs[i].cached;
    if (s == TS_OK) s = c->jobs[i].status;
  }
  return s;
}

static void add_code(cuda_compiling *c, cg_artifact *art, uint32_t target) {
  for (size_t i = 0; i < c->job_count; i++) {
    const cuda_job *j = &c->jobs[i];
    const cgc_code *code = &j->code;
    ts_vec_push(c->a, &c->report->cuda, ((drive_cuda_kernel){j->target->name, j->kernel->name, code->registers, code->spill_bytes,
                                                            code->shared + code->static_shared, code->threads, code->cubin_bytes}));
    if (!art) continue;
    uint32_t ptx = cg_artifact_image(art, CG_IMAGE_PTX, ts_arena_strndup(c->a, code->ptx.data, code->ptx.len), code->ptx.len);
    uint32_t cubin = code->cubin ? cg_artifact_image(art, CG_IMAGE_CUBIN, ts_arena_copy(c->a, code->cubin, code->cubin_bytes, 16), code->cubin_bytes) : IR_LNONE;
    cg_artifact_code(art, target, (uint32_t)i, (cg_code){.image = cubin, .ptx = ptx, .symbol = ts_arena_strdup(c->a, code->entry), .threads = {code->threads, 1, 1}, .shared = code->shared});
  }
}

static ts_status dump_code(cuda_compiling *c, drive_dump *dump) {
  for (size_t i = 0; i < c->job_count && dump->dir; i++) {
    const cuda_job *j = &c->jobs[i];
    TS_TRY(drive_dump_text(dump, j->kernel->name, "cu", j->code.cuda));
    TS_TRY(drive_dump_text(dump, j->kernel->name, ts_arena_printf(c->a, "%s.ptx", j->target->name), j->code.ptx));
  }
  return TS_OK;
}

static ts_status add_target(cuda_compiling *c, const cgc_target *t, bool describe, cg_artifact *art, ts_map *seen, drive_dump *dump) {
  pass_cuda_target target = {ir_name(c->m, "%s", t->name), t->number, t->shared, t->cp_async, t->mma16, t->bf16};
  size_t n = c->plan->kernels.count;
  pass_schedules *schedules = ts_new_array(c->a, pass_schedules, n);
  pass_log log = {.arena = c->a};
  for (size_t i = 0; i < n; i++) {
    TS_TRY(pass_schedule_cuda(c->m, c->plan->kernels.data[i], &target, &log, &schedules[i]));
    for (size_t v = 0; v < schedules[i].variants.count; v++) TS_TRY(ir_verify_kernel(c->m, schedules[i].variants.data[v].kernel));
  }
  pass_program *program = ts_new(c->a, pass_program);
  TS_TRY(pass_launch(c->plan, schedules, "cuda", program));
  c->job_count = program->kernels.count;
  c->jobs = ts_new_array(c->a, cuda_job, c->job_count);
  for (size_t i = 0; i < c->job_count; i++) {
    c->jobs[i].kernel = program->kernels.data[i].kernel;
    c->jobs[i].target = t;
    ts_arena_init(&c->jobs[i].arena);
    ts_diags_init(&c->jobs[i].diags);
    ts_text text = {0};
    ir_print_kernel(c->m, c->jobs[i].kernel, true, &text);
    c->jobs[i].text = ts_arena_strdup(c->a, ts_text_z(&text));
    ts_text_deinit(&text);
  }
  ts_status s = compile_jobs(c, t);
  if (s == TS_OK) s = drive_dump_scheduled(dump, ts_arena_printf(c->a, "schedule-%s", t->name), program);
  if (s == TS_OK) s = dump_code(c, dump);
  if (s == TS_OK) {
    uint32_t number = 0;
    if (art) number = cg_artifact_target(art, (cg_target){t->name, cg_artifact_program(art, program->program), c->toolchain->version});
    add_code(c, art, number);
    if (art) drive_add_weights(c->a, art, program, seen);
    if (art && describe) drive_describe(c->a, art, c->model, c->plan, program);
  }
  c->report->kernels += (unsigned)c->job_count;
  c->report->objects += (unsigned)c->job_count;
  for (size_t i = 0; i < c->job_count; i++) {
    ts_arena_deinit(&c->jobs[i].arena);
    ts_diags_deinit(&c->jobs[i].diags);
  }
  for (size_t i = 0; i < log.notes.count; i++)
    ts_vec_push(c->a, &c->report->notes, ((drive_note){log.notes.data[i].pass, log.notes.data[i].rule, log.notes.data[i].loc, log.notes.data[i].text}));
  return s;
}

ts_status drive_add_cuda(ts_arena *a, fe_model *model, const char *const *targets, size_t count, bool describe, const drive_options *o, ts_diags *d, cg_artifact *art,
                         ts_map *seen, drive_report *report) {
  cgc_toolchain toolchain;
  cgc_toolchain_open(a, NULL, &toolchain);
  cuda_compiling c = {.a = a, .model = model, .m = model->module, .o = o, .d = d, .report = report, .toolchain = &toolchain};
  ts_status s = TS_OK;
  if (!toolchain.version) s = ts_report(d, (ts_loc){0}, &diag_drive_missing, "%s", toolchain.missing);
  drive_dump dump = {.dir = o->dump_dir ? ts_path_join(a, o->dump_dir, "cuda") : NULL, .diags = d, .module = c.m};
  if (s == TS_OK) s = drive_dump_functions(&dump, "import");
  pass_log quiet = {.arena = a};
  if (s == TS_OK) s = pass_lower(c.m, &(pass_lower_options){.fuse = !o->no_fusion}, &quiet, &c.plan);
  if (s == TS_OK) s = drive_dump_plan(&dump, "fuse", c.plan);
  for (size_t i = 0; i < count && s == TS_OK; i++) {
    const cgc_target *t = cgc_target_of_name(ts_str_of(targets[i]));
    if (t) s = add_target(&c, t, describe && i == 0, art, seen, &dump);
    else s = ts_report(d, (ts_loc){0}, &diag_drive_target, "there is no CUDA target '%s'", targets[i]);
  }
  cgc_toolchain_close(&toolchain);
  return s;
}
