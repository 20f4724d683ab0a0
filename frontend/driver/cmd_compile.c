// qcc MODEL.onnx -o MODEL.o: object and header appear together, or neither.
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/cases.h"
#include "frontend/driver/quantize.h"
#include "frontend/driver/report.h"
#include "ir/text.h"
#include "passes/compress/factorize.h"
#include "passes/quantize/share.h"

static const char *with_extension(Session *s, const char *path, const char *ext) {
  const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
  size_t n = dot && dot != (slash ? slash + 1 : path) ? (size_t)(dot - path) : strlen(path);
  return arena_printf(s->arena, "%.*s%s", (int)n, path, ext);
}

// What compression did is measured where somebody wants to know.
static void compression_report(Session *s) {
  if (s->opt.share.n > 0) {
    s->pass_opt.shared = NEW(s->arena, ShareReport);
    s->pass_opt.shared->arena = s->arena;
  }
  if (s->opt.factorize.n == 0 && s->opt.prune.n == 0) return;
  s->pass_opt.factored = NEW(s->arena, FactorReport);
  s->pass_opt.factored->arena = s->arena;
}

static void set_name(Session *s) {
  const char *given = option_text(&s->opt.name, NULL);
  const char *path = option_text(&s->opt.output, s->opt.file);
  const char *slash = strrchr(path, '/');
  const char *base = with_extension(s, slash ? slash + 1 : path, "");
  const char *text = given ? given : base;
  s->name = mangle(s->arena, text, strlen(text));
}

static bool emit_text(Session *s, const char *kind, const char *path) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  PrintOptions print = {.locs = option_flag(&s->opt.print_locs)};
  if (strcmp(kind, "qir") == 0) {
    // The graph as it stands before the gate.
    const char *all = session_pipeline(s), *gate = strstr(all, ",lower");
    const char *graph = arena_printf(s->arena, "%.*s", gate ? (int)(gate - all) : (int)strlen(all), all);
    if (!session_passes(s, s->opt.passes.n ? all : graph)) return false;
  } else if (strcmp(kind, "kir") == 0) {
    if (!session_passes(s, session_pipeline(s))) return false;
  } else {
    ObjectBytes out;
    if (!session_lower(s) || !session_emit(s, strcmp(kind, "ll") == 0 ? EMIT_LL : EMIT_ASM, &out)) return false;
    strbuf_put(&b, (const char *)out.at, out.n);
    free(out.at);
  }
  print.all_bytes = true;
  if (kind[0] == 'q' || kind[0] == 'k') print_module(&b, s->m, print);
  if (strcmp(path, "-") == 0) {
    fwrite(strbuf_str(&b), 1, b.n, stdout);  // main looks at the state of stdout
    return true;
  }
  return write_files(s, &(OutFile){path, strbuf_str(&b), b.n, false}, 1);
}

static bool ends_with(const char *text, const char *tail) {
  size_t n = strlen(text), k = strlen(tail);
  return n > k && strcmp(text + n - k, tail) == 0;
}

static OutFile report_file(Session *s, const Report *r, const char *path) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  if (ends_with(path, ".json")) {
    report_json(s, r, &b);
  } else if (ends_with(path, ".html")) {
    report_html(s, r, &b);
  } else {
    report_text(s, r, &b);
  }
  return (OutFile){path, strbuf_str(&b), b.n, true};
}

static OutFile weights_file(Session *s, const char *path, const ObjectBytes *object) {
  OutFile file = {with_extension(s, path, ".weights"), object->weights, object->n_weights, false};
  if (s->packed) file.bytes = weights_pack(s->arena, object->weights, object->n_weights, &file.n);
  return file;
}

// The object, its header, its weights where they are apart, and the reports.
static bool write_object(Session *s, const char *path, const ObjectBytes *object, const Report *r) {
  enum { MOST_FILES = 10 };
  StrBuf header;
  strbuf_init(&header, s->arena);
  if (!header_text(s->m, s->name, object, &header)) return false;
  OutFile files[MOST_FILES] = {{path, object->at, object->n, false},
                               {with_extension(s, path, ".h"), strbuf_str(&header), header.n, false}};
  uint32_t n = 2;
  if (object->weights) files[n++] = weights_file(s, path, object);
  if (s->opt.report.n > MOST_FILES - n)
    return diag_error(s->diag, DIAG_USAGE, NULL, "more than %u reports", MOST_FILES - n);
  for (uint32_t i = 0; i < s->opt.report.n; i++) files[n++] = report_file(s, r, s->opt.report.at[i]);
  return write_files(s, files, n);
}

static bool finish(Session *s, const char *path, const ObjectBytes *object) {
  Report r = report_new(s, object);
  if (s->pass_opt.explain) report_explain(s);
  if (!require_check(s, &r, object) || (path && !write_object(s, path, object, &r))) return false;
  if (option_flag(&s->opt.verbose)) {
    StrBuf b;
    strbuf_init(&b, s->arena);
    report_text(s, &r, &b);
    fputs(strbuf_str(&b), stdout);
  }
  return true;
}

static bool emit_kind_known(const char *kind) {
  static const char *const kinds[] = {"obj", "asm", "ll", "qir", "kir"};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strcmp(kinds[i], kind) == 0) return true;
  return false;
}

static bool weights_known(Session *s, const char *kind) {
  const char *text = option_text(&s->opt.weights, "embed");
  s->packed = strcmp(text, "packed") == 0;
  s->external = s->packed || strcmp(text, "extern") == 0;
  if (!s->external && strcmp(text, "embed") != 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--weights wants embed, extern or packed, not '%.60s'", text);
  if (!s->external || strcmp(kind, "obj") == 0) return true;
  return diag_error(s->diag, DIAG_USAGE, NULL, "--weights=%s goes with an object, not with --emit=%.10s", text, kind);
}

int cmd_compile(Session *s) {
  const char *kind = option_text(&s->opt.emit, "obj"), *path = option_text(&s->opt.output, NULL);
  if (!s->opt.file) {
    options_help(stderr, CMD_compile, true);
    return 2;
  }
  if (!emit_kind_known(kind)) {
    diag_error(s->diag, DIAG_USAGE, NULL, "--emit wants obj, asm, ll, qir or kir, not '%.60s'", kind);
    return 2;
  }
  if (!weights_known(s, kind)) return 2;
  if (!path) path = strcmp(kind, "obj") == 0 ? NULL : "-";
  if (!path && !s->pass_opt.explain) {
    diag_error(s->diag, DIAG_USAGE, NULL, "no output file: add -o FILE.o");
    return 2;
  }
  if (path && s->opt.file && strcmp(path, s->opt.file) == 0) {
    diag_error(s->diag, DIAG_USAGE, NULL, "the output file is the model itself");
    return 2;
  }
  if (path && strcmp(kind, "obj") == 0 && strcmp(path, with_extension(s, path, ".h")) == 0) {
    diag_error(s->diag, DIAG_USAGE, NULL, "the object can't be named as its header: use -o FILE.o");
    return 2;
  }
  cases_shapes(s);
  if (!session_load(s)) return diag_exit_code(s->diag);
  set_name(s);
  s->m->name = s->name;
  if (!require_known(s)) return diag_exit_code(s->diag);
  if (strcmp(kind, "obj") != 0)
    return cases_samples(s) && quantize_prepare(s) && emit_text(s, kind, path) ? 0 : diag_exit_code(s->diag);
  ObjectBytes object = {0};
  s->release = !s->opt.print_after.n;
  bool noted = s->opt.report.n || s->opt.require.n || s->pass_opt.explain || option_flag(&s->opt.verbose);
  if (s->opt.report.n) report_weights_read(s);
  if (noted || s->opt.prune.n) compression_report(s);
  bool ok = session_compile(s, &object) && finish(s, path, &object);
  free(object.weights);
  free(object.at);
  return ok ? 0 : diag_exit_code(s->diag);
}

int cmd_opt(Session *s) {
  if (!session_load(s)) return diag_exit_code(s->diag);
  const char *passes = option_text(&s->opt.passes, "");
  if (passes[0] && !session_passes(s, passes)) return diag_exit_code(s->diag);
  StrBuf b;
  strbuf_init(&b, s->arena);
  print_module(&b, s->m, (PrintOptions){.locs = option_flag(&s->opt.print_locs)});
  fputs(strbuf_str(&b), stdout);
  return 0;
}
