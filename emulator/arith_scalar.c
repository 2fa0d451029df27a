// Scalar entry points on raw bits: thin names over the exact arithmetic of arith_soft.c.
#include "emulator/arith_soft.h"

#define F32 soft_format_of(EMU_F32)
#define F64 soft_format_of(EMU_F64)

#define OP2(name, op)                                                                    \
  uint32_t emu_f32_##name(uint32_t a, uint32_t b, uint32_t mode) {                       \
    return (uint32_t)soft_op2(F32, op, a, b, mode);                                      \
  }                                                                                      \
  uint64_t emu_f64_##name(uint64_t a, uint64_t b, uint32_t mode) { return soft_op2(F64, op, a, b, mode); }
#define HALF2(name, op)                                                                  \
  uint16_t emu_half_##name(emu_type t, uint16_t a, uint16_t b, uint32_t mode) {          \
    return (uint16_t)soft_op2(soft_format_of(t), op, a, b, mode);                        \
  }
OP2(add, EMU_OP_ADD)
OP2(sub, EMU_OP_SUB)
OP2(mul, EMU_OP_MUL)
OP2(div, EMU_OP_DIV)
OP2(min, EMU_OP_MIN)
OP2(max, EMU_OP_MAX)
HALF2(add, EMU_OP_ADD)
HALF2(sub, EMU_OP_SUB)
HALF2(mul, EMU_OP_MUL)
HALF2(min, EMU_OP_MIN)
HALF2(max, EMU_OP_MAX)

uint32_t emu_f32_fma(uint32_t a, uint32_t b, uint32_t c, uint32_t mode) { return (uint32_t)soft_op_fma(F32, a, b, c, mode); }
uint64_t emu_f64_fma(uint64_t a, uint64_t b, uint64_t c, uint32_t mode) { return soft_op_fma(F64, a, b, c, mode); }
uint32_t emu_f32_sqrt(uint32_t a, uint32_t mode) { return (uint32_t)soft_op_sqrt(F32, a, mode); }
uint64_t emu_f64_sqrt(uint64_t a, uint32_t mode) { return soft_op_sqrt(F64, a, mode); }
uint16_t emu_half_fma(emu_type t, uint16_t a, uint16_t b, uint16_t c, uint32_t mode) {
  return (uint16_t)soft_op_fma(soft_format_of(t), a, b, c, mode);
}
uint32_t emu_half_to_f32(emu_type t, uint16_t a) { return (uint32_t)soft_convert(F32, soft_format_of(t), a, EMU_RN); }
uint16_t emu_f32_to_half(emu_type t, uint32_t a, uint32_t mode) {
  return (uint16_t)soft_convert(soft_format_of(t), F32, a, mode);
}
