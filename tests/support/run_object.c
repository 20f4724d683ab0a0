// See run_object.h.
#include "tests/support/run_object.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/qcc_rt.h"

bool run_object(Module *m, const Target *t, const struct TargetRow *emulated, const void *const *in, void *const *out) {
  ObjectBytes object;
  EmitOptions opt = {.name = "net", .info_json = "{}", .pic = true, .emulated = emulated};
  m->name = "net";
  if (!backend_emit(m, t, &opt, EMIT_OBJECT, true, &object)) return false;
  Jit *jit = jit_load(&object, "net", m->diag);
  if (jit == NULL) return false;
  const qcc_model *model = jit_model(jit);
  size_t bytes = (size_t)model->workspace_size(NULL), align = (size_t)model->workspace_align;
  void *workspace = aligned_alloc(align, (bytes + align) / align * align);
  memset(workspace, 0xff, bytes);
  qcc_call call = {.workspace = workspace, .inputs = in, .outputs = out};
  bool ok = model->init(workspace) == 0 && model->run(&call) == 0;
  free(workspace);
  jit_free(jit);
  free(object.at);
  return ok;
}
