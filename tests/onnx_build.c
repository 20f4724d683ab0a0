// The ONNX writer of the tests: arrays grow by one, everything lives in the caller's arena.
#include "tests/onnx_build.h"

#include <stdlib.h>
#include <string.h>

// Appends an item to a protobuf-c repeated field; the room doubles at every power of two.
static void append(Arena *arena, size_t *n, void *list, void *item) {
  void **at = *(void ***)list;
  if ((*n & (*n - 1)) == 0) {
    void **grown = NEW_ARRAY(arena, void *, *n ? 2 * *n : 1);
    if (*n) memcpy(grown, at, *n * sizeof *at);
    *(void ***)list = at = grown;
  }
  at[(*n)++] = item;
}

static char *copy(Arena *arena, const char *s) { return arena_copy(arena, s, strlen(s) + 1); }

// "a,b,,c" to a list of names.
static char **split(Arena *arena, const char *list, size_t *n) {
  char **names = NULL;
  *n = 0;
  if (!list[0]) return NULL;
  for (const char *p = list;; p++) {
    size_t len = strcspn(p, ",");
    append(arena, n, &names, arena_printf(arena, "%.*s", (int)len, p));
    p += len;
    if (!*p) return names;
  }
}

Onnx__GraphProto *build_graph(Arena *arena) {
  Onnx__GraphProto *g = NEW(arena, Onnx__GraphProto);
  onnx__graph_proto__init(g);
  g->name = copy(arena, "g");
  return g;
}

Build build_inside(Build *b, Onnx__GraphProto *g) { return (Build){b->arena, b->model, g}; }

void build_opset(Build *b, const char *domain, int64_t version) {
  Onnx__OperatorSetIdProto *o = NEW(b->arena, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(o);
  if (domain[0]) o->domain = copy(b->arena, domain);
  o->has_version = true;
  o->version = version;
  append(b->arena, &b->model->n_opset_import, &b->model->opset_import, o);
}

Build build_model(Arena *arena, int64_t opset) {
  Build b = {arena, NEW(arena, Onnx__ModelProto), build_graph(arena)};
  onnx__model_proto__init(b.model);
  b.model->has_ir_version = true;
  b.model->ir_version = 8;
  b.model->graph = b.graph;
  if (opset) build_opset(&b, "", opset);
  return b;
}

static Onnx__TypeProto *tensor_type(Arena *arena, DType type, const char *shape) {
  Onnx__TypeProto *t = NEW(arena, Onnx__TypeProto);
  onnx__type_proto__init(t);
  t->tensor_type = NEW(arena, Onnx__TypeProto__Tensor);
  onnx__type_proto__tensor__init(t->tensor_type);
  t->tensor_type->has_elem_type = true;
  t->tensor_type->elem_type = dtype_info(type)->onnx;
  t->tensor_type->shape = NEW(arena, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(t->tensor_type->shape);
  size_t n;
  char **dims = split(arena, shape, &n);
  for (size_t i = 0; i < n; i++) {
    Onnx__TensorShapeProto__Dimension *d = NEW(arena, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(d);
    if ((dims[i][0] >= '0' && dims[i][0] <= '9') || dims[i][0] == '-') {
      d->has_dim_value = true;
      d->dim_value = strtoll(dims[i], NULL, 10);
    } else if (dims[i][0] != '?') {
      d->dim_param = dims[i];
    }
    append(arena, &t->tensor_type->shape->n_dim, &t->tensor_type->shape->dim, d);
  }
  return t;
}

static Onnx__ValueInfoProto *value_info(Arena *arena, const char *name, DType type, const char *shape) {
  Onnx__ValueInfoProto *v = NEW(arena, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(v);
  v->name = copy(arena, name);
  v->type = tensor_type(arena, type, shape);
  return v;
}

void build_input(Build *b, const char *name, DType type, const char *shape) {
  append(b->arena, &b->graph->n_input, &b->graph->input, value_info(b->arena, name, type, shape));
}

void build_output(Build *b, const char *name, DType type, const char *shape) {
  append(b->arena, &b->graph->n_output, &b->graph->output, value_info(b->arena, name, type, shape));
}

void build_value(Build *b, const char *name, DType type, const char *shape) {
  append(b->arena, &b->graph->n_value_info, &b->graph->value_info, value_info(b->arena, name, type, shape));
}

Onnx__TensorProto *build_tensor(Arena *arena, const char *name, DType type, uint32_t rank, const int64_t *dims,
                                const void *bytes, size_t n) {
  Onnx__TensorProto *t = NEW(arena, Onnx__TensorProto);
  onnx__tensor_proto__init(t);
  t->name = copy(arena, name);
  t->has_data_type = true;
  t->data_type = dtype_info(type)->onnx;
  t->n_dims = rank;
  t->dims = arena_copy(arena, dims, rank * sizeof *dims);
  if (bytes) {
    t->has_raw_data = true;
    t->raw_data.len = n;
    t->raw_data.data = arena_copy(arena, bytes, n);
  }
  return t;
}

Onnx__TensorProto *build_init(Build *b, const char *name, DType type, uint32_t rank, const int64_t *dims,
                              const void *bytes, size_t n) {
  Onnx__TensorProto *t = build_tensor(b->arena, name, type, rank, dims, bytes, n);
  append(b->arena, &b->graph->n_initializer, &b->graph->initializer, t);
  return t;
}

static Onnx__TensorProto *init_shaped(Build *b, const char *name, DType type, const char *shape, const void *values) {
  int64_t dims[MAX_RANK], count = 1;
  size_t rank;
  char **parts = split(b->arena, shape, &rank);
  for (size_t i = 0; i < rank; i++) count *= dims[i] = strtoll(parts[i], NULL, 10);
  return build_init(b, name, type, (uint32_t)rank, dims, values, (size_t)count * dtype_info(type)->bits / 8);
}

Onnx__TensorProto *build_init_f32(Build *b, const char *name, const char *shape, const float *values) {
  return init_shaped(b, name, DT_F32, shape, values);
}

Onnx__TensorProto *build_init_i64(Build *b, const char *name, const char *shape, const int64_t *values) {
  return init_shaped(b, name, DT_I64, shape, values);
}

Onnx__NodeProto *build_node(Build *b, const char *op, const char *name, const char *inputs, const char *outputs) {
  Onnx__NodeProto *n = NEW(b->arena, Onnx__NodeProto);
  onnx__node_proto__init(n);
  n->op_type = copy(b->arena, op);
  n->name = copy(b->arena, name);
  n->input = split(b->arena, inputs, &n->n_input);
  n->output = split(b->arena, outputs, &n->n_output);
  append(b->arena, &b->graph->n_node, &b->graph->node, n);
  return n;
}

Onnx__AttributeProto *build_attr(Build *b, Onnx__NodeProto *n, const char *name) {
  Onnx__AttributeProto *a = NEW(b->arena, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = copy(b->arena, name);
  append(b->arena, &n->n_attribute, &n->attribute, a);
  return a;
}

static Onnx__AttributeProto *typed(Build *b, Onnx__NodeProto *n, const char *name,
                                   Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = build_attr(b, n, name);
  a->has_type = true;
  a->type = type;
  return a;
}

void build_attr_i(Build *b, Onnx__NodeProto *n, const char *name, int64_t v) {
  Onnx__AttributeProto *a = typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->has_i = true;
  a->i = v;
}

void build_attr_f(Build *b, Onnx__NodeProto *n, const char *name, float v) {
  Onnx__AttributeProto *a = typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  a->has_f = true;
  a->f = v;
}

void build_attr_s(Build *b, Onnx__NodeProto *n, const char *name, const char *v) {
  Onnx__AttributeProto *a = typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
  a->has_s = true;
  a->s.len = strlen(v);
  a->s.data = (uint8_t *)copy(b->arena, v);
}

void build_attr_strs(Build *b, Onnx__NodeProto *n, const char *name, uint32_t count, const char *const *v) {
  Onnx__AttributeProto *a = typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS);
  a->n_strings = count;
  a->strings = NEW_ARRAY(b->arena, ProtobufCBinaryData, count);
  for (uint32_t i = 0; i < count; i++)
    a->strings[i] = (ProtobufCBinaryData){.len = strlen(v[i]), .data = (uint8_t *)copy(b->arena, v[i])};
}

void build_attr_ints(Build *b, Onnx__NodeProto *n, const char *name, uint32_t count, const int64_t *v) {
  Onnx__AttributeProto *a = typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  a->n_ints = count;
  a->ints = arena_copy(b->arena, v, count * sizeof *v);
}

void build_attr_g(Build *b, Onnx__NodeProto *n, const char *name, Onnx__GraphProto *g) {
  typed(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = g;
}

BuildFunction build_function(Build *b, const char *domain, const char *name, const char *inputs, const char *outputs) {
  BuildFunction f = {build_inside(b, build_graph(b->arena)), NEW(b->arena, Onnx__FunctionProto)};
  onnx__function_proto__init(f.function);
  f.function->name = copy(b->arena, name);
  f.function->domain = copy(b->arena, domain);
  f.function->input = split(b->arena, inputs, &f.function->n_input);
  f.function->output = split(b->arena, outputs, &f.function->n_output);
  f.function->n_opset_import = b->model->n_opset_import;
  f.function->opset_import = b->model->opset_import;
  append(b->arena, &b->model->n_functions, &b->model->functions, f.function);
  return f;
}

void build_function_end(BuildFunction *f) {
  f->function->n_node = f->body.graph->n_node;
  f->function->node = f->body.graph->node;
}

uint8_t *build_pack(Build *b, size_t *n) {
  *n = onnx__model_proto__get_packed_size(b->model);
  uint8_t *bytes = arena_alloc(b->arena, *n + 1);
  onnx__model_proto__pack(b->model, bytes);
  return bytes;
}
