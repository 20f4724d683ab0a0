// Contractions of few-valued tensors that lie on no grid, as integer contractions. See codes.h.
//
//   %1 = maxpool %0                            {0, 0.3177, 1, 1.894}
//   %2 = conv %1, @w                           -a, +a per channel
//   => %2 = select(%1 >= 0.3177, ..) : i8      the first term of every value of %1
//      %3 = select(%1 >= 0.3177, ..) : i8      the second one
//      %4 = conv %2, @q : i32; %5 = conv %3, @q : i32
//      %6 = f32(%4) * @a0 + f32(%5) * @a1
//
// The sums are exact; what is left is one rounding per term. Zero padding adds nothing to any term, as it adds nothing
// to the sum. Every form of the input is tried with every form of the weights, priced by the plans of its contractions
// against the plan of the float layer, and the cheapest is taken.
#include <math.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/graph_util.h"
#include "passes/price.h"
#include "passes/recover/codes_layer.h"
#include "passes/recover/sets.h"

// ---- what is there

static bool read_values(CodedLayer *l, const ValueSet *set) {
  for (uint32_t i = 0; i < set->n; i++) {
    if (l->n > 0 && l->v[l->n - 1] == set->v[i]) continue;  // -0 and +0
    if (l->n == TERMS_VALUES || !isfinite(set->v[i])) return false;
    l->v[l->n++] = set->v[i] + 0.0;
  }
  return l->n > 1;
}

static bool read_geometry(CodedLayer *l) {
  const Op *op = l->op;
  const Value *w = op_in(op, 1);
  const Type *y = op->out[0]->type;
  if (!value_is_const(w) || w->type->dtype != DT_F32 || y->dtype != DT_F32 || value_is_const(op_in(op, 0)))
    return false;
  if (op_post(op) != NULL || !type_is_static(y) || type_count(y) == 0) return false;
  if (op->kind == OP_MATMUL && (w->type->rank != 2 || y->rank < 2 || op_bool(op, A_MATMUL_trans_a))) return false;
  if (op->kind == OP_CONV && op_enum(op, A_CONV_layout) != LAYOUT_NHWC) return false;
  return weight_channels(op, &l->of);
}

static bool bias_fits(const CodedLayer *l) {
  const Value *b = op_in(l->op, 2);
  if (b == NULL) return true;
  return value_is_const(b) && (type_count(b->type) == 1 || b->type->dims[b->type->rank - 1] == type_count(b->type));
}

// The place of v among the numbers of a channel, in order; -1 when there is no more room.
static int32_t weight_add(CodedLayer *l, int64_t c, double v) {
  double *at = l->w_v[c];
  uint32_t i = 0, n = l->w_n[c];
  while (i < n && at[i] < v) i++;
  if (i < n && at[i] == v) return (int32_t)i;
  if (n == TERMS_VALUES || !isfinite(v)) return -1;
  for (uint32_t k = n; k > i; k--) at[k] = at[k - 1];
  at[i] = v + 0.0;
  l->w_n[c]++;
  return (int32_t)i;
}

static bool read_weights(CodedLayer *l) {
  const Value *w = op_in(l->op, 1);
  int64_t n = type_count(w->type);
  const AnyF32 *data = const_data(l->m, w->constant);
  l->w_n = NEW_ARRAY(l->ctx->arena, uint32_t, l->of.channels);
  l->w_v = arena_array(l->ctx->arena, (size_t)l->of.channels, sizeof *l->w_v);
  l->w_at = NEW_ARRAY(l->ctx->arena, uint8_t, n);
  for (int64_t i = 0; i < n; i++)
    if (weight_add(l, weight_channel(&l->of, i), (double)data[i]) < 0) return false;
  for (int64_t i = 0; i < n; i++) l->w_at[i] = (uint8_t)weight_add(l, weight_channel(&l->of, i), (double)data[i]);
  return true;
}

// A base as one more term, the same code everywhere.
static bool base_as_term(Terms *t, uint32_t n) {
  if (t->base == 0) return true;
  if (t->n == TERMS_MAX) return false;
  for (uint32_t i = 0; i < n; i++) t->code[t->n][i] = 1;
  t->scale[t->n++] = t->base;
  t->base = 0;
  return true;
}

static bool channel_terms(const CodedLayer *l, TermsForm form, int64_t c, Terms *t) {
  uint32_t n = l->w_n[c];
  if (!terms_find(form, n, l->w_v[c], t) || !base_as_term(t, n)) return false;
  for (uint32_t k = 0; k < t->n; k++)
    for (uint32_t i = 0; i < n; i++)
      if (t->code[k][i] > 127) return false;  // weights are signed
  return true;
}

// One form for all channels; a channel it has no room for may still be a grid. All grids are one form only.
static bool weight_terms(const CodedLayer *l, TermsForm form, Terms *t, uint32_t *n) {
  bool all_one = true;
  *n = 1;
  for (int64_t c = 0; c < l->of.channels && all_one; c++) all_one = channel_terms(l, TERMS_GRID, c, &t[c]);
  if (all_one || form == TERMS_GRID) return all_one && form == TERMS_GRID;
  for (int64_t c = 0; c < l->of.channels; c++) {
    if (!channel_terms(l, form, c, &t[c]) && !channel_terms(l, TERMS_GRID, c, &t[c])) return false;
    *n = t[c].n > *n ? t[c].n : *n;
  }
  return true;
}

// ---- the integer form

static Value *term_weights(const CodedLayer *l, const Terms *t, uint32_t j) {
  const Value *w = op_in(l->op, 1);
  int64_t n = type_count(w->type);
  double *q = NEW_ARRAY(l->ctx->arena, double, n);
  for (int64_t i = 0; i < n; i++) {
    const Terms *of = &t[weight_channel(&l->of, i)];
    q[i] = j < of->n ? (double)of->code[j][l->w_at[i]] : 1;  // scaled by 0
  }
  return const_of_doubles(l->m, type_with_dtype(l->m->types, w->type, DT_I8), q, w->constant->name);
}

static Value *emit_sum(CodedLayer *l, Value *q, Value *w) {
  Op *now = op_new(l->op->func, l->op, l->op->kind, 2, (Value *[]){q, w}, l->op->loc);
  op_copy_attrs(now, l->op);
  now->out[0]->type = type_with_dtype(l->m->types, l->op->out[0]->type, DT_I32);
  return now->out[0];
}

static Value *emit(CodedLayer *l, OpKind kind, DType t, Value *x, Value *y) {
  return graph_emit(l->op, kind, y ? 2 : 1, (Value *[]){x, y}, type_with_dtype(l->m->types, l->op->out[0]->type, t),
                    l->op->loc);
}

static Value *channel_numbers(const CodedLayer *l, const double *v) {
  bool equal = true;
  for (int64_t c = 1; c < l->of.channels; c++) equal = equal && v[c] == v[0];
  if (equal) return const_splat(l->m, type_scalar(l->m->types, DT_F32), v[0]);
  return const_of_doubles(l->m, type_tensor(l->m->types, DT_F32, 1, &l->of.channels), v, NULL);
}

static Value *emit_scaled(CodedLayer *l, Value *sum, double x_scale, const Terms *w, uint32_t j) {
  double *by = NEW_ARRAY(l->ctx->arena, double, l->of.channels);
  for (int64_t c = 0; c < l->of.channels; c++) by[c] = j < w[c].n ? x_scale * w[c].scale[j] : 0;
  return emit(l, OP_MUL, DT_F32, emit(l, OP_CAST, DT_F32, sum, NULL), channel_numbers(l, by));
}

// What the part of x that is the same everywhere adds: known but for its padding, folded later.
static Value *emit_base(CodedLayer *l, double base) {
  Value *x = const_splat(l->m, op_in(l->op, 0)->type, base), *in[2] = {x, op_in(l->op, 1)};
  Op *now = op_new(l->op->func, l->op, l->op->kind, 2, in, l->op->loc);
  op_copy_attrs(now, l->op);
  now->out[0]->type = l->op->out[0]->type;
  return now->out[0];
}

static double price_of(const CodedLayer *l, const Op *op) {
  double best = INFINITY;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    Price p;
    if (!s->applies(op, l->ctx->target)) continue;
    s->price(op, l->ctx->target, &p);
    best = fmin(best, price_total(&p));
  }
  return best;
}

// Element-wise work around the contractions: codes from x, sums to one number.
static double price_around(const CodedLayer *l, const Terms *x, uint32_t sums) {
  const Target *t = l->ctx->target;
  double lanes = (double)t->vector_bits / 32, per_x = (double)(l->n - 1) * x->n, per_y = 3.0 * (sums - 1) + 1;
  return (double)type_count(op_in(l->op, 0)->type) / lanes * per_x +
         (double)type_count(l->op->out[0]->type) / lanes * per_y + x->n * t->call_cycles;
}

static void try_form(CodedLayer *l, const Terms *x, const Terms *w, uint32_t n_w, TermsForm w_form) {
  Value *y = NULL, *high = NULL;
  double cycles = price_around(l, x, x->n * n_w);
  for (uint32_t j = 0; j < n_w; j++) {
    Value *weights = term_weights(l, w, j);
    for (uint32_t k = 0; k < x->n; k++) {
      Value *sum = emit_sum(l, codes_input(l, x, k), weights);
      cycles += price_of(l, sum->op);
      if (x->form == TERMS_BYTES && k == 0) {
        high = emit(l, OP_SHL, DT_I32, sum, const_splat_int(l->m, type_scalar(l->m->types, DT_I32), 8));
        continue;
      }
      if (x->form == TERMS_BYTES) sum = emit(l, OP_ADD, DT_I32, sum, high);
      Value *part = emit_scaled(l, sum, x->scale[k], w, j);
      y = y == NULL ? part : emit(l, OP_ADD, DT_F32, y, part);
    }
  }
  if (cycles >= l->best) return;
  if (x->base != 0) y = emit(l, OP_ADD, DT_F32, y, emit_base(l, x->base));
  if (op_in(l->op, 2) != NULL) y = emit(l, OP_ADD, DT_F32, y, op_in(l->op, 2));
  l->best = cycles;
  l->y = y;
  l->x_form = x->form;
  l->w_form = w_form;
  l->contractions = x->n * n_w;
}

// Do 31 bits hold every sum?
static bool sums_fit(const CodedLayer *l, const Terms *x) {
  double most = 0;
  for (uint32_t i = 0; i < l->n; i++) {
    double whole = x->form == TERMS_BYTES ? 256.0 * x->code[0][i] + x->code[1][i] : 255;
    most = fmax(most, fabs(whole));
  }
  return most * 127 * (double)(type_count(op_in(l->op, 1)->type) / l->of.channels) < 0x1p31;
}

static bool rewrite(CodedLayer *l) {
  Terms x, *w = NEW_ARRAY(l->ctx->arena, Terms, l->of.channels);
  double before = price_of(l, l->op), us = 1e-3 / l->ctx->target->ghz;
  uint32_t n_w;
  l->best = INFINITY;
  for (TermsForm wf = 0; wf < TERMS_FORMS; wf++) {
    if (!weight_terms(l, wf, w, &n_w)) continue;
    bool one = false;
    for (TermsForm xf = 0; xf < TERMS_FORMS && !one; xf++) {
      if (!terms_find(xf, l->n, l->v, &x) || !sums_fit(l, &x)) continue;
      try_form(l, &x, w, n_w, wf);
      one = xf == TERMS_GRID;
    }
  }
  if (l->y == NULL) return false;
  if (l->best >= 0.9 * before) {
    note_drop(l->m, l->op, NOTE_FLOAT);
    note_layer(l->m, l->op, NOTE_FLOAT,
               "float is faster: %.2f us against %.2f us for %u integer contractions (%s by %s)", before * us,
               l->best * us, l->contractions, terms_form_text(l->x_form), terms_form_text(l->w_form));
    return false;
  }
  note_drop(l->m, l->op, NOTE_FLOAT);
  note_layer(l->m, l->op, NOTE_RECOVERED, "input of %u values as %s, weights as %s: %u exact integer contractions",
             l->n, terms_form_text(l->x_form), terms_form_text(l->w_form), l->contractions);
  l->y->name = l->op->out[0]->name;
  value_replace(l->op->out[0], l->y);
  return true;
}

bool codes_layers(PassCtx *ctx, Func *f) {
  Sets *sets = sets_new(ctx->m, ctx->arena);
  Map *sources = map_new(ctx->arena);
  bool changed = false;
  for (Op *op = f->first; op != NULL; op = op->next) {
    sets_visit(sets, op);
    Value *source = op->n_out == 1 ? codes_source(ctx->m, sources, op->out[0]) : NULL;
    if (source != NULL) map_set(sources, op->out[0]->id + 1u, source);
    if ((op->kind != OP_CONV && op->kind != OP_MATMUL) || op->out[0]->n_uses == 0) continue;
    CodedLayer l = {.ctx = ctx, .m = ctx->m, .op = op, .sources = sources};
    if (!read_geometry(&l) || !bias_fits(&l) || !read_values(&l, sets_of(sets, op_in(op, 0))) || !read_weights(&l))
      continue;
    changed |= rewrite(&l);
  }
  graph_drop_dead(f);
  return changed;
}
