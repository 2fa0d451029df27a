// The PTX parser, second half: function bodies, statements and operands.
#include "emulator/parse_priv.h"

static bool parse_operand(parser *p, ptx_operand *o, unsigned depth);

static bool parse_offset(parser *p, uint64_t *out) {
  if (!parse_at(p, '+') && !parse_at(p, '-')) return true;
  bool plus = parse_take(p, '+');   // "+-8" is written too
  int64_t n;
  (void)plus;
  if (!parse_const(p, &n)) return false;
  *out += (uint64_t)n;
  return true;
}

// Resolves a name to a register, a variable of a scope, or leaves it for decoding.
static void resolve(parser *p, ptx_operand *o) {
  uint32_t reg = 0;
  ptx_var *var = NULL;
  o->kind = PTX_OP_NAME;
  if (!scope_find(p, o->name, &reg, &var)) return;
  o->var = var;
  if (var) return;
  o->kind = PTX_OP_REG;
  o->reg = reg;
}

static bool parse_name_operand(parser *p, ptx_operand *o) {
  o->name = parse_intern(p, p->t.text);
  parse_next(p);
  if (o->name[0] == '_' && !o->name[1]) {
    o->kind = PTX_OP_SINK;
  } else {
    resolve(p, o);
    if (o->kind == PTX_OP_NAME && o->name[0] == '%' && p->t.kind == PTX_T_DOT) {   // %tid.x
      o->name = parse_intern(p, ts_str_of(ts_arena_printf(p->arena, "%s.%.*s", o->name, TS_FMT(p->t.text))));
      parse_next(p);
    } else if (p->t.kind == PTX_T_DOT) {
      return parse_error(p, p->t.pos, &diag_ptx_unsupported, "'.%.*s' behind an operand (vector elements, video selectors) is not supported", TS_FMT(p->t.text));
    }
  }
  if (parse_take(p, '|')) {
    ptx_operand second = {0};
    bool sink = o->kind == PTX_OP_SINK;
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a register behind '|'");
    second.pos = p->t.pos;
    second.name = parse_intern(p, p->t.text);
    parse_next(p);
    bool second_sink = second.name[0] == '_' && !second.name[1];
    if (!second_sink) resolve(p, &second);
    if ((!sink && o->kind != PTX_OP_REG) || (!second_sink && second.kind != PTX_OP_REG))
      return parse_error(p, second.pos, &diag_ptx_name, "'%s' and '%s' must both be registers", o->name, second.name);
    o->kind = PTX_OP_PAIR;
    if (sink) o->reg = ~0u;
    o->reg2 = second_sink ? ~0u : second.reg;
    return true;
  }
  return o->kind != PTX_OP_NAME || parse_offset(p, &o->imm);
}

static bool parse_number_operand(parser *p, ptx_operand *o) {
  ptx_lexer saved_lexer = p->lexer;
  ptx_token saved = p->t;
  bool minus = parse_take(p, '-');
  o->kind = PTX_OP_IMM;
  if (p->t.kind == PTX_T_FLOAT) {
    o->is_float = true;
    o->imm_f32 = p->t.is_f32;
    o->imm = p->t.value;
    if (minus) o->imm ^= o->imm_f32 ? 1ull << 31 : 1ull << 63;
    parse_next(p);
    return true;
  }
  p->lexer = saved_lexer;
  p->t = saved;
  int64_t n;
  if (!parse_const(p, &n)) return false;
  o->imm = (uint64_t)n;
  o->minus = minus;
  return true;
}

// "{a, b}", "(a, b)": the list behind the opening bracket, up to `close`.
static bool parse_list(parser *p, ptx_operand *o, unsigned close, unsigned depth) {
  TS_VEC(ptx_operand) list = {0};
  while (!parse_at(p, close)) {
    ptx_operand one = {0};
    if (!parse_operand(p, &one, depth + 1)) return false;
    if (list.count == 64) return parse_error(p, p->t.pos, &diag_ptx_operand, "more than 64 elements in a list");
    ts_vec_push(p->arena, &list, one);
    if (!parse_take(p, ',')) break;
  }
  o->elements = list.data;
  o->count = (uint32_t)list.count;
  return ptx_expect(p, close);
}

static bool parse_address(parser *p, ptx_operand *o) {
  o->kind = PTX_OP_ADDRESS;
  o->elements = ts_new(p->arena, ptx_operand);
  o->count = 1;
  ptx_operand *base = &o->elements[0];
  base->pos = p->t.pos;
  if (p->t.kind == PTX_T_NAME) {
    base->name = parse_intern(p, p->t.text);
    parse_next(p);
    resolve(p, base);
    if (!parse_offset(p, &o->imm)) return false;
  } else if (!parse_number_operand(p, base)) {
    return false;
  }
  if (parse_at(p, ',')) return parse_error(p, p->t.pos, &diag_ptx_unsupported, "addresses with several parts are not supported");
  return ptx_expect(p, ']');
}

static bool parse_operand(parser *p, ptx_operand *o, unsigned depth) {
  *o = (ptx_operand){.pos = p->t.pos};
  if (depth > 4) return parse_error(p, p->t.pos, &diag_ptx_syntax, "operands nested too deeply");
  if (parse_take(p, '{')) {
    o->kind = PTX_OP_VECTOR;
    return parse_list(p, o, '}', depth);
  }
  if (parse_at(p, '(')) {
    // a tuple of call arguments, or an expression in parentheses
    ptx_lexer saved_lexer = p->lexer;
    ptx_token saved = p->t;
    parse_next(p);
    bool tuple = p->t.kind == PTX_T_NAME || parse_at(p, ')') || depth == 0;
    if (tuple && p->t.kind != PTX_T_DOT) {
      o->kind = PTX_OP_TUPLE;
      return parse_list(p, o, ')', depth);
    }
    p->lexer = saved_lexer;
    p->t = saved;
    return parse_number_operand(p, o);
  }
  if (parse_take(p, '[')) return parse_address(p, o);
  if (parse_take(p, '!')) {
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a predicate behind '!'");
    if (!parse_name_operand(p, o)) return false;
    if (o->kind != PTX_OP_REG) return parse_error(p, o->pos, &diag_ptx_name, "'%s' is not a predicate", o->name ? o->name : "?");
    o->negated = true;
    return true;
  }
  if (p->t.kind == PTX_T_NAME) {
    if (!parse_name_operand(p, o)) return false;
    if (o->kind == PTX_OP_NAME && ts_str_is(ts_str_of(o->name), "WARP_SZ")) {
      o->kind = PTX_OP_IMM;
      o->imm += 32;
    }
    return true;
  }
  return parse_number_operand(p, o);
}

static bool parse_instruction(parser *p) {
  ptx_stmt s = {.loc = p->loc, .scope = p->scopes[p->depth - 1].label_scope, .pos = p->t.pos};
  if (parse_take(p, '@')) {
    s.guarded = true;
    s.guard_not = parse_take(p, '!');
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a predicate behind '@'");
    ptx_operand g = {.pos = p->t.pos, .name = parse_intern(p, p->t.text)};
    resolve(p, &g);
    if (g.kind != PTX_OP_REG || p->f->regs.data[g.reg].bits != 1) return parse_error(p, p->t.pos, &diag_ptx_name, "'%s' is not a predicate register", g.name);
    s.guard = g.reg;
    parse_next(p);
    s.pos = p->t.pos;
  }
  if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected an instruction");
  s.op = parse_intern(p, p->t.text);
  parse_next(p);
  ts_sym mods[PTX_MAX_MODS];
  while (p->t.kind == PTX_T_DOT) {
    if (s.mod_count == PTX_MAX_MODS) return parse_error(p, p->t.pos, &diag_ptx_modifier, "more than %d modifiers", PTX_MAX_MODS);
    mods[s.mod_count++] = parse_intern(p, p->t.text);
    parse_next(p);
  }
  s.mods = ts_arena_copy(p->arena, mods, s.mod_count * sizeof mods[0], _Alignof(ts_sym));
  const char *why = ptx_refused(&s);
  if (why && !*why) return parse_error(p, s.pos, &diag_ptx_syntax, "'%s' is not a PTX instruction", s.op);
  if (why) return parse_error(p, s.pos, &diag_ptx_unsupported, "%s is not supported: %s", s.op, why);
  ptx_operand operands[PTX_MAX_OPERANDS];
  while (!parse_at(p, ';')) {
    if (s.operand_count == PTX_MAX_OPERANDS) return parse_error(p, p->t.pos, &diag_ptx_operand, "more than %d operands", PTX_MAX_OPERANDS);
    if (!parse_operand(p, &operands[s.operand_count], 0)) return false;
    s.operand_count++;
    if (!parse_take(p, ',')) break;
  }
  s.operands = ts_arena_copy(p->arena, operands, s.operand_count * sizeof operands[0], _Alignof(ptx_operand));
  if (!ptx_expect(p, ';')) return false;
  if (p->f->stmts.count >= 1u << 24) return parse_error(p, s.pos, &diag_ptx_size, "function with more than 2^24 statements");
  ts_vec_push(p->arena, &p->f->stmts, s);
  return true;
}

// .loc file line column[, function_name LABEL[+n], inlined_at file line column]
bool parse_loc(parser *p) {
  uint64_t file, line, col, at[3] = {0};
  if (!parse_count(p, UINT32_MAX, &file) || !parse_count(p, UINT32_MAX, &line) || !parse_count(p, UINT32_MAX, &col)) return false;
  while (parse_take(p, ',')) {
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected function_name or inlined_at");
    bool inlined = ts_str_is(p->t.text, "inlined_at");
    parse_next(p);
    if (inlined) {
      for (int i = 0; i < 3; i++)
        if (!parse_count(p, UINT32_MAX, &at[i])) return false;
    } else {
      parse_next(p);
      uint64_t unused = 0;
      if (!parse_offset(p, &unused)) return false;
    }
  }
  if (line == 0) return true;   // "no source line": the one in force stays
  ptx_loc loc = {(uint32_t)file, (uint32_t)line, (uint32_t)col, (uint32_t)at[0], (uint32_t)at[1]};
  // The place of inlining may be inlined itself: the outermost one is what a reader looks for.
  size_t n = p->m->locs.count;
  for (size_t i = n; loc.at_line && i-- > 1 && n - i < 256;) {
    const ptx_loc *o = &p->m->locs.data[i];
    if (o->file != at[0] || o->line != at[1] || o->col != at[2]) continue;
    if (o->at_line) loc.at_file = o->at_file, loc.at_line = o->at_line;
    break;
  }
  ts_vec_push(p->arena, &p->m->locs, loc);
  p->loc = (uint32_t)p->m->locs.count - 1;
  return true;
}

static bool parse_registers(parser *p) {
  if (parse_at_dot(p, "v2") || parse_at_dot(p, "v4")) return parse_error(p, p->t.pos, &diag_ptx_unsupported, "vector registers are not supported");
  emu_type type = EMU_NOTYPE;
  if (parse_at_dot(p, "b128")) return parse_error(p, p->t.pos, &diag_ptx_unsupported, ".b128 registers are not supported");
  if (!parse_at_dot(p, "pred")) {
    type = p->t.kind == PTX_T_DOT ? emu_type_find(p->t.text.data, p->t.text.len) : EMU_NOTYPE;
    if (type == EMU_NOTYPE || emu_type_bits(type) < 8) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected the type of the registers");
  }
  parse_next(p);
  do {
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a register name");
    ptx_pos pos = p->t.pos;
    ts_sym name = parse_intern(p, p->t.text);
    parse_next(p);
    scope_name n = {.type = type};
    if (parse_take(p, '<')) {
      uint64_t count;
      if (!parse_count(p, UINT32_MAX, &count) || !ptx_expect(p, '>')) return false;
      n.is_range = true;
      n.count = (uint32_t)count;
    } else {
      if (p->f->regs.count >= PTX_MAX_REGISTERS) return parse_error(p, pos, &diag_ptx_size, "more than %d registers", PTX_MAX_REGISTERS);
      ptx_reg r = {name, type, type == EMU_NOTYPE ? 1 : (uint8_t)emu_type_bits(type)};
      n.reg = (uint32_t)p->f->regs.count;
      ts_vec_push(p->arena, &p->f->regs, r);
    }
    if (!scope_declare(p, pos, name, n)) return false;
  } while (parse_take(p, ','));
  return ptx_expect(p, ';');
}

static bool parse_targets(parser *p, ptx_label *label) {
  TS_VEC(ts_sym) list = {0};
  do {
    if (p->t.kind != PTX_T_NAME) return parse_error(p, p->t.pos, &diag_ptx_syntax, "expected a label");
    ts_vec_push(p->arena, &list, parse_intern(p, p->t.text));
    parse_next(p);
  } while (parse_take(p, ','));
  label->is_targets = true;
  label->targets = list.data;
  label->target_count = (uint32_t)list.count;
  return ptx_expect(p, ';');
}

static bool parse_label(parser *p, ptx_token name) {
  ptx_label label = {.name = parse_intern(p, name.text), .scope = p->scopes[p->depth - 1].label_scope, .at = (uint32_t)p->f->stmts.count, .pos = name.pos};
  bool ok = true;
  if (parse_at_dot(p, "branchtargets") || parse_at_dot(p, "calltargets")) {
    parse_next(p);
    ok = parse_targets(p, &label);
  } else if (parse_at_dot(p, "callprototype")) {
    label.is_prototype = true;   // sizes come from the function that is called
    parse_skip_statement(p);
  }
  ts_vec_push(p->arena, &p->f->labels, label);
  return ok;
}

static bool parse_body_directive(parser *p) {
  ts_str s = p->t.text;
  ptx_pos pos = p->t.pos;
  parse_next(p);
  if (ts_str_is(s, "loc")) return parse_loc(p);
  if (ts_str_is(s, "reg")) return parse_registers(p);
  if (ts_str_is(s, "local")) return parse_variables(p, PTX_LOCAL, false, false, false);
  if (ts_str_is(s, "shared")) return parse_variables(p, PTX_SHARED, false, false, false);
  if (ts_str_is(s, "param")) return parse_variables(p, PTX_PARAM, false, false, false);
  if (ts_str_is(s, "global")) return parse_variables(p, PTX_GLOBAL, false, false, false);
  if (ts_str_is(s, "const")) return parse_variables(p, PTX_CONST, false, false, false);
  if (ts_str_is(s, "extern") && parse_at_dot(p, "shared")) {
    parse_next(p);
    return parse_variables(p, PTX_SHARED, true, false, false);
  }
  if (ts_str_is(s, "pragma")) {
    parse_skip_statement(p);
    return true;
  }
  return parse_error(p, pos, &diag_ptx_syntax, "unknown directive '.%.*s' in a function", TS_FMT(s));
}

static bool parse_statement(parser *p) {
  if (p->t.kind == PTX_T_DOT) return parse_body_directive(p);
  if (p->t.kind == PTX_T_NAME) {
    ptx_lexer saved_lexer = p->lexer;
    ptx_token saved = p->t;
    parse_next(p);
    if (parse_take(p, ':')) return parse_label(p, saved);
    p->lexer = saved_lexer;
    p->t = saved;
  }
  if (parse_take(p, ';')) return true;
  return parse_instruction(p);
}

bool parse_body(parser *p) {
  unsigned start = p->depth;
  if (!ptx_expect(p, '{') || !scope_push(p)) return false;
  while (p->depth > start) {
    if (p->t.kind == PTX_T_END) return parse_error(p, p->t.pos, &diag_ptx_syntax, "function '%s' has no end", p->f->name);
    if (parse_at(p, '{')) {
      parse_next(p);
      if (!scope_push(p)) return false;
    } else if (parse_at(p, '}')) {
      scope_pop(p);
      parse_next(p);
    } else if (!parse_statement(p)) {
      if (p->diags->errors >= 20) return false;
      parse_skip_statement(p);
    }
  }
  return true;
}
