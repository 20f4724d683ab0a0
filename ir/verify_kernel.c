// Structural checks of kernels and programs: scopes, index variables, types by the rules of kops.def, loop kinds, the
// places stored to, calls without recursion; and for a program arguments against parameters, aliases and the plan of
// the workspace. Whether indices stay inside their buffers is checked at run time by keval.
#include <string.h>

#include "ir/verify.h"

typedef struct VerifyKernel {
  Module *m;
  const Kernel *k;
  Arena *scratch;
  const KVar **var;  // by id: visible now
  const KBuf **buf;
  bool seen_par;
  uint32_t loops;       // open loops of any kind
  uint32_t vecs;        // open vec loops
  const KStmt *vec;     // the innermost
  int64_t stack_bytes;  // of all stack buffers
  uint32_t tiles;       // allocated
} VerifyKernel;

static bool fail(const VerifyKernel *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const VerifyKernel *v, const char *fmt, ...) {
  StrBuf b;
  strbuf_init(&b, v->scratch);
  va_list ap;
  va_start(ap, fmt);
  strbuf_vprintf(&b, fmt, ap);
  va_end(ap);
  return diag_error(v->m->diag, DIAG_REFUSED, v->k->loc, "kernel @%s: %s", v->k->name, strbuf_str(&b));
}

static const char *dname(DType t) { return dtype_info(t)->name; }

// ---- buffers and indices

static bool check_buf(const VerifyKernel *v, const KBuf *b) {
  int64_t count;
  if (!b->name || b->id >= v->k->n_bufs) return fail(v, "a buffer has no name or no id");
  if (b->type <= DT_NONE || b->type >= DT_COUNT || b->type == DT_STR)
    return fail(v, "buffer %%%s has no element type", b->name);
  if (b->rank > MAX_RANK || !dims_count(b->rank, b->dims, &count)) return fail(v, "buffer %%%s is too large", b->name);
  for (uint32_t i = 0; i < b->rank; i++)
    if (b->strides[i] < 0) return fail(v, "buffer %%%s has a negative stride", b->name);
  return true;
}

static bool declare_buf(VerifyKernel *v, const KBuf *b) {
  if (!check_buf(v, b)) return false;
  if (v->buf[b->id]) return fail(v, "buffer id %u of %%%s is taken", b->id, b->name);
  v->buf[b->id] = b;
  return true;
}

// Visible, or a view of something visible.
static bool use_buf(const VerifyKernel *v, const KBuf *b) {
  for (uint32_t depth = 0; b->view_of; b = b->view_of, depth++) {
    if (!check_buf(v, b)) return false;
    const KBuf *of = b->view_of;
    int64_t have, want;
    if (depth > 16 || of->space != b->space || !kbuf_is_dense(of) || !dims_count(b->rank, b->dims, &want) ||
        !dims_count(of->rank, of->dims, &have) || want * dtype_info(b->type)->bits > have * dtype_info(of->type)->bits)
      return fail(v, "view %%%s does not fit %%%s", b->name, of->name);
  }
  return (b->id < v->k->n_bufs && v->buf[b->id] == b) || fail(v, "buffer %%%s is used outside its scope", b->name);
}

static bool is_index_type(DType t) {
  DClass c = dtype_info(t)->cls;
  return c == DC_INT || c == DC_UINT;
}

static bool check_affine(const VerifyKernel *v, const Affine *a) {
  if (a->n > AFFINE_MAX) return fail(v, "an index has more than %d variables", AFFINE_MAX);
  for (uint32_t i = 0; i < a->n; i++) {
    const KVar *var = a->term[i].var;
    if (var->id >= v->k->n_vars || v->var[var->id] != var)
      return fail(v, "variable %%%s is used outside its scope", var->name);
    if (!is_index_type(var->type)) return fail(v, "%%%s of type %s in an index", var->name, dname(var->type));
    if (a->term[i].coef == 0 || (i > 0 && a->term[i - 1].var->id >= var->id))
      return fail(v, "an index is not in canonical form");
  }
  return true;
}

static bool check_place(const VerifyKernel *v, const KBuf *b, const Affine *idx) {
  if (!use_buf(v, b)) return false;
  if (b->space == SPACE_TILE) return fail(v, "an element of tile %%%s", b->name);
  for (uint32_t i = 0; i < b->rank; i++)
    if (!check_affine(v, &idx[i])) return false;
  return true;
}

// ---- expressions

static bool check_const(const VerifyKernel *v, const KExpr *x) {
  if (x->type == DT_STR) return fail(v, "a constant of type str");
  if (dtype_is_float(x->type) || dtype_info(x->type)->cls == DC_LANE) return true;
  return int_wrap(x->type, x->i) == x->i || fail(v, "constant %lld does not fit %s", (long long)x->i, dname(x->type));
}

static bool check_dot(const VerifyKernel *v, const KExpr *x) {
  DType acc = x->arg[0]->type, a = x->arg[1]->type, b = x->arg[2]->type;
  bool ok = x->op == KOP_DOT4 ? acc == DT_I32 && (a == DT_U8X4 || a == DT_I8X4) && b == DT_I8X4
                              : acc == DT_F32 && a == DT_BF16X2 && b == DT_BF16X2;
  return ok || fail(v, "%s of %s, %s and %s", kop_info(x->op)->name, dname(acc), dname(a), dname(b));
}

// Operand types of one op, whose result type follows the rule.
static bool check_operand_types(const VerifyKernel *v, const KExpr *x) {
  const KOpInfo *info = kop_info(x->op);
  const KExpr *const *arg = (const KExpr *const *)x->arg;
  if (x->op == KOP_DOT4 || x->op == KOP_DOT2) return check_dot(v, x);
  if (x->op == KOP_VIEW)
    return dtype_info(x->type)->bits == dtype_info(arg[0]->type)->bits ||
           fail(v, "view of %s as %s", dname(arg[0]->type), dname(x->type));
  if (x->op == KOP_LOW_WORD)
    return (arg[0]->type == DT_F64 && x->type == DT_I32) || fail(v, "low_word of %s", dname(arg[0]->type));
  if (x->op == KOP_CAST) {
    DClass from = dtype_info(arg[0]->type)->cls, to = dtype_info(x->type)->cls;
    return (from != DC_LANE && to != DC_LANE && to != DC_NONE && to != DC_STR) ||
           fail(v, "cast of %s to %s", dname(arg[0]->type), dname(x->type));
  }
  if (kop_table(x->op) > 0)
    return (arg[0]->kind == KX_LOAD && !dtype_is_float(arg[1]->type)) || fail(v, "%s of no table or index", info->name);
  uint32_t first = x->op == KOP_SELECT ? 1 : 0;
  if (first && arg[0]->type != DT_BOOL) return fail(v, "select on %s, expected bool", dname(arg[0]->type));
  for (uint32_t i = first + 1; i < info->arity; i++)
    if (arg[i]->type != arg[first]->type)
      return fail(v, "operand %u of %s is %s, expected %s", i, info->name, dname(arg[i]->type),
                  dname(arg[first]->type));
  return true;
}

static bool check_expr(const VerifyKernel *v, const KExpr *x);

static bool check_op(const VerifyKernel *v, const KExpr *x) {
  if (x->op <= KOP_NONE || x->op >= KOP_COUNT) return fail(v, "an expression of no operation");
  const KOpInfo *info = kop_info(x->op);
  if (info->rule == KRULE_TILE) return fail(v, "%s is no expression", info->name);
  for (uint32_t i = 0; i < info->arity; i++)
    if (!x->arg[i] || !check_expr(v, x->arg[i])) return x->arg[i] ? false : fail(v, "%s lacks operands", info->name);
  DType want = info->rule == KRULE_SAME   ? x->arg[0]->type
               : info->rule == KRULE_BOOL ? DT_BOOL
               : info->rule == KRULE_ARG1 ? x->arg[1]->type
                                          : x->type;
  if (x->type != want) return fail(v, "%s has type %s, expected %s", info->name, dname(x->type), dname(want));
  return check_operand_types(v, x);
}

static bool check_expr(const VerifyKernel *v, const KExpr *x) {
  if (x->type <= DT_NONE || x->type >= DT_COUNT) return fail(v, "an expression without a type");
  switch (x->kind) {
    case KX_CONST: return check_const(v, x);
    case KX_INDEX:
      return (x->type == DT_I64 || fail(v, "index of type %s", dname(x->type))) && check_affine(v, &x->index);
    case KX_VAR:
      if (x->var->id >= v->k->n_vars || v->var[x->var->id] != x->var)
        return fail(v, "variable %%%s is used outside its scope", x->var->name);
      return (x->var->kind == KVAR_LET && x->var->type == x->type) ||
             fail(v, "%%%s is no let variable of type %s", x->var->name, dname(x->type));
    case KX_LOAD:
      return (x->type == x->buf->type || fail(v, "load of %s from %%%s", dname(x->type), x->buf->name)) &&
             check_place(v, x->buf, x->idx);
    case KX_OP: return check_op(v, x);
  }
  return fail(v, "an expression of no kind");
}

// ---- statements

static bool check_block(VerifyKernel *v, const KBlock *b);

static bool declare_var(VerifyKernel *v, const KVar *var) {
  if (!var || !var->name || var->id >= v->k->n_vars) return fail(v, "a variable has no name or no id");
  if (v->var[var->id]) return fail(v, "variable id %u of %%%s is taken", var->id, var->name);
  v->var[var->id] = var;
  return true;
}

static bool check_for(VerifyKernel *v, const KStmt *s) {
  const KVar *var = s->for_.var;
  if (!check_affine(v, &s->for_.lo) || !check_affine(v, &s->for_.hi)) return false;
  if (s->for_.step < 1) return fail(v, "loop %%%s has step %lld", var->name, (long long)s->for_.step);
  if (s->for_.loop == FOR_PAR && (v->loops > 0 || v->seen_par))
    return fail(v, "par loop %%%s is not the only one, at the top level", var->name);
  if (s->for_.loop == FOR_VEC && v->vecs > 0) return fail(v, "vec loop %%%s inside another", var->name);
  if (!declare_var(v, var) || var->kind != KVAR_LOOP || var->type != DT_I64)
    return fail(v, "loop variable %%%s is none", var->name);
  const KStmt *outer = v->vec;
  v->seen_par |= s->for_.loop == FOR_PAR;
  v->loops++;
  if (s->for_.loop == FOR_VEC) {
    v->vecs++;
    v->vec = s;
  }
  bool ok = check_block(v, &s->for_.body);
  v->loops--;
  if (s->for_.loop == FOR_VEC) v->vecs--;
  v->vec = outer;
  v->var[var->id] = NULL;
  return ok;
}

static int64_t trips(const KStmt *s) {
  if (!aff_is_const(&s->for_.lo) || !aff_is_const(&s->for_.hi)) return -1;
  int64_t n = s->for_.hi.base - s->for_.lo.base;
  return n <= 0 ? 0 : (n - 1) / s->for_.step + 1;
}

static bool check_reduce(VerifyKernel *v, const KStmt *s) {
  const KBuf *b = s->store.buf;
  if (!v->vec) return fail(v, "reduce to %%%s outside of a vec loop", b->name);
  for (uint32_t i = 0; i < b->rank; i++)
    if (aff_coef(&s->store.idx[i], v->vec->for_.var))
      return fail(v, "reduce to a place of %%%s that varies by lane", b->name);
  if (s->store.bits) {
    uint32_t bits = dtype_info(b->type)->bits;
    if (s->store.value->type != DT_BOOL || dtype_info(b->type)->cls != DC_UINT || bits < 8)
      return fail(v, "reduce bits of %s to %%%s", dname(s->store.value->type), b->name);
    int64_t n = trips(v->vec);
    return n < 0 || n == bits ||
           fail(v, "reduce bits of %lld lanes to %%%s of %s", (long long)n, b->name, dname(b->type));
  }
  const KOpInfo *info = s->store.op > KOP_NONE && s->store.op < KOP_COUNT ? kop_info(s->store.op) : NULL;
  if (!info || info->arity != 2 || info->rule != KRULE_SAME)
    return fail(v, "reduce to %%%s by no binary operation", b->name);
  return s->store.value->type == b->type ||
         fail(v, "%s value reduced to %s buffer %%%s", dname(s->store.value->type), dname(b->type), b->name);
}

static bool check_store(VerifyKernel *v, const KStmt *s) {
  const KBuf *b = s->store.buf;
  if (!check_place(v, b, s->store.idx) || !check_expr(v, s->store.value)) return false;
  if (b->space == SPACE_CONST || b->space == SPACE_TABLE) return fail(v, "store to constant %%%s", b->name);
  if (s->kind == KS_REDUCE) return check_reduce(v, s);
  return s->store.value->type == b->type ||
         fail(v, "%s value stored to %s buffer %%%s", dname(s->store.value->type), dname(b->type), b->name);
}

// Rows and lanes of a tile, which is there in the whole kernel.
static bool check_tile_shape(VerifyKernel *v, const KBuf *b) {
  if (b->rank != 2 || b->dims[0] < 1 || b->dims[0] > 16 || b->dims[1] < 1 || b->dims[1] > 16 || !kbuf_is_dense(b))
    return fail(v, "tile %%%s has no shape of 1 to 16 rows of 1 to 16 lanes", b->name);
  if (dtype_info(b->type)->bits != 32) return fail(v, "tile %%%s of %s", b->name, dname(b->type));
  if (v->loops > 0) return fail(v, "tile %%%s is allocated inside of a loop", b->name);
  return ++v->tiles <= 8 || fail(v, "more than 8 tiles");
}

static bool check_alloc(VerifyKernel *v, const KStmt *s) {
  const KBuf *b = s->alloc.buf;
  if (b->space < SPACE_STACK) return fail(v, "alloc %%%s is neither stack nor reg nor tile", b->name);
  if (b->space == SPACE_TABLE && (!b->data || b->rank != 1 || b->strides[0] != 1))
    return fail(v, "table %%%s is no row of numbers", b->name);
  if (b->param >= 0 || b->view_of) return fail(v, "alloc %%%s is a parameter or a view", b->name);
  if (!declare_buf(v, b)) return false;
  int64_t count;
  if (b->space == SPACE_TILE) return check_tile_shape(v, b);
  if (b->space != SPACE_STACK || !dims_count(b->rank, b->dims, &count)) return true;
  v->stack_bytes += count < 4096 ? (count * dtype_info(b->type)->bits + 7) / 8 : 4096;
  return v->stack_bytes <= 2048 || fail(v, "stack buffers of more than 2048 bytes together");
}

static bool check_call(VerifyKernel *v, const KStmt *s) {
  const Kernel *callee = s->call.callee;
  if (s->call.n != callee->n_params)
    return fail(v, "call of @%s with %u buffers, expected %u", callee->name, s->call.n, callee->n_params);
  for (uint32_t i = 0; i < s->call.n; i++) {
    const KBuf *b = s->call.args[i], *param = callee->params[i];
    if (!use_buf(v, b) || !check_affine(v, &s->call.offsets[i])) return false;
    if (b->space == SPACE_TILE) return fail(v, "tile %%%s passed to @%s", b->name, callee->name);
    if (b->type != param->type)
      return fail(v, "%s buffer %%%s for %s parameter %%%s of @%s", dname(b->type), b->name, dname(param->type),
                  param->name, callee->name);
    if (b->space == SPACE_TABLE) return fail(v, "table %%%s passed to @%s", b->name, callee->name);
    if (b->space == SPACE_CONST && param->space != SPACE_CONST)
      return fail(v, "constant %%%s for parameter %%%s of @%s, which may be written", b->name, param->name,
                  callee->name);
  }
  return true;
}

static bool use_tile(const VerifyKernel *v, const KBuf *b) {
  if (!b || b->space != SPACE_TILE || b->view_of) return fail(v, "found a buffer that is no tile");
  return use_buf(v, b);
}

static bool check_tile_dot(const VerifyKernel *v, const KStmt *s) {
  const KBuf *c = s->tile.tile, *a = s->tile.buf, *b = s->tile.b;
  if (!use_tile(v, a) || !use_tile(v, b)) return false;
  if (c->dims[0] != a->dims[0] || a->dims[1] != b->dims[0] || c->dims[1] != b->dims[1] || a == b)
    return fail(v, "tiles %%%s, %%%s and %%%s do not match", c->name, a->name, b->name);
  bool types = c->type == DT_I32 && (a->type == DT_U8X4 || a->type == DT_I8X4) && b->type == DT_I8X4;
  return types || fail(v, "tile_dot of %s, %s and %s", dname(c->type), dname(a->type), dname(b->type));
}

// The place in memory; its elements are bytes or as wide as those of the tile.
static bool check_tile_memory(const VerifyKernel *v, const KStmt *s) {
  const KBuf *b = s->tile.buf;
  if (!check_place(v, b, s->tile.idx)) return false;
  if (s->tile.op == KOP_TILE_STORE && b->space == SPACE_CONST) return fail(v, "store to constant %%%s", b->name);
  if (b->space == SPACE_REG) return fail(v, "%s with register buffer %%%s", kop_info(s->tile.op)->name, b->name);
  uint32_t bits = dtype_info(b->type)->bits;
  if ((bits != 8 && bits != 32) || b->type == DT_BOOL || b->rank == 0 || !kbuf_is_dense(b))
    return fail(v, "%s of buffer %%%s of %s", kop_info(s->tile.op)->name, b->name, dname(b->type));
  return s->tile.step >= 0 || fail(v, "%s with a negative step", kop_info(s->tile.op)->name);
}

static bool check_tile(const VerifyKernel *v, const KStmt *s) {
  if (!use_tile(v, s->tile.tile)) return false;
  if (v->vecs > 0) return fail(v, "tile %%%s in a vec loop", s->tile.tile->name);
  if (s->tile.op == KOP_TILE_DOT) return check_tile_dot(v, s);
  return s->tile.op == KOP_TILE_ZERO || check_tile_memory(v, s);
}

static bool check_if(VerifyKernel *v, const KStmt *s) {
  if (!check_expr(v, s->if_.cond)) return false;
  if (s->if_.cond->type != DT_BOOL) return fail(v, "condition of type %s, expected bool", dname(s->if_.cond->type));
  return check_block(v, &s->if_.then) && check_block(v, &s->if_.other);
}

static bool check_let(VerifyKernel *v, const KStmt *s) {
  if (!check_expr(v, s->let.value)) return false;
  const KVar *var = s->let.var;
  return declare_var(v, var) && ((var->kind == KVAR_LET && var->type == s->let.value->type) ||
                                 fail(v, "let %%%s has another type than its value", var->name));
}

static bool check_stmt(VerifyKernel *v, const KStmt *s) {
  switch (s->kind) {
    case KS_FOR: return check_for(v, s);
    case KS_IF: return check_if(v, s);
    case KS_LET: return check_let(v, s);
    case KS_STORE:
    case KS_REDUCE: return check_store(v, s);
    case KS_ALLOC: return check_alloc(v, s);
    case KS_CALL: return check_call(v, s);
    case KS_TILE: return check_tile(v, s);
  }
  return fail(v, "a statement of no kind");
}

static bool check_block(VerifyKernel *v, const KBlock *b) {
  const KStmt *last = NULL;
  bool ok = true;
  for (const KStmt *s = b->first; s && ok; last = s, s = s->next)
    ok = s->prev == last ? check_stmt(v, s) : fail(v, "statements are not linked in order");
  if (ok && b->last != last) ok = fail(v, "statements are not linked in order");
  for (const KStmt *s = b->first; s && ok; s = s->next) {  // what the block declared is visible no longer
    if (s->kind == KS_LET) v->var[s->let.var->id] = NULL;
    if (s->kind == KS_ALLOC) v->buf[s->alloc.buf->id] = NULL;
  }
  return ok;
}

bool verify_kernel(Module *m, const Kernel *k) {
  Arena *scratch = arena_new("verify");
  VerifyKernel v = {.m = m, .k = k, .scratch = scratch};
  v.var = NEW_ARRAY(scratch, const KVar *, k->n_vars + 1);
  v.buf = NEW_ARRAY(scratch, const KBuf *, k->n_bufs + 1);
  bool ok = true;
  for (uint32_t i = 0; i < k->n_params && ok; i++) {
    const KBuf *b = k->params[i];
    if (b->param != (int32_t)i || b->space > SPACE_WORK || b->view_of)
      ok = fail(&v, "parameter %u is not linked to its place", i);
    ok = ok && declare_buf(&v, b);
  }
  ok = ok && check_block(&v, &k->body);
  arena_free(scratch);
  return ok;
}
