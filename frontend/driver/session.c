// Shared steps of the commands; see session.h.
#include "frontend/driver/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "frontend/driver/cases.h"
#include "frontend/driver/quantize.h"
#include "frontend/driver/report.h"
#include "frontend/onnx.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "runtime/qcc_rt.h"

double session_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// E, or parts such as layer:E and network:E with commas between them.
static bool error_limits(Session *s, const char *text) {
  const struct {
    const char *word;
    double *limit;
  } parts[] = {{"network:", &s->pass_opt.network_error},
               {"layer:", &s->pass_opt.max_error},
               {"cosine:", &s->quant_limits.cosine},
               {"max:", &s->quant_limits.most},
               {"accuracy:", &s->quant_limits.accuracy}};
  const char *p = text;
  do {
    double *limit = &s->pass_opt.max_error;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
      if (strncmp(p, parts[i].word, strlen(parts[i].word)) == 0) {
        limit = parts[i].limit;
        p += strlen(parts[i].word);
        break;
      }
    char *end;
    *limit = strtod(p, &end);
    bool any = limit == &s->quant_limits.most;
    if (end == p || (*end && *end != ',') || !(*limit >= 0 && (any || *limit <= 1)))
      return diag_error(s->diag, DIAG_USAGE, NULL,
                        "--max-error wants E, or layer:E,network:E, of numbers from 0 to 1, not '%.60s'", text);
    p = end;
  } while (*p++ == ',');
  return true;
}

static bool compression_options(Session *s) {
  const char *error = option_text(&s->opt.max_error, "0"), *optimize = option_text(&s->opt.optimize, "time");
  s->pass_opt.factorize = s->opt.factorize.at;
  s->pass_opt.n_factorize = s->opt.factorize.n;
  s->pass_opt.prune = s->opt.prune.at;
  s->pass_opt.n_prune = s->opt.prune.n;
  s->pass_opt.share = s->opt.share.at;
  s->pass_opt.n_share = s->opt.share.n;
  s->pass_opt.by_size = strcmp(optimize, "size") == 0;
  if (!s->pass_opt.by_size && strcmp(optimize, "time") != 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--optimize wants time or size, not '%.60s'", optimize);
  return error_limits(s, error);
}

bool session_pass_options(Session *s) {
  const char *fp = option_text(&s->opt.fp, "fast"), *tolerate = option_text(&s->opt.tolerate, "0");
  char *end;
  s->pass_opt = pass_options_default();
  s->pass_opt.strict_fp = strcmp(fp, "strict") == 0;
  s->pass_opt.explain = option_flag(&s->opt.explain);
  s->pass_opt.explain_layer = option_text(&s->opt.explain, "");
  s->pass_opt.tolerate = strtod(tolerate, &end);
  s->pass_opt.bf16 = strcmp(fp, "bf16") == 0;
  if (!s->pass_opt.strict_fp && !s->pass_opt.bf16 && strcmp(fp, "fast") != 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--fp wants fast, strict or bf16, not '%.60s'", fp);
  if (end == tolerate || *end || !(s->pass_opt.tolerate >= 0 && s->pass_opt.tolerate < 0.5))
    return diag_error(s->diag, DIAG_USAGE, NULL, "--tolerate wants a number from 0 to below 0.5, not '%.60s'",
                      tolerate);
  return compression_options(s);
}

static bool parse_dims(Session *s, const char *text, NamedShape *out) {
  const char *eq = strrchr(text, '=');
  if (!eq || eq == text)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--input-shape wants NAME=1,3,8,8, not '%.100s'", text);
  out->name = arena_printf(s->arena, "%.*s", (int)(eq - text), text);
  for (const char *p = eq + 1; *p && out->rank < MAX_RANK;) {
    char *end;
    errno = 0;
    long long v = strtoll(p, &end, 10);
    if (end == p || errno || v < 0 || (*end && *end != ','))
      return diag_error(s->diag, DIAG_USAGE, NULL, "--input-shape: '%.60s' is not a list of sizes", eq + 1);
    out->dims[out->rank++] = v;
    p = *end ? end + 1 : end;
  }
  return true;
}

static bool parse_dim(Session *s, const char *text, NamedDim *out) {
  const char *eq = strrchr(text, '=');
  char *end = NULL;
  long long v = eq ? strtoll(eq + 1, &end, 10) : -1;
  if (!eq || eq == text || end == eq + 1 || *end || v < 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--dim wants NAME=NUMBER, not '%.100s'", text);
  *out = (NamedDim){arena_printf(s->arena, "%.*s", (int)(eq - text), text), v};
  return true;
}

// A whole number from 1 to `most`; *out keeps its default when the option is not given.
static bool parse_limit(Session *s, const char *option, const Texts *given, int64_t most, int64_t *out) {
  const char *text = option_text(given, NULL);
  char *end;
  if (!text) return true;
  errno = 0;
  *out = strtoll(text, &end, 10);
  if (end != text && !*end && !errno && *out >= 1 && *out <= most) return true;
  return diag_error(s->diag, DIAG_USAGE, NULL, "%s wants a number from 1 to %lld, not '%.60s'", option, (long long)most,
                    text);
}

static bool import_limits(Session *s, OnnxOptions *o) {
  int64_t mib = o->fold_bytes >> 20;
  if (!parse_limit(s, "--fold-limit", &s->opt.fold_limit, 1 << 20, &mib)) return false;
  o->fold_bytes = mib << 20;
  return parse_limit(s, "--max-nodes", &s->opt.max_nodes, 1000000000, &o->max_nodes);
}

static bool import_options(Session *s, OnnxOptions *o) {
  *o = onnx_options_default();
  if (!import_limits(s, o)) return false;
  for (uint32_t i = 0; i < s->opt.dim.n; i++) {
    NamedDim d;
    if (!parse_dim(s, s->opt.dim.at[i], &d)) return false;
    vec_push(s->arena, &o->dims, d);
  }
  for (uint32_t i = 0; i < s->opt.input_shape.n; i++) {
    NamedShape shape = {0};
    if (!parse_dims(s, s->opt.input_shape.at[i], &shape)) return false;
    vec_push(s->arena, &o->shapes, shape);
  }
  for (uint32_t i = 0; i < s->opt.bind.n; i++) {
    const char *text = s->opt.bind.at[i], *eq = strchr(text, '=');
    if (!eq || eq == text || !eq[1])
      return diag_error(s->diag, DIAG_USAGE, NULL, "--bind wants NAME=FILE, not '%.100s'", text);
    NamedFile f = {arena_printf(s->arena, "%.*s", (int)(eq - text), text), eq + 1};
    vec_push(s->arena, &o->binds, f);
  }
  const char *external = option_text(&s->opt.external_data, "on");
  if (strcmp(external, "on") != 0 && strcmp(external, "off") != 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "--external-data wants on or off, not '%.60s'", external);
  o->external_data = strcmp(external, "on") == 0;
  return true;
}

static bool option_names(const Texts *t, const char *name) {
  size_t n = strlen(name);
  for (uint32_t i = 0; i < t->n; i++)
    if (strncmp(t->at[i], name, n) == 0 && t->at[i][n] == '=') return true;
  return false;
}

void session_shape_from(Session *s, const char *path) {
  Module *m = module_new(s->arena, diag_new(s->arena, NULL));
  FileTensor t;
  if (access(path, R_OK) != 0 || !tensor_file_read(m, path, &t) || !t.name[0]) return;
  if (option_names(&s->opt.bind, t.name) || option_names(&s->opt.input_shape, t.name)) return;
  StrBuf b;
  strbuf_init(&b, s->arena);
  strbuf_printf(&b, "%s=", t.name);
  for (uint32_t d = 0; d < t.type->rank; d++) strbuf_printf(&b, "%s%lld", d ? "," : "", (long long)t.type->dims[d]);
  vec_push(s->arena, &s->opt.input_shape, strbuf_str(&b));
}

static bool ends_with(const char *s, const char *tail) {
  size_t n = strlen(s), k = strlen(tail);
  return n >= k && strcmp(s + n - k, tail) == 0;
}

static char *file_read(Session *s, const char *path, size_t *n) {
  FILE *f = fopen(path, "rbe");
  struct stat st;
  if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > INT64_C(1) << 31) {
    diag_error(s->diag, DIAG_IO, NULL, "can't read '%.200s': %s", path,
               f ? "not a regular file below 2 GiB" : strerror(errno));
    if (f) fclose(f);
    return NULL;
  }
  char *text = arena_alloc(s->arena, (size_t)st.st_size + 1);
  *n = fread(text, 1, (size_t)st.st_size, f);
  fclose(f);
  return text;
}

bool session_load(Session *s) {
  s->threads = 1;
  if (!parse_limit(s, "--threads", &s->opt.threads, 256, &s->threads) ||
      !parse_limit(s, "--iterations", &s->opt.iterations, 1000000, &s->iterations))
    return false;
  if (!s->opt.file) return diag_error(s->diag, DIAG_USAGE, NULL, "no input file; `qcc --help` shows how to call it");
  if (ends_with(s->opt.file, ".qir")) {
    size_t n;
    char *text = file_read(s, s->opt.file, &n);
    if (text) s->m = parse_module(s->arena, s->diag, s->opt.file, text, n);
    if (!s->m || !verify_module(s->m)) return false;
    if (s->m->funcs.n > 0) declare_layers(s);
    return true;
  }
  OnnxOptions o;
  if (!import_options(s, &o)) return false;
  o.strict_fp = s->pass_opt.strict_fp;
  s->m = onnx_import(s->arena, s->diag, s->opt.file, &o);
  if (s->m) declare_layers(s);
  return s->m != NULL;
}

static void progress_line(void *ctx, const char *pass, uint32_t done, uint32_t total) {
  Session *s = ctx;
  if (!s->terminal || session_now() - s->start < 1.0) return;
  fprintf(stderr, "\r\033[K[%u/%u] %s", done + 1, total, pass);
  fflush(stderr);
}

static void progress_clear(const Session *s) {
  if (s->terminal && session_now() - s->start >= 1.0) fprintf(stderr, "\r\033[K");
}

// Few bits on request come before all that looks at weights, and are met by the passes that recover integers.
const char *session_pipeline(const Session *s) {
  const char *all = option_text(&s->opt.passes, NULL), *cut = strstr(pipeline_default, ",merge");
  if (all != NULL || !quantize_asked(s) || cut == NULL) return all != NULL ? all : pipeline_default;
  return arena_printf(s->arena, "%.*s,quantize,integer,levels%s", (int)(cut - pipeline_default), pipeline_default, cut);
}

bool session_passes(Session *s, const char *pipeline) {
  s->pass_opt.release = s->release;
  RunOptions run = {
      .verify_each = option_flag(&s->opt.verify_each),
      .release = s->release,
      .print_after = option_text(&s->opt.print_after, NULL),
      .print_to = stderr,
      .replay_path = "qcc-replay.qir",
      .progress = progress_line,
      .progress_ctx = s,
  };
  PassTimings timings = {0};
  bool ok = pipeline_run(s->m, s->target, pipeline, &s->pass_opt, &run, s->arena, &timings);
  for (uint32_t i = 0; i < timings.n; i++) vec_push(s->arena, &s->timings, timings.at[i]);
  return ok;
}

bool session_emit(Session *s, EmitKind kind, ObjectBytes *out) {
  StrBuf info;
  strbuf_init(&info, s->arena);
  report_info(s, &info);
  EmitOptions emit = {.name = s->name,
                      .info_json = strbuf_str(&info),
                      .pic = true,
                      .link = s->link,
                      .steps = s->steps,
                      .release = s->release,
                      .external = s->external,
                      .emulated = s->emulated};
  if (s->terminal) progress_line(s, "code generation", 0, 1);
  double start = session_now();
  Level one = {s->m, s->target};
  bool many = s->n_levels > 1;
  bool ok = backend_emit_levels(many ? s->n_levels : 1, many ? s->levels : &one, &emit, kind, s->in_process, out);
  PassTiming timing = {"emit", session_now() - start, 0};
  vec_push(s->arena, &s->timings, timing);
  progress_clear(s);
  return ok;
}

bool session_compile(Session *s, ObjectBytes *out) {
  if (!cases_samples(s) || !quantize_prepare(s) || !session_lower(s)) return false;
  if (!s->m->program)
    return diag_error(s->diag, DIAG_USAGE, NULL, "the pipeline does not contain 'lower': there is nothing to emit");
  return session_emit(s, EMIT_OBJECT, out);
}

// ---- a model in this process

static void *buffer_new(uint64_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes ? (bytes + 63) / 64 * 64 : 64) != 0)
    qcc_bug("out of memory for a buffer of the model");
  memset(p, 0, bytes ? (bytes + 63) / 64 * 64 : 64);
  return p;
}

bool session_jit(Session *s, const ObjectBytes *object, const char *name, Loaded *out) {
  *out = (Loaded){.jit = jit_load(object, name, s->diag)};
  if (!out->jit) return false;
  const qcc_model *model = out->model = jit_model(out->jit);
  out->workspace = buffer_new(model->workspace_size(NULL));
  out->inputs = NEW_ARRAY(s->arena, void *, model->n_inputs + 1);
  out->outputs = NEW_ARRAY(s->arena, void *, model->n_outputs + 1);
  for (uint32_t i = 0; i < model->n_inputs; i++) out->inputs[i] = buffer_new(model->inputs[i].bytes);
  for (uint32_t i = 0; i < model->n_outputs; i++) out->outputs[i] = buffer_new(model->outputs[i].bytes);
  if (s->threads > 1) out->pool = qcc_pool_new((uint32_t)s->threads);
  int status = s->n_levels > 1 ? qcc_init(model, out->workspace) : model->init(out->workspace);
  if (status == QCC_E_CPU)
    return diag_error(s->diag, DIAG_UNSUPPORTED, NULL, "the model does not run on this CPU, which lacks %s",
                      qcc_level(out->workspace));
  if (status != 0)
    return diag_error(s->diag, DIAG_USAGE, NULL, "QCC_CPU=%.60s: %s", getenv("QCC_CPU") ? getenv("QCC_CPU") : "",
                      qcc_status_text(status));
  return true;
}

int loaded_run(const Loaded *l) {
  qcc_call call = {.workspace = l->workspace,
                   .inputs = (const void *const *)l->inputs,
                   .outputs = l->outputs,
                   .exec = qcc_pool_exec(l->pool)};
  return l->model->run(&call);
}

void loaded_free(Loaded *l) {
  if (l->pool) qcc_pool_free(l->pool);
  for (uint32_t i = 0; l->model && i < l->model->n_inputs; i++) free(l->inputs[i]);
  for (uint32_t i = 0; l->model && i < l->model->n_outputs; i++) free(l->outputs[i]);
  free(l->workspace);
  if (l->jit) jit_free(l->jit);
}
