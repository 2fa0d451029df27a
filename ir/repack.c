// Repacking: the elements of one part of an encoding at other places (see weights.h).
//
// Source and target offsets are both sums of a row part and a column part, so the inner loop adds two numbers, looks the element up
// in a table of converted codes and ors it into place.
#include "ir/weights_priv.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

// ---- domain and digits ------------------------------------------------------------------------------------------------------------

static unsigned element_bits(const ir_repack *r) { return r->bits ? r->bits : ir_dtype_bits(r->as); }

static int64_t common_rows(const ir_weight *w) {   // rows that share every field but the codes
  int64_t common = 0;
  for (int f = 1; f < w->encoding->fields; f++) {
    int64_t x = common, y = w->bound.view[f].per_n;
    while (y) {
      int64_t t = x % y;
      x = y, y = t;
    }
    common = x;
  }
  return common ? common : 1;
}

void ir_repack_domain(const ir_weight *w, const ir_repack *r, int64_t *rows, int64_t *cols) {
  *rows = w->bound.rows;
  *cols = w->bound.k;
  if (r->what == IR_WHAT_FIELD && r->field > 0) {
    *rows = w->bound.view[r->field].rows;
    *cols = w->bound.view[r->field].cols;
  } else if (r->what == IR_WHAT_SCALE || r->what == IR_WHAT_OFFSET) {
    *rows = ts_ceil_div(w->bound.rows, common_rows(w));
    *cols = ts_ceil_div(w->bound.k, ir_bound_group(&w->bound));
  }
}

ts_status ir_repack_pack(const ir_weight *w, ir_repack *r, const ir_digit *list, unsigned count, ts_loc loc, ts_diags *d) {
  int64_t size[2], stride = element_bits(r);
  ir_repack_domain(w, r, &size[0], &size[1]);
  if (count > sizeof r->digit / sizeof *r->digit)
    return ts_report(d, loc, &diag_repack_layout, "%u digits; a layout has at most %zu", count, sizeof r->digit / sizeof *r->digit);
  r->digits = count;
  r->base = 0;
  for (unsigned i = count; i-- > 0;) {
    if (list[i].axis > 1 || list[i].divisor < 1 || list[i].radix < 0) return ts_report(d, loc, &diag_repack_layout, "digit %u is malformed", i);
    int64_t radix = list[i].radix ? list[i].radix : ts_ceil_div(size[list[i].axis], list[i].divisor);
    if (radix < 1) radix = 1;
    r->digit[i] = (ir_stride){list[i].axis, list[i].divisor, radix, stride};
    if (!ts_mul_i64(stride, radix, &stride)) return ts_report(d, loc, &diag_repack_layout, "the layout's size overflows");
  }
  r->bytes = stride / 8 + (stride % 8 != 0);
  return ir_repack_check(w, r, loc, d);
}

// Digits of one axis: divisors 1, r1, r1 * r2, … up to at least `size`.
static bool covers(const ir_repack *r, int axis, int64_t size) {
  int64_t next = 1;
  for (bool more = true; more;) {
    more = false;
    for (unsigned i = 0; i < r->digits; i++) {
      const ir_stride *g = &r->digit[i];
      if (g->axis != axis || g->divisor != next || g->radix < 2) continue;
      more = ts_mul_i64(next, g->radix, &next);
      break;
    }
  }
  if (next < size) return false;
  int64_t reached = 1;   // no digit beside the chain: the product over all of them is the chain's end
  for (unsigned i = 0; i < r->digits; i++)
    if (r->digit[i].axis == axis && !ts_mul_i64(reached, r->digit[i].radix, &reached)) return false;
  for (unsigned i = 0; i < r->digits; i++)
    if (r->digit[i].axis == axis && r->digit[i].radix > 1 && r->digit[i].divisor >= next) return false;
  return reached == next;
}

ts_status ir_repack_check(const ir_weight *w, const ir_repack *r, ts_loc loc, ts_diags *d) {
  int64_t size[2];
  ir_repack_domain(w, r, &size[0], &size[1]);
  unsigned width = element_bits(r);
  if (r->digits > sizeof r->digit / sizeof *r->digit || width == 0 || width > 64 || r->base < 0 || r->bytes < 0 || r->bytes > INT64_MAX / 16)
    return ts_report(d, loc, &diag_repack_layout, "%u digits, elements of %u bits, base %lld, %lld bytes", r->digits, width,
                     (long long)r->base, (long long)r->bytes);
  for (unsigned i = 0; i < r->digits; i++)
    if (r->digit[i].axis > 1 || r->digit[i].divisor < 1 || r->digit[i].radix < 1 || r->digit[i].stride < 0)
      return ts_report(d, loc, &diag_repack_layout, "digit %u is malformed", i);
  for (int axis = 0; axis < 2; axis++)
    if (!covers(r, axis, size[axis]))
      return ts_report(d, loc, &diag_repack_layout, "the digits of %s do not cover its %lld elements exactly once", axis ? "k" : "n",
                       (long long)size[axis]);
  // Strides in ascending order, each at least the extent of the digits below it.
  int64_t extent = width, done = 0;
  for (unsigned n = 0; n < r->digits; n++) {
    const ir_stride *least = NULL;
    for (unsigned i = 0; i < r->digits; i++)
      if (!(done >> i & 1) && (!least || r->digit[i].stride < least->stride || (r->digit[i].stride == least->stride && r->digit[i].radix == 1)))
        least = &r->digit[i];
    done |= INT64_C(1) << (least - r->digit);
    if (least->radix == 1) continue;
    int64_t span;
    if (least->stride < extent) return ts_report(d, loc, &diag_repack_layout, "a stride of %lld bits runs into the %lld bits below it", (long long)least->stride, (long long)extent);
    if (!ts_mul_i64(least->stride, least->radix - 1, &span) || !ts_add_i64(span, extent, &extent))
      return ts_report(d, loc, &diag_repack_layout, "the layout's size overflows");
  }
  if (size[0] && size[1] && (r->base > r->bytes * 8 || extent > r->bytes * 8 - r->base))
    return ts_report(d, loc, &diag_repack_layout, "the layout takes %lld bits from bit %lld, the buffer has %lld", (long long)extent,
                     (long long)r->base, (long long)r->bytes * 8);
  return TS_OK;
}

static int64_t target_offset(const ir_repack *r, int axis, int64_t index) {
  int64_t at = 0;
  for (unsigned i = 0; i < r->digits; i++)
    if (r->digit[i].axis == axis) at += index / r->digit[i].divisor % r->digit[i].radix * r->digit[i].stride;
  return at;
}

// ---- conversion -----------------------------------------------------------------------------------------------------------------------

static uint64_t low_bits(unsigned n) { return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1; }

// ir_bits_of_float, with a short way for f16, bf16 and f32 where value and result are normal.
static uint64_t narrow(ir_dtype t, double v) {
  if (t == IR_f32) {
    float x = (float)v;
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
  }
  unsigned mantissa = t == IR_f16 ? 10 : 7;
  int bias = t == IR_f16 ? 15 : 127;
  uint64_t u;
  memcpy(&u, &v, 8);
  int exponent = (int)(u >> 52 & 0x7ff) - 1023;
  if ((t != IR_f16 && t != IR_bf16) || exponent < 1 - bias || exponent > bias - 1) return ir_bits_of_float(t, v);
  unsigned drop = 52 - mantissa;
  uint64_t magnitude = u & ~(UINT64_C(1) << 63);
  magnitude += low_bits(drop - 1) + (magnitude >> drop & 1);
  magnitude = (magnitude >> drop) - ((uint64_t)(1023 - bias) << mantissa);
  return (u >> 63) << 15 | magnitude;
}

typedef struct repacker {
  const ir_weight *w;
  const ir_repack *r;
  ts_diags *d;
  ir_rows rows;
  int64_t cols;
  int64_t *target;       // bit offset of every column
  bool bytes;            // every element is 1, 2, 4 or 8 whole bytes at a byte
  bool within_byte;
  uint64_t *raw;         // elements of a row
  double *values;        // of a row (VALUE)
  uint64_t *lut;         // converted codes; NULL: element by element
  uint8_t *unfit;        // which of them do not fit; NULL when all do
} repacker;

// One integer element; false when it does not fit.
static bool convert_int(const ir_repack *r, int64_t v, uint64_t *out) {
  unsigned width = element_bits(r);
  if (!ts_add_i64(v, r->add, &v)) return false;
  v >>= r->shift;
  if (!r->bits && width < 64) {
    int64_t lo = ir_is_signed(r->as) ? -(INT64_C(1) << (width - 1)) : 0, hi = (int64_t)(low_bits(width) >> ir_is_signed(r->as));
    if (v < lo || v > hi) return false;
  }
  *out = (uint64_t)v & low_bits(width);
  return true;
}

// Raw bits of a field (FIELD, CODE) to bits of the target.
static bool convert_raw(const repacker *p, const ir_field *f, uint64_t raw, uint64_t *out) {
  const ir_repack *r = p->r;
  bool code = r->what == IR_WHAT_CODE;
  if (ir_is_float(f->type) || (code && f->table)) {
    double v = ir_field_value(f, raw);
    if (ir_is_float(r->as)) {
      *out = f->type == r->as ? raw : narrow(r->as, v);
      return true;
    }
    return v == nearbyint(v) && fabs(v) < 0x1p53 && convert_int(r, (int64_t)v, out);
  }
  int64_t v = ir_field_int(f, raw) - (code ? f->bias : 0);
  if (!ir_is_float(r->as)) return convert_int(r, v, out);
  *out = r->as == IR_f32 ? narrow(IR_f32, (float)(v + r->add)) : narrow(r->as, (double)(v + r->add));
  return true;
}

static ts_status no_fit(const repacker *p, int64_t row, int64_t col) {
  return ts_report(p->d, p->w->loc, &diag_repack_value, "%s: element [%lld, %lld] does not fit %s", p->w->name ? p->w->name : "weight",
                   (long long)row, (long long)col, ir_dtype_name(p->r->as));
}

// ---- rows -----------------------------------------------------------------------------------------------------------------------------

static void put_row(const repacker *p, int64_t row, uint8_t *out) {
  int64_t at = p->r->base + target_offset(p->r, 0, row);
  unsigned width = element_bits(p->r);
  const uint64_t *raw = p->raw;
  const int64_t *target = p->target;
  if (p->bytes && width == 8) {
    for (int64_t j = 0; j < p->cols; j++) out[(at + target[j]) >> 3] = (uint8_t)raw[j];
  } else if (p->bytes && width == 16) {
    for (int64_t j = 0; j < p->cols; j++) memcpy(out + ((at + target[j]) >> 3), &raw[j], 2);
  } else if (p->bytes && width == 32) {
    for (int64_t j = 0; j < p->cols; j++) memcpy(out + ((at + target[j]) >> 3), &raw[j], 4);
  } else if (p->within_byte) {
    for (int64_t j = 0; j < p->cols; j++) {
      int64_t b = at + target[j];
      out[b >> 3] |= (uint8_t)(raw[j] << (b & 7));
    }
  } else {
    for (int64_t j = 0; j < p->cols; j++) {
      int64_t b = at + target[j];
      for (unsigned put = 0; put < width;) {
        unsigned skip = (unsigned)(b + put) & 7, n = 8 - skip < width - put ? 8 - skip : width - put;
        out[(b + put) >> 3] |= (uint8_t)((raw[j] >> put & low_bits(n)) << skip);
        put += n;
      }
    }
  }
}

static ts_status repack_field(repacker *p, uint8_t *out) {
  unsigned field = p->r->what == IR_WHAT_FIELD ? p->r->field : 0;
  const ir_field *f = &p->w->encoding->field[field];
  const ir_view *v = &p->w->bound.view[field];
  bool same = ir_is_float(f->type) && f->type == p->r->as;
  if (!same && (f->bits <= 8 || (f->bits <= 16 && v->rows >= 65536 / (v->cols + 1)))) {   // the table must pay
    p->lut = malloc(sizeof *p->lut << f->bits);
    if (!p->lut) return TS_OUT_OF_MEMORY;
    for (uint64_t c = 0; c < UINT64_C(1) << f->bits; c++)
      if (!convert_raw(p, f, c, &p->lut[c])) {
        if (!p->unfit) p->unfit = calloc(UINT64_C(1) << f->bits, 1);
        if (!p->unfit) return TS_OUT_OF_MEMORY;
        p->unfit[c] = 1;
      }
  }
  ir_cursor *cursor = calloc(p->rows.leaves, sizeof *cursor);
  ts_status s = cursor ? TS_OK : TS_OUT_OF_MEMORY;
  for (int64_t i = 0; s == TS_OK && i < v->rows; i++) {
    int64_t logical = i * v->per_n;
    const ir_leaf *leaf = &p->rows.leaf[p->rows.leaf_of[logical]];
    ir_cursor *c = &cursor[p->rows.leaf_of[logical]];
    const ir_bound *b = &leaf->weight->bound;
    if (!c->bound) ir_cursor_init(c, b, field);
    ir_cursor_read(c, leaf->planes, p->rows.row_of[logical] / b->view[field].per_n, p->raw);
    for (int64_t j = 0; p->unfit && s == TS_OK && j < p->cols; j++)
      if (p->unfit[p->raw[j]]) s = no_fit(p, i, j);
    for (int64_t j = 0; p->lut && j < p->cols; j++) p->raw[j] = p->lut[p->raw[j]];
    for (int64_t j = 0; !p->lut && !same && s == TS_OK && j < p->cols; j++)
      if (!convert_raw(p, f, p->raw[j], &p->raw[j])) s = no_fit(p, i, j);
    if (s == TS_OK) put_row(p, i, out);
  }
  for (unsigned i = 0; cursor && i < p->rows.leaves; i++) ir_cursor_deinit(&cursor[i]);
  free(cursor);
  return s;
}

// SCALE, OFFSET and VALUE: numbers, rounded once to the target's type.
static ts_status repack_values(repacker *p, uint8_t *out) {
  const ir_repack *r = p->r;
  int64_t rows, cols, step = r->what == IR_WHAT_VALUE ? 1 : common_rows(p->w);
  ir_repack_domain(p->w, r, &rows, &cols);
  ir_decoder *decoder = calloc(p->rows.leaves, sizeof *decoder);
  ts_status s = decoder ? TS_OK : TS_OUT_OF_MEMORY;
  float *single = (float *)p->values;   // f32 has a rounding of its own: integers and sums are rounded once
  for (int64_t i = 0; s == TS_OK && i < rows; i++) {
    unsigned at = p->rows.leaf_of[i * step];
    int64_t row = p->rows.row_of[i * step];
    ir_decoder *x = &decoder[at];
    if (!x->b) ir_decoder_init(x, &p->rows.leaf[at].weight->bound, p->rows.leaf[at].planes);
    if (r->what != IR_WHAT_VALUE) ir_decoder_read(x, row);
    else if (r->as == IR_f32) ir_decoder_f32(x, row, single);
    else ir_decoder_f64(x, row, p->values);
    for (int64_t j = 0; j < cols; j++) {
      double v = r->what == IR_WHAT_SCALE ? x->scale[j] : r->what == IR_WHAT_OFFSET ? ir_decoder_offset(x, j) : r->as == IR_f32 ? (double)single[j] : p->values[j];
      p->raw[j] = narrow(r->as, v);
    }
    put_row(p, i, out);
  }
  for (unsigned i = 0; decoder && i < p->rows.leaves; i++)
    if (decoder[i].b) ir_decoder_deinit(&decoder[i]);
  free(decoder);
  return s;
}

ts_status ir_weight_repack(const ir_weight *w, const ir_repack *r, ts_diags *d, void *out) {
  bool values = r->what == IR_WHAT_SCALE || r->what == IR_WHAT_OFFSET || r->what == IR_WHAT_VALUE;
  if ((r->what == IR_WHAT_FIELD && r->field >= w->encoding->fields) || r->as == IR_VOID || r->shift > 63 || (values && !ir_is_float(r->as)) ||
      (ir_is_float(r->as) && r->bits && r->bits != ir_dtype_bits(r->as)) || ((r->shift || r->add) && values))
    return ts_report(d, w->loc, &diag_repack_layout, "%s: a repack that its encoding has no such part for", w->name ? w->name : "weight");
  TS_TRY(ir_repack_check(w, r, w->loc, d));
  repacker p = {.w = w, .r = r, .d = d};
  int64_t rows;
  ir_repack_domain(w, r, &rows, &p.cols);
  if (rows == 0 || p.cols == 0) return TS_OK;
  int64_t widest = p.cols > w->bound.k ? p.cols : w->bound.k;
  for (int f = 0; f < w->encoding->fields; f++)
    if (w->bound.view[f].cols > widest) widest = w->bound.view[f].cols;
  p.target = malloc((size_t)p.cols * sizeof *p.target);
  p.raw = malloc((size_t)widest * sizeof *p.raw);
  p.values = malloc((size_t)widest * sizeof *p.values);
  ts_status s = p.target && p.raw && p.values ? ir_rows_init(&p.rows, w, d) : TS_OUT_OF_MEMORY;
  if (s == TS_OK) {
    int64_t unit = 8;
    for (unsigned i = 0; i < r->digits; i++)
      while (r->digit[i].radix > 1 && r->digit[i].stride % unit != 0) unit /= 2;
    unsigned width = element_bits(r);
    p.bytes = unit == 8 && r->base % 8 == 0;
    p.within_byte = r->base % unit + 8 - unit + width <= 8;
    for (int64_t j = 0; j < p.cols; j++) p.target[j] = target_offset(r, 1, j);
    s = values ? repack_values(&p, out) : repack_field(&p, out);
  }
  ir_rows_deinit(&p.rows);
  free(p.target), free(p.raw), free(p.values), free(p.lut), free(p.unfit);
  return s;
}

ts_status ir_repack_hash(const ir_weight *w, const ir_repack *r, ts_diags *d, uint64_t *out) {
  uint64_t weight;
  TS_TRY(ir_weight_hash(w, d, &weight));
  ts_text text = {0};
  ts_text_printf(&text, "%016llx %d %u %u %u %u %lld %lld %lld", (unsigned long long)weight, (int)r->what, r->field,
                 ir_dtype_get(r->as)->code, r->bits, r->shift, (long long)r->add, (long long)r->base, (long long)r->bytes);
  for (unsigned i = 0; i < r->digits; i++)
    ts_text_printf(&text, " %u/%lld%%%lld*%lld", r->digit[i].axis, (long long)r->digit[i].divisor, (long long)r->digit[i].radix,
                   (long long)r->digit[i].stride);
  *out = XXH3_64bits(text.data, text.len);
  ts_text_deinit(&text);
  return TS_OK;
}
