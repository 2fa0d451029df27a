// Private to ir/layout*.c: digits being gathered for a layout (see layout.h).
#ifndef TESSERA_IR_LAYOUT_MAKE_H
#define TESSERA_IR_LAYOUT_MAKE_H

#include "ir/layout.h"

typedef struct layout_draft {
  ts_arena *arena;
  TS_VEC(ir_layout_space) dims;
  TS_VEC(ir_layout_space) axes;
  TS_VEC(ir_layout_digit) digits;
} layout_draft;

// Copies everything of l.
layout_draft layout_draft_of(ts_arena *a, const ir_layout *l);
// The space of that name, made with size 0 when it is missing; -1 when there are too many.
int layout_draft_dim(layout_draft *f, const char *name);
int layout_draft_axis(layout_draft *f, const char *name);
void layout_draft_digit(layout_draft *f, uint32_t dim, int64_t stride, int64_t radix, const ir_layout_term *terms,
                        uint32_t count);
ts_status layout_draft_make(layout_draft *f, ts_diags *d, ts_loc loc, const ir_layout **out);

// Cuts digit i of a list at `low` (a divisor of its radix): it keeps the low part, the high part goes to the end.
ts_status layout_digit_cut(ts_arena *a, ir_layout_digit *digit, int64_t low, ts_diags *d, ts_loc loc, ir_layout_digit *out_high);

#endif
