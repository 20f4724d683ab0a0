// The form of weights that are opened: dense bytes, the runs of blocks that make them panels, the codes. See open.h.
#include <string.h>

#include "ir/base/intmath.h"
#include "ir/elem.h"
#include "passes/lower/open.h"

enum { NARROW_BLOCK = 16, BYTE = 8, MOST_PERIOD = 512 };

// Dense bytes while they are put in order: a packed byte is byte `source` of the elements that were packed.
typedef struct Dense {
  Arena *arena;
  OpenForm *f;
  int32_t *source;  // [packed]; -1: none
  int64_t *place;   // [source bytes], -1: nowhere yet
  int64_t *start;   // [blocks] of the windows
  OpenPattern *pattern;
  uint32_t *number;  // of the pattern
  uint8_t *bytes;
} Dense;

static int64_t elem_bytes_of(DType t) { return dtype_info(t)->bits / BYTE; }

// ---- where packed bytes come from

// The element behind each packed one, by packing their numbers.
static const int32_t *map_of(LowerCtx *ctx, const PackedWeights *w, Arena *arena) {
  if (w->map != NULL) return w->map;
  Module *m = ctx->m;
  int64_t n = type_count(w->from->type);
  int32_t *number = NEW_ARRAY(arena, int32_t, n);
  for (int64_t i = 0; i < n; i++) number[i] = (int32_t)(i + 1);
  Const numbers = {.type = type_with_dtype(m->types, w->from->type, DT_I32), .gen = CONST_BYTES, .bytes = number};
  PackSpec s = w->spec;
  s.type = DT_I32;
  int64_t count = pack_columns(&s) * pack_rows(&s) * (s.by > 1 ? s.by : 1) * pack_copies(&s) + pack_slack(&s);
  int32_t *map = NEW_ARRAY(arena, int32_t, count);
  pack_elems(m, &numbers, &s, map);
  for (int64_t i = 0; i < count; i++) map[i]--;
  return map;
}

// Is byte `k` of an element past the channels of a row of words.
static bool is_spare(const PackedWeights *w, int64_t element, int64_t k, int64_t size) {
  int64_t channels = w->spec.channels;
  if (channels == 0 || size == 1) return false;
  int64_t words = ceil_div(channels, size * BYTE), columns = w->from->type->dims[w->from->type->rank - 1];
  return element / columns % words * size * BYTE + k * BYTE >= channels;
}

static void sources(LowerCtx *ctx, Dense *d) {
  const PackedWeights *w = d->f->w;
  const int32_t *map = map_of(ctx, w, d->arena);
  int64_t size = elem_bytes_of(w->buf->type->dtype);
  for (int64_t i = 0; i < d->f->packed; i++) {
    int64_t element = map[i / size], k = i % size;
    d->source[i] = element < 0 || is_spare(w, element, k, size) ? -1 : (int32_t)(element * size + k);
  }
}

// ---- blocks

static int64_t blocks_of(const OpenForm *f) { return ceil_div(f->packed, f->block); }

static int32_t source_at(const Dense *d, int64_t block, int64_t i) {
  int64_t at = block * d->f->block + i;
  return at < d->f->packed ? d->source[at] : -1;
}

// All bytes of a block lie in one window already.
static bool is_placed(const Dense *d, int64_t block) {
  int64_t lo = INT64_MAX, hi = -1;
  for (int64_t i = 0; i < d->f->block; i++) {
    int32_t s = source_at(d, block, i);
    if (s < 0) continue;
    if (d->place[s] < 0) return false;
    if (d->place[s] < lo) lo = d->place[s];
    if (d->place[s] > hi) hi = d->place[s];
  }
  return hi < 0 || hi - lo < d->f->block;
}

// The bytes of a block come next, each once.
static void place_block(Dense *d, int64_t block, const uint8_t *packed) {
  int64_t first = d->f->dense;
  for (int64_t i = 0; i < d->f->block; i++) {
    int32_t s = source_at(d, block, i);
    if (s < 0 || d->place[s] >= first) continue;
    d->place[s] = d->f->dense;
    d->bytes[d->f->dense++] = packed[block * d->f->block + i];
  }
}

static void set_pattern(Dense *d, int64_t block) {
  OpenPattern *p = &d->pattern[block];
  int64_t lo = INT64_MAX;
  for (int64_t i = 0; i < d->f->block; i++) {
    int32_t s = source_at(d, block, i);
    if (s >= 0 && d->place[s] < lo) lo = d->place[s];
  }
  d->start[block] = lo;
  for (int64_t i = 0; i < d->f->block; i++) {
    int32_t s = source_at(d, block, i);
    p->mask[i] = s < 0 ? 0 : 255;
    p->at[i] = s < 0 ? 0 : (uint8_t)(d->place[s] - lo);
  }
}

// Windows end with the last dense byte.
static void clamp_window(Dense *d, int64_t block) {
  int64_t last = d->f->dense > d->f->block ? d->f->dense - d->f->block : 0, back = d->start[block] - last;
  if (d->start[block] == INT64_MAX) d->start[block] = back = 0;
  if (back <= 0) return;
  d->start[block] = last;
  for (int64_t i = 0; i < d->f->block; i++)
    if (d->pattern[block].mask[i]) d->pattern[block].at[i] = (uint8_t)(d->pattern[block].at[i] + back);
}

static int32_t pattern_number(OpenForm *f, const OpenPattern *p) {
  for (uint32_t i = 0; i < f->n_patterns; i++)
    if (memcmp(&f->pattern[i], p, sizeof *p) == 0) return (int32_t)i;
  if (f->n_patterns == OPEN_PATTERNS) return -1;
  f->pattern[f->n_patterns] = *p;
  return (int32_t)f->n_patterns++;
}

// Runs of blocks [from, to). False: too many.
static bool add_runs(Dense *d, int64_t from, int64_t to) {
  OpenForm *f = d->f;
  uint32_t first = f->n_runs;
  for (int64_t i = from; i < to; i++) {
    OpenRun *r = f->n_runs > first ? &f->run[f->n_runs - 1] : NULL;
    if (r != NULL && r->pattern == d->number[i]) {
      if (r->count == 1) r->step = d->start[i] - r->at;
      if (d->start[i] == r->at + r->count * r->step) {
        r->count++;
        continue;
      }
      if (r->count == 1) r->step = 0;
    }
    if (f->n_runs == OPEN_RUNS) return false;
    f->run[f->n_runs++] = (OpenRun){i, 1, d->start[i], 0, d->number[i]};
  }
  return true;
}

// How often blocks [0, period) come again from the first on, each time as much further in the dense bytes.
static int64_t periods_of(const Dense *d, int64_t period) {
  int64_t n = blocks_of(d->f), i = period, step = d->start[period] - d->start[0];
  while (i < n && d->number[i] == d->number[i - period] && d->start[i] - d->start[i - period] == step) i++;
  return i / period;
}

// False: too many runs or patterns.
static bool set_runs(Dense *d) {
  OpenForm *f = d->f;
  int64_t n = blocks_of(f);
  for (int64_t i = 0; i < n; i++) {
    clamp_window(d, i);
    int32_t number = pattern_number(f, &d->pattern[i]);
    if (number < 0) return false;
    d->number[i] = (uint32_t)number;
  }
  if (add_runs(d, 0, n)) return true;
  for (int64_t period = 2; period <= MOST_PERIOD && 2 * period <= n; period++) {
    f->periods = periods_of(d, period);
    f->period = period;
    f->period_step = d->start[period] - d->start[0];
    f->n_runs = 0;
    if (f->periods < 2 || !add_runs(d, 0, period)) continue;
    f->n_repeated = f->n_runs;
    if (add_runs(d, f->periods * period, n)) return true;
  }
  return false;
}

// Dense bytes and the runs that make panels of them. False: they are the packed bytes.
static bool set_dense(LowerCtx *ctx, OpenForm *f, const uint8_t *packed, Arena *arena) {
  int64_t blocks = blocks_of(f), from = type_bytes(f->w->from->type);
  Dense d = {.arena = arena, .f = f, .source = NEW_ARRAY(arena, int32_t, f->packed)};
  if (from >= INT32_MAX) return false;
  d.place = NEW_ARRAY(arena, int64_t, from);
  d.start = NEW_ARRAY(arena, int64_t, blocks);
  d.pattern = NEW_ARRAY(arena, OpenPattern, blocks);
  d.number = NEW_ARRAY(arena, uint32_t, blocks);
  d.bytes = arena_alloc(ctx->m->arena, (size_t)(f->packed + f->block));
  memset(d.place, 0xff, (size_t)from * sizeof *d.place);
  sources(ctx, &d);
  for (int64_t i = 0; i < blocks; i++) {
    if (!is_placed(&d, i)) place_block(&d, i, packed);
    set_pattern(&d, i);
  }
  f->bytes = d.bytes;
  return f->dense < f->packed && set_runs(&d);
}

// ---- codes

static uint32_t bits_for(int64_t n) {
  uint32_t bits = 1;
  while (n > INT64_C(1) << bits) bits++;
  return bits;
}

// Steps of a power of two from the least value on, as few bits as a book would take; or a book.
static void set_values(OpenForm *f, const bool *is_value) {
  int64_t lo = INT64_MAX, hi = 0, step = 0, n = 0;
  for (int64_t v = INT8_MIN; v <= INT8_MAX; v++) {
    if (!is_value[v - INT8_MIN]) continue;
    if (n > 0) step = gcd(step, v - lo);
    if (n == 0) lo = v;
    if (n < OPEN_BOOK) f->value[n] = (int8_t)v;
    hi = v;
    n++;
  }
  f->lo = lo;
  f->bits = bits_for(n);
  while (f->shift < BYTE - 1 && step > 0 && step % (INT64_C(2) << f->shift) == 0) f->shift++;
  if (n > 0 && hi - lo < INT64_C(1) << (f->bits + f->shift)) return;
  f->book = n <= OPEN_BOOK;
  f->n_values = (uint32_t)n;
  f->shift = 0;
  f->lo = 0;
  if (!f->book) f->bits = BYTE;
}

static void set_codes(OpenForm *f) {
  bool is_value[256] = {false};
  f->bits = BYTE;
  f->row = 1;
  f->stored = f->dense;
  if (f->w->buf->type->dtype != DT_I8) return;
  for (int64_t i = 0; i < f->dense; i++) is_value[(int8_t)f->bytes[i] - INT8_MIN] = true;
  set_values(f, is_value);
  if (f->bits == BYTE) return;
  int64_t best = 0;
  for (int64_t row = f->block; row >= NARROW_BLOCK; row /= 2) {
    uint32_t width[3], n = open_fields(f->bits, width);
    int64_t steps = ceil_div(f->dense, row), stored = 0;
    for (uint32_t i = 0; i < n; i++) stored += ceil_div(steps * width[i], BYTE) * row;
    if ((best > 0 && stored * 100 >= best * 99) || (row < f->block && f->book && f->block == OPEN_BLOCK)) continue;
    best = stored;
    f->row = row;
  }
  f->stored = best;
}

uint32_t open_fields(uint32_t bits, uint32_t width[3]) {
  uint32_t n = 0;
  for (uint32_t w = 4; w > 0; w /= 2)
    if (bits & w) width[n++] = w;
  return n;
}

int64_t open_steps(const OpenForm *f) { return ceil_div(f->dense, f->row); }

static double cycles_of(const OpenForm *f) {
  uint32_t width[3];
  double cycles = 40;
  if (f->bits < BYTE) cycles += (double)open_steps(f) * (1 + open_fields(f->bits, width) + (f->book ? 1 : 0));
  if (f->expands) cycles += 1.5 * (double)blocks_of(f);
  return cycles;
}

bool open_form(LowerCtx *ctx, const PackedWeights *w, OpenForm *f) {
  Arena *arena = arena_new("open");
  *f = (OpenForm){.w = w, .packed = type_bytes(w->buf->type)};
  f->block = ctx->target->has_lookup64 ? OPEN_BLOCK : NARROW_BLOCK;
  const uint8_t *packed = const_data(ctx->m, w->buf->constant);
  f->expands = set_dense(ctx, f, packed, arena);
  arena_free(arena);
  if (!f->expands) {
    f->n_runs = f->n_repeated = 0;
    f->dense = f->packed;
    f->bytes = packed;
  }
  set_codes(f);
  if (f->bits == BYTE && f->expands && f->stored < f->block) f->stored = f->block;
  f->cycles = cycles_of(f);
  return f->stored < f->packed;
}
