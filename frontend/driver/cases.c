// Folders of tensors, as the ONNX test suites keep them. See cases.h.
#include "frontend/driver/cases.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/onnx.h"
#include "ir/elem.h"

static bool read_tensor(Session *s, const char *path, const Type *want, bool required, Tensor *out) {
  FILE *f = fopen(path, "rbe");
  if (!f) {
    *out = (Tensor){want, NULL};
    return !required || diag_error(s->diag, DIAG_IO, NULL, "can't read '%.200s'", path);
  }
  fclose(f);
  FileTensor t;
  if (!tensor_file_read(s->m, path, &t)) return false;
  if (t.type->dtype != want->dtype || type_count(t.type) != type_count(want))
    return diag_error(s->diag, DIAG_REFUSED, NULL, "'%.200s' holds %s, the model says %s", path,
                      type_text(s->arena, s->m->types, t.type), type_text(s->arena, s->m->types, want));
  *out = (Tensor){want, arena_copy(s->arena, t.data, (size_t)type_bytes(want))};
  return true;
}

static bool case_read(Session *s, const Func *f, const char *dir, Case *out) {
  *out = (Case){dir, NEW_ARRAY(s->arena, Tensor, f->n_args + 1), NEW_ARRAY(s->arena, Tensor, f->n_results + 1)};
  for (uint32_t i = 0; i < f->n_args; i++)
    if (!read_tensor(s, arena_printf(s->arena, "%s/input_%u.pb", dir, i), f->args[i]->type, true, &out->in[i]))
      return false;
  for (uint32_t i = 0; i < f->n_results; i++)
    if (!read_tensor(s, arena_printf(s->arena, "%s/output_%u.pb", dir, i), f->results[i]->type, false, &out->want[i]))
      return false;
  return true;
}

// Seeded inputs: floats uniform in [-1, 1), integers small and non-negative (valid as most indices).
static Case case_random(Session *s, const Func *f) {
  Case c = {"random inputs", NEW_ARRAY(s->arena, Tensor, f->n_args + 1), NEW_ARRAY(s->arena, Tensor, f->n_results + 1)};
  for (uint32_t i = 0; i < f->n_args; i++) {
    const Type *t = f->args[i]->type;
    c.in[i] = tensor_new(s->arena, t);
    Value *v = const_generated(s->m, t, CONST_RAND, 0, 100 + i, NULL);
    for (int64_t k = 0; k < type_count(t); k++) {
      double x = const_f(s->m, v->constant, k);
      elem_set_f(c.in[i].data, t->dtype, k, dtype_is_float(t->dtype) ? x : fmod(fabs(x), 2));
    }
  }
  return c;
}

static int name_order(const struct dirent **a, const struct dirent **b) {
  size_t n = strlen((*a)->d_name), k = strlen((*b)->d_name);
  return n != k ? (n < k ? -1 : 1) : strcmp((*a)->d_name, (*b)->d_name);
}

static int is_set(const struct dirent *e) { return strncmp(e->d_name, "test_data_set_", 14) == 0; }

bool cases_read_from(Session *s, const Func *f, const char *dir, Cases *out) {
  struct dirent **sets = NULL;
  int n = scandir(dir, &sets, is_set, name_order);
  if (n < 0) return diag_error(s->diag, DIAG_IO, NULL, "can't read the folder '%.200s'", dir);
  bool ok = true;
  for (int i = 0; i < n; i++) {
    Case c;
    if (ok) ok = case_read(s, f, arena_printf(s->arena, "%s/%s", dir, sets[i]->d_name), &c);
    if (ok) vec_push(s->arena, out, c);
    free(sets[i]);
  }
  free(sets);
  if (ok && n == 0) {
    Case c;
    ok = case_read(s, f, dir, &c);
    if (ok) vec_push(s->arena, out, c);
  }
  return ok;
}

bool cases_read(Session *s, const Func *f, Cases *out) {
  const char *dir = option_text(&s->opt.data, NULL);
  if (dir) return cases_read_from(s, f, dir, out);
  vec_push(s->arena, out, case_random(s, f));
  return true;
}

void cases_shapes(Session *s) {
  const char *dir = option_text(&s->opt.data, NULL);
  if (!dir) return;
  const char *first = arena_printf(s->arena, "%s/test_data_set_0", dir);
  if (access(first, R_OK) != 0) first = dir;
  for (uint32_t i = 0;; i++) {
    const char *path = arena_printf(s->arena, "%s/input_%u.pb", first, i);
    if (access(path, R_OK) != 0) break;
    session_shape_from(s, path);
  }
}

bool cases_samples(Session *s) {
  Cases cases = {0};
  s->pass_opt.n_samples = 0;
  if ((s->opt.factorize.n == 0 && s->opt.prune.n == 0 && s->opt.share.n == 0) || !option_text(&s->opt.data, NULL))
    return true;
  if (!cases_read(s, s->m->funcs.at[0], &cases)) return false;
  const Tensor **samples = NEW_ARRAY(s->arena, const Tensor *, cases.n + 1);
  for (uint32_t i = 0; i < cases.n; i++) samples[i] = cases.at[i].in;
  s->pass_opt.samples = samples;
  s->pass_opt.n_samples = cases.n;
  return true;
}
