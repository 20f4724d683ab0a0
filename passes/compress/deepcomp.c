// See deepcomp.h. Source: Han, Mao, Dally, Deep Compression (ICLR 2016).
#include "passes/compress/deepcomp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "passes/compress/huffman.h"

enum { HEADER = 16, HUFFMAN_FLAG = 1 };

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static const float *find(const Deep *d, float v) { return bsearch(&v, d->book, d->values, sizeof v, compare); }

static bool book_of(const float *w, int64_t n, Deep *d) {
  for (int64_t i = 0; i < n; i++) {
    if (!isfinite(w[i])) return false;
    if (w[i] == 0) continue;
    d->nonzeros++;
    if (find(d, w[i])) continue;
    if (d->values == DEEP_VALUES) return false;
    d->book[d->values++] = w[i];
    qsort(d->book, d->values, sizeof *d->book, compare);
  }
  while (1U << d->code_bits < d->values) d->code_bits++;
  return true;
}

bool deep_of(const float *w, int64_t n, uint32_t gap_bits, Arena *arena, Deep *d) {
  memset(d, 0, sizeof *d);
  d->n = n;
  d->gap_bits = gap_bits;
  if (n > UINT32_MAX || !book_of(w, n, d)) return false;
  int64_t most = (1 << gap_bits) - 1, gap = 0, at = 0, code = 0;
  d->gaps = NEW_ARRAY(arena, uint8_t, d->nonzeros + n / most + 1);
  d->codes = NEW_ARRAY(arena, uint8_t, d->nonzeros + 1);
  for (int64_t i = 0; i < n; i++) {
    if (w[i] == 0) {
      gap++;
      continue;
    }
    for (; gap >= most; gap -= most, d->fillers++) d->gaps[at++] = (uint8_t)most;
    d->gaps[at++] = (uint8_t)gap;
    d->codes[code++] = (uint8_t)(find(d, w[i]) - d->book);
    gap = 0;
  }
  return true;
}

bool deep_best(const float *w, int64_t n, Arena *arena, Deep *out) {
  static const uint32_t bits[] = {4, 5, 8};
  int64_t least = INT64_MAX;
  for (int i = 0; i < 3; i++) {
    Deep d;
    if (!deep_of(w, n, bits[i], arena, &d)) return false;
    int64_t total = deep_size(&d, false).total;
    if (total >= least) continue;
    least = total;
    *out = d;
  }
  return true;
}

static void counts_of(const uint8_t *symbols, int64_t n, int64_t count[HUFFMAN_SYMBOLS]) {
  memset(count, 0, HUFFMAN_SYMBOLS * sizeof *count);
  for (int64_t i = 0; i < n; i++) count[symbols[i]]++;
}

DeepSize deep_size(const Deep *d, bool huffman) {
  int64_t entries = d->nonzeros + d->fillers, count[HUFFMAN_SYMBOLS];
  int64_t gaps = entries * d->gap_bits, codes = d->nonzeros * d->code_bits;
  DeepSize s = {.header = HEADER, .book = 4 * d->values};
  if (huffman) {
    Huffman h;
    counts_of(d->gaps, entries, count);
    huffman_of(count, &h);
    gaps = huffman_bits(&h, count);
    counts_of(d->codes, d->nonzeros, count);
    huffman_of(count, &h);
    codes = huffman_bits(&h, count);
    s.tables = (1 << d->gap_bits) + d->values;
  }
  s.gaps = (gaps + 7) / 8;
  s.codes = (gaps + codes + 7) / 8 - s.gaps;
  s.total = s.header + s.book + s.tables + s.gaps + s.codes;
  s.gap_mean = entries ? (double)gaps / (double)entries : 0;
  s.code_mean = d->nonzeros ? (double)codes / (double)d->nonzeros : 0;
  return s;
}

// ---- the stream: header, codebook, lengths of codes, gaps, codes

static void put_table(BitWriter *w, const Huffman *h, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) bits_put(w, h->length[i], 8);
}

static void put_symbols(BitWriter *w, const Huffman *h, const uint8_t *symbols, int64_t n, uint32_t bits) {
  for (int64_t i = 0; i < n; i++) {
    if (h) {
      huffman_put(w, h, symbols[i]);
    } else {
      bits_put(w, symbols[i], bits);
    }
  }
}

uint8_t *deep_pack(const Deep *d, bool huffman, Arena *arena, int64_t *n_bytes) {
  BitWriter w = {.arena = arena};
  int64_t entries = d->nonzeros + d->fillers, count[HUFFMAN_SYMBOLS];
  Huffman gaps, codes;
  bits_put(&w, (uint64_t)d->n, 32);
  bits_put(&w, (uint64_t)d->nonzeros, 32);
  bits_put(&w, (uint64_t)d->fillers, 32);
  bits_put(&w, d->values, 16);
  bits_put(&w, d->gap_bits, 8);
  bits_put(&w, huffman ? HUFFMAN_FLAG : 0, 8);
  for (uint32_t i = 0; i < d->values; i++) {
    uint32_t bits;
    memcpy(&bits, &d->book[i], sizeof bits);
    bits_put(&w, bits, 32);
  }
  if (huffman) {
    counts_of(d->gaps, entries, count);
    huffman_of(count, &gaps);
    counts_of(d->codes, d->nonzeros, count);
    huffman_of(count, &codes);
    put_table(&w, &gaps, 1U << d->gap_bits);
    put_table(&w, &codes, d->values);
  }
  put_symbols(&w, huffman ? &gaps : NULL, d->gaps, entries, d->gap_bits);
  put_symbols(&w, huffman ? &codes : NULL, d->codes, d->nonzeros, d->code_bits);
  *n_bytes = w.bytes.n;
  return w.bytes.at;
}

typedef struct Stream {
  BitReader r;
  int64_t n, nonzeros, fillers;
  uint32_t values, gap_bits, code_bits;
  bool huffman;
  float book[DEEP_VALUES];
  Huffman gaps, codes;
} Stream;

static void get_table(Stream *s, Huffman *h, uint32_t n) {
  memset(h, 0, sizeof *h);
  for (uint32_t i = 0; i < n; i++) h->length[i] = (uint8_t)bits_get(&s->r, 8);
  huffman_codes(h);
}

static bool stream_open(Stream *s) {
  s->n = (int64_t)bits_get(&s->r, 32);
  s->nonzeros = (int64_t)bits_get(&s->r, 32);
  s->fillers = (int64_t)bits_get(&s->r, 32);
  s->values = (uint32_t)bits_get(&s->r, 16);
  s->gap_bits = (uint32_t)bits_get(&s->r, 8);
  s->huffman = bits_get(&s->r, 8) == HUFFMAN_FLAG;
  if (s->values > DEEP_VALUES || s->gap_bits < 1 || s->gap_bits > 8) return false;
  while (1U << s->code_bits < s->values) s->code_bits++;
  for (uint32_t i = 0; i < s->values; i++) {
    uint32_t bits = (uint32_t)bits_get(&s->r, 32);
    memcpy(&s->book[i], &bits, sizeof bits);
  }
  if (s->huffman) {
    get_table(s, &s->gaps, 1U << s->gap_bits);
    get_table(s, &s->codes, s->values);
  }
  return s->r.at <= s->r.n;
}

static int symbol_get(const Stream *s, BitReader *r, const Huffman *h, uint32_t bits) {
  return s->huffman ? huffman_get(r, h) : (int)bits_get(r, bits);
}

bool deep_unpack(const uint8_t *bytes, int64_t n_bytes, int64_t n, float *out) {
  Stream s = {.r = {bytes, 8 * n_bytes, 0}};
  if (!stream_open(&s) || s.n != n) return false;
  int64_t entries = s.nonzeros + s.fillers, place = 0, read = 0;
  BitReader gaps = s.r, codes = s.r;  // codes stand behind all gaps
  for (int64_t i = 0; i < entries; i++)
    if (symbol_get(&s, &codes, &s.gaps, s.gap_bits) < 0) return false;
  for (int64_t i = 0; i < n; i++) out[i] = 0;
  for (int64_t i = 0; i < entries; i++) {
    int gap = symbol_get(&s, &gaps, &s.gaps, s.gap_bits);
    place += gap;
    if (gap == (1 << s.gap_bits) - 1) continue;  // a filler
    int code = symbol_get(&s, &codes, &s.codes, s.code_bits);
    if (code < 0 || code >= (int)s.values || place >= n) return false;
    out[place++] = s.book[code];
    read++;
  }
  return read == s.nonzeros && codes.at <= codes.n;
}

double deep_payload(double density, double code_bits, double gap_bits) { return density * (code_bits + gap_bits) / 32; }

double deep_fillers(double density, uint32_t gap_bits) {
  double none = pow(1 - density, (double)(1 << gap_bits));
  return none / (1 - none);
}
