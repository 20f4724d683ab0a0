// --share as text. See share.h.
#include <string.h>

#include "passes/quantize/share.h"

// Takes the word off the text's beginning.
static bool take_word(const char **at, const char *word) {
  size_t n = strlen(word);
  if (strncmp(*at, word, n) != 0 || ((*at)[n] != 0 && (*at)[n] != ':')) return false;
  *at += (*at)[n] == ':' ? n + 1 : n;
  return true;
}

bool share_spec_read(const char *text, Arena *arena, Diag *diag, ShareSpec *out) {
  const char *rest;
  *out = (ShareSpec){.text = arena_printf(arena, "%s", text)};
  if (!weight_spec_read(out->text, "--share", diag, &out->weights, &rest)) return false;
  if (take_word(&rest, "network")) out->network = true;
  if (take_word(&rest, "force")) out->force = true;
  if (*rest) out->layers = rest;
  if (!out->network || out->weights.scheme->book != BOOK_VECTORS) return true;
  return diag_error(diag, DIAG_USAGE, NULL, "--share=%.100s: vectors have a book per layer; take out :network", text);
}
