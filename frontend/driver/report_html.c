// The layer report as one page that needs no other file: the table of layers, the notes below each, the totals.
#include "frontend/driver/report.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qcc report</title>\n<style>\n"
    "body{font:14px/1.4 sans-serif;margin:2em;color:#222}table{border-collapse:collapse}\n"
    "th,td{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\n"
    "th{border-bottom:2px solid #888}.t{text-align:left}.float td{background:#fdecea}\n"
    "td.n{text-align:left;white-space:normal;color:#555;font-size:12px;border-bottom:2px solid #ddd}\n"
    "</style></head><body>\n";

void html_text(StrBuf *out, const char *text) {
  for (const char *p = text ? text : ""; *p; p++) {
    switch (*p) {
      case '<': strbuf_puts(out, "&lt;"); break;
      case '>': strbuf_puts(out, "&gt;"); break;
      case '&': strbuf_puts(out, "&amp;"); break;
      default: strbuf_putc(out, *p);
    }
  }
}

void html_word(StrBuf *out, const char *text) {
  strbuf_puts(out, "<td class=\"t\">");
  html_text(out, text);
  strbuf_puts(out, "</td>");
}

static void html_bits(StrBuf *out, uint32_t w, uint32_t x) {
  if (w) {
    strbuf_printf(out, "<td class=\"t\">W%uA%u</td>", w, x);
  } else {
    strbuf_puts(out, "<td></td>");
  }
}

static void html_row(StrBuf *out, const LayerRow *r) {
  strbuf_puts(out, r->contraction && r->is_float ? "<tr class=\"float\">" : "<tr>");
  html_word(out, r->name);
  html_word(out, r->kind);
  html_word(out, r->strategy);
  html_bits(out, r->declared_w, r->declared_x);
  html_bits(out, r->contraction ? r->w_bits : 0, r->x_bits);
  strbuf_printf(out, "<td>%.0f</td><td>%.0f</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td>", r->macs,
                r->bit_ops, (long long)r->weights, (long long)r->weight_bytes, (long long)r->table_bytes,
                (long long)r->thresholds);
  html_word(out, r->result);
  strbuf_puts(out, "</tr>\n");
  if (!r->notes.n) return;
  strbuf_puts(out, "<tr><td class=\"n\" colspan=\"12\">");
  for (uint32_t i = 0; i < r->notes.n; i++) {
    strbuf_printf(out, "%s<b>%s</b> ", i ? "<br>" : "", note_word(r->notes.at[i]->kind));
    html_text(out, r->notes.at[i]->text);
  }
  strbuf_puts(out, "</td></tr>\n");
}

void report_html(Session *s, const Report *r, StrBuf *out) {
  static const char *const columns[] = {"layer",   "op",      "strategy", "declared", "emitted",    "MACs",
                                        "bit-ops", "weights", "bytes",    "tables",   "thresholds", "result"};
  strbuf_puts(out, head);
  strbuf_puts(out, "<h1>");
  html_text(out, s->name);
  strbuf_printf(out,
                "</h1>\n<p>Target %s. %.0f multiply-adds, %.0f bit operations, %lld thresholds. Weights %lld bytes, "
                "tables %lld bytes, object %lld bytes; %lld parameters are %lld bytes as f32.</p>\n<table>\n<tr>",
                s->target->name, r->macs, r->bit_ops, (long long)r->thresholds, (long long)r->weight_bytes,
                (long long)r->table_bytes, (long long)r->object_bytes, (long long)s->params.elements,
                (long long)s->params.elements * 4);
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    strbuf_printf(out, "<th%s>%s</th>", i < 5 || i == 11 ? " class=\"t\"" : "", columns[i]);
  strbuf_puts(out, "</tr>\n");
  for (uint32_t i = 0; i < r->n; i++) html_row(out, &r->rows[i]);
  strbuf_puts(out, "</table>\n");
  report_factored_html(s, out);
  report_shared_html(s, out);
  report_quantised_html(s, out);
  report_weights_html(s, r, out);
  strbuf_puts(out, "</body></html>\n");
}
