// Lowering of functions to plans (see lower.h): buffers, kernels by identity, calls.
#include "passes/lower_internal.h"

#define TS_DIAG TS_DIAG_DEFINE
#include "passes/diag.def"
#undef TS_DIAG

void pass_say(pass_log *log, const char *pass, const char *rule, ts_loc loc, const char *fmt, ...) {
  if (!log) return;
  va_list ap;
  va_start(ap, fmt);
  ts_vec_push(log->arena, &log->notes, ((pass_note){pass, rule, loc, ts_arena_vprintf(log->arena, fmt, ap)}));
  va_end(ap);
}

static bool same_buffer(const plan_buffer *a, const plan_buffer *b) {
  return a->kind == b->kind && a->name == b->name && a->state == b->state && a->field == b->field && a->layer == b->layer && a->dim == b->dim;
}

// Buffers that are not tensor values (state parts, lengths, tables) are one per function.
uint32_t lower_add_buffer(lowering *L, plan_buffer b) {
  if (b.kind != PLAN_TEMP)
    for (size_t i = 0; i < L->pf->buffers.count; i++)
      if (same_buffer(&L->pf->buffers.data[i], &b)) return (uint32_t)i;
  ts_vec_push(L->module->arena, &L->pf->buffers, b);
  return (uint32_t)L->pf->buffers.count - 1;
}

static const ir_weight *find_weight(const ir_module *m, ts_sym name) {
  for (size_t i = 0; i < m->weights.count; i++)
    if (m->weights.data[i]->name == name) return m->weights.data[i];
  return NULL;
}

uint32_t lower_buffer_of(lowering *L, ir_value *v) {
  uint32_t known = (uint32_t)(uintptr_t)ts_map_get(&L->buffers, ts_key(v));
  if (known) return known - 1;
  const ir_type *t = v->type;
  plan_buffer b = {.kind = PLAN_TEMP, .dtype = t->dtype, .rank = t->rank, .shape = t->shape, .encoding = t->encoding};
  b.name = v->name ? v->name : ir_name(L->module, "t%zu", L->pf->buffers.count);
  if (v->producer && v->producer->code == IR_OP_weight) {
    b.kind = PLAN_WEIGHT;
    b.name = ir_attr_sym(v->producer, "name");
    b.weight = find_weight(L->module, b.name);
  }
  ts_vec_push(L->module->arena, &L->pf->buffers, b);
  uint32_t n = (uint32_t)L->pf->buffers.count - 1;
  ts_map_put(&L->buffers, ts_key(v), (void *)(uintptr_t)(n + 1));
  return n;
}

ts_status emit_finish_kernel(emitter *e, const char *name) {
  lowering *L = e->L;
  uint64_t hash = ir_kernel_hash(e->m, e->kernel);
  const ir_kernel *known = ts_map_get(&L->kernels, hash);
  if (!known) {
    ts_text clean = {0};
    for (const char *c = name; *c && clean.len < 80; c++)
      ts_text_putc(&clean, (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ? *c : '_');
    ts_sym stem = ts_intern(e->m->names, ts_text_str(&clean));
    ts_text_deinit(&clean);
    uintptr_t count = (uintptr_t)ts_map_get(&L->names, ts_key(stem)) + 1;
    ts_map_put(&L->names, ts_key(stem), (void *)count);
    e->kernel->name = count == 1 ? stem : ir_name(e->m, "%s_%u", stem, (unsigned)count);
    ts_map_put(&L->kernels, hash, e->kernel);
    ts_vec_push(e->m->arena, &L->plan->kernels, e->kernel);
    known = e->kernel;
  }
  ts_vec_push(e->m->arena, &L->pf->calls,
              ((plan_call){known, (uint32_t)e->args.count, e->args.data, (uint32_t)e->binds.count, e->binds.data, e->loc}));
  return TS_OK;
}

static ts_status bind_outputs(lowering *L, const ir_op *ret) {
  for (uint32_t i = 0; i < ret->operand_count; i++) {
    ir_value *v = lower_root(L, ret->operands[i]);
    if (!v->producer || v->producer->code == IR_OP_weight || v->producer->code == IR_OP_literal)
      return LOWER_REFUSE(L, ret->loc, "rule output-is-input: output %s is an input or a weight unchanged", L->function->outputs.data[i]);
    uint32_t b = lower_buffer_of(L, v);
    plan_buffer *buffer = &L->pf->buffers.data[b];
    if (buffer->kind == PLAN_OUTPUT) return LOWER_REFUSE(L, ret->loc, "rule output-twice: %s and %s are one value", buffer->name, L->function->outputs.data[i]);
    buffer->kind = PLAN_OUTPUT;
    buffer->name = L->function->outputs.data[i];
    buffer->rank = ret->operands[i]->type->rank;
    buffer->shape = ret->operands[i]->type->shape;
  }
  return TS_OK;
}

static ts_status lower_function(lowering *L) {
  ts_arena *a = L->module->arena;
  const ir_function *f = L->function;
  L->pf = ts_new(a, plan_function);
  L->pf->function = f;
  for (const ir_op *op = f->body->first; op; op = op->next) {
    ts_vec_push(a, &L->ops, ((op_state){.op = (ir_op *)op, .linear = (uint32_t)L->ops.count}));
    ts_map_put(&L->numbers, ts_key(op), (void *)(uintptr_t)L->ops.count);
  }
  for (size_t i = 0; i < f->inputs.count; i++) {
    uint32_t b = lower_buffer_of(L, f->inputs.data[i]);
    L->pf->buffers.data[b].kind = PLAN_INPUT;
  }
  TS_TRY(lower_group(L));
  const ir_op *ret = f->body->last;
  if (!ret || ret->code != IR_OP_ret) return ts_report(L->module->diags, f->loc, &diag_pass_internal, "function %s does not end in return", f->name);
  TS_TRY(bind_outputs(L, ret));
  for (uint32_t g = 0; g < L->groups.count; g++) TS_TRY(emit_group(L, g));
  ts_vec_push(a, &L->plan->functions, L->pf);
  return TS_OK;
}

ts_status pass_lower(ir_module *m, const pass_lower_options *o, pass_log *log, plan **out) {
  lowering L = {.module = m, .options = o, .log = log, .plan = ts_new(m->arena, plan)};
  L.plan->module = m;
  ts_status s = TS_OK;
  for (size_t i = 0; i < m->functions.count && s == TS_OK; i++) {
    L.function = m->functions.data[i];
    L.ops.count = L.groups.count = 0;
    ts_map_deinit(&L.numbers);
    ts_map_deinit(&L.buffers);
    s = lower_function(&L);
  }
  ts_map_deinit(&L.numbers);
  ts_map_deinit(&L.buffers);
  ts_map_deinit(&L.kernels);
  ts_map_deinit(&L.names);
  if (s == TS_OK) *out = L.plan;
  return s;
}

void plan_print(const plan *p, ts_text *out) {
  static const char *const kinds[] = {"input", "output", "weight", "table", "temp", "pool", "pages", "length", "ragged"};
  for (size_t i = 0; i < p->functions.count; i++) {
    const plan_function *f = p->functions.data[i];
    ts_text_printf(out, "plan @%s {\n", f->function->name);
    for (size_t b = 0; b < f->buffers.count; b++) {
      const plan_buffer *x = &f->buffers.data[b];
      ts_text_printf(out, "  b%zu = %s %s %s[", b, kinds[x->kind], x->name, ir_dtype_name(x->dtype));
      for (unsigned d = 0; d < x->rank; d++) {
        if (d) ts_text_puts(out, ", ");
        ir_size_print(x->shape[d], out);
      }
      ts_text_puts(out, "]");
      if (x->kind == PLAN_POOL) ts_text_printf(out, " layer %u", x->layer);
      ts_text_putc(out, '\n');
    }
    for (size_t c = 0; c < f->calls.count; c++) {
      const plan_call *x = &f->calls.data[c];
      ts_text_printf(out, "  @%s(", x->kernel->name);
      for (uint32_t k = 0; k < x->arg_count; k++) ts_text_printf(out, "%sb%u", k ? ", " : "", x->args[k]);
      ts_text_puts(out, ")");
      for (uint32_t k = 0; k < x->bind_count; k++) {
        ts_text_printf(out, "%s%s = ", k ? ", " : " with ", x->binds[k].formal->name);
        ir_size_print(x->binds[k].actual, out);
      }
      ts_text_putc(out, '\n');
    }
    ts_text_puts(out, "}\n");
  }
}
