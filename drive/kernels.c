// Edited kernels to an artifact (see kernels.h): a plan of one call per kernel takes the road that models take.
#include "drive/kernels.h"

#include "codegen/artifact.h"
#include "codegen/host/host.h"
#include "drive/artifact.h"
#include "drive/dump.h"
#include "drive/trial.h"
#include "passes/launch.h"

enum { MAX_LEVELS = 8 };

typedef struct compiling {
  ts_arena *a;
  ir_module *m;
  const drive_kernels_options *o;
  ts_diags *d;
  drive_report *report;
  pass_log log;
  plan *plan;
  const cgh_isa *levels[MAX_LEVELS];
  unsigned level_count;
  pass_schedules *schedules[MAX_LEVELS];   // by level, then kernel
} compiling;

static ts_status choose_levels(compiling *c) {
  for (size_t i = 0; i < c->o->level_count; i++) {
    const cgh_isa *isa = cgh_isa_of_name(ts_str_of(c->o->levels[i]));
    if (!isa || c->level_count == MAX_LEVELS)
      return ts_report(c->d, (ts_loc){0}, &diag_drive_target, "there is no host level '%s'; kernel texts are compiled for the host", c->o->levels[i]);
    c->levels[c->level_count++] = isa;
  }
  for (unsigned i = 0; !c->o->level_count && drive_host_levels[i]; i++) c->levels[c->level_count++] = cgh_isa_of_name(ts_str_of(drive_host_levels[i]));
  return TS_OK;
}

// ---- the plan ------------------------------------------------------------------------------------------------------------
// A call symbol becomes a dim of the program, once for all kernels.
static ts_status add_dim(compiling *c, const ir_kernel *k, const ir_size *symbol) {
  for (size_t i = 0; i < c->m->dims.count; i++) {
    const ir_size *known = c->m->dims.data[i].size;
    if (known == symbol) return TS_OK;
    if (known->name == symbol->name)
      return ts_report(c->d, k->loc, &diag_drive_kernel_file, "rule dim-of-two-ranges: size %s of kernel '%s' has other bounds in another kernel of the file",
                       symbol->name, k->name);
  }
  ts_vec_push(c->a, &c->m->dims, ((ir_dim){.size = symbol, .loc = k->loc}));
  return TS_OK;
}

static ts_status add_function(compiling *c, const ir_kernel *k) {
  ir_function *f = ts_new(c->a, ir_function);
  *f = (ir_function){.name = k->name, .loc = k->loc};
  plan_function *pf = ts_new(c->a, plan_function);
  *pf = (plan_function){.function = f};
  uint32_t count, *args = ts_new_array(c->a, uint32_t, k->params.count);
  const ir_size **dims = ir_kernel_symbols(k, c->a, &count);
  plan_bind *binds = ts_new_array(c->a, plan_bind, count);
  for (uint32_t i = 0; i < count; i++) {
    binds[i] = (plan_bind){dims[i], dims[i]};
    TS_TRY(add_dim(c, k, dims[i]));
  }
  for (size_t i = 0; i < k->params.count; i++) {
    const ir_param *p = &k->params.data[i];
    const ir_type *t = p->value->type;
    if (t->strides) return ts_report(c->d, k->loc, &diag_drive_kernel_file, "rule strided-parameter: '%s' of kernel '%s' has strides", p->value->name, k->name);
    ts_vec_push(c->a, &pf->buffers, ((plan_buffer){.kind = p->role == IR_PARAM_IN ? PLAN_INPUT : PLAN_OUTPUT, .name = p->value->name, .dtype = t->dtype,
                                                   .rank = t->rank, .shape = t->shape, .encoding = t->encoding}));
    args[i] = (uint32_t)i;
  }
  ts_vec_push(c->a, &pf->calls, ((plan_call){k, (uint32_t)k->params.count, args, count, binds, k->loc}));
  ts_vec_push(c->a, &c->plan->functions, pf);
  ts_vec_push(c->a, &c->plan->kernels, k);
  return TS_OK;
}

// ---- schedules -----------------------------------------------------------------------------------------------------------
static ts_status take_scheduled(compiling *c, const ir_kernel *k, pass_schedules *out) {
  if (k->target_class != IR_CLASS_HOST)
    return ts_report(c->d, k->loc, &diag_drive_kernel_file, "rule class-without-driver: kernel '%s' is scheduled for %s; texts are compiled for the host", k->name,
                     k->target ? k->target : "no target");
  pass_source *sources = ts_new_array(c->a, pass_source, k->params.count);
  for (size_t i = 0; i < k->params.count; i++) sources[i] = (pass_source){.param = (uint32_t)i};
  ts_vec_push(c->a, &out->variants, ((pass_scheduled){(ir_kernel *)k, sources, NULL, "text"}));
  return TS_OK;
}

// Parameters that a schedule packs become weights.
static ts_status bind_packed(compiling *c, size_t number, const pass_schedules *s) {
  const ir_kernel *k = c->plan->kernels.data[number];
  for (size_t v = 0; v < s->variants.count; v++)
    for (size_t i = 0; i < s->variants.data[v].kernel->params.count; i++) {
      const pass_source *source = &s->variants.data[v].sources[i];
      plan_buffer *b = &c->plan->functions.data[number]->buffers.data[source->param];
      if (!source->packed || b->kind == PLAN_WEIGHT) continue;
      if (!c->o->random_weights) {
        ts_report(c->d, k->loc, &diag_drive_kernel_file, "rule packed-input: the host's schedule of kernel '%s' packs '%s' at compile time, so it can't be an input",
                  k->name, b->name);
        ts_note(c->d, k->loc, "--weights random:SEED gives it random contents; the scheduled text of the kernel takes packed inputs");
        return TS_UNSUPPORTED;
      }
      int64_t shape[IR_MAX_RANK];
      for (unsigned d = 0; d < b->rank; d++) shape[d] = b->shape[d]->value;
      ir_weight *w;
      const ir_encoding *e = b->encoding ? b->encoding : ir_encoding_plain(b->dtype);
      TS_TRY(ir_weight_random(c->a, b->name, e, b->rank, shape, c->o->seed + source->param, k->loc, c->d, &w));
      b->kind = PLAN_WEIGHT;
      b->weight = w;
    }
  return TS_OK;
}

static ts_status schedule(compiling *c, unsigned level) {
  const cgh_isa *isa = c->levels[level];
  pass_host_target t = {ir_name(c->m, "host.%s", isa->name), isa->vector_registers};
  pass_log quiet = {.arena = c->a};
  c->schedules[level] = ts_new_array(c->a, pass_schedules, c->plan->kernels.count);
  for (size_t i = 0; i < c->plan->kernels.count; i++) {
    const ir_kernel *k = c->plan->kernels.data[i];
    pass_schedules *s = &c->schedules[level][i];
    if (k->stage == IR_STAGE_S) {
      TS_TRY(take_scheduled(c, k, s));
      continue;
    }
    TS_TRY(pass_schedule_host(c->m, k, &t, level ? &quiet : &c->log, s));
    for (size_t v = 0; v < s->variants.count; v++) TS_TRY(ir_verify_kernel(c->m, s->variants.data[v].kernel));
    TS_TRY(bind_packed(c, i, s));
  }
  return TS_OK;
}

// ---- code ----------------------------------------------------------------------------------------------------------------
static ts_status add_level(compiling *c, cg_artifact *art, uint32_t number, const pass_program *program, drive_dump *dump, unsigned level) {
  const cgh_isa *isa = c->levels[level];
  size_t n = program->kernels.count;
  cgh_object *objects = ts_new_array(c->a, cgh_object, n);
  cgh_code *codes = ts_new_array(c->a, cgh_code, n);
  bool texts = dump->dir != NULL;
  for (size_t i = 0; i < n; i++) {
    const ir_kernel *k = program->kernels.data[i].kernel;
    TS_TRY(cgh_compile(k, isa, &(cgh_options){.llvm_text = texts, .assembly = texts}, c->a, c->d, &codes[i]));
    if (texts) TS_TRY(drive_dump_code(dump, k->name, isa->name, codes[i].llvm, codes[i].assembly));
    objects[i] = (cgh_object){codes[i].object, codes[i].object_bytes};
    c->report->objects++;
  }
  if (!art) return TS_OK;
  const unsigned char *image;
  size_t bytes;
  TS_TRY(cgh_link(objects, (uint32_t)n, c->a, c->d, &image, &bytes));
  uint32_t target = cg_artifact_target(art, (cg_target){.name = ts_arena_printf(c->a, "host:%s", isa->name), .program = number});
  uint32_t at = cg_artifact_image(art, CG_IMAGE_HOST, image, bytes);
  for (size_t i = 0; i < n; i++)
    cg_artifact_code(art, target, (uint32_t)i, (cg_code){.image = at, .ptx = IR_LNONE, .entry = (uint32_t)i, .scratch = (uint32_t)codes[i].scratch});
  return TS_OK;
}

static ts_status write_file(compiling *c, cg_artifact *art, const pass_program *program) {
  ts_map seen = {0};
  drive_add_weights(c->a, art, program, &seen);
  fe_model model = {.module = c->m};
  drive_describe(c->a, art, &model, c->plan, program);
  cg_artifact_report written;
  ts_status s = cg_artifact_write(art, c->o->output, NULL, c->d, &written);
  ts_map_deinit(&seen);
  if (s != TS_OK) return s;
  c->report->bytes = written.bytes, c->report->weight_bytes = written.weight_bytes, c->report->code_bytes = written.code_bytes;
  c->report->changed = written.changed;
  return TS_OK;
}

static ts_status build(compiling *c) {
  TS_TRY(choose_levels(c));
  if (!c->m->kernels.count) return ts_report(c->d, (ts_loc){0}, &diag_drive_kernel_file, "rule no-kernels: the file holds no kernel");
  if (!c->m->name) c->m->name = ir_name(c->m, "kernels");   // a dump has no module line
  for (size_t i = 0; i < c->m->kernels.count; i++) TS_TRY(add_function(c, c->m->kernels.data[i]));
  // Every level's program is made, so that raises have the same codes in all; they are one and the same program.
  pass_program programs[MAX_LEVELS];
  drive_dump dump = {.dir = c->o->dump_dir, .diags = c->d, .module = c->m};
  for (unsigned l = 0; l < c->level_count; l++) {
    TS_TRY(schedule(c, l));
    TS_TRY(pass_launch(c->plan, c->schedules[l], "host", &programs[l]));
  }
  TS_TRY(drive_dump_scheduled(&dump, "schedule", &programs[0]));
  TS_TRY(drive_dump_launch(&dump, "launch", &programs[0]));
  c->report->portable_kernels = (unsigned)c->plan->kernels.count;
  c->report->kernels = (unsigned)programs[0].kernels.count;
  c->report->launches = 1;
  cg_artifact *art = c->o->output ? cg_artifact_new(c->a) : NULL;
  uint32_t number = art ? cg_artifact_program(art, programs[0].program) : 0;
  for (unsigned l = 0; l < c->level_count; l++) TS_TRY(add_level(c, art, number, &programs[l], &dump, l));
  return art ? write_file(c, art, &programs[0]) : TS_OK;
}

ts_status drive_compile_kernels(ts_arena *a, ir_module *m, const drive_kernels_options *o, ts_diags *d, drive_report *out) {
  *out = (drive_report){0};
  compiling c = {.a = a, .m = m, .o = o, .d = d, .report = out, .log = {.arena = a}, .plan = ts_new(a, plan)};
  *c.plan = (plan){.module = m};
  ts_status s = build(&c);
  for (size_t i = 0; i < c.log.notes.count; i++) {
    const pass_note *n = &c.log.notes.data[i];
    ts_vec_push(a, &out->notes, ((drive_note){n->pass, n->rule, n->loc, n->text}));
  }
  return s;
}
