// A plain description of a CPU, filled from backends/targets.def. Passes see only this.
#ifndef QCC_IR_TARGET_H
#define QCC_IR_TARGET_H

#include "ir/kop.h"

// The first operand of cheap products of bytes by four: the second is signed.
typedef enum DotSigns { DOT_UNSIGNED, DOT_SIGNED, DOT_BOTH } DotSigns;

typedef struct Target {
  const char *name;      // row name: "x86-64-v3", "zen4", ...
  const char *arch;      // "x86-64", "aarch64", "arm" (ARMv7-A) or "thumb" (Cortex-M)
  uint32_t vector_bits;  // widest vector used; 32: none
  uint32_t n_vregs;      // architectural vector registers
  bool has_masks;        // masked loads and stores are native
  bool has_fma;
  bool no_float, no_double;  // such arithmetic is calls into the compiler's run-time library
  bool has_f16_convert;      // f16 <-> f32 in hardware
  bool has_dot4;             // bytes by four natively
  DotSigns dot4_signs;       // of which first operands
  bool has_popcnt_vec;       // vector popcount natively
  bool has_lookup64;         // 64 bytes permuted by bytes natively
  bool has_amx;
  uint32_t l1_bytes, l2_bytes, l3_bytes, code_bytes;  // per core; code_bytes: budget of hot code
  // Measured rates, in one core's cycles (reference in targets.def).
  double fma_per_cycle;   // vector FMAs issued per cycle
  double load_per_cycle;  // vector loads per cycle
  double l1_bytes_cycle, l2_bytes_cycle, l3_bytes_cycle, dram_bytes_cycle;
  double dot4_per_cycle;
  double dot2_per_cycle;      // vectors of products of bfloat16 pairs; 0: the target has none
  double tile_cycles;         // of one product of matrix tiles, 16 x 64 by 64 x 16 bytes; 0: the target has none
  double popcnt_per_cycle;    // vectors of 64-bit words joined with others, counted and added to sums, per cycle
  double sparse_loads_cycle;  // loads per cycle of products by non-zeros (strategy sparse), vectors and numbers
  double call_cycles;         // fixed cost of one kernel call
  uint32_t panel_vectors;     // most vectors side by side in a panel of weights; 0: as many as registers allow
  double ghz;                 // nominal, only for turning cycles into microseconds
} Target;

// Lanes of so many bits in a vector; one where the target has none, or no wide enough ones.
static inline uint32_t target_lanes(const Target *t, uint32_t bits) {
  return t->vector_bits > bits ? t->vector_bits / bits : 1;
}

#endif
