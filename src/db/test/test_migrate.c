/* Migrations: once each, in order, whole, and never changed afterwards. */
#include "stores.h"

#include "../internal.h"

#include <pthread.h>

static const struct migration good[] = {
	{ 1, "0001_start",
	  "-- the first; with BYTEA and TEXT in a comment\n"
	  "CREATE TABLE a (id TEXT PRIMARY KEY, data BYTEA, note TEXT DEFAULT 'x;\n"
	  "BYTEA');\n"
	  "\n"
	  "INSERT INTO a (id) VALUES ('semi;colon');   \n" },
	{ 2, "0002_more", "CREATE TABLE b (n BIGINT NOT NULL);\nCREATE INDEX b_n ON b (n);\n" },
	{ 3, "0003_copy", "INSERT INTO b (n) SELECT length(CAST(id AS TEXT)) FROM a;\n" },
};

static void applied_once(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int n = -1;

	assert_ok(migrate_pending(s->conn, good, 3, &n, &err));
	assert_int_equal(n, 3);
	assert_ok(migrate_list(s->db, good, 2, 1000, &n, &err));
	assert_int_equal(n, 2);
	assert_ok(migrate_pending(s->conn, good, 3, &n, &err));
	assert_int_equal(n, 1);
	assert_ok(migrate_list(s->db, good, 3, 2000, &n, &err));
	assert_int_equal(n, 1);
	assert_ok(migrate_list(s->db, good, 3, 3000, &n, &err));
	assert_int_equal(n, 0);
	assert_ok(migrate_pending(s->conn, good, 3, &n, &err));
	assert_int_equal(n, 0);
	assert_int_equal(test_store_int(s, "SELECT n FROM b"), 10);
	assert_int_equal(test_store_int(s, "SELECT count(*) FROM a WHERE note = 'x;\nBYTEA'"),
			 1);
	assert_int_equal(test_store_int(s, "SELECT sum(applied_ms) FROM schema_migrations"),
			 4000);
}

static void changed_or_unknown(void **state)
{
	struct test_store *s = test_store_get(state);
	struct migration changed[3] = { good[0], good[1], good[2] };
	const struct migration gap[] = { good[0],
					 { 2, "0002_new", "CREATE TABLE z (n BIGINT);\n" },
					 good[2] };
	struct err err;
	int n = -1;

	assert_ok(migrate_list(s->db, good, 3, 1000, &n, &err));
	changed[1].sql = "CREATE TABLE b (n BIGINT NOT NULL);\n";
	assert_fails(migrate_list(s->db, changed, 3, 2000, &n, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "0002_more"));
	assert_fails(migrate_pending(s->conn, changed, 3, &n, &err), ERR_CONFLICT);

	assert_fails(migrate_list(s->db, good, 2, 2000, &n, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "0003_copy"));
	assert_non_null(strstr(err.text, "newer version"));
	assert_fails(migrate_pending(s->conn, good, 2, &n, &err), ERR_CONFLICT);

	test_store_run(s, "DELETE FROM schema_migrations WHERE number = 2;\n");
	assert_fails(migrate_list(s->db, gap, 3, 2000, &n, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.text, "0002_new"));
	assert_int_equal(n, 3);
}

static void failed_leaves_nothing(void **state)
{
	struct test_store *s = test_store_get(state);
	const struct migration bad[] = {
		good[0],
		{ 2, "0002_bad",
		  "CREATE TABLE half (n BIGINT);\nINSERT INTO nowhere (n) VALUES (1);\n" }
	};
	struct err err;
	int n = -1;

	assert_fails(migrate_list(s->db, bad, 2, 1000, &n, &err), ERR_INTERNAL);
	assert_true(str_starts(err.text, "migration 0002_bad: "));
	assert_int_equal(n, -1);
	assert_ok(migrate_pending(s->conn, good, 3, &n, &err));
	assert_int_equal(n, 2);
	/* half is not there: it can be made */
	test_store_run(s, "CREATE TABLE half (n BIGINT);\n");
	assert_ok(migrate_list(s->db, good, 3, 1000, &n, &err));
	assert_int_equal(n, 2);
}

struct replica {
	pthread_t id;
	const char *url;
	int applied;
	char failed[240];
};

static void *replica_main(void *arg)
{
	struct replica *r = arg;
	struct err err;
	struct db *db;

	if (db_open(r->url, &db, &err)) {
		snprintf(r->failed, sizeof(r->failed), "%s", err.text);
		return NULL;
	}
	if (migrate_list(db, good, 3, 1000, &r->applied, &err))
		snprintf(r->failed, sizeof(r->failed), "%s", err.text);
	db_close(db);
	return NULL;
}

/* Each as a process of its own would: with its own struct db. */
static void replicas_at_once(void **state)
{
	struct test_store *s = test_store_get(state);
	char dir[] = "/tmp/tes-migrate-XXXXXX", url[64], command[64];
	struct replica replicas[4] = { 0 };
	int applied = 0;

	assert_non_null(mkdtemp(dir));
	snprintf(url, sizeof(url), "sqlite:%s/db", dir);
	for (size_t i = 0; i < ARRAY_LEN(replicas); i++) {
		replicas[i].url = db_is_postgres(s->db) ? s->url : url;
		assert_int_equal(
			pthread_create(&replicas[i].id, NULL, replica_main, &replicas[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(replicas); i++) {
		pthread_join(replicas[i].id, NULL);
		assert_string_equal(replicas[i].failed, "");
		applied += replicas[i].applied;
	}
	assert_int_equal(applied, 3);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static void dialects(void **state)
{
	static const struct {
		const char *in, *sqlite, *postgres;
	} cases[] = {
		{ "CREATE TABLE t (a TEXT, b BYTEA);\n", "CREATE TABLE t (a TEXT, b BLOB)",
		  "CREATE TABLE t (a TEXT COLLATE \"C\", b BYTEA)" },
		{ "SELECT CAST(x AS TEXT), 'BYTEA;\n', \"TEXT\"; -- BYTEA;\n",
		  "SELECT CAST(x AS TEXT), 'BYTEA;\n', \"TEXT\"",
		  "SELECT CAST(x AS TEXT), 'BYTEA;\n', \"TEXT\"" },
		{ "CREATE TABLE t (a TEXT) WITH (fillfactor = 60);\nB;\n", "CREATE TABLE t (a TEXT) ",
		  "CREATE TABLE t (a TEXT COLLATE \"C\") WITH (fillfactor = 60)" },
		{ "CREATE TABLE t (a INT) WITH (fillfactor = 60) WITHOUT ROWID;\n",
		  "CREATE TABLE t (a INT)  WITHOUT ROWID", "CREATE TABLE t (a INT) WITH (fillfactor = 60) " },
		{ "WITH (fillfactor", "WITH (fillfactor", "WITH (fillfactor" },
		{ " -- only this\n\n;\n", NULL, NULL },
		{ "A;B ;", "A;B ", "A;B " },
		{ "", NULL, NULL },
		{ "no end", "no end", "no end" },
		{ "'open", "'open", "'open" },
	};
	cleanup_strbuf struct strbuf sql = STRBUF_INIT;

	strbuf_init(&sql);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (int postgres = 0; postgres < 2; postgres++) {
			const char *rest = cases[i].in,
				   *want = postgres ? cases[i].postgres : cases[i].sqlite;
			assert_int_equal(migrate_next_statement(&rest, postgres, &sql),
					 want != NULL);
			if (want)
				assert_string_equal(sql.buf, want);
		}
}

/* What ships applies to both. */
static void embedded(void **state)
{
	struct test_store *s = test_store_get(state);
	struct err err;
	int n;

	assert_ok(db_migrate(s->db, 1000, &n, &err));
	assert_int_equal(n, migrations_embedded_len);
	assert_ok(db_migrate(s->db, 1000, &n, &err));
	assert_int_equal(n, 0);
	assert_ok(db_migrations_pending(s->conn, &n, &err));
	assert_int_equal(n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(applied_once),
		TEST_BOTH(changed_or_unknown),
		TEST_BOTH(failed_leaves_nothing),
		TEST_BOTH(replicas_at_once),
		TEST_BOTH(embedded),
		cmocka_unit_test(dialects),
	};

	return test_stores_run("db-migrate", tests, ARRAY_LEN(tests));
}
