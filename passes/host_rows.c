// Host schedules of families `rows` and `move`: one block per row of m; chunks of 32 lanes (rows_form.h has the loops).
#include "passes/host_internal.h"
#include "passes/rows_form.h"

// The element loads of a packed table: row by an index tile [m], columns by the chunk.
static ts_status encoded_load(pass_translator *t, const ir_op *op, ir_value **out) {
  host_schedule *s = t->user;
  uint32_t param;
  const ir_attr *at = ir_attr_find(op, "at");
  ir_value *id;
  if (!pass_param_index(s->from, op->operands[0], &param) || !s->weights[param] || at->axes.data[0] != s->m->none || at->axes.data[1] == s->m->none)
    return HOST_REFUSE(s, op->loc, "rule packed-weight-access: a packed weight is read row by row only");
  TS_TRY(pass_translate_value(t, op->operands[1], &id));
  ts_sym k = at->axes.data[1];
  id = pass_drop_units(&t->b, id, NULL);
  pass_box *box = pass_find_box(t, k);
  ir_value *v = host_row_chunk(s, s->weights[param], id, pass_div_const(&t->b, box->base, HOST_CHUNK), k);
  const ir_type *r = op->results[0]->type;
  if (r->rank == 2) v = pass_add_axis(&t->b, v, r->axes[0]);
  *out = ir_cast(&t->b, v, op->results[0]->type->dtype);
  return TS_OK;
}

static ts_status chunk_tile(void *user, ir_dtype type, unsigned rank, const ts_sym *axes, const int64_t *extents, const ir_type **out) {
  *out = host_tile(user, type, rank, axes, extents, axes[rank - 1]);
  return TS_OK;
}

static ts_status build(host_schedule *s) {
  pass_rows_form f;
  TS_TRY(pass_read_rows(&s->t, &f));
  f.chunk = HOST_CHUNK, f.lanes = true, f.tile = chunk_tile, f.user = s;
  s->t.encoded = encoded_load;
  s->t.user = s;
  s->kernel->grid[0] = f.m->size;
  pass_set_box(&s->t, (pass_box){.axis = f.m->name, .base = pass_pid(&s->t.b, 0), .extent = 1, .size = f.m->size, .row = true});
  return pass_emit_rows(&f);
}

ts_status host_rows(ir_module *m, const ir_kernel *p, const pass_host_target *t, pass_log *log, pass_schedules *out) {
  host_schedule s;
  *out = (pass_schedules){0};
  ts_status status = host_begin(&s, m, p, t, log, NULL);
  if (status == TS_OK) status = build(&s);
  if (status == TS_OK) ts_vec_push(m->arena, &out->variants, host_end(&s, NULL, "rows"));
  host_deinit(&s);
  return status;
}
