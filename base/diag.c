// Located diagnostics (see diag.h).
#include "base/diag.h"

void ts_diags_init(ts_diags *d) {
  *d = (ts_diags){.limit = 20};
  ts_arena_init(&d->arena);
}

void ts_diags_deinit(ts_diags *d) {
  ts_arena_deinit(&d->arena);
  *d = (ts_diags){0};
}

void ts_diags_add_source(ts_diags *d, ts_sym file, ts_str text) {
  ts_vec_push(&d->arena, &d->sources, ((ts_diag_source){file, text}));
}

ts_status ts_vreport(ts_diags *d, ts_loc loc, const ts_diag_kind *kind, const char *fmt, va_list ap) {
  if (!d) return kind->status;
  if (kind->severity == TS_ERROR && ++d->errors > d->limit) return kind->status;
  if (kind->severity == TS_WARNING) d->warnings++;
  ts_vec_push(&d->arena, &d->list, ((ts_diag){kind, loc, ts_arena_vprintf(&d->arena, fmt, ap)}));
  return kind->status;
}

ts_status ts_report(ts_diags *d, ts_loc loc, const ts_diag_kind *kind, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  ts_status s = ts_vreport(d, loc, kind, fmt, ap);
  va_end(ap);
  return s;
}

void ts_note(ts_diags *d, ts_loc loc, const char *fmt, ...) {
  if (!d || d->errors > d->limit) return;
  va_list ap;
  va_start(ap, fmt);
  ts_vec_push(&d->arena, &d->list, ((ts_diag){NULL, loc, ts_arena_vprintf(&d->arena, fmt, ap)}));
  va_end(ap);
}

void ts_diags_merge(ts_diags *to, const ts_diags *from) {
  for (size_t i = 0; i < from->list.count; i++) {
    ts_diag one = from->list.data[i];
    one.text = ts_arena_strdup(&to->arena, one.text);
    ts_vec_push(&to->arena, &to->list, one);
  }
  to->errors += from->errors;
  to->warnings += from->warnings;
}

const char *ts_diag_name(const ts_diag_kind *kind, char buffer[64]) {
  size_t i = 0;
  for (; kind->id[i] && i < 63; i++) buffer[i] = kind->id[i] == '_' ? '-' : kind->id[i];
  buffer[i] = 0;
  return buffer;
}

bool ts_diags_has(const ts_diags *d, const ts_diag_kind *kind) {
  for (size_t i = 0; i < d->list.count; i++)
    if (d->list.data[i].kind == kind) return true;
  return false;
}

// The text of line `line` of a source, without its end.
static ts_str source_line(ts_str text, uint32_t line) {
  size_t at = 0;
  for (uint32_t n = 1; n < line; n++) {
    const char *end = text.len > at ? memchr(text.data + at, '\n', text.len - at) : NULL;
    if (!end) return (ts_str){0};
    at = (size_t)(end - text.data) + 1;
  }
  if (at >= text.len) return (ts_str){0};
  const char *end = memchr(text.data + at, '\n', text.len - at);
  return (ts_str){text.data + at, end ? (size_t)(end - text.data) - at : text.len - at};
}

static void print_caret(const ts_diags *d, ts_loc loc, ts_text *out, bool colour) {
  for (size_t i = 0; i < d->sources.count; i++) {
    if (d->sources.data[i].file != loc.file) continue;
    ts_str line = source_line(d->sources.data[i].text, loc.line);
    if (!line.len || line.len > 400) return;
    ts_text_printf(out, "%5u | %.*s\n      | ", loc.line, TS_FMT(line));
    for (uint32_t c = 1; c < loc.col && c <= line.len; c++) ts_text_putc(out, line.data[c - 1] == '\t' ? '\t' : ' ');
    ts_text_puts(out, colour ? "\033[1;32m^\033[0m\n" : "^\n");
    return;
  }
}

void ts_diags_print(const ts_diags *d, ts_text *out, bool colour) {
  static const char *const word[] = {"note", "remark", "warning", "error"};
  static const char *const tint[] = {"\033[1;36m", "\033[1;34m", "\033[1;35m", "\033[1;31m"};
  for (size_t i = 0; i < d->list.count; i++) {
    const ts_diag *one = &d->list.data[i];
    if (one->loc.file) {
      ts_text_printf(out, "%s:", one->loc.file);
      if (one->loc.line) ts_text_printf(out, "%u:%u:", one->loc.line, one->loc.col);
      else if (one->loc.offset) ts_text_printf(out, "byte %llu:", (unsigned long long)one->loc.offset);
      ts_text_putc(out, ' ');
    } else {
      ts_text_puts(out, "tessera: ");
    }
    ts_severity severity = one->kind ? one->kind->severity : TS_NOTE;
    if (colour) ts_text_puts(out, tint[severity]);
    ts_text_puts(out, word[severity]);
    char name[64];
    if (one->kind) ts_text_printf(out, "[%s]", ts_diag_name(one->kind, name));
    if (colour) ts_text_puts(out, "\033[0m");
    ts_text_printf(out, ": %s\n", one->text);
    if (one->loc.file && one->loc.line && one->loc.col) print_caret(d, one->loc, out, colour);
  }
  if (d->errors > d->limit) ts_text_printf(out, "tessera: %u further errors not shown\n", d->errors - d->limit);
}
