/* Two objects of one network, `a` and `a_2`, built with different options: the same bytes out for the same bytes in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/qcc_rt.h"

extern const qcc_model a_model, a__2_model;

#define MOST 8

/* The outputs of one inference, one after another. */
static unsigned char *outputs_of(const qcc_model *m, size_t *n) {
  void *in[MOST], *out[MOST];
  void *workspace = aligned_alloc(64, (m->workspace_size(NULL) + 63) / 64 * 64);
  unsigned char *all;
  qcc_call call = {0};
  uint32_t i;
  size_t k;
  *n = 0;
  for (i = 0; i < m->n_inputs; i++) {
    float *x = in[i] = aligned_alloc(64, (m->inputs[i].bytes + 63) / 64 * 64);
    for (k = 0; k < m->inputs[i].bytes / sizeof *x; k++) x[k] = (float)((int)(k * 37 % 101) - 50) / 16;
  }
  for (i = 0; i < m->n_outputs; i++) *n += m->outputs[i].bytes;
  all = malloc(*n);
  for (i = 0, k = 0; i < m->n_outputs; k += m->outputs[i++].bytes) {
    out[i] = aligned_alloc(64, (m->outputs[i].bytes + 63) / 64 * 64);
    memset(out[i], 0xa5, m->outputs[i].bytes);
  }
  call.workspace = workspace;
  call.inputs = (const void *const *)in;
  call.outputs = out;
  if (m->init(workspace) != QCC_OK || m->run(&call) != QCC_OK) return NULL;
  for (i = 0, k = 0; i < m->n_outputs; k += m->outputs[i++].bytes) memcpy(all + k, out[i], m->outputs[i].bytes);
  return all;
}

int main(void) {
  size_t n, n_2;
  unsigned char *x = outputs_of(&a_model, &n), *x_2 = outputs_of(&a__2_model, &n_2);
  if (x && x_2 && n == n_2 && memcmp(x, x_2, n) == 0) return 0;
  puts("the objects differ");
  return 1;
}
