// Kernels as LLVM functions: the entry's contract, sizes, panels, control flow, and the dispatch over ops.
//
// The entry block reads buffers and sizes and computes what depends on nothing else (size expressions, strides, stack slots); the
// kernel's body starts in a second block. A `raise` leaves through one exit block with its code.
#include "codegen/host/emit.h"

#include "runtime/tsr_format.h"

#include <stdlib.h>

void cgh_fail(cgh_emit *e, const ts_diag_kind *kind, const char *fmt, ...) {
  if (!cgh_ok(e)) return;
  va_list ap;
  va_start(ap, fmt);
  char *text = ts_arena_vprintf(e->arena, fmt, ap);
  va_end(ap);
  ts_loc loc = e->op && e->op->loc.file ? e->op->loc : e->kernel->loc;
  const char *name = e->kernel->name ? e->kernel->name : "?";
  if (e->op) e->status = ts_report(e->diags, loc, kind, "kernel %s, %s: %s", name, ir_op_get(e->op->code)->name, text);
  else e->status = ts_report(e->diags, loc, kind, "kernel %s: %s", name, text);
}

// ---- size expressions, in the entry block ------------------------------------------------------------------------------------
static LLVMValueRef size_node(cgh_emit *e, const ir_size *s);

static LLVMValueRef size_fold(cgh_emit *e, const ir_size *s) {
  const char *name = s->op == IR_SIZE_MIN ? "llvm.smin" : "llvm.smax";
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef f = LLVMGetIntrinsicDeclaration(e->mod, id, &e->i64, 1), v = cgh_size(e, s->args[0]);
  for (uint32_t i = 1; i < s->count; i++)
    v = LLVMBuildCall2(e->entry, LLVMIntrinsicGetType(e->ctx, id, &e->i64, 1), f, (LLVMValueRef[]){v, cgh_size(e, s->args[i])}, 2,
                       "");
  return v;
}

static LLVMValueRef size_division(cgh_emit *e, const ir_size *s) {
  LLVMValueRef a = cgh_size(e, s->args[0]), b = cgh_size(e, s->args[1]), zero = LLVMConstInt(e->i64, 0, false);
  bool rest = s->op == IR_SIZE_MOD;
  if (s->args[0]->lo >= 0) return rest ? LLVMBuildURem(e->entry, a, b, "") : LLVMBuildUDiv(e->entry, a, b, "");
  LLVMValueRef r = LLVMBuildSRem(e->entry, a, b, ""), negative = LLVMBuildICmp(e->entry, LLVMIntSLT, r, zero, "");
  if (rest) return LLVMBuildAdd(e->entry, r, LLVMBuildSelect(e->entry, negative, b, zero, ""), "");
  return LLVMBuildAdd(e->entry, LLVMBuildSDiv(e->entry, a, b, ""), LLVMBuildSExt(e->entry, negative, e->i64, ""), "");
}

static LLVMValueRef size_node(cgh_emit *e, const ir_size *s) {
  switch (s->op) {
    case IR_SIZE_CONST: return LLVMConstInt(e->i64, (uint64_t)s->value, true);
    case IR_SIZE_SUM: {
      LLVMValueRef sum = NULL;
      for (uint32_t i = 0; i < s->count; i++) {
        LLVMValueRef p = cgh_size(e, s->terms[i].factors[0]);
        for (uint32_t k = 1; k < s->terms[i].count; k++)
          p = LLVMBuildNSWMul(e->entry, p, cgh_size(e, s->terms[i].factors[k]), "");
        if (s->terms[i].coef != 1) p = LLVMBuildNSWMul(e->entry, p, LLVMConstInt(e->i64, (uint64_t)s->terms[i].coef, true), "");
        sum = sum ? LLVMBuildNSWAdd(e->entry, sum, p, "") : p;
      }
      LLVMValueRef c = LLVMConstInt(e->i64, (uint64_t)s->value, true);
      return !sum ? c : s->value ? LLVMBuildNSWAdd(e->entry, sum, c, "") : sum;
    }
    case IR_SIZE_MIN:
    case IR_SIZE_MAX: return size_fold(e, s);
    case IR_SIZE_FLOORDIV:
    case IR_SIZE_MOD: return size_division(e, s);
    default: cgh_fail(e, &diag_host_not_finished, "a size that is no value at call time"); return LLVMConstInt(e->i64, 0, false);
  }
}

LLVMValueRef cgh_size(cgh_emit *e, const ir_size *s) {
  LLVMValueRef v = ts_map_get(&e->sizes, ts_key(s));
  if (v) return v;
  v = size_node(e, s);
  ts_map_put(&e->sizes, ts_key(s), v);
  return v;
}

// ---- the entry ---------------------------------------------------------------------------------------------------------------
// A load in the entry block of something that doesn't change while the kernel runs.
static LLVMValueRef entry_load(cgh_emit *e, LLVMTypeRef type, LLVMValueRef base, uint32_t index, const char *name) {
  LLVMValueRef i = LLVMConstInt(e->i64, index, false);
  LLVMValueRef v = LLVMBuildLoad2(e->entry, type, LLVMBuildInBoundsGEP2(e->entry, type, base, &i, 1, ""), name);
  cgh_set_invariant(e, v);
  return v;
}

static LLVMMetadataRef text_node(cgh_emit *e, const char *text, LLVMMetadataRef second) {
  LLVMMetadataRef parts[] = {LLVMMDStringInContext2(e->ctx, text, strlen(text)), second};
  return LLVMMDNodeInContext2(e->ctx, parts, second ? 2 : 1);
}

// Alias scopes: each panel is apart from the other panels and from all buffers.
static LLVMValueRef scope_list(cgh_emit *e, unsigned first, unsigned count, unsigned except) {
  LLVMMetadataRef domain = text_node(e, "panels", NULL), *scopes = ts_new_array(e->arena, LLVMMetadataRef, count + 1);
  unsigned n = 0;
  for (unsigned i = first; i < first + count; i++)
    if (i != except) scopes[n++] = text_node(e, ts_arena_printf(e->arena, "panel %u", i), domain);
  return n ? LLVMMetadataAsValue(e->ctx, LLVMMDNodeInContext2(e->ctx, scopes, n)) : NULL;
}

static unsigned count_panels(const ir_region *r) {
  unsigned n = 0;
  for (const ir_op *op = r->first; op; op = op->next) {
    n += op->code == IR_OP_alloc;
    for (uint32_t i = 0; i < op->region_count; i++) n += count_panels(op->regions[i]);
  }
  return n;
}

static bool check_memory_type(cgh_emit *e, const ir_type *t) {
  unsigned bits = t->kind == IR_TYPE_MEM ? ir_dtype_bits(t->dtype) : 0;
  if (!bits) return cgh_fail(e, &diag_host_not_finished, "memory operand of another type than mem"), false;
  if (t->encoding) return cgh_fail(e, &diag_host_not_finished, "an encoded operand; schedules replace it by its fields"), false;
  if (bits < 8)
    return cgh_fail(e, &diag_host_type, "%s elements are not addressable; load bytes", ir_dtype_name(t->dtype)), false;
  if (t->rank > CGH_RANK) return cgh_fail(e, &diag_host_op, "memory of rank %u; at most %d", t->rank, CGH_RANK), false;
  return true;
}

static cgh_mem *new_mem(cgh_emit *e, const ir_type *t, LLVMValueRef base) {
  if (!check_memory_type(e, t)) return NULL;
  cgh_mem *m = ts_new(e->arena, cgh_mem);
  m->type = t;
  m->base = base;
  LLVMValueRef stride = LLVMConstInt(e->i64, 1, false);
  for (unsigned d = t->rank; d-- > 0;) {
    m->stride[d] = t->strides ? LLVMConstInt(e->i64, (uint64_t)t->strides[d], true) : stride;
    if (!t->strides && d) stride = LLVMBuildNSWMul(e->entry, stride, cgh_size(e, t->shape[d]), "");
  }
  return m;
}

static void add_attribute(cgh_emit *e, const char *name, const char *value) {
  LLVMAttributeRef a = LLVMCreateStringAttribute(e->ctx, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(e->fn, LLVMAttributeFunctionIndex, a);
}

static void add_enum_attribute(cgh_emit *e, LLVMAttributeIndex at, const char *name) {
  LLVMAddAttributeAtIndex(e->fn, at, LLVMCreateEnumAttribute(e->ctx, LLVMGetEnumAttributeKindForName(name, strlen(name)), 0));
}

static void begin_function(cgh_emit *e) {
  const ir_kernel *k = e->kernel;
  LLVMTypeRef types[] = {e->ptr, e->ptr, e->ptr, e->i32};
  e->fn = LLVMAddFunction(e->mod, k->name ? k->name : "kernel", LLVMFunctionType(e->i32, types, 4, false));
  LLVMSetVisibility(e->fn, LLVMHiddenVisibility);
  char bits[16];
  snprintf(bits, sizeof bits, "%u", e->isa->vector_bits);
  add_attribute(e, "no-builtins", "");
  add_attribute(e, "prefer-vector-width", bits);
  add_attribute(e, "min-legal-vector-width", bits);
  add_attribute(e, "target-cpu", e->isa->cpu);
  add_attribute(e, "target-features", e->isa->llvm);
  add_enum_attribute(e, LLVMAttributeFunctionIndex, "nounwind");
  static const char *const params[] = {"api", "bufs", "dims", "block"};
  LLVMValueRef *slots[] = {&e->api, &e->bufs, &e->dims, &e->block};
  for (unsigned i = 0; i < 4; i++) {
    *slots[i] = LLVMGetParam(e->fn, i);
    LLVMSetValueName2(*slots[i], params[i], strlen(params[i]));
    if (i < 3) add_enum_attribute(e, i + 1, "noalias"), add_enum_attribute(e, i + 1, "readonly");
  }
  LLVMPositionBuilderAtEnd(e->entry, LLVMAppendBasicBlockInContext(e->ctx, e->fn, "entry"));
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, e->fn, "body"));
  e->exit = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "exit");
}

static void bind_operands(cgh_emit *e) {
  const ir_kernel *k = e->kernel;
  for (uint32_t i = 0; i < e->dim_count; i++) {
    if (e->dim[i]->klass != IR_SIZE_CALL)
      return cgh_fail(e, &diag_host_not_finished, "size %s is not known when a call starts", e->dim[i]->name);
    ts_map_put(&e->sizes, ts_key(e->dim[i]), entry_load(e, e->i64, e->dims, i, e->dim[i]->name));
  }
  for (size_t i = 0; i < k->params.count && cgh_ok(e); i++) {
    const ir_param *p = &k->params.data[i];
    cgh_mem *m = new_mem(e, p->value->type, entry_load(e, e->ptr, e->bufs, (uint32_t)i, p->value->name ? p->value->name : ""));
    if (!m) return;
    m->readonly = p->role == IR_PARAM_IN;
    m->noalias = m->readonly ? NULL : e->panel_scopes;
    ts_map_put(&e->mems, ts_key(p->value), m);
  }
}

// ---- ops of control flow -----------------------------------------------------------------------------------------------------
static void define_scalar(cgh_emit *e, const ir_value *v, LLVMValueRef x) {
  cgh_shape s;
  if (!cgh_shape_of(e, v->type, &s)) return;
  cgh_tile *t = cgh_new_tile(e, &s, v->type->dtype);
  for (int64_t i = 0; i < s.outer; i++) t->v[i] = cgh_splat(e, x, (unsigned)s.vec);
  cgh_define(e, v, t);
}

static LLVMValueRef grid_extent(cgh_emit *e, unsigned axis) {
  const ir_size *g = e->kernel->grid[axis];
  if (!g) return LLVMConstInt(e->i64, 1, false);
  return ir_size_is_const(g) ? LLVMConstInt(e->i64, (uint64_t)g->value, false)
                             : entry_load(e, e->i64, e->dims, e->dim_count + axis, "");
}

static void emit_pid(cgh_emit *e, const ir_op *op) {
  int64_t axis = ir_attr_int(op, "axis", -1);
  if (axis < 0 || axis > 2) return cgh_fail(e, &diag_host_not_finished, "pid of axis %lld", (long long)axis);
  LLVMValueRef n = LLVMBuildZExt(e->entry, e->block, e->i64, "");
  bool last = true;
  for (unsigned i = 0; i < 3; i++) {
    const ir_size *g = e->kernel->grid[i];
    if (i < axis && g && !ir_size_is_value(g, 1)) n = LLVMBuildUDiv(e->entry, n, grid_extent(e, i), "");
    if (i > axis && g && !ir_size_is_value(g, 1)) last = false;
  }
  if (!last) n = LLVMBuildURem(e->entry, n, grid_extent(e, (unsigned)axis), "");
  define_scalar(e, op->results[0], n);
}

static void emit_const(cgh_emit *e, const ir_op *op) {
  ir_dtype t = op->results[0]->type->dtype;
  LLVMTypeRef type = cgh_type(e, t);
  const ir_attr *i = ir_attr_find(op, "int");
  double real = i && i->kind == IR_ATTR_INT ? (double)i->integer : ir_attr_real(op, "value", 0);
  int64_t integer = i && i->kind == IR_ATTR_INT ? i->integer : (int64_t)ir_attr_real(op, "value", 0);
  LLVMValueRef v = t == IR_f32 || t == IR_f64 ? LLVMConstReal(type, real)
                   : ir_is_float(t)           ? LLVMConstInt(type, ir_bits_of_float(t, real), false)
                                              : LLVMConstInt(type, (uint64_t)integer, true);
  define_scalar(e, op->results[0], v);
}

static void emit_alloc(cgh_emit *e, const ir_op *op) {
  const ir_type *t = op->results[0]->type;
  int64_t n = t->kind == IR_TYPE_MEM ? ir_type_elements(t) : -1;
  if (!check_memory_type(e, t)) return;
  if (t->strides) {   // the reach of a strided panel
    n = 1;
    for (unsigned d = 0; d < t->rank; d++)
      n += ir_size_is_const(t->shape[d]) ? (t->shape[d]->value - 1) * t->strides[d] : INT32_MAX;
  }
  if (ir_attr_int(op, "depth", 1) != 1) return cgh_fail(e, &diag_host_op, "panels of depth above 1");
  if (n < 0 || n > INT32_MAX) return cgh_fail(e, &diag_host_scratch, "a panel needs a constant size below 2 GiB");
  LLVMValueRef offset = LLVMConstInt(e->i64, offsetof(tsr_host_api, scratch), false),
               at = LLVMConstInt(e->i64, e->scratch, false);
  LLVMValueRef base = LLVMBuildLoad2(e->entry, e->ptr, LLVMBuildInBoundsGEP2(e->entry, e->i8, e->api, &offset, 1, ""), "scratch");
  cgh_set_invariant(e, base);
  cgh_mem *m = new_mem(e, t, LLVMBuildInBoundsGEP2(e->entry, e->i8, base, &at, 1, "panel"));
  if (!m) return;
  m->scope = scope_list(e, e->panels, 1, UINT32_MAX);
  m->noalias = scope_list(e, 0, count_panels(e->kernel->body), e->panels);
  e->panels++;
  ts_map_put(&e->mems, ts_key(op->results[0]), m);
  e->scratch += ((uint64_t)n * (ir_dtype_bits(t->dtype) / 8) + TSR_SCRATCH_ALIGN - 1) / TSR_SCRATCH_ALIGN * TSR_SCRATCH_ALIGN;
  if (e->scratch > INT32_MAX) cgh_fail(e, &diag_host_scratch, "panels of more than 2 GiB");
}

bool cgh_any(cgh_emit *e, const cgh_tile *t, LLVMValueRef *out) {
  LLVMValueRef any = NULL;
  if (t->dtype != IR_i1) return cgh_fail(e, &diag_host_not_finished, "a condition must be i1"), false;
  for (int64_t i = 0; i < t->shape.outer; i++) any = any ? LLVMBuildOr(e->b, any, cgh_value(e, t, i), "") : cgh_value(e, t, i);
  if (cgh_length(any)) any = cgh_unary(e, "llvm.vector.reduce.or", any);
  *out = any;
  return true;
}

static void emit_raise(cgh_emit *e, const ir_op *op) {
  cgh_tile *t = cgh_tile_of(e, op->operands[0]);
  LLVMValueRef any;
  int64_t code = ir_attr_int(op, "code", 0);
  if (!t || !cgh_any(e, t, &any)) return;
  if (code < 1 || code > INT32_MAX) return cgh_fail(e, &diag_host_not_finished, "raise code %lld", (long long)code);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b), next = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "held");
  LLVMBuildCondBr(e->b, any, e->exit, next);
  LLVMAddIncoming(e->code, (LLVMValueRef[]){LLVMConstInt(e->i32, (uint64_t)code, false)}, &here, 1);
  LLVMPositionBuilderAtEnd(e->b, next);
}

static const ir_op *emit_region(cgh_emit *e, const ir_region *r);

// Operands of the yield that ends a region; NULL when there is none that fits.
static cgh_tile **yielded(cgh_emit *e, const ir_op *yield, const ir_op *op) {
  if (!cgh_ok(e)) return NULL;
  uint32_t n = op->result_count;
  if (!yield ? n : yield->operand_count != n)
    return cgh_fail(e, &diag_host_not_finished, "a region that doesn't yield its op's results"), NULL;
  cgh_tile **t = ts_new_array(e->arena, cgh_tile *, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    if (yield->operands[i]->type != op->results[i]->type)
      return cgh_fail(e, &diag_host_not_finished, "yield %u has another type than the op's result", i), NULL;
    if (!(t[i] = cgh_tile_of(e, yield->operands[i]))) return NULL;
    for (int64_t o = 0; o < t[i]->shape.outer; o++) cgh_value(e, t[i], o);
  }
  return t;
}

static cgh_tile *phis(cgh_emit *e, const cgh_tile *like) {
  cgh_tile *t = cgh_new_tile(e, &like->shape, like->dtype);
  for (int64_t i = 0; i < like->shape.outer; i++) t->v[i] = LLVMBuildPhi(e->b, LLVMTypeOf(like->v[i]), "");
  return t;
}

static void incoming(cgh_tile *phi, const cgh_tile *t, LLVMBasicBlockRef from) {
  for (int64_t i = 0; i < t->shape.outer; i++) LLVMAddIncoming(phi->v[i], &t->v[i], &from, 1);
}

static void emit_for(cgh_emit *e, const ir_op *op) {
  const ir_region *r = op->regions[0];
  uint32_t n = op->result_count;
  if (op->operand_count != 3 + n || r->param_count != 1 + n)
    return cgh_fail(e, &diag_host_not_finished, "for: carried values don't fit its region");
  LLVMValueRef bound[3];
  for (int i = 0; i < 3; i++)
    if (!(bound[i] = cgh_scalar(e, op->operands[i]))) return;
    else bound[i] = cgh_convert(e, bound[i], op->operands[i]->type->dtype, IR_i64);
  cgh_tile **init = ts_new_array(e->arena, cgh_tile *, n), **phi = ts_new_array(e->arena, cgh_tile *, n);
  for (uint32_t i = 0; i < n; i++) {
    if (op->operands[3 + i]->type != op->results[i]->type || r->params[1 + i]->type != op->results[i]->type)
      return cgh_fail(e, &diag_host_not_finished, "for: carried value %u changes its type", i);
    if (!(init[i] = cgh_tile_of(e, op->operands[3 + i]))) return;
  }
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), head = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "for"),
                    body = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "do"),
                    after = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "done");
  LLVMBuildBr(e->b, head);
  LLVMPositionBuilderAtEnd(e->b, head);
  LLVMValueRef i = LLVMBuildPhi(e->b, e->i64, "i");
  LLVMAddIncoming(i, &bound[0], &before, 1);
  for (uint32_t k = 0; k < n; k++) {
    phi[k] = phis(e, init[k]);
    incoming(phi[k], init[k], before);
    cgh_define(e, r->params[1 + k], phi[k]);
    cgh_define(e, op->results[k], phi[k]);
  }
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, i, bound[1], ""), body, after);
  LLVMPositionBuilderAtEnd(e->b, body);
  define_scalar(e, r->params[0], i);
  const ir_op *yield = emit_region(e, r);
  e->op = op;
  cgh_tile **next = yielded(e, yield, op);
  if (!next) return;
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
  LLVMValueRef stepped = LLVMBuildNSWAdd(e->b, i, bound[2], "");
  LLVMAddIncoming(i, &stepped, &latch, 1);
  for (uint32_t k = 0; k < n; k++) incoming(phi[k], next[k], latch);
  LLVMBuildBr(e->b, head);
  LLVMPositionBuilderAtEnd(e->b, after);
}

static void emit_if(cgh_emit *e, const ir_op *op) {
  LLVMValueRef c = cgh_scalar(e, op->operands[0]);
  if (!c) return;
  if (op->operands[0]->type->dtype != IR_i1) return cgh_fail(e, &diag_host_not_finished, "the condition must be i1");
  LLVMBasicBlockRef way[2], end[2], after = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "endif");
  cgh_tile **t[2];
  for (int i = 0; i < 2; i++) way[i] = LLVMAppendBasicBlockInContext(e->ctx, e->fn, i ? "else" : "then");
  LLVMBuildCondBr(e->b, c, way[0], way[1]);
  for (int i = 0; i < 2; i++) {
    LLVMPositionBuilderAtEnd(e->b, way[i]);
    const ir_op *yield = emit_region(e, op->regions[i]);
    e->op = op;
    if (!(t[i] = yielded(e, yield, op))) return;
    end[i] = LLVMGetInsertBlock(e->b);
    LLVMBuildBr(e->b, after);
  }
  LLVMPositionBuilderAtEnd(e->b, after);
  for (uint32_t k = 0; k < op->result_count; k++) {
    cgh_tile *r = phis(e, t[0][k]);
    for (int i = 0; i < 2; i++) incoming(r, t[i][k], end[i]);
    cgh_define(e, op->results[k], r);
  }
}

static void emit_op(cgh_emit *e, const ir_op *op) {
  switch (op->code) {
    case IR_OP_pid: emit_pid(e, op); break;
    case IR_OP_size: {
      const ir_attr *of = ir_attr_find(op, "of");
      if (!of || of->kind != IR_ATTR_SIZE) return cgh_fail(e, &diag_host_not_finished, "size without an expression");
      define_scalar(e, op->results[0], cgh_size(e, of->size));
      break;
    }
    case IR_OP_const: emit_const(e, op); break;
    case IR_OP_for: emit_for(e, op); break;
    case IR_OP_if: emit_if(e, op); break;
    case IR_OP_raise: emit_raise(e, op); break;
    case IR_OP_iota: cgh_iota(e, op); break;
    case IR_OP_full: cgh_full(e, op); break;
    case IR_OP_apply: cgh_apply(e, op); break;
    case IR_OP_relabel: cgh_relabel(e, op); break;
    case IR_OP_convert: cgh_convert_op(e, op); break;
    case IR_OP_lookup: cgh_lookup(e, op); break;
    case IR_OP_load:
    case IR_OP_fetch: cgh_load(e, op); break;
    case IR_OP_store:
    case IR_OP_put: cgh_store(e, op); break;
    case IR_OP_atomic: cgh_atomic(e, op); break;
    case IR_OP_dot: cgh_dot(e, op); break;
    case IR_OP_reduce: cgh_reduce(e, op); break;
    case IR_OP_scan: cgh_scan(e, op); break;
    case IR_OP_alloc: emit_alloc(e, op); break;
    default: cgh_fail(e, &diag_host_op, "no code for this op on the host"); break;
  }
}

// Prints the ops of a region; returns its yield (not printed), or NULL.
static const ir_op *emit_region(cgh_emit *e, const ir_region *r) {
  const ir_op *op = r->first;
  e->pending.count = 0;
  for (; op && cgh_ok(e) && op->code != IR_OP_yield; op = op->next) {
    e->op = op;
    cgh_debug_op(e, op);
    if (op->region_count) cgh_flush(e);
    emit_op(e, op);
  }
  e->pending.count = 0;   // what nobody asked for
  return cgh_ok(e) ? op : NULL;
}

static void init_types(cgh_emit *e) {
  e->i1 = LLVMInt1TypeInContext(e->ctx), e->i8 = LLVMInt8TypeInContext(e->ctx), e->i16 = LLVMInt16TypeInContext(e->ctx);
  e->i32 = LLVMInt32TypeInContext(e->ctx), e->i64 = LLVMInt64TypeInContext(e->ctx);
  e->f16 = LLVMHalfTypeInContext(e->ctx), e->f32 = LLVMFloatTypeInContext(e->ctx), e->f64 = LLVMDoubleTypeInContext(e->ctx);
  e->ptr = LLVMPointerTypeInContext(e->ctx, 0);
}

LLVMModuleRef cgh_emit_kernel(const ir_kernel *k, const cgh_isa *isa, LLVMContextRef ctx, ts_arena *a, ts_diags *d,
                              cgh_code *out) {
  cgh_emit e = {.kernel = k, .isa = isa, .arena = a, .diags = d, .ctx = ctx};
  if (k->stage != IR_STAGE_S || k->target_class != IR_CLASS_HOST || !k->body) {
    cgh_fail(&e, &diag_host_not_finished, "not a scheduled kernel of class host");
    return NULL;
  }
  e.mod = LLVMModuleCreateWithNameInContext(k->name ? k->name : "kernel", ctx);
  LLVMSetTarget(e.mod, "x86_64-unknown-linux-gnu");
  e.b = LLVMCreateBuilderInContext(ctx);
  e.entry = LLVMCreateBuilderInContext(ctx);
  init_types(&e);
  e.dim = ir_kernel_symbols(k, a, &e.dim_count);
  begin_function(&e);
  cgh_debug_begin(&e);
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(e.entry), body = LLVMGetInsertBlock(e.b);
  LLVMPositionBuilderAtEnd(e.b, e.exit);
  e.code = LLVMBuildPhi(e.b, e.i32, "code");
  LLVMBuildRet(e.b, e.code);
  LLVMPositionBuilderAtEnd(e.b, body);
  unsigned panels = count_panels(k->body);
  e.panel_scopes = panels ? scope_list(&e, 0, panels, UINT32_MAX) : NULL;
  bind_operands(&e);
  if (cgh_ok(&e)) emit_region(&e, k->body);
  LLVMBasicBlockRef end = LLVMGetInsertBlock(e.b);
  LLVMAddIncoming(e.code, (LLVMValueRef[]){LLVMConstInt(e.i32, 0, false)}, &end, 1);
  LLVMBuildBr(e.b, e.exit);
  LLVMPositionBuilderAtEnd(e.entry, entry);
  LLVMBuildBr(e.entry, body);
  cgh_debug_end(&e);
  LLVMDisposeBuilder(e.b);
  LLVMDisposeBuilder(e.entry);
  ts_map_deinit(&e.tiles);
  ts_map_deinit(&e.mems);
  ts_map_deinit(&e.sizes);
  out->dims = e.dim;
  out->dim_count = e.dim_count;
  out->scratch = e.scratch;
  if (cgh_ok(&e)) return e.mod;
  LLVMDisposeModule(e.mod);
  return NULL;
}
