// Launch IR: the text form. One item a line; what it looks like is easiest seen in print order below. Names are written bare
// where they are words (letters, digits, _ . - $), else quoted. Comments run from // to the end of the line.
//
//   launch @llama for host {
//     dim @seq : 1 .. 2048 step 1 per @batch
//     weight @w0 : 4096 hash 0x00000000000000ff
//     state @kv rows @batch length 2048 page 16 { list @full full  pool @k list @full layers 30 bytes 3072 type "f32[3, 64]" }
//     kernel @add(2 pointers, 1 sizes) { raise "index out of range" loc("f.yaml":3:5) }
//     function @f(%x : f32[seq]) -> (%y : f32[seq]) {
//       buffer %t = workspace [4 * seq] steps 0 .. 1
//       launch @add grid [seq ceildiv 64, 1, 1] args(%x, %t + [64]) sizes [seq] loc("f.yaml":9:3)
//     }
//   }
#include "ir/launch.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

static const struct {
  const char *text;
  bool infix;
} op_text[IR_L_COUNT] = {
#define IR_LAUNCH_LEAF(id, text, args) [IR_L_##id] = {text, false},
#define IR_LAUNCH_OP(id, text, infix) [IR_L_##id] = {text, infix},
#include "ir/launch.def"
#undef IR_LAUNCH_LEAF
#undef IR_LAUNCH_OP
};

static const char *const buffer_text[] = {
#define IR_LAUNCH_BUFFER(id, args) #id,
#include "ir/launch.def"
#undef IR_LAUNCH_BUFFER
};

static const char *const list_text[] = {"full"};

// --- Printer -----------------------------------------------------------------------------------------------------------

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-' || c == '$'; }

static bool is_word(const char *z) {
  if (!isalpha((unsigned char)*z) && *z != '_') return false;
  for (; *z; z++)
    if (!word_char(*z)) return false;
  return true;
}

static bool reserved_in_expr(const char *z) {
  for (int i = 0; i < IR_L_COUNT; i++)
    if (op_text[i].text && strcmp(op_text[i].text, z) == 0) return true;
  return false;
}

// Only quote, backslash and control characters are escaped: a string is bytes.
static void print_string(ts_text *t, const char *z) {
  ts_text_putc(t, '"');
  for (; *z; z++) {
    unsigned char c = (unsigned char)*z;
    if (c == '"' || c == '\\') ts_text_printf(t, "\\%c", c);
    else if (c < 32 || c == 127) ts_text_printf(t, "\\x%02x", c);
    else ts_text_putc(t, (char)c);
  }
  ts_text_putc(t, '"');
}

static void print_name(ts_text *t, char sigil, ts_sym name) {
  if (sigil) ts_text_putc(t, sigil);
  if (is_word(name) && (sigil || !reserved_in_expr(name))) ts_text_puts(t, name);
  else print_string(t, name);
}

static void print_loc(ts_text *t, ts_loc loc) {
  if (!loc.file) return;
  ts_text_puts(t, " loc(");
  print_string(t, loc.file);
  if (loc.line) ts_text_printf(t, ":%u:%u", loc.line, loc.col);
  else if (loc.offset) ts_text_printf(t, ":0x%" PRIx64, loc.offset);
  ts_text_putc(t, ')');
}

static void print_expr(const ir_lfunction *f, ir_lexpr e, bool nested, ts_text *t) {
  const ir_launch *p = f->program;
  const ir_lnode *n = &f->nodes.data[e];
  switch (n->op) {
    case IR_L_const: ts_text_printf(t, "%" PRId64, n->value); return;
    case IR_L_dim: print_name(t, 0, p->dims.data[n->a].name); return;
    case IR_L_longest:
    case IR_L_total:
      ts_text_printf(t, "%s(", op_text[n->op].text);
      print_name(t, 0, p->dims.data[n->a].name);
      ts_text_putc(t, ')');
      return;
    case IR_L_length:
    case IR_L_pages:
    case IR_L_width:
      ts_text_printf(t, "%s(", op_text[n->op].text);
      print_name(t, 0, p->states.data[n->a]->name);
      if (n->op != IR_L_length) {
        ts_text_puts(t, ", ");
        print_name(t, 0, p->states.data[n->a]->lists.data[n->b].name);
      }
      ts_text_putc(t, ')');
      return;
    default: break;
  }
  if (!op_text[n->op].infix) {
    ts_text_printf(t, "%s(", op_text[n->op].text);
    print_expr(f, n->a, false, t);
    ts_text_puts(t, ", ");
    print_expr(f, n->b, false, t);
    ts_text_putc(t, ')');
    return;
  }
  if (nested) ts_text_putc(t, '(');
  print_expr(f, n->a, true, t);
  ts_text_printf(t, " %s ", op_text[n->op].text);
  print_expr(f, n->b, true, t);
  if (nested) ts_text_putc(t, ')');
}

void ir_launch_print_expr(const ir_lfunction *f, ir_lexpr e, ts_text *out) { print_expr(f, e, false, out); }

static void print_exprs(const ir_lfunction *f, const ir_lexpr *e, size_t count, ts_text *t) {
  ts_text_putc(t, '[');
  for (size_t i = 0; i < count; i++) {
    if (i) ts_text_puts(t, ", ");
    print_expr(f, e[i], false, t);
  }
  ts_text_putc(t, ']');
}

static void print_arg(const ir_lfunction *f, ir_larg a, ts_text *t) {
  print_name(t, '%', f->buffers.data[a.buffer].name);
  if (a.offset == IR_LNONE) return;
  ts_text_puts(t, " + ");
  print_exprs(f, &a.offset, 1, t);
}

static void print_values(const ir_lfunction *f, bool outputs, ts_text *t) {
  ts_text_putc(t, '(');
  bool first = true;
  for (size_t i = 0; i < f->values.count; i++) {
    const ir_lvalue *v = &f->values.data[i];
    if (v->output != outputs) continue;
    if (!first) ts_text_puts(t, ", ");
    first = false;
    print_name(t, '%', v->name);
    ts_text_printf(t, " : %s", ir_dtype_name(v->type));
    print_exprs(f, v->shape, v->rank, t);
    if (v->encoding) {
      ts_text_puts(t, " as ");
      print_string(t, v->encoding);
    }
    if (v->bytes != IR_LNONE) {
      ts_text_puts(t, " bytes ");
      print_exprs(f, &v->bytes, 1, t);
    }
    print_loc(t, v->loc);
  }
  ts_text_putc(t, ')');
}

static void print_buffer(const ir_lfunction *f, const ir_lbuffer *b, ts_text *t) {
  const ir_launch *p = f->program;
  ts_text_puts(t, "    buffer ");
  print_name(t, '%', b->name);
  ts_text_printf(t, " = %s", buffer_text[b->kind]);
  switch (b->kind) {
    case IR_LB_input:
    case IR_LB_output: ts_text_printf(t, " %u", b->a); break;
    case IR_LB_weight: ts_text_putc(t, ' '), print_name(t, '@', p->weights.data[b->a].name); break;
    case IR_LB_ragged: ts_text_putc(t, ' '), print_name(t, '@', p->dims.data[b->a].name); break;
    case IR_LB_workspace:
      ts_text_putc(t, ' ');
      print_exprs(f, &b->bytes, 1, t);
      ts_text_printf(t, " steps %u .. %u", b->first, b->last);
      break;
    case IR_LB_pool:
    case IR_LB_table:
    case IR_LB_length: {
      const ir_lstate *s = p->states.data[b->a];
      ts_text_putc(t, ' '), print_name(t, '@', s->name);
      if (b->kind == IR_LB_pool) ts_text_putc(t, ' '), print_name(t, '@', s->pools.data[b->b].name);
      if (b->kind == IR_LB_table) ts_text_putc(t, ' '), print_name(t, '@', s->lists.data[b->b].name);
      break;
    }
    default: break;
  }
  ts_text_putc(t, '\n');
}

static void print_variant(const ir_lfunction *f, const ir_lvariant *v, ts_text *t) {
  if (v->guard != IR_LNONE) {
    ts_text_puts(t, " when ");
    print_exprs(f, &v->guard, 1, t);
  }
  ts_text_putc(t, ' ');
  print_name(t, '@', f->program->kernels.data[v->kernel]->name);
  ts_text_puts(t, " grid ");
  print_exprs(f, v->grid, 3, t);
  ts_text_puts(t, " args(");
  for (size_t i = 0; i < v->args.count; i++) {
    if (i) ts_text_puts(t, ", ");
    print_arg(f, v->args.data[i], t);
  }
  ts_text_puts(t, ") sizes ");
  print_exprs(f, v->sizes.data, v->sizes.count, t);
}

static void print_step(const ir_lfunction *f, const ir_lstep *s, ts_text *t) {
  ts_text_puts(t, "    ");
  switch (s->kind) {
    case IR_LS_launch:
      ts_text_puts(t, "launch");
      for (size_t i = 0; i < s->variants.count; i++) {
        if (i) ts_text_puts(t, "\n      else");
        print_variant(f, &s->variants.data[i], t);
      }
      break;
    case IR_LS_copy:
      ts_text_puts(t, "copy ");
      print_arg(f, s->dst, t);
      ts_text_puts(t, " from ");
      print_arg(f, s->src, t);
      ts_text_puts(t, " bytes ");
      print_exprs(f, &s->bytes, 1, t);
      break;
    case IR_LS_fill:
      ts_text_puts(t, "fill ");
      print_arg(f, s->dst, t);
      ts_text_printf(t, " with 0x%08x bytes ", s->pattern);
      print_exprs(f, &s->bytes, 1, t);
      break;
    case IR_LS_require:
      ts_text_puts(t, "require ");
      print_exprs(f, &s->condition, 1, t);
      ts_text_putc(t, ' ');
      print_string(t, s->text);
      break;
    case IR_LS_advance:
      ts_text_puts(t, "advance ");
      print_name(t, '@', f->program->states.data[s->state]->name);
      ts_text_puts(t, " by ");
      if (s->dim != IR_LNONE) print_name(t, '@', f->program->dims.data[s->dim].name);
      else print_exprs(f, &s->by, 1, t);
      break;
  }
  print_loc(t, s->loc);
  ts_text_putc(t, '\n');
}

static void print_shared(const ir_launch *p, ts_text *t) {
  for (size_t i = 0; i < p->dims.count; i++) {
    const ir_ldim *d = &p->dims.data[i];
    ts_text_puts(t, "  dim "), print_name(t, '@', d->name);
    ts_text_printf(t, " : %" PRId64 " .. %" PRId64, d->min, d->max);
    if (d->step != 1) ts_text_printf(t, " step %" PRId64, d->step);
    if (d->per != IR_LNONE) ts_text_puts(t, " per "), print_name(t, '@', p->dims.data[d->per].name);
    ts_text_putc(t, '\n');
  }
  for (size_t i = 0; i < p->weights.count; i++) {
    const ir_lweight *w = &p->weights.data[i];
    ts_text_puts(t, "  weight "), print_name(t, '@', w->name);
    ts_text_printf(t, " : %" PRIu64 " hash 0x%016" PRIx64 "\n", w->bytes, w->hash);
  }
  for (size_t i = 0; i < p->states.count; i++) {
    const ir_lstate *s = p->states.data[i];
    ts_text_puts(t, "  state "), print_name(t, '@', s->name);
    ts_text_puts(t, " rows "), print_name(t, '@', p->dims.data[s->rows].name);
    ts_text_printf(t, " length %" PRId64 " page %u {\n", s->max_length, s->page);
    for (size_t k = 0; k < s->lists.count; k++) {
      ts_text_puts(t, "    list "), print_name(t, '@', s->lists.data[k].name);
      ts_text_printf(t, " %s\n", list_text[s->lists.data[k].kind]);
    }
    for (size_t k = 0; k < s->pools.count; k++) {
      const ir_lpool *q = &s->pools.data[k];
      ts_text_puts(t, "    pool "), print_name(t, '@', q->name);
      ts_text_puts(t, " list "), print_name(t, '@', s->lists.data[q->list].name);
      ts_text_printf(t, " layers %u bytes %" PRIu64 "%s type ", q->layers, q->page_bytes, q->zero ? " zero" : "");
      print_string(t, q->type), ts_text_putc(t, '\n');
    }
    ts_text_puts(t, "  }\n");
  }
  for (size_t i = 0; i < p->kernels.count; i++) {
    const ir_lkernel *k = p->kernels.data[i];
    ts_text_puts(t, "  kernel "), print_name(t, '@', k->name);
    ts_text_printf(t, "(%u pointers, %u sizes)", k->pointers, k->sizes);
    if (k->raises.count) ts_text_puts(t, " {");
    ts_text_putc(t, '\n');
    for (size_t r = 0; r < k->raises.count; r++) {
      ts_text_puts(t, "    raise ");
      print_string(t, k->raises.data[r].text);
      print_loc(t, k->raises.data[r].loc), ts_text_putc(t, '\n');
    }
    if (k->raises.count) ts_text_puts(t, "  }\n");
  }
}

void ir_launch_print(const ir_launch *p, ts_text *out) {
  ts_text_puts(out, "launch "), print_name(out, '@', p->name);
  ts_text_puts(out, " for "), print_name(out, 0, p->device_class);
  ts_text_puts(out, " {\n");
  print_shared(p, out);
  for (size_t i = 0; i < p->functions.count; i++) {
    const ir_lfunction *f = p->functions.data[i];
    ts_text_puts(out, "  function "), print_name(out, '@', f->name);
    print_values(f, false, out);
    ts_text_puts(out, " -> ");
    print_values(f, true, out);
    print_loc(out, f->loc);
    ts_text_puts(out, " {\n");
    for (size_t k = 0; k < f->buffers.count; k++) print_buffer(f, &f->buffers.data[k], out);
    for (size_t k = 0; k < f->steps.count; k++) print_step(f, &f->steps.data[k], out);
    ts_text_puts(out, "  }\n");
  }
  ts_text_puts(out, "}\n");
}

// --- Parser ------------------------------------------------------------------------------------------------------------

enum { T_END, T_WORD, T_INT, T_STRING, T_PUNCT };   // T_PUNCT: `c` is the character; two-character ones are coded below
enum { P_RANGE = 256, P_ARROW, P_LE, P_EQ, P_NE };
enum { DEPTH = 100 };

typedef struct parser {
  ir_launch *p;
  ir_lfunction *f;
  ts_arena *a;
  ts_interner *names;
  ts_diags *d;
  ts_sym file;
  const char *at, *end, *line_start;
  uint32_t line;
  int kind, punct;
  ts_sym text;         // of a word or string
  uint64_t number;
  ts_loc loc;          // of the token
  unsigned depth;
  ts_status status;
} parser;

static bool error(parser *s, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool error(parser *s, const ts_diag_kind *kind, const char *fmt, ...) {
  if (s->status == TS_OK) {
    va_list ap;
    va_start(ap, fmt);
    s->status = ts_vreport(s->d, s->loc, kind, fmt, ap);
    va_end(ap);
  }
  s->kind = T_END;   // nothing further matches, so the descent unwinds
  return false;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

static void lex_string(parser *s) {
  ts_text t = {0};
  bool closed = false;
  s->at++;
  while (s->at < s->end && *s->at != '\n') {
    char c = *s->at++;
    if (c == '"') {
      closed = true;
      break;
    }
    if (c == 0) break;
    if (c == '\\') {
      if (s->at < s->end && (*s->at == '"' || *s->at == '\\')) c = *s->at++;
      else if (s->end - s->at >= 3 && *s->at == 'x' && hex_digit(s->at[1]) >= 0 && hex_digit(s->at[2]) >= 0) {
        c = (char)(hex_digit(s->at[1]) * 16 + hex_digit(s->at[2]));
        s->at += 3;
      } else break;
      if (c == 0) break;
    }
    ts_text_putc(&t, c);
  }
  if (closed) {
    s->kind = T_STRING;
    s->text = ts_intern(s->names, ts_text_str(&t));
  } else {
    error(s, &diag_launch_syntax, "a string that does not end on its line, or a bad escape");
  }
  ts_text_deinit(&t);
}

static void lex_number(parser *s) {
  int base = 10;
  uint64_t v = 0;
  if (s->end - s->at > 2 && s->at[0] == '0' && s->at[1] == 'x') base = 16, s->at += 2;
  bool any = false, overflow = false;
  for (; s->at < s->end; s->at++) {
    int digit = hex_digit(*s->at);
    if (digit < 0 || digit >= base) break;
    overflow |= __builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, (uint64_t)digit, &v);
    any = true;
  }
  if (!any || overflow) {
    error(s, &diag_launch_syntax, "a number that is malformed or over 64 bits");
    return;
  }
  s->kind = T_INT;
  s->number = v;
}

static void next(parser *s) {
  if (s->status != TS_OK) return;
  for (;;) {
    while (s->at < s->end && isspace((unsigned char)*s->at)) {
      if (*s->at++ == '\n') s->line++, s->line_start = s->at;
    }
    if (s->end - s->at < 2 || s->at[0] != '/' || s->at[1] != '/') break;
    while (s->at < s->end && *s->at != '\n') s->at++;
  }
  s->loc = (ts_loc){.file = s->file, .line = s->line, .col = (uint32_t)(s->at - s->line_start) + 1};
  s->kind = T_END;
  if (s->at == s->end) return;
  char c = *s->at;
  if (c == '"') lex_string(s);
  else if (isdigit((unsigned char)c)) lex_number(s);
  else if (isalpha((unsigned char)c) || c == '_') {
    const char *start = s->at;
    while (s->at < s->end && word_char(*s->at)) s->at++;
    s->kind = T_WORD;
    s->text = ts_intern(s->names, (ts_str){start, (size_t)(s->at - start)});
  } else {
    static const struct {
      char text[3];
      int punct;
    } pairs[] = {{"..", P_RANGE}, {"->", P_ARROW}, {"<=", P_LE}, {"==", P_EQ}, {"!=", P_NE}};
    s->kind = T_PUNCT;
    s->punct = (unsigned char)c;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
      if (s->end - s->at >= 2 && memcmp(s->at, pairs[i].text, 2) == 0) s->punct = pairs[i].punct;
    s->at += s->punct > 255 ? 2 : 1;
  }
}

static bool is_punct(const parser *s, int punct) { return s->kind == T_PUNCT && s->punct == punct; }
static bool is_key(const parser *s, const char *word) { return s->kind == T_WORD && strcmp(s->text, word) == 0; }
static bool accept(parser *s, int punct) {
  if (!is_punct(s, punct)) return false;
  next(s);
  return true;
}
static bool accept_key(parser *s, const char *word) {
  if (!is_key(s, word)) return false;
  next(s);
  return true;
}
static bool expect(parser *s, int punct, const char *shown) {
  return accept(s, punct) || error(s, &diag_launch_syntax, "expected '%s'", shown);
}
static bool expect_key(parser *s, const char *word) {
  return accept_key(s, word) || error(s, &diag_launch_syntax, "expected '%s'", word);
}

static bool parse_string(parser *s, ts_sym *out) {
  if (s->kind != T_STRING) return error(s, &diag_launch_syntax, "expected a string in quotes");
  *out = s->text;
  next(s);
  return true;
}

// A name with its sigil (0: none), bare or quoted.
static bool parse_name(parser *s, char sigil, ts_sym *out) {
  if (sigil && !is_punct(s, sigil)) return error(s, &diag_launch_syntax, "expected a name that starts with '%c'", sigil);
  if (sigil) next(s);
  if (s->kind != T_WORD && s->kind != T_STRING) return error(s, &diag_launch_syntax, "expected a name");
  *out = s->text;
  next(s);
  return true;
}

static bool parse_uint(parser *s, uint64_t most, uint64_t *out) {
  if (s->kind != T_INT) return error(s, &diag_launch_syntax, "expected a number");
  if (s->number > most) return error(s, &diag_launch_syntax, "this number must be at most %" PRIu64, most);
  *out = s->number;
  next(s);
  return true;
}
static bool parse_u32(parser *s, uint32_t *out) {
  uint64_t v;
  if (!parse_uint(s, UINT32_MAX - 1, &v)) return false;
  *out = (uint32_t)v;
  return true;
}
static bool parse_i64(parser *s, int64_t *out) {
  uint64_t v;
  bool negative = accept(s, '-');
  if (!parse_uint(s, negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, &v)) return false;
  *out = negative ? (int64_t)(0 - v) : (int64_t)v;
  return true;
}

static bool parse_loc(parser *s, ts_loc *out) {
  *out = (ts_loc){0};
  if (!is_key(s, "loc")) return s->status == TS_OK;
  next(s);
  ts_loc loc = {0};
  if (!expect(s, '(', "(") || !parse_string(s, &loc.file)) return false;
  if (accept(s, ':')) {
    uint64_t v;
    if (!parse_uint(s, UINT64_MAX, &v)) return false;
    if (accept(s, ':')) {
      if (v > UINT32_MAX || !parse_u32(s, &loc.col)) return error(s, &diag_launch_syntax, "expected FILE:LINE:COLUMN");
      loc.line = (uint32_t)v;
    } else {
      loc.offset = v;
    }
  }
  if (!expect(s, ')', ")")) return false;
  *out = loc;
  return true;
}

static bool unknown(parser *s, const char *what, ts_sym name) {
  return error(s, &diag_launch_name, "there is no %s '%s'", what, name);
}

static bool find_dim(parser *s, ts_sym name, uint32_t *out) {
  *out = ir_launch_find_dim(s->p, name);
  return *out != IR_LNONE || unknown(s, "dim", name);
}
static bool parse_dim_ref(parser *s, uint32_t *out) {
  ts_sym name;
  return parse_name(s, '@', &name) && find_dim(s, name, out);
}
static bool find_state(parser *s, ts_sym name, uint32_t *out) {
  for (size_t i = 0; i < s->p->states.count; i++)
    if (s->p->states.data[i]->name == name) {
      *out = (uint32_t)i;
      return true;
    }
  return unknown(s, "state", name);
}
static bool find_list(parser *s, const ir_lstate *state, ts_sym name, uint32_t *out) {
  for (size_t i = 0; i < state->lists.count; i++)
    if (state->lists.data[i].name == name) {
      *out = (uint32_t)i;
      return true;
    }
  return unknown(s, "list", name);
}

static bool parse_expr(parser *s, ir_lexpr *out);

static bool parse_call(parser *s, ir_lop op, ir_lexpr *out) {
  if (!expect(s, '(', "(")) return false;
  if (op >= IR_L_add) {
    ir_lexpr a, b;
    if (!parse_expr(s, &a) || !expect(s, ',', ",") || !parse_expr(s, &b) || !expect(s, ')', ")")) return false;
    *out = ir_launch_op(s->f, op, a, b);
    return true;
  }
  ts_sym name;
  uint32_t a = 0, b = 0;
  if (!parse_name(s, 0, &name)) return false;
  if (op == IR_L_longest || op == IR_L_total) {
    if (!find_dim(s, name, &a)) return false;
  } else {
    if (!find_state(s, name, &a)) return false;
    if (op != IR_L_length && (!expect(s, ',', ",") || !parse_name(s, 0, &name) || !find_list(s, s->p->states.data[a], name, &b)))
      return false;
  }
  if (!expect(s, ')', ")")) return false;
  *out = ir_launch_leaf(s->f, op, a, b);
  return true;
}

static bool parse_primary(parser *s, ir_lexpr *out) {
  if (s->kind == T_INT || is_punct(s, '-')) {
    int64_t v;
    if (!parse_i64(s, &v)) return false;
    *out = ir_launch_const(s->f, v);
    return true;
  }
  if (accept(s, '(')) {
    if (++s->depth > DEPTH) return error(s, &diag_launch_syntax, "parentheses are nested more than %d deep", DEPTH);
    bool ok = parse_expr(s, out) && expect(s, ')', ")");
    s->depth--;
    return ok;
  }
  if (s->kind == T_WORD)
    for (int i = 0; i < IR_L_COUNT; i++)
      if (op_text[i].text && !op_text[i].infix && op_text[i].text[0] && strcmp(op_text[i].text, s->text) == 0) {
        next(s);
        if (++s->depth > DEPTH) return error(s, &diag_launch_syntax, "calls are nested more than %d deep", DEPTH);
        bool ok = parse_call(s, (ir_lop)i, out);
        s->depth--;
        return ok;
      }
  ts_sym name;
  uint32_t dim;
  if (!parse_name(s, 0, &name) || !find_dim(s, name, &dim)) return false;
  *out = ir_launch_dim(s->f, dim);
  return true;
}

static int infix_op(const parser *s) {
  if (s->kind == T_WORD) {
    for (int i = 0; i < IR_L_COUNT; i++)
      if (op_text[i].infix && strcmp(op_text[i].text, s->text) == 0) return i;
    return -1;
  }
  if (s->kind != T_PUNCT) return -1;
  switch (s->punct) {
    case '+': return IR_L_add;
    case '-': return IR_L_sub;
    case '*': return IR_L_mul;
    case '<': return IR_L_lt;
    case P_LE: return IR_L_le;
    case P_EQ: return IR_L_eq;
    case P_NE: return IR_L_ne;
    default: return -1;
  }
}

// One operator a level: `a + b + c` is refused, so that no precedence needs remembering.
static bool parse_expr(parser *s, ir_lexpr *out) {
  ir_lexpr a, b;
  if (!parse_primary(s, &a)) return false;
  int op = infix_op(s);
  if (op < 0) {
    *out = a;
    return true;
  }
  next(s);
  if (!parse_primary(s, &b)) return false;
  if (infix_op(s) >= 0) return error(s, &diag_launch_syntax, "put parentheses around one of the operations");
  *out = ir_launch_op(s->f, (ir_lop)op, a, b);
  return true;
}

static bool parse_one(parser *s, ir_lexpr *out) { return expect(s, '[', "[") && parse_expr(s, out) && expect(s, ']', "]"); }

static bool parse_arg(parser *s, ir_larg *out) {
  ts_sym name;
  if (!parse_name(s, '%', &name)) return false;
  *out = (ir_larg){.buffer = IR_LNONE, .offset = IR_LNONE};
  for (size_t i = 0; i < s->f->buffers.count; i++)
    if (s->f->buffers.data[i].name == name) out->buffer = (uint32_t)i;
  if (out->buffer == IR_LNONE) return unknown(s, "buffer", name);
  return !accept(s, '+') || parse_one(s, &out->offset);
}

static bool parse_values(parser *s, bool outputs) {
  if (!expect(s, '(', "(")) return false;
  while (!is_punct(s, ')')) {
    ir_lvalue v = {.output = outputs, .bytes = IR_LNONE};
    if (!parse_name(s, '%', &v.name) || !expect(s, ':', ":")) return false;
    if (s->kind != T_WORD || (v.type = ir_dtype_of_name(ts_str_of(s->text))) == IR_VOID)
      return error(s, &diag_launch_syntax, "expected an element type");
    next(s);
    if (!expect(s, '[', "[")) return false;
    while (!is_punct(s, ']')) {
      if (v.rank == IR_LAUNCH_RANK) return error(s, &diag_launch_syntax, "more than %d axes", IR_LAUNCH_RANK);
      if ((v.rank && !expect(s, ',', ",")) || !parse_expr(s, &v.shape[v.rank])) return false;
      v.rank++;
    }
    next(s);
    if (accept_key(s, "as") && !parse_string(s, &v.encoding)) return false;
    if (accept_key(s, "bytes") && !parse_one(s, &v.bytes)) return false;
    if (!parse_loc(s, &v.loc)) return false;
    ir_launch_add_value(s->f, v);
    if (!is_punct(s, ')') && !expect(s, ',', ",")) return false;
  }
  next(s);
  return s->status == TS_OK;
}

static bool parse_buffer(parser *s) {
  ir_lbuffer b = {.bytes = IR_LNONE};
  ts_sym name;
  if (!parse_name(s, '%', &b.name) || !expect(s, '=', "=")) return false;
  int kind = -1;
  for (int i = 0; i < IR_LB_COUNT; i++)
    if (is_key(s, buffer_text[i])) kind = i;
  if (kind < 0) return error(s, &diag_launch_syntax, "expected a kind of buffer");
  b.kind = (ir_lbuffer_kind)kind;
  next(s);
  switch (b.kind) {
    case IR_LB_input:
    case IR_LB_output:
      if (!parse_u32(s, &b.a)) return false;
      break;
    case IR_LB_weight:
      if (!parse_name(s, '@', &name)) return false;
      b.a = IR_LNONE;
      for (size_t i = 0; i < s->p->weights.count; i++)
        if (s->p->weights.data[i].name == name) b.a = (uint32_t)i;
      if (b.a == IR_LNONE) return unknown(s, "weight", name);
      break;
    case IR_LB_ragged:
      if (!parse_dim_ref(s, &b.a)) return false;
      break;
    case IR_LB_workspace:
      if (!parse_one(s, &b.bytes) || !expect_key(s, "steps") || !parse_u32(s, &b.first) || !expect(s, P_RANGE, "..") ||
          !parse_u32(s, &b.last))
        return false;
      break;
    case IR_LB_pool:
    case IR_LB_table:
    case IR_LB_length: {
      if (!parse_name(s, '@', &name) || !find_state(s, name, &b.a)) return false;
      const ir_lstate *state = s->p->states.data[b.a];
      if (b.kind == IR_LB_length) break;
      if (!parse_name(s, '@', &name)) return false;
      if (b.kind == IR_LB_table) {
        if (!find_list(s, state, name, &b.b)) return false;
        break;
      }
      b.b = IR_LNONE;
      for (size_t i = 0; i < state->pools.count; i++)
        if (state->pools.data[i].name == name) b.b = (uint32_t)i;
      if (b.b == IR_LNONE) return unknown(s, "pool", name);
      break;
    }
    default: break;
  }
  ir_launch_add_buffer(s->f, b);
  return true;
}

static bool parse_variant(parser *s, ir_lstep *step) {
  ir_lexpr guard = IR_LNONE;
  if (accept_key(s, "when") && !parse_one(s, &guard)) return false;
  ts_sym name;
  if (!parse_name(s, '@', &name)) return false;
  uint32_t kernel = ir_launch_find_kernel(s->p, name);
  if (kernel == IR_LNONE) return unknown(s, "kernel", name);
  ir_lvariant v = {.guard = guard, .kernel = kernel};
  if (!expect_key(s, "grid") || !expect(s, '[', "[")) return false;
  for (int i = 0; i < 3; i++)
    if ((i && !expect(s, ',', ",")) || !parse_expr(s, &v.grid[i])) return false;
  if (!expect(s, ']', "]") || !expect_key(s, "args") || !expect(s, '(', "(")) return false;
  while (!is_punct(s, ')')) {
    ir_larg arg;
    if ((v.args.count && !expect(s, ',', ",")) || !parse_arg(s, &arg)) return false;
    ts_vec_push(s->a, &v.args, arg);
  }
  next(s);
  if (!expect_key(s, "sizes") || !expect(s, '[', "[")) return false;
  while (!is_punct(s, ']')) {
    ir_lexpr e;
    if ((v.sizes.count && !expect(s, ',', ",")) || !parse_expr(s, &e)) return false;
    ts_vec_push(s->a, &v.sizes, e);
  }
  next(s);
  ts_vec_push(s->a, &step->variants, v);
  return s->status == TS_OK;
}

static bool parse_step(parser *s) {
  static const char *const words[] = {"launch", "copy", "fill", "require", "advance"};
  int kind = -1;
  for (int i = 0; i < 5; i++)
    if (is_key(s, words[i])) kind = i;
  if (kind < 0) return error(s, &diag_launch_syntax, "expected a step: launch, copy, fill, require or advance");
  next(s);
  ir_lstep step = *ir_launch_add_step(s->f, (ir_lstep_kind)kind, (ts_loc){0});
  uint64_t pattern;
  ts_sym name;
  bool ok = false;
  switch (step.kind) {
    case IR_LS_launch:
      do ok = parse_variant(s, &step);
      while (ok && accept_key(s, "else"));
      break;
    case IR_LS_copy:
      ok = parse_arg(s, &step.dst) && expect_key(s, "from") && parse_arg(s, &step.src) && expect_key(s, "bytes") &&
           parse_one(s, &step.bytes);
      break;
    case IR_LS_fill:
      ok = parse_arg(s, &step.dst) && expect_key(s, "with") && parse_uint(s, UINT32_MAX, &pattern) && expect_key(s, "bytes") &&
           parse_one(s, &step.bytes);
      if (ok) step.pattern = (uint32_t)pattern;
      break;
    case IR_LS_require: ok = parse_one(s, &step.condition) && parse_string(s, &step.text); break;
    case IR_LS_advance:
      ok = parse_name(s, '@', &name) && find_state(s, name, &step.state) && expect_key(s, "by") &&
           (is_punct(s, '@') ? parse_dim_ref(s, &step.dim) : parse_one(s, &step.by));
      break;
  }
  if (!ok || !parse_loc(s, &step.loc)) return false;
  s->f->steps.data[s->f->steps.count - 1] = step;
  return true;
}

static bool parse_function(parser *s) {
  ts_sym name;
  ts_loc loc;
  if (!parse_name(s, '@', &name)) return false;
  s->f = ir_launch_add_function(s->p, name, (ts_loc){0});
  if (!parse_values(s, false) || !expect(s, P_ARROW, "->") || !parse_values(s, true) || !parse_loc(s, &loc) ||
      !expect(s, '{', "{"))
    return false;
  s->f->loc = loc;
  while (!accept(s, '}'))
    if (accept_key(s, "buffer") ? !parse_buffer(s) : !parse_step(s)) return false;
  return s->status == TS_OK;
}

static bool parse_dim(parser *s) {
  ir_ldim d = {.step = 1, .per = IR_LNONE};
  if (!parse_name(s, '@', &d.name) || !expect(s, ':', ":") || !parse_i64(s, &d.min) || !expect(s, P_RANGE, "..") ||
      !parse_i64(s, &d.max))
    return false;
  if (accept_key(s, "step") && !parse_i64(s, &d.step)) return false;
  if (accept_key(s, "per") && !parse_dim_ref(s, &d.per)) return false;
  ir_launch_add_dim(s->p, d);
  return true;
}

static bool parse_weight(parser *s) {
  ir_lweight w = {0};
  if (!parse_name(s, '@', &w.name) || !expect(s, ':', ":") || !parse_uint(s, INT64_MAX, &w.bytes) || !expect_key(s, "hash") ||
      !parse_uint(s, UINT64_MAX, &w.hash))
    return false;
  ir_launch_add_weight(s->p, w);
  return true;
}

static bool parse_pool(parser *s, ir_lstate *state) {
  ir_lpool q = {0};
  ts_sym list;
  if (!parse_name(s, '@', &q.name) || !expect_key(s, "list") || !parse_name(s, '@', &list) || !find_list(s, state, list, &q.list))
    return false;
  if (!expect_key(s, "layers") || !parse_u32(s, &q.layers) || !expect_key(s, "bytes") || !parse_uint(s, INT64_MAX, &q.page_bytes))
    return false;
  q.zero = accept_key(s, "zero");
  if (!expect_key(s, "type") || !parse_string(s, &q.type)) return false;
  ir_launch_add_pool(s->p, state, q);
  return true;
}

static bool parse_state(parser *s) {
  ts_sym name;
  uint32_t rows, page;
  int64_t length;
  if (!parse_name(s, '@', &name) || !expect_key(s, "rows") || !parse_dim_ref(s, &rows) || !expect_key(s, "length") ||
      !parse_i64(s, &length) || !expect_key(s, "page") || !parse_u32(s, &page) || !expect(s, '{', "{"))
    return false;
  ir_lstate *state = ir_launch_add_state(s->p, name, rows, length, page);
  while (!accept(s, '}')) {
    if (accept_key(s, "list")) {
      ir_llist list = {0};
      if (!parse_name(s, '@', &list.name)) return false;
      if (!accept_key(s, list_text[0])) return error(s, &diag_launch_syntax, "expected how the list keeps its pages: full");
      ir_launch_add_list(s->p, state, list);
    } else if (accept_key(s, "pool")) {
      if (!parse_pool(s, state)) return false;
    } else {
      return error(s, &diag_launch_syntax, "expected 'list', 'pool' or '}'");
    }
  }
  return s->status == TS_OK;
}

static bool parse_kernel(parser *s) {
  ts_sym name;
  uint32_t pointers, sizes;
  if (!parse_name(s, '@', &name) || !expect(s, '(', "(") || !parse_u32(s, &pointers) || !expect_key(s, "pointers") ||
      !expect(s, ',', ",") || !parse_u32(s, &sizes) || !expect_key(s, "sizes") || !expect(s, ')', ")"))
    return false;
  ir_lkernel *k = ir_launch_add_kernel(s->p, name, pointers, sizes);
  if (!accept(s, '{')) return s->status == TS_OK;
  while (!accept(s, '}')) {
    ts_sym text;
    ts_loc loc;
    if (!expect_key(s, "raise") || !parse_string(s, &text) || !parse_loc(s, &loc)) return false;
    ir_launch_add_raise(s->p, k, text, loc);
  }
  return s->status == TS_OK;
}

static bool parse_program(parser *s) {
  ts_sym name, device_class;
  if (!expect_key(s, "launch") || !parse_name(s, '@', &name) || !expect_key(s, "for") || !parse_name(s, 0, &device_class) ||
      !expect(s, '{', "{"))
    return false;
  s->p = ir_launch_new(s->a, s->names, name, device_class);
  static const struct {
    const char *word;
    bool (*parse)(parser *);
  } items[] = {{"dim", parse_dim},
               {"weight", parse_weight},
               {"state", parse_state},
               {"kernel", parse_kernel},
               {"function", parse_function}};
  while (!accept(s, '}')) {
    bool (*parse)(parser *) = NULL;
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
      if (is_key(s, items[i].word)) parse = items[i].parse;
    if (!parse) return error(s, &diag_launch_syntax, "expected dim, weight, state, kernel, function or '}'");
    next(s);
    if (!parse(s)) return false;
  }
  return s->kind == T_END || error(s, &diag_launch_syntax, "text behind the program's end");
}

ts_status ir_launch_parse(ts_arena *a, ts_interner *names, ts_sym file, ts_str text, ts_diags *d, ir_launch **out) {
  parser s = {.a = a,
              .names = names,
              .d = d,
              .file = file,
              .at = text.data,
              .end = text.data + text.len,
              .line_start = text.data,
              .line = 1};
  next(&s);
  if (!parse_program(&s)) return s.status == TS_OK ? TS_INTERNAL : s.status;
  if (s.status != TS_OK) return s.status;
  TS_TRY(ir_launch_verify(s.p, d));
  *out = s.p;
  return TS_OK;
}
