// Step functions of sums as limits of counts. See bits_steps.h.
//
// The post function may use the sum in comparisons with constants only. Between two of these constants it is constant:
// it is evaluated once in every piece, for every column, and must rise or fall by whole codes.
#include "passes/lower/bits_steps.h"

#include "ir/elem.h"
#include "ir/eval.h"
#include "passes/lower/bits_border.h"

enum { MOST_POINTS = 8, MOST_LIMITS = 3 };

bool bits_per_channel(const Value *v, int64_t channels) {
  if (!value_is_const(v) || dtype_info(v->type->dtype)->bits < 8) return false;
  int64_t count = type_count(v->type);
  return count == 1 || (count == channels && v->type->dims[v->type->rank - 1] == channels);
}

bool bits_body_value(Arena *scratch, Func *body, Value *const *operands, uint32_t slot, int64_t x, int64_t channel,
                     int64_t *value) {
  arena_clear(scratch);
  Tensor *args = NEW_ARRAY(scratch, Tensor, body->n_args), result;
  for (uint32_t i = 0; i < body->n_args; i++) {
    args[i] = tensor_new(scratch, body->args[i]->type);
    DType t = body->args[i]->type->dtype;
    if (i == slot) {
      elem_set_i(args[i].data, t, 0, x);
    } else {
      const Value *v = operands[i];
      elem_copy(args[i].data, 0, const_data(body->module, v->constant), type_count(v->type) == 1 ? 0 : channel, t);
    }
  }
  bool ok = eval_func(body, args, &result, scratch, NULL, NULL);
  if (ok) *value = elem_get_i(result.data, result.type->dtype, 0);
  return ok;
}

// ---- where the post function may change

typedef struct Steps {
  LowerCtx *ctx;
  Arena *scratch;
  const Op *op;
  const Func *post;
  int64_t columns;
  Value *operand[17];  // by parameter of the post function; 0 is the sum
  uint32_t n_points;
  const Value *point[MOST_POINTS];  // constants the sum is compared with, inside of the body or outside
  bool after[MOST_POINTS];          // the function changes behind the point, not at it
} Steps;

static const Value *outside(const Steps *s, const Value *v) {
  return v->kind == VALUE_ARG && v->index > 0 ? s->operand[v->index] : v;
}

// Does the comparison change at its constant (>=, <) or behind it; `left`: the sum is operand 0.
static bool changes_after(OpKind kind, bool left) {
  return left ? kind == OP_GREATER || kind == OP_LESS_EQUAL : kind == OP_LESS || kind == OP_GREATER_EQUAL;
}

static bool find_points(Steps *s) {
  const Value *sum = s->post->args[0];
  for (const Operand *u = sum->uses; u != NULL; u = u->next) {
    OpKind kind = u->op->kind;
    bool compares = kind == OP_GREATER || kind == OP_GREATER_EQUAL || kind == OP_LESS || kind == OP_LESS_EQUAL;
    if (!compares || s->n_points == MOST_POINTS) return false;
    const Value *k = outside(s, op_in(u->op, 1 - u->slot));
    if (!bits_per_channel(k, s->columns)) return false;
    s->after[s->n_points] = changes_after(kind, u->slot == 0);
    s->point[s->n_points++] = k;
  }
  return s->n_points > 0 && s->post->results[0] != sum;
}

static bool read_post(Steps *s) {
  s->post = op_post(s->op);
  if (s->post == NULL || s->post->args[0]->type->dtype != DT_I32 || s->post->n_args > 17) return false;
  for (uint32_t i = 1; i < s->post->n_args; i++) {
    s->operand[i] = op_in(s->op, op_info(s->op->kind)->max_in + i - 1);
    if (!bits_per_channel(s->operand[i], s->columns)) return false;
  }
  return find_points(s);
}

// The smallest sums of the pieces of one column but the first, ascending.
static void column_points(const Steps *s, int64_t column, int64_t *at) {
  for (uint32_t i = 0; i < s->n_points; i++) {
    const Value *k = s->point[i];
    int64_t v = const_i(s->ctx->m, k->constant, type_count(k->type) == 1 ? 0 : column) + s->after[i];
    uint32_t j = i;
    for (; j > 0 && at[j - 1] > v; j--) at[j] = at[j - 1];
    at[j] = v;
  }
}

// ---- limits of the sums

typedef struct Column {
  bool falls;
  int64_t limit[MOST_LIMITS];  // number of limits <= sum is the code; of a column that falls, number of limits > sum
} Column;

static bool code_at(const Steps *s, const PlanesX *f, int64_t column, int64_t sum, int64_t *code) {
  int64_t v;
  if (sum > INT32_MAX) sum = INT32_MAX;
  if (sum < INT32_MIN) sum = INT32_MIN;
  if (!bits_body_value(s->scratch, op_post(s->op), s->operand, 0, sum, column, &v)) return false;
  *code = (v - f->lo) / f->step;
  return (v - f->lo) % f->step == 0 && *code >= 0 && *code < INT64_C(1) << f->planes;
}

// False when the codes of the pieces neither rise nor fall.
static bool column_limits(const Steps *s, const PlanesX *f, int64_t column, Column *c) {
  int64_t at[MOST_POINTS], code[MOST_POINTS + 1], most = (INT64_C(1) << f->planes) - 1;
  column_points(s, column, at);
  if (!code_at(s, f, column, at[0] - 1, &code[0])) return false;
  bool rises = true, falls = true;
  for (uint32_t i = 0; i < s->n_points; i++) {
    if (!code_at(s, f, column, at[i], &code[i + 1])) return false;
    rises = rises && code[i + 1] >= code[i];
    falls = falls && code[i + 1] <= code[i];
  }
  if (!rises && !falls) return false;
  c->falls = !rises;
  for (int64_t k = 0; k < most; k++) {
    // Codes above k: from the first piece that has one on; of a falling column, up to the last one.
    c->limit[k] = rises ? INT64_MAX : INT64_MIN;
    for (uint32_t i = 0; i <= s->n_points; i++) {
      uint32_t piece = rises ? s->n_points - i : i;
      if (code[piece] <= k) break;
      if (rises) c->limit[k] = piece == 0 ? INT64_MIN : at[piece - 1];
      if (!rises) c->limit[k] = piece == s->n_points ? INT64_MAX : at[piece];
    }
  }
  return true;
}

// ---- limits of the counts

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// The smallest count, in -most .. most + 1, with base + mul * count >= limit (mul > 0) or < limit (mul < 0). Counts
// are negative where a plane of the weights is subtracted.
static int64_t count_from(int64_t limit, int64_t base, int64_t mul, int64_t most) {
  if (limit == INT64_MIN) return mul > 0 ? -most : most + 1;
  if (limit == INT64_MAX) return mul > 0 ? most + 1 : -most;
  int64_t count = mul > 0 ? -floor_div(base - limit, mul) : floor_div(base - limit, -mul) + 1;
  return count < -most ? -most : count > most + 1 ? most + 1 : count;
}

int64_t bits_most_counts(const Nest *n) {
  int64_t bits = dtype_info(n->type)->bits;
  for (uint32_t i = 0; i < n->n_red; i++) bits *= n->red[i];
  return bits * ((INT64_C(1) << n->planes.x) - 1) * ((INT64_C(1) << n->planes.w) - 1);
}

// The table [limits][rows][columns]: with `above`, a code counts the limits that are <= the count, complemented where
// flip says so; else those that are > it.
static void fill_limits(const Nest *n, const Column *column, int64_t limits, int64_t rows, bool above, int64_t *table,
                        int64_t *flip) {
  int64_t columns = n->n, most = bits_most_counts(n), mul = n->planes.mul;
  Module *m = n->op->func->module;
  for (int64_t j = 0; j < columns; j++) {
    bool holds_above = (mul > 0) != column[j].falls;  // the code rises with the count
    flip[j] = holds_above == above ? 0 : -1;
    for (int64_t r = 0; r < rows; r++) {
      int64_t base = n->planes.base;
      if (n->bias != NULL) base += const_i(m, n->bias->constant, type_count(n->bias->type) == 1 ? 0 : r * columns + j);
      for (int64_t k = 0; k < limits; k++) {
        int64_t from = count_from(column[j].limit[k], base, mul, most);
        // count >= from, or < from; of the complement -1 - count: <= -1 - from, or > it.
        table[(k * rows + r) * columns + j] = flip[j] == 0 ? from : -from;
      }
    }
  }
}

static void find_steps(LowerCtx *ctx, Nest *n, Arena *scratch) {
  Steps s = {.ctx = ctx, .scratch = scratch, .op = n->op, .columns = n->n};
  const PlanesX *f = n->words;
  int64_t limits = f->planes == 1 ? 1 : 3, most = bits_most_counts(n), bits = dtype_info(n->type)->bits;
  if (f->planes > 2 || most >= (INT64_C(1) << (bits < 32 ? bits - 1 : 31)) - 1 || !read_post(&s)) return;
  if (n->bias != NULL && !value_is_const(n->bias)) return;
  Column *column = NEW_ARRAY(ctx->m->arena, Column, n->n);
  int64_t rises = 0, rows = 1;
  bool most_code = false;
  for (int64_t j = 0; j < n->n; j++) {
    if (!column_limits(&s, f, j, &column[j])) return;
    rises += (n->planes.mul > 0) != column[j].falls;
    most_code = most_code || (limits == 3 && column[j].limit[2] != (column[j].falls ? INT64_MIN : INT64_MAX));
  }
  if (limits == 3 && !most_code) limits = 2;  // codes 0, 1 and 2
  if (n->bias != NULL && type_count(n->bias->type) > n->n) rows = type_count(n->bias->type) / n->n;
  int64_t *table = NEW_ARRAY(ctx->m->arena, int64_t, limits *rows * n->n),
          *flip = NEW_ARRAY(ctx->m->arena, int64_t, n->n);
  bool above = 2 * rises > n->n;
  fill_limits(n, column, limits, rows, above, table, flip);
  int64_t *of_sums = NEW_ARRAY(ctx->m->arena, int64_t, limits * n->n);
  for (int64_t i = 0; i < limits * n->n; i++) of_sums[i] = column[i % n->n].limit[i / n->n];
  n->steps.n = (uint32_t)limits;
  n->steps.limit = of_sums;
  n->steps.above = above;
  n->steps.stride = rows * n->n;
  n->bias = border_const(ctx->m, 2, (int64_t[]){limits * rows, n->n}, table);
  if (rises != 0 && rises != n->n) n->steps.flip = border_const(ctx->m, 1, &n->n, flip);
}

void bits_steps(LowerCtx *ctx, Nest *n) {
  Arena *scratch = arena_new("steps");
  find_steps(ctx, n, scratch);
  arena_free(scratch);
}
