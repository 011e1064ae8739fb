/* Transactions: all or nothing, whoever else is at it and whatever breaks. */
#include "stores.h"

#include "../internal.h"

#include <pthread.h>
#include <unistd.h>

static const char tables[] = "CREATE TABLE counter (id TEXT PRIMARY KEY, n BIGINT NOT NULL);\n"
			     "INSERT INTO counter (id, n) VALUES ('a', 0), ('b', 0);\n";

static int set(struct db_conn *c, const char *id, int64_t n, struct err *err)
{
	return db_exec(c, "UPDATE counter SET n = $2 WHERE id = $1",
		       DB_ARGS(DB_TEXT(id), DB_INT(n)), NULL, err);
}

static int get(struct db_conn *c, const char *id, int64_t *ret, struct err *err)
{
	return db_query_int(c, "SELECT n FROM counter WHERE id = $1", DB_ARGS(DB_TEXT(id)), -1,
			    ret, err);
}

static int64_t value(struct test_store *s, const char *id)
{
	struct err err;
	int64_t n;

	assert_ok(get(s->conn, id, &n, &err));
	return n;
}

/* Reads, then writes what it read and one more: an update is lost unless this is
 * serializable. */
static int increment(struct db_conn *c, void *arg, struct err *err)
{
	int64_t n;

	return get(c, "a", &n, err) || set(c, "a", n + 1, err) ? -1 : 0;
}

/* ---- concurrency ------------------------------------------------------------------------- */

#define THREADS 12
#define ROUNDS	25

struct thread {
	pthread_t id;
	struct db *db;
	const char *url; /* to be opened anew; NULL: use db */
	db_tx_fn *fn;
	char failed[240];
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct db_conn *c;
	struct err err;

	if ((t->url && db_open(t->url, &t->db, &err)) || db_conn_open(t->db, &c, &err)) {
		snprintf(t->failed, sizeof(t->failed), "%s", err.text);
		return NULL;
	}
	for (int i = 0; i < ROUNDS; i++)
		if (db_tx(c, t->fn, NULL, &err))
			snprintf(t->failed, sizeof(t->failed), "%s", err.text);
	db_conn_close(c);
	if (t->url)
		db_close(t->db);
	return NULL;
}

static void threads_run(struct db *db, const char *url, db_tx_fn *fn)
{
	struct thread threads[THREADS] = { 0 };

	for (int i = 0; i < THREADS; i++) {
		threads[i].db = db;
		threads[i].url = url;
		threads[i].fn = fn;
		assert_int_equal(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i].id, NULL);
	for (int i = 0; i < THREADS; i++)
		assert_string_equal(threads[i].failed, "");
}

static void no_increment_is_lost(void **state)
{
	struct test_store *s = test_store_get(state);

	test_store_run(s, tables);
	threads_run(s->db, NULL, increment);
	assert_int_equal(value(s, "a"), THREADS * ROUNDS);
}

/* Each thread as a process of its own would, with its own struct db on the same file. */
static void no_increment_is_lost_between_processes(void **state)
{
	struct test_store s = *test_store_get(state);
	char dir[] = "/tmp/tes-tx-XXXXXX";
	struct err err;

	assert_non_null(mkdtemp(dir));
	snprintf(s.url, sizeof(s.url), "sqlite:%s/db", dir);
	assert_ok(db_open(s.url, &s.db, &err));
	assert_ok(db_conn_open(s.db, &s.conn, &err));
	test_store_run(&s, tables);
	threads_run(NULL, s.url, increment);
	assert_int_equal(value(&s, "a"), THREADS * ROUNDS);
	db_conn_close(s.conn);
	db_close(s.db);
	assert_int_equal(unlink(s.url + strlen("sqlite:")), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* Each sees that the sum is even before it adds one to one of the two: at most one of them
 * may. */
static int skew(struct db_conn *c, void *arg, struct err *err)
{
	static atomic_int turn;
	const char *mine = atomic_fetch_add(&turn, 1) % 2 ? "a" : "b";
	int64_t a, b;

	if (get(c, "a", &a, err) || get(c, "b", &b, err))
		return -1;
	if ((a + b) % 2)
		return 0;
	return set(c, mine, (!strcmp(mine, "a") ? a : b) + 1, err);
}

static void no_write_skew(void **state)
{
	struct test_store *s = test_store_get(state);

	test_store_run(s, tables);
	threads_run(s->db, NULL, skew);
	assert_int_equal(value(s, "a") + value(s, "b"), 1);
}

/* ---- retry ------------------------------------------------------------------------------- */

struct clash {
	struct db_conn *other;
	int runs;
};

/* In its first run somebody else changes what it has read. */
static int clash_run(struct db_conn *c, void *arg, struct err *err)
{
	struct clash *clash = arg;
	int64_t n;

	if (get(c, "a", &n, err))
		return -1;
	if (clash->runs++ == 0 && clash->other) {
		struct err ignored;
		assert_int_equal(db_tx(clash->other, increment, NULL, &ignored), 0);
	}
	return set(c, "a", n + 10, err);
}

/* On SQLite a writer waits for the other one before it begins. */
static void serialization_failure_runs_again(void **state)
{
	struct test_store *s = test_store_get(state);
	struct clash clash = { 0 };
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_conn_open(s->db, &clash.other, &err));
	assert_ok(db_tx(s->conn, clash_run, &clash, &err));
	assert_int_equal(clash.runs, 2);
	assert_int_equal(value(s, "a"), 11);
	db_conn_close(clash.other);
}

static int retry_always(struct db_conn *c, void *arg, struct err *err)
{
	++*(int *)arg;
	if (set(c, "a", 5, err))
		return -1;
	return err_set(err, ERR_RETRY, "not yet");
}

static int retry_thrice(struct db_conn *c, void *arg, struct err *err)
{
	return *(int *)arg < 3 ? retry_always(c, arg, err) : 0;
}

static void retry_on_request(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int runs = 0;

	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, retry_thrice, &runs, &err));
	assert_int_equal(runs, 3);
	assert_int_equal(value(s, "a"), 0);
	runs = 0;
	assert_fails(db_tx(s->conn, retry_always, &runs, &err), ERR_UNAVAILABLE);
	assert_true(runs > 10 && runs <= BACKOFF_ATTEMPTS_MAX);
	assert_non_null(strstr(err.text, "not yet"));
	assert_false(db_in_tx(s->conn));
}

/* ---- all or nothing ---------------------------------------------------------------------- */

static int write_and_fail(struct db_conn *c, void *arg, struct err *err)
{
	if (set(c, "a", 99, err))
		return -1;
	assert_true(db_in_tx(c));
	return err_set(err, ERR_FUNDS, "no");
}

static int overlook_failure(struct db_conn *c, void *arg, struct err *err)
{
	struct err mine;
	int64_t n;

	if (set(c, "a", 99, err))
		return -1;
	assert_int_equal(db_exec(c, "INSERT INTO counter (id, n) VALUES ('a', 1)", DB_NO_ARGS,
				 NULL, &mine),
			 -1);
	assert_int_equal(mine.code, ERR_CONFLICT);
	assert_int_equal(get(c, "a", &n, &mine), -1);
	assert_int_equal(mine.code, ERR_INTERNAL);
	return 0;
}

static void failure_rolls_back(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;

	test_store_run(s, tables);
	assert_fails(db_tx(s->conn, write_and_fail, NULL, &err), ERR_FUNDS);
	assert_int_equal(value(s, "a"), 0);
	assert_fails(db_tx(s->conn, overlook_failure, NULL, &err), ERR_CONFLICT);
	assert_int_equal(value(s, "a"), 0);
	assert_ok(db_tx(s->conn, increment, NULL, &err));
	assert_int_equal(value(s, "a"), 1);
}

struct snapshot {
	struct db_conn *other;
	int64_t before, after;
};

static int read_twice(struct db_conn *c, void *arg, struct err *err)
{
	struct snapshot *s = arg;
	struct err other;

	if (get(c, "a", &s->before, err))
		return -1;
	assert_int_equal(db_tx(s->other, increment, NULL, &other), 0);
	return get(c, "a", &s->after, err);
}

/* Reads, lets others come between, and writes what follows from it. */
static int increment_slowly(struct db_conn *c, void *arg, struct err *err)
{
	const struct timespec between = { .tv_nsec = 3000000 };
	int64_t n;

	if (db_query_int(c, "SELECT n FROM counter WHERE id = 'a'", DB_NO_ARGS, -1, &n, err))
		return -1;
	nanosleep(&between, NULL);
	return db_exec(c, "UPDATE counter SET n = $1 WHERE id = 'a'", DB_ARGS(DB_INT(n + 1)), NULL, err);
}

/* All of them come through, each once. */
static void contention(void **state)
{
	struct test_store *s = test_store_get(state);

	test_store_run(s, tables);
	threads_run(s->db, NULL, increment_slowly);
	assert_int_equal(value(s, "a"), THREADS * ROUNDS);
}

static void read_is_a_snapshot(void **state)
{
	struct test_store *s = test_store_get(state);
	struct snapshot snapshot = { 0 };
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_conn_open(s->db, &snapshot.other, &err));
	assert_ok(db_read(s->conn, read_twice, &snapshot, &err));
	assert_int_equal(snapshot.before, 0);
	assert_int_equal(snapshot.after, 0);
	assert_int_equal(value(s, "a"), 1);
	db_conn_close(snapshot.other);
}

static int read_one(struct db_conn *c, void *arg, struct err *err)
{
	return db_query_int(c, "SELECT n FROM counter WHERE id = 'a'", DB_NO_ARGS, -1, arg, err);
}

static int read_one_again(struct db_conn *c, void *arg, struct err *err)
{
	assert_true(db_in_tx(c));
	assert_int_equal(read_one(c, arg, err), 0);
	return read_one(c, arg, err);
}

static int read_one_writing(struct db_conn *c, void *arg, struct err *err)
{
	return db_query_int(c, "UPDATE counter SET n = 7 RETURNING n", DB_NO_ARGS, 0, arg, err);
}

/* One statement, and only one, and no writing. */
static void read_of_one_statement(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int64_t n = -1;

	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, increment, NULL, &err));
	for (int i = 0; i < 2; i++) {
		n = -1;
		assert_ok(db_read_one(s->conn, read_one, &n, &err));
		assert_int_equal(n, 1);
		assert_false(db_in_tx(s->conn));
		assert_fails(db_read_one(s->conn, read_one_again, &n, &err), ERR_INTERNAL);
		assert_non_null(strstr(err.text, "second statement"));
		assert_fails(db_read_one(s->conn, read_one_writing, &n, &err), ERR_INTERNAL);
	}
	/* Within a transaction it is part of that. */
	assert_ok(db_read(s->conn, read_one_again, &n, &err));
	assert_int_equal(value(s, "a"), 1);
}

/* ---- hooks ------------------------------------------------------------------------------- */

struct hooked {
	struct test_store *store;
	char order[16];
	int freed, runs;
	enum err_code fail;
};

static void hook_note(struct hooked *h, char which)
{
	char one[2] = { which, '\0' };
	strcat(h->order, one);
}

/* What was written is there for others, and the connection may be used. */
static void hook_a(void *arg)
{
	struct hooked *h = arg;
	struct err err;

	hook_note(h, 'a');
	assert_int_equal(value(h->store, "a"), 1);
	assert_ok(db_tx(h->store->conn, increment, NULL, &err));
}

static void hook_b(void *arg)
{
	hook_note(arg, 'b');
	assert_int_equal(value(((struct hooked *)arg)->store, "a"), 2);
}

static void hook_free(void *arg)
{
	((struct hooked *)arg)->freed++;
}

static int hook_both(struct db_conn *c, void *arg, struct err *err)
{
	struct hooked *h = arg;

	db_after_commit(c, hook_a, hook_free, h);
	if (increment(c, NULL, err))
		return -1;
	db_after_commit(c, hook_b, hook_free, h);
	assert_string_equal(h->order, "");
	if (h->fail && h->runs++ == 0)
		return err_set(err, h->fail, "on purpose");
	return 0;
}

static void hooks_run_after_commit(void **state)
{
	struct test_store *s = test_store_get(state);
	struct hooked h = { .store = s };
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, hook_both, &h, &err));
	assert_string_equal(h.order, "ab");
	assert_int_equal(h.freed, 2);
	assert_int_equal(value(s, "a"), 2);
}

static void hooks_drop_on_rollback(void **state)
{
	struct test_store *s = test_store_get(state);
	struct hooked failing = { .store = s, .fail = ERR_CONFLICT },
		      again = { .store = s, .fail = ERR_RETRY };
	struct err err;

	test_store_run(s, tables);
	assert_fails(db_tx(s->conn, hook_both, &failing, &err), ERR_CONFLICT);
	assert_string_equal(failing.order, "");
	assert_int_equal(failing.freed, 2);

	assert_ok(db_tx(s->conn, hook_both, &again, &err));
	assert_string_equal(again.order, "ab");
	assert_int_equal(again.freed, 4);
}

/* ---- faults ------------------------------------------------------------------------------ */

struct fault {
	int64_t at, seen;
	enum err_code code;
};

static enum err_code fault_at(void *arg, int64_t number, const char *sql)
{
	struct fault *f = arg;

	f->seen = number;
	return number == f->at ? f->code : ERR_NONE;
}

/* Moves one from a to b, and makes a row: four statements and the commit. */
static int move(struct db_conn *c, void *arg, struct err *err)
{
	int64_t a, b;

	if (get(c, "a", &a, err) || get(c, "b", &b, err) || set(c, "a", a - 1, err) ||
	    set(c, "b", b + 1, err))
		return -1;
	return db_exec(c, "INSERT INTO counter (id, n) VALUES ($1, 0)", DB_ARGS(DB_TEXT(arg)),
		       NULL, err);
}

static void assert_moved(struct test_store *s, int64_t times)
{
	assert_int_equal(value(s, "a"), -times);
	assert_int_equal(value(s, "b"), times);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM counter"), 2 + times);
}

static void fault_sweep(void **state)
{
	struct test_store *s = test_store_get(state);
	struct fault fault = { .code = ERR_UNAVAILABLE };
	struct err err;
	int64_t n = 0;

	test_store_run(s, tables);
	for (int done = 0; !done; assert_moved(s, done)) {
		fault.at = ++n;
		db_set_fault(s->db, fault_at, &fault);
		done = !db_tx(s->conn, move, "x", &err);
		db_set_fault(s->db, NULL, NULL);
		if (!done)
			assert_int_equal(err.code, ERR_UNAVAILABLE);
	}
	assert_int_equal(n, 7); /* five statements, the commit, and none */

	/* A passing fault at any place only makes it run again. */
	for (n = 1; n <= 6; n++) {
		char id[8];
		snprintf(id, sizeof(id), "r%d", (int)n);
		fault = (struct fault){ .at = n, .code = ERR_RETRY };
		db_set_fault(s->db, fault_at, &fault);
		assert_ok(db_tx(s->conn, move, id, &err));
		db_set_fault(s->db, NULL, NULL);
		assert_int_equal(fault.seen, n + 6);
		assert_moved(s, n + 1);
	}
}

/* It took effect, the caller was not told, the hooks did not run. */
static void commit_of_unknown_outcome(void **state)
{
	struct test_store *s = test_store_get(state);
	struct fault fault = { .at = 3, .code = ERR_TIMEOUT };
	struct hooked h = { .store = s };
	struct err err;

	test_store_run(s, tables);
	db_set_fault(s->db, fault_at, &fault);
	assert_fails(db_tx(s->conn, hook_both, &h, &err), ERR_UNAVAILABLE);
	db_set_fault(s->db, NULL, NULL);
	assert_string_equal(h.order, "");
	assert_int_equal(h.freed, 2);
	assert_int_equal(value(s, "a"), 1);
}

/* ---- a server that goes away ------------------------------------------------------------- */

struct killer {
	struct db_conn *admin;
	int64_t pid;
	int runs, kill_at; /* before which statement of the first run */
};

static int pid_read(struct db_conn *c, int64_t *ret, struct err *err)
{
	return db_query_int(c, "SELECT pg_backend_pid()", DB_NO_ARGS, 0, ret, err);
}

static void backend_kill(struct killer *k)
{
	struct err err;
	int64_t alive = 1;

	assert_ok(db_query_int(k->admin,
			       "SELECT CAST(pg_terminate_backend(CAST($1 AS INT)) AS INT)",
			       DB_ARGS(DB_INT(k->pid)), 0, &alive, &err));
	for (int i = 0; i < 500 && alive; i++) {
		usleep(10000);
		assert_ok(db_query_int(k->admin,
				       "SELECT count(*) FROM pg_stat_activity WHERE pid = $1",
				       DB_ARGS(DB_INT(k->pid)), 0, &alive, &err));
	}
	assert_int_equal(alive, 0);
}

static int killed_run(struct db_conn *c, void *arg, struct err *err)
{
	struct killer *k = arg;
	bool first = k->runs++ == 0;
	int64_t n;

	if (pid_read(c, &k->pid, err))
		return -1;
	if (first && k->kill_at == 0)
		backend_kill(k);
	if (get(c, "a", &n, err))
		return -1;
	if (first && k->kill_at == 1)
		backend_kill(k);
	if (set(c, "a", n + 1, err))
		return -1;
	if (first && k->kill_at == 2)
		backend_kill(k);
	return 0;
}

static void server_restart(void **state)
{
	struct test_store *s = test_store_get(state);
	struct killer k = { 0 };
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_conn_open(s->db, &k.admin, &err));

	/* between transactions: for a read, for a write, for one statement, for a snapshot */
	for (int i = 0; i < 4; i++) {
		int64_t n;
		struct snapshot snapshot = { .other = k.admin };
		assert_ok(pid_read(s->conn, &k.pid, &err));
		backend_kill(&k);
		if (i == 0)
			assert_int_equal(value(s, "a"), 0);
		else if (i == 1)
			assert_ok(db_tx(s->conn, increment, NULL, &err));
		else if (i == 2)
			assert_ok(db_read_one(s->conn, read_one, &n, &err));
		else
			assert_ok(db_read(s->conn, read_twice, &snapshot, &err));
	}
	assert_int_equal(value(s, "a"), 2);

	/* within one, before the commit is sent: it runs again */
	for (int at = 0; at < 2; at++) {
		k.runs = 0;
		k.kill_at = at;
		assert_ok(db_tx(s->conn, killed_run, &k, &err));
		assert_int_equal(k.runs, 2);
		assert_int_equal(value(s, "a"), 3 + at);
	}

	/* at the commit: nobody can know */
	k.runs = 0;
	k.kill_at = 2;
	assert_fails(db_tx(s->conn, killed_run, &k, &err), ERR_UNAVAILABLE);
	assert_non_null(strstr(err.text, "unknown"));
	assert_int_equal(k.runs, 1);
	assert_int_equal(value(s, "a"), 4);
	db_conn_close(k.admin);
}

/* A table altered by somebody else under a prepared statement. */
static void altered_table(void **state)
{
	struct test_store *s = test_store_get(state);
	const char *sql = "SELECT * FROM counter WHERE id = 'a'";
	struct test_store other = *s;
	struct err err;
	int64_t n;

	test_store_run(s, tables);
	assert_ok(db_query_int(s->conn, "SELECT n FROM counter WHERE id = 'a'", DB_NO_ARGS, -1,
			       &n, &err));
	cleanup_rows struct db_rows *rows = NULL;
	assert_ok(db_query(s->conn, sql, DB_NO_ARGS, &rows, &err));
	db_rows_free(rows);
	rows = NULL;
	assert_ok(db_conn_open(s->db, &other.conn, &err));
	test_store_run(&other,
		       "ALTER TABLE counter ADD COLUMN more BIGINT NOT NULL DEFAULT 7;\n");
	assert_ok(db_query(s->conn, sql, DB_NO_ARGS, &rows, &err));
	assert_int_equal(db_next(rows, &err), 1);
	assert_int_equal(db_int(rows, 2), 7);
	db_conn_close(other.conn);
}

/* Whoever has it loses it with their connection, however that ends, and not before. */
static void claims(void **state)
{
	struct test_store *s = test_store_get(state);
	struct db_conn *other, *third;
	struct err err;
	bool held;
	int64_t n;

	assert_ok(db_conn_open(s->db, &other, &err));
	assert_ok(db_conn_open(s->db, &third, &err));
	assert_ok(db_claim(other, "a", &held, &err));
	if (!db_is_postgres(s->db)) {
		assert_false(held); /* it cannot tell */
		db_conn_close(other);
		db_conn_close(third);
		return;
	}
	assert_true(held);
	assert_ok(db_claim(other, "a", &held, &err));
	assert_true(held);
	assert_ok(db_claim(s->conn, "b", &held, &err));
	assert_true(held);
	assert_ok(db_claim(s->conn, "a", &held, &err));
	assert_false(held);
	assert_ok(db_query_int(s->conn,
			       "SELECT COUNT(*) FROM (SELECT pg_terminate_backend(pid, 10000) FROM pg_locks"
			       " WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
			       " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) t",
			       DB_NO_ARGS, 0, &n, &err));
	assert_int_equal(n, 1);
	assert_ok(db_claim(s->conn, "a", &held, &err));
	assert_true(held);
	assert_ok(db_claim(other, "a", &held, &err)); /* it has connected anew */
	assert_false(held);
	db_conn_close(other);
	db_conn_close(take_ptr(s->conn));
	do /* the server notices in its own time */
		assert_ok(db_claim(third, "a", &held, &err));
	while (!held);
	db_conn_close(third);
	assert_ok(db_conn_open(s->db, &s->conn, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(no_increment_is_lost),
		TEST_ON("sqlite", no_increment_is_lost_between_processes),
		TEST_BOTH(no_write_skew),
		TEST_ON("postgres", serialization_failure_runs_again),
		TEST_BOTH(retry_on_request),
		TEST_BOTH(failure_rolls_back),
		TEST_BOTH(contention),
		TEST_BOTH(read_is_a_snapshot),
		TEST_BOTH(read_of_one_statement),
		TEST_BOTH(hooks_run_after_commit),
		TEST_BOTH(hooks_drop_on_rollback),
		TEST_BOTH(fault_sweep),
		TEST_BOTH(commit_of_unknown_outcome),
		TEST_ON("postgres", server_restart),
		TEST_BOTH(altered_table),
		TEST_BOTH(claims),
	};

	return test_stores_run("db-tx", tests, ARRAY_LEN(tests));
}
