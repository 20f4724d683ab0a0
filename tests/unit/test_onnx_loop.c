// Scan and Loop: the unrolled graph gives what the loop would, and loops whose length is not known are refused.
#include <criterion/criterion.h>
#include <string.h>

#include "frontend/onnx.h"
#include "ir/elem.h"
#include "ir/eval.h"
#include "ir/verify.h"
#include "tests/onnx_build.h"

static Arena *arena;
static Diag *diag;

static void setup(void) {
  arena = arena_new("test");
  diag = diag_new(arena, NULL);
}
static void teardown(void) { arena_free(arena); }
TestSuite(onnx_loop, .init = setup, .fini = teardown);

static Module *import(Build *b, int64_t max_nodes) {
  OnnxOptions opt = onnx_options_default();
  opt.max_nodes = max_nodes;
  size_t n;
  uint8_t *bytes = build_pack(b, &n);
  return onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, n, &opt);
}

// Feeds 1, 2, 3, ... to every argument and compares one result.
static void expect(Build *b, uint32_t result, uint32_t n, const double *want) {
  Module *m = import(b, 1000);
  cr_assert(m, "%s", diag_text(diag));
  cr_assert(verify_module(m), "%s", diag_text(diag));
  Func *f = m->funcs.at[0];
  Tensor *args = NEW_ARRAY(arena, Tensor, f->n_args), *results = NEW_ARRAY(arena, Tensor, f->n_results);
  for (uint32_t k = 0; k < f->n_args; k++) {
    args[k] = tensor_new(arena, f->args[k]->type);
    for (int64_t i = 0; i < type_count(args[k].type); i++)
      elem_set_f(args[k].data, args[k].type->dtype, i, (double)(i + 1));
  }
  cr_assert(eval_func(f, args, results, arena, NULL, NULL));
  cr_assert_eq(type_count(results[result].type), n);
  for (uint32_t i = 0; i < n; i++)
    cr_expect_eq(elem_get_f(results[result].data, results[result].type->dtype, i), want[i], "element %u", i);
}

static void refused(Build *b, const char *text) {
  cr_assert_null(import(b, 1000), "accepted, expected: %s", text);
  cr_expect(strstr(diag_text(diag), text), "expected '%s' in: %s", text, diag_text(diag));
}

// y[3,2] -> last state s[2] and the running sums z[3,2]; the body is s + row.
static Build running_sum(const char *shape, Onnx__NodeProto **scan) {
  Build b = build_model(arena, 17), body = build_inside(&b, build_graph(arena));
  const float zeros[2] = {0, 0};
  build_init_f32(&b, "s0", "2", zeros);
  build_input(&b, "y", DT_F32, shape);
  build_input(&body, "s", DT_F32, "2");
  build_input(&body, "row", DT_F32, "2");
  build_output(&body, "sum", DT_F32, "2");
  build_output(&body, "copy", DT_F32, "2");
  build_node(&body, "Add", "add", "s,row", "sum");
  build_node(&body, "Identity", "id", "sum", "copy");
  *scan = build_node(&b, "Scan", "scan", "s0,y", "last,all");
  build_attr_i(&b, *scan, "num_scan_inputs", 1);
  build_attr_g(&b, *scan, "body", body.graph);
  build_output(&b, "last", DT_F32, "2");
  build_output(&b, "all", DT_F32, "?,?");
  return b;
}

Test(onnx_loop, scan_gives_the_last_state) {
  Onnx__NodeProto *scan;
  Build b = running_sum("3,2", &scan);
  expect(&b, 0, 2, (const double[]){9, 12});
}

Test(onnx_loop, scan_stacks_its_outputs) {
  Onnx__NodeProto *scan;
  Build b = running_sum("3,2", &scan);
  expect(&b, 1, 6, (const double[]){1, 2, 4, 6, 9, 12});
}

Test(onnx_loop, scan_runs_backwards_and_along_other_axes) {
  Onnx__NodeProto *scan;
  Build b = running_sum("2,3", &scan);
  const int64_t one = 1;
  build_attr_ints(&b, scan, "scan_input_axes", 1, &one);
  build_attr_ints(&b, scan, "scan_input_directions", 1, &one);
  build_attr_ints(&b, scan, "scan_output_axes", 1, &one);
  expect(&b, 1, 6, (const double[]){3, 5, 6, 6, 11, 15});  // columns (3,6), (2,5), (1,4)
}

Test(onnx_loop, scan_stacks_backwards) {
  Onnx__NodeProto *scan;
  Build b = running_sum("3,2", &scan);
  const int64_t one = 1;
  build_attr_ints(&b, scan, "scan_output_directions", 1, &one);
  expect(&b, 1, 6, (const double[]){9, 12, 4, 6, 1, 2});
}

Test(onnx_loop, scan_needs_a_known_length) {
  Onnx__NodeProto *scan;
  Build b = running_sum("T,2", &scan);
  refused(&b, "give --dim T");
}

Test(onnx_loop, scan_stays_within_the_node_budget) {
  Onnx__NodeProto *scan;
  Build b = running_sum("2000,2", &scan);
  refused(&b, "--max-nodes");
}

// s = s * 2 per step, the step number as scan output; `condition` is what the body says about going on.
static Build doubling(const char *inputs, const char *condition) {
  Build b = build_model(arena, 17), body = build_inside(&b, build_graph(arena));
  const int64_t trip = 5, three = 3;
  const uint8_t yes = 1;
  build_init_i64(&b, "trip", "", &trip);
  build_init(&b, "yes", DT_BOOL, 0, NULL, &yes, 1);
  build_input(&b, "x", DT_F32, "1");
  build_input(&body, "i", DT_I64, "");
  build_input(&body, "go", DT_BOOL, "");
  build_input(&body, "s", DT_F32, "1");
  build_init_i64(&body, "three", "", &three);
  build_node(&body, "Add", "double", "s,s", "t");
  build_node(&body, "Less", "less", "i,three", "small");
  build_node(&body, "Identity", "same", "go", "still");
  build_node(&body, "Greater", "greater", "s,t", "live");
  build_node(&body, "Squeeze", "squeeze", "live", "open");
  build_node(&body, "Identity", "step", "i", "k");
  build_output(&body, condition, DT_BOOL, "");
  build_output(&body, "t", DT_F32, "1");
  build_output(&body, "k", DT_I64, "");
  Onnx__NodeProto *loop = build_node(&b, "Loop", "loop", inputs, "y,steps");
  build_attr_g(&b, loop, "body", body.graph);
  build_output(&b, "y", DT_F32, "1");
  build_output(&b, "steps", DT_I64, "?");
  return b;
}

Test(onnx_loop, loop_counts) {
  Build b = doubling("trip,yes,x", "still");
  expect(&b, 0, 1, (const double[]){32});
}

Test(onnx_loop, loop_without_a_condition_looks_at_none) {
  Build b = doubling("trip,,x", "open");
  expect(&b, 1, 5, (const double[]){0, 1, 2, 3, 4});
}

Test(onnx_loop, loop_ends_by_a_condition_known_at_compile_time) {
  Build b = doubling(",yes,x", "small");  // goes on after steps 0, 1, 2
  expect(&b, 1, 4, (const double[]){0, 1, 2, 3});
}

Test(onnx_loop, loop_without_an_end_is_bounded) {
  Build b = doubling(",yes,x", "still");
  refused(&b, "--max-nodes");
}

Test(onnx_loop, loop_needs_a_known_condition) {
  Build b = doubling("trip,yes,x", "open");
  refused(&b, "a condition that is not known at compile time");
}
