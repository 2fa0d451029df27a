// The driver library against NVIDIA's cuda.h: our own numbers and structures are those of the header, the exported functions
// have its prototypes, and an ordinary program written against it runs.
#include <cuda.h>

#include "emulator/driver/types.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

// Numbers that this version of the header doesn't have yet may be missing; those it has must agree.
#define CU_RESULT(name, code, text) _Static_assert(CUDA_##name == (CUresult)(code), "CUDA_" #name);
#include "emulator/driver/results.def"
#define CU_ATTRIBUTE(number, name, value) _Static_assert((int)CU_DEVICE_ATTRIBUTE_##name == (number), #name);
#include "emulator/driver/attributes.def"
_Static_assert(sizeof(cu_copy_2d) == sizeof(CUDA_MEMCPY2D) && offsetof(cu_copy_2d, to) == offsetof(CUDA_MEMCPY2D, dstXInBytes),
               "2D copies");
_Static_assert(sizeof(cu_copy_3d) == sizeof(CUDA_MEMCPY3D) && offsetof(cu_copy_3d, to) == offsetof(CUDA_MEMCPY3D, dstXInBytes),
               "3D copies");
_Static_assert(offsetof(cu_copy_3d, width) == offsetof(CUDA_MEMCPY3D, WidthInBytes), "3D copies");
_Static_assert(sizeof(cu_launch_config) == sizeof(CUlaunchConfig) &&
                   offsetof(cu_launch_config, attributes) == offsetof(CUlaunchConfig, attrs),
               "launches");
_Static_assert(sizeof(cu_launch_attribute) == sizeof(CUlaunchAttribute) &&
                   offsetof(cu_launch_attribute, value) == offsetof(CUlaunchAttribute, value),
               "launches");
_Static_assert(sizeof(cu_pool_props) == sizeof(CUmemPoolProps) &&
                   offsetof(cu_pool_props, usage) == offsetof(CUmemPoolProps, usage),
               "pools");
_Static_assert(sizeof(cu_access) == sizeof(CUmemAccessDesc) && sizeof(cu_properties) == sizeof(CUdevprop), "access, properties");
_Static_assert((int)CU_FUNC_CLUSTER_POLICY == (int)CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE, "function attributes");
_Static_assert((int)DRV_JIT_ERROR_LOG_BYTES == (int)CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES &&
                   (int)DRV_JIT_INFO_LOG == (int)CU_JIT_INFO_LOG_BUFFER,
               "options");

static const char ptx[] =
  ".version 7.0\n.target sm_75\n.address_size 64\n"
  ".visible .entry add(.param .u64 x, .param .u64 y, .param .u32 n)\n{\n"
  "  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %d<6>;\n"
  "  ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u32 %r0, [n];\n"
  "  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.s32 %r4, %r1, %r2, %r3;\n"
  "  setp.ge.u32 %p0, %r4, %r0; @%p0 bra DONE;\n"
  "  mul.wide.u32 %d2, %r4, 4; add.s64 %d3, %d0, %d2; add.s64 %d4, %d1, %d2;\n"
  "  ld.global.u32 %r5, [%d3]; ld.global.u32 %r6, [%d4]; add.u32 %r7, %r5, %r6; st.global.u32 [%d4], %r7;\n"
  "DONE: ret;\n}\n";

#define OK(expr) ck_assert_int_eq((expr), CUDA_SUCCESS)

START_TEST(program) {
  CUdevice device;
  CUcontext context;
  CUmodule module;
  CUfunction add;
  CUstream stream;
  CUevent start, stop;
  CUdeviceptr x, y;
  enum { N = 777 };
  unsigned hx[N], hy[N], n = N;
  for (unsigned i = 0; i < N; i++) hx[i] = (unsigned)rand(), hy[i] = i * 3;
  OK(cuInit(0));
  OK(cuDeviceGet(&device, 0));
  OK(cuCtxCreate(&context, NULL, CU_CTX_SCHED_SPIN, device));
  OK(cuModuleLoadDataEx(&module, ptx, 0, NULL, NULL));
  OK(cuModuleGetFunction(&add, module, "add"));
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  OK(cuEventCreate(&start, CU_EVENT_DEFAULT));
  OK(cuEventCreate(&stop, CU_EVENT_DEFAULT));
  OK(cuMemAlloc(&x, sizeof hx));
  OK(cuMemAllocAsync(&y, sizeof hy, stream));
  OK(cuMemcpyHtoDAsync(x, hx, sizeof hx, stream));
  OK(cuMemcpyHtoDAsync(y, hy, sizeof hy, stream));
  OK(cuEventRecord(start, stream));
  CUlaunchConfig config = {.gridDimX = (N + 127) / 128,
                           .gridDimY = 1,
                           .gridDimZ = 1,
                           .blockDimX = 128,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .hStream = stream};
  OK(cuLaunchKernelEx(&config, add, (void *[]){&x, &y, &n}, NULL));
  OK(cuLaunchKernel(add, (N + 63) / 64, 1, 1, 64, 1, 1, 0, stream, (void *[]){&x, &y, &n}, NULL));
  OK(cuEventRecord(stop, stream));
  unsigned back[N];
  OK(cuMemcpyDtoHAsync(back, y, sizeof back, stream));
  OK(cuStreamSynchronize(stream));
  for (unsigned i = 0; i < N; i++) ck_assert_uint_eq(back[i], hy[i] + 2 * hx[i]);
  float ms;
  OK(cuEventElapsedTime(&ms, start, stop));
  ck_assert(ms > 0);
  CUmemorytype type;
  OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, x));
  ck_assert_int_eq(type, CU_MEMORYTYPE_DEVICE);
  void *entry;
  CUdriverProcAddressQueryResult found;
  OK(cuGetProcAddress("cuMemFree", &entry, CUDA_VERSION, CU_GET_PROC_ADDRESS_DEFAULT, &found));
  ck_assert_int_eq(found, CU_GET_PROC_ADDRESS_SUCCESS);
  CUresult (*free_memory)(CUdeviceptr);
  memcpy(&free_memory, &entry, sizeof entry);
  OK(free_memory(x));
  OK(cuMemFreeAsync(y, stream));
  OK(cuEventDestroy(start));
  OK(cuEventDestroy(stop));
  OK(cuStreamDestroy(stream));
  OK(cuModuleUnload(module));
  OK(cuCtxDestroy(context));
}
END_TEST

int main(void) {
  Suite *s = suite_create("emu_driver_cuda_h");
  TCase *c = tcase_create("cuda.h");
  tcase_add_test(c, program);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
