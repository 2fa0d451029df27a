// Shared by weights.c and repack.c: the stored rows behind a weight.
#ifndef TESSERA_IR_WEIGHTS_PRIV_H
#define TESSERA_IR_WEIGHTS_PRIV_H

#include "ir/weights.h"

// A weight that has bytes: mapped, or made (random, quantized) for as long as the rows live.
typedef struct ir_leaf {
  const ir_weight *weight;
  const void *planes[IR_MAX_PLANES];
  void *owned;
} ir_leaf;

// Logical row -> leaf and its stored row.
typedef struct ir_rows {
  ir_leaf *leaf;
  unsigned leaves;
  int64_t count;
  uint32_t *leaf_of;
  int64_t *row_of;
} ir_rows;

ts_status ir_rows_init(ir_rows *r, const ir_weight *w, ts_diags *d);
void ir_rows_deinit(ir_rows *r);

#endif
