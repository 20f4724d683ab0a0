// How the object fits what it is linked into: --relocation, --code-model and --float-abi. The words are looked up here;
// whether the target has what they ask for is the backend's business.
#include <string.h>

#include "frontend/driver/session.h"

// The place of the option's word in `words`, which begins with that of the default; an unknown word is an error.
static bool choose(Session *s, const char *option, const Texts *given, const char *const *words, uint32_t n,
                   uint32_t *out) {
  const char *text = option_text(given, words[0]);
  for (*out = 0; *out < n; ++*out)
    if (strcmp(words[*out], text) == 0) return true;
  StrBuf list;
  strbuf_init(&list, s->arena);
  for (uint32_t i = words[0][0] ? 0 : 1; i < n; i++)
    strbuf_printf(&list, "%s%s", !list.n ? "" : i + 1 < n ? ", " : " or ", words[i]);
  return diag_error(s->diag, DIAG_USAGE, NULL, "%s wants %s, not '%.60s'", option, strbuf_str(&list), text);
}

bool session_link(Session *s) {
  static const char *const relocations[] = {"", "pic", "static"};
  static const char *const models[] = {"default", "small", "medium", "large"};
  static const char *const abis[] = {"", "soft", "hard"};
  uint32_t relocation, model, abi;
  if (!choose(s, "--relocation", &s->opt.relocation, relocations, 3, &relocation) ||
      !choose(s, "--code-model", &s->opt.code_model, models, 4, &model) ||
      !choose(s, "--float-abi", &s->opt.float_abi, abis, 3, &abi))
    return false;
  s->link = (LinkChoices){(Relocation)relocation, (CodeModel)model, (FloatAbi)abi};
  return link_choices_fit(&s->link, s->target, s->diag);
}
