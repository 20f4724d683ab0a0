// qcc inspect: what the imported graph holds, before any pass: a table of its parameters (size, different values,
// zeros, entropy, rank, what few bits would keep of them) and one of its layers (shapes, multiply-adds), as in S21.
//
// #ops counts as that table does: the multiply-adds of a convolution without its bias, of a dense layer with it.
// `operations` counts both halves of a multiply-add and all element-wise work.
#include "frontend/driver/inspect.h"

#include <stdio.h>
#include <string.h>

#include "frontend/driver/report.h"

static bool moves_only(OpKind k) {
  return k == OP_RESHAPE || k == OP_TRANSPOSE || k == OP_CONCAT || k == OP_SLICE || k == OP_PAD || k == OP_EXPAND ||
         k == OP_TILE || k == OP_GATHER || k == OP_GATHER_ELEMENTS || k == OP_GATHER_ND;
}

static const Type *data_type(const Op *op) {
  for (uint32_t i = 0; i < op->n_in; i++)
    if (op_in(op, i) && !value_is_const(op_in(op, i))) return op_in(op, i)->type;
  return NULL;
}

static InspectLayer layer_of(Session *s, const Op *op) {
  const Type *x = data_type(op);
  InspectLayer r = {.op = op_info(op->kind)->name, .out = type_text(s->arena, s->m->types, op->out[0]->type)};
  r.in = x ? type_text(s->arena, s->m->types, x) : "";
  const Loc *loc = op->loc;
  const char *name = loc && loc->node_name && loc->node_name[0] ? loc->node_name
                     : loc && loc->output                       ? loc->output
                     : op->out[0]->name                         ? op->out[0]->name
                                                                : "";
  r.layer = str_escape(s->arena, name, 60);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (!value_is_const(v)) continue;
    r.params += type_count(v->type);
    r.bytes += type_bytes(v->type);
  }
  r.macs = op_macs(op);
  r.elements = type_count(op->out[0]->type);
  bool recurrent = op->kind == OP_LSTM || op->kind == OP_GRU || op->kind == OP_RNN;
  bool bias = r.macs > 0 && op->n_in > 2 && op_in(op, 2) && !recurrent;
  r.operations = r.macs ? 2 * r.macs + (bias ? r.elements : 0) : moves_only(op->kind) ? 0 : r.elements;
  r.ops = r.macs + (bias && op->kind == OP_MATMUL ? r.elements : 0);
  return r;
}

static void inspect_tensor(Session *s, Inspect *in, Const *c) {
  InspectTensor t = {.name = c->name ? str_escape(s->arena, c->name, 60) : "",
                     .type = type_text(s->arena, s->m->types, c->type),
                     .bits = dtype_info(c->type->dtype)->bits,
                     .bytes = type_bytes(c->type)};
  Arena *scratch = arena_new("inspect");
  t.stats = tensor_stats(s->m, c, true, scratch);
  arena_free(scratch);
  in->params += t.stats.n;
  in->bytes += t.bytes;
  vec_push(s->arena, &in->tensors, t);
}

// A constant that several ops share is a tensor once.
static void inspect_graph(Session *s, Inspect *in) {
  bool *seen = NEW_ARRAY(s->arena, bool, s->m->n_consts + 1);
  for (const Op *op = s->m->funcs.at[0]->first; op; op = op->next) {
    InspectLayer r = layer_of(s, op);
    in->macs += r.macs;
    in->ops += r.ops;
    in->operations += r.operations;
    vec_push(s->arena, &in->layers, r);
    for (uint32_t i = 0; i < op->n_in; i++) {
      const Value *v = op_in(op, i);
      if (!value_is_const(v) || seen[v->constant->id]) continue;
      seen[v->constant->id] = true;
      inspect_tensor(s, in, v->constant);
    }
  }
}

// ---- text

// 7168 -> "7.0 KiB" with unit "B".
static const char *readable(Arena *a, double v, const char *unit) {
  static const char *const steps[] = {"", "Ki", "Mi", "Gi", "Ti"};
  int k = 0;
  for (; v >= 1024 && k < 4; k++) v /= 1024;
  return arena_printf(a, "%.1f %s%s", v, steps[k], unit);
}

// What matters, at a glance: a sign per 2.25 %, at most five.
static const char *mark(double percent) {
  int n = percent >= 11.25 ? 5 : (int)(percent / 2.25);
  return &"#####"[5 - n];
}

static const char *number_or_dash(Arena *a, const char *format, double v) {
  return v < 0 ? "-" : arena_printf(a, format, v);
}

static double percent(int64_t part, int64_t all) { return all > 0 ? 100.0 * (double)part / (double)all : 0; }

static void print_tensors(Session *s, const Inspect *in) {
  Arena *a = s->arena;
  printf("%-36s %-20s %12s %10s %7s %-5s %4s %8s %7s %8s %9s %13s %6s %6s %6s %6s  %s\n", "parameter", "shape",
         "elements", "size", "part", "", "bits", "distinct", "zeros", "entropy", "rank", "slices", "cos1", "cos2",
         "cos4", "cos8", "smallest");
  for (uint32_t i = 0; i < in->tensors.n; i++) {
    const InspectTensor *t = &in->tensors.at[i];
    const TensorStats *q = &t->stats;
    double part = percent(t->bytes, in->bytes);
    const char *rank = q->rank < 0 ? "-" : arena_printf(a, "%lld/%lld", (long long)q->rank, (long long)q->full_rank);
    const char *slices =
        q->slices < 0 ? "-" : arena_printf(a, "%lld/%lld", (long long)q->slices_distinct, (long long)q->slices);
    printf("%-36s %-20s %12lld %10s %6.2f%% %-5s %4u %8s %6.1f%% %8s %9s %13s", t->name, t->type, (long long)q->n,
           readable(a, (double)t->bytes, "B"), part, mark(part), t->bits,
           number_or_dash(a, "%.0f", (double)q->distinct), percent(q->zeros, q->n),
           number_or_dash(a, "%.3f", q->entropy), rank, slices);
    for (int k = 0; k < STATS_COSINES; k++) printf(" %6s", number_or_dash(a, "%.3f", q->cosine[k]));
    printf("  %s %s\n", q->stored, readable(a, (double)q->stored_bytes, "B"));
  }
  printf("%-36s %-20s %12lld %10s\n\n", "total size", "", (long long)in->params, readable(a, (double)in->bytes, "B"));
}

static void print_layers(Session *s, const Inspect *in) {
  Arena *a = s->arena;
  printf("%-36s %-14s %-22s %-22s %10s %14s %10s %7s %-5s %12s %14s %12s\n", "layer", "op", "input", "result",
         "elements", "#ops", "readable", "part", "", "parameters", "operations", "bytes");
  for (uint32_t i = 0; i < in->layers.n; i++) {
    const InspectLayer *r = &in->layers.at[i];
    double part = percent(r->ops, in->ops);
    printf("%-36s %-14s %-22s %-22s %10lld %14lld %10s %6.2f%% %-5s %12lld %14lld %12lld\n", r->layer, r->op, r->in,
           r->out, (long long)r->elements, (long long)r->ops, readable(a, (double)r->ops, ""), part, mark(part),
           (long long)r->params, (long long)r->operations, (long long)r->bytes);
  }
  printf("%-36s %-14s %-22s %-22s %10s %14lld %10s %7s %-5s %12lld %14lld %12lld\n", "total", "", "", "", "",
         (long long)in->ops, readable(a, (double)in->ops, ""), "", "", (long long)in->params, (long long)in->operations,
         (long long)in->bytes);
}

// ---- JSON

static void json_tensor(StrBuf *b, const InspectTensor *t) {
  const TensorStats *q = &t->stats;
  strbuf_puts(b, "{\"parameter\":");
  json_string(b, t->name);
  strbuf_puts(b, ",\"shape\":");
  json_string(b, t->type);
  strbuf_printf(b, ",\"elements\":%lld,\"bytes\":%lld,\"bits\":%u,\"zeros\":%lld", (long long)q->n, (long long)t->bytes,
                t->bits, (long long)q->zeros);
  if (q->distinct >= 0) strbuf_printf(b, ",\"distinct\":%lld,\"entropy\":%.6g", (long long)q->distinct, q->entropy);
  if (q->rank >= 0) strbuf_printf(b, ",\"rank\":%lld,\"full_rank\":%lld", (long long)q->rank, (long long)q->full_rank);
  if (q->slices >= 0)
    strbuf_printf(b, ",\"slices\":%lld,\"distinct_slices\":%lld", (long long)q->slices, (long long)q->slices_distinct);
  if (q->cosine[0] >= 0)
    strbuf_printf(b, ",\"cosine\":{\"1\":%.4f,\"2\":%.4f,\"4\":%.4f,\"8\":%.4f}", q->cosine[0], q->cosine[1],
                  q->cosine[2], q->cosine[3]);
  strbuf_printf(b, ",\"smallest\":\"%s\",\"smallest_bytes\":%lld}", q->stored, (long long)q->stored_bytes);
}

static void json_layer(StrBuf *b, const InspectLayer *r) {
  strbuf_puts(b, "{\"layer\":");
  json_string(b, r->layer);
  strbuf_printf(b, ",\"op\":\"%s\",\"input\":", r->op);
  json_string(b, r->in);
  strbuf_puts(b, ",\"result\":");
  json_string(b, r->out);
  strbuf_printf(b, ",\"parameters\":%lld,\"macs\":%lld,\"ops\":%lld,\"operations\":%lld,\"bytes\":%lld}",
                (long long)r->params, (long long)r->macs, (long long)r->ops, (long long)r->operations,
                (long long)r->bytes);
}

static void print_json(Session *s, const Inspect *in) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  strbuf_puts(&b, "{\"layers\":[");
  for (uint32_t i = 0; i < in->layers.n; i++) {
    if (i) strbuf_putc(&b, ',');
    json_layer(&b, &in->layers.at[i]);
  }
  strbuf_puts(&b, "],\"tensors\":[");
  for (uint32_t i = 0; i < in->tensors.n; i++) {
    if (i) strbuf_putc(&b, ',');
    json_tensor(&b, &in->tensors.at[i]);
  }
  strbuf_printf(&b, "],\"parameters\":%lld,\"macs\":%lld,\"ops\":%lld,\"operations\":%lld,\"bytes\":%lld}\n",
                (long long)in->params, (long long)in->macs, (long long)in->ops, (long long)in->operations,
                (long long)in->bytes);
  fputs(strbuf_str(&b), stdout);
}

int cmd_inspect(Session *s) {
  if (!session_load(s)) return diag_exit_code(s->diag);
  Inspect in = {0};
  inspect_graph(s, &in);
  if (option_flag(&s->opt.json)) {
    print_json(s, &in);
  } else {
    print_tensors(s, &in);
    print_layers(s, &in);
  }
  return 0;
}
