/* Fields as people read them. */
#include "internal.h"

static void add_text(const char *text, struct strbuf *out)
{
	for (; *text; text++)
		strbuf_addc(out, (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void add_time(int64_t ms, struct strbuf *out)
{
	char text[32];

	time_format(ms, text); /* "2026-11-23T13:58:00.123Z" */
	text[10] = ' ';
	strbuf_add(out, text, 19);
	strbuf_addc(out, 'Z');
}

static void add_ppm(int64_t ppm, struct strbuf *out)
{
	char text[32];
	size_t len = (size_t)snprintf(text, sizeof(text), "%" PRId64 ".%04" PRId64, ppm / 10000,
				      ppm % 10000);

	while (text[len - 1] == '0')
		len--;
	if (text[len - 1] == '.')
		len--;
	strbuf_add(out, text, len);
	strbuf_addc(out, '%');
}

static void add_money(int64_t uusd, struct strbuf *out)
{
	char text[32];

	money_format(uusd, text);
	strbuf_adds(out, text[0] == '-' ? "-$" : "$");
	strbuf_adds(out, text + (text[0] == '-'));
}

static void add_int(const struct field *f, int64_t v, struct strbuf *out)
{
	char text[32];
	int64_t scaled;

	switch (field_unit(f)) {
	case UNIT_BYTES: size_format(v, text); break;
	case UNIT_MIB:
		if (!mul_checked(v, 1 << 20, &scaled))
			scaled = INT64_MAX;
		size_format(scaled, text);
		break;
	case UNIT_MS: duration_format(v, text); break;
	case UNIT_S:
		if (!mul_checked(v, 1000, &scaled))
			scaled = INT64_MAX;
		duration_format(scaled, text);
		break;
	case UNIT_NONE: snprintf(text, sizeof(text), "%" PRId64, v); break;
	}
	strbuf_adds(out, text);
}

static void add_list(const struct field *f, const struct raw_list *list, struct strbuf *out)
{
	if (list->len == 0)
		strbuf_addc(out, '-');
	else if (f->type)
		strbuf_addf(out, "%zu", list->len);
	for (size_t i = 0; i < list->len && !f->type; i++) {
		if (i > 0)
			strbuf_adds(out, ", ");
		add_text(((const char **)list->items)[i], out);
	}
}

static void add_map(const struct text_map *map, struct strbuf *out)
{
	if (map->len == 0)
		strbuf_addc(out, '-');
	for (size_t i = 0; i < map->len; i++) {
		if (i > 0)
			strbuf_adds(out, ", ");
		add_text(map->items[i].key, out);
		strbuf_addc(out, '=');
		add_text(map->items[i].value, out);
	}
}

/* Whether a person would miss it in "gpus 2, memory_mib 16 GiB". */
static bool is_worth_saying(const struct field *f, const void *at)
{
	if (f->flags & (FIELD_HIDDEN | FIELD_SECRET) || field_is_absent(f, at))
		return false;
	if (f->kind == KIND_BOOL)
		return *(const bool *)at;
	if (f->kind == KIND_LIST || f->kind == KIND_MAP)
		return ((const struct raw_list *)at)->len > 0;
	return !field_is_number(f) || *(const int64_t *)at != 0;
}

static void add_object(const struct type *t, const void *value, struct strbuf *out)
{
	size_t start = out->len;

	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		const void *at = field_ptr(f, value);

		if (!is_worth_saying(f, at))
			continue;
		strbuf_adds(out, out->len > start ? ", " : "");
		strbuf_adds(out, f->name);
		strbuf_addc(out, ' ');
		field_format(f, at, out);
	}
	if (out->len == start)
		strbuf_addc(out, '-');
}


/* Thousandths as people write them: 0.01. */
static void add_milli(int64_t milli, struct strbuf *out)
{
	char text[32];

	money_format(milli * 1000, text);
	strbuf_adds(out, milli % 1000 ? text : "");
	if (milli % 1000 == 0)
		strbuf_addf(out, "%" PRId64, milli / 1000);
}

void number_format(const struct field *f, int64_t v, struct strbuf *out)
{
	if (f->kind == KIND_MONEY)
		add_money(v, out);
	else if (f->kind == KIND_PPM)
		add_ppm(v, out);
	else if (field_is_milli(f))
		add_milli(v, out);
	else
		add_int(f, v, out);
}

void field_format(const struct field *f, const void *at, struct strbuf *out)
{
	if (!at || field_is_absent(f, at)) {
		strbuf_addc(out, '-');
		return;
	}
	if (f->flags & (FIELD_SECRET | FIELD_HIDDEN)) {
		strbuf_adds(out, "(secret)");
		return;
	}
	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID: add_text(*(const char *const *)at, out); break;
	case KIND_INT: add_int(f, *(const int64_t *)at, out); break;
	case KIND_BOOL: strbuf_adds(out, *(const bool *)at ? "yes" : "no"); break;
	case KIND_ENUM: strbuf_adds(out, f->names[*(const int *)at]); break;
	case KIND_TIME: add_time(*(const int64_t *)at, out); break;
	case KIND_MONEY: add_money(*(const int64_t *)at, out); break;
	case KIND_PPM: add_ppm(*(const int64_t *)at, out); break;
	case KIND_OBJECT: add_object(f->type, *(const void *const *)at, out); break;
	case KIND_LIST: add_list(f, at, out); break;
	case KIND_MAP: add_map(at, out); break;
	}
}
