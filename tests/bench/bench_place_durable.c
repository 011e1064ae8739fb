/* Placements decided and committed a second: tesd's own scheduling rounds over a store with waiting workloads.
 *
 *   bench-place-durable DATABASE DIRECTORY WORKERS WORKLOADS
 *
 * The store is empty at first.  Counted is from the first round to the last replica leased, with reading the waiting
 * replicas, the choice, capacity, devices, hold, lease and events of each, and the commit.  The machines are in memory
 * before, as in a tesd that runs. */
#include "world.h"

#include <stdlib.h>

#define SUBMITTERS 32 /* what they submit at the same time is committed together */

struct submitter {
	struct control *c;
	const struct world *world;
	int64_t from, to;
	pthread_t thread;
	struct err err;
};

static int submit_one(struct submitter *s, struct db_conn *conn, int64_t n, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct workload_spec spec;
	struct resources want;
	const char *region;
	struct call call = {
		.op = &operations[OP_workload_create], .arena = &a, .in = &spec,
		.caller = { .kind = CALLER_KEY, .org_id = s->world->customer, .key_id = "bench", .role = ROLE_OWNER,
			    .scopes = SCOPE_ALL },
	};

	schema_defaults(&workload_spec_type, &spec);
	world_want(n, &want, &region);
	spec.image = "docker.io/library/debian:12";
	spec.resources = &want;
	spec.region = region;
	spec.max_price_uusd_h = 10 * 1000000;
	return control_call(s->c, conn, &call, err);
}

static void *submit_some(void *arg)
{
	struct submitter *s = arg;
	struct db_conn *conn;

	if (db_conn_open(s->c->db, &conn, &s->err) < 0)
		return NULL;
	for (int64_t n = s->from; n < s->to; n++)
		if (submit_one(s, conn, n, &s->err) < 0)
			break;
	db_conn_close(conn);
	return NULL;
}

static int submit(struct control *c, const struct world *world, int64_t count, struct err *err)
{
	struct submitter *all = xcalloc(SUBMITTERS, sizeof(*all));
	double start = world_seconds();
	int rc = 0;

	for (int i = 0; i < SUBMITTERS; i++) {
		all[i] = (struct submitter){ .c = c, .world = world, .from = count * i / SUBMITTERS,
					     .to = count * (i + 1) / SUBMITTERS };
		if (pthread_create(&all[i].thread, NULL, submit_some, &all[i]) != 0)
			abort();
	}
	for (int i = 0; i < SUBMITTERS; i++) {
		pthread_join(all[i].thread, NULL);
		if (all[i].err.code) {
			*err = all[i].err;
			rc = -1;
		}
	}
	free(all);
	printf("submits=%.0f ", (double)count / (world_seconds() - start));
	return rc;
}

static int leased(struct db_conn *conn, int64_t *ret, struct err *err)
{
	return db_query_int(conn, "SELECT COUNT(*) FROM leases", DB_NO_ARGS, 0, ret, err);
}

static int pool_warm(struct control *c, struct db_conn *conn, struct err *err)
{
	cleanup_arena struct arena a = { 0 };
	struct offer_page page;
	struct offer_query query;

	schema_defaults(&offer_query_type, &query);
	return scheduler_offers(c, conn, &query, &a, &page, err);
}

static int run(struct control *c, struct db_conn *conn, int64_t count, struct err *err)
{
	int64_t next, done = 0, before = -1;
	double start = world_seconds(), cpu = world_cpu_seconds();

	while (done < count && done != before) {
		int64_t now = control_now(c);

		/* A round that fills its batch asks to come again at once. */
		do {
			now = control_now(c);
			if (scheduler_round(c, conn, now, &next, err) < 0)
				return -1;
		} while (next <= now);
		before = done;
		if (leased(conn, &done, err) < 0)
			return -1;
	}
	double seconds = world_seconds() - start;

	printf("placed=%" PRId64 " of=%" PRId64 " seconds=%.3f rate=%.0f cpu_us_each=%.1f\n", done, count, seconds,
	       (double)done / seconds, (world_cpu_seconds() - cpu) * 1e6 / (double)done);
	return done == count ? 0 : err_set(err, ERR_INTERNAL, "only %" PRId64 " of %" PRId64 " were placed", done, count);
}

static int measure(char **argv, struct err *err)
{
	struct world_spec spec = { 0 };
	struct world_control control;
	struct world world = { 0 };
	struct db_conn *conn;
	int64_t workloads;
	int rc = -1;

	if (int_parse(argv[3], 1, 10000000, &spec.workers, err) < 0 || int_parse(argv[4], 1, 10000000, &workloads, err) < 0 ||
	    world_control_open(argv[1], argv[2], &clock_system, &control, err) < 0)
		return -1;
	if (world_make(control.c, &spec, &world, err) == 0 && db_conn_open(control.db, &conn, err) == 0) {
		rc = submit(control.c, &world, workloads, err) < 0 || pool_warm(control.c, conn, err) < 0 ?
			     -1 :
			     run(control.c, conn, workloads, err);
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
		fprintf(stderr, "usage: bench-place-durable DATABASE DIRECTORY WORKERS WORKLOADS\n");
		return 2;
	}
	if (measure(argv, &err) < 0) {
		fprintf(stderr, "bench-place-durable: %s\n", err.text);
		return 1;
	}
	return 0;
}
