// The layer report. A row is a contraction or whatever else became steps of the program, with what the file declares,
// what passes found out (notes, joined by location), the arithmetic that was emitted and what it weighs.
#ifndef QCC_FRONTEND_DRIVER_REPORT_H
#define QCC_FRONTEND_DRIVER_REPORT_H

#include "frontend/driver/session.h"
#include "ir/note.h"

typedef VEC(const Note *) Notes;

typedef struct LayerRow {
  const Op *op;      // NULL: a copy
  const char *name;  // of the ONNX node
  const char *kind, *strategy, *result;
  bool contraction, is_float;
  uint32_t declared_w, declared_x, w_bits, x_bits;  // 0: not known
  double macs, bit_ops;                             // bit_ops: MACs x bits of weights x bits of inputs (S15)
  int64_t weights;                                  // elements
  int64_t weight_bytes, table_bytes;                // in the object: packed weights; thresholds, biases, scales
  bool marked;                                      // a step so far reads constants that say they are weights
  int64_t thresholds;
  uint32_t first_step, n_steps;
  Notes notes;  // in the order of notes.def; reasons to stay float only where the layer is float
} LayerRow;

typedef struct Report {
  LayerRow *rows;
  uint32_t n;
  double macs, bit_ops;
  int64_t weight_bytes, table_bytes, thresholds;
  int64_t object_bytes;  // 0: not emitted yet
  ObjectSize size;       // of what was emitted
  uint64_t workspace, stack;
} Report;

bool op_is_contraction(OpKind k);
int64_t op_macs(const Op *op);                        // multiply-adds, 0 of everything but contractions
const char *loc_layer(Arena *arena, const Loc *loc);  // the name people know a fused layer by
void declare_layers(Session *s);                      // notes what the imported graph states; before any pass

// The rows of the lowered program; with an object (or NULL) what it takes.
Report report_new(Session *s, const ObjectBytes *object);
const char *row_note(const LayerRow *row, NoteKind kind);  // the first of its kind or NULL

void report_text(Session *s, const Report *r, StrBuf *out);
void report_json(Session *s, const Report *r, StrBuf *out);
void report_html(Session *s, const Report *r, StrBuf *out);
void report_info(Session *s, StrBuf *out);  // the short JSON inside the object
void report_explain(Session *s);            // the notes on every layer, or on the one asked for, as diagnostics
// The levels of the object and the strategy of every contraction at each (report_levels.c); nothing where there is one.
void report_levels_text(Session *s, const Report *r, StrBuf *out);
void report_levels_json(Session *s, const Report *r, StrBuf *out);  // a member and a comma
void json_string(StrBuf *out, const char *text);
void html_text(StrBuf *out, const char *text);
void html_word(StrBuf *out, const char *text);  // a cell of a table

// The section on --factorize (report_factored.c); nothing where no layer was asked about.
void report_factored_text(Session *s, StrBuf *out);
void report_factored_json(Session *s, StrBuf *out);  // a member and a comma
void report_factored_html(Session *s, StrBuf *out);

// The section on --share (report_shared.c); nothing where no layer was asked about.
void report_shared_text(Session *s, StrBuf *out);
void report_shared_json(Session *s, StrBuf *out);  // a member and a comma
void report_shared_html(Session *s, StrBuf *out);

// The section on --quantize (report_quantised.c); nothing where it was not asked for.
void report_quantised_text(Session *s, StrBuf *out);
void report_quantised_json(Session *s, StrBuf *out);  // a member and a comma
void report_quantised_html(Session *s, StrBuf *out);

// Weights of the imported graph (report_weights.c): notes on what they would take in stored forms, histograms.
void report_weights_read(Session *s);  // before any pass
void report_weights_text(Session *s, StrBuf *out);
void report_weights_json(Session *s, StrBuf *out);  // a member and a comma
void report_weights_html(Session *s, const Report *r, StrBuf *out);

// --require=RULE[:LAYERS]. Both return false after diag_error: of a rule nobody knows, and of the layers that break
// one.
bool require_known(Session *s);
bool require_check(Session *s, const Report *r, const ObjectBytes *object);

#endif
