// From a region over whole axes (stage P) to the same computation on one box of them (stage S, class host).
//
// A `box` says for each axis where the tile begins (a scalar i64 value) and how far it goes. Translating a value translates what
// it is made of, once. Every tile's last axis runs over vector lanes unless it is a row axis; all others are unrolled. Where a box
// may reach past its axis (`tail`), loads and stores along it are masked.
#ifndef TESSERA_PASSES_TRANSLATE_H
#define TESSERA_PASSES_TRANSLATE_H

#include "base/checked.h"
#include "passes/schedule.h"

enum { MAX_BOXES = 32, MAX_KERNEL_PARAMS = 64 };

typedef struct pass_box {
  ts_sym axis;
  ir_value *base;         // i64
  int64_t extent;
  const ir_size *size;    // of the whole axis
  bool tail;              // base + extent may exceed size
  bool row;               // never the lanes axis
} pass_box;

struct pass_translator;
// Loads of encoded parameters are the schedule's business.
typedef ts_status pass_encoded_load(struct pass_translator *t, const ir_op *load, ir_value **out);

typedef struct pass_translator {
  ir_module *m;
  ir_builder b;
  const ir_kernel *from;
  ir_value *params[MAX_KERNEL_PARAMS];   // S parameter of each P parameter; NULL: replaced by packed parts
  pass_box boxes[MAX_BOXES];
  unsigned box_count;
  ts_map values;                         // P value -> S value
  pass_encoded_load *encoded;
  void *user;
} pass_translator;

void pass_translator_deinit(pass_translator *t);
void pass_translator_reset(pass_translator *t);                          // forgets values (a new region of code), keeps boxes
pass_box *pass_find_box(pass_translator *t, ts_sym axis);                // NULL when there is none
void pass_set_box(pass_translator *t, pass_box box);                     // adds or replaces
void pass_bind_value(pass_translator *t, const ir_value *p, ir_value *s);
// The type of a tile over some axes' boxes, in order.
const ir_type *pass_boxed_type(pass_translator *t, ir_dtype type, unsigned rank, const ts_sym *axes);
ts_status pass_translate_value(pass_translator *t, ir_value *p, ir_value **out);
// Translates the ops with effects (store, atomic, raise) of a region, in order.
ts_status pass_translate_effects(pass_translator *t, const ir_region *r);
// i1 tile of the positions inside the axes named by `at` (with tails), and'ed with `mask`; NULL when all are.
ir_value *pass_bounds_mask(pass_translator *t, unsigned rank, const ts_sym *at, ir_value *mask);
bool pass_param_index(const ir_kernel *k, const ir_value *v, uint32_t *index);

// Scalar helpers on i64 values; constants fold.
ir_value *pass_add(ir_builder *b, ir_value *x, ir_value *y);
ir_value *pass_mul_const(ir_builder *b, ir_value *x, int64_t k);
ir_value *pass_div_const(ir_builder *b, ir_value *x, int64_t k);
ir_value *pass_rem_const(ir_builder *b, ir_value *x, int64_t k);
ir_value *pass_int(ir_builder *b, int64_t v);
bool pass_int_value(const ir_value *v, int64_t *out);                    // of a constant

#endif
