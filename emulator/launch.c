// A launch: checks its configuration, hands blocks to workers, keeps blocks that only wait resident, and collects the result.
#include "emulator/counters.h"
#include "emulator/machine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void block_free(emu_exec *x, emu_block *b) {
  if (!b) return;
  if (x->launch->check_race) emu_race_block_end(x, b);
  for (uint32_t i = 0; i < b->warp_count; i++) emu_warp_free(&b->warps[i]);
  free(b);
}

// One allocation for a block: itself, warps, shared memory and its shadow, local memory and its shadow.
static emu_block *block_create(emu_exec *x, uint64_t number) {
  emu_launch_state *l = x->launch;
  size_t warps = l->warps, shared = (l->shared_bytes + 63u) & ~(size_t)63, local = (size_t)l->local_bytes * 32;
  size_t at_warps = (sizeof(emu_block) + 63) & ~(size_t)63, at_shared = at_warps + (warps * sizeof(emu_warp) + 63) / 64 * 64;
  size_t at_local = at_shared + 2 * shared, bytes = at_local + warps * 2 * local;
  emu_block *b = calloc(1, bytes + 64);
  if (!b) return NULL;
  b->launch = l;
  b->number = (uint32_t)number;
  b->ctaid[0] = (uint32_t)(number % l->config.grid[0]);
  b->ctaid[1] = (uint32_t)(number / l->config.grid[0] % l->config.grid[1]);
  b->ctaid[2] = (uint32_t)(number / l->config.grid[0] / l->config.grid[1]);
  b->warps = (emu_warp *)((uint8_t *)b + at_warps);
  b->shared = (uint8_t *)b + at_shared;
  b->shared_valid = b->shared + shared;
  b->shared_bytes = l->shared_bytes;
  b->warp_count = l->warps;
  b->live_threads = l->threads;
  x->block = b;
  const emu_function *fn = &l->program->functions[l->entry->func];
  for (uint32_t k = 0; k < warps; k++) {
    emu_warp *w = &b->warps[k];
    uint32_t left = l->threads - k * 32, lanes = left >= 32 ? ~0u : (1u << left) - 1;
    w->block = b;
    w->index = k;
    w->exists = w->live = lanes;
    w->local = (uint8_t *)b + at_local + k * 2 * local;
    w->local_valid = w->local + local;
    w->local_bytes = l->local_bytes;
    for (uint32_t i = 0; i < 32; i++) {
      uint32_t t = k * 32 + i;
      w->tid[0][i] = t % l->config.block[0];
      w->tid[1][i] = t / l->config.block[0] % l->config.block[1];
      w->tid[2][i] = t / l->config.block[0] / l->config.block[1];
    }
    w->split_count = 1;
    w->splits[0] = (emu_split){.mask = lanes, .pc = fn->begin, .frame = emu_frame_enter(x, w, fn, NULL, lanes, 0)};
  }
  if (l->check_race) emu_race_block_begin(x, b);
  return b;
}

typedef struct worker_blocks {
  emu_block **list;
  uint32_t count, capacity;
} worker_blocks;

static void report_deadlock(emu_exec *x, worker_blocks *blocks, emu_fault fault, const char *why) {
  emu_launch_state *l = x->launch;
  ts_text t = {0};
  unsigned shown = 0;
  const emu_insn *at = NULL;
  for (uint32_t i = 0; i < blocks->count && shown < 24; i++) {
    emu_block *b = blocks->list[i];
    for (uint32_t k = 0; k < b->warp_count; k++)
      for (uint32_t s = 0; s < b->warps[k].split_count && shown < 24; s++, shown++) {
        static const char *const states[] = {"running", "waiting at a barrier", "waiting at bar.warp.sync", "waiting for other lanes"};
        const emu_split *p = &b->warps[k].splits[s];
        pthread_mutex_lock(&l->context->lock);
        emu_place place = emu_place_of(l, b, k, (unsigned)__builtin_ctz(p->mask), p->pc);
        pthread_mutex_unlock(&l->context->lock);
        if (!at) at = &x->code[p->pc], x->block = b, x->warp = &b->warps[k];
        ts_text_printf(&t, "\n    block (%u,%u,%u) warp %u lanes 0x%08x: %s at PTX line %u: %s", b->ctaid[0], b->ctaid[1], b->ctaid[2], k, p->mask, states[p->state], place.ptx_line, place.instruction);
      }
  }
  if (at) emu_fault_report(x, at, fault, 0, 0, 0, NULL, "%s%s", why, ts_text_z(&t));
  ts_text_deinit(&t);
  atomic_store(&l->stop, true);
}

// A pseudo-random order of the blocks: an affine walk with a multiplier coprime to their number.
static uint64_t block_in_order(const emu_launch_state *l, uint64_t i) {
  if (!l->config.schedule_seed || l->blocks < 3) return i;
  uint64_t step = (l->config.schedule_seed * 2654435761u + 1) % l->blocks | 1;
  for (;; step += 2) {
    uint64_t a = step % l->blocks, b = l->blocks;
    while (a) {
      uint64_t t = b % a;
      b = a;
      a = t;
    }
    if (b == 1) break;
  }
  return (uint64_t)(((unsigned __int128)i * step + l->config.schedule_seed) % l->blocks);
}

static int run_worker(void *user, uint32_t number, unsigned worker) {
  emu_launch_state *l = user;
  (void)worker;
  worker_blocks live = {0};
  uint32_t limit = l->config.resident_blocks ? l->config.resident_blocks : 1024, next = 0;
  emu_exec x = {.consts = l->program->consts, .launch = l, .context = l->context, .code = l->program->code.data, .check_init = l->check_init,
                .check_race = l->check_race, .worker = number, .random = l->config.schedule_seed + number};
  if (l->counts) x.counts = l->counts + (size_t)number * l->program->code.count;
  x.watch = l->counts || l->config.trace || l->config.break_line;
  uint64_t quiet = 0, seen = atomic_load(&l->progress), counted_warps = 0, counted_threads = 0;
  while (!atomic_load(&l->stop)) {
    bool fresh = false;
    if (live.count < limit && (live.count == 0 || next >= live.count)) {
      uint64_t i = atomic_fetch_add(&l->next_block, 1);
      if (i < l->blocks) {
        if (live.count == live.capacity) {
          live.capacity = live.capacity ? live.capacity * 2 : 16;
          live.list = realloc(live.list, live.capacity * sizeof *live.list);
          if (!live.list) abort();
        }
        emu_block *b = block_create(&x, block_in_order(l, i));
        if (!b) abort();
        next = live.count;
        live.list[live.count++] = b;
        fresh = true;
      }
    }
    if (!live.count) break;
    if (next >= live.count) next = 0;
    emu_slice r = emu_run_block(&x, live.list[next]);
    atomic_fetch_add(&l->executed_warps, x.warps_run - counted_warps);
    atomic_fetch_add(&l->executed_threads, x.threads_run - counted_threads);
    counted_warps = x.warps_run;
    counted_threads = x.threads_run;
    if (l->config.max_instructions && atomic_load(&l->executed_warps) > l->config.max_instructions) {
      report_deadlock(&x, &live, EMU_FAULT_TIMEOUT, "the launch executed more instructions than its limit; its warps are");
      break;
    }
    if (r == EMU_SLICE_STUCK) {
      worker_blocks one = {&live.list[next], 1, 1};
      report_deadlock(&x, &one, EMU_FAULT_DEADLOCK, "no warp of the block can go on");
      break;
    }
    if (r == EMU_SLICE_DONE) {
      block_free(&x, live.list[next]);
      memmove(&live.list[next], &live.list[next + 1], (live.count - next - 1) * sizeof *live.list);
      live.count--;
      atomic_fetch_add(&l->progress, 1);
      if (next >= live.count) next = live.count;   // a fresh block first, else from the start
      continue;
    }
    next++;
    // Everything here only waits: a deadlock when that stays so for long while no worker gets on.
    uint64_t progress = atomic_load(&l->progress);
    quiet = fresh || progress != seen ? 0 : quiet + 1;
    seen = progress;
    if (quiet > 20000 + 200ull * live.count) {
      report_deadlock(&x, &live, EMU_FAULT_DEADLOCK, "all remaining warps wait in loops for something that does not happen");
      break;
    }
  }
  for (uint32_t i = 0; i < live.count; i++) block_free(&x, live.list[i]);
  free(live.list);
  return 0;
}

static ts_status check_config(const emu_context *c, const emu_entry *e, const emu_launch_config *k, ts_diags *d) {
  emu_entry_info info;
  emu_entry_describe(e, &info);
  ts_loc none = {0};
  static const uint32_t most_grid[3] = {0x7fffffff, 65535, 65535}, most_block[3] = {1024, 1024, 64};
  uint64_t threads = 1;
  if (e->module->context != c) return ts_report(d, none, &diag_emu_argument, "'%s' belongs to another device", info.name);
  for (int i = 0; i < 3; i++) {
    if (!k->grid[i] || k->grid[i] > most_grid[i]) return ts_report(d, none, &diag_emu_argument, "grid dimension %d is %u; 1 to %u are possible", i, k->grid[i], most_grid[i]);
    if (!k->block[i] || k->block[i] > most_block[i]) return ts_report(d, none, &diag_emu_argument, "block dimension %d is %u; 1 to %u are possible", i, k->block[i], most_block[i]);
    threads *= k->block[i];
  }
  if (threads > info.max_threads) return ts_report(d, none, &diag_emu_argument, "a block of %" PRIu64 " threads; '%s' takes at most %u", threads, info.name, info.max_threads);
  for (int i = 0; i < 3 && info.reqntid[0]; i++)
    if (info.reqntid[i] != k->block[i]) return ts_report(d, none, &diag_emu_argument, "'%s' needs blocks of %u x %u x %u threads", info.name, info.reqntid[0], info.reqntid[1], info.reqntid[2]);
  if (k->param_bytes < info.param_bytes) return ts_report(d, none, &diag_emu_argument, "%u bytes of parameters; '%s' takes %u", k->param_bytes, info.name, info.param_bytes);
  uint64_t shared = (uint64_t)e->module->program.functions[e->func].dynamic_shared_at + k->dynamic_shared;
  if (shared > 228u << 10) return ts_report(d, none, &diag_emu_argument, "%" PRIu64 " bytes of shared memory; a block has at most 228 KiB", shared);
  return TS_OK;
}

static void finish_result(emu_launch_state *l, emu_result *out, unsigned workers) {
  out->warp_instructions = atomic_load(&l->executed_warps);
  out->thread_instructions = atomic_load(&l->executed_threads);
  if (l->counts) out->counters = emu_counters_collect(&out->arena, l, workers);
  if (l->output.len) {
    if (l->config.print) l->config.print(l->config.print_user, ts_text_str(&l->output));
    else fwrite(l->output.data, 1, l->output.len, stdout);
  }
  ts_text_deinit(&l->output);
}

ts_status emu_launch(emu_context *c, const emu_entry *e, const emu_launch_config *config, ts_diags *d, emu_result *out) {
  *out = (emu_result){0};
  ts_arena_init(&out->arena);
  TS_TRY(check_config(c, e, config, d));
  const emu_module *m = e->module;
  uint32_t threads = config->block[0] * config->block[1] * config->block[2];
  emu_launch_state l = {.context = c, .entry = e, .program = &m->program, .config = *config, .params = config->params, .param_bytes = e->param_bytes,
                        .threads = threads, .warps = (threads + 31) / 32, .result = out,
                        .blocks = (uint64_t)config->grid[0] * config->grid[1] * config->grid[2],
                        .shared_bytes = m->program.functions[e->func].static_shared};
  if (config->dynamic_shared) l.shared_bytes = m->program.functions[e->func].dynamic_shared_at + config->dynamic_shared;
  l.check_init = l.check_race = l.check_sync = !config->checks_off;
  l.local_bytes = (m->stack_bytes[e->func] + (m->recursive[e->func] ? 32u << 10 : 0) + 15) & ~15u;
  unsigned workers = config->workers ? config->workers : c->workers;
  if (workers > l.blocks) workers = (unsigned)l.blocks;
  l.started_ns = now_ns();
  for (uint32_t i = 0; i < c->allocation_count; i++) c->allocations[i].nc_read = false;
  if (config->counters) {
    l.counts = calloc((size_t)workers * m->program.code.count, sizeof *l.counts);
    l.buffers = emu_buffers_create(c);
    if (!l.counts || !l.buffers) {
      free(l.counts);
      emu_buffers_destroy(l.buffers);
      return TS_OUT_OF_MEMORY;
    }
  }
  if (l.check_race) l.race = emu_race_create(&l);
  if (workers > 1) {
    if (c->pool && c->pool_threads != workers) {
      ts_pool_destroy(c->pool);
      c->pool = NULL;
    }
    if (!c->pool) c->pool = ts_pool_create(workers);
    c->pool_threads = workers;
  }
  if (workers > 1 && c->pool) ts_pool_run(c->pool, run_worker, &l, workers);
  else run_worker(&l, 0, 0);
  if (l.race) emu_race_destroy(l.race, c);
  out->seconds = (double)(now_ns() - l.started_ns) * 1e-9;
  finish_result(&l, out, workers);
  free(l.counts);
  emu_buffers_destroy(l.buffers);
  return out->reports.count ? TS_MISMATCH : TS_OK;
}

void emu_result_deinit(emu_result *r) { ts_arena_deinit(&r->arena); }
