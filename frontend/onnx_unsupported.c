// The list of what a model needs and qcc has not: one line per operator and reason, with a count and the first nodes.
#include <string.h>

#include "frontend/onnx_walk.h"

#define NAMES_SHOWN 4

struct UnsupportedGroup {
  const char *what;    // "operator Foo", "input", ...
  const char *reason;  // the flag that helps is part of it
  uint32_t n;
  const char *names[NAMES_SHOWN];
};

void unsupported_add(OnnxImporter *im, const char *what, const char *reason, const char *node) {
  const char *key = arena_printf(im->arena, "%s\x1f%s", what, reason);
  UnsupportedGroup *g = map_get_str(im->unsupported_index, key);
  if (!g) {
    g = NEW(im->arena, UnsupportedGroup);
    *g = (UnsupportedGroup){.what = arena_copy(im->arena, what, strlen(what) + 1),
                            .reason = arena_copy(im->arena, reason, strlen(reason) + 1)};
    map_set_str(im->unsupported_index, key, g);
    vec_push(im->arena, &im->unsupported, g);
  }
  if (g->n < NAMES_SHOWN) g->names[g->n] = arena_copy(im->arena, node, strlen(node) + 1);
  g->n++;
  im->n_unsupported++;
}

void unsupported_report(OnnxImporter *im) {
  Loc loc = {.file = im->file, .node = -1};
  for (uint32_t i = 0; i < im->unsupported.n; i++) {
    const UnsupportedGroup *g = im->unsupported.at[i];
    StrBuf b;
    strbuf_init(&b, im->arena);
    for (uint32_t k = 0; k < g->n && k < NAMES_SHOWN; k++) strbuf_printf(&b, "%s%s", k ? ", " : "", g->names[k]);
    if (g->n > NAMES_SHOWN) strbuf_puts(&b, ", ...");
    diag_error(im->diag, DIAG_UNSUPPORTED, &loc, "not supported: %s, %u %s (%s): %s", g->what, g->n,
               g->n == 1 ? "time" : "times", strbuf_str(&b), g->reason);
  }
}

bool node_unsupported(NodeCtx *c, const char *fmt, ...) {
  va_list ap;
  StrBuf b;
  strbuf_init(&b, c->scratch);
  va_start(ap, fmt);
  strbuf_vprintf(&b, fmt, ap);
  va_end(ap);
  const char *type = str_escape(c->scratch, c->type, 128);
  const char *what = c->domain[0]
                         ? arena_printf(c->scratch, "operator %s:%s", str_escape(c->scratch, c->domain, 128), type)
                         : arena_printf(c->scratch, "operator %s", type);
  const char *node = c->name[0] ? arena_printf(c->scratch, "'%s'", str_escape(c->scratch, c->name, 64))
                                : arena_printf(c->scratch, "#%d", c->loc->node);
  unsupported_add(c->importer, what, strbuf_str(&b), node);
  return false;
}
