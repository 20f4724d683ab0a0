// Forms: counting, checking, emitting and pricing their steps. See form.h.
#include "passes/compress/form.h"

#include <math.h>
#include <string.h>

#include "ir/elem.h"
#include "passes/compress/linalg.h"
#include "passes/graph_util.h"

const char *form_text(Arena *arena, const Form *f) {
  StrBuf b;
  strbuf_init(&b, arena);
  strbuf_printf(&b, "%s%s rank", f->scheme, f->shape ? f->shape : "");
  for (uint32_t i = 0; i < f->n_ranks; i++) strbuf_printf(&b, "%c%lld", i ? 'x' : ' ', (long long)f->ranks[i]);
  if (f->by_responses) strbuf_printf(&b, " (responses lose %.3g)", sqrt(f->response2));
  return strbuf_str(&b);
}

static FormStep *step_new(Form *f, FormStepKind kind) {
  QCC_CHECK(f->n < FORM_STEPS, "a form of more than %d steps", FORM_STEPS);
  FormStep *s = &f->step[f->n++];
  *s = (FormStep){.kind = kind, .group = 1};
  for (uint32_t i = 0; i < FORM_AXES; i++) s->kernel[i] = s->stride[i] = s->dilation[i] = 1;
  return s;
}

FormStep *form_matmul(Form *f, int64_t in, int64_t out, double *w) {
  FormStep *s = step_new(f, FORM_MATMUL);
  s->in = in;
  s->out = out;
  s->w = w;
  return s;
}

FormStep *form_conv(Form *f, int64_t in, int64_t out, int64_t group, double *w) {
  FormStep *s = step_new(f, FORM_CONV);
  s->in = in;
  s->out = out;
  s->group = group;
  s->w = w;
  return s;
}

void step_take_axis(FormStep *s, const FactorLayer *l, uint32_t axis) {
  s->kernel[axis] = l->kernel[axis];
  s->stride[axis] = l->stride[axis];
  s->dilation[axis] = l->dilation[axis];
  s->begin[axis] = l->begin[axis];
  s->end[axis] = l->end[axis];
}

// Does the permutation leave the elements where they are? Axes of extent 1 may go anywhere.
static bool moves_nothing(uint32_t n, const int64_t *view, const int64_t *perm) {
  int64_t last = -1;
  for (uint32_t i = 0; i < n; i++) {
    if (view[perm[i]] == 1) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

FormStep *form_move(Form *f, uint32_t n_view, const int64_t *view, const int64_t *perm, uint32_t n_to,
                    const int64_t *to) {
  FormStep *s = step_new(f, FORM_MOVE);
  if (moves_nothing(n_view, view, perm)) n_view = 0;
  s->n_view = n_view;
  s->n_to = n_to;
  for (uint32_t i = 0; i < n_view; i++) {
    s->view[i] = view[i];
    s->perm[i] = perm[i];
  }
  memcpy(s->to, to, n_to * sizeof *to);
  return s;
}

// ---- counts and errors

static int64_t step_parameters(const FormStep *s) {
  int64_t n = s->in * s->out;
  if (s->kind == FORM_MOVE) return 0;
  if (s->kind == FORM_MATMUL) return n;
  for (uint32_t i = 0; i < FORM_AXES; i++) n *= s->kernel[i];
  return n / s->group;
}

int64_t form_parameters(const Form *f) {
  int64_t n = 0;
  for (uint32_t i = 0; i < f->n; i++) n += step_parameters(&f->step[i]);
  return n;
}

double layer_macs(const FactorLayer *l) {
  double pixels = (double)l->batch;
  for (uint32_t i = 0; i < l->nd; i++) pixels *= (double)l->y[i];
  return pixels * (double)l->n_w;
}

// Follows the extents of the tensor through the steps: elements of x over its channels are the places a step visits.
double form_macs(const FactorLayer *l, const Form *f) {
  double macs = 0, elements = (double)l->batch * (double)l->in;
  int64_t extent[FORM_AXES] = {l->x[0], l->x[1], l->x[2]};
  for (uint32_t i = 0; i < l->nd; i++) elements *= (double)l->x[i];
  for (uint32_t i = 0; i < f->n; i++) {
    const FormStep *s = &f->step[i];
    if (s->kind == FORM_MOVE) continue;
    double places = elements / (double)s->in;
    for (uint32_t a = 0; a < l->nd && s->kind == FORM_CONV; a++) {
      int64_t span = (s->kernel[a] - 1) * s->dilation[a] + 1;
      int64_t y = (extent[a] + s->begin[a] + s->end[a] - span) / s->stride[a] + 1;
      places *= (double)y / (double)extent[a];
      extent[a] = y;
    }
    macs += places * (double)step_parameters(s);
    elements = places * (double)s->out;
  }
  return macs;
}

double form_measure(const FactorLayer *l, Form *f, Arena *arena) {
  for (uint32_t i = 0; i < f->n; i++)
    for (int64_t k = 0, n = step_parameters(&f->step[i]); k < n; k++)
      f->step[i].w[k] = elem_round(l->dtype, f->step[i].w[k]);
  ArenaMark mark = arena_mark(arena);
  double *w = NEW_ARRAY(arena, double, l->n_w);
  f->rebuild(l, f, w, arena);
  double error2 = squared_distance(l->n_w, w, l->w);
  arena_reset(arena, mark);
  return l->norm2 > 0 ? sqrt(error2 / l->norm2) : sqrt(error2);
}

Value *form_weights(const FactorLayer *l, const Form *f, Arena *arena) {
  const Type *t = op_in(l->op, 1)->type;
  double *w = NEW_ARRAY(arena, double, l->n_w), *stored = NEW_ARRAY(arena, double, l->n_w);
  bool turned = l->op->kind == OP_MATMUL && op_bool(l->op, A_MATMUL_trans_b);
  f->rebuild(l, f, w, arena);
  for (int64_t i = 0; i < l->n_w; i++) stored[turned ? i % l->out * l->in + i / l->out : i] = w[i];
  return const_of_doubles(l->op->func->module, t, stored, "approximate");
}

Form *form_copy(const Form *f, Arena *arena) {
  Form *to = NEW(arena, Form);
  *to = *f;
  to->shape = f->shape == NULL ? NULL : arena_printf(arena, "%s", f->shape);
  for (uint32_t i = 0; i < f->n; i++)
    if (f->step[i].kind != FORM_MOVE)
      to->step[i].w = arena_copy(arena, f->step[i].w, (size_t)step_parameters(&f->step[i]) * sizeof(double));
  return to;
}
