// The row kernels' loops (families `rows` and `move`), for all classes: what differs is how a tile of a chunk lies.
//
// The last feature axis is cut into chunks, other feature axes are looped over. Reductions over the last axis come first, in order:
// each is a loop over the chunks that ends in one value a row; then a last loop computes and stores. Values that a later loop needs
// again are computed again: a row lives in the caches.
#ifndef TESSERA_PASSES_ROWS_FORM_H
#define TESSERA_PASSES_ROWS_FORM_H

#include "passes/translate.h"

enum { PASS_ROW_AXES = 8 };

typedef struct pass_rows_form {
  pass_translator *t;
  const ir_part *part;
  const ir_axis *m;             // the row axis
  unsigned axes;
  ts_sym axis[PASS_ROW_AXES];   // feature axes, the chunked one last
  const ir_size *extent[PASS_ROW_AXES];
  // set by the schedule before pass_emit_rows()
  int64_t chunk;
  bool lanes;                   // does the chunked axis run over vector lanes (see pass_box.row)?
  // The type of an accumulator over a chunk, and what is to be done once a reduction has been built (may be NULL).
  ts_status (*tile)(void *user, ir_dtype type, unsigned rank, const ts_sym *axes, const int64_t *extents, const ir_type **out);
  ts_status (*reduced)(void *user);
  void *user;
} pass_rows_form;

ts_status pass_read_rows(pass_translator *t, pass_rows_form *out);
// Builds the loops for the rows whose box the schedule has set.
ts_status pass_emit_rows(pass_rows_form *f);

#endif
