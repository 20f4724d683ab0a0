// The layer report as text, as JSON and as notes of --explain. All read the same rows (layers.c); the page is
// report_html.c.
#include "frontend/driver/report.h"

#include <string.h>

static const char *bits_text(Arena *a, uint32_t w, uint32_t x) { return w ? arena_printf(a, "W%uA%u", w, x) : ""; }

static void text_row(Session *s, const LayerRow *r, StrBuf *out) {
  strbuf_printf(out, "%-36s %-10s %-8s %-8s %-8s %12.0f %15.0f %10lld %9lld %9lld %6lld  %s\n", r->name, r->kind,
                r->strategy, bits_text(s->arena, r->declared_w, r->declared_x),
                r->contraction ? bits_text(s->arena, r->w_bits, r->x_bits) : "", r->macs, r->bit_ops,
                (long long)r->weights, (long long)r->weight_bytes, (long long)r->table_bytes, (long long)r->thresholds,
                r->result);
}

static void text_notes(const LayerRow *r, StrBuf *out) {
  if (!r->notes.n) return;
  strbuf_printf(out, "\n%s\n", r->name);
  for (uint32_t i = 0; i < r->notes.n; i++)
    strbuf_printf(out, "  %-10s %s\n", note_word(r->notes.at[i]->kind), r->notes.at[i]->text);
}

static uint64_t report_flash(const Report *r) { return r->size.code + r->size.constants; }
static uint64_t report_ram(const Report *r) { return r->workspace + r->stack; }

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

// Bytes of the constants of the object against the file's parameters as f32, and against the bits its weights need.
static void text_totals(Session *s, const Report *r, StrBuf *out) {
  const Program *p = s->m->program;
  int64_t constants = r->weight_bytes + r->table_bytes;
  double declared = s->params.weight_bits / 8, as_float = 4.0 * (double)s->params.elements;
  strbuf_printf(out, "\ntarget %s, %u steps, %u kernels, %.0f MACs, %.0f bit operations, %lld thresholds\n",
                s->target->name, p->steps.n, p->kernels.n, r->macs, r->bit_ops, (long long)r->thresholds);
  strbuf_printf(out, "constants %lld bytes: %lld of weights, %lld of thresholds, biases and scales\n",
                (long long)constants, (long long)r->weight_bytes, (long long)r->table_bytes);
  if (s->params.elements)
    strbuf_printf(out,
                  "%lld parameters, %.0f bytes as f32: %.2f times the constants; weights need %.0f bytes as declared, "
                  "%.3f of what they take\n",
                  (long long)s->params.elements, as_float, ratio(as_float, (double)constants), declared,
                  ratio(declared, (double)r->weight_bytes));
  if (r->object_bytes)
    strbuf_printf(out, "object %lld bytes, %.2f times smaller than the parameters as f32\n", (long long)r->object_bytes,
                  ratio(as_float, (double)r->object_bytes));
  strbuf_printf(out, "workspace %lld bytes (largest sum of live tensors: %lld)\n", (long long)p->workspace_bytes,
                (long long)p->live_bytes);
}

// What an image with the object needs: the numbers of the object itself, for every level enough.
static void text_footprint(const Report *r, StrBuf *out) {
  if (!r->object_bytes) return;
  strbuf_printf(out, "flash %llu bytes (%llu of code, %llu of constants), ", (unsigned long long)report_flash(r),
                (unsigned long long)r->size.code, (unsigned long long)r->size.constants);
  strbuf_printf(out, "RAM %llu (%llu of workspace, %llu of stack at most), %llu instructions\n",
                (unsigned long long)report_ram(r), (unsigned long long)r->workspace, (unsigned long long)r->stack,
                (unsigned long long)r->size.instructions);
}

void report_text(Session *s, const Report *r, StrBuf *out) {
  strbuf_printf(out, "%-36s %-10s %-8s %-8s %-8s %12s %15s %10s %9s %9s %6s  %s\n", "layer", "op", "strategy",
                "declared", "emitted", "MACs", "bit-ops", "weights", "bytes", "tables", "thresh", "result");
  for (uint32_t i = 0; i < r->n; i++) text_row(s, &r->rows[i], out);
  for (uint32_t i = 0; i < r->n; i++) text_notes(&r->rows[i], out);
  report_factored_text(s, out);
  report_shared_text(s, out);
  report_quantised_text(s, out);
  report_weights_text(s, out);
  report_levels_text(s, r, out);
  text_totals(s, r, out);
  text_footprint(r, out);
}

// ---- JSON

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

static void json_notes(const LayerRow *r, StrBuf *out) {
  strbuf_puts(out, ",\"notes\":[");
  for (uint32_t i = 0; i < r->notes.n; i++) {
    strbuf_printf(out, "%s{\"kind\":\"%s\",\"text\":", i ? "," : "", note_word(r->notes.at[i]->kind));
    json_string(out, r->notes.at[i]->text);
    strbuf_putc(out, '}');
  }
  strbuf_puts(out, "]");
}

static void json_row(const LayerRow *r, StrBuf *out) {
  strbuf_puts(out, "{\"layer\":");
  json_string(out, r->name);
  strbuf_printf(out, ",\"op\":\"%s\",\"strategy\":\"%s\",\"steps\":%u,\"result\":", r->kind, r->strategy, r->n_steps);
  json_string(out, r->result);
  if (r->contraction) {
    strbuf_printf(out, ",\"float\":%s,\"macs\":%.0f,\"bit_ops\":%.0f,\"weights\":%lld,\"weight_bits\":%u,",
                  r->is_float ? "true" : "false", r->macs, r->bit_ops, (long long)r->weights, r->w_bits);
    strbuf_printf(out, "\"input_bits\":%u,\"declared_weight_bits\":%u,\"declared_input_bits\":%u,", r->x_bits,
                  r->declared_w, r->declared_x);
    strbuf_printf(out, "\"weight_bytes\":%lld,\"thresholds\":%lld", (long long)r->weight_bytes,
                  (long long)r->thresholds);
    json_notes(r, out);
  }
  strbuf_printf(out, ",\"table_bytes\":%lld}", (long long)r->table_bytes);
}

static void json_footprint(const Report *r, StrBuf *out) {
  if (!r->object_bytes) return;
  strbuf_printf(out, "\"flash_bytes\":%llu,\"code_bytes\":%llu,\"ram_bytes\":%llu,\"stack_bytes\":%llu,",
                (unsigned long long)report_flash(r), (unsigned long long)r->size.code,
                (unsigned long long)report_ram(r), (unsigned long long)r->stack);
  strbuf_printf(out, "\"instructions\":%llu,", (unsigned long long)r->size.instructions);
}

void report_json(Session *s, const Report *r, StrBuf *out) {
  const Program *p = s->m->program;
  strbuf_printf(out, "{\"qcc\":\"%s\",\"target\":\"%s\",\"steps\":%u,\"kernels\":%u,\"macs\":%.0f,\"bit_ops\":%.0f,",
                QCC_VERSION, s->target->name, p->steps.n, p->kernels.n, r->macs, r->bit_ops);
  strbuf_printf(out, "\"weight_bytes\":%lld,\"table_bytes\":%lld,\"thresholds\":%lld,\"object_bytes\":%lld,",
                (long long)r->weight_bytes, (long long)r->table_bytes, (long long)r->thresholds,
                (long long)r->object_bytes);
  double as_float = 4.0 * (double)s->params.elements, constants = (double)(r->weight_bytes + r->table_bytes);
  strbuf_printf(out, "\"parameters\":%lld,\"parameter_bytes_f32\":%.0f,\"constants_ratio\":%.4f,\"object_ratio\":%.4f,",
                (long long)s->params.elements, as_float, ratio(as_float, constants),
                ratio(as_float, (double)r->object_bytes));
  strbuf_printf(out, "\"declared_weight_bytes\":%.0f,\"workspace_bytes\":%lld,\"live_bytes\":%lld,",
                s->params.weight_bits / 8, (long long)p->workspace_bytes, (long long)p->live_bytes);
  json_footprint(r, out);
  report_factored_json(s, out);
  report_shared_json(s, out);
  report_quantised_json(s, out);
  report_weights_json(s, out);
  report_levels_json(s, r, out);
  strbuf_puts(out, "\"layers\":[\n");
  for (uint32_t i = 0; i < r->n; i++) {
    if (i) strbuf_puts(out, ",\n");
    json_row(&r->rows[i], out);
  }
  strbuf_puts(out, "\n]}\n");
}

// Kept short: it is read-only data of every object.
void report_info(Session *s, StrBuf *out) {
  const Program *p = s->m->program;
  Report r = report_new(s, NULL);
  strbuf_printf(out, "{\"qcc\":\"%s\",\"target\":\"%s\",\"steps\":%u,\"kernels\":%u,\"macs\":%.0f,", QCC_VERSION,
                session_cpu(s), p->steps.n, p->kernels.n, r.macs);
  report_levels_json(s, &r, out);
  strbuf_printf(out, "\"weight_bytes\":%lld,\"workspace_bytes\":%lld,\"layers\":[",
                (long long)(r.weight_bytes + r.table_bytes), (long long)p->workspace_bytes);
  const char *comma = "";
  for (uint32_t i = 0; i < r.n; i++) {
    if (!r.rows[i].contraction) continue;
    strbuf_printf(out, "%s{\"layer\":", comma);
    json_string(out, r.rows[i].name);
    strbuf_printf(out, ",\"op\":\"%s\",\"strategy\":\"%s\",\"weight_bits\":%u,\"input_bits\":%u}", r.rows[i].kind,
                  r.rows[i].strategy, r.rows[i].w_bits, r.rows[i].x_bits);
    comma = ",";
  }
  strbuf_puts(out, "]}");
}

// ---- --explain

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
    NoteList notes = note_list(s->m, op->loc, s->arena);
    for (uint32_t i = 0; i < notes.n; i++) {
      const Note *n = notes.at[i];
      if (!said[n - s->m->notes.at] && note_holds(n, op))
        diag_note(s->diag, n->loc, "%s: %s", note_word(n->kind), n->text);
      said[n - s->m->notes.at] = true;
    }
  }
}
