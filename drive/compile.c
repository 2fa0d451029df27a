// Compiling to an artifact (see compile.h).
#include "drive/compile.h"

#include "base/file.h"
#include "base/pool.h"
#include "codegen/host/host.h"
#include "drive/artifact.h"
#include "drive/cache.h"
#include "drive/dump.h"
#include "passes/launch.h"
#include "passes/lower.h"

#define TS_DIAG TS_DIAG_DEFINE
#include "drive/diag.def"
#undef TS_DIAG

enum { MAX_LEVELS = 8 };

// One kernel for one host level.
typedef struct host_job {
  const ir_kernel *kernel;
  const cgh_isa *isa;
  const char *text;            // canonical text of the kernel: the cache's key
  ts_arena arena;
  ts_diags diags;
  cgh_code code;
  ts_status status;
  bool cached;
} host_job;

typedef struct compiling {
  ts_arena *a;
  fe_model *model;
  ir_module *m;
  const drive_options *o;
  ts_diags *d;
  drive_report *report;
  pass_log log;
  plan *plan;
  const cgh_isa *levels[MAX_LEVELS];
  unsigned level_count;
  host_job *jobs;
  size_t job_count;
  bool texts;
  const char **cuda;                // names of the CUDA targets
  size_t cuda_count;
} compiling;

void drive_progress(const drive_options *o, const char *what, unsigned done, unsigned total) {
  if (o->progress) o->progress(o->user, what, done, total);
}

// ---- targets -------------------------------------------------------------------------------------------------------------
static ts_status add_level(compiling *c, const char *name) {
  const cgh_isa *isa = cgh_isa_of_name(ts_str_of(name));
  if (!isa) return ts_report(c->d, (ts_loc){0}, &diag_drive_target, "there is no host level '%s'", name);
  for (unsigned i = 0; i < c->level_count; i++)
    if (c->levels[i] == isa) return TS_OK;
  c->levels[c->level_count++] = isa;
  return TS_OK;
}

static ts_status choose_targets(compiling *c) {
  c->cuda = ts_new_array(c->a, const char *, c->o->target_count);
  for (size_t i = 0; i < c->o->target_count; i++) {
    const char *t = c->o->targets[i];
    if (strcmp(t, "host") == 0) {
      for (unsigned l = 0; drive_host_levels[l]; l++) TS_TRY(add_level(c, drive_host_levels[l]));
    } else if (strncmp(t, "host:", 5) == 0) {
      TS_TRY(add_level(c, t + 5));
    } else if (strncmp(t, "sm_", 3) == 0) {
      c->cuda[c->cuda_count++] = t;
    } else {
      return ts_report(c->d, (ts_loc){0}, &diag_drive_target, "target '%s' is not known; known are host, host:avx2, host:avx512, host:avx512_vnni and sm_75 to sm_120", t);
    }
  }
  if (!c->level_count && !c->cuda_count) return ts_report(c->d, (ts_loc){0}, &diag_drive_target, "no target was asked for");
  return TS_OK;
}

// ---- host code -----------------------------------------------------------------------------------------------------------
static int compile_job(void *user, uint32_t block, unsigned worker) {
  (void)worker;
  compiling *c = user;
  host_job *j = &c->jobs[block];
  uint64_t key = drive_cache_key(2, (ts_str[]){ts_str_of(j->text), ts_str_of(j->isa->name)});
  ts_str parts[2];   // object, scratch
  if (!c->o->no_cache && !c->texts && drive_cache_load(&j->arena, key, 2, parts) && parts[1].len == sizeof j->code.scratch) {
    j->cached = true;
    j->code = (cgh_code){.object = (const unsigned char *)parts[0].data, .object_bytes = parts[0].len};
    memcpy(&j->code.scratch, parts[1].data, sizeof j->code.scratch);
    return 0;
  }
  cgh_options o = {.llvm_text = c->texts, .assembly = c->texts};
  j->status = cgh_compile(j->kernel, j->isa, &o, &j->arena, &j->diags, &j->code);
  parts[0] = (ts_str){(const char *)j->code.object, j->code.object_bytes};
  parts[1] = (ts_str){(const char *)&j->code.scratch, sizeof j->code.scratch};
  if (j->status == TS_OK && !c->o->no_cache) drive_cache_store(key, 2, parts);
  return 0;
}

static ts_status compile_jobs(compiling *c) {
  ts_pool *pool = ts_pool_create(c->o->jobs);
  if (!pool) return ts_report(c->d, (ts_loc){0}, &diag_drive_missing, "no threads could be started");
  // One loop per handful of jobs, so that progress shows.
  uint32_t step = 8;
  for (uint32_t at = 0; at < c->job_count; at += step) {
    host_job *all = c->jobs;
    uint32_t n = (uint32_t)(c->job_count - at) < step ? (uint32_t)(c->job_count - at) : step;
    c->jobs = all + at;
    ts_pool_run(pool, compile_job, c, n);
    c->jobs = all;
    drive_progress(c->o, "kernels", at + n, (unsigned)c->job_count);
  }
  ts_pool_destroy(pool);
  ts_status s = TS_OK;
  for (size_t i = 0; i < c->job_count; i++) {
    ts_diags_merge(c->d, &c->jobs[i].diags);
    if (s == TS_OK) s = c->jobs[i].status;
    c->report->cached += c->jobs[i].cached;
  }
  return s;
}

static pass_host_target host_target(compiling *c, const cgh_isa *isa) {
  return (pass_host_target){ir_name(c->m, "host.%s", isa->name), isa->vector_registers};
}

// Schedules every P kernel for every level: schedules[level * kernels + i].
static ts_status schedule_host(compiling *c, pass_schedules *schedules) {
  size_t n = c->plan->kernels.count;
  for (unsigned l = 0; l < c->level_count; l++) {
    pass_host_target t = host_target(c, c->levels[l]);
    pass_log quiet = {.arena = c->a};
    for (size_t i = 0; i < n; i++) {
      TS_TRY(pass_schedule_host(c->m, c->plan->kernels.data[i], &t, l + 1 == c->level_count ? &c->log : &quiet, &schedules[l * n + i]));
      for (size_t v = 0; v < schedules[l * n + i].variants.count; v++) TS_TRY(ir_verify_kernel(c->m, schedules[l * n + i].variants.data[v].kernel));
    }
  }
  return TS_OK;
}

static void prepare_jobs(compiling *c, const pass_schedules *schedules, const pass_program *program) {
  size_t n = program->kernels.count;
  c->job_count = n * c->level_count;
  c->jobs = ts_new_array(c->a, host_job, c->job_count);
  for (unsigned l = 0; l < c->level_count; l++)
    for (size_t i = 0; i < n; i++) {
      const pass_launch_kernel *k = &program->kernels.data[i];
      size_t number = 0;
      while (c->plan->kernels.data[number] != k->portable) number++;
      host_job *j = &c->jobs[l * n + i];
      j->kernel = schedules[l * c->plan->kernels.count + number].variants.data[k->variant].kernel;
      j->isa = c->levels[l];
      ts_arena_init(&j->arena);
      ts_diags_init(&j->diags);
      ts_text t = {0};
      ir_print_kernel(c->m, j->kernel, false, &t);
      j->text = ts_arena_strdup(c->a, ts_text_z(&t));
      ts_text_deinit(&t);
    }
}

// A raise code must be the same in every level's kernel: launch numbered the first level's, the others follow.
static void copy_raises(const ir_region *from, ir_region *to, ir_module *m) {
  ir_op *b = to->first;
  for (const ir_op *a = from->first; a && b; a = a->next, b = b->next) {
    while (b && b->code != a->code) b = b->next;
    if (!b) return;
    if (a->code == IR_OP_raise) {
      ir_builder build = {.module = m};
      ir_set_int(&build, b, "code", ir_attr_int(a, "code", 1));
    }
    for (uint32_t i = 0; i < a->region_count && i < b->region_count; i++) copy_raises(a->regions[i], b->regions[i], m);
  }
}

static void align_raises(compiling *c, pass_schedules *schedules) {
  size_t n = c->plan->kernels.count;
  for (unsigned l = 1; l < c->level_count; l++)
    for (size_t i = 0; i < n; i++)
      for (size_t v = 0; v < schedules[i].variants.count; v++)
        copy_raises(schedules[i].variants.data[v].kernel->body, schedules[l * n + i].variants.data[v].kernel->body, c->m);
}

static ts_status add_host_code(compiling *c, cg_artifact *art, uint32_t program_number, const pass_program *program) {
  size_t n = program->kernels.count;
  for (unsigned l = 0; l < c->level_count; l++) {
    cgh_object *objects = ts_new_array(c->a, cgh_object, n);
    for (size_t i = 0; i < n; i++) objects[i] = (cgh_object){c->jobs[l * n + i].code.object, c->jobs[l * n + i].code.object_bytes};
    const unsigned char *image;
    size_t bytes;
    TS_TRY(cgh_link(objects, (uint32_t)n, c->a, c->d, &image, &bytes));
    uint32_t target = cg_artifact_target(art, (cg_target){.name = ts_arena_printf(c->a, "host:%s", c->levels[l]->name), .program = program_number});
    uint32_t number = cg_artifact_image(art, CG_IMAGE_HOST, image, bytes);
    for (size_t i = 0; i < n; i++)
      cg_artifact_code(art, target, (uint32_t)i, (cg_code){.image = number, .ptx = IR_LNONE, .entry = (uint32_t)i, .scratch = (uint32_t)c->jobs[l * n + i].code.scratch});
  }
  return TS_OK;
}

// ---- the whole -----------------------------------------------------------------------------------------------------------
static unsigned launches_of(const plan *p) { return p->functions.count ? (unsigned)p->functions.data[0]->calls.count : 0; }

static ts_status write_artifact(compiling *c, cg_artifact *art) {
  const fe_model *model = c->model ? c->model : c->o->cuda_model;
  for (size_t i = 0; i < model->metadata.count; i++) cg_artifact_meta(art, model->metadata.data[i].key, model->metadata.data[i].value);
  if (model->tokenizer.len) cg_artifact_blob(art, "tokenizer", model->tokenizer.data, model->tokenizer.len);
  drive_progress(c->o, "weights", 0, 1);
  cg_artifact_report written;
  TS_TRY(cg_artifact_write(art, c->o->output, &(cg_artifact_options){c->o->external_weights}, c->d, &written));
  drive_progress(c->o, "weights", 1, 1);
  c->report->bytes = written.bytes, c->report->weight_bytes = written.weight_bytes, c->report->code_bytes = written.code_bytes;
  c->report->changed = written.changed;
  return TS_OK;
}

// The host's program into the artifact.
static ts_status add_host(compiling *c, cg_artifact *art, ts_map *seen, const pass_program *program) {
  uint32_t number = cg_artifact_program(art, program->program);
  TS_TRY(add_host_code(c, art, number, program));
  drive_add_weights(c->a, art, program, seen);
  drive_describe(c->a, art, c->model, c->plan, program);
  return TS_OK;
}

static ts_status run_host(compiling *c, cg_artifact *art, ts_map *seen) {
  drive_dump dump = {.dir = c->o->dump_dir, .diags = c->d, .module = c->m};
  TS_TRY(drive_dump_functions(&dump, "import"));
  TS_TRY(pass_lower(c->m, &(pass_lower_options){.fuse = !c->o->no_fusion}, &c->log, &c->plan));
  for (size_t i = 0; i < c->plan->kernels.count; i++) TS_TRY(ir_verify_kernel(c->m, c->plan->kernels.data[i]));
  TS_TRY(drive_dump_plan(&dump, "fuse", c->plan));
  c->report->portable_kernels = (unsigned)c->plan->kernels.count;
  c->report->launches = launches_of(c->plan);
  pass_schedules *schedules = ts_new_array(c->a, pass_schedules, c->plan->kernels.count * c->level_count);
  TS_TRY(schedule_host(c, schedules));
  pass_program program;
  TS_TRY(pass_launch(c->plan, schedules, "host", &program));
  align_raises(c, schedules);
  TS_TRY(drive_dump_scheduled(&dump, "schedule", &program));
  TS_TRY(drive_dump_launch(&dump, "launch", &program));
  prepare_jobs(c, schedules, &program);
  c->report->kernels = (unsigned)program.kernels.count;
  c->report->objects = (unsigned)c->job_count;
  c->texts = c->o->dump_dir != NULL;
  ts_status s = compile_jobs(c);
  for (size_t i = 0; s == TS_OK && c->o->dump_dir && i < c->job_count; i++)
    s = drive_dump_code(&dump, c->jobs[i].kernel->name, c->jobs[i].isa->name, c->jobs[i].code.llvm, c->jobs[i].code.assembly);
  if (s == TS_OK && art) s = add_host(c, art, seen, &program);
  for (size_t i = 0; i < c->job_count; i++) {
    ts_arena_deinit(&c->jobs[i].arena);
    ts_diags_deinit(&c->jobs[i].diags);
  }
  return s;
}

ts_status drive_compile(ts_arena *a, fe_model *model, const drive_options *o, ts_diags *d, drive_report *out) {
  *out = (drive_report){0};
  compiling c = {.a = a, .model = model, .m = model ? model->module : NULL, .o = o, .d = d, .report = out, .log = {.arena = a}};
  ts_status s = choose_targets(&c);
  cg_artifact *art = o->output ? cg_artifact_new(a) : NULL;
  ts_map seen = {0};
  if (s == TS_OK && c.level_count) s = run_host(&c, art, &seen);
  if (s == TS_OK && c.cuda_count && !o->cuda_model) s = ts_report(d, (ts_loc){0}, &diag_drive_target, "%s: the model was not loaded for CUDA", c.cuda[0]);
  if (s == TS_OK && c.cuda_count) s = drive_add_cuda(a, o->cuda_model, c.cuda, c.cuda_count, c.level_count == 0, o, d, art, &seen, out);
  if (s == TS_OK && art) s = write_artifact(&c, art);
  ts_map_deinit(&seen);
  for (size_t i = 0; i < c.log.notes.count; i++) {
    const pass_note *n = &c.log.notes.data[i];
    ts_vec_push(a, &out->notes, ((drive_note){n->pass, n->rule, n->loc, n->text}));
  }
  return s;
}
