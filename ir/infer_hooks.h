// Inside of inference: one hook per `infer` column of ops.def and the checks they share. Only infer*.c include this.
//
// A hook runs after infer_op checked arity, required attributes and that every given operand has a type. It checks
// ranks and attribute lengths before it computes, and sets every result through infer_set, the only place that makes
// result types (size limits are checked there).
#ifndef QCC_IR_INFER_HOOKS_H
#define QCC_IR_INFER_HOOKS_H

#include "ir/infer.h"

#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) bool infer_##infer(Op *op);
#define ATTR(ID, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR

// Largest absolute value of strides, pads, dilations and kernel extents: their products stay inside int64.
#define INFER_MAX_STEP INT32_MAX

bool infer_fail(const Op *op, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  // false
bool infer_set(Op *op, uint32_t i, DType t, uint32_t rank, const int64_t *dims);            // checks rank and size
// Type of operand i, NULL when it is absent.
static inline const Type *infer_in(const Op *op, uint32_t i) { return op_in(op, i) ? op_in(op, i)->type : NULL; }
const char *infer_text(const Op *op, const Type *t);    // for messages
const char *infer_dim_text(const Op *op, int64_t dim);  // number or symbol, for messages
bool infer_rank(const Op *op, uint32_t i, const char *what, uint32_t lo, uint32_t hi);
bool infer_axis(const Op *op, int slot, uint32_t rank, uint32_t *axis);  // an axis attribute, negative from the end
// A list attribute has n elements (or none, when `empty`), each in [lo, hi].
bool infer_ints(const Op *op, int slot, uint32_t n, bool empty, int64_t lo, int64_t hi);
bool infer_same_dtype(const Op *op, uint32_t a, uint32_t b);
bool infer_is_int(const Op *op, uint32_t i, const char *what);  // an integer type of 8 bits or more
bool infer_is_float(const Op *op, uint32_t i, const char *what);
bool infer_known(const Op *op, int64_t dim, const char *what);             // not a symbol; else suggests --dim
bool infer_vector(const Op *op, uint32_t i, const char *what, int64_t n);  // present operand is [n]; absent is fine
// The body of post or map: element-wise ops on rank-0 values with these parameter types; its result type.
bool infer_body(const Op *op, Func *body, uint32_t n_params, const DType *params, DType *result);
bool infer_fits(const Op *op, uint32_t first,
                const Type *to);  // operands from `first` on broadcast to the dims of `to`
bool infer_given(const Op *op);   // the result type was set by the builder

#endif
