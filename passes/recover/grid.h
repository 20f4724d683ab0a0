// Lattices through zero: are given floats whole multiples of one number?
#ifndef QCC_PASSES_RECOVER_GRID_H
#define QCC_PASSES_RECOVER_GRID_H

#include <stdbool.h>
#include <stdint.h>

#define GRID_MAX 257  // numbers a fit takes: 256 steps, and -0

// How the float of step k was rounded on its way into the file.
typedef enum GridForm {
  GRID_PLAIN,    // f32(scale * k)
  GRID_DOREFA,   // f32(scale * n * t), t = f32(2 f32(j / n) - 1) with k = 2 j - n: a quantiser to n + 1 levels
  GRID_MIRRORED  // the negative of GRID_DOREFA at -k: times a negative factor
} GridForm;

typedef struct Grid {
  GridForm form;
  double scale;
  int64_t n;  // of the other two
} Grid;

// The float that step k stands for.
float grid_value(const Grid *g, int64_t k);
// Finds the coarsest grid with grid_value(k[i]) == v[i] (zeros of either sign are equal) and every k[i] in lo .. hi
// (lo <= 0 <= hi, at most 256 steps). v: at most GRID_MAX finite f32 numbers; all zero: scale 1. False: there is none.
bool grid_fit(uint32_t n, const double *v, int64_t lo, int64_t hi, Grid *g, int64_t *k);
// The same with the other forms too, for weights.
bool grid_fit_weights(uint32_t n, const double *v, int64_t lo, int64_t hi, Grid *g, int64_t *k);

#endif
