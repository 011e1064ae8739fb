/* YAML for people's files: one document, block and flow style, into the tree that JSON gives.
 * What makes YAML a trap is refused: anchors and aliases (exponential growth), tags, several
 * documents, doubled keys.  Plain scalars follow the core schema of YAML 1.2, but only `true`
 * and `false` are truth values: `no` is a text. */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <yaml.h>

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; released by event_next */
	struct arena *arena;
	struct err *err;
	size_t values;
};

static const char no_marks[] =
	"anchors (&), aliases (*) and tags (!) are not taken: write the value out";

static int refuse(struct reader *r, int line, const char *what)
{
	return err_set(r->err, ERR_INVALID, "line %d: %s", line, what);
}

static int event_line(const struct reader *r)
{
	return (int)MIN(r->event.start_mark.line, (size_t)INT32_MAX - 1) + 1;
}

static int event_next(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;

	yaml_event_delete(&r->event);
	if (yaml_parser_parse(&r->parser, &r->event))
		return 0;
	if (p->error == YAML_READER_ERROR)
		return err_set(r->err, ERR_INVALID, "byte %zu: %s: the file must be UTF-8 text",
			       p->problem_offset, p->problem ? p->problem : "cannot be read");
	return err_set(r->err, ERR_INVALID, "line %zu, column %zu: %s%s%s: correct the YAML",
		       p->problem_mark.line + 1, p->problem_mark.column + 1,
		       p->problem ? p->problem : "no YAML", p->context ? " " : "",
		       p->context ? p->context : "");
}

static int room_check(struct reader *r, size_t size)
{
	if (r->values <= VALUES_MAX && arena_cost(size) <= arena_room(r->arena))
		return 0;
	return err_set(r->err, ERR_TOO_LARGE,
		       "line %d: the document is too large: send it in parts", event_line(r));
}

/* ---- scalars ----------------------------------------------------------------------------- */

/* [-+]?[0-9]+ | 0o[0-7]+ | 0x[0-9a-fA-F]+ */
static bool is_int(const char *s, int *ret_base)
{
	const char *p = s + (*s == '-' || *s == '+');

	*ret_base = 10;
	if (s[0] == '0' && s[1] == 'o') {
		*ret_base = 8;
		return s[2] && s[2 + strspn(s + 2, "01234567")] == 0;
	}
	if (s[0] == '0' && s[1] == 'x') {
		*ret_base = 16;
		return s[2] && s[2 + strspn(s + 2, "0123456789abcdefABCDEF")] == 0;
	}
	return *p && p[strspn(p, "0123456789")] == 0;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_real(const char *s)
{
	size_t whole, fraction = 0;

	s += *s == '-' || *s == '+';
	s += whole = strspn(s, "0123456789");
	if (*s == '.')
		s += 1 + (fraction = strspn(s + 1, "0123456789"));
	if (whole + fraction == 0)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		if (!isdigit((unsigned char)*s))
			return false;
		s += strspn(s, "0123456789");
	}
	return *s == 0;
}

/* .inf, -.INF, .NaN and so on: numbers that JSON does not have. */
static bool is_unreal(const char *s)
{
	const char *p = s + (*s == '-' || *s == '+');

	return strcmp(p, ".inf") == 0 || strcmp(p, ".Inf") == 0 || strcmp(p, ".INF") == 0 ||
	       strcmp(s, ".nan") == 0 || strcmp(s, ".NaN") == 0 || strcmp(s, ".NAN") == 0;
}

static int plain_read(struct reader *r, const char *s, struct json *ret)
{
	int base;

	if (*s == 0 || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 ||
	    strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0) {
		ret->kind = JSON_NULL;
	} else if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0) {
		ret->kind = JSON_BOOL;
		ret->boolean = *s == 't';
	} else if (is_int(s, &base)) {
		ret->kind = JSON_INT;
		errno = 0;
		ret->integer = strtoll(base == 10 ? s : s + 2, NULL, base);
		if (errno)
			return refuse(r, ret->line,
				      "the number needs more than 64 bits: quote it");
	} else if (is_real(s)) {
		ret->kind = JSON_REAL;
		ret->real = strtod(s, NULL);
		if (!isfinite(ret->real))
			return refuse(r, ret->line, "the number is too large: quote it");
	} else if (is_unreal(s)) {
		return refuse(r, ret->line, "only finite numbers are known: quote it");
	} else {
		return 1;
	}
	return 0;
}

/* The event's text, copied into the arena; NULL with an error. */
static char *scalar_text(struct reader *r, size_t *ret_len)
{
	const char *text = (const char *)r->event.data.scalar.value;
	size_t len = r->event.data.scalar.length;

	if (memchr(text, 0, len)) {
		refuse(r, event_line(r), "the text has a NUL character: remove it");
		return NULL;
	}
	if (room_check(r, len + 1) < 0)
		return NULL;
	*ret_len = len;
	return arena_strndup(r->arena, text, len);
}

static int scalar_read(struct reader *r, struct json *ret)
{
	int rc = 1;

	if (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	    strlen((const char *)r->event.data.scalar.value) == r->event.data.scalar.length)
		rc = plain_read(r, (const char *)r->event.data.scalar.value, ret);
	if (rc <= 0)
		return rc;
	ret->kind = JSON_TEXT;
	ret->text = scalar_text(r, &ret->text_len);
	return ret->text ? 0 : -1;
}

/* ---- collections ------------------------------------------------------------------------- */

static int node_read(struct reader *r, int depth, struct json *ret);

static int sequence_read(struct reader *r, int depth, struct json *ret)
{
	VEC(struct json) items = { 0 };
	int rc = -1;

	for (;;) {
		if (event_next(r) < 0)
			goto out;
		if (r->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (node_read(r, depth + 1, vec_push(&items)) < 0)
			goto out;
	}
	if (room_check(r, items.len * sizeof(*items.items)) < 0)
		goto out;
	ret->kind = JSON_ARRAY;
	ret->items = arena_array(r->arena, struct json, items.len);
	ret->count = items.len;
	if (items.len > 0)
		memcpy(ret->items, items.items, items.len * sizeof(*items.items));
	rc = 0;
out:
	vec_release(&items);
	return rc;
}

static int key_read(struct reader *r, struct map *lines, const char **ret)
{
	int line = event_line(r);
	size_t len;
	void *earlier;

	if (r->event.type != YAML_SCALAR_EVENT)
		return refuse(r, line,
			      "a key must be a plain name, not a list, a mapping or an alias");
	if (r->event.data.scalar.anchor || r->event.data.scalar.tag)
		return refuse(r, line, no_marks);
	*ret = scalar_text(r, &len);
	if (!*ret)
		return -1;
	earlier = map_find(lines, *ret);
	if (earlier)
		return err_set(
			r->err, ERR_INVALID,
			"line %d: `%.60s` was given before, in line %d: remove one of them",
			line, *ret, (int)(intptr_t)earlier);
	map_put(lines, *ret, (void *)(intptr_t)line);
	return line;
}

static int mapping_read(struct reader *r, int depth, struct json *ret)
{
	VEC(struct json_member) members = { 0 };
	struct map *lines = map_new();
	int rc = -1, line;

	for (;;) {
		struct json_member *m;

		if (event_next(r) < 0)
			goto out;
		if (r->event.type == YAML_MAPPING_END_EVENT)
			break;
		m = vec_push(&members);
		line = key_read(r, lines, &m->name);
		if (line < 0 || event_next(r) < 0 || node_read(r, depth + 1, &m->value) < 0)
			goto out;
		m->value.line =
			line; /* where a person looks for it, also if the value begins below */
	}
	if (room_check(r, members.len * sizeof(*members.items)) < 0)
		goto out;
	ret->kind = JSON_OBJECT;
	ret->members = arena_array(r->arena, struct json_member, members.len);
	ret->member_count = members.len;
	if (members.len > 0)
		memcpy(ret->members, members.items, members.len * sizeof(*members.items));
	rc = 0;
out:
	map_free(lines, NULL);
	vec_release(&members);
	return rc;
}

/* The node that begins with the current event. */
static int node_read(struct reader *r, int depth, struct json *ret)
{
	const yaml_event_t *e = &r->event;
	struct json value = { .line = event_line(r) };
	int rc;

	r->values++;
	if (room_check(r, 0) < 0)
		return -1;
	if (depth > DEPTH_MAX && e->type != YAML_SCALAR_EVENT)
		return refuse(r, value.line,
			      "nested more than 32 levels deep: flatten the document");
	if (e->type == YAML_SCALAR_EVENT) {
		if (e->data.scalar.anchor || e->data.scalar.tag)
			return refuse(r, value.line, no_marks);
		rc = scalar_read(r, &value);
	} else if (e->type == YAML_SEQUENCE_START_EVENT) {
		if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
			return refuse(r, value.line, no_marks);
		rc = sequence_read(r, depth, &value);
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
			return refuse(r, value.line, no_marks);
		rc = mapping_read(r, depth, &value);
	} else {
		return refuse(r, value.line, no_marks); /* an alias */
	}
	if (rc == 0)
		*ret = value;
	return rc;
}

static_assert(DEPTH_MAX == 32, "the text of an error says 32");

static int document_read(struct reader *r, struct json *ret)
{
	if (event_next(r) < 0 || event_next(r) < 0) /* stream start, then document start */
		return -1;
	if (r->event.type == YAML_STREAM_END_EVENT)
		return err_set(r->err, ERR_INVALID, "the document is empty: YAML is expected");
	if (r->event.data.document_start.tag_directives.start !=
	    r->event.data.document_start.tag_directives.end)
		return refuse(r, event_line(r), "%TAG is not taken: remove it");
	if (event_next(r) < 0 || node_read(r, 1, ret) < 0)
		return -1;
	if (event_next(r) < 0 || event_next(r) < 0) /* document end, then stream end */
		return -1;
	if (r->event.type != YAML_STREAM_END_EVENT)
		return refuse(r, event_line(r),
			      "a second document begins: one file holds one document");
	return 0;
}

int yaml_parse(struct slice in, struct arena *arena, struct json **ret, struct err *err)
{
	struct reader r = { .arena = arena, .err = err };
	struct json *root;
	int rc;

	if (arena_cost(sizeof(*root)) > arena_room(arena))
		return err_set(err, ERR_TOO_LARGE, "no memory is left for the document");
	root = arena_new(arena, struct json);
	if (!yaml_parser_initialize(&r.parser))
		abort(); /* out of memory */
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)(in.ptr ? in.ptr : ""),
				     in.len);
	rc = document_read(&r, root);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	if (rc == 0)
		*ret = root;
	return rc;
}
