// Size arithmetic that says when it overflows. All return false on overflow and leave *out alone.
#ifndef TESSERA_BASE_CHECKED_H
#define TESSERA_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool ts_mul_size(size_t a, size_t b, size_t *out) {
  size_t r;
  if (__builtin_mul_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool ts_add_size(size_t a, size_t b, size_t *out) {
  size_t r;
  if (__builtin_add_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool ts_mul_i64(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool ts_add_i64(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}
static inline bool ts_sub_i64(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (__builtin_sub_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}

// Division towards minus infinity and its remainder; b > 0.
static inline int64_t ts_floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t ts_ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0); }
static inline int64_t ts_floor_mod(int64_t a, int64_t b) { return a % b < 0 ? a % b + b : a % b; }

static inline bool ts_is_pow2(uint64_t v) { return v && !(v & (v - 1)); }
static inline unsigned ts_log2_floor(uint64_t v) { return 63u - (unsigned)__builtin_clzll(v); }   // v > 0

#endif
