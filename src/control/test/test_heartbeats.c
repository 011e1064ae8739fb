/* Heartbeats of idle workers: when the store is asked, what it is told, and who is called silent.  One store, two tesd on
 * it, a clock of ours; every statement is counted. */
#include "../internal.h"

#include "../../os/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define HEARTBEAT_MS (10 * SECOND_MS)
#define SILENT_MS (30 * SECOND_MS)
#define WORKER "wk_0000000000000000000000000a"
#define BOOT "boot-1"

enum { HERE, THERE, CONTROLS };

struct net {
	char dir[64];
	struct arena arena;
	struct control_config config;
	struct db *db;
	struct db_conn *conn, *other;
	struct control *c[CONTROLS]; /* workers are heard by the first; the second leads */
	int64_t now_ms;
	int64_t statements;
	bool cannot_store;    /* what rounds write */
	bool change_in_round; /* while a round reads */
	int wakes;
};

static struct net *net;

static int64_t now_read(void *arg)
{
	(void)arg;
	return net->now_ms;
}
static const struct clock test_clock = { .now_ms = now_read };

static int changed_tx(struct db_conn *conn, void *arg, struct err *err)
{
	heartbeat_changed(net->c[HERE], conn, WORKER);
	return arg ? err_set(err, ERR_CONFLICT, "rolled back") : 0;
}

static enum err_code on_statement(void *arg, int64_t number, const char *sql)
{
	(void)arg;
	(void)number;
	net->statements++;
	if (net->change_in_round && str_starts(sql, "SELECT id, boot_id")) {
		struct err err = { 0 };

		net->change_in_round = false;
		if (db_tx(net->other, changed_tx, NULL, &err) < 0)
			fail_msg("%s", err.text);
	}
	return net->cannot_store && str_starts(sql, "UPDATE workers SET seen_ms = $2 WHERE") ? ERR_UNAVAILABLE : ERR_NONE;
}

#define must(call)                                                     \
	do {                                                           \
		struct err err = { 0 };                                \
		if ((call) < 0)                                        \
			fail_msg("%s: %s %s", #call, err.field, err.text); \
	} while (0)

/* ---- the network ------------------------------------------------------------------------------------------- */

static void control_up(int i)
{
	must(control_open(&net->config, &test_clock, &random_system, net->db, NULL, &net->c[i], &err));
}

static int rows_tx(struct db_conn *conn, void *arg, struct err *err)
{
	const struct org org = { .id = "or_0000000000000000000000000a", .name = "provider" };
	const struct worker w = { .id = WORKER, .org_id = org.id, .public_key = "aa", .state = WORKER_ONLINE, .boot_id = BOOT,
				  .joined_ms = net->now_ms, .seen_ms = net->now_ms };

	(void)arg;
	return db_insert(conn, &org_type, "orgs", &org, err) < 0 ? -1 : db_insert(conn, &worker_type, "workers", &w, err);
}

static int setup(void **state)
{
	struct net *n = xcalloc(1, sizeof(*n));
	int applied;

	(void)state;
	net = n;
	n->now_ms = INT64_C(1800000000000);
	snprintf(n->dir, sizeof(n->dir), "/tmp/tes-heartbeats.XXXXXX");
	assert_non_null(mkdtemp(n->dir));
	must(control_config_load(NULL, &n->arena, &n->config, &err));
	n->config.secret_key_file = arena_printf(&n->arena, "%s/secret.key", n->dir);
	n->config.heartbeat_ms = HEARTBEAT_MS;
	n->config.silent_after_ms = SILENT_MS;
	must(db_open("sqlite::memory:", &n->db, &err));
	must(db_migrate(n->db, n->now_ms, &applied, &err));
	must(db_conn_open(n->db, &n->conn, &err));
	must(db_conn_open(n->db, &n->other, &err));
	control_up(HERE);
	control_up(THERE);
	must(db_tx(n->conn, rows_tx, NULL, &err));
	db_set_fault(n->db, on_statement, NULL);
	return 0;
}

static int teardown(void **state)
{
	struct err ignored = { 0 };

	(void)state;
	for (int i = 0; i < CONTROLS; i++)
		control_close(net->c[i]);
	db_conn_close(net->conn);
	db_conn_close(net->other);
	db_close(net->db);
	(void)!dir_remove(net->dir, &ignored);
	arena_release(&net->arena);
	free(net);
	return 0;
}

/* ERR_NONE, or why the heartbeat was refused; *ret_asked: whether the store had to do with it. */
static enum err_code beat(const char *boot_id, bool *ret_asked, int64_t *ret_desired_rev)
{
	cleanup_arena struct arena a = { 0 };
	const struct observation in = { .at_ms = net->now_ms, .boot_id = boot_id };
	struct call call = { .op = &operations[OP_worker_observe], .arena = &a, .in = &in,
			     .caller = { .kind = CALLER_WORKER, .worker_id = WORKER } };
	struct err err = { 0 };
	int64_t before = net->statements;

	if (control_call(net->c[HERE], net->conn, &call, &err) < 0)
		return err.code;
	if (ret_asked)
		*ret_asked = net->statements > before;
	if (ret_desired_rev)
		*ret_desired_rev = ((const struct observed *)call.out)->desired_rev;
	return ERR_NONE;
}

static bool beat_asks(void)
{
	bool asked;

	assert_int_equal(beat(BOOT, &asked, NULL), ERR_NONE);
	return asked;
}

static int sql_tx(struct db_conn *conn, void *arg, struct err *err)
{
	return db_exec(conn, arg, DB_NO_ARGS, NULL, err);
}

/* As another process: nobody here is told. */
static void elsewhere(const char *sql)
{
	must(db_tx(net->conn, sql_tx, (void *)sql, &err));
}

static int64_t stored(const char *sql)
{
	int64_t value = 0;

	must(db_query_int(net->conn, sql, DB_NO_ARGS, -1, &value, &err));
	return value;
}

static int64_t seen_ms(void)
{
	return stored("SELECT seen_ms FROM workers");
}

static bool is_online(void)
{
	return stored("SELECT COUNT(*) FROM workers WHERE state = 'online'") == 1;
}

/* The duty, on both; each time after a second. */
static void second(void)
{
	net->now_ms += SECOND_MS;
	for (int i = CONTROLS - 1; i >= 0; i--) {
		int64_t next;
		struct err err = { 0 };

		if (net->c[i] && faults_round(net->c[i], net->conn, net->now_ms, &next, &err) < 0 && !net->cannot_store)
			fail_msg("faults: %s", err.text);
	}
}

static void seconds(int count)
{
	for (int i = 0; i < count; i++)
		second();
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static void test_from_memory(void **state)
{
	(void)state;
	assert_true(beat_asks());
	assert_false(beat_asks());
	net->now_ms += HEARTBEAT_MS - 1;
	assert_false(beat_asks());
	net->now_ms++; /* nobody has looked meanwhile */
	assert_true(beat_asks());
	net->now_ms -= SECOND_MS; /* the clock is set back */
	assert_true(beat_asks());
}

/* While it is known that the worker is idle, but what is stored of it grows too old. */
static void test_stored_time(void **state)
{
	(void)state;
	net->now_ms += SILENT_MS - HEARTBEAT_MS / 2;
	assert_true(beat_asks());
	net->now_ms += HEARTBEAT_MS / 2 - 1;
	assert_false(beat_asks());
	net->now_ms++;
	assert_true(beat_asks());
	assert_int_equal(seen_ms(), net->now_ms);
}

static void test_not_from_memory(void **state)
{
	const struct inventory inventory = { .hostname = "sim" };
	const struct observation in = { .at_ms = net->now_ms, .boot_id = BOOT, .inventory = &inventory };
	cleanup_arena struct arena a = { 0 };
	struct call call = { .op = &operations[OP_worker_observe], .arena = &a, .in = &in,
			     .caller = { .kind = CALLER_WORKER, .worker_id = WORKER } };

	(void)state;
	beat_asks();
	assert_int_equal(beat("boot-2", NULL, NULL), ERR_CONFLICT);
	beat_asks();
	assert_false(beat_asks());
	net->now_ms += SECOND_MS;
	must(control_call(net->c[HERE], net->conn, &call, &err));
	assert_int_equal(seen_ms(), net->now_ms);
	assert_true(beat_asks());
}

static int desired_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct lease lease = { .id = "le_0000000000000000000000000a", .worker_id = WORKER };

	/* It is not there, which is found after the worker's number was counted up. */
	return lease_desired_push(arg, conn, &lease, err) < 0 && err->code == ERR_NOT_FOUND ? (err_clear(err), 0) : -1;
}

static void test_told_at_once(void **state)
{
	int64_t rev;

	(void)state;
	beat_asks();
	must(db_tx(net->conn, desired_tx, net->c[HERE], &err));
	assert_int_equal(beat(BOOT, NULL, &rev), ERR_NONE);
	assert_int_equal(rev, 1);
	assert_int_equal(beat(BOOT, NULL, &rev), ERR_NONE);
	assert_int_equal(rev, 1);
}

static enum err_code intend(int intent, bool leave)
{
	cleanup_arena struct arena a = { 0 };
	const struct intent_request in = { .intent = intent, .leave = leave };
	struct call call = { .op = &operations[OP_worker_intent], .arena = &a, .in = &in,
			     .caller = { .kind = CALLER_WORKER, .worker_id = WORKER } };
	struct err err = { 0 };

	return control_call(net->c[HERE], net->conn, &call, &err) < 0 ? err.code : ERR_NONE;
}

static void test_owner(void **state)
{
	(void)state;
	beat_asks();
	assert_int_equal(intend(INTENT_PAUSED, false), ERR_NONE);
	assert_true(beat_asks());
	assert_int_equal(intend(INTENT_DRAINING, false), ERR_NONE);
	assert_true(beat_asks());
	assert_false(beat_asks());
	assert_int_equal(intend(INTENT_DRAINING, true), ERR_NONE);
	assert_int_equal(beat(BOOT, NULL, NULL), ERR_GONE);
}

/* What somebody read from the store before the change and keeps after it. */
static void test_read_under_way(void **state)
{
	struct control *c = net->c[HERE];
	struct err ignored = { 0 };
	int64_t rev;
	uint64_t era, later;

	(void)state;
	for (int rolled_back = 0; rolled_back < 2; rolled_back++) {
		assert_false(heartbeat_find(c, WORKER, BOOT, net->now_ms, &rev, &era));
		assert_int_equal(db_tx(net->conn, changed_tx, rolled_back ? c : NULL, &ignored), rolled_back ? -1 : 0);
		heartbeat_keep(c, WORKER, BOOT, net->now_ms, 5, net->now_ms, era);
		assert_false(heartbeat_find(c, WORKER, BOOT, net->now_ms, &rev, &later));
		heartbeat_keep(c, WORKER, BOOT, net->now_ms, 5, net->now_ms, later);
		assert_true(heartbeat_find(c, WORKER, BOOT, net->now_ms, &rev, &era));
		assert_int_equal(rev, 5);
		must(db_tx(net->conn, changed_tx, NULL, &err));
	}
	beat_asks();
	net->change_in_round = true;
	seconds(HEARTBEAT_MS / SECOND_MS - 1);
	assert_false(net->change_in_round);
	assert_true(beat_asks());
}

/* Somebody who is heard all the time costs the store what rounds ask and write, and nothing else. */
static void test_hours(void **state)
{
	int64_t seen = seen_ms(), writes = 0;

	(void)state;
	beat_asks();
	for (int i = 0; i < 360; i++) {
		seconds(HEARTBEAT_MS / SECOND_MS);
		assert_false(beat_asks());
		assert_true(net->now_ms - seen_ms() < SILENT_MS);
		writes += seen_ms() != seen;
		seen = seen_ms();
	}
	assert_true(is_online());
	assert_in_range(writes, 1, 360 / 2);
}

static void woken(void *arg)
{
	(void)arg;
	net->wakes++;
}

/* Another tesd, or `tesd admin`, is noticed within a heartbeat; and the worker's stream is woken. */
static void test_elsewhere(void **state)
{
	struct hub_listener *l = hub_listen(net->c[HERE]->hub, "worker:" WORKER, woken, NULL);
	int64_t rev;

	(void)state;
	beat_asks();
	elsewhere("UPDATE workers SET desired_rev = 7");
	seconds(HEARTBEAT_MS / SECOND_MS);
	assert_int_equal(net->wakes, 1);
	assert_int_equal(beat(BOOT, NULL, &rev), ERR_NONE);
	assert_int_equal(rev, 7);
	hub_unlisten(l);
	elsewhere("UPDATE workers SET boot_id = 'boot-2'");
	seconds(HEARTBEAT_MS / SECOND_MS);
	assert_int_equal(beat(BOOT, NULL, NULL), ERR_CONFLICT);
	elsewhere("UPDATE workers SET boot_id = '" BOOT "'");
	beat_asks();
	assert_false(beat_asks());
	elsewhere("UPDATE workers SET state = 'left'");
	seconds(HEARTBEAT_MS / SECOND_MS);
	assert_int_equal(beat(BOOT, NULL, NULL), ERR_GONE);
}

/* A round stores only what it may. */
static void test_not_stored(void **state)
{
	static const char *const changes[] = { "UPDATE workers SET boot_id = 'boot-2'", "UPDATE workers SET state = 'offline'",
					       "UPDATE workers SET seen_ms = seen_ms + 25000" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		net->now_ms += MINUTE_MS;
		elsewhere("UPDATE workers SET boot_id = '" BOOT "', state = 'online', seen_ms = 0");
		assert_true(beat_asks());
		assert_int_equal(seen_ms(), net->now_ms);
		for (int n = 0; n < 2; n++) {
			seconds(HEARTBEAT_MS / SECOND_MS - 1);
			net->now_ms += SECOND_MS;
			beat_asks();
		}
		int64_t seen = seen_ms(), after = i == 2 ? seen + 25000 : seen;

		assert_true(net->now_ms - seen >= 2 * HEARTBEAT_MS);
		elsewhere(changes[i]);
		second();
		assert_int_equal(seen_ms(), after);
	}
}

/* Whatever becomes of what is to be stored, of this tesd and of its memory: who is answered is never called silent. */
static void test_never_silent(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		net->cannot_store = i % 100 >= 20 && i % 100 < 60;
		if (i % 37 == 36) {
			control_close(net->c[HERE]);
			control_up(HERE);
		}
		seconds((int)(HEARTBEAT_MS / SECOND_MS) + i % 3 - 1);
		beat_asks();
		second();
		assert_true(is_online());
	}
	net->cannot_store = false;
	assert_int_equal(stored("SELECT COUNT(*) FROM events WHERE kind = 'worker.offline'"), 0);
}

/* Silent after SILENT_MS at the earliest, and with the lag and a round of the duty at the latest. */
static void test_silent(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		int64_t last, gone;

		seconds(i);
		for (int n = 0; n < i; n++) {
			seconds(HEARTBEAT_MS / SECOND_MS);
			beat_asks();
		}
		beat_asks();
		last = net->now_ms;
		while (is_online() && net->now_ms < last + HOUR_MS)
			second();
		gone = net->now_ms - last;
		assert_in_range(gone, SILENT_MS, SILENT_MS + seen_lag_ms(net->c[HERE]) + 2 * SECOND_MS);
		assert_true(beat_asks()); /* back again */
		assert_true(is_online());
	}
}

/* Those that are no longer heard take no memory, and are not asked about. */
static void test_forgotten(void **state)
{
	int64_t next, before;

	(void)state;
	beat_asks();
	assert_int_equal(heartbeats_count(net->c[HERE]->heartbeats), 1);
	seconds(3 * SILENT_MS / SECOND_MS);
	assert_int_equal(heartbeats_count(net->c[HERE]->heartbeats), 0);
	before = net->statements;
	net->now_ms += MINUTE_MS;
	must(heartbeats_round(net->c[HERE], net->conn, net->now_ms, &next, &err));
	assert_int_equal(net->statements, before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_from_memory), TEST(test_stored_time), TEST(test_not_from_memory), TEST(test_told_at_once), TEST(test_owner),
		TEST(test_read_under_way), TEST(test_hours), TEST(test_elsewhere), TEST(test_not_stored),
		TEST(test_never_silent), TEST(test_silent), TEST(test_forgotten),
	};

	crypto_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("control-heartbeats", tests, NULL, NULL);
}
