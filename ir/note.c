// Notes on layers. See note.h.
#include "ir/note.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/map.h"

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

// A note at one of its places; later notes follow.
typedef struct NoteLink NoteLink;
struct NoteLink {
  const Loc *place;
  uint32_t note;
  NoteLink *next;
};

typedef struct PlaceNotes {
  NoteLink *first, *last;
} PlaceNotes;

// Places of different files may share a key; links are compared in full.
static uint64_t place_key(const Loc *l) { return ((uint64_t)(uint32_t)l->node << 32 | (uint32_t)l->line) + 1; }

static PlaceNotes *notes_at(const Module *m, const Loc *place) {
  return m->note_index ? map_get(m->note_index, place_key(place)) : NULL;
}

static void note_link(Module *m, const Loc *place, uint32_t note) {
  if (m->note_index == NULL) m->note_index = map_new(m->arena);
  PlaceNotes *all = notes_at(m, place);
  NoteLink *link = NEW(m->arena, NoteLink);
  *link = (NoteLink){place, note, NULL};
  if (all == NULL) {
    all = NEW(m->arena, PlaceNotes);
    map_set(m->note_index, place_key(place), all);
    all->first = link;
  } else {
    all->last->next = link;
  }
  all->last = link;
}

static bool is_dropped(const Note *n) { return n->text == NULL; }

static void note_add(Module *m, Note note) {
  const PlaceNotes *all = note.loc ? notes_at(m, note.loc) : NULL;
  for (const NoteLink *l = all ? all->first : NULL; l; l = l->next) {
    const Note *n = &m->notes.at[l->note];
    if (n->kind == note.kind && n->loc == note.loc && !is_dropped(n) && strcmp(n->text, note.text) == 0) return;
  }
  for (const Loc *place = note.loc; place; place = place->next) note_link(m, place, m->notes.n);
  vec_push(m->arena, &m->notes, note);
}

void notes_clone(Module *to, const Module *from) {
  for (uint32_t i = 0; i < from->notes.n; i++) {
    for (const Loc *place = from->notes.at[i].loc; place; place = place->next) note_link(to, place, i);
    vec_push(to->arena, &to->notes, from->notes.at[i]);
  }
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

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

NoteList note_list(const Module *m, const Loc *loc, Arena *arena) {
  VEC(uint32_t) found = {0};
  for (const Loc *place = loc; place; place = place->next) {
    const PlaceNotes *all = notes_at(m, place);
    for (const NoteLink *l = all ? all->first : NULL; l; l = l->next)
      if (!is_dropped(&m->notes.at[l->note]) && same_place(l->place, place)) vec_push(arena, &found, l->note);
  }
  if (found.n > 1) qsort(found.at, found.n, sizeof *found.at, by_number);
  NoteList list = {NEW_ARRAY(arena, const Note *, found.n + 1), 0};
  for (uint32_t i = 0; i < found.n; i++)
    if (i == 0 || found.at[i] != found.at[i - 1]) list.at[list.n++] = &m->notes.at[found.at[i]];
  return list;
}

void note_drop(Module *m, const Op *op, NoteKind kind) {
  for (const Loc *place = op->loc; place; place = place->next) {
    const PlaceNotes *all = notes_at(m, place);
    for (const NoteLink *l = all ? all->first : NULL; l; l = l->next)
      if (m->notes.at[l->note].kind == kind && same_place(l->place, place)) m->notes.at[l->note].text = NULL;
  }
}
