// Kernel ops: table readers and scalar meaning. See kops.def.
#ifndef QCC_IR_KOP_H
#define QCC_IR_KOP_H

#include "ir/type.h"

typedef enum KOp {
  KOP_NONE = 0,
#define KOP(ID, name, arity, rule, basic) KOP_##ID,
#include "ir/kops.def"
#undef KOP
  KOP_COUNT
} KOp;

typedef enum KRule { KRULE_SAME, KRULE_BOOL, KRULE_GIVEN, KRULE_ARG1, KRULE_TILE } KRule;

typedef struct KOpInfo {
  const char *name;
  uint32_t arity;
  KRule rule;
  bool basic;
} KOpInfo;

// Elements of the table of a lookup, 0: the op is none.
static inline int64_t kop_table(KOp op) {
  switch (op) {
    case KOP_LOOKUP2: return 2;
    case KOP_LOOKUP4: return 4;
    case KOP_LOOKUP8: return 8;
    case KOP_LOOKUP16: return 16;
    case KOP_LOOKUP32: return 32;
    case KOP_LOOKUP64: return 64;
    case KOP_LOOKUP128: return 128;
    default: return 0;
  }
}

const KOpInfo *kop_info(KOp op);
KOp kop_by_name(const char *name, size_t n);  // KOP_NONE when unknown

// Scalar meaning of every op but CAST, VIEW, SELECT, POPCNT, DOT4, DOT2 and lookups (interpreters do those).
// Floats: computed in double; the caller rounds to its type. Compares give 0 or 1.
double kop_eval_f(KOp op, const double *args);
// Integers of class and width `t` (values sign or zero extended to 64 bits); the result is wrapped to t.
int64_t kop_eval_i(KOp op, DType t, const int64_t *args);
int64_t int_wrap(DType t, int64_t v);  // two's complement wrap to t's width

#endif
