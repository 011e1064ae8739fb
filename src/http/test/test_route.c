/* Routes, request targets and ranges, without a server. */
#include "../internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct http_route routes[] = {
	{ HTTP_GET, "/" },
	{ HTTP_GET, "/v1/offers" },
	{ HTTP_GET, "/v1/offers/search" },
	{ HTTP_GET, "/v1/offers/{id}" },
	{ HTTP_GET, "/v1/offers/{id}/logs" },
	{ HTTP_POST, "/v1/offers/search/logs" },
	{ HTTP_POST, "/v1/offers" },
	{ HTTP_DELETE, "/v1/offers/{offer}" },
	{ HTTP_GET, "/v1/a/{x}/b/{y}" },
	{ HTTP_GET, "/web/{path*}" },
	{ HTTP_GET, "/web/api" },
};

static struct arena arena;
static struct err err;

static const struct http_route *match(const char *target, enum http_method method,
				      struct route_match *m)
{
	static struct router *router;
	struct path path;

	if (!router)
		assert_int_equal(router_new(routes, ARRAY_LEN(routes), &router, &err), 0);
	if (!target) {
		router_free(take_ptr(router));
		return NULL;
	}
	assert_int_equal(path_parse(&arena, target, &path, &err), 0);
	router_match(router, &path, method, m);
	return m->route;
}

static void expect_route(const char *target, enum http_method method, int want,
			 const char *first_param)
{
	struct route_match m;
	const struct http_route *route = match(target, method, &m);

	assert_ptr_equal(route, want < 0 ? NULL : &routes[want]);
	if (first_param)
		assert_string_equal(m.params[0], first_param);
	else if (route)
		assert_int_equal(m.param_count, 0);
}

static void test_match(void **state)
{
	arena_init(&arena, 0);
	expect_route("/", HTTP_GET, 0, NULL);
	expect_route("/v1/offers", HTTP_GET, 1, NULL);
	expect_route("/v1/offers?x=/y//..", HTTP_GET, 1, NULL);
	expect_route("/v1/offers/search", HTTP_GET, 2, NULL);
	expect_route("/v1/offers/sear", HTTP_GET, 3, "sear");
	expect_route("/v1/offers/searching", HTTP_GET, 3, "searching");
	expect_route("/v1/offers/search/logs", HTTP_GET, 4,
		     "search"); /* back from the literal */
	expect_route("/v1/offers/search/logs", HTTP_POST, 5, NULL);
	expect_route("/v1/offers/of_1%20x", HTTP_DELETE, 7, "of_1 x");
	expect_route("/v1/offers/", HTTP_GET, -1, NULL); /* {id} is never empty */
	expect_route("/v1", HTTP_GET, -1, NULL);
	expect_route("/V1/offers", HTTP_GET, -1, NULL);
	expect_route("/v1/offers/a/logs/x", HTTP_GET, -1, NULL);
	expect_route("/web/", HTTP_GET, 9, "");
	expect_route("/web/a/b.css", HTTP_GET, 9, "a/b.css");
	expect_route("/web/api", HTTP_GET, 10, NULL);
	expect_route("/web/api/x", HTTP_GET, 9, "api/x");
	expect_route("/web", HTTP_GET, -1, NULL);
	arena_release(&arena);
}

static void test_methods(void **state)
{
	struct route_match m;

	arena_init(&arena, 0);
	assert_null(match("/v1/offers", HTTP_PUT, &m));
	assert_int_equal(m.methods, 1u << HTTP_GET | 1u << HTTP_POST);
	assert_null(match("/v1/offers/x", HTTP_PUT, &m));
	assert_int_equal(m.methods, 1u << HTTP_GET | 1u << HTTP_DELETE);
	assert_null(match("/none", HTTP_GET, &m));
	assert_int_equal(m.methods, 0);
	assert_ptr_equal(match("/v1/a/1/b/2", HTTP_GET, &m), &routes[8]);
	assert_string_equal(m.params[route_param_index(m.route, "y")], "2");
	assert_string_equal(m.params[route_param_index(m.route, "x")], "1");
	assert_int_equal(route_param_index(m.route, "z"), -1);
	assert_int_equal(route_param_index(&routes[9], "path"), 0);
	assert_int_equal(route_param_index(&routes[9], "pat"), -1);
	assert_int_equal(route_param_index(&routes[7], "offer"), 0);
	match(NULL, HTTP_GET, NULL);
	arena_release(&arena);
}

static void test_bad_tables(void **state)
{
	const struct http_route twice[] = { { HTTP_GET, "/a/{b}" }, { HTTP_GET, "/a/{c}" } };
	const struct http_route bad[] = { { HTTP_GET, "a" },
					  { HTTP_GET, "" },
					  { HTTP_GET, "/{a*}/b" },
					  { HTTP_GET,
					    "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}" } };
	struct router *r;

	assert_int_equal(router_new(twice, 2, &r, &err), -1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(router_new(&bad[i], 1, &r, &err), -1);
}

static void test_bad_targets(void **state)
{
	const char *const targets[] = {
		"",
		"*",
		"http://host/",
		"host:80",
		"a",
		"/a//b",
		"//",
		"//host/x",
		"/a/../b",
		"/..",
		"/.",
		"/a/.",
		"/a/./b",
		"/%2e%2e/x",
		"/%2E./x",
		"/.%2e",
		"/a%2fb",
		"/a%2Fb",
		"/a%5cb",
		"/a\\b",
		"/a%00",
		"/%",
		"/%1",
		"/%g1",
		"/%1g",
		"/a%0ab",
		"/a%0d",
		"/a%7f",
		"/a%ff",
		"/a%c0%ae",
		"/a b",
		"/a\tb",
		"/a#b",
		"/\xc3\xa9",
		"/a?b c",
		"/a?b\x01",
		"/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3",
	};
	struct path path;

	arena_init(&arena, 0);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		if (!path_parse(&arena, targets[i], &path, &err))
			fail_msg("taken: %s", targets[i]);
		assert_int_equal(err.code, ERR_INVALID);
	}
	assert_int_equal(path_parse(&arena, "/%c3%a9/...?q=%00//", &path, &err), 0);
	assert_string_equal(path.decoded, "/é/...");
	assert_true(slice_is(path.query, "q=%00//"));
	arena_release(&arena);
}

static void expect_range(const char *value, int64_t size, enum range_kind kind, int64_t at,
			 int64_t len)
{
	int64_t got_at = -1, got_len = -1;

	assert_int_equal(range_parse(value, size, &got_at, &got_len), kind);
	if (kind == RANGE_PART) {
		assert_int_equal(got_at, at);
		assert_int_equal(got_len, len);
	}
}

static void test_ranges(void **state)
{
	expect_range("bytes=0-", 10, RANGE_PART, 0, 10);
	expect_range("bytes=3-5", 10, RANGE_PART, 3, 3);
	expect_range("BYTES=9-9", 10, RANGE_PART, 9, 1);
	expect_range("bytes=5-100", 10, RANGE_PART, 5, 5);
	expect_range("bytes=-3", 10, RANGE_PART, 7, 3);
	expect_range("bytes=-100", 10, RANGE_PART, 0, 10);
	expect_range("bytes=10-", 10, RANGE_BAD, 0, 0);
	expect_range("bytes=-0", 10, RANGE_BAD, 0, 0);
	expect_range("bytes=0-0", 0, RANGE_BAD, 0, 0);
	expect_range("bytes=-1", 0, RANGE_BAD, 0, 0);
	expect_range("bytes=5-3", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=0-1,3-4", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=-", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=a-b", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=1", 10, RANGE_ALL, 0, 0);
	expect_range("lines=1-2", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=99999999999999999999-", 10, RANGE_ALL, 0, 0);
	expect_range("bytes=0-9223372036854775807", 10, RANGE_PART, 0, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match),	   cmocka_unit_test(test_methods),
		cmocka_unit_test(test_bad_tables), cmocka_unit_test(test_bad_targets),
		cmocka_unit_test(test_ranges),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
