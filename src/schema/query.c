/* Query strings.  "a.b=1&list=x,y" is built into the JSON tree that it stands for, with texts
 * for all scalars, so that the rules of schema_read hold here too. */
#include "internal.h"

#define PAIRS_MAX 256
#define DEPTH_MAX 8

struct pair {
	const char *name; /* unescaped; below the level at hand */
	struct slice raw; /* escaped */
};

struct query {
	struct arena *arena;
	struct err *err;
};

static int unescape(struct query *q, struct slice raw, const struct path *path,
		    const char **ret)
{
	char *plus = arena_strndup(q->arena, raw.ptr, raw.len), *text;

	for (size_t i = 0; i < raw.len; i++)
		if (plus[i] == '+')
			plus[i] = ' ';
	if (url_unescape(q->arena, (struct slice){ plus, raw.len }, &text) < 0)
		return path_err(
			path, 0, q->err,
			"`%s` is not properly escaped: write %%XX for bytes of valid UTF-8",
			show_text(raw.ptr, raw.len).text);
	*ret = text;
	return 0;
}

static int build_texts(struct query *q, const struct pair *pairs, size_t n,
		       const struct path *path, struct json *ret)
{
	struct slice rest, part;
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		count++;
		for (size_t k = 0; k < pairs[i].raw.len; k++)
			count += pairs[i].raw.ptr[k] == ',';
	}
	*ret = (struct json){ .kind = JSON_ARRAY,
			      .items = arena_array(q->arena, struct json, count) };
	for (size_t i = 0; i < n; i++) {
		rest = pairs[i].raw;
		while (slice_split(&rest, ',', &part)) {
			struct json *item = &ret->items[ret->count++];

			item->kind = JSON_TEXT;
			if (unescape(q, part, path, &item->text) < 0)
				return -1;
			item->text_len = strlen(item->text);
		}
	}
	return 0;
}

/* Moves the pairs that share the first `head` bytes of pairs[0]'s name, and there end or (if
 * `dots`) go on with a dot, to the front, in order. */
static size_t pairs_gather(struct pair *pairs, size_t n, size_t head, bool dots)
{
	const char *name = pairs[0].name;
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		struct pair p = pairs[i];

		if (strncmp(p.name, name, head) != 0 ||
		    (p.name[head] != 0 && (!dots || p.name[head] != '.')))
			continue;
		memmove(&pairs[count + 1], &pairs[count], (i - count) * sizeof(*pairs));
		pairs[count++] = p;
	}
	return count;
}

static int build_object(struct query *q, const struct type *t, struct pair *pairs, size_t n,
			const struct path *up, int depth, struct json *ret);

/* `pairs`: all that were given under one name, whose first `head` bytes they share. */
static int build_member(struct query *q, const struct type *t, struct pair *pairs, size_t n,
			size_t head, const struct path *path, int depth, struct json *ret)
{
	const struct field *f = t ? type_find(t, path->name, head) : NULL;
	bool dotted = pairs[0].name[head] == '.';

	for (size_t i = 1; i < n; i++)
		if (dotted != (pairs[i].name[head] == '.') ||
		    (!dotted && (!f || f->kind != KIND_LIST)))
			return path_err(path, 0, q->err,
					"is given more than once: give it once");
	if (f && f->kind == KIND_LIST && !f->type && !dotted)
		return build_texts(q, pairs, n, path, ret);
	if (dotted && !f)
		return unknown_field(t, path, path->name, 0, q->err);
	if (dotted && ((f->kind != KIND_OBJECT && f->kind != KIND_MAP) || depth >= DEPTH_MAX))
		return path_err(path, 0, q->err,
				"has no fields: leave out the dot and what follows");
	if (dotted) {
		for (size_t i = 0; i < n; i++)
			pairs[i].name += head + 1;
		return build_object(q, f->kind == KIND_OBJECT ? f->type : NULL, pairs, n, path,
				    depth + 1, ret);
	}
	ret->kind = JSON_TEXT;
	if (unescape(q, pairs[0].raw, path, &ret->text) < 0)
		return -1;
	ret->text_len = strlen(ret->text);
	return 0;
}

/* t NULL: a map, whose keys may have dots. */
static int build_object(struct query *q, const struct type *t, struct pair *pairs, size_t n,
			const struct path *up, int depth, struct json *ret)
{
	*ret = (struct json){ .kind = JSON_OBJECT,
			      .members = arena_array(q->arena, struct json_member, n) };
	while (n > 0) {
		size_t head = t ? strcspn(pairs[0].name, ".") : strlen(pairs[0].name);
		struct json_member *m = &ret->members[ret->member_count++];
		struct path path = { .up = up };
		size_t count = pairs_gather(pairs, n, head, t != NULL);

		m->name = path.name = arena_strndup(q->arena, pairs[0].name, head);
		if (build_member(q, t, pairs, count, head, &path, depth, &m->value) < 0)
			return -1;
		pairs += count;
		n -= count;
	}
	return 0;
}

int schema_parse_query(const struct type *t, struct slice query, struct arena *arena, void *ret,
		       struct err *err)
{
	struct query q = { .arena = arena, .err = err };
	struct pair *pairs = arena_array(arena, struct pair, PAIRS_MAX);
	struct slice pair, name;
	struct json tree;
	size_t n = 0;

	if (query.len > arena_room(arena) / 64)
		return err_set(err, ERR_TOO_LARGE,
			       "the query of %zu bytes is too long: shorten it", query.len);
	while (slice_split(&query, '&', &pair)) {
		if (pair.len == 0)
			continue;
		if (n == PAIRS_MAX)
			return err_set(err, ERR_INVALID,
				       "the query has more than %d fields: give fewer",
				       PAIRS_MAX);
		slice_split(&pair, '=', &name);
		pairs[n].raw = pair.ptr ? pair : SLICE("");
		if (unescape(&q, name, NULL, &pairs[n++].name) < 0)
			return -1;
	}
	if (build_object(&q, t, pairs, n, NULL, 0, &tree) < 0)
		return -1;
	return read_texts(t, &tree, arena, ret, err);
}

/* ---- out --------------------------------------------------------------------------------- */

struct query_writer {
	struct arena *arena;
	struct strbuf *out;
};

static void add_name(struct query_writer *w, const char *prefix, const char *name)
{
	if (w->out->len > 0)
		strbuf_addc(w->out, '&');
	strbuf_adds(w->out, prefix);
	strbuf_adds(w->out, url_escape(w->arena, name));
	strbuf_addc(w->out, '=');
}

static void add_list(struct query_writer *w, const struct field *f, const char *prefix,
		     const struct text_list *list)
{
	if (list->len == 0)
		return;
	assert(!f->type); /* lists of objects have no form in a query */
	add_name(w, prefix, f->name);
	for (size_t i = 0; i < list->len; i++) {
		if (i > 0)
			strbuf_addc(w->out, ',');
		strbuf_adds(w->out, url_escape(w->arena, list->items[i]));
	}
}

static void add_object(struct query_writer *w, const struct type *t, const char *prefix,
		       const void *value);

static void add_number(struct query_writer *w, const struct field *f, const char *prefix,
		       int64_t v)
{
	if (v == f->def)
		return;
	add_name(w, prefix, f->name);
	strbuf_addf(w->out, "%" PRId64, v);
}

static void add_field(struct query_writer *w, const struct field *f, const char *prefix,
		      const void *at)
{
	const struct text_map *map = at;
	const char *below;

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
		add_name(w, prefix, f->name);
		strbuf_adds(w->out, url_escape(w->arena, *(const char *const *)at));
		break;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
	case KIND_TIME: add_number(w, f, prefix, *(const int64_t *)at); break;
	case KIND_BOOL:
		if (*(const bool *)at == (f->def != 0))
			break;
		add_name(w, prefix, f->name);
		strbuf_adds(w->out, *(const bool *)at ? "true" : "false");
		break;
	case KIND_ENUM:
		if (*(const int *)at == f->def)
			break;
		add_name(w, prefix, f->name);
		strbuf_adds(w->out, url_escape(w->arena, f->names[*(const int *)at]));
		break;
	case KIND_OBJECT:
		add_object(w, f->type, arena_printf(w->arena, "%s%s.", prefix, f->name),
			   *(const void *const *)at);
		break;
	case KIND_LIST: add_list(w, f, prefix, at); break;
	case KIND_MAP:
		below = arena_printf(w->arena, "%s%s.", prefix, f->name);
		for (size_t i = 0; i < map->len; i++) {
			add_name(w, below, map->items[i].key);
			strbuf_adds(w->out, url_escape(w->arena, map->items[i].value));
		}
		break;
	}
}

static void add_object(struct query_writer *w, const struct type *t, const char *prefix,
		       const void *value)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		const void *at = field_ptr(f, value);

		if (!(f->flags & (FIELD_HIDDEN | FIELD_OUT | FIELD_SECRET)) &&
		    !field_is_absent(f, at))
			add_field(w, f, prefix, at);
	}
}

void schema_write_query(const struct type *t, const void *value, struct arena *arena,
			struct strbuf *out)
{
	struct query_writer w = { .arena = arena, .out = out };

	add_object(&w, t, "", value);
}
