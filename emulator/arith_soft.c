// Exact arithmetic on floating-point formats (see arith_soft.h).
//
// Alignment in soft_add: both significands are normalised to bit 124, the one with the smaller exponent is shifted right and
// its lost bits are or-ed into bit 0. A product of two f64 significands has 106 bits, so at least 18 zero bits lie below it:
// where bits are lost the exponents differ by 19 or more, cancellation then removes at most one bit, and the sticky bit stays
// below the rounding position of every format. A jammed significand is therefore rounded as the exact one would be.
#include "emulator/arith_soft.h"

#define TOP 124   // where soft_add aligns the highest bit: room for one carry

static const soft_format format_f16 = {16, 5, 10, 0, SOFT_IEEE, 0x7FFF};
static const soft_format format_bf16 = {16, 8, 7, 0, SOFT_IEEE, 0x7FFF};
static const soft_format format_tf32 = {32, 8, 10, 13, SOFT_IEEE, 0x7FFFFFFF};
static const soft_format format_f32 = {32, 8, 23, 0, SOFT_IEEE, 0x7FFFFFFF};
static const soft_format format_f64 = {64, 11, 52, 0, SOFT_IEEE, 0xFFF8000000000000};
static const soft_format format_e4m3 = {8, 4, 3, 0, SOFT_NO_INF, 0x7F};
static const soft_format format_e5m2 = {8, 5, 2, 0, SOFT_IEEE, 0x7F};
static const soft_format format_e2m1 = {4, 2, 1, 0, SOFT_NO_SPECIAL, 0x7};
static const soft_format format_e2m3 = {6, 2, 3, 0, SOFT_NO_SPECIAL, 0x1F};
static const soft_format format_e3m2 = {6, 3, 2, 0, SOFT_NO_SPECIAL, 0x1F};

const soft_format *soft_format_of(emu_type t) {
  switch (t) {
    case EMU_F16: case EMU_F16X2: return &format_f16;
    case EMU_BF16: case EMU_BF16X2: return &format_bf16;
    case EMU_TF32: return &format_tf32;
    case EMU_F32: case EMU_F32X2: return &format_f32;
    case EMU_F64: return &format_f64;
    case EMU_E4M3: case EMU_E4M3X2: return &format_e4m3;
    case EMU_E5M2: case EMU_E5M2X2: return &format_e5m2;
    case EMU_E2M1X2: return &format_e2m1;
    case EMU_E2M3X2: return &format_e2m3;
    case EMU_E3M2X2: return &format_e3m2;
    default: return NULL;
  }
}

static int top_bit(soft_u128 v) {
  uint64_t high = (uint64_t)(v >> 64);
  return high ? 127 - __builtin_clzll(high) : 63 - __builtin_clzll((uint64_t)v);
}

static int format_bias(const soft_format *f) { return (1 << (f->exp_bits - 1)) - 1; }

// Bit patterns (without the sign) of the largest finite value, and of infinity (or what stands for overflow).
static uint64_t largest_finite(const soft_format *f) {
  uint64_t all = ((uint64_t)1 << (f->exp_bits + f->frac_bits)) - 1;
  if (f->specials == SOFT_NO_SPECIAL) return all;
  if (f->specials == SOFT_NO_INF) return all - 1;
  return all - ((uint64_t)1 << f->frac_bits);
}
static uint64_t infinity_bits(const soft_format *f) {
  uint64_t all = ((uint64_t)1 << (f->exp_bits + f->frac_bits)) - 1;
  if (f->specials == SOFT_IEEE) return (((uint64_t)1 << f->exp_bits) - 1) << f->frac_bits;
  return f->specials == SOFT_NO_INF ? all : largest_finite(f);
}

soft_num soft_unpack(const soft_format *f, uint64_t bits, bool ftz) {
  bits >>= f->low_zeros;
  unsigned width = f->bits - f->low_zeros;
  uint64_t frac = bits & (((uint64_t)1 << f->frac_bits) - 1);
  unsigned field = (unsigned)(bits >> f->frac_bits) & ((1u << f->exp_bits) - 1), last = (1u << f->exp_bits) - 1;
  soft_num v = {SOFT_FINITE, bits >> (width - 1) & 1, 0, 0};
  if (field == last && f->specials == SOFT_IEEE) {
    v.kind = frac ? SOFT_NAN : SOFT_INF;
    v.sig = (soft_u128)frac << (52 - f->frac_bits);
    return v;
  }
  if (field == last && f->specials == SOFT_NO_INF && frac == ((uint64_t)1 << f->frac_bits) - 1) {
    v.kind = SOFT_NAN;
    return v;
  }
  if (field == 0 && (frac == 0 || ftz)) {
    v.kind = SOFT_ZERO;
    return v;
  }
  v.sig = field ? frac | (uint64_t)1 << f->frac_bits : frac;
  v.exp = (int)(field ? field : 1) - format_bias(f) - f->frac_bits;
  return v;
}

uint64_t soft_nan(const soft_format *f, const soft_num *first_nan) {
  if (f->bits != 64 || !first_nan) return f->nan;
  return (uint64_t)first_nan->sign << 63 | 0x7FF8000000000000 | (uint64_t)first_nan->sig;
}

// Does the rounding step up in magnitude? rest: the dropped bits, half: their weight's half.
static bool rounds_up(uint32_t mode, bool sign, bool odd, soft_u128 rest, soft_u128 half) {
  if (rest == 0) return false;
  switch (mode & EMU_ROUND_MASK) {
    case EMU_RN: return rest > half || (rest == half && odd);
    case EMU_RNA: return rest >= half;
    case EMU_RM: return sign;
    case EMU_RP: return !sign;
    default: return false;
  }
}

static uint64_t overflow(const soft_format *f, bool sign, uint32_t mode) {
  unsigned r = mode & EMU_ROUND_MASK;
  bool stays = r == EMU_RZ || (r == EMU_RM && !sign) || (r == EMU_RP && sign);
  return stays || (mode & EMU_SATFINITE) ? largest_finite(f) : infinity_bits(f);
}

// Magnitude bits of a finite value.
static uint64_t round_finite(const soft_format *f, soft_num v, uint32_t mode) {
  int top = top_bit(v.sig), least = 1 - format_bias(f);
  int e = v.exp + top > least ? v.exp + top : least;             // exponent of the unit 1.0 of the result
  int shift = e - f->frac_bits - v.exp;                          // bits below the result's last place
  uint64_t sig;
  if (shift <= 0) {
    sig = (uint64_t)(v.sig << -shift);
  } else {
    soft_u128 rest, half;
    if (shift > 126) {                                           // everything is far below half a place
      sig = 0; rest = 1; half = 2;
    } else {
      sig = (uint64_t)(v.sig >> shift);
      rest = v.sig & (((soft_u128)1 << shift) - 1);
      half = (soft_u128)1 << (shift - 1);
    }
    sig += rounds_up(mode, v.sign, sig & 1, rest, half);
  }
  if (sig >> (f->frac_bits + 1)) { sig >>= 1; e++; }
  if (!(sig >> f->frac_bits)) return sig;                        // subnormal or zero
  uint64_t field = (uint64_t)(e + format_bias(f));
  if (e + format_bias(f) >= 1 << f->exp_bits) return overflow(f, v.sign, mode);
  uint64_t bits = field << f->frac_bits | (sig & (((uint64_t)1 << f->frac_bits) - 1));
  return bits > largest_finite(f) ? overflow(f, v.sign, mode) : bits;
}

uint64_t soft_pack(const soft_format *f, soft_num v, uint32_t mode) {
  uint64_t sign_bit = (uint64_t)1 << (f->bits - 1 - f->low_zeros), bits = 0;
  if (v.kind == SOFT_NAN) {
    if ((mode & EMU_SAT) && f->bits >= 16) return 0;
    return soft_nan(f, &v);
  }
  if (v.kind == SOFT_INF) bits = mode & EMU_SATFINITE ? largest_finite(f) : infinity_bits(f);
  else if (v.kind == SOFT_FINITE) bits = round_finite(f, v, mode);
  if ((mode & EMU_FTZ) && bits < (uint64_t)1 << f->frac_bits) bits = 0;
  if (mode & (EMU_SAT | EMU_RELU)) {
    if (v.sign) return 0;
    uint64_t one = (uint64_t)format_bias(f) << f->frac_bits;
    if ((mode & EMU_SAT) && bits > one) bits = one;
  }
  return (bits | (v.sign ? sign_bit : 0)) << f->low_zeros;
}

static soft_num make_nan(const soft_num *from) {
  soft_num v = {SOFT_NAN, true, 0, 0};
  return from ? *from : v;
}

static soft_u128 shift_right_jam(soft_u128 v, int n) {
  if (n <= 0) return v;
  if (n > 127) return v != 0;
  return v >> n | ((v & (((soft_u128)1 << n) - 1)) != 0);
}

soft_num soft_add(soft_num a, soft_num b, uint32_t mode) {
  if (a.kind == SOFT_NAN) return make_nan(&a);
  if (b.kind == SOFT_NAN) return make_nan(&b);
  if (a.kind == SOFT_INF) return b.kind == SOFT_INF && a.sign != b.sign ? make_nan(NULL) : a;
  if (b.kind == SOFT_INF) return b;
  soft_num zero = {SOFT_ZERO, (mode & EMU_ROUND_MASK) == EMU_RM, 0, 0};
  if (a.kind == SOFT_ZERO && b.kind == SOFT_ZERO) return a.sign == b.sign ? a : zero;
  if (a.kind == SOFT_ZERO) return b;
  if (b.kind == SOFT_ZERO) return a;
  int sa = TOP - top_bit(a.sig), sb = TOP - top_bit(b.sig);
  a.sig <<= sa; a.exp -= sa;
  b.sig <<= sb; b.exp -= sb;
  if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) { soft_num t = a; a = b; b = t; }
  b.sig = shift_right_jam(b.sig, a.exp - b.exp);
  if (a.sign == b.sign) {
    a.sig += b.sig;
  } else {
    a.sig -= b.sig;
    if (a.sig == 0) return zero;
  }
  return a;
}

soft_num soft_mul(soft_num a, soft_num b) {
  if (a.kind == SOFT_NAN) return make_nan(&a);
  if (b.kind == SOFT_NAN) return make_nan(&b);
  bool sign = a.sign != b.sign;
  if (a.kind == SOFT_INF || b.kind == SOFT_INF) {
    if (a.kind == SOFT_ZERO || b.kind == SOFT_ZERO) return make_nan(NULL);
    return (soft_num){SOFT_INF, sign, 0, 0};
  }
  if (a.kind == SOFT_ZERO || b.kind == SOFT_ZERO) return (soft_num){SOFT_ZERO, sign, 0, 0};
  return (soft_num){SOFT_FINITE, sign, a.exp + b.exp, (soft_u128)(uint64_t)a.sig * (uint64_t)b.sig};
}

soft_num soft_fma(soft_num a, soft_num b, soft_num c, uint32_t mode) {
  if (a.kind == SOFT_NAN) return make_nan(&a);
  if (b.kind == SOFT_NAN) return make_nan(&b);
  if (c.kind == SOFT_NAN) return make_nan(&c);
  return soft_add(soft_mul(a, b), c, mode);
}

soft_num soft_div(soft_num a, soft_num b) {
  if (a.kind == SOFT_NAN) return make_nan(&a);
  if (b.kind == SOFT_NAN) return make_nan(&b);
  bool sign = a.sign != b.sign;
  if (a.kind == b.kind && (a.kind == SOFT_INF || a.kind == SOFT_ZERO)) return make_nan(NULL);
  if (a.kind == SOFT_INF || b.kind == SOFT_ZERO) return (soft_num){SOFT_INF, sign, 0, 0};
  if (a.kind == SOFT_ZERO || b.kind == SOFT_INF) return (soft_num){SOFT_ZERO, sign, 0, 0};
  int sa = 126 - top_bit(a.sig);                         // the quotient then has at least 126 - 53 + 1 bits
  soft_u128 n = a.sig << sa, q = n / b.sig;
  q = q << 1 | (n % b.sig != 0);
  return (soft_num){SOFT_FINITE, sign, a.exp - sa - b.exp - 1, q};
}

soft_num soft_sqrt(soft_num a) {
  if (a.kind == SOFT_NAN || a.kind == SOFT_ZERO) return a;
  if (a.sign) return make_nan(NULL);
  if (a.kind == SOFT_INF) return a;
  int shift = 125 - top_bit(a.sig);
  if ((a.exp - shift) & 1) shift--;
  soft_u128 rest = a.sig << shift, root = 0;
  for (soft_u128 bit = (soft_u128)1 << 124; bit; bit >>= 2) {   // one result bit per step, highest first
    if (rest >= root + bit) {
      rest -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return (soft_num){SOFT_FINITE, false, (a.exp - shift) / 2 - 1, root << 1 | (rest != 0)};
}

soft_num soft_round_int(soft_num a, uint32_t mode) {
  if (a.kind != SOFT_FINITE || a.exp >= 0) return a;
  soft_u128 whole, rest, half;
  if (a.exp < -120) {
    whole = 0; rest = 1; half = 2;
  } else {
    whole = a.sig >> -a.exp;
    rest = a.sig & (((soft_u128)1 << -a.exp) - 1);
    half = (soft_u128)1 << (-a.exp - 1);
  }
  whole += rounds_up(mode, a.sign, whole & 1, rest, half);
  if (whole == 0) return (soft_num){SOFT_ZERO, a.sign, 0, 0};
  return (soft_num){SOFT_FINITE, a.sign, 0, whole};
}

static int order_magnitude(soft_num a, soft_num b) {
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  if (a.kind != SOFT_FINITE) return 0;
  int sa = TOP - top_bit(a.sig), sb = TOP - top_bit(b.sig);
  a.sig <<= sa; a.exp -= sa;
  b.sig <<= sb; b.exp -= sb;
  if (a.exp != b.exp) return a.exp < b.exp ? -1 : 1;
  return a.sig < b.sig ? -1 : a.sig > b.sig;
}

int soft_order(soft_num a, soft_num b) {
  if (a.sign != b.sign) return a.sign ? -1 : 1;
  int m = order_magnitude(a, b);
  return a.sign ? -m : m;
}

// The smaller or larger source; a NaN loses unless EMU_NAN asks for it.
static soft_num pick(emu_op op, soft_num a, soft_num b, uint32_t mode) {
  if (a.kind == SOFT_NAN || b.kind == SOFT_NAN) {
    if ((mode & EMU_NAN) || a.kind == b.kind) return a.kind == SOFT_NAN ? a : b;
    return a.kind == SOFT_NAN ? b : a;
  }
  int o = soft_order(a, b);
  return (op == EMU_OP_MIN) == (o <= 0) ? a : b;
}

uint64_t soft_op2(const soft_format *f, emu_op op, uint64_t a, uint64_t b, uint32_t mode) {
  soft_num x = soft_unpack(f, a, mode & EMU_FTZ), y = soft_unpack(f, b, mode & EMU_FTZ);
  switch (op) {
    case EMU_OP_ADD: return soft_pack(f, soft_add(x, y, mode), mode);
    case EMU_OP_SUB:
      if (y.kind != SOFT_NAN) y.sign = !y.sign;
      return soft_pack(f, soft_add(x, y, mode), mode);
    case EMU_OP_MUL: return soft_pack(f, soft_mul(x, y), mode);
    case EMU_OP_DIV: return soft_pack(f, soft_div(x, y), mode);
    default: break;
  }
  bool sign = x.sign != y.sign;
  if (mode & EMU_XORSIGN_ABS) x.sign = y.sign = false;
  soft_num r = pick(op, x, y, mode);
  if ((mode & EMU_XORSIGN_ABS) && r.kind != SOFT_NAN) r.sign = sign;
  return soft_pack(f, r, mode);
}

uint64_t soft_op_minmax3(const soft_format *f, emu_op op, uint64_t a, uint64_t b, uint64_t c, uint32_t mode) {
  soft_num v[3] = {soft_unpack(f, a, mode & EMU_FTZ), soft_unpack(f, b, mode & EMU_FTZ), soft_unpack(f, c, mode & EMU_FTZ)};
  if (mode & EMU_ABS)
    for (int i = 0; i < 3; i++) v[i].sign = v[i].kind == SOFT_NAN && v[i].sign;
  return soft_pack(f, pick(op, pick(op, v[0], v[1], mode), v[2], mode), mode);
}

uint64_t soft_op_fma(const soft_format *f, uint64_t a, uint64_t b, uint64_t c, uint32_t mode) {
  bool ftz = mode & EMU_FTZ;
  return soft_pack(f, soft_fma(soft_unpack(f, a, ftz), soft_unpack(f, b, ftz), soft_unpack(f, c, ftz), mode), mode);
}

uint64_t soft_op_sqrt(const soft_format *f, uint64_t a, uint32_t mode) {
  return soft_pack(f, soft_sqrt(soft_unpack(f, a, mode & EMU_FTZ)), mode);
}

// .ftz of a conversion means f32's subnormals only: on the source when it is f32, on the result when that is f32.
uint64_t soft_convert(const soft_format *to, const soft_format *from, uint64_t bits, uint32_t mode) {
  soft_num v = soft_unpack(from, bits, (mode & EMU_FTZ) && from == &format_f32);
  if (mode & EMU_INT) v = soft_round_int(v, mode);
  if (to != &format_f32) mode &= ~(uint32_t)EMU_FTZ;
  return soft_pack(to, v, mode);
}

uint64_t soft_from_int(const soft_format *to, bool is_signed, uint64_t value, uint32_t mode) {
  bool sign = is_signed && (int64_t)value < 0;
  uint64_t magnitude = sign ? 0 - value : value;
  soft_num v = {magnitude ? SOFT_FINITE : SOFT_ZERO, sign, 0, magnitude};
  return soft_pack(to, v, mode);
}

// Out of range clamps; NaN gives 0.
uint64_t soft_to_int(const soft_format *from, unsigned bits, bool is_signed, uint64_t value, uint32_t mode) {
  soft_num v = soft_round_int(soft_unpack(from, value, (mode & EMU_FTZ) && from == &format_f32), mode);
  if (v.kind == SOFT_NAN || v.kind == SOFT_ZERO) return 0;
  uint64_t top = (uint64_t)1 << (bits - 1), highest = is_signed ? top - 1 : top - 1 + top;
  uint64_t lowest_magnitude = is_signed ? top : 0, limit = v.sign ? lowest_magnitude : highest;
  uint64_t magnitude = limit;
  if (v.kind == SOFT_FINITE && top_bit(v.sig) + v.exp < 64) {
    uint64_t m = (uint64_t)(v.sig << v.exp);
    if (m < limit) magnitude = m;
  }
  return v.sign ? 0 - magnitude : magnitude;
}
