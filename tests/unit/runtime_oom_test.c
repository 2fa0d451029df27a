// Memory that runs out at every allocation in turn, while an artifact is opened, a session made, run and taken down: each ends
// in a status, with nothing leaked (under the sanitizers) and nothing aborted. The linker wraps allocators (runtime.cmake).
#include "runtime_common.h"

#include <stdlib.h>

static long left = -1;   // allocations until one fails; below 0: never
static bool failed;

static bool fails(void) {
  if (left < 0) return false;
  if (left-- > 0) return false;
  failed = true;
  return true;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
int __real_posix_memalign(void **p, size_t align, size_t size);
int __wrap_posix_memalign(void **p, size_t align, size_t size);
int __wrap_posix_memalign(void **p, size_t align, size_t size) { return fails() ? 12 : __real_posix_memalign(p, align, size); }
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size) { return fails() ? NULL : __real_aligned_alloc(align, size); }
char *__real_strdup(const char *z);
char *__wrap_strdup(const char *z);
char *__wrap_strdup(const char *z) { return fails() ? NULL : __real_strdup(z); }

static const char text[] =
  "launch @state for host { dim @batch : 1 .. 4 dim @seq : 1 .. 40 per @batch weight @w : 64 hash 0x1\n"
  "state @kv rows @batch length 60 page 8 { list @full full pool @k list @full layers 2 bytes 32 type \"f32\" }\n"
  "kernel @append(5 pointers, 3 sizes) kernel @add(3 pointers, 1 sizes)\n"
  "function @f(%x : f32[batch, seq]) -> () { buffer %x = input 0 buffer %l = length @kv buffer %r = ragged @seq\n"
  "  buffer %w = weight @w\n"
  "  buffer %k = pool @kv @k buffer %t = table @kv @full buffer %u = workspace [seq * 4] steps 0 .. 1\n"
  "  launch @append grid [batch, 1, 1] args(%k + [pages(kv, full) * 32], %t, %l, %r, %x) sizes [seq, 8, width(kv, full)]\n"
  "  launch @add grid [1, 1, 1] args(%w, %w, %u) sizes [min(seq, 8)] advance @kv by @seq } }";

static ts_status read_weight(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  (void)user, (void)at, (void)d;
  memset(dst, 0, n);
  return TS_OK;
}

static tsr_status everything(const char *path, bool copy) {
  tsr_artifact *a = NULL;
  tsr_device *d = NULL;
  tsr_session *s = NULL;
  tsr_buffer *x = NULL;
  struct DLManagedTensorVersioned *shared = NULL;
  tsr_sequence q = 0, r = 0;
  tsr_session_options o = {.size = sizeof o, .copy_weights = copy};
  tsr_device_options threads = {.size = sizeof threads, .threads = 2};
  tsr_type t = {TSR_F32, 2, {1, 40}};
  tsr_status status = tsr_artifact_open(path, NULL, &test_error, &a);
  if (status == TSR_OK) status = tsr_device_open("host", &threads, &test_error, &d);
  if (status == TSR_OK) status = tsr_session_create(a, d, &o, &test_error, &s);
  if (status == TSR_OK) status = tsr_buffer_create(d, &t, &test_error, &x);
  if (status == TSR_OK) status = tsr_session_bind(s, "f", "x", x);
  if (status == TSR_OK) status = tsr_sequence_create(s, &q);
  tsr_row row = {q, {9}};
  if (status == TSR_OK) status = tsr_session_run(s, "f", &row, 1, NULL, &test_error);
  if (status == TSR_OK) status = tsr_sequence_fork(s, q, &r);
  if (status == TSR_OK) status = tsr_session_run(s, "f", &row, 1, NULL, &test_error);
  if (status == TSR_OK) status = tsr_buffer_export(x, &shared);
  if (shared) (*(void (**)(struct DLManagedTensorVersioned *))((char *)shared + 16))(shared);   // its deleter
  tsr_session_destroy(s);
  tsr_buffer_release(x);
  tsr_device_release(d);
  tsr_artifact_release(a);
  return status;
}

START_TEST(every_allocation) {
  made m;
  make_begin(&m, text);
  cg_artifact_weight(m.artifact, "w", 64, read_weight, NULL);
  make_write(&m);
  for (int copy = 0; copy < 2; copy++) {
    int n = 0;
    for (;; n++) {
      failed = false;
      left = n;
      tsr_status status = everything(m.path, copy);
      left = -1;
      if (!failed) {
        ck_assert_int_eq(status, TSR_OK);
        break;
      }
      ck_assert_msg(status == TSR_OUT_OF_MEMORY || status == TSR_OK, "allocation %d: %s: %s", n, tsr_status_name(status),
                    test_error.text);
    }
    ck_assert_int_gt(n, 20);
  }
  make_end(&m);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime_oom");
  TCase *c = tcase_create("oom");
  suite_add_tcase(s, c);
  tcase_add_test(c, every_allocation);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int bad = srunner_ntests_failed(r);
  srunner_free(r);
  return bad != 0;
}
