/* JSON documents into described structs. */
#include "internal.h"

struct reader {
	enum schema_from from;
	bool texts; /* from a query string: numbers and truth values are texts */
	struct arena *arena;
	struct err *err;
};

static int read_object(struct reader *r, const struct type *t, const struct json *in,
		       const struct path *up, void *ret);

static const char *kind_name(const struct json *in)
{
	switch (in->kind) {
	case JSON_NULL: return "null";
	case JSON_BOOL: return "a truth value";
	case JSON_INT: return "a whole number";
	case JSON_REAL: return "a number with a fraction";
	case JSON_TEXT: return "text";
	case JSON_ARRAY: return "a list";
	case JSON_OBJECT: return "an object";
	}
	return "?";
}

static const char *kind_wanted(enum field_kind kind)
{
	switch (kind) {
	case KIND_TEXT: return "text is wanted: put it in quotes";
	case KIND_ID: return "an id is wanted: give it as text";
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM: return "a whole number is wanted: give it without quotes and fraction";
	case KIND_BOOL: return "true or false is wanted, without quotes";
	case KIND_ENUM: return "a name is wanted";
	case KIND_TIME: return "a time is wanted: milliseconds since 1970 UTC, or text such as \"2026-11-23T13:58:00Z\"";
	case KIND_OBJECT: return "an object with named fields is wanted";
	case KIND_LIST: return "a list is wanted: put it in [ ]";
	case KIND_MAP: return "an object that maps names to texts is wanted";
	}
	return "?";
}

static int wrong_kind(struct reader *r, const struct field *f, enum field_kind wanted,
		      const struct json *in, const struct path *path)
{
	cleanup_strbuf struct strbuf value = STRBUF_INIT;

	strbuf_init(&value);
	if (in->kind == JSON_BOOL || in->kind == JSON_INT || in->kind == JSON_REAL ||
	    in->kind == JSON_TEXT)
		json_write(in, &value);
	if (value.len == 0 || f->flags & FIELD_SECRET)
		return path_err(path, in->line, r->err, "is %s, %s", kind_name(in),
				kind_wanted(wanted));
	return path_err(path, in->line, r->err, "%s is %s, %s",
			show_text(value.buf, value.len).text, kind_name(in),
			kind_wanted(wanted));
}

static int read_number(struct reader *r, const struct field *f, const struct json *in,
		       const struct path *path, void *at)
{
	if (in->kind != JSON_INT)
		return wrong_kind(r, f, f->kind, in, path);
	if (number_check(f, in->integer, path, in->line, r->err) < 0)
		return -1;
	*(int64_t *)at = in->integer;
	return 0;
}

static int room_check(struct reader *r, size_t count, size_t size, const struct path *path,
		      const struct json *in)
{
	if (count <= arena_room(r->arena) / (size + 16))
		return 0;
	path_err(path, in->line, r->err,
		 "%zu entries do not fit into the memory of one request: send fewer at once",
		 count);
	if (r->err)
		r->err->code = ERR_TOO_LARGE;
	return -1;
}

static int read_list(struct reader *r, const struct field *f, const struct json *in,
		     const struct path *path, void *at)
{
	size_t size = f->type ? f->type->size : sizeof(const char *);
	struct raw_list list = { .len = in->count };

	if (in->kind != JSON_ARRAY)
		return wrong_kind(r, f, KIND_LIST, in, path);
	if (count_check(f, in->count, path, in->line, r->err) < 0 ||
	    room_check(r, in->count, size, path, in) < 0)
		return -1;
	list.items = arena_alloc_array(r->arena, list.len, size);
	for (size_t i = 0; i < list.len; i++) {
		const struct json *item = &in->items[i];
		const struct path item_path = { .up = path, .index = i };

		if (f->type) {
			if (read_object(r, f->type, item, &item_path,
					(char *)list.items + i * size) < 0)
				return -1;
			continue;
		}
		if (item->kind != JSON_TEXT)
			return wrong_kind(r, f, KIND_TEXT, item, &item_path);
		if (item_check(f, item->text, &item_path, item->line, r->err) < 0)
			return -1;
		((const char **)list.items)[i] = item->text;
	}
	*(struct raw_list *)at = list;
	return 0;
}

static int read_map(struct reader *r, const struct field *f, const struct json *in,
		    const struct path *path, void *at)
{
	struct text_map map = { .len = in->member_count };

	if (in->kind != JSON_OBJECT)
		return wrong_kind(r, f, KIND_MAP, in, path);
	if (count_check(f, map.len, path, in->line, r->err) < 0 ||
	    room_check(r, map.len, sizeof(*map.items), path, in) < 0)
		return -1;
	map.items = arena_array(r->arena, struct text_map_item, map.len);
	for (size_t i = 0; i < map.len; i++) {
		const struct json_member *m = &in->members[i];
		const struct path item_path = { .up = path, .name = m->name };

		if (key_check(m->name, &item_path, m->value.line, r->err) < 0)
			return -1;
		if (m->value.kind != JSON_TEXT)
			return wrong_kind(r, f, KIND_TEXT, &m->value, &item_path);
		if (item_check(f, m->value.text, &item_path, m->value.line, r->err) < 0)
			return -1;
		map.items[i] = (struct text_map_item){ m->name, m->value.text };
	}
	*(struct text_map *)at = map;
	return 0;
}

static int read_field(struct reader *r, const struct field *f, const struct json *in,
		      const struct path *path, void *at)
{
	void *object;

	if (r->texts && in->kind == JSON_TEXT && (field_is_number(f) || f->kind == KIND_BOOL))
		return scalar_from_text(f, in->text, false, path, in->line, at, r->err);
	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
	case KIND_ENUM:
		if (in->kind != JSON_TEXT)
			return wrong_kind(r, f, f->kind, in, path);
		return scalar_from_text(f, in->text, false, path, in->line, at, r->err);
	case KIND_TIME: /* a person may write it as text */
		if (in->kind == JSON_TEXT)
			return scalar_from_text(f, in->text, false, path, in->line, at, r->err);
		return read_number(r, f, in, path, at);
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM: return read_number(r, f, in, path, at);
	case KIND_BOOL:
		if (in->kind != JSON_BOOL)
			return wrong_kind(r, f, KIND_BOOL, in, path);
		*(bool *)at = in->boolean;
		return 0;
	case KIND_OBJECT:
		if (in->kind != JSON_OBJECT)
			return wrong_kind(r, f, KIND_OBJECT, in, path);
		if (room_check(r, 1, f->type->size, path, in) < 0)
			return -1;
		object = arena_alloc(r->arena, f->type->size);
		if (read_object(r, f->type, in, path, object) < 0)
			return -1;
		*(void **)at = object;
		return 0;
	case KIND_LIST: return read_list(r, f, in, path, at);
	case KIND_MAP: return read_map(r, f, in, path, at);
	}
	return 0;
}

/* A peer is never asked for what it does not send: secrets. */
static bool must_be_given(const struct reader *r, const struct field *f)
{
	if (!(f->flags & FIELD_REQUIRED) || f->flags & FIELD_HIDDEN)
		return false;
	return !(f->flags & (r->from == FROM_CLIENT ? FIELD_OUT : FIELD_SECRET));
}

/* The line of the member that a type's check() complains of, else that of the object. */
static int line_of(const struct json *in, const char *field)
{
	size_t len = strcspn(field, ".[");

	for (size_t i = 0; i < in->member_count; i++)
		if (strncmp(in->members[i].name, field, len) == 0 &&
		    in->members[i].name[len] == 0)
			return in->members[i].value.line;
	return in->line;
}

static int read_object(struct reader *r, const struct type *t, const struct json *in,
		       const struct path *up, void *ret)
{
	bool given[TYPE_FIELDS_MAX] = { false };

	assert(t->count <= TYPE_FIELDS_MAX);
	if (in->kind != JSON_OBJECT)
		return path_err(up, in->line, r->err,
				"is %s, an object with named fields is wanted", kind_name(in));
	schema_defaults(t, ret);
	for (size_t i = 0; i < in->member_count; i++) {
		const struct json_member *m = &in->members[i];
		const struct field *f = type_find(t, m->name, strlen(m->name));
		const struct path path = { .up = up, .name = m->name };

		if (!f && r->from == FROM_SERVER)
			continue;
		if (!f)
			return unknown_field(t, &path, m->name, m->value.line, r->err);
		if (f->flags & FIELD_OUT && r->from == FROM_CLIENT)
			return path_err(&path, m->value.line, r->err,
					"is set by the server: leave it out");
		if (m->value.kind == JSON_NULL)
			continue;
		if (read_field(r, f, &m->value, &path, field_ptr(f, ret)) < 0)
			return -1;
		given[f - t->fields] = !field_is_absent(f, field_ptr(f, ret)); /* the time 0 is none */
	}
	for (size_t i = 0; i < t->count; i++) {
		const struct path path = { .up = up, .name = t->fields[i].name };

		if (!given[i] && must_be_given(r, &t->fields[i]))
			return path_err(&path, in->line, r->err, "is required: add it");
	}
	if (t->check && r->from == FROM_CLIENT && t->check(ret, r->err) < 0)
		return path_err_below(up, r->err ? line_of(in, r->err->field) : 0, r->err);
	return 0;
}

static int read_whole(struct reader *r, const struct type *t, const struct json *in, void *ret)
{
	void *value;

	if (room_check(r, 1, t->size, NULL, in) < 0)
		return -1;
	value = arena_alloc(r->arena, t->size);
	if (read_object(r, t, in, NULL, value) < 0)
		return -1;
	memcpy(ret, value, t->size);
	return 0;
}

int schema_read(const struct type *t, const struct json *in, enum schema_from from,
		struct arena *arena, void *ret, struct err *err)
{
	struct reader r = { .from = from, .arena = arena, .err = err };

	return read_whole(&r, t, in, ret);
}

int read_texts(const struct type *t, const struct json *in, struct arena *arena, void *ret,
	       struct err *err)
{
	struct reader r = { .from = FROM_CLIENT, .texts = true, .arena = arena, .err = err };

	return read_whole(&r, t, in, ret);
}

int schema_parse(const struct type *t, struct slice json, enum schema_from from,
		 struct arena *arena, void *ret, struct err *err)
{
	struct json *in;

	if (json_parse(json, arena, &in, err) < 0)
		return -1;
	return schema_read(t, in, from, arena, ret, err);
}

int field_read(const struct field *f, struct slice json, struct arena *arena, void *ret_at,
	       struct err *err)
{
	struct reader r = { .from = FROM_SERVER, .arena = arena, .err = err };
	const struct path path = { .name = f->name };
	struct json *in;

	if (json_parse(json, arena, &in, err) < 0)
		return err_wrap(err, "%s", f->name);
	if (in->kind == JSON_NULL)
		return 0;
	return read_field(&r, f, in, &path, ret_at);
}
