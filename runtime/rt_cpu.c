// Which level of an object runs: the override for tests, and the answer.
#include "runtime/qcc_rt.h"

#include <stdlib.h>

#define HEAD_TEXT 16  // where init leaves it in the head of a workspace

int qcc_init(const qcc_model *model, void *workspace) {
  const char *level = getenv("QCC_CPU");
  return level && *level ? model->init_level(workspace, level) : model->init(workspace);
}

const char *qcc_level(const void *workspace) { return (const char *)workspace + HEAD_TEXT; }
