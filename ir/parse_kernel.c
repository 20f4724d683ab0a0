// The parser of kernels (docs/ir.md; programs: parse_program.c). It builds well-formed trees of any content: types
// that do not fit, indices of the wrong kind and the like are the verifier's business. Nesting is bounded, and numbers
// in indices are kept small enough for affine arithmetic to be exact. The first error ends a kernel.
#include <string.h>

#include "ir/elem.h"
#include "ir/kcopy.h"
#include "ir/parse.h"

DType literal_type(KOp op, uint32_t i, DType outer, DType before) {
  if (op == KOP_CAST || op == KOP_VIEW) return DT_NONE;
  if (op == KOP_SELECT) return i == 0 ? DT_BOOL : i == 1 ? outer : before;
  if (op == KOP_DOT4 || op == KOP_DOT2 || kop_table(op) > 0) return i == 0 ? outer : DT_NONE;
  if (i > 0) return before;
  return kop_info(op)->rule == KRULE_SAME ? outer : DT_NONE;
}

typedef struct Entry {
  const char *name;
  KVar *var;  // either
  KBuf *buf;  // or
} Entry;

// The kernel being parsed.
typedef struct KParse {
  Parser *p;
  Kernel *k;
  VEC(Entry) scope;  // what is visible, innermost last
  uint32_t depth;    // of blocks
} KParse;

// ---- names

static const Entry *find(const KParse *kp, const char *name) {
  for (uint32_t i = kp->scope.n; i-- > 0;)
    if (kp->scope.at[i].name == name) return &kp->scope.at[i];
  return NULL;
}

static bool declare(KParse *kp, const Token *t, KVar *var, KBuf *buf) {
  if (find(kp, t->text)) return parse_error(kp->p, t, "%%%s is defined twice", t->text);
  vec_push(kp->p->scratch, &kp->scope, ((Entry){t->text, var, buf}));
  return true;
}

static bool want_buf(KParse *kp, KBuf **buf) {
  Token t = kp->p->tok;
  if (!parse_want(kp->p, TOK_VALUE, "a buffer's %name")) return false;
  const Entry *e = find(kp, t.text);
  if (!e) return parse_error(kp->p, &t, "%%%s is not defined before its use", t.text);
  *buf = e->buf;
  return *buf || parse_error(kp->p, &t, "found variable %%%s, expected a buffer", t.text);
}

static bool want_var(KParse *kp, KVar **var) {
  Token t = kp->p->tok;
  if (!parse_want(kp->p, TOK_VALUE, "a variable's %name")) return false;
  const Entry *e = find(kp, t.text);
  if (!e) return parse_error(kp->p, &t, "%%%s is not defined before its use", t.text);
  *var = e->var;
  return *var || parse_error(kp->p, &t, "found buffer %%%s, expected a variable", t.text);
}

// ---- buffers

static bool parse_numbers(Parser *p, uint32_t *rank, int64_t *v) {
  if (!parse_want(p, '[', "'['")) return false;
  *rank = 0;
  while (!parse_at(p, ']')) {
    if (*rank == MAX_RANK) return parse_error(p, &p->tok, "found more than %d dims", MAX_RANK);
    if (*rank > 0 && !parse_want(p, ',', "',' or ']'")) return false;
    if (!parse_size(p, &v[(*rank)++])) return false;
  }
  parse_step(p);
  return true;
}

// f32[784,64] strides[80,1]; dense unless stated.
static KBuf *parse_buf_type(KParse *kp, const Token *name) {
  Parser *p = kp->p;
  KBuf b = {.name = name->text, .param = -1};
  Token at = p->tok;
  int64_t count;
  if (!parse_dtype(p, &b.type) || !parse_numbers(p, &b.rank, b.dims)) return NULL;
  if (!dims_count(b.rank, b.dims, &count)) {
    parse_error(p, &at, "found a buffer of more than 2^40 elements");
    return NULL;
  }
  int64_t stride = 1;
  for (uint32_t i = b.rank; i-- > 0; stride *= b.dims[i] ? b.dims[i] : 1) b.strides[i] = stride;
  at = p->tok;
  uint32_t n = b.rank;
  if (parse_take_name(p, "strides") && (!parse_numbers(p, &n, b.strides) || n != b.rank)) {
    if (n != b.rank) parse_error(p, &at, "found %u strides, expected %u", n, b.rank);
    return NULL;
  }
  b.id = kp->k->n_bufs++;
  return arena_copy(p->m->arena, &b, sizeof b);
}

static const char *const space_names[] = {"arg", "const", "work", "stack", "reg", "tile"};

static bool parse_space(Parser *p, KSpace first, KSpace last, KSpace *space) {
  for (int s = (int)first; s <= (int)last; s++)
    if (parse_take_name(p, space_names[s])) {
      *space = (KSpace)s;
      return true;
    }
  return parse_expected(p, first == SPACE_ARG ? "arg, const or work" : "stack, reg or tile");
}

// ---- affine indices: 2*%i+%j-3

typedef struct Sum {
  int64_t base;
  uint32_t n;
  AffineTerm term[AFFINE_MAX];
} Sum;

static bool sum_add(int64_t *to, int64_t v) {
  return !__builtin_add_overflow(*to, v, to) && *to <= PARSE_INDEX_MAX && *to >= -PARSE_INDEX_MAX;
}

static bool sum_term(Sum *s, KVar *v, int64_t coef) {
  for (uint32_t i = 0; i < s->n; i++)
    if (s->term[i].var == v) return sum_add(&s->term[i].coef, coef);
  if (s->n == AFFINE_MAX) return false;
  s->term[s->n++] = (AffineTerm){v, coef};
  return true;
}

static bool parse_term(KParse *kp, Sum *s, bool negative) {
  Parser *p = kp->p;
  Token at = p->tok;
  int64_t c = 1;
  bool number = parse_at(p, TOK_INT);
  if (!number && !parse_at(p, TOK_VALUE)) return parse_expected(p, "an index: numbers and variables joined by + and -");
  if (number && !parse_int(p, &c)) return false;
  if (c > PARSE_INDEX_MAX) return parse_error(p, &at, "found an index beyond 2^48");
  if (negative) c = -c;
  bool ok;
  if (number && !parse_take(p, '*')) {
    ok = sum_add(&s->base, c);
  } else {
    KVar *v;
    if (!want_var(kp, &v)) return false;
    ok = sum_term(s, v, c);
  }
  return ok || parse_error(p, &at, "found an index beyond 2^48 or of more than %d variables", AFFINE_MAX);
}

static bool parse_affine(KParse *kp, Affine *a) {
  Sum s = {0};
  if (!parse_term(kp, &s, parse_take(kp->p, '-'))) return false;
  while (parse_at(kp->p, '+') || parse_at(kp->p, '-')) {
    bool negative = parse_at(kp->p, '-');
    parse_step(kp->p);
    if (!parse_term(kp, &s, negative)) return false;
  }
  *a = aff(s.base);
  for (uint32_t i = 0; i < s.n; i++) *a = aff_add(*a, aff_term(s.term[i].var, s.term[i].coef));
  return true;
}

// %a[%m+%i, %k]
static bool parse_place(KParse *kp, KBuf **buf, Affine **idx) {
  Parser *p = kp->p;
  if (!want_buf(kp, buf)) return false;
  uint32_t rank = (*buf)->rank;
  *idx = NEW_ARRAY(p->m->arena, Affine, rank + 1);
  if (!parse_want(p, '[', "'['")) return false;
  for (uint32_t i = 0; i < rank; i++) {
    if (i > 0 && !parse_want(p, ',', arena_printf(p->scratch, "',' and %u more indices", rank - i))) return false;
    if (!parse_affine(kp, &(*idx)[i])) return false;
  }
  return parse_want(p, ']', "']'");
}

// ---- expressions

static KExpr *new_expr(KParse *kp, KExprKind kind, DType t) {
  KExpr *x = NEW(kp->p->m->arena, KExpr);
  x->kind = kind;
  x->type = t;
  return x;
}

static KExpr *parse_const(KParse *kp, DType t) {
  KExpr *x = new_expr(kp, KX_CONST, t);
  double f;
  int64_t i;
  if (!parse_literal(kp->p, t, &f, &i)) return NULL;
  if (dtype_is_float(t)) {
    x->f = f;
  } else {
    x->i = i;
  }
  return x;
}

// A variable: a let by itself, a loop variable as its index.
static KExpr *parse_var(KParse *kp) {
  KVar *v;
  if (!want_var(kp, &v)) return NULL;
  KExpr *x = new_expr(kp, v->kind == KVAR_LET ? KX_VAR : KX_INDEX, v->type);
  if (v->kind == KVAR_LET) {
    x->var = v;
  } else {
    x->index = aff_var(v);
  }
  return x;
}

static KExpr *parse_expr(KParse *kp, DType expected, uint32_t depth);

static DType op_type(KOp op, KExpr *const *arg, DType given) {
  switch (kop_info(op)->rule) {
    case KRULE_SAME: return arg[0]->type;
    case KRULE_BOOL: return DT_BOOL;
    case KRULE_ARG1: return arg[1]->type;
    case KRULE_GIVEN:
    case KRULE_TILE: return given;
  }
  return given;
}

// add(x, y), cast(x, f32)
static KExpr *parse_op_expr(KParse *kp, KOp op, DType expected, uint32_t depth) {
  Parser *p = kp->p;
  const KOpInfo *info = kop_info(op);
  KExpr *arg[3] = {0};
  DType given = DT_NONE;
  parse_step(p);
  if (!parse_want(p, '(', "'('")) return NULL;
  for (uint32_t i = 0; i < info->arity; i++) {
    if (i > 0 && !parse_want(p, ',', arena_printf(p->scratch, "',' and operand %u of %s", i, info->name))) return NULL;
    arg[i] = parse_expr(kp, literal_type(op, i, expected, i ? arg[i - 1]->type : DT_NONE), depth + 1);
    if (!arg[i]) return NULL;
  }
  if (info->rule == KRULE_GIVEN && !(parse_want(p, ',', "',' and a type") && parse_dtype(p, &given))) return NULL;
  if (!parse_want(p, ')', "')'")) return NULL;
  KExpr *x = new_expr(kp, KX_OP, op_type(op, arg, given));
  x->op = op;
  memcpy(x->arg, arg, sizeof arg);
  return x;
}

static KExpr *parse_load(KParse *kp) {
  KExpr *x = new_expr(kp, KX_LOAD, DT_NONE);
  parse_step(kp->p);
  if (!parse_place(kp, &x->buf, &x->idx)) return NULL;
  x->type = x->buf->type;
  return x;
}

static KExpr *parse_index(KParse *kp) {
  KExpr *x = new_expr(kp, KX_INDEX, DT_I64);
  parse_step(kp->p);
  bool ok = parse_want(kp->p, '(', "'('") && parse_affine(kp, &x->index) && parse_want(kp->p, ')', "')'");
  return ok ? x : NULL;
}

static KExpr *parse_typed_const(KParse *kp, DType t) {
  parse_step(kp->p);
  if (!parse_want(kp->p, '(', "'('")) return NULL;
  KExpr *x = parse_const(kp, t);
  return x && parse_want(kp->p, ')', "')'") ? x : NULL;
}

static KExpr *parse_expr(KParse *kp, DType expected, uint32_t depth) {
  Parser *p = kp->p;
  if (depth > PARSE_EXPR_DEPTH) {
    parse_error(p, &p->tok, "found an expression nested deeper than %d", PARSE_EXPR_DEPTH);
    return NULL;
  }
  if (parse_at(p, TOK_VALUE)) return parse_var(kp);
  if (parse_at_name(p, "true") || parse_at_name(p, "false")) return parse_const(kp, DT_BOOL);
  bool number = parse_at(p, TOK_INT) || parse_at(p, TOK_FLOAT) || parse_at(p, '-') || parse_at_name(p, "inf") ||
                parse_at_name(p, "nan");
  if (number && expected != DT_NONE) return parse_const(kp, expected);
  if (number) {
    parse_expected(p, "its type too, as in f32(0.5)");
    return NULL;
  }
  if (parse_at_name(p, "load")) return parse_load(kp);
  if (parse_at_name(p, "index")) return parse_index(kp);
  if (parse_at(p, TOK_NAME)) {
    DType t = dtype_by_name(p->tok.at, p->tok.n);
    if (t != DT_NONE) return parse_typed_const(kp, t);
    KOp op = kop_by_name(p->tok.at, p->tok.n);
    if (op != KOP_NONE && kop_info(op)->rule != KRULE_TILE) return parse_op_expr(kp, op, expected, depth);
  }
  parse_expected(p, "an expression");
  return NULL;
}

// ---- statements

static bool parse_block(KParse *kp, KBlock *b);

static bool parse_loop_kind(Parser *p, KForKind *kind) {
  static const char *const names[] = {"seq", "par", "vec", "unroll"};
  for (int i = 0; i < 4; i++)
    if (parse_take_name(p, names[i])) {
      *kind = (KForKind)i;
      return true;
    }
  return parse_expected(p, "step, seq, par, vec or unroll");
}

// for %i in 0..784 step 6 par { ... }
static bool parse_for(KParse *kp, KBlock *b) {
  Parser *p = kp->p;
  KStmt *s = kstmt_new(p->m->arena, KS_FOR);
  parse_step(p);
  Token name = p->tok;
  if (!parse_want(p, TOK_VALUE, "a loop variable") || !parse_want_name(p, "in")) return false;
  if (!parse_affine(kp, &s->for_.lo) || !parse_want(p, TOK_RANGE, "'..'") || !parse_affine(kp, &s->for_.hi))
    return false;
  s->for_.step = 1;
  Token at = p->tok;
  if (parse_take_name(p, "step")) {
    at = p->tok;
    if (!parse_size(p, &s->for_.step)) return false;
  }
  if (s->for_.step < 1) return parse_error(p, &at, "found step 0, expected at least 1");
  if (!parse_loop_kind(p, &s->for_.loop)) return false;
  s->for_.var = kvar_new(p->m->arena, kp->k, name.text, KVAR_LOOP, DT_I64);
  uint32_t mark = kp->scope.n;
  if (!declare(kp, &name, s->for_.var, NULL) || !parse_block(kp, &s->for_.body)) return false;
  kp->scope.n = mark;
  kblock_append(b, s);
  return true;
}

static bool parse_if(KParse *kp, KBlock *b) {
  KStmt *s = kstmt_new(kp->p->m->arena, KS_IF);
  parse_step(kp->p);
  s->if_.cond = parse_expr(kp, DT_BOOL, 0);
  if (!s->if_.cond || !parse_block(kp, &s->if_.then)) return false;
  kblock_append(b, s);
  return !parse_take_name(kp->p, "else") || parse_block(kp, &s->if_.other);
}

static bool parse_let(KParse *kp, KBlock *b) {
  Parser *p = kp->p;
  KStmt *s = kstmt_new(p->m->arena, KS_LET);
  parse_step(p);
  Token name = p->tok;
  if (!parse_want(p, TOK_VALUE, "a variable's %name") || !parse_want(p, '=', "'='")) return false;
  s->let.value = parse_expr(kp, DT_NONE, 0);
  if (!s->let.value) return false;
  s->let.var = kvar_new(p->m->arena, kp->k, name.text, KVAR_LET, s->let.value->type);
  kblock_append(b, s);
  return declare(kp, &name, s->let.var, NULL);
}

// store %a[...], x    reduce add %a[...], x    reduce bits %a[...], x
static bool parse_store(KParse *kp, KBlock *b, KStmtKind kind) {
  Parser *p = kp->p;
  KStmt *s = kstmt_new(p->m->arena, kind);
  parse_step(p);
  if (kind == KS_REDUCE) {
    s->store.bits = parse_at_name(p, "bits");
    s->store.op = parse_at(p, TOK_NAME) && !s->store.bits ? kop_by_name(p->tok.at, p->tok.n) : KOP_NONE;
    if (!s->store.bits && s->store.op == KOP_NONE) return parse_expected(p, "bits or a kernel operation");
    parse_step(p);
  }
  if (!parse_place(kp, &s->store.buf, &s->store.idx) || !parse_want(p, ',', "',' and a value")) return false;
  s->store.value = parse_expr(kp, s->store.bits ? DT_BOOL : s->store.buf->type, 0);
  if (!s->store.value) return false;
  kblock_append(b, s);
  return true;
}

// call @k(%a, %b at 16*%i)
static bool parse_call(KParse *kp, KBlock *b) {
  Parser *p = kp->p;
  VEC(KBuf *) args = {0};
  VEC(Affine) offsets = {0};
  KStmt *s = kstmt_new(p->m->arena, KS_CALL);
  parse_step(p);
  Token name = p->tok;
  if (!parse_want(p, TOK_SYMBOL, "a kernel's @name") || !parse_want(p, '(', "'('")) return false;
  s->call.callee = map_get_str(p->kernels, name.text);
  if (!s->call.callee) return parse_error(p, &name, "there is no kernel @%s", name.text);
  while (!parse_at(p, ')')) {
    KBuf *buf;
    Affine at = aff(0);
    if (args.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    if (!want_buf(kp, &buf) || (parse_take_name(p, "at") && !parse_affine(kp, &at))) return false;
    vec_push(p->scratch, &args, buf);
    vec_push(p->scratch, &offsets, at);
  }
  parse_step(p);
  s->call.n = args.n;
  s->call.args = NEW_ARRAY(p->m->arena, KBuf *, args.n + 1);
  s->call.offsets = NEW_ARRAY(p->m->arena, Affine, args.n + 1);
  for (uint32_t i = 0; i < args.n; i++) {
    s->call.args[i] = args.at[i];
    s->call.offsets[i] = offsets.at[i];
  }
  kblock_append(b, s);
  return true;
}

static KStmt *parse_table(Parser *p, KBuf *buf) {
  void *data;
  if (buf->rank != 1 || dtype_info(buf->type)->bits < 8) {
    parse_error(p, &p->tok, "found a table that is no row of whole bytes");
    return NULL;
  }
  if (!parse_list(p, type_tensor(p->m->types, buf->type, 1, buf->dims), &data)) return NULL;
  buf->data = data;
  buf->space = SPACE_TABLE;
  return kstmt_new(p->m->arena, KS_ALLOC);
}

// %acc = alloc f32[6,16] reg    %a4 = view %a u8x4[784,16]    %t = table i32[2] [3, 5]
static bool parse_buf_stmt(KParse *kp, KBlock *b) {
  Parser *p = kp->p;
  Token name = p->tok;
  KBuf *of = NULL;
  parse_step(p);
  if (!parse_want(p, '=', "'='")) return false;
  bool view = parse_take_name(p, "view"), table = !view && parse_take_name(p, "table");
  if (!view && !table && !parse_take_name(p, "alloc")) return parse_expected(p, "alloc, table or view");
  if (view && !want_buf(kp, &of)) return false;
  KBuf *buf = parse_buf_type(kp, &name);
  if (!buf) return false;
  if (view) {
    buf->view_of = of;
    buf->space = of->space;
  } else {
    if (!table && !parse_space(p, SPACE_STACK, SPACE_TILE, &buf->space)) return false;
    KStmt *s = table ? parse_table(p, buf) : kstmt_new(p->m->arena, KS_ALLOC);
    if (!s) return false;
    s->alloc.buf = buf;
    kblock_append(b, s);
  }
  return declare(kp, &name, NULL, buf);
}

// tile_zero %c    tile_load %a, %x[...] by 64    tile_dot %c, %a, %b
static bool parse_tile(KParse *kp, KBlock *b, KOp op) {
  Parser *p = kp->p;
  KStmt *s = kstmt_new(p->m->arena, KS_TILE);
  parse_step(p);
  s->tile.op = op;
  if (!want_buf(kp, &s->tile.tile)) return false;
  if (op == KOP_TILE_DOT) {
    if (!parse_want(p, ',', "',' and a tile") || !want_buf(kp, &s->tile.buf)) return false;
    if (!parse_want(p, ',', "',' and a tile") || !want_buf(kp, &s->tile.b)) return false;
  } else if (op != KOP_TILE_ZERO) {
    if (!parse_want(p, ',', "',' and a place") || !parse_place(kp, &s->tile.buf, &s->tile.idx)) return false;
    if (!parse_want_name(p, "by") || !parse_size(p, &s->tile.step)) return false;
  }
  kblock_append(b, s);
  return true;
}

static bool parse_stmt(KParse *kp, KBlock *b) {
  Parser *p = kp->p;
  KOp op = parse_at(p, TOK_NAME) ? kop_by_name(p->tok.at, p->tok.n) : KOP_NONE;
  if (op != KOP_NONE && kop_info(op)->rule == KRULE_TILE) return parse_tile(kp, b, op);
  if (parse_at(p, TOK_VALUE)) return parse_buf_stmt(kp, b);
  if (parse_at_name(p, "for")) return parse_for(kp, b);
  if (parse_at_name(p, "if")) return parse_if(kp, b);
  if (parse_at_name(p, "let")) return parse_let(kp, b);
  if (parse_at_name(p, "store")) return parse_store(kp, b, KS_STORE);
  if (parse_at_name(p, "reduce")) return parse_store(kp, b, KS_REDUCE);
  if (parse_at_name(p, "call")) return parse_call(kp, b);
  return parse_expected(p, "a statement: for, if, let, store, reduce, call, tile_..., %name = alloc or view, or '}'");
}

static bool parse_block(KParse *kp, KBlock *b) {
  if (++kp->depth > PARSE_BLOCK_DEPTH)
    return parse_error(kp->p, &kp->p->tok, "found blocks nested deeper than %d", PARSE_BLOCK_DEPTH);
  uint32_t mark = kp->scope.n;
  if (!parse_want(kp->p, '{', "'{'")) return false;
  while (!parse_at(kp->p, '}'))
    if (!parse_stmt(kp, b)) return false;
  parse_step(kp->p);
  kp->scope.n = mark;
  kp->depth--;
  return true;
}

// ---- kernels

static bool parse_params(KParse *kp) {
  Parser *p = kp->p;
  VEC(KBuf *) params = {0};
  while (!parse_at(p, ')')) {
    if (params.n > 0 && !parse_want(p, ',', "',' or ')'")) return false;
    Token name = p->tok;
    if (!parse_want(p, TOK_VALUE, "a parameter's %name") || !parse_want(p, ':', "':'")) return false;
    KBuf *b = parse_buf_type(kp, &name);
    if (!b || !parse_space(p, SPACE_ARG, SPACE_WORK, &b->space)) return false;
    b->param = (int32_t)params.n;
    vec_push(p->scratch, &params, b);
    if (!declare(kp, &name, NULL, b)) return false;
  }
  parse_step(p);
  kp->k->n_params = params.n;
  kp->k->params = NEW_ARRAY(p->m->arena, KBuf *, params.n + 1);
  for (uint32_t i = 0; i < params.n; i++) kp->k->params[i] = params.at[i];
  return true;
}

Kernel *parse_kernel_head(Parser *p) {
  Token at = p->tok;
  parse_step(p);
  Token name = p->tok;
  if (!parse_want(p, TOK_SYMBOL, "a kernel's @name") || !parse_want(p, '(', "'('")) return NULL;
  if (map_get_str(p->kernels, name.text)) {
    parse_error(p, &name, "kernel @%s is defined twice", name.text);
    return NULL;
  }
  Kernel *k = NEW(p->m->arena, Kernel);
  k->name = name.text;
  k->loc = parse_loc(p, &at);
  KParse kp = {.p = p, .k = k};
  if (!parse_params(&kp)) return NULL;
  k->noalias = parse_take_name(p, "noalias");
  program_add_kernel(p->m->program, k);
  map_set_str(p->kernels, k->name, k);
  return k;
}

bool parse_kernel_body(Parser *p, Kernel *k) {
  KParse kp = {.p = p, .k = k};
  for (uint32_t i = 0; i < k->n_params; i++)
    vec_push(p->scratch, &kp.scope, ((Entry){k->params[i]->name, NULL, k->params[i]}));
  return parse_block(&kp, &k->body);
}
