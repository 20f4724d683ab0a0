// The file of weights that an object compiled with --weights=extern reads, little-endian:
//
//   0   8 bytes  "QCCWGHT" and a zero
//   8   u32      version, 1
//   12  u32      0
//   16  u64      format: a hash of the code and of where it looks for which constant
//   24  u64      bytes of the constants, a multiple of 64
//   32  u64      sum of the constants (weight_file_sum)
//   64           the constants
//
// Two files with one format fit the same object: a network that was trained again can take the place of another
// without linking, as long as the compiler made the same code of it.
#ifndef QCC_BACKENDS_WEIGHT_FILE_H
#define QCC_BACKENDS_WEIGHT_FILE_H

#include "backends/llvm/module.h"

#define WEIGHT_FILE_MAGIC "QCCWGHT"
#define WEIGHT_FILE_VERSION 1
#define WEIGHT_FILE_HEAD 64
#define WEIGHT_FILE_FACTOR UINT64_C(0x9e3779b97f4a7c15)
#define WEIGHT_FILE_SHIFT 29

// h = (h ^ word) * factor; h ^= h >> shift, over words of 8 bytes, from `format` on: no change of one word goes unseen.
uint64_t weight_file_sum(const uint8_t *at, size_t n, uint64_t format);
// Of the programs of all levels and the layout of their constants.
uint64_t weight_file_format(uint32_t n, const Level *levels, const WeightLayout *w, Arena *arena);
// The whole file, malloc'ed; NULL without memory.
uint8_t *weight_file_bytes(const WeightLayout *w, bool release, size_t *n);

#endif
