// --require=RULE[:LAYERS]: the build fails, with every layer that breaks the rule and why, unless all contractions (or
// those whose name fits the pattern) keep it.
//
//   --require=integer            inputs and weights are integers
//   --require=planes:/layer1/*   the strategy of that name
//   --require=no-float:/layer1/* the instructions of the layer, read back from the object, compute nothing with floats
//   --require=no-multiply        nor multiply or divide; the planner then leaves strategies with products aside. Both
//                                look at every step, contraction or not
//
// A layer that is float in the file breaks `integer` like any other: name the layers that must keep it.
#include <fnmatch.h>
#include <string.h>

#include "frontend/driver/report.h"
#include "passes/price.h"

typedef struct Rule {
  const char *text;     // as given
  const char *name;     // before the colon
  const char *pattern;  // behind it, or NULL: all layers
} Rule;

static Rule rule_read(Session *s, const char *text) {
  const char *colon = strchr(text, ':');
  size_t n = colon ? (size_t)(colon - text) : strlen(text);
  return (Rule){text, arena_printf(s->arena, "%.*s", (int)n, text), colon ? colon + 1 : NULL};
}

static bool is_strategy(const char *name) {
  for (uint32_t i = 0; i < strategy_count(); i++)
    if (strcmp(strategy_at(i)->name, name) == 0) return true;
  return false;
}

static bool is_no_multiply(const Rule *rule) { return strcmp(rule->name, "no-multiply") == 0; }
static bool is_code_rule(const Rule *rule) { return strcmp(rule->name, "no-float") == 0 || is_no_multiply(rule); }

static const char *rule_names(Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_puts(&b, "integer, no-float, no-multiply");
  for (uint32_t i = 0; i < strategy_count(); i++) strbuf_printf(&b, ", %s", strategy_at(i)->name);
  return strbuf_str(&b);
}

bool require_known(Session *s) {
  for (uint32_t i = 0; i < s->opt.require.n; i++) {
    Rule rule = rule_read(s, s->opt.require.at[i]);
    s->pass_opt.no_multiply |= is_no_multiply(&rule);
    if (strcmp(rule.name, "integer") == 0 || is_code_rule(&rule) || is_strategy(rule.name)) continue;
    return diag_error(s->diag, DIAG_USAGE, NULL, "--require wants RULE or RULE:LAYERS, not '%.60s'; rules are %s",
                      rule.text, rule_names(s->arena));
  }
  return true;
}

static const char *why_float(Session *s, const LayerRow *row) {
  const char *reason = row_note(row, NOTE_FLOAT), *declared = row_note(row, NOTE_DECLARED);
  if (reason) return reason;
  return declared ? arena_printf(s->arena, "the file says: %s", declared) : "no pass left a reason";
}

// The op of the post function that multiplies or divides floats, or NULL.
static const char *post_multiplies(const Op *op) {
  const Func *post = op_post(op);
  for (const Op *in = post != NULL ? post->first : NULL; in != NULL; in = in->next) {
    bool cheap = in->kind == OP_CAST || in->kind == OP_SELECT || in->kind == OP_CLIP || in->kind == OP_RELU;
    if (in->kind == OP_MUL || in->kind == OP_DIV || (!cheap && op_info(in->kind)->n_attrs > 0))
      return op_info(in->kind)->name;
  }
  return NULL;
}

static bool row_avoids_products(Session *s, const Rule *rule, const LayerRow *row) {
  const char *why = row->is_float ? why_float(s, row) : "no strategy without products applies";
  if (strategy_multiplies(row->strategy))
    return diag_error(s->diag, DIAG_UNSUPPORTED, row->op->loc, "--require=%s: layer '%s' multiplies as %s (%s)",
                      rule->text, row->name, row->strategy, why);
  const char *tail = post_multiplies(row->op);
  return tail == NULL ||
         diag_error(s->diag, DIAG_UNSUPPORTED, row->op->loc,
                    "--require=%s: what follows the sums of layer '%s' multiplies (%s)", rule->text, row->name, tail);
}

// ---- rules about instructions

typedef VEC(const Kernel *) Kernels;

static void kernels_add(Session *s, Kernels *out, const Kernel *k) {
  for (uint32_t i = 0; i < out->n; i++)
    if (out->at[i] == k) return;
  vec_push(s->arena, out, k);
}

// Kernels are called by kernels: all that a step reaches.
static void kernels_reach(const KBlock *b, Session *s, Kernels *out);

static void stmt_reach(const KStmt *st, Session *s, Kernels *out) {
  switch (st->kind) {
    case KS_FOR: kernels_reach(&st->for_.body, s, out); break;
    case KS_IF:
      kernels_reach(&st->if_.then, s, out);
      kernels_reach(&st->if_.other, s, out);
      break;
    case KS_CALL: kernels_add(s, out, st->call.callee); break;
    default: break;
  }
}

static void kernels_reach(const KBlock *b, Session *s, Kernels *out) {
  for (const KStmt *st = b->first; st; st = st->next) stmt_reach(st, s, out);
}

static const char *code_breaks(Session *s, const ObjectBytes *object, const Rule *rule, const Kernel *k) {
  CodeScan c;
  if (!object_scan(object, s->target, s->name, k->name, s->arena, &c)) return NULL;  // merged away: never called
  bool floats = strcmp(rule->name, "no-float") == 0;
  uint32_t n = floats ? c.floats : c.multiplies;
  if (!n) return NULL;
  const char *first = floats ? c.a_float : c.a_multiply;
  return arena_printf(s->arena, "%u of the %u instructions of %s, first '%s'", n, c.instructions, k->name,
                      str_escape(s->arena, first, 80));
}

static bool code_keeps(Session *s, const ObjectBytes *object, const Rule *rule, const LayerRow *row) {
  const Program *p = s->m->program;
  Kernels all = {0};
  for (uint32_t i = row->first_step; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    if (i == row->first_step || (row->op && step->op == row->op)) kernels_add(s, &all, step->kernel);
  }
  for (uint32_t i = 0; i < all.n; i++) {
    kernels_reach(&all.at[i]->body, s, &all);
    const char *what = code_breaks(s, object, rule, all.at[i]);
    if (what)
      return diag_error(s->diag, DIAG_UNSUPPORTED, row->op ? row->op->loc : NULL, "--require=%s: layer '%s' (%s): %s",
                        rule->text, row->name, row->strategy, what);
  }
  return true;
}

// ---- rules about layers

// True when the row keeps the rule; else one error.
static bool row_keeps(Session *s, const Rule *rule, const LayerRow *row) {
  if (strcmp(rule->name, "integer") == 0) {
    if (!row->is_float) return true;
    return diag_error(s->diag, DIAG_UNSUPPORTED, row->op->loc, "--require=%s: layer '%s' runs as %s on floats (%s)",
                      rule->text, row->name, row->strategy, why_float(s, row));
  }
  if (strcmp(row->strategy, rule->name) == 0) return true;
  return diag_error(s->diag, DIAG_UNSUPPORTED, row->op->loc, "--require=%s: layer '%s' runs as %s on W%uA%u%s%s%s",
                    rule->text, row->name, row->strategy, row->w_bits, row->x_bits, row->is_float ? " (" : "",
                    row->is_float ? why_float(s, row) : "", row->is_float ? ")" : "");
}

bool require_check(Session *s, const Report *r, const ObjectBytes *object) {
  bool ok = true;
  for (uint32_t i = 0; i < s->opt.require.n; i++) {
    Rule rule = rule_read(s, s->opt.require.at[i]);
    uint32_t fit = 0;
    for (uint32_t k = 0; k < r->n; k++) {
      const LayerRow *row = &r->rows[k];
      bool code = is_code_rule(&rule);
      if ((!code && !row->contraction) || (rule.pattern && fnmatch(rule.pattern, row->name, 0) != 0)) continue;
      fit++;
      if (is_no_multiply(&rule) && row->contraction && !row_avoids_products(s, &rule, row)) {
        ok = false;
        continue;
      }
      ok &= code ? code_keeps(s, object, &rule, row) : row_keeps(s, &rule, row);
    }
    if (rule.pattern && !fit)
      ok = diag_error(s->diag, DIAG_USAGE, NULL, "--require=%.100s: no layer fits; --report=FILE.txt shows the names",
                      rule.text);
  }
  return ok;
}
