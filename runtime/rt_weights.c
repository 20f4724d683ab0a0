/* Packed files of weights (--weights=packed) back to those that init_weights reads.
 *
 *   0 "QCCPACK", zero   8 u32 version   16 u64 bytes unpacked   24 u64 bits   32 a length per byte value   288 bits
 *
 * A canonical Huffman code of bytes: shorter codes first, of one length by value; a code begins with its highest bit, a
 * byte of the stream with its lowest. What comes out is checked by init_weights, not here.
 */
#include <string.h>

#include "runtime/qcc_rt.h"

#define VALUES 256
#define LONGEST 63
#define LENGTHS 32
#define STREAM (LENGTHS + VALUES)

static uint64_t number(const unsigned char *p, int bytes) {
  uint64_t v = 0;
  while (bytes-- > 0) v = v << 8 | p[bytes];
  return v;
}

typedef struct Code {
  uint32_t count[LONGEST + 1]; /* values with codes of that length */
  unsigned char value[VALUES]; /* in the order of their codes */
} Code;

/* False: a length is too large, or the codes do not fit beside each other. */
static int code_read(Code *c, const unsigned char *lengths) {
  uint64_t left = 1;
  int length, i, n = 0;
  memset(c, 0, sizeof *c);
  for (i = 0; i < VALUES; i++) {
    if (lengths[i] > LONGEST) return 0;
    c->count[lengths[i]]++;
  }
  c->count[0] = 0;
  for (length = 1; length <= LONGEST; length++) {
    left = left > VALUES ? left : left * 2; /* more than enough stays more than enough */
    if (c->count[length] > left) return 0;
    left -= c->count[length];
    for (i = 0; i < VALUES; i++)
      if (lengths[i] == length) c->value[n++] = (unsigned char)i;
  }
  return 1;
}

int qcc_weights_unpack(const void *packed, uint64_t bytes, void *weights, uint64_t room) {
  const unsigned char *from = packed;
  unsigned char *to = weights;
  uint64_t n, bits, at = 0, i;
  Code code;
  if (!from || !to) return QCC_E_ARG;
  if (bytes < STREAM || memcmp(from, "QCCPACK", 8) != 0) return QCC_E_WEIGHTS_DAMAGED;
  if (number(from + 8, 4) != 1) return QCC_E_WEIGHTS_VERSION;
  n = number(from + 16, 8);
  bits = number(from + 24, 8);
  if ((bits + 7) / 8 > bytes - STREAM || !code_read(&code, from + LENGTHS)) return QCC_E_WEIGHTS_DAMAGED;
  if (n > room) return QCC_E_MEMORY;
  for (i = 0; i < n; i++) {
    uint64_t word = 0, first = 0;
    uint32_t before = 0;
    int length;
    for (length = 1; length <= LONGEST && at < bits; length++, at++) {
      word = word << 1 | ((unsigned)from[STREAM + at / 8] >> (at % 8) & 1u);
      if (word - first < code.count[length]) break;
      before += code.count[length];
      first = (first + code.count[length]) << 1;
    }
    if (length > LONGEST || at >= bits) return QCC_E_WEIGHTS_DAMAGED;
    at++;
    to[i] = code.value[before + (uint32_t)(word - first)];
  }
  return at == bits ? QCC_OK : QCC_E_WEIGHTS_DAMAGED;
}
