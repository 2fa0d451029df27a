// What a launch found: places, addresses in words, and the list of reports (one per operation and fault, with a count).
#include "emulator/decode.h"
#include "emulator/machine.h"

#include <stdio.h>

static const struct { const char *name; bool fatal; } faults[] = {
#define EMU_FAULT_FATAL true
#define EMU_FAULT_OPEN false
#define EMU_FAULT(name, spelling, severity, doc) {spelling, EMU_FAULT_##severity},
#include "emulator/faults.def"
};
const char *emu_fault_name(emu_fault f) { return f < EMU_FAULT_COUNT ? faults[f].name : "?"; }
bool emu_fault_is_fatal(emu_fault f) { return f < EMU_FAULT_COUNT && faults[f].fatal; }

emu_place emu_place_of(const emu_launch_state *l, const emu_block *b, uint32_t warp, unsigned lane, uint32_t pc) {
  emu_place p = {.warp = warp, .lane = lane};
  uint32_t t = warp * 32 + lane, bx = l->config.block[0], by = l->config.block[1];
  memcpy(p.block, b->ctaid, sizeof p.block);
  p.thread[0] = t % bx;
  p.thread[1] = t / bx % by;
  p.thread[2] = t / bx / by;
  const emu_program *prog = l->program;
  const ptx_stmt *s = emu_stmt_of(prog, &prog->code.data[pc]);
  p.instruction = "(end of the function)";
  if (!s) return p;
  p.ptx_line = s->pos.line;
  const ptx_loc *loc = &prog->ptx->locs.data[s->loc];
  if (s->loc) {
    p.source_file = ptx_file_name(prog->ptx, loc->file);
    p.source_line = loc->line;
    if (loc->at_line) p.inlined_file = ptx_file_name(prog->ptx, loc->at_file), p.inlined_line = loc->at_line;
  }
  ts_str text = emu_stmt_text(prog, s);
  p.instruction = ts_arena_strndup(&l->result->arena, text.data, text.len);
  return p;
}

void emu_describe_address(const emu_exec *x, uint64_t a, ts_text *out) {
  const emu_context *c = x->context;
  uint64_t offset = a - EMU_DEVICE_BASE;
  if (offset >= c->capacity) return;
  const emu_allocation *near = NULL;
  int64_t distance = INT64_MAX;
  for (uint32_t i = 0; i < c->allocation_count; i++) {
    const emu_allocation *o = &c->allocations[i];
    int64_t d = offset < o->offset ? (int64_t)(o->offset - offset) : offset >= o->offset + o->bytes ? (int64_t)(offset - o->offset - o->bytes) : -1;
    if (d < distance) near = o, distance = d;
  }
  if (!near) return;
  char name[80];
  snprintf(name, sizeof name, near->name ? "'%.60s'" : "an allocation", near->name);
  const char *freed = near->live ? "" : " (freed)";
  if (distance < 0) ts_text_printf(out, "byte %llu of %s of %llu bytes%s", (unsigned long long)(offset - near->offset), name, (unsigned long long)near->bytes, freed);
  else ts_text_printf(out, "%lld bytes %s %s of %llu bytes%s", (long long)distance, offset < near->offset ? "before" : "behind the end of", name, (unsigned long long)near->bytes, freed);
}

static void print_place(ts_text *t, const char *lead, const emu_place *p) {
  ts_text_printf(t, "%sblock (%u,%u,%u) thread (%u,%u,%u)", lead, p->block[0], p->block[1], p->block[2], p->thread[0], p->thread[1], p->thread[2]);
  ts_text_printf(t, ", PTX line %u", p->ptx_line);
  if (p->source_file) ts_text_printf(t, ", %s:%u", p->source_file, p->source_line);
  if (p->inlined_file) ts_text_printf(t, " (inlined at %s:%u)", p->inlined_file, p->inlined_line);
  ts_text_printf(t, "\n      %s\n", p->instruction);
}

void emu_fault_report(emu_exec *x, const emu_insn *in, emu_fault fault, unsigned lane, uint64_t address, uint32_t bytes, const emu_place *other, const char *fmt, ...) {
  emu_launch_state *l = x->launch;
  bool fatal = emu_fault_is_fatal(fault);
  uint32_t pc = (uint32_t)(in - x->code);
  pthread_mutex_lock(&l->context->lock);
  if (fatal && atomic_load(&l->stop)) {   // one end is enough
    pthread_mutex_unlock(&l->context->lock);
    return;
  }
  emu_result *r = l->result;
  const ptx_stmt *s = emu_stmt_of(l->program, in);
  uint32_t line = s ? s->pos.line : 0;
  for (size_t i = 0; i < r->reports.count; i++) {
    emu_report *old = &r->reports.data[i];
    if (old->fault != fault || old->at.ptx_line != line || (other && old->has_other && old->other.ptx_line != other->ptx_line)) continue;
    old->repeats++;
    pthread_mutex_unlock(&l->context->lock);
    return;
  }
  if (r->reports.count < 100) {
    emu_report one = {.fault = fault, .address = address, .bytes = bytes};
    one.at = emu_place_of(l, x->block, x->warp->index, lane, pc);
    if (other) one.has_other = true, one.other = *other;
    ts_text t = {0};
    va_list ap;
    va_start(ap, fmt);
    ts_text_printf(&t, "%s in %s: ", emu_fault_name(fault), l->program->ptx->funcs.data[l->entry->func]->name);
    ts_text_vprintf(&t, fmt, ap);
    va_end(ap);
    ts_text_putc(&t, '\n');
    print_place(&t, "    at ", &one.at);
    if (other) print_place(&t, "    after ", other);
    one.text = ts_arena_strdup(&r->arena, ts_text_z(&t));
    ts_text_deinit(&t);
    ts_vec_push(&r->arena, &r->reports, one);
  }
  if (fatal) atomic_store(&l->stop, true);
  pthread_mutex_unlock(&l->context->lock);
}

// Registers that may be uninitialised. Compilers compute with undefined values whose results they drop, so arithmetic only
// passes the fact on, a select takes it from the side it selects, and a store to it from its value; every other use (an
// address, a comparison, another lane) is reported.
void emu_check_registers(emu_exec *x, const emu_insn *in, uint32_t mask) {
  uint32_t *init = x->frame->init, known = mask, missing_slot = EMU_NONE;
  bool passes = in->flags & EMU_F_PROPAGATE, store = in->run == emu_run_st;
  if (in->run == emu_run_select) {
    uint32_t chosen = emu_pred(x, in->ps, in->ps_not);
    for (int i = 0; i < 2; i++)
      if (!(in->s[i] & EMU_CONST)) known &= ~((i ? ~chosen : chosen) & ~init[in->s[i] / 128]);
  } else {
    for (int i = 0; i < 4; i++) {
      if (in->s[i] == EMU_NONE || in->s[i] & EMU_CONST) continue;
      if (mask & ~init[in->s[i] / 128] && missing_slot == EMU_NONE) missing_slot = in->s[i];
      known &= init[in->s[i] / 128];
    }
    for (unsigned i = in->xd; !store && i < (unsigned)in->xd + in->xs; i++) {
      if (in->x[i] & EMU_CONST) continue;
      if (mask & ~init[in->x[i] / 128] && missing_slot == EMU_NONE) missing_slot = in->x[i];
      known &= init[in->x[i] / 128];
    }
  }
  if (!passes && x->check_init && known != mask) {
    const emu_function *fn = x->frame->fn;
    const char *name = "?";
    for (size_t r = 0; r < fn->ptx->regs.count; r++)
      if (fn->ptx->regs.data[r].bits != 1 && fn->slot_of[r] == missing_slot) name = fn->ptx->regs.data[r].name;
    emu_fault_report(x, in, EMU_FAULT_UNINITIALISED_REGISTER, (unsigned)__builtin_ctz(mask & ~known), 0, 0, NULL, "register %s is used before anything is written to it", name);
  }
  uint32_t now = passes ? known : mask;
  if (in->d != EMU_NONE) init[in->d / 128] = (init[in->d / 128] & ~mask) | now;
  for (unsigned i = 0; i < in->xd; i++) init[in->x[i] / 128] = (init[in->x[i] / 128] & ~mask) | now;
}

// --- debugging hooks -----------------------------------------------------------------------------------------------------------------
emu_place emu_stop_place(const emu_stop *s) {
  const emu_exec *x = s->x;
  pthread_mutex_lock(&x->context->lock);   // places live in the result's arena
  emu_place p = emu_place_of(x->launch, x->block, x->warp->index, (unsigned)__builtin_ctz(s->mask), (uint32_t)(s->in - x->code));
  pthread_mutex_unlock(&x->context->lock);
  return p;
}
uint32_t emu_stop_mask(const emu_stop *s) { return s->mask; }
bool emu_stop_register(const emu_stop *s, const char *name, uint64_t lanes[32], unsigned *bits) {
  const emu_function *fn = s->x->frame->fn;
  for (size_t r = 0; r < fn->ptx->regs.count; r++) {
    const ptx_reg *reg = &fn->ptx->regs.data[r];
    if (strcmp(reg->name, name)) continue;
    *bits = reg->bits;
    for (unsigned i = 0; i < 32; i++) {
      if (reg->bits == 1) lanes[i] = s->x->preds[fn->slot_of[r]] >> i & 1;
      else if (reg->bits > 32) lanes[i] = ((const uint64_t *)(s->x->regs + fn->slot_of[r]))[i];
      else lanes[i] = ((const uint32_t *)(s->x->regs + fn->slot_of[r]))[i];
    }
    return true;
  }
  return false;
}
