// What parse.c and parse_kernel.c share: the parser's state and the small pieces of grammar both levels use.
//
// Every parse_* function returns false (or NULL) after one diag_error; the callers skip to a point where parsing can
// go on (parse_resync), so that several independent errors are reported in one run.
#ifndef QCC_IR_PARSE_H
#define QCC_IR_PARSE_H

#include "ir/base/map.h"
#include "ir/kernel.h"
#include "ir/lex.h"

#define PARSE_EXPR_DEPTH 200                // nesting of kernel expressions
#define PARSE_BLOCK_DEPTH 64                // nesting of loops
#define PARSE_INDEX_MAX (INT64_C(1) << 48)  // magnitude of a number in an affine index

typedef struct Parser {
  Lexer lex;
  Token tok;  // the token to be consumed next
  Module *m;
  Arena *scratch;
  const char *file;
  Map *consts;   // name -> Value of the declared constants
  Map *funcs;    // name -> Func
  Map *kernels;  // name -> Kernel
} Parser;

void parse_step(Parser *p);  // consumes the token
// "FILE:LINE:COL: error: found X, expected EXPECTED" at the current token.
bool parse_expected(Parser *p, const char *expected);
bool parse_error(Parser *p, const Token *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool parse_at(const Parser *p, int kind);
bool parse_at_name(const Parser *p, const char *name);
bool parse_take(Parser *p, int kind);  // consumes the token when it is of that kind
bool parse_take_name(Parser *p, const char *name);
bool parse_want(Parser *p, int kind, const char *expected);  // consumes or reports
bool parse_want_name(Parser *p, const char *name);

const Loc *parse_loc(Parser *p, const Token *at);
bool parse_int(Parser *p, int64_t *v);   // with an optional '-'
bool parse_size(Parser *p, int64_t *v);  // non-negative, at most MAX_ELEMS
bool parse_dtype(Parser *p, DType *t);
bool parse_type(Parser *p, const Type **t);  // f32[1,N]
// The value of a literal of type t: f for float types, i for the others.
bool parse_literal(Parser *p, DType t, double *f, int64_t *i);
bool parse_locs(Parser *p, const Token *at, const Loc **loc);  // an optional loc("..."); never NULL

bool parse_float(Parser *p, double *f);
bool parse_bool(Parser *p, int64_t *v);
bool parse_list(Parser *p, const Type *t, void **bytes);  // [1, 2, 3]
// The rest of splat(v) or f32(v) after the word; `name` (or NULL) for a constant that is new.
bool parse_splat(Parser *p, const Type *t, const char *name, Value **v);

// parse_func.c: heads of all functions are parsed before any body.
typedef struct FuncDecl FuncDecl;
extern Value parse_poison;  // stands for a value or constant whose definition failed
FuncDecl *parse_func_head(Parser *p);
bool parse_func_body(FuncDecl *d, Parser *p);  // leaves *p behind the function

// parse_kernel.c: signatures of all kernels are parsed before any body; parse_program.c comes last.
Kernel *parse_kernel_head(Parser *p);
bool parse_kernel_body(Parser *p, Kernel *k);
bool parse_program(Parser *p);

// The type a bare number has as operand `i` of `op`, in parser and printer alike; DT_NONE: it is written with its type.
// `outer` is the type expected of the result, `before` the type of the operand before.
DType literal_type(KOp op, uint32_t i, DType outer, DType before);

#endif
