// The contract between the import driver (onnx_import.c), the attribute readers (onnx_attr.c) and the importers of
// single operators (onnx_node_*.c, one row each in onnx_ops.def).
//
// An importer reads inputs and attributes, emits graph ops in c->func and fills c->out. It returns false after a
// diagnostic of its own: node_refuse (the model contradicts itself) or node_unsupported (valid, but qcc has no such
// thing; the driver lists these grouped by operator). Everything an importer emits is folded at once where all
// operands are constants, so chains that compute shapes are gone when Reshape looks at its operand.
#ifndef QCC_FRONTEND_ONNX_NODE_H
#define QCC_FRONTEND_ONNX_NODE_H

#include "frontend/onnx.h"

typedef struct OnnxAttrs OnnxAttrs;        // attributes of one node and which of them were read (onnx_attr.c)
typedef struct OnnxImporter OnnxImporter;  // state of the walk (onnx_import.c); only for If and functions

typedef struct NodeCtx {
  Module *m;
  Func *func;          // ops go to its end
  Arena *scratch;      // until the node is done
  const Loc *loc;      // never NULL; module lifetime
  const char *name;    // node name, "" when it has none
  const char *type;    // operator
  const char *domain;  // "" for ai.onnx
  int64_t opset;       // version the model imports for that domain
  uint32_t n_in;       // trailing absent inputs are cut off
  Value *const *in;    // NULL: absent ("")
  const char *const *in_names;
  uint32_t n_out;
  const bool *wanted;  // the output has a name
  const char *const *out_names;
  Value **out;  // n_out results to fill; every wanted one must be filled
  OnnxAttrs *attrs;
  OnnxImporter *importer;
  const OnnxOptions *opt;
  const struct OnnxRow *row;  // set by onnx_row
} NodeCtx;

typedef bool OnnxImportFn(NodeCtx *c);

// One row of onnx_ops.def.
typedef struct OnnxRow {
  const char *name, *domain;
  int32_t since, until;  // opset versions of the domain in which the operator exists, inclusive
  uint32_t min_in, max_in, max_out;
  OpKind op;  // graph op of SAME rows
  OnnxImportFn *import;
} OnnxRow;

#define ONNX_LATEST 27  // newest opset of the default domain that the tables describe
#define ONNX_VARIADIC 0xffffu

// Looks an operator up and checks opset range and the number of inputs and outputs. NULL after node_unsupported (no
// such operator or domain, removed operator) or node_refuse (operator newer than the imported opset, wrong arity).
const OnnxRow *onnx_row(NodeCtx *c);

// ---- diagnostics; both return false
bool node_refuse(NodeCtx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool node_unsupported(NodeCtx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  // onnx_import.c

// ---- attributes (onnx_attr.c). Reading marks an attribute as known; the driver reports the ones nobody read. A
// wrong type is a diagnostic and makes attrs_ok false; the reader then returns the default.
bool attr_has(NodeCtx *c, const char *name);
int64_t attr_int(NodeCtx *c, const char *name, int64_t missing);
double attr_float(NodeCtx *c, const char *name, double missing);
const char *attr_str(NodeCtx *c, const char *name, const char *missing);  // NUL terminated, no NUL inside
const int64_t *attr_ints(NodeCtx *c, const char *name, uint32_t *n);      // NULL and 0 when absent
const double *attr_floats(NodeCtx *c, const char *name, uint32_t *n);     // NULL and 0 when absent
const char *const *attr_strs(NodeCtx *c, const char *name, uint32_t *n);  // NULL and 0 when absent
Value *attr_tensor(NodeCtx *c, const char *name);                         // a constant; NULL when absent
void attr_ignore(NodeCtx *c, const char *name);                           // known and without meaning for us
bool attrs_ok(const NodeCtx *c);                                          // no reader failed so far

// ---- inputs (onnx_node.c)
static inline Value *node_in(const NodeCtx *c, uint32_t i) { return i < c->n_in ? c->in[i] : NULL; }
static inline bool node_wants(const NodeCtx *c, uint32_t i) { return i < c->n_out && c->wanted[i]; }
// A constant input of integer type as int64 list (rank 0 or 1). False after a diagnostic that names the input and
// suggests --bind when it is not constant.
bool node_const_ints(NodeCtx *c, uint32_t i, const int64_t **v, uint32_t *n);
bool node_const_floats(NodeCtx *c, uint32_t i, const double **v, uint32_t *n);
bool node_const_int(NodeCtx *c, uint32_t i, int64_t *v);                // exactly one element
bool node_const_float(NodeCtx *c, uint32_t i, double *v);               // exactly one element
bool node_need_static(NodeCtx *c, const Value *v, const char *what);    // else an error that suggests --dim
bool node_axis(NodeCtx *c, int64_t axis, int64_t rank, uint32_t *out);  // negative counts from the end

// ---- building (onnx_node.c). A NULL result means a diagnostic was given.
Op *node_op(NodeCtx *c, OpKind kind, uint32_t n_in, Value *const *in);  // then set attributes, then node_done
Value *node_done(NodeCtx *c, Op *op);                                   // infers, folds; result 0
bool node_done_all(NodeCtx *c, Op *op, Value **results);                // infers, folds; all results
// A type after its rank and size are checked; NULL after a diagnostic.
const Type *node_type(NodeCtx *c, DType t, uint32_t rank, const int64_t *dims);
Value *node_given(NodeCtx *c, Op *op, DType t, uint32_t rank, const int64_t *dims);  // node_done with a stated type
Value *node_emit(NodeCtx *c, OpKind kind, uint32_t n_in, Value *const *in);          // node_op and node_done
Value *node_emit1(NodeCtx *c, OpKind kind, Value *x);
Value *node_emit2(NodeCtx *c, OpKind kind, Value *x, Value *y);
Value *node_emit3(NodeCtx *c, OpKind kind, Value *x, Value *y, Value *z);
Value *node_reshape(NodeCtx *c, Value *x, uint32_t rank, const int64_t *dims);    // x itself when nothing changes
Value *node_transpose(NodeCtx *c, Value *x, uint32_t rank, const int64_t *perm);  // x itself for the identity
Value *node_expand(NodeCtx *c, Value *x, uint32_t rank, const int64_t *dims);
Value *node_cast(NodeCtx *c, Value *x, DType t);  // x itself when it has that type
Value *node_scalar(NodeCtx *c, DType t, double v);
// y[i] = x[starts + i * steps] with `counts` elements per axis; steps NULL: all 1. x itself when nothing is cut.
Value *node_slice(NodeCtx *c, Value *x, const int64_t *starts, const int64_t *steps, const int64_t *counts);
Value *node_concat(NodeCtx *c, uint32_t n, Value *const *in, int64_t axis);
Value *node_reduce(NodeCtx *c, Value *x, EnumValue op, uint32_t n, const int64_t *axes, bool keepdims);
Value *node_matmul(NodeCtx *c, Value *a, Value *b, Value *bias, bool trans_a, bool trans_b);
Value *node_iota(NodeCtx *c, int64_t n);                     // i64[n] constant 0, 1, ...
Value *node_ints(NodeCtx *c, uint32_t n, const int64_t *v);  // i64[n] constant
bool node_result(NodeCtx *c, Value *v);                      // c->out[0] = v; false when v is NULL

// The folder (onnx_fold.c): evaluates `op` when all its operands are constants and eval_cost and the result bytes are
// within the budget; then `results` holds constants and the op is unlinked. Otherwise `results` holds op->out.
// False only after a diagnostic (an index out of range while folding ...).
bool onnx_fold(NodeCtx *c, Op *op, Value **results);

// If (onnx_import.c): a constant condition imports one branch; otherwise both are inlined and joined by select.
bool import_if(NodeCtx *c);

#endif
