// What the CUDA schedules share: placement of axes on threads, packed weights, the builder's state.
#ifndef TESSERA_PASSES_CUDA_INTERNAL_H
#define TESSERA_PASSES_CUDA_INTERNAL_H

#include "ir/encoding.h"
#include "ir/layout.h"
#include "passes/build.h"
#include "passes/form.h"
#include "passes/lower.h"
#include "passes/schedule_cuda.h"
#include "passes/translate.h"

enum { CUDA_CHUNK = 32, CUDA_DIGITS = 12 };   // elements of k that one step takes of a packed weight; digits of one axis

// ---- placement -----------------------------------------------------------------------------------------------------------
// Where the digits of an axis go. For registers `stride` is a rank: each tile numbers its own, digits of rank 1, 2... first, then those
// of rank 0, last axis first.
typedef enum cuda_dim { CUDA_REG, CUDA_LANE, CUDA_WARP } cuda_dim;
typedef struct cuda_digit {
  cuda_dim dim;
  int64_t stride, divisor, radix;
} cuda_digit;
typedef struct cuda_axis {
  ts_sym name;
  unsigned count;
  cuda_digit digit[CUDA_DIGITS];   // innermost first; together they cover the axis
} cuda_axis;
typedef struct cuda_placement {
  unsigned count;
  cuda_axis axis[48];
} cuda_placement;

// A weight of products. Codes: u4 or u8 in the digits below; values: 16-bit floats in rows [N, K] padded to whole blocks.
typedef struct cuda_weight {
  uint32_t param;                // of the P kernel
  int64_t N, K, rows, chunks;    // rows: N padded; chunks of 32 of k
  bool codes;
  ir_dtype type;                 // u4, u8; f16, bf16
  bool offset;
  double bias;                   // offset is -bias * scale where the encoding has no other
  int64_t group, groups;
  unsigned digits;               // of one block of 32 x 32: dims of `mem` behind [N/32, K/32]
  cuda_digit place[CUDA_DIGITS]; // LANE or REG, with its stride there; divisor and radix of the axis below
  bool along_k[CUDA_DIGITS];
  ir_value *mem, *scale_mem, *offset_mem;
} cuda_weight;

typedef struct cuda_schedule {
  ir_module *m;
  const ir_kernel *from;
  const pass_cuda_target *target;
  pass_log *log;
  ir_kernel *kernel;
  pass_translator t;
  TS_VEC(pass_source) sources;
  cuda_weight *weights[MAX_KERNEL_PARAMS];   // by P parameter; NULL: not packed
  ts_map layouts, placed;                    // by text; values that have their final type
} cuda_schedule;

ts_status cuda_begin(cuda_schedule *s, ir_module *m, const ir_kernel *from, const pass_cuda_target *t, pass_log *log, const char *variant, int warps);
void cuda_deinit(cuda_schedule *s);
pass_scheduled cuda_end(cuda_schedule *s, const ir_size *guard, const char *variant);

// Adds a digit outside the ones the axis has: radix 1 adds nothing.
void cuda_put_digit(cuda_placement *p, ts_sym axis, cuda_dim dim, int64_t stride, int64_t radix);
// The layout of a tile under a placement; NULL for one that every thread holds whole.
ts_status cuda_layout_of(cuda_schedule *s, const cuda_placement *p, const ir_type *t, const ir_layout **out);
// A tile type with its layout.
ts_status cuda_tile(cuda_schedule *s, const cuda_placement *p, ir_dtype t, unsigned rank, const ts_sym *axes, const int64_t *extents, const ir_type **out);
// Gives every tile made since the last call its layout; axes that relabels make get their digits on the way.
ts_status cuda_place(cuda_schedule *s, cuda_placement *p);

// ---- building ------------------------------------------------------------------------------------------------------------
// A panel whose innermost rows are `pitch` elements apart (0: dense).
ir_value *cuda_alloc(cuda_schedule *s, ir_dtype t, unsigned rank, const int64_t *shape, const int64_t *strides);
void cuda_barrier(cuda_schedule *s);
ir_value *cuda_fetch(cuda_schedule *s, ir_value *panel, ir_value *const *index, const ts_sym *at, const char *builtin, const ir_type *type);
void cuda_put(cuda_schedule *s, ir_value *panel, ir_value *const *index, const ts_sym *at, ir_value *v);

// Packs a rank-2 weight: `rows` is what N is padded to a multiple of. `bytes`: the kernel sees the codes as bytes
// [N/32, K/32, lane, byte of the lane] (to read elements), which are the same bytes.
ts_status cuda_pack(cuda_schedule *s, uint32_t param, int64_t rows, ir_dtype compute, bool bytes);
bool cuda_reads_products(const ir_kernel *k, const ir_value *mem);

ts_status cuda_contract(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out);
ts_status cuda_attend(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out);
ts_status cuda_rows(ir_module *m, const ir_kernel *p, const pass_cuda_target *t, pass_log *log, pass_schedules *out);

#define CUDA_REFUSE(s, where, ...) ts_report((s)->m->diags, where, &diag_pass_unsupported, __VA_ARGS__)

#endif
