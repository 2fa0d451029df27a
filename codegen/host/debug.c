// Line tables: every instruction knows the spec line of the op it came from. Machine code is not affected; the linker drops the
// tables, LLVM text and assembly show them.
#include "codegen/host/emit.h"

#include "base/file.h"

#include <llvm-c/DebugInfo.h>

static LLVMMetadataRef file_node(cgh_emit *e, ts_sym file) {
  const char *name = ts_path_base(file);
  ts_str folder = ts_path_folder(file);
  return LLVMDIBuilderCreateFile(e->debug, name, strlen(name), folder.data, folder.len);
}

void cgh_debug_begin(cgh_emit *e) {
  const ir_kernel *k = e->kernel;
  if (!k->loc.file) return;
  static const char producer[] = "tessera";
  const char *name = k->name ? k->name : "kernel";
  e->debug = LLVMCreateDIBuilder(e->mod);
  LLVMMetadataRef file = file_node(e, k->loc.file);
  LLVMDIBuilderCreateCompileUnit(e->debug, LLVMDWARFSourceLanguageC, file, producer, sizeof producer - 1, true, "", 0, 0, "", 0,
                                 LLVMDWARFEmissionLineTablesOnly, 0, false, false, "", 0, "", 0);
  LLVMMetadataRef type = LLVMDIBuilderCreateSubroutineType(e->debug, file, NULL, 0, LLVMDIFlagZero);
  e->scope = LLVMDIBuilderCreateFunction(e->debug, file, name, strlen(name), name, strlen(name), file, k->loc.line, type, false,
                                         true, k->loc.line, LLVMDIFlagZero, true);
  LLVMSetSubprogram(e->fn, e->scope);
  LLVMValueRef version = LLVMConstInt(e->i32, LLVMDebugMetadataVersion(), false);
  LLVMAddModuleFlag(e->mod, LLVMModuleFlagBehaviorWarning, "Debug Info Version", 18, LLVMValueAsMetadata(version));
  LLVMSetCurrentDebugLocation2(e->entry, LLVMDIBuilderCreateDebugLocation(e->ctx, k->loc.line, k->loc.col, e->scope, NULL));
  LLVMSetCurrentDebugLocation2(e->b, LLVMDIBuilderCreateDebugLocation(e->ctx, k->loc.line, k->loc.col, e->scope, NULL));
}

void cgh_debug_op(cgh_emit *e, const ir_op *op) {
  if (!e->debug || !op->loc.file) return;
  LLVMMetadataRef scope = e->scope;
  if (op->loc.file != e->kernel->loc.file)
    scope = LLVMDIBuilderCreateLexicalBlockFile(e->debug, scope, file_node(e, op->loc.file), 0);
  LLVMSetCurrentDebugLocation2(e->b, LLVMDIBuilderCreateDebugLocation(e->ctx, op->loc.line, op->loc.col, scope, NULL));
}

void cgh_debug_end(cgh_emit *e) {
  if (!e->debug) return;
  LLVMDIBuilderFinalize(e->debug);
  LLVMDisposeDIBuilder(e->debug);
}
