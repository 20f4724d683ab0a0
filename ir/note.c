// Notes on layers. See note.h.
#include "ir/note.h"

#include <stdarg.h>
#include <string.h>

const char *note_word(NoteKind kind) {
  static const char *const words[] = {
#define NOTE(name, word, meaning) word,
#include "ir/notes.def"
#undef NOTE
  };
  return words[kind];
}

static bool same_place(const Loc *a, const Loc *b) {
  return a->node == b->node && a->line == b->line &&
         (a->file == b->file || (a->file && b->file && strcmp(a->file, b->file) == 0));
}

static bool places_meet(const Loc *a, const Loc *b) {
  for (const Loc *i = a; i; i = i->next)
    for (const Loc *k = b; k; k = k->next)
      if (same_place(i, k)) return true;
  return false;
}

void note_layer(Module *m, const Op *op, NoteKind kind, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  const char *text = arena_vprintf(m->arena, fmt, args);
  va_end(args);
  for (uint32_t i = m->notes.n; i-- > 0;) {
    const Note *n = &m->notes.at[i];
    if (n->kind == kind && n->loc == op->loc && strcmp(n->text, text) == 0) return;
  }
  Note note = {op->loc, kind, text};
  vec_push(m->arena, &m->notes, note);
}

const Note *note_next(const Module *m, const Loc *loc, uint32_t *at) {
  while (*at < m->notes.n) {
    const Note *n = &m->notes.at[(*at)++];
    if (loc && n->loc && places_meet(n->loc, loc)) return n;
  }
  return NULL;
}
