// Mangling: injective on a million names, always a C identifier that begins with a letter.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "ir/base/map.h"

static const char *text(Arena *a, const char *s) { return mangle(a, s, strlen(s)); }

Test(mangle, examples) {
  Arena *a = arena_new("test");
  cr_expect_str_eq(text(a, "digits"), "digits");
  cr_expect_str_eq(text(a, "a_b"), "a__b");
  cr_expect_str_eq(text(a, "a.b"), "a_x2eb");
  cr_expect_str_eq(text(a, "0"), "n_0");
  cr_expect_str_eq(text(a, "int"), "n_int");
  cr_expect_str_eq(text(a, ""), "n_");
  cr_expect_str_eq(text(a, "_x"), "n_z__x");
  cr_expect_str_neq(text(a, ".x"), text(a, "n_x2ex"));
  arena_free(a);
}

static bool is_identifier(const char *s) {
  if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z'))) return false;
  for (; *s; s++)
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_')) return false;
  return true;
}

// Names over a small alphabet that is rich in the characters the escape uses itself.
static size_t random_name(char *out, uint64_t *state) {
  static const char alphabet[] = "n_xz0h2e.aI\xff";
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  size_t n = (*state >> 33) % 9;
  if ((*state >> 40) % 64 == 0) n += 190;
  for (size_t i = 0; i < n; i++) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    out[i] = alphabet[(*state >> 33) % (sizeof alphabet - 1)];
  }
  out[n] = 0;
  return n;
}

Test(mangle, injective) {
  Arena *a = arena_new("test");
  Map *name_of = map_new(a);  // mangled -> name
  uint64_t state = 1;
  char name[256];
  for (int i = 0; i < 1000000; i++) {
    size_t n = random_name(name, &state);
    ArenaMark mark = arena_mark(a);
    const char *m = mangle(a, name, n);
    cr_assert(is_identifier(m), "'%s' gives '%s'", name, m);
    const char *other = map_get_str(name_of, m);
    if (other) {
      cr_assert_str_eq(other, name, "'%s' and '%s' give '%s'", other, name, m);
      arena_reset(a, mark);
    } else {
      map_set_str(name_of, m, arena_copy(a, name, n + 1));
    }
  }
  arena_free(a);
}
