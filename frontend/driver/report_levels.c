// What each layer became at the levels of an object: rows of the levels' own programs, joined by the ids of their ops.
#include "frontend/driver/report.h"

static const char *strategy_at_level(const Report *r, const Op *op) {
  for (uint32_t i = 0; i < r->n; i++)
    if (r->rows[i].op && r->rows[i].op->id == op->id) return r->rows[i].strategy;
  return "-";
}

static void read_levels(Session *s, Report *out) {
  for (uint32_t i = 0; i < s->n_levels; i++) {
    Session part = *s;
    part.m = s->levels[i].m;
    part.target = s->levels[i].target;
    out[i] = report_new(&part, NULL);
  }
}

void report_levels_text(Session *s, const Report *r, StrBuf *out) {
  Report level[MAX_LEVELS];
  if (s->n_levels <= 1) return;
  read_levels(s, level);
  strbuf_printf(out, "\n%-36s", "levels, least first; init takes the last that the machine offers");
  strbuf_printf(out, "\n%-36s", "");
  for (uint32_t i = 0; i < s->n_levels; i++) strbuf_printf(out, " %-16s", s->levels[i].target->name);
  strbuf_puts(out, "\n");
  for (uint32_t k = 0; k < r->n; k++) {
    if (!r->rows[k].contraction) continue;
    strbuf_printf(out, "%-36s", r->rows[k].name);
    for (uint32_t i = 0; i < s->n_levels; i++)
      strbuf_printf(out, " %-16s", strategy_at_level(&level[i], r->rows[k].op));
    strbuf_puts(out, "\n");
  }
  strbuf_printf(out, "%-36s", "bytes of weights it reads");
  for (uint32_t i = 0; i < s->n_levels; i++) strbuf_printf(out, " %-16lld", (long long)level[i].weight_bytes);
  strbuf_printf(out, "\nWeights of a layer are there once for all levels that pack them alike.\n");
}

void report_levels_json(Session *s, const Report *r, StrBuf *out) {
  Report level[MAX_LEVELS];
  if (s->n_levels <= 1) return;
  read_levels(s, level);
  strbuf_puts(out, "\"levels\":[");
  for (uint32_t i = 0; i < s->n_levels; i++) {
    strbuf_printf(out, "%s{\"target\":\"%s\",\"workspace_bytes\":%lld,\"weight_bytes\":%lld,\"strategies\":[",
                  i ? "," : "", s->levels[i].target->name, (long long)s->levels[i].m->program->workspace_bytes,
                  (long long)level[i].weight_bytes);
    const char *comma = "";
    for (uint32_t k = 0; k < r->n; k++) {
      if (!r->rows[k].contraction) continue;
      strbuf_printf(out, "%s\"%s\"", comma, strategy_at_level(&level[i], r->rows[k].op));
      comma = ",";
    }
    strbuf_puts(out, "]}");
  }
  strbuf_puts(out, "],");
}
