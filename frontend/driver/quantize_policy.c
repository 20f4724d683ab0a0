// Policies: which few bits every layer gets, as a file that is written, edited and read back.
//
//   {"layers":[{"layer":"conv1","quantize":"w8a8:weights=symmetric:channel:mse:all"},
//              {"layer":"fc","quantize":"float"}]}
//
// Every entry is a rule of --quantize with the layer's own name behind it. Rules on the command line come first, so
// the file has the last word.
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/quantize.h"
#include "frontend/driver/report.h"

#define MOST_BYTES (1 << 24)

static char *read_text(Session *s, const char *path) {
  FILE *f = fopen(path, "rbe");
  char *text = f ? arena_alloc(s->arena, MOST_BYTES + 1) : NULL;
  if (f == NULL) {
    diag_error(s->diag, DIAG_IO, NULL, "can't read '%.200s'", path);
    return NULL;
  }
  size_t n = fread(text, 1, MOST_BYTES, f);
  text[n] = 0;
  fclose(f);
  return text;
}

// The name as a pattern that fits nothing else.
static const char *exact_pattern(Arena *arena, const char *name) {
  StrBuf b;
  strbuf_init(&b, arena);
  for (; *name; name++) {
    if (strchr("*?[\\", *name)) strbuf_putc(&b, '\\');
    strbuf_putc(&b, *name);
  }
  return strbuf_str(&b);
}

static bool entry_read(Session *s, Quantization *z, const char *path, const cJSON *e) {
  const cJSON *layer = cJSON_GetObjectItemCaseSensitive(e, "layer");
  const cJSON *rule = cJSON_GetObjectItemCaseSensitive(e, "quantize");
  if (!cJSON_IsString(layer) || !cJSON_IsString(rule))
    return diag_error(s->diag, DIAG_USAGE, NULL, "'%.200s': an entry wants \"layer\" and \"quantize\" as texts", path);
  QuantRule r;
  const char *text = arena_printf(s->arena, "%s", rule->valuestring);
  if (!quant_rule_read(text, s->diag, s->arena, &r)) return false;
  if (r.layers != NULL)
    return diag_error(s->diag, DIAG_USAGE, NULL, "'%.200s': '%.60s' is no part of a rule", path, r.layers);
  r.layers = exact_pattern(s->arena, layer->valuestring);
  r.text = arena_printf(s->arena, "%s:%s", text, r.layers);
  vec_push(s->arena, &z->rules, r);
  return true;
}

bool policy_read(Session *s, Quantization *z) {
  const char *path = option_text(&s->opt.policy, NULL), *text = path ? read_text(s, path) : NULL;
  if (path == NULL || text == NULL) return path == NULL;
  cJSON *json = cJSON_Parse(text);
  const cJSON *layers = cJSON_GetObjectItemCaseSensitive(json, "layers"), *e;
  bool ok = cJSON_IsArray(layers) ||
            diag_error(s->diag, DIAG_USAGE, NULL, "'%.200s' is no policy: JSON with an array \"layers\"", path);
  cJSON_ArrayForEach(e, layers) ok = ok && entry_read(s, z, path, e);
  cJSON_Delete(json);
  return ok;
}

bool policy_write(Session *s, const Quantization *z) {
  const char *path = option_text(&s->opt.save_policy, NULL);
  if (path == NULL) return true;
  StrBuf b;
  strbuf_init(&b, s->arena);
  strbuf_puts(&b, "{\"layers\":[\n");
  for (uint32_t i = 0; i < z->layers.n; i++) {
    const QuantLayer *l = &z->layers.at[i];
    strbuf_puts(&b, "{\"layer\":");
    json_string(&b, loc_layer(s->arena, l->loc));
    strbuf_puts(&b, ",\"quantize\":");
    json_string(&b, quant_choice_text(&l->choice, s->arena));
    strbuf_printf(&b, "}%s\n", i + 1 < z->layers.n ? "," : "");
  }
  strbuf_puts(&b, "]}\n");
  return write_files(s, &(OutFile){path, strbuf_str(&b), b.n, true}, 1);
}
