// The promises of design section 7 for COFF and Mach-O objects, as far as LLVM's object reader shows them: only
// sections that are code, constants or unwind tables have contents, nothing outside is needed but memory functions, and
// every other name carries the model's.
//
// Both formats have names of their own that belong to no model: sections, labels, and in COFF the constants that
// linkers merge by content (__real@..., __xmm@...), the marks @feat.00 and _fltused (Visual C's library defines it; it
// says that floats are used). Pointers of constants lie in .rdata and __DATA,__const, which loaders seal.
#include <llvm-c/Core.h>
#include <llvm-c/Object.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/base/diag.h"

static bool fail(Diag *d, const char *what, const char *which) {
  return diag_error(d, DIAG_LIMIT, NULL, "internal error: the object %s '%s'", what, which);
}

// Names of 16 bytes fill their field of a Mach-O section: LLVM gives the next field along with them.
static bool is_in(const char *s, const char *const *list, size_t most) {
  for (; *list; list++)
    if (strncmp(s, *list, most) == 0) return true;
  return false;
}

static bool begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static bool check_sections(LLVMBinaryRef object, ObjectFormat format, Diag *d) {
  static const char *const coff[] = {".text", ".rdata", ".xdata", ".pdata", NULL};
  static const char *const macho[] = {"__text",      "__const",    "__cstring",        "__literal4", "__literal8",
                                      "__literal16", "__eh_frame", "__compact_unwind", NULL};
  LLVMSectionIteratorRef s = LLVMObjectFileCopySectionIterator(object);
  bool ok = true;
  for (; ok && !LLVMObjectFileIsSectionIteratorAtEnd(object, s); LLVMMoveToNextSection(s))
    if (LLVMGetSectionSize(s) && !is_in(LLVMGetSectionName(s), format == FORMAT_COFF ? coff : macho, 16))
      ok = fail(d, "has the section", LLVMGetSectionName(s));
  LLVMDisposeSectionIterator(s);
  return ok;
}

static bool check_coff(const char *s, bool outside, const char *name, Diag *d) {
  static const char *const needed[] = {"memcpy", "memset", "memmove", "_fltused", "@feat.00", ".file", NULL};
  if (outside) return is_in(s, needed, 64) || fail(d, "needs the outside symbol", s);
  if (s[0] == '.' || begins(s, "__real@") || begins(s, "__xmm@") || begins(s, "__ymm@") || begins(s, "__zmm@"))
    return true;
  return (begins(s, name) && s[strlen(name)] == '_') || fail(d, "has a name without the model's prefix,", s);
}

static bool check_macho(const char *s, bool outside, const char *name, Diag *d) {
  static const char *const needed[] = {"_memcpy", "_memset", "_memmove", NULL};
  if (outside) return is_in(s, needed, 64) || fail(d, "needs the outside symbol", s);
  if (s[0] == 'l' || s[0] == 'L') return true;  // labels: the names of programs begin with _
  return (s[0] == '_' && begins(s + 1, name) && s[1 + strlen(name)] == '_') ||
         fail(d, "has a name without the model's prefix,", s);
}

static bool check_symbols(LLVMBinaryRef object, const char *name, ObjectFormat format, Diag *d) {
  LLVMSymbolIteratorRef s = LLVMObjectFileCopySymbolIterator(object);
  LLVMSectionIteratorRef in = LLVMObjectFileCopySectionIterator(object);
  bool ok = true;
  for (; ok && !LLVMObjectFileIsSymbolIteratorAtEnd(object, s); LLVMMoveToNextSymbol(s)) {
    LLVMMoveToContainingSection(in, s);
    bool outside = LLVMObjectFileIsSectionIteratorAtEnd(object, in);
    const char *text = LLVMGetSymbolName(s);
    ok = format == FORMAT_COFF ? check_coff(text, outside, name, d) : check_macho(text, outside, name, d);
  }
  LLVMDisposeSectionIterator(in);
  LLVMDisposeSymbolIterator(s);
  return ok;
}

bool object_check_foreign(const uint8_t *at, size_t n, const char *name, ObjectFormat format, Diag *diag) {
  char *why = NULL;
  LLVMMemoryBufferRef bytes = LLVMCreateMemoryBufferWithMemoryRange((const char *)at, n, name, false);
  LLVMBinaryRef object = LLVMCreateBinary(bytes, NULL, &why);
  if (!object) {
    fail(diag, "can't be read:", why);
    LLVMDisposeMessage(why);
    LLVMDisposeMemoryBuffer(bytes);
    return false;
  }
  LLVMBinaryType want = format == FORMAT_COFF ? LLVMBinaryTypeCOFF : LLVMBinaryTypeMachO64L;
  bool ok = LLVMBinaryGetType(object) == want || fail(diag, "has another format:", name);
  ok = ok && check_sections(object, format, diag) && check_symbols(object, name, format, diag);
  LLVMDisposeBinary(object);
  LLVMDisposeMemoryBuffer(bytes);
  return ok;
}
