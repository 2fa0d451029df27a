// Loops of row kernels (see rows_form.h).
#include "passes/rows_form.h"

#include "passes/build.h"
#include "passes/lower.h"

#include <math.h>

enum { MAX_REDUCTIONS = 16 };

static ts_status refuse(pass_translator *t, ts_loc loc, const char *rule, const char *what) {
  return ts_report(t->m->diags, loc, &diag_pass_unsupported, "rule %s: %s", rule, what);
}

static ts_status note_axes(pass_rows_form *f, const ir_op *op, const ir_type *type) {
  for (unsigned i = 0; i < type->rank; i++) {
    bool known = type->axes[i] == f->m->name;
    for (unsigned k = 0; k < f->axes; k++) known |= f->axis[k] == type->axes[i];
    if (known) continue;
    if (!ir_size_is_const(type->shape[i])) return refuse(f->t, op->loc, "dimension-not-static", "a feature axis of a row kernel has a size known at run time");
    if (f->axes == PASS_ROW_AXES) return refuse(f->t, op->loc, "too-many-dimensions", "8 feature axes in a row kernel");
    f->axis[f->axes] = type->axes[i];
    f->extent[f->axes++] = type->shape[i];
  }
  return TS_OK;
}

ts_status pass_read_rows(pass_translator *t, pass_rows_form *f) {
  const ir_kernel *k = t->from;
  *f = (pass_rows_form){.t = t, .part = k->parts.data, .m = k->parts.data->axes.data};
  if (k->parts.count != 1 || f->part->axes.count != 1) return refuse(t, k->loc, "rows-axes", "one part over one row axis is scheduled");
  for (const ir_op *op = f->part->finish->first; op; op = op->next) {
    if (op->code == IR_OP_relabel) return refuse(t, op->loc, "rows-relabel", "reshapes inside row kernels have no schedule");
    for (uint32_t i = 0; i < op->result_count; i++) TS_TRY(note_axes(f, op, op->results[i]->type));
  }
  return TS_OK;
}

static void set_chunk(pass_rows_form *f, ir_value *base) {
  unsigned last = f->axes - 1;
  pass_set_box(f->t, (pass_box){.axis = f->axis[last], .base = base, .extent = f->chunk, .size = f->extent[last], .row = !f->lanes,
                                .tail = f->extent[last]->value % f->chunk != 0});
}

typedef struct reductions {
  const ir_op *op[MAX_REDUCTIONS];
  ir_value *value[MAX_REDUCTIONS];
  unsigned count;
} reductions;

static void restart(pass_rows_form *f, const reductions *r) {
  pass_translator_reset(f->t);
  for (unsigned i = 0; i < r->count; i++) pass_bind_value(f->t, r->op[i]->results[0], r->value[i]);
}

// One reduction over the chunked axis, to a value over the row axes.
static ts_status reduce_row(pass_rows_form *f, const ir_op *op, reductions *done) {
  ir_builder *b = &f->t->b;
  const char *kind = ir_attr_sym(op, "op");
  bool add = strcmp(kind, "add") == 0, max = strcmp(kind, "max") == 0, min = strcmp(kind, "min") == 0;
  const ir_attr *over = ir_attr_find(op, "over");
  ts_sym last = f->axes ? f->axis[f->axes - 1] : NULL;
  const ir_type *in = op->operands[0]->type;
  if (!(add || max || min) || over->axes.count != 1 || over->axes.data[0] != last || !ir_is_float(in->dtype) || in->axes[in->rank - 1] != last)
    return refuse(f->t, op->loc, "row-reduction", "sums, minima and maxima of floats over the last axis are scheduled");
  ts_sym axes[PASS_ROW_AXES + 1];
  int64_t extents[PASS_ROW_AXES + 1];
  for (unsigned i = 0; i < in->rank; i++) {
    pass_box *box = pass_find_box(f->t, in->axes[i]);
    axes[i] = in->axes[i], extents[i] = in->axes[i] == last ? f->chunk : box ? box->extent : 1;
  }
  const ir_type *t;
  TS_TRY(f->tile(f->user, in->dtype, in->rank, axes, extents, &t));
  double start = add ? 0 : max ? -INFINITY : INFINITY;
  ir_value *acc = ir_full(b, ir_const_real(b, in->dtype, start), t), *v;
  pass_loop l = pass_loop_open(b, pass_int(b, 0), pass_int(b, f->extent[f->axes - 1]->value), f->chunk, 1, &acc);
  restart(f, done);
  set_chunk(f, l.index);
  TS_TRY(pass_translate_value(f->t, op->operands[0], &v));
  ir_value *inside = pass_bounds_mask(f->t, 1, &last, NULL);
  if (inside) v = ir_apply_op(b, IR_SCALAR_select, inside, v, ir_full(b, ir_const_real(b, in->dtype, start), v->type));
  acc = ir_apply_op(b, add ? IR_SCALAR_add : max ? IR_SCALAR_max : IR_SCALAR_min, acc, v, NULL);
  pass_loop_close(b, &l, 1, &acc);
  done->value[done->count] = ir_reduce(b, acc, kind, 1, &last);
  done->op[done->count++] = op;
  return f->reduced ? f->reduced(f->user) : TS_OK;
}

// Inside all outer loops: reductions, then effects.
static ts_status emit_row(pass_rows_form *f) {
  ir_builder *b = &f->t->b;
  reductions done = {.count = 0};
  for (const ir_op *op = f->part->finish->first; op; op = op->next) {
    if (op->code != IR_OP_reduce) continue;
    if (done.count == MAX_REDUCTIONS) return refuse(f->t, op->loc, "row-reduction", "16 reductions in one kernel are scheduled");
    TS_TRY(reduce_row(f, op, &done));
  }
  if (f->axes == 0) {
    restart(f, &done);
    return pass_translate_effects(f->t, f->part->finish);
  }
  pass_loop l = pass_loop_open(b, pass_int(b, 0), pass_int(b, f->extent[f->axes - 1]->value), f->chunk, 0, NULL);
  restart(f, &done);
  set_chunk(f, l.index);
  TS_TRY(pass_translate_effects(f->t, f->part->finish));
  pass_loop_close(b, &l, 0, NULL);
  return TS_OK;
}

static ts_status loop_axes(pass_rows_form *f, unsigned depth) {
  if (depth + 1 >= f->axes) return emit_row(f);
  ir_builder *b = &f->t->b;
  pass_loop l = pass_loop_open(b, pass_int(b, 0), pass_int(b, f->extent[depth]->value), 1, 0, NULL);
  pass_set_box(f->t, (pass_box){.axis = f->axis[depth], .base = l.index, .extent = 1, .size = f->extent[depth], .row = true});
  TS_TRY(loop_axes(f, depth + 1));
  pass_loop_close(b, &l, 0, NULL);
  return TS_OK;
}

ts_status pass_emit_rows(pass_rows_form *f) { return loop_axes(f, 0); }
