// The flat code that ir/keval.c makes of a kernel and ir/keval_run.c executes. Private to the two.
//
// One slot per expression node, variable and constant; instructions read and write slots by number. Floats of every
// lane type are held as double, rounded to their type; integers as int64 wrapped to their type; packed lanes as their
// 32 bits.
#ifndef QCC_IR_KEVAL_CODE_H
#define QCC_IR_KEVAL_CODE_H

#include "ir/base/map.h"
#include "ir/kernel.h"

typedef union Slot {
  double f;
  int64_t i;
} Slot;

typedef enum InsCode {
  INS_OP,      // dst = op(a, b, c)
  INS_MOVE,    // dst = a
  INS_INDEX,   // dst = affine[aux]
  INS_LOAD,    // dst = access[aux]
  INS_LOOKUP,  // dst = access[aux] moved by slot a & 15 (or 31) elements
  INS_STORE,   // access[aux] = a
  INS_REDUCE,  // access[aux] = op(access[aux], a)
  INS_BITS,    // bit (b - c) / step of access[aux] = a; the first lane clears the others
  INS_FILL,    // region aux gets the numbers of its table, or unusable contents
  INS_CALL,    // call[aux]
  INS_TILE,    // tile[aux]
  INS_JUMP,    // to target
  INS_UNLESS,  // to target when a is false
  INS_ENTER,   // to target unless a < b
  INS_NEXT     // a += step; to target when a < b
} InsCode;

typedef struct Ins {
  InsCode code;
  KOp op;
  DType type;  // of operand 0 (DOT4: of operand 1)
  DType to;    // of the result
  uint32_t dst, a, b, c;
  uint32_t aux, target;
  int64_t step;
} Ins;

typedef struct FlatTerm {
  uint32_t slot;
  int64_t coef;
} FlatTerm;

typedef struct FlatAffine {
  int64_t base;
  uint32_t n;
  FlatTerm *term;
} FlatAffine;

typedef struct Access {
  const KBuf *buf;
  uint32_t region;
  FlatAffine idx[MAX_RANK];
} Access;

typedef struct Code Code;

typedef struct Call {
  Code *callee;
  uint32_t n;
  Access *args;  // idx[0]: offset in elements
} Call;

// A statement on tiles; places of tiles and of memory are regions.
typedef struct TileIns {
  const KStmt *s;
  uint32_t tile, a, b;
  Access memory;  // LOAD, STORE
} TileIns;

// Bytes behind one or more buffers: a parameter or an alloc.
typedef struct Region {
  const KBuf *buf;
  int64_t bytes;
} Region;

struct Code {
  const Kernel *kernel;
  VEC(Ins) ins;
  VEC(FlatAffine) affine;
  VEC(Access) access;
  VEC(Call) call;
  VEC(TileIns) tile;
  VEC(Region) region;  // the first n_params are the parameters
  VEC(Slot) slot;      // initial values
};

int64_t kbuf_span(const KBuf *b);  // bytes from the first to the end of the last element
// Runs the code on `args`, the bytes of each parameter. False after diag_error.
bool code_run(Module *m, Arena *arena, const Code *c, uint8_t *const *args);

#endif
