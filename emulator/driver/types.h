// Our own declarations of the CUDA driver API: the types, numbers and structures whose layout is its ABI (64-bit Linux).
// cuda.h isn't needed to build the library; a test compares the two where cuda.h is installed.
#ifndef TESSERA_EMULATOR_DRIVER_TYPES_H
#define TESSERA_EMULATOR_DRIVER_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef int cu_result;
typedef int cu_device;
typedef uint64_t cu_ptr;          // a device address
typedef void *cu_handle;          // contexts, modules, functions, kernels, libraries, streams, events, pools, link states

// Results: see results.def.
enum {
#define CU_RESULT(name, code, text) CU_##name = code,
#include "emulator/driver/results.def"
};

enum { CU_MEMORY_HOST = 1, CU_MEMORY_DEVICE = 2, CU_MEMORY_ARRAY = 3, CU_MEMORY_UNIFIED = 4 };
enum { CU_LOCATION_DEVICE = 1 };
enum {
  CU_FUNC_MAX_THREADS,
  CU_FUNC_SHARED,
  CU_FUNC_CONST,
  CU_FUNC_LOCAL,
  CU_FUNC_REGISTERS,
  CU_FUNC_PTX_VERSION,
  CU_FUNC_BINARY_VERSION,
  CU_FUNC_CACHE_MODE,
  CU_FUNC_MAX_DYNAMIC_SHARED,
  CU_FUNC_CARVEOUT,
  CU_FUNC_CLUSTER_MUST_BE_SET,
  CU_FUNC_CLUSTER_WIDTH,
  CU_FUNC_CLUSTER_HEIGHT,
  CU_FUNC_CLUSTER_DEPTH,
  CU_FUNC_CLUSTER_NON_PORTABLE,
  CU_FUNC_CLUSTER_POLICY,
  CU_FUNC_COUNT
};
enum {
  DRV_JIT_WALL_TIME = 2, DRV_JIT_INFO_LOG = 3, DRV_JIT_INFO_LOG_BYTES = 4, DRV_JIT_ERROR_LOG = 5, DRV_JIT_ERROR_LOG_BYTES = 6,
};
enum { DRV_JIT_INPUT_CUBIN, DRV_JIT_INPUT_PTX, DRV_JIT_INPUT_FATBINARY };
enum { CU_LAUNCH_COOPERATIVE = 2, CU_LAUNCH_CLUSTER_DIMENSION = 4, CU_LAUNCH_EVENT = 7, CU_LAUNCH_COMPLETION_EVENT = 12 };
enum { CU_PARAM_END = 0, CU_PARAM_BUFFER = 1, CU_PARAM_BUFFER_SIZE = 2 };   // the `extra` list of cuLaunchKernel
enum { DRV_EVENT_DISABLE_TIMING = 2, DRV_EVENT_INTERPROCESS = 4 };
enum { DRV_GET_PROC_FOUND, DRV_GET_PROC_NOT_FOUND, DRV_GET_PROC_VERSION };

typedef struct cu_location {
  int type, id;
} cu_location;

typedef struct cu_pool_props {
  int allocation_type, handle_types;
  cu_location location;
  void *win32;
  size_t max_size;
  unsigned short usage;
  unsigned char reserved[54];
} cu_pool_props;

typedef struct cu_access {
  cu_location location;
  int flags;
} cu_access;

typedef struct cu_copy_side {     // half of the 2-dimensional copies
  size_t x, y;
  int type;
  void *host;
  cu_ptr device;
  void *array;
  size_t pitch;
} cu_copy_side;
typedef struct cu_copy_2d {
  cu_copy_side from, to;
  size_t width, height;
} cu_copy_2d;

typedef struct cu_copy_side_3d {
  size_t x, y, z, lod;
  int type;
  void *host;
  cu_ptr device;
  void *array;
  void *reserved;                 // of peer copies: the context
  size_t pitch, height;
} cu_copy_side_3d;
typedef struct cu_copy_3d {
  cu_copy_side_3d from, to;
  size_t width, height, depth;
} cu_copy_3d;

typedef struct cu_launch_attribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int cooperative;
    struct {
      unsigned x, y, z;
    } cluster;
    struct {
      cu_handle event;
      int flags, trigger;
    } event;
  } value;
} cu_launch_attribute;

typedef struct cu_launch_config {
  unsigned grid[3], block[3], shared;
  cu_handle stream;
  cu_launch_attribute *attributes;
  unsigned attribute_count;
} cu_launch_config;

typedef struct cu_properties {    // of cuDeviceGetProperties
  int max_threads, max_block[3], max_grid[3], shared, constant, warp, pitch, registers, clock, texture_alignment;
} cu_properties;

typedef void cu_host_fn(void *user);
typedef void cu_stream_callback(cu_handle stream, cu_result status, void *user);
typedef size_t cu_block_to_shared(int block_size);

#endif
