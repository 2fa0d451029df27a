// Fat binaries: choice of an entry, compressed PTX, and what happens to damaged ones. The driver's reader is compiled in.
#include "emulator/driver/driver.h"

#include <check.h>
#include <stdlib.h>
#include <time.h>
#include <zstd.h>

enum { PLAIN, LZ4, ZSTD };

typedef struct bytes {
  uint8_t *data;
  size_t n, room;
} bytes;
static void put(bytes *b, const void *p, size_t n) {
  if (b->n + n > b->room) b->data = realloc(b->data, b->room = (b->n + n) * 2);
  memcpy(b->data + b->n, p, n);
  b->n += n;
}
static void put_int(bytes *b, uint64_t v, size_t n) { put(b, &v, n); }

// A plain LZ4 encoder: the longest match of at most 64 KiB back that a short search finds.
static void put_length(bytes *b, size_t n) {
  for (; n >= 255; n -= 255) put_int(b, 255, 1);
  put_int(b, n, 1);
}
static void lz4_encode(const uint8_t *p, size_t n, bytes *out) {
  size_t at = 0, literals = 0;
  while (at < n) {
    size_t best = 0, distance = 0;
    for (size_t d = 1; d <= at && d < 300; d++) {
      size_t k = 0;
      while (at + k + 12 < n && p[at + k] == p[at + k - d]) k++;
      if (k > best) best = k, distance = d;
    }
    if (best < 4) {
      at++;
      continue;
    }
    size_t run = at - literals;
    put_int(out, (run < 15 ? run : 15) << 4 | (best - 4 < 15 ? best - 4 : 15), 1);
    if (run >= 15) put_length(out, run - 15);
    put(out, p + literals, run);
    put_int(out, distance, 2);
    if (best - 4 >= 15) put_length(out, best - 4 - 15);
    at += best;
    literals = at;
  }
  size_t run = n - literals;
  put_int(out, (run < 15 ? run : 15) << 4, 1);
  if (run >= 15) put_length(out, run - 15);
  put(out, p + literals, run);
}

static void put_entry(bytes *b, unsigned kind, unsigned arch, const char *text, int packing) {
  bytes payload = {0};
  size_t n = strlen(text);
  if (packing == LZ4) {
    lz4_encode((const uint8_t *)text, n, &payload);
  } else if (packing == ZSTD) {
    payload.data = malloc(payload.room = ZSTD_compressBound(n));
    payload.n = ZSTD_compress(payload.data, payload.room, text, n, 3);
  } else {
    put(&payload, text, n);
  }
  size_t packed = payload.n;
  while (payload.n % 8) put_int(&payload, 0, 1);
  put_int(b, kind, 2), put_int(b, 0x101, 2), put_int(b, 64, 4), put_int(b, payload.n, 8);
  put_int(b, packing == PLAIN ? 0 : packed, 4), put_int(b, 0, 4), put_int(b, 9 << 16, 4), put_int(b, arch, 4);
  put_int(b, 0, 8), put_int(b, 0x11 | (packing == LZ4 ? 0x2000 : packing == ZSTD ? 0x8000 : 0), 8);
  put_int(b, 0, 8), put_int(b, packing == PLAIN ? 0 : n, 8);
  put(b, payload.data, payload.n);
  free(payload.data);
}

static void begin(bytes *b) {
  *b = (bytes){0};
  put_int(b, 0xba55ed50, 4), put_int(b, 1, 2), put_int(b, 16, 2), put_int(b, 0, 8);
}
static void end(bytes *b) {
  uint64_t n = b->n - 16;
  memcpy(b->data + 8, &n, 8);
}

static char *some_ptx(unsigned arch, uint64_t *seed) {
  ts_text t = {0};
  ts_text_printf(&t, ".version 9.0\n.target sm_%u\n.address_size 64\n", arch);
  for (unsigned i = 0; i < 40; i++) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    ts_text_printf(&t, "mov.u32 %%r%u, %%r%u; add.s32 %%r%u, %%r%u, %u;\n", i, (unsigned)(*seed >> 60), i, i,
                   (unsigned)(*seed >> 40));
  }
  return t.data;
}

START_TEST(choice) {
  uint64_t seed = (uint64_t)time(NULL);
  fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
  char *old = some_ptx(70, &seed), *right = some_ptx(80, &seed), *later = some_ptx(90, &seed);
  for (int packing = PLAIN; packing <= ZSTD; packing++) {
    bytes b;
    drv_image i;
    ts_text why = {0};
    begin(&b);
    put_entry(&b, 2, 80, "\177ELF machine code", PLAIN);
    put_entry(&b, 1, 70, old, packing);
    put_entry(&b, 1, 90, later, packing);
    put_entry(&b, 1, 80, right, packing);
    end(&b);
    static const struct { int sm; } devices[] = {{75}, {80}, {89}, {120}};
    const char *expected[] = {old, right, right, later};
    for (int k = 0; k < 4; k++) {
      ck_assert_int_eq(drv_image_open(b.data, k % 2 ? SIZE_MAX : b.n, devices[k].sm, &i, NULL), CU_SUCCESS);
      ck_assert(ts_str_is(i.text, expected[k]));
      free(i.owned);
    }
    struct { uint32_t magic, version; const void *data; void *unused; } wrapper = {0x466243b1, 1, b.data, NULL};
    ck_assert_int_eq(drv_image_open(&wrapper, SIZE_MAX, 86, &i, NULL), CU_SUCCESS);
    ck_assert(ts_str_is(i.text, right));
    free(i.owned);
    ck_assert_int_eq(drv_image_open(b.data, b.n, 60, &i, &why), CU_ERROR_NO_BINARY_FOR_GPU);
    ck_assert_ptr_nonnull(strstr(ts_text_z(&why), "sm_80"));
    ts_text_deinit(&why);
    free(b.data);
  }
  bytes b;
  drv_image i;
  ts_text why = {0};
  begin(&b);
  put_entry(&b, 2, 80, "\177ELF machine code", PLAIN);
  end(&b);
  ck_assert_int_eq(drv_image_open(b.data, b.n, 80, &i, &why), CU_ERROR_NO_BINARY_FOR_GPU);
  ck_assert_ptr_nonnull(strstr(ts_text_z(&why), "machine code only"));
  ts_text_deinit(&why);
  free(b.data);
  free(old), free(right), free(later);
}
END_TEST

// Truncations and many bit flips of each kind: refused or read, never outside the buffer (the sanitizers watch).
START_TEST(damage) {
  uint64_t seed = 20240607;
  for (int packing = PLAIN; packing <= ZSTD; packing++) {
    bytes b;
    char *text = some_ptx(80, &seed);
    begin(&b);
    put_entry(&b, 1, 75, text, packing);
    put_entry(&b, 1, 80, text, packing);
    end(&b);
    for (size_t n = 4; n < b.n; n += n < 200 ? 1 : 13) {   // fewer bytes are text
      uint8_t *copy = malloc(n);
      drv_image i;
      memcpy(copy, b.data, n);
      ck_assert_int_ne(drv_image_open(copy, n, 80, &i, NULL), CU_SUCCESS);
      free(i.owned);
      free(copy);
    }
    for (int round = 0; round < 3000; round++) {
      uint8_t *copy = malloc(b.n);
      drv_image i;
      memcpy(copy, b.data, b.n);
      for (int k = 0; k <= round % 3; k++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = round % 2 ? (seed >> 33) % 144 : (seed >> 33) % b.n;   // headers as often as the rest
        copy[at] ^= (uint8_t)(1u << (seed >> 61));
      }
      if (drv_image_open(copy, b.n, 80, &i, NULL) == CU_SUCCESS) ck_assert_uint_le(i.text.len, 1u << 30);
      free(i.owned);
      free(copy);
    }
    free(text);
    free(b.data);
  }
}
END_TEST

START_TEST(lz4) {
  uint64_t seed = 7;
  for (int round = 0; round < 200; round++) {
    uint8_t text[700], back[700];
    size_t n = 1 + (size_t)round * 3;
    for (size_t i = 0; i < n; i++) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      text[i] =
          i > 20 && seed >> 63 ? text[i - 1 - (seed >> 59) % 16] : (uint8_t)('a' + (seed >> 60) % (1 + (unsigned)round % 4));
    }
    bytes b = {0};
    lz4_encode(text, n, &b);
    ck_assert(drv_lz4(b.data, b.n, back, n));
    ck_assert_mem_eq(text, back, n);
    ck_assert(!drv_lz4(b.data, b.n, back, n - 1));
    ck_assert(!drv_lz4(b.data, b.n - 1, back, n));
    free(b.data);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("emu_fatbin");
  TCase *c = tcase_create("fatbin");
  tcase_add_test(c, choice);
  tcase_add_test(c, damage);
  tcase_add_test(c, lz4);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
