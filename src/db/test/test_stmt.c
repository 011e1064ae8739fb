/* Statements, values, rows and errors, the same on both stores. */
#include "stores.h"

#include "../internal.h"

static const char tables[] =
	"CREATE TABLE item (id TEXT PRIMARY KEY, n BIGINT NOT NULL, data BYTEA,\n"
	" kind TEXT, CONSTRAINT item_n_small CHECK (n < 1000));\n"
	"CREATE UNIQUE INDEX item_kind_n ON item (kind, n);\n"
	"CREATE TABLE part (id TEXT PRIMARY KEY, item TEXT NOT NULL REFERENCES item (id));\n";

struct call {
	const char *sql;
	struct db_args args;
	int64_t changed;
};

static int call_exec(struct db_conn *c, void *arg, struct err *err)
{
	struct call *call = arg;
	return db_exec(c, call->sql, call->args, &call->changed, err);
}

#define exec(s, ...) exec_(s, &(struct call){ __VA_ARGS__ }, &err)
static int exec_(struct test_store *s, struct call *call, struct err *err)
{
	return db_tx(s->conn, call_exec, call, err);
}

static void values_round_trip(void **state)
{
	struct test_store *s = test_store_get(state);
	const char bytes[] = { 0, 1, (char)0xff, 0, 'x' };
	cleanup_rows struct db_rows *rows = NULL;
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	const char *sql = "INSERT INTO item (id, n, data, kind) VALUES ($1, $2, $3, $4)";
	assert_ok(exec(s, sql,
		       DB_ARGS(DB_TEXT("a"), DB_INT(INT64_MIN), DB_BLOB(bytes, sizeof(bytes)),
			       DB_TEXT(""))));
	assert_ok(exec(s, sql,
		       DB_ARGS(DB_TEXT("b\xc3\xa9"), DB_INT(-1), DB_BLOB("", 0), DB_NULL)));
	assert_ok(exec(s, sql, DB_ARGS(DB_TEXT("c"), DB_INT(7), DB_NULL, DB_TEXT("k"))));

	assert_ok(db_query(s->conn, "SELECT id, n, data, kind FROM item ORDER BY id",
			   DB_NO_ARGS, &rows, &err));
	assert_int_equal(db_next(rows, &err), 1);
	assert_string_equal(db_text(rows, 0, &arena), "a");
	assert_true(db_int(rows, 1) == INT64_MIN);
	struct slice blob = db_blob(rows, 2, &arena);
	assert_int_equal(blob.len, sizeof(bytes));
	assert_memory_equal(blob.ptr, bytes, sizeof(bytes));
	assert_string_equal(db_text(rows, 3, &arena), "");
	assert_int_equal(db_next(rows, &err), 1);
	assert_string_equal(db_text(rows, 0, &arena), "b\xc3\xa9");
	assert_int_equal(db_int(rows, 1), -1);
	assert_false(db_is_null(rows, 2));
	assert_int_equal(db_blob(rows, 2, &arena).len, 0);
	assert_true(db_is_null(rows, 3));
	assert_null(db_text(rows, 3, &arena));
	assert_int_equal(db_next(rows, &err), 1);
	assert_true(db_is_null(rows, 2));
	assert_null(db_blob(rows, 2, &arena).ptr);
	assert_int_equal(db_next(rows, &err), 0);
	assert_int_equal(db_next(rows, &err), 0);
}

static void parameters_in_any_order(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int64_t n;

	assert_ok(db_query_int(s->conn, "SELECT $3 * 100 + $1 * 10 + $2 + $1 - $1 -- $9\n + 0",
			       DB_ARGS(DB_INT(1), DB_INT(2), DB_INT(3)), 0, &n, &err));
	assert_int_equal(n, 312);
	/* $n in a text is no parameter */
	assert_ok(db_query_int(s->conn, "SELECT length('$5''$6') + $1",
			       DB_ARGS(DB_INT(5000000000)), 0, &n, &err));
	assert_int_equal(n, 5000000005);
	assert_fails(db_query_int(s->conn, "SELECT $1 + $2", DB_ARGS(DB_INT(1)), 0, &n, &err),
		     ERR_INTERNAL);
	assert_fails(db_query_int(s->conn, "SELECT 1", DB_ARGS(DB_INT(1)), 0, &n, &err),
		     ERR_INTERNAL);
	assert_ok(db_query_int(s->conn, "SELECT 1 WHERE 1 = 0", DB_NO_ARGS, -5, &n, &err));
	assert_int_equal(n, -5);
}

/* A statement may meet NULL before it meets a value, and the other way round. */
static void null_parameters(void **state)
{
	struct test_store *s = test_store_get(state);
	const char *sql = "SELECT count(*) FROM item WHERE n = $1 OR kind = $2";
	struct err err;
	int64_t n;

	test_store_run(s, tables);
	assert_ok(exec(s, "INSERT INTO item (id, n, kind) VALUES ($1, $2, $3)",
		       DB_ARGS(DB_TEXT("a"), DB_INT(5), DB_TEXT("k"))));
	assert_ok(db_query_int(s->conn, sql, DB_ARGS(DB_NULL, DB_NULL), 0, &n, &err));
	assert_int_equal(n, 0);
	assert_ok(db_query_int(s->conn, sql, DB_ARGS(DB_INT(5), DB_TEXT(NULL)), 0, &n, &err));
	assert_int_equal(n, 1);
	assert_ok(db_query_int(s->conn, sql, DB_ARGS(DB_NULL, DB_TEXT("k")), 0, &n, &err));
	assert_int_equal(n, 1);
	assert_ok(db_query_int(s->conn,
			       "SELECT count(*) FROM item WHERE $1 IS NULL OR kind = $1",
			       DB_ARGS(DB_TEXT(NULL)), 0, &n, &err));
	assert_int_equal(n, 1);
}

static void changed_rows(void **state)
{
	struct test_store *s = test_store_get(state);
	struct call call = {
		.sql = "INSERT INTO item (id, n) VALUES ('a', 1), ('b', 2), ('c', 3)"
	};
	struct err err;

	test_store_run(s, tables);
	assert_ok(db_tx(s->conn, call_exec, &call, &err));
	assert_int_equal(call.changed, 3);
	call.sql = "UPDATE item SET n = n + 10 WHERE id >= 'b'";
	assert_ok(db_tx(s->conn, call_exec, &call, &err));
	assert_int_equal(call.changed, 2);
	call.sql = "INSERT INTO item (id, n) VALUES ('a', 1) ON CONFLICT DO NOTHING";
	assert_ok(db_tx(s->conn, call_exec, &call, &err));
	assert_int_equal(call.changed, 0);
	call.sql = "DELETE FROM item";
	assert_ok(db_tx(s->conn, call_exec, &call, &err));
	assert_int_equal(call.changed, 3);
}

static void constraints(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;

	test_store_run(s, tables);
	assert_ok(exec(s, "INSERT INTO item (id, n, kind) VALUES ('a', 1, 'k')"));
	assert_ok(exec(s, "INSERT INTO part (id, item) VALUES ('p', 'a')"));
	assert_fails(exec(s, "INSERT INTO item (id, n) VALUES ('a', 2)"), ERR_CONFLICT);
	assert_string_equal(err.text,
			    "item(id) must be unique: another row has the same value");
	assert_fails(exec(s, "INSERT INTO item (id, n, kind) VALUES ('b', 1, 'k')"),
		     ERR_CONFLICT);
	assert_string_equal(err.text,
			    "item(kind, n) must be unique: another row has the same value");
	assert_fails(exec(s, "INSERT INTO item (id, n) VALUES ('b', 1000)"), ERR_INVALID);
	assert_string_equal(err.text, "check item_n_small refuses this row");
	assert_fails(exec(s, "INSERT INTO item (id, n) VALUES ('b', NULL)"), ERR_INVALID);
	assert_string_equal(err.text, "item.n must not be NULL");
	assert_fails(exec(s, "INSERT INTO part (id, item) VALUES ('q', 'none')"), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "foreign key"));
	assert_fails(exec(s, "DELETE FROM item"), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "foreign key"));
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 1);
}

static void broken_statements(void **state)
{
	struct test_store *s = test_store_get(state);
	struct db_rows *rows = NULL;
	struct err err;

	test_store_run(s, tables);
	assert_fails(db_query(s->conn, "SELECT nothing FROM item", DB_NO_ARGS, &rows, &err),
		     ERR_INTERNAL);
	assert_fails(db_query(s->conn, "SELEC 1", DB_NO_ARGS, &rows, &err), ERR_INTERNAL);
	assert_fails(db_query(s->conn, "SELECT 1; SELECT 2", DB_NO_ARGS, &rows, &err),
		     ERR_INTERNAL);
	assert_fails(db_query(s->conn, "SELECT \"text\" FROM item", DB_NO_ARGS, &rows, &err),
		     ERR_INTERNAL);
	assert_null(rows);
	assert_int_equal(test_store_int(s, "SELECT 1"), 1);
}

static int query_returning(struct db_conn *c, void *arg, struct err *err)
{
	return db_query_int(c, "INSERT INTO item (id, n) VALUES ('r', 3) RETURNING n * 2",
			    DB_NO_ARGS, 0, arg, err);
}

static void writes_only_in_transactions(void **state)
{
	struct test_store *s = test_store_get(state);
	const char *sql = "INSERT INTO item (id, n) VALUES ('a', 1)";
	struct call call = { .sql = sql };
	struct err err;
	int64_t n;

	test_store_run(s, tables);
	assert_fails(db_exec(s->conn, sql, DB_NO_ARGS, NULL, &err), ERR_INTERNAL);
	assert_fails(db_read(s->conn, call_exec, &call, &err), ERR_INTERNAL);
	assert_fails(query_returning(s->conn, &n, &err), ERR_INTERNAL);
	assert_fails(db_read(s->conn, query_returning, &n, &err), ERR_INTERNAL);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 0);
	assert_ok(db_tx(s->conn, query_returning, &n, &err));
	assert_int_equal(n, 6);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 1);
}

/* The same text inside its own loop: each cursor is on its own. */
static void nested_cursors(void **state)
{
	struct test_store *s = test_store_get(state);
	const char *sql = "SELECT n FROM item WHERE n >= $1 ORDER BY n";
	cleanup_rows struct db_rows *outer = NULL;
	struct err err;
	int64_t sum = 0;

	test_store_run(s, tables);
	assert_ok(exec(s, "INSERT INTO item (id, n) VALUES ('a', 1), ('b', 2), ('c', 3)"));
	assert_ok(db_query(s->conn, sql, DB_ARGS(DB_INT(1)), &outer, &err));
	while (db_next(outer, &err) > 0) {
		cleanup_rows struct db_rows *inner = NULL;
		assert_ok(db_query(s->conn, sql, DB_ARGS(DB_INT(db_int(outer, 0))), &inner,
				   &err));
		while (db_next(inner, &err) > 0)
			sum += db_int(outer, 0) * 10 + db_int(inner, 0);
	}
	assert_int_equal(sum, 3 * 10 + 2 * 20 + 30 + (1 + 2 + 3) + (2 + 3) + 3);
}

static void statement_cache(void **state)
{
	struct test_store *s = test_store_get(state);
	char sql[64];
	struct err err;
	int64_t n;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < STMT_CACHE_MAX * 2; i++) {
			snprintf(sql, sizeof(sql), "SELECT $1 + %d", i);
			assert_ok(db_query_int(s->conn, sql, DB_ARGS(DB_INT(1)), 0, &n, &err));
			assert_int_equal(n, i + 1);
			assert_true(s->conn->stmt_count <= STMT_CACHE_MAX);
		}
	size_t before = s->conn->stmt_count;
	uint64_t clock = s->conn->clock;
	assert_ok(db_query_int(s->conn, sql, DB_ARGS(DB_INT(2)), 0, &n, &err));
	assert_int_equal(s->conn->stmt_count, before);
	assert_int_equal(s->conn->clock, clock + 1);
}

struct batch {
	struct db_value *values;
	size_t count;
	int64_t changed;
};

static int batch_insert(struct db_conn *c, void *arg, struct err *err)
{
	struct batch *b = arg;
	return db_exec_batch(c, "INSERT INTO item (id, n, kind) VALUES ($1, $2, $3)", b->values,
			     3, b->count, &b->changed, err);
}

static void batches(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_arena struct arena arena = { 0 };
	struct batch b = { .count = 2500 };
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	b.values = arena_array(&arena, struct db_value, b.count * 3);
	for (size_t i = 0; i < b.count; i++) {
		b.values[i * 3] = DB_TEXT(arena_printf(&arena, "id%zu", i));
		b.values[i * 3 + 1] = DB_INT((int64_t)i % 1000);
		b.values[i * 3 + 2] =
			i % 3 ? DB_NULL : DB_TEXT(arena_printf(&arena, "k%zu", i));
	}
	assert_ok(db_tx(s->conn, batch_insert, &b, &err));
	assert_int_equal(b.changed, 2500);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 2500);
	assert_int_equal(test_store_int(s, "SELECT count(kind) FROM item"), 834);

	/* one bad row, none is kept */
	test_store_run(s, "DELETE FROM item");
	b.values[2000 * 3 + 1] = DB_INT(5000);
	assert_fails(db_tx(s->conn, batch_insert, &b, &err), ERR_INVALID);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 0);
	b.count = 0;
	assert_ok(db_tx(s->conn, batch_insert, &b, &err));
	assert_int_equal(b.changed, 0);
}

/* PostgreSQL's sum of BIGINT is NUMERIC. */
static void sums(void **state)
{
	struct test_store *s = test_store_get(state);
	static const int64_t cases[] = { 0,	    1,	      -1,	9999,
					 10000,	    10001,    99990000, -123456789012345678,
					 INT64_MAX, INT64_MIN };
	struct err err;
	int64_t n;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_ok(db_query_int(s->conn, "SELECT sum(x) FROM (SELECT $1 AS x) AS t",
				       DB_ARGS(DB_INT(cases[i])), 7, &n, &err));
		assert_true(n == cases[i]);
	}
	assert_fails(
		db_query_int(s->conn,
			     "SELECT sum(x) FROM (SELECT $1 AS x UNION ALL SELECT $2) AS t",
			     DB_ARGS(DB_INT(INT64_MAX), DB_INT(1)), 7, &n, &err),
		ERR_INTERNAL);
	test_store_run(s, tables);
	assert_int_equal(test_store_int(s, "SELECT COALESCE(sum(n), 0) FROM item"), 0);
	assert_int_equal(test_store_int(s, "SELECT sum(n) IS NULL FROM item"), 1);
}

static void order_and_case(void **state)
{
	struct test_store *s = test_store_get(state);
	cleanup_rows struct db_rows *rows = NULL;
	cleanup_arena struct arena arena = { 0 };
	struct err err;

	arena_init(&arena, 0);
	test_store_run(s, tables);
	assert_ok(exec(
		s, "INSERT INTO item (id, n) VALUES ('a', 1), ('B', 2), ('_', 3), ('a b', 4),"
		   " ('ab', 5)"));
	cleanup_strbuf struct strbuf all = STRBUF_INIT;
	strbuf_init(&all);
	assert_ok(
		db_query(s->conn, "SELECT id FROM item ORDER BY id", DB_NO_ARGS, &rows, &err));
	while (db_next(rows, &err) > 0)
		strbuf_addf(&all, "%s|", db_text(rows, 0, &arena));
	assert_string_equal(all.buf, "B|_|a|a b|ab|");
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item WHERE id LIKE 'A%'"), 0);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item WHERE id LIKE 'a%'"), 3);
}

static int fill(struct db_conn *c, void *arg, struct err *err)
{
	char big[2000];

	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 200; i++)
		if (db_exec(c, "INSERT INTO item (id, n, data) VALUES ($1, $2, $3)",
			    DB_ARGS(DB_TEXT((char[]){ (char)(' ' + i / 90),
						      (char)(' ' + i % 90), 0 }),
				    DB_INT(i), DB_BLOB(big, sizeof(big))),
			    NULL, err))
			return -1;
	return 0;
}

static void full_or_read_only_disk(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;

	test_store_run(s, tables);
	assert_ok(sqlite_store.run(s->conn, "PRAGMA max_page_count = 50", &err));
	assert_fails(db_tx(s->conn, fill, NULL, &err), ERR_UNAVAILABLE);
	assert_non_null(strstr(err.text, "disk is full"));
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 0);
	assert_ok(sqlite_store.run(
		s->conn, "PRAGMA max_page_count = 1000000; PRAGMA query_only = ON", &err));
	assert_fails(db_tx(s->conn, fill, NULL, &err), ERR_UNAVAILABLE);
	assert_ok(sqlite_store.run(s->conn, "PRAGMA query_only = OFF", &err));
	assert_ok(db_tx(s->conn, fill, NULL, &err));
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM item"), 200);
}

static void urls(void **state)
{
	static const char *const bad[] = { "", "mysql://root:secret@x/y",
					   "sqlite:", "sqlite:/tmp/x?mode=rwc", "tes.db" };
	struct err err;
	struct db *db = NULL;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_fails(db_open(bad[i], &db, &err), ERR_INVALID);
		assert_null(strstr(err.text, "secret"));
	}
	assert_fails(db_open("sqlite:/nonexistent/directory/tes.db", &db, &err),
		     ERR_UNAVAILABLE);
	assert_non_null(strstr(err.text, "/nonexistent/directory/tes.db"));
	assert_fails(db_open("postgres://u:secret@127.0.0.1:1/none", &db, &err),
		     ERR_UNAVAILABLE);
	assert_null(strstr(err.text, "secret"));
	assert_null(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(values_round_trip),
		TEST_BOTH(parameters_in_any_order),
		TEST_BOTH(null_parameters),
		TEST_BOTH(changed_rows),
		TEST_BOTH(constraints),
		TEST_BOTH(broken_statements),
		TEST_BOTH(writes_only_in_transactions),
		TEST_BOTH(nested_cursors),
		TEST_BOTH(statement_cache),
		TEST_BOTH(batches),
		TEST_BOTH(sums),
		TEST_BOTH(order_and_case),
		TEST_ON("sqlite", full_or_read_only_disk),
		cmocka_unit_test(urls),
	};

	return test_stores_run("db-stmt", tests, ARRAY_LEN(tests));
}
