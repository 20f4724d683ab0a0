// What low-bit networks become: which layers the file declares with at most 8 bits and qcc leaves in float, and how
// many bytes the weights take against the bits they need. Nothing is emitted or run: the rows of the report are
// compared.
//
//   layers LIST.tsv ROOT [--only SUBSTRING] [--bless]
//
// LIST.tsv:  float  NETWORK  LAYER  WxAy   why it stays float   a layer that may stay float, and must until the row
// goes
//            bits   NETWORK  LAYER  WxAy   why it stays float   the same, but its weights are stored at their bits
//            size   NETWORK  RATIO  BYTES  why                  packed weights are more than the bits they need plus 5
//            %
// Weights take at most 1.05 of the bits they need; a network above that needs a row with its ratio and a reason. Hidden
// layers of one bit by one bit take, tables and all, at most a 28th of their weights and biases as floats, always. A
// float layer without a row, a row without its float layer, a float layer or a size without a reason fail. --bless
// writes the table as things are, reasons of sizes are kept. One sample at a time where the file leaves that open;
// sizes are those of the CPU row named below.
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/driver/report.h"
#include "ir/base/map.h"
#include "tests/support/case.h"

#define CPU "zen5"
#define LOW_BITS 8
#define BINARY_RATIO 28
#define SIZE_RATIO 1.05
static const char *const until_plan = "memplan";

typedef struct Line {
  const char *key, *text;
  double ceiling;
  bool met;
} Line;
typedef VEC(Line) Lines;

static Lines lines_read(Arena *arena, const char *path) {
  Lines lines = {0};
  FILE *f = fopen(path, "re");
  char buffer[2048], kind[16], network[128], what[512], more[64];
  while (f && fgets(buffer, sizeof buffer, f)) {
    if (buffer[0] == '#' || !tsv_field(buffer, 0, kind, sizeof kind)) continue;
    tsv_field(buffer, 1, network, sizeof network);
    tsv_field(buffer, 2, what, sizeof what);
    bool size = strcmp(kind, "size") == 0;
    if (!size) tsv_field(buffer, 3, more, sizeof more);
    const char *key = size ? arena_printf(arena, "size\t%s", network)
                           : arena_printf(arena, "%s\t%s\t%s\t%s", kind, network, what, more);
    vec_push(arena, &lines, ((Line){key, arena_printf(arena, "%s", buffer), size ? strtod(what, NULL) : 0, false}));
  }
  if (f) fclose(f);
  return lines;
}

static Line *line_find(Lines *lines, const char *key) {
  for (uint32_t i = 0; i < lines->n; i++)
    if (strcmp(lines->at[i].key, key) == 0) return &lines->at[i];
  return NULL;
}

typedef struct Run {
  Arena *arena;
  Lines lines;
  FILE *bless;  // the new table or NULL
  Map *seen;    // keys of float layers: the steps of an unrolled loop are one layer
  uint32_t passed, failed;
} Run;

static void verdict(Run *run, bool ok, const char *key, const char *why) {
  if (run->bless) return;
  run->passed += ok;
  run->failed += !ok;
  if (!ok) printf("FAIL %s: %s\n", key, why);
}

static bool is_low(const LayerRow *row) {
  return row->contraction &&
         ((row->declared_w && row->declared_w <= LOW_BITS) || (row->declared_x && row->declared_x <= LOW_BITS));
}

static void check_float(Run *run, const char *network, const LayerRow *row) {
  const char *why = row_note(row, NOTE_FLOAT);
  double needed = ceil((double)row->weights * row->declared_w / 8);
  bool few = row->w_bits <= LOW_BITS || (row->declared_w <= LOW_BITS && (double)row->weight_bytes <= 1.1 * needed);
  const char *kind = few ? "bits" : "float";
  const char *key =
      arena_printf(run->arena, "%s\t%s\t%s\tW%uA%u", kind, network, row->name, row->declared_w, row->declared_x);
  if (map_get_str(run->seen, key)) return;
  map_set_str(run->seen, key, run);
  if (run->bless) fprintf(run->bless, "%s\t%s\n", key, why ? why : "?");
  Line *line = line_find(&run->lines, key);
  if (line) line->met = true;
  verdict(run, line != NULL, key,
          arena_printf(run->arena, "stays float and the table does not allow it (%s)", why ? why : "no reason given"));
  if (line) verdict(run, why || strstr(line->text, "\t?"), key, "stays float without a reason");
}

static void check_size(Run *run, const char *network, double bytes, double needed) {
  double excess = ceil(bytes / needed * 1000) / 1000;
  char why[1024] = "?";
  if (excess <= SIZE_RATIO) return;
  const char *key = arena_printf(run->arena, "size\t%s", network);
  Line *line = line_find(&run->lines, key);
  if (line) tsv_field(line->text, 4, why, sizeof why);
  why[strcspn(why, "\n")] = 0;
  if (run->bless) fprintf(run->bless, "%s\t%.3f\t%.0f\t%s\n", key, excess, bytes, why);
  if (line) line->met = true;
  verdict(run, line && excess <= line->ceiling + 1e-9, key,
          arena_printf(run->arena, "weights take %.3f of the bits they need, allowed are %.3f", excess,
                       line ? line->ceiling : SIZE_RATIO));
  if (line) verdict(run, why[0] && why[0] != '?', key, "takes more than its bits without a reason");
}

// Layers of one bit by one bit but the last contraction of the network, with a bias per channel of the result.
static void check_binary(Run *run, const char *network, const Report *r) {
  double bytes = 0, floats = 0;
  uint32_t last = 0;
  for (uint32_t i = 0; i < r->n; i++)
    if (r->rows[i].contraction) last = i;
  for (uint32_t i = 0; i < last; i++) {
    const LayerRow *row = &r->rows[i];
    if (!row->contraction || row->w_bits != 1 || row->x_bits != 1) continue;
    const Type *y = op_out(row->op, 0)->type;
    bytes += (double)(row->weight_bytes + row->table_bytes);
    floats += 4.0 * (double)(row->weights + y->dims[y->rank - 1]);
  }
  if (floats > 0 && !run->bless)
    verdict(run, bytes * BINARY_RATIO <= floats, network,
            arena_printf(run->arena, "hidden binary layers are %.1f times smaller than floats, not %d", floats / bytes,
                         BINARY_RATIO));
}

static void check_network(Run *run, Session *s, const char *network) {
  Report r = report_new(s, NULL);
  double bytes = 0, needed = 0;
  for (uint32_t i = 0; i < r.n; i++) {
    const LayerRow *row = &r.rows[i];
    if (is_low(row) && row->is_float) check_float(run, network, row);
    if (!row->contraction || !row->declared_w || row->declared_w > LOW_BITS) continue;
    bytes += (double)row->weight_bytes;
    needed += ceil((double)row->weights * row->declared_w / 8);
  }
  check_binary(run, network, &r);
  if (needed > 0) check_size(run, network, bytes, needed);
}

// Of one sample, where the file says N, or of the recorded shape.
static bool lower_network(Session *s, const char *dir, bool recorded) {
  s->opt.file = arena_printf(s->arena, "%s/model.onnx", dir);
  if (!recorded) vec_push(s->arena, &s->opt.dim, "N=1");
  for (int i = 0; recorded && i < 16; i++)
    session_shape_from(s, arena_printf(s->arena, "%s/test_data_set_0/input_%d.pb", dir, i));
  s->target = target_by_name(CPU);
  s->pass_opt = pass_options_default();
  if (!session_load(s)) return false;
  s->m->name = s->name;
  const char *end = strstr(pipeline_default, until_plan);
  size_t n = (size_t)(end - pipeline_default) + strlen(until_plan);
  return session_passes(s, arena_printf(s->arena, "%.*s", (int)n, pipeline_default));
}

static void run_network(Run *run, const char *root, const char *network) {
  const char *dir = arena_printf(run->arena, "%s/%s", root, network);
  if (access(arena_printf(run->arena, "%s/model.onnx", dir), R_OK) != 0) return;
  bool lowered = false;
  for (int recorded = 0; recorded < 2 && !lowered; recorded++) {
    Session s = {.arena = arena_new("module"), .start = session_now(), .name = "layers", .in_process = true};
    s.diag = diag_new(s.arena, NULL);
    lowered = lower_network(&s, dir, recorded != 0);
    if (lowered) check_network(run, &s, network);  // what is refused is the business of `models`
    arena_free(s.arena);
  }
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void run_all(Run *run, const char *root, const char *only) {
  struct dirent **names = NULL;
  int n = scandir(root, &names, NULL, by_name);
  if (n < 0) verdict(run, false, root, "can't read the folder");
  for (int i = 0; i < n; i++) {
    if (names[i]->d_name[0] != '.' && strstr(names[i]->d_name, only)) run_network(run, root, names[i]->d_name);
    free(names[i]);
  }
  free(names);
  for (uint32_t i = 0; i < run->lines.n && !run->bless && !*only; i++)
    if (!run->lines.at[i].met) verdict(run, false, run->lines.at[i].key, "no longer so: the row must go");
}

// The comment lines of the table stay.
static FILE *bless_open(Arena *arena, const char *path) {
  FILE *old = fopen(path, "re");
  StrBuf head;
  strbuf_init(&head, arena);
  char buffer[2048];
  while (old && fgets(buffer, sizeof buffer, old))
    if (buffer[0] == '#') strbuf_puts(&head, buffer);
  if (old) fclose(old);
  FILE *f = fopen(path, "we");
  if (f) fputs(strbuf_str(&head), f);
  return f;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: layers LIST.tsv ROOT [--only SUBSTRING] [--bless]\n");
    return 2;
  }
  Run run = {.arena = arena_new("layers")};
  run.seen = map_new(run.arena);
  const char *only = "";
  bool bless = false;
  for (int i = 3; i < argc; i++) {
    if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
    bless |= strcmp(argv[i], "--bless") == 0;
  }
  run.lines = lines_read(run.arena, argv[1]);
  if (bless) run.bless = bless_open(run.arena, argv[1]);
  run_all(&run, argv[2], only);
  if (run.bless) fclose(run.bless);
  printf("%u passed, %u failed\n", run.passed, run.failed);
  arena_free(run.arena);
  return run.failed ? 1 : 0;
}
