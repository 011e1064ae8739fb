/* TLS by the server itself, with a certificate made on the spot. */
#include "fixture.h"

#include <pthread.h>
#include <unistd.h>

static struct fixture f;
static char dir[64], cert[96], key[96];
static bool have_cert;
static struct http_client *client;
static struct http_result result;
static struct err err;

static int group_setup(void **state)
{
	struct strbuf out, errout;
	int status = -1;

	snprintf(dir, sizeof(dir), "/tmp/tes-http-tls-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	snprintf(key, sizeof(key), "%s/key.pem", dir);
	strbuf_init(&out);
	strbuf_init(&errout);
	have_cert =
		!process_run((const char *const[]){ "openssl", "req", "-x509", "-newkey", "ec",
						    "-pkeyopt", "ec_paramgen_curve:prime256v1",
						    "-nodes", "-keyout", key, "-out", cert,
						    "-days", "2", "-subj", "/CN=localhost",
						    "-addext", "subjectAltName=IP:127.0.0.1",
						    NULL },
			     SLICE(""), 100000, 30000, &out, &errout, &status, &err) &&
		status == 0;
	if (!have_cert)
		print_message("# skipped: no certificate from openssl: %s%s\n", err.text,
			      errout.buf);
	strbuf_release(&out);
	strbuf_release(&errout);
	return 0;
}

static int group_teardown(void **state)
{
	return dir_remove(dir, &err);
}

static int setup(void **state)
{
	struct http_server_config config = fixture_config();

	if (!have_cert)
		return 0;
	config.tls_cert = cert;
	config.tls_key = key;
	client = http_client_new();
	return fixture_start(&f, &config);
}

static int teardown(void **state)
{
	if (!have_cert)
		return 0;
	http_client_free(client);
	fixture_stop(&f);
	return 0;
}

static const char *url(const char *target)
{
	static _Thread_local char text[128];

	snprintf(text, sizeof(text), "https://127.0.0.1:%d%s", f.port, target);
	return text;
}

static void test_call(void **state)
{
	struct http_call call = { .url = url("/hello"), .ca_file = cert };

	if (!have_cert)
		skip();
	for (int i = 0; i < 3; i++) {
		if (http_call(client, &call, &result, &err))
			fail_msg("%s", err.text);
		assert_string_equal(result.body.buf, "hello");
		http_result_release(&result);
	}
	call.url = url("/file");
	call.response_max = 100000;
	assert_int_equal(http_call(client, &call, &result, &err), 0);
	assert_int_equal(result.body.len, 100000);
	http_result_release(&result);
}

static void test_untrusted(void **state)
{
	struct http_call call = { .url = url("/hello") };

	if (!have_cert)
		skip();
	assert_int_equal(http_call(client, &call, &result, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
}

static void test_plain_text(void **state)
{
	struct strbuf got;

	if (!have_cert)
		skip();
	strbuf_init(&got);
	raw_exchange(&f, "GET /hello HTTP/1.1\r\nHost: t\r\n\r\n", 32, &got);
	assert_null(strstr(got.buf, "hello"));
	strbuf_release(&got);
}

struct reader {
	pthread_t thread;
	struct sse_parser *parser;
	_Atomic int events;
	int stop_after;
	const char *target;
};

static int count_event(void *arg, const char *event, const char *id, struct slice data)
{
	struct reader *r = arg;

	return ++r->events == r->stop_after;
}

static int feed(void *arg, const char *p, size_t len)
{
	return sse_parser_feed(((struct reader *)arg)->parser, p, len);
}

static void *reader_run(void *arg)
{
	struct reader *r = arg;
	struct http_client *c = http_client_new();
	struct http_call call = {
		.url = url(r->target), .ca_file = cert, .on_data = feed, .arg = r
	};
	struct http_result res;
	struct err e;

	if (!http_call(c, &call, &res, &e))
		http_result_release(&res);
	http_client_free(c);
	return NULL;
}

static void reader_start(struct reader *r, const char *target, int stop_after)
{
	*r = (struct reader){ .target = target, .stop_after = stop_after };
	r->parser = sse_parser_new(10000, count_event, r);
	assert_int_equal(pthread_create(&r->thread, NULL, reader_run, r), 0);
}

static void reader_join(struct reader *r)
{
	pthread_join(r->thread, NULL);
	sse_parser_free(r->parser);
}

static int64_t streams(void)
{
	struct http_server_stats stats;

	http_server_stats(f.server, &stats);
	return stats.streams;
}

static void test_stream(void **state)
{
	struct reader r;
	struct http_stream *st;

	if (!have_cert)
		skip();
	reader_start(&r, "/stream", -1);
	st = stream_take();
	for (int i = 0; i < 200; i++) {
		assert_true(http_stream_push(st, "e", "1", SLICE("data")));
		if (i % 10 == 0)
			WAIT_FOR(r.events ==
				 i + 1); /* now the connection is suspended, or about to be */
	}
	WAIT_FOR(r.events == 200);
	http_stream_finish(st);
	reader_join(&r);
	assert_true(http_stream_closed(st));
	http_stream_unref(st);
	WAIT_FOR(streams() == 0);
	reader_start(&r, "/stream?count", -1);
	reader_join(&r);
	assert_int_equal(r.events, 10);
}

static void test_stream_client_gone(void **state)
{
	struct reader r;
	struct http_stream *st;

	if (!have_cert)
		skip();
	reader_start(&r, "/stream", 1);
	st = stream_take();
	assert_true(http_stream_push(st, "e", "1", SLICE("data")));
	reader_join(&r);
	/* The end is noticed by writing. */
	WAIT_FOR(!http_stream_push(st, "e", "1", SLICE("data")));
	http_stream_unref(st);
	WAIT_FOR(streams() == 0);
}

#define MANY 50

static void test_many_streams_and_stop(void **state)
{
	static struct reader readers[MANY];
	struct http_stream *sts[MANY];

	if (!have_cert)
		skip();
	for (int i = 0; i < MANY; i++) {
		reader_start(&readers[i], "/stream", -1);
		sts[i] = stream_take();
	}
	for (int n = 0; n < 10; n++)
		for (int i = 0; i < MANY; i++)
			assert_true(http_stream_push(sts[i], "e", "1", SLICE("data")));
	for (int i = 0; i < MANY; i++)
		WAIT_FOR(readers[i].events == 10);
	http_server_stop(f.server, 1000);
	for (int i = 0; i < MANY; i++) {
		reader_join(&readers[i]);
		assert_true(http_stream_closed(sts[i]));
		http_stream_unref(sts[i]);
	}
	http_client_free(client);
	setup(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_call),
		TEST(test_untrusted),
		TEST(test_plain_text),
		TEST(test_stream),
		TEST(test_stream_client_gone),
		TEST(test_many_streams_and_stop),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
