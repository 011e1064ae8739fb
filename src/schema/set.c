/* Single fields from text: as JSON and query strings spell them, and as people do on command
 * lines. */
#include "internal.h"

#include <ctype.h>

/* ---- scalars ----------------------------------------------------------------------------- */

static bool is_plain_number(const char *s)
{
	if (*s == '-')
		s++;
	return *s && s[strspn(s, "0123456789")] == 0;
}

static int64_t divide_up(int64_t v, int64_t by)
{
	return v / by + (v % by > 0);
}

/* "4GiB" for a field in MiB, "2h" for one in seconds, "$0.25", "99.5%"; plain numbers as they
 * are. */
static int human_number(const struct field *f, const char *text, int64_t *ret, struct err *err)
{
	size_t len = strlen(text);
	char percent[16];
	int64_t v;

	if (f->kind == KIND_MONEY)
		return money_parse(text[0] == '$' ? text + 1 : text, ret, err);
	if (f->kind == KIND_PPM && len > 1 && len < sizeof(percent) && text[len - 1] == '%') {
		memcpy(percent, text, len - 1);
		percent[len - 1] = 0;
		if (money_parse(percent, &v, err) < 0 || v % 100 != 0)
			return err_set(err, ERR_INVALID,
				       "`%s` is not a percentage: give up to four decimals",
				       text);
		*ret = v / 100;
		return 0;
	}
	if (is_plain_number(text))
		return int_parse(text, INT64_MIN, INT64_MAX, ret, err);
	if (field_unit(f) == UNIT_NONE)
		return int_parse(text, f->min, f->max, ret, err); /* names the range */
	switch (field_unit(f)) {
	case UNIT_BYTES: return size_parse(text, ret, err);
	case UNIT_MIB:
		if (size_parse(text, &v, err) < 0)
			return -1;
		*ret = divide_up(v, 1 << 20);
		return 0;
	case UNIT_MS: return duration_parse(text, ret, err);
	case UNIT_S:
		if (duration_parse(text, &v, err) < 0)
			return -1;
		*ret = divide_up(v, 1000);
		return 0;
	case UNIT_NONE: break;
	}
	return 0;
}

/* Out of range, in the words in which it was written: "20GiB is more than 16 GiB", not the field's MiB. */
static int range_err(const struct field *f, const char *text, int64_t v, const struct path *path,
		     int line, struct err *err)
{
	cleanup_strbuf struct strbuf given = STRBUF_INIT, limit = STRBUF_INIT;
	bool low = v < f->min;

	if (is_plain_number(text))
		number_format(f, v, &given);
	else
		strbuf_adds(&given, text);
	number_format(f, low ? f->min : f->max, &limit);
	return path_err(path, line, err, "%.40s is %s than %s, the %s allowed", given.buf,
			low ? "less" : "more", limit.buf, low ? "least" : "most");
}

static int number_from_text(const struct field *f, const char *text, bool human,
			    const struct path *path, int line, int64_t *ret, struct err *err)
{
	struct err why = { 0 };
	int64_t v;
	int rc;

	if (f->kind == KIND_TIME && strchr(text, '-'))
		rc = time_parse(text, &v, &why);
	else if (human)
		rc = human_number(f, text, &v, &why);
	else
		rc = int_parse(text, INT64_MIN, INT64_MAX, &v, &why);
	if (rc < 0 && f->flags & FIELD_SECRET)
		return path_err(path, line, err, "is not what is wanted here");
	if (rc < 0)
		return path_err(path, line, err, "%s", why.text);
	if (human && f->kind != KIND_TIME && (v < f->min || v > f->max))
		return range_err(f, text, v, path, line, err);
	if (number_check(f, v, path, line, err) < 0)
		return -1;
	*ret = v;
	return 0;
}

int scalar_from_text(const struct field *f, const char *text, bool human,
		     const struct path *path, int line, void *at, struct err *err)
{
	int i;

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
		if (text_check(f, text, path, line, err) < 0)
			return -1;
		*(const char **)at = text;
		return 0;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
	case KIND_TIME: return number_from_text(f, text, human, path, line, at, err);
	case KIND_BOOL:
		if (!str_eq(text, "true") && !str_eq(text, "false"))
			return path_err(path, line, err,
					"`%s` is neither true nor false: give one of them",
					show_field(f, text).text);
		*(bool *)at = str_eq(text, "true");
		return 0;
	case KIND_ENUM:
		i = names_find(f->names, text);
		if (i < 0)
			return enum_err(f, text, path, line, err);
		*(int *)at = i;
		return 0;
	case KIND_OBJECT:
	case KIND_LIST:
	case KIND_MAP: break;
	}
	assert(!"a scalar");
	return -1;
}

/* ---- by path ----------------------------------------------------------------------------- */

struct setter {
	const char *text;
	struct arena *arena;
	struct err *err;
};

static int set_at(struct setter *s, const struct type *t, const char *rest,
		  const struct path *up, void *value);

static int set_object(struct setter *s, const struct field *f, const char *rest,
		      const struct path *path, void *at)
{
	const void *old = *(const void **)at;
	void *object;

	if (*rest != '.')
		return path_err(path, 0, s->err,
				"is an object: set one of its fields, such as %s.%s", f->name,
				f->type->count > 0 ? f->type->fields[0].name : "name");
	object = arena_alloc(s->arena, f->type->size);
	if (old)
		memcpy(object, old, f->type->size);
	else
		schema_defaults(f->type, object);
	if (set_at(s, f->type, rest + 1, path, object) < 0)
		return -1;
	*(void **)at = object;
	return 0;
}

static int set_map(struct setter *s, const struct field *f, const char *rest,
		   const struct path *path, struct text_map *map)
{
	const char *equals = strchr(s->text, '='), *value = s->text;
	struct path item = { .up = path };
	struct text_map_item *items;
	size_t i;

	if (*rest == '.') {
		item.name = arena_strdup(s->arena, rest + 1);
	} else if (*rest == 0 && equals) {
		item.name = arena_strndup(s->arena, s->text, (size_t)(equals - s->text));
		value = equals + 1;
	} else {
		return path_err(path, 0, s->err, "maps names to texts: give NAME=TEXT");
	}
	if (key_check(item.name, path, 0, s->err) < 0 ||
	    item_check(f, value, &item, 0, s->err) < 0)
		return -1;
	for (i = 0; i < map->len && strcmp(map->items[i].key, item.name) != 0; i++)
		;
	if (i == map->len && count_check(f, map->len + 1, path, 0, s->err) < 0)
		return -1;
	items = arena_array(s->arena, struct text_map_item, map->len + 1);
	if (map->len > 0)
		memcpy(items, map->items, map->len * sizeof(*items));
	items[i] = (struct text_map_item){ item.name, arena_strdup(s->arena, value) };
	map->items = items;
	map->len = MAX(map->len, i + 1);
	return 0;
}

/* All items, separated by commas; no text: no items. */
static int set_texts(struct setter *s, const struct field *f, const struct path *path,
		     struct text_list *list)
{
	struct slice rest = slice_of(s->text), part;
	struct text_list texts = { 0 };
	size_t count = rest.len > 0;

	for (size_t i = 0; i < rest.len; i++)
		count += rest.ptr[i] == ',';
	if (count_check(f, count, path, 0, s->err) < 0)
		return -1;
	texts.items = arena_array(s->arena, const char *, count);
	while (texts.len < count && slice_split(&rest, ',', &part)) {
		const struct path item = { .up = path, .index = texts.len };
		char *text;

		part = slice_trim(part);
		text = arena_strndup(s->arena, part.ptr, part.len);
		if (item_check(f, text, &item, 0, s->err) < 0)
			return -1;
		texts.items[texts.len++] = text;
	}
	*list = texts;
	return 0;
}

/* "[3]" or "[]" (one more), and for objects a field of it. */
static int set_item(struct setter *s, const struct field *f, const char *rest,
		    const struct path *path, struct raw_list *list)
{
	size_t size = f->type ? f->type->size : sizeof(const char *);
	struct path item = { .up = path, .index = list->len };
	struct raw_list items = { .len = list->len };
	char *end, *at;

	if (rest[1] == ']')
		end = (char *)rest + 1;
	else if (isdigit((unsigned char)rest[1]))
		item.index = strtoul(rest + 1, &end, 10);
	else
		end = (char *)"";
	if (*end != ']' || (f->type ? end[1] != '.' : end[1] != 0))
		return path_err(path, 0, s->err, "is a list of %s: set %s[0]%s",
				f->type ? "objects" : "texts", f->name,
				f->type ? " and a field of it" : "");
	if (item.index > list->len)
		return path_err(&item, 0, s->err, "the list has %zu items: the next is [%zu]",
				list->len, list->len);
	items.len = MAX(list->len, item.index + 1);
	if (count_check(f, items.len, path, 0, s->err) < 0)
		return -1;
	items.items = arena_alloc_array(s->arena, items.len, size);
	if (list->len > 0)
		memcpy(items.items, list->items, list->len * size);
	at = (char *)items.items + item.index * size;
	if (f->type) {
		if (item.index == list->len)
			schema_defaults(f->type, at);
		if (set_at(s, f->type, end + 2, &item, at) < 0)
			return -1;
	} else {
		if (item_check(f, s->text, &item, 0, s->err) < 0)
			return -1;
		*(const char **)(void *)at = arena_strdup(s->arena, s->text);
	}
	*list = items;
	return 0;
}

static int set_at(struct setter *s, const struct type *t, const char *rest,
		  const struct path *up, void *value)
{
	size_t len = strcspn(rest, ".[");
	const struct field *f = type_find(t, rest, len);
	const struct path path = { .up = up,
				   .name = f ? f->name : arena_strndup(s->arena, rest, len) };
	void *at;

	if (!f)
		return unknown_field(t, &path, path.name, 0, s->err);
	if (f->flags & FIELD_OUT)
		return path_err(&path, 0, s->err, "is set by the server: leave it out");
	at = field_ptr(f, value);
	rest += len;
	if (f->kind == KIND_OBJECT)
		return set_object(s, f, rest, &path, at);
	if (f->kind == KIND_MAP)
		return set_map(s, f, rest, &path, at);
	if (f->kind == KIND_LIST && (*rest == '[' || f->type))
		return set_item(s, f, *rest == '[' ? rest : "[", &path, at);
	if (*rest != 0)
		return path_err(&path, 0, s->err, "has no fields or items: remove `%s`",
				show_text(rest, strlen(rest)).text);
	if (f->kind == KIND_LIST)
		return set_texts(s, f, &path, at);
	return scalar_from_text(f, arena_strdup(s->arena, s->text), true, &path, 0, at, s->err);
}

int schema_set(const struct type *t, const char *path, const char *text, struct arena *arena,
	       void *value, struct err *err)
{
	struct setter s = { .text = text, .arena = arena, .err = err };

	return set_at(&s, t, path, NULL, value);
}
