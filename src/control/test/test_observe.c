/* Heartbeats that nobody honest would send, and what becomes of tesd: its arenas have an end, over which it aborts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../db/test/stores.h"
#include "../../os/os.h"
#include "../internal.h"

#define ORG "or_0000000000000000000000000a"
#define WORKER "wk_0000000000000000000000000a"
#define NOW_MS INT64_C(1800000000000)
#define REV_MAX INT64_C(1000000000)

static int64_t now_read(void *arg)
{
	(void)arg;
	return NOW_MS;
}
static const struct clock test_clock = { .now_ms = now_read };

struct net {
	struct test_store *s;
	char dir[64];
	struct arena arena, calls;
	struct control_config config;
	struct control *c;
	int conflicts; /* of commits, until one takes effect */
};

static const struct resources small = { .cpu_milli = 1000, .memory_mib = 1024, .disk_mib = 1024 };

static struct lease *leases_make(struct arena *a, size_t len, int state)
{
	struct lease *leases = arena_array(a, struct lease, len);

	for (size_t i = 0; i < len; i++)
		leases[i] = (struct lease){
			.id = arena_printf(a, "le_%026zu", i), .org_id = ORG, .provider_org_id = ORG,
			.workload_id = arena_printf(a, "wl_%026zu", i), .replica_id = arena_printf(a, "rp_%026zu", i),
			.worker_id = WORKER, .generation = 1, .state = state, .resources = &small,
			.reserved_ms = NOW_MS - HOUR_MS, .accepted_ms = NOW_MS - HOUR_MS, .running_ms = NOW_MS - HOUR_MS,
			.grace_ms = HOUR_MS, .exit_code = -1,
		};
	return leases;
}

struct rows { struct lease *leases; size_t len; };

static int rows_tx(struct db_conn *conn, void *arg, struct err *err)
{
	const struct rows *rows = arg;
	const struct org org = { .id = ORG, .name = "provider" };
	const struct worker w = { .id = WORKER, .org_id = ORG, .public_key = "aa", .state = WORKER_ONLINE, .boot_id = "boot",
				  .joined_ms = NOW_MS, .seen_ms = NOW_MS };

	if (db_insert(conn, &org_type, "orgs", &org, err) < 0 || db_insert(conn, &worker_type, "workers", &w, err) < 0)
		return -1;
	return db_insert_many(conn, &lease_type, "leases", rows->leases, rows->len, err);
}

static enum err_code on_statement(void *arg, int64_t number, const char *sql)
{
	struct net *n = arg;

	(void)number;
	return str_eq(sql, "COMMIT") && n->conflicts-- > 0 ? ERR_RETRY : ERR_NONE;
}

static void begin(struct net *n, struct test_store *s, size_t len, int state)
{
	struct rows rows = { leases_make(&n->arena, len, state), len };
	struct err err;
	int applied;

	n->s = s;
	snprintf(n->dir, sizeof(n->dir), "/tmp/tes-observe.XXXXXX");
	assert_non_null(mkdtemp(n->dir));
	assert_ok(control_config_load(NULL, &n->arena, &n->config, &err));
	n->config.secret_key_file = arena_printf(&n->arena, "%s/secret.key", n->dir);
	assert_ok(db_migrate(s->db, NOW_MS, &applied, &err));
	assert_ok(db_tx(s->conn, rows_tx, &rows, &err));
	assert_ok(control_open(&n->config, &test_clock, &random_system, s->db, NULL, &n->c, &err));
	db_set_fault(s->db, on_statement, n);
}

static void end(struct net *n)
{
	struct err ignored = { 0 };

	db_set_fault(n->s->db, NULL, NULL);
	control_close(n->c);
	(void)!dir_remove(n->dir, &ignored);
	arena_release(&n->arena);
	arena_release(&n->calls);
}

/* What it takes of the call's arena. */
static size_t observe(struct net *n, const struct observation *in, int conflicts, struct observed *ret)
{
	struct arena *a = &n->calls;
	size_t before = a->used;
	struct call call = { .op = &operations[OP_worker_observe], .arena = a, .in = in,
			     .caller = { .kind = CALLER_WORKER, .worker_id = WORKER } };
	struct err err = { 0 };

	n->conflicts = conflicts;
	if (control_call(n->c, n->s->conn, &call, &err) < 0)
		fail_msg("%s %s", err.field, err.text);
	*ret = *(const struct observed *)call.out;
	return a->used - before;
}

static struct lease_observation *listed(struct net *n, size_t len, size_t distinct, int state)
{
	struct lease_observation *items = arena_array(&n->arena, struct lease_observation, len);

	for (size_t i = 0; i < len; i++)
		items[i] = (struct lease_observation){ .lease = arena_printf(&n->arena, "le_%026zu", MIN(i, distinct - 1)),
						       .generation = 1, .state = state, .exit_code = -1 };
	return items;
}

/* A worker that hinders its own heartbeats by others must not fill the memory. */
static void test_conflicts(void **state)
{
	enum { LEASES = 200, FEW = 64 << 10 };
	struct net n = { 0 };
	struct observation in = { .at_ms = NOW_MS, .boot_id = "boot", .desired_rev = REV_MAX };
	struct observed out;
	size_t once, often;

	begin(&n, test_store_get(state), LEASES, LEASE_RUNNING);
	in.leases.items = listed(&n, LEASES, LEASES, OBSERVED_RUNNING);
	in.leases.len = LEASES;
	once = observe(&n, &in, 0, &out);
	often = observe(&n, &in, 10, &out);
	assert_true(once < FEW && often < FEW);
	assert_int_equal(test_store_int(n.s, "SELECT COUNT(*) FROM leases WHERE observed_at_ms > 0"), LEASES);
	end(&n);
}

/* Each time that an ended lease is listed its worker is told again. */
static void test_listed_many_times(void **state)
{
	enum { LISTED = 4096, LEASES = LISTED / 2 };
	struct net n = { 0 };
	struct observation in = { .at_ms = NOW_MS, .boot_id = "boot", .desired_rev = REV_MAX };
	struct observed out;
	size_t used;

	begin(&n, test_store_get(state), LEASES, LEASE_ENDED);
	in.leases.items = listed(&n, LISTED, LEASES, OBSERVED_RUNNING);
	in.leases.len = LISTED;
	used = observe(&n, &in, 0, &out);
	assert_int_equal(out.desired_rev, LISTED);
	assert_true(used < (8 << 20));
	end(&n);
}

/* As a worker reads it. */
static void test_many_problems(void **state)
{
	enum { LISTED = 4096 };
	struct net n = { 0 };
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct observation in = { .at_ms = NOW_MS, .boot_id = "boot" };
	struct observed out, read;
	struct err err = { 0 };

	begin(&n, test_store_get(state), 0, LEASE_RUNNING);
	in.leases.items = listed(&n, LISTED, LISTED, OBSERVED_RUNNING);
	in.leases.len = LISTED;
	observe(&n, &in, 0, &out);
	schema_write(&observed_type, &out, &text);
	if (schema_parse(&observed_type, (struct slice){ text.buf, text.len }, FROM_SERVER, &n.arena, &read, &err) < 0)
		fail_msg("%s %s", err.field, err.text);
	assert_true(read.problems.len > 0);
	end(&n);
}

#define MONEY 1000000

/* Leases that have run for a minute at a dollar an hour, each with a hold; of the one in the middle it has expired. */
static int paid_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct rows *rows = arg;
	char id[ID_SIZE], hold[ID_SIZE];
	int64_t held;

	ledger_id("test", ORG, 1, id);
	if (ledger_deposit(conn, ORG, id, MONEY, "", NOW_MS, err) < 0)
		return -1;
	for (size_t i = 0; i < rows->len; i++) {
		const struct lease *l = &rows->leases[i];

		if (ledger_hold(conn, ORG, l->id, 1, 100000, false, NOW_MS, hold, &held, err) < 0 ||
		    db_exec(conn, "UPDATE transfers SET expires_ms = $2 WHERE id = $1", DB_ARGS(DB_TEXT(hold), DB_INT(i == 1)), NULL,
			    err) < 0 ||
		    db_exec(conn, "INSERT INTO workloads (id, org_id, state, spec, max_price_uusd_h, created_ms)"
				  " VALUES ($1, $2, 'running', '{}', 0, 0)", DB_ARGS(DB_TEXT(l->workload_id), DB_TEXT(ORG)), NULL,
			    err) < 0 ||
		    db_exec(conn, "INSERT INTO replicas (id, org_id, workload_id, number, state, created_ms)"
				  " VALUES ($1, $2, $3, 0, 'leased', 0)",
			    DB_ARGS(DB_TEXT(l->replica_id), DB_TEXT(ORG), DB_TEXT(l->workload_id)), NULL, err) < 0 ||
		    db_exec(conn, "UPDATE leases SET hold_id = $2, rate_uusd_h = 1000000, claimed_ms = 60000, observed_ms = 60000,"
				  " funded_ms = 3600000 WHERE id = $1", DB_ARGS(DB_TEXT(l->id), DB_TEXT(hold)), NULL, err) < 0)
			return -1;
	}
	return db_exec(conn, "UPDATE workers SET used_cpu_milli = 3000, used_memory_mib = 3072, used_disk_mib = 3072", DB_NO_ARGS, NULL,
		       err);
}

static int expires_tx(struct db_conn *conn, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(conn, "UPDATE transfers SET expires_ms = 0", DB_NO_ARGS, NULL, err);
}

/* One that cannot be settled does not hold up the others, and is settled later. */
static void test_refused(void **state)
{
	struct net n = { 0 };
	struct test_store *s = test_store_get(state);
	struct observation in = { .at_ms = NOW_MS, .boot_id = "boot" };
	struct observed out;
	struct rows rows;
	int64_t each = owed_uusd(1000000, MINUTE_MS);
	struct err err;

	begin(&n, s, 3, LEASE_RUNNING);
	rows = (struct rows){ leases_make(&n.arena, 3, LEASE_RUNNING), 3 };
	assert_ok(db_tx(s->conn, paid_tx, &rows, &err));
	in.leases.items = listed(&n, 3, 3, OBSERVED_EXITED);
	in.leases.len = 3;
	for (size_t i = 0; i < 3; i++)
		((struct lease_observation *)in.leases.items)[i].exit_code = 0;
	observe(&n, &in, 2, &out);
	assert_int_equal(out.problems.len, 1);
	assert_non_null(strstr(out.problems.items[0], "expired"));
	assert_int_equal(out.desired_rev, 2);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM leases WHERE state = 'ended' AND billed_ms = 60000 AND hold_id IS NULL"), 2);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM leases WHERE state = 'running' AND billed_uusd = 0 AND desired_rev = 0"
					   " AND desired = 'run' AND hold_id IS NOT NULL"), 1);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM workloads WHERE state = 'succeeded' AND charged_uusd > 0"), 2);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM workloads WHERE state = 'running' AND ended_ms = 0"), 1);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM replicas WHERE state = 'leased'"), 1);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM events"), 4);
	assert_int_equal(test_store_int(s, "SELECT used_cpu_milli + leases_ok FROM workers"), 1000 + 2);
	assert_int_equal(test_store_int(s, "SELECT CAST(SUM(billed_uusd) AS BIGINT) FROM leases"), 2 * each);
	assert_ok(db_tx(s->conn, expires_tx, NULL, &err));
	observe(&n, &in, 0, &out);
	assert_int_equal(out.problems.len, 0);
	assert_int_equal(test_store_int(s, "SELECT used_cpu_milli + leases_ok FROM workers"), 3);
	assert_int_equal(test_store_int(s, "SELECT credits_posted - debits_posted - debits_pending FROM accounts WHERE name = 'customer'"),
			 MONEY - 3 * each);
	end(&n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST_BOTH(test_conflicts),
		TEST_BOTH(test_listed_many_times),
		TEST_BOTH(test_many_problems),
		TEST_BOTH(test_refused),
	};

	return test_stores_run("observe", tests, ARRAY_LEN(tests));
}
