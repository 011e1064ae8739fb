/* What people see: lines, colours, amounts, records. */
#include "internal.h"

#include <errno.h>
#include <unistd.h>

/* ---- colours ------------------------------------------------------------------------------ */

const char *color_on(bool colored, enum color c)
{
	static const char *const codes[] = {
		[COLOR_NONE] = "",	    [COLOR_BOLD] = "\x1b[1m",
		[COLOR_DIM] = "\x1b[2m",    [COLOR_RED] = "\x1b[31m",
		[COLOR_GREEN] = "\x1b[32m", [COLOR_YELLOW] = "\x1b[33m",
	};

	return colored ? codes[c] : "";
}

const char *color_off(bool colored)
{
	return colored ? "\x1b[0m" : "";
}

enum color state_color(const char *state)
{
	static const struct {
		const char *state;
		enum color color;
	} colors[] = {
		{ "running", COLOR_GREEN },   { "succeeded", COLOR_GREEN },
		{ "online", COLOR_GREEN },    { "failed", COLOR_RED },
		{ "paused", COLOR_RED },      { "offline", COLOR_RED },
		{ "pending", COLOR_YELLOW },  { "preparing", COLOR_YELLOW },
		{ "stopping", COLOR_YELLOW }, { "stopped", COLOR_DIM },
		{ "ended", COLOR_DIM },
	};

	for (size_t i = 0; i < ARRAY_LEN(colors); i++)
		if (str_eq(colors[i].state, state))
			return colors[i].color;
	return COLOR_NONE;
}

/* ---- lines ---------------------------------------------------------------------------------- */

const char *safe_text(struct arena *arena, const char *text)
{
	cleanup_strbuf struct strbuf safe = STRBUF_INIT;

	if (text)
		strbuf_add_escaped(&safe, text, strlen(text));
	return arena_strdup(arena, safe.buf);
}

void say(struct cli *cli, const char *fmt, ...)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT, safe = STRBUF_INIT;
	struct err ignored;
	va_list ap;

	(void)cli;
	va_start(ap, fmt);
	strbuf_vaddf(&line, fmt, ap);
	va_end(ap);
	strbuf_add_escaped(&safe, line.buf, line.len);
	strbuf_addc(&safe, '\n');
	(void)!write_all(STDERR_FILENO, safe.buf, safe.len, &ignored);
}

void say_error(struct cli *cli, const struct err *err)
{
	cleanup_strbuf struct strbuf line = STRBUF_INIT;
	struct err ignored;

	strbuf_addf(&line, "%stes:%s ", color_on(cli->color_err, COLOR_RED),
		    color_off(cli->color_err));
	if (err->field[0])
		strbuf_addf(&line, "%s: ", err->field);
	strbuf_addf(&line, "%s\n", err->text);
	(void)!write_all(STDERR_FILENO, line.buf, line.len, &ignored);
}

static struct strbuf printed = STRBUF_INIT; /* standard output, until it is flushed */

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vaddf(&printed, fmt, ap);
	va_end(ap);
}

int print_flush(struct err *err)
{
	int rc = write_all(STDOUT_FILENO, printed.buf, printed.len, err);

	strbuf_release(&printed);
	strbuf_init(&printed);
	if (rc < 0 && err->sys == EPIPE)
		_exit(EXIT_FAILURE); /* whoever read it has enough */
	return rc < 0 ? err_wrap(err, "standard output") : 0;
}

void print_json(struct cli *cli, struct slice json)
{
	cleanup_strbuf struct strbuf safe = STRBUF_INIT;

	json = slice_trim(json);
	if (cli->tty_out)
		strbuf_add_escaped(&safe, json.ptr, json.len);
	else
		strbuf_add(&safe, json.ptr, json.len);
	print("%s\n", safe.len ? safe.buf : "{}");
}

void print_body(struct cli *cli)
{
	print_json(cli, (struct slice){ cli->body.buf, cli->body.len });
}

/* ---- amounts ---------------------------------------------------------------------------------- */

void money_text(int64_t uusd, char buf[static 40])
{
	char amount[32];

	money_format(uusd, amount);
	snprintf(buf, 40, "%s$%s", amount[0] == '-' ? "-" : "", amount + (amount[0] == '-'));
}

void price_text(int64_t uusd_h, char buf[static 40])
{
	size_t len;

	money_text(uusd_h, buf);
	len = strlen(buf);
	snprintf(buf + len, 40 - len, "/h");
}

void span_text(int64_t ms, char buf[static 32])
{
	static const struct {
		int64_t ms;
		char unit;
	} units[] = {
		{ DAY_MS, 'd' },
		{ HOUR_MS, 'h' },
		{ MINUTE_MS, 'm' },
		{ SECOND_MS, 's' },
	};

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (ms < 2 * units[i].ms && i + 1 < ARRAY_LEN(units))
			continue; /* "90s" says more than "1m" */
		snprintf(buf, 32, "%" PRId64 "%c", MAX(ms, (int64_t)0) / units[i].ms,
			 units[i].unit);
		return;
	}
}

/* ---- records ------------------------------------------------------------------------------------ */

static bool name_ends(const char *name, const char *end)
{
	size_t len = strlen(name), end_len = strlen(end);

	return len > end_len && str_eq(name + len - end_len, end);
}

/* "max_price_uusd_h" -> "max price": the value itself shows the unit. */
static void label_format(const char *name, struct strbuf *out)
{
	static const char *const units[] = { "_uusd_h", "_uusd", "_ppm",   "_mib",
					     "_bytes",	"_ms",	 "_milli", "_s" };
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (name_ends(name, units[i])) {
			len -= strlen(units[i]);
			break;
		}
	}
	for (size_t i = 0; i < len; i++)
		strbuf_addc(out, name[i] == '_' ? ' ' : name[i]);
}

static bool is_empty(const struct field *f, const void *at)
{
	/* "No limit" and "none" of what was asked for are not worth a line; of what came, a 0 is an answer. */
	bool zero_says_nothing = !(f->flags & FIELD_OUT) && f->def == 0;

	switch (f->kind) {
	case KIND_TEXT:
	case KIND_ID: return str_empty(*(const char *const *)at);
	case KIND_OBJECT: return !*(const void *const *)at;
	case KIND_LIST: return ((const struct text_list *)at)->len == 0;
	case KIND_MAP: return ((const struct text_map *)at)->len == 0;
	case KIND_TIME: return *(const int64_t *)at == 0;
	case KIND_INT:
	case KIND_MONEY:
	case KIND_PPM:
		if (*(const int64_t *)at == 0)
			return zero_says_nothing;
		return *(const int64_t *)at == f->def && (f->def < 0 || f->def > f->max);
	case KIND_BOOL: return !*(const bool *)at;
	case KIND_ENUM: return false;
	}
	return false;
}

static void value_format(const struct field *f, const void *at, struct strbuf *out)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	if (name_ends(f->name, "_milli")) {
		int64_t milli = *(const int64_t *)at;

		strbuf_addf(&text, "%" PRId64, milli / 1000);
		if (milli % 1000)
			strbuf_addf(&text, ".%03" PRId64, milli % 1000);
	} else {
		field_format(f, at, &text);
		if (name_ends(f->name, "_uusd_h"))
			strbuf_adds(&text, "/h");
	}
	strbuf_add_escaped(out, text.buf, text.len);
}

static void record_add(const struct type *type, const void *value, int depth, bool colored,
		       struct strbuf *out)
{
	for (size_t i = 0; i < type->count; i++) {
		const struct field *f = &type->fields[i];
		const void *at = (const char *)value + f->offset;
		cleanup_strbuf struct strbuf label = STRBUF_INIT, text = STRBUF_INIT;

		if (f->flags & (FIELD_HIDDEN | FIELD_SECRET) || is_empty(f, at))
			continue;
		label_format(f->name, &label);
		if (f->kind == KIND_OBJECT || (f->kind == KIND_LIST && f->type)) {
			const struct text_list *list = at; /* of objects: the same layout */
			size_t count = f->kind == KIND_OBJECT ? 1 : list->len;

			for (size_t j = 0; j < count; j++) {
				const void *item =
					f->kind == KIND_OBJECT
						? *(const void *const *)at
						: (const char *)list->items + j * f->type->size;

				strbuf_addf(out, "%*s%s%s%s\n", 2 * depth, "",
					    color_on(colored, COLOR_DIM), label.buf,
					    color_off(colored));
				record_add(f->type, item, depth + 1, colored, out);
			}
			continue;
		}
		value_format(f, at, &text);
		enum color color = f->kind == KIND_ENUM && str_eq(f->name, "state")
					   ? state_color(text.buf)
					   : COLOR_NONE;

		strbuf_addf(out, "%*s%s%-*s%s  %s%s%s\n", 2 * depth, "",
			    color_on(colored, COLOR_DIM), 20 - 2 * depth, label.buf,
			    color_off(colored), color_on(colored, color), text.buf,
			    color ? color_off(colored) : "");
	}
}

void record_format(const struct type *type, const void *value, bool colored, struct strbuf *out)
{
	record_add(type, value, 0, colored, out);
}

void record_print(struct cli *cli, const struct type *type, const void *value)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	record_format(type, value, cli->color_out, &text);
	print("%s", text.buf);
}
