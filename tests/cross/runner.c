// Runs the network `net_model` on inputs made from a seed and writes its outputs: the same program for every target.
//
//   cc runner.c rt_cpu.c net.o -o net;  ./net SEED OUT.bin     OUT.bin: every output, in order, as its bytes
//   ./net A.bin B.bin E
//
// QCC_CPU chooses a level of the object. Exit code 3: this machine lacks it; the reason is on standard output.
//
// The second form compares two such files for the network it is linked with: integers must be equal, floats may differ
// by E of the largest magnitude of their tensor. Exit code 0: they do, 1: they do not, 2: trouble.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/qcc_rt.h"
#include "tests/cross/inputs.h"

extern const qcc_model net_model;

static void *block(uint64_t bytes) {
  void *p = aligned_alloc(64, (size_t)((bytes + 127) / 64 * 64));
  if (p == NULL) exit(2);
  return p;
}

static int run(const char *path) {
  const void *in[64];
  void *out[64], *workspace = block(net_model.workspace_size(NULL));
  if (net_model.n_inputs > 64 || net_model.n_outputs > 64 || net_model.n_dims > 0) return 2;
  for (uint32_t i = 0; i < net_model.n_inputs; i++) {
    void *p = block(net_model.inputs[i].bytes);
    if (width(net_model.inputs[i].dtype) == 0) return 2;
    fill(p, &net_model.inputs[i]);
    in[i] = p;
  }
  for (uint32_t i = 0; i < net_model.n_outputs; i++) out[i] = block(net_model.outputs[i].bytes);
  qcc_call call = {.workspace = workspace, .inputs = in, .outputs = out};
  int status = qcc_init(&net_model, workspace);
  if (status == QCC_E_CPU) return printf("lacks %s\n", qcc_level(workspace)), 3;
  if (status != QCC_OK) return printf("status %d\n", status), 2;
  printf("level %s\n", qcc_level(workspace));
  if (net_model.run(&call) != QCC_OK) return 2;
  FILE *f = fopen(path, "wb");
  if (f == NULL) return 2;
  for (uint32_t i = 0; i < net_model.n_outputs; i++)
    if (fwrite(out[i], 1, (size_t)net_model.outputs[i].bytes, f) != net_model.outputs[i].bytes) return 2;
  return fclose(f) == 0 ? 0 : 2;
}

static double value(const unsigned char *at, int32_t dtype) {
  float f;
  double d;
  uint16_t h;
  if (dtype == FLOAT) return memcpy(&f, at, 4), (double)f;
  if (dtype == DOUBLE) return memcpy(&d, at, 8), d;
  memcpy(&h, at, 2);
  int e = h >> 10 & 31;
  d = e == 31 ? HUGE_VAL : e == 0 ? ldexp(h & 1023, -24) : ldexp((h & 1023) + 1024, e - 25);
  return h >> 15 ? -d : d;
}

// The largest difference of a float tensor, as a part of its largest magnitude; infinite where one side is no number.
static double difference(const unsigned char *a, const unsigned char *b, const qcc_tensor *t) {
  double most = 0, worst = 0;
  for (size_t i = 0; i < t->bytes; i += width(t->dtype)) {
    double x = value(a + i, t->dtype), y = value(b + i, t->dtype);
    if (isnan(x) && isnan(y)) continue;
    if (x == y) continue;
    if (!isfinite(x) || !isfinite(y)) return HUGE_VAL;
    worst = fmax(worst, fabs(x - y));
  }
  for (size_t i = 0; i < t->bytes; i += width(t->dtype))
    if (isfinite(value(a + i, t->dtype))) most = fmax(most, fabs(value(a + i, t->dtype)));
  return worst == 0 ? 0 : worst / fmax(most, 1e-30);
}

static int compare(const char *left, const char *right, double e) {
  FILE *a = fopen(left, "rb"), *b = fopen(right, "rb");
  if (a == NULL || b == NULL) return 2;
  for (uint32_t i = 0; i < net_model.n_outputs; i++) {
    const qcc_tensor *t = &net_model.outputs[i];
    unsigned char *x = block(t->bytes), *y = block(t->bytes);
    if (fread(x, 1, (size_t)t->bytes, a) != t->bytes || fread(y, 1, (size_t)t->bytes, b) != t->bytes) return 2;
    int is_float = t->dtype == FLOAT || t->dtype == DOUBLE || t->dtype == FLOAT16;
    double d = is_float ? difference(x, y, t) : memcmp(x, y, (size_t)t->bytes) != 0;
    if (d > (is_float ? e : 0)) return printf("output %s differs by %g\n", t->name, d), 1;
  }
  return 0;
}

int main(int n, char **arg) {
  if (n == 4) return compare(arg[1], arg[2], atof(arg[3]));
  if (n != 3) return 2;
  state = strtoull(arg[1], NULL, 10);
  return run(arg[2]);
}
