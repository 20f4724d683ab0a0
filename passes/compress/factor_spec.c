// --factorize as text. See factorize.h.
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/compress/factorize.h"

#define FORM_OF_SPEC "SCHEME[:rank=R|energy=E|error=E][:modes=N..][:force][:LAYERS]"

bool layer_is_named(const Loc *loc, const char *pattern) {
  for (; loc != NULL; loc = loc->next) {
    if (loc->node_name != NULL && fnmatch(pattern, loc->node_name, 0) == 0) return true;
    if (loc->output != NULL && fnmatch(pattern, loc->output, 0) == 0) return true;
  }
  return false;
}

static const char *scheme_names(Arena *arena) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_puts(&b, "auto");
  for (uint32_t i = 0; i < scheme_count(); i++) strbuf_printf(&b, ", %s", scheme_at(i)->name);
  return strbuf_str(&b);
}

// Numbers with x between them, up to the end of the text or `stop`. Returns where it stopped, NULL when it is no list.
static const char *read_list(const char *text, char stop, uint32_t most, uint32_t *n, int64_t *v) {
  for (*n = 0; *n < most;) {
    char *end;
    long long r = strtoll(text, &end, 10);
    if (end == text || r < 1 || r > INT32_MAX) return NULL;
    v[(*n)++] = r;
    if (*end == stop || *end == 0) return end;
    if (*end != 'x') return NULL;
    text = end + 1;
  }
  return NULL;
}

static bool read_ranks(const char *text, FactorAsk *ask) {
  ask->by = ASK_RANK;
  return read_list(text, 0, FORM_RANKS, &ask->n_ranks, ask->rank) != NULL;
}

// Of the input, a slash, of the output.
static bool read_modes(const char *text, FactorAsk *ask) {
  const char *slash = read_list(text, '/', MAX_RANK, &ask->n_in, ask->in);
  return slash != NULL && *slash == '/' && read_list(slash + 1, 0, MAX_RANK, &ask->n_out, ask->out) != NULL;
}

static bool read_share(const char *text, AskKind by, double least, FactorAsk *ask) {
  char *end;
  ask->by = by;
  ask->value = strtod(text, &end);
  return end != text && *end == 0 && ask->value >= least && ask->value <= 1;
}

typedef enum Setting { SETTING_NONE, SETTING_GOOD, SETTING_BAD } Setting;

static Setting read_setting(const char *text, FactorSpec *spec) {
  if (strcmp(text, "force") == 0) {
    spec->force = true;
    return SETTING_GOOD;
  }
  bool good;
  if (strncmp(text, "modes=", 6) == 0) {
    good = read_modes(text + 6, &spec->ask);
  } else if (strncmp(text, "rank=", 5) == 0) {
    good = read_ranks(text + 5, &spec->ask);
  } else if (strncmp(text, "energy=", 7) == 0) {
    good = read_share(text + 7, ASK_ENERGY, 0, &spec->ask);
  } else if (strncmp(text, "error=", 6) == 0) {
    good = read_share(text + 6, ASK_ERROR, 0, &spec->ask);
  } else {
    return SETTING_NONE;
  }
  return good ? SETTING_GOOD : SETTING_BAD;
}

bool factor_spec_read(const char *text, double max_error, Arena *arena, Diag *diag, FactorSpec *out) {
  size_t n = strcspn(text, ":");
  const char *name = arena_printf(arena, "%.*s", (int)(n > 60 ? 60 : n), text), *p = text + n;
  *out = (FactorSpec){.text = text, .scheme = scheme_by_name(name), .ask = {.by = ASK_ERROR, .value = max_error}};
  if (out->scheme == NULL && strcmp(name, "auto") != 0)
    return diag_error(diag, DIAG_USAGE, NULL, "--factorize: no scheme '%s'; there are %s", name, scheme_names(arena));
  while (*p == ':') {
    size_t k = strcspn(p + 1, ":");
    const char *part = arena_printf(arena, "%.*s", (int)k, p + 1);
    Setting got = read_setting(part, out);
    if (got == SETTING_BAD)
      return diag_error(diag, DIAG_USAGE, NULL,
                        "--factorize wants " FORM_OF_SPEC " with ranks from 1 and shares from 0 to 1, not '%.100s'",
                        text);
    if (got == SETTING_NONE) {
      out->layers = p + 1;
      break;
    }
    p += 1 + k;
  }
  bool open = out->ask.by == ASK_ERROR && out->ask.value == 0 && strstr(text, "error=") == NULL;
  if (open)
    return diag_error(diag, DIAG_USAGE, NULL, "--factorize=%.100s: how much may be lost? Add --max-error=E%s", text,
                      out->scheme ? ", or :rank=R, :energy=E or :error=E" : " or :error=E");
  return true;
}
