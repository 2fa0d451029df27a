// What a launch counted: per operation, summed by class, basic block and source line; text, JSON and an annotated listing.
#ifndef TESSERA_EMULATOR_COUNTERS_H
#define TESSERA_EMULATOR_COUNTERS_H
#include "emulator/emu.h"
#include "emulator/program.h"

struct emu_launch_state;
struct emu_count;

typedef struct emu_buffer_traffic {
  const char *name;
  uint64_t bytes;                     // of the allocation
  uint64_t read, written;             // bytes of the sectors that requests moved (atomics count as written)
  uint64_t distinct;                  // bytes of the sectors touched at least once
} emu_buffer_traffic;

struct emu_counters {
  const emu_program *program;
  uint32_t func;                      // the entry
  uint64_t blocks, threads;           // of the launch
  struct emu_count *ops;              // one per operation of the program
  emu_buffer_traffic *buffers;
  uint32_t buffer_count;
};

const char *emu_class_name(emu_class c);   // "int", "float", "load" …
emu_counters *emu_counters_collect(ts_arena *a, struct emu_launch_state *l, unsigned workers);
// A table for people: the kernel's totals, then basic blocks and source lines.
void emu_counters_print(const emu_counters *c, ts_text *out);
void emu_counters_json(const emu_counters *c, ts_text *out);
// The PTX of every function that ran, each line with its counts.
void emu_counters_listing(const emu_counters *c, ts_text *out);
#endif
