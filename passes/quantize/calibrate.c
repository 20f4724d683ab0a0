// Statistics of sites and layers, sample by sample. See quantize.h.
//
// A convolution is a dense layer of its patches. Their second moments, with a one in front for the bias, say how much a
// change of the weights changes the sums: (w - v)' M (w - v), summed over all places. Large layers are seen at some
// places only, spread evenly; very large ones keep no moments and are rounded one by one.
#include "ir/base/map.h"
#include "passes/compress/linalg.h"
#include "passes/compress/measure.h"
#include "passes/quantize/quantize.h"

#define MOST_K 2400        // of a group: its moments take 46 MB
#define MOST_BYTES 0x1p29  // of all moments
#define MOST_PATCHES 256   // of a layer and sample
#define MOST_SAMPLES 16    // of the interpreter
#define RUN_LIMIT 4e9      // its operations

static double moment_bytes(const QuantLayer *l) { return 8.0 * (double)l->shape.group * (double)l->k * (double)l->k; }

// Allocated at the first sample, in the order of the layers.
static void moments_new(Quantization *z, QuantLayer *l) {
  double all = moment_bytes(l);
  for (uint32_t i = 0; i < z->layers.n; i++)
    if (z->layers.at[i].moments != NULL) all += moment_bytes(&z->layers.at[i]);
  if (l->k > MOST_K || all > MOST_BYTES) return;
  l->moments = NEW_ARRAY(z->arena, double, l->shape.group * l->k * l->k);
}

static void add_patches(QuantLayer *l, const Tensor *x) {
  const FactorLayer *s = &l->shape;
  int64_t all = s->batch * layer_places(s), used = all < MOST_PATCHES ? all : MOST_PATCHES;
  int64_t taps = s->in * layer_taps(s), k = l->k;
  Arena *arena = arena_new("patches");
  double *patch = NEW_ARRAY(arena, double, taps), *rows = NEW_ARRAY(arena, double, s->group *used *k);
  for (int64_t i = 0; i < used; i++) {
    layer_patch(s, x, i * all / used, patch);
    for (int64_t g = 0; g < s->group; g++) {
      double *row = rows + (g * used + i) * k;
      row[0] = 1;
      for (int64_t j = 0; j < k - 1; j++) row[j + 1] = patch[g * (k - 1) + j];
    }
  }
  for (int64_t g = 0; g < s->group; g++)
    matrix_add_tmul(k, k, used, rows + g * used * k, rows + g * used * k, l->moments + g * k * k);
  l->patches += used;
  arena_free(arena);
}

void quant_observe(Quantization *z, uint32_t site, const Tensor *x) {
  activation_stats_add(&z->sites.at[site].stats, x);
  for (uint32_t i = 0; i < z->layers.n; i++) {
    QuantLayer *l = &z->layers.at[i];
    if (l->input != site) continue;
    if (l->moments == NULL && l->patches == 0) moments_new(z, l);
    if (l->moments != NULL) add_patches(l, x);
  }
}

// ---- by the interpreter

static void look(void *ctx, const Op *op, const Tensor *in, const Tensor *out) {
  QuantState *s = ctx;
  (void)in;
  for (uint32_t i = 0; i < op->n_out; i++) {
    uintptr_t site = (uintptr_t)map_get(s->site_of, op->out[i]->id + UINT64_C(1));
    if (site != 0) quant_observe(s->z, (uint32_t)(site - 1), &out[i]);
  }
}

bool quant_calibrate(QuantState *s) {
  const PassOptions *opt = s->ctx->opt;
  const char *why = measure_refusal(s->f, opt);
  double cost = measure_cost(s->f);
  if (why == NULL && cost > RUN_LIMIT) why = "the network is too large for the interpreter";
  if (why != NULL) return diag_error(s->ctx->diag, DIAG_LIMIT, NULL, "quantize: ranges are not known: %s", why);
  uint32_t most = opt->n_samples > 0 ? opt->n_samples : 4;
  for (uint32_t i = 0; i < most && i < MOST_SAMPLES && cost * i <= RUN_LIMIT; i++) {
    Arena *arena = arena_new("sample");
    const Tensor *in = measure_inputs(s->f, opt, i, arena);
    Tensor *results = NEW_ARRAY(arena, Tensor, s->f->n_results + 1);
    for (uint32_t k = 0; k < s->f->n_args; k++) {
      uintptr_t site = (uintptr_t)map_get(s->site_of, s->f->args[k]->id + UINT64_C(1));
      if (site != 0) quant_observe(s->z, (uint32_t)(site - 1), &in[k]);
    }
    bool ok = eval_func(s->f, in, results, arena, look, s);
    arena_free(arena);
    if (!ok) return false;
    s->z->samples = i + 1;
  }
  s->z->recorded = opt->n_samples > 0;
  return true;
}
