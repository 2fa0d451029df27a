// Reading forms off portable parts (see form.h).
#include "passes/form.h"

#include "passes/build.h"
#include "passes/lower.h"

static ts_status refuse(ir_module *m, ts_loc loc, const char *rule, const char *what) {
  return ts_report(m->diags, loc, &diag_pass_unsupported, "rule %s: %s", rule, what);
}

static bool over_only(const ir_op *op, ts_sym axis) {
  const ir_attr *over = ir_attr_find(op, "over");
  return over && over->axes.count == 1 && over->axes.data[0] == axis;
}

// Does an apply compute just `op` of its two operands, in order?
static bool is_binary(const ir_op *op, ir_scalar scalar) {
  if (!op || op->code != IR_OP_apply || op->operand_count != 2) return false;
  const ir_fn *f = ir_attr_find(op, "fn")->fn;
  const ir_expr *root = &f->nodes[f->outputs[0]];
  return f->params == 2 && f->count == 3 && root->op == scalar && root->args[0] == 0 && root->args[1] == 1;
}

// ---- contract ------------------------------------------------------------------------------------------------------------
static ts_status read_axes(ir_module *m, const ir_part *part, pass_contract_form *f) {
  for (size_t i = 0; i < part->axes.count; i++) {
    const ir_axis *a = &part->axes.data[i];
    int64_t size = ir_size_is_const(a->size) ? a->size->value : 0;
    if (a->kind == IR_AXIS_RED) f->k = a->name, f->K = size;
    else if (strcmp(a->name, "m") == 0) f->m = a->name;
    else f->n = a->name, f->N = size;
  }
  const ir_op *yield = part->update->last;
  if (part->axes.count == 3 && f->m && f->n && f->k && f->N && f->K && yield && yield->code == IR_OP_yield) return TS_OK;
  return refuse(m, yield ? yield->loc : (ts_loc){0}, "contract-axes", "a contract has the axes m, n and k, with n and k static");
}

static ts_status read_product(ir_module *m, const ir_kernel *kernel, pass_contract_form *f, uint32_t i, const ir_op *op) {
  uint32_t param;
  const ir_op *w = op->operands[1]->producer;
  if (f->products == PASS_MAX_PRODUCTS) return refuse(m, op->loc, "too-many-products", "8 of one input are scheduled");
  if (op->operand_count != 3 || op->operands[2] != f->part->update->params[i] || !over_only(op, f->k))
    return refuse(m, op->loc, "accumulator-form", "a product must be summed over k into its own accumulator");
  if (!w || w->code != IR_OP_load || !pass_param_index(kernel, w->operands[0], &param) || w->operands[0]->type->rank != 2)
    return refuse(m, op->loc, "product-of-unpacked", "the second factor must be a matrix that is loaded whole");
  if (f->input && f->input != op->operands[0]) return refuse(m, op->loc, "products-of-two-inputs", "products of one part share their input");
  f->input = op->operands[0];
  f->product[f->products].index = i, f->product[f->products].param = param, f->product[f->products++].op = op;
  return TS_OK;
}

// 8-bit codes with a scale per block: decode(encode(x)).
static ts_status read_quantization(ir_module *m, pass_contract_form *f) {
  const ir_op *decode = f->input->producer;
  if (!decode || decode->code != IR_OP_decode) return TS_OK;
  const ir_op *encode = decode->operands[0]->producer;
  if (!encode || encode->code != IR_OP_encode || decode->operands[1] != encode->results[1] || ir_attr_sym(encode, "axis") != f->k ||
      ir_attr_int(encode, "bits", 0) != 8 || strcmp(ir_attr_sym(encode, "formula"), "code*scale") != 0)
    return refuse(m, decode->loc, "quantized-input", "an input may be quantized to 8-bit codes with one scale per block of k");
  f->block = ir_attr_int(encode, "group", 0);
  f->input = encode->operands[0];
  return TS_OK;
}

ts_status pass_read_contract(ir_module *m, const ir_kernel *kernel, const ir_part *part, pass_contract_form *f) {
  *f = (pass_contract_form){.part = part};
  TS_TRY(read_axes(m, part, f));
  const ir_op *yield = part->update->last;
  f->count = yield->operand_count;
  for (uint32_t i = 0; i < f->count; i++) {
    const ir_op *op = yield->operands[i]->producer;
    if (op && op->code == IR_OP_dot) {
      TS_TRY(read_product(m, kernel, f, i, op));
      continue;
    }
    const ir_op *sum = op && op->operand_count == 2 ? op->operands[1]->producer : NULL;
    if (!is_binary(op, IR_SCALAR_add) || op->operands[0] != part->update->params[i] || !sum || sum->code != IR_OP_reduce || !over_only(sum, f->k) ||
        strcmp(ir_attr_sym(sum, "op"), "add") != 0)
      return refuse(m, op ? op->loc : yield->loc, "accumulator-form", "an accumulator is a sum over k: of products, or of a term of the rows");
    if (f->sums == PASS_MAX_SUMS) return refuse(m, op->loc, "too-many-sums", "4 row statistics are scheduled");
    f->sum[f->sums].index = i, f->sum[f->sums++].term = sum->operands[0];
  }
  if (!f->products) return refuse(m, yield->loc, "accumulator-form", "a contract has a product");
  return read_quantization(m, f);
}

// ---- attend --------------------------------------------------------------------------------------------------------------
// A load of keys or values: pages through the map, or dense.
static bool is_key_load(ir_module *m, const ir_op *op, const pass_attend_form *f, const ir_op *map, ts_sym channel) {
  if (!op || op->code != IR_OP_load || op->operands[0]->type->rank != 4 || ir_attr_int(op, "masked", 0)) return false;
  const ts_sym *at = ir_attr_find(op, "at")->axes.data, none = m->none;
  for (int i = 0; i < 4; i++) {
    int64_t zero;
    bool mapped = map && (i == 0 || i == 2);
    if (mapped ? op->operands[1 + i] != map->results[i / 2] : !pass_int_value(op->operands[1 + i], &zero) || zero != 0) return false;
  }
  return map ? at[0] == none && at[1] == f->h && at[2] == none && at[3] == channel : at[0] == f->b && at[1] == f->t && at[2] == f->h && at[3] == channel;
}

ts_status pass_read_attend(ir_module *m, const ir_kernel *kernel, pass_attend_form *f) {
  const ir_part *part = kernel->parts.data;
  *f = (pass_attend_form){.part = part};
  const ir_op *yield = part->update->last;
  const ir_op *acc = yield && yield->operand_count == 3 ? yield->operands[0]->producer : NULL;
  if (kernel->parts.count != 1 || part->axes.count != 7 || !acc || acc->code != IR_OP_softacc || yield->operands[1] != acc->results[1] ||
      yield->operands[2] != acc->results[2] || yield->operands[0] != acc->results[0])
    return refuse(m, kernel->loc, "attend-form", "an attend has seven axes and its update yields one softacc");
  const ir_axis *x = part->axes.data;
  f->b = x[0].name, f->q = x[1].name, f->h = x[2].name, f->g = x[3].name, f->e = x[4].name, f->t = x[5].name, f->d = x[6].name;
  if (!ir_size_is_const(x[2].size) || !ir_size_is_const(x[3].size) || !ir_size_is_const(x[6].size) || x[4].size != x[6].size || !over_only(acc, f->t))
    return refuse(m, acc->loc, "attend-heads", "heads and channels are static, values have as many channels as keys");
  f->S = x[1].size, f->T = x[5].size, f->G = x[3].size->value, f->D = x[6].size->value;
  const ir_op *score = acc->operands[0]->producer;
  f->mask = acc->operand_count > 2 ? acc->operands[2] : NULL;
  if (!score || score->code != IR_OP_dot || score->operand_count != 2 || !over_only(score, f->d))
    return refuse(m, acc->loc, "attend-form", "scores are products of queries and keys over the channels");
  f->query = score->operands[0], f->k = score->operands[1]->producer, f->v = acc->operands[1]->producer;
  const ir_op *row = f->k && f->k->code == IR_OP_load ? f->k->operands[1]->producer : NULL;
  f->map = row && row->code == IR_OP_map_at ? row : NULL;
  if (!is_key_load(m, f->k, f, f->map, f->d) || !is_key_load(m, f->v, f, f->map, f->e) || !pass_param_index(kernel, f->k->operands[0], &f->k_param) ||
      !pass_param_index(kernel, f->v->operands[0], &f->v_param))
    return refuse(m, acc->loc, "attend-form", "keys and values are loads from pages, or of [list, position, head, channel]");
  if (!f->map) return TS_OK;
  f->granule = ir_attr_int(f->map, "granule", 0);
  if (strcmp(ir_attr_sym(f->map, "kind"), "pages") != 0 || f->granule < 1 || !pass_param_index(kernel, f->map->operands[0], &f->table_param))
    return refuse(m, acc->loc, "attend-form", "keys and values come through a map of kind pages");
  return TS_OK;
}

ts_status pass_key_limit(pass_translator *t, const pass_attend_form *f, ir_value *mask, ir_value **limit) {
  const ir_op *op = mask ? mask->producer : NULL;
  if (is_binary(op, IR_SCALAR_and)) {
    TS_TRY(pass_key_limit(t, f, op->operands[0], limit));
    return pass_key_limit(t, f, op->operands[1], limit);
  }
  bool upto = is_binary(op, IR_SCALAR_le);
  if (!upto && !is_binary(op, IR_SCALAR_lt)) return TS_OK;
  const ir_op *left = op->operands[0]->producer;
  if (!left || left->code != IR_OP_axis || ir_attr_sym(left, "name") != f->t) return TS_OK;
  ir_value *x;
  TS_TRY(pass_translate_value(t, op->operands[1], &x));
  x = pass_drop_units(&t->b, x, NULL);
  if (x->type->rank) return TS_OK;
  if (upto) x = pass_add(&t->b, x, pass_int(&t->b, 1));
  *limit = *limit ? ir_apply_op(&t->b, IR_SCALAR_min, *limit, x, NULL) : x;
  return TS_OK;
}
