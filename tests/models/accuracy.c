// Accuracy of trained networks on their whole test packs.
//
//   accuracy LIST.tsv ROOT [--only SUBSTRING] [-- OPTION...]
//
// LIST.tsv: network, pack (mnist-test, cifar10-test-2000), normalisation (unit, raw, imagenet), images predicted right
// as the network's README says (or as its reference run gave), tolerated difference, --dim of a symbolic batch. One row
// is one test. With options of qcc behind `--` the networks are compiled with these, and nothing is expected: a line
// says how many images are right, the bytes of the object and the least time of an inference.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/elem.h"
#include "runtime/qcc_rt.h"
#include "tests/support/case.h"

typedef struct Row {
  char name[128], pack[64], norm[16], right[16], tolerance[16], dim[32];
} Row;

static bool row_read(const char *line, Row *r) {
  *r = (Row){0};
  tsv_field(line, 5, r->dim, sizeof r->dim);
  return line[0] != '#' && tsv_field(line, 0, r->name, sizeof r->name) && tsv_field(line, 1, r->pack, sizeof r->pack) &&
         tsv_field(line, 2, r->norm, sizeof r->norm) && tsv_field(line, 3, r->right, sizeof r->right) &&
         tsv_field(line, 4, r->tolerance, sizeof r->tolerance);
}

// Pixels of image i as the network takes them; packs are [N,28,28] or NHWC [N,32,32,3], networks N C H W.
static void image_fill(float *to, const uint8_t *from, int64_t channels, int64_t pixels, const char *norm) {
  static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
  for (int64_t p = 0; p < pixels; p++)
    for (int64_t c = 0; c < channels; c++) {
      float v = (float)from[p * channels + c];
      if (strcmp(norm, "unit") == 0) v = v / 255.0f;
      if (strcmp(norm, "imagenet") == 0) v = (v / 255.0f - mean[c]) / std[c];
      to[c * pixels + p] = v;
    }
}

static int64_t count_right(TestModel *t, const FileTensor *images, const FileTensor *labels, const char *norm,
                           double *least) {
  const Type *type = images->type;
  int64_t n = type->dims[0], channels = type->rank == 4 ? type->dims[3] : 1, pixels = type->dims[1] * type->dims[2];
  const Func *f = t->session.m->funcs.at[0];
  int64_t classes = type_count(f->results[0]->type), right = 0;
  if (f->n_args != 1 || type_count(f->args[0]->type) != channels * pixels) return -1;
  qcc_call call = {
      .workspace = t->loaded.workspace, .inputs = (const void *const *)t->loaded.inputs, .outputs = t->loaded.outputs};
  for (int64_t i = 0; i < n; i++) {
    image_fill(t->loaded.inputs[0], (const uint8_t *)images->data + i * channels * pixels, channels, pixels, norm);
    double start = session_now();
    if (t->loaded.model->run(&call) != QCC_OK) return -1;
    *least = fmin(*least, session_now() - start);
    const float *scores = t->loaded.outputs[0];
    int64_t best = 0;
    for (int64_t k = 1; k < classes; k++)
      if (scores[k] > scores[best]) best = k;
    right += best == elem_get_i(labels->data, labels->type->dtype, i);
  }
  return right;
}

static bool row_run(const Row *r, const char *root, char **options, int n_options) {
  TestModel t;
  Arena *arena = arena_new("accuracy");
  const char *dims[1] = {r->dim};
  double least = INFINITY;
  bool ok = test_model_open_with(&t, arena_printf(arena, "%s/%s/model.onnx", root, r->name), dims, r->dim[0] ? 1 : 0,
                                 options, n_options);
  FileTensor images, labels;
  int64_t right = -1;
  ok = ok && tensor_file_read(t.session.m, arena_printf(arena, "%s/%s/images.npy", root, r->pack), &images) &&
       tensor_file_read(t.session.m, arena_printf(arena, "%s/%s/labels.npy", root, r->pack), &labels);
  if (ok) right = count_right(&t, &images, &labels, r->norm, &least);
  long long want = strtoll(r->right, NULL, 10), tolerance = strtoll(r->tolerance, NULL, 10);
  ok = right >= 0 && (n_options > 0 || llabs(right - want) <= tolerance);
  printf("%s %-32s %lld right, ", ok ? "ok  " : "FAIL", r->name, (long long)right);
  if (n_options > 0) {
    printf("%zu bytes, %.2f us\n", t.object.n, 1e6 * least);
  } else {
    printf("expected %lld (+-%lld)\n", want, tolerance);
  }
  fflush(stdout);
  test_model_close(&t);
  arena_free(arena);
  return ok;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: accuracy LIST.tsv ROOT [--only SUBSTRING] [-- OPTION...]\n");
    return 2;
  }
  const char *only = argc > 4 && strcmp(argv[3], "--only") == 0 ? argv[4] : "";
  int rest = 3;
  while (rest < argc && strcmp(argv[rest], "--") != 0) rest++;
  char **options = argv + (rest < argc ? rest + 1 : argc);
  int n_options = rest < argc ? argc - rest - 1 : 0;
  FILE *f = fopen(argv[1], "re");
  char line[512];
  uint32_t passed = 0, failed = 0;
  while (f && fgets(line, sizeof line, f)) {
    Row r;
    if (!row_read(line, &r) || !strstr(r.name, only)) continue;
    if (row_run(&r, argv[2], options, n_options)) {
      passed++;
    } else {
      failed++;
    }
  }
  if (f) fclose(f);
  if (passed + failed == 0) failed = 1;  // nothing ran
  printf("%u passed, %u failed\n", passed, failed);
  return failed ? 1 : 0;
}
