// qcc bench --suite: the layers of the low-bit benchmarks.
//
//   lowbit      microseconds and share of the limit measured in this run, for the shapes of bench_cases.def
//   regret      every strategy that applies, forced on each of them, against the one `plan` chooses
//   break-even  planes of k x m bits against bytes and floats on three shapes
//   sparse      weights with zeros, none to nearly all, against panels of all weights (bench_sparse.c)
//
// lowbit:TEXT, regret:TEXT and sparse:TEXT take the layers whose name holds TEXT.
#include <math.h>
#include <string.h>

#include "frontend/driver/bench_graph.h"
#include "passes/price.h"

static const LayerCase cases[] = {
#define CASE(name, form, n, size, k, x, w, planes, must) {name, FORM_##form, n, size, k, x, w, planes, must},
#include "frontend/driver/bench_cases.def"
#undef CASE
};
enum { N_CASES = sizeof cases / sizeof *cases };

// Seconds of the layer; 0 when the strategy does not apply or the layer can't be compiled.
static double case_seconds(const Session *s, const LayerCase *c, const char *strategy, const char **used) {
  Bench b;
  BenchSpec spec = {.text = case_text(s->arena, c), .edit = case_fill, .ctx = c, .strategy = strategy};
  double seconds = 0;
  if (bench_open(&b, s, &spec)) {
    seconds = bench_layer(&b, CASE_LAYER);
    if (used) *used = arena_printf(s->arena, "%s", bench_strategy(&b, CASE_LAYER));
  }
  bench_close(&b);
  return seconds;
}

// The least time: arithmetic at its measured rate, or the weights read from where they stay.
static double case_roof(const Roofs *r, const Target *t, const LayerCase *c) {
  double macs = case_macs(c), bytes = case_weight_bytes(c);
  double compute = c->w == FLOAT ? roof_float(r, t, macs)
                   : c->planes   ? c->planes * roof_bits(r, t, macs)
                                 : roof_bytes(r, t, macs);
  return fmax(compute, bytes / roofs_bandwidth(r, t, bytes));
}

// The same work with other operands, among the cases before this one.
static double same_shape(const LayerCase *c, const double *seconds, Levels w) {
  for (size_t i = 0; i < N_CASES; i++)
    if (cases[i].form == c->form && cases[i].n == c->n && cases[i].k == c->k && cases[i].w == w) return seconds[i];
  return 0;
}

static void print_ratio(double of, double by) {
  if (of > 0 && by > 0) {
    printf(" %8.2f", of / by);
  } else {
    printf(" %8s", "-");
  }
}

static void lowbit(const Session *s, const Roofs *r, const char *only) {
  double seconds[N_CASES] = {0};
  printf("%-28s %-8s %10s %10s %7s %7s %8s %8s\n", "layer", "strategy", "us", "limit us", "% limit", "asked", "x float",
         "x bytes");
  for (size_t i = 0; i < N_CASES; i++) {
    const char *used = "-";
    if (!strstr(cases[i].name, only)) continue;
    seconds[i] = case_seconds(s, &cases[i], NULL, &used);
    double roof = case_roof(r, s->target, &cases[i]);
    printf("%-28s %-8s %10.2f %10.2f %6.1f%%", cases[i].name, used, 1e6 * seconds[i], 1e6 * roof,
           seconds[i] > 0 ? 100 * roof / seconds[i] : 0);
    if (cases[i].must > 0) {
      printf(" %6.0f%%", 100 * cases[i].must);
    } else {
      printf(" %7s", "");
    }
    print_ratio(same_shape(&cases[i], seconds, FLOAT), seconds[i]);
    print_ratio(same_shape(&cases[i], seconds, BITS8), seconds[i]);
    printf("\n");
    fflush(stdout);
  }
}

static void regret(const Session *s, const char *only) {
  double worst = 0;
  unsigned above = 0;
  printf("%-28s %-8s %10s %10s %-8s %7s  all\n", "layer", "chosen", "us", "best us", "best", "regret");
  for (size_t i = 0; i < N_CASES; i++) {
    const char *chosen = "-", *best_name = "-";
    if (!strstr(cases[i].name, only)) continue;
    double mine = case_seconds(s, &cases[i], NULL, &chosen), best = mine;
    StrBuf all;
    strbuf_init(&all, s->arena);
    best_name = chosen;
    for (uint32_t k = 0; k < strategy_count(); k++) {
      const char *name = strategy_at(k)->name;
      if (strcmp(name, "loop") == 0) continue;  // a hundred times slower; it would only take time
      double other = strcmp(name, chosen) == 0 ? mine : case_seconds(s, &cases[i], name, NULL);
      if (other > 0) strbuf_printf(&all, " %s %.2f", name, 1e6 * other);
      if (other <= 0 || other >= best) continue;
      best = other;
      best_name = name;
    }
    double lost = best > 0 ? mine / best - 1 : 0;
    worst = fmax(worst, lost);
    above += lost > 0.10;
    printf("%-28s %-8s %10.2f %10.2f %-8s %6.1f%% %s\n", cases[i].name, chosen, 1e6 * mine, 1e6 * best, best_name,
           100 * lost, strbuf_str(&all));
    fflush(stdout);
  }
  printf("largest regret %.1f%%, %u above 10%%\n", 100 * worst, above);
}

// ---- planes of k x m bits (S68)

static const Levels by_bits[] = {BITS1, BITS2, BITS3, BITS4, BITS5};
enum { MOST_BITS = sizeof by_bits / sizeof *by_bits };

static void tally(bool loses, int products, int *least, int *most) {
  if (loses && (!*least || products < *least)) *least = products;
  if (!loses && products > *most) *most = products;
}

static void break_even_shape(const Session *s, const char *name, int64_t n, int64_t size, int64_t k) {
  LayerCase c = {.name = name, .form = FORM_CONV, .n = n, .size = size, .k = k, .x = FLOAT, .w = FLOAT};
  double as_float = case_seconds(s, &c, "fma", NULL);
  c.x = c.w = BITS8;
  double as_bytes = case_seconds(s, &c, "dot8", NULL);
  printf("\n%s: float %.2f us, bytes %.2f us; planes of m bits (columns) by k bits of weights (rows), us\n", name,
         1e6 * as_float, 1e6 * as_bytes);
  printf("%6s", "");
  for (int m = 1; m <= MOST_BITS; m++) printf(" %9d", m);
  printf("\n");
  int lose_float = 0, lose_bytes = 0, win_float = 0, win_bytes = 0;  // fewest products that lose, most that win
  for (int i = 0; i < MOST_BITS; i++) {
    printf("%6d", i + 1);
    for (int m = 0; m < MOST_BITS; m++) {
      c.w = by_bits[i];
      c.x = by_bits[m];
      int products = (i + 1) * (m + 1);
      double t = case_seconds(s, &c, "planes", NULL);
      if (t <= 0) {
        printf(" %9s", "-");
        continue;
      }
      printf(" %9.2f", 1e6 * t);
      tally(t > as_float, products, &lose_float, &win_float);
      tally(t > as_bytes, products, &lose_bytes, &win_bytes);
    }
    printf("\n");
    fflush(stdout);
  }
  printf(
      "against floats planes win up to k x m = %d and lose from %d; against bytes up to %d and from %d (0: never "
      "here)\n",
      win_float, lose_float, win_bytes, lose_bytes);
}

int bench_break_even(Session *s, const Roofs *r) {
  printf("limits: a plane product is %.1f times a float one and %.1f times a byte one\n",
         roof_float(r, s->target, 1) / roof_bits(r, s->target, 1),
         roof_bytes(r, s->target, 1) / roof_bits(r, s->target, 1));
  break_even_shape(s, "conv3x3-256x14", 256, 14, 3);
  break_even_shape(s, "conv3x3-64x56", 64, 56, 3);
  break_even_shape(s, "conv1x1-256x14", 256, 14, 1);
  return 0;
}

int bench_suite(Session *s, const char *name) {
  static const char *const known[] = {"lowbit", "regret", "break-even", "sparse", "chain"};
  enum { N_KNOWN = sizeof known / sizeof *known };
  const char *colon = strchr(name, ':'), *only = colon ? colon + 1 : "";
  size_t length = colon ? (size_t)(colon - name) : strlen(name);
  int which = 0;
  while (which < N_KNOWN && (strlen(known[which]) != length || memcmp(known[which], name, length) != 0)) which++;
  if (which == N_KNOWN) {
    diag_error(s->diag, DIAG_USAGE, NULL, "--suite wants lowbit, regret, break-even, sparse or chain, not '%.60s'",
               name);
    return diag_exit_code(s->diag);
  }
  Roofs r;
  if (!roofs_measure(s, &r)) return diag_exit_code(s->diag);
  const Target *t = s->target;
  printf("%s at %.2f GHz; limits: float %.0f, bytes %.0f, bits %.0f GMAC/s; reads %.0f %.0f %.0f %.0f GB/s\n", t->name,
         r.hz / 1e9, r.fma * t->vector_bits / 32e9, r.dot4 * t->vector_bits / 8e9, r.popcnt * t->vector_bits / 1e9,
         r.bytes[0] / 1e9, r.bytes[1] / 1e9, r.bytes[2] / 1e9, r.bytes[3] / 1e9);
  if (which == 0) lowbit(s, &r, only);
  if (which == 1) regret(s, only);
  if (which == 2) bench_break_even(s, &r);
  if (which == 3) bench_sparse(s, only);
  if (which == 4) bench_chain(s, &r, only);
  return diag_exit_code(s->diag);
}
