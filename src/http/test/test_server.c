/* The server: routing, bodies, limits, files, the pool. */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define JSON		  "\r\nContent-Type: application/json"
#define CHUNKED		  "\r\nTransfer-Encoding: chunked"
#define EMPTY_OBJECT_HASH "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static struct fixture f;
static struct strbuf got;

static int setup(void **state)
{
	struct http_server_config config = fixture_config();

	strbuf_init(&got);
	return fixture_start(&f, &config);
}

static int teardown(void **state)
{
	fixture_stop(&f);
	strbuf_release(&got);
	return 0;
}

/* Sends `head` (without the end of its last line) with Host and Connection: close, and
 * `body`. */
static void ask(const char *head, const char *body)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;

	strbuf_addf(&text, "%s\r\nHost: test\r\nConnection: close\r\n\r\n%s", head, body);
	strbuf_reset(&got);
	raw_exchange(&f, text.buf, text.len, &got);
}

static void expect_status(int status)
{
	char want[32];

	snprintf(want, sizeof(want), "HTTP/1.1 %d ", status);
	if (!str_starts(got.buf, want))
		fail_msg("want %d, got: %.300s", status, got.buf);
}

static void expect_text(const char *text)
{
	if (!strstr(got.buf, text))
		fail_msg("want '%s', got: %s", text, got.buf);
}

static void test_get(void **state)
{
	ask("GET /hello HTTP/1.1", "");
	expect_status(200);
	expect_text("\r\nX-Request-Id: rq_");
	expect_text("\r\nContent-Type: text/plain\r\n");
	expect_text("\r\n\r\nhello");
	ask("GET / HTTP/1.1", "");
	expect_status(200);
	ask("GET /hello HTTP/1.0", "");
	expect_text(" 200 ");
}

static void test_head(void **state)
{
	ask("HEAD /hello HTTP/1.1", "");
	expect_status(200);
	expect_text("\r\nContent-Length: 5\r\n");
	assert_null(strstr(got.buf, "hello"));
	ask("HEAD /file HTTP/1.1", "");
	expect_status(200);
	expect_text("\r\nContent-Length: 100000\r\n");
	assert_true(got.len < 1000);
	ask("HEAD /stream HTTP/1.1", "");
	expect_status(200);
	expect_text("text/event-stream");
	http_stream_unref(stream_take());
}

static void test_request_is_understood(void **state)
{
	ask("GET /v1/things/a%20b?x=1&y=%2f HTTP/1.1\r\nX-Test: value", "");
	expect_status(200);
	expect_text("method=GET\ntarget=/v1/things/a%20b?x=1&y=%2f\npath=/v1/things/a b\n"
		    "query=x=1&y=%2f\npeer=127.0.0.1\n");
	expect_text("route=/v1/things/{id}\nid=a b\nrest=-\nx-test=value\nsize=0\n");
	expect_text(
		"sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
	ask("GET /files/css/a.css HTTP/1.1", "");
	expect_text("rest=css/a.css\n");
	ask("DELETE /v1/things/7 HTTP/1.1", "");
	expect_text("method=DELETE\n");
	expect_text("X-Answer: a  Injected: yes\r\n");
}

static void test_no_route(void **state)
{
	ask("GET /none HTTP/1.1", "");
	expect_status(404);
	expect_text("\r\nContent-Type: application/problem+json\r\n");
	expect_text("{\"status\":404,\"detail\":\"there is no '/none' here\"}");
	ask("PUT /v1/things/1 HTTP/1.1", "");
	expect_status(405);
	expect_text("\r\nAllow: GET, HEAD, DELETE\r\n");
	ask("OPTIONS /hello HTTP/1.1", "");
	expect_status(405);
	ask("BREW /hello HTTP/1.1", "");
	expect_status(405);
	ask("BREW /none HTTP/1.1", "");
	expect_status(404);
	ask("get /hello HTTP/1.1", "");
	expect_status(405);
	ask("GET /%c3%a9%c3%a9%c3%a9%c3%a9 HTTP/1.1", "");
	expect_text("there is no '/éééé' here");
	ask("HEAD /v1/things HTTP/1.1", "");
	expect_status(405);
}

static void test_body(void **state)
{
	ask("POST /v1/things HTTP/1.1" JSON "\r\nContent-Length: 2", "{}");
	expect_status(200);
	expect_text("size=2\nsha256=" EMPTY_OBJECT_HASH "\nbody={}\n");
	ask("POST /v1/things HTTP/1.1\r\nContent-Type: Application/JSON; charset=utf-8" CHUNKED,
	    "1\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n");
	expect_status(200);
	expect_text("size=2\nsha256=" EMPTY_OBJECT_HASH "\nbody={}\n");
	ask("POST /v1/things HTTP/1.1", ""); /* nothing sent: no type needed */
	expect_status(200);
	ask("PUT /v1/any HTTP/1.1\r\nContent-Length: 3", "abc");
	expect_status(200);
}

static void test_body_refused(void **state)
{
	ask("POST /v1/things HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2", "{}");
	expect_status(415);
	expect_text("Content-Type 'text/plain': must be 'application/json'");
	ask("POST /v1/things HTTP/1.1\r\nContent-Length: 2", "{}");
	expect_status(415);
	ask("PUT /v1/any HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2", "{}");
	expect_status(415);
	ask("GET /hello HTTP/1.1\r\nContent-Length: 2", "{}");
	expect_status(413);
	ask("GET /hello HTTP/1.1\r\nTransfer-Encoding: chunked", "0\r\n\r\n");
	expect_status(413);
}

static void test_body_too_large(void **state)
{
	cleanup_free char *body = xcalloc(1, 3000001);
	cleanup_strbuf struct strbuf chunked = STRBUF_INIT;

	memset(body, 'x', 1001);
	ask("POST /v1/things HTTP/1.1" JSON "\r\nContent-Length: 1001", body);
	expect_status(413);
	expect_text("body: 1001 bytes, the limit is 1000");
	body[1000] = '\0';
	ask("POST /v1/things HTTP/1.1" JSON "\r\nContent-Length: 1000", body);
	expect_status(200);
	/* Too large to be drained: answered before it is read. */
	ask("POST /v1/things HTTP/1.1" JSON "\r\nContent-Length: 999999999999", "");
	expect_status(413);
	memset(body, 'x', 3000000);
	strbuf_addf(&chunked, "%x\r\n%.*s\r\n0\r\n\r\n", 1001, 1001, body);
	ask("POST /v1/things HTTP/1.1" JSON CHUNKED, chunked.buf);
	expect_status(413);
	expect_text("body: over the limit of 1000 bytes");
	strbuf_reset(&chunked);
	strbuf_addf(&chunked, "%x\r\n%.*s\r\n0\r\n\r\n", 3000000, 3000000, body);
	ask("POST /v1/things HTTP/1.1" JSON CHUNKED, chunked.buf);
	assert_null(strstr(got.buf, " 200 ")); /* cut off */
}

static void test_refused_connection_is_kept(void **state)
{
	const char text[] =
		"POST /none HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345"
		"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

	strbuf_reset(&got);
	raw_exchange(&f, text, strlen(text), &got);
	expect_status(404);
	expect_text("HTTP/1.1 200 OK");
}

static void test_expect_continue(void **state)
{
	const char head[] = "PUT /v1/any HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n"
			    "Expect: 100-continue\r\n"
			    "Connection: close\r\n\r\n";
	int fd = raw_connect(&f);

	strbuf_reset(&got);
	raw_send(fd, head, strlen(head));
	assert_true(raw_read(fd, &got, "100 Continue\r\n\r\n", 5000));
	raw_send(fd, "abc", 3);
	assert_true(raw_read(fd, &got, NULL, 5000));
	expect_text("body=abc");
	close(fd);
}

static void test_upload(void **state)
{
	size_t size = 5 << 20;
	cleanup_free char *body = xcalloc(1, size + 1);

	for (size_t i = 0; i < size; i++)
		body[i] = (char)('a' + i % 23);
	ask("PUT /upload HTTP/1.1\r\nContent-Length: 5242880", body);
	expect_status(200);
	expect_text("size=5242880 announced=5242880 same=1");
	assert_int_equal(fixture_spooled(&f), 0);
	ask("PUT /upload?keep HTTP/1.1\r\nContent-Length: 10", "0123456789");
	expect_text("size=10 announced=10 same=1");
	assert_int_equal(fixture_spooled(&f), 1);
	ask("PUT /upload HTTP/1.1\r\nContent-Length: 9000000", "");
	expect_status(413);
	ask("PUT /upload HTTP/1.1", "");
	expect_text("size=0 announced=0 same=1");
	assert_int_equal(fixture_spooled(&f), 1);
}

static void test_upload_truncated(void **state)
{
	const char text[] =
		"PUT /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nonly this";
	int fd = raw_connect(&f);

	raw_send(fd, text, strlen(text));
	WAIT_FOR(fixture_spooled(&f) == 1);
	close(fd);
	WAIT_FOR(fixture_spooled(&f) == 0);
}

static void test_file(void **state)
{
	ask("GET /file HTTP/1.1", "");
	expect_status(200);
	expect_text("\r\nETag: \"v1\"\r\n");
	expect_text("\r\nAccept-Ranges: bytes\r\n");
	assert_true(got.len > 100000);
	ask("GET /file HTTP/1.1\r\nRange: bytes=10-19", "");
	expect_status(206);
	expect_text("\r\nContent-Range: bytes 10-19/100000\r\n");
	expect_text("\r\nContent-Length: 10\r\n");
	expect_text("\r\n\r\n000000010\n");
	ask("GET /file HTTP/1.1\r\nRange: bytes=-10\r\nIf-Range: \"v1\"", "");
	expect_text("\r\n\r\n000099990\n");
	ask("GET /file HTTP/1.1\r\nRange: bytes=-10\r\nIf-Range: \"v0\"", "");
	expect_status(200);
	ask("GET /file HTTP/1.1\r\nRange: bytes=100000-", "");
	expect_status(416);
	expect_text("\r\nContent-Range: bytes */100000\r\n");
	ask("GET /file HTTP/1.1\r\nIf-None-Match: \"v0\", \"v1\"", "");
	expect_status(304);
	ask("GET /file HTTP/1.1\r\nIf-None-Match: \"v\"", "");
	expect_status(200);
	ask("GET /file?empty HTTP/1.1", "");
	expect_status(200);
	expect_text("\r\nContent-Length: 0\r\n");
}

static void test_no_answer(void **state)
{
	struct http_server_stats stats;

	ask("GET /nothing HTTP/1.1", "");
	expect_status(500);
	http_server_stats(f.server, &stats);
	assert_int_equal(stats.responses_5xx, 1);
	assert_int_equal(stats.requests, 1);
}

static void test_head_limit(void **state)
{
	cleanup_free char *head = xcalloc(1, 70000);
	size_t n = (size_t)sprintf(head, "GET /hello HTTP/1.1\r\nX: ");

	memset(head + n, 'x', 3900);
	ask(head, "");
	expect_status(200);
	memset(head + n, 'x', 4100);
	ask(head, "");
	expect_status(431);
	expect_text("the limit is 4096");
	memset(head + n, 'x', 60000);
	ask(head, "");
	expect_status(431);
	n = (size_t)sprintf(head, "GET /hello");
	memset(head + n, 'x', 60000);
	strcpy(head + n + 60000, " HTTP/1.1");
	ask(head, "");
	expect_status(414);
}

/* A head that comes in single bytes is laid out as one that comes at once. */
static void test_head_in_pieces(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	int fd = raw_connect(&f);

	strbuf_adds(&text, "GET /v1/things/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
	for (int i = 0; i < 40; i++)
		strbuf_addf(&text, "X-Header-%d:   value %d with spaces  \r\n", i, i);
	strbuf_adds(&text, "X-Empty:\r\nX-Test: there\r\n\r\n");
	for (size_t i = 0; i < text.len; i++) {
		raw_send(fd, text.buf + i, 1);
		if (i % 100 == 0)
			usleep(1000); /* or the kernel puts the pieces together again */
	}
	strbuf_reset(&got);
	assert_true(raw_read(fd, &got, NULL, 5000));
	expect_status(200);
	expect_text("x-test=there");
	close(fd);
}

static void *ask_slow(void *arg)
{
	struct strbuf *ret = arg;
	const char text[] = "GET /slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

	raw_exchange(&f, text, strlen(text), ret);
	return NULL;
}

static void test_pool_saturation(void **state)
{
	pthread_t threads[66];
	struct strbuf answers[66];
	struct http_server_stats stats;

	gate_close();
	/* Two are handled, sixty-four wait. */
	for (size_t i = 0; i < 66; i++) {
		strbuf_init(&answers[i]);
		assert_int_equal(pthread_create(&threads[i], NULL, ask_slow, &answers[i]), 0);
	}
	WAIT_FOR((http_server_stats(f.server, &stats), stats.queue_len == 64) &&
		 gate_waiting() == 2);
	ask("GET /hello HTTP/1.1", "");
	expect_status(503);
	expect_text("\r\nRetry-After: 1\r\n");
	http_server_stats(f.server, &stats);
	assert_int_equal(stats.queue_full, 1);
	gate_open();
	for (size_t i = 0; i < 66; i++) {
		pthread_join(threads[i], NULL);
		assert_non_null(strstr(answers[i].buf, "waited"));
		strbuf_release(&answers[i]);
	}
	ask("GET /hello HTTP/1.1", "");
	expect_status(200);
}

/* What runs is finished, what waits is told to come again. */
static void test_stop_under_load(void **state)
{
	pthread_t threads[10];
	struct strbuf answers[10];
	int waited = 0, refused = 0;
	struct http_server_stats stats;

	gate_close();
	for (size_t i = 0; i < 10; i++) {
		strbuf_init(&answers[i]);
		assert_int_equal(pthread_create(&threads[i], NULL, ask_slow, &answers[i]), 0);
	}
	WAIT_FOR((http_server_stats(f.server, &stats), stats.queue_len == 8) &&
		 gate_waiting() == 2);
	pthread_t opener;
	assert_int_equal(
		pthread_create(&opener, NULL, (void *(*)(void *))(void *)gate_open, NULL), 0);
	http_server_stop(f.server, 0);
	pthread_join(opener, NULL);
	for (size_t i = 0; i < 10; i++) {
		pthread_join(threads[i], NULL);
		waited += strstr(answers[i].buf, "waited") != NULL;
		refused += strstr(answers[i].buf, " 503 ") != NULL;
		strbuf_release(&answers[i]);
	}
	assert_true(waited + refused >= 2);
	setup(NULL);
}

static void test_client_gone(void **state)
{
	const char text[] = "GET /slow HTTP/1.1\r\nHost: test\r\n\r\n";
	struct http_server_stats stats;

	gate_close();
	for (int i = 0; i < 20; i++) {
		int fd = raw_connect(&f);

		raw_send(fd, text, strlen(text));
		if (i == 19)
			WAIT_FOR(gate_waiting() == 2);
		close(fd);
	}
	gate_open();
	WAIT_FOR((http_server_stats(f.server, &stats), stats.connections == 0));
	ask("GET /hello HTTP/1.1", "");
	expect_status(200);
}

static void test_keep_alive(void **state)
{
	const char text[] = "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n";
	struct http_server_stats stats;
	int fd = raw_connect(&f);

	for (int i = 0; i < 5; i++) {
		strbuf_reset(&got);
		raw_send(fd, text, strlen(text));
		assert_true(raw_read(fd, &got, "hello", 5000));
	}
	strbuf_reset(&got);
	for (int i = 0; i < 5; i++) /* pipelined */
		raw_send(fd, text, strlen(text));
	int count = 0;
	while (count < 5) {
		size_t len = got.len;

		assert_true(raw_read(fd, &got, NULL, 200) || got.len > len);
		count = 0;
		for (const char *p = got.buf; (p = strstr(p, "hello")); p++)
			count++;
	}
	http_server_stats(f.server, &stats);
	assert_int_equal(stats.connections, 1);
	close(fd);
}

static void test_forwarded(void **state)
{
	struct http_server_config config = fixture_config();

	ask("GET /v1/things/1 HTTP/1.1\r\nX-Forwarded-For: 10.1.1.1", "");
	expect_text("peer=127.0.0.1\n");
	teardown(NULL);
	strbuf_init(&got);
	config.trust_forwarded = true;
	fixture_start(&f, &config);
	ask("GET /v1/things/1 HTTP/1.1\r\nX-Forwarded-For: 10.1.1.1", "");
	expect_text("peer=10.1.1.1\n");
	ask("GET /v1/things/1 HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 2001:db8::1", "");
	expect_text("peer=2001:db8::1\n");
	ask("GET /v1/things/1 HTTP/1.1\r\nX-Forwarded-For: 10.1.1.1, <script>", "");
	expect_text("peer=127.0.0.1\n");
}

static void test_connection_limits(void **state)
{
	struct http_server_config config = fixture_config();
	const char text[] = "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n";
	int fds[4];

	teardown(NULL);
	strbuf_init(&got);
	config.connections_per_address_max = 3;
	fixture_start(&f, &config);
	for (int i = 0; i < 4; i++) {
		fds[i] = raw_connect(&f);
		raw_send(fds[i], text, strlen(text));
		strbuf_reset(&got);
		assert_true(raw_read(fds[i], &got, "hello", 5000));
		assert_int_equal(got.len == 0, i == 3);
	}
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

static void *open_null(void *arg)
{
	return NULL;
}

static void expect_no_start(struct http_server_config config, const char *text)
{
	struct http_server *s = NULL;
	struct err err;

	assert_int_equal(http_server_start(&config, &s, &err), -1);
	assert_null(s);
	if (!strstr(err.text, text) && !strstr(err.field, text))
		fail_msg("want '%s', got '%s: %s'", text, err.field, err.text);
}

static void test_bad_config(void **state)
{
	struct http_server_config good = fixture_config(), c;
	const struct http_route bad_route = { HTTP_GET, "nowhere" };

	good.spool_dir = "/tmp";
	c = good, c.address = "localhost";
	expect_no_start(c, "must be an IPv4 or IPv6 address");
	c = good, c.port = f.port;
	expect_no_start(c, "Address already in use");
	c = good, c.port = 70000;
	expect_no_start(c, "must be 0 to 65535");
	c = good, c.thread_open = open_null;
	expect_no_start(c, "pool");
	c = good, c.routes = &bad_route, c.route_count = 1;
	expect_no_start(c, "must begin with '/'");
	c = good, c.tls_cert = "/nonexistent";
	expect_no_start(c, "together");
	c = good, c.tls_cert = c.tls_key = "/nonexistent";
	expect_no_start(c, "/nonexistent");
	c = good, c.tls_cert = c.tls_key = "/etc/passwd";
	expect_no_start(c, "PEM certificate");
	c = good, c.spool_dir = NULL;
	expect_no_start(c, "spool_dir");
	c = good, c.queue_max = 0;
	expect_no_start(c, "queue_max");
	c = good, c.head_max = 10;
	expect_no_start(c, "head_max");
}

static void test_ipv6(void **state)
{
	struct http_server_config config = fixture_config();
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		skip();
	close(fd);
	teardown(NULL);
	strbuf_init(&got);
	config.address = "::";
	fixture_start(&f, &config);
	ask("GET /v1/things/1 HTTP/1.1", "");
	expect_text("peer=127.0.0.1\n"); /* not ::ffff:127.0.0.1 */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_get),
		TEST(test_head),
		TEST(test_request_is_understood),
		TEST(test_no_route),
		TEST(test_body),
		TEST(test_body_refused),
		TEST(test_body_too_large),
		TEST(test_refused_connection_is_kept),
		TEST(test_expect_continue),
		TEST(test_upload),
		TEST(test_upload_truncated),
		TEST(test_file),
		TEST(test_no_answer),
		TEST(test_head_limit),
		TEST(test_head_in_pieces),
		TEST(test_pool_saturation),
		TEST(test_stop_under_load),
		TEST(test_client_gone),
		TEST(test_keep_alive),
		TEST(test_forwarded),
		TEST(test_connection_limits),
		TEST(test_bad_config),
		TEST(test_ipv6),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
