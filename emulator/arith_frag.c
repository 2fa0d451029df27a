// The table of matrix instructions and their fragment maps.
//
// One rule gives every map but that of mma m8n8k4 f16. With g = lane / 4, t = lane % 4 and E elements in a 32-bit register, a
// register of A holds E neighbours along k of one row: a tile of 8 rows by 4E columns per register, tiles counted down the rows
// first. B is the same with columns for rows, tiles counted along k first. C has two neighbours of a row per lane in every
// 8 x 8 tile, tiles counted down the rows first. So the four lanes of a group hold 16 contiguous bytes of a row of A (a column
// of B), which is how emu_mma gathers its operands.
//
// mma m8n8k4 f16 is four independent 8 x 8 products, one per group of lanes {4p..4p+3, 16+4p..16+4p+3}; rows (A, C) and columns
// (B) of product p are reported with 8p added.
#include "emulator/arith_mma.h"

#define FORM_SYNC false
#define FORM_WARP true
static const emu_mma_desc table[] = {
#define MMA(form, m, n, k, d, a, b, c, op, sm) \
  {FORM_##form, m, n, k, EMU_##d, EMU_##a, EMU_##b, EMU_##c, EMU_MMA_##op, sm},
#include "emulator/mma.def"
};
enum { TABLE_COUNT = sizeof table / sizeof *table };

emu_gen emu_gen_of_sm(unsigned sm) {
  if (sm < 75) return EMU_VOLTA;
  if (sm < 80) return EMU_TURING;
  if (sm < 89) return EMU_AMPERE;
  if (sm < 90) return EMU_ADA;
  return sm < 100 ? EMU_HOPPER : EMU_BLACKWELL;
}

const emu_mma_desc *emu_mma_table(size_t *count) {
  *count = TABLE_COUNT;
  return table;
}

static bool is_quad_pairs(const emu_mma_desc *d) { return !d->wmma && d->m == 8 && d->k == 4 && d->atype == EMU_F16; }
static unsigned per_register(emu_type t) { return emu_type_bits(t) >= 32 ? 1 : 32 / emu_type_bits(t); }

// Distinct registers of a fragment; wmma f16 operands have 8, the rest repeating.
static unsigned distinct_registers(const emu_mma_desc *d, emu_operand which, emu_type t) {
  unsigned elements = which == EMU_FRAG_A ? d->m * d->k : which == EMU_FRAG_B ? d->k * d->n : d->m * d->n;
  if (is_quad_pairs(d)) elements *= 4;
  return elements / EMU_LANES / per_register(t);
}

unsigned emu_mma_registers(const emu_mma_desc *d, emu_operand which, emu_type t) {
  if (d->wmma && t == EMU_F16 && which != EMU_FRAG_C) return 8;
  return distinct_registers(d, which, t);
}

const emu_mma_desc *emu_mma_find(bool wmma, unsigned m, unsigned n, unsigned k, emu_type d, emu_type a, emu_type b, emu_type c,
                                 emu_mma_op op) {
  for (size_t i = 0; i < TABLE_COUNT; i++) {
    const emu_mma_desc *e = &table[i];
    if (e->wmma == wmma && e->m == m && e->n == n && e->k == k && e->dtype == d && e->atype == a && e->btype == b &&
        e->ctype == c && e->op == op)
      return e;
  }
  return NULL;
}

const emu_mma_desc *emu_wmma_fragment(unsigned m, unsigned n, unsigned k, emu_operand which, emu_type t, unsigned *regs) {
  for (size_t i = 0; i < TABLE_COUNT; i++) {
    const emu_mma_desc *e = &table[i];
    emu_type mine = which == EMU_FRAG_A ? e->atype : which == EMU_FRAG_B ? e->btype : e->ctype;
    if (e->wmma && e->m == m && e->n == n && e->k == k && mine == t) {
      *regs = emu_mma_registers(e, which, t);
      return e;
    }
  }
  return NULL;
}

unsigned emu_frag_elements(const emu_mma_desc *desc, emu_operand which, emu_type t) {
  (void)desc;
  (void)which;
  return per_register(t);
}

// Element i (0..3 of A and B, 0..7 of C) of a lane in the quad-pair product.
void emu_quad_pair_coord(emu_operand which, emu_layout layout, bool wide, unsigned lane, unsigned i, unsigned *row,
                         unsigned *col) {
  unsigned p = lane % 16 / 4, inner = lane % 4, upper = lane < 16 ? 0 : 4;
  if (which == EMU_FRAG_A) {
    *row = (layout == EMU_ROW ? inner : i) + upper + 8 * p;
    *col = layout == EMU_ROW ? i : inner;
  } else if (which == EMU_FRAG_B) {
    *row = layout == EMU_ROW ? inner : i;
    *col = (layout == EMU_ROW ? i : inner) + upper + 8 * p;
  } else if (wide) {
    *row = (lane & 1) + (i & 2) + upper + 8 * p;
    *col = (i & 4) + (lane & 2) + (i & 1);
  } else {
    *row = inner + upper + 8 * p;
    *col = i;
  }
}

void emu_frag_coord(const emu_mma_desc *d, emu_operand which, emu_type t, unsigned lane, unsigned reg, unsigned e, unsigned *row,
                    unsigned *col) {
  unsigned per = per_register(t), g = lane / 4, inner = lane % 4;
  if (is_quad_pairs(d)) {
    emu_quad_pair_coord(which, which == EMU_FRAG_B ? EMU_COL : EMU_ROW, t == EMU_F32, lane, reg * per + e, row, col);
    return;
  }
  reg %= distinct_registers(d, which, t);
  if (which == EMU_FRAG_A) {
    unsigned down = d->m / 8;
    *row = g + 8 * (reg % down);
    *col = reg / down * 4 * per + inner * per + e;
  } else if (which == EMU_FRAG_B) {
    unsigned along = d->k / (4 * per);
    *row = reg % along * 4 * per + inner * per + e;
    *col = g + 8 * (reg / along);
  } else {
    unsigned i = reg * per + e, tile = i / 2, down = d->m / 8;
    *row = g + 8 * (tile % down);
    *col = inner * 2 + i % 2 + 8 * (tile / down);
  }
}

void emu_ldmatrix_coord(bool trans, unsigned lane, unsigned h, unsigned *row, unsigned *col) {
  unsigned a = lane / 4, b = lane % 4 * 2 + h;
  *row = trans ? b : a;
  *col = trans ? a : b;
}

void emu_movmatrix_row(uint32_t *d, const uint32_t *a) {
  uint32_t r[EMU_LANES];
  for (unsigned lane = 0; lane < EMU_LANES; lane++) {
    uint32_t v = 0;
    for (unsigned h = 0; h < 2; h++) {
      unsigned row, col;
      emu_ldmatrix_coord(true, lane, h, &row, &col);
      v |= (a[row * 4 + col / 2] >> (16 * (col % 2)) & 0xFFFF) << (16 * h);
    }
    r[lane] = v;
  }
  for (int i = 0; i < EMU_LANES; i++) d[i] = r[i];
}
