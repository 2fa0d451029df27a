// The spec language: loading small specs and files, every kind of error at its place, damaged texts, and real models where present.
#include "frontend/frontend.h"
#include "frontend/expr.h"
#include "passes/lower.h"
#include "tests/support/gguf_writer.h"

#include <check.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;
static uint64_t rnd(void) {
  uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static char folder[64];
static ts_arena arena;
static ts_interner names;
static ts_diags diags;

static void fresh(void) {
  ts_arena_init(&arena);
  ts_interner_init(&names, &arena);
  ts_diags_init(&diags);
}
static void done(void) {
  ts_diags_deinit(&diags);
  ts_interner_deinit(&names);
  ts_arena_deinit(&arena);
}
static void setup(void) {
  const char *s = getenv("TESSERA_SEED");
  state = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL);
  fprintf(stderr, "TESSERA_SEED=%llu\n", (unsigned long long)state);
  strcpy(folder, "/tmp/tessera-spec-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  fresh();
}
static void teardown(void) {
  done();
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  ck_assert_int_eq(system(command), 0);
}

static const char *write_file(const char *name, const void *data, size_t size) {
  const char *path = ts_path_join(&arena, folder, name);
  FILE *f = fopen(path, "wb");
  ck_assert_ptr_nonnull(f);
  ck_assert_uint_eq(fwrite(data, 1, size, f), size);
  fclose(f);
  return path;
}
static const char *write_text(const char *name, const char *text) { return write_file(name, text, strlen(text)); }

static void show(void) {
  ts_text t = {0};
  ts_diags_print(&diags, &t, false);
  fputs(ts_text_z(&t), stderr);
  ts_text_deinit(&t);
}

static const fe_options RANDOM = {.random_weights = true, .seed = 1};

// A small decoder, with everything that error tests want to spoil.
static const char BASE[] =
  "tessera: 1\n"                                                          // 1
  "model: tiny\n"                                                         // 2
  "params:\n"                                                             // 3
  "  layers, heads: int = 2\n"                                            // 4
  "  dim: int = 24\n"                                                     // 5
  "  kv_heads: int = heads\n"                                             // 6
  "  head_dim: int = dim / heads\n"                                       // 7
  "  vocab: int = 50\n"                                                   // 8
  "  eps: real = 1e-5\n"                                                  // 9
  "  pairs: adjacent | half = half\n"                                     // 10
  "  act: none | silu | gelu = silu\n"                                    // 11
  "dims:\n"                                                               // 12
  "  batch: 1 .. 3\n"                                                     // 13
  "  seq: 1 .. 40 per batch\n"                                            // 14
  "weights:\n"                                                            // 15
  "  embed: float[vocab, dim]\n"                                          // 16
  "  norm: float[dim]\n"                                                  // 17
  "  head: float[vocab, dim] else embed\n"                                // 18
  "states:\n"                                                             // 19
  "  kv: {list: batch, length: 0 .. 40, page: 16, k: 'float[layers, kv_heads, head_dim]', v: 'float[layers, kv_heads, head_dim]'}\n"   // 20
  "modules:\n"                                                            // 21
  "  layer:\n"                                                            // 22
  "    index: l\n"                                                        // 23
  "    inputs: {x: 'float[batch, seq, dim]', pos: 'i32[batch, seq]'}\n"   // 24
  "    weights:\n"                                                        // 25
  "      norm1: float[dim]\n"                                             // 26
  "      wq, wk, wv: float[dim, dim]\n"                                   // 27
  "      bq: float[dim] optional\n"                                       // 28
  "    graph:\n"                                                          // 29
  "      - h: rms_norm(x, norm1, eps)\n"                                  // 30
  "      - q: reshape(linear(h, wq, bq), [batch, seq, heads, head_dim])\n"   // 31
  "      - k: reshape(linear(h, wk), [batch, seq, heads, head_dim])\n"    // 32
  "      - v: reshape(linear(h, wv), [batch, seq, heads, head_dim])\n"    // 33
  "      - append(kv, l, k=rope(k, pos, 10000, pairs), v=v)\n"            // 34
  "      - a: attend(rope(q, pos, 10000, pairs), kv, l, mask=causal, scale=head_dim ** -0.5)\n"   // 35
  "      - z: x + act(reshape(a, [batch, seq, dim]))\n"                   // 36
  "    output: z\n"                                                       // 37
  "functions:\n"                                                          // 38
  "  prefill:\n"                                                          // 39
  "    inputs:\n"                                                         // 40
  "      tokens: i32[batch, seq]\n"                                       // 41
  "    graph:\n"                                                          // 42
  "      - y: repeat(layer, layers, x=gather(embed, tokens), pos=positions(kv, seq))\n"   // 43
  "    outputs:\n"                                                        // 44
  "      logits: f32[batch, vocab] = linear(rms_norm(last(y, seq), norm, eps), head)\n"   // 45
  "  decode: {like: prefill, set: {seq: 1}}\n"                            // 46
  "compile:\n"                                                            // 47
  "  targets: [host]\n"                                                   // 48
  "  float: {host: f32, cuda: f16}\n"                                     // 49
  "  activations: exact\n"                                                // 50
  "bind:\n"                                                               // 51
  "  g:\n"                                                                // 52
  "    format: gguf\n"                                                    // 53
  "    when: general.architecture == \"tiny\"\n"                          // 54
  "    params: {layers: tiny.layers, heads: tiny.heads, eps: tiny.eps, pairs: = adjacent}\n"   // 55
  "    expect: {tiny.dim: dim}\n"                                         // 56
  "    tensors: {embed: tok, norm: norm, head: out, layer.norm1: blk.$l.n, layer.wq: blk.$l.q, layer.wk: blk.$l.k, layer.wv: 'blk.$l.v[0:dim]'}\n"   // 57
  "    ignore: [\"extra.*\"]\n";                                          // 58

static const char *replace(const char *text, const char *from, const char *to) {
  const char *at = strstr(text, from);
  ck_assert_msg(at, "'%s' is not in the base", from);
  return ts_arena_printf(&arena, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static ts_status load(const char *path, const fe_options *o, fe_model **out) {
  ts_status s = fe_load(&arena, &names, &diags, path, o, out);
  ck_assert_int_eq(s != TS_OK, *out == NULL);
  ck_assert_int_eq(s != TS_OK, diags.errors > 0);
  return s;
}

static fe_model *load_ok(const char *path, const fe_options *o) {
  fe_model *m;
  if (load(path, o, &m) != TS_OK) show();
  ck_assert_ptr_nonnull(m);
  if (ir_verify_module(m->module) != TS_OK) show();
  ck_assert_uint_eq(diags.errors, 0);
  pass_log log = {.arena = &arena};
  plan *p;
  if (pass_lower(m->module, &(pass_lower_options){.fuse = true}, &log, &p) != TS_OK) show();
  ck_assert_uint_eq(diags.errors, 0);
  return m;
}

static const ir_op *find_op(const fe_model *m, const char *function, ir_opcode code) {
  for (size_t i = 0; i < m->module->functions.count; i++)
    if (strcmp(m->module->functions.data[i]->name, function) == 0)
      for (const ir_op *op = m->module->functions.data[i]->body->first; op; op = op->next)
        if (op->code == code) return op;
  return NULL;
}

START_TEST(tiny) {
  fe_model *m = load_ok(write_text("a.yaml", BASE), &RANDOM);
  ck_assert_str_eq(m->module->name, "tiny");
  ck_assert_uint_eq(m->module->functions.count, 2);
  ck_assert_uint_eq(m->module->weights.count, 2 + 2 * 4);   // head is tied, bq absent
  ck_assert_ptr_eq(find_op(m, "decode", IR_OP_last), NULL);
  ck_assert_ptr_nonnull(find_op(m, "prefill", IR_OP_last));
  const ir_op *append = find_op(m, "decode", IR_OP_append);
  ck_assert_ptr_eq(ir_attr_find(append, "over"), NULL);
  ck_assert_uint_eq(append->loc.line, 34);
  ck_assert_uint_eq(append->loc.col, 9);
  const ir_op *attend = find_op(m, "prefill", IR_OP_attend);
  ck_assert_str_eq(ir_attr_sym(attend, "over"), "seq");
  ck_assert(ir_attr_real(attend, "scale", 0) == 1 / __builtin_sqrt(12.0) || ir_attr_real(attend, "scale", 0) > 0.288);
  const ir_function *decode = m->module->functions.data[1];
  ck_assert_str_eq(decode->name, "decode");
  ck_assert_uint_eq(decode->advances.count, 1);
  ck_assert_ptr_eq(decode->advance_by.data[0], NULL);
  ck_assert_int_eq(m->context, 40);
  fe_unload(m);
}
END_TEST

START_TEST(sets) {
  const char *const set[] = {"layers=3", "batch=2", "compile.kv.as=f16", "act=none", "compile.quantize=[{weights: \"layer.w*\", as: int8_g8}]"};
  fe_options o = RANDOM;
  o.sets = set, o.set_count = 5;
  fe_model *m = load_ok(write_text("a.yaml", BASE), &o);
  ck_assert_uint_eq(m->module->weights.count, 2 + 3 * 4);
  ck_assert_int_eq(m->kv_type, IR_f16);
  ck_assert_int_eq(m->module->states.data[0]->fields.data[0].dtype, IR_f16);
  ck_assert_int_eq(m->module->dims.data[0].size->lo, 2);
  ck_assert_int_eq(m->module->dims.data[0].size->hi, 2);
  unsigned quantized = 0;
  for (size_t i = 0; i < m->module->weights.count; i++) quantized += m->module->weights.data[i]->source == IR_SOURCE_QUANTIZE;
  ck_assert_uint_eq(quantized, 9);
  fe_unload(m);
}
END_TEST

// Each spoils one thing; the kind and the line must be right.
static const struct {
  const char *from, *to, *kind;
  unsigned line;
} spoiled[] = {
  {"tessera: 1\n", "tessera: 2\n", "spec_version", 1},
  {"tessera: 1\n", "x: 1\n", "spec_version", 1},
  {"model: tiny\n", "model: !!str tiny\n", "yaml_syntax", 2},
  {"model: tiny\n", "model: [tiny\n", "yaml_syntax", 0},
  {"model: tiny\n", "model: tiny\nmodell: x\n", "spec_key", 3},
  {"model: tiny\n", "model: tiny\nmodel: x\n", "spec_duplicate", 3},
  {"model: tiny\n", "modell: tiny\n", "spec_key", 2},
  {"model: tiny\n", "model: tiny\n<<: {a: b}\n", "yaml_syntax", 3},
  {"model: tiny\n", "model: tiny\n---\nmodel: x\n", "yaml_syntax", 3},
  {"model: tiny\n", "model: *tiny\n", "yaml_syntax", 2},
  {"  dim: int = 24\n", "  dim: int = 24 +\n", "spec_syntax", 5},
  {"  dim: int = 24\n", "  dim: int = 24 24\n", "spec_syntax", 5},
  {"  dim: int = 24\n", "  dim: int = 24x\n", "spec_syntax", 5},
  {"  dim: int = 24\n", "  dim: int = 99999999999999999999\n", "spec_range", 5},
  {"  dim: int = 24\n", "  dim: int = 4611686018427387904 * 2\n", "spec_range", 5},
  {"  dim: int = 24\n", "  dim: int = 24 / 0\n", "spec_range", 5},
  {"  dim: int = 24\n", "  dim: int = 25\n", "spec_range", 7},
  {"  dim: int = 24\n", "  dim: int = 2.5\n", "spec_value", 5},
  {"  dim: int = 24\n", "  dim: int = head_dim * heads\n", "spec_cycle", 0},
  {"  dim: int = 24\n", "  dim: int\n", "param_missing", 5},
  {"  dim: int = 24\n", "  dim: int = hedas\n", "spec_name", 5},
  {"  dim: int = 24\n", "  dim: integer = 24\n", "spec_syntax", 5},
  {"  dim: int = 24\n", "  dim: int = 24\n  layers: int = 1\n", "spec_duplicate", 6},
  {"  pairs: adjacent | half = half", "  pairs: adjacent | half = quarter", "spec_value", 10},
  {"  pairs: adjacent | half = half", "  pairs: adjacent | 3 = half", "spec_syntax", 10},
  {"batch: 1 .. 3", "batch: 3 .. 1", "spec_range", 13},
  {"batch: 1 .. 3", "batch: 1 .. seq", "spec_cycle", 0},
  {"batch: 1 .. 3", "batch: 1 . 3", "spec_syntax", 13},
  {"batch: 1 .. 3", "batch: -1 .. 3", "spec_range", 13},
  {"batch: 1 .. 3", "dim: 1 .. 3", "spec_shadow", 13},
  {"per batch", "per bath", "spec_name", 14},
  {"norm: float[dim]\n  head", "norm: flot[dim]\n  head", "spec_type", 17},
  {"norm: float[dim]\n  head", "norm: float[dim\n  head", "spec_syntax", 17},
  {"norm: float[dim]\n  head", "norm: float[dim] as q9\n  head", "unknown_encoding", 17},
  {"norm: float[dim]\n  head", "norm: float[heads]\n  head", "spec_shape", 45},
  {"norm: float[dim]\n  head", "norm: float[batch]\n  head", "spec_shape", 17},
  {"norm: float[dim]\n  head", "norm: float[0 - dim]\n  head", "spec_range", 17},
  {"norm: float[dim]\n  head", "layers: float[dim]\n  head", "spec_shadow", 17},
  {"else embed", "else embd", "spec_name", 18},
  {"else embed", "else norm", "spec_shape", 18},
  {"list: batch,", "list: bath,", "spec_name", 20},
  {"page: 16,", "page: 15,", "spec_range", 20},
  {"length: 0 .. 40,", "length: 1 .. 40,", "spec_range", 20},
  {"length: 0 .. 40,", "", "spec_key", 20},
  {"  layer:\n", "  gather:\n", "spec_shadow", 22},
  {"    index: l\n", "    indx: l\n", "spec_key", 23},
  {"{x: 'float[batch, seq, dim]',", "{x: 'float[batch, seq, heads]',", "spec_shape", 43},
  {"{x: 'float[batch, seq, dim]',", "{x: float[batch, seq, dim],", "yaml_syntax", 0},
  {"{x: 'float[batch, seq, dim]',", "{x: 'float[batch, seq, dim]', w: 'float[dim]',", "spec_call", 43},
  {"bq: float[dim] optional", "bq: float[dim] optionl", "spec_syntax", 28},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_nrm(x, norm1, eps)\n      - q", "spec_name", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, nrm1, eps)\n      - q", "spec_name", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, norm1)\n      - q", "spec_call", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, norm1, eps, 1)\n      - q", "spec_call", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, norm1, ep=eps)\n      - q", "spec_call", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, norm1, eps=eps, eps=eps)\n      - q", "spec_call", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, g=norm1, eps)\n      - q", "spec_call", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, pos, eps)\n      - q", "spec_type", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, bq, eps)\n      - q", "spec_type", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "rms_norm(x, embed, eps)\n      - q", "spec_name", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "x * bq\n      - q", "spec_type", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "x + pos\n      - q", "spec_type", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "x * seq\n      - q", "spec_unsupported", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "x[0]\n      - q", "spec_syntax", 30},
  {"rms_norm(x, norm1, eps)\n      - q", "layer(x, pos)\n      - q", "spec_cycle", 30},
  {"- h: rms_norm", "- x: rms_norm", "spec_shadow", 30},
  {"- h: rms_norm", "- h, g: rms_norm", "spec_call", 30},
  {"- h: rms_norm(x", "- rms_norm(x", "spec_syntax", 30},
  {"- h: rms_norm(x, norm1, eps)", "- {h: 'rms_norm(x, norm1, eps)', g: x}", "spec_syntax", 30},
  {"[batch, seq, heads, head_dim])\n      - k", "[batch, seq, heads, 7])\n      - k", "spec_shape", 31},
  {"append(kv, l, k=", "append(kv, 5, k=", "spec_range", 34},
  {"append(kv, l, k=", "append(kv, l, kk=", "spec_name", 34},
  {"append(kv, l, k=", "append(x, l, k=", "spec_type", 34},
  {"mask=causal", "mask=casual", "spec_value", 35},
  {"scale=head_dim", "scale=mask", "spec_name", 35},
  {"kv, l, mask", "kv, mask", "spec_call", 35},
  {"output: z", "output: w", "spec_name", 37},
  {"output: z", "output: q", "spec_shape", 37},
  {"repeat(layer, layers", "repeat(layr, layers", "spec_name", 43},
  {"repeat(layer, layers", "repeat(layer, 0 - layers", "spec_range", 43},
  {"repeat(layer, layers, x=", "repeat(layer, layers, y=", "spec_call", 43},
  {"f32[batch, vocab] = ", "f32[batch, dim] = ", "spec_shape", 45},
  {"f32[batch, vocab] = ", "i32[batch, vocab] = ", "spec_type", 45},
  {"f32[batch, vocab] = linear(rms_norm(last(y, seq), norm, eps), head)", "f32[batch, vocab]", "spec_syntax", 45},
  {"like: prefill", "like: prefil", "spec_name", 46},
  {"set: {seq: 1}", "set: {sq: 1}", "spec_name", 46},
  {"set: {seq: 1}", "set: {seq: 41}", "spec_range", 46},
  {"set: {seq: 1}", "set: {seq: 2}", "spec_unsupported", 0},
  {"activations: exact", "activations: s9", "spec_value", 50},
  {"activations: exact", "activations: s8_token", "spec_unsupported", 50},
  {"activations: exact", "prune: [{quest: {budget: 512}}]", "spec_unsupported", 50},
  {"activations: exact", "kv: {as: kv4}", "spec_unsupported", 50},
  {"activations: exact", "quantize: [{weights: x, as: int4_g64, method: awq}]", "spec_unsupported", 50},
  {"targets: [host]", "target: [host]", "spec_key", 48},
  {"host: f32,", "host: i8,", "spec_value", 49},
  {"model: tiny\n", "model: tiny\nuse: nothing.yaml\n", "spec_name", 3},
  {"model: tiny\n", "model: tiny\nuse: a.yaml\n", "spec_cycle", 3},
  {"model: tiny\n", "model: tiny\nset: {layrs: 2}\n", "spec_name", 3},
  {"model: tiny\n", "model: tiny\nset: {layers: many}\n", "spec_value", 3},
  {"model: tiny\n", "model: tiny\nset: {seq: 1 .. 99}\n", "spec_range", 3},
};

START_TEST(errors) {
  const char *text = replace(BASE, spoiled[_i].from, spoiled[_i].to);
  fe_model *m;
  load(write_text("a.yaml", text), &RANDOM, &m);
  bool right = diags.list.count && diags.list.data[0].kind && strcmp(diags.list.data[0].kind->id, spoiled[_i].kind) == 0 &&
               (!spoiled[_i].line || diags.list.data[0].loc.line == spoiled[_i].line);
  if (!right) {
    fprintf(stderr, "'%s' -> '%s': expected %s at line %u\n", spoiled[_i].from, spoiled[_i].to, spoiled[_i].kind, spoiled[_i].line);
    show();
  }
  ck_assert(right);
  fe_unload(m);
}
END_TEST

START_TEST(no_weights) {
  fe_model *m;
  load(write_text("a.yaml", BASE), &(fe_options){0}, &m);
  ck_assert_str_eq(diags.list.data[0].kind->id, "weights_none");
}
END_TEST

START_TEST(aliases) {
  ts_text t = {0};   // nine lists of nine: 9^9 nodes when followed
  ts_text_puts(&t, "tessera: 1\nmodel: bomb\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
  for (int i = 1; i < 9; i++) {
    ts_text_printf(&t, "a%d: &a%d [", i, i);
    for (int k = 0; k < 9; k++) ts_text_printf(&t, "%s*a%d", k ? ", " : "", i - 1);
    ts_text_puts(&t, "]\n");
  }
  fe_model *m;
  load(write_text("a.yaml", ts_text_z(&t)), &RANDOM, &m);
  ck_assert_str_eq(diags.list.data[0].kind->id, "yaml_size");
  ts_text_deinit(&t);
}
END_TEST

START_TEST(use_and_libraries) {
  write_text("a.yaml", BASE);
  const char *top = write_text("b.yaml", "tessera: 1\nuse: a.yaml\nset: {layers: 1}\nparams: {dim: int = 16}\n");
  fe_model *m = load_ok(top, &RANDOM);
  ck_assert_uint_eq(m->module->weights.count, 2 + 4);
  ck_assert_int_eq(m->module->weights.data[0]->shape[1], 16);
  fe_unload(m);
}
END_TEST

// ---- expressions ----------------------------------------------------------------------------------------------------------
static const struct {
  const char *text, *value;
} expressions[] = {
  {"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"}, {"2 ** 3 ** 2", "512"}, {"-2 ** 2", "-4"}, {"7 % 3", "1"}, {"0 - 7 % 3", "-1"}, {"10 / 5", "2"},
  {"floor_div(0 - 7, 2)", "-4"}, {"ceil_div(7, 2)", "4"}, {"min(3, 5) + max(3, 5)", "8"}, {"2 ** 62", "4611686018427387904"},
  {"9223372036854775807", "9223372036854775807"}, {"0 - 9223372036854775807 - 1", "-9223372036854775808"},
};

START_TEST(arithmetic) {
  const char *text = replace(BASE, "  dim: int = 24\n", ts_arena_printf(&arena, "  dim: int = 24\n  probe: int = %s\n", expressions[_i].text));
  fe_model *m = load_ok(write_text("a.yaml", text), &RANDOM);
  bool found = false;
  for (size_t i = 0; i < m->param_count; i++) {
    if (strcmp(m->params[i].name, "probe") != 0) continue;
    ck_assert_str_eq(m->params[i].value, expressions[_i].value);
    found = true;
  }
  ck_assert(found);
  fe_unload(m);
}
END_TEST

START_TEST(ops) {   // ops beyond the decoder's
  static const char *const graphs[] = {
    "- z: x * 2 - x / 4.0", "- z: gelu(x) * sigmoid(x) + relu(x) - tanh(x)", "- z: 1 - x", "- z: softmax(x)", "- h: 3 * x\n      - z: h + 1",
    "- p, q: split(reshape(concat([x, x], axis=2), [batch, seq, 2, dim]), axis=2)\n      - z: p + q",
    "- h: reshape(x, [batch, seq, heads, head_dim])\n      - g: transpose(h, [0, 2, 1, 3])\n      - z: reshape(transpose(g, [0, 2, 1, 3]), [batch, seq, dim])",
    "- z: x + sum(reshape(x, [batch, seq, 1, dim]), axis=2)", "- z: cast(cast(x, f16), float)", "- z: -x", "- z: exp(x) + log(x) + rsqrt(x) + sqrt(x) + abs(x)",
    "- z: x + at(reshape(x, [batch, seq, 1, dim]), 0, axis=-2)", "- z: matmul(x, matmul(wq, wk))", "- z: layer_norm(x, norm1, norm1, 1e-6)",
  };
  const char *from = strstr(BASE, "- h: rms_norm"), *end = strstr(BASE, "    output: z");
  const char *text = ts_arena_printf(&arena, "%.*s%s\n%s", (int)(from - BASE), BASE, graphs[_i], end);
  fe_model *m;
  if (load(write_text("a.yaml", text), &RANDOM, &m) != TS_OK || ir_verify_module(m->module) != TS_OK) show();
  ck_assert_uint_eq(diags.errors, 0);
  fe_unload(m);
}
END_TEST

// ---- weights files --------------------------------------------------------------------------------------------------------
typedef struct tiny_options {
  int64_t v_rows;          // rows of the v tensors
  const char *skip, *extra, *key;
  int64_t key_value, dim_key;
  const char *architecture;
} tiny_options;

static const char *tiny_gguf(const tiny_options *o) {
  gguf_writer w;
  gguf_writer_init(&w);
  gguf_put_string(&w, "general.architecture", o->architecture ? o->architecture : "tiny");
  gguf_put_string(&w, "general.license", "apache-2.0");
  gguf_put_int(&w, "tiny.layers", 4, 2);
  gguf_put_int(&w, "tiny.heads", 4, 2);
  gguf_put_f32(&w, "tiny.eps", 1e-6f);
  gguf_put_int(&w, "tiny.dim", 4, o->dim_key ? o->dim_key : 24);
  if (o->key) gguf_put_int(&w, o->key, 4, o->key_value);
  float *data = ts_new_array(&arena, float, 50 * 24 * 2);
  for (int i = 0; i < 50 * 24 * 2; i++) data[i] = (float)(int64_t)(rnd() % 17) - 8;
#define PUT(name, rank, ...)                                                                                                 \
  do {                                                                                                                       \
    const int64_t s_[] = {__VA_ARGS__};                                                                                      \
    int64_t n_ = 4;                                                                                                          \
    for (int i_ = 0; i_ < rank; i_++) n_ *= s_[i_];                                                                          \
    if (!o->skip || strcmp(o->skip, name) != 0) gguf_put_tensor(&w, name, 0, rank, s_, data, (size_t)n_);                    \
  } while (0)
  PUT("tok", 2, 50, 24);
  PUT("norm", 1, 24);
  for (int l = 0; l < 2; l++) {
    PUT(ts_arena_printf(&arena, "blk.%d.n", l), 1, 24);
    PUT(ts_arena_printf(&arena, "blk.%d.q", l), 2, 24, 24);
    PUT(ts_arena_printf(&arena, "blk.%d.k", l), 2, 24, 24);
    PUT(ts_arena_printf(&arena, "blk.%d.v", l), 2, o->v_rows ? o->v_rows : 24, 24);
  }
  if (o->extra) PUT(o->extra, 1, 3);
  ts_text file = {0};
  gguf_finish(&w, &file);
  const char *path = write_file("w.gguf", file.data, file.len);
  ts_text_deinit(&file);
  gguf_writer_deinit(&w);
  return path;
}

static ts_status load_files(const tiny_options *t, fe_model **m) {
  const char *const weights[] = {tiny_gguf(t)};
  return load(write_text("a.yaml", BASE), &(fe_options){.weights = weights, .weights_count = 1}, m);
}

START_TEST(gguf_binds) {
  fe_model *m;
  const char *const weights[] = {tiny_gguf(&(tiny_options){.v_rows = 30, .extra = "extra.table"})};
  m = load_ok(write_text("a.yaml", replace(BASE, "vocab: int = 50", "vocab: int")), &(fe_options){.weights = weights, .weights_count = 1});
  ck_assert_uint_eq(m->module->weights.count, 10);
  ck_assert_str_eq(ir_attr_sym(find_op(m, "prefill", IR_OP_rope), "pairs"), "adjacent");
  ck_assert(ir_attr_real(find_op(m, "prefill", IR_OP_rms_norm), "eps", 0) == (double)1e-6f);
  bool license = false;
  for (size_t i = 0; i < m->metadata.count; i++)
    license |= strcmp(m->metadata.data[i].key, "general.license") == 0 && strcmp(m->metadata.data[i].value, "apache-2.0") == 0;
  ck_assert(license);
  fe_unload(m);
}
END_TEST

START_TEST(gguf_alone) {
  char *models = ts_path_join(&arena, folder, "models");
  ck_assert_int_eq(mkdir(models, 0700), 0);
  write_text("models/broken.yaml", "tessera: [1\n");
  write_text("models/tiny.yaml", BASE);
  const char *const search[] = {folder};
  fe_options o = {.search_paths = search, .search_path_count = 1};
  fe_model *m = load_ok(tiny_gguf(&(tiny_options){0}), &o);
  fe_unload(m);
  load(tiny_gguf(&(tiny_options){.architecture = "mamba"}), &o, &m);
  ck_assert_str_eq(diags.list.data[0].kind->id, "bind_none");
  ck_assert_ptr_nonnull(strstr(diags.list.data[1].text, "tiny"));   // the note lists what is known
}
END_TEST

static const struct {
  tiny_options file;
  const char *kind;
} bad_files[] = {
  {{.skip = "tok"}, "weight_missing"},
  {{.skip = "blk.1.k"}, "weight_missing"},
  {{.v_rows = 23}, "spec_range"},
  {{.extra = "other"}, "tensor_unused"},
  {{.key = "tiny.rope.scaling.factor", .key_value = 4}, "file_key"},
  {{.key = "tiny.expert_count", .key_value = 8}, "file_key"},
  {{.dim_key = 25}, "param_conflict"},
  {{.architecture = "mamba"}, "bind_none"},
};

START_TEST(gguf_errors) {
  fe_model *m;
  load_files(&bad_files[_i].file, &m);
  ck_assert_uint_ge(diags.list.count, 1);
  if (strcmp(diags.list.data[0].kind->id, bad_files[_i].kind) != 0) show();
  ck_assert_str_eq(diags.list.data[0].kind->id, bad_files[_i].kind);
}
END_TEST

START_TEST(gguf_shape) {
  fe_model *m;
  const char *const weights[] = {tiny_gguf(&(tiny_options){0})};
  load(write_text("a.yaml", replace(BASE, "vocab: int = 50", "vocab: int = 51")), &(fe_options){.weights = weights, .weights_count = 1}, &m);
  ck_assert_str_eq(diags.list.data[0].kind->id, "weight_shape");
  ck_assert_ptr_nonnull(strstr(diags.list.data[0].text, "[50, 24]"));
  ck_assert_ptr_nonnull(strstr(diags.list.data[0].text, "[51, 24]"));
}
END_TEST

// ---- kernel specs ---------------------------------------------------------------------------------------------------------
static const char KERNEL[] =
  "tessera: 1\n"                                                          // 1
  "kernel: w4\n"                                                          // 2
  "params:\n"                                                             // 3
  "  group: int = 32\n"                                                   // 4
  "  act: none | relu | gelu = gelu\n"                                    // 5
  "dims:\n"                                                               // 6
  "  m: 0 .. 1000\n"                                                      // 7
  "  n, k: 1 .. 4096\n"                                                   // 8
  "encodings:\n"                                                          // 9
  "  e4:\n"                                                               // 10
  "    code: u4\n"                                                        // 11
  "    value: (code - zero) * scale\n"                                    // 12
  "    scale: {type: f16, per: [1, group]}\n"                             // 13
  "    zero: {type: u4, per: [1, group]}\n"                               // 14
  "    tail: short\n"                                                     // 15
  "    layout: auto\n"                                                    // 16
  "operands:\n"                                                           // 17
  "  x: in f16[m, k]\n"                                                   // 18
  "  w: in f16[n, k] as e4\n"                                             // 19
  "  bias: in f16[n] optional\n"                                          // 20
  "  y: out f16[m, n]\n"                                                  // 21
  "compute:\n"                                                            // 22
  "  - acc[i, j]: sum(c, x[i, c] * w[j, c])\n"                            // 23
  "epilogue:\n"                                                           // 24
  "  - y[i, j]: act(acc[i, j] + bias[j])\n"                               // 25
  "numerics: {accumulate: f32, order: fixed}\n"                           // 26
  "check:\n"                                                              // 27
  "  at: {m: [0, 1, 7], n: [8, 136], k: [1, 172]}\n";                     // 28

START_TEST(kernel) {
  fe_model *m = load_ok(write_text("k.yaml", KERNEL), &(fe_options){0});
  ck_assert(m->is_kernel);
  ck_assert_uint_eq(m->check_count, 3);
  const ir_op *linear = find_op(m, "w4", IR_OP_linear);
  ck_assert_int_eq(linear->results[0]->type->dtype, IR_f32);
  const ir_encoding *e = linear->operands[1]->type->encoding;
  ck_assert_str_eq(e->name, "e4");
  ck_assert_int_eq(e->field[1].per_k, 32);
  ck_assert_int_eq(linear->operands[1]->type->shape[0]->value, 136);
  ck_assert_int_eq(linear->operands[0]->type->shape[0]->hi, 1000);
  fe_unload(m);
}
END_TEST

static const struct {
  const char *from, *to, *kind;
  unsigned line;
} bad_kernels[] = {
  {"code: u4", "cod: u4", "spec_key", 11},
  {"code: u4", "code: u5x", "spec_type", 11},
  {"(code - zero) * scale", "code * zero", "spec_value", 12},
  {"per: [1, group]}\n    zero", "per: [1, grup]}\n    zero", "spec_name", 13},
  {"tail: short", "tail: long", "spec_value", 15},
  {"layout: auto", "layout: awq_gem", "spec_name", 16},
  {"layout: auto", "layout: [k, 3]", "spec_syntax", 16},
  {"x: in f16[m, k]", "x: f16[m, k]", "spec_syntax", 18},
  {"x: in f16[m, k]", "x: in f16[m, n]", "spec_shape", 23},
  {"as e4", "as e5", "unknown_encoding", 19},
  {"w: in f16[n, k] as", "w: in f16[n] as", "spec_unsupported", 23},
  {"w: in f16[n, k] as", "w: in f16[n, k, k] as", "spec_unsupported", 23},
  {"sum(c, x[i, c] * w[j, c])", "sum(c, x[i, c] * w[c, j])", "spec_unsupported", 23},
  {"sum(c, x[i, c] * w[j, c])", "sum(c, x[i, c])", "spec_unsupported", 23},
  {"sum(c, x[i, c] * w[j, c])", "sum(c, x[i, c] * v[j, c])", "spec_unsupported", 23},
  {"sum(c, x[i, c] * w[j, c])", "sum(c, x[i] * w[j, c])", "spec_shape", 23},
  {"sum(c, x[i, c] * w[j, c])", "sum(i, x[i, c] * w[j, c])", "spec_shadow", 23},
  {"- acc[i, j]: ", "- acc[i, i]: ", "spec_duplicate", 23},
  {"- acc[i, j]: ", "- acc: ", "spec_syntax", 23},
  {"acc[i, j] + bias[j]", "acc[i, j] + bias[h]", "spec_name", 25},
  {"acc[i, j] + bias[j]", "acc[i, j] + bis[j]", "spec_name", 25},
  {"acc[i, j] + bias[j]", "acc[i] + bias[j]", "spec_shape", 25},
  {"acc[i, j] + bias[j]", "bias[j]", "spec_shape", 25},
  {"- y[i, j]: act", "- z[i, j]: act", "spec_key", 21},
  {"- y[i, j]: act", "- x[i, j]: act", "spec_shadow", 25},
  {"accumulate: f32", "accumulate: f16", "spec_unsupported", 26},
  {"k: [1, 172]", "k: [1, many]", "spec_value", 28},
  {"k: [1, 172]", "q: [1, 172]", "spec_name", 28},
  {", k: [1, 172]", "", "param_missing", 8},
};

START_TEST(kernel_errors) {
  fe_model *m;
  load(write_text("k.yaml", replace(KERNEL, bad_kernels[_i].from, bad_kernels[_i].to)), &(fe_options){0}, &m);
  const ts_diag *first = NULL;   // behind the remarks
  for (size_t i = 0; i < diags.list.count && !first; i++)
    if (diags.list.data[i].kind && diags.list.data[i].kind->severity == TS_ERROR) first = &diags.list.data[i];
  if (!first || strcmp(first->kind->id, bad_kernels[_i].kind) != 0 || first->loc.line != bad_kernels[_i].line) {
    fprintf(stderr, "'%s' -> '%s': expected %s at line %u\n", bad_kernels[_i].from, bad_kernels[_i].to, bad_kernels[_i].kind, bad_kernels[_i].line);
    show();
    ck_abort();
  }
}
END_TEST

START_TEST(kernel_specs) {   // the installed ones
  static const char *const list[] = {"gemm_f16", "gemm_q4_1", "gemm_w4a16", "softmax", "rms_norm", "gather_gemm"};
  fe_model *m = load_ok(ts_arena_printf(&arena, "specs/kernels/%s.yaml", list[_i]), &(fe_options){0});
  ck_assert_str_eq(m->module->name, list[_i]);
  fe_unload(m);
}
END_TEST

// ---- damaged texts --------------------------------------------------------------------------------------------------------
START_TEST(damaged) {
  static const char *const pieces[] = {"[", "]", "{", "}", "(", ")", ", ", ": ", "\n", "  ", "- ", "&a ", "*a", "'", "\"", "..", " per ", "**", "0", "-1", "99999999999", "seq", "layer", "x", "kv", "#", "\t", "\xff", "\xc3\xa9"};
  const char *const weights[] = {tiny_gguf(&(tiny_options){0})};
  fe_options file = {.weights = weights, .weights_count = 1};
  size_t n = sizeof BASE - 1;
  char *kept = strdup(weights[0]);
  file.weights = (const char *const[]){kept};
  for (int round = 0; round < 1500; round++) {
    bool kernel_text = round % 3 == 0;
    char *text = malloc(2 * n);
    size_t len = kernel_text ? sizeof KERNEL - 1 : n;
    memcpy(text, kernel_text ? KERNEL : BASE, len);
    unsigned edits = 1 + (unsigned)(rnd() % 3);
    for (unsigned e = 0; e < edits; e++) {
      size_t at = rnd() % len, cut = rnd() % 4 == 0 ? rnd() % 60 : rnd() % 3;
      if (cut > len - at) cut = len - at;
      const char *piece = pieces[rnd() % (sizeof pieces / sizeof *pieces)];
      size_t add = rnd() % 3 ? strlen(piece) : 0;
      memmove(text + at + add, text + at + cut, len - at - cut);
      memcpy(text + at, piece, add);
      len = len + add - cut;
      if (!len) break;
    }
    done();
    fresh();
    fe_model *m;
    const char *path = write_file("f.yaml", text, len);
    load(path, round % 2 ? &RANDOM : &file, &m);
    fe_unload(m);
    free(text);
  }
  free(kept);
}
END_TEST

// ---- real models ----------------------------------------------------------------------------------------------------------
static bool present(const char *path, const char *what) {
  if (path && access(path, R_OK) == 0) return true;
  fprintf(stderr, "skipped: %s is absent\n", what);
  return false;
}

static fe_options installed(const char *const *search) { return (fe_options){.search_paths = search, .search_path_count = 1}; }
static const char *const specs[] = {"specs"};   // tests run in the repository's root

START_TEST(smollm2) {
  const char *path = getenv("TESSERA_SMOLLM2");
  if (!present(path, "SmolLM2-135M (set TESSERA_SMOLLM2 to the GGUF)")) return;
  fe_options o = installed(specs);
  fe_model *m = load_ok(path, &o);
  ck_assert_uint_eq(m->module->functions.count, 3);
  ck_assert_uint_eq(m->module->weights.count, 272);
  ck_assert_int_eq(m->context, 8192);
  ck_assert_uint_eq(m->vocab.token_count, 49152);
  ck_assert_uint_gt(m->tokenizer.len, 0);
  const ir_op *linear = find_op(m, "decode", IR_OP_linear);
  ck_assert_str_eq(linear->operands[1]->type->encoding->name, "q4_1");
  ck_assert_str_eq(ir_attr_sym(find_op(m, "decode", IR_OP_rope), "pairs"), "adjacent");
  fe_unload(m);
}
END_TEST

START_TEST(stories) {
  const char *root = getenv("TESSERA_SHARED");
  const char *base = ts_arena_printf(&arena, "%s/data/models/stories260K/stories260K", root ? root : "../shared");
  const char *const safetensors[] = {ts_arena_printf(&arena, "%s.safetensors", base)}, *gguf = ts_arena_printf(&arena, "%s-f32.gguf", base);
  if (!present(safetensors[0], "stories260K (set TESSERA_SHARED)")) return;
  fe_options o = installed(specs);
  o.weights = safetensors, o.weights_count = 1;
  fe_model *a = load_ok("specs/models/stories260k.yaml", &o), *b;
  const char *const set[] = {"context=512", "batch=1"};
  o = installed(specs);
  o.sets = set, o.set_count = 2;
  b = load_ok(gguf, &o);
  ck_assert_int_eq(a->context, 512);
  ck_assert_uint_eq(b->vocab.token_count, 512);
  // The same weights by name, whatever the file calls them; in the GGUF the head is written out.
  unsigned equal = 0;
  for (size_t i = 0; i < a->module->weights.count; i++)
    for (size_t k = 0; k < b->module->weights.count; k++) {
      const ir_weight *x = a->module->weights.data[i], *y = b->module->weights.data[k];
      if (x->name != y->name) continue;
      uint64_t p, q;
      ck_assert_int_eq(ir_weight_hash(x, &diags, &p), TS_OK);
      ck_assert_int_eq(ir_weight_hash(y, &diags, &q), TS_OK);
      ck_assert(p == q);
      equal++;
    }
  ck_assert_uint_eq(equal, 47);
  fe_unload(a);
  fe_unload(b);
}
END_TEST

int main(void) {
  TCase *c = tcase_create("spec");
  tcase_add_checked_fixture(c, setup, teardown);
  tcase_add_test(c, tiny);
  tcase_add_test(c, sets);
  tcase_add_loop_test(c, errors, 0, (int)(sizeof spoiled / sizeof *spoiled));
  tcase_add_test(c, no_weights);
  tcase_add_test(c, aliases);
  tcase_add_test(c, use_and_libraries);
  tcase_add_loop_test(c, arithmetic, 0, (int)(sizeof expressions / sizeof *expressions));
  tcase_add_loop_test(c, ops, 0, 14);
  tcase_add_test(c, gguf_binds);
  tcase_add_test(c, gguf_alone);
  tcase_add_loop_test(c, gguf_errors, 0, (int)(sizeof bad_files / sizeof *bad_files));
  tcase_add_test(c, gguf_shape);
  tcase_add_test(c, kernel);
  tcase_add_loop_test(c, kernel_errors, 0, (int)(sizeof bad_kernels / sizeof *bad_kernels));
  tcase_add_loop_test(c, kernel_specs, 0, 6);
  tcase_add_test(c, damaged);
  tcase_add_test(c, smollm2);
  tcase_add_test(c, stories);
  Suite *s = suite_create("frontend_spec");
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
