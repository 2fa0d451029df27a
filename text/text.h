// Tokenizers, chat formats and sampling: what stands between a person's text and a model's token ids.
//
// A vocabulary travels as one section ("tokenizer") of the artifact. The compiler fills a tx_vocab from the model file and packs
// it with tx_pack(); whoever runs the model opens those bytes with tx_open(), which copies nothing: the bytes (an mmap) must
// outlive the tokenizer. An open tokenizer is immutable and may be used from several threads at once; decoders and samplers
// belong to one thread each.
//
//   ids are int32_t, 0 <= id < tx_token_count(); -1 (TX_NONE) means "no such token".
//   `d` may be NULL everywhere: the status still says what kind of failure it was. Outputs are untouched on failure.
#ifndef TESSERA_TEXT_TEXT_H
#define TESSERA_TEXT_TEXT_H

#include "base/diag.h"

#define TS_DIAG TS_DIAG_DECLARE
#include "text/diag.def"
#undef TS_DIAG

enum { TX_NONE = -1 };

// What a token is; the values are those of GGUF's tokenizer.ggml.token_type.
typedef enum tx_type {
  TX_NORMAL = 1,
  TX_UNKNOWN,        // stands for text that has no token
  TX_CONTROL,        // <|im_start|>: matched in text only when special tokens are parsed, hidden in output unless asked for
  TX_USER_DEFINED,   // matched in text before everything else, always; shown
  TX_UNUSED,         // padding of the vocabulary; never produced
  TX_BYTE,           // <0x41>: one byte of text that has no token of its own
} tx_type;

// ---- Vocabulary description and packing (compiler side) ------------------------------------------------------------------

typedef struct tx_vocab {
  ts_str model;             // "gpt2" (byte-level BPE) or "llama" (score-based, as SentencePiece)
  ts_str pre;               // pre-tokenizer of a "gpt2" vocabulary, see pretokenizers.def; ignored for "llama"
  size_t token_count;
  const ts_str *tokens;     // [token_count], spelled as in the file ("Ġthe", "▁the")
  const int32_t *types;     // [token_count] tx_type; NULL: all TX_NORMAL
  const float *scores;      // [token_count], needed by "llama" only
  size_t merge_count;
  const ts_str *merges;     // [merge_count] "left right", best first; needed by "gpt2" only
  int32_t bos, eos, eot, eom, unk, pad;   // TX_NONE when the file has none
  bool add_bos, add_eos;    // does encoding with TX_ADD_SPECIAL put them around the text?
  bool add_space_prefix;    // "llama": a space goes before the text, and before text that follows a special token
  ts_str chat_template;     // Jinja text; empty when the file has none
} tx_vocab;

// An empty description of the given model and pre-tokenizer with what holds when a GGUF file leaves a key out: for "llama" unk 0,
// bos 1, eos 2, add_bos and add_space_prefix; for "gpt2" no ids, add_bos as the pre-tokenizer has it (llama-bpe: yes).
tx_vocab tx_vocab_defaults(ts_str model, ts_str pre);

// Serialises `v` (drawn byte by byte in format.h): little-endian, the same bytes for the same description on every machine, to be
// placed at a multiple of 8. The bytes belong to `arena`. Refuses by name: other models and pre-tokenizers, ids outside the
// vocabulary, merges whose parts are no tokens, missing scores, more than 2^22 tokens. `loc` (a file) leads every message.
ts_status tx_pack(ts_diags *d, ts_loc loc, ts_arena *arena, const tx_vocab *v, ts_str *out_blob);

// ---- Tokenizer -----------------------------------------------------------------------------------------------------------

typedef struct tx_tokenizer tx_tokenizer;

// Opens packed bytes after checking all of them (a few ms for 50,000 tokens): bounds, counts, ids, order, both hash tables.
// Nothing in a hostile blob that passes can make a later call read out of bounds or loop. `blob` is borrowed and must be aligned
// to 8; `name` (may be NULL, borrowed while `d` is used) stands in messages, which give the offending byte offset.
ts_status tx_open(ts_diags *d, ts_sym name, const void *blob, size_t size, tx_tokenizer **out);
void tx_close(tx_tokenizer *t);

size_t tx_token_count(const tx_tokenizer *t);
tx_type tx_token_type(const tx_tokenizer *t, int32_t id);   // 0 when `id` is outside the vocabulary
ts_str tx_token_bytes(const tx_tokenizer *t, int32_t id);   // what it stands for in text (" the"), any bytes; specials by name
int32_t tx_token_find(const tx_tokenizer *t, ts_str text);  // a special token by name, else a piece by its bytes; TX_NONE
int32_t tx_bos(const tx_tokenizer *t);
int32_t tx_eos(const tx_tokenizer *t);
const char *tx_model_name(const tx_tokenizer *t);           // "gpt2" or "llama"
const char *tx_pre_name(const tx_tokenizer *t);             // "" for "llama"

typedef struct tx_ids {
  int32_t *data;
  size_t count, capacity;
} tx_ids;   // zero-initialise; owned
void tx_ids_deinit(tx_ids *ids);
void tx_ids_push(tx_ids *ids, int32_t id);

typedef enum tx_encode_flags {
  TX_PLAIN = 0,
  TX_PARSE_SPECIAL = 1,   // "<|im_end|>" in the text becomes its token (prompts made by tx_chat_prompt need it)
  TX_ADD_SPECIAL = 2,     // BOS and EOS around the text where the vocabulary says so
} tx_encode_flags;

// Appends the ids of `text` (any bytes, less than 2 GiB; bytes that are not UTF-8 are encoded one by one). O(n log n). Text that
// the vocabulary cannot express becomes its unknown token ("llama") or is left out ("gpt2", as llama.cpp does), with a warning.
ts_status tx_encode(ts_diags *d, const tx_tokenizer *t, ts_str text, unsigned flags, tx_ids *ids);

// The words that a "gpt2" pre-tokenizer makes of `text` without looking for special tokens, in order and without gaps; a "llama"
// vocabulary has one word. For tests and explanations.
typedef void tx_word_fn(void *user, ts_str word);
ts_status tx_words(ts_diags *d, const tx_tokenizer *t, ts_str text, tx_word_fn *fn, void *user);

// ---- Decoding, token by token --------------------------------------------------------------------------------------------

typedef struct tx_decoder {
  const tx_tokenizer *t;
  bool show_special;      // control tokens appear by name
  bool strip_space;       // the next piece loses one leading space
  unsigned char held[4];  // the beginning of a UTF-8 character that the next tokens may complete
  uint32_t held_count;
} tx_decoder;

// `start`: the first id begins a text, so with add_space_prefix its leading space is dropped, as after every BOS; pass false to
// continue a text (a prompt's answer).
void tx_decoder_init(tx_decoder *dec, const tx_tokenizer *t, bool start, bool show_special);
// Appends the text that `id` completes: whole UTF-8 characters, and at once every byte that can't be part of one.
// TS_OUT_OF_RANGE when the id is outside the vocabulary.
ts_status tx_decode(ts_diags *d, tx_decoder *dec, int32_t id, ts_text *out);
void tx_decode_end(tx_decoder *dec, ts_text *out);   // appends what is still held

// ---- Chat ----------------------------------------------------------------------------------------------------------------

typedef enum tx_chat {
#define TX_CHAT_FORMAT(id, code, ...) TX_CHAT_##id = code,
#include "text/chat.def"
#undef TX_CHAT_FORMAT
  TX_CHAT_NONE = 0,      // the model file has no template
  TX_CHAT_OTHER = 255,   // it has one that is none of the known formats
} tx_chat;

typedef struct tx_message {
  ts_str role;      // "system", "user", "assistant": letters, digits, '_' and '-'
  ts_str content;   // not escaped: a special token's name in it is parsed like any other (as everywhere)
} tx_message;

tx_chat tx_chat_format(const tx_tokenizer *t);
const char *tx_chat_name(tx_chat format);               // "chatml", "llama3", "none", "other"
ts_str tx_chat_template(const tx_tokenizer *t);         // the Jinja text as packed
ts_str tx_chat_default_system(const tx_tokenizer *t);   // what the template says when no system message comes first; may be empty
// Appends the prompt of a conversation; `generate` adds the header of the assistant's answer. Encode it with TX_PARSE_SPECIAL |
// TX_ADD_SPECIAL (BOS is the tokenizer's, not in the text). TX_CHAT_NONE and TX_CHAT_OTHER are refused with advice.
ts_status tx_chat_prompt(ts_diags *d, const tx_tokenizer *t, const tx_message *messages, size_t count, bool generate,
                         ts_text *out);

// The tokens that end an answer: eos, eot, eom and the control tokens of stop_tokens.def, ascending.
bool tx_is_stop(const tx_tokenizer *t, int32_t id);
const int32_t *tx_stops(const tx_tokenizer *t, size_t *out_count);

// ---- Sampling ------------------------------------------------------------------------------------------------------------

typedef struct tx_sampling {
  double temperature;   // 0: greedy (the largest logit, the lowest id among equals); else 1e-3 .. 1e3
  double top_p;         // (0, 1]: the fewest most probable tokens whose probabilities reach it; 1: all
  uint32_t top_k;       // only the k largest logits; 0: all
  uint64_t seed;
} tx_sampling;
#define TX_SAMPLING_DEFAULT ((tx_sampling){.temperature = 0, .top_p = 1, .top_k = 0, .seed = 0})

typedef struct tx_sampler {
  tx_sampling options;
  void *scratch;
  size_t capacity;   // tokens that `scratch` holds
} tx_sampler;

ts_status tx_sampler_init(ts_diags *d, tx_sampler *s, const tx_sampling *options);
void tx_sampler_deinit(tx_sampler *s);
// Chooses a token from logits[0..count). The draw depends on (options, logits, stream, step) only, not on earlier calls and not
// on the machine (own exp, no contraction): Philox4x32-10 with the seed as key and (step, stream) as counter. `stream` tells
// sequences apart. Order: temperature, top_k, top_p. Equal logits rank by id. Logits of -inf are never chosen; NaN, +inf and
// "all -inf" are refused with TS_INVALID.
ts_status tx_sample(ts_diags *d, tx_sampler *s, const float *logits, size_t count, uint64_t stream, uint64_t step,
                    int32_t *out_id);
// The natural logarithm of softmax(logits)[id], in double; refuses what tx_sample refuses.
ts_status tx_log_probability(ts_diags *d, const float *logits, size_t count, int32_t id, double *out);
// One block of Philox4x32-10 (Salmon et al., SC'11), exposed for its known-answer test.
void tx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
