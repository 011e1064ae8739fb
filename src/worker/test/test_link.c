/* Signed calls against a server that checks them as control/session.c does. */
#include "../internal.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
	struct http_server *server;
	struct identity id;
	char session[ID_SIZE];
	uint8_t key[32];
	int64_t newest_nonce;
	atomic_int sessions, calls, refuse, nonce_conflicts;
	char last_path[200];
	int64_t body_size;
	int64_t clock_ahead_ms;
} fake;

static void answer(struct http_response *res, int status, const char *text)
{
	http_respond(res, status,
		     status / 100 == 2 ? "application/json" : "application/problem+json",
		     slice_of(text));
}

static void problem(struct http_response *res, enum err_code code, const char *words)
{
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	struct err err = { 0 };

	err_set(&err, code, "%s", words);
	api_problem(&err, NULL, &body);
	answer(res, api_status(code), body.buf);
}

static void session_open(struct http_request *req, struct http_response *res)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT, out = STRBUF_INIT;
	struct session_request in;
	struct err err = { 0 };
	uint8_t sig[SIGNATURE_SIZE], theirs[EXCHANGE_SIZE], pk[EXCHANGE_SIZE],
		sk[EXCHANGE_SIZE];
	char hex[2 * EXCHANGE_SIZE + 1];
	size_t len;

	if (schema_parse(&session_request_type, req->body, FROM_CLIENT, req->arena, &in, &err) <
	    0) {
		problem(res, err.code, err.text);
		return;
	}
	session_sign_text(in.worker_id, in.time_ms, in.exchange_key, in.boot_id, &text);
	if (base64url_parse(in.signature, sig, sizeof(sig), &len) < 0 ||
	    !sign_check(text.buf, text.len, fake.id.pk, sig)) {
		problem(res, ERR_UNAUTHENTICATED, "not this worker's signature");
		return;
	}
	exchange_keypair(pk, sk);
	if (hex_parse(in.exchange_key, theirs, sizeof(theirs)) < 0 ||
	    exchange_shared(sk, theirs, pk, false, fake.key) < 0)
		abort();
	hex_format(pk, sizeof(pk), hex);
	fake.newest_nonce = 0;
	fake.sessions++;
	id_make("ss", now_ms_get(), &random_system, fake.session);
	struct session s = { .id = fake.session,
			     .exchange_key = hex,
			     .expires_ms = now_ms_get() + HOUR_MS + fake.clock_ahead_ms,
			     .heartbeat_ms = 1234,
			     .server_time_ms = now_ms_get() + fake.clock_ahead_ms };

	schema_write(&session_type, &s, &out);
	answer(res, 200, out.buf);
}

static bool is_signed(struct http_request *req)
{
	const char *session = http_header(req, "TES-Session"),
		   *mac = http_header(req, "TES-MAC");
	int64_t time_ms, nonce;
	uint8_t got[MAC_SIZE], wanted[MAC_SIZE];

	if (!session || !mac || !str_eq(session, fake.session) ||
	    hex_parse(mac, got, sizeof(got)) < 0 ||
	    int_parse(http_header(req, "TES-Time"), 0, INT64_MAX, &time_ms, NULL) < 0 ||
	    int_parse(http_header(req, "TES-Nonce"), 1, INT64_MAX, &nonce, NULL) < 0)
		return false;
	request_mac(fake.key, session, http_method_names[req->method], req->target, time_ms,
		    nonce, req->body_sha256, wanted);
	assert(nonce > fake.newest_nonce);
	fake.newest_nonce = nonce;
	assert(llabs(time_ms - now_ms_get() - fake.clock_ahead_ms) < 5000);
	return memcmp(got, wanted, sizeof(got)) == 0;
}

static void handler(struct http_request *req, struct http_response *res, void *state, void *arg)
{
	if (str_eq(req->path, "/v1/worker/session")) {
		session_open(req, res);
		return;
	}
	fake.calls++;
	if (!is_signed(req) || fake.refuse > 0) {
		fake.refuse--;
		problem(res, ERR_UNAUTHENTICATED, "no such session: open a new one");
		return;
	}
	if (fake.nonce_conflicts > 0) {
		fake.nonce_conflicts--;
		problem(res, ERR_CONFLICT, "TES-Nonce 7 was used before in this session");
		return;
	}
	snprintf(fake.last_path, sizeof(fake.last_path), "%s", req->target);
	fake.body_size = req->body_size;
	answer(res, 200, "{\"seq\":7,\"cut\":false}");
}

static void problem_body(int status, const char *detail, struct strbuf *body, void *arg)
{
	strbuf_adds(body, "{}");
}

static void *thread_open(void *arg)
{
	return &fake;
}

static void thread_close(void *state) {}

static int setup(void **state)
{
	static const struct http_route routes[] = {
		{ HTTP_POST, "/v1/worker/session", HTTP_BODY_MEMORY, 1 << 16,
		  "application/json" },
		{ HTTP_POST, "/v1/worker/logs", HTTP_BODY_MEMORY, 1 << 20, "application/json" },
		{ HTTP_PUT, "/v1/worker/leases/{id}/results/{path*}", HTTP_BODY_FILE, 1 << 20 },
	};
	struct http_server_config config = {
		.address = "127.0.0.1",
		.pool_threads = 1,
		.epoll_threads = 1,
		.queue_max = 16,
		.connections_max = 16,
		.connections_per_address_max = 16,
		.idle_timeout_ms = 5000,
		.head_max = 8192,
		.spool_dir = "/tmp",
		.routes = routes,
		.route_count = ARRAY_LEN(routes),
		.handler = handler,
		.problem = problem_body,
		.problem_type = "application/problem+json",
		.thread_open = thread_open,
		.thread_close = thread_close,
	};
	struct err err = { 0 };

	if (http_server_start(&config, &fake.server, &err) < 0)
		fail_msg("%s", err.text);
	snprintf(fake.id.worker_id, ID_SIZE, "wk_01jdq3k5v8e4r9t0m2n6p7a1bc");
	snprintf(fake.id.boot_id, ID_SIZE, "bt_01jdq3k5v8e4r9t0m2n6p7a1bc");
	snprintf(fake.id.server, sizeof(fake.id.server), "http://127.0.0.1:%d",
		 http_server_port(fake.server));
	sign_keypair(fake.id.pk, fake.id.sk);
	return 0;
}

static int teardown(void **state)
{
	http_server_stop(fake.server, 1000);
	return 0;
}

static int send_log(struct link *l, struct log_ack *ack, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct log_entry entry = { .seq = 1, .at_ms = 1700000000000, .text = "hi\n" };
	struct log_batch batch = { .lease = "le_01jdq3k5v8e4r9t0m2n6p7a1bc", .generation = 1 };
	struct link_call call = { .op = OP_worker_logs, .in = &batch };

	batch.entries.items = &entry;
	batch.entries.len = 1;
	*err = (struct err){ 0 };
	return link_do(l, &call, &a, ack, err);
}

static void calls_are_signed(void **state)
{
	struct link *l = link_new(&fake.id, NULL);
	struct log_ack ack;
	struct err err;

	fake.sessions = 0;
	for (int i = 0; i < 5; i++) {
		if (send_log(l, &ack, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(ack.seq, 7);
	}
	assert_int_equal(fake.sessions, 1);
	assert_int_equal(link_heartbeat_ms(l), 1234);
	link_free(l);
}

static void a_lost_session_is_opened_again(void **state)
{
	struct link *l = link_new(&fake.id, NULL);
	struct log_ack ack;
	struct err err;

	fake.sessions = 0;
	assert_int_equal(send_log(l, &ack, &err), 0);
	fake.session[5] ^= 1; /* the server was restarted */
	assert_int_equal(send_log(l, &ack, &err), 0);
	assert_int_equal(fake.sessions, 2);
	/* A server that refuses whatever comes is not asked for ever. */
	fake.refuse = 100;
	assert_int_equal(send_log(l, &ack, &err), -1);
	assert_int_equal(err.code, ERR_UNAUTHENTICATED);
	assert_int_equal(fake.refuse, 98);
	fake.refuse = 0;
	link_free(l);
}

static void a_doubled_request_is_sent_anew(void **state)
{
	struct link *l = link_new(&fake.id, NULL);
	struct log_ack ack;
	struct err err;

	fake.nonce_conflicts = 1;
	assert_int_equal(send_log(l, &ack, &err), 0);
	fake.nonce_conflicts = 5;
	assert_int_equal(send_log(l, &ack, &err), -1);
	assert_int_equal(err.code, ERR_CONFLICT);
	fake.nonce_conflicts = 0;
	link_free(l);
}

static void uploads_are_covered(void **state)
{
	cleanup_arena struct arena a = { 0 };
	struct link *l = link_new(&fake.id, NULL);
	struct err err = { 0 };
	cleanup_fd int fd = state_tmp("/tmp", &err);
	uint8_t digest[SHA256_SIZE];
	struct sha256 hash;
	struct link_call call = { .op = OP_worker_result,
				  .params = { "le_01jdq3k5v8e4r9t0m2n6p7a1bc",
					      "out/a b/\xc3\xa9%" },
				  .body_fd = fd,
				  .body_size = 5,
				  .body_sha256 = digest };

	assert_int_equal(write_all(fd, "hello", 5, &err), 0);
	sha256_init(&hash);
	sha256_update(&hash, "hello", 5);
	sha256_final(&hash, digest);
	fake.session[5] ^= 1; /* also when it has to be sent twice */
	if (link_do(l, &call, &a, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(
		fake.last_path,
		"/v1/worker/leases/le_01jdq3k5v8e4r9t0m2n6p7a1bc/results/out/a%20b/%C3%A9%25");
	assert_int_equal(fake.body_size, 5);
	link_free(l);
}

static void the_servers_clock_counts(void **state)
{
	struct link *l = link_new(&fake.id, NULL);
	struct log_ack ack;
	struct err err;
	int64_t skew;

	fake.clock_ahead_ms = 40 * SECOND_MS;
	assert_int_equal(link_probe(l, &skew, &err), 0);
	assert_true(llabs(skew - 40 * SECOND_MS) < 2000);
	assert_int_equal(send_log(l, &ack, &err), 0);
	assert_true(llabs(link_now(l) - now_ms_get() - 40 * SECOND_MS) < 2000);
	fake.clock_ahead_ms = 0;
	link_free(l);
}

static void nobody_there(void **state)
{
	struct identity id = fake.id;
	struct link *l = link_new(&id, NULL);
	struct log_ack ack;
	struct err err;

	snprintf(id.server, sizeof(id.server), "http://127.0.0.1:1");
	assert_int_equal(send_log(l, &ack, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	link_free(l);
}

static void waits_grow(void **state)
{
	struct backoff b = { 0 };
	int64_t first = backoff_next(&b), last = 0;

	assert_true(first >= 100 && first <= 200);
	for (int i = 0; i < 20; i++) {
		last = backoff_next(&b);
		assert_true(last >= 100 && last <= 10000);
	}
	assert_true(last >= 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_are_signed),
		cmocka_unit_test(a_lost_session_is_opened_again),
		cmocka_unit_test(a_doubled_request_is_sent_anew),
		cmocka_unit_test(uploads_are_covered),
		cmocka_unit_test(the_servers_clock_counts),
		cmocka_unit_test(nobody_there),
		cmocka_unit_test(waits_grow),
	};

	crypto_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
