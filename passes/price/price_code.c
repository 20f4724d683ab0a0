// The price of straight-line code per non-zero: multiply-adds that read their weight, loads of x that all rows of a
// group share, code that has to come from the second-level cache, and blocks of pixels transposed there and back.
#include <string.h>

#include "passes/contraction.h"
#include "passes/lower/code.h"
#include "passes/lower/pixel_blocks.h"
#include "passes/price/tiles.h"

#define FMA_BYTES 7.0       // code of a multiply-add
#define WEIGHT_BYTES 4.0    // and its weight
#define SQUARE_CYCLES 44.0  // a square of 16 by 16 through registers
#define COPY_CYCLES 1.2     // a vector of a block copied
#define OVERHEAD 1.12       // measured over the bound below on zen5 (70 to 90 % zeros)

// Rows of the result whose sums are held in registers.
static int64_t group_rows(const Target *t) { return t->n_vregs >= 32 ? 28 : 14; }

static bool has_assembly(const Target *t, bool fours) {
  if (strcmp(t->arch, "x86-64") != 0) return false;
  return fours ? t->has_dot4 && t->vector_bits == 512 : t->has_fma && (t->vector_bits == 512 || t->vector_bits == 256);
}

bool strategy_code_applies(const Op *op, const Target *t) {
  CodeShape s;
  if (is_empty(op) || !code_shape(op, target_lanes(t, 32), &s) || !has_assembly(t, s.fours)) return false;
  if (!pixel_blocks_applies(op, t)) return false;
  return FMA_BYTES * (double)code_nonzeros(op, &s) <= 2.0 * t->code_bytes;
}

static double power(double base, int64_t n) {
  double r = 1;
  while (n-- > 0) r *= base;
  return r;
}

static double max2(double a, double b) { return a > b ? a : b; }

void strategy_code_price(const Op *op, const Target *t, Price *p) {
  CodeShape s;
  int64_t lanes = target_lanes(t, 32);
  *p = (Price){.plan = {.strategy = intern(op->func->module->names, "code")}, .fixed = 2 * t->call_cycles};
  if (!code_shape(op, lanes, &s)) return;
  const ConvGeom *g = &s.g;
  int64_t n = code_nonzeros(op, &s), chunk = code_chunk(&s, t, lanes), reach = (g->kernel[2] - 1) * g->dilation[2];
  int64_t rows = s.window ? g->out[1] : (s.pixels + lanes - 1) / lanes, chunks = (rows + chunk - 1) / chunk;
  if (s.first && !s.window) chunks = g->n * ((s.pixels / g->n + lanes - 1) / lanes);
  int64_t blocks = s.window ? g->n * ((g->out[2] + lanes - reach - 1) / (lanes - reach)) : 1;
  int64_t groups = (g->o + group_rows(t) - 1) / group_rows(t), taps = g->kernel[1] * g->kernel[2];
  double density = (double)n / (double)(g->c * g->o * taps), group = (double)g->o / (double)groups;
  double vectors = (double)(groups * g->c * g->kernel[1]);
  double x_loads = vectors * (1 - power(1 - density, (int64_t)(group * (double)g->kernel[2])));
  if (t->vector_bits < 512) x_loads = vectors * (double)g->kernel[2] * (1 - power(1 - density, (int64_t)group));
  // Weights are broadcast from memory: half a load where a load port is as wide as a vector.
  double broadcast = t->load_per_cycle < 2 ? t->load_per_cycle / 2 : 1;
  double loads = ((double)n * broadcast + x_loads + (double)g->o) / t->load_per_cycle;
  double row = OVERHEAD * max2((double)n / (s.fours ? t->dot4_per_cycle : t->fma_per_cycle), loads);
  double code = FMA_BYTES * ((double)n + x_loads), fetch = code > 32768 ? code / (t->l2_bytes_cycle / 4) : 0;
  double call = max2(row * (double)chunk, fetch);
  double sides = (double)lanes / 16, scale = lanes < 16 ? sides * sides : 1;  // smaller squares move less each
  double squares_in = (double)((chunk - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1) *
                      (double)((g->c + lanes - 1) / lanes);
  double squares_out = (double)chunk * (double)((g->o + lanes - 1) / lanes);
  double post = (double)(price_post(op) + 1) * (double)lanes;
  double square = s.first ? COPY_CYCLES * (double)lanes : SQUARE_CYCLES * scale;
  call += (squares_in + squares_out) * square + squares_out * post;
  p->compute = (double)(chunks * blocks) * call;
  double bytes = (FMA_BYTES + WEIGHT_BYTES) * (double)n;
  p->memory = bytes / price_bandwidth(t, bytes);
  plan_add(op, &p->plan, "chunk", chunk);
}
