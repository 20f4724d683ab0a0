// The CPU check of init: every feature of the target row, by CPUID and XCR0 (or the ID registers of aarch64), inline.
// Needs no library and only baseline instructions.
#include <string.h>

#include "backends/llvm/llvm.h"

#define STATUS_CPU 2  // QCC_E_CPU

static LV k32(Emit *e, uint64_t v) { return LLVMConstInt(e->i32, v, false); }

static LV assembly(Emit *e, LT ret, uint32_t n, LT *types, LV *args, const char *code, const char *constraints) {
  LT type = LLVMFunctionType(ret, types, n, false);
  LV f = LLVMGetInlineAsm(type, code, strlen(code), constraints, strlen(constraints), true, false,
                          LLVMInlineAsmDialectATT, false);
  return LLVMBuildCall2(e->b, type, f, args, n, "");
}

static LV cpuid(Emit *e, uint32_t leaf, uint32_t subleaf) {
  LT ret = LLVMStructTypeInContext(e->ctx, (LT[]){e->i32, e->i32, e->i32, e->i32}, 4, false);
  return assembly(e, ret, 2, (LT[]){e->i32, e->i32}, (LV[]){k32(e, leaf), k32(e, subleaf)}, "cpuid",
                  "={ax},={bx},={cx},={dx},{ax},{cx}");
}

// Goes on in a new block when `ok`, else to `bad`.
static void require(Emit *e, LV ok, LLVMBasicBlockRef bad) {
  LLVMBasicBlockRef next = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "next");
  LLVMBuildCondBr(e->b, ok, next, bad);
  LLVMPositionBuilderAtEnd(e->b, next);
}

static void require_bits(Emit *e, LV word, uint64_t bits, LLVMBasicBlockRef bad) {
  LV mask = LLVMConstInt(LLVMTypeOf(word), bits, false);
  require(e, LLVMBuildICmp(e->b, LLVMIntEQ, LLVMBuildAnd(e->b, word, mask, ""), mask, ""), bad);
}

// All features of one CPUID leaf in four comparisons.
static void require_leaf(Emit *e, uint32_t leaf, uint32_t subleaf, LLVMBasicBlockRef bad) {
  uint64_t need[4] = {0};
  for (uint32_t f = 0; f < FEATURE_COUNT; f++) {
    const CpuFeatureInfo *info = cpu_feature_info((CpuFeature)f);
    if (info->x86 && target_has(e->row, (CpuFeature)f) && info->leaf == leaf && info->subleaf == subleaf)
      need[info->reg] |= UINT64_C(1) << info->bit;
  }
  if (!need[0] && !need[1] && !need[2] && !need[3]) return;
  LV most = LLVMBuildExtractValue(e->b, cpuid(e, leaf & 0x80000000u, 0), 0, "");
  require(e, LLVMBuildICmp(e->b, LLVMIntUGE, most, k32(e, leaf), ""), bad);
  LV r = cpuid(e, leaf, subleaf);
  for (uint32_t i = 0; i < 4; i++)
    if (need[i]) require_bits(e, LLVMBuildExtractValue(e->b, r, i, ""), need[i], bad);
}

static void require_state(Emit *e, LLVMBasicBlockRef bad) {
  uint64_t state = 0;
  for (uint32_t f = 0; f < FEATURE_COUNT; f++)
    if (target_has(e->row, (CpuFeature)f)) state |= cpu_feature_info((CpuFeature)f)->xcr0;
  if (!state) return;
  require_bits(e, LLVMBuildExtractValue(e->b, cpuid(e, 1, 0), 2, ""), UINT64_C(1) << 27, bad);  // OSXSAVE
  LT ret = LLVMStructTypeInContext(e->ctx, (LT[]){e->i32, e->i32}, 2, false);
  LV r = assembly(e, ret, 1, &e->i32, (LV[]){k32(e, 0)}, "xgetbv", "={ax},={dx},{cx}");
  require_bits(e, LLVMBuildExtractValue(e->b, r, 0, ""), state, bad);
}

// Linux gives a process the tile registers when it asks for them once, all its threads included.
static void require_tiles(Emit *e, LLVMBasicBlockRef bad) {
  enum { ARCH_PRCTL = 158, REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
  LT types[3] = {e->i64, e->i64, e->i64};
  LV args[3] = {LLVMConstInt(e->i64, ARCH_PRCTL, false), LLVMConstInt(e->i64, REQ_XCOMP_PERM, false),
                LLVMConstInt(e->i64, XTILEDATA, false)};
  LV status = assembly(e, e->i64, 3, types, args, "syscall", "={rax},{rax},{rdi},{rsi},~{rcx},~{r11},~{memory}");
  require(e, LLVMBuildIsNull(e->b, status, ""), bad);
}

static void require_x86(Emit *e, LLVMBasicBlockRef bad) {
  static const uint32_t leaves[][2] = {{1, 0}, {7, 0}, {7, 1}, {0x80000001u, 0}};
  for (uint32_t i = 0; i < 4; i++) require_leaf(e, leaves[i][0], leaves[i][1], bad);
  require_state(e, bad);
  if (e->has_tiles) require_tiles(e, bad);
}

static void require_a64(Emit *e, LLVMBasicBlockRef bad) {
  for (uint32_t f = 0; f < FEATURE_COUNT; f++) {
    const CpuFeatureInfo *info = cpu_feature_info((CpuFeature)f);
    if (info->x86 || !target_has(e->row, (CpuFeature)f)) continue;
    LV v = assembly(e, e->i64, 0, NULL, NULL, arena_printf(e->arena, "mrs $0, %s", info->sysreg), "=r");
    LV field = LLVMBuildLShr(e->b, v, LLVMConstInt(e->i64, info->shift, false), "");
    field = LLVMBuildAnd(e->b, field, LLVMConstInt(e->i64, 15, false), "");
    require(e, LLVMBuildICmp(e->b, LLVMIntUGE, field, LLVMConstInt(e->i64, info->least, false), ""), bad);
  }
}

LV emit_cpu_check(Emit *e) {
  LV fn = fn_new(e, arena_printf(e->arena, "%s_cpu", e->opt->name), e->i32, 0, NULL, LLVMInternalLinkage);
  bool x86 = e->row->t.arch[0] == 'x';
  if (x86) {
    fn_attr(e, fn, "target-cpu", "x86-64");
    fn_attr(e, fn, "target-features", "");
  }
  e->fn = fn;
  LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, fn, "entry"));
  LLVMBasicBlockRef bad = LLVMAppendBasicBlockInContext(e->ctx, fn, "refuse");
  if (x86 && !e->opt->emulated) require_x86(e, bad);
  if (!x86 && !e->row->bits32) require_a64(e, bad);
  LLVMBuildRet(e->b, k32(e, 0));
  LLVMPositionBuilderAtEnd(e->b, bad);
  LLVMBuildRet(e->b, k32(e, STATUS_CPU));
  return fn;
}
