// Convolution along one axis, then along the other (S28, Jaderberg's form): (in, h) x (w, out) = U V, or the axes in
// the other order.
//
//   conv 3x3 64 -> 64, strides (a, b), pads (p, q)   =>   conv 3x1 64 -> r, stride (a, 1), pad (p, 0) ;
//                                                         conv 1x3 r -> 64, stride (1, b), pad (0, q) + bias
#include "passes/compress/conv_chain.h"

void scheme_separable(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  if (l->nd != 2 || l->kernel[0] == 1 || l->kernel[1] == 1) {
    forms_none(out, "not a convolution with a kernel of two axes; chain_nd takes three");
    return;
  }
  conv_chain_forms(l, &(ConvChain){"separable", " rows then columns", 2, {1, 2}}, ask, out);
  conv_chain_forms(l, &(ConvChain){"separable", " columns then rows", 2, {2, 1}}, ask, out);
}
