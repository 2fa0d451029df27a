// Files: read whole, map, replace atomically, XDG folders, and the table of messages about them.
#ifndef TESSERA_BASE_FILE_H
#define TESSERA_BASE_FILE_H

#include "base/diag.h"

#include <sys/types.h>

#define TS_DIAG TS_DIAG_DECLARE
#include "base/diag.def"
#undef TS_DIAG

// Reads a whole file ("-" is standard input) into the arena, with a terminating NUL behind it that the length does not count.
ts_status ts_file_read(ts_arena *a, const char *path, ts_diags *d, ts_str *out);

typedef struct ts_mapping {
  const void *data;   // NULL when the file is empty
  size_t size;
} ts_mapping;
ts_status ts_file_map(const char *path, ts_diags *d, ts_mapping *out);   // read-only, private
void ts_file_unmap(ts_mapping *m);

// Writing replaces atomically: a temporary file beside the target, fsync, rename. Until ts_writer_commit() succeeds the old
// file is untouched; ts_writer_abort() (or a kill) leaves at most a temporary file that the next writer removes.
typedef struct ts_writer {
  int fd;
  char *path, *temporary;
  uint64_t offset;
  char *buffer;
  size_t buffered;
  bool failed;
  int error;          // errno of the first failure
} ts_writer;
ts_status ts_writer_open(ts_writer *w, const char *path, ts_diags *d);
void ts_writer_put(ts_writer *w, const void *data, size_t n);      // failures are kept and reported by commit
void ts_writer_pad(ts_writer *w, uint64_t alignment);              // with zeros, to a multiple of `alignment`
void ts_writer_patch(ts_writer *w, uint64_t at, const void *data, size_t n);   // overwrites bytes already put
// When `keep_identical`, a target that already holds the same bytes is left untouched (its time stamp too).
ts_status ts_writer_commit(ts_writer *w, bool keep_identical, ts_diags *d, bool *out_changed);
void ts_writer_abort(ts_writer *w);
ts_status ts_file_write(const char *path, const void *data, size_t n, ts_diags *d);   // the whole sequence

bool ts_file_exists(const char *path);
ts_status ts_make_dirs(const char *path, ts_diags *d);   // like mkdir -p
// $XDG_<kind>_HOME/tessera, or its default under $HOME; `kind` is "CACHE" or "DATA". NULL when there is no home.
char *ts_xdg_folder(ts_arena *a, const char *kind);
char *ts_path_join(ts_arena *a, const char *folder, const char *name);   // `name` alone when it is absolute
ts_str ts_path_folder(const char *path);                                 // "." when there is none
const char *ts_path_base(const char *path);

#endif
