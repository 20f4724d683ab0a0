// The report of a network with factors, as text, JSON and page: the page is well formed and needs nothing from outside,
// its numbers and those of the text are the JSON's, and what was measured is below its bound and its limit.
//
//   report NETWORK.qir
#include <cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/report.h"
#include "passes/compress/factorize.h"
#include "tests/support/case.h"

static int failed;
static double parameters;  // of the last network, with its factors

static void check(bool ok, const char *what, const char *detail) {
  if (ok) return;
  fprintf(stderr, "FAIL %s: %s\n", what, detail);
  failed++;
}

// ---- the page: tags nest, attributes are quoted, text has no bare & or <

static bool is_void(const char *tag) {
  return strcmp(tag, "meta") == 0 || strcmp(tag, "br") == 0 || strcmp(tag, "!doctype") == 0;
}

static const char *read_tag(const char *p, char *name, bool *closes, bool *empty) {
  size_t n = 0;
  *closes = *p == '/';
  if (*closes) p++;
  for (; *p && !isspace((unsigned char)*p) && *p != '>' && *p != '/' && n < 30; p++) name[n++] = *p;
  name[n] = 0;
  bool quoted = false;
  for (; *p && (quoted || *p != '>'); p++) quoted ^= *p == '"';
  check(*p == '>' && !quoted, "page: a tag that never ends", name);
  *empty = p[-1] == '/' || is_void(name);
  return *p ? p + 1 : p;
}

static void check_page(const char *page) {
  static char open[64][32];
  int depth = 0;
  for (const char *p = page; *p;) {
    if (*p == '&')
      check(strncmp(p, "&lt;", 4) == 0 || strncmp(p, "&gt;", 4) == 0 || strncmp(p, "&amp;", 5) == 0, "page", p);
    if (*p++ != '<') continue;
    char name[32];
    bool closes, empty;
    p = read_tag(p, name, &closes, &empty);
    if (empty) continue;
    if (!closes && depth < 64) strcpy(open[depth++], name);
    if (closes) check(depth > 0 && strcmp(open[--depth], name) == 0, "page: closes what is not open", name);
  }
  check(depth == 0, "page: never closed", depth ? open[0] : "");
  check(!strstr(page, "http") && !strstr(page, "src=") && !strstr(page, "<script"), "page",
        "asks for something outside");
  check(strstr(page, "a&lt;b&amp;c") != NULL, "page", "a name is not escaped");
}

// ---- numbers

static double number(const cJSON *of, const char *key) {
  const cJSON *n = cJSON_GetObjectItem(of, key);
  check(cJSON_IsNumber(n), "JSON: no number", key);
  return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static void shown(const char *page, const char *text, const char *format, double v) {
  char cell[96], word[64];
  snprintf(word, sizeof word, format, v);
  snprintf(cell, sizeof cell, "<td>%s</td>", word);
  check(strstr(page, cell) != NULL, "page lacks", cell);
  check(strstr(text, word) != NULL, "text lacks", word);
}

static bool check_layer(const cJSON *l, const char *page, const char *text) {
  if (!cJSON_IsTrue(cJSON_GetObjectItem(l, "applied"))) return false;
  shown(page, text, "%.0f", number(l, "parameters"));
  shown(page, text, "%.0f", number(l, "parameters_after"));
  shown(page, text, "%.0f", number(l, "macs"));
  shown(page, text, "%.0f", number(l, "macs_after"));
  shown(page, text, "%.3g", number(l, "error_theory"));
  shown(page, text, "%.3g", number(l, "result_error"));
  shown(page, text, "%.3g", number(l, "result_bound"));
  shown(page, text, "%.6f", number(l, "result_cosine"));
  check(fabs(number(l, "error_theory") - number(l, "error_measured")) < 1e-5, "error", "theory and measured differ");
  check(number(l, "result_error") <= number(l, "result_bound"), "bound", "below what was measured");
  return true;
}

static void check_weights(const cJSON *weights, const char *page, const char *text) {
  check(cJSON_GetArraySize(weights) == 3, "JSON", "not three layers with weights");
  const cJSON *w = NULL;
  cJSON_ArrayForEach(w, weights) {
    const cJSON *c = NULL;
    shown(page, text, "%.0f", number(w, "elements"));
    cJSON_ArrayForEach(c, cJSON_GetObjectItem(w, "cosines")) shown(page, text, "%.4f", c->valuedouble);
  }
  const cJSON *sparse = cJSON_GetArrayItem(weights, 1);
  double zeros = number(sparse, "zeros") / number(sparse, "elements");
  check(zeros > 0.55 && zeros < 0.65, "JSON", "not about 60 % zeros");
}

static int histograms(const char *page) {
  int n = 0;
  for (const char *p = page; (p = strstr(p, "<svg")) != NULL; p++) n++;
  return n;
}

static const char *rendered(Session *s, const Report *r, void (*render)(Session *, const Report *, StrBuf *)) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  render(s, r, &b);
  return strbuf_str(&b);
}

// Compiles with these options; the number of layers with factors.
static int report_run(const char *path, char **options, int n, double limit) {
  TestModel t;
  FactorReport factored = {0};
  if (!test_model_open_noted(&t, path, options, n, &factored)) return -1;
  Session *s = &t.session;
  Report r = report_new(s, &t.object);
  const char *text = rendered(s, &r, report_text), *json = rendered(s, &r, report_json),
             *page = rendered(s, &r, report_html);
  check(strcmp(page, rendered(s, &r, report_html)) == 0, "page", "differs the second time");
  check_page(page);
  check(histograms(page) == 3 + 3, "page", "not a chart of errors, prices and bytes, and three histograms");
  cJSON *all = cJSON_Parse(json), *of = cJSON_GetObjectItem(all, "factored"), *l = NULL;
  check(of != NULL, "JSON", "can't be read");
  int applied = 0;
  cJSON_ArrayForEach(l, cJSON_GetObjectItem(of, "layers")) applied += check_layer(l, page, text);
  check(number(of, "error") <= number(of, "bound"), "bound", "of the network below what was measured");
  if (limit > 0) check(number(of, "error") <= limit && number(of, "limit") == limit, "limit", "not kept");
  check(fabs(number(of, "parameter_ratio") - number(of, "parameters") / number(of, "parameters_after")) < 1e-6, "ratio",
        "of parameters");
  check_weights(cJSON_GetObjectItem(all, "weights"), page, text);
  parameters = number(of, "parameters_after");
  cJSON_Delete(all);
  test_model_close(&t);
  return applied;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  char *ranks[] = {"--factorize=svd:rank=24:force:y", "--factorize=spatial_then_point:rank=9:force:a*"};
  char *loose[] = {"--factorize=auto:force", "--max-error=layer:0.9,network:0.8"};
  char *tight[] = {"--factorize=auto:force", "--max-error=layer:0.9,network:0.3"};
  check(report_run(argv[1], ranks, 2, 0) == 2, "ranks", "not two layers with factors");
  check(report_run(argv[1], loose, 2, 0.8) == 3, "limit", "keeps layers from factors that it permits");
  double few = parameters;
  check(report_run(argv[1], tight, 2, 0.3) >= 0 && parameters > few, "limit", "a tighter one keeps no more parameters");
  printf("report: %d failed\n", failed);
  return failed > 0;
}
