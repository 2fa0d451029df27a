// The support table: ptx_ops.def with, for arithmetic rows, the types each operation accepts.
#include "emulator/emu_cli.h"
#include "emulator/program.h"

static void row_types(ts_text *out, const char *name) {
  static const uint32_t modes[] = {0, EMU_WIDE, EMU_HI, EMU_APPROX, EMU_LEFT, EMU_A_SIGNED, EMU_RZ, EMU_FTZ, EMU_APPROX | EMU_FTZ, EMU_INT | EMU_RZ};
  emu_op op = emu_op_find(name, strlen(name));
  if (op == EMU_OP_COUNT || op == EMU_OP_CVT) return;
  for (unsigned t = 1; t < EMU_TYPE_COUNT; t++) {
    bool any = false;
    for (size_t k = 0; k < sizeof modes / sizeof modes[0]; k++) any |= emu_row(op, (emu_type)t, op == EMU_OP_SLCT ? EMU_S32 : EMU_NOTYPE, modes[k]) != NULL;
    if (any) ts_text_printf(out, " %s", emu_type_name((emu_type)t));
  }
}

static void conversions(ts_text *out) {
  static const uint32_t modes[] = {0, EMU_RN, EMU_RZ, EMU_RN | EMU_INT, EMU_RZ | EMU_INT, EMU_RN | EMU_SATFINITE, EMU_RNA, EMU_SAT, EMU_RZ | EMU_SATFINITE, EMU_RP | EMU_SATFINITE};
  for (unsigned from = 1; from < EMU_TYPE_COUNT; from++) {
    bool first = true;
    for (unsigned to = 1; to < EMU_TYPE_COUNT; to++) {
      bool any = false;
      for (size_t k = 0; k < sizeof modes / sizeof modes[0]; k++) any |= emu_row(EMU_OP_CVT, (emu_type)to, (emu_type)from, modes[k]) != NULL;
      if (!any) continue;
      if (first) ts_text_printf(out, "\n    from %s:", emu_type_name((emu_type)from));
      ts_text_printf(out, " %s", emu_type_name((emu_type)to));
      first = false;
    }
  }
}

void emu_support_print(ts_text *out) {
  ts_text_puts(out, "executed\n");
#define PTX_OP(opcode, decoder, cls, remark)                      \
  ts_text_printf(out, "  %-14s", #opcode);                        \
  row_types(out, #opcode);                                        \
  if (*remark) ts_text_printf(out, "  (%s)", remark);             \
  if (!strcmp(#opcode, "cvt")) conversions(out);                  \
  ts_text_putc(out, '\n');
#include "emulator/ptx_ops.def"
  ts_text_puts(out, "matrix shapes\n");
  size_t n;
  const emu_mma_desc *t = emu_mma_table(&n);
  for (size_t i = 0; i < n; i++)
    ts_text_printf(out, "  %-4s m%un%uk%u %s = %s * %s + %s%s, sm_%u and later\n", t[i].wmma ? "wmma" : "mma", t[i].m, t[i].n, t[i].k, emu_type_name(t[i].dtype),
                   emu_type_name(t[i].atype), emu_type_name(t[i].btype), emu_type_name(t[i].ctype),
                   t[i].op == EMU_MMA_XOR_POPC ? " (xor, popc)" : t[i].op == EMU_MMA_AND_POPC ? " (and, popc)" : "", t[i].min_sm);
  ts_text_puts(out, "refused when a module is loaded\n");
#define PTX_NO(opcode, modifier, reason) ts_text_printf(out, "  %s%s%s: %s\n", #opcode, *modifier ? " with ." : "", modifier, reason);
#include "emulator/ptx_ops.def"
}
