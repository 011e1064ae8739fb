#include "internal.h"

#include <ctype.h>

void log_demux_init(struct log_demux *d, int64_t since_ns, runtime_log_fn *fn, void *arg)
{
	*d = (struct log_demux){ .fn = fn, .arg = arg, .since_ns = since_ns };
	for (size_t i = 0; i < ARRAY_LEN(d->lines); i++)
		strbuf_init(&d->lines[i].text);
}

void log_demux_release(struct log_demux *d)
{
	for (size_t i = 0; i < ARRAY_LEN(d->lines); i++)
		strbuf_release(&d->lines[i].text);
}

/* Length of the well-formed character at s (Unicode table 3-7), 0 if it is none. */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0x80			 ? 1
		   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		   : (s[0] & 0xf0) == 0xe0	 ? 3
		   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						 : 0;

	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* How much of a text of more than LOG_LINE_MAX bytes goes into one piece: no character is
 * cut through. */
static size_t piece_len(const char *text)
{
	size_t n = LOG_LINE_MAX;

	while (n > LOG_LINE_MAX - 4 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static int line_deliver(struct log_demux *d, enum log_stream stream, int64_t at_ns,
			const char *p, size_t len)
{
	cleanup_strbuf struct strbuf clean = STRBUF_INIT;
	size_t at = 0, n;
	int rc;

	if (at_ns < d->since_ns)
		return 0;
	if (utf8_valid(p, len) && !memchr(p, '\0', len))
		return d->fn(d->arg, stream, at_ns, p, len);
	for (size_t i = 0; i < len; i += MAX(n, (size_t)1)) {
		n = p[i] ? utf8_len((const unsigned char *)p + i, len - i) : 0;
		if (n > 0)
			strbuf_add(&clean, p + i, n);
		else
			strbuf_adds(&clean, "\xef\xbf\xbd");
	}
	/* It may have grown to three times its size. */
	do {
		n = clean.len - at > LOG_LINE_MAX ? piece_len(clean.buf + at) : clean.len - at;
		rc = d->fn(d->arg, stream, at_ns, clean.buf + at, n);
		at += n;
	} while (rc == 0 && at < clean.len);
	return rc;
}

static int text_add(struct log_demux *d, enum log_stream stream, const char *p, size_t len)
{
	struct log_demux_line *line = &d->lines[stream];

	strbuf_add(&line->text, p, len);
	while (line->text.len > LOG_LINE_MAX) {
		size_t n = piece_len(line->text.buf);
		int rc = line_deliver(d, stream, line->at_ns, line->text.buf, n);

		if (rc != 0)
			return rc;
		memmove(line->text.buf, line->text.buf + n, line->text.len - n + 1);
		line->text.len -= n;
	}
	return 0;
}

static int line_end(struct log_demux *d, enum log_stream stream)
{
	struct log_demux_line *line = &d->lines[stream];
	int rc = line_deliver(d, stream, line->at_ns, line->text.buf, line->text.len);

	line->open = false;
	strbuf_reset(&line->text);
	return rc;
}

static int content_add(struct log_demux *d, enum log_stream stream, const char *p, size_t len)
{
	const char *end = p + len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		/* Keeps the buffer bounded, whatever size the frames have. */
		size_t step = MIN(n, LOG_LINE_MAX);
		int rc = text_add(d, stream, p, step);

		d->lines[stream].open = true;
		p += step;
		if (rc == 0 && step == n && nl) {
			rc = line_end(d, stream);
			p++;
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Every frame starts with a time stamp and a space, also one that continues a line (the
 * engine cuts at 16 KiB): the line keeps its first. */
static size_t stamp_add(struct log_demux *d, enum log_stream stream, const char *p, size_t len)
{
	size_t used = 0;

	while (used < len && d->in_stamp) {
		char c = p[used++];

		if (c == ' ' || d->stamp_len == sizeof(d->stamp) - 1)
			d->in_stamp = false;
		else
			d->stamp[d->stamp_len++] = c;
	}
	if (!d->in_stamp) {
		d->stamp[d->stamp_len] = '\0';
		if (!d->lines[stream].open)
			d->lines[stream].at_ns = go_time_ns(d->stamp);
	}
	return used;
}

static size_t head_add(struct log_demux *d, const char *p, size_t len)
{
	size_t n = MIN(len, sizeof(d->head) - d->head_len);

	memcpy(d->head + d->head_len, p, n);
	d->head_len += n;
	if (d->head_len == sizeof(d->head)) {
		d->frame_left = (uint32_t)d->head[4] << 24 | (uint32_t)d->head[5] << 16 |
				(uint32_t)d->head[6] << 8 | d->head[7];
		d->in_stamp = true;
		d->stamp_len = 0;
		if (d->frame_left == 0)
			d->head_len = 0;
	}
	return n;
}

int log_demux_feed(struct log_demux *d, const char *p, size_t len)
{
	while (len > 0) {
		enum log_stream stream = d->head[0] == 2 ? LOG_STDERR : LOG_STDOUT;
		size_t n, used;
		int rc;

		if (d->head_len < sizeof(d->head)) {
			n = head_add(d, p, len);
		} else {
			n = MIN(len, (size_t)d->frame_left);
			used = d->in_stamp ? stamp_add(d, stream, p, n) : 0;
			rc = content_add(d, stream, p + used, n - used);
			if (rc != 0)
				return rc;
			d->frame_left -= (uint32_t)n;
			if (d->frame_left == 0)
				d->head_len = 0;
		}
		p += n;
		len -= n;
	}
	return 0;
}

int log_demux_finish(struct log_demux *d)
{
	for (size_t i = 0; i < ARRAY_LEN(d->lines); i++) {
		int rc = d->lines[i].open ? line_end(d, (enum log_stream)i) : 0;

		if (rc != 0)
			return rc;
	}
	return 0;
}
