// Where variables lie: shared memory per entry, frames of functions.
//
// A shared variable that only one entry reaches (through calls too) shares its addresses with those of other entries; one that
// several reach has an address for all of them. Dynamic shared memory comes behind what its entries have.
#include "emulator/program.h"

static bool place(uint64_t *at, ptx_var *v, uint64_t limit) {
  uint64_t a = (*at + v->align - 1) / v->align * v->align;
  if (a + v->bytes > limit) return false;
  v->address = a;
  *at = a + v->bytes;
  return true;
}

static bool layout_error(ts_diags *d, const ptx_module *m, const ptx_var *v, const char *what) {
  ts_report(d, (ts_loc){m->file, v->pos.line, v->pos.col, 0}, &diag_ptx_size, "'%s' does not fit into %s", v->name, what);
  return false;
}

// --- who reaches what ------------------------------------------------------------------------------------------------------------
enum { NOBODY = 0, SEVERAL = UINT32_MAX };   // else the number of an entry + 1

typedef struct reach {
  ptx_module *m;
  ts_map users;          // variable → entry + 1, or SEVERAL
  uint32_t *seen;        // function → entry + 1 that visited it last
  uint32_t *stack, top;
  uint32_t entry;
} reach;

static void use_function(reach *r, const ptx_func *f) {
  if (f->is_entry || r->seen[f->index] == r->entry + 1) return;
  r->seen[f->index] = r->entry + 1;
  r->stack[r->top++] = f->index;
}

static void use_operand(reach *r, const ptx_operand *o) {
  for (uint32_t i = 0; i < o->count; i++) use_operand(r, &o->elements[i]);
  if (o->kind != PTX_OP_NAME) return;
  ptx_var *v = o->var;
  if (!v) {
    ptx_symbol *s = ts_map_get(&r->m->by_name, ts_key(o->name));
    if (s && s->func) use_function(r, s->func);
    v = s ? s->var : NULL;
  }
  if (!v || v->space != PTX_SHARED) return;
  uintptr_t old = (uintptr_t)ts_map_get(&r->users, ts_key(v));
  ts_map_put(&r->users, ts_key(v), (void *)(uintptr_t)(old == NOBODY || old == r->entry + 1 ? r->entry + 1 : SEVERAL));
}

static void visit_function(reach *r, const ptx_func *f) {
  for (size_t i = 0; i < f->stmts.count; i++) {
    const ptx_stmt *s = &f->stmts.data[i];
    bool call = !strcmp(s->op, "call"), indirect = false;
    for (unsigned k = 0; k < s->operand_count; k++) {
      use_operand(r, &s->operands[k]);
      indirect |= call && s->operands[k].kind == PTX_OP_REG;
    }
    for (size_t k = 0; indirect && k < r->m->funcs.count; k++) use_function(r, r->m->funcs.data[k]);
  }
}

static void find_users(ts_arena *a, reach *r) {
  r->seen = ts_new_array(a, uint32_t, r->m->funcs.count + 1);
  r->stack = ts_new_array(a, uint32_t, r->m->funcs.count + 1);
  for (size_t e = 0; e < r->m->funcs.count; e++) {
    if (!r->m->funcs.data[e]->is_entry) continue;
    r->entry = (uint32_t)e;
    visit_function(r, r->m->funcs.data[e]);
    while (r->top) visit_function(r, r->m->funcs.data[r->stack[--r->top]]);
  }
  // A variable whose address another variable holds can be reached by anyone.
  for (size_t i = 0; i < r->m->vars.count; i++)
    for (size_t k = 0; k < r->m->vars.data[i]->init_count; k++) {
      ptx_symbol *s = r->m->vars.data[i]->inits[k].symbol ? ts_map_get(&r->m->by_name, ts_key(r->m->vars.data[i]->inits[k].symbol)) : NULL;
      if (s && s->var && s->var->space == PTX_SHARED) ts_map_put(&r->users, ts_key(s->var), (void *)(uintptr_t)SEVERAL);
    }
}

typedef bool shared_fn(reach *r, emu_program *p, ptx_var *v, uint32_t user, uint64_t *ends, ts_diags *d);
static bool each_shared(reach *r, emu_program *p, uint64_t *ends, ts_diags *d, shared_fn *fn) {
  for (size_t i = 0; i <= r->m->funcs.count; i++) {
    ptx_var **list = i ? r->m->funcs.data[i - 1]->vars.data : r->m->vars.data;
    size_t n = i ? r->m->funcs.data[i - 1]->vars.count : r->m->vars.count;
    for (size_t k = 0; k < n; k++)
      if (list[k]->space == PTX_SHARED && !fn(r, p, list[k], (uint32_t)(uintptr_t)ts_map_get(&r->users, ts_key(list[k])), ends, d)) return false;
  }
  return true;
}

static bool place_common(reach *r, emu_program *p, ptx_var *v, uint32_t user, uint64_t *ends, ts_diags *d) {
  (void)p;
  if (v->bytes == 0 || user != SEVERAL) return true;
  return place(&ends[r->m->funcs.count], v, 1 << 20) || layout_error(d, r->m, v, "1 MiB of shared memory");
}
static bool place_private(reach *r, emu_program *p, ptx_var *v, uint32_t user, uint64_t *ends, ts_diags *d) {
  (void)p;
  if (v->bytes == 0 || user == SEVERAL || user == NOBODY) return true;
  return place(&ends[user - 1], v, 1 << 20) || layout_error(d, r->m, v, "1 MiB of shared memory");
}
// Dynamic memory of all entries begins where the one with the most static memory ends, if it is used by several.
static bool place_dynamic(reach *r, emu_program *p, ptx_var *v, uint32_t user, uint64_t *ends, ts_diags *d) {
  (void)p, (void)d;
  if (v->bytes != 0 || user == NOBODY) return true;
  uint64_t at = 0, align = v->align > 16 ? v->align : 16;
  for (size_t e = 0; e < r->m->funcs.count; e++)
    if (r->m->funcs.data[e]->is_entry && (user == SEVERAL || user - 1 == e) && ends[e] > at) at = ends[e];
  v->address = (at + align - 1) / align * align;
  for (size_t e = 0; e < r->m->funcs.count; e++)
    if ((user == SEVERAL || user - 1 == e) && v->address > p->functions[e].dynamic_shared_at) p->functions[e].dynamic_shared_at = (uint32_t)v->address;
  return true;
}

bool emu_layout_shared(ts_arena *a, ptx_module *m, emu_program *p, ts_diags *d) {
  reach r = {.m = m};
  uint64_t *ends = ts_new_array(a, uint64_t, m->funcs.count + 1);
  find_users(a, &r);
  bool ok = each_shared(&r, p, ends, d, place_common);
  for (size_t e = 0; e < m->funcs.count; e++) ends[e] = ends[m->funcs.count];
  ok = ok && each_shared(&r, p, ends, d, place_private);
  for (size_t e = 0; ok && e < m->funcs.count; e++) p->functions[e].static_shared = p->functions[e].dynamic_shared_at = (uint32_t)ends[e];
  ok = ok && each_shared(&r, p, ends, d, place_dynamic);
  ts_map_deinit(&r.users);
  return ok;
}

// --- frames -----------------------------------------------------------------------------------------------------------------------
bool emu_layout_frame(ptx_module *m, emu_function *fn, ptx_func *f, ts_diags *d) {
  uint64_t at = 0, params = 0;
  for (size_t i = 0; i < f->params.count; i++)
    if (!place(f->is_entry ? &params : &at, f->params.data[i], 1 << 16)) return layout_error(d, m, f->params.data[i], "64 KiB of parameters");
  for (size_t i = 0; i < f->rets.count; i++)
    if (!place(&at, f->rets.data[i], 1 << 20)) return layout_error(d, m, f->rets.data[i], "the frame");
  for (size_t i = 0; i < f->vars.count; i++) {
    ptx_var *v = f->vars.data[i];
    if (v->space != PTX_LOCAL && v->space != PTX_PARAM) continue;
    if (!place(&at, v, 512 << 10)) return layout_error(d, m, v, "512 KiB of local memory");
  }
  fn->frame_bytes = (uint32_t)((at + 15) & ~15ull);
  return true;
}
