// NVRTC and nvJitLink, opened at run time: text to PTX, PTX to machine code and the facts in its log.
#include "base/file.h"
#include "codegen/cuda/emit.h"

#include <dlfcn.h>
#include <stdlib.h>

// The functions used: F(library, name in it, type, name here)
typedef int nvrtc_create(void **prog, const char *src, const char *name, int headers, const char *const *texts, const char *const *names);
typedef int nvrtc_compile(void *prog, int count, const char *const *options);
typedef int nvrtc_size(void *prog, size_t *out);
typedef int nvrtc_get(void *prog, char *out);
typedef int nvrtc_destroy(void **prog);
typedef int nvrtc_version(int *major, int *minor);
typedef int link_create(void **handle, uint32_t count, const char **options);
typedef int link_add(void *handle, int type, const void *data, size_t size, const char *name);
typedef int link_one(void *handle);
typedef int link_size(void *handle, size_t *out);
typedef int link_get(void *handle, void *out);
typedef int link_destroy(void **handle);

#define FUNCTIONS(F)                                                                                                          \
  F(nvrtc, "nvrtcCreateProgram", nvrtc_create, create)                                                                        \
  F(nvrtc, "nvrtcCompileProgram", nvrtc_compile, compile)                                                                     \
  F(nvrtc, "nvrtcGetPTXSize", nvrtc_size, ptx_size)                                                                           \
  F(nvrtc, "nvrtcGetPTX", nvrtc_get, ptx)                                                                                     \
  F(nvrtc, "nvrtcGetProgramLogSize", nvrtc_size, log_size)                                                                    \
  F(nvrtc, "nvrtcGetProgramLog", nvrtc_get, log)                                                                              \
  F(nvrtc, "nvrtcDestroyProgram", nvrtc_destroy, destroy)                                                                     \
  F(nvrtc, "nvrtcVersion", nvrtc_version, version)                                                                            \
  F(nvjitlink, "nvJitLinkCreate", link_create, link_create)                                                                 \
  F(nvjitlink, "nvJitLinkAddData", link_add, link_add)                                                                      \
  F(nvjitlink, "nvJitLinkComplete", link_one, link_complete)                                                                \
  F(nvjitlink, "nvJitLinkGetLinkedCubinSize", link_size, cubin_size)                                                        \
  F(nvjitlink, "nvJitLinkGetLinkedCubin", link_get, cubin)                                                                  \
  F(nvjitlink, "nvJitLinkGetInfoLogSize", link_size, info_size)                                                             \
  F(nvjitlink, "nvJitLinkGetInfoLog", link_get, info)                                                                       \
  F(nvjitlink, "nvJitLinkGetErrorLogSize", link_size, error_size)                                                           \
  F(nvjitlink, "nvJitLinkGetErrorLog", link_get, error)                                                                     \
  F(nvjitlink, "nvJitLinkDestroy", link_destroy, link_destroy)

struct cgc_functions {
#define FIELD(library, symbol, type, name) type *name;
  FUNCTIONS(FIELD)
#undef FIELD
};

static void *try_open(ts_arena *a, const char *folder, const char *stem, int version, const char **path) {
  *path = ts_arena_printf(a, "%s%s%s.so.%d", folder, *folder ? "/" : "", stem, version);
  return dlopen(*path, RTLD_NOW | RTLD_LOCAL);
}

// NVRTC opens its builtins by name while it compiles, where the loader looks; in a folder of wheels they are only beside it. Loaded
// first, they are found.
static void open_builtins(ts_arena *a, const char *nvrtc_path, int major, int minor) {
  ts_str folder = ts_path_folder(nvrtc_path);
  if (!strchr(nvrtc_path, '/')) return;
  dlopen(ts_arena_printf(a, "%.*s/libnvrtc-builtins.so.%d.%d", TS_FMT(folder), major, minor), RTLD_NOW | RTLD_GLOBAL);
}

static void *find_library(ts_arena *a, const char *const *folders, unsigned count, const char *stem, int *version, const char **path) {
  for (*version = 13; *version >= 12; --*version)
    for (unsigned i = 0; i < count; i++) {
      void *h = folders[i] ? try_open(a, folders[i], stem, *version, path) : NULL;
      if (h) return h;
    }
  *path = NULL;
  return NULL;
}

void cgc_toolchain_open(ts_arena *a, const char *wheels, cgc_toolchain *out) {
  *out = (cgc_toolchain){.arena = a, .functions = ts_new(a, struct cgc_functions)};
  const char *home = getenv("CUDA_HOME");
  const char *folders[] = {home ? ts_arena_printf(a, "%s/lib64", home) : NULL, "/usr/local/cuda/lib64",
                           ts_arena_printf(a, "%s/lib", wheels ? wheels : ".deps/cuda/nvidia/cu13"), ""};
  int version;
  out->nvrtc = find_library(a, folders, 4, "libnvrtc", &version, &out->nvrtc_path);
  out->nvjitlink = find_library(a, folders, 4, "libnvJitLink", &version, &out->nvjitlink_path);
  struct cgc_functions *f = out->functions;
#define LOAD(library, name_, type, field)                                             \
  if (out->library) {                                                                 \
    f->field = (type *)dlsym(out->library, name_);                       \
    if (!f->field) dlclose(out->library), out->library = NULL;                        \
  }
  FUNCTIONS(LOAD)
#undef LOAD
  int major = 0, minor = 0;
  if (out->nvrtc && f->version(&major, &minor) == 0) {
    out->version = (unsigned)(major * 1000 + minor * 10);
    open_builtins(a, out->nvrtc_path, major, minor);
  }
  const char *fix = "install a CUDA toolkit 12 or 13 (CUDA_HOME names it), or the wheels nvidia-cuda-nvrtc and nvidia-nvjitlink";
  if (!out->nvrtc) out->missing = ts_arena_printf(a, "libnvrtc.so.13 (or .12) is missing: %s", fix);
  else if (!out->nvjitlink) out->missing = ts_arena_printf(a, "libnvJitLink.so.13 (or .12) is missing: %s", fix);
}

void cgc_toolchain_close(cgc_toolchain *t) {
  if (t->nvrtc) dlclose(t->nvrtc);
  if (t->nvjitlink) dlclose(t->nvjitlink);
  t->nvrtc = t->nvjitlink = NULL;
}

static ts_str text_of(ts_arena *a, void *handle, link_size *size, link_get *get) {
  size_t n = 0;
  if (size(handle, &n) != 0 || n == 0) return (ts_str){0};
  char *p = ts_arena_alloc(a, n + 1, 1);
  if (get(handle, p) != 0) return (ts_str){0};
  return ts_str_of(p);
}

static ts_status to_ptx(const cgc_toolchain *tc, const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, cgc_code *out) {
  struct cgc_functions *f = tc->functions;
  void *prog = NULL;
  const char *options[] = {ts_arena_printf(a, "-arch=compute_%u", t->number), "--fmad=false", "--std=c++17"};
  int r = f->create(&prog, out->cuda.data, ts_arena_printf(a, "%s.cu", k->name), 0, NULL, NULL);
  if (r == 0) r = f->compile(prog, 3, options);
  ts_status s = TS_OK;
  if (r == 0) {
    size_t n = 0;
    if (f->ptx_size(prog, &n) == 0 && n) {
      char *p = ts_arena_alloc(a, n + 1, 1);
      if (f->ptx(prog, p) == 0) out->ptx = ts_str_of(p);
    }
    const char *version = out->ptx.data ? strstr(out->ptx.data, ".version ") : NULL;
    unsigned major = 0, minor = 0;
    if (version && sscanf(version, ".version %u.%u", &major, &minor) == 2) out->ptx_isa = major * 10 + minor;
    out->driver = tc->version;
  } else {
    size_t n = 0;
    ts_str log = {0};
    if (prog && f->log_size(prog, &n) == 0 && n) {
      char *p = ts_arena_alloc(a, n + 1, 1);
      if (f->log(prog, p) == 0) log = ts_str_of(p);
    }
    s = ts_report(d, k->loc, &diag_cuda_compile, "kernel %s for %s: NVRTC says (error %d): %.*s", k->name, t->name, r, (int)(log.len < 1500 ? log.len : 1500),
                  log.data ? log.data : "");
  }
  if (prog) f->destroy(&prog);
  return s;
}

// The number in front of a phrase of the log; 0 when it does not occur.
static uint32_t number_before(const char *log, const char *phrase) {
  const char *p = log ? strstr(log, phrase) : NULL;
  if (!p) return 0;
  while (p > log && p[-1] == ' ') p--;
  while (p > log && p[-1] >= '0' && p[-1] <= '9') p--;
  return (uint32_t)strtoul(p, NULL, 10);
}

static ts_status to_cubin(const cgc_toolchain *tc, const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, cgc_code *out) {
  enum { INPUT_PTX = 2 };
  struct cgc_functions *f = tc->functions;
  void *link = NULL;
  const char *options[] = {ts_arena_printf(a, "-arch=%s", t->name), "-verbose"};
  int r = f->link_create(&link, 2, options);
  if (r == 0) r = f->link_add(link, INPUT_PTX, out->ptx.data, out->ptx.len + 1, k->name);
  if (r == 0) r = f->link_complete(link);
  ts_status s = TS_OK;
  size_t n = 0;
  if (r == 0 && f->cubin_size(link, &n) == 0 && n) {
    unsigned char *p = ts_arena_alloc(a, n, 16);
    r = f->cubin(link, p);
    out->cubin = p;
    out->cubin_bytes = n;
  }
  if (r == 0) {
    out->log = text_of(a, link, f->info_size, f->info);
    out->registers = number_before(out->log.data, " registers");
    out->spill_bytes = number_before(out->log.data, " bytes spill stores") + number_before(out->log.data, " bytes spill loads");
    out->stack_bytes = number_before(out->log.data, " bytes stack frame");
    out->static_shared = number_before(out->log.data, " bytes smem");
  } else {
    ts_str log = link ? text_of(a, link, f->error_size, f->error) : (ts_str){0};
    s = ts_report(d, k->loc, &diag_cuda_compile, "kernel %s for %s: nvJitLink says (error %d): %.*s", k->name, t->name, r,
                  (int)(log.len < 1500 ? log.len : 1500), log.data ? log.data : "");
  }
  if (link) f->link_destroy(&link);
  return s;
}

ts_status cgc_compile(const cgc_toolchain *tc, const ir_kernel *k, const cgc_target *t, ts_arena *a, ts_diags *d, cgc_code *out) {
  *out = (cgc_code){.threads = 32u * (uint32_t)(k->warps > 0 ? k->warps : 1)};
  if (!tc->nvrtc) return ts_report(d, k->loc, &diag_cuda_toolchain, "%s", tc->missing);
  ts_text text = {0};
  ts_status s = cgc_kernel_to_cuda(k, t, a, d, &text, &out->shared);
  if (s == TS_OK) out->cuda = (ts_str){ts_arena_strndup(a, ts_text_z(&text), text.len), text.len};
  ts_text_deinit(&text);
  if (s != TS_OK) return s;
  out->entry = cgc_entry_name(a, k);
  out->dims = ir_kernel_symbols(k, a, &out->dim_count);
  TS_TRY(to_ptx(tc, k, t, a, d, out));
  return tc->nvjitlink ? to_cubin(tc, k, t, a, d, out) : TS_OK;
}
