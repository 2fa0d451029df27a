// Helpers of the runtime's tests (see runtime_common.h).
#include "runtime_common.h"

#include "base/file.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

tsr_error test_error;
const char *const test_kernels[8] = {"add", "scale", "sum_rows", "append", "sum_state", "raise", "error_word", "scratch"};

static void begin(made *m, const char *launch_text, bool stub) {
  memset(m, 0, sizeof *m);
  ts_arena_init(&m->arena);
  ts_interner_init(&m->names, &m->arena);
  ts_diags_init(&m->diags);
  ts_status s = ir_launch_parse(&m->arena, &m->names, ts_intern_z(&m->names, "test.launch"), ts_str_of(launch_text), &m->diags,
                                &m->program);
  if (s != TS_OK) {
    ts_text t = {0};
    ts_diags_print(&m->diags, &t, false);
    ck_abort_msg("launch text: %s", ts_text_z(&t));
  }
  ts_str image;
  static const unsigned char returns_0[] = {'T', 'S', 'R', 'I', 1, 0, 0, 0, 12, 0, 0, 0, 0x31, 0xc0, 0xc3};   // xor eax, eax; ret
  if (stub) image = (ts_str){(const char *)returns_0, sizeof returns_0};
  else ck_assert(ts_file_read(&m->arena, TEST_IMAGE, &m->diags, &image) == TS_OK);
  m->artifact = cg_artifact_new(&m->arena);
  uint32_t program = cg_artifact_program(m->artifact, m->program);
  uint32_t target = cg_artifact_target(m->artifact, (cg_target){.name = "host:x86_64", .program = program});
  uint32_t number = cg_artifact_image(m->artifact, CG_IMAGE_HOST, image.data, image.len);
  for (uint32_t k = 0; k < m->program->kernels.count; k++) {
    uint32_t entry = 0;
    while (entry < 8 && strcmp(test_kernels[entry], m->program->kernels.data[k]->name) != 0) entry++;
    if (stub) entry = 0;
    ck_assert_uint_lt(entry, 8);
    cg_artifact_code(m->artifact, target, k,
                     (cg_code){.image = number, .ptx = IR_LNONE, .entry = entry, .scratch = entry == 7 ? 4000 : 0});
  }
  snprintf(m->path, sizeof m->path, "/tmp/tessera-test-XXXXXX");
  int fd = mkstemp(m->path);
  ck_assert(fd >= 0);
  close(fd);
}

void make_begin(made *m, const char *launch_text) { begin(m, launch_text, false); }
void make_begin_stub(made *m, const char *launch_text) { begin(m, launch_text, true); }

void make_write(made *m) {
  ts_status s = cg_artifact_write(m->artifact, m->path, NULL, &m->diags, NULL);
  if (s != TS_OK) {
    ts_text t = {0};
    ts_diags_print(&m->diags, &t, false);
    ck_abort_msg("writing: %s", ts_text_z(&t));
  }
}

void make_end(made *m) {
  unlink(m->path);
  ts_diags_deinit(&m->diags);
  ts_interner_deinit(&m->names);
  ts_arena_deinit(&m->arena);
}

uint64_t test_seed(void) {
  const char *given = getenv("TEST_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  fflush(stdout);
  return seed * 0x9E3779B97F4A7C15u + 1;
}

uint64_t test_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state * 0x2545F4914F6CDD1Du >> 16;
}

float test_float(uint64_t *state) { return (float)((int)(test_random(state) % 129) - 64) / 8; }

tsr_device *open_host(unsigned threads) {
  tsr_device *d = NULL;
  tsr_device_options o = {.size = sizeof o, .threads = threads};
  ck_ok(tsr_device_open("host", &o, &test_error, &d));
  return d;
}

tsr_buffer *make_buffer(tsr_device *d, uint32_t dtype, int rank, const int64_t *shape, const void *data) {
  tsr_type t = {.dtype = dtype, .rank = (uint32_t)rank};
  memcpy(t.shape, shape, (size_t)rank * sizeof *shape);
  tsr_buffer *b = NULL;
  ck_ok(tsr_buffer_create(d, &t, &test_error, &b));
  if (data) ck_ok(tsr_buffer_write(b, 0, data, tsr_buffer_bytes(b)));
  return b;
}
