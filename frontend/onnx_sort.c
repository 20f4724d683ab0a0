// Topological order of the nodes of a frame, by depth-first search with an explicit stack: a sorted graph keeps its
// order, an unsorted one is sorted, a cycle is refused with the names on it. Nodes that reach no result are left out.
// A node depends on its inputs and on every name the graphs inside its attributes use.
#include <string.h>

#include "frontend/onnx_walk.h"
#include "ir/base/bitset.h"

typedef struct Deps {
  uint32_t n;
  char **names;
} Deps;

typedef struct Visit {
  uint32_t node, next;
} Visit;

typedef struct Sorter {
  OnnxImporter *im;
  Frame *f;
  Deps *deps;
  uint8_t *state;  // 0 new, 1 on the stack, 2 done
  VEC(Visit) stack;
} Sorter;

static const char *node_label(OnnxImporter *im, const Frame *f, uint32_t i) {
  const Onnx__NodeProto *n = f->nodes[i];
  if (n->name && n->name[0]) return arena_printf(im->scratch, "'%s'", str_escape(im->scratch, n->name, 64));
  return arena_printf(im->scratch, "#%u (%s)", i, str_escape(im->scratch, n->op_type ? n->op_type : "?", 64));
}

// Every node output becomes a name of the frame.
static bool add_outputs(OnnxImporter *im, Frame *f) {
  bool ok = true;
  Loc loc = {.file = im->file, .node = -1};
  for (uint32_t i = 0; i < f->n_nodes; i++)
    for (size_t k = 0; k < f->nodes[i]->n_output; k++) {
      const char *name = f->nodes[i]->output[k];
      if (!name[0]) continue;
      const OnnxName *other = map_get_str(f->names, name);
      if (other) {
        ok =
            diag_error(im->diag, DIAG_REFUSED, &loc, "node %s writes '%s', which %s gives already",
                       node_label(im, f, i), str_escape(im->scratch, name, 128),
                       other->node >= 0 ? arena_printf(im->scratch, "node %s", node_label(im, f, (uint32_t)other->node))
                                        : "an input or initializer");
        continue;
      }
      frame_add_name(im, f, &loc, name)->node = (int32_t)i;
    }
  return ok;
}

static bool has_graphs(const Onnx__NodeProto *n) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (n->attribute[i]->g || n->attribute[i]->n_graphs) return true;
  return false;
}

typedef VEC(char *) NameVec;

// A graph below a node, with the names it binds: those are not dependencies.
typedef struct Nested {
  const Onnx__GraphProto *graph;
  int32_t parent;  // index of the graph around it, -1 for graphs of the node itself
  Map *bound;
} Nested;
typedef VEC(Nested) NestedVec;

static void push_graph(Arena *arena, NestedVec *list, const Onnx__GraphProto *g, int32_t parent) {
  Nested n = {g, parent, map_new(arena)};
  for (size_t i = 0; i < g->n_input; i++)
    if (g->input[i]->name) map_set_str(n.bound, g->input[i]->name, n.bound);
  for (size_t i = 0; i < g->n_initializer; i++)
    if (g->initializer[i]->name) map_set_str(n.bound, g->initializer[i]->name, n.bound);
  for (size_t i = 0; i < g->n_node; i++)
    for (size_t k = 0; k < g->node[i]->n_output; k++) map_set_str(n.bound, g->node[i]->output[k], n.bound);
  vec_push(arena, list, n);
}

static void push_graphs(Arena *arena, NestedVec *list, const Onnx__NodeProto *n, int32_t parent) {
  for (size_t i = 0; i < n->n_attribute; i++) {
    const Onnx__AttributeProto *a = n->attribute[i];
    if (a->g) push_graph(arena, list, a->g, parent);
    for (size_t k = 0; k < a->n_graphs; k++) push_graph(arena, list, a->graphs[k], parent);
  }
}

static void push_use(Arena *arena, NameVec *names, const NestedVec *list, int32_t graph, char *name) {
  for (; graph >= 0; graph = list->at[graph].parent)
    if (map_get_str(list->at[graph].bound, name)) return;
  vec_push(arena, names, name);
}

// The inputs of a node and the names that graphs below it take from outside.
static Deps collect_deps(Arena *arena, const Onnx__NodeProto *node) {
  NameVec names = {0};
  NestedVec list = {0};
  for (size_t i = 0; i < node->n_input; i++) vec_push(arena, &names, node->input[i]);
  push_graphs(arena, &list, node, -1);
  for (uint32_t at = 0; at < list.n; at++) {
    const Onnx__GraphProto *g = list.at[at].graph;
    for (size_t i = 0; i < g->n_node; i++) {
      for (size_t k = 0; k < g->node[i]->n_input; k++)
        push_use(arena, &names, &list, (int32_t)at, g->node[i]->input[k]);
      push_graphs(arena, &list, g->node[i], (int32_t)at);
    }
    for (size_t i = 0; i < g->n_output; i++)
      if (g->output[i]->name) push_use(arena, &names, &list, (int32_t)at, g->output[i]->name);
  }
  return (Deps){names.n, names.at};
}

// Producer of a name inside the frame, -1 for outer names, inputs and unknown ones.
static int32_t producer(const Frame *f, const char *name) {
  const OnnxName *n = name[0] ? map_get_str(f->names, name) : NULL;
  return n ? n->node : -1;
}

static bool refuse_cycle(Sorter *s, uint32_t to) {
  uint32_t from = s->stack.n;
  while (s->stack.at[from - 1].node != to) from--;
  StrBuf b;
  strbuf_init(&b, s->im->scratch);
  for (uint32_t i = from - 1; i < s->stack.n && i < from + 7; i++)
    strbuf_printf(&b, "%s -> ", node_label(s->im, s->f, s->stack.at[i].node));
  if (s->stack.n > from + 7) strbuf_puts(&b, "... -> ");
  Loc loc = {.file = s->im->file, .node = -1};
  return diag_error(s->im->diag, DIAG_REFUSED, &loc, "the graph has a cycle: node %s%s", strbuf_str(&b),
                    node_label(s->im, s->f, to));
}

static void enter(Sorter *s, uint32_t node) {
  s->state[node] = 1;
  vec_push(s->im->scratch, &s->stack, ((Visit){node, 0}));
}

// Completes everything `node` needs, then the node.
static bool visit(Sorter *s, uint32_t node) {
  Frame *f = s->f;
  enter(s, node);
  while (s->stack.n) {
    Visit *v = &s->stack.at[s->stack.n - 1];
    const Deps *d = &s->deps[v->node];
    if (v->next == d->n) {
      s->state[v->node] = 2;
      f->order[f->n_order++] = v->node;
      s->stack.n--;
      continue;
    }
    int32_t p = producer(f, d->names[v->next++]);
    if (p < 0 || s->state[p] == 2) continue;
    if (s->state[p] == 1) return refuse_cycle(s, (uint32_t)p);
    enter(s, (uint32_t)p);
  }
  return true;
}

static void mark(Bitset *live, const Frame *f, const char *name) {
  int32_t p = producer(f, name);
  if (p >= 0) bitset_add(live, (uint32_t)p);
}

// Keeps the nodes some result needs.
static void drop_dead(Sorter *s) {
  Frame *f = s->f;
  Bitset live = bitset_new(s->im->scratch, f->n_nodes);
  for (uint32_t i = 0; i < f->n_results; i++) mark(&live, f, f->results[i]);
  for (uint32_t i = f->n_order; i-- > 0;) {
    uint32_t n = f->order[i];
    for (uint32_t k = 0; bitset_has(&live, n) && k < s->deps[n].n; k++) mark(&live, f, s->deps[n].names[k]);
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < f->n_order; i++)
    if (bitset_has(&live, f->order[i])) f->order[kept++] = f->order[i];
  f->n_order = kept;
}

static bool sort(Sorter *s) {
  Frame *f = s->f;
  if (!add_outputs(s->im, f)) return false;
  f->order = NEW_ARRAY(s->im->arena, uint32_t, f->n_nodes);
  f->n_order = 0;
  for (uint32_t i = 0; i < f->n_nodes; i++) {
    const Onnx__NodeProto *n = f->nodes[i];
    s->deps[i] = has_graphs(n) ? collect_deps(s->im->scratch, n) : (Deps){(uint32_t)n->n_input, n->input};
  }
  for (uint32_t i = 0; i < f->n_nodes; i++)
    if (s->state[i] == 0 && !visit(s, i)) return false;
  drop_dead(s);
  return true;
}

bool frame_sort(OnnxImporter *im, Frame *f) {
  ArenaMark start = arena_mark(im->scratch);
  Sorter s = {.im = im, .f = f};
  s.deps = NEW_ARRAY(im->scratch, Deps, f->n_nodes);
  s.state = NEW_ARRAY(im->scratch, uint8_t, f->n_nodes);
  bool ok = sort(&s);
  arena_reset(im->scratch, start);
  return ok;
}
