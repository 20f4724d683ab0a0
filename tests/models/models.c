// Folders of models with recorded inputs and outputs: real models, trained networks, generated graphs.
//
//   models LIST.tsv ROOT [--jobs N] [--only SUBSTRING] [--target CPU] [--strict-list]
//
// `--target sapphire-rapids` runs everywhere: the emulator executes AMX where the machine has none.
// LIST.tsv: name, expected outcome (pass or refused), absolute gate, gate relative to 1 + |x|, names to bind. A row
// with the name
// `*` stands for every other folder of ROOT that holds a model.onnx. A wrong result or a crash fails whatever the row
// says.
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/amx_emulator.h"
#include "tests/support/case.h"

typedef struct Row {
  char name[256], expect[16], abs[24], rel[24], bind[200];
} Row;

static bool row_read(const char *line, Row *r) {
  if (line[0] == '#') return false;
  *r = (Row){0};
  tsv_field(line, 4, r->bind, sizeof r->bind);
  return tsv_field(line, 0, r->name, sizeof r->name) && tsv_field(line, 1, r->expect, sizeof r->expect) &&
         tsv_field(line, 2, r->abs, sizeof r->abs) && tsv_field(line, 3, r->rel, sizeof r->rel);
}

typedef VEC(Row) Rows;

static bool row_known(const Rows *rows, const char *name) {
  for (uint32_t i = 0; i < rows->n; i++)
    if (strcmp(rows->at[i].name, name) == 0) return true;
  return false;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

// Replaces the `*` row by one row per folder not named elsewhere.
static bool expand_star(Arena *arena, Rows *rows, const char *root) {
  uint32_t star = 0;
  while (star < rows->n && strcmp(rows->at[star].name, "*") != 0) star++;
  if (star == rows->n) return true;
  Row all = rows->at[star];
  rows->at[star] = rows->at[--rows->n];
  struct dirent **names = NULL;
  int n = scandir(root, &names, NULL, by_name);
  for (int i = 0; i < n; i++) {
    const char *name = names[i]->d_name;
    Row r = all;
    snprintf(r.name, sizeof r.name, "%s", name);
    if (access(arena_printf(arena, "%s/%s/model.onnx", root, name), R_OK) == 0 && !row_known(rows, name))
      vec_push(arena, rows, r);
    free(names[i]);
  }
  free(names);
  return n >= 0;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: models LIST.tsv ROOT [--jobs N] [--only SUBSTRING] [--target CPU]\n");
    return 2;
  }
  uint32_t jobs = 2;
  const char *only = "", *target = NULL;
  for (int i = 3; i < argc; i++) {
    if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc) jobs = (uint32_t)strtoul(argv[++i], NULL, 10);
    if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
    if (strcmp(argv[i], "--target") == 0 && i + 1 < argc) target = argv[++i];
  }
  TargetLevels levels = target_levels(target ? target : "native");
  if (levels.n == 0 || (!target_runs_here(levels.at[0]) && !amx_emulated(levels.at[0]))) {
    printf("skipped: needs a CPU like %s\n0 passed, %d failed\n", target, levels.n ? 0 : 1);
    return levels.n ? 0 : 1;
  }
  Arena *arena = arena_new("models");
  Rows rows = {0};
  VEC(CaseSpec) specs = {0};
  char line[1024];
  FILE *f = fopen(argv[1], "re");
  if (!f) {
    fprintf(stderr, "models: can't read %s\n", argv[1]);
    return 2;
  }
  while (fgets(line, sizeof line, f)) {
    Row r;
    if (row_read(line, &r)) vec_push(arena, &rows, r);
  }
  fclose(f);
  if (!expand_star(arena, &rows, argv[2])) {
    fprintf(stderr, "models: can't read the folder %s\n", argv[2]);
    return 2;
  }
  for (uint32_t i = 0; i < rows.n; i++) {
    const Row *r = &rows.at[i];
    CaseSpec spec = {.name = r->name,
                     .dir = arena_printf(arena, "%s/%s", argv[2], r->name),
                     .bind = r->bind,
                     .target = target,
                     .gate = {.abs = strtod(r->abs, NULL), .rel_plus_one = strtod(r->rel, NULL)},
                     .seconds = 120};
    if (strstr(r->name, only)) vec_push(arena, &specs, spec);
  }
  CaseResult *results = NEW_ARRAY(arena, CaseResult, specs.n + 1);
  cases_run(specs.at, results, specs.n, jobs);
  uint32_t failed = 0, count[4] = {0};
  for (uint32_t i = 0, k = 0; i < rows.n; i++) {
    if (!strstr(rows.at[i].name, only)) continue;
    const CaseResult *r = &results[k++];
    bool bad = strcmp(outcome_text(r->outcome), rows.at[i].expect) != 0;
    count[r->outcome]++;
    failed += bad;
    printf("%s %-40s %s %s\n", bad ? "FAIL" : "ok  ", rows.at[i].name, outcome_text(r->outcome), r->text);
  }
  printf("models: %u pass, %u refused, %u wrong, %u crashed\n", count[0], count[1], count[2], count[3]);
  printf("%u passed, %u failed\n", specs.n - failed, failed);
  arena_free(arena);
  return failed ? 1 : 0;
}
