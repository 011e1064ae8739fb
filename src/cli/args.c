/* What stands on the command line: flags, words, and the values of flags as people write them. */
#include "internal.h"

#include <ctype.h>

/* ---- words and flags -------------------------------------------------------------------- */

#define NEAR_MAX 3 /* edits between what was typed and what may be meant */

const char *nearest_name(const char *text, const char *const *names, size_t len)
{
	const char *best = NULL;
	size_t least = NEAR_MAX;

	for (size_t i = 0; i < len; i++) {
		size_t distance = str_distance(text, names[i]);

		if (strlen(text) >= 3 && str_starts(names[i], text))
			distance = MIN(distance, (size_t)1);
		if (distance < least && distance < strlen(names[i])) {
			best = names[i];
			least = distance;
		}
	}
	return best;
}

static int unknown_flag(const struct command *c, const char *name, struct err *err)
{
	VEC(const char *) names = { 0 };
	struct flag_walk w = { 0 };
	const struct flag *f;
	const char *near;

	while ((f = flag_next(c, &w)))
		*vec_push(&names) = f->name;
	near = nearest_name(name, names.items, names.len);
	vec_release(&names);
	if (near)
		return err_set(err, ERR_INVALID, "there is no flag --%.40s; did you mean --%s?",
			       name, near);
	return err_set(err, ERR_INVALID, "there is no flag --%.40s: `tes %s --help` lists them",
		       name, c->name);
}

static const struct flag *flag_named(const struct command *c, const char *name, size_t len)
{
	struct flag_walk w = { 0 };
	const struct flag *f;

	while ((f = flag_next(c, &w)))
		if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
			return f;
	return NULL;
}

static const struct flag *flag_lettered(const struct command *c, char letter)
{
	struct flag_walk w = { 0 };
	const struct flag *f;

	while ((f = flag_next(c, &w)))
		if (f->letter == letter)
			return f;
	return NULL;
}

struct scan {
	const struct command *command;
	const char *const *argv;
	size_t len, at;
};

static int flag_add(struct scan *s, const struct flag *f, const char *value, struct args *ret,
		    struct err *err)
{
	if (f->kind == VALUE_NONE && value)
		return err_set(err, ERR_INVALID, "--%s takes no value: remove \"=%.40s\"",
			       f->name, value);
	if (f->kind != VALUE_NONE && !value) {
		if (s->at == s->len)
			return err_set(err, ERR_INVALID, "--%s needs a value: --%s %s", f->name,
				       f->name, f->arg);
		value = s->argv[s->at++];
	}
	if (!f->many && f->kind != VALUE_NONE && args_get(ret, f->name))
		return err_set(err, ERR_INVALID, "--%s is given twice: give it once", f->name);
	*vec_push(&ret->flags) = (struct arg){ f, value };
	return 0;
}

static int long_flag(struct scan *s, const char *text, struct args *ret, struct err *err)
{
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : strlen(text);
	const struct flag *f = flag_named(s->command, text, len);

	if (!f) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), text);
		return unknown_flag(s->command, name, err);
	}
	return flag_add(s, f, equals ? equals + 1 : NULL, ret, err);
}

/* "-f", "-fa" for switches, "-o DIR" and "-oDIR". */
static int short_flags(struct scan *s, const char *text, struct args *ret, struct err *err)
{
	for (; *text; text++) {
		const struct flag *f = flag_lettered(s->command, *text);

		if (!f)
			return err_set(err, ERR_INVALID,
				       "there is no flag -%c: `tes %s --help` lists them",
				       isprint((unsigned char)*text) ? *text : '?',
				       s->command->name);
		if (f->kind != VALUE_NONE)
			return flag_add(s, f, text[1] ? text + 1 : NULL, ret, err);
		if (flag_add(s, f, NULL, ret, err) < 0)
			return -1;
	}
	return 0;
}

static int words_check(const struct args *a, struct err *err)
{
	const struct command *c = a->command;
	size_t max = c->words == WORDS_ONE	  ? 1
		     : c->words == WORDS_OPTIONAL ? (c->choices ? 2 : 1)
						  : 0;

	if (args_has(a, "help"))
		return 0;
	if (c->words == WORDS_COMMAND && a->words.len)
		return err_set(err, ERR_INVALID,
			       "the command to run stands after \"--\": tes %s ... -- %.60s",
			       c->name, a->words.items[0]);
	if (a->rest && c->words != WORDS_COMMAND)
		return err_set(err, ERR_INVALID,
			       "tes %s runs nothing: remove \"--\" and what follows", c->name);
	if (a->words.len > max)
		return err_set(err, ERR_INVALID, "\"%.60s\" is too much: tes %s %s",
			       a->words.items[max], c->name, c->args);
	if (c->words == WORDS_ONE && a->words.len == 0)
		return err_set(err, ERR_INVALID, "something is missing: tes %s %s", c->name,
			       c->args);
	return 0;
}

int args_parse(const struct command *c, const char *const *argv, size_t len, struct args *ret,
	       struct err *err)
{
	struct scan s = { c, argv, len, 0 };
	struct args a = { .command = c };
	int rc = 0;

	while (rc == 0 && s.at < len) {
		const char *text = argv[s.at++];

		if (str_eq(text, "--")) {
			a.rest = argv + s.at;
			a.rest_len = len - s.at;
			break;
		}
		if (str_starts(text, "--"))
			rc = long_flag(&s, text + 2, &a, err);
		else if (text[0] == '-' && text[1])
			rc = short_flags(&s, text + 1, &a, err);
		else
			*vec_push(&a.words) = text;
	}
	if (rc == 0)
		rc = words_check(&a, err);
	if (rc < 0)
		args_release(&a);
	else
		*ret = a;
	return rc;
}

void args_release(struct args *a)
{
	vec_release(&a->flags);
	vec_release(&a->words);
}

bool args_has(const struct args *a, const char *flag)
{
	for (size_t i = 0; i < a->flags.len; i++)
		if (str_eq(a->flags.items[i].flag->name, flag))
			return true;
	return false;
}

const char *args_get(const struct args *a, const char *flag)
{
	for (size_t i = a->flags.len; i > 0; i--)
		if (str_eq(a->flags.items[i - 1].flag->name, flag))
			return a->flags.items[i - 1].text;
	return NULL;
}

const char *args_word(const struct args *a, size_t i)
{
	return i < a->words.len ? a->words.items[i] : NULL;
}

/* ---- values --------------------------------------------------------------------------------- */

static bool is_decimal(const char *s)
{
	return *s && s[strspn(s, "0123456789.")] == 0;
}

static int cpus_convert(const char *text, struct arena *a, const char **ret, struct err *err)
{
	int64_t micro;

	if (!is_decimal(text) || money_parse(text, &micro, err) < 0 || micro % 1000)
		return err_set(
			err, ERR_INVALID,
			"`%.40s` is not a number of hardware threads: write it like 2 or 0.5",
			text);
	*ret = arena_printf(a, "%" PRId64, micro / 1000);
	return 0;
}

static int since_convert(const char *text, int64_t now_ms, struct arena *a, const char **ret,
			 struct err *err)
{
	struct err why = { 0 };
	char time[32];
	int64_t ms;

	if (strlen(text) == 10 && text[4] == '-' && text[7] == '-')
		text = arena_printf(a, "%sT00:00:00Z", text);
	if (time_parse(text, &ms, &why) < 0) {
		if (duration_parse(text, &ms, &why) < 0)
			return err_set(
				err, ERR_INVALID,
				"`%.40s` is not a time: write how long ago (10m), a day (2026-11-23) or 2026-11-23T13:58:00Z",
				text);
		ms = MAX(now_ms - ms, (int64_t)1);
	}
	time_format(ms, time);
	*ret = arena_strdup(a, time);
	return 0;
}

int value_convert(enum value_kind kind, const char *text, int64_t now_ms, struct arena *arena,
		  const char **ret, struct err *err)
{
	int64_t v;

	switch (kind) {
	case VALUE_NONE:
	case VALUE_TEXT:
	case VALUE_NUMBER:
	case VALUE_MONEY:
	case VALUE_FILE:
	case VALUE_DIR: *ret = text; return 0;
	case VALUE_CPUS: return cpus_convert(text, arena, ret, err);
	case VALUE_SINCE: return since_convert(text, now_ms, arena, ret, err);
	case VALUE_SIZE:
		if (is_decimal(text))
			return err_set(
				err, ERR_INVALID,
				"`%.40s` does not say its unit: write %.20sGiB or %.20sMiB",
				text, text, text);
		*ret = text;
		return 0;
	case VALUE_GIB:
		*ret = is_decimal(text) ? arena_printf(arena, "%sGiB", text) : text;
		return 0;
	case VALUE_DURATION:
		if (is_decimal(text) && !str_eq(text, "0"))
			return err_set(
				err, ERR_INVALID,
				"`%.40s` does not say its unit: write %.20ss, %.20sm or %.20sh",
				text, text, text, text);
		*ret = text;
		return 0;
	case VALUE_PPM:
		if (ppm_parse(text, &v, err) < 0)
			return -1;
		*ret = arena_printf(arena, "%" PRId64, v);
		return 0;
	}
	return 0;
}

const char *field_path(const struct type *type, const char *field, struct arena *arena)
{
	const char *below = arena_printf(arena, "resources.%s", field);
	const char *bracket = strchr(field, '[');
	const char *plain =
		bracket ? arena_strndup(arena, field, (size_t)(bracket - field)) : field;

	if (schema_field(type, below, NULL, NULL))
		return below;
	return schema_field(type, plain, NULL, NULL) ? field : NULL;
}

static int flag_err(const struct flag *f, struct err *err)
{
	snprintf(err->field, sizeof(err->field), "--%s", f->name);
	return -1;
}

int args_apply(const struct args *a, int64_t now_ms, struct arena *arena, void *value,
	       struct err *err)
{
	const struct type *type = a->command->type;

	for (size_t i = 0; i < a->flags.len; i++) {
		const struct flag *f = a->flags.items[i].flag;
		const char *path, *text;

		if (!f->field)
			continue;
		path = field_path(type, f->field, arena);
		assert(path);
		if (value_convert(f->kind, a->flags.items[i].text, now_ms, arena, &text, err) <
			    0 ||
		    schema_set(type, path, text, arena, value, err) < 0)
			return flag_err(f, err);
	}
	return 0;
}

/* Whether the error's field is this flag's: "outputs[2]" is of "outputs[]". */
static bool names_field(const char *path, const char *field)
{
	size_t len = strcspn(path, "[");

	return strncmp(path, field, len) == 0 && (field[len] == '\0' || field[len] == '[');
}

/* Of fields that a command fills by itself from a flag. */
static const char *flag_of_field(const char *field)
{
	static const struct {
		const char *field, *flag;
	} flags[] = {
		{ "env", "env" },	{ "secrets", "secret" }, { "inputs", "in" },
		{ "registry", "registry-user" }, { "offer", "offer" },	 { "lease", "lease" },
		{ "subject", "subject" }, { "array", "array" },
	};

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		size_t len = strlen(flags[i].field);

		if (strncmp(field, flags[i].field, len) == 0 && strchr(".[", field[len]))
			return flags[i].flag;
	}
	return NULL;
}

void args_name_flag(const struct args *a, struct err *err)
{
	cleanup_arena struct arena arena = { 0 };
	struct flag_walk w = { 0 };
	const struct flag *f;
	const char *own = flag_of_field(err->field);

	if (own && flag_named(a->command, own, strlen(own))) {
		snprintf(err->field, sizeof(err->field), "--%s", own);
		return;
	}
	while (a->command->type && err->field[0] && (f = flag_next(a->command, &w))) {
		const char *path =
			f->field ? field_path(a->command->type, f->field, &arena) : NULL;

		if (path && names_field(path, err->field)) {
			flag_err(f, err);
			return;
		}
	}
}
