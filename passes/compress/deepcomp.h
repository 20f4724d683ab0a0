// Deep Compression (S42): weights that are pruned and share few values, as a codebook, codes of k bits and relative
// positions of 4, 5 or 8 bits, optionally with canonical Huffman codes for both.
//
//   0 0 0.5 0 0 0 -1 0.5   =>   book -1 0.5   gaps 2 3 0   codes 1 0 1
//
// A gap counts the zeros in front of a value. The largest number of its bits is a filler: that many zeros and no value.
// Zeros come back as +0, everything else bit for bit.
#ifndef QCC_PASSES_COMPRESS_DEEPCOMP_H
#define QCC_PASSES_COMPRESS_DEEPCOMP_H

#include "ir/base/vec.h"

#define DEEP_VALUES 256

typedef struct Deep {
  int64_t n, nonzeros, fillers;
  uint32_t values, code_bits, gap_bits;
  float book[DEEP_VALUES];  // ascending
  uint8_t *gaps;            // nonzeros + fillers
  uint8_t *codes;           // nonzeros
} Deep;

// False: more than DEEP_VALUES different values besides zero, or one that is not finite.
bool deep_of(const float *w, int64_t n, uint32_t gap_bits, Arena *arena, Deep *out);
// Of 4, 5 and 8 bits those that take least.
bool deep_best(const float *w, int64_t n, Arena *arena, Deep *out);

typedef struct DeepSize {
  int64_t header, book, tables, gaps, codes, total;  // bytes; gaps and codes share the last byte of the stream
  double gap_mean, code_mean;                        // bits per entry
} DeepSize;
DeepSize deep_size(const Deep *d, bool huffman);

// The stored bytes, deep_size().total of them, and back. deep_unpack is false when they are no such stream of n
// weights.
uint8_t *deep_pack(const Deep *d, bool huffman, Arena *arena, int64_t *n_bytes);
bool deep_unpack(const uint8_t *bytes, int64_t n_bytes, int64_t n, float *out);

// By formula: bits of codes and gaps of weights of that density, as a part of 32 bits each, without fillers.
double deep_payload(double density, double code_bits, double gap_bits);
// Fillers per value where zeros are spread evenly.
double deep_fillers(double density, uint32_t gap_bits);

#endif
