// How the object fits what it is linked into: --relocation, --code-model, --float-abi and --format. The words are
// looked up here; whether the target has what they ask for is the backend's business.
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

// The code of an object is only read back from ELF.
static bool code_stays_unread(Session *s) {
  bool rule = false;
  for (uint32_t i = 0; i < s->opt.require.n; i++) rule = rule || strncmp(s->opt.require.at[i], "no-", 3) == 0;
  if (!rule && !s->opt.report.n && !option_flag(&s->opt.verbose)) return true;
  return diag_error(s->diag, DIAG_USAGE, NULL, "%s reads the code of ELF objects only: leave --format out",
                    rule              ? "--require=no-float or no-multiply"
                    : s->opt.report.n ? "--report"
                                      : "-v");
}

bool session_link(Session *s) {
  static const char *const relocations[] = {"", "pic", "static"};
  static const char *const models[] = {"default", "small", "medium", "large"};
  static const char *const abis[] = {"", "soft", "hard"};
  static const char *const formats[] = {"elf", "coff", "macho"};
  uint32_t relocation, model, abi, format;
  if (!choose(s, "--relocation", &s->opt.relocation, relocations, 3, &relocation) ||
      !choose(s, "--code-model", &s->opt.code_model, models, 4, &model) ||
      !choose(s, "--float-abi", &s->opt.float_abi, abis, 3, &abi) ||
      !choose(s, "--format", &s->opt.format, formats, 3, &format))
    return false;
  s->link = (LinkChoices){(Relocation)relocation, (CodeModel)model, (FloatAbi)abi, (ObjectFormat)format};
  for (uint32_t i = 0; i < s->n_levels; i++)
    if (!link_choices_fit(&s->link, s->levels[i].target, s->diag)) return false;
  return s->link.format == FORMAT_ELF || code_stays_unread(s);
}
