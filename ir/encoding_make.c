// Names of encodings, the affine family, and text for people (see encoding.h).
#include "ir/encoding.h"

#include <stdlib.h>

// ---- the affine family --------------------------------------------------------------------------------------------------------------

static ir_field plane_field(const char *name, ir_role role, ir_dtype type, unsigned bits, const int64_t per[2], unsigned plane, ir_digit_list layout) {
  return (ir_field){.name = name, .role = role, .type = type, .bits = (uint8_t)bits, .per_n = per[0], .per_k = per[1], .plane = (uint8_t)plane,
                    .layout_digits = layout.count, .layout = layout.digit};
}

ts_status ir_encoding_make(ts_arena *a, const ir_affine *p, ts_loc loc, ts_diags *d, const ir_encoding **out) {
  ir_field *field = ts_new_array(a, ir_field, 3);
  static const int64_t each[2] = {1, 1};
  bool plain = p->formula == IR_FORMULA_PLAIN;
  unsigned n = 0;
  ir_digit_list layout[3];
  for (int i = 0; i < 3; i++) {
    layout[i] = p->layout[i];
    if (layout[i].count) layout[i].digit = ts_arena_copy(a, layout[i].digit, layout[i].count * sizeof(ir_digit), _Alignof(ir_digit));
  }
  unsigned bits = p->code_bits ? p->code_bits : ir_dtype_bits(p->code);
  field[0] = plane_field("codes", IR_ROLE_CODE, p->code, bits, each, n++, layout[0]);
  field[0].bias = p->bias;
  if (p->table && bits <= 8) field[0].table = ts_arena_copy(a, p->table, sizeof(double) << bits, _Alignof(double));
  if (!plain) {
    field[1] = plane_field("scale", IR_ROLE_SCALE, p->scale, ir_dtype_bits(p->scale), p->scale_per, n++, layout[1]);
    if (p->formula == IR_FORMULA_ZERO)
      field[2] = plane_field("zero", IR_ROLE_ZERO, p->zero, p->zero == p->code ? bits : ir_dtype_bits(p->zero), p->zero_per, n++, layout[2]);
    else if (p->formula != IR_FORMULA_SCALED)
      field[2] = plane_field("min", IR_ROLE_MIN, p->zero, ir_dtype_bits(p->zero), p->zero_per, n++, layout[2]);
  }
  ir_encoding *e = ts_new(a, ir_encoding);
  *e = (ir_encoding){.name = p->name ? ts_arena_strdup(a, p->name) : "affine", .doc = "Codes, scales and zeros in planes of their own.",
                     .formula = p->formula, .value = plain ? p->code : IR_f32, .tail = p->tail, .planes = (uint8_t)n, .fields = (uint8_t)n,
                     .field = field};
  if (p->table && bits > 8) return ts_report(d, loc, &diag_bad_encoding, "%s: a codebook of %u bits; at most 8", e->name, bits);
  TS_TRY(ir_encoding_verify(e, loc, d));
  *out = e;
  return TS_OK;
}

// Takes `word` off the front of `*s`.
static bool take(ts_str *s, const char *word) {
  if (!ts_str_starts(*s, word)) return false;
  size_t n = strlen(word);
  *s = (ts_str){s->data + n, s->len - n};
  return true;
}

static bool take_number(ts_str *s, int64_t *out) {
  int64_t v = 0;
  size_t n = 0;
  while (n < s->len && n < 9 && s->data[n] >= '0' && s->data[n] <= '9') v = v * 10 + (s->data[n++] - '0');
  if (n == 0 || s->data[0] == '0') return false;
  *s = (ts_str){s->data + n, s->len - n};
  *out = v;
  return true;
}

// The options after the group, each at most once and in the order of the grammar, so that a name is canonical.
static bool take_options(ts_str *s, ir_affine *p) {
  p->scale = take(s, "_f32") ? IR_f32 : take(s, "_f16") ? IR_f16 : take(s, "_bf16") ? IR_bf16 : IR_f16;
  p->tail = take(s, "_pad") ? IR_TAIL_PAD : take(s, "_refuse") ? IR_TAIL_REFUSE : IR_TAIL_SHORT;
  if (s->len && take(s, "_")) {
    const ir_named_layout *l = ir_named_layout_find(*s);
    if (!l) return false;
    memcpy(p->layout, l->list, sizeof p->layout);
    s->len = 0;
  }
  return s->len == 0;
}

static const ir_encoding *find_affine(ts_arena *a, ts_str name) {
  ir_affine p = {0};
  ts_str s = name;
  bool is_signed = false;
  if (take(&s, "uint")) p.formula = IR_FORMULA_ZERO;
  else if (take(&s, "int")) p.formula = IR_FORMULA_SCALED, is_signed = true;
  else if (take(&s, "min")) p.formula = IR_FORMULA_MIN;
  else if (take(&s, "sub")) p.formula = IR_FORMULA_SUB;
  else return NULL;
  int64_t bits, group = 0, rows = 1;
  if (!take_number(&s, &bits) || bits < 1 || bits > 8 || (is_signed && bits < 2) || !take(&s, "_")) return NULL;
  if (take(&s, "row") || take(&s, "token") || take(&s, "channel")) group = 0;
  else if (take(&s, "tensor")) rows = 0;
  else if (!take(&s, "g") || !take_number(&s, &group)) return NULL;
  if (!take_options(&s, &p)) return NULL;
  bool exact = bits == 8 || bits == 4 || bits == 2;
  p.code = is_signed ? (!exact || bits == 8 ? IR_i8 : bits == 4 ? IR_i4 : IR_i2) : (!exact || bits == 8 ? IR_u8 : bits == 4 ? IR_u4 : IR_u2);
  p.code_bits = (uint8_t)bits;
  p.zero = p.formula == IR_FORMULA_ZERO ? p.code : p.scale;
  p.scale_per[0] = p.zero_per[0] = rows;
  p.scale_per[1] = p.zero_per[1] = group;
  p.name = ts_arena_strndup(a, name.data, name.len);
  ts_diags ignored;
  ts_diags_init(&ignored);
  const ir_encoding *e = NULL;
  ts_status status = ir_encoding_make(a, &p, (ts_loc){0}, &ignored, &e);
  ts_diags_deinit(&ignored);
  return status == TS_OK ? e : NULL;
}

const ir_encoding *ir_encoding_find(ts_arena *a, const ir_encoding_list *extra, ts_str name) {
  for (size_t i = 0; extra && i < extra->count; i++)
    if (ts_str_is(name, extra->list[i]->name)) return extra->list[i];
  for (size_t i = 0; i < ir_encoding_count(); i++)
    if (ts_str_is(name, ir_encoding_at(i)->name)) return ir_encoding_at(i);
  return find_affine(a, name);
}

ts_status ir_encoding_of_name(ts_arena *a, const ir_encoding_list *extra, ts_str name, ts_loc loc, ts_diags *d, const ir_encoding **out) {
  *out = ir_encoding_find(a, extra, name);
  if (*out) return TS_OK;
  size_t count = ir_encoding_count(), more = extra ? extra->count : 0;
  const char **names = malloc((count + more + 4) * sizeof *names);
  if (!names) return TS_OUT_OF_MEMORY;
  for (size_t i = 0; i < count; i++) names[i] = ir_encoding_at(i)->name;
  for (size_t i = 0; i < more; i++) names[count + i] = extra->list[i]->name;
  static const char *const examples[] = {"int4_g64", "int8_g128", "uint4_g128", "int8_row"};
  memcpy(names + count + more, examples, sizeof examples);
  const char *near = ts_nearest(name, names, count + more + 4);
  free(names);
  ts_status s = ts_report(d, loc, &diag_unknown_encoding, "no encoding is called '%.*s'%s%s%s", TS_FMT(name), near ? "; did you mean '" : "",
                          near ? near : "", near ? "'?" : "");
  if (!near) ts_note(d, loc, "encodings of the affine family are written like int4_g64, uint4_g128, int8_row_f32");
  return s;
}

// ---- text -----------------------------------------------------------------------------------------------------------------------------

static void print_layout(const ir_field *f, ts_text *out) {
  ts_text_puts(out, " at {");
  for (int i = 0; i < f->layout_digits; i++) {
    ir_digit g = f->layout[i];
    const char *axis = g.axis ? "k" : "n";
    if (i) ts_text_puts(out, ", ");
    if (g.divisor != 1 && g.radix) ts_text_printf(out, "(%s/%lld)%%%lld", axis, (long long)g.divisor, (long long)g.radix);
    else if (g.divisor != 1) ts_text_printf(out, "%s/%lld", axis, (long long)g.divisor);
    else if (g.radix) ts_text_printf(out, "%s%%%lld", axis, (long long)g.radix);
    else ts_text_puts(out, axis);
  }
  ts_text_putc(out, '}');
}

static void print_per(int64_t n, ts_text *out) {
  if (n) ts_text_printf(out, "%lld", (long long)n);
  else ts_text_puts(out, "all");
}

void ir_encoding_print(const ir_encoding *e, ts_text *out) {
  ts_text_printf(out, "%s: ", e->name);
  const char *text = ir_formula_text(e->formula);
  if (e->field[0].table) ts_text_printf(out, "codebook[code]%s", text + strlen("code"));
  else ts_text_puts(out, text);
  for (int i = 0; i < e->fields; i++) {
    const ir_field *f = &e->field[i];
    ts_text_printf(out, "; %s %s", f->name, ir_dtype_name(f->type));
    if (f->bits != ir_dtype_bits(f->type)) ts_text_printf(out, " of %u bits", f->bits);
    if (f->bias) ts_text_printf(out, " minus %d", f->bias);
    if (i) {
      ts_text_puts(out, " per [");
      print_per(f->per_n, out);
      ts_text_puts(out, ", ");
      print_per(f->per_k, out);
      ts_text_putc(out, ']');
    }
    if (f->layout_digits) print_layout(f, out);
  }
  if (e->record) ts_text_printf(out, "; %u elements in %u bytes", e->record, e->record_bytes);
  else if (e->formula != IR_FORMULA_PLAIN)
    ts_text_printf(out, "; tail %s", e->tail == IR_TAIL_SHORT ? "short" : e->tail == IR_TAIL_PAD ? "pad" : "refuse");
}

void ir_encodings_doc(ts_text *out) {
  ts_text_puts(out, "| name | value | elements, bytes | bits per value | |\n| --- | --- | --- | --- | --- |\n");
  for (size_t i = 0; i < ir_encoding_count(); i++) {
    const ir_encoding *e = ir_encoding_at(i);
    double bits = e->record ? e->record_bytes * 8.0 / e->record : e->field[0].bits;
    ts_text_printf(out, "| `%s` | `%s` | ", e->name, ir_formula_text(e->formula));
    if (e->record) ts_text_printf(out, "%u, %u", e->record, e->record_bytes);
    ts_text_printf(out, " | %g | %s |\n", bits, e->doc);
  }
}
