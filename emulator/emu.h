// Executes PTX on the CPU: device memory, modules, launches, reports. The public header of emulator/.
//
// An emu_context is one emulated device. It belongs to one thread at a time; a launch uses the context's worker threads and
// returns when the grid has finished. Device addresses are not host pointers. All checks are on unless a launch turns them
// off; even then nothing outside device memory is read or written.
//
//   emu_context *c; emu_context_create(&(emu_context_options){.sm = 80}, diags, &c);
//   emu_module *m;  emu_module_load(c, text, "k.ptx", diags, &m);
//   emu_addr x;     emu_alloc(c, 4096, "x", &x); emu_write(c, x, host, 4096);
//   emu_launch(c, emu_module_entry(m, "f"), &(emu_launch_config){.grid = {4,1,1}, .block = {256,1,1}, .params = p, .param_bytes = n}, &result);
//   emu_result_deinit(&result); emu_module_unload(m); emu_context_destroy(c);
#ifndef TESSERA_EMULATOR_EMU_H
#define TESSERA_EMULATOR_EMU_H

#include "base/diag.h"

typedef struct emu_context emu_context;
typedef struct emu_module emu_module;
typedef struct emu_entry emu_entry;
typedef uint64_t emu_addr;

typedef struct emu_context_options {
  unsigned sm;             // 75, 80, 86, 87, 89, 90, 100, 120 …; 0: 80. Decides matrix arithmetic and which modules load
  unsigned workers;        // host threads of a launch; 0: one per CPU
  uint64_t memory;         // device memory in bytes; 0: 32 GiB (address space only: pages are taken when touched)
} emu_context_options;

ts_status emu_context_create(const emu_context_options *options, ts_diags *d, emu_context **out);
void emu_context_destroy(emu_context *c);   // frees its memory; unload modules first
unsigned emu_context_sm(const emu_context *c);
unsigned emu_context_workers(const emu_context *c);

// --- memory ------------------------------------------------------------------------------------------------------------------
// Allocations are aligned to 256 bytes and have red zones around them. Fresh memory counts as uninitialised. `name` (copied,
// may be NULL) appears in reports.
ts_status emu_alloc(emu_context *c, uint64_t bytes, const char *name, emu_addr *out);   // TS_OUT_OF_MEMORY; 0 bytes are legal
ts_status emu_free(emu_context *c, emu_addr address);             // TS_INVALID unless `address` is the start of a live allocation
// Copies; the range must lie inside one live allocation (TS_OUT_OF_RANGE otherwise). Writing marks bytes as initialised.
ts_status emu_read(emu_context *c, void *to, emu_addr from, uint64_t bytes);
ts_status emu_write(emu_context *c, emu_addr to, const void *from, uint64_t bytes);
ts_status emu_copy(emu_context *c, emu_addr to, emu_addr from, uint64_t bytes);         // also copies what is uninitialised as such
ts_status emu_fill(emu_context *c, emu_addr to, const void *pattern, unsigned pattern_bytes, uint64_t count);   // 1, 2 or 4 bytes
// The live allocation that holds `address`: TS_NOT_FOUND when there is none. Outputs may be NULL.
ts_status emu_find(emu_context *c, emu_addr address, emu_addr *base, uint64_t *bytes, const char **name);
void emu_memory_info(const emu_context *c, uint64_t *free_bytes, uint64_t *total_bytes);

// --- modules -----------------------------------------------------------------------------------------------------------------
// Parses and decodes PTX; a trailing NUL is allowed. `name` shows in diagnostics and reports. The text is copied.
ts_status emu_module_load(emu_context *c, ts_str text, const char *name, ts_diags *d, emu_module **out);
void emu_module_unload(emu_module *m);
unsigned emu_module_ptx_version(const emu_module *m);     // 90 for 9.0
unsigned emu_module_target(const emu_module *m);          // 80 for sm_80
// A .global or .const variable.
ts_status emu_module_global(const emu_module *m, const char *name, emu_addr *address, uint64_t *bytes);
unsigned emu_module_entry_count(const emu_module *m);
const emu_entry *emu_module_entry_at(const emu_module *m, unsigned index);
const emu_entry *emu_module_entry(const emu_module *m, const char *name);   // NULL when there is none

typedef struct emu_param {
  const char *name;
  const char *type;        // "u64", "f32", "b8"
  uint32_t offset, bytes, align;
} emu_param;
typedef struct emu_entry_info {
  const char *name;
  const emu_param *params;
  unsigned param_count;
  uint32_t param_bytes;            // size of the parameter block
  uint32_t static_shared;          // bytes of .shared variables
  uint32_t local_bytes;            // .local and stack per thread, one call level
  uint32_t const_bytes;            // of the module
  uint32_t registers;              // 32-bit registers per thread after the emulator's own allocation: an estimate
  uint32_t max_threads;            // from .maxntid/.reqntid, else 1024
  uint32_t reqntid[3];             // zeros: any
} emu_entry_info;
void emu_entry_describe(const emu_entry *e, emu_entry_info *out);
emu_module *emu_entry_module(const emu_entry *e);

// --- launches ------------------------------------------------------------------------------------------------------------------
enum {
  EMU_CHECK_UNINIT = 1, EMU_CHECK_RACE = 2, EMU_CHECK_SYNC = 4,
  EMU_CHECK_ALL = 7               // bounds, alignment and use after free are always checked
};
typedef struct emu_launch_config {
  uint32_t grid[3], block[3];
  uint32_t dynamic_shared;
  const void *params;              // the parameter block: values at the offsets of emu_param
  uint32_t param_bytes;
  bool checks_off;
  bool counters;
  uint64_t schedule_seed;          // 0: ascending order
  unsigned workers;                // 0: the context's
  uint64_t max_instructions;       // of warps, over the whole launch; 0: no limit. Exceeding it is reported as a time-out
  uint32_t resident_blocks;        // blocks alive at once per worker; 0: 1024
  void (*print)(void *user, ts_str text);   // output of printf, in pieces, when the launch has ended; NULL: stdout
  void *print_user;
  uint32_t break_line;             // PTX line before which `on_break` is called, for every warp; 0: none
  bool trace;                      // every warp instruction to `on_trace`
  struct emu_debug *debug;         // hooks for the two above
} emu_launch_config;

typedef enum emu_fault {
#define EMU_FAULT(name, spelling, severity, doc) EMU_FAULT_##name,
#include "emulator/faults.def"
  EMU_FAULT_COUNT
} emu_fault;
const char *emu_fault_name(emu_fault f);   // "out-of-bounds"
bool emu_fault_is_fatal(emu_fault f);      // ended the launch

typedef struct emu_place {
  uint32_t block[3], thread[3];
  uint32_t warp, lane;
  uint32_t ptx_line;
  const char *source_file;         // NULL: the PTX has no .loc there
  uint32_t source_line;
  const char *inlined_file;        // where the function of that line was inlined, NULL: it was not
  uint32_t inlined_line;
  const char *instruction;         // its text
} emu_place;

typedef struct emu_report {
  emu_fault fault;
  emu_place at;
  bool has_other;                  // races: the earlier access
  emu_place other;
  emu_addr address;
  uint32_t bytes;
  const char *text;                // the whole report, several lines
  uint64_t repeats;                // further findings at this instruction with this fault
} emu_report;

typedef struct emu_counters emu_counters;   // counters.h

typedef struct emu_result {
  ts_arena arena;
  TS_VEC(emu_report) reports;
  uint64_t warp_instructions, thread_instructions;
  double seconds;
  emu_counters *counters;          // when asked for
} emu_result;

// Runs the grid. TS_INVALID: the configuration is impossible (reported to d); TS_MISMATCH: a check reported (see result);
// TS_OK: nothing to report. `out` must be deinitialised in every case.
ts_status emu_launch(emu_context *c, const emu_entry *e, const emu_launch_config *config, ts_diags *d, emu_result *out);
void emu_result_deinit(emu_result *r);

// Debugging: what a hook may ask about the warp that stopped.
typedef struct emu_stop emu_stop;
typedef struct emu_debug {
  void (*on_break)(struct emu_debug *self, const emu_stop *stop);
  void (*on_trace)(struct emu_debug *self, const emu_stop *stop);
  void *user;
} emu_debug;
emu_place emu_stop_place(const emu_stop *s);       // of its first active lane
uint32_t emu_stop_mask(const emu_stop *s);         // lanes that are about to execute
// The 32 lanes of a register by its PTX name, zero-extended; predicates give 0 or 1. false: no such register here.
bool emu_stop_register(const emu_stop *s, const char *name, uint64_t lanes[32], unsigned *bits);

#endif
