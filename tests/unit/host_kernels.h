// Scheduled host kernels for the tests and the benchmark of codegen/host, built with the IR's builders, and a way to run them.
#ifndef TESSERA_TESTS_HOST_KERNELS_H
#define TESSERA_TESTS_HOST_KERNELS_H

#include "codegen/host/host.h"
#include "runtime/tsr_format.h"

typedef struct hk {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *module;
  ir_builder b;
  ir_kernel *kernel;
} hk;

void hk_init(hk *h);
void hk_deinit(hk *h);
ir_kernel *hk_begin(hk *h, const char *name);   // a kernel of class host; h->b builds its body
ir_value *hk_param(hk *h, const char *name, ir_param_role role, ir_dtype t, unsigned rank, const ir_size *const *shape);
ir_value *hk_param_c(hk *h, const char *name, ir_param_role role, ir_dtype t, unsigned rank, const int64_t *shape);
ts_sym hk_name(hk *h, const char *name);
const ir_size *hk_size(hk *h, int64_t v);
// "m:8 n:32*" : axes with extents, '*' marks the lanes axis. "" is a scalar type.
const ir_type *hk_tile(hk *h, ir_dtype t, const char *axes);
// Loads and stores with index values (NULL: 0) and `at` names separated by spaces ("m _ k").
ir_value *hk_load(hk *h, ir_value *mem, ir_value *const *index, const char *at, ir_value *mask, const ir_type *result);
void hk_store(hk *h, ir_value *mem, ir_value *const *index, const char *at, ir_value *v, ir_value *mask);
ir_value *hk_int(hk *h, int64_t v);   // i64
ir_value *hk_real(hk *h, double v);   // f32
ir_value *hk_pid(hk *h, int axis);
ir_value *hk_op(hk *h, ir_scalar op, ir_value *x, ir_value *y);
ir_value *hk_dot(hk *h, ir_value *a, ir_value *b, ir_value *acc, const char *over, const ir_type *t);
ir_value *hk_relabel(hk *h, const char *kind, ir_value *x, const char *axis, const char *to, int64_t at, int64_t count,
                     int64_t step, const ir_type *t);

// Levels that this CPU has, oldest first.
unsigned hk_isas(const cgh_isa **out, unsigned capacity);

// An executable image of one kernel.
typedef struct hk_image {
  void *memory;
  size_t bytes;
  tsr_host_kernel *entry;
  cgh_code code;
  void *scratch;
} hk_image;
ts_status hk_compile(hk *h, const cgh_isa *isa, const cgh_options *o, hk_image *out);
void hk_unmap(hk_image *i);
// Runs blocks 0..blocks - 1; dims as cgh_code.dims says, then the grid.
int hk_run(const hk_image *i, void *const *bufs, const int64_t *dims, uint32_t blocks);

// ---- kernels ---------------------------------------------------------------------------------------------------------------
// C[m, n] = A[m, k] B, B packed [n/cols, k, cols]; block (mb, nb) computes rows x cols. A's block is packed into a panel first.
void hk_gemm(hk *h, int64_t m, int64_t n, int64_t k, int64_t rows, int64_t cols, int64_t unroll);
// y[n] = sum over k of x[k] * (code * scale + min); codes u8[n/rows, k/32, 16, rows], low nibble k, high nibble k + 16; scale and
// min f16[n/rows, k/32, rows]. table: codes become floats by lookup instead of arithmetic; step: how many k a
// step of the inner loop unrolls.
void hk_gemv_q4(hk *h, int64_t n, int64_t k, int64_t rows, int64_t step, bool table);
// y[n] = sum over k of x[k] * code * scale; codes u32[n/rows, k/32, 4, rows]: k = 16 h + 4 j + r at bits 8 r + 4 h of word j.
void hk_gemv_words(hk *h, int64_t n, int64_t k, int64_t rows);

#endif
