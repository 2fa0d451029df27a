// Modules, libraries, kernels, and the linker's part that makes sense for PTX.
#include "base/file.h"
#include "emulator/driver/driver.h"

#include <stdlib.h>

enum { DEFAULT_SHARED = 48 << 10 };

// What a failed load means: PTX that is too new, for a later architecture, or wrong.
static cu_result load_result(ts_status s, ts_str text, int sm) {
  if (s == TS_OUT_OF_MEMORY) return CU_ERROR_OUT_OF_MEMORY;
  if (s != TS_VERSION) return CU_ERROR_INVALID_PTX;
  const char *t = memmem(text.data, text.len, ".target", 7);
  int target = 0;
  if (t && sscanf(t, ".target sm_%d", &target) == 1 && target > sm) return CU_ERROR_INVALID_PTX;
  return CU_ERROR_UNSUPPORTED_PTX_VERSION;
}

static bool make_functions(drv_module *m) {
  m->count = emu_module_entry_count(m->emu);
  m->functions = calloc(m->count + 1, sizeof *m->functions);
  if (!m->functions) return false;
  for (unsigned i = 0; i < m->count; i++) {
    drv_function *f = &m->functions[i];
    *f = (drv_function){.module = m, .entry = emu_module_entry_at(m->emu, i), .carveout = -1};
    emu_entry_describe(f->entry, &f->info);
    f->max_dynamic_shared = f->info.static_shared < DEFAULT_SHARED ? DEFAULT_SHARED - (int)f->info.static_shared : 0;
    drv_register(&f->object, DRV_FUNCTION);
  }
  return true;
}

cu_result drv_module_create(drv_context *c, const void *image, size_t bytes, const char *name, ts_text *log, drv_module **out) {
  drv_image i;
  ts_text text = {0};
  if (!log) log = &text;
  cu_result r = drv_image_open(image, bytes, c->device->target->sm, &i, log);
  drv_module *m = NULL;
  if (r == CU_SUCCESS && !(m = calloc(1, sizeof *m))) r = CU_ERROR_OUT_OF_MEMORY;
  if (r == CU_SUCCESS) {
    ts_diags diags;
    ts_diags_init(&diags);
    ts_status s = emu_module_load(c->device->emu, i.text, name ? name : "module.ptx", &diags, &m->emu);
    ts_diags_print(&diags, log, false);
    ts_diags_deinit(&diags);
    if (s != TS_OK) r = load_result(s, i.text, c->device->target->sm);
  }
  if (r == CU_SUCCESS && !make_functions(m)) r = CU_ERROR_OUT_OF_MEMORY;
  if (r == CU_SUCCESS) {
    m->context = c;
    drv_add(&c->objects, &m->object, DRV_MODULE);
    *out = m;
  } else {
    drv_say("a module does not load: %s\n%s", drv_error_text(r), ts_text_z(log));
    if (m) emu_module_unload(m->emu);
    free(m);
  }
  free(i.owned);
  ts_text_deinit(&text);
  return r;
}

void drv_module_destroy(drv_module *m) {
  for (unsigned i = 0; i < m->count; i++) {
    drv_unregister(&m->functions[i].object);
    for (drv_seen *s = m->functions[i].seen, *next; s; s = next) {
      next = s->next;
      free(s);
    }
  }
  emu_module_unload(m->emu);
  free(m->functions);
  drv_remove(&m->object);
  free(m);
}

// --- options ---------------------------------------------------------------------------------------------------------------

typedef struct jit_options {
  char *logs[2];                 // info, error
  size_t bytes[2];
  void **sizes[2];               // where the lengths go
  float *wall_time;
  uint64_t started;
} jit_options;

static cu_result read_options(unsigned count, const int *names, void **values, jit_options *out) {
  *out = (jit_options){.started = drv_now_ns()};
  if (count && (!names || !values)) return CU_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; i++) {
    switch (names[i]) {
    case DRV_JIT_WALL_TIME: out->wall_time = (float *)&values[i]; break;
    case DRV_JIT_INFO_LOG: out->logs[0] = values[i]; break;
    case DRV_JIT_ERROR_LOG: out->logs[1] = values[i]; break;
    case DRV_JIT_INFO_LOG_BYTES: case DRV_JIT_ERROR_LOG_BYTES:
      out->sizes[names[i] == DRV_JIT_ERROR_LOG_BYTES] = &values[i];
      out->bytes[names[i] == DRV_JIT_ERROR_LOG_BYTES] = (uint32_t)(uintptr_t)values[i];
      break;
    default:
      if (names[i] < 0 || names[i] > 40) return CU_ERROR_INVALID_VALUE;   // the others direct the compiler's work: nothing to do
    }
  }
  return CU_SUCCESS;
}

static void write_options(jit_options *o, const ts_text *error) {
  for (int k = 0; k < 2; k++) {
    size_t n = k ? error->len : 0, room = o->logs[k] && o->bytes[k] ? o->bytes[k] - 1 : 0;
    if (n > room) n = room;
    if (o->logs[k] && o->bytes[k]) {
      if (n) memcpy(o->logs[k], error->data, n);
      o->logs[k][n] = 0;
    }
    if (o->sizes[k]) *o->sizes[k] = (void *)(uintptr_t)n;
  }
  if (o->wall_time) *o->wall_time = (float)(drv_now_ns() - o->started) * 1e-6f;
}

// --- modules ---------------------------------------------------------------------------------------------------------------

cu_result drv_do_cuModuleLoadDataEx(cu_handle *out, const void *image, unsigned options, int *names, void **values) {
  jit_options o;
  ts_text log = {0};
  drv_module *m;
  if (!out || !image) return CU_ERROR_INVALID_VALUE;
  cu_result r = read_options(options, names, values, &o);
  if (r != CU_SUCCESS) return r;
  r = drv_module_create(drv_current(), image, SIZE_MAX, NULL, &log, &m);
  write_options(&o, &log);
  ts_text_deinit(&log);
  if (r == CU_SUCCESS) *out = m;
  return r;
}
cu_result drv_do_cuModuleLoadData(cu_handle *out, const void *image) {
  return drv_do_cuModuleLoadDataEx(out, image, 0, NULL, NULL);
}
cu_result drv_do_cuModuleLoadFatBinary(cu_handle *out, const void *image) {
  return drv_do_cuModuleLoadDataEx(out, image, 0, NULL, NULL);
}

cu_result drv_read_file(const char *path, char **out, size_t *bytes) {
  ts_arena a;
  ts_diags d;
  ts_str text;
  if (!path) return CU_ERROR_INVALID_VALUE;
  ts_arena_init(&a);
  ts_diags_init(&d);
  ts_status s = ts_file_read(&a, path, &d, &text);
  *out = s == TS_OK ? malloc(text.len + 1) : NULL;
  cu_result r = s != TS_OK ? CU_ERROR_FILE_NOT_FOUND : *out ? CU_SUCCESS : CU_ERROR_OUT_OF_MEMORY;
  if (*out) {
    if (text.len) memcpy(*out, text.data, text.len);
    (*out)[text.len] = 0;
    *bytes = text.len;
  }
  ts_diags_deinit(&d);
  ts_arena_deinit(&a);
  return r;
}

cu_result drv_do_cuModuleLoad(cu_handle *out, const char *path) {
  char *data;
  size_t bytes;
  drv_module *m;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = drv_read_file(path, &data, &bytes);
  if (r != CU_SUCCESS) return r;
  r = drv_module_create(drv_current(), data, bytes, path, NULL, &m);
  free(data);
  if (r == CU_SUCCESS) *out = m;
  return r;
}

cu_result drv_do_cuModuleUnload(cu_handle h) {
  drv_module *m = drv_find(h, DRV_MODULE);
  if (!m || m->library) return CU_ERROR_INVALID_HANDLE;
  drv_module_destroy(m);
  return CU_SUCCESS;
}

static drv_function *function_named(drv_module *m, const char *name) {
  for (unsigned i = 0; i < m->count; i++)
    if (!strcmp(m->functions[i].info.name, name)) return &m->functions[i];
  return NULL;
}

cu_result drv_do_cuModuleGetFunction(cu_handle *out, cu_handle h, const char *name) {
  drv_module *m = drv_find(h, DRV_MODULE);
  if (!out || !name) return CU_ERROR_INVALID_VALUE;
  if (!m) return CU_ERROR_INVALID_HANDLE;
  drv_function *f = function_named(m, name);
  if (!f) return CU_ERROR_NOT_FOUND;
  *out = f;
  return CU_SUCCESS;
}

static cu_result module_global(drv_module *m, const char *name, cu_ptr *out, size_t *bytes) {
  emu_addr a;
  uint64_t n;
  if (!name) return CU_ERROR_INVALID_VALUE;
  if (emu_module_global(m->emu, name, &a, &n) != TS_OK) return CU_ERROR_NOT_FOUND;
  if (out) *out = a;
  if (bytes) *bytes = n;
  return CU_SUCCESS;
}
cu_result drv_do_cuModuleGetGlobal_v2(cu_ptr *out, size_t *bytes, cu_handle h, const char *name) {
  drv_module *m = drv_find(h, DRV_MODULE);
  return m ? module_global(m, name, out, bytes) : CU_ERROR_INVALID_HANDLE;
}

cu_result drv_do_cuModuleGetFunctionCount(unsigned *out, cu_handle h) {
  drv_module *m = drv_find(h, DRV_MODULE);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!m) return CU_ERROR_INVALID_HANDLE;
  *out = m->count;
  return CU_SUCCESS;
}
cu_result drv_do_cuModuleEnumerateFunctions(cu_handle *out, unsigned count, cu_handle h) {
  drv_module *m = drv_find(h, DRV_MODULE);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!m) return CU_ERROR_INVALID_HANDLE;
  for (unsigned i = 0; i < count && i < m->count; i++) out[i] = &m->functions[i];
  return CU_SUCCESS;
}
cu_result drv_do_cuModuleGetLoadingMode(int *out) {
  if (!out) return CU_ERROR_INVALID_VALUE;
  *out = 1;   // eager
  return CU_SUCCESS;
}

// --- libraries -------------------------------------------------------------------------------------------------------------

// The image of a library is kept; how long it is, the image itself tells.
static size_t image_bytes(const void *image) {
  const uint8_t *p = image;
  uint32_t magic;
  memcpy(&magic, p, 4);
  if (magic != 0xba55ed50u) return strlen(image) + 1;
  uint16_t header;
  uint64_t size;
  memcpy(&header, p + 6, 2);
  memcpy(&size, p + 8, 8);
  return header + size;
}

static cu_result library_create(cu_handle *out, const void *image, size_t bytes) {
  drv_library *l = calloc(1, sizeof *l);
  if (!l) return CU_ERROR_OUT_OF_MEMORY;
  l->image = malloc(bytes + 1);
  l->bytes = bytes;
  if (!l->image) {
    free(l);
    return CU_ERROR_OUT_OF_MEMORY;
  }
  memcpy(l->image, image, bytes);
  l->image[bytes] = 0;
  drv_add(&drv.objects, &l->object, DRV_LIBRARY);
  *out = l;
  return CU_SUCCESS;
}

static cu_result make_kernels(drv_library *l, const drv_module *m) {
  if (l->kernels) return CU_SUCCESS;
  drv_kernel *k = calloc(m->count + 1, sizeof *k);
  if (!k) return CU_ERROR_OUT_OF_MEMORY;
  for (unsigned i = 0; i < m->count; i++) {
    k[i] = (drv_kernel){.library = l, .name = strdup(m->functions[i].info.name), .max_dynamic_shared = -1};
    drv_register(&k[i].object, DRV_KERNEL);
  }
  l->kernels = k;
  l->count = m->count;
  return CU_SUCCESS;
}

// Its module in the context.
static cu_result library_module(drv_library *l, drv_context *c, drv_module **out) {
  for (drv_object *o = c->objects; o; o = o->next) {
    if (o->kind != DRV_MODULE || ((drv_module *)o)->library != l) continue;
    *out = (drv_module *)o;
    return CU_SUCCESS;
  }
  cu_result r = drv_module_create(c, l->image, l->bytes, NULL, NULL, out);
  if (r != CU_SUCCESS) return r;
  (*out)->library = l;
  return make_kernels(l, *out);
}
cu_result drv_library_module(drv_library *l, drv_module **out) {
  drv_context *c = drv_current();
  return c ? library_module(l, c, out) : CU_ERROR_INVALID_CONTEXT;
}

// Kernels have names before any context exists: the module is loaded once to read them, on the first device.
static cu_result load_library(cu_handle *out, const void *image, size_t bytes, ts_text *log) {
  drv_context *c = drv_current();
  bool temporary = !c;
  cu_result r = library_create(out, image, bytes);
  if (r == CU_SUCCESS && temporary) r = drv_context_create(&drv.devices[0], 0, false, &c);
  if (r != CU_SUCCESS) return r;
  drv_library *l = *out;
  drv_module *m = NULL;
  r = drv_module_create(c, l->image, bytes, NULL, log, &m);
  if (r == CU_SUCCESS) {
    m->library = l;
    r = make_kernels(l, m);
  }
  if (temporary) drv_context_end(c);
  if (r != CU_SUCCESS) drv_do_cuLibraryUnload(l);
  return r;
}

cu_result drv_do_cuLibraryLoadData(cu_handle *out, const void *image, int *names, void **values, unsigned options,
                                   int *library_names, void **library_values, unsigned library_options) {
  jit_options o;
  ts_text log = {0};
  (void)library_names, (void)library_values, (void)library_options;
  if (!out || !image) return CU_ERROR_INVALID_VALUE;
  cu_result r = read_options(options, names, values, &o);
  if (r != CU_SUCCESS) return r;
  const void *inner = image;
  uint32_t magic = 0;
  if (((const char *)image)[0] == '\xb1') memcpy(&magic, image, 4);
  if (magic == 0x466243b1) memcpy(&inner, (const char *)image + 8, sizeof inner);   // nvcc's wrapper
  r = inner ? load_library(out, inner, image_bytes(inner), &log) : CU_ERROR_INVALID_IMAGE;
  write_options(&o, &log);
  ts_text_deinit(&log);
  return r;
}

cu_result drv_do_cuLibraryLoadFromFile(cu_handle *out, const char *path, int *names, void **values, unsigned options,
                                       int *library_names, void **library_values, unsigned library_options) {
  jit_options o;
  ts_text log = {0};
  char *data;
  size_t bytes;
  (void)library_names, (void)library_values, (void)library_options;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = read_options(options, names, values, &o);
  if (r == CU_SUCCESS) r = drv_read_file(path, &data, &bytes);
  if (r != CU_SUCCESS) return r;
  r = load_library(out, data, bytes, &log);
  write_options(&o, &log);
  ts_text_deinit(&log);
  free(data);
  return r;
}

cu_result drv_do_cuLibraryUnload(cu_handle h) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  if (!l) return CU_ERROR_INVALID_HANDLE;
  for (drv_object *o = drv.objects; o; o = o->next) {
    if (o->kind != DRV_CONTEXT) continue;
    for (drv_object *m = ((drv_context *)o)->objects, *next; m; m = next) {
      next = m->next;
      if (m->kind == DRV_MODULE && ((drv_module *)m)->library == l) drv_module_destroy((drv_module *)m);
    }
  }
  for (unsigned i = 0; i < l->count; i++) {
    drv_unregister(&l->kernels[i].object);
    free(l->kernels[i].name);
  }
  drv_remove(&l->object);
  free(l->kernels);
  free(l->image);
  free(l);
  return CU_SUCCESS;
}

cu_result drv_do_cuLibraryGetKernel(cu_handle *out, cu_handle h, const char *name) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  if (!out || !name) return CU_ERROR_INVALID_VALUE;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  for (unsigned i = 0; i < l->count; i++) {
    if (strcmp(l->kernels[i].name, name)) continue;
    *out = &l->kernels[i];
    return CU_SUCCESS;
  }
  return CU_ERROR_NOT_FOUND;
}
cu_result drv_do_cuLibraryGetKernelCount(unsigned *out, cu_handle h) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  *out = l->count;
  return CU_SUCCESS;
}
cu_result drv_do_cuLibraryEnumerateKernels(cu_handle *out, unsigned count, cu_handle h) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  for (unsigned i = 0; i < count && i < l->count; i++) out[i] = &l->kernels[i];
  return CU_SUCCESS;
}

cu_result drv_do_cuLibraryGetModule(cu_handle *out, cu_handle h) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  drv_module *m;
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  cu_result r = drv_library_module(l, &m);
  if (r == CU_SUCCESS) *out = m;
  return r;
}
cu_result drv_do_cuLibraryGetGlobal(cu_ptr *out, size_t *bytes, cu_handle h, const char *name) {
  drv_library *l = drv_find(h, DRV_LIBRARY);
  drv_module *m;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  cu_result r = drv_library_module(l, &m);
  return r == CU_SUCCESS ? module_global(m, name, out, bytes) : r;
}
// Managed variables are not distinguished from others: their memory is the device's.
cu_result drv_do_cuLibraryGetManaged(cu_ptr *out, size_t *bytes, cu_handle h, const char *name) {
  return drv_current()->device->unified ? drv_do_cuLibraryGetGlobal(out, bytes, h, name) : CU_ERROR_NOT_SUPPORTED;
}

// --- kernels and functions -------------------------------------------------------------------------------------------------

static cu_result kernel_function(drv_kernel *k, drv_context *c, drv_function **out) {
  drv_module *m;
  cu_result r = library_module(k->library, c, &m);
  if (r != CU_SUCCESS) return r;
  *out = function_named(m, k->name);
  if (*out && k->max_dynamic_shared >= 0) (*out)->max_dynamic_shared = k->max_dynamic_shared;
  return *out ? CU_SUCCESS : CU_ERROR_NOT_FOUND;
}

cu_result drv_function_of(cu_handle h, drv_function **out) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  *out = drv_find(h, DRV_FUNCTION);
  if (*out) return CU_SUCCESS;
  drv_context *c = drv_current();
  return !k ? CU_ERROR_INVALID_HANDLE : !c ? CU_ERROR_INVALID_CONTEXT : kernel_function(k, c, out);
}

cu_result drv_do_cuKernelGetFunction(cu_handle *out, cu_handle h) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!k) return CU_ERROR_INVALID_HANDLE;
  cu_result r = kernel_function(k, drv_current(), &f);
  if (r == CU_SUCCESS) *out = f;
  return r;
}
cu_result drv_do_cuKernelGetLibrary(cu_handle *out, cu_handle h) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!k) return CU_ERROR_INVALID_HANDLE;
  *out = k->library;
  return CU_SUCCESS;
}
cu_result drv_do_cuKernelGetName(const char **out, cu_handle h) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  if (!out) return CU_ERROR_INVALID_VALUE;
  if (!k) return CU_ERROR_INVALID_HANDLE;
  *out = k->name;
  return CU_SUCCESS;
}

// A kernel's function for questions that need no context: in the current one, else in the device's primary context.
static cu_result kernel_on_device(cu_handle h, cu_device d, drv_function **out) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  drv_device *dev = drv_device_at(d);
  drv_context *c = drv_current();
  if (!k) return CU_ERROR_INVALID_HANDLE;
  if (!dev) return CU_ERROR_INVALID_DEVICE;
  if (!c || c->device != dev) c = dev->primary && dev->primary->alive ? dev->primary : NULL;
  return c ? kernel_function(k, c, out) : CU_ERROR_INVALID_CONTEXT;
}
cu_result drv_do_cuKernelGetAttribute(int *out, int attribute, cu_handle h, cu_device d) {
  drv_function *f;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = kernel_on_device(h, d, &f);
  return r == CU_SUCCESS ? drv_function_attribute(f, attribute, out) : r;
}
cu_result drv_do_cuKernelSetAttribute(int attribute, int value, cu_handle h, cu_device d) {
  drv_function *f;
  cu_result r = kernel_on_device(h, d, &f);
  if (r == CU_SUCCESS) r = drv_do_cuFuncSetAttribute(f, attribute, value);
  if (r == CU_SUCCESS && attribute == CU_FUNC_MAX_DYNAMIC_SHARED) ((drv_kernel *)h)->max_dynamic_shared = value;
  return r;
}
cu_result drv_do_cuKernelSetCacheConfig(cu_handle h, int config, cu_device d) {
  if (config < 0 || config > 3) return CU_ERROR_INVALID_VALUE;
  if (!drv_device_at(d)) return CU_ERROR_INVALID_DEVICE;
  return drv_find(h, DRV_KERNEL) ? CU_SUCCESS : CU_ERROR_INVALID_HANDLE;
}

cu_result drv_param_info(const drv_function *f, size_t index, size_t *offset, size_t *bytes) {
  if (!offset || index >= f->info.param_count) return CU_ERROR_INVALID_VALUE;
  *offset = f->info.params[index].offset;
  if (bytes) *bytes = f->info.params[index].bytes;
  return CU_SUCCESS;
}
cu_result drv_do_cuKernelGetParamInfo(cu_handle h, size_t index, size_t *offset, size_t *bytes) {
  drv_kernel *k = drv_find(h, DRV_KERNEL);
  drv_function *f;
  if (!k) return CU_ERROR_INVALID_HANDLE;
  drv_context *c = drv_current();
  cu_result r = c ? kernel_function(k, c, &f) : CU_ERROR_INVALID_CONTEXT;
  return r == CU_SUCCESS ? drv_param_info(f, index, offset, bytes) : r;
}

// --- linking: one PTX input passes through; PTX isn't linked ---------------------------------------------------------------

cu_result drv_do_cuLinkCreate_v2(unsigned options, int *names, void **values, cu_handle *out) {
  jit_options o;
  if (!out) return CU_ERROR_INVALID_VALUE;
  cu_result r = read_options(options, names, values, &o);
  if (r != CU_SUCCESS) return r;
  drv_link *l = calloc(1, sizeof *l);
  if (!l) return CU_ERROR_OUT_OF_MEMORY;
  l->context = drv_current();
  drv_add(&l->context->objects, &l->object, DRV_LINK);
  ts_text none = {0};
  write_options(&o, &none);
  *out = l;
  return CU_SUCCESS;
}

cu_result drv_do_cuLinkAddData_v2(cu_handle h, int type, void *data, size_t bytes, const char *name, unsigned options, int *names,
                                  void **values) {
  drv_link *l = drv_find(h, DRV_LINK);
  drv_image i;
  ts_text why = {0};
  (void)name, (void)options, (void)names, (void)values;
  if (!l) return CU_ERROR_INVALID_HANDLE;
  if (!data || !bytes || l->complete) return CU_ERROR_INVALID_VALUE;
  if (type != DRV_JIT_INPUT_PTX && type != DRV_JIT_INPUT_FATBINARY) {
    drv_say("cuLinkAddData: only PTX is executed; inputs of type %d can't be linked", type);
    return CU_ERROR_NO_BINARY_FOR_GPU;
  }
  if (l->text.len) {
    drv_say("cuLinkAddData: a second input; linking of PTX modules is not supported");
    return CU_ERROR_NOT_SUPPORTED;
  }
  cu_result r = drv_image_open(data, bytes, l->context->device->target->sm, &i, &why);
  if (r == CU_SUCCESS) ts_text_add(&l->text, i.text);
  else drv_say("cuLinkAddData: %s", ts_text_z(&why));
  free(i.owned);
  ts_text_deinit(&why);
  return r;
}
cu_result drv_do_cuLinkAddFile_v2(cu_handle h, int type, const char *path, unsigned options, int *names, void **values) {
  char *data;
  size_t bytes;
  cu_result r = drv_read_file(path, &data, &bytes);
  if (r != CU_SUCCESS) return r;
  r = drv_do_cuLinkAddData_v2(h, type, data, bytes, path, options, names, values);
  free(data);
  return r;
}
cu_result drv_do_cuLinkComplete(cu_handle h, void **out, size_t *bytes) {
  drv_link *l = drv_find(h, DRV_LINK);
  if (!l) return CU_ERROR_INVALID_HANDLE;
  if (!out || !l->text.len) return CU_ERROR_INVALID_VALUE;
  l->complete = true;
  *out = l->text.data;
  if (bytes) *bytes = l->text.len + 1;
  return CU_SUCCESS;
}
void drv_link_destroy(drv_link *l) {
  drv_remove(&l->object);
  ts_text_deinit(&l->text);
  free(l);
}
cu_result drv_do_cuLinkDestroy(cu_handle h) {
  drv_link *l = drv_find(h, DRV_LINK);
  if (!l) return CU_ERROR_INVALID_HANDLE;
  drv_link_destroy(l);
  return CU_SUCCESS;
}
