// Loading finished object bytes into this process with LLVM's JIT linker: what `qcc run` and `qcc bench` execute is
// the very object a program would link.
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"

struct Jit {
  LLVMOrcLLJITRef jit;
  char *name;
};

static bool report(Diag *diag, LLVMErrorRef err) {
  if (!err) return true;
  char *text = LLVMGetErrorMessage(err);
  diag_error(diag, DIAG_LIMIT, NULL, "internal error: loading the object: %s", text);
  LLVMDisposeErrorMessage(text);
  return false;
}

static void init_native(void) {
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  LLVMInitializeNativeAsmParser();
}

static bool add_object(Jit *j, const ObjectBytes *object, Diag *diag) {
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(j->jit);
  LLVMOrcDefinitionGeneratorRef process;
  char prefix = LLVMOrcLLJITGetGlobalPrefix(j->jit);
  if (!report(diag, LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, prefix, NULL, NULL))) return false;
  LLVMOrcJITDylibAddGenerator(lib, process);
  LLVMMemoryBufferRef bytes =
      LLVMCreateMemoryBufferWithMemoryRange((const char *)object->at, object->n, j->name, false);
  return report(diag, LLVMOrcLLJITAddObjectFile(j->jit, lib, bytes));
}

Jit *jit_load(const ObjectBytes *object, const char *name, Diag *diag) {
  init_native();
  Jit *j = calloc(1, sizeof *j);
  if (!j) return NULL;
  j->name = strdup(name);
  if (j->name && report(diag, LLVMOrcCreateLLJIT(&j->jit, NULL)) && add_object(j, object, diag) && jit_model(j))
    return j;
  jit_free(j);
  return NULL;
}

void *jit_symbol(const Jit *jit, const char *symbol) {
  LLVMOrcExecutorAddress at = 0;
  LLVMErrorRef err = LLVMOrcLLJITLookup(jit->jit, &at, symbol);
  if (err) LLVMConsumeError(err);
  return (void *)(uintptr_t)at;
}

const struct qcc_model *jit_model(const Jit *jit) {
  size_t n = strlen(jit->name);
  char *symbol = malloc(n + 8);
  if (!symbol) return NULL;
  memcpy(symbol, jit->name, n);
  memcpy(symbol + n, "_model", 7);
  const void *model = jit_symbol(jit, symbol);
  free(symbol);
  return model;
}

void jit_free(Jit *jit) {
  if (!jit) return;
  if (jit->jit) {
    LLVMErrorRef err = LLVMOrcDisposeLLJIT(jit->jit);
    if (err) LLVMConsumeError(err);
  }
  free(jit->name);
  free(jit);
}
