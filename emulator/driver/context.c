// Contexts: created ones and the primary ones of devices, their limits and settings. Contexts of one device share its memory.
#include "emulator/driver/driver.h"

#include <stdlib.h>

enum { CTX_FLAGS = 0xff, CTX_SCHED = 0x07, LIMITS = 10 };

static const size_t default_limits[LIMITS] = {1024, 1 << 20, 8 << 20, 2, 2048, 64, 0, 0, 0, 0};

static bool flags_are_good(unsigned flags) {
  unsigned sched = flags & CTX_SCHED;
  return !(flags & ~(unsigned)CTX_FLAGS) && (sched == 0 || sched == 1 || sched == 2 || sched == 4);
}

cu_result drv_context_create(drv_device *d, unsigned flags, bool primary, drv_context **out) {
  cu_result r = drv_device_start(d);
  if (r != CU_SUCCESS) return r;
  drv_context *c = primary && d->primary ? d->primary : calloc(1, sizeof *c);
  if (!c) return CU_ERROR_OUT_OF_MEMORY;
  if (!c->device) drv_add(&drv.objects, &c->object, DRV_CONTEXT);
  c->device = d;
  c->alive = true;
  c->flags = flags;
  c->id = ++drv.next_id;
  c->error = CU_SUCCESS;
  c->cache_config = c->shared_config = 0;
  memcpy(c->limits, default_limits, sizeof c->limits);
  *out = c;
  return CU_SUCCESS;
}

// Ends what the context owns; the object stays.
void drv_context_end(drv_context *c) {
  while (c->objects) {
    drv_object *o = c->objects;
    if (o->kind == DRV_MODULE) {
      drv_module_destroy((drv_module *)o);
    } else if (o->kind == DRV_LINK) {
      drv_link_destroy((drv_link *)o);
    } else {
      drv_remove(o);
      free(o);
    }
  }
  while (c->memory) drv_memory_destroy(c->memory);
  c->alive = false;
  c->error = CU_SUCCESS;
}

static cu_result create(cu_handle *out, unsigned flags, cu_device d) {
  drv_device *dev = drv_device_at(d);
  drv_context *c = NULL;
  if (!out || !flags_are_good(flags)) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  cu_result r = drv_context_create(dev, flags, false, &c);
  if (r != CU_SUCCESS) return r;
  *out = c;
  return drv_do_cuCtxPushCurrent_v2(c);
}
cu_result drv_do_cuCtxCreate_v2(cu_handle *out, unsigned flags, cu_device d) { return create(out, flags, d); }
cu_result drv_do_cuCtxCreate_v3(cu_handle *out, void *affinity, int affinities, unsigned flags, cu_device d) {
  return affinity || affinities ? CU_ERROR_UNSUPPORTED_EXEC_AFFINITY : create(out, flags, d);
}
cu_result drv_do_cuCtxCreate_v4(cu_handle *out, void *params, unsigned flags, cu_device d) {
  return params ? CU_ERROR_NOT_SUPPORTED : create(out, flags, d);
}

cu_result drv_do_cuCtxDestroy_v2(cu_handle h) {
  drv_context *c = drv_find(h, DRV_CONTEXT), *current = drv_current();
  if (!c) return CU_ERROR_INVALID_CONTEXT;
  if (!c->alive) return CU_ERROR_CONTEXT_IS_DESTROYED;
  if (c == c->device->primary) return CU_ERROR_INVALID_CONTEXT;
  drv_context_end(c);
  if (c == current) drv_stack_drop();
  return CU_SUCCESS;
}
cu_result drv_do_cuCtxDestroy(cu_handle h) { return drv_do_cuCtxDestroy_v2(h); }

// --- primary contexts ------------------------------------------------------------------------------------------------------

cu_result drv_do_cuDevicePrimaryCtxRetain(cu_handle *out, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!dev->primary || !dev->primary->alive) {
    cu_result r = drv_context_create(dev, dev->primary_flags, true, &dev->primary);
    if (r != CU_SUCCESS) return r;
  }
  dev->primary_uses++;
  *out = dev->primary;
  return CU_SUCCESS;
}

cu_result drv_do_cuDevicePrimaryCtxRelease_v2(cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!dev->primary_uses) return CU_ERROR_INVALID_CONTEXT;
  if (--dev->primary_uses == 0 && dev->primary->alive) drv_context_end(dev->primary);
  return CU_SUCCESS;
}
cu_result drv_do_cuDevicePrimaryCtxRelease(cu_device d) { return drv_do_cuDevicePrimaryCtxRelease_v2(d); }

// Everything in it goes, users of it notice; as documented, the number of users doesn't change.
cu_result drv_do_cuDevicePrimaryCtxReset_v2(cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (dev->primary && dev->primary->alive) drv_context_end(dev->primary);
  return CU_SUCCESS;
}
cu_result drv_do_cuDevicePrimaryCtxReset(cu_device d) { return drv_do_cuDevicePrimaryCtxReset_v2(d); }

cu_result drv_do_cuDevicePrimaryCtxSetFlags_v2(cu_device d, unsigned flags) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!flags_are_good(flags)) return CU_ERROR_INVALID_VALUE;
  dev->primary_flags = flags;
  if (dev->primary) dev->primary->flags = flags;
  return CU_SUCCESS;
}
cu_result drv_do_cuDevicePrimaryCtxSetFlags(cu_device d, unsigned flags) {
  return drv_do_cuDevicePrimaryCtxSetFlags_v2(d, flags);
}

cu_result drv_do_cuDevicePrimaryCtxGetState(cu_device d, unsigned *flags, int *active) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!flags || !active) return CU_ERROR_INVALID_VALUE;
  *flags = dev->primary_flags;
  *active = dev->primary && dev->primary->alive;
  return CU_SUCCESS;
}

// --- settings --------------------------------------------------------------------------------------------------------------

cu_result drv_do_cuCtxGetDevice(cu_device *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = drv_current()->device->ordinal;
  return CU_SUCCESS;
}

// A context by its handle, NULL: the current one.
static drv_context *context_or_current(cu_handle h) {
  drv_context *c = h ? drv_find(h, DRV_CONTEXT) : drv_current();
  return c && c->alive ? c : NULL;
}

cu_result drv_do_cuCtxGetDevice_v2(cu_device *out, cu_handle h) {
  drv_context *c = context_or_current(h);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!c) return CU_ERROR_INVALID_CONTEXT;
  *out = c->device->ordinal;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetFlags(unsigned *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = drv_current()->flags;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxSetFlags(unsigned flags) {
  if (!flags_are_good(flags)) return CU_ERROR_INVALID_VALUE;
  drv_current()->flags = flags;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetId(cu_handle h, unsigned long long *out) {
  drv_context *c = context_or_current(h);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!c) return CU_ERROR_INVALID_CONTEXT;
  *out = c->id;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxSynchronize(void) { return CU_SUCCESS; }
cu_result drv_do_cuCtxSynchronize_v2(cu_handle h) {
  drv_context *c = context_or_current(h);
  return c ? c->error : CU_ERROR_INVALID_CONTEXT;
}

cu_result drv_do_cuCtxSetLimit(int limit, size_t value) {
  if (limit < 0 || limit >= LIMITS) return CU_ERROR_INVALID_VALUE;
  if (limit > 6) return CU_ERROR_UNSUPPORTED_LIMIT;
  drv_current()->limits[limit] = value;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetLimit(size_t *out, int limit) {
  if (!out || limit < 0 || limit >= LIMITS) return CU_ERROR_INVALID_VALUE;
  if (limit > 6) return CU_ERROR_UNSUPPORTED_LIMIT;
  *out = drv_current()->limits[limit];
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetCacheConfig(int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = drv_current()->cache_config;
  return CU_SUCCESS;
}
cu_result drv_do_cuCtxSetCacheConfig(int config) {
  if (config < 0 || config > 3) return CU_ERROR_INVALID_VALUE;
  drv_current()->cache_config = config;
  return CU_SUCCESS;
}
cu_result drv_do_cuCtxGetSharedMemConfig(int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = drv_current()->shared_config;
  return CU_SUCCESS;
}
cu_result drv_do_cuCtxSetSharedMemConfig(int config) {
  if (config < 0 || config > 2) return CU_ERROR_INVALID_VALUE;
  drv_current()->shared_config = config;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetApiVersion(cu_handle h, unsigned *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!context_or_current(h)) return CU_ERROR_INVALID_CONTEXT;
  *out = 3020;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return CU_SUCCESS;
}

cu_result drv_do_cuCtxResetPersistingL2Cache(void) { return CU_SUCCESS; }

cu_result drv_do_cuCtxEnablePeerAccess(cu_handle peer, unsigned flags) {
  if (flags) return CU_ERROR_INVALID_VALUE;
  return drv_find(peer, DRV_CONTEXT) ? CU_ERROR_PEER_ACCESS_UNSUPPORTED : CU_ERROR_INVALID_CONTEXT;
}
cu_result drv_do_cuCtxDisablePeerAccess(cu_handle peer) {
  return drv_find(peer, DRV_CONTEXT) ? CU_ERROR_PEER_ACCESS_NOT_ENABLED : CU_ERROR_INVALID_CONTEXT;
}

cu_result drv_do_cuProfilerStart(void) { return CU_SUCCESS; }
cu_result drv_do_cuProfilerStop(void) { return CU_SUCCESS; }
