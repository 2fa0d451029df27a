// Artifact files: opening, sections, checksums, queries. Every byte but code is checked before it is used.
#include "runtime/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_name(uint32_t kind) {
  switch (kind) {
#define NAME(id, code, check) case code: return #id;
    TSR_SECTION_KINDS(NAME)
#undef NAME
  }
  return "unknown";
}

static bool known_kind(uint32_t kind) { return kind >= TSR_SECTION_strings && kind <= TSR_SECTION_blob; }

static bool checked_at_open(uint32_t kind) {
  enum { open = 1, late = 0 };
  switch (kind) {
#define CHECK(id, code, check) case code: return check;
    TSR_SECTION_KINDS(CHECK)
#undef CHECK
  }
  return false;
}

const void *tsr_section_data(const tsr_artifact *a, uint32_t section) {
  if (a->external && a->external[section].data) return a->external[section].data;
  return a->data + a->sections[section].offset;
}

tsr_status tsr_section_verify(tsr_artifact *a, uint32_t section, tsr_error *e) {
  if (atomic_load_explicit(&a->checked[section], memory_order_acquire)) return TSR_OK;
  const tsr_section *s = &a->sections[section];
  if (tsr_checksum(tsr_section_data(a, section), s->bytes) != s->checksum)
    return tsr_fail(e, TSR_CORRUPT,
                    "%s: section %u (%s %s, %" PRIu64 " bytes at offset %" PRIu64
                    "): its checksum does not match; the file is damaged",
                    a->path, section, kind_name(s->kind), a->strings ? tsr_string(a, s->name) : "", s->bytes, s->offset);
  atomic_store_explicit(&a->checked[section], 1, memory_order_release);
  return TSR_OK;
}

static tsr_status check_header(tsr_artifact *a, tsr_error *e) {
  tsr_header h;
  if (a->size < sizeof h) return tsr_fail(e, TSR_CORRUPT, "%s: %zu bytes are too few for an artifact", a->path, a->size);
  memcpy(&h, a->data, sizeof h);
  if (memcmp(h.magic, TSR_MAGIC, 8) != 0)
    return tsr_fail(e, TSR_CORRUPT, "%s: not a Tessera artifact (it does not start with the magic bytes)", a->path);
  if (h.major != TSR_FORMAT_MAJOR || h.minor > TSR_FORMAT_MINOR)
    return tsr_fail(e, TSR_VERSION, "%s: artifact format %u.%u; this runtime reads %d.0 to %d.%d", a->path, h.major, h.minor,
                    TSR_FORMAT_MAJOR, TSR_FORMAT_MAJOR, TSR_FORMAT_MINOR);
  if (tsr_checksum(a->data, offsetof(tsr_header, checksum)) != h.checksum)
    return tsr_fail(e, TSR_CORRUPT, "%s: the header's checksum does not match; the file is damaged", a->path);
  if (h.file_bytes != a->size)
    return tsr_fail(e, TSR_CORRUPT, "%s: the file has %zu bytes, its header says %" PRIu64 "; it is cut short or was appended to",
                    a->path, a->size, h.file_bytes);
  if (h.section_count == 0 || h.section_count > TSR_MAX_SECTIONS || h.table_offset % 8 || h.table_offset > a->size ||
      (uint64_t)h.section_count * sizeof(tsr_section) > a->size - h.table_offset)
    return tsr_fail(e, TSR_CORRUPT, "%s: the section table (%u sections at offset %" PRIu64 ") is not inside the file", a->path,
                    h.section_count, h.table_offset);
  a->sections = (const tsr_section *)(a->data + h.table_offset);
  a->section_count = h.section_count;
  if (tsr_checksum(a->sections, h.section_count * sizeof(tsr_section)) != h.table_checksum)
    return tsr_fail(e, TSR_CORRUPT, "%s: the section table's checksum does not match; the file is damaged", a->path);
  return TSR_OK;
}

static tsr_status open_external(tsr_artifact *a, uint32_t section, tsr_error *e) {
  const tsr_section *s = &a->sections[section];
  const char *name = tsr_string(a, s->name);
  if (!a->folder) return tsr_fail(e, TSR_NOT_FOUND, "%s: weights are in a file '%s'; say which folder holds it", a->path, name);
  if (strchr(name, '/') || !name[0])
    return tsr_fail(e, TSR_CORRUPT, "%s: section %u: '%s' is no plain file name", a->path, section, name);
  char path[4096];
  if ((size_t)snprintf(path, sizeof path, "%s/%s", a->folder, name) >= sizeof path)
    return tsr_fail(e, TSR_INVALID, "the path of '%s' is too long", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return tsr_fail(e, TSR_NOT_FOUND, "%s: cannot open the weights file %s: %s", a->path, path, strerror(errno));
  struct stat st;
  void *p = MAP_FAILED;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == s->bytes && st.st_size)
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (p == MAP_FAILED)
    return tsr_fail(e, TSR_CORRUPT, "%s: the weights file %s should have %" PRIu64 " bytes", a->path, path, s->bytes);
  a->external[section].data = p;
  a->external[section].size = (size_t)st.st_size;
  return TSR_OK;
}

static tsr_status check_sections(tsr_artifact *a, tsr_error *e) {
  uint32_t strings = TSR_NONE;
  for (uint32_t i = 0; i < a->section_count; i++) {
    const tsr_section *s = &a->sections[i];
    if (!known_kind(s->kind) && (s->flags & TSR_SECTION_REQUIRED))
      return tsr_fail(e, TSR_VERSION, "%s: section %u is of kind %u, which this runtime does not know and the artifact needs",
                      a->path, i, s->kind);
    if ((s->flags & ~(uint32_t)(TSR_SECTION_REQUIRED | TSR_SECTION_EXTERNAL)) && known_kind(s->kind))
      return tsr_fail(e, TSR_CORRUPT, "%s: section %u has unknown flags", a->path, i);
    bool external = s->flags & TSR_SECTION_EXTERNAL;
    if (external && s->kind != TSR_SECTION_weights)
      return tsr_fail(e, TSR_CORRUPT, "%s: section %u may not be external", a->path, i);
    uint64_t align = s->kind == TSR_SECTION_weights ? TSR_MAPPED_ALIGN : TSR_SECTION_ALIGN;
    if (!external && (s->offset % align || s->offset > a->size || s->bytes > a->size - s->offset))
      return tsr_fail(e, TSR_CORRUPT, "%s: section %u (%s) at offset %" PRIu64 " with %" PRIu64 " bytes is not inside the file",
                      a->path, i, kind_name(s->kind), s->offset, s->bytes);
    if (s->kind == TSR_SECTION_strings) {
      if (strings != TSR_NONE) return tsr_fail(e, TSR_CORRUPT, "%s: two string sections", a->path);
      strings = i;
    }
  }
  if (strings == TSR_NONE) return tsr_fail(e, TSR_CORRUPT, "%s: no string section", a->path);
  TSR_TRY(tsr_section_verify(a, strings, e));
  const tsr_section *s = &a->sections[strings];
  if (s->bytes == 0 || s->bytes >= TSR_NONE || a->data[s->offset + s->bytes - 1] != 0)
    return tsr_fail(e, TSR_CORRUPT, "%s: the string section does not end its last string", a->path);
  a->strings = (const char *)a->data + s->offset;
  a->strings_bytes = s->bytes;
  for (uint32_t i = 0; i < a->section_count; i++) {
    s = &a->sections[i];
    if (!known_kind(s->kind)) continue;
    if (s->name >= a->strings_bytes) return tsr_fail(e, TSR_CORRUPT, "%s: section %u: its name is no string", a->path, i);
    if (s->flags & TSR_SECTION_EXTERNAL) TSR_TRY(open_external(a, i, e));
    if (checked_at_open(s->kind)) TSR_TRY(tsr_section_verify(a, i, e));
  }
  return TSR_OK;
}

static tsr_status read_contents(tsr_artifact *a, tsr_error *e) {
  uint32_t programs = 0, targets = TSR_NONE;
  for (uint32_t i = 0; i < a->section_count; i++) {
    const tsr_section *s = &a->sections[i];
    if (s->kind == TSR_SECTION_program) programs++;
    if (s->kind == TSR_SECTION_targets) targets = i;
    if (s->kind != TSR_SECTION_metadata) continue;
    if (s->bytes % sizeof(tsr_meta)) return tsr_fail(e, TSR_CORRUPT, "%s: section %u (metadata) has a broken size", a->path, i);
    a->meta = tsr_section_data(a, i);
    a->meta_count = (uint32_t)(s->bytes / sizeof(tsr_meta));
    for (uint32_t k = 0; k < a->meta_count; k++)
      if (a->meta[k].key >= a->strings_bytes || a->meta[k].value >= a->strings_bytes)
        return tsr_fail(e, TSR_CORRUPT, "%s: section %u (metadata), entry %u: not a string", a->path, i, k);
  }
  if (targets == TSR_NONE || programs == 0)
    return tsr_fail(e, TSR_CORRUPT, "%s: no %s section", a->path, programs ? "target" : "program");
  a->programs = tsr_calloc(programs, sizeof *a->programs);
  if (!a->programs) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  for (uint32_t i = 0; i < a->section_count; i++) {
    if (a->sections[i].kind != TSR_SECTION_program) continue;
    tsr_program *p = &a->programs[a->program_count++];   // counted first: release frees what a failed check made
    TSR_TRY(tsr_check_program(a, i, p, e));
  }
  TSR_TRY(tsr_check_targets(a, targets, &a->targets, e));
  a->executable = tsr_calloc(a->targets.images_count, sizeof *a->executable);
  return a->executable ? TSR_OK : tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
}

// Takes over `a` (with data and size set): on failure everything is given back.
static tsr_status finish_open(tsr_artifact *a, const tsr_open_options *o, tsr_error *e, tsr_artifact **out) {
  tsr_status s = check_header(a, e);
  if (s == TSR_OK) {
    a->checked = tsr_calloc(a->section_count, sizeof *a->checked);
    a->external = tsr_calloc(a->section_count, sizeof *a->external);
    if (o->weights_folder) {
      free(a->folder);
      a->folder = strdup(o->weights_folder);
    }
    if (!a->checked || !a->external || (o->weights_folder && !a->folder)) s = tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  }
  if (s == TSR_OK) s = check_sections(a, e);
  if (s == TSR_OK) s = read_contents(a, e);
  if (s == TSR_OK && o->verify) s = tsr_artifact_verify(a, e);
  if (s != TSR_OK) {
    tsr_artifact_release(a);
    return s;
  }
  *out = a;
  return TSR_OK;
}

static tsr_artifact *new_artifact(const char *path) {
  tsr_artifact *a = tsr_calloc(1, sizeof *a);
  if (!a) return NULL;
  atomic_init(&a->refs, 1);
  a->fd = -1;
  pthread_mutex_init(&a->lock, NULL);
  a->path = strdup(path);
  if (a->path) return a;
  tsr_artifact_release(a);
  return NULL;
}

tsr_status tsr_artifact_open(const char *path, const tsr_open_options *options, tsr_error *e, tsr_artifact **out) {
  tsr_open_options o;
  if (!path || !out || !tsr_options(&o, sizeof o, options)) return tsr_fail(e, TSR_INVALID, "tsr_artifact_open: bad arguments");
  tsr_artifact *a = new_artifact(path);
  if (!a) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  const char *slash = strrchr(path, '/');
  a->folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
  a->fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  tsr_status s = TSR_OK;
  if (a->fd < 0 || fstat(a->fd, &st) != 0)
    s = tsr_fail(e, errno == ENOENT ? TSR_NOT_FOUND : TSR_IO, "cannot open %s: %s", path, strerror(errno));
  else if (!S_ISREG(st.st_mode)) s = tsr_fail(e, TSR_IO, "%s is not a regular file", path);
  else if (st.st_size < (off_t)sizeof(tsr_header))
    s = tsr_fail(e, TSR_CORRUPT, "%s: %lld bytes are too few for an artifact", path, (long long)st.st_size);
  if (s == TSR_OK) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, a->fd, 0);
    if (p == MAP_FAILED) s = tsr_fail(e, TSR_IO, "cannot map %s: %s", path, strerror(errno));
    else a->mapped = p, a->data = p, a->size = (size_t)st.st_size;
  }
  if (s != TSR_OK) {
    tsr_artifact_release(a);
    return s;
  }
  return finish_open(a, &o, e, out);
}

tsr_status tsr_artifact_open_memory(const void *data, size_t bytes, const tsr_open_options *options, tsr_error *e,
                                    tsr_artifact **out) {
  tsr_open_options o;
  if (!data || !out || !tsr_options(&o, sizeof o, options))
    return tsr_fail(e, TSR_INVALID, "tsr_artifact_open_memory: bad arguments");
  tsr_artifact *a = new_artifact("memory");
  if (!a) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  a->data = data;
  a->size = bytes;
  if ((uintptr_t)data % TSR_SECTION_ALIGN) {   // records and kernels want aligned data
    size_t room = (bytes + TSR_SECTION_ALIGN) & ~(size_t)(TSR_SECTION_ALIGN - 1);
    a->copied = aligned_alloc(TSR_SECTION_ALIGN, room);
    if (!a->copied) {
      tsr_artifact_release(a);
      return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
    }
    memcpy(a->copied, data, bytes);
    a->data = a->copied;
  }
  return finish_open(a, &o, e, out);
}

tsr_artifact *tsr_artifact_retain(tsr_artifact *a) {
  if (a) atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
  return a;
}

void tsr_artifact_release(tsr_artifact *a) {
  if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1) return;
  for (uint32_t i = 0; a->executable && i < a->targets.images_count; i++)
    if (a->executable[i]) munmap(a->executable[i], a->sections[a->targets.images[i].section].bytes);
  for (uint32_t i = 0; a->external && i < a->section_count; i++)
    if (a->external[i].data) munmap(a->external[i].data, a->external[i].size);
  for (uint32_t i = 0; i < a->program_count; i++) free(a->programs[i].views);
  free(a->programs);
  free(a->executable);
  free(a->external);
  free(a->checked);
  if (a->mapped) munmap(a->mapped, a->size);
  free(a->copied);
  if (a->fd >= 0) close(a->fd);
  free(a->folder);
  free(a->path);
  pthread_mutex_destroy(&a->lock);
  free(a);
}

tsr_status tsr_artifact_verify(tsr_artifact *a, tsr_error *e) {
  if (!a) return tsr_fail(e, TSR_INVALID, "tsr_artifact_verify: no artifact");
  for (uint32_t i = 0; i < a->section_count; i++) {
    atomic_store(&a->checked[i], 0);   // read again, whatever was read before
    TSR_TRY(tsr_section_verify(a, i, e));
  }
  return TSR_OK;
}

const char *tsr_artifact_metadata(const tsr_artifact *a, const char *key) {
  for (uint32_t i = 0; a && key && i < a->meta_count; i++)
    if (strcmp(tsr_string(a, a->meta[i].key), key) == 0) return tsr_string(a, a->meta[i].value);
  return NULL;
}

tsr_status tsr_artifact_section(const tsr_artifact *a, const char *name, const void **data, size_t *bytes) {
  if (!a || !name || !data || !bytes) return TSR_INVALID;
  for (uint32_t i = 0; i < a->section_count; i++) {
    const tsr_section *s = &a->sections[i];
    bool manifest = s->kind == TSR_SECTION_manifest && strcmp(name, "manifest") == 0;
    if (!manifest && (s->kind != TSR_SECTION_blob || strcmp(tsr_string(a, s->name), name) != 0)) continue;
    TSR_TRY(tsr_section_verify((tsr_artifact *)(uintptr_t)a, i, NULL));   // only its atomic marks change
    *data = tsr_section_data(a, i);
    *bytes = s->bytes;
    return TSR_OK;
  }
  return TSR_NOT_FOUND;
}

const tsr_program *tsr_program_of(const tsr_artifact *a, uint32_t section) {
  for (uint32_t i = 0; i < a->program_count; i++)
    if (a->programs[i].section == section) return &a->programs[i];
  return NULL;
}

const tsr_program *tsr_first_program(const tsr_artifact *a) {
  return a->targets.targets_count ? tsr_program_of(a, a->targets.targets[0].program) : &a->programs[0];
}

uint32_t tsr_find_function(const tsr_program *p, const char *name) {
  for (uint32_t i = 0; i < p->functions_count; i++)
    if (strcmp(tsr_string(p->artifact, p->functions[i].name), name) == 0) return i;
  return TSR_NONE;
}

size_t tsr_artifact_count(const tsr_artifact *a, tsr_kind kind) {
  if (!a) return 0;
  const tsr_program *p = tsr_first_program(a);
  switch (kind) {
    case TSR_FUNCTIONS: return p->functions_count;
    case TSR_DIMS: return p->dims_count;
    case TSR_STATES: return p->states_count;
    case TSR_KERNELS: return p->kernels_count;
    case TSR_TARGETS: return a->targets.targets_count;
    case TSR_METADATA: return a->meta_count;
    case TSR_SECTIONS: return a->section_count;
  }
  return 0;
}

const char *tsr_artifact_name(const tsr_artifact *a, tsr_kind kind, size_t i) {
  if (i >= tsr_artifact_count(a, kind)) return NULL;
  const tsr_program *p = tsr_first_program(a);
  switch (kind) {
    case TSR_FUNCTIONS: return tsr_string(a, p->functions[i].name);
    case TSR_DIMS: return tsr_string(a, p->dims[i].name);
    case TSR_STATES: return tsr_string(a, p->states[i].name);
    case TSR_KERNELS: return tsr_string(a, p->kernels[i].name);
    case TSR_TARGETS: return tsr_string(a, a->targets.targets[i].name);
    case TSR_METADATA: return tsr_string(a, a->meta[i].key);
    case TSR_SECTIONS: return a->sections[i].kind == TSR_SECTION_manifest ? "manifest" : tsr_string(a, a->sections[i].name);
  }
  return NULL;
}

tsr_status tsr_artifact_function(const tsr_artifact *a, size_t i, tsr_function_info *out) {
  if (!a || !out) return TSR_INVALID;
  const tsr_program *p = tsr_first_program(a);
  if (i >= p->functions_count) return TSR_NOT_FOUND;
  const tsr_function_view *v = &p->views[i];
  *out = (tsr_function_info){.name = tsr_string(a, p->functions[i].name), .inputs = v->inputs, .outputs = v->outputs,
                             .rows = v->rows != TSR_NONE, .states = (uint32_t)__builtin_popcount(v->states)};
  return TSR_OK;
}

tsr_status tsr_artifact_dim(const tsr_artifact *a, size_t i, tsr_dim_info *out) {
  if (!a || !out) return TSR_INVALID;
  const tsr_program *p = tsr_first_program(a);
  if (i >= p->dims_count) return TSR_NOT_FOUND;
  const tsr_prog_dim *d = &p->dims[i];
  uint32_t ragged = 0;
  for (uint32_t k = 0; k < p->ragged_count; k++)
    if (p->ragged_dims[k] == i) ragged = k + 1;
  *out = (tsr_dim_info){
      tsr_string(a, d->name), d->min, d->max, d->step, d->per == TSR_NONE ? NULL : tsr_string(a, p->dims[d->per].name), ragged};
  return TSR_OK;
}

tsr_status tsr_artifact_value(const tsr_artifact *a, const char *function, tsr_direction direction, size_t i,
                              tsr_value_info *out) {
  if (!a || !function || !out) return TSR_INVALID;
  const tsr_program *p = tsr_first_program(a);
  uint32_t f = tsr_find_function(p, function);
  if (f == TSR_NONE) return TSR_NOT_FOUND;
  const tsr_function_view *view = &p->views[f];
  if (i >= (direction == TSR_INPUT ? view->inputs : view->outputs)) return TSR_NOT_FOUND;
  const tsr_prog_function *pf = &p->functions[f];
  const tsr_prog_value *v = &p->values[pf->value_first + i + (direction == TSR_INPUT ? 0 : view->inputs)];
  tsr_value_info info = {.name = tsr_string(a, v->name), .dtype = v->dtype, .rank = v->rank};
  info.encoding = v->encoding == TSR_NONE ? NULL : tsr_string(a, v->encoding);
  for (uint32_t r = 0; r < v->rank; r++) {
    const tsr_prog_node *n = &p->nodes[pf->node_first + p->refs[v->shape + r]];
    info.shape[r] = n->op == TSR_NODE_const ? n->value : TSR_ANY;
    if (n->op == TSR_NODE_dim) info.dims[r] = tsr_string(a, p->dims[n->a].name);
  }
  *out = info;
  return TSR_OK;
}
