#include "kinds.h"

static const struct field part_fields[] = {
	FIELD_TEXT(struct part, name, 1, 16, FIELD_REQUIRED | FIELD_LINE, "Name."),
	FIELD_INT(struct part, gpus, 0, 64, 1, 0, "Whole devices."),
	FIELD_TEXTS(struct part, tags, 3, 8, FIELD_LINE, "Words."),
};
TYPE(part, part, "A part.");

static const struct field limits_fields[] = {
	FIELD_INT(struct limits, memory_mib, 0, 1 << 20, 512, 0, "Memory in MiB."),
	FIELD_INT(struct limits, timeout_s, 1, 86400, 0, 0, "Seconds."),
	FIELD_INT(struct limits, size_bytes, 0, INT64_MAX, 0, 0, "Bytes."),
	FIELD_OBJECT(struct limits, part, &part_type, 0, "A part below."),
};
TYPE(limits, limits, "Limits.");

static const char *const color_names[] = { "red", "green", "dark-blue", NULL };

static int kinds_check(const void *value, struct err *err)
{
	const struct kinds *k = value;

	if (k->count == 13)
		return err_set_field(err, "count", "13 brings bad luck: take 12 or 14");
	return 0;
}

static const struct field kinds_fields[] = {
	FIELD_ID(struct kinds, id, "wl", 0, "An id."),
	FIELD_ID(struct kinds, any_id, NULL, 0, "An id of any kind."),
	FIELD_TEXT(struct kinds, name, 2, 32, FIELD_REQUIRED | FIELD_LINE, "A line."),
	FIELD_TEXT(struct kinds, note, 0, 64, 0, "Lines | more."),
	FIELD_TEXT(struct kinds, output, 0, 64, FIELD_RAW, "Anything."),
	FIELD_TEXT(struct kinds, secret, 1, 16, FIELD_SECRET, "Not for others."),
	FIELD_INT(struct kinds, count, 0, 64, 2, 0, "A number."),
	FIELD_INT(struct kinds, offset, INT64_MIN, INT64_MAX, 0, 0, "Any number."),
	FIELD_INT(struct kinds, unset, 0, 9, -1, 0, "A number that may be absent."),
	FIELD_TIME(struct kinds, at_ms, 0, "A time."),
	FIELD_MONEY(struct kinds, price_uusd, 0, "Money."),
	FIELD_MONEY_SIGNED(struct kinds, balance_uusd, 0, "Money, owed too."),
	FIELD_PPM(struct kinds, share_ppm, 0, "A share."),
	FIELD_BOOL(struct kinds, on, 0, "A switch."),
	FIELD_ENUM(struct kinds, color, color_names, 1, 0, "A color."),
	FIELD_ENUM(struct kinds, shape, color_names, -1, 0, "A color that may be absent."),
	FIELD_OBJECT(struct kinds, limits, &limits_type, 0, "An object."),
	FIELD_LIST(struct kinds, parts, &part_type, 4, 0, "Objects."),
	FIELD_TEXTS(struct kinds, labels, 4, 8, FIELD_LINE, "Texts."),
	FIELD_MAP(struct kinds, env, 4, 16, 0, "Texts by name."),
	FIELD_TEXT(struct kinds, made_by, 0, 16, FIELD_OUT | FIELD_REQUIRED, "Who made it."),
	FIELD_TIME(struct kinds, made_ms, FIELD_OUT, "When it was made."),
	FIELD_TEXT(struct kinds, hidden, 0, 16, FIELD_HIDDEN, "Nobody sees it."),
};
TYPE_CHECK(kinds, kinds, kinds_check, "Every kind.");

/* ---- values from a seed ------------------------------------------------------------------ */

uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t draw_below(uint64_t *seed, uint64_t limit)
{
	return (draw(seed) >> 11) % limit;
}

static void draw_bytes(void *arg, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)draw_below(arg, 256);
}

static const char *draw_text(uint64_t *seed, struct arena *a, int64_t min, int64_t max,
			     unsigned flags)
{
	static const char *const line[] = { "a", "Z", "0", " ", "\"", "\\", "/", "&",
					    "=", "%", "+", ",", ".",  "ä",  "€", "😀" };
	static const char *const more[] = { "\n", "\t", "\x01", "\x1b", "\x7f", "\xc2\x9b" };
	size_t len = (size_t)min + draw_below(seed, (uint64_t)(max - min) + 1), n = 0;
	char *text = arena_alloc(a, len + 1);

	while (n < len) {
		size_t kinds = ARRAY_LEN(line) + (flags & FIELD_RAW    ? 6
						  : flags & FIELD_LINE ? 0
								       : 2);
		size_t i = draw_below(seed, kinds);
		const char *c = i < ARRAY_LEN(line) ? line[i] : more[i - ARRAY_LEN(line)];

		if (strlen(c) > len - n)
			c = "x";
		memcpy(text + n, c, strlen(c));
		n += strlen(c);
	}
	return text;
}

static int64_t draw_number(uint64_t *seed, const struct field *f)
{
	uint64_t span = (uint64_t)f->max - (uint64_t)f->min;

	switch (draw_below(seed, 4)) {
	case 0: return f->min;
	case 1: return f->max;
	case 2: return f->def;
	default:
		return (int64_t)((uint64_t)f->min +
				 (span == UINT64_MAX ? draw(seed) : draw(seed) % (span + 1)));
	}
}

struct drawer {
	uint64_t *seed;
	struct arena *arena;
	bool server, query;
};

static void draw_object(const struct drawer *d, const struct type *t, void *ret);

static void draw_list(const struct drawer *d, const struct field *f, void *at)
{
	size_t size = f->type ? f->type->size : sizeof(const char *);
	struct text_list list = { .len = draw_below(d->seed, (uint64_t)f->max + 1) };
	char *items = arena_alloc_array(d->arena, list.len, size);

	for (size_t i = 0; i < list.len; i++) {
		if (f->type)
			draw_object(d, f->type, items + i * size);
		else
			((const char **)(void *)items)[i] =
				draw_text(d->seed, d->arena, 0, f->item_max, f->flags);
	}
	list.items = (const char **)(void *)items;
	memcpy(at, &list, sizeof(list));
}

static void draw_map(const struct drawer *d, const struct field *f, struct text_map *map)
{
	map->len = draw_below(d->seed, (uint64_t)f->max + 1);
	map->items = arena_array(d->arena, struct text_map_item, map->len);
	for (size_t i = 0; i < map->len; i++) {
		map->items[i].key = arena_printf(
			d->arena, "%zu.%s", i, draw_text(d->seed, d->arena, 0, 8, FIELD_LINE));
		map->items[i].value = draw_text(d->seed, d->arena, 0, f->item_max, f->flags);
	}
}

static void draw_field(const struct drawer *d, const struct field *f, void *at)
{
	const struct random rnd = { draw_bytes, d->seed };
	char id[ID_SIZE];
	void *object;

	switch (f->kind) {
	case KIND_TEXT:
		*(const char **)at = draw_text(d->seed, d->arena, f->min, f->max, f->flags);
		break;
	case KIND_ID:
		id_make(f->prefix ? f->prefix : "zz", (int64_t)draw_below(d->seed, 1 << 30),
			&rnd, id);
		*(const char **)at = arena_strdup(d->arena, id);
		break;
	case KIND_INT:
	case KIND_TIME:
	case KIND_MONEY:
	case KIND_PPM: *(int64_t *)at = draw_number(d->seed, f); break;
	case KIND_BOOL: *(bool *)at = draw_below(d->seed, 2); break;
	case KIND_ENUM: *(int *)at = (int)draw_below(d->seed, 3); break;
	case KIND_OBJECT:
		object = arena_alloc(d->arena, f->type->size);
		draw_object(d, f->type, object);
		*(void **)at = object;
		break;
	case KIND_LIST:
		if (!(d->query && f->type))
			draw_list(d, f, at);
		break;
	case KIND_MAP: draw_map(d, f, at); break;
	}
}

static void draw_object(const struct drawer *d, const struct type *t, void *ret)
{
	schema_defaults(t, ret);
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if ((f->flags & FIELD_OUT && !d->server) || f->flags & FIELD_HIDDEN ||
		    (f->flags & FIELD_SECRET && d->query))
			continue;
		if (f->flags & FIELD_REQUIRED || draw_below(d->seed, 3) > 0)
			draw_field(d, f, (char *)ret + f->offset);
	}
}

void kinds_draw(uint64_t *seed, struct arena *a, bool server, bool query, struct kinds *ret)
{
	const struct drawer d = { seed, a, server, query };

	draw_object(&d, &kinds_type, ret);
	if (ret->count == 13)
		ret->count = 14;
}

/* ---- equality ---------------------------------------------------------------------------- */

static bool field_equal(const struct field *f, const void *a, const void *b)
{
	const struct text_list *la = a, *lb = b;
	const struct text_map *ma = a, *mb = b;

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID: return str_eq(*(const char *const *)a, *(const char *const *)b);
	case KIND_INT:
	case KIND_TIME:
	case KIND_MONEY:
	case KIND_PPM: return *(const int64_t *)a == *(const int64_t *)b;
	case KIND_BOOL: return *(const bool *)a == *(const bool *)b;
	case KIND_ENUM: return *(const int *)a == *(const int *)b;
	case KIND_OBJECT:
		a = *(const void *const *)a;
		b = *(const void *const *)b;
		return (!a && !b) || (a && b && value_equal(f->type, a, b));
	case KIND_LIST:
		for (size_t i = 0; la->len == lb->len && i < la->len; i++)
			if (f->type ? !value_equal(f->type,
						   (const char *)(const void *)la->items +
							   i * f->type->size,
						   (const char *)(const void *)lb->items +
							   i * f->type->size)
				    : !str_eq(la->items[i], lb->items[i]))
				return false;
		return la->len == lb->len;
	case KIND_MAP:
		for (size_t i = 0; ma->len == mb->len && i < ma->len; i++)
			if (!str_eq(ma->items[i].key, mb->items[i].key) ||
			    !str_eq(ma->items[i].value, mb->items[i].value))
				return false;
		return ma->len == mb->len;
	}
	return false;
}

bool value_equal(const struct type *t, const void *a, const void *b)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (!(f->flags & FIELD_HIDDEN) &&
		    !field_equal(f, (const char *)a + f->offset, (const char *)b + f->offset))
			return false;
	}
	return true;
}
