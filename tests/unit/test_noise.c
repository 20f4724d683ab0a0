// The noise of rounding in networks that round to levels: it explains flips at ties and nothing else.
#include "frontend/driver/noise.h"

#include "tests/unit/eval_case.h"

// Sums of 0.1, 0.2 and 0.3 lie on a tie of the rounding, but for the order they are added in; 2.3 does not.
static const char *const rounded =
    "func @f(%x: f32[1,3]) -> f32[1,2] {\n"
    "  %0 = matmul %x, @w : f32[1,2]\n"
    "  %1 = mul %0, f32(2.5) : f32[1,2]\n"
    "  %2 = round %1 : f32[1,2]\n"
    "  return %2\n"
    "}\n"
    "const @w: f32[3,2] = [1, 1, 1, 1, 1, 9]\n";

static bool explained(const char *text, double first, double second, bool *applies) {
  Case c = case_parse(__LINE__, text, NUMS(0.1, 0.2, 0.3));
  Noise noise[1];
  cr_assert(eval_func(c.f, c.args, c.results, c.arena, NULL, NULL));
  cr_assert(noise_measure(c.f, c.args, c.results, noise, c.arena));
  Tensor got = tensor_new(c.arena, c.results[0].type);
  DType t = got.type->dtype;
  elem_set_f(got.data, t, 0, elem_get_f(c.results[0].data, t, 0) + first);
  elem_set_f(got.data, t, 1, elem_get_f(c.results[0].data, t, 1) + second);
  *applies = noise_applies(c.f);
  bool yes = noise_explains(&noise[0], &c.results[0], &got);
  arena_free(c.arena);
  return yes;
}

Test(noise, a_tie_may_turn_either_way) {
  bool applies = false;
  bool up = explained(rounded, 1, 0, &applies), down = explained(rounded, -1, 0, &applies);
  cr_assert(applies && (up || down), "0.6 * 2.5 lies on a tie");
}

Test(noise, larger_changes_are_errors) {
  bool applies = false;
  cr_assert(!explained(rounded, 3, 0, &applies), "three levels are no tie");
  cr_assert(!explained(rounded, NAN, 0, &applies), "NaN is no level");
}

Test(noise, where_nothing_is_near_a_tie_nothing_is_explained) {
  bool applies = false;
  const char *text =
      "func @f(%x: f32[1,3]) -> f32[1,2] {\n"
      "  %0 = matmul %x, @w : f32[1,2]\n"
      "  %1 = round %0 : f32[1,2]\n"
      "  return %1\n"
      "}\n"
      "const @w: f32[3,2] = [1, 1, 1, 1, 1, 9]\n";
  cr_assert(!explained(text, 1, 0, &applies) && applies);
}

Test(noise, floats_alone_have_their_gate) {
  bool applies = true;
  const char *text =
      "func @f(%x: f32[1,3]) -> f32[1,2] {\n"
      "  %0 = matmul %x, @w : f32[1,2]\n"
      "  return %0\n"
      "}\n"
      "const @w: f32[3,2] = [1, 1, 1, 1, 1, 9]\n";
  cr_assert(!explained(text, 1, 0, &applies) && !applies);
}
