// A spec while it is being turned into IR. Private to frontend/.
#ifndef TESSERA_FRONTEND_SPEC_H
#define TESSERA_FRONTEND_SPEC_H

#include "frontend/expr.h"
#include "frontend/frontend.h"
#include "frontend/gguf.h"
#include "frontend/safetensors.h"

// ---- values of expressions -----------------------------------------------------------------------------------------------
typedef enum fe_value_kind {
  FE_V_ABSENT,     // an optional weight that the file does not have
  FE_V_INT, FE_V_REAL, FE_V_BOOL,
  FE_V_CHOICE,     // a choice or a text
  FE_V_SIZE,       // a size that is only known at a call
  FE_V_TENSOR, FE_V_STATE, FE_V_LIST
} fe_value_kind;
typedef struct fe_value fe_value;
struct fe_value {
  fe_value_kind kind;
  int64_t integer;            // INT, BOOL
  double real;
  ts_sym sym;                 // CHOICE
  const ir_size *size;        // SIZE; also INT that is the value of a dim
  ts_sym dim;                 // the dim that SIZE or INT is, by name; else NULL
  ir_value *tensor;
  const ir_state *state;
  fe_value *items;            // LIST
  size_t count;
  bool results;               // LIST: several results of one call
};
const char *fe_value_kind_name(const fe_value *v);
void fe_print_value(const fe_value *v, ts_text *out);

// ---- declarations --------------------------------------------------------------------------------------------------------
typedef struct fe_param {
  ts_sym name;
  ts_loc loc;
  fe_param_text decl;
  const fe_node *set, *command;    // values of `set:` and of --set
  int state;                       // 0: unsolved, 1: being solved, 2: solved, 3: failed
  fe_value value;
  const char *origin;              // "default", "file key llama.block_count", ...
  ts_loc origin_loc;
} fe_param;

typedef struct fe_dim {
  ts_sym name;
  ts_loc loc;
  const fe_node *range, *set;
  int state;
  const ir_size *size;             // a call symbol or a constant
  ts_sym per;
} fe_dim;

typedef struct fe_weight_decl {
  ts_sym name;
  ts_loc loc;
  fe_type_text type;
} fe_weight_decl;

typedef struct fe_input_decl {
  ts_sym name;
  ts_loc loc;
  fe_type_text type;
} fe_input_decl;

typedef struct fe_module_decl {
  ts_sym name, index;
  ts_loc loc;
  TS_VEC(fe_param) params;
  TS_VEC(fe_input_decl) inputs;
  TS_VEC(fe_weight_decl) weights;
  const fe_node *graph, *output;
  bool busy;                       // being instantiated: a call to it would be a circle
} fe_module_decl;

// ---- files ---------------------------------------------------------------------------------------------------------------
typedef enum fe_format { FE_FORMAT_GGUF, FE_FORMAT_SAFETENSORS } fe_format;
typedef struct fe_file_key {       // of safetensors metadata and of config.json
  ts_str key;
  fe_value value;
  ts_loc loc;
} fe_file_key;
typedef struct fe_source {
  ts_sym path;
  fe_format format;
  fe_gguf gguf;
  fe_safetensors safetensors;
  const fe_tensors *tensors;
  bool *used;                      // by tensor
  TS_VEC(fe_file_key) keys;        // safetensors
} fe_source;

typedef struct fe_weight {         // resolved, by full name
  ts_sym name;
  const ir_weight *weight;         // NULL: absent and optional
  ir_dtype dtype;
} fe_weight;

typedef struct fe_quantize {
  const char *pattern;
  const ir_encoding *encoding;
  ts_loc loc;
} fe_quantize;

typedef struct fe_named_encoding {
  ts_sym name;
  const ir_encoding *encoding;
} fe_named_encoding;

typedef struct fe_spec {
  ts_arena *a;
  ts_interner *names;
  ts_diags *d;
  fe_grammar grammar;
  const fe_options *o;
  fe_model *model;
  ir_module *m;
  fe_node *root;                   // after `use` and --set
  ts_sym path;
  TS_VEC(fe_param) params;
  TS_VEC(fe_dim) dims;
  TS_VEC(fe_weight_decl) weights;
  TS_VEC(fe_module_decl *) modules;
  TS_VEC(fe_source) sources;
  const fe_node *bind;             // the entry that was picked, or NULL
  ts_map resolved;                 // weights by name
  TS_VEC(fe_quantize) quantize;
  TS_VEC(const fe_node *) using;   // chain of `use`
  ts_map said;                     // remarks made, by place
  TS_VEC(fe_named_encoding) encodings;   // of a kernel spec
} fe_spec;

#define FE_ERROR(S, where, kind, ...) ts_report((S)->d, (where), &diag_##kind, __VA_ARGS__)

// ---- spec_tree.c: files, `use`, --set, sections ----------------------------------------------------------------------------
ts_status fe_spec_read(fe_spec *S, const char *path);              // S->root, complete and with known keys
fe_node *fe_text_node(fe_spec *S, const char *file, const char *text, ts_status *status);
ts_status fe_expect(fe_spec *S, const fe_node *n, fe_node_kind kind, const char *what);
ts_status fe_need_text(fe_spec *S, const fe_node *n, const char *what, ts_sym *out);
const char *fe_find_spec(fe_spec *S, const char *from, ts_str name);   // path of a spec named in `use`; NULL: not found
void fe_suggest(fe_spec *S, ts_loc loc, ts_str name, const char *const *known, size_t count);

// ---- spec_decl.c: params, dims, states, weights, modules -------------------------------------------------------------------
ts_status fe_declare(fe_spec *S);                                  // reads the sections
ts_status fe_declare_params(fe_spec *S, const fe_node *section, fe_param **list, size_t *count);
fe_param *fe_find_param(fe_spec *S, ts_sym name);
fe_dim *fe_find_dim(fe_spec *S, ts_sym name);
fe_module_decl *fe_find_module(fe_spec *S, ts_sym name);
ts_status fe_solve_param(fe_spec *S, fe_param *p);
ts_status fe_solve_dim(fe_spec *S, fe_dim *d);
ts_status fe_param_accept(fe_spec *S, const fe_param *p, const fe_value *v, ts_loc loc, fe_value *out);   // value of the param's kind
ts_status fe_node_value(fe_spec *S, const fe_node *n, fe_value *out);   // a plain scalar: number, bool, text
ts_status fe_compile_section(fe_spec *S);
ts_status fe_build_states(fe_spec *S);
ts_status fe_declare_dims(fe_spec *S);
ts_status fe_given_values(fe_spec *S);                             // `set:` and --set
ts_status fe_encoding(fe_spec *S, ts_sym name, ts_loc loc, const ir_encoding **out);   // of the spec, else of the table

// ---- bind.c: weights files -------------------------------------------------------------------------------------------------
ts_status fe_open_source(fe_spec *S, const char *path);
void fe_close_sources(fe_spec *S);
ts_status fe_pick_bind(fe_spec *S);                                // S->bind
// Does the entry fit the open files? Keys that the file lacks are unequal to everything.
ts_status fe_bind_fits(fe_spec *S, const fe_node *entry, bool *out);
bool fe_file_value(fe_spec *S, ts_str key, fe_value *out, ts_loc *loc);
bool fe_bind_param(fe_spec *S, ts_sym param, fe_value *out, const char **origin, ts_loc *loc, ts_status *status);
// The file's tensor for a weight: `key` as bind names it ("layer.wq"), indices of the modules around it.
typedef struct fe_index {
  ts_sym name;
  int64_t value;
} fe_index;
typedef struct fe_weight_ref {
  ts_sym full, key;                // "layer.3.wq", "layer.wq"
  const fe_index *index;
  size_t index_count;
} fe_weight_ref;
bool fe_infer_param(fe_spec *S, ts_sym name, fe_value *out, const char **origin, ts_loc *loc);
// Finds or makes the weight; *out NULL: absent (optional).
ts_status fe_resolve_weight(fe_spec *S, const fe_weight_decl *w, const fe_weight_ref *ref, ir_dtype dtype, unsigned rank, const int64_t *shape,
                            const fe_weight **out);
ts_status fe_check_files(fe_spec *S);                              // unused tensors, keys nobody reads
ts_status fe_import_tokenizer(fe_spec *S);                         // import_tokenizer.c

// ---- spec_eval.c: expressions ----------------------------------------------------------------------------------------------
typedef struct fe_name {
  ts_sym name;
  ts_loc loc;
  fe_value value;
} fe_name;
typedef struct fe_function_state fe_function_state;
typedef struct fe_env {
  fe_spec *S;
  fe_function_state *f;            // NULL: sizes and numbers only
  TS_VEC(fe_name) names;
  const fe_module_decl *module;    // NULL: a function
  ts_sym prefix, key;              // of weights: "layer.3.", "layer."
  TS_VEC(fe_index) index;
  bool in_file;                    // names are keys of the file
  ts_sym entry;                    // name of the graph entry being evaluated, and
  const fe_ex *entry_call;         //   its expression: the call that may have weights of its own
  struct fe_kernel *kernel;        // equations of a kernel spec: names take indices
} fe_env;
ts_status fe_eval(fe_env *e, const fe_ex *x, fe_value *out);
ts_status fe_eval_int(fe_env *e, const fe_ex *x, const char *what, int64_t *out);
ts_status fe_eval_size(fe_env *e, const fe_ex *x, const ir_size **out);
ts_status fe_lookup(fe_env *e, ts_sym name, ts_loc loc, bool *found, fe_value *out);
ts_status fe_unknown_name(fe_env *e, ts_sym name, ts_loc loc);
fe_value fe_int_value(int64_t v);
fe_value fe_tensor_value(ir_value *v);
fe_value fe_size_of(fe_spec *S, const ir_size *s);
ts_status fe_check_shadow(fe_env *e, ts_sym name, ts_loc loc);

// ---- spec_build.c, spec_ops.c: functions and modules to IR ------------------------------------------------------------------
struct fe_function_state {
  fe_spec *S;
  ir_function *f;
  ir_builder b;
  const fe_node *sets;             // dims given a value in this function
  ts_map weights;                  // full name -> weight op's value
  ts_map states;                   // state -> its value
};
ts_status fe_build_functions(fe_spec *S);
ts_status fe_call(fe_env *e, const fe_ex *x, fe_value *out);
ts_status fe_call_module(fe_env *e, const fe_ex *x, fe_module_decl *module, ts_sym entry, fe_value *out);
ts_status fe_call_repeat(fe_env *e, const fe_ex *x, fe_value *out);
ts_status fe_tensor_binary(fe_env *e, fe_oper op, ts_loc loc, const fe_value *x, const fe_value *y, fe_value *out);
ts_status fe_tensor_unary(fe_env *e, ir_scalar op, ts_loc loc, const fe_value *x, fe_value *out);
bool fe_is_op(ts_sym name);
const ir_size *fe_dim_size(fe_env *e, fe_dim *d);                  // with the function's `set`
ts_status fe_weight_value(fe_env *e, const fe_weight_decl *w, fe_value *out);
ir_value *fe_state_value(fe_env *e, const ir_state *s);
ts_status fe_type_shape(fe_env *e, const fe_type_text *t, unsigned *rank, const ir_size **shape);
ts_status fe_type_dtype(fe_spec *S, const fe_type_text *t, ir_dtype *out);

// ---- spec_kernel.c: kernel specs ---------------------------------------------------------------------------------------------
ts_status fe_load_kernel(fe_spec *S);
ir_dtype fe_work_type(const fe_env *e, ir_dtype t);                                 // type that arithmetic on t is done in
ts_status fe_kernel_index(fe_env *e, const fe_ex *x, fe_value *out);                // x[i, c]
ts_status fe_kernel_call(fe_env *e, const fe_ex *x, bool *done, fe_value *out);     // sum(c, ...), softmax(c, ...)

#endif
