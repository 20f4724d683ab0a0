// Operations on codes as they are in memory: pools, pads and changes of signs of values held as bits (bits.h).
#ifndef QCC_PASSES_LOWER_BITS_MOVE_H
#define QCC_PASSES_LOWER_BITS_MOVE_H

#include "passes/lower/bits.h"

// Can the op, with operand `slot` as words of that form, make its result as words of the same form?
bool bits_moves(LowerCtx *ctx, const Op *op, uint32_t slot, const PlanesX *form);
// Lowers it, operands and result being words.
void bits_move(LowerCtx *ctx, const Op *op);

#endif
