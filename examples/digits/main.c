/* Shows handwritten digits as text and what the compiled network says they are.
   digits.o and digits.h come from `qcc digits.onnx -o digits.o`; nothing else is linked. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

static _Alignas(digits_WORKSPACE_ALIGN) unsigned char workspace[digits_WORKSPACE_SIZE];

static void show(const unsigned char *pixels) {
  for (int y = 0; y < 28; y += 2) {
    for (int x = 0; x < 28; x++) putchar(" .:-=+*#%@"[(pixels[y * 28 + x] + pixels[(y + 1) * 28 + x]) / 52]);
    putchar('\n');
  }
}

int main(int argc, char **argv) {
  FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
  unsigned char pixels[784];
  float image[784], scores[10];
  digits_inputs in = {.input = image};
  digits_outputs out = {.output = scores};
  if (!f) {
    fprintf(stderr, "usage: %s digits.bin\n", argv[0]);
    return 2;
  }
  if (digits_init(workspace) != 0) {
    fprintf(stderr, "this processor can't run the network\n");
    return 1;
  }
  while (fread(pixels, 1, sizeof pixels, f) == sizeof pixels) {
    int best = 0;
    for (int i = 0; i < 784; i++) image[i] = (float)pixels[i] / 255.0f;
    if (digits_run(workspace, &in, &out, NULL) != 0) return 1;
    for (int i = 1; i < 10; i++)
      if (scores[i] > scores[best]) best = i;
    show(pixels);
    printf("this is a %d\n\n", best);
  }
  fclose(f);
  return 0;
}
