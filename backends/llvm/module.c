// One emission: context, target machine, module flags, the short pass pipeline, and bytes out.
//
// Runs inside the child process that backend.c forks (or in this process when asked to). LLVM is an assembler here: the
// pipeline promotes reg buffers, merges equal addresses and hoists what does not change in a loop, nothing else.
// Everything LLVM is told comes from targets.def, whose names are known to be good; a diagnostic or error that LLVM
// raises nevertheless is a bug of qcc.
#include "backends/llvm/module.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <string.h>

#include "backends/llvm/llvm.h"
#include "ir/base/map.h"

#define FUNCTION_ATTRIBUTES ((LLVMAttributeIndex)LLVMAttributeFunctionIndex)
#define PIPELINE "function(sroa,early-cse<memssa>,simplifycfg,loop-mssa(licm),early-cse)"
#define PIPELINE_IN_PLACE "function(sroa,simplifycfg)"

// ---- functions and attributes

void fn_attr(Emit *e, LV fn, const char *key, const char *value) {
  LLVMAttributeRef a = LLVMCreateStringAttribute(e->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(fn, FUNCTION_ATTRIBUTES, a);
}

void fn_enum_attr(Emit *e, LV fn, uint32_t index, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  QCC_CHECK(kind, "LLVM has no attribute %s", name);
  LLVMAddAttributeAtIndex(fn, index, LLVMCreateEnumAttribute(e->ctx, kind, value));
}

LV fn_new(Emit *e, const char *name, LT ret, uint32_t n, LT *args, LLVMLinkage linkage) {
  LV fn = LLVMAddFunction(e->mod, name, LLVMFunctionType(ret, args, n, false));
  LLVMSetLinkage(fn, linkage);
  unsigned all = FUNCTION_ATTRIBUTES;
  fn_enum_attr(e, fn, all, "nounwind", 0);
  fn_enum_attr(e, fn, all, "noinline", 0);
  // On ARM tables of unwinding need a routine of the run-time library.
  if (!e->row->bits32) fn_enum_attr(e, fn, all, "uwtable", 1);
  fn_attr(e, fn, "warn-stack-size", "0");  // reports the frame of every function that has one
  fn_attr(e, fn, "no-builtins", "true");
  fn_attr(e, fn, "no-trapping-math", "true");
  if (e->row->bare) fn_enum_attr(e, fn, all, "optsize", 0);
  fn_attr(e, fn, "tune-cpu", e->row->tune);
  if (e->n_levels > 1) {
    fn_attr(e, fn, "target-cpu", e->row->cpu);
    fn_attr(e, fn, "target-features", target_feature_text(e->row, e->arena));
  }
  if (e->row->t.vector_bits == 512) {
    fn_attr(e, fn, "prefer-vector-width", "512");
    fn_attr(e, fn, "min-legal-vector-width", "512");
  }
  return fn;
}

void fn_baseline(Emit *e, LV fn) {
  if (e->row->features == 0 || e->row->bits32) return;
  fn_attr(e, fn, "target-cpu", e->row->cpu);
  fn_attr(e, fn, "target-features", "");
}

// ---- levels

void level_enter(Emit *e, uint32_t level) {
  e->at = &e->levels[level];
  e->m = e->at->level->m;
  e->p = e->m->program;
  e->row = e->at->row;
  e->weight_at = e->layout->at[level];
}

const char *level_symbol(const Emit *e, const char *kind, const char *name) {
  if (e->n_levels == 1) return arena_printf(e->arena, "%s_%s%s", e->opt->name, kind, name);
  return arena_printf(e->arena, "%s_%s%s_%s", e->opt->name, kind, name, target_word(&e->row->t, e->arena));
}

static void levels_init(Emit *e, uint32_t n, const Level *levels) {
  e->n_levels = n;
  e->levels = NEW_ARRAY(e->arena, LevelCode, n);
  for (uint32_t i = 0; i < n; i++) {
    e->levels[i].level = &levels[i];
    const TargetRow *emulated = e->opt->emulated;
    bool stands_in = emulated && strcmp(emulated->t.name, levels[i].target->name) == 0;
    e->levels[i].row = stands_in ? emulated : target_row(levels[i].target);
  }
  level_enter(e, 0);
}

// ---- module

// An image without a loader has its tables in flash, where nothing can be relocated.
static bool is_pic(const Emit *e) {
  return e->opt->pic && !e->row->bare && e->opt->link.relocation != RELOCATION_STATIC;
}

static LLVMCodeModel code_model(const Emit *e) {
  static const LLVMCodeModel models[] = {[CODE_MODEL_DEFAULT] = LLVMCodeModelDefault,
                                         [CODE_MODEL_SMALL] = LLVMCodeModelSmall,
                                         [CODE_MODEL_MEDIUM] = LLVMCodeModelMedium,
                                         [CODE_MODEL_LARGE] = LLVMCodeModelLarge};
  return models[e->opt->link.code_model];
}

static void module_flag(Emit *e, LLVMModuleFlagBehavior behavior, const char *key, uint32_t value) {
  LLVMMetadataRef v = LLVMValueAsMetadata(LLVMConstInt(e->i32, value, false));
  LLVMAddModuleFlag(e->mod, behavior, key, strlen(key), v);
}

// Without the marks the ELF linker would drop the user's control-flow protection for the whole program.
static void module_flags(Emit *e) {
  if (is_pic(e)) module_flag(e, LLVMModuleFlagBehaviorOverride, "PIC Level", 2);
  if (e->opt->link.format != FORMAT_ELF) return;
  if (e->row->t.arch[0] == 'x') {
    module_flag(e, LLVMModuleFlagBehaviorOverride, "cf-protection-branch", 1);
    module_flag(e, LLVMModuleFlagBehaviorOverride, "cf-protection-return", 1);
  } else if (e->row->t.arch[0] == 'a' && !e->row->bits32) {
    module_flag(e, LLVMModuleFlagBehaviorOverride, "branch-target-enforcement", 1);
    module_flag(e, LLVMModuleFlagBehaviorOverride, "sign-return-address", 1);
    module_flag(e, LLVMModuleFlagBehaviorOverride, "sign-return-address-all", 0);
  }
}

void targets_init(void) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeX86AsmParser();
  LLVMInitializeX86Disassembler();
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
  LLVMInitializeAArch64AsmParser();
  LLVMInitializeAArch64Disassembler();
  LLVMInitializeARMTargetInfo();
  LLVMInitializeARMTarget();
  LLVMInitializeARMTargetMC();
  LLVMInitializeARMAsmPrinter();
  LLVMInitializeARMAsmParser();
  LLVMInitializeARMDisassembler();
}

// Functions of levels name their instructions themselves; what goes to the assembler as text may use any of them.
static LLVMTargetMachineRef machine_new(Emit *e) {
  const TargetRow *most = e->levels[e->n_levels - 1].row;
  targets_init();
  LLVMTargetRef target;
  char *why = NULL;
  const char *triple = target_triple(e->row, &e->opt->link, e->arena);
  if (LLVMGetTargetFromTriple(triple, &target, &why)) qcc_bug("LLVM refuses %s: %s", triple, why);
  LLVMTargetMachineRef tm =
      LLVMCreateTargetMachine(target, triple, e->row->cpu, target_feature_text(most, e->arena), LLVMCodeGenLevelDefault,
                              is_pic(e) ? LLVMRelocPIC : LLVMRelocStatic, code_model(e));
  QCC_CHECK(tm, "LLVM has no machine for %s", e->row->t.name);
  return tm;
}

// Diagnostics: frame sizes are collected, everything else LLVM says is a bug.
static void on_diagnostic(LLVMDiagnosticInfoRef info, void *ctx) {
  Emission *out = ctx;
  char *text = LLVMGetDiagInfoDescription(info);
  unsigned long frame;
  char name[256];
  const char *at = strstr(text, "stack frame size");
  if (at && sscanf(at, "stack frame size (%lu) exceeds limit (0) in function '%255[^']'", &frame, name) == 2) {
    StackFrame f = {arena_printf(out->arena, "%s", name), frame};
    vec_push(out->arena, &out->frames, f);
  } else if (LLVMGetDiagInfoSeverity(info) <= LLVMDSWarning) {
    qcc_bug("LLVM: %s", text);
  }
  LLVMDisposeMessage(text);
}

static void emission_init(Emit *e, Emission *out) {
  e->ctx = LLVMContextCreate();
  LLVMContextSetDiagnosticHandler(e->ctx, on_diagnostic, out);
  e->mod = LLVMModuleCreateWithNameInContext(e->opt->name, e->ctx);
  e->b = LLVMCreateBuilderInContext(e->ctx);
  e->i1 = LLVMInt1TypeInContext(e->ctx);
  e->i8 = LLVMInt8TypeInContext(e->ctx);
  e->i16 = LLVMInt16TypeInContext(e->ctx);
  e->i32 = LLVMInt32TypeInContext(e->ctx);
  e->i64 = LLVMInt64TypeInContext(e->ctx);
  e->f32 = LLVMFloatTypeInContext(e->ctx);
  e->f64 = LLVMDoubleTypeInContext(e->ctx);
  e->ptr = LLVMPointerTypeInContext(e->ctx, 0);
  e->nothing = LLVMVoidTypeInContext(e->ctx);
  e->index = e->row->bits32 ? e->i32 : e->i64;
  e->word = e->row->bits32 ? 4 : 8;
  e->fn_of = map_new(e->arena);
  e->fn_like = map_new(e->arena);
  e->tm = machine_new(e);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(e->tm);
  LLVMSetModuleDataLayout(e->mod, layout);
  LLVMDisposeTargetData(layout);
  LLVMSetTarget(e->mod, target_triple(e->row, &e->opt->link, e->arena));
  module_flags(e);
}

static void check_module(Emit *e) {
  char *why = NULL;
  if (LLVMVerifyModule(e->mod, LLVMReturnStatusAction, &why)) qcc_bug("LLVM rejects the emitted module: %s", why);
  LLVMDisposeMessage(why);
}

static void run_pipeline(Emit *e, const char *pipeline) {
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef err = LLVMRunPasses(e->mod, pipeline, e->tm, options);
  if (err) qcc_bug("LLVM passes: %s", LLVMGetErrorMessage(err));
  LLVMDisposePassBuilderOptions(options);
}

static void write_out(Emit *e, EmitKind kind, Emission *out) {
  if (kind == EMIT_LL) {
    char *text = LLVMPrintModuleToString(e->mod);
    out->n = strlen(text);
    out->bytes = arena_copy(out->arena, text, out->n);
    LLVMDisposeMessage(text);
    return;
  }
  char *why = NULL;
  LLVMMemoryBufferRef buffer;
  LLVMCodeGenFileType type = kind == EMIT_ASM ? LLVMAssemblyFile : LLVMObjectFile;
  if (LLVMTargetMachineEmitToMemoryBuffer(e->tm, e->mod, type, &why, &buffer)) qcc_bug("LLVM: %s", why);
  out->n = LLVMGetBufferSize(buffer);
  out->bytes = arena_copy(out->arena, LLVMGetBufferStart(buffer), out->n);
  LLVMDisposeMemoryBuffer(buffer);
}

static void on_fatal(const char *reason) { qcc_bug("LLVM: %s", reason); }

void module_emit(uint32_t n, const Level *levels, const EmitOptions *opt, EmitKind kind, const WeightLayout *weights,
                 Emission *out) {
  LLVMInstallFatalErrorHandler(on_fatal);
  Emit e = {.arena = out->arena, .opt = opt, .layout = weights};
  levels_init(&e, n, levels);
  emission_init(&e, out);
  emit_entry(&e);
  check_module(&e);
  run_pipeline(&e, out->in_place ? PIPELINE_IN_PLACE : PIPELINE);
  write_out(&e, kind, out);
  LLVMDisposeBuilder(e.b);
  LLVMDisposeModule(e.mod);
  LLVMDisposeTargetMachine(e.tm);
  LLVMContextDispose(e.ctx);
  LLVMResetFatalErrorHandler();
}
