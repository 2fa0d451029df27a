// The artifact writer (see artifact.h). Tables are built in memory; weights, which can be large, stream through one chunk and go
// first, because programs hold their checksums. File order: header, host images, weights, tables, code, blobs, section table.
#include "codegen/artifact.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/map.h"
#include "runtime/tsr_format.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

#define TS_DIAG TS_DIAG_DEFINE
#include "codegen/artifact_diag.def"
#undef TS_DIAG

enum { CHUNK = 1 << 20, WEIGHT_ALIGN = 256 };

typedef struct pair { const char *key, *value; } pair;
typedef struct image { cg_image_kind kind; const void *data; size_t bytes; uint32_t section; } image;
typedef struct blob { const char *name; const void *data; size_t bytes; } blob;
typedef struct weight {
  const char *name;
  uint64_t bytes;
  cg_weight_reader *read;
  void *user;
  bool used;
  uint64_t offset, checksum;
} weight;
typedef struct target {
  cg_target given;
  cg_code *code;      // per kernel of the program
  bool *has;
  uint32_t count;
} target;

struct cg_artifact {
  ts_arena *arena;
  TS_VEC(pair) meta;
  TS_VEC(const ir_launch *) programs;
  TS_VEC(target) targets;
  TS_VEC(image) images;
  TS_VEC(weight) weights;
  TS_VEC(blob) blobs;
  blob manifest;
};

cg_artifact *cg_artifact_new(ts_arena *a) {
  cg_artifact *x = ts_new(a, cg_artifact);
  *x = (cg_artifact){.arena = a};
  return x;
}

void cg_artifact_meta(cg_artifact *a, const char *key, const char *value) {
  for (size_t i = 0; i < a->meta.count; i++)
    if (strcmp(a->meta.data[i].key, key) == 0) {
      a->meta.data[i].value = ts_arena_strdup(a->arena, value);
      return;
    }
  ts_vec_push(a->arena, &a->meta, ((pair){ts_arena_strdup(a->arena, key), ts_arena_strdup(a->arena, value)}));
}

uint32_t cg_artifact_program(cg_artifact *a, const ir_launch *program) {
  ts_vec_push(a->arena, &a->programs, program);
  return (uint32_t)(a->programs.count - 1);
}

uint32_t cg_artifact_target(cg_artifact *a, cg_target given) {
  given.name = ts_arena_strdup(a->arena, given.name);
  uint32_t count = given.program < a->programs.count ? (uint32_t)a->programs.data[given.program]->kernels.count : 0;
  target t = {
      .given = given, .count = count, .code = ts_new_array(a->arena, cg_code, count), .has = ts_new_array(a->arena, bool, count)};
  ts_vec_push(a->arena, &a->targets, t);
  return (uint32_t)(a->targets.count - 1);
}

uint32_t cg_artifact_image(cg_artifact *a, cg_image_kind kind, const void *data, size_t n) {
  for (size_t i = 0; i < a->images.count; i++) {
    const image *m = &a->images.data[i];
    if (m->kind == kind && m->bytes == n && (n == 0 || memcmp(m->data, data, n) == 0)) return (uint32_t)i;
  }
  ts_vec_push(a->arena, &a->images, ((image){kind, data, n, 0}));
  return (uint32_t)(a->images.count - 1);
}

void cg_artifact_code(cg_artifact *a, uint32_t number, uint32_t kernel, cg_code code) {
  if (number >= a->targets.count || kernel >= a->targets.data[number].count)
    return;   // the missing code is reported when writing
  if (code.symbol) code.symbol = ts_arena_strdup(a->arena, code.symbol);
  a->targets.data[number].code[kernel] = code;
  a->targets.data[number].has[kernel] = true;
}

void cg_artifact_weight(cg_artifact *a, const char *name, uint64_t bytes, cg_weight_reader *read, void *user) {
  ts_vec_push(a->arena, &a->weights,
              ((weight){.name = ts_arena_strdup(a->arena, name), .bytes = bytes, .read = read, .user = user}));
}

void cg_artifact_blob(cg_artifact *a, const char *name, const void *data, size_t n) {
  ts_vec_push(a->arena, &a->blobs, ((blob){ts_arena_strdup(a->arena, name), data, n}));
}

void cg_artifact_manifest(cg_artifact *a, const char *json, size_t n) { a->manifest = (blob){"", json, n}; }

// --- Writing -------------------------------------------------------------------------------------------------------------

typedef struct output {
  cg_artifact *a;
  ts_diags *d;
  ts_writer w;
  ts_text strings;
  ts_map string_at;            // hash of a string -> chain of its offsets
  TS_VEC(tsr_section) sections;
  uint32_t weights_section;
  ts_map weight_of;            // interned name -> weight
  ts_interner names;
  uint64_t code_bytes, weight_bytes;
} output;

typedef struct placed {
  uint32_t offset;
  struct placed *next;
} placed;

static ts_status invalid(output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static ts_status invalid(output *o, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  ts_status s = ts_vreport(o->d, (ts_loc){0}, &diag_artifact_invalid, fmt, ap);
  va_end(ap);
  return s;
}

static uint32_t put_string(output *o, const char *z) {
  if (!z) z = "";
  uint64_t key = ts_hash_bytes(z, strlen(z), 0);
  placed *first = ts_map_get(&o->string_at, key);
  for (placed *p = first; p; p = p->next)
    if (strcmp(o->strings.data + p->offset, z) == 0) return p->offset;
  placed *p = ts_new(o->a->arena, placed);
  *p = (placed){(uint32_t)o->strings.len, first};
  ts_text_add(&o->strings, (ts_str){z, strlen(z) + 1});
  ts_map_put(&o->string_at, key, p);
  return p->offset;
}

static uint32_t put_loc(output *o, ts_loc loc) {
  char text[600] = "";
  if (loc.file && loc.line) snprintf(text, sizeof text, "%.500s:%u:%u", loc.file, loc.line, loc.col);
  else if (loc.file) snprintf(text, sizeof text, "%.500s", loc.file);
  return put_string(o, text);
}

static void put(ts_text *table, const void *record, size_t bytes) { ts_text_add(table, (ts_str){record, bytes}); }

// A section whose bytes are at hand. Returns its number.
static uint32_t put_section(output *o, tsr_section_kind kind, const char *name, const void *data, size_t bytes, uint64_t align,
                            bool terminate) {
  ts_writer_pad(&o->w, align);
  tsr_section s = {.kind = kind, .name = put_string(o, name), .offset = o->w.offset, .bytes = bytes + terminate};
  s.flags = kind == TSR_SECTION_manifest || kind == TSR_SECTION_blob ? 0 : TSR_SECTION_REQUIRED;
  tsr_hash h;
  tsr_hash_start(&h);
  tsr_hash_add(&h, data, bytes);
  ts_writer_put(&o->w, data, bytes);
  if (terminate) {
    tsr_hash_add(&h, "", 1);
    ts_writer_put(&o->w, "", 1);
  }
  s.checksum = tsr_hash_end(&h);
  ts_vec_push(o->a->arena, &o->sections, s);
  return (uint32_t)(o->sections.count - 1);
}

// Tables behind a directory, each at a multiple of 8.
static ts_status put_tables(output *o, tsr_section_kind kind, const ts_text *tables, const size_t *records, unsigned count) {
  ts_text all = {0};
  tsr_table directory[32] = {{0}};
  uint64_t at = (count * sizeof(tsr_table) + 7) & ~(uint64_t)7;
  for (unsigned i = 0; i < count; i++) {
    if (at > UINT32_MAX || tables[i].len > UINT32_MAX)
      return ts_report(o->d, (ts_loc){0}, &diag_artifact_size, "a program is over 4 GiB");
    directory[i] = (tsr_table){(uint32_t)at, (uint32_t)(tables[i].len / records[i])};
    at += (tables[i].len + 7) & ~(uint64_t)7;
  }
  put(&all, directory, count * sizeof *directory);
  for (unsigned i = 0; i < count; i++) {
    while (all.len % 8) ts_text_putc(&all, 0);
    put(&all, tables[i].data, tables[i].len);
  }
  put_section(o, kind, "", all.data, all.len, TSR_SECTION_ALIGN, false);
  ts_text_deinit(&all);
  return TS_OK;
}

// --- Weights ---

static ts_status find_weights(output *o) {
  cg_artifact *a = o->a;
  for (size_t i = 0; i < a->weights.count; i++) {
    ts_sym name = ts_intern_z(&o->names, a->weights.data[i].name);
    if (ts_map_get(&o->weight_of, ts_key(name))) return invalid(o, "two weights are named '%s'", name);
    ts_map_put(&o->weight_of, ts_key(name), &a->weights.data[i]);
    a->weights.data[i].used = false;
  }
  uint64_t at = 0;
  for (size_t p = 0; p < a->programs.count; p++)
    for (size_t i = 0; i < a->programs.data[p]->weights.count; i++) {
      const ir_lweight *w = &a->programs.data[p]->weights.data[i];
      weight *bytes = ts_map_get(&o->weight_of, ts_key(ts_intern_z(&o->names, w->name)));
      if (!bytes) return invalid(o, "weight '%s' of program '%s' has no bytes", w->name, a->programs.data[p]->name);
      if (bytes->bytes != w->bytes)
        return invalid(o, "weight '%s' has %" PRIu64 " bytes, program '%s' wants %" PRIu64, w->name, bytes->bytes,
                       a->programs.data[p]->name, w->bytes);
      if (bytes->used) continue;
      bytes->used = true;
      bytes->offset = at = (at + WEIGHT_ALIGN - 1) & ~(uint64_t)(WEIGHT_ALIGN - 1);
      if (__builtin_add_overflow(at, bytes->bytes, &at) || at > (uint64_t)INT64_MAX / 2)
        return ts_report(o->d, (ts_loc){0}, &diag_artifact_size, "the weights are over any file's size");
    }
  for (size_t i = 0; i < a->weights.count; i++)
    if (!a->weights.data[i].used) return invalid(o, "weight '%s' is used by no program", a->weights.data[i].name);
  o->weight_bytes = at;
  return TS_OK;
}

static int by_offset(const void *x, const void *y) {
  const weight *a = *(weight *const *)x, *b = *(weight *const *)y;
  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

// Streams all weights in order, with their padding; `w` may be NULL to compute checksums only.
static ts_status stream_weights(output *o, ts_writer *w, uint64_t *out_checksum) {
  static const char zeros[WEIGHT_ALIGN];
  cg_artifact *a = o->a;
  weight **order = calloc(a->weights.count + 1, sizeof *order);
  char *chunk = malloc(CHUNK);
  ts_status s = order && chunk ? TS_OK : ts_report(o->d, (ts_loc){0}, &diag_artifact_size, "out of memory");
  for (size_t i = 0; i < a->weights.count && s == TS_OK; i++) order[i] = &a->weights.data[i];
  if (s == TS_OK) qsort(order, a->weights.count, sizeof *order, by_offset);
  tsr_hash all;
  tsr_hash_start(&all);
  uint64_t at = 0;
  for (size_t i = 0; i < a->weights.count && s == TS_OK; i++) {
    weight *x = order[i];
    size_t pad = (size_t)(x->offset - at);
    tsr_hash_add(&all, zeros, pad);
    if (w) ts_writer_put(w, zeros, pad);
    tsr_hash own;
    tsr_hash_start(&own);
    for (uint64_t k = 0; k < x->bytes && s == TS_OK; k += CHUNK) {
      size_t n = x->bytes - k < CHUNK ? (size_t)(x->bytes - k) : CHUNK;
      s = x->read(x->user, k, chunk, n, o->d);
      if (s != TS_OK) break;
      tsr_hash_add(&own, chunk, n);
      tsr_hash_add(&all, chunk, n);
      if (w) ts_writer_put(w, chunk, n);
    }
    x->checksum = tsr_hash_end(&own);
    at = x->offset + x->bytes;
  }
  *out_checksum = tsr_hash_end(&all);
  free(order);
  free(chunk);
  return s;
}

static ts_status put_weights(output *o, const char *path, bool external) {
  tsr_section s = {.kind = TSR_SECTION_weights, .flags = TSR_SECTION_REQUIRED, .bytes = o->weight_bytes};
  o->weights_section = (uint32_t)o->sections.count;
  if (o->weight_bytes == 0 && o->a->weights.count == 0) return TS_OK;
  if (!external || o->weight_bytes == 0) {
    ts_writer_pad(&o->w, TSR_MAPPED_ALIGN);
    s.name = put_string(o, "weights");
    s.offset = o->w.offset;
    TS_TRY(stream_weights(o, &o->w, &s.checksum));
  } else {
    TS_TRY(stream_weights(o, NULL, &s.checksum));   // the name is the contents' hash
    const char *name = ts_arena_printf(o->a->arena, "%016" PRIx64 ".tsrw", s.checksum);
    const char *folder = ts_arena_strndup(o->a->arena, ts_path_folder(path).data, ts_path_folder(path).len);
    uint64_t again;
    ts_writer w;
    TS_TRY(ts_writer_open(&w, ts_path_join(o->a->arena, folder, name), o->d));
    ts_status status = stream_weights(o, &w, &again);
    if (status == TS_OK && again != s.checksum) status = invalid(o, "the weights changed while they were written");
    if (status != TS_OK) {
      ts_writer_abort(&w);
      return status;
    }
    TS_TRY(ts_writer_commit(&w, true, o->d, NULL));
    s.name = put_string(o, name);
    s.flags |= TSR_SECTION_EXTERNAL;
  }
  ts_vec_push(o->a->arena, &o->sections, s);
  return TS_OK;
}

// --- Programs ---

static const uint32_t node_codes[IR_L_COUNT] = {
  [IR_L_const] = TSR_NODE_const,
#define IR_LAUNCH_LEAF(id, text, args) [IR_L_##id] = TSR_NODE_##id,
#define IR_LAUNCH_OP(id, text, infix) [IR_L_##id] = TSR_NODE_##id,
#include "ir/launch.def"
#undef IR_LAUNCH_LEAF
#undef IR_LAUNCH_OP
};
static const uint32_t buffer_codes[IR_LB_COUNT] = {
#define IR_LAUNCH_BUFFER(id, args) [IR_LB_##id] = TSR_BUFFER_##id,
#include "ir/launch.def"
#undef IR_LAUNCH_BUFFER
};
static const uint32_t step_codes[] = {
#define STEP(id, code) [IR_LS_##id] = TSR_STEP_##id,
  TSR_STEP_KINDS(STEP)
#undef STEP
};

#define INDEX(id, type) P_##id,
#define SIZE(id, type) sizeof(type),
enum { TSR_PROGRAM_TABLES(INDEX) P_COUNT };
enum { TSR_TARGET_TABLES(INDEX) T_COUNT };

typedef struct tables { ts_text t[P_COUNT]; } tables;
#define COUNT_OF(x, id, type) ((uint32_t)((x)->t[P_##id].len / sizeof(type)))

static void put_refs(tables *x, const ir_lexpr *e, size_t n) { put(&x->t[P_refs], e, n * sizeof *e); }

static uint32_t put_arg(tables *x, ir_larg a) {
  tsr_prog_arg r = {a.buffer, a.offset};
  put(&x->t[P_args], &r, sizeof r);
  return COUNT_OF(x, args, tsr_prog_arg) - 1;
}

static void put_values(output *o, tables *x, const ir_lfunction *f, bool outputs) {
  for (size_t i = 0; i < f->values.count; i++) {
    const ir_lvalue *v = &f->values.data[i];
    if (v->output != outputs) continue;
    tsr_prog_value r = {.name = put_string(o, v->name),
                        .encoding = v->encoding ? put_string(o, v->encoding) : TSR_NONE,
                        .loc = put_loc(o, v->loc),
                        .output = v->output,
                        .dtype = ir_dtype_get(v->type)->code,
                        .rank = v->rank,
                        .shape = COUNT_OF(x, refs, uint32_t),
                        .bytes = v->bytes};
    put(&x->t[P_values], &r, sizeof r);
    put_refs(x, v->shape, v->rank);
  }
}

static void put_step(output *o, tables *x, const ir_lstep *s) {
  tsr_prog_step r = {.kind = step_codes[s->kind], .loc = put_loc(o, s->loc)};
  switch (s->kind) {
    case IR_LS_launch:
      r.first = COUNT_OF(x, variants, tsr_prog_variant);
      r.count = (uint32_t)s->variants.count;
      for (size_t i = 0; i < s->variants.count; i++) {
        const ir_lvariant *v = &s->variants.data[i];
        tsr_prog_variant t = {.guard = v->guard, .kernel = v->kernel, .grid = {v->grid[0], v->grid[1], v->grid[2]},
                              .arg_first = COUNT_OF(x, args, tsr_prog_arg), .arg_count = (uint32_t)v->args.count,
                              .size_first = COUNT_OF(x, refs, uint32_t), .size_count = (uint32_t)v->sizes.count};
        for (size_t k = 0; k < v->args.count; k++) put_arg(x, v->args.data[k]);
        put_refs(x, v->sizes.data, v->sizes.count);
        put(&x->t[P_variants], &t, sizeof t);
      }
      break;
    case IR_LS_copy:
      r.first = put_arg(x, s->dst);
      put_arg(x, s->src);
      r.a = s->bytes;
      break;
    case IR_LS_fill: r.first = put_arg(x, s->dst), r.a = s->bytes, r.b = s->pattern; break;
    case IR_LS_require: r.a = s->condition, r.b = put_string(o, s->text); break;
    case IR_LS_advance: r.a = s->state, r.b = s->dim, r.first = s->dim == IR_LNONE ? s->by : TSR_NONE; break;
  }
  put(&x->t[P_steps], &r, sizeof r);
}

static void put_function(output *o, tables *x, const ir_lfunction *f) {
  tsr_prog_function r = {.name = put_string(o, f->name), .loc = put_loc(o, f->loc),
                         .node_first = COUNT_OF(x, nodes, tsr_prog_node), .node_count = (uint32_t)f->nodes.count,
                         .value_first = COUNT_OF(x, values, tsr_prog_value), .value_count = (uint32_t)f->values.count,
                         .buffer_first = COUNT_OF(x, buffers, tsr_prog_buffer), .buffer_count = (uint32_t)f->buffers.count,
                         .step_first = COUNT_OF(x, steps, tsr_prog_step), .step_count = (uint32_t)f->steps.count};
  for (size_t i = 0; i < f->nodes.count; i++) {
    const ir_lnode *n = &f->nodes.data[i];
    tsr_prog_node t = {.op = node_codes[n->op], .a = n->a, .b = n->b, .value = n->value};
    put(&x->t[P_nodes], &t, sizeof t);
  }
  put_values(o, x, f, false);
  put_values(o, x, f, true);
  for (size_t i = 0; i < f->buffers.count; i++) {
    const ir_lbuffer *b = &f->buffers.data[i];
    bool workspace = b->kind == IR_LB_workspace;
    tsr_prog_buffer t = {
        buffer_codes[b->kind], b->a, b->b, workspace ? b->bytes : TSR_NONE, workspace ? b->first : 0, workspace ? b->last : 0,
        put_string(o, b->name)};
    put(&x->t[P_buffers], &t, sizeof t);
  }
  for (size_t i = 0; i < f->steps.count; i++) put_step(o, x, &f->steps.data[i]);
  put(&x->t[P_functions], &r, sizeof r);
}

static void put_state(output *o, tables *x, const ir_lstate *s) {
  tsr_prog_state r = {.name = put_string(o, s->name),
                      .rows = s->rows,
                      .page = s->page,
                      .list_first = COUNT_OF(x, lists, tsr_prog_list),
                      .list_count = (uint32_t)s->lists.count,
                      .pool_first = COUNT_OF(x, pools, tsr_prog_pool),
                      .pool_count = (uint32_t)s->pools.count,
                      .max_length = s->max_length};
  for (size_t i = 0; i < s->lists.count; i++) {
    tsr_prog_list t = {put_string(o, s->lists.data[i].name), 1 + (uint32_t)s->lists.data[i].kind};
    put(&x->t[P_lists], &t, sizeof t);
  }
  for (size_t i = 0; i < s->pools.count; i++) {
    const ir_lpool *q = &s->pools.data[i];
    tsr_prog_pool t = {.name = put_string(o, q->name),
                       .type = put_string(o, q->type),
                       .list = q->list,
                       .layers = q->layers,
                       .zero = q->zero,
                       .page_bytes = q->page_bytes};
    put(&x->t[P_pools], &t, sizeof t);
  }
  put(&x->t[P_states], &r, sizeof r);
}

static ts_status put_program(output *o, const ir_launch *p) {
  static const size_t records[] = {TSR_PROGRAM_TABLES(SIZE)};
  tables x = {0};
  tsr_prog_info info = {put_string(o, p->name), put_string(o, p->device_class)};
  put(&x.t[P_info], &info, sizeof info);
  for (size_t i = 0; i < p->dims.count; i++) {
    const ir_ldim *d = &p->dims.data[i];
    tsr_prog_dim r = {put_string(o, d->name), d->per, d->min, d->max, d->step};
    put(&x.t[P_dims], &r, sizeof r);
  }
  for (size_t i = 0; i < p->weights.count; i++) {
    const weight *w = ts_map_get(&o->weight_of, ts_key(ts_intern_z(&o->names, p->weights.data[i].name)));
    tsr_prog_weight r = {put_string(o, w->name), o->weights_section, w->offset, w->bytes, w->checksum};
    put(&x.t[P_weights], &r, sizeof r);
  }
  for (size_t i = 0; i < p->states.count; i++) put_state(o, &x, p->states.data[i]);
  for (size_t i = 0; i < p->kernels.count; i++) {
    const ir_lkernel *k = p->kernels.data[i];
    tsr_prog_kernel r = {put_string(o, k->name), k->pointers, k->sizes, COUNT_OF(&x, raises, tsr_prog_raise),
                         (uint32_t)k->raises.count};
    for (size_t n = 0; n < k->raises.count; n++) {
      tsr_prog_raise t = {put_string(o, k->raises.data[n].text), put_loc(o, k->raises.data[n].loc)};
      put(&x.t[P_raises], &t, sizeof t);
    }
    put(&x.t[P_kernels], &r, sizeof r);
  }
  for (size_t i = 0; i < p->functions.count; i++) put_function(o, &x, p->functions.data[i]);
  ts_status s = put_tables(o, TSR_SECTION_program, x.t, records, P_COUNT);
  for (int i = 0; i < P_COUNT; i++) ts_text_deinit(&x.t[i]);
  return s;
}

// --- Targets ---

typedef struct level { uint32_t device_class, level, features; } level;

static bool target_level(const char *name, level *out) {
#define LEVEL(text, rank, features) {"host:" text, {TSR_CLASS_HOST, rank, features}},
  static const struct {
    const char *name;
    level level;
  } levels[] = {TSR_HOST_LEVELS(LEVEL)};
#undef LEVEL
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
    if (strcmp(levels[i].name, name) == 0) {
      *out = levels[i].level;
      return true;
    }
  char *end;
  if (strncmp(name, "sm_", 3) != 0 || !isdigit((unsigned char)name[3])) return false;
  unsigned long sm = strtoul(name + 3, &end, 10);
  if ((*end && strcmp(end, "a") != 0) || sm > 10000) return false;
  *out = (level){TSR_CLASS_CUDA, (uint32_t)sm, 0};
  return true;
}

static ts_status check_image(output *o, const image *m, size_t number) {
  if (m->bytes == 0) return invalid(o, "image %zu is empty", number);
  if (m->kind != CG_IMAGE_HOST) return TS_OK;
  tsr_host_image h;
  if (m->bytes < sizeof h) return invalid(o, "image %zu is too small for a host image", number);
  memcpy(&h, m->data, sizeof h);
  if (h.magic != TSR_IMAGE_MAGIC || h.count > (m->bytes - sizeof h) / 4)
    return invalid(o, "image %zu does not start with a table of entries", number);
  for (uint32_t i = 0; i < h.count; i++) {
    uint32_t entry;
    memcpy(&entry, (const char *)m->data + sizeof h + 4 * (size_t)i, 4);
    if (entry < sizeof h + 4 * (size_t)h.count || entry >= m->bytes)
      return invalid(o, "image %zu: entry %u is outside", number, i);
  }
  return TS_OK;
}

static ts_status check_code(output *o, const target *t, uint32_t kernel, bool host) {
  const cg_artifact *a = o->a;
  const ir_launch *p = a->programs.data[t->given.program];
  const cg_code *c = &t->code[kernel];
  const char *name = p->kernels.data[kernel]->name;
  if (!t->has[kernel]) return invalid(o, "kernel '%s' has no code for target %s", name, t->given.name);
  if ((c->image != IR_LNONE && c->image >= a->images.count) || (c->ptx != IR_LNONE && c->ptx >= a->images.count))
    return invalid(o, "kernel '%s', target %s: no such image", name, t->given.name);
  const image *m = c->image == IR_LNONE ? NULL : &a->images.data[c->image];
  if ((m && m->kind != (host ? CG_IMAGE_HOST : CG_IMAGE_CUBIN)) ||
      (c->ptx != IR_LNONE && (host || a->images.data[c->ptx].kind != CG_IMAGE_PTX)))
    return invalid(o, "kernel '%s', target %s: an image of the wrong kind", name, t->given.name);
  if (host && m) {
    tsr_host_image h;
    memcpy(&h, m->data, sizeof h);
    if (c->entry >= h.count)
      return invalid(o, "kernel '%s', target %s: the image has %u entries, not %u", name, t->given.name, h.count, c->entry + 1);
  }
  uint64_t threads = (uint64_t)c->threads[0] * c->threads[1] * c->threads[2];
  if (!host && (threads == 0 || threads > 1024))
    return invalid(o, "kernel '%s', target %s: a block has 1 to 1024 threads", name, t->given.name);
  if (host && c->scratch > 1u << 30) return invalid(o, "kernel '%s', target %s: over 1 GiB of scratch", name, t->given.name);
  return TS_OK;
}

static ts_status check_same_dims(output *o, const ir_launch *p, const ir_launch *q) {
  bool same = p->dims.count == q->dims.count && p->functions.count == q->functions.count;
  for (size_t i = 0; same && i < p->dims.count; i++) {
    const ir_ldim *x = &p->dims.data[i], *y = &q->dims.data[i];
    same = strcmp(x->name, y->name) == 0 && x->min == y->min && x->max == y->max && x->step == y->step && x->per == y->per;
  }
  for (size_t i = 0; same && i < p->functions.count; i++)
    same = strcmp(p->functions.data[i]->name, q->functions.data[i]->name) == 0;
  return same ? TS_OK : invalid(o, "programs '%s' and '%s' differ in their dims or functions", p->name, q->name);
}

static ts_status check_parts(output *o) {
  cg_artifact *a = o->a;
  if (a->programs.count == 0 || a->targets.count == 0) return invalid(o, "an artifact needs a program and a target");
  for (size_t i = 0; i < a->programs.count; i++) {
    TS_TRY(ir_launch_verify(a->programs.data[i], o->d));
    if (i) TS_TRY(check_same_dims(o, a->programs.data[0], a->programs.data[i]));
    bool used = false;
    for (size_t t = 0; t < a->targets.count; t++) used |= a->targets.data[t].given.program == i;
    if (!used)
      return invalid(o, "program '%s' for %s has no target", a->programs.data[i]->name, a->programs.data[i]->device_class);
  }
  for (size_t i = 0; i < a->images.count; i++) TS_TRY(check_image(o, &a->images.data[i], i));
  for (size_t i = 0; i < a->targets.count; i++) {
    const target *t = &a->targets.data[i];
    level l;
    if (t->given.program >= a->programs.count) return invalid(o, "target %s has no program", t->given.name);
    if (!target_level(t->given.name, &l)) return invalid(o, "target '%s' is neither host:LEVEL nor sm_NN", t->given.name);
    if (strcmp(a->programs.data[t->given.program]->device_class, l.device_class == TSR_CLASS_HOST ? "host" : "cuda") != 0)
      return invalid(o, "target %s runs a program for %s", t->given.name, a->programs.data[t->given.program]->device_class);
    for (size_t k = 0; k < i; k++)
      if (strcmp(a->targets.data[k].given.name, t->given.name) == 0) return invalid(o, "two targets are named %s", t->given.name);
    for (uint32_t k = 0; k < t->count; k++) TS_TRY(check_code(o, t, k, l.device_class == TSR_CLASS_HOST));
  }
  return TS_OK;
}

static ts_status put_targets(output *o, const uint32_t *program_sections) {
  static const size_t records[] = {TSR_TARGET_TABLES(SIZE)};
  cg_artifact *a = o->a;
  ts_text t[T_COUNT] = {{0}};
  for (size_t i = 0; i < a->targets.count; i++) {
    const target *x = &a->targets.data[i];
    level l = {0};
    target_level(x->given.name, &l);
    tsr_target r = {put_string(o, x->given.name),
                    l.device_class,
                    l.level,
                    l.features,
                    program_sections[x->given.program],
                    x->given.driver,
                    (uint32_t)(t[P_code].len / sizeof(tsr_code)),
                    x->count};
    put(&t[P_targets], &r, sizeof r);
    bool host = l.device_class == TSR_CLASS_HOST;
    for (uint32_t k = 0; k < x->count; k++) {
      const cg_code *c = &x->code[k];
      const char *symbol = c->symbol ? c->symbol : a->programs.data[x->given.program]->kernels.data[k]->name;
      tsr_code code = {.image = c->image, .ptx = c->ptx, .entry = host ? c->entry : put_string(o, symbol)};
      if (host) code.scratch = c->scratch, code.ptx = TSR_NONE;
      else memcpy(code.threads, c->threads, sizeof code.threads), code.shared = c->shared;
      put(&t[P_code], &code, sizeof code);
    }
  }
  for (size_t i = 0; i < a->images.count; i++) {
    tsr_image m = {(uint32_t)a->images.data[i].kind, a->images.data[i].section};
    put(&t[P_images], &m, sizeof m);
  }
  ts_status s = put_tables(o, TSR_SECTION_targets, t, records, T_COUNT);
  for (int i = 0; i < T_COUNT; i++) ts_text_deinit(&t[i]);
  return s;
}

static void put_images(output *o, bool host) {
  for (size_t i = 0; i < o->a->images.count; i++) {
    image *m = &o->a->images.data[i];
    if ((m->kind == CG_IMAGE_HOST) != host) continue;
    bool terminate = m->kind == CG_IMAGE_PTX && ((const char *)m->data)[m->bytes - 1] != 0;   // drivers want C strings
    m->section = put_section(o, TSR_SECTION_image, "", m->data, m->bytes, host ? TSR_MAPPED_ALIGN : TSR_SECTION_ALIGN, terminate);
    o->code_bytes += m->bytes;
  }
}

static int by_key(const void *x, const void *y) { return strcmp(*(const char *const *)x, *(const char *const *)y); }

static ts_status put_blobs(output *o) {
  cg_artifact *a = o->a;
  if (a->blobs.count) qsort(a->blobs.data, a->blobs.count, sizeof *a->blobs.data, by_key);
  if (a->meta.count) qsort(a->meta.data, a->meta.count, sizeof *a->meta.data, by_key);
  ts_text meta = {0};
  for (size_t i = 0; i < a->meta.count; i++) {
    tsr_meta m = {put_string(o, a->meta.data[i].key), put_string(o, a->meta.data[i].value)};
    put(&meta, &m, sizeof m);
  }
  put_section(o, TSR_SECTION_metadata, "", meta.data, meta.len, TSR_SECTION_ALIGN, false);
  ts_text_deinit(&meta);
  if (a->manifest.data) put_section(o, TSR_SECTION_manifest, "", a->manifest.data, a->manifest.bytes, TSR_SECTION_ALIGN, false);
  for (size_t i = 0; i < a->blobs.count; i++) {
    if (i && strcmp(a->blobs.data[i].name, a->blobs.data[i - 1].name) == 0)
      return invalid(o, "two blobs are named '%s'", a->blobs.data[i].name);
    put_section(o, TSR_SECTION_blob, a->blobs.data[i].name, a->blobs.data[i].data, a->blobs.data[i].bytes, TSR_SECTION_ALIGN,
                false);
  }
  return TS_OK;
}

static ts_status put_all(output *o, const char *path, const cg_artifact_options *options) {
  cg_artifact *a = o->a;
  tsr_header h = {.magic = TSR_MAGIC, .major = TSR_FORMAT_MAJOR, .minor = TSR_FORMAT_MINOR};
  ts_writer_put(&o->w, &h, sizeof h);
  put_string(o, "");
  put_images(o, true);
  TS_TRY(put_weights(o, path, options && options->external_weights));
  uint32_t *program_sections = ts_new_array(a->arena, uint32_t, a->programs.count);
  for (size_t i = 0; i < a->programs.count; i++) {
    program_sections[i] = (uint32_t)o->sections.count;
    TS_TRY(put_program(o, a->programs.data[i]));
  }
  put_images(o, false);
  TS_TRY(put_targets(o, program_sections));
  TS_TRY(put_blobs(o));
  if (o->strings.len >= TSR_NONE || o->sections.count >= TSR_MAX_SECTIONS)
    return ts_report(o->d, (ts_loc){0}, &diag_artifact_size, "too many strings or sections");
  put_section(o, TSR_SECTION_strings, "", o->strings.data, o->strings.len, TSR_SECTION_ALIGN, false);
  ts_writer_pad(&o->w, TSR_SECTION_ALIGN);
  h.table_offset = o->w.offset;
  h.section_count = (uint32_t)o->sections.count;
  h.table_checksum = tsr_checksum(o->sections.data, o->sections.count * sizeof *o->sections.data);
  ts_writer_put(&o->w, o->sections.data, o->sections.count * sizeof *o->sections.data);
  h.file_bytes = o->w.offset;
  h.checksum = tsr_checksum(&h, offsetof(tsr_header, checksum));
  ts_writer_patch(&o->w, 0, &h, sizeof h);
  return TS_OK;
}

ts_status cg_artifact_write(cg_artifact *a, const char *path, const cg_artifact_options *options, ts_diags *d,
                            cg_artifact_report *out) {
  output o = {.a = a, .d = d};
  ts_interner_init(&o.names, a->arena);
  ts_status s = check_parts(&o);
  if (s == TS_OK) s = find_weights(&o);
  if (s == TS_OK) s = ts_writer_open(&o.w, path, d);
  if (s == TS_OK) {
    s = put_all(&o, path, options);
    cg_artifact_report report = {.bytes = o.w.offset, .weight_bytes = o.weight_bytes, .code_bytes = o.code_bytes};
    if (s == TS_OK) s = ts_writer_commit(&o.w, true, d, &report.changed);
    else ts_writer_abort(&o.w);
    if (s == TS_OK && out) *out = report;
  }
  ts_text_deinit(&o.strings);
  ts_map_deinit(&o.string_at);
  ts_map_deinit(&o.weight_of);
  ts_interner_deinit(&o.names);
  return s;
}
