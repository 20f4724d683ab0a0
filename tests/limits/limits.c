// What compiling costs: time and memory of the qcc program on whole networks, and growth with the number of nodes.
//
//   limits QCC
//
// The networks are built here (shapes of SqueezeNet 1.0 and ResNet-50, seeded weights). A gate on seconds takes the
// better of two runs, so that a moment of load is no failure; growth is measured in processor seconds, children
// included.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/onnx_build.h"

static uint32_t passed, failed;
static char work[PATH_MAX];
static const char *qcc;

static void verdict(bool ok, const char *what, double got, double limit, const char *unit) {
  if (ok) {
    passed++;
  } else {
    failed++;
  }
  printf("%s %-44s %10.2f %s, limit %.2f\n", ok ? "ok  " : "FAIL", what, got, unit, limit);
}

// ---- networks

typedef struct Net {
  Build b;
  uint32_t n, seed;
  size_t bytes;  // of weights
} Net;

static Net net_new(Arena *arena, const char *shape) {
  Net g = {.b = build_model(arena, 17), .seed = 1};
  build_input(&g.b, "x", DT_F32, shape);
  return g;
}

static const char *net_name(Net *g, const char *stem) { return arena_printf(g->b.arena, "%s%u", stem, ++g->n); }

static const char *net_weight(Net *g, const char *stem, const char *shape, int64_t count) {
  float *w = arena_alloc(g->b.arena, (size_t)count * sizeof *w);
  for (int64_t i = 0; i < count; i++) {
    g->seed = g->seed * 1664525u + 1013904223u;
    w[i] = ((float)(g->seed >> 8) / (1 << 23) - 1) * 0.05f;
  }
  g->bytes += (size_t)count * sizeof *w;
  const char *name = net_name(g, stem);
  build_init_f32(&g->b, name, shape, w);
  return name;
}

static const char *net_op(Net *g, const char *op, const char *inputs) {
  const char *out = net_name(g, op);
  build_node(&g->b, op, out, inputs, out);
  return out;
}

static const char *net_conv(Net *g, const char *x, int64_t in, int64_t out, int64_t k, int64_t stride, int64_t pad,
                            bool relu) {
  Arena *a = g->b.arena;
  const char *w = net_weight(
      g, "w", arena_printf(a, "%lld,%lld,%lld,%lld", (long long)out, (long long)in, (long long)k, (long long)k),
      out * in * k * k);
  const char *bias = net_weight(g, "b", arena_printf(a, "%lld", (long long)out), out), *y = net_name(g, "Conv");
  Onnx__NodeProto *n = build_node(&g->b, "Conv", y, arena_printf(a, "%s,%s,%s", x, w, bias), y);
  build_attr_ints(&g->b, n, "kernel_shape", 2, (int64_t[2]){k, k});
  build_attr_ints(&g->b, n, "strides", 2, (int64_t[2]){stride, stride});
  build_attr_ints(&g->b, n, "pads", 4, (int64_t[4]){pad, pad, pad, pad});
  return relu ? net_op(g, "Relu", y) : y;
}

static const char *net_pool(Net *g, const char *x, int64_t pad) {
  const char *y = net_name(g, "MaxPool");
  Onnx__NodeProto *n = build_node(&g->b, "MaxPool", y, x, y);
  build_attr_ints(&g->b, n, "kernel_shape", 2, (int64_t[2]){3, 3});
  build_attr_ints(&g->b, n, "strides", 2, (int64_t[2]){2, 2});
  build_attr_ints(&g->b, n, "pads", 4, (int64_t[4]){pad, pad, pad, pad});
  return y;
}

static const char *bottleneck(Net *g, const char *x, int64_t in, int64_t c, int64_t stride) {
  const char *skip = stride == 2 || in != 4 * c ? net_conv(g, x, in, 4 * c, 1, stride, 0, false) : x;
  const char *y = net_conv(g, x, in, c, 1, 1, 0, true);
  y = net_conv(g, y, c, c, 3, stride, 1, true);
  y = net_conv(g, y, c, 4 * c, 1, 1, 0, false);
  return net_op(g, "Relu", net_op(g, "Add", arena_printf(g->b.arena, "%s,%s", y, skip)));
}

static Net resnet50(Arena *arena) {
  static const int blocks[4] = {3, 4, 6, 3};
  Net g = net_new(arena, "1,3,224,224");
  const char *x = net_pool(&g, net_conv(&g, "x", 3, 64, 7, 2, 3, true), 1);
  int64_t in = 64;
  for (int stage = 0; stage < 4; stage++)
    for (int i = 0; i < blocks[stage]; i++) {
      x = bottleneck(&g, x, in, INT64_C(64) << stage, stage && !i ? 2 : 1);
      in = INT64_C(256) << stage;
    }
  x = net_op(&g, "Flatten", net_op(&g, "GlobalAveragePool", x));
  const char *w = net_weight(&g, "w", "2048,1000", 2048000), *bias = net_weight(&g, "b", "1000", 1000);
  build_node(&g.b, "Gemm", "fc", arena_printf(arena, "%s,%s,%s", x, w, bias), "y");
  build_output(&g.b, "y", DT_F32, "1,1000");
  return g;
}

static const char *fire(Net *g, const char *x, int64_t in, int64_t squeeze, int64_t expand) {
  const char *s = net_conv(g, x, in, squeeze, 1, 1, 0, true);
  const char *a = net_conv(g, s, squeeze, expand, 1, 1, 0, true), *b = net_conv(g, s, squeeze, expand, 3, 1, 1, true);
  const char *y = net_name(g, "Concat");
  build_attr_i(&g->b, build_node(&g->b, "Concat", y, arena_printf(g->b.arena, "%s,%s", a, b), y), "axis", 1);
  return y;
}

static Net squeezenet(Arena *arena) {
  static const int64_t plan[8][3] = {{96, 16, 64},   {128, 16, 64},  {128, 32, 128}, {256, 32, 128},
                                     {256, 48, 192}, {384, 48, 192}, {384, 64, 256}, {512, 64, 256}};
  Net g = net_new(arena, "1,3,224,224");
  const char *x = net_pool(&g, net_conv(&g, "x", 3, 96, 7, 2, 0, true), 0);
  for (int i = 0; i < 8; i++) {
    x = fire(&g, x, plan[i][0], plan[i][1], plan[i][2]);
    if (i == 2 || i == 6) x = net_pool(&g, x, 0);
  }
  x = net_op(&g, "GlobalAveragePool", net_conv(&g, x, 512, 1000, 1, 1, 0, true));
  build_node(&g.b, "Softmax", "softmax", net_op(&g, "Flatten", x), "y");
  build_output(&g.b, "y", DT_F32, "1,1000");
  return g;
}

// `op` n times in a row. The second operand of MatMul is a weight; that of Add, in the second half, is a value of the
// first half, the youngest first, so that n / 2 values are live in the middle.
static Net chain(Arena *arena, const char *op, int n) {
  Net g = net_new(arena, "1,4");
  const char *second = strcmp(op, "MatMul") == 0 ? net_weight(&g, "w", "4,4", 16) : NULL, *x = "x";
  for (int i = 0; i < n; i++) {
    const char *y = i + 1 < n ? arena_printf(arena, "t%d", i) : "y";
    if (strcmp(op, "Add") == 0) second = i < n / 2 ? "x" : arena_printf(arena, "t%d", n - i - 1);
    build_node(&g.b, op, "", second ? arena_printf(arena, "%s,%s", x, second) : x, y);
    x = y;
  }
  build_output(&g.b, "y", DT_F32, "1,4");
  return g;
}

// ---- one run of qcc

typedef struct Cost {
  int exit;
  double wall, cpu, bytes;  // bytes: the largest resident set of one process
} Cost;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }

static Cost compile(const char *model) {
  char object[PATH_MAX + 16];
  snprintf(object, sizeof object, "%s/model.o", work);
  double start = now();
  int status = 0;
  struct rusage use = {0};
  pid_t pid = fork();
  if (pid == 0) {
    alarm(300);
    execl(qcc, qcc, model, "-o", object, (char *)NULL);
    _exit(127);
  }
  wait4(pid, &status, 0, &use);
  return (Cost){WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), now() - start,
                seconds(use.ru_utime) + seconds(use.ru_stime), (double)use.ru_maxrss * 1024};
}

// Packs the network and frees it, so that only its file remains. False: no file.
static bool net_write(Net *g, char *path, size_t size) {
  size_t n;
  uint8_t *bytes = build_pack(&g->b, &n);
  snprintf(path, size, "%s/model.onnx", work);
  FILE *f = fopen(path, "wb");
  bool ok = f && fwrite(bytes, 1, n, f) == n;
  if (f) ok = fclose(f) == 0 && ok;
  arena_free(g->b.arena);
  return ok;
}

static Cost net_cost(Net g) {
  char path[PATH_MAX + 16];
  if (!net_write(&g, path, sizeof path)) return (Cost){.exit = 127};
  Cost first = compile(path), second = compile(path);
  if (second.wall > first.wall) second.wall = first.wall;
  if (second.cpu > first.cpu) second.cpu = first.cpu;
  if (second.exit == 0) second.exit = first.exit;
  return second;
}

static void check_network(const char *name, Net g, double limit, double weights_limit) {
  double weights = (double)g.bytes;
  Cost c = net_cost(g);
  verdict(c.exit == 0, name, c.exit, 0, "exit");
  verdict(c.wall < limit, name, c.wall, limit, "s");
  if (weights_limit > 0)
    verdict(c.bytes < weights_limit * weights, name, c.bytes / weights, weights_limit, "x weights");
}

// Compiled or refused because of a limit, and four times the nodes cost at most six times the processor time.
static void check_growth(const char *op, int n, double limit) {
  char what[80];
  Cost small = net_cost(chain(arena_new("chain"), op, n)), large = net_cost(chain(arena_new("chain"), op, 4 * n));
  snprintf(what, sizeof what, "chain of %d %s", 4 * n, op);
  verdict((small.exit == 0 || small.exit == 5) && (large.exit == 0 || large.exit == 5), what, large.exit, 5, "exit");
  verdict(large.wall < limit, what, large.wall, limit, "s");
  verdict(large.cpu < 6 * small.cpu + 0.2, what, large.cpu / small.cpu, 6, "x a quarter of it");
}

int main(int argc, char **argv) {
  const char *tmp = getenv("TMPDIR");
  if (argc < 2) {
    fprintf(stderr, "usage: limits QCC\n");
    return 2;
  }
  qcc = argv[1];
  snprintf(work, sizeof work, "%s/qcc-limits-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(work)) return perror(work), 1;
  check_network("squeezenet", squeezenet(arena_new("net")), 3, 0);
  check_network("resnet50", resnet50(arena_new("net")), 20, 3.4);  // transformed weights are 0.6 of them more
  check_growth("Relu", 25000, 10);
  check_growth("Tanh", 25000, 20);
  check_growth("MatMul", 2500, 20);
  check_growth("Softmax", 2500, 20);
  check_growth("Add", 5000, 20);
  char command[PATH_MAX + 16];
  snprintf(command, sizeof command, "rm -rf '%s'", work);
  if (system(command) != 0) perror("rm");
  printf("%u passed, %u failed\n", passed, failed);
  return failed ? 1 : 0;
}
