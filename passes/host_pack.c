// Host schedules: packed weights and what all of them need (see host_internal.h).
//
// The packing of a weight depends on its encoding, its shape and whether products are made of integers, on nothing else: so kernels
// that read the same weight (a tied embedding and head), and all host ISAs, share the bytes.
#include "passes/host_internal.h"

static int64_t panel_rows(int64_t n) {
  for (int64_t p = 64; p >= 16; p /= 2)
    if (n % p == 0) return p;
  return n > 32 ? 32 : 16;
}

// Is the parameter read by a product or by a gather of rows? Then it is packed.
static bool reads_rows(const ir_kernel *k, const ir_value *mem, bool *integer) {
  bool packed = false;
  for (size_t p = 0; p < k->parts.count; p++) {
    const ir_region *regions[] = {k->parts.data[p].init, k->parts.data[p].update, k->parts.data[p].finish};
    for (int r = 0; r < 3; r++)
      for (const ir_op *op = regions[r]->first; op; op = op->next) {
        if (op->code == IR_OP_load && op->operands[0] == mem && mem->type->rank == 2 && op->operands[1]->type->rank > 0) packed = true;
        if (op->code != IR_OP_dot) continue;
        for (int i = 0; i < 2; i++) {
          const ir_op *from = op->operands[i]->producer, *other = op->operands[1 - i]->producer;
          if (!from || from->code != IR_OP_load || from->operands[0] != mem || i == 0) continue;
          packed = true;
          if (other && other->code == IR_OP_decode) *integer = true;
        }
      }
  }
  return packed;
}

static const ir_field *only_field(const ir_encoding *e, ir_role role) {
  int first = ir_encoding_field(e, role, 0);
  return first >= 0 && ir_encoding_field(e, role, 1) < 0 ? &e->field[first] : NULL;
}

// What the codes, scales and offsets of an encoding allow. False: only decoded values can be packed.
static bool affine_form(const ir_encoding *e, int64_t K, host_weight *w) {
  const ir_field *code = &e->field[0];
  if (ir_encoding_is_plain(e) || !ir_is_int(code->type) || code->table || code->bits > 8) return false;
  int64_t group = 0;
  for (unsigned i = 1; i < e->fields; i++) {
    const ir_field *f = &e->field[i];
    if (f->per_n != 1) return false;
    int64_t per = f->per_k ? f->per_k : (K + HOST_CHUNK - 1) / HOST_CHUNK * HOST_CHUNK;
    group = group == 0 || per < group ? per : group;
    if (f->role == IR_ROLE_SCALE) w->scaled = true;
    else w->offset = true;
  }
  if (!w->scaled || group % 16 || (group > 16 && group % HOST_CHUNK)) return false;
  w->group = group;
  w->groups = (K + group - 1) / group;
  const ir_field *scale = only_field(e, IR_ROLE_SCALE), *min = only_field(e, IR_ROLE_MIN);
  bool plain_min = min && ir_encoding_field(e, IR_ROLE_ZERO, 0) < 0;
  w->scale_type = scale && scale->type == IR_f16 ? IR_f16 : IR_f32;
  w->offset_type = plain_min && min->type == IR_f16 ? IR_f16 : IR_f32;
  return true;
}

static ts_status pack_list(host_schedule *s, const ir_weight *shape, ir_repack *r, const ir_digit *list, unsigned count) {
  return ir_repack_pack(shape, r, list, count, s->from->loc, s->m->diags);
}

static ir_value *packed_param(host_schedule *s, uint32_t param, const ir_repack *r, const char *suffix, ir_dtype t, unsigned rank, const int64_t *shape) {
  const ir_size *sizes[6];
  for (unsigned i = 0; i < rank; i++) sizes[i] = ir_size_const(s->m->sizes, shape[i]);
  ts_vec_push(s->m->arena, &s->sources, ((pass_source){param, true, *r}));
  return ir_kernel_param(s->m, s->kernel, ir_name(s->m, "%s.%s", s->from->params.data[param].value->name, suffix),
                         ir_mem_type(s->m, t, rank, sizes, NULL, IR_SPACE_GLOBAL, NULL), IR_PARAM_IN);
}

static ts_status pack_codes(host_schedule *s, host_weight *w, const ir_weight *shape, const ir_encoding *e, bool integer) {
  const ir_field *code = &e->field[0];
  int64_t P = w->P;
  ir_repack r = {.what = IR_WHAT_CODE};
  if (w->codes == HOST_VALUES) {
    r.what = IR_WHAT_VALUE;
    r.as = w->code_type;
  } else {
    bool is_signed = ir_is_signed(code->type) || code->bias;
    int64_t low = is_signed ? (ir_is_signed(code->type) ? -(INT64_C(1) << (code->bits - 1)) : 0) - code->bias : 0;
    if (w->codes == HOST_NIBBLES || integer || low >= 0) {   // stored unsigned; the bias goes into the arithmetic
      r.add = -low;
      w->bias = -low;
      r.as = IR_u8;
    } else {
      r.as = IR_i8;
      w->code_type = IR_i8;
    }
  }
  int64_t chunks = w->chunks, panels = w->panels;
  if (w->codes == HOST_NIBBLES) {
    r.bits = 4;
    const ir_digit list[] = {{0, P, 0}, {1, 32, 0}, {1, 4, 4}, {0, 1, P}, {1, 1, 4}, {1, 16, 2}};
    TS_TRY(pack_list(s, shape, &r, list, 6));
    w->mem = integer ? packed_param(s, w->param, &r, "codes", IR_u8, 5, (int64_t[]){panels, chunks, 4, P, 4})
                     : packed_param(s, w->param, &r, "codes", IR_u32, 4, (int64_t[]){panels, chunks, 4, P});
  } else if (w->codes == HOST_QUADS) {
    r.bits = 8;
    const ir_digit list[] = {{0, P, 0}, {1, 32, 0}, {1, 4, 8}, {0, 1, P}, {1, 1, 4}};
    TS_TRY(pack_list(s, shape, &r, list, 5));
    w->mem = packed_param(s, w->param, &r, "codes", IR_u8, 5, (int64_t[]){panels, chunks, 8, P, 4});
  } else {
    const ir_digit list[] = {{0, P, 0}, {1, 32, 0}, {1, 1, 32}, {0, 1, P}};
    TS_TRY(pack_list(s, shape, &r, list, 4));
    w->mem = packed_param(s, w->param, &r, w->codes == HOST_VALUES ? "values" : "codes", w->code_type, 4, (int64_t[]){panels, chunks, 32, P});
  }
  return TS_OK;
}

static ts_status pack_weight(host_schedule *s, uint32_t param, bool integer) {
  const ir_type *t = s->from->params.data[param].value->type;
  const ir_encoding *e = t->encoding ? t->encoding : ir_encoding_plain(t->dtype);
  host_weight *w = ts_new(s->m->arena, host_weight);
  *w = (host_weight){.param = param, .N = t->shape[0]->value, .K = t->shape[1]->value};
  w->P = panel_rows(w->N);
  w->panels = (w->N + w->P - 1) / w->P;
  w->chunks = (w->K + HOST_CHUNK - 1) / HOST_CHUNK;
  ir_weight shape = {.name = s->from->params.data[param].value->name, .loc = s->from->loc, .rank = 2, .shape = {w->N, w->K}, .encoding = e};
  TS_TRY(ir_encoding_bind(e, 2, shape.shape, s->from->loc, s->m->diags, &shape.bound));
  if (affine_form(e, w->K, w)) {
    w->codes = e->field[0].bits <= 4 ? HOST_NIBBLES : integer ? HOST_QUADS : HOST_BYTES;
    w->code_type = IR_u8;
    if (w->group < HOST_CHUNK && w->codes != HOST_BYTES) w->scaled = w->offset = false, w->codes = HOST_VALUES;
  } else {
    w->codes = HOST_VALUES;
  }
  if (w->codes == HOST_VALUES) {
    ir_dtype own = ir_encoding_is_plain(e) ? e->field[0].type : IR_f32;
    w->code_type = own == IR_f16 || own == IR_bf16 ? own : IR_f32;
    w->scaled = w->offset = false;
    if (!ir_encoding_is_plain(e))
      pass_say(s->log, "layout", "decoded-at-compile-time", s->from->loc, "%s: the scales of %s do not follow chunks of k; its values are stored as f32",
               shape.name, e->name);
  }
  TS_TRY(pack_codes(s, w, &shape, e, integer));
  const ir_digit per_group[] = {{0, w->P, 0}, {1, 1, 0}, {0, 1, w->P}};
  int64_t dims[3] = {w->panels, w->groups, w->P};
  if (w->scaled) {
    ir_repack r = {.what = IR_WHAT_SCALE, .as = w->scale_type};
    TS_TRY(pack_list(s, &shape, &r, per_group, 3));
    w->scale_mem = packed_param(s, param, &r, "scale", w->scale_type, 3, dims);
  }
  if (w->offset) {
    ir_repack r = {.what = IR_WHAT_OFFSET, .as = w->offset_type};
    TS_TRY(pack_list(s, &shape, &r, per_group, 3));
    w->offset_mem = packed_param(s, param, &r, "offset", w->offset_type, 3, dims);
  }
  static const char *const forms[] = {"values", "nibbles [n/P, k/32, (k/4)%4, n%P, k%4, (k/16)%2]", "bytes [n/P, k/32, k%32, n%P]",
                                      "quads [n/P, k/32, (k/4)%8, n%P, k%4]"};
  pass_say(s->log, "layout", NULL, s->from->loc, "%s: %s in panels of %lld rows, %s", shape.name, e->name, (long long)w->P, forms[w->codes]);
  s->weights[param] = w;
  return TS_OK;
}

ts_status host_begin(host_schedule *s, ir_module *m, const ir_kernel *from, const pass_host_target *t, pass_log *log, const char *variant) {
  *s = (host_schedule){.m = m, .from = from, .target = t, .log = log};
  s->kernel = ir_kernel_create(m, ir_name(m, "%s%s%s", from->name, variant ? "." : "", variant ? variant : ""), IR_STAGE_S, from->loc);
  s->kernel->target_class = IR_CLASS_HOST;
  s->kernel->target = t->name;
  for (int i = 0; i < 3; i++) s->kernel->grid[i] = ir_size_const(m->sizes, 1);
  s->t = (pass_translator){.m = m, .from = from};
  s->t.b = (ir_builder){.module = m, .region = s->kernel->body, .loc = from->loc};
  if (from->params.count > MAX_KERNEL_PARAMS) return HOST_REFUSE(s, from->loc, "rule too-many-parameters: %zu", from->params.count);
  for (uint32_t i = 0; i < from->params.count; i++) {
    const ir_param *p = &from->params.data[i];
    const ir_type *type = p->value->type;
    bool integer = false;
    if (p->role == IR_PARAM_IN && reads_rows(from, p->value, &integer) && type->rank == 2 && ir_size_is_const(type->shape[0]) &&
        ir_size_is_const(type->shape[1])) {
      TS_TRY(pack_weight(s, i, integer));
      continue;
    }
    if (type->encoding) {
      if (!ir_encoding_is_plain(type->encoding))
        return HOST_REFUSE(s, from->loc, "rule encoded-elementwise: %s is stored as %s and read element by element", p->value->name, type->encoding->name);
      type = ir_mem_type(m, type->encoding->field[0].type, type->rank, type->shape, NULL, IR_SPACE_GLOBAL, NULL);
    }
    ts_vec_push(m->arena, &s->sources, ((pass_source){.param = i}));
    s->t.params[i] = ir_kernel_param(m, s->kernel, p->value->name, type, p->role);
  }
  return TS_OK;
}

void host_deinit(host_schedule *s) { pass_translator_deinit(&s->t); }

pass_scheduled host_end(host_schedule *s, const ir_size *guard, const char *variant) {
  return (pass_scheduled){s->kernel, s->sources.data, guard, variant};
}

ir_value *host_alloc(host_schedule *s, ir_dtype t, unsigned rank, const int64_t *shape) {
  const ir_size *sizes[6];
  for (unsigned i = 0; i < rank; i++) sizes[i] = ir_size_const(s->m->sizes, shape[i]);
  const ir_type *type = ir_mem_type(s->m, t, rank, sizes, NULL, IR_SPACE_PANEL, NULL);
  return ir_build(&s->t.b, IR_OP_alloc, 0, NULL, 1, &type)->results[0];
}

const ir_type *host_tile(host_schedule *s, ir_dtype t, unsigned rank, const ts_sym *axes, const int64_t *extents, ts_sym lanes) {
  const ir_size *shape[6] = {0};
  for (unsigned i = 0; i < rank; i++) shape[i] = ir_size_const(s->m->sizes, extents[i]);
  const ir_type *type = ir_tile_type(s->m, t, rank, axes, shape);
  return lanes ? ir_type_with_lanes(s->m, type, lanes) : type;
}

// (code - bias) * scale + offset with the roundings of the encoding: one fma, or one product.
static ir_value *affine_value(host_schedule *s, const host_weight *w, ir_value *code, ir_value *scale, ir_value *offset) {
  ir_builder *b = &s->t.b;
  if (!w->scaled) return ir_cast(b, code, IR_f32);
  ir_value *q = ir_cast(b, code, IR_f32);
  if (w->bias) q = ir_apply_op(b, IR_SCALAR_sub, q, ir_const_real(b, IR_f32, (double)w->bias), NULL);
  scale = ir_cast(b, scale, IR_f32);
  return offset ? ir_apply_op(b, IR_SCALAR_fma, q, scale, ir_cast(b, offset, IR_f32)) : ir_apply_op(b, IR_SCALAR_mul, q, scale, NULL);
}

ir_value *host_row_chunk(host_schedule *s, const host_weight *w, ir_value *row, ir_value *chunk, ts_sym k) {
  ir_builder *b = &s->t.b;
  ir_module *m = s->m;
  ir_value *panel = pass_div_const(b, row, w->P), *lane = pass_rem_const(b, row, w->P), *zero = pass_int(b, 0);
  int64_t width = HOST_CHUNK;
  const ir_type *i64s = host_tile(s, IR_i64, 1, &k, &width, k);
  ir_value *at_k = ir_build(b, IR_OP_iota, 1, &zero, 1, &i64s)->results[0];
  ir_value *code;
  if (w->codes == HOST_NIBBLES) {   // products read quads, gathers never do
    ts_sym at[4] = {m->none, m->none, m->none, m->none};
    ir_value *j = pass_rem_const(b, pass_div_const(b, at_k, 4), 4);
    ir_value *word = ir_load(b, w->mem, (ir_value *[]){panel, chunk, j, lane}, at, NULL, host_tile(s, IR_u32, 1, &k, &width, k));
    ir_value *shift = pass_mul_const(b, pass_rem_const(b, at_k, 4), 8);
    shift = pass_add(b, shift, pass_mul_const(b, pass_div_const(b, at_k, 16), 4));
    word = ir_apply_op(b, IR_SCALAR_shr, word, ir_cast(b, shift, IR_u32), NULL);
    code = ir_apply_op(b, IR_SCALAR_and, word, ir_const_int(b, IR_u32, 15), NULL);
  } else {
    ts_sym at[4] = {m->none, m->none, k, m->none};
    code = ir_load(b, w->mem, (ir_value *[]){panel, chunk, zero, lane}, at, NULL, host_tile(s, w->code_type, 1, &k, &width, k));
  }
  ir_value *scale = NULL, *offset = NULL;
  if (w->scaled) {
    ts_sym at[3] = {m->none, m->none, m->none};
    bool per_lane = w->group < HOST_CHUNK;
    ir_value *first = pass_mul_const(b, chunk, HOST_CHUNK);
    ir_value *group = pass_div_const(b, per_lane ? ir_apply_op(b, IR_SCALAR_add, at_k, first, NULL) : first, w->group);
    if (per_lane) group = ir_apply_op(b, IR_SCALAR_min, group, pass_int(b, w->groups - 1), NULL);
    const ir_type *st = per_lane ? host_tile(s, w->scale_type, 1, &k, &width, k) : ir_scalar_type(m, w->scale_type);
    const ir_type *ot = ir_type_with_dtype(m, st, w->offset_type);
    scale = ir_load(b, w->scale_mem, (ir_value *[]){panel, group, lane}, at, NULL, st);
    if (w->offset) offset = ir_load(b, w->offset_mem, (ir_value *[]){panel, group, lane}, at, NULL, ot);
  }
  return affine_value(s, w, code, scale, offset);
}

ts_status pass_schedule_host(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out) {
  if (p->parts.count == 0) return ts_report(m->diags, p->loc, &diag_pass_internal, "kernel %s has no parts", p->name);
  switch (p->parts.data[0].family) {
    case IR_FAMILY_CONTRACT: return host_contract(m, p, t, log, out);
    case IR_FAMILY_ATTEND: return host_attend(m, p, t, log, out);
    case IR_FAMILY_ROWS: case IR_FAMILY_MOVE: return host_rows(m, p, t, log, out);
    default:
      return ts_report(m->diags, p->loc, &diag_pass_unsupported, "rule family-without-schedule: no host schedule for family %s",
                       ir_family_name(p->parts.data[0].family));
  }
}
