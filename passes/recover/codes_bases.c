// Weight bases that the file keeps apart. See codes.h.
//
//   %1 = conv %x, @b0; %2 = mul %1, 0.02; %3 = conv %x, @b1; %4 = mul %3, 0.01; %5 = add %2, %4
//   => %5 = conv %x, @w                                    @w: f32(0.02 @b0 + 0.01 @b1)
//
// Sums are made in f64 and rounded once, so the one contraction rounds less often than the parts did. Terms of other
// kinds stay and are added. Not under --fp=strict: the order of the additions changes.
#include <math.h>
#include <string.h>

#include "ir/note.h"
#include "passes/contraction.h"
#include "passes/graph_util.h"
#include "passes/recover/codes.h"

enum { TERMS = 32 };

typedef struct Term {
  Value *value;   // what is added
  Op *op;         // its contraction, or NULL
  Value *factor;  // of the contraction, or NULL: 1
} Term;

typedef struct Sum {
  PassCtx *ctx;
  Op *root;
  Term term[TERMS];
  uint32_t n;
  Op *first;  // the contraction others are merged with
} Sum;

static bool is_contraction(const Op *op) { return op->kind == OP_CONV || op->kind == OP_MATMUL; }

static uint32_t channel_axis(const Op *op) {
  uint32_t rank = op->out[0]->type->rank;
  return op->kind == OP_CONV && op_enum(op, A_CONV_layout) == LAYOUT_NCHW ? 1 : rank - 1;
}

static int64_t channels_of(const Op *op) { return op->out[0]->type->dims[channel_axis(op)]; }

static bool is_per_channel(const Op *op, const Value *v) {
  const Type *y = op->out[0]->type;
  if (!value_is_const(v) || v->type->dtype != DT_F32 || v->type->rank > y->rank) return false;
  for (uint32_t i = 0; i < v->type->rank; i++) {
    bool channels = y->rank - v->type->rank + i == channel_axis(op);
    if (v->type->dims[i] != 1 && (!channels || v->type->dims[i] != channels_of(op))) return false;
  }
  return true;
}

// A contraction of constant weights, used here only.
static Op *contraction_of(const Value *v) {
  Op *op = v->kind == VALUE_RESULT ? v->op : NULL;
  if (op == NULL || !is_contraction(op) || v->n_uses != 1 || op_post(op) != NULL || v->type->dtype != DT_F32)
    return NULL;
  const Value *w = op_in(op, 1), *b = op_in(op, 2);
  if (!value_is_const(w) || w->type->dtype != DT_F32 || !type_is_static(v->type)) return NULL;
  if (op->kind == OP_MATMUL && (w->type->rank != 2 || v->type->rank < 2)) return NULL;
  if (b != NULL && (!value_is_const(b) || b->type->dtype != DT_F32 || type_count(b->type) != channels_of(op) ||
                    b->type->dims[b->type->rank - 1] != channels_of(op)))
    return NULL;
  return op;
}

static Term term_of(Value *v) {
  Term t = {.value = v, .op = contraction_of(v)};
  if (t.op != NULL || v->kind != VALUE_RESULT || v->op->kind != OP_MUL || v->n_uses != 1) return t;
  for (uint32_t i = 0; i < 2; i++) {
    Op *op = contraction_of(op_in(v->op, i));
    Value *by = op_in(v->op, 1 - i);
    if (op == NULL || !is_per_channel(op, by) || v->type != op->out[0]->type) continue;
    t.op = op;
    t.factor = by;
  }
  return t;
}

static bool is_inner_add(const Value *v, const Type *type) {
  return v->kind == VALUE_RESULT && v->op->kind == OP_ADD && v->n_uses == 1 && v->type == type;
}

// What is added up under the root; additions used elsewhere are terms.
static bool sum_collect(Sum *s) {
  Value *open[TERMS];
  uint32_t n = 0;
  const Type *type = s->root->out[0]->type;
  open[n++] = s->root->out[0];
  while (n > 0) {
    Value *v = open[--n];
    if (v == s->root->out[0] || is_inner_add(v, type)) {
      if (n + 2 > TERMS) return false;
      open[n++] = op_in(v->op, 1);
      open[n++] = op_in(v->op, 0);
      continue;
    }
    if (s->n == TERMS) return false;
    s->term[s->n++] = term_of(v);
  }
  return true;
}

static bool same_ints(const Op *a, const Op *b, int slot) {
  uint32_t n, k;
  const int64_t *x = op_ints(a, slot, &n), *y = op_ints(b, slot, &k);
  return n == k && (n == 0 || memcmp(x, y, n * sizeof *x) == 0);
}

// Do the two differ in weights and bias alone?
static bool is_like(const Op *a, const Op *b) {
  if (a->kind != b->kind || op_in(a, 0) != op_in(b, 0) || op_in(a, 1)->type != op_in(b, 1)->type) return false;
  if (a->out[0]->type != b->out[0]->type) return false;
  if (a->kind == OP_MATMUL)
    return op_bool(a, A_MATMUL_trans_a) == op_bool(b, A_MATMUL_trans_a) &&
           op_bool(a, A_MATMUL_trans_b) == op_bool(b, A_MATMUL_trans_b);
  return op_enum(a, A_CONV_layout) == op_enum(b, A_CONV_layout) && op_int(a, A_CONV_group) == op_int(b, A_CONV_group) &&
         same_ints(a, b, A_CONV_strides) && same_ints(a, b, A_CONV_pads) && same_ints(a, b, A_CONV_dilations);
}

static bool is_merged(const Sum *s, const Term *t) { return t->op != NULL && is_like(s->first, t->op); }

// The contraction most others are like.
static uint32_t sum_choose(Sum *s) {
  uint32_t most = 0;
  Op *best = NULL;
  for (uint32_t i = 0; i < s->n; i++) {
    if (s->term[i].op == NULL) continue;
    uint32_t n = 0;
    s->first = s->term[i].op;
    for (uint32_t k = 0; k < s->n; k++) n += is_merged(s, &s->term[k]);
    if (n > most) {
      most = n;
      best = s->first;
    }
  }
  s->first = best;
  return most;
}

static double factor_at(Module *m, const Term *t, int64_t channel) {
  if (t->factor == NULL) return 1;
  return const_f(m, t->factor->constant, type_count(t->factor->type) == 1 ? 0 : channel);
}

static Value *merged_weights(const Sum *s) {
  Module *m = s->ctx->m;
  const Type *t = op_in(s->first, 1)->type;
  WeightChannels of;
  int64_t n = weight_channels(s->first, &of) ? of.n : 0;
  double *w = NEW_ARRAY(s->ctx->arena, double, n > 0 ? n : 1);
  for (uint32_t k = 0; k < s->n; k++) {
    const Term *term = &s->term[k];
    if (!is_merged(s, term)) continue;
    for (int64_t i = 0; i < n; i++)
      w[i] += factor_at(m, term, weight_channel(&of, i)) * const_f(m, op_in(term->op, 1)->constant, i);
  }
  return const_of_doubles(m, t, w, op_in(s->first, 1)->constant->name);
}

static Value *merged_bias(const Sum *s) {
  Module *m = s->ctx->m;
  int64_t n = channels_of(s->first);
  double *b = NEW_ARRAY(s->ctx->arena, double, n > 0 ? n : 1);
  bool some = false;
  for (uint32_t k = 0; k < s->n; k++) {
    const Term *term = &s->term[k];
    if (!is_merged(s, term) || op_in(term->op, 2) == NULL) continue;
    some = true;
    for (int64_t c = 0; c < n; c++) b[c] += factor_at(m, term, c) * const_f(m, op_in(term->op, 2)->constant, c);
  }
  return some ? const_of_doubles(m, type_tensor(m->types, DT_F32, 1, &n), b, NULL) : NULL;
}

// The file keeps the bits of every base.
static void declare_sum(Sum *s, const Op *now, uint32_t n) {
  uint32_t w_bits = 0, x_bits = 0;
  for (uint32_t k = 0; k < s->n; k++) {
    if (!is_merged(s, &s->term[k])) continue;
    NoteList notes = note_list(s->ctx->m, s->term[k].op->loc, s->ctx->arena);
    for (uint32_t i = 0; i < notes.n; i++) {
      if (notes.at[i]->kind != NOTE_DECLARED) continue;
      w_bits += notes.at[i]->w_bits;
      x_bits = notes.at[i]->x_bits;
      break;
    }
  }
  if (w_bits == 0) return;
  note_precision(s->ctx->m, now, NOTE_DECLARED, w_bits, x_bits, "%u layers with weights of %u bits in all", n, w_bits);
}

static void sum_rewrite(Sum *s, uint32_t n) {
  Op *at = s->root;
  Value *in[3] = {op_in(s->first, 0), merged_weights(s), merged_bias(s)};
  Op *now = op_new(at->func, at, s->first->kind, in[2] ? 3 : 2, in, s->first->loc);
  op_copy_attrs(now, s->first);
  now->out[0]->type = s->first->out[0]->type;
  Value *y = now->out[0];
  for (uint32_t k = 0; k < s->n; k++) {
    if (is_merged(s, &s->term[k])) {
      op_add_loc(now, s->term[k].op);
    } else {
      y = graph_emit(at, OP_ADD, 2, (Value *[]){y, s->term[k].value}, at->out[0]->type, at->loc);
    }
  }
  y->name = at->out[0]->name;
  declare_sum(s, now, n);
  note_layer(s->ctx->m, now, NOTE_RECOVERED, "%u contractions of one tensor as one with the sum of their weights", n);
  value_replace(at->out[0], y);
}

// Additions inside of a larger sum are reached from its root.
static bool is_root(const Op *op) {
  if (op->kind != OP_ADD || op->out[0]->type->dtype != DT_F32) return false;
  const Op *user = value_sole_user(op->out[0]);
  return user == NULL || user->kind != OP_ADD || user->out[0]->type != op->out[0]->type;
}

bool codes_bases(PassCtx *ctx, Func *f) {
  bool changed = false;
  if (ctx->opt->strict_fp) return false;
  for (Op *op = f->first; op != NULL; op = op->next) {
    Sum s = {.ctx = ctx, .root = op};
    if (!is_root(op) || !sum_collect(&s)) continue;
    uint32_t n = sum_choose(&s);
    if (n < 2) continue;
    sum_rewrite(&s, n);
    changed = true;
  }
  return changed;
}
