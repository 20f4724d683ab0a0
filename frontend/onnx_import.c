// One ONNX file to one module: map, scan, unpack, check the model, declare its names, walk its nodes, set the results.
//
// The steps stop at the first that fails, except the walk, which goes on past failing nodes to report them all. The
// module borrows the mapped file (weights) and the unpacked strings; everything of the walk itself is dropped.
#include <string.h>

#include "frontend/onnx_walk.h"

#define IR_VERSION_NEWEST 13

OnnxOptions onnx_options_default(void) {
  return (OnnxOptions){.external_data = true, .fold_bytes = INT64_C(64) << 20, .max_nodes = 1000000};
}

static bool refuse(OnnxImporter *im, DiagKind kind, const char *text) {
  Loc loc = {.file = im->file, .node = -1};
  return diag_error(im->diag, kind, &loc, "%s", text);
}

// ---- the model's own claims

static bool check_opset(OnnxImporter *im, Map *seen, const Onnx__OperatorSetIdProto *o) {
  const char *domain = o->domain && strcmp(o->domain, "ai.onnx") != 0 ? o->domain : "";
  const char *shown = domain[0] ? str_escape(im->arena, domain, 128) : "ai.onnx";
  if (map_get_str(seen, domain))
    return refuse(im, DIAG_REFUSED, arena_printf(im->arena, "opset of domain '%s' is imported twice", shown));
  map_set_str(seen, domain, seen);
  if (!o->has_version || o->version < 1)
    return refuse(
        im, DIAG_REFUSED,
        arena_printf(im->arena, "opset %lld of domain '%s', expected 1 or more", (long long)o->version, shown));
  if (!domain[0] && o->version > ONNX_LATEST)
    return refuse(im, DIAG_UNSUPPORTED,
                  arena_printf(im->arena, "opset %lld is newer than %d, the newest that qcc knows",
                               (long long)o->version, ONNX_LATEST));
  return true;
}

static bool check_opsets(OnnxImporter *im, size_t n, Onnx__OperatorSetIdProto **list) {
  Map *seen = map_new(im->arena);
  for (size_t i = 0; i < n; i++)
    if (!check_opset(im, seen, list[i])) return false;
  return true;
}

// Files of IR version 1 and 2 have no opset import: opset 1.
static OpsetList model_opsets(OnnxImporter *im) {
  if (im->model->n_opset_import) return (OpsetList){(uint32_t)im->model->n_opset_import, im->model->opset_import};
  Onnx__OperatorSetIdProto **one = NEW(im->arena, Onnx__OperatorSetIdProto *);
  *one = NEW(im->arena, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(*one);
  (*one)->has_version = true;
  (*one)->version = 1;
  return (OpsetList){1, one};
}

static bool check_model(OnnxImporter *im) {
  const Onnx__ModelProto *m = im->model;
  if (!m->has_ir_version || m->ir_version < 1) return refuse(im, DIAG_REFUSED, "not an ONNX model: no IR version");
  if (m->ir_version > IR_VERSION_NEWEST)
    return refuse(im, DIAG_UNSUPPORTED,
                  arena_printf(im->arena, "IR version %lld is newer than %d, the newest that qcc knows",
                               (long long)m->ir_version, IR_VERSION_NEWEST));
  if (!m->graph) return refuse(im, DIAG_REFUSED, "the model has no graph");
  if (m->n_opset_import == 0 && m->ir_version >= 3)
    return refuse(im, DIAG_REFUSED, "the model imports no opset, which IR version 3 and later ask for");
  if (!check_opsets(im, m->n_opset_import, m->opset_import)) return false;
  for (size_t i = 0; i < m->n_functions; i++)
    if (!check_opsets(im, m->functions[i]->n_opset_import, m->functions[i]->opset_import)) return false;
  if (m->graph->n_output == 0) return refuse(im, DIAG_REFUSED, "the graph has no outputs");
  if ((int64_t)m->graph->n_node > im->opt->max_nodes)
    return refuse(im, DIAG_LIMIT,
                  arena_printf(im->arena, "%zu nodes, more than the limit of %lld (--max-nodes)", m->graph->n_node,
                               (long long)im->opt->max_nodes));
  return functions_init(im) && functions_check(im, m->graph);
}

// ---- the import

static void declare_values(Frame *f, const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_value_info; i++) {
    const char *name = g->value_info[i]->name;
    OnnxName *n = name ? map_get_str(f->names, name) : NULL;
    if (n && n->node >= 0) n->declared = g->value_info[i];
  }
}

static bool name_results(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g) {
  f->n_results = (uint32_t)g->n_output;
  f->results = NEW_ARRAY(im->arena, const char *, g->n_output);
  Map *seen = map_new(im->arena);
  for (size_t i = 0; i < g->n_output; i++) {
    const char *name = g->output[i]->name;
    if (!name || !name[0]) return refuse(im, DIAG_REFUSED, "a graph output has no name");
    if (map_get_str(seen, name))
      return refuse(im, DIAG_REFUSED,
                    arena_printf(im->arena, "two graph outputs have the name '%s'", str_escape(im->arena, name, 128)));
    map_set_str(seen, name, f);
    f->results[i] = name;
  }
  return true;
}

static bool import_model(OnnxImporter *im) {
  if (!check_model(im)) return false;
  const Onnx__GraphProto *g = im->model->graph;
  Frame *f = frame_push(im, NULL, g->n_node, g->node);
  f->opsets = model_opsets(im);
  frame_add_initializers(im, f, g);
  if (!interface_inputs(im, f, g) || !name_results(im, f, g) || !frame_sort(im, f)) return false;
  declare_values(f, g);
  return onnx_walk(im) && interface_results(im, f, g);
}

static bool read_model(OnnxImporter *im, Arena *arena, const uint8_t *bytes, size_t n) {
  WireScan scan;
  const ProtobufCMessageDescriptor *root = &onnx__model_proto__descriptor;
  if (!wire_scan(arena, im->diag, im->file, root, bytes, n, &scan)) return false;
  im->model = (Onnx__ModelProto *)wire_unpack(arena, im->diag, im->file, root, &scan);
  wire_scan_free(&scan);
  im->store.bytes = bytes;
  im->store.spans = scan.spans.at;
  im->store.n_spans = scan.spans.n;
  im->fold_left = im->opt->fold_bytes + (int64_t)n + (int64_t)n / 4;
  return im->model != NULL;
}

Module *onnx_import_bytes(Arena *arena, Diag *diag, const char *file, const char *dir, const uint8_t *bytes, size_t n,
                          const OnnxOptions *opt) {
  uint32_t errors = diag_errors(diag);
  Module *m = module_new(arena, diag);
  OnnxImporter im = {.m = m, .diag = diag, .opt = opt, .file = intern(m->names, file)};
  im.arena = arena_new("import");
  im.scratch = arena_new("node");
  arena_alloc(im.scratch, 1);  // keeps its first block when a node is done
  im.unsupported_index = map_new(im.arena);
  im.store = (TensorStore){.m = m, .file = im.file};
  im.store.dir = (ExternalDir){.path = dir, .allowed = opt->external_data, .fd = -1, .files = map_new(arena)};
  bool ok = read_model(&im, arena, bytes, n) && import_model(&im);
  unsupported_report(&im);
  external_close(&im.store.dir);
  arena_free(im.scratch);
  arena_free(im.arena);
  return ok && diag_errors(diag) == errors ? m : NULL;
}

Module *onnx_import(Arena *arena, Diag *diag, const char *path, const OnnxOptions *opt) {
  const ExternalFile *f = file_map(arena, diag, path);
  if (!f) return NULL;
  const char *slash = strrchr(path, '/');
  const char *dir = slash ? arena_printf(arena, "%.*s", (int)(slash - path) + 1, path) : ".";
  return onnx_import_bytes(arena, diag, slash ? slash + 1 : path, dir, f->bytes, f->size, opt);
}
