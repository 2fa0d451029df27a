// From kernel to object: printing, LLVM's passes, machine code.
//
// The passes are LLVM's O2 without its vectorisers and without loop unrolling: tiles are vectors already, and what a loop does in
// one step was the schedule's choice.
#include "codegen/host/emit.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include <pthread.h>

static void start_llvm(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
}

static ts_status llvm_error(const ir_kernel *k, ts_diags *d, const char *what, char *message) {
  ts_status s = ts_report(d, k->loc, &diag_host_llvm, "kernel %s: %s: %s", k->name ? k->name : "?", what,
                          message ? message : "no reason given");
  LLVMDisposeMessage(message);
  return s;
}

static ts_str copy_text(ts_arena *a, const char *data, size_t n) { return (ts_str){ts_arena_strndup(a, data, n), n}; }

static ts_status make_machine(const ir_kernel *k, const cgh_isa *isa, ts_diags *d, LLVMTargetMachineRef *out) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start_llvm);
  LLVMTargetRef target;
  char *message = NULL;
  const char *triple = "x86_64-unknown-linux-gnu";
  if (LLVMGetTargetFromTriple(triple, &target, &message)) return llvm_error(k, d, "no x86-64 target", message);
  *out = LLVMCreateTargetMachine(target, triple, isa->cpu, isa->llvm, LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelSmall);
  return TS_OK;
}

static ts_status run_passes(const ir_kernel *k, LLVMModuleRef m, LLVMTargetMachineRef tm, ts_diags *d) {
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  LLVMPassBuilderOptionsSetLoopVectorization(o, false);
  LLVMPassBuilderOptionsSetLoopInterleaving(o, false);
  LLVMPassBuilderOptionsSetSLPVectorization(o, false);
  LLVMPassBuilderOptionsSetLoopUnrolling(o, false);
  LLVMErrorRef err = LLVMRunPasses(m, "default<O2>", tm, o);
  LLVMDisposePassBuilderOptions(o);
  if (!err) return TS_OK;
  char *text = LLVMGetErrorMessage(err);
  ts_status s = ts_report(d, k->loc, &diag_host_llvm, "kernel %s: passes: %s", k->name ? k->name : "?", text);
  LLVMDisposeErrorMessage(text);
  return s;
}

static ts_status to_memory(const ir_kernel *k, LLVMModuleRef m, LLVMTargetMachineRef tm, LLVMCodeGenFileType type, ts_arena *a,
                           ts_diags *d, ts_str *out) {
  char *message = NULL;
  LLVMMemoryBufferRef buffer;
  LLVMModuleRef copy = LLVMCloneModule(m);   // code generation changes the module
  bool failed = LLVMTargetMachineEmitToMemoryBuffer(tm, copy, type, &message, &buffer);
  LLVMDisposeModule(copy);
  if (failed) return llvm_error(k, d, "code generation", message);
  size_t n = LLVMGetBufferSize(buffer);
  *out = (ts_str){ts_arena_copy(a, LLVMGetBufferStart(buffer), n, 64), n};
  LLVMDisposeMemoryBuffer(buffer);
  return TS_OK;
}

static ts_status verify(const ir_kernel *k, LLVMModuleRef m, ts_diags *d) {
  char *message = NULL;
  if (LLVMVerifyModule(m, LLVMReturnStatusAction, &message)) return llvm_error(k, d, "the module is malformed", message);
  LLVMDisposeMessage(message);
  return TS_OK;
}

static ts_status compile_module(const ir_kernel *k, LLVMModuleRef m, LLVMTargetMachineRef tm, const cgh_options *o, ts_arena *a,
                                ts_diags *d, cgh_code *out) {
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
  LLVMSetModuleDataLayout(m, layout);
  LLVMDisposeTargetData(layout);
  TS_TRY(verify(k, m, d));
  TS_TRY(run_passes(k, m, tm, d));
  if (o && o->llvm_text) {
    char *text = LLVMPrintModuleToString(m);
    out->llvm = copy_text(a, text, strlen(text));
    LLVMDisposeMessage(text);
  }
  ts_str object;
  TS_TRY(to_memory(k, m, tm, LLVMObjectFile, a, d, &object));
  out->object = (const unsigned char *)object.data;
  out->object_bytes = object.len;
  LLVMSetTargetMachineAsmVerbosity(tm, true);   // shows spec lines and what constants are
  if (o && o->assembly) TS_TRY(to_memory(k, m, tm, LLVMAssemblyFile, a, d, &out->assembly));
  return TS_OK;
}

ts_status cgh_compile(const ir_kernel *k, const cgh_isa *isa, const cgh_options *o, ts_arena *a, ts_diags *d, cgh_code *out) {
  *out = (cgh_code){0};
  LLVMTargetMachineRef tm;
  TS_TRY(make_machine(k, isa, d, &tm));
  LLVMContextRef ctx = LLVMContextCreate();
  unsigned before = d->errors;
  LLVMModuleRef m = cgh_emit_kernel(k, isa, ctx, a, d, out);
  ts_status s = m ? compile_module(k, m, tm, o, a, d, out) : TS_UNSUPPORTED;
  if (!m && d->errors > before && d->list.count)
    s = d->list.data[d->list.count - 1].kind ? d->list.data[d->list.count - 1].kind->status : s;
  if (m) LLVMDisposeModule(m);
  LLVMContextDispose(ctx);
  LLVMDisposeTargetMachine(tm);
  return s;
}

ts_status cgh_kernel_to_llvm(const ir_kernel *k, const cgh_isa *isa, ts_diags *d, ts_text *out) {
  ts_arena a;
  ts_arena_init(&a);
  LLVMContextRef ctx = LLVMContextCreate();
  cgh_code code = {0};
  LLVMModuleRef m = cgh_emit_kernel(k, isa, ctx, &a, d, &code);
  ts_status s = m ? TS_OK : TS_UNSUPPORTED;
  if (m) {
    char *text = LLVMPrintModuleToString(m);
    ts_text_puts(out, text);
    LLVMDisposeMessage(text);
    LLVMDisposeModule(m);
  }
  LLVMContextDispose(ctx);
  ts_arena_deinit(&a);
  return s;
}
