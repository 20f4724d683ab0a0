// Building kernels (kbuild.h): statements go to the end of the innermost open block; result types come from the rules
// of kops.def. Every misuse (wrong operand type, wrong rank, block left open) is an internal error at once, so that a
// kernel that came out of a builder is well typed.
#include "ir/kbuild.h"

#include "ir/elem.h"
#include "ir/kcopy.h"

void kbuild_init(KBuild *b, Module *m, const char *name, const Loc *loc) {
  *b = (KBuild){.m = m, .arena = m->build_arena ? m->build_arena : m->arena};
  b->k = NEW(b->arena, Kernel);
  b->k->name = intern(m->names, name);
  b->k->loc = loc;
  b->block[0] = &b->k->body;
}

Kernel *kbuild_done(KBuild *b) {
  QCC_CHECK(b->depth == 0, "kernel %s: %u blocks left open", b->k->name, b->depth);
  return b->k;
}

// ---- buffers

static KBuf *buf_new(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, KSpace space) {
  QCC_CHECK(rank <= MAX_RANK, "kernel %s: buffer %s has rank %u", b->k->name, name, rank);
  int64_t count;
  QCC_CHECK(dims_count(rank, dims, &count), "kernel %s: buffer %s is too large", b->k->name, name);
  KBuf *r = NEW(b->arena, KBuf);
  *r = (KBuf){.id = b->k->n_bufs++, .name = intern(b->m->names, name), .type = t, .rank = rank, .space = space};
  r->param = -1;
  int64_t stride = 1;
  for (uint32_t i = rank; i-- > 0; stride *= dims[i] ? dims[i] : 1) {
    r->dims[i] = dims[i];
    r->strides[i] = stride;
  }
  return r;
}

KBuf *kb_param(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, KSpace space) {
  QCC_CHECK(space <= SPACE_WORK, "kernel %s: parameter %s in a local space", b->k->name, name);
  KBuf *r = buf_new(b, name, t, rank, dims, space);
  uint32_t n = b->k->n_params++;
  r->param = (int32_t)n;
  KBuf **params = NEW_ARRAY(b->arena, KBuf *, n + 1);
  for (uint32_t i = 0; i < n; i++) params[i] = b->k->params[i];
  params[n] = r;
  b->k->params = params;
  return r;
}

KBuf *kb_param_strided(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, const int64_t *strides,
                       KSpace space) {
  KBuf *r = kb_param(b, name, t, rank, dims, space);
  for (uint32_t i = 0; i < rank; i++) {
    QCC_CHECK(strides[i] >= 0, "kernel %s: buffer %s has a negative stride", b->k->name, name);
    r->strides[i] = strides[i];
  }
  return r;
}

static KStmt *push(KBuild *b, KStmtKind kind) {
  KStmt *s = kstmt_new(b->arena, kind);
  kblock_append(b->block[b->depth], s);
  return s;
}

KBuf *kb_alloc(KBuild *b, const char *name, DType t, uint32_t rank, const int64_t *dims, KSpace space) {
  QCC_CHECK(space >= SPACE_STACK, "kernel %s: alloc %s in a parameter space", b->k->name, name);
  KBuf *r = buf_new(b, name, t, rank, dims, space);
  push(b, KS_ALLOC)->alloc.buf = r;
  return r;
}

KBuf *kb_table(KBuild *b, const char *name, DType t, int64_t n, const void *data) {
  KBuf *r = buf_new(b, name, t, 1, &n, SPACE_TABLE);
  r->data = arena_copy(b->m->arena, data, (size_t)n * dtype_info(t)->bits / 8);  // clones share it
  push(b, KS_ALLOC)->alloc.buf = r;
  return r;
}

KBuf *kb_view(KBuild *b, KBuf *of, const char *name, DType t, uint32_t rank, const int64_t *dims) {
  KBuf *r = buf_new(b, name, t, rank, dims, of->space);
  r->view_of = of;
  int64_t was = dtype_info(of->type)->bits, now = dtype_info(t)->bits;
  for (uint32_t i = 0; i < of->rank; i++) was *= of->dims[i];
  for (uint32_t i = 0; i < rank; i++) now *= dims[i];
  QCC_CHECK(kbuf_is_dense(of) && now <= was, "kernel %s: view %s does not fit %s", b->k->name, name, of->name);
  return r;
}

// ---- blocks

static void open_block(KBuild *b, KBlock *block) {
  QCC_CHECK(b->depth + 1 < KBUILD_DEPTH, "kernel %s: blocks nested too deeply", b->k->name);
  b->block[++b->depth] = block;
}

KVar *kb_for(KBuild *b, const char *name, int64_t lo, int64_t hi, int64_t step, KForKind kind) {
  return kb_for_aff(b, name, aff(lo), aff(hi), step, kind);
}

KVar *kb_for_aff(KBuild *b, const char *name, Affine lo, Affine hi, int64_t step, KForKind kind) {
  QCC_CHECK(step > 0, "kernel %s: loop %s has a step below 1", b->k->name, name);
  QCC_CHECK(kind != FOR_PAR || b->depth == 0, "kernel %s: par loop %s is not at the top level", b->k->name, name);
  KStmt *s = push(b, KS_FOR);
  s->for_.var = kvar_new(b->arena, b->k, intern(b->m->names, name), KVAR_LOOP, DT_I64);
  s->for_.lo = lo;
  s->for_.hi = hi;
  s->for_.step = step;
  s->for_.loop = kind;
  open_block(b, &s->for_.body);
  return s->for_.var;
}

void kb_if(KBuild *b, KExpr *cond) {
  QCC_CHECK(cond->type == DT_BOOL, "kernel %s: condition of type %s", b->k->name, dtype_info(cond->type)->name);
  KStmt *s = push(b, KS_IF);
  s->if_.cond = cond;
  open_block(b, &s->if_.then);
}

void kb_else(KBuild *b) {
  KStmt *s = b->depth ? b->block[b->depth - 1]->last : NULL;
  QCC_CHECK(s && s->kind == KS_IF && b->block[b->depth] == &s->if_.then, "kernel %s: else without if", b->k->name);
  b->block[b->depth] = &s->if_.other;
}

void kb_end(KBuild *b) {
  QCC_CHECK(b->depth > 0, "kernel %s: kb_end without an open block", b->k->name);
  b->depth--;
}

KVar *kb_let(KBuild *b, const char *name, KExpr *value) {
  KStmt *s = push(b, KS_LET);
  s->let.value = value;
  s->let.var = kvar_new(b->arena, b->k, intern(b->m->names, name), KVAR_LET, value->type);
  return s->let.var;
}

static Affine *copy_idx(KBuild *b, const KBuf *buf, const Affine *idx) {
  Affine *r = NEW_ARRAY(b->arena, Affine, buf->rank + 1);
  for (uint32_t i = 0; i < buf->rank; i++) r[i] = idx[i];
  return r;
}

static KStmt *store(KBuild *b, KStmtKind kind, KBuf *buf, const Affine *idx, KExpr *value) {
  QCC_CHECK(buf->space != SPACE_CONST, "kernel %s: store to constant %s", b->k->name, buf->name);
  KStmt *s = push(b, kind);
  s->store.buf = buf;
  s->store.idx = copy_idx(b, buf, idx);
  s->store.value = value;
  return s;
}

static void check_stored(const KBuild *b, const KBuf *buf, const KExpr *value) {
  QCC_CHECK(buf->type == value->type, "kernel %s: %s value stored to %s buffer %s", b->k->name,
            dtype_info(value->type)->name, dtype_info(buf->type)->name, buf->name);
}

void kb_store(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value) {
  check_stored(b, buf, value);
  store(b, KS_STORE, buf, idx, value);
}

void kb_store1(KBuild *b, KBuf *buf, Affine i, KExpr *value) {
  QCC_CHECK(buf->rank == 1, "kernel %s: buffer %s has rank %u, not 1", b->k->name, buf->name, buf->rank);
  kb_store(b, buf, &i, value);
}

void kb_reduce(KBuild *b, KOp op, KBuf *buf, const Affine *idx, KExpr *value) {
  check_stored(b, buf, value);
  QCC_CHECK(kop_info(op)->arity == 2 && kop_info(op)->rule == KRULE_SAME, "kernel %s: reduce by %s", b->k->name,
            kop_info(op)->name);
  store(b, KS_REDUCE, buf, idx, value)->store.op = op;
}

void kb_reduce_bits(KBuild *b, KBuf *buf, const Affine *idx, KExpr *value) {
  QCC_CHECK(value->type == DT_BOOL && dtype_info(buf->type)->cls == DC_UINT, "kernel %s: reduce bits of %s to %s",
            b->k->name, dtype_info(value->type)->name, buf->name);
  store(b, KS_REDUCE, buf, idx, value)->store.bits = true;
}

void kb_call(KBuild *b, Kernel *callee, uint32_t n, KBuf *const *args, const Affine *offsets) {
  QCC_CHECK(n == callee->n_params, "kernel %s: call of %s with %u buffers, expected %u", b->k->name, callee->name, n,
            callee->n_params);
  KStmt *s = push(b, KS_CALL);
  s->call.callee = callee;
  s->call.n = n;
  s->call.args = NEW_ARRAY(b->arena, KBuf *, n + 1);
  s->call.offsets = NEW_ARRAY(b->arena, Affine, n + 1);
  for (uint32_t i = 0; i < n; i++) {
    s->call.args[i] = args[i];
    s->call.offsets[i] = offsets[i];
  }
}

static KStmt *tile_stmt(KBuild *b, KOp op, KBuf *tile) {
  QCC_CHECK(tile->space == SPACE_TILE, "kernel %s: %s is no tile", b->k->name, tile->name);
  KStmt *s = push(b, KS_TILE);
  s->tile.op = op;
  s->tile.tile = tile;
  return s;
}

static void tile_memory(KBuild *b, KOp op, KBuf *tile, KBuf *buf, const Affine *idx, int64_t step) {
  KStmt *s = tile_stmt(b, op, tile);
  s->tile.buf = buf;
  s->tile.idx = copy_idx(b, buf, idx);
  s->tile.step = step;
}

void kb_tile_zero(KBuild *b, KBuf *tile) { tile_stmt(b, KOP_TILE_ZERO, tile); }

void kb_tile_load(KBuild *b, KBuf *tile, KBuf *from, const Affine *idx, int64_t step) {
  tile_memory(b, KOP_TILE_LOAD, tile, from, idx, step);
}

void kb_tile_store(KBuild *b, KBuf *tile, KBuf *to, const Affine *idx, int64_t step) {
  tile_memory(b, KOP_TILE_STORE, tile, to, idx, step);
}

void kb_tile_dot(KBuild *b, KBuf *c, KBuf *x, KBuf *y) {
  KStmt *s = tile_stmt(b, KOP_TILE_DOT, c);
  s->tile.buf = x;
  s->tile.b = y;
}

// ---- expressions

static KExpr *expr(KBuild *b, KExprKind kind, DType t) {
  KExpr *x = NEW(b->arena, KExpr);
  x->kind = kind;
  x->type = t;
  return x;
}

KExpr *kx_f(KBuild *b, DType t, double v) {
  QCC_CHECK(dtype_is_float(t), "kernel %s: float constant of type %s", b->k->name, dtype_info(t)->name);
  KExpr *x = expr(b, KX_CONST, t);
  x->f = elem_round(t, v);
  return x;
}

KExpr *kx_i(KBuild *b, DType t, int64_t v) {
  QCC_CHECK(!dtype_is_float(t), "kernel %s: integer constant of type %s", b->k->name, dtype_info(t)->name);
  KExpr *x = expr(b, KX_CONST, t);
  x->i = int_wrap(t, v);
  return x;
}

KExpr *kx_index(KBuild *b, Affine a) {
  KExpr *x = expr(b, KX_INDEX, DT_I64);
  x->index = a;
  return x;
}

KExpr *kx_var(KBuild *b, KVar *let) {
  if (let->kind == KVAR_LOOP) return kx_index(b, aff_var(let));
  KExpr *x = expr(b, KX_VAR, let->type);
  x->var = let;
  return x;
}

KExpr *kx_load(KBuild *b, KBuf *buf, const Affine *idx) {
  KExpr *x = expr(b, KX_LOAD, buf->type);
  x->buf = buf;
  x->idx = copy_idx(b, buf, idx);
  return x;
}

KExpr *kx_load1(KBuild *b, KBuf *buf, Affine i) {
  QCC_CHECK(buf->rank == 1, "kernel %s: buffer %s has rank %u, not 1", b->k->name, buf->name, buf->rank);
  return kx_load(b, buf, &i);
}

static void check_operands(const KBuild *b, KOp op, KExpr *const *arg) {
  const KOpInfo *info = kop_info(op);
  uint32_t first = op == KOP_SELECT ? 1 : 0;
  bool mixed = op == KOP_DOT4 || op == KOP_DOT2 || kop_table(op) > 0;
  for (uint32_t i = first; i < info->arity && !mixed; i++)
    QCC_CHECK(arg[i]->type == arg[first]->type, "kernel %s: %s of %s and %s", b->k->name, info->name,
              dtype_info(arg[first]->type)->name, dtype_info(arg[i]->type)->name);
  if (op == KOP_SELECT)
    QCC_CHECK(arg[0]->type == DT_BOOL, "kernel %s: select on %s", b->k->name, dtype_info(arg[0]->type)->name);
  if (op == KOP_DOT4)
    QCC_CHECK(arg[0]->type == DT_I32 && (arg[1]->type == DT_U8X4 || arg[1]->type == DT_I8X4) && arg[2]->type == DT_I8X4,
              "kernel %s: dot4 operand types", b->k->name);
  if (op == KOP_DOT2)
    QCC_CHECK(arg[0]->type == DT_F32 && arg[1]->type == DT_BF16X2 && arg[2]->type == DT_BF16X2,
              "kernel %s: dot2 operand types", b->k->name);
  if (kop_table(op) > 0)
    QCC_CHECK(arg[0]->kind == KX_LOAD && !dtype_is_float(arg[1]->type), "kernel %s: %s operands", b->k->name,
              info->name);
}

static KExpr *op_expr(KBuild *b, KOp op, uint32_t arity, KExpr *const *arg) {
  const KOpInfo *info = kop_info(op);
  QCC_CHECK(info->arity == arity && info->rule != KRULE_GIVEN, "kernel %s: %s takes %u operands, got %u", b->k->name,
            info->name, info->arity, arity);
  check_operands(b, op, arg);
  DType t = info->rule == KRULE_BOOL ? DT_BOOL : info->rule == KRULE_ARG1 ? arg[1]->type : arg[0]->type;
  KExpr *x = expr(b, KX_OP, t);
  x->op = op;
  for (uint32_t i = 0; i < arity; i++) x->arg[i] = arg[i];
  return x;
}

KExpr *kx_op1(KBuild *b, KOp op, KExpr *x) { return op_expr(b, op, 1, (KExpr *[]){x}); }
KExpr *kx_op2(KBuild *b, KOp op, KExpr *x, KExpr *y) { return op_expr(b, op, 2, (KExpr *[]){x, y}); }
KExpr *kx_op3(KBuild *b, KOp op, KExpr *x, KExpr *y, KExpr *z) { return op_expr(b, op, 3, (KExpr *[]){x, y, z}); }

static KExpr *given(KBuild *b, KOp op, DType t, KExpr *x) {
  if (x->type == t) return x;
  KExpr *r = expr(b, KX_OP, t);
  r->op = op;
  r->arg[0] = x;
  return r;
}

KExpr *kx_cast(KBuild *b, DType t, KExpr *x) {
  QCC_CHECK(dtype_info(t)->cls != DC_LANE && dtype_info(x->type)->cls != DC_LANE, "kernel %s: cast of packed lanes",
            b->k->name);
  return given(b, KOP_CAST, t, x);
}

KExpr *kx_view(KBuild *b, DType t, KExpr *x) {
  QCC_CHECK(dtype_info(t)->bits == dtype_info(x->type)->bits, "kernel %s: view of %s as %s", b->k->name,
            dtype_info(x->type)->name, dtype_info(t)->name);
  return given(b, KOP_VIEW, t, x);
}

KExpr *kx_low_word(KBuild *b, KExpr *x) {
  QCC_CHECK(x->type == DT_F64, "kernel %s: low_word of %s", b->k->name, dtype_info(x->type)->name);
  return given(b, KOP_LOW_WORD, DT_I32, x);
}

KExpr *kx_clone(KBuild *b, const KExpr *x) {
  KExpr *r = arena_copy(b->arena, x, sizeof *x);
  if (x->kind == KX_LOAD) r->idx = copy_idx(b, x->buf, x->idx);
  if (x->kind == KX_OP)
    for (uint32_t i = 0; i < kop_info(x->op)->arity; i++) r->arg[i] = kx_clone(b, x->arg[i]);
  return r;
}
