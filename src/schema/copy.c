/* Defaults and deep copies of described structs. */
#include "internal.h"

void schema_defaults(const struct type *t, void *ret)
{
	memset(ret, 0, t->size);
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (f->def == 0)
			continue;
		if (field_is_number(f))
			*(int64_t *)field_ptr(f, ret) = f->def;
		else if (f->kind == KIND_ENUM)
			*(int *)field_ptr(f, ret) = (int)f->def;
		else if (f->kind == KIND_BOOL)
			*(bool *)field_ptr(f, ret) = true;
	}
}

static void copy_list(const struct field *f, struct arena *arena, struct raw_list *list)
{
	size_t size = f->type ? f->type->size : sizeof(const char *);
	char *items = arena_alloc_array(arena, list->len, size);

	for (size_t i = 0; i < list->len; i++) {
		const char *from = (const char *)list->items + i * size;

		if (f->type)
			schema_copy(f->type, from, arena, items + i * size);
		else
			((const char **)(void *)items)[i] =
				arena_strdup(arena, *(const char *const *)(const void *)from);
	}
	list->items = items;
}

static void copy_map(struct arena *arena, struct text_map *map)
{
	struct text_map_item *items = arena_array(arena, struct text_map_item, map->len);

	for (size_t i = 0; i < map->len; i++) {
		items[i].key = arena_strdup(arena, map->items[i].key);
		items[i].value = arena_strdup(arena, map->items[i].value);
	}
	map->items = items;
}

void schema_copy(const struct type *t, const void *from, struct arena *arena, void *ret)
{
	memmove(ret, from, t->size);
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		void *at = field_ptr(f, ret), *object;

		switch (f->kind) {
		case KIND_TEXT:
		case KIND_ID:
			*(const char **)at = arena_strdup(arena, *(const char **)at);
			break;
		case KIND_OBJECT:
			if (!*(const void **)at)
				break;
			object = arena_alloc(arena, f->type->size);
			schema_copy(f->type, *(const void **)at, arena, object);
			*(void **)at = object;
			break;
		case KIND_LIST: copy_list(f, arena, at); break;
		case KIND_MAP: copy_map(arena, at); break;
		case KIND_INT:
		case KIND_BOOL:
		case KIND_ENUM:
		case KIND_TIME:
		case KIND_MONEY:
		case KIND_PPM: break;
		}
	}
}
