/* Heartbeats a second of one thread: session, MAC, nonce, JSON, operation, transaction, JSON; all but the sockets.
 *
 *   bench-heartbeat DATABASE DIRECTORY WORKERS SECONDS idle|running
 *
 * The machines take turns, on a clock that goes as theirs would: each is heard once in INTERVAL_MS, and what falls due
 * meanwhile is done in the time that is counted.  Running: each has one lease and sends a receipt for it.  Signing is the
 * machines' part and is not counted. */
#include "world.h"

#include <stdlib.h>

#define INTERVAL_MS (10 * SECOND_MS)
#define SILENT_AFTER_MS (30 * SECOND_MS)

struct beat {
	const char *worker_id;
	char session[ID_SIZE], time[24], nonce[24], mac[2 * MAC_SIZE + 1], *body;
	uint8_t key[32];
	int64_t number;
};

struct bench {
	struct control *c;
	struct db_conn *conn;
	const struct operation *op;
	const struct world *world;
	struct beat *beats;
	bool running;
	int64_t started_ms, round_ms; /* when heartbeats_round wants to come */
	double spent, cpu; /* seconds */
};

/* ---- the clock --------------------------------------------------------------------------------------- */

static int64_t bench_now_ms;

static int64_t now_read(void *arg)
{
	(void)arg;
	return bench_now_ms;
}

static const struct clock bench_clock = { .now_ms = now_read };

/* ---- one machine ------------------------------------------------------------------------------------- */

/* Linked in place of http's, which looks into libmicrohttpd's connection. */
static const struct beat *current;
const char *__wrap_http_header(const struct http_request *req, const char *name);
const char *__wrap_http_header(const struct http_request *req, const char *name)
{
	return str_eq(name, "TES-Session") ? current->session :
	       str_eq(name, "TES-Time")	   ? current->time :
	       str_eq(name, "TES-Nonce")   ? current->nonce :
	       str_eq(name, "TES-MAC")	   ? current->mac :
					     NULL;
}

static void beat_open(struct bench *x, size_t n)
{
	struct beat *b = &x->beats[n];
	struct random *rnd = &x->c->random;
	uint8_t exchange[EXCHANGE_SIZE];

	b->worker_id = x->world->workers[n];
	id_make("ss", bench_now_ms, rnd, b->session);
	rnd->fill(rnd->arg, b->key, sizeof(b->key));
	rnd->fill(rnd->arg, exchange, sizeof(exchange)); /* one is good for one session */
	session_put(x->c->sessions, b->session, b->worker_id, exchange, b->key, INT64_MAX);
}

/* Of the one lease, as the worker's meter makes it. */
static void receipt_fill(const struct bench *x, size_t n, int64_t seq, struct arena *a, struct signed_usage *ret)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	const struct usage u = {
		.lease = x->world->leases[n], .worker = x->world->workers[n], .generation = 1, .seq = seq,
		.delivered_ms = bench_now_ms - x->started_ms, .cpu_milli = 1000, .memory_mib = 1024, .at_ms = bench_now_ms,
	};
	uint8_t signature[SIGNATURE_SIZE];
	size_t head;

	strbuf_adds(&text, "tes-usage-1\n");
	head = text.len;
	schema_write(&usage_type, &u, &text);
	sign_make(text.buf, text.len, x->world->keys[n], signature);
	ret->payload = arena_strdup(a, text.buf + head);
	ret->signature = base64url_format(a, signature, sizeof(signature));
}

static void body_write(const struct bench *x, size_t n, int64_t seq, struct strbuf *out)
{
	cleanup_arena struct arena a = { 0 };
	struct signed_usage receipt;
	struct lease_observation lease = {
		.lease = x->world->leases[n], .generation = 1, .state = OBSERVED_RUNNING, .exit_code = -1,
		.delivered_ms = bench_now_ms - x->started_ms,
	};
	struct observation in = { .at_ms = bench_now_ms, .boot_id = "bench" };

	if (x->running) {
		receipt_fill(x, n, seq, &a, &receipt);
		in.desired_rev = 1;
		in.leases.items = &lease;
		in.receipts.items = &receipt;
		in.leases.len = in.receipts.len = 1;
	}
	schema_write(&observation_type, &in, out);
}

static void body_hash(const char *body, uint8_t ret[static SHA256_SIZE])
{
	struct sha256 hash;

	sha256_init(&hash);
	sha256_update(&hash, body, strlen(body));
	sha256_final(&hash, ret);
}

static void beat_sign(struct bench *x, size_t n)
{
	struct beat *b = &x->beats[n];
	cleanup_strbuf struct strbuf body = STRBUF_INIT;
	uint8_t mac[MAC_SIZE], sha256[SHA256_SIZE];

	body_write(x, n, ++b->number, &body);
	free(b->body);
	b->body = xstrdup(body.buf);
	body_hash(b->body, sha256);
	request_mac(b->key, b->session, "POST", x->op->path, bench_now_ms, b->number, sha256, mac);
	snprintf(b->time, sizeof(b->time), "%" PRId64, bench_now_ms);
	snprintf(b->nonce, sizeof(b->nonce), "%" PRId64, b->number);
	hex_format(mac, sizeof(mac), b->mac);
}

/* ---- the server -------------------------------------------------------------------------------------- */

static int beat_take(struct bench *x, const struct beat *b, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf answer = STRBUF_INIT;
	struct observation in;
	const struct observed *out;
	struct http_request req = { .method = HTTP_POST, .target = x->op->path, .path = x->op->path, .arena = &a,
				    .body = slice_of(b->body) };
	struct call call = { .op = x->op, .arena = &a, .in = &in, .file_fd = -1 };

	body_hash(b->body, req.body_sha256);
	current = b;
	if (session_check(x->c, &req, &call.caller, err) < 0 ||
	    schema_parse(x->op->in, req.body, FROM_CLIENT, &a, &in, err) < 0 || control_call(x->c, x->conn, &call, err) < 0)
		return -1;
	schema_write(x->op->out, call.out, &answer);
	out = call.out;
	return out->problems.len ? err_set(err, ERR_INTERNAL, "%s", out->problems.items[0]) : 0;
}

/* As the duty that does it, which comes every 2 s by itself. */
static int due_do(struct bench *x, struct err *err)
{
	if (bench_now_ms < x->round_ms)
		return 0;
	x->round_ms = bench_now_ms + 2 * SECOND_MS;
	return heartbeats_round(x->c, x->conn, bench_now_ms, &x->round_ms, err);
}

/* Each machine once, spread over the interval. */
static int round_take(struct bench *x, struct err *err)
{
	const int64_t begin_ms = bench_now_ms, count = x->world->worker_count;
	double start, cpu;
	int rc = 0;

	for (int64_t i = 0; i < count; i++)
		beat_sign(x, (size_t)i);
	start = world_seconds();
	cpu = world_cpu_seconds();
	for (int64_t i = 0; rc == 0 && i < count; i++) {
		bench_now_ms = begin_ms + i * INTERVAL_MS / count;
		rc = due_do(x, err) < 0 ? -1 : beat_take(x, &x->beats[i], err);
	}
	bench_now_ms = begin_ms + INTERVAL_MS;
	x->spent += world_seconds() - start;
	x->cpu += world_cpu_seconds() - cpu;
	return rc;
}

/* As if they had been heard all along: in each round as many of the stored times of being seen have grown old as in any. */
static int seen_spread_tx(struct db_conn *conn, void *arg, struct err *err)
{
	const struct bench *x = arg;
	const struct world *w = x->world;
	const int64_t rounds = seen_lag_ms(x->c) / INTERVAL_MS;

	for (int64_t i = 0; i < w->worker_count; i++)
		if (db_exec(conn, "UPDATE workers SET seen_ms = seen_ms - $2 WHERE id = $1",
			    DB_ARGS(DB_TEXT(w->workers[i]), DB_INT(i % rounds * INTERVAL_MS)), NULL, err) < 0)
			return -1;
	return 0;
}

/* Whole rounds, until `seconds` are spent in taking them.  One is not counted, after which the server knows its workers. */
static int run(struct bench *x, int64_t seconds, struct err *err)
{
	int64_t taken = 0;

	if (db_tx(x->conn, seen_spread_tx, x, err) < 0 || round_take(x, err) < 0)
		return -1;
	x->spent = x->cpu = 0;
	for (; x->spent < (double)seconds; taken += x->world->worker_count)
		if (round_take(x, err) < 0)
			return -1;
	printf("heartbeats=%" PRId64 " seconds=%.3f rate=%.0f cpu_us_each=%.1f\n", taken, x->spent, (double)taken / x->spent,
	       x->cpu * 1e6 / (double)taken);
	return 0;
}

static int measure_world(struct bench *x, int64_t seconds, struct err *err)
{
	int rc;

	x->op = &operations[OP_worker_observe];
	x->started_ms = bench_now_ms;
	x->c->config.heartbeat_ms = INTERVAL_MS;
	x->c->config.silent_after_ms = SILENT_AFTER_MS;
	x->beats = xcalloc((size_t)x->world->worker_count, sizeof(*x->beats));
	for (int64_t i = 0; i < x->world->worker_count; i++)
		beat_open(x, (size_t)i);
	bench_now_ms += INTERVAL_MS;
	rc = run(x, seconds, err);
	for (int64_t i = 0; i < x->world->worker_count; i++)
		free(x->beats[i].body);
	free(x->beats);
	return rc;
}

static int measure(char **argv, struct err *err)
{
	struct world_spec spec = { 0 };
	struct world_control control;
	struct world world = { 0 };
	struct bench x = { .world = &world, .running = str_eq(argv[5], "running") };
	int64_t seconds;
	int rc = -1;

	bench_now_ms = clock_now(&clock_system);
	if (int_parse(argv[3], 1, 1000000, &spec.workers, err) < 0 || int_parse(argv[4], 1, 3600, &seconds, err) < 0 ||
	    world_control_open(argv[1], argv[2], &bench_clock, &control, err) < 0)
		return -1;
	spec.leases = x.running ? spec.workers : 0;
	x.c = control.c;
	if (world_make(control.c, &spec, &world, err) == 0 && db_conn_open(control.db, &x.conn, err) == 0) {
		rc = measure_world(&x, seconds, err);
		db_conn_close(x.conn);
	}
	world_release(&world);
	world_control_close(&control);
	return rc;
}

int main(int argc, char **argv)
{
	struct err err = { 0 };

	crypto_init();
	if (argc != 6 || !(str_eq(argv[5], "idle") || str_eq(argv[5], "running"))) {
		fprintf(stderr, "usage: bench-heartbeat DATABASE DIRECTORY WORKERS SECONDS idle|running\n");
		return 2;
	}
	if (measure(argv, &err) < 0) {
		fprintf(stderr, "bench-heartbeat: %s\n", err.text);
		return 1;
	}
	return 0;
}
