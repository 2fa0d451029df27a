// libtessera_cuda_emu.so as a program sees it that finds the driver with dlopen: devices, contexts, memory, modules, launches,
// streams and events, findings, and the documented errors.
#include "emu_driver_rig.h"

#include <pthread.h>

START_TEST(start) {
  load_api();
  int n = -1;
  IS(cu.cuDeviceGetCount(&n), CU_ERROR_NOT_INITIALIZED);
  cu_ptr p;
  IS(cu.cuMemAlloc_v2(&p, 4), CU_ERROR_NOT_INITIALIZED);
  IS(cu.cuInit(1), CU_ERROR_INVALID_VALUE);
  OK(cu.cuInit(0));
  OK(cu.cuInit(0));
  OK(cu.cuDriverGetVersion(&n));
  ck_assert_int_eq(n, 13000);
  OK(cu.cuDeviceGetCount(&n));
  ck_assert_int_eq(n, 7);
  IS(cu.cuMemAlloc_v2(&p, 4), CU_ERROR_INVALID_CONTEXT);
  IS(cu.cuCtxSynchronize(), CU_ERROR_INVALID_CONTEXT);
  IS(cu.cuDeviceGet(&n, 7), CU_ERROR_INVALID_DEVICE);
  const char *z;
  OK(cu.cuGetErrorName(700, &z));
  ck_assert_str_eq(z, "CUDA_ERROR_ILLEGAL_ADDRESS");
  OK(cu.cuGetErrorString(0, &z));
  ck_assert_str_eq(z, "no error");
  IS(cu.cuGetErrorName(12345, &z), CU_ERROR_INVALID_VALUE);
  ck_assert_ptr_null(z);
}
END_TEST

START_TEST(chosen_targets) {
  setenv("TESSERA_EMU_TARGET", "sm_90,75", 1);
  load_api();
  OK(cu.cuInit(0));
  int n, major, minor;
  OK(cu.cuDeviceGetCount(&n));
  ck_assert_int_eq(n, 2);
  OK(cu.cuDeviceGetAttribute(&major, 75, 0));
  OK(cu.cuDeviceComputeCapability(&n, &minor, 1));
  ck_assert_int_eq(major, 9);
  ck_assert_int_eq(n * 10 + minor, 75);
}
END_TEST

START_TEST(unknown_target) {
  setenv("TESSERA_EMU_TARGET", "sm_42", 1);
  load_api();
  IS(cu.cuInit(0), CU_ERROR_NO_DEVICE);
}
END_TEST

static int attribute(int number, cu_device d) {
  int v = -1;
  OK(cu.cuDeviceGetAttribute(&v, number, d));
  return v;
}

START_TEST(attributes) {
  load_api();
  OK(cu.cuInit(0));
  static const int sms[] = {80, 75, 86, 87, 89, 90, 120};
  for (int d = 0; d < 7; d++) {
    ck_assert_int_eq(attribute(75, d) * 10 + attribute(76, d), sms[d]);
    for (int k = 1; k <= 147; k++) ck_assert_int_ge(attribute(k, d), -1);
    ck_assert_int_eq(attribute(10, d), 32);
    ck_assert_int_ge(attribute(97, d), 64 << 10);                       // shared memory per block
    ck_assert_int_ge(attribute(81, d), attribute(97, d));               // and per multiprocessor
    ck_assert_int_eq(attribute(39, d) % 512, 0);
    size_t total;
    char name[100], small[4];
    OK(cu.cuDeviceTotalMem_v2(&total, d));
    ck_assert_uint_gt(total, 1ull << 33);
    OK(cu.cuDeviceGetName(name, sizeof name, d));
    OK(cu.cuDeviceGetName(small, sizeof small, d));
    ck_assert_str_eq(small, "Tes");
  }
  int v;
  IS(cu.cuDeviceGetAttribute(&v, 0, 0), CU_ERROR_INVALID_VALUE);
  IS(cu.cuDeviceGetAttribute(&v, 5000, 0), CU_ERROR_INVALID_VALUE);
  IS(cu.cuDeviceGetAttribute(&v, 1, 9), CU_ERROR_INVALID_DEVICE);
  IS(cu.cuDeviceGetAttribute(NULL, 1, 0), CU_ERROR_INVALID_VALUE);
}
END_TEST

START_TEST(contexts) {
  load_api();
  OK(cu.cuInit(0));
  cu_handle a, b, p, now;
  int d, active;
  unsigned flags;
  OK(cu.cuCtxCreate_v4(&a, NULL, 0, 0));
  OK(cu.cuCtxCreate_v2(&b, 0, 1));
  OK(cu.cuCtxGetDevice(&d));
  ck_assert_int_eq(d, 1);
  OK(cu.cuCtxPopCurrent_v2(&now));
  ck_assert_ptr_eq(now, b);
  OK(cu.cuCtxGetCurrent(&now));
  ck_assert_ptr_eq(now, a);
  OK(cu.cuCtxPushCurrent_v2(b));
  OK(cu.cuCtxDestroy_v2(a));   // below on the stack
  OK(cu.cuCtxPopCurrent_v2(NULL));
  IS(cu.cuCtxSynchronize(), CU_ERROR_CONTEXT_IS_DESTROYED);
  IS(cu.cuCtxPushCurrent_v2(a), CU_ERROR_CONTEXT_IS_DESTROYED);
  IS(cu.cuCtxPushCurrent_v2(&d), CU_ERROR_INVALID_CONTEXT);
  IS(cu.cuCtxDestroy_v2(a), CU_ERROR_CONTEXT_IS_DESTROYED);
  OK(cu.cuCtxSetCurrent(b));
  OK(cu.cuCtxSynchronize());
  OK(cu.cuDevicePrimaryCtxGetState(3, &flags, &active));
  ck_assert_int_eq(active, 0);
  OK(cu.cuDevicePrimaryCtxRetain(&p, 3));
  OK(cu.cuDevicePrimaryCtxRetain(&now, 3));
  ck_assert_ptr_eq(p, now);
  IS(cu.cuCtxDestroy_v2(p), CU_ERROR_INVALID_CONTEXT);
  OK(cu.cuCtxSetCurrent(p));
  cu_ptr memory;
  OK(cu.cuMemAlloc_v2(&memory, 100));
  OK(cu.cuDevicePrimaryCtxRelease_v2(3));
  OK(cu.cuMemFree_v2(memory));
  OK(cu.cuDevicePrimaryCtxRelease_v2(3));
  IS(cu.cuDevicePrimaryCtxRelease_v2(3), CU_ERROR_INVALID_CONTEXT);
  IS(cu.cuCtxSynchronize(), CU_ERROR_CONTEXT_IS_DESTROYED);
  size_t limit;
  OK(cu.cuCtxSetCurrent(b));
  OK(cu.cuCtxSetLimit(2, 64 << 20));
  OK(cu.cuCtxGetLimit(&limit, 2));
  ck_assert_uint_eq(limit, 64 << 20);
  IS(cu.cuCtxGetLimit(&limit, 77), CU_ERROR_INVALID_VALUE);
}
END_TEST

START_TEST(linear_memory) {
  uint64_t s = seed_of();
  open_device(0);
  uint8_t host[4096], back[4096];
  for (int round = 0; round < 50; round++) {
    size_t n = 1 + random_of(&s) % 4000, at = random_of(&s) % n, part = random_of(&s) % (n - at + 1);
    cu_ptr p, q, base;
    OK(cu.cuMemAlloc_v2(&p, n));
    OK(cu.cuMemAlloc_v2(&q, n));
    for (size_t i = 0; i < n; i++) host[i] = (uint8_t)random_of(&s);
    OK(cu.cuMemcpyHtoD_v2(p, host, n));
    OK(cu.cuMemsetD8_v2(q, 0xee, n));
    OK(cu.cuMemcpyDtoDAsync_v2(q + at, p + at, part, NULL));
    OK(cu.cuMemcpyDtoH_v2(back, q, n));
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(back[i], i >= at && i < at + part ? host[i] : 0xee);
    OK(cu.cuMemcpy((cu_ptr)(uintptr_t)back, p, n));   // kinds are found from the addresses
    ck_assert_mem_eq(back, host, n);
    IS(cu.cuMemcpyHtoD_v2(p + 1, host, n), CU_ERROR_INVALID_VALUE);
    IS(cu.cuMemcpyDtoH_v2(back, p, n + 1), CU_ERROR_INVALID_VALUE);
    IS(cu.cuMemcpyHtoD_v2((cu_ptr)(uintptr_t)back, host, n), CU_ERROR_INVALID_VALUE);
    size_t bytes;
    OK(cu.cuMemGetAddressRange_v2(&base, &bytes, p + at));
    ck_assert(base == p && bytes == n);
    IS(cu.cuMemFree_v2(p + n / 2 + 1), CU_ERROR_INVALID_VALUE);
    OK(cu.cuMemFree_v2(p));
    IS(cu.cuMemFree_v2(p), CU_ERROR_INVALID_VALUE);
    OK(cu.cuMemFree_v2(q));
  }
  OK(cu.cuMemFree_v2(0));
  cu_ptr p;
  IS(cu.cuMemAlloc_v2(&p, 0), CU_ERROR_INVALID_VALUE);
  IS(cu.cuMemAlloc_v2(&p, (size_t)1 << 60), CU_ERROR_OUT_OF_MEMORY);
  size_t before, after, total;
  OK(cu.cuMemGetInfo_v2(&before, &total));
  OK(cu.cuMemAlloc_v2(&p, 1 << 20));
  OK(cu.cuMemGetInfo_v2(&after, &total));
  ck_assert_uint_eq(before - after, 1 << 20);
  uint32_t words[6], wanted[6] = {7, 7, 0x12345678, 0x12345678, 0x12345678, 7};
  OK(cu.cuMemsetD32_v2(p, 7, 6));
  OK(cu.cuMemsetD32Async(p + 8, 0x12345678, 3, NULL));
  OK(cu.cuMemcpyDtoH_v2(words, p, sizeof words));
  ck_assert_mem_eq(words, wanted, sizeof words);
  OK(cu.cuMemsetD2D16_v2(p, 8, 0x7777, 1, 3));
  OK(cu.cuMemcpyDtoH_v2(words, p, sizeof words));
  ck_assert_uint_eq(words[2], 0x12347777);
  ck_assert_uint_eq(words[3], 0x12345678);
  IS(cu.cuMemsetD32_v2(p + 2, 0, 1), CU_ERROR_INVALID_VALUE);
}
END_TEST

START_TEST(rectangles) {
  uint64_t s = seed_of();
  open_device(0);
  for (int round = 0; round < 20; round++) {
    size_t width = 1 + random_of(&s) % 60, height = 1 + random_of(&s) % 9, x = random_of(&s) % 5, y = random_of(&s) % 3, pitch,
           host_pitch = width + x + 3;
    cu_ptr p;
    uint8_t host[1200], back[1200];
    for (size_t i = 0; i < sizeof host; i++) host[i] = (uint8_t)random_of(&s);
    memset(back, 0x55, sizeof back);
    OK(cu.cuMemAllocPitch_v2(&p, &pitch, width, height, 4));
    cu_copy_2d c = {.from = {.x = x, .y = y, .type = CU_MEMORY_HOST, .host = host, .pitch = host_pitch},
                    .to = {.type = CU_MEMORY_DEVICE, .device = p, .pitch = pitch}, .width = width, .height = height};
    OK(cu.cuMemcpy2D_v2(&c));
    cu_copy_3d d = {.from = {.type = CU_MEMORY_DEVICE, .device = p, .pitch = pitch},
                    .to = {.x = x, .y = y, .type = CU_MEMORY_HOST, .host = back, .pitch = host_pitch},
                    .width = width,
                    .height = height,
                    .depth = 1};
    OK(cu.cuMemcpy3DAsync_v2(&d, NULL));
    for (size_t i = 0; i < sizeof back; i++) {
      size_t row = i / host_pitch, column = i % host_pitch;
      bool inside = row >= y && row < y + height && column >= x && column < x + width;
      ck_assert_uint_eq(back[i], inside ? host[i] : 0x55);
    }
    c.to.pitch = width - 1;
    if (width > 1) IS(cu.cuMemcpy2D_v2(&c), CU_ERROR_INVALID_VALUE);
    c.to.type = CU_MEMORY_ARRAY;
    IS(cu.cuMemcpy2D_v2(&c), CU_ERROR_NOT_SUPPORTED);
    OK(cu.cuMemFree_v2(p));
  }
}
END_TEST

START_TEST(host_memory_and_pointers) {
  cu_handle c = open_device(0), got;
  uint32_t *pinned;
  cu_ptr p, device;
  int type, unified = attribute(41, 0);
  OK(cu.cuMemHostAlloc((void **)&pinned, 4096, 2));
  pinned[0] = 1;
  OK(cu.cuMemHostGetDevicePointer_v2(&device, pinned, 0));
  if (unified) ck_assert(device == (cu_ptr)(uintptr_t)pinned);
  cu_handle f = load_function(test_ptx, "scaled");
  OK(launch(f, 1, 1, 0, (void *[]){&device}));
  OK(cu.cuCtxSynchronize());
  ck_assert_uint_eq(pinned[0], 3);   // the kernel wrote host memory
  OK(cu.cuPointerGetAttribute(&type, 2, (cu_ptr)(uintptr_t)pinned));
  ck_assert_int_eq(type, CU_MEMORY_HOST);
  OK(cu.cuMemAlloc_v2(&p, 100));
  OK(cu.cuPointerGetAttribute(&type, 2, p + 50));
  ck_assert_int_eq(type, CU_MEMORY_DEVICE);
  OK(cu.cuPointerGetAttribute(&got, 1, p));
  ck_assert_ptr_eq(got, c);
  IS(cu.cuPointerGetAttribute(&type, 2, (cu_ptr)(uintptr_t)&type), CU_ERROR_INVALID_VALUE);
  int ordinal = 5, names[] = {2, 9, 1};
  void *values[] = {&type, &ordinal, &got};
  OK(cu.cuPointerGetAttributes(3, names, values, (cu_ptr)(uintptr_t)&type));
  ck_assert(type == 0 && ordinal == -2 && got == NULL);
  OK(cu.cuPointerGetAttributes(3, names, values, p));
  ck_assert(type == CU_MEMORY_DEVICE && ordinal == 0 && got == c);
  IS(cu.cuMemFree_v2((cu_ptr)(uintptr_t)pinned), CU_ERROR_INVALID_VALUE);
  IS(cu.cuMemFreeHost((void *)(uintptr_t)p), CU_ERROR_INVALID_VALUE);
  OK(cu.cuMemFreeHost(pinned));
  IS(cu.cuMemHostRegister_v2(&type, 4, 0), CU_ERROR_NOT_SUPPORTED);
  if (unified) {
    OK(cu.cuMemAllocManaged(&p, 64, 1));
    *(uint32_t *)(uintptr_t)p = 9;
    OK(launch(f, 1, 1, 0, (void *[]){&p}));
    ck_assert_uint_eq(*(uint32_t *)(uintptr_t)p, 3);
    OK(cu.cuMemFree_v2(p));
  } else {
    IS(cu.cuMemAllocManaged(&p, 64, 1), CU_ERROR_NOT_SUPPORTED);
  }
}
END_TEST

START_TEST(pools) {
  open_device(0);
  cu_handle pool, other;
  cu_ptr p, q;
  uint64_t used;
  OK(cu.cuDeviceGetDefaultMemPool(&pool, 0));
  OK(cu.cuMemAllocAsync(&p, 1000, NULL));
  OK(cu.cuMemPoolGetAttribute(pool, 7, &used));
  ck_assert_uint_eq(used, 1000);
  OK(cu.cuMemFreeAsync(p, NULL));
  OK(cu.cuMemPoolGetAttribute(pool, 7, &used));
  ck_assert_uint_eq(used, 0);
  OK(cu.cuMemPoolGetAttribute(pool, 8, &used));
  ck_assert_uint_eq(used, 1000);
  cu_pool_props props = {.allocation_type = 1, .location = {CU_LOCATION_DEVICE, 0}};
  OK(cu.cuMemPoolCreate(&other, &props));
  OK(cu.cuMemAllocFromPoolAsync(&q, 64, other, NULL));
  OK(cu.cuMemPoolDestroy(other));
  OK(cu.cuMemFree_v2(q));
  IS(cu.cuMemAllocFromPoolAsync(&q, 64, other, NULL), CU_ERROR_INVALID_VALUE);
  IS(cu.cuMemPoolDestroy(pool), CU_ERROR_INVALID_VALUE);
}
END_TEST

START_TEST(modules) {
  open_device(0);
  cu_handle m, f;
  char log[300], small[8];
  memset(log, 'x', sizeof log);
  int names[] = {DRV_JIT_ERROR_LOG, DRV_JIT_ERROR_LOG_BYTES, 7};
  void *values[] = {log, (void *)sizeof log, (void *)4};
  IS(cu.cuModuleLoadDataEx(&m, PTX_HEAD ".visible .entry f()\n{\n  frobnicate.u32 %r1;\n}\n", 3, names, values),
     CU_ERROR_INVALID_PTX);
  ck_assert_msg(strstr(log, ":6:") && strstr(log, "frobnicate"), "log: %s", log);
  ck_assert_uint_eq((uintptr_t)values[1], strlen(log));
  values[0] = small, values[1] = (void *)sizeof small;
  IS(cu.cuModuleLoadDataEx(&m, PTX_HEAD "nonsense", 2, names, values), CU_ERROR_INVALID_PTX);
  ck_assert_uint_eq(strlen(small), 7);
  IS(cu.cuModuleLoadData(&m, ".version 7.8\n.target sm_90\n.address_size 64\n"), CU_ERROR_INVALID_PTX);
  IS(cu.cuModuleLoadData(&m, ".version 99.0\n.target sm_80\n.address_size 64\n"), CU_ERROR_UNSUPPORTED_PTX_VERSION);
  IS(cu.cuModuleLoadData(&m, "\177ELF and so on"), CU_ERROR_NO_BINARY_FOR_GPU);
  IS(cu.cuModuleLoadData(&m, ""), CU_ERROR_INVALID_IMAGE);
  IS(cu.cuModuleLoadData(&m, NULL), CU_ERROR_INVALID_VALUE);
  IS(cu.cuModuleLoad(&m, "/nowhere/k.ptx"), CU_ERROR_FILE_NOT_FOUND);
  OK(cu.cuModuleLoadData(&m, test_ptx));
  IS(cu.cuModuleGetFunction(&f, m, "nothing"), CU_ERROR_NOT_FOUND);
  IS(cu.cuModuleGetFunction(&f, &f, "saxpy"), CU_ERROR_INVALID_HANDLE);
  OK(cu.cuModuleGetFunction(&f, m, "saxpy"));
  unsigned count;
  OK(cu.cuModuleGetFunctionCount(&count, m));
  ck_assert_uint_eq(count, 6);
  cu_ptr p;
  size_t bytes, offset;
  uint32_t value;
  OK(cu.cuModuleGetGlobal_v2(&p, &bytes, m, "scale"));
  ck_assert_uint_eq(bytes, 4);
  OK(cu.cuMemcpyDtoH_v2(&value, p, 4));
  ck_assert_uint_eq(value, 3);
  IS(cu.cuModuleGetGlobal_v2(&p, &bytes, m, "saxpy"), CU_ERROR_NOT_FOUND);
  OK(cu.cuFuncGetParamInfo(f, 1, &offset, &bytes));
  ck_assert(offset == 8 && bytes == 8);
  IS(cu.cuFuncGetParamInfo(f, 4, &offset, &bytes), CU_ERROR_INVALID_VALUE);
  OK(cu.cuModuleUnload(m));
  IS(cu.cuModuleUnload(m), CU_ERROR_INVALID_HANDLE);
  IS(launch(f, 1, 1, 0, NULL), CU_ERROR_INVALID_HANDLE);
}
END_TEST

START_TEST(libraries) {
  open_device(1);
  cu_handle l, k, m, f, list[8];
  unsigned count;
  OK(cu.cuLibraryLoadData(&l, test_ptx, NULL, NULL, 0, NULL, NULL, 0));
  OK(cu.cuLibraryGetKernel(&k, l, "reverse"));
  IS(cu.cuLibraryGetKernel(&f, l, "nothing"), CU_ERROR_NOT_FOUND);
  OK(cu.cuLibraryGetKernelCount(&count, l));
  OK(cu.cuLibraryEnumerateKernels(list, 8, l));
  ck_assert_uint_eq(count, 6);
  OK(cu.cuLibraryGetModule(&m, l));
  OK(cu.cuKernelGetFunction(&f, k));
  uint32_t y[64];
  cu_ptr p;
  OK(cu.cuMemAlloc_v2(&p, sizeof y));
  for (uint32_t i = 0; i < 64; i++) y[i] = i * i;
  OK(cu.cuMemcpyHtoD_v2(p, y, sizeof y));
  OK(launch(k, 1, 64, 256, (void *[]){&p}));   // a kernel in a function's place
  OK(launch(f, 1, 32, 128, (void *[]){&p}));
  OK(cu.cuMemcpyDtoH_v2(y, p, sizeof y));
  for (uint32_t i = 0; i < 64; i++) {
    uint32_t j = i < 32 ? 31 - i : i;
    ck_assert_uint_eq(y[i], (63 - j) * (63 - j));
  }
  const char *name;
  OK(cu.cuKernelGetName(&name, k));
  ck_assert_str_eq(name, "reverse");
  OK(cu.cuLibraryUnload(l));
  IS(cu.cuKernelGetFunction(&f, k), CU_ERROR_INVALID_HANDLE);
}
END_TEST

START_TEST(launches) {
  uint64_t s = seed_of();
  open_device(0);
  cu_handle f = load_function(test_ptx, "saxpy");
  float x[1500], y[1500], back[1500];
  cu_ptr px, py;
  for (int round = 0; round < 12; round++) {
    uint32_t n = 1 + (uint32_t)(random_of(&s) % 1500), block = 1 + (uint32_t)(random_of(&s) % 200),
             grid = (n + block - 1) / block;
    float a = (float)(random_of(&s) % 100) / 8;
    for (uint32_t i = 0; i < n; i++) x[i] = (float)(random_of(&s) % 1000) / 8, y[i] = (float)(random_of(&s) % 1000);
    OK(cu.cuMemAlloc_v2(&px, n * 4));
    OK(cu.cuMemAlloc_v2(&py, n * 4));
    OK(cu.cuMemcpyHtoD_v2(px, x, n * 4));
    OK(cu.cuMemcpyHtoD_v2(py, y, n * 4));
    void *params[] = {&a, &px, &py, &n};
    if (round % 3 == 0) {
      OK(launch(f, grid, block, 0, params));
    } else if (round % 3 == 1) {
      struct {
        float a;
        cu_ptr x, y;
        uint32_t n;
      } block_of = {a, px, py, n};
      size_t size = sizeof block_of;
      void *extra[] = {(void *)CU_PARAM_BUFFER, &block_of, (void *)CU_PARAM_BUFFER_SIZE, &size, (void *)CU_PARAM_END};
      OK(cu.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, 0, NULL, NULL, extra));
    } else {
      cu_launch_attribute attribute_of = {.id = 8};
      cu_launch_config k = {.grid = {grid, 1, 1}, .block = {block, 1, 1}, .attributes = &attribute_of, .attribute_count = 1};
      OK(cu.cuLaunchKernelEx(&k, f, params, NULL));
    }
    OK(cu.cuMemcpyDtoH_v2(back, py, n * 4));
    for (uint32_t i = 0; i < n; i++) ck_assert(back[i] == __builtin_fmaf(a, x[i], y[i]));
    OK(cu.cuMemFree_v2(px));
    OK(cu.cuMemFree_v2(py));
  }
  ck_assert_uint_eq(cu.findings(), 0);
}
END_TEST

START_TEST(impossible_launches) {
  open_device(0);
  cu_handle m, f, reverse, meet;
  OK(cu.cuModuleLoadData(&m, test_ptx));
  OK(cu.cuModuleGetFunction(&f, m, "stop"));
  OK(cu.cuModuleGetFunction(&reverse, m, "reverse"));
  OK(cu.cuModuleGetFunction(&meet, m, "meet"));
  IS(launch(f, 0, 1, 0, NULL), CU_ERROR_INVALID_VALUE);
  IS(launch(f, 1, 1025, 0, NULL), CU_ERROR_INVALID_VALUE);
  IS(cu.cuLaunchKernel(f, 1, 65536, 1, 1, 1, 1, 0, NULL, NULL, NULL), CU_ERROR_INVALID_VALUE);
  IS(launch(reverse, 1, 1, 0, NULL), CU_ERROR_INVALID_VALUE);   // no parameters
  IS(cu.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, &f, NULL, NULL), CU_ERROR_INVALID_HANDLE);
  cu_ptr p;
  OK(cu.cuMemAlloc_v2(&p, 4096));
  OK(cu.cuMemsetD8_v2(p, 0, 4096));
  void *params[] = {&p};
  IS(launch(reverse, 1, 32, 60 << 10, params), CU_ERROR_INVALID_VALUE);
  OK(cu.cuFuncSetAttribute(reverse, CU_FUNC_MAX_DYNAMIC_SHARED, 163 << 10));
  OK(launch(reverse, 1, 32, 60 << 10, params));
  IS(cu.cuFuncSetAttribute(reverse, CU_FUNC_MAX_DYNAMIC_SHARED, (163 << 10) + 1), CU_ERROR_INVALID_VALUE);
  // Cooperative: as many blocks as fit (2048 threads on each of 108 multiprocessors) and one more.
  OK(cu.cuLaunchCooperativeKernel(meet, 216, 1, 1, 64, 1, 1, 0, NULL, params));
  IS(cu.cuLaunchCooperativeKernel(meet, 217, 1, 1, 1024, 1, 1, 0, NULL, params), CU_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  cu_launch_attribute cluster = {.id = CU_LAUNCH_CLUSTER_DIMENSION, .value.cluster = {2, 1, 1}};
  cu_launch_config k = {.grid = {2, 1, 1}, .block = {32, 1, 1}, .attributes = &cluster, .attribute_count = 1};
  IS(cu.cuLaunchKernelEx(&k, f, NULL, NULL), CU_ERROR_NOT_SUPPORTED);
  OK(cu.cuCtxSynchronize());
}
END_TEST

static int observed;
static char observed_text[600];
static void observe(void *user, const tessera_emu_launch *l) {
  (void)user;
  observed++;
  if (l->report_count) snprintf(observed_text, sizeof observed_text, "%s", l->reports[0]);
  ck_assert_ptr_nonnull(l->counters_json);
}

START_TEST(faults) {
  load_api();
  OK(cu.cuInit(0));
  cu_handle c, m, f, g, stream;
  OK(cu.cuCtxCreate_v2(&c, 0, 0));
  OK(cu.cuStreamCreate(&stream, 1));
  cu.observe(observe, NULL, 1);
  OK(cu.cuModuleLoadData(&m, test_ptx));
  OK(cu.cuModuleGetFunction(&f, m, "saxpy"));
  OK(cu.cuModuleGetFunction(&g, m, "stop"));
  cu_ptr x, y;
  OK(cu.cuMemAlloc_v2(&x, 400));
  OK(cu.cuMemAlloc_v2(&y, 400));
  OK(cu.cuMemsetD8_v2(x, 0, 400));
  OK(cu.cuMemsetD8_v2(y, 0, 400));
  float a = 1;
  uint32_t n = 101;   // one too many
  OK(cu.cuLaunchKernel(f, 1, 1, 1, 128, 1, 1, 0, stream, (void *[]){&a, &x, &y, &n}, NULL));
  IS(cu.cuStreamSynchronize(stream), CU_ERROR_ILLEGAL_ADDRESS);
  IS(cu.cuStreamQuery(stream), CU_ERROR_ILLEGAL_ADDRESS);
  IS(cu.cuMemFree_v2(x), CU_ERROR_ILLEGAL_ADDRESS);
  IS(cu.cuCtxSynchronize(), CU_ERROR_ILLEGAL_ADDRESS);
  IS(launch(g, 1, 1, 0, NULL), CU_ERROR_ILLEGAL_ADDRESS);
  ck_assert_int_eq(observed, 1);
  ck_assert_msg(strstr(observed_text, "out-of-bounds in saxpy") && strstr(observed_text, "0 bytes behind the end of 'allocation"),
                "%s", observed_text);
  OK(cu.cuCtxDestroy_v2(c));
  OK(cu.cuCtxCreate_v2(&c, 0, 0));   // a new context is a new start
  OK(cu.cuModuleLoadData(&m, test_ptx));
  OK(cu.cuModuleGetFunction(&g, m, "stop"));
  OK(launch(g, 1, 1, 0, NULL));
  IS(cu.cuCtxSynchronize(), CU_ERROR_LAUNCH_FAILED);
  OK(cu.cuCtxDestroy_v2(c));
  cu.observe(NULL, NULL, 0);
}
END_TEST

START_TEST(findings) {
  open_device(0);
  cu_handle f = load_function(test_ptx, "race");
  cu_ptr p;
  OK(cu.cuMemAlloc_v2(&p, 4));
  OK(launch(f, 8, 32, 0, (void *[]){&p}));
  OK(cu.cuCtxSynchronize());   // a race is told, but ends nothing
  uint64_t n = cu.findings();
  ck_assert_uint_gt(n, 0);
  cu.set_checks(0);
  OK(launch(f, 8, 32, 0, (void *[]){&p}));
  ck_assert_uint_eq(cu.findings(), n);
}
END_TEST

START_TEST(fatal_findings) {
  setenv("TESSERA_EMU_CHECKS", "fatal", 1);
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
  open_device(0);
  cu_handle f = load_function(test_ptx, "race");
  cu_ptr p;
  OK(cu.cuMemAlloc_v2(&p, 4));
  IS(launch(f, 8, 32, 0, (void *[]){&p}), CU_ERROR_LAUNCH_FAILED);
}
END_TEST

static void host_function(void *user) {
  cu_ptr p;
  *(int *)user = cu.cuMemAlloc_v2(&p, 4) == CU_ERROR_NOT_PERMITTED;
}
static void stream_callback(cu_handle stream, cu_result status, void *user) {
  (void)stream;
  *(int *)user = status == CU_SUCCESS;
}

START_TEST(streams_and_events) {
  open_device(0);
  cu_handle a, b, from, to, untimed, fresh;
  OK(cu.cuStreamCreate(&a, 1));
  OK(cu.cuStreamCreateWithPriority(&b, 0, -99));
  int priority, called = 0;
  OK(cu.cuStreamGetPriority(b, &priority));
  ck_assert_int_eq(priority, -5);
  OK(cu.cuEventCreate(&from, 0));
  OK(cu.cuEventCreate(&to, 1));
  OK(cu.cuEventCreate(&untimed, 2));
  OK(cu.cuEventCreate(&fresh, 0));
  IS(cu.cuEventCreate(&fresh, 64), CU_ERROR_INVALID_VALUE);
  OK(cu.cuEventQuery(fresh));   // not recorded: nothing to wait for
  float ms = -1;
  cu_handle f = load_function(test_ptx, "scaled");
  cu_ptr p;
  uint32_t word;
  OK(cu.cuMemAlloc_v2(&p, 4));
  OK(cu.cuEventRecord(from, a));
  OK(cu.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, a, (void *[]){&p}, NULL));
  OK(cu.cuEventRecord(to, a));
  OK(cu.cuStreamWaitEvent(b, to, 0));
  OK(cu.cuMemcpyDtoHAsync_v2(&word, p, 4, b));
  OK(cu.cuStreamSynchronize(b));
  ck_assert_uint_eq(word, 3);
  OK(cu.cuEventSynchronize(to));
  OK(cu.cuEventElapsedTime(&ms, from, to));
  ck_assert(ms > 0 && ms < 60000);
  OK(cu.cuEventElapsedTime(&ms, to, from));
  ck_assert(ms < 0);
  IS(cu.cuEventElapsedTime(&ms, from, fresh), CU_ERROR_INVALID_HANDLE);
  OK(cu.cuEventRecord(untimed, b));
  IS(cu.cuEventElapsedTime(&ms, from, untimed), CU_ERROR_INVALID_HANDLE);
  OK(cu.cuLaunchHostFunc(a, host_function, &called));
  ck_assert_int_eq(called, 1);
  called = 0;
  OK(cu.cuStreamAddCallback(a, stream_callback, &called, 0));
  ck_assert_int_eq(called, 1);
  OK(cu.cuStreamDestroy_v2(a));
  IS(cu.cuStreamQuery(a), CU_ERROR_INVALID_HANDLE);
  IS(cu.cuMemcpyHtoDAsync_v2(p, &word, 4, a), CU_ERROR_INVALID_HANDLE);
  OK(cu.cuStreamQuery((cu_handle)(uintptr_t)2));   // the per-thread stream
  OK(cu.cuEventDestroy_v2(to));
  IS(cu.cuEventQuery(to), CU_ERROR_INVALID_HANDLE);
}
END_TEST

START_TEST(occupancy) {
  open_device(0);
  cu_handle f = load_function(test_ptx, "reverse");
  int blocks, grid, threads;
  size_t dynamic;
  OK(cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 0));
  ck_assert_int_eq(blocks, 8);      // 2048 threads
  OK(cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32, 0));
  ck_assert_int_eq(blocks, 32);     // blocks
  OK(cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 64, 40 << 10));
  ck_assert_int_eq(blocks, 4);      // 164 KiB of shared memory, 41 for each
  OK(cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 64, 200 << 10));
  ck_assert_int_eq(blocks, 0);
  OK(cu.cuOccupancyMaxPotentialBlockSize(&grid, &threads, f, NULL, 0, 0));
  ck_assert_int_eq(grid * threads, 108 * 2048);
  OK(cu.cuOccupancyAvailableDynamicSMemPerBlock(&dynamic, f, 4, 64));
  ck_assert_uint_eq(dynamic, 40 << 10);
  int v;
  OK(cu.cuFuncGetAttribute(&v, CU_FUNC_MAX_THREADS, f));
  ck_assert_int_eq(v, 1024);
  OK(cu.cuFuncGetAttribute(&v, CU_FUNC_BINARY_VERSION, f));
  ck_assert_int_eq(v, 80);
  OK(cu.cuFuncGetAttribute(&v, CU_FUNC_PTX_VERSION, f));
  ck_assert_int_eq(v, 75);
  IS(cu.cuFuncGetAttribute(&v, 99, f), CU_ERROR_INVALID_VALUE);
}
END_TEST

START_TEST(entry_points) {
  load_api();
  void *p;
  int status;
  OK(cu.cuGetProcAddress_v2("cuMemAlloc", &p, 13000, 0, &status));
  ck_assert(p == (void *)cu.cuMemAlloc_v2 && status == DRV_GET_PROC_FOUND);
  OK(cu.cuGetProcAddress_v2("cuCtxCreate", &p, 12000, 0, &status));
  ck_assert(p == (void *)cu.cuCtxCreate_v3);
  OK(cu.cuGetProcAddress_v2("cuCtxCreate", &p, 13000, 2, &status));
  ck_assert(p == (void *)cu.cuCtxCreate_v4);
  OK(cu.cuGetProcAddress_v2("cuMemAlloc", &p, 2000, 0, &status));
  ck_assert(p == NULL && status == DRV_GET_PROC_VERSION);
  OK(cu.cuGetProcAddress_v2("cuNothing", &p, 13000, 0, &status));
  ck_assert(p == NULL && status == DRV_GET_PROC_NOT_FOUND);
  IS(cu.cuGetProcAddress("cuNothing", &p, 13000, 0), CU_ERROR_NOT_FOUND);
  const void *table;
  IS(cu.cuGetExportTable(&table, "0123456789abcdef"), CU_ERROR_NOT_FOUND);
  void *library = dlopen(TEST_CUDA_EMU, RTLD_NOW);
  ck_assert_ptr_nonnull(dlsym(library, "cuLaunchKernel_ptsz"));
  ck_assert_ptr_nonnull(dlsym(library, "cuMemcpyHtoD_v2_ptds"));
  ck_assert_ptr_null(dlsym(library, "emu_launch"));   // nothing of ours leaks out
}
END_TEST

// Several threads with a context each: every one gets its own answer.
static void *worker(void *user) {
  cu_handle c, m, f;
  cu_ptr p;
  int device = (int)(intptr_t)user % 2;
  if (cu.cuCtxCreate_v2(&c, 0, device) || cu.cuModuleLoadData(&m, test_ptx) || cu.cuModuleGetFunction(&f, m, "reverse"))
    return (void *)1;
  for (uint32_t round = 0; round < 20; round++) {
    uint32_t y[96], back[96];
    for (uint32_t i = 0; i < 96; i++) y[i] = i * 7 + round + (uint32_t)(uintptr_t)user * 1000;
    if (cu.cuMemAlloc_v2(&p, sizeof y) || cu.cuMemcpyHtoD_v2(p, y, sizeof y) || launch(f, 1, 96, sizeof y, (void *[]){&p}) ||
        cu.cuMemcpyDtoH_v2(back, p, sizeof y) || cu.cuMemFree_v2(p))
      return (void *)2;
    for (uint32_t i = 0; i < 96; i++)
      if (back[i] != y[95 - i]) return (void *)3;
  }
  return cu.cuCtxDestroy_v2(c) ? (void *)4 : NULL;
}
START_TEST(threads) {
  load_api();
  OK(cu.cuInit(0));
  pthread_t t[4];
  for (intptr_t i = 0; i < 4; i++) pthread_create(&t[i], NULL, worker, (void *)i);
  for (int i = 0; i < 4; i++) {
    void *r;
    pthread_join(t[i], &r);
    ck_assert_int_eq((intptr_t)r, 0);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("emu_driver");
  TCase *c = tcase_create("driver");
  tcase_add_test(c, start);
  tcase_add_test(c, chosen_targets);
  tcase_add_test(c, unknown_target);
  tcase_add_test(c, attributes);
  tcase_add_test(c, contexts);
  tcase_add_test(c, linear_memory);
  tcase_add_test(c, rectangles);
  tcase_add_test(c, host_memory_and_pointers);
  tcase_add_test(c, pools);
  tcase_add_test(c, modules);
  tcase_add_test(c, libraries);
  tcase_add_test(c, launches);
  tcase_add_test(c, impossible_launches);
  tcase_add_test(c, faults);
  tcase_add_test(c, findings);
  tcase_add_test(c, fatal_findings);
  tcase_add_test(c, streams_and_events);
  tcase_add_test(c, occupancy);
  tcase_add_test(c, entry_points);
  tcase_add_test(c, threads);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
