// Speed of code from codegen/host on one core: the f32 GEMM micro-kernel and the 4-bit GEMV, for every level this CPU has.
//
//   bench_host_kernels [-S]     -S: print the machine code instead of running it
#include "tests/unit/host_kernels.h"

#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *buffer(size_t bytes, bool floats) {
  unsigned char *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  for (size_t i = 0; i < bytes; i++) p[i] = floats ? 0 : (unsigned char)(i * 37);
  for (size_t i = 0; floats && i < bytes / 4; i++) ((float *)p)[i] = (float)(int)(i % 17) / 16;
  return p;
}

// Best time of one run of all blocks, over about half a second.
static double best_time(const hk_image *image, void *const *bufs, uint32_t blocks) {
  double best = 1e9, start = now();
  int64_t grid[3] = {blocks, 1, 1};
  for (int i = 0; now() - start < 0.5 || i < 3; i++) {
    double t = now();
    hk_run(image, bufs, grid, blocks);
    t = now() - t;
    if (t < best) best = t;
  }
  return best;
}

static bool compile(hk *h, const cgh_isa *isa, bool assembly, hk_image *image, double *seconds) {
  double t = now();
  ts_status s = hk_compile(h, isa, &(cgh_options){.assembly = assembly}, image);
  *seconds = now() - t;
  if (s != TS_OK) {
    ts_text text = {0};
    ts_diags_print(&h->diags, &text, false);
    fprintf(stderr, "%s", ts_text_z(&text));
    ts_text_deinit(&text);
    return false;
  }
  if (assembly) printf("%s", image->code.assembly.data);
  return true;
}

static void gemm(const cgh_isa *isa, bool assembly) {
  int64_t m = 96, n = 384, k = 384, rows = isa->vector_bits == 512 ? 8 : 6, cols = isa->vector_bits == 512 ? 32 : 16;
  hk h;
  hk_init(&h);
  hk_gemm(&h, m, n, k, rows, cols, 1);
  hk_image image;
  double seconds;
  if (compile(&h, isa, assembly, &image, &seconds) && !assembly) {
    void *bufs[] = {buffer((size_t)(m * k * 4), true), buffer((size_t)(n * k * 4), true), buffer((size_t)(m * n * 4), true)};
    double t = best_time(&image, bufs, (uint32_t)(m / rows * n / cols));
    printf("%-12s gemm %dx%d k=%d: %.1f GFLOP/s (compiled in %.0f ms, %zu bytes)\n", isa->name, (int)rows, (int)cols, (int)k,
           2e-9 * (double)(m * n * k) / t, 1e3 * seconds, image.bytes);
    for (int i = 0; i < 3; i++) free(bufs[i]);
  }
  hk_unmap(&image);
  hk_deinit(&h);
}

static void gemv(const cgh_isa *isa, bool table, int64_t step, bool assembly) {
  int64_t n = 1536, k = 576, rows = isa->vector_bits == 512 ? 64 : 32;
  hk h;
  hk_init(&h);
  hk_gemv_q4(&h, n, k, rows, step, table);
  hk_image image;
  double seconds;
  if (compile(&h, isa, assembly, &image, &seconds) && !assembly) {
    void *bufs[] = {buffer((size_t)k * 4, true), buffer((size_t)(n * k / 2), false), buffer((size_t)(n * k / 16), true),
                    buffer((size_t)(n * k / 16), true), buffer((size_t)n * 4, true)};
    double t = best_time(&image, bufs, (uint32_t)(n / rows));
    printf("%-12s q4 gemv (%s, step %d) n=%d k=%d: %.1f G weights/s (compiled in %.0f ms, %zu bytes)\n", isa->name,
           table ? "table" : "arithmetic", (int)step, (int)n, (int)k, 1e-9 * (double)(n * k) / t, 1e3 * seconds, image.bytes);
    for (int i = 0; i < 5; i++) free(bufs[i]);
  }
  hk_unmap(&image);
  hk_deinit(&h);
}

static void gemv_words(const cgh_isa *isa, bool assembly) {
  int64_t n = 1536, k = 576, rows = isa->vector_bits == 512 ? 64 : 32;
  hk h;
  hk_init(&h);
  hk_gemv_words(&h, n, k, rows);
  hk_image image;
  double seconds;
  if (compile(&h, isa, assembly, &image, &seconds) && !assembly) {
    void *bufs[] = {buffer((size_t)k * 4, true), buffer((size_t)(n * k / 2), false), buffer((size_t)(n * k / 16), true),
                    buffer((size_t)n * 4, true)};
    double t = best_time(&image, bufs, (uint32_t)(n / rows));
    printf("%-12s q4 gemv (words) n=%d k=%d: %.1f G weights/s (compiled in %.0f ms, %zu bytes)\n", isa->name, (int)n, (int)k,
           1e-9 * (double)(n * k) / t, 1e3 * seconds, image.bytes);
    for (int i = 0; i < 4; i++) free(bufs[i]);
  }
  hk_unmap(&image);
  hk_deinit(&h);
}

int main(int argc, char **argv) {
  bool assembly = argc > 1 && strcmp(argv[1], "-S") == 0;
  const cgh_isa *isas[8];
  unsigned n = hk_isas(isas, 8);
  for (unsigned i = 0; i < n; i++) {
    gemm(isas[i], assembly);
    gemv_words(isas[i], assembly);
    for (int64_t step = 2; step <= 8; step *= 2) {
      gemv(isas[i], false, step, assembly);
      gemv(isas[i], true, step, assembly);
    }
  }
  return 0;
}
