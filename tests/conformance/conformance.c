// The ONNX 1.22 backend cases with a three-way result: pass, refused with a reason, wrong (or crash).
//
//   conformance CASES.tsv DATA_DIR GOLDEN.tsv [--bless] [--jobs N] [--only SUBSTRING] [--target CPU]
//
// GOLDEN.tsv has one row per case of the numeric classes: suite, name, outcome. A case that is wrong or crashes always
// fails; one whose outcome differs from its row fails; --bless rewrites the rows (wrong and crashed cases are never
// blessed).
#include <stdlib.h>
#include <string.h>

#include "ir/base/map.h"
#include "tests/support/case.h"

typedef struct Row {
  char suite[32], name[160], cls[24], shapes[16], bind[200], tol[8];
} Row;

static bool row_read(const char *line, Row *r) {
  return tsv_field(line, 0, r->suite, sizeof r->suite) && tsv_field(line, 1, r->name, sizeof r->name) &&
         tsv_field(line, 6, r->cls, sizeof r->cls) && tsv_field(line, 8, r->shapes, sizeof r->shapes) &&
         tsv_field(line, 9, r->bind, sizeof r->bind) && tsv_field(line, 10, r->tol, sizeof r->tol);
}

static Map *golden_read(Arena *arena, const char *path) {
  Map *m = map_new(arena);
  FILE *f = fopen(path, "re");
  char line[512], key[200], outcome[32];
  while (f && fgets(line, sizeof line, f))
    if (tsv_field(line, 1, key, sizeof key) && tsv_field(line, 2, outcome, sizeof outcome)) {
      char suite[32];
      tsv_field(line, 0, suite, sizeof suite);
      map_set_str(m, arena_printf(arena, "%s/%s", suite, key), arena_printf(arena, "%s", outcome));
    }
  if (f) fclose(f);
  return m;
}

// The reason without the folder of the data: the table is the same wherever the suite lies.
static const char *reason(Arena *arena, const char *root, const char *text) {
  const char *at = strstr(text, root);
  return at ? arena_printf(arena, "%.*s%s", (int)(at - text), text, at + strlen(root)) : text;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(
        stderr,
        "usage: conformance CASES.tsv DATA_DIR GOLDEN.tsv [--bless] [--jobs N] [--only SUBSTRING] [--target CPU]\n");
    return 2;
  }
  bool bless = false;
  uint32_t jobs = 2;
  const char *only = "", *target = NULL;
  for (int i = 4; i < argc; i++) {
    if (strcmp(argv[i], "--bless") == 0) bless = true;
    if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc) jobs = (uint32_t)strtoul(argv[++i], NULL, 10);
    if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
    if (strcmp(argv[i], "--target") == 0 && i + 1 < argc) target = argv[++i];
  }
  Arena *arena = arena_new("conformance");
  FILE *f = fopen(argv[1], "re");
  if (!f) {
    fprintf(stderr, "conformance: can't read %s\n", argv[1]);
    return 2;
  }
  VEC(Row) rows = {0};
  VEC(CaseSpec) specs = {0};
  char line[8192];
  while (fgets(line, sizeof line, f)) {
    Row r;
    if (!row_read(line, &r) || strncmp(r.cls, "numeric", 7) != 0 || !strstr(r.name, only)) continue;
    vec_push(arena, &rows, r);
  }
  fclose(f);
  for (uint32_t i = 0; i < rows.n; i++) {
    const Row *r = &rows.at[i];
    bool exact = r->tol[0] == 'E';
    CaseSpec spec = {.name = r->name,
                     .dir = arena_printf(arena, "%s/%s/%s", argv[2], r->suite, r->name),
                     .bind = r->bind,
                     .target = target,
                     .gate = exact ? (Gate){.abs = 1e-7, .rel = 1e-6} : (Gate){.abs = 1e-7, .rel = 1e-3},
                     .seconds = 60};
    if (strcmp(r->suite, "light") == 0) {
      spec.light = spec.dir;
      spec.gate.rel = 2e-3;
    }
    vec_push(arena, &specs, spec);
  }
  CaseResult *results = NEW_ARRAY(arena, CaseResult, specs.n + 1);
  cases_run(specs.at, results, specs.n, jobs);
  Map *golden = golden_read(arena, argv[3]);
  uint32_t count[4] = {0}, failed = 0;
  FILE *out = bless ? fopen(argv[3], "we") : NULL;
  for (uint32_t i = 0; i < specs.n; i++) {
    const CaseResult *r = &results[i];
    const char *key = arena_printf(arena, "%s/%s", rows.at[i].suite, rows.at[i].name), *text = outcome_text(r->outcome);
    const char *want = map_get_str(golden, key);
    count[r->outcome]++;
    bool disputed = want && strcmp(want, "disputed") == 0 && r->outcome == OUTCOME_WRONG;
    if (disputed) text = "disputed";
    bool bad = !disputed && (r->outcome >= OUTCOME_WRONG || (!bless && (!want || strcmp(want, text) != 0)));
    count[OUTCOME_WRONG] -= disputed;
    if (bad || (only[0] && r->outcome != OUTCOME_PASS))
      printf("%s %s: %s (expected %s) %s\n", bad ? "FAIL" : "    ", key, text, want ? want : "nothing", r->text);
    failed += bad;
    if (out && (disputed || r->outcome < OUTCOME_WRONG))
      fprintf(out, "%s\t%s\t%s\t%s\n", rows.at[i].suite, rows.at[i].name, text, reason(arena, argv[2], r->text));
  }
  if (out) fclose(out);
  printf("conformance: %u cases: %u pass, %u refused, %u wrong, %u crashed\n", specs.n, count[0], count[1], count[2],
         count[3]);
  printf("%u passed, %u failed\n", specs.n - failed, failed);
  arena_free(arena);
  return failed ? 1 : 0;
}
