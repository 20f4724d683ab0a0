// The golden runner. One file holds everything:
//
//   # why this file exists
//   # passes: fuse                  absent: only the text is checked
//   # target: x86-64-v3             the default
//   # ints: 0 4                     range of i32 and i64 inputs, the default
//   # within: 0.02                  floats may lose so much of the largest one (quantisation)
//   # error: text                   the passes (or the verifier) must say this
//   ...input...      # error: text  the parser or verifier must say this about this line
//   --- expect
//   ...output...
//
// Checks: parse and verify; print, parse and print again give the same text, before and after the passes; the output is
// exactly the expected text; both sides, run by the interpreters on the same inputs, give the same numbers.
//
//   golden FILE...           check, with a diff on failure
//   golden --bless FILE...   rewrite what follows `--- expect`; refused when anything but the text is wrong
//   golden --all DIR         every .qir file below DIR, each in a process of its own; a line per failure and a count
#include "tests/golden.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/backend.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "passes/pass.h"

#define SECONDS_PER_FILE 60

typedef struct Expected {
  int line;  // 0: anywhere
  const char *text;
  bool seen;
} Expected;

typedef struct Golden {
  Arena *arena;
  const char *path;
  const char *text;    // the whole file
  size_t n_input;      // bytes before `--- expect`
  const char *expect;  // after that line, NULL when there is none
  const char *passes;  // NULL: none
  const char *target;
  int64_t ints[2];
  double within;
  VEC(Expected) errors;
} Golden;

static bool fail(const Golden *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const Golden *g, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  printf("FAIL %s: ", g->path);
  vprintf(fmt, ap);
  printf("\n");
  va_end(ap);
  return false;
}

// ---- reading

static char *read_file(Arena *arena, const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  StrBuf b;
  strbuf_init(&b, arena);
  char part[4096];
  for (size_t k; (k = fread(part, 1, sizeof part, f)) > 0;) strbuf_put(&b, part, k);
  fclose(f);
  *n = b.n;
  return b.at ? b.at : arena_alloc(arena, 1);
}

static const char *after_key(const char *line, const char *key) {
  size_t n = strlen(key);
  if (strncmp(line, key, n) != 0) return NULL;
  return line + n + strspn(line + n, " ");
}

static void read_header(Golden *g, const char *line) {
  const char *v;
  if ((v = after_key(line, "# passes:"))) g->passes = v;
  if ((v = after_key(line, "# target:"))) g->target = v;
  if ((v = after_key(line, "# error:"))) vec_push(g->arena, &g->errors, ((Expected){0, v, false}));
  if ((v = after_key(line, "# within:"))) g->within = strtod(v, NULL);
  if ((v = after_key(line, "# ints:"))) {
    char *end;
    g->ints[0] = strtoll(v, &end, 10);
    g->ints[1] = strtoll(end, NULL, 10);
  }
}

// Splits the file into lines: the header, errors expected in the input, and where `--- expect` is.
static void read_lines(Golden *g, size_t n) {
  int number = 0;
  g->n_input = n;
  for (size_t at = 0; at < n;) {
    size_t len = strcspn(g->text + at, "\n");
    const char *line = arena_printf(g->arena, "%.*s", (int)len, g->text + at);
    number++;
    if (strcmp(line, "--- expect") == 0) {
      g->n_input = at;
      g->expect = g->text + at + len + (g->text[at + len] == '\n');
      return;
    }
    const char *error = strstr(line, "# error:");
    if (line[0] == '#') {
      read_header(g, line);
    } else if (error) {
      vec_push(g->arena, &g->errors, ((Expected){number, after_key(error, "# error:"), false}));
    }
    at += len + 1;
  }
}

static bool golden_read(Golden *g, Arena *arena, const char *path) {
  size_t n;
  *g = (Golden){.arena = arena, .path = path, .target = "x86-64-v3", .ints = {0, 4}};
  g->text = read_file(arena, path, &n);
  if (!g->text) return fail(g, "cannot be read");
  read_lines(g, n);
  if (g->ints[1] <= g->ints[0]) return fail(g, "'# ints:' needs a range LO HI with LO < HI");
  return true;
}

// ---- checking

static const char *print_text(Arena *arena, Module *m, PrintOptions opt) {
  StrBuf b;
  strbuf_init(&b, arena);
  print_module(&b, m, opt);
  return strbuf_str(&b);
}

static Module *parse(const Golden *g, const char *text, size_t n) {
  return parse_module(g->arena, diag_new(g->arena, NULL), "text", text, n);
}

static bool check_round_trip_with(const Golden *g, Module *m, PrintOptions opt, const char *which) {
  const char *first = print_text(g->arena, m, opt);
  Diag *d = diag_new(g->arena, NULL);
  Module *again = parse_module(g->arena, d, "printed", first, strlen(first));
  if (!again) return fail(g, "the %s does not parse as printed: %s%s", which, diag_text(d), first);
  const char *second = print_text(g->arena, again, opt);
  if (strcmp(first, second) != 0)
    return fail(g, "the %s changes when parsed and printed again:\n%s--- again\n%s", which, first, second);
  return verify_module(again) || fail(g, "the %s fails the verifier when parsed again: %s", which, diag_text(d));
}

static bool check_round_trip(const Golden *g, Module *m, const char *which) {
  return check_round_trip_with(g, m, (PrintOptions){.all_bytes = true}, which) &&
         check_round_trip_with(g, m, (PrintOptions){.all_bytes = true, .locs = true}, which);
}

// Every diagnostic must be expected, every expectation met.
static bool check_errors(Golden *g, const Diag *d) {
  const char *text = diag_text(d);
  while (*text) {
    size_t len = strcspn(text, "\n");
    const char *line = arena_printf(g->arena, "%.*s", (int)len, text);
    const char *colon = strchr(line, ':');
    int number = colon ? atoi(colon + 1) : 0;
    bool known = strstr(line, ": note: ") || strstr(line, ": warning: ");
    for (uint32_t i = 0; i < g->errors.n; i++) {
      Expected *e = &g->errors.at[i];
      if ((e->line != 0 && e->line != number) || !strstr(line, e->text)) continue;
      e->seen = known = true;
    }
    if (!known) return fail(g, "unexpected: %s", line);
    text += len + (text[len] == '\n');
  }
  for (uint32_t i = 0; i < g->errors.n; i++)
    if (!g->errors.at[i].seen)
      return fail(g, "line %d: expected error '%s'", g->errors.at[i].line, g->errors.at[i].text);
  return true;
}

// An internal error ends the process: what the verifier said before is the reason.
static const Diag *running;
static void print_reason(void) {
  if (running && diag_errors(running)) printf("FAIL internal error after: %s", diag_text(running));
}

static bool run_passes(Golden *g, Module *m) {
  const Target *target = target_by_name(g->target);
  if (!target) return diag_error(m->diag, DIAG_USAGE, NULL, "no target '%s'", g->target);
  PassOptions opt = pass_options_default();
  RunOptions run = {.verify_each = true};
  running = m->diag;
  bool ok = pipeline_run(m, target, g->passes, &opt, &run, g->arena, NULL);
  running = NULL;
  return ok;
}

static void print_lines(char sign, const char *from, const char *end) {
  while (from < end) {
    size_t len = strcspn(from, "\n");
    printf("%c %.*s\n", sign, (int)len, from);
    from += len + 1;
  }
}

// The lines that differ, between what both texts share at their beginning and end.
static void print_diff(const char *want, const char *got) {
  const char *want_end = want + strlen(want), *got_end = got + strlen(got);
  for (;;) {
    size_t n = strcspn(want, "\n") + 1;
    if ((size_t)(want_end - want) < n || (size_t)(got_end - got) < n || memcmp(want, got, n) != 0) break;
    printf("  %.*s", (int)n, want);
    want += n;
    got += n;
  }
  const char *w = want_end, *o = got_end;
  while (w > want && o > got && w[-1] == o[-1]) {
    w--;
    o--;
  }
  while (w < want_end && w > want && w[-1] != '\n') {
    w++;
    o++;
  }
  print_lines('-', want, w);
  print_lines('+', got, o);
  print_lines(' ', w, want_end);
}

static bool write_expect(const Golden *g, const char *got) {
  FILE *f = fopen(g->path, "wb");
  if (!f) return fail(g, "cannot be written");
  fwrite(g->text, 1, g->n_input, f);
  if (!g->expect && g->n_input && g->text[g->n_input - 1] != '\n') fputc('\n', f);
  if (!g->expect) fputc('\n', f);
  fprintf(f, "--- expect\n%s", got);
  return fclose(f) == 0 || fail(g, "cannot be written");
}

static bool check_text(const Golden *g, Module *m, bool bless) {
  const char *got = print_text(g->arena, m, (PrintOptions){0});
  if (!g->expect && !g->passes) return true;
  if (g->expect && strcmp(g->expect, got) == 0) return true;
  if (bless) return write_expect(g, got);
  fail(g, g->expect && g->expect[0] ? "the output is not the expected text" : "there is no expected text (--bless)");
  print_diff(g->expect ? g->expect : "", got);
  return false;
}

static bool golden_run(Golden *g, bool bless) {
  Diag *d = diag_new(g->arena, NULL);
  Module *m = parse_module(g->arena, d, "text", g->text, g->n_input);
  bool ok = m && verify_module(m);
  if (ok && !check_round_trip(g, m, "input")) return false;
  ok = ok && (!g->passes || run_passes(g, m));
  if (!ok || g->errors.n > 0) return check_errors(g, d);
  Module *before = parse(g, g->text, g->n_input), *after = m;
  if (!g->passes) {  // the text alone: what was printed must compute the same
    const char *text = print_text(g->arena, m, (PrintOptions){.all_bytes = true});
    after = parse(g, text, strlen(text));
  } else if (!verify_module(m)) {
    return fail(g, "the output fails the verifier: %s", diag_text(d));
  } else if (!check_round_trip(g, m, "output")) {
    return false;
  }
  bool had_program = before->program && before->program->steps.n > 0;
  if (g->passes || before->funcs.n == 0 || had_program || !after->program) {
    StrBuf why;
    strbuf_init(&why, g->arena);
    if (!golden_evaluate(before, after, g->ints, g->within, g->arena, &why))
      return fail(g, "both sides differ: %s", strbuf_str(&why));
  }
  return check_text(g, m, bless);
}

static bool run_file(const char *path, bool bless) {
  Arena *arena = arena_new("golden");
  Golden g;
  bool ok = golden_read(&g, arena, path) && golden_run(&g, bless);
  arena_free(arena);
  return ok;
}

// ---- many files

typedef VEC(const char *) Paths;

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void find_files(Arena *arena, const char *dir, Paths *out, int depth) {
  struct dirent **entries;
  int n = depth > 16 ? -1 : scandir(dir, &entries, NULL, by_name);
  for (int i = 0; i < n; i++) {
    const char *name = entries[i]->d_name;
    size_t len = strlen(name);
    const char *path = arena_printf(arena, "%s/%s", dir, name);
    struct stat st;
    if (name[0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) find_files(arena, path, out, depth + 1);
    if (len > 4 && strcmp(name + len - 4, ".qir") == 0) vec_push(arena, out, path);
    free(entries[i]);
  }
  if (n >= 0) free(entries);
}

// Runs one file in a child and prints the first line of what it said on failure.
static bool run_child(const char *path) {
  int fd[2];
  fflush(stdout);
  if (pipe(fd) != 0) return false;
  pid_t pid = fork();
  if (pid == 0) {
    dup2(fd[1], 1);
    dup2(fd[1], 2);
    close(fd[0]);
    alarm(SECONDS_PER_FILE);
    exit(run_file(path, false) ? 0 : 1);
  }
  close(fd[1]);
  char line[512];
  FILE *from = fdopen(fd[0], "r");
  bool said = fgets(line, sizeof line, from) != NULL;
  for (char rest[4096]; fread(rest, 1, sizeof rest, from) > 0;) continue;
  fclose(from);
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (WIFSIGNALED(status)) printf("FAIL %s: ended by signal %d\n", path, WTERMSIG(status));
  if (WIFEXITED(status)) {
    line[strcspn(line, "\n")] = 0;
    bool ours = said && strncmp(line, "FAIL ", 5) == 0;
    if (ours) printf("%s\n", line);
    if (!ours) printf("FAIL %s: exit %d: %s\n", path, WEXITSTATUS(status), said ? line : "");
  }
  return false;
}

static int run_all(const char *dir) {
  Arena *arena = arena_new("paths");
  Paths paths = {0};
  find_files(arena, dir, &paths, 0);
  uint32_t failed = 0;
  for (uint32_t i = 0; i < paths.n; i++) failed += !run_child(paths.at[i]);
  printf("%u passed, %u failed\n", paths.n - failed, failed);
  bool ok = failed == 0 && paths.n > 0;
  arena_free(arena);
  return ok ? 0 : 1;
}

int main(int argc, char **argv) {
  atexit(print_reason);
  if (argc == 3 && strcmp(argv[1], "--all") == 0) return run_all(argv[2]);
  bool bless = argc > 1 && strcmp(argv[1], "--bless") == 0;
  int failed = argc < 2 + bless;
  if (failed) fprintf(stderr, "usage: golden [--bless] FILE... | golden --all DIR\n");
  for (int i = 1 + bless; i < argc; i++) failed += !run_file(argv[i], bless);
  return failed ? 1 : 0;
}
