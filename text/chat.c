// Chat formats: recognised once, when a vocabulary is packed, from marks in the Jinja template; written out by hand-made rules
// (chat.def) instead of a Jinja interpreter. What a template says when no system message comes first is read out of it.
#include "text/format.h"

typedef struct format {
  tx_chat id;
  const char *name, *marks[2], *nots[2];
  bool trim;
  const char *before_role, *after_role, *after_content;
} format;

static const format formats[] = {
#define TX_CHAT_FORMAT(id, code, name, mark1, mark2, not1, not2, trim, before_role, after_role, after_content) \
  {TX_CHAT_##id, name, {mark1, mark2}, {not1, not2}, trim, before_role, after_role, after_content},
#include "text/chat.def"
#undef TX_CHAT_FORMAT
};

static const format *format_of(tx_chat id) {
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
    if (formats[i].id == id) return &formats[i];
  return NULL;
}

static const char *find(ts_str s, const char *z) { return z && s.len ? memmem(s.data, s.len, z, strlen(z)) : NULL; }

// Does `s`, the inside of a Jinja string literal, go on with `z`? Real newlines and the escape "\n" count as the same. Bytes
// taken.
static size_t literal_match(ts_str s, const char *z) {
  size_t i = 0;
  for (; *z; z++) {
    if (i < s.len && s.data[i] == *z) i++;
    else if (*z == '\n' && i + 1 < s.len && s.data[i] == '\\' && s.data[i + 1] == 'n') i += 2;
    else return 0;
  }
  return i;
}

// Reads literal text up to `end` into `out`; false when the literal's quote comes first (then the text is not all literal).
static bool literal_text(ts_str s, char quote, const char *end, ts_text *out) {
  for (size_t i = 0; i < s.len; i++) {
    if (literal_match((ts_str){s.data + i, s.len - i}, end)) return true;
    char c = s.data[i];
    if (c == quote) return false;
    if (c == '\\' && i + 1 < s.len) {
      char e = s.data[++i];
      c = e == 'n' ? '\n' : e == 't' ? '\t' : e == 'r' ? '\r' : e;
    }
    ts_text_putc(out, c);
  }
  return false;
}

// The default system prompt: the first string literal that holds a whole system message.
static ts_str default_system(ts_arena *arena, ts_str template, const format *f) {
  ts_text head = {0}, text = {0};
  ts_text_printf(&head, "%ssystem%s", f->before_role, f->after_role);
  ts_str result = {"", 0};
  for (size_t i = 1; i < template.len; i++) {
    char quote = template.data[i - 1];
    if (quote != '\'' && quote != '"') continue;
    ts_str rest = {template.data + i, template.len - i};
    size_t n = literal_match(rest, ts_text_z(&head));
    if (!n) continue;
    ts_text_clear(&text);
    if (!literal_text((ts_str){rest.data + n, rest.len - n}, quote, f->after_content, &text) || !text.len) continue;
    result = (ts_str){ts_arena_strndup(arena, text.data, text.len), text.len};
    break;
  }
  ts_text_deinit(&head);
  ts_text_deinit(&text);
  return result;
}

tx_chat tx_chat_recognise(ts_arena *arena, ts_str template, bool *out_trim, ts_str *out_system) {
  *out_trim = false;
  *out_system = (ts_str){"", 0};
  if (!template.len) return TX_CHAT_NONE;
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    const format *f = &formats[i];
    if (!find(template, f->marks[0]) || !find(template, f->marks[1])) continue;
    if (find(template, f->nots[0]) || find(template, f->nots[1])) continue;
    *out_trim = f->trim || find(template, "| trim") || find(template, "|trim") || find(template, ".strip()");
    *out_system = default_system(arena, template, f);
    return f->id;
  }
  return TX_CHAT_OTHER;
}

tx_chat tx_chat_format(const tx_tokenizer *t) { return (tx_chat)t->v.h->chat; }

const char *tx_chat_name(tx_chat id) {
  const format *f = format_of(id);
  return f ? f->name : id == TX_CHAT_NONE ? "none" : "other";
}

ts_str tx_chat_template(const tx_tokenizer *t) { return (ts_str){t->v.template, t->v.h->template_bytes}; }
ts_str tx_chat_default_system(const tx_tokenizer *t) { return (ts_str){t->v.system, t->v.h->system_bytes}; }

static void add_message(const format *f, ts_str role, ts_str content, bool trim, ts_text *out) {
  ts_text_puts(out, f->before_role);
  ts_text_add(out, role);
  ts_text_puts(out, f->after_role);
  ts_text_add(out, trim ? ts_str_trim(content) : content);
  ts_text_puts(out, f->after_content);
}

static bool role_ok(ts_str role) {
  for (size_t i = 0; i < role.len; i++) {
    char c = role.data[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) return false;
  }
  return role.len > 0;
}

ts_status tx_chat_prompt(ts_diags *d, const tx_tokenizer *t, const tx_message *messages, size_t count, bool generate,
                         ts_text *out) {
  tx_chat id = tx_chat_format(t);
  const format *f = format_of(id);
  if (!f && id == TX_CHAT_NONE)
    return ts_report(d, (ts_loc){0}, &diag_chat_template_missing,
                     "the model has no chat template; give the whole prompt as raw text (--prompt without --chat)");
  if (!f)
    return ts_report(
        d, (ts_loc){0}, &diag_chat_template_unknown,
        "the model's chat template is none of the known formats (ChatML, Llama 3); write the prompt as raw text in the "
        "model's own format (--prompt without --chat)");
  for (size_t i = 0; i < count; i++)
    if (!role_ok(messages[i].role))
      return ts_report(d, (ts_loc){0}, &diag_chat_role,
                       "message %zu has the role '%.*s'; roles are words such as system, user, assistant", i,
                       TS_FMT(messages[i].role));
  bool trim = t->v.h->flags & TX_F_TRIM;
  ts_str system = tx_chat_default_system(t);
  if (count && system.len && !ts_str_is(messages[0].role, "system")) add_message(f, TS_STR("system"), system, false, out);
  for (size_t i = 0; i < count; i++) add_message(f, messages[i].role, messages[i].content, trim, out);
  if (generate) ts_text_printf(out, "%sassistant%s", f->before_role, f->after_role);
  return TS_OK;
}

bool tx_is_stop(const tx_tokenizer *t, int32_t id) {
  uint32_t low = 0, high = t->v.h->stops;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (t->v.stops[middle] < id) low = middle + 1;
    else high = middle;
  }
  return low < t->v.h->stops && t->v.stops[low] == id;
}

const int32_t *tx_stops(const tx_tokenizer *t, size_t *out_count) {
  *out_count = t->v.h->stops;
  return t->v.stops;
}
