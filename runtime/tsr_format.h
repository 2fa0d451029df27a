// The artifact format (.tsr), version 1.0: what the writer (codegen/artifact.c) stores and the reader (artifact.c) checks.
//
// All numbers are little-endian. A file is: header, section table, sections. Sections that are mapped (weights, host images)
// start at multiples of 64 KiB, all others at multiples of 64. Metadata, programs and code are small and their checksums are
// checked when a file is opened; weights are checked by tsr_artifact_verify() or while they are copied to a device.
// A reader of version M.m loads files of version M.n, n <= m; it skips unknown sections unless they are marked required.
// Records only ever grow at a new major version. Every string is an offset into the STRINGS section (NUL-terminated there).
#ifndef TSR_FORMAT_H
#define TSR_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TSR_MAGIC "TESSERA\x1a"
enum {
  TSR_FORMAT_MAJOR = 1,
  TSR_FORMAT_MINOR = 0,
  TSR_MAPPED_ALIGN = 65536,
  TSR_SECTION_ALIGN = 64,
  TSR_MAX_SECTIONS = 65536,
  TSR_MAX_RANK = 8,
  TSR_MAX_RAGGED = 4,          // ragged dims of a program
  TSR_MAX_DIMS = 256,
  TSR_MAX_STATES = 16,
  TSR_MAX_LISTS = 16,          // page lists of a program, over all its states
  TSR_MAX_PARAMETERS = 256,    // of a kernel, pointers and sizes together
  TSR_MAX_BUFFERS = 65536,     // of a function
};
#define TSR_NONE UINT32_MAX   // no index, no node, no string

typedef struct tsr_header {
  char magic[8];
  uint16_t major, minor;
  uint32_t section_count;
  uint64_t file_bytes;
  uint64_t table_offset;       // of tsr_section[section_count]
  uint64_t table_checksum;     // tsr_checksum of the section table
  uint64_t reserved[2];        // 0
  uint64_t checksum;           // tsr_checksum of the bytes of this header before this field
} tsr_header;

// TSR_SECTION(id, code, check): `check` is when a section's checksum is looked at: open, or late (verify, copy to a device).
#define TSR_SECTION_KINDS(X) \
  X(strings, 1, open)        /* all names and texts */                                                            \
  X(metadata, 2, open)       /* tsr_meta[], sorted by key */                                                      \
  X(program, 3, open)        /* one class's launch program: tables of TSR_PROGRAM_TABLES */                       \
  X(targets, 4, open)        /* what code there is: tables of TSR_TARGET_TABLES */                                \
  X(image, 5, open)          /* code: a host image, PTX text (NUL-terminated) or a cubin */                       \
  X(weights, 6, late)        /* bytes that programs point into */                                                 \
  X(manifest, 7, open)       /* JSON text for people */                                                           \
  X(blob, 8, late)           /* named bytes: tokenizer, kernel texts */
typedef enum tsr_section_kind {
#define TSR_SECTION(id, code, check) TSR_SECTION_##id = code,
  TSR_SECTION_KINDS(TSR_SECTION)
#undef TSR_SECTION
} tsr_section_kind;

enum {
  TSR_SECTION_REQUIRED = 1,   // a reader that does not know the kind refuses the file
  TSR_SECTION_EXTERNAL = 2,   // weights: the bytes are the file `name` beside the artifact; offset is 0
};

typedef struct tsr_section {
  uint32_t kind, flags;
  uint32_t name;               // string; "" for those that need none
  uint32_t reserved;           // 0
  uint64_t offset, bytes;
  uint64_t checksum;           // tsr_checksum of the section's bytes
} tsr_section;

typedef struct tsr_meta { uint32_t key, value; } tsr_meta;

// A section made of tables starts with one tsr_table per entry of its list, in order; offsets count from the section's start
// and are multiples of 8.
typedef struct tsr_table { uint32_t offset, count; } tsr_table;

// --- Programs ---------------------------------------------------------------------------------------------------------

// TSR_SIZE_LEAF(id, code), TSR_SIZE_OP(id, code): nodes of size expressions; meanings in ir/launch.def.
#define TSR_SIZE_LEAVES(X) X(dim, 1) X(longest, 2) X(total, 3) X(length, 4) X(pages, 5) X(width, 6)
#define TSR_SIZE_OPS(X) \
  X(add, 16) X(sub, 17) X(mul, 18) X(floordiv, 19) X(ceildiv, 20) X(mod, 21) X(min, 22) X(max, 23) \
  X(lt, 24) X(le, 25) X(eq, 26) X(ne, 27) X(and, 28) X(or, 29)
#define TSR_BUFFER_KINDS(X) \
  X(input, 1) X(output, 2) X(weight, 3) X(workspace, 4) X(pool, 5) X(table, 6) X(length, 7) X(ragged, 8) X(error, 9)
#define TSR_STEP_KINDS(X) X(launch, 1) X(copy, 2) X(fill, 3) X(require, 4) X(advance, 5)
typedef enum tsr_node_op {
  TSR_NODE_const = 0,
#define TSR_NODE(id, code) TSR_NODE_##id = code,
  TSR_SIZE_LEAVES(TSR_NODE) TSR_SIZE_OPS(TSR_NODE)
#undef TSR_NODE
} tsr_node_op;
typedef enum tsr_buffer_kind {
#define TSR_BUFFER(id, code) TSR_BUFFER_##id = code,
  TSR_BUFFER_KINDS(TSR_BUFFER)
#undef TSR_BUFFER
} tsr_buffer_kind;
typedef enum tsr_step_kind {
#define TSR_STEP(id, code) TSR_STEP_##id = code,
  TSR_STEP_KINDS(TSR_STEP)
#undef TSR_STEP
} tsr_step_kind;

typedef struct tsr_prog_info { uint32_t name, device_class; } tsr_prog_info;   // class: "host" or "cuda"
typedef struct tsr_prog_dim {
  uint32_t name, per;          // per: dim, or TSR_NONE
  int64_t min, max, step;
} tsr_prog_dim;
typedef struct tsr_prog_weight {
  uint32_t name, section;      // section: index in the section table, of kind weights
  uint64_t offset, bytes, checksum;
} tsr_prog_weight;
typedef struct tsr_prog_state {
  uint32_t name, rows, page;   // rows: dim
  uint32_t list_first, list_count, pool_first, pool_count, reserved;
  int64_t max_length;
} tsr_prog_state;
typedef struct tsr_prog_list { uint32_t name, kind; } tsr_prog_list;           // kind 1: every page of a sequence
typedef struct tsr_prog_pool {
  uint32_t name, type, list;   // type: text for people; list: index within the state
  uint32_t layers, zero, reserved;
  uint64_t page_bytes;         // per layer
} tsr_prog_pool;
typedef struct tsr_prog_kernel { uint32_t name, pointers, sizes, raise_first, raise_count; } tsr_prog_kernel;
typedef struct tsr_prog_raise { uint32_t text, loc; } tsr_prog_raise;          // loc: "file:line:col" or ""
typedef struct tsr_prog_function {
  uint32_t name, loc;
  uint32_t node_first, node_count, value_first, value_count;                   // all inputs before all outputs
  uint32_t buffer_first, buffer_count, step_first, step_count;
} tsr_prog_function;
typedef struct tsr_prog_node {
  uint32_t op, a, b, reserved; // a, b: earlier nodes of the same function, or what a leaf names
  int64_t value;
} tsr_prog_node;
typedef struct tsr_prog_value {
  uint32_t name, encoding, loc;                                                // encoding: string or TSR_NONE
  uint32_t output, dtype, rank;
  uint32_t shape;              // first of `rank` node numbers in refs
  uint32_t bytes;              // node or TSR_NONE
} tsr_prog_value;
typedef struct tsr_prog_buffer { uint32_t kind, a, b, bytes, first, last, name; } tsr_prog_buffer;
typedef struct tsr_prog_arg { uint32_t buffer, offset; } tsr_prog_arg;         // offset: node or TSR_NONE
typedef struct tsr_prog_variant {
  uint32_t guard, kernel, grid[3];
  uint32_t arg_first, arg_count, size_first, size_count;                       // sizes: node numbers in refs
} tsr_prog_variant;
typedef struct tsr_prog_step {
  uint32_t kind, loc;
  uint32_t first, count;       // launch: variants. copy: args first (to) and first + 1 (from). fill: arg first
  uint32_t a, b;               // copy: a = bytes node. fill: a = bytes node, b = pattern. require: a = node, b = text
                               // advance: a = state, b = dim or TSR_NONE, first = node of the tokens or TSR_NONE
} tsr_prog_step;

#define TSR_PROGRAM_TABLES(X) \
  X(info, tsr_prog_info) X(dims, tsr_prog_dim) X(weights, tsr_prog_weight) X(states, tsr_prog_state) X(lists, tsr_prog_list) \
  X(pools, tsr_prog_pool) X(kernels, tsr_prog_kernel) X(raises, tsr_prog_raise) X(functions, tsr_prog_function)              \
  X(nodes, tsr_prog_node) X(values, tsr_prog_value) X(buffers, tsr_prog_buffer) X(steps, tsr_prog_step)                      \
  X(variants, tsr_prog_variant) X(args, tsr_prog_arg) X(refs, uint32_t)

// --- Targets and code -------------------------------------------------------------------------------------------------

// TSR_HOST_LEVEL(name, rank, features): CPU levels; the best one whose features the CPU has is chosen.
#define TSR_HOST_FEATURES(X) \
  X(avx2, 0) X(fma, 1) X(f16c, 2) X(bmi2, 3) X(avx512f, 4) X(avx512bw, 5) X(avx512dq, 6) X(avx512vl, 7) X(avx512cd, 8) \
  X(avx512_vnni, 9) X(avx512_vbmi, 10) X(avx512_bf16, 11) X(avx512_fp16, 12) X(amx_tile, 13) X(amx_int8, 14) X(amx_bf16, 15)
enum {
#define TSR_FEATURE(id, bit) TSR_HAS_##id = 1 << bit,
  TSR_HOST_FEATURES(TSR_FEATURE)
#undef TSR_FEATURE
  TSR_LEVEL_AVX2 = TSR_HAS_avx2 | TSR_HAS_fma | TSR_HAS_f16c | TSR_HAS_bmi2,
  TSR_LEVEL_AVX512 = TSR_LEVEL_AVX2 | TSR_HAS_avx512f | TSR_HAS_avx512bw | TSR_HAS_avx512dq | TSR_HAS_avx512vl | TSR_HAS_avx512cd,
  TSR_LEVEL_VNNI = TSR_LEVEL_AVX512 | TSR_HAS_avx512_vnni,
  TSR_LEVEL_BF16 = TSR_LEVEL_VNNI | TSR_HAS_avx512_bf16,
  TSR_LEVEL_AMX = TSR_LEVEL_BF16 | TSR_HAS_amx_tile | TSR_HAS_amx_int8 | TSR_HAS_amx_bf16,
};
#define TSR_HOST_LEVELS(X) \
  X("x86_64", 0, 0) X("avx2", 1, TSR_LEVEL_AVX2) X("avx512", 2, TSR_LEVEL_AVX512) X("avx512_vnni", 3, TSR_LEVEL_VNNI) \
  X("avx512_bf16", 4, TSR_LEVEL_BF16) X("amx", 5, TSR_LEVEL_AMX)

enum { TSR_CLASS_HOST = 1, TSR_CLASS_CUDA = 2 };
enum { TSR_IMAGE_HOST = 1, TSR_IMAGE_PTX = 2, TSR_IMAGE_CUBIN = 3 };

typedef struct tsr_target {
  uint32_t name;               // "host:avx2", "sm_80"
  uint32_t device_class;       // TSR_CLASS_*
  uint32_t level;              // host: rank of the level; cuda: 80 for sm_80
  uint32_t features;           // host: TSR_HAS_* bits that the CPU must have
  uint32_t program;            // section
  uint32_t driver;             // cuda: least driver version that can load the PTX, as cuDriverGetVersion says it; or 0
  uint32_t code_first, code_count;   // one per kernel of the program, in the program's order
} tsr_target;
typedef struct tsr_image { uint32_t kind, section; } tsr_image;
typedef struct tsr_code {
  uint32_t image;              // host image, or cubin (exact architecture); TSR_NONE: none
  uint32_t ptx;                // cuda: image of kind PTX; TSR_NONE: none
  uint32_t entry;              // host: number in the image's table of entries; cuda: string, the entry's name
  uint32_t threads[3];         // cuda: block size
  uint32_t shared;             // cuda: dynamic shared memory, bytes
  uint32_t scratch;            // host: bytes of scratch per worker
} tsr_code;

#define TSR_TARGET_TABLES(X) X(targets, tsr_target) X(images, tsr_image) X(code, tsr_code)

// A host image is position-independent x86-64 code, mapped read-execute as it is, and starts with this.
#define TSR_IMAGE_MAGIC 0x49525354u   // "TSRI"
typedef struct tsr_host_image {
  uint32_t magic, count;
  uint32_t entries[];          // offsets from the image's start
} tsr_host_image;

// What a host kernel gets; one per worker, so that scratch is the worker's own.
enum { TSR_HOST_API_VERSION = 1, TSR_SCRATCH_ALIGN = 64 };
typedef struct tsr_host_api {
  uint32_t version;
  uint32_t worker;
  void *scratch;               // 64-byte aligned; contents undefined
  uint64_t scratch_bytes;
  uint32_t *error;             // raise code of a kernel that goes on after raising; shared by all workers; 0: none
  const void *locations;       // reserved for tools; NULL
} tsr_host_api;
// Runs one block; 0, or a raise code of the kernel (the block's remaining work is dropped). `block` = x + gx * (y + gy * z).
// `dims` holds the kernel's sizes, then gx, gy, gz.
typedef int tsr_host_kernel(const tsr_host_api *api, void *const *bufs, const int64_t *dims, uint32_t block);

// --- Checksum: XXH64 with seed 0, so that any xxhsum can check a section ------------------------------------------------

typedef struct tsr_hash {
  uint64_t lane[4], total;
  unsigned char rest[32];
} tsr_hash;

#define TSR_P1 0x9E3779B185EBCA87u
#define TSR_P2 0xC2B2AE3D27D4EB4Fu
#define TSR_P3 0x165667B19E3779F9u
#define TSR_P4 0x85EBCA77C2B2AE63u
#define TSR_P5 0x27D4EB2F165667C5u
static inline uint64_t tsr_rotl(uint64_t v, int n) { return v << n | v >> (64 - n); }
static inline uint64_t tsr_load64(const void *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}
static inline uint64_t tsr_hash_round(uint64_t lane, uint64_t v) { return tsr_rotl(lane + v * TSR_P2, 31) * TSR_P1; }
static inline void tsr_hash_start(tsr_hash *h) {
  *h = (tsr_hash){.lane = {TSR_P1 + TSR_P2, TSR_P2, 0, (uint64_t)0 - TSR_P1}};
}
static inline void tsr_hash_add(tsr_hash *h, const void *data, size_t n) {
  const unsigned char *p = data;
  size_t kept = h->total % 32;
  h->total += n;
  if (kept + n < 32) {
    if (n) memcpy(h->rest + kept, p, n);
    return;
  }
  if (kept) {
    memcpy(h->rest + kept, p, 32 - kept);
    for (int i = 0; i < 4; i++) h->lane[i] = tsr_hash_round(h->lane[i], tsr_load64(h->rest + 8 * i));
    p += 32 - kept, n -= 32 - kept;
  }
  uint64_t a = h->lane[0], b = h->lane[1], c = h->lane[2], d = h->lane[3];
  for (; n >= 32; p += 32, n -= 32) {
    a = tsr_hash_round(a, tsr_load64(p));
    b = tsr_hash_round(b, tsr_load64(p + 8));
    c = tsr_hash_round(c, tsr_load64(p + 16));
    d = tsr_hash_round(d, tsr_load64(p + 24));
  }
  h->lane[0] = a, h->lane[1] = b, h->lane[2] = c, h->lane[3] = d;
  if (n) memcpy(h->rest, p, n);
}
static inline uint64_t tsr_hash_end(const tsr_hash *h) {
  uint64_t v = TSR_P5;
  if (h->total >= 32) {
    v = tsr_rotl(h->lane[0], 1) + tsr_rotl(h->lane[1], 7) + tsr_rotl(h->lane[2], 12) + tsr_rotl(h->lane[3], 18);
    for (int i = 0; i < 4; i++) v = (v ^ tsr_hash_round(0, h->lane[i])) * TSR_P1 + TSR_P4;
  }
  v += h->total;
  const unsigned char *p = h->rest;
  size_t n = h->total % 32;
  for (; n >= 8; p += 8, n -= 8) v = tsr_rotl(v ^ tsr_hash_round(0, tsr_load64(p)), 27) * TSR_P1 + TSR_P4;
  if (n >= 4) {
    uint32_t w;
    memcpy(&w, p, 4);
    v = tsr_rotl(v ^ w * TSR_P1, 23) * TSR_P2 + TSR_P3;
    p += 4, n -= 4;
  }
  for (; n; p++, n--) v = tsr_rotl(v ^ *p * TSR_P5, 11) * TSR_P1;
  v = (v ^ v >> 33) * TSR_P2;
  v = (v ^ v >> 29) * TSR_P3;
  return v ^ v >> 32;
}
static inline uint64_t tsr_checksum(const void *data, size_t n) {
  tsr_hash h;
  tsr_hash_start(&h);
  tsr_hash_add(&h, data, n);
  return tsr_hash_end(&h);
}

_Static_assert(sizeof(tsr_header) == 64 && sizeof(tsr_section) == 40 && sizeof(tsr_prog_node) == 24 &&
                   sizeof(tsr_prog_step) == 24,
               "records have no hidden padding");

#endif
