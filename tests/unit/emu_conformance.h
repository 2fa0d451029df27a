// Conformance of the emulator, instruction by instruction: a table of spellings, each with a C oracle. The runner (in
// emu_conformance_test.c) writes one small kernel per spelling, runs it over edge values and random bits (all inputs for unary
// operations of 16 bits), and compares every result.
#ifndef TESSERA_TESTS_EMU_CONFORMANCE_H
#define TESSERA_TESTS_EMU_CONFORMANCE_H
#include "arith_oracle_float.h"
#include "arith_oracle_int.h"

typedef enum data_kind {
  D_NONE,
  D_BITS,
  D_SMALL,
  D_F16,
  D_BF16,
  D_F32,
  D_F64,
  D_LANE
} data_kind;  // D_SMALL: 0..69, with large ones between

typedef struct spec spec;
typedef uint64_t conform_oracle(const uint64_t x[4], const spec *s);
typedef bool conform_judge(const uint64_t x[4], uint64_t got, const spec *s);   // where PTX leaves room
// All lanes of a warp at once: x[source][lane].
typedef void conform_warp(const uint64_t x[4][32], uint64_t want[32], const spec *s);

struct spec {
  char text[72];             // the instruction; with `body` the row's name in the table
  char args[96];             // operands with $0 (result), $1 … (sources); "": all in order
  const char *body;          // whole statements instead of text and args, with the same $n
  uint8_t result, width[4];  // register widths: 1 (predicate, results only), 16, 32, 64; 0: none
  data_kind data[4];
  unsigned target;           // 80, 90, 100
  bool exhaustive;           // source 0 runs over all 16-bit patterns
  conform_oracle *want;
  conform_judge *judge;
  conform_warp *warp;
  // For the oracles.
  uint32_t mode;
  int round, cmp;
  emu_op op;
  bool bf, is_max;
  small_format f, from;
  int_type t, source;
  int_oracle *integer;
  const void *extra;
  double bound;
};

typedef struct spec_list { spec *items; size_t count, capacity; } spec_list;
// Appends a zeroed spec with a formatted text.
spec *spec_add(spec_list *list, unsigned target, const char *format, ...) __attribute__((format(printf, 3, 4)));
void spec_sources(spec *s, unsigned result, unsigned count, unsigned width, data_kind kind);   // `count` equal sources

void conform_float(spec_list *list);
void conform_half(spec_list *list);
void conform_int(spec_list *list);
void conform_cvt(spec_list *list);
void conform_warps(spec_list *list);
#endif
