// Kernels for the emulator's tests. corpus.ptx is `nvcc -arch=sm_80 -ptx -lineinfo corpus.cu`, corpus_g.ptx the same with -G.
#include <cuda_fp16.h>
#include <mma.h>
#include <cstdio>
#include <cassert>

extern "C" __global__ void reduce(const int *x, int n, int *out) {
  __shared__ int part[32];
  int s = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) s += x[i];
  for (int d = 16; d; d >>= 1) s += __shfl_down_sync(0xffffffffu, s, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
  __syncthreads();
  if (threadIdx.x < 32) {
    s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int d = 16; d; d >>= 1) s += __shfl_xor_sync(0xffffffffu, s, d);
    if (threadIdx.x == 0) atomicAdd(out, s);
  }
}

extern "C" __global__ void scan(const int *x, int *y, int n) {
  extern __shared__ int s[];
  int t = threadIdx.x;
  s[t] = t < n ? x[t] : 0;
  __syncthreads();
  for (int d = 1; d < blockDim.x; d <<= 1) {
    int v = t >= d ? s[t - d] : 0;
    __syncthreads();
    s[t] += v;
    __syncthreads();
  }
  if (t < n) y[t] = s[t];
}

extern "C" __global__ void histogram(const unsigned char *x, int n, unsigned *h) {
  __shared__ unsigned s[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) s[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&s[x[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&h[i], s[i]);
}

extern "C" __global__ void transpose(const float *x, float *y, int rows, int cols) {
  __shared__ float t[32][33];
  int c = blockIdx.x * 32 + threadIdx.x, r = blockIdx.y * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (c < cols && r + k < rows) t[threadIdx.y + k][threadIdx.x] = x[(r + k) * cols + c];
  __syncthreads();
  int c2 = blockIdx.y * 32 + threadIdx.x, r2 = blockIdx.x * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (c2 < rows && r2 + k < cols) y[(r2 + k) * rows + c2] = t[threadIdx.x][threadIdx.y + k];
}

extern "C" __global__ void stencil(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i > 0 && i < n - 1) y[i] = 0.25f * x[i - 1] + 0.5f * x[i] + 0.25f * x[i + 1];
}

extern "C" __global__ void hash_insert(unsigned long long *table, int slots, const int *keys, int n, int *where) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  unsigned long long mine = (unsigned long long)(keys[i] + 1);
  unsigned h = (unsigned)keys[i] * 2654435761u % slots;
  for (;;) {
    unsigned long long old = atomicCAS(&table[h], 0ull, mine);
    if (old == 0 || old == mine) break;
    h = (h + 1) % slots;
  }
  where[i] = h;
}

// Lanes of one warp take turns: the holder of the lock is behind the loop in which the others spin.
extern "C" __global__ void warp_lock(int *lock, int *counter) {
  while (atomicCAS(lock, 0, 1) != 0) {}
  __threadfence();
  *(volatile int *)counter = *(volatile int *)counter + 1;
  __threadfence();
  atomicExch(lock, 0);
}

// Decoupled look-back: a block waits for the sum of the one before it.
extern "C" __global__ void lookback(const int *x, int *y, volatile int *state, volatile int *sums) {
  __shared__ int base, total;
  int b = gridDim.x - 1 - blockIdx.x, i = b * blockDim.x + threadIdx.x;   // the last block waits for the first to be started
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, x[i]);
  __syncthreads();
  if (threadIdx.x == 0) {
    int before = 0;
    if (b > 0) {
      while (state[b - 1] == 0) {}
      __threadfence();
      before = sums[b - 1];
    }
    sums[b] = before + total;
    __threadfence();
    state[b] = 1;
    base = before;
  }
  __syncthreads();
  y[i] = base + x[i];
}

extern "C" __global__ void grid_sync(int *count, int *data, int *out) {
  if (threadIdx.x == 32) data[blockIdx.x] = blockIdx.x * 3;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(count, 1);
    while (atomicAdd(count, 0) < gridDim.x) {}
    __threadfence();
  }
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = data[(blockIdx.x + 1) % gridDim.x];
}

extern "C" __global__ void halves(const __half2 *a, const __half2 *b, __half2 *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __hfma2(a[i], b[i], __hadd2(a[i], b[i]));
}

extern "C" __global__ void wmma_gemm(const __half *a, const __half *b, float *c, int n) {
  using namespace nvcuda::wmma;
  fragment<matrix_a, 16, 16, 16, __half, row_major> fa;
  fragment<matrix_b, 16, 16, 16, __half, col_major> fb;
  fragment<accumulator, 16, 16, 16, float> fc;
  fill_fragment(fc, 0.0f);
  int r = blockIdx.y * 16, q = blockIdx.x * 16;
  for (int k = 0; k < n; k += 16) {
    load_matrix_sync(fa, a + r * n + k, n);
    load_matrix_sync(fb, b + q * n + k, n);
    mma_sync(fc, fa, fb, fc);
  }
  store_matrix_sync(c + r * n + q, fc, n, mem_row_major);
}

// One warp, a 16 x 8 tile of C = A (row) * B (stored by columns); cp.async in two stages, ldmatrix, mma.m16n8k16.
extern "C" __global__ void mma_gemm(const __half *a, const __half *b, float *c, int n) {
  __shared__ __align__(16) __half sa[2][16 * 16], sb[2][8 * 16];
  int lane = threadIdx.x, r = blockIdx.y * 16, q = blockIdx.x * 8;
  float d[4] = {0, 0, 0, 0};
  auto load = [&](int stage, int k) {
    unsigned to = (unsigned)__cvta_generic_to_shared(&sa[stage][lane * 8]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(a + (r + lane / 2) * n + k + lane % 2 * 8) : "memory");
    if (lane < 16) {
      unsigned tb = (unsigned)__cvta_generic_to_shared(&sb[stage][lane * 8]);
      asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(tb), "l"(b + (q + lane / 2) * n + k + lane % 2 * 8) : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  load(0, 0);
  for (int k = 0, s = 0; k < n; k += 16, s ^= 1) {
    if (k + 16 < n) {
      load(s ^ 1, k + 16);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncwarp();
    unsigned fa[4], fb[2];
    unsigned pa = (unsigned)__cvta_generic_to_shared(&sa[s][(lane % 16) * 16 + lane / 16 * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3]) : "r"(pa));
    unsigned pb = (unsigned)__cvta_generic_to_shared(&sb[s][(lane % 8) * 16 + lane / 8 % 2 * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(fb[0]), "=r"(fb[1]) : "r"(pb));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
    __syncwarp();
  }
  int row = r + lane / 4, col = q + lane % 4 * 2;
  c[row * n + col] = d[0];
  c[row * n + col + 1] = d[1];
  c[(row + 8) * n + col] = d[2];
  c[(row + 8) * n + col + 1] = d[3];
}

__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }
typedef int (*unary)(int);
__device__ unary table[3] = {fib, twice, square};
extern "C" __global__ void calls(int *y) { y[threadIdx.x] = table[threadIdx.x % 3](threadIdx.x % 12); }

extern "C" __global__ void switches(const int *op, int *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = i, k = op[i];
  for (int r = 0; r < 4; r++) {
    switch ((k + r) % 9) {
      case 0: v += 7; break;
      case 1: v *= 3; break;
      case 2: v ^= 0x55; break;
      case 3: if (v & 1) continue; v >>= 1; break;
      case 4: v -= r; break;
      case 5: v = v * v; break;
      case 6: for (int j = 0; j < (v & 7); j++) { if (j == 5) break; v += j; } break;
      case 7: v = -v; break;
      default: v |= 1;
    }
  }
  y[i] = v;
}

extern "C" __global__ void wide(const unsigned long long *a, const unsigned long long *b, unsigned long long *y, double *z, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  y[3 * i] = __umul64hi(a[i], b[i]);
  unsigned __int128 s = (unsigned __int128)a[i] * b[i] + a[i];
  y[3 * i + 1] = (unsigned long long)(s >> 64);
  y[3 * i + 2] = a[i] / (b[i] | 1) + a[i] % (b[i] | 1);
  z[i] = sqrt((double)a[i]) / (1.0 + (double)b[i]);
}

extern "C" __global__ void warp_ops(const int *x, int *y) {
  int v = x[threadIdx.x], *o = y + threadIdx.x * 8;
  o[0] = __ballot_sync(0xffffffffu, v & 1);
  o[1] = __match_any_sync(0xffffffffu, v & 3);
  o[2] = __reduce_add_sync(0xffffffffu, v);
  o[3] = __shfl_up_sync(0xffffffffu, v, 3, 16);
  o[4] = __popc(v) + __clz(v) + __ffs(v) + __brev(v);
  o[5] = __byte_perm(v, v * 3, 0x2541) ^ __funnelshift_l(v, v * 5, v & 31);
  o[6] = __dp4a(v, v * 7, 3);
  o[7] = v % 2 ? __activemask() : __all_sync(__activemask(), 1);
}

extern "C" __global__ void local_array(const int *x, int *y) {
  int a[32];
  for (int i = 0; i < 32; i++) a[i] = x[(i * 7 + threadIdx.x) & 31];
  for (int i = 1; i < 32; i++)
    for (int j = i; j > 0 && a[j - 1] > a[j]; j--) {
      int t = a[j];
      a[j] = a[j - 1];
      a[j - 1] = t;
    }
  for (int i = 0; i < 32; i++) y[threadIdx.x * 32 + i] = a[(i + x[threadIdx.x]) & 31];
}

extern "C" __global__ void prints(int n) {
  if (threadIdx.x < n) printf("thread %d of %s: %5.2f %llx%%\n", threadIdx.x, "prints", threadIdx.x * 0.5, 0x123456789abcull);
}
extern "C" __global__ void asserts(int n) { assert(n < 3); }

extern "C" __global__ void named_barriers(int *y) {
  __shared__ int box[64];
  int w = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int round = 0; round < 4; round++) {
    if (w == 0) {
      if (round) asm volatile("bar.sync 2, 64;" ::: "memory");
      box[lane] = round * 100 + lane;
      asm volatile("bar.arrive 1, 64;" ::: "memory");
    } else {
      asm volatile("bar.sync 1, 64;" ::: "memory");
      y[round * 32 + lane] = box[31 - lane];
      if (round < 3) asm volatile("bar.arrive 2, 64;" ::: "memory");
    }
  }
}
