// qcc inspect: the layer table of a model as it was imported: shapes, types, parameters, operations, bytes.
// Counts are exact (S21): parameters are elements of constants an op reads, operations are multiply-adds counted twice
// plus bias additions for contractions, one per result element elsewhere; movement counts none.
#include <stdlib.h>
#include <string.h>

#include "frontend/driver/report.h"

typedef struct Row {
  const char *layer, *op, *type;
  int64_t params, macs, ops, bytes;
} Row;

static bool moves_only(OpKind k) {
  return k == OP_RESHAPE || k == OP_TRANSPOSE || k == OP_CONCAT || k == OP_SLICE || k == OP_PAD || k == OP_EXPAND ||
         k == OP_TILE || k == OP_GATHER || k == OP_GATHER_ELEMENTS || k == OP_GATHER_ND;
}

static Row row_of(Session *s, const Op *op) {
  Row r = {.op = op_info(op->kind)->name, .type = type_text(s->arena, s->m->types, op->out[0]->type)};
  const Loc *loc = op->loc;
  const char *name = loc && loc->node_name && loc->node_name[0] ? loc->node_name
                     : loc && loc->output                       ? loc->output
                                                                : "";
  r.layer = str_escape(s->arena, name, 60);
  for (uint32_t i = 0; i < op->n_in; i++) {
    const Value *v = op_in(op, i);
    if (!value_is_const(v)) continue;
    r.params += type_count(v->type);
    r.bytes += type_bytes(v->type);
  }
  r.macs = op_macs(op);
  int64_t out = type_count(op->out[0]->type);
  bool bias =
      r.macs > 0 && op->n_in > 2 && op_in(op, 2) && op->kind != OP_LSTM && op->kind != OP_GRU && op->kind != OP_RNN;
  r.ops = r.macs ? 2 * r.macs + (bias ? out : 0) : moves_only(op->kind) ? 0 : out;
  return r;
}

static void print_text(const Row *rows, uint32_t n, const Row *total) {
  printf("%-44s %-16s %-24s %12s %14s %14s %12s\n", "layer", "op", "result", "parameters", "MACs", "operations",
         "bytes");
  for (uint32_t i = 0; i < n; i++)
    printf("%-44s %-16s %-24s %12lld %14lld %14lld %12lld\n", rows[i].layer, rows[i].op, rows[i].type,
           (long long)rows[i].params, (long long)rows[i].macs, (long long)rows[i].ops, (long long)rows[i].bytes);
  printf("%-44s %-16s %-24s %12lld %14lld %14lld %12lld\n", "total", "", "", (long long)total->params,
         (long long)total->macs, (long long)total->ops, (long long)total->bytes);
}

static void print_json(Session *s, const Row *rows, uint32_t n, const Row *total) {
  StrBuf b;
  strbuf_init(&b, s->arena);
  strbuf_puts(&b, "{\"layers\":[");
  for (uint32_t i = 0; i < n; i++) {
    strbuf_puts(&b, i ? ",{\"layer\":" : "{\"layer\":");
    json_string(&b, rows[i].layer);
    strbuf_printf(&b, ",\"op\":\"%s\",\"result\":", rows[i].op);
    json_string(&b, rows[i].type);
    strbuf_printf(&b, ",\"parameters\":%lld,\"macs\":%lld,\"operations\":%lld,\"bytes\":%lld}",
                  (long long)rows[i].params, (long long)rows[i].macs, (long long)rows[i].ops, (long long)rows[i].bytes);
  }
  strbuf_printf(&b, "],\"parameters\":%lld,\"macs\":%lld,\"operations\":%lld,\"bytes\":%lld}\n",
                (long long)total->params, (long long)total->macs, (long long)total->ops, (long long)total->bytes);
  fputs(strbuf_str(&b), stdout);
}

int cmd_inspect(Session *s) {
  if (!session_load(s)) return diag_exit_code(s->diag);
  const Func *f = s->m->funcs.at[0];
  Row *rows = NEW_ARRAY(s->arena, Row, f->n_ops + 1), total = {0};
  uint32_t n = 0;
  bool *counted = NEW_ARRAY(s->arena, bool, s->m->n_consts + 1);  // a shared constant counts once in the totals
  for (const Op *op = f->first; op; op = op->next) {
    Row r = rows[n++] = row_of(s, op);
    total.macs += r.macs;
    total.ops += r.ops;
    for (uint32_t i = 0; i < op->n_in; i++) {
      const Value *v = op_in(op, i);
      if (!value_is_const(v) || counted[v->constant->id]) continue;
      counted[v->constant->id] = true;
      total.params += type_count(v->type);
      total.bytes += type_bytes(v->type);
    }
  }
  if (option_flag(&s->opt.json)) {
    print_json(s, rows, n, &total);
  } else {
    print_text(rows, n, &total);
  }
  return 0;
}
