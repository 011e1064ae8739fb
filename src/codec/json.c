/* JSON in (parsed by jansson, then moved into the caller's arena) and out (written by hand). */
#include "internal.h"

#include <math.h>

/* jansson calls its kinds as we call ours. */
#define JSON_OBJECT  JANSSON_OBJECT
#define JSON_ARRAY   JANSSON_ARRAY
#define JSON_STRING  JANSSON_STRING
#define JSON_INTEGER JANSSON_INTEGER
#define JSON_REAL    JANSSON_REAL
#define JSON_TRUE    JANSSON_TRUE
#define JSON_FALSE   JANSSON_FALSE
#define JSON_NULL    JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_INTEGER
#undef JSON_REAL
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

/* ---- in ---------------------------------------------------------------------------------- */

/* Depth and number of values, before jansson spends stack and memory on them.  Does not judge
 * the rest. */
static int shape_check(struct slice in, struct err *err)
{
	size_t values = 1, line = 1, line_start = 0;
	int depth = 0;
	bool in_text = false;

	for (size_t i = 0; i < in.len; i++) {
		char c = in.ptr[i];

		if (c == '\n') {
			line++;
			line_start = i + 1;
		} else if (in_text) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_text = false;
		} else if (c == '"') {
			in_text = true;
		} else if (c == '[' || c == '{') {
			values++;
			if (++depth > DEPTH_MAX)
				return err_set(
					err, ERR_INVALID,
					"line %zu, column %zu: nested more than %d levels "
					"deep: flatten the document",
					line, i - line_start + 1, DEPTH_MAX);
		} else if (c == ']' || c == '}') {
			depth--;
		} else if (c == ',') {
			values++;
		}
	}
	if (values > VALUES_MAX)
		return err_set(
			err, ERR_TOO_LARGE,
			"the document has about %zu values, %zu are allowed: send it in parts",
			values, VALUES_MAX);
	return 0;
}

/* Bytes that tree_copy will take from the arena for what hangs below `from`. */
static size_t tree_cost(json_t *from)
{
	size_t cost = 0, i;
	const char *name;
	json_t *value;

	switch (json_typeof(from)) {
	case JANSSON_STRING: return arena_cost(json_string_length(from) + 1);
	case JANSSON_ARRAY:
		cost = arena_cost(json_array_size(from) * sizeof(struct json));
		json_array_foreach(from, i, value) cost += tree_cost(value);
		return cost;
	case JANSSON_OBJECT:
		cost = arena_cost(json_object_size(from) * sizeof(struct json_member));
		json_object_foreach(from, name, value) cost +=
			arena_cost(strlen(name) + 1) + tree_cost(value);
		return cost;
	case JANSSON_INTEGER:
	case JANSSON_REAL:
	case JANSSON_TRUE:
	case JANSSON_FALSE:
	case JANSSON_NULL: return 0;
	}
	return 0;
}

static void tree_copy(json_t *from, struct arena *arena, struct json *ret)
{
	const char *name;
	json_t *value;
	size_t i;

	*ret = (struct json){ 0 };
	switch (json_typeof(from)) {
	case JANSSON_NULL: ret->kind = JSON_NULL; break;
	case JANSSON_TRUE:
	case JANSSON_FALSE:
		ret->kind = JSON_BOOL;
		ret->boolean = json_typeof(from) == JANSSON_TRUE;
		break;
	case JANSSON_INTEGER:
		ret->kind = JSON_INT;
		ret->integer = json_integer_value(from);
		break;
	case JANSSON_REAL:
		ret->kind = JSON_REAL;
		ret->real = json_real_value(from);
		break;
	case JANSSON_STRING:
		ret->kind = JSON_TEXT;
		ret->text_len = json_string_length(from);
		ret->text = arena_strndup(arena, json_string_value(from), ret->text_len);
		break;
	case JANSSON_ARRAY:
		ret->kind = JSON_ARRAY;
		ret->items = arena_array(arena, struct json, json_array_size(from));
		json_array_foreach(from, i, value)
			tree_copy(value, arena, &ret->items[ret->count++]);
		break;
	case JANSSON_OBJECT:
		ret->kind = JSON_OBJECT;
		ret->members = arena_array(arena, struct json_member, json_object_size(from));
		json_object_foreach(from, name, value)
		{
			struct json_member *m = &ret->members[ret->member_count++];

			m->name = arena_strdup(arena, name);
			tree_copy(value, arena, &m->value);
		}
		break;
	}
}

int json_parse(struct slice in, struct arena *arena, struct json **ret, struct err *err)
{
	json_error_t why;
	json_t *tree;
	size_t cost;

	if (slice_trim(in).len == 0)
		return err_set(err, ERR_INVALID, "the document is empty: JSON is expected");
	if (shape_check(in, err) < 0)
		return -1;
	tree = json_loadb(in.ptr, in.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!tree)
		return err_set(err, ERR_INVALID, "line %d, column %d: %s: correct the JSON",
			       why.line, why.column, why.text);
	cost = sizeof(struct json) + tree_cost(tree);
	if (cost > arena_room(arena)) {
		json_decref(tree);
		return err_set(
			err, ERR_TOO_LARGE,
			"the document takes %zu bytes of memory, %zu are left: send less at once",
			cost, arena_room(arena));
	}
	*ret = arena_new(arena, struct json);
	tree_copy(tree, arena, *ret);
	json_decref(tree);
	return 0;
}

const struct json *json_find(const struct json *object, const char *name)
{
	if (!object || object->kind != JSON_OBJECT)
		return NULL;
	for (size_t i = 0; i < object->member_count; i++)
		if (strcmp(object->members[i].name, name) == 0)
			return &object->members[i].value;
	return NULL;
}

/* ---- out --------------------------------------------------------------------------------- */

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
size_t utf8_char(const char *p)
{
	unsigned char c = (unsigned char)p[0], d = (unsigned char)p[1];

	if (c < 0x80)
		return c != 0;
	if (c < 0xc2 || c > 0xf4 || !is_continuation(p[1]))
		return 0;
	if (c < 0xe0)
		return 2;
	if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d > 0x9f) || (c == 0xf0 && d < 0x90) ||
	    (c == 0xf4 && d > 0x8f))
		return 0;
	if (!is_continuation(p[2]))
		return 0;
	if (c < 0xf0)
		return 3;
	return is_continuation(p[3]) ? 4 : 0;
}

static void write_escape(char c, struct strbuf *out)
{
	switch (c) {
	case '"': strbuf_adds(out, "\\\""); break;
	case '\\': strbuf_adds(out, "\\\\"); break;
	case '\n': strbuf_adds(out, "\\n"); break;
	case '\r': strbuf_adds(out, "\\r"); break;
	case '\t': strbuf_adds(out, "\\t"); break;
	default: strbuf_addf(out, "\\u%04x", (unsigned)(unsigned char)c); break;
	}
}

void json_write_text(const char *text, struct strbuf *out)
{
	const char *run = text;

	if (!text) {
		strbuf_adds(out, "null");
		return;
	}
	strbuf_addc(out, '"');
	for (const char *p = text;;) {
		unsigned char c = (unsigned char)*p;
		size_t len = 1;

		if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
			p++;
			continue;
		}
		if (c >= 0x80 && (len = utf8_char(p)) > 0) {
			p += len;
			continue;
		}
		strbuf_add(out, run, (size_t)(p - run));
		if (c == 0)
			break;
		if (c >= 0x80)
			strbuf_adds(out, "\xef\xbf\xbd");
		else
			write_escape(*p, out);
		run = ++p;
	}
	strbuf_addc(out, '"');
}

static void write_real(double real, struct strbuf *out)
{
	char text[40];
	int digits = 14;

	if (!isfinite(real)) {
		strbuf_adds(out, "null");
		return;
	}
	do
		snprintf(text, sizeof(text), "%.*g", ++digits, real);
	while (digits < 17 && strtod(text, NULL) != real); /* 17 tell any two doubles apart */
	strbuf_adds(out, text);
	if (!strpbrk(text, ".e"))
		strbuf_adds(out, ".0");
}

void json_write(const struct json *value, struct strbuf *out)
{
	switch (value->kind) {
	case JSON_NULL: strbuf_adds(out, "null"); break;
	case JSON_BOOL: strbuf_adds(out, value->boolean ? "true" : "false"); break;
	case JSON_INT: strbuf_addf(out, "%" PRId64, value->integer); break;
	case JSON_REAL: write_real(value->real, out); break;
	case JSON_TEXT: json_write_text(value->text, out); break;
	case JSON_ARRAY:
		strbuf_addc(out, '[');
		for (size_t i = 0; i < value->count; i++) {
			if (i > 0)
				strbuf_addc(out, ',');
			json_write(&value->items[i], out);
		}
		strbuf_addc(out, ']');
		break;
	case JSON_OBJECT:
		strbuf_addc(out, '{');
		for (size_t i = 0; i < value->member_count; i++) {
			if (i > 0)
				strbuf_addc(out, ',');
			json_write_text(value->members[i].name, out);
			strbuf_addc(out, ':');
			json_write(&value->members[i].value, out);
		}
		strbuf_addc(out, '}');
		break;
	}
}
