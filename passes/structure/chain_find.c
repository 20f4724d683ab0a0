// Pass `chain`: layers that arrive factorised become one op each, whose kernel is planned as a whole.
//
//   %1 = matmul %0, @g4   %2 = reshape %1   %3 = transpose %2 {perm = [0,1,4,2,3]}   %4 = reshape %3
//   %5 = matmul %4, @g3   ...
//   => %5 = chain %0, @g4, @g3 {equation = "abc,cde,...->..."}
//
// (1) Runs of reshape, transpose, matmul and einsum with constants, each the only reader of the one before, with two or
// more cores of which one after the first still sums part of x: tensor trains, Kronecker factors, canonical forms. A
// bias at the end is added behind. (2) Sums of chains of one form on one x are one chain with a letter more for the
// terms; a reshape behind one is its result's type. A low-rank pair is two matmuls already and stays that. The result
// is the same up to the rounding of sums.
#include <string.h>

#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/pass.h"
#include "passes/structure/chain.h"
#include "passes/structure/chain_net.h"

enum { MOST_OPS = 64 };

// Ops that follow each other; op i reads the result of the one before in operand slot[i].
typedef struct Line {
  uint32_t n;
  Op *op[MOST_OPS];
  uint32_t slot[MOST_OPS];
} Line;

static Op *reader(const Op *op) {
  Op *user = value_sole_user(op_out(op, 0));
  return user != NULL && user->func == op->func ? user : NULL;
}

static void line_from(Line *line, Op *first) {
  line->n = 0;
  for (Op *op = first; op != NULL && line->n < MOST_OPS; op = reader(op)) {
    uint32_t slot, n = line->n;
    if (!net_is_linear(op, &slot)) return;
    if (n > 0 && op_in(op, slot) != op_out(line->op[n - 1], 0)) return;  // it adds the line's value as a bias
    line->op[line->n] = op;
    line->slot[line->n++] = slot;
    if (op_in(op, 2) != NULL && op->kind == OP_MATMUL) return;  // a bias ends it
  }
}

// An op in front of this one belongs to the same line.
static bool is_inside(const Op *op, uint32_t slot) {
  const Value *x = op_in(op, slot);
  uint32_t before;
  if (x->kind != VALUE_RESULT || x->op->func != op->func || reader(x->op) != op) return false;
  if (!net_is_linear(x->op, &before)) return false;
  return x->op->kind != OP_MATMUL || op_in(x->op, 2) == NULL;
}

// Cores after the first that sum letters of x: what makes it more than a pair of matrices.
static bool is_factorised(const ChainNet *n) {
  uint32_t of_x = 0;
  for (uint32_t i = 0; i < n->f.n_cores; i++) of_x += !n->linked[i];
  return n->f.n_cores >= 2 && of_x >= 2;
}

static bool price_of(PassCtx *ctx, const ChainNet *n, const Type *y, double *cycles) {
  ChainPlan p;
  ChainAsk any = {.fused = -1};
  ChainShape s = {.f = &n->f, .y = y, .type = y->dtype == DT_F64 ? DT_F64 : DT_F32, .last_axis = true};
  if (!chain_plan(&s, ctx->target, &any, &p)) return false;
  *cycles = p.compute + p.memory;
  return true;
}

// How many ops of the line the chain takes, 0: none. Movement behind the last core is taken where the stores can do it.
static uint32_t follow(PassCtx *ctx, const Line *line, ChainNet *net) {
  ChainNet now;
  uint32_t best = 0;
  double price = 0;
  if (!net_start(&now, op_in(line->op[0], line->slot[0]))) return 0;
  for (uint32_t i = 0; i < line->n && net_follow(&now, line->op[i], line->slot[i]); i++) {
    OpKind kind = line->op[i]->kind;
    bool core = kind == OP_MATMUL || kind == OP_EINSUM;
    const Type *y = op_out(line->op[i], 0)->type;
    double cycles, moved = kind == OP_TRANSPOSE ? ctx->target->call_cycles + 0.5 * (double)type_count(y) : 0;
    if (!is_factorised(&now) || (!core && best != i) || !price_of(ctx, &now, y, &cycles)) continue;
    if (!core && cycles > price + moved) continue;
    best = i + 1;
    price = cycles;
    *net = now;
  }
  return best;
}

static Value *emit(const ChainNet *n, Op *at, const Type *y) {
  Value *in[1 + CHAIN_CORES] = {n->x};
  for (uint32_t i = 0; i < n->f.n_cores; i++) in[i + 1] = n->core[i];
  Value *out = graph_emit(at, OP_CHAIN, n->f.n_cores + 1, in, y, at->loc);
  chain_write(out->op, &n->f);
  return out;
}

static int64_t parameters(const ChainNet *n) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < n->f.n_cores; i++) sum += type_count(n->core[i]->type);
  return sum;
}

static bool chain_line(PassCtx *ctx, Line *line, Op *first) {
  ChainNet net = {0};
  line_from(line, first);
  uint32_t n = line->n < 2 ? 0 : follow(ctx, line, &net);
  if (n == 0) return false;
  Op *last = line->op[n - 1];
  Value *bias = last->kind == OP_MATMUL ? op_in(last, 2) : NULL;
  const Type *y = op_out(last, 0)->type;
  Value *out = emit(&net, last, y);
  for (uint32_t i = 0; i < n; i++) op_add_loc(out->op, line->op[i]);
  note_layer(ctx->m, out->op, NOTE_FACTORED, "arrives in %u factors with %lld parameters", net.f.n_cores,
             (long long)parameters(&net));
  if (bias != NULL) out = graph_emit(last, OP_ADD, 2, (Value *[]){out, bias}, y, last->loc);
  out->name = op_out(last, 0)->name;
  value_replace(op_out(last, 0), out);
  for (uint32_t i = n; i-- > 0;) op_unlink(line->op[i]);
  return true;
}

// ---- (2) sums of chains

static bool same_terms(const ChainTerm *a, const ChainTerm *b) {
  return a->n == b->n && memcmp(a->at, b->at, a->n) == 0;
}

// Forms as written name their letters in order, so equal structure is equal numbers.
static bool same_form(const ChainForm *a, const ChainForm *b) {
  if (a->n_letters != b->n_letters || a->n_cores != b->n_cores || !same_terms(&a->x, &b->x) ||
      !same_terms(&a->y, &b->y))
    return false;
  for (uint32_t i = 0; i < a->n_cores; i++)
    if (!same_terms(&a->core[i], &b->core[i])) return false;
  return memcmp(a->size, b->size, a->n_letters * sizeof *a->size) == 0;
}

// The letter of the terms of a sum made before: the first of every core and nowhere else, -1: it is no such sum.
static int32_t sum_letter(const ChainForm *f) {
  if (f->core[0].n == 0) return -1;
  uint32_t l = f->core[0].at[0];
  if (chain_term_has(&f->x, l) || chain_term_has(&f->y, l)) return -1;
  for (uint32_t i = 0; i < f->n_cores; i++)
    if (f->core[i].n == 0 || f->core[i].at[0] != l) return -1;
  return (int32_t)l;
}

static void term_drop_first(ChainTerm *t) { memmove(t->at, t->at + 1, --t->n); }

// The form of one term, letters numbered as if the sum's were not there, and the number of terms.
static int64_t one_term(const Op *op, ChainForm *f) {
  QCC_CHECK(chain_read(op, f) == NULL, "a chain that does not read");
  int32_t l = f->n_cores > 1 ? sum_letter(f) : -1;
  if (l < 0) return 1;
  int64_t terms = f->size[l];
  for (uint32_t i = 0; i < f->n_cores; i++) term_drop_first(&f->core[i]);
  ChainTerm *all[CHAIN_CORES + 2] = {&f->x, &f->y};
  for (uint32_t i = 0; i < f->n_cores; i++) all[i + 2] = &f->core[i];
  for (uint32_t t = 0; t < f->n_cores + 2; t++)
    for (uint32_t i = 0; i < all[t]->n; i++) all[t]->at[i] = (uint8_t)(all[t]->at[i] - (all[t]->at[i] > l));
  memmove(f->size + l, f->size + l + 1, (f->n_letters - (uint32_t)l - 1) * sizeof *f->size);
  f->n_letters--;
  return terms;
}

// a and b one behind the other.
static Value *stack(PassCtx *ctx, const Value *a, const Value *b) {
  int64_t na = type_count(a->type), nb = type_count(b->type), n = na + nb;
  double *v = NEW_ARRAY(ctx->arena, double, n);
  for (int64_t i = 0; i < n; i++)
    v[i] = i < na ? const_f(ctx->m, a->constant, i) : const_f(ctx->m, b->constant, i - na);
  return const_of_doubles(ctx->m, type_tensor(ctx->m->types, a->type->dtype, 1, &n), v, a->constant->name);
}

static const Value *before_reshape(const Value *x) {
  while (x->kind == VALUE_RESULT && x->op->kind == OP_RESHAPE) x = op_in(x->op, 0);
  return x;
}

static bool sum_of_chains(PassCtx *ctx, Op *add) {
  Op *a = value_def(op_in(add, 0), OP_CHAIN), *b = value_def(op_in(add, 1), OP_CHAIN);
  ChainForm f, g;
  if (!a || !b || a == b || op_post(a) || op_post(b) || reader(a) != add || reader(b) != add) return false;
  if (op_out(a, 0)->type != op_out(b, 0)->type || op_plan(a) || op_plan(b)) return false;
  if (before_reshape(op_in(a, 0)) != before_reshape(op_in(b, 0))) return false;
  int64_t terms = one_term(a, &f) + one_term(b, &g);
  if (!same_form(&f, &g) || f.n_letters == CHAIN_LETTERS) return false;
  Value *in[1 + CHAIN_CORES] = {op_in(a, 0)};
  for (uint32_t i = 0; i < f.n_cores; i++) {
    if (!value_is_const(op_in(a, i + 1)) || !value_is_const(op_in(b, i + 1)) || f.core[i].n == CHAIN_LETTERS)
      return false;
    in[i + 1] = stack(ctx, op_in(a, i + 1), op_in(b, i + 1));
    memmove(f.core[i].at + 1, f.core[i].at, f.core[i].n++);
    f.core[i].at[0] = (uint8_t)f.n_letters;
  }
  f.size[f.n_letters++] = terms;
  Value *out = graph_emit(add, OP_CHAIN, f.n_cores + 1, in, op_out(add, 0)->type, a->loc);
  chain_write(out->op, &f);
  op_add_loc(out->op, b);
  op_add_loc(out->op, add);
  note_drop(ctx->m, out->op, NOTE_FACTORED);
  note_layer(ctx->m, out->op, NOTE_FACTORED, "arrives as a sum of %lld terms of %u factors", (long long)terms,
             f.n_cores);
  out->name = op_out(add, 0)->name;
  value_replace(op_out(add, 0), out);
  op_unlink(add);
  op_unlink(b);
  op_unlink(a);
  return true;
}

// The result in another shape is the same elements, where each of its axes is a run of letters.
static bool chain_reshaped(Op *reshape) {
  Op *chain = value_def(op_in(reshape, 0), OP_CHAIN);
  ChainForm f;
  uint32_t axis;
  int64_t step;
  const Type *y = op_out(reshape, 0)->type;
  if (!chain || op_post(chain) || reader(chain) != reshape || chain_read(chain, &f) != NULL || !type_is_static(y))
    return false;
  for (uint32_t i = 0; i < f.y.n; i++)
    if (!chain_axis(&f, y, f.y.at[i], &axis, &step)) return false;
  value_set_type(op_out(chain, 0), y);
  op_add_loc(chain, reshape);
  op_out(chain, 0)->name = op_out(reshape, 0)->name;
  value_replace(op_out(reshape, 0), op_out(chain, 0));
  op_unlink(reshape);
  return true;
}

PassResult pass_chain(PassCtx *ctx) {
  Func *f = ctx->m->funcs.at[0];
  bool changed = false;
  if (ctx->opt->strict_fp) return PASS_SAME;  // sums are made in another order
  Line *line = NEW(ctx->arena, Line);
  for (Op *op = f->first, *next; op; op = next) {
    uint32_t slot;
    next = op->next;
    if (!net_is_linear(op, &slot) || is_inside(op, slot)) continue;
    line_from(line, op);
    if (line->n > 0) next = line->op[line->n - 1]->next;  // the ops of a line may go
    changed |= chain_line(ctx, line, op);
  }
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    if (op->kind == OP_ADD) changed |= sum_of_chains(ctx, op);
    if (op->kind == OP_RESHAPE) changed |= chain_reshaped(op);
  }
  return changed ? PASS_CHANGED : PASS_SAME;
}
