// --prune as text. See prune.h.
#include <stdlib.h>
#include <string.h>

#include "passes/compress/prune.h"

#define FORM_OF_SPEC "FRACTION|threshold=T|N:M|block=RxC:FRACTION|channels=FRACTION, then [:force][:LAYERS]"

// A number in [0, most] in front of a colon or the end; NULL: there is none.
static const char *read_number(const char *text, double most, double *out) {
  char *end;
  *out = strtod(text, &end);
  return end != text && (*end == 0 || *end == ':') && *out >= 0 && *out <= most ? end : NULL;
}

static const char *read_pair(const char *text, char between, int64_t *a, int64_t *b) {
  char *end;
  *a = strtoll(text, &end, 10);
  if (end == text || *end != between || *a < 1 || *a > 4096) return NULL;
  const char *second = end + 1;
  *b = strtoll(second, &end, 10);
  return end != second && (*end == 0 || *end == ':') && *b >= 1 && *b <= 4096 ? end : NULL;
}

// What is dropped; the rest of the text behind it.
static const char *read_kind(const char *text, PruneSpec *spec) {
  const char *end;
  if (strncmp(text, "threshold=", 10) == 0) {
    spec->kind = PRUNE_THRESHOLD;
    return read_number(text + 10, 1e30, &spec->value);
  }
  if (strncmp(text, "channels=", 9) == 0) {
    spec->kind = PRUNE_CHANNELS;
    return read_number(text + 9, 1, &spec->value);
  }
  if (strncmp(text, "block=", 6) == 0) {
    spec->kind = PRUNE_BLOCKS;
    end = read_pair(text + 6, 'x', &spec->rows, &spec->cols);
    return end && *end == ':' ? read_number(end + 1, 1, &spec->value) : NULL;
  }
  spec->kind = PRUNE_N_OF_M;
  end = read_pair(text, ':', &spec->n, &spec->m);
  if (end && spec->n <= spec->m) return end;
  spec->kind = PRUNE_FRACTION;
  return read_number(text, 1, &spec->value);
}

bool prune_spec_read(const char *text, Arena *arena, Diag *diag, PruneSpec *out) {
  *out = (PruneSpec){.text = arena_printf(arena, "%s", text)};
  const char *rest = read_kind(out->text, out);
  if (!rest) return diag_error(diag, DIAG_USAGE, NULL, "--prune wants " FORM_OF_SPEC ", not '%.100s'", text);
  if (strncmp(rest, ":force", 6) == 0 && (rest[6] == 0 || rest[6] == ':')) {
    out->force = true;
    rest += 6;
  }
  if (*rest == ':') out->layers = rest + 1;
  return true;
}
