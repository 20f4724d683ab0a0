// The walk over the nodes: a stack of frames (main graph, branches, function calls), one node at a time.
//
// Every node sees its inputs as values of the graph IR, is given to the importer of its row, and its results are bound
// to the output names of its frame. A node that fails poisons its outputs: its users are skipped silently, but still
// looked up, so that one run lists every operator qcc has not.
#include <string.h>

#include "frontend/onnx_walk.h"

#define PREFIX_MAX 256  // of node names inside nested calls
#define CONST_REFUSE_FACTOR 16

Frame *frame_push(OnnxImporter *im, Frame *outer, size_t n_nodes, Onnx__NodeProto **nodes) {
  Frame *f = NEW(im->arena, Frame);
  *f = (Frame){.up = im->frame, .outer = outer, .n_nodes = (uint32_t)n_nodes, .nodes = nodes, .prefix = ""};
  f->names = map_new(im->arena);
  im->frame = f;
  return f;
}

OnnxName *frame_add_name(OnnxImporter *im, Frame *f, const Loc *loc, const char *name) {
  if (map_get_str(f->names, name)) {
    diag_error(im->diag, DIAG_REFUSED, loc, "the name '%s' is defined twice", str_escape(im->arena, name, 128));
    return NULL;
  }
  OnnxName *n = NEW(im->arena, OnnxName);
  n->name = name;
  n->node = -1;
  map_set_str(f->names, name, n);
  return n;
}

OnnxName *frame_find(const Frame *f, const char *name) {
  for (; f; f = f->outer) {
    OnnxName *n = map_get_str(f->names, name);
    if (n) return n;
  }
  return NULL;
}

Value *name_value(OnnxImporter *im, OnnxName *n) {
  if (n->poisoned) return NULL;
  if (!n->value && n->data.type) n->value = const_borrowed(im->m, n->data.type, n->data.bytes, n->name);
  return n->value;
}

static void add_initializer(OnnxImporter *im, Frame *f, const char *name, const Onnx__TensorProto *t,
                            const Onnx__SparseTensorProto *sparse) {
  Loc loc = {.file = im->file, .node = -1};
  if (!name || !name[0]) {
    diag_error(im->diag, DIAG_REFUSED, &loc, "an initializer has no name");
    return;
  }
  const char *shown = str_escape(im->arena, name, 128), *why = NULL;
  if (map_get_str(f->names, name)) {
    diag_error(im->diag, DIAG_REFUSED, &loc, "two initializers have the name '%s'", shown);
    return;
  }
  OnnxName *n = frame_add_name(im, f, &loc, name);
  const char *what = arena_printf(im->arena, "initializer '%s'", shown);
  bool ok = t ? tensor_read(&im->store, &loc, what, t, &n->data, &why)
              : tensor_read_sparse(&im->store, &loc, what, sparse, im->opt->fold_bytes, &n->data, &why);
  if (ok) return;
  n->poisoned = true;
  if (n->data.unsupported) unsupported_add(im, "initializers", why, arena_printf(im->arena, "'%s'", shown));
}

void frame_add_initializers(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_initializer; i++)
    add_initializer(im, f, g->initializer[i]->name, g->initializer[i], NULL);
  for (size_t i = 0; i < g->n_sparse_initializer; i++) {
    const Onnx__SparseTensorProto *s = g->sparse_initializer[i];
    add_initializer(im, f, s->values ? s->values->name : NULL, NULL, s);
  }
}

int64_t opset_of(const OpsetList *list, const char *domain) {
  for (uint32_t i = 0; i < list->n; i++) {
    const char *d = list->at[i]->domain ? list->at[i]->domain : "";
    if (strcmp(d, domain) == 0 || (!domain[0] && strcmp(d, "ai.onnx") == 0)) return list->at[i]->version;
  }
  return 0;
}

// ---- the context of one node

static const Loc *node_loc(OnnxImporter *im, const Frame *f, uint32_t index) {
  const Onnx__NodeProto *n = f->nodes[index];
  Loc *loc = NEW(im->m->arena, Loc);
  *loc = (Loc){.file = im->file, .node = (int32_t)index, .op_type = n->op_type ? n->op_type : ""};
  loc->node_name = n->name ? n->name : "";
  loc->output = n->n_output ? n->output[0] : "";
  if (!f->prefix[0]) return loc;
  if (loc->node_name[0]) {
    loc->node_name = arena_printf(im->m->arena, "%s/%s", f->prefix, loc->node_name);
  } else {
    loc->node_name = arena_printf(im->m->arena, "%s/#%u", f->prefix, index);
  }
  return loc;
}

static uint32_t count_given(size_t n, char *const *names) {
  while (n && !names[n - 1][0]) n--;
  return (uint32_t)n;
}

// The value of an input; NULL when absent, poisoned or unknown (then with a diagnostic).
static Value *resolve_input(OnnxImporter *im, NodeCtx *c, const char **name) {
  if (!(*name)[0]) return NULL;
  OnnxName *n = frame_find(im->frame, *name);
  if (n && n->absent) {
    *name = "";
    return NULL;
  }
  Value *v = n ? name_value(im, n) : NULL;
  if (!n) {
    node_refuse(c, "input '%s' is no graph input, initializer or result of a node",
                str_escape(im->scratch, *name, 128));
    n = frame_add_name(im, im->frame, c->loc, *name);
    n->poisoned = true;
  }
  if (!v) im->poisoned = true;
  return v;
}

static void resolve_inputs(OnnxImporter *im, NodeCtx *c, const Onnx__NodeProto *node) {
  c->n_in = count_given(node->n_input, node->input);
  Value **in = NEW_ARRAY(im->scratch, Value *, c->n_in + 1);
  const char **names = NEW_ARRAY(im->scratch, const char *, c->n_in + 1);
  for (uint32_t i = 0; i < c->n_in; i++) {
    names[i] = node->input[i];
    in[i] = resolve_input(im, c, &names[i]);
  }
  while (c->n_in && !names[c->n_in - 1][0]) c->n_in--;
  c->in = in;
  c->in_names = names;
}

// Everything about a node but its attributes.
static NodeCtx *node_ctx(OnnxImporter *im, uint32_t index) {
  const Frame *f = im->frame;
  const Onnx__NodeProto *node = f->nodes[index];
  NodeCtx *c = NEW(im->scratch, NodeCtx);
  *c = (NodeCtx){.m = im->m, .func = im->func, .scratch = im->scratch, .importer = im, .opt = im->opt};
  c->loc = node_loc(im, f, index);
  c->name = c->loc->node_name;
  c->type = c->loc->op_type;
  c->domain = node->domain && strcmp(node->domain, "ai.onnx") != 0 ? node->domain : "";
  c->opset = opset_of(&f->opsets, c->domain);
  c->n_out = count_given(node->n_output, node->output);
  bool *wanted = NEW_ARRAY(im->scratch, bool, c->n_out + 1);
  for (uint32_t i = 0; i < c->n_out; i++) wanted[i] = node->output[i][0] != 0;
  c->wanted = wanted;
  c->out_names = (const char *const *)node->output;
  c->out = NEW_ARRAY(im->scratch, Value *, c->n_out + 1);
  c->attrs = NEW(im->scratch, OnnxAttrs);
  im->node = (int32_t)index;
  im->poisoned = im->deferred = false;
  resolve_inputs(im, c, node);
  return c;
}

// ---- results

static void bind(OnnxImporter *im, Frame *f, const Loc *loc, const char *name, Value *v) {
  if (!name[0]) return;
  OnnxName *n = map_get_str(f->names, name);
  QCC_CHECK(n, "output name that the sort did not see");
  n->value = v;
  n->poisoned = !v;
  if (!v) return;
  if (v->kind == VALUE_RESULT && !v->name) v->name = name;
  if (n->declared) check_declared(im, loc, "value", n->declared, v);
}

static void bind_all(OnnxImporter *im, Frame *f, const Onnx__NodeProto *node, const Loc *loc, Value *const *values) {
  uint32_t n = count_given(node->n_output, node->output);
  for (uint32_t i = 0; i < n; i++) bind(im, f, loc, node->output[i], values ? values[i] : NULL);
}

// Constants that exist only as a generator have no bytes to bound them.
static bool check_result(NodeCtx *c, uint32_t i) {
  Value *v = c->out[i];
  QCC_CHECK(v || !c->wanted[i], "importer of %s gave no result %u", c->type, i);
  if (!v || v->kind != VALUE_CONST || v->constant->gen == CONST_BYTES) return true;
  int64_t bytes = type_bytes(v->type);
  if (bytes / CONST_REFUSE_FACTOR <= c->opt->fold_bytes) return true;
  return diag_error(c->m->diag, DIAG_LIMIT, c->loc,
                    "computes a constant of %lld bytes; constants are folded up to %lld bytes (--fold-limit)",
                    (long long)bytes, (long long)c->opt->fold_bytes);
}

static bool import_row(OnnxImporter *im, NodeCtx *c) {
  const OnnxRow *row = onnx_row(c);
  if (!row || (im->poisoned && row->import != import_if)) return false;
  uint32_t said = diag_errors(im->diag) + im->n_unsupported;
  if (!row->import(c) || !attrs_ok(c)) {
    bool silent = said == diag_errors(im->diag) + im->n_unsupported && !im->poisoned;
    return silent ? node_refuse(c, "its attributes or inputs do not make sense") : false;
  }
  const char *unread = onnx_attrs_unread(c->attrs);
  if (unread)
    return node_unsupported(c, "attribute '%s' is unknown at opset %lld", str_escape(c->scratch, unread, 64),
                            (long long)c->opset);
  for (uint32_t i = 0; !im->deferred && i < c->n_out; i++)
    if (!check_result(c, i)) return false;
  return true;
}

// ---- function calls

const char *onnx_call_prefix(OnnxImporter *im, const NodeCtx *c) {
  if (strlen(im->frame->prefix) > PREFIX_MAX) return im->frame->prefix;
  if (c->name[0]) return arena_printf(im->arena, "%.*s", PREFIX_MAX, c->name);
  return arena_printf(im->arena, "#%d", c->loc->node);
}

static const AttrScope *call_scope(OnnxImporter *im, const NodeCtx *c, const Onnx__FunctionProto *p) {
  AttrScope *scope = NEW(im->arena, AttrScope);
  OnnxAttrs *attrs = arena_copy(im->arena, c->attrs, sizeof *c->attrs);
  attrs->at = arena_copy(im->arena, c->attrs->at, c->attrs->n * sizeof *c->attrs->at);
  *scope = (AttrScope){attrs, p};
  return scope;
}

static bool check_call(NodeCtx *c, const Onnx__FunctionProto *p) {
  if (c->n_in > p->n_input)
    return node_refuse(c, "%u inputs for function '%s', which takes %zu", c->n_in, str_escape(c->scratch, p->name, 64),
                       p->n_input);
  if (c->n_out > p->n_output)
    return node_refuse(c, "%u outputs for function '%s', which gives %zu", c->n_out,
                       str_escape(c->scratch, p->name, 64), p->n_output);
  return true;
}

static bool import_call(OnnxImporter *im, NodeCtx *c, const Onnx__FunctionProto *p) {
  if (!check_call(c, p)) return false;
  const Onnx__NodeProto *call = im->frame->nodes[im->node];
  OpsetList opsets = p->n_opset_import ? (OpsetList){(uint32_t)p->n_opset_import, p->opset_import} : im->frame->opsets;
  const char *prefix = onnx_call_prefix(im, c);
  Frame *f = frame_push(im, NULL, p->n_node, p->node);
  f->prefix = prefix;
  f->opsets = opsets;
  f->scope = call_scope(im, c, p);
  f->function = p;
  f->call = call;
  f->call_index = im->node;
  f->n_results = c->n_out;
  f->results = (const char **)p->output;
  for (size_t i = 0; i < p->n_input; i++) {
    OnnxName *n = frame_add_name(im, f, c->loc, p->input[i]);
    if (!n) continue;
    n->absent = i >= c->n_in || !c->in_names[i][0];
    n->value = n->absent ? NULL : c->in[i];
    n->poisoned = !n->absent && !n->value;
  }
  im->deferred = true;
  if (frame_sort(im, f)) return true;
  im->frame = f->up;
  im->deferred = false;
  return false;
}

// ---- If

// The result names of a graph in a branch; NULL after a diagnostic.
static const char **branch_results(NodeCtx *c, const Onnx__GraphProto *g) {
  if (g->n_output < c->n_out || g->n_input) {
    node_refuse(c, "branch has %zu inputs and %zu outputs, expected 0 and %u", g->n_input, g->n_output, c->n_out);
    return NULL;
  }
  const char **names = NEW_ARRAY(c->importer->arena, const char *, g->n_output);
  for (size_t i = 0; i < g->n_output; i++) names[i] = g->output[i]->name ? g->output[i]->name : "";
  return names;
}

// Pushes the frame of one branch of the node `c`, which belongs to the frame `home`.
static bool push_branch(OnnxImporter *im, NodeCtx *c, Frame *home, const Onnx__GraphProto *g, BranchJoin *join) {
  const char **results = branch_results(c, g), *prefix = onnx_call_prefix(im, c);
  if (!results) return false;
  Frame *f = frame_push(im, home, g->n_node, g->node);
  f->prefix = prefix;
  f->opsets = home->opsets;
  f->scope = home->scope;
  f->call = home->nodes[im->node];
  f->call_index = im->node;
  f->n_results = c->n_out;
  f->results = results;
  f->join = join;
  frame_add_initializers(im, f, g);
  im->deferred = true;
  if (frame_sort(im, f)) return true;
  im->frame = f->up;
  im->deferred = false;
  return false;
}

bool import_if(NodeCtx *c) {
  OnnxImporter *im = c->importer;
  const Onnx__GraphProto *then_graph = attr_graph(c, "then_branch"), *else_graph = attr_graph(c, "else_branch");
  if (!then_graph || !else_graph) return attrs_ok(c) && node_refuse(c, "needs then_branch and else_branch");
  Value *condition = node_in(c, 0);
  if (condition && (condition->type->dtype != DT_BOOL || type_count(condition->type) != 1))
    return node_refuse(c, "condition has type %s, expected bool[]",
                       type_text(c->scratch, c->m->types, condition->type));
  if (condition && value_is_const(condition))
    return push_branch(im, c, im->frame, const_i(c->m, condition->constant, 0) ? then_graph : else_graph, NULL);
  BranchJoin *join = NEW(im->arena, BranchJoin);
  *join = (BranchJoin){.condition = condition, .otherwise = else_graph};
  return push_branch(im, c, im->frame, then_graph, join);
}

// result i = select(condition, then_i, else_i)
static bool join_branches(NodeCtx *c, const BranchJoin *join, Value *const *otherwise) {
  Value *condition = join->condition ? node_reshape(c, join->condition, 0, NULL) : NULL;
  for (uint32_t i = 0; i < c->n_out; i++) {
    Value *a = join->first[i], *b = otherwise[i];
    if (!condition || !a || !b) return false;
    if (a->type != b->type)
      return node_unsupported(c,
                              "branches of different types %s and %s under a condition that is not constant (make it "
                              "one with --bind)",
                              type_text(c->scratch, c->m->types, a->type), type_text(c->scratch, c->m->types, b->type));
    c->out[i] = a == b ? a : node_emit3(c, OP_SELECT, condition, a, b);
    if (!c->out[i]) return false;
  }
  return true;
}

// ---- the walk

static Value **frame_results(OnnxImporter *im, Frame *f) {
  Value **values = NEW_ARRAY(im->arena, Value *, f->n_results + 1);
  Loc loc = {.file = im->file, .node = -1};
  for (uint32_t i = 0; i < f->n_results; i++) {
    OnnxName *n = frame_find(f, f->results[i]);
    if (n) {
      values[i] = name_value(im, n);
    } else {
      diag_error(im->diag, DIAG_REFUSED, &loc, "nothing produces '%s', a result of %s '%s'",
                 str_escape(im->arena, f->results[i], 128), f->function ? "function" : "a branch of node",
                 str_escape(im->arena, f->function ? f->function->name : f->prefix, 128));
    }
  }
  return values;
}

// A frame is done: its results are those of the node it stands for.
static void finish_frame(OnnxImporter *im) {
  Frame *f = im->frame, *home = f->up;
  Value **values = frame_results(im, f);
  im->frame = home;
  BranchJoin *join = f->join;
  if (!join && !f->loop) {
    bind_all(im, home, f->call, NULL, values);
    return;
  }
  ArenaMark start = arena_mark(im->scratch);
  NodeCtx *c = node_ctx(im, (uint32_t)f->call_index);
  bool pushed = false, ok = false;
  if (f->loop) {
    ok = loop_next(im, c, f->loop, values, &pushed);
  } else if (join->otherwise) {
    const Onnx__GraphProto *g = join->otherwise;
    join->otherwise = NULL;
    join->first = values;
    pushed = push_branch(im, c, home, g, join);
  } else {
    ok = join_branches(c, join, values);
  }
  if (!pushed) bind_all(im, home, f->call, c->loc, ok ? c->out : NULL);
  arena_reset(im->scratch, start);
}

static void import_node(OnnxImporter *im, uint32_t index) {
  ArenaMark start = arena_mark(im->scratch);
  Frame *f = im->frame;
  const Onnx__NodeProto *node = f->nodes[index];
  NodeCtx *c = node_ctx(im, index);
  FunctionInfo *callee = function_of(im, node);
  bool ok = onnx_attrs_init(c, node, f->scope) && (callee ? import_call(im, c, callee->proto) : import_row(im, c));
  if (!ok || !im->deferred) bind_all(im, f, node, c->loc, ok ? c->out : NULL);
  arena_reset(im->scratch, start);
}

bool onnx_walk(OnnxImporter *im) {
  for (;;) {
    Frame *f = im->frame;
    if (f->next < f->n_order) {
      if (++im->n_nodes > im->opt->max_nodes) {
        Loc loc = {.file = im->file, .node = -1};
        return diag_error(im->diag, DIAG_LIMIT, &loc, "more than %lld nodes (--max-nodes)",
                          (long long)im->opt->max_nodes);
      }
      import_node(im, f->order[f->next++]);
    } else if (f->up) {
      finish_frame(im);
    } else {
      return true;
    }
  }
}
