/* The parser of event streams: however the bytes are cut, the events are the same. */
#include "../http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct strbuf seen;

static int note(void *arg, const char *event, const char *id, struct slice data)
{
	strbuf_addf(&seen, "[%s|%s|%.*s]", event, id, (int)data.len, data.ptr);
	return slice_is(data, "stop") ? 7 : 0;
}

static void expect(const char *stream, size_t len, const char *want)
{
	for (size_t step = 1; step <= len; step++) {
		struct sse_parser *p = sse_parser_new(200, note, NULL);

		strbuf_reset(&seen);
		for (size_t at = 0; at < len; at += step)
			assert_int_equal(sse_parser_feed(p, stream + at, MIN(step, len - at)),
					 0);
		if (!str_eq(seen.buf, want))
			fail_msg("in steps of %zu: want %s, got %s", step, want, seen.buf);
		sse_parser_free(p);
	}
}

#define EXPECT(stream, want) expect(stream, sizeof(stream) - 1, want)

static void test_events(void **state)
{
	EXPECT("data: a\n\n", "[message||a]");
	EXPECT("data:a\n\ndata:  b\n\n", "[message||a][message|| b]");
	EXPECT("event: e\nid: 1\ndata: a\ndata: b\n\ndata: c\n\n", "[e|1|a\nb][message|1|c]");
	EXPECT("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[message||a][message||b][message||c]");
	EXPECT("data: a\r\ndata: b\r\n\r\n", "[message||a\nb]");
	EXPECT("\xef\xbb\xbf"
	       "data: a\n\n",
	       "[message||a]");
	EXPECT("data\n\ndata\ndata\n\ndata:\n\n", "[message||][message||\n][message||]");
}

static void test_ignored(void **state)
{
	EXPECT(": comment\n\n:\n\nretry: 5\n\nnonsense\n\nData: x\n\n", "");
	EXPECT("event: e\n\ndata: a\n\n", "[message||a]");
	EXPECT("id: 1\n\ndata: a\n\nid\ndata: b\n\n", "[message|1|a][message||b]");
	EXPECT("id: a\0b\ndata: a\n\n", "[message||a]");
	EXPECT("data: never ended\n", "");
	EXPECT("data: a\n\n\n\n\r\n\r\n", "[message||a]");
	EXPECT(" data: a\n\n", "");
}

static void test_stops(void **state)
{
	struct sse_parser *p = sse_parser_new(200, note, NULL);
	const char text[] = "data: a\n\ndata: stop\n\ndata: b\n\n";

	strbuf_reset(&seen);
	assert_int_equal(sse_parser_feed(p, text, strlen(text)), 7);
	assert_string_equal(seen.buf, "[message||a][message||stop]");
	sse_parser_free(p);
}

static void test_bounded(void **state)
{
	struct sse_parser *p = sse_parser_new(100, note, NULL);
	char line[102];
	int rc = 0, lines = 0;

	memset(line, 'x', sizeof(line));
	assert_int_equal(sse_parser_feed(p, line, 101), -1);
	sse_parser_free(p);
	p = sse_parser_new(100, note, NULL);
	while (!rc && lines++ < 1000)
		rc = sse_parser_feed(p, "data: 0123456789\n", 17);
	assert_int_equal(rc, -1);
	assert_true(lines < 12);
	sse_parser_free(p);
	sse_parser_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_stops),
		cmocka_unit_test(test_bounded),
	};
	int rc;

	strbuf_init(&seen);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	strbuf_release(&seen);
	return rc;
}
