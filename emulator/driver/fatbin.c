// Module images: PTX text, the fat binaries of nvcc and fatbinary, and the wrapper that nvcc puts around those.
//
// A fat binary is a header (magic, version, header size, size of the entries) and entries, each with a header of its own: kind
// (1 PTX, 2 machine code), sizes, architecture, flags. PTX may be compressed: one zstd frame, or one LZ4 block.
#include "emulator/driver/driver.h"

#include <stdlib.h>
#include <zstd.h>

enum {
  WRAPPER_MAGIC = 0x466243b1,
  FATBIN_HEADER = 16,
  ENTRY_HEADER = 64,
  KIND_PTX = 1,
  KIND_ELF = 2,
  FLAG_LZ4 = 0x2000,
  FLAG_ZSTD = 0x8000,
  MAX_PTX = 1 << 30
};
#define FATBIN_MAGIC 0xba55ed50u

typedef struct wrapper {
  uint32_t magic, version;
  const void *data;
  void *unused;
} wrapper;

typedef struct entry {
  uint16_t kind;
  uint32_t header, compressed, arch;
  uint64_t size, flags, plain;
} entry;

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static cu_result fail(ts_text *why, cu_result r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static cu_result fail(ts_text *why, cu_result r, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  if (why) ts_text_vprintf(why, fmt, ap);
  va_end(ap);
  return r;
}

bool drv_lz4(const uint8_t *from, size_t bytes, uint8_t *to, size_t capacity) {
  size_t i = 0, o = 0;
  while (i < bytes) {
    uint8_t token = from[i++];
    size_t literals = token >> 4, match = (token & 15) + 4;
    if (literals == 15) {
      do {
        if (i >= bytes) return false;
        literals += from[i];
      } while (from[i++] == 255);
    }
    if (literals > bytes - i || literals > capacity - o) return false;
    memcpy(to + o, from + i, literals);
    i += literals;
    o += literals;
    if (i == bytes) break;   // a block ends with literals
    if (bytes - i < 2) return false;
    size_t distance = get16(from + i);
    i += 2;
    if ((token & 15) == 15) {
      do {
        if (i >= bytes) return false;
        match += from[i];
      } while (from[i++] == 255);
    }
    if (!distance || distance > o || match > capacity - o) return false;
    for (size_t k = 0; k < match; k++, o++) to[o] = to[o - distance];
  }
  return o == capacity;
}

static cu_result unpack(const uint8_t *payload, const entry *e, drv_image *out, ts_text *why) {
  if (!(e->flags & (FLAG_LZ4 | FLAG_ZSTD))) {
    out->text = (ts_str){(const char *)payload, strnlen((const char *)payload, e->size)};
    return CU_SUCCESS;
  }
  if (e->compressed > e->size || !e->plain || e->plain > MAX_PTX)
    return fail(why, CU_ERROR_INVALID_IMAGE, "the fat binary is damaged: sizes of compressed PTX");
  char *text = malloc(e->plain + 1);
  if (!text) return CU_ERROR_OUT_OF_MEMORY;
  bool ok = e->flags & FLAG_ZSTD ? ZSTD_decompress(text, e->plain, payload, e->compressed) == e->plain
                                 : drv_lz4(payload, e->compressed, (uint8_t *)text, e->plain);
  if (!ok) {
    free(text);
    return fail(why, CU_ERROR_INVALID_IMAGE, "the fat binary is damaged: its PTX can't be unpacked");
  }
  text[e->plain] = 0;
  *out = (drv_image){.text = {text, strlen(text)}, .owned = text};
  return CU_SUCCESS;
}

// The PTX for the highest architecture that is not above the device's.
static cu_result open_fatbin(const uint8_t *p, size_t bytes, int sm, drv_image *out, ts_text *why) {
  if (bytes < FATBIN_HEADER) return fail(why, CU_ERROR_INVALID_IMAGE, "the fat binary is cut off");
  uint64_t header = get16(p + 6), size = get64(p + 8);
  if (header < FATBIN_HEADER || size > UINT64_MAX / 2 || header + size > bytes)
    return fail(why, CU_ERROR_INVALID_IMAGE, "the fat binary is cut off");
  const uint8_t *end = p + header + size, *best_at = NULL;
  entry best = {0};
  unsigned elf = 0, above = 0;
  for (const uint8_t *q = p + header; end - q >= ENTRY_HEADER;) {
    entry e = {.kind = get16(q),
               .header = get32(q + 4),
               .size = get64(q + 8),
               .compressed = get32(q + 16),
               .arch = get32(q + 28),
               .flags = get64(q + 40),
               .plain = get64(q + 56)};
    uint64_t left = (uint64_t)(end - q);
    if (e.header < ENTRY_HEADER || e.header > left || e.size > left - e.header)
      return fail(why, CU_ERROR_INVALID_IMAGE, "the fat binary is damaged: an entry is larger than the file");
    if (e.kind == KIND_ELF) elf++;
    if (e.kind == KIND_PTX && e.arch > (uint32_t)sm) above = e.arch;
    if (e.kind == KIND_PTX && e.arch <= (uint32_t)sm && (!best_at || e.arch > best.arch)) {
      best = e;
      best_at = q + e.header;
    }
    q += e.header + e.size;
  }
  if (best_at) return unpack(best_at, &best, out, why);
  if (above)
    return fail(why, CU_ERROR_NO_BINARY_FOR_GPU, "the fat binary holds PTX for sm_%u; the emulated device is sm_%d", above, sm);
  return fail(why, CU_ERROR_NO_BINARY_FOR_GPU,
              elf ? "the fat binary holds machine code only; the emulator executes PTX: build with -gencode "
                    "arch=compute_%d,code=compute_%d"
                  : "the fat binary holds no PTX for sm_%d or below (%d)",
              sm, sm);
}

cu_result drv_image_open(const void *image, size_t bytes, int sm, drv_image *out, ts_text *why) {
  *out = (drv_image){0};
  if (!image) return CU_ERROR_INVALID_VALUE;
  uint8_t head[4] = {0};
  const uint8_t *p = image;
  for (size_t i = 0; i < 4 && i < bytes && (i == 0 || p[i - 1]); i++) head[i] = p[i];   // text may be shorter
  uint32_t magic = get32(head);
  if (magic == WRAPPER_MAGIC && bytes >= sizeof(wrapper)) {
    wrapper w;
    memcpy(&w, image, sizeof w);
    if (bytes != SIZE_MAX || !w.data || (w.version != 1 && w.version != 2))
      return fail(why, CU_ERROR_INVALID_IMAGE, "the wrapper of the fat binary is damaged");
    return drv_image_open(w.data, SIZE_MAX, sm, out, why);
  }
  if (magic == FATBIN_MAGIC) {
    if (bytes == SIZE_MAX) bytes = get16(p + 6) + get64(p + 8);
    return open_fatbin(p, bytes, sm, out, why);
  }
  if (!memcmp(head, "\177ELF", 4))
    return fail(why, CU_ERROR_NO_BINARY_FOR_GPU, "the image is machine code (a cubin); the emulator executes PTX only");
  out->text = (ts_str){image, bytes == SIZE_MAX ? strlen(image) : strnlen(image, bytes)};
  if (!out->text.len) return fail(why, CU_ERROR_INVALID_IMAGE, "the image is empty");
  return CU_SUCCESS;
}
