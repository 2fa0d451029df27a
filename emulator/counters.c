// Counting and showing what was counted (see counters.h). Sectors are 32 bytes of global memory; a wavefront of shared memory
// serves one 32-bit word from each of 32 banks, and accesses of 8 and 16 bytes go in phases of 16 and 8 lanes.
#include "emulator/counters.h"
#include "base/file.h"
#include "emulator/machine.h"

#include <stdlib.h>
#include <sys/mman.h>

#define EACH_LANE(mask) for (uint32_t m_ = (mask), i = 0; m_ && (i = (uint32_t)__builtin_ctz(m_), 1); m_ &= m_ - 1)

static bool add_distinct(uint64_t *set, unsigned *n, uint64_t v) {
  for (unsigned k = *n; k-- > 0;)
    if (set[k] == v) return false;
  set[(*n)++] = v;
  return true;
}

static unsigned shared_waves(const emu_access *a, uint32_t mask, uint32_t bytes) {
  unsigned phase_lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8, waves = 0;
  for (unsigned first = 0; first < 32; first += phase_lanes) {
    uint32_t lanes = phase_lanes == 32 ? mask : mask & (((1u << phase_lanes) - 1) << first);
    uint64_t words[256];
    unsigned n = 0, most = 0, per_bank[32] = {0};
    EACH_LANE(lanes)
      for (uint64_t w = a->address[i] / 4; w <= (a->address[i] + bytes - 1) / 4; w++)
        if (add_distinct(words, &n, w)) {
          unsigned k = ++per_bank[w % 32];
          if (k > most) most = k;
        }
    waves += most;
  }
  return waves;
}

// --- traffic by buffer ------------------------------------------------------------------------------------------------------------
typedef struct emu_buffer_counts {
  uint64_t capacity;                   // of device memory
  atomic_uint_fast64_t *moved;         // [allocation][2]: sectors read, written
  _Atomic uint8_t *touched;            // a bit for each sector of device memory
} emu_buffer_counts;

static void *reserve(size_t bytes) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

emu_buffer_counts *emu_buffers_create(const emu_context *c) {
  emu_buffer_counts *b = calloc(1, sizeof *b);
  if (!b) return NULL;
  b->capacity = c->capacity;
  b->moved = reserve(EMU_MAX_ALLOCATIONS * 2 * sizeof *b->moved);
  b->touched = reserve(c->capacity / 256 + 1);
  if (b->moved && b->touched) return b;
  emu_buffers_destroy(b);
  return NULL;
}

void emu_buffers_destroy(emu_buffer_counts *b) {
  if (!b) return;
  if (b->moved) munmap(b->moved, EMU_MAX_ALLOCATIONS * 2 * sizeof *b->moved);
  if (b->touched) munmap((void *)b->touched, b->capacity / 256 + 1);
  free(b);
}

static void count_sectors(emu_exec *x, const uint64_t *sectors, unsigned n, bool write) {
  emu_buffer_counts *b = x->launch->buffers;
  for (unsigned k = 0; k < n; k++) {
    const emu_allocation *o = emu_owner(x->context, sectors[k] * 32);
    uint64_t at = sectors[k] - EMU_DEVICE_BASE / 32;
    if (!o) continue;
    atomic_fetch_add_explicit(&b->moved[2 * (o - x->context->allocations) + write], 1, memory_order_relaxed);
    uint8_t bit = (uint8_t)(1u << at % 8);
    if (!(atomic_load_explicit(&b->touched[at / 8], memory_order_relaxed) & bit)) atomic_fetch_or_explicit(&b->touched[at / 8], bit, memory_order_relaxed);
  }
}

static void collect_buffers(ts_arena *a, const emu_launch_state *l, emu_counters *c) {
  const emu_context *ctx = l->context;
  c->buffers = ts_new_array(a, emu_buffer_traffic, ctx->allocation_count + 1);
  for (uint32_t i = 0; i < ctx->allocation_count; i++) {
    const emu_allocation *o = &ctx->allocations[i];
    uint64_t read = atomic_load(&l->buffers->moved[2 * i]), written = atomic_load(&l->buffers->moved[2 * i + 1]), sectors = 0;
    if (!read && !written) continue;
    for (uint64_t s = o->offset / 32; s < (o->offset + o->bytes + 31) / 32; s++) sectors += l->buffers->touched[s / 8] >> s % 8 & 1;
    c->buffers[c->buffer_count++] = (emu_buffer_traffic){ts_arena_strdup(a, o->name ? o->name : "?"), o->bytes, read * 32, written * 32, sectors * 32};
  }
}

void emu_count_access(emu_exec *x, const emu_insn *in, const emu_access *a, uint32_t mask, uint32_t bytes, bool write) {
  emu_count *c = &x->counts[in - x->code];
  uint64_t addresses[32], sectors[96];
  unsigned n = 0, ns = 0, lanes = (unsigned)__builtin_popcount(mask);
  c->bytes += (uint64_t)lanes * bytes;
  EACH_LANE(mask) add_distinct(addresses, &n, a->address[i]);
  if (in->cls == EMU_C_ATOMIC) c->conflicts += lanes - n;
  unsigned space = a->uniform ? a->first_space : a->space[__builtin_ctz(mask)];
  if (space == PTX_SHARED) {
    c->wave_requests++;
    c->waves += shared_waves(a, mask, bytes);
    c->ideal_waves += (n * bytes + 127) / 128;
  } else if (space == PTX_GLOBAL) {
    c->requests++;
    for (unsigned k = 0; k < n; k++)
      for (uint64_t s = addresses[k] / 32; s <= (addresses[k] + bytes - 1) / 32; s++) add_distinct(sectors, &ns, s);
    c->sectors += ns;
    count_sectors(x, sectors, ns, write);
    c->ideal_sectors += (n * bytes + 31) / 32;
  }
}

static const char *const class_names[EMU_CLASS_COUNT] = {"other", "int", "float", "half", "double", "special", "convert", "move", "load", "store", "atomic", "shuffle", "mma", "sync", "branch"};
const char *emu_class_name(emu_class c) { return c < EMU_CLASS_COUNT ? class_names[c] : "?"; }

static void add(emu_count *to, const emu_count *from) {
  uint64_t *t = (uint64_t *)to;
  const uint64_t *f = (const uint64_t *)from;
  for (size_t i = 0; i < sizeof *to / sizeof *t; i++) t[i] += f[i];
}

emu_counters *emu_counters_collect(ts_arena *a, emu_launch_state *l, unsigned workers) {
  emu_counters *c = ts_new(a, emu_counters);
  size_t n = l->program->code.count;
  c->program = l->program;
  c->func = l->entry->func;
  c->blocks = l->blocks;
  c->threads = l->threads;
  c->ops = ts_new_array(a, emu_count, n);
  for (unsigned w = 0; w < workers; w++)
    for (size_t i = 0; i < n; i++) add(&c->ops[i], &l->counts[w * n + i]);
  collect_buffers(a, l, c);
  return c;
}

// --- sums ------------------------------------------------------------------------------------------------------------------------
typedef struct sums {
  emu_count total, by_class[EMU_CLASS_COUNT];
  uint64_t global_load, global_store, shared_load, shared_store, local_load, local_store, barriers;
} sums;

static unsigned mem_space(const emu_insn *in) {
  if (in->cls != EMU_C_LOAD && in->cls != EMU_C_STORE && in->cls != EMU_C_ATOMIC) return PTX_NOSPACE;
  return in->u.extra ? ((const emu_mem *)in->u.extra)->space : PTX_NOSPACE;
}

static void sum_up(const emu_counters *c, sums *s) {
  *s = (sums){0};
  for (size_t i = 0; i < c->program->code.count; i++) {
    const emu_insn *in = &c->program->code.data[i];
    const emu_count *k = &c->ops[i];
    if (!k->warps) continue;
    add(&s->total, k);
    add(&s->by_class[in->cls], k);
    bool store = in->cls == EMU_C_STORE;
    if (in->flow == EMU_BAR) s->barriers += k->warps;
    unsigned space = mem_space(in);
    if (space == PTX_LOCAL) *(store ? &s->local_store : &s->local_load) += k->bytes;
    else if (k->wave_requests && !k->requests) *(store ? &s->shared_store : &s->shared_load) += k->bytes;
    else if (k->requests) *(store ? &s->global_store : &s->global_load) += k->bytes;
  }
}

static double ratio(uint64_t a, uint64_t b) { return b ? (double)a / (double)b : 0; }
#define U(v) (unsigned long long)(v)

typedef void group_fn(void *user, const char *label, uint32_t a, uint32_t b, const emu_count *sum);

// Sums of basic blocks that ran: label is the function, a and b the first and last PTX line.
static void each_block(const emu_counters *c, group_fn *fn, void *user) {
  const emu_program *p = c->program;
  for (size_t f = 0; f < p->ptx->funcs.count; f++) {
    const emu_function *g = &p->functions[f];
    for (uint32_t i = g->begin; i < g->end;) {
      uint32_t end = i + 1, first = 0, last = 0;
      while (end < g->end && !(p->code.data[end].flags & EMU_F_LEADER)) end++;
      emu_count sum = {0};
      for (uint32_t k = i; k < end; k++) {
        const ptx_stmt *s = emu_stmt_of(p, &p->code.data[k]);
        if (s && !first) first = s->pos.line;
        if (s) last = s->pos.line;
        add(&sum, &c->ops[k]);
      }
      if (sum.warps) fn(user, g->ptx->name, first, last, &sum);
      i = end;
    }
  }
}

typedef struct line_sum {
  uint32_t file, line;
  emu_count sum;
} line_sum;
static int by_line(const void *a, const void *b) {
  const line_sum *x = a, *y = b;
  return x->file != y->file ? (x->file > y->file) - (x->file < y->file) : (x->line > y->line) - (x->line < y->line);
}

// Sums of CUDA source lines: label is the file, a the line.
static void each_line(const emu_counters *c, group_fn *fn, void *user) {
  const emu_program *p = c->program;
  line_sum *list = calloc(p->code.count + 1, sizeof *list);
  size_t n = 0;
  for (size_t i = 0; list && i < p->code.count; i++) {
    const ptx_stmt *s = emu_stmt_of(p, &p->code.data[i]);
    if (!s || !s->loc || !c->ops[i].warps) continue;
    const ptx_loc *loc = &p->ptx->locs.data[s->loc];
    list[n++] = (line_sum){loc->file, loc->line, c->ops[i]};
  }
  if (n) qsort(list, n, sizeof *list, by_line);
  for (size_t i = 0; i < n;) {
    size_t k = i + 1;
    for (; k < n && !by_line(&list[i], &list[k]); k++) add(&list[i].sum, &list[k].sum);
    const char *name = ptx_file_name(p->ptx, list[i].file);
    fn(user, name ? name : "?", list[i].line, 0, &list[i].sum);
    i = k;
  }
  free(list);
}

static void row(ts_text *out, const emu_count *k) {
  ts_text_printf(out, "%12llu %13llu %6.1f%%", U(k->warps), U(k->threads), 100 * ratio(k->threads, k->warps * 32));
  if (k->requests) ts_text_printf(out, "  %llu sectors (%.2f of ideal)", U(k->sectors), ratio(k->sectors, k->ideal_sectors));
  if (k->wave_requests) ts_text_printf(out, "  %llu waves (%.2f of ideal)", U(k->waves), ratio(k->waves, k->ideal_waves));
  if (k->conflicts) ts_text_printf(out, "  %llu lanes contend", U(k->conflicts));
  ts_text_putc(out, '\n');
}
static void print_group(void *user, const char *label, uint32_t a, uint32_t b, const emu_count *sum) {
  char text[64];
  if (b) snprintf(text, sizeof text, "%.30s lines %u-%u", label, a, b);
  else snprintf(text, sizeof text, "%.40s:%u", ts_path_base(label), a);
  ts_text_printf(user, "  %-44s", text);
  row(user, sum);
}

void emu_counters_print(const emu_counters *c, ts_text *out) {
  sums s;
  sum_up(c, &s);
  ts_text_printf(out, "%s: %llu blocks of %llu threads\n", c->program->ptx->funcs.data[c->func]->name, U(c->blocks), U(c->threads));
  ts_text_printf(out, "  %-44s%12s %13s %7s\n", "", "warp instr.", "thread instr.", "active");
  for (int k = 0; k < EMU_CLASS_COUNT; k++) {
    if (!s.by_class[k].warps) continue;
    ts_text_printf(out, "  %-44s", class_names[k]);
    row(out, &s.by_class[k]);
  }
  ts_text_printf(out, "  %-44s", "all");
  row(out, &s.total);
  ts_text_printf(out, "  bytes: global %llu read, %llu written; shared %llu read, %llu written; local (spills) %llu read, %llu written; %llu warp barriers\n",
                 U(s.global_load), U(s.global_store), U(s.shared_load), U(s.shared_store), U(s.local_load), U(s.local_store), U(s.barriers));
  for (uint32_t i = 0; i < c->buffer_count; i++) {
    const emu_buffer_traffic *b = &c->buffers[i];
    ts_text_printf(out, "  buffer %-36.36s %llu bytes: sectors moved %llu in, %llu out; %llu distinct\n", b->name, U(b->bytes), U(b->read), U(b->written), U(b->distinct));
  }
  ts_text_puts(out, "basic blocks\n");
  each_block(c, print_group, out);
  ts_text_puts(out, "source lines\n");
  each_line(c, print_group, out);
}

static void json_count(ts_text *out, const emu_count *k) {
  ts_text_printf(out, "\"warp_instructions\": %llu, \"thread_instructions\": %llu, \"global_requests\": %llu, \"sectors\": %llu, \"ideal_sectors\": %llu, "
                 "\"shared_requests\": %llu, \"waves\": %llu, \"ideal_waves\": %llu, \"bytes\": %llu, \"contended_lanes\": %llu",
                 U(k->warps), U(k->threads), U(k->requests), U(k->sectors), U(k->ideal_sectors), U(k->wave_requests), U(k->waves), U(k->ideal_waves), U(k->bytes), U(k->conflicts));
}
typedef struct json_state {
  ts_text *out;
  bool more;
} json_state;
static void json_group(void *user, const char *label, uint32_t a, uint32_t b, const emu_count *sum) {
  json_state *s = user;
  ts_text_puts(s->out, s->more ? ",\n    {" : "\n    {");
  ts_text_puts(s->out, b ? "\"function\": " : "\"file\": ");
  ts_text_json(s->out, ts_str_of(label));
  if (b) ts_text_printf(s->out, ", \"first_line\": %u, \"last_line\": %u, ", a, b);
  else ts_text_printf(s->out, ", \"line\": %u, ", a);
  json_count(s->out, sum);
  ts_text_putc(s->out, '}');
  s->more = true;
}

void emu_counters_json(const emu_counters *c, ts_text *out) {
  sums s;
  sum_up(c, &s);
  ts_text_puts(out, "{\"kernel\": ");
  ts_text_json(out, ts_str_of(c->program->ptx->funcs.data[c->func]->name));
  ts_text_printf(out, ", \"blocks\": %llu, \"threads_per_block\": %llu,\n  \"total\": {", U(c->blocks), U(c->threads));
  json_count(out, &s.total);
  ts_text_printf(out, ", \"warp_barriers\": %llu, \"global_bytes_read\": %llu, \"global_bytes_written\": %llu, \"shared_bytes_read\": %llu, \"shared_bytes_written\": %llu, "
                 "\"local_bytes_read\": %llu, \"local_bytes_written\": %llu},\n  \"classes\": {",
                 U(s.barriers), U(s.global_load), U(s.global_store), U(s.shared_load), U(s.shared_store), U(s.local_load), U(s.local_store));
  bool more = false;
  for (int k = 0; k < EMU_CLASS_COUNT; k++) {
    if (!s.by_class[k].warps) continue;
    ts_text_printf(out, "%s\n    \"%s\": {", more ? "," : "", class_names[k]);
    json_count(out, &s.by_class[k]);
    ts_text_putc(out, '}');
    more = true;
  }
  ts_text_puts(out, "},\n  \"buffers\": [");
  for (uint32_t i = 0; i < c->buffer_count; i++) {
    const emu_buffer_traffic *b = &c->buffers[i];
    ts_text_puts(out, i ? ",\n    {\"name\": " : "\n    {\"name\": ");
    ts_text_json(out, ts_str_of(b->name));
    ts_text_printf(out, ", \"bytes\": %llu, \"sector_bytes_read\": %llu, \"sector_bytes_written\": %llu, \"distinct_bytes\": %llu}", U(b->bytes), U(b->read), U(b->written), U(b->distinct));
  }
  ts_text_puts(out, "],\n  \"basic_blocks\": [");
  json_state state = {out, false};
  each_block(c, json_group, &state);
  ts_text_puts(out, "],\n  \"source_lines\": [");
  state.more = false;
  each_line(c, json_group, &state);
  ts_text_puts(out, "]}\n");
}

void emu_counters_listing(const emu_counters *c, ts_text *out) {
  const emu_program *p = c->program;
  size_t lines = 1;
  for (size_t i = 0; i < p->ptx->text.len; i++) lines += p->ptx->text.data[i] == '\n';
  emu_count *by = calloc(lines + 2, sizeof *by);
  if (!by) return;
  for (size_t i = 0; i < p->code.count; i++) {
    const ptx_stmt *s = emu_stmt_of(p, &p->code.data[i]);
    if (!s || s->pos.line > lines) continue;
    add(&by[s->pos.line], &c->ops[i]);
  }
  const char *at = p->ptx->text.data, *end = at + p->ptx->text.len;
  for (size_t line = 1; at && at < end; line++) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    if (!stop) stop = end;
    if (by[line].warps) ts_text_printf(out, "%10llu %5.1f%% | ", U(by[line].warps), 100 * ratio(by[line].threads, by[line].warps * 32));
    else ts_text_puts(out, "                  | ");
    ts_text_add(out, (ts_str){at, (size_t)(stop - at)});
    if (by[line].requests) ts_text_printf(out, "   // %llu sectors, ideal %llu", U(by[line].sectors), U(by[line].ideal_sectors));
    if (by[line].wave_requests) ts_text_printf(out, "   // %llu waves, ideal %llu", U(by[line].waves), U(by[line].ideal_waves));
    ts_text_putc(out, '\n');
    at = stop + 1;
  }
  free(by);
}
