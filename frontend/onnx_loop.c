// Scan and Loop with a trip count known at import: the body is imported once per step, its results are the state of the
// next one. Nothing of the loop is left in the graph; the node budget (--max-nodes) bounds it.
//
// A loop is a chain of frames, pushed one at a time: loop_next is called when the frame of a step has ended. The
// initializers of the body live in a frame of their own around all steps, so each exists once.
#include "frontend/onnx_walk.h"

struct LoopState {
  const Onnx__GraphProto *body;
  Frame *env;          // initializers of the body
  const char *prefix;  // of node names
  bool scan;           // else Loop
  int64_t trip, step;
  uint32_t n_state, n_slices, n_outs;
  bool look;                              // Loop: the condition of the body counts
  Value **state;                          // n_state
  Value **sliced;                         // Scan: n_slices inputs
  const int64_t *in_axes, *in_backwards;  // NULL: all 0
  const int64_t *out_axes, *out_backwards;
  VEC(Value *) outs;  // n_outs of each step
  const char **results;
};

static int64_t listed(const int64_t *list, uint32_t i) { return list ? list[i] : 0; }

// ---- values along an axis

static Value *taken(NodeCtx *c, Value *x, uint32_t axis, int64_t at) {
  int64_t starts[MAX_RANK] = {0}, counts[MAX_RANK], dims[MAX_RANK];
  uint32_t rank = 0;
  for (uint32_t i = 0; i < x->type->rank; i++) {
    counts[i] = i == axis ? 1 : x->type->dims[i];
    if (i != axis) dims[rank++] = counts[i];
  }
  starts[axis] = at;
  return node_reshape(c, node_slice(c, x, starts, NULL, counts), rank, dims);
}

// Output k of all steps, joined along a new axis.
static Value *stacked(NodeCtx *c, const LoopState *s, uint32_t k) {
  uint32_t n = (uint32_t)s->step, axis;
  Value **part = NEW_ARRAY(c->scratch, Value *, n), *first = s->outs.at[k];
  if (!first || !node_axis(c, listed(s->out_axes, k), first->type->rank + 1, &axis)) return NULL;
  if (first->type->rank == MAX_RANK) {
    node_refuse(c, "a scan output of rank %u", first->type->rank + 1);
    return NULL;
  }
  for (uint32_t i = 0; i < n; i++) {
    Value *v = s->outs.at[(size_t)i * s->n_outs + k];
    int64_t dims[MAX_RANK];
    if (!v || v->type->rank != first->type->rank) return NULL;
    for (uint32_t d = 0; d < v->type->rank; d++) dims[d < axis ? d : d + 1] = v->type->dims[d];
    dims[axis] = 1;
    part[listed(s->out_backwards, k) ? n - 1 - i : i] = node_reshape(c, v, v->type->rank + 1, dims);
  }
  return node_concat(c, n, part, axis);
}

static bool loop_results(NodeCtx *c, const LoopState *s) {
  for (uint32_t i = 0; i < s->n_state && i < c->n_out; i++) c->out[i] = s->state[i];
  for (uint32_t k = 0; k < s->n_outs && s->n_state + k < c->n_out; k++) {
    if (!c->wanted[s->n_state + k]) continue;
    if (s->step == 0) return node_unsupported(c, "outputs of a loop without steps");
    if (!(c->out[s->n_state + k] = stacked(c, s, k))) return false;
  }
  return true;
}

// ---- steps

static bool bind_input(OnnxImporter *im, NodeCtx *c, Frame *f, const LoopState *s, uint32_t i, Value *v) {
  OnnxName *n = frame_add_name(im, f, c->loc, s->body->input[i]->name ? s->body->input[i]->name : "");
  if (!n) return false;
  n->value = v;
  n->poisoned = !v;
  return true;
}

static bool bind_inputs(OnnxImporter *im, NodeCtx *c, Frame *f, const LoopState *s) {
  uint32_t first = 0;
  if (!s->scan) {
    bool ok = bind_input(im, c, f, s, 0, const_bytes(c->m, type_scalar(c->m->types, DT_I64), &s->step, NULL)) &&
              bind_input(im, c, f, s, 1, node_scalar(c, DT_BOOL, 1));
    if (!ok) return false;
    first = 2;
  }
  for (uint32_t i = 0; i < s->n_state; i++)
    if (!bind_input(im, c, f, s, first + i, s->state[i])) return false;
  for (uint32_t i = 0; i < s->n_slices; i++) {
    uint32_t axis;
    Value *x = s->sliced[i];
    if (!node_axis(c, listed(s->in_axes, i), x->type->rank, &axis)) return false;
    int64_t at = listed(s->in_backwards, i) ? s->trip - 1 - s->step : s->step;
    Value *v = taken(c, x, axis, at);
    if (!v || !bind_input(im, c, f, s, s->n_state + i, v)) return false;
  }
  return true;
}

static bool push_step(OnnxImporter *im, NodeCtx *c, Frame *home, LoopState *s) {
  if (++im->n_nodes > im->opt->max_nodes)
    return diag_error(im->diag, DIAG_LIMIT, c->loc, "more than %lld nodes in unrolled loops (--max-nodes)",
                      (long long)im->opt->max_nodes);
  Frame *f = frame_push(im, s->env, s->body->n_node, s->body->node);
  f->up = home;
  f->prefix = s->prefix;
  f->opsets = home->opsets;
  f->scope = home->scope;
  f->call = home->nodes[im->node];
  f->call_index = im->node;
  f->n_results = (uint32_t)s->body->n_output;
  f->results = s->results;
  f->loop = s;
  im->deferred = true;
  if (bind_inputs(im, c, f, s) && frame_sort(im, f)) return true;
  im->frame = home;
  im->deferred = false;
  return false;
}

// The condition of the body after a step; false after a diagnostic.
static bool goes_on(NodeCtx *c, const LoopState *s, const Value *condition, bool *more) {
  *more = s->step < s->trip;
  if (s->scan || !s->look || !*more) return true;
  if (!condition) return false;
  if (!value_is_const(condition) || type_count(condition->type) != 1)
    return node_unsupported(c, "a condition that is not known at compile time");
  *more &= const_i(c->m, condition->constant, 0) != 0;
  return true;
}

bool loop_next(OnnxImporter *im, NodeCtx *c, LoopState *s, Value *const *values, bool *pushed) {
  uint32_t first = s->scan ? 0 : 1;
  bool more;
  for (uint32_t i = first; i < first + s->n_state + s->n_outs; i++)
    if (!values[i]) return false;
  for (uint32_t i = 0; i < s->n_state; i++) s->state[i] = values[first + i];
  for (uint32_t i = 0; i < s->n_outs; i++) vec_push(im->arena, &s->outs, values[first + s->n_state + i]);
  s->step++;
  if (!goes_on(c, s, s->scan ? NULL : values[0], &more)) return false;
  if (more) return *pushed = push_step(im, c, im->frame, s);
  return loop_results(c, s);
}

// ---- starting

static LoopState *loop_new(NodeCtx *c, const Onnx__GraphProto *g, uint32_t n_state) {
  OnnxImporter *im = c->importer;
  LoopState *s = NEW(im->arena, LoopState);
  *s = (LoopState){.body = g, .n_state = n_state, .prefix = onnx_call_prefix(im, c)};
  s->state = NEW_ARRAY(im->arena, Value *, n_state + 1);
  s->results = NEW_ARRAY(im->arena, const char *, g->n_output + 1);
  for (size_t i = 0; i < g->n_output; i++) s->results[i] = g->output[i]->name ? g->output[i]->name : "";
  Frame *home = im->frame;
  s->env = frame_push(im, home, 0, NULL);
  s->env->opsets = home->opsets;
  s->env->scope = home->scope;
  s->env->prefix = s->prefix;
  frame_add_initializers(im, s->env, g);
  im->frame = home;
  return s;
}

static bool loop_start(NodeCtx *c, LoopState *s) {
  if (s->trip > 0) return push_step(c->importer, c, c->importer->frame, s);
  return loop_results(c, s);
}

static const int64_t *list_of(NodeCtx *c, const char *name, uint32_t want, bool *ok) {
  uint32_t n;
  const int64_t *v = attr_ints(c, name, &n);
  if (v && n != want) *ok = node_refuse(c, "attribute %s has %u numbers, expected %u", name, n, want);
  return v;
}

// All scanned inputs have the same extent.
static bool scan_trip(NodeCtx *c, LoopState *s) {
  s->trip = -1;
  for (uint32_t i = 0; i < s->n_slices; i++) {
    uint32_t axis;
    const Type *t = s->sliced[i]->type;
    if (!node_axis(c, listed(s->in_axes, i), t->rank, &axis)) return false;
    if (t->dims[axis] < 0) return node_need_static(c, s->sliced[i], "the number of steps");
    if (s->trip >= 0 && s->trip != t->dims[axis])
      return node_refuse(c, "scan inputs of %lld and %lld steps", (long long)s->trip, (long long)t->dims[axis]);
    s->trip = t->dims[axis];
  }
  return true;
}

bool import_scan(NodeCtx *c) {
  const Onnx__GraphProto *g = attr_graph(c, "body");
  int64_t n = attr_int(c, "num_scan_inputs", 0);
  bool ok = true;
  if (c->opset < 9) return node_unsupported(c, "the batched form of opset 8");
  if (!g) return attrs_ok(c) && node_refuse(c, "needs a body");
  if (n < 1 || n > c->n_in) return node_refuse(c, "num_scan_inputs is %lld of %u inputs", (long long)n, c->n_in);
  uint32_t n_state = c->n_in - (uint32_t)n;
  if (g->n_input != c->n_in || g->n_output < n_state || c->n_out > g->n_output)
    return node_refuse(c, "the body has %zu inputs and %zu outputs, the node %u and %u", g->n_input, g->n_output,
                       c->n_in, c->n_out);
  for (uint32_t i = 0; i < c->n_in; i++)
    if (!c->in[i]) return node_refuse(c, "input %u is missing", i);
  LoopState *s = loop_new(c, g, n_state);
  s->scan = true;
  s->n_slices = (uint32_t)n;
  s->n_outs = (uint32_t)g->n_output - n_state;
  s->in_axes = list_of(c, "scan_input_axes", s->n_slices, &ok);
  s->in_backwards = list_of(c, "scan_input_directions", s->n_slices, &ok);
  s->out_axes = list_of(c, "scan_output_axes", s->n_outs, &ok);
  s->out_backwards = list_of(c, "scan_output_directions", s->n_outs, &ok);
  s->sliced = NEW_ARRAY(c->importer->arena, Value *, s->n_slices);
  for (uint32_t i = 0; i < n_state; i++) s->state[i] = c->in[i];
  for (uint32_t i = 0; i < s->n_slices; i++) s->sliced[i] = c->in[n_state + i];
  return ok && scan_trip(c, s) && loop_start(c, s);
}

// trip count, condition, states
bool import_loop(NodeCtx *c) {
  const Onnx__GraphProto *g = attr_graph(c, "body");
  if (!g) return attrs_ok(c) && node_refuse(c, "needs a body");
  uint32_t n_state = c->n_in > 2 ? c->n_in - 2 : 0;
  if (g->n_input != n_state + 2 || g->n_output < n_state + 1 || c->n_out + 1 > g->n_output)
    return node_refuse(c, "the body has %zu inputs and %zu outputs, the node %u and %u", g->n_input, g->n_output,
                       c->n_in, c->n_out);
  int64_t trip = INT64_MAX, go = 1;
  if (node_in(c, 0) && !node_const_int(c, 0, &trip)) return false;
  if (node_in(c, 1) && !node_const_int(c, 1, &go)) return false;
  LoopState *s = loop_new(c, g, n_state);
  s->trip = go ? trip : 0;
  s->look = node_in(c, 1) != NULL;
  s->n_outs = (uint32_t)g->n_output - n_state - 1;
  for (uint32_t i = 0; i < n_state; i++)
    if (!(s->state[i] = c->in[2 + i])) return node_refuse(c, "input %u is missing", 2 + i);
  return loop_start(c, s);
}
