// What the CPU and the system offer of the features that some level needs, as bits of one number, inline: no library,
// only instructions that every CPU of the architecture has.
//
//   words = CPUID leaves and XCR0, or ID registers of aarch64
//   for each feature {word, shift, mask, least, state}: bit i = (words[word] >> shift & mask) >= least and the system
//   saves its state
//
// A leaf that the CPU lacks reads as zeros. CPU names are never looked at.
#include <string.h>

#include "backends/llvm/llvm.h"

#define MOST_WORDS 20  // four leaves of four registers, and XCR0

static LV k32(Emit *e, uint64_t v) { return LLVMConstInt(e->i32, v, false); }
static LV k64(Emit *e, uint64_t v) { return LLVMConstInt(e->i64, v, false); }

static LV assembly(Emit *e, LT ret, uint32_t n, LT *types, LV *args, const char *code, const char *constraints) {
  LT type = LLVMFunctionType(ret, types, n, false);
  LV f = LLVMGetInlineAsm(type, code, strlen(code), constraints, strlen(constraints), true, false,
                          LLVMInlineAsmDialectATT, false);
  return LLVMBuildCall2(e->b, type, f, args, n, "");
}

// ---- which features

CpuNeeds cpu_needs(const Emit *e) {
  CpuNeeds all = {.n = 0};
  uint64_t any = 0;
  for (uint32_t i = 0; i < e->n_levels; i++)
    if (e->levels[i].row != e->opt->emulated && !e->row->bits32) any |= e->levels[i].row->features;
  for (uint32_t f = 0; f < FEATURE_COUNT; f++)
    if (any >> f & 1u) all.feature[all.n++] = (CpuFeature)f;
  return all;
}

uint64_t cpu_needs_of(const CpuNeeds *all, const TargetRow *row) {
  uint64_t bits = 0;
  for (uint32_t i = 0; i < all->n; i++)
    if (target_has(row, all->feature[i])) bits |= UINT64_C(1) << i;
  return bits;
}

// ---- words

typedef struct Words {
  LV at;  // alloca of MOST_WORDS i64
  uint32_t n;
  uint32_t leaf[4][2], n_leaves;  // x86: words 4 i .. 4 i + 3, the last word is XCR0
  const char *sysreg[MOST_WORDS];
} Words;

static void put_word(Emit *e, Words *w, LV value) {
  LV i = k64(e, w->n++);
  LLVMBuildStore(e->b, LLVMBuildZExtOrBitCast(e->b, value, e->i64, ""), LLVMBuildGEP2(e->b, e->i64, w->at, &i, 1, ""));
}

static LV cpuid(Emit *e, uint32_t leaf, uint32_t subleaf) {
  LT ret = LLVMStructTypeInContext(e->ctx, (LT[]){e->i32, e->i32, e->i32, e->i32}, 4, false);
  return assembly(e, ret, 2, (LT[]){e->i32, e->i32}, (LV[]){k32(e, leaf), k32(e, subleaf)}, "cpuid",
                  "={ax},={bx},={cx},={dx},{ax},{cx}");
}

static LV at_least(Emit *e, LV value, uint32_t least) {
  return LLVMBuildICmp(e->b, LLVMIntUGE, value, k32(e, least), "");
}

// The registers of a leaf, zeros where the CPU has no such leaf.
static void put_leaf(Emit *e, Words *w, uint32_t leaf, uint32_t subleaf) {
  LV most = LLVMBuildExtractValue(e->b, cpuid(e, leaf & 0x80000000u, 0), 0, "");
  LV there = at_least(e, most, leaf);
  if (subleaf) {
    LV subleaves = LLVMBuildExtractValue(e->b, cpuid(e, leaf, 0), 0, "");
    there = LLVMBuildAnd(e->b, there, at_least(e, subleaves, subleaf), "");
  }
  LV r = cpuid(e, leaf, subleaf);
  for (uint32_t i = 0; i < 4; i++)
    put_word(e, w, LLVMBuildSelect(e->b, there, LLVMBuildExtractValue(e->b, r, i, ""), k32(e, 0), ""));
  w->leaf[w->n_leaves][0] = leaf;
  w->leaf[w->n_leaves++][1] = subleaf;
}

// XCR0 can only be read where the system said so (OSXSAVE).
static LV read_states(Emit *e) {
  LV word = LLVMBuildExtractValue(e->b, cpuid(e, 1, 0), 2, "");
  LV saved = LLVMBuildICmp(e->b, LLVMIntNE, LLVMBuildAnd(e->b, word, k32(e, 1u << 27), ""), k32(e, 0), "");
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef read = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "read");
  LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(e->ctx, e->fn, "states");
  LLVMBuildCondBr(e->b, saved, read, done);
  LLVMPositionBuilderAtEnd(e->b, read);
  LT ret = LLVMStructTypeInContext(e->ctx, (LT[]){e->i32, e->i32}, 2, false);
  LV r = assembly(e, ret, 1, &e->i32, (LV[]){k32(e, 0)}, "xgetbv", "={ax},={dx},{cx}");
  LV low = LLVMBuildExtractValue(e->b, r, 0, "");
  LLVMBuildBr(e->b, done);
  LLVMPositionBuilderAtEnd(e->b, done);
  LV phi = LLVMBuildPhi(e->b, e->i32, "");
  LLVMAddIncoming(phi, (LV[]){k32(e, 0), low}, (LLVMBasicBlockRef[]){from, read}, 2);
  return phi;
}

static bool is_leaf_known(const Words *w, const CpuFeatureInfo *f) {
  for (uint32_t i = 0; i < w->n_leaves; i++)
    if (w->leaf[i][0] == f->leaf && w->leaf[i][1] == f->subleaf) return true;
  return false;
}

static void read_x86(Emit *e, const CpuNeeds *all, Words *w) {
  for (uint32_t i = 0; i < all->n; i++) {
    const CpuFeatureInfo *f = cpu_feature_info(all->feature[i]);
    if (f->x86 && !is_leaf_known(w, f)) put_leaf(e, w, f->leaf, f->subleaf);
  }
  put_word(e, w, read_states(e));
}

static void read_a64(Emit *e, const CpuNeeds *all, Words *w) {
  for (uint32_t i = 0; i < all->n; i++) {
    const char *reg = cpu_feature_info(all->feature[i])->sysreg;
    bool known = false;
    for (uint32_t k = 0; k < w->n; k++) known = known || strcmp(w->sysreg[k], reg) == 0;
    if (known) continue;
    w->sysreg[w->n] = reg;
    put_word(e, w, assembly(e, e->i64, 0, NULL, NULL, arena_printf(e->arena, "mrs $0, %s", reg), "=r"));
  }
}

// ---- the table

static uint32_t word_of(const Words *w, const CpuFeatureInfo *f) {
  uint32_t i = 0;
  if (f->x86) {
    while (i < w->n_leaves && (w->leaf[i][0] != f->leaf || w->leaf[i][1] != f->subleaf)) i++;
    return 4 * i + (uint32_t)f->reg;
  }
  while (i < w->n && strcmp(w->sysreg[i], f->sysreg) != 0) i++;
  return i;
}

enum { COL_WORD, COL_SHIFT, COL_MASK, COL_LEAST, COL_STATE, COLS };

// Rows of five i32.
static LV table_of(Emit *e, const CpuNeeds *all, const Words *w) {
  LV cell[FEATURE_COUNT * COLS];
  for (uint32_t i = 0; i < all->n; i++) {
    const CpuFeatureInfo *f = cpu_feature_info(all->feature[i]);
    LV *row = cell + (size_t)i * COLS;
    row[COL_WORD] = k32(e, word_of(w, f));
    row[COL_SHIFT] = k32(e, f->x86 ? f->bit : f->shift);
    row[COL_MASK] = k32(e, f->x86 ? 1 : 15);
    row[COL_LEAST] = k32(e, f->x86 ? 1 : f->least);
    row[COL_STATE] = k32(e, f->xcr0);
  }
  LV value = LLVMConstArray2(e->i32, cell, (uint64_t)all->n * COLS);
  LV g = LLVMAddGlobal(e->mod, LLVMTypeOf(value), arena_printf(e->arena, "%s_features", e->opt->name));
  LLVMSetInitializer(g, value);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  return g;
}

static LV cell_at(Emit *e, LV table, LV row, uint32_t col) {
  LV i = LLVMBuildAdd(e->b, LLVMBuildMul(e->b, row, k64(e, COLS), ""), k64(e, col), "");
  LV v = LLVMBuildLoad2(e->b, e->i32, LLVMBuildGEP2(e->b, e->i32, table, &i, 1, ""), "");
  return LLVMBuildZExt(e->b, v, e->i64, "");
}

static LV word_at(Emit *e, const Words *w, LV i) {
  return LLVMBuildLoad2(e->b, e->i64, LLVMBuildGEP2(e->b, e->i64, w->at, &i, 1, ""), "");
}

// Bit `row` of the result.
static LV feature_bit(Emit *e, const Words *w, LV table, LV row) {
  LV field =
      LLVMBuildLShr(e->b, word_at(e, w, cell_at(e, table, row, COL_WORD)), cell_at(e, table, row, COL_SHIFT), "");
  field = LLVMBuildAnd(e->b, field, cell_at(e, table, row, COL_MASK), "");
  LV offered = LLVMBuildICmp(e->b, LLVMIntUGE, field, cell_at(e, table, row, COL_LEAST), "");
  LV state = cell_at(e, table, row, COL_STATE), saved = word_at(e, w, k64(e, w->n - 1));
  saved = LLVMBuildICmp(e->b, LLVMIntEQ, LLVMBuildAnd(e->b, saved, state, ""), state, "");
  LV both = LLVMBuildZExt(e->b, LLVMBuildAnd(e->b, offered, saved, ""), e->i64, "");
  return LLVMBuildShl(e->b, both, row, "");
}

LV emit_cpu_features(Emit *e, const CpuNeeds *all) {
  LV fn = fn_new(e, arena_printf(e->arena, "%s_cpu", e->opt->name), e->i64, 0, NULL, LLVMInternalLinkage);
  fn_baseline(e, fn);
  e->fn = fn;
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(e->ctx, fn, "entry");
  LLVMPositionBuilderAtEnd(e->b, entry);
  Words w = {.at = LLVMBuildAlloca(e->b, LLVMArrayType2(e->i64, MOST_WORDS), "")};
  if (cpu_feature_info(all->feature[0])->x86)
    read_x86(e, all, &w);
  else
    read_a64(e, all, &w);
  LV table = table_of(e, all, &w);
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(e->ctx, fn, "loop");
  LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(e->ctx, fn, "done");
  LLVMBuildBr(e->b, loop);
  LLVMPositionBuilderAtEnd(e->b, loop);
  LV i = LLVMBuildPhi(e->b, e->i64, ""), bits = LLVMBuildPhi(e->b, e->i64, ""), zero = k64(e, 0);
  LV more = LLVMBuildOr(e->b, bits, feature_bit(e, &w, table, i), "");
  LV next = LLVMBuildAdd(e->b, i, k64(e, 1), "");
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntULT, next, k64(e, all->n), ""), loop, done);
  LLVMAddIncoming(i, (LV[]){zero, next}, (LLVMBasicBlockRef[]){before, loop}, 2);
  LLVMAddIncoming(bits, (LV[]){zero, more}, (LLVMBasicBlockRef[]){before, loop}, 2);
  LLVMPositionBuilderAtEnd(e->b, done);
  LLVMBuildRet(e->b, more);
  return fn;
}

// Linux gives a process the tile registers when it asks for them once, all its threads included; asking again is
// harmless.
LV emit_ask_for_tiles(Emit *e) {
  enum { ARCH_PRCTL = 158, REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
  LT types[3] = {e->i64, e->i64, e->i64};
  LV args[3] = {k64(e, ARCH_PRCTL), k64(e, REQ_XCOMP_PERM), k64(e, XTILEDATA)};
  LV status = assembly(e, e->i64, 3, types, args, "syscall", "={rax},{rax},{rdi},{rsi},~{rcx},~{r11},~{memory}");
  return LLVMBuildIsNull(e->b, status, "");
}
