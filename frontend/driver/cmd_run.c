// qcc run: compile in memory, run once on given tensors, print or save the outputs.
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/session.h"
#include "frontend/onnx.h"
#include "ir/elem.h"
#include "runtime/qcc_rt.h"

static int64_t input_number(const Func *f, const char *name) {
  for (uint32_t i = 0; i < f->n_args; i++)
    if (f->args[i]->name && strcmp(f->args[i]->name, name) == 0) return i;
  return -1;
}

// "NAME=FILE" or "FILE"; position `at` when the text has no known name before '='.
static bool input_load(Session *s, const Func *f, const char *text, uint32_t at, Loaded *l, bool *given) {
  const char *eq = strchr(text, '='), *path = text;
  int64_t number = at;
  if (eq) {
    int64_t named = input_number(f, arena_printf(s->arena, "%.*s", (int)(eq - text), text));
    if (named >= 0) {
      number = named;
      path = eq + 1;
    }
  }
  if (number >= f->n_args)
    return diag_error(s->diag, DIAG_USAGE, NULL, "'%.100s': the model has only %u inputs", text, f->n_args);
  FileTensor t;
  if (!tensor_file_read(s->m, path, &t)) return false;
  const Type *want = f->args[number]->type;
  if (t.type != want)
    return diag_error(s->diag, DIAG_REFUSED, NULL, "'%.200s' holds %s, input %lld is %s", path,
                      type_text(s->arena, s->m->types, t.type), (long long)number,
                      type_text(s->arena, s->m->types, want));
  memcpy(l->inputs[number], t.data, (size_t)type_bytes(want));
  given[number] = true;
  return true;
}

static void print_tensor(Session *s, const char *name, const Type *t, const void *data) {
  int64_t n = type_count(t);
  printf("%s: %s\n", str_escape(s->arena, name ? name : "", 128), type_text(s->arena, s->m->types, t));
  for (int64_t i = 0; i < n && i < 64; i++) {
    char text[32];
    if (t->dtype == DT_F32) {
      text_of_float(text, (float)elem_get_f(data, t->dtype, i));
    } else if (dtype_is_float(t->dtype)) {
      text_of_double(text, elem_get_f(data, t->dtype, i));
    } else {
      snprintf(text, sizeof text, "%lld", (long long)elem_get_i(data, t->dtype, i));
    }
    printf("%s%s", i ? " " : "  ", text);
  }
  printf("%s\n", n > 64 ? " ..." : "");
}

static bool outputs_give(Session *s, const Func *f, const Loaded *l) {
  const char *dir = option_text(&s->opt.save, NULL);
  for (uint32_t i = 0; i < f->n_results; i++) {
    const Type *t = f->results[i]->type;
    if (!dir) {
      print_tensor(s, f->result_names[i], t, l->outputs[i]);
      continue;
    }
    const char *stem = mangle(s->arena, f->result_names[i], strlen(f->result_names[i]));
    if (!tensor_file_write(s->m, arena_printf(s->arena, "%s/%s.npy", dir, stem), f->result_names[i], t, l->outputs[i]))
      return false;
  }
  return true;
}

int cmd_run(Session *s) {
  ObjectBytes object = {0};
  Loaded l = {0};
  s->name = "qcc_run";
  for (uint32_t i = 0; i < s->opt.input.n; i++) session_shape_from(s, s->opt.input.at[i]);
  if (!session_load(s)) return diag_exit_code(s->diag);
  s->m->name = s->name;
  if (!session_compile(s, &object)) return diag_exit_code(s->diag);
  bool ok = session_jit(s, &object, s->name, &l);
  const Func *f = s->m->funcs.at[0];
  bool *given = NEW_ARRAY(s->arena, bool, f->n_args + 1);
  for (uint32_t i = 0; ok && i < s->opt.input.n; i++) ok = input_load(s, f, s->opt.input.at[i], i, &l, given);
  for (uint32_t i = 0; ok && i < f->n_args; i++)
    if (!given[i])
      ok = diag_error(s->diag, DIAG_USAGE, NULL, "input %u ('%s') is missing: add --input FILE.pb or FILE.npy", i,
                      f->args[i]->name ? str_escape(s->arena, f->args[i]->name, 64) : "");
  if (ok) {
    int status = loaded_run(&l);
    ok = status == 0 || diag_error(s->diag, DIAG_REFUSED, NULL, "run failed: %s", qcc_status_text(status));
  }
  ok = ok && outputs_give(s, f, &l);
  loaded_free(&l);
  free(object.at);
  return ok ? 0 : diag_exit_code(s->diag);
}
