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

static void note_add(Module *m, Note note) {
  for (uint32_t i = m->notes.n; i-- > 0;) {
    const Note *n = &m->notes.at[i];
    if (n->kind == note.kind && n->loc == note.loc && strcmp(n->text, note.text) == 0) return;
  }
  vec_push(m->arena, &m->notes, note);
}

void note_layer(Module *m, const Op *op, NoteKind kind, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  note_add(m, (Note){.loc = op->loc, .kind = kind, .text = arena_vprintf(m->arena, fmt, args)});
  va_end(args);
}

void note_precision(Module *m, const Op *op, NoteKind kind, uint32_t w_bits, uint32_t x_bits, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  const char *text = arena_vprintf(m->arena, fmt, args);
  va_end(args);
  note_add(m, (Note){.loc = op->loc, .kind = kind, .w_bits = w_bits, .x_bits = x_bits, .text = text});
}

void note_thresholds(Module *m, const Op *op, int64_t per_channel, int64_t channels) {
  const char *text = arena_printf(m->arena, "%lld per channel", (long long)per_channel);
  note_add(m, (Note){.loc = op->loc, .kind = NOTE_THRESHOLDS, .count = per_channel * channels, .text = text});
}

void note_drop(Module *m, const Op *op, NoteKind kind) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < m->notes.n; i++) {
    const Note *note = &m->notes.at[i];
    if (note->kind != kind || !note->loc || !op->loc || !places_meet(note->loc, op->loc)) m->notes.at[n++] = *note;
  }
  m->notes.n = n;
}

const Note *note_next(const Module *m, const Loc *loc, uint32_t *at) {
  while (*at < m->notes.n) {
    const Note *n = &m->notes.at[(*at)++];
    if (loc && n->loc && places_meet(n->loc, loc)) return n;
  }
  return NULL;
}
