// .npy files, versions 1 to 3, C order, little-endian numbers: what `tessera emu` reads and writes.
#ifndef TESSERA_EMULATOR_NPY_H
#define TESSERA_EMULATOR_NPY_H
#include "base/file.h"

typedef struct emu_npy {
  const uint8_t *data;     // inside the mapped or read file
  size_t bytes;
  char descr[16];          // "<f4"
  size_t shape[8];
  unsigned rank;
} emu_npy;
ts_status emu_npy_read(ts_arena *a, const char *path, ts_diags *d, emu_npy *out);
// `descr` as numpy writes it; the shape's product times the item size must be `bytes`.
ts_status emu_npy_write(const char *path, const char *descr, const size_t *shape, unsigned rank, const void *data, size_t bytes, ts_diags *d);
#endif
