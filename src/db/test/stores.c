#include "stores.h"

#include "../internal.h"

#include <libpq-fe.h>
#include <unistd.h>

static char pg_name[64]; /* of the database made for this process; empty: none yet */

static void pg_admin(const char *url, const char *sql)
{
	PGconn *pg = PQconnectdb(url);
	PGresult *res = PQexec(pg, sql);

	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(pg));
	PQclear(res);
	PQfinish(pg);
}

/* "postgres://user@host/other?x=y" with another database's name */
static void pg_url(const char *server, char *ret, size_t size)
{
	const char *authority = strstr(server, "://");
	size_t head;

	assert_non_null(authority);
	head = (size_t)(authority + 3 - server);
	head += strcspn(server + head, "/?");
	const char *query = strchr(server + head, '?');
	snprintf(ret, size, "%.*s/%s%s", (int)head, server, pg_name, query ? query : "");
}

static void pg_prepare(const char *server, char *ret_url, size_t size)
{
	char sql[160];

	if (!pg_name[0]) {
		snprintf(pg_name, sizeof(pg_name), "tes_test_%d_%08x", getpid(),
			 (unsigned)time_monotonic_ms());
		snprintf(sql, sizeof(sql),
			 "CREATE DATABASE %s ENCODING 'UTF8' TEMPLATE template0", pg_name);
		pg_admin(server, sql);
	}
	pg_url(server, ret_url, size);
	pg_admin(ret_url, "SET client_min_messages = error; DROP SCHEMA public CASCADE;"
			  "CREATE SCHEMA public");
}

int test_store_setup(void **state)
{
	struct test_store *s = xcalloc(1, sizeof(*s));
	struct err err;

	s->name = *state;
	if (!strcmp(s->name, "postgres"))
		pg_prepare(getenv("TES_TEST_POSTGRES"), s->url, sizeof(s->url));
	else
		snprintf(s->url, sizeof(s->url), "sqlite::memory:");
	if (db_open(s->url, &s->db, &err) || db_conn_open(s->db, &s->conn, &err)) {
		fprintf(stderr, "%s: %s\n", s->name, err.text);
		return -1;
	}
	*state = s;
	return 0;
}

int test_store_teardown(void **state)
{
	struct test_store *s = *state;

	db_conn_close(s->conn);
	db_close(s->db);
	free(s);
	return 0;
}

static int pg_release(void **state)
{
	char sql[160];

	if (!pg_name[0])
		return 0;
	snprintf(sql, sizeof(sql), "DROP DATABASE %s WITH (FORCE)", pg_name);
	pg_admin(getenv("TES_TEST_POSTGRES"), sql);
	return 0;
}

struct test_store *test_store_get(void **state)
{
	return *state;
}

static void do_nothing(void **state) {}

/* cmocka's own skip() prints "not ok … # SKIP", which TAP readers take for a failure. */
int test_stores_run(const char *name, const struct CMUnitTest *tests, size_t count)
{
	const bool postgres = !str_empty(getenv("TES_TEST_POSTGRES"));
	struct CMUnitTest list[200];
	char names[ARRAY_LEN(list)][160];

	assert(count <= ARRAY_LEN(list));
	for (size_t i = 0; i < count; i++) {
		list[i] = tests[i];
		if (postgres || !str_starts(tests[i].name, "postgres: "))
			continue;
		snprintf(names[i], sizeof(names[i]), "%s # SKIP TES_TEST_POSTGRES is not set",
			 tests[i].name);
		list[i] = (struct CMUnitTest){ .name = names[i], .test_func = do_nothing };
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests(name, list, count, NULL, pg_release);
}

static int script_run(struct db_conn *c, void *arg, struct err *err)
{
	const char *rest = arg;
	cleanup_strbuf struct strbuf sql = STRBUF_INIT;

	strbuf_init(&sql);
	while (migrate_next_statement(&rest, db_is_postgres(c->db), &sql))
		if (db_exec(c, sql.buf, DB_NO_ARGS, NULL, err))
			return -1;
	return 0;
}

void test_store_run(struct test_store *s, const char *sql)
{
	struct err err;

	assert_ok(db_tx(s->conn, script_run, (void *)sql, &err));
}

int64_t test_store_int(struct test_store *s, const char *sql)
{
	struct err err;
	int64_t n;

	assert_ok(db_query_int(s->conn, sql, DB_NO_ARGS, INT64_MIN, &n, &err));
	return n;
}
