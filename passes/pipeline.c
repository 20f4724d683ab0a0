// Parsing and checking pipeline text against passes.def and order.def.
#include "passes/pipeline.h"

#include <string.h>

static const struct {
  const char *first, *then, *reason;
} order_rows[] = {
#define BEFORE(first, then, reason) {#first, #then, reason},
#include "passes/order.def"
#undef BEFORE
};

static int32_t step_find(const Pipeline *p, const char *name) {
  for (uint32_t i = 0; i < p->steps.n; i++)
    if (strcmp(p->steps.at[i].pass->name, name) == 0) return (int32_t)i;
  return -1;
}

static bool order_check(const Pipeline *p, Diag *diag) {
  for (uint32_t i = 0; i < sizeof order_rows / sizeof order_rows[0]; i++) {
    int32_t first = step_find(p, order_rows[i].first), then = step_find(p, order_rows[i].then);
    if (first >= 0 && then >= 0 && then < first)
      return diag_error(diag, DIAG_USAGE, NULL, "pipeline runs '%s' before '%s': %s", order_rows[i].then,
                        order_rows[i].first, order_rows[i].reason);
  }
  bool lowered = false;
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const PassInfo *pass = p->steps.at[i].pass;
    if (lowered && pass->level != LEVEL_KERNEL)
      return diag_error(diag, DIAG_USAGE, NULL, "pipeline runs graph pass '%s' after the one-way gate 'lower'",
                        pass->name);
    lowered |= pass->level == LEVEL_GATE;
  }
  return true;
}

bool pipeline_parse(Pipeline *out, const char *text, Arena *arena, Diag *diag) {
  *out = (Pipeline){0};
  const char *p = text;
  while (*p) {
    while (*p == ' ' || *p == ',') p++;
    if (!*p) break;
    size_t n = strcspn(p, ",{ ");
    const PassInfo *pass = pass_by_name(p, n);
    if (!pass)
      return diag_error(diag, DIAG_USAGE, NULL, "no pass named '%.*s'; `qcc opt --help` lists them",
                        (int)(n > 60 ? 60 : n), p);
    p += n;
    const char *args = "";
    if (*p == '{') {
      const char *end = strchr(p, '}');
      if (!end) return diag_error(diag, DIAG_USAGE, NULL, "pipeline: '{' after '%s' is never closed", pass->name);
      args = arena_printf(arena, "%.*s", (int)(end - p - 1), p + 1);
      p = end + 1;
    }
    vec_push(arena, &out->steps, ((PipelineStep){pass, args}));
  }
  return order_check(out, diag);
}

const char *pipeline_text(const Pipeline *p, uint32_t from, Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (uint32_t i = from; i < p->steps.n; i++) {
    const PipelineStep *s = &p->steps.at[i];
    strbuf_printf(&b, "%s%s", i > from ? "," : "", s->pass->name);
    if (s->args[0]) strbuf_printf(&b, "{%s}", s->args);
  }
  return strbuf_str(&b);
}
