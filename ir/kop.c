// Kernel ops: the table of kops.def and the scalar meaning of every op (kop.h).
//
// This is the definition the compiled code is measured against: plain double (or 64-bit integer) formulas from the C
// library, chosen so that no branch of a formula cancels. Rounding to the lane type is the caller's business.
#include "ir/kop.h"

#include <math.h>
#include <string.h>

static const KOpInfo table[KOP_COUNT] = {
    [KOP_NONE] = {"", 0, KRULE_SAME, false},
#define KOP(ID, name, arity, rule, basic) [KOP_##ID] = {name, arity, KRULE_##rule, basic},
#include "ir/kops.def"
#undef KOP
};

const KOpInfo *kop_info(KOp op) {
  QCC_CHECK(op > KOP_NONE && op < KOP_COUNT, "kop_info: no kernel op %d", (int)op);
  return &table[op];
}

KOp kop_by_name(const char *name, size_t n) {
  for (int i = 1; i < KOP_COUNT; i++)
    if (strlen(table[i].name) == n && !memcmp(table[i].name, name, n)) return (KOp)i;
  return KOP_NONE;
}

static double min_f(double a, double b) {
  if (isnan(a) || isnan(b)) return a + b;
  return a < b || (a == b && signbit(a)) ? a : b;
}

static double max_f(double a, double b) {
  if (isnan(a) || isnan(b)) return a + b;
  return a > b || (a == b && !signbit(a)) ? a : b;
}

static double mod_f(double a, double b) {
  double r = fmod(a, b);
  if (r == 0) return copysign(0.0, b);
  return (r < 0) != (b < 0) ? r + b : r;
}

static double sigmoid_f(double x) {
  if (x >= 0) return 1 / (1 + exp(-x));
  double e = exp(x);
  return e / (1 + e);
}

static double softplus_f(double x) { return isnan(x) ? x : fmax(x, 0) + log1p(exp(-fabs(x))); }

// x tanh(log(1 + e^x)) = x (e^2x + 2 e^x) / (e^2x + 2 e^x + 2)
static double mish_f(double x) {
  if (x > 40) return x;
  double e = exp(x), n = e * (e + 2);
  return x == -INFINITY ? -0.0 : x * (n / (n + 2));
}

// 0.5 erfc(-t) keeps the relative precision of the far negative side, where 1 + erf cancels.
static double gelu_f(double x) { return x == -INFINITY ? -0.0 : x * (0.5 * erfc(-x * M_SQRT1_2)); }

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u)
static double gelu_tanh_f(double x) {
  double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
  return x == -INFINITY ? -0.0 : x * sigmoid_f(2 * u);
}

static double swish_f(double x, double alpha) {
  double s = sigmoid_f(alpha * x);
  return s == 0 && isinf(x) ? copysign(0.0, x) : x * s;
}

static double low_word_f(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (double)(int32_t)(uint32_t)bits;
}

static double celu_f(double x, double alpha) { return isnan(x) ? x : fmax(x, 0) + fmin(0, alpha * expm1(x / alpha)); }

static double sign_f(double x) { return isnan(x) ? x : (x > 0) - (x < 0); }

static double shrink_f(double x, double lambd, double bias) { return x < -lambd ? x + bias : x > lambd ? x - bias : 0; }

static double isinf_f(double x, double negative, double positive) {
  return isinf(x) && (x < 0 ? negative != 0 : positive != 0);
}

double kop_eval_f(KOp op, const double *a) {
  double x = a[0];
  switch (op) {
    case KOP_NEG: return -x;
    case KOP_ABS: return fabs(x);
    case KOP_FLOOR: return floor(x);
    case KOP_CEIL: return ceil(x);
    case KOP_ROUND: return rint(x);
    case KOP_SQRT: return sqrt(x);
    case KOP_ADD: return x + a[1];
    case KOP_SUB: return x - a[1];
    case KOP_MUL: return x * a[1];
    case KOP_DIV: return x / a[1];
    case KOP_MOD: return mod_f(x, a[1]);
    case KOP_FMOD: return fmod(x, a[1]);
    case KOP_MIN: return min_f(x, a[1]);
    case KOP_MAX: return max_f(x, a[1]);
    case KOP_EQ: return x == a[1];
    case KOP_LT: return x < a[1];
    case KOP_LE: return x <= a[1];
    case KOP_GT: return x > a[1];
    case KOP_GE: return x >= a[1];
    case KOP_SIGN: return sign_f(x);
    case KOP_RECIP: return 1 / x;
    case KOP_EXP: return exp(x);
    case KOP_LOG: return log(x);
    case KOP_SIN: return sin(x);
    case KOP_COS: return cos(x);
    case KOP_TAN: return tan(x);
    case KOP_ASIN: return asin(x);
    case KOP_ACOS: return acos(x);
    case KOP_ATAN: return atan(x);
    case KOP_SINH: return sinh(x);
    case KOP_COSH: return cosh(x);
    case KOP_TANH: return tanh(x);
    case KOP_ASINH: return asinh(x);
    case KOP_ACOSH: return acosh(x);
    case KOP_ATANH: return atanh(x);
    case KOP_ERF: return erf(x);
    case KOP_SIGMOID: return sigmoid_f(x);
    case KOP_SOFTPLUS: return softplus_f(x);
    case KOP_SOFTSIGN: return isinf(x) ? copysign(1, x) : x / (1 + fabs(x));
    case KOP_RELU: return max_f(x, 0);
    case KOP_LEAKY_RELU: return x < 0 ? x * a[1] : x;
    case KOP_PRELU: return x < 0 ? x * a[1] : x;
    case KOP_ELU: return x < 0 ? a[1] * expm1(x) : x;
    case KOP_CELU: return celu_f(x, a[1]);
    case KOP_SELU: return a[2] * (x < 0 ? a[1] * expm1(x) : x);
    case KOP_HARD_SIGMOID: return max_f(0, min_f(1, a[1] * x + a[2]));
    case KOP_HARD_SWISH: return x == -INFINITY ? -0.0 : x * max_f(0, min_f(1, x / 6 + 0.5));
    case KOP_THRESHOLDED_RELU: return isnan(x) || x > a[1] ? x : 0;
    case KOP_SHRINK: return shrink_f(x, a[1], a[2]);
    case KOP_MISH: return mish_f(x);
    case KOP_SWISH: return swish_f(x, a[1]);
    case KOP_GELU: return gelu_f(x);
    case KOP_GELU_TANH: return gelu_tanh_f(x);
    case KOP_ISNAN: return isnan(x);
    case KOP_LOW_WORD: return low_word_f(x);
    case KOP_FMA: return fma(x, a[1], a[2]);
    case KOP_ISINF: return isinf_f(x, a[1], a[2]);
    case KOP_POW: return pow(x, a[1]);
    case KOP_CLIP: return min_f(max_f(x, a[1]), a[2]);
    default: qcc_bug("kernel op %s has no meaning on floats", kop_info(op)->name);
  }
}

int64_t int_wrap(DType t, int64_t v) {
  const DTypeInfo *info = dtype_info(t);
  uint32_t shift = info->bits >= 64 ? 0 : 64 - info->bits;
  switch (info->cls) {
    case DC_INT:
    case DC_TERN: return (int64_t)((uint64_t)v << shift) >> shift;
    case DC_UINT:
    case DC_LANE: return (int64_t)(((uint64_t)v << shift) >> shift);
    case DC_BOOL: return v != 0;
    case DC_BIP: return v >= 0 ? 1 : -1;
    default: qcc_bug("int_wrap: %s is not an integer type", info->name);
  }
}

static bool is_unsigned(DType t) { return dtype_info(t)->cls == DC_UINT || dtype_info(t)->cls == DC_BOOL; }

static bool less(bool u, int64_t a, int64_t b) { return u ? (uint64_t)a < (uint64_t)b : a < b; }

static int64_t wrap_neg(int64_t a) { return (int64_t)(0 - (uint64_t)a); }

// Truncating division; x / 0 = 0, MIN / -1 wraps.
static int64_t div_i(bool u, int64_t a, int64_t b) {
  if (!b) return 0;
  if (u) return (int64_t)((uint64_t)a / (uint64_t)b);
  return b == -1 ? wrap_neg(a) : a / b;
}

// Remainder of div_i; x rem 0 = 0.
static int64_t rem_i(bool u, int64_t a, int64_t b) {
  if (!b || (!u && b == -1)) return 0;
  return u ? (int64_t)((uint64_t)a % (uint64_t)b) : a % b;
}

static int64_t mod_i(bool u, int64_t a, int64_t b) {
  int64_t r = rem_i(u, a, b);
  return !u && r && (r < 0) != (b < 0) ? r + b : r;
}

static int64_t shift_i(DType t, KOp op, int64_t a, int64_t by) {
  uint32_t bits = dtype_info(t)->bits;
  bool out = (uint64_t)by >= bits;
  if (op == KOP_SHL) return out ? 0 : (int64_t)((uint64_t)a << by);
  if (is_unsigned(t) || dtype_info(t)->cls == DC_LANE) return out ? 0 : (int64_t)((uint64_t)a >> by);
  return a >> (out ? 63 : by);
}

// Square and multiply, wrapping. Negative exponents: 1 and -1 have exact inverses, every other base gives 0.
static int64_t pow_i(DType t, int64_t a, int64_t e) {
  if (!is_unsigned(t) && e < 0) return a == 1 ? 1 : a == -1 ? (e & 1 ? -1 : 1) : 0;
  uint64_t r = 1, b = (uint64_t)a;
  for (uint64_t n = (uint64_t)e; n; n >>= 1, b *= b)
    if (n & 1) r *= b;
  return (int64_t)r;
}

static int64_t eval_i(KOp op, DType t, const int64_t *a) {
  int64_t x = a[0];
  bool u = is_unsigned(t);
  switch (op) {
    case KOP_NEG: return wrap_neg(x);
    case KOP_ABS: return !u && x < 0 ? wrap_neg(x) : x;
    case KOP_FLOOR:
    case KOP_CEIL:
    case KOP_ROUND: return x;
    case KOP_ADD: return (int64_t)((uint64_t)x + (uint64_t)a[1]);
    case KOP_SUB: return (int64_t)((uint64_t)x - (uint64_t)a[1]);
    case KOP_MUL: return (int64_t)((uint64_t)x * (uint64_t)a[1]);
    case KOP_FMA: return (int64_t)((uint64_t)x * (uint64_t)a[1] + (uint64_t)a[2]);
    case KOP_DIV: return div_i(u, x, a[1]);
    case KOP_RECIP: return div_i(u, 1, x);
    case KOP_MOD: return mod_i(u, x, a[1]);
    case KOP_FMOD: return rem_i(u, x, a[1]);
    case KOP_MIN: return less(u, a[1], x) ? a[1] : x;
    case KOP_MAX: return less(u, x, a[1]) ? a[1] : x;
    case KOP_AND: return x & a[1];
    case KOP_OR: return x | a[1];
    case KOP_XOR: return x ^ a[1];
    case KOP_SHL:
    case KOP_SHR: return shift_i(t, op, x, a[1]);
    case KOP_BIT_NOT: return ~x;
    case KOP_NOT: return !x;
    case KOP_EQ: return x == a[1];
    case KOP_LT: return less(u, x, a[1]);
    case KOP_LE: return !less(u, a[1], x);
    case KOP_GT: return less(u, a[1], x);
    case KOP_GE: return !less(u, x, a[1]);
    case KOP_SIGN: return u ? x != 0 : (x > 0) - (x < 0);
    case KOP_RELU: return u || x > 0 ? x : 0;
    case KOP_LEAKY_RELU:
    case KOP_PRELU: return !u && x < 0 ? (int64_t)((uint64_t)x * (uint64_t)a[1]) : x;
    case KOP_THRESHOLDED_RELU: return less(u, a[1], x) ? x : 0;
    case KOP_CLIP: {
      int64_t low = less(u, x, a[1]) ? a[1] : x;
      return less(u, a[2], low) ? a[2] : low;
    }
    case KOP_POW: return pow_i(t, x, a[1]);
    case KOP_ISNAN:
    case KOP_ISINF: return 0;
    default: qcc_bug("kernel op %s has no meaning on %s", kop_info(op)->name, dtype_info(t)->name);
  }
}

int64_t kop_eval_i(KOp op, DType t, const int64_t *args) {
  int64_t r = eval_i(op, t, args);
  return kop_info(op)->rule == KRULE_BOOL ? r : int_wrap(t, r);
}
