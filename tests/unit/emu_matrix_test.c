// Matrix instructions from PTX text: every shape and type of mma.sync (fragments filled through the maps), of wmma (loaded from
// and stored to matrices of both layouts, so that only the plain product matters), ldmatrix and stmatrix by the ISA's definition.
#include "arith_matrix.h"
#include "emu_harness.h"

static unsigned target_of(const emu_mma_desc *e) { return e->min_sm < 80 ? 80 : e->min_sm; }
static const char *head_of(unsigned sm) {
  return sm == 89   ? ".version 8.7\n.target sm_89\n"
         : sm == 90 ? ".version 8.7\n.target sm_90\n"
                    : ".version 8.7\n.target sm_80\n";
}
static const char *op_of(const emu_mma_desc *e) {
  return e->op == EMU_MMA_XOR_POPC ? ".xor.popc" : e->op == EMU_MMA_AND_POPC ? ".and.popc" : "";
}
static double product_of(const emu_mma_desc *e, double x, double y) { return e->op == EMU_MMA_XOR_POPC ? x != y : x * y; }

static void list_registers(ts_text *t, const char *prefix, unsigned n) {
  ts_text_printf(t, "{");
  for (unsigned i = 0; i < n; i++) ts_text_printf(t, "%s%s%u", i ? ", " : "", prefix, i);
  ts_text_printf(t, "}");
}
static void run(const ts_text *t, unsigned sm, const char *what, rig *r) {
  const char *out = getenv("TESSERA_PTX_OUT");
  if (out) {
    static unsigned number;
    char path[300];
    snprintf(path, sizeof path, "%s/matrix_%03u.ptx", out, number++);
    FILE *f = fopen(path, "w");
    if (f) {
      fputs(ts_text_z(t), f);
      fclose(f);
    }
  }
  rig_open_text(r, ts_text_str(t), what, sm);
}

// --- mma.sync ------------------------------------------------------------------------------------------------------------------
// The kernel: fragment registers from [register][lane] arrays, 8 bytes each.
static void mma_kernel(ts_text *t, const emu_mma_desc *e, const char *layouts) {
  unsigned n[4] = {emu_mma_registers(e, EMU_FRAG_A, e->atype), emu_mma_registers(e, EMU_FRAG_B, e->btype),
                   emu_mma_registers(e, EMU_FRAG_C, e->ctype), emu_mma_registers(e, EMU_FRAG_C, e->dtype)};
  bool wide = e->atype == EMU_F64;
  ts_text_printf(t, "%s.address_size 64\n.visible .entry f(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)\n{\n",
                 head_of(target_of(e)));
  ts_text_printf(t, "  .reg .b%u %%a<16>, %%b<16>, %%c<16>, %%d<16>;\n  .reg .b32 %%t;\n  .reg .b64 %%o, %%p;\n", wide ? 64 : 32);
  ts_text_puts(t, "  mov.u32 %t, %tid.x;\n  mul.wide.u32 %o, %t, 8;\n");
  for (int f = 0; f < 3; f++) {
    ts_text_printf(t, "  ld.param.u64 %%p, [%c];\n  add.u64 %%p, %%p, %%o;\n", "abc"[f]);
    for (unsigned i = 0; i < n[f]; i++)
      ts_text_printf(t, "  ld.global.b%u %%%c%u, [%%p+%u];\n", wide ? 64 : 32, "abc"[f], i, 256 * i);
  }
  ts_text_printf(t, "  mma.sync.aligned.m%un%uk%u%s.%s.%s.%s.%s%s ", e->m, e->n, e->k, layouts, emu_type_name(e->dtype),
                 emu_type_name(e->atype), emu_type_name(e->btype), emu_type_name(e->ctype), op_of(e));
  static const char *const prefixes[] = {"%d", "%a", "%b", "%c"};
  static const unsigned order[] = {3, 0, 1, 2};
  for (int f = 0; f < 4; f++) {
    if (f) ts_text_printf(t, ", ");
    list_registers(t, prefixes[f], n[order[f]]);
  }
  ts_text_puts(t, ";\n  ld.param.u64 %p, [d];\n  add.u64 %p, %p, %o;\n");
  for (unsigned i = 0; i < n[3]; i++) ts_text_printf(t, "  st.global.b%u [%%p+%u], %%d%u;\n", wide ? 64 : 32, 256 * i, i);
  ts_text_puts(t, "  ret;\n}\n");
}
// Register rows in memory: a word every 8 bytes.
static void spread(uint64_t (*rows)[32], bool wide) {
  if (wide) return;
  for (int r = 0; r < 16; r++)
    for (int l = 31; l >= 0; l--) rows[r][l] = word_row(rows, (unsigned)r)[l];
}
static void gather_words(uint64_t (*rows)[32], bool wide) {
  if (wide) return;
  for (int r = 0; r < 16; r++)
    for (int l = 0; l < 32; l++) word_row(rows, (unsigned)r)[l] = (uint32_t)rows[r][l];
}

START_TEST(mma_shapes) {
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  for (size_t q = 0; q < count; q++) {
    const emu_mma_desc *e = &table[q];
    if (e->wmma || (e->m == 8 && e->k == 4 && e->atype == EMU_F16)) continue;
    static uint64_t a[32 * 256], b[32 * 256], c[1024], d[1024], rows[4][16][32];
    static double fa[32 * 256], fb[32 * 256];
    memset(rows, 0, sizeof rows);
    for (unsigned i = 0; i < e->m * e->k; i++) a[i] = encode(e->atype, fa[i] = small(e->atype));
    for (unsigned i = 0; i < e->k * e->n; i++) b[i] = encode(e->btype, fb[i] = small(e->btype));
    for (unsigned i = 0; i < e->m * e->n; i++) c[i] = encode(e->ctype, (int)(rnd() % 17) - 8);
    put(e, EMU_FRAG_A, e->atype, rows[0], e->k, a);
    put(e, EMU_FRAG_B, e->btype, rows[1], e->n, b);
    put(e, EMU_FRAG_C, e->ctype, rows[2], e->n, c);
    bool wide = e->atype == EMU_F64;
    for (int f = 0; f < 3; f++) spread(rows[f], wide);
    ts_text t = {0};
    mma_kernel(&t, e, ".row.col");
    rig r;
    run(&t, target_of(e), "mma.ptx", &r);
    emu_addr p[4];
    for (int f = 0; f < 4; f++) p[f] = rig_buffer(&r, rows[f], sizeof rows[f]);
    RUN(&r, "f", (dims){1}, (dims){32}, 0, p[0], p[1], p[2], p[3]);
    ck_assert_int_eq(emu_read(r.c, rows[3], p[3], sizeof rows[3]), TS_OK);
    gather_words(rows[3], wide);
    get(e, e->dtype, rows[3], e->n, d);
    for (unsigned i = 0; i < e->m; i++)
      for (unsigned j = 0; j < e->n; j++) {
        double sum = decode(e->ctype, c[i * e->n + j]);
        for (unsigned k = 0; k < e->k; k++) sum += product_of(e, fa[i * e->k + k], fb[k * e->n + j]);
        if (decode(e->dtype, d[i * e->n + j]) != sum)
          ck_abort_msg("m%un%uk%u %s.%s.%s (%u,%u): %g, expected %g", e->m, e->n, e->k, emu_type_name(e->dtype),
                       emu_type_name(e->atype), emu_type_name(e->btype), i, j, decode(e->dtype, d[i * e->n + j]), sum);
      }
    rig_close(&r);
    ts_text_deinit(&t);
  }
}
END_TEST

// --- wmma ----------------------------------------------------------------------------------------------------------------------
typedef struct matrix { unsigned rows, cols, stride; bool col; emu_type t; } matrix;   // stride in elements
static void store_element(uint8_t *bytes, const matrix *m, unsigned i, unsigned j, uint64_t v) {
  unsigned bits = emu_type_bits(m->t), at = (m->col ? j * m->stride + i : i * m->stride + j) * bits;
  if (bits < 8) bytes[at / 8] |= (uint8_t)(v << (at % 8));
  else memcpy(bytes + at / 8, &v, bits / 8);
}
static uint64_t load_element(const uint8_t *bytes, const matrix *m, unsigned i, unsigned j) {
  unsigned bits = emu_type_bits(m->t), at = (m->col ? j * m->stride + i : i * m->stride + j) * bits;
  uint64_t v = 0;
  memcpy(&v, bytes + at / 8, bits / 8);
  return v;
}
static void wmma_kernel(ts_text *t, const emu_mma_desc *e, const matrix m[4]) {
  unsigned n[4] = {emu_mma_registers(e, EMU_FRAG_A, e->atype), emu_mma_registers(e, EMU_FRAG_B, e->btype),
                   emu_mma_registers(e, EMU_FRAG_C, e->ctype), emu_mma_registers(e, EMU_FRAG_C, e->dtype)};
  bool wide = e->atype == EMU_F64, bits = e->op != EMU_MMA_MULADD;
  char shape[32];
  snprintf(shape, sizeof shape, "m%un%uk%u", e->m, e->n, e->k);
  ts_text_printf(t, "%s.address_size 64\n.visible .entry f(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)\n{\n",
                 head_of(target_of(e)));
  ts_text_printf(t, "  .reg .b%u %%a<16>, %%b<16>, %%c<16>, %%d<16>;\n  .reg .b32 %%s;\n  .reg .b64 %%p;\n", wide ? 64 : 32);
  static const char *const prefixes[] = {"%a", "%b", "%c", "%d"};
  for (int f = 0; f < 3; f++) {
    ts_text_printf(t, "  ld.param.u64 %%p, [%c];\n  mov.u32 %%s, %u;\n", "abc"[f], m[f].stride);
    ts_text_printf(t, "  wmma.load.%c.sync.aligned.%s.%s.global.%s ", "abc"[f], m[f].col ? "col" : "row", shape,
                   emu_type_name(m[f].t));
    list_registers(t, prefixes[f], n[f]);
    ts_text_printf(t, ", [%%p], %%s;\n");
  }
  ts_text_printf(t, "  wmma.mma%s.sync.aligned.%s.%s.%s.%s", op_of(e), m[0].col ? "col" : "row", m[1].col ? "col" : "row", shape,
                 emu_type_name(e->dtype));
  if (e->atype != EMU_F16) ts_text_printf(t, ".%s.%s", emu_type_name(e->atype), emu_type_name(e->btype));
  ts_text_printf(t, ".%s ", emu_type_name(e->ctype));
  (void)bits;
  static const unsigned order[] = {3, 0, 1, 2};
  for (int f = 0; f < 4; f++) {
    if (f) ts_text_printf(t, ", ");
    list_registers(t, prefixes[order[f]], n[order[f]]);
  }
  ts_text_printf(t, ";\n  ld.param.u64 %%p, [d];\n  mov.u32 %%s, %u;\n  wmma.store.d.sync.aligned.%s.%s.global.%s [%%p], ",
                 m[3].stride, m[3].col ? "col" : "row", shape, emu_type_name(e->dtype));
  list_registers(t, "%d", n[3]);
  ts_text_puts(t, ", %s;\n  ret;\n}\n");
}

START_TEST(wmma_shapes) {
  size_t count;
  const emu_mma_desc *table = emu_mma_table(&count);
  for (size_t q = 0; q < count; q++)
    for (unsigned layouts = 0; layouts < 4; layouts++) {
      const emu_mma_desc *e = &table[q];
      if (!e->wmma) continue;
      bool narrow = emu_type_bits(e->atype) < 8;          // sub-byte: row.col only
      if (narrow && layouts) continue;
      bool col[4] = {!narrow && (layouts & 1), narrow || (layouts & 2), layouts == 1, layouts == 2};
      matrix m[4] = {{e->m, e->k, 0, col[0], e->atype},
                     {e->k, e->n, 0, col[1], e->btype},
                     {e->m, e->n, 0, col[2], e->ctype},
                     {e->m, e->n, 0, col[3], e->dtype}};
      static uint8_t bytes[4][1 << 16];
      static double v[3][32 * 256];
      memset(bytes, 0, sizeof bytes);
      for (int f = 0; f < 4; f++) {
        unsigned step = 256 / emu_type_bits(m[f].t);      // strides are multiples of 32 bytes here
        m[f].stride = ((m[f].col ? m[f].rows : m[f].cols) + step - 1) / step * step + (narrow ? 0 : step);
        for (unsigned i = 0; f < 3 && i < m[f].rows; i++)
          for (unsigned j = 0; j < m[f].cols; j++) {
            double x = v[f][i * m[f].cols + j] = f == 2 ? (int)(rnd() % 17) - 8 : small(m[f].t);
            store_element(bytes[f], &m[f], i, j, encode(m[f].t, x));
          }
      }
      ts_text t = {0};
      wmma_kernel(&t, e, m);
      rig r;
      run(&t, target_of(e), "wmma.ptx", &r);
      emu_addr p[4];
      for (int f = 0; f < 4; f++) p[f] = rig_buffer(&r, bytes[f], sizeof bytes[f]);
      RUN(&r, "f", (dims){1}, (dims){32}, 0, p[0], p[1], p[2], p[3]);
      ck_assert_int_eq(emu_read(r.c, bytes[3], p[3], sizeof bytes[3]), TS_OK);
      for (unsigned i = 0; i < e->m; i++)
        for (unsigned j = 0; j < e->n; j++) {
          double sum = v[2][i * e->n + j], got = decode(e->dtype, load_element(bytes[3], &m[3], i, j));
          for (unsigned k = 0; k < e->k; k++) sum += product_of(e, v[0][i * e->k + k], v[1][k * e->n + j]);
          if (got != sum)
            ck_abort_msg("wmma m%un%uk%u %s.%s layouts %u (%u,%u): %g, expected %g", e->m, e->n, e->k, emu_type_name(e->dtype),
                         emu_type_name(e->atype), layouts, i, j, got, sum);
        }
      rig_close(&r);
      ts_text_deinit(&t);
    }
}
END_TEST

// --- ldmatrix, stmatrix --------------------------------------------------------------------------------------------------------
// ------------------------------------------------------------------------------------------------------------------------ Matrix
// i: eight rows of 16 bytes; row r of matrix i is where lane 8i + r points. Rows lie scattered (stride 48 bytes, reversed).
static void matrix_rows(ts_text *t, unsigned n, bool trans, bool store) {
  ts_text_printf(t,
                 "%s.address_size 64\n.visible .entry f(.param .u64 in, .param .u64 out)\n{\n  .shared .align 16 .b8 s[2048];\n",
                 head_of(store ? 90 : 80));
  ts_text_puts(t,
               "  .reg .b32 %r<4>, %v<4>, %w, %t, %b;\n  .reg .b64 %p, %q, %o;\n  .reg .pred %c;\n  mov.u32 %t, %tid.x;\n  "
               "mul.wide.u32 %o, %t, 4;\n");
  ts_text_puts(t,
               "  ld.param.u64 %p, [in];\n  add.u64 %p, %p, %o;\n  ld.param.u64 %q, [out];\n  add.u64 %q, %q, %o;\n  mov.u32 %b, "
               "s;\n  shl.b32 %w, %t, 2;\n  add.u32 %w, %w, %b;\n");
  if (!store)
    for (unsigned i = 0; i < 16; i++)
      ts_text_printf(t, "  ld.global.b32 %%r0, [%%p+%u];\n  st.shared.b32 [%%w+%u], %%r0;\n", 128 * i, 128 * i);
  else {
    for (unsigned i = 0; i < 16; i++) ts_text_printf(t, "  mov.u32 %%r0, 0;\n  st.shared.b32 [%%w+%u], %%r0;\n", 128 * i);
    for (unsigned i = 0; i < n; i++) ts_text_printf(t, "  ld.global.b32 %%v%u, [%%p+%u];\n", i, 128 * i);
  }
  ts_text_puts(t, "  bar.sync 0;\n  sub.u32 %r1, 31, %t;\n  mad.lo.u32 %r1, %r1, 48, %b;\n");
  ts_text_printf(t, "  %s.sync.aligned.m8n8.x%u%s.shared.b16 ", store ? "stmatrix" : "ldmatrix", n, trans ? ".trans" : "");
  if (store) ts_text_printf(t, "[%%r1], ");
  list_registers(t, "%v", n);
  ts_text_puts(t, store ? ";\n  bar.sync 0;\n" : ", [%r1];\n");
  if (store)
    for (unsigned i = 0; i < 16; i++)
      ts_text_printf(t, "  ld.shared.b32 %%r0, [%%w+%u];\n  st.global.b32 [%%q+%u], %%r0;\n", 128 * i, 128 * i);
  else for (unsigned i = 0; i < n; i++) ts_text_printf(t, "  st.global.b32 [%%q+%u], %%v%u;\n", 128 * i, i);
  ts_text_puts(t, "  ret;\n}\n");
}
START_TEST(matrix_loads_and_stores) {
  for (unsigned k = 0; k < 12; k++) {
    unsigned n = 1u << (k % 3);
    bool trans = k / 3 & 1, store = k >= 6;
    ts_text t = {0};
    matrix_rows(&t, n, trans, store);
    rig r;
    run(&t, store ? 90 : 80, "rows.ptx", &r);
    static uint16_t in[1024], out[1024], want[1024];
    memset(want, 0, sizeof want);
    for (int i = 0; i < 1024; i++) in[i] = (uint16_t)rnd();
    emu_addr p = rig_buffer(&r, in, sizeof in), o = rig_zeros(&r, sizeof out);
    RUN(&r, "f", (dims){1}, (dims){32}, 0, p, o);
    ck_assert_int_eq(emu_read(r.c, out, o, sizeof out), TS_OK);
    for (unsigned i = 0; i < n; i++)
      for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned h = 0; h < 2; h++) {
          unsigned row = trans ? lane % 4 * 2 + h : lane / 4, col = trans ? lane / 4 : lane % 4 * 2 + h;
          unsigned shared = (31 - (8 * i + row)) * 24 + col, fragment = i * 64 + lane * 2 + h;   // in 16-bit units
          want[store ? shared : fragment] = in[store ? fragment : shared];
        }
    for (unsigned i = 0; i < (store ? 1024 : n * 64); i++)
      if (out[i] != want[i])
        ck_abort_msg("%s x%u%s: element %u is %04x, expected %04x", store ? "stmatrix" : "ldmatrix", n, trans ? " trans" : "", i,
                     out[i], want[i]);
    rig_close(&r);
    ts_text_deinit(&t);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emu_matrix");
  TCase *t = tcase_create("matrix");
  tcase_add_test(t, mma_shapes);
  tcase_add_test(t, wmma_shapes);
  tcase_add_test(t, matrix_loads_and_stores);
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
