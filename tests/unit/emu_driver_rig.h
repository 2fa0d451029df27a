// What the tests of the emulator's driver library share: its functions found with dlsym under our own declarations, a device
// with a current context, modules, random numbers.
#ifndef TESSERA_TESTS_EMU_DRIVER_RIG_H
#define TESSERA_TESTS_EMU_DRIVER_RIG_H
#include "emulator/driver/tessera_cuda_emu.h"
#include "emulator/driver/types.h"

#include <check.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct api {
#define DRV(symbol, base, version, needs, stream, params, args) cu_result(*symbol) params;
#include "emulator/driver/driver_api.def"
  void (*observe)(tessera_emu_observer *, void *, int);
  uint64_t (*findings)(void);
  void (*set_checks)(int);
} api;
static api cu;

static void *symbol_of(void *library, const char *name) {
  void *p = dlsym(library, name);
  ck_assert_msg(p != NULL, "%s is not exported", name);
  return p;
}

static void load_api(void) {
  void *library = dlopen(TEST_CUDA_EMU, RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(library != NULL, "%s", dlerror());
  void *p;
#define DRV(symbol, base, version, needs, stream, params, args) p = symbol_of(library, #symbol), memcpy(&cu.symbol, &p, sizeof p);
#include "emulator/driver/driver_api.def"
  p = symbol_of(library, "tessera_emu_observe"), memcpy(&cu.observe, &p, sizeof p);
  p = symbol_of(library, "tessera_emu_findings"), memcpy(&cu.findings, &p, sizeof p);
  p = symbol_of(library, "tessera_emu_set_checks"), memcpy(&cu.set_checks, &p, sizeof p);
}

static inline const char *name_of(cu_result r) {
  const char *z = "?";
  cu.cuGetErrorName(r, &z);
  return z;
}
#define IS(expr, expected)                                                                              \
  do {                                                                                                  \
    cu_result is_ = (expr);                                                                             \
    ck_assert_msg(is_ == (expected), "%s: %s instead of %s", #expr, name_of(is_), name_of(expected));   \
  } while (0)
#define OK(expr) IS(expr, CU_SUCCESS)

static cu_handle open_device(cu_device d) {
  cu_handle c;
  load_api();
  OK(cu.cuInit(0));
  OK(cu.cuDevicePrimaryCtxRetain(&c, d));
  OK(cu.cuCtxSetCurrent(c));
  return c;
}

static inline cu_handle load_function(const char *ptx, const char *name) {
  cu_handle m, f;
  OK(cu.cuModuleLoadData(&m, ptx));
  OK(cu.cuModuleGetFunction(&f, m, name));
  return f;
}

static inline cu_result launch(cu_handle f, unsigned grid, unsigned block, unsigned shared, void **params) {
  return cu.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, NULL, params, NULL);
}

static inline uint64_t random_of(uint64_t *s) {
  uint64_t z = *s += 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}
static inline uint64_t seed_of(void) {
  const char *given = getenv("TESSERA_SEED");
  uint64_t s = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u;
  fprintf(stderr, "seed 0x%llx\n", (unsigned long long)s);
  return s;
}

// y[i] = a * x[i] + y[i] for i < n (n isn't trusted with `bad`), a reversal through shared memory, a race, and a counter that
// all blocks wait for.
#define PTX_HEAD ".version 7.0\n.target sm_75\n.address_size 64\n"
static const char test_ptx[] =
  PTX_HEAD
  ".global .align 4 .u32 scale = 3;\n"
  ".visible .entry saxpy(.param .f32 a, .param .u64 x, .param .u64 y, .param .u32 n)\n{\n"
  "  .reg .pred %p<2>; .reg .f32 %f<4>; .reg .b32 %r<6>; .reg .b64 %d<6>;\n"
  "  ld.param.f32 %f0, [a]; ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u32 %r0, [n];\n"
  "  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.s32 %r4, %r1, %r2, %r3;\n"
  "  setp.ge.u32 %p0, %r4, %r0; @%p0 bra DONE;\n"
  "  mul.wide.u32 %d2, %r4, 4; add.s64 %d3, %d0, %d2; add.s64 %d4, %d1, %d2;\n"
  "  ld.global.f32 %f1, [%d3]; ld.global.f32 %f2, [%d4]; fma.rn.f32 %f3, %f0, %f1, %f2; st.global.f32 [%d4], %f3;\n"
  "DONE: ret;\n}\n"
  ".extern .shared .align 4 .b8 dynamic[];\n"
  ".visible .entry reverse(.param .u64 y)\n{\n"
  "  .reg .b32 %r<8>; .reg .b64 %d<4>;\n"
  "  ld.param.u64 %d0, [y]; mov.u32 %r0, %tid.x; mov.u32 %r1, %ntid.x; mul.wide.u32 %d1, %r0, 4; add.s64 %d2, %d0, %d1;\n"
  "  ld.global.u32 %r2, [%d2]; mov.u32 %r3, dynamic; shl.b32 %r4, %r0, 2; add.u32 %r5, %r3, %r4; st.shared.u32 [%r5], %r2;\n"
  "  bar.sync 0;\n"
  "  sub.u32 %r6, %r1, %r0; shl.b32 %r6, %r6, 2; add.u32 %r5, %r3, %r6; ld.shared.u32 %r2, [%r5+-4]; st.global.u32 [%d2], %r2;\n"
  "  ret;\n}\n"
  ".visible .entry race(.param .u64 y)\n{\n"
  "  .reg .b32 %r<4>; .reg .b64 %d<4>;\n"
  "  ld.param.u64 %d0, [y]; mov.u32 %r0, %ctaid.x; st.global.u32 [%d0], %r0; ret;\n}\n"
  ".visible .entry scaled(.param .u64 y)\n{\n"
  "  .reg .b32 %r<4>; .reg .b64 %d<4>;\n"
  "  ld.param.u64 %d0, [y]; ld.global.u32 %r0, [scale]; st.global.u32 [%d0], %r0; ret;\n}\n"
  ".visible .entry meet(.param .u64 counter)\n{\n"
  "  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %d<4>;\n"
  "  ld.param.u64 %d0, [counter]; mov.u32 %r1, %nctaid.x; atom.acq_rel.gpu.global.add.u32 %r0, [%d0], 1;\n"
  "WAIT: ld.acquire.gpu.global.u32 %r0, [%d0]; setp.lt.u32 %p0, %r0, %r1; @%p0 bra WAIT; ret;\n}\n"
  ".visible .entry stop()\n{\n  trap; ret;\n}\n";
#endif
