#include "../api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_table(void **state)
{
	for (size_t i = 0; i < OPERATION_COUNT; i++) {
		const struct operation *op = &operations[i];

		assert_int_equal(op->id, i);
		assert_ptr_equal(operation_find(op->name), op);
		assert_true(str_starts(op->path, "/v1/"));
		assert_true(strlen(op->summary) >= 10);
		/* Everybody is either let in by the table or needs a role. */
		assert_true((op->flags & (OP_PUBLIC | OP_WORKER)) || op->role > ROLE_NONE);
		assert_false((op->flags & OP_PUBLIC) && (op->flags & OP_WORKER));
		assert_true(!(op->flags & OP_WORKER) || str_starts(op->path, "/v1/worker/"));
		/* What changes something is never a GET. */
		assert_true(op->method != GET || !(op->flags & (OP_IDEMPOTENT | OP_CREATED | OP_UPLOAD)));
		for (size_t k = 0; k < i; k++)
			assert_false(operations[k].method == op->method && str_eq(operations[k].path, op->path));
	}
	assert_null(operation_find("no.such"));
}

static void test_path(void **state)
{
	cleanup_arena struct arena a = { 0 };

	assert_string_equal(operation_path(operation_find("workload.show"), (const char *[]){ "a b/c" }, 1, &a),
			    "/v1/workloads/a%20b%2Fc");
	assert_string_equal(operation_path(operation_find("worker.result"), (const char *[]){ "le_1", "out/x y" }, 2, &a),
			    "/v1/worker/leases/le_1/results/out/x%20y");
	assert_string_equal(operation_path(operation_find("offer.list"), NULL, 0, &a), "/v1/offers");
}

static void test_problem(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	struct err err = { 0 }, back = { 0 };

	err_set_field(&err, "resources.gpus", "65 is more than 64, \"the\" most allowed");
	api_problem(&err, "rq_1", &text);
	api_problem_read(422, (struct slice){ text.buf, text.len }, &back);
	assert_int_equal(back.code, ERR_INVALID);
	assert_string_equal(back.field, err.field);
	assert_string_equal(back.text, err.text);
	/* A proxy's page, or nothing. */
	api_problem_read(502, SLICE("<html>bad gateway</html>"), &back);
	assert_int_equal(back.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(back.text, "502"));
	api_problem_read(429, SLICE("{\"code\":\"rate\",\"detail\":\"\"}"), &back);
	assert_int_equal(back.code, ERR_RATE);
	assert_non_null(strstr(back.text, "429"));
	api_problem_read(404, (struct slice){ NULL, 0 }, &back);
	assert_int_equal(back.code, ERR_NOT_FOUND);
	for (enum err_code c = ERR_INVALID; c <= ERR_INTERNAL; c++)
		assert_in_range(api_status(c), 400, 599);
}

/* Each part of what is signed changes the MAC. */
static void test_mac(void **state)
{
	uint8_t key[32] = { 1 }, sum[32] = { 2 }, first[MAC_SIZE], other[MAC_SIZE];

	crypto_init();
	request_mac(key, "ss_1", "POST", "/v1/worker/observed", 1000, 1, sum, first);
	request_mac(key, "ss_1", "POST", "/v1/worker/observed", 1000, 1, sum, other);
	assert_memory_equal(first, other, MAC_SIZE);
	request_mac(key, "ss_2", "POST", "/v1/worker/observed", 1000, 1, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
	request_mac(key, "ss_1", "PUT", "/v1/worker/observed", 1000, 1, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
	request_mac(key, "ss_1", "POST", "/v1/worker/observed?x", 1000, 1, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
	request_mac(key, "ss_1", "POST", "/v1/worker/observed", 1001, 1, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
	request_mac(key, "ss_1", "POST", "/v1/worker/observed", 1000, 2, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
	sum[31] ^= 1;
	request_mac(key, "ss_1", "POST", "/v1/worker/observed", 1000, 1, sum, other);
	assert_memory_not_equal(first, other, MAC_SIZE);
}

static size_t count_of(const struct json *object)
{
	assert_non_null(object);
	assert_int_equal(object->kind, JSON_OBJECT);
	return object->member_count;
}

static void test_openapi(void **state)
{
	cleanup_strbuf struct strbuf text = STRBUF_INIT;
	cleanup_arena struct arena a = { 0 };
	struct json *doc;
	struct err err = { 0 };
	size_t found = 0;

	api_openapi("https://tes.example", &text);
	assert_int_equal(json_parse((struct slice){ text.buf, text.len }, &a, &doc, &err), 0);
	const struct json *paths = json_find(doc, "paths");
	const struct json *schemas = json_find(json_find(doc, "components"), "schemas");

	for (size_t i = 0; i < count_of(paths); i++)
		found += count_of(&paths->members[i].value);
	assert_int_equal(found, OPERATION_COUNT);
	for (size_t i = 0; i < OPERATION_COUNT; i++)
		if (operations[i].out != &nothing_type && !(operations[i].flags & OP_FILE))
			assert_non_null(json_find(schemas, operations[i].out->name));
	/* Every reference leads somewhere. */
	for (const char *p = strstr(text.buf, "#/components/schemas/"); p; p = strstr(p + 1, "#/components/schemas/")) {
		const char *name = p + strlen("#/components/schemas/");

		assert_non_null(json_find(schemas, arena_strndup(&a, name, strcspn(name, "\""))));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table), cmocka_unit_test(test_path), cmocka_unit_test(test_problem),
		cmocka_unit_test(test_mac), cmocka_unit_test(test_openapi),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
