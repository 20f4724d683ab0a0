// Rows of the report: the steps of the lowered program grouped by the graph op they were made for, joined with the
// notes of its ONNX nodes. See report.h.
#include <string.h>

#include "frontend/driver/report.h"
#include "ir/base/map.h"

static int64_t contraction_terms(const Op *op) {
  const Type *w = op_in(op, 1)->type;
  int64_t n = type_count(w);
  switch (op->kind) {
    case OP_CONV: {
      int64_t out = op_enum(op, A_CONV_layout) == LAYOUT_NCHW ? w->dims[0] : w->dims[w->rank - 1];
      return out ? n / out : 0;
    }
    case OP_MATMUL: {
      const Type *a = op_in(op, 0)->type;
      if (a->rank == 1) return a->dims[0];
      return a->dims[op_bool(op, A_MATMUL_trans_a) ? a->rank - 2 : a->rank - 1];
    }
    default: return 0;
  }
}

int64_t op_macs(const Op *op) {
  if (op->kind == OP_CONV || op->kind == OP_MATMUL) return type_count(op->out[0]->type) * contraction_terms(op);
  if (op->kind == OP_CONV_TRANSPOSE) {
    const Type *x = op_in(op, 0)->type, *w = op_in(op, 1)->type;
    bool nchw = op_enum(op, A_CONV_TRANSPOSE_layout) == LAYOUT_NCHW;
    int64_t in = nchw ? w->dims[0] : w->dims[w->rank - 2];
    return in ? type_count(x) * (type_count(w) / in) : 0;
  }
  if (op->kind == OP_LSTM || op->kind == OP_GRU || op->kind == OP_RNN) {
    const Type *x = op_in(op, 0)->type;
    int64_t steps = x->dims[0] * x->dims[1];
    return steps * (type_count(op_in(op, 1)->type) + type_count(op_in(op, 2)->type));
  }
  return 0;
}

const char *loc_layer(Arena *arena, const Loc *loc) {
  while (loc && loc->next) loc = loc->next;
  if (!loc) return "";
  const char *name = loc->node_name && loc->node_name[0] ? loc->node_name : loc->output;
  return name ? str_escape(arena, name, 60) : "";
}

// The ONNX node of the contraction itself is the first of a fused chain; the last names the tensor people know.
static const char *row_name(Session *s, const Step *step) {
  const Op *op = step->op;
  if (!op || !op_is_contraction(op->kind)) return loc_layer(s->arena, step->loc);
  for (const Loc *l = op->loc; l; l = l->next) {
    const char *t = l->op_type ? l->op_type : "";
    bool names = strstr(t, "Conv") || strstr(t, "MatMul") || strstr(t, "Gemm") || strstr(t, "LSTM") ||
                 strstr(t, "GRU") || strstr(t, "RNN");
    if (names && l->node_name && l->node_name[0]) return str_escape(s->arena, l->node_name, 60);
  }
  return loc_layer(s->arena, step->loc);
}

const char *row_note(const LayerRow *row, NoteKind kind) {
  for (uint32_t i = 0; i < row->notes.n; i++)
    if (row->notes.at[i]->kind == kind) return row->notes.at[i]->text;
  return NULL;
}

static bool notes_have(const Notes *notes, const Note *note) {
  for (uint32_t i = 0; i < notes->n; i++)
    if (notes->at[i]->kind == note->kind && strcmp(notes->at[i]->text, note->text) == 0) return true;
  return false;
}

static void row_read_notes(Session *s, LayerRow *row) {
  NoteList all = note_list(s->m, row->op->loc, s->arena);
  for (int kind = 0; kind < NOTE_KINDS; kind++) {
    if (kind == NOTE_FLOAT && !row->is_float) continue;
    for (uint32_t i = 0; i < all.n; i++) {
      const Note *n = all.at[i];
      if ((int)n->kind != kind || notes_have(&row->notes, n)) continue;
      vec_push(s->arena, &row->notes, n);
      row->thresholds += n->count;
      if (kind == NOTE_DECLARED) {
        row->declared_w = n->w_bits;
        row->declared_x = n->x_bits;
      }
      if (kind == NOTE_EMITTED) {
        row->w_bits = n->w_bits;
        row->x_bits = n->x_bits;
      }
    }
  }
}

// Low-bit weights on inputs the file has in float, where no pass said so (recurrent cells).
static void row_reason(Session *s, LayerRow *row) {
  bool low = row->declared_w && row->declared_w <= 8 && row->declared_x > 8;
  if (!row->is_float || !low || row_note(row, NOTE_FLOAT)) return;
  Note *n = NEW(s->arena, Note);
  *n = (Note){.loc = row->op->loc, .kind = NOTE_FLOAT, .text = "inputs are float in the file"};
  vec_push(s->arena, &row->notes, n);
}

// The packed weights that a step of a contraction reads, where none are marked as such its largest constant (both of a
// recurrent cell's), once; what else its steps read is tables.
static void row_add_constants(LayerRow *row, const Step *step, bool *seen) {
  int64_t most = 0, largest = 0, sum = 0;
  bool marked = row->marked;
  for (uint32_t i = 0; i < step->n_args; i++) {
    const PBuf *b = step->args[i];
    if (b->kind != PBUF_CONST || b->alias_of) continue;
    bool again = seen[b->constant->id];
    seen[b->constant->id] = true;
    if (!again) sum += b->bytes;
    if (!b->is_weights && (marked || b->bytes < most || (b->bytes == most && again))) continue;
    marked = row->marked = b->is_weights;
    most = b->bytes;
    largest = again ? 0 : b->bytes;
  }
  if (!row->contraction) largest = 0;
  row->weight_bytes += largest;
  row->table_bytes += sum - largest;
}

static void row_begin(Session *s, LayerRow *row, const Step *step, uint32_t index) {
  const Op *op = step->op;
  *row = (LayerRow){.op = op, .name = row_name(s, step), .kind = "copy", .strategy = "loop", .result = ""};
  row->first_step = index;
  if (!op) return;
  row->kind = op_info(op->kind)->name;
  if (op->n_out && op->out[0]->type) row->result = type_text(s->arena, s->m->types, op->out[0]->type);
  row->contraction = op_is_contraction(op->kind);
  const Plan *plan = op_plan(op);
  bool bits = plan != NULL && strcmp(plan->strategy, "truth") == 0;  // of floats of two values
  row->is_float = !bits && op->n_in && op_in(op, 0) && dtype_is_float(op_in(op, 0)->type->dtype);
  if (!row->contraction) return;
  row->macs = (double)op_macs(op);
  row->weights = type_count(op_in(op, 1)->type);
  if (op->kind != OP_CONV && op->kind != OP_CONV_TRANSPOSE && op->kind != OP_MATMUL)
    row->weights += type_count(op_in(op, 2)->type);
  row->w_bits = dtype_info(op_in(op, 1)->type->dtype)->bits;
  row->x_bits = dtype_info(op_in(op, 0)->type->dtype)->bits;
  row_read_notes(s, row);
  row_reason(s, row);
  row->bit_ops = row->macs * row->w_bits * row->x_bits;
}

static void row_add_step(LayerRow *row, const Step *step, bool *seen) {
  static const char *const helpers[] = {"pad", "bits", "pack", "loop"};
  bool helper = false;
  for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++)
    helper = helper || (step->strategy && strcmp(step->strategy, helpers[i]) == 0);
  if (step->strategy && (!helper || row->n_steps == 0)) row->strategy = step->strategy;
  row->n_steps++;
  row_add_constants(row, step, seen);
}

static void report_add_object(Session *s, const ObjectBytes *object, Report *r) {
  const Target *last = s->n_levels > 1 ? s->levels[s->n_levels - 1].target : s->target;
  r->object_bytes = (int64_t)object->n;
  r->workspace = object->workspace;
  r->stack = object->stack;
  if (s->link.format != FORMAT_ELF) return;  // no report is printed
  QCC_CHECK(object_size(object, last, s->arena, &r->size), "the object can't be read");
}

Report report_new(Session *s, const ObjectBytes *object) {
  const Program *p = s->m->program;
  Report r = {.rows = NEW_ARRAY(s->arena, LayerRow, p->steps.n + 1)};
  bool *seen = NEW_ARRAY(s->arena, bool, s->m->n_consts + 1);
  Map *known = map_new(s->arena);  // op id + 1 -> row
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    LayerRow *row = step->op ? map_get(known, step->op->id + 1u) : NULL;
    if (!row) {
      row = &r.rows[r.n++];
      row_begin(s, row, step, i);
      if (step->op) map_set(known, step->op->id + 1u, row);
    }
    row_add_step(row, step, seen);
  }
  for (uint32_t i = 0; i < r.n; i++) {
    r.macs += r.rows[i].macs;
    r.bit_ops += r.rows[i].bit_ops;
    r.weight_bytes += r.rows[i].weight_bytes;
    r.table_bytes += r.rows[i].table_bytes;
    r.thresholds += r.rows[i].thresholds;
  }
  if (object) report_add_object(s, object, &r);
  return r;
}
