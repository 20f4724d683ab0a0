// The kernel IR: trees of loops over buffers, and the program that calls them in order.
//
// A kernel takes buffers (pointers) and is a list of statements. Expressions are over lanes: inside a `vec` loop every
// value that depends on the loop variable is one vector, everything else is uniform. Indices are affine in loop
// variables and integer `let` variables (a gather is a `let` of a loaded index used in an affine index).
// At most one statement of a kernel's top level is a `par` loop; its iterations are independent, so any split over
// threads gives the same bits. Expressions form trees: sharing is spelled with `let`.
#ifndef QCC_IR_KERNEL_H
#define QCC_IR_KERNEL_H

#include "ir/affine.h"
#include "ir/base/str.h"
#include "ir/graph.h"

typedef enum KSpace {
  SPACE_ARG,    // parameter, tensor in caller memory or workspace
  SPACE_CONST,  // parameter, read-only constant
  SPACE_WORK,   // parameter, scratch in the workspace (same as ARG to the code; contents are dead outside the kernel)
  SPACE_STACK,  // alloc: small array in the frame, at most 2 KiB together
  SPACE_REG,    // alloc: registers; after unroll every index is constant but the lane
  SPACE_TILE,   // alloc: a matrix tile: at most 16 rows of 16 lanes of 32 bits, 8 of them in a kernel
  SPACE_TABLE   // numbers of the kernel itself: they are part of its text, and may be part of its code
} KSpace;

typedef struct KBuf {
  uint32_t id;
  const char *name;
  DType type;  // lane type of an element
  uint32_t rank;
  int64_t dims[MAX_RANK];
  int64_t strides[MAX_RANK];  // in elements; dense C order unless stated
  KSpace space;
  int32_t param;         // parameter number or -1
  struct KBuf *view_of;  // same bytes seen with another lane type or shape, or NULL
  const void *data;      // TABLE: the elements
} KBuf;

typedef enum KVarKind { KVAR_LOOP, KVAR_LET } KVarKind;

struct KVar {
  uint32_t id;
  const char *name;
  KVarKind kind;
  DType type;  // i64 for loop variables
};

typedef enum KExprKind { KX_CONST, KX_INDEX, KX_VAR, KX_LOAD, KX_OP } KExprKind;

typedef struct KExpr KExpr;
struct KExpr {
  KExprKind kind;
  DType type;
  union {
    struct {
      double f;
      int64_t i;
    };  // CONST: f for float types, i for integer types and bool
    Affine index;  // INDEX: an affine value as i64
    KVar *var;     // VAR: a let variable
    struct {
      KBuf *buf;
      Affine *idx;
    };  // LOAD: buf->rank indices
    struct {
      KOp op;
      KExpr *arg[3];
    };  // OP
  };
};

typedef enum KForKind { FOR_SEQ, FOR_PAR, FOR_VEC, FOR_UNROLL } KForKind;
typedef enum KStmtKind { KS_FOR, KS_IF, KS_LET, KS_STORE, KS_REDUCE, KS_ALLOC, KS_CALL, KS_TILE } KStmtKind;

typedef struct KStmt KStmt;
typedef struct KBlock {
  KStmt *first, *last;
} KBlock;

typedef struct Kernel Kernel;

struct KStmt {
  KStmtKind kind;
  KStmt *prev, *next;
  union {
    struct {
      KVar *var;
      Affine lo, hi;
      int64_t step;
      KForKind loop;
      KBlock body;
    } for_;  // var = lo, lo+step, ... < hi
    struct {
      KExpr *cond;
      KBlock then, other;
    } if_;
    struct {
      KVar *var;
      KExpr *value;
    } let;
    struct {
      KBuf *buf;
      Affine *idx;
      KExpr *value;
      KOp op;
      bool bits;
    } store;  // STORE; REDUCE: buf[idx] = op(buf[idx], over lanes of value)
    struct {
      KBuf *buf;
    } alloc;  // of a buffer in a frame or in registers, or the place of a table
    struct {
      Kernel *callee;
      uint32_t n;
      KBuf **args;
      Affine *offsets;
    } call;  // offsets in elements of args[i]
    struct {
      KOp op;
      KBuf *tile;    // zeroed, loaded, stored, or summed into
      KBuf *buf;     // LOAD, STORE: memory; DOT: tile a
      KBuf *b;       // DOT: tile b
      Affine *idx;   // LOAD, STORE: first element of row 0, the rows being contiguous bytes
      int64_t step;  // LOAD, STORE: elements of buf from row to row
    } tile;
  };
};
// REDUCE with bits set: the innermost vec loop has 8, 16, 32 or 64 iterations, value is bool, and the place (u8..u64)
// receives lane i as bit i.
//
// Matrix tiles: a is u8x4 or i8x4 [m, k], b is i8x4 [k, n], c is i32 [m, n]. They are allocated once, at the top level,
// and only tile statements touch them. A tile has the shape of its alloc everywhere: no statement takes part of one.

struct Kernel {
  uint32_t id;
  const char *name;  // unique in the program
  uint32_t n_params;
  KBuf **params;
  KBlock body;
  const Loc *loc;           // ops it was made for
  bool noalias;             // no two arguments overlap in any call
  uint32_t n_vars, n_bufs;  // id counters
};

// ---- the program: what `run` does, in order

typedef enum PBufKind { PBUF_INPUT, PBUF_OUTPUT, PBUF_CONST, PBUF_WORK } PBufKind;

typedef struct PBuf {
  uint32_t id;
  const char *name;
  const Type *type;
  PBufKind kind;
  uint32_t index;   // input or output number
  Const *constant;  // CONST
  int64_t bytes;
  bool is_weights;        // CONST: packed weights of a layer, not tables beside them (report)
  struct PBuf *alias_of;  // lives inside another buffer at byte alias_offset, or NULL
  int64_t alias_offset;
  int64_t offset;                 // WORK, without alias: byte offset in the workspace (memplan), -1 before
  int32_t first_step, last_step;  // liveness (memplan); -1 unused
} PBuf;

typedef struct Step {
  Kernel *kernel;
  uint32_t n_args;
  PBuf **args;   // one per kernel parameter
  const Op *op;  // graph op it was made for (report, verify); may be NULL
  const Loc *loc;
  const char *strategy;  // report
  double macs, bytes;    // multiply-adds, bytes touched: report and bench
} Step;

struct Program {
  Module *module;
  VEC(Kernel *) kernels;  // equal kernels appear once
  VEC(PBuf *) bufs;
  VEC(Step) steps;
  int64_t workspace_bytes, workspace_align;
  int64_t live_bytes;  // lower bound of workspace_bytes: largest sum of live buffers
};

Program *program_new(Module *m);
PBuf *program_buf(Program *p, PBufKind kind, const char *name, const Type *t);
PBuf *pbuf_root(PBuf *b, int64_t *offset);  // follows alias_of, adds up the offsets
// Adds the kernel (a copy when it was built in the module's build arena) unless an equal one (same text but for its
// name) is there; returns the one to call.
Kernel *program_kernel(Program *p, Kernel *k);
// Adds a kernel under its own name, which no other has, without looking for an equal one (the text parser).
void program_add_kernel(Program *p, Kernel *k);
Step *program_step(Program *p, Kernel *k, uint32_t n_args, PBuf *const *args, const Op *op);

// Bytes that are equal for kernels of equal meaning, whatever their names and those of their variables; callees are
// named. *ops (may be NULL) gets kop_bit of every op the kernel uses itself.
StrBuf kernel_canon(Arena *scratch, const Kernel *k, uint64_t *ops);
static inline uint64_t kop_bit(KOp op) { return op < 64 ? UINT64_C(1) << op : 0; }

Kernel *kernel_clone(Module *m, const Kernel *k);
int64_t kernel_ops(const Kernel *k);         // operations after unrolling (the 5,000 limit)
int64_t kernel_par_extent(const Kernel *k);  // iterations of its par loop, 0 when it has none
bool kbuf_is_dense(const KBuf *b);

#endif
