// The factoring engine on the layers of trained networks.
//
//   factors LIST.tsv ROOT [--only SUBSTRING]
//
// For every layer that fits a row, and every form that its scheme (of `auto`: every scheme) offers, the error by theory
// must be the distance between the weights and what the factors give back, to 1e-5 of it; and the form that the row
// names must be among them. One row is one test.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/compress/factorize.h"
#include "tests/support/case.h"

typedef struct Row {
  char name[128], layer[64], spec[96], want[96], dim[32];
} Row;

static bool row_read(const char *line, Row *r) {
  *r = (Row){0};
  tsv_field(line, 3, r->want, sizeof r->want);
  tsv_field(line, 4, r->dim, sizeof r->dim);
  return line[0] != '#' && tsv_field(line, 0, r->name, sizeof r->name) &&
         tsv_field(line, 1, r->layer, sizeof r->layer) && tsv_field(line, 2, r->spec, sizeof r->spec);
}

typedef struct Count {
  uint32_t layers, forms;
  double worst;  // |theory - measured| / theory
  bool found;    // the form wanted
} Count;

static void check_forms(const Row *r, const FactorLayer *l, const Forms *forms, Count *n, Arena *arena) {
  for (uint32_t i = 0; i < forms->list.n; i++) {
    const Form *f = forms->list.at[i];
    double *w = NEW_ARRAY(arena, double, l->n_w), theory = sqrt(fmax(f->error2, 0)), norm = sqrt(l->norm2);
    f->rebuild(l, f, w, arena);
    double off = fabs(sqrt(squared_distance(l->n_w, w, l->w)) - theory);
    if (theory > 1e-6 * norm || off > 1e-12 * norm) n->worst = fmax(n->worst, off / theory);
    const char *text = arena_printf(arena, "%s: %lld", form_text(arena, f), (long long)form_parameters(f));
    n->found = n->found || strcmp(text, r->want) == 0;
    n->forms++;
  }
}

static void check_layer(const Row *r, const FactorSpec *spec, const Op *op, Count *n) {
  Arena *arena = arena_new("layer");
  const char *why = NULL;
  FactorLayer l;
  if (layer_is_named(op->loc, r->layer) && layer_read(op, &l, arena, &why)) {
    n->layers++;
    for (uint32_t i = 0; i < scheme_count(); i++) {
      Forms forms = {.arena = arena};
      if (spec->scheme != NULL && spec->scheme != scheme_at(i)) continue;
      scheme_at(i)->run(&l, &spec->ask, &forms);
      check_forms(r, &l, &forms, n, arena);
    }
  }
  arena_free(arena);
}

static bool row_run(const Row *r, const char *root) {
  Session s = {.arena = arena_new("module"), .start = session_now(), .name = "factors"};
  FactorSpec spec;
  Count n = {0};
  s.diag = diag_new(s.arena, stderr);
  s.pass_opt = pass_options_default();
  s.target = target_by_name("native");
  s.opt.file = arena_printf(s.arena, "%s/%s/model.onnx", root, r->name);
  if (r->dim[0]) vec_push(s.arena, &s.opt.dim, r->dim);
  const char *end = strstr(pipeline_default, ",factorize");
  bool ok = factor_spec_read(r->spec, 0, s.arena, s.diag, &spec) && session_load(&s) &&
            session_passes(&s, arena_printf(s.arena, "%.*s", (int)(end - pipeline_default), pipeline_default));
  for (const Op *op = ok ? s.m->funcs.at[0]->first : NULL; op != NULL; op = op->next) check_layer(r, &spec, op, &n);
  ok = ok && n.forms > 0 && n.worst <= 1e-5 && (r->want[0] == 0 || n.found);
  printf("%s %-28s %-12s %-44s %u layers, %u forms, theory within %.1e%s\n", ok ? "ok  " : "FAIL", r->name, r->layer,
         r->spec, n.layers, n.forms, n.worst,
         r->want[0] == 0 ? ""
         : n.found       ? ", found"
                         : ", not found");
  fflush(stdout);
  arena_free(s.arena);
  return ok;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: factors LIST.tsv ROOT [--only SUBSTRING]\n");
    return 2;
  }
  const char *only = argc > 4 && strcmp(argv[3], "--only") == 0 ? argv[4] : "";
  FILE *f = fopen(argv[1], "re");
  char line[512];
  uint32_t passed = 0, failed = 0;
  while (f && fgets(line, sizeof line, f)) {
    Row r;
    if (!row_read(line, &r) || !strstr(r.name, only)) continue;
    *(row_run(&r, argv[2]) ? &passed : &failed) += 1;
  }
  if (f) fclose(f);
  if (passed + failed == 0) failed = 1;  // nothing ran
  printf("%u passed, %u failed\n", passed, failed);
  return failed ? 1 : 0;
}
