// A layer as the compressor sees it, and the forms its schemes offer: a few plain ops in its place.
//
//   conv 3x3 64 -> 64   =>   conv 3x3 64 -> 12 ; conv 1x1 12 -> 64 + bias      (spatial_then_point, rank 12)
//
// A scheme reads a FactorLayer (weights in double, geometry) and appends Forms. The engine does the rest alike for all
// of them: counts, prices, checks the error against the weights that the factors give back, emits the ops.
#ifndef QCC_PASSES_COMPRESS_FORM_H
#define QCC_PASSES_COMPRESS_FORM_H

#include "ir/eval.h"
#include "ir/graph.h"
#include "ir/target.h"

#define FORM_AXES 3  // spatial axes of a convolution
#define FORM_STEPS 32
#define FORM_RANKS 8

// What calibration found out about the inputs of a layer, for schemes that weigh the error by them. NULL members: none.
typedef struct FactorStats {
  int64_t samples;
  const double *mean;        // per entry of the unfolded input (in / group * taps)
  const double *covariance;  // of these entries, uncentred
  // Behind layers that forms have replaced, with x the inputs before and z those that come now: means of z z' and x z'.
  // NULL: nothing has changed.
  const double *now, *cross;
} FactorStats;

typedef struct FactorLayer {
  const Op *op;
  uint32_t nd;             // spatial axes; 0: a dense layer
  int64_t batch;           // images, or rows of x of a dense layer
  int64_t out, in, group;  // channels
  int64_t kernel[FORM_AXES], stride[FORM_AXES], dilation[FORM_AXES], begin[FORM_AXES], end[FORM_AXES];
  int64_t x[FORM_AXES], y[FORM_AXES];  // extents
  DType dtype;
  const double *w;  // out x in / group x kernel; of a dense layer in x out
  int64_t n_w;
  double norm2;  // sum of squares of w
  const FactorStats *stats;
} FactorLayer;

typedef enum FormStepKind { FORM_MATMUL, FORM_CONV, FORM_MOVE } FormStepKind;

typedef struct FormStep {
  FormStepKind kind;
  double *w;        // MATMUL: in x out; CONV: out x in / group x kernel
  int64_t in, out;  // MATMUL, CONV
  int64_t group, kernel[FORM_AXES], stride[FORM_AXES], dilation[FORM_AXES], begin[FORM_AXES], end[FORM_AXES];  // CONV
  // MOVE: reshape to `view` (channels first), transpose by `perm` (n_view 0: no transpose), reshape to `to`.
  uint32_t n_view, n_to;
  int64_t view[MAX_RANK], perm[MAX_RANK], to[MAX_RANK];
} FormStep;

typedef struct Form Form;
struct Form {
  const char *scheme;
  const char *shape;  // what was chosen besides ranks, "" or " h then w"
  uint32_t n_ranks;
  int64_t ranks[FORM_RANKS];
  double error2;      // theory: squared Frobenius norm of what is left out
  bool by_responses;  // what was asked for is an error of the responses to recorded inputs:
  double response2;   // its square, relative
  uint32_t n;
  FormStep step[FORM_STEPS];
  // The weights that the factors stand for, in the order of FactorLayer.w.
  void (*rebuild)(const FactorLayer *l, const Form *f, double *w, Arena *arena);
  int64_t dims[2 * MAX_RANK];  // of the scheme, for rebuild
  double price;                // cycles, or bytes under --optimize=size; set by the engine
};

// Reads a convolution (nchw) or a matmul with constant float weights. False, with *why, when it is none or a form
// could not take its place: weights that are not finite, a post function, symbolic dims.
bool layer_read(const Op *op, FactorLayer *l, Arena *arena, const char **why);
// The same without the weights, which are not looked at: w is NULL.
bool layer_shape(const Op *op, FactorLayer *l, const char **why);
const char *form_text(Arena *arena, const Form *f);  // "svd rank 12"
int64_t layer_taps(const FactorLayer *l);            // product of the kernel's extents
int64_t layer_places(const FactorLayer *l);          // product of the result's spatial extents; 1 of a dense layer
// The unfolded input (in channels x taps, one group) that result place `row` of all images is made from; zeros where it
// hangs over the border.
void layer_patch(const FactorLayer *l, const Tensor *x, int64_t row, double *to);

// ---- building steps
FormStep *form_matmul(Form *f, int64_t in, int64_t out, double *w);
// A convolution with stride 1, no pads and kernel 1; the caller fills in what differs.
FormStep *form_conv(Form *f, int64_t in, int64_t out, int64_t group, double *w);
// Takes kernel, stride, dilation and pads of axis `axis` from the layer.
void step_take_axis(FormStep *s, const FactorLayer *l, uint32_t axis);
FormStep *form_move(Form *f, uint32_t n_view, const int64_t *view, const int64_t *perm, uint32_t n_to,
                    const int64_t *to);

// ---- what the engine does with a form
int64_t form_parameters(const Form *f);
double form_macs(const FactorLayer *l, const Form *f);
double layer_macs(const FactorLayer *l);
// ||W - rebuilt|| / ||W|| with the factors rounded to the element type of the layer, as they will be stored.
double form_measure(const FactorLayer *l, Form *f, Arena *arena);
// The weights that the factors stand for, as a constant with the type and order of the layer's own.
Value *form_weights(const FactorLayer *l, const Form *f, Arena *arena);
Form *form_copy(const Form *f, Arena *arena);  // with its factors
// Cycles of the form, and of the layer itself, by the prices of `plan` on channels-last ops.
double form_price(const FactorLayer *l, const Form *f, const Target *t);
double layer_price(const FactorLayer *l, const Target *t);
// The steps as ops before `before`; the bias is added by the last one. Returns the result.
Value *form_emit(const FactorLayer *l, const Form *f, Op *before, Value *x, Value *bias);

#endif
