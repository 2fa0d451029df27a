// tessera inspect, tessera doctor: looking at files and at this machine.
#include "base/pool.h"
#include "codegen/host/host.h"
#include "frontend/gguf.h"
#include "frontend/safetensors.h"
#include "base/file.h"
#include "runtime/tessera.h"
#include "tools/cli.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>


// ---- tensor files --------------------------------------------------------------------------------------------------------
static void print_tensors(const fe_tensors *t) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < t->count; i++) {
    const fe_tensor *x = &t->list[i];
    printf("  %-48.*s %-8s [", TS_FMT(x->name), x->type);
    for (unsigned k = 0; k < x->rank; k++) printf("%s%lld", k ? ", " : "", (long long)x->shape[k]);
    printf("]%s\n", x->encoding ? "" : "  (not supported)");
    bytes += x->bytes;
  }
  printf("%zu tensors, %.1f MB\n", t->count, (double)bytes / 1e6);
}

static void print_gguf_value(const fe_gguf_value *v) {
  ts_str s;
  int64_t i;
  double r;
  bool b;
  if (v->type == FE_GGUF_ARRAY) printf("%s[%llu]", fe_gguf_type_name(v->element), (unsigned long long)v->count);
  else if (fe_gguf_string(v, 0, &s)) {
    ts_text t = {0};
    ts_text_json(&t, s.len > 80 ? (ts_str){s.data, 80} : s);
    printf("%s%s", ts_text_z(&t), s.len > 80 ? " ..." : "");
    ts_text_deinit(&t);
  } else if (fe_gguf_bool(v, 0, &b)) printf("%s", b ? "true" : "false");
  else if (fe_gguf_int(v, 0, &i)) printf("%lld", (long long)i);
  else if (fe_gguf_real(v, 0, &r)) printf("%.9g", r);
}

static ts_status inspect_gguf(cli *c, const char *path) {
  fe_gguf g = {0};
  ts_status s = fe_gguf_open(&c->arena, path, &c->diags, &g);
  for (size_t i = 0; s == TS_OK && i < g.kv_count; i++) {
    printf("  %.*s = ", TS_FMT(g.kv[i].key));
    print_gguf_value(&g.kv[i].value);
    putchar('\n');
  }
  if (s == TS_OK) print_tensors(&g.tensors);
  fe_gguf_close(&g);
  return s;
}

static ts_status inspect_safetensors(cli *c, const char *path) {
  fe_safetensors f = {0};
  ts_status s = fe_safetensors_open(&c->arena, path, &c->diags, &f);
  if (s == TS_OK) print_tensors(&f.tensors);
  fe_safetensors_close(&f);
  return s;
}

// ---- artifacts -----------------------------------------------------------------------------------------------------------
static void print_value(const tsr_value_info *v) {
  printf("%s: %s[", v->name, tsr_dtype_name(v->dtype));
  for (uint32_t k = 0; k < v->rank; k++) {
    if (k) printf(", ");
    if (v->dims[k]) printf("%s", v->dims[k]);
    else if (v->shape[k] == TSR_ANY) printf("?");
    else printf("%lld", (long long)v->shape[k]);
  }
  printf("]");
}

static void print_artifact(const tsr_artifact *a) {
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_METADATA); i++) {
    const char *key = tsr_artifact_name(a, TSR_METADATA, i);
    printf("%s: %s\n", key, tsr_artifact_metadata(a, key));
  }
  printf("targets:");
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_TARGETS); i++) printf(" %s", tsr_artifact_name(a, TSR_TARGETS, i));
  printf("\ndims:");
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_DIMS); i++) {
    tsr_dim_info d;
    if (tsr_artifact_dim(a, i, &d) == TSR_OK) printf(" %s %lld..%lld%s%s", d.name, (long long)d.min, (long long)d.max, d.per ? " per " : "", d.per ? d.per : "");
  }
  printf("\nstates:");
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_STATES); i++) printf(" %s", tsr_artifact_name(a, TSR_STATES, i));
  printf("\nfunctions:\n");
  for (size_t i = 0; i < tsr_artifact_count(a, TSR_FUNCTIONS); i++) {
    tsr_function_info f;
    if (tsr_artifact_function(a, i, &f) != TSR_OK) continue;
    printf("  %s(", f.name);
    for (uint32_t k = 0; k < f.inputs + f.outputs; k++) {
      tsr_value_info v;
      bool output = k >= f.inputs;
      if (tsr_artifact_value(a, f.name, output ? TSR_OUTPUT : TSR_INPUT, output ? k - f.inputs : k, &v) != TSR_OK) continue;
      printf("%s", k == f.inputs ? ") -> (" : k ? ", " : "");
      print_value(&v);
    }
    printf(")\n");
  }
}

static ts_status show_kernel(cli *c, tsr_artifact *a, const char *kernel) {
  const char *what = cli_value(c, "show", "scheduled");
  const void *data;
  size_t bytes;
  const char *name = ts_arena_printf(&c->arena, "kernels/%s.%s.tir", kernel, what);
  if (tsr_artifact_section(a, name, &data, &bytes) != TSR_OK) {
    ts_report(&c->diags, (ts_loc){0}, &diag_usage, "there is no %s text of kernel %s", what, kernel);
    ts_note(&c->diags, (ts_loc){0}, "texts are tile (of portable kernels) and scheduled; `tessera inspect --kernels` lists the kernels");
    return TS_INVALID;
  }
  fwrite(data, 1, bytes, stdout);
  return TS_OK;
}

static ts_status inspect_artifact(cli *c, const char *path) {
  tsr_error e = {TSR_OK, ""};
  tsr_artifact *a = NULL;
  if (tsr_artifact_open(path, NULL, &e, &a) != TSR_OK) return ts_report(&c->diags, (ts_loc){0}, &diag_tool_artifact, "%s", e.text);
  ts_status s = TS_OK;
  const char *kernel = cli_value(c, "kernel", NULL);
  const void *data;
  size_t bytes;
  if (kernel) {
    s = show_kernel(c, a, kernel);
  } else if (cli_has(c, "json")) {
    if (tsr_artifact_section(a, "manifest", &data, &bytes) == TSR_OK) fwrite(data, 1, bytes, stdout);
    else s = ts_report(&c->diags, (ts_loc){0}, &diag_tool_artifact, "%s has no manifest", path);
  } else {
    print_artifact(a);
    printf("kernels: %zu\n", tsr_artifact_count(a, TSR_KERNELS));
    for (size_t i = 0; cli_has(c, "kernels") && i < tsr_artifact_count(a, TSR_KERNELS); i++) printf("  %s\n", tsr_artifact_name(a, TSR_KERNELS, i));
  }
  if (s == TS_OK && cli_has(c, "verify")) {
    if (tsr_artifact_verify(a, &e) != TSR_OK) s = ts_report(&c->diags, (ts_loc){0}, &diag_tool_artifact, "%s", e.text);
    else fprintf(stderr, "%s: every byte is as it was written\n", path);
  }
  tsr_artifact_release(a);
  return s;
}

int cmd_inspect(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "inspect", argc, argv);
  if (code >= 0) return code;
  const char *path = cli_need_positional(&c, "a file");
  ts_status s = TS_INVALID;
  if (path) {
    ts_str p = ts_str_of(path);
    if (ts_str_ends(p, ".gguf")) s = inspect_gguf(&c, path);
    else if (ts_str_ends(p, ".safetensors")) s = inspect_safetensors(&c, path);
    else s = inspect_artifact(&c, path);
  }
  return cli_end(&c, s);
}

// ---- doctor --------------------------------------------------------------------------------------------------------------
static const char *find_library(const char *const *names) {
  for (; *names; names++) {
    void *h = dlopen(*names, RTLD_LAZY | RTLD_LOCAL);
    if (!h) continue;
    dlclose(h);
    return *names;
  }
  return NULL;
}

static void finding(bool json, bool *first, const char *what, const char *found, const char *fix) {
  if (!json) {
    printf("%-12s %s%s%s\n", what, found ? found : "missing", found ? "" : ": ", found ? "" : fix);
    return;
  }
  ts_text t = {0};
  ts_text_json(&t, ts_str_of(what));
  ts_text_puts(&t, ": ");
  if (found) ts_text_json(&t, ts_str_of(found));
  else ts_text_puts(&t, "null");
  printf("%s%s", *first ? "" : ", ", ts_text_z(&t));
  *first = false;
  ts_text_deinit(&t);
}

int cmd_doctor(int argc, char **argv) {
  cli c;
  int code = cli_begin(&c, "doctor", argc, argv);
  if (code >= 0) return code;
  bool json = cli_has(&c, "json"), first = true;
  if (json) printf("{\"schema\": 1, ");
  finding(json, &first, "version", TESSERA_VERSION, "");
  tsr_device *device = NULL;
  tsr_error e = {TSR_OK, ""};
  bool host = tsr_device_open("host", NULL, &e, &device) == TSR_OK;
  finding(json, &first, "host", host ? tsr_device_name(device) : NULL, e.text);
  tsr_device_release(device);
  static const char *const linkers[] = {"/usr/bin/ld.lld-19", "/usr/lib/llvm-19/bin/ld.lld", NULL};
  const char *linker = NULL;
  for (int i = 0; linkers[i] && !linker; i++)
    if (access(linkers[i], X_OK) == 0) linker = linkers[i];
  finding(json, &first, "lld", linker, "apt-get install lld-19");
  static const char *const nvrtc[] = {"libnvrtc.so.13", "/usr/local/cuda/lib64/libnvrtc.so.13", ".deps/cuda/nvidia/cu13/lib/libnvrtc.so.13", "libnvrtc.so.12", NULL};
  static const char *const jitlink[] = {"libnvJitLink.so.13", "/usr/local/cuda/lib64/libnvJitLink.so.13", ".deps/cuda/nvidia/cu13/lib/libnvJitLink.so.13", NULL};
  static const char *const driver[] = {"libcuda.so.1", NULL};
  finding(json, &first, "nvrtc", find_library(nvrtc), "scripts/setup.sh cuda (CUDA targets need it)");
  finding(json, &first, "nvjitlink", find_library(jitlink), "scripts/setup.sh cuda (cubins need it)");
  finding(json, &first, "cuda driver", find_library(driver), "no GPU driver on this machine (running on cuda:N needs one)");
  char *cache = ts_xdg_folder(&c.arena, "CACHE");
  finding(json, &first, "cache", cache, "set HOME or XDG_CACHE_HOME");
  if (json) printf("}\n");
  return cli_end(&c, TS_OK);
}
