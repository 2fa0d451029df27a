// What a portable part of a family computes, read off its regions: the part of scheduling that knows nothing of targets.
//
// A schedule may rely on everything a form says; whatever a part does beyond its family's form is refused here, by rule.
#ifndef TESSERA_PASSES_FORM_H
#define TESSERA_PASSES_FORM_H

#include "passes/translate.h"

enum { PASS_MAX_PRODUCTS = 8, PASS_MAX_SUMS = 4 };

// contract: axes m, n (par), k (red). Each accumulator is either sum over k of input[m, k] * weight[n, k], or the sum over k of a term
// that has no n (a row statistic).
typedef struct pass_contract_form {
  const ir_part *part;
  ts_sym m, n, k;
  int64_t N, K;
  uint32_t count;              // accumulators
  unsigned products, sums;
  struct { uint32_t index, param; const ir_op *op; } product[PASS_MAX_PRODUCTS];   // accumulator, weight parameter
  struct { uint32_t index; ir_value *term; } sum[PASS_MAX_SUMS];                     // term: P value [m, k]
  ir_value *input;             // P value [m, k] that is multiplied; before quantization
  int64_t block;               // elements of k that share a scale of 8-bit input codes; 0: not quantized
} pass_contract_form;
ts_status pass_read_contract(ir_module *m, const ir_kernel *k, const ir_part *part, pass_contract_form *out);

// attend: axes b, s, h, g, e (par), t, d (red); see emit_attend.c.
typedef struct pass_attend_form {
  const ir_part *part;
  ts_sym b, q, h, g, t, d, e;              // q is the query position
  const ir_size *S, *T;
  int64_t G, D;
  ir_value *query, *mask;                  // P values; mask NULL: all keys
  const ir_op *k, *v;                      // loads: of pages [page, h, slot, channel] with a map, of [b, t, h, channel] without
  const ir_op *map;                        // map.at of kind pages, or NULL
  int64_t granule;                         // rows of a page; 0 without a map
  uint32_t k_param, v_param, table_param;  // table_param: with a map
} pass_attend_form;
ts_status pass_read_attend(ir_module *m, const ir_kernel *k, pass_attend_form *out);

// The least t that no row may see, from comparisons t < x and t <= x in the mask, with x at the boxes as they are set. *limit is
// replaced by the smaller one; NULL stays where the mask says nothing.
ts_status pass_key_limit(pass_translator *t, const pass_attend_form *f, ir_value *mask, ir_value **limit);

#endif
