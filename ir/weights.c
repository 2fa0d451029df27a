// Weights and where their rows come from (see weights.h).
#include "ir/weights_priv.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int64_t ir_weight_rows(const ir_weight *w) { return w->bound.rows; }
int64_t ir_weight_k(const ir_weight *w) { return w->bound.k; }

// ---- construction ---------------------------------------------------------------------------------------------------------------

static ts_status new_weight(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, ir_source source, ts_loc loc,
                            ts_diags *d, ir_weight **out) {
  ir_weight *w = ts_new(a, ir_weight);
  *w = (ir_weight){.name = name, .loc = loc, .rank = rank, .encoding = e, .source = source};
  TS_TRY(ir_encoding_bind(e, rank, shape, loc, d, &w->bound));
  if (rank) memcpy(w->shape, shape, rank * sizeof *shape);
  *out = w;
  return TS_OK;
}

ts_status ir_weight_of_planes(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, const void *const *planes,
                              const size_t *sizes, ts_loc loc, ts_diags *d, ir_weight **out) {
  ir_weight *w;
  TS_TRY(new_weight(a, name, e, rank, shape, IR_SOURCE_DATA, loc, d, &w));
  for (int i = 0; i < e->planes; i++) {
    if (sizes[i] != (size_t)w->bound.plane_bytes[i])
      return ts_report(d, loc, &diag_encoding_size, "%s: %zu bytes of %s, but [%lld, %lld] as %s takes %lld", name ? name : "weight", sizes[i],
                       e->record ? "records" : e->field[i].name, (long long)w->bound.rows, (long long)w->bound.k, e->name,
                       (long long)w->bound.plane_bytes[i]);
    w->planes[i] = planes[i];
  }
  *out = w;
  return TS_OK;
}

ts_status ir_weight_of_data(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, const void *data, size_t size,
                            ts_loc loc, ts_diags *d, ir_weight **out) {
  ir_weight *w;
  TS_TRY(new_weight(a, name, e, rank, shape, IR_SOURCE_DATA, loc, d, &w));
  if (size != (size_t)w->bound.bytes)
    return ts_report(d, loc, &diag_encoding_size, "%s: %zu bytes, but [%lld, %lld] as %s takes %lld", name ? name : "weight", size,
                     (long long)w->bound.rows, (long long)w->bound.k, e->name, (long long)w->bound.bytes);
  ir_planes_of(&w->bound, data, w->planes);
  *out = w;
  return TS_OK;
}

ts_status ir_weight_random(ts_arena *a, ts_sym name, const ir_encoding *e, unsigned rank, const int64_t *shape, uint64_t seed, ts_loc loc,
                           ts_diags *d, ir_weight **out) {
  TS_TRY(new_weight(a, name, e, rank, shape, IR_SOURCE_RANDOM, loc, d, out));
  (*out)->seed = seed;
  return TS_OK;
}

// Plain elements of whole bytes, side by side.
static bool whole_bytes(const ir_encoding *e) {
  return e->formula == IR_FORMULA_PLAIN && !e->record && !e->field[0].layout_digits && e->field[0].bits % 8 == 0;
}

// A view of `w`: other rows, one part.
static ts_status view_of(ts_arena *a, const ir_weight *w, const int64_t *shape, ts_loc loc, ts_diags *d, ir_weight **out) {
  TS_TRY(new_weight(a, w->name, w->encoding, w->rank, shape, IR_SOURCE_JOIN, loc, d, out));
  const ir_weight **part = ts_new_array(a, const ir_weight *, 1);
  part[0] = w;
  (*out)->parts = part;
  (*out)->part_count = 1;
  return TS_OK;
}

ts_status ir_weight_slice(ts_arena *a, const ir_weight *w, int64_t lo, int64_t hi, ts_loc loc, ts_diags *d, ir_weight **out) {
  if (w->rank < 1 || lo < 0 || hi < lo || hi > w->shape[0])
    return ts_report(d, loc, &diag_weight_rows, "%s: no rows [%lld:%lld] in a first axis of %lld", w->name ? w->name : "weight", (long long)lo,
                     (long long)hi, w->rank < 1 ? 1LL : (long long)w->shape[0]);
  if (w->rank == 1) {
    if (w->source != IR_SOURCE_DATA || !whole_bytes(w->encoding))
      return ts_report(d, loc, &diag_weight_rows, "%s: only plain vectors of whole bytes in a file are sliced", w->name ? w->name : "weight");
    int64_t length = hi - lo;
    TS_TRY(new_weight(a, w->name, w->encoding, 1, &length, IR_SOURCE_DATA, loc, d, out));
    (*out)->planes[0] = (const char *)w->planes[0] + lo * (w->encoding->field[0].bits / 8);
    return TS_OK;
  }
  int64_t inner = w->shape[0] ? w->bound.rows / w->shape[0] : 0;
  for (int i = 0; i < w->encoding->fields; i++) {
    int64_t per = w->encoding->field[i].per_n;
    if (per > 1 && (lo * inner % per != 0 || (hi * inner % per != 0 && hi != w->shape[0])))
      return ts_report(d, loc, &diag_weight_rows, "%s: rows [%lld:%lld] cut a group of %lld rows that share one %s", w->name ? w->name : "weight",
                       (long long)lo, (long long)hi, (long long)per, w->encoding->field[i].name);
  }
  int64_t shape[IR_MAX_RANK];
  memcpy(shape, w->shape, sizeof shape);
  shape[0] = hi - lo;
  TS_TRY(view_of(a, w, shape, loc, d, out));
  (*out)->row0 = lo * inner;
  return TS_OK;
}

ts_status ir_weight_reorder(ts_arena *a, const ir_weight *w, const int64_t *order, int64_t count, ts_loc loc, ts_diags *d, ir_weight **out) {
  int64_t rows = ir_weight_rows(w);
  const char *name = w->name ? w->name : "weight";
  for (int i = 0; i < w->encoding->fields; i++)
    if (w->encoding->field[i].per_n > 1)
      return ts_report(d, loc, &diag_weight_rows, "%s: rows that share one %s cannot be reordered", name, w->encoding->field[i].name);
  if (count != rows) return ts_report(d, loc, &diag_weight_rows, "%s: an order of %lld rows for %lld", name, (long long)count, (long long)rows);
  uint8_t *seen = calloc((size_t)rows / 8 + 1, 1);
  if (!seen) return TS_OUT_OF_MEMORY;
  int64_t bad = -1;
  for (int64_t i = 0; i < rows && bad < 0; i++) {
    if (order[i] < 0 || order[i] >= rows || seen[order[i] / 8] >> (order[i] % 8) & 1) bad = i;
    else seen[order[i] / 8] |= (uint8_t)(1u << (order[i] % 8));
  }
  free(seen);
  if (bad >= 0)
    return ts_report(d, loc, &diag_weight_rows, "%s: entry %lld of the order, %lld, is out of range or occurs twice", name, (long long)bad,
                     (long long)order[bad]);
  TS_TRY(view_of(a, w, w->shape, loc, d, out));
  (*out)->row_order = ts_arena_copy(a, order, (size_t)rows * sizeof *order, _Alignof(int64_t));
  return TS_OK;
}

ts_status ir_weight_join(ts_arena *a, ts_sym name, const ir_weight *const *parts, unsigned count, ts_loc loc, ts_diags *d, ir_weight **out) {
  if (!count || parts[0]->rank == 0) return ts_report(d, loc, &diag_weight_rows, "nothing to join");
  int64_t shape[IR_MAX_RANK];
  memcpy(shape, parts[0]->shape, sizeof shape);
  bool vector = parts[0]->rank == 1;
  if (vector && !whole_bytes(parts[0]->encoding))
    return ts_report(d, loc, &diag_weight_rows, "%s: only plain vectors of whole bytes are joined, not %s", parts[0]->name, parts[0]->encoding->name);
  for (unsigned i = 0; i < count; i++) {
    const ir_weight *p = parts[i];
    if (p->rank != parts[0]->rank || memcmp(p->shape + 1, parts[0]->shape + 1, (p->rank - 1) * sizeof *p->shape) != 0)
      return ts_report(d, loc, &diag_weight_rows, "%s and %s differ in more than the first axis", parts[0]->name, p->name);
    if (!ir_encoding_equal(p->encoding, parts[0]->encoding))
      return ts_report(d, loc, &diag_weight_rows, "%s is stored as %s, %s as %s", parts[0]->name, parts[0]->encoding->name, p->name,
                       p->encoding->name);
    for (int f = 0; f < p->encoding->fields; f++)
      if (p->encoding->field[f].per_n != 1 && count > 1 && (p->encoding->field[f].per_n == 0 || p->bound.rows % p->encoding->field[f].per_n))
        return ts_report(d, loc, &diag_weight_rows, "%s: its rows share one %s with each other, so it cannot be joined", p->name,
                         p->encoding->field[f].name);
    if (i && !ts_add_i64(shape[0], p->shape[0], &shape[0])) return ts_report(d, loc, &diag_weight_rows, "too many rows");
  }
  TS_TRY(new_weight(a, name, parts[0]->encoding, parts[0]->rank, shape, vector ? IR_SOURCE_CONCAT : IR_SOURCE_JOIN, loc, d, out));
  (*out)->parts = ts_arena_copy(a, parts, count * sizeof *parts, _Alignof(const ir_weight *));
  (*out)->part_count = count;
  return TS_OK;
}

ts_status ir_weight_quantize(ts_arena *a, const ir_weight *w, const ir_encoding *e, ts_loc loc, ts_diags *d, ir_weight **out) {
  if (!ir_encoding_can_encode(e)) return ts_report(d, loc, &diag_encode_unsupported, "%s can be read but not made: it has several tiers of scales", e->name);
  TS_TRY(new_weight(a, w->name, e, w->rank, w->shape, IR_SOURCE_QUANTIZE, loc, d, out));
  const ir_weight **part = ts_new_array(a, const ir_weight *, 1);
  part[0] = w;
  (*out)->parts = part;
  (*out)->part_count = 1;
  return TS_OK;
}

// ---- random weights -----------------------------------------------------------------------------------------------------------------

static uint64_t next_random(uint64_t *state) {   // splitmix64
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static double uniform(uint64_t *state) { return (double)(next_random(state) >> 11) * 0x1p-53; }

// Magnitude of the middle of a field's integer values, and of half their range.
static double middle_of(const ir_field *f) {
  if (ir_is_float(f->type) || f->table) return 0;
  return (ir_is_signed(f->type) ? -0.5 : (ldexp(1, f->bits) - 1) / 2) - f->bias;
}
static double reach_of(const ir_field *f) {
  double most = 0;
  if (f->bits > 16) return 1;
  for (uint64_t c = 0; c < UINT64_C(1) << f->bits; c++) {
    double v = fabs(ir_field_value(f, c) - middle_of(f));
    if (isfinite(v)) most = fmax(most, v);
  }
  return most;
}

// A float field (scale or min) so that values come out at about `spread`.
static double float_unit(const ir_encoding *e, const ir_field *f, double spread) {
  double tiers = 1;
  for (int i = 1; i < e->fields; i++)
    if (e->field[i].role == f->role && &e->field[i] != f) tiers *= ir_is_float(e->field[i].type) ? 1 : fmax(1, ldexp(1, e->field[i].bits - 1));
  double scale = spread / reach_of(&e->field[0]);
  if (f->role == IR_ROLE_SCALE) return scale / tiers;
  double min = scale * middle_of(&e->field[0]) / tiers;
  return e->formula == IR_FORMULA_MIN ? -min : min;
}

static uint64_t random_bits(const ir_encoding *e, const ir_field *f, unsigned rank, double spread, uint64_t *state) {
  double u = uniform(state);
  if (e->formula == IR_FORMULA_PLAIN && ir_is_float(f->type))
    return ir_bits_of_float(f->type, rank < 2 ? 0.5 + u : spread * (2 * u - 1));
  if (e->formula == IR_FORMULA_PLAIN) return (uint64_t)(u * (f->bits < 4 ? ldexp(1, f->bits) : 8));
  if (f->role != IR_ROLE_CODE && ir_is_float(f->type)) return ir_bits_of_float(f->type, float_unit(e, f, spread) * (0.5 + u));
  uint64_t code = (uint64_t)(u * ldexp(1, f->bits));
  if (ir_is_float(f->type) && !isfinite(ir_float_of_bits(f->type, code))) code = 0;
  if (f->role == IR_ROLE_ZERO) code = (uint64_t)(((ir_is_signed(f->type) ? 0 : 0.5) + (u - 0.5) / 4) * ldexp(1, f->bits));
  return code & (f->bits < 64 ? (UINT64_C(1) << f->bits) - 1 : ~UINT64_C(0));
}

static ts_status make_random(const ir_weight *w, ir_leaf *leaf) {
  const ir_bound *b = &w->bound;
  leaf->owned = calloc((size_t)b->bytes + 1, 1);
  if (!leaf->owned) return TS_OUT_OF_MEMORY;
  ir_planes_of(b, leaf->owned, leaf->planes);
  uint64_t state = XXH3_64bits_withSeed(w->name ? w->name : "", w->name ? strlen(w->name) : 0, w->seed);
  double spread = sqrt(3.0 / (double)(b->k ? b->k : 1));
  for (int f = 0; f < b->enc->fields && b->rows && b->k; f++) {
    const ir_view *v = &b->view[f];
    uint64_t *row = malloc((size_t)v->cols * sizeof *row);
    if (!row) return TS_OUT_OF_MEMORY;
    ir_cursor c;
    ir_cursor_init(&c, b, (unsigned)f);
    for (int64_t i = 0; i < v->rows; i++) {
      for (int64_t j = 0; j < v->cols; j++) row[j] = random_bits(b->enc, &b->enc->field[f], w->rank, spread, &state);
      ir_cursor_write(&c, (void *const *)leaf->planes, i, row);
    }
    ir_cursor_deinit(&c);
    free(row);
  }
  return TS_OK;
}

// ---- rows ---------------------------------------------------------------------------------------------------------------------------

static ts_status make_quantized(const ir_weight *w, ts_diags *d, ir_leaf *leaf);
static ts_status make_concat(const ir_weight *w, ts_diags *d, ir_leaf *leaf);

static unsigned count_leaves(const ir_weight *w) {
  if (w->source != IR_SOURCE_JOIN) return 1;
  unsigned n = 0;
  for (unsigned i = 0; i < w->part_count; i++) n += count_leaves(w->parts[i]);
  return n;
}

// Appends the rows of `w` at r->leaf_of + at; leaves are created in order.
static ts_status collect(ir_rows *r, const ir_weight *w, int64_t at, ts_diags *d) {
  if (w->source != IR_SOURCE_JOIN) {
    ir_leaf *leaf = &r->leaf[r->leaves];
    leaf->weight = w;
    memcpy(leaf->planes, w->planes, sizeof leaf->planes);
    for (int64_t i = 0; i < w->bound.rows; i++) r->leaf_of[at + i] = r->leaves, r->row_of[at + i] = i;
    r->leaves++;
    if (w->source == IR_SOURCE_RANDOM) return make_random(w, leaf);
    if (w->source == IR_SOURCE_CONCAT) return make_concat(w, d, leaf);
    return w->source == IR_SOURCE_QUANTIZE ? make_quantized(w, d, leaf) : TS_OK;
  }
  ir_rows inner = {.leaf = r->leaf, .leaves = r->leaves};
  for (unsigned i = 0; i < w->part_count; i++) inner.count += w->parts[i]->bound.rows;
  inner.leaf_of = malloc((size_t)(inner.count + 1) * sizeof *inner.leaf_of);
  inner.row_of = malloc((size_t)(inner.count + 1) * sizeof *inner.row_of);
  ts_status s = inner.leaf_of && inner.row_of ? TS_OK : TS_OUT_OF_MEMORY;
  int64_t next = 0;
  for (unsigned i = 0; s == TS_OK && i < w->part_count; i++) {
    s = collect(&inner, w->parts[i], next, d);
    next += w->parts[i]->bound.rows;
  }
  for (int64_t i = 0; s == TS_OK && i < w->bound.rows; i++) {
    int64_t from = w->row0 + (w->row_order ? w->row_order[i] : i);
    r->leaf_of[at + i] = inner.leaf_of[from];
    r->row_of[at + i] = inner.row_of[from];
  }
  r->leaves = inner.leaves;
  free(inner.leaf_of);
  free(inner.row_of);
  return s;
}

ts_status ir_rows_init(ir_rows *r, const ir_weight *w, ts_diags *d) {
  *r = (ir_rows){.count = w->bound.rows};
  r->leaf = calloc(count_leaves(w), sizeof *r->leaf);
  r->leaf_of = malloc((size_t)(r->count + 1) * sizeof *r->leaf_of);
  r->row_of = malloc((size_t)(r->count + 1) * sizeof *r->row_of);
  if (!r->leaf || !r->leaf_of || !r->row_of) return TS_OUT_OF_MEMORY;
  return collect(r, w, 0, d);
}

void ir_rows_deinit(ir_rows *r) {
  for (unsigned i = 0; i < r->leaves; i++) free(r->leaf[i].owned);
  free(r->leaf), free(r->leaf_of), free(r->row_of);
  *r = (ir_rows){0};
}

// Rows of a weight with a decoder for each leaf, made when first needed.
typedef struct row_source {
  ir_rows rows;
  ir_decoder *decoder;
} row_source;

static ts_status source_init(row_source *x, const ir_weight *w, ts_diags *d) {
  TS_TRY(ir_rows_init(&x->rows, w, d));
  x->decoder = calloc(x->rows.leaves, sizeof *x->decoder);
  return x->decoder ? TS_OK : TS_OUT_OF_MEMORY;
}

static void source_deinit(row_source *x) {
  for (unsigned i = 0; x->decoder && i < x->rows.leaves; i++)
    if (x->decoder[i].b) ir_decoder_deinit(&x->decoder[i]);
  free(x->decoder);
  ir_rows_deinit(&x->rows);
}

static void source_read(row_source *x, int64_t row, float *f32, double *f64) {
  unsigned leaf = x->rows.leaf_of[row];
  ir_decoder *dec = &x->decoder[leaf];
  if (!dec->b) ir_decoder_init(dec, &x->rows.leaf[leaf].weight->bound, x->rows.leaf[leaf].planes);
  if (f32) ir_decoder_f32(dec, x->rows.row_of[row], f32);
  else ir_decoder_f64(dec, x->rows.row_of[row], f64);
}

static ts_status decode(const ir_weight *w, int64_t row0, int64_t rows, ts_diags *d, float *f32, double *f64) {
  row_source x = {0};
  ts_status s = source_init(&x, w, d);
  int64_t k = w->bound.k;
  for (int64_t i = 0; s == TS_OK && i < rows && k; i++) source_read(&x, row0 + i, f32 ? f32 + i * k : NULL, f64 ? f64 + i * k : NULL);
  source_deinit(&x);
  return s;
}

static ts_status make_quantized(const ir_weight *w, ts_diags *d, ir_leaf *leaf) {
  const ir_bound *b = &w->bound;
  leaf->owned = calloc((size_t)b->bytes + 1, 1);
  if (!leaf->owned) return TS_OUT_OF_MEMORY;
  ir_planes_of(b, leaf->owned, leaf->planes);
  int64_t step = 1;   // rows that share a scale go together
  for (int i = 0; i < b->enc->fields; i++)
    if (b->view[i].per_n > step) step = b->view[i].per_n;
  while (step < 64 && step < b->rows) step *= 2;
  if (step >= b->rows) step = b->rows;
  if (!b->rows || !b->k) return TS_OK;
  row_source x = {0};
  ts_status s = source_init(&x, w->parts[0], d);
  float *values = malloc((size_t)step * (size_t)b->k * sizeof *values);
  if (!values) s = TS_OUT_OF_MEMORY;
  for (int64_t i = 0; s == TS_OK && i < b->rows; i += step) {
    int64_t n = b->rows - i < step ? b->rows - i : step;
    for (int64_t k = 0; k < n; k++) source_read(&x, i + k, values + k * b->k, NULL);
    s = ir_encode_rows(b, values, i, n, (void *const *)leaf->planes, w->loc, d);
  }
  free(values);
  source_deinit(&x);
  return s;
}

// Vectors end to end: each part is one row of whole bytes.
static ts_status make_concat(const ir_weight *w, ts_diags *d, ir_leaf *leaf) {
  char *to = leaf->owned = calloc((size_t)w->bound.bytes + 1, 1);
  if (!to) return TS_OUT_OF_MEMORY;
  leaf->planes[0] = to;
  for (unsigned i = 0; i < w->part_count; i++) {
    ir_rows r;
    ts_status s = ir_rows_init(&r, w->parts[i], d);
    size_t bytes = (size_t)w->parts[i]->bound.bytes;
    if (s == TS_OK && bytes) memcpy(to, r.leaf[r.leaf_of[0]].planes[0], bytes);
    to += bytes;
    ir_rows_deinit(&r);
    TS_TRY(s);
  }
  return TS_OK;
}

ts_status ir_weight_decode_f32(const ir_weight *w, int64_t row0, int64_t rows, ts_diags *d, float *out) {
  return decode(w, row0, rows, d, out, NULL);
}
ts_status ir_weight_decode_f64(const ir_weight *w, int64_t row0, int64_t rows, ts_diags *d, double *out) {
  return decode(w, row0, rows, d, NULL, out);
}

// ---- hash ---------------------------------------------------------------------------------------------------------------------------

// Rows of a field: their bytes where a row lies in one piece (and needs no masking), else its elements one by one.
static ts_status hash_field(XXH3_state_t *x, const ir_weight *w, const ir_rows *r, unsigned f) {
  const ir_view *v = &w->bound.view[f];
  uint64_t *row = malloc((size_t)(v->cols + 1) * sizeof *row);
  ir_cursor *cursor = calloc(r->leaves, sizeof *cursor);
  ts_status s = row && cursor ? TS_OK : TS_OUT_OF_MEMORY;
  for (int64_t i = 0; s == TS_OK && i < v->rows && v->cols; i++) {
    int64_t logical = i * v->per_n;
    unsigned leaf = r->leaf_of[logical];
    const ir_bound *b = &r->leaf[leaf].weight->bound;
    if (!cursor[leaf].bound) ir_cursor_init(&cursor[leaf], b, f);
    ir_cursor_read(&cursor[leaf], r->leaf[leaf].planes, r->row_of[logical] / b->view[f].per_n, row);
    XXH3_64bits_update(x, row, (size_t)v->cols * sizeof *row);
  }
  for (unsigned i = 0; cursor && i < r->leaves; i++) ir_cursor_deinit(&cursor[i]);
  free(cursor);
  free(row);
  return s;
}

static void hash_records(XXH3_state_t *x, const ir_weight *w, const ir_rows *r) {
  size_t bytes = w->bound.rows ? (size_t)(w->bound.plane_bytes[0] / w->bound.rows) : 0;
  for (int64_t i = 0; i < r->count; i++)
    XXH3_64bits_update(x, (const char *)r->leaf[r->leaf_of[i]].planes[0] + (size_t)r->row_of[i] * bytes, bytes);
}

ts_status ir_weight_hash(const ir_weight *w, ts_diags *d, uint64_t *out) {
  ir_rows r;
  XXH3_state_t *x = XXH3_createState();
  ts_text text = {0};
  ts_status s = ir_rows_init(&r, w, d);
  if (s == TS_OK && !x) s = TS_OUT_OF_MEMORY;
  if (s == TS_OK) {
    XXH3_64bits_reset(x);
    ir_encoding_print(w->encoding, &text);
    ts_text_printf(&text, " [%u]", w->rank);
    XXH3_64bits_update(x, text.data, text.len);
    XXH3_64bits_update(x, w->shape, w->rank * sizeof *w->shape);
    const ir_encoding *e = w->encoding;
    bool bytes = e->record || whole_bytes(e);
    if (bytes) hash_records(x, w, &r);
    for (unsigned f = 0; s == TS_OK && !bytes && f < e->fields; f++) s = hash_field(x, w, &r, f);
    *out = XXH3_64bits_digest(x);
  }
  ts_text_deinit(&text);
  XXH3_freeState(x);
  ir_rows_deinit(&r);
  return s;
}
