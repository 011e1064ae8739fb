/* The counters of /metrics. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../db/test/stores.h"
#include "../internal.h"

struct fixture {
	struct control c;
	int runs, fails; /* of the transaction; how many of these fail */
	enum err_code how;
};

static void page(struct test_store *s, struct control *c, struct strbuf *out)
{
	struct err err;
	int applied;

	assert_ok(db_migrate(s->db, 1, &applied, &err));
	c->clock = clock_system;
	c->scheduler = scheduler_new();
	assert_ok(metrics_write(c, s->conn, out, &err));
	scheduler_free(c->scheduler);
}

static int count_tx(struct db_conn *conn, void *arg, struct err *err)
{
	struct fixture *f = arg;

	metrics_count(&f->c, conn, "things_total", 3);
	metrics_count_label(&f->c, conn, "ends_total", "reason", "b", 1);
	return f->runs++ < f->fails ? err_set(err, f->how, "not this time") : 0;
}

static void assert_line(const struct strbuf *text, const char *line, int times)
{
	int found = 0;

	for (const char *p = text->buf; (p = strstr(p, line)); p++)
		found += p == text->buf || p[-1] == '\n';
	if (found != times)
		fail_msg("'%s' is there %d times, not %d:\n%s", line, found, times, text->buf);
}

static void test_what_is_not_committed_is_not_counted(void **state)
{
	struct test_store *s = test_store_get(state);
	struct fixture f = { .c.metrics = metrics_new(), .fails = 2, .how = ERR_RETRY };
	struct strbuf text = STRBUF_INIT;
	struct err err;

	assert_ok(db_tx(s->conn, count_tx, &f, &err));
	assert_int_equal(f.runs, 3);
	f.fails = 100;
	f.how = ERR_CONFLICT;
	assert_fails(db_tx(s->conn, count_tx, &f, &err), ERR_CONFLICT);
	page(s, &f.c, &text);
	assert_line(&text, "tes_things_total 3\n", 1);
	assert_line(&text, "tes_ends_total{reason=\"b\"} 1\n", 1);
	strbuf_release(&text);
	metrics_free(f.c.metrics);
}

static void test_one_head_for_all_labels(void **state)
{
	struct test_store *s = test_store_get(state);
	struct control c = { .metrics = metrics_new() };
	struct strbuf text = STRBUF_INIT;

	metrics_count_label(&c, NULL, "ends_total", "reason", "b", 1);
	metrics_count(&c, NULL, "ends_of_others_total", 1);
	metrics_count_label(&c, s->conn, "ends_total", "reason", "a", 2);
	metrics_count_label(&c, NULL, "ends_total", "reason", "a\"\n\\", 4);
	metrics_count_label(&c, NULL, "ends_total", "reason", "b", 1);
	page(s, &c, &text);
	assert_line(&text, "# TYPE tes_ends_total counter\n", 1);
	assert_line(&text, "# TYPE tes_ends_of_others_total counter\ntes_ends_of_others_total 1\n", 1);
	assert_line(&text, "tes_ends_total{reason=\"a\"} 2\n", 1);
	assert_line(&text, "tes_ends_total{reason=\"a\\\"\\n\\\\\"} 4\n", 1);
	assert_line(&text, "tes_ends_total{reason=\"b\"} 2\n", 1);
	strbuf_release(&text);
	metrics_free(c.metrics);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST_BOTH(test_what_is_not_committed_is_not_counted),
		TEST_BOTH(test_one_head_for_all_labels),
	};

	return test_stores_run("metrics", tests, ARRAY_LEN(tests));
}
