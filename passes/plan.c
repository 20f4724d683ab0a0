// Pass `plan`: one kernel strategy per contraction, the cheapest by the price model, written on the op as data.
//
// Ops that carry a plan already (written by hand in a test, or kept from before) are left alone: lowering obeys what is
// written. With --explain every price is reported.
#include <string.h>

#include "passes/pass.h"
#include "passes/price.h"

static bool is_contraction(OpKind k) { return k == OP_CONV || k == OP_CONV_TRANSPOSE || k == OP_MATMUL; }

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

PassResult pass_plan(PassCtx *ctx) {
  PassResult result = PASS_SAME;
  for (uint32_t f = 0; f < ctx->m->funcs.n; f++) {
    for (Op *op = ctx->m->funcs.at[f]->first; op != NULL; op = op->next) {
      if (!is_contraction(op->kind) || op_plan(op) != NULL) continue;
      if (is_explained(ctx->opt, op)) explain(ctx, op);
      Plan p = plan_choose(op, ctx->target);
      op_set_plan(op, &p);
      result = PASS_CHANGED;
    }
  }
  return result;
}
