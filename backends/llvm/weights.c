// init_weights: the entry of objects without weights of their own (--weights=extern).
//
//   NAME_init_weights(ws, file, bytes)   init, then checks the file and leaves its place in the head of the workspace
//
// The file (backends/weight_file.h) has to stay where it is as long as the workspace is used; it is read in place and
// never copied, so a mapped file will do. Nothing is read beyond `bytes`.
#include <string.h>

#include "backends/llvm/llvm.h"
#include "backends/weight_file.h"

static LV k64(Emit *e, uint64_t v) { return LLVMConstInt(e->i64, v, false); }

static LV word(Emit *e, LV p, uint64_t at) {
  LV k = k64(e, at);
  return LLVMBuildLoad2(e->b, e->i64, LLVMBuildGEP2(e->b, e->i8, p, &k, 1, ""), "");
}

static void refuse_unless(Emit *e, LLVMIntPredicate p, LV a, LV b, uint64_t status) {
  LV ok = LLVMBuildICmp(e->b, p, a, b, "");
  return_if(e, LLVMBuildNot(e->b, ok, ""), LLVMConstInt(e->i32, status, false));
}

// weight_file_sum of the constants.
static LV sum(Emit *e, LV file) {
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(e->b), each = block_new(e, "each"), done = block_new(e, "done");
  if (e->layout->bytes == 0) return k64(e, e->layout->format);
  LLVMBuildBr(e->b, each);
  LLVMPositionBuilderAtEnd(e->b, each);
  LV i = LLVMBuildPhi(e->b, e->i64, ""), h = LLVMBuildPhi(e->b, e->i64, "");
  LV at = LLVMBuildGEP2(e->b, e->i8, file, &i, 1, "");
  LV h1 = LLVMBuildXor(e->b, h, LLVMBuildLoad2(e->b, e->i64, at, ""), "");
  h1 = LLVMBuildMul(e->b, h1, k64(e, WEIGHT_FILE_FACTOR), "");
  h1 = LLVMBuildXor(e->b, h1, LLVMBuildLShr(e->b, h1, k64(e, WEIGHT_FILE_SHIFT), ""), "");
  LV i1 = LLVMBuildAdd(e->b, i, k64(e, 8), ""), end = k64(e, WEIGHT_FILE_HEAD + (uint64_t)e->layout->bytes);
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntULT, i1, end, ""), each, done);
  LLVMAddIncoming(i, (LV[]){k64(e, WEIGHT_FILE_HEAD), i1}, (LLVMBasicBlockRef[]){entry, each}, 2);
  LLVMAddIncoming(h, (LV[]){k64(e, e->layout->format), h1}, (LLVMBasicBlockRef[]){entry, each}, 2);
  LLVMPositionBuilderAtEnd(e->b, done);
  return h1;
}

static uint64_t magic(void) {
  uint64_t v = 0;
  for (uint32_t i = 8; i-- > 0;) v = v << 8 | (uint8_t)WEIGHT_FILE_MAGIC[i];
  return v;
}

void emit_init_weights(Emit *e, LV init) {
  LT types[3] = {e->ptr, e->ptr, e->i64};
  LV fn = fn_new(e, arena_printf(e->arena, "%s_init_weights", e->opt->name), e->i32, 3, types, LLVMExternalLinkage);
  fn_baseline(e, fn);
  e->fn = fn;
  LLVMPositionBuilderAtEnd(e->b, block_new(e, "entry"));
  LV ws = LLVMGetParam(fn, 0), file = LLVMGetParam(fn, 1), bytes = LLVMGetParam(fn, 2);
  LV status = LLVMBuildCall2(e->b, LLVMGlobalGetValueType(init), init, &ws, 1, "");
  return_if(e, LLVMBuildIsNotNull(e->b, status, ""), status);
  return_if(e, LLVMBuildIsNull(e->b, file, ""), LLVMConstInt(e->i32, QCC_E_ARG, false));
  LV place = LLVMBuildPtrToInt(e->b, file, e->i64, "");
  LV low = LLVMBuildAnd(e->b, place, k64(e, WORKSPACE_HEAD - 1), "");
  refuse_unless(e, LLVMIntEQ, low, k64(e, 0), QCC_E_ALIGN);
  refuse_unless(e, LLVMIntUGE, bytes, k64(e, WEIGHT_FILE_HEAD), QCC_E_WEIGHTS_DAMAGED);
  refuse_unless(e, LLVMIntEQ, word(e, file, 0), k64(e, magic()), QCC_E_WEIGHTS_DAMAGED);
  refuse_unless(e, LLVMIntEQ, word(e, file, 8), k64(e, WEIGHT_FILE_VERSION), QCC_E_WEIGHTS_VERSION);
  refuse_unless(e, LLVMIntEQ, word(e, file, 16), k64(e, e->layout->format), QCC_E_WEIGHTS_FORMAT);
  refuse_unless(e, LLVMIntEQ, word(e, file, 24), k64(e, (uint64_t)e->layout->bytes), QCC_E_WEIGHTS_DAMAGED);
  refuse_unless(e, LLVMIntUGE, bytes, k64(e, WEIGHT_FILE_HEAD + (uint64_t)e->layout->bytes), QCC_E_WEIGHTS_DAMAGED);
  refuse_unless(e, LLVMIntEQ, sum(e, file), word(e, file, 32), QCC_E_WEIGHTS_DAMAGED);
  LV head = k64(e, HEAD_WEIGHTS), first = k64(e, WEIGHT_FILE_HEAD);
  LV at = LLVMBuildGEP2(e->b, e->i8, file, &first, 1, "");
  LLVMBuildStore(e->b, at, LLVMBuildGEP2(e->b, e->i8, ws, &head, 1, ""));
  LLVMBuildRet(e->b, LLVMConstInt(e->i32, 0, false));
}
