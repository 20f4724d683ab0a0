// Functions that several levels of an object share.
//
//   conv of x86-64-v3: for %n in 0..8 vec { ... fma ... }     net_k_conv_x86_64_v3
//   conv of alderlake: the same kernel, and no dot4 in it     the same function
//
// A kernel of a level takes the function that an earlier level made of an equal kernel when this level would make it of
// the same instructions: vectors and registers are alike, and what only this level has serves ops that the kernel
// does not use. Callees are part of a kernel's meaning, so equal kernels with different callees are told apart.
#include <string.h>

#include "backends/llvm/llvm.h"

// Features that matter to a kernel only when it uses one of these ops; all others matter always.
static uint64_t ops_of_feature(CpuFeature f) {
  switch (f) {
    case FEATURE_AVXVNNI: return kop_bit(KOP_DOT4);
    case FEATURE_AVX512BF16: return kop_bit(KOP_DOT2);
    case FEATURE_AMX_TILE:
    case FEATURE_AMX_INT8:
    case FEATURE_AMX_BF16:
    case FEATURE_AMX_FP16: return kop_bit(KOP_TILE_ZERO);
    case FEATURE_AVX512FP16: return 0;  // nothing is computed in half precision
    case FEATURE_DOTPROD: return kop_bit(KOP_DOT4);
    default: return UINT64_MAX;
  }
}

// Vector dot products of bytes: AVX-VNNI adds nothing to what AVX512-VNNI with VL does.
static bool feature_counts(const TargetRow *row, CpuFeature f, uint64_t ops) {
  if (f == FEATURE_AVXVNNI && target_has(row, FEATURE_AVX512VNNI)) return false;
  return (ops_of_feature(f) & ops) != 0 || ops_of_feature(f) == UINT64_MAX;
}

static bool emits_alike(const TargetRow *low, const TargetRow *high, uint64_t ops) {
  if (low->t.vector_bits != high->t.vector_bits || low->t.n_vregs != high->t.n_vregs ||
      low->t.has_masks != high->t.has_masks || low->t.has_f16_convert != high->t.has_f16_convert ||
      low->t.has_fma != high->t.has_fma || strcmp(low->triple, high->triple) != 0)
    return false;
  for (uint32_t f = 0; f < FEATURE_COUNT; f++) {
    if (target_has(low, (CpuFeature)f) && !target_has(high, (CpuFeature)f)) return false;
    if (!target_has(low, (CpuFeature)f) && target_has(high, (CpuFeature)f) && feature_counts(low, (CpuFeature)f, ops))
      return false;
  }
  return true;
}

static void add_callees(Emit *e, const KBlock *b, StrBuf *out);

static void add_callees_of(Emit *e, const KStmt *s, StrBuf *out) {
  switch (s->kind) {
    case KS_FOR: add_callees(e, &s->for_.body, out); break;
    case KS_IF:
      add_callees(e, &s->if_.then, out);
      add_callees(e, &s->if_.other, out);
      break;
    case KS_CALL: strbuf_puts(out, LLVMGetValueName(kernel_fn(e, s->call.callee)->fn)); break;
    default: break;
  }
}

static void add_callees(Emit *e, const KBlock *b, StrBuf *out) {
  for (const KStmt *s = b->first; s; s = s->next) add_callees_of(e, s, out);
}

static StrBuf meaning(Emit *e, Arena *arena, const Kernel *k, uint64_t *ops) {
  StrBuf text = kernel_canon(arena, k, ops);
  strbuf_putc(&text, k->noalias ? 'n' : 'a');
  add_callees(e, &k->body, &text);
  return text;
}

uintptr_t kernel_fn_alike(Emit *e, const Kernel *k) {
  Arena *scratch = arena_new("alike");
  uint64_t ops;
  StrBuf text = meaning(e, scratch, k, &ops);
  uint64_t hash = hash_bytes(text.at, text.n, 1);
  uintptr_t known = (uintptr_t)map_get(e->fn_like, hash), found = 0;
  if (known && emits_alike(e->fns.at[known - 1].row, e->row, ops)) {
    StrBuf other = meaning(e, scratch, e->fns.at[known - 1].k, &ops);
    if (other.n == text.n && memcmp(other.at, text.at, text.n) == 0) found = known;
  }
  if (!found) map_set(e->fn_like, hash, (void *)(uintptr_t)(e->fns.n + 1));
  arena_free(scratch);
  return found;
}
