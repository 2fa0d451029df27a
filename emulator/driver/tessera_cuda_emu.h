// What libtessera_cuda_emu.so offers beside the CUDA driver API: findings and counters of launches, for tools.
#ifndef TESSERA_CUDA_EMU_H
#define TESSERA_CUDA_EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A finished launch. Everything is valid during the call only.
typedef struct tessera_emu_launch {
  size_t size;                       // of this structure, as the library knows it
  const char *kernel;
  int sm;                            // of the device
  unsigned grid[3], block[3], shared_bytes;   // shared: dynamic
  uint64_t warp_instructions, thread_instructions;
  double seconds;
  size_t report_count;
  const char *const *reports;        // each several lines of text
  const char *counters_json;         // NULL unless asked for
  const char *counters_text;
  int error;                         // CUresult that the context has from now on, 0: none
} tessera_emu_launch;
typedef void tessera_emu_observer(void *user, const tessera_emu_launch *launch);

// Calls `fn` after every launch, on the launching thread; it must not call the driver. NULL: no more. With `counters`,
// launches are counted (slower).
void tessera_emu_observe(tessera_emu_observer *fn, void *user, int counters);
// Findings (races, uninitialised reads, faults …) of all launches so far, repeats of one finding included once per launch.
uint64_t tessera_emu_findings(void);
// Changes what TESSERA_EMU_CHECKS, TESSERA_EMU_SEED and TESSERA_EMU_WORKERS set: for the launches that follow.
void tessera_emu_set_checks(int on);
void tessera_emu_set_seed(uint64_t seed);
void tessera_emu_set_workers(unsigned workers);   // 0: one per CPU

#ifdef __cplusplus
}
#endif
#endif
