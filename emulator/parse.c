// The PTX parser, first half: module level, declarations and initialisers, function headers.
#include "emulator/parse_priv.h"

#include "base/checked.h"

bool parse_error(parser *p, ptx_pos pos, const ts_diag_kind *kind, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  ts_vreport(p->diags, (ts_loc){p->m->file, pos.line, pos.col, 0}, kind, fmt, ap);
  va_end(ap);
  return false;
}

void parse_next(parser *p) {
  ptx_lex(&p->lexer, &p->t);
  if (p->t.kind == PTX_T_BAD) {
    parse_error(p, p->t.pos, &diag_ptx_syntax, "%s", p->t.bad);
    p->t.kind = PTX_T_PUNCT;   // no rule wants a token of this kind, so the statement fails
    p->t.punct = 0;
  }
}

static const char *describe(const parser *p, char buffer[48]) {
  if (p->t.kind == PTX_T_END) return "the end of the file";
  snprintf(buffer, 48, "'%s%.*s'", p->t.kind == PTX_T_DOT ? "." : "", p->t.text.len > 30 ? 30 : (int)p->t.text.len, p->t.text.data);
  return buffer;
}

bool ptx_expect(parser *p, unsigned punct) {
  if (parse_take(p, punct)) return true;
  char text[48];
  return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected '%c' before %s", (char)punct, describe(p, text));
}

bool parse_count(parser *p, uint64_t limit, uint64_t *out) {
  if (p->t.kind != PTX_T_INT) {
    char text[48];
    return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a number before %s", describe(p, text));
  }
  if (p->t.value > limit)
    return parse_error(p, p->t.pos, &diag_ptx_size, "%llu is over the limit of %llu", (unsigned long long)p->t.value, (unsigned long long)limit);
  *out = p->t.value;
  parse_next(p);
  return true;
}

ts_sym parse_intern(parser *p, ts_str s) { return ts_intern(p->m->names, s); }

void parse_skip_statement(parser *p) {
  while (p->t.kind != PTX_T_END && !parse_at(p, ';')) parse_next(p);
  parse_take(p, ';');
}

// --- constant expressions ----------------------------------------------------------------------------------------------------
static int precedence(unsigned op) {
  switch (op) {
    case '|': return 1;
    case '^': return 2;
    case '&': return 3;
    case '<' << 8 | '<': case '>' << 8 | '>': return 4;
    case '+': case '-': return 5;
    case '*': case '/': case '%': return 6;
  }
  return 0;
}

static bool parse_unary(parser *p, int64_t *out) {
  if (++p->expr_depth > 100) return parse_error(p, p->t.pos, &diag_ptx_size, "expression nested too deeply");
  bool ok = true;
  if (parse_take(p, '-')) {
    ok = parse_unary(p, out);
    if (ok) *out = (int64_t)(0 - (uint64_t)*out);
  } else if (parse_take(p, '~')) {
    ok = parse_unary(p, out);
    if (ok) *out = ~*out;
  } else if (parse_take(p, '+')) {
    ok = parse_unary(p, out);
  } else if (parse_take(p, '(')) {
    if (p->t.kind == PTX_T_DOT) {   // a cast: (.s64)
      parse_next(p);
      ok = ptx_expect(p, ')') && parse_unary(p, out);
    } else {
      ok = parse_const(p, out) && ptx_expect(p, ')');
    }
  } else if (p->t.kind == PTX_T_INT) {
    *out = (int64_t)p->t.value;
    parse_next(p);
  } else {
    char text[48];
    ok = parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a constant before %s", describe(p, text));
  }
  p->expr_depth--;
  return ok;
}

static bool parse_binary(parser *p, int least, int64_t *out) {
  if (!parse_unary(p, out)) return false;
  while (p->t.kind == PTX_T_PUNCT && precedence(p->t.punct) >= least) {
    unsigned op = p->t.punct;
    ptx_pos pos = p->t.pos;
    parse_next(p);
    int64_t b;
    if (!parse_binary(p, precedence(op) + 1, &b)) return false;
    uint64_t x = (uint64_t)*out, y = (uint64_t)b;
    if ((op == '/' || op == '%') && (b == 0 || (*out == INT64_MIN && b == -1))) return parse_error(p, pos, &diag_ptx_operand, "division by zero in a constant");
    switch (op) {
      case '|': x |= y; break;
      case '^': x ^= y; break;
      case '&': x &= y; break;
      case '+': x += y; break;
      case '-': x -= y; break;
      case '*': x *= y; break;
      case '/': x = (uint64_t)(*out / b); break;
      case '%': x = (uint64_t)(*out % b); break;
      case '<' << 8 | '<': x = y < 64 ? x << y : 0; break;
      default: x = y < 64 ? (uint64_t)(*out >> y) : 0; break;
    }
    *out = (int64_t)x;
  }
  return true;
}

bool parse_const(parser *p, int64_t *out) { return parse_binary(p, 1, out); }

// --- scopes --------------------------------------------------------------------------------------------------------------------
bool scope_push(parser *p) {
  if (p->depth == PTX_MAX_DEPTH) return parse_error(p, p->t.pos, &diag_ptx_size, "braces nested deeper than %d", PTX_MAX_DEPTH);
  parse_scope *s = &p->scopes[p->depth++];
  *s = (parse_scope){.label_scope = (uint32_t)p->f->scopes.count};
  ts_vec_push(p->arena, &p->f->scopes, p->depth > 1 ? p->scopes[p->depth - 2].label_scope : 0);
  return true;
}

void scope_pop(parser *p) { ts_map_deinit(&p->scopes[--p->depth].names); }

bool scope_declare(parser *p, ptx_pos pos, ts_sym name, scope_name what) {
  parse_scope *s = &p->scopes[p->depth - 1];
  if (ts_map_get(&s->names, ts_key(name))) return parse_error(p, pos, &diag_ptx_name, "'%s' is declared twice in this scope", name);
  scope_name *n = ts_new(p->arena, scope_name);
  *n = what;
  ts_map_put(&s->names, ts_key(name), n);
  return true;
}

static uint32_t new_register(parser *p, ts_sym name, emu_type type) {
  ptx_reg r = {name, type, type == EMU_NOTYPE ? 1 : (uint8_t)emu_type_bits(type)};
  ts_vec_push(p->arena, &p->f->regs, r);
  return (uint32_t)p->f->regs.count - 1;
}

// Is `name` register number n of a range declared under a prefix of it?
static scope_name *find_range(parser *p, ts_sym name, unsigned *level) {
  size_t len = strlen(name), digits = 0;
  while (digits < len && name[len - 1 - digits] >= '0' && name[len - 1 - digits] <= '9') digits++;
  for (size_t k = digits; k >= 1 && digits; k--) {   // the shortest prefix first: %r12 is 12 of %r before 2 of %r1
    if (k > 9 || (k > 1 && name[len - k] == '0')) continue;
    uint32_t number = 0;
    for (size_t i = len - k; i < len; i++) number = number * 10 + (uint32_t)(name[i] - '0');
    ts_sym prefix = parse_intern(p, (ts_str){name, len - k});
    for (unsigned s = p->depth; s-- > 0;) {
      scope_name *n = ts_map_get(&p->scopes[s].names, ts_key(prefix));
      if (n && n->is_range && number < n->count) {
        *level = s;
        return n;
      }
    }
  }
  return NULL;
}

bool scope_find(parser *p, ts_sym name, uint32_t *reg, ptx_var **var) {
  *var = NULL;
  for (unsigned s = p->depth; s-- > 0;) {
    scope_name *n = ts_map_get(&p->scopes[s].names, ts_key(name));
    if (!n || n->is_range) continue;
    *var = n->var;
    *reg = n->reg;
    return true;
  }
  unsigned level;
  scope_name *range = find_range(p, name, &level);
  if (!range || p->f->regs.count >= PTX_MAX_REGISTERS) return false;
  scope_name *n = ts_new(p->arena, scope_name);
  n->reg = *reg = new_register(p, name, range->type);
  ts_map_put(&p->scopes[level].names, ts_key(name), n);
  return true;
}

// --- variables -----------------------------------------------------------------------------------------------------------------
typedef struct init_state {
  ptx_var *v;
  TS_VEC(ptx_init) list;
  uint64_t offset, limit;    // limit: 0 while the array has no length yet
  unsigned bytes;            // of one element
  unsigned depth;
} init_state;

static bool init_push(parser *p, init_state *s, ptx_init one) {
  one.offset = s->offset;
  one.bytes = (uint8_t)s->bytes;
  if (s->limit && s->offset + s->bytes > s->limit) return parse_error(p, one.pos, &diag_ptx_operand, "more initial values than '%s' has elements", s->v->name);
  if (s->offset > 1u << 30) return parse_error(p, one.pos, &diag_ptx_size, "initialiser over 1 GiB");
  ts_vec_push(p->arena, &s->list, one);
  s->offset += s->bytes;
  return true;
}

// The literal at hand as the bits of an element.
static bool float_bits(parser *p, emu_type type, const ptx_token *t, bool minus, uint64_t *out) {
  double v;
  float f;
  uint32_t w = (uint32_t)t->value;
  if (t->is_f32) memcpy(&f, &w, 4), v = (double)f;
  else memcpy(&v, &t->value, 8), f = (float)v;
  if (type == EMU_F32) {
    memcpy(&w, &f, 4);
    *out = minus ? w ^ 0x80000000u : w;
  } else if (type == EMU_F64) {
    memcpy(out, &v, 8);
    if (minus) *out ^= 1ull << 63;
  } else if (type == EMU_B32 || type == EMU_U32) {
    *out = w;
  } else {
    return parse_error(p, t->pos, &diag_ptx_operand, "floating-point value for an element of type .%s", emu_type_name(type));
  }
  return true;
}

static bool parse_init_value(parser *p, init_state *s) {
  ptx_init one = {.pos = p->t.pos};
  ptx_lexer saved_lexer = p->lexer;
  ptx_token saved = p->t;
  bool minus = parse_take(p, '-');
  if (p->t.kind == PTX_T_FLOAT) {
    if (!float_bits(p, s->v->type, &p->t, minus, &one.value)) return false;
    parse_next(p);
    return init_push(p, s, one);
  }
  p->lexer = saved_lexer;
  p->t = saved;
  if (p->t.kind == PTX_T_INT) {
    uint64_t mask = p->t.value;
    parse_next(p);
    if (parse_at(p, '(')) {   // 0xFF00(symbol): one byte of an address
      parse_next(p);
      if (mask == 0 || mask % 255 || (mask & (mask - 1)) == 0) return parse_error(p, one.pos, &diag_ptx_operand, "a byte mask such as 0xFF00 is needed here");
      one.shift = (uint8_t)__builtin_ctzll(mask);
      bool generic = p->t.kind == PTX_T_NAME && ts_str_is(p->t.text, "generic");
      if (generic) {
        parse_next(p);
        if (!ptx_expect(p, '(')) return false;
      }
      one.symbol = parse_intern(p, p->t.text);
      one.generic = generic;
      if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a name in the mask operator");
      parse_next(p);
      if (generic && !ptx_expect(p, ')')) return false;
      int64_t add = 0;
      if ((parse_at(p, '+') || parse_at(p, '-')) && !parse_const(p, &add)) return false;
      one.value = (uint64_t)add;
      return ptx_expect(p, ')') && init_push(p, s, one);
    }
    p->lexer = saved_lexer;
    p->t = saved;
  } else if (p->t.kind == PTX_T_NAME) {
    bool generic = ts_str_is(p->t.text, "generic");
    if (generic) {
      parse_next(p);
      if (!ptx_expect(p, '(')) return false;
    }
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a name in the initialiser");
    one.symbol = parse_intern(p, p->t.text);
    one.generic = generic;
    parse_next(p);
    int64_t add = 0;
    if (generic && (parse_at(p, '+') || parse_at(p, '-')) && !parse_const(p, &add)) return false;
    if (generic && !ptx_expect(p, ')')) return false;
    int64_t more = 0;
    if ((parse_at(p, '+') || parse_at(p, '-')) && !parse_const(p, &more)) return false;
    one.value = (uint64_t)add + (uint64_t)more;
    return init_push(p, s, one);
  }
  int64_t v;
  if (!parse_const(p, &v)) return false;
  one.value = (uint64_t)v;
  if (s->v->type == EMU_F32 || s->v->type == EMU_F64) {
    double d = (double)v;
    float f = (float)v;
    one.value = 0;
    if (s->v->type == EMU_F32) memcpy(&one.value, &f, 4);
    else memcpy(&one.value, &d, 8);
  }
  return init_push(p, s, one);
}

static bool parse_init(parser *p, init_state *s, uint64_t row_bytes) {
  if (!parse_at(p, '{')) return parse_init_value(p, s);
  if (++s->depth > 16) return parse_error(p, p->t.pos, &diag_ptx_size, "initialiser nested too deeply");
  parse_next(p);
  uint64_t start = s->offset;
  while (!parse_at(p, '}')) {
    if (!parse_init(p, s, 0)) return false;
    if (!parse_take(p, ',')) break;
  }
  if (row_bytes && s->offset < start + row_bytes) s->offset = start + row_bytes;
  s->depth--;
  return ptx_expect(p, '}');
}

// Dimensions [a][b]..., then "= init". Sets bytes and the initial values.
static bool parse_extent(parser *p, ptx_var *v, unsigned vector) {
  unsigned element = emu_type_bits(v->type) / 8;
  size_t bytes = element * vector;
  bool open = false;
  while (parse_take(p, '[')) {
    v->is_array = true;
    if (parse_take(p, ']')) {
      open = true;
      continue;
    }
    int64_t n;
    ptx_pos pos = p->t.pos;
    if (!parse_const(p, &n) || !ptx_expect(p, ']')) return false;
    if (n < 0 || !ts_mul_size(bytes, (size_t)n, &bytes) || bytes > (size_t)1 << 36) return parse_error(p, pos, &diag_ptx_size, "'%s' is larger than 64 GiB", v->name);
  }
  v->bytes = open ? 0 : bytes;
  if (parse_take(p, '=')) {
    init_state s = {.v = v, .limit = v->bytes, .bytes = element};
    if (!parse_init(p, &s, 0)) return false;
    v->inits = s.list.data;
    v->init_count = s.list.count;
    if (open) v->bytes = s.offset;
  }
  if (v->bytes == 0 && !open) v->bytes = 0;
  return true;
}

// ".align 8 .v2 .b8 .ptr .global .align 4" in front of a name.
static bool parse_var_type(parser *p, ptx_var *v, unsigned *vector) {
  *vector = 1;
  v->type = EMU_NOTYPE;
  bool pointer = false;
  while (p->t.kind == PTX_T_DOT) {
    ts_str s = p->t.text;
    ptx_pos pos = p->t.pos;
    emu_type type = emu_type_find(s.data, s.len);
    parse_next(p);
    if (ts_str_is(s, "align")) {
      uint64_t n;
      if (!parse_count(p, 1 << 20, &n)) return false;
      if (!ts_is_pow2(n)) return parse_error(p, pos, &diag_ptx_operand, ".align takes a power of two");
      if (!pointer) v->align = (uint32_t)n;   // behind .ptr it is a promise about the pointer, not about the variable
    } else if (ts_str_is(s, "v2") || ts_str_is(s, "v4") || ts_str_is(s, "v8")) {
      *vector = (unsigned)(s.data[1] - '0');
    } else if (ts_str_is(s, "ptr")) {
      pointer = true;
    } else if (pointer && (ts_str_is(s, "global") || ts_str_is(s, "shared") || ts_str_is(s, "const") || ts_str_is(s, "local") || ts_str_is(s, "param"))) {
      continue;
    } else if (ts_str_is(s, "attribute")) {
      while (p->t.kind != PTX_T_END && !parse_at(p, ')')) parse_next(p);
      if (!ptx_expect(p, ')')) return false;
    } else if (type != EMU_NOTYPE && v->type == EMU_NOTYPE && emu_type_bits(type) >= 8) {
      v->type = type;
    } else if (ts_str_is(s, "texref") || ts_str_is(s, "samplerref") || ts_str_is(s, "surfref")) {
      return parse_error(p, pos, &diag_ptx_unsupported, ".%.*s: textures and surfaces are not supported", TS_FMT(s));
    } else if (ts_str_is(s, "b128")) {
      return parse_error(p, pos, &diag_ptx_unsupported, ".b128 is not supported");
    } else {
      return parse_error(p, pos, &diag_ptx_syntax, "'.%.*s' is not part of a declaration", TS_FMT(s));
    }
  }
  if (v->type == EMU_NOTYPE) return parse_error(p, p->t.pos, &diag_ptx_syntax, "declaration without a type");
  unsigned natural = emu_type_bits(v->type) / 8 * *vector;
  if (!v->align) v->align = natural;
  return true;
}

static ts_sym parse_new_name(parser *p) {
  if (p->t.kind != PTX_T_NAME) {
    char text[48];
    parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a name before %s", describe(p, text));
    return NULL;
  }
  ts_sym s = parse_intern(p, p->t.text);
  parse_next(p);
  return s;
}

bool parse_variables(parser *p, ptx_space space, bool is_extern, bool visible, bool weak) {
  ptx_var proto = {.space = space, .is_extern = is_extern, .visible = visible, .weak = weak};
  unsigned vector;
  if (parse_at(p, '[')) {   // .const[3]: a bank, an old form
    return parse_error(p, p->t.pos, &diag_ptx_unsupported, "numbered constant banks are not supported");
  }
  if (!parse_var_type(p, &proto, &vector)) return false;
  do {
    ptx_var *v = ts_new(p->arena, ptx_var);
    *v = proto;
    v->pos = p->t.pos;
    v->owner = p->f;
    v->name = parse_new_name(p);
    if (!v->name) return false;
    if (parse_take(p, '<')) {   // .param .b32 p<3>: not written by any compiler of today
      return parse_error(p, v->pos, &diag_ptx_unsupported, "parameterised variable names are not supported");
    }
    if (!parse_extent(p, v, vector)) return false;
    if (p->f) {
      ts_vec_push(p->arena, &p->f->vars, v);
      if (!scope_declare(p, v->pos, v->name, (scope_name){.var = v})) return false;
    } else {
      ptx_symbol *old = ts_map_get(&p->m->by_name, ts_key(v->name));
      if (old && old->var && old->var->is_extern && old->var->space == space) {
        *old->var = *v;   // the definition of a variable announced before
      } else if (old && old->var && v->is_extern) {
        continue;
      } else if (old) {
        return parse_error(p, v->pos, &diag_ptx_name, "'%s' is declared twice", v->name);
      } else {
        ptx_symbol *symbol = ts_new(p->arena, ptx_symbol);
        symbol->var = v;
        ts_map_put(&p->m->by_name, ts_key(v->name), symbol);
        ts_vec_push(p->arena, &p->m->vars, v);
      }
    }
  } while (parse_take(p, ','));
  return ptx_expect(p, ';');
}

// --- functions -----------------------------------------------------------------------------------------------------------------
// "(.param .b32 a, .reg .b32 b)". Register parameters are the old ABI: refused.
static bool parse_param_list(parser *p, bool returns) {
  if (!ptx_expect(p, '(')) return false;
  while (!parse_at(p, ')')) {
    if (parse_at_dot(p, "reg")) return parse_error(p, p->t.pos, &diag_ptx_unsupported, "parameters in .reg space are not supported");
    if (!parse_at_dot(p, "param")) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected '.param'");
    parse_next(p);
    ptx_var *v = ts_new(p->arena, ptx_var);
    v->space = PTX_PARAM;
    v->owner = p->f;
    unsigned vector;
    if (!parse_var_type(p, v, &vector)) return false;
    v->pos = p->t.pos;
    v->name = parse_new_name(p);
    if (!v->name || !parse_extent(p, v, vector)) return false;
    if (v->bytes > 1 << 16) return parse_error(p, v->pos, &diag_ptx_size, "parameter '%s' is larger than 64 KiB", v->name);
    if (returns) ts_vec_push(p->arena, &p->f->rets, v);
    else ts_vec_push(p->arena, &p->f->params, v);
    if (!ts_str_is(ts_str_of(v->name), "_") && !scope_declare(p, v->pos, v->name, (scope_name){.var = v})) return false;
    if (!parse_take(p, ',')) break;
  }
  return ptx_expect(p, ')');
}

static bool parse_dims(parser *p, uint32_t out[3]) {
  for (int i = 0; i < 3; i++) {
    uint64_t n;
    if (!parse_count(p, UINT32_MAX, &n)) return false;
    out[i] = (uint32_t)n;
    if (!parse_take(p, ',')) {
      for (int k = i + 1; k < 3; k++) out[k] = 1;
      break;
    }
  }
  return true;
}

static bool parse_directives(parser *p, ptx_func *f) {
  while (p->t.kind == PTX_T_DOT) {
    ts_str s = p->t.text;
    ptx_pos pos = p->t.pos;
    uint64_t n;
    parse_next(p);
    if (ts_str_is(s, "maxntid")) {
      if (!parse_dims(p, f->maxntid)) return false;
    } else if (ts_str_is(s, "reqntid")) {
      if (!parse_dims(p, f->reqntid)) return false;
    } else if (ts_str_is(s, "maxnreg")) {
      if (!parse_count(p, 65536, &n)) return false;
      f->maxnreg = (uint32_t)n;
    } else if (ts_str_is(s, "minnctapersm")) {
      if (!parse_count(p, 65536, &n)) return false;
      f->minnctapersm = (uint32_t)n;
    } else if (ts_str_is(s, "maxnctapersm") || ts_str_is(s, "abi_preserve") || ts_str_is(s, "abi_preserve_control")) {
      if (!parse_count(p, 65536, &n)) return false;
    } else if (ts_str_is(s, "noreturn")) {
      f->noreturn = true;
    } else if (ts_str_is(s, "unified")) {
      continue;
    } else if (ts_str_is(s, "pragma")) {
      parse_skip_statement(p);
    } else if (ts_str_is(s, "explicitcluster") || ts_str_is(s, "reqnctapercluster") || ts_str_is(s, "maxclusterrank") || ts_str_is(s, "blocksareclusters")) {
      return parse_error(p, pos, &diag_ptx_unsupported, ".%.*s: clusters are not supported", TS_FMT(s));
    } else {
      return parse_error(p, pos, &diag_ptx_syntax, "unknown directive '.%.*s' of a function", TS_FMT(s));
    }
  }
  return true;
}

static bool same_signature(const ptx_func *a, const ptx_func *b) {
  if (a->params.count != b->params.count || a->rets.count != b->rets.count || a->is_entry != b->is_entry) return false;
  for (size_t i = 0; i < a->params.count; i++)
    if (a->params.data[i]->bytes != b->params.data[i]->bytes) return false;
  for (size_t i = 0; i < a->rets.count; i++)
    if (a->rets.data[i]->bytes != b->rets.data[i]->bytes) return false;
  return true;
}

// A declaration and a definition of one function are one object: calls parsed before the body see it too.
static bool register_function(parser *p, ptx_func *f) {
  ptx_symbol *old = ts_map_get(&p->m->by_name, ts_key(f->name));
  if (old && old->func) {
    if (!same_signature(old->func, f)) return parse_error(p, f->pos, &diag_ptx_name, "'%s' was declared before with another signature", f->name);
    if (old->func->has_body && f->has_body) return parse_error(p, f->pos, &diag_ptx_name, "'%s' is defined twice", f->name);
    if (!f->has_body) return true;
    f->index = old->func->index;
    p->m->funcs.data[f->index] = f;
    old->func = f;
    return true;
  }
  if (old) return parse_error(p, f->pos, &diag_ptx_name, "'%s' is declared twice", f->name);
  ptx_symbol *symbol = ts_new(p->arena, ptx_symbol);
  symbol->func = f;
  f->index = (uint32_t)p->m->funcs.count;
  ts_vec_push(p->arena, &p->m->funcs, f);
  ts_map_put(&p->m->by_name, ts_key(f->name), symbol);
  return true;
}

static bool parse_function(parser *p, bool is_entry, bool is_extern, bool visible, bool weak) {
  ptx_func *f = ts_new(p->arena, ptx_func);
  f->is_entry = is_entry;
  f->is_extern = is_extern;
  f->visible = visible;
  f->weak = weak;
  p->f = f;
  p->loc = 0;
  bool ok = scope_push(p);
  while (ok && parse_at_dot(p, "attribute")) {
    parse_next(p);
    while (p->t.kind != PTX_T_END && !parse_at(p, ')')) parse_next(p);
    ok = ptx_expect(p, ')');
  }
  if (ok && !is_entry && parse_at(p, '(')) ok = parse_param_list(p, true);
  if (ok) {
    f->pos = p->t.pos;
    f->name = parse_new_name(p);
    ok = f->name != NULL;
  }
  if (ok && parse_at(p, '(')) ok = parse_param_list(p, false);
  ok = ok && parse_directives(p, f);
  if (ok && parse_at(p, '{')) f->has_body = true;
  ok = ok && register_function(p, f);
  if (ok && f->has_body) ok = parse_body(p);
  else if (ok) ok = ptx_expect(p, ';');
  while (p->depth) scope_pop(p);
  p->f = NULL;
  return ok;
}

// --- module --------------------------------------------------------------------------------------------------------------------
static bool parse_version(parser *p) {
  if (!parse_at_dot(p, "version")) return parse_error(p, p->t.pos, &diag_ptx_syntax, "a PTX file starts with .version");
  parse_next(p);
  double v = 0;
  if (p->t.kind == PTX_T_FLOAT && !p->t.is_f32) memcpy(&v, &p->t.value, 8);
  else if (p->t.kind == PTX_T_INT) v = (double)p->t.value;
  if (!(v >= 1 && v < 100)) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a version such as 8.0");
  p->m->version = (unsigned)(v * 10 + 0.5);
  if (p->m->version < 60 || p->m->version > 99) return parse_error(p, p->t.pos, &diag_ptx_version, "PTX ISA %u.%u: only 6.0 to 9.x are supported", p->m->version / 10, p->m->version % 10);
  parse_next(p);
  return true;
}

static bool parse_target(parser *p) {
  do {
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a target such as sm_80");
    ts_str s = p->t.text;
    if (ts_str_starts(s, "sm_") && s.len > 4) {
      unsigned sm = 0;
      for (size_t i = 3; i < s.len && s.data[i] >= '0' && s.data[i] <= '9' && sm < 1000; i++) sm = sm * 10 + (unsigned)(s.data[i] - '0');
      p->m->target = sm;
    } else if (!ts_str_is(s, "debug") && !ts_str_starts(s, "texmode") && !ts_str_is(s, "map_f64_to_f32")) {
      return parse_error(p, p->t.pos, &diag_ptx_version, "unknown target '%.*s'", TS_FMT(s));
    }
    parse_next(p);
  } while (parse_take(p, ','));
  if (!p->m->target) return parse_error(p, p->t.pos, &diag_ptx_version, "the target names no sm_NN");
  return true;
}

static bool parse_file(parser *p) {
  uint64_t number;
  if (!parse_count(p, UINT32_MAX, &number)) return false;
  if (p->t.kind != PTX_T_STRING) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a file name in quotes");
  ptx_file file = {(uint32_t)number, ts_arena_strndup(p->arena, p->t.text.data, p->t.text.len)};
  ts_vec_push(p->arena, &p->m->files, file);
  parse_next(p);
  while (parse_take(p, ',')) {
    uint64_t n;
    if (!parse_count(p, UINT64_MAX, &n)) return false;
  }
  return true;
}

// .section .debug_info { ... }: debug data, which execution does not need.
static bool parse_section(parser *p) {
  parse_next(p);
  if (!ptx_expect(p, '{')) return false;
  unsigned depth = 1;
  while (depth && p->t.kind != PTX_T_END) {
    if (parse_at(p, '{')) depth++;
    if (parse_at(p, '}')) depth--;
    parse_next(p);
  }
  return depth == 0 || parse_error(p, p->t.pos, &diag_ptx_syntax, "section without an end");
}

static bool parse_alias(parser *p) {
  ptx_pos pos = p->t.pos;
  ts_sym alias = parse_new_name(p);
  if (!alias || !ptx_expect(p, ',')) return false;
  ts_sym target = parse_new_name(p);
  if (!target || !ptx_expect(p, ';')) return false;
  ptx_symbol *a = ts_map_get(&p->m->by_name, ts_key(alias)), *t = ts_map_get(&p->m->by_name, ts_key(target));
  if (!a || !a->func || !t || !t->func) return parse_error(p, pos, &diag_ptx_name, ".alias needs two functions that are declared");
  a->func = t->func;
  return true;
}

static bool parse_module_item(parser *p) {
  bool is_extern = false, visible = false, weak = false;
  for (;;) {
    if (p->t.kind != PTX_T_DOT) {
      char text[48];
      return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a directive before %s", describe(p, text));
    }
    ts_str s = p->t.text;
    ptx_pos pos = p->t.pos;
    parse_next(p);
    if (ts_str_is(s, "visible")) visible = true;
    else if (ts_str_is(s, "extern")) is_extern = true;
    else if (ts_str_is(s, "weak") || ts_str_is(s, "common")) weak = true;
    else if (ts_str_is(s, "entry")) return parse_function(p, true, is_extern, visible, weak);
    else if (ts_str_is(s, "func")) return parse_function(p, false, is_extern, visible, weak);
    else if (ts_str_is(s, "global")) return parse_variables(p, PTX_GLOBAL, is_extern, visible, weak);
    else if (ts_str_is(s, "const")) return parse_variables(p, PTX_CONST, is_extern, visible, weak);
    else if (ts_str_is(s, "shared")) return parse_variables(p, PTX_SHARED, is_extern, visible, weak);
    else if (ts_str_is(s, "target")) return parse_target(p);
    else if (ts_str_is(s, "file")) return parse_file(p);
    else if (ts_str_is(s, "section")) return parse_section(p);
    else if (ts_str_is(s, "alias")) return parse_alias(p);
    else if (ts_str_is(s, "loc")) return parse_loc(p);
    else if (ts_str_is(s, "pragma")) {
      parse_skip_statement(p);
      return true;
    } else if (ts_str_is(s, "address_size")) {
      uint64_t n;
      if (!parse_count(p, 64, &n)) return false;
      return n == 64 || parse_error(p, pos, &diag_ptx_version, "only .address_size 64 is supported");
    } else {
      return parse_error(p, pos, &diag_ptx_syntax, "unknown directive '.%.*s'", TS_FMT(s));
    }
  }
}

ts_status ptx_parse(ts_arena *arena, ts_interner *names, ts_str text, ts_sym file, ts_diags *d, ptx_module *out) {
  *out = (ptx_module){.file = file, .text = text, .names = names};
  unsigned before = d->errors;
  parser *p = ts_new(arena, parser);
  p->arena = arena;
  p->diags = d;
  p->m = out;
  ptx_loc none = {0};
  ts_vec_push(arena, &out->locs, none);
  ptx_lex_init(&p->lexer, text);
  parse_next(p);
  if (parse_version(p)) {
    while (p->t.kind != PTX_T_END && d->errors - before < 20) {
      if (parse_module_item(p)) continue;
      // go on behind the next ';' or '}' at this level
      unsigned depth = 0;
      while (p->t.kind != PTX_T_END) {
        if (parse_at(p, '{')) depth++;
        bool close = parse_at(p, '}');
        if (close && depth) depth--;
        bool end = (close || parse_at(p, ';')) && !depth;
        parse_next(p);
        if (end) break;
      }
    }
  }
  if (d->errors == before && !out->target) parse_error(p, p->t.pos, &diag_ptx_version, "the file has no .target");
  if (d->errors != before) {
    ts_map_deinit(&out->by_name);
    for (size_t i = d->list.count; i-- > 0;)
      if (d->list.data[i].kind && d->list.data[i].kind->severity == TS_ERROR) return d->list.data[i].kind->status;
    return TS_INVALID;
  }
  return TS_OK;
}

const char *ptx_file_name(const ptx_module *m, uint32_t number) {
  for (size_t i = 0; i < m->files.count; i++)
    if (m->files.data[i].number == number) return m->files.data[i].name;
  return NULL;
}
