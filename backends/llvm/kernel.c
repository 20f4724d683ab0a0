// Kernels to functions: statements, loops, and the lanes of vec loops.
//
//   for %i in 0..16 vec { S }   the body once, on vectors of 16 lanes (any count up to MAX_LANES)
//   longer or open-ended        chunks of the row's vector width, then the rest
//   if with a varying condition the block under a mask, skipped when no lane is active
//
// A vec loop whose body cannot be put on lanes (an alloc, a call, an inner loop with varying bounds, a reduction into
// varying places) runs as a plain loop. A kernel whose only work is one par loop takes the range of iterations to run
// as two more arguments.
#include <math.h>
#include <string.h>

#include "backends/asm_x86.h"
#include "backends/llvm/llvm.h"
#include "ir/base/bitset.h"
#include "ir/base/map.h"

#define MAX_LANES 64

static void emit_block(Emit *e, const KBlock *b);

// ---- which values vary in a vec loop, before emission

typedef struct Scan {
  const KVar *lane;
  Bitset varying;  // let variables by id
  int64_t step;
} Scan;

static bool scan_affine(const Scan *s, const Affine *a) {
  for (uint32_t i = 0; i < a->n; i++) {
    const KVar *v = a->term[i].var;
    if (v == s->lane || (v->kind == KVAR_LET && bitset_has(&s->varying, v->id))) return true;
  }
  return false;
}

static bool scan_expr(const Scan *s, const KExpr *x) {
  switch (x->kind) {
    case KX_CONST: return false;
    case KX_INDEX: return scan_affine(s, &x->index);
    case KX_VAR: return bitset_has(&s->varying, x->var->id);
    case KX_LOAD:
      for (uint32_t i = 0; i < x->buf->rank; i++)
        if (scan_affine(s, &x->idx[i])) return true;
      return false;
    case KX_OP:
      for (uint32_t i = 0; i < kop_info(x->op)->arity; i++)
        if (scan_expr(s, x->arg[i])) return true;
      return false;
  }
  return false;
}

// A reduction is fine into one place, or lane by lane into neighbouring ones.
static bool reduce_on_lanes(const Scan *s, const KStmt *st) {
  Affine at = linear_index(st->store.buf, st->store.idx);
  int64_t stride = aff_coef(&at, s->lane) * s->step;
  Affine rest = aff_subst(at, s->lane, aff(0));
  return !scan_affine(s, &rest) && (stride == 0 || (stride == 1 && !st->store.bits));
}

static bool block_on_lanes(Scan *s, const KBlock *b) {
  for (const KStmt *st = b->first; st; st = st->next) switch (st->kind) {
      case KS_FOR:
        if (scan_affine(s, &st->for_.lo) || scan_affine(s, &st->for_.hi)) return false;
        if (!block_on_lanes(s, &st->for_.body)) return false;
        break;
      case KS_IF:
        if (!block_on_lanes(s, &st->if_.then) || !block_on_lanes(s, &st->if_.other)) return false;
        break;
      case KS_LET:
        if (scan_expr(s, st->let.value)) bitset_add(&s->varying, st->let.var->id);
        break;
      case KS_REDUCE:
        if (!reduce_on_lanes(s, st)) return false;
        break;
      case KS_STORE: break;
      case KS_ALLOC:
      case KS_CALL:
      case KS_TILE: return false;
    }
  return true;
}

static bool loop_on_lanes(Emit *e, const KStmt *s) {
  if (e->lane) return false;  // already inside a vec loop
  Scan scan = {.lane = s->for_.var, .varying = bitset_new(e->arena, e->k->n_vars + 1), .step = s->for_.step};
  return block_on_lanes(&scan, &s->for_.body);
}

// ---- loops

typedef struct Loop {
  LV i, hi;
  int64_t step;
  LLVMBasicBlockRef body, exit;
} Loop;

static LV cmp(Emit *e, LLVMIntPredicate p, LV a, LV b) { return LLVMBuildICmp(e->b, p, a, b, ""); }
static LV kix(Emit *e, int64_t v) { return LLVMConstInt(e->index, (uint64_t)v, true); }

static Loop loop_begin(Emit *e, LV lo, LV hi, int64_t step) {
  Loop l = {.hi = hi, .step = step, .body = block_new(e, "loop"), .exit = block_new(e, "after")};
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  LV enters = cmp(e, LLVMIntSLT, lo, hi);
  if (LLVMIsAConstantInt(enters) && LLVMConstIntGetZExtValue(enters))
    LLVMBuildBr(e->b, l.body);
  else
    LLVMBuildCondBr(e->b, enters, l.body, l.exit);
  LLVMPositionBuilderAtEnd(e->b, l.body);
  l.i = LLVMBuildPhi(e->b, e->index, "");
  LLVMAddIncoming(l.i, &lo, &before, 1);
  return l;
}

static void loop_end(Emit *e, const Loop *l) {
  LV next = LLVMBuildNSWAdd(e->b, l->i, kix(e, l->step), "");
  LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
  LLVMBuildCondBr(e->b, cmp(e, LLVMIntSLT, next, l->hi), l->body, l->exit);
  LLVMAddIncoming(l->i, &next, &latch, 1);
  LLVMPositionBuilderAtEnd(e->b, l->exit);
}

static void emit_once(Emit *e, const KStmt *s, LV i) {
  e->var[s->for_.var->id] = i;
  emit_block(e, &s->for_.body);
}

static void emit_plain_loop(Emit *e, const KStmt *s, LV lo, LV hi) {
  Loop l = loop_begin(e, lo, hi, s->for_.step);
  emit_once(e, s, l.i);
  loop_end(e, &l);
}

// The body for `lanes` iterations from lo on.
static void emit_lanes(Emit *e, const KStmt *s, LV lo, uint32_t lanes) {
  if (lanes == 0) return;
  if (lanes == 1) {
    emit_once(e, s, lo);
    return;
  }
  e->lane = s->for_.var;
  e->lane_lo = lo;
  e->lane_step = s->for_.step;
  e->lanes = lanes;
  emit_block(e, &s->for_.body);
  e->lane = NULL;
  e->lane_lo = NULL;
}

static void emit_vec_chunks(Emit *e, const KStmt *s, LV lo, LV hi, int64_t extent) {
  uint32_t width = e->row->t.vector_bits / 32;
  int64_t chunk = (int64_t)width * s->for_.step;
  // hi - chunk + step: the last start of a full chunk lies below it
  LV end = LLVMBuildSub(e->b, hi, kix(e, chunk - s->for_.step), "");
  Loop l = loop_begin(e, lo, end, chunk);
  emit_lanes(e, s, l.i, width);
  loop_end(e, &l);
  if (extent >= 0) {
    int64_t full = extent / width * chunk;
    emit_lanes(e, s, LLVMBuildAdd(e->b, lo, kix(e, full), ""), (uint32_t)(extent % width));
    return;
  }
  LV count = LLVMBuildSub(e->b, hi, lo, "");
  LV some = LLVMBuildSelect(e->b, cmp(e, LLVMIntSGT, count, kix(e, 0)), count, kix(e, 0), "");
  LV iterations = LLVMBuildUDiv(e->b, LLVMBuildAdd(e->b, some, kix(e, s->for_.step - 1), ""), kix(e, s->for_.step), "");
  LV full = LLVMBuildMul(e->b, LLVMBuildUDiv(e->b, iterations, kix(e, width), ""), kix(e, chunk), "");
  emit_plain_loop(e, s, LLVMBuildAdd(e->b, lo, full, ""), hi);
}

static int64_t loop_extent(const KStmt *s) {
  Affine d = aff_sub(s->for_.hi, s->for_.lo);
  if (!aff_is_const(&d)) return -1;
  return d.base <= 0 ? 0 : (d.base - 1) / s->for_.step + 1;
}

static void emit_for(Emit *e, const KStmt *s) {
  int64_t extent = loop_extent(s);
  if (extent == 0) return;
  LV lo = emit_affine(e, &s->for_.lo), hi = emit_affine(e, &s->for_.hi);
  if (s->for_.loop == FOR_VEC && extent != 1 && loop_on_lanes(e, s)) {
    if (extent > 0 && extent <= MAX_LANES)
      emit_lanes(e, s, lo, (uint32_t)extent);
    else
      emit_vec_chunks(e, s, lo, hi, extent);
  } else if (extent == 1) {
    emit_once(e, s, lo);
  } else {
    emit_plain_loop(e, s, lo, hi);
  }
}

// ---- if

static LV any_lane(Emit *e, LV mask) { return unary_intrinsic(e, "llvm.vector.reduce.or", mask); }

static void emit_branch(Emit *e, LV cond, LV mask, const KBlock *b) {
  if (!b->first) return;
  LV outer = e->mask;
  LLVMBasicBlockRef then = block_new(e, "then"), after = block_new(e, "after");
  LLVMBuildCondBr(e->b, cond, then, after);
  LLVMPositionBuilderAtEnd(e->b, then);
  e->mask = mask;
  emit_block(e, b);
  e->mask = outer;
  LLVMBuildBr(e->b, after);
  LLVMPositionBuilderAtEnd(e->b, after);
}

static void emit_if(Emit *e, const KStmt *s) {
  LV cond = emit_expr(e, s->if_.cond), outer = e->mask;
  if (!is_varying(cond)) {
    emit_branch(e, cond, outer, &s->if_.then);
    emit_branch(e, LLVMBuildNot(e->b, cond, ""), outer, &s->if_.other);
    return;
  }
  LV yes = outer ? LLVMBuildAnd(e->b, cond, outer, "") : cond;
  LV no = LLVMBuildNot(e->b, cond, "");
  if (outer) no = LLVMBuildAnd(e->b, no, outer, "");
  if (s->if_.then.first) emit_branch(e, any_lane(e, yes), yes, &s->if_.then);
  if (s->if_.other.first) emit_branch(e, any_lane(e, no), no, &s->if_.other);
}

// ---- reductions

// The value that leaves `op` unchanged, for lanes switched off by a mask and for filling up to a power of two.
static LV identity(Emit *e, KOp op, DType t) {
  LT v = type_value(e, t);
  bool is_float = dtype_is_float(t);
  KExpr x = {.kind = KX_CONST, .type = t};
  switch (op) {
    case KOP_ADD: x.f = -0.0; break;
    case KOP_MUL: x.f = 1, x.i = 1; break;
    case KOP_MIN: x.f = (double)INFINITY, x.i = dtype_max(t); break;
    case KOP_MAX: x.f = -(double)INFINITY, x.i = dtype_min(t); break;
    case KOP_AND: x.i = -1; break;
    case KOP_OR:
    case KOP_XOR: break;
    default: qcc_bug("kernel %s: reduction by %s", e->k->name, kop_info(op)->name);
  }
  if (op == KOP_MIN && t == DT_U64) return LLVMConstAllOnes(v);
  if (t == DT_BOOL) return LLVMConstInt(v, op == KOP_MIN || op == KOP_MUL || op == KOP_AND, false);
  QCC_CHECK(!is_float || op < KOP_AND || op > KOP_XOR, "kernel %s: bit reduction of floats", e->k->name);
  return emit_expr(e, &x);
}

// Halves the vector until one lane is left; the order is a fixed tree.
static LV reduce_lanes(Emit *e, KOp op, DType t, LV v) {
  uint32_t width = 1, n = lanes_of(v);
  while (width < n) width *= 2;
  int32_t index[256];
  if (width != n) {
    for (uint32_t i = 0; i < width; i++) index[i] = i < n ? (int32_t)i : (int32_t)n;
    v = shuffle(e, v, splat(e, identity(e, op, t), n), width, index);
  }
  for (uint32_t half = width / 2; half > 0; half /= 2) {
    if (half == 1) {
      LV pair[2] = {LLVMBuildExtractElement(e->b, v, lv_int(e->i64, 0), ""),
                    LLVMBuildExtractElement(e->b, v, lv_int(e->i64, 1), "")};
      return emit_kop(e, op, t, t, pair);
    }
    LV part[2];
    for (uint32_t p = 0; p < 2; p++) {
      for (uint32_t i = 0; i < half; i++) index[i] = (int32_t)(p * half + i);
      part[p] = shuffle(e, v, NULL, half, index);
    }
    v = emit_kop(e, op, t, t, part);
  }
  return v;
}

static void emit_reduce_bits(Emit *e, const KStmt *s, const Affine *at) {
  LV v = splat(e, emit_expr(e, s->store.value), e->lanes);
  if (e->mask) v = LLVMBuildAnd(e->b, v, e->mask, "");
  LT place = type_value(e, s->store.buf->type);
  QCC_CHECK(LLVMGetIntTypeWidth(place) >= e->lanes, "kernel %s: %u bits reduced into %s", e->k->name, e->lanes,
            dtype_info(s->store.buf->type)->name);
  LV word = LLVMBuildBitCast(e->b, v, LLVMIntTypeInContext(e->ctx, e->lanes), "");
  emit_store(e, s->store.buf, at, LLVMBuildZExtOrBitCast(e->b, word, place, ""));
}

static void emit_reduce(Emit *e, const KStmt *s) {
  Affine at = linear_index(s->store.buf, s->store.idx);
  if (s->store.bits) {
    QCC_CHECK(e->lane, "kernel %s: bits reduced outside a vec loop", e->k->name);
    emit_reduce_bits(e, s, &at);
    return;
  }
  DType t = s->store.buf->type;
  LV v = emit_expr(e, s->store.value);
  if (e->lane && !affine_varies(e, &at)) {
    v = splat(e, v, e->lanes);
    if (e->mask) v = emit_select(e, e->mask, v, identity(e, s->store.op, t));
    v = reduce_lanes(e, s->store.op, t, v);
  }
  LV arg[2] = {emit_load(e, s->store.buf, &at, NULL), v};
  emit_store(e, s->store.buf, &at, emit_kop(e, s->store.op, t, t, arg));
}

// ---- the other statements

static void emit_table(Emit *e, const KBuf *b) {
  unsigned n = (unsigned)(b->dims[0] * type_size(b->type));
  LV bytes = LLVMConstStringInContext(e->ctx, b->data, n, true);
  LV g = LLVMAddGlobal(e->mod, LLVMTypeOf(bytes), arena_printf(e->arena, "%s_table", e->opt->name));
  LLVMSetInitializer(g, bytes);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 64);
  e->buf[b->id] = g;
}

static void emit_alloc(Emit *e, const KBuf *b) {
  if (b->space == SPACE_TILE) return;
  int64_t count = 1;
  for (uint32_t i = 0; i < b->rank; i++) count += (b->dims[i] - 1) * b->strides[i];
  for (uint32_t i = 0; i < b->rank; i++)
    if (b->dims[i] == 0) count = 1;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  LV first = LLVMGetFirstInstruction(e->entry);
  if (first)
    LLVMPositionBuilderBefore(e->b, first);
  else
    LLVMPositionBuilderAtEnd(e->b, e->entry);
  LV p = LLVMBuildAlloca(e->b, LLVMArrayType2(type_memory(e, b->type), (uint64_t)count), "");
  LLVMSetAlignment(p, count * type_size(b->type) >= 64 ? 64 : 16);
  LLVMPositionBuilderAtEnd(e->b, here);
  e->buf[b->id] = p;
}

static void emit_call(Emit *e, const KStmt *s) {
  // The list of functions may move while the callee is declared: take a copy.
  KernelFn f = *kernel_fn(e, s->call.callee);
  LV *args = NEW_ARRAY(e->arena, LV, s->call.n + 2);
  for (uint32_t i = 0; i < s->call.n; i++) args[i] = emit_address(e, s->call.args[i], &s->call.offsets[i]);
  uint32_t n = s->call.n;
  if (f.par) {
    args[n++] = kix(e, 0);
    args[n++] = kix(e, f.extent);
  }
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(f.fn), f.fn, args, n, "");
}

static void emit_stmt(Emit *e, const KStmt *s) {
  switch (s->kind) {
    case KS_FOR: emit_for(e, s); break;
    case KS_IF: emit_if(e, s); break;
    case KS_LET: e->var[s->let.var->id] = emit_expr(e, s->let.value); break;
    case KS_STORE: {
      Affine at = linear_index(s->store.buf, s->store.idx);
      emit_store(e, s->store.buf, &at, emit_expr(e, s->store.value));
      break;
    }
    case KS_REDUCE: emit_reduce(e, s); break;
    case KS_ALLOC:
      if (s->alloc.buf->space == SPACE_TABLE)
        emit_table(e, s->alloc.buf);
      else
        emit_alloc(e, s->alloc.buf);
      break;
    case KS_CALL: emit_call(e, s); break;
    case KS_TILE: emit_tile(e, s); break;
  }
}

static void emit_block(Emit *e, const KBlock *b) {
  for (const KStmt *s = b->first; s; s = s->next) emit_stmt(e, s);
}

// ---- functions

// The par loop of a kernel that does nothing else at top level than allocate and compute lets; NULL otherwise.
static const KStmt *splittable_loop(const Kernel *k) {
  const KStmt *loop = NULL;
  for (const KStmt *s = k->body.first; s; s = s->next) {
    if (s->kind == KS_ALLOC || s->kind == KS_LET) continue;
    if (loop || s->kind != KS_FOR || s->for_.loop != FOR_PAR) return NULL;
    loop = s;
  }
  return loop && loop_extent(loop) > 1 ? loop : NULL;
}

static void param_attrs(Emit *e, LV fn, const Kernel *k) {
  for (uint32_t i = 0; i < k->n_params; i++) {
    if (k->noalias || k->params[i]->space == SPACE_CONST) fn_enum_attr(e, fn, i + 1, "noalias", 0);
    if (k->params[i]->space == SPACE_CONST) fn_enum_attr(e, fn, i + 1, "readonly", 0);
    fn_enum_attr(e, fn, i + 1, "nocapture", 0);
  }
}

static LV declare_kernel(Emit *e, const Kernel *k, bool par) {
  LT *types = NEW_ARRAY(e->arena, LT, k->n_params + 2);
  uint32_t n = k->n_params;
  for (uint32_t i = 0; i < n; i++) types[i] = e->ptr;
  if (par) types[n++] = e->index, types[n++] = e->index;
  const char *name = level_symbol(e, "k_", mangle(e->arena, k->name, strlen(k->name)));
  LV fn = fn_new(e, name, e->nothing, n, types, LLVMInternalLinkage);
  param_attrs(e, fn, k);
  return fn;
}

KernelFn *kernel_fn(Emit *e, const Kernel *k) {
  uint64_t key = (uint64_t)(uintptr_t)k;
  uintptr_t known = (uintptr_t)map_get(e->fn_of, key);
  if (!known && e->n_levels > 1) known = kernel_fn_alike(e, k);
  if (!known) {
    KernelFn f = {.k = k, .loop = e->row->bare ? NULL : splittable_loop(k), .row = e->row};
    f.par = f.loop != NULL;
    f.extent = f.par ? loop_extent(f.loop) : 0;
    f.fn = declare_kernel(e, k, f.par);
    vec_push(e->arena, &e->fns, f);
    known = e->fns.n;
  }
  map_set(e->fn_of, key, (void *)known);
  return &e->fns.at[known - 1];
}

// A kernel that is straight code goes to the assembler as text; its function is then only declared.
static bool emit_assembly(Emit *e, const KernelFn *f) {
  StrBuf text;
  strbuf_init(&text, e->arena);
  if (f->par || !asm_x86_kernel(&text, f->k, e->row, LLVMGetValueName(f->fn))) return false;
  LLVMSetLinkage(f->fn, LLVMExternalLinkage);
  LLVMSetVisibility(f->fn, LLVMHiddenVisibility);
  LLVMAppendModuleInlineAsm(e->mod, text.at, text.n);
  return true;
}

static void emit_kernel(Emit *e, const KernelFn *f) {
  const Kernel *k = f->k;
  if (emit_assembly(e, f)) return;
  e->fn = f->fn;
  e->k = k;
  e->buf = NEW_ARRAY(e->arena, LV, k->n_bufs + 1);
  e->var = NEW_ARRAY(e->arena, LV, k->n_vars + 1);
  e->mask = NULL;
  e->lane = NULL;
  e->entry = block_new(e, "entry");
  LLVMPositionBuilderAtEnd(e->b, e->entry);
  LLVMBasicBlockRef start = block_new(e, "start");
  LLVMBuildBr(e->b, start);
  LLVMPositionBuilderAtEnd(e->b, start);
  for (uint32_t i = 0; i < k->n_params; i++) e->buf[k->params[i]->id] = LLVMGetParam(f->fn, i);
  bool tiles = emit_tiles_begin(e);
  for (const KStmt *s = k->body.first; s; s = s->next) {
    if (s != f->loop) {
      emit_stmt(e, s);
      continue;
    }
    LV lo = emit_affine(e, &s->for_.lo);
    LV from = LLVMBuildMul(e->b, LLVMGetParam(f->fn, k->n_params), kix(e, s->for_.step), "");
    LV to = LLVMBuildMul(e->b, LLVMGetParam(f->fn, k->n_params + 1), kix(e, s->for_.step), "");
    emit_plain_loop(e, s, LLVMBuildAdd(e->b, lo, from, ""), LLVMBuildAdd(e->b, lo, to, ""));
  }
  if (tiles) emit_tiles_end(e);
  LLVMBuildRetVoid(e->b);
}

void emit_kernels(Emit *e, uint32_t first) {
  for (uint32_t i = first; i < e->fns.n; i++) {
    KernelFn f = e->fns.at[i];  // emission may declare more and move the list
    emit_kernel(e, &f);
  }
}
