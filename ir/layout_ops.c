// Layouts (see layout.h): the algebra. Every operation computes digits and hands them to ir_layout_make(), which proves the
// result anew; nothing here can produce a layout that is not injective.
#include "base/checked.h"
#include "ir/layout_make.h"

// Copies sizes so that default sizes of ir_layout_make() never come in: a result's sizes are always given.
static void draft_spaces(layout_draft *f, const ir_layout_space *dims, uint32_t dim_count, const ir_layout_space *axes,
                         uint32_t axis_count) {
  for (uint32_t i = 0; i < dim_count; i++) ts_vec_push(f->arena, &f->dims, dims[i]);
  for (uint32_t i = 0; i < axis_count; i++) ts_vec_push(f->arena, &f->axes, axes[i]);
}

// What logical atom i is made of: the storage atom of an odd factor, or the xor of storage bits, as terms over dimensions.
static uint32_t sources(const ir_layout_bits *b, const ir_layout_atom *x, ir_layout_term *terms) {
  if (x->bit < 0) {
    terms[0] = (ir_layout_term){b->storage[x->mate].space, b->storage[x->mate].unit};
    return 1;
  }
  uint32_t n = 0;
  for (uint32_t s = 0; s < b->storage_count; s++) {
    const ir_layout_atom *y = &b->storage[s];
    if (y->bit < 0 || !(b->to_logical[y->bit] >> x->bit & 1)) continue;
    if (n < IR_LAYOUT_MAX_TERMS) terms[n] = (ir_layout_term){y->space, y->unit};
    n++;
  }
  return n;
}

ts_status ir_layout_invert(ts_arena *a, const ir_layout *l, ts_diags *d, ts_loc loc, const ir_layout **out) {
  layout_draft f = {.arena = a};
  draft_spaces(&f, l->axes, l->axis_count, l->dims, l->dim_count);
  for (uint32_t i = 0; i < l->bits->logical_count; i++) {
    const ir_layout_atom *x = &l->bits->logical[i];
    ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
    uint32_t n = sources(l->bits, x, terms);
    if (n > IR_LAYOUT_MAX_TERMS) return ts_report(d, loc, &diag_layout_large, "the inverse has an xor of %u digits", n);
    layout_draft_digit(&f, x->space, x->unit, x->radix, terms, n);
  }
  return layout_draft_make(&f, d, loc, out);
}

// ---- compose ------------------------------------------------------------------------------------------------------------

// Cuts *digit inside (unit, unit * radix) at `point`, if it lies there. `what` is the digit's stride or the divisor of a term.
static ts_status cut_at(layout_draft *f, size_t i, int64_t unit, int64_t point, const char *name, ts_diags *d, ts_loc loc,
                        bool *again) {
  ir_layout_digit *g = &f->digits.data[i], high;
  if (point <= unit || point >= unit * g->radix) return TS_OK;
  if (point % unit || g->radix % (point / unit))
    return ts_report(d, loc, &diag_layout_refine,
                     "the digits of %s have no common refinement: one spans %lld .. %lld, another begins at %lld", name,
                     (long long)unit, (long long)(unit * g->radix), (long long)point);
  TS_TRY(layout_digit_cut(f->arena, g, point / unit, d, loc, &high));
  ts_vec_push(f->arena, &f->digits, high);
  *again = true;
  return TS_OK;
}

// Cuts digits of `f` (terms on axis `axis`) and of `g` (strides in dimension `dim`) until each begins and ends where the other's
// do.
static ts_status refine(layout_draft *f, uint32_t axis, layout_draft *g, uint32_t dim, const char *name, ts_diags *d, ts_loc loc,
                        bool *again) {
  for (size_t i = 0; i < f->digits.count; i++) {
    for (uint32_t t = 0; t < f->digits.data[i].count; t++) {
      if (f->digits.data[i].terms[t].axis != axis) continue;
      for (size_t j = 0; j < g->digits.count; j++) {
        if (g->digits.data[j].dim != dim) continue;
        for (int end = 0; end < 2; end++) {
          const ir_layout_digit *x = &f->digits.data[i], *y = &g->digits.data[j];
          int64_t unit = x->terms[t].divisor, stride = y->stride;
          TS_TRY(cut_at(f, i, unit, end ? stride * y->radix : stride, name, d, loc, again));
          x = &f->digits.data[i];
          TS_TRY(cut_at(g, j, stride, end ? unit * x->radix : unit, name, d, loc, again));
        }
      }
    }
  }
  return TS_OK;
}

// Is a coordinate cut off inside what the digits can reach? `reach` is the largest value that they name.
static int64_t reach_of_axis(const ir_layout *l, uint32_t axis) {
  int64_t reach = 0;
  for (uint32_t i = 0; i < l->bits->logical_count; i++)
    if (l->bits->logical[i].space == axis) reach += l->bits->logical[i].unit * (l->bits->logical[i].radix - 1);
  return reach;
}

static ts_status check_middle(const ir_layout *l, const ir_layout *then, ts_diags *d, ts_loc loc) {
  for (uint32_t i = 0; i < l->axis_count; i++) {
    int dim = ir_layout_dim(then, l->axes[i].name);
    if (dim < 0) return ts_report(d, loc, &diag_layout_name, "the second layout has no dimension %s", l->axes[i].name);
    int64_t reach = reach_of_axis(l, i);
    if (reach >= l->axes[i].size || reach >= then->dims[dim].size)
      return ts_report(d, loc, &diag_layout_ragged,
                       "%s is cut off at %lld, inside digits that reach %lld: pad it to whole digits first", l->axes[i].name,
                       (long long)(l->axes[i].size < then->dims[dim].size ? l->axes[i].size : then->dims[dim].size),
                       (long long)reach);
  }
  for (uint32_t i = 0; i < then->dim_count; i++)
    if (ir_layout_axis(l, then->dims[i].name) < 0)
      return ts_report(d, loc, &diag_layout_name, "the first layout has no axis %s", then->dims[i].name);
  return TS_OK;
}

// A digit of the second layout that the first never moves stays 0. If it is an xor, that ties its terms together, which digits
// can't say.
static ts_status check_reached(const layout_draft *f, const layout_draft *g, const int *dim_of, ts_diags *d, ts_loc loc) {
  for (size_t j = 0; j < g->digits.count; j++) {
    const ir_layout_digit *y = &g->digits.data[j];
    bool reached = y->count < 2;
    for (size_t i = 0; i < f->digits.count && !reached; i++)
      for (uint32_t t = 0; t < f->digits.data[i].count; t++)
        reached = reached ||
                  (dim_of[f->digits.data[i].terms[t].axis] == (int)y->dim && f->digits.data[i].terms[t].divisor == y->stride);
    if (!reached)
      return ts_report(d, loc, &diag_layout_refine, "the first layout does not reach an xor of the second one's dimension %s",
                       g->dims.data[y->dim].name);
  }
  return TS_OK;
}

// The terms of digit x over the axes of the second layout: xor of what its terms are there.
static ts_status substitute_terms(const layout_draft *f, const ir_layout_digit *x, const layout_draft *g, const int *dim_of,
                                  ts_diags *d, ts_loc loc, ir_layout_term *terms, uint32_t *count) {
  *count = 0;
  for (uint32_t t = 0; t < x->count; t++) {
    const ir_layout_digit *y = NULL;
    for (size_t j = 0; j < g->digits.count && !y; j++) {
      const ir_layout_digit *z = &g->digits.data[j];
      if (z->dim == (uint32_t)dim_of[x->terms[t].axis] && z->stride == x->terms[t].divisor && z->radix == x->radix) y = z;
    }
    if (!y)
      return ts_report(d, loc, &diag_layout_refine, "the second layout has a hole where the digit (%s/%lld)%%%lld leads",
                       f->axes.data[x->terms[t].axis].name, (long long)x->terms[t].divisor, (long long)x->radix);
    if (y->count == 0 && x->count > 1)
      return ts_report(d, loc, &diag_layout_refine, "an xor of the first layout leads to a replica of the second");
    for (uint32_t u = 0; u < y->count; u++) {
      uint32_t v = 0;
      while (v < *count && (terms[v].axis != y->terms[u].axis || terms[v].divisor != y->terms[u].divisor)) v++;
      if (v < *count) terms[v] = terms[--*count];   // twice is nothing
      else if (*count == IR_LAYOUT_MAX_TERMS)
        return ts_report(d, loc, &diag_layout_large, "an xor of more than %d digits", IR_LAYOUT_MAX_TERMS);
      else terms[(*count)++] = y->terms[u];
    }
  }
  return TS_OK;
}

ts_status ir_layout_compose(ts_arena *a, const ir_layout *l, const ir_layout *then, ts_diags *d, ts_loc loc,
                            const ir_layout **out) {
  TS_TRY(check_middle(l, then, d, loc));
  layout_draft f = layout_draft_of(a, l), g = layout_draft_of(a, then), r = {.arena = a};
  int dim_of[IR_LAYOUT_MAX_SPACES];
  for (uint32_t i = 0; i < l->axis_count; i++) dim_of[i] = ir_layout_dim(then, l->axes[i].name);
  for (bool again = true; again;) {   // a cut on one coordinate can ask for one on another: an xor cuts all its terms
    again = false;
    for (uint32_t i = 0; i < l->axis_count; i++) TS_TRY(refine(&f, i, &g, (uint32_t)dim_of[i], l->axes[i].name, d, loc, &again));
    if (f.digits.count + g.digits.count > 4 * IR_LAYOUT_MAX_ATOMS)
      return ts_report(d, loc, &diag_layout_large, "the refinement has too many digits");
  }
  TS_TRY(check_reached(&f, &g, dim_of, d, loc));
  draft_spaces(&r, l->dims, l->dim_count, then->axes, then->axis_count);
  for (size_t i = 0; i < f.digits.count; i++) {
    ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
    uint32_t count;
    const ir_layout_digit *x = &f.digits.data[i];
    TS_TRY(substitute_terms(&f, x, &g, dim_of, d, loc, terms, &count));
    layout_draft_digit(&r, x->dim, x->stride, x->radix, terms, count);
  }
  return layout_draft_make(&r, d, loc, out);
}

// ---- product and divide -------------------------------------------------------------------------------------------------

ts_status ir_layout_product(ts_arena *a, const ir_layout *inner, const ir_layout *outer, ts_diags *d, ts_loc loc,
                            const ir_layout **out) {
  layout_draft f = layout_draft_of(a, inner);
  int dim_of[IR_LAYOUT_MAX_SPACES], axis_of[IR_LAYOUT_MAX_SPACES];
  for (uint32_t i = 0; i < outer->dim_count; i++)
    if ((dim_of[i] = layout_draft_dim(&f, outer->dims[i].name)) < 0)
      return ts_report(d, loc, &diag_layout_large, "too many dimensions");
  for (uint32_t i = 0; i < outer->axis_count; i++)
    if ((axis_of[i] = layout_draft_axis(&f, outer->axes[i].name)) < 0)
      return ts_report(d, loc, &diag_layout_large, "too many axes");
  for (uint32_t i = 0; i < outer->digit_count; i++) {
    const ir_layout_digit *g = &outer->digits[i];
    ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
    int64_t stride;
    if (!ts_mul_i64(g->stride, ir_layout_dim_size(inner, outer->dims[g->dim].name), &stride)) stride = INT64_MAX;
    for (uint32_t t = 0; t < g->count; t++) {
      terms[t].axis = (uint32_t)axis_of[g->terms[t].axis];
      if (!ts_mul_i64(g->terms[t].divisor, ir_layout_axis_size(inner, outer->axes[g->terms[t].axis].name), &terms[t].divisor))
        stride = INT64_MAX;
    }
    layout_draft_digit(&f, (uint32_t)dim_of[g->dim], stride, g->radix, terms, g->count);
  }
  for (uint32_t i = 0; i < outer->dim_count + outer->axis_count; i++) {
    bool dim = i < outer->dim_count;
    const ir_layout_space *s = dim ? &outer->dims[i] : &outer->axes[i - outer->dim_count];
    ir_layout_space *r = dim ? &f.dims.data[dim_of[i]] : &f.axes.data[axis_of[i - outer->dim_count]];
    if (r->size == 0) r->size = 1;
    if (!ts_mul_i64(r->size, s->size, &r->size))
      return ts_report(d, loc, &diag_layout_large, "the size of %s overflows", s->name);
  }
  return layout_draft_make(&f, d, loc, out);
}

static ts_status no_quotient(ts_diags *d, ts_loc loc, const char *name, const char *why) {
  return ts_report(d, loc, &diag_layout_divide, "the layout is not a repetition of the instruction's: %s %s", name, why);
}

// The quotient's spaces: sizes of l over those of inner.
static ts_status divide_spaces(const ir_layout_space *s, uint32_t count, const ir_layout_space *inner, uint32_t inner_count,
                               int64_t *unit, ir_layout_space *quotient, ts_diags *d, ts_loc loc) {
  for (uint32_t i = 0; i < count; i++) {
    unit[i] = 1;
    for (uint32_t j = 0; j < inner_count; j++)
      if (strcmp(s[i].name, inner[j].name) == 0) unit[i] = inner[j].size;
    if (s[i].size % unit[i]) return no_quotient(d, loc, s[i].name, "has a size that the instruction's does not divide");
    quotient[i] = (ir_layout_space){s[i].name, s[i].size / unit[i]};
  }
  for (uint32_t j = 0; j < inner_count; j++) {
    uint32_t i = 0;
    while (i < count && strcmp(s[i].name, inner[j].name)) i++;
    if (i == count && inner[j].size > 1) return no_quotient(d, loc, inner[j].name, "is missing");
  }
  return TS_OK;
}

ts_status ir_layout_divide(ts_arena *a, const ir_layout *l, const ir_layout *inner, ts_diags *d, ts_loc loc,
                           const ir_layout **out) {
  layout_draft f = layout_draft_of(a, l), in = {.arena = a}, q = {.arena = a};
  int64_t dim_unit[IR_LAYOUT_MAX_SPACES], axis_unit[IR_LAYOUT_MAX_SPACES];
  ir_layout_space dims[IR_LAYOUT_MAX_SPACES], axes[IR_LAYOUT_MAX_SPACES];
  TS_TRY(divide_spaces(l->dims, l->dim_count, inner->dims, inner->dim_count, dim_unit, dims, d, loc));
  TS_TRY(divide_spaces(l->axes, l->axis_count, inner->axes, inner->axis_count, axis_unit, axes, d, loc));
  draft_spaces(&q, dims, l->dim_count, axes, l->axis_count);
  for (uint32_t i = 0; i < l->dim_count; i++) dims[i].size = dim_unit[i];
  for (uint32_t i = 0; i < l->axis_count; i++) axes[i].size = axis_unit[i];
  draft_spaces(&in, dims, l->dim_count, axes, l->axis_count);
  // What is not repeated belongs to the tile as a whole, also where its last digit is cut off.
  for (uint32_t i = 0; i < l->dim_count; i++)
    if (q.dims.data[i].size == 1) dim_unit[i] = 2 * IR_LAYOUT_MAX_SIZE;
  for (uint32_t i = 0; i < l->axis_count; i++)
    if (q.axes.data[i].size == 1) axis_unit[i] = 2 * IR_LAYOUT_MAX_SIZE;
  for (size_t i = 0; i < f.digits.count; i++) {
    bool again = false;
    TS_TRY(cut_at(&f, i, f.digits.data[i].stride, dim_unit[f.digits.data[i].dim], l->dims[f.digits.data[i].dim].name, d, loc,
                  &again));
    for (uint32_t t = 0; t < f.digits.data[i].count; t++) {
      ir_layout_term x = f.digits.data[i].terms[t];
      TS_TRY(cut_at(&f, i, x.divisor, axis_unit[x.axis], l->axes[x.axis].name, d, loc, &again));
    }
    const ir_layout_digit *g = &f.digits.data[i];
    const char *name = l->dims[g->dim].name;
    bool inside = g->stride < dim_unit[g->dim];
    ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
    if (!inside && g->stride % dim_unit[g->dim])
      return no_quotient(d, loc, name, "has a stride that the instruction's size does not divide");
    for (uint32_t t = 0; t < g->count; t++) {
      int64_t unit = axis_unit[g->terms[t].axis];
      terms[t] = g->terms[t];
      if (inside != (g->terms[t].divisor < unit))
        return no_quotient(d, loc, name, "holds digits of the instruction's tile and of its repetition in the wrong places");
      if (inside) continue;
      if (g->terms[t].divisor % unit)
        return no_quotient(d, loc, l->axes[g->terms[t].axis].name, "has a digit that the instruction's size does not divide");
      terms[t].divisor /= unit;
    }
    if (inside) layout_draft_digit(&in, g->dim, g->stride, g->radix, terms, g->count);
    else layout_draft_digit(&q, g->dim, g->stride / dim_unit[g->dim], g->radix, terms, g->count);
  }
  const ir_layout *core, *wanted, *one;
  TS_TRY(layout_draft_make(&in, d, loc, &core));
  layout_draft unit = {.arena = a};   // inner with the spaces that only l has, of size 1
  for (uint32_t i = 0; i < l->dim_count; i++) ts_vec_push(a, &unit.dims, ((ir_layout_space){l->dims[i].name, 1}));
  for (uint32_t i = 0; i < l->axis_count; i++) ts_vec_push(a, &unit.axes, ((ir_layout_space){l->axes[i].name, 1}));
  TS_TRY(layout_draft_make(&unit, d, loc, &one));
  TS_TRY(ir_layout_product(a, inner, one, d, loc, &wanted));
  if (!ir_layout_equal(core, wanted)) return no_quotient(d, loc, "its innermost tile", "lies otherwise");
  return layout_draft_make(&q, d, loc, out);
}

// ---- slice and rename ---------------------------------------------------------------------------------------------------

ts_status ir_layout_slice(ts_arena *a, const ir_layout *l, const char *axis, ts_diags *d, ts_loc loc, const ir_layout **out) {
  int gone = ir_layout_axis(l, axis);
  if (gone < 0) return ts_report(d, loc, &diag_layout_name, "the layout has no axis %s", axis);
  const ir_layout_bits *b = l->bits;
  uint64_t keep = 0, used = 0;   // logical bits that stay; storage bits that they depend on
  for (uint32_t i = 0; i < b->logical_count; i++)
    if (b->logical[i].bit >= 0 && b->logical[i].space != (uint32_t)gone) keep |= (uint64_t)1 << b->logical[i].bit;
  for (unsigned s = 0; s < b->storage_bits; s++)
    if (b->to_logical[s] & keep) used |= (uint64_t)1 << s;
  if (__builtin_popcountll(used) != __builtin_popcountll(keep))
    return ts_report(d, loc, &diag_layout_slice, "xors tie axis %s to the others: it can't be removed", axis);
  // On the bits in `used` the map to the kept bits is a square matrix R; the digits need its inverse. Invert the layout
  // restricted to those bits: its digits are the kept logical bits with their sources.
  layout_draft f = {.arena = a}, back = {.arena = a};
  draft_spaces(&f, l->axes, l->axis_count, l->dims, l->dim_count);
  for (uint32_t i = 0; i < b->logical_count; i++) {
    const ir_layout_atom *x = &b->logical[i];
    if (x->space == (uint32_t)gone) continue;
    ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
    uint32_t n = sources(b, x, terms);
    if (n > IR_LAYOUT_MAX_TERMS) return ts_report(d, loc, &diag_layout_large, "an xor of %u digits", n);
    layout_draft_digit(&f, x->space, x->unit, x->radix, terms, n);
  }
  const ir_layout *restricted, *result;
  TS_TRY(layout_draft_make(&f, d, loc, &restricted));
  TS_TRY(ir_layout_invert(a, restricted, d, loc, &result));
  back = layout_draft_of(a, result);
  for (uint32_t i = 0; i < b->storage_count; i++) {   // what was freed holds replicas, as do the replicas of l
    const ir_layout_atom *x = &b->storage[i];
    bool taken = x->bit >= 0 ? used >> x->bit & 1 : x->mate >= 0 && b->logical[x->mate].space != (uint32_t)gone;
    if (!taken) layout_draft_digit(&back, x->space, x->unit, x->radix, NULL, 0);
  }
  memmove(&back.axes.data[gone], &back.axes.data[gone + 1], (back.axes.count - (size_t)gone - 1) * sizeof *back.axes.data);
  back.axes.count--;
  for (size_t i = 0; i < back.digits.count; i++)
    for (uint32_t t = 0; t < back.digits.data[i].count; t++) {
      ir_layout_term *x = (ir_layout_term *)&back.digits.data[i].terms[t];
      if (x->axis > (uint32_t)gone) x->axis--;
    }
  return layout_draft_make(&back, d, loc, out);
}

static ts_status rename_space(ts_arena *a, const ir_layout *l, bool axis, const char *from, const char *to, ts_diags *d,
                              ts_loc loc, const ir_layout **out) {
  int i = axis ? ir_layout_axis(l, from) : ir_layout_dim(l, from);
  if (i < 0) return ts_report(d, loc, &diag_layout_name, "the layout has no %s %s", axis ? "axis" : "dimension", from);
  layout_draft f = layout_draft_of(a, l);
  (axis ? f.axes.data : f.dims.data)[i].name = to;
  return layout_draft_make(&f, d, loc, out);
}

ts_status ir_layout_rename_axis(ts_arena *a, const ir_layout *l, const char *from, const char *to, ts_diags *d, ts_loc loc,
                                const ir_layout **out) {
  return rename_space(a, l, true, from, to, d, loc, out);
}

ts_status ir_layout_rename_dim(ts_arena *a, const ir_layout *l, const char *from, const char *to, ts_diags *d, ts_loc loc,
                               const ir_layout **out) {
  return rename_space(a, l, false, from, to, d, loc, out);
}

// ---- derived weight layouts ---------------------------------------------------------------------------------------------

// A layout of one dimension: the axes one after another, the last innermost.
static ts_status line_of(ts_arena *a, const char *dim, const ir_layout_step *steps, uint32_t count, bool last_is_innermost,
                         ts_diags *d, ts_loc loc, const ir_layout **out) {
  layout_draft f = {.arena = a};
  ts_vec_push(a, &f.dims, ((ir_layout_space){dim, 0}));
  int64_t stride = 1, seen[IR_LAYOUT_MAX_SPACES];
  for (uint32_t n = 0; n < count; n++) {
    const ir_layout_step *s = &steps[last_is_innermost ? count - 1 - n : n];
    int axis = layout_draft_axis(&f, s->axis);
    if (axis < 0 || s->count < 1)
      return ts_report(d, loc, &diag_layout_large, "axis %s is repeated %lld times", s->axis, (long long)s->count);
    ir_layout_space *x = &f.axes.data[axis];
    if (x->size == 0) seen[axis] = 1, x->size = 1;
    ir_layout_term t = {(uint32_t)axis, seen[axis]};
    layout_draft_digit(&f, 0, stride, s->count, &t, 1);
    if (!ts_mul_i64(stride, s->count, &stride) || !ts_mul_i64(seen[axis], s->count, &seen[axis]))
      return ts_report(d, loc, &diag_layout_large, "the size of axis %s overflows", s->axis);
    x->size = seen[axis];
  }
  return layout_draft_make(&f, d, loc, out);
}

ts_status ir_layout_weight(ts_arena *a, const ir_layout *fragment, const ir_layout_step *loads, uint32_t load_count,
                           const ir_layout *unpack, const ir_layout_step *tiles, uint32_t tile_count, ts_diags *d, ts_loc loc,
                           const ir_layout **out) {
  const ir_layout *steps, *whole, *outer, *block;
  TS_TRY(line_of(a, "reg", loads, load_count, false, d, loc, &steps));
  TS_TRY(ir_layout_product(a, fragment, steps, d, loc, &whole));
  int64_t codes = ir_layout_dim_size(whole, "reg");
  // Memory order of a block: the lanes one after another, each with its codes as `unpack` wants them.
  layout_draft f = {.arena = a};
  ts_vec_push(a, &f.dims, ((ir_layout_space){"pos", 0}));
  for (uint32_t i = 0; i < whole->dim_count; i++) ts_vec_push(a, &f.axes, whole->dims[i]);
  int reg = layout_draft_axis(&f, "reg");
  if (unpack && (ir_layout_positions(unpack) != codes || unpack->dim_count != 1 || unpack->axis_count != 1 ||
                 ir_layout_axis(unpack, "reg") != 0))
    return ts_report(d, loc, &diag_layout_divide,
                     "the unpacking is no permutation of the %lld codes of one load (dimension pos, axis reg)", (long long)codes);
  if (unpack) {
    for (uint32_t i = 0; i < unpack->digit_count; i++) {
      ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
      const ir_layout_digit *g = &unpack->digits[i];
      for (uint32_t t = 0; t < g->count; t++) terms[t] = (ir_layout_term){(uint32_t)reg, g->terms[t].divisor};
      layout_draft_digit(&f, 0, g->stride, g->radix, terms, g->count);
    }
  } else {
    layout_draft_digit(&f, 0, 1, codes, &(ir_layout_term){(uint32_t)reg, 1}, 1);
  }
  int64_t stride = codes;
  for (uint32_t i = 0; i < whole->dim_count; i++) {
    if (strcmp(whole->dims[i].name, "reg") == 0) continue;
    layout_draft_digit(&f, 0, stride, whole->dims[i].size, &(ir_layout_term){(uint32_t)i, 1}, 1);
    if (!ts_mul_i64(stride, whole->dims[i].size, &stride))
      return ts_report(d, loc, &diag_layout_large, "the block's size overflows");
  }
  const ir_layout *order;
  TS_TRY(layout_draft_make(&f, d, loc, &order));
  TS_TRY(ir_layout_compose(a, order, whole, d, loc, &block));
  TS_TRY(line_of(a, "pos", tiles, tile_count, true, d, loc, &outer));
  TS_TRY(ir_layout_product(a, block, outer, d, loc, out));
  return ir_layout_verify(*out, d, loc);
}
