#include "http.h"

struct sse_parser {
	sse_event_fn *fn;
	void *arg;
	size_t event_max;
	struct strbuf line, data, event, id;
	bool started;  /* the byte order mark, if any, is behind us */
	bool after_cr; /* a LF now belongs to the line that has just ended */
	bool has_data;
};

struct sse_parser *sse_parser_new(size_t event_max, sse_event_fn *fn, void *arg)
{
	struct sse_parser *p = xcalloc(1, sizeof(*p));

	p->fn = fn;
	p->arg = arg;
	p->event_max = event_max;
	strbuf_init(&p->line);
	strbuf_init(&p->data);
	strbuf_init(&p->event);
	strbuf_init(&p->id);
	return p;
}

void sse_parser_free(struct sse_parser *p)
{
	if (!p)
		return;
	strbuf_release(&p->line);
	strbuf_release(&p->data);
	strbuf_release(&p->event);
	strbuf_release(&p->id);
	free(p);
}

static int event_dispatch(struct sse_parser *p)
{
	int rc = 0;

	if (p->has_data)
		rc = p->fn(p->arg, p->event.len ? p->event.buf : "message", p->id.buf,
			   (struct slice){ p->data.buf, p->data.len });
	strbuf_reset(&p->data);
	strbuf_reset(&p->event);
	p->has_data = false;
	return rc;
}

/* One line without its end. */
static int line_take(struct sse_parser *p)
{
	struct slice name = { p->line.buf, p->line.len }, value = SLICE("");
	const char *colon = memchr(name.ptr, ':', name.len);

	if (!name.len)
		return event_dispatch(p);
	if (colon) {
		value = (struct slice){ colon + 1, name.len - (size_t)(colon + 1 - name.ptr) };
		name.len = (size_t)(colon - name.ptr);
		if (value.len && value.ptr[0] == ' ')
			value.ptr++, value.len--;
	}
	if (slice_is(name, "data")) {
		if (p->has_data)
			strbuf_addc(&p->data, '\n');
		strbuf_add(&p->data, value.ptr, value.len);
		p->has_data = true;
	} else if (slice_is(name, "event")) {
		strbuf_reset(&p->event);
		strbuf_add(&p->event, value.ptr, value.len);
	} else if (slice_is(name, "id") && !memchr(value.ptr, '\0', value.len)) {
		strbuf_reset(&p->id);
		strbuf_add(&p->id, value.ptr, value.len);
	}
	return 0;
}

static int line_end(struct sse_parser *p)
{
	int rc;

	if (!p->started && p->line.len >= 3 && memcmp(p->line.buf, "\xef\xbb\xbf", 3) == 0) {
		memmove(p->line.buf, p->line.buf + 3, p->line.len - 3 + 1);
		p->line.len -= 3;
	}
	p->started = true;
	rc = line_take(p);
	strbuf_reset(&p->line);
	return rc;
}

int sse_parser_feed(struct sse_parser *p, const char *data, size_t len)
{
	const char *end = data + len;

	while (data < end) {
		const char *stop = data;
		int rc;

		if (p->after_cr && *data == '\n')
			stop = ++data;
		p->after_cr = false;
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		if (p->line.len + p->data.len + (size_t)(stop - data) > p->event_max)
			return -1;
		strbuf_add(&p->line, data, (size_t)(stop - data));
		if (stop == end)
			return 0;
		p->after_cr = *stop == '\r';
		data = stop + 1;
		rc = line_end(p);
		if (rc)
			return rc;
	}
	return 0;
}
