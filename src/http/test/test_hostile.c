/* Requests that no honest client sends, byte for byte, over plain sockets. */
#include "fixture.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fixture f;
static struct strbuf got;

static int setup(void **state)
{
	struct http_server_config config = fixture_config();

	config.idle_timeout_ms = 1000;
	strbuf_init(&got);
	return fixture_start(&f, &config);
}

static int teardown(void **state)
{
	fixture_stop(&f);
	strbuf_release(&got);
	return 0;
}

#define HOST	       "Host: t\r\n"
#define BYTES(literal) literal, sizeof(literal) - 1
#define SMUGGLED       "GET /v1/things/smuggled HTTP/1.1\r\nHost: t\r\n\r\n"

struct hostile {
	const char *name;
	int status; /* 0: closed without an answer, or refused with any 4xx or 5xx */
	const char *text;
	size_t len; /* 0: strlen */
};

static const struct hostile requests[] = {
	{ "two lengths", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Content-Length: 5\r\nContent-Length: 0\r\n\r\n" SMUGGLED },
	{ "two equal lengths", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" },
	{ "list of lengths", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\nabc" },
	{ "length and chunked", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED },
	{ "chunked and length", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" SMUGGLED },
	{ "two encodings", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" },
	{ "encoding list", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" },
	{ "unknown encoding", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" },
	{ "encoding with vertical tab", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
	  "chunked\r\n\r\n0\r\n\r\n" },
	{ "encoding in 1.0", 400,
	  "PUT /v1/any HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
	{ "space before colon", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nabcde" },
	{ "space before the name", 400, "GET /hello HTTP/1.1\r\n Host: t\r\n\r\n" },
	{ "folded length", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 1\r\n 0\r\n\r\nabcdefghij" },
	{ "folded header", 400, "GET /hello HTTP/1.1\r\n" HOST "X-A: b\r\n\tc\r\n\r\n" },
	{ "folded empty encoding", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" },
	{ "bare LF after the request line", 400, "GET /hello HTTP/1.1\n" HOST "\r\n" },
	{ "bare LF in the head", 400, "GET /hello HTTP/1.1\r\nHost: t\nX-A: b\r\n\r\n" },
	{ "bare LF at the end", 400, "GET /hello HTTP/1.1\r\nHost: t\r\n\n" SMUGGLED },
	{ "bare LF before the end", 400, "GET /hello HTTP/1.1\r\nHost: t\n\r\n" },
	{ "only LF", 400, "GET /hello HTTP/1.1\nHost: t\n\n" },
	{ "bare CR in a value", 400,
	  "GET /hello HTTP/1.1\r\n" HOST "X-A: b\rContent-Length: 5\r\n\r\n" },
	{ "NUL in a value", 400, BYTES("GET /hello HTTP/1.1\r\n" HOST "X-A: b\0c\r\n\r\n") },
	{ "NUL in a name", 400, BYTES("GET /hello HTTP/1.1\r\n" HOST "X\0A: b\r\n\r\n") },
	{ "NUL in the last value", 400, BYTES("GET /hello HTTP/1.1\r\nHost: t\0\r\n\r\n") },
	{ "NUL in the target", 0, BYTES("GET /hello\0/x HTTP/1.1\r\n" HOST "\r\n") },
	{ "control character in a value", 400,
	  "GET /hello HTTP/1.1\r\n" HOST "X-A: \x01\r\n\r\n" },
	{ "negative length", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n" },
	{ "length with plus", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc" },
	{ "length in hex", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc" },
	{ "empty length", 400, "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nabc" },
	{ "length over 64 bits", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Content-Length: 99999999999999999999999\r\n\r\nabc" },
	{ "length of 2^64", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\nabc" },
	{ "length of 2^63", 400,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\nabc" },
	{ "chunk size not hex", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n" },
	{ "chunk size negative", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" },
	{ "chunk size too large", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" },
	{ "chunk longer than said", 0,
	  "PUT /v1/any HTTP/1.1\r\n" HOST
	  "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n" },
	{ "no host", 400, "GET /hello HTTP/1.1\r\n\r\n" },
	{ "two hosts", 400, "GET /hello HTTP/1.1\r\n" HOST HOST "\r\n" },
	{ "empty host", 400, "GET /hello HTTP/1.1\r\nHost:\r\n\r\n" },
	{ "host with a path", 400, "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n" },
	{ "host with user", 400, "GET /hello HTTP/1.1\r\nHost: a@b\r\n\r\n" },
	{ "two authorizations", 400,
	  "GET /hello HTTP/1.1\r\n" HOST "Authorization: a\r\nAuthorization: b\r\n\r\n" },
	{ "two spaces", 400, "GET  /hello HTTP/1.1\r\n" HOST "\r\n" },
	{ "tab for space", 0, "GET\t/hello\tHTTP/1.1\r\n" HOST "\r\n" },
	{ "space behind the version", 400, "GET /hello HTTP/1.1 \r\n" HOST "\r\n" },
	{ "space in the target", 0, "GET /hel lo HTTP/1.1\r\n" HOST "\r\n" },
	{ "no version", 0, "GET /hello\r\n\r\n" },
	{ "nothing but a method", 0, "GET\r\n\r\n" },
	{ "version 0.9", 505, "GET /hello HTTP/0.9\r\n" HOST "\r\n" },
	{ "version 1.2", 505, "GET /hello HTTP/1.2\r\n" HOST "\r\n" },
	{ "version 2.0", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
	{ "version in lower case", 400, "GET /hello http/1.1\r\n" HOST "\r\n" },
	{ "version of many digits", 400, "GET /hello HTTP/1.11\r\n" HOST "\r\n" },
	{ "absolute target", 400, "GET http://t/hello HTTP/1.1\r\n" HOST "\r\n" },
	{ "connect", 400, "CONNECT t:443 HTTP/1.1\r\n" HOST "\r\n" },
	{ "asterisk", 400, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n" },
	{ "dots", 400, "GET /files/../hello HTTP/1.1\r\n" HOST "\r\n" },
	{ "encoded dots", 400, "GET /files/%2e%2e/hello HTTP/1.1\r\n" HOST "\r\n" },
	{ "encoded slash", 400, "GET /v1/things/a%2fb HTTP/1.1\r\n" HOST "\r\n" },
	{ "encoded NUL", 400, "GET /v1/things/a%00 HTTP/1.1\r\n" HOST "\r\n" },
	{ "two slashes", 400, "GET //hello HTTP/1.1\r\n" HOST "\r\n" },
	{ "bytes over 127", 400, "GET /\xff\xfe HTTP/1.1\r\n" HOST "\r\n" },
	{ "invalid UTF-8", 400, "GET /v1/things/%ff HTTP/1.1\r\n" HOST "\r\n" },
	{ "no colon", 400, "GET /hello HTTP/1.1\r\n" HOST "garbage\r\n\r\n" },
	{ "no name", 400, "GET /hello HTTP/1.1\r\n" HOST ": value\r\n\r\n" },
	{ "name with a slash", 400, "GET /hello HTTP/1.1\r\n" HOST "a/b: value\r\n\r\n" },
	{ "TLS hello", 0, BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n") },
	{ "random bytes", 0, BYTES("\x80\xff\x00\x13\x37\n\n\n\r\n\r\n") },
	{ "method with NUL", 0, BYTES("G\0T /hello HTTP/1.1\r\n" HOST "\r\n") },
};

static void test_refused(void **state)
{
	struct http_server_stats stats;

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		const struct hostile *h = &requests[i];
		char want[32];

		snprintf(want, sizeof(want), "HTTP/1.1 %d ", h->status);
		strbuf_reset(&got);
		raw_exchange(&f, h->text, h->len ? h->len : strlen(h->text), &got);
		if (h->status ? !str_starts(got.buf, want)
			      : strstr(got.buf, "HTTP/1.1 2") != NULL)
			fail_msg("%s: want %d, got: %.200s", h->name, h->status, got.buf);
		if (strstr(got.buf, "smuggled"))
			fail_msg("%s: a second request came through", h->name);
	}
	WAIT_FOR((http_server_stats(f.server, &stats), stats.connections == 0));
}

/* Everything may end anywhere; nothing is answered with success and nothing stays behind. */
static void test_truncated(void **state)
{
	const char text[] =
		"PUT /upload HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
		"5\r\nhello\r\n0\r\nA: b\r\n\r\n";
	struct http_server_stats stats;
	int fds[sizeof(text)];

	/* All at once: libmicrohttpd misses an end that comes together with the last bytes,
	 * until the timeout. */
	for (size_t len = 0; len < strlen(text); len++) {
		fds[len] = raw_connect(&f);
		raw_send(fds[len], text, len);
		shutdown(fds[len], SHUT_WR);
	}
	for (size_t len = 0; len < strlen(text); len++) {
		strbuf_reset(&got);
		assert_true(raw_read(fds[len], &got, NULL, 8000));
		if (strstr(got.buf, "HTTP/1.1 2"))
			fail_msg("%zu bytes: %s", len, got.buf);
		close(fds[len]);
	}
	WAIT_FOR((http_server_stats(f.server, &stats), stats.connections == 0));
	assert_int_equal(fixture_spooled(&f), 0);
}

/* What an answer quotes is valid text, whatever it was. */
static void test_quotes_are_valid(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	strbuf_adds(&text, "GET /x");
	for (int i = 0; i < 150; i++)
		strbuf_adds(&text, "%c3%a9");
	strbuf_adds(&text, " HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	strbuf_reset(&got);
	raw_exchange(&f, text.buf, text.len, &got);
	assert_true(str_starts(got.buf, "HTTP/1.1 404 "));
	assert_true(utf8_valid(got.buf, got.len));
	strbuf_reset(&text);
	strbuf_adds(&text, "PUT /v1/any HTTP/1.1\r\n" HOST "Content-Length: 1\xff\r\n\r\n");
	strbuf_reset(&got);
	raw_exchange(&f, text.buf, text.len, &got);
	assert_true(str_starts(got.buf, "HTTP/1.1 400 "));
	assert_true(utf8_valid(got.buf, got.len));
}

static void test_header_flood(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	strbuf_adds(&text, "GET /hello HTTP/1.1\r\n" HOST);
	for (int i = 0; i < 100000; i++)
		strbuf_adds(&text, "a:\r\n");
	strbuf_adds(&text, "\r\n");
	strbuf_reset(&got);
	raw_exchange(&f, text.buf, text.len, &got);
	assert_null(strstr(got.buf, "HTTP/1.1 2"));
	strbuf_reset(&text);
	strbuf_adds(&text, "GET /hello?");
	for (int i = 0; i < 1000; i++)
		strbuf_adds(&text, "a&");
	strbuf_adds(&text, " HTTP/1.1\r\n" HOST "\r\n");
	strbuf_reset(&got);
	raw_exchange(&f, text.buf, text.len, &got);
	assert_null(strstr(got.buf, "HTTP/1.1 2"));
}

/* One byte every 100 ms: never idle for long, and yet ended. */
static void slow_loris(const char *text)
{
	int64_t begin = time_monotonic_ms();
	int fd = raw_connect(&f);
	bool ended = false;

	strbuf_reset(&got);
	for (size_t i = 0; !ended && time_monotonic_ms() - begin < 15000; i++) {
		raw_send(fd, i < strlen(text) ? text + i : "x", 1);
		ended = raw_read(fd, &got, NULL, 100);
	}
	assert_true(ended);
	assert_null(strstr(got.buf, "HTTP/1.1 2"));
	close(fd);
}

static void test_slow_loris_head(void **state)
{
	slow_loris("GET /hello HTTP/1.1\r\nHost: t\r\nX: ");
}

static void *loris_body(void *arg)
{
	const char text[] = "PUT /v1/any HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n";
	int64_t begin = time_monotonic_ms();
	struct strbuf answer;
	bool ended = false;
	int fd = raw_connect(&f);

	strbuf_init(&answer);
	raw_send(fd, text, strlen(text));
	while (!ended && time_monotonic_ms() - begin < 15000) {
		raw_send(fd, "x", 1);
		ended = raw_read(fd, &answer, NULL, 100);
	}
	assert_true(ended);
	assert_int_equal(answer.len, 0);
	strbuf_release(&answer);
	close(fd);
	return NULL;
}

static void test_slow_loris_body(void **state)
{
	pthread_t threads[20];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, loris_body, NULL), 0);
	strbuf_reset(&got);
	raw_exchange(&f, "GET /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 52,
		     &got);
	assert_non_null(strstr(got.buf, "hello"));
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
}

static void test_silence(void **state)
{
	int fd = raw_connect(&f);

	strbuf_reset(&got);
	assert_true(raw_read(fd, &got, NULL, 10000));
	assert_int_equal(got.len, 0);
	close(fd);
}

/* A client that does not read what it asked for. */
static void test_reader_stalls(void **state)
{
	const char text[] = "GET /file HTTP/1.1\r\nHost: t\r\n\r\n";
	struct http_server_stats stats;
	int fd = raw_connect(&f), size = 4096;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (int i = 0; i < 200; i++)
		raw_send(fd, text, strlen(text));
	WAIT_FOR((http_server_stats(f.server, &stats), stats.connections == 0));
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_refused),	    TEST(test_truncated),
		TEST(test_header_flood),    TEST(test_quotes_are_valid),
		TEST(test_slow_loris_head), TEST(test_slow_loris_body),
		TEST(test_silence),	    TEST(test_reader_stalls),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
