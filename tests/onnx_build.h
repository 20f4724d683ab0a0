// A small ONNX writer for tests: models are built as protobuf-c structures and packed.
#ifndef QCC_TESTS_ONNX_BUILD_H
#define QCC_TESTS_ONNX_BUILD_H

#include "ir/type.h"
#include "onnx.pb-c.h"

typedef struct Build {
  Arena *arena;
  Onnx__ModelProto *model;
  Onnx__GraphProto *graph;
} Build;

Build build_model(Arena *arena, int64_t opset);     // IR version 8, one empty graph
Onnx__GraphProto *build_graph(Arena *arena);        // for branches
Build build_inside(Build *b, Onnx__GraphProto *g);  // the same model, adding to another graph

// Shapes: "1,3,N,?" (numbers, names, open), "" for a scalar.
void build_input(Build *b, const char *name, DType type, const char *shape);
void build_output(Build *b, const char *name, DType type, const char *shape);
void build_value(Build *b, const char *name, DType type, const char *shape);  // value_info

Onnx__TensorProto *build_tensor(Arena *arena, const char *name, DType type, uint32_t rank, const int64_t *dims,
                                const void *bytes, size_t n);  // raw_data
Onnx__TensorProto *build_init(Build *b, const char *name, DType type, uint32_t rank, const int64_t *dims,
                              const void *bytes, size_t n);
Onnx__TensorProto *build_init_f32(Build *b, const char *name, const char *shape, const float *values);
Onnx__TensorProto *build_init_i64(Build *b, const char *name, const char *shape, const int64_t *values);

// Names are separated by commas: build_node(&b, "Add", "sum", "x,w", "y").
Onnx__NodeProto *build_node(Build *b, const char *op, const char *name, const char *inputs, const char *outputs);
Onnx__AttributeProto *build_attr(Build *b, Onnx__NodeProto *n, const char *name);  // without a value
void build_attr_i(Build *b, Onnx__NodeProto *n, const char *name, int64_t v);
void build_attr_f(Build *b, Onnx__NodeProto *n, const char *name, float v);
void build_attr_s(Build *b, Onnx__NodeProto *n, const char *name, const char *v);
void build_attr_strs(Build *b, Onnx__NodeProto *n, const char *name, uint32_t count, const char *const *v);
void build_attr_ints(Build *b, Onnx__NodeProto *n, const char *name, uint32_t count, const int64_t *v);
void build_attr_g(Build *b, Onnx__NodeProto *n, const char *name, Onnx__GraphProto *g);

// A model-local function; nodes are added through build_node with `body`, then build_function_end takes them.
typedef struct BuildFunction {
  Build body;  // its graph only collects nodes
  Onnx__FunctionProto *function;
} BuildFunction;
BuildFunction build_function(Build *b, const char *domain, const char *name, const char *inputs, const char *outputs);
void build_function_end(BuildFunction *f);
void build_opset(Build *b, const char *domain, int64_t version);

uint8_t *build_pack(Build *b, size_t *n);

#endif
