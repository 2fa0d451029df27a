// What the host schedules share: packed weights, the builder's state, small loops.
#ifndef TESSERA_PASSES_HOST_INTERNAL_H
#define TESSERA_PASSES_HOST_INTERNAL_H

#include "ir/encoding.h"
#include "passes/build.h"
#include "passes/form.h"
#include "passes/lower.h"
#include "passes/translate.h"

enum { HOST_CHUNK = 32 };   // elements of k that one step of a kernel takes; packed weights are padded to it

// How the codes of a packed weight lie. n runs over panels of P rows, k over chunks of 32.
typedef enum host_codes {
  HOST_VALUES,     // decoded floats        [N/P, K/32, 32, P]  f32, f16 or bf16
  HOST_NIBBLES,    // up to 4 bits          [N/P, K/32, 4, P]   u32 words: k = 16 h + 4 j + r at word j, bits 8 r + 4 h
                   //                       (integer products: the same bytes as u8 [N/P, K/32, 4, P, 4])
  HOST_BYTES,      // 5 to 8 bits           [N/P, K/32, 32, P]  u8 or i8
  HOST_QUADS,      // 5 to 8 bits, integer products: [N/P, K/32, 8, P, 4] u8: k = 4 j + r at byte r of quad j
} host_codes;

typedef struct host_weight {
  uint32_t param;                // of the P kernel
  int64_t N, K, P, panels, chunks;
  host_codes codes;
  ir_dtype code_type;            // of the mem operand
  bool scaled, offset;           // is there a scale, an offset?
  int64_t bias;                  // value = (code - bias) * scale + offset
  int64_t group;                 // elements of k per scale: a multiple of 16
  int64_t groups;
  ir_dtype scale_type, offset_type;
  ir_value *mem, *scale_mem, *offset_mem;   // S parameters
} host_weight;

typedef struct host_schedule {
  ir_module *m;
  const ir_kernel *from;
  const pass_host_target *target;
  pass_log *log;
  ir_kernel *kernel;
  pass_translator t;
  TS_VEC(pass_source) sources;
  host_weight *weights[MAX_KERNEL_PARAMS];   // by P parameter; NULL: not packed
} host_schedule;

// Starts an S kernel: direct parameters for everything that is not packed, packed parts for rank-2 weights that products or
// gathers read.
ts_status host_begin(host_schedule *s, ir_module *m, const ir_kernel *from, const pass_host_target *t, pass_log *log, const char *variant);
void host_deinit(host_schedule *s);
pass_scheduled host_end(host_schedule *s, const ir_size *guard, const char *variant);

ir_value *host_alloc(host_schedule *s, ir_dtype t, unsigned rank, const int64_t *shape);
// Tile type with explicit axes; lanes NULL for scalars.
const ir_type *host_tile(host_schedule *s, ir_dtype t, unsigned rank, const ts_sym *axes, const int64_t *extents, ts_sym lanes);
// Elements [k0 .. k0 + lanes) (k0 a multiple of 32) of row `row` (scalar i64) of a packed weight, decoded to f32 over axis k.
ir_value *host_row_chunk(host_schedule *s, const host_weight *w, ir_value *row, ir_value *chunk, ts_sym k);

ts_status host_contract(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out);
ts_status host_attend(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out);
ts_status host_rows(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out);

#define HOST_REFUSE(s, where, ...) ts_report((s)->m->diags, where, &diag_pass_unsupported, __VA_ARGS__)

#endif
