#include "os.h"

#include <ctype.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 20)

extern char **environ;

/* Where each key's value came from, while a configuration is being put together. */
struct found {
	const char *value;    /* NULL: not set yet */
	const char *variable; /* NULL: from the file */
	int line;
};

struct loader {
	const struct config_table *table;
	const char *name; /* of the file, for messages */
	struct arena *arena;
	struct found *found; /* one for each key */
	const char *section; /* current one; NULL before the first */
	int line;
};

static const struct config_key *key_find(const struct config_table *t, const char *section,
					 struct slice name)
{
	for (size_t i = 0; i < t->count; i++) {
		if (str_eq(t->keys[i].section, section) && slice_is(name, t->keys[i].key))
			return &t->keys[i];
	}
	return NULL;
}

static const char *section_find(const struct config_table *t, struct slice name)
{
	for (size_t i = 0; i < t->count; i++) {
		if (slice_is(name, t->keys[i].section))
			return t->keys[i].section;
	}
	return NULL;
}

/* The section (section NULL) or the key of that section that a person who wrote `text` may have
 * meant; NULL if none is near. */
static const char *nearest(const struct config_table *t, const char *section, const char *text)
{
	size_t best_distance = 2 + strlen(text) / 3;
	const char *best = NULL;

	for (size_t i = 0; i < t->count; i++) {
		const char *name = section ? t->keys[i].key : t->keys[i].section;
		size_t distance = str_distance(text, name);

		if (section && !str_eq(t->keys[i].section, section))
			continue;
		if (distance < best_distance) {
			best_distance = distance;
			best = name;
		}
	}
	return best;
}

/* ": did you mean [log]?", else what there is. */
static const char *section_hint(struct loader *l, const char *text)
{
	cleanup_strbuf struct strbuf out = STRBUF_INIT;
	const struct config_table *t = l->table;
	const char *near = nearest(t, NULL, text);

	if (near)
		return arena_printf(l->arena, "did you mean [%s]?", near);
	strbuf_adds(&out, "there are");
	for (size_t i = 0; i < t->count; i++)
		if (i == 0 || !str_eq(t->keys[i].section, t->keys[i - 1].section))
			strbuf_addf(&out, " [%s]", t->keys[i].section);
	return arena_strdup(l->arena, out.buf);
}

/* ---- the file ---- */

static int read_head(struct loader *l, struct slice line, struct err *err)
{
	struct slice name;
	const char *known;

	if (line.ptr[line.len - 1] != ']')
		return err_set(err, ERR_INVALID,
			       "%s:%d: the head of a section has no ']': write [section]",
			       l->name, l->line);
	name = slice_trim((struct slice){ line.ptr + 1, line.len - 2 });
	known = section_find(l->table, name);
	if (!known) {
		const char *text = arena_strndup(l->arena, name.ptr, name.len);

		return err_set(err, ERR_INVALID,
			       "%s:%d: unknown section [%.40s]: %s", l->name, l->line, text,
			       section_hint(l, text));
	}
	l->section = known;
	return 0;
}

/* What is between quotes, with \" and \\ undone; NULL if the quoting is broken. */
static const char *unquote(struct loader *l, struct slice s)
{
	char *out, *at;
	size_t i = 1;

	out = at = arena_alloc(l->arena, s.len + 1);
	for (; i < s.len && s.ptr[i] != '"'; i++) {
		if (s.ptr[i] == '\\' && i + 1 < s.len)
			i++;
		*at++ = s.ptr[i];
	}
	if (i >= s.len)
		return NULL;
	s = slice_trim((struct slice){ s.ptr + i + 1, s.len - i - 1 });
	return s.len == 0 || s.ptr[0] == '#' ? out : NULL;
}

static struct slice without_comment(struct slice s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.ptr[i] == '#' && (s.ptr[i - 1] == ' ' || s.ptr[i - 1] == '\t'))
			return (struct slice){ s.ptr, i };
	}
	return s.len && s.ptr[0] == '#' ? (struct slice){ s.ptr, 0 } : s;
}

static const char *read_value(struct loader *l, struct slice s)
{
	if (s.len && s.ptr[0] == '"')
		return unquote(l, s);
	s = slice_trim(without_comment(s));
	return arena_strndup(l->arena, s.ptr, s.len);
}

static int read_pair(struct loader *l, struct slice line, struct err *err)
{
	struct slice name, rest = line;
	const struct config_key *key;
	struct found *found;
	const char *value;

	slice_split(&rest, '=', &name);
	name = slice_trim(name);
	if (!rest.ptr || !name.len)
		return err_set(err, ERR_INVALID,
			       "%s:%d: '%.40s' is not a setting: write key = value", l->name,
			       l->line, arena_strndup(l->arena, line.ptr, line.len));
	if (!l->section)
		return err_set(
			err, ERR_INVALID,
			"%s:%d: a setting before the first section: write [section] above it",
			l->name, l->line);
	key = key_find(l->table, l->section, name);
	if (!key) {
		const char *text = arena_strndup(l->arena, name.ptr, name.len);

		const char *near = nearest(l->table, l->section, text);

		return err_set_field(err, text, "%s:%d: unknown key '%.40s' in [%s]: %s%s%s",
				     l->name, l->line, text, l->section,
				     near ? "did you mean '" : "remove it, or correct its name",
				     near ? near : "", near ? "'?" : "");
	}
	found = &l->found[key - l->table->keys];
	if (found->value)
		return err_set_field(
			err, key->key,
			"%s:%d: '%s' was already set in line %d: remove one of them", l->name,
			l->line, key->key, found->line);
	value = read_value(l, slice_trim(rest));
	if (!value)
		return err_set_field(err, key->key,
				     "%s:%d: the quotes of '%s' are broken: write \"text\", "
				     "and \\\" for a quote in it",
				     l->name, l->line, key->key);
	*found = (struct found){ .value = value, .line = l->line };
	return 0;
}

static int read_text(struct loader *l, struct slice text, struct err *err)
{
	struct slice line;

	for (l->line = 1; slice_split(&text, '\n', &line); l->line++) {
		if (!utf8_valid(line.ptr, line.len) ||
		    (line.len && memchr(line.ptr, '\0', line.len)))
			return err_set(err, ERR_INVALID,
				       "%s:%d: not UTF-8 text: save the file as UTF-8", l->name,
				       l->line);
		line = slice_trim(line);
		if (!line.len || line.ptr[0] == '#')
			continue;
		if (line.ptr[0] == '[') {
			line = slice_trim(without_comment(line));
			if (read_head(l, line, err) < 0)
				return -1;
		} else if (read_pair(l, line, err) < 0) {
			return -1;
		}
	}
	return 0;
}

/* ---- the environment ---- */

static void add_upper(struct strbuf *sb, const char *s)
{
	for (; *s; s++)
		strbuf_addc(sb, isalnum((unsigned char)*s) ? (char)toupper((unsigned char)*s)
							   : '_');
}

/* TES_<SECTION>_<KEY>; key "" gives what the variables of a section begin with. */
static const char *variable_name(struct arena *arena, const char *section, const char *key)
{
	cleanup_strbuf struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "TES_");
	add_upper(&sb, section);
	strbuf_addc(&sb, '_');
	add_upper(&sb, key);
	return arena_strdup(arena, sb.buf);
}

static int refuse_variable(struct loader *l, const char *name, const struct config_key *of,
			   struct err *err)
{
	const char *start = variable_name(l->arena, of->section, "");
	char *wrong = arena_strdup(l->arena, name + strlen(start));

	const char *near;

	for (char *c = wrong; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	near = nearest(l->table, of->section, wrong);
	if (!near)
		return err_set(err, ERR_INVALID,
			       "unknown environment variable %.60s: unset it, or correct its name",
			       name);
	return err_set(err, ERR_INVALID, "unknown environment variable %.60s: did you mean %s?",
		       name, variable_name(l->arena, of->section, near));
}

static int read_variable(struct loader *l, const char *name, const char *value, struct err *err)
{
	const struct config_table *t = l->table;
	const struct config_key *same_section = NULL;

	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *key = &t->keys[i];

		if (str_eq(name, variable_name(l->arena, key->section, key->key))) {
			if (!utf8_valid(value, strlen(value)))
				return err_set(err, ERR_INVALID,
					       "the environment variable %s is not UTF-8 text",
					       name);
			l->found[i] =
				(struct found){ .value = value,
						.variable = arena_strdup(l->arena, name) };
			return 0;
		}
		if (str_starts(name, variable_name(l->arena, key->section, "")))
			same_section = key;
	}
	return same_section ? refuse_variable(l, name, same_section, err) : 0;
}

static int read_environment(struct loader *l, char *const *environment, struct err *err)
{
	for (; environment && *environment; environment++) {
		const char *equals = strchr(*environment, '=');

		if (!str_starts(*environment, "TES_") || !equals)
			continue;
		if (read_variable(l,
				  arena_strndup(l->arena, *environment,
						(size_t)(equals - *environment)),
				  arena_strdup(l->arena, equals + 1), err) < 0)
			return -1;
	}
	return 0;
}

/* ---- values ---- */

static void format_number(enum config_kind kind, int64_t n, char buf[static 32])
{
	char size[24];

	if (kind == CONFIG_DURATION) {
		duration_format(n, buf);
	} else if (kind == CONFIG_MONEY) {
		money_format(n, buf);
	} else if (kind == CONFIG_SIZE) {
		size_format(n, size);
		snprintf(buf, 32, "%s", size);
	} else if (kind == CONFIG_PPM) {
		snprintf(buf, 32, "%" PRId64 "ppm", n);
		if (n % 100 == 0)
			snprintf(buf, 32,
				 n % 10000 ? "%" PRId64 ".%02" PRId64 "%%" : "%" PRId64 "%%",
				 n / 10000, n % 10000 / 100);
	} else {
		snprintf(buf, 32, "%" PRId64, n);
	}
}

static int parse_number(const struct config_key *key, const char *value, int64_t *ret,
			struct err *err)
{
	bool unlimited = key->min == 0 && key->max == 0;
	int64_t max = unlimited ? INT64_MAX : key->max, n = 0;
	char low[32], high[32];
	int rc = 0;

	if (key->kind == CONFIG_INT)
		return int_parse(value, key->min, max, ret, err);
	if (key->kind == CONFIG_SIZE)
		rc = size_parse(value, &n, err);
	else if (key->kind == CONFIG_DURATION)
		rc = duration_parse(value, &n, err);
	else if (key->kind == CONFIG_MONEY)
		rc = money_parse(value, &n, err);
	else
		rc = ppm_parse(value, &n, err);
	if (rc < 0)
		return -1;
	if (n < key->min || n > max) {
		format_number(key->kind, key->min, low);
		format_number(key->kind, max, high);
		return unlimited ? err_set(err, ERR_INVALID, "%.40s is negative", value)
				 : err_set(err, ERR_INVALID,
					   "%.40s is out of range: give %s to %s", value, low,
					   high);
	}
	*ret = n;
	return 0;
}

static int parse_bool(const char *value, bool *ret, struct err *err)
{
	static const char *const words[] = {
		"false", "true", "no", "yes", "off", "on", "0", "1"
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_eq(value, words[i])) {
			*ret = i % 2;
			return 0;
		}
	}
	return err_set(err, ERR_INVALID, "'%.40s' is neither true nor false", value);
}

static void list_names(const struct config_key *key, struct strbuf *sb)
{
	for (size_t i = 0; key->names[i]; i++)
		strbuf_addf(sb, "%s%s",
			    i == 0		? ""
			    : key->names[i + 1] ? ", "
						: " or ",
			    key->names[i]);
}

static int parse_enum(const struct config_key *key, const char *value, int *ret,
		      struct err *err)
{
	cleanup_strbuf struct strbuf names = STRBUF_INIT;

	for (int i = 0; key->names[i]; i++) {
		if (str_eq(value, key->names[i])) {
			*ret = i;
			return 0;
		}
	}
	list_names(key, &names);
	return err_set(err, ERR_INVALID, "'%.40s' is unknown: give %s", value, names.buf);
}

static int store(const struct config_key *key, const char *value, char *base, struct err *err)
{
	void *at = base + key->offset;

	switch (key->kind) {
	case CONFIG_TEXT: *(const char **)at = value; return 0;
	case CONFIG_BOOL: return parse_bool(value, at, err);
	case CONFIG_ENUM: return parse_enum(key, value, at, err);
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
	case CONFIG_MONEY:
	case CONFIG_PPM: return parse_number(key, value, at, err);
	}
	assert(!"unknown config_kind");
	return -1;
}

static int store_found(struct loader *l, const struct config_key *key,
		       const struct found *found, char *base, struct err *err)
{
	struct err why;

	if (store(key, found->value, base, &why) == 0)
		return 0;
	if (found->variable)
		err_set_field(err, key->key, "%s: %s", found->variable, why.text);
	else
		err_set_field(err, key->key, "%s:%d: %s: %s", l->name, found->line, key->key,
			      why.text);
	return -1;
}

static int store_all(struct loader *l, char *base, struct err *err)
{
	for (size_t i = 0; i < l->table->count; i++) {
		const struct config_key *key = &l->table->keys[i];
		int rc;

		if (l->found[i].value) {
			rc = store_found(l, key, &l->found[i], base, err);
		} else if (key->def) {
			struct err ignored;

			rc = store(key, key->def, base, &ignored);
			assert(rc == 0); /* the table's own default must be legal */
		} else {
			rc = err_set_field(
				err, key->key,
				"%s: '%s' is missing in [%s]: set it, or the variable %s",
				l->name, key->key, key->section,
				variable_name(l->arena, key->section, key->key));
		}
		if (rc < 0) {
			err_prefix_field(err, key->section);
			return -1;
		}
	}
	return 0;
}

/* Says where the value stands that the table's check does not like. */
static int refuse_checked(struct loader *l, struct err *err)
{
	const struct found *found = NULL;
	struct err why = *err;

	for (size_t i = 0; i < l->table->count; i++) {
		const struct config_key *key = &l->table->keys[i];

		if (str_eq(why.field, arena_printf(l->arena, "%s.%s", key->section, key->key)))
			found = &l->found[i];
	}
	if (!str_starts(why.text, why.field))
		err_wrap(&why, "%s", why.field);
	if (found && found->variable)
		err_wrap(&why, "%s", found->variable);
	else if (found && found->line)
		err_wrap(&why, "%s:%d", l->name, found->line);
	else
		err_wrap(&why, "%s", l->name);
	*err = why;
	return -1;
}

int config_read(const struct config_table *t, struct slice text, const char *name,
		char *const *environment, struct arena *arena, void *ret, struct err *err)
{
	struct loader l = { .table = t, .name = name, .arena = arena };
	void *made = arena_alloc(arena, t->size);

	l.found = arena_array(arena, struct found, t->count);
	if (read_text(&l, text, err) < 0) {
		if (err && err->field[0])
			err_prefix_field(err, l.section);
		return -1;
	}
	if (read_environment(&l, environment, err) < 0 || store_all(&l, made, err) < 0)
		return -1;
	if (t->check) {
		struct err why = { 0 };

		if (t->check(made, &why) < 0) {
			refuse_checked(&l, &why);
			if (err)
				*err = why;
			return -1;
		}
	}
	memcpy(ret, made, t->size);
	return 0;
}

int config_load(const struct config_table *t, const char *path, struct arena *arena, void *ret,
		struct err *err)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (path && file_read(path, FILE_MAX, &text, err) < 0)
		return -1;
	return config_read(t, (struct slice){ text.buf, text.len },
			   path ? path : "configuration", environ, arena, ret, err);
}

/* ---- the commented file ---- */

static void print_limits(const struct config_key *key, struct strbuf *out)
{
	char low[32], high[32];

	switch (key->kind) {
	case CONFIG_TEXT: return;
	case CONFIG_BOOL: strbuf_adds(out, " true or false."); return;
	case CONFIG_ENUM:
		strbuf_addc(out, ' ');
		list_names(key, out);
		strbuf_addc(out, '.');
		return;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
	case CONFIG_MONEY:
	case CONFIG_PPM:
		if (key->min == 0 && key->max == 0)
			return;
		format_number(key->kind, key->min, low);
		format_number(key->kind, key->max, high);
		strbuf_addf(out, " %s to %s.", low, high);
		return;
	}
}

static void print_value(const char *value, struct strbuf *out)
{
	struct slice s = slice_of(value);
	bool quote = s.len && (slice_trim(s).len != s.len || s.ptr[0] == '"' ||
			       without_comment(s).len != s.len);

	if (quote)
		strbuf_addc(out, '"');
	for (; *value; value++) {
		if (quote && (*value == '"' || *value == '\\'))
			strbuf_addc(out, '\\');
		strbuf_addc(out, *value);
	}
	if (quote)
		strbuf_addc(out, '"');
}

void config_print(const struct config_table *t, const char *heading, struct strbuf *out)
{
	const char *section = NULL;

	strbuf_addf(out,
		    "# %s\n#\n# What stands here after a '#' is the default.  Each key can "
		    "also be given as the\n"
		    "# environment variable TES_<SECTION>_<KEY>, which wins over this file.\n",
		    heading);
	for (size_t i = 0; i < t->count; i++) {
		const struct config_key *key = &t->keys[i];

		if (!str_eq(section, key->section))
			strbuf_addf(out, "\n[%s]\n", key->section);
		section = key->section;
		strbuf_addf(out, "\n# %s", key->doc);
		print_limits(key, out);
		strbuf_addf(out, "%s\n%s%s = ", key->def ? "" : " Required.",
			    key->def ? "#" : "", key->key);
		print_value(key->def ? key->def : "", out);
		strbuf_addc(out, '\n');
	}
}
