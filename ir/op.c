// Readers of ops.def and enums.def. Tables are built by re-inclusion; nothing here names an op.
#include "ir/op.h"

#include <string.h>

typedef struct EnumRow {
  const char *set, *text;
} EnumRow;

static const EnumRow enum_rows[ENUM_COUNT] = {
#define ENUM(SET, ID, text) [SET##_##ID] = {#SET, text},
#include "ir/enums.def"
#undef ENUM
};

const char *enum_text(EnumValue v) { return v > 0 && v < ENUM_COUNT ? enum_rows[v].text : "?"; }
const char *enum_set(EnumValue v) { return v > 0 && v < ENUM_COUNT ? enum_rows[v].set : "?"; }

EnumValue enum_by_name(const char *set, const char *text) {
  for (int i = 1; i < ENUM_COUNT; i++)
    if (strcmp(enum_rows[i].set, set) == 0 && strcmp(enum_rows[i].text, text) == 0) return (EnumValue)i;
  return ENUM_NONE;
}

// All attribute rows of the table in order; each op's rows are consecutive. A REQUIRED default is marked by NaN.
#define REQUIRED __builtin_nan("")
static const struct {
  const char *name;
  AttrKind kind;
  double def;
} attr_rows[] = {
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop)
#define ATTR(ID, name, kind, def) {#name, ATTR_##kind, def},
#include "ir/ops.def"
#undef OP
#undef ATTR
};

enum { PLAIN = 0, ELTWISE = TRAIT_ELTWISE, COMMUTES = TRAIT_COMMUTES, VIEW = TRAIT_VIEW, POST = TRAIT_POST };

typedef struct OpRow {
  const char *name;
  uint32_t min_in, max_in, n_out, traits;
  KOp kop;
  uint32_t first_attr;
} OpRow;

static const OpRow op_rows[OP_COUNT + 1] = {
#define OP(ID, name, min_in, max_in, n_out, traits, infer, kop) \
  [OP_##ID] = {name, min_in, max_in, n_out, traits, KOP_##kop, ATTR_BASE_##ID},
#define ATTR(ID, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
    [OP_COUNT] = {.first_attr = sizeof attr_rows / sizeof attr_rows[0]},
};

static OpInfo infos[OP_COUNT];
static AttrInfo attr_infos[sizeof attr_rows / sizeof attr_rows[0] + 2 * OP_COUNT];

// Filled once before main, so readers need no lock.
__attribute__((constructor)) static void tables_init(void) {
  uint32_t at = 0;
  for (uint32_t k = 1; k < OP_COUNT; k++) {
    const OpRow *r = &op_rows[k];
    OpInfo *info = &infos[k];
    *info = (OpInfo){r->name, r->min_in, r->max_in, r->n_out, r->traits, r->kop, &attr_infos[at], 0, -1, -1};
    for (uint32_t a = r->first_attr; a < op_rows[k + 1].first_attr; a++) {
      double def = attr_rows[a].def;
      attr_infos[at + info->n_attrs++] =
          (AttrInfo){attr_rows[a].name, attr_rows[a].kind, def != def, def != def ? 0 : def};
    }
    if (r->traits & TRAIT_POST) {
      info->post = (int32_t)info->n_attrs;
      attr_infos[at + info->n_attrs++] = (AttrInfo){"post", ATTR_FUNC, false, 0};
    }
    if (!(r->traits & (TRAIT_ELTWISE | TRAIT_VIEW))) {
      info->plan = (int32_t)info->n_attrs;
      attr_infos[at + info->n_attrs++] = (AttrInfo){"plan", ATTR_PLAN, false, 0};
    }
    at += info->n_attrs;
  }
}

const OpInfo *op_info(OpKind kind) { return &infos[kind < OP_COUNT ? kind : OP_NONE]; }

OpKind op_by_name(const char *name, size_t n) {
  for (int i = 1; i < OP_COUNT; i++)
    if (strlen(infos[i].name) == n && memcmp(infos[i].name, name, n) == 0) return (OpKind)i;
  return OP_NONE;
}

int32_t attr_by_name(OpKind kind, const char *name, size_t n) {
  const OpInfo *info = op_info(kind);
  for (uint32_t i = 0; i < info->n_attrs; i++)
    if (strlen(info->attrs[i].name) == n && memcmp(info->attrs[i].name, name, n) == 0) return (int32_t)i;
  return -1;
}
