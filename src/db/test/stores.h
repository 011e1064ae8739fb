/* An empty database on each store, for tests that run on both.
 *
 * TEST_BOTH(fn) in a list of tests gives "sqlite: fn" and "postgres: fn", each with a struct
 * test_store as its state; test_stores_run() runs the list and reports in TAP.  PostgreSQL's
 * are skipped unless TES_TEST_POSTGRES holds the URI of a server where the user may create
 * databases: each test program makes one of its own and drops it in the end.
 */
#ifndef TES_DB_TEST_STORES_H
#define TES_DB_TEST_STORES_H

#include "../db.h"

#include <setjmp.h>

#include <cmocka.h>

struct test_store {
	const char *name; /* "sqlite" or "postgres" */
	char url[1024];	  /* that opens the same database once more */
	struct db *db;
	struct db_conn *conn;
};

int test_store_setup(void **state);
int test_store_teardown(void **state);
struct test_store *test_store_get(void **state);
/* Statements separated by ';' at line end, in the dialect of migrations. */
void test_store_run(struct test_store *s, const char *sql);
int64_t test_store_int(struct test_store *s, const char *sql);
/* What main() returns. */
int test_stores_run(const char *name, const struct CMUnitTest *tests, size_t count);

/* clang-format off */
#define TEST_ON(on, fn) { on ": " #fn, fn, test_store_setup, test_store_teardown, (void *)on }
#define TEST_BOTH(fn) TEST_ON("sqlite", fn), TEST_ON("postgres", fn)
/* clang-format on */

#define assert_ok(call)                                      \
	do {                                                 \
		if (call)                                    \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)
#define assert_fails(call, want)                                                          \
	do {                                                                              \
		assert_int_equal(call, -1);                                               \
		if (err.code != (want))                                                   \
			fail_msg("%s: %s: %s", #call, err_code_name(err.code), err.text); \
	} while (0)

#endif
