// Checks a program's and the targets' tables against the rules of the format, once, when a file is opened. Everything behind
// these checks uses the tables in place without looking again.
#include "runtime/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct checker {
  tsr_artifact *a;
  uint32_t section;
  tsr_program *p;
  const tsr_prog_function *f;
  tsr_function_view *view;
  tsr_error *e;
} checker;

static tsr_status corrupt(const checker *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static tsr_status corrupt(const checker *c, const char *fmt, ...) {
  char text[300], where[100] = "";
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (c->f) snprintf(where, sizeof where, "function '%.60s', ", tsr_string(c->a, c->f->name));
  return tsr_fail(c->e, TSR_CORRUPT, "%.100s: section %u at offset %" PRIu64 ": %s%s", c->a->path, c->section,
                  c->a->sections[c->section].offset, where, text);
}
#define NEED(condition, ...)                                \
  do {                                                      \
    if (!(condition)) return corrupt(c, __VA_ARGS__);       \
  } while (0)

static bool is_string(const checker *c, uint32_t s) { return s < c->a->strings_bytes; }
static bool in_range(uint32_t first, uint32_t count, uint32_t total) { return first <= total && count <= total - first; }

static tsr_status read_table(const checker *c, const char *name, unsigned index, unsigned tables, size_t record, const void **out,
                             uint32_t *count) {
  const tsr_section *s = &c->a->sections[c->section];
  const unsigned char *data = tsr_section_data(c->a, c->section);
  tsr_table t;
  NEED(s->bytes >= tables * sizeof t, "%" PRIu64 " bytes are too few", s->bytes);
  memcpy(&t, data + index * sizeof t, sizeof t);
  NEED(t.offset % 8 == 0 && t.offset <= s->bytes && (uint64_t)t.count * record <= s->bytes - t.offset,
       "table '%s' (%u records at %u) is not inside the section", name, t.count, t.offset);
  *out = data + t.offset;
  *count = t.count;
  return TSR_OK;
}

static tsr_status check_dims(const checker *c) {
  tsr_program *p = c->p;
  NEED(p->dims_count <= TSR_MAX_DIMS, "%u dims are too many", p->dims_count);
  for (uint32_t i = 0; i < p->dims_count; i++) {
    const tsr_prog_dim *d = &p->dims[i];
    NEED(is_string(c, d->name), "dim %u has no name", i);
    NEED(d->min >= 0 && d->min <= d->max && d->step >= 1, "dim %u has an empty range", i);
    if (d->per == TSR_NONE) continue;
    NEED(d->per < p->dims_count && p->dims[d->per].per == TSR_NONE && d->max <= INT32_MAX,
         "dim %u is ragged over something that is no dim", i);
    NEED(p->ragged_count < TSR_MAX_RAGGED, "more than %d ragged dims", TSR_MAX_RAGGED);
    p->ragged_dims[p->ragged_count++] = i;
  }
  return TSR_OK;
}

static tsr_status check_states(const checker *c) {
  const tsr_program *p = c->p;
  NEED(p->states_count <= TSR_MAX_STATES && p->lists_count <= TSR_MAX_LISTS, "too many states");
  for (uint32_t i = 0; i < p->states_count; i++) {
    const tsr_prog_state *s = &p->states[i];
    NEED(is_string(c, s->name), "state %u has no name", i);
    NEED(s->rows < p->dims_count && p->dims[s->rows].per == TSR_NONE, "state %u: its rows are no dim", i);
    NEED(s->max_length >= 1 && s->max_length <= INT32_MAX && s->page >= 1 && s->page <= 1u << 20, "state %u: bad length or page",
         i);
    NEED(in_range(s->list_first, s->list_count, p->lists_count) && s->list_count >= 1 &&
             in_range(s->pool_first, s->pool_count, p->pools_count),
         "state %u: its lists or pools are not there", i);
    NEED(i == 0 ? s->list_first == 0 && s->pool_first == 0
                : s->list_first == s[-1].list_first + s[-1].list_count && s->pool_first == s[-1].pool_first + s[-1].pool_count,
         "state %u: its lists or pools are shared", i);
    for (uint32_t k = s->pool_first; k < s->pool_first + s->pool_count; k++) {
      const tsr_prog_pool *q = &p->pools[k];
      NEED(is_string(c, q->name) && is_string(c, q->type) && q->list < s->list_count && q->layers >= 1 && q->page_bytes >= 1 &&
             q->zero <= 1 && (!q->zero || q->page_bytes % 4 == 0),
           "pool %u is broken", k);
    }
  }
  uint32_t lists = 0;
  for (uint32_t i = 0; i < p->states_count; i++) lists += p->states[i].list_count;
  NEED(lists == p->lists_count, "page lists without a state");
  for (uint32_t i = 0; i < p->lists_count; i++) {
    NEED(is_string(c, p->lists[i].name), "list %u has no name", i);
    NEED(p->lists[i].kind == 1, "list %u keeps its pages in way %u, which this runtime does not know", i, p->lists[i].kind);
  }
  return TSR_OK;
}

static tsr_status check_shared(const checker *c) {
  tsr_program *p = c->p;
  NEED(p->info_count == 1 && is_string(c, p->info->name) && is_string(c, p->info->device_class), "no program information");
  TSR_TRY(check_dims(c));
  for (uint32_t i = 0; i < p->weights_count; i++) {
    const tsr_prog_weight *w = &p->weights[i];
    NEED(is_string(c, w->name) && w->section < c->a->section_count && c->a->sections[w->section].kind == TSR_SECTION_weights,
         "weight %u is in no weights section", i);
    uint64_t have = c->a->sections[w->section].bytes;
    NEED(w->offset % 64 == 0 && w->offset <= have && w->bytes <= have - w->offset, "weight %u is not inside its section", i);
  }
  TSR_TRY(check_states(c));
  for (uint32_t i = 0; i < p->kernels_count; i++) {
    const tsr_prog_kernel *k = &p->kernels[i];
    NEED(is_string(c, k->name) && k->pointers <= TSR_MAX_PARAMETERS && k->sizes <= TSR_MAX_PARAMETERS &&
             k->pointers + k->sizes <= TSR_MAX_PARAMETERS && in_range(k->raise_first, k->raise_count, p->raises_count),
         "kernel %u is broken", i);
  }
  for (uint32_t i = 0; i < p->raises_count; i++)
    NEED(is_string(c, p->raises[i].text) && is_string(c, p->raises[i].loc), "raise text %u is missing", i);
  return TSR_OK;
}

static bool is_node(const checker *c, uint32_t n) { return n < c->f->node_count; }
static bool node_or_none(const checker *c, uint32_t n) { return n == TSR_NONE || is_node(c, n); }

static uint32_t ragged_number(const tsr_program *p, uint32_t dim) {
  for (uint32_t i = 0; i < p->ragged_count; i++)
    if (p->ragged_dims[i] == dim) return i;
  return TSR_NONE;
}

static tsr_status rows_are(const checker *c, uint32_t dim) {
  NEED(c->view->rows == TSR_NONE || c->view->rows == dim, "ragged dims and states have different rows");
  c->view->rows = dim;
  return TSR_OK;
}
static tsr_status uses_ragged(const checker *c, uint32_t dim) {
  uint32_t number = ragged_number(c->p, dim);
  NEED(number != TSR_NONE, "dim %u is not ragged", dim);
  c->view->ragged |= 1u << number;
  return rows_are(c, c->p->dims[dim].per);
}
static tsr_status uses_state(const checker *c, uint32_t state) {
  NEED(state < c->p->states_count, "no state %u", state);
  c->view->states |= 1u << state;
  return rows_are(c, c->p->states[state].rows);
}

static tsr_status check_nodes(const checker *c) {
  const tsr_program *p = c->p;
  for (uint32_t i = 0; i < c->f->node_count; i++) {
    const tsr_prog_node *n = &p->nodes[c->f->node_first + i];
    switch (n->op) {
      case TSR_NODE_const: NEED(n->value != TSR_BAD_VALUE, "node %u: a value out of range", i); break;
      case TSR_NODE_dim:
        NEED(n->a < p->dims_count, "node %u: no dim %u", i, n->a);
        if (p->dims[n->a].per != TSR_NONE) TSR_TRY(uses_ragged(c, n->a));
        break;
      case TSR_NODE_longest:
      case TSR_NODE_total: TSR_TRY(uses_ragged(c, n->a)); break;
      case TSR_NODE_length: TSR_TRY(uses_state(c, n->a)); break;
      case TSR_NODE_pages:
      case TSR_NODE_width:
        NEED(n->a < p->states_count && n->b < p->states[n->a].list_count, "node %u: no such page list", i);
        break;
#define OPERATION(id, code) case code:
        TSR_SIZE_OPS(OPERATION)
#undef OPERATION
        NEED(n->a < i && n->b < i, "node %u: operands must come first", i);
        break;
      default: return corrupt(c, "node %u: unknown operation %u", i, n->op);
    }
  }
  return TSR_OK;
}

static tsr_status check_values(const checker *c) {
  const tsr_program *p = c->p;
  for (uint32_t i = 0; i < c->f->value_count; i++) {
    const tsr_prog_value *v = &p->values[c->f->value_first + i];
    NEED(is_string(c, v->name) && is_string(c, v->loc) && (v->encoding == TSR_NONE || is_string(c, v->encoding)),
         "value %u has no name", i);
    NEED(tsr_dtype_bits(v->dtype) && v->rank <= TSR_MAX_RANK && v->output <= 1, "value %u has no type", i);
    NEED(in_range(v->shape, v->rank, p->refs_count) && node_or_none(c, v->bytes), "value %u has no shape", i);
    for (uint32_t r = 0; r < v->rank; r++) NEED(is_node(c, p->refs[v->shape + r]), "value %u, axis %u has no extent", i, r);
    NEED(!v->output ? c->view->outputs == 0 : true, "value %u: inputs come before outputs", i);
    if (v->output) c->view->outputs++;
    else c->view->inputs++;
  }
  return TSR_OK;
}

static tsr_status check_buffers(const checker *c) {
  const tsr_program *p = c->p;
  NEED(c->f->buffer_count <= TSR_MAX_BUFFERS, "too many buffers");
  for (uint32_t i = 0; i < c->f->buffer_count; i++) {
    const tsr_prog_buffer *b = &p->buffers[c->f->buffer_first + i];
    NEED(is_string(c, b->name), "buffer %u has no name", i);
    bool ok = true;
    switch (b->kind) {
      case TSR_BUFFER_input: ok = b->a < c->view->inputs; break;
      case TSR_BUFFER_output: ok = b->a < c->view->outputs; break;
      case TSR_BUFFER_weight: ok = b->a < p->weights_count; break;
      case TSR_BUFFER_workspace:
        ok = is_node(c, b->bytes) && b->first <= b->last && (b->last < c->f->step_count || b->last == 0);
        break;
      case TSR_BUFFER_pool:
        TSR_TRY(uses_state(c, b->a));
        ok = b->b < p->states[b->a].pool_count;
        break;
      case TSR_BUFFER_table:
        TSR_TRY(uses_state(c, b->a));
        ok = b->b < p->states[b->a].list_count;
        break;
      case TSR_BUFFER_length: TSR_TRY(uses_state(c, b->a)); break;
      case TSR_BUFFER_ragged: TSR_TRY(uses_ragged(c, b->a)); break;
      case TSR_BUFFER_error: break;
      default: ok = false;
    }
    NEED(ok, "buffer %u ('%.60s') names something that is not there", i, tsr_string(c->a, b->name));
  }
  return TSR_OK;
}

static tsr_status check_arg(const checker *c, uint32_t step, uint32_t index, bool written) {
  const tsr_program *p = c->p;
  NEED(index < p->args_count, "step %u: no argument %u", step, index);
  const tsr_prog_arg *a = &p->args[index];
  NEED(a->buffer < c->f->buffer_count && node_or_none(c, a->offset), "step %u: argument %u is no buffer", step, index);
  const tsr_prog_buffer *b = &p->buffers[c->f->buffer_first + a->buffer];
  NEED(b->kind != TSR_BUFFER_workspace || (b->first <= step && step <= b->last), "step %u uses a workspace outside its lifetime",
       step);
  NEED(!written || b->kind == TSR_BUFFER_output || b->kind == TSR_BUFFER_workspace || b->kind == TSR_BUFFER_pool,
       "step %u writes to what is read only", step);
  return TSR_OK;
}

static tsr_status check_launch(const checker *c, uint32_t step, const tsr_prog_step *s) {
  const tsr_program *p = c->p;
  NEED(s->count >= 1 && in_range(s->first, s->count, p->variants_count), "step %u has no kernel", step);
  c->view->launches++;
  for (uint32_t i = s->first; i < s->first + s->count; i++) {
    const tsr_prog_variant *v = &p->variants[i];
    NEED(v->kernel < p->kernels_count, "step %u: no kernel %u", step, v->kernel);
    const tsr_prog_kernel *k = &p->kernels[v->kernel];
    NEED(v->arg_count == k->pointers && v->size_count == k->sizes && in_range(v->arg_first, v->arg_count, p->args_count) &&
             in_range(v->size_first, v->size_count, p->refs_count),
         "step %u does not fit kernel '%.60s'", step, tsr_string(c->a, k->name));
    NEED(node_or_none(c, v->guard) && is_node(c, v->grid[0]) && is_node(c, v->grid[1]) && is_node(c, v->grid[2]),
         "step %u has no grid", step);
    for (uint32_t n = 0; n < v->arg_count; n++) TSR_TRY(check_arg(c, step, v->arg_first + n, false));
    for (uint32_t n = 0; n < v->size_count; n++)
      NEED(is_node(c, p->refs[v->size_first + n]), "step %u: size %u is missing", step, n);
  }
  return TSR_OK;
}

static tsr_status check_steps(const checker *c) {
  const tsr_program *p = c->p;
  uint32_t advanced = 0;
  for (uint32_t i = 0; i < c->f->step_count; i++) {
    const tsr_prog_step *s = &p->steps[c->f->step_first + i];
    NEED(is_string(c, s->loc), "step %u has no location", i);
    switch (s->kind) {
      case TSR_STEP_launch: TSR_TRY(check_launch(c, i, s)); break;
      case TSR_STEP_copy:
      case TSR_STEP_fill:
        NEED(is_node(c, s->a), "step %u has no size", i);
        TSR_TRY(check_arg(c, i, s->first, true));
        if (s->kind == TSR_STEP_copy) {
          NEED(s->first < UINT32_MAX, "step %u has no source", i);
          TSR_TRY(check_arg(c, i, s->first + 1, false));
        }
        break;
      case TSR_STEP_require: NEED(is_node(c, s->a) && is_string(c, s->b), "step %u requires nothing", i); break;
      case TSR_STEP_advance:
        TSR_TRY(uses_state(c, s->a));
        NEED(!(advanced & 1u << s->a), "step %u: state %u advances twice", i, s->a);
        advanced |= 1u << s->a;
        NEED((s->b == TSR_NONE) == is_node(c, s->first), "step %u: no number of tokens", i);
        if (s->b != TSR_NONE) {
          NEED(s->b < p->dims_count, "step %u: no dim %u", i, s->b);
          TSR_TRY(uses_ragged(c, s->b));
        }
        break;
      default: return corrupt(c, "step %u: unknown kind %u", i, s->kind);
    }
  }
  return TSR_OK;
}

// A call must be able to know every dim that sizes use.
static tsr_status check_dims_known(const checker *c) {
  const tsr_program *p = c->p;
  bool known[TSR_MAX_DIMS] = {false};
  if (c->view->rows != TSR_NONE) known[c->view->rows] = true;
  for (uint32_t i = 0; i < p->ragged_count; i++) known[p->ragged_dims[i]] = true;
  for (uint32_t i = 0; i < c->f->value_count; i++) {
    const tsr_prog_value *v = &p->values[c->f->value_first + i];
    for (uint32_t r = 0; v->encoding == TSR_NONE && r < v->rank; r++) {   // an encoded value has a size in bytes, no shape
      const tsr_prog_node *n = &p->nodes[c->f->node_first + p->refs[v->shape + r]];
      if (n->op == TSR_NODE_dim) known[n->a] = true;
    }
  }
  for (uint32_t i = 0; i < c->f->node_count; i++) {
    const tsr_prog_node *n = &p->nodes[c->f->node_first + i];
    NEED(n->op != TSR_NODE_dim || known[n->a], "node %u: a call cannot know dim '%.60s'", i,
         tsr_string(c->a, p->dims[n->a].name));
  }
  return TSR_OK;
}

tsr_status tsr_check_program(tsr_artifact *a, uint32_t section, tsr_program *p, tsr_error *e) {
  checker checker_ = {.a = a, .section = section, .p = p, .e = e}, *c = &checker_;
  p->artifact = a;
  p->section = section;
  unsigned index = 0, tables = 0;
#define COUNT(id, type) tables++;
  TSR_PROGRAM_TABLES(COUNT)
#undef COUNT
#define READ(id, type)                                                                                                  \
  {                                                                                                                     \
    const void *at = NULL;                                                                                              \
    TSR_TRY(read_table(c, #id, index++, tables, sizeof(type), &at, &p->id##_count));                                    \
    p->id = at;                                                                                                         \
  }
  TSR_PROGRAM_TABLES(READ)
  TSR_TRY(check_shared(c));
  p->views = tsr_calloc(p->functions_count, sizeof *p->views);
  if (!p->views) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  for (uint32_t i = 0; i < p->functions_count; i++) {
    const tsr_prog_function *f = &p->functions[i];
    NEED(is_string(c, f->name) && is_string(c, f->loc), "function %u has no name", i);
    NEED(in_range(f->node_first, f->node_count, p->nodes_count) && in_range(f->value_first, f->value_count, p->values_count) &&
         in_range(f->buffer_first, f->buffer_count, p->buffers_count) && in_range(f->step_first, f->step_count, p->steps_count),
         "function %u: its tables are not there", i);
    c->f = f;
    c->view = &p->views[i];
    c->view->rows = TSR_NONE;
    TSR_TRY(check_nodes(c));
    TSR_TRY(check_values(c));
    TSR_TRY(check_buffers(c));
    TSR_TRY(check_steps(c));
    TSR_TRY(check_dims_known(c));
    c->f = NULL;
  }
  return TSR_OK;
}

static tsr_status check_image(const checker *c, uint32_t i, const tsr_image *m) {
  const tsr_artifact *a = c->a;
  NEED(m->kind >= TSR_IMAGE_HOST && m->kind <= TSR_IMAGE_CUBIN && m->section < a->section_count &&
           a->sections[m->section].kind == TSR_SECTION_image,
       "image %u is in no image section", i);
  const tsr_section *s = &a->sections[m->section];
  const unsigned char *data = tsr_section_data(a, m->section);
  NEED(s->bytes > 0, "image %u is empty", i);
  if (m->kind == TSR_IMAGE_PTX) NEED(data[s->bytes - 1] == 0, "image %u: PTX text does not end", i);
  if (m->kind != TSR_IMAGE_HOST) return TSR_OK;
  tsr_host_image h;
  NEED(s->offset % TSR_MAPPED_ALIGN == 0 && s->bytes >= sizeof h, "image %u cannot be mapped", i);
  memcpy(&h, data, sizeof h);
  NEED(h.magic == TSR_IMAGE_MAGIC && h.count <= (s->bytes - sizeof h) / 4, "image %u has no table of entries", i);
  for (uint32_t k = 0; k < h.count; k++) {
    uint32_t entry;
    memcpy(&entry, data + sizeof h + 4 * (size_t)k, 4);
    NEED(entry >= sizeof h + 4 * (size_t)h.count && entry < s->bytes, "image %u: entry %u is not inside", i, k);
  }
  return TSR_OK;
}

static tsr_status check_code(const checker *c, const tsr_target *t, const tsr_targets *all, uint32_t kernel) {
  const tsr_code *k = &all->code[t->code_first + kernel];
  bool host = t->device_class == TSR_CLASS_HOST;
  NEED((k->image == TSR_NONE || k->image < all->images_count) && (k->ptx == TSR_NONE || k->ptx < all->images_count),
       "kernel %u: no such image", kernel);
  if (k->image != TSR_NONE) {
    const tsr_image *m = &all->images[k->image];
    NEED(m->kind == (host ? TSR_IMAGE_HOST : TSR_IMAGE_CUBIN), "kernel %u: its image is of another kind", kernel);
    if (host) {
      tsr_host_image h;
      memcpy(&h, tsr_section_data(c->a, m->section), sizeof h);
      NEED(k->entry < h.count, "kernel %u: no entry %u in its image", kernel, k->entry);
    }
  }
  if (k->ptx != TSR_NONE) NEED(!host && all->images[k->ptx].kind == TSR_IMAGE_PTX, "kernel %u: its image is no PTX", kernel);
  if (host) NEED(k->scratch <= 1u << 30, "kernel %u: %u bytes of scratch", kernel, k->scratch);
  else
    NEED(is_string(c, k->entry) && k->threads[0] && k->threads[1] && k->threads[2] &&
             (uint64_t)k->threads[0] * k->threads[1] <= 1024 && (uint64_t)k->threads[0] * k->threads[1] * k->threads[2] <= 1024,
         "kernel %u: a bad block", kernel);
  return TSR_OK;
}

tsr_status tsr_check_targets(tsr_artifact *a, uint32_t section, tsr_targets *out, tsr_error *e) {
  checker checker_ = {.a = a, .section = section, .e = e}, *c = &checker_;
  tsr_targets found = {0}, *p = &found;
  unsigned index = 0, tables = 0;
#define COUNT(id, type) tables++;
  TSR_TARGET_TABLES(COUNT)
#undef COUNT
  TSR_TARGET_TABLES(READ)
#undef READ
  NEED(p->targets_count >= 1, "no target");
  for (uint32_t i = 0; i < p->images_count; i++) TSR_TRY(check_image(c, i, &p->images[i]));
  for (uint32_t i = 0; i < p->targets_count; i++) {
    const tsr_target *t = &p->targets[i];
    const tsr_program *program = tsr_program_of(a, t->program);
    NEED(is_string(c, t->name) && program, "target %u has no program", i);
    NEED(t->device_class == TSR_CLASS_HOST || t->device_class == TSR_CLASS_CUDA, "target %u is of no known class", i);
    NEED(t->code_count == program->kernels_count && in_range(t->code_first, t->code_count, p->code_count),
         "target %u has no code", i);
    for (uint32_t k = 0; k < t->code_count; k++) TSR_TRY(check_code(c, t, p, k));
  }
  *out = found;
  return TSR_OK;
}
