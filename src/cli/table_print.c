/* Tables of described items. */
#include "internal.h"

#include <unistd.h>

#define GAP	   2
#define SHRINK_MIN 8

struct cells {
	struct arena arena;
	const char **texts; /* row by row, the head first */
	size_t rows, columns;
	size_t *widths;
};

static size_t chars(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Bytes of the first n characters. */
static size_t chars_bytes(const char *text, size_t n)
{
	const char *p = text;

	while (*p && (n > 0 || ((unsigned char)*p & 0xc0) == 0x80))
		n -= ((unsigned char)*p++ & 0xc0) != 0x80;
	return (size_t)(p - text);
}

size_t id_shown_len(const char *id, const char *const *ids, size_t len)
{
	size_t shown = ID_SHOWN_MIN;

	for (size_t i = 0; i < len; i++) {
		size_t same = 0;

		if (!ids[i] || str_eq(ids[i], id))
			continue;
		while (id[same] && id[same] == ids[i][same])
			same++;
		shown = MAX(shown, same + 1);
	}
	return MIN(shown, strlen(id));
}

static const void *row_of(const struct type *type, const void *items, size_t i)
{
	return (const char *)items + i * type->size;
}

static void cell_format(const struct column *c, const struct field *f, const void *at,
			int64_t now_ms, struct strbuf *out)
{
	char text[40];

	if (at && c->flags & COLUMN_AGE) {
		int64_t then = *(const int64_t *)at;

		if (then)
			span_text(now_ms - then, text);
		strbuf_adds(out, then ? text : "-");
	} else if (at && c->flags & COLUMN_MS && *(const int64_t *)at) {
		time_format(*(const int64_t *)at, text); /* "2026-11-23T13:58:00.123Z" */
		text[10] = ' ';
		strbuf_adds(out, text);
	} else if (at && c->flags & COLUMN_CPUS) {
		int64_t milli = *(const int64_t *)at;

		strbuf_addf(out, "%" PRId64, milli / 1000);
		if (milli % 1000)
			strbuf_addf(out, ".%" PRId64, milli % 1000 / 100);
	} else if (at && c->flags & COLUMN_MIB) {
		int64_t mib = *(const int64_t *)at;

		size_format(MIN(mib, INT64_MAX >> 20) << 20, text);
		strbuf_adds(out, mib > 0 ? text : "-");
	} else if (at && c->flags & COLUMN_EXIT && *(const int64_t *)at < 0) {
		strbuf_addc(out, '-');
	} else {
		field_format(f, at, out);
		if (at && c->flags & COLUMN_RATE)
			strbuf_adds(out, "/h");
	}
	if (out->len == 0)
		strbuf_addc(out, '-');
}

/* One column: its texts, ids shortened to what sets them apart. */
static void column_fill(struct cells *cells, size_t column, const struct column *c,
			const struct type *type, const void *items, size_t len, int64_t now_ms)
{
	const char **ids = arena_array(&cells->arena, const char *, len + 1);

	cells->texts[column] = c->head;
	for (size_t i = 0; i < len; i++) {
		cleanup_strbuf struct strbuf raw = STRBUF_INIT, safe = STRBUF_INIT;
		const void *at = NULL;
		const struct field *f =
			schema_field(type, c->field, row_of(type, items, i), &at);

		assert(f);
		cell_format(c, f, at, now_ms, &raw);
		strbuf_add_escaped(&safe, raw.buf, raw.len);
		ids[i] = arena_strdup(&cells->arena, safe.buf);
	}
	for (size_t i = 0; i < len; i++) {
		size_t shown =
			c->flags & COLUMN_ID ? id_shown_len(ids[i], ids, len) : strlen(ids[i]);

		cells->texts[(i + 1) * cells->columns + column] =
			arena_strndup(&cells->arena, ids[i], shown);
	}
	for (size_t i = 0; i < cells->rows; i++)
		cells->widths[column] = MAX(cells->widths[column],
					    chars(cells->texts[i * cells->columns + column]));
}

/* Takes what is too wide from the columns that may shrink, the widest first. */
static void widths_fit(struct cells *cells, const struct column *columns, int width)
{
	size_t total = 0, widest;

	for (size_t i = 0; i < cells->columns; i++)
		total += cells->widths[i] + (i ? GAP : 0);
	while (width > 0 && total > (size_t)width) {
		widest = SIZE_MAX;
		for (size_t i = 0; i < cells->columns; i++)
			if (columns[i].flags & COLUMN_SHRINK && cells->widths[i] > SHRINK_MIN &&
			    (widest == SIZE_MAX || cells->widths[i] > cells->widths[widest]))
				widest = i;
		if (widest == SIZE_MAX)
			return;
		cells->widths[widest]--;
		total--;
	}
}

static void cell_write(const char *text, size_t width, bool right, bool last, enum color color,
		       bool colored, struct strbuf *out)
{
	size_t len = chars(text);
	size_t pad = len < width ? width - len : 0;

	if (right)
		strbuf_addf(out, "%*s", (int)pad, "");
	if (color)
		strbuf_adds(out, color_on(colored, color));
	if (len > width) {
		strbuf_add(out, text, chars_bytes(text, width - 1));
		strbuf_adds(out, "…");
	} else {
		strbuf_adds(out, text);
	}
	if (color)
		strbuf_adds(out, color_off(colored));
	if (!last)
		strbuf_addf(out, "%*s", (int)(right ? GAP : pad + GAP), "");
}

static void row_write(const struct cells *cells, const struct column *columns, size_t row,
		      bool colored, struct strbuf *out)
{
	for (size_t i = 0; i < cells->columns; i++) {
		const char *text = cells->texts[row * cells->columns + i];
		enum color color = row == 0			     ? COLOR_BOLD
				   : columns[i].flags & COLUMN_STATE ? state_color(text)
								     : COLOR_NONE;

		cell_write(text, cells->widths[i], columns[i].flags & COLUMN_RIGHT,
			   i + 1 == cells->columns, color, colored, out);
	}
	strbuf_addc(out, '\n');
}

void table_format(const struct type *type, const void *items, size_t len,
		  const struct column *columns, size_t column_count, int64_t now_ms, int width,
		  bool colored, struct strbuf *out)
{
	struct cells cells = { .rows = len + 1, .columns = column_count };

	cells.texts = arena_array(&cells.arena, const char *, cells.rows *column_count);
	cells.widths = arena_array(&cells.arena, size_t, column_count);
	for (size_t i = 0; i < column_count; i++)
		column_fill(&cells, i, &columns[i], type, items, len, now_ms);
	widths_fit(&cells, columns, width);
	for (size_t i = 0; i < cells.rows; i++)
		row_write(&cells, columns, i, colored, out);
	arena_release(&cells.arena);
}

void table_print(struct cli *cli, const struct type *type, const void *items, size_t len,
		 const struct column *columns, size_t column_count)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	table_format(type, items, len, columns, column_count, cli_now(),
		     cli->tty_out ? term_width(STDOUT_FILENO) : 0, cli->color_out, &text);
	print("%s", text.buf);
}
