// Pass prune: the smallest weights of layers become 0, as asked for by --prune, where that makes them cheaper (S41).
//
//   --prune=0.9   --prune=threshold=0.01:fc*   --prune=2:4   --prune=block=16x1:0.8
//
//   const @w = [0.1, -3, 2, -0.2]   =>   const @w = [0, -3, 2, 0]          --prune=2:4
//
// Counts are exact, of equal magnitudes the first in the file goes first, and the error is the root of the sum of the
// squares of what went. For every layer the last spec whose pattern fits its name holds. The layer as `plan` would run
// it with the zeros is compared with the dense one: where it is not faster nothing is pruned, and the note says by how
// much it would have lost (:force skips that; --optimize=size prunes whatever the time).
//
// channels=PART zeroes whole input channels and refits the others to the inputs that the layer has in samples of --data
// (S38; refit.h); pass `channels` takes out the filters that made them. Its error is that of the layer's results over
// the samples, relative.
//
//   prune{0.5:force,max-error=0.1}   the options in a pipeline
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/compress/prune.h"
#include "ir/elem.h"
#include "ir/note.h"
#include "passes/compress/factorize.h"
#include "passes/compress/moments.h"
#include "passes/compress/refit.h"
#include "passes/graph_util.h"
#include "passes/price.h"

typedef struct Prune {
  PassCtx *ctx;
  Arena *arena;
  double max_error;
  bool by_size;
  VEC(PruneSpec) specs;
} Prune;

static bool read_argument(Prune *p, const char *text) {
  if (strcmp(text, "size") == 0) {
    p->by_size = true;
    return true;
  }
  if (strncmp(text, "max-error=", 10) == 0) {
    p->max_error = strtod(text + 10, NULL);
    return true;
  }
  PruneSpec spec;
  if (!prune_spec_read(text, p->arena, p->ctx->diag, &spec)) return false;
  vec_push(p->arena, &p->specs, spec);
  return true;
}

static bool read_options(Prune *p) {
  const PassOptions *opt = p->ctx->opt;
  p->max_error = opt->max_error;
  p->by_size = opt->by_size;
  for (uint32_t i = 0; i < opt->n_prune; i++)
    if (!read_argument(p, opt->prune[i])) return false;
  char *args = arena_printf(p->arena, "%s", p->ctx->args), *rest = NULL;
  for (char *part = strtok_r(args, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest))
    if (!read_argument(p, part)) return false;
  return true;
}

static PruneSpec *spec_of(Prune *p, const Op *op) {
  for (uint32_t i = p->specs.n; i-- > 0;) {
    PruneSpec *s = &p->specs.at[i];
    if (s->layers != NULL && !layer_is_named(op->loc, s->layers)) continue;
    s->used = true;
    return s;
  }
  return NULL;
}

// Of weights as the file stores them.
static PruneShape shape_of(const Op *op, const FactorLayer *l) {
  PruneShape s = {.out = l->out, .in = l->in / l->group, .taps = layer_taps(l), .s_tap = 1};
  bool rows = op->kind == OP_CONV || op_bool(op, A_MATMUL_trans_b);
  s.s_out = rows ? s.in * s.taps : 1;
  s.s_in = rows ? s.taps : s.out;
  return s;
}

static Value *pruned_weights(Module *m, Const *c, const bool *drop) {
  const Type *t = c->type;
  void *bytes = arena_copy(m->arena, const_data(m, c), (size_t)type_bytes(t));
  for (int64_t i = 0; i < type_count(t); i++)
    if (drop[i]) elem_set_f(bytes, t->dtype, i, 0);
  return const_borrowed(m, t, bytes, c->name);
}

// Microseconds of the cheaper of the layer with its zeros as it stands and the dense kernels. A convolution stands here
// channels first, which only strategies for zeros read.
static double price_us(const Prune *p, const FactorLayer *l, const Op *op, Value *w) {
  const Target *t = p->ctx->target;
  double cycles = layer_price(l, t);
  Op *pruned = op_new(op->func, NULL, op->kind, 2, (Value *[]){op_in(op, 0), w}, op->loc);
  op_copy_attrs(pruned, op);
  pruned->out[0]->type = op->out[0]->type;
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    Price price;
    if (strcmp(s->name, "loop") == 0 || !s->applies(pruned, t)) continue;
    s->price(pruned, t, &price);
    cycles = fmin(cycles, price_total(&price));
  }
  op_unlink(pruned);
  return cycles * 1e-3 / t->ghz;
}

static bool pays(const Prune *p, const PruneSpec *spec, Factored *r) {
  if (p->max_error > 0 && r->theory > p->max_error) {
    r->why = arena_printf(p->ctx->m->arena, "%s has an error of %.4g, above --max-error=%.3g", r->form, r->theory,
                          p->max_error);
    return false;
  }
  if (spec->force || p->by_size || r->us_after < r->us) return true;
  r->why = arena_printf(p->ctx->m->arena,
                        "%s leaves %lld of %lld weights and would take %.2f us, the dense layer takes %.2f us", r->form,
                        (long long)r->parameters_after, (long long)r->parameters, r->us_after, r->us);
  return false;
}

static void note(const Prune *p, const Op *op, const Factored *r) {
  if (!r->applied) {
    note_layer(p->ctx->m, op, NOTE_PRUNED, "not pruned: %s", r->why);
    return;
  }
  note_layer(p->ctx->m, op, NOTE_PRUNED,
             "%s: %lld -> %lld weights that are not 0, error %.6g (%.4g of the norm), price %.2f -> %.2f us", r->form,
             (long long)r->parameters, (long long)r->parameters_after, r->measured, r->theory, r->us, r->us_after);
}

static void record(const Prune *p, const Factored *r) {
  FactorReport *report = p->ctx->opt->factored;
  if (report == NULL) return;
  Factored f = *r;
  f.measured = f.theory;
  f.reach_error = -1;
  f.form = arena_printf(report->arena, "%s", f.form);
  if (f.why != NULL) f.why = arena_printf(report->arena, "%s", f.why);
  vec_push(report->arena, &report->layers, f);
}

static int64_t count_nonzeros(int64_t n, const double *w) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) count += w[i] != 0;
  return count;
}

static bool choose(Prune *p, const PruneSpec *spec, Op *op, const FactorLayer *l, Factored *r) {
  Module *m = p->ctx->m;
  Const *c = op_in(op, 1)->constant;
  PruneShape shape = shape_of(op, l);
  double *w = NEW_ARRAY(p->arena, double, l->n_w), error2,
         share = l->batch > 0 ? (double)layer_macs(l) / (double)l->n_w : 0;
  bool *drop = NEW_ARRAY(p->arena, bool, l->n_w);
  for (int64_t i = 0; i < l->n_w; i++) w[i] = const_f(m, c, i);
  prune_mark(spec, &shape, w, drop, &error2, p->arena);
  r->parameters = count_nonzeros(l->n_w, w);
  for (int64_t i = 0; i < l->n_w; i++)
    if (drop[i]) w[i] = 0;
  r->parameters_after = count_nonzeros(l->n_w, w);
  r->macs = layer_macs(l);
  r->macs_after = share * (double)r->parameters_after;
  r->form = arena_printf(m->arena, "prune %s", spec->text);
  r->measured = sqrt(error2);
  r->theory = l->norm2 > 0 ? sqrt(error2 / l->norm2) : 0;
  Value *now = pruned_weights(m, c, drop);
  r->us = price_us(p, l, op, op_in(op, 1));
  r->us_after = price_us(p, l, op, now);
  if (r->parameters_after == r->parameters) r->why = "no weight that is not 0 would go";
  r->applied = r->why == NULL && pays(p, spec, r);
  if (r->applied) op_set_operand(op, 1, now);
  return r->applied;
}

// ---- channels

// Weights as Refit wants them, the bias behind.
static double *refit_weights(Prune *p, const Op *op, const FactorLayer *l) {
  Module *m = p->ctx->m;
  PruneShape s = shape_of(op, l);
  const Value *bias = op_in(op, 2);
  int64_t k = l->in * s.taps + 1, n_bias = bias ? type_count(bias->type) : 0;
  double *w = NEW_ARRAY(p->arena, double, k * l->out);
  for (int64_t o = 0; o < l->out; o++) {
    for (int64_t i = 0; i + 1 < k; i++)
      w[i * l->out + o] = const_f(m, op_in(op, 1)->constant, o * s.s_out + i / s.taps * s.s_in + i % s.taps * s.s_tap);
    if (bias) w[(k - 1) * l->out + o] = const_f(m, bias->constant, n_bias == 1 ? 0 : o);
  }
  return w;
}

static void refit_apply(Prune *p, Op *op, const FactorLayer *l, const double *w) {
  Module *m = p->ctx->m;
  PruneShape s = shape_of(op, l);
  Value *old = op_in(op, 1);
  int64_t k = l->in * s.taps + 1;
  double *v = NEW_ARRAY(p->arena, double, l->n_w);
  for (int64_t o = 0; o < l->out; o++)
    for (int64_t i = 0; i + 1 < k; i++) v[o * s.s_out + i / s.taps * s.s_in + i % s.taps * s.s_tap] = w[i * l->out + o];
  const Type *bt = type_tensor(m->types, l->dtype, 1, &l->out);
  Value *bias = const_of_doubles(m, bt, w + (k - 1) * l->out, NULL);
  op_set_operands(op, 3, (Value *[]){op_in(op, 0), const_of_doubles(m, old->type, v, old->constant->name), bias});
}

static bool bias_fits(const Op *op, const FactorLayer *l) {
  const Value *bias = op_in(op, 2);
  return !bias || (value_is_const(bias) && (type_count(bias->type) == 1 || type_count(bias->type) == l->out));
}

static void choose_channels(Prune *p, const PruneSpec *spec, Op *op, const FactorLayer *l, Factored *r) {
  const PassOptions *opt = p->ctx->opt;
  int64_t drop = (int64_t)floor(spec->value * (double)l->in + 0.5);
  if (drop >= l->in) drop = l->in - 1;
  r->form = arena_printf(p->ctx->m->arena, "prune %s", spec->text);
  if (drop <= 0) r->why = "no channel would go";
  if (!bias_fits(op, l)) r->why = "its bias is not one number per output";
  Refit f = {.channels = l->in, .taps = layer_taps(l), .out = l->out};
  if (r->why == NULL) f.g = layer_moments(l, opt, &r->why, p->arena);
  if (r->why != NULL) return;
  int64_t k = f.channels * f.taps + 1;
  double *w = NEW_ARRAY(p->arena, double, k * l->out), *zero = NEW_ARRAY(p->arena, double, k * l->out), error2, plain2;
  bool *gone = NEW_ARRAY(p->arena, bool, l->in);
  f.w = refit_weights(p, op, l);
  if (!refit_channels(&f, drop, gone, w, &error2, &plain2, p->arena)) {
    r->why = "its moments could not be decomposed";
    return;
  }
  FactorLayer less = *l;
  less.in -= drop;
  double norm2 = refit_error2(&f, zero, p->arena);
  r->parameters = l->n_w;
  r->parameters_after = l->n_w / l->in * less.in;
  r->macs = layer_macs(l);
  r->macs_after = r->macs * (double)less.in / (double)l->in;
  r->measured = sqrt(error2);
  r->theory = norm2 > 0 ? sqrt(error2 / norm2) : 0;
  r->us = layer_price(l, p->ctx->target) * 1e-3 / p->ctx->target->ghz;
  r->us_after = layer_price(&less, p->ctx->target) * 1e-3 / p->ctx->target->ghz;
  r->applied = pays(p, spec, r);
  if (!r->applied) return;
  r->form = arena_printf(p->ctx->m->arena, "%s (without refit the error is %.4g of the norm)", r->form,
                         norm2 > 0 ? sqrt(plain2 / norm2) : 0);
  refit_apply(p, op, l, w);
}

static bool layer_prune(Prune *p, Op *op) {
  const char *why = NULL;
  const PruneSpec *spec = op->kind == OP_CONV || op->kind == OP_MATMUL ? spec_of(p, op) : NULL;
  if (spec == NULL) return false;
  ArenaMark mark = arena_mark(p->arena);
  FactorLayer l;
  Factored r = {.loc = op->loc, .form = "prune"};
  if (!layer_read(op, &l, p->arena, &why)) {
    r.why = why;
  } else if (spec->kind == PRUNE_CHANNELS) {
    choose_channels(p, spec, op, &l, &r);
  } else {
    choose(p, spec, op, &l, &r);
  }
  note(p, op, &r);
  record(p, &r);
  arena_reset(p->arena, mark);
  return r.applied;
}

PassResult pass_prune(PassCtx *ctx) {
  Prune p = {.ctx = ctx, .arena = ctx->arena};
  if (!read_options(&p)) return PASS_FAILED;
  bool changed = false;
  for (Op *op = p.specs.n ? ctx->m->funcs.at[0]->first : NULL, *next; op != NULL; op = next) {
    next = op->next;
    changed |= layer_prune(&p, op);
  }
  for (uint32_t i = 0; i < p.specs.n; i++)
    if (!p.specs.at[i].used) {
      diag_error(ctx->diag, DIAG_USAGE, NULL,
                 "--prune=%.100s: no layer that it could hold for; qcc inspect lists their names", p.specs.at[i].text);
      return PASS_FAILED;
    }
  return changed ? PASS_CHANGED : PASS_SAME;
}
