/* Batches: the same on both stores, whether the rows go together or one by one. */
#include "../internal.h"
#include "stores.h"

static void assert_rewritten(const char *sql, int params, const char *want, int want_key)
{
	cleanup_strbuf struct strbuf got = STRBUF_INIT;
	int key;

	strbuf_init(&got);
	if (!postgres_batch_sql(sql, params, &got, &key)) {
		if (want)
			fail_msg("not rewritten: %s", sql);
		return;
	}
	if (!want)
		fail_msg("rewritten: %s\nto: %s", sql, got.buf);
	assert_string_equal(got.buf, want);
	assert_int_equal(key, want_key);
}

static void rewriting(void **state)
{
	assert_rewritten("INSERT INTO t (a, b) VALUES ($1, $2)", 2,
			 "INSERT INTO t (a, b) SELECT batch.p1, batch.p2"
			 " FROM (SELECT unnest($1) AS p1, unnest($2) AS p2) AS batch",
			 -1);
	assert_rewritten("INSERT INTO t (a, b, c, d) VALUES ($2, '$1, (', coalesce($1, 0), 5)"
			 " ON CONFLICT (a, b) DO NOTHING",
			 2,
			 "INSERT INTO t (a, b, c, d) SELECT batch.p2, '$1, (', coalesce(batch.p1, 0), 5"
			 " FROM (SELECT unnest($1) AS p1, unnest($2) AS p2) AS batch"
			 " ON CONFLICT (a, b) DO NOTHING",
			 -1);
	assert_rewritten("UPDATE t SET b = b + $2, c = '$2' WHERE id = $1 AND (c = $3 OR d <> $10)", 10,
			 "UPDATE t SET b = b + batch.p2, c = '$2' FROM (SELECT unnest($1) AS p1,"
			 " unnest($2) AS p2, unnest($3) AS p3, unnest($4) AS p4, unnest($5) AS p5,"
			 " unnest($6) AS p6, unnest($7) AS p7, unnest($8) AS p8, unnest($9) AS p9,"
			 " unnest($10) AS p10) AS batch"
			 " WHERE id = batch.p1 AND (c = batch.p3 OR d <> batch.p10)",
			 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE id = $2", 2,
			 "UPDATE t SET b = batch.p1 FROM (SELECT unnest($1) AS p1, unnest($2) AS p2) AS batch"
			 " WHERE id = batch.p2",
			 1);
	/* Rows might concern the same row, see each other, or not fit the form. */
	assert_rewritten("UPDATE t SET b = $1 WHERE id > $2", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE id = $2 + 1", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE id = $2 OR b = 3", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE id = 'x' AND c = $2", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE (id = $2)", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = (SELECT max(b) FROM t) WHERE id = $1", 1, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 FROM u WHERE id = $2", 2, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1", 1, NULL, 0);
	assert_rewritten("UPDATE t SET b = $1 WHERE id = $2 RETURNING b", 2, NULL, 0);
	assert_rewritten("INSERT INTO t (a) VALUES ($1) RETURNING a", 1, NULL, 0);
	assert_rewritten("INSERT INTO t (a) VALUES ($1), ($2)", 2, NULL, 0);
	assert_rewritten("INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET b = 1", 1, NULL, 0);
	assert_rewritten("INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) WHERE a > $2 DO NOTHING", 2, NULL, 0);
	assert_rewritten("INSERT INTO t (a) SELECT $1", 1, NULL, 0);
	assert_rewritten("INSERT INTO t (a) VALUES (1)", 0, NULL, 0);
	assert_rewritten("DELETE FROM t WHERE id = $1", 1, NULL, 0);
}

static const char tables[] = "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY, n BIGINT,\n"
			     "	text TEXT, bytes BYTEA,\n"
			     "	CONSTRAINT thing_n CHECK (n < 1000000));\n";

struct batch {
	const char *sql;
	struct db_value *values;
	size_t columns, count;
	int64_t changed;
};

static int batch_run(struct db_conn *c, void *arg, struct err *err)
{
	struct batch *b = arg;
	return db_exec_batch(c, b->sql, b->values, b->columns, b->count, &b->changed, err);
}

static void assert_batch(struct test_store *s, const char *sql, struct db_value *values, size_t columns,
			 size_t count, int64_t want)
{
	struct batch b = { sql, values, columns, count, -1 };
	struct err err;

	assert_ok(db_tx(s->conn, batch_run, &b, &err));
	assert_int_equal(b.changed, want);
}

enum { ROWS = 1500, COLUMNS = 4 };

static void things_fill(struct arena *a, struct db_value *v)
{
	for (int64_t i = 0; i < ROWS; i++, v += COLUMNS) {
		v[0] = DB_TEXT(arena_printf(a, "t%" PRId64, i));
		v[1] = i % 5 ? DB_INT(i % 7 ? i : -i) : (struct db_value){ .null_of = DB_KIND_INT };
		v[2] = i % 3 ? DB_TEXT(i % 2 ? "" : "{\"a\",NULL,\\} \303\244") : DB_TEXT(NULL);
		v[3] = i % 4 ? DB_BLOB("\0\1\377", i % 4) : DB_NULL;
	}
}

/* What is read is what was written, row by row. */
static void inserting(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	cleanup_rows struct db_rows *rows = NULL;
	struct db_value *values;
	struct err err;
	size_t i = 0;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	values = arena_array(&arena, struct db_value, ROWS * COLUMNS);
	things_fill(&arena, values);
	assert_batch(s, "INSERT INTO thing (id, n, text, bytes) VALUES ($1, $2, $3, $4)", values,
		     COLUMNS, ROWS, ROWS);
	assert_ok(db_query(s->conn,
			   "SELECT n, text, bytes FROM thing ORDER BY CAST(substr(id, 2) AS BIGINT)",
			   DB_NO_ARGS, &rows, &err));
	for (; db_next(rows, &err) > 0; i++)
		for (int k = 0; k < COLUMNS - 1; k++) {
			const struct db_value got = db_column(rows, k), want = values[i * COLUMNS + 1 + (size_t)k];
			assert_int_equal(got.kind, want.kind);
			assert_int_equal(got.integer, want.integer);
			assert_int_equal(got.len, want.len);
			if (want.len)
				assert_memory_equal(got.ptr, want.ptr, want.len);
		}
	assert_int_equal(i, ROWS);
}

/* Those that are there already are left alone and not counted, one of the batch itself as well. */
static void conflicts(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct batch b = { "INSERT INTO thing (id, n, text, bytes) VALUES ($1, $2, $3, $4)",
			   NULL, COLUMNS, ROWS, 0 };
	struct db_value *values;
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	b.values = values = arena_array(&arena, struct db_value, ROWS * COLUMNS);
	things_fill(&arena, values);
	assert_batch(s, b.sql, values + 100 * COLUMNS, COLUMNS, 10, 10);
	assert_fails(db_tx(s->conn, batch_run, &b, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "thing"));
	values[7 * COLUMNS] = values[8 * COLUMNS];
	assert_batch(s,
		     "INSERT INTO thing (id, n, text, bytes) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
		     values, COLUMNS, ROWS, ROWS - 11);
	/* All or nothing. */
	values[1200 * COLUMNS + 1] = DB_INT(1000000);
	test_store_run(s, "DELETE FROM thing");
	values[7 * COLUMNS] = DB_TEXT("seven");
	assert_fails(db_tx(s->conn, batch_run, &b, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "thing_n"));
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing"), 0);
}

/* Each row of a batch has its effect, on a row of the table that others of it change as well. */
static void updating(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	static const char sql[] = "UPDATE thing SET n = n + $2 WHERE id = $1 AND n < $3";
	struct db_value *values;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	values = arena_array(&arena, struct db_value, ROWS * 3);
	for (int64_t i = 0; i < ROWS; i++) {
		values[i * 2] = DB_TEXT(arena_printf(&arena, "t%" PRId64, i));
		values[i * 2 + 1] = DB_INT(1);
	}
	assert_batch(s, "INSERT INTO thing (id, n) VALUES ($1, $2)", values, 2, ROWS, ROWS);

	for (int64_t i = 0; i < ROWS; i++) {
		values[i * 3] = DB_TEXT(arena_printf(&arena, "t%" PRId64, 2 * i));
		values[i * 3 + 1] = DB_INT(i);
		values[i * 3 + 2] = DB_INT(i % 10 ? 100 : 0);
	}
	/* Half of them are not there, and a tenth of the others not wanted. */
	assert_batch(s, sql, values, 3, ROWS, 675);
	assert_int_equal(test_store_int(s, "SELECT SUM(n) FROM thing"), ROWS + 749 * 750 / 2 - 740 * 75 / 2);

	for (int64_t i = 0; i < ROWS; i++) {
		values[i * 3] = DB_TEXT(arena_printf(&arena, "t%" PRId64, i % 7 * 2 + 1));
		values[i * 3 + 1] = DB_INT(1);
		values[i * 3 + 2] = DB_INT(1000);
	}
	assert_batch(s, sql, values, 3, ROWS, ROWS);
	assert_int_equal(test_store_int(s, "SELECT SUM(n) FROM thing WHERE id IN"
					   " ('t1', 't3', 't5', 't7', 't9', 't11', 't13')"),
			 ROWS + 7);
}

/* A column of which only the store knows what it is, then one that changes its kind. */
static void kinds(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	static const char sql[] = "INSERT INTO thing (id, n, bytes) VALUES ($1, $2, $3)";
	struct db_value values[20 * 3];

	arena_init(&arena, 0);
	test_store_run(s, tables);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 20; i++) {
			values[i * 3] = DB_TEXT(arena_printf(&arena, "t%d-%d", round, i));
			values[i * 3 + 1] = round % 2 ? DB_INT(i) : DB_NULL;
			values[i * 3 + 2] = round < 2 ? DB_NULL : DB_BLOB("x", 1);
		}
		assert_batch(s, sql, values, 3, 20, 20);
	}
	assert_int_equal(test_store_int(s, "SELECT COUNT(n) FROM thing"), 40);
	assert_int_equal(test_store_int(s, "SELECT COUNT(bytes) FROM thing"), 40);
}

/* ---- pipelines ---- */

static const char insert_sql[] = "INSERT INTO thing (id, n) VALUES ($1, $2)";
static const char update_sql[] = "UPDATE thing SET n = n + $2 WHERE id = $1";
static const char delete_sql[] = "DELETE FROM thing WHERE id = $1 AND n = $2"; /* goes row by row */

/* Inserts, updates and deletes the same rows, in one pipeline. */
struct pipeline {
	struct db_value rows[ROWS * 2];
	int64_t inserted, updated, deleted;
	enum err_code own; /* fails so, after all that */
	const char *other; /* makes this statement between */
	struct db_conn *admin;
	int64_t pid; /* of the server's process, which dies between the batches; 0: does not */
	int runs;
};

static struct pipeline *pipeline_of(struct arena *a)
{
	struct pipeline *p = arena_new(a, struct pipeline);

	for (int64_t i = 0; i < ROWS; i++) {
		p->rows[i * 2] = DB_TEXT(arena_printf(a, "t%" PRId64, i));
		p->rows[i * 2 + 1] = DB_INT(i);
	}
	return p;
}

static void backend_kill(const struct pipeline *p)
{
	int64_t alive = 1;
	struct err err;

	assert_ok(db_query_int(p->admin, "SELECT CAST(pg_terminate_backend(CAST($1 AS INT), 10000) AS INT)",
			       DB_ARGS(DB_INT(p->pid)), 0, &alive, &err));
	assert_int_equal(alive, 1);
}

static int pipeline_fn(struct db_conn *c, void *arg, struct err *err)
{
	struct pipeline *p = arg;

	if (db_exec_batch(c, insert_sql, p->rows, 2, ROWS, &p->inserted, err))
		return -1;
	if (p->pid && p->runs == 1)
		backend_kill(p);
	if (p->other && db_exec(c, p->other, DB_NO_ARGS, NULL, err))
		return -1;
	if (db_exec_batch(c, update_sql, p->rows + 20, 2, ROWS - 10, &p->updated, err))
		return -1;
	/* What was n is 2 n, but for the first ten. */
	if (db_exec_batch(c, delete_sql, p->rows, 2, 20, &p->deleted, err))
		return -1;
	return p->own ? err_set(err, p->own, "no more") : 0;
}

static int pipeline_run(struct db_conn *c, void *arg, struct err *err)
{
	struct pipeline *p = arg;

	p->runs++;
	return db_pipeline(c, pipeline_fn, p, err);
}

static void assert_pipeline(struct test_store *s, struct pipeline *p)
{
	struct err err;

	assert_ok(db_tx(s->conn, pipeline_run, p, &err));
	assert_int_equal(p->inserted, ROWS);
	assert_int_equal(p->updated, ROWS - 10);
	assert_int_equal(p->deleted, 10);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing"), ROWS - 10);
	assert_int_equal(test_store_int(s, "SELECT SUM(n) FROM thing"), ROWS * (ROWS - 1) - 90);
}

static void pipelining(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct pipeline *p = pipeline_of(&arena);

	test_store_run(s, tables);
	for (int i = 0; i < 3; i++) {
		assert_pipeline(s, p);
		test_store_run(s, "DELETE FROM thing");
	}
}

/* A row that is bad in the middle of what has been sent: its own failure is told, nothing stays,
 * and the statements that came after it, new to the connection, are good for the next. */
static void pipeline_failing(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct pipeline *p = pipeline_of(&arena);
	struct err err;

	test_store_run(s, tables);
	p->rows[1200 * 2 + 1] = DB_INT(1000000);
	assert_fails(db_tx(s->conn, pipeline_run, p, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "thing_n"));
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing"), 0);
	p->rows[1200 * 2 + 1] = DB_INT(999999); /* which the update makes too much */
	assert_fails(db_tx(s->conn, pipeline_run, p, &err), ERR_INVALID);
	p->rows[1200 * 2 + 1] = DB_INT(1200);
	p->rows[1300 * 2] = p->rows[7 * 2];
	assert_fails(db_tx(s->conn, pipeline_run, p, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "id"));
	assert_int_equal(p->runs, 3);
	p->rows[1300 * 2] = DB_TEXT("t1300");
	assert_pipeline(s, p);
}

static void pipeline_refusing(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct pipeline *p = pipeline_of(&arena);
	struct err err;

	test_store_run(s, tables);
	p->own = ERR_FUNDS;
	assert_fails(db_tx(s->conn, pipeline_run, p, &err), ERR_FUNDS);
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing"), 0);
	p->own = ERR_NONE;
	p->other = "DELETE FROM thing";
	assert_fails(db_tx(s->conn, pipeline_run, p, &err), ERR_INTERNAL);
	assert_non_null(strstr(err.text, p->other));
	assert_int_equal(test_store_int(s, "SELECT COUNT(*) FROM thing"), 0);
	p->other = NULL;
	assert_pipeline(s, p);
}

static void pipeline_lost(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct pipeline *p = pipeline_of(&arena);
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_conn_open(s->db, &p->admin, &err));
	assert_ok(db_query_int(s->conn, "SELECT CAST(pg_backend_pid() AS BIGINT)", DB_NO_ARGS, 0, &p->pid,
			       &err));
	assert_pipeline(s, p);
	assert_int_equal(p->runs, 2);
	db_conn_close(p->admin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rewriting), TEST_BOTH(inserting), TEST_BOTH(conflicts),
		TEST_BOTH(updating),	     TEST_BOTH(kinds),
		TEST_BOTH(pipelining),	     TEST_BOTH(pipeline_failing),
		TEST_BOTH(pipeline_refusing), TEST_ON("postgres", pipeline_lost),
	};

	return test_stores_run("db-batch", tests, ARRAY_LEN(tests));
}
