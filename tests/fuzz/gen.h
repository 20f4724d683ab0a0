// Seeded generator of random valid graphs. Every op is evaluated while the graph grows, so a graph has the values of
// all its tensors, and ops that would leave the domain of a function (NaN, infinity, an index outside) are dropped at
// once.
#ifndef QCC_TESTS_FUZZ_GEN_H
#define QCC_TESTS_FUZZ_GEN_H

#include "ir/eval.h"
#include "ir/graph.h"

// Families of generators; a policy prefers one and allows others.
enum {
  G_ELTWISE = 1,
  G_SHAPE = 2,
  G_CONV = 4,
  G_MATMUL = 8,
  G_NORM = 16,
  G_POOL = 32,
  G_REDUCE = 64,
  G_ORDER = 128,
  G_INDEX = 256,
  G_RNN = 512,
  G_QUANT = 1024,
  G_RESIZE = 2048,
  G_DEPTHWISE = 4096,
  G_LOWBIT = 8192,
  G_ALL = 4095
};

typedef struct Policy {
  const char *name;
  uint32_t prefer, allow;  // families
  const char *dtypes;      // of arguments: f float, h half, d double, i i32, l i64, b i8, u u8, o bool
  uint32_t max_rank;
  uint32_t extent;  // usual largest dim
  bool exact;       // floats are whole multiples of powers of two that no op rounds: results must have the same bits
} Policy;

typedef struct Slot {
  Value *v;
  Tensor t;
} Slot;

typedef struct Gen {
  Arena *arena;
  Module *m;
  Func *f;
  const Policy *policy;
  uint64_t rng;
  uint64_t row;   // of ops.def, next to try
  bool grid;      // floats are small multiples of 1/16
  bool specials;  // infinities and NaN may occur
  VEC(Slot) pool;
  VEC(Tensor) args;
  VEC(Op *) ops;
} Gen;

// The graph of a seed. Its function has argument values in `args`.
void gen_graph(Gen *g, uint64_t seed, const char *policy, Arena *arena, Diag *diag);
// Cuts the graph down: only results with a mark in keep_result stay (NULL: all), ops with a mark in `drop` become
// arguments with the values they had; then what nothing uses is removed.
void gen_cut(Gen *g, const uint8_t *drop, const uint8_t *keep_result);

// ---- for the generators
uint64_t rnd(Gen *g);
int64_t rnd_in(Gen *g, int64_t lo, int64_t hi);  // both included
bool rnd_p(Gen *g, uint32_t percent);
double rnd_f(Gen *g, double lo, double hi);
int64_t gen_extent(Gen *g);
const Type *gen_type(Gen *g, DType t, uint32_t rank, const int64_t *dims);
void gen_fill(Gen *g, Tensor *t);
Value *gen_arg(Gen *g, const Type *t);                      // a new argument
Value *gen_const(Gen *g, const Type *t);                    // a new or shared constant
Value *gen_weights(Gen *g, const Value *x, const Type *t);  // to multiply x with: a leaf, or a constant with zeros
Value *gen_leaf(Gen *g, const Type *t);  // mostly a constant, sometimes an argument or a value that has the type
Value *gen_ints(Gen *g, const Type *t, int64_t lo, int64_t hi);  // a leaf of integers in [lo, hi]
Tensor gen_tensor(Gen *g, const Value *v);
// A value of the pool (later ones more often) with rank in [lo, hi] and, when `classes` is not empty, a dtype named
// there; NULL when there is none.
Value *gen_pick(Gen *g, const char *classes, uint32_t lo, uint32_t hi);
Value *gen_need(Gen *g, const char *classes, uint32_t lo, uint32_t hi);  // gen_pick or a new argument
Value *gen_mate(Gen *g, DType t, const Type *with);                      // a value that broadcasts with `with`
const Loc *gen_loc(Gen *g, OpKind kind);
Op *gen_op(Gen *g, OpKind kind, uint32_t n_in, Value *const *in);
void gen_result(Gen *g, Op *op, DType t, uint32_t rank, const int64_t *dims);  // states a result type
bool gen_done(Gen *g, Op *op);  // infers, evaluates, adds the results to the pool; false: the op is gone again
bool gen_dtype_in(DType t, const char *classes);

bool gen_train(Gen *g);              // gen_chain.c
bool gen_kronecker(Gen *g);          // gen_chain.c
bool gen_row(Gen *g, uint64_t row);  // an op of that row of the table, when it is element-wise

typedef struct Generator {
  const char *name;
  uint32_t families;
  bool (*make)(Gen *g);
} Generator;
extern const Generator gen_basic[], gen_network[], gen_lowbit[];  // end with a NULL name

#endif
