// Devices: the modelled GPUs, which of them this process sees, and what they answer.
//
// TESSERA_EMU_TARGET names them ("sm_90", "sm_80,sm_80"); without it there is one of every modelled architecture, sm_80 first.
#include "emulator/driver/driver.h"
#include "emulator/machine.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const drv_target targets[] = {
#define EMU_TARGET(sm, ...) {sm, __VA_ARGS__},
#include "emulator/driver/targets.def"
};
enum { TARGETS = sizeof targets / sizeof targets[0], DEFAULT_SM = 80 };

static const drv_target *target_of(int sm) {
  for (int i = 0; i < TARGETS; i++)
    if (targets[i].sm == sm) return &targets[i];
  return NULL;
}

static void add_device(const drv_target *t) {
  if (drv.device_count == DRV_MAX_DEVICES) return;
  drv_device *d = &drv.devices[drv.device_count];
  *d = (drv_device){.ordinal = drv.device_count++, .target = t};
}

// "sm_80", "80" and lists of them. false: a target that is not modelled.
static bool add_devices(const char *list) {
  while (*list) {
    char *end;
    const char *digits = strncmp(list, "sm_", 3) == 0 ? list + 3 : list;
    long sm = strtol(digits, &end, 10);
    const drv_target *t = end != digits && sm > 0 && sm < 1000 ? target_of((int)sm) : NULL;
    if (!t || (*end && *end != ',')) return false;
    add_device(t);
    list = *end ? end + 1 : end;
  }
  return true;
}

static uint64_t number_of(const char *name) {
  const char *v = getenv(name);
  return v ? strtoull(v, NULL, 0) : 0;
}

// At the end of the process: a summary, and the emulators go. What is called after this gets DEINITIALIZED, as from any driver.
static void finish(void) {
  if (pthread_mutex_trylock(&drv.lock) != 0) return;   // another thread is still at work: leave everything as it is
  const char *code = getenv("TESSERA_EMU_EXITCODE");
  int status = drv.findings && code ? atoi(code) : 0;
  if (drv.findings)
    drv_say("%llu finding%s in %llu launch%s", (unsigned long long)drv.findings, drv.findings == 1 ? "" : "s",
            (unsigned long long)drv.launches, drv.launches == 1 ? "" : "es");
  for (drv_object *o = drv.objects; o; o = o->next)
    if (o->kind == DRV_CONTEXT && ((drv_context *)o)->alive) drv_context_end((drv_context *)o);
  for (int i = 0; i < drv.device_count; i++) {
    emu_context_destroy(drv.devices[i].emu);
    drv.devices[i].emu = NULL;
  }
  drv.initialised = false;
  drv.ended = true;
  pthread_mutex_unlock(&drv.lock);
  if (!status) return;
  fflush(NULL);
  _exit(status);
}

static uint64_t memory_of(const drv_device *d) {
  return drv.memory_mib ? drv.memory_mib << 20 : (uint64_t)d->target->memory_gib << 30;
}

// Takes the addresses that kernels use for device memory, if nothing lives there.
static bool take_addresses(uint64_t bytes) {
  void *want = (void *)EMU_DEVICE_BASE;
  void *got = mmap(want, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return false;
  if (got != want) munmap(got, bytes);   // a kernel that doesn't know MAP_FIXED_NOREPLACE
  return got == want;
}

static bool addresses_are_free(uint64_t bytes) {
  if (!take_addresses(bytes)) return false;
  munmap((void *)EMU_DEVICE_BASE, bytes);
  return true;
}

cu_result drv_init(void) {
  if (drv.ended) return CU_ERROR_DEINITIALIZED;
  if (drv.initialised) return CU_SUCCESS;
  const char *list = getenv("TESSERA_EMU_TARGET"), *checks = getenv("TESSERA_EMU_CHECKS");
  drv.device_count = 0;
  if (list && *list) {
    if (!add_devices(list)) {
      drv_say("TESSERA_EMU_TARGET=%s: not a list of modelled targets (sm_75, 80, 86, 87, 89, 90, 120)", list);
      return CU_ERROR_NO_DEVICE;
    }
  } else {
    add_device(target_of(DEFAULT_SM));
    for (int i = 0; i < TARGETS; i++)
      if (targets[i].sm != DEFAULT_SM) add_device(&targets[i]);
  }
  if (checks && !strcmp(checks, "off")) drv.checks = false;
  else if (checks && !strcmp(checks, "fatal")) drv.findings_are_fatal = true;
  else if (checks && *checks && strcmp(checks, "on") != 0)
    drv_say("TESSERA_EMU_CHECKS=%s: not on, off or fatal; checks are on", checks);
  drv.workers = (unsigned)number_of("TESSERA_EMU_WORKERS");
  drv.seed = number_of("TESSERA_EMU_SEED");
  drv.memory_mib = number_of("TESSERA_EMU_MEMORY");
  drv.blocking = number_of("CUDA_LAUNCH_BLOCKING") != 0;
  for (int i = 0; i < drv.device_count; i++) {
    drv_device *d = &drv.devices[i];
    drv_pool *p = calloc(1, sizeof *p);
    if (!p) return CU_ERROR_OUT_OF_MEMORY;
    *p = (drv_pool){.device = d, .reuse = {1, 1, 1}};
    drv_add(&drv.objects, &p->object, DRV_POOL);
    d->default_pool = d->pool = p;
    d->unified = i == 0 && addresses_are_free(memory_of(d));   // there is one such range: the first device has it
  }
  atexit(finish);
  drv.initialised = true;
  return CU_SUCCESS;
}

cu_result drv_do_cuInit(unsigned flags) { return flags ? CU_ERROR_INVALID_VALUE : drv_init(); }

cu_result drv_do_cuDriverGetVersion(int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = DRV_VERSION;
  return CU_SUCCESS;
}

// Moves the memory of the emulator to the addresses that kernels use for it, so that a pinned or managed buffer has the same
// address on both sides.
static bool unify(emu_context *c) {
  if (!take_addresses(c->capacity)) return false;
  void *moved = mremap(c->memory, c->capacity, c->capacity, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)EMU_DEVICE_BASE);
  if (moved == MAP_FAILED) {
    munmap((void *)EMU_DEVICE_BASE, c->capacity);
    return false;
  }
  c->memory = moved;
  return true;
}

cu_result drv_device_start(drv_device *d) {
  if (d->emu) return CU_SUCCESS;
  ts_diags diags;
  ts_diags_init(&diags);
  emu_context_options o = {.sm = (unsigned)d->target->sm, .workers = drv.workers, .memory = memory_of(d)};
  ts_status s = emu_context_create(&o, &diags, &d->emu);
  ts_diags_deinit(&diags);
  if (s != TS_OK) return CU_ERROR_OUT_OF_MEMORY;
  if (d->unified) d->unified = unify(d->emu);
  return CU_SUCCESS;
}

drv_device *drv_device_at(cu_device d) { return d >= 0 && d < drv.device_count ? &drv.devices[d] : NULL; }

cu_result drv_do_cuDeviceGet(cu_device *out, int ordinal) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!drv_device_at(ordinal)) return CU_ERROR_INVALID_DEVICE;
  *out = ordinal;
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceGetCount(int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = drv.device_count;
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceGetName(char *out, int bytes, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!out || bytes <= 0) return CU_ERROR_INVALID_VALUE;
  snprintf(out, (size_t)bytes, "Tessera emulated %s", dev->target->gpu);
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceGetUuid(void *out, cu_device d) {
  if (!drv_device_at(d)) return CU_ERROR_INVALID_DEVICE;
  if (!out) return CU_ERROR_INVALID_VALUE;
  uint8_t uuid[16] = "tessera-emulate";
  uuid[15] = (uint8_t)d;
  memcpy(out, uuid, sizeof uuid);
  return CU_SUCCESS;
}
cu_result drv_do_cuDeviceGetUuid_v2(void *out, cu_device d) { return drv_do_cuDeviceGetUuid(out, d); }

cu_result drv_do_cuDeviceTotalMem_v2(size_t *out, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = memory_of(dev);
  return CU_SUCCESS;
}

int drv_attribute(const drv_device *d, int number, bool *known) {
  const drv_target *t = d->target;
  enum { CU_ATTRIBUTE_LIMIT = 149 };
  *known = number >= 1 && number < CU_ATTRIBUTE_LIMIT;
  switch (number) {
#define CU_ATTRIBUTE(n, name, value) \
  case n: return value;
#include "emulator/driver/attributes.def"
#undef CU_ATTRIBUTE
  default: return 0;
  }
}

cu_result drv_do_cuDeviceGetAttribute(int *out, int attribute, cu_device d) {
  drv_device *dev = drv_device_at(d);
  bool known;
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  *out = drv_attribute(dev, attribute, &known);
  return known ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}

cu_result drv_do_cuDeviceGetProperties(cu_properties *out, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  *out = (cu_properties){
      1024, {1024, 1024, 64}, {2147483647, 65535, 65535}, 48 << 10, 64 << 10, 32, 2147483647, 65536, dev->target->core_mhz * 1000,
      512};
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceComputeCapability(int *major, int *minor, cu_device d) {
  drv_device *dev = drv_device_at(d);
  if (!major || !minor) return CU_ERROR_INVALID_VALUE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  *major = dev->target->sm / 10;
  *minor = dev->target->sm % 10;
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceGetPCIBusId(char *out, int bytes, cu_device d) {
  if (!out || bytes <= 0) return CU_ERROR_INVALID_VALUE;
  if (!drv_device_at(d)) return CU_ERROR_INVALID_DEVICE;
  return snprintf(out, (size_t)bytes, "0000:%02x:00.0", d + 1) < bytes ? CU_SUCCESS : CU_ERROR_INVALID_VALUE;
}

cu_result drv_do_cuDeviceGetByPCIBusId(cu_device *out, const char *id) {
  unsigned domain, bus, device;
  if (!out || !id) return CU_ERROR_INVALID_VALUE;
  if (sscanf(id, "%x:%x:%x", &domain, &bus, &device) != 3 && (domain = 0, sscanf(id, "%x:%x", &bus, &device) != 2))
    return CU_ERROR_INVALID_VALUE;
  if (domain || device || !bus || !drv_device_at((int)bus - 1)) return CU_ERROR_INVALID_DEVICE;
  *out = (int)bus - 1;
  return CU_SUCCESS;
}

// Devices don't see each other's memory; copies between them go through cuMemcpyPeer.
cu_result drv_do_cuDeviceCanAccessPeer(int *out, cu_device d, cu_device peer) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!drv_device_at(d) || !drv_device_at(peer)) return CU_ERROR_INVALID_DEVICE;
  *out = 0;
  return CU_SUCCESS;
}

cu_result drv_do_cuDeviceGetP2PAttribute(int *out, int attribute, cu_device d, cu_device peer) {
  if (!out || attribute < 1 || attribute > 5) return CU_ERROR_INVALID_VALUE;
  if (!drv_device_at(d) || !drv_device_at(peer) || d == peer) return CU_ERROR_INVALID_DEVICE;
  *out = 0;
  return CU_SUCCESS;
}
