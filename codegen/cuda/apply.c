// Elementwise: scalar functions, conversions, constants.
#include "codegen/cuda/emit.h"

#include <math.h>

const char *cgc_const_text(cgc_emit *e, ir_dtype t, double real, int64_t integer) {
  if (ir_is_float(t)) {
    if (t == IR_f16 || t == IR_bf16) return cgc_text(e, "(unsigned short)0x%llxu", (unsigned long long)ir_bits_of_float(t, real));
    if (t == IR_f64) return isinf(real) || isnan(real) ? cgc_text(e, "__longlong_as_double(0x%llxll)", (unsigned long long)ir_bits_of_float(t, real))
                                                       : cgc_text(e, "%s%.17g%s", real < 0 ? "(" : "", real, real < 0 ? ")" : "");
    float f = (float)real;
    if (isinf(f) || isnan(f)) return cgc_text(e, "__uint_as_float(0x%llxu)", (unsigned long long)ir_bits_of_float(IR_f32, real));
    const char *digits = cgc_text(e, "%.9g", (double)f);
    const char *dot = strpbrk(digits, ".e") ? "" : ".0";
    return signbit(f) ? cgc_text(e, "(%s%sf)", digits, dot) : cgc_text(e, "%s%sf", digits, dot);
  }
  if (t == IR_i64) return integer == INT64_MIN ? "(-0x7fffffffffffffffll - 1)" : cgc_text(e, integer < 0 ? "(%lldll)" : "%lldll", (long long)integer);
  if (t == IR_u64) return cgc_text(e, "%lluull", (unsigned long long)integer);
  if (t == IR_u32) return cgc_text(e, "%uu", (unsigned)integer);
  if (t == IR_i1) return integer ? "true" : "false";
  return cgc_text(e, "(%s)%lld", cgc_ctype(e, t), (long long)integer);
}

// A narrow float as f32 and back; other types as they are.
static const char *widen(cgc_emit *e, ir_dtype t, const char *x) {
  return t == IR_f16 ? cgc_text(e, "t_h2f(%s)", x) : t == IR_bf16 ? cgc_text(e, "t_b2f(%s)", x) : x;
}
static const char *narrow(cgc_emit *e, ir_dtype t, const char *x) {
  return t == IR_f16 ? cgc_text(e, "t_f2h(%s)", x) : t == IR_bf16 ? cgc_text(e, "t_f2b(%s)", x) : x;
}

const char *cgc_convert(cgc_emit *e, const char *x, ir_dtype from, ir_dtype to) {
  if (from == to) return x;
  x = widen(e, from, x);
  bool f64 = from == IR_f64;
  if (ir_is_float(from) && ir_is_float(to)) {
    if (to == IR_f64) return cgc_text(e, "(double)%s", x);
    return narrow(e, to, f64 ? cgc_text(e, "(float)%s", x) : x);
  }
  if (ir_is_float(from)) {
    const char *src = f64 ? "double" : "float";
    if (to == IR_i64) return cgc_text(e, "__%s2ll_rz(%s)", src, x);
    if (to == IR_u64) return cgc_text(e, "__%s2ull_rz(%s)", src, x);
    if (to == IR_u32) return cgc_text(e, "__%s2uint_rz(%s)", src, x);
    if (to == IR_i32) return cgc_text(e, "__%s2int_rz(%s)", src, x);
    if (to == IR_i1) return cgc_text(e, "(%s != 0)", x);
    return cgc_text(e, "(%s)min(max(__%s2int_rz(%s), %lld), %lld)", cgc_ctype(e, to), src, x, (long long)ir_int_min(to), (long long)ir_int_max(to));
  }
  if (ir_is_float(to)) {
    if (from == IR_i1) x = cgc_text(e, "(int)%s", x);
    return to == IR_f64 ? cgc_text(e, "(double)%s", x) : narrow(e, to, cgc_text(e, "(float)%s", x));
  }
  if (to == IR_i1) return cgc_text(e, "(%s & 1)", x);
  return cgc_text(e, "(%s)%s", cgc_ctype(e, to), x);
}

const char *cgc_binary(cgc_emit *e, ir_scalar op, ir_dtype t, const char *x, const char *y) {
  bool fl = ir_is_float(t), wide = t == IR_f64;
  const char *a = widen(e, t, x), *b = widen(e, t, y), *r = NULL;
  switch (op) {
    case IR_SCALAR_add: r = cgc_text(e, "%s + %s", a, b); break;
    case IR_SCALAR_sub: r = cgc_text(e, "%s - %s", a, b); break;
    case IR_SCALAR_mul: r = cgc_text(e, "%s * %s", a, b); break;
    case IR_SCALAR_div: r = fl ? cgc_text(e, "%s / %s", a, b) : ir_is_signed(t) ? cgc_text(e, "t_div(%s, %s)", a, b) : cgc_text(e, "%s / %s", a, b); break;
    case IR_SCALAR_rem: r = ir_is_signed(t) ? cgc_text(e, "t_rem(%s, %s)", a, b) : cgc_text(e, "%s %% %s", a, b); break;
    case IR_SCALAR_min: case IR_SCALAR_max: {
      const char *name = op == IR_SCALAR_min ? "min" : "max";
      r = fl ? cgc_text(e, wide ? "f%s(%s, %s)" : "f%sf(%s, %s)", name, a, b) : cgc_text(e, "%s(%s, %s)", name, a, b);
      break;
    }
    case IR_SCALAR_and: r = cgc_text(e, "%s & %s", a, b); break;
    case IR_SCALAR_or: r = cgc_text(e, "%s | %s", a, b); break;
    case IR_SCALAR_xor: r = cgc_text(e, "%s ^ %s", a, b); break;
    case IR_SCALAR_shl: r = cgc_text(e, "%s << (int)%s", a, b); break;
    case IR_SCALAR_shr: r = cgc_text(e, "%s >> (int)%s", a, b); break;
    case IR_SCALAR_eq: return cgc_text(e, "%s == %s", a, b);
    case IR_SCALAR_ne: return cgc_text(e, "%s != %s", a, b);
    case IR_SCALAR_lt: return cgc_text(e, "%s < %s", a, b);
    case IR_SCALAR_le: return cgc_text(e, "%s <= %s", a, b);
    case IR_SCALAR_gt: return cgc_text(e, "%s > %s", a, b);
    case IR_SCALAR_ge: return cgc_text(e, "%s >= %s", a, b);
    default: cgc_fail(e, &diag_cuda_op, "no binary operation %s", ir_scalar_get(op)->name); return "0";
  }
  if (!fl && ir_dtype_bits(t) < 32 && t != IR_i1) return cgc_text(e, "(%s)(%s)", cgc_ctype(e, t), r);
  return fl && ir_dtype_bits(t) == 16 ? narrow(e, t, r) : r;
}

static const char *unary(cgc_emit *e, ir_scalar op, ir_dtype t, const char *x) {
  bool fl = ir_is_float(t);
  const char *a = widen(e, t, x), *f = t == IR_f64 ? "" : "f", *r = NULL;
  if (op == IR_SCALAR_neg) r = cgc_text(e, fl || ir_dtype_bits(t) >= 32 ? "-%s" : "(short)-%s", a);
  else if (op == IR_SCALAR_abs) r = fl ? cgc_text(e, "fabs%s(%s)", f, a) : cgc_text(e, "abs(%s)", a);
  else if (!fl) return cgc_fail(e, &diag_cuda_type, "%s of %s", ir_scalar_get(op)->name, ir_dtype_name(t)), "0";
  else if (op == IR_SCALAR_round) r = cgc_text(e, "rint%s(%s)", f, a);
  else r = cgc_text(e, "%s%s(%s)", ir_scalar_get(op)->name, f, a);   // floor exp exp2 log log2 sqrt rsqrt sin cos tanh erf
  return narrow(e, t, r);
}

static const char *bits_of(cgc_emit *e, ir_dtype to, ir_dtype from, const char *x) {
  if (from == IR_f32 && !ir_is_float(to)) return cgc_text(e, "(%s)__float_as_uint(%s)", cgc_ctype(e, to), x);
  if (to == IR_f32 && !ir_is_float(from)) return cgc_text(e, "__uint_as_float((unsigned)%s)", x);
  if (from == IR_f64 || to == IR_f64) return cgc_fail(e, &diag_cuda_type, "bits of f64"), "0";
  return cgc_text(e, "(%s)%s", cgc_ctype(e, to), x);
}

// Division of integers by a constant power of two; NULL when it is none.
static const char *power_of_two(cgc_emit *e, const ir_fn *fn, const ir_expr *x, const char *a) {
  const ir_expr *y = &fn->nodes[x->args[1]];
  if ((x->op != IR_SCALAR_div && x->op != IR_SCALAR_rem) || y->op != IR_SCALAR_CONST || !ir_is_int(x->type) || y->integer < 1 ||
      (y->integer & (y->integer - 1)) || ir_dtype_bits(x->type) < 32)
    return NULL;
  return x->op == IR_SCALAR_div ? cgc_text(e, "%s >> %d", a, __builtin_ctzll((unsigned long long)y->integer)) : cgc_text(e, "%s & %lld", a, (long long)(y->integer - 1));
}

// Values of all nodes of a function for one element; names for what is more than a name or constant.
static void evaluate(cgc_emit *e, const ir_fn *fn, const char *const *args, const char **value, uint32_t skip) {
  for (uint32_t i = 0; i < fn->count && cgc_ok(e); i++) {
    const ir_expr *x = &fn->nodes[i];
    const char *a = x->op < IR_SCALAR_PARAM ? value[x->args[0]] : NULL, *r = NULL;
    if (i == skip) continue;
    switch (x->op) {
      case IR_SCALAR_PARAM: value[i] = args[x->index]; continue;
      case IR_SCALAR_CONST: value[i] = cgc_const_text(e, x->type, x->real, x->integer); continue;
      case IR_SCALAR_cast: r = cgc_convert(e, a, fn->nodes[x->args[0]].type, x->type); break;
      case IR_SCALAR_bits: r = bits_of(e, x->type, fn->nodes[x->args[0]].type, a); break;
      case IR_SCALAR_select: r = cgc_text(e, "%s ? %s : %s", a, value[x->args[1]], value[x->args[2]]); break;
      case IR_SCALAR_fma: {
        const char *b = widen(e, x->type, value[x->args[1]]), *c = widen(e, x->type, value[x->args[2]]);
        r = narrow(e, x->type, cgc_text(e, x->type == IR_f64 ? "fma(%s, %s, %s)" : "fmaf(%s, %s, %s)", widen(e, x->type, a), b, c));
        break;
      }
      default:
        if ((r = power_of_two(e, fn, x, a))) break;
        r = ir_scalar_get(x->op)->arity == 1 ? unary(e, x->op, x->type, a) : cgc_binary(e, x->op, fn->nodes[x->args[0]].type, a, value[x->args[1]]);
    }
    if (r == a) {
      value[i] = r;
      continue;
    }
    value[i] = cgc_name(e, "s");
    cgc_line(e, "const %s %s = %s;", cgc_ctype(e, x->type), value[i], r);
  }
}

void cgc_apply(cgc_emit *e, const ir_op *op) {
  const ir_fn *fn = ir_attr_find(op, "fn")->fn;
  cgc_tile *in[32];
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  if (!f || op->operand_count > 32 || op->result_count != 1) return cgc_fail(e, &diag_cuda_op, "an apply of this many operands or results");
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (!(in[i] = cgc_tile_of(e, op->operands[i]))) return;
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs), **value = ts_new_array(e->arena, const char *, fn->count);
  uint32_t out = fn->outputs[0], skip = UINT32_MAX;
  const ir_expr *last = &fn->nodes[out];
  // Pairs of 16-bit floats are rounded together.
  bool pairs = f->per == 2 && last->op == IR_SCALAR_cast && fn->nodes[last->args[0]].type == IR_f32 && ir_is_float(last->type);
  if (pairs) skip = out;
  for (int r = 0; r < f->regs && cgc_ok(e); r++) {
    const char *args[32];
    for (uint32_t i = 0; i < op->operand_count; i++) {
      int s = cgc_match(e, in[i]->form, f, r, NULL);
      if (s < 0) return cgc_fail(e, &diag_cuda_not_finished, "operand %u lies in other threads than the result", i);
      args[i] = cgc_get(e, in[i], s);
    }
    evaluate(e, fn, args, value, skip);
    elements[r] = value[pairs ? last->args[0] : out];
  }
  if (!cgc_ok(e)) return;
  cgc_tile *t = cgc_new_tile(e, f);
  if (pairs) {
    for (int w = 0; w < f->words; w++) {
      t->v[w] = cgc_name(e, "v");
      cgc_line(e, "const unsigned %s = %s(%s, %s);", t->v[w], f->dtype == IR_f16 ? "t_f2h2" : "t_f2b2", elements[2 * w], elements[2 * w + 1]);
    }
  } else if (f->per == 1) {
    memcpy(t->v, elements, (size_t)f->regs * sizeof *t->v);
  } else {
    t = cgc_declare(e, f, elements);
  }
  cgc_define(e, op->results[0], t);
}

void cgc_full(cgc_emit *e, const ir_op *op) {
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  const char *x = cgc_scalar(e, op->operands[0]);
  if (!f || !cgc_ok(e)) return;
  if (f->per > 1) {
    const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
    for (int r = 0; r < f->regs; r++) elements[r] = x;
    return cgc_define(e, op->results[0], cgc_declare(e, f, elements));
  }
  cgc_tile *t = cgc_new_tile(e, f);
  for (int r = 0; r < f->regs; r++) t->v[r] = x;
  cgc_define(e, op->results[0], t);
}

void cgc_iota(cgc_emit *e, const ir_op *op) {
  const cgc_form *f = cgc_form_of(e, op->results[0]->type, op->results[0]->type->dtype);
  const char *base = cgc_scalar(e, op->operands[0]);
  if (!f || !cgc_ok(e)) return;
  const char **elements = ts_new_array(e->arena, const char *, (size_t)f->regs);
  const char *start = cgc_name(e, "i");
  cgc_line(e, "const %s %s = %s%s%s%s%s;", cgc_ctype(e, f->dtype), start, base, f->rank && f->lane[0] ? " + " : "", f->rank && f->lane[0] ? f->lane[0] : "",
           f->rank && f->warp[0] ? " + " : "", f->rank && f->warp[0] ? f->warp[0] : "");
  for (int r = 0; r < f->regs; r++) elements[r] = f->rank && f->off[0][r] ? cgc_text(e, "%s + %d", start, f->off[0][r]) : start;
  cgc_define(e, op->results[0], cgc_declare(e, f, elements));
}

void cgc_raise(cgc_emit *e, const ir_op *op) {
  cgc_tile *t = cgc_tile_of(e, op->operands[0]);
  for (int r = 0; t && r < t->form->regs; r++) cgc_line(e, "if (%s) __trap();   // code %lld", cgc_get(e, t, r), (long long)ir_attr_int(op, "code", 1));
}
