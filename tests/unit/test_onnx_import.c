// The importer: interface, order, names, functions, branches, options, and what each kind of bad model is told.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontend/onnx.h"
#include "ir/verify.h"
#include "tests/onnx_build.h"

static Arena *arena;
static Diag *diag;
static OnnxOptions opt;

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
  opt = onnx_options_default();
}
static void teardown(void) { arena_free(arena); }
TestSuite(onnx_import, .init = setup, .fini = teardown);

static Module *import(Build *b) {
  size_t n;
  uint8_t *bytes = build_pack(b, &n);
  return onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, n, &opt);
}

static Func *imported(Build *b) {
  Module *m = import(b);
  cr_assert(m, "refused: %s", diag_text(diag));
  cr_assert(verify_module(m), "%s", diag_text(diag));
  return m->funcs.at[0];
}

static void refused(Build *b, DiagKind kind, const char *text) {
  cr_assert_null(import(b), "accepted, expected: %s", text);
  cr_assert(strstr(diag_text(diag), text), "expected '%s' in: %s", text, diag_text(diag));
  cr_assert_eq(diag_exit_code(diag), (int)kind, "exit %d: %s", diag_exit_code(diag), diag_text(diag));
}

// x[2,3] -> y[2,3], nodes to be added.
static Build simple(int64_t opset) {
  Build b = build_model(arena, opset);
  build_input(&b, "x", DT_F32, "2,3");
  build_output(&b, "y", DT_F32, "2,3");
  return b;
}

static uint32_t count_kind(const Func *f, OpKind kind) {
  uint32_t n = 0;
  for (const Op *op = f->first; op; op = op->next) n += op->kind == kind;
  return n;
}

// ---- the ordinary way

Test(onnx_import, names_types_and_locations) {
  Build b = simple(17);
  build_node(&b, "Relu", "r", "x", "t");
  build_node(&b, "Neg", "", "t", "y");
  Func *f = imported(&b);
  cr_assert_eq(f->n_args, 1);
  cr_assert_str_eq(f->args[0]->name, "x");
  cr_assert_eq(f->n_results, 1);
  cr_assert_str_eq(f->result_names[0], "y");
  cr_assert_eq(f->n_ops, 2);
  cr_assert_str_eq(f->first->loc->node_name, "r");
  cr_assert_str_eq(f->first->loc->op_type, "Relu");
  cr_assert_str_eq(f->first->loc->output, "t");
  cr_assert_eq(f->last->loc->node, 1);
  cr_assert_str_eq(f->first->out[0]->name, "t");
}

Test(onnx_import, unsorted_nodes_are_sorted) {
  Build b = simple(17);
  build_node(&b, "Neg", "late", "t", "y");
  build_node(&b, "Relu", "early", "x", "t");
  Func *f = imported(&b);
  cr_assert_eq(f->first->kind, OP_RELU);
  cr_assert_eq(f->last->kind, OP_NEG);
}

Test(onnx_import, nodes_that_reach_no_result_are_left_out) {
  Build b = simple(17);
  build_node(&b, "Relu", "r", "x", "y");
  build_node(&b, "Frobnicate", "dead", "x", "z");
  cr_assert_eq(imported(&b)->n_ops, 1);
}

Test(onnx_import, results_may_be_inputs_and_constants) {
  static const float v[2] = {1, 2};
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2");
  build_output(&b, "x", DT_F32, "2");
  build_output(&b, "w", DT_F32, "2");
  build_init_f32(&b, "w", "2", v);
  Func *f = imported(&b);
  cr_assert_eq(f->results[0], f->args[0]);
  cr_assert(value_is_const(f->results[1]));
}

Test(onnx_import, inputs_that_are_initialisers_are_constants) {
  static const float v[3] = {1, 2, 3};
  Build b = simple(17);
  build_input(&b, "w", DT_F32, "3");
  build_init_f32(&b, "w", "3", v);
  build_node(&b, "Add", "a", "x,w", "y");
  Func *f = imported(&b);
  cr_assert_eq(f->n_args, 1);
  cr_assert(value_is_const(f->first->in[1].value));
}

// A straight-through estimator on weights gives back its quantiser's values bit for bit; a sum of the same form whose
// value is any float is folded as it is written.
Test(onnx_import, quantised_weights_lose_their_estimator) {
  enum { N = 400 };
  float w[N];
  for (int i = 0; i < N; i++) w[i] = sinf((float)i) * 1.7f;
  for (int few = 0; few < 2; few++) {
    Build b = build_model(arena, 17);
    build_output(&b, "y", DT_F32, "400");
    build_init_f32(&b, "w", "400", w);
    build_node(&b, few ? "Sign" : "Exp", "s", "w", "q");
    build_node(&b, "Sub", "d", "q,w", "difference");
    build_node(&b, "Add", "a", "w,difference", "y");
    Func *f = imported(&b);
    cr_assert_eq(f->n_ops, 0);
    for (int i = 0; i < N; i++) {
      float sign = (float)((w[i] > 0) - (w[i] < 0)), e = (float)exp((double)w[i]), rest = e - w[i];
      cr_assert_eq((float)const_f(f->module, f->results[0]->constant, i), few ? sign : w[i] + rest);
    }
  }
}

Test(onnx_import, shape_arithmetic_is_folded) {
  static const int64_t zero[1] = {0}, minus[1] = {-1};
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,3,4");
  build_output(&b, "y", DT_F32, "2,12");
  build_init_i64(&b, "zero", "1", zero);
  build_init_i64(&b, "minus", "1", minus);
  build_node(&b, "Shape", "s", "x", "shape");
  build_attr_i(&b, build_node(&b, "Gather", "g", "shape,zero", "n"), "axis", 0);
  build_attr_i(&b, build_node(&b, "Concat", "c", "n,minus", "to"), "axis", 0);
  build_node(&b, "Reshape", "r", "x,to", "y");
  Func *f = imported(&b);
  cr_assert_eq(f->n_ops, 1);
  cr_assert_eq(f->first->kind, OP_RESHAPE);
}

Test(onnx_import, zero_sizes) {
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,0");
  build_output(&b, "y", DT_F32, "2,0");
  build_node(&b, "Relu", "r", "x", "y");
  cr_assert_eq(imported(&b)->results[0]->type->dims[1], 0);
}

Test(onnx_import, declared_shapes_that_differ_are_warnings) {
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,3");
  build_output(&b, "y", DT_F32, "2,4");
  build_value(&b, "t", DT_F32, "5");
  build_node(&b, "Relu", "r", "x", "t");
  build_node(&b, "Neg", "n", "t", "y");
  imported(&b);
  cr_assert(strstr(diag_text(diag), "warning: output 'y' is declared as f32[2,4] but has type f32[2,3]"), "%s",
            diag_text(diag));
  cr_assert(strstr(diag_text(diag), "value 't' is declared"));
}

Test(onnx_import, ir_version_1_has_no_opset) {
  Build b = simple(0);
  b.model->ir_version = 1;
  build_node(&b, "Relu", "r", "x", "y");
  imported(&b);
}

// ---- dims, shapes, binds

static Build symbolic(void) {
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "N,3,?");
  build_input(&b, "z", DT_F32, "N,3,M");
  build_output(&b, "y", DT_F32, "N,3,M");
  build_node(&b, "Add", "a", "x,z", "y");
  return b;
}

Test(onnx_import, open_dims_are_listed_with_their_flags) {
  Build b = symbolic();
  refused(&b, DIAG_UNSUPPORTED,
          "3 dimensions have no size: 'N' (axis 0 of input 'x'), axis 2 of input 'x', 'M' (axis 2 of input "
          "'z'); give --dim N=... --input-shape x=... --dim M=...");
  cr_assert_eq(diag_errors(diag), 1);
}

Test(onnx_import, dims_and_shapes) {
  Build b = symbolic();
  vec_push(arena, &opt.dims, ((NamedDim){"M", 5}));
  vec_push(arena, &opt.shapes, ((NamedShape){"x", 3, {2, 3, 5}}));
  Func *f = imported(&b);
  cr_assert_eq(f->args[1]->type->dims[0], 2);  // N is known from x
  cr_assert_eq(f->args[1]->type->dims[2], 5);
}

Test(onnx_import, contradicting_dims) {
  Build b = symbolic();
  vec_push(arena, &opt.dims, ((NamedDim){"N", 5}));
  vec_push(arena, &opt.shapes, ((NamedShape){"x", 3, {2, 3, 5}}));
  refused(&b, DIAG_USAGE, "dimension 'N' is 5 and, from --input-shape, 2");
}

Test(onnx_import, options_must_name_inputs) {
  Build b = simple(17);
  build_node(&b, "Relu", "r", "x", "y");
  vec_push(arena, &opt.shapes, ((NamedShape){"q", 1, {2}}));
  refused(&b, DIAG_USAGE, "--input-shape q: the model has no input of this name");
}

Test(onnx_import, bound_inputs_leave_the_interface) {
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,6");
  build_input(&b, "to", DT_I64, "K");
  build_output(&b, "y", DT_F32, "?,?");
  build_node(&b, "Reshape", "r", "x,to", "y");
  char path[] = "/tmp/qcc-bind-XXXXXX.pb";
  int fd = mkstemps(path, 3);
  cr_assert(fd >= 0);
  int64_t dims[1] = {2}, to[2] = {3, 4};
  Module *m = module_new(arena, diag);
  cr_assert(tensor_file_write(m, path, "to", type_tensor(m->types, DT_I64, 1, dims), to));
  vec_push(arena, &opt.binds, ((NamedFile){"to", path}));
  Func *f = imported(&b);
  cr_assert_eq(f->n_args, 1);
  cr_assert_eq(f->results[0]->type->dims[0], 3);
  close(fd);
  unlink(path);
}

// ---- refusals

Test(onnx_import, cycle) {
  Build b = simple(17);
  build_node(&b, "Add", "p", "x,u", "t");
  build_node(&b, "Relu", "q", "t", "u");
  build_node(&b, "Neg", "n", "u", "y");
  refused(&b, DIAG_REFUSED, "cycle: node 'p' -> 'q' -> 'p'");
}

Test(onnx_import, two_producers) {
  Build b = simple(17);
  build_node(&b, "Relu", "one", "x", "y");
  build_node(&b, "Neg", "two", "x", "y");
  refused(&b, DIAG_REFUSED, "node 'two' writes 'y', which node 'one' gives already");
}

Test(onnx_import, writing_an_input) {
  Build b = simple(17);
  build_node(&b, "Relu", "r", "x", "x");
  build_node(&b, "Relu", "s", "x", "y");
  refused(&b, DIAG_REFUSED, "writes 'x'");
}

Test(onnx_import, dangling_input_is_reported_once) {
  Build b = simple(17);
  build_node(&b, "Add", "a", "x,ghost", "t");
  build_node(&b, "Add", "b", "t,ghost", "y");
  refused(&b, DIAG_REFUSED, "input 'ghost' is no graph input");
  cr_assert_eq(diag_errors(diag), 1, "%s", diag_text(diag));
}

Test(onnx_import, missing_output) {
  Build b = simple(17);
  build_node(&b, "Relu", "r", "x", "t");
  refused(&b, DIAG_REFUSED, "nothing produces the graph output 'y'");
}

Test(onnx_import, opsets) {
  Build b = simple(28);
  build_node(&b, "Relu", "r", "x", "y");
  refused(&b, DIAG_UNSUPPORTED, "opset 28 is newer than 27");
}

Test(onnx_import, opset_twice) {
  Build b = simple(17);
  build_opset(&b, "ai.onnx", 17);
  build_node(&b, "Relu", "r", "x", "y");
  refused(&b, DIAG_REFUSED, "imported twice");
}

Test(onnx_import, opset_missing) {
  Build b = simple(0);
  build_node(&b, "Relu", "r", "x", "y");
  refused(&b, DIAG_REFUSED, "imports no opset");
}

Test(onnx_import, ir_version_too_new) {
  Build b = simple(17);
  b.model->ir_version = 14;
  refused(&b, DIAG_UNSUPPORTED, "IR version 14");
}

Test(onnx_import, all_unsupported_nodes_in_one_run) {
  Build b = simple(17);
  build_node(&b, "Frobnicate", "f1", "x", "a");
  build_node(&b, "Frobnicate", "f2", "a", "b");
  build_node(&b, "Relu", "r", "b", "c");
  build_node(&b, "Blorb", "", "c", "y");
  refused(&b, DIAG_UNSUPPORTED, "operator Frobnicate, 2 times ('f1', 'f2')");
  cr_assert(strstr(diag_text(diag), "operator Blorb, 1 time (#3)"), "%s", diag_text(diag));
  cr_assert_eq(diag_errors(diag), 2, "%s", diag_text(diag));
}

Test(onnx_import, unsupported_types) {
  Build b = simple(17);
  build_input(&b, "s", DT_STR, "2");
  build_input(&b, "q", DT_F32, "2");
  b.graph->input[2]->type->tensor_type = NULL;
  b.graph->input[2]->type->sequence_type = NEW(arena, Onnx__TypeProto__Sequence);
  onnx__type_proto__sequence__init(b.graph->input[2]->type->sequence_type);
  build_node(&b, "Relu", "r", "x", "y");
  refused(&b, DIAG_UNSUPPORTED, "inputs, 1 time ('s'): tensors of type str");
  cr_assert(strstr(diag_text(diag), "('q'): a sequence type"), "%s", diag_text(diag));
}

Test(onnx_import, attributes) {
  Build b = simple(17);
  Onnx__NodeProto *n = build_node(&b, "LeakyRelu", "l", "x", "y");
  build_attr_f(&b, n, "alpha", 0.5f);
  build_attr_f(&b, n, "alpha", 0.5f);
  refused(&b, DIAG_REFUSED, "node 'l' (LeakyRelu, #0): attribute 'alpha' is given twice");
}

Test(onnx_import, attribute_type) {
  Build b = simple(17);
  build_attr_i(&b, build_node(&b, "LeakyRelu", "l", "x", "y"), "alpha", 1);
  refused(&b, DIAG_REFUSED, "attribute 'alpha' is an int, expected a float");
  cr_assert_eq(diag_errors(diag), 1, "%s", diag_text(diag));
}

Test(onnx_import, attribute_holding_another_type) {
  Build b = simple(17);
  Onnx__AttributeProto *a = build_attr(&b, build_node(&b, "LeakyRelu", "l", "x", "y"), "alpha");
  a->has_type = true;
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  a->has_i = true;
  refused(&b, DIAG_REFUSED, "declared as a float but holds an int");
}

Test(onnx_import, attribute_nobody_knows) {
  Build b = simple(17);
  build_attr_f(&b, build_node(&b, "Relu", "r", "x", "y"), "slope", 1);
  refused(&b, DIAG_UNSUPPORTED, "attribute 'slope' is unknown");
}

Test(onnx_import, huge_constants_are_refused_by_node) {
  static const int64_t dims[2] = {1 << 20, 1 << 20};
  Build b = build_model(arena, 17);
  build_output(&b, "y", DT_F32, "?,?");
  build_init_i64(&b, "s", "2", dims);
  build_node(&b, "ConstantOfShape", "bomb", "s", "y");
  refused(&b, DIAG_LIMIT, "node 'bomb' (ConstantOfShape, #0)");
}

// ---- functions

Test(onnx_import, functions_are_inlined) {
  Build b = simple(17);
  build_opset(&b, "loc", 1);
  BuildFunction inner = build_function(&b, "loc", "Inner", "a", "c");
  Onnx__AttributeProto *alpha = build_attr(&b, build_node(&inner.body, "LeakyRelu", "leak", "a", "c"), "alpha");
  alpha->ref_attr_name = "slope";
  alpha->has_type = true;
  alpha->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
  build_function_end(&inner);
  BuildFunction outer = build_function(&b, "loc", "Outer", "a", "c");
  build_attr_f(&b, build_node(&outer.body, "Inner", "in1", "a", "m"), "slope", 0.5f);
  outer.body.graph->node[0]->domain = "loc";
  build_node(&outer.body, "Neg", "", "m", "c");
  build_function_end(&outer);
  build_node(&b, "Outer", "call", "x", "t")->domain = "loc";
  build_node(&b, "Outer", "call2", "t", "y")->domain = "loc";
  Func *f = imported(&b);
  cr_assert_eq(f->n_ops, 4);
  cr_assert_eq(op_float(f->first, A_LEAKY_RELU_alpha), 0.5);
  cr_assert_str_eq(f->first->loc->node_name, "call/in1/leak");
  cr_assert_str_eq(f->first->next->loc->node_name, "call/#1");
}

Test(onnx_import, function_attribute_defaults) {
  Build b = simple(17);
  build_opset(&b, "loc", 1);
  BuildFunction fn = build_function(&b, "loc", "F", "a", "c");
  Onnx__AttributeProto *alpha = build_attr(&b, build_node(&fn.body, "LeakyRelu", "leak", "a", "c"), "alpha");
  alpha->ref_attr_name = "slope";
  build_function_end(&fn);
  Onnx__NodeProto *holder = NEW(arena, Onnx__NodeProto);
  onnx__node_proto__init(holder);
  build_attr_f(&b, holder, "slope", 0.25f);
  fn.function->n_attribute_proto = 1;
  fn.function->attribute_proto = holder->attribute;
  build_node(&b, "F", "call", "x", "y")->domain = "loc";
  cr_assert_eq(op_float(imported(&b)->first, A_LEAKY_RELU_alpha), 0.25);
}

Test(onnx_import, recursive_functions) {
  Build b = simple(17);
  build_opset(&b, "loc", 1);
  BuildFunction p = build_function(&b, "loc", "Ping", "a", "c"), q = build_function(&b, "loc", "Pong", "a", "c");
  build_node(&p.body, "Pong", "", "a", "c")->domain = "loc";
  build_function_end(&p);
  build_node(&q.body, "Ping", "", "a", "c")->domain = "loc";
  build_function_end(&q);
  build_node(&b, "Ping", "call", "x", "y")->domain = "loc";
  refused(&b, DIAG_REFUSED, "function 'Ping' (domain 'loc') calls itself");
}

Test(onnx_import, doubling_functions) {
  Build b = simple(17);
  build_opset(&b, "loc", 1);
  for (int i = 0; i < 40; i++) {
    BuildFunction f = build_function(&b, "loc", arena_printf(arena, "F%d", i), "a", "c");
    const char *callee = i ? arena_printf(arena, "F%d", i - 1) : "Relu";
    build_node(&f.body, callee, "", "a", "m")->domain = i ? "loc" : "";
    build_node(&f.body, callee, "", "m", "c")->domain = i ? "loc" : "";
    build_function_end(&f);
  }
  build_node(&b, "F39", "call", "x", "y")->domain = "loc";
  refused(&b, DIAG_LIMIT, "when inlined");
}

// ---- If

// if (c) y = relu(x) else y = x * 2 or, with `wide`, a result of another shape
static Build branches(bool constant, bool wide) {
  static const float two[1] = {2}, wider[12] = {0};
  static const uint8_t yes[1] = {1};
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2,3");
  build_output(&b, "y", DT_F32, "2,3");
  Build then_b = build_inside(&b, build_graph(arena)), else_b = build_inside(&b, build_graph(arena));
  build_node(&then_b, "Relu", "r", "x", "p");
  build_output(&then_b, "p", DT_F32, "2,3");
  build_init_f32(&else_b, "two", wide ? "2,2,3" : "1", wide ? wider : two);
  build_node(&else_b, "Mul", "m", "x,two", "p");
  build_output(&else_b, "p", DT_F32, "2,3");
  if (constant) {
    build_init(&b, "c", DT_BOOL, 0, NULL, yes, 1);
  } else {
    build_input(&b, "c", DT_BOOL, "");
  }
  Onnx__NodeProto *n = build_node(&b, "If", "choose", "c", "y");
  build_attr_g(&b, n, "then_branch", then_b.graph);
  build_attr_g(&b, n, "else_branch", else_b.graph);
  return b;
}

Test(onnx_import, constant_if) {
  Build b = branches(true, false);
  Func *f = imported(&b);
  cr_assert_eq(f->n_ops, 1);
  cr_assert_eq(f->first->kind, OP_RELU);
  cr_assert_str_eq(f->first->loc->node_name, "choose/r");
}

Test(onnx_import, run_time_if) {
  Build b = branches(false, false);
  Func *f = imported(&b);
  cr_assert_eq(count_kind(f, OP_SELECT), 1);
  cr_assert_eq(count_kind(f, OP_RELU), 1);
  cr_assert_eq(count_kind(f, OP_MUL), 1);
  cr_assert_eq(f->results[0]->op->kind, OP_SELECT);
}

Test(onnx_import, run_time_if_of_two_shapes) {
  Build b = branches(false, true);
  refused(&b, DIAG_UNSUPPORTED, "branches of different types f32[2,3] and f32[2,2,3]");
}

Test(onnx_import, unsupported_nodes_inside_branches) {
  Build b = branches(false, false);
  Onnx__GraphProto *g = b.graph->node[0]->attribute[1]->g;
  g->node[0]->op_type = "Frobnicate";
  refused(&b, DIAG_UNSUPPORTED, "operator Frobnicate, 1 time ('choose/m')");
  cr_assert_eq(diag_errors(diag), 1);
}

// ---- size

Test(onnx_import, long_chains_are_linear) {
  Build b = simple(17);
  int n = 100000;
  for (int i = 0; i < n; i++)
    build_node(&b, "Relu", "", i ? arena_printf(arena, "t%d", i) : "x",
               i + 1 < n ? arena_printf(arena, "t%d", i + 1) : "y");
  clock_t start = clock();
  cr_assert_eq(imported(&b)->n_ops, (uint32_t)n);
  cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, 20.0);  // quadratic would be minutes
}

Test(onnx_import, reversed_chains_need_no_stack) {
  Build b = simple(17);
  int n = 50000;
  for (int i = n - 1; i >= 0; i--)
    build_node(&b, "Relu", "", i ? arena_printf(arena, "t%d", i) : "x",
               i + 1 < n ? arena_printf(arena, "t%d", i + 1) : "y");
  cr_assert_eq(imported(&b)->n_ops, (uint32_t)n);
}

// ---- external data, wherever a tensor may stand

static Onnx__TensorProto *external_tensor(const char *name) {
  static const int64_t dims[1] = {2};
  Onnx__TensorProto *t = build_tensor(arena, name, DT_F32, 1, dims, NULL, 0);
  Onnx__StringStringEntryProto *e = NEW(arena, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = "location";
  e->value = "../outside.bin";
  t->has_data_location = true;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
  t->n_external_data = 1;
  t->external_data = arena_copy(arena, &e, sizeof e);
  return t;
}

static void add_initializer(Onnx__GraphProto *g, Onnx__TensorProto *t) {
  g->n_initializer = 1;
  g->initializer = arena_copy(arena, &t, sizeof t);
}

static void add_constant(Build *b, const char *output) {
  Onnx__AttributeProto *a = build_attr(b, build_node(b, "Constant", "k", "", output), "value");
  a->has_type = true;
  a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
  a->t = external_tensor("");
}

static void outside_refused(Build *b) {
  size_t n;
  uint8_t *bytes = build_pack(b, &n);
  cr_assert_null(onnx_import_bytes(arena, diag, "m.onnx", "/tmp", bytes, n, &opt));
  cr_assert(strstr(diag_text(diag), "leaves the folder of the model"), "%s", diag_text(diag));
}

static Build external_model(void) {
  Build b = build_model(arena, 17);
  build_input(&b, "x", DT_F32, "2");
  build_output(&b, "y", DT_F32, "2");
  return b;
}

Test(onnx_import, external_initializer) {
  Build b = external_model();
  add_initializer(b.graph, external_tensor("w"));
  build_node(&b, "Add", "a", "x,w", "y");
  outside_refused(&b);
}

Test(onnx_import, external_constant) {
  Build b = external_model();
  add_constant(&b, "w");
  build_node(&b, "Add", "a", "x,w", "y");
  outside_refused(&b);
}

Test(onnx_import, external_sparse) {
  static const int64_t two[1] = {2}, at[2] = {0, 1};
  static const float v[2] = {1, 2};
  for (int part = 0; part < 2; part++) {
    Build b = external_model();
    Onnx__SparseTensorProto *s = NEW(arena, Onnx__SparseTensorProto);
    onnx__sparse_tensor_proto__init(s);
    s->values = part == 0 ? external_tensor("w") : build_tensor(arena, "w", DT_F32, 1, two, v, sizeof v);
    s->indices = part == 1 ? external_tensor("") : build_tensor(arena, "", DT_I64, 1, two, at, sizeof at);
    s->n_dims = 1;
    s->dims = arena_copy(arena, two, sizeof two);
    b.graph->n_sparse_initializer = 1;
    b.graph->sparse_initializer = arena_copy(arena, &s, sizeof s);
    build_node(&b, "Add", "a", "x,w", "y");
    outside_refused(&b);
    diag = diag_new(arena, NULL);
  }
}

Test(onnx_import, external_in_branch) {
  Build b = branches(true, false);
  Onnx__GraphProto *g = b.graph->node[0]->attribute[0]->g;
  add_initializer(g, external_tensor("w"));
  g->node[0]->op_type = "Add";
  static char *inputs[2] = {"x", "w"};
  g->node[0]->n_input = 2;
  g->node[0]->input = inputs;
  outside_refused(&b);
}

Test(onnx_import, external_in_function) {
  Build b = external_model();
  build_opset(&b, "loc", 1);
  BuildFunction f = build_function(&b, "loc", "F", "a", "c");
  add_constant(&f.body, "w");
  build_node(&f.body, "Add", "", "a,w", "c");
  build_function_end(&f);
  build_node(&b, "F", "call", "x", "y")->domain = "loc";
  outside_refused(&b);
}

Test(onnx_import, too_many_nodes) {
  Build b = simple(17);
  opt.max_nodes = 3;
  build_node(&b, "Relu", "a", "x", "t");
  build_node(&b, "Relu", "b", "t", "u");
  build_node(&b, "Relu", "c", "u", "v");
  build_node(&b, "Relu", "d", "v", "y");
  refused(&b, DIAG_LIMIT, "--max-nodes");
}

Test(onnx_import, unwanted_outputs) {
  Build b = simple(17);
  build_node(&b, "Dropout", "d", "x", "y,,,");
  imported(&b);
}
