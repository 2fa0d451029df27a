// See plan_eval.h. Float buffers are cells in every domain (the typed domain rounds when it stores).
#include "tests/unit/plan_eval.h"

#include <check.h>
#include <stdlib.h>

void plan_world_open(plan_world *w, const plan *p, ir_domain d, const pass_host_target *target, int64_t entries) {
  *w = (plan_world){.m = p->module, .plan = p, .domain = d, .target = target, .entries = entries};
  for (size_t i = 0; i < p->module->states.count; i++) {
    const ir_state *s = p->module->states.data[i];
    int64_t pages = (s->length->hi + s->page - 1) / s->page;
    if (pages > w->width) w->width = pages;
  }
  int64_t n = entries * w->width;
  w->length = calloc((size_t)entries + 1, sizeof *w->length);
  w->pages = calloc((size_t)n + 1, sizeof *w->pages);
  for (int64_t i = 0; i < n; i++) w->pages[i] = (int32_t)((i * 7 + 3) % n);
  while (n > 1 && n % 7 == 0) {   // the step must have no factor in common
    for (int64_t i = 0; i < n; i++) w->pages[i] = (int32_t)(n - 1 - i);
    break;
  }
}

void plan_world_close(plan_world *w) {
  for (size_t i = 0; i < w->pools.count; i++) free(w->pools.data[i].cells);
  free(w->length);
  free(w->pages);
}

typedef struct run {
  plan_world *w;
  const plan_function *f;
  int64_t *symbols;            // of the function
  size_t symbol_count;
  const int64_t *lengths;
  void **data;                 // by plan buffer
  size_t *bytes;
  bool *borrowed;
} run;

static ts_status value_of(run *r, const ir_size *s, int64_t *out) {
  ts_status st = ir_size_eval(s, r->symbols, r->symbol_count, out);
  if (st != TS_OK) ts_report(r->w->m->diags, (ts_loc){0}, &diag_ir_eval, "a size of the plan has no value");
  return st;
}

static ts_status elements(run *r, const plan_buffer *b, int64_t *n) {
  *n = 1;
  for (unsigned i = 0; i < b->rank; i++) {
    int64_t v;
    TS_TRY(value_of(r, b->shape[i], &v));
    *n *= v;
  }
  return TS_OK;
}

static ir_cell *weight_cells(run *r, const ir_weight *w, ir_dtype t, size_t *bytes) {
  int64_t rows = ir_weight_rows(w), n = rows * ir_weight_k(w);
  ir_cell *c = malloc((size_t)n * sizeof *c + 8);
  *bytes = (size_t)n * sizeof *c;
  float *f = malloc((size_t)n * sizeof *f + 4);
  bool typed = r->w->domain == IR_DOMAIN_TYPED;
  if (typed) ck_assert(ir_weight_decode_f32(w, 0, rows, r->w->m->diags, f) == TS_OK);
  else ck_assert(ir_weight_decode_f64(w, 0, rows, r->w->m->diags, (double *)c) == TS_OK);
  for (int64_t i = 0; i < n; i++) {
    double v;
    if (typed) v = ir_round(t, f[i]);
    else memcpy(&v, &c[i], sizeof v);
    if (r->w->domain == IR_DOMAIN_MODP) c[i].p = ir_modp_of_real(v);
    else c[i].r = v;
  }
  free(f);
  return c;
}

static ir_cell *pool_cells(run *r, const plan_buffer *b, size_t *bytes) {
  const ir_state_field *f = &b->state->fields.data[b->field];
  int64_t n = r->w->entries * r->w->width * b->state->page;
  for (unsigned d = 1; d < f->rank; d++) n *= f->shape[d]->value;
  *bytes = (size_t)n * sizeof(ir_cell);
  for (size_t i = 0; i < r->w->pools.count; i++) {
    plan_pool *p = &r->w->pools.data[i];
    if (p->state == b->state && p->field == b->field && p->layer == b->layer) return p->cells;
  }
  plan_pool p = {b->state, b->field, b->layer, calloc((size_t)n + 1, sizeof(ir_cell))};
  ts_vec_push(r->w->m->arena, &r->w->pools, p);
  return p.cells;
}

// i32 tables: pages that hold rows before or after this call (others are absent), lengths before it, lengths of this call.
static int32_t *small_table(run *r, const plan_buffer *b, size_t *bytes) {
  plan_world *w = r->w;
  int64_t n = b->kind == PLAN_PAGES ? w->entries * w->width : w->entries;
  int32_t *t = malloc((size_t)n * 4 + 4);
  *bytes = (size_t)n * 4;
  for (int64_t i = 0; i < n; i++) {
    if (b->kind == PLAN_LENGTH) t[i] = (int32_t)w->length[i];
    else if (b->kind == PLAN_RAGGED) t[i] = (int32_t)r->lengths[i];
    else {
      int64_t e = i / w->width, needed = (w->length[e] + r->lengths[e] + b->state->page - 1) / b->state->page;
      t[i] = i % w->width < needed ? w->pages[i] : -1;
    }
  }
  return t;
}

static ts_status open_buffer(run *r, size_t i, const ir_eval_tensor *inputs) {
  const plan_buffer *b = &r->f->buffers.data[i];
  int64_t n;
  switch (b->kind) {
    case PLAN_INPUT:
      for (size_t k = 0; k < r->f->function->inputs.count; k++)
        if (r->f->function->inputs.data[k]->name == b->name) {
          TS_TRY(elements(r, b, &n));
          r->data[i] = malloc((size_t)n * 8 + 8);
          r->bytes[i] = (size_t)n * 8;
          if (ir_is_float(b->dtype)) memcpy(r->data[i], inputs[k].data, r->bytes[i]);
          else
            for (int64_t e = 0; e < n; e++)
              memcpy((char *)r->data[i] + e * (ir_dtype_bits(b->dtype) / 8), &inputs[k].data[e].i, ir_dtype_bits(b->dtype) / 8);
          return TS_OK;
        }
      return TS_INTERNAL;
    case PLAN_OUTPUT:
    case PLAN_TEMP:
      TS_TRY(elements(r, b, &n));
      r->bytes[i] = (size_t)n * 8;
      r->data[i] = malloc(r->bytes[i] + 8);
      memset(r->data[i], 0x7B, r->bytes[i]);   // poison
      return TS_OK;
    case PLAN_WEIGHT: r->data[i] = weight_cells(r, b->weight, b->dtype, &r->bytes[i]); return TS_OK;
    case PLAN_TABLE:
      r->data[i] = (void *)b->data;
      r->bytes[i] = b->data_bytes;
      r->borrowed[i] = true;
      return TS_OK;
    case PLAN_POOL:
      r->data[i] = pool_cells(r, b, &r->bytes[i]);
      r->borrowed[i] = true;
      return TS_OK;
    default: r->data[i] = small_table(r, b, &r->bytes[i]); return TS_OK;
  }
}

static ir_eval_buffer buffer_of(run *r, uint32_t i) {
  const plan_buffer *b = &r->f->buffers.data[i];
  return (ir_eval_buffer){r->data[i], r->bytes[i], ir_is_float(b->dtype) && b->kind != PLAN_TABLE};
}

static bool plant_fault(const ir_region *r) {
  for (const ir_op *op = r->first; op; op = op->next) {
    if (op->code == IR_OP_const && op->attrs[0].kind == IR_ATTR_REAL) return op->attrs[0].real += 1, true;
    for (uint32_t i = 0; i < op->region_count; i++)
      if (plant_fault(op->regions[i])) return true;
  }
  return false;
}

static ts_status run_scheduled(run *r, const plan_call *c, const ir_eval_options *o) {
  plan_world *w = r->w;
  pass_log log = {.arena = w->m->arena};
  pass_schedules s = {0};
  TS_TRY(pass_schedule_host(w->m, c->kernel, w->target, &log, &s));
  for (size_t v = 0; v < s.variants.count; v++) {
    const pass_scheduled *k = &s.variants.data[v];
    TS_TRY(ir_verify_kernel(w->m, k->kernel));
    int64_t holds = 1;
    if (k->guard && ir_size_eval(k->guard, o->symbols, o->symbol_count, &holds) != TS_OK) return TS_INTERNAL;
    if (holds < 1) continue;
    if (w->plant) plant_fault(k->kernel->body);
    size_t n = k->kernel->params.count;
    ir_eval_buffer *buf = calloc(n + 1, sizeof *buf);
    void **own = calloc(n + 1, sizeof *own);
    ts_status st = TS_OK;
    for (size_t p = 0; p < n && st == TS_OK; p++) {
      buf[p] = buffer_of(r, c->args[k->sources[p].param]);
      const plan_buffer *b = &r->f->buffers.data[c->args[k->sources[p].param]];
      if (!k->sources[p].packed) continue;
      own[p] = calloc(1, (size_t)k->sources[p].packing.bytes + 8);
      buf[p] = (ir_eval_buffer){own[p], (size_t)k->sources[p].packing.bytes, false};
      st = ir_weight_repack(b->weight, &k->sources[p].packing, w->m->diags, own[p]);
    }
    if (st == TS_OK) st = ir_eval_kernel(w->m, k->kernel, buf, n, o, NULL);
    for (size_t p = 0; p < n; p++) free(own[p]);
    free(own);
    free(buf);
    w->variants_run |= 1u << v;
    return st;
  }
  return TS_INTERNAL;
}

static ts_status run_portable(run *r, const plan_call *c, const ir_eval_options *o) {
  ir_eval_buffer *buf = calloc(c->arg_count + 1, sizeof *buf);
  for (uint32_t i = 0; i < c->arg_count; i++) buf[i] = buffer_of(r, c->args[i]);
  ts_status s = ir_verify_kernel(r->w->m, c->kernel);
  if (s == TS_OK) s = ir_eval_kernel(r->w->m, c->kernel, buf, c->arg_count, o, NULL);
  free(buf);
  return s;
}

static void **save_args(run *r, const plan_call *c) {
  void **copy = calloc(c->arg_count + 1, sizeof *copy);
  for (uint32_t i = 0; i < c->arg_count; i++) {
    copy[i] = malloc(r->bytes[c->args[i]] + 8);
    memcpy(copy[i], r->data[c->args[i]], r->bytes[c->args[i]]);
  }
  return copy;
}

static void put_args(run *r, const plan_call *c, void **from) {
  for (uint32_t i = 0; i < c->arg_count; i++)
    if (!r->borrowed[c->args[i]] || r->f->buffers.data[c->args[i]].kind == PLAN_POOL)
      memcpy(r->data[c->args[i]], from[i], r->bytes[c->args[i]]);
}

static void free_args(const plan_call *c, void **args) {
  for (uint32_t i = 0; i < c->arg_count; i++) free(args[i]);
  free(args);
}

static void integer_inputs(run *r, const plan_call *c) {
  uint64_t part = ir_modp_inverse(r->w->unscale), x = 88172645463325252u;
  for (uint32_t i = 0; i < c->arg_count; i++) {
    const plan_buffer *b = &r->f->buffers.data[c->args[i]];
    if (!ir_is_float(b->dtype) || c->kernel->params.data[i].role != IR_PARAM_IN) continue;
    bool query = b->kind != PLAN_POOL;
    for (size_t e = 0; e < r->bytes[c->args[i]] / 8; e++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      uint64_t v = ir_modp_of_int((int64_t)(x % 17) - 8);
      ((ir_cell *)r->data[c->args[i]])[e].p = query ? ir_modp_mul(v, part) : v;
    }
  }
}

static ts_status run_both(run *r, const plan_call *c, const ir_eval_options *o) {
  void **before = save_args(r, c), **portable, **scheduled;
  bool attend = c->kernel->parts.data[0].family == IR_FAMILY_ATTEND;
  if (attend) integer_inputs(r, c);
  void **start = save_args(r, c);
  ts_status s = run_portable(r, c, o);
  portable = save_args(r, c);
  put_args(r, c, start);
  if (s == TS_OK) s = run_scheduled(r, c, o);
  scheduled = save_args(r, c);
  for (uint32_t i = 0; i < c->arg_count && s == TS_OK; i++)
    for (size_t e = 0; e < r->bytes[c->args[i]]; e++)
      if (((char *)portable[i])[e] != ((char *)scheduled[i])[e]) {
        s = ts_report(r->w->m->diags, c->loc, &diag_ir_eval, "kernel '%s' and its schedule differ in buffer '%s' at byte %zu",
                      c->kernel->name, r->f->buffers.data[c->args[i]].name, e);
        break;
      }
  r->w->kernels_compared++;
  if (attend) {
    put_args(r, c, before);
    if (s == TS_OK) s = run_portable(r, c, o);
  }
  free_args(c, before);
  free_args(c, start);
  free_args(c, portable);
  free_args(c, scheduled);
  return s;
}

static ts_status run_call(run *r, const plan_call *c) {
  plan_world *w = r->w;
  int64_t *symbols = malloc((w->m->sizes->symbols.count + 8) * sizeof *symbols);
  size_t count = w->m->sizes->symbols.count;
  for (size_t i = 0; i < count; i++) symbols[i] = IR_SIZE_UNBOUND;
  ts_status s = TS_OK;
  for (uint32_t i = 0; i < c->bind_count && s == TS_OK; i++)
    s = value_of(r, c->binds[i].actual, &symbols[c->binds[i].formal->index]);
  const ir_size *p = ir_size_find(w->m->sizes, TS_STR("p")), *width = ir_size_find(w->m->sizes, TS_STR("w"));
  if (p) symbols[p->index] = w->entries * w->width;
  if (width) symbols[width->index] = w->width;
  ir_eval_options o = {.domain = w->domain, .order = w->order, .symbols = symbols, .symbol_count = count};
  w->kernels_run++;
  if (s == TS_OK) s = !w->target ? run_portable(r, c, &o) : w->both ? run_both(r, c, &o) : run_scheduled(r, c, &o);
  if (s != TS_OK) {
    ts_text t = {0};
    ir_print_kernel(w->m, c->kernel, false, &t);
    fprintf(stderr, "%s", ts_text_z(&t));
    ts_text_deinit(&t);
  }
  free(symbols);
  return s;
}

static ts_status collect_output(run *r, size_t i, ir_eval_tensor *outputs) {
  const plan_buffer *b = &r->f->buffers.data[i];
  for (size_t k = 0; k < r->f->function->outputs.count; k++) {
    if (r->f->function->outputs.data[k] != b->name) continue;
    ir_eval_tensor *t = &outputs[k];
    *t = (ir_eval_tensor){.dtype = b->dtype, .rank = b->rank};
    int64_t n;
    TS_TRY(elements(r, b, &n));
    for (unsigned d = 0; d < b->rank; d++) TS_TRY(value_of(r, b->shape[d], &t->shape[d]));
    t->data = malloc((size_t)n * 8 + 8);
    for (int64_t e = 0; e < n; e++) {
      if (ir_is_float(b->dtype)) t->data[e] = ((ir_cell *)r->data[i])[e];
      else {
        uint64_t bits = 0;
        memcpy(&bits, (char *)r->data[i] + e * (ir_dtype_bits(b->dtype) / 8), ir_dtype_bits(b->dtype) / 8);
        t->data[e].i = ir_int_of_bits(b->dtype, bits);
      }
    }
  }
  return TS_OK;
}

ts_status plan_run(plan_world *w, const plan_function *f, const ir_eval_tensor *inputs, const int64_t *lengths,
                   ir_eval_tensor *outputs) {
  size_t n = f->buffers.count;
  run r = {.w = w, .f = f, .lengths = lengths, .symbol_count = w->m->sizes->symbols.count};
  r.symbols = malloc((r.symbol_count + 1) * sizeof *r.symbols);
  r.data = calloc(n + 1, sizeof *r.data);
  r.bytes = calloc(n + 1, sizeof *r.bytes);
  r.borrowed = calloc(n + 1, sizeof *r.borrowed);
  for (size_t i = 0; i < r.symbol_count; i++) r.symbols[i] = IR_SIZE_UNBOUND;
  for (size_t i = 0; i < f->function->inputs.count; i++)
    for (unsigned d = 0; d < inputs[i].rank; d++) {
      const ir_size *s = f->function->inputs.data[i]->type->shape[d];
      if (s->op == IR_SIZE_SYMBOL) r.symbols[s->index] = inputs[i].shape[d];
    }
  ts_status s = TS_OK;
  for (size_t i = 0; i < n && s == TS_OK; i++) s = open_buffer(&r, i, inputs);
  for (size_t i = 0; i < f->calls.count && s == TS_OK; i++) s = run_call(&r, &f->calls.data[i]);
  for (size_t i = 0; i < n && s == TS_OK; i++)
    if (f->buffers.data[i].kind == PLAN_OUTPUT) s = collect_output(&r, i, outputs);
  if (s == TS_OK && f->function->advances.count)
    for (int64_t b = 0; b < w->entries; b++) w->length[b] += lengths[b];
  for (size_t i = 0; i < n; i++)
    if (!r.borrowed[i]) free(r.data[i]);
  free(r.symbols);
  free(r.data);
  free(r.bytes);
  free(r.borrowed);
  return s;
}
