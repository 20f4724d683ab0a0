// Weights with few values: what --quantize and --share put in the place of constant float weights (S08 to S69).
//
//   WeightSpec s;  WeightFit fit;  const char *why;
//   weight_spec_read("symmetric:bits=4:channel:clip", arena, diag, "--share", &s)
//   weights_fit_scheme(m, w, axis, &s, NULL, arena, &fit, &why)
//   op_set_operand(op, 1, weights_emit(op, &fit));           dequantize(const i8) where an integer kernel reads it
//
// A scheme (weight_schemes.def) sees one group after another: floats that share a book, and chooses the book and a
// code for each. Inside of a fit weights lie channel by channel whatever the tensor's axes are.
#ifndef QCC_PASSES_QUANTIZE_WEIGHTS_H
#define QCC_PASSES_QUANTIZE_WEIGHTS_H

#include "ir/base/diag.h"
#include "ir/graph.h"

#define WEIGHT_LEVELS 4096

typedef enum WeightGrain { GRAIN_TENSOR, GRAIN_CHANNEL, GRAIN_BLOCK } WeightGrain;

typedef enum WeightBook { BOOK_GRID, BOOK_PLANES, BOOK_FREE, BOOK_FIXED, BOOK_VECTORS } WeightBook;

typedef struct WeightScheme WeightScheme;

// SCHEME[:bits=K|levels=N][:tensor|channel|block=N][:width=D][:clip][:zeros][:seed=S][:rounds=N]
typedef struct WeightSpec {
  const WeightScheme *scheme;
  uint32_t bits;    // of GRID and PLANES
  uint32_t levels;  // of FREE and VECTORS
  WeightGrain grain;
  int64_t block;  // weights of a channel that share a book, GRAIN_BLOCK
  int64_t width;  // weights of a vector; 0: by the kernel (9 or 4)
  bool clip;      // the range that loses least by squares instead of all of it
  bool zeros;     // weights that are 0 stay 0, and have a level of their own
  uint64_t seed;
  uint32_t rounds;    // of VECTORS, at most; 0: 25
  const float *book;  // that all groups take, ascending: the scheme has been run; NULL: it is run
  uint32_t n_book;
} WeightSpec;

// Floats that share a book. A scheme fills in code and book.
typedef struct WeightGroup {
  int64_t n;
  int64_t first;  // of the tensor's weights, channel by channel
  const float *w;
  double mean, deviation;  // of the whole tensor
  int64_t width;           // weights per code: 1, but of VECTORS
  int64_t period;          // VECTORS: weights of a channel
  const double *gram;      // VECTORS: period / width matrices of width x width, or NULL
  uint16_t *code;          // n / width
  uint32_t n_book;
  float *book;             // n_book x width; ascending where width is 1
  bool grid;               // book[k] = scale * (lo + step * k - zero) in f32
  float scale;             // > 0
  int32_t lo, step, zero;  // lo + step * k and zero lie within a signed byte
} WeightGroup;

struct WeightScheme {
  const char *name;
  // Fills in `g`. False, with *why: these weights have no such form.
  bool (*run)(WeightGroup *g, const WeightSpec *s, Arena *arena, const char **why);
  WeightBook book;
  uint32_t least, most, usual;  // bits, or levels
  const char *help;
};

typedef struct WeightStats {
  uint32_t levels;   // codes that occur, of the group where most do
  int64_t distinct;  // different floats in the tensor (S20)
  double entropy;    // bits per code, over all groups
  double cosine;     // with the weights; 1 where both are 0
  double relative;   // ||w - v|| / ||w||, 0 where both are 0
  double largest;    // max |w - v|
  double bits;       // stored bits per code
  // By formula: codes of `bits`, 4 bytes per float of a book (2 of VECTORS) or scale, 1 per zero point.
  int64_t bytes;
  int64_t bytes_coded;  // the same with codes of their entropy
} WeightStats;

typedef struct WeightFit {
  const Value *w;
  WeightSpec spec;
  uint32_t axis;
  int64_t n, channels, per;  // weights; per channel
  int64_t n_groups, in_group;
  WeightGroup *group;  // in order; group i holds weights i * in_group and on
  float *from;         // the weights, channel by channel
  uint16_t *code;      // all groups' codes, in order
  float *value;        // of weights in the tensor's own order
  WeightStats stats;
} WeightFit;

// Second moments of a layer's inputs, in * taps + 1 squared (passes/compress/moments.h), for schemes that weigh errors
// by them; `n` is in * taps. NULL: plain squares of weight errors.
typedef struct WeightMoments {
  int64_t n;
  const double *g;
} WeightMoments;

uint32_t weight_scheme_count(void);
const WeightScheme *weight_scheme_at(uint32_t i);
const WeightScheme *weight_scheme_by_name(const char *name, size_t n);  // NULL: none

// Reads the form above up to the end of `text`, or up to the first part that is none of it, where *rest then points
// (behind its colon; at the end of text: ""). `option` is named in the messages. False after diag_error.
bool weight_spec_read(const char *text, const char *option, Diag *diag, WeightSpec *out, const char **rest);
// "kmeans, 16 levels, per channel"
const char *weight_spec_text(const WeightSpec *s, Arena *arena);

// Fits the scheme to constant f32 (or f16, bf16) weights whose output channels are axis `axis`. False, with *why.
bool weights_fit_scheme(Module *m, const Value *w, uint32_t axis, const WeightSpec *s, const WeightMoments *moments,
                        Arena *arena, WeightFit *out, const char **why);
// The same for plain floats, channel by channel: what the former calls, and tests do.
bool weights_fit_floats(const float *w, int64_t channels, int64_t per, const WeightSpec *s,
                        const WeightMoments *moments, Arena *arena, WeightFit *out, const char **why);
// Values and statistics again after codes, books or scales were changed.
void weights_refresh(WeightFit *fit, Arena *arena);
// Place in the tensor of weight `p` of channel `c`.
int64_t weights_place(const WeightFit *fit, int64_t c, int64_t p);

// What takes the weights' place in front of `before`: a dequantize of a constant of signed bytes where all groups are
// grids and a dequantize can say their scales (per tensor, per channel, per block of a matrix), else the floats.
Value *weights_emit(Op *before, const WeightFit *fit);
Value *weights_floats(Module *m, const WeightFit *fit);

// ---- for schemes (weight_group.c)

// Codes of the nearest entries of the ascending book, the lower of two that are as near.
void group_assign(WeightGroup *g);
// The book of a grid of `n` integers from `lo` with step `step`.
void group_grid(WeightGroup *g, double scale, int32_t lo, int32_t step, uint32_t n, int32_t zero, Arena *arena);
double group_error2(const WeightGroup *g);  // sum of squares of what is lost
// The floats in ascending order.
float *group_sorted(const WeightGroup *g, Arena *arena);
void floats_sort(int64_t n, float *w);
// The part (0, 1] of the range at which `error2` of a fit is least: 100 even parts, then a bisection of the best.
double group_best_part(double (*error2)(void *ctx, double part), void *ctx);

#endif
