/* Where SQLite would walk over all that ever was: what it plans for statements that are asked again and again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../db/test/stores.h"
#include "../internal.h"

#define ORG "or_00000000000000000000000001"
#define ARRAY "ar_00000000000000000000000001"

struct seen {
	struct arena arena;
	VEC(const char *) statements;
};

static enum err_code on_statement(void *arg, int64_t number, const char *sql)
{
	struct seen *s = arg;

	(void)number;
	*vec_push(&s->statements) = arena_strdup(&s->arena, sql);
	return ERR_NONE;
}

static void plan_read(struct test_store *s, const char *sql, struct arena *a, struct strbuf *out)
{
	enum { PARAMS_MAX = 16 };
	const struct db_value nulls[PARAMS_MAX] = { { 0 } };
	struct db_rows *rows;
	struct err err;
	size_t params = 0;

	for (const char *p = sql; (p = strchr(p, '$')); p++)
		params = MAX(params, (size_t)strtoul(p + 1, NULL, 10));
	assert_true(params <= PARAMS_MAX);
	assert_ok(db_query(s->conn, arena_printf(a, "EXPLAIN QUERY PLAN %s", sql), (struct db_args){ nulls, params }, &rows, &err));
	while (db_next(rows, &err) > 0)
		strbuf_addf(out, "%s\n", db_text(rows, 3, a));
	db_rows_free(rows);
}

/* The plans of the statements with these words; there must be some. */
static void plans_of(struct test_store *s, struct seen *seen, const char *with, struct strbuf *out)
{
	db_set_fault(s->db, NULL, NULL);
	for (size_t i = 0; i < seen->statements.len; i++)
		if (strstr(seen->statements.items[i], with))
			plan_read(s, seen->statements.items[i], &seen->arena, out);
	assert_true(out->len > 0);
}

static void begin(struct test_store *s, struct seen *seen)
{
	struct err err;
	int applied;

	assert_ok(db_migrate(s->db, 1, &applied, &err));
	db_set_fault(s->db, on_statement, seen);
}

static void seen_release(struct seen *seen)
{
	vec_release(&seen->statements);
	arena_release(&seen->arena);
}

static void assert_has(const struct strbuf *plans, const char *part, bool wanted)
{
	if (!strstr(plans->buf, part) == wanted)
		fail_msg("'%s' should %sbe in the plan:\n%s", part, wanted ? "" : "not ", plans->buf);
}

static void test_metrics_read_the_leases_that_live(void **state)
{
	struct test_store *s = test_store_get(state);
	struct control c = { .metrics = metrics_new(), .scheduler = scheduler_new(), .clock = clock_system };
	struct strbuf page = STRBUF_INIT, plans = STRBUF_INIT;
	struct seen seen = { 0 };
	struct err err;

	begin(s, &seen);
	assert_ok(metrics_write(&c, s->conn, &page, &err));
	plans_of(s, &seen, "FROM leases", &plans);
	assert_has(&plans, "SEARCH leases", true);
	assert_has(&plans, "SCAN leases", false);
	strbuf_release(&plans);
	strbuf_release(&page);
	scheduler_free(c.scheduler);
	metrics_free(c.metrics);
	seen_release(&seen);
}

static void test_an_array_is_not_sought_among_all_workloads(void **state)
{
	struct test_store *s = test_store_get(state);
	struct strbuf plans = STRBUF_INIT;
	struct seen seen = { 0 };
	struct array_summary out;
	struct call call = { .params = { ARRAY }, .arena = &seen.arena, .caller.org_id = ORG, .out = &out };
	struct err err;

	begin(s, &seen);
	assert_fails(op_array_show(NULL, s->conn, &call, &err), ERR_NOT_FOUND);
	plans_of(s, &seen, "array_id", &plans);
	assert_has(&plans, "workloads_by_array (org_id=? AND array_id>? AND array_id<?)", true);
	strbuf_release(&plans);
	seen_release(&seen);
}

static void test_workloads_of_an_array_are_listed_by_its_index(void **state)
{
	struct test_store *s = test_store_get(state);
	struct strbuf plans = STRBUF_INIT;
	struct seen seen = { 0 };
	struct control c = { .clock = clock_system };
	struct workload_query query = { .array = ARRAY, .state = -1, .limit = 10, .all = true };
	struct workload_page page = { 0 };
	struct call call = { .arena = &seen.arena, .caller.org_id = ORG, .in = &query, .out = &page };
	struct err err;

	begin(s, &seen);
	assert_ok(op_workload_list(&c, s->conn, &call, &err));
	plans_of(s, &seen, "array_id = $8", &plans);
	assert_has(&plans, "workloads_by_array (org_id=? AND array_id=? AND array_index<?)", true);
	assert_has(&plans, "TEMP B-TREE", false);
	strbuf_release(&plans);
	seen_release(&seen);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST_ON("sqlite", test_metrics_read_the_leases_that_live),
		TEST_ON("sqlite", test_an_array_is_not_sought_among_all_workloads),
		TEST_ON("sqlite", test_workloads_of_an_array_are_listed_by_its_index),
	};

	return test_stores_run("plans", tests, ARRAY_LEN(tests));
}
