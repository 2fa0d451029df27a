// Memory: from the addresses of a warp's lanes to checked host pointers, then loads, stores and atomics.
//
// An access whose lanes all lie in one allocation (or in shared or local memory) is checked as a range; only the others go
// lane by lane. The shadow of initialised bytes is consulted when the launch checks for it.
#include "emulator/decode.h"
#include "emulator/machine.h"

#include <stdlib.h>

#define EACH_LANE(mask) for (uint32_t m_ = (mask), i = 0; m_ && (i = (uint32_t)__builtin_ctz(m_), 1); m_ &= m_ - 1)

static inline void lane_addresses(const emu_exec *x, const emu_mem *m, uint32_t slot, uint64_t out[32]) {
  uint64_t offset = (uint64_t)m->offset;
  if (slot == EMU_NONE) {
    if (m->frame) offset += x->frame->local_base;
    for (int i = 0; i < 32; i++) out[i] = offset;
  } else if (m->base_wide) {
    const uint64_t *b = emu_row_at(x, slot);
    for (int i = 0; i < 32; i++) out[i] = b[i] + offset;
  } else {
    const uint32_t *b = emu_row_at(x, slot);
    for (int i = 0; i < 32; i++) out[i] = b[i] + offset;
  }
}

static uint8_t classify(uint64_t a) {
  if (a < EMU_SHARED_BASE || a >= EMU_PARAM_BASE + EMU_WINDOW_SIZE) return PTX_GLOBAL;
  return a - EMU_SHARED_BASE < EMU_WINDOW_SIZE ? PTX_SHARED : a - EMU_LOCAL_BASE < EMU_WINDOW_SIZE ? PTX_LOCAL : PTX_PARAM;
}

static bool bad_access(emu_exec *x, const emu_insn *in, emu_fault fault, unsigned lane, uint64_t address, uint32_t bytes, emu_access_kind kind, const char *where) {
  ts_text t = {0};
  emu_describe_address(x, address, &t);
  emu_fault_report(x, in, fault, lane, address, bytes, NULL, "%s of %u bytes at 0x%llx%s%s%s", kind == EMU_READ ? "read" : kind == EMU_WRITE ? "write" : "atomic operation", bytes,
                   (unsigned long long)address, where, t.len ? ": " : "", ts_text_z(&t));
  ts_text_deinit(&t);
  return false;
}

// One lane's access in a known space; address is an offset for all spaces but device memory.
static bool check_lane(emu_exec *x, const emu_insn *in, unsigned space, unsigned lane, uint64_t a, uint64_t shown, uint32_t bytes, emu_access_kind kind, uint8_t **host) {
  if (shown & (bytes - 1)) return bad_access(x, in, EMU_FAULT_MISALIGNED, lane, shown, bytes, kind, "");
  if (space == PTX_SHARED) {
    if (a > x->block->shared_bytes || bytes > x->block->shared_bytes - a) return bad_access(x, in, EMU_FAULT_OUT_OF_BOUNDS, lane, shown, bytes, kind, " in shared memory");
    *host = x->block->shared + a;
    return true;
  }
  if (space == PTX_LOCAL) {
    if (a > x->warp->local_bytes || bytes > x->warp->local_bytes - a) return bad_access(x, in, EMU_FAULT_OUT_OF_BOUNDS, lane, shown, bytes, kind, " in local memory");
    *host = x->warp->local + (size_t)lane * x->warp->local_bytes + a;
    return true;
  }
  if (space == PTX_PARAM) {
    if (kind != EMU_READ) return bad_access(x, in, EMU_FAULT_READ_ONLY, lane, shown, bytes, kind, " in parameter memory");
    if (a > x->launch->param_bytes || bytes > x->launch->param_bytes - a) return bad_access(x, in, EMU_FAULT_OUT_OF_BOUNDS, lane, shown, bytes, kind, " in parameter memory");
    *host = (uint8_t *)x->launch->params + a;
    return true;
  }
  emu_allocation *o = emu_owner(x->context, a);
  if (!o) return bad_access(x, in, EMU_FAULT_OUT_OF_BOUNDS, lane, shown, bytes, kind, "");
  if (!o->live) return bad_access(x, in, EMU_FAULT_USE_AFTER_FREE, lane, shown, bytes, kind, "");
  uint64_t at = a - EMU_DEVICE_BASE - o->offset;
  if (at > o->bytes || bytes > o->bytes - at) return bad_access(x, in, EMU_FAULT_OUT_OF_BOUNDS, lane, shown, bytes, kind, "");
  if (o->read_only && kind != EMU_READ) return bad_access(x, in, EMU_FAULT_READ_ONLY, lane, shown, bytes, kind, " in constant memory");
  *host = x->context->memory + (a - EMU_DEVICE_BASE);
  return true;
}

static bool resolve_slow(emu_exec *x, const emu_insn *in, unsigned space, uint32_t mask, uint32_t bytes, emu_access_kind kind, emu_access *out) {
  out->uniform = false;
  out->allocation = NULL;
  EACH_LANE(mask) {
    uint64_t a = out->address[i], shown = a;
    unsigned s = space;
    if (space == PTX_GENERIC) {
      s = classify(a);
      a -= s == PTX_SHARED ? EMU_SHARED_BASE : s == PTX_LOCAL ? EMU_LOCAL_BASE : s == PTX_PARAM ? EMU_PARAM_BASE : 0;
    } else if (space == PTX_CONST) {
      s = PTX_GLOBAL;
    }
    out->space[i] = (uint8_t)s;
    if (!check_lane(x, in, s, i, a, shown, bytes, kind, &out->host[i])) return false;
    out->address[i] = a;
  }
  return true;
}

typedef struct address_range {
  uint64_t low, high, all;   // all: every bit that some address has
} address_range;
#define RANGE_OF(name, attributes)                              \
  attributes static address_range name(const uint64_t *a) {     \
    uint64_t low = UINT64_MAX, high = 0, all = 0;               \
    for (unsigned i = 0; i < 32; i++) {                         \
      low = a[i] < low ? a[i] : low;                            \
      high = a[i] > high ? a[i] : high;                         \
      all |= a[i];                                              \
    }                                                           \
    return (address_range){low, high, all};                     \
  }
RANGE_OF(range_plain, )
RANGE_OF(range_avx512, __attribute__((target("avx512f"))))   // has minima and maxima of 64-bit numbers

bool emu_resolve(emu_exec *x, const emu_insn *in, const emu_mem *m, uint32_t slot, uint32_t mask, uint32_t bytes, emu_access_kind kind, emu_access *out) {
  lane_addresses(x, m, slot, out->address);
  unsigned space = m->space, first = (unsigned)__builtin_ctz(mask);
  if (mask != 0xffffffffu)
    for (unsigned i = 0; i < 32; i++) out->address[i] = mask >> i & 1 ? out->address[i] : out->address[first];
  address_range range = __builtin_cpu_supports("avx512f") ? range_avx512(out->address) : range_plain(out->address);
  uint64_t low = range.low, high = range.high, all = range.all;
  if (space == PTX_GENERIC) {
    space = classify(low);
    uint64_t base = space == PTX_SHARED ? EMU_SHARED_BASE : space == PTX_LOCAL ? EMU_LOCAL_BASE : space == PTX_PARAM ? EMU_PARAM_BASE : 0;
    if (space != classify(high) || all & (bytes - 1)) return resolve_slow(x, in, PTX_GENERIC, mask, bytes, kind, out);
    if (base) {
      for (unsigned i = 0; i < 32; i++) out->address[i] -= base;
      low -= base;
      high -= base;
    }
  } else if (space == PTX_CONST) {
    space = PTX_GLOBAL;
  }
  uint8_t *base;
  uint64_t limit;
  out->allocation = NULL;
  if (space == PTX_SHARED) {
    base = x->block->shared;
    limit = x->block->shared_bytes;
  } else if (space == PTX_LOCAL) {
    base = x->warp->local;
    limit = x->warp->local_bytes;
  } else if (space == PTX_GLOBAL) {
    emu_allocation *o = emu_owner(x->context, low);
    if (!o || !o->live || (o->read_only && kind != EMU_READ)) return resolve_slow(x, in, m->space, mask, bytes, kind, out);
    out->allocation = o;
    base = x->context->memory - EMU_DEVICE_BASE;
    limit = EMU_DEVICE_BASE + o->offset + o->bytes;
  } else {
    base = (uint8_t *)x->launch->params;
    limit = kind == EMU_READ ? x->launch->param_bytes : 0;
  }
  if (high > limit || bytes > limit - high || all & (bytes - 1)) {
    if (m->space == PTX_GENERIC && space != PTX_GLOBAL) lane_addresses(x, m, slot, out->address);
    return resolve_slow(x, in, m->space, mask, bytes, kind, out);
  }
  out->uniform = true;
  out->first_space = (uint8_t)space;
  uint64_t stride = space == PTX_LOCAL ? x->warp->local_bytes : 0;
  for (unsigned i = 0; i < 32; i++) out->host[i] = base + (out->address[i] + i * stride);
  return true;
}

uint8_t *emu_valid_of(emu_exec *x, const emu_access *a, unsigned lane) {
  unsigned space = a->uniform ? a->first_space : a->space[lane];
  if (space == PTX_SHARED) return x->block->shared_valid + (a->host[lane] - x->block->shared);
  if (space == PTX_LOCAL) return x->warp->local_valid + (a->host[lane] - x->warp->local);
  if (space != PTX_GLOBAL) return NULL;
  emu_allocation *o = a->uniform ? a->allocation : emu_owner(x->context, a->address[lane]);
  return !o || o->all_valid ? NULL : x->context->valid + (a->host[lane] - x->context->memory);
}

static bool keeps_shadow(const emu_access *a) {
  return !a->uniform || a->first_space == PTX_SHARED || a->first_space == PTX_LOCAL || (a->allocation && !a->allocation->all_valid);
}

static inline bool bytes_valid(const uint8_t *v, uint32_t n) {
  uint64_t w = 0;
  if (n >= 8) {
    for (uint32_t k = 0; k < n; k += 8) {
      memcpy(&w, v + k, 8);
      if (w != 0x0101010101010101ull) return false;
    }
    return true;
  }
  for (uint32_t k = 0; k < n; k++)
    if (v[k] != EMU_BYTE_VALID) return false;
  return true;
}

// The distance from a byte to its shadow, for accesses whose lanes are all in one space that keeps one.
static ptrdiff_t shadow_distance(const emu_exec *x, const emu_access *a) {
  if (a->first_space == PTX_SHARED) return x->block->shared_valid - x->block->shared;
  if (a->first_space == PTX_LOCAL) return x->warp->local_valid - x->warp->local;
  return x->context->valid - x->context->memory;
}

// Which lanes read something that isn't initialised, or pending.
static uint32_t invalid_lanes(emu_exec *x, const emu_access *a, uint32_t mask, uint32_t bytes) {
  uint32_t bad = 0;
  if (!a->uniform) {
    EACH_LANE(mask) {
      const uint8_t *v = emu_valid_of(x, a, i);
      bad |= (uint32_t)(v && !bytes_valid(v, bytes)) << i;
    }
    return bad;
  }
  ptrdiff_t to = shadow_distance(x, a);
  if (bytes == 4) {
    EACH_LANE(mask) {
      uint32_t v;
      memcpy(&v, a->host[i] + to, 4);
      bad |= (uint32_t)(v != 0x01010101u) << i;
    }
    return bad;
  }
  EACH_LANE(mask) bad |= (uint32_t)!bytes_valid(a->host[i] + to, bytes) << i;
  return bad;
}

static void check_valid(emu_exec *x, const emu_insn *in, const emu_access *a, uint32_t mask, uint32_t bytes, emu_access_kind kind) {
  if (!keeps_shadow(a)) return;
  mask = invalid_lanes(x, a, mask, bytes);
  EACH_LANE(mask) {
    uint8_t *v = emu_valid_of(x, a, i);
    bool pending = false;
    for (uint32_t k = 0; k < bytes; k++) pending |= v[k] == EMU_BYTE_PENDING;
    ts_text t = {0};
    unsigned space = a->uniform ? a->first_space : a->space[i];
    if (space == PTX_GLOBAL) emu_describe_address(x, a->address[i], &t);
    emu_fault_report(x, in, pending ? EMU_FAULT_ASYNC_PENDING : EMU_FAULT_UNINITIALISED, i, a->address[i], bytes, NULL, "%s of %u bytes at 0x%llx in %s memory %s%s%s",
                     kind == EMU_READ ? "read" : "atomic operation", bytes, (unsigned long long)a->address[i], space == PTX_SHARED ? "shared" : space == PTX_LOCAL ? "local" : "global",
                     pending ? "that a cp.async still writes" : "that nothing has written", t.len ? ": " : "", ts_text_z(&t));
    ts_text_deinit(&t);
    if (!pending) memset(v, EMU_BYTE_VALID, bytes);   // once per place
  }
}

static void mark_valid(emu_exec *x, const emu_insn *in, const emu_access *a, uint32_t mask, uint32_t bytes) {
  if (!x->check_init) {   // a later launch with checks must not take these bytes for unwritten
    if (a->uniform && a->first_space == PTX_GLOBAL) a->allocation->all_valid = true;
    else if (!a->uniform)
      EACH_LANE(mask) {
        if (a->space[i] == PTX_GLOBAL) emu_owner(x->context, a->address[i])->all_valid = true;
      }
    return;
  }
  if (!keeps_shadow(a)) return;
  ptrdiff_t to = a->uniform ? shadow_distance(x, a) : 0;
  EACH_LANE(mask) {
    uint8_t *v = a->uniform ? a->host[i] + to : emu_valid_of(x, a, i);
    if (!v) continue;
    if (v[0] == EMU_BYTE_PENDING)
      emu_fault_report(x, in, EMU_FAULT_ASYNC_PENDING, i, a->address[i], bytes, NULL, "write of %u bytes at 0x%llx in shared memory that a cp.async still writes", bytes, (unsigned long long)a->address[i]);
    memset(v, EMU_BYTE_VALID, bytes);
  }
}

// Everything an access has to go through; false: it must not happen.
static bool begin_access(emu_exec *x, const emu_insn *in, const emu_mem *m, uint32_t slot, uint32_t mask, uint32_t bytes, emu_access_kind kind, emu_access *a) {
  if (!emu_resolve(x, in, m, slot, mask, bytes, kind, a)) return false;
  if (x->check_init && kind != EMU_WRITE) check_valid(x, in, a, mask, bytes, kind);
  if (x->check_race) emu_race_access(x, in, m, a, mask, bytes, kind);
  if (x->counts) emu_count_access(x, in, a, mask, bytes, kind != EMU_READ);
  if (kind != EMU_READ) mark_valid(x, in, a, mask, bytes);
  return true;
}

// --- loads and stores ------------------------------------------------------------------------------------------------------------
#define LOAD(type, row_type, convert)                                                        \
  for (unsigned k = 0; k < m->count; k++) {                                                  \
    row_type *d = emu_row_at(x, in->x[k]);                                                   \
    if (mask == 0xffffffffu)                                                                 \
      for (unsigned i = 0; i < 32; i++) {                                                    \
        type v;                                                                              \
        memcpy(&v, a.host[i] + k * sizeof v, sizeof v);                                      \
        d[i] = convert;                                                                      \
      }                                                                                      \
    else                                                                                     \
      EACH_LANE(mask) {                                                                      \
        type v;                                                                              \
        memcpy(&v, a.host[i] + k * sizeof v, sizeof v);                                      \
        d[i] = convert;                                                                      \
      }                                                                                      \
  }

void emu_run_ld(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *m = in->u.extra;
  emu_access a;
  if (!begin_access(x, in, m, in->s[0], mask, (uint32_t)m->bytes * m->count, EMU_READ, &a)) return;
  if (m->nc && a.uniform && a.allocation) a.allocation->nc_read = true;
  switch (m->bytes) {
    case 1: LOAD(uint8_t, uint32_t, (m->sign ? (uint32_t)(int8_t)v : v)); break;
    case 2: LOAD(uint16_t, uint32_t, (m->sign ? (uint32_t)(int16_t)v : v)); break;
    case 4: LOAD(uint32_t, uint32_t, v); break;
    default: LOAD(uint64_t, uint64_t, v); break;
  }
  if (x->check_race && m->strong) emu_race_acquire(x, m, &a, mask);
}

#define STORE(type, row_type)                                                                \
  for (unsigned k = 0; k < m->count; k++) {                                                  \
    const row_type *s = emu_row_at(x, in->x[k]);                                             \
    EACH_LANE(mask) {                                                                        \
      type v = (type)s[i];                                                                   \
      memcpy(a.host[i] + k * sizeof v, &v, sizeof v);                                        \
    }                                                                                        \
  }

// What a store takes from an uninitialised register is uninitialised in memory too.
static void store_uninitialised(emu_exec *x, const emu_insn *in, const emu_mem *m, const emu_access *a, uint32_t mask) {
  for (unsigned k = 0; k < m->count; k++) {
    if (in->x[k] & EMU_CONST) continue;
    uint32_t missing = mask & ~x->frame->init[in->x[k] / 128];
    EACH_LANE(missing) {
      uint8_t *v = emu_valid_of(x, a, i);
      if (v) memset(v + k * m->bytes, EMU_BYTE_UNINIT, m->bytes);
      else emu_fault_report(x, in, EMU_FAULT_UNINITIALISED_REGISTER, i, a->address[i], m->bytes, NULL, "an uninitialised register is stored at 0x%llx", (unsigned long long)a->address[i]);
    }
  }
}

void emu_run_st(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *m = in->u.extra;
  emu_access a;
  if (!begin_access(x, in, m, in->s[0], mask, (uint32_t)m->bytes * m->count, EMU_WRITE, &a)) return;
  if (m->release) atomic_thread_fence(memory_order_release);
  x->warp->progress += m->space != PTX_LOCAL;
  switch (m->bytes) {
    case 1: STORE(uint8_t, uint32_t); break;
    case 2: STORE(uint16_t, uint32_t); break;
    case 4: STORE(uint32_t, uint32_t); break;
    default: STORE(uint64_t, uint64_t); break;
  }
  if (in->flags & EMU_F_TRACKED && x->check_init && x->frame->init) store_uninitialised(x, in, m, &a, mask);
}

// --- atomics ---------------------------------------------------------------------------------------------------------------------
static uint64_t apply(const emu_mem *m, uint64_t old, uint64_t b, uint64_t c) {
  bool sign = m->sign;
  switch (m->op) {
    case EMU_ATOM_EXCH: return b;
    case EMU_ATOM_CAS: return old == b ? c : old;
    case EMU_ATOM_INC: return (uint32_t)old >= (uint32_t)b ? 0 : old + 1;
    case EMU_ATOM_DEC: return (uint32_t)old == 0 || (uint32_t)old > (uint32_t)b ? b : old - 1;
    case EMU_OP_AND: return old & b;
    case EMU_OP_OR: return old | b;
    case EMU_OP_XOR: return old ^ b;
    default: break;
  }
  if (emu_type_is_float(m->type)) {
    uint64_t s[4] = {old, b, 0, 0};
    bool ok;
    // atom.add.f32 on global memory flushes subnormals on no target of today; halves keep them too (.noftz)
    return emu_scalar((emu_op)m->op, m->type, EMU_NOTYPE, 0, s, &ok);
  }
  if (m->op == EMU_OP_ADD) return old + b;
  bool less;
  if (m->bytes == 8) less = sign ? (int64_t)old < (int64_t)b : old < b;
  else less = sign ? (int32_t)old < (int32_t)b : (uint32_t)old < (uint32_t)b;
  return (m->op == EMU_OP_MIN) == less ? old : b;
}

#define ATOMIC(type)                                                                                     \
  {                                                                                                      \
    type *p = (type *)host, old = __atomic_load_n(p, __ATOMIC_SEQ_CST), new;                             \
    do new = (type)apply(m, old, b, c);                                                                  \
    while (!__atomic_compare_exchange_n(p, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));       \
    return old;                                                                                          \
  }
static uint64_t atomic_lane(const emu_mem *m, uint8_t *host, uint64_t b, uint64_t c) {
  switch (m->bytes) {
    case 2: ATOMIC(uint16_t)
    case 4: ATOMIC(uint32_t)
    default: ATOMIC(uint64_t)
  }
}

static uint64_t lane_value(const void *row, bool wide, unsigned bytes, unsigned lane) {
  uint64_t v = wide ? ((const uint64_t *)row)[lane] : ((const uint32_t *)row)[lane];
  return bytes >= 8 ? v : v & ((1ull << (bytes * 8)) - 1);
}

void emu_run_atom(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *m = in->u.extra;
  emu_access a;
  if (!begin_access(x, in, m, in->s[0], mask, (uint32_t)m->bytes * m->count, EMU_ATOMIC, &a)) return;
  bool wide = m->bytes == 8, cas = m->op == EMU_ATOM_CAS;
  uint64_t results[8][32];
  bool moved = false;
  for (unsigned k = 0; k < m->count; k++) {
    const void *b = emu_row_at(x, in->x[in->xd + k]), *c = cas ? emu_row_at(x, in->x[in->xd + 1]) : NULL;
    EACH_LANE(mask) {
      uint64_t expected = lane_value(b, wide, m->bytes, i);
      results[k][i] = atomic_lane(m, a.host[i] + k * m->bytes, expected, cas ? lane_value(c, wide, m->bytes, i) : 0);
      moved |= apply(m, results[k][i], expected, cas ? lane_value(c, wide, m->bytes, i) : 0) != results[k][i];
    }
  }
  if (x->check_race) emu_race_acquire(x, m, &a, mask);
  if (moved) {   // it changed something: not a wait
    x->warp->spins = 0;
    x->warp->progress++;
  }
  for (unsigned k = 0; k < in->xd; k++) {
    void *d = emu_row_at(x, in->x[k]);
    EACH_LANE(mask) {
      if (wide) ((uint64_t *)d)[i] = results[k][i];
      else ((uint32_t *)d)[i] = (uint32_t)results[k][i];
    }
  }
}

void emu_run_fence(emu_exec *x, const emu_insn *in, uint32_t mask) {
  (void)mask;
  atomic_thread_fence(memory_order_seq_cst);
  if (x->check_race) emu_race_fence(x, in->sub);
}

// --- asynchronous copies -----------------------------------------------------------------------------------------------------------
static void push_pending(emu_warp *w, emu_pending p) {
  if (w->copy_count == w->copy_capacity) {
    uint32_t capacity = w->copy_capacity ? w->copy_capacity * 2 : 256;
    emu_pending *grown = realloc(w->copies, capacity * sizeof *grown);
    if (!grown) abort();
    w->copies = grown;
    w->copy_capacity = capacity;
  }
  w->copies[w->copy_count++] = p;
}

// The source is read now; the target is written when the copy is waited for, so that a missing wait shows.
void emu_run_cp_async(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *to = in->u.extra, *from = to + 1;
  emu_access dst, src;
  uint32_t n = to->copy_bytes, reading = mask, sizes[32];
  const uint32_t *row = in->s[2] == EMU_NONE ? NULL : emu_row_at(x, in->s[2]);
  uint32_t ignored = in->sub ? emu_pred(x, in->ps, in->ps_not) : 0;
  EACH_LANE(mask) {
    sizes[i] = ignored >> i & 1 ? 0 : row && row[i] < n ? row[i] : n;
    if (!sizes[i]) reading &= ~(1u << i);
  }
  if (!emu_resolve(x, in, to, in->s[0], mask, n, EMU_WRITE, &dst)) return;
  if (reading) {
    if (!emu_resolve(x, in, from, in->s[1], reading, n, EMU_READ, &src)) return;
    if (x->check_init && !row) check_valid(x, in, &src, reading, n, EMU_READ);
    if (x->check_race) emu_race_access(x, in, from, &src, reading, n, EMU_READ);
    if (x->counts) emu_count_access(x, in, &src, reading, n, false);
  }
  if (x->check_race) emu_race_access(x, in, to, &dst, mask, n, EMU_WRITE);
  if (x->counts) emu_count_access(x, in, &dst, mask, n, true);
  EACH_LANE(mask) {
    emu_pending p = {.offset = (uint32_t)(dst.host[i] - x->block->shared), .group = x->warp->copy_group[i], .lane = (uint8_t)i, .bytes = (uint8_t)n};
    if (sizes[i]) memcpy(p.data, src.host[i], sizes[i]);
    if (x->check_init) {
      uint8_t *v = x->block->shared_valid + p.offset;
      if (v[0] == EMU_BYTE_PENDING) emu_fault_report(x, in, EMU_FAULT_ASYNC_PENDING, i, p.offset, n, NULL, "cp.async to shared memory 0x%x that another cp.async still writes", p.offset);
      memset(v, EMU_BYTE_PENDING, n);
    }
    push_pending(x->warp, p);
  }
}

void emu_run_cp_commit(emu_exec *x, const emu_insn *in, uint32_t mask) {
  (void)in;
  EACH_LANE(mask) x->warp->copy_group[i]++;
}

void emu_run_cp_wait(emu_exec *x, const emu_insn *in, uint32_t mask) {
  emu_warp *w = x->warp;
  uint32_t kept = 0;
  for (uint32_t k = 0; k < w->copy_count; k++) {
    emu_pending *p = &w->copies[k];
    uint32_t open = w->copy_group[p->lane];
    // Groups before `open` are committed; all but the last `target` of them must be done. wait_all takes uncommitted ones too.
    bool done = mask >> p->lane & 1 && (in->sub || (p->group < open && open - 1 - p->group >= in->target));
    if (!done) {
      w->copies[kept++] = *p;
      continue;
    }
    memcpy(x->block->shared + p->offset, p->data, p->bytes);
    memset(x->block->shared_valid + p->offset, EMU_BYTE_VALID, p->bytes);
  }
  w->copy_count = kept;
}

// --- matrices ------------------------------------------------------------------------------------------------------------------------
// ldmatrix: lane 8i + r gives the address of row r of matrix i.
static uint32_t row_lanes(const emu_insn *in) { return in->sub == 4 ? 0xffffffffu : (1u << (8 * in->sub)) - 1; }

void emu_run_ldmatrix(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *m = in->u.extra;
  emu_access a;
  (void)mask;
  if (!begin_access(x, in, m, in->s[0], row_lanes(in), 16, EMU_READ, &a)) return;
  uint32_t out[4][32];
  for (unsigned k = 0; k < in->sub; k++)
    for (unsigned lane = 0; lane < 32; lane++) {
      uint32_t v = 0;
      for (unsigned h = 0; h < 2; h++) {
        unsigned row, col;
        uint16_t e;
        emu_ldmatrix_coord(in->mode, lane, h, &row, &col);
        memcpy(&e, a.host[8 * k + row] + col * 2, 2);
        v |= (uint32_t)e << (16 * h);
      }
      out[k][lane] = v;
    }
  for (unsigned k = 0; k < in->sub; k++) memcpy(emu_row_at(x, in->x[k]), out[k], 128);
}

void emu_run_stmatrix(emu_exec *x, const emu_insn *in, uint32_t mask) {
  const emu_mem *m = in->u.extra;
  emu_access a;
  (void)mask;
  if (!begin_access(x, in, m, in->s[0], row_lanes(in), 16, EMU_WRITE, &a)) return;
  for (unsigned k = 0; k < in->sub; k++) {
    const uint32_t *s = emu_row_at(x, in->x[k]);
    for (unsigned lane = 0; lane < 32; lane++)
      for (unsigned h = 0; h < 2; h++) {
        unsigned row, col;
        emu_ldmatrix_coord(in->mode, lane, h, &row, &col);
        uint16_t e = (uint16_t)(s[lane] >> (16 * h));
        memcpy(a.host[8 * k + row] + col * 2, &e, 2);
      }
  }
}

// wmma.load and wmma.store: every element of every lane's registers is an access of its own, register by register.
static bool wmma_elements(emu_exec *x, const emu_insn *in, bool store) {
  const emu_wmma_mem *w = in->u.extra;
  unsigned bits = emu_type_bits(w->type), per = emu_frag_elements(w->desc, w->which, w->type);
  uint64_t base[32];
  const uint32_t *stride = emu_row_at(x, in->s[1]);
  lane_addresses(x, &w->mem, in->s[0], base);
  emu_mem m = w->mem;
  m.offset = 0;
  m.frame = false;
  m.base_wide = true;
  m.bytes = (uint8_t)(bits < 8 ? 4 : bits / 8);
  m.count = 1;
  unsigned step = bits < 8 ? per : 1;   // sub-byte elements go 32 bits at a time
  for (unsigned r = 0; r < w->regs; r++) {
    uint64_t words[32] = {0};
    void *row = emu_row_at(x, in->x[r]);
    for (unsigned e = 0; e < per; e += step) {
      _Alignas(64) uint64_t at[32];
      for (unsigned lane = 0; lane < 32; lane++) {
        unsigned i, j;
        emu_frag_coord(w->desc, w->which, w->type, lane, r, e, &i, &j);
        uint64_t index = w->col ? (uint64_t)j * stride[lane] + i : (uint64_t)i * stride[lane] + j;
        at[lane] = base[lane] + index * bits / 8;
      }
      uint8_t *saved = x->regs;
      emu_access a;
      x->regs = (uint8_t *)at;   // the addresses of this element as the base row
      bool ok = begin_access(x, in, &m, 0, 0xffffffffu, m.bytes, store ? EMU_WRITE : EMU_READ, &a);
      x->regs = saved;
      if (!ok) return false;
      for (unsigned lane = 0; lane < 32; lane++) {
        uint64_t v = 0;
        unsigned shift = e * bits;
        if (store) {
          v = (bits == 64 ? ((uint64_t *)row)[lane] : ((uint32_t *)row)[lane]) >> (bits < 8 ? 0 : shift);
          memcpy(a.host[lane], &v, m.bytes);
        } else {
          memcpy(&v, a.host[lane], m.bytes);
          words[lane] |= v << (bits < 8 ? 0 : shift);
        }
      }
    }
    for (unsigned lane = 0; !store && lane < 32; lane++) {
      if (bits == 64) ((uint64_t *)row)[lane] = words[lane];
      else ((uint32_t *)row)[lane] = (uint32_t)words[lane];
    }
  }
  return true;
}

void emu_run_wmma_load(emu_exec *x, const emu_insn *in, uint32_t mask) {
  (void)mask;
  wmma_elements(x, in, false);
}
void emu_run_wmma_store(emu_exec *x, const emu_insn *in, uint32_t mask) {
  (void)mask;
  wmma_elements(x, in, true);
}

const uint8_t *emu_host_pointer(emu_exec *x, unsigned lane, uint64_t a, uint64_t *available) {
  *available = 0;
  switch (classify(a)) {
    case PTX_SHARED:
      a -= EMU_SHARED_BASE;
      if (a >= x->block->shared_bytes) return NULL;
      *available = x->block->shared_bytes - a;
      return x->block->shared + a;
    case PTX_LOCAL:
      a -= EMU_LOCAL_BASE;
      if (a >= x->warp->local_bytes) return NULL;
      *available = x->warp->local_bytes - a;
      return x->warp->local + (size_t)lane * x->warp->local_bytes + a;
    case PTX_PARAM:
      a -= EMU_PARAM_BASE;
      if (a >= x->launch->param_bytes) return NULL;
      *available = x->launch->param_bytes - a;
      return x->launch->params + a;
    default: break;
  }
  emu_allocation *o = emu_owner(x->context, a);
  if (!o || !o->live) return NULL;
  uint64_t at = a - EMU_DEVICE_BASE - o->offset;
  if (at >= o->bytes) return NULL;
  *available = o->bytes - at;
  return x->context->memory + (a - EMU_DEVICE_BASE);
}
