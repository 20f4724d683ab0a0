// The math library of compiled code: expressions of basic kernel ops for everything libm would be needed for.
//
// A value (KExpr *) handed to these helpers is used once, unless it is a leaf (constant, variable, index): leaves are
// copied on each use. math_share turns any expression into a leaf by a `let` before the current statement.
#ifndef QCC_PASSES_KERNEL_MATH_H
#define QCC_PASSES_KERNEL_MATH_H

#include "ir/kcopy.h"

typedef struct Math {
  Arena *arena;  // module arena
  Module *m;
  Kernel *k;
  KBlock *block;  // lets go into this block ...
  KStmt *before;  // ... before this statement
  bool no_fma;    // the target adds a rounded product
} Math;

KExpr *math_share(Math *m, KExpr *x);
KExpr *math_f(Math *m, DType t, double v);
KExpr *math_i(Math *m, DType t, int64_t v);
KExpr *math_op(Math *m, KOp op, DType result, KExpr *a, KExpr *b, KExpr *c);

// Shorthands; the result type follows from the operands.
KExpr *x_neg(Math *m, KExpr *a);
KExpr *x_abs(Math *m, KExpr *a);
KExpr *x_sqrt(Math *m, KExpr *a);
KExpr *x_add(Math *m, KExpr *a, KExpr *b);
KExpr *x_sub(Math *m, KExpr *a, KExpr *b);
KExpr *x_mul(Math *m, KExpr *a, KExpr *b);
KExpr *x_div(Math *m, KExpr *a, KExpr *b);
KExpr *x_fma(Math *m, KExpr *a, KExpr *b, KExpr *c);  // a * b + c
// a * b + c, exact whenever the result is a number of the type and c nearly cancels the product, on every target.
KExpr *x_residual(Math *m, KExpr *a, KExpr *b, KExpr *c);
KExpr *x_cmp(Math *m, KOp op, KExpr *a, KExpr *b);
KExpr *x_select(Math *m, KExpr *cond, KExpr *yes, KExpr *no);
KExpr *x_and(Math *m, KExpr *a, KExpr *b);
KExpr *x_or(Math *m, KExpr *a, KExpr *b);
KExpr *x_cast(Math *m, DType t, KExpr *a);
KExpr *x_view(Math *m, DType t, KExpr *a);
// With constants of a's type.
KExpr *x_addc(Math *m, KExpr *a, double c);
KExpr *x_mulc(Math *m, KExpr *a, double c);
KExpr *x_iaddc(Math *m, KExpr *a, int64_t c);
KExpr *x_shl(Math *m, KExpr *a, int64_t by);
KExpr *x_shr(Math *m, KExpr *a, int64_t by);
KExpr *x_cmpc(Math *m, KOp op, KExpr *a, double c);
KExpr *x_poly(Math *m, KExpr *x, uint32_t n, const double *coef);  // x a leaf; coef[0] + coef[1] x + ... by Horner
KExpr *x_copysign(Math *m, KExpr *magnitude, KExpr *sign);         // magnitude >= 0; sign a leaf

// What differs between the float types the library computes in.
typedef struct Float {
  DType t, bits;     // f32, i32 or f64, i64
  int64_t mantissa;  // explicit mantissa bits
  int64_t bias;      // exponent bias
  int64_t sign;      // sign bit
  double round;      // adding it rounds to an integer that stands in the low bits
  double log2e;      // 1 / ln 2
  double ln2_hi, ln2_lo;
} Float;
const Float *math_float(DType t);

// exp(x) in parts: p in [0.7, 1.42] and two powers of two, exp(x) = (p * s) * t where s * p is normal and the last
// product is the only one that may round (subnormal results). x + lo is the argument, lo may be NULL.
typedef struct ExpParts {
  KExpr *p, *s, *t;  // leaves
} ExpParts;
ExpParts math_exp_parts(Math *m, KExpr *x, KExpr *lo);           // any x
ExpParts math_exp_parts_negative(Math *m, KExpr *x, KExpr *lo);  // x <= 0 (or NaN): cheaper
KExpr *math_expm1(Math *m, KExpr *x);                            // x <= about 40; below -40 it is -1
KExpr *math_log1p_unit(Math *m, KExpr *x);                       // 0 <= x <= 1
KExpr *math_log1p(Math *m, KExpr *x);                            // f64, x > -1
KExpr *math_exp(Math *m, KExpr *x);
KExpr *math_log(Math *m, KExpr *x);

// One expander per op; a: leaves of one float type, f32 or f64 (expand widens the others). NULL: no expansion there.
typedef KExpr *Expander(Math *m, KExpr *const *a);
#define MATH(KOP, fn, wide) Expander fn;
#include "passes/kernel/math.def"
#undef MATH

#endif
