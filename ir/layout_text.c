// Layouts (see layout.h): the text form, whose grammar is docs/layouts.md.
#include "base/checked.h"
#include "ir/layout_make.h"

// ---- printing -----------------------------------------------------------------------------------------------------------

static void print_term(const ir_layout *l, const ir_layout_digit *g, const ir_layout_term *t, ts_text *out) {
  const ir_layout_space *x = &l->axes[t->axis];
  bool open = ts_ceil_div(x->size, t->divisor) == g->radix;   // the radix follows from the axis
  if (t->divisor == 1) ts_text_puts(out, x->name);
  else ts_text_printf(out, open ? "%s/%lld" : "(%s/%lld)", x->name, (long long)t->divisor);
  if (!open) ts_text_printf(out, "%%%lld", (long long)g->radix);
}

// The digits of one dimension, outermost first. *out_extent is where the list alone would put the dimension's size.
static void print_list(const ir_layout *l, uint32_t dim, ts_text *out, int64_t *out_extent) {
  int64_t top = 1;
  bool first = true;
  for (uint32_t i = 0; i < l->digit_count; i++)
    if (l->digits[i].dim == dim) top = l->digits[i].stride * l->digits[i].radix;
  *out_extent = top;
  for (uint32_t i = l->digit_count; i-- > 0;) {
    const ir_layout_digit *g = &l->digits[i];
    if (g->dim != dim) continue;
    ts_text_puts(out, first ? "" : ", ");
    first = false;
    if (g->count == 0) ts_text_printf(out, "rep(%lld)", (long long)g->radix);
    for (uint32_t t = 0; t < g->count; t++) {
      if (t) ts_text_putc(out, '^');
      print_term(l, g, &g->terms[t], out);
    }
    const ir_layout_digit *below = i > 0 && l->digits[i - 1].dim == dim ? &l->digits[i - 1] : NULL;
    if (g->stride != (below ? below->stride * below->radix : 1)) ts_text_printf(out, ", pitch(%lld)", (long long)g->stride);
  }
}

void ir_layout_print_digits(const ir_layout *l, ts_text *out) {
  int64_t extent;
  ts_text list = {0};
  bool plain = l->dim_count == 1 && strcmp(l->dims[0].name, "pos") == 0;
  if (plain) {
    print_list(l, 0, &list, &extent);
    plain = extent == l->dims[0].size && list.len;
  }
  if (plain) ts_text_add(out, ts_text_str(&list));
  else {
    ts_text_putc(out, '{');
    for (uint32_t i = 0; i < l->dim_count; i++) {
      ts_text_clear(&list);
      print_list(l, i, &list, &extent);
      ts_text_puts(out, i ? "; " : "");
      ts_text_puts(out, l->dims[i].name);
      if (extent != l->dims[i].size) ts_text_printf(out, "=%lld", (long long)l->dims[i].size);
      ts_text_putc(out, ':');
      if (list.len) ts_text_printf(out, " %s", ts_text_z(&list));
    }
    ts_text_putc(out, '}');
  }
  ts_text_deinit(&list);
}

void ir_layout_print(const ir_layout *l, ts_text *out) {
  ts_text_putc(out, '[');
  for (uint32_t i = 0; i < l->axis_count; i++)
    ts_text_printf(out, "%s%s:%lld", i ? ", " : "", l->axes[i].name, (long long)l->axes[i].size);
  ts_text_puts(out, "] ");
  ir_layout_print_digits(l, out);
}

// ---- parsing ------------------------------------------------------------------------------------------------------------

typedef struct parser {
  ts_str text;
  size_t at;
  layout_draft draft;
  TS_VEC(ir_layout_space) given;   // sizes of axes
  ts_diags *d;
  ts_loc loc;
} parser;

// One item of a digit list while its dimension is parsed: outermost first, strides not known yet.
typedef struct item {
  enum { ITEM_DIGIT, ITEM_PITCH } kind;
  int64_t radix;     // of the digit; the pitch
  uint32_t count;
  ir_layout_term terms[IR_LAYOUT_MAX_TERMS];
  ts_loc loc;
} item;

enum { MAX_ITEMS = 64, MAX_NAME = 100 };

static ts_loc here(const parser *p) {
  ts_loc l = p->loc;
  if (l.col) l.col += (uint32_t)p->at;
  return l;
}

static char peek(parser *p) {
  while (p->at < p->text.len && strchr(" \t\n\r", p->text.data[p->at]) && p->text.data[p->at]) p->at++;
  return p->at < p->text.len ? p->text.data[p->at] : 0;
}

static bool take(parser *p, char c) {
  if (p->at >= p->text.len || peek(p) != c || p->at >= p->text.len) return false;
  p->at++;
  return true;
}

static ts_status syntax(parser *p, const char *wanted) {
  char c = peek(p);
  if (p->at >= p->text.len)
    return ts_report(p->d, here(p), &diag_layout_syntax, "the layout ends where %s should follow", wanted);
  return ts_report(p->d, here(p), &diag_layout_syntax, "expected %s, found '%c'", wanted, c >= ' ' && c < 127 ? c : '?');
}

static ts_status expect(parser *p, char c) {
  char wanted[] = {'\'', c, '\'', 0};
  return take(p, c) ? TS_OK : syntax(p, wanted);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c, bool first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && is_digit(c));
}

static ts_status parse_number(parser *p, int64_t *out) {
  if (!is_digit(peek(p))) return syntax(p, "a number");
  *out = 0;
  ts_loc at = here(p);
  for (; p->at < p->text.len && is_digit(p->text.data[p->at]); p->at++)
    *out = *out > IR_LAYOUT_MAX_SIZE / 10 ? IR_LAYOUT_MAX_SIZE + 1 : *out * 10 + (p->text.data[p->at] - '0');
  if (*out < 1 || *out > IR_LAYOUT_MAX_SIZE) return ts_report(p->d, at, &diag_layout_syntax, "the number must be 1 .. 2^60");
  return TS_OK;
}

static ts_status parse_name(parser *p, const char *wanted, const char **out) {
  if (!is_name(peek(p), true)) return syntax(p, wanted);
  size_t from = p->at;
  while (p->at < p->text.len && is_name(p->text.data[p->at], false)) p->at++;
  if (p->at - from > MAX_NAME)
    return ts_report(p->d, here(p), &diag_layout_syntax, "a name is longer than %d characters", MAX_NAME);
  *out = ts_arena_strndup(p->draft.arena, p->text.data + from, p->at - from);
  return TS_OK;
}

// term := axis ['/' number] ['%' number] | '(' axis '/' number ')' '%' number
static ts_status parse_term(parser *p, item *it) {
  const char *name;
  ts_loc at = here(p);
  bool paren = take(p, '(');
  TS_TRY(parse_name(p, "a digit: the name of an axis, '(', rep or pitch", &name));
  if (it->count == 0 && !paren && (strcmp(name, "rep") == 0 || strcmp(name, "pitch") == 0) && peek(p) == '(') {
    it->kind = name[0] == 'r' ? ITEM_DIGIT : ITEM_PITCH;
    p->at++;
    TS_TRY(parse_number(p, &it->radix));
    return expect(p, ')');
  }
  int64_t divisor = 1, radix = 0;
  if (take(p, '/')) TS_TRY(parse_number(p, &divisor));
  if (paren) TS_TRY(expect(p, ')'));
  if (take(p, '%')) TS_TRY(parse_number(p, &radix));
  int axis = layout_draft_axis(&p->draft, name);
  if (axis < 0) return ts_report(p->d, at, &diag_layout_large, "a layout has at most %d axes", IR_LAYOUT_MAX_SPACES);
  ir_layout_space *x = &p->draft.axes.data[axis];
  for (size_t i = 0; x->size == 0 && i < p->given.count; i++)
    if (strcmp(p->given.data[i].name, name) == 0) x->size = p->given.data[i].size;
  if (radix == 0 && x->size == 0)
    return ts_report(p->d, at, &diag_layout_unsized, "the digit of %s has no radix (%%), and the size of %s is not given", name,
                     name);
  if (radix == 0) radix = ts_ceil_div(x->size, divisor);
  if (it->count == IR_LAYOUT_MAX_TERMS)
    return ts_report(p->d, at, &diag_layout_large, "an xor of more than %d digits", IR_LAYOUT_MAX_TERMS);
  if (it->count && it->radix != radix)
    return ts_report(p->d, at, &diag_layout_xor, "an xor of digits with radix %lld and %lld", (long long)it->radix,
                     (long long)radix);
  it->radix = radix;
  it->terms[it->count++] = (ir_layout_term){(uint32_t)axis, divisor};
  return TS_OK;
}

// list := item {',' item}; item := term {'^' term} | 'rep(' number ')' | 'pitch(' number ')'
static ts_status parse_list(parser *p, uint32_t dim) {
  item items[MAX_ITEMS];
  uint32_t n = 0;
  do {
    if (n == MAX_ITEMS) return ts_report(p->d, here(p), &diag_layout_large, "a dimension has at most %d digits", MAX_ITEMS);
    item *it = &items[n++];
    *it = (item){.loc = here(p)};
    TS_TRY(parse_term(p, it));
    while (it->count && take(p, '^')) {
      if (peek(p) != '(' && !is_name(peek(p), true)) return syntax(p, "a digit after '^'");
      TS_TRY(parse_term(p, it));
    }
  } while (take(p, ','));
  int64_t extent = 1, reach = 0;   // of what lies to the right
  for (uint32_t i = n; i-- > 0;) {
    const item *it = &items[i];
    if (it->kind == ITEM_PITCH) {
      if (it->radix <= reach)
        return ts_report(p->d, it->loc, &diag_layout_overlap, "pitch(%lld), but the digits to its right reach %lld",
                         (long long)it->radix, (long long)reach);
      extent = it->radix;
      continue;
    }
    layout_draft_digit(&p->draft, dim, extent, it->radix, it->terms, it->count);
    int64_t step;
    if (!ts_mul_i64(extent, it->radix - 1, &step) || !ts_add_i64(reach, step, &reach) ||
        !ts_mul_i64(extent, it->radix, &extent) || extent > IR_LAYOUT_MAX_SIZE)
      return ts_report(p->d, it->loc, &diag_layout_large, "the digits take more than 2^60 positions");
  }
  if (p->draft.dims.data[dim].size == 0) p->draft.dims.data[dim].size = extent;
  return TS_OK;
}

// axes := '[' [axis ':' number {',' axis ':' number}] ']'
static ts_status parse_axes(parser *p) {
  if (take(p, ']')) return TS_OK;
  do {
    const char *name;
    ts_loc at = here(p);
    TS_TRY(parse_name(p, "the name of an axis", &name));
    TS_TRY(expect(p, ':'));
    size_t before = p->draft.axes.count;
    int axis = layout_draft_axis(&p->draft, name);
    if (axis < 0) return ts_report(p->d, at, &diag_layout_large, "a layout has at most %d axes", IR_LAYOUT_MAX_SPACES);
    if (p->draft.axes.count == before) return ts_report(p->d, at, &diag_layout_syntax, "axis %s is given twice", name);
    TS_TRY(parse_number(p, &p->draft.axes.data[axis].size));
  } while (take(p, ','));
  return expect(p, ']');
}

// body := list | '{' dim ['=' number] ':' [list] {';' ...} '}'
static ts_status parse_body(parser *p) {
  if (!take(p, '{')) {
    (void)layout_draft_dim(&p->draft, "pos");
    return parse_list(p, 0);
  }
  if (take(p, '}')) return TS_OK;
  do {
    const char *name;
    ts_loc at = here(p);
    TS_TRY(parse_name(p, "the name of a dimension", &name));
    size_t before = p->draft.dims.count;
    int dim = layout_draft_dim(&p->draft, name);
    if (dim < 0) return ts_report(p->d, at, &diag_layout_large, "a layout has at most %d dimensions", IR_LAYOUT_MAX_SPACES);
    if (p->draft.dims.count == before) return ts_report(p->d, at, &diag_layout_syntax, "dimension %s is given twice", name);
    if (take(p, '=')) TS_TRY(parse_number(p, &p->draft.dims.data[dim].size));
    TS_TRY(expect(p, ':'));
    char c = peek(p);
    if (c == ';' || c == '}') {
      if (p->draft.dims.data[dim].size == 0) p->draft.dims.data[dim].size = 1;
    } else {
      TS_TRY(parse_list(p, (uint32_t)dim));
    }
  } while (take(p, ';'));
  return expect(p, '}');
}

ts_status ir_layout_parse(ts_arena *a, ts_str text, const ir_layout_space *axes, uint32_t axis_count, ts_diags *d, ts_loc loc,
                          const ir_layout **out) {
  parser p = {.text = text, .draft = {.arena = a}, .d = d, .loc = loc};
  for (uint32_t i = 0; i < axis_count; i++) ts_vec_push(a, &p.given, axes[i]);
  if (take(&p, '[')) TS_TRY(parse_axes(&p));
  TS_TRY(parse_body(&p));
  peek(&p);
  if (p.at < text.len) return syntax(&p, "the end");
  return layout_draft_make(&p.draft, d, loc, out);
}

// ---- fragments ----------------------------------------------------------------------------------------------------------

const ir_fragment_row ir_fragments[] = {
#define IR_FRAGMENT(name, text) {name, text},
#include "ir/fragments.def"
#undef IR_FRAGMENT
    {NULL, NULL}};

const ir_layout *ir_layout_fragment(ts_arena *a, const char *name) {
  for (const ir_fragment_row *r = ir_fragments; r->name; r++) {
    const ir_layout *l;
    if (strcmp(r->name, name) == 0 && ir_layout_parse(a, ts_str_of(r->text), NULL, 0, NULL, (ts_loc){0}, &l) == TS_OK) return l;
  }
  return NULL;
}
