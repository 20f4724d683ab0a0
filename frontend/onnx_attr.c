// Attributes of a node: collected once (duplicates and bad references refused, references to the attributes of a
// function call resolved), then read by name and type. Every read marks the attribute; the driver reports the rest.
#include <string.h>

#include "frontend/onnx_walk.h"

typedef Onnx__AttributeProto__AttributeType AttrType;
#define TYPE(ID) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##ID

static const char *const type_names[] = {[TYPE(UNDEFINED)] = "nothing",
                                         [TYPE(FLOAT)] = "a float",
                                         [TYPE(INT)] = "an int",
                                         [TYPE(STRING)] = "a string",
                                         [TYPE(TENSOR)] = "a tensor",
                                         [TYPE(GRAPH)] = "a graph",
                                         [TYPE(FLOATS)] = "a list of floats",
                                         [TYPE(INTS)] = "a list of ints",
                                         [TYPE(STRINGS)] = "a list of strings",
                                         [TYPE(TENSORS)] = "a list of tensors",
                                         [TYPE(GRAPHS)] = "a list of graphs",
                                         [TYPE(SPARSE_TENSOR)] = "a sparse tensor",
                                         [TYPE(SPARSE_TENSORS)] = "a list of sparse tensors",
                                         [TYPE(TYPE_PROTO)] = "a type",
                                         [TYPE(TYPE_PROTOS)] = "a list of types"};

// The field that is set, UNDEFINED when none is.
static AttrType content_type(const Onnx__AttributeProto *a) {
  if (a->has_f) return TYPE(FLOAT);
  if (a->has_i) return TYPE(INT);
  if (a->has_s) return TYPE(STRING);
  if (a->t) return TYPE(TENSOR);
  if (a->g) return TYPE(GRAPH);
  if (a->sparse_tensor) return TYPE(SPARSE_TENSOR);
  if (a->tp) return TYPE(TYPE_PROTO);
  if (a->n_floats) return TYPE(FLOATS);
  if (a->n_ints) return TYPE(INTS);
  if (a->n_strings) return TYPE(STRINGS);
  if (a->n_tensors) return TYPE(TENSORS);
  if (a->n_graphs) return TYPE(GRAPHS);
  if (a->n_sparse_tensors) return TYPE(SPARSE_TENSORS);
  return a->n_type_protos ? TYPE(TYPE_PROTOS) : TYPE(UNDEFINED);
}

AttrType onnx_attr_type(const Onnx__AttributeProto *a) {
  return a->has_type && a->type != TYPE(UNDEFINED) ? a->type : content_type(a);
}

static bool attr_check(NodeCtx *c, const Onnx__AttributeProto *a) {
  const char *name = a->name && a->name[0] ? str_escape(c->scratch, a->name, 64) : NULL;
  if (!name) return node_refuse(c, "an attribute has no name");
  if (a->has_type && ((uint32_t)a->type >= sizeof type_names / sizeof type_names[0]))
    return node_refuse(c, "attribute '%s' has the unknown type %d", name, (int)a->type);
  AttrType content = content_type(a), type = onnx_attr_type(a);
  if (content != TYPE(UNDEFINED) && content != type)
    return node_refuse(c, "attribute '%s' is declared as %s but holds %s", name, type_names[type], type_names[content]);
  return true;
}

static const Onnx__AttributeProto *default_of(const Onnx__FunctionProto *f, const char *name) {
  for (size_t i = 0; i < f->n_attribute_proto; i++)
    if (f->attribute_proto[i]->name && strcmp(f->attribute_proto[i]->name, name) == 0) return f->attribute_proto[i];
  return NULL;
}

// What a reference stands for; NULL when the caller left the attribute out.
static const Onnx__AttributeProto *resolve(const AttrScope *scope, const char *ref) {
  for (uint32_t i = 0; i < scope->call->n; i++)
    if (strcmp(scope->call->at[i].name, ref) == 0) return scope->call->at[i].proto;
  return default_of(scope->function, ref);
}

bool onnx_attrs_init(NodeCtx *c, const Onnx__NodeProto *node, const AttrScope *scope) {
  OnnxAttrs *attrs = c->attrs;
  attrs->at = NEW_ARRAY(c->scratch, OnnxAttr, node->n_attribute);
  Map *seen = node->n_attribute > 8 ? map_new(c->scratch) : NULL;
  for (size_t i = 0; i < node->n_attribute; i++) {
    const Onnx__AttributeProto *a = node->attribute[i];
    if (!attr_check(c, a)) return false;
    bool twice = seen && map_get_str(seen, a->name);
    for (uint32_t k = 0; !seen && k < i; k++) twice |= strcmp(node->attribute[k]->name, a->name) == 0;
    if (twice) return node_refuse(c, "attribute '%s' is given twice", str_escape(c->scratch, a->name, 64));
    if (seen) map_set_str(seen, a->name, a->name);
    const Onnx__AttributeProto *value = a;
    if (a->ref_attr_name && a->ref_attr_name[0]) {
      if (!scope) return node_refuse(c, "attribute '%s' refers to an attribute of a function, outside of one", a->name);
      value = resolve(scope, a->ref_attr_name);
    }
    if (value) attrs->at[attrs->n++] = (OnnxAttr){a->name, value, value != a, false};
  }
  return true;
}

const char *onnx_attrs_unread(const OnnxAttrs *attrs) {
  for (uint32_t i = 0; i < attrs->n; i++)
    if (!attrs->at[i].read) return attrs->at[i].name;
  return NULL;
}

// ---- reading

static OnnxAttr *find(NodeCtx *c, const char *name) {
  for (uint32_t i = 0; i < c->attrs->n; i++)
    if (strcmp(c->attrs->at[i].name, name) == 0) {
      c->attrs->at[i].read = true;
      return &c->attrs->at[i];
    }
  return NULL;
}

static bool fail(NodeCtx *c) {
  c->attrs->failed = true;
  return false;
}

static const Onnx__AttributeProto *get(NodeCtx *c, const char *name, AttrType want, AttrType list) {
  const OnnxAttr *a = find(c, name);
  if (!a) return NULL;
  AttrType type = onnx_attr_type(a->proto);
  if (type == want || (type == TYPE(UNDEFINED) && want == list)) return a->proto;
  node_refuse(c, "attribute '%s' is %s, expected %s", name, type_names[type], type_names[want]);
  fail(c);
  return NULL;
}

bool attr_has(NodeCtx *c, const char *name) { return find(c, name) != NULL; }
void attr_ignore(NodeCtx *c, const char *name) { (void)find(c, name); }
bool attrs_ok(const NodeCtx *c) { return !c->attrs->failed; }

int64_t attr_int(NodeCtx *c, const char *name, int64_t missing) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(INT), TYPE(INTS));
  return a ? a->i : missing;
}

double attr_float(NodeCtx *c, const char *name, double missing) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(FLOAT), TYPE(FLOATS));
  return a ? (double)a->f : missing;
}

// A copy that is NUL terminated; NULL after a diagnostic.
static const char *text_of(NodeCtx *c, const char *name, ProtobufCBinaryData s) {
  if (utf8_valid(s.data, s.len)) return intern_n(c->m->names, s.len ? (const char *)s.data : "", s.len);
  node_refuse(c, "attribute '%s' is not valid UTF-8 text", name);
  fail(c);
  return NULL;
}

const char *attr_str(NodeCtx *c, const char *name, const char *missing) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(STRING), TYPE(STRINGS));
  const char *s = a ? text_of(c, name, a->s) : NULL;
  return s ? s : missing;
}

const int64_t *attr_ints(NodeCtx *c, const char *name, uint32_t *n) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(INTS), TYPE(INTS));
  *n = a ? (uint32_t)a->n_ints : 0;
  return *n ? a->ints : NULL;
}

const double *attr_floats(NodeCtx *c, const char *name, uint32_t *n) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(FLOATS), TYPE(FLOATS));
  *n = a ? (uint32_t)a->n_floats : 0;
  if (!*n) return NULL;
  double *v = NEW_ARRAY(c->scratch, double, *n);
  for (uint32_t i = 0; i < *n; i++) v[i] = (double)a->floats[i];
  return v;
}

const char *const *attr_strs(NodeCtx *c, const char *name, uint32_t *n) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(STRINGS), TYPE(STRINGS));
  *n = a ? (uint32_t)a->n_strings : 0;
  if (!*n) return NULL;
  const char **v = NEW_ARRAY(c->scratch, const char *, *n);
  for (uint32_t i = 0; i < *n; i++) {
    v[i] = text_of(c, name, a->strings[i]);
    if (v[i]) continue;
    *n = 0;
    return NULL;
  }
  return v;
}

static Value *tensor_failed(NodeCtx *c, const TensorData *data, const char *what, const char *why) {
  if (data->unsupported) node_unsupported(c, "%s: %s", what, why);
  fail(c);
  return NULL;
}

Value *attr_tensor(NodeCtx *c, const char *name) {
  const OnnxAttr *found = find(c, name);
  if (!found) return NULL;
  const char *what = arena_printf(c->scratch, "attribute '%s'", name), *why = NULL;
  TensorData data;
  AttrType type = onnx_attr_type(found->proto);
  TensorStore *store = &c->importer->store;
  if (type == TYPE(SPARSE_TENSOR) && found->proto->sparse_tensor) {
    if (!tensor_read_sparse(store, c->loc, what, found->proto->sparse_tensor, c->opt->fold_bytes, &data, &why))
      return tensor_failed(c, &data, what, why);
    return const_borrowed(c->m, data.type, data.bytes, NULL);
  }
  const Onnx__AttributeProto *a = get(c, name, TYPE(TENSOR), TYPE(TENSOR));
  if (a && !a->t) {
    node_refuse(c, "attribute '%s' holds no tensor", name);
    fail(c);
  }
  if (!a || !a->t) return NULL;
  if (!tensor_read(store, c->loc, what, a->t, &data, &why)) return tensor_failed(c, &data, what, why);
  return const_borrowed(c->m, data.type, data.bytes, a->t->name);
}

const Onnx__GraphProto *attr_graph(NodeCtx *c, const char *name) {
  const Onnx__AttributeProto *a = get(c, name, TYPE(GRAPH), TYPE(GRAPH));
  const OnnxAttr *found = find(c, name);
  if (!a || !found->from_call) return a ? a->g : NULL;
  node_unsupported(c, "attribute '%s' is a graph given by the caller of the function", name);
  fail(c);
  return NULL;
}
