// Functions and launches: attributes, parameters, what a device can hold, and what a finished launch leaves behind: findings on
// stderr, and an error in the context when one of them ended it. As on a GPU the launch itself succeeds and the next call that
// needs the context returns the error (with CUDA_LAUNCH_BLOCKING=1 the launch does).
#include "emulator/counters.h"
#include "emulator/driver/driver.h"

#include <stdlib.h>

// --- functions -------------------------------------------------------------------------------------------------------------

static int max_shared(const drv_function *f) { return f->module->context->device->target->block_shared_kib << 10; }

cu_result drv_function_attribute(const drv_function *f, int attribute, int *out) {
  const emu_entry_info *i = &f->info;
  switch (attribute) {
  case CU_FUNC_MAX_THREADS: *out = (int)i->max_threads; break;
  case CU_FUNC_SHARED: *out = (int)i->static_shared; break;
  case CU_FUNC_CONST: *out = (int)i->const_bytes; break;
  case CU_FUNC_LOCAL: *out = (int)i->local_bytes; break;
  case CU_FUNC_REGISTERS: *out = i->registers > 255 ? 255 : i->registers < 8 ? 8 : (int)i->registers; break;
  case CU_FUNC_PTX_VERSION: *out = (int)emu_module_target(f->module->emu); break;
  case CU_FUNC_BINARY_VERSION: *out = f->module->context->device->target->sm; break;
  case CU_FUNC_MAX_DYNAMIC_SHARED: *out = f->max_dynamic_shared; break;
  case CU_FUNC_CARVEOUT: *out = f->carveout; break;
  case CU_FUNC_CACHE_MODE:
  case CU_FUNC_CLUSTER_MUST_BE_SET:
  case CU_FUNC_CLUSTER_WIDTH:
  case CU_FUNC_CLUSTER_HEIGHT:
  case CU_FUNC_CLUSTER_DEPTH:
  case CU_FUNC_CLUSTER_NON_PORTABLE: case CU_FUNC_CLUSTER_POLICY: *out = 0; break;
  default: return CU_ERROR_INVALID_VALUE;
  }
  return CU_SUCCESS;
}

cu_result drv_do_cuFuncGetAttribute(int *out, int attribute, cu_handle h) {
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  return r == CU_SUCCESS ? drv_function_attribute(f, attribute, out) : r;
}

cu_result drv_do_cuFuncSetAttribute(cu_handle h, int attribute, int value) {
  drv_function *f;
  cu_result r = drv_function_of(h, &f);
  if (r != CU_SUCCESS) return r;
  switch (attribute) {
  case CU_FUNC_MAX_DYNAMIC_SHARED:
    if (value < 0 || value > max_shared(f) - (int)f->info.static_shared) return CU_ERROR_INVALID_VALUE;
    f->max_dynamic_shared = value;
    return CU_SUCCESS;
  case CU_FUNC_CARVEOUT:
    if (value < -1 || value > 100) return CU_ERROR_INVALID_VALUE;
    f->carveout = value;
    return CU_SUCCESS;
  case CU_FUNC_CLUSTER_WIDTH:
  case CU_FUNC_CLUSTER_HEIGHT:
  case CU_FUNC_CLUSTER_DEPTH:
  case CU_FUNC_CLUSTER_NON_PORTABLE:
  case CU_FUNC_CLUSTER_POLICY: return CU_ERROR_NOT_SUPPORTED;
  default: return CU_ERROR_INVALID_VALUE;
  }
}

cu_result drv_do_cuFuncSetCacheConfig(cu_handle h, int config) {
  drv_function *f;
  if (config < 0 || config > 3) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) f->cache_config = config;
  return r;
}
cu_result drv_do_cuFuncSetSharedMemConfig(cu_handle h, int config) {
  drv_function *f;
  return config < 0 || config > 2 ? CU_ERROR_INVALID_VALUE : drv_function_of(h, &f);
}
cu_result drv_do_cuFuncGetModule(cu_handle *out, cu_handle h) {
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) *out = f->module;
  return r;
}
cu_result drv_do_cuFuncGetName(const char **out, cu_handle h) {
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) *out = f->info.name;
  return r;
}
cu_result drv_do_cuFuncGetParamInfo(cu_handle h, size_t index, size_t *offset, size_t *bytes) {
  drv_function *f;
  cu_result r = drv_function_of(h, &f);
  return r == CU_SUCCESS ? drv_param_info(f, index, offset, bytes) : r;
}
cu_result drv_do_cuFuncIsLoaded(int *out, cu_handle h) {
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) *out = 1;
  return r;
}
cu_result drv_do_cuFuncLoad(cu_handle h) {
  drv_function *f;
  return drv_function_of(h, &f);
}

// --- occupancy -------------------------------------------------------------------------------------------------------------

// Blocks of the function that fit on a multiprocessor: limits of blocks, warps, registers (given out per warp in units of 256)
// and shared memory (units of 128 or 256 bytes, 1 KiB of each block's is the system's from sm_80 on).
static int occupancy(const drv_function *f, int threads, size_t dynamic) {
  const drv_target *t = f->module->context->device->target;
  int warps = (threads + 31) / 32, blocks = t->blocks, registers;
  drv_function_attribute(f, CU_FUNC_REGISTERS, &registers);
  if (registers > 65536 / (warps * 32))
    registers = 65536 / (warps * 32) / 8 * 8; // the emulator's count is an estimate: a legal block fits
  int by_warps = t->threads / 32 / warps, per_warp = (registers * 32 + 255) / 256 * 256, by_registers = 65536 / per_warp / warps;
  size_t unit = t->sm < 80 ? 256 : 128, shared = f->info.static_shared + dynamic + (t->sm < 80 ? 0 : 1024);
  shared = (shared + unit - 1) / unit * unit;
  if (by_warps < blocks) blocks = by_warps;
  if (by_registers < blocks) blocks = by_registers;
  if (shared && ((size_t)t->shared_kib << 10) / shared < (size_t)blocks) blocks = (int)(((size_t)t->shared_kib << 10) / shared);
  return blocks;
}

static bool block_is_possible(const drv_function *f, int threads, size_t dynamic) {
  return threads > 0 && threads <= (int)f->info.max_threads && dynamic <= (size_t)max_shared(f);
}

cu_result drv_do_cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, cu_handle h, int threads, size_t shared) {
  drv_function *f;
  if (!out || threads <= 0) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) *out = block_is_possible(f, threads, shared) ? occupancy(f, threads, shared) : 0;
  return r;
}
cu_result drv_do_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, cu_handle h, int threads, size_t shared,
                                                                      unsigned flags) {
  return flags & ~1u ? CU_ERROR_INVALID_VALUE : drv_do_cuOccupancyMaxActiveBlocksPerMultiprocessor(out, h, threads, shared);
}

cu_result drv_do_cuOccupancyMaxPotentialBlockSize(int *grid, int *threads, cu_handle h, cu_block_to_shared *shared_of,
                                                  size_t shared, int limit) {
  drv_function *f;
  if (!grid || !threads) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r != CU_SUCCESS) return r;
  int most = limit > 0 && limit < (int)f->info.max_threads ? limit : (int)f->info.max_threads, best = 0;
  for (int n = most < 32 ? most : most / 32 * 32; n > 0; n -= 32) {
    size_t dynamic = shared_of ? shared_of(n) : shared;
    int active = block_is_possible(f, n, dynamic) ? occupancy(f, n, dynamic) : 0;
    if (active * n <= best) continue;
    best = active * n;
    *threads = n;
    *grid = active * f->module->context->device->target->processors;
  }
  return best ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}
cu_result drv_do_cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *threads, cu_handle h, cu_block_to_shared *shared_of,
                                                           size_t shared, int limit, unsigned flags) {
  return flags & ~1u ? CU_ERROR_INVALID_VALUE
                     : drv_do_cuOccupancyMaxPotentialBlockSize(grid, threads, h, shared_of, shared, limit);
}

cu_result drv_do_cuOccupancyAvailableDynamicSMemPerBlock(size_t *out, cu_handle h, int blocks, int threads) {
  drv_function *f;
  if (!out || blocks <= 0 || threads <= 0) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_function_of(h, &f);
  if (r != CU_SUCCESS) return r;
  *out = 0;
  for (int bytes = max_shared(f) - (int)f->info.static_shared; bytes >= 0; bytes -= 128) {
    if (!block_is_possible(f, threads, (size_t)bytes) || occupancy(f, threads, (size_t)bytes) < blocks) continue;
    *out = (size_t)bytes;
    break;
  }
  return CU_SUCCESS;
}

// --- what a launch leaves behind -------------------------------------------------------------------------------------------

static cu_result error_of(emu_fault fault) {
  switch (fault) {
  case EMU_FAULT_OUT_OF_BOUNDS: case EMU_FAULT_USE_AFTER_FREE: case EMU_FAULT_READ_ONLY: return CU_ERROR_ILLEGAL_ADDRESS;
  case EMU_FAULT_MISALIGNED: return CU_ERROR_MISALIGNED_ADDRESS;
  case EMU_FAULT_DEADLOCK: case EMU_FAULT_TIMEOUT: return CU_ERROR_LAUNCH_TIMEOUT;
  case EMU_FAULT_STACK_OVERFLOW: return CU_ERROR_HARDWARE_STACK_ERROR;
  case EMU_FAULT_BAD_CALL: return CU_ERROR_INVALID_PC;
  case EMU_FAULT_ASSERT: return CU_ERROR_ASSERT;
  case EMU_FAULT_DIVERGENT_BARRIER: case EMU_FAULT_BARRIER_COUNT: return CU_ERROR_ILLEGAL_INSTRUCTION;
  default: return CU_ERROR_LAUNCH_FAILED;
  }
}

// A finding is printed in full once per function and line.
static bool seen_before(drv_function *f, const emu_report *r) {
  for (drv_seen *s = f->seen; s; s = s->next)
    if (s->fault == r->fault && s->line == r->at.ptx_line) return true;
  drv_seen *s = malloc(sizeof *s);
  if (!s) return false;
  *s = (drv_seen){r->fault, r->at.ptx_line, f->seen};
  f->seen = s;
  return false;
}

static void print_findings(drv_function *f, const emu_result *result) {
  for (size_t i = 0; i < result->reports.count; i++) {
    const emu_report *r = &result->reports.data[i];
    drv.findings++;
    if (seen_before(f, r)) continue;
    fprintf(stderr, "tessera-emu: %s", r->text);
    if (r->repeats) fprintf(stderr, "    and %llu more at this instruction\n", (unsigned long long)r->repeats);
  }
}

static cu_result error_of_result(const emu_result *result) {
  for (size_t i = 0; i < result->reports.count; i++)
    if (emu_fault_is_fatal(result->reports.data[i].fault)) return error_of(result->reports.data[i].fault);
  return drv.findings_are_fatal && result->reports.count ? CU_ERROR_LAUNCH_FAILED : CU_SUCCESS;
}

static void tell_observer(const drv_function *f, const emu_launch_config *k, const emu_result *result, cu_result error) {
  ts_text json = {0}, table = {0};
  const char **reports = calloc(result->reports.count + 1, sizeof *reports);
  if (!reports) return;
  for (size_t i = 0; i < result->reports.count; i++) reports[i] = result->reports.data[i].text;
  if (result->counters) {
    emu_counters_json(result->counters, &json);
    emu_counters_print(result->counters, &table);
  }
  tessera_emu_launch l = {.size = sizeof l,
                          .kernel = f->info.name,
                          .sm = f->module->context->device->target->sm,
                          .grid = {k->grid[0], k->grid[1], k->grid[2]},
                          .block = {k->block[0], k->block[1], k->block[2]},
                          .shared_bytes = k->dynamic_shared,
                          .warp_instructions = result->warp_instructions,
                          .thread_instructions = result->thread_instructions,
                          .seconds = result->seconds,
                          .report_count = result->reports.count,
                          .reports = reports,
                          .counters_json = json.data,
                          .counters_text = table.data,
                          .error = error};
  drv.observer(drv.observer_user, &l);
  ts_text_deinit(&json);
  ts_text_deinit(&table);
  free(reports);
}

// --- launches --------------------------------------------------------------------------------------------------------------

// The parameter block: from one pointer per parameter, or as the caller built it (`extra`). Freed by the caller.
static cu_result collect_params(const drv_function *f, void **params, void **extra, uint8_t **out) {
  const emu_entry_info *i = &f->info;
  const void *buffer = NULL;
  size_t bytes = 0;
  if (params && extra) return CU_ERROR_INVALID_VALUE;
  for (unsigned k = 0; extra && extra[k] != (void *)CU_PARAM_END; k += 2) {
    if (k > 8) return CU_ERROR_INVALID_VALUE;
    if (extra[k] == (void *)CU_PARAM_BUFFER) buffer = extra[k + 1];
    else if (extra[k] == (void *)CU_PARAM_BUFFER_SIZE && extra[k + 1]) bytes = *(size_t *)extra[k + 1];
    else return CU_ERROR_INVALID_VALUE;
  }
  if (i->param_count && !params && (!buffer || bytes < i->param_bytes)) return CU_ERROR_INVALID_VALUE;
  *out = calloc(1, i->param_bytes + 16);
  if (!*out) return CU_ERROR_OUT_OF_MEMORY;
  if (!params) {
    if (i->param_bytes) memcpy(*out, buffer, i->param_bytes);
    return CU_SUCCESS;
  }
  for (unsigned k = 0; k < i->param_count; k++) {
    if (!params[k]) return CU_ERROR_INVALID_VALUE;
    memcpy(*out + i->params[k].offset, params[k], i->params[k].bytes);
  }
  return CU_SUCCESS;
}

static cu_result check_shape(const drv_function *f, const emu_launch_config *k, bool cooperative) {
  static const uint32_t most_grid[3] = {0x7fffffff, 65535, 65535}, most_block[3] = {1024, 1024, 64};
  uint64_t threads = 1, blocks = 1;
  for (int i = 0; i < 3; i++) {
    if (!k->grid[i] || k->grid[i] > most_grid[i] || !k->block[i] || k->block[i] > most_block[i]) return CU_ERROR_INVALID_VALUE;
    threads *= k->block[i];
    blocks *= k->grid[i];
  }
  if (threads > 1024 || k->dynamic_shared > (uint32_t)f->max_dynamic_shared) return CU_ERROR_INVALID_VALUE;
  if (threads > f->info.max_threads) return CU_ERROR_LAUNCH_OUT_OF_RESOURCES;
  for (int i = 0; i < 3; i++)
    if (f->info.reqntid[0] && f->info.reqntid[i] != k->block[i]) return CU_ERROR_INVALID_VALUE;
  if (!cooperative) return CU_SUCCESS;
  uint64_t room =
      (uint64_t)occupancy(f, (int)threads, k->dynamic_shared) * (uint64_t)f->module->context->device->target->processors;
  return blocks > room ? CU_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CU_SUCCESS;
}

static cu_result run(drv_function *f, emu_launch_config *k) {
  drv_context *c = f->module->context;
  emu_result result;
  ts_diags diags;
  ts_diags_init(&diags);
  k->workers = drv.workers;
  k->schedule_seed = drv.seed;
  k->checks_off = !drv.checks;
  k->counters = drv.counting;
  ts_status s = emu_launch(c->device->emu, f->entry, k, &diags, &result);
  cu_result r = CU_SUCCESS;
  if (s == TS_OK || s == TS_MISMATCH) {
    drv.launches++;
    print_findings(f, &result);
    c->error = error_of_result(&result);
    if (drv.blocking) r = c->error;
    if (drv.observer) tell_observer(f, k, &result, c->error);
  } else {
    ts_text t = {0};
    ts_diags_print(&diags, &t, false);
    drv_say("the launch of %s is refused:\n%s", f->info.name, ts_text_z(&t));
    ts_text_deinit(&t);
    r = s == TS_OUT_OF_MEMORY ? CU_ERROR_OUT_OF_MEMORY : CU_ERROR_INVALID_VALUE;
  }
  emu_result_deinit(&result);
  ts_diags_deinit(&diags);
  return r;
}

static cu_result launch(cu_handle h, emu_launch_config *k, bool cooperative, cu_handle stream, void **params, void **extra) {
  drv_function *f;
  uint8_t *block = NULL;
  cu_result r = drv_function_of(h, &f);
  if (r == CU_SUCCESS) r = drv_stream_check(stream);
  if (r != CU_SUCCESS) return r;
  drv_stream *s = drv_find(stream, DRV_STREAM);
  if (f->module->context != (s ? s->context : drv_current())) return CU_ERROR_INVALID_HANDLE;
  r = check_shape(f, k, cooperative);
  if (r == CU_SUCCESS) r = collect_params(f, params, extra, &block);
  if (r == CU_SUCCESS) {
    k->params = block;
    k->param_bytes = f->info.param_bytes;
    if (cooperative) k->resident_blocks = k->grid[0] * k->grid[1] * k->grid[2];
    r = run(f, k);
  }
  free(block);
  return r;
}

cu_result drv_do_cuLaunchKernel(cu_handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                                unsigned shared, cu_handle stream, void **params, void **extra) {
  emu_launch_config k = {.grid = {gx, gy, gz}, .block = {bx, by, bz}, .dynamic_shared = shared};
  return launch(f, &k, false, stream, params, extra);
}
cu_result drv_do_cuLaunchCooperativeKernel(cu_handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                           unsigned bz, unsigned shared, cu_handle stream, void **params) {
  emu_launch_config k = {.grid = {gx, gy, gz}, .block = {bx, by, bz}, .dynamic_shared = shared};
  return launch(f, &k, true, stream, params, NULL);
}

cu_result drv_do_cuLaunchKernelEx(const cu_launch_config *config, cu_handle f, void **params, void **extra) {
  if (!config || (config->attribute_count && !config->attributes)) return CU_ERROR_INVALID_VALUE;
  emu_launch_config k = {.grid = {config->grid[0], config->grid[1], config->grid[2]},
                         .block = {config->block[0], config->block[1], config->block[2]},
                         .dynamic_shared = config->shared};
  bool cooperative = false;
  cu_handle event = NULL;
  for (unsigned i = 0; i < config->attribute_count; i++) {
    const cu_launch_attribute *a = &config->attributes[i];
    if (a->id == CU_LAUNCH_COOPERATIVE) cooperative = a->value.cooperative != 0;
    if (a->id == CU_LAUNCH_EVENT || a->id == CU_LAUNCH_COMPLETION_EVENT) event = a->value.event.event;
    if (a->id == CU_LAUNCH_CLUSTER_DIMENSION && (a->value.cluster.x > 1 || a->value.cluster.y > 1 || a->value.cluster.z > 1)) {
      drv_say("cuLaunchKernelEx: clusters are not supported");
      return CU_ERROR_NOT_SUPPORTED;
    }
  }
  cu_result r = launch(f, &k, cooperative, config->stream, params, extra);
  return r == CU_SUCCESS && event ? drv_do_cuEventRecordWithFlags(event, config->stream, 0) : r;
}
