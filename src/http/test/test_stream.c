/* Event streams: order, resuming, bounds, clients that go, many of them, the end of the
 * server. */
#include "fixture.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fixture f;
static struct strbuf got;

static int setup(void **state)
{
	struct http_server_config config = fixture_config();

	config.keepalive_ms = 1500;
	strbuf_init(&got);
	return fixture_start(&f, &config);
}

static int teardown(void **state)
{
	fixture_stop(&f);
	strbuf_release(&got);
	return 0;
}

static int stream_open(const char *target)
{
	char text[128];
	int fd = raw_connect(&f);

	snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", target);
	raw_send(fd, text, strlen(text));
	return fd;
}

static int64_t streams(void)
{
	struct http_server_stats stats;

	http_server_stats(f.server, &stats);
	return stats.streams;
}

static void test_push(void **state)
{
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();

	assert_true(raw_read(fd, &got, "\r\n\r\n", 5000));
	assert_true(str_starts(got.buf, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(got.buf, "\r\nContent-Type: text/event-stream\r\n"));
	assert_non_null(strstr(got.buf, "\r\nX-Stream: yes\r\n"));
	assert_non_null(strstr(got.buf, "\r\nX-Request-Id: rq_"));
	strbuf_reset(&got);
	assert_true(http_stream_push(st, "lease", "7", SLICE("{\"a\":1}")));
	assert_true(http_stream_push(st, NULL, NULL, SLICE("")));
	assert_true(http_stream_push(st, NULL, NULL, SLICE("a\nb\r\nc\rd\n")));
	assert_true(raw_read(fd, &got, "data: d\ndata: \n\n", 5000));
	assert_string_equal(got.buf, "id: 7\nevent: lease\ndata: {\"a\":1}\n\ndata: \n\n"
				     "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
	assert_false(http_stream_closed(st));
	http_stream_finish(st);
	strbuf_reset(&got);
	assert_true(raw_read(fd, &got, NULL, 5000));
	assert_int_equal(got.len, 0);
	assert_true(http_stream_closed(st));
	assert_false(http_stream_push(st, NULL, NULL, SLICE("x")));
	http_stream_unref(st);
	close(fd);
	WAIT_FOR(streams() == 0);
}

static void test_corked(void **state)
{
	cleanup_free char *data = xcalloc(1, 20000);
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();
	char byte;

	strbuf_reset(&got);
	assert_true(raw_read(fd, &got, "\r\n\r\n", 5000));
	strbuf_reset(&got);
	http_stream_cork(st);
	assert_true(http_stream_push(st, NULL, NULL, SLICE("a")));
	assert_true(http_stream_push(st, NULL, NULL, SLICE("b")));
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	http_stream_uncork(st);
	assert_true(raw_read(fd, &got, "data: b\n\n", 5000));
	assert_string_equal(got.buf, "data: a\n\ndata: b\n\n");
	assert_true(http_stream_push(st, NULL, NULL, SLICE("c")));
	assert_true(raw_read(fd, &got, "data: c\n\n", 5000));
	/* Much does not wait, and what is left goes before the end. */
	strbuf_reset(&got);
	memset(data, 'x', 19999);
	http_stream_cork(st);
	assert_true(http_stream_push(st, NULL, NULL, slice_of(data)));
	assert_true(raw_read(fd, &got, "x\n\n", 5000));
	assert_true(http_stream_push(st, NULL, NULL, SLICE("d")));
	strbuf_reset(&got);
	http_stream_finish(st);
	assert_true(raw_read(fd, &got, NULL, 5000));
	assert_string_equal(got.buf, "data: d\n\n");
	http_stream_uncork(st);
	http_stream_unref(st);
	close(fd);
	WAIT_FOR(streams() == 0);
}

struct collected {
	int count, last;
};

static int collect(void *arg, const char *event, const char *id, struct slice data)
{
	struct collected *c = arg;
	char want[32];

	assert_string_equal(event, "number");
	c->last = atoi(id);
	snprintf(want, sizeof(want), "event %d\nline two", c->last);
	assert_true(slice_is(data, want));
	c->count++;
	return 0;
}

static int feed(void *arg, const char *p, size_t len)
{
	return sse_parser_feed(arg, p, len);
}

static void test_resume(void **state)
{
	struct http_client *client = http_client_new();
	const struct http_header_item last = { "Last-Event-ID", "6" };
	struct collected c = { 0 };
	struct sse_parser *parser = sse_parser_new(1000, collect, &c);
	struct http_result result;
	struct err err;
	struct http_call call = { .url = fixture_url(&f, "/stream?count"),
				  .on_data = feed,
				  .arg = parser };

	assert_int_equal(http_call(client, &call, &result, &err), 0);
	http_result_release(&result);
	assert_int_equal(c.count, 10);
	call.headers = &last;
	call.header_count = 1;
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	http_result_release(&result);
	assert_int_equal(c.count, 13);
	assert_int_equal(c.last, 9);
	sse_parser_free(parser);
	http_client_free(client);
}

/* What the socket does not take waits in the buffer; what that does not take ends the
 * stream. */
static void test_bounded(void **state)
{
	cleanup_free char *data = xcalloc(1, 30000);
	int fd = stream_open("/stream"), pushed = 0;
	struct http_stream *st;

	st = stream_take();
	memset(data, 'x', 30000);
	while (http_stream_push(st, NULL, NULL, (struct slice){ data, 30000 }))
		assert_true(++pushed < 10000);
	assert_true(http_stream_closed(st));
	assert_true(pushed >= 2);
	assert_true(raw_read(fd, &got, NULL, 5000));
	WAIT_FOR(streams() == 0);
	http_stream_unref(st);
	close(fd);
}

static void test_slow_reader_gets_all(void **state)
{
	int size = 4096, fd = raw_connect(&f), pushed = 0, lines = 0;
	cleanup_free char *data = xcalloc(1, 1000);
	struct http_stream *st;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	raw_send(fd, "GET /stream HTTP/1.1\r\nHost: t\r\n\r\n", 33);
	st = stream_take();
	memset(data, 'x', 1000);
	WAIT_FOR(streams() == 1);
	for (; pushed < 50; pushed++)
		assert_true(http_stream_push(st, NULL, NULL, (struct slice){ data, 1000 }));
	http_stream_finish(st);
	http_stream_unref(st);
	assert_true(raw_read(fd, &got, NULL, 5000));
	for (const char *p = got.buf; (p = strstr(p, "data: ")); p++)
		lines++;
	assert_int_equal(lines, pushed);
	close(fd);
}

static void test_too_large_event(void **state)
{
	size_t size = 65 << 10;
	cleanup_free char *data = xcalloc(1, size);
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();

	memset(data, 'x', size);
	assert_false(http_stream_push(st, NULL, NULL, (struct slice){ data, size }));
	assert_true(http_stream_closed(st));
	assert_true(raw_read(fd, &got, NULL, 5000));
	assert_null(strstr(got.buf, "data:"));
	http_stream_unref(st);
	close(fd);
}

static void test_client_gone(void **state)
{
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();

	assert_true(raw_read(fd, &got, "\r\n\r\n", 5000));
	assert_false(http_stream_closed(st));
	close(fd);
	WAIT_FOR(http_stream_closed(st)); /* without anything being pushed */
	WAIT_FOR(streams() == 0);
	assert_false(http_stream_push(st, NULL, NULL, SLICE("x")));
	http_stream_unref(st);
}

static void test_client_gone_before_answer(void **state)
{
	for (int i = 0; i < 50; i++) {
		int fd = stream_open("/stream?many");
		struct http_stream *st;

		if (i % 3)
			usleep((useconds_t)(i * 20));
		close(fd);
		if (i % 2) {
			st = stream_take();
			WAIT_FOR(http_stream_closed(st));
			http_stream_unref(st);
		}
	}
	WAIT_FOR(streams() == 0);
}

/* Bytes into a stream lead nowhere, and not for ever. */
static void test_client_talks(void **state)
{
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();
	cleanup_free char *noise = xcalloc(1, 20000);

	assert_true(raw_read(fd, &got, "\r\n\r\n", 5000));
	raw_send(fd, noise, 20000);
	assert_true(http_stream_push(st, NULL, NULL, SLICE("still there")));
	assert_true(raw_read(fd, &got, "still there", 5000));
	for (int i = 0; i < 10; i++)
		raw_send(fd, noise, 20000);
	WAIT_FOR(http_stream_closed(st));
	http_stream_unref(st);
	close(fd);
}

static void test_on_kept_connection(void **state)
{
	int fd = raw_connect(&f);
	struct http_stream *st;

	raw_send(fd, "GET /hello HTTP/1.1\r\nHost: t\r\n\r\n", 32);
	assert_true(raw_read(fd, &got, "hello", 5000));
	raw_send(fd, "GET /stream HTTP/1.1\r\nHost: t\r\n\r\n", 33);
	st = stream_take();
	assert_true(http_stream_push(st, NULL, NULL, SLICE("pushed")));
	assert_true(raw_read(fd, &got, "data: pushed\n\n", 5000));
	http_stream_unref(st);
	close(fd);
}

#define MANY 200

static struct http_stream *many[MANY];

static void *push_all(void *arg)
{
	for (int n = 0; n < 20; n++)
		for (int i = 0; i < MANY; i++) {
			char id[24];

			snprintf(id, sizeof(id), "%s%d", (const char *)arg, n);
			if (!http_stream_push(many[i], "e", id, SLICE("{\"some\":\"data\"}")))
				return (void *)1;
		}
	return NULL;
}

static void test_many(void **state)
{
	int fds[MANY];
	pthread_t pushers[4];
	const char *const names[] = { "a", "b", "c", "d" };
	void *failed;

	for (int i = 0; i < MANY; i++) {
		fds[i] = stream_open("/stream");
		many[i] = stream_take();
	}
	WAIT_FOR(streams() == MANY);
	for (size_t i = 0; i < ARRAY_LEN(pushers); i++)
		assert_int_equal(pthread_create(&pushers[i], NULL, push_all, (void *)names[i]),
				 0);
	for (size_t i = 0; i < ARRAY_LEN(pushers); i++) {
		pthread_join(pushers[i], &failed);
		assert_null(failed);
	}
	for (int i = 0; i < MANY; i++) {
		int events = 0;

		http_stream_finish(many[i]);
		http_stream_unref(many[i]);
		strbuf_reset(&got);
		assert_true(raw_read(fds[i], &got, NULL, 5000));
		for (const char *p = got.buf; (p = strstr(p, "\nevent: e\n")); p++)
			events++;
		assert_int_equal(events, 20 * 4);
		close(fds[i]);
	}
	WAIT_FOR(streams() == 0);
}

static void test_limit(void **state)
{
	struct http_server_config config = fixture_config();
	struct http_stream *sts[4];
	int fds[4], fd;

	teardown(NULL);
	strbuf_init(&got);
	config.connections_max = 4;
	fixture_start(&f, &config);
	for (int i = 0; i < 4; i++) {
		fds[i] = stream_open("/stream");
		sts[i] = stream_take();
		WAIT_FOR(streams() == i + 1);
	}
	fd = stream_open("/stream");
	assert_true(raw_read(fd, &got, NULL, 5000));
	assert_true(str_starts(got.buf, "HTTP/1.1 503 "));
	assert_non_null(strstr(got.buf, "Retry-After: "));
	assert_null(strstr(got.buf, "text/event-stream"));
	http_stream_unref(stream_take());
	close(fd);
	for (int i = 0; i < 4; i++) {
		close(fds[i]);
		http_stream_unref(sts[i]);
	}
}

static void test_server_stops(void **state)
{
	struct http_stream *sts[20];
	int fds[20];

	for (int i = 0; i < 20; i++) {
		fds[i] = stream_open("/stream");
		sts[i] = stream_take();
	}
	assert_true(raw_read(fds[0], &got, "\r\n\r\n", 5000));
	http_server_stop(f.server, 1000);
	for (int i = 0; i < 20; i++) {
		assert_true(raw_read(fds[i], &got, NULL, 5000));
		assert_true(http_stream_closed(sts[i]));
		assert_false(http_stream_push(sts[i], NULL, NULL, SLICE("x")));
		http_stream_unref(sts[i]);
		close(fds[i]);
	}
	strbuf_release(&got);
	setup(NULL);
}

/* Nothing comes, so a comment line does. */
static void test_keepalive(void **state)
{
	int fd = stream_open("/stream");
	struct http_stream *st = stream_take();

	assert_true(raw_read(fd, &got, "\r\n\r\n", 5000));
	assert_true(raw_read(fd, &got, "\r\n\r\n:\n\n", 20000));
	http_stream_unref(st);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_push),
		TEST(test_corked),
		TEST(test_resume),
		TEST(test_bounded),
		TEST(test_slow_reader_gets_all),
		TEST(test_too_large_event),
		TEST(test_client_gone),
		TEST(test_client_gone_before_answer),
		TEST(test_client_talks),
		TEST(test_on_kept_connection),
		TEST(test_many),
		TEST(test_limit),
		TEST(test_server_stops),
		TEST(test_keepalive),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
