// Weights on their way into the artifact (see artifact.h): a part is packed when the writer asks for its first byte and freed after
// its last.
#include "drive/artifact.h"

#include "drive/dump.h"

#include <stdlib.h>

const char *const drive_host_levels[] = {"avx2", "avx512", "avx512_vnni", NULL};

typedef struct part_reader {
  const pass_weight_part *part;
  unsigned char *bytes;        // the packed part while it is being read
} part_reader;

static ts_status read_part(void *user, uint64_t at, void *dst, size_t n, ts_diags *d) {
  part_reader *r = user;
  if (!r->part->weight) {
    memcpy(dst, (const unsigned char *)r->part->data + at, n);
    return TS_OK;
  }
  if (at == 0) {
    free(r->bytes);
    r->bytes = calloc(1, r->part->bytes ? r->part->bytes : 1);
    if (!r->bytes) return TS_OUT_OF_MEMORY;
    TS_TRY(ir_weight_repack(r->part->weight, &r->part->packing, d, r->bytes));
  }
  memcpy(dst, r->bytes + at, n);
  if (at + n == r->part->bytes) {
    free(r->bytes);
    r->bytes = NULL;
  }
  return TS_OK;
}

void drive_add_weights(ts_arena *a, cg_artifact *art, const pass_program *program, ts_map *seen) {
  part_reader *readers = ts_new_array(a, part_reader, program->parts.count);
  for (size_t i = 0; i < program->parts.count; i++) {
    const pass_weight_part *p = &program->parts.data[i];
    uint64_t key = ts_hash_bytes(p->name, strlen(p->name), 0);
    if (ts_map_get(seen, key)) continue;
    ts_map_put(seen, key, (void *)p);
    readers[i].part = p;
    cg_artifact_weight(art, p->name, p->bytes, read_part, &readers[i]);
  }
}

void drive_describe(ts_arena *a, cg_artifact *art, const fe_model *model, const plan *p, const pass_program *program) {
  ts_text manifest = {0};
  drive_manifest(model, p, program, &manifest);
  cg_artifact_manifest(art, ts_arena_strdup(a, ts_text_z(&manifest)), manifest.len);
  ts_text_deinit(&manifest);
  for (size_t i = 0; i < program->program->functions.count; i++) {
    const ir_lfunction *f = program->program->functions.data[i];
    cg_artifact_meta(art, ts_arena_printf(a, "%s.streamed_bytes", f->name), ts_arena_printf(a, "%llu", (unsigned long long)drive_streamed_bytes(program, f)));
  }
  drive_texts(a, art, p->module, p, program);
}
