// Hash maps in an arena: by 64-bit key or by string. Iteration order is never exposed.
#ifndef QCC_IR_BASE_MAP_H
#define QCC_IR_BASE_MAP_H

#include "ir/base/arena.h"

typedef struct Map Map;

Map *map_new(Arena *arena);
void map_set(Map *m, uint64_t key, void *value);         // NULL removes
void *map_get(const Map *m, uint64_t key);               // NULL when absent
void map_set_str(Map *m, const char *key, void *value);  // the key is not copied
void *map_get_str(const Map *m, const char *key);
uint32_t map_count(const Map *m);

#endif
