// See huffman.h.
#include "passes/compress/huffman.h"

#include <string.h>

typedef struct Node {
  int64_t count;
  int parent;
} Node;

// The lightest node without a parent among the first n, of equal ones the first; -1: there is none.
static int lightest(const Node *nodes, int n) {
  int best = -1;
  for (int i = 0; i < n; i++)
    if (nodes[i].count > 0 && nodes[i].parent < 0 && (best < 0 || nodes[i].count < nodes[best].count)) best = i;
  return best;
}

void huffman_of(const int64_t count[HUFFMAN_SYMBOLS], Huffman *out) {
  Node nodes[2 * HUFFMAN_SYMBOLS];
  int n = HUFFMAN_SYMBOLS, last = -1;
  memset(out, 0, sizeof *out);
  for (int i = 0; i < n; i++) nodes[i] = (Node){count[i], -1};
  for (;;) {
    int a = lightest(nodes, n);
    if (a < 0) return;
    nodes[a].parent = n;  // taken, so that the second is another
    int b = lightest(nodes, n);
    if (b < 0) {
      nodes[a].parent = -1;
      last = a;
      break;
    }
    nodes[b].parent = n;
    nodes[n] = (Node){nodes[a].count + nodes[b].count, -1};
    n++;
  }
  for (int i = 0; i < HUFFMAN_SYMBOLS; i++) {
    if (count[i] <= 0) continue;
    for (int k = i; k != last; k = nodes[k].parent) out->length[i]++;
    if (out->length[i] == 0) out->length[i] = 1;  // the only symbol
  }
  huffman_codes(out);
}

void huffman_codes(Huffman *h) {
  uint64_t next = 0;
  for (uint32_t length = 1; length <= HUFFMAN_LONGEST; length++, next <<= 1)
    for (int i = 0; i < HUFFMAN_SYMBOLS; i++)
      if (h->length[i] == length) h->code[i] = next++;
}

int64_t huffman_bits(const Huffman *h, const int64_t count[HUFFMAN_SYMBOLS]) {
  int64_t bits = 0;
  for (int i = 0; i < HUFFMAN_SYMBOLS; i++) bits += count[i] * h->length[i];
  return bits;
}

void bits_put(BitWriter *w, uint64_t v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    if (w->used % 8 == 0) vec_push(w->arena, &w->bytes, 0);
    if ((v >> i) & 1) w->bytes.at[w->bytes.n - 1] |= (uint8_t)(1U << (w->used % 8));
    w->used = (w->used + 1) % 8;
  }
}

uint64_t bits_get(BitReader *r, uint32_t n) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < n; i++, r->at++)
    if (r->at < r->n) v |= (uint64_t)((r->bytes[r->at / 8] >> (r->at % 8)) & 1) << i;
  return v;
}

void huffman_put(BitWriter *w, const Huffman *h, uint8_t symbol) {
  for (uint32_t i = h->length[symbol]; i-- > 0;) bits_put(w, (h->code[symbol] >> i) & 1, 1);
}

int huffman_get(BitReader *r, const Huffman *h) {
  uint64_t code = 0;
  for (uint32_t length = 1; length <= HUFFMAN_LONGEST && r->at < r->n; length++) {
    code = code << 1 | bits_get(r, 1);
    for (int i = 0; i < HUFFMAN_SYMBOLS; i++)
      if (h->length[i] == length && h->code[i] == code) return i;
  }
  return -1;
}
