// Trials of kernels (see trial.h).
#include "drive/trial.h"

#include <math.h>
#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "drive/trial_diag.def"
#undef TS_DIAG

static uint64_t draw(drive_trial *t) {
  t->random ^= t->random << 13, t->random ^= t->random >> 7, t->random ^= t->random << 17;
  return t->random * 2685821657736338717u >> 16;
}
static int64_t below(drive_trial *t, int64_t n) { return n > 0 ? (int64_t)(draw(t) % (uint64_t)n) : 0; }

// ---- sizes ---------------------------------------------------------------------------------------------------------------
static bool named(const char *name, const char *what) { return strcmp(name, what) == 0; }

static void mark_symbol(void *user, const ir_size *symbol) { ((bool *)user)[symbol->index] = true; }

static void mark_type(const ir_type *t, bool *used) {
  for (unsigned i = 0; i < t->rank; i++) ir_size_symbols(t->shape[i], mark_symbol, used);
}

static void mark_region(const ir_region *r, bool *used) {
  for (const ir_op *op = r->first; op; op = op->next) {
    for (uint32_t i = 0; i < op->attr_count; i++)
      if (op->attrs[i].kind == IR_ATTR_SIZE) ir_size_symbols(op->attrs[i].size, mark_symbol, used);
    for (uint32_t i = 0; i < op->region_count; i++) mark_region(op->regions[i], used);
  }
}

// The longest list that the kernel can see: what a position may index, or the extent of a reduced token axis.
static int64_t longest(const ir_kernel *k) {
  int64_t bound = 1 << 20;
  for (size_t p = 0; p < k->parts.count; p++)
    for (size_t i = 0; i < k->parts.data[p].axes.count; i++) {
      const ir_axis *a = &k->parts.data[p].axes.data[i];
      if (named(a->name, "t") && ir_size_is_const(a->size) && a->size->value < bound) bound = a->size->value;
    }
  return bound;
}

// Lists, their rows, all rows, pages: b, s, m, w, p in lowered kernels. Other symbols get what their bounds allow.
static void choose_sizes(drive_trial *t, int64_t rows) {
  ir_sizes *sizes = t->m->sizes;
  t->symbol_count = sizes->symbols.count;
  t->symbols = calloc(t->symbol_count + 1, sizeof *t->symbols);
  bool *used = calloc(t->symbol_count + 1, sizeof *used);
  const ir_kernel *k = t->portable;
  for (size_t i = 0; i < k->params.count; i++) mark_type(k->params.data[i].value->type, used);
  for (size_t p = 0; p < k->parts.count; p++) {
    const ir_part *part = &k->parts.data[p];
    for (size_t i = 0; i < part->axes.count; i++) ir_size_symbols(part->axes.data[i].size, mark_symbol, used);
    const ir_region *regions[] = {part->init, part->update, part->finish};
    for (int r = 0; r < 3; r++) mark_region(regions[r], used);
  }
  bool has_b = false;
  for (size_t i = 0; i < t->symbol_count; i++) has_b |= used[i] && named(sizes->symbols.data[i]->name, "b");
  int64_t limit = longest(k), b = has_b ? 1 + below(t, rows > 3 ? 3 : rows) : 1, s = has_b ? (rows + b - 1) / b : 1 + below(t, 9);
  if (s > limit) s = limit;
  int64_t m = has_b ? b * s : rows, w = limit < 1 << 20 ? (limit + 15) / 16 : (s + 20 + 15) / 16;
  for (size_t i = 0; i < t->symbol_count; i++) {
    const ir_size *x = sizes->symbols.data[i];
    t->symbols[i] = IR_SIZE_UNBOUND;
    if (!used[i]) continue;
    const char *n = x->name;
    int64_t v = named(n, "m") ? m : named(n, "b") ? b : named(n, "s") ? s : named(n, "w") ? w : named(n, "p") ? b * w : rows;
    if (v > x->hi) v = x->hi;
    if (v < x->lo) v = x->lo;
    if (x->step > 1) v -= (v - x->residue) % x->step;
    if (v < x->lo) v += x->step;
    t->symbols[i] = v;
  }
  free(used);
}

static int64_t size_named(const drive_trial *t, const char *name, int64_t otherwise) {
  for (size_t i = t->symbol_count; i-- > 0;)
    if (t->symbols[i] != IR_SIZE_UNBOUND && named(t->m->sizes->symbols.data[i]->name, name)) return t->symbols[i];
  return otherwise;
}

static ts_status count_of(const drive_trial *t, const ir_type *type, int64_t *n) {
  *n = 1;
  for (unsigned i = 0; i < type->rank; i++) {
    int64_t v;
    TS_TRY(ir_size_eval(type->shape[i], t->symbols, t->symbol_count, &v));
    *n *= v;
  }
  return TS_OK;
}

// ---- contents ------------------------------------------------------------------------------------------------------------
// Does v come from a load of `mem` through elementwise ops?
static bool comes_from(const ir_value *v, const ir_value *mem, int depth) {
  const ir_op *op = v->producer;
  if (!op || depth > 12) return false;
  if (op->code == IR_OP_load) return op->operands[0] == mem;
  if (op->code != IR_OP_apply && op->code != IR_OP_relabel) return false;
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (comes_from(op->operands[i], mem, depth + 1)) return true;
  return false;
}

static void index_limit(const drive_trial *t, const ir_region *r, const ir_value *mem, int64_t *limit) {
  for (const ir_op *op = r->first; op; op = op->next)
    for (uint32_t i = 1; (op->code == IR_OP_load || op->code == IR_OP_store) && i <= op->operands[0]->type->rank; i++) {
      int64_t extent;
      if (comes_from(op->operands[i], mem, 0) && ir_size_eval(op->operands[0]->type->shape[i - 1], t->symbols, t->symbol_count, &extent) == TS_OK &&
          extent < *limit)
        *limit = extent;
    }
}

static int64_t integers_below(const drive_trial *t, const ir_value *mem) {
  int64_t limit = 100;
  for (size_t p = 0; p < t->portable->parts.count; p++) {
    const ir_part *part = &t->portable->parts.data[p];
    const ir_region *regions[] = {part->init, part->update, part->finish};
    for (int r = 0; r < 3; r++) index_limit(t, regions[r], mem, &limit);
  }
  return limit;
}

static void put_int(drive_trial_param *p, ir_dtype type, int64_t i, int64_t v) {
  size_t width = ir_dtype_bits(type) / 8;
  memcpy((char *)p->data + (size_t)i * width, &v, width);
}

static int64_t get_int(const drive_trial_param *p, int64_t i) {
  int32_t v;
  memcpy(&v, (const char *)p->data + i * 4, 4);
  return v;
}

static drive_trial_param *find_param(drive_trial *t, const char *name) {
  for (size_t i = 0; i < t->portable->params.count; i++)
    if (named(t->portable->params.data[i].value->name, name)) return &t->params[i];
  return NULL;
}

static void fill_integers(drive_trial *t, const ir_value *v, drive_trial_param *p, int64_t n) {
  int64_t s = size_named(t, "s", 1), width = size_named(t, "w", 1), limit = longest(t->portable), most = limit < 1 << 20 ? limit : s + 20;
  if (named(v->name, "rows")) {
    for (int64_t i = 0; i < n; i++) put_int(p, v->type->dtype, i, i ? below(t, s + 1) : s);
  } else if (named(v->name, "length")) {
    for (int64_t i = 0; i < n; i++) put_int(p, v->type->dtype, i, below(t, most - s + 1));
  } else if (named(v->name, "pages")) {   // filled when lengths are there
    const drive_trial_param *length = find_param(t, "length"), *rows = find_param(t, "rows");
    for (int64_t i = 0; i < n; i++) {
      int64_t list = i / width, held = (length && length->data ? get_int(length, list) : 0) + (rows && rows->data ? get_int(rows, list) : s);
      put_int(p, v->type->dtype, i, i % width < (held + 15) / 16 ? n - 1 - i : -1);
    }
  } else {
    int64_t below_this = integers_below(t, v);
    for (int64_t i = 0; i < n; i++) put_int(p, v->type->dtype, i, below(t, below_this));
  }
}

// The constant that multiplies the query, where the kernel is attention: 0 where there is none.
static double score_scale(const ir_kernel *k, const ir_value **query) {
  *query = NULL;
  for (size_t p = 0; p < k->parts.count; p++)
    for (const ir_op *op = k->parts.data[p].update->first; op; op = op->next) {
      const ir_op *dot = op->code == IR_OP_softacc ? op->operands[0]->producer : NULL, *q = dot && dot->code == IR_OP_dot ? dot->operands[0]->producer : NULL;
      if (!q) continue;
      const ir_op *load = q->code == IR_OP_load ? q : q->operands[0]->producer, *by = q->code == IR_OP_apply && q->operand_count == 2 ? q->operands[1]->producer : NULL;
      *query = load && load->code == IR_OP_load ? load->operands[0] : NULL;
      return by && by->code == IR_OP_const && by->attrs[0].kind == IR_ATTR_REAL ? by->attrs[0].real : 1;
    }
  return 0;
}

static void fill_floats(drive_trial *t, const ir_value *v, drive_trial_param *p, int64_t n, bool out) {
  const ir_value *query;
  double scale = score_scale(t->portable, &query);
  ir_cell *c = p->data;
  uint64_t unscale = scale != 0 && v == query ? ir_modp_inverse(ir_eval_real(IR_DOMAIN_MODP, IR_f32, scale).p) : 1;
  for (int64_t i = 0; i < n; i++) {
    if (out) memset(&c[i], 0x7B, sizeof c[i]);   // poison
    else if (t->domain != IR_DOMAIN_MODP) c[i].r = (double)ir_round(IR_f32, (double)below(t, 2000001) / 1e6 - 1);
    else if (scale != 0) c[i].p = ir_modp_mul(ir_modp_of_int(below(t, 17) - 8), unscale);
    else c[i].p = draw(t) % IR_MODP;
  }
}

static bool is_weight(const drive_trial *t, size_t i) {
  const ir_param *p = &t->portable->params.data[i];
  const ir_type *type = p->value->type;
  if (p->role != IR_PARAM_IN || !ir_is_float(type->dtype) || ir_type_elements(type) < 0) return false;
  return type->encoding || type->rank == 2;
}

static ts_status fill_weight(drive_trial *t, const ir_value *v, drive_trial_param *p, int64_t n) {
  int64_t shape[IR_MAX_RANK];
  for (unsigned i = 0; i < v->type->rank; i++) shape[i] = v->type->shape[i]->value;
  ir_weight *w;
  const ir_encoding *e = v->type->encoding ? v->type->encoding : ir_encoding_plain(v->type->dtype);
  TS_TRY(ir_weight_random(t->m->arena, v->name, e, v->type->rank, shape, draw(t), t->portable->loc, t->m->diags, &w));
  p->weight = w;
  TS_TRY(ir_weight_decode_f64(w, 0, ir_weight_rows(w), t->m->diags, p->data));
  ir_cell *c = p->data;
  if (t->domain == IR_DOMAIN_MODP)
    for (int64_t i = 0; i < n; i++) c[i].p = ir_modp_of_real(c[i].r);
  return TS_OK;
}

static ts_status fill(drive_trial *t, size_t i) {
  const ir_param *from = &t->portable->params.data[i];
  const ir_type *type = from->value->type;
  drive_trial_param *p = &t->params[i];
  int64_t n;
  TS_TRY(count_of(t, type, &n));
  bool is_float = ir_is_float(type->dtype);
  p->wide = is_float;
  p->bytes = is_float ? (size_t)n * sizeof(ir_cell) : ((size_t)n * ir_dtype_bits(type->dtype) + 7) / 8;
  p->data = calloc(1, p->bytes + 8);
  p->start = malloc(p->bytes + 8);
  if (!p->data || !p->start) return TS_OUT_OF_MEMORY;
  if (is_weight(t, i)) TS_TRY(fill_weight(t, from->value, p, n));
  else if (is_float) fill_floats(t, from->value, p, n, from->role == IR_PARAM_OUT);
  else if (from->role == IR_PARAM_OUT) memset(p->data, 0x7B, p->bytes);
  else if (ir_dtype_bits(type->dtype) >= 8) fill_integers(t, from->value, p, n);
  return TS_OK;
}

// ---- running -------------------------------------------------------------------------------------------------------------
static ts_status run(drive_trial *t, const ir_kernel *k, const ir_eval_buffer *buffers) {
  ir_eval_options o = {.domain = t->domain, .order = t->order, .symbols = t->symbols, .symbol_count = t->symbol_count};
  return ir_eval_kernel(t->m, k, buffers, k->params.count, &o, NULL);
}

static ts_status attempt(drive_trial *t, int64_t rows) {
  size_t n = t->portable->params.count;
  choose_sizes(t, rows);
  t->params = calloc(n + 1, sizeof *t->params);
  t->expected = calloc(n + 1, sizeof *t->expected);
  for (int pass = 0; pass < 2; pass++)   // page tables last: they depend on lengths
    for (size_t i = 0; i < n; i++)
      if (named(t->portable->params.data[i].value->name, "pages") == pass) TS_TRY(fill(t, i));
  ir_eval_buffer *b = calloc(n + 1, sizeof *b);
  for (size_t i = 0; i < n; i++) {
    memcpy(t->params[i].start, t->params[i].data, t->params[i].bytes);
    b[i] = (ir_eval_buffer){t->params[i].data, t->params[i].bytes, t->params[i].wide};
  }
  ts_status s = run(t, t->portable, b);
  free(b);
  if (s != TS_OK) return s;
  for (size_t i = 0; i < n; i++) {
    t->expected[i] = t->params[i].data;
    t->params[i].data = malloc(t->params[i].bytes + 8);
  }
  return TS_OK;
}

void drive_trial_close(drive_trial *t) {
  for (size_t i = 0; t->params && i < t->portable->params.count; i++) {
    free(t->params[i].data);
    free(t->params[i].start);
    free(t->expected[i]);
  }
  free(t->params);
  free(t->expected);
  free(t->symbols);
  t->params = NULL, t->expected = NULL, t->symbols = NULL;
}

ts_status drive_trial_open(drive_trial *t, ir_module *m, const ir_kernel *portable, int64_t rows, uint64_t seed) {
  ts_diags *diags = m->diags, quiet;
  ts_status s = TS_OK;
  for (int ideal = 0; ideal < 2; ideal++) {   // the prime field first: it refuses what it can't do
    *t = (drive_trial){.m = m, .portable = portable, .domain = ideal ? IR_DOMAIN_IDEAL : IR_DOMAIN_MODP, .random = seed * 2 + 88172645463325251u, .order = seed | 1};
    if (!ideal) ts_diags_init(&quiet), m->diags = &quiet;
    s = attempt(t, rows);
    if (!ideal) m->diags = diags, ts_diags_deinit(&quiet);
    if (s == TS_OK) return TS_OK;
    drive_trial_close(t);
  }
  return s;
}

static double largest(const ir_cell *c, size_t n) {
  double most = 0;
  for (size_t i = 0; i < n; i++)
    if (fabs(c[i].r) < 1e200) most = fmax(most, fabs(c[i].r));
  return most;
}

// The first element that differs; false: none.
static bool differ(const drive_trial *t, size_t i, size_t *at) {
  const drive_trial_param *p = &t->params[i];
  const char *x = t->expected[i], *y = p->data;
  if (memcmp(x, y, p->bytes) == 0) return false;
  size_t width = p->wide ? sizeof(ir_cell) : 1, n = p->bytes / width;
  const ir_cell *a = t->expected[i], *b = p->data;
  double bound = p->wide && t->domain != IR_DOMAIN_MODP ? 1e-9 * largest(a, n) : 0;
  for (*at = 0; *at < n; ++*at) {
    if (memcmp(x + *at * width, y + *at * width, width) == 0) continue;
    if (!p->wide || t->domain == IR_DOMAIN_MODP) return true;
    if (isnan(a[*at].r) && isnan(b[*at].r)) continue;
    if (!(fabs(a[*at].r - b[*at].r) <= bound)) return true;
  }
  return false;
}

static ts_status compare(drive_trial *t, const pass_scheduled *s) {
  for (size_t i = 0; i < t->portable->params.count; i++) {
    size_t at;
    if (t->portable->params.data[i].role == IR_PARAM_IN || !differ(t, i, &at)) continue;
    const ir_value *v = t->portable->params.data[i].value;
    ts_report(t->m->diags, s->kernel->loc, &diag_drive_differs, "kernel '%s' writes another %s than '%s' does, first at %s %zu", s->kernel->name, v->name,
              t->portable->name, t->params[i].wide ? "element" : "byte", at);
    ts_text sizes = {0};
    for (size_t k = 0; k < t->symbol_count; k++)
      if (t->symbols[k] != IR_SIZE_UNBOUND) ts_text_printf(&sizes, " %s = %lld", t->m->sizes->symbols.data[k]->name, (long long)t->symbols[k]);
    ts_note(t->m->diags, t->portable->loc, "evaluated %s, with%s", t->domain == IR_DOMAIN_MODP ? "exactly, in a prime field" : "in f64", ts_text_z(&sizes));
    ts_text_deinit(&sizes);
    return TS_MISMATCH;
  }
  return TS_OK;
}

ts_status drive_trial_run(drive_trial *t, const pass_scheduled *s, bool *ran) {
  int64_t holds = 1;
  *ran = false;
  if (s->guard) TS_TRY(ir_size_eval(s->guard, t->symbols, t->symbol_count, &holds));
  if (holds < 1) return TS_OK;
  *ran = true;
  for (size_t i = 0; i < t->portable->params.count; i++) memcpy(t->params[i].data, t->params[i].start, t->params[i].bytes);
  size_t n = s->kernel->params.count;
  ir_eval_buffer *b = calloc(n + 1, sizeof *b);
  void **packed = calloc(n + 1, sizeof *packed);
  ts_status status = TS_OK;
  for (size_t i = 0; i < n && status == TS_OK; i++) {
    const drive_trial_param *p = &t->params[s->sources[i].param];
    b[i] = (ir_eval_buffer){p->data, p->bytes, p->wide};
    if (!s->sources[i].packed) continue;
    packed[i] = calloc(1, (size_t)s->sources[i].packing.bytes + 8);
    b[i] = (ir_eval_buffer){packed[i], (size_t)s->sources[i].packing.bytes, false};
    status = p->weight ? ir_weight_repack(p->weight, &s->sources[i].packing, t->m->diags, packed[i])
                       : ts_report(t->m->diags, s->kernel->loc, &diag_drive_differs, "kernel '%s' packs parameter '%s', which is no weight", s->kernel->name,
                                   t->portable->params.data[s->sources[i].param].value->name);
  }
  if (status == TS_OK) status = run(t, s->kernel, b);
  for (size_t i = 0; i < n; i++) free(packed[i]);
  free(packed);
  free(b);
  return status == TS_OK ? compare(t, s) : status;
}
