// Parts of pass channels (channels.c): which axis of a value counts channels, which of its indices are constant, which
// are needed.
//
// Axes that count the same channels share a class: a convolution makes one, element-wise ops, poolings, reshapes and
// residual additions carry it on, so a channel goes from all of them or from none. Side tables are by value id.
#ifndef QCC_PASSES_COMPRESS_CHANNELS_H
#define QCC_PASSES_COMPRESS_CHANNELS_H

#include "ir/graph.h"
#include "passes/pass.h"

typedef struct ChannelClass {
  uint32_t parent;  // union-find; itself: a root
  int64_t n;
  bool bytes;   // integers are computed of them or with them
  bool pinned;  // something reads these channels in a way that is not followed: all stay
  bool *keep;   // of a root, once all axes are known
  int64_t left;
} ChannelClass;

// n * inner neighbouring indices of an axis: each channel of the class `inner` times (a flattened tensor).
typedef struct Segment {
  uint32_t cls;
  int64_t inner;
} Segment;

typedef struct ChannelAxis {
  int32_t axis;  // -1: the value is not followed
  uint32_t n;
  Segment *segment;
  double *fixed;  // per index the one number all elements have, NaN where they differ; NULL: nowhere
  int64_t *same;  // per index the first one that is equal to it everywhere; NULL: all differ
} ChannelAxis;

// A contraction with constant weights. Weight of output o, input r of its group, tap t:
// o * s_out + r * s_in + t * s_tap.
typedef struct Reader {
  Op *op;
  int64_t in, out, group, taps;  // channels
  int64_t s_in, s_out, s_tap;
  uint32_t i_dim, o_dim;  // axes of the weights
  bool padded, transposed;
  double x_zero;
  const void *weights;
  bool few_values;  // low-bit or shared weights, whose sums would not be
  DType dtype;      // of the weights
  uint8_t *need;    // [channel of x's axis, output]: a weight that is not 0 meets an element that is not constant
  uint8_t *fixed;   // [channel]: a weight that is not 0 meets a constant that is not 0
} Reader;

typedef struct Channels {
  PassCtx *ctx;
  Module *m;
  Func *f;
  Arena *arena;
  uint32_t n_values;  // values of the function before the pass
  ChannelAxis *of;
  VEC(ChannelClass) classes;
  VEC(Reader) readers;
  VEC(struct DelayedAdd *) adds;
} Channels;

// ---- channels_axes.c: axes, classes and constants, in one walk
bool channels_follow(Channels *c);  // false: no contraction makes channels
ChannelClass *class_root(const Channels *c, uint32_t cls);
const ChannelAxis *channel_axis(const Channels *c, const Value *v);  // of values before the pass
int64_t axis_extent(const Channels *c, const ChannelAxis *a);
uint32_t axis_units(const Channels *c, const ChannelAxis *a);  // channels of all segments
// The unit of each index along the axis; unit u is channel *index of class *cls.
void axis_unit(const Channels *c, const ChannelAxis *a, int64_t position, int64_t *unit, ChannelClass **cls,
               int64_t *index);
bool axis_keeps(const Channels *c, const ChannelAxis *a, int64_t position);
// Does this reader hold its inputs by weights? (element-wise parameters do not)
bool reader_of(Channels *c, Op *op, Reader *r);
double reader_weight(const Reader *r, int64_t o, int64_t in, int64_t tap);  // `in` counts inside the group of o

// ---- channels_fixed.c: constants per channel
void fixed_follow(Channels *c, Op *op);
void fixed_contraction(Channels *c, const Reader *r);

// ---- channels_same.c: channels that are equal
void same_follow(Channels *c, Op *op);
void same_contraction(Channels *c, Reader *r);
bool reader_merges(const Reader *r);  // weights of equal inputs may be added up
// The first input of the same group that is equal to the one at `position`, whose weights may join its own.
int64_t same_in_group(const Reader *r, const ChannelAxis *x, int64_t position);

// ---- channels_keep.c: what must stay
bool channels_keep(Channels *c);    // false: everything
bool reader_maps(const Reader *r);  // constants under padding may become a map added to the result
// The constant channel of group `g` that stays to carry those of the others that go, padding and all; -1: there is
// none.
int64_t reader_carrier(const Channels *c, const Reader *r, int64_t g);

// ---- channels_cut.c: the rewrite
void channels_cut(Channels *c);

#endif
