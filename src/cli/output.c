/* Text that containers wrote, on its way to our own streams. */
#include "internal.h"

#include <errno.h>
#include <unistd.h>

#define PENDING_MAX 65536

/* Lines, tabs and carriage returns work as in any terminal (a return reaches no further than the
 * container's own line); everything else that could steer it is made visible. */
static void add_safe(struct strbuf *out, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n\r\t");

		strbuf_add_escaped(out, text, len);
		text += len;
		if (*text)
			strbuf_addc(out, *text++);
	}
}

void output_add(struct output *o, const char *text)
{
	size_t len = strlen(text);

	if (len == 0)
		return;
	if (o->safe)
		add_safe(&o->pending, text);
	else
		strbuf_add(&o->pending, text, len);
	o->mid_line = text[len - 1] != '\n';
}

int output_flush(struct output *o, struct err *err)
{
	int rc = o->pending.len ? write_all(o->fd, o->pending.buf, o->pending.len, err) : 0;
	bool large = o->pending.cap > PENDING_MAX;

	if (rc < 0 && err->sys == EPIPE)
		_exit(EXIT_FAILURE); /* whoever read it has enough */
	if (large)
		strbuf_release(&o->pending), strbuf_init(&o->pending);
	else
		strbuf_reset(&o->pending);
	return rc < 0 ? err_wrap(err, "the output of the workload") : 0;
}
