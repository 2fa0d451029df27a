// Layouts (see layout.h): making and proving them, applying them, equality.
//
// ir_layout_make() breaks every digit into atoms (bits, and one odd factor each), checks the strides and divisors, inverts the
// matrix between storage bits and logical bits, and then puts the atoms together again into digits that are as long as possible.
// The digits are the canonical form; the atoms and both matrices serve apply and find.
#include "ir/layout.h"

#include "base/checked.h"
#include "ir/layout_make.h"

#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "ir/layout_diag.def"
#undef TS_DIAG

// ---- drafts -------------------------------------------------------------------------------------------------------------

layout_draft layout_draft_of(ts_arena *a, const ir_layout *l) {
  layout_draft f = {.arena = a};
  for (uint32_t i = 0; i < l->dim_count; i++) ts_vec_push(a, &f.dims, l->dims[i]);
  for (uint32_t i = 0; i < l->axis_count; i++) ts_vec_push(a, &f.axes, l->axes[i]);
  for (uint32_t i = 0; i < l->digit_count; i++) ts_vec_push(a, &f.digits, l->digits[i]);
  return f;
}

int layout_draft_dim(layout_draft *f, const char *name) {
  for (size_t i = 0; i < f->dims.count; i++)
    if (strcmp(f->dims.data[i].name, name) == 0) return (int)i;
  if (f->dims.count == IR_LAYOUT_MAX_SPACES) return -1;
  ts_vec_push(f->arena, &f->dims, ((ir_layout_space){name, 0}));
  return (int)f->dims.count - 1;
}

int layout_draft_axis(layout_draft *f, const char *name) {
  for (size_t i = 0; i < f->axes.count; i++)
    if (strcmp(f->axes.data[i].name, name) == 0) return (int)i;
  if (f->axes.count == IR_LAYOUT_MAX_SPACES) return -1;
  ts_vec_push(f->arena, &f->axes, ((ir_layout_space){name, 0}));
  return (int)f->axes.count - 1;
}

void layout_draft_digit(layout_draft *f, uint32_t dim, int64_t stride, int64_t radix, const ir_layout_term *terms,
                        uint32_t count) {
  ir_layout_digit digit = {dim, stride, radix, count, NULL};
  if (count) digit.terms = ts_arena_copy(f->arena, terms, count * sizeof *terms, _Alignof(ir_layout_term));
  ts_vec_push(f->arena, &f->digits, digit);
}

ts_status layout_draft_make(layout_draft *f, ts_diags *d, ts_loc loc, const ir_layout **out) {
  return ir_layout_make(f->arena, f->dims.data, (uint32_t)f->dims.count, f->axes.data, (uint32_t)f->axes.count, f->digits.data,
                        (uint32_t)f->digits.count, d, loc, out);
}

ts_status layout_digit_cut(ts_arena *a, ir_layout_digit *digit, int64_t low, ts_diags *d, ts_loc loc, ir_layout_digit *out_high) {
  if (low <= 1 || low >= digit->radix || digit->radix % low)
    return ts_report(d, loc, &diag_layout_refine, "a digit of radix %lld can't be cut at %lld", (long long)digit->radix,
                     (long long)low);
  *out_high = *digit;
  digit->radix = low;
  out_high->radix /= low;
  out_high->stride *= low;
  ir_layout_term *t = ts_new_array(a, ir_layout_term, digit->count);
  for (uint32_t i = 0; i < digit->count; i++) t[i] = (ir_layout_term){digit->terms[i].axis, digit->terms[i].divisor * low};
  out_high->terms = t;
  return TS_OK;
}

// ---- atoms --------------------------------------------------------------------------------------------------------------

// A storage atom while it is checked: a digit of radix 2 or odd, and its row of the matrix.
typedef struct row {
  ir_layout_digit digit;
  uint64_t logical;   // bits whose xor it is
} row;

typedef struct maker {
  ts_arena *arena;
  const ir_layout_space *dims, *axes;
  uint32_t dim_count, axis_count;
  ts_diags *d;
  ts_loc loc;
  TS_VEC(row) rows;
  TS_VEC(ir_layout_atom) logical;
  unsigned logical_bits;
} maker;

static int compare_rows(const void *x, const void *y) {
  const ir_layout_digit *a = &((const row *)x)->digit, *b = &((const row *)y)->digit;
  if (a->dim != b->dim) return a->dim < b->dim ? -1 : 1;
  return (a->stride > b->stride) - (a->stride < b->stride);
}

static int compare_atoms(const void *x, const void *y) {
  const ir_layout_atom *a = x, *b = y;
  if (a->space != b->space) return a->space < b->space ? -1 : 1;
  return (a->unit > b->unit) - (a->unit < b->unit);
}

static int compare_terms(const void *x, const void *y) {
  const ir_layout_term *a = x, *b = y;
  if (a->axis != b->axis) return a->axis < b->axis ? -1 : 1;
  return (a->divisor > b->divisor) - (a->divisor < b->divisor);
}

static bool in_range(int64_t unit, int64_t radix) {
  int64_t product;
  return unit >= 1 && radix >= 1 && ts_mul_i64(unit, radix, &product) && product <= IR_LAYOUT_MAX_SIZE;
}

static ts_status add_row(maker *m, const ir_layout_digit *g, int64_t at, int64_t radix) {
  ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
  row r = {{g->dim, g->stride * at, radix, g->count, NULL}, 0};
  for (uint32_t i = 0; i < g->count; i++) terms[i] = (ir_layout_term){g->terms[i].axis, g->terms[i].divisor * at};
  qsort(terms, g->count, sizeof *terms, compare_terms);
  for (uint32_t i = 1; i < g->count; i++)
    if (compare_terms(&terms[i - 1], &terms[i]) == 0)
      return ts_report(m->d, m->loc, &diag_layout_xor, "an xor names a digit of axis %s twice", m->axes[terms[i].axis].name);
  r.digit.terms = ts_arena_copy(m->arena, terms, g->count * sizeof *terms, _Alignof(ir_layout_term));
  if (m->rows.count == IR_LAYOUT_MAX_ATOMS)
    return ts_report(m->d, m->loc, &diag_layout_large, "a layout has at most %d bits and odd factors", IR_LAYOUT_MAX_ATOMS);
  ts_vec_push(m->arena, &m->rows, r);
  return TS_OK;
}

static ts_status break_up(maker *m, const ir_layout_digit *g) {
  if (g->dim >= m->dim_count || !in_range(g->stride, g->radix) || g->count > IR_LAYOUT_MAX_TERMS)
    return ts_report(m->d, m->loc, &diag_layout_large, "a digit's stride, radix or number of terms is out of range");
  for (uint32_t i = 0; i < g->count; i++)
    if (g->terms[i].axis >= m->axis_count || !in_range(g->terms[i].divisor, g->radix))
      return ts_report(m->d, m->loc, &diag_layout_large, "a digit's divisor is out of range");
  if (g->count > 1 && !ts_is_pow2((uint64_t)g->radix))
    return ts_report(m->d, m->loc, &diag_layout_xor, "an xor needs digits of radix 2, 4, 8 ...; this one has radix %lld",
                     (long long)g->radix);
  int64_t at = 1;
  for (; g->radix / at % 2 == 0; at *= 2) TS_TRY(add_row(m, g, at, 2));
  return g->radix / at > 1 ? add_row(m, g, at, g->radix / at) : TS_OK;
}

static ir_layout_atom *logical_atom(maker *m, uint32_t axis, int64_t unit) {
  for (size_t i = 0; i < m->logical.count; i++)
    if (m->logical.data[i].space == axis && m->logical.data[i].unit == unit) return &m->logical.data[i];
  return NULL;
}

static ts_status collect_logical(maker *m) {
  for (size_t i = 0; i < m->rows.count; i++) {
    const ir_layout_digit *g = &m->rows.data[i].digit;
    for (uint32_t t = 0; t < g->count; t++) {
      const ir_layout_atom *old = logical_atom(m, g->terms[t].axis, g->terms[t].divisor);
      if (old && old->radix == 2 && g->radix == 2) continue;
      if (old)
        return ts_report(m->d, m->loc, &diag_layout_twice, "two digits take (%s/%lld)%%%lld", m->axes[old->space].name,
                         (long long)old->unit, (long long)(old->radix < g->radix ? old->radix : g->radix));
      if (m->logical.count == IR_LAYOUT_MAX_ATOMS)
        return ts_report(m->d, m->loc, &diag_layout_large, "a layout has at most %d bits and odd factors", IR_LAYOUT_MAX_ATOMS);
      ir_layout_atom atom = {g->terms[t].axis, g->terms[t].divisor, g->radix, -1, -1};
      ts_vec_push(m->arena, &m->logical, atom);
    }
  }
  if (m->logical.count) qsort(m->logical.data, m->logical.count, sizeof *m->logical.data, compare_atoms);
  int64_t reach = 0;
  for (size_t i = 0; i < m->logical.count; i++) {
    ir_layout_atom *x = &m->logical.data[i];
    if (i == 0 || x[-1].space != x->space) reach = 0;
    if (x->unit <= reach)
      return ts_report(m->d, m->loc, &diag_layout_twice,
                       "the digit (%s/%lld)%%%lld overlaps the digits below it, which reach %lld", m->axes[x->space].name,
                       (long long)x->unit, (long long)x->radix, (long long)reach);
    reach += x->unit * (x->radix - 1);
    if (x->radix == 2) x->bit = (int)m->logical_bits++;
  }
  return m->logical_bits <= IR_LAYOUT_MAX_BITS
             ? TS_OK
             : ts_report(m->d, m->loc, &diag_layout_large, "more than %d logical bits", IR_LAYOUT_MAX_BITS);
}

static ts_status check_storage(maker *m) {
  if (m->rows.count) qsort(m->rows.data, m->rows.count, sizeof *m->rows.data, compare_rows);
  int64_t reach = 0;
  for (size_t i = 0; i < m->rows.count; i++) {
    const ir_layout_digit *g = &m->rows.data[i].digit;
    if (i == 0 || m->rows.data[i - 1].digit.dim != g->dim) reach = 0;
    if (g->stride <= reach)
      return ts_report(m->d, m->loc, &diag_layout_overlap,
                       "dimension %s: a digit with stride %lld collides with digits below it, which reach %lld",
                       m->dims[g->dim].name, (long long)g->stride, (long long)reach);
    reach += g->stride * (g->radix - 1);
  }
  return TS_OK;
}

// Fills the atoms and inverts the matrix by elimination; refuses a layout whose matrix has no inverse.
static ts_status make_bits(maker *m, ir_layout_bits **out) {
  ir_layout_bits *b = ts_new(m->arena, ir_layout_bits);
  b->storage_count = (uint32_t)m->rows.count;
  b->logical_count = (uint32_t)m->logical.count;
  b->storage = ts_new_array(m->arena, ir_layout_atom, m->rows.count);
  b->logical = m->logical.data;
  b->logical_bits = m->logical_bits;
  struct { uint64_t left, right; } matrix[IR_LAYOUT_MAX_BITS];   // logical bits of a row, storage bits it was made from
  unsigned rows = 0;
  for (size_t i = 0; i < m->rows.count; i++) {
    row *r = &m->rows.data[i];
    ir_layout_atom *s = &b->storage[i];
    *s = (ir_layout_atom){r->digit.dim, r->digit.stride, r->digit.radix, -1, -1};
    for (uint32_t t = 0; t < r->digit.count; t++) {
      ir_layout_atom *x = logical_atom(m, r->digit.terms[t].axis, r->digit.terms[t].divisor);
      if (x->bit >= 0) r->logical |= (uint64_t)1 << x->bit;
      else s->mate = (int)(x - m->logical.data), x->mate = (int)i;
    }
    if (s->radix != 2) continue;
    if (b->storage_bits == IR_LAYOUT_MAX_BITS)
      return ts_report(m->d, m->loc, &diag_layout_large, "more than %d storage bits", IR_LAYOUT_MAX_BITS);
    s->bit = (int)b->storage_bits++;
    for (unsigned l = 0; l < b->logical_bits; l++)
      if (r->logical >> l & 1) b->to_storage[l] |= (uint64_t)1 << s->bit;
    if (r->logical) {
      if (rows == m->logical_bits) return ts_report(m->d, m->loc, &diag_layout_twice, "two digits take the same bits of an axis");
      matrix[rows].left = r->logical;
      matrix[rows++].right = (uint64_t)1 << s->bit;
    }
  }
  for (unsigned l = 0; l < b->logical_bits; l++) {
    unsigned pivot = l;
    while (pivot < rows && !(matrix[pivot].left >> l & 1)) pivot++;
    if (pivot >= rows)
      return ts_report(m->d, m->loc, &diag_layout_singular,
                       "the xors depend on each other: two logical indices would share one position");
    uint64_t left = matrix[pivot].left, right = matrix[pivot].right;
    matrix[pivot] = matrix[l];
    matrix[l].left = left, matrix[l].right = right;
    for (unsigned i = 0; i < rows; i++)
      if (i != l && matrix[i].left >> l & 1) matrix[i].left ^= left, matrix[i].right ^= right;
  }
  for (unsigned l = 0; l < b->logical_bits; l++)   // row l now says which storage bits make logical bit l
    for (unsigned s = 0; s < b->storage_bits; s++)
      if (matrix[l].right >> s & 1) b->to_logical[s] |= (uint64_t)1 << l;
  *out = b;
  return TS_OK;
}

// ---- canonical digits ---------------------------------------------------------------------------------------------------

// May the atom `high` be put on top of the digit `low`? A joined digit is broken up with its bits first, so a bit may come above
// an odd factor only when no xor names it (`tied`): such a bit must keep its divisor.
static bool may_join(const ir_layout_digit *low, const ir_layout_digit *high, bool tied) {
  if (low->dim != high->dim || low->count != high->count || high->stride != low->stride * low->radix) return false;
  for (uint32_t t = 0; t < low->count; t++)
    if (low->terms[t].axis != high->terms[t].axis || high->terms[t].divisor != low->terms[t].divisor * low->radix) return false;
  if (low->count > 1) return high->radix == 2;
  return ts_is_pow2((uint64_t)low->radix) || !tied;
}

static void join_rows(maker *m, ir_layout *l) {
  uint64_t tied = 0;
  for (size_t i = 0; i < m->rows.count; i++)
    if (m->rows.data[i].digit.count > 1) tied |= m->rows.data[i].logical;
  ir_layout_digit *digits = ts_new_array(m->arena, ir_layout_digit, m->rows.count);
  uint32_t n = 0;
  for (size_t i = 0; i < m->rows.count; i++) {
    const ir_layout_digit *g = &m->rows.data[i].digit;
    if (n && may_join(&digits[n - 1], g, m->rows.data[i].logical & tied)) digits[n - 1].radix *= g->radix;
    else digits[n++] = *g;
  }
  l->digits = digits;
  l->digit_count = n;
}

static ts_status copy_spaces(maker *m, const ir_layout_space *from, uint32_t count, const char *what,
                             const ir_layout_space **out) {
  if (count > IR_LAYOUT_MAX_SPACES)
    return ts_report(m->d, m->loc, &diag_layout_large, "a layout has at most %d %s", IR_LAYOUT_MAX_SPACES, what);
  ir_layout_space *s = ts_new_array(m->arena, ir_layout_space, count);
  for (uint32_t i = 0; i < count; i++) {
    if (from[i].size < 0 || from[i].size > IR_LAYOUT_MAX_SIZE)
      return ts_report(m->d, m->loc, &diag_layout_large, "%s has size %lld", from[i].name, (long long)from[i].size);
    for (uint32_t j = 0; j < i; j++)
      if (strcmp(from[i].name, from[j].name) == 0)
        return ts_report(m->d, m->loc, &diag_layout_syntax, "the name %s occurs twice among the %s", from[i].name, what);
    s[i] = (ir_layout_space){ts_arena_strdup(m->arena, from[i].name), from[i].size};
  }
  *out = s;
  return TS_OK;
}

// Sizes that were left open: as far as the digits go, whole runs of the highest digit included.
static void default_sizes(ir_layout *l) {
  ir_layout_space *dims = (ir_layout_space *)l->dims, *axes = (ir_layout_space *)l->axes;
  int64_t dim_reach[IR_LAYOUT_MAX_SPACES], axis_reach[IR_LAYOUT_MAX_SPACES];
  for (int i = 0; i < IR_LAYOUT_MAX_SPACES; i++) dim_reach[i] = axis_reach[i] = 1;
  for (uint32_t i = 0; i < l->digit_count; i++) {
    const ir_layout_digit *g = &l->digits[i];
    if (g->stride * g->radix > dim_reach[g->dim]) dim_reach[g->dim] = g->stride * g->radix;
    for (uint32_t t = 0; t < g->count; t++)
      if (g->terms[t].divisor * g->radix > axis_reach[g->terms[t].axis])
        axis_reach[g->terms[t].axis] = g->terms[t].divisor * g->radix;
  }
  for (uint32_t i = 0; i < l->dim_count; i++)
    if (dims[i].size == 0) dims[i].size = dim_reach[i];
  for (uint32_t i = 0; i < l->axis_count; i++)
    if (axes[i].size == 0) axes[i].size = axis_reach[i];
}

ts_status ir_layout_make(ts_arena *a, const ir_layout_space *dims, uint32_t dim_count, const ir_layout_space *axes,
                         uint32_t axis_count, const ir_layout_digit *digits, uint32_t digit_count, ts_diags *d, ts_loc loc,
                         const ir_layout **out) {
  maker m = {.arena = a, .dims = dims, .axes = axes, .dim_count = dim_count, .axis_count = axis_count, .d = d, .loc = loc};
  ir_layout *l = ts_new(a, ir_layout);
  l->dim_count = dim_count;
  l->axis_count = axis_count;
  TS_TRY(copy_spaces(&m, dims, dim_count, "dimensions", &l->dims));
  TS_TRY(copy_spaces(&m, axes, axis_count, "axes", &l->axes));
  for (uint32_t i = 0; i < digit_count; i++) TS_TRY(break_up(&m, &digits[i]));
  TS_TRY(check_storage(&m));
  TS_TRY(collect_logical(&m));
  ir_layout_bits *bits = NULL;
  TS_TRY(make_bits(&m, &bits));
  join_rows(&m, l);
  // Joining may turn odd factors below bits around (3 then 2 becomes 6, which is broken up as 2 then 3): the atoms follow the
  // digits.
  bool settled = true;
  for (uint32_t i = 0; i < l->digit_count && settled; i++) {
    int64_t odd = l->digits[i].radix >> __builtin_ctzll((uint64_t)l->digits[i].radix),
            top = l->digits[i].stride * (l->digits[i].radix / odd);
    for (uint32_t s = 0; s < bits->storage_count && odd > 1; s++) {
      const ir_layout_atom *x = &bits->storage[s];
      if (x->space == l->digits[i].dim && x->unit >= l->digits[i].stride && x->unit < l->digits[i].stride * l->digits[i].radix &&
          x->radix != 2)
        settled = settled && x->unit == top && x->radix == odd;
    }
  }
  if (!settled)
    return ir_layout_make(a, dims, dim_count, axes, axis_count, l->digits, l->digit_count, d, loc, out);
  default_sizes(l);
  l->bits = bits;
  *out = l;
  return TS_OK;
}

// ---- use ----------------------------------------------------------------------------------------------------------------

static int find_space(const ir_layout_space *s, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++)
    if (strcmp(s[i].name, name) == 0) return (int)i;
  return -1;
}

int ir_layout_dim(const ir_layout *l, const char *name) { return find_space(l->dims, l->dim_count, name); }
int ir_layout_axis(const ir_layout *l, const char *name) { return find_space(l->axes, l->axis_count, name); }

int64_t ir_layout_dim_size(const ir_layout *l, const char *name) {
  int i = ir_layout_dim(l, name);
  return i < 0 ? 1 : l->dims[i].size;
}

int64_t ir_layout_axis_size(const ir_layout *l, const char *name) {
  int i = ir_layout_axis(l, name);
  return i < 0 ? 1 : l->axes[i].size;
}

int64_t ir_layout_positions(const ir_layout *l) {
  int64_t n = 1;
  for (uint32_t i = 0; i < l->dim_count; i++)
    if (!ts_mul_i64(n, l->dims[i].size, &n)) return INT64_MAX;
  return n;
}

int64_t ir_layout_replicas(const ir_layout *l) {
  int64_t n = 1;
  for (uint32_t i = 0; i < l->digit_count; i++)
    if (l->digits[i].count == 0 && !ts_mul_i64(n, l->digits[i].radix, &n)) return INT64_MAX;
  return n;
}

ts_status ir_layout_verify(const ir_layout *l, ts_diags *d, ts_loc loc) {
  const ir_layout_bits *b = l->bits;
  for (uint32_t x = 0, i = 0; x < l->axis_count; x++) {
    int64_t covered = 1;
    while (i < b->logical_count && b->logical[i].space < x) i++;
    for (; i < b->logical_count && b->logical[i].space == x && covered < l->axes[x].size && b->logical[i].unit == covered; i++)
      covered *= b->logical[i].radix;
    if (covered < l->axes[x].size)
      return ts_report(d, loc, &diag_layout_gap, "axis %s has %lld indices; the digits give no place to index %lld",
                       l->axes[x].name, (long long)l->axes[x].size, (long long)covered);
  }
  // A dimension that ends inside its digits cuts off positions, and with them indices.
  for (uint32_t x = 0; x < l->dim_count; x++) {
    int64_t reach = 0;
    for (uint32_t i = 0; i < b->storage_count; i++)
      if (b->storage[i].space == x) reach += b->storage[i].unit * (b->storage[i].radix - 1);
    if (reach < l->dims[x].size) continue;
    int64_t at[IR_LAYOUT_MAX_SPACES], index[IR_LAYOUT_MAX_SPACES];
    int64_t total = 1;   // with cut dimensions only counting decides
    for (uint32_t i = 0; i < l->axis_count; i++)
      if (!ts_mul_i64(total, l->axes[i].size, &total)) total = INT64_MAX;
    if (total > 1 << 22) return ts_report(d, loc, &diag_layout_gap, "dimension %s ends inside a digit", l->dims[x].name);
    for (int64_t p = 0; p < total; p++) {
      int64_t rest = p;
      for (uint32_t i = l->axis_count; i-- > 0; rest /= l->axes[i].size) index[i] = rest % l->axes[i].size;
      if (!ir_layout_find(l, index, at))
        return ts_report(d, loc, &diag_layout_gap, "dimension %s ends inside a digit, which leaves indices without a place",
                         l->dims[x].name);
    }
    return TS_OK;
  }
  return TS_OK;
}

// Reads the coordinates of one side into bits and odd digits; false in a hole.
static bool take_apart(const ir_layout_space *spaces, uint32_t space_count, const ir_layout_atom *atoms, uint32_t count,
                       const int64_t *at, uint64_t *bits, int64_t *odd) {
  *bits = 0;
  uint32_t i = count;
  for (uint32_t s = space_count; s-- > 0;) {
    int64_t rest = at[s];
    if (rest < 0 || rest >= spaces[s].size) return false;
    for (; i > 0 && atoms[i - 1].space == s; i--) {
      const ir_layout_atom *x = &atoms[i - 1];
      if (x->bit >= 0) {
        if (rest >= x->unit) rest -= x->unit, *bits |= (uint64_t)1 << x->bit;
      } else {
        odd[i - 1] = rest / x->unit;
        if (odd[i - 1] >= x->radix) return false;
        rest -= odd[i - 1] * x->unit;
      }
    }
    if (rest) return false;
  }
  return true;
}

static uint64_t multiply(const uint64_t *columns, uint64_t v) {
  uint64_t r = 0;
  for (; v; v &= v - 1) r ^= columns[__builtin_ctzll(v)];
  return r;
}

bool ir_layout_apply(const ir_layout *l, const int64_t *at, int64_t *index) {
  const ir_layout_bits *b = l->bits;
  uint64_t bits;
  int64_t odd[IR_LAYOUT_MAX_ATOMS];
  if (!take_apart(l->dims, l->dim_count, b->storage, b->storage_count, at, &bits, odd)) return false;
  bits = multiply(b->to_logical, bits);
  for (uint32_t i = 0; i < l->axis_count; i++) index[i] = 0;
  for (uint32_t i = 0; i < b->logical_count; i++) {
    const ir_layout_atom *x = &b->logical[i];
    index[x->space] += x->bit >= 0 ? (int64_t)(bits >> x->bit & 1) * x->unit : odd[x->mate] * x->unit;
  }
  for (uint32_t i = 0; i < l->axis_count; i++)
    if (index[i] >= l->axes[i].size) return false;
  return true;
}

bool ir_layout_find_replica(const ir_layout *l, const int64_t *index, int64_t replica, int64_t *at) {
  const ir_layout_bits *b = l->bits;
  uint64_t bits;
  int64_t odd[IR_LAYOUT_MAX_ATOMS];
  if (!take_apart(l->axes, l->axis_count, b->logical, b->logical_count, index, &bits, odd)) return false;
  bits = multiply(b->to_storage, bits);
  for (uint32_t i = 0; i < l->dim_count; i++) at[i] = 0;
  for (uint32_t i = 0; i < b->storage_count; i++) {
    const ir_layout_atom *x = &b->storage[i];
    if (x->bit >= 0) at[x->space] += (int64_t)(bits >> x->bit & 1) * x->unit;
    else if (x->mate >= 0) at[x->space] += odd[x->mate] * x->unit;
  }
  for (uint32_t i = 0; replica && i < l->digit_count; i++) {
    const ir_layout_digit *g = &l->digits[i];
    if (g->count) continue;
    at[g->dim] += replica % g->radix * g->stride;
    replica /= g->radix;
  }
  for (uint32_t i = 0; i < l->dim_count; i++)
    if (at[i] >= l->dims[i].size) return false;
  return replica == 0;
}

bool ir_layout_find(const ir_layout *l, const int64_t *index, int64_t *at) { return ir_layout_find_replica(l, index, 0, at); }

// Is digit g of l among the digits of m, whose spaces are numbered by `dim_of` and `axis_of`?
static bool has_digit(const ir_layout *m, const ir_layout_digit *g, const int *dim_of, const int *axis_of) {
  for (uint32_t i = 0; i < m->digit_count; i++) {
    const ir_layout_digit *h = &m->digits[i];
    if (h->dim != (uint32_t)dim_of[g->dim] || h->stride != g->stride) continue;
    if (h->radix != g->radix || h->count != g->count) return false;
    for (uint32_t t = 0; t < g->count; t++) {
      uint32_t u = 0;
      while (u < h->count &&
             (h->terms[u].axis != (uint32_t)axis_of[g->terms[t].axis] || h->terms[u].divisor != g->terms[t].divisor))
        u++;
      if (u == h->count) return false;
    }
    return true;
  }
  return false;
}

bool ir_layout_equal(const ir_layout *a, const ir_layout *b) {
  if (a == b) return true;
  if (a->dim_count != b->dim_count || a->axis_count != b->axis_count || a->digit_count != b->digit_count) return false;
  int dim_of[IR_LAYOUT_MAX_SPACES], axis_of[IR_LAYOUT_MAX_SPACES];
  for (uint32_t i = 0; i < a->dim_count; i++)
    if ((dim_of[i] = ir_layout_dim(b, a->dims[i].name)) < 0 || b->dims[dim_of[i]].size != a->dims[i].size) return false;
  for (uint32_t i = 0; i < a->axis_count; i++)
    if ((axis_of[i] = ir_layout_axis(b, a->axes[i].name)) < 0 || b->axes[axis_of[i]].size != a->axes[i].size) return false;
  for (uint32_t i = 0; i < a->digit_count; i++)
    if (!has_digit(b, &a->digits[i], dim_of, axis_of)) return false;
  return true;
}
