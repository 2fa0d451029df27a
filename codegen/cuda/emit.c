// Kernels as CUDA C++ functions: the entry, sizes, control flow, and the dispatch over ops.
//
// The text has three parts: the device functions of the prelude, what depends on the thread and the sizes alone (named once, in
// the head), and the body, op by op in the kernel's order with the op and its place in the spec as a comment.
#include "codegen/cuda/emit.h"

#include <stdlib.h>

static const char *const prelude[] = {
#include "codegen/cuda/prelude.inc"
};

void cgc_fail(cgc_emit *e, const ts_diag_kind *kind, const char *fmt, ...) {
  if (!cgc_ok(e)) return;
  va_list ap;
  va_start(ap, fmt);
  char *text = ts_arena_vprintf(e->arena, fmt, ap);
  va_end(ap);
  ts_loc loc = e->op && e->op->loc.file ? e->op->loc : e->kernel->loc;
  const char *name = e->kernel->name ? e->kernel->name : "?";
  if (e->op) e->status = ts_report(e->diags, loc, kind, "kernel %s, %s: %s", name, ir_op_get(e->op->code)->name, text);
  else e->status = ts_report(e->diags, loc, kind, "kernel %s: %s", name, text);
}

void cgc_line(cgc_emit *e, const char *fmt, ...) {
  va_list ap;
  ts_text_indent(&e->body, 2 * e->depth);
  va_start(ap, fmt);
  ts_text_vprintf(&e->body, fmt, ap);
  va_end(ap);
  ts_text_putc(&e->body, '\n');
}

const char *cgc_text(cgc_emit *e, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *t = ts_arena_vprintf(e->arena, fmt, ap);
  va_end(ap);
  return t;
}

const char *cgc_name(cgc_emit *e, const char *prefix) { return cgc_text(e, "%s%u", prefix, e->next++); }

const char *cgc_shared_expr(cgc_emit *e, const char *expr) {
  uint64_t key = ts_hash_bytes(expr, strlen(expr), 1);
  const char *name = ts_map_get(&e->exprs, key);
  if (name) return name;
  name = cgc_name(e, "t");
  ts_text_printf(&e->head, "  const int %s = t_plain(%s);\n", name, expr);
  ts_map_put(&e->exprs, key, (void *)(uintptr_t)name);
  return name;
}

// ---- sizes -----------------------------------------------------------------------------------------------------------------
static const char *size_node(cgc_emit *e, const ir_size *s) {
  switch (s->op) {
    case IR_SIZE_FLOORDIV: case IR_SIZE_MOD: {
      const char *x = cgc_size(e, s->args[0]), *y = cgc_size(e, s->args[1]);
      return cgc_text(e, "t_%s(%s, %s)", s->op == IR_SIZE_MOD ? "rem" : "div", x, y);
    }
    case IR_SIZE_MIN: case IR_SIZE_MAX: {
      const char *x = cgc_size(e, s->args[0]);
      for (uint32_t i = 1; i < s->count; i++) x = cgc_text(e, "%s(%s, %s)", s->op == IR_SIZE_MIN ? "min" : "max", x, cgc_size(e, s->args[i]));
      return x;
    }
    case IR_SIZE_SUM: {
      const char *sum = cgc_text(e, "%lldll", (long long)s->value);
      for (uint32_t i = 0; i < s->count; i++) {
        const char *term = cgc_text(e, "%lldll", (long long)s->terms[i].coef);
        for (uint32_t k = 0; k < s->terms[i].count; k++) term = cgc_text(e, "%s * %s", term, cgc_size(e, s->terms[i].factors[k]));
        sum = cgc_text(e, "%s + %s", sum, term);
      }
      return sum;
    }
    default: cgc_fail(e, &diag_cuda_not_finished, "a size that is an error"); return "0";
  }
}

const char *cgc_size(cgc_emit *e, const ir_size *s) {
  if (s->op == IR_SIZE_CONST) return cgc_text(e, s->value < 0 ? "(%lldll)" : "%lldll", (long long)s->value);
  if (s->op == IR_SIZE_SYMBOL) {
    for (uint32_t i = 0; i < e->dim_count; i++)
      if (e->dim[i] == s) return cgc_text(e, "d_%s", s->name);
    cgc_fail(e, &diag_cuda_not_finished, "size %s is no parameter", s->name);
    return "0";
  }
  const char *name = ts_map_get(&e->sizes, ts_key(s));
  if (name) return name;
  const char *value = size_node(e, s);
  name = cgc_name(e, "z");
  ts_text_printf(&e->head, "  const long long %s = %s;\n", name, value);
  ts_map_put(&e->sizes, ts_key(s), (void *)(uintptr_t)name);
  return name;
}

// ---- control -----------------------------------------------------------------------------------------------------------------
static const ir_op *print_region(cgc_emit *e, const ir_region *r);

// Variables that can be assigned, for a carried value or the result of a branch.
static cgc_tile *variables(cgc_emit *e, const ir_value *v, const cgc_tile *init) {
  const cgc_form *f = cgc_form_of(e, v->type, v->type->dtype);
  if (!f) return NULL;
  if (init && init->form != f) return cgc_fail(e, &diag_cuda_not_finished, "carried values of different types"), NULL;
  cgc_tile *t = cgc_new_tile(e, f);
  const char *name = cgc_name(e, "c"), *type = f->per > 1 ? "unsigned" : cgc_ctype(e, f->dtype);
  for (int w = 0; w < f->words; w++) {
    t->v[w] = f->words == 1 ? name : cgc_text(e, "%s_%d", name, w);
    if (init) cgc_line(e, "%s %s = %s;", type, t->v[w], init->v[w]);
    else cgc_line(e, "%s %s;", type, t->v[w]);
  }
  return t;
}

static void assign(cgc_emit *e, cgc_tile *to, const cgc_tile *from, bool through) {
  if (!from || !to) return;
  if (from->form != to->form) return cgc_fail(e, &diag_cuda_not_finished, "yielded values of another type");
  const char *type = to->form->per > 1 ? "unsigned" : cgc_ctype(e, to->form->dtype);
  for (int w = 0; w < to->form->words; w++) {
    if (through) {
      const char *n = cgc_name(e, "n");
      cgc_line(e, "const %s %s = %s;", type, n, from->v[w]);
      ((const char **)from->v)[w] = n;
    } else if (from->v[w] != to->v[w]) {
      cgc_line(e, "%s = %s;", to->v[w], from->v[w]);
    }
  }
}

static cgc_tile *copy_of(cgc_emit *e, const cgc_tile *t) {
  if (!t) return NULL;
  cgc_tile *c = cgc_new_tile(e, t->form);
  memcpy(c->v, t->v, (size_t)t->form->words * sizeof *c->v);
  return c;
}

// The results of a region go to `vars`. A value that another variable of the list holds is read before that is written.
static void finish_region(cgc_emit *e, const ir_op *yield, cgc_tile **vars, uint32_t count) {
  if (!cgc_ok(e)) return;
  if (!yield || yield->operand_count != count) return cgc_fail(e, &diag_cuda_not_finished, "a region without its yield");
  cgc_tile **from = ts_new_array(e->arena, cgc_tile *, count ? count : 1);
  for (uint32_t i = 0; i < count; i++) {
    from[i] = copy_of(e, cgc_tile_of(e, yield->operands[i]));
    bool other = false;
    for (uint32_t k = 0; k < i && from[i]; k++)
      for (int w = 0; w < from[i]->form->words; w++)
        for (int x = 0; vars[k] && x < vars[k]->form->words; x++) other |= strcmp(from[i]->v[w], vars[k]->v[x]) == 0;
    if (other) assign(e, vars[i], from[i], true);
  }
  for (uint32_t i = 0; i < count; i++) assign(e, vars[i], from[i], false);
}

static void print_for(cgc_emit *e, const ir_op *op) {
  const ir_region *r = op->regions[0];
  const char *lo = cgc_scalar(e, op->operands[0]), *hi = cgc_scalar(e, op->operands[1]), *step = cgc_scalar(e, op->operands[2]);
  uint32_t count = op->result_count;
  cgc_tile **vars = ts_new_array(e->arena, cgc_tile *, count ? count : 1);
  for (uint32_t i = 0; i < count && cgc_ok(e); i++) {
    cgc_tile *init = cgc_tile_of(e, op->operands[3 + i]);
    if (init) vars[i] = variables(e, op->results[i], init);
    cgc_define(e, r->params[1 + i], vars[i]);
  }
  const char *index = cgc_name(e, "i"), *type = cgc_ctype(e, r->params[0]->type->dtype);
  const cgc_form *f = cgc_form_of(e, r->params[0]->type, r->params[0]->type->dtype);
  if (!f || !cgc_ok(e)) return;
  cgc_tile *t = cgc_new_tile(e, f);
  t->v[0] = index;
  cgc_define(e, r->params[0], t);
  int64_t a = cgc_divisor(e, op->operands[0], 0), b = cgc_divisor(e, op->operands[2], 0);
  ts_map_put(&e->divisors, ts_key(r->params[0]), (void *)(intptr_t)(a < b ? a : b));
  cgc_line(e, "#pragma unroll 1");
  cgc_line(e, "for (%s %s = %s; %s < %s; %s += %s) {", type, index, lo, index, hi, index, step);
  e->depth++;
  const ir_op *yield = print_region(e, r);
  finish_region(e, yield, vars, count);
  e->depth--;
  cgc_line(e, "}");
  for (uint32_t i = 0; i < count; i++) cgc_define(e, op->results[i], vars[i]);
}

static void print_if(cgc_emit *e, const ir_op *op) {
  const char *c = cgc_scalar(e, op->operands[0]);
  uint32_t count = op->result_count;
  cgc_tile **vars = ts_new_array(e->arena, cgc_tile *, count ? count : 1);
  for (uint32_t i = 0; i < count && cgc_ok(e); i++) vars[i] = variables(e, op->results[i], NULL);
  for (int side = 0; side < 2 && cgc_ok(e); side++) {
    cgc_line(e, side ? "} else {" : "if (%s) {", c);
    e->depth++;
    const ir_op *yield = print_region(e, op->regions[side]);
    finish_region(e, yield, vars, count);
    e->depth--;
  }
  cgc_line(e, "}");
  for (uint32_t i = 0; i < count; i++) cgc_define(e, op->results[i], vars[i]);
}

static void define_scalar(cgc_emit *e, const ir_value *v, const char *expr, bool name) {
  const cgc_form *f = cgc_form_of(e, v->type, v->type->dtype);
  if (!f) return;
  cgc_tile *t = cgc_new_tile(e, f);
  t->v[0] = expr;
  if (name) {
    t->v[0] = cgc_name(e, "v");
    cgc_line(e, "const %s %s = %s;", cgc_ctype(e, f->dtype), t->v[0], expr);
  }
  cgc_define(e, v, t);
}

static void print_op(cgc_emit *e, const ir_op *op) {
  switch (op->code) {
    case IR_OP_pid: define_scalar(e, op->results[0], cgc_text(e, "(long long)blockIdx.%c", "xyz"[ir_attr_int(op, "axis", 0) % 3]), true); break;
    case IR_OP_size: define_scalar(e, op->results[0], cgc_size(e, ir_attr_find(op, "of")->size), false); break;
    case IR_OP_const:
      define_scalar(e, op->results[0], cgc_const_text(e, op->results[0]->type->dtype, ir_attr_real(op, "value", 0), ir_attr_int(op, "int", 0)), false);
      break;
    case IR_OP_for: print_for(e, op); break;
    case IR_OP_if: print_if(e, op); break;
    case IR_OP_raise: cgc_raise(e, op); break;
    case IR_OP_iota: cgc_iota(e, op); break;
    case IR_OP_full: cgc_full(e, op); break;
    case IR_OP_apply: cgc_apply(e, op); break;
    case IR_OP_relabel: cgc_relabel(e, op); break;
    case IR_OP_load: case IR_OP_fetch: cgc_load(e, op); break;
    case IR_OP_store: case IR_OP_put: cgc_store(e, op); break;
    case IR_OP_copy: cgc_copy(e, op); break;
    case IR_OP_alloc: cgc_alloc(e, op); break;
    case IR_OP_commit: cgc_line(e, "t_commit();"); break;
    case IR_OP_await: cgc_line(e, "t_await<%lld>();", (long long)ir_attr_int(op, "pending", 0)); break;
    case IR_OP_barrier: cgc_line(e, strcmp(ir_attr_sym(op, "scope"), "warp") == 0 ? "__syncwarp();" : "__syncthreads();"); break;
    case IR_OP_dot: cgc_dot(e, op); break;
    case IR_OP_reduce: cgc_reduce(e, op); break;
    case IR_OP_decode: cgc_decode(e, op); break;
    default: cgc_fail(e, &diag_cuda_op, "no code for this op on CUDA"); break;
  }
}

static bool worth_a_comment(const ir_op *op) {
  return op->code != IR_OP_const && op->code != IR_OP_size && op->code != IR_OP_full && op->code != IR_OP_alloc && op->code != IR_OP_commit;
}

// Prints the ops of a region; returns its yield (not printed), or NULL.
static const ir_op *print_region(cgc_emit *e, const ir_region *r) {
  for (const ir_op *op = r->first; op && cgc_ok(e); op = op->next) {
    e->op = op;
    if (op->code == IR_OP_yield) return op;
    if (worth_a_comment(op)) {
      const char *builtin = ir_attr_sym(op, "builtin");
      const char *place = op->loc.file ? cgc_text(e, "   %s:%u", op->loc.file, op->loc.line) : "";
      cgc_line(e, "// %s%s%s%s", ir_op_get(op->code)->name, builtin ? " " : "", builtin ? builtin : "", place);
    }
    print_op(e, op);
  }
  return NULL;
}

// A C identifier from the kernel's name.
const char *cgc_entry_name(ts_arena *a, const ir_kernel *k) {
  char *n = ts_arena_strdup(a, k->name ? k->name : "kernel");
  for (char *p = n; *p; p++)
    if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_')) *p = '_';
  return n;
}

static void print_entry(cgc_emit *e, ts_text *out) {
  const ir_kernel *k = e->kernel;
  ts_text_printf(out, "// kernel %s for %s\n", k->name, e->target->name);
  ts_text_printf(out, "#define T_SM %u\n", e->target->number);
  for (size_t i = 0; i < sizeof prelude / sizeof *prelude; i++) ts_text_printf(out, "%s\n", prelude[i]);
  ts_text_printf(out, "extern \"C\" __global__ void __launch_bounds__(%u) %s(", 32 * e->warps, cgc_entry_name(e->arena, k));
  const char *comma = "";
  for (size_t i = 0; i < k->params.count; i++, comma = ", ") {
    const ir_type *t = k->params.data[i].value->type;
    const char *type = t->dtype == IR_u4 ? "unsigned char" : cgc_ctype(e, t->dtype);
    ts_text_printf(out, "%s%s%s *__restrict__ p%zu", comma, k->params.data[i].role == IR_PARAM_IN ? "const " : "", type, i);
  }
  for (uint32_t i = 0; i < e->dim_count; i++, comma = ", ") ts_text_printf(out, "%slong long d_%s", comma, e->dim[i]->name);
  ts_text_puts(out, ") {\n");
  for (size_t i = 0; i < k->params.count; i++) ts_text_printf(out, "  // p%zu: %s\n", i, k->params.data[i].value->name ? k->params.data[i].value->name : "-");
  if (e->shared) ts_text_puts(out, "  extern __shared__ __align__(128) unsigned char smem[];\n");
  ts_text_puts(out, "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;\n");
  ts_text_add(out, ts_text_str(&e->head));
  ts_text_add(out, ts_text_str(&e->body));
  ts_text_puts(out, "}\n");
}

ts_status cgc_kernel_to_cuda(const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, ts_text *out, uint32_t *shared) {
  cgc_emit e = {.kernel = k, .target = t, .arena = a, .diags = d, .depth = 1};
  if (k->stage != IR_STAGE_S || k->target_class != IR_CLASS_CUDA || !k->body || k->warps < 1 || k->warps > CGC_MAX_WARPS) {
    cgc_fail(&e, &diag_cuda_not_finished, "not a scheduled kernel of class cuda of 1 to %d warps", CGC_MAX_WARPS);
    return e.status;
  }
  e.warps = (unsigned)k->warps;
  e.dim = ir_kernel_symbols(k, a, &e.dim_count);
  cgc_bind_params(&e);
  cgc_place_panels(&e);
  if (cgc_ok(&e)) print_region(&e, k->body);
  if (cgc_ok(&e)) print_entry(&e, out);
  if (shared) *shared = (uint32_t)e.shared;
  ts_map *maps[] = {&e.tiles, &e.mems, &e.sizes, &e.forms, &e.exprs, &e.divisors};
  for (unsigned i = 0; i < sizeof maps / sizeof *maps; i++) ts_map_deinit(maps[i]);
  ts_text_deinit(&e.head);
  ts_text_deinit(&e.body);
  return e.status;
}
