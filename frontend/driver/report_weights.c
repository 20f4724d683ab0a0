// What the weights of the imported graph are like: a note per layer on what they would take stored as zeros and shared
// values, and for the page a histogram per layer and the bytes of every layer before and after.
//
// Read before any pass, because constants may be gone by the time of the report.
#include <math.h>
#include <string.h>

#include "frontend/driver/report.h"
#include "passes/compress/tensor_stats.h"

enum { BINS = 48, BIN = 5, TALL = 70, LABEL = 260, WIDTH = 420, BAR = 14, GAP = 6 };

struct WeightChart {
  const char *layer;
  double least, largest;
  int64_t n, zeros, most;  // most: of the bins without zeros
  int64_t bins[BINS];
  TensorStats stats;
};

static void bins_fill(WeightChart *c, Module *m, Const *w) {
  double reach = c->largest - c->least;
  for (int64_t i = 0; i < c->n && reach > 0; i++) {
    double v = const_f(m, w, i);
    int bin = (int)((v - c->least) / reach * BINS);
    if (v != 0) c->bins[bin < BINS ? bin : BINS - 1]++;
  }
  for (int i = 0; i < BINS; i++)
    if (c->bins[i] > c->most) c->most = c->bins[i];
}

// Half of the weights zero, or few values: what the stored forms would make of them.
static void note_stored(Session *s, const Op *op, const TensorStats *t, int64_t dense) {
  bool few = t->distinct >= 0 && t->distinct <= 257;
  if (t->n == 0 || (2 * t->zeros < t->n && !few) || strcmp(t->stored, "dense") == 0) return;
  const char *values = t->distinct >= 0 ? arena_printf(s->arena, "%lld values", (long long)t->distinct) : "many values";
  note_layer(s->m, op, NOTE_STORED, "%.1f %% zeros, %s, entropy %.3g bits; smallest as %s: %lld bytes, %.1f times less",
             100.0 * (double)t->zeros / (double)t->n, values, t->entropy, t->stored, (long long)t->stored_bytes,
             (double)dense / (double)t->stored_bytes);
}

static void weights_of(Session *s, const Op *op) {
  Const *w = op_in(op, 1)->constant;
  Arena *scratch = arena_new("weights");
  TensorStats t = tensor_stats(s->m, w, false, scratch);
  note_stored(s, op, &t, type_bytes(w->type));
  WeightChart c = {loc_layer(s->arena, op->loc), t.least, t.largest, t.n, t.zeros, 0, {0}, t};
  if (isfinite(t.least) && isfinite(t.largest)) bins_fill(&c, s->m, w);
  vec_push(s->arena, &s->charts, c);
  arena_free(scratch);
}

void report_weights_read(Session *s) {
  for (const Op *op = s->m->funcs.at[0]->first; op; op = op->next) {
    bool contraction = op->kind == OP_CONV || op->kind == OP_CONV_TRANSPOSE || op->kind == OP_MATMUL;
    if (!contraction || !value_is_const(op_in(op, 1))) continue;
    const Type *t = op_in(op, 1)->type;
    if (type_is_static(t) && dtype_is_float(t->dtype) && type_count(t) > 0) weights_of(s, op);
  }
}

// ---- zeros (S41) and what few bits would keep (S53), as a table

static double zeros_of(const WeightChart *c) { return 100.0 * (double)c->zeros / (double)c->n; }

void report_weights_text(Session *s, StrBuf *out) {
  if (!s->charts.n) return;
  strbuf_printf(out, "\n%-36s %10s %10s %8s %8s %8s %8s %8s %8s\n", "weights of the file", "elements", "zeros", "",
                "values", "cosine 1", "2", "4", "8 bits");
  for (uint32_t i = 0; i < s->charts.n; i++) {
    const WeightChart *c = &s->charts.at[i];
    strbuf_printf(out, "%-36s %10lld %10lld %6.1f %% %8s", c->layer, (long long)c->n, (long long)c->zeros, zeros_of(c),
                  c->stats.distinct < 0 ? "many" : arena_printf(s->arena, "%lld", (long long)c->stats.distinct));
    for (int k = 0; k < STATS_COSINES && c->stats.cosine[0] >= 0; k++) strbuf_printf(out, " %8.4f", c->stats.cosine[k]);
    strbuf_putc(out, '\n');
  }
}

void report_weights_json(Session *s, StrBuf *out) {
  strbuf_puts(out, "\"weights\":[");
  for (uint32_t i = 0; i < s->charts.n; i++) {
    const WeightChart *c = &s->charts.at[i];
    strbuf_printf(out, "%s\n{\"layer\":", i ? "," : "");
    json_string(out, c->layer);
    strbuf_printf(out, ",\"elements\":%lld,\"zeros\":%lld", (long long)c->n, (long long)c->zeros);
    if (c->stats.distinct >= 0) strbuf_printf(out, ",\"values\":%lld", (long long)c->stats.distinct);
    for (int k = 0; k < STATS_COSINES && c->stats.cosine[0] >= 0; k++)
      strbuf_printf(out, "%s%.4f%s", k ? "," : ",\"cosines\":[", c->stats.cosine[k], k + 1 < STATS_COSINES ? "" : "]");
    strbuf_putc(out, '}');
  }
  strbuf_puts(out, "],\n");
}

// ---- the page

static void html_table(Session *s, StrBuf *out) {
  static const char *const columns[] = {"layer", "elements", "zeros", "values", "cosine 1 bit", "2", "4", "8 bits"};
  strbuf_puts(out, "<table>\n<tr>");
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
    strbuf_printf(out, "<th%s>%s</th>", i < 1 ? " class=\"t\"" : "", columns[i]);
  strbuf_puts(out, "</tr>\n");
  for (uint32_t i = 0; i < s->charts.n; i++) {
    const WeightChart *c = &s->charts.at[i];
    strbuf_puts(out, "<tr><td class=\"t\">");
    html_text(out, c->layer);
    strbuf_printf(out, "</td><td>%lld</td><td>%lld (%.1f %%)</td><td>%s</td>", (long long)c->n, (long long)c->zeros,
                  zeros_of(c),
                  c->stats.distinct < 0 ? "many" : arena_printf(s->arena, "%lld", (long long)c->stats.distinct));
    for (int k = 0; k < STATS_COSINES && c->stats.cosine[0] >= 0; k++)
      strbuf_printf(out, "<td>%.4f</td>", c->stats.cosine[k]);
    strbuf_puts(out, "</tr>\n");
  }
  strbuf_puts(out, "</table>\n");
}

static void svg_text(StrBuf *out, double x, double y, const char *anchor, const char *text) {
  strbuf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
  html_text(out, text);
  strbuf_puts(out, "</text>\n");
}

static void svg_histogram(Session *s, const WeightChart *c, StrBuf *out) {
  strbuf_printf(out, "<svg width=\"%d\" height=\"%d\" font-size=\"11\" font-family=\"sans-serif\">\n", BINS * BIN + 20,
                TALL + 40);
  svg_text(out, 4, 12, "start", c->layer);
  for (int i = 0; i < BINS; i++) {
    double tall = c->most > 0 ? TALL * (double)c->bins[i] / (double)c->most : 0;
    strbuf_printf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"#3b5998\"/>\n", 4 + i * BIN,
                  16 + TALL - tall, BIN - 1, tall);
  }
  svg_text(out, 4, TALL + 30, "start", arena_printf(s->arena, "%.3g", c->least));
  svg_text(out, 4 + BINS * BIN, TALL + 30, "end", arena_printf(s->arena, "%.3g", c->largest));
  if (c->zeros > 0)
    svg_text(out, 4 + BINS * BIN / 2.0, TALL + 30, "middle",
             arena_printf(s->arena, "%.1f %% zeros", 100.0 * (double)c->zeros / (double)c->n));
  strbuf_puts(out, "</svg>\n");
}

static void svg_bar(StrBuf *out, int y, double share, const char *colour, const char *label) {
  strbuf_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LABEL, y, share * WIDTH,
                BAR - 2, colour);
  svg_text(out, LABEL + share * WIDTH + 4, y + BAR - 4, "start", label);
}

// The file's weights as f32 against what the object holds of the layer.
static void svg_bytes(Session *s, const Report *r, StrBuf *out) {
  double most = 1;
  int y = GAP, layers = 0;
  for (uint32_t i = 0; i < r->n; i++) {
    const LayerRow *row = &r->rows[i];
    if (!row->contraction) continue;
    most = fmax(most, fmax(4.0 * (double)row->weights, (double)row->weight_bytes));
    layers++;
  }
  strbuf_printf(out,
                "<h3>Bytes of weights: as f32 (grey), in the object (green)</h3>\n<svg width=\"%d\" height=\"%d\" "
                "font-size=\"11\" font-family=\"sans-serif\">\n",
                LABEL + WIDTH + 120, layers * (2 * BAR + GAP) + GAP);
  for (uint32_t i = 0; i < r->n; i++) {
    const LayerRow *row = &r->rows[i];
    if (!row->contraction) continue;
    svg_text(out, LABEL - 6, y + BAR - 4, "end", row->name);
    svg_bar(out, y, 4.0 * (double)row->weights / most, "#999",
            arena_printf(s->arena, "%lld", 4 * (long long)row->weights));
    svg_bar(out, y + BAR, (double)row->weight_bytes / most, "#4a9d5b",
            arena_printf(s->arena, "%lld", (long long)row->weight_bytes));
    y += 2 * BAR + GAP;
  }
  strbuf_puts(out, "</svg>\n");
}

void report_weights_html(Session *s, const Report *r, StrBuf *out) {
  strbuf_puts(out, "<h2>Weights</h2>\n");
  if (s->charts.n) html_table(s, out);
  svg_bytes(s, r, out);
  if (s->charts.n) strbuf_puts(out, "<h3>Values of the weights in the file, zeros left out</h3>\n");
  for (uint32_t i = 0; i < s->charts.n; i++) svg_histogram(s, &s->charts.at[i], out);
}
