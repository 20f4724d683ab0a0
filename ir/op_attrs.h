// Slot numbers of attributes: A_CONV_group and so on. Each op numbers its own from 0, in table order: every row
// defines a constant equal to its line's offset from the OP row.
#ifndef QCC_IR_OP_ATTRS_H
#define QCC_IR_OP_ATTRS_H

// A running count over the whole table, then the difference to the op's first row.
enum {
  ATTR_SEQ_START_ = -1,
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) ATTR_BASE_##ID, ATTR_BASE_FIX_##ID = ATTR_BASE_##ID - 1,
#define ATTR(ID, name, kind, def) ATTR_SEQ_##ID##_##name,
#include "ir/ops.def"
#undef OP
#undef ATTR
};
enum {
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop)
#define ATTR(ID, name, kind, def) A_##ID##_##name = ATTR_SEQ_##ID##_##name - ATTR_BASE_##ID,
#include "ir/ops.def"
#undef OP
#undef ATTR
};

#endif
