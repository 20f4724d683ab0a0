// Graphs of the benchmarks: one layer between two of its kind, as the recover passes leave them (integer tensors,
// thresholds), so that what is timed takes and gives the packed form its neighbours use.
#ifndef QCC_FRONTEND_DRIVER_BENCH_GRAPH_H
#define QCC_FRONTEND_DRIVER_BENCH_GRAPH_H

#include "frontend/driver/bench.h"

typedef enum LayerForm {
  FORM_CONV,    // n channels of size x size, `k` taps squared, same padding
  FORM_GEMV,    // n inputs and n outputs, integer activations
  FORM_BLOCKS,  // GEMV of float activations, weights with scales per 32 (MatMulNBits)
} LayerForm;

// Activations and weights: -1 and +1; -1, 0 and +1; unsigned or signed of some bits; 32: floats.
typedef enum Levels {
  BIP = 1,
  TERN = 3,
  BITS2 = 2,
  BITS4 = 4,
  BITS5 = 5,
  BITS8 = 8,
  BITS1 = 11,
  BITS3 = 13,
  FLOAT = 32
} Levels;

typedef struct LayerCase {
  const char *name;
  LayerForm form;
  int64_t n, size, k;
  Levels x, w;
  int planes;   // bit products of one multiply-add; 0: by bytes
  double must;  // share of the roof the issue asks for, 0: none
} LayerCase;

const char *case_text(Arena *arena, const LayerCase *c);
void case_fill(Module *m, const void *layer_case);  // gives the weights their values
uint32_t levels_bits(Levels l);
double case_macs(const LayerCase *c);
double case_weight_bytes(const LayerCase *c);  // at the bits declared
#define CASE_LAYER "layer"                     // node name of the layer that is timed

#endif
