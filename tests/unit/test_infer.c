// Inference on ops that are wrong: every op without operands, with a missing operand, without its attributes, with
// operands of every rank, and a table of single mistakes with the message each must give. A refusal is a diagnostic,
// never a crash; a success sets every result type.
#include <criterion/criterion.h>
#include <string.h>

#include "ir/infer.h"
#include "ir/text.h"

typedef struct Bench {
  Arena *arena;
  Diag *diag;
  Module *m;
  Func *f;
} Bench;

static Bench bench_new(void) {
  Bench b = {.arena = arena_new("test")};
  b.diag = diag_new(b.arena, NULL);
  b.m = module_new(b.arena, b.diag);
  b.f = func_new(b.m, "main", 0, NULL);
  return b;
}

static Value *arg_of(Bench *b, DType t, uint32_t rank, const int64_t *dims) {
  const Type *type = type_tensor(b->m->types, t, rank, dims);
  return func_new(b->m, "arg", 1, &type)->args[0];
}

static void set_attrs(Op *op, uint32_t list, int64_t value) {
  const OpInfo *info = op_info(op->kind);
  int64_t ints[2 * MAX_RANK];
  double floats[2 * MAX_RANK];
  for (uint32_t i = 0; i < 2 * MAX_RANK; i++) ints[i] = value, floats[i] = (double)value;
  for (uint32_t i = 0; i < info->n_attrs; i++) {
    switch (info->attrs[i].kind) {
      case ATTR_INT:
      case ATTR_BOOL: op_set_int(op, (int)i, value); break;
      case ATTR_INTS: op_set_ints(op, (int)i, list, ints); break;
      case ATTR_FLOATS: op_set_floats(op, (int)i, list, floats); break;
      case ATTR_STR: op_set_str(op, (int)i, list % 2 ? "ij,jk->ik" : ""); break;
      default: break;
    }
  }
}

// Either every result has a type, or there is a new diagnostic.
static bool infer_sound(Bench *b, Op *op) {
  uint32_t before = diag_errors(b->diag);
  bool ok = infer_op(op);
  if (!ok) {
    cr_assert_gt(diag_errors(b->diag), before, "%s fails without a message", op_info(op->kind)->name);
    return false;
  }
  cr_assert_eq(diag_errors(b->diag), before, "%s succeeds with a message", op_info(op->kind)->name);
  for (uint32_t i = 0; i < op->n_out; i++) cr_assert_not_null(op->out[i]->type, "%s", op_info(op->kind)->name);
  return true;
}

Test(infer, every_op_without_operands) {
  for (OpKind k = 1; k < OP_COUNT; k++) {
    Bench b = bench_new();
    Op *op = op_new(b.f, NULL, k, 0, NULL, NULL);
    cr_assert_not(infer_sound(&b, op), "%s", op_info(k)->name);
    cr_assert(strstr(diag_text(b.diag), "operands, expected at least"), "%s: %s", op_info(k)->name, diag_text(b.diag));
    arena_free(b.arena);
  }
}

Test(infer, every_op_with_a_missing_operand) {
  const int64_t dims[3] = {2, 3, 4};
  for (OpKind k = 1; k < OP_COUNT; k++) {
    for (uint32_t hole = 0; hole < op_info(k)->min_in; hole++) {
      Bench b = bench_new();
      Value *in[16];
      for (uint32_t i = 0; i < op_info(k)->min_in; i++) in[i] = i == hole ? NULL : arg_of(&b, DT_F32, 3, dims);
      Op *op = op_new(b.f, NULL, k, op_info(k)->min_in, in, NULL);
      cr_assert_not(infer_sound(&b, op), "%s", op_info(k)->name);
      char want[40];
      snprintf(want, sizeof want, "operand %u is missing", hole);
      cr_assert(strstr(diag_text(b.diag), want), "%s: %s", op_info(k)->name, diag_text(b.diag));
      arena_free(b.arena);
    }
  }
}

Test(infer, every_op_without_its_attributes) {
  const int64_t dims[3] = {2, 2, 2};
  for (OpKind k = 1; k < OP_COUNT; k++) {
    bool needs = false;
    for (uint32_t i = 0; i < op_info(k)->n_attrs; i++) needs |= op_info(k)->attrs[i].required;
    Bench b = bench_new();
    Value *in[16];
    for (uint32_t i = 0; i < op_info(k)->min_in; i++) in[i] = arg_of(&b, DT_F32, 3, dims);
    Op *op = op_new(b.f, NULL, k, op_info(k)->min_in, in, NULL);
    bool ok = infer_sound(&b, op);
    if (needs) cr_assert(!ok && strstr(diag_text(b.diag), " is missing"), "%s", op_info(k)->name);
    arena_free(b.arena);
  }
}

// Operands of every rank and of a few extents and types, attributes of every length and of extreme values. Only
// soundness is asked for; the sanitizers of the dev build see the rest.
Test(infer, every_op_with_operands_and_attributes_of_all_sizes) {
  static const int64_t extents[] = {0, 1, 2, 6, INT64_C(1) << 30, -1};
  static const int64_t values[] = {0, 1, 2, -1, INT32_MAX, INT64_MAX, INT64_MIN};
  static const DType types[] = {DT_F32, DT_I64, DT_BOOL, DT_U8, DT_BIP};
  uint32_t step = 0, good = 0;
  Bench b = bench_new();
  type_symbol(b.m->types, "N");
  for (OpKind k = 1; k < OP_COUNT; k++) {
    for (uint32_t list = 0; list <= 2 * MAX_RANK; list += list < 6 ? 1 : 5) {
      for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        uint32_t n = op_info(k)->max_in == VARIADIC ? 3 : op_info(k)->max_in;
        cr_assert(n <= 16);
        Value *in[16];
        for (uint32_t i = 0; i < n; i++) {
          uint32_t rank = (step + i * (list % 3)) % 7;
          int64_t dims[MAX_RANK];
          for (uint32_t a = 0; a < rank; a++) dims[a] = extents[(step / 7 + (v % 2) * a) % 4];
          if (rank && step % 11 == 0) dims[0] = extents[4 + step % 2];
          in[i] = arg_of(&b, types[step % 13 < 9 ? 0 : step % 5], rank, dims);
        }
        Op *op = op_new(b.f, NULL, k, n, in, NULL);
        set_attrs(op, list, values[v]);
        if (step % 3 == 0 && n > 0) value_set_type(op_out(op, 0), in[0]->type);
        good += infer_sound(&b, op);
        op_unlink(op);
        step++;
      }
    }
  }
  cr_assert_gt(good, 100);  // not everything is refused
  arena_free(b.arena);
}

// ---- one mistake each

typedef struct Case {
  const char *args, *body, *message;  // NULL: right, and the stated type is the inferred one
} Case;

static const Case cases[] = {
    {"%x: f32[2,3], %y: f32[4]", "add %x, %y : f32[2,3]", "do not broadcast"},
    {"%x: f32[2,3], %y: f32[2,1]", "add %x, %y : f32[2,3]", NULL},
    {"%x: f32[N,3], %y: f32[1,3]", "add %x, %y : f32[N,3]", NULL},
    {"%x: f32[N,3], %y: f32[2,3]", "add %x, %y : f32[N,3]", "do not broadcast"},
    {"%x: f32[2], %y: f64[2]", "add %x, %y : f32[2]", "expected the same element type"},
    {"%x: i32[2]", "exp %x : i32[2]", "must be of a float type"},
    {"%x: bool[2]", "neg %x : bool[2]", "must be a number"},
    {"%x: f32[2]", "not %x : bool[2]", "must be bool"},
    {"%x: f32[2], %y: i32[1]", "pow %x, %y : f32[2]", NULL},
    {"%x: f32[2], %y: f32[2]", "less %x, %y : bool[2]", NULL},
    {"%x: f32[2], %y: f32[2]", "shl %x, %y : f32[2]", "must be of an integer type"},
    {"%x: f32[2], %y: f32[2], %z: f32[2]", "select %x, %y, %z : f32[2]", "the condition must be bool"},
    {"%x: f32[2,3], %y: f32[4,5]", "matmul %x, %y : f32[2,5]", "different inner extents 3 and 4"},
    {"%x: f32[5,2,3], %y: f32[3]", "matmul %x, %y : f32[5,2]", NULL},
    {"%x: f32[2,3], %y: f32[5,3]", "matmul %x, %y {trans_b = true} : f32[2,5]", NULL},
    {"%x: f32[3], %y: f32[3]", "matmul %x, %y {trans_a = true} : f32[]", "a vector cannot be transposed"},
    {"%x: f32[2,3], %y: f32[3,5], %b: f32[4]", "matmul %x, %y, %b : f32[2,5]", "the bias f32[4] does not broadcast"},
    {"%x: f32[2,2,3], %y: f32[3,3,4]", "matmul %x, %y : f32[2,2,4]", "leading dims"},
    {"%x: f32[1,4,8,8], %w: f32[6,3,3,3]", "conv %x, %w : f32[1,6,6,6]", "take 3 channels"},
    {"%x: f32[1,4,8,8], %w: f32[6,2,3,3]", "conv %x, %w {pads = [1,1,1,1], group = 2} : f32[1,6,8,8]", NULL},
    {"%x: f32[1,4,8,8], %w: f32[6,2,3,3]", "conv %x, %w {group = 3} : f32[1,6,6,6]", "cannot be split into 3 groups"},
    {"%x: f32[1,4,8,8], %w: f32[6,4,3]", "conv %x, %w : f32[1,6,6,6]", "the weights must have rank 4"},
    {"%x: f32[1,4,8,8], %w: f32[6,4,3,3]", "conv %x, %w {strides = [2]} : f32[1,6,6,6]",
     "strides has 1 elements, expected 2"},
    {"%x: f32[1,4,8,8], %w: f32[6,4,3,3]", "conv %x, %w {strides = [0,1]} : f32[1,6,6,6]", "strides[0] = 0"},
    {"%x: f32[1,4,8,8], %w: f32[6,4,3,3]", "conv %x, %w {pads = [1,1]} : f32[1,6,6,6]",
     "pads has 2 elements, expected 4"},
    {"%x: f32[1,4,2,2], %w: f32[6,4,3,3]", "conv %x, %w : f32[1,6,1,1]", "the kernel spans 3"},
    {"%x: f32[1,4,8,8], %w: f32[6,4,3,3], %b: f32[5]", "conv %x, %w, %b : f32[1,6,6,6]",
     "the bias must have shape [6]"},
    {"%x: f32[1,4,H,8], %w: f32[6,4,3,3]", "conv %x, %w : f32[1,6,H,6]", "give --dim H=NUMBER"},
    {"%x: f32[N,4,8,8], %w: f32[6,4,3,3]", "conv %x, %w : f32[N,6,6,6]", NULL},
    {"%x: f32[1,8,8,4], %w: f32[3,3,4,6]", "conv %x, %w {layout = nhwc} : f32[1,6,6,6]", NULL},
    {"%x: f32[1,4,3,3], %w: f32[4,2,3,3]",
     "conv_transpose %x, %w {strides = [2,2], pads = [1,1,1,1], output_padding = [1,1]} : f32[1,2,6,6]", NULL},
    {"%x: f32[1,4,3,3], %w: f32[3,2,3,3]", "conv_transpose %x, %w : f32[1,2,5,5]", "take 3 channels"},
    {"%x: f32[2,3], %y: f32[3,4]", "einsum %x, %y {equation = \"ij,jk->ik\"} : f32[2,4]", NULL},
    {"%x: f32[2,3], %y: f32[4,4]", "einsum %x, %y {equation = \"ij,jk->ik\"} : f32[2,4]", "letter 'j' stands for"},
    {"%x: f32[2,3]", "einsum %x {equation = \"ij,jk->ik\"} : f32[2,4]", "expected '->' after 1 terms"},
    {"%x: f32[2,3]", "einsum %x {equation = \"ij->ix\"} : f32[2,4]", "result term"},
    {"%x: f32[1,2,5,5]", "avgpool %x {kernel = [2,2], strides = [2,2], ceil_mode = true} : f32[1,2,3,3]", NULL},
    {"%x: f32[1,2,5,5]", "avgpool %x {kernel = [2,2], pads = [2,0,0,0]} : f32[1,2,4,4]",
     "is not smaller than the kernel"},
    {"%x: f32[1,2,5]", "lppool %x {kernel = [2], p = 0} : f32[1,2,4]", "p must be at least 1"},
    {"%x: f32[2,3,4], %s: f32[4]", "batchnorm %x, %s, %s, %s, %s : f32[2,3,4]", "must have shape [3]"},
    {"%x: f32[2,6,4], %s: f32[6]", "group_norm %x, %s, %s {groups = 4} : f32[2,6,4]", "cannot be split into 4 groups"},
    {"%x: f32[2,6], %s: f32[5]", "rms_norm %x, %s : f32[2,6]", "does not broadcast"},
    {"%x: f32[2,6]", "softmax %x {axis = 2} : f32[2,6]", "axis 2 is outside a tensor of rank 2"},
    {"%x: f32[2,6]", "lp_norm %x {p = 3} : f32[2,6]", "p is 3"},
    {"%x: f32[2,6]", "reduce %x {axes = [1,0]} : f32[1,1]", "axes must be ascending"},
    {"%x: f32[2,6]", "reduce %x {axes = [1], keepdims = false} : f32[2]", NULL},
    {"%x: f32[2,6]", "argreduce %x {op = sum, axis = 1} : i64[2,1]", "expected max or min"},
    {"%x: f32[2,6]", "reshape %x : f32[13]", "the same number of elements"},
    {"%x: f32[N,6]", "reshape %x : f32[N,2,3]", NULL},
    {"%x: f32[N,6]", "reshape %x : f32[M,6]", "the same number of elements"},
    {"%x: f32[2,6]", "reshape %x : i32[12]", "the result is stated as i32[12]"},
    {"%x: f32[2,6]", "transpose %x {perm = [0,0]} : f32[2,6]", "perm names axis 0 twice"},
    {"%x: f32[2,6]", "transpose %x {perm = [0,2]} : f32[2,6]", "perm[1] = 2 is outside 0..1"},
    {"%x: f32[2,1]", "expand %x : f32[3,6]", "does not broadcast"},
    {"%x: f32[2,6]", "tile %x {repeats = [2]} : f32[4,6]", "repeats has 1 elements, expected 2"},
    {"%x: f32[2,6], %y: f32[3,6]", "concat %x, %y {axis = 1} : f32[2,12]", "does not join"},
    {"%x: f32[2,6], %y: f32[3,6]", "concat %x, %y {axis = 0} : f32[5,6]", NULL},
    {"%x: f32[2,6]", "slice %x {starts = [0,2]} : f32[2,5]", "leave axis 1"},
    {"%x: f32[2,6]", "slice %x {starts = [0,5], steps = [1,-2]} : f32[2,3]", NULL},
    {"%x: f32[2,6]", "slice %x {starts = [0,5], steps = [1,0]} : f32[2,1]", "steps[1] is 0"},
    {"%x: f32[2,6]", "pad %x {pads = [0,6,0,0], mode = reflect} : f32[2,12]", "mode reflect cannot pad axis 1"},
    {"%x: f32[2,6]", "pad %x {pads = [0,-4,0,-4]} : f32[2,0]", "leave axis 1"},
    {"%x: f32[2,6], %i: f32[3]", "gather %x, %i : f32[3,6]", "the index must be of an integer type"},
    {"%x: f32[2,6], %i: i64[3,1]", "gather_elements %x, %i {axis = 1} : f32[3,1]", "larger than"},
    {"%x: f32[2,6], %i: i64[4,3]", "gather_nd %x, %i : f32[4]", "index tuples of length 3 for 2 axes"},
    {"%x: f32[2,6], %i: i64[4,1], %u: f32[4,5]", "scatter_nd %x, %i, %u : f32[2,6]",
     "the updates f32[4,5] do not match"},
    {"%x: i64[2], %v: f32[3]", "one_hot %x, %v {depth = 4} : f32[2,4]", "the values must have shape [2]"},
    {"%x: f32[6]", "trilu %x : f32[6]", "must have rank 2 to 8"},
    {"%x: f32[1,1,2,2]", "resize %x {scales = [1.0,1.0,2.0]} : f32[1,1,4,4]", "scales has 3 elements, expected 4"},
    {"%x: f32[1,1,2,2]", "resize %x {scales = [1.0,1.0,-2.0,2.0]} : f32[1,1,4,4]", "expected a positive number"},
    {"%x: f32[2], %s: f32[3]", "quantize %x, %s {axis = 0} : u8[2]", "the scale must have shape [2]"},
    {"%x: u8[2], %s: f32[]", "dequantize %x, %s : i32[2]", "the result must be a float type"},
    {"%x: f32[4,2], %t: f32[2,5]", "threshold %x, %t : u2[4,2]", "5 thresholds for a result of type u2"},
    {"%x: f32[4,2], %t: f32[2,3]", "threshold %x, %t : u2[4,2]", NULL},
    {"%t: f32[16,4], %i: u4[3]", "lookup %t, %i : f32[3,5]", "the result is stated as f32[3,5]"},
    {"%x: f32[1,2147483648], %y: f32[2147483648,1]", "add %x, %y : f32[1]", "more than 2^40 elements"},
};

static bool check_module(Module *m) {
  bool ok = true;
  for (Op *op = m->funcs.at[0]->first; op; op = op->next) {
    const Type *stated = op_out(op, 0)->type;
    if (!infer_op(op)) {
      ok = false;
    } else {
      cr_assert_eq(op_out(op, 0)->type, stated, "%s: inferred %s, stated %s", op_info(op->kind)->name,
                   type_text(m->arena, m->types, op_out(op, 0)->type), type_text(m->arena, m->types, stated));
    }
  }
  return ok;
}

Test(infer, one_mistake_each) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const Case *c = &cases[i];
    Arena *arena = arena_new("test");
    Diag *diag = diag_new(arena, NULL);
    const char *type = strrchr(c->body, ':') + 2;
    char *text = arena_printf(arena, "func @main(%s) -> %s {\n  %%r = %s\n  return %%r\n}\n", c->args, type, c->body);
    Module *m = parse_module(arena, diag, "case", text, strlen(text));
    cr_assert_not_null(m, "%s\n%s", text, diag_text(diag));
    bool ok = check_module(m);
    cr_assert_eq(ok, c->message == NULL, "%s\n%s", text, diag_text(diag));
    if (c->message) {
      cr_assert(strstr(diag_text(diag), c->message), "expected \"%s\" in\n%s", c->message, diag_text(diag));
      cr_assert(strstr(diag_text(diag), "case:2:"), "the message names the line: %s", diag_text(diag));
    }
    arena_free(arena);
  }
}

// A post body sees the raw element and the operands behind the fixed ones.
Test(infer, post_body) {
  static const struct {
    const char *post, *operand, *message;
  } rows[] = {
      {"%r: f32[], %z: f32[]) -> f32[] {\n  %0 = add %r, %z : f32[]\n  return %0", "f32[2,5]", NULL},
      {"%r: f32[]) -> f32[] {\n  %0 = relu %r : f32[]\n  return %0", "f32[2,5]", "1 parameters"},
      {"%r: f32[], %z: f64[]) -> f32[] {\n  %0 = relu %r : f32[]\n  return %0", "f32[2,5]", "parameter 1"},
      {"%r: f32[], %z: f32[]) -> f32[] {\n  %0 = add %r, %z : f32[]\n  return %0", "f32[3,5]", "does not broadcast"},
      {"%r: f32[], %z: f32[]) -> f32[] {\n  %0 = softmax %r : f32[]\n  return %0", "f32[2,5]", "not element-wise"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Arena *arena = arena_new("test");
    Diag *diag = diag_new(arena, NULL);
    char *text = arena_printf(arena,
                              "func @main(%%x: f32[2,3], %%y: f32[3,5], %%z: %s) -> f32[2,5] {\n"
                              "  %%0 = matmul %%x, %%y, _, %%z {post = @p} : f32[2,5]\n  return %%0\n}\n"
                              "func @p(%s\n}\n",
                              rows[i].operand, rows[i].post);
    Module *m = parse_module(arena, diag, "case", text, strlen(text));
    cr_assert_not_null(m, "%s\n%s", text, diag_text(diag));
    cr_assert_eq(check_module(m), rows[i].message == NULL, "%s\n%s", text, diag_text(diag));
    if (rows[i].message) cr_assert(strstr(diag_text(diag), rows[i].message), "%s", diag_text(diag));
    arena_free(arena);
  }
}
