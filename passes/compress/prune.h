// Which weights of a layer magnitude pruning drops, and the reader of --prune.
#ifndef QCC_PASSES_COMPRESS_PRUNE_H
#define QCC_PASSES_COMPRESS_PRUNE_H

#include "ir/base/diag.h"

typedef enum PruneKind {
  PRUNE_FRACTION,   // the `value`-th part of the weights, the smallest
  PRUNE_THRESHOLD,  // those below `value`
  PRUNE_N_OF_M,     // all but the n largest of each m neighbours along the input channels
  PRUNE_CHANNELS,   // the `value`-th part of the input channels, the others refitted to the samples
  PRUNE_BLOCKS      // the `value`-th part of the rows x cols blocks (outputs x input channels, one tap), by energy
} PruneKind;

typedef struct PruneSpec {
  const char *text;
  PruneKind kind;
  double value;
  int64_t n, m;        // N_OF_M
  int64_t rows, cols;  // BLOCKS
  bool force;          // even where prices say that it loses
  const char *layers;  // pattern of names, NULL: all
  bool used;
} PruneSpec;

// FRACTION|threshold=T|N:M|block=RxC:FRACTION|channels=FRACTION, then [:force][:LAYERS]. False after diag_error.
bool prune_spec_read(const char *text, Arena *arena, Diag *diag, PruneSpec *out);

// The weight of output o, input channel i (of its group), tap t is w[o * s_out + i * s_in + t * s_tap].
typedef struct PruneShape {
  int64_t out, in, taps, s_out, s_in, s_tap;
} PruneShape;

// Not for CHANNELS. Marks what goes in `drop`, which holds false; of equal magnitudes the lower index first. Returns
// how many, zeros among them included; *error2 is the sum of their squares.
int64_t prune_mark(const PruneSpec *spec, const PruneShape *shape, const double *w, bool *drop, double *error2,
                   Arena *arena);

#endif
