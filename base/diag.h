// Located diagnostics: collected, never printed on the way, several per run.
//
// Every diagnostic a user can see has a *kind*, declared once in its module's diag.def:
//     TS_DIAG(unknown_key, ERROR, TS_INVALID, "A key that the section does not have.")
// The kind's name (with '-' for '_') is what `error[name]` shows, docs/diagnostics.md lists, and tests expect. ts_report()
// returns the kind's status, so that a failing function ends with `return ts_report(...)`.
#ifndef TESSERA_BASE_DIAG_H
#define TESSERA_BASE_DIAG_H

#include "base/status.h"
#include "base/str.h"

typedef struct ts_loc {
  ts_sym file;           // NULL: no location
  uint32_t line, col;    // from 1; 0: unknown. A binary file uses line 0 and `offset`
  uint64_t offset;       // byte offset in a binary file, when line is 0
} ts_loc;

typedef enum ts_severity { TS_NOTE, TS_REMARK, TS_WARNING, TS_ERROR } ts_severity;

typedef struct ts_diag_kind {
  const char *id;        // C identifier; ts_diag_name() shows it with '-'
  ts_severity severity;
  ts_status status;      // what ts_report() returns for it
  const char *doc;       // one sentence for docs/diagnostics.md
} ts_diag_kind;

typedef struct ts_diag {
  const ts_diag_kind *kind;   // NULL for a note: it belongs to the diagnostic before it
  ts_loc loc;
  const char *text;
} ts_diag;

typedef struct ts_diag_source {
  ts_sym file;
  ts_str text;
} ts_diag_source;

// The sink. Not thread-safe; each worker has its own and the driver merges them in a fixed order.
typedef struct ts_diags {
  ts_arena arena;
  TS_VEC(ts_diag) list;
  TS_VEC(ts_diag_source) sources;   // texts for the caret lines; borrowed
  unsigned errors, warnings;
  unsigned limit;                   // further errors are counted, not kept; 20 by default
} ts_diags;

void ts_diags_init(ts_diags *d);
void ts_diags_deinit(ts_diags *d);
// Registers the text of a file, so that its diagnostics can show the line. `text` must outlive the sink.
void ts_diags_add_source(ts_diags *d, ts_sym file, ts_str text);

ts_status ts_report(ts_diags *d, ts_loc loc, const ts_diag_kind *kind, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
ts_status ts_vreport(ts_diags *d, ts_loc loc, const ts_diag_kind *kind, const char *fmt, va_list ap);
// Attaches a note to the diagnostic reported last.
void ts_note(ts_diags *d, ts_loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Appends copies of all diagnostics of `from` to `to`.
void ts_diags_merge(ts_diags *to, const ts_diags *from);

// gcc-style text: file:line:col: error[name]: text, the line, a caret. Colour only when asked for.
void ts_diags_print(const ts_diags *d, ts_text *out, bool colour);
// "unknown_key" as "unknown-key", in a buffer of at least 64 bytes.
const char *ts_diag_name(const ts_diag_kind *kind, char buffer[64]);
// Does any diagnostic of this kind exist? For tests and for callers that react to one.
bool ts_diags_has(const ts_diags *d, const ts_diag_kind *kind);

// Helpers for a module's diag.h and diag.c:  #define TS_DIAG TS_DIAG_DECLARE / TS_DIAG_DEFINE, then include its diag.def.
#define TS_DIAG_DECLARE(id, severity, status, doc) extern const ts_diag_kind diag_##id;
#define TS_DIAG_DEFINE(id, severity, status, doc) const ts_diag_kind diag_##id = {#id, TS_##severity, status, doc};
#define TS_DIAG_ROW(id, severity, status, doc) &diag_##id,

#endif
