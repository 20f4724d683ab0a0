// Runs of equal values along a sum. See sumruns.h.
#include "passes/recover/sumruns.h"

#include <math.h>
#include <string.h>

#include "passes/graph_util.h"

#define MOST_SUMS (INT64_C(1) << 20)      // evaluated one by one
#define MOST_ELEMENTS (INT64_C(1) << 23)  // sums times channels
#define TWO_ELEMENTS (INT64_C(1) << 20)   // of all values of a second operand
#define LONG_ELEMENTS (INT64_C(1) << 26)  // where there is no other way

// A part of the range whose ends have different values.
typedef struct Interval {
  int64_t lo, hi;
  double at_lo, at_hi;
} Interval;

typedef struct Search {
  SumRuns *found;
  SumTail *t;
  bool *few, *ordered;
  Runs **runs;
  Arena *arena, *scratch;  // scratch: for one evaluation
  Interval *now;           // of one round of bisection, [rows][channels]
  uint32_t *taken;         // [channels]
} Search;

// ---- runs

static void run_add(Search *s, Runs *r, int64_t at, double v) {
  if (r->n == r->room) {
    uint32_t room = r->room ? 2 * r->room : 4;
    int64_t *starts = NEW_ARRAY(s->arena, int64_t, room);
    double *values = NEW_ARRAY(s->arena, double, room);
    if (r->n > 0) {
      memcpy(starts, r->at, r->n * sizeof *starts);
      memcpy(values, r->value, r->n * sizeof *values);
    }
    r->at = starts;
    r->value = values;
    r->room = room;
  }
  r->at[r->n] = at;
  r->value[r->n++] = v;
}

// The value at the next greater sum.
static void run_step(Search *s, uint32_t op, Runs *r, int64_t at, double v) {
  if (!isfinite(v)) s->few[op] = s->ordered[op] = false;
  if (r->n > 0 && r->value[r->n - 1] == v) return;
  int way = r->n == 0 ? 0 : v > r->value[r->n - 1] ? 1 : -1;
  if (way != 0 && r->direction == -way) s->few[op] = s->ordered[op] = false;
  if (way != 0) r->direction = way;
  if (r->n == GRID_MAX) s->few[op] = false;
  if (!s->few[op] && r->n > 0) {
    r->value[r->n - 1] = v;
  } else {
    run_add(s, r, at, v);
  }
}

static void follow(Search *s, int64_t from, int64_t rows) {
  int64_t channels = s->t->s->channels;
  for (uint32_t op = 0; op < s->t->n; op++) {
    if (!s->ordered[op]) continue;
    for (int64_t c = 0; c < channels; c++)
      for (int64_t r = 0; r < rows && s->ordered[op]; r++)
        run_step(s, op, &s->runs[op][c], from + r, sumtail_at(s->t, op, r, c));
  }
}

static bool run_tail(Search *s) {
  arena_clear(s->scratch);
  return sumtail_run(s->t, s->scratch);
}

static bool search_all(Search *s) {
  const Sum *sum = s->t->s;
  for (int64_t from = sum->lo; from <= sum->hi; from += s->t->rows) {
    int64_t rows = sum->hi - from + 1 < s->t->rows ? sum->hi - from + 1 : s->t->rows;
    for (int64_t i = 0; i < s->t->rows * sum->channels; i++) {
      int64_t r = i / sum->channels;
      s->t->sums[i] = (int32_t)(from + (r < rows ? r : rows - 1));
    }
    if (!run_tail(s)) return false;
    follow(s, from, rows);
  }
  return true;
}

// ---- bisection

// The intervals of one channel whose ends differ.
typedef struct Pending {
  uint32_t n, room;
  Interval *at;
} Pending;

static void pending_add(Search *s, Pending *p, Interval x) {
  if (p->n == p->room) {
    uint32_t room = p->room ? 2 * p->room : 8;
    Interval *at = NEW_ARRAY(s->arena, Interval, room);
    if (p->n > 0) memcpy(at, p->at, p->n * sizeof *at);
    p->at = at;
    p->room = room;
  }
  p->at[p->n++] = x;
}

static void set_sum(Search *s, int64_t row, int64_t channel, int64_t sum) {
  s->t->sums[row * s->t->s->channels + channel] = (int32_t)sum;
}

// Keeps an interval whose ends differ: as a boundary when nothing lies between them.
static void narrow(Search *s, Pending *p, Runs *r, Interval x) {
  if (x.at_lo == x.at_hi) return;
  if (x.hi - x.lo > 1) {
    pending_add(s, p, x);
  } else {
    run_add(s, r, x.hi, x.at_hi);
  }
}

// Halves up to one interval per row and channel; false when none is left or the value has too many levels.
static bool bisect_round(Search *s, uint32_t op, Pending *p) {
  int64_t channels = s->t->s->channels, rows = s->t->rows;
  bool any = false;
  uint32_t *taken = s->taken;
  Interval *now = s->now;
  for (int64_t c = 0; c < channels; c++) {
    taken[c] = 0;
    for (int64_t r = 0; r < rows; r++) {
      set_sum(s, r, c, s->t->s->lo);
      if (p[c].n == 0) continue;
      Interval x = p[c].at[--p[c].n];
      now[r * channels + c] = x;
      set_sum(s, r, c, x.lo + (x.hi - x.lo) / 2);
      taken[c]++;
      any = true;
    }
  }
  if (!any || !run_tail(s)) return false;
  for (int64_t c = 0; c < channels; c++) {
    for (int64_t r = 0; r < taken[c]; r++) {
      Interval x = now[r * channels + c], low = x, high = x;
      low.hi = high.lo = x.lo + (x.hi - x.lo) / 2;
      low.at_hi = high.at_lo = sumtail_at(s->t, op, r, c);
      narrow(s, &p[c], &s->runs[op][c], low);
      narrow(s, &p[c], &s->runs[op][c], high);
    }
    if (s->runs[op][c].n > GRID_MAX || p[c].n > GRID_MAX) s->few[op] = false;
  }
  return s->few[op];
}

static void sort_runs(Runs *r) {
  for (uint32_t i = 1; i < r->n; i++) {
    int64_t at = r->at[i];
    double v = r->value[i];
    uint32_t k = i;
    for (; k > 0 && r->at[k - 1] > at; k--) {
      r->at[k] = r->at[k - 1];
      r->value[k] = r->value[k - 1];
    }
    r->at[k] = at;
    r->value[k] = v;
  }
}

static double run_value(const Runs *r, int64_t sum) {
  uint32_t i = r->n - 1;
  while (i > 0 && r->at[i] > sum) i--;
  return r->value[i];
}

// The sums two before and one after each boundary; those next to it were seen on the way.
static bool check_around(Search *s, uint32_t op) {
  const Sum *sum = s->t->s;
  for (uint32_t from = 1;; from += (uint32_t)s->t->rows / 2) {
    bool any = false;
    for (int64_t i = 0; i < s->t->rows * sum->channels; i++) {
      int64_t c = i % sum->channels, r = i / sum->channels;
      const Runs *runs = &s->runs[op][c];
      uint32_t k = from + (uint32_t)r / 2;
      int64_t at = k < runs->n ? runs->at[k] + (r % 2 ? 1 : -2) : sum->lo;
      any = any || k < runs->n;
      set_sum(s, r, c, at < sum->lo ? sum->lo : at > sum->hi ? sum->hi : at);
    }
    if (!any) return true;
    if (!run_tail(s)) return false;
    for (int64_t i = 0; i < s->t->rows * sum->channels; i++) {
      int64_t c = i % sum->channels, r = i / sum->channels;
      if (sumtail_at(s->t, op, r, c) != run_value(&s->runs[op][c], s->t->sums[i])) return false;
    }
  }
}

// The ends of the range: the direction of every monotone value.
static bool follow_ends(Search *s) {
  const Sum *sum = s->t->s;
  for (int64_t i = 0; i < s->t->rows * sum->channels; i++)
    s->t->sums[i] = (int32_t)(i < sum->channels ? sum->lo : sum->hi);
  if (!run_tail(s)) return false;
  for (uint32_t op = 0; op < s->t->n; op++) {
    s->ordered[op] = s->ordered[op] && s->t->op[op].monotone;
    s->few[op] = s->few[op] && s->ordered[op];
    for (int64_t c = 0; c < sum->channels && s->ordered[op]; c++) {
      run_step(s, op, &s->runs[op][c], sum->lo, sumtail_at(s->t, op, 0, c));
      run_step(s, op, &s->runs[op][c], sum->hi, sumtail_at(s->t, op, 1, c));
    }
  }
  return true;
}

static bool search_by_halves(Search *s) {
  const Sum *sum = s->t->s;
  if (!follow_ends(s)) return false;
  s->taken = NEW_ARRAY(s->arena, uint32_t, sum->channels);
  s->now = NEW_ARRAY(s->arena, Interval, s->t->rows * sum->channels);
  bool leads[TAIL_OPS] = {false};
  for (uint32_t op = s->t->n; op-- > 1 && s->t->op[op].op != NULL;) {
    leads[op] = !sumtail_is_needed(s->t, op, leads);
    s->few[op] = s->few[op] && !leads[op];
    if (!s->few[op]) continue;
    Pending *p = NEW_ARRAY(s->arena, Pending, sum->channels);
    for (int64_t c = 0; c < sum->channels; c++) {
      Runs *r = &s->runs[op][c];
      if (r->n < 2) continue;
      r->n = 1;
      narrow(s, &p[c], r, (Interval){sum->lo, sum->hi, r->value[0], r->value[1]});
    }
    while (bisect_round(s, op, p)) continue;
    if (!s->few[op]) continue;
    for (int64_t c = 0; c < sum->channels; c++) sort_runs(&s->runs[op][c]);
    s->few[op] = leads[op] = check_around(s, op);
  }
  return true;
}

// ---- what is looked for

static bool is_pooled(const SumTail *t, uint32_t op) {
  for (uint32_t i = 0; i < t->n; i++)
    if (t->op[i].moves && t->op[i].op->kind == OP_MAXPOOL && i > 0 && t->op[i].from == op) return true;
  return false;
}

static bool find_runs(Search *s, int64_t times) {
  const Sum *sum = s->t->s;
  int64_t sums = sum->hi - sum->lo + 1, elements;
  bool all_monotone = true;
  for (uint32_t op = 0; op < s->t->n; op++) {
    const TailOp *o = &s->t->op[op];
    s->few[op] = o->few && !o->moves && o->op->out[0]->type->dtype == DT_F32;
    s->ordered[op] = s->few[op] || is_pooled(s->t, op);
    if (s->ordered[op]) s->runs[op] = NEW_ARRAY(s->arena, Runs, sum->channels);
    if (s->ordered[op] && !o->monotone) all_monotone = false;
  }
  if (!size_mul(sums, sum->channels, &elements) || !size_mul(elements, times, &elements)) return false;
  int64_t most = !all_monotone ? LONG_ELEMENTS : times > 1 ? TWO_ELEMENTS : MOST_ELEMENTS;
  s->found->exhaustive = sums <= MOST_SUMS && elements <= most;
  return s->found->exhaustive ? search_all(s) : search_by_halves(s);
}

bool sumruns_find(SumRuns *found, SumTail *t, int64_t times) {
  *found = (SumRuns){.t = t};
  Search s = {.found = found, .t = t, .few = found->few, .ordered = found->ordered, .runs = found->runs};
  s.arena = t->arena;
  s.scratch = arena_new("tail values");
  bool ok = find_runs(&s, times);
  arena_free(s.scratch);
  return ok;
}
