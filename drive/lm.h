// A language model from an artifact, driven token by token through the runtime's public API.
//
// Works for any artifact whose functions are prefill(tokens) -> logits, decode(tokens) -> logits and, for scoring, score(tokens) ->
// logits at every position, over one paged state; and that carries a tokenizer. One sequence at a time.
#ifndef TESSERA_DRIVE_LM_H
#define TESSERA_DRIVE_LM_H

#include "runtime/tessera.h"
#include "text/text.h"

enum { DRIVE_LM_CHUNK = 256 };   // prompt tokens per call of prefill

typedef struct drive_lm_options {
  const char *device;            // URI; NULL: "host"
  unsigned threads;              // 0: all
  bool score;                    // prepare score instead of prefill and decode
} drive_lm_options;

typedef struct drive_lm {
  tsr_artifact *artifact;
  tsr_device *device;
  tsr_session *session;
  tsr_buffer *prompt, *token, *logits;
  tsr_sequence sequence;
  tx_tokenizer *tokenizer;
  int64_t vocab, context;
  uint32_t length;               // tokens in the sequence
} drive_lm;

ts_status drive_lm_open(drive_lm *lm, const char *path, const drive_lm_options *o, ts_diags *d);
void drive_lm_close(drive_lm *lm);
ts_status drive_lm_reset(drive_lm *lm, ts_diags *d);                                   // an empty sequence
// Feeds ids; logits f32[vocab] of the last one, valid until the next call. count >= 1; over the context bound is an error.
ts_status drive_lm_prefill(drive_lm *lm, const int32_t *ids, size_t count, ts_diags *d, const float **logits);
ts_status drive_lm_decode(drive_lm *lm, int32_t id, ts_diags *d, const float **logits);
// Sum of -log p(ids[i] | ids[..i-1]) over i >= 1 and how many; the sequence is emptied first.
ts_status drive_lm_score(drive_lm *lm, const int32_t *ids, size_t count, ts_diags *d, double *nll, size_t *tokens);

#endif
