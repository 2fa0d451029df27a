// Sizes: evaluation of a call's expressions, their upper bounds at a session's limits, and the packing of workspaces.
#include "runtime/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static inline int64_t operate(uint32_t op, int64_t a, int64_t b) {
  int64_t v = TSR_BAD_VALUE;
  switch (op) {
    case TSR_NODE_add: return ts_add_i64(a, b, &v) ? v : TSR_BAD_VALUE;
    case TSR_NODE_sub: return ts_sub_i64(a, b, &v) ? v : TSR_BAD_VALUE;
    case TSR_NODE_mul: return ts_mul_i64(a, b, &v) ? v : TSR_BAD_VALUE;
    case TSR_NODE_floordiv: return b > 0 ? ts_floor_div(a, b) : TSR_BAD_VALUE;
    case TSR_NODE_ceildiv: return b > 0 ? ts_ceil_div(a, b) : TSR_BAD_VALUE;
    case TSR_NODE_mod: return b > 0 ? ts_floor_mod(a, b) : TSR_BAD_VALUE;
    case TSR_NODE_min: return a < b ? a : b;
    case TSR_NODE_max: return a > b ? a : b;
    case TSR_NODE_lt: return a < b;
    case TSR_NODE_le: return a <= b;
    case TSR_NODE_eq: return a == b;
    case TSR_NODE_ne: return a != b;
    case TSR_NODE_and: return a && b;
    case TSR_NODE_or: return a || b;
    default: return TSR_BAD_VALUE;
  }
}

static uint32_t ragged_number(const tsr_program *p, uint32_t dim) {
  for (uint32_t i = 0; i < p->ragged_count; i++)
    if (p->ragged_dims[i] == dim) return i;
  return 0;
}

void tsr_evaluate(const tsr_session *s, tsr_call_function *f, const tsr_leaves *l) {
  const tsr_program *p = s->program;
  const tsr_prog_node *nodes = p->nodes + f->f->node_first;
  int64_t *values = f->values;
  for (uint32_t i = 0; i < f->f->node_count; i++) {
    const tsr_prog_node *n = &nodes[i];
    switch (n->op) {
      case TSR_NODE_const: values[i] = n->value; break;
      case TSR_NODE_dim: values[i] = l->dims[n->a]; break;
      case TSR_NODE_longest: values[i] = l->longest[ragged_number(p, n->a)]; break;
      case TSR_NODE_total: values[i] = l->total[ragged_number(p, n->a)]; break;
      case TSR_NODE_length: values[i] = l->length[n->a]; break;
      case TSR_NODE_pages: values[i] = s->pages[p->states[n->a].list_first + n->b].capacity; break;
      case TSR_NODE_width: values[i] = s->pages[p->states[n->a].list_first + n->b].width; break;
      default: {
        int64_t a = values[n->a], b = values[n->b];
        values[i] = a == TSR_BAD_VALUE || b == TSR_BAD_VALUE ? TSR_BAD_VALUE : operate(n->op, a, b);
      }
    }
  }
}

// --- Bounds: interval arithmetic; ends saturate at +-LIMIT, which stands for "over any size" -----------------------------

#define LIMIT (INT64_MAX / 2)
typedef struct range { int64_t lo, hi; } range;

static int64_t clamp(__int128 v) { return v > LIMIT ? LIMIT : v < -LIMIT ? -LIMIT : (int64_t)v; }
static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

static range corners(range a, range b, __int128 (*fn)(int64_t, int64_t)) {
  __int128 v[4] = {fn(a.lo, b.lo), fn(a.lo, b.hi), fn(a.hi, b.lo), fn(a.hi, b.hi)}, lo = v[0], hi = v[0];
  for (int i = 1; i < 4; i++) {
    if (v[i] < lo) lo = v[i];
    if (v[i] > hi) hi = v[i];
  }
  return (range){clamp(lo), clamp(hi)};
}
static __int128 product(int64_t a, int64_t b) { return (__int128)a * b; }
static __int128 floor_quotient(int64_t a, int64_t b) { return ts_floor_div(a, b); }
static __int128 ceil_quotient(int64_t a, int64_t b) { return ts_ceil_div(a, b); }

static range bound_of(uint32_t op, range a, range b) {
  switch (op) {
    case TSR_NODE_add: return (range){clamp((__int128)a.lo + b.lo), clamp((__int128)a.hi + b.hi)};
    case TSR_NODE_sub: return (range){clamp((__int128)a.lo - b.hi), clamp((__int128)a.hi - b.lo)};
    case TSR_NODE_mul: return corners(a, b, product);
    case TSR_NODE_floordiv:
    case TSR_NODE_ceildiv:
      b = (range){greater(b.lo, 1), greater(b.hi, 1)};   // other divisors are errors when they happen
      return corners(a, b, op == TSR_NODE_floordiv ? floor_quotient : ceil_quotient);
    case TSR_NODE_mod:
      if (a.lo == a.hi && b.lo == b.hi && b.lo > 0) return (range){ts_floor_mod(a.lo, b.lo), ts_floor_mod(a.lo, b.lo)};
      return (range){0, a.lo >= 0 ? lesser(a.hi, greater(b.hi - 1, 0)) : greater(b.hi - 1, 0)};
    case TSR_NODE_min: return (range){lesser(a.lo, b.lo), lesser(a.hi, b.hi)};
    case TSR_NODE_max: return (range){greater(a.lo, b.lo), greater(a.hi, b.hi)};
    default: return (range){0, 1};
  }
}

static range leaf_range(const tsr_session *s, const tsr_prog_node *n) {
  const tsr_program *p = s->program;
  const tsr_prog_dim *d = n->a < p->dims_count ? &p->dims[n->a] : NULL;
  switch (n->op) {
    case TSR_NODE_const: return (range){clamp(n->value), clamp(n->value)};
    case TSR_NODE_dim: return (range){d->per == TSR_NONE ? lesser(d->min, s->dim_max[n->a]) : 0, s->dim_max[n->a]};
    case TSR_NODE_longest: return (range){0, s->dim_max[n->a]};
    case TSR_NODE_total: return (range){0, clamp((__int128)s->dim_max[n->a] * s->dim_max[d->per])};
    case TSR_NODE_length: return (range){0, s->state_max[n->a]};
    case TSR_NODE_pages: {
      int64_t v = s->pages[p->states[n->a].list_first + n->b].capacity;
      return (range){v, v};
    }
    default: {
      int64_t v = s->pages[p->states[n->a].list_first + n->b].width;
      return (range){v, v};
    }
  }
}

// --- Packing -----------------------------------------------------------------------------------------------------------

typedef struct item {
  uint64_t bytes, offset;
  uint32_t first, last, buffer;
} item;

static int larger_first(const void *x, const void *y) {
  const item *a = x, *b = y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return a->buffer < b->buffer ? -1 : a->buffer > b->buffer;
}

static int lower_first(const void *x, const void *y) {
  const item *a = *(item *const *)x, *b = *(item *const *)y;
  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

// Largest first, each at the lowest offset where nothing alive at the same time is. Equal inputs, equal offsets.
static bool pack(item *items, uint32_t count, uint64_t *out_total) {
  item **alive = tsr_calloc(count, sizeof *alive);
  if (!alive) return false;
  qsort(items, count, sizeof *items, larger_first);
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < i; k++)
      if (items[k].first <= items[i].last && items[i].first <= items[k].last) alive[n++] = &items[k];
    qsort(alive, n, sizeof *alive, lower_first);
    uint64_t at = 0;
    for (uint32_t k = 0; k < n && at + items[i].bytes > alive[k]->offset; k++)
      if (alive[k]->offset + alive[k]->bytes > at) at = alive[k]->offset + alive[k]->bytes;
    items[i].offset = at;
    if (at + items[i].bytes > total) total = at + items[i].bytes;
  }
  free(alive);
  *out_total = total;
  return true;
}

static tsr_status plan_function(tsr_session *s, tsr_call_function *f, range *ranges, item *items, uint64_t *out_bytes,
                                tsr_error *e) {
  const tsr_program *p = s->program;
  const tsr_prog_node *nodes = p->nodes + f->f->node_first;
  for (uint32_t i = 0; i < f->f->node_count; i++) {
    bool leaf = nodes[i].op < TSR_NODE_add;
    ranges[i] = leaf ? leaf_range(s, &nodes[i]) : bound_of(nodes[i].op, ranges[nodes[i].a], ranges[nodes[i].b]);
  }
  uint32_t count = 0;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < f->f->buffer_count; i++) {
    const tsr_prog_buffer *b = &p->buffers[f->f->buffer_first + i];
    if (b->kind != TSR_BUFFER_workspace) continue;
    int64_t most = ranges[b->bytes].hi;
    uint64_t align = s->device->align, bytes = most <= 0 ? 0 : ((uint64_t)most + align - 1) & ~(align - 1);
    if (most >= LIMIT / 2 || __builtin_add_overflow(sum, bytes, &sum) || sum > (uint64_t)INT64_MAX / 4)
      return tsr_fail(e, TSR_OUT_OF_RANGE,
                      "function '%.60s': workspace '%.60s' can become larger than any memory; give the session smaller limits",
                      tsr_string(s->artifact, f->f->name), tsr_string(s->artifact, b->name));
    f->planned[i] = bytes;
    if (bytes) items[count++] = (item){.bytes = bytes, .first = b->first, .last = b->last, .buffer = i};
  }
  if (!pack(items, count, out_bytes)) return tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  for (uint32_t i = 0; i < count; i++) f->offset[items[i].buffer] = items[i].offset;
  return TSR_OK;
}

static void plan_states(tsr_session *s) {
  const tsr_program *p = s->program;
  tsr_memory *m = &s->memory;
  for (uint32_t i = 0; i < p->states_count; i++)
    for (uint32_t k = 0; k < p->states[i].pool_count; k++) {
      const tsr_prog_pool *q = &p->pools[p->states[i].pool_first + k];
      __int128 bytes = (__int128)q->layers * q->page_bytes;
      if (bytes < LIMIT) bytes *= s->pages[p->states[i].list_first + q->list].capacity;
      uint64_t size = bytes < LIMIT ? (uint64_t)bytes : LIMIT;
      s->pool_bytes[p->states[i].pool_first + k] = size;
      if (__builtin_add_overflow(m->states, size, &m->states)) m->states = UINT64_MAX;
    }
  for (uint32_t i = 0; i < s->pages_count; i++) {
    const tsr_pages *g = &s->pages[i];
    m->pages += g->capacity;
    m->tables += (uint64_t)g->capacity * 8 + ((uint64_t)s->sequence_count + s->rows_max) * g->width * 4;
  }
}

tsr_status tsr_plan(tsr_session *s, tsr_error *e) {
  const tsr_program *p = s->program;
  uint32_t nodes = 1, buffers = 1;
  for (uint32_t i = 0; i < p->functions_count; i++) {
    if (p->functions[i].node_count > nodes) nodes = p->functions[i].node_count;
    if (p->functions[i].buffer_count > buffers) buffers = p->functions[i].buffer_count;
  }
  range *ranges = tsr_calloc(nodes, sizeof *ranges);
  item *items = tsr_calloc(buffers, sizeof *items);
  tsr_status status = ranges && items ? TSR_OK : tsr_fail(e, TSR_OUT_OF_MEMORY, "out of memory");
  s->memory = (tsr_memory){0};
  plan_states(s);
  s->memory.pages_free = s->memory.pages;
  for (uint32_t i = 0; i < p->functions_count && status == TSR_OK; i++) {
    uint64_t bytes = 0;
    if (!s->functions[i].enabled) continue;
    status = plan_function(s, &s->functions[i], ranges, items, &bytes, e);
    if (bytes > s->memory.workspace) s->memory.workspace = bytes;   // functions of a session never run at the same time
  }
  for (uint32_t i = 0; i < p->weights_count; i++)
    if (__builtin_add_overflow(s->memory.weights, p->weights[i].bytes, &s->memory.weights)) s->memory.weights = UINT64_MAX;
  if (status == TSR_OK && s->memory.states >= (uint64_t)LIMIT)
    status = tsr_fail(e, TSR_OUT_OF_RANGE, "the states would be larger than any memory; give the session smaller limits");
  free(ranges);
  free(items);
  return status;
}
