// Modules: parsing, placing of variables, decoding, and what an entry looks like from outside.
#include "emulator/machine.h"

#include <stdlib.h>

static bool place_variable(emu_module *m, ptx_var *v, ts_diags *d) {
  if (v->space != PTX_GLOBAL && v->space != PTX_CONST) return true;
  emu_addr a;
  if (v->is_extern && v->bytes == 0) return true;
  ts_loc loc = {m->ptx.file, v->pos.line, v->pos.col, 0};
  if (emu_alloc_internal(m->context, v->bytes, v->name, v->space == PTX_CONST, &a) != TS_OK) {
    ts_report(d, loc, &diag_emu_memory, "no room for '%s' (%llu bytes)", v->name, (unsigned long long)v->bytes);
    return false;
  }
  v->address = a;
  if (v->space == PTX_CONST) m->const_bytes += (uint32_t)v->bytes;
  return true;
}

// The value of one initialised element.
static bool init_value(emu_module *m, const ptx_init *i, ts_diags *d, uint64_t *out) {
  *out = i->value;
  if (!i->symbol) return true;
  ptx_symbol *s = ts_map_get(&m->ptx.by_name, ts_key(i->symbol));
  if (!s) {
    ts_report(d, (ts_loc){m->ptx.file, i->pos.line, i->pos.col, 0}, &diag_ptx_name, "'%s' in an initialiser is not declared", i->symbol);
    return false;
  }
  uint64_t base = s->func ? EMU_CODE_BASE + (uint64_t)s->func->index * 16 : s->var->address;
  if (s->var && s->var->space == PTX_SHARED && i->generic) base += EMU_SHARED_BASE;
  *out = (base + i->value) >> i->shift;
  return true;
}

static bool init_variable(emu_module *m, ptx_var *v, ts_diags *d) {
  if ((v->space != PTX_GLOBAL && v->space != PTX_CONST) || !v->address || !v->bytes) return true;
  emu_context *c = m->context;
  uint8_t *to = c->memory + (v->address - EMU_DEVICE_BASE);
  memset(to, 0, v->bytes);
  for (size_t i = 0; i < v->init_count; i++) {
    uint64_t value;
    const ptx_init *one = &v->inits[i];
    if (!init_value(m, one, d, &value)) return false;
    if (one->offset + one->bytes <= v->bytes) memcpy(to + one->offset, &value, one->bytes);
  }
  emu_owner(c, v->address)->all_valid = true;   // variables without an initialiser are zero
  return true;
}

static bool each_variable(emu_module *m, ts_diags *d, bool (*visit)(emu_module *, ptx_var *, ts_diags *)) {
  bool ok = true;
  for (size_t i = 0; i < m->ptx.vars.count; i++) ok = visit(m, m->ptx.vars.data[i], d) && ok;
  for (size_t f = 0; f < m->ptx.funcs.count; f++)
    for (size_t i = 0; i < m->ptx.funcs.data[f]->vars.count; i++) ok = visit(m, m->ptx.funcs.data[f]->vars.data[i], d) && ok;
  return ok;
}

// Bytes of the deepest chain of frames below a function; recursion and indirect calls have no bound.
static void stack_depth(emu_module *m, uint32_t f, uint8_t *state) {
  const emu_function *fn = &m->program.functions[f];
  state[f] = 1;
  uint32_t deepest = 0;
  bool recursive = fn->indirect;
  for (size_t i = 0; i < fn->callees.count; i++) {
    uint32_t c = fn->callees.data[i];
    if (state[c] == 0) stack_depth(m, c, state);
    if (state[c] == 1) recursive = true;
    recursive |= m->recursive[c];
    if (m->stack_bytes[c] > deepest) deepest = m->stack_bytes[c];
  }
  m->stack_bytes[f] = fn->frame_bytes + deepest;
  m->recursive[f] = recursive;
  state[f] = 2;
}

static void describe_entries(emu_module *m) {
  ts_arena *a = &m->arena;
  m->entries = ts_new_array(a, emu_entry, m->ptx.funcs.count + 1);
  for (size_t i = 0; i < m->ptx.funcs.count; i++) {
    ptx_func *f = m->ptx.funcs.data[i];
    if (!f->is_entry || !f->has_body) continue;
    emu_entry *e = &m->entries[m->entry_count++];
    *e = (emu_entry){.module = m, .func = (uint32_t)i, .param_count = (uint32_t)f->params.count};
    e->params = ts_new_array(a, emu_param, f->params.count + 1);
    for (size_t k = 0; k < f->params.count; k++) {
      const ptx_var *v = f->params.data[k];
      e->params[k] = (emu_param){v->name, emu_type_name(v->type), (uint32_t)v->address, (uint32_t)v->bytes, v->align};
      if (v->address + v->bytes > e->param_bytes) e->param_bytes = (uint32_t)(v->address + v->bytes);
    }
  }
}

ts_status emu_module_load(emu_context *c, ts_str text, const char *name, ts_diags *d, emu_module **out) {
  *out = NULL;
  if (text.len > (size_t)1 << 30) return ts_report(d, (ts_loc){0}, &diag_ptx_size, "PTX text over 1 GiB");
  emu_module *m = calloc(1, sizeof *m);
  if (!m) return TS_OUT_OF_MEMORY;
  m->context = c;
  ts_arena_init(&m->arena);
  ts_interner_init(&m->names, &m->arena);
  ts_str copy = {ts_arena_strndup(&m->arena, text.data, text.len), text.len};
  // Diagnostics outlive a module that doesn't load, so the name they show is theirs.
  ts_sym file = NULL;
  for (size_t i = 0; name && i < d->sources.count && !file; i++)
    if (!strcmp(d->sources.data[i].file, name)) file = d->sources.data[i].file;
  if (!file) file = ts_arena_strdup(&d->arena, name ? name : "module.ptx");
  ts_status s = ptx_parse(&m->arena, &m->names, copy, file, d, &m->ptx);
  unsigned sm = m->ptx.target > c->sm ? m->ptx.target : c->sm;
  if (s == TS_OK && m->ptx.target > c->sm)
    s = ts_report(d, (ts_loc){file, 0, 0, 0}, &diag_ptx_version, "the module is for sm_%u; the emulated device is sm_%u", m->ptx.target, c->sm);
  if (s == TS_OK && !each_variable(m, d, place_variable)) s = TS_OUT_OF_MEMORY;
  if (s == TS_OK) s = emu_decode(&m->arena, &m->ptx, sm, d, &m->program);
  if (s == TS_OK && !each_variable(m, d, init_variable)) s = TS_INVALID;
  if (s != TS_OK) {
    emu_module_unload(m);
    return s;
  }
  m->recursive = ts_new_array(&m->arena, bool, m->ptx.funcs.count + 1);
  m->stack_bytes = ts_new_array(&m->arena, uint32_t, m->ptx.funcs.count + 1);
  uint8_t *state = ts_new_array(&m->arena, uint8_t, m->ptx.funcs.count + 1);
  for (uint32_t f = 0; f < m->ptx.funcs.count; f++)
    if (!state[f]) stack_depth(m, f, state);
  describe_entries(m);
  *out = m;
  return TS_OK;
}

static bool free_variable(emu_module *m, ptx_var *v, ts_diags *d) {
  (void)d;
  if ((v->space == PTX_GLOBAL || v->space == PTX_CONST) && v->address) emu_free(m->context, v->address);
  return true;
}

void emu_module_unload(emu_module *m) {
  if (!m) return;
  each_variable(m, NULL, free_variable);
  ts_map_deinit(&m->ptx.by_name);
  ts_interner_deinit(&m->names);
  ts_arena_deinit(&m->arena);
  free(m);
}

unsigned emu_module_ptx_version(const emu_module *m) { return m->ptx.version; }
unsigned emu_module_target(const emu_module *m) { return m->ptx.target; }

ts_status emu_module_global(const emu_module *m, const char *name, emu_addr *address, uint64_t *bytes) {
  for (size_t i = 0; i < m->ptx.vars.count; i++) {
    const ptx_var *v = m->ptx.vars.data[i];
    if ((v->space != PTX_GLOBAL && v->space != PTX_CONST) || strcmp(v->name, name)) continue;
    if (address) *address = v->address;
    if (bytes) *bytes = v->bytes;
    return TS_OK;
  }
  return TS_NOT_FOUND;
}

unsigned emu_module_entry_count(const emu_module *m) { return m->entry_count; }
const emu_entry *emu_module_entry_at(const emu_module *m, unsigned i) { return i < m->entry_count ? &m->entries[i] : NULL; }
const emu_entry *emu_module_entry(const emu_module *m, const char *name) {
  for (unsigned i = 0; i < m->entry_count; i++)
    if (!strcmp(m->ptx.funcs.data[m->entries[i].func]->name, name)) return &m->entries[i];
  return NULL;
}
emu_module *emu_entry_module(const emu_entry *e) { return e->module; }

void emu_entry_describe(const emu_entry *e, emu_entry_info *out) {
  const emu_module *m = e->module;
  const ptx_func *f = m->ptx.funcs.data[e->func];
  const emu_function *fn = &m->program.functions[e->func];
  *out = (emu_entry_info){.name = f->name, .params = e->params, .param_count = e->param_count, .param_bytes = e->param_bytes,
                          .static_shared = fn->static_shared, .local_bytes = m->stack_bytes[e->func], .const_bytes = m->const_bytes,
                          .registers = fn->registers32, .max_threads = 1024};
  const uint32_t *limit = f->reqntid[0] ? f->reqntid : f->maxntid;
  uint64_t threads = (uint64_t)limit[0] * limit[1] * limit[2];
  if (limit[0] && threads && threads < 1024) out->max_threads = (uint32_t)threads;
  memcpy(out->reqntid, f->reqntid, sizeof out->reqntid);
}
