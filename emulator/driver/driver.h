// The state behind the driver API. A driver is process-wide by nature: everything lives in the one drv_state of state.c and is
// guarded by its one lock, which every exported function holds while it works (except around callbacks of the user). Work runs
// when it is submitted, on the submitting thread: a stream is always empty, and an event that was recorded has happened.
//
// Handles are addresses of drv_objects that the registry knows; anything else is refused as an invalid handle.
#ifndef TESSERA_EMULATOR_DRIVER_DRIVER_H
#define TESSERA_EMULATOR_DRIVER_DRIVER_H

#include "base/map.h"
#include "emulator/driver/tessera_cuda_emu.h"
#include "emulator/driver/types.h"
#include "emulator/emu.h"

#include <pthread.h>

enum { DRV_VERSION = 13000, DRV_MAX_DEVICES = 16, DRV_STACK = 64 };

typedef struct drv_target {
  int sm;
  const char *gpu;
  int processors, threads, blocks;         // threads and blocks per multiprocessor
  int shared_kib, block_shared_kib, l2_kib, core_mhz, memory_mhz, bus_bits, memory_gib, f64_ratio, integrated;
} drv_target;

typedef enum drv_kind {
  DRV_CONTEXT = 1, DRV_MODULE, DRV_FUNCTION, DRV_STREAM, DRV_EVENT, DRV_LIBRARY, DRV_KERNEL, DRV_POOL, DRV_LINK
} drv_kind;

typedef struct drv_object {
  drv_kind kind;
  struct drv_object **list;                // the list it is in: of its context, or of the process
  struct drv_object *prev, *next;
} drv_object;

// One emulated GPU. Its emulator comes to life with its first context.
typedef struct drv_device {
  int ordinal;
  const drv_target *target;
  emu_context *emu;
  int unified;                             // device addresses are host addresses: pinned and managed memory has one address
  struct drv_context *primary;
  unsigned primary_uses, primary_flags;
  struct drv_pool *default_pool, *pool;
  ts_map memory;                           // address → drv_memory
} drv_device;

typedef struct drv_context {
  drv_object object;
  drv_device *device;
  bool alive;                              // contexts are never freed, so that a thread's stack may name a destroyed one
  unsigned flags;
  uint64_t id;
  cu_result error;                         // of the launch that poisoned it
  drv_object *objects;                     // modules, streams, events, links
  struct drv_memory *memory;
  size_t limits[10];
  int cache_config, shared_config;
} drv_context;

typedef enum drv_memory_kind { DRV_MEMORY_DEVICE, DRV_MEMORY_PINNED, DRV_MEMORY_MANAGED, DRV_MEMORY_POOL } drv_memory_kind;
typedef struct drv_memory {
  struct drv_context *context;
  struct drv_memory *prev, *next;
  drv_memory_kind kind;
  emu_addr address;
  uint64_t bytes, id;
  void *host;                              // pinned and managed memory
  unsigned flags;
  struct drv_pool *pool;
} drv_memory;

typedef struct drv_pool {
  drv_object object;
  drv_device *device;
  uint64_t used, used_high, threshold;
  int reuse[3];
} drv_pool;

typedef struct drv_seen {                  // a finding that was printed already
  emu_fault fault;
  uint32_t line;
  struct drv_seen *next;
} drv_seen;

typedef struct drv_function {
  drv_object object;
  struct drv_module *module;
  const emu_entry *entry;
  emu_entry_info info;
  int max_dynamic_shared, carveout, cache_config;
  drv_seen *seen;
} drv_function;

typedef struct drv_module {
  drv_object object;
  drv_context *context;
  emu_module *emu;
  drv_function *functions;
  unsigned count;
  struct drv_library *library;             // NULL: loaded by cuModuleLoad*
} drv_module;

typedef struct drv_kernel {
  drv_object object;
  struct drv_library *library;
  char *name;
  int max_dynamic_shared;                  // -1: not set
} drv_kernel;

// Independent of contexts: its module is loaded into a context when it is first used there.
typedef struct drv_library {
  drv_object object;
  char *image;
  size_t bytes;
  drv_kernel *kernels;
  unsigned count;
} drv_library;

typedef struct drv_stream {
  drv_object object;
  drv_context *context;
  unsigned flags;
  int priority;
  uint64_t id;
} drv_stream;

typedef struct drv_event {
  drv_object object;
  drv_context *context;
  unsigned flags;
  bool recorded;
  uint64_t ns;
} drv_event;

typedef struct drv_link {
  drv_object object;
  drv_context *context;
  ts_text text;
  bool complete;
} drv_link;

typedef struct drv_state {
  pthread_mutex_t lock;
  bool initialised, ended;                 // ended: the process exits
  int device_count;
  drv_device devices[DRV_MAX_DEVICES];
  ts_map registry;                         // handle → drv_object
  drv_object *objects;                     // contexts, libraries, pools
  uint64_t next_id;
  unsigned workers;
  uint64_t seed, memory_mib;
  bool checks, findings_are_fatal, blocking;
  tessera_emu_observer *observer;
  void *observer_user;
  bool counting;
  uint64_t launches, findings;
} drv_state;
extern drv_state drv;

typedef enum drv_need { DRV_NEED_NOTHING, DRV_NEED_INIT, DRV_NEED_CURRENT, DRV_NEED_HEALTHY } drv_need;

// state.c
cu_result drv_enter(drv_need need);        // takes the lock, in any case
void drv_leave(void);
void drv_callback_begin(void); // releases the lock for a callback of the user, in which no driver function may be called
void drv_callback_end(void);
drv_context *drv_current(void);            // the calling thread's context, NULL: none, or destroyed
void drv_add(drv_object **list, drv_object *o, drv_kind kind);
void drv_remove(drv_object *o);
void drv_register(drv_object *o, drv_kind kind);   // makes it a handle without a list
void drv_unregister(drv_object *o);
void *drv_find(cu_handle h, drv_kind kind);        // NULL: no such handle
uint64_t drv_now_ns(void);
const char *drv_error_text(cu_result r);
__attribute__((format(printf, 1, 2))) void drv_say(const char *fmt, ...);   // one line to stderr

// device.c
cu_result drv_init(void);                  // reads the environment and makes the devices
drv_device *drv_device_at(cu_device d);    // NULL: no such device
cu_result drv_device_start(drv_device *d); // makes the emulator
int drv_attribute(const drv_device *d, int number, bool *known);
// context.c
cu_result drv_context_create(drv_device *d, unsigned flags, bool primary, drv_context **out);
void drv_context_end(drv_context *c);
void drv_stack_push(drv_context *c);
void drv_stack_drop(void);
// memory.c
cu_result drv_memory_create(drv_context *c, uint64_t bytes, drv_memory_kind kind, unsigned flags, drv_pool *pool,
                            drv_memory **out);
void drv_memory_destroy(drv_memory *m);
// Where an address leads: into a device's memory, also by the host address of pinned memory. false: ordinary host memory.
// `*d` is the current device where several have memory at the address. The place may be unallocated.
bool drv_locate(cu_ptr p, drv_device **d, emu_addr *address);
drv_memory *drv_memory_at(cu_ptr p);       // the buffer that holds an address, NULL: none of the API's
// copy.c
cu_result drv_copy(cu_ptr to, cu_ptr from, uint64_t bytes);   // each a device or a host address
// fatbin.c
typedef struct drv_image {
  ts_str text;                             // PTX
  char *owned;                             // to be freed when it was compressed
} drv_image;
// The PTX for `sm` in PTX text, a fat binary or its wrapper. `bytes`: readable bytes, SIZE_MAX: unknown (the image tells).
// On failure `why` (may be NULL) tells the reason.
cu_result drv_image_open(const void *image, size_t bytes, int sm, drv_image *out, ts_text *why);
bool drv_lz4(const uint8_t *from, size_t bytes, uint8_t *to, size_t capacity);   // a block that fills `to` exactly
// module.c
cu_result drv_module_create(drv_context *c, const void *image, size_t bytes, const char *name, ts_text *log, drv_module **out);
void drv_module_destroy(drv_module *m);
void drv_link_destroy(drv_link *l);
cu_result drv_read_file(const char *path, char **out, size_t *bytes);   // NUL-terminated
// The function behind a CUfunction or a CUkernel in the current context.
cu_result drv_function_of(cu_handle h, drv_function **out);
cu_result drv_library_module(drv_library *l, drv_module **out);
cu_result drv_function_attribute(const drv_function *f, int attribute, int *out);
cu_result drv_param_info(const drv_function *f, size_t index, size_t *offset, size_t *bytes);
// launch.c
cu_result drv_stream_check(cu_handle stream);   // also the predefined streams; INVALID_HANDLE

#define CU_EXPORT __attribute__((visibility("default")))
// Bodies of the exported functions.
#define DRV(symbol, base, version, needs, stream, params, args) cu_result drv_do_##symbol params;
#include "emulator/driver/driver_api.def"

#endif
