// Diagnostics: one line per message, control bytes escaped, long names cut, errors counted past the limit.
#include "ir/base/diag.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/str.h"

#define NAME_MAX_SHOWN 128

struct Diag {
  Arena *arena;
  FILE *out;
  StrBuf text;
  uint32_t n_errors;
  int first_kind;
};

static void (*replay_write)(void *ctx);
static void *replay_ctx;

Diag *diag_new(Arena *arena, FILE *out) {
  Diag *d = NEW(arena, Diag);
  d->arena = arena;
  d->out = out;
  strbuf_init(&d->text, arena);
  return d;
}

const char *loc_text(Arena *arena, const Loc *loc) {
  if (!loc) return "qcc";
  const char *file = loc->file ? str_escape(arena, loc->file, 4 * NAME_MAX_SHOWN) : "model";
  if (loc->node < 0) {
    if (loc->line <= 0) return file;
    return arena_printf(arena, "%s:%d:%d", file, loc->line, loc->col);
  }
  const char *type = loc->op_type ? str_escape(arena, loc->op_type, NAME_MAX_SHOWN) : "?";
  if (loc->node_name && loc->node_name[0])
    return arena_printf(arena, "%s: node '%s' (%s, #%d)", file, str_escape(arena, loc->node_name, NAME_MAX_SHOWN), type,
                        loc->node);
  return arena_printf(arena, "%s: node #%d (%s, produces '%s')", file, loc->node, type,
                      str_escape(arena, loc->output ? loc->output : "", NAME_MAX_SHOWN));
}

// Replaces control bytes of a whole message line; names inside were escaped by their writers or are cleaned here.
static void clean_line(char *s) {
  for (; *s; s++)
    if ((unsigned char)*s < 0x20 || (unsigned char)*s == 0x7f) *s = '?';
}

static void report(Diag *d, const Loc *loc, const char *label, const char *fmt, va_list ap) {
  char *message = NULL;
  StrBuf b;
  strbuf_init(&b, d->arena);
  strbuf_vprintf(&b, fmt, ap);
  message = arena_printf(d->arena, "%s: %s%s", loc_text(d->arena, loc), label, strbuf_str(&b));
  clean_line(message);
  if (strlen(message) > 2000) strcpy(message + 1990, "...");
  strbuf_puts(&d->text, message);
  strbuf_putc(&d->text, '\n');
  if (d->out) fprintf(d->out, "%s\n", message);
}

bool diag_error(Diag *d, DiagKind kind, const Loc *loc, const char *fmt, ...) {
  if (d->n_errors == 0) d->first_kind = (int)kind;
  d->n_errors++;
  if (d->n_errors <= DIAG_MAX_ERRORS) {
    va_list ap;
    va_start(ap, fmt);
    report(d, loc, loc && loc->line > 0 ? "error: " : "", fmt, ap);
    va_end(ap);
  } else if (d->n_errors == DIAG_MAX_ERRORS + 1 && d->out) {
    fprintf(d->out, "qcc: more than %d errors; the rest is not shown\n", DIAG_MAX_ERRORS);
  }
  return false;
}

void diag_warn(Diag *d, const Loc *loc, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  report(d, loc, "warning: ", fmt, ap);
  va_end(ap);
}

void diag_note(Diag *d, const Loc *loc, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  report(d, loc, "note: ", fmt, ap);
  va_end(ap);
}

uint32_t diag_errors(const Diag *d) { return d->n_errors; }
int diag_exit_code(const Diag *d) { return d->n_errors ? d->first_kind : 0; }
const char *diag_text(const Diag *d) { return d->text.at ? d->text.at : ""; }

static bool loc_same(const Loc *a, const Loc *b) {
  return a->file == b->file && a->line == b->line && a->col == b->col && a->node == b->node &&
         a->node_name == b->node_name && a->output == b->output;
}

static bool loc_has(const Loc *list, const Loc *one) {
  for (; list; list = list->next)
    if (loc_same(list, one)) return true;
  return false;
}

// Places of a list that a join copies; what lies behind them is shared, so that a layer of thousands of nodes grows by
// a node in constant memory.
#define COPIED_PLACES 16

typedef struct LocChain {
  Arena *arena;
  Loc *first, *last;
} LocChain;

static void chain_add(LocChain *c, const Loc *l) {
  Loc *copy = arena_copy(c->arena, l, sizeof *l);
  copy->next = NULL;
  if (c->last) {
    c->last->next = copy;
  } else {
    c->first = copy;
  }
  c->last = copy;
}

const Loc *loc_join(Arena *arena, const Loc *a, const Loc *b) {
  if (!a) return b;
  // The first of a's places, what is new in b, the rest of a's. Immutable lists: nothing shared is changed.
  LocChain c = {.arena = arena};
  const Loc *rest = a;
  for (int i = 0; rest && i < COPIED_PLACES; i++, rest = rest->next)
    if (!loc_has(c.first, rest)) chain_add(&c, rest);
  for (const Loc *l = b; l; l = l->next)
    if (!loc_has(c.first, l) && !loc_has(rest, l)) chain_add(&c, l);
  c.last->next = rest;
  return c.first;
}

void qcc_bug_set_replay(void (*write_replay)(void *ctx), void *ctx) {
  replay_write = write_replay;
  replay_ctx = ctx;
}

_Noreturn void qcc_bug(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fprintf(stderr, "qcc: internal error: ");
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  void (*write_replay)(void *) = replay_write;
  replay_write = NULL;  // a second error while writing must not loop
  if (write_replay) write_replay(replay_ctx);
  fflush(NULL);
  exit(70);
}
