/* Described structs as JSON. */
#include "internal.h"

enum write_flags {
	WRITE_SECRET = 1 << 0, /* FIELD_SECRET too */
	WRITE_INPUT = 1 << 1,  /* no FIELD_OUT: what the other side would refuse */
};

static void write_object(const struct type *t, const void *value, unsigned flags,
			 struct strbuf *out);

static void write_list(const struct field *f, const struct raw_list *list, unsigned flags,
		       struct strbuf *out)
{
	strbuf_addc(out, '[');
	for (size_t i = 0; i < list->len; i++) {
		if (i > 0)
			strbuf_addc(out, ',');
		if (f->type)
			write_object(f->type, (char *)list->items + i * f->type->size, flags,
				     out);
		else
			json_write_text(((const char **)list->items)[i], out);
	}
	strbuf_addc(out, ']');
}

static void write_map(const struct text_map *map, struct strbuf *out)
{
	strbuf_addc(out, '{');
	for (size_t i = 0; i < map->len; i++) {
		if (i > 0)
			strbuf_addc(out, ',');
		json_write_text(map->items[i].key, out);
		strbuf_addc(out, ':');
		json_write_text(map->items[i].value, out);
	}
	strbuf_addc(out, '}');
}

static void write_int(int64_t v, struct strbuf *out)
{
	char digits[24];
	char *p = digits + sizeof(digits);
	uint64_t rest = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do {
		*--p = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (v < 0)
		*--p = '-';
	strbuf_add(out, p, (size_t)(digits + sizeof(digits) - p));
}

static void write_value(const struct field *f, const void *at, unsigned flags,
			struct strbuf *out)
{

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID: json_write_text(*(const char *const *)at, out); break;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM: write_int(*(const int64_t *)at, out); break;
	case KIND_BOOL: strbuf_adds(out, *(const bool *)at ? "true" : "false"); break;
	case KIND_ENUM:
		json_write_text(field_is_absent(f, at) ? NULL : f->names[*(const int *)at],
				out);
		break;
	case KIND_TIME:
		if (*(const int64_t *)at)
			write_int(*(const int64_t *)at, out);
		else
			strbuf_adds(out, "null");
		break;
	case KIND_OBJECT:
		if (*(const void *const *)at)
			write_object(f->type, *(const void *const *)at, flags, out);
		else
			strbuf_adds(out, "null");
		break;
	case KIND_LIST: write_list(f, at, flags, out); break;
	case KIND_MAP: write_map(at, out); break;
	}
}

static void write_object(const struct type *t, const void *value, unsigned flags,
			 struct strbuf *out)
{
	bool first = true;

	strbuf_addc(out, '{');
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		const void *at = field_ptr(f, value);

		if (f->flags & FIELD_HIDDEN ||
		    (f->flags & FIELD_SECRET && !(flags & WRITE_SECRET)) ||
		    (f->flags & FIELD_OUT && flags & WRITE_INPUT) || field_is_absent(f, at))
			continue;
		if (!first)
			strbuf_addc(out, ',');
		first = false;
		strbuf_addc(out, '"');
		strbuf_adds(out, f->name);
		strbuf_add(out, "\":", 2);
		write_value(f, at, flags, out);
	}
	strbuf_addc(out, '}');
}

void schema_write(const struct type *t, const void *value, struct strbuf *out)
{
	write_object(t, value, 0, out);
}

void schema_write_secret(const struct type *t, const void *value, struct strbuf *out)
{
	write_object(t, value, WRITE_SECRET, out);
}

void schema_write_input(const struct type *t, const void *value, struct strbuf *out)
{
	write_object(t, value, WRITE_SECRET | WRITE_INPUT, out);
}

void field_write(const struct field *f, const void *at, struct strbuf *out)
{
	write_value(f, at, WRITE_SECRET, out);
}
