/* Two networks in one program, each on its own thread, over the same digits. Each object carries only its own symbols
   and keeps its state in the workspace it is given, so nothing has to be locked. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "digits.h"
#include "kron.h"

enum { MAX_DIGITS = 64 };

static float images[MAX_DIGITS][784];
static int n_images;
static int said[2][MAX_DIGITS];

static int largest(const float *scores) {
  int best = 0;
  for (int i = 1; i < 10; i++)
    if (scores[i] > scores[best]) best = i;
  return best;
}

static void *run_digits(void *unused) {
  static _Alignas(digits_WORKSPACE_ALIGN) unsigned char workspace[digits_WORKSPACE_SIZE];
  float scores[10];
  digits_outputs out = {.output = scores};
  (void)unused;
  if (digits_init(workspace) != 0) return NULL;
  for (int i = 0; i < n_images; i++) {
    digits_inputs in = {.input = images[i]};
    if (digits_run(workspace, &in, &out, NULL) == 0) said[0][i] = largest(scores);
  }
  return NULL;
}

static void *run_kron(void *unused) {
  static _Alignas(kron_WORKSPACE_ALIGN) unsigned char workspace[kron_WORKSPACE_SIZE];
  float scores[10];
  kron_outputs out = {.output = scores};
  (void)unused;
  if (kron_init(workspace) != 0) return NULL;
  for (int i = 0; i < n_images; i++) {
    kron_inputs in = {.input = images[i]};
    if (kron_run(workspace, &in, &out, NULL) == 0) said[1][i] = largest(scores);
  }
  return NULL;
}

int main(int argc, char **argv) {
  FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
  unsigned char pixels[784];
  pthread_t threads[2];
  if (!f) {
    fprintf(stderr, "usage: %s digits.bin\n", argv[0]);
    return 2;
  }
  memset(said, -1, sizeof said);
  while (n_images < MAX_DIGITS && fread(pixels, 1, sizeof pixels, f) == sizeof pixels) {
    for (int i = 0; i < 784; i++) images[n_images][i] = (float)pixels[i] / 255.0f;
    n_images++;
  }
  fclose(f);
  if (pthread_create(&threads[0], NULL, run_digits, NULL) != 0 ||
      pthread_create(&threads[1], NULL, run_kron, NULL) != 0)
    return 1;
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  for (int i = 0; i < n_images; i++) printf("digit %d: convolutional %d, Kronecker %d\n", i, said[0][i], said[1][i]);
  return 0;
}
