// What --quantize did, as a section of the report: text, JSON, and a table with the curve of size against error.
//
// W.A is the inference cost per multiply-add in products of bits (S15): stored bits of a weight times bits of an input.
#include <math.h>

#include "frontend/driver/report.h"
#include "passes/quantize/quantize.h"

#define FLOAT_BITS 32

static const Quantization *quantised_of(const Session *s) {
  const Quantization *z = s->pass_opt.quantize;
  return z != NULL && z->layers.n > 0 ? z : NULL;
}

static const char *inputs_text(Session *s, const Quantization *z, const QuantLayer *l) {
  const QuantSite *site = &z->sites.at[l->input];
  if (!l->choice.x_bits) return "f32";
  if (!site->used) return arena_printf(s->arena, "u%u %s", l->choice.x_bits, l->choice.x->name);
  return arena_printf(s->arena, "u%u %s %.3g..%.3g", l->choice.x_bits, l->choice.x->name, site->lo, site->hi);
}

static double bit_products(const QuantLayer *l) {
  return l->stats.bits * (l->choice.x_bits ? l->choice.x_bits : FLOAT_BITS);
}

static double us(const Session *s, double cycles) { return 1e-3 * cycles / s->target->ghz; }

// ---- text

static void text_layer(Session *s, const Quantization *z, const QuantLayer *l, StrBuf *out) {
  strbuf_printf(out, "%-36s ", loc_layer(s->arena, l->loc));
  if (!l->done) {
    strbuf_printf(out, "%s\n", l->why ? arena_printf(s->arena, "float: %s", l->why) : "float");
    return;
  }
  strbuf_printf(out, "%-34s %-22s %6u %8.2f %5.0f %9.6f %9.3g %9.3g %9lld %9.2f %9.2f\n", l->scheme,
                inputs_text(s, z, l), l->stats.levels, l->stats.entropy, bit_products(l), l->stats.cosine,
                l->stats.relative, l->stats.largest, (long long)l->stats.bytes, us(s, l->before), us(s, l->after));
}

static void text_point(const Quantization *z, const QuantPoint *p, StrBuf *out) {
  strbuf_printf(out, "%-22s %10lld %10.2f %12.4g %10.6f %12.4g", p->what, (long long)p->bytes, p->us, p->score.error,
                p->score.cosine, p->score.most);
  if (z->labelled) strbuf_printf(out, " %8lld", (long long)p->score.right);
  strbuf_putc(out, '\n');
}

void report_quantised_text(Session *s, StrBuf *out) {
  const Quantization *z = quantised_of(s);
  if (z == NULL) return;
  strbuf_printf(out,
                "\nquantised layers; ranges from %u samples; errors are of the weights; first and last layers keep 8 "
                "bits unless the rule says all; W.A in products of bits per multiply-add\n",
                z->samples);
  strbuf_printf(out, "%-36s %-34s %-22s %6s %8s %5s %9s %9s %9s %9s %9s %9s\n", "layer", "weights", "inputs", "levels",
                "entropy", "W.A", "cosine", "relative", "largest", "bytes", "us float", "us now");
  for (uint32_t i = 0; i < z->layers.n; i++) text_layer(s, z, &z->layers.at[i], out);
  if (z->points.n == 0) return;
  strbuf_printf(out, "\nnetworks measured on the samples against the float one; us by prices\n");
  strbuf_printf(out, "%-22s %10s %10s %12s %10s %12s%s\n", "network", "object", "us", "error", "cosine", "largest",
                z->labelled ? "    right" : "");
  for (uint32_t i = 0; i < z->points.n; i++) text_point(z, &z->points.at[i], out);
}

// ---- JSON

static void json_layer(Session *s, const Quantization *z, const QuantLayer *l, StrBuf *out) {
  strbuf_puts(out, "{\"layer\":");
  json_string(out, loc_layer(s->arena, l->loc));
  strbuf_puts(out, ",\"quantize\":");
  json_string(out, quant_choice_text(&l->choice, s->arena));
  if (l->why != NULL && !l->done) {
    strbuf_puts(out, ",\"why\":");
    json_string(out, l->why);
  }
  if (l->done) {
    const QuantSite *site = &z->sites.at[l->input];
    strbuf_printf(out, ",\"levels\":%u,\"distinct\":%lld,\"entropy\":%.6g,\"cosine\":%.9g,\"relative_error\":%.6g,",
                  l->stats.levels, (long long)l->stats.distinct, l->stats.entropy, l->stats.cosine, l->stats.relative);
    strbuf_printf(out, "\"largest_error\":%.6g,\"w_a\":%.6g,\"bytes\":%lld,\"input_lo\":%.9g,\"input_hi\":%.9g",
                  l->stats.largest, bit_products(l), (long long)l->stats.bytes, site->lo, site->hi);
  }
  strbuf_printf(out, ",\"price_us_float\":%.4g,\"price_us\":%.4g}", us(s, l->before), us(s, l->after));
}

static double bounded(double v) { return isfinite(v) ? v : 1e300; }

void report_quantised_json(Session *s, StrBuf *out) {
  const Quantization *z = quantised_of(s);
  if (z == NULL) return;
  strbuf_printf(out, "\"quantised\":{\"samples\":%u,\"layers\":[\n", z->samples);
  for (uint32_t i = 0; i < z->layers.n; i++) {
    json_layer(s, z, &z->layers.at[i], out);
    strbuf_puts(out, i + 1 < z->layers.n ? ",\n" : "\n");
  }
  strbuf_puts(out, "],\"networks\":[\n");
  for (uint32_t i = 0; i < z->points.n; i++) {
    const QuantPoint *p = &z->points.at[i];
    strbuf_puts(out, "{\"network\":");
    json_string(out, p->what);
    strbuf_printf(out, ",\"object_bytes\":%lld,\"price_us\":%.4g,\"error\":%.6g,\"cosine\":%.9g,\"largest\":%.6g",
                  (long long)p->bytes, p->us, bounded(p->score.error), p->score.cosine, bounded(p->score.most));
    if (z->labelled) strbuf_printf(out, ",\"right\":%lld", (long long)p->score.right);
    strbuf_printf(out, "}%s\n", i + 1 < z->points.n ? "," : "");
  }
  strbuf_puts(out, "]},\n");
}

// ---- HTML

static void html_layer(Session *s, const Quantization *z, const QuantLayer *l, StrBuf *out) {
  strbuf_puts(out, "<tr>");
  html_word(out, loc_layer(s->arena, l->loc));
  html_word(out, l->done ? l->scheme : l->why ? l->why : "float");
  if (l->done) {
    html_word(out, inputs_text(s, z, l));
    strbuf_printf(
        out, "<td>%u</td><td>%.2f</td><td>%.0f</td><td>%.6f</td><td>%.3g</td><td>%lld</td><td>%.2f</td><td>%.2f</td>",
        l->stats.levels, l->stats.entropy, bit_products(l), l->stats.cosine, l->stats.relative,
        (long long)l->stats.bytes, us(s, l->before), us(s, l->after));
  }
  strbuf_puts(out, "</tr>\n");
}

// Bytes to the right, relative error upwards by its logarithm; the one taken is filled.
static void svg_curve(const Quantization *z, StrBuf *out) {
  enum { WIDTH = 560, HEIGHT = 240, EDGE = 40 };
  double most_bytes = 1, lo = INFINITY, hi = -INFINITY;
  for (uint32_t i = 0; i < z->points.n; i++) {
    const QuantPoint *p = &z->points.at[i];
    most_bytes = fmax(most_bytes, (double)p->bytes);
    double e = log10(fmax(bounded(p->score.error), 1e-6));
    lo = fmin(lo, e);
    hi = fmax(hi, e);
  }
  if (!(hi > lo)) hi = lo + 1;
  strbuf_printf(out,
                "<h3>Object bytes (right) against relative error of the results (up, logarithmic)</h3>\n"
                "<svg width=\"%d\" height=\"%d\" font-size=\"11\" font-family=\"sans-serif\">\n",
                WIDTH + 3 * EDGE, HEIGHT + 2 * EDGE);
  for (uint32_t i = 0; i < z->points.n; i++) {
    const QuantPoint *p = &z->points.at[i];
    double x = EDGE + (double)p->bytes / most_bytes * WIDTH;
    double y = EDGE + HEIGHT - (log10(fmax(bounded(p->score.error), 1e-6)) - lo) / (hi - lo) * HEIGHT;
    strbuf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" stroke=\"#3b5998\" fill=\"%s\"/>", x, y,
                  i + 1 == z->points.n ? "#3b5998" : "none");
    strbuf_printf(out, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 6, y - 4, p->what);
  }
  strbuf_puts(out, "</svg>\n");
}

void report_quantised_html(Session *s, StrBuf *out) {
  static const char *const columns[] = {"layer",  "weights",  "inputs", "levels",   "entropy", "W.A",
                                        "cosine", "relative", "bytes",  "us float", "us now"};
  const Quantization *z = quantised_of(s);
  if (z == NULL) return;
  strbuf_puts(out, "<h2>Quantised layers</h2>\n<table>\n<tr>");
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    strbuf_printf(out, "<th%s>%s</th>", i < 3 ? " class=\"t\"" : "", columns[i]);
  strbuf_puts(out, "</tr>\n");
  for (uint32_t i = 0; i < z->layers.n; i++) html_layer(s, z, &z->layers.at[i], out);
  strbuf_puts(out, "</table>\n");
  if (z->points.n == 0) return;
  strbuf_puts(out,
              "<table>\n<tr><th class=\"t\">network</th><th>object</th><th>us by prices</th><th>error</th>"
              "<th>cosine</th><th>right</th></tr>\n");
  for (uint32_t i = 0; i < z->points.n; i++) {
    const QuantPoint *p = &z->points.at[i];
    strbuf_puts(out, "<tr>");
    html_word(out, p->what);
    strbuf_printf(out, "<td>%lld</td><td>%.2f</td><td>%.4g</td><td>%.6f</td><td>%lld</td></tr>\n", (long long)p->bytes,
                  p->us, p->score.error, p->score.cosine, (long long)p->score.right);
  }
  strbuf_puts(out, "</table>\n");
  svg_curve(z, out);
}
