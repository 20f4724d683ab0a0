// Canonical Huffman codes of byte symbols, and the bit streams they go into (first bit lowest).
#ifndef QCC_PASSES_COMPRESS_HUFFMAN_H
#define QCC_PASSES_COMPRESS_HUFFMAN_H

#include "ir/base/vec.h"

#define HUFFMAN_SYMBOLS 256
#define HUFFMAN_LONGEST 63

typedef struct Huffman {
  uint8_t length[HUFFMAN_SYMBOLS];  // bits of each symbol, 0: it does not occur
  uint64_t code[HUFFMAN_SYMBOLS];   // canonical: shorter codes first, of one length by symbol; first bit highest
} Huffman;

// Lengths by the counts of the symbols (at most 2^40 in all); a single symbol has one bit.
void huffman_of(const int64_t count[HUFFMAN_SYMBOLS], Huffman *out);
void huffman_codes(Huffman *h);  // codes from lengths
int64_t huffman_bits(const Huffman *h, const int64_t count[HUFFMAN_SYMBOLS]);

typedef struct BitWriter {
  Arena *arena;
  VEC(uint8_t) bytes;
  uint32_t used;  // bits of the last byte
} BitWriter;

typedef struct BitReader {
  const uint8_t *bytes;
  int64_t n, at;  // bits
} BitReader;

void bits_put(BitWriter *w, uint64_t v, uint32_t n);  // n <= 64, lowest bit first
uint64_t bits_get(BitReader *r, uint32_t n);          // 0 behind the end
void huffman_put(BitWriter *w, const Huffman *h, uint8_t symbol);
// -1 when the bits are no code.
int huffman_get(BitReader *r, const Huffman *h);

#endif
