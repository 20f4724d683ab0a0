// Notes on layers: what passes found out and decided, kept for the report. A note belongs to the ONNX nodes of a
// location; fused ops keep all of theirs, so a note is found from whatever the layer became.
#ifndef QCC_IR_NOTE_H
#define QCC_IR_NOTE_H

#include "ir/graph.h"

typedef enum NoteKind {
#define NOTE(name, word, meaning) NOTE_##name,
#include "ir/notes.def"
#undef NOTE
  NOTE_KINDS
} NoteKind;

struct Note {
  const Loc *loc;  // of the op when the note was made
  NoteKind kind;
  uint32_t w_bits, x_bits;  // of weights and inputs; 0: the note does not say
  int64_t count;            // NOTE_THRESHOLDS: all of the layer
  const char *text;         // NULL: dropped
};

const char *note_word(NoteKind kind);
// Adds a note to the layer of `op`; the same note twice is kept once.
void note_layer(Module *m, const Op *op, NoteKind kind, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
// The same with the widths of weights and inputs (DECLARED, EMITTED): they make the bit operations of the report.
void note_precision(Module *m, const Op *op, NoteKind kind, uint32_t w_bits, uint32_t x_bits, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
// The layer's tail became `per_channel` comparisons for each of `channels`.
void note_thresholds(Module *m, const Op *op, int64_t per_channel, int64_t channels);
// Forgets notes of a kind on the layer of `op`: a later pass found out more.
void note_drop(Module *m, const Op *op, NoteKind kind);
void notes_clone(Module *to, const Module *from);  // for module_clone
// The notes that share an ONNX node (or a line of text) with `loc`, in the order they were made.
typedef struct NoteList {
  const Note **at;
  uint32_t n;
} NoteList;
NoteList note_list(const Module *m, const Loc *loc, Arena *arena);

#endif
