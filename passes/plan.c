// Pass `plan`: one kernel strategy per contraction, the cheapest by the price model, written on the op as data.
//
// plan{no-multiply} is --require=no-multiply: strategies without products where one applies. plan{direct} leaves out
// transformed tiles, as --fp=strict and --optimize=size do; plan{size} is the latter, which also takes words of several
// weights whatever they cost.
// Ops that carry a plan already (written by hand in a test, or kept from before) are left alone: lowering obeys what is
// written. With --explain every price is reported. Every contraction leaves a note on the arithmetic it gets.
#include <string.h>

#include "ir/note.h"
#include "passes/like.h"
#include "passes/lowbit.h"
#include "passes/lower/codebook.h"
#include "passes/pass.h"
#include "passes/price.h"
#include "passes/range.h"
#include "passes/truth.h"
#include "passes/winograd.h"

#define LEAST_ZEROS 0.2  // worth a word

static bool is_contraction(OpKind k) {
  return k == OP_CONV || k == OP_CONV_TRANSPOSE || k == OP_MATMUL || k == OP_CHAIN;
}

static const char *plan_text(Arena *arena, const Plan *p) {
  StrBuf text;
  strbuf_init(&text, arena);
  strbuf_puts(&text, p->strategy);
  for (uint32_t i = 0; i < p->n; i++) {
    strbuf_printf(&text, "%s%s = %lld", i == 0 ? "(" : ", ", p->param[i].name, (long long)p->param[i].value);
  }
  if (p->n > 0) strbuf_putc(&text, ')');
  return strbuf_str(&text);
}

static bool is_named(const Loc *loc, const char *name) {
  for (; loc != NULL; loc = loc->next) {
    if (loc->node_name != NULL && strcmp(loc->node_name, name) == 0) return true;
    if (loc->output != NULL && strcmp(loc->output, name) == 0) return true;
  }
  return false;
}

static bool is_explained(const PassOptions *opt, const Op *op) {
  bool all = opt->explain_layer == NULL || *opt->explain_layer == 0;
  return opt->explain && (all || is_named(op->loc, opt->explain_layer));
}

static void explain(PassCtx *ctx, const Op *op) {
  const Target *t = ctx->target;
  double zeros, even;
  if (price_break_even(op, t, &zeros, &even))
    diag_note(ctx->diag, op->loc, "zeros %.1f %%, break-even %.1f %% for this shape", 100 * zeros, 100 * even);
  for (uint32_t i = 0; i < strategy_count(); i++) {
    const Strategy *s = strategy_at(i);
    if (!s->applies(op, t)) {
      diag_note(ctx->diag, op->loc, "%s: does not apply", s->name);
      continue;
    }
    Price p;
    s->price(op, t, &p);
    diag_note(ctx->diag, op->loc, "%s: %.2f us (compute %.2f, memory %.2f, fixed %.2f)", plan_text(ctx->arena, &p.plan),
              price_total(&p) / t->ghz / 1e3, p.compute / t->ghz / 1e3, p.memory / t->ghz / 1e3,
              p.fixed / t->ghz / 1e3);
  }
}

// Bits that tell the values of an operand apart, as far as the graph says what they are.
static uint32_t value_bits(const Value *v) {
  const DTypeInfo *t = dtype_info(v->type->dtype);
  if (dtype_is_float(v->type->dtype)) return t->bits;
  Range r = value_range(v);
  uint32_t bits = 1;
  if (r.n == 2) return 1;
  while (bits < t->bits && (r.lo < 0 ? r.lo < -(INT64_C(1) << (bits - 1)) || r.hi >= INT64_C(1) << (bits - 1)
                                     : r.hi >= INT64_C(1) << bits))
    bits++;
  return bits;
}

// Straight code holds every value once, and which one in the instruction,
// tables of bits hold all weights of a column at once.
uint32_t plan_weight_bits(const Op *op, const Plan *p) {
  LowBit fields;
  Codebook book;
  if (strcmp(p->strategy, "stream") == 0 && lowbit_of(op, &fields)) return fields.book != NULL ? 8 : fields.bits;
  TruthShape truth;
  if (strcmp(p->strategy, "truth") == 0 && truth_shape(op, &truth))
    return (uint32_t)(((int64_t)truth.y_bits << truth.fan) + truth.k - 1) / (uint32_t)truth.k;
  if (strcmp(p->strategy, "sparse") == 0 && plan_param(p, "bits", 0) > 0) return (uint32_t)plan_param(p, "bits", 0);
  bool code = strcmp(p->strategy, "code") == 0;
  if ((code || plan_param(p, "once", 0) != 0) && codebook_of(op, &book)) return (book.bits + book.run - 1) / book.run;
  return strcmp(p->strategy, "codebook") == 0 ? 8 : value_bits(op_in(op, 1));
}

// Bits of an input as it is multiplied: floats may be slices of bytes.
static uint32_t input_bits(const Op *op, const Plan *p) {
  int64_t slices = plan_param(p, "slices", 0);
  TruthShape truth;
  if (strcmp(p->strategy, "truth") == 0 && truth_shape(op, &truth)) return truth.x_bits;
  return slices > 0 ? 8 * (uint32_t)slices : value_bits(op_in(op, 0));
}

// Do the tiles of a Winograd plan stay inside their share of the gate on this layer's weights? Notes what they err.
static bool rounds_well(PassCtx *ctx, const Op *op, const Plan *p) {
  ConvGeom g;
  WinoAxis y, x;
  if (!strategy_transforms(p->strategy) || !wino_geom(op, &g) || !wino_of_plan(p, &g, &y, &x)) return true;
  double error = wino_error(op, &g, y.size[0], x.size[0]);
  note_layer(
      ctx->m, op, NOTE_ROUNDING,
      "tiles of %lld x %lld: error %.2g of the gate of a direct sum on sampled inputs, at most %.3g times that of "
      "a direct sum%s",
      (long long)y.size[0], (long long)x.size[0], error, wino_bound(y.size[0], x.size[0]),
      error <= WINO_SHARE ? "" : ": not used");
  return error <= WINO_SHARE;
}

static void note_emitted(PassCtx *ctx, const Op *op, const Plan *p) {
  const Value *x = op_in(op, 0), *w = op_in(op, 1);
  note_precision(ctx->m, op, NOTE_EMITTED, plan_weight_bits(op, p), input_bits(op, p), "%s x %s -> %s as %s",
                 dtype_info(x->type->dtype)->name, dtype_info(w->type->dtype)->name,
                 dtype_info(op->out[0]->type->dtype)->name, plan_text(ctx->arena, p));
}

// Weights with zeros are told from which share of them on leaving them out pays.
static void note_zeros(PassCtx *ctx, const Op *op, const Plan *p) {
  double zeros, even;
  if (!value_is_const(op_in(op, 1)) || !price_break_even(op, ctx->target, &zeros, &even) || zeros < LEAST_ZEROS) return;
  note_layer(ctx->m, op, NOTE_ZEROS,
             "%.1f %% of the weights; products by non-zeros are faster from %.1f %% on, %s taken", 100 * zeros,
             100 * even, p->strategy);
}

// For size, weights of few floats are held as codes whatever time that takes.
static void plan_of_codes(const PassCtx *ctx, const Op *op, Plan *p) {
  Price price;
  if (!ctx->opt->by_size || !price_by(op, ctx->target, "codebook", &price)) return;
  if (plan_weight_bits(op, &price.plan) < plan_weight_bits(op, p)) *p = price.plan;
}

// Words that come again in an output channel (S60): inputs that meet the same one could be added up first. That saves
// products but adds as many times, and an addition takes as long as a multiply-add: with FMA it is never taken.
static void note_words(PassCtx *ctx, const Op *op) {
  Codebook book;
  WordSharing s;
  if (!codebook_of(op, &book) || !codebook_sharing(op, &book, &s)) return;
  double blocks = (double)s.blocks, cost = ctx->target->has_fma ? 1 + s.mean / blocks : (1 + 2 * s.mean / blocks) / 2;
  note_layer(
      ctx->m, op, NOTE_STORED,
      "%u words of %u weights; of %lld in a channel %.1f are different, %lld in the channel with the most: adding "
      "inputs of equal words first saves %.1f %% of the products (%.1f %%) and takes %.2f times the operations",
      book.n, book.run, (long long)s.blocks, s.mean, (long long)s.most, 100 * (1 - s.mean / blocks),
      100 * (1 - (double)s.most / blocks), cost);
}

// The ops of another level's graph by id, or NULL.
static const Op **ops_like(PassCtx *ctx) {
  const Module *like = ctx->opt->like;
  if (like == NULL) return NULL;
  const Op **op = NEW_ARRAY(ctx->arena, const Op *, like->n_ops + ctx->m->n_ops + 1);
  for (uint32_t f = 0; f < like->funcs.n; f++)
    for (const Op *o = like->funcs.at[f]->first; o != NULL; o = o->next) op[o->id] = o;
  return op;
}

// Goes over to the plan of the same layer of another level where that saves a second pack of its weights.
static void take_like(PassCtx *ctx, const Op *op, const Op *like, Plan *p) {
  Plan shared;
  if (like == NULL || like->kind != op->kind || op_plan(like) == NULL) return;
  if (plan_like(op, ctx->target, op_plan(like), ctx->opt->like_target, p, &shared)) *p = shared;
}

PassResult pass_plan(PassCtx *ctx) {
  const Op **like = ops_like(ctx);
  PassResult result = PASS_SAME;
  unsigned avoid = ctx->opt->strict_fp ? AVOID_DROPPED_TERMS | AVOID_TRANSFORMS : 0;
  bool by_size = ctx->opt->by_size || strcmp(ctx->args, "size") == 0;
  if (by_size || strcmp(ctx->args, "direct") == 0) avoid |= AVOID_TRANSFORMS;
  if (by_size) avoid |= PREFER_WORDS;
  if (ctx->opt->no_multiply || strcmp(ctx->args, "no-multiply") == 0) avoid |= AVOID_MULTIPLY;
  for (uint32_t f = 0; f < ctx->m->funcs.n; f++) {
    for (Op *op = ctx->m->funcs.at[f]->first; op != NULL; op = op->next) {
      if (!is_contraction(op->kind)) continue;
      if (op_plan(op) != NULL) {
        note_emitted(ctx, op, op_plan(op));
        continue;
      }
      if (is_explained(ctx->opt, op)) explain(ctx, op);
      Plan p = plan_choose_avoiding(op, ctx->target, avoid);
      if (!rounds_well(ctx, op, &p)) p = plan_choose_avoiding(op, ctx->target, avoid | AVOID_TRANSFORMS);
      plan_of_codes(ctx, op, &p);
      if (like) take_like(ctx, op, like[op->id], &p);
      op_set_plan(op, &p);
      note_zeros(ctx, op, &p);
      note_words(ctx, op);
      note_emitted(ctx, op, &p);
      result = PASS_CHANGED;
    }
  }
  return result;
}
