// Convolution as one one-dimensional convolution per axis (S29): the tensor train of (in, d1), d2, .., (dn, out).
//
//   conv 3x3x3 16 -> 32   =>   conv 3x1x1 16 -> r1 ; conv 1x3x1 r1 -> r2 ; conv 1x1x3 r2 -> 32 + bias
//
// With two axes this is `separable` in its first order.
#include "passes/compress/conv_chain.h"

void scheme_chain_nd(const FactorLayer *l, const FactorAsk *ask, Forms *out) {
  ConvChain c = {.scheme = "chain_nd"};
  for (uint32_t i = 0; i < l->nd; i++)
    if (l->kernel[i] > 1) c.axes[c.n++] = 1u << i;
  if (c.n < 2) {
    forms_none(out, "not a convolution with a kernel of at least two axes");
    return;
  }
  for (uint32_t i = 0; i < l->nd; i++)  // strides and pads of axes without a kernel go to the first part
    if (l->kernel[i] == 1) c.axes[0] |= 1u << i;
  conv_chain_forms(l, &c, ask, out);
}
