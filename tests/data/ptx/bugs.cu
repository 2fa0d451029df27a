// Planted bugs, each beside a clean twin: `bad` is the bug when it is not 0. bugs.ptx is `nvcc -arch=sm_80 -ptx -lineinfo bugs.cu`.
extern "C" __global__ void bounds(int *x, int n, int bad) { if (threadIdx.x < n + bad) x[threadIdx.x] = 1; }
extern "C" __global__ void misaligned(char *x, int bad) { *(int *)(x + 4 * threadIdx.x + bad) = 1; }
extern "C" __global__ void uninit_global(const int *x, int *y, int bad) { y[threadIdx.x] = x[threadIdx.x + bad]; }
extern "C" __global__ void uninit_shared(int *y, int bad) {
  __shared__ int s[64];
  if (threadIdx.x < 32 - bad) s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  if (threadIdx.x < 32) y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void shared_race(int *y, int bad) {
  __shared__ int s[64];
  s[threadIdx.x] = threadIdx.x;
  if (!bad) __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void shared_waw(int *y, int bad) {
  __shared__ int s;
  if (threadIdx.x == 0 || (bad && threadIdx.x == 40)) s = threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 1) *y = s;
}
extern "C" __global__ void warp_race(int *y, int bad) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  if (!bad) __syncwarp();
  y[threadIdx.x] = s[31 - threadIdx.x];
}
extern "C" __global__ void global_race(int *x, int *y, int bad) {
  if (threadIdx.x == 0) {
    if (bad) x[0] = blockIdx.x; else x[blockIdx.x] = blockIdx.x;
  }
  y[blockIdx.x] = 1;
}
// The last block to finish adds up what the others wrote; without the fence nothing orders it.
extern "C" __global__ void last_block(int *part, unsigned *count, int *out, int bad) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    part[blockIdx.x] = blockIdx.x + 1;
    if (!bad) __threadfence();
    last = atomicAdd(count, 1u) == gridDim.x - 1;
    if (!bad) __threadfence();
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int s = 0;
    for (int i = 0; i < gridDim.x; i++) s += part[i];
    *out = s;
  }
}
extern "C" __global__ void async_wait(const int *x, int *y, int bad) {
  __shared__ __align__(16) int s[128];
  unsigned to = (unsigned)__cvta_generic_to_shared(&s[threadIdx.x * 4]);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n cp.async.commit_group;" ::"r"(to), "l"(x + threadIdx.x * 4) : "memory");
  if (!bad) asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x * 4];
}
extern "C" __global__ void divergent_barrier(int *y, int bad) {
  if (threadIdx.x < 48 || !bad) __syncthreads();
  y[threadIdx.x] = 1;
}
extern "C" __global__ void barrier_count(int *y, int bad) {
  asm volatile("bar.sync 1, %0;" ::"r"(bad ? 40 : 64) : "memory");
  y[threadIdx.x] = 1;
}
extern "C" __global__ void missing_warp(int *y, int bad) {
  if (threadIdx.x < 32 || !bad) asm volatile("bar.sync 1, 64;" ::: "memory");
  y[threadIdx.x] = 1;
}
extern "C" __global__ void shfl_inactive(int *y, int bad) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(bad ? 0xffffffffu : 0xffffu, threadIdx.x, bad ? 20 : 3);
}
__constant__ int table[32];
extern "C" __global__ void read_only(int *x, int bad) {
  int *p = bad ? (int *)table : x;
  p[threadIdx.x] = 2;
}
extern "C" __global__ void spin(volatile int *flag, int bad) {
  if (blockIdx.x == 0) { while (*flag == 0) {} }
  else if (!bad) *flag = 1;
}
extern "C" __global__ void free_use(int *x) { x[threadIdx.x] = 1; }
extern "C" __global__ void traps(int bad) { if (bad) __trap(); }
extern "C" __global__ void read_only_path(const int *__restrict__ x, int *y, int bad) {
  int *w = bad ? (int *)x : y;
  int v = __ldg(&x[threadIdx.x]);
  w[threadIdx.x] = v + 1;
}
