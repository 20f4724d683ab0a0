// Product quantisation (S59): the channels are cut into vectors of `width` weights, and all of a tensor's share a book.
//
//   conv 3x3: a vector is a filter's plane of one input channel, 9 weights (width=18: of two); 1x1: 4 or 8 channels
//
// Alternating: every vector takes the nearest entry; every entry becomes what loses least over its vectors. Where
// inputs are recorded, a vector v at place p of its channel loses (v - c)' G_p (v - c), G_p being the second moments of
// the inputs it meets: the error of the layer's results as far as it is one vector's. Else G is 1. Neither step ever
// loses more. An entry nobody takes becomes one next to the most taken. The book is stored as f16 and has at most a
// quarter as many entries as there are vectors, a power of two.
#include "passes/quantize/weight_pq.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/linalg.h"
#include "passes/quantize/weights.h"

enum { ROUNDS = 25, WIDEST = 64 };
#define RIDGE 1e-6
#define STILL 1e-6

typedef struct Pq {
  WeightGroup *g;
  int64_t n, width, places;  // vectors; weights of one; vectors of a channel
  uint32_t k;
  double *root;        // places x width x width: upper triangular, G = root' root; NULL: 1
  float *vector;       // n x width, by root
  double *book;        // k x width
  float *turned;       // width x k, of one place: entries by root
  float *far;          // k: distances of one vector
  float *entry2;       // k: squares of turned entries
  int64_t *taken;      // k
  double *sum, *gram;  // k x width; k x width x width
  uint64_t state;
  Arena *arena;
} Pq;

static uint64_t draw(Pq *p, uint64_t below) {
  p->state = p->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (p->state >> 33) % below;
}

// The upper triangular root of g with a ridge that makes it positive definite.
static void root_of(int64_t n, const double *g, double *root) {
  double trace = 0;
  for (int64_t i = 0; i < n; i++) trace += g[i * n + i];
  double ridge = RIDGE * trace / (double)n + 1e-30;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i; j < n; j++) {
      double v = g[i * n + j] + (i == j ? ridge : 0);
      for (int64_t k = 0; k < i; k++) v -= root[k * n + i] * root[k * n + j];
      root[i * n + j] = i == j ? sqrt(fmax(v, ridge)) : v / root[i * n + i];
    }
}

// to = root v
static void by_root(const Pq *p, int64_t place, const double *v, double *to) {
  int64_t w = p->width;
  for (int64_t i = 0; i < w; i++) {
    double sum = p->root ? 0 : v[i];
    for (int64_t j = i; p->root && j < w; j++) sum += p->root[(place * w + i) * w + j] * v[j];
    to[i] = sum;
  }
}

static void vector_at(const Pq *p, int64_t i, double *v) {
  for (int64_t j = 0; j < p->width; j++) v[j] = (double)p->g->w[i * p->width + j];
}

static void prepare(Pq *p) {
  int64_t w = p->width;
  double v[WIDEST] = {0}, to[WIDEST] = {0};
  if (p->g->gram) {
    p->root = NEW_ARRAY(p->arena, double, p->places *w *w);
    for (int64_t i = 0; i < p->places; i++) root_of(w, p->g->gram + i * w * w, p->root + i * w * w);
  }
  p->vector = NEW_ARRAY(p->arena, float, p->n *w);
  for (int64_t i = 0; i < p->n; i++) {
    vector_at(p, i, v);
    by_root(p, i % p->places, v, to);
    for (int64_t j = 0; j < w; j++) p->vector[i * w + j] = (float)to[j];
  }
}

// Entries at first: vectors drawn without another of the same place in the order.
static void begin(Pq *p) {
  int64_t *order = NEW_ARRAY(p->arena, int64_t, p->n);
  for (int64_t i = 0; i < p->n; i++) order[i] = i;
  for (uint32_t i = 0; i < p->k; i++) {
    int64_t other = i + (int64_t)draw(p, (uint64_t)(p->n - i)), t = order[other];
    order[other] = order[i];
    order[i] = t;
    vector_at(p, t, p->book + i * p->width);
  }
}

// Entries as vectors of one place meet them.
static void turn_entries(Pq *p, int64_t place) {
  double to[WIDEST] = {0};
  for (uint32_t c = 0; c < p->k; c++) {
    double squares = 0;
    by_root(p, place, p->book + c * p->width, to);
    for (int64_t j = 0; j < p->width; j++) {
      p->turned[j * p->k + c] = (float)(-2 * to[j]);
      squares += to[j] * to[j];
    }
    p->entry2[c] = (float)squares;
  }
}

static uint16_t nearest(Pq *p, const float *v) {
  uint32_t best = 0, k = p->k;
  float *far = p->far;
  memcpy(far, p->entry2, k * sizeof *far);
  for (int64_t j = 0; j < p->width; j++) {
    const float *row = p->turned + j * k;
    for (uint32_t c = 0; c < k; c++) far[c] += v[j] * row[c];
  }
  for (uint32_t c = 1; c < k; c++)
    if (far[c] < far[best]) best = c;
  return (uint16_t)best;
}

static double loss_at(const Pq *p, int64_t i, uint32_t c) {
  double v[WIDEST] = {0}, to[WIDEST] = {0}, sum = 0;
  vector_at(p, i, v);
  for (int64_t j = 0; j < p->width; j++) v[j] -= p->book[c * p->width + j];
  by_root(p, i % p->places, v, to);
  for (int64_t j = 0; j < p->width; j++) sum += to[j] * to[j];
  return sum;
}

// Every vector takes the nearest entry; what is lost. In single precision, so a vector keeps its entry where that is no
// worse in double.
static double assign(Pq *p, bool first) {
  double lost = 0;
  for (int64_t place = 0; place < p->places; place++) {
    if (place == 0 || p->root) turn_entries(p, place);
    for (int64_t i = place; i < p->n; i += p->places) {
      uint16_t c = nearest(p, p->vector + i * p->width), *now = &p->g->code[i];
      double e = loss_at(p, i, c), kept = first || *now == c ? INFINITY : loss_at(p, i, *now);
      if (e < kept) *now = c;
      lost += fmin(e, kept);
    }
  }
  return lost;
}

static void add_gram(Pq *p, int64_t place, uint32_t c, const double *v) {
  int64_t w = p->width;
  const double *g = p->g->gram ? p->g->gram + place * w * w : NULL;
  for (int64_t i = 0; i < w; i++)
    for (int64_t j = 0; j < w; j++) {
      double x = g ? g[i * w + j] : (double)(i == j);
      p->gram[((int64_t)c * w + i) * w + j] += x;
      p->sum[c * w + i] += x * v[j];
    }
}

static bool solve_entry(Pq *p, uint32_t c) {
  int64_t w = p->width;
  double *entry = p->book + c * w, *gram = p->gram + (int64_t)c * w * w;
  for (int64_t i = 0; !p->g->gram && i < w; i++) entry[i] = p->sum[c * w + i] / (double)p->taken[c];
  return !p->g->gram || least_squares(w, w, 1, gram, p->sum + c * w, 1e-9, entry, p->arena);
}

// Entries that lose least over their vectors; those nobody took next to the most taken one.
static bool update(Pq *p) {
  int64_t w = p->width;
  double v[WIDEST] = {0};
  memset(p->taken, 0, p->k * sizeof *p->taken);
  memset(p->sum, 0, (size_t)(p->k * w) * sizeof *p->sum);
  memset(p->gram, 0, (size_t)(p->k * w * w) * sizeof *p->gram);
  for (int64_t i = 0; i < p->n; i++) {
    vector_at(p, i, v);
    p->taken[p->g->code[i]]++;
    add_gram(p, i % p->places, p->g->code[i], v);
  }
  uint32_t most = 0;
  for (uint32_t c = 0; c < p->k; c++) {
    if (p->taken[c] > p->taken[most]) most = c;
    if (p->taken[c] > 0 && !solve_entry(p, c)) return false;
  }
  for (uint32_t c = 0; c < p->k; c++)
    for (int64_t j = 0; p->taken[c] == 0 && j < w; j++)
      p->book[c * w + j] = p->book[most * w + j] * (1 + 1e-3 * ((double)draw(p, 2001) / 1000 - 1));
  return true;
}

static bool iterate(Pq *p, uint32_t rounds) {
  double last = assign(p, true);
  for (uint32_t round = 0; round < rounds; round++) {
    ArenaMark mark = arena_mark(p->arena);
    bool solved = update(p);
    arena_reset(p->arena, mark);
    if (!solved) return false;
    double now = assign(p, false);
    if (now >= last * (1 - STILL)) break;
    last = now;
  }
  return true;
}

static void new_tables(Pq *p) {
  int64_t k = p->k, w = p->width;
  p->book = NEW_ARRAY(p->arena, double, k *w);
  p->turned = NEW_ARRAY(p->arena, float, k *w);
  p->far = NEW_ARRAY(p->arena, float, k);
  p->entry2 = NEW_ARRAY(p->arena, float, k);
  p->taken = NEW_ARRAY(p->arena, int64_t, k);
  p->sum = NEW_ARRAY(p->arena, double, k *w);
  p->gram = NEW_ARRAY(p->arena, double, k *w *w);
}

uint32_t pq_entries(uint32_t levels, int64_t vectors) {
  uint32_t k = 1;
  while (k <= levels / 2 && (int64_t)k * 8 <= vectors) k *= 2;
  return k;
}

int64_t pq_bytes(uint32_t entries, int64_t vectors, int64_t width) {
  return vectors * (entries > 256 ? 2 : 1) + 2 * width * (int64_t)entries;
}

bool weight_pq(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why) {
  uint32_t k = pq_entries(s->levels, g->n / g->width);
  if (g->width > WIDEST) {
    *why = "vectors are longer than 64";
    return false;
  }
  g->n_book = k;
  g->book = NEW_ARRAY(arena, float, (int64_t)k * g->width);
  Arena *own = arena_new("pq");
  Pq p = {.g = g, .n = g->n / g->width, .width = g->width, .places = g->period / g->width, .k = k, .arena = own};
  p.state = s->seed;
  new_tables(&p);
  prepare(&p);
  begin(&p);
  bool done = iterate(&p, s->rounds ? s->rounds : ROUNDS);
  for (int64_t i = 0; i < (int64_t)k * g->width; i++) g->book[i] = (float)f16_to_double(f16_of_double(p.book[i]));
  arena_free(own);
  if (!done) *why = "the entries could not be solved for";
  return done;
}
