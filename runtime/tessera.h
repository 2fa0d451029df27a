/* Tessera runtime: loads a compiled artifact (.tsr) and runs its functions. C99; needs nothing but libc.
 *
 * Rules. There are no globals and no output; nothing aborts. Every function that can fail returns a tsr_status; out-parameters
 * come last and are untouched on failure. `tsr_error *e` may be NULL; else it gets the code and one line of text. Option structs
 * begin with `uint32_t size` (set it to sizeof); NULL means all defaults, and fields that are 0 are defaults too.
 * Artifacts, devices and buffers are counted and may be used from many threads; a session belongs to one thread at a time.
 * What bound output tensors hold after an error is undefined; states are unchanged by a call that failed.
 * Running an artifact is running a program: the checks catch corruption, not malice.
 *
 *     tsr_artifact_open("m.tsr", NULL, &e, &artifact);  tsr_device_open("host", NULL, &e, &device);
 *     tsr_session_create(artifact, device, NULL, &e, &session);
 *     tsr_session_bind(session, "f", "x", x);  tsr_session_bind(session, "f", "y", y);
 *     tsr_session_run(session, "f", NULL, 0, NULL, &e);
 */
#ifndef TESSERA_H
#define TESSERA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TSR_API __attribute__((visibility("default")))
#else
#define TSR_API
#endif

#define TSR_VERSION_MAJOR 0
#define TSR_VERSION_MINOR 1
#define TSR_VERSION_PATCH 0

typedef enum tsr_status {
  TSR_OK,
  TSR_INVALID,         /* an argument is wrong */
  TSR_NOT_FOUND,       /* no such function, value, section, sequence */
  TSR_OUT_OF_MEMORY,
  TSR_OUT_OF_PAGES,    /* the session's states are full: destroy or truncate a sequence and call again; nothing was lost */
  TSR_OUT_OF_RANGE,    /* a size is over its bound, or a kernel raised */
  TSR_CORRUPT,         /* the artifact does not hold what its format promises */
  TSR_VERSION,         /* made for another version */
  TSR_UNSUPPORTED,     /* the artifact has no code for this device */
  TSR_NO_DEVICE,
  TSR_DEVICE_LOST,     /* the device failed; release its sessions */
  TSR_CANCELLED,
  TSR_IO,
  TSR_INTERNAL
} tsr_status;

typedef struct tsr_error { tsr_status code; char text[508]; } tsr_error;

typedef struct tsr_artifact tsr_artifact;
typedef struct tsr_device tsr_device;
typedef struct tsr_buffer tsr_buffer;
typedef struct tsr_session tsr_session;
typedef struct tsr_stream tsr_stream;
typedef uint64_t tsr_sequence;   /* 0 is never one */
struct DLManagedTensorVersioned;

TSR_API uint32_t    tsr_version(void);                /* major << 16 | minor << 8 | patch */
TSR_API const char *tsr_status_name(tsr_status);

/* --- Artifacts --------------------------------------------------------------------------------------------------------- */

typedef struct tsr_open_options {
  uint32_t size;
  uint32_t verify;             /* not 0: check the weights too, as tsr_artifact_verify does */
  const char *weights_folder;  /* where external weights are; default: the artifact's folder (memory: none) */
} tsr_open_options;

TSR_API tsr_status    tsr_artifact_open(const char *path, const tsr_open_options *, tsr_error *e, tsr_artifact **out);
/* The bytes must stay as they are until the artifact is released. */
TSR_API tsr_status tsr_artifact_open_memory(const void *data, size_t bytes, const tsr_open_options *, tsr_error *e,
                                            tsr_artifact **out);
TSR_API tsr_artifact *tsr_artifact_retain(tsr_artifact *);
TSR_API void          tsr_artifact_release(tsr_artifact *);
TSR_API tsr_status    tsr_artifact_verify(tsr_artifact *, tsr_error *e);                  /* reads every byte */
TSR_API const char   *tsr_artifact_metadata(const tsr_artifact *, const char *key);       /* NULL if absent */
/* A named blob ("tokenizer"), or "manifest". NOT_FOUND if absent, CORRUPT if its checksum is wrong. */
TSR_API tsr_status    tsr_artifact_section(const tsr_artifact *, const char *name, const void **data, size_t *bytes);

typedef enum tsr_kind {
  TSR_FUNCTIONS, TSR_DIMS, TSR_STATES, TSR_TARGETS, TSR_METADATA, TSR_SECTIONS, TSR_KERNELS
} tsr_kind;
/* Number of items. Functions, dims, states and kernels are those of the program of the first target. */
TSR_API size_t tsr_artifact_count(const tsr_artifact *, tsr_kind);
/* Name of item i, or NULL. For TSR_METADATA the key. */
TSR_API const char *tsr_artifact_name(const tsr_artifact *, tsr_kind, size_t i);

/* Element types; the numbers are those in artifacts. */
typedef enum tsr_dtype {
  TSR_F64 = 1, TSR_F32, TSR_F16, TSR_BF16, TSR_F8E4M3, TSR_F8E5M2, TSR_F4E2M1, TSR_E8M0,
  TSR_I64 = 16, TSR_I32, TSR_I16, TSR_I8, TSR_I4, TSR_I2, TSR_I1,
  TSR_U64 = 32, TSR_U32, TSR_U16, TSR_U8, TSR_U4, TSR_U2
} tsr_dtype;
TSR_API const char *tsr_dtype_name(uint32_t dtype);   /* "f32"; NULL if unknown */
TSR_API uint32_t    tsr_dtype_bits(uint32_t dtype);   /* 0 if unknown */

#define TSR_RANK 8
#define TSR_ANY (-1)

typedef enum tsr_direction { TSR_INPUT, TSR_OUTPUT } tsr_direction;
typedef struct tsr_function_info {
  const char *name;
  uint32_t inputs, outputs;
  uint32_t rows;               /* not 0: tsr_session_run wants rows (ragged dims or states) */
  uint32_t states;             /* not 0: rows need sequences */
} tsr_function_info;
typedef struct tsr_dim_info {
  const char *name;
  int64_t min, max, step;
  const char *per;             /* ragged: the dim that has one length for each of its values; else NULL */
  uint32_t ragged;             /* ragged: 1 + its place in tsr_row.lengths; else 0 */
} tsr_dim_info;
typedef struct tsr_value_info {
  const char *name;
  const char *encoding;        /* NULL: plain */
  uint32_t dtype, rank;
  int64_t shape[TSR_RANK];     /* TSR_ANY: depends on the call */
  const char *dims[TSR_RANK];  /* the dim that this extent is, or NULL */
} tsr_value_info;
TSR_API tsr_status tsr_artifact_function(const tsr_artifact *, size_t i, tsr_function_info *out);
TSR_API tsr_status tsr_artifact_dim(const tsr_artifact *, size_t i, tsr_dim_info *out);
TSR_API tsr_status tsr_artifact_value(const tsr_artifact *, const char *function, tsr_direction, size_t i, tsr_value_info *out);

/* --- Devices ----------------------------------------------------------------------------------------------------------- */

/* Runs block(user, i, worker) for i in 0..count - 1 and returns when all are done: 0, or the first other result, after which
 * further blocks may be left out. `worker` is below `workers` and not used by two blocks at a time. */
typedef int tsr_block_fn(void *user, uint32_t i, unsigned worker);
typedef int tsr_parallel_fn(void *executor, uint32_t count, tsr_block_fn *block, void *user);

typedef struct tsr_device_options {
  uint32_t size;
  uint32_t threads;                               /* host: workers with the caller; default: CPUs of this process */
  tsr_parallel_fn *parallel;                      /* host: use these workers instead of threads of our own */
  void *executor;
  void *(*allocate)(void *user, size_t bytes, size_t align);   /* host memory of buffers, states, workspaces */
  void (*release)(void *user, void *p, size_t bytes);
  void *allocator;
  void (*log)(void *user, int level, const char *text);        /* 0 error, 1 warning, 2 information */
  void *log_user;
  const char *driver;                             /* cuda, cuda-emu: the library to load instead of the usual one */
} tsr_device_options;

/* "host", "host:LEVEL" (avx2, avx512, avx512_vnni, avx512_bf16, amx: at most this), "cuda:N", "cuda-emu:sm_NN". */
TSR_API tsr_status  tsr_device_open(const char *uri, const tsr_device_options *, tsr_error *e, tsr_device **out);
TSR_API tsr_device *tsr_device_retain(tsr_device *);
TSR_API void        tsr_device_release(tsr_device *);
TSR_API const char *tsr_device_name(const tsr_device *);   /* "host:avx512_vnni, 4 threads" */
/* OK, or says why the artifact does not run here. `target` (may be NULL) gets the name of the target it would use. */
TSR_API tsr_status  tsr_device_supports(tsr_device *, const tsr_artifact *, tsr_error *e);
TSR_API tsr_status  tsr_device_target(tsr_device *, const tsr_artifact *, const char **target);

/* --- Buffers: dense row-major tensors in a device's memory -------------------------------------------------------------- */

typedef struct tsr_type {
  uint32_t dtype, rank;
  int64_t shape[TSR_RANK];
} tsr_type;

TSR_API tsr_status  tsr_buffer_create(tsr_device *, const tsr_type *, tsr_error *e, tsr_buffer **out);   /* zeroed */
/* Memory of the caller's (of the device), which must outlive the buffer. */
TSR_API tsr_status  tsr_buffer_wrap(tsr_device *, const tsr_type *, void *data, tsr_error *e, tsr_buffer **out);
/* Takes the tensor over on success (its deleter runs when the buffer goes). Strided tensors are refused. */
TSR_API tsr_status  tsr_buffer_import(tsr_device *, struct DLManagedTensorVersioned *, tsr_error *e, tsr_buffer **out);
TSR_API tsr_status  tsr_buffer_export(tsr_buffer *, struct DLManagedTensorVersioned **out);              /* shares the memory */
TSR_API tsr_status  tsr_buffer_write(tsr_buffer *, size_t at, const void *, size_t bytes);
TSR_API tsr_status  tsr_buffer_read(tsr_buffer *, size_t at, void *, size_t bytes);
/* Another shape for the same memory, no larger than it was created with. Not while a call uses the buffer. */
TSR_API tsr_status  tsr_buffer_reshape(tsr_buffer *, const tsr_type *);
TSR_API tsr_status  tsr_buffer_type(const tsr_buffer *, tsr_type *out);
TSR_API void       *tsr_buffer_data(const tsr_buffer *);   /* device address; on the host a pointer */
TSR_API size_t      tsr_buffer_bytes(const tsr_buffer *);
TSR_API tsr_buffer *tsr_buffer_retain(tsr_buffer *);
TSR_API void        tsr_buffer_release(tsr_buffer *);

/* --- Sessions ---------------------------------------------------------------------------------------------------------- */

typedef struct tsr_limit { const char *name; int64_t max; } tsr_limit;   /* a dim, or a state (its longest sequence) */
typedef struct tsr_session_options {
  uint32_t size;
  uint32_t limit_count;
  const tsr_limit *limits;       /* smaller bounds than the artifact's: less memory */
  uint32_t sequences;            /* at one time; default: the largest number of rows of a call */
  uint32_t copy_weights;         /* host: not 0: weights are copied (and verified) instead of used in place */
  uint64_t tokens;               /* tokens that each state can hold in all; default: sequences * the longest */
  uint32_t function_count;       /* default: all functions */
  const char *const *functions;  /* those that will be called */
} tsr_session_options;

typedef struct tsr_memory {      /* bytes, unless said otherwise */
  uint64_t weights;              /* that this device must hold; shared by all sessions of an artifact on a device */
  uint64_t states, workspace;
  uint64_t pages, pages_free;    /* of all states, in pages */
  uint64_t tables;               /* page tables and other small arrays */
} tsr_memory;

TSR_API tsr_status tsr_session_plan(tsr_artifact *, tsr_device *, const tsr_session_options *, tsr_error *e, tsr_memory *out);
TSR_API tsr_status tsr_session_create(tsr_artifact *, tsr_device *, const tsr_session_options *, tsr_error *e, tsr_session **out);
TSR_API void       tsr_session_destroy(tsr_session *);     /* waits for its work */
/* Binds a buffer to an input or output until it is bound anew; NULL unbinds. */
TSR_API tsr_status tsr_session_bind(tsr_session *, const char *function, const char *value, tsr_buffer *);

typedef struct tsr_row {
  tsr_sequence sequence;         /* 0 for functions without states */
  uint32_t lengths[4];           /* one per ragged dim of the artifact, in order */
} tsr_row;

/* Sizes come from the bound buffers' shapes and from the rows. Ragged tensors are stored padded; padding is never read.
 * With a stream (cuda) the call returns when the work is queued: states advance provisionally, and tsr_stream_wait returns an
 * error and rolls them back if a kernel raised. Without one it returns when the work is done. */
TSR_API tsr_status tsr_session_run(tsr_session *, const char *function, const tsr_row *rows, size_t row_count, tsr_stream *,
                                   tsr_error *e);
/* From any thread: the call in progress, or else the next one, returns TSR_CANCELLED. */
TSR_API tsr_status tsr_session_cancel(tsr_session *);
TSR_API tsr_status tsr_session_memory(const tsr_session *, tsr_memory *out);

typedef struct tsr_profile_record {
  const char *function, *kernel; /* kernel: "(copy)", "(fill)" for those steps */
  uint32_t step, grid[3];
  const char *location;          /* of the spec; "" if unknown */
  double seconds;
} tsr_profile_record;
typedef void tsr_profile_fn(void *user, const tsr_profile_record *);
/* Called after every step, which then runs alone. NULL turns it off. */
TSR_API tsr_status tsr_session_profile(tsr_session *, tsr_profile_fn *, void *user);

/* One token list in every state of the session. */
TSR_API tsr_status tsr_sequence_create(tsr_session *, tsr_sequence *out);
TSR_API tsr_status tsr_sequence_fork(tsr_session *, tsr_sequence from, tsr_sequence *out);    /* copy on write, by page */
TSR_API tsr_status tsr_sequence_truncate(tsr_session *, tsr_sequence, uint32_t length);
TSR_API uint32_t   tsr_sequence_length(const tsr_session *, tsr_sequence);                    /* 0 if there is no such one */
TSR_API tsr_status tsr_sequence_destroy(tsr_session *, tsr_sequence);

/* --- Streams: order work with other work on the device ------------------------------------------------------------------ */

TSR_API tsr_status tsr_stream_wrap(tsr_device *, void *native, tsr_stream **out);   /* a CUstream; host: NULL */
TSR_API tsr_status tsr_stream_wait(tsr_stream *, tsr_error *e);                     /* all work queued so far is done */
TSR_API void       tsr_stream_release(tsr_stream *);

#ifdef __cplusplus
}
#endif
#endif
