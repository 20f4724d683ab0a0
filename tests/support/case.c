// See case.h.
#include "tests/support/case.h"

#include <dirent.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/driver/report.h"
#include "ir/elem.h"
#include "runtime/qcc_rt.h"
#include "tests/support/amx_emulator.h"

const char *outcome_text(Outcome o) {
  static const char *const text[] = {"pass", "refused", "WRONG", "CRASH"};
  return text[o];
}

bool tsv_field(const char *line, uint32_t n, char *out, size_t size) {
  for (; n; n--) {
    line = strchr(line, '\t');
    if (!line) return false;
    line++;
  }
  size_t k = strcspn(line, "\t\r\n");
  if (k >= size) k = size - 1;
  memcpy(out, line, k);
  out[k] = 0;
  return true;
}

// ---- one case, inside the child

typedef struct Child {
  Session s;
  const CaseSpec *spec;
  CaseResult *result;
} Child;

static bool stop(Child *c, Outcome o, const char *text) {
  c->result->outcome = o;
  snprintf(c->result->text, sizeof c->result->text, "%s", text);
  char *line = strchr(c->result->text, '\n');
  if (line) *line = 0;
  return false;
}

static const char *set_dir(Child *c, uint32_t set) {
  return arena_printf(c->s.arena, "%s/test_data_set_%u", c->spec->dir, set);
}

static bool exists(const char *path) { return access(path, R_OK) == 0; }

static bool name_listed(const char *list, const char *name) {
  size_t n = strlen(name);
  for (const char *p = list; *p; p += *p == ',') {
    size_t k = strcspn(p, ",");
    if (k == n && memcmp(p, name, n) == 0) return true;
    p += k;
  }
  return false;
}

// Shapes of symbolic inputs come from the data; bound inputs from the first set.
static void case_options(Child *c) {
  Module *m = module_new(c->s.arena, diag_new(c->s.arena, NULL));
  for (uint32_t i = 0;; i++) {
    const char *path = arena_printf(c->s.arena, "%s/input_%u.pb", set_dir(c, 0), i);
    FileTensor t;
    if (!exists(path)) break;
    if (!tensor_file_read(m, path, &t) || !t.name[0]) continue;
    if (name_listed(c->spec->bind, t.name)) {
      vec_push(c->s.arena, &c->s.opt.bind, arena_printf(c->s.arena, "%s=%s", t.name, path));
      continue;
    }
    session_shape_from(&c->s, path);
  }
}

static bool read_input(Child *c, uint32_t set, uint32_t number, uint32_t *file, const Loaded *l) {
  const Func *f = c->s.m->funcs.at[0];
  const Type *want = f->args[number]->type;
  for (;; ++*file) {
    FileTensor t;
    if (!tensor_file_read(c->s.m, arena_printf(c->s.arena, "%s/input_%u.pb", set_dir(c, set), *file), &t))
      return stop(c, OUTCOME_CRASH, diag_text(c->s.diag));
    if (name_listed(c->spec->bind, t.name)) continue;
    ++*file;
    if (t.type->dtype != want->dtype || type_count(t.type) != type_count(want))
      return stop(c, OUTCOME_WRONG, "input tensor has another type than the compiled model");
    memcpy(l->inputs[number], t.data, (size_t)type_bytes(want));
    return true;
  }
}

static bool close_enough(const Gate *g, double got, double want) {
  if (got == want || (isnan(got) && isnan(want))) return true;
  return fabs(got - want) <= g->abs + g->rel * fabs(want) + g->rel_plus_one * (1 + fabs(want));
}

static int64_t argmax(const void *data, DType t, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; i++)
    if (elem_get_f(data, t, i) > elem_get_f(data, t, best)) best = i;
  return best;
}

static const char *output_path(Child *c, uint32_t set, uint32_t i) {
  if (c->spec->light) return arena_printf(c->s.arena, "%s_output_%u.pb", c->spec->light, i);
  return arena_printf(c->s.arena, "%s/output_%u.pb", set_dir(c, set), i);
}

static bool compare_output(Child *c, uint32_t set, uint32_t i, const void *got) {
  const Func *f = c->s.m->funcs.at[0];
  const Type *have = f->results[i]->type;
  FileTensor t;
  const char *path = output_path(c, set, i);
  if (!exists(path)) return true;
  if (!tensor_file_read(c->s.m, path, &t)) return stop(c, OUTCOME_CRASH, diag_text(c->s.diag));
  if (t.type != have)
    return stop(c, OUTCOME_WRONG,
                arena_printf(c->s.arena, "output %u is %s, recorded %s", i, type_text(c->s.arena, c->s.m->types, have),
                             type_text(c->s.arena, c->s.m->types, t.type)));
  int64_t n = type_count(have);
  bool is_float = dtype_is_float(have->dtype);
  for (int64_t k = 0; k < n; k++) {
    double w = elem_get_f(t.data, have->dtype, k), g = elem_get_f(got, have->dtype, k);
    bool ok = is_float ? close_enough(&c->spec->gate, g, w)
                       : elem_get_i(t.data, have->dtype, k) == elem_get_i(got, have->dtype, k);
    if (!ok)
      return stop(
          c, OUTCOME_WRONG,
          arena_printf(c->s.arena, "set %u output %u element %lld: %.9g, recorded %.9g", set, i, (long long)k, g, w));
  }
  if (c->spec->gate.same_argmax && is_float && have->rank <= 2 && n > 1 &&
      argmax(t.data, have->dtype, n) != argmax(got, have->dtype, n))
    return stop(c, OUTCOME_WRONG, arena_printf(c->s.arena, "set %u output %u: another largest element", set, i));
  return true;
}

static void ramp_input(const Func *f, const Loaded *l) {
  float *x = l->inputs[0];
  int64_t n = type_count(f->args[0]->type);
  for (int64_t i = 0; i < n; i++) x[i] = (float)i / (float)n;
}

static bool run_set(Child *c, uint32_t set, const Loaded *l) {
  const Func *f = c->s.m->funcs.at[0];
  uint32_t file = 0;
  if (c->spec->light) ramp_input(f, l);
  for (uint32_t i = 0; i < f->n_args && !c->spec->light; i++)
    if (!read_input(c, set, i, &file, l)) return false;
  qcc_call call = {.workspace = l->workspace, .inputs = (const void *const *)l->inputs, .outputs = l->outputs};
  int status = l->model->run(&call);
  if (status != QCC_OK) return stop(c, OUTCOME_REFUSED, qcc_status_text(status));
  for (uint32_t i = 0; i < f->n_results; i++)
    if (!compare_output(c, set, i, l->outputs[i])) return false;
  return true;
}

static void case_run(Child *c) {
  Session *s = &c->s;
  *s = (Session){.arena = arena_new("module"), .start = session_now(), .name = "qcc_case", .in_process = true};
  s->diag = diag_new(s->arena, NULL);
  s->pass_opt = pass_options_default();
  session_levels(s, c->spec->target ? c->spec->target : "native");
  s->emulated = amx_emulated(s->levels[s->n_levels - 1].target);
  s->opt.file = c->spec->light ? arena_printf(s->arena, "%s.onnx", c->spec->light)
                               : arena_printf(s->arena, "%s/model.onnx", c->spec->dir);
  if (!c->spec->light) case_options(c);
  ObjectBytes object = {0};
  Loaded l = {0};
  bool ok = session_load(s);
  if (ok) {
    s->m->name = s->name;
    ok = session_compile(s, &object) && session_jit(s, &object, s->name, &l);
  }
  if (!ok) {
    stop(c, OUTCOME_REFUSED, diag_text(s->diag));
    return;
  }
  c->result->outcome = OUTCOME_PASS;
  if (c->spec->light) run_set(c, 0, &l);
  for (uint32_t set = 0; !c->spec->light && exists(set_dir(c, set)); set++)
    if (!run_set(c, set, &l)) return;
}

// ---- children

typedef struct Running {
  pid_t pid;
  int fd;
  uint32_t index;
} Running;

static Running case_start(const CaseSpec *spec, uint32_t index) {
  int fds[2];
  if (pipe(fds) != 0) qcc_bug("no pipe for a test case");
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0) qcc_bug("no process for a test case");
  if (pid == 0) {
    close(fds[0]);
    struct rlimit core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    alarm(spec->seconds);
    CaseResult result = {.outcome = OUTCOME_CRASH};
    Child c = {.spec = spec, .result = &result};
    case_run(&c);
    ssize_t k = write(fds[1], &result, sizeof result);
    _exit(k == (ssize_t)sizeof result ? 0 : 1);
  }
  close(fds[1]);
  return (Running){pid, fds[0], index};
}

static void case_finish(const Running *r, CaseResult *result) {
  size_t n = 0;
  while (n < sizeof *result) {
    ssize_t k = read(r->fd, (char *)result + n, sizeof *result - n);
    if (k <= 0) break;
    n += (size_t)k;
  }
  close(r->fd);
  int status = 0;
  waitpid(r->pid, &status, 0);
  if (n == sizeof *result) return;
  result->outcome = OUTCOME_CRASH;
  if (WIFSIGNALED(status)) {
    snprintf(result->text, sizeof result->text, "%s",
             WTERMSIG(status) == SIGALRM ? "time limit" : strsignal(WTERMSIG(status)));
  } else {
    snprintf(result->text, sizeof result->text, "exit code %d", WEXITSTATUS(status));
  }
}

void cases_run(const CaseSpec *specs, CaseResult *results, uint32_t n, uint32_t jobs) {
  Running running[16];
  struct pollfd fds[16];
  uint32_t started = 0, live = 0;
  if (jobs > 16) jobs = 16;
  while (started < n || live) {
    while (live < jobs && started < n) {
      running[live++] = case_start(&specs[started], started);
      started++;
    }
    for (uint32_t i = 0; i < live; i++) fds[i] = (struct pollfd){.fd = running[i].fd, .events = POLLIN};
    if (poll(fds, live, -1) <= 0) continue;
    for (uint32_t i = live; i-- > 0;) {
      if (!fds[i].revents) continue;
      case_finish(&running[i], &results[running[i].index]);
      running[i] = running[--live];
    }
  }
}

// ---- a model for tests that call it often

bool test_model_open(TestModel *t, const char *path, const char *const *shapes, uint32_t n_shapes) {
  return test_model_open_with(t, path, shapes, n_shapes, NULL, 0);
}

static bool open_with(TestModel *t, const char *path, const char *const *shapes, uint32_t n_shapes, char **options,
                      int n_options, FactorReport *factored) {
  *t = (TestModel){0};
  Session *s = &t->session;
  *s = (Session){.arena = arena_new("module"), .start = session_now(), .name = "qcc_test", .in_process = true};
  s->diag = diag_new(s->arena, stderr);
  char **args = NEW_ARRAY(s->arena, char *, n_options + 1);
  for (int i = 0; i < n_options; i++) args[i + 1] = options[i];
  if (!options_parse(&s->opt, n_options + 1, args, s->arena, s->diag) || !session_pass_options(s)) return false;
  session_levels(s, "native");
  s->opt.file = path;
  for (uint32_t i = 0; i < n_shapes; i++) vec_push(s->arena, &s->opt.dim, shapes[i]);
  if (!session_load(s)) return false;
  s->m->name = s->name;
  if (factored != NULL) {
    factored->arena = s->arena;
    s->pass_opt.factored = factored;
    report_weights_read(s);
  }
  return session_compile(s, &t->object) && session_jit(s, &t->object, s->name, &t->loaded);
}

bool test_model_open_with(TestModel *t, const char *path, const char *const *shapes, uint32_t n_shapes, char **options,
                          int n_options) {
  return open_with(t, path, shapes, n_shapes, options, n_options, NULL);
}

bool test_model_open_noted(TestModel *t, const char *path, char **options, int n_options, FactorReport *factored) {
  return open_with(t, path, NULL, 0, options, n_options, factored);
}

void test_model_close(TestModel *t) {
  loaded_free(&t->loaded);
  free(t->object.at);
  arena_free(t->session.arena);
}
