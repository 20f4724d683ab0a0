/* A model whose weights are a file, beside the same model with its weights inside: what init_weights refuses, that
 * results are the same, and that another network's file of the same format takes the place of the first.
 *
 *   extern FILE OTHER_FILE FOREIGN_FILE PACKED_FILE     prints one line per failure and "N passed, N failed" */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a.h"
#include "ax.h"
#include "runtime/qcc_rt.h"

static int passed, failed;

static void check(int ok, const char *what) {
  if (ok) {
    passed++;
  } else {
    failed++;
    printf("FAIL %s\n", what);
  }
}

/* Aligned memory with the bytes of a file. */
static unsigned char *load(const char *path, size_t *n) {
  FILE *f = fopen(path, "rb");
  if (f == NULL || fseek(f, 0, SEEK_END) != 0) abort();
  *n = (size_t)ftell(f);
  rewind(f);
  unsigned char *at = aligned_alloc(64, (*n + 127) / 64 * 64);
  if (at == NULL || fread(at, 1, *n, f) != *n) abort();
  fclose(f);
  return at;
}

static float image[3 * 33 * 31], shift[7];

typedef struct Results {
  float map[7 * 16 * 15], scores[10];
} Results;

static void *workspace_new(uint64_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

static int run(const qcc_model *m, void *ws, Results *r) {
  const void *in[2] = {image, shift};
  void *out[2] = {r->map, r->scores};
  qcc_call call = {ws, in, out, NULL, NULL};
  memset(r, 0, sizeof *r);
  return m->run(&call);
}

/* The status of init_weights when byte `at` of the file is another one. */
static int with_byte(void *ws, unsigned char *file, size_t n, size_t at) {
  file[at] ^= 16;
  int status = ax_init_weights(ws, file, n);
  file[at] ^= 16;
  return status;
}

static void check_refusals(void *ws, unsigned char *file, size_t n) {
  Results r;
  check(ax_init(ws) == QCC_OK && run(&ax_model, ws, &r) == QCC_E_WEIGHTS, "no weights");
  check(ax_init_weights(NULL, file, n) == QCC_E_ARG, "no workspace");
  check(ax_init_weights(ws, NULL, n) == QCC_E_ARG, "no file");
  check(ax_init_weights(ws, file + 4, n - 4) == QCC_E_ALIGN, "alignment");
  check(with_byte(ws, file, n, 0) == QCC_E_WEIGHTS_DAMAGED, "magic");
  check(with_byte(ws, file, n, 8) == QCC_E_WEIGHTS_VERSION, "version");
  check(with_byte(ws, file, n, 17) == QCC_E_WEIGHTS_FORMAT, "format");
  check(with_byte(ws, file, n, 25) == QCC_E_WEIGHTS_DAMAGED, "size");
  check(with_byte(ws, file, n, 33) == QCC_E_WEIGHTS_DAMAGED, "sum");
  for (size_t at = 64; at < n; at += 61) check(with_byte(ws, file, n, at) == QCC_E_WEIGHTS_DAMAGED, "a byte");
  check(with_byte(ws, file, n, n - 1) == QCC_E_WEIGHTS_DAMAGED, "the last byte");
  for (size_t less = 0; less < n; less += 127)
    check(ax_init_weights(ws, file, less) == QCC_E_WEIGHTS_DAMAGED, "not whole");
  check(run(&ax_model, ws, &r) == QCC_E_WEIGHTS, "no weights after a refusal");
}

/* The packed file gives the other one back; what is cut off or changed never writes outside of it. */
static void check_packed(const char *path, const unsigned char *file, size_t n) {
  size_t n_packed;
  unsigned char *packed = load(path, &n_packed), *to = aligned_alloc(64, n + 64);
  check(qcc_weights_unpack(packed, n_packed, to, n) == QCC_OK && memcmp(to, file, n) == 0, "unpacked");
  check(qcc_weights_unpack(packed, n_packed, to, n - 1) == QCC_E_MEMORY, "no room");
  check(qcc_weights_unpack(NULL, n_packed, to, n) == QCC_E_ARG, "nothing packed");
  for (size_t less = 0; less < n_packed; less += 31)
    check(qcc_weights_unpack(packed, less, to, n) == QCC_E_WEIGHTS_DAMAGED, "packed and not whole");
  packed[8]++;
  check(qcc_weights_unpack(packed, n_packed, to, n) == QCC_E_WEIGHTS_VERSION, "version of the packed file");
  packed[8]--;
  memset(to, 0x5a, n + 64);
  for (size_t at = 16; at < n_packed; at++) {
    packed[at] ^= 0x41;
    (void)qcc_weights_unpack(packed, n_packed, to, n);
    packed[at] ^= 0x41;
  }
  check(to[n] == 0x5a && to[n + 63] == 0x5a, "nothing behind the file");
  free(packed);
  free(to);
}

int main(int argc, char **argv) {
  size_t n, n_other, n_foreign;
  if (argc != 5) return 2;
  unsigned char *file = load(argv[1], &n), *other = load(argv[2], &n_other), *foreign = load(argv[3], &n_foreign);
  void *ws = workspace_new(ax_WORKSPACE_SIZE), *embedded = workspace_new(a_WORKSPACE_SIZE);
  Results want, r;
  for (size_t i = 0; i < sizeof image / sizeof *image; i++) image[i] = (float)(i % 17) / 8 - 1;
  for (size_t i = 0; i < 7; i++) shift[i] = (float)i;
  check(n == ax_WEIGHTS_SIZE && n_other == n, "sizes");
  check_refusals(ws, file, n);
  check(ax_init_weights(ws, foreign, n_foreign) != QCC_OK, "another network's file");
  check(a_init(embedded) == QCC_OK && run(&a_model, embedded, &want) == QCC_OK, "the model with its weights");
  check(ax_init_weights(ws, file, n) == QCC_OK && run(&ax_model, ws, &r) == QCC_OK, "the model with a file");
  check(memcmp(&want, &r, sizeof r) == 0, "the same results");
  check(ax_init_weights(ws, other, n) == QCC_OK && run(&ax_model, ws, &r) == QCC_OK, "weights of another training");
  check(memcmp(&want, &r, sizeof r) != 0, "other results");
  check_packed(argv[4], file, n);
  printf("%d passed, %d failed\n", passed, failed);
  free(ws);
  free(embedded);
  free(file);
  free(other);
  free(foreign);
  return failed != 0;
}
