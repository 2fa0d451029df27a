// Minimal reading of a safetensors file for the arithmetic tests: whole file in memory, entries found by name.
#ifndef TESSERA_TESTS_ARITH_GOLDEN_H
#define TESSERA_TESTS_ARITH_GOLDEN_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct golden { char *bytes; uint64_t header; size_t size; } golden;

// NULL bytes when the file is absent; the caller skips with a message.
static inline golden golden_open(const char *name) {
  golden g = {NULL, 0, 0};
  const char *shared = getenv("TESSERA_SHARED");
  char path[1024];
  snprintf(path, sizeof path, "%s/data/ptx/%s", shared ? shared : "../shared", name);
  FILE *f = fopen(path, "rb");
  if (!f) {
    printf("skipped: %s is absent (set TESSERA_SHARED)\n", path);
    return g;
  }
  fseek(f, 0, SEEK_END);
  g.size = (size_t)ftell(f);
  rewind(f);
  g.bytes = malloc(g.size + 1);
  if (!g.bytes || fread(g.bytes, 1, g.size, f) != g.size) abort();
  fclose(f);
  memcpy(&g.header, g.bytes, 8);
  return g;
}

// The data of entry `key`, or NULL.
static inline const uint32_t *golden_find(const golden *g, const char *key) {
  char quoted[256];
  snprintf(quoted, sizeof quoted, "\"%s\"", key);
  size_t n = strlen(quoted);
  const char *begin = g->bytes + 8, *end = begin + g->header;
  for (const char *p = begin; p + n < end; p++) {
    if (memcmp(p, quoted, n) != 0) continue;
    const char *offsets = strstr(p, "data_offsets");
    return (const uint32_t *)(const void *)(g->bytes + 8 + g->header + strtoull(strchr(offsets, '[') + 1, NULL, 10));
  }
  return NULL;
}
#endif
