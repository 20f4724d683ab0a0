// Inside the importer: the state shared by its files. Not for importers of single operators (onnx_node.h is).
//
// The walk is a stack of frames, one per graph, branch or function call being imported; nothing recurses.
#ifndef QCC_FRONTEND_ONNX_WALK_H
#define QCC_FRONTEND_ONNX_WALK_H

#include "frontend/onnx_node.h"
#include "frontend/onnx_tensor.h"
#include "ir/base/map.h"

// ---- attributes of one node
typedef struct OnnxAttr {
  const char *name;
  const Onnx__AttributeProto *proto;  // inside functions: what the caller gave
  bool from_call;                     // it is
  bool read;
} OnnxAttr;

struct OnnxAttrs {
  uint32_t n;
  OnnxAttr *at;
  bool failed;
};

// What ref_attr_name means inside a function body.
typedef struct AttrScope {
  const OnnxAttrs *call;                // attributes of the call
  const Onnx__FunctionProto *function;  // holds the defaults
} AttrScope;

// Collects and checks the attributes of a node; `scope` may be NULL. False after a diagnostic.
bool onnx_attrs_init(NodeCtx *c, const Onnx__NodeProto *node, const AttrScope *scope);
const Onnx__GraphProto *attr_graph(NodeCtx *c, const char *name);  // NULL when absent
const char *onnx_attrs_unread(const OnnxAttrs *attrs);             // name of one nobody read, or NULL
// The kind of value an attribute holds: its type field or, in files without one, the field that is set.
Onnx__AttributeProto__AttributeType onnx_attr_type(const Onnx__AttributeProto *a);

// ---- names
// One name of a scope. Initialisers become constants when they are first used.
typedef struct OnnxName {
  const char *name;
  Value *value;     // NULL: a pending constant (data.type set) or poisoned
  bool poisoned;    // its producer failed; users are skipped without a message
  bool absent;      // input of a function the caller left out
  int32_t node;     // producer in the frame, -1 for inputs and initialisers
  TensorData data;  // of an initialiser
  const Onnx__ValueInfoProto *declared;
} OnnxName;

// ---- frames
typedef struct OpsetList {
  uint32_t n;
  Onnx__OperatorSetIdProto **at;
} OpsetList;

// A run-time If: both branches are imported, then joined.
typedef struct BranchJoin {
  Value *condition;                   // NULL: poisoned, so are the results
  const Onnx__GraphProto *otherwise;  // still to be imported
  Value **first;                      // results of the first branch
} BranchJoin;

typedef struct LoopState LoopState;  // onnx_loop.c

typedef struct Frame Frame;
struct Frame {
  Frame *up;     // the frame that goes on when this one ends
  Frame *outer;  // whose names a branch sees; NULL for the main graph and functions
  Map *names;    // name -> OnnxName
  uint32_t n_nodes, next;
  Onnx__NodeProto **nodes;
  uint32_t *order;  // indices of the nodes in topological order; nodes that reach no result are left out
  uint32_t n_order;
  OpsetList opsets;
  const AttrScope *scope;
  const char *prefix;  // of node names, "" for the main graph
  uint32_t n_results;
  const char **results;         // names of the results, in order
  const Onnx__NodeProto *call;  // node of `up` this frame stands for
  int32_t call_index;
  const Onnx__FunctionProto *function;
  BranchJoin *join;  // NULL for everything but a branch of a run-time If
  LoopState *loop;   // NULL for everything but a step of a Scan or Loop
};

typedef struct UnsupportedGroup UnsupportedGroup;

struct OnnxImporter {
  Module *m;
  Diag *diag;
  Arena *arena;  // of the walk; dropped when the import is done
  const OnnxOptions *opt;
  TensorStore store;
  const char *file;
  Onnx__ModelProto *model;
  Map *functions;  // key -> FunctionInfo; NULL without functions
  Frame *frame;    // innermost
  int32_t node;    // index of its node being imported
  bool poisoned;   // an input of that node is
  bool deferred;   // its importer pushed a frame that will give the results
  Func *func;
  Arena *scratch;
  int64_t n_nodes;    // imported so far
  int64_t fold_left;  // bytes of folded constants still allowed
  Map *differences;   // id + 1 of a folded constant q - x -> its two operands; NULL: none yet
  uint32_t n_warnings;
  uint32_t n_unsupported;  // nodes in `unsupported`
  VEC(UnsupportedGroup *) unsupported;
  Map *unsupported_index;
};

// ---- onnx_walk.c
Frame *frame_push(OnnxImporter *im, Frame *outer, size_t n_nodes, Onnx__NodeProto **nodes);
// Adds a name to the frame; NULL after a diagnostic when it is taken.
OnnxName *frame_add_name(OnnxImporter *im, Frame *f, const Loc *loc, const char *name);
OnnxName *frame_find(const Frame *f, const char *name);  // in this frame and those around it
Value *name_value(OnnxImporter *im, OnnxName *n);        // NULL when poisoned
// Names of initialisers, dense and sparse. Names already declared as inputs become constants.
void frame_add_initializers(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g);
bool onnx_walk(OnnxImporter *im);  // imports until the main frame is done (it stays in im->frame)
int64_t opset_of(const OpsetList *list, const char *domain);  // 0 when not imported

const char *onnx_call_prefix(OnnxImporter *im, const NodeCtx *c);  // of the names of nodes inside `c`

// ---- onnx_loop.c: a step has ended with `values`; pushes the next one or fills c->out. False after a diagnostic.
bool loop_next(OnnxImporter *im, NodeCtx *c, LoopState *s, Value *const *values, bool *pushed);

// ---- onnx_sort.c: fills f->order. False after a diagnostic (cycle, two producers).
bool frame_sort(OnnxImporter *im, Frame *f);

// ---- onnx_function.c
typedef struct FunctionInfo {
  const Onnx__FunctionProto *proto;
  int64_t n_nodes;  // after inlining everything, saturated
  uint8_t state;    // of the search for recursion
} FunctionInfo;
bool functions_init(OnnxImporter *im);
// The function a node calls, NULL when it calls none.
FunctionInfo *function_of(OnnxImporter *im, const Onnx__NodeProto *node);
// Node count of a graph with everything inlined; false after a diagnostic (recursion, too many).
bool functions_check(OnnxImporter *im, const Onnx__GraphProto *g);

// ---- onnx_interface.c
bool interface_inputs(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g);
bool interface_results(OnnxImporter *im, Frame *f, const Onnx__GraphProto *g);
// Warns when what is declared for a name differs from what the nodes give.
void check_declared(OnnxImporter *im, const Loc *loc, const char *what, const Onnx__ValueInfoProto *declared,
                    const Value *v);

// ---- onnx_unsupported.c: what qcc has not, grouped by operator and reason.
void unsupported_add(OnnxImporter *im, const char *what, const char *reason, const char *node);
void unsupported_report(OnnxImporter *im);

#endif
