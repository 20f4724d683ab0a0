// Model-local functions: the table, and the search that bounds inlining before anything is inlined.
//
// The search walks the call graph once, with an explicit stack: recursion is refused, and the number of nodes each
// function stands for is known (saturated) before its first node is imported, so forty doublings cost nothing.
#include <string.h>

#include "frontend/onnx_walk.h"

#define MANY_NODES (INT64_C(1) << 40)

typedef VEC(Onnx__NodeProto *) NodeVec;

static const char *function_key(Arena *arena, const char *domain, const char *name, const char *overload) {
  if (!domain || strcmp(domain, "ai.onnx") == 0) domain = "";
  return arena_printf(arena, "%s\x1f%s\x1f%s", domain, name ? name : "", overload ? overload : "");
}

bool functions_init(OnnxImporter *im) {
  Loc loc = {.file = im->file, .node = -1};
  if (im->model->n_functions == 0) return true;
  im->functions = map_new(im->arena);
  for (size_t i = 0; i < im->model->n_functions; i++) {
    const Onnx__FunctionProto *p = im->model->functions[i];
    const char *key = function_key(im->arena, p->domain, p->name, p->overload);
    if (!p->name || !p->name[0]) return diag_error(im->diag, DIAG_REFUSED, &loc, "function #%zu has no name", i);
    if (map_get_str(im->functions, key))
      return diag_error(im->diag, DIAG_REFUSED, &loc, "function '%s' is defined twice",
                        str_escape(im->arena, p->name, 128));
    FunctionInfo *info = NEW(im->arena, FunctionInfo);
    info->proto = p;
    map_set_str(im->functions, key, info);
  }
  return true;
}

FunctionInfo *function_of(OnnxImporter *im, const Onnx__NodeProto *node) {
  if (!im->functions) return NULL;
  ArenaMark start = arena_mark(im->scratch);
  FunctionInfo *f = map_get_str(im->functions, function_key(im->scratch, node->domain, node->op_type, node->overload));
  arena_reset(im->scratch, start);
  return f;
}

static void push_nodes(Arena *arena, NodeVec *todo, size_t n, Onnx__NodeProto **nodes) {
  for (size_t i = 0; i < n; i++) vec_push(arena, todo, nodes[i]);
}

// One body being counted: the nodes still to look at, those of nested graphs included.
typedef struct Count {
  FunctionInfo *info;  // NULL for the main graph
  NodeVec todo;
  int64_t n;
} Count;
typedef VEC(Count) CountVec;

static void enter_function(OnnxImporter *im, CountVec *stack, FunctionInfo *info) {
  Count c = {.info = info};
  info->state = 1;
  push_nodes(im->arena, &c.todo, info->proto->n_node, info->proto->node);
  vec_push(im->arena, stack, c);
}

static void push_nested(OnnxImporter *im, Count *c, const Onnx__NodeProto *node) {
  for (size_t i = 0; i < node->n_attribute; i++) {
    const Onnx__AttributeProto *a = node->attribute[i];
    if (a->g) push_nodes(im->arena, &c->todo, a->g->n_node, a->g->node);
    for (size_t k = 0; k < a->n_graphs; k++) push_nodes(im->arena, &c->todo, a->graphs[k]->n_node, a->graphs[k]->node);
  }
}

static bool refuse_function(OnnxImporter *im, DiagKind kind, const FunctionInfo *info, const char *text) {
  Loc loc = {.file = im->file, .node = -1};
  return diag_error(im->diag, kind, &loc, "function '%s' (domain '%s') %s",
                    str_escape(im->arena, info->proto->name, 128),
                    str_escape(im->arena, info->proto->domain ? info->proto->domain : "", 128), text);
}

static bool over_budget(OnnxImporter *im, const FunctionInfo *info) {
  const char *text = arena_printf(im->arena, "stands for more than %lld nodes when inlined (--max-nodes)",
                                  (long long)im->opt->max_nodes);
  if (info) return refuse_function(im, DIAG_LIMIT, info, text);
  Loc loc = {.file = im->file, .node = -1};
  return diag_error(im->diag, DIAG_LIMIT, &loc, "the graph %s", text);
}

// Looks at one node of the innermost body.
static bool count_node(OnnxImporter *im, CountVec *stack) {
  Count *c = &stack->at[stack->n - 1];
  const Onnx__NodeProto *node = c->todo.at[c->todo.n - 1];
  FunctionInfo *callee = function_of(im, node);
  if (callee && callee->state == 1) return refuse_function(im, DIAG_REFUSED, callee, "calls itself");
  if (callee && callee->state == 0) {
    enter_function(im, stack, callee);
    return true;
  }
  c->todo.n--;
  c->n += 1 + (callee ? callee->n_nodes : 0);
  push_nested(im, c, node);
  return true;
}

bool functions_check(OnnxImporter *im, const Onnx__GraphProto *g) {
  CountVec stack = {0};
  Count main_graph = {0};
  push_nodes(im->arena, &main_graph.todo, g->n_node, g->node);
  vec_push(im->arena, &stack, main_graph);
  while (stack.n) {
    Count *c = &stack.at[stack.n - 1];
    if (c->n > MANY_NODES) c->n = MANY_NODES;
    if (c->todo.n) {
      if (!count_node(im, &stack)) return false;
      continue;
    }
    if (c->n > im->opt->max_nodes) return over_budget(im, c->info);
    if (c->info) {
      c->info->n_nodes = c->n;
      c->info->state = 2;
    }
    stack.n--;
  }
  return true;
}
