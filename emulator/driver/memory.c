// Device memory, pinned and managed host memory, pools, and what is known about a pointer.
//
// All of it is memory of the emulated device. Pinned and managed memory is seen by the host through the emulator's own mapping;
// where a device is `unified` that mapping lies at the device addresses, so that one pointer serves both sides.
#include "emulator/driver/driver.h"
#include "emulator/machine.h"

#include <stdlib.h>

cu_result drv_memory_create(drv_context *c, uint64_t bytes, drv_memory_kind kind, unsigned flags, drv_pool *pool,
                            drv_memory **out) {
  static const char *const kinds[] = {"allocation", "pinned allocation", "managed allocation", "pool allocation"};
  drv_device *d = c->device;
  drv_memory *m = calloc(1, sizeof *m);
  if (!m) return CU_ERROR_OUT_OF_MEMORY;
  char name[48];
  *m = (drv_memory){.context = c, .kind = kind, .bytes = bytes, .id = ++drv.next_id, .flags = flags, .pool = pool};
  snprintf(name, sizeof name, "%s %llu", kinds[kind], (unsigned long long)m->id);
  if (emu_alloc(d->emu, bytes, name, &m->address) != TS_OK) {
    free(m);
    return CU_ERROR_OUT_OF_MEMORY;
  }
  if (kind == DRV_MEMORY_PINNED || kind == DRV_MEMORY_MANAGED) {
    m->host = d->emu->memory + (m->address - EMU_DEVICE_BASE);
    emu_owner(d->emu, m->address)->all_valid = true;   // the host writes unseen
  }
  m->next = c->memory;
  if (m->next) m->next->prev = m;
  c->memory = m;
  ts_map_put(&d->memory, m->address, m);
  if (pool) {
    pool->used += bytes;
    if (pool->used > pool->used_high) pool->used_high = pool->used;
  }
  *out = m;
  return CU_SUCCESS;
}

void drv_memory_destroy(drv_memory *m) {
  drv_device *d = m->context->device;
  emu_free(d->emu, m->address);
  ts_map_put(&d->memory, m->address, NULL);
  if (m->pool) m->pool->used -= m->bytes;
  if (m->prev) m->prev->next = m->next;
  else m->context->memory = m->next;
  if (m->next) m->next->prev = m->prev;
  free(m);
}

static bool inside(const drv_device *d, cu_ptr p, emu_addr *address) {
  if (!d->emu) return false;
  uint64_t host = p - (uint64_t)(uintptr_t)d->emu->memory;
  if (host < d->emu->capacity) {
    *address = EMU_DEVICE_BASE + host;
    return true;
  }
  *address = p;
  return p - EMU_DEVICE_BASE < d->emu->capacity;
}

bool drv_locate(cu_ptr p, drv_device **d, emu_addr *address) {
  drv_context *c = drv_current();
  bool found = c && inside(c->device, p, address);
  if (found) *d = c->device;
  if (found && emu_find(c->device->emu, *address, NULL, NULL, NULL) == TS_OK) return true;
  for (int i = 0; i < drv.device_count; i++) {
    emu_addr a;
    if (!inside(&drv.devices[i], p, &a)) continue;
    bool live = emu_find(drv.devices[i].emu, a, NULL, NULL, NULL) == TS_OK;
    if (!live && found) continue;
    *d = &drv.devices[i];
    *address = a;
    found = true;
    if (live) break;
  }
  return found;
}

drv_memory *drv_memory_at(cu_ptr p) {
  drv_device *d;
  emu_addr a, base;
  if (!drv_locate(p, &d, &a) || emu_find(d->emu, a, &base, NULL, NULL) != TS_OK) return NULL;
  return ts_map_get(&d->memory, base);
}

cu_result drv_do_cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  uint64_t f, t;
  emu_memory_info(drv_current()->device->emu, &f, &t);
  if (!free_bytes || !total) return CU_ERROR_INVALID_VALUE;
  *free_bytes = f;
  *total = t;
  return CU_SUCCESS;
}

static cu_result allocate(cu_ptr *out, size_t bytes, drv_memory_kind kind, unsigned flags, drv_pool *pool) {
  drv_memory *m;
  if (!out || !bytes) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_memory_create(drv_current(), bytes, kind, flags, pool, &m);
  if (r == CU_SUCCESS) *out = m->address;
  return r;
}

cu_result drv_do_cuMemAlloc_v2(cu_ptr *out, size_t bytes) { return allocate(out, bytes, DRV_MEMORY_DEVICE, 0, NULL); }

cu_result drv_do_cuMemAllocPitch_v2(cu_ptr *out, size_t *pitch, size_t width, size_t height, unsigned element) {
  size_t row, bytes;
  if (!pitch || (element != 4 && element != 8 && element != 16)) return CU_ERROR_INVALID_VALUE;
  if (__builtin_add_overflow(width, (size_t)511, &row) || __builtin_mul_overflow(row & ~(size_t)511, height, &bytes))
    return CU_ERROR_INVALID_VALUE;
  cu_result r = allocate(out, bytes, DRV_MEMORY_DEVICE, 0, NULL);
  if (r == CU_SUCCESS) *pitch = row & ~(size_t)511;
  return r;
}

static cu_result release(cu_ptr p) {
  drv_memory *m = drv_memory_at(p);
  if (!p) return CU_SUCCESS;
  if (!m || m->address != p || m->kind == DRV_MEMORY_PINNED) return CU_ERROR_INVALID_VALUE;
  drv_memory_destroy(m);
  return CU_SUCCESS;
}
cu_result drv_do_cuMemFree_v2(cu_ptr p) { return release(p); }

cu_result drv_do_cuMemGetAddressRange_v2(cu_ptr *base, size_t *bytes, cu_ptr p) {
  drv_device *d;
  emu_addr a, start;
  uint64_t n;
  if (!drv_locate(p, &d, &a) || emu_find(d->emu, a, &start, &n, NULL) != TS_OK) return CU_ERROR_NOT_FOUND;
  if (base) *base = start;
  if (bytes) *bytes = n;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
  drv_memory *m;
  if (!out || !bytes || flags & ~7u) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_memory_create(drv_current(), bytes, DRV_MEMORY_PINNED, flags, NULL, &m);
  if (r == CU_SUCCESS) *out = m->host;
  return r;
}
cu_result drv_do_cuMemAllocHost_v2(void **out, size_t bytes) { return drv_do_cuMemHostAlloc(out, bytes, 0); }

static drv_memory *pinned_at(void *p) {
  drv_memory *m = drv_memory_at((cu_ptr)(uintptr_t)p);
  return m && m->kind == DRV_MEMORY_PINNED ? m : NULL;
}

cu_result drv_do_cuMemFreeHost(void *p) {
  drv_memory *m = pinned_at(p);
  if (!m || m->host != p) return CU_ERROR_INVALID_VALUE;
  drv_memory_destroy(m);
  return CU_SUCCESS;
}

cu_result drv_do_cuMemHostGetDevicePointer_v2(cu_ptr *out, void *p, unsigned flags) {
  drv_memory *m = pinned_at(p);
  if (!out || flags || !m) return CU_ERROR_INVALID_VALUE;
  *out = m->address + (uint64_t)((char *)p - (char *)m->host);
  return CU_SUCCESS;
}

cu_result drv_do_cuMemHostGetFlags(unsigned *out, void *p) {
  drv_memory *m = pinned_at(p);
  if (!out || !m) return CU_ERROR_INVALID_VALUE;
  *out = m->flags | 2;   // always mapped
  return CU_SUCCESS;
}

cu_result drv_do_cuMemAllocManaged(cu_ptr *out, size_t bytes, unsigned flags) {
  if (flags != 1 && flags != 2) return CU_ERROR_INVALID_VALUE;
  if (!drv_current()->device->unified) return CU_ERROR_NOT_SUPPORTED;
  return allocate(out, bytes, DRV_MEMORY_MANAGED, flags, NULL);
}

// Memory that the program allocated itself can't be put into device memory: kernels couldn't see it.
cu_result drv_do_cuMemHostRegister_v2(void *p, size_t bytes, unsigned flags) {
  (void)flags;
  return p && bytes ? CU_ERROR_NOT_SUPPORTED : CU_ERROR_INVALID_VALUE;
}
cu_result drv_do_cuMemHostUnregister(void *p) { return p ? CU_ERROR_HOST_MEMORY_NOT_REGISTERED : CU_ERROR_INVALID_VALUE; }

// Advice and prefetching of managed memory: legal, and without effect.
static cu_result managed_range(cu_ptr p, size_t bytes) {
  drv_memory *m = drv_memory_at(p);
  if (!m || m->kind != DRV_MEMORY_MANAGED || !bytes || bytes > m->bytes - (p - m->address)) return CU_ERROR_INVALID_VALUE;
  return CU_SUCCESS;
}
cu_result drv_do_cuMemAdvise(cu_ptr p, size_t bytes, int advice, cu_device d) {
  (void)d;
  return advice < 1 || advice > 6 ? CU_ERROR_INVALID_VALUE : managed_range(p, bytes);
}
cu_result drv_do_cuMemAdvise_v2(cu_ptr p, size_t bytes, int advice, cu_location where) {
  return drv_do_cuMemAdvise(p, bytes, advice, where.id);
}
cu_result drv_do_cuMemPrefetchAsync(cu_ptr p, size_t bytes, cu_device d, cu_handle stream) {
  (void)d;
  cu_result r = drv_stream_check(stream);
  return r == CU_SUCCESS ? managed_range(p, bytes) : r;
}
cu_result drv_do_cuMemPrefetchAsync_v2(cu_ptr p, size_t bytes, cu_location where, unsigned flags, cu_handle stream) {
  return flags ? CU_ERROR_INVALID_VALUE : drv_do_cuMemPrefetchAsync(p, bytes, where.id, stream);
}
cu_result drv_do_cuStreamAttachMemAsync(cu_handle stream, cu_ptr p, size_t bytes, unsigned flags) {
  (void)bytes;
  if (flags != 1 && flags != 2 && flags != 4) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_stream_check(stream);
  return r == CU_SUCCESS ? managed_range(p, 1) : r;
}

// --- pools -----------------------------------------------------------------------------------------------------------------

cu_result drv_do_cuDeviceGetDefaultMemPool(cu_handle *out, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  *out = dev->default_pool;
  return CU_SUCCESS;
}
cu_result drv_do_cuDeviceGetMemPool(cu_handle *out, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  *out = dev->pool;
  return CU_SUCCESS;
}
cu_result drv_do_cuDeviceSetMemPool(cu_device d, cu_handle pool) {
  drv_device *dev = drv_device_at(d);
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!p || p->device != dev) return CU_ERROR_INVALID_VALUE;
  dev->pool = p;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemPoolCreate(cu_handle *out, const cu_pool_props *props) {
  if (!out || !props || props->allocation_type != 1) return CU_ERROR_INVALID_VALUE;
  if (props->handle_types || props->location.type != CU_LOCATION_DEVICE) return CU_ERROR_NOT_SUPPORTED;
  drv_device *d = drv_device_at(props->location.id);
  if (!d) return CU_ERROR_INVALID_DEVICE;
  drv_pool *p = calloc(1, sizeof *p);
  if (!p) return CU_ERROR_OUT_OF_MEMORY;
  *p = (drv_pool){.device = d, .reuse = {1, 1, 1}};
  drv_add(&drv.objects, &p->object, DRV_POOL);
  *out = p;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemPoolDestroy(cu_handle pool) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!p || p == p->device->default_pool) return CU_ERROR_INVALID_VALUE;
  if (p->device->pool == p) p->device->pool = p->device->default_pool;
  for (drv_object *o = drv.objects; o; o = o->next)   // its allocations live on
    if (o->kind == DRV_CONTEXT)
      for (drv_memory *m = ((drv_context *)o)->memory; m; m = m->next)
        if (m->pool == p) m->pool = NULL;
  drv_remove(&p->object);
  free(p);
  return CU_SUCCESS;
}

cu_result drv_do_cuMemPoolTrimTo(cu_handle pool, size_t bytes) {
  (void)bytes;   // nothing is kept that isn't used
  return drv_find(pool, DRV_POOL) ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}

enum {
  POOL_REUSE_FIRST = 1,
  POOL_REUSE_LAST = 3,
  POOL_THRESHOLD = 4,
  POOL_RESERVED,
  POOL_RESERVED_HIGH,
  POOL_USED,
  POOL_USED_HIGH
};

cu_result drv_do_cuMemPoolSetAttribute(cu_handle pool, int attribute, void *value) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!p || !value) return CU_ERROR_INVALID_VALUE;
  if (attribute >= POOL_REUSE_FIRST && attribute <= POOL_REUSE_LAST)
    memcpy(&p->reuse[attribute - POOL_REUSE_FIRST], value, sizeof(int));
  else if (attribute == POOL_THRESHOLD) memcpy(&p->threshold, value, sizeof p->threshold);
  else if (attribute == POOL_RESERVED_HIGH || attribute == POOL_USED_HIGH) p->used_high = p->used;   // only a reset is legal
  else return CU_ERROR_INVALID_VALUE;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemPoolGetAttribute(cu_handle pool, int attribute, void *value) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!p || !value) return CU_ERROR_INVALID_VALUE;
  switch (attribute) {
  case 1: case 2: case 3: memcpy(value, &p->reuse[attribute - POOL_REUSE_FIRST], sizeof(int)); return CU_SUCCESS;
  case POOL_THRESHOLD: memcpy(value, &p->threshold, 8); return CU_SUCCESS;
  case POOL_RESERVED: case POOL_USED: memcpy(value, &p->used, 8); return CU_SUCCESS;
  case POOL_RESERVED_HIGH: case POOL_USED_HIGH: memcpy(value, &p->used_high, 8); return CU_SUCCESS;
  default: return CU_ERROR_INVALID_VALUE;
  }
}

cu_result drv_do_cuMemPoolSetAccess(cu_handle pool, const cu_access *map, size_t count) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!p || (count && !map)) return CU_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; i++) {
    if (map[i].location.type != CU_LOCATION_DEVICE || !drv_device_at(map[i].location.id)) return CU_ERROR_INVALID_VALUE;
    if (map[i].location.id != p->device->ordinal && map[i].flags) return CU_ERROR_INVALID_DEVICE;   // no peer access
  }
  return CU_SUCCESS;
}
cu_result drv_do_cuMemPoolGetAccess(int *flags, cu_handle pool, cu_location *where) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  if (!p || !flags || !where || where->type != CU_LOCATION_DEVICE) return CU_ERROR_INVALID_VALUE;
  *flags = where->id == p->device->ordinal ? 3 : 0;
  return CU_SUCCESS;
}

cu_result drv_do_cuMemAllocFromPoolAsync(cu_ptr *out, size_t bytes, cu_handle pool, cu_handle stream) {
  drv_pool *p = drv_find(pool, DRV_POOL);
  cu_result r = drv_stream_check(stream);
  if (r != CU_SUCCESS) return r;
  if (!p || p->device != drv_current()->device) return CU_ERROR_INVALID_VALUE;
  return allocate(out, bytes, DRV_MEMORY_POOL, 0, p);
}
cu_result drv_do_cuMemAllocAsync(cu_ptr *out, size_t bytes, cu_handle stream) {
  return drv_do_cuMemAllocFromPoolAsync(out, bytes, drv_current()->device->pool, stream);
}
cu_result drv_do_cuMemFreeAsync(cu_ptr p, cu_handle stream) {
  cu_result r = drv_stream_check(stream);
  return r == CU_SUCCESS ? release(p) : r;
}

// --- what is known about a pointer -----------------------------------------------------------------------------------------

typedef enum pointer_attribute {
  PTR_CONTEXT = 1,
  PTR_MEMORY_TYPE,
  PTR_DEVICE_POINTER,
  PTR_HOST_POINTER,
  PTR_P2P_TOKENS,
  PTR_SYNC_MEMOPS,
  PTR_BUFFER_ID,
  PTR_IS_MANAGED,
  PTR_DEVICE_ORDINAL,
  PTR_IPC_CAPABLE,
  PTR_RANGE_START,
  PTR_RANGE_SIZE,
  PTR_MAPPED,
  PTR_HANDLE_TYPES,
  PTR_RDMA_CAPABLE,
  PTR_ACCESS_FLAGS,
  PTR_POOL,
  PTR_MAPPING_SIZE,
  PTR_MAPPING_BASE,
  PTR_BLOCK_ID
} pointer_attribute;

typedef struct pointer_info {
  drv_device *device;
  drv_memory *memory;
  emu_addr address, base;
  uint64_t bytes;
} pointer_info;

static bool describe(cu_ptr p, pointer_info *out) {
  *out = (pointer_info){0};
  if (!drv_locate(p, &out->device, &out->address) ||
      emu_find(out->device->emu, out->address, &out->base, &out->bytes, NULL) != TS_OK)
    return false;
  out->memory = ts_map_get(&out->device->memory, out->base);
  return true;
}

static cu_result pointer_value(const pointer_info *i, int attribute, void *out) {
  const drv_memory *m = i->memory;
  drv_memory_kind kind = m ? m->kind : DRV_MEMORY_DEVICE;
  bool host = kind == DRV_MEMORY_PINNED || kind == DRV_MEMORY_MANAGED;
  void *pointer = NULL;
  uint64_t wide = 0;
  int narrow = 0;
  switch (attribute) {
  case PTR_CONTEXT: pointer = m ? m->context : drv_current(); break;
  case PTR_DEVICE_POINTER: wide = i->address; break;
  case PTR_HOST_POINTER:
    if (!host) return CU_ERROR_INVALID_VALUE;
    pointer = (char *)m->host + (i->address - i->base);
    break;
  case PTR_POOL: pointer = m ? m->pool : NULL; break;
  case PTR_BUFFER_ID: wide = m ? m->id : i->base; break;
  case PTR_RANGE_START: case PTR_MAPPING_BASE: wide = i->base; break;
  case PTR_RANGE_SIZE: case PTR_MAPPING_SIZE: wide = i->bytes; break;
  case PTR_BLOCK_ID: case PTR_HANDLE_TYPES: break;
  case PTR_MEMORY_TYPE: narrow = kind == DRV_MEMORY_PINNED ? CU_MEMORY_HOST : CU_MEMORY_DEVICE; break;
  case PTR_DEVICE_ORDINAL: narrow = i->device->ordinal; break;
  case PTR_ACCESS_FLAGS: narrow = 3; break;
  case PTR_IS_MANAGED: case PTR_SYNC_MEMOPS: case PTR_IPC_CAPABLE: case PTR_MAPPED: case PTR_RDMA_CAPABLE:   // of one byte
    *(char *)out = attribute == PTR_IS_MANAGED ? kind == DRV_MEMORY_MANAGED : attribute == PTR_MAPPED;
    return CU_SUCCESS;
  default: return CU_ERROR_INVALID_VALUE;
  }
  if (attribute == PTR_CONTEXT || attribute == PTR_HOST_POINTER || attribute == PTR_POOL) memcpy(out, &pointer, sizeof pointer);
  else if (attribute == PTR_MEMORY_TYPE || attribute == PTR_DEVICE_ORDINAL || attribute == PTR_ACCESS_FLAGS)
    memcpy(out, &narrow, sizeof narrow);
  else memcpy(out, &wide, sizeof wide);
  return CU_SUCCESS;
}

cu_result drv_do_cuPointerGetAttribute(void *out, int attribute, cu_ptr p) {
  pointer_info i;
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!describe(p, &i)) return CU_ERROR_INVALID_VALUE;
  return pointer_value(&i, attribute, out);
}

// Of a pointer that the driver doesn't know every attribute is zero; of a known one those that it doesn't have.
cu_result drv_do_cuPointerGetAttributes(unsigned count, int *attributes, void **out, cu_ptr p) {
  pointer_info i;
  if (!count || !attributes || !out) return CU_ERROR_INVALID_VALUE;
  bool known = describe(p, &i);
  for (unsigned k = 0; k < count; k++) {
    if (attributes[k] < PTR_CONTEXT || attributes[k] > PTR_BLOCK_ID + 1) return CU_ERROR_INVALID_VALUE;
    if (known && pointer_value(&i, attributes[k], out[k]) == CU_SUCCESS) continue;
    int a = attributes[k];
    bool byte = a == PTR_IS_MANAGED || a == PTR_SYNC_MEMOPS || a == PTR_IPC_CAPABLE || a == PTR_MAPPED || a == PTR_RDMA_CAPABLE;
    bool narrow = a == PTR_MEMORY_TYPE || a == PTR_DEVICE_ORDINAL || a == PTR_ACCESS_FLAGS || a > PTR_BLOCK_ID;
    memset(out[k], 0, byte ? 1 : narrow ? 4 : 8);
    if (a == PTR_DEVICE_ORDINAL) memcpy(out[k], &(int){-2}, 4);
  }
  return CU_SUCCESS;
}

cu_result drv_do_cuPointerSetAttribute(const void *value, int attribute, cu_ptr p) {
  pointer_info i;
  if (!value || attribute != PTR_SYNC_MEMOPS || !describe(p, &i)) return CU_ERROR_INVALID_VALUE;
  return CU_SUCCESS;   // every operation is synchronous
}
