// Scalar operations of apply in all domains and types against plain C; and random portable kernels: text and back, evaluated both
// ways in the prime field, with accumulators taken over the whole reduce axis or cut in pieces by hand.
#include "ir/eval.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static uint64_t state = 1;
static uint32_t rnd(uint32_t n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}

typedef struct fixture {
  ts_arena arena;
  ts_interner names;
  ts_diags diags;
  ir_module *m;
} fixture;

static void begin(fixture *f) {
  ts_arena_init(&f->arena);
  ts_interner_init(&f->names, &f->arena);
  ts_diags_init(&f->diags);
  f->m = ir_module_create(&f->arena, &f->names, &f->diags);
}

static void end(fixture *f) {
  ir_module_destroy(f->m);
  ts_diags_deinit(&f->diags);
  ts_interner_deinit(&f->names);
  ts_arena_deinit(&f->arena);
}

static void show(fixture *f) {
  ts_text t = {0};
  ts_diags_print(&f->diags, &t, false);
  fprintf(stderr, "%s", ts_text_z(&t));
  ts_text_deinit(&t);
}

enum { N = 300 };   // more than a chunk

// z[i] = op(x[i], y[i], w[i]) of types t -> r, in memory as cells (floats) or plain (integers).
static ir_kernel *op_kernel(fixture *f, ir_scalar op, ir_dtype t, ir_dtype r) {
  ir_module *m = f->m;
  ir_kernel *k = ir_kernel_create(m, ir_name(m, "k"), IR_STAGE_P, (ts_loc){0});
  const ir_size *n = ir_size_const(m->sizes, N);
  ts_sym a = ir_name(m, "a");
  unsigned arity = ir_scalar_get(op)->arity;
  ir_dtype in[3] = {op == IR_SCALAR_select ? IR_i1 : t, t, t};
  ir_value *mem[4], *x[3];
  for (unsigned i = 0; i < arity; i++)
    mem[i] = ir_kernel_param(m, k, ir_name(m, "x%u", i), ir_mem_type(m, in[i], 1, &n, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN);
  mem[3] = ir_kernel_param(m, k, ir_name(m, "z"), ir_mem_type(m, r, 1, &n, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_OUT);
  ir_part *p = ir_kernel_part(m, k, IR_FAMILY_ROWS, NULL);
  ts_vec_push(m->arena, &p->axes, ((ir_axis){a, IR_AXIS_PAR, n}));
  ir_builder b = {.module = m, .region = p->finish};
  ir_value *zero = ir_const_int(&b, IR_i64, 0);
  for (unsigned i = 0; i < arity; i++) x[i] = ir_load(&b, mem[i], &zero, &a, NULL, ir_tile_type(m, in[i], 1, &a, &n));
  ir_fn_builder fb;
  ir_fn_begin(&fb, m, arity, in);
  uint32_t node = op == IR_SCALAR_cast   ? ir_fn_cast(&fb, r, 0)
                  : op == IR_SCALAR_bits ? ir_fn_bits(&fb, r, 0)
                                         : ir_fn_op(&fb, op, 0, arity > 1, arity > 2 ? 2 : 0);
  ir_store(&b, mem[3], &zero, &a, ir_apply(&b, ir_fn_end(&fb, 1, &node), arity, x), NULL);
  if (ir_verify_kernel(m, k) != TS_OK) show(f), ck_abort_msg("%s", ir_scalar_get(op)->name);
  return k;
}

static double some_real(ir_dtype t) {
  static const double special[] = {
      0,           -0.0,  1,   -1,  0.5, 1.5, 2.5, -2.5, 1e30, -1e30, 1e-30, (double)INFINITY, -(double)INFINITY,
      (double)NAN, 65504, 3e9, -3e9};
  double v = rnd(3) ? ((double)rnd(2000001) - 1000000) / 100000 : special[rnd(17)];
  return ir_round(t, v);
}

static double exact(ir_scalar op, double a, double b, double c) {
  switch (op) {
    case IR_SCALAR_add: return a + b;
    case IR_SCALAR_sub: return a - b;
    case IR_SCALAR_mul: return a * b;
    case IR_SCALAR_div: return a / b;
    case IR_SCALAR_fma: return fma(a, b, c);
    case IR_SCALAR_neg: return -a;
    case IR_SCALAR_abs: return fabs(a);
    case IR_SCALAR_min: return fmin(a, b);
    case IR_SCALAR_max: return fmax(a, b);
    case IR_SCALAR_eq: return a == b;
    case IR_SCALAR_ne: return a != b;
    case IR_SCALAR_lt: return a < b;
    case IR_SCALAR_le: return a <= b;
    case IR_SCALAR_gt: return a > b;
    case IR_SCALAR_ge: return a >= b;
    case IR_SCALAR_round: return rint(a);
    case IR_SCALAR_floor: return floor(a);
    case IR_SCALAR_exp: return exp(a);
    case IR_SCALAR_exp2: return exp2(a);
    case IR_SCALAR_log: return log(a);
    case IR_SCALAR_log2: return log2(a);
    case IR_SCALAR_sqrt: return sqrt(a);
    case IR_SCALAR_rsqrt: return 1 / sqrt(a);
    case IR_SCALAR_sin: return sin(a);
    case IR_SCALAR_cos: return cos(a);
    case IR_SCALAR_tanh: return tanh(a);
    case IR_SCALAR_erf: return erf(a);
    default: ck_abort_msg("no oracle"); return 0;
  }
}

static bool float_operation(ir_scalar op) {
  return op != IR_SCALAR_rem && op != IR_SCALAR_and && op != IR_SCALAR_or && op != IR_SCALAR_xor && op != IR_SCALAR_shl &&
         op != IR_SCALAR_shr;
}

START_TEST(floats) {
  static const ir_dtype types[] = {IR_f64, IR_f32, IR_f16, IR_bf16};
  for (int o = 0; o < IR_SCALAR_PARAM; o++) {
    ir_scalar op = (ir_scalar)o;
    if (!float_operation(op) || op == IR_SCALAR_select || op == IR_SCALAR_cast || op == IR_SCALAR_bits) continue;
    for (int t = 0; t < 4; t++)
      for (int d = 0; d < 2; d++) {
        fixture f;
        begin(&f);
        bool boolean = ir_scalar_get(op)->rule == IR_RULE_BOOL;
        unsigned arity = ir_scalar_get(op)->arity;
        ir_kernel *k = op_kernel(&f, op, types[t], boolean ? IR_i1 : types[t]);
        ir_cell x[3][N], z[N];
        unsigned char bits[N];
        for (int i = 0; i < 3 * N; i++) x[i / N][i % N].r = some_real(types[t]);
        ir_eval_buffer buf[4];
        for (unsigned i = 0; i < arity; i++) buf[i] = (ir_eval_buffer){x[i], sizeof x[i], true};
        buf[arity] = boolean ? (ir_eval_buffer){bits, sizeof bits, false} : (ir_eval_buffer){z, sizeof z, true};
        ir_eval_options opt = {.domain = d ? IR_DOMAIN_TYPED : IR_DOMAIN_IDEAL};
        ck_assert(ir_eval_kernel(f.m, k, buf, arity + 1, &opt, NULL) == TS_OK);
        for (int i = 0; i < N; i++) {
          double wanted = exact(op, x[0][i].r, x[1][i].r, x[2][i].r), got = boolean ? bits[i / 8] >> (i % 8) & 1 : z[i].r;
          if (op == IR_SCALAR_fma && types[t] == IR_f32 && d)
            wanted = (double)fmaf((float)x[0][i].r, (float)x[1][i].r, (float)x[2][i].r);
          else if (d && !boolean) wanted = ir_round(types[t], wanted);
          ck_assert_msg(got == wanted || (isnan(got) && isnan(wanted)), "%s of %s: %g, wanted %g", ir_scalar_get(op)->name,
                        ir_dtype_name(types[t]), got, wanted);
        }
        end(&f);
      }
  }
}
END_TEST

// Integers through 128-bit arithmetic, so that nothing wraps on the way to the oracle's answer.
static __int128 whole(ir_scalar op, __int128 a, __int128 b) {
  __int128 q;
  switch (op) {
    case IR_SCALAR_add: return a + b;
    case IR_SCALAR_sub: return a - b;
    case IR_SCALAR_mul: return (__int128)((unsigned __int128)a * (unsigned __int128)b);
    case IR_SCALAR_div: q = a / b; return q * b > a ? q - 1 : q;
    case IR_SCALAR_rem: q = a % b; return q < 0 ? q + b : q;
    case IR_SCALAR_neg: return -a;
    case IR_SCALAR_abs: return a < 0 ? -a : a;
    case IR_SCALAR_min: return a < b ? a : b;
    case IR_SCALAR_max: return a > b ? a : b;
    case IR_SCALAR_and: return a & b;
    case IR_SCALAR_or: return a | b;
    case IR_SCALAR_xor: return a ^ b;
    case IR_SCALAR_shl: return (__int128)((unsigned __int128)a << b);
    case IR_SCALAR_shr: return a >> b;
    case IR_SCALAR_eq: return a == b;
    case IR_SCALAR_ne: return a != b;
    case IR_SCALAR_lt: return a < b;
    case IR_SCALAR_le: return a <= b;
    case IR_SCALAR_gt: return a > b;
    default: return a >= b;
  }
}

START_TEST(integers) {
  static const ir_dtype types[] = {IR_i64, IR_u64, IR_i32, IR_u32, IR_i16, IR_u8, IR_i8, IR_u4, IR_i2};
  for (int o = 0; o <= IR_SCALAR_ge; o++) {
    ir_scalar op = (ir_scalar)o;
    if (op == IR_SCALAR_fma) continue;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
      ir_dtype type = types[t];
      unsigned bits = ir_dtype_bits(type), arity = ir_scalar_get(op)->arity;
      bool boolean = ir_scalar_get(op)->rule == IR_RULE_BOOL;
      fixture f;
      begin(&f);
      ir_kernel *k = op_kernel(&f, op, type, boolean ? IR_i1 : type);
      unsigned char raw[2][N * 8] = {{0}}, out[N * 8] = {0};
      int64_t v[2][N];
      for (int i = 0; i < 2 * N; i++) {
        int64_t x = ir_wrap(type, rnd(3) ? (int64_t)rnd(20) - 8 : (int64_t)((uint64_t)rnd(1u << 31) << 33 | rnd(1u << 31)));
        if (i >= N && (op == IR_SCALAR_div || op == IR_SCALAR_rem) && (ir_is_signed(type) ? x <= 0 : x == 0)) x = 1;
        if (i >= N && (op == IR_SCALAR_shl || op == IR_SCALAR_shr)) x = ir_wrap(type, rnd(bits > 4 ? bits : 1));
        v[i / N][i % N] = x;
        for (unsigned b = 0; b < bits; b++) {
          size_t at = (size_t)(i % N) * bits + b;
          raw[i / N][at / 8] |= (unsigned char)(((uint64_t)x >> b & 1) << (at % 8));
        }
      }
      ir_eval_buffer buf[3] = {{raw[0], sizeof raw[0], false}, {raw[1], sizeof raw[1], false}, {out, sizeof out, false}};
      if (arity == 1) buf[1] = buf[2];
      ir_eval_options opt = {.domain = (ir_domain)rnd(3)};
      if (ir_eval_kernel(f.m, k, buf, arity + 1, &opt, NULL) != TS_OK)
        show(&f), ck_abort_msg("%s of %s", ir_scalar_get(op)->name, ir_dtype_name(type));
      ir_dtype result = boolean ? IR_i1 : type;
      for (int i = 0; i < N; i++) {
        uint64_t got = 0;
        for (unsigned b = 0; b < ir_dtype_bits(result); b++) {
          size_t at = (size_t)i * ir_dtype_bits(result) + b;
          got |= (uint64_t)(out[at / 8] >> (at % 8) & 1) << b;
        }
        __int128 x = type == IR_u64 ? (__int128)(uint64_t)v[0][i] : v[0][i],
                 y = type == IR_u64 ? (__int128)(uint64_t)v[1][i] : v[1][i];
        int64_t wanted = ir_wrap(result, (int64_t)whole(op, x, y));
        ck_assert_msg(ir_int_of_bits(result, got) == wanted, "%s of %s: %lld %lld: %lld, wanted %lld", ir_scalar_get(op)->name,
                      ir_dtype_name(type), (long long)v[0][i], (long long)v[1][i], (long long)ir_int_of_bits(result, got),
                      (long long)wanted);
      }
      end(&f);
    }
  }
}
END_TEST

START_TEST(conversions) {
  static const struct { ir_dtype from, to; double in, out;
  } all[] = {
      {IR_f32, IR_i32, 2.9, 2},
      {IR_f32, IR_i32, -2.9, -2},
      {IR_f32, IR_i32, 3e9, 2147483647},
      {IR_f32, IR_i32, -3e9, -2147483648.0},
      {IR_f32, IR_u8, 300, 255},
      {IR_f32, IR_u8, -1, 0},
      {IR_f32, IR_i8, -200, -128},
      {IR_f32, IR_i32, (double)NAN, 0},
      {IR_f32, IR_f16, 65519, 65504},
      {IR_f32, IR_f16, 65520, (double)INFINITY},
      {IR_f32, IR_bf16, 1.00390625, 1},
      {IR_i32, IR_f32, 16777217, 16777216},
      {IR_i32, IR_i8, 200, -56},
      {IR_i8, IR_u8, -1, 255},
      {IR_u8, IR_i32, 255, 255},
      {IR_i1, IR_i32, 1, 1},
      {IR_i32, IR_i1, 3, 1},
      {IR_i64, IR_f64, -5, -5},
      {IR_f32, IR_i64, 1e30, 9223372036854775807.0},
  };
  for (size_t c = 0; c < sizeof all / sizeof *all; c++) {
    fixture f;
    begin(&f);
    ir_kernel *k = op_kernel(&f, IR_SCALAR_cast, all[c].from, all[c].to);
    ir_cell x[N] = {{0}}, z[N] = {{0}};
    bool in = ir_is_float(all[c].from), out = ir_is_float(all[c].to);
    if (in) x[0].r = ir_round(all[c].from, all[c].in);
    else x[0].i = (int64_t)all[c].in;
    ir_eval_buffer buf[2] = {{x, sizeof x, in}, {z, sizeof z, out}};
    ir_eval_options opt = {.domain = IR_DOMAIN_TYPED};
    ck_assert(ir_eval_kernel(f.m, k, buf, 2, &opt, NULL) == TS_OK);
    double got = out ? z[0].r : (double)ir_int_of_bits(all[c].to, z[0].p);
    ck_assert_msg(got == all[c].out, "%s(%g) as %s: %g, wanted %g", ir_dtype_name(all[c].from), all[c].in,
                  ir_dtype_name(all[c].to), got, all[c].out);
    end(&f);
  }
}
END_TEST

// ---- random portable kernels ---------------------------------------------------------------------------------------------
typedef struct grown {
  fixture f;
  ir_builder b;
  ir_value *tiles[40];
  unsigned count;
  ts_sym axes[4];
  const ir_size *size[4];
} grown;

static ir_value *pick(grown *g) { return g->tiles[rnd(g->count)]; }
static void keep(grown *g, ir_value *v) {
  if (g->count < 40) g->tiles[g->count++] = v;
}

// One more op on float tiles, of those that the prime field knows.
static void grow(grown *g) {
  static const ir_scalar binary[] = {IR_SCALAR_add, IR_SCALAR_sub, IR_SCALAR_mul, IR_SCALAR_max},
                         unary[] = {IR_SCALAR_neg, IR_SCALAR_exp, IR_SCALAR_tanh, IR_SCALAR_rsqrt};
  ir_value *x = pick(g), *y = pick(g);
  const ir_type *t = x->type;
  switch (rnd(6)) {
    case 0: keep(g, ir_apply_op(&g->b, binary[rnd(4)], x, y, NULL)); return;
    case 1: keep(g, ir_apply_op(&g->b, unary[rnd(4)], x, NULL, NULL)); return;
    case 2:
      if (t->rank) keep(g, ir_reduce(&g->b, x, "add", 1, &t->axes[rnd(t->rank)]));
      return;
    case 3: {   // dot over an axis both have
      for (unsigned i = 0; i < t->rank; i++) {
        if (ir_type_axis(y->type, t->axes[i]) < 0) continue;
        const ir_type *all = ir_broadcast_type(g->f.m, IR_f32, 2, (ir_value *[]){x, y});
        ts_sym axes[8];
        const ir_size *shape[8];
        unsigned rank = 0;
        for (unsigned d = 0; d < all->rank; d++)
          if (all->axes[d] != t->axes[i]) axes[rank] = all->axes[d], shape[rank++] = all->shape[d];
        keep(g, ir_dot(&g->b, x, y, NULL, 1, &t->axes[i], ir_tile_type(g->f.m, IR_f32, rank, axes, shape)));
        return;
      }
      return;
    }
    case 4: {   // slice along an axis, then join the pieces the other way round
      if (!t->rank) return;
      unsigned d = rnd(t->rank);
      int64_t n = t->shape[d]->value, cut = n > 1 ? 1 + rnd((uint32_t)n - 1) : 0;
      if (!cut) return;
      ir_value *part[2];
      for (int i = 0; i < 2; i++) {
        const ir_size *shape[8];
        for (unsigned k = 0; k < t->rank; k++) shape[k] = k == d ? ir_size_const(g->f.m->sizes, i ? n - cut : cut) : t->shape[k];
        const ir_type *pt = ir_tile_type(g->f.m, IR_f32, t->rank, t->axes, shape);
        ir_op *op = ir_build(&g->b, IR_OP_relabel, 1, &x, 1, &pt);
        ir_set_sym(&g->b, op, "kind", ir_name(g->f.m, "slice"));
        ir_set_sym(&g->b, op, "axis", t->axes[d]);
        ir_set_int(&g->b, op, "at", i ? cut : 0);
        ir_set_int(&g->b, op, "count", i ? n - cut : cut);
        part[!i] = op->results[0];
      }
      ir_op *join = ir_build(&g->b, IR_OP_relabel, 2, part, 1, &t);
      ir_set_sym(&g->b, join, "kind", ir_name(g->f.m, "concat"));
      ir_set_sym(&g->b, join, "axis", t->axes[d]);
      keep(g, join->results[0]);
      return;
    }
    default: {
      if (!t->rank) return;
      ir_op *op = ir_build(&g->b, IR_OP_scan, 1, &x, 1, &t);
      ir_set_sym(&g->b, op, "over", t->axes[rnd(t->rank)]);
      ir_set_sym(&g->b, op, "op", ir_name(g->f.m, "add"));
      keep(g, op->results[0]);
    }
  }
}

static void evaluate(fixture *f, const ir_kernel *k, int64_t n[3], ir_cell *out, int64_t count) {
  ir_cell *in[3] = {NULL};
  ir_eval_buffer buf[4];
  for (int i = 0; i < 3; i++) {
    in[i] = calloc((size_t)n[i] + 1, sizeof **in);
    for (int64_t e = 0; e < n[i]; e++) in[i][e].p = ir_modp_of_real(((double)((e * 37 + i * 11) % 101) - 50) / 8);
    buf[i] = (ir_eval_buffer){in[i], (size_t)n[i] * 8, true};
  }
  buf[3] = (ir_eval_buffer){out, (size_t)count * 8, true};
  ir_eval_options o = {.domain = IR_DOMAIN_MODP};
  if (ir_eval_kernel(f->m, k, buf, 4, &o, NULL) != TS_OK) show(f), ck_abort_msg("evaluation");
  for (int i = 0; i < 3; i++) free(in[i]);
}

START_TEST(random_kernels) {
  uint64_t seed = state;
  for (int round = 0; round < 150; round++) {
    state = seed + (uint64_t)round * 977;
    grown g = {0};
    fixture *f = &g.f, other;
    begin(f);
    ir_module *m = f->m;
    int64_t n[3];
    ir_kernel *k = ir_kernel_create(m, ir_name(m, "random"), IR_STAGE_P, (ts_loc){0});
    ir_part *p = ir_kernel_part(m, k, IR_FAMILY_ROWS, NULL);
    for (int i = 0; i < 4; i++) {
      g.axes[i] = ir_name(m, "%c", 'a' + i);
      g.size[i] = ir_size_const(m->sizes, 1 + rnd(7));
      ts_vec_push(m->arena, &p->axes, ((ir_axis){g.axes[i], IR_AXIS_PAR, g.size[i]}));
    }
    ir_value *mem[4];
    g.b = (ir_builder){.module = m, .region = p->finish};
    for (int i = 0; i < 3; i++) {
      unsigned rank = 1 + rnd(3), first = rnd(4);
      const ir_size *shape[4];
      ts_sym axes[4];
      n[i] = 1;
      for (unsigned d = 0; d < rank; d++)
        axes[d] = g.axes[(first + d) % 4], shape[d] = g.size[(first + d) % 4], n[i] *= shape[d]->value;
      mem[i] = ir_kernel_param(m, k, ir_name(m, "m%d", i), ir_mem_type(m, IR_f32, rank, shape, NULL, IR_SPACE_GLOBAL, NULL),
                               IR_PARAM_IN);
      ir_value *zero = ir_const_int(&g.b, IR_i64, 0), *index[4] = {zero, zero, zero, zero};
      keep(&g, ir_load(&g.b, mem[i], index, axes, NULL, ir_tile_type(m, IR_f32, rank, axes, shape)));
    }
    for (unsigned i = 0, ops = 3 + rnd(20); i < ops; i++) grow(&g);
    ir_value *last = g.tiles[g.count - 1], *zero = ir_const_int(&g.b, IR_i64, 0),
             *index[8] = {zero, zero, zero, zero, zero, zero, zero, zero};
    const ir_type *t = last->type;
    mem[3] = ir_kernel_param(m, k, ir_name(m, "out"), ir_mem_type(m, IR_f32, t->rank, t->shape, NULL, IR_SPACE_GLOBAL, NULL),
                             IR_PARAM_OUT);
    ir_store(&g.b, mem[3], index, t->axes, last, NULL);
    if (ir_verify_kernel(m, k) != TS_OK) show(f), ck_abort_msg("seed %llu", (unsigned long long)seed);
    ts_text text = {0}, again = {0};
    ir_print_kernel(m, k, false, &text);
    begin(&other);
    if (ir_parse_module(other.m, ts_intern_z(&other.names, "t"), ts_text_str(&text)) != TS_OK)
      show(&other), ck_abort_msg("parse");
    if (ir_verify_module(other.m) != TS_OK) show(&other), ck_abort_msg("verify");
    ir_print_kernel(other.m, other.m->kernels.data[0], false, &again);
    ck_assert(ts_str_eq(ts_text_str(&text), ts_text_str(&again)));
    ck_assert(ir_kernel_hash(m, k) == ir_kernel_hash(other.m, other.m->kernels.data[0]));
    int64_t count = ir_type_elements(t);
    ir_cell *x = calloc((size_t)count + 1, sizeof *x), *y = calloc((size_t)count + 1, sizeof *y);
    evaluate(f, k, n, x, count);
    evaluate(&other, other.m->kernels.data[0], n, y, count);
    ck_assert(memcmp(x, y, (size_t)count * 8) == 0);
    free(x), free(y);
    ts_text_deinit(&text);
    ts_text_deinit(&again);
    end(&other);
    end(f);
  }
}
END_TEST

int main(void) {
  uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 3;
  printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  state = seed;
  Suite *s = suite_create("ir_eval_scalar");
  TCase *c = tcase_create("eval");
  tcase_add_test(c, floats);
  tcase_add_test(c, integers);
  tcase_add_test(c, conversions);
  tcase_add_test(c, random_kernels);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
