// The interface of a model: which graph inputs remain arguments, with which shapes, and what the results are.
//
// A graph input that is also an initialiser, or bound by --bind, is a constant. Named dimensions get their sizes from
// --dim, --input-shape and the shapes of bound files; what stays open is reported once, all of it, with the flag.
// Declared types of results and intermediate values never change anything: a difference is a warning.
#include <string.h>

#include "frontend/onnx_walk.h"

#define MAX_WARNINGS 8

typedef struct Inputs {
  OnnxImporter *im;
  Frame *f;
  Loc loc;
  Map *symbols;  // name -> int64_t *
  StrBuf open;   // dims without a size, for the message
  uint32_t n_open;
  StrBuf hints;  // the flags that would give them one
  VEC(OnnxName *) names;
  VEC(const Type *) types;
} Inputs;

static const char *shown(OnnxImporter *im, const char *name) { return str_escape(im->arena, name, 128); }

static const Onnx__TypeProto__Tensor *tensor_type(const Onnx__ValueInfoProto *v) {
  return v->type ? v->type->tensor_type : NULL;
}

static const NamedShape *find_shape(const OnnxOptions *opt, const char *name) {
  for (uint32_t i = 0; i < opt->shapes.n; i++)
    if (strcmp(opt->shapes.at[i].name, name) == 0) return &opt->shapes.at[i];
  return NULL;
}

static const NamedFile *find_bind(const OnnxOptions *opt, const char *name) {
  for (uint32_t i = 0; i < opt->binds.n; i++)
    if (strcmp(opt->binds.at[i].name, name) == 0) return &opt->binds.at[i];
  return NULL;
}

// ---- named dimensions

static bool set_symbol(Inputs *in, const char *symbol, int64_t value, const char *from) {
  int64_t *known = map_get_str(in->symbols, symbol);
  if (known && *known != value)
    return diag_error(in->im->diag, DIAG_USAGE, &in->loc, "dimension '%s' is %lld and, from %s, %lld",
                      shown(in->im, symbol), (long long)*known, from, (long long)value);
  if (known) return true;
  known = NEW(in->im->arena, int64_t);
  *known = value;
  map_set_str(in->symbols, symbol, known);
  return true;
}

// Matches a shape the user gave with the declared one; named dims learn their size from it.
static bool learn_shape(Inputs *in, const Onnx__ValueInfoProto *v, uint32_t rank, const int64_t *dims,
                        const char *from) {
  const Onnx__TypeProto__Tensor *t = tensor_type(v);
  if (!t || !t->shape) return true;
  if (t->shape->n_dim != rank)
    return diag_error(in->im->diag, DIAG_USAGE, &in->loc, "input '%s' has %zu dimensions, %s gives %u",
                      shown(in->im, v->name), t->shape->n_dim, from, rank);
  for (uint32_t i = 0; i < rank; i++) {
    const Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
    if (d->dim_param && d->dim_param[0] && !set_symbol(in, d->dim_param, dims[i], from)) return false;
  }
  return true;
}

static void note_open(Inputs *in, const char *what, const char *hint) {
  if (in->n_open++ >= 16) return;
  strbuf_printf(&in->open, "%s%s", in->n_open > 1 ? ", " : "", what);
  strbuf_printf(&in->hints, " %s", hint);
}

// Size of one axis, -1 when it is open (noted), -2 after a diagnostic.
static int64_t axis_size(Inputs *in, const char *name, const Onnx__TensorShapeProto__Dimension *d, uint32_t axis) {
  Arena *arena = in->im->arena;
  if (d->has_dim_value && d->dim_param) {
    diag_error(in->im->diag, DIAG_REFUSED, &in->loc, "input '%s': dimension %u is given as a number and as a name",
               shown(in->im, name), axis);
    return -2;
  }
  if (d->has_dim_value && d->dim_value >= 0) return d->dim_value;
  if (d->has_dim_value) {
    diag_error(in->im->diag, DIAG_REFUSED, &in->loc,
               "input '%s': dimension %u is %lld, expected 0 or more (--input-shape)", shown(in->im, name), axis,
               (long long)d->dim_value);
    return -2;
  }
  if (!d->dim_param || !d->dim_param[0]) {
    note_open(in, arena_printf(arena, "axis %u of input '%s'", axis, shown(in->im, name)),
              arena_printf(arena, "--input-shape %s=...", shown(in->im, name)));
    return -1;
  }
  int64_t *known = map_get_str(in->symbols, d->dim_param);
  if (known) return *known;
  known = NEW(arena, int64_t);
  *known = -1;
  map_set_str(in->symbols, d->dim_param, known);
  const char *symbol = shown(in->im, d->dim_param);
  note_open(in, arena_printf(arena, "'%s' (axis %u of input '%s')", symbol, axis, shown(in->im, name)),
            arena_printf(arena, "--dim %s=...", symbol));
  return -1;
}

// ---- types

// The shape of an input; false when it is open or wrong (noted or reported).
static bool input_shape(Inputs *in, const Onnx__ValueInfoProto *v, uint32_t *rank, int64_t *dims) {
  const NamedShape *given = find_shape(in->im->opt, v->name);
  const Onnx__TypeProto__Tensor *t = tensor_type(v);
  if (given) {
    *rank = given->rank;
    memcpy(dims, given->dims, sizeof given->dims);
    return true;
  }
  if (!t->shape) {
    note_open(in, arena_printf(in->im->arena, "the shape of input '%s'", shown(in->im, v->name)),
              arena_printf(in->im->arena, "--input-shape %s=...", shown(in->im, v->name)));
    return false;
  }
  if (t->shape->n_dim > MAX_RANK) {
    unsupported_add(in->im, "inputs", "tensors of more than 8 dimensions", shown(in->im, v->name));
    return false;
  }
  *rank = (uint32_t)t->shape->n_dim;
  bool ok = true;
  for (uint32_t i = 0; i < *rank; i++) ok &= (dims[i] = axis_size(in, v->name, t->shape->dim[i], i)) >= 0;
  return ok;
}

static const char *type_kind(const Onnx__TypeProto *t) {
  if (!t) return "no type";
  if (t->sequence_type) return "a sequence type";
  if (t->map_type) return "a map type";
  if (t->optional_type) return "an optional type";
  if (t->sparse_tensor_type) return "a sparse tensor type";
  if (t->opaque_type) return "an opaque type";
  return "no type";
}

static DType input_dtype(Inputs *in, const Onnx__ValueInfoProto *v) {
  const Onnx__TypeProto__Tensor *t = tensor_type(v);
  const char *name = arena_printf(in->im->arena, "'%s'", shown(in->im, v->name));
  DType d = t ? dtype_by_onnx(t->elem_type) : DT_NONE;
  if (t && (v->type->sequence_type || v->type->map_type || v->type->optional_type || v->type->sparse_tensor_type)) {
    diag_error(in->im->diag, DIAG_REFUSED, &in->loc, "input %s has two types", name);
    d = DT_NONE;
  } else if (!t) {
    unsupported_add(in->im, "inputs", arena_printf(in->im->arena, "%s; only tensors", type_kind(v->type)), name);
  } else if (!onnx_type_name(t->elem_type)) {
    diag_error(in->im->diag, DIAG_REFUSED, &in->loc, "input %s: element type %d is no ONNX type", name, t->elem_type);
  } else if (d == DT_NONE || d == DT_STR) {
    unsupported_add(in->im, "inputs", arena_printf(in->im->arena, "tensors of type %s", onnx_type_name(t->elem_type)),
                    name);
    d = DT_NONE;
  }
  return d;
}

// ---- inputs

static bool bind_input(Inputs *in, const Onnx__ValueInfoProto *v, OnnxName *n, const NamedFile *bind) {
  FileTensor file;
  const char *from = arena_printf(in->im->arena, "--bind %s", shown(in->im, v->name));
  const Onnx__TypeProto__Tensor *t = tensor_type(v);
  if (!tensor_file_read(in->im->m, bind->path, &file)) return false;
  if (t && dtype_by_onnx(t->elem_type) != file.type->dtype)
    return diag_error(in->im->diag, DIAG_USAGE, &in->loc, "input '%s' has type %s, the file of %s holds %s",
                      shown(in->im, v->name), dtype_info(dtype_by_onnx(t->elem_type))->name, from,
                      dtype_info(file.type->dtype)->name);
  n->data = (TensorData){file.type, file.data, false};
  return learn_shape(in, v, file.type->rank, file.type->dims, from);
}

// Names, binds and given shapes: all that can teach the size of a named dim.
static bool declare_input(Inputs *in, const Onnx__ValueInfoProto *v) {
  if (!v->name || !v->name[0]) return diag_error(in->im->diag, DIAG_REFUSED, &in->loc, "a graph input has no name");
  OnnxName *n = map_get_str(in->f->names, v->name);
  if (n && n->declared)
    return diag_error(in->im->diag, DIAG_REFUSED, &in->loc, "two graph inputs have the name '%s'",
                      shown(in->im, v->name));
  if (!n) n = frame_add_name(in->im, in->f, &in->loc, v->name);
  n->declared = v;
  const NamedFile *bind = find_bind(in->im->opt, v->name);
  const NamedShape *shape = find_shape(in->im->opt, v->name);
  if (bind && !bind_input(in, v, n, bind)) return false;
  return !shape || learn_shape(in, v, shape->rank, shape->dims, "--input-shape");
}

static void type_input(Inputs *in, const Onnx__ValueInfoProto *v) {
  OnnxName *n = map_get_str(in->f->names, v->name);
  int64_t dims[MAX_RANK], count;
  uint32_t rank = 0;
  if (n->data.type || n->poisoned) return;
  n->poisoned = true;
  DType d = input_dtype(in, v);
  if (d == DT_NONE || !input_shape(in, v, &rank, dims)) return;
  if (!dims_count(rank, dims, &count)) {
    diag_error(in->im->diag, DIAG_LIMIT, &in->loc, "input '%s': its shape has more than 2^40 elements",
               shown(in->im, v->name));
    return;
  }
  n->poisoned = false;
  vec_push(in->im->arena, &in->names, n);
  vec_push(in->im->arena, &in->types, type_tensor(in->im->m->types, d, rank, dims));
}

// Options that name nothing in the model are mistakes worth an error.
static bool check_options(Inputs *in) {
  const OnnxOptions *opt = in->im->opt;
  bool ok = true;
  for (uint32_t i = 0; i < opt->shapes.n + opt->binds.n; i++) {
    bool shape = i < opt->shapes.n;
    const char *name = shape ? opt->shapes.at[i].name : opt->binds.at[i - opt->shapes.n].name;
    const OnnxName *n = map_get_str(in->f->names, name);
    if (!n || !n->declared)
      ok = diag_error(in->im->diag, DIAG_USAGE, &in->loc, "%s %s: the model has no input of this name",
                      shape ? "--input-shape" : "--bind", shown(in->im, name));
  }
  return ok;
}

static bool make_args(Inputs *in) {
  OnnxImporter *im = in->im;
  im->func = func_new(im->m, "main", in->types.n, in->types.at);
  for (uint32_t i = 0; i < in->types.n; i++) {
    im->func->args[i]->name = in->names.at[i]->name;
    in->names.at[i]->value = im->func->args[i];
  }
  if (!in->n_open) return true;
  if (in->n_open > 16) strbuf_puts(&in->open, ", ...");
  return diag_error(im->diag, DIAG_UNSUPPORTED, &in->loc, "%u %s no size: %s; give%s", in->n_open,
                    in->n_open == 1 ? "dimension has" : "dimensions have", strbuf_str(&in->open),
                    strbuf_str(&in->hints));
}

bool interface_inputs(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g) {
  Inputs in = {.im = im, .f = f, .loc = {.file = im->file, .node = -1}};
  bool ok = true;
  in.symbols = map_new(im->arena);
  strbuf_init(&in.open, im->arena);
  strbuf_init(&in.hints, im->arena);
  for (uint32_t i = 0; i < im->opt->dims.n; i++)
    ok &= set_symbol(&in, im->opt->dims.at[i].name, im->opt->dims.at[i].value, "--dim");
  for (size_t i = 0; i < g->n_input; i++) ok &= declare_input(&in, g->input[i]);
  if (!ok || !check_options(&in)) return false;
  for (size_t i = 0; i < g->n_input; i++) type_input(&in, g->input[i]);
  make_args(&in);
  return true;
}

// ---- results

void check_declared(OnnxImporter *im, const Loc *loc, const char *what, const Onnx__ValueInfoProto *declared,
                    const Value *v) {
  const Onnx__TypeProto__Tensor *t = tensor_type(declared);
  if (!t || im->n_warnings >= MAX_WARNINGS || im->opt->shapes.n) return;
  Loc file = {.file = im->file, .node = -1};
  const char *found = type_text(im->arena, im->m->types, v->type);
  bool differs = dtype_by_onnx(t->elem_type) != v->type->dtype && t->elem_type != 0;
  StrBuf b;
  strbuf_init(&b, im->arena);
  for (size_t i = 0; t->shape && i < t->shape->n_dim; i++) {
    const Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
    if (i) strbuf_putc(&b, ',');
    if (d->has_dim_value) {
      strbuf_printf(&b, "%lld", (long long)d->dim_value);
      differs |= i < v->type->rank && d->dim_value != v->type->dims[i];
    } else {
      strbuf_puts(&b, d->dim_param && d->dim_param[0] ? shown(im, d->dim_param) : "?");
    }
  }
  differs |= t->shape && t->shape->n_dim != v->type->rank;
  if (!differs) return;
  im->n_warnings++;
  const char *name = onnx_type_name(t->elem_type);
  diag_warn(im->diag, loc ? loc : &file, "%s '%s' is declared as %s[%s] but has type %s; the declaration is ignored",
            what, shown(im, declared->name), name ? name : "?", strbuf_str(&b), found);
}

bool interface_results(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g) {
  Loc loc = {.file = im->file, .node = -1};
  Value **values = NEW_ARRAY(im->arena, Value *, g->n_output);
  bool ok = true;
  for (size_t i = 0; i < g->n_output; i++) {
    OnnxName *n = frame_find(f, f->results[i]);
    values[i] = n ? name_value(im, n) : NULL;
    ok &= values[i] != NULL;
    if (!n)
      diag_error(im->diag, DIAG_REFUSED, &loc, "nothing produces the graph output '%s'", shown(im, f->results[i]));
    else if (values[i])
      check_declared(im, NULL, "output", g->output[i], values[i]);
  }
  if (!ok) return false;
  func_set_results(im->func, (uint32_t)g->n_output, values);
  for (size_t i = 0; i < g->n_output; i++) im->func->result_names[i] = f->results[i];
  return true;
}
