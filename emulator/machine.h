// The state of a launch: device, launch, blocks, warps, and what the handlers of operations see of it.
//
// A warp is a set of *splits*: lanes at one program counter in one frame. Splits that came from one branch wait for each other
// at its *join*; a join gives its lanes up when the rest spins, so lanes can wait for each other in any order. Rows of
// registers belong to frames; all splits of a warp in one call share a frame.
#ifndef TESSERA_EMULATOR_MACHINE_H
#define TESSERA_EMULATOR_MACHINE_H

#include "base/pool.h"
#include "emulator/emu.h"
#include "emulator/program.h"

#include <pthread.h>
#include <stdatomic.h>

enum { EMU_PAGE = 256, EMU_RED_ZONE = 256, EMU_MAX_WARPS = 32, EMU_BARRIERS = 16, EMU_MAX_ALLOCATIONS = 1 << 20 };
enum { EMU_BYTE_UNINIT = 0, EMU_BYTE_VALID = 1, EMU_BYTE_PENDING = 2 };   // shadow of a byte of memory

typedef struct emu_allocation {
  uint64_t offset, bytes, span;    // span: with the red zone behind it
  bool live, read_only;
  bool all_valid;                  // every byte is initialised: the shadow isn't kept
  bool nc_read;                    // this launch read it through ld.global.nc
  char *name;
} emu_allocation;

struct emu_context {
  unsigned sm, workers;
  emu_gen gen;
  uint8_t *memory, *valid;         // device memory and its shadow, `capacity` bytes each, mapped without reserve
  uint32_t *owner;                 // page → allocation number + 1
  uint64_t capacity, top, in_use;
  emu_allocation *allocations;
  uint32_t allocation_count;
  ts_pool *pool;
  unsigned pool_threads;
  pthread_mutex_t lock;            // device-side malloc, printf, reports
};

// device.c
emu_allocation *emu_owner(const emu_context *c, uint64_t address);   // live or dead; NULL in a red zone or outside
ts_status emu_alloc_internal(emu_context *c, uint64_t bytes, const char *name, bool read_only, emu_addr *out);

struct emu_module {
  emu_context *context;
  ts_arena arena;
  ts_interner names;
  ptx_module ptx;
  emu_program program;
  emu_entry *entries;
  uint32_t entry_count, const_bytes;
  bool *recursive;                 // per function: local stack depth is not bounded
  uint32_t *stack_bytes;           // per function: frames of the deepest call chain
};
struct emu_entry {
  emu_module *module;
  uint32_t func;
  emu_param *params;
  uint32_t param_count, param_bytes;
};

typedef struct emu_frame {
  struct emu_frame *parent;
  const emu_function *fn;
  uint8_t *regs;
  uint32_t *preds;
  uint32_t *init;                  // lanes initialised, by row (tracked registers only)
  uint32_t live;                   // lanes still in the call
  uint32_t local_base, ret_pc;
  uint32_t carry;                  // CC.CF
  const emu_call_info *call;
  struct emu_frame *made;          // all frames of the warp, for freeing
} emu_frame;

typedef struct emu_join {
  uint32_t pc, expected, arrived;
  emu_frame *frame;
  struct emu_join *parent;
  struct emu_join *made;           // all joins of the warp, for freeing
} emu_join;

typedef enum emu_split_state { EMU_READY, EMU_AT_BARRIER, EMU_AT_WARP_BAR, EMU_AT_CONVERGE } emu_split_state;
typedef struct emu_split {
  uint32_t mask, pc;
  emu_frame *frame;
  emu_join *join;
  uint8_t state, barrier;
  uint32_t members;                // AT_WARP_BAR, AT_CONVERGE: who must come
} emu_split;

typedef struct emu_pending {       // a cp.async in flight
  uint32_t offset, group;
  uint8_t lane, bytes;
  uint8_t data[16];
} emu_pending;

struct emu_vc;
struct emu_stop {
  const struct emu_exec *x;
  const emu_insn *in;
  uint32_t mask;
};
typedef struct emu_warp {
  struct emu_block *block;
  uint32_t index;                  // in the block
  uint32_t exists, live;           // lanes
  emu_split splits[32];
  uint32_t split_count, next_split;
  emu_join *free_joins;
  emu_frame *free_frames;
  emu_join *made_joins;
  emu_frame *made_frames;
  uint8_t *local, *local_valid;    // local_bytes for each lane
  uint32_t local_bytes;
  uint32_t tid[3][32];
  emu_pending *copies;
  uint32_t copy_count, copy_capacity;
  uint32_t copy_group[32];
  uint32_t clock;                  // of the race checks: advances at every synchronisation
  struct emu_vc *vc;
  uint64_t executed;
  uint32_t spins;                  // operations that look like waiting since the last sign of progress
  uint64_t waits, progress;        // such operations in all; stores, atomics that changed something, barriers, exits
} emu_warp;

typedef struct emu_barrier {
  uint32_t arrived;                // threads
  uint32_t expected;               // 0: all threads of the block
  bool in_use, aligned;
  uint32_t reduce_count, reduce_true;
  uint32_t arrive_only;            // threads that don't wait
  uint32_t first_pc;
  struct emu_vc *vc, *fenced;      // race checks: what those who came know, and what they have fenced
} emu_barrier;

typedef struct emu_block {
  struct emu_launch_state *launch;
  uint32_t ctaid[3], number;
  uint8_t *shared, *shared_valid;
  struct emu_shadow_cell *shared_cells;
  uint32_t shared_bytes;
  emu_warp *warps;
  uint32_t warp_count, live_threads, next_warp;
  emu_barrier barriers[EMU_BARRIERS];
  bool progressed;
  uint64_t idle_rounds;
} emu_block;

typedef struct emu_count {         // of one operation
  uint64_t warps, threads;
  uint64_t requests, sectors, ideal_sectors;    // global memory
  uint64_t wave_requests, waves, ideal_waves;   // shared memory
  uint64_t bytes;                  // moved by the lanes
  uint64_t conflicts;              // atomics: lanes that met another lane's address
} emu_count;

typedef struct emu_launch_state {
  emu_context *context;
  const emu_entry *entry;
  const emu_program *program;
  emu_launch_config config;
  const uint8_t *params;
  uint32_t param_bytes;
  uint32_t threads, warps;         // per block
  uint64_t blocks;
  uint32_t shared_bytes, local_bytes;
  bool check_init, check_race, check_sync, counting;
  atomic_uint_fast64_t next_block, executed_warps, executed_threads;
  atomic_bool stop;
  emu_result *result;
  struct emu_race *race;           // check_race.c
  struct emu_buffer_counts *buffers;   // counters.c: what moved, by allocation
  emu_count *counts;               // per worker: counts + worker * code.count
  ts_text output;
  uint64_t started_ns;
  atomic_uint_fast64_t progress;   // bumps when any block advances: for deadlock between workers
} emu_launch_state;

typedef struct emu_exec {          // one worker
  uint8_t *regs;                   // of the current frame
  const uint8_t *consts;
  uint32_t *preds;
  emu_frame *frame;
  emu_warp *warp;
  emu_block *block;
  emu_launch_state *launch;
  emu_context *context;
  const emu_insn *code;
  emu_count *counts;               // NULL: not counting
  emu_split *split;
  uint32_t full;                   // lanes whose registers may be overwritten freely: the others don't exist
  bool check_init, check_race;
  bool watch;                      // counters, trace or breakpoint: look at every operation
  unsigned worker;
  uint64_t random;
  uint64_t warps_run, threads_run;
} emu_exec;

static inline void *emu_row_at(const emu_exec *x, uint32_t slot) {
  return slot & EMU_CONST ? (uint8_t *)x->consts + (slot & ~EMU_CONST) : x->regs + slot;
}
static inline uint32_t emu_pred(const emu_exec *x, uint16_t p, bool negated) {
  uint32_t v = p == EMU_NO_PRED ? 0 : x->preds[p];
  return negated ? ~v : v;
}
static inline void emu_set_pred(emu_exec *x, uint16_t p, uint32_t value, uint32_t mask) {
  if (p != EMU_NO_PRED) x->preds[p] = (x->preds[p] & ~mask) | (value & mask);
}

// Reports a finding of `lane`; a fatal one stops the launch. `other` may be NULL.
void emu_fault_report(emu_exec *x, const emu_insn *in, emu_fault fault, unsigned lane, uint64_t address, uint32_t bytes, const emu_place *other,
                      const char *fmt, ...) __attribute__((format(printf, 8, 9)));
emu_place emu_place_of(const emu_launch_state *l, const emu_block *b, uint32_t warp, unsigned lane, uint32_t pc);
// "of 4096 bytes, 12 bytes behind its end": what an address means.
void emu_describe_address(const emu_exec *x, uint64_t address, ts_text *out);
void emu_check_registers(emu_exec *x, const emu_insn *in, uint32_t mask);

// exec_mem.c: the memory behind the lanes of an access, checked. false: reported, the launch stops.
typedef struct emu_access {
  uint64_t address[32];            // generic, or offsets in the space
  uint8_t *host[32];
  uint8_t space[32];               // PTX_GLOBAL, SHARED, LOCAL, PARAM
  bool uniform;                    // all lanes in first_space; space[] isn't set
  uint8_t first_space;
  emu_allocation *allocation;      // the one that all lanes are in, when uniform and in device memory
} emu_access;
typedef enum emu_access_kind { EMU_READ, EMU_WRITE, EMU_ATOMIC } emu_access_kind;
bool emu_resolve(emu_exec *x, const emu_insn *in, const emu_mem *m, uint32_t base_slot, uint32_t mask, uint32_t bytes, emu_access_kind kind, emu_access *out);
uint8_t *emu_valid_of(emu_exec *x, const emu_access *a, unsigned lane);   // shadow bytes, or NULL where none are kept
void emu_count_access(emu_exec *x, const emu_insn *in, const emu_access *a, uint32_t mask, uint32_t bytes, bool write);
// Host pointer of a string or buffer behind a generic address, with the bytes available there; NULL when it is not mapped.
const uint8_t *emu_host_pointer(emu_exec *x, unsigned lane, uint64_t address, uint64_t *available);

// counters.c
struct emu_buffer_counts *emu_buffers_create(const emu_context *c);
void emu_buffers_destroy(struct emu_buffer_counts *b);

// check_race.c
struct emu_race *emu_race_create(emu_launch_state *l);
void emu_race_destroy(struct emu_race *r, const emu_context *c);
void emu_race_block_begin(emu_exec *x, emu_block *b);
void emu_race_block_end(emu_exec *x, emu_block *b);
void emu_race_access(emu_exec *x, const emu_insn *in, const emu_mem *m, const emu_access *a, uint32_t mask, uint32_t bytes, emu_access_kind kind);
void emu_race_acquire(emu_exec *x, const emu_mem *m, const emu_access *a, uint32_t mask);   // after a strong read
void emu_race_fence(emu_exec *x, bool cta);
void emu_race_warp_sync(emu_exec *x, emu_warp *w);
void emu_race_barrier_arrive(emu_exec *x, emu_warp *w, emu_barrier *b);
void emu_race_barrier_leave(emu_exec *x, emu_warp *w, emu_barrier *b);
void emu_race_barrier_reset(emu_exec *x, emu_barrier *b);

// warp.c
typedef enum emu_slice { EMU_SLICE_DONE, EMU_SLICE_SPIN, EMU_SLICE_STUCK } emu_slice;
// Runs a block until it has finished, only spins, or can't go on.
emu_slice emu_run_block(emu_exec *x, emu_block *b);
emu_frame *emu_frame_enter(emu_exec *x, emu_warp *w, const emu_function *fn, emu_frame *parent, uint32_t lanes, uint32_t local_base);
void emu_warp_free(emu_warp *w);
// builtins.c
bool emu_call_builtin(emu_exec *x, const emu_insn *in, const emu_call_info *c, uint32_t mask);
void emu_sreg_row(emu_exec *x, ptx_sreg r, uint64_t lanes[32]);

#endif
