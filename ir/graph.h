// The graph IR: a module of functions, each a straight line of tensor ops in SSA form.
//
// Ids are dense per module and stay unique; ops are unlinked, never freed. Side tables are arrays indexed by id in
// the pass arena; nodes carry no user data. An operand slot is the use record of its value.
#ifndef QCC_IR_GRAPH_H
#define QCC_IR_GRAPH_H

#include "ir/base/vec.h"
#include "ir/op.h"

typedef struct Module Module;
typedef struct Note Note;  // note.h
typedef struct Func Func;
typedef struct Op Op;
typedef struct Value Value;
typedef struct Const Const;
typedef struct Program Program;  // ir/kernel.h

typedef struct Operand Operand;
struct Operand {
  Value *value;  // NULL: optional operand not given
  Op *op;        // owner
  uint32_t slot;
  Operand *next, *prev;  // other uses of the same value
};

typedef enum ValueKind { VALUE_ARG, VALUE_RESULT, VALUE_CONST } ValueKind;

struct Value {
  uint32_t id;
  ValueKind kind;
  const Type *type;
  const char *name;  // ONNX or text name, may be NULL
  Op *op;            // of RESULT
  uint32_t index;    // result or argument number
  Const *constant;   // of CONST
  Operand *uses;     // operand uses
  uint32_t n_uses;   // operand uses plus uses as a function result
};

// How the bytes of a constant are made. Generators keep test files meaningful.
typedef enum ConstGen {
  CONST_BYTES,
  CONST_SPLAT,  // every element `splat`
  CONST_IOTA,   // element i is i (wrapped to the type)
  CONST_RAND    // seeded, see const_rand in constant.c: floats in [-1, 1), integers over a small range of the type
} ConstGen;

struct Const {
  uint32_t id;
  const char *name;  // unique in the module; text form @name
  const Type *type;
  ConstGen gen;
  double splat;  // exact for every dtype but 64-bit integers, those use splat_i
  int64_t splat_i;
  uint64_t seed;
  uint32_t zeros;     // CONST_RAND: percent of the elements that are zero
  const void *bytes;  // CONST_BYTES: type_bytes(type) bytes, borrowed from the model or arena owned
  bool released;      // bytes were given back (consts_release); reading them is a bug
  uint64_t hash;      // of type and content
  Value value;        // the operand value (kind VALUE_CONST)
};

// A kernel strategy chosen by `plan`: text form "fma(mr = 6, nv = 3)".
#define PLAN_MAX 12
typedef struct Plan {
  const char *strategy;  // row of passes/strategies.def
  uint32_t n;
  struct {
    const char *name;
    int64_t value;
  } param[PLAN_MAX];  // interned names
} Plan;
int64_t plan_param(const Plan *p, const char *name, int64_t missing);

typedef struct AttrVal {
  bool set;       // false: the default holds
  int64_t i;      // INT, BOOL, ENUM (an EnumValue), DTYPE
  double f;       // FLOAT
  const char *s;  // STR
  uint32_t n;     // INTS, FLOATS
  const int64_t *ints;
  const double *floats;
  Func *func;        // FUNC
  const Plan *plan;  // PLAN
} AttrVal;

struct Op {
  uint32_t id;
  OpKind kind;
  Func *func;
  Op *prev, *next;
  uint32_t n_in, n_out;
  Operand *in;     // n_in slots
  Value **out;     // n_out values
  AttrVal *attrs;  // op_info(kind)->n_attrs slots
  const Loc *loc;  // never NULL after import
};

struct Func {
  uint32_t id;
  const char *name;
  Module *module;
  uint32_t n_args, n_results;
  Value **args;
  Value **results;            // may be results, arguments or constants; count as uses
  const char **result_names;  // ONNX names of results (never NULL after import)
  Op *first, *last;           // topological order
  uint32_t n_ops;
};

struct Module {
  Arena *arena;
  Arena *build_arena;  // where lowering builds kernels before they are known to be new; NULL: arena
  Interner *names;
  TypeTable *types;
  Diag *diag;
  VEC(Func *) funcs;  // funcs.at[0] is the entry; others are bodies of map and post attributes
  VEC(Const *) consts;
  VEC(Note) notes;   // on layers, for the report (note.h)
  void *note_index;  // by place, owned by note.c
  uint32_t n_values, n_ops, n_consts;
  Program *program;   // set by lower; from then on the functions are only kept for reports
  const char *name;   // symbol prefix
  void *const_index;  // content hash map, owned by constant.c
};

Module *module_new(Arena *arena, Diag *diag);
// A second module of the same functions, constants and notes under the same ids, not lowered yet. Arena, names, types
// and the bytes of constants are shared: neither may be used by two threads, and no memory of constants may be
// released.
Module *module_clone(const Module *m);
Func *func_new(Module *m, const char *name, uint32_t n_args, const Type *const *arg_types);
Func *module_func(const Module *m, const char *name);              // NULL when absent
void func_set_results(Func *f, uint32_t n, Value *const *values);  // replaces; keeps use counts right
void func_set_result(Func *f, uint32_t i, Value *v);
Func *func_clone(Func *f, const char *name);

// Creates an op with untyped results, linked before `before` (NULL: at the end). Operands may be NULL.
Op *op_new(Func *f, Op *before, OpKind kind, uint32_t n_in, Value *const *in, const Loc *loc);
// op_new with n_out results for kinds with variadic results is not needed: n_out comes from ops.def.
void op_set_operand(Op *op, uint32_t slot, Value *v);
void op_add_operand(Op *op, Value *v);  // appends a slot
void op_set_operands(Op *op, uint32_t n, Value *const *in);
void op_unlink(Op *op);                      // drops its uses; results must be unused
void op_move_before(Op *op, Op *before);     // NULL: to the end
void value_replace(Value *old, Value *now);  // every operand and function-result use
void value_set_type(Value *v, const Type *t);
bool value_is_result_of_func(const Value *v);  // used as a function result
Op *value_sole_user(const Value *v);           // the op if v has exactly one use and it is an operand

static inline Value *op_in(const Op *op, uint32_t i) { return i < op->n_in ? op->in[i].value : NULL; }
static inline Value *op_out(const Op *op, uint32_t i) { return op->out[i]; }
uint32_t op_n_post(const Op *op);  // operands past max_in (post operands)
Func *op_post(const Op *op);       // post function or NULL

// Attributes by slot constant (A_CONV_group). Reading an unset slot gives the default.
int64_t op_int(const Op *op, int slot);
bool op_bool(const Op *op, int slot);
double op_float(const Op *op, int slot);
EnumValue op_enum(const Op *op, int slot);
const char *op_str(const Op *op, int slot);  // "" by default
const int64_t *op_ints(const Op *op, int slot, uint32_t *n);
const double *op_floats(const Op *op, int slot, uint32_t *n);
Func *op_func(const Op *op, int slot);
const Plan *op_plan(const Op *op);  // NULL when not planned
int64_t op_ints_at(const Op *op, int slot, uint32_t i,
                   int64_t missing);           // element i or `missing` when the list is empty
void op_set_int(Op *op, int slot, int64_t v);  // INT, BOOL, ENUM, DTYPE
void op_set_float(Op *op, int slot, double v);
void op_set_str(Op *op, int slot, const char *v);
void op_set_ints(Op *op, int slot, uint32_t n, const int64_t *v);  // copies
void op_set_floats(Op *op, int slot, uint32_t n, const double *v);
void op_set_func(Op *op, int slot, Func *f);
void op_set_plan(Op *op, const Plan *p);     // copies
void op_copy_attrs(Op *to, const Op *from);  // same kind

// ---- constants (constant.c). Equal type and content give the same Const; a name is only a hint.
Value *const_bytes(Module *m, const Type *t, const void *bytes, const char *name);     // copies
Value *const_borrowed(Module *m, const Type *t, const void *bytes, const char *name);  // bytes outlive the module
Value *const_splat(Module *m, const Type *t, double v);
Value *const_splat_int(Module *m, const Type *t, int64_t v);
Value *const_generated(Module *m, const Type *t, ConstGen gen, double splat, uint64_t seed, const char *name);
// CONST_RAND with about `percent` zeros.
Value *const_with_zeros(Module *m, const Type *t, uint64_t seed, uint32_t percent, const char *name);
void consts_clone(Module *to, const Module *from);         // into an empty module, for module_clone
void const_rename(Module *m, Const *c, const char *name);  // no effect when another constant has that name
// Packed bytes of the constant (generators are materialised once, in the module arena).
const void *const_data(Module *m, Const *c);
// Gives the memory of large constants back to the system once nothing needs them: those without uses, and after
// lowering those the program does not name. Only for runs that do not look at the graph again (plain compilation).
void consts_release(Module *m);
void const_release(Module *m, Const *c);       // one constant that was read for the last time
void const_release_read(Module *m, Const *c);  // the same while lowering, by its only user
bool value_is_const(const Value *v);
bool const_is_splat(Module *m, Const *c, double *v);  // every element the same number (looks at the bytes)
double const_f(Module *m, Const *c, int64_t i);
int64_t const_i(Module *m, Const *c, int64_t i);

#endif
