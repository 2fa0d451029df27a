// What the runtime's files share. Only tessera.h is public.
//
//   artifact.c  files and sections, queries        check.c    a program's tables against the format's rules
//   device.c    URIs, choice of target, streams    host.c     CPU levels, images, the pool      cuda.c  the driver API
//   buffer.c    tensors, DLPack                    plan.c     sizes at a session's limits, packing of workspaces
//   session.c   creating sessions, binding         kv.c       sequences and pages               run.c   a call
#ifndef TSR_INTERNAL_H
#define TSR_INTERNAL_H

#include "runtime/tessera.h"
#include "runtime/tsr_format.h"

#include "base/checked.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

tsr_status tsr_fail(tsr_error *e, tsr_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define TSR_TRY(expr)                                 \
  do {                                                \
    tsr_status tsr_try_ = (expr);                     \
    if (tsr_try_ != TSR_OK) return tsr_try_;          \
  } while (0)
// size_t count * size, zeroed; NULL when it overflows or memory is out. free() it.
void *tsr_calloc(size_t count, size_t size);
// Copies the caller's option struct over zeros; false when its size field is nonsense.
bool tsr_options(void *own, size_t own_size, const void *given);

// --- Programs ---

// What a function asks of its caller; worked out when the file is opened.
typedef struct tsr_function_view {
  uint32_t inputs, outputs;
  uint32_t rows;                     // dim of rows, or TSR_NONE
  uint32_t ragged;                   // bit i: uses the program's ragged dim number i
  uint32_t states;                   // bit i: touches state i
  uint32_t launches;                 // launch steps
} tsr_function_view;

typedef struct tsr_program {
  tsr_artifact *artifact;
  uint32_t section;
#define TSR_FIELD(id, type) const type *id; uint32_t id##_count;
  TSR_PROGRAM_TABLES(TSR_FIELD)
  tsr_function_view *views;          // one per function
  uint32_t ragged_dims[TSR_MAX_RAGGED], ragged_count;
} tsr_program;

typedef struct tsr_targets {
  TSR_TARGET_TABLES(TSR_FIELD)
#undef TSR_FIELD
} tsr_targets;

struct tsr_artifact {
  atomic_uint refs;
  char *path;                        // for messages; "memory" if none
  char *folder;                      // of external weights, or NULL
  int fd;                            // -1: from memory
  const unsigned char *data;
  size_t size;
  void *mapped, *copied;             // what to give back
  const tsr_section *sections;
  uint32_t section_count;
  const char *strings;
  size_t strings_bytes;
  const tsr_meta *meta;
  uint32_t meta_count;
  tsr_program *programs;             // by order of their sections
  uint32_t program_count;
  tsr_targets targets;
  struct { void *data; size_t size; } *external;   // per section: mapped side files
  atomic_uchar *checked;             // per section: its checksum was right
  pthread_mutex_t lock;              // guards what follows
  void **executable;                 // per image: host code mapped read-execute
  struct tsr_weights *weights;       // copies on devices
};

tsr_status tsr_check_program(tsr_artifact *a, uint32_t section, tsr_program *out, tsr_error *e);
tsr_status tsr_check_targets(tsr_artifact *a, uint32_t section, tsr_targets *out, tsr_error *e);
static inline const char *tsr_string(const tsr_artifact *a, uint32_t s) { return s < a->strings_bytes ? a->strings + s : ""; }
// The bytes of a section (external weights included).
const void *tsr_section_data(const tsr_artifact *a, uint32_t section);
tsr_status tsr_section_verify(tsr_artifact *a, uint32_t section, tsr_error *e);
const tsr_program *tsr_program_of(const tsr_artifact *a, uint32_t section);
// The program that describes the artifact to people: the first target's.
const tsr_program *tsr_first_program(const tsr_artifact *a);
uint32_t tsr_find_function(const tsr_program *p, const char *name);   // TSR_NONE if absent
uint32_t tsr_find_target(const tsr_artifact *a, const tsr_device *d, tsr_error *e, tsr_status *status);

// --- Devices ---

// A kernel ready to launch. A null handle: the target has no code for it.
typedef struct tsr_kernel_code {
  tsr_host_kernel *entry;            // host
  void *function;                    // cuda
  uint32_t threads[3], shared;       // cuda
} tsr_kernel_code;

typedef struct tsr_launch {
  const tsr_kernel_code *code;
  uint32_t pointers, sizes;
  void **bufs;
  int64_t *dims;                     // sizes, then room for three more
  uint32_t grid[3];
} tsr_launch;

typedef struct tsr_device_ops {
  void (*close)(tsr_device *);
  // Zeroed; bytes > 0. Sparse: little of it may ever be touched, so it should cost nothing until it is.
  tsr_status (*allocate)(tsr_device *, size_t bytes, bool sparse, void **out);
  void (*release)(tsr_device *, void *p, size_t bytes);
  tsr_status (*write)(tsr_device *, void *to, const void *from, size_t bytes, void *stream);
  tsr_status (*read)(tsr_device *, void *to, const void *from, size_t bytes, void *stream);   // waits
  tsr_status (*copy)(tsr_device *, void *to, const void *from, size_t bytes, void *stream);
  tsr_status (*fill)(tsr_device *, void *to, uint32_t pattern, size_t bytes, void *stream);   // bytes: a multiple of 4
  tsr_status (*wait)(tsr_device *, void *stream, tsr_error *e);
  // Rank of a target on this device, 0: can't run (then why says so, in at most 200 bytes).
  uint32_t (*rank)(const tsr_device *, const tsr_artifact *, const tsr_target *, char *why);
  // Fills the session's code and the class's own data; unload gives both back, however far load came.
  tsr_status (*load)(tsr_session *, tsr_error *e);
  void (*unload)(tsr_session *);
  // Host: 0, or a raise code in *raised. CUDA: queues.
  tsr_status (*launch)(tsr_session *, const tsr_launch *, void *stream, uint32_t *raised);
} tsr_device_ops;

struct tsr_device {
  atomic_uint refs;
  const tsr_device_ops *ops;
  uint32_t device_class;             // TSR_CLASS_*
  int ordinal;                       // the driver's number of it; 0 on the host
  bool host_memory;                  // pointers are ours to follow
  bool async;                        // work is queued: errors show at wait
  size_t align;                      // of workspaces
  char name[96];
  tsr_device_options options;
  pthread_mutex_t lock;              // host: one call at a time uses the workers
  void *own;                         // the class's own data
};

tsr_status tsr_host_open(tsr_device *d, const char *level, tsr_error *e);
tsr_status tsr_cuda_open(tsr_device *d, const char *scheme, const char *which, tsr_error *e);
void tsr_device_log(const tsr_device *d, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// Shared copies of an artifact's weights on a device. Host without copy: base pointers into the file.
typedef struct tsr_weights {
  struct tsr_weights *next;
  const tsr_device *device;
  const tsr_program *program;
  bool copied;
  unsigned refs;
  const unsigned char **bases;       // per weight of the program
  void *block;                       // one allocation on the device
  size_t block_bytes;
} tsr_weights;

// --- Buffers ---

struct tsr_buffer {
  atomic_uint refs;
  tsr_device *device;
  tsr_type type;
  size_t bytes, capacity;
  unsigned char *data;
  bool owned;
  struct DLManagedTensorVersioned *imported;
};
// Bytes of a dense tensor; false when the type is no type or the size overflows.
bool tsr_type_bytes(const tsr_type *t, size_t *out);

// --- Sessions ---

enum { TSR_NO_PAGE = -1 };

// Pages of one list of one state.
typedef struct tsr_pages {
  uint32_t state, list;              // list: in the program's table
  uint32_t page, width;              // tokens per page; entries per table row
  uint32_t capacity, free_count;
  uint32_t *refs;                    // per page
  int32_t *free;                     // stack
  int32_t *entries;                  // [sequences][width], TSR_NO_PAGE behind the end
  int32_t *table;                    // [rows][width], as kernels see it; in the session's block of tables
} tsr_pages;

typedef struct tsr_seq {
  uint32_t generation;
  bool used;
  uint32_t busy;                     // mark of the call that lists it: catches a sequence given twice
  uint32_t length[TSR_MAX_STATES];
} tsr_seq;

typedef struct tsr_call_function {
  bool enabled;
  const tsr_prog_function *f;
  const tsr_function_view *view;
  tsr_buffer **bound;                // per value
  int64_t *values;                   // per node, of the call in progress
  uint64_t *planned, *offset;        // per buffer: bytes at the limits, place in the workspace
  unsigned char **base;              // per buffer; those of inputs and outputs are of the call in progress
  uint64_t *bytes;
  uint32_t first_error;              // number of its first launch's error word
  bool uses_errors;
  uint32_t advance[TSR_MAX_STATES], advance_count;   // numbers of its advance steps
} tsr_call_function;

// A call queued on a stream whose outcome is unknown: what to go back to.
typedef struct tsr_pending {
  uint32_t count;
  uint32_t *rows;                    // index of the sequence
  uint32_t (*lengths)[TSR_MAX_STATES];
  struct tsr_pending *next;          // older
} tsr_pending;

struct tsr_session {
  tsr_artifact *artifact;
  tsr_device *device;
  const tsr_program *program;
  uint32_t target;
  tsr_weights *weights;
  int64_t dim_max[TSR_MAX_DIMS];
  int64_t state_max[TSR_MAX_STATES];
  uint32_t rows_max;                 // rows of a call
  uint32_t sequence_count;
  tsr_seq *sequences;
  tsr_pages pages[TSR_MAX_LISTS];    // one per list of the program
  uint32_t pages_count;
  unsigned char **pools;             // per pool of the program
  uint64_t *pool_bytes;
  tsr_call_function *functions;
  unsigned char *workspace;
  uint64_t workspace_bytes;
  int32_t *lengths[TSR_MAX_STATES], *ragged[TSR_MAX_RAGGED];         // [rows_max], as kernels see them; in the block of tables
  unsigned char *tables;             // one block of ours: lengths, ragged lengths, page tables
  unsigned char *device_tables;      // its twin on the device (the same where memory is ours)
  size_t tables_bytes;
  uint32_t error_count;              // error words: one per launch step of every function
  unsigned char *errors;             // on the device
  uint32_t *error_words, *error_kernel;   // read back; the kernel that ran
  uint32_t *row_index;               // [rows_max]: sequences of the call in progress
  uint32_t *by[TSR_MAX_STATES];      // [rows_max]: tokens that the call in progress appends
  uint32_t mark;
  atomic_bool cancelled;
  tsr_profile_fn *profile;
  void *profile_user;
  tsr_kernel_code *code;             // array, one per kernel of the program
  void *own;                         // the device class's
  tsr_memory memory;
  tsr_pending *pending;              // newest first
  tsr_stream *stream;                // of the pending calls
  struct tsr_session *next_on_stream;
};

struct tsr_stream {
  tsr_device *device;
  void *native;
  tsr_session *sessions;             // with pending calls
};

// plan.c. Limits are in the session; fills functions' planned sizes and offsets, and the session's memory.
tsr_status tsr_plan(tsr_session *s, tsr_error *e);
// Evaluates all nodes of a function from the leaves' values; false: *bad is the first node without a value.
typedef struct tsr_leaves {
  const int64_t *dims;               // per dim
  int64_t longest[TSR_MAX_RAGGED], total[TSR_MAX_RAGGED];
  int64_t length[TSR_MAX_STATES];
} tsr_leaves;
void tsr_evaluate(const tsr_session *s, tsr_call_function *f, const tsr_leaves *l);
// Value of a node after tsr_evaluate; TSR_BAD_VALUE where it has none.
#define TSR_BAD_VALUE INT64_MIN

// kv.c
tsr_status tsr_pages_init(tsr_session *s);
void tsr_pages_deinit(tsr_session *s);
tsr_seq *tsr_find_sequence(const tsr_session *s, tsr_sequence h, uint32_t *index);
// Makes every row's sequence able to grow by `by[row]` tokens in a state; all rows or none.
tsr_status tsr_pages_reserve(tsr_session *s, uint32_t state, const uint32_t *rows, const uint32_t *by, size_t count,
                             void *stream);
// Gives back pages behind the sequence's length.
void tsr_pages_trim(tsr_session *s, uint32_t state, uint32_t row);

// run.c: waits for a session's queued calls and settles them.
tsr_status tsr_session_settle(tsr_session *s, tsr_error *e);

#endif
