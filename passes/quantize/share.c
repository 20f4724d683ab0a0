// Pass share: constant float weights take few values, as asked for by --share, where that makes their layers faster.
//
//   --share=kmeans:levels=16:channel   --share=pq:levels=256:width=9:conv*   --share=laplace1:levels=255:network
//
//   const @w = [0.11, 0.09, -0.3, -0.31]   =>   const @w = [0.1, 0.1, -0.305, -0.305]      --share=kmeans:levels=2
//
// Batch norms and biases go into the weights first. For every layer the last spec whose pattern fits its name holds.
// The strategies that hold codes (codebook, stream, lut, sparse) read the few values back out of the constant; what a
// matrix product has on a grid becomes a dequantize. Where the best plan of the layer with these weights is not faster
// than that of the floats the layer stays as it is, and the note says by how much it would have lost (:force skips
// that;
// --optimize=size compares bytes of weights instead). :network makes one book for all layers of the spec.
//
// pq weighs errors by the inputs in samples of --data (moments.h), where there are any.
//
//   share{kmeans:levels=4:force,max-error=0.1,size}   the options in a pipeline
#include "passes/quantize/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "ir/note.h"
#include "passes/compress/measure.h"
#include "passes/compress/moments.h"
#include "passes/compress/network.h"
#include "passes/fuse/fuse.h"
#include "passes/graph_util.h"
#include "passes/lower/codebook.h"
#include "passes/price.h"

enum { BYTE_CODES = 256 };

typedef struct Share {
  PassCtx *ctx;
  Arena *arena;
  double max_error, network_error;
  bool by_size;
  VEC(ShareSpec) specs;
  VEC(NetworkLayer) taken;  // layers that may take their weights
  VEC(uint32_t) record;     // ... and their records
  VEC(Shared) records;
  Func *dense;    // the function as it was
  Value **twins;  // by op id, the first result of the same op in it
} Share;

// ---- options

static bool read_argument(Share *s, const char *text) {
  if (strcmp(text, "size") == 0) {
    s->by_size = true;
    return true;
  }
  if (strncmp(text, "max-error=", 10) == 0) {
    s->max_error = strtod(text + 10, NULL);
    return true;
  }
  if (strncmp(text, "network-error=", 14) == 0) {
    s->network_error = strtod(text + 14, NULL);
    return true;
  }
  ShareSpec spec;
  if (!share_spec_read(text, s->arena, s->ctx->diag, &spec)) return false;
  vec_push(s->arena, &s->specs, spec);
  return true;
}

static bool read_options(Share *s) {
  const PassOptions *opt = s->ctx->opt;
  s->max_error = opt->max_error;
  s->network_error = opt->network_error;
  s->by_size = opt->by_size;
  for (uint32_t i = 0; i < opt->n_share; i++)
    if (!read_argument(s, opt->share[i])) return false;
  char *args = arena_printf(s->arena, "%s", s->ctx->args), *rest = NULL;
  for (char *part = strtok_r(args, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest))
    if (!read_argument(s, part)) return false;
  return true;
}

static ShareSpec *spec_of(Share *s, const Op *op) {
  if (op->kind != OP_CONV && op->kind != OP_MATMUL) return NULL;
  for (uint32_t i = s->specs.n; i-- > 0;) {
    ShareSpec *spec = &s->specs.at[i];
    if (spec->layers != NULL && !layer_is_named(op->loc, spec->layers)) continue;
    spec->used = true;
    return spec;
  }
  return NULL;
}

// ---- prices

static uint32_t channel_axis(const Op *op) { return op->kind == OP_CONV || op_bool(op, A_MATMUL_trans_b) ? 0 : 1; }

// The weights of a fit for an op: a dequantize with blocks that are whole columns, which passes keep, or floats.
static Value *fit_value(Op *op, const WeightFit *fit) {
  Module *m = op->func->module;
  bool columns = op->kind == OP_MATMUL && fit->spec.grain != GRAIN_BLOCK;
  Value *v = op->kind == OP_MATMUL ? weights_emit(op, fit) : weights_floats(m, fit);
  if (!columns || value_is_const(v)) return v;
  Op *dq = v->op;
  if (fit->spec.grain == GRAIN_CHANNEL) {
    int64_t dims[2] = {1, 1};
    dims[fit->axis] = fit->channels;
    for (uint32_t i = 1; i < dq->n_in; i++) {
      Const *c = op_in(dq, i)->constant;
      const Type *t = type_tensor(m->types, c->type->dtype, 2, dims);
      op_set_operand(dq, i, const_bytes(m, t, const_data(m, c), NULL));
    }
  }
  op_set_int(dq, A_DEQUANTIZE_axis, 1 - (int64_t)fit->axis);
  op_set_int(dq, A_DEQUANTIZE_block, fit->per);
  return v;
}

// The layer alone, channels last, with its own weights (fit NULL) or those of the fit.
static Op *layer_alone(const FactorLayer *l, const WeightFit *fit) {
  Module *m = l->op->func->module;
  const Op *op = l->op;
  bool conv = op->kind == OP_CONV;
  int64_t x[MAX_RANK] = {l->batch}, y[MAX_RANK] = {l->batch}, perm[MAX_RANK];
  for (uint32_t i = 0; i < l->nd; i++) {
    x[1 + i] = l->x[i];
    y[1 + i] = l->y[i];
    perm[i] = 2 + i;
  }
  x[1 + l->nd] = l->in;
  y[1 + l->nd] = l->out;
  perm[l->nd] = 1;
  perm[l->nd + 1] = 0;
  const Type *from = conv ? type_tensor(m->types, l->dtype, l->nd + 2, x) : op_in(op, 0)->type;
  Func *f = func_new(m, "qcc.price", 1, &from);
  m->funcs.n--;  // never listed
  Op *alone = op_new(f, NULL, op->kind, 2, (Value *[]){f->args[0], op_in(op, 1)}, op->loc);
  op_copy_attrs(alone, op);
  value_set_type(op_out(alone, 0), conv ? type_tensor(m->types, l->dtype, l->nd + 2, y) : op_out(op, 0)->type);
  Value *now = fit ? fit_value(alone, fit) : op_in(alone, 1);
  if (conv) {
    op_set_int(alone, A_CONV_layout, LAYOUT_NHWC);
    now = const_permuted(m, now->constant, perm);
  }
  op_set_operand(alone, 1, now);
  return alone;
}

// Bytes of the weights as a plan stores them, with books and scales.
static int64_t stored_bytes(const FactorLayer *l, const Op *op, const Plan *p, const WeightFit *fit) {
  int64_t bytes = (int64_t)ceil((double)l->n_w * plan_weight_bits(op, p) / 8);
  Codebook book;
  if (strcmp(p->strategy, "stream") == 0 && fit) return fit->stats.bytes;
  if (strcmp(p->strategy, "codebook") != 0) return bytes;
  if (plan_param(p, "once", 0) == 0 || !codebook_of(op, &book)) return bytes + 4 * codebook_values(op);
  bytes = (l->n_w / book.run * book.bits + 7) / 8;
  return bytes + 4 * (int64_t)book.n * book.run * (book.columns ? l->out : 1);
}

// The codes of a fit with one book of floats as pass `blocks` writes them for a matrix product: a lookup.
static Value *looked_up(Op *op, const WeightFit *fit) {
  Module *m = op->func->module;
  const WeightGroup *g = &fit->group[0];
  int64_t n = g->n_book;
  uint8_t *codes = NEW_ARRAY(m->arena, uint8_t, fit->n + 1);
  for (int64_t i = 0; i < fit->n; i++) codes[weights_place(fit, i / fit->per, i % fit->per)] = (uint8_t)g->code[i];
  Value *in[2] = {const_bytes(m, type_tensor(m->types, DT_F32, 1, &n), g->book, "book"),
                  const_bytes(m, type_with_dtype(m->types, fit->w->type, DT_U8), codes, NULL)};
  return graph_emit(op, OP_LOOKUP, 2, in, fit->w->type, op->loc);
}

static bool has_lookup(const FactorLayer *l, const WeightFit *fit) {
  return fit && l->op->kind == OP_MATMUL && fit->n_groups == 1 && !fit->group[0].grid && fit->group[0].width == 1 &&
         fit->group[0].n_book <= BYTE_CODES && l->dtype == DT_F32;
}

// Microseconds and bytes of the layer with its own weights (fit NULL) or with those of the fit.
static void price_layer(const Share *s, const FactorLayer *l, const WeightFit *fit, double *us, int64_t *bytes) {
  const Target *t = s->ctx->target;
  Op *op = layer_alone(l, fit);
  Price p = {0}, codes;
  if (!price_best(op, t, &p)) p.fixed = INFINITY;
  if (s->by_size && price_by(op, t, "codebook", &codes)) p = codes;
  *bytes = p.plan.strategy ? stored_bytes(l, op, &p.plan, fit) : l->n_w * dtype_info(l->dtype)->bits / 8;
  if (has_lookup(l, fit)) op_set_operand(op, 1, looked_up(op, fit));
  if (has_lookup(l, fit) && price_by(op, t, "stream", &codes) && price_total(&codes) < price_total(&p)) {
    p = codes;
    *bytes = (int64_t)ceil((double)l->n_w * plan_weight_bits(op, &p.plan) / 8) + 4 * (int64_t)fit->group[0].n_book;
  }
  *us = price_total(&p) * 1e-3 / t->ghz;
  for (Op *each = op->func->first; each; each = each->next) op_set_operands(each, 0, NULL);
}

// ---- choosing

static bool pays(const Share *s, const ShareSpec *spec, Shared *r) {
  Arena *arena = s->ctx->m->arena;
  if (s->max_error > 0 && r->stats.relative > s->max_error) {
    r->why = arena_printf(arena, "%s has an error of %.4g, above --max-error=%.3g", r->form, r->stats.relative,
                          s->max_error);
    return false;
  }
  if (spec->force) return true;
  if (s->by_size) {
    if (r->bytes_after < r->bytes) return true;
    r->why = arena_printf(arena, "%s would take %lld bytes, the layer takes %lld", r->form, (long long)r->bytes_after,
                          (long long)r->bytes);
    return false;
  }
  if (r->us_after < r->us) return true;
  r->why = arena_printf(arena, "%s would take %.2f us, %.2f times the layer's %.2f us", r->form, r->us_after,
                        r->us > 0 ? r->us_after / r->us : 1, r->us);
  return false;
}

// The book of all layers of a spec with :network, found once.
static bool network_book(Share *s, ShareSpec *spec, const char **why) {
  VEC(float) all = {0};
  WeightFit fit;
  if (!spec->network || spec->weights.book != NULL) return true;
  for (const Op *op = s->ctx->m->funcs.at[0]->first; op; op = op->next) {
    const Value *w = op->n_in > 1 ? op_in(op, 1) : NULL;
    if (spec_of(s, op) != spec || !value_is_const(w) || w->type->dtype != DT_F32) continue;
    const AnyF32 *v = const_data(s->ctx->m, w->constant);
    for (int64_t i = 0, n = type_count(w->type); i < n; i++) vec_push(s->arena, &all, v[i]);
  }
  if (!weights_fit_floats(all.at, 1, all.n, &spec->weights, NULL, s->arena, &fit, why)) return false;
  spec->weights.book = arena_copy(s->ctx->arena, fit.group[0].book, fit.group[0].n_book * sizeof(float));
  spec->weights.n_book = fit.group[0].n_book;
  return true;
}

static bool fit_layer(Share *s, ShareSpec *spec, const FactorLayer *l, WeightFit *fit, const char **why) {
  WeightMoments moments = {0};
  const char *none;
  const Value *w = op_in(l->op, 1);
  if (!network_book(s, spec, why)) return false;
  if (spec->weights.scheme->book == BOOK_VECTORS && s->ctx->opt->n_samples > 0) {
    moments.n = l->in * layer_taps(l);
    moments.g = layer_moments(l, s->ctx->opt, &none, s->arena);
  }
  return weights_fit_scheme(s->ctx->m, w, channel_axis(l->op), &spec->weights, moments.g ? &moments : NULL, s->arena,
                            fit, why);
}

static bool choose(Share *s, ShareSpec *spec, const FactorLayer *l, WeightFit *fit, Shared *r) {
  Module *m = s->ctx->m;
  r->weights = l->n_w;
  if (!fit_layer(s, spec, l, fit, &r->why)) return false;
  r->stats = fit->stats;
  fit->spec.book = NULL;
  r->form = arena_printf(m->arena, "%s%s", weight_spec_text(&fit->spec, s->arena), spec->network ? ", one book" : "");
  price_layer(s, l, NULL, &r->us, &r->bytes);
  price_layer(s, l, fit, &r->us_after, &r->bytes_after);
  return pays(s, spec, r);
}

static void consider(Share *s, ShareSpec *spec, Op *op) {
  Arena *pass = s->arena;
  FactorLayer l;
  WeightFit fit;
  Shared r = {.loc = op->loc, .reach_error = -1, .alone = -1};
  s->arena = arena_new("layer");
  r.applied = layer_read(op, &l, s->arena, &r.why) && choose(s, spec, &l, &fit, &r);
  if (r.applied) {
    NetworkLayer n = {.op = op, .dense = op_in(op, 1), .loss = r.stats.relative, .alone = -1};
    n.factored = fit_value(op, &fit);
    n.saved = s->by_size ? (double)(r.bytes - r.bytes_after) : r.us - r.us_after;
    n.saved = fmax(n.saved, 1e-9);
    vec_push(pass, &s->taken, n);
    vec_push(pass, &s->record, s->records.n);
  }
  arena_free(s->arena);
  s->arena = pass;
  vec_push(s->arena, &s->records, r);
}

// ---- the network

static void keep_dense(Share *s) {
  Func *f = s->ctx->m->funcs.at[0];
  s->dense = func_clone(f, "qcc.dense");
  s->ctx->m->funcs.n--;  // never listed
  s->twins = NEW_ARRAY(s->arena, Value *, s->ctx->m->n_ops + 1);
  for (const Op *op = f->first, *twin = s->dense->first; op; op = op->next, twin = twin->next)
    s->twins[op->id] = twin->out[0];
}

static void leave_out(Share *s, const NetworkFit *fit, Shared *r) {
  Arena *arena = s->ctx->m->arena;
  r->applied = false;
  r->why = fit->reason ? arena_printf(arena, "the error of the results can't be measured: %s", fit->reason)
                       : arena_printf(arena, "%s would bring the error of the results above --max-error=network:%g",
                                      r->form, s->network_error);
}

// Puts the weights in: all of them, or as many as the limit of the results' error allows.
static void apply(Share *s) {
  NetworkFit fit = {.limit = s->network_error};
  if (s->network_error > 0) network_fit(s->ctx->m->funcs.at[0], s->ctx->opt, s->taken.n, s->taken.at, &fit, s->arena);
  for (uint32_t i = 0; i < s->taken.n; i++) {
    NetworkLayer *l = &s->taken.at[i];
    Shared *r = &s->records.at[s->record.at[i]];
    r->alone = l->alone;
    if (s->network_error > 0 && !l->taken) leave_out(s, &fit, r);
    op_set_operand(l->op, 1, r->applied ? l->factored : l->dense);
    if (!r->applied && !value_is_const(l->factored)) op_unlink(l->factored->op);
  }
}

static void measure(Share *s, ShareReport *report) {
  FactorReport f = {.arena = report->arena};
  VEC(const Value *) before = {0}, after = {0};
  VEC(uint32_t) layer = {0};
  for (uint32_t i = 0; i < s->taken.n; i++) {
    const Op *op = s->taken.at[i].op;
    if (!s->records.at[s->record.at[i]].applied) continue;
    vec_push(s->arena, &before, s->twins[op->id]);
    vec_push(s->arena, &after, op->out[0]);
    vec_push(s->arena, &layer, f.layers.n);
    vec_push(report->arena, &f.layers, ((Factored){.change = INFINITY, .weights = INFINITY, .reach_error = -1}));
  }
  if (layer.n == 0) return;
  Measured m = {s->dense, s->ctx->m->funcs.at[0], layer.n, before.at, after.at, layer.at};
  factor_measure(&m, s->ctx->opt, &f);
  report->samples = f.samples;
  report->recorded = f.recorded;
  report->error = f.error;
  report->cosine = f.cosine;
  report->unmeasured = f.unmeasured;
  for (uint32_t i = 0, k = 0; i < s->taken.n; i++) {
    Shared *r = &s->records.at[s->record.at[i]];
    if (!r->applied) continue;
    r->reach_error = f.layers.at[k].reach_error;
    r->cosine = f.layers.at[k++].cosine;
  }
}

static void forget_dense(Share *s) {
  for (Op *op = s->dense->first; op; op = op->next) op_set_operands(op, 0, NULL);
  func_set_results(s->dense, 0, NULL);
}

static void note(const Share *s, const Shared *r, const Op *op) {
  const WeightStats *t = &r->stats;
  if (!r->applied) {
    note_layer(s->ctx->m, op, NOTE_SHARED, "kept: %s", r->why);
    return;
  }
  note_layer(s->ctx->m, op, NOTE_SHARED,
             "%s: %u levels used, %lld different weights, entropy %.3f bits; cosine %.6f, relative error %.4g, largest "
             "%.4g; %lld -> %lld bytes, price %.2f -> %.2f us",
             r->form, t->levels, (long long)t->distinct, t->entropy, t->cosine, t->relative, t->largest,
             (long long)r->bytes, (long long)r->bytes_after, r->us, r->us_after);
}

static void write_report(Share *s) {
  ShareReport *report = s->ctx->opt->shared;
  if (report == NULL) return;
  report->limit = s->network_error;
  measure(s, report);
  for (uint32_t i = 0; i < s->records.n; i++) {
    Shared r = s->records.at[i];
    if (r.form) r.form = arena_printf(report->arena, "%s", r.form);
    if (r.why) r.why = arena_printf(report->arena, "%s", r.why);
    vec_push(report->arena, &report->layers, r);
  }
}

// Of the command line; a pipeline may be meant for many networks.
static bool check_used(const Share *s) {
  for (uint32_t i = 0; i < s->specs.n && i < s->ctx->opt->n_share; i++)
    if (!s->specs.at[i].used)
      return diag_error(s->ctx->diag, DIAG_USAGE, NULL,
                        "--share=%.100s: no layer that it could hold for; qcc inspect lists their names",
                        s->specs.at[i].text);
  return true;
}

PassResult pass_share(PassCtx *ctx) {
  Share s = {.ctx = ctx, .arena = ctx->arena};
  VEC(Op *) ops = {0};
  if (!read_options(&s)) return PASS_FAILED;
  if (s.specs.n == 0) return PASS_SAME;
  Func *f = ctx->m->funcs.at[0];
  bool changed = fuse_affine(ctx, f);
  keep_dense(&s);
  for (Op *op = f->first, *next; op; op = next) {
    next = op->next;
    ShareSpec *spec = spec_of(&s, op);
    if (spec == NULL) continue;
    consider(&s, spec, op);
    vec_push(s.arena, &ops, op);
  }
  apply(&s);
  for (uint32_t i = 0; i < ops.n; i++) note(&s, &s.records.at[i], ops.at[i]);
  write_report(&s);
  forget_dense(&s);
  for (uint32_t i = 0; i < s.records.n; i++) changed = changed || s.records.at[i].applied;
  if (!check_used(&s)) return PASS_FAILED;
  return changed ? PASS_CHANGED : PASS_SAME;
}
