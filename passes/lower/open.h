// Packed weights at their bits: held without what packing added, in as few bits as their values need, and opened into
// the workspace by a step before their first reader. The kernels that read them stay as they are.
//
//   panels of bytes, 9 taps of 3 channels by four           codes of 3 bits [D]   a field of every width in its rows
//   [9][lanes][4] i8, every fourth one 0            =>      dense bytes [D]       code * 2^s + lo, or book[code]
//                                                           panels                blocks of bytes permuted out of
//                                                           windows
//
// `lower` packs for speed; the sizes of all layers are known when it is done. Where the weights of the network take
// more than 1.05 of the bits the file declares, layers are opened until they do not, first those that save most bytes
// per cycle. The pass argument `open` opens whatever saves bytes.
#ifndef QCC_PASSES_LOWER_OPEN_H
#define QCC_PASSES_LOWER_OPEN_H

#include "passes/lower/lower.h"
#include "passes/pack.h"

#define OPEN_RUNS 24      // of blocks that are permuted alike
#define OPEN_PATTERNS 16  // permutations
#define OPEN_BOOK 64      // values by number
#define OPEN_BLOCK 64     // bytes of the widest block

// A packed constant that a step of `op` reads. `map` names the element of `from` behind each packed element, -1 for
// none; NULL: as `spec` packs them.
typedef struct PackedWeights {
  const Op *op;
  PBuf *buf;
  Const *from;
  PackSpec spec;
  const int32_t *map;
} PackedWeights;

// Tells what a packed constant is made of.
void open_remember(LowerCtx *ctx, const PackedWeights *w);
// Does the file declare few bits for the weights of the op: they may be read again.
bool open_may(Module *m, const Op *op);
// Opens what the sizes ask for, or everything. After all steps are there.
bool open_weights(LowerCtx *ctx, bool everything);

// ---- between the files of this part

// Blocks [first, first + count) of the packed bytes, block i out of the dense bytes from `at + i * step` on. The first
// `n_repeated` runs come again for every period of blocks.
typedef struct OpenRun {
  int64_t first, count, at, step;
  uint32_t pattern;
} OpenRun;

typedef struct OpenPattern {
  uint8_t at[OPEN_BLOCK], mask[OPEN_BLOCK];  // place in the window; 255 where there is a byte
} OpenPattern;

typedef struct OpenForm {
  const PackedWeights *w;
  int64_t packed;  // bytes
  int64_t block;   // bytes permuted at once
  bool expands;    // packed bytes are not the dense ones
  uint32_t n_runs, n_repeated, n_patterns;
  int64_t periods, period, period_step;  // how often; blocks; dense bytes
  OpenRun run[OPEN_RUNS];
  OpenPattern pattern[OPEN_PATTERNS];
  int64_t dense;         // bytes
  const uint8_t *bytes;  // dense
  uint32_t bits;         // of a code; 8: the bytes themselves
  bool book;             // codes are numbers of `value`; else value = lo + code << shift
  uint32_t shift, n_values;
  int64_t lo;
  int8_t value[OPEN_BOOK];
  int64_t row;     // bytes opened at once
  int64_t stored;  // bytes of the codes
  double cycles;   // about
} OpenForm;

// The form of one constant. False: nothing to save.
bool open_form(LowerCtx *ctx, const PackedWeights *w, OpenForm *f);
// Fields of codes, widest first, their rows one after the other.
uint32_t open_fields(uint32_t bits, uint32_t width[3]);
int64_t open_steps(const OpenForm *f);  // rows of dense bytes
// The step that opens it, last in the program; returns the bytes it writes, as many as the constant or more.
PBuf *open_emit(LowerCtx *ctx, const OpenForm *f);

#endif
