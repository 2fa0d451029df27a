// Dumps, texts and the manifest (see dump.h).
#include "drive/dump.h"

#include "base/file.h"
#include "passes/lower.h"

static ts_status write_text(drive_dump *d, const char *folder, const char *name, const ts_text *t) {
  ts_arena a;
  ts_arena_init(&a);
  const char *dir = folder ? ts_path_join(&a, d->dir, folder) : d->dir;
  ts_status s = ts_make_dirs(dir, d->diags);
  if (s == TS_OK) s = ts_file_write(ts_path_join(&a, dir, name), ts_text_z(t), t->len, d->diags);
  ts_arena_deinit(&a);
  return s;
}

static ts_status write_pass(drive_dump *d, const char *pass, const char *level, const ts_text *t) {
  char name[128];
  snprintf(name, sizeof name, "%02u-%s.%s.tir", d->number++, pass, level);
  return write_text(d, NULL, name, t);
}

ts_status drive_dump_functions(drive_dump *d, const char *pass) {
  if (!d->dir) return TS_OK;
  ts_text t = {0};
  ir_print_module(d->module, &t);
  ts_status s = write_pass(d, pass, "tensor", &t);
  ts_text_deinit(&t);
  return s;
}

ts_status drive_dump_plan(drive_dump *d, const char *pass, const plan *p) {
  if (!d->dir) return TS_OK;
  ts_text all = {0}, one = {0};
  plan_print(p, &all);
  ts_status s = write_text(d, NULL, "plan.txt", &all);
  ts_text_clear(&all);
  for (size_t i = 0; i < p->kernels.count && s == TS_OK; i++) {
    ts_text_clear(&one);
    ir_print_kernel(d->module, p->kernels.data[i], true, &one);
    ts_text_add(&all, ts_text_str(&one));
    ts_text_putc(&all, '\n');
    char name[256];
    snprintf(name, sizeof name, "%s.tile.tir", p->kernels.data[i]->name);
    s = write_text(d, "kernels", name, &one);
  }
  if (s == TS_OK) s = write_pass(d, pass, "tile", &all);
  ts_text_deinit(&all);
  ts_text_deinit(&one);
  return s;
}

ts_status drive_dump_scheduled(drive_dump *d, const char *pass, const pass_program *p) {
  if (!d->dir) return TS_OK;
  ts_text all = {0}, one = {0};
  ts_status s = TS_OK;
  for (size_t i = 0; i < p->kernels.count && s == TS_OK; i++) {
    ts_text_clear(&one);
    ir_print_kernel(d->module, p->kernels.data[i].kernel, true, &one);
    ts_text_add(&all, ts_text_str(&one));
    ts_text_putc(&all, '\n');
    char name[256];
    snprintf(name, sizeof name, "%s.scheduled.tir", p->kernels.data[i].kernel->name);
    s = write_text(d, "kernels", name, &one);
  }
  if (s == TS_OK) s = write_pass(d, pass, "scheduled", &all);
  ts_text_deinit(&all);
  ts_text_deinit(&one);
  return s;
}

ts_status drive_dump_launch(drive_dump *d, const char *pass, const pass_program *p) {
  if (!d->dir) return TS_OK;
  ts_text t = {0};
  ir_launch_print(p->program, &t);
  ts_status s = write_pass(d, pass, "launch", &t);
  ts_text_deinit(&t);
  return s;
}

ts_status drive_dump_text(drive_dump *d, const char *kernel, const char *suffix, ts_str text) {
  char name[256];
  ts_text t = {0};
  ts_text_add(&t, text);
  snprintf(name, sizeof name, "%s.%s", kernel, suffix);
  ts_status s = write_text(d, "kernels", name, &t);
  ts_text_deinit(&t);
  return s;
}

ts_status drive_dump_code(drive_dump *d, const char *kernel, const char *level, ts_str llvm, ts_str assembly) {
  char suffix[64];
  snprintf(suffix, sizeof suffix, "%s.ll", level);
  TS_TRY(drive_dump_text(d, kernel, suffix, llvm));
  snprintf(suffix, sizeof suffix, "%s.s", level);
  return drive_dump_text(d, kernel, suffix, assembly);
}

// ---- manifest ------------------------------------------------------------------------------------------------------------
static void json_pair(ts_text *out, const char *key, const char *value) {
  ts_text_json(out, ts_str_of(key));
  ts_text_puts(out, ": ");
  ts_text_json(out, ts_str_of(value));
}

// Bytes of weights that one call of a function streams: every part that its first variants read, but tables of which they take single
// rows (family move, and what the compiler made).
uint64_t drive_streamed_bytes(const pass_program *program, const ir_lfunction *f) {
  uint64_t bytes = 0;
  for (size_t s = 0; s < f->steps.count; s++) {
    const ir_lstep *step = &f->steps.data[s];
    if (step->kind != IR_LS_launch || !step->variants.count) continue;
    const ir_lvariant *v = &step->variants.data[0];
    const ir_kernel *portable = program->kernels.data[v->kernel].portable;
    if (portable->parts.count && portable->parts.data[0].family == IR_FAMILY_MOVE) continue;
    for (size_t i = 0; i < v->args.count; i++) {
      const ir_lbuffer *b = &f->buffers.data[v->args.data[i].buffer];
      if (b->kind == IR_LB_weight && program->parts.data[b->a].weight) bytes += program->parts.data[b->a].bytes;
    }
  }
  return bytes;
}

void drive_manifest(const fe_model *model, const plan *p, const pass_program *program, ts_text *out) {
  const ir_launch *l = program->program;
  ts_text_puts(out, "{\n  \"schema\": 1,\n  ");
  json_pair(out, "model", l->name ? l->name : "");
  for (size_t i = 0; i < model->metadata.count; i++) {
    ts_text_puts(out, ",\n  ");
    json_pair(out, model->metadata.data[i].key, model->metadata.data[i].value);
  }
  ts_text_printf(out, ",\n  \"portable_kernels\": %zu,\n  \"kernels\": [", p->kernels.count);
  for (size_t i = 0; i < program->kernels.count; i++) {
    ts_text_printf(out, "%s\n    {", i ? "," : "");
    json_pair(out, "name", program->kernels.data[i].kernel->name);
    ts_text_puts(out, ", ");
    json_pair(out, "computes", program->kernels.data[i].portable->name);
    const ir_kernel *portable = program->kernels.data[i].portable;   // a scheduled text taken as it is has no parts
    if (portable->parts.count) ts_text_printf(out, ", \"family\": \"%s\"", ir_family_name(portable->parts.data[0].family));
    ts_text_putc(out, '}');
  }
  ts_text_puts(out, "\n  ],\n  \"functions\": [");
  for (size_t i = 0; i < l->functions.count; i++) {
    const ir_lfunction *f = l->functions.data[i];
    unsigned launches = 0;
    for (size_t k = 0; k < f->steps.count; k++) launches += f->steps.data[k].kind == IR_LS_launch;
    ts_text_printf(out, "%s\n    {\"name\": \"%s\", \"launches\": %u, \"weight_bytes\": %llu}", i ? "," : "", f->name, launches, (unsigned long long)drive_streamed_bytes(program, f));
  }
  ts_text_puts(out, "\n  ]\n}\n");
}

void drive_texts(ts_arena *a, cg_artifact *art, ir_module *m, const plan *p, const pass_program *program) {
  ts_text t = {0};
  for (size_t i = 0; i < p->kernels.count; i++) {
    if (p->kernels.data[i]->stage != IR_STAGE_P) continue;
    ts_text_clear(&t);
    ir_print_kernel(m, p->kernels.data[i], true, &t);
    cg_artifact_blob(art, ts_arena_printf(a, "kernels/%s.tile.tir", p->kernels.data[i]->name), ts_arena_strdup(a, ts_text_z(&t)), t.len);
  }
  for (size_t i = 0; i < program->kernels.count; i++) {
    ts_text_clear(&t);
    ir_print_kernel(m, program->kernels.data[i].kernel, true, &t);
    cg_artifact_blob(art, ts_arena_printf(a, "kernels/%s.scheduled.tir", program->kernels.data[i].kernel->name), ts_arena_strdup(a, ts_text_z(&t)), t.len);
  }
  ts_text_deinit(&t);
}
