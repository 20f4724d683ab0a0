// Types: the dtype table, size arithmetic (the only multiplications of sizes in qcc), interning, broadcasting.
#include "ir/type.h"

#include <string.h>

#include "ir/base/map.h"
#include "ir/base/vec.h"

static const DTypeInfo infos[DT_COUNT] = {
#define DTYPE(ID, name, bits, CLASS, onnx, ctype) [DT_##ID] = {name, bits, DC_##CLASS, onnx, ctype},
#include "ir/dtypes.def"
#undef DTYPE
};

const DTypeInfo *dtype_info(DType t) { return &infos[t < DT_COUNT ? t : DT_NONE]; }

DType dtype_by_name(const char *name, size_t n) {
  for (int i = 1; i < DT_COUNT; i++)
    if (strlen(infos[i].name) == n && memcmp(infos[i].name, name, n) == 0) return (DType)i;
  return DT_NONE;
}

DType dtype_by_onnx(int64_t onnx) {
  for (int i = 1; i < DT_COUNT; i++)
    if (infos[i].onnx != 0 && infos[i].onnx == onnx) return (DType)i;
  return DT_NONE;
}

bool dtype_is_float(DType t) { return dtype_info(t)->cls == DC_FLOAT; }

bool dtype_is_byte(DType t) { return t == DT_I8 || t == DT_U8; }

bool dtype_is_int(DType t) {
  DClass c = dtype_info(t)->cls;
  return c == DC_INT || c == DC_UINT || c == DC_BIP || c == DC_TERN;
}

int64_t dtype_min(DType t) {
  const DTypeInfo *i = dtype_info(t);
  if (i->cls == DC_INT) return -(int64_t)((UINT64_C(1) << (i->bits - 1)) - 1) - 1;
  return i->cls == DC_BIP || i->cls == DC_TERN ? -1 : 0;
}

int64_t dtype_max(DType t) {
  const DTypeInfo *i = dtype_info(t);
  if (i->cls == DC_INT) return (int64_t)((UINT64_C(1) << (i->bits - 1)) - 1);
  if (i->cls == DC_UINT) return i->bits >= 63 ? INT64_MAX : (int64_t)((UINT64_C(1) << i->bits) - 1);
  return 1;
}

bool size_mul(int64_t a, int64_t b, int64_t *out) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out) && *out <= MAX_ELEMS;
}

bool dims_count(uint32_t rank, const int64_t *dims, int64_t *out) {
  // A zero dim does not excuse an absurd one: the product of the others is bounded too.
  int64_t n = 1;
  bool zero = false;
  for (uint32_t i = 0; i < rank; i++) {
    if (dims[i] < 0) return false;
    if (dims[i] == 0) {
      zero = true;
    } else if (!size_mul(n, dims[i], &n)) {
      return false;
    }
  }
  *out = zero ? 0 : n;
  return true;
}

struct TypeTable {
  Arena *arena;
  Interner *names;
  Map *by_hash;  // hash -> TypeNode chain
  VEC(const char *) symbols;
};

typedef struct TypeNode TypeNode;
struct TypeNode {
  Type type;
  TypeNode *next;
};

TypeTable *type_table_new(Arena *arena, Interner *names) {
  TypeTable *t = NEW(arena, TypeTable);
  t->arena = arena;
  t->names = names;
  t->by_hash = map_new(arena);
  return t;
}

const Type *type_tensor(TypeTable *t, DType dtype, uint32_t rank, const int64_t *dims) {
  QCC_CHECK(rank <= MAX_RANK && dtype > DT_NONE && dtype < DT_COUNT, "tensor type of rank %u, dtype %d", rank, dtype);
  Type key = {.dtype = dtype, .rank = rank};
  if (rank) memcpy(key.dims, dims, rank * sizeof *dims);
  bool is_static = true;
  for (uint32_t i = 0; i < rank; i++) is_static &= dims[i] >= 0;
  int64_t count;
  QCC_CHECK(!is_static || dims_count(rank, dims, &count), "tensor type larger than 2^40 elements");
  uint64_t h = hash_bytes(key.dims, sizeof key.dims, (uint64_t)dtype * 16 + rank);
  TypeNode *head = map_get(t->by_hash, h);
  for (TypeNode *n = head; n; n = n->next)
    if (n->type.dtype == dtype && n->type.rank == rank && memcmp(n->type.dims, key.dims, sizeof key.dims) == 0)
      return &n->type;
  TypeNode *n = NEW(t->arena, TypeNode);
  n->type = key;
  n->next = head;
  map_set(t->by_hash, h, n);
  return &n->type;
}

const Type *type_scalar(TypeTable *t, DType dtype) { return type_tensor(t, dtype, 0, NULL); }

const Type *type_with_dtype(TypeTable *t, const Type *type, DType dtype) {
  return type_tensor(t, dtype, type->rank, type->dims);
}

const Type *type_with_dims(TypeTable *t, const Type *type, uint32_t rank, const int64_t *dims) {
  return type_tensor(t, type->dtype, rank, dims);
}

int64_t type_symbol(TypeTable *t, const char *name) {
  name = intern(t->names, name);
  for (uint32_t i = 0; i < t->symbols.n; i++)
    if (t->symbols.at[i] == name) return -1 - (int64_t)i;
  vec_push(t->arena, &t->symbols, name);
  return -(int64_t)t->symbols.n;
}

const char *type_symbol_name(const TypeTable *t, int64_t dim) {
  return dim < 0 && dim >= -(int64_t)t->symbols.n ? t->symbols.at[-1 - dim] : "?";
}

uint32_t type_symbol_count(const TypeTable *t) { return t->symbols.n; }

bool type_is_static(const Type *t) {
  for (uint32_t i = 0; i < t->rank; i++)
    if (t->dims[i] < 0) return false;
  return true;
}

bool type_same_shape(const Type *a, const Type *b) {
  return a->rank == b->rank && memcmp(a->dims, b->dims, sizeof a->dims) == 0;
}

int64_t type_count(const Type *t) {
  int64_t n = 0;
  QCC_CHECK(dims_count(t->rank, t->dims, &n), "size of a tensor with symbolic dims");
  return n;
}

int64_t type_bytes(const Type *t) { return (type_count(t) * (int64_t)dtype_info(t->dtype)->bits + 7) / 8; }

bool dims_broadcast(uint32_t ra, const int64_t *a, uint32_t rb, const int64_t *b, uint32_t *r, int64_t *out) {
  uint32_t rank = ra > rb ? ra : rb;
  for (uint32_t i = 0; i < rank; i++) {  // from the last axis
    int64_t da = i < ra ? a[ra - 1 - i] : 1, db = i < rb ? b[rb - 1 - i] : 1;
    if (da != db && da != 1 && db != 1) return false;
    out[rank - 1 - i] = da == 1 ? db : da;
  }
  *r = rank;
  return true;
}

const char *type_text(Arena *arena, const TypeTable *tt, const Type *t) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_printf(&b, "%s[", dtype_info(t->dtype)->name);
  for (uint32_t i = 0; i < t->rank; i++) {
    if (i) strbuf_putc(&b, ',');
    if (t->dims[i] >= 0) {
      strbuf_printf(&b, "%lld", (long long)t->dims[i]);
    } else {
      strbuf_puts(&b, str_escape(arena, type_symbol_name(tt, t->dims[i]), 64));
    }
  }
  strbuf_putc(&b, ']');
  return strbuf_str(&b);
}
