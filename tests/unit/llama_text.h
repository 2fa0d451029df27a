// A small Llama-like function as IR text, with everything that makes lowering hard: ragged rows, paged KV, RoPE in both pairings,
// grouped heads, tied head, odd sizes, and any encoding for its matrices. The tests compile it and compare with llama_oracle().
#ifndef TESSERA_TESTS_LLAMA_TEXT_H
#define TESSERA_TESTS_LLAMA_TEXT_H

#include "ir/ir.h"
#include "ir/weights.h"

typedef struct llama_shape {
  int dim, heads, kv_heads, head_dim, ffn, vocab, context;
  const char *encoding;          // of the matrices
  const char *pairs;             // adjacent or half
  const char *activations;       // NULL: exact
} llama_shape;

// Appends the module's text.
void llama_text(const llama_shape *s, ts_text *out);
// Gives every weight of the parsed module random contents.
void llama_fill(ir_module *m, uint64_t seed);
// Logits of the last position of `ids` in double, straight from the decoded weights. [vocab], malloc'ed.
double *llama_oracle(const ir_module *m, const llama_shape *s, const int32_t *ids, int count);

#endif
