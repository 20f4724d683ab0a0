// Hostile model files. Three suites, chosen by the first argument:
//   manifest   every file of ../shared/suites/hostile through the qcc program: exit status, message, time, memory and
//              no partial output as its manifest says; symbolic links and FIFOs are made here
//   truncate   a small model cut at every byte, imported in a forked child
//   flip       the same model with every single bit flipped, imported in a forked child
// A child that crashes, hangs, reports nothing or reports an internal error is a failure.
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <dirent.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "frontend/onnx.h"
#include "tests/onnx_build.h"

#ifdef __SANITIZE_ADDRESS__
enum { SLACK = 8 };  // sanitizers cost time and memory
#else
enum { SLACK = 1 };
#endif

static uint32_t passed, failed;
static char work[PATH_MAX];  // temporary folder

static void verdict(const char *name, const char *fault) {
  if (!fault) {
    passed++;
    return;
  }
  failed++;
  printf("FAIL %s: %s\n", name, fault);
}

// Every line is text: no control byte, not endless. Returns what is wrong.
static const char *text_fault(const char *text) {
  size_t line = 0;
  for (const char *p = text; *p; p++) {
    if (*p == '\n') {
      line = 0;
      continue;
    }
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return "control character in a message";
    if (++line > 2200) return "message line too long";
  }
  return line ? "message does not end with a newline" : NULL;
}

// `word` stands in the text with no letter beside it.
static bool has_word(const char *text, const char *word, size_t n) {
  for (const char *p = text; (p = strstr(p, word)); p++) {
    char before = p == text ? ' ' : p[-1], after = p[n];
    bool letter_before = (before | 32) >= 'a' && (before | 32) <= 'z',
         letter_after = (after | 32) >= 'a' && (after | 32) <= 'z';
    if (!letter_before && !letter_after) return true;
  }
  return false;
}

static bool has_one_of(const char *text, const char *names) {
  while (*names) {
    char word[64];
    size_t n = strcspn(names, "|");
    snprintf(word, sizeof word, "%.*s", (int)n, names);
    if (has_word(text, word, n)) return true;
    names += n + (names[n] == '|');
  }
  return false;
}

// ---- running qcc

typedef struct Run {
  int exit;  // 128 + signal when killed, -1 on a timeout
  double seconds;
  long mb;
  char text[65536];  // standard error
} Run;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void read_text(const char *path, char *text, size_t size) {
  FILE *f = fopen(path, "rb");
  size_t n = f ? fread(text, 1, size - 1, f) : 0;
  text[n] = 0;
  if (f) fclose(f);
}

// Waits with a limit; the child is killed past it.
static void wait_run(pid_t pid, double limit, Run *run) {
  double start = now();
  int status = 0;
  struct rusage use = {0};
  struct timespec nap = {0, 2000000};
  pid_t done;
  while ((done = wait4(pid, &status, WNOHANG, &use)) == 0 && now() - start < limit) nanosleep(&nap, NULL);
  run->seconds = now() - start;
  run->exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (done == 0) {
    kill(pid, SIGKILL);
    wait4(pid, &status, 0, &use);
    run->exit = -1;
  }
  run->mb = use.ru_maxrss / 1024;
}

static void run_qcc(const char *qcc, const char *model, double limit, Run *run) {
  char object[PATH_MAX + 16], errors[PATH_MAX + 16];
  snprintf(object, sizeof object, "%s/out/model.o", work);
  snprintf(errors, sizeof errors, "%s/errors", work);
  pid_t pid = fork();
  if (pid == 0) {
    int fd = open(errors, O_CREAT | O_TRUNC | O_WRONLY, 0600), null = open("/dev/null", O_RDWR);
    struct rlimit stack = {256 << 10, 256 << 10};
    if (SLACK == 1) setrlimit(RLIMIT_STACK, &stack);
    dup2(null, 0);
    dup2(null, 1);
    dup2(fd, 2);
    execl(qcc, qcc, model, "-o", object, (char *)NULL);
    _exit(127);
  }
  wait_run(pid, limit, run);
  read_text(errors, run->text, sizeof run->text);
}

// Number of files in the output folder; they are removed.
static int take_outputs(void) {
  char folder[PATH_MAX + 8], path[2 * PATH_MAX];
  snprintf(folder, sizeof folder, "%s/out", work);
  DIR *d = opendir(folder);
  int n = 0;
  for (struct dirent *e; d && (e = readdir(d));) {
    if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2]))) continue;
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    unlink(path);
    n++;
  }
  if (d) closedir(d);
  return n;
}

// ---- the manifest

typedef struct Case {
  const char *file, *expect, *exit, *names;
  double max_s;
  long max_mb;
} Case;

static bool exit_allowed(const char *list, int code) {
  char text[16];
  snprintf(text, sizeof text, "%d", code);
  return strlen(text) == 1 && strchr(list, text[0]) != NULL;  // "1/5"
}

static const char *judge(const Case *c, const Run *run, int n_files) {
  static char fault[512];
  const char *bad = text_fault(run->text);
  if (run->exit == -1) return "hangs";
  if (bad) return bad;
  if (run->seconds > c->max_s * SLACK || run->mb > c->max_mb * SLACK) {
    snprintf(fault, sizeof fault, "%.2f s and %ld MB, allowed %.0f and %ld", run->seconds, run->mb, c->max_s,
             c->max_mb);
    return fault;
  }
  if (run->exit == 0 && strcmp(c->expect, "refuse") != 0) return n_files == 2 ? NULL : "no object and header";
  int first = (int)strcspn(run->text, "\n");
  snprintf(fault, sizeof fault, "exit %d (%s %s): %.*s", run->exit, c->expect, c->exit, first < 300 ? first : 300,
           run->text);
  // What is wrong with a node of an operator qcc has not is not looked at.
  bool lacks = run->exit == 3 && strstr(run->text, "unknown operator") && strncmp(c->file, "qonnx-", 6) == 0;
  if (strcmp(c->expect, "accept") == 0 || !(lacks || exit_allowed(c->exit, run->exit))) return fault;
  if (n_files) return "refused but left output behind";
  if (!run->text[0]) return "refused without a message";
  if (strcmp(c->names, "-") != 0 && !has_one_of(run->text, c->names)) {
    snprintf(fault, sizeof fault, "names none of %s: %.*s", c->names, first < 300 ? first : 300, run->text);
    return fault;
  }
  return NULL;
}

static bool exists(const char *path) { return access(path, R_OK) == 0; }

static void copy_file(const char *from, const char *to) {
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  char buffer[65536];
  for (size_t n; in && out && (n = fread(buffer, 1, sizeof buffer, in));) fwrite(buffer, 1, n, out);
  if (in) fclose(in);
  if (out) fclose(out);
}

// The chain of 100,000 nodes is stored compressed in the suite: it is written here instead.
static void write_chain(const char *path, int n) {
  Arena *arena = arena_new("chain");
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "1,4");
  build_output(&b, "y", DT_F32, "1,4");
  for (int i = 0; i < n; i++)
    build_node(&b, "Relu", "", i ? arena_printf(arena, "t%d", i) : "x",
               i + 1 < n ? arena_printf(arena, "t%d", i + 1) : "y");
  size_t size;
  uint8_t *bytes = build_pack(&b, &size);
  FILE *f = fopen(path, "wb");
  if (f) {
    fwrite(bytes, 1, size, f);
    fclose(f);
  }
  arena_free(arena);
}

static void run_case(const char *qcc, const char *folder, const Case *c) {
  static Run run;
  char from[PATH_MAX + 300], model[PATH_MAX + 300];
  snprintf(from, sizeof from, "%s/%s", folder, c->file);
  snprintf(model, sizeof model, "%s/%s", work, c->file);
  if (exists(from)) {
    copy_file(from, model);
  } else if (strcmp(c->file, "ok-chain-1e5.onnx") == 0) {
    write_chain(model, 100000);
  } else {
    verdict(c->file, "file of the manifest is missing");
    return;
  }
  run_qcc(qcc, model, 3 * c->max_s * SLACK, &run);
  verdict(c->file, judge(c, &run, take_outputs()));
  unlink(model);
}

// What the external-data cases meet beside the model.
static void make_traps(void) {
  char path[PATH_MAX + 16];
  snprintf(path, sizeof path, "%s/weights.bin", work);
  FILE *f = fopen(path, "wb");
  for (int i = 0; f && i < 4096; i++) fputc(0, f);
  if (f) fclose(f);
  snprintf(path, sizeof path, "%s/link.bin", work);
  if (symlink("/etc/hostname", path) != 0) perror("symlink");
  snprintf(path, sizeof path, "%s/fifo.bin", work);
  if (mkfifo(path, 0600) != 0) perror("mkfifo");
}

static int run_manifest(const char *qcc) {
  const char *shared = getenv("QCC_SHARED"), *ci = getenv("CI");
  char folder[PATH_MAX], path[PATH_MAX + 16], line[4096];
  snprintf(folder, sizeof folder, "%s/suites/hostile", shared ? shared : "../shared");
  snprintf(path, sizeof path, "%s/manifest.tsv", folder);
  FILE *f = fopen(path, "r");
  if (!f) {
    printf("%s: %s (set QCC_SHARED)\n", path, strerror(errno));
    return ci && strcmp(ci, "true") == 0 ? 1 : 77;
  }
  make_traps();
  while (fgets(line, sizeof line, f)) {
    char *field[9] = {0}, *p = line;
    for (int i = 0; i < 9 && p; i++) field[i] = strsep(&p, "\t\n");
    if (!field[8] || strcmp(field[0], "file") == 0) continue;
    Case c = {field[0], field[3], field[4], field[5], atof(field[6]), atol(field[7])};
    run_case(qcc, folder, &c);
  }
  fclose(f);
  return 0;
}

// ---- mutations of a small model

static uint8_t *small_model(Arena *arena, size_t *n) {
  static const float w[8] = {1, -1, 0.5f, 2, 0, 3, -2, 0.25f};
  static const int64_t shape[2] = {2, 2}, perm[2] = {1, 0};
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,4");
  build_output(&b, "y", DT_F32, "2,2");
  build_init_f32(&b, "w", "4,2", w);
  build_init_i64(&b, "s", "2", shape);
  build_node(&b, "MatMul", "mm", "x,w", "a");
  build_attr_ints(&b, build_node(&b, "Transpose", "tr", "a", "t"), "perm", 2, perm);
  build_node(&b, "Reshape", "rs", "t,s", "r");
  build_attr_f(&b, build_node(&b, "LeakyRelu", "lr", "r", "y"), "alpha", 0.25f);
  return build_pack(&b, n);
}

// A function with an attribute reference, a branch, a sparse and a typed initializer.
static uint8_t *second_model(Arena *arena, size_t *n) {
  static const float ones[2] = {1, 2};
  static const int64_t at[2] = {0, 3}, two = 2, four = 4;
  static int32_t small[4] = {1, -2, 3, -4};
  Build b = build_model(arena, 17);
  build_opset(&b, "loc", 1);
  build_input(&b, "x", DT_F32, "2,4");
  build_input(&b, "c", DT_BOOL, "");
  build_output(&b, "y", DT_F32, "?,?");
  BuildFunction f = build_function(&b, "loc", "F", "a", "d");
  Onnx__AttributeProto *ref = build_attr(&b, build_node(&f.body, "LeakyRelu", "", "a", "d"), "alpha");
  ref->ref_attr_name = "slope";
  build_function_end(&f);
  Onnx__SparseTensorProto *s = NEW(arena, Onnx__SparseTensorProto);
  onnx__sparse_tensor_proto__init(s);
  s->values = build_tensor(arena, "s", DT_F32, 1, &two, ones, sizeof ones);
  s->indices = build_tensor(arena, "", DT_I64, 1, &two, at, sizeof at);
  s->n_dims = 1;
  s->dims = arena_copy(arena, &four, sizeof four);
  b.graph->n_sparse_initializer = 1;
  b.graph->sparse_initializer = arena_copy(arena, &s, sizeof s);
  Onnx__TensorProto *q = build_init(&b, "q", DT_I8, 1, &four, NULL, 0);
  q->n_int32_data = 4;
  q->int32_data = small;
  Onnx__NodeProto *call = build_node(&b, "F", "call", "x", "t");
  call->domain = "loc";
  build_attr_f(&b, call, "slope", 0.5f);
  build_attr_i(&b, build_node(&b, "Cast", "cast", "q", "qf"), "to", 1);
  Build then_b = build_inside(&b, build_graph(arena)), else_b = build_inside(&b, build_graph(arena));
  build_node(&then_b, "Add", "", "t,s", "r");
  build_output(&then_b, "r", DT_F32, "N,4");
  build_node(&else_b, "Mul", "", "t,qf", "e");
  build_output(&else_b, "e", DT_F32, "N,4");
  Onnx__NodeProto *choose = build_node(&b, "If", "choose", "c", "y");
  build_attr_g(&b, choose, "then_branch", then_b.graph);
  build_attr_g(&b, choose, "else_branch", else_b.graph);
  return build_pack(&b, n);
}

// The child's work: import, and say by the exit status what came out. 99: a rule of messages is broken.
static void import_child(const uint8_t *bytes, size_t n) {
  Arena *arena = arena_new("import");
  Diag *diag = diag_new(arena, NULL);
  OnnxOptions opt = onnx_options_default();
  struct rlimit memory = {1u << 30, 1u << 30};
  if (SLACK == 1) setrlimit(RLIMIT_AS, &memory);
  alarm(2 * SLACK);
  bool ok = onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, n, &opt) != NULL;
  int code = diag_exit_code(diag);
  _exit(text_fault(diag_text(diag)) || ok != (code == 0) ? 99 : code);
}

static void try_bytes(const char *what, size_t at, const uint8_t *bytes, size_t n, int most) {
  char name[64];
  static char fault[64];
  int status = 0;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) import_child(bytes, n);
  waitpid(pid, &status, 0);
  bool fine = WIFEXITED(status) && WEXITSTATUS(status) <= most;
  snprintf(name, sizeof name, "%s at %zu", what, at);
  snprintf(fault, sizeof fault, "%s %d", WIFEXITED(status) ? "exit" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  verdict(name, fine ? NULL : fault);
}

static void run_mutations(const char *what, const uint8_t *bytes, size_t n, bool flip) {
  try_bytes("the model itself", n, bytes, n, 0);
  for (size_t i = 0; i < (flip ? 8 * n : n); i++) {
    // A fresh block of the exact size, so that the sanitizer sees one byte too many.
    size_t size = flip ? n : i;
    uint8_t *mutant = malloc(size ? size : 1);
    memcpy(mutant, bytes, size);
    if (flip) mutant[i / 8] ^= (uint8_t)(1u << (i % 8));
    try_bytes(what, i, mutant, size, 5);
    free(mutant);
  }
}

static int run_both(bool flip) {
  Arena *arena = arena_new("mutations");
  size_t n;
  uint8_t *bytes = small_model(arena, &n);
  run_mutations(flip ? "bit flip" : "cut", bytes, n, flip);
  bytes = second_model(arena, &n);
  run_mutations(flip ? "bit flip of the second model" : "cut of the second model", bytes, n, flip);
  arena_free(arena);
  return 0;
}

int main(int argc, char **argv) {
  const char *suite = argc > 1 ? argv[1] : "", *tmp = getenv("TMPDIR");
  char out[PATH_MAX + 8];
  snprintf(work, sizeof work, "%s/qcc-hostile-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(work)) return perror(work), 1;
  snprintf(out, sizeof out, "%s/out", work);
  mkdir(out, 0700);
  int status = strcmp(suite, "manifest") == 0 && argc > 2 ? run_manifest(argv[2])
               : strcmp(suite, "truncate") == 0           ? run_both(false)
               : strcmp(suite, "flip") == 0               ? run_both(true)
                                                          : 2;
  char command[PATH_MAX + 16];
  snprintf(command, sizeof command, "rm -rf '%s'", work);
  if (system(command) != 0) perror("rm");
  if (status) return status;
  printf("%u passed, %u failed\n", passed, failed);
  return failed ? 1 : 0;
}
