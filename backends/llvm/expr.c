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

// Sixteen lanes of 32 bits permuted by index lanes: the tables are registers. NULL where the row has no permutation of
// that width; half a table per permutation with 256 bits, chosen between by bit 3.
static LV permute16(Emit *e, const KBuf *table, const Affine *at, LV index) {
  uint32_t lanes = is_varying(index) ? lanes_of(index) : 1;
  bool wide = lanes == 16 && target_has(e->row, FEATURE_AVX512F), half = lanes == 8 && target_has(e->row, FEATURE_AVX2);
  if ((!wide && !half) || dtype_info(table->type)->bits != 32 || affine_varies(e, at)) return NULL;
  LT i32 = LLVMInt32TypeInContext(e->ctx), vector = LLVMVectorType(i32, lanes), result = type_value(e, table->type);
  LV place = emit_address(e, table, at), part[2];
  index = LLVMBuildIntCast2(e->b, index, vector, false, "");
  for (uint32_t i = 0; i < (wide ? 1u : 2u); i++) {
    LV from = i == 0 ? place : LLVMBuildGEP2(e->b, vector, place, (LV[]){lv_int(e->i64, 1)}, 1, "");
    LV all = LLVMBuildLoad2(e->b, vector, from, "");
    LLVMSetAlignment(all, 4);
    const char *name = wide ? "llvm.x86.avx512.permvar.si.512" : "llvm.x86.avx2.permd";
    part[i] = call_intrinsic(e, name, 0, NULL, 2, (LV[]){all, index});
  }
  LV y = part[0];
  if (half) {
    LV bit = LLVMBuildAnd(e->b, index, lv_int(vector, 8), "");
    y = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntNE, bit, lv_int(vector, 0), ""), part[1], part[0], "");
  }
  return LLVMBuildBitCast(e->b, y, LLVMVectorType(result, lanes), "");
}

// Thirty-two lanes of 32 bits in two registers. NULL where the row has no permutation of two.
static LV permute32(Emit *e, const KBuf *table, const Affine *at, LV index) {
  uint32_t lanes = is_varying(index) ? lanes_of(index) : 1;
  if (lanes != 16 || !target_has(e->row, FEATURE_AVX512F)) return NULL;
  if (dtype_info(table->type)->bits != 32 || affine_varies(e, at)) return NULL;
  LT vector = LLVMVectorType(LLVMInt32TypeInContext(e->ctx), lanes);
  LV place = emit_address(e, table, at), half[2];
  for (uint32_t i = 0; i < 2; i++) {
    half[i] = LLVMBuildLoad2(e->b, vector, place, "");
    LLVMSetAlignment(half[i], 4);
    place = LLVMBuildGEP2(e->b, vector, place, (LV[]){lv_int(e->i64, 1)}, 1, "");
  }
  index = LLVMBuildIntCast2(e->b, index, vector, false, "");
  LV y = call_intrinsic(e, "llvm.x86.avx512.vpermi2var.d.512", 0, NULL, 3, (LV[]){half[0], index, half[1]});
  return LLVMBuildBitCast(e->b, y, LLVMVectorType(type_value(e, table->type), lanes), "");
}

// 64 bytes of a register, or 128 of two. NULL where the row has no permutation of bytes.
static LV permute_bytes(Emit *e, const KBuf *table, const Affine *at, LV index, int64_t size) {
  uint32_t lanes = is_varying(index) ? lanes_of(index) : 1;
  if (lanes != 64 || !target_has(e->row, FEATURE_AVX512VBMI)) return NULL;
  if (dtype_info(table->type)->bits != 8 || affine_varies(e, at)) return NULL;
  LT vector = LLVMVectorType(e->i8, lanes);
  LV place = emit_address(e, table, at), all = LLVMBuildLoad2(e->b, vector, place, "");
  LLVMSetAlignment(all, 1);
  index = LLVMBuildIntCast2(e->b, index, vector, false, "");
  if (size == 64) return call_intrinsic(e, "llvm.x86.avx512.permvar.qi.512", 0, NULL, 2, (LV[]){all, index});
  LV more = LLVMBuildLoad2(e->b, vector, LLVMBuildGEP2(e->b, vector, place, (LV[]){lv_int(e->i64, 1)}, 1, ""), "");
  LLVMSetAlignment(more, 1);
  return call_intrinsic(e, "llvm.x86.avx512.vpermi2var.qi.512", 0, NULL, 3, (LV[]){all, index, more});
}

// A table shorter than a vector by an index that is known: neighbouring elements of memory repeated along the lanes.
// NULL where the index is not known.
static LV repeat(Emit *e, const KBuf *table, const Affine *at, LV index, uint32_t size) {
  int32_t lane[64];
  if (!is_varying(index) || lanes_of(index) > 64 || affine_varies(e, at) || !LLVMIsConstant(index)) return NULL;
  for (uint32_t i = 0; i < lanes_of(index); i++) {
    LV x = LLVMGetAggregateElement(index, i);
    if (x == NULL || LLVMIsAConstantInt(x) == NULL) return NULL;
    lane[i] = (int32_t)(LLVMConstIntGetZExtValue(x) & (size - 1));
  }
  LV all = LLVMBuildLoad2(e->b, LLVMVectorType(type_memory(e, table->type), size), emit_address(e, table, at), "");
  LLVMSetAlignment(all, (uint32_t)dtype_info(table->type)->bits / 8);
  return shuffle(e, all, NULL, lanes_of(index), lane);
}

// table[index & 15], or & 1, & 3 and so on to & 127: the table operand is a load that says where the table begins.
static LV emit_lookup(Emit *e, const KExpr *x) {
  const KExpr *table = x->arg[0];
  QCC_CHECK(table->kind == KX_LOAD, "kernel %s: the table of a lookup is not a load", e->k->name);
  LV index = emit_expr(e, x->arg[1]);
  Affine at = linear_index(table->buf, table->idx);
  int64_t size = kop_table(x->op);
  LV y = size <= 8    ? repeat(e, table->buf, &at, index, (uint32_t)size)
         : size == 16 ? permute16(e, table->buf, &at, index)
         : size == 32 ? permute32(e, table->buf, &at, index)
                      : permute_bytes(e, table->buf, &at, index, size);
  if (y != NULL) return y;
  index = LLVMBuildAnd(e->b, index, lv_int(LLVMTypeOf(index), (uint64_t)size - 1), "");
  index = LLVMBuildZExtOrBitCast(e->b, index, type_like(e->index, index), "");
  return emit_load(e, table->buf, &at, index);
}

// The byte loaded under cast(load) or shl(cast(load), bits), or NULL.
static const KExpr *shifted_byte(const KExpr *x, int64_t bits) {
  if (bits > 0) {
    if (x->kind != KX_OP || x->op != KOP_SHL || x->arg[1]->kind != KX_CONST || x->arg[1]->i != bits) return NULL;
    x = x->arg[0];
  }
  if (x->kind != KX_OP || x->op != KOP_CAST || x->type != DT_U32 || x->arg[0]->kind != KX_LOAD) return NULL;
  return x->arg[0]->type == DT_U8 ? x->arg[0] : NULL;
}

// Four neighbouring bytes put together, lowest first: one load at any address. LLVM sees it only where no byte has
// another use, and overlapping words share bytes.
static LV emit_word(Emit *e, const KExpr *x) {
  const KExpr *byte[4];
  for (int64_t i = 3; i >= 0; i--) {
    bool is_or = x->kind == KX_OP && x->op == KOP_OR && x->type == DT_U32;
    if (i > 0 && !is_or) return NULL;
    byte[i] = shifted_byte(i > 0 ? x->arg[1] : x, 8 * i);
    if (!byte[i] || byte[i]->buf != byte[3]->buf) return NULL;
    x = x->arg[0];
  }
  Affine at = linear_index(byte[0]->buf, byte[0]->idx);
  for (int64_t i = 1; i < 4; i++) {
    Affine next = linear_index(byte[i]->buf, byte[i]->idx), away = aff_sub(next, at);
    if (!aff_is_const(&away) || away.base != i) return NULL;
  }
  if (affine_varies(e, &at) || byte[0]->buf->space == SPACE_REG || byte[0]->buf->space == SPACE_STACK) return NULL;
  LV word = LLVMBuildLoad2(e->b, e->i32, emit_address(e, byte[0]->buf, &at), "");
  LLVMSetAlignment(word, 1);
  return word;
}

// Lane l of the words is byte l of each of four vectors.
static LV interleave_bytes(Emit *e, LV *v) {
  uint32_t n = lanes_of(v[0]);
  int32_t in_order[128], by_lane[256];
  for (uint32_t i = 0; i < 2 * n; i++) in_order[i] = (int32_t)i;
  for (uint32_t i = 0; i < 4 * n; i++) by_lane[i] = (int32_t)(i % 4 * n + i / 4);
  LV low = shuffle(e, v[0], v[1], 2 * n, in_order), high = shuffle(e, v[2], v[3], 2 * n, in_order), r;
  if (n == 16 && target_has(e->row, FEATURE_AVX512VBMI)) {
    int32_t all[64];
    LV index[64];
    for (uint32_t i = 0; i < 64; i++) {
      all[i] = (int32_t)i;
      index[i] = LLVMConstInt(e->i8, (unsigned long long)by_lane[i], false);
    }
    LV args[2] = {shuffle(e, low, high, 64, all), LLVMConstVector(index, 64)};
    r = call_intrinsic(e, "llvm.x86.avx512.permvar.qi.512", 0, NULL, 2, args);
  } else {
    r = shuffle(e, low, high, 4 * n, by_lane);
  }
  return LLVMBuildBitCast(e->b, r, LLVMVectorType(e->i32, n), "");
}

// Lanes of four rows of bytes interleaved: lane l has byte l of each row, the first lowest.
static LV emit_rows(Emit *e, const KExpr *x) {
  const KExpr *row[4];
  LV v[4];
  uint32_t n = e->lanes, width = 4;
  if (!e->lane || e->mask || n > 64) return NULL;
  while (width < n) width *= 2;
  for (int64_t i = 3; i >= 0; i--) {
    bool is_or = x->kind == KX_OP && x->op == KOP_OR && x->type == DT_U32;
    if (i > 0 && !is_or) return NULL;
    row[i] = shifted_byte(i > 0 ? x->arg[1] : x, 8 * i);
    if (!row[i]) return NULL;
    Affine at = linear_index(row[i]->buf, row[i]->idx);
    if (aff_coef(&at, e->lane) * e->lane_step != 1) return NULL;
    x = x->arg[0];
  }
  for (uint32_t i = 0; i < 4; i++) {
    v[i] = emit_expr(e, row[i]);
    if (lanes_of(v[i]) != n) return NULL;
    if (width > n) v[i] = resize_lanes(e, v[i], width);
  }
  LV words = interleave_bytes(e, v);
  return width > n ? resize_lanes(e, words, n) : words;
}

// The operand of a round under x = round(..) or round(..) + a whole constant of at most 16 bits, or NULL.
static const KExpr *rounded_part(const KExpr *x, int64_t *add) {
  *add = 0;
  if (x->kind == KX_OP && x->op == KOP_ADD && (x->type == DT_F32 || x->type == DT_F64)) {
    const KExpr *k = x->arg[1];
    if (k->kind != KX_CONST || k->f != (double)(int64_t)k->f || k->f < -65536 || k->f > 65536) return NULL;
    *add = (int64_t)k->f;
    x = x->arg[0];
  }
  return x->kind == KX_OP && x->op == KOP_ROUND ? x->arg[0] : NULL;
}

// cast(cast(whole float, byte), that float type).
static bool is_byte_and_back(const KExpr *x) {
  const KExpr *byte = x->arg[0];
  int64_t add;
  if (x->op != KOP_CAST || byte->kind != KX_OP || byte->op != KOP_CAST) return false;
  if (x->type != DT_F32 || byte->arg[0]->type != DT_F32 || (byte->type != DT_U8 && byte->type != DT_I8)) return false;
  return rounded_part(byte->arg[0], &add) != NULL;
}

// The i32 under x = cast(min(max(i32, lo), hi), byte): packing does the limits that are those of the type. NULL else.
static const KExpr *limited_byte(const KExpr *x) {
  if (x->op != KOP_CAST || (x->type != DT_U8 && x->type != DT_I8)) return NULL;
  const KExpr *min = x->arg[0], *max = min->kind == KX_OP ? min->arg[0] : NULL;
  if (max == NULL || max->kind != KX_OP || min->op != KOP_MIN || max->op != KOP_MAX || max->type != DT_I32) return NULL;
  const KExpr *hi = min->arg[1], *lo = max->arg[1];
  if (hi->kind != KX_CONST || lo->kind != KX_CONST) return NULL;
  int64_t least = dtype_min(x->type), most = dtype_max(x->type);
  if (lo->i < least || hi->i > most || lo->i > hi->i) return NULL;
  return hi->i < most ? min : lo->i > least ? max : max->arg[0];
}

static LV emit_op(Emit *e, const KExpr *x) {
  if (kop_table(x->op) > 0) return emit_lookup(e, x);
  const KExpr *first = x->arg[0];
  int64_t add;
  const KExpr *rounded = x->op == KOP_CAST ? rounded_part(first, &add) : NULL;
  if (rounded && (add == 0 || dtype_info(x->type)->bits <= 8))
    return emit_round_cast(e, first->type, x->type, emit_expr(e, rounded), add);
  if (is_byte_and_back(x)) return emit_byte_and_back(e, first->type, emit_expr(e, first->arg[0]));
  const KExpr *limited = limited_byte(x);
  LV byte = limited != NULL ? emit_saturate_bytes(e, x->type, emit_expr(e, limited)) : NULL;
  if (byte) return byte;
  LV word = x->op == KOP_OR ? emit_word(e, x) : NULL;
  if (!word && x->op == KOP_OR) word = emit_rows(e, x);
  if (word) return word;
  LV arg[3] = {NULL, NULL, NULL};
  for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) arg[i] = emit_expr(e, x->arg[i]);
  if (x->op == KOP_DOT4) return emit_kop_dot4(e, x->arg[1]->type, arg);
  return emit_kop(e, x->op, x->type, x->arg[0]->type, arg);
}

LV emit_expr(Emit *e, const KExpr *x) {
  switch (x->kind) {
    case KX_CONST: return emit_const(e, x);
    case KX_INDEX: {
      LV at = emit_affine(e, &x->index);
      return LLVMBuildIntCast2(e->b, at, type_like(type_value(e, x->type), at), true, "");
    }
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
