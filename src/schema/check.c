/* The limits of single values, the same for everything that comes in. */
#include "internal.h"

int number_check(const struct field *f, int64_t v, const struct path *path, int line,
		 struct err *err)
{
	char a[32], b[32];

	if (v >= f->min && v <= f->max)
		return 0;
	if (f->kind == KIND_TIME) {
		time_format(f->min, a);
		time_format(f->max, b);
		return path_err(path, line, err, "the time is outside %s … %s: correct it", a,
				b);
	}
	if (v < f->min)
		return path_err(path, line, err,
				"%" PRId64 " is less than %" PRId64 ", the least allowed", v,
				f->min);
	return path_err(path, line, err,
			"%" PRId64 " is more than %" PRId64 ", the most allowed", v, f->max);
}

/* Offset of the first character that is not allowed, or -1.  C1 controls (U+0080 … U+009F)
 * drive terminals too. */
static long control_find(const char *text, unsigned flags)
{
	const unsigned char *p = (const unsigned char *)text;

	for (size_t i = 0; p[i]; i++) {
		if ((p[i] == '\t' || p[i] == '\n') && !(flags & FIELD_LINE))
			continue;
		if (p[i] < 0x20 || p[i] == 0x7f ||
		    (p[i] == 0xc2 && p[i + 1] >= 0x80 && p[i + 1] < 0xa0))
			return (long)i;
	}
	return -1;
}

static int bytes_check(const char *text, int64_t min, int64_t max, unsigned flags,
		       const struct path *path, int line, struct err *err)
{
	size_t len = strlen(text);
	const char *shown = flags & FIELD_SECRET ? "secret" : "text";
	long control;

	if ((int64_t)len > max)
		return path_err(path, line, err,
				"the %s is %zu bytes long, %" PRId64 " are allowed: shorten it",
				shown, len, max);
	if (len == 0 && min > 0)
		return path_err(path, line, err, "is empty: at least %" PRId64 " %s needed",
				min, min == 1 ? "character is" : "bytes are");
	if ((int64_t)len < min)
		return path_err(path, line, err,
				"the %s is %zu bytes long, at least %" PRId64 " are needed",
				shown, len, min);
	if (!utf8_valid(text, len))
		return path_err(path, line, err, "is not valid UTF-8: correct its encoding");
	if (flags & FIELD_RAW)
		return 0;
	control = control_find(text, flags);
	if (control >= 0)
		return path_err(path, line, err,
				"has a control character (0x%02x) at byte %ld: remove it",
				(unsigned)(unsigned char)text[control], control + 1);
	return 0;
}

int text_check(const struct field *f, const char *text, const struct path *path, int line,
	       struct err *err)
{
	if (f->kind == KIND_ID) {
		if (id_valid(text, f->prefix))
			return 0;
		return path_err(
			path, line, err,
			"`%s` is not a full id (%s_ and 26 letters and digits): copy all of it",
			show_field(f, text).text, f->prefix ? f->prefix : "two letters, ");
	}
	return bytes_check(text, f->min, f->max, f->flags, path, line, err);
}

int count_check(const struct field *f, size_t count, const struct path *path, int line,
		struct err *err)
{
	if ((int64_t)count > f->max)
		return path_err(path, line, err,
				"has %zu entries, %" PRId64 " are allowed: remove some", count,
				f->max);
	if ((int64_t)count < f->min)
		return path_err(path, line, err,
				"has %zu entries, at least %" PRId64 " are needed: add some",
				count, f->min);
	return 0;
}

int item_check(const struct field *f, const char *text, const struct path *path, int line,
	       struct err *err)
{
	return bytes_check(text, 0, f->item_max, f->flags, path, line, err);
}

int key_check(const char *key, const struct path *path, int line, struct err *err)
{
	return bytes_check(key, 1, MAP_KEY_MAX, FIELD_LINE, path, line, err);
}

int enum_err(const struct field *f, const char *text, const struct path *path, int line,
	     struct err *err)
{
	cleanup_strbuf struct strbuf names = STRBUF_INIT;

	strbuf_init(&names);
	names_join(f->names, &names);
	return path_err(path, line, err, "`%s` is not known: choose one of %s",
			show_field(f, text).text, names.buf);
}

/* ---- whole values ------------------------------------------------------------------------ */

static int object_check(const struct type *t, const void *value, const struct path *up,
			struct err *err);

static int list_check(const struct field *f, const struct raw_list *list,
		      const struct path *path, struct err *err)
{
	if (count_check(f, list->len, path, 0, err) < 0)
		return -1;
	for (size_t i = 0; i < list->len; i++) {
		const struct path item = { .up = path, .index = i };

		if (f->type ? object_check(f->type, (char *)list->items + i * f->type->size,
					   &item, err) < 0
			    : item_check(f, ((const char **)list->items)[i], &item, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int map_check(const struct field *f, const struct text_map *map, const struct path *path,
		     struct err *err)
{
	if (count_check(f, map->len, path, 0, err) < 0)
		return -1;
	for (size_t i = 0; i < map->len; i++) {
		const struct path item = { .up = path, .name = map->items[i].key };

		if (key_check(map->items[i].key, &item, 0, err) < 0 ||
		    item_check(f, map->items[i].value, &item, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int field_check(const struct field *f, const void *at, const struct path *path,
		       struct err *err)
{
	if (field_is_absent(f, at)) {
		if (f->flags & FIELD_REQUIRED)
			return path_err(path, 0, err, "is required: add it");
		return 0;
	}
	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID: return text_check(f, *(const char *const *)at, path, 0, err);
	case KIND_INT:
	case KIND_TIME:
	case KIND_MONEY:
	case KIND_PPM: return number_check(f, *(const int64_t *)at, path, 0, err);
	case KIND_BOOL:
	case KIND_ENUM: return 0;
	case KIND_OBJECT: return object_check(f->type, *(const void *const *)at, path, err);
	case KIND_LIST: return list_check(f, at, path, err);
	case KIND_MAP: return map_check(f, at, path, err);
	}
	return 0;
}

static int object_check(const struct type *t, const void *value, const struct path *up,
			struct err *err)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		const struct path path = { .up = up, .name = f->name };

		if (f->flags & (FIELD_OUT | FIELD_HIDDEN))
			continue;
		if (field_check(f, field_ptr(f, value), &path, err) < 0)
			return -1;
	}
	if (t->check && t->check(value, err) < 0)
		return path_err_below(up, 0, err);
	return 0;
}

int schema_check(const struct type *t, const void *value, struct err *err)
{
	return object_check(t, value, NULL, err);
}
