// Encodings: verification, binding to a shape, and access to field elements (see encoding.h).
#include "ir/encoding.h"

#include "base/checked.h"

#include <stdlib.h>

static const char *const formula_texts[] = {
#define IR_FORMULA(id, text) text,
#include "ir/encodings.def"
#undef IR_FORMULA
};
static const char *const formula_names[] = {
#define IR_FORMULA(id, text) #id,
#include "ir/encodings.def"
#undef IR_FORMULA
};
const char *ir_formula_text(ir_formula f) { return formula_texts[f]; }
const char *ir_formula_name(ir_formula f) { return formula_names[f]; }

ir_formula ir_formula_of_text(ts_str text) {
  for (int f = 0; f < IR_FORMULA_COUNT; f++) {
    if (ts_str_is(text, formula_names[f])) return (ir_formula)f;
    const char *p = formula_texts[f];
    size_t i = 0;
    for (;;) {
      while (*p == ' ') p++;
      while (i < text.len && text.data[i] == ' ') i++;
      if (!*p || i == text.len || *p != text.data[i]) break;
      p++, i++;
    }
    if (!*p && i == text.len) return (ir_formula)f;
  }
  return IR_FORMULA_COUNT;
}

int ir_encoding_field(const ir_encoding *e, ir_role role, unsigned nth) {
  for (int f = 0; f < e->fields; f++)
    if (e->field[f].role == role && nth-- == 0) return f;
  return -1;
}

// ---- verification -------------------------------------------------------------------------------------------------------------

// Significant bits of any value of a field: what a product of tiers needs to stay exact.
static unsigned significant_bits(const ir_field *f) {
  if (f->table) {   // integers up to 2^24 count as their magnitude; anything else as a whole float
    unsigned most = 1;
    for (unsigned i = 0; i < 1u << f->bits; i++) {
      double v = f->table[i] < 0 ? -f->table[i] : f->table[i];
      if (v != (double)(uint32_t)v || v >= 1 << 24) return 24;
      while (v >= (double)(UINT64_C(1) << most)) most++;
    }
    return most;
  }
  switch (f->type) {
    case IR_f64: return 53;
    case IR_f32: return 24;
    case IR_f16: return 11;
    case IR_bf16: return 8;
    case IR_f8e4m3: return 4;
    case IR_f8e5m2: return 3;
    case IR_f4e2m1: return 2;
    case IR_e8m0: return 1;
    default: break;
  }
  unsigned bits = f->bits;
  while (bits < 31 && f->bias >> bits > 0) bits++;
  return bits;
}

static ts_status verify_piece(const ir_encoding *e, const ir_field *f, const ir_piece *p, uint8_t *record, uint64_t *held, ts_loc loc, ts_diags *d) {
  int64_t elements = (int64_t)e->record / f->per_k, last = p->count ? p->first + p->count : elements;
  if (p->bits == 0 || p->lo + p->bits > f->bits || last > elements || (p->first && !p->count))
    return ts_report(d, loc, &diag_bad_encoding, "%s: a piece of field %s holds bits or elements that it does not have", e->name, f->name);
  for (int i = 0; i < 4 && p->digit[i].radix; i++)
    if (p->digit[i].divisor < 1 || p->digit[i].radix < 1 || elements % (p->digit[i].divisor * p->digit[i].radix) != 0)
      return ts_report(d, loc, &diag_bad_encoding, "%s: a digit of field %s does not divide its %lld elements", e->name, f->name,
                       (long long)elements);
  for (int64_t j = p->first; j < last; j++) {
    int64_t at = p->at;
    for (int i = 0; i < 4 && p->digit[i].radix; i++) at += j / p->digit[i].divisor % p->digit[i].radix * p->digit[i].stride;
    if (at < 0 || at + p->bits > (int64_t)e->record_bytes * 8)
      return ts_report(d, loc, &diag_bad_encoding, "%s: element %lld of field %s leaves the record", e->name, (long long)j, f->name);
    for (int64_t b = at; b < at + p->bits; b++) {
      if (record[b / 8] >> (b % 8) & 1)
        return ts_report(d, loc, &diag_bad_encoding, "%s: element %lld of field %s overlaps another", e->name, (long long)j, f->name);
      record[b / 8] |= (uint8_t)(1u << (b % 8));
    }
    uint64_t mask = (p->bits == 64 ? ~UINT64_C(0) : (UINT64_C(1) << p->bits) - 1) << p->lo;
    held[j] |= mask;
  }
  return TS_OK;
}

static ts_status verify_record(const ir_encoding *e, ts_loc loc, ts_diags *d) {
  if (e->planes != 1 || e->record_bytes == 0 || e->record > 1 << 20 || e->record_bytes > 1 << 24)
    return ts_report(d, loc, &diag_bad_encoding, "%s: a record has 1 to 2^20 elements in 1 to 2^24 bytes and one plane", e->name);
  uint8_t *record = calloc(e->record_bytes, 1);
  uint64_t *held = calloc(e->record, sizeof *held);
  ts_status s = record && held ? TS_OK : TS_OUT_OF_MEMORY;
  for (int k = 0; s == TS_OK && k < e->fields; k++) {
    const ir_field *f = &e->field[k];
    if (f->per_n != 1 || f->per_k < 1 || e->record % f->per_k != 0 || f->pieces == 0 || f->pieces > IR_MAX_PIECES || f->layout_digits) {
      s = ts_report(d, loc, &diag_bad_encoding, "%s: field %s does not divide the record, or has no place in it", e->name, f->name);
      break;
    }
    memset(held, 0, e->record * sizeof *held);
    for (int i = 0; s == TS_OK && i < f->pieces; i++) s = verify_piece(e, f, &f->piece[i], record, held, loc, d);
    uint64_t all = f->bits == 64 ? ~UINT64_C(0) : (UINT64_C(1) << f->bits) - 1;
    for (int64_t j = 0; s == TS_OK && j < (int64_t)e->record / f->per_k; j++)
      if (held[j] != all) s = ts_report(d, loc, &diag_bad_encoding, "%s: element %lld of field %s lacks bits", e->name, (long long)j, f->name);
  }
  free(record);
  free(held);
  return s;
}

// The digits of each axis must form a chain: divisors 1, r1, r1 * r2, …, of which only the last radix may be 0.
static bool layout_is_complete(const ir_digit *list, unsigned count) {
  for (int axis = 0; axis < 2; axis++) {
    int64_t next = 1;
    unsigned used = 0, total = 0;
    for (unsigned i = 0; i < count; i++) total += list[i].axis == axis;
    for (; used < total; used++) {
      const ir_digit *found = NULL;
      for (unsigned i = 0; i < count; i++)
        if (list[i].axis == axis && list[i].divisor == next && (list[i].radix != 1 || total == 1)) found = &list[i];
      if (!found || (found->radix == 0) != (used + 1 == total) || found->radix < 0 || found->radix > 1 << 20 || next > INT64_C(1) << 40) return false;
      next *= found->radix;
    }
    if (!total) return false;
  }
  return true;
}

static ts_status verify_planes(const ir_encoding *e, ts_loc loc, ts_diags *d) {
  if (e->planes != e->fields || e->planes > IR_MAX_PLANES)
    return ts_report(d, loc, &diag_bad_encoding, "%s: every field needs a plane of its own, and there are at most %d", e->name, IR_MAX_PLANES);
  for (int k = 0; k < e->fields; k++) {
    const ir_field *f = &e->field[k];
    if (f->plane != k || f->pieces || f->per_n < 0 || f->per_k < 0 || f->layout_digits > IR_MAX_VIEW_DIGITS)
      return ts_report(d, loc, &diag_bad_encoding, "%s: field %s has no plane, or shares elements by a negative number", e->name, f->name);
    if (f->layout_digits && !layout_is_complete(f->layout, f->layout_digits))
      return ts_report(d, loc, &diag_bad_encoding,
                       "%s: the digits of field %s do not cover n and k exactly once (per axis: divisors 1, r1, r1 * r2, … and an open end)",
                       e->name, f->name);
  }
  return TS_OK;
}

static ts_status verify_roles(const ir_encoding *e, ts_loc loc, ts_diags *d) {
  unsigned count[4] = {0}, exact[4] = {0};
  for (int k = 0; k < e->fields; k++) {
    const ir_field *f = &e->field[k];
    unsigned width = ir_dtype_bits(f->type);
    if (f->role > IR_ROLE_MIN || f->bits == 0 || (ir_is_float(f->type) ? f->bits != width || f->bias : f->bits > width || !ir_is_int(f->type)))
      return ts_report(d, loc, &diag_bad_encoding, "%s: field %s: %u bits of %s", e->name, f->name, f->bits, ir_dtype_name(f->type));
    if (f->table && (f->role != IR_ROLE_CODE || f->bits > 8 || !ir_is_int(f->type) || f->bias))
      return ts_report(d, loc, &diag_bad_encoding, "%s: field %s: only integer codes of up to 8 bits have a codebook", e->name, f->name);
    if (f->role == IR_ROLE_CODE && e->formula != IR_FORMULA_PLAIN && f->bits > 16)
      return ts_report(d, loc, &diag_bad_encoding, "%s: codes of %u bits; a code has at most 16", e->name, f->bits);
    count[f->role]++;
    exact[f->role] += significant_bits(f);
  }
  bool plain = e->formula == IR_FORMULA_PLAIN, zero = e->formula == IR_FORMULA_ZERO;
  bool min = e->formula == IR_FORMULA_MIN || e->formula == IR_FORMULA_SUB;
  if (count[IR_ROLE_CODE] != 1 || e->field[0].role != IR_ROLE_CODE || e->field[0].per_n != 1 || e->field[0].per_k != 1)
    return ts_report(d, loc, &diag_bad_encoding, "%s: the first field is the codes, one for each element, and there is no other", e->name);
  if ((count[IR_ROLE_SCALE] == 0) != plain || (count[IR_ROLE_ZERO] == 1) != zero || count[IR_ROLE_ZERO] > 1 || (count[IR_ROLE_MIN] > 0) != min)
    return ts_report(d, loc, &diag_bad_encoding, "%s: the fields are not those of '%s'", e->name, ir_formula_text(e->formula));
  for (int k = 0; k < e->fields; k++)
    if (zero && e->field[k].role != IR_ROLE_SCALE && (!ir_is_int(e->field[k].type) || e->field[k].table || e->field[k].bits > 16))
      return ts_report(d, loc, &diag_bad_encoding, "%s: a zero before scaling and its codes are integers of at most 16 bits", e->name);
  if ((count[IR_ROLE_SCALE] > 1 && exact[IR_ROLE_SCALE] > 24) || (count[IR_ROLE_MIN] > 1 && exact[IR_ROLE_MIN] > 24))
    return ts_report(d, loc, &diag_bad_encoding, "%s: the product of the scale tiers is not exact in f32", e->name);
  return TS_OK;
}

ts_status ir_encoding_verify(const ir_encoding *e, ts_loc loc, ts_diags *d) {
  if (e->fields == 0 || e->fields > IR_MAX_FIELDS || e->formula >= IR_FORMULA_COUNT)
    return ts_report(d, loc, &diag_bad_encoding, "%s: 1 to %d fields and a formula are needed", e->name, IR_MAX_FIELDS);
  TS_TRY(verify_roles(e, loc, d));
  return e->record ? verify_record(e, loc, d) : verify_planes(e, loc, d);
}

static bool same_digits(const ir_digit *a, const ir_digit *b, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (a[i].axis != b[i].axis || a[i].divisor != b[i].divisor || a[i].radix != b[i].radix) return false;
  return true;
}

static bool same_piece(const ir_piece *a, const ir_piece *b) {
  if (a->first != b->first || a->count != b->count || a->lo != b->lo || a->bits != b->bits || a->at != b->at) return false;
  for (int i = 0; i < 4; i++) {
    if (a->digit[i].radix != b->digit[i].radix) return false;
    if (!a->digit[i].radix) break;
    if (a->digit[i].divisor != b->digit[i].divisor || a->digit[i].stride != b->digit[i].stride) return false;
  }
  return true;
}

bool ir_encoding_equal(const ir_encoding *a, const ir_encoding *b) {
  if (a == b) return true;
  if (a->formula != b->formula || a->value != b->value || a->record != b->record || a->record_bytes != b->record_bytes || a->tail != b->tail ||
      a->planes != b->planes || a->fields != b->fields)
    return false;
  for (int k = 0; k < a->fields; k++) {
    const ir_field *f = &a->field[k], *g = &b->field[k];
    if (f->role != g->role || f->type != g->type || f->bits != g->bits || f->bias != g->bias || f->per_n != g->per_n || f->per_k != g->per_k ||
        f->plane != g->plane || f->pieces != g->pieces || f->layout_digits != g->layout_digits || !f->table != !g->table)
      return false;
    if (f->table && memcmp(f->table, g->table, sizeof(double) << f->bits) != 0) return false;
    if (!same_digits(f->layout, g->layout, f->layout_digits)) return false;
    for (int i = 0; i < f->pieces; i++)
      if (!same_piece(&f->piece[i], &g->piece[i])) return false;
  }
  return true;
}

// ---- binding ------------------------------------------------------------------------------------------------------------------

// Smallest number of elements along k that every field's sharing divides into: what tails are padded to.
static int64_t group_of(const ir_encoding *e) {
  int64_t group = 1;
  for (int i = 0; i < e->fields; i++)
    if (e->field[i].per_k > group) group = e->field[i].per_k;
  return group;
}

static bool bind_record(const ir_encoding *e, ir_bound *b) {
  int64_t records = ts_ceil_div(b->k, e->record), row;
  if (!ts_mul_i64(records, e->record_bytes, &row) || !ts_mul_i64(row, b->rows, &b->plane_bytes[0])) return false;
  if (b->plane_bytes[0] > INT64_MAX / 8) return false;
  for (int i = 0; i < e->fields; i++) {
    const ir_field *f = &e->field[i];
    int64_t each = e->record / f->per_k;
    ir_view *v = &b->view[i];
    *v = (ir_view){b->rows, ts_ceil_div(b->k, f->per_k), 1, f->per_k, f->pieces, 0, {{0}}};
    for (int p = 0; p < f->pieces; p++) {
      const ir_piece *from = &f->piece[p];
      ir_view_piece *to = &v->piece[p];
      if (from->count && (from->first || from->count != each)) *to = (ir_view_piece){from->first, from->count, each};
      to->lo = from->lo, to->bits = from->bits, to->at = from->at;
      to->digit[to->digits++] = (ir_stride){0, 1, b->rows ? b->rows : 1, row * 8};
      to->digit[to->digits++] = (ir_stride){1, each, records ? records : 1, (int64_t)e->record_bytes * 8};
      for (int k = 0; k < 4 && from->digit[k].radix; k++) to->digit[to->digits++] = from->digit[k];
    }
  }
  return true;
}

static bool bind_plane(const ir_field *f, ir_view *v, int64_t *bytes) {
  ir_view_piece *p = &v->piece[0];
  p->bits = f->bits;
  int64_t bits = f->bits;
  if (!f->layout_digits) {
    int64_t row;
    if (!ts_mul_i64(v->cols, f->bits, &row) || row > INT64_MAX - 7) return false;
    row = (row + 7) / 8 * 8;
    if (!ts_mul_i64(row, v->rows, &bits)) return false;
    p->digits = 2;
    p->digit[0] = (ir_stride){0, 1, v->rows ? v->rows : 1, row};
    p->digit[1] = (ir_stride){1, 1, v->cols ? v->cols : 1, f->bits};
  } else {
    p->digits = f->layout_digits;
    for (int i = f->layout_digits - 1; i >= 0; i--) {
      ir_digit g = f->layout[i];
      int64_t size = g.axis ? v->cols : v->rows;
      int64_t radix = g.radix ? g.radix : ts_ceil_div(size, g.divisor);
      if (g.radix == 0 && radix < 1) radix = 1;
      p->digit[i] = (ir_stride){g.axis, g.divisor, radix, bits};
      if (!ts_mul_i64(bits, radix, &bits)) return false;
    }
    if (!v->rows || !v->cols) bits = 0;
  }
  *bytes = bits / 8 + (bits % 8 != 0);
  return true;
}

static bool bind_sizes(const ir_encoding *e, ir_bound *b) {
  if (e->record) {
    if (!bind_record(e, b)) return false;
  } else {
    for (int i = 0; i < e->fields; i++) {
      const ir_field *f = &e->field[i];
      ir_view *v = &b->view[i];
      int64_t per_n = f->per_n ? f->per_n : b->rows ? b->rows : 1, per_k = f->per_k ? f->per_k : b->stored_k ? b->stored_k : 1;
      *v = (ir_view){ts_ceil_div(b->rows, per_n), ts_ceil_div(b->stored_k, per_k), per_n, per_k, 1, (uint8_t)i, {{0}}};
      if (!bind_plane(f, v, &b->plane_bytes[i])) return false;
    }
  }
  for (int i = 0; i < e->planes; i++) {
    if (b->bytes > INT64_MAX / 16 - IR_PLANE_ALIGNMENT || b->plane_bytes[i] > INT64_MAX / 16) return false;
    b->plane_offset[i] = (b->bytes + IR_PLANE_ALIGNMENT - 1) / IR_PLANE_ALIGNMENT * IR_PLANE_ALIGNMENT;
    b->bytes = b->plane_offset[i] + b->plane_bytes[i];
  }
  return true;
}

// Rows and k of a shape; false when a size is negative or the product overflows.
static bool fold_shape(unsigned rank, const int64_t *shape, ir_bound *b) {
  b->rows = 1;
  b->k = rank ? shape[rank - 1] : 1;
  if (b->k < 0) return false;
  for (unsigned i = 0; i + 1 < rank; i++)
    if (shape[i] < 0 || !ts_mul_i64(b->rows, shape[i], &b->rows)) return false;
  return true;
}

static int64_t tail_group(const ir_encoding *e) { return e->record ? (int64_t)e->record : group_of(e); }

ts_status ir_encoding_bind(const ir_encoding *e, unsigned rank, const int64_t *shape, ts_loc loc, ts_diags *d, ir_bound *out) {
  *out = (ir_bound){.enc = e};
  if (rank > IR_MAX_RANK) return ts_report(d, loc, &diag_encoding_shape, "%u axes; a tensor has at most %d", rank, IR_MAX_RANK);
  if (!fold_shape(rank, shape, out)) return ts_report(d, loc, &diag_encoding_shape, "a size is negative or the number of elements overflows");
  int64_t group = tail_group(e);
  if (e->tail == IR_TAIL_REFUSE && out->k % group != 0)
    return ts_report(d, loc, &diag_encoding_tail, "rows of %lld elements do not divide into groups of %lld (%s)", (long long)out->k, (long long)group,
                     e->name);
  out->stored_k = out->k;
  if (e->tail == IR_TAIL_PAD && !e->record && !ts_mul_i64(ts_ceil_div(out->k, group), group, &out->stored_k))
    return ts_report(d, loc, &diag_encoding_shape, "rows of %lld elements overflow when padded", (long long)out->k);
  if (!bind_sizes(e, out))
    return ts_report(d, loc, &diag_encoding_shape, "[%lld, %lld] as %s has too many bytes", (long long)out->rows, (long long)out->k, e->name);
  return TS_OK;
}

bool ir_encoding_tensor_bytes(const ir_encoding *e, unsigned rank, const int64_t *shape, int64_t *bytes) {
  ir_bound b = {.enc = e};
  if (rank > IR_MAX_RANK || !fold_shape(rank, shape, &b)) return false;
  int64_t group = tail_group(e);
  if (e->tail == IR_TAIL_REFUSE && b.k % group != 0) return false;
  b.stored_k = b.k;
  if (e->tail == IR_TAIL_PAD && !e->record && !ts_mul_i64(ts_ceil_div(b.k, group), group, &b.stored_k)) return false;
  if (!bind_sizes(e, &b)) return false;
  *bytes = b.bytes;
  return true;
}

void ir_planes_of(const ir_bound *b, const void *base, const void *planes[IR_MAX_PLANES]) {
  for (int i = 0; i < IR_MAX_PLANES; i++) planes[i] = i < b->enc->planes ? (const char *)base + b->plane_offset[i] : NULL;
}

// ---- single elements ------------------------------------------------------------------------------------------------------------

static uint64_t load_bits(const uint8_t *p, int64_t at, unsigned bits) {
  uint64_t v = 0;
  for (unsigned got = 0; got < bits;) {
    unsigned skip = (unsigned)(at + got) & 7, n = 8 - skip < bits - got ? 8 - skip : bits - got;
    v |= (uint64_t)(p[(at + got) >> 3] >> skip & ((1u << n) - 1)) << got;
    got += n;
  }
  return v;
}

static void store_bits(uint8_t *p, int64_t at, unsigned bits, uint64_t v) {
  for (unsigned put = 0; put < bits;) {
    unsigned skip = (unsigned)(at + put) & 7, n = 8 - skip < bits - put ? 8 - skip : bits - put;
    uint8_t mask = (uint8_t)(((1u << n) - 1) << skip), *byte = &p[(at + put) >> 3];
    *byte = (uint8_t)((*byte & ~mask) | ((unsigned)(v >> put) << skip & mask));
    put += n;
  }
}

static bool piece_has(const ir_view_piece *p, int64_t j) {
  return !p->modulus || (j % p->modulus >= p->first && j % p->modulus < p->first + p->count);
}

static int64_t offset_of(const ir_view_piece *p, int axis, int64_t index) {
  int64_t at = 0;
  for (int i = 0; i < p->digits; i++)
    if (p->digit[i].axis == axis) at += index / p->digit[i].divisor % p->digit[i].radix * p->digit[i].stride;
  return at;
}

uint64_t ir_field_bits(const ir_bound *b, const void *const *planes, unsigned field, int64_t i, int64_t j) {
  const ir_view *v = &b->view[field];
  uint64_t bits = 0;
  for (int k = 0; k < v->pieces; k++) {
    const ir_view_piece *p = &v->piece[k];
    if (piece_has(p, j)) bits |= load_bits(planes[v->plane], p->at + offset_of(p, 0, i) + offset_of(p, 1, j), p->bits) << p->lo;
  }
  return bits;
}

void ir_field_set_bits(const ir_bound *b, void *const *planes, unsigned field, int64_t i, int64_t j, uint64_t bits) {
  const ir_view *v = &b->view[field];
  for (int k = 0; k < v->pieces; k++) {
    const ir_view_piece *p = &v->piece[k];
    if (piece_has(p, j)) store_bits(planes[v->plane], p->at + offset_of(p, 0, i) + offset_of(p, 1, j), p->bits, bits >> p->lo);
  }
}

int64_t ir_field_int(const ir_field *f, uint64_t bits) {
  if (f->bits >= 64) return (int64_t)bits;
  bits &= (UINT64_C(1) << f->bits) - 1;
  if (ir_is_signed(f->type) && bits >> (f->bits - 1)) return (int64_t)(bits | ~((UINT64_C(1) << f->bits) - 1));
  return (int64_t)bits;
}

double ir_field_value(const ir_field *f, uint64_t bits) {
  if (ir_is_float(f->type)) return ir_float_of_bits(f->type, bits);
  if (f->table) return f->table[bits & ((1u << f->bits) - 1)];
  if (f->type == IR_u64) return (double)bits;
  return (double)(ir_field_int(f, bits) - f->bias);
}

// ---- rows of elements -----------------------------------------------------------------------------------------------------------

void ir_cursor_init(ir_cursor *c, const ir_bound *b, unsigned field) {
  *c = (ir_cursor){b, field, {0}, {0}};
  const ir_view *v = &b->view[field];
  for (int k = 0; k < v->pieces; k++) {
    const ir_view_piece *p = &v->piece[k];
    // Offsets are `at` modulo the largest power of two that divides 8 and every stride; no element crosses a byte when even the
    // last such position of a byte leaves room.
    int64_t unit = 8;
    for (int i = 0; i < p->digits; i++)
      while (p->digit[i].radix > 1 && p->digit[i].stride % unit != 0) unit /= 2;
    c->within_byte[k] = p->at % unit + 8 - unit + p->bits <= 8;
    int64_t *columns = malloc((size_t)(v->cols ? v->cols : 1) * sizeof *columns);
    if (!columns) abort();
    for (int64_t j = 0; j < v->cols; j++) columns[j] = piece_has(p, j) ? p->at + offset_of(p, 1, j) : -1;
    c->columns[k] = columns;
  }
}

void ir_cursor_deinit(ir_cursor *c) {
  for (int k = 0; k < IR_MAX_PIECES; k++) free(c->columns[k]);
  *c = (ir_cursor){0};
}

void ir_cursor_read(const ir_cursor *c, const void *const *planes, int64_t i, uint64_t *out) {
  const ir_view *v = &c->bound->view[c->field];
  const uint8_t *plane = planes[v->plane];
  for (int k = 0; k < v->pieces; k++) {
    const ir_view_piece *p = &v->piece[k];
    const int64_t *columns = c->columns[k];
    int64_t row = offset_of(p, 0, i);
    unsigned lo = p->lo, bits = p->bits, mask = bits <= 8 ? (1u << bits) - 1 : 0;
    bool first = k == 0 && !p->modulus;   // assigns; later pieces add their bits
    if (k == 0 && !first) memset(out, 0, (size_t)v->cols * sizeof *out);
    if (first && c->within_byte[k]) {
      for (int64_t j = 0; j < v->cols; j++) {
        int64_t at = row + columns[j];
        out[j] = (uint64_t)(plane[at >> 3] >> (at & 7) & mask) << lo;
      }
    } else if (first) {
      for (int64_t j = 0; j < v->cols; j++) {
        int64_t at = row + columns[j];
        uint64_t w = 0;
        if (at & 7 || bits & 7) w = load_bits(plane, at, bits);
        else memcpy(&w, plane + (at >> 3), bits >> 3);
        out[j] = w << lo;
      }
    } else if (c->within_byte[k] && !p->modulus) {
      for (int64_t j = 0; j < v->cols; j++) {
        int64_t at = row + columns[j];
        out[j] |= (uint64_t)(plane[at >> 3] >> (at & 7) & mask) << lo;
      }
    } else {
      for (int64_t j = 0; j < v->cols; j++)
        if (columns[j] >= 0) out[j] |= load_bits(plane, row + columns[j], bits) << lo;
    }
  }
}

void ir_cursor_write(const ir_cursor *c, void *const *planes, int64_t i, const uint64_t *in) {
  const ir_view *v = &c->bound->view[c->field];
  uint8_t *plane = planes[v->plane];
  for (int k = 0; k < v->pieces; k++) {
    const ir_view_piece *p = &v->piece[k];
    const int64_t *columns = c->columns[k];
    int64_t row = offset_of(p, 0, i);
    unsigned lo = p->lo, bits = p->bits, mask = bits <= 8 ? (1u << bits) - 1 : 0;
    for (int64_t j = 0; j < v->cols; j++) {
      if (columns[j] < 0) continue;
      int64_t at = row + columns[j];
      if (c->within_byte[k]) plane[at >> 3] |= (uint8_t)((unsigned)(in[j] >> lo & mask) << (at & 7));
      else store_bits(plane, at, bits, in[j] >> lo);
    }
  }
}
