// Pieces of S kernels that the schedules of all classes build.
#ifndef TESSERA_PASSES_BUILD_H
#define TESSERA_PASSES_BUILD_H

#include "ir/ir.h"

// A loop from lo to hi (i64 values). Opening replaces the carried values by those inside; what is built until closing is the body;
// closing takes the next values and replaces them by the results.
typedef struct pass_loop {
  ir_op *op;
  ir_region *outside;
  ir_value *index;
} pass_loop;
pass_loop pass_loop_open(ir_builder *b, ir_value *lo, ir_value *hi, int64_t step, uint32_t carried, ir_value **values);
void pass_loop_close(ir_builder *b, pass_loop *l, uint32_t carried, ir_value **values);

ir_value *pass_pid(ir_builder *b, int axis);
ir_value *pass_zero(ir_builder *b, const ir_type *tile);        // a tile (or scalar) of zeros
// relabel of one operand; `to` may be empty.
ir_value *pass_relabel(ir_builder *b, const char *kind, ir_value *v, ts_sym axis, unsigned count, const ts_sym *to, const ir_type *type);
ir_value *pass_drop_axis(ir_builder *b, ir_value *v, ts_sym axis);   // an axis of extent 1; v itself when it has none
ir_value *pass_drop_units(ir_builder *b, ir_value *v, ts_sym keep);  // all axes of extent 1 but `keep` (may be NULL)
ir_value *pass_add_axis(ir_builder *b, ir_value *v, ts_sym axis);    // extent 1, in front
const ir_size *pass_axis_size(const ir_part *part, ts_sym name);     // NULL when the part has no such axis

#endif
