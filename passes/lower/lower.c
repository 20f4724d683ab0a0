// Pass `lower`: the one-way gate. Makes the program of the entry function: buffers for arguments, results, constants
// and intermediate tensors, then the steps of every op in order.
//
// Buffers that need no copy are found here, because the graph knows the uses: reshapes and contiguous slices are
// windows of their operand; a concat along the outermost axis has its operands' producers write into its own buffer;
// results are written straight into the caller's memory. Placing buffers in the workspace is memplan's work.
#include <string.h>

#include "passes/lower/bits.h"
#include "passes/lower/open.h"

static LowerFn *const lower_table[OP_COUNT] = {
#define LOWER(ID, fn) [OP_##ID] = fn,
#include "passes/lower/lower.def"
#undef LOWER
};

bool lower_has(OpKind kind) {
  uint32_t traits = op_info(kind)->traits;
  return (traits & (TRAIT_ELTWISE | TRAIT_VIEW)) || lower_table[kind];
}

// ---- buffers

static PBuf **slot_of(LowerCtx *ctx, const Value *v) {
  if (v->id >= ctx->n_buf_of) {  // constants made while lowering
    uint32_t n = v->id + v->id / 2 + 16;
    PBuf **grown = NEW_ARRAY(ctx->m->arena, PBuf *, n);
    for (uint32_t i = 0; i < ctx->n_buf_of; i++) grown[i] = ctx->buf_of[i];
    ctx->buf_of = grown;
    ctx->n_buf_of = n;
  }
  return &ctx->buf_of[v->id];
}

static const char *name_of(const Value *v) {
  if (v->kind == VALUE_CONST) return v->constant->name ? v->constant->name : "c";
  return v->name ? v->name : "t";
}

PBuf *lower_buf(LowerCtx *ctx, Value *v) {
  PBuf **slot = slot_of(ctx, v);
  if (*slot) return *slot;
  PBuf *buf = program_buf(ctx->p, v->kind == VALUE_CONST ? PBUF_CONST : PBUF_WORK, name_of(v), v->type);
  if (v->kind == VALUE_CONST) buf->constant = v->constant;
  return *slot = buf;
}

PBuf *lower_const(LowerCtx *ctx, Value *constant) {
  QCC_CHECK(value_is_const(constant), "lower: not a constant");
  return lower_buf(ctx, constant);
}

PBuf *lower_work(LowerCtx *ctx, const char *name, const Type *t) { return program_buf(ctx->p, PBUF_WORK, name, t); }

PBuf *lower_alias(LowerCtx *ctx, PBuf *of, const Type *t, int64_t first) {
  PBuf *buf = program_buf(ctx->p, of->kind, of->name, t);
  buf->index = of->index;
  buf->constant = of->constant;
  buf->alias_of = of;
  buf->alias_offset = first * (int64_t)(dtype_info(t->dtype)->bits / 8);
  return buf;
}

void lower_bind(LowerCtx *ctx, const Value *v, PBuf *buf) { *slot_of(ctx, v) = buf; }

bool lower_is_used(const Op *op, uint32_t result) { return op_out(op, result)->n_uses > 0; }

static bool is_view(const Value *v) {
  return v->kind == VALUE_RESULT && (op_info(v->op->kind)->traits & TRAIT_VIEW) != 0;
}

static Value *view_base(Value *v) {
  while (is_view(v)) v = op_in(v->op, 0);
  return v;
}

// A tensor made by a step of its own (not a window, argument or constant) that has no buffer yet.
static bool is_free(LowerCtx *ctx, const Value *v) {
  int64_t first;
  if (v->kind != VALUE_RESULT || is_view(v) || *slot_of(ctx, v)) return false;
  return v->op->kind != OP_SLICE || !lower_slice_is_window(v->op, &first);
}

// ---- arguments and results

static void make_inputs(LowerCtx *ctx, const Func *f) {
  for (uint32_t i = 0; i < f->n_args; i++) {
    PBuf *buf = program_buf(ctx->p, PBUF_INPUT, name_of(f->args[i]), f->args[i]->type);
    buf->index = i;
    *slot_of(ctx, f->args[i]) = buf;
  }
}

static const char *result_name(const Func *f, uint32_t i) {
  return f->result_names && f->result_names[i] ? f->result_names[i] : name_of(f->results[i]);
}

// The producer of a result writes it in place; the others (pending) are copied at the end.
static void make_outputs(LowerCtx *ctx, const Func *f, PBuf **pending) {
  for (uint32_t i = 0; i < f->n_results; i++) {
    Value *v = f->results[i], *base = view_base(v);
    PBuf *buf = program_buf(ctx->p, PBUF_OUTPUT, result_name(f, i), v->type);
    buf->index = i;
    if (is_free(ctx, base)) {
      *slot_of(ctx, base) = base == v ? buf : lower_alias(ctx, buf, base->type, 0);
    } else {
      pending[i] = buf;
    }
  }
}

static bool copy_pending(LowerCtx *ctx, const Func *f, PBuf *const *pending) {
  for (uint32_t i = 0; i < f->n_results; i++) {
    Value *v = f->results[i];
    if (pending[i] && !lower_copy(ctx, v->op, lower_buf(ctx, v), pending[i])) return false;
  }
  return true;
}

// ---- concats without copies

static void place_concat(LowerCtx *ctx, const Op *op) {
  const Type *t = op_out(op, 0)->type;
  int64_t outer = 1, first = 0, axis = lower_axis(op, A_CONCAT_axis);
  for (int64_t i = 0; i < axis; i++) outer *= t->dims[i];
  if (outer != 1) return;
  for (uint32_t i = 0; i < op->n_in; i++) {
    Value *v = op_in(op, i), *base = view_base(v);
    if (is_free(ctx, base) && base->op != op) {
      *slot_of(ctx, base) = lower_alias(ctx, lower_buf(ctx, op_out(op, 0)), base->type, first);
    }
    first += type_count(v->type);
  }
}

// Last first, so that a concat of concats is one buffer.
static void place_concats(LowerCtx *ctx, const Func *f) {
  for (const Op *op = f->last; op; op = op->prev) {
    if (op->kind == OP_CONCAT) place_concat(ctx, op);
  }
}

// ---- ops

static bool check_value(LowerCtx *ctx, const Op *op, const Value *v) {
  if (!v) return true;
  Diag *d = ctx->m->diag;
  const Type *t = v->type;
  const char *text = type_text(ctx->m->arena, ctx->m->types, t);
  const Loc *loc = op ? op->loc : NULL;
  if (!type_is_static(t)) {
    for (uint32_t i = 0; i < t->rank; i++) {
      if (t->dims[i] >= 0) continue;
      const char *dim = type_symbol_name(ctx->m->types, t->dims[i]);
      return diag_error(d, DIAG_UNSUPPORTED, loc, "tensor %s has a symbolic dim; give it a value with --dim %s=...",
                        text, dim);
    }
  }
  bool packs = !op || op->kind == OP_CAST || op->kind == OP_BITCAST;  // casts and views of interface tensors
  if (t->dtype == DT_STR || (lower_is_narrow(t->dtype) && !packs)) {
    return diag_error(d, DIAG_UNSUPPORTED, loc, "no code for tensors of type %s", text);
  }
  return true;
}

static bool check_op(LowerCtx *ctx, const Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++) {
    if (!check_value(ctx, op, op_in(op, i))) return false;
  }
  for (uint32_t i = 0; i < op->n_out; i++) {
    if (!check_value(ctx, op, op_out(op, i))) return false;
  }
  return true;
}

// Nothing is to be computed: no result is used or all used results are empty.
static bool is_empty(const Op *op) {
  for (uint32_t i = 0; i < op->n_out; i++) {
    if (lower_is_used(op, i) && type_count(op_out(op, i)->type) > 0) return false;
  }
  return true;
}

static bool lower_window(LowerCtx *ctx, const Op *op) {
  int64_t first = 0;
  PBuf **slot = slot_of(ctx, op_out(op, 0));
  bool view = op_info(op->kind)->traits & TRAIT_VIEW;
  if (!view && (op->kind != OP_SLICE || !lower_slice_is_window(op, &first))) return false;
  *slot = lower_alias(ctx, lower_buf(ctx, op_in(op, 0)), op_out(op, 0)->type, first);
  return true;
}

static bool lower_to_bytes(LowerCtx *ctx, const Op *op) {
  if (lower_window(ctx, op)) return true;
  if (lower_is_packed_cast(op)) return lower_packed_cast(ctx, op);
  if (op_info(op->kind)->traits & TRAIT_ELTWISE) return lower_eltwise(ctx, op);
  LowerFn *fn = lower_table[op->kind];
  if (!fn) return diag_error(ctx->m->diag, DIAG_UNSUPPORTED, op->loc, "no code for %s", op_info(op->kind)->name);
  return fn(ctx, op);
}

static bool lower_op(LowerCtx *ctx, const Op *op) {
  if (!check_op(ctx, op)) return false;
  if (is_empty(op)) return true;
  bool done = op->n_in > 0 && op_in(op, 0) != NULL && op_in(op, 0)->id < ctx->n_fused && ctx->fused[op_in(op, 0)->id];
  if (!done && bits_lower(ctx, op)) return true;
  if (!done && !lower_to_bytes(ctx, op)) return false;
  bits_finish(ctx, op);
  return true;
}

// Weights of floats that were packed are not read again, unless a step reads them as they are.
static void give_back(LowerCtx *ctx, const Op *op) {
  if (ctx->opt == NULL || !ctx->opt->release || (op->kind != OP_CONV && op->kind != OP_MATMUL)) return;
  if (open_may(ctx->m, op)) return;
  const Value *w = op_in(op, 1);
  if (!value_is_const(w) || !dtype_is_float(w->type->dtype)) return;
  for (uint32_t i = 0; i < ctx->p->bufs.n; i++)
    if (ctx->p->bufs.at[i]->constant == w->constant) return;
  const_release_read(ctx->m, w->constant);
}

static bool lower_func(LowerCtx *ctx, const Func *f, bool open) {
  for (uint32_t i = 0; i < f->n_args; i++) {
    if (!check_value(ctx, NULL, f->args[i])) return false;
  }
  PBuf **pending = NEW_ARRAY(ctx->m->arena, PBuf *, f->n_results + 1);
  make_inputs(ctx, f);
  make_outputs(ctx, f, pending);
  bool ok = true;
  for (const Op *op = f->first; op; op = op->next) ok = check_op(ctx, op) && ok;
  if (!ok) return false;
  place_concats(ctx, f);
  bits_analyse(ctx, f);
  for (const Op *op = f->first; op; op = op->next) {
    ok = lower_op(ctx, op) && ok;
    give_back(ctx, op);
    arena_clear(ctx->m->build_arena);
  }
  return ok && copy_pending(ctx, f, pending) && open_weights(ctx, open);
}

PassResult pass_lower(PassCtx *pc) {
  Module *m = pc->m;
  LowerCtx ctx = {.m = m, .p = program_new(m), .target = pc->target, .opt = pc->opt, .n_buf_of = m->n_values};
  ctx.buf_of = NEW_ARRAY(m->arena, PBuf *, m->n_values + 1);
  ctx.fused = NEW_ARRAY(m->arena, bool, m->n_values + 1);
  ctx.n_fused = m->n_values;
  m->build_arena = arena_new("lower");
  bool ok = lower_func(&ctx, m->funcs.at[0], strcmp(pc->args, "open") == 0);
  arena_free(m->build_arena);
  m->build_arena = NULL;
  if (!ok) return PASS_FAILED;
  m->program = ctx.p;
  return PASS_CHANGED;
}
