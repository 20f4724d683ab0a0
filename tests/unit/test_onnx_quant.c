// Quantised operators of every dialect: one node each, imported, interpreted, compiled for this machine and for one of
// 128 bits without masks (kernel interpreter), against values worked out by hand.
//
// A case is text. Inputs are "name type dims = values", the first is fed at run time, the others are initialisers; "_"
// is an absent input; an attribute with "|" is a list of strings. The expectation is the elements of the first output,
// or "!" and a part of the message.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx.h"
#include "passes/pipeline.h"
#include "tests/onnx_build.h"
#include "tests/unit/lower_case.h"

typedef struct QuantCase {
  const char *domain, *op, *inputs, *attrs, *want;
} QuantCase;

#define MS "com.microsoft"
#define QONNX "qonnx.custom_op.general"

static char *next_part(char **rest, const char *separators) {
  char *s = *rest;
  if (!s) return NULL;
  char *end = strpbrk(s, separators);
  *rest = end ? end + 1 : NULL;
  if (end) *end = 0;
  while (*s == ' ') s++;
  return s;
}

typedef struct Fed {
  DType type;
  uint32_t n;
  double v[64];
} Fed;

static void add_init(Build *b, const char *name, DType t, const char *dims, const Fed *fed) {
  int64_t d[8], rank = 0;
  for (const char *p = dims; *p; p++) {
    d[rank++] = strtoll(p, (char **)&p, 10);
    if (!*p) break;
  }
  uint8_t *bytes = NEW_ARRAY(b->arena, uint8_t, 8 * sizeof fed->v);
  for (uint32_t i = 0; i < fed->n; i++) elem_set_f(bytes, t, i, fed->v[i]);
  build_init(b, name, t, (uint32_t)rank, d, bytes, ((size_t)fed->n * dtype_info(t)->bits + 7) / 8);
}

static const char *add_inputs(Build *b, const char *text, Fed *first) {
  StrBuf names;
  strbuf_init(&names, b->arena);
  char *rest = arena_printf(b->arena, "%s", text), *part;
  for (uint32_t k = 0; (part = next_part(&rest, ";")); k++) {
    if (k) strbuf_putc(&names, ',');
    if (*part == '_') continue;
    char *values = strchr(part, '=');
    *values++ = 0;
    char *name = next_part(&part, " "), *type = next_part(&part, " "), *dims = part ? next_part(&part, " ") : "";
    Fed fed = {.type = dtype_by_name(type, strlen(type))};
    for (char *v; (v = next_part(&values, ",")); fed.n++) fed.v[fed.n] = strtod(v, NULL);
    strbuf_puts(&names, name);
    if (k == 0) {
      *first = fed;
      build_input(b, name, fed.type, dims);
    } else {
      add_init(b, name, fed.type, dims, &fed);
    }
  }
  return strbuf_str(&names);
}

static void add_attrs(Build *b, Onnx__NodeProto *n, const char *text) {
  char *rest = arena_printf(b->arena, "%s", text), *part, *end;
  while (*text && (part = next_part(&rest, ";"))) {
    char *value = strchr(part, '=');
    *value++ = 0;
    long i = strtol(value, &end, 10);
    if (strchr(value, '|')) {
      const char *strs[8];
      uint32_t count = 0;
      for (char *all = value, *v; (v = next_part(&all, "|"));) strs[count++] = v;
      build_attr_strs(b, n, part, count, strs);
    } else if (*value == '[') {
      int64_t ints[8];
      uint32_t count = 0;
      value++;
      value[strlen(value) - 1] = 0;
      for (char *all = value, *v; (v = next_part(&all, ","));) ints[count++] = strtoll(v, NULL, 10);
      build_attr_ints(b, n, part, count, ints);
    } else if (!*end) {
      build_attr_i(b, n, part, i);
    } else if (strtof(value, &end), !*end) {
      build_attr_f(b, n, part, strtof(value, NULL));
    } else {
      build_attr_s(b, n, part, value);
    }
  }
}

static const char *elements(Arena *arena, const Tensor *t) {
  StrBuf s;
  strbuf_init(&s, arena);
  for (int64_t i = 0; i < type_count(t->type); i++)
    strbuf_printf(&s, "%s%.9g", i ? "," : "", elem_get_f(t->data, t->type->dtype, i) + 0.0);
  return strbuf_str(&s);
}

static bool same_elements(const char *got, const char *want) {
  char *g, *w;
  for (;; got = g + 1, want = w + 1) {
    double a = strtod(got, &g), b = strtod(want, &w);
    bool same = a == b || (isnan(a) && isnan(b));
    if (g == got || w == want || !same || *g != *w) return false;
    if (!*g) return true;
  }
}

static const char *evaluated(Arena *arena, Module *m, const Fed *fed) {
  Func *f = m->funcs.at[0];
  Tensor x = {0}, *results = NEW_ARRAY(arena, Tensor, f->n_results);
  if (f->n_args) x = tensor_new(arena, f->args[0]->type);
  for (uint32_t i = 0; f->n_args && i < fed->n; i++) elem_set_f(x.data, x.type->dtype, i, fed->v[i]);
  if (!eval_func(f, &x, results, arena, NULL, NULL)) return diag_text(m->diag);
  return elements(arena, &results[0]);
}

// The first result after the whole pipeline, or the messages.
static const char *compiled(Arena *arena, Module *m, const Target *target, LowerRun *run, const Fed *fed) {
  Func *f = m->funcs.at[0];
  const Type *y_type = f->results[0]->type;
  const PassOptions opt = pass_options_default();
  const RunOptions run_opt = {.verify_each = true};
  const void *in[1] = {NULL};
  void *out[8];
  Tensor x = {0}, y = {0};
  if (f->n_args) {
    x = tensor_new(arena, f->args[0]->type);
    for (uint32_t i = 0; i < fed->n; i++) elem_set_f(x.data, x.type->dtype, i, fed->v[i]);
    in[0] = x.data;
  }
  for (uint32_t i = 0; i < f->n_results; i++) {
    Tensor result = tensor_new(arena, f->results[i]->type);
    out[i] = result.data;
    if (i == 0) y = result;
  }
  if (!pipeline_run(m, target, pipeline_default, &opt, &run_opt, arena, NULL)) return diag_text(m->diag);
  y.type = y_type;
  return run(m, target, in, out) ? elements(arena, &y) : diag_text(m->diag);
}

typedef enum RunBy { BY_EVAL, BY_JIT, BY_KEVAL } RunBy;
static const char *const run_names[] = {"interpreted", "on this machine", "128 bits"};

static void run_case(const QuantCase *c, RunBy by) {
  Arena *arena = arena_new("test");
  Diag *diag = diag_new(arena, NULL);
  OnnxOptions opt = onnx_options_default();
  Build b = build_model(arena, 25);
  Fed fed = {0};
  const char *names = add_inputs(&b, c->inputs, &fed);
  if (*c->domain) build_opset(&b, c->domain, 1);
  Onnx__NodeProto *n = build_node(&b, c->op, "bad", names, "y");
  n->domain = arena_printf(arena, "%s", c->domain);
  add_attrs(&b, n, c->attrs);
  build_output(&b, "y", DT_F32, "?");
  size_t size;
  uint8_t *bytes = build_pack(&b, &size);
  Module *m = onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, size, &opt);
  if (m) cr_expect(verify_module(m), "%s", diag_text(diag));
  const char *got = diag_text(diag);
  if (m && by == BY_EVAL) got = evaluated(arena, m, &fed);
  if (m && by == BY_JIT) got = compiled(arena, m, target_native(), lower_jit, &fed);
  if (m && by == BY_KEVAL) got = compiled(arena, m, &lower_narrow, lower_keval, &fed);
  bool same = m ? same_elements(got, c->want) : c->want[0] == '!' && strstr(got, c->want + 1);
  cr_expect(same, "%s:%s (%s) {%s} %s\n  got  %s\n  want %s", c->domain, c->op, c->inputs, c->attrs, run_names[by], got,
            c->want);
  arena_free(arena);
}

static void run_all(const QuantCase *c, size_t n) {
  for (size_t i = 0; i < n; i++)
    for (int by = BY_EVAL; by <= BY_KEVAL; by++) run_case(&c[i], (RunBy)by);
}
#define RUN(cases) run_all(cases, sizeof cases / sizeof *cases)

// ---- QONNX

#define TIES "x f32 10 = 5.5,2.5,1.6,1.1,1.0,-1.0,-1.1,-1.6,-2.5,-5.5"
#define UNIT ";s f32 = 1;z f32 = 0;b f32 = 8"
#define EDGES "x f32 5 = 3e9,-3e9,inf,-inf,nan"

static const QuantCase qonnx[] = {
    {QONNX, "Quant", TIES UNIT, "rounding_mode=ROUND", "6,2,2,1,1,-1,-1,-2,-2,-6"},
    {QONNX, "IntQuant", TIES UNIT, "rounding_mode=half_even", "6,2,2,1,1,-1,-1,-2,-2,-6"},
    {"onnx.brevitas", "Quant", TIES UNIT, "rounding_mode=CEIL", "6,3,2,2,1,-1,-1,-1,-2,-5"},
    {"finn.custom_op.general", "Quant", TIES UNIT, "rounding_mode=FLOOR", "5,2,1,1,1,-1,-2,-2,-3,-6"},
    {"", "Quant", TIES UNIT, "rounding_mode=UP", "6,3,2,2,1,-1,-2,-2,-3,-6"},
    {QONNX, "Quant", TIES UNIT, "rounding_mode=DOWN", "5,2,1,1,1,-1,-1,-1,-2,-5"},
    {QONNX, "Quant", TIES UNIT, "rounding_mode=HALF_UP", "6,3,2,1,1,-1,-1,-2,-3,-6"},
    {QONNX, "Quant", TIES UNIT, "rounding_mode=Half_Down", "5,2,2,1,1,-1,-1,-2,-2,-5"},
    {QONNX, "Quant", TIES UNIT, "rounding_mode=NEAREST", "!rounding_mode 'NEAREST'"},
    // range: signed, narrow, unsigned, unsigned narrow; NaN stays
    {QONNX, "Quant", EDGES ";s f32 = 1;z f32 = 0;b f32 = 4", "signed=1;narrow=0", "7,-8,7,-8,nan"},
    {QONNX, "Quant", EDGES ";s f32 = 1;z f32 = 0;b f32 = 4", "signed=1;narrow=1", "7,-7,7,-7,nan"},
    {QONNX, "Quant", EDGES ";s f32 = 1;z f32 = 0;b f32 = 3", "signed=0;narrow=0", "7,0,7,0,nan"},
    {QONNX, "Quant", EDGES ";s f32 = 1;z f32 = 0;b f32 = 3", "signed=0;narrow=1", "6,0,6,0,nan"},
    // the zero point comes before the rounding: 0.5 + 1 rounds to 2
    {QONNX, "Quant", "x f32 3 = 0.5,1.5,-0.5;s f32 = 1;z f32 = 1;b f32 = 8", "", "1,1,-1"},
    {QONNX, "Quant", "x f32 2 = 4,-4;s f32 = 0.25;z f32 = 3;b f32 = 4", "signed=0", "3,-0.75"},
    // one bit, signed: the sign, 0 is positive
    {QONNX, "Quant", "x f32 5 = 7,0,-0.0,-0.1,nan;s f32 = 2;z f32 = 0;b f32 = 1", "", "2,2,2,-2,-2"},
    {QONNX, "Quant", "x f32 2 = 7,-7;s f32 = 1;z f32 = 0;b f32 = 1", "signed=0", "1,0"},
    // bounds of a fraction of a bit: 2^2.5 = 5.657
    {QONNX, "Quant", "x f32 2 = 9,-9;s f32 = 1;z f32 = 0;b f32 = 3.5", "", "5,-6"},
    // per channel: scales and bit widths
    {QONNX, "Quant", "x f32 2,2 = 1,5,1,5;s f32 2,1 = 2,1;z f32 = 0;b f32 = 8", "", "0,4,1,5"},
    {QONNX, "Quant", "x f32 2,2 = 9,-9,9,-9;s f32 = 1;z f32 = 0;b f32 2,1 = 2,3", "", "1,-2,3,-4"},
    {QONNX, "Quant", "x f32 1 = 1;s f32 = 1;z f32 = 0;b f32 = 0", "", "!bit width of 0"},
    {QONNX, "Quant", "x f32 1 = 1;s f32 = 1;z f32 = 0;b f32 = 100", "", "!bit width of 100"},
    {QONNX, "Quant", "x f32 3 = 1,2,3;s f32 2 = 1,1;z f32 = 0;b f32 = 8", "", "!'bad'"},
    {QONNX, "BipolarQuant", "x f32 5 = -1,0,-0.0,3,nan;s f32 = 0.5", "", "-0.5,0.5,0.5,0.5,-0.5"},
    // Trunc: five inputs keep the scale, six change it
    {QONNX, "Trunc", "x f32 4 = 24,-24,40,16;s f32 = 1;z f32 = 0;i f32 = 8;o f32 = 4", "", "1,-2,2,1"},
    {QONNX, "Trunc", "x f32 4 = 24,-24,40,16;s f32 = 1;z f32 = 0;i f32 = 8;o f32 = 4", "rounding_mode=ROUND",
     "2,-2,2,1"},
    {QONNX, "Trunc", "x f32 2 = 24,-24;s f32 = 1;z f32 = 0;i f32 = 8;o f32 = 4", "rounding_mode=CEIL", "2,-1"},
    {QONNX, "Trunc", "x f32 2 = 6,7.5;s f32 = 0.5;z f32 = 4;i f32 = 6;o f32 = 4", "", "0,0"},
    {QONNX, "Trunc", "x f32 4 = 24,-24,200,-200;s f32 = 1;z f32 = 0;i f32 = 8;t f32 = 16;o f32 = 4", "",
     "16,-32,112,-128"},
    {QONNX, "Trunc", "x f32 4 = 24,40,200,-200;s f32 = 1;z f32 = 0;i f32 = 8;t f32 = 16;o f32 = 4",
     "rounding_mode=ROUND;narrow=1", "32,32,112,-112"},
    {QONNX, "Trunc", "x f32 2 = 300,-5;s f32 = 1;z f32 = 0;i f32 = 9;t f32 = 16;o f32 = 4", "signed=0", "240,0"},
    // 3 mantissa bits: steps of 1/8 from 1 to 2; the smallest step is 2^-9; 464 is past 448
    {QONNX, "FloatQuant",
     "x f32 6 = 1.0625,1.1875,0.00390625,464,-1e9,0.0009765625;s f32 = 1;e f32 = 4;m f32 = 3;b f32 = 7;t f32 = 448", "",
     "1,1.25,0.00390625,448,-448,0"},
    {QONNX, "FloatQuant", "x f32 3 = 1.0625,-1.0625,1.01;s f32 = 1;e f32 = 4;m f32 = 3;b f32 = 7;t f32 = 448",
     "rounding_mode=CEIL", "1.125,-1,1.125"},
    // thresholds are inclusive; the order of a row does not matter; per channel and shared; layouts
    {QONNX, "MultiThreshold", "x f32 1,4 = 0,1,1.5,9;t f32 1,3 = 2,1,0", "", "1,2,2,3"},
    {QONNX, "MultiThreshold", "x f32 1,2,2 = 0,1,0,1;t f32 2,1 = 0.5,1", "data_layout=NCW;out_scale=2.0;out_bias=-1.0",
     "-1,1,-1,1"},
    {QONNX, "MultiThreshold", "x f32 1,2,2 = 0,1,1,0;t f32 2,1 = 0,5", "", "1,0,1,0"},
    {QONNX, "MultiThreshold", "x f32 1,2,2,3 = 0,1,0,1,0,0,1,0,2,0,0,3;t f32 2,1 = 0.5,2", "",
     "0,1,0,1,0,0,0,0,1,0,0,1"},
    {QONNX, "MultiThreshold", "x f32 1,2 = 0,1;t f32 1,1,2 = 0,1", "", "!thresholds of rank 3"},
    {QONNX, "XnorPopcountMatMul", "x f32 2,3 = 1,0,1,0,0,0;w f32 3,1 = 1,1,1", "", "2,0"},
    // sum 3+3+3+3 = 12 of 2-bit inputs takes 4 bits: down to 2 bits by a shift of 2
    {QONNX, "QuantAvgPool2d", "x f32 1,1,2,2 = 3,3,3,2", "kernel=2;stride=1;ibits=2;obits=2;signed=0", "2"},
    {QONNX, "Im2Col", "x f32 1,2,2,1 = 1,2,3,4", "kernel_size=[1,2];stride=[1,1];pad_amount=[0,0,0,1]",
     "1,2,2,0,3,4,4,0"},
};

Test(onnx_quant, qonnx) { RUN(qonnx); }

// ---- ONNX

static const QuantCase onnx_ops[] = {
    {"", "QuantizeLinear", "x f32 6 = 0.5,1.5,2.5,-0.5,-1.5,-2.5;s f32 = 1;z i8 = 0", "", "0,2,2,0,-2,-2"},
    // the zero point comes after the rounding: round(0.5) + 1
    {"", "QuantizeLinear", "x f32 2 = 0.5,1.5;s f32 = 1;z u8 = 1", "", "1,3"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z u8 = 3", "", "255,0,255,0,0"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z i8 = -3", "", "127,-128,127,-128,-128"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z i16 = 5", "", "32767,-32768,32767,-32768,-32768"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z u16 = 5", "", "65535,0,65535,0,0"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z i4 = 1", "", "7,-8,7,-8,-8"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z u4 = 1", "", "15,0,15,0,0"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z i2 = 0", "", "1,-2,1,-2,-2"},
    {"", "QuantizeLinear", EDGES ";s f32 = 1;z u2 = 0", "", "3,0,3,0,0"},
    {"", "QuantizeLinear", "x f32 2,2 = 1,2,3,4;s f32 2 = 1,2;z u8 2 = 0,10", "axis=0", "1,2,12,12"},
    {"", "QuantizeLinear", "x f32 2,2 = 1,2,3,4;s f32 2 = 1,2", "", "1,1,3,2"},
    {"", "QuantizeLinear", "x f32 1,4 = 1,2,3,6;s f32 1,2 = 1,2;z u8 1,2 = 0,1", "axis=1;block_size=2", "1,2,3,4"},
    {"", "QuantizeLinear", "x f32 1 = 1;s f32 = 0", "", "!scale is 0"},
    {"", "DequantizeLinear", "x i4 3 = -8,0,7;s f32 = 0.5;z i4 = 1", "", "-4.5,-0.5,3"},
    {"", "DequantizeLinear", "x u2 4 = 0,1,2,3;s f32 = 2", "", "0,2,4,6"},
    {"", "DequantizeLinear", "x u8 2,2 = 1,2,3,4;s f32 2 = 1,10;z u8 2 = 1,2", "axis=0", "0,1,10,20"},
    {"", "DequantizeLinear", "x i32 2 = 7,-7;s f32 = 0.5", "", "3.5,-3.5"},
    {"", "DequantizeLinear", "x f8e4m3fn 3 = 1.5,-448,0.25;s f32 = 2", "", "3,-896,0.5"},
    {"", "DequantizeLinear", "x f4e2m1 3 = 6,-1.5,0.5;s f32 = 2", "", "12,-3,1"},
    {"", "QuantizeLinear", "x f32 4 = 2.5,-1000,0.125,nan;s f32 = 0.5;z f8e4m3fn = 0", "", "5,-448,0.25,nan"},
    {"", "QuantizeLinear", "x f32 4 = 2.5,-1000,0.125,1.75;s f32 = 0.5;z f4e2m1 = 0", "", "4,-6,0,4"},
    // the example of the specification
    {"", "DynamicQuantizeLinear", "x f32 6 = 0,2,-3,-2.5,1.34,0.5", "", "153,255,0,26,221,179"},
    {"", "MatMulInteger", "x u8 1,2 = 3,5;b u8 2,1 = 2,4;z u8 = 1;w u8 = 2", "", "8"},
    {"", "MatMulInteger", "x u8 2,1 = 3,5;b i8 1,2 = 2,4;z u8 = 1;w i8 2 = 0,1", "", "4,6,8,12"},
    // the padding is the zero point: 0 after it is taken off
    {"", "ConvInteger", "x u8 1,1,2 = 3,5;w i8 1,1,2 = 1,10;z u8 = 1", "pads=[1,1]", "20,42,4"},
    // (2 * 3) * (0.5 * 0.5 / 1) = 1.5 and 2.5: half to even, then + 1
    {"", "QLinearMatMul",
     "x u8 2,1 = 3,5;sa f32 = 0.5;za u8 = 0;b i8 1,1 = 2;sb f32 = 0.5;zb i8 = 0;sy f32 = 1;zy u8 = 1", "", "3,3"},
    {"", "QLinearConv",
     "x u8 1,1,2 = 3,5;sx f32 = 0.5;zx u8 = 1;w i8 2,1,1 = 1,-1;sw f32 2 = 1,2;zw i8 2 = 0,0;sy f32 = 1;zy u8 = 3;c "
     "i32 2 = 1,0",
     "", "5,5,1,0"},
};

Test(onnx_quant, onnx) { RUN(onnx_ops); }

// ---- com.microsoft

static const QuantCase microsoft[] = {
    // 1 * 1 + (5 * 0.5 + 8) = 11.5 and 10.5: ties of the sum with the zero point
    {MS, "QLinearAdd",
     "x u8 3 = 10,1,1;a f32 = 0.5;p u8 = 0;h u8 3 = 6,5,3;b f32 = 0.25;q u8 = 4;c f32 = 0.5;r u8 = 10", "", "21,12,10"},
    {MS, "QLinearAdd", "x i8 2 = 127,-128;a f32 = 1;p i8 = 0;h i8 2 = 127,-128;b f32 = 1;q i8 = 0;c f32 = 1;r i8 = 0",
     "", "127,-128"},
    // 0.5 + 1 and 1.5 + 1
    {MS, "QLinearMul", "x u8 2 = 1,3;a f32 = 0.5;p u8 = 0;h u8 = 1;b f32 = 1;q u8 = 0;c f32 = 1;r u8 = 1", "", "2,2"},
    {MS, "QLinearLeakyRelu", "x i8 3 = 4,-4,-100;a f32 = 0.5;p i8 = 0;c f32 = 0.25;r i8 = 1", "alpha=0.5", "9,-3,-99"},
    {MS, "QLinearSigmoid", "x u8 2 = 128,255;a f32 = 1;p u8 = 128;c f32 = 0.00390625;r u8 = 0", "", "128,255"},
    {MS, "QLinearAveragePool", "x u8 1,1,2 = 1,2;a f32 = 1;p u8 = 0;c f32 = 1;r u8 = 1", "kernel_shape=[2]", "2"},
    {MS, "QLinearGlobalAveragePool", "x u8 1,2,2 = 1,2,3,6;a f32 = 1;p u8 = 1;c f32 = 1;r u8 = 1", "", "1,5"},
    {MS, "QLinearGlobalAveragePool", "x u8 1,2,2 = 1,2,3,6;a f32 = 1;p u8 = 0;c f32 = 1;r u8 = 0", "channels_last=1",
     "2,4"},
    // one element has everything: 256 saturates; two equal ones share it
    {MS, "QLinearSoftmax", "x u8 1,1 = 9;a f32 = 0.1;p u8 = 0;c f32 = 0.00390625;r u8 = 0", "opset=13", "255"},
    {MS, "QLinearSoftmax", "x u8 1,2 = 9,9;a f32 = 0.1;p u8 = 0;c f32 = 0.00390625;r u8 = 0", "opset=13", "128,128"},
    // a run-time scale
    {MS, "QLinearConcat", "c f32 = 0.5;r u8 = 1;x u8 1 = 3;a f32 = 1;p u8 = 0;h u8 1 = 4;b f32 = 0.5;q u8 = 1",
     "axis=0", "7,4"},
    {MS, "QLinearWhere",
     "k bool 2 = 1,0;x u8 2 = 3,3;a f32 = 1;p u8 = 0;h u8 2 = 4,4;b f32 = 0.5;q u8 = 1;c f32 = 0.5;r u8 = 1", "",
     "7,4"},
    {MS, "QGemm",
     "x u8 1,2 = 3,1;a f32 = 0.5;p u8 = 1;w i8 2,1 = 3,1;b f32 1 = 1;q i8 1 = 0;d i32 1 = 1;c f32 = 1;r u8 = 2",
     "alpha=1.0", "6"},
    {MS, "QGemm", "x u8 1,2 = 3,1;a f32 = 0.5;p u8 = 1;w i8 1,2 = 3,1;b f32 1 = 1;q i8 1 = 0", "transB=1;alpha=2.0",
     "6"},
    {MS, "MatMulIntegerToFloat",
     "x u8 1,1 = 3;w i8 1,2 = 2,4;a f32 = 0.5;b f32 2 = 1,2;p u8 = 1;q i8 2 = 0,1;d f32 2 = 0,1", "", "2,7"},
    // the lowest bits of a byte come first; the default zero point is the middle
    {MS, "MatMulNBits",
     "x f32 1,16 = 3,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1;w u8 1,1,8 = 137,136,136,136,136,136,136,136;s f32 1 = 2",
     "K=16;N=1;bits=4;block_size=16", "6"},
    {MS, "MatMulNBits", "x f32 1,16 = 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1;w u8 1,1,4 = 228,0,0,0;s f32 1 = 1;z u8 1 = 1",
     "K=16;N=1;bits=2;block_size=16", "-10"},
    {MS, "MatMulNBits", "x f32 1,16 = 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1;w u8 1,1,4 = 228,0,0,0;s f32 1 = 1",
     "K=16;N=1;bits=4;block_size=16", "!do not fit"},
    // i = f = o = 1/2: the cell is 2 / 2, then 1 / 2 + (2 + 2 h) / 2
    {MS, "DynamicQuantizeLSTM",
     "x f32 2,1,1 = 1,1;w u8 1,1,4 = 1,1,1,3;r i8 1,1,4 = 0,0,0,2;_;_;_;_;_;a f32 1 = 1;p u8 1 = 1;b f32 1,4 = "
     "1,1,1,1;q "
     "i8 1,4 = 0,0,0,0",
     "activations=HardSigmoid|Relu|Relu", "0.5,1"},
    {MS, "DynamicQuantizeLSTM", "x f32 1,1,1 = 1;w i8 1,1,4 = 0,0,0,2;r i8 1,1,4 = 0,0,0,2", "", "!input 8 is missing"},
    {MS, "DynamicQuantizeLSTM",
     "x f32 1,1,1 = 1;w i8 1,1,4 = 0,0,0,2;r i8 1,1,4 = 0,0,0,2;_;_;_;_;_;a f32 1 = 1;p i8 1 = 0;b f32 3 = 1,1,1;q i8 "
     "1 = "
     "0",
     "", "!input 10 is f32[3]"},
    {MS, "DynamicQuantizeLSTM",
     "x f32 2,1,1 = 1,1;w i8 1,1,4 = 0,0,0,2;r i8 1,1,4 = 0,0,0,2;_;n i32 1 = 1;_;_;_;a f32 1 = 1;p i8 1 = 0;b f32 1 = "
     "1;q i8 1 = 0",
     "", "!sequence_lens"},
    {MS, "FusedMatMul", "x f32 1,2 = 1,2;h f32 1,2 = 3,4", "transB=1;alpha=0.5", "5.5"},
    {MS, "FusedConv", "x f32 1,1,2 = 1,-2;w f32 1,1,1 = 2;b f32 1 = 1", "activation=Relu", "3,0"},
    {MS, "FusedConv", "x f32 1,1,2 = 1,-2;w f32 1,1,1 = 2", "activation=Erf", "!activation 'Erf'"},
    {MS, "BiasGelu", "x f32 1 = 1;b f32 1 = -1", "", "0"},
    {MS, "SkipLayerNormalization", "x f32 1,2 = 1,3;h f32 1,2 = 0,0;g f32 2 = 1,1;b f32 2 = 5,5", "epsilon=0.0", "4,6"},
    {"", "SimplifiedLayerNormalization", "x f32 1,2 = 3,-3;g f32 2 = 2,1", "epsilon=0.0", "2,-1"},
};

Test(onnx_quant, microsoft) { RUN(microsoft); }

// ---- 8-bit floats: every half through Cast equals the element writer

static void cast_all_halves(DType to) {
  Arena *arena = arena_new("halves");
  Diag *diag = diag_new(arena, NULL);
  OnnxOptions opt = onnx_options_default();
  Build b = build_model(arena, 25);
  build_input(&b, "x", DT_F16, "65536");
  Onnx__NodeProto *n = build_node(&b, "Cast", "n", "x", "y");
  build_attr_i(&b, n, "to", dtype_info(to)->onnx);
  build_output(&b, "y", to, "65536");
  size_t size;
  uint8_t *bytes = build_pack(&b, &size);
  Module *m = onnx_import_bytes(arena, diag, "m.onnx", NULL, bytes, size, &opt);
  cr_assert(m, "%s", diag_text(diag));
  Tensor x = tensor_new(arena, m->funcs.at[0]->args[0]->type), y = {0};
  for (uint32_t i = 0; i < 65536; i++) ((uint16_t *)x.data)[i] = (uint16_t)i;
  cr_assert(eval_func(m->funcs.at[0], &x, &y, arena, NULL, NULL));
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < 65536; i++) {
    double in = elem_get_f(x.data, DT_F16, i), want = elem_round(to, in), got = elem_get_f(y.data, to, i);
    bool same = (isnan(want) && isnan(got)) || (want == got && signbit(want) == signbit(got));
    wrong += !same;
  }
  cr_expect_eq(wrong, 0, "%s: %u of 65536", dtype_info(to)->name, wrong);
  arena_free(arena);
}

Test(onnx_quant, small_floats_of_all_halves) {
  const DType types[] = {DT_F8E4M3FN, DT_F8E4M3FNUZ, DT_F8E5M2, DT_F8E5M2FNUZ, DT_F8E8M0, DT_F4E2M1};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) cast_all_halves(types[i]);
}
