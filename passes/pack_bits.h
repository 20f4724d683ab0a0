// Weights of dot products by four (pack.h, by = 4) in fewer bits than bytes: fields of bytes of neighbouring steps.
//
// A weight w is multiplied as the byte d = w * 2^shift. Of all these bytes only the bits of one run differ; it is cut
// into fields of 4, 2 and 1 bits, and a field of width b of 8 / b steps of the reduction shares a stored byte:
//
//   weights -7 .. 7, shift 4: d = -112 .. 112, bits 4 .. 7 differ      stored byte: step 2 i in 0 .. 3, 2 i + 1 in 4 ..
//   7 weights -3, -1, 1, 3, shift 5: bits 6 and 7 differ, bit 5 is one   stored byte: steps 4 i .. 4 i + 3, two bits
//   each
//
// So a field is a weight after one shift (of whole lanes) and one `and`, signs included; the sum of products is exact,
// shifted by `shift`. As many steps of the innermost loop as fill bytes of every width (chunks) lie together, every
// field of theirs in rows of its own; what is left of all turns of the outer loops lies together behind them:
//
//   [panel]  [outer loops][field][whole: groups of 8 / b steps][columns][4 bytes]
//            [field][outer loops, rest: groups of 8 / b steps][columns][4 bytes]
#ifndef QCC_PASSES_PACK_BITS_H
#define QCC_PASSES_PACK_BITS_H

#include "ir/graph.h"

#define PACK_FIELDS 3

typedef struct PackBits {
  uint32_t n;                   // fields; 0: whole bytes
  uint32_t width[PACK_FIELDS];  // bits
  uint32_t at[PACK_FIELDS];     // lowest bit in the byte they make up
  uint32_t ones;                // bits of that byte that all weights have set outside of the fields
  uint32_t shift;               // the byte is the weight shifted left by so many
} PackBits;

typedef struct PackRun {
  int64_t chunk;        // the fewest steps (of four elements) that fill bytes of every width
  int64_t runs;         // turns of the outer loops
  int64_t whole, rest;  // steps of the innermost loop: in chunks, and after them
  int64_t rows;         // stored rows of a panel
} PackRun;

// The fields of constant i8 weights. False when they take all eight bits.
bool pack_bits_of(const Value *w, PackBits *b);
uint32_t pack_bits_width(const PackBits *b);          // bits of a weight
uint32_t pack_bits_least(Module *m, const Value *w);  // bits that number the values of constant i8 weights
// How the steps of a reduction (`red` elements per loop, the innermost one in groups of four) lie.
PackRun pack_run(const PackBits *b, uint32_t n_red, const int64_t *red);
// Among so many steps that lie together, the row where field number `field` of step `step` is stored; past the last
// field: rows.
int64_t pack_field_row(const PackBits *b, int64_t steps, uint32_t field, int64_t step);
// One panel: `from` are bytes [steps][width] of weights, `to` bytes [rows][width], zero before.
void pack_bits_panel(const PackBits *b, const PackRun *r, int64_t width, const int8_t *from, uint8_t *to);

#endif
