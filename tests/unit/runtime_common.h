// Helpers of the runtime's tests: launch text -> artifact in a temporary file, tensors, random numbers.
#ifndef RUNTIME_COMMON_H
#define RUNTIME_COMMON_H

#include "codegen/artifact.h"
#include "runtime/tessera.h"
#include "runtime/tsr_format.h"

#include <check.h>

typedef struct made {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_launch *program;
  cg_artifact *artifact;
  char path[64];
} made;

// Parses the text, adds the test image for target "host:x86_64" (kernels find their entry by name), but writes nothing yet.
void make_begin(made *m, const char *launch_text);
void make_begin_stub(made *m, const char *launch_text);   // every kernel returns 0 and touches nothing
void make_write(made *m);            // to m->path
void make_end(made *m);              // removes the file
extern const char *const test_kernels[8];

uint64_t test_seed(void);            // printed; TEST_SEED overrides
uint64_t test_random(uint64_t *state);
float test_float(uint64_t *state);   // small multiples of 1/8: sums of few thousand are exact

tsr_device *open_host(unsigned threads);
tsr_buffer *make_buffer(tsr_device *d, uint32_t dtype, int rank, const int64_t *shape, const void *data);
#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}
#define ck_ok(expr)                                                                                    \
  do {                                                                                                 \
    tsr_status ck_status_ = (expr);                                                                    \
    ck_assert_msg(ck_status_ == TSR_OK, "%s: %s: %s", #expr, tsr_status_name(ck_status_), test_error.text); \
  } while (0)
extern tsr_error test_error;

#endif
