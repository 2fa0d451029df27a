#include "tests/unit/cuda_rig.h"

cgc_toolchain cuda_tools;

bool cuda_tools_here(void) {
  if (cuda_tools.missing) fprintf(stderr, "skipped: %s\n", cuda_tools.missing);
  return !cuda_tools.missing;
}

static void give_up(cuda_rig *r, const char *what, const char *name) {
  ts_text t = {0};
  ts_diags_print(&r->diags, &t, false);
  ck_abort_msg("%s %s (seed 0x%llx)\n%s", name, what, (unsigned long long)r->seed, ts_text_z(&t));
}

void cuda_rig_open(cuda_rig *r, const char *text) {
  *r = (cuda_rig){.seed = rig_seed()};
  ts_arena_init(&r->arena);
  ts_interner_init(&r->names, &r->arena);
  ts_diags_init(&r->diags);
  r->m = ir_module_create(&r->arena, &r->names, &r->diags);
  r->log = (pass_log){.arena = &r->arena};
  ts_sym file = ts_intern_z(&r->names, "test.tir");
  ts_diags_add_source(&r->diags, file, ts_str_of(text));
  if (ir_parse_module(r->m, file, ts_str_of(text)) != TS_OK || ir_verify_module(r->m) != TS_OK) give_up(r, "does not parse", "module");
  if (r->m->functions.count && pass_lower(r->m, &(pass_lower_options){true}, &r->log, &r->plan) != TS_OK) give_up(r, "does not lower", "module");
}

void cuda_rig_close(cuda_rig *r) {
  ir_module_destroy(r->m);
  ts_diags_deinit(&r->diags);
  ts_interner_deinit(&r->names);
  ts_arena_deinit(&r->arena);
}

const ir_kernel *cuda_rig_kernel(cuda_rig *r, const char *name) {
  for (size_t i = 0; i < r->m->kernels.count; i++)
    if (strcmp(r->m->kernels.data[i]->name, name) == 0) return r->m->kernels.data[i];
  for (size_t i = 0; r->plan && i < r->plan->kernels.count; i++)
    if (strcmp(r->plan->kernels.data[i]->name, name) == 0) return r->plan->kernels.data[i];
  ck_abort_msg("no kernel %s", name);
  return NULL;
}

pass_cuda_target cuda_rig_target(cuda_rig *r, const cgc_target *t) {
  return (pass_cuda_target){ts_intern_z(&r->names, t->name), t->number, t->shared, t->cp_async, t->mma16, t->bf16};
}

static int64_t evaluate(cuda_rig *r, const ir_size *s) {
  int64_t v = 0;
  if (ir_size_eval(s, r->symbols, 64, &v) != TS_OK) give_up(r, "has a size that does not evaluate", "kernel");
  return v;
}

static int64_t elements(cuda_rig *r, const ir_type *t) {
  int64_t n = 1;
  for (unsigned d = 0; d < t->rank; d++) n *= evaluate(r, t->shape[d]);
  return n;
}

static double random_real(uint64_t *seed) { return (double)(int64_t)rig_random(seed) / 9.3e18; }

// The value of element i in memory of type t.
static double real_at(ir_dtype t, const void *data, int64_t i) {
  uint64_t bits = 0;
  unsigned n = ir_dtype_bits(t) / 8;
  memcpy(&bits, (const char *)data + (size_t)i * n, n);
  return ir_float_of_bits(t, bits);
}

static void *random_data(cuda_rig *r, const char *name, ir_dtype t, int64_t count, cuda_fill *fill, uint64_t *seed) {
  unsigned n = ir_dtype_bits(t) / 8;
  char *data = ts_arena_alloc(&r->arena, (size_t)count * n + 16, 16);
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = ir_is_float(t) ? ir_bits_of_float(t, random_real(seed)) : (uint64_t)(fill ? fill(name, i, count) : 0);
    memcpy(data + (size_t)i * n, &bits, n);
  }
  return data;
}

typedef struct operand {     // of the P kernel
  ir_weight *weight;
  void *data, *reference;
  int64_t count;
  bool out;
} operand;

static void make_operands(cuda_rig *r, const ir_kernel *k, cuda_fill *fill, operand *o, ir_eval_buffer *buffers) {
  uint64_t seed = r->seed;
  for (size_t i = 0; i < k->params.count; i++) {
    const ir_type *t = k->params.data[i].value->type;
    const char *name = k->params.data[i].value->name;
    o[i] = (operand){.count = elements(r, t), .out = k->params.data[i].role != IR_PARAM_IN};
    bool matrix = k->params.data[i].role == IR_PARAM_IN && t->rank == 2 && ir_size_is_const(t->shape[0]) && ir_size_is_const(t->shape[1]);
    if (t->encoding || matrix) {
      int64_t shape[IR_MAX_RANK];
      for (unsigned d = 0; d < t->rank; d++) shape[d] = evaluate(r, t->shape[d]);
      const ir_encoding *e = t->encoding ? t->encoding : ir_encoding_plain(t->dtype);
      if (ir_weight_random(&r->arena, ts_intern_z(&r->names, name), e, t->rank, shape, r->seed + i, k->loc, &r->diags, &o[i].weight) != TS_OK)
        give_up(r, "has no weight", k->name);
      ir_cell *cells = ts_new_array(&r->arena, ir_cell, o[i].count);
      double *values = ts_new_array(&r->arena, double, o[i].count);
      if (ir_weight_decode_f64(o[i].weight, 0, ir_weight_rows(o[i].weight), &r->diags, values) != TS_OK) give_up(r, "does not decode", name);
      for (int64_t k2 = 0; k2 < o[i].count; k2++) cells[k2].r = values[k2];
      buffers[i] = (ir_eval_buffer){cells, (size_t)o[i].count * sizeof *cells, true};
      if (ir_encoding_is_plain(e)) {   // as it would be bound unpacked
        unsigned n = ir_dtype_bits(e->field[0].type) / 8;
        char *d = o[i].data = ts_arena_alloc(&r->arena, (size_t)o[i].count * n + 16, 16);
        for (int64_t q = 0; q < o[i].count; q++) {
          uint64_t bits = ir_bits_of_float(e->field[0].type, values[q]);
          memcpy(d + (size_t)q * n, &bits, n);
        }
      }
      continue;
    }
    o[i].data = random_data(r, name, t->dtype, o[i].count, fill, &seed);
    size_t bytes = (size_t)o[i].count * ir_dtype_bits(t->dtype) / 8;
    if (o[i].out && ir_is_float(t->dtype)) {
      ir_cell *cells = ts_new_array(&r->arena, ir_cell, o[i].count ? o[i].count : 1);
      for (int64_t q = 0; q < o[i].count; q++) cells[q].r = real_at(t->dtype, o[i].data, q);
      o[i].reference = cells;
      buffers[i] = (ir_eval_buffer){cells, (size_t)o[i].count * sizeof *cells, true};
    } else {
      o[i].reference = ts_arena_copy(&r->arena, o[i].data, bytes + 1, 16);
      buffers[i] = (ir_eval_buffer){o[i].reference, bytes, false};
    }
  }
}

static void compare_output(cuda_rig *r, const ir_kernel *k, size_t i, const char *variant, const operand *o, const void *got, double tolerance) {
  ir_dtype t = k->params.data[i].value->type->dtype;
  double largest = 0, worst = 0;
  int64_t where = 0;
  for (int64_t q = 0; q < o->count; q++) {
    if (!ir_is_float(t)) {
      unsigned n = ir_dtype_bits(t) / 8;
      ck_assert_msg(memcmp((const char *)got + (size_t)q * n, (const char *)o->reference + (size_t)q * n, n) == 0, "%s.%s: %s[%lld] differs", k->name, variant,
                    k->params.data[i].value->name, (long long)q);
      continue;
    }
    double want = ((const ir_cell *)o->reference)[q].r, have = real_at(t, got, q), error = fabs(want - have);
    if (fabs(want) > largest) largest = fabs(want);
    if (!(error <= worst)) worst = error, where = q;
  }
  ck_assert_msg(worst <= tolerance * largest, "%s.%s: %s[%lld] is %g, not %g (off by %g of %g; seed 0x%llx)", k->name, variant, k->params.data[i].value->name,
                (long long)where, real_at(t, got, where), ((const ir_cell *)o->reference)[where].r, worst, largest, (unsigned long long)r->seed);
}

static void run_variant(cuda_rig *r, const ir_kernel *k, const pass_scheduled *v, const cgc_target *t, operand *o, double tolerance) {
  cgc_code code;
  if (ir_verify_kernel(r->m, v->kernel) != TS_OK) give_up(r, "does not verify", v->kernel->name);
  if (cgc_compile(&cuda_tools, v->kernel, t, &r->arena, &r->diags, &code) != TS_OK) give_up(r, "does not compile", v->kernel->name);
  rig g;
  rig_open_text(&g, code.ptx, v->kernel->name, t->number);
  uint64_t params[MAX_KERNEL_ARGS];
  emu_addr address[MAX_KERNEL_ARGS];
  unsigned n = 0;
  for (size_t i = 0; i < v->kernel->params.count; i++) {
    const pass_source *s = &v->sources[i];
    const operand *x = &o[s->param];
    if (s->packed) {
      void *packed = ts_arena_alloc(&r->arena, (size_t)s->packing.bytes + 1, 16);
      if (ir_weight_repack(x->weight, &s->packing, &r->diags, packed) != TS_OK) give_up(r, "does not repack", v->kernel->name);
      address[i] = rig_buffer(&g, packed, (size_t)s->packing.bytes);
    } else {
      address[i] = rig_buffer(&g, x->data, (size_t)elements(r, v->kernel->params.data[i].value->type) * ir_dtype_bits(v->kernel->params.data[i].value->type->dtype) / 8);
    }
    params[n++] = address[i];
  }
  for (uint32_t i = 0; i < code.dim_count; i++) params[n++] = (uint64_t)evaluate(r, code.dims[i]);
  uint32_t grid[3];
  for (int i = 0; i < 3; i++) grid[i] = (uint32_t)evaluate(r, v->kernel->grid[i]);
  const emu_entry *e = emu_module_entry_at(g.m, 0);
  emu_entry_info info;
  emu_entry_describe(e, &info);
  if (rig_launch(&g, info.name, (dims){grid[0], grid[1], grid[2]}, (dims){code.threads, 1, 1}, code.shared, params, n) != TS_OK) rig_fail(&g, v->kernel->name);
  for (size_t i = 0; i < v->kernel->params.count; i++) {
    const operand *x = &o[v->sources[i].param];
    if (!x->out) continue;
    void *got = rig_fetch(&g, address[i], (size_t)x->count * ir_dtype_bits(v->kernel->params.data[i].value->type->dtype) / 8);
    compare_output(r, k, v->sources[i].param, v->variant, x, got, tolerance);
  }
  rig_close(&g);
}

void cuda_rig_compare(cuda_rig *r, const char *kernel, const cgc_target *t, const cuda_bind *binds, unsigned count, cuda_fill *fill, double tolerance) {
  const ir_kernel *k = cuda_rig_kernel(r, kernel);
  for (unsigned i = 0; i < 64; i++) r->symbols[i] = IR_SIZE_UNBOUND;
  for (unsigned i = 0; i < count; i++) r->symbols[ir_size_find(r->m->sizes, ts_str_of(binds[i].symbol))->index] = binds[i].value;
  operand o[MAX_KERNEL_ARGS];
  ir_eval_buffer buffers[MAX_KERNEL_ARGS];
  make_operands(r, k, fill, o, buffers);
  ir_eval_options options = {.domain = IR_DOMAIN_IDEAL, .symbols = r->symbols, .symbol_count = 64};
  if (ir_eval_kernel(r->m, k, buffers, k->params.count, &options, NULL) != TS_OK) give_up(r, "does not evaluate", kernel);
  pass_cuda_target target = cuda_rig_target(r, t);
  pass_schedules s;
  if (pass_schedule_cuda(r->m, k, &target, &r->log, &s) != TS_OK) give_up(r, "has no schedule", kernel);
  for (size_t v = 0; v < s.variants.count; v++) run_variant(r, k, &s.variants.data[v], t, o, tolerance);
}

// One launch program runs the kernels of all targets.
static void check_agreement(const pass_schedules *a, const pass_schedules *b) {
  ck_assert_uint_eq(a->variants.count, b->variants.count);
  for (size_t v = 0; v < a->variants.count; v++) {
    const pass_scheduled *x = &a->variants.data[v], *y = &b->variants.data[v];
    ck_assert(x->guard == y->guard && x->kernel->params.count == y->kernel->params.count);
    for (int i = 0; i < 3; i++) ck_assert(x->kernel->grid[i] == y->kernel->grid[i]);
    for (size_t i = 0; i < x->kernel->params.count; i++) {
      ck_assert(x->kernel->params.data[i].value->type == y->kernel->params.data[i].value->type);
      const pass_source *p = &x->sources[i], *q = &y->sources[i];
      ck_assert(p->param == q->param && p->packed == q->packed);
      if (p->packed) ck_assert(p->packing.what == q->packing.what && p->packing.bytes == q->packing.bytes && p->packing.digits == q->packing.digits &&
                               memcmp(p->packing.digit, q->packing.digit, p->packing.digits * sizeof *p->packing.digit) == 0);
    }
  }
}

void cuda_rig_compile_all(cuda_rig *r, const char *kernel) {
  const ir_kernel *k = cuda_rig_kernel(r, kernel);
  pass_schedules first = {0};
  for (unsigned i = 0; i < cgc_target_count(); i++) {
    const cgc_target *t = cgc_target_get(i);
    pass_cuda_target target = cuda_rig_target(r, t);
    pass_schedules s;
    if (pass_schedule_cuda(r->m, k, &target, &r->log, &s) != TS_OK) give_up(r, "has no schedule", kernel);
    if (i == 0) first = s;
    else check_agreement(&first, &s);
    for (size_t v = 0; v < s.variants.count; v++) {
      cgc_code code;
      if (cgc_compile(&cuda_tools, s.variants.data[v].kernel, t, &r->arena, &r->diags, &code) != TS_OK) give_up(r, "does not compile", kernel);
      ck_assert_msg(code.registers > 0 && code.spill_bytes == 0, "%s.%s for %s: %u registers, %u bytes of spills", kernel, s.variants.data[v].variant, t->name,
                    code.registers, code.spill_bytes);
    }
  }
}
