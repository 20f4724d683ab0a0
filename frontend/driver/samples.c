// Packs of samples. See samples.h.
//
// A pack holds any number of inputs one behind the other: float32[100,3,32,32] is 100 samples for an input
// float32[1,3,32,32], 25 for float32[4,3,32,32]. What is left over of a pack is not used.
#include "frontend/driver/samples.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/driver/cases.h"
#include "frontend/onnx.h"
#include "ir/elem.h"

typedef VEC(const char *) Paths;

typedef struct Pack {
  const uint8_t *data;
  int64_t n;  // inputs in it
} Pack;

static bool has_tail(const char *text, const char *tail) {
  size_t n = strlen(text), k = strlen(tail);
  return n >= k && strcmp(text + n - k, tail) == 0;
}

static int is_npy(const struct dirent *e) { return has_tail(e->d_name, ".npy"); }
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static bool list_packs(Session *s, const char *path, Paths *out, const char **labels) {
  struct stat st;
  *labels = NULL;
  if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
    vec_push(s->arena, out, path);
    return true;
  }
  struct dirent **files = NULL;
  int n = scandir(path, &files, is_npy, by_name);
  if (n < 0) return diag_error(s->diag, DIAG_IO, NULL, "can't read the folder '%.200s'", path);
  for (int i = 0; i < n; i++) {
    const char *file = arena_printf(s->arena, "%s/%s", path, files[i]->d_name);
    if (strcmp(files[i]->d_name, "labels.npy") == 0) {
      *labels = file;
    } else {
      vec_push(s->arena, out, file);
    }
    free(files[i]);
  }
  free(files);
  return true;
}

static bool pack_read(Session *s, const char *path, const Type *want, Pack *out) {
  FileTensor t;
  if (!tensor_file_read(s->m, path, &t)) return false;
  int64_t one = type_count(want), all = type_count(t.type);
  if (t.type->dtype != want->dtype || one == 0 || all < one)
    return diag_error(s->diag, DIAG_REFUSED, NULL,
                      "'%.200s' holds %s; samples for %s are of its element type, normalised as the network expects "
                      "them",
                      path, type_text(s->arena, s->m->types, t.type), type_text(s->arena, s->m->types, want));
  *out = (Pack){t.data, all / one};
  return true;
}

// The pack of input i: by number, or by the input's name.
static const char *pack_of(Session *s, const Paths *paths, const Func *f, uint32_t i) {
  const char *number = arena_printf(s->arena, "/input_%u.npy", i);
  const char *name = arena_printf(s->arena, "/%s.npy", f->args[i]->name ? f->args[i]->name : "");
  for (uint32_t k = 0; k < paths->n; k++)
    if (has_tail(paths->at[k], number) || has_tail(paths->at[k], name)) return paths->at[k];
  return NULL;
}

static void add_samples(Session *s, const Func *f, const Pack *packs, Samples *out) {
  int64_t n = packs[0].n;
  for (uint32_t i = 1; i < f->n_args; i++) n = packs[i].n < n ? packs[i].n : n;
  const Tensor **all = NEW_ARRAY(s->arena, const Tensor *, (size_t)out->n + (size_t)n + 1);
  if (out->n > 0) memcpy(all, out->in, out->n * sizeof *all);
  for (int64_t k = 0; k < n; k++) {
    Tensor *in = NEW_ARRAY(s->arena, Tensor, f->n_args + 1);
    for (uint32_t i = 0; i < f->n_args; i++) {
      size_t bytes = (size_t)type_bytes(f->args[i]->type);
      in[i] = (Tensor){f->args[i]->type, arena_copy(s->arena, packs[i].data + (size_t)k * bytes, bytes)};
    }
    all[out->n++] = in;
  }
  out->in = all;
}

static bool read_packs(Session *s, const Func *f, const Paths *paths, Samples *out) {
  Pack *packs = NEW_ARRAY(s->arena, Pack, f->n_args + 1);
  if (f->n_args == 1) {
    for (uint32_t k = 0; k < paths->n; k++) {
      if (!pack_read(s, paths->at[k], f->args[0]->type, &packs[0])) return false;
      add_samples(s, f, packs, out);
    }
    return true;
  }
  for (uint32_t i = 0; i < f->n_args; i++) {
    const char *path = pack_of(s, paths, f, i);
    if (path == NULL)
      return diag_error(s->diag, DIAG_IO, NULL, "--calibrate: there is no input_%u.npy for input '%.60s'", i,
                        f->args[i]->name ? f->args[i]->name : "");
    if (!pack_read(s, path, f->args[i]->type, &packs[i])) return false;
  }
  add_samples(s, f, packs, out);
  return true;
}

static bool read_cases(Session *s, const Func *f, const char *path, Samples *out) {
  Cases cases = {0};
  if (!cases_read_from(s, f, path, &cases)) return false;
  const Tensor **all = NEW_ARRAY(s->arena, const Tensor *, cases.n + 1);
  for (uint32_t i = 0; i < cases.n; i++) all[i] = cases.at[i].in;
  *out = (Samples){cases.n, all, NULL};
  return true;
}

static bool read_labels(Session *s, const char *path, Samples *out) {
  FileTensor t;
  if (!tensor_file_read(s->m, path, &t)) return false;
  if (dtype_is_float(t.type->dtype) || type_count(t.type) < out->n)
    return diag_error(s->diag, DIAG_REFUSED, NULL, "'%.200s' holds %s, expected an integer for each of %u samples",
                      path, type_text(s->arena, s->m->types, t.type), out->n);
  int64_t *labels = NEW_ARRAY(s->arena, int64_t, out->n + 1);
  for (uint32_t i = 0; i < out->n; i++) labels[i] = elem_get_i(t.data, t.type->dtype, i);
  out->labels = labels;
  return true;
}

bool samples_read(Session *s, const Func *f, const char *path, Samples *out) {
  Paths paths = {0};
  const char *labels;
  *out = (Samples){0};
  for (uint32_t i = 0; i < f->n_args; i++)
    if (!type_is_static(f->args[i]->type))
      return diag_error(s->diag, DIAG_USAGE, NULL,
                        "--calibrate needs all sizes known: give --dim NAME=N for input '%.60s'",
                        f->args[i]->name ? f->args[i]->name : "");
  if (!list_packs(s, path, &paths, &labels)) return false;
  bool ok = paths.n > 0 ? read_packs(s, f, &paths, out) : read_cases(s, f, path, out);
  if (ok && labels != NULL) ok = read_labels(s, labels, out);
  if (ok && out->n == 0) ok = diag_error(s->diag, DIAG_IO, NULL, "--calibrate: no samples in '%.200s'", path);
  return ok;
}
