// What --share did, as a section of the report: text, JSON, and a table on the page.
//
// Levels are those that occur in one book, `distinct` the different weights of the layer (S20), entropy is per code.
// W.A is the inference cost per multiply-add in products of bits (S15): bits of a code times bits of the input. A
// network that is trained further pays W.(A + G), with G bits of a gradient.
#include "frontend/driver/report.h"
#include "passes/quantize/share.h"

#define FLOAT_BITS 32

static const ShareReport *shared_of(const Session *s) {
  const ShareReport *r = s->pass_opt.shared;
  return r != NULL && r->layers.n > 0 ? r : NULL;
}

typedef struct Totals {
  int64_t weights, bytes, bytes_after;
  double us, us_after;
} Totals;

static Totals totals_of(const ShareReport *r) {
  Totals t = {0};
  for (uint32_t i = 0; i < r->layers.n; i++) {
    const Shared *h = &r->layers.at[i];
    t.weights += h->weights;
    t.bytes += h->bytes;
    t.bytes_after += h->applied ? h->bytes_after : h->bytes;
    t.us += h->us;
    t.us_after += h->applied ? h->us_after : h->us;
  }
  return t;
}

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static const char *inputs_text(const ShareReport *r) { return r->recorded ? "recorded" : "seeded"; }

// ---- text

static void text_layer(Session *s, const Shared *h, StrBuf *out) {
  const WeightStats *t = &h->stats;
  strbuf_printf(out, "%-36s ", loc_layer(s->arena, h->loc));
  if (!h->applied) {
    strbuf_printf(out, "%-36s %s\n", "kept", h->why);
    return;
  }
  strbuf_printf(out, "%-36s %5.0f %6u %8lld %7.3f %5.0f %9.6f %9.3g %9.3g %9lld %9lld %9.2f %9.2f", h->form, t->bits,
                t->levels, (long long)t->distinct, t->entropy, t->bits * FLOAT_BITS, t->cosine, t->relative, t->largest,
                (long long)h->bytes, (long long)h->bytes_after, h->us, h->us_after);
  if (h->reach_error >= 0) strbuf_printf(out, " %9.3g %9.6f", h->reach_error, h->cosine);
  if (h->alone >= 0) strbuf_printf(out, " %9.3g", h->alone);
  strbuf_putc(out, '\n');
}

void report_shared_text(Session *s, StrBuf *out) {
  const ShareReport *r = shared_of(s);
  if (r == NULL) return;
  Totals t = totals_of(r);
  strbuf_printf(out,
                "\nshared weights; one book per tensor, the whole range and rounding to the nearest level unless "
                "asked for otherwise; W.A in products of bits per multiply-add\n");
  strbuf_printf(out, "%-36s %-36s %5s %6s %8s %7s %5s %9s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", "layer", "scheme",
                "bits", "levels", "distinct", "entropy", "W.A", "cosine", "relative", "largest", "bytes", "after",
                "price us", "after", "result", "cosine", "alone");
  for (uint32_t i = 0; i < r->layers.n; i++) text_layer(s, &r->layers.at[i], out);
  strbuf_printf(out, "all of these: %lld weights, %lld -> %lld bytes (%.2f times), price %.2f -> %.2f us\n",
                (long long)t.weights, (long long)t.bytes, (long long)t.bytes_after,
                ratio((double)t.bytes, (double)t.bytes_after), t.us, t.us_after);
  if (r->samples > 0)
    strbuf_printf(out, "network on %u %s inputs: relative error %.3g, cosine %.6f against the one before\n", r->samples,
                  inputs_text(r), r->error, r->cosine);
  if (r->limit > 0) strbuf_printf(out, "limit of the relative error of the results: %.3g\n", r->limit);
  if (r->unmeasured) strbuf_printf(out, "network not measured: %s\n", r->unmeasured);
}

// ---- JSON

static void json_layer(Session *s, const Shared *h, StrBuf *out) {
  const WeightStats *t = &h->stats;
  strbuf_puts(out, "{\"layer\":");
  json_string(out, loc_layer(s->arena, h->loc));
  strbuf_printf(out, ",\"applied\":%s,\"scheme\":", h->applied ? "true" : "false");
  json_string(out, h->form);
  strbuf_puts(out, ",\"why\":");
  json_string(out, h->why);
  strbuf_printf(out, ",\"weights\":%lld,\"bits\":%.0f,\"levels\":%u,\"distinct\":%lld,\"entropy\":%.6g,",
                (long long)h->weights, t->bits, t->levels, (long long)t->distinct, t->entropy);
  strbuf_printf(out, "\"bit_products\":%.0f,\"cosine\":%.9g,\"relative_error\":%.9g,\"largest_error\":%.9g,",
                t->bits * FLOAT_BITS, t->cosine, t->relative, t->largest);
  strbuf_printf(out, "\"bytes\":%lld,\"bytes_after\":%lld,\"bytes_entropy_coded\":%lld,\"price_us\":%.4g,",
                (long long)h->bytes, (long long)h->bytes_after, (long long)t->bytes_coded, h->us);
  strbuf_printf(out, "\"price_us_after\":%.4g", h->us_after);
  if (h->reach_error >= 0)
    strbuf_printf(out, ",\"result_error\":%.9g,\"result_cosine\":%.9g", h->reach_error, h->cosine);
  if (h->alone >= 0) strbuf_printf(out, ",\"alone_error\":%.9g", h->alone);
  strbuf_putc(out, '}');
}

void report_shared_json(Session *s, StrBuf *out) {
  const ShareReport *r = shared_of(s);
  if (r == NULL) return;
  Totals t = totals_of(r);
  strbuf_puts(out, "\"shared\":{\"layers\":[\n");
  for (uint32_t i = 0; i < r->layers.n; i++) {
    if (i) strbuf_puts(out, ",\n");
    json_layer(s, &r->layers.at[i], out);
  }
  strbuf_printf(out, "\n],\"samples\":%u,\"inputs\":\"%s\",\"weights\":%lld,\"bytes\":%lld,\"bytes_after\":%lld",
                r->samples, inputs_text(r), (long long)t.weights, (long long)t.bytes, (long long)t.bytes_after);
  if (r->samples > 0) strbuf_printf(out, ",\"error\":%.9g,\"cosine\":%.9g", r->error, r->cosine);
  if (r->limit > 0) strbuf_printf(out, ",\"limit\":%.9g", r->limit);
  strbuf_puts(out, "},\n");
}

// ---- the page

static void html_layer(Session *s, const Shared *h, StrBuf *out) {
  const WeightStats *t = &h->stats;
  strbuf_puts(out, "<tr><td class=\"t\">");
  html_text(out, loc_layer(s->arena, h->loc));
  strbuf_puts(out, "</td><td class=\"t\">");
  html_text(out, h->applied ? h->form : h->why);
  strbuf_puts(out, "</td>");
  if (h->applied) {
    strbuf_printf(out, "<td>%.0f</td><td>%u</td><td>%lld</td><td>%.3f</td><td>%.6f</td><td>%.3g</td><td>%.3g</td>",
                  t->bits, t->levels, (long long)t->distinct, t->entropy, t->cosine, t->relative, t->largest);
    strbuf_printf(out, "<td>%lld</td><td>%lld</td><td>%.2f</td><td>%.2f</td>", (long long)h->bytes,
                  (long long)h->bytes_after, h->us, h->us_after);
    if (h->reach_error >= 0) strbuf_printf(out, "<td>%.3g</td>", h->reach_error);
  }
  strbuf_puts(out, "</tr>\n");
}

void report_shared_html(Session *s, StrBuf *out) {
  static const char *const columns[] = {"layer",    "scheme",  "bits",  "levels", "distinct", "entropy", "cosine",
                                        "relative", "largest", "bytes", "after",  "us",       "after",   "result"};
  const ShareReport *r = shared_of(s);
  if (r == NULL) return;
  strbuf_puts(out, "<h2>Shared weights</h2>\n<table>\n<tr>");
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    strbuf_printf(out, "<th%s>%s</th>", i < 2 ? " class=\"t\"" : "", columns[i]);
  strbuf_puts(out, "</tr>\n");
  for (uint32_t i = 0; i < r->layers.n; i++) html_layer(s, &r->layers.at[i], out);
  strbuf_puts(out, "</table>\n");
  if (r->samples > 0)
    strbuf_printf(out, "<p>Network on %u %s inputs: relative error %.3g, cosine %.6f against the one before.</p>\n",
                  r->samples, inputs_text(r), r->error, r->cosine);
}
