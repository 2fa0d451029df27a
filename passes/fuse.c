// Grouping of a function's ops into kernels (see lower.h).
//
// Ops are numbered in program order. A group runs where its first op stands, so an op may join only when everything it reads is in
// the group, or was made before the group's first op, or is a constant. That rule alone keeps the order of values right; appends
// are checked against other uses of their state as well.
#include "passes/lower_internal.h"

static bool is_free(const ir_op *op) {
  return op->code == IR_OP_weight || op->code == IR_OP_state_ref || op->code == IR_OP_dim || op->code == IR_OP_literal;
}

uint32_t lower_number(const lowering *L, const ir_op *op) { return (uint32_t)(uintptr_t)ts_map_get(&L->numbers, ts_key(op)) - 1; }

bool lower_in_group(const lowering *L, const ir_value *v, uint32_t g) {
  return v->producer && L->ops.data[lower_number(L, v->producer)].group == g + 1;
}

ir_value *lower_root(const lowering *L, ir_value *v) {
  while (v->producer && v->producer->code == IR_OP_reshape && L->ops.data[lower_number(L, v->producer)].group == 0) v = v->producer->operands[0];
  return v;
}

static bool uses(const ir_op *op, const ir_value *v) {
  for (uint32_t i = 0; i < op->operand_count; i++)
    if (op->operands[i] == v) return true;
  return false;
}

bool lower_used_outside(const lowering *L, const ir_value *v, uint32_t g) {
  for (size_t i = lower_number(L, v->producer) + 1; i < L->ops.count; i++)
    if (L->ops.data[i].group != g + 1 && uses(L->ops.data[i].op, v)) return true;
  return false;
}

// Are all users of v linears that read it as their input?
static bool only_linear_inputs(const lowering *L, const ir_value *v) {
  bool any = false;
  for (size_t i = lower_number(L, v->producer) + 1; i < L->ops.count; i++) {
    const ir_op *op = L->ops.data[i].op;
    if (!uses(op, v)) continue;
    if (op->code != IR_OP_linear || op->operands[0] != v) return false;
    any = true;
  }
  return any;
}

static bool only_user(const lowering *L, const ir_value *v, const ir_op *user) {
  for (size_t i = lower_number(L, v->producer) + 1; i < L->ops.count; i++)
    if (L->ops.data[i].op != user && uses(L->ops.data[i].op, v)) return false;
  return true;
}

uint32_t lower_part(const lowering *L, uint32_t linear) {
  while (L->ops.data[linear].linear != linear) linear = L->ops.data[linear].linear;
  return linear;
}

// The part that a value of group g descends from; UINT32_MAX: none (a row kernel, or a free operand).
static uint32_t part_of(const lowering *L, const ir_value *v, uint32_t g) {
  if (!lower_in_group(L, v, g)) return UINT32_MAX;
  uint32_t n = lower_number(L, v->producer);
  return L->groups.data[g].kind == GROUP_CONTRACT ? lower_part(L, L->ops.data[n].linear) : UINT32_MAX;
}

// Without fusion only what has no kernel of its own goes into epilogues.
static bool is_epilogue(const lowering *L, ir_opcode code) {
  return code == IR_OP_reshape || code == IR_OP_rope || (L->options->fuse && (code == IR_OP_map_t || code == IR_OP_append));
}

static bool state_touched_between(const lowering *L, const ir_op *append, uint32_t first) {
  for (uint32_t i = first; i < lower_number(L, append); i++) {
    const ir_op *op = L->ops.data[i].op;
    if ((op->code == IR_OP_append || op->code == IR_OP_attend) && uses(op, append->operands[0]) &&
        ir_attr_int(op, "layer", 0) == ir_attr_int(append, "layer", 0))
      return true;
  }
  return false;
}

// Does a reshape leave the row dims of the group (all but the last of its anchor's) alone? Else it is a view of a buffer.
static bool keeps_rows(const group *G, const ir_op *op) {
  const ir_op *anchor = G->ops.data[0];
  if (!anchor->result_count) return false;
  const ir_type *rows = anchor->results[0]->type, *to = op->results[0]->type;
  if (to->rank < rows->rank) return false;
  for (unsigned i = 0; i + 1 < rows->rank; i++)
    if (to->shape[i] != rows->shape[i]) return false;
  return true;
}

// May op join group g? On success *out_part is the part it belongs to (parts that it needs together are united by the caller).
static bool can_join(const lowering *L, const ir_op *op, uint32_t g) {
  const group *G = &L->groups.data[g];
  bool any = false;
  for (uint32_t i = 0; i < op->operand_count; i++) {
    const ir_value *v = op->operands[i];
    if (lower_in_group(L, v, g)) {
      any = true;
      continue;
    }
    if (v->producer && !is_free(v->producer) && lower_number(L, v->producer) >= G->first) return false;
  }
  if (!any) return false;
  if (op->code == IR_OP_rope && (!lower_in_group(L, op->operands[0], g) || lower_in_group(L, op->operands[1], g))) return false;
  if (op->code == IR_OP_reshape && !keeps_rows(G, op)) return false;
  if (op->code == IR_OP_append && state_touched_between(L, op, G->first)) return false;
  return true;
}

static const char *op_text(lowering *L, const ir_op *op) {
  ts_sym name = op->result_count && op->results[0]->name ? op->results[0]->name : NULL;
  return ts_arena_printf(L->module->arena, name ? "%s %%%s" : "%s", ir_op_get(op->code)->name, name ? name : "");
}

// Rows of the weight that a linear multiplies with.
static const ir_size *linear_rows(const ir_op *linear) { return linear->operands[1]->type->shape[0]; }

// Joins op to g, uniting the parts of its operands where it needs several. False: parts of unequal extent.
static bool join(lowering *L, uint32_t number, uint32_t g) {
  ir_op *op = L->ops.data[number].op;
  uint32_t part = UINT32_MAX;
  if (op->code != IR_OP_append) {   // an append only stores: its operands may come from several parts
    for (uint32_t i = 0; i < op->operand_count; i++) {
      uint32_t p = part_of(L, op->operands[i], g);
      if (p == UINT32_MAX || p == part) continue;
      if (part != UINT32_MAX && linear_rows(L->ops.data[p].op) != linear_rows(L->ops.data[part].op)) return false;
      part = part == UINT32_MAX ? p : part;
    }
    for (uint32_t i = 0; i < op->operand_count; i++) {
      uint32_t p = part_of(L, op->operands[i], g);
      if (p != UINT32_MAX && p != part) L->ops.data[p].linear = part;
    }
  }
  L->ops.data[number].group = g + 1;
  L->ops.data[number].linear = part == UINT32_MAX ? number : part;
  ts_vec_push(L->module->arena, &L->groups.data[g].ops, op);
  return true;
}

static void absorb(lowering *L, uint32_t g) {
  for (uint32_t i = L->groups.data[g].first + 1; i < L->ops.count; i++) {
    op_state *s = &L->ops.data[i];
    if (s->group || s->prologue || !is_epilogue(L, s->op->code) || !can_join(L, s->op, g)) continue;
    if (!join(L, i, g)) {
      pass_say(L->log, "fuse", "parts-of-unequal-extent", s->op->loc, "%s stays out: it needs products of different widths", op_text(L, s->op));
      continue;
    }
    pass_say(L->log, "fuse", NULL, s->op->loc, "%s runs in the epilogue of %s", op_text(L, s->op), op_text(L, L->groups.data[g].ops.data[0]));
  }
}

static uint32_t new_group(lowering *L, group_kind kind, uint32_t number) {
  ts_vec_push(L->module->arena, &L->groups, ((group){.kind = kind, .first = number}));
  uint32_t g = (uint32_t)L->groups.count - 1;
  L->ops.data[number].group = g + 1;
  L->ops.data[number].linear = number;
  ts_vec_push(L->module->arena, &L->groups.data[g].ops, L->ops.data[number].op);
  return g;
}

static void group_linears(lowering *L, uint32_t number) {
  ir_op *op = L->ops.data[number].op;
  uint32_t g = new_group(L, GROUP_CONTRACT, number);
  group *G = &L->groups.data[g];
  G->x = op->operands[0];
  const ir_op *from = G->x->producer;
  if (from && L->ops.data[lower_number(L, from)].prologue) {
    G->norm = (ir_op *)from;
    G->x = from->operands[0];
    pass_say(L->log, "fuse", NULL, from->loc, "%s runs in the prologue of %s: the row's scale moves behind the sum", op_text(L, from), op_text(L, op));
    const ir_op *below = G->x->producer;
    if (below && below->code == IR_OP_last && L->ops.data[lower_number(L, below)].prologue) {
      G->last = (ir_op *)below;
      G->x = below->operands[0];
      pass_say(L->log, "fuse", NULL, below->loc, "last is a rows map on the input of %s", op_text(L, op));
    }
  }
  for (uint32_t i = number + 1; i < L->ops.count && L->options->fuse; i++) {
    ir_op *other = L->ops.data[i].op;
    if (other->code != IR_OP_linear || L->ops.data[i].group || other->operands[0] != op->operands[0]) continue;
    if (ir_attr_sym(other, "activations") != ir_attr_sym(op, "activations")) continue;
    L->ops.data[i].group = g + 1;
    L->ops.data[i].linear = i;
    ts_vec_push(L->module->arena, &L->groups.data[g].ops, other);
    pass_say(L->log, "fuse", NULL, other->loc, "%s reads the input of %s: one kernel", op_text(L, other), op_text(L, op));
  }
  absorb(L, g);
}

static void mark_prologues(lowering *L) {
  for (size_t i = 0; i < L->ops.count; i++) {
    const ir_op *op = L->ops.data[i].op;
    if (op->code != IR_OP_rms_norm) continue;
    if (!only_linear_inputs(L, op->results[0])) {
      pass_say(L->log, "fuse", "norm-has-other-readers", op->loc, "%s is a kernel of its own", op_text(L, op));
      continue;
    }
    L->ops.data[i].prologue = true;
    const ir_op *below = op->operands[0]->producer;
    if (below && below->code == IR_OP_last && only_user(L, below->results[0], op)) L->ops.data[lower_number(L, below)].prologue = true;
  }
}

ts_status lower_group(lowering *L) {
  if (L->options->fuse) mark_prologues(L);
  for (uint32_t i = 0; i < L->ops.count; i++) {
    op_state *s = &L->ops.data[i];
    if (s->group || s->prologue || is_free(s->op) || s->op->code == IR_OP_reshape || s->op->code == IR_OP_ret) continue;
    if (s->op->code == IR_OP_linear) {
      group_linears(L, i);
    } else if (s->op->code == IR_OP_attend) {
      new_group(L, GROUP_ATTEND, i);
    } else {
      uint32_t g = new_group(L, GROUP_ROWS, i);
      if (L->options->fuse && s->op->code != IR_OP_append) absorb(L, g);
    }
  }
  return TS_OK;
}
