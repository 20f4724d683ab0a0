// Locations and diagnostics. Two channels, never mixed:
//  - the model or the user is wrong: diag_error(...) records one line and returns false; the caller
//    returns false or NULL at once. No exit, no longjmp below main.
//  - qcc is wrong: qcc_bug(...) prints what it knows, writes a replay file and ends with exit code 70.
#ifndef QCC_IR_BASE_DIAG_H
#define QCC_IR_BASE_DIAG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ir/base/arena.h"

// Where a thing came from. ONNX nodes fill node..output; text fills file, line, col.
// Fused ops keep all their locations in the `next` list, the first ones oldest first. Immutable once attached.
typedef struct Loc Loc;
struct Loc {
  const char *file;       // model or text file, may be NULL
  int32_t line, col;      // 1-based for text, 0 for ONNX
  int32_t node;           // node index in its graph, -1 for text
  const char *node_name;  // "" when the exporter gave none; arbitrary UTF-8
  const char *op_type;    // ONNX operator
  const char *output;     // name of the node's first output
  const Loc *next;
};

// Category of an error; the process exit code is that of the first error reported.
typedef enum DiagKind {
  DIAG_REFUSED = 1,      // the model is malformed or contradicts itself
  DIAG_USAGE = 2,        // command line
  DIAG_UNSUPPORTED = 3,  // valid, but qcc has no such thing
  DIAG_IO = 4,
  DIAG_LIMIT = 5,  // a stated limit was hit
} DiagKind;

#define DIAG_MAX_ERRORS 50

typedef struct Diag Diag;

Diag *diag_new(Arena *arena, FILE *out);  // out NULL: collect only (tests read diag_text)
// Reports one line "FILE: node 'NAME' (OP, #IDX): MESSAGE" (control bytes escaped, names cut at 128
// bytes, lines past DIAG_MAX_ERRORS counted but not shown). Always returns false.
bool diag_error(Diag *d, DiagKind kind, const Loc *loc, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void diag_warn(Diag *d, const Loc *loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_note(Diag *d, const Loc *loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
uint32_t diag_errors(const Diag *d);                            // number of errors so far
int diag_exit_code(const Diag *d);                              // 0 or the DiagKind of the first error
const char *diag_text(const Diag *d);                           // every line reported so far
const char *loc_text(Arena *arena, const Loc *loc);             // "FILE: node 'NAME' (OP, #IDX)" or "FILE:LINE:COL"
const Loc *loc_join(Arena *arena, const Loc *a, const Loc *b);  // all of both, without repeats

// An internal error: prints the message and, when a replay writer is set (pass runner), where it wrote
// the last good IR with the remaining pipeline. Exit code 70.
_Noreturn void qcc_bug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void qcc_bug_set_replay(void (*write_replay)(void *ctx), void *ctx);
// Internal invariant that stays on in release builds.
#define QCC_CHECK(cond, ...) ((cond) ? (void)0 : qcc_bug(__VA_ARGS__))

#endif
