// --weights=packed: the file of weights as a canonical Huffman code of its bytes, which qcc_weights_unpack
// (runtime/rt_weights.c, where the format is written down) turns back.
#include <string.h>

#include "frontend/driver/session.h"
#include "passes/compress/huffman.h"

enum { LENGTHS = 32, STREAM = LENGTHS + HUFFMAN_SYMBOLS };

static void put_number(uint8_t *to, uint64_t v) {
  for (int i = 0; i < 8; i++) to[i] = (uint8_t)(v >> (8 * i));
}

uint8_t *weights_pack(Arena *arena, const uint8_t *at, size_t n, size_t *n_packed) {
  int64_t count[HUFFMAN_SYMBOLS] = {0};
  Huffman code;
  BitWriter bits = {.arena = arena};
  for (size_t i = 0; i < n; i++) count[at[i]]++;
  huffman_of(count, &code);
  for (size_t i = 0; i < n; i++) huffman_put(&bits, &code, at[i]);
  *n_packed = STREAM + bits.bytes.n;
  uint8_t *to = arena_alloc(arena, *n_packed);
  memcpy(to, "QCCPACK", 8);
  to[8] = 1;
  put_number(to + 16, n);
  put_number(to + 24, (uint64_t)huffman_bits(&code, count));
  memcpy(to + LENGTHS, code.length, HUFFMAN_SYMBOLS);
  if (bits.bytes.n > 0) memcpy(to + STREAM, bits.bytes.at, bits.bytes.n);
  return to;
}
