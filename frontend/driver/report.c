// The layer report: what each step of the program is, in text and JSON. Both read the same rows.
#include "frontend/driver/session.h"

#include <string.h>

#include "ir/note.h"

static const char *step_layer(Session *s, const Step *step) {
  const Loc *loc = step->loc;
  while (loc && loc->next) loc = loc->next;  // the last node fused into it names the tensor people know
  if (!loc) return "";
  const char *name = loc->node_name && loc->node_name[0] ? loc->node_name : loc->output;
  return name ? str_escape(s->arena, name, 60) : "";
}

static const char *step_types(Session *s, const Step *step) {
  if (!step->op || !step->op->n_out || !step->op->out[0]->type) return "";
  return type_text(s->arena, s->m->types, step->op->out[0]->type);
}

typedef struct Totals {
  double macs, bytes;
  int64_t weights;
} Totals;

static Totals totals_of(const Program *p) {
  Totals t = {0};
  for (uint32_t i = 0; i < p->steps.n; i++) {
    t.macs += p->steps.at[i].macs;
    t.bytes += p->steps.at[i].bytes;
  }
  for (uint32_t i = 0; i < p->bufs.n; i++)
    if (p->bufs.at[i]->kind == PBUF_CONST && !p->bufs.at[i]->alias_of) t.weights += p->bufs.at[i]->bytes;
  return t;
}

void report_text(Session *s, StrBuf *out) {
  const Program *p = s->m->program;
  Totals t = totals_of(p);
  strbuf_printf(out, "%-4s %-40s %-16s %-8s %14s %12s  %s\n", "step", "layer", "op", "strategy", "MACs", "bytes",
                "result");
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    strbuf_printf(out, "%-4u %-40s %-16s %-8s %14.0f %12.0f  %s\n", i, step_layer(s, step),
                  step->op ? op_info(step->op->kind)->name : "copy", step->strategy ? step->strategy : "loop",
                  step->macs, step->bytes, step_types(s, step));
  }
  strbuf_printf(out, "\ntarget %s, %u steps, %u kernels, %.0f MACs, %lld bytes of weights\n", s->target->name,
                p->steps.n, p->kernels.n, t.macs, (long long)t.weights);
  strbuf_printf(out, "workspace %lld bytes (largest sum of live tensors: %lld)\n", (long long)p->workspace_bytes,
                (long long)p->live_bytes);
}

void json_string(StrBuf *out, const char *text) {
  strbuf_putc(out, '"');
  for (const char *p = text ? text : ""; *p; p++) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
      strbuf_printf(out, "\\u%04x", c);
    } else {
      strbuf_putc(out, (char)c);
    }
  }
  strbuf_putc(out, '"');
}

void report_json(Session *s, StrBuf *out) {
  const Program *p = s->m->program;
  Totals t = totals_of(p);
  strbuf_printf(out,
                "{\"qcc\":\"%s\",\"target\":\"%s\",\"steps\":%u,\"kernels\":%u,\"macs\":%.0f,\"weight_bytes\":%lld,",
                QCC_VERSION, s->target->name, p->steps.n, p->kernels.n, t.macs, (long long)t.weights);
  strbuf_printf(out, "\"workspace_bytes\":%lld,\"live_bytes\":%lld,\"layers\":[", (long long)p->workspace_bytes,
                (long long)p->live_bytes);
  for (uint32_t i = 0; i < p->steps.n; i++) {
    const Step *step = &p->steps.at[i];
    strbuf_puts(out, i ? ",{\"layer\":" : "{\"layer\":");
    json_string(out, step_layer(s, step));
    strbuf_printf(out, ",\"op\":\"%s\",\"strategy\":\"%s\",\"macs\":%.0f,\"bytes\":%.0f,\"result\":",
                  step->op ? op_info(step->op->kind)->name : "copy", step->strategy ? step->strategy : "loop",
                  step->macs, step->bytes);
    json_string(out, step_types(s, step));
    strbuf_putc(out, '}');
  }
  strbuf_puts(out, "]}");
}

static bool is_named(const Loc *loc, const char *name) {
  for (; loc; loc = loc->next) {
    if (loc->node_name && strcmp(loc->node_name, name) == 0) return true;
    if (loc->output && strcmp(loc->output, name) == 0) return true;
  }
  return false;
}

// A reason to stay float is void once a later pass found integers after all.
static bool note_holds(const Note *note, const Op *op) {
  return note->kind != NOTE_FLOAT || op->n_in == 0 || dtype_is_float(op_in(op, 0)->type->dtype);
}

void report_explain(Session *s) {
  const char *layer = s->pass_opt.explain_layer;
  bool *said = NEW_ARRAY(s->arena, bool, s->m->notes.n + 1);
  for (const Op *op = s->m->funcs.at[0]->first; op; op = op->next) {
    if (layer && *layer && !is_named(op->loc, layer)) continue;
    uint32_t at = 0;
    for (const Note *n; (n = note_next(s->m, op->loc, &at)) != NULL; said[at - 1] = true)
      if (!said[at - 1] && note_holds(n, op)) diag_note(s->diag, n->loc, "%s: %s", note_word(n->kind), n->text);
  }
}
