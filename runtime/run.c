// A call: sizes from the bound buffers and the rows, pages for what states append, then the steps in order. States advance
// only when everything is done, or, on a stream, provisionally until the error words are read.
#include "runtime/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct call {
  tsr_session *s;
  tsr_call_function *f;
  const tsr_row *rows;
  uint32_t count;
  void *stream;
  tsr_error *e;
  tsr_leaves leaves;
  int64_t dims[TSR_MAX_DIMS];
} call;

static const char *str(const call *c, uint32_t s) { return tsr_string(c->s->artifact, s); }
static const char *function_name(const call *c) { return str(c, c->f->f->name); }
static const char *dim_name(const call *c, uint32_t dim) { return str(c, c->s->program->dims[dim].name); }

// --- Sizes -----------------------------------------------------------------------------------------------------------------

static tsr_status set_dim(call *c, uint32_t dim, int64_t value, const char *from) {
  const tsr_prog_dim *d = &c->s->program->dims[dim];
  if (c->dims[dim] >= 0) {
    if (c->dims[dim] == value) return TSR_OK;
    return tsr_fail(c->e, TSR_INVALID, "%.60s: %.60s is %" PRId64 " by %.60s, but was %" PRId64 " before", function_name(c),
                    dim_name(c, dim), value, from, c->dims[dim]);
  }
  bool ragged = d->per != TSR_NONE;   // its extent in storage may be any that holds the rows
  if (value > c->s->dim_max[dim] || (!ragged && (value < d->min || (value - d->min) % d->step)))
    return tsr_fail(c->e, TSR_OUT_OF_RANGE,
                    "%.60s: %.60s = %" PRId64 " by %.60s, but the bounds are %" PRId64 " .. %" PRId64 " step %" PRId64,
                    function_name(c), dim_name(c, dim), value, from, d->min, c->s->dim_max[dim], d->step);
  c->dims[dim] = value;
  return TSR_OK;
}

static tsr_status bind_shapes(call *c) {
  const tsr_program *p = c->s->program;
  const tsr_prog_function *pf = c->f->f;
  for (uint32_t i = 0; i < pf->value_count; i++) {
    const tsr_prog_value *v = &p->values[pf->value_first + i];
    const tsr_buffer *b = c->f->bound[i];
    if (!b) return tsr_fail(c->e, TSR_INVALID, "%.60s: no buffer is bound to '%.60s'", function_name(c), str(c, v->name));
    if (v->encoding != TSR_NONE) continue;   // encoded values have a size, not a shape
    if (b->type.dtype != v->dtype || b->type.rank != v->rank)
      return tsr_fail(c->e, TSR_INVALID, "%.60s: '%.60s' is %s with %u axes; the buffer is %s with %u", function_name(c),
                      str(c, v->name), tsr_dtype_name(v->dtype), v->rank, tsr_dtype_name(b->type.dtype), b->type.rank);
    for (uint32_t r = 0; r < v->rank; r++) {
      const tsr_prog_node *n = &p->nodes[pf->node_first + p->refs[v->shape + r]];
      if (n->op == TSR_NODE_dim) TSR_TRY(set_dim(c, n->a, b->type.shape[r], str(c, v->name)));
    }
  }
  return TSR_OK;
}

static tsr_status check_values(call *c) {
  const tsr_program *p = c->s->program;
  const tsr_prog_function *pf = c->f->f;
  for (uint32_t i = 0; i < pf->value_count; i++) {
    const tsr_prog_value *v = &p->values[pf->value_first + i];
    const tsr_buffer *b = c->f->bound[i];
    for (uint32_t r = 0; r < v->rank && v->encoding == TSR_NONE; r++) {
      int64_t expected = c->f->values[p->refs[v->shape + r]];
      if (expected != b->type.shape[r])
        return tsr_fail(c->e, TSR_INVALID, "%.60s: axis %u of '%.60s' must be %" PRId64 ", the buffer has %" PRId64,
                        function_name(c), r, str(c, v->name), expected, b->type.shape[r]);
    }
    if (v->bytes != TSR_NONE && (c->f->values[v->bytes] < 0 || (uint64_t)c->f->values[v->bytes] > b->bytes))
      return tsr_fail(c->e, TSR_INVALID, "%.60s: '%.60s' needs %" PRId64 " bytes, the buffer has %zu", function_name(c),
                      str(c, v->name), c->f->values[v->bytes], b->bytes);
  }
  uint32_t inputs = c->f->view->inputs;
  for (uint32_t i = 0; i < pf->buffer_count; i++) {
    const tsr_prog_buffer *b = &p->buffers[pf->buffer_first + i];
    if (b->kind == TSR_BUFFER_input || b->kind == TSR_BUFFER_output) {
      const tsr_buffer *own = c->f->bound[b->a + (b->kind == TSR_BUFFER_output ? inputs : 0)];
      c->f->base[i] = own->data;
      c->f->bytes[i] = own->bytes;
    } else if (b->kind == TSR_BUFFER_workspace &&
               c->f->values[b->bytes] > (int64_t)c->f->planned[i]) {   // bounds are proved: a fault of ours
      return tsr_fail(c->e, TSR_INTERNAL, "%.60s: workspace '%.60s' is larger than planned", function_name(c), str(c, b->name));
    }
  }
  return TSR_OK;
}

static tsr_status read_rows(call *c) {
  tsr_session *s = c->s;
  const tsr_program *p = s->program;
  const tsr_function_view *view = c->f->view;
  if (view->rows == TSR_NONE) {
    if (c->count) return tsr_fail(c->e, TSR_INVALID, "%.60s takes no rows", function_name(c));
    return TSR_OK;
  }
  TSR_TRY(set_dim(c, view->rows, c->count, "the number of rows"));
  if (view->states) s->mark++;
  for (uint32_t i = 0; i < c->count; i++) {
    if (view->states) {
      tsr_seq *q = tsr_find_sequence(s, c->rows[i].sequence, &s->row_index[i]);
      if (!q) return tsr_fail(c->e, TSR_NOT_FOUND, "%.60s: row %u names no sequence of this session", function_name(c), i);
      if (q->busy == s->mark)
        return tsr_fail(c->e, TSR_INVALID, "%.60s: row %u names a sequence that an earlier row names", function_name(c), i);
      q->busy = s->mark;
      for (uint32_t k = 0; k < p->states_count; k++) {
        s->lengths[k][i] = (int32_t)q->length[k];
        if (q->length[k] > c->leaves.length[k]) c->leaves.length[k] = q->length[k];
      }
    }
    for (uint32_t k = 0; k < p->ragged_count; k++) {
      if (!(view->ragged & 1u << k)) continue;
      uint32_t dim = p->ragged_dims[k], length = c->rows[i].lengths[k];
      const tsr_prog_dim *d = &p->dims[dim];
      if (length < d->min || length > s->dim_max[dim] || (length - d->min) % d->step)
        return tsr_fail(c->e, TSR_OUT_OF_RANGE, "%.60s: row %u: %.60s = %u, but the bounds are %" PRId64 " .. %" PRId64,
                        function_name(c), i, dim_name(c, dim), length, d->min, s->dim_max[dim]);
      s->ragged[k][i] = (int32_t)length;
      c->leaves.total[k] += length;
      if (length > c->leaves.longest[k]) c->leaves.longest[k] = length;
    }
  }
  for (uint32_t k = 0; k < p->ragged_count; k++) {
    if (!(view->ragged & 1u << k)) continue;
    uint32_t dim = p->ragged_dims[k];
    if (c->dims[dim] < 0) c->dims[dim] = c->leaves.longest[k];
    if (c->dims[dim] < c->leaves.longest[k])
      return tsr_fail(c->e, TSR_INVALID, "%.60s: a row has %.60s = %" PRId64 ", but the buffers hold %" PRId64, function_name(c),
                      dim_name(c, dim), c->leaves.longest[k], c->dims[dim]);
  }
  return TSR_OK;
}

// --- States ----------------------------------------------------------------------------------------------------------------

// What the advance steps will append, checked against the states' bounds.
static tsr_status read_advances(call *c) {
  tsr_session *s = c->s;
  const tsr_program *p = s->program;
  for (uint32_t k = 0; k < c->f->advance_count; k++) {
    const tsr_prog_step *step = &p->steps[c->f->f->step_first + c->f->advance[k]];
    uint32_t state = step->a, *by = s->by[state], number = 0;
    while (step->b != TSR_NONE && p->ragged_dims[number] != step->b) number++;
    int64_t fixed = step->b == TSR_NONE ? c->f->values[step->first] : 0;
    if (fixed < 0 || fixed > INT32_MAX)
      return tsr_fail(c->e, TSR_OUT_OF_RANGE, "%s: state '%.60s' cannot grow by this many tokens", str(c, step->loc),
                      str(c, p->states[state].name));
    for (uint32_t i = 0; i < c->count; i++) {
      by[i] = step->b == TSR_NONE ? (uint32_t)fixed : (uint32_t)s->ragged[number][i];
      if ((int64_t)s->lengths[state][i] + by[i] > s->state_max[state])
        return tsr_fail(c->e, TSR_OUT_OF_RANGE,
                        "%.60s: row %u: state '%.60s' has %d tokens and would get %u more; its bound is %" PRId64,
                        function_name(c), i, str(c, p->states[state].name), s->lengths[state][i], by[i], s->state_max[state]);
    }
  }
  return TSR_OK;
}

static void trim_advances(call *c) {
  for (uint32_t k = 0; k < c->f->advance_count; k++)
    for (uint32_t i = 0; i < c->count; i++)
      tsr_pages_trim(c->s, c->s->program->steps[c->f->f->step_first + c->f->advance[k]].a, c->s->row_index[i]);
}

static tsr_status reserve(call *c) {
  tsr_session *s = c->s;
  for (uint32_t k = 0; k < c->f->advance_count; k++) {
    uint32_t state = s->program->steps[c->f->f->step_first + c->f->advance[k]].a;
    tsr_status status = tsr_pages_reserve(s, state, s->row_index, s->by[state], c->count, c->stream);
    if (status == TSR_OUT_OF_PAGES)
      return tsr_fail(
          c->e, status,
          "%.60s: state '%.60s' has no pages left for %u rows; destroy or truncate sequences, or give the session more tokens",
          function_name(c), str(c, s->program->states[state].name), c->count);
    if (status != TSR_OK) return tsr_fail(c->e, status, "%.60s: preparing pages failed", function_name(c));
  }
  return TSR_OK;
}

// Page tables of the call's rows, and, where the device has memory of its own, everything that kernels read about rows.
static tsr_status publish_tables(call *c) {
  enum { WHOLE = 65536 };   // up to this size one copy is cheaper than several
  tsr_session *s = c->s;
  if (c->f->view->states)
    for (uint32_t g = 0; g < s->pages_count; g++) {
      const tsr_pages *pages = &s->pages[g];
      for (uint32_t i = 0; i < c->count; i++)
        memcpy(pages->table + (size_t)i * pages->width, pages->entries + (size_t)s->row_index[i] * pages->width,
               (size_t)pages->width * 4);
    }
  if (s->device->host_memory || c->f->view->rows == TSR_NONE || s->tables_bytes == 0) return TSR_OK;
  const tsr_device_ops *ops = s->device->ops;
  if (s->tables_bytes <= WHOLE) return ops->write(s->device, s->device_tables, s->tables, s->tables_bytes, c->stream);
  size_t head = s->pages_count ? (size_t)((unsigned char *)s->pages[0].table - s->tables) : s->tables_bytes;
  TSR_TRY(ops->write(s->device, s->device_tables, s->tables, head, c->stream));
  for (uint32_t g = 0; g < s->pages_count && c->f->view->states; g++) {
    size_t at = (size_t)((unsigned char *)s->pages[g].table - s->tables);
    TSR_TRY(ops->write(s->device, s->device_tables + at, s->pages[g].table, (size_t)c->count * s->pages[g].width * 4, c->stream));
  }
  return TSR_OK;
}

// --- Steps -----------------------------------------------------------------------------------------------------------------

static tsr_status bad_size(const call *c, uint32_t step, const char *what) {
  const tsr_prog_step *s = &c->s->program->steps[c->f->f->step_first + step];
  return tsr_fail(c->e, TSR_OUT_OF_RANGE, "%.100s%s%.60s, step %u: %s is out of range", str(c, s->loc),
                  *str(c, s->loc) ? ": " : "", function_name(c), step, what);
}

static tsr_status raised(const call *c, uint32_t kernel, uint32_t code, const char *loc) {
  const tsr_program *p = c->s->program;
  const tsr_prog_kernel *k = &p->kernels[kernel];
  if (code == 0 || code > k->raise_count)
    return tsr_fail(c->e, TSR_INTERNAL, "%.120s%skernel %.60s returned %d, which is no code of its", loc, *loc ? ": " : "",
                    str(c, k->name), (int)code);
  const tsr_prog_raise *r = &p->raises[k->raise_first + code - 1];
  const char *where = *str(c, r->loc) ? str(c, r->loc) : loc;
  return tsr_fail(c->e, TSR_OUT_OF_RANGE, "%.160s%s%.200s (in %.60s, kernel %.40s)", where, *where ? ": " : "", str(c, r->text),
                  function_name(c), str(c, k->name));
}

// Address of an argument with `bytes` usable behind it; NULL when out of the buffer.
static inline unsigned char *argument(const call *c, const tsr_prog_arg *a, uint64_t bytes) {
  int64_t offset = a->offset == TSR_NONE ? 0 : c->f->values[a->offset];
  uint64_t have = c->f->bytes[a->buffer];
  if ((uint64_t)offset > have || bytes > have - (uint64_t)offset) return NULL;   // negative offsets are huge
  return c->f->base[a->buffer] ? c->f->base[a->buffer] + offset : NULL;
}

static tsr_status launch(call *c, uint32_t number, uint32_t launch_number, const tsr_prog_step *step,
                         const tsr_prog_variant **ran) {
  tsr_session *s = c->s;
  const tsr_program *p = s->program;
  const int64_t *values = c->f->values;
  const tsr_prog_variant *v = &p->variants[step->first], *end = v + step->count;
  for (; v < end && v->guard != TSR_NONE; v++) {
    if (values[v->guard] == TSR_BAD_VALUE) return bad_size(c, number, "a guard");
    if (values[v->guard]) break;
  }
  if (v == end) return TSR_OK;
  *ran = v;
  void *bufs[TSR_MAX_PARAMETERS];
  int64_t dims[TSR_MAX_PARAMETERS + 3];
  tsr_launch l = {.code = &s->code[v->kernel], .pointers = v->arg_count, .sizes = v->size_count, .bufs = bufs, .dims = dims};
  for (int i = 0; i < 3; i++) {
    int64_t g = values[v->grid[i]];
    if (g < 0 || g > UINT32_MAX) return bad_size(c, number, "the grid");
    l.grid[i] = (uint32_t)g;
  }
  if (l.grid[0] == 0 || l.grid[1] == 0 || l.grid[2] == 0) return TSR_OK;
  const tsr_prog_arg *args = p->args + v->arg_first;
  for (uint32_t i = 0; i < v->arg_count; i++) {
    unsigned char *at = argument(c, &args[i], 0);
    const tsr_prog_buffer *b = &p->buffers[c->f->f->buffer_first + args[i].buffer];
    if (!at && c->f->bytes[args[i].buffer]) return bad_size(c, number, "an argument's offset");
    bufs[i] = b->kind == TSR_BUFFER_error ? (void *)(s->errors + 4 * (uint64_t)(c->f->first_error + launch_number)) : at;
  }
  const uint32_t *sizes = p->refs + v->size_first;
  for (uint32_t i = 0; i < v->size_count; i++) {
    dims[i] = values[sizes[i]];
    if (dims[i] == TSR_BAD_VALUE) return bad_size(c, number, "a size");
  }
  if (!l.code->entry && !l.code->function)
    return tsr_fail(c->e, TSR_UNSUPPORTED, "kernel %.60s has no code for target %.60s", str(c, p->kernels[v->kernel].name),
                    str(c, s->artifact->targets.targets[s->target].name));
  s->error_kernel[c->f->first_error + launch_number] = v->kernel;
  uint32_t code = 0;
  tsr_status status = s->device->ops->launch(s, &l, c->stream, &code);
  if (status == TSR_OUT_OF_RANGE) return bad_size(c, number, "the number of blocks");
  if (status != TSR_OK)
    return tsr_fail(c->e, status, "%.120s: launching kernel %.60s failed", str(c, step->loc), str(c, p->kernels[v->kernel].name));
  if (code && atomic_load_explicit(&s->cancelled, memory_order_relaxed)) return TSR_CANCELLED;   // noticed by the caller
  return code ? raised(c, v->kernel, code, str(c, step->loc)) : TSR_OK;
}

static tsr_status move(call *c, uint32_t number, const tsr_prog_step *step) {
  const tsr_program *p = c->s->program;
  const tsr_device_ops *ops = c->s->device->ops;
  int64_t bytes = c->f->values[step->a];
  if (bytes == 0) return TSR_OK;
  if (bytes < 0 || (step->kind == TSR_STEP_fill && bytes % 4)) return bad_size(c, number, "the number of bytes");
  unsigned char *to = argument(c, &p->args[step->first], (uint64_t)bytes);
  unsigned char *from = step->kind == TSR_STEP_copy ? argument(c, &p->args[step->first + 1], (uint64_t)bytes) : to;
  if (!to || !from) return bad_size(c, number, "the place of a copy or fill");
  tsr_status s = step->kind == TSR_STEP_copy ? ops->copy(c->s->device, to, from, (size_t)bytes, c->stream)
                                             : ops->fill(c->s->device, to, step->b, (size_t)bytes, c->stream);
  return s == TSR_OK ? s : tsr_fail(c->e, s, "%.120s: a copy or fill failed", str(c, step->loc));
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tsr_status report(call *c, uint32_t number, const tsr_prog_step *step, const tsr_prog_variant *ran, double started) {
  tsr_session *s = c->s;
  if (s->device->async) TSR_TRY(s->device->ops->wait(s->device, c->stream, c->e));
  tsr_profile_record r = {
      .function = function_name(c), .step = number, .location = str(c, step->loc), .seconds = now() - started};
  r.kernel = ran ? str(c, s->program->kernels[ran->kernel].name) : step->kind == TSR_STEP_copy ? "(copy)" : "(fill)";
  for (int i = 0; i < 3 && ran; i++) r.grid[i] = (uint32_t)c->f->values[ran->grid[i]];
  if (ran || step->kind != TSR_STEP_launch) s->profile(s->profile_user, &r);
  return TSR_OK;
}

static tsr_status run_steps(call *c) {
  tsr_session *s = c->s;
  const tsr_prog_step *steps = s->program->steps + c->f->f->step_first;
  uint32_t launches = 0;
  for (uint32_t i = 0; i < c->f->f->step_count; i++) {
    const tsr_prog_step *step = &steps[i];
    const tsr_prog_variant *ran = NULL;
    tsr_status status = TSR_OK;
    double started = s->profile ? now() : 0;
    switch (step->kind) {
      case TSR_STEP_launch: status = launch(c, i, launches++, step, &ran); break;
      case TSR_STEP_copy:
      case TSR_STEP_fill: status = move(c, i, step); break;
      case TSR_STEP_require:
        if (c->f->values[step->a] == TSR_BAD_VALUE || c->f->values[step->a] == 0)
          return tsr_fail(c->e, TSR_OUT_OF_RANGE, "%.120s%s%.60s: %.200s", str(c, step->loc), *str(c, step->loc) ? ": " : "",
                          function_name(c), str(c, step->b));
        continue;
      default: continue;   // advance: when the call is done
    }
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed))
      return tsr_fail(c->e, TSR_CANCELLED, "%.60s was cancelled", function_name(c));
    if (status == TSR_OK && s->profile) status = report(c, i, step, ran, started);
    if (status != TSR_OK) return status;
  }
  return TSR_OK;
}

// --- Outcome ---------------------------------------------------------------------------------------------------------------

// Reads the error words of a function's launches (first .. first + count - 1 of the session) and clears them if any is set.
static tsr_status read_errors(tsr_session *s, uint32_t first, uint32_t count, void *stream, uint32_t *launch_number,
                              uint32_t *code) {
  const tsr_device_ops *ops = s->device->ops;
  *code = 0;
  if (count == 0) return TSR_OK;
  TSR_TRY(ops->read(s->device, s->error_words + first, s->errors + 4 * (uint64_t)first, 4 * (size_t)count, stream));
  for (uint32_t i = first; i < first + count && !*code; i++)
    if (s->error_words[i]) *code = s->error_words[i], *launch_number = i;
  return *code ? ops->fill(s->device, s->errors + 4 * (uint64_t)first, 0, 4 * (size_t)count, stream) : TSR_OK;
}

static tsr_status raised_on_device(tsr_session *s, uint32_t launch_number, uint32_t code, tsr_error *e) {
  const tsr_program *p = s->program;
  uint32_t i = 0;
  while (i + 1 < p->functions_count && s->functions[i + 1].first_error <= launch_number) i++;
  call c = {.s = s, .f = &s->functions[i], .e = e};
  uint32_t left = launch_number - c.f->first_error;
  const char *loc = "";
  for (uint32_t k = 0; k < c.f->f->step_count; k++) {
    const tsr_prog_step *step = &p->steps[c.f->f->step_first + k];
    if (step->kind == TSR_STEP_launch && left-- == 0) {
      loc = str(&c, step->loc);
      break;
    }
  }
  return raised(&c, s->error_kernel[launch_number], code, loc);
}

static void advance(call *c) {
  tsr_session *s = c->s;
  for (uint32_t k = 0; k < c->f->advance_count; k++) {
    uint32_t state = s->program->steps[c->f->f->step_first + c->f->advance[k]].a;
    for (uint32_t i = 0; i < c->count; i++) s->sequences[s->row_index[i]].length[state] += s->by[state][i];
  }
}

static void free_pending(tsr_pending *p) {
  free(p->rows);
  free(p->lengths);
  free(p);
}

static tsr_status remember(call *c, tsr_stream *stream) {
  tsr_session *s = c->s;
  uint32_t count = c->f->view->states ? c->count : 0;
  tsr_pending *p = tsr_calloc(1, sizeof *p);
  if (p)
    *p = (tsr_pending){
        .count = count, .rows = tsr_calloc(count, sizeof *p->rows), .lengths = tsr_calloc(count, sizeof *p->lengths)};
  if (!p || !p->rows || !p->lengths) {
    if (p) free_pending(p);
    return tsr_fail(c->e, TSR_OUT_OF_MEMORY, "out of memory");
  }
  for (uint32_t i = 0; i < count; i++) {
    p->rows[i] = s->row_index[i];
    memcpy(p->lengths[i], s->sequences[s->row_index[i]].length, sizeof p->lengths[i]);
  }
  if (!s->pending) {
    s->stream = stream;
    s->next_on_stream = stream->sessions;
    stream->sessions = s;
  }
  p->next = s->pending;
  s->pending = p;
  return TSR_OK;
}

tsr_status tsr_session_settle(tsr_session *s, tsr_error *e) {
  if (!s || !s->pending) return TSR_OK;
  tsr_stream *stream = s->stream;
  uint32_t number = 0, code = 0;
  tsr_status status = s->device->ops->wait(s->device, stream->native, e);
  if (status == TSR_OK) status = read_errors(s, 0, s->error_count, stream->native, &number, &code);
  if (status == TSR_OK && code) status = raised_on_device(s, number, code, e);
  while (s->pending) {   // newest first, so that the oldest state is what remains
    tsr_pending *p = s->pending;
    s->pending = p->next;
    for (uint32_t i = 0; i < p->count && status != TSR_OK; i++) {
      memcpy(s->sequences[p->rows[i]].length, p->lengths[i], sizeof p->lengths[i]);
      for (uint32_t k = 0; k < s->program->states_count; k++) tsr_pages_trim(s, k, p->rows[i]);
    }
    free_pending(p);
  }
  tsr_session **at = &stream->sessions;
  while (*at != s) at = &(*at)->next_on_stream;
  *at = s->next_on_stream;
  s->stream = NULL;
  return status;
}

static tsr_status run_call(call *c, tsr_stream *stream) {
  tsr_session *s = c->s;
  memset(c->dims, 0xff, s->program->dims_count * sizeof c->dims[0]);   // -1: not known yet
  c->leaves.dims = c->dims;
  TSR_TRY(bind_shapes(c));
  TSR_TRY(read_rows(c));
  tsr_evaluate(s, c->f, &c->leaves);
  TSR_TRY(check_values(c));
  TSR_TRY(read_advances(c));
  bool queued = stream && s->device->async && !s->profile;
  tsr_status status = reserve(c);
  if (status == TSR_OK) {
    status = publish_tables(c);
    if (status != TSR_OK) tsr_fail(c->e, status, "%.60s: writing the tables failed", function_name(c));
  }
  if (status == TSR_OK) status = run_steps(c);
  if (status == TSR_OK && queued) status = remember(c, stream);
  if (status == TSR_OK && queued) {
    advance(c);
    return TSR_OK;
  }
  // What was queued has to end before its pages or buffers may be used for anything else.
  uint32_t number = 0, code = 0;
  if (s->device->async) {
    tsr_status waited = s->device->ops->wait(s->device, c->stream, status == TSR_OK ? c->e : NULL);
    if (status == TSR_OK) status = waited;
    if (s->pending) tsr_session_settle(s, NULL);   // before their error words are cleared as this call's
  }
  if (c->f->uses_errors) {
    tsr_status seen = read_errors(s, c->f->first_error, c->f->view->launches, c->stream, &number, &code);
    if (status == TSR_OK && seen != TSR_OK)
      status = tsr_fail(c->e, seen, "%.60s: reading the error words failed", function_name(c));
    else if (status == TSR_OK && code) status = raised_on_device(s, number, code, c->e);
  }
  if (status == TSR_OK) advance(c);
  else trim_advances(c);
  return status;
}

tsr_status tsr_session_run(tsr_session *s, const char *function, const tsr_row *rows, size_t row_count, tsr_stream *stream,
                           tsr_error *e) {
  if (!s || !function || (row_count && !rows) || (stream && stream->device != s->device))
    return tsr_fail(e, TSR_INVALID, "tsr_session_run: bad arguments");
  uint32_t i = tsr_find_function(s->program, function);
  if (i == TSR_NONE) return tsr_fail(e, TSR_NOT_FOUND, "the artifact has no function '%.60s'", function);
  if (!s->functions[i].enabled)
    return tsr_fail(e, TSR_NOT_FOUND, "function '%.60s' was not named when the session was made", function);
  if (row_count > s->rows_max)
    return tsr_fail(e, TSR_OUT_OF_RANGE, "%.60s: %zu rows; this session takes at most %u", function, row_count, s->rows_max);
  if (s->pending && (s->stream != stream || s->profile)) TSR_TRY(tsr_session_settle(s, e));
  call c = {.s = s,
            .f = &s->functions[i],
            .rows = rows,
            .count = (uint32_t)row_count,
            .stream = stream ? stream->native : NULL,
            .e = e};
  bool shared = !s->device->async;   // host: the workers serve one call at a time
  if (shared) pthread_mutex_lock(&s->device->lock);
  tsr_status status =
      atomic_load(&s->cancelled) ? tsr_fail(e, TSR_CANCELLED, "%.60s was cancelled", function) : run_call(&c, stream);
  if (shared) pthread_mutex_unlock(&s->device->lock);
  if (status == TSR_CANCELLED) atomic_store(&s->cancelled, false);
  return status;
}
