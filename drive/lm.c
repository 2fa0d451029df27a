// Language models through the runtime (see lm.h).
#include "drive/lm.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "drive/diag.def"
#undef TS_DIAG

static ts_status failed(ts_diags *d, const tsr_error *e) {
  ts_loc nowhere = {0};
  switch (e->code) {
    case TSR_OUT_OF_RANGE: case TSR_OUT_OF_PAGES: return ts_report(d, nowhere, &diag_drive_range, "%s", e->text);
    case TSR_UNSUPPORTED: case TSR_NO_DEVICE: return ts_report(d, nowhere, &diag_drive_missing, "%s", e->text);
    case TSR_OUT_OF_MEMORY: return ts_report(d, nowhere, &diag_drive_missing, "%s", e->text);
    default: return ts_report(d, nowhere, &diag_drive_artifact, "%s", e->text);
  }
}

#define TRY_RUN(call)                               \
  do {                                              \
    tsr_error e_ = {TSR_OK, ""};                    \
    tsr_error *e = &e_;                             \
    e_.code = (call);                               \
    if (e_.code != TSR_OK) return failed(d, e);     \
  } while (0)

static ts_status open_tokenizer(drive_lm *lm, const char *path, ts_diags *d) {
  const void *data;
  size_t bytes;
  tsr_status s = tsr_artifact_section(lm->artifact, "tokenizer", &data, &bytes);
  if (s == TSR_NOT_FOUND) return ts_report(d, (ts_loc){0}, &diag_drive_artifact, "%s holds no tokenizer: it is no language model", path);
  if (s != TSR_OK) return ts_report(d, (ts_loc){0}, &diag_drive_artifact, "%s: the tokenizer section is damaged", path);
  return tx_open(d, NULL, data, bytes, &lm->tokenizer);
}

static ts_status vocabulary(drive_lm *lm, const char *function, ts_diags *d) {
  tsr_value_info v;
  if (tsr_artifact_value(lm->artifact, function, TSR_OUTPUT, 0, &v) != TSR_OK || strcmp(v.name, "logits") != 0 || v.dtype != TSR_F32 || v.rank < 2)
    return ts_report(d, (ts_loc){0}, &diag_drive_artifact, "the artifact has no function %s(tokens) -> f32 logits: it is no language model", function);
  lm->vocab = v.shape[v.rank - 1];
  lm->context = 0;
  for (size_t i = 0; i < tsr_artifact_count(lm->artifact, TSR_DIMS); i++) {
    tsr_dim_info dim;
    if (tsr_artifact_dim(lm->artifact, i, &dim) == TSR_OK && dim.per) lm->context = dim.max;
  }
  return TS_OK;
}

static ts_status make_session(drive_lm *lm, const drive_lm_options *o, ts_diags *d) {
  const char *generate[] = {"prefill", "decode"}, *score[] = {"score"};
  tsr_limit limits[] = {{"batch", 1}, {"seq", lm->context < DRIVE_LM_CHUNK ? lm->context : DRIVE_LM_CHUNK}};
  uint32_t first = 0, count = 2;
  for (size_t i = 0; i < tsr_artifact_count(lm->artifact, TSR_DIMS); i++) {
    const char *name = tsr_artifact_name(lm->artifact, TSR_DIMS, i);
    if (strcmp(name, "batch") == 0) first = 1;
  }
  tsr_session_options so = {.size = sizeof so, .limit_count = first ? count : 1, .limits = first ? limits : limits + 1, .sequences = 1,
                            .function_count = o->score ? 1 : 2, .functions = o->score ? score : generate};
  TRY_RUN(tsr_session_create(lm->artifact, lm->device, &so, e, &lm->session));
  int64_t rows = o->score ? limits[1].max : 1;
  tsr_type prompt = {TSR_I32, 2, {1, limits[1].max}}, token = {TSR_I32, 2, {1, 1}}, logits = {TSR_F32, o->score ? 3 : 2, {1, o->score ? rows : lm->vocab, lm->vocab}};
  TRY_RUN(tsr_buffer_create(lm->device, &prompt, e, &lm->prompt));
  TRY_RUN(tsr_buffer_create(lm->device, &token, e, &lm->token));
  TRY_RUN(tsr_buffer_create(lm->device, &logits, e, &lm->logits));
  if (o->score) {
    TRY_RUN(tsr_session_bind(lm->session, "score", "tokens", lm->prompt));
    TRY_RUN(tsr_session_bind(lm->session, "score", "logits", lm->logits));
  } else {
    TRY_RUN(tsr_session_bind(lm->session, "prefill", "tokens", lm->prompt));
    TRY_RUN(tsr_session_bind(lm->session, "prefill", "logits", lm->logits));
    TRY_RUN(tsr_session_bind(lm->session, "decode", "tokens", lm->token));
    TRY_RUN(tsr_session_bind(lm->session, "decode", "logits", lm->logits));
  }
  return drive_lm_reset(lm, d);
}

ts_status drive_lm_open(drive_lm *lm, const char *path, const drive_lm_options *o, ts_diags *d) {
  *lm = (drive_lm){0};
  tsr_error error = {TSR_OK, ""};
  error.code = tsr_artifact_open(path, NULL, &error, &lm->artifact);
  if (error.code != TSR_OK) return failed(d, &error);
  TS_TRY(open_tokenizer(lm, path, d));
  TS_TRY(vocabulary(lm, o->score ? "score" : "prefill", d));
  tsr_device_options device = {.size = sizeof device, .threads = o->threads};
  error.code = tsr_device_open(o->device ? o->device : "host", &device, &error, &lm->device);
  if (error.code != TSR_OK) return failed(d, &error);
  return make_session(lm, o, d);
}

void drive_lm_close(drive_lm *lm) {
  tsr_session_destroy(lm->session);
  tsr_buffer_release(lm->prompt);
  tsr_buffer_release(lm->token);
  tsr_buffer_release(lm->logits);
  tsr_device_release(lm->device);
  if (lm->tokenizer) tx_close(lm->tokenizer);
  tsr_artifact_release(lm->artifact);
  *lm = (drive_lm){0};
}

ts_status drive_lm_reset(drive_lm *lm, ts_diags *d) {
  if (lm->sequence) tsr_sequence_destroy(lm->session, lm->sequence);
  lm->sequence = 0;
  lm->length = 0;
  tsr_error e = {TSR_INTERNAL, "no token list could be made"};
  e.code = tsr_sequence_create(lm->session, &lm->sequence);
  return e.code == TSR_OK ? TS_OK : failed(d, &e);
}

static ts_status check_length(drive_lm *lm, size_t more, ts_diags *d) {
  if ((int64_t)(lm->length + more) <= lm->context) return TS_OK;
  return ts_report(d, (ts_loc){0}, &diag_drive_range, "the context holds %lld tokens; %u are there and %zu more were to come", (long long)lm->context, lm->length, more);
}

static ts_status run_chunk(drive_lm *lm, const char *function, const int32_t *ids, size_t n, tsr_buffer *tokens, ts_diags *d) {
  tsr_type t = {TSR_I32, 2, {1, (int64_t)n}};
  TRY_RUN(tsr_buffer_reshape(tokens, &t));
  TRY_RUN(tsr_buffer_write(tokens, 0, ids, n * sizeof *ids));
  tsr_row row = {lm->sequence, {(uint32_t)n}};
  TRY_RUN(tsr_session_run(lm->session, function, &row, 1, NULL, e));
  lm->length += (uint32_t)n;
  return TS_OK;
}

static const float *logits_of(drive_lm *lm) { return tsr_buffer_data(lm->logits); }

ts_status drive_lm_prefill(drive_lm *lm, const int32_t *ids, size_t count, ts_diags *d, const float **logits) {
  TS_TRY(check_length(lm, count, d));
  for (size_t at = 0; at < count; at += DRIVE_LM_CHUNK)
    TS_TRY(run_chunk(lm, "prefill", ids + at, count - at < DRIVE_LM_CHUNK ? count - at : DRIVE_LM_CHUNK, lm->prompt, d));
  *logits = logits_of(lm);
  return TS_OK;
}

ts_status drive_lm_decode(drive_lm *lm, int32_t id, ts_diags *d, const float **logits) {
  TS_TRY(check_length(lm, 1, d));
  TS_TRY(run_chunk(lm, "decode", &id, 1, lm->token, d));
  *logits = logits_of(lm);
  return TS_OK;
}

ts_status drive_lm_score(drive_lm *lm, const int32_t *ids, size_t count, ts_diags *d, double *nll, size_t *tokens) {
  TS_TRY(drive_lm_reset(lm, d));
  *nll = 0;
  *tokens = 0;
  for (size_t at = 0; at < count;) {
    size_t room = (size_t)lm->context - lm->length, n = count - at < DRIVE_LM_CHUNK ? count - at : DRIVE_LM_CHUNK;
    if (room == 0) {   // a text longer than the context is scored in windows
      TS_TRY(drive_lm_reset(lm, d));
      continue;
    }
    if (n > room) n = room;
    tsr_type t = {TSR_F32, 3, {1, (int64_t)n, lm->vocab}};
    TRY_RUN(tsr_buffer_reshape(lm->logits, &t));
    TS_TRY(run_chunk(lm, "score", ids + at, n, lm->prompt, d));
    for (size_t i = 0; i < n && at + i + 1 < count; i++) {
      double lp;
      TS_TRY(tx_log_probability(d, logits_of(lm) + i * (size_t)lm->vocab, (size_t)lm->vocab, ids[at + i + 1], &lp));
      *nll -= lp;
      ++*tokens;
    }
    at += n;
  }
  return TS_OK;
}
