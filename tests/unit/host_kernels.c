// See host_kernels.h.
#include "tests/unit/host_kernels.h"

#include <cpuid.h>
#include <stdlib.h>
#include <sys/mman.h>

void hk_init(hk *h) {
  ts_arena_init(&h->arena);
  ts_interner_init(&h->names, &h->arena);
  ts_diags_init(&h->diags);
  h->module = ir_module_create(&h->arena, &h->names, &h->diags);
}

void hk_deinit(hk *h) {
  ir_module_destroy(h->module);
  ts_diags_deinit(&h->diags);
  ts_interner_deinit(&h->names);
  ts_arena_deinit(&h->arena);
}

ts_sym hk_name(hk *h, const char *name) { return ts_intern_z(&h->names, name); }
const ir_size *hk_size(hk *h, int64_t v) { return ir_size_const(h->module->sizes, v); }

ir_kernel *hk_begin(hk *h, const char *name) {
  h->kernel = ir_kernel_create(h->module, hk_name(h, name), IR_STAGE_S, (ts_loc){hk_name(h, "spec.yaml"), 1, 1, 0});
  h->kernel->target_class = IR_CLASS_HOST;
  for (int i = 0; i < 3; i++) h->kernel->grid[i] = hk_size(h, 1);
  h->b = (ir_builder){.module = h->module, .region = h->kernel->body, .loc = {hk_name(h, "spec.yaml"), 2, 1, 0}};
  return h->kernel;
}

ir_value *hk_param(hk *h, const char *name, ir_param_role role, ir_dtype t, unsigned rank, const ir_size *const *shape) {
  return ir_kernel_param(h->module, h->kernel, hk_name(h, name),
                         ir_mem_type(h->module, t, rank, shape, NULL, IR_SPACE_GLOBAL, NULL), role);
}

ir_value *hk_param_c(hk *h, const char *name, ir_param_role role, ir_dtype t, unsigned rank, const int64_t *shape) {
  const ir_size *s[8] = {NULL};
  for (unsigned i = 0; i < rank; i++) s[i] = hk_size(h, shape[i]);
  return hk_param(h, name, role, t, rank, s);
}

const ir_type *hk_tile(hk *h, ir_dtype t, const char *axes) {
  ts_sym names[12] = {NULL}, lanes = NULL;
  const ir_size *shape[12] = {NULL};
  unsigned rank = 0;
  for (const char *p = axes; *p;) {
    const char *colon = strchr(p, ':');
    names[rank] = ts_intern(&h->names, (ts_str){p, (size_t)(colon - p)});
    char *end;
    shape[rank] = hk_size(h, strtoll(colon + 1, &end, 10));
    if (*end == '*') lanes = names[rank], end++;
    rank++;
    p = *end == ' ' ? end + 1 : end;
  }
  const ir_type *r = ir_tile_type(h->module, t, rank, names, shape);
  return lanes ? ir_type_with_lanes(h->module, r, lanes) : r;
}

static unsigned split_names(hk *h, const char *text, ts_sym *out) {
  unsigned n = 0;
  for (const char *p = text; p && *p;) {
    size_t len = strcspn(p, " ");
    out[n++] = ts_intern(&h->names, (ts_str){p, len});
    p += len + (p[len] == ' ');
  }
  return n;
}

static void fill_index(hk *h, ir_value *mem, ir_value *const *index, ir_value **out) {
  for (unsigned i = 0; i < mem->type->rank; i++) out[i] = index && index[i] ? index[i] : hk_int(h, 0);
}

ir_value *hk_load(hk *h, ir_value *mem, ir_value *const *index, const char *at, ir_value *mask, const ir_type *result) {
  ir_value *all[12];
  ts_sym names[12] = {NULL};
  fill_index(h, mem, index, all);
  split_names(h, at, names);
  return ir_load(&h->b, mem, all, names, mask, result);
}

void hk_store(hk *h, ir_value *mem, ir_value *const *index, const char *at, ir_value *v, ir_value *mask) {
  ir_value *all[12];
  ts_sym names[12] = {NULL};
  fill_index(h, mem, index, all);
  split_names(h, at, names);
  ir_store(&h->b, mem, all, names, v, mask);
}

ir_value *hk_int(hk *h, int64_t v) { return ir_const_int(&h->b, IR_i64, v); }
ir_value *hk_real(hk *h, double v) { return ir_const_real(&h->b, IR_f32, v); }

ir_value *hk_pid(hk *h, int axis) {
  const ir_type *t = ir_scalar_type(h->module, IR_i64);
  ir_op *op = ir_build(&h->b, IR_OP_pid, 0, NULL, 1, &t);
  ir_set_int(&h->b, op, "axis", axis);
  return op->results[0];
}

ir_value *hk_op(hk *h, ir_scalar op, ir_value *x, ir_value *y) { return ir_apply_op(&h->b, op, x, y, NULL); }

ir_value *hk_dot(hk *h, ir_value *a, ir_value *b, ir_value *acc, const char *over, const ir_type *t) {
  ts_sym names[12] = {NULL};
  unsigned n = split_names(h, over, names);
  return ir_dot(&h->b, a, b, acc, n, names, t);
}

ir_value *hk_relabel(hk *h, const char *kind, ir_value *x, const char *axis, const char *to, int64_t at, int64_t count,
                     int64_t step, const ir_type *t) {
  ir_op *op = ir_build(&h->b, IR_OP_relabel, 1, &x, 1, &t);
  ts_sym names[12] = {NULL};
  unsigned n = split_names(h, to, names);
  ir_set_sym(&h->b, op, "kind", hk_name(h, kind));
  if (axis) ir_set_sym(&h->b, op, "axis", hk_name(h, axis));
  if (n) ir_set_axes(&h->b, op, "to", n, names);
  ir_set_int(&h->b, op, "at", at);
  ir_set_int(&h->b, op, "count", count);
  ir_set_int(&h->b, op, "step", step);
  return op->results[0];
}

// ---- running ---------------------------------------------------------------------------------------------------------------
unsigned hk_isas(const cgh_isa **out, unsigned capacity) {
  uint32_t have = 0;
  if (__builtin_cpu_supports("avx2")) have |= TSR_HAS_avx2;
  if (__builtin_cpu_supports("fma")) have |= TSR_HAS_fma;
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C)) have |= TSR_HAS_f16c;
  if (__builtin_cpu_supports("bmi2")) have |= TSR_HAS_bmi2;
  if (__builtin_cpu_supports("avx512f")) have |= TSR_HAS_avx512f;
  if (__builtin_cpu_supports("avx512bw")) have |= TSR_HAS_avx512bw;
  if (__builtin_cpu_supports("avx512dq")) have |= TSR_HAS_avx512dq;
  if (__builtin_cpu_supports("avx512vl")) have |= TSR_HAS_avx512vl;
  if (__builtin_cpu_supports("avx512cd")) have |= TSR_HAS_avx512cd;
  if (__builtin_cpu_supports("avx512vnni")) have |= TSR_HAS_avx512_vnni;
  if (__builtin_cpu_supports("avx512bf16")) have |= TSR_HAS_avx512_bf16;
  unsigned n = 0;
  for (unsigned i = 0; i < cgh_isa_count() && n < capacity; i++)
    if ((cgh_isa_get(i)->features & ~have) == 0) out[n++] = cgh_isa_get(i);
  return n;
}

ts_status hk_compile(hk *h, const cgh_isa *isa, const cgh_options *o, hk_image *out) {
  *out = (hk_image){0};
  TS_TRY(cgh_compile(h->kernel, isa, o, &h->arena, &h->diags, &out->code));
  const unsigned char *image;
  cgh_object object = {out->code.object, out->code.object_bytes};
  TS_TRY(cgh_link(&object, 1, &h->arena, &h->diags, &image, &out->bytes));
  out->memory = mmap(NULL, out->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (out->memory == MAP_FAILED) return TS_OUT_OF_MEMORY;
  memcpy(out->memory, image, out->bytes);
  mprotect(out->memory, out->bytes, PROT_READ | PROT_EXEC);
  const tsr_host_image *head = out->memory;
  void *entry = (char *)out->memory + head->entries[0];
  memcpy(&out->entry, &entry, sizeof entry);
  out->scratch = aligned_alloc(64, out->code.scratch + 64);
  return TS_OK;
}

void hk_unmap(hk_image *i) {
  if (i->memory) munmap(i->memory, i->bytes);
  free(i->scratch);
}

int hk_run(const hk_image *i, void *const *bufs, const int64_t *dims, uint32_t blocks) {
  uint32_t error = 0;
  tsr_host_api api = {.version = TSR_HOST_API_VERSION, .scratch = i->scratch, .scratch_bytes = i->code.scratch, .error = &error};
  for (uint32_t b = 0; b < blocks; b++) {
    int code = i->entry(&api, bufs, dims, b);
    if (code) return code;
  }
  return 0;
}

// ---- kernels ---------------------------------------------------------------------------------------------------------------
static const ir_type *panel_type(hk *h, ir_dtype t, unsigned rank, const int64_t *shape) {
  const ir_size *s[8] = {NULL};
  for (unsigned i = 0; i < rank; i++) s[i] = hk_size(h, shape[i]);
  return ir_mem_type(h->module, t, rank, s, NULL, IR_SPACE_PANEL, NULL);
}

void hk_gemm(hk *h, int64_t m, int64_t n, int64_t k, int64_t rows, int64_t cols, int64_t unroll) {
  ir_kernel *kernel = hk_begin(h, "gemm");
  kernel->grid[0] = hk_size(h, m / rows);
  kernel->grid[1] = hk_size(h, n / cols);
  ir_value *a = hk_param_c(h, "a", IR_PARAM_IN, IR_f32, 2, (int64_t[]){m, k});
  ir_value *w = hk_param_c(h, "w", IR_PARAM_IN, IR_f32, 3, (int64_t[]){n / cols, k, cols});
  ir_value *c = hk_param_c(h, "c", IR_PARAM_OUT, IR_f32, 2, (int64_t[]){m, n});
  ir_value *mb = hk_pid(h, 0), *nb = hk_pid(h, 1);
  ir_value *m0 = hk_op(h, IR_SCALAR_mul, mb, hk_int(h, rows)), *n0 = hk_op(h, IR_SCALAR_mul, nb, hk_int(h, cols));
  char axes[64];
  // Pack rows of A: [k, rows].
  const ir_type *pt = panel_type(h, IR_f32, 2, (int64_t[]){k, rows});
  ir_value *panel = ir_build(&h->b, IR_OP_alloc, 0, NULL, 1, &pt)->results[0];
  ir_region *body = h->b.region;
  ir_op *pack = ir_for(&h->b, hk_int(h, 0), hk_int(h, k), hk_int(h, 16), 0, NULL);
  h->b.region = pack->regions[0];
  snprintf(axes, sizeof axes, "m:%d k:16*", (int)rows);
  ir_value *at = hk_load(h, a, (ir_value *[]){m0, pack->regions[0]->params[0]}, "m k", NULL, hk_tile(h, IR_f32, axes));
  snprintf(axes, sizeof axes, "k:16 m:%d*", (int)rows);
  const ir_type *tt = hk_tile(h, IR_f32, axes);
  ir_value *turned = ir_build(&h->b, IR_OP_convert, 1, &at, 1, &tt)->results[0];
  hk_store(h, panel, (ir_value *[]){pack->regions[0]->params[0], NULL}, "k m", turned, NULL);
  ir_yield(&h->b, 0, NULL);
  h->b.region = body;
  snprintf(axes, sizeof axes, "m:%d n:%d*", (int)rows, (int)cols);
  const ir_type *acc_type = hk_tile(h, IR_f32, axes);
  ir_value *zero = ir_full(&h->b, hk_real(h, 0), acc_type);
  ir_op *loop = ir_for(&h->b, hk_int(h, 0), hk_int(h, k), hk_int(h, unroll), 1, &zero);
  h->b.region = loop->regions[0];
  ir_value *i = loop->regions[0]->params[0], *acc = loop->regions[0]->params[1];
  snprintf(axes, sizeof axes, "k:%d m:%d", (int)unroll, (int)rows);
  ir_value *x = hk_load(h, panel, (ir_value *[]){i, NULL}, "k m", NULL, hk_tile(h, IR_f32, axes));
  snprintf(axes, sizeof axes, "k:%d n:%d*", (int)unroll, (int)cols);
  ir_value *y = hk_load(h, w, (ir_value *[]){nb, i, NULL}, "_ k n", NULL, hk_tile(h, IR_f32, axes));
  ir_value *next = hk_dot(h, x, y, acc, "k", acc_type);
  ir_yield(&h->b, 1, &next);
  h->b.region = body;
  hk_store(h, c, (ir_value *[]){m0, n0}, "m n", loop->results[0], NULL);
}

// Floats of the low or high nibbles of a byte tile.
static ir_value *nibbles(hk *h, ir_value *codes, bool high, ir_value *table, const ir_type *t) {
  ir_value *v = codes;
  if (table) {
    v = ir_cast(&h->b, v, IR_u32);
    if (high) v = hk_op(h, IR_SCALAR_shr, v, ir_const_int(&h->b, IR_u32, 4));
    ir_op *op = ir_build(&h->b, IR_OP_lookup, 2, (ir_value *[]){table, v}, 1, &t);
    ir_set_sym(&h->b, op, "axis", hk_name(h, "v"));
    return op->results[0];
  }
  v =
    high ? hk_op(h, IR_SCALAR_shr, v, ir_const_int(&h->b, IR_u8, 4)) : hk_op(h, IR_SCALAR_and, v, ir_const_int(&h->b, IR_u8, 15));
  return ir_cast(&h->b, v, IR_f32);
}

void hk_gemv_q4(hk *h, int64_t n, int64_t k, int64_t rows, int64_t step, bool table) {
  ir_kernel *kernel = hk_begin(h, table ? "gemv_q4_table" : "gemv_q4");
  kernel->grid[0] = hk_size(h, n / rows);
  ir_value *x = hk_param_c(h, "x", IR_PARAM_IN, IR_f32, 1, &k);
  ir_value *codes = hk_param_c(h, "codes", IR_PARAM_IN, IR_u8, 4, (int64_t[]){n / rows, k / 32, 16, rows});
  ir_value *scale = hk_param_c(h, "scale", IR_PARAM_IN, IR_f16, 3, (int64_t[]){n / rows, k / 32, rows});
  ir_value *min = hk_param_c(h, "min", IR_PARAM_IN, IR_f16, 3, (int64_t[]){n / rows, k / 32, rows});
  ir_value *y = hk_param_c(h, "y", IR_PARAM_OUT, IR_f32, 1, &n);
  ir_value *nb = hk_pid(h, 0);
  char axes[64];
  snprintf(axes, sizeof axes, "n:%d*", (int)rows);
  const ir_type *row = hk_tile(h, IR_f32, axes), *half = hk_tile(h, IR_f16, axes);
  ir_value *values = table ? ir_cast(&h->b,
                                     ir_build(&h->b, IR_OP_iota, 1, (ir_value *[]){ir_const_int(&h->b, IR_i32, 0)}, 1,
                                              (const ir_type *[]){hk_tile(h, IR_i32, "v:16*")})
                                       ->results[0],
                                     IR_f32)
                           : NULL;
  ir_region *body = h->b.region;
  ir_value *zero = ir_full(&h->b, hk_real(h, 0), row);
  ir_op *loop = ir_for(&h->b, hk_int(h, 0), hk_int(h, k / 32), hk_int(h, 1), 1, &zero);
  h->b.region = loop->regions[0];
  ir_value *kb = loop->regions[0]->params[0], *acc = loop->regions[0]->params[1];
  ir_value *k0 = hk_op(h, IR_SCALAR_mul, kb, hk_int(h, 32));
  snprintf(axes, sizeof axes, "k:%d n:%d*", (int)step, (int)rows);
  const ir_type *ft = hk_tile(h, IR_f32, axes), *ct = hk_tile(h, IR_u8, axes);
  snprintf(axes, sizeof axes, "k:%d", (int)step);
  const ir_type *xt = hk_tile(h, IR_f32, axes);
  ir_region *outer = h->b.region;
  ir_op *inner = ir_for(&h->b, hk_int(h, 0), hk_int(h, 16), hk_int(h, step), 1, &zero);
  h->b.region = inner->regions[0];
  ir_value *j = inner->regions[0]->params[0], *kl = hk_op(h, IR_SCALAR_add, k0, j),
           *kh = hk_op(h, IR_SCALAR_add, kl, hk_int(h, 16));
  ir_value *c = hk_load(h, codes, (ir_value *[]){nb, kb, j, NULL}, "_ _ k n", NULL, ct);
  ir_value *sum =
    hk_dot(h, hk_load(h, x, &kl, "k", NULL, xt), nibbles(h, c, false, values, ft), inner->regions[0]->params[1], "k", row);
  sum = hk_dot(h, hk_load(h, x, &kh, "k", NULL, xt), nibbles(h, c, true, values, ft), sum, "k", row);
  ir_yield(&h->b, 1, &sum);
  h->b.region = outer;
  sum = inner->results[0];
  ir_value *xs = hk_load(h, x, &k0, "k", NULL, hk_tile(h, IR_f32, "k:32*"));
  ir_value *total = ir_reduce(&h->b, xs, "add", 1, (ts_sym[]){hk_name(h, "k")});
  ir_value *s = ir_cast(&h->b, hk_load(h, scale, (ir_value *[]){nb, kb, NULL}, "_ _ n", NULL, half), IR_f32);
  ir_value *mn = ir_cast(&h->b, hk_load(h, min, (ir_value *[]){nb, kb, NULL}, "_ _ n", NULL, half), IR_f32);
  ir_value *next = ir_apply_op(&h->b, IR_SCALAR_fma, s, sum, acc);
  next = ir_apply_op(&h->b, IR_SCALAR_fma, mn, total, next);
  ir_yield(&h->b, 1, &next);
  h->b.region = body;
  ir_value *n0 = hk_op(h, IR_SCALAR_mul, nb, hk_int(h, rows));
  hk_store(h, y, &n0, "n", loop->results[0], NULL);
}

// The codes of u32 words at bits `shift`.. as f32.
static ir_value *word_nibble(hk *h, ir_value *words, int64_t shift) {
  ir_dtype u32 = IR_u32;
  ir_fn_builder f;
  ir_fn_begin(&f, h->module, 1, &u32);
  uint32_t v = 0;
  if (shift) v = ir_fn_op(&f, IR_SCALAR_shr, v, ir_fn_int(&f, IR_u32, shift), 0);
  if (shift != 28) v = ir_fn_op(&f, IR_SCALAR_and, v, ir_fn_int(&f, IR_u32, 15), 0);
  uint32_t r = ir_fn_cast(&f, IR_f32, ir_fn_cast(&f, IR_i32, v));
  return ir_apply(&h->b, ir_fn_end(&f, 1, &r), 1, &words);
}

void hk_gemv_words(hk *h, int64_t n, int64_t k, int64_t rows) {
  ir_kernel *kernel = hk_begin(h, "gemv_words");
  kernel->grid[0] = hk_size(h, n / rows);
  ir_value *x = hk_param_c(h, "x", IR_PARAM_IN, IR_f32, 1, &k);
  ir_value *codes = hk_param_c(h, "codes", IR_PARAM_IN, IR_u32, 4, (int64_t[]){n / rows, k / 32, 4, rows});
  ir_value *scale = hk_param_c(h, "scale", IR_PARAM_IN, IR_f16, 3, (int64_t[]){n / rows, k / 32, rows});
  ir_value *y = hk_param_c(h, "y", IR_PARAM_OUT, IR_f32, 1, &n);
  ir_value *nb = hk_pid(h, 0);
  char axes[64];
  snprintf(axes, sizeof axes, "n:%d*", (int)rows);
  const ir_type *row = hk_tile(h, IR_f32, axes), *half = hk_tile(h, IR_f16, axes);
  ir_region *body = h->b.region;
  ir_value *zero = ir_full(&h->b, hk_real(h, 0), row);
  ir_op *loop = ir_for(&h->b, hk_int(h, 0), hk_int(h, k / 32), hk_int(h, 1), 1, &zero);
  h->b.region = loop->regions[0];
  ir_value *kb = loop->regions[0]->params[0], *part = ir_full(&h->b, hk_real(h, 0), row);
  snprintf(axes, sizeof axes, "j:4 n:%d*", (int)rows);
  ir_value *words = hk_load(h, codes, (ir_value *[]){nb, kb, NULL, NULL}, "_ _ j n", NULL, hk_tile(h, IR_u32, axes));
  for (int i = 0; i < 8; i++) {
    ir_value *k0 = hk_op(h, IR_SCALAR_add, hk_op(h, IR_SCALAR_mul, kb, hk_int(h, 32)), hk_int(h, 16 * (i / 4) + i % 4)),
             *at = hk_int(h, 0);
    const ir_type *it = hk_tile(h, IR_i64, "j:4");
    at = ir_build(&h->b, IR_OP_iota, 1, &at, 1, &it)->results[0];
    at = hk_op(h, IR_SCALAR_add, hk_op(h, IR_SCALAR_mul, at, hk_int(h, 4)), k0);
    ir_value *xs = hk_load(h, x, &at, "_", NULL, hk_tile(h, IR_f32, "j:4"));
    part = hk_dot(h, xs, word_nibble(h, words, 8 * (i % 4) + 4 * (i / 4)), part, "j", row);
  }
  ir_value *s = ir_cast(&h->b, hk_load(h, scale, (ir_value *[]){nb, kb, NULL}, "_ _ n", NULL, half), IR_f32);
  ir_value *next = ir_apply_op(&h->b, IR_SCALAR_fma, s, part, loop->regions[0]->params[1]);
  ir_yield(&h->b, 1, &next);
  h->b.region = body;
  ir_value *n0 = hk_op(h, IR_SCALAR_mul, nb, hk_int(h, rows));
  hk_store(h, y, &n0, "n", loop->results[0], NULL);
}
