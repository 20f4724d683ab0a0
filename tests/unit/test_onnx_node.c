// Operator importers, one node at a time: what each form of an operator over the opsets becomes, or is told.
//
// A case is text: inputs "x f32 2,3" (run time) or "a i64 2 = 0,1" (initialiser), attributes "axis=1", "mode=edge",
// "alpha=0.5", "pads=[1,2]"; the expectation is every op of the function, joined by "; ", or "!" and a part of the
// message.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/onnx_build.h"

typedef struct NodeCase {
  int64_t opset;
  const char *op, *inputs, *attrs;
  uint32_t n_out;
  const char *want;
} NodeCase;

// ---- the little language

static char *next_part(char **rest, const char *separators) {
  char *s = *rest;
  if (!s) return NULL;
  char *end = strpbrk(s, separators);
  *rest = end ? end + 1 : NULL;
  if (end) *end = 0;
  while (*s == ' ') s++;
  return s;
}

static void add_constant(Build *b, const char *name, DType t, const char *dims, char *values) {
  float f[32];
  int64_t i[32];
  uint32_t n = 0;
  for (char *v; values && (v = next_part(&values, ",")); n++) {
    f[n] = strtof(v, NULL);
    i[n] = strtoll(v, NULL, 10);
  }
  if (t == DT_F32) {
    build_init_f32(b, name, dims, f);
  } else {
    cr_assert_eq(t, DT_I64);
    build_init_i64(b, name, dims, i);
  }
}

// Declares the inputs and gives their names, joined by commas; "_" is an absent input.
static char *add_inputs(Build *b, const char *text) {
  StrBuf names;
  strbuf_init(&names, b->arena);
  char *rest = arena_printf(b->arena, "%s", text), *part;
  for (uint32_t k = 0; *text && (part = next_part(&rest, ";")); k++) {
    if (k) strbuf_putc(&names, ',');
    if (*part == '_') continue;
    char *values = strchr(part, '=');
    if (values) *values++ = 0;
    char *name = next_part(&part, " "), *type = next_part(&part, " "), *dims = part ? next_part(&part, " ") : "";
    DType t = dtype_by_name(type, strlen(type));
    strbuf_puts(&names, name);
    if (values) {
      add_constant(b, name, t, dims, values);
    } else {
      build_input(b, name, t, dims);
    }
  }
  return (char *)strbuf_str(&names);
}

static void add_attr(Build *b, Onnx__NodeProto *n, const char *name, char *value) {
  int64_t ints[16];
  uint32_t count = 0;
  char *end;
  if (*value == '[') {
    value++;
    value[strlen(value) - 1] = 0;
    for (char *rest = *value ? value : NULL, *v; (v = next_part(&rest, ","));) ints[count++] = strtoll(v, NULL, 10);
    build_attr_ints(b, n, name, count, ints);
    return;
  }
  int64_t i = strtoll(value, &end, 10);
  if (!*end) {
    build_attr_i(b, n, name, i);
    return;
  }
  float f = strtof(value, &end);
  if (!*end) {
    build_attr_f(b, n, name, f);
  } else {
    build_attr_s(b, n, name, value);
  }
}

static void add_attrs(Build *b, Onnx__NodeProto *n, const char *text) {
  char *rest = arena_printf(b->arena, "%s", text), *part;
  while (*text && (part = next_part(&rest, ";"))) {
    char *value = strchr(part, '=');
    *value++ = 0;
    add_attr(b, n, part, value);
  }
}

static const char *ops_text(Arena *arena, const Func *f) {
  StrBuf all;
  strbuf_init(&all, arena);
  for (const Op *op = f->first; op; op = op->next) {
    StrBuf one;
    strbuf_init(&one, arena);
    print_op(&one, op);
    const char *s = strbuf_str(&one), *from = strstr(s, " = ");
    strbuf_printf(&all, "%s%s", op == f->first ? "" : "; ", from ? from + 3 : s);
  }
  return strbuf_str(&all);
}

static void run_case(const NodeCase *c) {
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, NULL);
  OnnxOptions opt = onnx_options_default();
  Build b = build_model(arena, c->opset);
  const char *names = add_inputs(&b, c->inputs);
  const char *outs[] = {"y", "y,y1", "y,y1,y2"};
  Onnx__NodeProto *n = build_node(&b, c->op, "n", names, outs[c->n_out - 1]);
  add_attrs(&b, n, c->attrs);
  for (uint32_t i = 0; i < c->n_out; i++) build_output(&b, i == 0 ? "y" : i == 1 ? "y1" : "y2", DT_F32, "?,?");
  size_t size;
  uint8_t *bytes = build_pack(&b, &size);
  Module *m = onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, size, &opt);
  const char *got = m ? ops_text(arena, m->funcs.at[0]) : diag_text(diag);
  if (m) cr_expect(verify_module(m), "%s", diag_text(diag));
  bool same = m ? strcmp(got, c->want) == 0 : c->want[0] == '!' && strstr(got, c->want + 1);
  cr_expect(same, "%s-%lld (%s) {%s}\n  got  %s\n  want %s", c->op, (long long)c->opset, c->inputs, c->attrs, got,
            c->want);
  arena_free(arena);
}

static const NodeCase cases[] = {
    {11, "Softmax", "x f32 2,3,4", "axis=1", 1,
     "reshape %x : f32[2,12]; softmax %0 {axis = 1} : f32[2,12]; reshape %1 : f32[2,3,4]"},
    {11, "Softmax", "x f32 2,3", "", 1, "softmax %x {axis = 1} : f32[2,3]"},
    {13, "Softmax", "x f32 2,3,4", "axis=1", 1, "softmax %x {axis = 1} : f32[2,3,4]"},
    {13, "Hardmax", "x f32 2,3", "", 1,
     "argreduce %x {axis = 1, keepdims = false} : i64[2]; one_hot %0, @c4 {axis = 1, depth = 3} : f32[2,3]"},
    {6, "Add", "x f32 1,3,2,2;b f32 3", "broadcast=1;axis=1", 1, "reshape %b : f32[3,1,1]; add %x, %0 : f32[1,3,2,2]"},
    {7, "Add", "x f32 1,3,2,2;b f32 3", "axis=1", 1, "!do not broadcast"},
    {5, "PRelu", "x f32 1,3,2,2;s f32 3", "", 1, "reshape %s : f32[3,1,1]; prelu %x, %0 : f32[1,3,2,2]"},
    {6, "Clip", "x f32 2", "min=-1.0;max=0.5", 1, "clip %x, f32(-1.0), f32(0.5) : f32[2]"},
    {11, "Clip", "x f32 2;_;h f32 = 3", "", 1, "min %x, f32(3.0) : f32[2]"},
    {13, "Clip", "x i64 2;l i64 = 3", "", 1, "max %x, i64(3) : i64[2]"},
    {20, "Gelu", "x f32 2", "approximate=tanh", 1, "gelu_tanh %x : f32[2]"},
    {13, "Gelu", "x f32 2", "", 1, "!operator Gelu exists from opset 20, the model imports opset 13"},
    {10, "Upsample", "x f32 1,1,2,2;s f32 4 = 1,1,2,2", "", 1, "!operator Upsample exists up to opset 9"},
    {9, "Upsample", "x f32 1,1,2,2;s f32 4 = 1,1,2,2", "mode=linear", 1,
     "resize %x {mode = linear, coord = asymmetric, nearest = floor, scales = [1.0,1.0,2.0,2.0]} : f32[1,1,4,4]"},
    {10, "Resize", "x f32 1,1,2,2;s f32 4 = 1,1,2,2", "mode=linear", 1,
     "resize %x {mode = linear, coord = asymmetric, nearest = floor, scales = [1.0,1.0,2.0,2.0]} : f32[1,1,4,4]"},
    {13, "Resize", "x f32 1,1,5,2;_;s f32 4 = 1,1,0.6,2", "coordinate_transformation_mode=align_corners", 1,
     "resize %x {coord = align_corners, scales = [1.0,1.0,0.6,2.0]} : f32[1,1,3,4]"},
    {18, "Resize", "x f32 1,1,4,2;_;_;z i64 2 = 8,8", "axes=[2,3];keep_aspect_ratio_policy=not_larger", 1,
     "resize %x {scales = [1.0,1.0,2.0,2.0]} : f32[1,1,8,4]"},
    {13, "Resize", "x f32 1,1,4,2", "", 1, "!neither scales nor sizes are given"},
    {9, "Slice", "x f32 4,5", "starts=[1,-2];ends=[1000,-1]", 1, "slice %x {starts = [1,3]} : f32[3,1]"},
    {13, "Slice", "x f32 4,5;s i64 1 = -1;e i64 1 = -9;a i64 1 = 1;t i64 1 = -2", "", 1,
     "slice %x {starts = [0,4], steps = [1,-2]} : f32[4,3]"},
    {13, "Slice", "x f32 4,5;s i64 1;e i64 1 = 3", "", 1, "!give --bind s=FILE.pb"},
    {11, "Split", "x f32 6,2", "axis=0;split=[1,5]", 2,
     "slice %x {starts = [0,0]} : f32[1,2]; slice %x {starts = [1,0]} : f32[5,2]"},
    {13, "Split", "x f32 6,2;s i64 2 = 2,4", "axis=0", 2,
     "slice %x {starts = [0,0]} : f32[2,2]; slice %x {starts = [2,0]} : f32[4,2]"},
    {18, "Split", "x f32 5,2", "axis=0;num_outputs=2", 2,
     "slice %x {starts = [0,0]} : f32[3,2]; slice %x {starts = [3,0]} : f32[2,2]"},
    {13, "Split", "x f32 5,2", "axis=0", 2, "!does not split into 2 equal parts"},
    {2, "Pad", "x f32 2,2", "pads=[0,1,0,1];mode=edge", 1, "pad %x {pads = [0,1,0,1], mode = edge} : f32[2,4]"},
    {18, "Pad", "x f32 2,2;p i64 2 = 1,2;v f32 = 7;a i64 1 = -1", "", 1,
     "pad %x {pads = [0,1,0,2], value = 7.0} : f32[2,5]"},
    {11, "Pad", "x f32 2,2;p i64 4 = 0,0,0,0", "", 1, ""},
    {4, "Reshape", "x f32 2,6", "shape=[0,-1,3]", 1, "reshape %x : f32[2,2,3]"},
    {13, "Reshape", "x f32 2,6;s i64 2 = 5,-1", "", 1, "!12 elements do not divide into rows of 5"},
    {14, "Reshape", "x f32 0,6;s i64 2 = 3,0", "allowzero=1", 1, "reshape %x : f32[3,0]"},
    {11, "Squeeze", "x f32 1,2,1", "axes=[0]", 1, "reshape %x : f32[2,1]"},
    {13, "Squeeze", "x f32 1,2,1", "", 1, "reshape %x : f32[2]"},
    {13, "Squeeze", "x f32 1,2;a i64 1 = 1", "", 1, "!axis 1 has extent 2, not 1"},
    {13, "Unsqueeze", "x f32 2;a i64 2 = 0,-1", "", 1, "reshape %x : f32[1,2,1]"},
    {9, "Flatten", "x f32 2,3,4", "axis=2", 1, "reshape %x : f32[6,4]"},
    {11, "DepthToSpace", "x f32 1,8,2,3", "blocksize=2;mode=CRD", 1,
     "reshape %x : f32[1,2,2,2,2,3]; transpose %0 {perm = [0,1,4,2,5,3]} : f32[1,2,2,2,3,2]; reshape %1 : "
     "f32[1,2,4,6]"},
    {13, "SpaceToDepth", "x f32 1,2,4,6", "blocksize=2", 1,
     "reshape %x : f32[1,2,2,2,3,2]; transpose %0 {perm = [0,3,5,1,2,4]} : f32[1,2,2,2,2,3]; reshape %1 : "
     "f32[1,8,2,3]"},
    {9, "TopK", "x f32 2,5", "k=2", 2, "topk %x {k = 2} : f32[2,2], i64[2,2]"},
    {9, "ReduceSum", "x f32 2,3", "axes=[-1];keepdims=0", 1, "reduce %x {axes = [1], keepdims = false} : f32[2]"},
    {13, "ReduceSum", "x f32 2,3;a i64 1 = 0", "", 1, "reduce %x {axes = [0]} : f32[1,3]"},
    {18, "ReduceMean", "x f32 2,3", "noop_with_empty_axes=1", 1, ""},
    {18, "ReduceL2", "x f32 2,3", "", 1, "reduce %x {op = l2, axes = [0,1]} : f32[1,1]"},
    {13, "Gemm", "x f32 2,3;w f32 3,2 = 1,2,3,4,5,6;b f32 2 = 1,2", "alpha=0.5;beta=2.0", 1,
     "matmul %x, @c5, @c3 : f32[2,2]"},
    {13, "Gemm", "x f32 3,2;w f32 4,3;b f32 4", "alpha=0.5;transA=1;transB=1", 1,
     "matmul %x, %w {trans_a = true, trans_b = true} : f32[2,4]; mul %0, f32(0.5) : f32[2,4]; add %1, %b : f32[2,4]"},
    {12, "Einsum", "x f32 2,3;w f32 5,3,4", "equation=ij, ...jk", 1,
     "einsum %x, %w {equation = \"ij,Ajk->Aik\"} : f32[5,2,4]"},
    {12, "Einsum", "x f32 1,2,3;w f32 5,3,4", "equation=...ij,...jk->...ik", 1,
     "reshape %x : f32[2,3]; einsum %0, %w {equation = \"ij,Ajk->Aik\"} : f32[5,2,4]"},
    {12, "Einsum", "x f32 2,3", "equation=ij->ik", 1, "!result term"},
    {11, "Conv", "x f32 1,2,5,5;w f32 3,2,3,3", "auto_pad=SAME_UPPER;strides=[2,2]", 1,
     "conv %x, %w {strides = [2,2], pads = [1,1,1,1]} : f32[1,3,3,3]"},
    {11, "Conv", "x f32 1,2,5,4;w f32 3,2,2,2", "auto_pad=SAME_LOWER", 1,
     "conv %x, %w {pads = [1,1,0,0]} : f32[1,3,5,4]"},
    {11, "Conv", "x f32 1,2,5,5;w f32 3,2,3,3", "kernel_shape=[3,2]", 1, "!kernel_shape[1] is 2, the weights have 3"},
    {11, "Conv", "x f32 1,2,5,5;w f32 3,2,3,3", "pads=[1,1]", 1, "!do not fit 2 spatial axes"},
    {11, "ConvTranspose", "x f32 1,2,3,3;w f32 2,1,3,3", "strides=[2,2];output_shape=[6,7]", 1,
     "conv_transpose %x, %w {strides = [2,2], pads = [1,0,0,0]} : f32[1,1,6,7]"},
    {11, "ConvTranspose", "x f32 1,2,3,3;w f32 2,1,3,3", "strides=[3,2];output_shape=[10,8]", 1,
     "conv_transpose %x, %w {strides = [3,2], output_padding = [1,1]} : f32[1,1,10,8]"},
    {11, "MaxPool", "x f32 1,2,5,5", "kernel_shape=[2,2];strides=[2,2];ceil_mode=1", 1,
     "maxpool %x {kernel = [2,2], strides = [2,2], ceil_mode = true} : f32[1,2,3,3], i64[1,2,3,3]"},
    {11, "MaxPool", "x f32 1,2,5,5", "", 1, "!attribute kernel_shape is missing"},
    {11, "GlobalAveragePool", "x f32 1,2,5,5", "", 1, "reduce %x {op = mean, axes = [2,3]} : f32[1,2,1,1]"},
    {9, "BatchNormalization", "x f32 1,2,3;s f32 2;b f32 2;m f32 2;v f32 2", "", 1,
     "batchnorm %x, %s, %b, %m, %v : f32[1,2,3]"},
    {7, "BatchNormalization", "x f32 1,2,3;s f32 2;b f32 2;m f32 2;v f32 2", "spatial=0", 1, "!spatial = 0"},
    {14, "BatchNormalization", "x f32 1,2,3;s f32 2;b f32 2;m f32 2;v f32 2", "training_mode=1", 1,
     "!training_mode = 1"},
    {18, "GroupNormalization", "x f32 1,4,3;s f32 2;b f32 2", "num_groups=2", 1,
     "reshape %s : f32[2,1]; expand %0 : f32[2,2]; reshape %1 : f32[4]; reshape %b : f32[2,1]; expand %3 : f32[2,2]; "
     "reshape %4 : f32[4]; group_norm %x, %2, %5 {groups = 2} : f32[1,4,3]"},
    {21, "GroupNormalization", "x f32 1,4,3;s f32 4;b f32 4", "num_groups=2", 1,
     "group_norm %x, %s, %b {groups = 2} : f32[1,4,3]"},
    {11, "Dropout", "x f32 2", "ratio=0.3", 1, ""},
    {13, "Shape", "x f32 2,3", "", 1, ""},
    {13, "OneHot", "x i64 2;d i64 = 3;v f32 2 = 0,1", "axis=0", 1, "one_hot %x, @v {axis = 0, depth = 3} : f32[3,2]"},
    {13, "CumSum", "x f32 2,3;a i64", "", 1,
     "cumsum %x : f32[2,3]; equal %a, i64(1) : bool[]; equal %a, i64(-1) : bool[]; cumsum %x {axis = 1} : f32[2,3]; or "
     "%1, %2 : bool[]; select %4, %3, %0 : f32[2,3]"},
    {5, "Cast", "x f32 2", "to=INT64", 1, "cast %x : i64[2]"},
    {13, "Cast", "x f32 2", "to=8", 1, "!conversion to str"},
    {13, "Cast", "x f32 2", "to=99", 1, "!conversion to an unknown type"},
    {13, "Mod", "x f32 2;z f32 2", "", 1, "!float operands need fmod = 1"},
    {13, "LSTM", "x f32 4,2,3;w f32 1,8,3;r f32 1,8,2", "hidden_size=3", 1, "!hidden_size is 3"},
    {13, "LSTM", "x f32 4,2,3;w f32 1,8,3;r f32 1,8,2;_;l i64 2 = 4,4", "direction=reverse", 1,
     "lstm %x, %w, %r {direction = reverse} : f32[4,1,2,2], f32[1,2,2], f32[1,2,2]"},
    {13, "Frobnicate", "x f32 2", "", 1, "!operator Frobnicate, 1 time"},
    {13, "Relu", "x f32 2;z f32 2", "", 1, "!2 inputs, expected 1 to 1"},
    {13, "Relu", "x f32 2", "alpha=0.5", 1, "!attribute 'alpha' is unknown"},
    {13, "Concat", "x f32 2;z f32 2", "", 1, "!attribute axis is missing"},
    {13, "Transpose", "x f32 2,3", "perm=[0,0]", 1, "!perm is not a permutation"},
    {13, "LeakyRelu", "x f32 2", "alpha=1", 1, "!alpha"},
};

Test(onnx_node, one_node_each) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(&cases[i]);
}
