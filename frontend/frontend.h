// The front end: specs and weight files in, a module of tensor IR out.
//
// fe_load() takes a spec (.yaml), or a weights file (.gguf, .safetensors) for which the `bind` entries of the installed model specs
// pick the spec. It resolves parameters, binds every tensor of the file, and builds one IR function for each function of the spec.
#ifndef TESSERA_FRONTEND_FRONTEND_H
#define TESSERA_FRONTEND_FRONTEND_H

#include "frontend/tensor.h"
#include "frontend/yaml.h"
#include "ir/ir.h"
#include "ir/weights.h"
#include "text/text.h"

typedef struct fe_options {
  const char *const *search_paths;    // folders that hold installed specs: PATH/models/*.yaml, PATH/kernels, PATH/modules
  size_t search_path_count;
  const char *const *weights;         // files; they come before the spec's `file:`
  size_t weights_count;
  bool random_weights;                // instead of files: values made from `seed`
  uint64_t seed;
  const char *const *sets;            // "key=YAML": a parameter or dim, or a path below compile ("compile.kv.as=f16")
  size_t set_count;
  ir_class target_class;              // whose `compile.float` to take; IR_CLASS_NOTARGET is the host's
  ir_dtype float_type;                // what `float` means for activations; IR_VOID: as compile.float says
} fe_options;

// `check: {at: {m: [0, 1, 7]}}` of a kernel spec.
typedef struct fe_check_dim {
  ts_sym dim;
  const int64_t *values;
  size_t count;
} fe_check_dim;

typedef struct fe_meta {
  const char *key, *value;
} fe_meta;

typedef struct fe_model {
  ir_module *module;
  bool is_kernel;                     // a kernel spec: module->functions holds one function, which computes it
  const char *spec_path;
  // The compile section, with what it says when it says nothing.
  const char *const *targets;
  size_t target_count;
  ir_dtype float_host, float_cuda, float_type, kv_type;
  ts_sym activations;                 // "exact", "s8_block32"
  int64_t context;                    // largest length bound of a state; 0: no states
  tx_vocab vocab;                     // of the weights file; token_count 0: none
  ts_str tokenizer;                   // tx_pack()ed; empty: none
  TS_VEC(fe_meta) metadata;           // general.* of the file, parameters of the spec ("param.context"), "spec"
  // How a parameter got its value, for people and for reports.
  struct fe_param_info { ts_sym name; const char *value, *origin; ts_loc loc; } *params;
  size_t param_count;
  const fe_check_dim *check;          // of a kernel spec
  size_t check_count;
  void *private_state;
} fe_model;

// The model borrows arena, names and diags. Up to 20 errors are reported where that makes sense. On failure *out is NULL.
ts_status fe_load(ts_arena *a, ts_interner *names, ts_diags *d, const char *path, const fe_options *o, fe_model **out);
void fe_unload(fe_model *m);          // closes mapped files: weights of the module end here. NULL is fine

void fe_doc_ops(ts_text *out);        // the table of spec ops as Markdown

#endif
