// The text of NAME.h: the ABI part of runtime/qcc_rt.h, the size of the workspace, one struct of pointers for the
// inputs and one for the outputs, and the functions.
//
// The structs hold nothing but pointers in interface order, so they are the arrays qcc_call wants. Names from the model
// appear mangled as members and, reduced to harmless characters, in comments.
#include <string.h>

#include "backends/backend.h"
#include "backends/iface.h"

static const char rt_text[] =
#include "qcc_rt_text.h"
    ;

// The lines between the marks, with the table of statuses written out.
static void put_abi(StrBuf *out) {
  const char *begin = strchr(strstr(rt_text, "/* abi begin"), '\n') + 1, *end = strstr(rt_text, "/* abi end */");
  const char *table = strstr(begin, "#define QCC_STATUS"), *rest = strchr(strstr(table, "#undef QCC_STATUS"), '\n') + 1;
  strbuf_put(out, begin, (size_t)(table - begin));
#define QCC_STATUS(id, value, text) strbuf_printf(out, "  %s = %d, /* %s */\n", #id, value, text);
#include "runtime/status.def"
#undef QCC_STATUS
  strbuf_put(out, rest, (size_t)(end - rest));
}

// Letters, digits and a few marks that can neither end a comment nor form a trigraph; at most 100 characters.
static void put_harmless(StrBuf *out, const char *s) {
  for (size_t i = 0; s[i] && i < 100; i++) {
    bool keep = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9');
    strbuf_putc(out, keep || strchr("_-.:/ ", s[i]) ? s[i] : '.');
  }
}

static bool put_member(Module *m, const IfaceTensor *t, const char *qualifier, StrBuf *out) {
  const DTypeInfo *info = dtype_info(t->type->dtype);
  if (!info->ctype)
    return diag_error(m->diag, DIAG_UNSUPPORTED, NULL, "tensor '%.100s' has type %s, which C programs can't pass",
                      t->name, info->name);
  strbuf_printf(out, "  %s%s *%s; /* %s[", qualifier, info->ctype, t->member, info->name);
  for (uint32_t i = 0; i < t->type->rank; i++) strbuf_printf(out, "%s%lld", i ? "," : "", (long long)t->type->dims[i]);
  strbuf_printf(out, "], %lld bytes, '", (long long)t->bytes);
  put_harmless(out, t->name);
  strbuf_puts(out, "' */\n");
  return true;
}

static bool put_struct(Module *m, const char *name, const char *which, uint32_t n, const IfaceTensor *t,
                       const char *qualifier, StrBuf *out) {
  strbuf_printf(out, "typedef struct %s_%s {\n", name, which);
  if (n == 0) strbuf_puts(out, "  const void *none; /* there are none */\n");
  for (uint32_t i = 0; i < n; i++)
    if (!put_member(m, &t[i], qualifier, out)) return false;
  strbuf_printf(out, "} %s_%s;\n\n", name, which);
  return true;
}

static void put_init_weights(const char *name, uint64_t bytes, StrBuf *out) {
  strbuf_printf(
      out,
      "/* The weights are in a file of their own. %s_init leaves a workspace without any; this also checks the\n"
      "   file, given as it lies in memory, aligned to 64 bytes, where it stays while the workspace is used. */\n"
      "#define %s_WEIGHTS_SIZE %llu\n"
      "int %s_init_weights(void *workspace, const void *weights, uint64_t bytes);\n",
      name, name, (unsigned long long)bytes, name);
}

static void put_functions(const char *name, StrBuf *out) {
  strbuf_printf(out,
                "/* Checks the CPU and prepares a workspace; call it once for every workspace. */\n"
                "int %s_init(void *workspace);\n"
                "/* One inference. Any number of threads may run at once, each with a workspace of its own.\n"
                "   exec: the caller's threads or NULL; the results do not depend on it. Returns a qcc_status. */\n"
                "int %s_run(void *workspace, const %s_inputs *in, const %s_outputs *out, const qcc_exec *exec);\n"
                "/* The same as data, for programs that handle models they do not know. */\n"
                "extern const qcc_model %s_model;\n",
                name, name, name, name, name);
}

bool header_text(Module *m, const char *name, const ObjectBytes *object, StrBuf *out) {
  Arena *arena = arena_new("header");
  Iface iface = iface_of(m, arena);
  uint64_t bytes = object->workspace, alone, align;
  backend_workspace(m, &alone, &align);
  strbuf_printf(out, "/* Interface of the network '%s', written by qcc %s. */\n", name, QCC_VERSION);
  strbuf_printf(out, "#ifndef QCC_MODEL_%s_H\n#define QCC_MODEL_%s_H\n\n#include <stdint.h>\n\n", name, name);
  strbuf_puts(out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
  put_abi(out);
  strbuf_printf(out, "\n#define %s_WORKSPACE_SIZE %llu%s\n", name, (unsigned long long)bytes,
                bytes > INT32_MAX ? "ul" : "");
  strbuf_printf(out, "#define %s_WORKSPACE_ALIGN %llu\n", name, (unsigned long long)align);
  strbuf_printf(out, "#define %s_STACK_SIZE %llu /* bytes of stack a call takes at most */\n\n", name,
                (unsigned long long)object->stack);
  bool ok = put_struct(m, name, "inputs", iface.n_in, iface.in, "const ", out) &&
            put_struct(m, name, "outputs", iface.n_out, iface.out, "", out);
  put_functions(name, out);
  if (object->weights) put_init_weights(name, object->n_weights, out);
  strbuf_puts(out, "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
  arena_free(arena);
  return ok;
}
