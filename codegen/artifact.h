// The artifact writer: launch programs, code, weights and blobs become one .tsr file (format: runtime/tsr_format.h).
//
// Parts are handed in first, in any order, then cg_artifact_write() checks that they fit together and writes the file
// atomically. The bytes depend on nothing but the parts: programs, targets and images keep the order in which they were added,
// weights follow the programs' tables, metadata and blobs are sorted. Weight bytes are pulled through a reader in chunks, so
// the writer's memory stays small. Everything handed in (except names, which are copied) must live until the file is written.
#ifndef TESSERA_CODEGEN_ARTIFACT_H
#define TESSERA_CODEGEN_ARTIFACT_H

#include "base/diag.h"
#include "ir/launch.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "codegen/artifact_diag.def"
#undef TS_DIAG

typedef struct cg_artifact cg_artifact;

// Writes bytes at..at + n - 1 of the weight to dst; reports and returns a failure to stop the writer.
// Called with ascending, adjacent ranges that cover the weight (twice over for external weights); a chunk is at most 1 MiB.
typedef ts_status cg_weight_reader(void *user, uint64_t at, void *dst, size_t n, ts_diags *d);

typedef enum cg_image_kind { CG_IMAGE_HOST = 1, CG_IMAGE_PTX = 2, CG_IMAGE_CUBIN = 3 } cg_image_kind;   // TSR_IMAGE_*

typedef struct cg_target {
  const char *name;       // "host:LEVEL" (a name of TSR_HOST_LEVELS) or "sm_NN", "sm_NNa"; unique
  uint32_t program;       // from cg_artifact_program
  uint32_t driver;        // cuda: least driver version for the PTX (13000 for 13.0), or 0
} cg_target;

// The code of one kernel of a target's program. Every kernel needs an entry; one whose variants' guards never hold on the
// target may have neither image nor ptx.
typedef struct cg_code {
  uint32_t image;         // from cg_artifact_image: a host image or a cubin; IR_LNONE: none
  uint32_t ptx;           // a PTX image; IR_LNONE: none
  uint32_t entry;         // host: number in the image's entry table
  const char *symbol;     // cuda: entry name; NULL: the kernel's name
  uint32_t threads[3];    // cuda: block size
  uint32_t shared;        // cuda: dynamic shared memory, bytes
  uint32_t scratch;       // host: bytes of scratch per worker
} cg_code;

cg_artifact *cg_artifact_new(ts_arena *a);
void cg_artifact_meta(cg_artifact *a, const char *key, const char *value);                  // a second value replaces the first
uint32_t cg_artifact_program(cg_artifact *a, const ir_launch *program);                     // one per device class
uint32_t cg_artifact_target(cg_artifact *a, cg_target target);
uint32_t cg_artifact_image(cg_artifact *a, cg_image_kind kind, const void *data, size_t n); // equal images are stored once
void cg_artifact_code(cg_artifact *a, uint32_t target, uint32_t kernel, cg_code code);
// The bytes of a weight that a program names. Equal contents under two names should be one name.
void cg_artifact_weight(cg_artifact *a, const char *name, uint64_t bytes, cg_weight_reader *read, void *user);
void cg_artifact_blob(cg_artifact *a, const char *name, const void *data, size_t n);        // "tokenizer", "kernels/NAME.cu"
void cg_artifact_manifest(cg_artifact *a, const char *json, size_t n);

typedef struct cg_artifact_options {
  bool external_weights;  // weights go to HASH.tsrw beside the artifact
} cg_artifact_options;

typedef struct cg_artifact_report {
  uint64_t bytes, weight_bytes, code_bytes;   // of the file (and the weights beside it)
  bool changed;                               // false: an identical file was there and was left untouched
} cg_artifact_report;

// `o` and `out` may be NULL.
ts_status cg_artifact_write(cg_artifact *a, const char *path, const cg_artifact_options *o, ts_diags *d, cg_artifact_report *out);

#endif
