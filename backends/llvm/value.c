// Types, constants, splats and intrinsic calls: the small builders everything else is made of.
#include <string.h>

#include "backends/llvm/llvm.h"

LT type_value(Emit *e, DType t) {
  switch (t) {
    case DT_F64: return e->f64;
    case DT_F32: return e->f32;
    case DT_BOOL: return e->i1;
    default: break;
  }
  switch (dtype_info(t)->bits) {
    case 8: return e->i8;
    case 16: return e->i16;
    case 32: return e->i32;
    case 64: return e->i64;
    default: qcc_bug("kernel %s: lanes of type %s reached the backend", e->k ? e->k->name : "?", dtype_info(t)->name);
  }
}

LT type_memory(Emit *e, DType t) { return t == DT_BOOL ? e->i8 : type_value(e, t); }
int64_t type_size(DType t) { return dtype_info(t)->bits / 8; }

bool is_varying(LV v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind; }
uint32_t lanes_of(LV v) { return is_varying(v) ? LLVMGetVectorSize(LLVMTypeOf(v)) : 1; }
LT type_lanes(LT scalar, uint32_t lanes) { return lanes > 1 ? LLVMVectorType(scalar, lanes) : scalar; }
LT type_like(LT scalar, LV shape) { return type_lanes(scalar, lanes_of(shape)); }

LV shuffle(Emit *e, LV a, LV b, uint32_t n, const int32_t *lanes) {
  LV index[256];
  QCC_CHECK(n <= 256, "shuffle of %u lanes", n);
  for (uint32_t i = 0; i < n; i++)
    index[i] = lanes[i] < 0 ? LLVMGetPoison(e->i32) : LLVMConstInt(e->i32, (unsigned long long)lanes[i], false);
  return LLVMBuildShuffleVector(e->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)), LLVMConstVector(index, n), "");
}

LV resize_lanes(Emit *e, LV v, uint32_t n) {
  int32_t lanes[256];
  for (uint32_t i = 0; i < n; i++) lanes[i] = i < lanes_of(v) ? (int32_t)i : -1;
  return shuffle(e, v, NULL, n, lanes);
}

LV splat(Emit *e, LV v, uint32_t lanes) {
  if (lanes == 1 || is_varying(v)) return v;
  LT vector = LLVMVectorType(LLVMTypeOf(v), lanes);
  LV one = LLVMBuildInsertElement(e->b, LLVMGetPoison(vector), v, LLVMConstInt(e->i64, 0, false), "");
  LV zero = LLVMConstNull(LLVMVectorType(e->i32, lanes));
  return LLVMBuildShuffleVector(e->b, one, LLVMGetPoison(vector), zero, "");
}

static LV const_splat_vector(LT t, LV scalar) {
  LV v[256];
  uint32_t n = LLVMGetVectorSize(t);
  QCC_CHECK(n <= 256, "constant of %u lanes", n);
  for (uint32_t i = 0; i < n; i++) v[i] = scalar;
  return LLVMConstVector(v, n);
}

LV lv_int(LT t, uint64_t v) {
  if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return LLVMConstInt(t, v, false);
  return const_splat_vector(t, LLVMConstInt(LLVMGetElementType(t), v, false));
}

LV lv_real(LT t, double v) {
  if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return LLVMConstReal(t, v);
  return const_splat_vector(t, LLVMConstReal(LLVMGetElementType(t), v));
}

LV const_like(Emit *e, LV shape, LT scalar, uint64_t v) {
  (void)e;
  return lv_int(type_like(scalar, shape), v);
}

void same_shape(Emit *e, uint32_t n, LV *v) {
  uint32_t lanes = 1;
  for (uint32_t i = 0; i < n; i++)
    if (lanes_of(v[i]) > lanes) lanes = lanes_of(v[i]);
  for (uint32_t i = 0; i < n; i++) v[i] = splat(e, v[i], lanes);
}

LV call_intrinsic(Emit *e, const char *name, uint32_t n_types, LT *types, uint32_t n, LV *args) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  QCC_CHECK(id, "LLVM has no intrinsic %s", name);
  LV fn = LLVMGetIntrinsicDeclaration(e->mod, id, types, n_types);
  return LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

LV unary_intrinsic(Emit *e, const char *name, LV x) {
  LT t = LLVMTypeOf(x);
  return call_intrinsic(e, name, 1, &t, 1, &x);
}

LV binary_intrinsic(Emit *e, const char *name, LV x, LV y) {
  LV args[2] = {x, y};
  same_shape(e, 2, args);
  LT t = LLVMTypeOf(args[0]);
  return call_intrinsic(e, name, 1, &t, 2, args);
}

LV vary_bitcast(Emit *e, LV v, LT scalar) { return LLVMBuildBitCast(e->b, v, type_like(scalar, v), ""); }

LLVMBasicBlockRef block_new(Emit *e, const char *name) { return LLVMAppendBasicBlockInContext(e->ctx, e->fn, name); }

void return_if(Emit *e, LV bad, LV status) {
  LLVMBasicBlockRef refuse = block_new(e, "refuse"), go = block_new(e, "go");
  LLVMBuildCondBr(e->b, bad, refuse, go);
  LLVMPositionBuilderAtEnd(e->b, refuse);
  LLVMBuildRet(e->b, status);
  LLVMPositionBuilderAtEnd(e->b, go);
}
