// What the text form derives from the op table, and the table as documentation.
#include "ir/text.h"

#include "ir/doc.h"
#include "ir/weights.h"

#include <strings.h>

bool ir_text_find_attr(ir_opcode op, ts_str name, ir_text_attr *out) {
  for (const char *row = ir_op_get(op)->attrs; ir_text_declared(&row, out);)
    if (ts_str_eq(out->name, name)) return true;
  return false;
}

bool ir_text_is_indexed(ir_opcode op) {
  ir_text_attr a;
  return ir_text_find_attr(op, TS_STR("at"), &a) && a.kind == IR_ATTR_AXES;
}

bool ir_text_takes_fn(ir_opcode op) {
  ir_text_attr a;
  return ir_text_find_attr(op, TS_STR("fn"), &a) && a.kind == IR_ATTR_FN;
}

bool ir_text_bare_attr(ir_opcode op, ts_sym name, ir_attr_kind kind) {
  ir_text_attr a;
  for (const char *row = ir_op_get(op)->attrs; ir_text_declared(&row, &a);)
    if (a.kind == kind) return ts_str_is(a.name, name);
  return false;
}

int ir_text_formula(ts_sym name) {
  static const char *const ids[] = {
#define IR_FORMULA(id, text) #id,
#include "ir/encodings.def"
#undef IR_FORMULA
  };
  for (int i = 0; i < IR_FORMULA_COUNT; i++) {
    if (strcasecmp(ids[i], name) == 0) return i;
    const char *text = ir_formula_text((ir_formula)i), *n = name;
    for (; *text && *n; text++)
      if (*text != ' ' && *text != *n++) break;
    if (!*text && !*n) return i;
  }
  return -1;
}

unsigned ir_text_formula_operands(int formula) { return formula == IR_FORMULA_PLAIN ? 1 : formula == IR_FORMULA_SCALED ? 2 : 3; }

const char *ir_text_encoding_name(const ir_encoding *e) { return e->name; }

// The content hash; of a weight without data (parse.c) what its text said, 0 when unknown.
static uint64_t weight_hash(const ir_weight *w) {
  if (w->source == IR_SOURCE_DATA && !w->planes[0]) return w->seed;
  ts_diags d;
  uint64_t h;
  ts_diags_init(&d);
  if (ir_weight_hash(w, &d, &h) != TS_OK) h = 0;
  ts_diags_deinit(&d);
  return h;
}

// A reference: name, shape, encoding, hash of the contents.
void ir_text_weight(const ir_module *m, const ir_weight *w, ts_text *out) {
  (void)m;
  ts_text_puts(out, "weight @");
  ir_text_name(out, w->name);
  ts_text_printf(out, " : %s", ir_dtype_name(w->encoding->value));
  for (unsigned i = 0; i < w->rank; i++) ts_text_printf(out, "%s%lld", i ? ", " : "[", (long long)w->shape[i]);
  if (w->rank) ts_text_putc(out, ']');
  ts_text_puts(out, " as ");
  ir_text_name(out, w->encoding->name);
  uint64_t hash = weight_hash(w);
  if (hash) ts_text_printf(out, " hash(0x%016llx)", (unsigned long long)hash);
  ts_text_putc(out, '\n');
}

// ---- documentation -------------------------------------------------------------------------------------------------------
static void doc_count(ts_text *out, int min, int max) {
  if (max < 0) ts_text_printf(out, "%d+", min);
  else if (min == max) ts_text_printf(out, "%d", min);
  else ts_text_printf(out, "%d-%d", min, max);
}

// Text of a Markdown table cell.
static void doc_cell(ts_text *out, const char *s) {
  for (; *s; s++) {
    if (*s == '|') ts_text_putc(out, '\\');
    ts_text_putc(out, *s);
  }
}

static void doc_op(ts_text *out, const ir_op_info *op) {
  ts_text_printf(out, "| `%s` | ", op->name);
  doc_count(out, op->operands_min, op->operands_max);
  ts_text_puts(out, " | ");
  doc_count(out, op->results_min, op->results_max);
  ts_text_printf(out, " | %d | ", op->regions);
  ir_text_attr a;
  bool any = false;
  static const char *const kinds[] = {"int", "real", "name", "type", "function", "axes", "ints", "size", "text"};
  for (const char *row = op->attrs; ir_text_declared(&row, &a); any = true)
    ts_text_printf(out, "%s`%.*s` %s%s", any ? ", " : "", TS_FMT(a.name), kinds[a.kind], a.optional ? " (optional)" : "");
  ts_text_puts(out, " | ");
  doc_cell(out, op->doc);
  ts_text_puts(out, " |\n");
}

void ir_doc_ops(ts_text *out) {
  static const struct {
    const char *levels, *title;
  } sections[] = {{"PS", "Portable and scheduled tile IR"},
                  {"P", "Portable tile IR only"},
                  {"S", "Scheduled tile IR only"},
                  {"T", "Tensor IR"}};
  ts_text_puts(out,
               "# Operations of the IR\n\nGenerated from `ir/ops.def` and `ir/scalars.def`. The text form is described in "
               "[ir.md](ir.md).\n");
  for (size_t s = 0; s < sizeof sections / sizeof *sections; s++) {
    ts_text_printf(out, "\n## %s\n\n| op | operands | results | regions | attributes | meaning |\n|---|---|---|---|---|---|\n",
                   sections[s].title);
    for (int i = 0; i < IR_OP_COUNT; i++)
      if (strcmp(ir_op_get((ir_opcode)i)->levels, sections[s].levels) == 0) doc_op(out, ir_op_get((ir_opcode)i));
  }
  ts_text_puts(out,
               "\n## Scalar operations of `apply` and `map`\n\n| operation | written | types | meaning |\n|---|---|---|---|\n");
  static const char *const rules[] = {"(T...) to T", "(T...) to i1", "(i1, T, T) to T", "any to the named type"};
  for (int i = 0; i < IR_SCALAR_PARAM; i++) {
    const ir_scalar_info *f = ir_scalar_get((ir_scalar)i);
    ts_text_printf(out, "| %s | `", f->name);
    if (f->syntax[0] && f->arity == 1) ts_text_printf(out, "%sa", f->syntax);
    else if (f->syntax[0]) ts_text_puts(out, "a "), doc_cell(out, f->syntax), ts_text_puts(out, " b");
    else ts_text_printf(out, "%s(%s)", f->name, f->arity == 1 ? "a" : f->arity == 2 ? "a, b" : "a, b, c");
    ts_text_printf(out, "` | %s | ", rules[f->rule]);
    doc_cell(out, f->doc);
    ts_text_puts(out, " |\n");
  }
}
