// Tensor types: element type and dims, interned so that equality is pointer equality.
#ifndef QCC_IR_TYPE_H
#define QCC_IR_TYPE_H

#include "ir/base/diag.h"
#include "ir/base/str.h"

typedef enum DType {
  DT_NONE = 0,
#define DTYPE(ID, name, bits, CLASS, onnx, ctype) DT_##ID,
#include "ir/dtypes.def"
#undef DTYPE
  DT_COUNT
} DType;

typedef enum DClass { DC_NONE, DC_FLOAT, DC_INT, DC_UINT, DC_BOOL, DC_STR, DC_BIP, DC_TERN, DC_LANE } DClass;

typedef struct DTypeInfo {
  const char *name;  // as in the text form
  uint32_t bits;
  DClass cls;
  int32_t onnx;       // TensorProto.DataType or 0
  const char *ctype;  // C type in generated headers or NULL
} DTypeInfo;

const DTypeInfo *dtype_info(DType t);
DType dtype_by_name(const char *name, size_t n);  // DT_NONE when unknown
DType dtype_by_onnx(int64_t onnx);                // DT_NONE when unknown
bool dtype_is_float(DType t);
bool dtype_is_byte(DType t);  // I8 or U8
bool dtype_is_int(DType t);   // INT, UINT, BIP and TERN, not BOOL
int64_t dtype_min(DType t);   // smallest and largest value of an integer class type (u64: as INT64_MAX)
int64_t dtype_max(DType t);

#define MAX_RANK 8
// Largest tensor qcc accepts, in elements and in bytes.
#define MAX_ELEMS (INT64_C(1) << 40)

// A dim >= 0 is a number; a dim < 0 is symbol number -1-dim of the module's type table.
typedef struct Type {
  DType dtype;
  uint32_t rank;
  int64_t dims[MAX_RANK];
} Type;

typedef struct TypeTable TypeTable;
TypeTable *type_table_new(Arena *arena, Interner *names);
const Type *type_tensor(TypeTable *t, DType dtype, uint32_t rank, const int64_t *dims);
const Type *type_scalar(TypeTable *t, DType dtype);
const Type *type_with_dtype(TypeTable *t, const Type *type, DType dtype);
const Type *type_with_dims(TypeTable *t, const Type *type, uint32_t rank, const int64_t *dims);
int64_t type_symbol(TypeTable *t, const char *name);  // the dim value (< 0) of a symbol
const char *type_symbol_name(const TypeTable *t, int64_t dim);
uint32_t type_symbol_count(const TypeTable *t);

bool type_is_static(const Type *t);  // no symbolic dim
// The only places that multiply sizes. Return false on overflow, on a negative factor or past MAX_ELEMS.
bool size_mul(int64_t a, int64_t b, int64_t *out);
bool dims_count(uint32_t rank, const int64_t *dims, int64_t *out);
bool type_same_shape(const Type *a, const Type *b);  // equal dims, whatever the element types
int64_t type_count(const Type *t);                   // elements; static types only (checked when the type was made)
int64_t type_bytes(const Type *t);                   // packed: ceil(count * bits / 8)
// NumPy broadcasting. False when the shapes do not broadcast. Symbols equal only themselves (or 1).
bool dims_broadcast(uint32_t ra, const int64_t *a, uint32_t rb, const int64_t *b, uint32_t *r, int64_t *out);
// "f32[1,N,28]" in a scratch arena.
const char *type_text(Arena *arena, const TypeTable *tt, const Type *t);

#endif
