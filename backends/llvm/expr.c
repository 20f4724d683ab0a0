// Expressions of kernels.
#include "backends/llvm/llvm.h"
#include "ir/elem.h"

static LV emit_const(Emit *e, const KExpr *x) {
  LT t = type_value(e, x->type);
  switch (x->type) {
    case DT_F64:
    case DT_F32: return LLVMConstReal(t, x->f);
    case DT_F16: return LLVMConstInt(t, f16_of_double(x->f), false);
    case DT_BF16: return LLVMConstInt(t, bf16_of_double(x->f), false);
    case DT_BOOL: return LLVMConstInt(t, x->i != 0, false);
    default: return LLVMConstInt(t, (uint64_t)x->i, false);
  }
}

// table[index & 15]: the table operand is a load that says where the table begins.
static LV emit_lookup(Emit *e, const KExpr *x) {
  const KExpr *table = x->arg[0];
  QCC_CHECK(table->kind == KX_LOAD, "kernel %s: the table of lookup16 is not a load", e->k->name);
  LV index = emit_expr(e, x->arg[1]);
  index = LLVMBuildAnd(e->b, index, lv_int(LLVMTypeOf(index), 15), "");
  index = LLVMBuildZExtOrBitCast(e->b, index, type_like(e->i64, index), "");
  Affine at = linear_index(table->buf, table->idx);
  return emit_load(e, table->buf, &at, index);
}

static LV emit_op(Emit *e, const KExpr *x) {
  if (x->op == KOP_LOOKUP16) return emit_lookup(e, x);
  LV arg[3] = {NULL, NULL, NULL};
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) arg[i] = emit_expr(e, x->arg[i]);
  if (x->op == KOP_DOT4) return emit_kop_dot4(e, x->arg[1]->type, arg);
  return emit_kop(e, x->op, x->type, x->arg[0]->type, arg);
}

LV emit_expr(Emit *e, const KExpr *x) {
  switch (x->kind) {
    case KX_CONST: return emit_const(e, x);
    case KX_INDEX: return emit_affine(e, &x->index);
    case KX_VAR:
      QCC_CHECK(e->var[x->var->id], "kernel %s: variable %s used outside its scope", e->k->name, x->var->name);
      return e->var[x->var->id];
    case KX_LOAD: {
      Affine at = linear_index(x->buf, x->idx);
      return emit_load(e, x->buf, &at, NULL);
    }
    case KX_OP: return emit_op(e, x);
  }
  return NULL;
}
