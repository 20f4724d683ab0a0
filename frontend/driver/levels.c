// Objects of several levels: which there are, and their way through the pipeline.
//
//   import, passes up to `plan`            once, choosing as for the last level without matrix tiles
//   plan, lower, ... for each level        on a copy of the module
//   emission                               all levels into one object (backend_emit_levels)
//
// Ops keep their ids in copies, so what a layer became is compared by id.
#include <string.h>

#include "frontend/driver/session.h"
#include "passes/lower/bf16.h"

// The level most machines of today take: graph passes choose for it.
static const Target *usual_level(const TargetLevels *l) {
  uint32_t i = l->n - 1;
  while (i > 0 && l->at[i]->has_amx) i--;
  return l->at[i];
}

// What measures or compares layers looks at one row: the level this machine takes.
static void take_one(TargetLevels *l) {
  const Target *one = usual_level(l);
  for (uint32_t i = 0; i < l->n; i++)
    if (target_runs_here(l->at[i])) one = l->at[i];
  *l = (TargetLevels){.n = 1, .at = {one}};
}

bool session_levels(Session *s, const char *name) {
  TargetLevels l = target_levels(name);
  if (l.n == 0) return false;
  bool whole = s->opt.command == CMD_compile || s->opt.command == CMD_run;
  if (l.n > 1 && !whole) take_one(&l);
  s->target = usual_level(&l);
  s->n_levels = l.n;
  for (uint32_t i = 0; i < l.n; i++) s->levels[i] = (Level){NULL, l.at[i]};
  return true;
}

const char *session_cpu(const Session *s) { return s->n_levels > 1 ? target_family(s->target) : s->target->name; }

bool session_target(Session *s) {
  const char *name = option_text(&s->opt.target, "native");
  if (!session_levels(s, name))
    return diag_error(s->diag, DIAG_USAGE, NULL, "no target named '%.60s'; there are native, %s", name,
                      target_list(s->arena));
  if (s->pass_opt.bf16 && !bf16_pays(s->target))
    return diag_error(s->diag, DIAG_USAGE, NULL,
                      "--fp=bf16: %s multiplies bfloat16 no faster than f32; take --target=zen4 or zen5, or --fp=fast",
                      s->target->name);
  return true;
}

static const char *find_pass(const char *pipeline, const char *name) {
  const char *at = pipeline;
  while (at && (strcspn(at, ",{") != strlen(name) || strncmp(at, name, strlen(name)) != 0))
    at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
  return at;
}

bool session_cut(Session *s, const char **graph, const char **rest) {
  const char *all = session_pipeline(s), *cut = find_pass(all, "plan");
  if (!cut) cut = find_pass(all, "lower");
  if (!cut) return false;
  *graph = arena_printf(s->arena, "%.*s", (int)(cut - all), all);
  *rest = cut;
  return true;
}

// Plans, lowers and finishes one level on its module.
static bool level_lower(Session *s, Level *l, const char *rest) {
  Session part = *s;
  part.m = l->m;
  part.target = l->target;
  part.timings = (PassTimings){0};
  bool ok = session_passes(&part, rest);
  for (uint32_t i = 0; i < part.timings.n; i++) vec_push(s->arena, &s->timings, part.timings.at[i]);
  return ok;
}

bool session_lower(Session *s) {
  const char *graph, *rest;
  if (s->n_levels <= 1 || !session_cut(s, &graph, &rest)) return session_passes(s, session_pipeline(s));
  s->release = false;  // levels share the bytes of constants
  if (!session_passes(s, graph)) return false;
  Level *usual = NULL;
  for (uint32_t i = 0; i < s->n_levels; i++) {
    bool first = s->levels[i].target == s->target;
    s->levels[i].m = first ? s->m : module_clone(s->m);
    if (first) usual = &s->levels[i];
  }
  Target narrow = *s->target;  // panels of weights that levels of shorter vectors can read too
  narrow.panel_vectors = 2;
  bool ok = level_lower(s, &(Level){s->m, &narrow}, rest);
  s->pass_opt.like = s->m;
  s->pass_opt.like_target = s->target;
  for (uint32_t i = 0; i < s->n_levels && ok; i++)
    if (&s->levels[i] != usual) ok = level_lower(s, &s->levels[i], rest);
  s->pass_opt.like = NULL;
  return ok;
}
