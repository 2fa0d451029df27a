// Decoding ids to text as they come (see text.h). Characters are released whole: the bytes of an unfinished one wait in the
// decoder; bytes that turn out to belong to none are passed on as they are, so that nothing is ever lost.
#include "text/format.h"

void tx_decoder_init(tx_decoder *dec, const tx_tokenizer *t, bool start, bool show_special) {
  *dec = (tx_decoder){.t = t, .show_special = show_special, .strip_space = start && (t->v.h->flags & TX_F_SPACE_PREFIX)};
}

// Adds one byte behind the held ones and releases what is then decided. Only a prefix of a character is ever held.
static void put(tx_decoder *dec, char c, ts_text *out) {
  char *held = (char *)dec->held;
  held[dec->held_count++] = c;
  if (tx_utf8_length(held, dec->held_count)) {
    ts_text_add(out, (ts_str){held, dec->held_count});
    dec->held_count = 0;
  } else if (!tx_utf8_is_prefix(held, dec->held_count)) {   // the new byte does not continue the old ones; it may start anew
    ts_text_add(out, (ts_str){held, dec->held_count - 1});
    held[0] = c;
    dec->held_count = 1;
    if (tx_utf8_is_prefix(held, 1)) return;
    ts_text_putc(out, c);
    dec->held_count = 0;
  }
}

ts_status tx_decode(ts_diags *d, tx_decoder *dec, int32_t id, ts_text *out) {
  const tx_tokenizer *t = dec->t;
  tx_type type = tx_token_type(t, id);
  if (!type)
    return ts_report(d, (ts_loc){0}, &diag_token_range, "token id %d is outside the vocabulary of %zu tokens", id,
                     tx_token_count(t));
  ts_str bytes = tx_token_bytes(t, id);
  if (type == TX_UNKNOWN || type == TX_CONTROL || type == TX_UNUSED) {
    if (id == t->v.h->bos) dec->strip_space = t->v.h->flags & TX_F_SPACE_PREFIX;
    if (!dec->show_special) return TS_OK;
    tx_decode_end(dec, out);   // a name is no continuation of a character
    ts_text_add(out, bytes);
    return TS_OK;
  }
  bool strip = dec->strip_space && bytes.len && bytes.data[0] == ' ';
  dec->strip_space = false;
  for (size_t i = strip; i < bytes.len; i++) put(dec, bytes.data[i], out);
  return TS_OK;
}

void tx_decode_end(tx_decoder *dec, ts_text *out) {
  ts_text_add(out, (ts_str){(const char *)dec->held, dec->held_count});
  dec->held_count = 0;
}
