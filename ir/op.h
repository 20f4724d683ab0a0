// Readers of ops.def and enums.def: op kinds, traits, attributes.
#ifndef QCC_IR_OP_H
#define QCC_IR_OP_H

#include "ir/kop.h"
#include "ir/type.h"

typedef enum OpKind {
  OP_NONE = 0,
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) OP_##ID,
#define ATTR(ID, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
  OP_COUNT
} OpKind;

typedef enum EnumValue {
  ENUM_NONE = 0,
#define ENUM(SET, ID, text) SET##_##ID,
#include "ir/enums.def"
#undef ENUM
  ENUM_COUNT
} EnumValue;

const char *enum_text(EnumValue v);
const char *enum_set(EnumValue v);                          // "LAYOUT"
EnumValue enum_by_name(const char *set, const char *text);  // ENUM_NONE when unknown

enum { TRAIT_ELTWISE = 1, TRAIT_COMMUTES = 2, TRAIT_VIEW = 4, TRAIT_POST = 8 };
#define VARIADIC 0xffffu

// Attribute slot numbers, one enum per op: A_CONV_group = 4 and so on, in table order. Every POST op has two more
// slots after its own: A_POST(op) and A_PLAN(op); MAP has A_PLAN too.
typedef enum AttrKind {
  ATTR_INT,
  ATTR_FLOAT,
  ATTR_BOOL,
  ATTR_ENUM,
  ATTR_STR,
  ATTR_INTS,
  ATTR_FLOATS,
  ATTR_FUNC,
  ATTR_DTYPE,
  ATTR_PLAN
} AttrKind;

typedef struct AttrInfo {
  const char *name;
  AttrKind kind;
  bool required;
  double def;
} AttrInfo;

typedef struct OpInfo {
  const char *name;         // mnemonic
  uint32_t min_in, max_in;  // fixed operands; max_in VARIADIC: any number
  uint32_t n_out;
  uint32_t traits;
  KOp kop;  // of ELTWISE ops
  const AttrInfo *attrs;
  uint32_t n_attrs;    // includes post and plan
  int32_t post, plan;  // slot numbers or -1; every op that is not ELTWISE or VIEW has a plan slot
} OpInfo;

const OpInfo *op_info(OpKind kind);
OpKind op_by_name(const char *name, size_t n);                  // OP_NONE when unknown
int32_t attr_by_name(OpKind kind, const char *name, size_t n);  // slot or -1

#include "ir/op_attrs.h"  // A_<OP>_<name> slot constants

#endif
