// Launch IR of a plan (see launch.h).
//
// A kernel's sizes are formal; each call replaces them by sizes of the function before they become launch expressions. Two formals
// are facts of the session instead: p, the pages of a pool, and w, the width of a page table.
#include "passes/launch.h"
#include "passes/lower.h"

typedef struct launching {
  const plan *plan;
  ir_module *m;
  ts_arena *a;
  const pass_schedules *schedules;
  pass_program *out;
  ir_launch *program;
  ts_map kernels;              // S kernel -> number + 1
  ir_lfunction *f;
  const plan_function *pf;
  uint32_t *buffers;           // plan buffer -> launch buffer, IR_LNONE for weights
  uint32_t state;              // whose pages p and w mean; IR_LNONE: none
} launching;

static ts_status internal(launching *L, ts_loc loc, const char *what) { return ts_report(L->m->diags, loc, &diag_pass_internal, "launch: %s", what); }

// ---- sizes ---------------------------------------------------------------------------------------------------------------
static ir_lexpr expr(launching *L, const ir_size *s, ts_status *status);

static ir_lexpr symbol_expr(launching *L, const ir_size *s, ts_status *status) {
  bool pages = strcmp(s->name, "p") == 0, width = strcmp(s->name, "w") == 0;
  if ((pages || width) && L->state != IR_LNONE) return ir_launch_leaf(L->f, pages ? IR_L_pages : IR_L_width, L->state, 0);
  uint32_t dim = ir_launch_find_dim(L->program, s->name);
  if (dim == IR_LNONE) {
    *status = ts_report(L->m->diags, L->f->loc, &diag_pass_internal, "launch: size %s has no value in function %s", s->name, L->f->name);
    return ir_launch_const(L->f, 0);
  }
  return ir_launch_dim(L->f, dim);
}

static ir_lexpr sum_expr(launching *L, const ir_size *s, ts_status *status) {
  ir_lexpr total = ir_launch_const(L->f, s->value);
  for (uint32_t i = 0; i < s->count; i++) {
    ir_lexpr term = ir_launch_const(L->f, s->terms[i].coef);
    for (uint32_t k = 0; k < s->terms[i].count; k++) term = ir_launch_op(L->f, IR_L_mul, term, expr(L, s->terms[i].factors[k], status));
    total = ir_launch_op(L->f, IR_L_add, total, term);
  }
  return total;
}

static ir_lexpr expr(launching *L, const ir_size *s, ts_status *status) {
  switch (s->op) {
    case IR_SIZE_CONST: return ir_launch_const(L->f, s->value);
    case IR_SIZE_SYMBOL: return symbol_expr(L, s, status);
    case IR_SIZE_SUM: return sum_expr(L, s, status);
    case IR_SIZE_FLOORDIV: return ir_launch_op(L->f, IR_L_floordiv, expr(L, s->args[0], status), expr(L, s->args[1], status));
    case IR_SIZE_MOD: return ir_launch_op(L->f, IR_L_mod, expr(L, s->args[0], status), expr(L, s->args[1], status));
    case IR_SIZE_MIN: case IR_SIZE_MAX: {
      ir_lexpr r = expr(L, s->args[0], status);
      for (uint32_t i = 1; i < s->count; i++) r = ir_launch_op(L->f, s->op == IR_SIZE_MIN ? IR_L_min : IR_L_max, r, expr(L, s->args[i], status));
      return r;
    }
    default: *status = internal(L, L->f->loc, "a size is an error"); return ir_launch_const(L->f, 0);
  }
}

static ir_lexpr formal_expr(launching *L, const plan_call *call, const ir_size *s, ts_status *status) {
  size_t count = L->m->sizes->symbols.count;
  const ir_size **with = ts_new_array(L->a, const ir_size *, count);
  for (uint32_t i = 0; i < call->bind_count; i++) with[call->binds[i].formal->index] = call->binds[i].actual;
  return expr(L, ir_size_substitute(L->m->sizes, s, with, count), status);
}

// ---- weights -------------------------------------------------------------------------------------------------------------
// A plain weight as it is: row-major elements of its stored type.
static ts_status plain_packing(launching *L, const ir_weight *w, ts_loc loc, ir_repack *r) {
  *r = (ir_repack){.what = IR_WHAT_FIELD, .as = w->encoding->field[0].type};
  const ir_digit list[] = {{0, 1, 0}, {1, 1, 0}};
  return ir_repack_pack(w, r, list, 2, loc, L->m->diags);
}

static bool same_packing(const ir_repack *a, const ir_repack *b) {
  if (a->what != b->what || a->field != b->field || a->as != b->as || a->bits != b->bits || a->shift != b->shift || a->add != b->add ||
      a->base != b->base || a->digits != b->digits || a->bytes != b->bytes)
    return false;
  for (unsigned i = 0; i < a->digits; i++) {
    const ir_stride *x = &a->digit[i], *y = &b->digit[i];
    if (x->axis != y->axis || x->divisor != y->divisor || x->radix != y->radix || x->stride != y->stride) return false;
  }
  return true;
}

static ts_status weight_part(launching *L, const ir_weight *w, const ir_repack *r, uint32_t *out) {
  static const char *const what[] = {"field", "codes", "scale", "offset", "values"};
  for (size_t i = 0; i < L->out->parts.count; i++) {
    const pass_weight_part *p = &L->out->parts.data[i];
    if (p->weight == w && same_packing(&p->packing, r)) return *out = (uint32_t)i, TS_OK;
  }
  // The name carries the content: programs of several targets share a part exactly when they want the same bytes.
  uint64_t hash;
  TS_TRY(ir_repack_hash(w, r, L->m->diags, &hash));
  pass_weight_part part = {.name = ir_name(L->m, "%s.%s.%08x", w->name, what[r->what], (unsigned)(hash ^ hash >> 32)), .weight = w, .packing = *r,
                           .bytes = (uint64_t)r->bytes};
  ts_vec_push(L->a, &L->out->parts, part);
  *out = ir_launch_add_weight(L->program, (ir_lweight){part.name, part.bytes, hash});
  return TS_OK;
}

static ts_status table_part(launching *L, const plan_buffer *b, uint32_t *out) {
  for (size_t i = 0; i < L->out->parts.count; i++)
    if (!L->out->parts.data[i].weight && L->out->parts.data[i].name == b->name) return *out = (uint32_t)i, TS_OK;
  pass_weight_part part = {.name = b->name, .data = b->data, .bytes = b->data_bytes};
  ts_vec_push(L->a, &L->out->parts, part);
  *out = ir_launch_add_weight(L->program, (ir_lweight){part.name, part.bytes, ts_hash_bytes(b->data, b->data_bytes, 0)});
  return TS_OK;
}

static uint32_t weight_buffer(launching *L, uint32_t part) {
  for (size_t i = 0; i < L->f->buffers.count; i++)
    if (L->f->buffers.data[i].kind == IR_LB_weight && L->f->buffers.data[i].a == part) return (uint32_t)i;
  return ir_launch_add_buffer(L->f, (ir_lbuffer){.kind = IR_LB_weight, .a = part, .bytes = IR_LNONE, .name = L->out->parts.data[part].name});
}

// ---- buffers -------------------------------------------------------------------------------------------------------------
static uint32_t state_index(launching *L, const ir_state *s) {
  for (size_t i = 0; i < L->program->states.count; i++)
    if (L->program->states.data[i]->name == s->name) return (uint32_t)i;
  return IR_LNONE;
}

static ir_lexpr buffer_bytes(launching *L, const plan_buffer *b, ts_status *status) {
  ir_lexpr n = ir_launch_const(L->f, ir_dtype_bits(b->dtype) / 8);
  for (unsigned i = 0; i < b->rank; i++) n = ir_launch_op(L->f, IR_L_mul, n, expr(L, b->shape[i], status));
  return n;
}

static ts_status add_value(launching *L, const plan_buffer *b, bool output) {
  ts_status status = TS_OK;
  ir_lvalue v = {.name = b->name, .output = output, .type = b->dtype, .rank = b->rank, .bytes = IR_LNONE, .loc = L->f->loc};
  for (unsigned i = 0; i < b->rank; i++) v.shape[i] = expr(L, b->shape[i], &status);
  ir_launch_add_value(L->f, v);
  return status;
}

static ts_status add_buffers(launching *L) {
  const plan_function *pf = L->pf;
  L->buffers = ts_new_array(L->a, uint32_t, pf->buffers.count);
  uint32_t inputs = 0, outputs = 0;
  for (size_t i = 0; i < pf->buffers.count; i++) {
    const plan_buffer *b = &pf->buffers.data[i];
    ts_status status = TS_OK;
    ir_lbuffer out = {.bytes = IR_LNONE, .name = b->name};
    L->buffers[i] = IR_LNONE;
    switch (b->kind) {
      case PLAN_WEIGHT: continue;   // its parts are added where they are used
      case PLAN_INPUT: out.kind = IR_LB_input, out.a = inputs++; TS_TRY(add_value(L, b, false)); break;
      case PLAN_OUTPUT: out.kind = IR_LB_output, out.a = outputs++; TS_TRY(add_value(L, b, true)); break;
      case PLAN_TABLE: {
        uint32_t part;
        TS_TRY(table_part(L, b, &part));
        L->buffers[i] = weight_buffer(L, part);
        continue;
      }
      case PLAN_TEMP: out.kind = IR_LB_workspace, out.bytes = buffer_bytes(L, b, &status), out.name = ir_name(L->m, "%s.%zu", b->name, i); break;
      case PLAN_POOL:
        out.kind = IR_LB_pool, out.a = state_index(L, b->state), out.b = b->field, out.name = ir_name(L->m, "%s.%s", b->state->name, b->name);
        for (size_t k = 0; k < L->f->buffers.count; k++)   // one buffer for all layers; the argument has the offset
          if (L->f->buffers.data[k].kind == IR_LB_pool && L->f->buffers.data[k].a == out.a && L->f->buffers.data[k].b == out.b) L->buffers[i] = (uint32_t)k;
        if (L->buffers[i] != IR_LNONE) continue;
        break;
      case PLAN_PAGES: out.kind = IR_LB_table, out.a = state_index(L, b->state), out.name = ir_name(L->m, "%s.pages", b->name); break;
      case PLAN_LENGTH: out.kind = IR_LB_length, out.a = state_index(L, b->state), out.name = ir_name(L->m, "%s.length", b->name); break;
      case PLAN_RAGGED: out.kind = IR_LB_ragged, out.a = ir_launch_find_dim(L->program, b->dim), out.name = ir_name(L->m, "%s.rows", b->name); break;
    }
    if (status != TS_OK) return status;
    L->buffers[i] = ir_launch_add_buffer(L->f, out);
  }
  return TS_OK;
}

// ---- calls ---------------------------------------------------------------------------------------------------------------
static void collect_raises(launching *L, const ir_region *r, ir_lkernel *k) {
  for (ir_op *op = r->first; op; op = op->next) {
    if (op->code == IR_OP_raise) {
      uint32_t code = ir_launch_add_raise(L->program, k, ir_attr_sym(op, "text"), op->loc);
      ir_builder b = {.module = L->m};
      ir_set_int(&b, op, "code", code);
    }
    for (uint32_t i = 0; i < op->region_count; i++) collect_raises(L, op->regions[i], k);
  }
}

static uint32_t kernel_number(launching *L, const pass_scheduled *s, const ir_kernel *portable, uint32_t variant) {
  uint32_t known = (uint32_t)(uintptr_t)ts_map_get(&L->kernels, ts_key(s->kernel));
  if (known) return known - 1;
  uint32_t dims;
  ir_kernel_symbols(s->kernel, L->a, &dims);
  ir_lkernel *k = ir_launch_add_kernel(L->program, s->kernel->name, (uint32_t)s->kernel->params.count, dims);
  collect_raises(L, s->kernel->body, k);
  ts_vec_push(L->a, &L->out->kernels, ((pass_launch_kernel){s->kernel, portable, variant}));
  ts_map_put(&L->kernels, ts_key(s->kernel), (void *)(uintptr_t)L->out->kernels.count);
  return (uint32_t)L->out->kernels.count - 1;
}

static ts_status add_arg(launching *L, const plan_call *call, const pass_source *source, ir_larg *out) {
  const plan_buffer *b = &L->pf->buffers.data[call->args[source->param]];
  *out = (ir_larg){.buffer = L->buffers[call->args[source->param]], .offset = IR_LNONE};
  if (b->kind == PLAN_WEIGHT) {
    ir_repack plain;
    const ir_repack *r = &source->packing;
    if (!b->weight) return internal(L, call->loc, "a weight has no data");
    if (!source->packed) {
      TS_TRY(plain_packing(L, b->weight, call->loc, &plain));
      r = &plain;
    }
    uint32_t part;
    TS_TRY(weight_part(L, b->weight, r, &part));
    out->buffer = weight_buffer(L, part);
  } else if (source->packed) {
    return internal(L, call->loc, "a packed parameter is bound to a buffer that is no weight");
  }
  if (b->kind == PLAN_POOL && b->layer) {
    const ir_lstate *s = L->program->states.data[state_index(L, b->state)];
    ir_lexpr per_layer = ir_launch_op(L->f, IR_L_mul, ir_launch_leaf(L->f, IR_L_pages, state_index(L, b->state), 0),
                                      ir_launch_const(L->f, (int64_t)s->pools.data[b->field].page_bytes));
    out->offset = ir_launch_op(L->f, IR_L_mul, per_layer, ir_launch_const(L->f, b->layer));
  }
  return TS_OK;
}

static ts_status add_call(launching *L, const plan_call *call) {
  size_t number = 0;
  while (number < L->plan->kernels.count && L->plan->kernels.data[number] != call->kernel) number++;
  const pass_schedules *schedules = &L->schedules[number];
  L->state = IR_LNONE;
  for (uint32_t i = 0; i < call->arg_count; i++) {
    const plan_buffer *b = &L->pf->buffers.data[call->args[i]];
    if (b->kind == PLAN_POOL || b->kind == PLAN_PAGES) L->state = state_index(L, b->state);
  }
  ir_lstep *step = ir_launch_add_step(L->f, IR_LS_launch, call->loc);
  ts_status status = TS_OK;
  for (size_t v = 0; v < schedules->variants.count && status == TS_OK; v++) {
    const pass_scheduled *s = &schedules->variants.data[v];
    ir_lexpr guard = IR_LNONE;
    if (s->guard) {
      guard = ir_launch_op(L->f, IR_L_le, ir_launch_const(L->f, 1), formal_expr(L, call, s->guard, &status));
      if (L->f->nodes.data[guard].op == IR_L_const && L->f->nodes.data[guard].value == 0) continue;   // never in this function
    }
    uint32_t kernel = kernel_number(L, s, call->kernel, (uint32_t)v);
    ir_lvariant *variant = ir_launch_add_variant(L->f, step, kernel);
    variant->guard = guard;
    for (int i = 0; i < 3; i++) variant->grid[i] = formal_expr(L, call, s->kernel->grid[i], &status);
    for (size_t i = 0; i < s->kernel->params.count && status == TS_OK; i++) {
      ir_larg arg;
      status = add_arg(L, call, &s->sources[i], &arg);
      if (status == TS_OK) ts_vec_push(L->a, &variant->args, arg);
    }
    uint32_t count;
    const ir_size **dims = ir_kernel_symbols(s->kernel, L->a, &count);
    for (uint32_t i = 0; i < count; i++) ts_vec_push(L->a, &variant->sizes, formal_expr(L, call, dims[i], &status));
    if (guard == IR_LNONE) break;
  }
  return status;
}

// ---- the program ---------------------------------------------------------------------------------------------------------
static ts_status add_state(launching *L, const ir_state *s) {
  uint32_t rows = ir_launch_find_dim(L->program, s->list);
  ir_lstate *state = ir_launch_add_state(L->program, s->name, rows, s->length->hi, (uint32_t)s->page);
  uint32_t list = ir_launch_add_list(L->program, state, (ir_llist){ir_name(L->m, "all"), IR_LIST_full});
  for (size_t i = 0; i < s->fields.count; i++) {
    const ir_state_field *f = &s->fields.data[i];
    int64_t bytes = s->page * (int64_t)ir_dtype_bits(f->dtype) / 8;
    ts_text type = {0};
    ts_text_printf(&type, "%s[", ir_dtype_name(f->dtype));
    for (unsigned d = 1; d < f->rank; d++) {
      bytes *= f->shape[d]->value;
      ts_text_printf(&type, d > 1 ? ", %lld" : "%lld", (long long)f->shape[d]->value);
    }
    ts_text_puts(&type, "]");
    ir_launch_add_pool(L->program, state, (ir_lpool){.name = f->name, .list = list, .layers = (uint32_t)f->shape[0]->value, .page_bytes = (uint64_t)bytes,
                                                     .type = ts_intern(L->m->names, ts_text_str(&type))});
    ts_text_deinit(&type);
  }
  return TS_OK;
}

static void add_dims(launching *L) {
  for (size_t i = 0; i < L->m->dims.count; i++) {
    const ir_dim *d = &L->m->dims.data[i];
    uint32_t per = d->ragged_over ? ir_launch_find_dim(L->program, d->ragged_over) : IR_LNONE;
    int64_t step = d->size->step > 1 ? d->size->step : 1;
    ir_launch_add_dim(L->program, (ir_ldim){d->size->name, d->size->lo, d->size->hi, step, per});
  }
}

static ts_status add_function(launching *L, const plan_function *pf) {
  L->pf = pf;
  L->f = ir_launch_add_function(L->program, pf->function->name, pf->function->loc);
  TS_TRY(add_buffers(L));
  for (size_t c = 0; c < pf->calls.count; c++) TS_TRY(add_call(L, &pf->calls.data[c]));
  for (size_t i = 0; i < pf->function->advances.count; i++) {
    ir_lstep *step = ir_launch_add_step(L->f, IR_LS_advance, pf->function->loc);
    for (size_t s = 0; s < L->program->states.count; s++)
      if (L->program->states.data[s]->name == pf->function->advances.data[i]) step->state = (uint32_t)s;
    ts_sym by = pf->function->advance_by.data[i];
    step->dim = by ? ir_launch_find_dim(L->program, by) : IR_LNONE;
    step->by = by ? IR_LNONE : ir_launch_const(L->f, 1);
  }
  ir_launch_lifetimes(L->f);
  return TS_OK;
}

ts_status pass_launch(const plan *p, const pass_schedules *schedules, const char *device_class, pass_program *out) {
  ir_module *m = p->module;
  *out = (pass_program){0};
  launching L = {.plan = p, .m = m, .a = m->arena, .schedules = schedules, .out = out};
  out->program = L.program = ir_launch_new(m->arena, m->names, m->name, ts_intern_z(m->names, device_class));
  add_dims(&L);
  ts_status s = TS_OK;
  for (size_t i = 0; i < m->states.count && s == TS_OK; i++) s = add_state(&L, m->states.data[i]);
  for (size_t i = 0; i < p->functions.count && s == TS_OK; i++) s = add_function(&L, p->functions.data[i]);
  ts_map_deinit(&L.kernels);
  return s == TS_OK ? ir_launch_verify(out->program, m->diags) : s;
}
