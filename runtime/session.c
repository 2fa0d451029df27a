// Sessions: limits, memory, weights on the device, binding. What a call does is in run.c.
#include "runtime/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static tsr_status out_of_memory(tsr_error *e) { return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory"); }

static uint64_t round_up(uint64_t v, uint64_t align) { return (v + align - 1) & ~(align - 1); }

// --- Weights -------------------------------------------------------------------------------------------------------------

// Copies a weight while its checksum is computed, a chunk at a time so that both passes meet in cache.
static tsr_status upload(tsr_device *d, const tsr_artifact *a, const tsr_prog_weight *w, unsigned char *to, tsr_error *e) {
  enum { CHUNK = 1 << 20 };
  const unsigned char *from = (const unsigned char *)tsr_section_data(a, w->section) + w->offset;
  tsr_hash h;
  tsr_hash_start(&h);
  for (uint64_t at = 0; at < w->bytes; at += CHUNK) {
    size_t n = w->bytes - at < CHUNK ? (size_t)(w->bytes - at) : CHUNK;
    tsr_hash_add(&h, from + at, n);
    if (d->ops->write(d, to + at, from + at, n, NULL) != TSR_OK)
      return tsr_fail(e, TSR_DEVICE_LOST, "copying weight '%.60s' failed", tsr_string(a, w->name));
  }
  if (tsr_hash_end(&h) == w->checksum) return TSR_OK;
  return tsr_fail(e, TSR_CORRUPT, "%s: weight '%.60s': its checksum does not match; the file is damaged", a->path,
                  tsr_string(a, w->name));
}

static tsr_status make_weights(tsr_device *d, const tsr_program *p, bool copied, tsr_error *e, tsr_weights **out) {
  const tsr_artifact *a = p->artifact;
  tsr_weights *w = tsr_calloc(1, sizeof *w);
  if (!w) return out_of_memory(e);
  *w = (tsr_weights){
      .device = d, .program = p, .copied = copied, .refs = 1, .bases = tsr_calloc(p->weights_count, sizeof *w->bases)};
  tsr_status s = w->bases ? TSR_OK : out_of_memory(e);
  for (uint32_t i = 0; i < p->weights_count && s == TSR_OK; i++) {
    if (copied) w->block_bytes += round_up(p->weights[i].bytes, 256);   // cannot overflow: all are parts of files
    else w->bases[i] = (const unsigned char *)tsr_section_data(a, p->weights[i].section) + p->weights[i].offset;
  }
  if (s == TSR_OK && copied && w->block_bytes) {
    s = d->ops->allocate(d, w->block_bytes, false, &w->block);
    if (s != TSR_OK) tsr_fail(e, s, "no memory for %zu bytes of weights on %s", w->block_bytes, d->name);
    uint64_t at = 0;
    for (uint32_t i = 0; i < p->weights_count && s == TSR_OK; i++) {
      w->bases[i] = (unsigned char *)w->block + at;
      s = upload(d, a, &p->weights[i], (unsigned char *)w->block + at, e);
      at += round_up(p->weights[i].bytes, 256);
    }
  }
  if (s == TSR_OK) {
    *out = w;
    return TSR_OK;
  }
  if (w->block) d->ops->release(d, w->block, w->block_bytes);
  free(w->bases);
  free(w);
  return s;
}

static tsr_status take_weights(tsr_session *s, bool copied, tsr_error *e) {
  tsr_artifact *a = s->artifact;
  tsr_status status = TSR_OK;
  pthread_mutex_lock(&a->lock);
  tsr_weights *w = a->weights;
  while (w && !(w->device == s->device && w->program == s->program && w->copied == copied)) w = w->next;
  if (w) {
    w->refs++;
  } else {
    status = make_weights(s->device, s->program, copied, e, &w);
    if (status == TSR_OK) w->next = a->weights, a->weights = w;
  }
  pthread_mutex_unlock(&a->lock);
  if (status == TSR_OK) s->weights = w;
  return status;
}

static void drop_weights(tsr_session *s) {
  tsr_artifact *a = s->artifact;
  tsr_weights *w = s->weights;
  if (!w) return;
  pthread_mutex_lock(&a->lock);
  if (--w->refs == 0) {
    tsr_weights **at = &a->weights;
    while (*at != w) at = &(*at)->next;
    *at = w->next;
    if (w->block) s->device->ops->release(s->device, w->block, w->block_bytes);
    free(w->bases);
    free(w);
  }
  pthread_mutex_unlock(&a->lock);
}

// --- Limits --------------------------------------------------------------------------------------------------------------

static tsr_status set_limit(tsr_session *s, const tsr_limit *l, tsr_error *e) {
  const tsr_program *p = s->program;
  if (!l->name) return tsr_fail(e, TSR_INVALID, "a limit without a name");
  for (uint32_t i = 0; i < p->dims_count; i++) {
    const tsr_prog_dim *d = &p->dims[i];
    if (strcmp(tsr_string(s->artifact, d->name), l->name) != 0) continue;
    if (l->max < d->min || l->max > d->max)
      return tsr_fail(e, TSR_OUT_OF_RANGE, "limit %s = %" PRId64 ": the artifact allows %" PRId64 " .. %" PRId64, l->name, l->max,
                      d->min, d->max);
    s->dim_max[i] = l->max;
    return TSR_OK;
  }
  for (uint32_t i = 0; i < p->states_count; i++) {
    if (strcmp(tsr_string(s->artifact, p->states[i].name), l->name) != 0) continue;
    if (l->max < 1 || l->max > p->states[i].max_length)
      return tsr_fail(e, TSR_OUT_OF_RANGE, "limit %s = %" PRId64 ": the artifact allows 1 .. %" PRId64, l->name, l->max,
                      p->states[i].max_length);
    s->state_max[i] = l->max;
    return TSR_OK;
  }
  return tsr_fail(e, TSR_NOT_FOUND, "limit '%.60s': the artifact has no dim or state of this name", l->name);
}

static tsr_status set_pages(tsr_session *s, const tsr_session_options *o, tsr_error *e) {
  const tsr_program *p = s->program;
  for (uint32_t i = 0; i < p->states_count; i++) {
    const tsr_prog_state *st = &p->states[i];
    uint64_t width = (uint64_t)ts_ceil_div(s->state_max[i], st->page);
    uint64_t pages = o->tokens ? o->tokens / st->page + (o->tokens % st->page != 0) : s->sequence_count * width;   // < 2^63
    if (pages > INT32_MAX || s->sequence_count * width > INT32_MAX)
      return tsr_fail(e, TSR_OUT_OF_RANGE, "state '%.60s': %" PRIu64 " pages are too many; give the session smaller limits",
                      tsr_string(s->artifact, st->name), pages);
    for (uint32_t l = 0; l < st->list_count; l++)
      s->pages[st->list_first + l] =
          (tsr_pages){.state = i, .list = l, .page = st->page, .width = (uint32_t)width, .capacity = (uint32_t)pages};
  }
  s->pages_count = p->lists_count;
  return TSR_OK;
}

static tsr_status enable_functions(tsr_session *s, const tsr_session_options *o, tsr_error *e) {
  const tsr_program *p = s->program;
  for (uint32_t i = 0; i < o->function_count; i++) {
    uint32_t f = o->functions && o->functions[i] ? tsr_find_function(p, o->functions[i]) : TSR_NONE;
    if (f == TSR_NONE)
      return tsr_fail(e, TSR_NOT_FOUND, "the artifact has no function '%.60s'",
                      o->functions && o->functions[i] ? o->functions[i] : "(null)");
    s->functions[f].enabled = true;
  }
  for (uint32_t i = 0; i < p->functions_count; i++) {
    tsr_call_function *f = &s->functions[i];
    if (!o->function_count) f->enabled = true;
    f->f = &p->functions[i];
    f->view = &p->views[i];
    f->first_error = s->error_count;
    s->error_count += f->view->launches;
    for (uint32_t k = 0; k < f->f->step_count; k++)
      if (p->steps[f->f->step_first + k].kind == TSR_STEP_advance) f->advance[f->advance_count++] = k;   // one per state at most
    for (uint32_t k = 0; k < f->f->buffer_count; k++)
      f->uses_errors |= p->buffers[f->f->buffer_first + k].kind == TSR_BUFFER_error;
    f->bound = tsr_calloc(f->f->value_count, sizeof *f->bound);
    f->values = tsr_calloc(f->f->node_count, sizeof *f->values);
    f->planned = tsr_calloc(f->f->buffer_count, sizeof *f->planned);
    f->offset = tsr_calloc(f->f->buffer_count, sizeof *f->offset);
    f->base = tsr_calloc(f->f->buffer_count, sizeof *f->base);
    f->bytes = tsr_calloc(f->f->buffer_count, sizeof *f->bytes);
    if (!f->bound || !f->values || !f->planned || !f->offset || !f->base || !f->bytes) return out_of_memory(e);
    if (f->enabled && f->view->rows != TSR_NONE && s->dim_max[f->view->rows] > s->rows_max)
      s->rows_max = (uint32_t)s->dim_max[f->view->rows];
  }
  return TSR_OK;
}

// A session with its limits and plan, before anything is spent on a device.
static tsr_status prepare(tsr_artifact *a, tsr_device *d, const tsr_session_options *options, tsr_error *e, tsr_session **out,
                          tsr_session_options *o) {
  if (!a || !d || !out || !tsr_options(o, sizeof *o, options))
    return tsr_fail(e, TSR_INVALID, "a session needs an artifact and a device, and sane options");
  if (o->limit_count && !o->limits) return tsr_fail(e, TSR_INVALID, "limits are missing");
  tsr_status status;
  uint32_t target = tsr_find_target(a, d, e, &status);
  TSR_TRY(status);
  tsr_session *s = tsr_calloc(1, sizeof *s);
  if (!s) return out_of_memory(e);
  s->artifact = tsr_artifact_retain(a);
  s->device = tsr_device_retain(d);
  s->target = target;
  const tsr_program *p = s->program = tsr_program_of(a, a->targets.targets[target].program);
  for (uint32_t i = 0; i < p->dims_count; i++) s->dim_max[i] = p->dims[i].max;
  for (uint32_t i = 0; i < p->states_count; i++) s->state_max[i] = p->states[i].max_length;
  s->functions = tsr_calloc(p->functions_count, sizeof *s->functions);
  s->pools = tsr_calloc(p->pools_count, sizeof *s->pools);
  s->pool_bytes = tsr_calloc(p->pools_count, sizeof *s->pool_bytes);
  if (!s->functions || !s->pools || !s->pool_bytes) status = out_of_memory(e);
  for (uint32_t i = 0; i < o->limit_count && status == TSR_OK; i++) status = set_limit(s, &o->limits[i], e);
  for (uint32_t i = 0; i < p->dims_count && status == TSR_OK; i++)
    if (p->dims[i].per != TSR_NONE && s->dim_max[p->dims[i].per] > 1 << 20)
      status = tsr_fail(e, TSR_OUT_OF_RANGE, "more than 2^20 rows");
  for (uint32_t i = 0; i < p->states_count && status == TSR_OK; i++)
    if (s->dim_max[p->states[i].rows] > 1 << 20) status = tsr_fail(e, TSR_OUT_OF_RANGE, "more than 2^20 rows");
  if (status == TSR_OK) status = enable_functions(s, o, e);
  if (p->states_count) s->sequence_count = o->sequences ? o->sequences : s->rows_max ? s->rows_max : 1;
  if (status == TSR_OK && s->sequence_count > 1 << 20) status = tsr_fail(e, TSR_OUT_OF_RANGE, "more than 2^20 sequences");
  if (status == TSR_OK) status = set_pages(s, o, e);
  if (status == TSR_OK) status = tsr_plan(s, e);
  if (status != TSR_OK) {
    tsr_session_destroy(s);
    return status;
  }
  *out = s;
  return TSR_OK;
}

tsr_status tsr_session_plan(tsr_artifact *a, tsr_device *d, const tsr_session_options *options, tsr_error *e, tsr_memory *out) {
  tsr_session_options o;
  tsr_session *s;
  if (!out) return tsr_fail(e, TSR_INVALID, "tsr_session_plan: no place for the result");
  TSR_TRY(prepare(a, d, options, e, &s, &o));
  *out = s->memory;
  tsr_session_destroy(s);
  return TSR_OK;
}

// --- Creating ------------------------------------------------------------------------------------------------------------

static tsr_status get(tsr_session *s, uint64_t bytes, bool sparse, const char *what, tsr_error *e, unsigned char **out) {
  void *p = NULL;
  if (bytes == 0) return TSR_OK;
  tsr_status status = s->device->ops->allocate(s->device, bytes, sparse, &p);
  if (status != TSR_OK) return tsr_fail(e, status, "no memory for %" PRIu64 " bytes of %s on %s", bytes, what, s->device->name);
  *out = p;
  return TSR_OK;
}

// One block for all small arrays that kernels read, so that a call uploads it at once.
static tsr_status make_tables(tsr_session *s, tsr_error *e) {
  const tsr_program *p = s->program;
  size_t rows = round_up((uint64_t)s->rows_max * 4, 64), at = 0;
  size_t total = rows * (p->states_count + p->ragged_count);
  for (uint32_t i = 0; i < s->pages_count; i++) total += round_up((uint64_t)s->rows_max * s->pages[i].width * 4, 64);
  s->tables_bytes = total;
  if (total == 0) return TSR_OK;
  s->tables = aligned_alloc(64, total);
  if (!s->tables) return out_of_memory(e);
  memset(s->tables, 0, total);
  for (uint32_t i = 0; i < p->states_count; i++, at += rows) s->lengths[i] = (int32_t *)(void *)(s->tables + at);
  for (uint32_t i = 0; i < p->ragged_count; i++, at += rows) s->ragged[i] = (int32_t *)(void *)(s->tables + at);
  for (uint32_t i = 0; i < s->pages_count; i++) {
    s->pages[i].table = (int32_t *)(void *)(s->tables + at);
    at += round_up((uint64_t)s->rows_max * s->pages[i].width * 4, 64);
  }
  s->device_tables = s->tables;
  return s->device->host_memory ? TSR_OK : get(s, total, false, "tables", e, &s->device_tables);
}

static unsigned char *on_device(const tsr_session *s, const void *table) {
  return s->device_tables + ((const unsigned char *)table - s->tables);
}

// Addresses that stay the same from call to call.
static void place_buffers(tsr_session *s, tsr_call_function *f) {
  const tsr_program *p = s->program;
  for (uint32_t i = 0; i < f->f->buffer_count; i++) {
    const tsr_prog_buffer *b = &p->buffers[f->f->buffer_first + i];
    const tsr_prog_state *st = b->a < p->states_count ? &p->states[b->a] : NULL;
    uint64_t rows = (uint64_t)s->rows_max * 4;
    switch (b->kind) {
      case TSR_BUFFER_weight:
        f->base[i] = (unsigned char *)(uintptr_t)s->weights->bases[b->a];
        f->bytes[i] = p->weights[b->a].bytes;
        break;
      case TSR_BUFFER_workspace:
        f->base[i] = s->workspace + f->offset[i];
        f->bytes[i] = f->planned[i];
        break;
      case TSR_BUFFER_pool:
        f->base[i] = s->pools[st->pool_first + b->b];
        f->bytes[i] = s->pool_bytes[st->pool_first + b->b];
        break;
      case TSR_BUFFER_table:
        f->base[i] = on_device(s, s->pages[st->list_first + b->b].table);
        f->bytes[i] = rows * s->pages[st->list_first + b->b].width;
        break;
      case TSR_BUFFER_length: f->base[i] = on_device(s, s->lengths[b->a]), f->bytes[i] = rows; break;
      case TSR_BUFFER_ragged:
        for (uint32_t k = 0; k < p->ragged_count; k++)
          if (p->ragged_dims[k] == b->a) f->base[i] = on_device(s, s->ragged[k]);
        f->bytes[i] = rows;
        break;
      case TSR_BUFFER_error:
        f->base[i] = s->errors + 4 * (uint64_t)f->first_error, f->bytes[i] = 4 * (uint64_t)f->view->launches;
        break;
      default: break;
    }
  }
}

static tsr_status create(tsr_session *s, const tsr_session_options *o, tsr_error *e) {
  const tsr_program *p = s->program;
  TSR_TRY(take_weights(s, !s->device->host_memory || o->copy_weights, e));
  TSR_TRY(s->device->ops->load(s, e));
  if (tsr_pages_init(s) != TSR_OK) return out_of_memory(e);
  for (uint32_t i = 0; i < p->pools_count; i++) TSR_TRY(get(s, s->pool_bytes[i], true, "states", e, &s->pools[i]));
  TSR_TRY(get(s, s->memory.workspace, false, "workspace", e, &s->workspace));
  TSR_TRY(get(s, 4 * (uint64_t)s->error_count, false, "error words", e, &s->errors));
  TSR_TRY(make_tables(s, e));
  s->error_words = tsr_calloc(s->error_count, 4);
  s->error_kernel = tsr_calloc(s->error_count, 4);
  s->row_index = tsr_calloc(s->rows_max, 4);
  if (!s->error_words || !s->error_kernel || !s->row_index) return out_of_memory(e);
  for (uint32_t i = 0; i < p->states_count; i++)
    if (!(s->by[i] = tsr_calloc(s->rows_max, 4))) return out_of_memory(e);
  for (uint32_t i = 0; i < p->functions_count; i++)
    if (s->functions[i].enabled) place_buffers(s, &s->functions[i]);
  return TSR_OK;
}

tsr_status tsr_session_create(tsr_artifact *a, tsr_device *d, const tsr_session_options *options, tsr_error *e,
                              tsr_session **out) {
  tsr_session_options o;
  tsr_session *s;
  if (!out) return tsr_fail(e, TSR_INVALID, "tsr_session_create: no place for the result");
  TSR_TRY(prepare(a, d, options, e, &s, &o));
  tsr_status status = create(s, &o, e);
  if (status != TSR_OK) {
    tsr_session_destroy(s);
    return status;
  }
  *out = s;
  return TSR_OK;
}

void tsr_session_destroy(tsr_session *s) {
  if (!s) return;
  tsr_session_settle(s, NULL);
  const tsr_device_ops *ops = s->device->ops;
  ops->unload(s);
  for (uint32_t i = 0; s->pools && i < s->program->pools_count; i++)
    if (s->pools[i]) ops->release(s->device, s->pools[i], s->pool_bytes[i]);
  if (s->workspace) ops->release(s->device, s->workspace, s->memory.workspace);
  if (s->errors) ops->release(s->device, s->errors, 4 * (size_t)s->error_count);
  if (s->device_tables && s->device_tables != s->tables) ops->release(s->device, s->device_tables, s->tables_bytes);
  drop_weights(s);
  tsr_pages_deinit(s);
  for (uint32_t i = 0; s->functions && i < s->program->functions_count; i++) {
    tsr_call_function *f = &s->functions[i];
    for (uint32_t k = 0; f->bound && k < f->f->value_count; k++) tsr_buffer_release(f->bound[k]);
    free(f->bound);
    free(f->values);
    free(f->planned);
    free(f->offset);
    free(f->base);
    free(f->bytes);
  }
  for (uint32_t i = 0; i < TSR_MAX_STATES; i++) free(s->by[i]);
  free(s->tables);
  free(s->error_words);
  free(s->error_kernel);
  free(s->row_index);
  free(s->functions);
  free(s->pools);
  free(s->pool_bytes);
  tsr_device_release(s->device);
  tsr_artifact_release(s->artifact);
  free(s);
}

// --- Binding and small calls -----------------------------------------------------------------------------------------------

tsr_status tsr_session_bind(tsr_session *s, const char *function, const char *value, tsr_buffer *b) {
  if (!s || !function || !value) return TSR_INVALID;
  uint32_t i = tsr_find_function(s->program, function);
  if (i == TSR_NONE || !s->functions[i].enabled) return TSR_NOT_FOUND;
  tsr_call_function *f = &s->functions[i];
  for (uint32_t k = 0; k < f->f->value_count; k++) {
    const tsr_prog_value *v = &s->program->values[f->f->value_first + k];
    if (strcmp(tsr_string(s->artifact, v->name), value) != 0) continue;
    if (b && b->device != s->device) return TSR_INVALID;
    if (b && v->encoding == TSR_NONE && (b->type.dtype != v->dtype || b->type.rank != v->rank)) return TSR_INVALID;
    tsr_buffer_retain(b);
    tsr_buffer_release(f->bound[k]);
    f->bound[k] = b;
    return TSR_OK;
  }
  return TSR_NOT_FOUND;
}

tsr_status tsr_session_cancel(tsr_session *s) {
  if (!s) return TSR_INVALID;
  atomic_store(&s->cancelled, true);
  return TSR_OK;
}

tsr_status tsr_session_memory(const tsr_session *s, tsr_memory *out) {
  if (!s || !out) return TSR_INVALID;
  *out = s->memory;
  out->pages_free = 0;
  for (uint32_t i = 0; i < s->pages_count; i++) out->pages_free += s->pages[i].free_count;
  return TSR_OK;
}

tsr_status tsr_session_profile(tsr_session *s, tsr_profile_fn *fn, void *user) {
  if (!s) return TSR_INVALID;
  s->profile = fn;
  s->profile_user = user;
  return TSR_OK;
}
