// What --factorize did, as a section of the report: text, JSON, and a table with two charts on the page.
#include <math.h>

#include "frontend/driver/report.h"
#include "passes/compress/factorize.h"

static const FactorReport *factored_of(const Session *s) {
  const FactorReport *r = s->pass_opt.factored;
  return r != NULL && r->layers.n > 0 ? r : NULL;
}

typedef struct Totals {
  int64_t parameters, parameters_after;
  double macs, macs_after, us, us_after;
} Totals;

static Totals totals_of(const FactorReport *r) {
  Totals t = {0};
  for (uint32_t i = 0; i < r->layers.n; i++) {
    const Factored *f = &r->layers.at[i];
    t.parameters += f->parameters;
    t.parameters_after += f->applied ? f->parameters_after : f->parameters;
    t.macs += f->macs;
    t.macs_after += f->applied ? f->macs_after : f->macs;
    t.us += f->us;
    t.us_after += f->applied ? f->us_after : f->us;
  }
  return t;
}

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static const char *inputs_text(const FactorReport *r) { return r->recorded ? "recorded" : "seeded"; }

// ---- text

static const char *bound_text(Session *s, double bound) {
  return isfinite(bound) ? arena_printf(s->arena, "%.3g", bound) : "-";
}

static void text_layer(Session *s, const Factored *f, StrBuf *out) {
  strbuf_printf(out, "%-36s ", loc_layer(s->arena, f->loc));
  if (!f->applied) {
    strbuf_printf(out, "%-34s %s\n", "dense", f->why);
    return;
  }
  strbuf_printf(out, "%-34s %9lld %9lld %12.0f %12.0f %9.2f %9.2f %10.3g %10.3g", f->form, (long long)f->parameters,
                (long long)f->parameters_after, f->macs, f->macs_after, f->us, f->us_after, f->theory, f->measured);
  if (f->reach_error >= 0) strbuf_printf(out, " %10.3g %10s %9.6f", f->reach_error, bound_text(s, f->bound), f->cosine);
  if (f->alone >= 0) strbuf_printf(out, " %10.3g", f->alone);
  strbuf_putc(out, '\n');
}

void report_factored_text(Session *s, StrBuf *out) {
  const FactorReport *r = factored_of(s);
  if (r == NULL) return;
  Totals t = totals_of(r);
  strbuf_printf(out, "\nfactorised layers; errors are relative Frobenius norms, of the weights and of the results\n");
  strbuf_printf(out, "%-36s %-34s %9s %9s %12s %12s %9s %9s %10s %10s %10s %10s %9s %10s\n", "layer", "form", "weights",
                "after", "MACs", "after", "price us", "after", "theory", "measured", "result", "at most", "cosine",
                "alone");
  for (uint32_t i = 0; i < r->layers.n; i++) text_layer(s, &r->layers.at[i], out);
  strbuf_printf(out, "all of these: %lld -> %lld weights (%.2f times), %.0f -> %.0f MACs, price %.2f -> %.2f us\n",
                (long long)t.parameters, (long long)t.parameters_after,
                ratio((double)t.parameters, (double)t.parameters_after), t.macs, t.macs_after, t.us, t.us_after);
  if (r->samples > 0)
    strbuf_printf(out, "network on %u %s inputs: relative error %.3g (at most %s), cosine %.6f against the dense one\n",
                  r->samples, inputs_text(r), r->error, bound_text(s, r->bound), r->cosine);
  if (r->limit > 0) strbuf_printf(out, "limit of the relative error of the results: %.3g\n", r->limit);
  if (r->unmeasured) strbuf_printf(out, "network not measured: %s\n", r->unmeasured);
}

// ---- JSON

static void json_bound(StrBuf *out, const char *key, double bound) {
  if (isfinite(bound)) {
    strbuf_printf(out, "\"%s\":%.9g", key, bound);
  } else {
    strbuf_printf(out, "\"%s\":null", key);
  }
}

static void json_layer(Session *s, const Factored *f, StrBuf *out) {
  strbuf_puts(out, "{\"layer\":");
  json_string(out, loc_layer(s->arena, f->loc));
  strbuf_printf(out, ",\"applied\":%s,\"form\":", f->applied ? "true" : "false");
  json_string(out, f->form);
  strbuf_puts(out, ",\"why\":");
  json_string(out, f->why);
  strbuf_printf(out, ",\"parameters\":%lld,\"parameters_after\":%lld,\"macs\":%.0f,\"macs_after\":%.0f,",
                (long long)f->parameters, (long long)f->parameters_after, f->macs, f->macs_after);
  strbuf_printf(out, "\"price_us\":%.4g,\"price_us_after\":%.4g,\"error_theory\":%.9g,\"error_measured\":%.9g", f->us,
                f->us_after, f->theory, f->measured);
  if (f->reach_error >= 0) {
    strbuf_printf(out, ",\"result_error\":%.9g,\"result_cosine\":%.9g,", f->reach_error, f->cosine);
    json_bound(out, "result_bound", f->bound);
  }
  if (f->alone >= 0) strbuf_printf(out, ",\"alone_error\":%.9g", f->alone);
  strbuf_putc(out, '}');
}

void report_factored_json(Session *s, StrBuf *out) {
  const FactorReport *r = factored_of(s);
  if (r == NULL) return;
  strbuf_puts(out, "\"factored\":{\"layers\":[\n");
  for (uint32_t i = 0; i < r->layers.n; i++) {
    if (i) strbuf_puts(out, ",\n");
    json_layer(s, &r->layers.at[i], out);
  }
  strbuf_printf(out, "\n],\"samples\":%u,\"inputs\":\"%s\"", r->samples, inputs_text(r));
  if (r->samples > 0) {
    strbuf_printf(out, ",\"error\":%.9g,\"cosine\":%.9g,", r->error, r->cosine);
    json_bound(out, "bound", r->bound);
  }
  if (r->limit > 0) strbuf_printf(out, ",\"limit\":%.9g", r->limit);
  Totals t = totals_of(r);
  strbuf_printf(out, ",\"parameters\":%lld,\"parameters_after\":%lld,\"parameter_ratio\":%.9g,",
                (long long)t.parameters, (long long)t.parameters_after,
                ratio((double)t.parameters, (double)t.parameters_after));
  strbuf_printf(out, "\"macs\":%.0f,\"macs_after\":%.0f,\"mac_ratio\":%.9g,\"price_us\":%.4g,\"price_us_after\":%.4g",
                t.macs, t.macs_after, ratio(t.macs, t.macs_after), t.us, t.us_after);
  strbuf_puts(out, "},\n");
}

// ---- HTML

enum { BAR = 14, GAP = 6, LABEL = 260, WIDTH = 420 };

static void svg_begin(StrBuf *out, const char *title, uint32_t rows, int per_row) {
  strbuf_printf(out, "<h3>%s</h3>\n<svg width=\"%d\" height=\"%d\" font-size=\"11\" font-family=\"sans-serif\">\n",
                title, LABEL + WIDTH + 120, (int)rows * (per_row * BAR + GAP) + GAP);
}

static void svg_bar(StrBuf *out, int y, double share, const char *colour, const char *label) {
  strbuf_printf(
      out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">%s</text>\n",
      LABEL, y, share * WIDTH, BAR - 2, colour, LABEL + share * WIDTH + 4, y + BAR - 4, label);
}

static void svg_name(Session *s, StrBuf *out, const Factored *f, int y) {
  strbuf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LABEL - 6, y + BAR - 4);
  html_text(out, loc_layer(s->arena, f->loc));
  strbuf_puts(out, "</text>\n");
}

static void svg_errors(Session *s, const FactorReport *r, StrBuf *out) {
  double most = 1e-300;
  uint32_t rows = 0;
  for (uint32_t i = 0; i < r->layers.n; i++) {
    const Factored *f = &r->layers.at[i];
    if (!f->applied) continue;
    rows++;
    most = f->measured > most ? f->measured : most;
    most = f->reach_error > most ? f->reach_error : most;
  }
  svg_begin(out, "Relative error per layer: weights (dark), accumulated in the result (light)", rows, 2);
  int y = GAP;
  for (uint32_t i = 0; i < r->layers.n; i++) {
    const Factored *f = &r->layers.at[i];
    if (!f->applied) continue;
    svg_name(s, out, f, y);
    svg_bar(out, y, f->measured / most, "#3b5998", arena_printf(s->arena, "%.3g", f->measured));
    if (f->reach_error >= 0)
      svg_bar(out, y + BAR, f->reach_error / most, "#a9b8dc", arena_printf(s->arena, "%.3g", f->reach_error));
    y += 2 * BAR + GAP;
  }
  strbuf_puts(out, "</svg>\n");
}

static void svg_prices(Session *s, const FactorReport *r, StrBuf *out) {
  double most = 1e-300;
  for (uint32_t i = 0; i < r->layers.n; i++) most = r->layers.at[i].us > most ? r->layers.at[i].us : most;
  svg_begin(out, "Price in microseconds: before (grey), after (green)", r->layers.n, 2);
  int y = GAP;
  for (uint32_t i = 0; i < r->layers.n; i++, y += 2 * BAR + GAP) {
    const Factored *f = &r->layers.at[i];
    double after = f->applied ? f->us_after : f->us;
    svg_name(s, out, f, y);
    svg_bar(out, y, f->us / most, "#999", arena_printf(s->arena, "%.2f", f->us));
    svg_bar(out, y + BAR, after / most, "#4a9d5b", arena_printf(s->arena, "%.2f", after));
  }
  strbuf_puts(out, "</svg>\n");
}

static void html_layer(Session *s, const Factored *f, StrBuf *out) {
  strbuf_puts(out, "<tr><td class=\"t\">");
  html_text(out, loc_layer(s->arena, f->loc));
  strbuf_puts(out, "</td><td class=\"t\">");
  html_text(out, f->applied ? f->form : f->why);
  strbuf_puts(out, "</td>");
  if (f->applied) {
    strbuf_printf(out, "<td>%lld</td><td>%lld</td><td>%.0f</td><td>%.0f</td><td>%.2f</td><td>%.2f</td>",
                  (long long)f->parameters, (long long)f->parameters_after, f->macs, f->macs_after, f->us, f->us_after);
    strbuf_printf(out, "<td>%.3g</td><td>%.3g</td>", f->theory, f->measured);
    if (f->reach_error >= 0)
      strbuf_printf(out, "<td>%.3g</td><td>%s</td><td>%.6f</td>", f->reach_error, bound_text(s, f->bound), f->cosine);
  }
  strbuf_puts(out, "</tr>\n");
}

void report_factored_html(Session *s, StrBuf *out) {
  static const char *const columns[] = {"layer", "form",   "weights",  "after",  "MACs",    "after", "us",
                                        "after", "theory", "measured", "result", "at most", "cosine"};
  const FactorReport *r = factored_of(s);
  if (r == NULL) return;
  strbuf_puts(out, "<h2>Factorised layers</h2>\n<table>\n<tr>");
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    strbuf_printf(out, "<th%s>%s</th>", i < 2 ? " class=\"t\"" : "", columns[i]);
  strbuf_puts(out, "</tr>\n");
  for (uint32_t i = 0; i < r->layers.n; i++) html_layer(s, &r->layers.at[i], out);
  strbuf_puts(out, "</table>\n");
  if (r->samples > 0)
    strbuf_printf(out,
                  "<p>Network on %u %s inputs: relative error %.3g (at most %s), cosine %.6f against the dense "
                  "one.</p>\n",
                  r->samples, inputs_text(r), r->error, bound_text(s, r->bound), r->cosine);
  svg_errors(s, r, out);
  svg_prices(s, r, out);
}
