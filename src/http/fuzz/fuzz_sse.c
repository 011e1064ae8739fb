/* Whatever comes, the events do not depend on how the bytes were cut. */
#include "../http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int note(void *arg, const char *event, const char *id, struct slice text)
{
	strbuf_addf(arg, "%s|%s|%zu|", event, id, text.len);
	strbuf_add(arg, text.ptr, text.len);
	return 0;
}

static int feed(const char *data, size_t len, size_t step, struct strbuf *ret)
{
	struct sse_parser *p = sse_parser_new(4096, note, ret);
	int rc = 0;

	for (size_t at = 0; !rc && at < len; at += step)
		rc = sse_parser_feed(p, data + at, MIN(step, len - at));
	sse_parser_free(p);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strbuf whole, pieces;

	if (!size)
		return 0;
	strbuf_init(&whole);
	strbuf_init(&pieces);
	if (!feed((const char *)data + 1, size - 1, SIZE_MAX / 2, &whole) &&
	    !feed((const char *)data + 1, size - 1, 1 + data[0] % 16, &pieces))
		assert(whole.len == pieces.len && !memcmp(whole.buf, pieces.buf, whole.len));
	strbuf_release(&whole);
	strbuf_release(&pieces);
	return 0;
}
