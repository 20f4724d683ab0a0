// qcc bench --suite=chain: layers in factors against the dense layer of the same size, and against the limit of the
// multiply-adds they are left with, all measured in the same run.
//
//   layer                     us       MMAC  % limit   dense us  x dense   asked
//   tt-25088x4096-r4        25.1       3.21    97.5%    14600.0      581     230
#include <string.h>

#include "frontend/driver/bench.h"

#define LAYER "layer"

typedef struct ChainCase {
  const char *name;
  int64_t batch, in, out;
  double must;
  const char *consts, *op;
} ChainCase;

static const ChainCase cases[] = {
#define CHAIN_CASE(name, batch, in, out, must, consts, op) {name, batch, in, out, must, consts, op},
#include "frontend/driver/bench_chains.def"
#undef CHAIN_CASE
};

static const char *layer_text(Arena *a, const ChainCase *c, bool dense) {
  long long n = c->batch, in = c->in, out = c->out;
  const char *consts = dense ? arena_printf(a, "const @w: f32[%lld,%lld] = rand(1)\n", in, out) : c->consts;
  return arena_printf(a,
                      "%sfunc @f(%%x: f32[%lld,%lld]) -> f32[%lld,%lld] {\n  %s : f32[%lld,%lld]  loc(\"" LAYER
                      "\")\n  return %%0\n}\n",
                      consts, n, in, n, out, dense ? "%0 = matmul %x, @w" : c->op, n, out);
}

// Seconds and multiply-adds of the layer; 0 when it can't be compiled.
static double layer_seconds(const Session *s, const ChainCase *c, bool dense, double *macs) {
  Bench b;
  BenchSpec spec = {.text = layer_text(s->arena, c, dense)};
  double seconds = 0;
  if (bench_open(&b, s, &spec)) {
    seconds = bench_layer(&b, LAYER);
    *macs = 0;
    for (uint32_t i = 0; i < b.s.m->program->steps.n; i++) *macs += b.s.m->program->steps.at[i].macs;
  }
  bench_close(&b);
  return seconds;
}

void bench_chain(const Session *s, const Roofs *r, const char *only) {
  printf("%-26s %10s %10s %8s %10s %8s %8s\n", "layer", "us", "MMAC", "% limit", "dense us", "x dense", "asked");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const ChainCase *c = &cases[i];
    double macs = 0, all = 0;
    if (!strstr(c->name, only)) continue;
    double seconds = layer_seconds(s, c, false, &macs), dense = layer_seconds(s, c, true, &all);
    double roof = roof_float(r, s->target, macs);
    printf("%-26s %10.2f %10.3f %7.1f%% %10.1f %8.1f %8.1f\n", c->name, 1e6 * seconds, macs / 1e6,
           seconds > 0 ? 100 * roof / seconds : 0, 1e6 * dense, seconds > 0 ? dense / seconds : 0, c->must);
    fflush(stdout);
  }
}
