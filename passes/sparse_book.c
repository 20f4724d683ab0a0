// Books of weights with zeros. See sparse_book.h.
#include "passes/sparse_book.h"

#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"

static uint32_t bits_of(float w) {
  uint32_t bits;
  memcpy(&bits, &w, sizeof bits);
  return bits;
}

// The first place whose key is not below.
static uint32_t place_of(const SparseBook *b, uint32_t key) {
  uint32_t lo = 0, hi = b->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (b->key[mid] < key) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

static int compare_counts(const void *a, const void *b) {
  const SparseCount *x = a, *y = b;
  if (x->count != y->count) return x->count < y->count ? 1 : -1;
  return x->key < y->key ? -1 : x->key > y->key;
}

void sparse_counts_sort(SparseCount *of, int64_t n) { qsort(of, (size_t)n, sizeof *of, compare_counts); }

// Counts the value; false when there are too many.
static bool see(SparseBook *b, int64_t *count, uint32_t key) {
  uint32_t at = place_of(b, key);
  if (at == b->n || b->key[at] != key) {
    if (b->n == SPARSE_BOOK) return false;
    memmove(b->key + at + 1, b->key + at, (b->n - at) * sizeof *b->key);
    memmove(count + at + 1, count + at, (b->n - at) * sizeof *count);
    b->key[at] = key;
    count[at] = 0;
    b->n++;
  }
  count[at]++;
  return true;
}

bool sparse_book(Module *m, const Sparse *s, SparseBook *b) {
  int64_t count[SPARSE_BOOK];
  SparseCount seen[SPARSE_BOOK];
  b->n = 0;
  if (s->bytes) return false;
  const AnyF32 *w = const_data(m, s->w);
  for (int64_t i = 0, n = type_count(s->w->type); i < n; i++)
    if (w[i] != 0 && !see(b, count, bits_of(w[i]))) return false;
  for (uint32_t i = 0; i < b->n; i++) seen[i] = (SparseCount){b->key[i], count[i]};
  sparse_counts_sort(seen, b->n);
  for (uint32_t i = 0; i < b->n; i++) {
    memcpy(&b->value[i], &seen[i].key, sizeof b->value[i]);
    b->number[place_of(b, seen[i].key)] = (uint8_t)i;
  }
  return true;
}

uint32_t sparse_number(const SparseBook *b, uint32_t bits) { return b->number[place_of(b, bits)]; }

uint32_t sparse_code_bits(const SparseBook *b) {
  uint32_t bits = 4;
  while (1U << bits < b->n + 1) bits++;
  return bits;
}

bool sparse_codes(const SparseBook *b, uint32_t bits, SparseCodes *c) {
  *c = (SparseCodes){.passes = 1, .values = (1U << bits) - 1, .bits = bits, .slots = bits <= 5 ? 3 : 2};
  if (bits < 4 || bits > 8) return false;
  if (b->n > c->values) c->passes = (b->n + c->values - 1) / c->values;
  return c->passes <= 2 && (c->passes == 1 || bits <= 5);
}
