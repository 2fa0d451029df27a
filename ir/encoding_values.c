// Values of encodings: the decode recipe, the plain C oracle in both directions (see encoding.h).
//
// Decoding looks codes up in a table of 2^bits values, multiplies the scale tiers once per group and then makes one rounded
// operation per element. Encoding goes group by group over the rows that share a scale.
#include "ir/encoding.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

// ---- recipe -----------------------------------------------------------------------------------------------------------------------

static int8_t add_step(ir_step *out, unsigned *n, ir_step s) {
  out[*n] = s;
  return (int8_t)(*n)++;
}

static int8_t field_steps(const ir_encoding *e, unsigned field, bool to_float, ir_step *out, unsigned *n) {
  const ir_field *f = &e->field[field];
  int8_t v = add_step(out, n, (ir_step){IR_STEP_FIELD, .field = (uint8_t)field});
  if (f->bias) v = add_step(out, n, (ir_step){IR_STEP_SUB_CONST, v, .value = f->bias});
  if (f->table) return add_step(out, n, (ir_step){IR_STEP_LOOKUP, v, .table = f->table});
  if (to_float && ir_is_int(f->type)) v = add_step(out, n, (ir_step){IR_STEP_FLOAT, v});
  return v;
}

static int8_t tier_steps(const ir_encoding *e, ir_role role, ir_step *out, unsigned *n) {
  int8_t product = -1;
  for (unsigned i = 0; i < e->fields; i++) {
    if (e->field[i].role != role) continue;
    int8_t v = field_steps(e, i, true, out, n);
    product = product < 0 ? v : add_step(out, n, (ir_step){IR_STEP_MUL, product, v});
  }
  return product;
}

unsigned ir_encoding_recipe(const ir_encoding *e, ir_step out[IR_MAX_STEPS]) {
  unsigned n = 0;
  if (e->formula == IR_FORMULA_PLAIN) {
    field_steps(e, 0, ir_is_float(e->value), out, &n);
    return n;
  }
  int8_t scale = tier_steps(e, IR_ROLE_SCALE, out, &n);
  if (e->formula == IR_FORMULA_ZERO) {
    int8_t code = field_steps(e, 0, false, out, &n);
    int8_t zero = field_steps(e, (unsigned)ir_encoding_field(e, IR_ROLE_ZERO, 0), false, out, &n);
    int8_t difference = add_step(out, &n, (ir_step){IR_STEP_SUB, code, zero});
    int8_t real = add_step(out, &n, (ir_step){IR_STEP_FLOAT, difference});
    add_step(out, &n, (ir_step){IR_STEP_MUL, real, scale});
    return n;
  }
  int8_t min = e->formula == IR_FORMULA_SCALED ? -1 : tier_steps(e, IR_ROLE_MIN, out, &n);
  if (e->formula == IR_FORMULA_SUB) min = add_step(out, &n, (ir_step){IR_STEP_NEG, min});
  int8_t code = field_steps(e, 0, true, out, &n);
  if (min < 0) add_step(out, &n, (ir_step){IR_STEP_MUL, code, scale});
  else add_step(out, &n, (ir_step){IR_STEP_FMA, code, scale, min});
  return n;
}

// ---- decoding -----------------------------------------------------------------------------------------------------------------------

static void *must(void *p) {
  if (!p) abort();
  return p;
}

int64_t ir_bound_group(const ir_bound *b) {
  int64_t group = b->k ? b->k : 1;
  for (int i = 1; i < b->enc->fields; i++) {
    if (b->view[i].per_k >= b->k) continue;
    for (int64_t y = b->view[i].per_k; y;) {
      int64_t t = group % y;
      // A row that ends inside a group is as good as one that ends with it.
      if (y == b->view[i].per_k && group == b->k) t = 0;
      group = y, y = t;
    }
  }
  return group;
}

void ir_decoder_init(ir_decoder *r, const ir_bound *b, const void *const *planes) {
  const ir_encoding *e = b->enc;
  *r = (ir_decoder){.b = b, .group = ir_bound_group(b)};
  memcpy(r->planes, planes, e->planes * sizeof *planes);
  int64_t widest = 1;
  for (int i = 0; i < e->fields; i++) {
    ir_cursor_init(&r->cursor[i], b, (unsigned)i);
    if (b->view[i].cols > widest) widest = b->view[i].cols;
  }
  r->groups = ts_ceil_div(b->k, r->group);
  r->raw = must(malloc((size_t)widest * sizeof *r->raw));
  r->codes = must(malloc((size_t)widest * sizeof *r->codes));
  r->scale = must(malloc((size_t)(r->groups + 1) * sizeof *r->scale));
  r->min = must(malloc((size_t)(r->groups + 1) * sizeof *r->min));
  const ir_field *code = &e->field[0];
  // 2^16 entries must pay: a small plain tensor goes without.
  if (code->bits <= 8 || (code->bits <= 16 && (e->formula != IR_FORMULA_PLAIN || b->rows >= 65536 / (b->k + 1)))) {
    r->lut = must(malloc(sizeof(double) << code->bits));
    for (uint64_t c = 0; c < UINT64_C(1) << code->bits; c++) r->lut[c] = ir_field_value(code, c);
  }
}

void ir_decoder_deinit(ir_decoder *r) {
  for (int i = 0; i < r->b->enc->fields; i++) ir_cursor_deinit(&r->cursor[i]);
  free(r->raw), free(r->codes), free(r->scale), free(r->min), free(r->lut);
}

void ir_decoder_read(ir_decoder *r, int64_t row) {
  const ir_encoding *e = r->b->enc;
  ir_cursor_read(&r->cursor[0], r->planes, row, r->codes);
  for (int64_t g = 0; g < r->groups; g++) r->scale[g] = 1, r->min[g] = 1;
  for (int i = 1; i < e->fields; i++) {
    const ir_field *f = &e->field[i];
    const ir_view *v = &r->b->view[i];
    ir_cursor_read(&r->cursor[i], r->planes, row / v->per_n, r->raw);
    double *to = f->role == IR_ROLE_SCALE ? r->scale : r->min;
    for (int64_t g = 0; g < r->groups; g++) to[g] *= ir_field_value(f, r->raw[g * r->group / v->per_k]);
  }
  if (e->formula == IR_FORMULA_SUB)
    for (int64_t g = 0; g < r->groups; g++) r->min[g] = -r->min[g];
}

double ir_decoder_offset(const ir_decoder *r, int64_t g) {
  switch (r->b->enc->formula) {
    case IR_FORMULA_PLAIN:
    case IR_FORMULA_SCALED: return 0;
    case IR_FORMULA_ZERO: return -(r->min[g] * r->scale[g]);
    default: return r->min[g];
  }
}

static void plain_row_f32(const ir_decoder *r, float *out) {
  const ir_field *f = &r->b->enc->field[0];
  for (int64_t j = 0; j < r->b->k; j++) {
    if (r->lut) out[j] = (float)r->lut[r->codes[j]];
    else if (ir_is_float(f->type)) out[j] = (float)ir_field_value(f, r->codes[j]);
    else out[j] = f->type == IR_u64 ? (float)r->codes[j] : (float)ir_field_int(f, r->codes[j]);   // one rounding
  }
}

void ir_decoder_f32(ir_decoder *r, int64_t row, float *out) {
  int64_t k = r->b->k;
  ir_decoder_read(r, row);
  if (r->b->enc->formula == IR_FORMULA_PLAIN) {
    plain_row_f32(r, out);
    return;
  }
  for (int64_t g = 0; g < r->groups; g++) {
    int64_t end = (g + 1) * r->group < k ? (g + 1) * r->group : k;
    double s = r->scale[g], m = r->min[g];   // floats, or products that are exact in f32
    switch (r->b->enc->formula) {
      case IR_FORMULA_SCALED:
        for (int64_t j = g * r->group; j < end; j++) out[j] = (float)(r->lut[r->codes[j]] * s);   // exact in double
        break;
      case IR_FORMULA_ZERO:
        for (int64_t j = g * r->group; j < end; j++) out[j] = (float)((r->lut[r->codes[j]] - m) * s);
        break;
      default:
        for (int64_t j = g * r->group; j < end; j++) out[j] = fmaf((float)r->lut[r->codes[j]], (float)s, (float)m);
    }
  }
}

void ir_decoder_f64(ir_decoder *r, int64_t row, double *out) {
  const ir_encoding *e = r->b->enc;
  ir_decoder_read(r, row);
  for (int64_t j = 0; j < r->b->k; j++) {
    double code = r->lut ? r->lut[r->codes[j]] : ir_field_value(&e->field[0], r->codes[j]);
    double s = r->scale[j / r->group], m = r->min[j / r->group];
    switch (e->formula) {
      case IR_FORMULA_PLAIN: out[j] = code; break;
      case IR_FORMULA_SCALED: out[j] = code * s; break;
      case IR_FORMULA_ZERO: out[j] = (code - m) * s; break;
      default: out[j] = fma(code, s, m);
    }
  }
}

void ir_decode_rows_f32(const ir_bound *b, const void *const *planes, int64_t row0, int64_t rows, float *out) {
  if (rows <= 0 || b->k == 0) return;
  ir_decoder r;
  ir_decoder_init(&r, b, planes);
  for (int64_t i = 0; i < rows; i++) ir_decoder_f32(&r, row0 + i, out + i * b->k);
  ir_decoder_deinit(&r);
}

void ir_decode_rows_f64(const ir_bound *b, const void *const *planes, int64_t row0, int64_t rows, double *out) {
  if (rows <= 0 || b->k == 0) return;
  ir_decoder r;
  ir_decoder_init(&r, b, planes);
  for (int64_t i = 0; i < rows; i++) ir_decoder_f64(&r, row0 + i, out + i * b->k);
  ir_decoder_deinit(&r);
}

// ---- encoding -----------------------------------------------------------------------------------------------------------------------

bool ir_encoding_can_encode(const ir_encoding *e) {
  if (e->formula == IR_FORMULA_PLAIN) return true;
  int s = ir_encoding_field(e, IR_ROLE_SCALE, 0);
  if (ir_encoding_field(e, IR_ROLE_SCALE, 1) >= 0 || ir_encoding_field(e, IR_ROLE_MIN, 1) >= 0 || !ir_is_float(e->field[s].type)) return false;
  for (int i = 1; i < e->fields; i++)
    if (e->field[i].per_n != e->field[s].per_n || e->field[i].per_k != e->field[s].per_k ||
        (e->field[i].role == IR_ROLE_MIN && !ir_is_float(e->field[i].type)))
      return false;
  return true;
}

// One group on its way from values to fields.
typedef struct quantizer {
  const ir_encoding *e;
  const ir_field *code, *scale_field, *zero_field, *min_field;
  double lo, hi;               // range of code values (bias subtracted)
  double scale, zero, min;     // as stored
  unsigned entries;            // of a codebook, else 0
  bool has_zero;               // some code's value is 0
} quantizer;

static void quantizer_init(quantizer *q, const ir_encoding *e) {
  *q = (quantizer){.e = e, .code = &e->field[0]};
  int s = ir_encoding_field(e, IR_ROLE_SCALE, 0), z = ir_encoding_field(e, IR_ROLE_ZERO, 0), m = ir_encoding_field(e, IR_ROLE_MIN, 0);
  q->scale_field = s < 0 ? NULL : &e->field[s];
  q->zero_field = z < 0 ? NULL : &e->field[z];
  q->min_field = m < 0 ? NULL : &e->field[m];
  const ir_field *c = q->code;
  if (c->table) q->entries = 1u << c->bits;
  if (ir_is_float(c->type) || c->table) {
    for (unsigned i = 0; i < 1u << c->bits; i++) {
      double v = ir_field_value(c, i);
      if (!isfinite(v)) continue;
      q->has_zero |= v == 0;
      q->lo = fmin(q->lo, v);
      q->hi = fmax(q->hi, v);
    }
  } else {
    bool is_signed = ir_is_signed(c->type);
    q->has_zero = true;
    q->lo = (is_signed ? -ldexp(1, c->bits - 1) : 0) - c->bias;
    q->hi = ldexp(1, c->bits - is_signed) - 1 - c->bias;
  }
}

// Raw bits of the code for value w.
static uint64_t quantize_one(const quantizer *q, float w) {
  double x;
  if (q->e->formula == IR_FORMULA_MIN) x = ((double)w - q->min) / q->scale;
  else if (q->e->formula == IR_FORMULA_SUB) x = ((double)w + q->min) / q->scale;
  else x = (double)(w / (float)q->scale);   // the published quantizers divide in f32
  if (ir_is_float(q->code->type)) return ir_bits_of_float(q->code->type, fmin(fmax(x, q->lo), q->hi));
  if (q->entries) {
    unsigned best = 0;
    double least = INFINITY;
    for (unsigned i = 0; i < q->entries; i++)
      if (fabs(q->code->table[i] - x) < least) least = fabs(q->code->table[i] - x), best = i;
    return best;
  }
  double c = fmin(fmax(nearbyint(x) + q->zero, q->lo), q->hi);
  uint64_t mask = (UINT64_C(1) << q->code->bits) - 1;
  return (uint64_t)((int64_t)c + q->code->bias) & mask;
}

// Scale, zero and min of a group with values in [mn, mx]; false when the scale overflows its type.
static bool quantizer_fit(quantizer *q, float mn, float mx) {
  ir_formula formula = q->e->formula;
  q->zero = 0, q->min = 0;
  double scale;
  if (formula == IR_FORMULA_ZERO) {
    mn = fminf(mn, 0), mx = fmaxf(mx, 0);
    scale = mn == mx ? 1 : fmaxf(mx - mn, 1e-5f) / (float)(q->hi - q->lo);
  } else if (formula == IR_FORMULA_SCALED) {
    double top = q->hi > 0 ? q->hi : -q->lo;
    if (mn == 0 && mx == 0) {   // nothing but zeros: a codebook without 0 needs scale 0
      q->scale = q->has_zero;
      return true;
    }
    scale = fmaxf(-mn, mx) / (float)top;
  } else {
    scale = mn == mx ? 1 : (double)((mx - mn) / (float)(q->hi - q->lo));
  }
  ir_dtype type = q->scale_field->type;
  q->scale = ir_round(type, scale);
  if (q->scale == 0) q->scale = ir_float_of_bits(type, 1);
  if (!isfinite(q->scale)) return false;
  if (formula == IR_FORMULA_ZERO) {
    const ir_field *z = q->zero_field;
    bool is_signed = ir_is_signed(z->type);
    double lo = (is_signed ? -ldexp(1, z->bits - 1) : 0) - z->bias, hi = ldexp(1, z->bits - is_signed) - 1 - z->bias;
    // For codes lo .. hi the zero is where mn falls on lo: awq.md's formula when lo is 0.
    q->zero = mn == mx ? fmin(fmax(0, lo), hi) : fmin(fmax(q->lo - nearbyint((double)(mn / (float)q->scale)), lo), hi);
  } else if (formula == IR_FORMULA_MIN || formula == IR_FORMULA_SUB) {
    double m = mn - q->lo * q->scale;
    q->min = ir_round(q->min_field->type, formula == IR_FORMULA_MIN ? m : -m);
    if (!isfinite(q->min)) return false;
  }
  return true;
}

static ts_status encode_plain(const ir_bound *b, const float *values, int64_t row0, int64_t rows, void *const *out, ts_loc loc, ts_diags *d) {
  const ir_field *f = &b->enc->field[0];
  bool is_signed = ir_is_signed(f->type);
  double lo = is_signed ? -ldexp(1, f->bits - 1) : 0, hi = ldexp(1, f->bits - is_signed);   // hi itself is one too many
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < b->k; j++) {
      double v = values[i * b->k + j];
      if (ir_is_float(f->type)) {
        ir_field_set_bits(b, out, 0, row0 + i, j, ir_bits_of_float(f->type, v));
        continue;
      }
      double r = nearbyint(v);
      if (!(r >= lo && r < hi))
        return ts_report(d, loc, &diag_encode_value, "row %lld, element %lld: %g is no %s", (long long)(row0 + i), (long long)j, v,
                         ir_dtype_name(f->type));
      uint64_t bits = f->type == IR_u64 ? (uint64_t)r : (uint64_t)(int64_t)r;
      ir_field_set_bits(b, out, 0, row0 + i, j, bits);
    }
  return TS_OK;
}

// Rows [row0 + i0, row0 + i1) and elements [j0, j1) share one scale; j1 may lie in the padding.
static ts_status encode_group(const ir_bound *b, quantizer *q, const float *values, int64_t row0, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                              void *const *out, ts_loc loc, ts_diags *d) {
  int64_t end = j1 < b->k ? j1 : b->k;
  float mn = INFINITY, mx = -INFINITY;
  for (int64_t i = i0; i < i1; i++)
    for (int64_t j = j0; j < end; j++) {
      float v = values[i * b->k + j];
      if (!isfinite(v))
        return ts_report(d, loc, &diag_encode_value, "row %lld, element %lld is not finite", (long long)(row0 + i), (long long)j);
      if (v < 0 && q->lo >= 0 && q->e->formula == IR_FORMULA_SCALED)
        return ts_report(d, loc, &diag_encode_value, "row %lld, element %lld: %g is negative, the codes of %s are not", (long long)(row0 + i),
                         (long long)j, (double)v, q->e->name);
      mn = fminf(mn, v), mx = fmaxf(mx, v);
    }
  if (mn > mx) mn = mx = 0;   // nothing but padding
  if (!quantizer_fit(q, mn, mx))
    return ts_report(d, loc, &diag_encode_value, "row %lld, elements %lld to %lld: the scale or minimum overflows %s", (long long)(row0 + i0),
                     (long long)j0, (long long)(end - 1), ir_dtype_name(q->scale_field->type));
  for (int k = 1; k < b->enc->fields; k++) {
    const ir_field *f = &b->enc->field[k];
    const ir_view *v = &b->view[k];
    uint64_t bits = f->role == IR_ROLE_SCALE ? ir_bits_of_float(f->type, q->scale)
                    : f->role == IR_ROLE_MIN ? ir_bits_of_float(f->type, q->min)
                                             : (uint64_t)((int64_t)q->zero + f->bias);
    ir_field_set_bits(b, out, (unsigned)k, (row0 + i0) / v->per_n, j0 / v->per_k, bits);
  }
  return TS_OK;
}

// Zeroes the storage of rows where rows lie in one piece; layouts that interleave rows are zeroed with their first row.
static void clear_rows(const ir_bound *b, int64_t row0, int64_t rows, void *const *out) {
  for (int k = 0; k < b->enc->planes; k++) {
    if (row0 == 0 && rows == b->rows) {
      memset(out[k], 0, (size_t)b->plane_bytes[k]);
      continue;
    }
    for (int f = 0; f < b->enc->fields; f++) {
      const ir_view *v = &b->view[f];
      if (v->plane != k) continue;
      for (int64_t i = row0 / v->per_n; i < ts_ceil_div(row0 + rows, v->per_n); i++)
        for (int64_t j = 0; j < v->cols; j++) ir_field_set_bits(b, out, (unsigned)f, i, j, 0);
    }
  }
}

ts_status ir_encode_rows(const ir_bound *b, const float *values, int64_t row0, int64_t rows, void *const *out, ts_loc loc, ts_diags *d) {
  if (!ir_encoding_can_encode(b->enc))
    return ts_report(d, loc, &diag_encode_unsupported, "%s can be read but not made: it has several tiers of scales", b->enc->name);
  if (rows <= 0 || b->k == 0) return TS_OK;
  clear_rows(b, row0, rows, out);
  if (b->enc->formula == IR_FORMULA_PLAIN) return encode_plain(b, values, row0, rows, out, loc, d);
  quantizer q;
  quantizer_init(&q, b->enc);
  const ir_view *code = &b->view[0], *scale = &b->view[q.scale_field - b->enc->field];
  uint64_t *bits = calloc((size_t)(scale->per_n < rows ? scale->per_n : rows) * (size_t)code->cols, sizeof *bits);
  if (!bits) return TS_OUT_OF_MEMORY;
  ir_cursor cursor;
  ir_cursor_init(&cursor, b, 0);
  ts_status s = TS_OK;
  for (int64_t i0 = 0; s == TS_OK && i0 < rows; i0 += scale->per_n) {
    int64_t i1 = i0 + scale->per_n < rows ? i0 + scale->per_n : rows;
    for (int64_t j0 = 0; s == TS_OK && j0 < code->cols; j0 += scale->per_k) {
      int64_t j1 = j0 + scale->per_k < code->cols ? j0 + scale->per_k : code->cols;
      s = encode_group(b, &q, values, row0, i0, i1, j0, j1, out, loc, d);
      for (int64_t i = i0; s == TS_OK && i < i1; i++)
        for (int64_t j = j0; j < j1; j++) bits[(i - i0) * code->cols + j] = quantize_one(&q, j < b->k ? values[i * b->k + j] : 0);
    }
    for (int64_t i = i0; s == TS_OK && i < i1; i++) ir_cursor_write(&cursor, out, row0 + i, bits + (i - i0) * code->cols);
  }
  ir_cursor_deinit(&cursor);
  free(bits);
  return s;
}
