// Fields of bytes. See pack_bits.h.
#include "passes/pack_bits.h"

#include "passes/range.h"

enum { BYTE = 8 };

// ---- which bits differ

// The bits that not all bytes share, when weights are shifted by so much; false when one leaves a signed byte.
static bool differing(const Range *r, uint32_t shift, uint32_t *differ, uint32_t *first) {
  uint32_t n = r->n > 0 ? r->n : (uint32_t)(r->hi - r->lo + 1);
  *differ = 0;
  for (uint32_t i = 0; i < n; i++) {
    int64_t d = (r->n > 0 ? r->level[i] : r->lo + i) * (INT64_C(1) << shift);
    if (d < INT8_MIN || d > INT8_MAX) return false;
    if (i == 0) *first = (uint32_t)d & 255;
    *differ |= ((uint32_t)d & 255) ^ *first;
  }
  return true;
}

static void set_fields(PackBits *b, uint32_t low, uint32_t bits) {
  uint32_t at = low + bits;
  b->n = 0;
  for (uint32_t width = 4; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    at -= width;
    b->width[b->n] = width;
    b->at[b->n++] = at;
  }
}

bool pack_bits_of(const Value *w, PackBits *b) {
  Range r = value_range(w);
  uint32_t best = BYTE;
  *b = (PackBits){0};
  if (r.lo < INT8_MIN || r.hi > INT8_MAX || r.lo > r.hi) return false;
  for (uint32_t shift = 0; shift < BYTE; shift++) {
    uint32_t differ, first = 0, low = 0;
    if (!differing(&r, shift, &differ, &first)) break;
    if (differ == 0) differ = 1;
    while ((differ >> low & 1) == 0) low++;
    uint32_t bits = 0;
    while (differ >> (low + bits) != 0) bits++;
    if (bits >= best) continue;
    best = bits;
    set_fields(b, low, bits);
    b->shift = shift;
    b->ones = first & ~(((1U << bits) - 1) << low);
  }
  return best < BYTE;
}

uint32_t pack_bits_width(const PackBits *b) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < b->n; i++) bits += b->width[i];
  return bits;
}

uint32_t pack_bits_least(Module *m, const Value *w) {
  const uint8_t *bytes = const_data(m, w->constant);
  bool seen[256] = {false};
  uint32_t n = 0, bits = 1;
  for (int64_t i = 0, count = type_count(w->type); i < count; i++) {
    n += !seen[bytes[i]];
    seen[bytes[i]] = true;
  }
  while (n > 1U << bits) bits++;
  return bits;
}

// ---- rows

int64_t pack_field_row(const PackBits *b, int64_t steps, uint32_t field, int64_t step) {
  int64_t row = 0;
  for (uint32_t i = 0; i < field; i++) row += (steps * b->width[i] + BYTE - 1) / BYTE;
  return field < b->n ? row + step * b->width[field] / BYTE : row;
}

PackRun pack_run(const PackBits *b, uint32_t n_red, const int64_t *red) {
  int64_t steps = (red[n_red - 1] + 3) / 4;
  PackRun r = {.chunk = BYTE / b->width[b->n - 1], .runs = 1};
  for (uint32_t i = 0; i + 1 < n_red; i++) r.runs *= red[i];
  r.rest = steps % r.chunk;
  r.whole = steps - r.rest;
  r.rows = r.runs * pack_field_row(b, r.whole, b->n, 0) + pack_field_row(b, r.runs * r.rest, b->n, 0);
  return r;
}

// One row of bytes of step `step` among `steps` that lie together at `to`.
static void pack_step(const PackBits *b, int64_t steps, int64_t step, int64_t width, const int8_t *from, uint8_t *to) {
  for (uint32_t f = 0; f < b->n; f++) {
    uint32_t mask = (1U << b->width[f]) - 1, place = (uint32_t)(step % (BYTE / b->width[f])) * b->width[f];
    uint8_t *row = to + pack_field_row(b, steps, f, step) * width;
    for (int64_t i = 0; i < width; i++) {
      uint32_t byte = (uint32_t)(from[i] * (1 << b->shift)) & 255;
      row[i] |= (uint8_t)((byte >> b->at[f] & mask) << place);
    }
  }
}

void pack_bits_panel(const PackBits *b, const PackRun *r, int64_t width, const int8_t *from, uint8_t *to) {
  int64_t rows = pack_field_row(b, r->whole, b->n, 0);
  uint8_t *rest = to + r->runs * rows * width;
  for (int64_t run = 0; run < r->runs; run++, to += rows * width) {
    for (int64_t s = 0; s < r->whole; s++, from += width) pack_step(b, r->whole, s, width, from, to);
    for (int64_t s = 0; s < r->rest; s++, from += width)
      pack_step(b, r->runs * r->rest, run * r->rest + s, width, from, rest);
  }
}
