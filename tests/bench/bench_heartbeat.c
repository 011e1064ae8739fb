/* Heartbeats a second of one thread: session, MAC, nonce, JSON, operation, transaction, JSON; all but the sockets.
 *
 *   bench-heartbeat DATABASE DIRECTORY WORKERS SECONDS
 *
 * The machines have no leases, and take turns.  Signing is the machines' part and is not counted. */
#include "world.h"

#include <stdlib.h>

struct beat {
	const char *worker_id;
	char session[ID_SIZE], time[24], nonce[24], mac[2 * MAC_SIZE + 1], body[128];
	uint8_t key[32], sha256[SHA256_SIZE];
	int64_t number;
};

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

static void beat_open(struct control *c, const char *worker_id, struct beat *b)
{
	b->worker_id = worker_id;
	id_make("ss", control_now(c), &c->random, b->session);
	c->random.fill(c->random.arg, b->key, sizeof(b->key));
	uint8_t exchange[EXCHANGE_SIZE];

	c->random.fill(c->random.arg, exchange, sizeof(exchange)); /* one is good for one session */
	session_put(c->sessions, b->session, worker_id, exchange, b->key, control_now(c) + HOUR_MS);
}

static void beat_sign(struct control *c, const struct operation *op, struct beat *b)
{
	int64_t now = control_now(c);
	uint8_t mac[MAC_SIZE];
	struct sha256 hash;

	snprintf(b->body, sizeof(b->body), "{\"at_ms\":%" PRId64 ",\"boot_id\":\"bench\",\"leases\":[],\"receipts\":[]}", now);
	sha256_init(&hash);
	sha256_update(&hash, b->body, strlen(b->body));
	sha256_final(&hash, b->sha256);
	request_mac(b->key, b->session, "POST", op->path, now, ++b->number, b->sha256, mac);
	snprintf(b->time, sizeof(b->time), "%" PRId64, now);
	snprintf(b->nonce, sizeof(b->nonce), "%" PRId64, b->number);
	hex_format(mac, sizeof(mac), b->mac);
}

static int beat_take(struct control *c, struct db_conn *conn, const struct operation *op, const struct beat *b, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	cleanup_strbuf struct strbuf answer = STRBUF_INIT;
	struct observation in;
	struct http_request req = { .method = HTTP_POST, .target = op->path, .path = op->path, .arena = &a,
				    .body = slice_of(b->body) };
	struct call call = { .op = op, .arena = &a, .in = &in, .file_fd = -1 };
	struct sha256 hash;

	sha256_init(&hash);
	sha256_update(&hash, b->body, strlen(b->body));
	sha256_final(&hash, req.body_sha256);
	current = b;
	if (session_check(c, &req, &call.caller, err) < 0 || schema_parse(op->in, req.body, FROM_CLIENT, &a, &in, err) < 0 ||
	    control_call(c, conn, &call, err) < 0)
		return -1;
	schema_write(op->out, call.out, &answer);
	return 0;
}

/* Rounds of one heartbeat of each machine, until `seconds` are spent in taking them. */
static int run(struct control *c, struct db_conn *conn, const struct world *world, int64_t seconds, struct err *err)
{
	const struct operation *op = &operations[OP_worker_observe];
	struct beat *beats = xcalloc((size_t)world->worker_count, sizeof(*beats));
	double spent = 0;
	int64_t taken = 0;
	int rc = 0;

	for (int64_t i = 0; i < world->worker_count; i++)
		beat_open(c, world->workers[i], &beats[i]);
	while (rc == 0 && spent < (double)seconds) {
		double start;

		for (int64_t i = 0; i < world->worker_count; i++)
			beat_sign(c, op, &beats[i]);
		start = world_seconds();
		for (int64_t i = 0; rc == 0 && i < world->worker_count && world_seconds() - start < (double)seconds; i++, taken++)
			rc = beat_take(c, conn, op, &beats[i], err);
		spent += world_seconds() - start;
	}
	free(beats);
	if (rc == 0)
		printf("heartbeats=%" PRId64 " seconds=%.3f rate=%.0f\n", taken, spent, (double)taken / spent);
	return rc;
}

static int measure(char **argv, struct err *err)
{
	struct world_spec spec = { 0 };
	struct world_control control;
	struct world world = { 0 };
	struct db_conn *conn;
	int64_t seconds;
	int rc = -1;

	if (int_parse(argv[3], 1, 1000000, &spec.workers, err) < 0 || int_parse(argv[4], 1, 3600, &seconds, err) < 0 ||
	    world_control_open(argv[1], argv[2], &control, err) < 0)
		return -1;
	if (world_make(control.c, &spec, &world, err) == 0 && db_conn_open(control.db, &conn, err) == 0) {
		rc = run(control.c, conn, &world, seconds, err);
		db_conn_close(conn);
	}
	world_release(&world);
	world_control_close(&control);
	return rc;
}

int main(int argc, char **argv)
{
	struct err err = { 0 };

	crypto_init();
	if (argc != 5) {
		fprintf(stderr, "usage: bench-heartbeat DATABASE DIRECTORY WORKERS SECONDS\n");
		return 2;
	}
	if (measure(argv, &err) < 0) {
		fprintf(stderr, "bench-heartbeat: %s\n", err.text);
		return 1;
	}
	return 0;
}
