// The tokenizer of a GGUF file as text/ wants it, and the keys about the model that go into the artifact.
#include "frontend/spec.h"

static ts_str string_key(const fe_gguf *g, const char *key) {
  const fe_gguf_kv *kv = fe_gguf_find(g, ts_str_of(key));
  ts_str s;
  return kv && fe_gguf_string(&kv->value, 0, &s) && kv->value.type == FE_GGUF_STRING ? s : (ts_str){0};
}

static void id_key(const fe_gguf *g, const char *key, int32_t *out) {
  const fe_gguf_kv *kv = fe_gguf_find(g, ts_str_of(key));
  int64_t v;
  if (kv && kv->value.type != FE_GGUF_ARRAY && fe_gguf_int(&kv->value, 0, &v) && v >= -1 && v <= INT32_MAX) *out = (int32_t)v;
}

static void bool_key(const fe_gguf *g, const char *key, bool *out) {
  const fe_gguf_kv *kv = fe_gguf_find(g, ts_str_of(key));
  bool v;
  if (kv && kv->value.type != FE_GGUF_ARRAY && fe_gguf_bool(&kv->value, 0, &v)) *out = v;
}

static ts_status arrays(fe_spec *S, const fe_gguf *g, tx_vocab *v) {
  const fe_gguf_value *a;
  TS_TRY(fe_gguf_get_array(g, "tokenizer.ggml.tokens", S->d, &a));
  if (a->element != FE_GGUF_STRING || a->count == 0 || a->count > 1 << 22)
    return FE_ERROR(S, ((ts_loc){.file = g->tensors.path}), key_type, "tokenizer.ggml.tokens is no list of up to 2^22 texts");
  v->token_count = a->count;
  v->tokens = a->strings;
  const fe_gguf_kv *kv = fe_gguf_find(g, TS_STR("tokenizer.ggml.token_type"));
  if (kv && kv->value.count == a->count && kv->value.type == FE_GGUF_ARRAY) {
    int32_t *types = ts_new_array(S->a, int32_t, a->count);
    for (uint64_t i = 0; i < a->count; i++) {
      int64_t t;
      if (!fe_gguf_int(&kv->value, i, &t)) return FE_ERROR(S, fe_gguf_loc(g, kv), key_type, "tokenizer.ggml.token_type is no list of integers");
      types[i] = t >= INT32_MIN && t <= INT32_MAX ? (int32_t)t : 0;
    }
    v->types = types;
  } else if (kv) {
    return FE_ERROR(S, fe_gguf_loc(g, kv), key_type, "tokenizer.ggml.token_type is no list with one entry for each token");
  }
  kv = fe_gguf_find(g, TS_STR("tokenizer.ggml.scores"));
  if (kv) {
    if (kv->value.type != FE_GGUF_ARRAY || kv->value.count != a->count)
      return FE_ERROR(S, fe_gguf_loc(g, kv), key_type, "tokenizer.ggml.scores is no list with one entry for each token");
    float *scores = ts_new_array(S->a, float, a->count);
    for (uint64_t i = 0; i < a->count; i++) {
      double s;
      if (!fe_gguf_real(&kv->value, i, &s)) return FE_ERROR(S, fe_gguf_loc(g, kv), key_type, "tokenizer.ggml.scores is no list of numbers");
      scores[i] = (float)s;
    }
    v->scores = scores;
  }
  kv = fe_gguf_find(g, TS_STR("tokenizer.ggml.merges"));
  if (kv && kv->value.type == FE_GGUF_ARRAY && kv->value.element == FE_GGUF_STRING) v->merges = kv->value.strings, v->merge_count = kv->value.count;
  return TS_OK;
}

static void add_meta(fe_spec *S, const char *key, const char *value) {
  ts_vec_push(S->a, &S->model->metadata, ((fe_meta){key, value}));
}

static void metadata(fe_spec *S) {
  add_meta(S, "spec", ts_path_base(S->path));
  for (size_t i = 0; i < S->sources.count; i++) {
    const fe_source *src = &S->sources.data[i];
    add_meta(S, "weights", ts_path_base(src->path));
    for (size_t k = 0; src->format == FE_FORMAT_GGUF && k < src->gguf.kv_count; k++) {
      const fe_gguf_kv *kv = &src->gguf.kv[k];
      ts_str s;
      if (ts_str_starts(kv->key, "general.") && kv->value.type == FE_GGUF_STRING && fe_gguf_string(&kv->value, 0, &s) && s.len < 4096)
        add_meta(S, ts_arena_strndup(S->a, kv->key.data, kv->key.len), ts_arena_strndup(S->a, s.data, s.len));
    }
    for (size_t k = 0; k < src->keys.count; k++)
      if (ts_str_is(src->keys.data[k].key, "license") && src->keys.data[k].value.kind == FE_V_CHOICE) add_meta(S, "general.license", src->keys.data[k].value.sym);
  }
  fe_model *M = S->model;
  M->params = ts_new_array(S->a, struct fe_param_info, S->params.count);
  for (size_t i = 0; i < S->params.count; i++) {
    const fe_param *p = &S->params.data[i];
    if (p->state != 2) continue;
    ts_text t = {0};
    if (p->value.kind == FE_V_CHOICE) ts_text_puts(&t, p->value.sym);
    else fe_print_value(&p->value, &t);
    const char *text = ts_arena_strdup(S->a, ts_text_z(&t));
    ts_text_deinit(&t);
    M->params[M->param_count++] = (struct fe_param_info){p->name, text, p->origin, p->origin_loc};
    add_meta(S, ts_arena_printf(S->a, "param.%s", p->name), text);
  }
}

ts_status fe_import_tokenizer(fe_spec *S) {
  metadata(S);
  const fe_source *src = S->sources.count ? &S->sources.data[0] : NULL;
  if (!src || src->format != FE_FORMAT_GGUF) return TS_OK;
  const fe_gguf *g = &src->gguf;
  ts_str model = string_key(g, "tokenizer.ggml.model");
  if (!model.len) return TS_OK;
  tx_vocab v = tx_vocab_defaults(model, string_key(g, "tokenizer.ggml.pre"));
  TS_TRY(arrays(S, g, &v));
  id_key(g, "tokenizer.ggml.bos_token_id", &v.bos);
  id_key(g, "tokenizer.ggml.eos_token_id", &v.eos);
  id_key(g, "tokenizer.ggml.eot_token_id", &v.eot);
  id_key(g, "tokenizer.ggml.eom_token_id", &v.eom);
  id_key(g, "tokenizer.ggml.unknown_token_id", &v.unk);
  id_key(g, "tokenizer.ggml.padding_token_id", &v.pad);
  bool_key(g, "tokenizer.ggml.add_bos_token", &v.add_bos);
  bool_key(g, "tokenizer.ggml.add_eos_token", &v.add_eos);
  bool_key(g, "tokenizer.ggml.add_space_prefix", &v.add_space_prefix);
  v.chat_template = string_key(g, "tokenizer.chat_template");
  S->model->vocab = v;
  return tx_pack(S->d, (ts_loc){.file = src->path}, S->a, &v, &S->model->tokenizer);
}
