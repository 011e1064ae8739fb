/* Members of described structs by name, paths, and what errors show of outside values. */
#include "internal.h"

#include <ctype.h>

const struct field *type_find(const struct type *t, const char *name, size_t len)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];

		if (strncmp(f->name, name, len) == 0 && f->name[len] == 0)
			return f->flags & FIELD_HIDDEN ? NULL : f;
	}
	return NULL;
}

int names_find(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

int names_count(const char *const *names)
{
	int n = 0;

	while (names[n])
		n++;
	return n;
}

void names_join(const char *const *names, struct strbuf *out)
{
	for (int i = 0; names[i]; i++) {
		if (i > 0)
			strbuf_adds(out, ", ");
		strbuf_adds(out, names[i]);
	}
}

bool field_is_absent(const struct field *f, const void *at)
{
	int64_t v;

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID:
	case KIND_OBJECT: return *(const void *const *)at == NULL;
	case KIND_ENUM:
		return *(const int *)at < 0 || *(const int *)at >= names_count(f->names);
	case KIND_TIME: return *(const int64_t *)at == 0;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
		v = *(const int64_t *)at;
		return v == f->def && (v < f->min || v > f->max);
	case KIND_BOOL:
	case KIND_LIST:
	case KIND_MAP: return false;
	}
	return false;
}

static bool name_ends(const char *name, const char *end)
{
	size_t n = strlen(name), e = strlen(end);

	return n >= e && strcmp(name + n - e, end) == 0;
}

enum unit field_unit(const struct field *f)
{
	if (f->kind != KIND_INT)
		return UNIT_NONE;
	if (name_ends(f->name, "_bytes"))
		return UNIT_BYTES;
	if (name_ends(f->name, "_mib"))
		return UNIT_MIB;
	if (name_ends(f->name, "_ms"))
		return UNIT_MS;
	if (name_ends(f->name, "_s"))
		return UNIT_S;
	return UNIT_NONE;
}

bool field_is_milli(const struct field *f)
{
	return name_ends(f->name, "_milli");
}

const char *text_map_find(const struct text_map *m, const char *key)
{
	for (size_t i = 0; i < m->len; i++)
		if (strcmp(m->items[i].key, key) == 0)
			return m->items[i].value;
	return NULL;
}

/* One step of a path: "[3]" of a list. Moves *path past it. */
static bool index_parse(const char **path, size_t *ret)
{
	char *end;
	unsigned long n;

	if ((*path)[0] != '[' || !isdigit((unsigned char)(*path)[1]))
		return false;
	n = strtoul(*path + 1, &end, 10);
	if (*end != ']')
		return false;
	*ret = n;
	*path = end + 1;
	return true;
}

const struct field *schema_field(const struct type *t, const char *path, const void *value,
				 const void **ret_at)
{
	const void *at = NULL;

	while (t) {
		size_t len = strcspn(path, ".["), i;
		const struct field *f = type_find(t, path, len);

		if (!f)
			return NULL;
		at = value ? field_ptr(f, value) : NULL;
		path += len;
		if (*path == 0) {
			if (ret_at)
				*ret_at = at;
			return f;
		}
		if (f->kind == KIND_OBJECT && *path == '.') {
			value = at ? *(const void *const *)at : NULL;
		} else if (f->kind == KIND_LIST && f->type && index_parse(&path, &i) &&
			   *path == '.') {
			const struct raw_list *list = at;

			value = list && i < list->len ? (char *)list->items + i * f->type->size
						      : NULL;
		} else {
			return NULL;
		}
		t = f->type;
		path++;
	}
	return NULL;
}

/* ---- what errors show -------------------------------------------------------------------- */

struct shown show_text(const char *text, size_t len)
{
	struct shown s;
	size_t n = MIN(len, (size_t)48);

	if (!utf8_valid(text, len))
		len = n = 0;
	while (n < len && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	memcpy(s.text, text, n);
	s.text[n] = 0;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s.text[i] < 0x20 || s.text[i] == 0x7f)
			s.text[i] = '?';
	if (n < len)
		memcpy(s.text + n, "…", sizeof("…"));
	return s;
}

struct shown show_field(const struct field *f, const char *text)
{
	if (f->flags & FIELD_SECRET)
		return (struct shown){ "secret" };
	return show_text(text, strlen(text));
}

static void path_format(const struct path *p, char *buf, size_t size)
{
	size_t len;

	if (!p) {
		buf[0] = 0;
		return;
	}
	path_format(p->up, buf, size);
	len = strlen(buf);
	if (p->name)
		snprintf(buf + len, size - len, "%s%s", len > 0 ? "." : "",
			 show_text(p->name, strlen(p->name)).text);
	else
		snprintf(buf + len, size - len, "[%zu]", p->index);
}

/* The line stays readable where the text before it has to be cut. */
static void append_line(struct err *err, int line)
{
	char where[32];
	size_t at, len;

	if (line <= 0)
		return;
	len = (size_t)snprintf(where, sizeof(where), " (line %d)", line);
	at = MIN(strlen(err->text), sizeof(err->text) - 1 - len);
	memcpy(err->text + at, where, len + 1);
}

int path_err(const struct path *at, int line, struct err *err, const char *fmt, ...)
{
	char field[sizeof(err->field)], text[sizeof(err->text)];
	va_list ap;

	if (!err)
		return -1;
	path_format(at, field, sizeof(field));
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set_field(err, field, "%s", text);
	append_line(err, line);
	return -1;
}

int path_err_below(const struct path *at, int line, struct err *err)
{
	char field[2 * sizeof(err->field)];
	size_t len;

	if (!err)
		return -1;
	path_format(at, field, sizeof(err->field));
	len = strlen(field);
	if (len > 0 && err->field[0] && err->field[0] != '[')
		field[len++] = '.';
	snprintf(field + len, sizeof(field) - len, "%s", err->field);
	field[sizeof(err->field) - 1] = 0;
	memcpy(err->field, field, sizeof(err->field));
	append_line(err, line);
	return -1;
}

/* Levenshtein's distance; names longer than 31 characters are far from everything. */
static size_t distance(const char *a, const char *b)
{
	size_t row[32], la = strlen(a), lb = strlen(b);

	if (la > 31 || lb > 31)
		return 32;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = MIN(row[j], row[j - 1]) + 1;

			best = MIN(best, corner + (a[i - 1] != b[j - 1]));
			corner = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

static const struct field *nearest(const struct type *t, const char *name)
{
	const struct field *best = NULL;
	size_t len = strlen(name), least = MAX(len / 3, (size_t)1) + 1;

	for (size_t i = 0; i < t->count; i++) {
		const struct field *f = &t->fields[i];
		size_t d = distance(name, f->name);

		if (f->flags & (FIELD_HIDDEN | FIELD_OUT))
			continue;
		if (d >= least && len >= 3 &&
		    (str_starts(f->name, name) || str_starts(name, f->name)))
			d = least - 1; /* "vram" for "vram_mib" */
		if (d < least) {
			least = d;
			best = f;
		}
	}
	return best;
}

/* What `t` takes from a client, as far as one line has room for it. */
static void known_fields(const struct type *t, struct strbuf *out)
{
	for (size_t i = 0; i < t->count; i++) {
		if (t->fields[i].flags & (FIELD_HIDDEN | FIELD_OUT))
			continue;
		if (out->len >= 120) {
			strbuf_adds(out, ", …");
			return;
		}
		strbuf_addf(out, "%s%s", out->len ? ", " : "", t->fields[i].name);
	}
}

int unknown_field(const struct type *t, const struct path *at, const char *name, int line,
		  struct err *err)
{
	const struct field *near = nearest(t, name);
	struct shown shown = show_text(name, strlen(name));
	cleanup_strbuf struct strbuf known = STRBUF_INIT;

	strbuf_init(&known);
	known_fields(t, &known);
	if (near)
		return path_err(at, line, err, "unknown field `%s`; did you mean `%s`?",
				shown.text, near->name);
	if (known.len == 0)
		return path_err(at, line, err,
				"unknown field `%s`: nothing is taken here, leave it out",
				shown.text);
	return path_err(at, line, err, "unknown field `%s`: known are %s", shown.text,
			known.buf);
}
