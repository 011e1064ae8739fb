/* The client, against our server and against peers that misbehave. */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct fixture f;
static struct http_client *client;
static struct http_result result;
static struct err err;

static int setup(void **state)
{
	struct http_server_config config = fixture_config();

	client = http_client_new();
	err_clear(&err);
	return fixture_start(&f, &config);
}

static int teardown(void **state)
{
	http_client_free(client);
	fixture_stop(&f);
	return 0;
}

static void expect_body(const char *text)
{
	if (!strstr(result.body.buf, text))
		fail_msg("want '%s', got: %s", text, result.body.buf);
	http_result_release(&result);
}

static void test_methods(void **state)
{
	const struct http_header_item headers[] = { { "X-Test", "value" },
						    { "Content-Type", "application/json" } };
	struct http_call call = { .url = fixture_url(&f, "/v1/things/1?a=b"),
				  .headers = headers,
				  .header_count = 1 };

	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_int_equal(result.status, 200);
	assert_string_equal(result.content_type, "text/plain");
	expect_body("method=GET\ntarget=/v1/things/1?a=b\n");
	call.method = HTTP_DELETE;
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("x-test=value\nsize=0\n");
	call.method = HTTP_POST;
	call.url = fixture_url(&f, "/v1/things");
	call.header_count = 2;
	call.body = SLICE("{\"a\":1}");
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("size=7\n");
	call.body = (struct slice){ 0 };
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("size=0\n");
	call.method = HTTP_PUT;
	call.url = fixture_url(&f, "/v1/any");
	call.header_count = 0; /* nothing is said about the type then */
	call.body = SLICE("abc");
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("body=abc");
}

static void test_status_is_no_error(void **state)
{
	struct http_call call = { .url = fixture_url(&f, "/none") };

	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_int_equal(result.status, 404);
	assert_string_equal(result.content_type, "application/problem+json");
	expect_body("there is no '/none' here");
	call.url = fixture_url(&f, "/file");
	call.response_max = 200000;
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_string_equal(result.etag, "\"v1\"");
	assert_int_equal(result.body.len, 100000);
	http_result_release(&result);
}

static void test_connections_are_kept(void **state)
{
	struct http_call call = { .url = fixture_url(&f, "/hello") };
	struct http_server_stats stats;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(http_call(client, &call, &result, &err), 0);
		expect_body("hello");
	}
	http_server_stats(f.server, &stats);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(stats.requests, 10);
}

static void test_server_restarts(void **state)
{
	struct http_server_config config = fixture_config();
	struct http_call call = { .url = fixture_url(&f, "/hello") };

	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("hello");
	config.port = f.port;
	fixture_stop(&f);
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	fixture_start(&f, &config);
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("hello");
}

struct progress {
	int64_t sent, received;
	int statuses;
};

static void note_progress(void *arg, int64_t sent, int64_t received)
{
	struct progress *p = arg;

	p->sent = sent;
	p->received = received;
}

static void note_status(void *arg, int status)
{
	struct progress *p = arg;

	assert_int_equal(status, 200);
	p->statuses++;
}

static void test_upload(void **state)
{
	char path[] = "/tmp/tes-http-up-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct progress progress = { 0 };
	struct http_call call = { .method = HTTP_PUT,
				  .url = fixture_url(&f, "/upload"),
				  .body_fd = fd,
				  .body_fd_size = 3000000,
				  .on_progress = note_progress,
				  .on_status = note_status,
				  .arg = &progress };

	unlink(path);
	for (int i = 0; i < 301000; i++)
		assert_int_equal(write(fd, "0123456789", 10), 10);
	lseek(fd, 10000, SEEK_SET);
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("size=3000000 announced=3000000 same=1");
	assert_int_equal(progress.sent, 3000000);
	assert_int_equal(progress.statuses, 1);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 3010000);
	close(fd);
}

static void test_upload_refused(void **state)
{
	char path[] = "/tmp/tes-http-up-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct http_call call = { .method = HTTP_PUT,
				  .url = fixture_url(&f, "/upload"),
				  .body_fd = fd,
				  .body_fd_size = 20 << 20 };

	unlink(path);
	assert_int_equal(ftruncate(fd, 20 << 20), 0);
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_int_equal(result.status, 413);
	http_result_release(&result);
	close(fd);
}

static int take_data(void *arg, const char *p, size_t len)
{
	int64_t *left = arg;

	*left -= (int64_t)len;
	return *left < 0;
}

static void test_on_data(void **state)
{
	int64_t left = 100000;
	struct http_call call = { .url = fixture_url(&f, "/file"),
				  .on_data = take_data,
				  .arg = &left,
				  .response_max = 1000 };

	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_int_equal(left, 0);
	assert_int_equal(result.body.len, 0);
	http_result_release(&result);
	left = 5;
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_IO);
	call.url = fixture_url(&f, "/none"); /* what is not a 2xx is collected */
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("there is no");
}

static void test_response_max(void **state)
{
	struct http_call call = { .url = fixture_url(&f, "/file"), .response_max = 99999 };

	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_TOO_LARGE);
	call.response_max = 100000;
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	http_result_release(&result);
}

static void test_timeouts(void **state)
{
	int64_t begin = time_monotonic_ms();
	struct http_call call = { .url = fixture_url(&f, "/slow"), .timeout_ms = 300 };

	gate_close();
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_TIMEOUT);
	call.timeout_ms = 0;
	call.idle_timeout_ms = 300;
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_TIMEOUT);
	assert_true(time_monotonic_ms() - begin >= 600);
	gate_open();
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("waited");
}

static void *set_later(void *flag)
{
	WAIT_FOR(gate_waiting() == 1);
	__atomic_store_n((int *)flag, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void test_cancel(void **state)
{
	int cancel = 0;
	pthread_t thread;
	struct http_call call = { .url = fixture_url(&f, "/slow"), .cancel = &cancel };

	gate_close();
	assert_int_equal(pthread_create(&thread, NULL, set_later, &cancel), 0);
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_TIMEOUT);
	pthread_join(thread, NULL);
	gate_open();
	call.cancel = NULL; /* and the client is good for the next call */
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	expect_body("waited");
}

static void test_bad_urls(void **state)
{
	const char *const urls[] = { "", "nonsense", "ftp://127.0.0.1/", "file:///etc/passwd",
				     "http://" };

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct http_call call = { .url = urls[i], .timeout_ms = 2000 };

		err_clear(&err);
		assert_int_equal(http_call(client, &call, &result, &err), -1);
		assert_true(err.code == ERR_INVALID || err.code == ERR_UNAVAILABLE);
	}
}

/* ---- peers that say just one thing, on a unix socket ---- */

struct peer {
	int listen_fd;
	const char *text;
	char path[64];
	pthread_t thread;
	struct strbuf request;
};

static void *peer_run(void *arg)
{
	struct peer *p = arg;
	int fd = accept(p->listen_fd, NULL, NULL);

	raw_read(fd, &p->request, "\r\n\r\n", 5000);
	raw_send(fd, p->text, strlen(p->text));
	close(fd);
	return NULL;
}

static int peer_call(const char *text, struct http_call *call, struct strbuf *ret_request)
{
	struct peer p = { .text = text };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int rc;

	snprintf(p.path, sizeof(p.path), "/tmp/tes-http-peer-%d", (int)getpid());
	strbuf_init(&p.request);
	memcpy(un.sun_path, p.path, sizeof(p.path));
	p.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p.listen_fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(p.listen_fd, 1), 0);
	assert_int_equal(pthread_create(&p.thread, NULL, peer_run, &p), 0);
	call->url = "http://engine/v1.41/info";
	call->unix_socket = p.path;
	call->timeout_ms = 5000;
	rc = http_call(client, call, &result, &err);
	pthread_join(p.thread, NULL);
	close(p.listen_fd);
	unlink(p.path);
	if (ret_request)
		*ret_request = p.request;
	else
		strbuf_release(&p.request);
	return rc;
}

static void test_unix_socket(void **state)
{
	struct http_call call = { 0 };
	struct strbuf request;

	assert_int_equal(peer_call("HTTP/1.1 503 No\r\nRetry-After: 7\r\nlocation:  /x  \r\n"
				   "ETag: \"e\"\r\n"
				   "Content-Type: text/html\r\nContent-Length: 2\r\n\r\nok",
				   &call, &request),
			 0);
	assert_true(str_starts(request.buf, "GET /v1.41/info HTTP/1.1\r\nHost: engine\r\n"));
	strbuf_release(&request);
	assert_int_equal(result.status, 503);
	assert_string_equal(result.retry_after, "7");
	assert_string_equal(result.location, "/x");
	assert_string_equal(result.etag, "\"e\"");
	expect_body("ok");
	call = (struct http_call){ .url = "http://x/", .unix_socket = "/nonexistent/socket" };
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
}

static void test_interim_answers(void **state)
{
	struct http_call call = { 0 };

	assert_int_equal(peer_call("HTTP/1.1 103 Early Hints\r\nETag: \"early\"\r\n\r\n"
				   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
				   &call, NULL),
			 0);
	assert_int_equal(result.status, 200);
	assert_string_equal(result.etag, "");
	expect_body("ok");
}

static void test_misbehaving_peers(void **state)
{
	const char *const texts[] = {
		"",
		"garbage\r\n\r\n",
		"HTTP/1.1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Le",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct http_call call = { 0 };

		err_clear(&err);
		if (!peer_call(texts[i], &call, NULL))
			fail_msg("taken: %s", texts[i]);
		assert_int_equal(err.code, ERR_UNAVAILABLE);
	}
}

static void test_no_redirects(void **state)
{
	struct http_call call = { 0 };

	assert_int_equal(peer_call("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n"
				   "Content-Length: 0\r\n\r\n",
				   &call, NULL),
			 0);
	assert_int_equal(result.status, 302);
	assert_string_equal(result.location, "http://127.0.0.1/");
	http_result_release(&result);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_methods),
		TEST(test_status_is_no_error),
		TEST(test_connections_are_kept),
		TEST(test_server_restarts),
		TEST(test_upload),
		TEST(test_upload_refused),
		TEST(test_on_data),
		TEST(test_response_max),
		TEST(test_timeouts),
		TEST(test_cancel),
		TEST(test_bad_urls),
		TEST(test_unix_socket),
		TEST(test_interim_answers),
		TEST(test_misbehaving_peers),
		TEST(test_no_redirects),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
