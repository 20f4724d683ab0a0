// Sizes of product quantisation. See weight_pq.c.
#ifndef QCC_PASSES_QUANTIZE_WEIGHT_PQ_H
#define QCC_PASSES_QUANTIZE_WEIGHT_PQ_H

#include <stdint.h>

// Entries of the book of so many vectors when `levels` are asked for: the largest power of two of at most `levels` and
// a quarter of the vectors.
uint32_t pq_entries(uint32_t levels, int64_t vectors);
// Bytes of codes in whole bytes and a book of f16, as the publication counts them.
int64_t pq_bytes(uint32_t entries, int64_t vectors, int64_t width);

#endif
