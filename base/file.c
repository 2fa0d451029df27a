// Files (see file.h).
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "base/diag.def"
#undef TS_DIAG

enum { BUFFER = 1 << 20 };

static ts_loc file_loc(const char *path) { return (ts_loc){.file = path}; }

ts_status ts_file_read(ts_arena *a, const char *path, ts_diags *d, ts_str *out) {
  bool standard = strcmp(path, "-") == 0;
  int fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ts_report(d, file_loc(path), &diag_file_open, "cannot open: %s", strerror(errno));
  ts_text text = {0};
  char buf[1 << 16];
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    ts_text_add(&text, (ts_str){buf, (size_t)n});
  }
  int error = errno;
  if (!standard) close(fd);
  ts_status s = TS_OK;
  if (n < 0) s = ts_report(d, file_loc(path), &diag_file_read, "cannot read: %s", strerror(error));
  else *out = (ts_str){ts_arena_strndup(a, ts_text_z(&text), text.len), text.len};
  ts_text_deinit(&text);
  return s;
}

ts_status ts_file_map(const char *path, ts_diags *d, ts_mapping *out) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ts_report(d, file_loc(path), &diag_file_open, "cannot open: %s", strerror(errno));
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return ts_report(d, file_loc(path), &diag_file_open, "not a regular file");
  }
  void *p = NULL;
  if (st.st_size > 0) {
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      int error = errno;
      close(fd);
      return ts_report(d, file_loc(path), &diag_file_read, "cannot map: %s", strerror(error));
    }
  }
  close(fd);
  *out = (ts_mapping){p, (size_t)st.st_size};
  return TS_OK;
}

void ts_file_unmap(ts_mapping *m) {
  if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
  *m = (ts_mapping){0};
}

ts_status ts_writer_open(ts_writer *w, const char *path, ts_diags *d) {
  *w = (ts_writer){.fd = -1};
  size_t n = strlen(path);
  w->path = malloc(n + 1);
  w->temporary = malloc(n + 32);
  w->buffer = malloc(BUFFER);
  if (!w->path || !w->temporary || !w->buffer) {
    ts_writer_abort(w);
    return ts_report(d, file_loc(path), &diag_file_write, "out of memory");
  }
  memcpy(w->path, path, n + 1);
  snprintf(w->temporary, n + 32, "%s.tmp-%ld", path, (long)getpid());
  w->fd = open(w->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (w->fd < 0) {
    int error = errno;
    free(w->temporary);   // it was not made by us: leave what is there
    w->temporary = NULL;
    ts_writer_abort(w);
    return ts_report(d, file_loc(path), &diag_file_write, "cannot write: %s", strerror(error));
  }
  return TS_OK;
}

static void write_all(ts_writer *w, const char *data, size_t n, off_t at) {
  while (n && !w->failed) {
    ssize_t k = at < 0 ? write(w->fd, data, n) : pwrite(w->fd, data, n, at);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      w->failed = true;
      w->error = k < 0 ? errno : ENOSPC;
      return;
    }
    data += k, n -= (size_t)k;
    if (at >= 0) at += k;
  }
}

static void flush_writer(ts_writer *w) {
  write_all(w, w->buffer, w->buffered, -1);
  w->buffered = 0;
}

void ts_writer_put(ts_writer *w, const void *data, size_t n) {
  w->offset += n;
  if (w->failed) return;
  if (w->buffered + n > BUFFER) flush_writer(w);
  if (n > BUFFER) {
    write_all(w, data, n, -1);
  } else if (n) {
    memcpy(w->buffer + w->buffered, data, n);
    w->buffered += n;
  }
}

void ts_writer_pad(ts_writer *w, uint64_t alignment) {
  static const char zeros[4096];
  while (w->offset % alignment) {
    uint64_t n = alignment - w->offset % alignment;
    ts_writer_put(w, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros);
  }
}

void ts_writer_patch(ts_writer *w, uint64_t at, const void *data, size_t n) {
  flush_writer(w);
  write_all(w, data, n, (off_t)at);
}

static bool same_contents(ts_writer *w) {
  int fd = open(w->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat st;
  bool same = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == w->offset;
  char mine[1 << 14], theirs[1 << 14];
  for (off_t at = 0; same && (uint64_t)at < w->offset;) {
    ssize_t a = pread(fd, theirs, sizeof theirs, at), b = pread(w->fd, mine, sizeof mine, at);
    same = a > 0 && a == b && memcmp(mine, theirs, (size_t)a) == 0;
    at += a;
  }
  close(fd);
  return same;
}

ts_status ts_writer_commit(ts_writer *w, bool keep_identical, ts_diags *d, bool *out_changed) {
  flush_writer(w);
  ts_status s = TS_OK;
  bool changed = true;
  if (!w->failed && keep_identical && same_contents(w)) {
    changed = false;
  } else {
    if (!w->failed && fsync(w->fd) != 0 && errno != EINVAL && errno != EROFS) w->failed = true, w->error = errno;
    if (!w->failed && rename(w->temporary, w->path) != 0) w->failed = true, w->error = errno;
    if (w->failed) {
      s = ts_report(d, file_loc(w->path), &diag_file_write, "cannot write: %s", strerror(w->error));
    } else {
      free(w->temporary);
      w->temporary = NULL;
    }
  }
  ts_writer_abort(w);
  if (s == TS_OK && out_changed) *out_changed = changed;
  return s;
}

void ts_writer_abort(ts_writer *w) {
  if (w->fd >= 0) close(w->fd);
  if (w->temporary) {
    if (w->fd >= 0) unlink(w->temporary);
    free(w->temporary);
  }
  free(w->path);
  free(w->buffer);
  *w = (ts_writer){.fd = -1};
}

ts_status ts_file_write(const char *path, const void *data, size_t n, ts_diags *d) {
  ts_writer w;
  TS_TRY(ts_writer_open(&w, path, d));
  ts_writer_put(&w, data, n);
  return ts_writer_commit(&w, true, d, NULL);
}

bool ts_file_exists(const char *path) { return access(path, F_OK) == 0; }

ts_status ts_make_dirs(const char *path, ts_diags *d) {
  ts_text t = {0};
  ts_status s = TS_OK;
  for (size_t i = 0; s == TS_OK; i++) {
    if ((path[i] == '/' || path[i] == 0) && t.len && mkdir(t.data, 0777) != 0 && errno != EEXIST)
      s = ts_report(d, file_loc(path), &diag_file_write, "cannot make the folder: %s", strerror(errno));
    if (!path[i]) break;
    ts_text_putc(&t, path[i]);
  }
  ts_text_deinit(&t);
  return s;
}

char *ts_xdg_folder(ts_arena *a, const char *kind) {
  bool cache = strcmp(kind, "CACHE") == 0;
  const char *set = getenv(cache ? "XDG_CACHE_HOME" : "XDG_DATA_HOME");
  if (set && set[0] == '/') return ts_arena_printf(a, "%s/tessera", set);
  const char *home = getenv("HOME");
  if (!home || home[0] != '/') return NULL;
  return ts_arena_printf(a, "%s/%s/tessera", home, cache ? ".cache" : ".local/share");
}

char *ts_path_join(ts_arena *a, const char *folder, const char *name) {
  if (name[0] == '/' || !folder[0] || strcmp(folder, ".") == 0) return ts_arena_strdup(a, name);
  return ts_arena_printf(a, "%s/%s", folder, name);
}

ts_str ts_path_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return TS_STR(".");
  return (ts_str){path, slash == path ? 1 : (size_t)(slash - path)};
}

const char *ts_path_base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
